"""What can be asked of a bank piece by piece: answers of pieces, shards or machines are merged into that of the whole.

A question is asked of some queries: anchors that are mined together (`Queries`). It looks at the tiles of a piece, in
any order, and keeps what it has found. Whatever was found where, merging gives the same: counts are added, the better
of two finds is kept, and what was collected is put together.
"""

from dataclasses import dataclass
from typing import Protocol, Self, final

import numpy as np
from numpy.typing import NDArray

from mohs.mining import streamed_kernels
from mohs.mining.frame import Float32, Float64, Frame
from mohs.mining.problem import Index
from mohs.mining.streamed_kernels import CodeWindow, Slots, Tile
from mohs.mining.sweep import keep_better, search_lines
from mohs.mining.sweep_kernels import NO_LIMIT, Search

__all__ = [
    "LEAST_WIDTH",
    "NUM_CELLS",
    "CodeCounts",
    "CodesWithin",
    "KeyCounts",
    "Nearest",
    "Queries",
    "Question",
]

NUM_CELLS = 1024

LEAST_WIDTH = 1e-30
"""Between keys, in the frame, where rows reach to about 1."""

_ULP = 2.0**-20  # of keys as float32 differences, and of the lines that put them into cells


@final
@dataclass(frozen=True, eq=False)
class Queries:
    """Anchors that are mined together.

    Attributes:
        row_QD: their embeddings, float32[Q, D].
        centred_QD: the same in the frame.
        half_norm_Q: ‖a‖²/2 of these.
        bound_Q: no key is beyond it.
        slack_Q: a bound on the error of a key, as float32 and with the rounding of what it is compared with.
        own_Q2, own_S: `own_S[own_Q2[q, 0] : own_Q2[q, 1]]` are the items of the anchor's class, in ascending order.
        excluded_Q2, excluded_S: so are the items that are excluded for it.
    """

    row_QD: Float32
    centred_QD: Float32
    half_norm_Q: Float64
    bound_Q: Float64
    slack_Q: Float64
    own_Q2: Index
    own_S: Index
    excluded_Q2: Index
    excluded_S: Index

    @classmethod
    def of(
        cls, frame: Frame, row_QD: Float32, own_Q2: Index, own_S: Index, excluded_Q2: Index, excluded_S: Index
    ) -> "Queries":
        """Return the queries of these anchors."""
        centred_QD = frame.centred(row_QD.copy())
        half_norm_Q = np.einsum("qd,qd->q", centred_QD, centred_QD, dtype=np.float64) / 2
        norm_Q = np.sqrt(2 * half_norm_Q)
        bound_Q = frame.key_bound(norm_Q)
        slack_Q = frame.key_error(norm_Q) + _ULP * bound_Q
        return cls(row_QD, centred_QD, half_norm_Q, bound_Q, slack_Q, own_Q2, own_S, excluded_Q2, excluded_S)

    def __len__(self) -> int:
        return len(self.half_norm_Q)


class Question(Protocol):
    """What is asked of some queries."""

    @property
    def query_R(self) -> Index:  # noqa: N802
        """Which: their places in `Queries`."""

    def look(self, rows: slice, tile: Tile) -> None:
        """Take a tile of `query_R[rows]` into account."""

    def merge(self, other: Self) -> None:
        """Take into account what the same question found elsewhere."""


