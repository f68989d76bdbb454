"""The plan: which triplets are trained on, in which order, and why."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from mohs.artefacts import atomic_path
from mohs.bounds import ROWS
from mohs.checks import item_indices, numbers, plain_array, require, wrong_kind
from mohs.errors import InputError, Problem, reason_of
from mohs.shown import csv_cell, html_table
from mohs.sums import arrays_sum, check_format, strict_json

__all__ = ["POSITIVE_ORIGINS", "TripletPlan", "origin_column"]

POSITIVE_ORIGINS = ("class", "catalog", "augmentation", "given")
"""Where a positive comes from: another item of the anchor's class, the catalog item of that class, an augmentation of
the anchor itself (its index is the anchor's), or the caller."""

_FORMAT = 1

_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("anchor", np.int64),
    ("positive", np.int64),
    ("negative", np.int64),
    ("hardness", np.float32),
    ("achieved_hardness", np.float32),
    ("anchor_positive_distance", np.float32),
    ("anchor_negative_distance", np.float32),
)


@final
@dataclass(frozen=True, eq=False)
class TripletPlan:
    """T triplets in the order in which they are trained on, with the reason for each.

    Attributes:
        anchor, positive, negative: item indices, int64[T].
        hardness: the hardness asked for, float32[T] in [0, 1].
        achieved_hardness: where the negative found lies on the same scale, float32[T] in [0, 1].
        anchor_positive_distance, anchor_negative_distance: Euclidean, float32[T], ≥ 0, measured by the bank the plan
            was mined on; 0 for a positive that is an augmentation of the anchor.
        positive_origin: index into `POSITIVE_ORIGINS`, uint8[T].
        header: what made the plan: seed, curve, scale, fingerprints of bank and data, versions. JSON values.

    Raises `InputError` if the columns differ in length, an index is no whole number or negative, a hardness is outside
    [0, 1], a distance is negative, NaN or Inf, an origin is unknown, or a negative equals its anchor or positive.

    >>> plan = TripletPlan.of([0], [1], [2], hardness=[0.5], anchor_negative_distance=[1.25])
    >>> len(plan), plan.negative
    (1, array([2]))
    """

    anchor: NDArray[np.int64]
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]
    hardness: NDArray[np.float32]
    achieved_hardness: NDArray[np.float32]
    anchor_positive_distance: NDArray[np.float32]
    anchor_negative_distance: NDArray[np.float32]
    positive_origin: NDArray[np.uint8]
    header: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        low, high = (f"{self.hardness.min():.3g}", f"{self.hardness.max():.3g}") if len(self) else ("-", "-")
        return f"TripletPlan({len(self):,} triplets, hardness {low} to {high})"

    def _repr_html_(self) -> str:
        """Return the first five triplets as a table, for a notebook."""
        header = ("anchor", "positive", "negative", "hardness", "achieved", "d_ap", "d_an")
        columns = (
            self.anchor, self.positive, self.negative, self.hardness, self.achieved_hardness,
            self.anchor_positive_distance, self.anchor_negative_distance,
        )  # fmt: skip
        rows = zip(*(column[:5].tolist() for column in columns), strict=True)
        cells = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
        return html_table(repr(self), header, cells)

    def __post_init__(self) -> None:
        for name, dtype in _COLUMNS:
            object.__setattr__(self, name, _column(name, getattr(self, name), dtype))
        object.__setattr__(self, "positive_origin", origin_column("positive_origin", self.positive_origin))
        problems = list(_problems(self))
        if problems:
            raise InputError(*problems)

    @classmethod
    def of(
        cls,
        anchor: Any,
        positive: Any,
        negative: Any,
        *,
        hardness: Any = None,
        achieved_hardness: Any = None,
        anchor_positive_distance: Any = None,
        anchor_negative_distance: Any = None,
        positive_origin: Any = None,
        header: Mapping[str, Any] | None = None,
    ) -> "TripletPlan":
        """Return a plan from indices alone: what is not given is 0, and positives count as given by the caller."""
        if header is not None:
            require(wrong_kind("header", header, Mapping, "give a dict of JSON values"))
        anchor = plain_array("anchor", anchor)
        zeros = np.zeros(anchor.shape, dtype=np.float32)
        hardness = zeros if hardness is None else hardness
        return cls(
            anchor=anchor,
            positive=positive,
            negative=negative,
            hardness=hardness,
            achieved_hardness=hardness if achieved_hardness is None else achieved_hardness,
            anchor_positive_distance=zeros if anchor_positive_distance is None else anchor_positive_distance,
            anchor_negative_distance=zeros if anchor_negative_distance is None else anchor_negative_distance,
            positive_origin=(
                np.full(anchor.shape, POSITIVE_ORIGINS.index("given")) if positive_origin is None else positive_origin
            ),
            header=dict(header or {}),
        )

    def __len__(self) -> int:
        return len(self.anchor)

    def take(self, index: Any) -> "TripletPlan":
        """Return the triplets chosen by a slice, an index array or a mask, in that order, with the same header."""
        columns = {name: getattr(self, name)[index] for name, _ in _COLUMNS}
        return replace(self, positive_origin=self.positive_origin[index], **columns)

    def check_items(self, num_items: int, *, source: str) -> None:
        """Raise `InputError` that names `source` if a triplet has an item that is not in [0, `num_items`)."""
        for name in ("anchor", "positive", "negative"):
            item_indices(f"{source}: {name}", getattr(self, name), num_items)

    def with_header(self, values: Mapping[str, Any]) -> "TripletPlan":
        """Return the same triplets with `values` added to (or replacing parts of) the header."""
        return replace(self, header={**self.header, **values})

    def to_arrow(self) -> pa.Table:
        """Return the plan as an Arrow table: the columns above, `positive_origin` as text.

        Metadata are the header, the number of the format, and the SHA-256 of columns and header.
        """
        columns = {name: pa.array(getattr(self, name)) for name, _ in _COLUMNS}
        names = pa.array(POSITIVE_ORIGINS)
        origin = pa.DictionaryArray.from_arrays(pa.array(self.positive_origin.astype(np.int8)), names)
        table = pa.table({**columns, "positive_origin": origin})
        header = json.dumps(dict(self.header), sort_keys=True, ensure_ascii=False, allow_nan=False)
        about = {"mohs": header, "mohs.format": str(_FORMAT), "mohs.sha256": self._sum(header.encode())}
        return table.replace_schema_metadata(about)

    def _sum(self, header: bytes) -> str:
        return arrays_sum(header, {name: getattr(self, name) for name in (*dict(_COLUMNS), "positive_origin")})

    def save(self, path: str | Path) -> None:
        """Write the plan as Parquet, atomically; the same plan gives the same bytes."""
        with atomic_path(path) as temporary:
            pyarrow.parquet.write_table(self.to_arrow(), temporary, compression="zstd")

    def save_csv(self, path: str | Path, *, files: Sequence[str], labels: Sequence[str]) -> None:
        """Write the plan as CSV for other tools, atomically, without its header.

        After the plan's columns come the file of each of the three items and the classes of anchor and negative;
        `files` and `labels` are those of the N items.
        """
        table = self.to_arrow()
        origin = table.column("positive_origin").cast(pa.string())
        table = table.set_column(table.num_columns - 1, "positive_origin", origin)
        for name in ("anchor", "positive", "negative"):
            table = table.append_column(
                f"{name}_file", pa.array([csv_cell(str(files[i])) for i in getattr(self, name).tolist()])
            )
        for name in ("anchor", "negative"):
            table = table.append_column(
                f"{name}_class", pa.array([csv_cell(str(labels[i])) for i in getattr(self, name).tolist()])
            )
        with atomic_path(path) as temporary:
            pyarrow.csv.write_csv(table, temporary)

    @classmethod
    def load(cls, path: str | Path) -> "TripletPlan":
        """Return the plan in a Parquet file; raise `InputError` if it is missing, damaged or not a plan.

        Columns and header are held against their SHA-256; plans of older versions have none.
        """
        path = Path(path)
        try:
            ROWS.check(str(path), pyarrow.parquet.read_metadata(path).num_rows)
            table = pyarrow.parquet.read_table(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; check the path") from None
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: not a Parquet file ({reason_of(error)}); make a plan with 'mohs mine'") from None
        names = [*dict(_COLUMNS), "positive_origin"]
        missing = [name for name in names if table.column_names.count(name) != 1]
        metadata = table.schema.metadata or {}
        if missing or b"mohs" not in metadata:
            what = f"no column {missing[0]!r}" if missing else "no header"
            raise InputError(f"{path}: not a triplet plan ({what}); make one with 'mohs mine'")
        check_format(path, _whole(metadata.get(b"mohs.format", b"1")), _FORMAT)
        header = metadata[b"mohs"]
        values = strict_json(header, f"{path}: header")
        if not isinstance(values, dict):
            raise InputError(f"{path}: not a triplet plan (its header is no object); make one with 'mohs mine'")
        try:
            plan = cls(**_columns_of(table), header=values)
        except InputError as error:
            raise InputError(*(f"{path}: {problem}" for problem in error.problems)) from None
        # Plans without the number of a format are older, and have no sum.
        if b"mohs.format" in metadata and metadata.get(b"mohs.sha256", b"") != plan._sum(header).encode():
            what = "damaged, or changed since it was written: its triplets do not match their SHA-256"
            raise InputError(f"{path}: {what}; copy or make it again")
        return plan


def _whole(text: bytes) -> int | str:
    return int(text) if text.isdigit() and len(text) < 10 else text.decode(errors="replace")


def _columns_of(table: pa.Table) -> dict[str, NDArray[Any]]:
    """Return the columns of a plan's Arrow table; raise `InputError` for missing cells and cells of another type."""
    for name, dtype in _COLUMNS:
        column = table.column(name)
        if column.type != pa.from_numpy_dtype(dtype) or column.null_count:
            found = f"{column.null_count} missing" if column.null_count else str(column.type)
            raise InputError(f"{name}: {found}, not {np.dtype(dtype)} everywhere; make the plan again")
    try:
        origin_names = table.column("positive_origin").cast(pa.string()).to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"positive_origin: no names ({reason_of(error)}); make the plan again") from None
    unknown = sorted(set(map(str, origin_names)) - set(POSITIVE_ORIGINS))
    if unknown:
        raise InputError(f"positive_origin: {unknown[0]!r} is not one of {', '.join(POSITIVE_ORIGINS)}")
    origin = np.array([POSITIVE_ORIGINS.index(name) for name in origin_names], dtype=np.uint8)
    return {name: table.column(name).to_numpy() for name, _ in _COLUMNS} | {"positive_origin": origin}


