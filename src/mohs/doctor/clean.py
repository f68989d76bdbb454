"""What to mend in a table of pictures, by themselves or held against an index: copies, doubtful labels, blank ones."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from mohs.data.equal_pictures import NEAR_DIFFERENCE, find_near_duplicates, picture_difference, picture_numbers
from mohs.data.fixes import LabelFix, Suggestion
from mohs.data.images import decode_images, open_picture
from mohs.data.stored_pictures import Pictures
from mohs.data.table import Table
from mohs.doctor.precision.evidence import low_information
from mohs.doctor.precision.labels import label_doubt
from mohs.evaluation.exact_neighbours import nearest_items
from mohs.index.answers import Answer
from mohs.index.index import Index
from mohs.index.rows import THUMBNAIL

__all__ = ["CLEAN_CAUSES", "CleanCause", "Issue", "check_arrivals", "find_issues", "issue_fixes"]

CleanCause: TypeAlias = Literal[
    "unreadable",
    "duplicate",
    "two-labels",
    "near-duplicate",
    "near-duplicate-two-labels",
    "label-error",
    "blank",
    "blurred",
]

CLEAN_CAUSES: dict[CleanCause, str] = {
    "unreadable": "files that cannot be read",
    "duplicate": "copies within a class, pixel for pixel",
    "two-labels": "one picture under two classes, pixel for pixel",
    "near-duplicate": "nearly the same picture twice, of one class",
    "near-duplicate-two-labels": "nearly the same picture under two classes",
    "label-error": "labels that are likely wrong",
    "blank": "pictures of one tone",
    "blurred": "pictures far less sharp than the others",
}
"""The causes of an issue and what they are, in the order in which they are shown."""

_DROPPED: frozenset[CleanCause] = frozenset({"unreadable", "duplicate", "blank"})
_NEIGHBOURS = 16


@final
@dataclass(frozen=True)
class Issue:
    """Something about one item.

    Attributes:
        item: its row.
        cause: see `CLEAN_CAUSES`.
        other: the row of the picture that shows it; -1 if there is none.
        to: the class that it may be of instead; "" if no other one is meant.
        difference: of the two pictures (`picture_difference`; 0: equal); NaN if they were not compared.
        own_fit, other_fit: how well the item fits its own class and `to`, as similarities; NaN if not known.
    """

    item: int
    cause: CleanCause
    other: int = -1
    to: str = ""
    difference: float = math.nan
    own_fit: float = math.nan
    other_fit: float = math.nan

    @property
    def suggestion(self) -> Suggestion:
        """What a correction does: only what says nothing at all, or nothing new, is dropped unseen."""
        return "drop" if self.cause in _DROPPED else "look"


def find_issues(
    labels_N: npt.NDArray[np.str_],
    pictures_NHWC: Pictures,
    *,
    x_ND: npt.NDArray[np.float32] | None = None,
    seed: int = 0,
) -> tuple[list[Issue], list[str]]:
    """Return what is wrong with pictures and labels, by cause, and a line for each search that could not be made.

    Every picture is compared with all others; of copies the first in order is kept. Pictures may lie in a file: beside
    them memory is needed for 2 KB a picture and for `x_ND`.

    Args:
        labels_N: classes.
        pictures_NHWC: uint8 [N, H, W, 1 or 3].
        x_ND: unit vectors of the pictures; None: labels are not doubted.
        seed: of samples.
    """
    issues, notes = [], []
    number_N = picture_numbers(pictures_NHWC)
    issues += _copies(labels_N, number_N)
    copied = {issue.item for issue in issues}
    first_N = np.unique(number_N, return_index=True)[1]
    near = find_near_duplicates(
        pictures_NHWC,
        np.unique(labels_N, return_inverse=True)[1],
        query_Q=np.sort(first_N),
        gallery_G=np.sort(first_N),
        max_queries=len(labels_N),
        seed=seed,
    )
    if near.why_not:
        notes.append(f"near-duplicates: not looked for ({near.why_not})")
    difference_of = dict(
        zip(zip(near.query_P.tolist(), near.other_P.tolist(), strict=True), near.difference_P, strict=True)
    )
    for pair in near.pairs():
        other, item = sorted(pair)
        same = labels_N[item] == labels_N[other]
        cause: CleanCause = "near-duplicate" if same else "near-duplicate-two-labels"
        to = "" if same else str(labels_N[other])
        issues.append(Issue(item, cause, other, to, float(difference_of[pair])))
    if x_ND is None:
        notes.append("wrong labels: not looked for; give an embedder")
    else:
        issues += [each for each in _doubted(labels_N, number_N, x_ND, seed) if each.item not in copied]
    why_N = low_information(pictures_NHWC)
    issues += [Issue(item, str(why_N[item])) for item in np.flatnonzero(why_N != "").tolist()]  # type: ignore[arg-type]
    order = {cause: place for place, cause in enumerate(CLEAN_CAUSES)}
    return sorted(issues, key=lambda each: (order[each.cause], each.item)), notes


def _copies(labels_N: npt.NDArray[np.str_], number_N: npt.NDArray[np.int64]) -> list[Issue]:
    """Return an issue for each picture that was there before: of its class, or else of another one."""
    first_of_class: dict[tuple[int, str], int] = {}
    first: dict[int, int] = {}
    issues = []
    for item, (number, label) in enumerate(zip(number_N.tolist(), labels_N.tolist(), strict=True)):
        if (number, label) in first_of_class:
            issues.append(Issue(item, "duplicate", first_of_class[number, label], difference=0.0))
            continue
        first_of_class[number, label] = item
        if number in first:
            issues.append(Issue(item, "two-labels", first[number], str(labels_N[first[number]]), 0.0))
        first.setdefault(number, item)
    return issues


def _doubted(
    labels_N: npt.NDArray[np.str_], number_N: npt.NDArray[np.int64], x_ND: npt.NDArray[np.float32], seed: int
) -> list[Issue]:
    names, class_N = np.unique(labels_N, return_inverse=True)
    if len(names) < 3 or len(x_ND) <= _NEIGHBOURS:
        return []
    neighbours_NK = nearest_items(x_ND, _NEIGHBOURS)
    doubt = label_doubt(x_ND, class_N, neighbours_NK, picture_N=number_N, seed=seed)
    issues = []
    for item in np.flatnonzero(doubt.wrong_N).tolist():
        rival = int(doubt.rival_N[item])
        of_rival = neighbours_NK[item][class_N[neighbours_NK[item]] == rival]
        fits = {"own_fit": float(doubt.own_fit_N[item]), "other_fit": float(doubt.rival_fit_N[item])}
        issues.append(Issue(item, "label-error", int(of_rival[0]), str(names[rival]), **fits))
    return issues


def issue_fixes(issues: Sequence[Issue], table: Table) -> list[LabelFix]:
    """Return the corrections of a table that issues suggest, a row for each; `mohs fix` applies them once edited.

    A picture that is dropped for one cause has no second row that drops it.
    """
    labels, dropped, fixes = table.labels.tolist(), set(), []
    for issue in issues:
        suggestion = issue.suggestion
        if suggestion == "drop" and issue.item in dropped:
            continue
        if suggestion == "drop":
            dropped.add(issue.item)
        shown = issue.other >= 0
        fixes.append(
            LabelFix(
                table.files[issue.item],
                labels[issue.item],
                suggestion,
                issue.to,
                issue.cause,
                table.files[issue.other] if shown else "",
                labels[issue.other] if shown else "",
                difference=_text(issue.difference),
                own_fit=_text(issue.own_fit),
                other_fit=_text(issue.other_fit),
            )
        )
    return fixes


def _text(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.3f}"


_BATCH = 64
_THREADS = 4
_SURE = 0.5


def check_arrivals(
    table: Table, index: Index, *, progress: Callable[[int, int], None] | None = None
) -> tuple[list[LabelFix], list[str]]:
    """Return corrections of new pictures, each held against the items of an index, and notes on what is not looked for.

    A few pictures are in memory at a time. The item that looks most alike is found by the index's embedder. By their
    thumbnails the two are the same picture ("duplicate", "two-labels") or nearly so, at half the difference of
    near-duplicates among unlike pictures, since here nothing tells how much unlike ones differ. In a calibrated index a
    label is doubted ("label-error") where its class is in the index, and the nearest item is of another one with a
    probability of half or more.

    Args:
        table: of the new pictures; `other` in a correction is the id of an item of the index.
        index: searched as it is; nothing is added.
        progress: called with the number of pictures done, and of all.
    """
    calibrated = index.calibration is not None
    known = set(index.vectors().class_N.tolist())
    fixes: list[LabelFix] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(table), _BATCH):
            rows = list(range(start, min(start + _BATCH, len(table))))
            paths = [table.path(i) for i in rows]
            prepared = decode_images(paths, index.embedder.policy, pool=pool)
            shown = decode_images(paths, THUMBNAIL, pool=pool)
            sound = [k for k, picture in enumerate(prepared) if not isinstance(picture, str)]
            bad = [k for k in range(len(rows)) if k not in set(sound)]
            fixes += [
                LabelFix(table.files[rows[k]], str(table.labels[rows[k]]), "drop", cause="unreadable") for k in bad
            ]
            if sound:
                pictures = np.stack([each for each in prepared if not isinstance(each, str)])
                for k, answer in zip(sound, index.search(pictures, num_matches=1), strict=True):
                    picture = shown[k]
                    assert not isinstance(picture, str), "it was read a moment ago"
                    found = _fix(table, rows[k], picture, answer, known if calibrated else set())
                    fixes += [] if found is None else [found]
            if progress is not None:
                progress(rows[-1] + 1, len(table))
    notes = [] if calibrated else ["wrong labels: not looked for; calibrate the index (mohs index calibrate)"]
    return fixes, notes


def _fix(table: Table, row: int, picture_HWC: np.ndarray, answer: Answer, known: set[str]) -> LabelFix | None:
    """Return the correction that the nearest item speaks for; None if there is none."""
    if not answer.matches:
        return None
    match, label = answer.matches[0], str(table.labels[row])
    with open_picture(match.columns["thumbnail"]) as thumbnail:
        other = np.asarray(thumbnail.convert("RGB"))
    difference = 0.0
    if not np.array_equal(other, picture_HWC):
        both = np.stack([picture_HWC, other])
        difference = float(picture_difference(both, np.array([0]), np.array([1]))[0])
    same = match.label == label
    cause: CleanCause | None = None
    if np.array_equal(other, picture_HWC):
        cause = "duplicate" if same else "two-labels"
    elif difference <= NEAR_DIFFERENCE / 2:
        cause = "near-duplicate" if same else "near-duplicate-two-labels"
    elif not same and label in known and match.probability is not None and match.probability >= _SURE:
        cause = "label-error"
    if cause is None:
        return None
    return LabelFix(
        table.files[row],
        label,
        "drop" if cause == "duplicate" else "look",
        "" if same else match.label,
        cause,
        match.id,
        match.label,
        similarity=f"{1 - match.distance**2 / 2:.3f}",
        difference=f"{difference:.3f}",
    )
