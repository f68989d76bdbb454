"""Findings about the top: what each cause is, how much it explains, and what to do."""

from dataclasses import dataclass
from typing import final

import numpy as np

from mohs.doctor.findings import Finding, Severity
from mohs.doctor.precision.attribution import Attribution, Cause
from mohs.doctor.precision.evidence import MarginCheck, TripletMargin
from mohs.doctor.precision.suggestions import ItemFix
from mohs.doctor.precision.top_curve import RECALLS, TopCurve, top_curve
from mohs.doctor.precision.top_pairs import TopPairs, find_top_pairs
from mohs.evaluation.checked import Bools, Float32, Index

__all__ = ["cause_finding", "dip_finding", "margin_finding", "norm_finding"]

# Precision that a cause costs somewhere in the top.
_ERROR_COST = 0.05
_WARNING_COST = 0.005
# Drops of precision that are looked at; what is smaller is no dip whether it is sure or not.
_DIP = 0.02
_NORM_SPREAD = 0.01


@final
@dataclass(frozen=True)
class _Texts:
    """What is said of the pairs of a cause, after "5 of 9 false matches before recall 0.1 (56%)", and what to do."""

    what: str
    why: str
    fix: str


_TEXTS: dict[Cause, _Texts] = {
    "low-information": _Texts(
        "have a picture that shows too little",
        "A picture that shows next to nothing is as similar to every other such picture.",
        "Leave blank pictures out (fixes.csv) and replace tiny or blurred ones.",
    ),
    "duplicate-pictures": _Texts(
        "are of the same picture under two labels",
        "Two pictures with equal pixels have equal embeddings: no training can tell them apart.",
        "Join the classes or drop the copies: look at fixes.csv and apply it with 'mohs fix'.",
    ),
    "near-duplicates": _Texts(
        "are of nearly the same picture under two labels",
        "Pictures that are equal but for a small shift, size or brightness should be close, and are; their labels say "
        "otherwise.",
        "Look at the contact sheet. In fixes.csv write 'relabel' or 'merge classes' for 'look' where they are one "
        "class, then apply it with 'mohs fix'.",
    ),
    "label-errors": _Texts(
        "have a picture whose label is likely wrong",
        "These pictures fit another class, as other pictures of it show, and their own not: the match is right and the "
        "label is wrong.",
        "Look at the contact sheet. In fixes.csv write 'relabel' for 'look' where the other class is right, then apply "
        "it with 'mohs fix'.",
    ),
    "perhaps-one-class": _Texts(
        "are of two classes that are perhaps one",
        "Their pictures are as near across the two classes as within them: one class may have two names, as a product "
        "with two numbers.",
        "Look at both classes (fixes.csv), and join them if they are one.",
    ),
    "hubs": _Texts(
        "have a picture that is the neighbour of everything",
        "In many dimensions some points lie near the middle of all others and become a neighbour of everything.",
        "Look at them (fixes.csv): often they show little or several things; else train longer or with more "
        "dimensions.",
    ),
    "saturated": _Texts(
        "have a similarity that one in a hundred random pairs reaches, too",
        "When similarities crowd near 1, their order says nothing: a margin too large, or too high a temperature or "
        "rate, has pressed the embeddings together.",
        "Train with a smaller margin or a lower rate, and look at the spread that 'mohs evaluate' prints.",
    ),
    "look-alikes": _Texts(
        "are of different classes that look alike",
        "Different classes that look alike to this embedder; nothing is wrong with these labels.",
        "Train longer, on larger pictures or with harder negatives; raise the threshold meanwhile.",
    ),
}


def cause_finding(
    cause: Cause,
    top: TopPairs,
    found: Attribution,
    fixes: tuple[ItemFix, ...],
    *,
    as_it_is: TopCurve,
    without: TopCurve,
    recall: float,
    query: bool,
) -> Finding:
    """Return the finding about the pairs of the top that have this cause; `query` says whether there is a gallery."""
    of_cause_P = found.of(cause)[: len(top)]
    num_false = int((of_cause_P & ~top.same_P).sum())
    num_true = int((of_cause_P & top.same_P).sum())
    all_false = int((~top.same_P).sum())
    share = num_false / max(1, all_false)
    at, before, after = _largest_gain(as_it_is, without, recall)
    where = f"before recall {recall:.3g}"
    if cause == "same-picture":
        share = (num_false + num_true) / max(1, len(top))
        what = (
            f"{num_true:,} of {int(top.same_P.sum()):,} true matches {where} are the same picture twice"
            + (f", query and gallery item, and so are {num_false:,} false ones" if query else " under one label")
            + "."
        )
        why = "A picture finds its own copy whatever the embedder has learned, which says nothing about new pictures."
        fix = "Keep one of each ('mohs check' lists them): precision is then that of different pictures."
        if query:
            fix = "Take these queries out (fixes.csv), or split so that copies stay on one side."
    else:
        texts = _TEXTS[cause]
        what = (
            f"{num_false:,} of {all_false:,} false matches {where} ({share:.0%}) {texts.what}{_details(cause, found)}."
        )
        why, fix = texts.why, texts.fix
        if after > before:
            what += f" Without them precision at recall {at:.3g} would be {after:.3f} instead of {before:.3f}."
    num_fixes = sum(fix.cause == cause and fix.suggestion != "look" for fix in fixes)
    numbers = {
        "pairs": num_false, "true_pairs": num_true, "share": share, "recall": at, "precision": before,
        "precision_without": after, "fixes": num_fixes,
    }  # fmt: skip
    return Finding(
        cause=cause,
        severity=_severity(cause, after - before, query, num_true),
        what=what,
        why=why,
        fix=fix,
        numbers=numbers,
        share=share,
    )


