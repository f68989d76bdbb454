"""New pictures held against an index: those that are there already, and those whose label the index doubts."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np

from mohs.data.equal_pictures import NEAR_DIFFERENCE, picture_difference
from mohs.data.fixes import LabelFix
from mohs.data.images import decode_images, open_picture
from mohs.data.table import Table
from mohs.doctor.clean import CleanCause
from mohs.index.answers import Answer
from mohs.index.index import Index
from mohs.index.rows import THUMBNAIL

__all__ = ["Arrivals", "check_arrivals"]

_BATCH = 64
_THREADS = 4
_SURE = 0.5


@final
@dataclass(frozen=True)
class Arrivals:
    """What was found: corrections of the table of new pictures, and notes on what could not be looked for."""

    fixes: tuple[LabelFix, ...]
    notes: tuple[str, ...]


def check_arrivals(table: Table, index: Index, *, progress: Callable[[int, int], None] | None = None) -> Arrivals:
    """Return what is wrong with new pictures, each held against the items of an index, a few in memory at a time.

    The item that looks most alike is found by the index's embedder. By their thumbnails the two are the same picture
    ("duplicate", "two-labels") or nearly so, at half the difference of near-duplicates among unlike pictures, since
    here nothing tells how much unlike ones differ. In a calibrated index a label is doubted ("label-error") where its
    class is in the index, and the nearest item is of another one with a probability of half or more.

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
    return Arrivals(tuple(fixes), tuple(notes))


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
