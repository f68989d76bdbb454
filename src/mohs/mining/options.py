"""What may be asked of mining, whatever the data: one check for `mine`, for its estimate and for the command line."""

import re
from typing import Final, Literal, TypeAlias, get_args

from mohs.checks import wrong_choice, wrong_number, wrong_whole
from mohs.errors import Problem
from mohs.hardness.scales import SCALES, Scale, rule_of

__all__ = [
    "LEAST_SAMPLED",
    "Method",
    "Metric",
    "PositiveRule",
    "device_problems",
    "margin_problems",
    "method_problems",
    "option_problems",
]

Metric: TypeAlias = Literal["euclidean", "cosine"]
Method: TypeAlias = Literal["exact", "sampled", "auto"]
PositiveRule: TypeAlias = Literal["random", "easy", "hard"]

LEAST_SAMPLED = 256
_DEVICES = re.compile(r"cpu|cuda(:\d+)?|mps")


def option_problems(
    scale: Scale, metric: Metric, positive_rule: PositiveRule, num_negatives: int
) -> list[Problem | None]:
    """Return what is wrong with the names and counts that every way of mining takes."""
    return [
        wrong_choice("scale", scale, SCALES),
        wrong_choice("metric", metric, get_args(Metric)),
        wrong_choice("positive_rule", positive_rule, get_args(PositiveRule)),
        wrong_whole("num_negatives", num_negatives, example=4),
    ]


def method_problems(method: Method, num_sampled: int, scale: Scale) -> list[Problem | None]:
    """Return what is wrong with the method: no such one, too small a sample, or a scale that cannot be sampled."""
    problems = [
        wrong_choice("method", method, get_args(Method)),
        wrong_whole("num_sampled", num_sampled, at_least=LEAST_SAMPLED, example=4096),
    ]
    if problems[0] is None and method == "sampled" and _is_scale(scale) and (why := rule_of(scale).exact_only):
        others = " or ".join(other for other in SCALES if not rule_of(other).exact_only)
        problems.append(Problem("method", f"'sampled': {why}", f"use the method exact, or the scale {others}"))
    return problems


_LARGEST_MARGIN: Final = 1e19  # its square and that of a distance are added in float64, and told in float32


def _is_scale(scale: object) -> bool:
    return isinstance(scale, str) and scale in SCALES


def margin_problems(scale: Scale, margin: float | None, squared: bool) -> list[Problem | None]:
    """Return what is wrong with the margin: missing or no number above 0, or given for a scale without one.

    >>> margin_problems("rank", 0.2, False)
    ["margin: 0.2 has no meaning on the scale 'rank'; leave it out, or use the scale margin"]
    """
    if not _is_scale(scale):
        return []
    if rule_of(scale).needs == "margin":
        if margin is None:
            return [Problem("margin", f"the scale {scale!r} needs the loss's margin", "use for example 0.2")]
        return [wrong_number("margin", margin, above=0, at_most=_LARGEST_MARGIN, example=0.2)]
    given = {"margin": margin, "squared": squared or None}
    others = " or ".join(other for other in SCALES if rule_of(other).needs == "margin")
    fix = f"leave it out, or use the scale {others}"
    return [
        Problem(name, f"{value!r} has no meaning on the scale {scale!r}", fix)
        for name, value in given.items()
        if value is not None
    ]


def device_problems(
    device: str | None, method: Method, num_negatives: int, *, has_exclusions: bool
) -> list[Problem | None]:
    """Return what is wrong with a device: no name of one, or what is asked for beside it is for the CPU."""
    if device is None or (isinstance(device, str) and device == "cpu"):
        return []
    if not isinstance(device, str) or not _DEVICES.fullmatch(device):
        shown = repr(device) if isinstance(device, str | int | float) else type(device).__name__
        return [Problem("device", f"{shown} is not one of 'cpu', 'cuda', 'cuda:0' and so on, 'mps'")]
    only_cpu = (
        (method == "sampled", "method", "'sampled' is", "use the method exact"),
        (num_negatives != 1, "num_negatives", f"{num_negatives} is", "use 1"),
        (has_exclusions, "excluded_pairs", "they are", "leave them out"),
    )
    return [
        Problem(place, f"{what} for the CPU, not for {device!r}", f"{fix}, or leave the device out")
        for is_given, place, what, fix in only_cpu
        if is_given
    ]
