"""What a reader of retrieval metrics must know and no metric says: one class, failed pictures, copies, ties."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.checked import Bools, Float32, Index, class_codes
from mohs.evaluation.collapse import Spread, spread
from mohs.evaluation.ranks import TIE_TOLERANCE
from mohs.evaluation.retrieval import LeftOut, RetrievalResult, evaluate_retrieval
from mohs.evaluation.same_picture import (
    equal_groups,
    equal_partner,
    failed_rows,
    near_copies,
    of_one_length,
    shared_rows,
    some_rows,
)

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


@final
@dataclass(frozen=True, eq=False)
class _Search:
    """Queries and a gallery, which are the same rows if `same_items`, with the recall at each k that was measured."""

    query_QD: Float32
    query_codes: Index
    gallery_GD: Float32
    gallery_codes: Index
    same_items: bool
    recall: Mapping[int, float]

    def instead(
        self,
        how: str,
        nothing: str,
        *,
        keep_Q: Bools | None = None,
        keep_G: Bools | None = None,
        self_Q: Index | None = None,
    ) -> str:
        """Return what R@1 is of some queries in a part of the gallery; `nothing` where no query has an item to find."""
        every_Q, every_G = np.ones(len(self.query_QD), dtype=bool), np.ones(len(self.gallery_GD), dtype=bool)
        keep_Q, keep_G = every_Q if keep_Q is None else keep_Q, every_G if keep_G is None else keep_G
        if not keep_Q.any() or not keep_G.any():
            return nothing
        try:
            found = evaluate_retrieval(
                self.query_QD[keep_Q],
                self.query_codes[keep_Q],
                self.gallery_GD[keep_G],
                self.gallery_codes[keep_G],
                ks=(1,),
                left_out=LeftOut(np.arange(int(keep_G.sum())) if self.same_items else self_Q),
            )
        except InputError:
            return nothing
        return f". R@1 is {found.recall[1]:.3f} {how} instead of {self.recall[1]:.3f}" if 1 in self.recall else ""


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
    search = _Search(query_QD, query_codes, gallery_GD, gallery_codes, same_items, retrieval.recall)
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
        lines[-1] += search.instead("without them", "", keep_Q=~failed_Q, keep_G=~failed_G)
    shared_G = shared_rows(gallery_GD, gallery_codes, group_N=group_G)
    if (shared_G & ~failed_G).any():
        num_vectors = len(np.unique(group_G[shared_G]))
        lines.append(
            f"{int(shared_G.sum()):,} of {len(shared_G):,} rows{'' if same_items else ' of the gallery'} are equal to "
            f"rows of other classes: they hold {num_vectors:,} vector{'s' if num_vectors > 1 else ''} in all. The "
            "embeddings have collapsed, or the pictures failed"
        )
    found = spread(gallery_GD)
    # Single numbers are equal by chance, and what has collapsed holds no copies.
    if gallery_GD.shape[1] > 1 and found.std_sqrt_dim > 1e-3 * found.mean_norm:
        if same_items:
            lines.append(_copies_of_a_class(search, group_G, failed_Q | shared_G))
        else:
            lines.append(_queries_in_gallery(search, failed_Q, failed_G))
    lines.append(_ties(search, found))
    return tuple(f"{line}." for line in lines if line)


def _queries_in_gallery(search: _Search, failed_Q: Bools, failed_G: Bools) -> str:
    rows_QD, rows_GD = of_one_length(search.query_QD, search.gallery_GD)
    partner_Q = equal_partner(rows_QD, rows_GD)
    partner_Q[failed_Q] = -1
    partner_Q[(partner_Q >= 0) & failed_G[partner_Q]] = -1
    num, how = int((partner_Q >= 0).sum()), "are rows of the gallery, but for rounding: each finds itself"
    if num < _MIN_SHARE * len(partner_Q) or not num:
        copied_Q, _, nearest_Q = near_copies(rows_QD, search.query_codes, rows_GD, search.gallery_codes)
        partner_Q = np.where(copied_Q & ~failed_Q & ~failed_G[nearest_Q], nearest_Q, -1)
        num = int((partner_Q >= 0).sum())
        how = "are far nearer to a row of the gallery than pictures of a class are else: each finds its copy"
    if num < _MIN_SHARE * len(partner_Q) or not num:
        return ""
    told = search.instead("with that row left out", ", and no other item of their class is there", self_Q=partner_Q)
    return f"{num:,} of {len(partner_Q):,} queries {how}{told}"


def _copies_of_a_class(search: _Search, group_N: Index, failed_N: Bools) -> str:
    codes = search.query_codes
    first_N = np.zeros(len(codes), dtype=bool)
    first_N[np.unique(np.stack([group_N, codes]), axis=1, return_index=True)[1]] = True
    has_copy_N = (np.bincount(group_N)[group_N] > 1) & ~failed_N
    num = int((has_copy_N & ~first_N).sum())
    if num < _MIN_SHARE * len(codes) or not num:
        return ""
    keep = first_N | failed_N
    told = search.instead("with one of each kept", ", and no class has another picture", keep_Q=keep, keep_G=keep)
    return f"{num:,} of {len(codes):,} rows are copies of another row of their class: copies find each other{told}"


def _ties(search: _Search, found: Spread) -> str:
    # Ties bite where the tolerance, a share of the length, is no longer small beside the distances.
    if found.std_sqrt_dim < _SINGLE_DIGITS * found.mean_norm or found.std_sqrt_dim > 0.1 * found.mean_norm:
        return ""
    mean_D = search.gallery_GD.mean(axis=0, dtype=np.float64)
    centred_GD = (search.gallery_GD - mean_D).astype(np.float32)
    centred_QD = centred_GD if search.same_items else (search.query_QD - mean_D).astype(np.float32)
    centred = evaluate_retrieval(
        centred_QD,
        search.query_codes,
        centred_GD,
        search.gallery_codes,
        ks=tuple(search.recall),
        left_out=LeftOut(np.arange(len(centred_QD)) if search.same_items else None),
    )
    change = {k: centred.recall[k] - recall for k, recall in search.recall.items()}
    most = max(change, key=lambda k: (abs(change[k]), -k))
    if abs(change[most]) < _TOLD_CHANGE:
        return ""
    return (
        f"Distances that differ by less than {TIE_TOLERANCE * found.mean_norm:.2g} count as tied, since the rows have "
        f"a length of {found.mean_norm:.3g} and lie only {found.std_sqrt_dim:.3g} from their mean. With the mean taken "
        f"away R@{most} is {centred.recall[most]:.3f} instead of {search.recall[most]:.3f}"
    )
