"""An index: a folder or bucket with items, the embedder that made their vectors, and what a distance means among them.

A little long, since it is one class, the public one, each method with its rule and an example.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mohs.artefacts import fingerprint
from mohs.checks import class_labels, plain_array, require, several, wrong_text, wrong_whole
from mohs.data.quarantine import BadPicture
from mohs.data.reading import read_table
from mohs.data.table import BUILT_IN, Table
from mohs.errors import InputError, Problem, at_most_20
from mohs.index.answers import Answer
from mohs.index.approximate_search import EXACT_UP_TO, Approximation, build_approximation
from mohs.index.calibration import Calibration, calibrate
from mohs.index.exact_search import Vectors
from mohs.index.places import ABOUT, EMBEDDER, Place, Stamp, place_of
from mohs.index.rows import EmbeddedItems, NewItem, item_ids, item_rows, other_columns, picture_rows
from mohs.index.snapshot import Snapshot
from mohs.index.store import FIXED_COLUMNS, Store
from mohs.model.embedder import Embedder
from mohs.sums import check_format, json_sum

__all__ = ["Index"]

_FORMAT = 1
_CALIBRATION, _APPROXIMATION = "calibration.json", "approximation.json"
_LEAST_EXACT = 20
# Of an item beside its vector, about: most of it is the thumbnail.
_ROW_BYTES = 4_000


@final
class Index:
    """Items that can be searched by picture: built, added to, corrected and asked without training.

    Exact: an answer is what a comparison with every item gives, ties by id. Vectors are kept in memory, and are read
    again when the store on disk has a new version; each answer is of one version. Threads may search at once. An index
    of more than 200,000 items leaves its vectors on disk and finds most of the nearest: `approximation` says how many.

    >>> index = Index.build("shop.index", "shop.csv", "runs/shop")       # doctest: +SKIP
    >>> index.search(["photo.jpg"])[0].label                             # doctest: +SKIP
    'ring-0815'
    """

    def __init__(self, place: Place, store: Store, embedder: Embedder) -> None:
        self.folder = place.folder
        self.embedder = embedder
        self._place = place
        self._lock = threading.Lock()
        self._store = store
        self._snapshot: Snapshot | None = None
        self._stamps: tuple[Stamp, ...] = ()

    @classmethod
    def build(
        cls,
        folder: str | Path,
        source: str | Path | Table,
        embedder: str | Path | Embedder,
        *,
        id_column: str | None = None,
        catalog: str | Path | None = None,
        exact_up_to: int = EXACT_UP_TO,
        max_bad_images: int = 0,
        set_aside: Callable[[BadPicture], None] | None = None,
        embedded: Iterable[EmbeddedItems] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> "Index":
        """Embed the pictures of a table and write a new index; the folder is there when all is in it.

        Args:
            folder: must not exist; or an address, such as "s3://shop/rings.index", with nothing under it.
            source: a CSV, Parquet file or folder, as `mohs.read_table` takes it, a `Table`, or "glyphs". Columns beside
                its own, such as a price, become columns of the index.
            embedder: a run's folder, an embedder's, or an `Embedder`; a copy of it goes into the index.
            id_column: the column that names each item; None: the file's name does.
            catalog: a second table, whose items have the role "catalog".
            exact_up_to: of more items the index is approximate, and its recall is measured; at least 20.
            max_bad_images: up to so many items whose pictures cannot be read are left out.
            set_aside: called with each of them.
            embedded: the items in order, by whoever reads and embeds their pictures (`mohs.cluster.embedding`); None:
                this process does.
            progress: called with the number of items done, and of all.

        Raises `InputError` for a folder that exists, a bad table, ids that are there twice, and pictures that cannot be
        read; `BadImagesError` for more of them than are allowed, or if there are no others; `ResourceError` if the disk
        has less room than the index will take.
        """
        require(wrong_whole("max_bad_images", max_bad_images, at_least=0, example=0))
        _require_exact_up_to(exact_up_to)
        place = place_of(folder)
        place.require_new()
        network = embedder if isinstance(embedder, Embedder) else Embedder.from_pretrained(embedder)
        table = _table(source, catalog)
        columns = other_columns(table)
        ids = item_ids(table, columns, id_column)
        place.require_room(len(table) * (4 * network.embedding_dim + _ROW_BYTES))
        schema, batches = item_rows(
            table, network, ids, columns,
            embedded=embedded, max_bad_images=max_bad_images, set_aside=set_aside, progress=progress,
        )  # fmt: skip
        with place.new() as work:
            work.save_embedder(network)
            _approximate(work, Store.create(work, batches, schema), exact_up_to)
            record = {"format": _FORMAT, "embedder": embedder_hash(network), "id_column": id_column}
            work.write(ABOUT, record)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> "Index":
        """Return the index in a folder, or at an address such as "s3://shop/rings.index".

        Raises `InputError` if it is none, of a newer format, or if its embedder is not the one that made its vectors;
        `ResourceError` if the address cannot be reached.
        """
        place = place_of(folder)
        if not place.has_file(ABOUT):
            raise InputError(Problem(place.uri, "not an index (no index.json)", "make one with 'mohs index build'"))
        about = _about(place)
        embedder = Embedder.from_pretrained(place.embedder_folder())
        if embedder_hash(embedder) != about.get("embedder"):
            raise InputError(
                Problem(place.named(EMBEDDER), "not the embedder that made the vectors", "build the index again")
            )
        return cls(place, Store.open(place), embedder)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.snapshot())

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {len(self):,} items)"

    @property
    def calibration(self) -> Calibration | None:
        """What `calibrate` learned last; None if it never did."""
        if not self._place.has_file(_CALIBRATION):
            return None
        file, record = self._place.named(_CALIBRATION), self._place.read(_CALIBRATION)
        if record.pop("index", None) not in (None, json_sum(_about(self._place))):
            raise InputError(Problem(file, "the calibration of another index", "calibrate this one"))
        return Calibration.of_record(record, place=file)

    @property
    def approximation(self) -> Approximation | None:
        """How much a search finds; None if all items are compared."""
        if not self._place.has_file(_APPROXIMATION):
            return None
        try:
            return Approximation(**self._place.read(_APPROXIMATION))
        except TypeError:
            file = self._place.named(_APPROXIMATION)
            raise InputError(Problem(file, "not what an index writes there", "mend it: mohs index compact")) from None

    def columns(self) -> tuple[str, ...]:
        """Return the names that a filter may use."""
        return tuple(name for name in self._store.schema.names if name not in ("vector", "thumbnail"))

    def vectors(self) -> Vectors:
        """Return the items of the newest version, in memory, in order of their ids."""
        return self.snapshot().vectors

    def snapshot(self) -> Snapshot:
        """Return the newest version, read from disk once; what is found in it does not change with the index."""
        with self._lock:
            store = self._store.newest()
            stamps = tuple(self._place.stamp(name) for name in (_APPROXIMATION, _CALIBRATION))
            if self._snapshot is None or store is not self._store or stamps[0] != self._stamps[0]:
                self._store, self._snapshot = store, Snapshot.read(store, self.calibration, self.approximation)
            elif stamps != self._stamps:
                self._snapshot = replace(self._snapshot, calibration=self.calibration)
            self._stamps = stamps
            return self._snapshot

    def search(
        self,
        pictures: Sequence[Any] | NDArray[np.uint8] | NDArray[np.floating],
        *,
        num_matches: int = 10,
        where: str | None = None,
        one_of_a_class: bool = False,
        as_one: bool = False,
    ) -> list[Answer]:
        """Return an answer for each picture.

        Args:
            pictures: what `Embedder.embed` takes; or vectors, float [Q, D], by the index's embedder.
            num_matches: at most so many for each, at least 1.
            where: an SQL expression on the index's columns, such as "price < 100": only such items are matches.
            one_of_a_class: only the nearest item of each class.
            as_one: all pictures are of one thing: one answer, by the mean of their vectors.

        Raises `InputError` for pictures that cannot be read, vectors of another length, and an expression that cannot
        be read.
        """
        query_QD = self._embedded(pictures)
        if as_one and len(query_QD):
            query_QD = _unit(query_QD.mean(axis=0, keepdims=True))
        return self.snapshot().search(query_QD, num_matches=num_matches, where=where, one_of_a_class=one_of_a_class)

    def calibrate(
        self,
        pictures: Sequence[Any] | NDArray[np.uint8] | NDArray[np.floating],
        labels: Sequence[str] | NDArray[Any],
        *,
        ids: Sequence[str | None] | None = None,
        max_false_acceptance: float | None = None,
        threshold_distance: float | None = None,
        seed: int = 0,
    ) -> Calibration:
        """Learn from held-out pictures when to say "unknown", and keep it in the index (`calibration.json`).

        Args:
            pictures: as in `search`; none of them was trained on.
            labels: their classes.
            ids: of each picture that is in the index itself, its id there, so that it does not find itself.
            max_false_acceptance: wanted share of pictures of unknown classes that are given a class; 0.05 if neither it
                nor a threshold is given.
            threshold_distance: instead, a threshold of one's own. What it reaches is measured.
            seed: of the folds.

        Raises `InputError` as `mohs.index.calibration.calibrate` does, and for labels that do not fit.
        """
        query_QD = self._embedded(pictures)
        class_Q = np.array([str(label) for label in class_labels("labels", labels).tolist()], dtype=object)
        if len(class_Q) != len(query_QD):
            raise InputError(
                Problem("labels", f"{len(class_Q)} for {len(query_QD)} pictures", "give one for each picture")
            )
        vectors = self.vectors()
        place = {item: i for i, item in enumerate(vectors.id_N.tolist())}
        given = [None] * len(query_QD) if ids is None else several("ids", ids, "['ring-1.png', None]")
        if len(given) != len(query_QD):
            what = f"{len(given)} for {len(query_QD)} pictures"
            raise InputError(Problem("ids", what, "give one for each picture, None for one that is not in the index"))
        own = [[place[item]] if isinstance(item, str) and item in place else [] for item in given]
        found = calibrate(
            vectors, query_QD, class_Q, own,
            max_false_acceptance=max_false_acceptance, threshold_distance=threshold_distance, seed=seed,
        )  # fmt: skip
        self._place.write(_CALIBRATION, found.as_record() | {"index": json_sum(_about(self._place))})
        return found

    def add(
        self,
        source: str | Path | Table,
        *,
        max_bad_images: int = 0,
        set_aside: Callable[[BadPicture], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Add the items of a table, in one transaction, and return how many; new classes need no training.

        Pictures that cannot be read are left out as in `build`. Raises `InputError` for ids that are there already,
        columns that the index does not have, cells of another type, and pictures that cannot be read; nothing is added
        then.
        """
        return self._add(self._rows(source, max_bad_images, set_aside, progress))

    def add_pictures(self, items: Sequence[NewItem]) -> int:
        """Add pictures that are in no table, in one transaction, and return how many.

        Raises `InputError` as `add` does, and for ids that are given twice.
        """
        ids = [item.id for item in items]
        twice = sorted({item for item in ids if ids.count(item) > 1})
        if twice:
            raise InputError(*at_most_20([Problem(repr(item), "is given twice", "give each an id") for item in twice]))
        id_column = _about(self._place)["id_column"]
        return self._add(picture_rows(items, self.embedder, self._store.schema, id_column))

    def _add(self, rows: pa.Table) -> int:
        ids = rows.column("id").to_pylist()
        there = set(ids) - set(self._store.newest().missing(ids))
        if there:
            what, fix = "there is an item of this id", "use replace, or give another id"
            raise InputError(*at_most_20([Problem(repr(item), what, fix) for item in sorted(there)]))
        self._store.add(rows)
        return len(ids)

    def replace(
        self,
        source: str | Path | Table,
        *,
        max_bad_images: int = 0,
        set_aside: Callable[[BadPicture], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Put the items of a table in the place of those with their ids, or add them; return how many.

        One transaction. Raises `InputError` as `add` does, but not for ids that are there.
        """
        rows = self._rows(source, max_bad_images, set_aside, progress)
        self._store.replace(rows)
        return len(rows)

    def remove(self, ids: Sequence[str]) -> int:
        """Take the items of these ids out, in one transaction, and return how many.

        Raises `InputError` if one is not there; nothing is taken out then.
        """
        listed = several("ids", ids, "['ring-1.png']")
        require(*(wrong_text("ids", item) for item in listed))
        unique = list(dict.fromkeys(listed))
        missing = self._store.newest().missing(unique)
        if missing:
            what, fix = "no item of this id", "see the ids in the index"
            raise InputError(*at_most_20([Problem(repr(item), what, fix) for item in missing]))
        self._store.remove(unique)
        return len(unique)

    def compact(self, *, exact_up_to: int = EXACT_UP_TO) -> None:
        """Make the store small and quick again; changes do it, too, now and then.

        Of more than `exact_up_to` items the index becomes approximate, and its recall is measured anew. Raises
        `InputError` if another process changes the index meanwhile, or the disk is full; nothing is lost then.
        """
        _require_exact_up_to(exact_up_to)
        self._store.compact()
        _approximate(self._place, self._store.newest(), exact_up_to)

    def ids_of(self, paths: Sequence[str], files: Sequence[str]) -> list[str | None]:
        """Return the id of the item that is this very file, None for files that are no item.

        `paths` are absolute; where an item has none, as in the built-in set, `files` are compared as they are written.
        """
        rows = self.snapshot().rows
        of_file: dict[str, str] = {}
        for item, path, file in zip(*(rows.column(name).to_pylist() for name in ("id", "path", "file")), strict=True):
            of_file[path or file] = item
        return [of_file.get(path) or of_file.get(file) for path, file in zip(paths, files, strict=True)]

    def info(self) -> dict[str, Any]:
        """Return what the index is, as JSON values: items, classes, columns, version, embedder, calibration."""
        found = self.snapshot()
        calibration, approximation = found.calibration, found.approximation
        return {
            "folder": str(self.folder),
            "num_items": len(found),
            "num_classes": len(set(found.class_N.tolist())),
            "embedding_dim": self.embedder.embedding_dim,
            "columns": list(self.columns()),
            "version": found.version,
            "embedder": embedder_hash(self.embedder),
            "calibration": None if calibration is None else calibration.as_record(),
            "approximation": None if approximation is None else asdict(approximation),
        }

    def check(self) -> list[str]:
        """Return what is wrong with the index, a line each: ids that are there twice, vectors that are no unit vectors.

        None of it can come from this class; it would be a sign of a damaged disk, or of another writer.
        """
        vectors = self.vectors()
        problems = []
        names, count = np.unique(vectors.id_N.astype(np.str_), return_counts=True)
        problems += [
            f"id {name!r} is there {num} times" for name, num in zip(names.tolist(), count, strict=True) if num > 1
        ]
        length_N = np.linalg.norm(vectors.x_ND.astype(np.float64), axis=1)
        bad = np.flatnonzero(~(np.abs(length_N - 1) < 1e-3))
        problems += [f"item {vectors.id_N[i]!r}: a vector of length {length_N[i]:.3g}" for i in bad[:20].tolist()]
        return problems

    def _embedded(self, pictures: Any) -> NDArray[np.float32]:
        if isinstance(pictures, np.ma.MaskedArray) or hasattr(pictures, "detach"):
            pictures = plain_array("pictures", pictures)
        if isinstance(pictures, np.ndarray) and pictures.dtype.kind == "f":
            dim = self.embedder.embedding_dim
            if pictures.ndim != 2 or pictures.shape[1] != dim or not np.isfinite(pictures).all():
                raise InputError(
                    Problem("pictures", f"vectors of shape {pictures.shape}", f"give finite float [Q, {dim}]")
                )
            return _unit(pictures)
        return self.embedder.embed(pictures)

    def _rows(
        self,
        source: str | Path | Table,
        max_bad_images: int,
        set_aside: Callable[[BadPicture], None] | None,
        progress: Callable[[int, int], None] | None,
    ) -> pa.Table:
        require(wrong_whole("max_bad_images", max_bad_images, at_least=0, example=0))
        table = _table(source, None)
        schema = self._store.schema
        columns = other_columns(table)
        ids = item_ids(table, columns, _about(self._place)["id_column"])
        unknown = [name for name in columns if name not in schema.names]
        if unknown:
            what = f"columns {', '.join(map(repr, unknown))} are not in the index"
            raise InputError(Problem(table.source, what, f"its columns are {', '.join(map(repr, self.columns()))}"))
        cells = {}
        for field in schema:
            if field.name in columns:
                try:
                    cells[field.name] = columns[field.name].cast(field.type)
                except pa.ArrowInvalid as error:
                    raise InputError(
                        Problem(table.source, f"column {field.name!r}: {error}", f"the index holds {field.type} there")
                    ) from None
        own = {name: column for name, column in cells.items() if name != "id"}
        for field in schema:
            if field.name not in own and field.name not in columns and field.name not in FIXED_COLUMNS:
                own[field.name] = pa.nulls(len(table), field.type)
        found, batches = item_rows(
            table, self.embedder, ids, own, max_bad_images=max_bad_images, set_aside=set_aside, progress=progress
        )
        return pa.Table.from_batches(batches, found).select(schema.names).cast(schema)


def _about(place: Place) -> dict[str, Any]:
    """Return what index.json says; raise `InputError` if it is missing, of another format or damaged."""
    file, about = place.named(ABOUT), place.read(ABOUT)
    check_format(file, about.get("format"), _FORMAT)
    missing = {"embedder", "id_column"} - about.keys()
    if missing:
        raise InputError(Problem(file, f"{min(missing)!r} is not there", "build the index again"))
    return about


def _approximate(place: Place, store: Store, exact_up_to: int) -> None:
    """Make the index in a place approximate if it has more items than are compared one by one, and exact if not."""
    if len(store) > exact_up_to:
        place.write(_APPROXIMATION, asdict(build_approximation(store)))
    else:
        place.remove(_APPROXIMATION)


def _require_exact_up_to(value: int) -> None:
    require(wrong_whole("exact_up_to", value, at_least=_LEAST_EXACT, example=EXACT_UP_TO))


def embedder_hash(embedder: Embedder) -> str:
    """Return 32 hex digits of the weights and settings of an embedder: equal if it gives the same vectors."""
    weights = [value.detach().cpu().float().numpy() for _, value in sorted(embedder.state_dict().items())]
    # Where the weights came from is no part of it.
    config = embedder.config.model_copy(update={"pretrained": None, "start": None})
    settings = config.model_dump_json(exclude={"weights"}) + repr(embedder.policy)
    return fingerprint(np.array([settings]), *weights)


def _table(source: str | Path | Table, catalog: str | Path | None) -> Table:
    if isinstance(source, Table):
        return source
    if isinstance(source, str) and source == BUILT_IN:
        from mohs.data.glyphs import draw_glyphs

        return draw_glyphs().table
    return read_table(source, catalog=catalog)


def _unit(x_QD: NDArray[np.floating]) -> NDArray[np.float32]:
    length_Q1 = np.linalg.norm(x_QD.astype(np.float64), axis=1, keepdims=True)
    return (x_QD / np.where(length_Q1 > 0, length_Q1, 1.0)).astype(np.float32)
