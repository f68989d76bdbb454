"""One version of an index: what an answer is made of, whoever changes the index meanwhile."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mohs.checks import require, wrong_whole
from mohs.index.answers import Answer, first_of_class, make_answer
from mohs.index.approximate_search import Approximation, items_of
from mohs.index.calibration import Calibration
from mohs.index.exact_search import Vectors, nearest_items
from mohs.index.store import Store, vectors_of

__all__ = ["Snapshot"]

# Of the nearest rows, so many times the wanted ones are looked through for different classes, then as many again.
_MORE_FOR_CLASSES = 8


@final
@dataclass(frozen=True, eq=False)
class Snapshot:
    """The items of one version in memory, thumbnails apart, and what a distance means among them.

    Attributes:
        store: the version on disk, for filters and thumbnails, and for the vectors of an approximate index.
        id_N, class_N: ids, ascending, and classes of the N items.
        resident: the items with their vectors; None if the index is approximate.
        rows: their other columns but for thumbnails, [N] in the same order.
        calibration: None if the index is not calibrated.
        approximation: None if every item is compared.
    """

    store: Store
    id_N: NDArray[np.object_]
    class_N: NDArray[np.object_]
    resident: Vectors | None
    rows: pa.Table
    calibration: Calibration | None
    approximation: Approximation | None = None

    @classmethod
    def read(
        cls, store: Store, calibration: Calibration | None, approximation: Approximation | None = None
    ) -> "Snapshot":
        """Return all items of a store's version; of an approximate index without their vectors."""
        apart = ("thumbnail",) if approximation is None else ("thumbnail", "vector")
        rows = store.read([name for name in store.schema.names if name not in apart]).sort_by("id")
        id_N, class_N = (np.array(rows.column(name).to_pylist(), dtype=object) for name in ("id", "class"))
        resident = None
        if approximation is None:
            resident, rows = Vectors(id_N, class_N, vectors_of(rows)), rows.drop_columns(["vector"])
        return cls(store, id_N, class_N, resident, rows, calibration, approximation)

    def __len__(self) -> int:
        return len(self.id_N)

    @property
    def version(self) -> int:
        """The number of the store's version."""
        return self.store.version

    @cached_property
    def vectors(self) -> Vectors:
        """The items with all their vectors, in memory; those of an approximate index are read here."""
        return items_of(self.store.read(["id", "class", "vector"])) if self.resident is None else self.resident

    def place(self, item: str) -> int | None:
        """Return the position of an item among the N, None if there is none of this id."""
        i = bisect_left(self.id_N, item)
        return i if i < len(self.id_N) and self.id_N[i] == item else None

    def vector(self, place: int) -> NDArray[np.float32]:
        """Return the vector [D] of the item at a position."""
        if self.resident is None:
            return self.store.vector(self.id_N[place])
        x_D: NDArray[np.float32] = self.resident.x_ND[place]
        return x_D

    def search(
        self,
        query_QD: NDArray[np.float32],
        *,
        num_matches: int = 10,
        where: str | None = None,
        one_of_a_class: bool = False,
        thumbnails: bool = True,
    ) -> list[Answer]:
        """Return an answer for each unit vector; see `Index.search`. Without `thumbnails` matches have none."""
        require(wrong_whole("num_matches", num_matches, example=10))
        found: list[tuple[Vectors, NDArray[np.int64], NDArray[np.float32]]] = []
        if self.resident is not None:
            num = max(1, len(self)) if one_of_a_class else num_matches
            nearest = nearest_items(self.resident, query_QD, num, allowed_QN=self._allowed(where))
            found = [(self.resident, places, distance) for places, distance in nearest]
        else:
            for query_D in query_QD:
                items = self._near(query_D, num_matches, where, one_of_a_class=one_of_a_class)
                [(places, distance)] = nearest_items(items, query_D[None], max(1, len(items)))
                found.append((items, places, distance))
        if one_of_a_class:
            found = [
                (items, *first_of_class(items, places, distance, num_matches)) for items, places, distance in found
            ]
        of_id = self._rows_of(
            sorted({item for items, places, _ in found for item in items.id_N[places].tolist()}), thumbnails=thumbnails
        )
        return [make_answer(items, places, distance, of_id, self.calibration) for items, places, distance in found]

    def _allowed(self, where: str | None) -> NDArray[np.bool_] | None:
        if where is None:
            return None
        wanted = set(self.store.read(["id"], where=where).column("id").to_pylist())
        return np.fromiter((item in wanted for item in self.id_N), dtype=bool, count=len(self))[None]

    def _near(self, query_D: NDArray[np.float32], num: int, where: str | None, *, one_of_a_class: bool) -> Vectors:
        """Return items that have the wanted ones: by the store's index, or of all rows where that cannot tell."""
        if not one_of_a_class:
            probes = None if where is not None or self.approximation is None else self.approximation.num_probes
            return items_of(self.store.nearest(query_D, num, num_probes=probes, where=where))
        num_rows = num
        while True:
            num_rows *= _MORE_FOR_CLASSES
            found = items_of(self.store.nearest(query_D, num_rows, where=where))
            if len(found) < num_rows or len(set(found.class_N.tolist())) >= num:
                return found

    def _rows_of(self, ids: Sequence[str], *, thumbnails: bool) -> dict[str, dict[str, Any]]:
        """Return the other columns of items, by id."""
        if thumbnails:
            rows = self.store.rows(ids)
        else:
            rows = self.rows.take(pa.array([self.place(item) for item in ids], pa.int64()))
        rows = rows.drop_columns(["id", "class"])
        return dict(zip(ids, rows.to_pylist(), strict=True))