def origin_column(name: str, values: Any) -> NDArray[np.uint8]:
    """Return origins of positives as uint8[T], indices into `POSITIVE_ORIGINS`; raise `InputError` for others."""
    array = _column(name, values, np.int64)
    unknown = np.flatnonzero((array < 0) | (array >= len(POSITIVE_ORIGINS)))
    if unknown.size:
        value = array.ravel()[unknown[0]]
        raise InputError(f"plan: row {unknown[0]}: {name} {value} is unknown ({unknown.size} rows in all); use 0 to 3")
    return array.astype(np.uint8)


def _column(name: str, values: Any, dtype: Any) -> NDArray[Any]:
    """Return a column as it is kept; raise `InputError` for what would become another number, or is none."""
    array = numbers(name, values)
    if np.issubdtype(dtype, np.integer) and array.dtype.kind == "f" and array.size:
        whole = np.isfinite(array) & (np.abs(array) < 2.0**53) & (array == np.trunc(array))
        first = np.flatnonzero(~whole)
        row = first[0] if first.size else 0
        what = f"{array.ravel()[row]} at row {row} is of type {array.dtype}, not a whole number"
        raise InputError(Problem(name, what, "give integers"))
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise InputError(Problem(name, f"{array.max()} is not below 2**63", "give item indices"))
    with np.errstate(over="ignore"):  # what is beyond float32 becomes Inf, and is refused
        return np.asarray(array, dtype=dtype, order="C")


