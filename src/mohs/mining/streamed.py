"""Exact mining of a bank that is not in memory: few passes over its pieces, the same plan.

Anchors are mined in groups. A pass has every piece looked at by the questions that are open for a group
(`questions.py`); what pieces, or machines, have found is merged exactly.

- The nearest negative at or beyond a distance takes one pass: `margin`, and the hardest of `rank` and `log-rank`.
- `range` takes two: the extremes, then the nearest beyond the threshold that they give.
- A rank takes two as a rule. A sample of the candidates says between which keys it lies almost surely. The first pass
  counts keys in narrow cells there, and so proves in which cell the rank lies. The second collects the negatives of
  that cell, and whatever the rounding of the product may have moved into or out of it; exact distances order them.
  Where there are too many, codes, (distance, item) as one number, are counted in ever narrower windows first. So ties,
  however many, need no room either.
- Several negatives take two ranks, the first and the last of them, and a pass that collects what lies between.
"""

from typing import Final, final

import numpy as np

from mohs.hardness.scales import (
    achieved_by_distance,
    achieved_by_margin,
    achieved_by_rank,
    margin_threshold,
    range_threshold,
    rank_of,
)
from mohs.mining.frame import Float32, Float64
from mohs.mining.problem import Index, MiningProblem, distances_of
from mohs.mining.questions import NUM_CELLS, CodesWithin, Nearest, Queries, Question
from mohs.mining.rank_search import MOST_ROOM_BYTES, ROOM_BYTES, RankSearch
from mohs.mining.stream import PIECE_BYTES, Scan
from mohs.mining.streamed_kernels import mark_items
from mohs.mining.threads import Meter, for_each, num_threads, one_blas_thread
from mohs.randomness import generator

__all__ = ["mine_streamed", "streamed_bytes"]

_GROUP: Final = 2**14  # anchors
_GROUP_BYTES: Final = 2**28  # of their rows
_SAMPLE: Final = 2**14  # candidates
_DEVIATIONS: Final = 6.0
_ROWS: Final = 128


def mine_streamed(
    problem: MiningProblem, scan: Scan, positive_distance_T: Float32, meter: Meter
) -> tuple[Index, Float32, Float64]:
    """Return what `mohs.mining.exact.mine_exact` does: negatives, their distances, achieved hardness, [T, K] each."""
    p = problem
    found_TK = np.empty((len(p.anchors_T), p.num_wanted), dtype=np.int64)
    extreme_T2 = np.zeros((len(p.anchors_T), 2), dtype=np.float32)
    rank_TK = np.zeros(found_TK.shape, dtype=np.int64)
    tau_T = np.zeros(len(p.anchors_T))
    if p.rule.needs == "margin":
        assert p.margin is not None
        tau_T = margin_threshold(positive_distance_T, p.hardness_T, p.margin, p.squared).astype(np.float64)
    size = _group_size(p.bank_ND.shape[1])
    with one_blas_thread():
        for first in range(0, len(p.anchors_T), size):
            position_Q = np.arange(first, min(first + size, len(p.anchors_T)))
            group = _Group(p.part(position_Q), scan, meter)
            match p.rule.needs:
                case "ranks":
                    rank_Q = rank_of(p.scale, p.hardness_T[position_Q], p.num_negatives_T[position_Q])
                    rank_Q = np.minimum(rank_Q, p.num_negatives_T[position_Q] - p.num_wanted)
                    code_Q = group.code_of_rank(np.arange(len(position_Q)), rank_Q)
                    found_TK[position_Q], rank_TK[position_Q] = group.window(code_Q, rank_Q)
                case "extremes":
                    code_Q, extreme_T2[position_Q] = group.code_in_range()
                    found_TK[position_Q], _ = group.window(code_Q, None)
                case "margin":
                    found_TK[position_Q], _ = group.window(group.code_from(tau_T[position_Q]), None)
            group.close()
    distance_TK = distances_of(p, found_TK)
    hardness_T1 = p.hardness_T[:, None]
    match p.rule.needs:
        case "ranks":
            achieved_TK = achieved_by_rank(p.scale, rank_TK, p.num_negatives_T[:, None], hardness_T1)
        case "extremes":
            achieved_TK = achieved_by_distance(distance_TK, extreme_T2[:, 1:], extreme_T2[:, :1], hardness_T1)
        case "margin":
            assert p.margin is not None
            achieved_TK = achieved_by_margin(distance_TK, positive_distance_T[:, None], p.margin, p.squared)
    return found_TK, distance_TK, achieved_TK


