"""The items of an index on disk: a LanceDB table, changed in transactions, each of which makes a new version."""

import contextlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from math import sqrt
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mohs.errors import InputError, MohsError, Problem, reason_of
from mohs.index.places import Place, place_of

__all__ = ["FIXED_COLUMNS", "KEPT_S", "Store", "item_schema", "vectors_of"]

FIXED_COLUMNS = ("id", "file", "path", "class", "role", "vector", "thumbnail")
_TABLE = "items"
_KEY = b"lance-schema:unenforced-primary-key:position"
# The index of the vectors keeps a byte for each number; of so many times the wanted rows the exact vectors decide.
_REFINED = 4
# A change makes a fragment, and each makes all later changes slower, by some 0.3 ms. So every few versions the newest
# fragments are gathered into one, as many as have so few rows together that a change hardly waits for it.
_GATHER_EVERY_VERSIONS, _GATHERED_ROWS = 16, 2048
# Compaction writes all items anew, which takes a time that grows with them. It waits for a number of fragments as the
# root of the items; gathered ones make that rare.
_MIN_FRAGMENTS, _FRAGMENTS_PER_ROOT = 16, 0.2
# How long a change waits for another writer's.
_WAIT_S = 60.0
# Each version is a file.
_CLEAN_EVERY_VERSIONS = 256
# How long no change comes in a pause, and how often one is waited for. Where there is none, and more than so many
# versions could go, changes have to wait.
_PAUSE_S, _MOST_WAITS, _MOST_REPLACED = 0.5, 20, 1024
KEPT_S = 120.0
"""How long a version can still be read after a newer one has replaced it."""


def item_schema(embedding_dim: int, extras: Sequence[pa.Field] = ()) -> pa.Schema:
    """Return the columns of an index: the fixed ones, then those of the user's table.

    `id` names an item and is there once; `file` is as the table has it and `path` where it lies; `vector` is
    float32[D], of unit length; `thumbnail` holds a PNG.
    """
    vector = pa.list_(pa.float32(), embedding_dim)
    kinds = (pa.string(), pa.string(), pa.string(), pa.string(), pa.string(), vector, pa.binary())
    return pa.schema([*(pa.field(name, kind) for name, kind in zip(FIXED_COLUMNS, kinds, strict=True)), *extras])


def vectors_of(rows: pa.Table) -> NDArray[np.float32]:
    """Return the column `vector` as float32[N, D]."""
    column = rows.column("vector").combine_chunks()
    dim = column.type.list_size
    flat: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), dim)