def _problems(plan: TripletPlan) -> list[str]:
    """Return one line for each rule the columns break; rules that need equal lengths wait until those hold."""
    lengths = {name: getattr(plan, name).shape for name, _ in (*_COLUMNS, ("positive_origin", None))}
    if len(set(lengths.values())) > 1 or len(lengths["anchor"]) != 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in lengths.items())
        return [f"plan: columns differ in shape ({listed}); give one value per triplet"]
    rules = [
        ("anchor", plan.anchor < 0, "is negative", "use item indices from 0"),
        ("positive", plan.positive < 0, "is negative", "use item indices from 0"),
        ("negative", plan.negative < 0, "is negative", "use item indices from 0"),
        ("negative", plan.negative == plan.anchor, "is the anchor", "use an item of another class"),
        ("negative", plan.negative == plan.positive, "is the positive", "use an item of another class"),
    ]
    for name in ("hardness", "achieved_hardness"):
        value = getattr(plan, name)
        rules.append((name, ~((value >= 0) & (value <= 1)), "is not in [0, 1]", "0 is easiest, 1 hardest"))
    for name in ("anchor_positive_distance", "anchor_negative_distance"):
        value = getattr(plan, name)
        wrong = ~((value >= 0) & (value < np.inf))
        rules.append((name, wrong, "is negative, NaN or Inf", "give Euclidean distances"))
    problems = []
    for name, broken, rule, fix in rules:
        rows = np.flatnonzero(broken)
        if rows.size:
            value = getattr(plan, name)[rows[0]]
            problems.append(f"plan: row {rows[0]}: {name} {value} {rule} ({rows.size} rows in all); {fix}")
    return problems
