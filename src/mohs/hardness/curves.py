"""Hardness as a function of progress.

A curve is a plain function from progress p in [0, 1) (float array of any shape) to hardness h(p) in [0, 1] (same
shape, float64); 0 is the easiest negative and 1 the hardest. Every constructor below takes `cap`, the largest hardness
its curve reaches, in [0, 1]. A function of your own is a curve too.

==============  =============================================  ==========================
constructor     h(p)                                           symbols
==============  =============================================  ==========================
`constant`      c                                              c cap
`linear`        c·p
`sine`          c·sin(πp/2)
`tanh`          c·tanh(g·p) / tanh(g)                          g growth > 0
`logarithmic`   c·ln(1 + g·p) / ln(1 + g)
`sigmoid`       a + (c − a) / (1 + Q·exp(−g·(4p − 2)))^(1/ν)   generalised logistic
`cyclic`        h(frac(n·p))                                   n cycles
==============  =============================================  ==========================
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.bounds import TRIPLETS
from mohs.checks import is_number, require, wrong_function, wrong_whole
from mohs.errors import InputError

__all__ = ["Curve", "constant", "cyclic", "linear", "logarithmic", "schedule", "sigmoid", "sine", "tanh"]

Curve: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def constant(cap: float) -> Curve:
    """Return the curve h(p) = c.

    >>> constant(0.6)(np.array([0.0, 0.5]))
    array([0.6, 0.6])
    """
    c = _unit("cap", cap)
    return lambda p: np.full(np.shape(p), c)


def linear(cap: float = 1.0) -> Curve:
    """Return the curve h(p) = c·p.

    >>> linear(0.8)(np.array([0.0, 0.5]))
    array([0. , 0.4])
    """
    c = _unit("cap", cap)
    return lambda p: c * _progress(p)


def sine(cap: float = 1.0) -> Curve:
    """Return the curve h(p) = c·sin(πp/2): fast at first, flat at the end.

    >>> sine()(np.array([0.0, 1 / 3])).round(3)
    array([0. , 0.5])
    """
    c = _unit("cap", cap)
    return lambda p: c * np.sin(0.5 * np.pi * _progress(p))


def tanh(cap: float = 1.0, growth: float = 3.0) -> Curve:
    """Return the curve h(p) = c·tanh(g·p) / tanh(g).

    >>> tanh(growth=3.0)(np.array([0.0, 0.5])).round(3)
    array([0.   , 0.91])
    """
    c, g = _unit("cap", cap), _positive("growth", growth)
    return lambda p: c * (np.tanh(g * _progress(p)) / math.tanh(g))


def logarithmic(cap: float = 1.0, growth: float = 9.0) -> Curve:
    """Return the curve h(p) = c·ln(1 + g·p) / ln(1 + g).

    >>> logarithmic(growth=9.0)(np.array([0.0, 0.24])).round(3)
    array([0. , 0.5])
    """
    c, g = _unit("cap", cap), _positive("growth", growth)
    return lambda p: c * (np.log1p(g * _progress(p)) / math.log1p(g))


def sigmoid(
    cap: float = 0.85, growth: float = 3.0, *, lower: float = 0.0, offset: float = 1.0, asymmetry: float = 1.0
) -> Curve:
    """Return the generalised logistic curve h(p) = a + (c − a) / (1 + Q·exp(−g·x))^(1/ν) with x = 4p − 2.

    Args:
        cap: c, the upper asymptote (carrying capacity), in [0, 1].
        growth: g, the growth rate over x in [−2, 2), > 0.
        lower: a, the lower asymptote, in [0, cap].
        offset: Q > 0; moves the curve: above 1 later, below 1 earlier.
        asymmetry: ν > 0; near which asymptote growth is fastest.

    Source: Richards, "A flexible growth function for empirical use", J. Exp. Bot. 10 (1959).

    >>> sigmoid()(np.array([0.0, 0.5, 0.75])).round(4)
    array([0.0021, 0.425 , 0.8097])
    """
    c, g = _unit("cap", cap), _positive("growth", growth)
    a, q, nu = _unit("lower", lower), _positive("offset", offset), _positive("asymmetry", asymmetry)
    if a > c:
        raise InputError(f"lower: {a} is above cap ({c}); use a value in [0, cap]")
    return lambda p: a + (c - a) / (1.0 + q * np.exp(-g * (4.0 * _progress(p) - 2.0))) ** (1.0 / nu)


def cyclic(curve: Curve, num_cycles: int) -> Curve:
    """Return `curve` repeated `num_cycles` times: h(p) = curve(frac(n·p)). n need not divide the number of triplets.

    A product n·p that is within 1e-9 below a whole number starts the next cycle, so that rounding never turns the
    easiest triplet of a cycle into the hardest of the one before.

    >>> cyclic(linear(), 2)(np.array([0.0, 0.25, 0.5, 0.75]))
    array([0. , 0.5, 0. , 0.5])
    """
    require(wrong_whole("num_cycles", num_cycles, example=10))

    def repeated(p: NDArray[np.float64]) -> NDArray[np.float64]:
        x = _progress(p) * num_cycles
        return curve(np.maximum(x - np.floor(x + 1e-9), 0.0))

    return repeated


def schedule(curve: Curve, num_triplets: int, *, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
    """Return h(t / T) for t = start … stop−1 of a run of T triplets, float64[stop − start].

    Raises `InputError` if the curve leaves [0, 1] or changes the shape of its argument, and for numbers out of range.

    >>> schedule(linear(), 4)
    array([0.  , 0.25, 0.5 , 0.75])
    """
    require(
        wrong_function("curve", curve, example="mohs.curves.sigmoid(0.85)"),
        wrong_whole("num_triplets", num_triplets, at_least=0, example=10_000),
        wrong_whole("start", start, at_least=0),
        None if stop is None else wrong_whole("stop", stop, at_least=0),
    )
    stop = num_triplets if stop is None else stop
    TRIPLETS.check("num_triplets", int(num_triplets))
    if not 0 <= start <= stop <= num_triplets:
        raise InputError(f"start, stop: {start}, {stop} are not within 0 … num_triplets ({num_triplets})")
    hardness = np.asarray(curve(np.arange(start, stop) / max(num_triplets, 1)), dtype=np.float64)
    if hardness.shape != (stop - start,):
        raise InputError(f"curve: gave shape {hardness.shape} for {stop - start} values of progress; return one each")
    bad = np.flatnonzero(~((hardness >= 0.0) & (hardness <= 1.0)))
    if bad.size:
        t = start + int(bad[0])
        raise InputError(f"curve: hardness {hardness[bad[0]]} at triplet {t} is not in [0, 1]; scale or cap the curve")
    return hardness


def _progress(p: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(p, dtype=np.float64)


def _unit(name: str, value: float) -> float:
    if not (is_number(value) and 0.0 <= value <= 1.0):
        raise InputError(f"{name}: {value!r} is not in [0, 1]; hardness runs from 0 (easiest) to 1 (hardest)")
    return float(value)


def _positive(name: str, value: float) -> float:
    if not (is_number(value) and value > 0.0):
        raise InputError(f"{name}: {value!r} is not a positive number; use for example 3")
    return float(value)
