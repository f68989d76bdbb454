"""What a reader of retrieval metrics must know and no metric says: one class, failed pictures, copies, ties."""

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.checked import Bools, Float32, Index, class_codes
from mohs.evaluation.ranks import TIE_TOLERANCE
from mohs.evaluation.retrieval import RetrievalResult, evaluate_retrieval
from mohs.evaluation.same_picture import (
    equal_groups,
    equal_partner,
    failed_rows,
    near_copies,
    of_one_length,
    shared_rows,
    some_rows,
)
from mohs.evaluation.spread import spread

__all__ = ["one_class_remark", "remarks"]

_MIN_SHARE = 0.005
# Below this spread, as a share of the length, what is left of float32 numbers is mostly their rounding.
_SINGLE_DIGITS = 1e-5
_TOLD_CHANGE = 5e-4  # of a metric: it shows in the three decimals that are printed


def one_class_remark(gallery_labels_G: npt.NDArray[np.generic]) -> tuple[str, ...]:
    """Return a sentence if all items that can be found are of one class, so that nothing found can be wrong.

    >>> one_class_remark(np.array(["ring", "ring"]))[0].partition(":")[0]
    "All 2 items that can be found are of one class, 'ring'"
    >>> one_class_remark(np.array(["ring", "lamp"]))
    ()
    """
    names = np.unique(gallery_labels_G)
    if len(names) > 1:
        return ()
    return (
        f"All {len(gallery_labels_G):,} items that can be found are of one class, {names[0].item()!r}: nothing found "
        "can be wrong, and these numbers say nothing of the embeddings. Give items of other classes too.",
    )


def remarks(
    query_QD: Float32,
    query_labels_Q: npt.NDArray[np.generic],
    gallery_GD: Float32,
    gallery_labels_G: npt.NDArray[np.generic],
    retrieval: RetrievalResult,
    *,
    same_items: bool,
) -> tuple[str, ...]:
    """Return sentences about a measurement, each with the number as it is and as it would be without what it tells.

    - Rows that are zero or share one vector with two other classes or more (`failed_rows`).
    - Rows of which so many share a vector that it is the embeddings that have collapsed (`shared_rows`).
    - Copies (`mohs.evaluation.same_picture`), from 0.5% of the queries on, but not of single numbers: queries that are
      rows of the gallery, or nearly so (`near_copies`), at any length; or, all against all (`same_items`), rows that
      are equal to another one of their class. The other number leaves out the query's own copy, or all rows of a class
      that are equal but one.
    - Ties: the rows lie so far from zero that distances which differ count as tied (`mohs.evaluation.ranks`), and some
      recall changes by 0.0005 or more once the mean of the gallery is taken away.
    """
    query_codes, gallery_codes = class_codes(query_labels_Q, gallery_labels_G)
    lines = []
    group_G = equal_groups(gallery_GD)
    failed_G = failed_rows(gallery_GD, gallery_codes, group_N=group_G)
    failed_Q = failed_G if same_items else failed_rows(query_QD, query_codes)
    for failed, rows, name in ((failed_G, gallery_GD, "row"), (failed_Q, query_QD, "query")):
        if failed.any() and (name == "row" or not same_items):
            of = ("rows" if same_items else "rows of the gallery") if name == "row" else "queries"
            zeros = int((~rows[failed].any(axis=1)).sum())
            lines.append(
                f"{int(failed.sum()):,} of {len(failed):,} {of} hold nothing: {zeros:,} are all zero, "
                f"{int(failed.sum()) - zeros:,} share one vector over three classes or more "
                f"({some_rows(np.flatnonzero(failed))}). Such pictures did not load, are blank, or are one picture"
            )
    if lines:
        without = _recall(query_QD, query_codes, gallery_GD, gallery_codes, ~failed_Q, ~failed_G, same_items)
        lines[-1] += _instead(without, retrieval.recall.get(1), "without them")
    shared_G = shared_rows(gallery_GD, gallery_codes, group_N=group_G)
    if (shared_G & ~failed_G).any():
        num_vectors = len(np.unique(group_G[shared_G]))
        lines.append(
            f"{int(shared_G.sum()):,} of {len(shared_G):,} rows{'' if same_items else ' of the gallery'} are equal to "
            f"rows of other classes: they hold {num_vectors:,} vector{'s' if num_vectors > 1 else ''} in all. The "
            "embeddings have collapsed, or the pictures failed"
        )
    copies = (
        _copies_of_a_class(query_QD, query_codes, group_G, failed_Q | shared_G, retrieval)
        if same_items
        else _queries_in_gallery(query_QD, query_codes, gallery_GD, gallery_codes, failed_Q, failed_G, retrieval)
    )
    ties = _ties(query_QD, query_codes, gallery_GD, gallery_codes, retrieval, same_items)
    return tuple(f"{line}." for line in (*lines, copies, ties) if line)