@final
@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest item at a distance ≥ tau, or with sign −1 the farthest item; the lower index wins ties.

    Attributes:
        query_R: see `Question`.
        search: what is sought, and what is found.
    """

    query_R: Index
    search: Search

    @property
    def found_R(self) -> Index:  # noqa: N802
        """The items, −1 for none."""
        return self.search.found_N

    @property
    def distance_R(self) -> Float32:  # noqa: N802
        """How far they are, float32."""
        return self.search.distance_N

    @classmethod
    def ask(cls, queries: Queries, frame: Frame, query_R: Index, tau_R: Float64) -> "Nearest":
        """Ask for the nearest with distance ≥ tau."""
        return cls._of(queries, frame, query_R, np.float32(1), tau_R)

    @classmethod
    def ask_farthest(cls, queries: Queries, frame: Frame, query_R: Index) -> "Nearest":
        """Ask for the farthest."""
        return cls._of(queries, frame, query_R, np.float32(-1), np.zeros(len(query_R)))

    @classmethod
    def _of(cls, queries: Queries, frame: Frame, query_R: Index, sign: np.float32, tau_R: Float64) -> "Nearest":
        search = Search(
            sign,
            frame.square,
            *search_lines(frame, sign, tau_R, queries.half_norm_Q[query_R]),
            np.full(len(query_R), NO_LIMIT),
            np.full(len(query_R), -1, dtype=np.int64),
            np.full(len(query_R), np.inf, dtype=np.float32),
        )
        return cls(query_R, search)

    def look(self, rows: slice, tile: Tile) -> None:
        """See `Question`."""
        streamed_kernels.search_tile(tile, self.query_R[rows], self.search.part(rows))

    def merge(self, other: "Nearest") -> None:
        """See `Question`."""
        keep_better(self.search, other.search)
        np.minimum(self.search.limit_N, other.search.limit_N, out=self.search.limit_N)


@final
@dataclass(frozen=True, eq=False)
class KeyCounts:
    """How many keys are below a start, and in each of `NUM_CELLS` cells of equal width between it and an end.

    Attributes:
        query_R: see `Question`.
        line_R3: start, end and cells per key, float32.
        below_R: counts, int64[R].
        cells_RB: counts, uint32[R, NUM_CELLS].
    """

    query_R: Index
    line_R3: Float32
    below_R: Index
    cells_RB: NDArray[np.uint32]

    @classmethod
    def ask(cls, query_R: Index, start_R: Float64, end_R: Float64) -> "KeyCounts":
        """Ask for keys from about `start_R` to about `end_R`: the line says from where to where exactly."""
        start32_R = np.nextafter(start_R.astype(np.float32), np.float32(-np.inf))
        end32_R = np.nextafter(end_R.astype(np.float32), np.float32(np.inf))
        # Keys that are equal, or nearly so, near 0: cells per key must stay a number.
        end32_R = np.maximum(end32_R, start32_R + np.float32(LEAST_WIDTH))
        step_R = (NUM_CELLS / (end32_R.astype(np.float64) - start32_R)).astype(np.float32)
        return cls(
            query_R,
            np.stack([start32_R, end32_R, step_R], axis=1),
            np.zeros(len(query_R), dtype=np.int64),
            np.zeros((len(query_R), NUM_CELLS), dtype=np.uint32),
        )

    def look(self, rows: slice, tile: Tile) -> None:
        """See `Question`."""
        streamed_kernels.count_keys(
            tile.product_RC, tile.half_C, self.line_R3[rows], self.below_R[rows], self.cells_RB[rows]
        )

    def merge(self, other: "KeyCounts") -> None:
        """See `Question`."""
        np.add(self.below_R, other.below_R, out=self.below_R)
        np.add(self.cells_RB, other.cells_RB, out=self.cells_RB)


def _window(queries: Queries, frame: Frame, query_R: Index, code_R2: Index, num_items: int) -> CodeWindow:
    """Return the windows of these codes, first and last."""
    distance_R2 = (code_R2 // num_items).astype(np.uint32).view(np.float32).astype(np.float64)
    bound_R = 2.0 * queries.bound_Q[query_R]
    with np.errstate(over="ignore"):
        low_R, high_R = (
            np.clip(frame.key_of(distance_R, queries.half_norm_Q[query_R]), -bound_R, bound_R)
            for distance_R in distance_R2.T
        )
    slack_R = queries.slack_Q[query_R]
    key_R2 = np.stack([low_R - slack_R, high_R + slack_R], axis=1).astype(np.float32)
    outwards = np.array([-np.inf, np.inf], dtype=np.float32)
    return CodeWindow(np.nextafter(key_R2, outwards), code_R2, num_items)


@final
@dataclass(frozen=True, eq=False)
class CodeCounts:
    """How many codes are below a window, and in each cell of it; cells hold 2^shift codes.

    Attributes:
        query_R: see `Question`.
        window: of each query.
        shift_R: see above.
        below_R, cells_RB: as in `KeyCounts`.
    """

    query_R: Index
    window: CodeWindow
    shift_R: Index
    below_R: Index
    cells_RB: NDArray[np.uint32]

    @classmethod
    def ask(cls, queries: Queries, frame: Frame, query_R: Index, code_R2: Index, num_items: int) -> "CodeCounts":
        """Ask for the codes in a window, first and last."""
        cells_R = (code_R2[:, 1] - code_R2[:, 0]) // NUM_CELLS
        shift_R = np.array([int(cells).bit_length() for cells in cells_R.tolist()], dtype=np.int64)
        return cls(
            query_R,
            _window(queries, frame, query_R, code_R2, num_items),
            shift_R,
            np.zeros(len(query_R), dtype=np.int64),
            np.zeros((len(query_R), NUM_CELLS), dtype=np.uint32),
        )

    def look(self, rows: slice, tile: Tile) -> None:
        """See `Question`."""
        none_R2, none_R = np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64)
        streamed_kernels.look_within(
            tile, self.query_R[rows], self.window.part(rows), self.below_R[rows],
            self.shift_R[rows], self.cells_RB[rows], Slots(none_R2, none_R, none_R),
        )  # fmt: skip

    def merge(self, other: "CodeCounts") -> None:
        """See `Question`."""
        np.add(self.below_R, other.below_R, out=self.below_R)
        np.add(self.cells_RB, other.cells_RB, out=self.cells_RB)


@final
@dataclass(frozen=True, eq=False)
class CodesWithin:
    """The codes in a window, and how many are below it.

    Attributes:
        query_R: see `Question`.
        window: of each query.
        slot_R2: where the codes of a query are in `code_S`: from, and to where there is room.
        below_R: counts, int64[R].
        code_S: codes, in no order.
        count_R: how many codes are in the window; if there is no room for them all, the first of them are kept.
    """

    query_R: Index
    window: CodeWindow
    slot_R2: Index
    below_R: Index
    code_S: Index
    count_R: Index

    @classmethod
    def ask(
        cls, queries: Queries, frame: Frame, query_R: Index, code_R2: Index, num_items: int, room_R: Index
    ) -> "CodesWithin":
        """Ask for the codes in a window, first and last, of which there is room for so many."""
        end_R = np.cumsum(room_R)
        return cls(
            query_R,
            _window(queries, frame, query_R, code_R2, num_items),
            np.stack([end_R - room_R, end_R], axis=1),
            np.zeros(len(query_R), dtype=np.int64),
            np.empty(int(end_R[-1]) if len(end_R) else 0, dtype=np.int64),
            np.zeros(len(query_R), dtype=np.int64),
        )

    def look(self, rows: slice, tile: Tile) -> None:
        """See `Question`."""
        collects_R = np.full(len(tile.product_RC), -1, dtype=np.int64)
        no_cells_RB = np.empty((0, 0), dtype=np.uint32)
        streamed_kernels.look_within(
            tile, self.query_R[rows], self.window.part(rows), self.below_R[rows],
            collects_R, no_cells_RB, Slots(self.slot_R2[rows], self.code_S, self.count_R[rows]),
        )  # fmt: skip

    def merge(self, other: "CodesWithin") -> None:
        """See `Question`."""
        for r, (first, last) in enumerate(self.slot_R2.tolist()):
            at, more = first + int(self.count_R[r]), int(other.count_R[r])
            fitting = max(0, min(more, last - at))
            self.code_S[at : at + fitting] = other.code_S[first : first + fitting]
        np.add(self.count_R, other.count_R, out=self.count_R)
        np.add(self.below_R, other.below_R, out=self.below_R)

    def codes(self, r: int) -> Index | None:
        """Return the codes of a query in order; None if they had no room."""
        first, last = self.slot_R2[r]
        count = self.count_R[r]
        return None if count > last - first else np.sort(self.code_S[first : first + count])
