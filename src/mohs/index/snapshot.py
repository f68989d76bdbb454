"""One version of an index: what an answer is made of, whoever changes the index meanwhile."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mohs.checks import require, wrong_whole
from mohs.index.answers import Answer, first_of_class, make_answer
from mohs.index.calibration import Calibration
from mohs.index.nearest import Vectors, nearest_items
from mohs.index.store import Store, vectors_of

__all__ = ["Snapshot"]


@final
@dataclass(frozen=True, eq=False)
class Snapshot:
    """The items of one version in memory, thumbnails apart, and what a distance means among them.

    Attributes:
        store: the version on disk, for filters and thumbnails.
        vectors: the N items, in order of their ids.
        rows: their other columns but for thumbnails, [N] in the same order.
        calibration: None if the index is not calibrated.
    """

    store: Store
    vectors: Vectors
    rows: pa.Table
    calibration: Calibration | None

    @classmethod
    def read(cls, store: Store, calibration: Calibration | None) -> "Snapshot":
        """Return all items of a store's version."""
        names = [name for name in store.schema.names if name != "thumbnail"]
        rows = store.read(names).sort_by("id")
        id_N, class_N = (np.array(rows.column(name).to_pylist(), dtype=object) for name in ("id", "class"))
        return cls(store, Vectors(id_N, class_N, vectors_of(rows)), rows.drop_columns(["vector"]), calibration)

    @property
    def version(self) -> int:
        """The number of the store's version."""
        return self.store.version

    def place(self, item: str) -> int | None:
        """Return the position of an item among the N, None if there is none of this id."""
        ids = self.vectors.id_N
        i = bisect_left(ids, item)
        return i if i < len(ids) and ids[i] == item else None

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
        vectors, allowed_1N = self.vectors, None
        if where is not None:
            wanted = set(self.store.read(["id"], where=where).column("id").to_pylist())
            allowed_1N = np.fromiter((item in wanted for item in vectors.id_N), dtype=bool, count=len(vectors))[None]
        num = len(vectors) if one_of_a_class else num_matches
        found = nearest_items(vectors, query_QD, max(1, num), allowed_QN=allowed_1N)
        if one_of_a_class:
            found = [first_of_class(vectors, *each, num_matches) for each in found]
        of_id = self._rows_of(sorted({item for items, _ in found for item in items.tolist()}), thumbnails=thumbnails)
        return [make_answer(vectors, items, distance, of_id, self.calibration) for items, distance in found]

    def _rows_of(self, items: Sequence[int], *, thumbnails: bool) -> dict[str, dict[str, Any]]:
        if thumbnails:
            rows = self.store.rows([self.vectors.id_N[item] for item in items])
        else:
            rows = self.rows.take(pa.array(items, pa.int64()))
        return {row["id"]: row for row in rows.to_pylist()}