def streamed_bytes(num_items: int, dim: int, num_anchors: int, threads: int, *, ranks_at_once: int = 1) -> int:
    """Return what mining a bank in shards takes at most beside the columns of items and anchors.

    `ranks_at_once`: so many ranks of each anchor are looked for in the same passes, at most.
    """
    group = min(_group_size(dim), num_anchors)
    rows = 12 * group * dim  # as given, in the stack, and in the frame
    num_ranks = ranks_at_once * group
    counts, room = 4 * NUM_CELLS * num_ranks, min(ROOM_BYTES, num_ranks * MOST_ROOM_BYTES)
    pieces = 6 * min(PIECE_BYTES, 4 * num_items * dim)  # two in the stack, two in the frame, two as they are read
    sample = _SAMPLE * (8 * dim + 4 * _ROWS * threads)
    return rows + room + max(counts + pieces, sample)


def _group_size(dim: int) -> int:
    return max(1, min(_GROUP, _GROUP_BYTES // (8 * dim)))


@final
class _Group:
    """Anchors that are mined together, with the passes that they take."""

    def __init__(self, problem: MiningProblem, scan: Scan, meter: Meter) -> None:
        p = problem
        self.problem = p
        self._scan = scan
        self._meter = meter
        self._left = len(p.anchors_T)  # anchors that no pass has been told for
        self._num_items = len(p.bank_ND)
        self._all_Q = np.arange(len(p.anchors_T))
        class_Q = p.class_N[p.anchors_T]
        own_Q2 = np.stack([p.class_start_C1[class_Q], p.class_start_C1[class_Q + 1]], axis=1)
        item_E = p.candidates_M[p.exclusions.column_E]
        order_E = np.lexsort((item_E, p.exclusions.anchor_E))
        self._queries = Queries.of(
            scan.frame, p.bank_ND[p.anchors_T], own_Q2, p.candidates_M, p.exclusions.spans(p.anchors_T), item_E[order_E]
        )

    def close(self) -> None:
        """Tell that all is done."""
        self._meter.stage(self._left)(1, 1)

    def code_of_rank(self, query_R: Index, rank_R: Index) -> Index:
        """Return the codes of the negatives of these ranks."""
        code_R = np.empty(len(query_R), dtype=np.int64)
        first, rest = np.flatnonzero(rank_R == 0), np.flatnonzero(rank_R > 0)
        # The nearest needs no counts.
        questions: list[Question] = []
        if first.size:
            nearest = Nearest.ask(self._queries, self._scan.frame, query_R[first], np.zeros(first.size))
            questions.append(nearest)
        search = None
        if rest.size:
            guess_R2 = self._guess(query_R[rest], rank_R[rest])
            search = RankSearch(self._queries, self._scan.frame, query_R[rest], rank_R[rest], guess_R2, self._num_items)
        while questions or (search is not None and not search.is_done):
            self._ask([*questions, *(search.questions() if search is not None else [])])
            questions = []
            if search is not None:
                search.learn()
        if first.size:
            code_R[first] = self._codes(nearest)
        if search is not None:
            code_R[rest] = search.code_R
        return code_R

    def code_in_range(self) -> tuple[Index, Float32]:
        """Return the codes of the nearest beyond the thresholds of `range`, and the extremes, float32[Q, 2]."""
        near, far = self._extremes(np.zeros(len(self._all_Q)))
        extreme_Q2 = np.stack([near.distance_R, far.distance_R], axis=1)
        tau_Q = range_threshold(near.distance_R, far.distance_R, self.problem.hardness_T)
        code_Q = np.where(tau_Q <= near.distance_R, self._codes(near), self._codes(far))
        rest = np.flatnonzero((tau_Q > near.distance_R) & (tau_Q < far.distance_R))
        if rest.size:
            nearest = Nearest.ask(self._queries, self._scan.frame, rest, tau_Q[rest])
            self._ask([nearest])
            code_Q[rest] = self._codes(nearest)
        return code_Q, extreme_Q2

    def code_from(self, tau_Q: Float64) -> Index:
        """Return the codes of the nearest at distances ≥ tau; of the farthest where none is."""
        near, far = self._extremes(tau_Q)
        return np.where(near.found_R >= 0, self._codes(near), self._codes(far))

    def window(self, code_Q: Index, rank_Q: Index | None) -> tuple[Index, Index]:
        """Return the K items from these codes on, or the K last, and their ranks, [Q, K]; for K = 1 as they are known.

        `rank_Q` are the ranks of the codes, if they are known and at most M − K.
        """
        num_wanted, num_negatives_Q = self.problem.num_wanted, self.problem.num_negatives_T
        if num_wanted == 1:
            rank_Q1 = np.zeros((len(code_Q), 1), dtype=np.int64) if rank_Q is None else rank_Q[:, None]
            return (code_Q % self._num_items)[:, None], rank_Q1
        if rank_Q is None:
            rank_Q = self._within(np.stack([code_Q, code_Q], axis=1), 1).below_R
        first_Q = np.minimum(rank_Q, num_negatives_Q - num_wanted)
        moved = np.flatnonzero(first_Q < rank_Q)
        found_R = self.code_of_rank(
            np.concatenate([self._all_Q, moved]), np.concatenate([first_Q + num_wanted - 1, first_Q[moved]])
        )
        code_Q2 = np.stack([code_Q, found_R[: len(code_Q)]], axis=1)
        code_Q2[moved, 0] = found_R[len(code_Q) :]
        found = self._within(code_Q2, num_wanted)
        item_QK = np.sort(found.code_S.reshape(len(code_Q), num_wanted), axis=1) % self._num_items
        return item_QK, first_Q[:, None] + np.arange(num_wanted)

    def _extremes(self, tau_Q: Float64) -> tuple[Nearest, Nearest]:
        near = Nearest.ask(self._queries, self._scan.frame, self._all_Q, tau_Q)
        far = Nearest.ask_farthest(self._queries, self._scan.frame, self._all_Q)
        self._ask([near, far])
        return near, far

    def _within(self, code_Q2: Index, num_codes: int) -> CodesWithin:
        room_Q = np.full(len(code_Q2), num_codes)
        within = CodesWithin.ask(self._queries, self._scan.frame, self._all_Q, code_Q2, self._num_items, room_Q)
        self._ask([within])
        assert (within.count_R == num_codes).all(), "a window holds other codes"
        return within

    def _codes(self, found: Nearest) -> Index:
        """Return the codes of what was found; of no meaning where nothing was."""
        return found.distance_R.view(np.uint32).astype(np.int64) * self._num_items + found.found_R

    def _ask(self, questions: list[Question]) -> None:
        # How many passes there will be is not known: each is told for half of what is left.
        worth = self._left // 2
        self._left -= worth
        self._scan.ask(self._queries, questions, self._meter.stage(worth))

    def _guess(self, query_R: Index, rank_R: Index) -> Float64:
        """Return keys between which ranks lie almost surely, by a sample of the candidates, float64[R, 2]."""
        p = self.problem
        size = min(_SAMPLE, len(p.candidates_M))
        draw = generator(0, "streamed sample")
        item_S = np.sort(p.candidates_M[draw.choice(len(p.candidates_M), size, replace=False, shuffle=False)])
        row_SD = self._scan.frame.centred(p.bank_ND[item_S])
        half_S = np.einsum("sd,sd->s", row_SD, row_SD) / 2
        guess_R2 = np.empty((len(query_R), 2))

        def guess(start: int) -> None:
            query_r = query_R[start : start + _ROWS]
            product_rS = self._queries.centred_QD[query_r] @ row_SD.T
            mark_items(product_rS, item_S, self._queries.own_Q2[query_r], self._queries.own_S)
            np.subtract(half_S, product_rS, out=product_rS)
            num_r = (~np.isnan(product_rS)).sum(axis=1)
            share_r = (rank_R[start : start + _ROWS] + 0.5) / p.num_negatives_T[query_r]
            spread_r = _DEVIATIONS * (1.0 + np.sqrt(num_r * share_r * (1.0 - share_r)))
            low_r = np.floor(num_r * share_r - spread_r).astype(np.int64)
            high_r = np.ceil(num_r * share_r + spread_r).astype(np.int64)
            for r, (low, high, num) in enumerate(zip(low_r.tolist(), high_r.tolist(), num_r.tolist(), strict=True)):
                wanted = [k for k in (low, high) if 0 <= k < num]
                keys = np.partition(product_rS[r], wanted) if wanted else product_rS[r]
                guess_R2[start + r] = keys[low] if low >= 0 else -np.inf, keys[high] if high < num else np.inf

        for_each(guess, range(0, len(query_R), _ROWS), num_threads())
        return guess_R2