@final
class Store:
    """A LanceDB table of items. Each change is one transaction: a killed process leaves the state before or after it.

    A reader keeps the version that it was opened at (`newest` gives one), so that what is read together is of one
    version, whoever writes meanwhile. Changes wait for each other (`mohs.lock`), in a bucket LanceDB has them take
    turns. They tidy up now and then: small fragments become one, and versions that newer ones have replaced for two
    minutes are cleaned up; what still reads such a version is told so. `version` is the number of the one that is read.
    """

    def __init__(self, table: Any, place: Place) -> None:
        self._table = table
        self._place = place
        self.version = int(table.version)

    @classmethod
    def create(cls, where: Path | Place, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> "Store":
        """Write a new store from batches of rows, in one transaction; raise what their iteration raises."""
        place = place_of(where)
        raised: list[BaseException] = []

        def rows() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except BaseException as error:
                raised.append(error)  # of which LanceDB would leave the text alone
                raise

        with place.reaching():
            try:
                table = _connect(place).create_table(_TABLE, rows(), schema=schema)
            except Exception:
                if raised:
                    raise raised[0] from None
                raise
        return cls(table, place)

    @classmethod
    def open(cls, where: Path | Place) -> "Store":
        """Return the store in a folder or a bucket; raise `InputError` if there is none."""
        place = place_of(where)
        is_there = place.has_folder(f"{_TABLE}.lance")
        try:
            if not is_there:
                raise ValueError("no table of items")
            table = _connect(place).open_table(_TABLE)
        except (ValueError, RuntimeError, OSError) as error:
            raise InputError(
                Problem(place.uri, f"no store of items ({reason_of(error)})", "build the index again")
            ) from None
        return cls(table, place)

    def newest(self) -> "Store":
        """Return the newest version on disk: this very store, if there is none since."""
        table = self._writer()
        return self if int(table.version) == self.version else Store(table, self._place)

    @property
    def schema(self) -> pa.Schema:
        """The columns and their types."""
        return self._table.schema

    def __len__(self) -> int:
        return int(self._table.count_rows())

    def read(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pa.Table:
        """Return rows, those for which the SQL expression `where` holds.

        Raises `InputError` for an expression that cannot be read; columns are listed if one is not there.
        """
        query = self._table.search().limit(None)
        if columns is not None:
            query = query.select(list(columns))
        return self._found(query, where)

    def nearest(
        self, query_D: NDArray[np.float32], num: int, *, num_probes: int | None = None, where: str | None = None
    ) -> pa.Table:
        """Return id, class and vector of the nearest rows, at most `num`, those for which `where` holds.

        With `num_probes` by the index of the vectors, which looks into so many of its cells and may miss some; without,
        every row is compared. Raises `InputError` as `read` does.
        """
        query = self._table.search(query_D, vector_column_name="vector").distance_type("l2").limit(num)
        query = query.select(["id", "class", "vector", "_distance"])
        by_index = num_probes is not None
        query = query.nprobes(num_probes).refine_factor(_REFINED) if by_index else query.bypass_vector_index()
        return self._found(query, where).select(["id", "class", "vector"])

    def index_vectors(self, num_partitions: int) -> "Store":
        """Index the vectors, in one transaction, and return the new version; an index that was there is replaced."""
        from lancedb.index import IvfSq

        config = IvfSq(distance_type="l2", num_partitions=num_partitions, max_iterations=20, sample_rate=64)
        self._writer().create_index("vector", config=config, replace=True)
        return self.newest()

    def _found(self, query: Any, where: str | None) -> pa.Table:
        if where is not None:
            query = query.where(where)
        try:
            return query.to_arrow()
        except (ValueError, RuntimeError, OSError) as error:
            if self._place.is_lost(error):
                raise self._place.unreadable(error) from None
            if self._is_cleaned_up():
                what, fix = f"version {self.version} is cleaned up, there are newer ones", "read the newest"
                raise InputError(Problem(self._place.uri, what, fix)) from None
            if where is None:
                raise self._place.unreadable(error) from None
            names = ", ".join(map(repr, (name for name in self.schema.names if name not in ("vector", "thumbnail"))))
            raise InputError(
                Problem("where", f"{where!r} cannot be read ({reason_of(error)})", f"the columns are {names}")
            ) from None

    def rows(self, ids: Sequence[str]) -> pa.Table:
        """Return the rows of these ids, in this order, without vectors; all must be there."""
        names = [name for name in self.schema.names if name != "vector"]
        found = self.read(names, where=_id_in(ids)) if ids else self.read(names, where="false")
        place = {item: i for i, item in enumerate(found.column("id").to_pylist())}
        return found.take(pa.array([place[item] for item in ids], pa.int64()))

    def vector(self, item: str) -> NDArray[np.float32]:
        """Return the vector [D] of the item with this id, which must be there."""
        x_D: NDArray[np.float32] = vectors_of(self.read(["vector"], where=_id_in([item])))[0]
        return x_D

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Return those of the ids that are not there."""
        known = set(self.read(["id"], where=_id_in(ids)).column("id").to_pylist()) if ids else set()
        return [item for item in ids if item not in known]

    def add(self, rows: pa.Table) -> None:
        """Add rows whose ids are new; an id that is there already stays as it is."""
        self._change(lambda table, rows: table.merge_insert("id").when_not_matched_insert_all().execute(rows), rows)

    def replace(self, rows: pa.Table) -> None:
        """Put rows in the place of those with the same ids, and add the others."""
        self._change(
            lambda table, rows: (
                table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
            ),
            rows,
        )

    def remove(self, ids: Sequence[str]) -> None:
        """Take the items with these ids out."""
        if ids:
            self._change(lambda table, _: table.delete(_id_in(ids)))

    def compact(self) -> None:
        """Make small fragments one, and clean up versions that newer ones have replaced for two minutes.

        Each step is one transaction. Raises `InputError` if another writer came between, or the disk is full.
        """
        table = self._writer()
        try:
            _compact(table)
            _clean_up(table)
        except (ValueError, RuntimeError, OSError) as error:
            raise InputError(
                Problem(self._place.uri, f"cannot be compacted ({reason_of(error)})", "try again")
            ) from None

    def _change(self, write: Callable[[Any, Any], object], rows: pa.Table | None = None) -> None:
        # One at a time, since a fragment that is gathered must not be changed meanwhile.
        with self._place.changing("changing the index", _WAIT_S) as is_alone:
            # A table of its own: writing moves the version that a table reads.
            table = self._writer()
            if not is_alone:
                _make_key(table)
                rows = None if rows is None else rows.cast(table.schema)
            before = int(table.version)
            write(table, rows)
            # If this fails the change is made all the same: another writer came between, or the disk is full.
            with contextlib.suppress(ValueError, RuntimeError, OSError):
                if is_alone and _crosses(before, int(table.version), _GATHER_EVERY_VERSIONS):
                    _gather(table)
                statistics = table.stats()
                most = _MIN_FRAGMENTS + _FRAGMENTS_PER_ROOT * sqrt(statistics["num_rows"])
                is_full = statistics["fragment_stats"]["num_fragments"] > most
                if is_full or _crosses(before, int(table.version), _CLEAN_EVERY_VERSIONS):
                    self._tidy_beside()

    def _tidy_beside(self) -> None:
        """Compact and clean up in a thread, in a pause of the changes: no change need wait for it.

        The process waits for the thread at its end.
        """
        name = f"tidy up {self._place.uri}"
        if all(thread.name != name for thread in threading.enumerate()):
            threading.Thread(target=self._tidy, name=name).start()

    def _tidy(self) -> None:
        # A change preempts a compaction, and what that wrote is lost. So it waits for a pause, or for the next time.
        with contextlib.suppress(MohsError, ValueError, RuntimeError, OSError):
            for _ in range(_MOST_WAITS):
                before = self._writer()
                time.sleep(_PAUSE_S)
                if self._writer().version == before.version:
                    self.compact()
                    return
            if len(_replaced(self._writer())) > _MOST_REPLACED:
                with self._place.changing("tidying up the index", _WAIT_S):
                    self.compact()

    def _is_cleaned_up(self) -> bool:
        try:
            return all(each["version"] != self.version for each in self._writer().list_versions())
        except (MohsError, ValueError, RuntimeError, OSError):
            return False

    def _writer(self) -> Any:
        with self._place.reaching():
            return _connect(self._place).open_table(_TABLE)


def _make_key(table: Any) -> None:
    """Have LanceDB see that two processes, which do not wait for each other, add the same id: only one of them does."""
    with contextlib.suppress(ValueError, RuntimeError, OSError):  # another process does this, too
        if table.schema.field("id").nullable:
            table.alter_columns({"path": "id", "nullable": False})
        if _KEY not in (table.schema.field("id").metadata or {}):
            table.set_unenforced_primary_key("id")
            table.checkout_latest()


def _crosses(before: int, after: int, every: int) -> bool:
    return after // every > before // every


def _gather(table: Any) -> None:
    """Make one fragment of the newest ones, in one transaction: their rows are written again as they are.

    LanceDB's own compaction cannot be told to leave large fragments alone.
    """
    # One row more than are gathered: a fragment that is seen in part is too large.
    newest = table.search().select(["role"]).with_row_id(True).limit(None)
    newest = newest.offset(max(0, table.count_rows() - _GATHERED_ROWS - 1))
    address_N = newest.to_arrow()["_rowid"].to_numpy()
    # The upper half of an address is the number of its fragment.
    fragment_F, num_rows_F = np.unique(address_N >> np.uint64(32), return_counts=True)
    is_newest_F = np.cumsum(num_rows_F[::-1])[::-1] <= _GATHERED_ROWS
    if is_newest_F.sum() > 1:
        first = int(fragment_F[is_newest_F][0]) << 32
        rows = table.search().where(f"_rowid >= {first}").limit(None).to_arrow()
        table.merge_insert("id").when_matched_update_all().execute(rows)


def _compact(table: Any) -> None:
    table.optimize(cleanup_older_than=timedelta(days=36500))


def _clean_up(table: Any) -> None:
    """Delete the versions that nothing reads any more."""
    replaced = _replaced(table)
    if replaced:
        # The newest of these was read until a newer one came, which is less than `KEPT_S` ago: it stays. LanceDB counts
        # the age from a moment later on.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            table.optimize(cleanup_older_than=datetime.now() - max(replaced) + timedelta(seconds=KEPT_S / 12))


def _replaced(table: Any) -> list[datetime]:
    """Return when the versions were made that are as old as nothing needs to read any more."""
    now = datetime.now()
    made = [each["timestamp"] for each in table.list_versions()]
    return [when for when in made if now - when >= timedelta(seconds=KEPT_S)]


def _id_in(ids: Sequence[str]) -> str:
    quoted = ", ".join("'" + item.replace("'", "''") + "'" for item in ids)
    return f"id IN ({quoted})"


def _connect(place: Place) -> Any:
    # A compaction that another change came before is no news; LanceDB would write a line for it.
    os.environ.setdefault("LANCEDB_LOG", "warn,lance::dataset::optimize=error")
    try:
        import lancedb
    except ImportError:
        raise InputError("mohs[search]: an index needs LanceDB; pip install 'mohs[search]'") from None
    return lancedb.connect(place.uri, storage_options=place.storage_options)