def _queries_in_gallery(
    query_QD: Float32,
    query_codes: Index,
    gallery_GD: Float32,
    gallery_codes: Index,
    failed_Q: Bools,
    failed_G: Bools,
    retrieval: RetrievalResult,
) -> str:
    if gallery_GD.shape[1] == 1 or not _differ(gallery_GD):
        return ""  # single numbers are equal by chance
    rows_QD, rows_GD = of_one_length(query_QD, gallery_GD)
    partner_Q = equal_partner(rows_QD, rows_GD)
    partner_Q[failed_Q] = -1
    partner_Q[(partner_Q >= 0) & failed_G[partner_Q]] = -1
    num, how = int((partner_Q >= 0).sum()), "are rows of the gallery, but for rounding: each finds itself"
    if num < _MIN_SHARE * len(partner_Q) or not num:
        copied_Q, _, nearest_Q = near_copies(rows_QD, query_codes, rows_GD, gallery_codes)
        partner_Q = np.where(copied_Q & ~failed_Q & ~failed_G[nearest_Q], nearest_Q, -1)
        num = int((partner_Q >= 0).sum())
        how = "are far nearer to a row of the gallery than pictures of a class are else: each finds its copy"
    if num < _MIN_SHARE * len(partner_Q) or not num:
        return ""
    every_Q, every_G = np.ones(len(query_QD), dtype=bool), np.ones(len(gallery_GD), dtype=bool)
    without = _recall(query_QD, query_codes, gallery_GD, gallery_codes, every_Q, every_G, False, partner_Q)
    return f"{num:,} of {len(partner_Q):,} queries {how}" + (
        ", and no other item of their class is there"
        if without is None
        else _instead(without, retrieval.recall.get(1), "with that row left out")
    )


def _copies_of_a_class(x_ND: Float32, codes: Index, group_N: Index, failed_N: Bools, retrieval: RetrievalResult) -> str:
    if x_ND.shape[1] == 1 or not _differ(x_ND):
        return ""  # single numbers are equal by chance
    first_N = np.zeros(len(codes), dtype=bool)
    first_N[np.unique(np.stack([group_N, codes]), axis=1, return_index=True)[1]] = True
    has_copy_N = (np.bincount(group_N)[group_N] > 1) & ~failed_N
    num = int((has_copy_N & ~first_N).sum())
    if num < _MIN_SHARE * len(codes) or not num:
        return ""
    keep = first_N | failed_N
    without = _recall(x_ND, codes, x_ND, codes, keep, keep, True)
    return f"{num:,} of {len(codes):,} rows are copies of another row of their class: copies find each other" + (
        ", and no class has another picture"
        if without is None
        else _instead(without, retrieval.recall.get(1), "with one of each kept")
    )


def _ties(
    query_QD: Float32,
    query_codes: Index,
    gallery_GD: Float32,
    gallery_codes: Index,
    retrieval: RetrievalResult,
    same_items: bool,
) -> str:
    mean_D = gallery_GD.mean(axis=0, dtype=np.float64)
    found = spread(gallery_GD)
    # Ties bite where the tolerance, a share of the length, is no longer small beside the distances.
    if found.std_sqrt_dim < _SINGLE_DIGITS * found.mean_norm or found.std_sqrt_dim > 0.1 * found.mean_norm:
        return ""
    centred_GD = (gallery_GD - mean_D).astype(np.float32)
    centred_QD = centred_GD if same_items else (query_QD - mean_D).astype(np.float32)
    ks = tuple(retrieval.recall)
    itself = np.arange(len(query_QD)) if same_items else None
    centred = evaluate_retrieval(centred_QD, query_codes, centred_GD, gallery_codes, ks=ks, self_indices_Q=itself)
    change = {k: centred.recall[k] - retrieval.recall[k] for k in ks}
    most = max(change, key=lambda k: (abs(change[k]), -k))
    if abs(change[most]) < _TOLD_CHANGE:
        return ""
    return (
        f"Distances that differ by less than {TIE_TOLERANCE * found.mean_norm:.2g} count as tied, since the rows have "
        f"a length of {found.mean_norm:.3g} and lie only {found.std_sqrt_dim:.3g} from their mean. With the mean taken "
        f"away R@{most} is {centred.recall[most]:.3f} instead of {retrieval.recall[most]:.3f}"
    )


def _differ(x_ND: Float32) -> bool:
    """Return whether the rows are more than one point: what has collapsed holds no copies."""
    found = spread(x_ND)
    return found.std_sqrt_dim > 1e-3 * found.mean_norm


def _recall(
    query_QD: Float32,
    query_codes: Index,
    gallery_GD: Float32,
    gallery_codes: Index,
    keep_Q: Bools,
    keep_G: Bools,
    same_items: bool,
    self_Q: Index | None = None,
) -> float | None:
    """Return R@1 of some queries in a part of the gallery; None if no query has an item to find."""
    itself = np.arange(int(keep_G.sum())) if same_items else self_Q
    if not keep_Q.any() or not keep_G.any():
        return None
    try:
        found = evaluate_retrieval(
            query_QD[keep_Q],
            query_codes[keep_Q],
            gallery_GD[keep_G],
            gallery_codes[keep_G],
            ks=(1,),
            self_indices_Q=itself,
        )
    except InputError:
        return None
    return found.recall[1]


def _instead(without: float | None, recall: float | None, how: str) -> str:
    if without is None or recall is None:
        return ""
    return f". R@1 is {without:.3f} {how} instead of {recall:.3f}"
