"""From scores to probabilities that mean what they say, by pictures that were held out.

One temperature for all pictures is not enough for similarities: the few pictures whose class is far away make it so
high that the near ones, most often right, are given far too small a probability. So it is a mixture of temperatures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np

from mohs.evaluation.checked import Float64, Index
from mohs.randomness import generator

__all__ = [
    "FACTORS",
    "Calibration",
    "CalibrationSource",
    "few_pictures_warning",
    "fit_calibration",
    "fit_temperature",
    "fit_weights",
    "log_softmax",
    "out_of_fold_rows",
]

CalibrationSource: TypeAlias = Literal["cross-validation", "held-out pictures", "none"]

FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, float("inf"))
"""Temperatures of the mixture, in units of the fitted one; at the last all classes are equally probable."""

_FITTED = FACTORS.index(1.0)

# 1/T is looked for between these; T outside of them is a softmax that is 0 and 1, or uniform, anyway.
_SMALLEST_INVERSE, _LARGEST_INVERSE = 1e-6, 1e6

_FEW_PICTURES = 50
_FEW_PER_CLASS = 3


@final
@dataclass(frozen=True)
class Calibration:
    """How scores become probabilities: p = Σ_j w_j softmax(score / (f_j T)), f_j being `FACTORS`.

    The order of the classes is that of their scores.

    Attributes:
        temperature: T > 0; large T, flat probabilities.
        weights: w_j ≥ 0, adding up to 1.
        source: on what both were fitted; "none": on nothing, T is a fixed guess and the probabilities are not
            calibrated.
        num_pictures: how many pictures they were fitted on.
        warning: what is wrong with it, in one line; "" if nothing is known to be.
    """

    temperature: float
    weights: tuple[float, ...]
    source: CalibrationSource
    num_pictures: int
    warning: str = ""

    @classmethod
    def guess(cls, temperature: float) -> "Calibration":
        """Return the calibration of one temperature that was fitted on nothing, with a warning that says so."""
        warning = (
            "not calibrated: every class has one picture, so none can be held out; probabilities are those of "
            f"temperature {temperature:g} and may be far too high or too low; give held-out pictures"
        )
        return cls(temperature, tuple(float(factor == 1.0) for factor in FACTORS), "none", 0, warning)

    def log_proba(self, scores_NC: Float64) -> Float64:
        """Return ln p of each class, float64[N, C]."""
        total_NC = np.full(scores_NC.shape, -np.inf)
        for weight, factor in zip(self.weights, FACTORS, strict=True):
            if weight > 0:
                part_NC = log_softmax(scores_NC, factor * self.temperature)
                np.logaddexp(total_NC, part_NC + np.log(weight), out=total_NC)
        # The weights add up to 1 but for rounding, which must not make a probability larger than 1.
        np.minimum(total_NC, 0.0, out=total_NC)
        return total_NC


def log_softmax(scores_NC: Float64, temperature: float) -> Float64:
    """Return ln softmax(scores / temperature) of each row, float64[N, C]; the temperature may be Inf.

    >>> log_softmax(np.array([[1.0, 1.0]]), 0.5).round(4).tolist()
    [[-0.6931, -0.6931]]
    """
    z_NC: Float64 = (scores_NC - scores_NC.max(axis=1, keepdims=True)) / temperature
    z_NC -= np.log(np.exp(z_NC).sum(axis=1, keepdims=True))
    return z_NC


def fit_calibration(scores_KC: Float64, class_K: Index, source: CalibrationSource) -> Calibration:
    """Return the calibration of least cross-entropy on K pictures that the head has not seen.

    First the temperature, by `fit_temperature`, then the weights, by `fit_weights`. A special case of it is ensemble
    temperature scaling (Zhang et al., "Mix-n-Match", 2020, section 4.2: the fitted temperature, 1, and uniform); here
    the mixture has more temperatures, all in units of the fitted one. `warning` says if the pictures are fewer than 50,
    or if scores say nothing of the class.

    >>> scores_KC = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    >>> fitted = fit_calibration(scores_KC, np.array([0, 1, 0, 1]), "cross-validation")
    >>> fitted.warning
    'calibrated on 4 pictures only: the probabilities are rough'
    >>> np.exp(fitted.log_proba(scores_KC))[0].round(2).tolist()
    [0.67, 0.33]
    """
    temperature, informative = fit_temperature(scores_KC, class_K)
    rows = np.arange(len(class_K))
    log_true_KJ = np.stack([log_softmax(scores_KC, factor * temperature)[rows, class_K] for factor in FACTORS], axis=1)
    warning = ""
    if not informative:
        warning = (
            f"on {len(class_K)} held-out pictures the true class scores no more than the average class: the "
            "probabilities are uniform; use a better embedder"
        )
    elif len(class_K) < _FEW_PICTURES:
        warning = f"calibrated on {len(class_K)} pictures only: the probabilities are rough"
    return Calibration(temperature, tuple(fit_weights(log_true_KJ).tolist()), source, len(class_K), warning)


def few_pictures_warning(class_size_K: Index) -> str:
    """Return a line if cross-validation is too modest, since most held-out pictures are of classes of 2 or 3; else "".

    A class of n pictures has n − 1 in the heads that are calibrated and n in the final one, which is so right more
    often than its probabilities say: with two pictures a class of Omniglot, a mean probability of 0.39 to 0.41 stood
    for an accuracy of 0.53 to 0.60, and with three 0.51 for 0.57.

    >>> few_pictures_warning(np.array([2, 2, 2, 9]))[:61]
    'calibrated by heads that had 1 of 2 pictures of most classes:'
    >>> few_pictures_warning(np.array([9, 9, 9, 2]))
    ''
    """
    size = int(np.median(class_size_K)) if len(class_size_K) else _FEW_PER_CLASS + 1
    if size > _FEW_PER_CLASS:
        return ""
    return (
        f"calibrated by heads that had {size - 1} of {size} pictures of most classes: answers are right more often "
        "than their probability, and a threshold may accept more than was asked for; give held-out pictures"
    )


def fit_temperature(scores_KC: Float64, class_K: Index) -> tuple[float, bool]:
    """Return (T, informative): the one temperature of least cross-entropy.

    The cross-entropy is Σ_k Σ_c −t_kc ln p_kc with p = softmax(scores / T) and targets t of 1 − ε for the true class
    and ε/(C − 1) for each other, ε = 1/(K + 2): what K right answers out of K prove by the rule of succession. (Guo et
    al., "On calibration of modern neural networks", 2017, section 4.2, has ε = 0, for which T is 0 if no answer is
    wrong; the smoothed targets are Platt's, 1999.) It is convex in 1/T, so that the zero of its slope is found by
    bisection, to 1 part in 10⁴. T is not `informative` if the true class scores no more than the average one; it is
    then 10⁶.

    >>> scores_KC = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    >>> temperature, informative = fit_temperature(scores_KC, np.array([0, 1, 0, 1]))
    >>> np.exp(log_softmax(scores_KC, temperature))[0].round(3).tolist(), informative
    ([0.667, 0.333], True)

    Three of four are right, and ε = 1/6: the probability is (3·5/6 + 1/6)/4.
    """
    num_pictures, num_classes = scores_KC.shape
    centred_KC = scores_KC - scores_KC.mean(axis=1, keepdims=True)
    missing = 1.0 / (num_pictures + 2)
    # Σ_c t_c z_c with Σ_c z_c = 0.
    true_K = centred_KC[np.arange(num_pictures), class_K]
    wanted = float(((1 - missing) * true_K - missing * true_K / (num_classes - 1)).mean())

    def slope(inverse: float) -> float:
        """d(cross-entropy)/d(1/T): the mean score under p, less the mean score under the targets."""
        p_KC = np.exp(log_softmax(centred_KC, 1 / inverse))
        return float(np.einsum("kc,kc->k", p_KC, centred_KC).mean()) - wanted

    if slope(_SMALLEST_INVERSE) >= 0:
        return 1 / _SMALLEST_INVERSE, False
    low, high = np.log(_SMALLEST_INVERSE), np.log(_LARGEST_INVERSE)
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(float(np.exp(middle))) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2)), True


def fit_weights(log_true_KJ: Float64) -> Float64:
    """Return the weights of the mixture, float64[J], of largest posterior probability.

    `log_true_KJ` is ln p of the true class of each picture by each part of the mixture. Maximised is
    Σ_k ln Σ_j w_j p_kj + ln w_f with f the part of the fitted temperature, as if one more picture had been found to be
    of that part: so it always has a weight of at least 1/(K + 1), and K right answers never prove certainty. The
    function is concave; it is climbed by expectation maximisation (Dempster et al. 1977) from equal weights until no
    weight changes by more than 10⁻⁶, at most 1,000 steps. Weights below 10⁻⁶ then become 0.

    >>> log_true_KJ = np.log(np.tile([0.1, 0.1, 0.1, 0.2, 0.2, 0.8, 0.1], (9, 1)))
    >>> fit_weights(log_true_KJ).round(2).tolist()
    [0.0, 0.0, 0.0, 0.13, 0.0, 0.87, 0.0]
    """
    # A picture's largest ln p is taken out: it does not change the shares, and none of the others can all be 0.
    p_KJ = np.exp(log_true_KJ - log_true_KJ.max(axis=1, keepdims=True))
    num_pictures, num_parts = p_KJ.shape
    imagined_J = np.zeros(num_parts)
    imagined_J[_FITTED] = 1.0
    weights_J = np.full(num_parts, 1.0 / num_parts)
    for _ in range(1000):
        share_KJ = p_KJ * weights_J
        share_KJ /= share_KJ.sum(axis=1, keepdims=True)
        before_J, weights_J = weights_J, (share_KJ.sum(axis=0) + imagined_J) / (num_pictures + 1)
        if np.abs(weights_J - before_J).max() < 1e-6:
            break
    weights_J[weights_J < 1e-6] = 0.0
    normalised_J: Float64 = weights_J / weights_J.sum()
    return normalised_J


def out_of_fold_rows(class_N: Index, num_folds: int, *, seed: int) -> Iterator[tuple[Index, Index]]:
    """Yield (rows to fit on, rows held out), ascending, such that each item of a class of two or more is held out once.

    The items of a class, in random order, go to folds that follow one another, from a random one on; so every class
    has an item among those to fit on. Items alone in their class are never held out. Folds without a held-out item are
    left out.

    >>> [(fit.tolist(), out.tolist()) for fit, out in out_of_fold_rows(np.array([0, 0, 1]), 2, seed=0)]
    [([0, 2], [1]), ([1, 2], [0])]
    """
    random = generator(seed, "folds of the calibration")
    class_size_C = np.bincount(class_N)
    order = random.permutation(len(class_N))
    order = order[np.argsort(class_N[order], kind="stable")]
    first_C = np.cumsum(class_size_C) - class_size_C
    offset_C = random.integers(num_folds, size=len(class_size_C))
    fold_N = np.empty(len(class_N), dtype=np.int64)
    place_N = np.arange(len(class_N)) - first_C[class_N[order]]
    fold_N[order] = (offset_C[class_N[order]] + place_N) % num_folds
    fold_N[class_size_C[class_N] < 2] = -1
    for fold in range(num_folds):
        held_out = np.flatnonzero(fold_N == fold)
        if held_out.size:
            yield np.flatnonzero(fold_N != fold), held_out