def _details(cause: Cause, found: Attribution) -> str:
    if cause == "low-information" and found.poor_why_N is not None:
        kinds, counts = np.unique(found.poor_why_N, return_counts=True)
        return " (" + ", ".join(f"{n:,} {kind}" for kind, n in zip(kinds, counts, strict=True) if kind) + " in all)"
    if cause == "label-errors":
        doubt = found.doubt
        return (
            f"; {int(found.wrong_N.sum()):,} labels of {len(found.wrong_N):,} are called wrong; by estimate "
            f"{doubt.false_share:.0%} of these calls are mistaken, and more where right pictures are unlike their class"
        )
    if cause == "saturated":
        return f"; the median similarity of random pairs is {float(np.median(found.random_R)):.3f}"
    if cause == "hubs":
        return f"; {int(found.hub_N.sum()):,} such pictures, skewness {found.occurrence.skewness:.1f}"
    return ""


def _largest_gain(as_it_is: TopCurve, without: TopCurve, recall: float) -> tuple[float, float, float]:
    """Return the recall in the top where leaving the pairs out raises precision most, and both precisions there."""
    best = (recall, 0.0, 0.0)
    for wanted in sorted({each for each in RECALLS if each < recall} | {recall}):
        before, after = as_it_is.at(wanted), without.at(wanted)
        if (
            before is not None
            and after is not None
            and (best[1:] == (0.0, 0.0) or after.precision - before.precision > best[2] - best[1])
        ):
            best = (wanted, before.precision, after.precision)
    return best


def _severity(cause: Cause, gain: float, query: bool, num_true: int) -> Severity:
    if cause == "look-alikes" or (cause == "same-picture" and not query):
        return "note"
    if cause == "same-picture" and num_true:
        return "error"
    if gain >= _ERROR_COST:
        return "warning" if cause in ("hubs", "perhaps-one-class") else "error"
    return "warning" if gain >= _WARNING_COST else "note"


def dip_finding(curve: TopCurve) -> Finding | None:
    """Return that the pairs are too few to tell whether precision dips; None if it surely does, or not at all."""
    dip = curve.deepest
    if curve.dips or dip.depth < _DIP:
        return None
    low, high = dip.interval
    return Finding(
        cause="too-few-pairs",
        severity="note",
        what=f"Precision is {dip.precision:.3f} among the {dip.rank:,} most similar pairs and "
        f"{dip.later_precision:.3f} among {dip.later_rank:,}; 95% interval of the drop {low:.3f} to {high:.3f}.",
        why="So few pairs are this similar that the drop may be chance.",
        fix="Measure on more pictures before acting on it; look at the single pairs in pairs.csv.",
        numbers={"pairs": dip.rank, "precision": dip.precision, "depth": dip.depth, "low": low, "high": high},
    )


def norm_finding(
    raw_ND: Float32, class_N: Index, by_cosine: TopCurve, *, query_N: Bools | None, recall: float
) -> Finding | None:
    """Return that rows have different lengths, with the precision that ranking by their dot product would give.

    None if lengths differ by less than 1%.
    """
    norm_N = np.linalg.norm(raw_ND.astype(np.float64), axis=1)
    mean, spread = float(norm_N.mean()), float(norm_N.std() / norm_N.mean())
    if spread < _NORM_SPREAD:
        return None
    by_product = top_curve(find_top_pairs(raw_ND, class_N, query_N=query_N, recall=recall, normalise=False))
    one, other = by_cosine.at(recall), by_product.at(recall)
    if one is None or other is None:
        return None
    worse = other.interval[1] < one.interval[0]
    numbers = {
        "mean_norm": mean, "norm_spread": spread, "precision_by_product": other.precision, "precision": one.precision,
    }  # fmt: skip
    return Finding(
        cause="unnormalised",
        severity="error"
        if worse and one.precision - other.precision >= _ERROR_COST
        else "warning"
        if worse
        else "note",
        what=f"Embeddings have different lengths (mean {mean:.3g}, spread {spread:.0%}). "
        f"Ranked by dot product, precision at recall {recall:.3g} is {other.precision:.3f}; divided by their lengths, "
        f"{one.precision:.3f}.",
        why="A dot product is large for long vectors, however different the pictures are.",
        fix="Divide each embedding by its length before comparing, when queried as when measured.",
        numbers=numbers,
        share=max(0.0, one.precision - other.precision),
    )


def margin_finding(check: MarginCheck, asked: TripletMargin) -> Finding | None:
    """Return that a triplet margin asks for more than the sphere has; None if most random triplets meet it."""
    margin = asked.value
    if np.isnan(check.met_share) or (margin <= check.average and check.met_share >= 0.5):
        return None
    kind = "squared distances" if asked.squared else "distances"
    if margin > check.largest:
        reach = f"No triplet can meet it: {kind} of unit vectors are at most {check.largest:g}."
    elif margin > check.average:
        reach = f"The average triplet cannot meet it: {kind} of many unit vectors average at most {check.average:.3g}."
    else:
        reach = f"It is within what {kind} of unit vectors allow ({check.average:.3g} on average), but not met."
    numbers = {
        "margin": margin, "largest": check.largest, "met_share": check.met_share, "positive": check.positive,
        "negative": check.negative,
    }  # fmt: skip
    return Finding(
        cause="margin-too-large",
        severity="error" if margin > check.average else "warning",
        what=f"The margin is {margin:g}, and {check.met_share:.1%} of random triplets meet it (mean {kind}: "
        f"{check.positive:.2f} to the positive, {check.negative:.2f} to the negative). {reach}",
        why="A loss that never lets go keeps pushing all classes apart and has nothing left for the similar ones.",
        fix="Use a margin of about 0.2.",
        settings={"loss.margin": 0.2},
        numbers=numbers,
        share=1 - check.met_share,
    )
