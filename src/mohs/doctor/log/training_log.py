"""What a training wrote down as it went: columns of numbers, from a CSV of any library or from a run's events."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from mohs.data.rows import decimal_points, read_rows
from mohs.doctor.log.columns import Meaning, is_bound, meaning, position_rank
from mohs.doctor.log.rest import end_mean
from mohs.errors import InputError, Problem, at_most_20
from mohs.evaluation.checked import Float64

__all__ = ["Column", "TrainingLog", "log_of_events", "read_training_log"]

Column = Float64

# Cells that hold no number: what was not written, and how printf, pandas and Windows write what broke.
_EMPTY: Final = ("", "none", "null", "na", "n/a", "-", "--")
_BROKEN: Final = re.compile(r"nan.*|1\.?#(qnan|snan|ind).*|#(nan|num!?)")
_ENDLESS: Final = re.compile(r"inf(inity)?|1\.?#inf.*|∞")
_NUMBER_OF_A_MEAN: Final = 5
# Beyond what a float32 holds nothing was trained: such a number broke as inf did.
_LARGEST: Final = 3.4e38


@final
@dataclass(frozen=True, eq=False)
class TrainingLog:
    """Numbers of a training by time, float64[T] each; None where there is no such column, NaN where a cell is empty.

    Attributes:
        source: where it comes from, for messages.
        position: the number of each row, never falling.
        unit: what the position counts: "epoch", "step" or "row".
        loss, val_loss: as the training reports them.
        accuracy, val_accuracy: in [0, 1].
        learning_rate: per step.
        positive_distance, negative_distance: means of d_ap and d_an over what was trained on; of a log of cosine
            similarities s_ap and s_an 1 − s.
        active_fraction: share of triplets with a loss above 0.
        spread: of the embeddings, see `mohs.evaluation.collapse`.
        auc: probability that pairs are in order, in [0, 1]; 0.5 by chance.
        equal_error_rate: of pairs, in [0, 1]; lower is better, 0.5 by chance.
        clustering: a measure of clusters (AMI, NMI, ARI), up to 1; higher is better.
        retrieval: a measure of search (recall@k, precision@k, mAP, …), in [0, 1]; by chance it is small.
        retrieval_name: what that column is called.
    """

    source: str
    position: Column
    unit: str
    loss: Column | None = None
    val_loss: Column | None = None
    accuracy: Column | None = None
    val_accuracy: Column | None = None
    learning_rate: Column | None = None
    positive_distance: Column | None = None
    negative_distance: Column | None = None
    active_fraction: Column | None = None
    spread: Column | None = None
    auc: Column | None = None
    equal_error_rate: Column | None = None
    clustering: Column | None = None
    retrieval: Column | None = None
    retrieval_name: str = "retrieval"

    def __len__(self) -> int:
        return len(self.position)

    def lacks(self, *names: str) -> str:
        """Return "" if the columns are all there, else which is not, as in "no column 'val_loss'"."""
        for name in names:
            if getattr(self, name) is None:
                return f"no column {name!r}"
        return ""

    def last_accuracy(self) -> float | None:
        """Return the mean over the last tenth, of the validation if there is one."""
        validation = end_mean(self.val_accuracy)
        return end_mean(self.accuracy) if validation is None else validation

    def peak_rate(self) -> float | None:
        """Return the largest learning rate."""
        if self.learning_rate is None or not np.isfinite(self.learning_rate).any():
            return None
        return float(np.nanmax(self.learning_rate))

    def lower_rate(self) -> dict[str, Any]:
        """Return the setting of a tenth of the learning rate; empty if the rate is not known."""
        rate = self.peak_rate()
        return {} if rate is None or rate <= 0 else {"training.learning_rate": float(f"{rate / 10:.2g}")}


def read_training_log(path: str | Path) -> TrainingLog:
    """Return the log in a CSV with a header and a row for each step or epoch.

    Columns are known by their usual names (`loss`, `train_loss_epoch`, `run - val/loss`, `acc`, `val_accuracy`, `lr`,
    `recall@1`, `val_mAP`, `EER`, `NMI`, `d_ap`, `d_an`, `s_ap`, `active_fraction`, …: `mohs.doctor.log.columns`),
    others are passed over. Of several columns with one meaning the plainest name is read (`loss` before `triplet_loss`,
    recall@1 before mAP, means over epochs before single steps), and of learning rates the largest. A scalar of
    TensorBoard (`Wall time`, `Step`, `Value`) is what its file's name says after "tag-", else the loss. Rows of one
    step that fill different columns are one row.

    An empty cell is a number that was not written in that row; "nan", "-nan(ind)" and "inf" are kept as losses that
    broke. An accuracy above 1 is in percent, and so is a cell with "%". Decimal commas are read (`decimal_points`).

    Raises `InputError`, a line for each problem, if the file cannot be read, has fewer than 2 rows, has none of `loss`,
    `val_loss`, `accuracy`, `val_accuracy` and a measure of search, names one of them twice, or holds a cell that is not
    a number.
    """
    path = Path(path)
    if path.suffix.lower() in (".parquet", ".pq", ".json", ".jsonl"):
        raise InputError(f"{path}: a log is a CSV file; write it as CSV")
    try:
        cells, rows = read_rows(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; give a CSV file (a run folder needs no --log)") from None
    plain = {name.strip().lower().replace(" ", "_"): name for name in cells}
    file = _File(path, cells, rows)
    if set(plain) == {"wall_time", "step", "value"} and len(cells) == 3:
        file = _File(path, {_tag(path): cells[plain["value"]], plain["step"]: cells[plain["step"]]}, rows)
    problems = file.problems
    known = {name: found for name in file.cells if not is_bound(name) and (found := meaning(name)) is not None}
    columns: dict[str, Column] = {}
    chosen: dict[str, str] = {}
    for of in dict.fromkeys(found.field for found in _as_meant(known).values()):
        chosen[of], columns[of] = file.column(
            of, {n: found for n, found in _as_meant(known).items() if found.field == of}
        )
    if not columns.keys() & {"loss", "val_loss", "accuracy", "val_accuracy", "retrieval"}:
        problems.append(
            f"{path}: columns {', '.join(map(repr, cells))}: none is a loss or an accuracy; name one 'loss', "
            "'val_loss', 'accuracy' or 'val_accuracy'"
        )
    if len(rows) < 2:
        problems.append(f"{path}: {len(rows)} rows; a log needs 2 or more")
    for of in ("accuracy", "val_accuracy", "auc", "retrieval", "equal_error_rate", "clustering"):
        if of in columns:
            columns[of] = file.as_share(of, chosen[of], columns[of])
    unit, position = "row", np.arange(1, len(rows) + 1, dtype=np.float64)
    places = sorted((rank, name) for name in file.cells if (rank := position_rank(name)) is not None)
    given = {name: file.numbers(name) for _, name in places}
    if problems:
        raise InputError(*at_most_20(problems))
    for name, values_T in given.items():
        # Keras and others begin again at 0 in a file that is written to twice: rows then count for themselves.
        merged = _one_row_each(values_T, columns)
        if merged is not None:
            position, columns = merged
            unit = "epoch" if position_rank(name) in (0, 1) else "step"
            break
    _similarities_as_distances(columns)
    given_columns: dict[str, Any] = {**columns}
    name = chosen.get("retrieval", "retrieval")
    return TrainingLog(str(path), position, unit, **given_columns, retrieval_name=name)


def _similarities_as_distances(columns: dict[str, Column]) -> None:
    """Replace cosine similarities of triplets by 1 − s; leave out products of any size, which are no distances."""
    for side in ("positive", "negative"):
        similarity = columns.pop(f"{side}_similarity", None)
        if similarity is not None and np.nanmax(np.abs(similarity), initial=0.0) <= 1.0 + 1e-6:
            columns.setdefault(f"{side}_distance", np.maximum(0.0, 1.0 - similarity))


def log_of_events(events: Sequence[Mapping[str, Any]], *, source: str) -> TrainingLog | None:
    """Return the steps of a run (`Run.events`) as a log; None if it has fewer than 2."""
    steps = [event for event in events if event["event"] == "step"]
    if len(steps) < 2:
        return None

    def column(name: str) -> Column | None:
        values = [step.get(name) for step in steps]
        if all(value is None for value in values):
            return None
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)

    names = {each.name for each in fields(TrainingLog)} - {"source", "position", "unit", "retrieval_name"}
    columns: dict[str, Any] = {name: column(name) for name in names if name in steps[0]}
    return TrainingLog(source, np.array([step["step"] for step in steps], dtype=np.float64), "step", **columns)


def _tag(path: Path) -> str:
    """Return what a scalar of TensorBoard is, by the name of its file: "run-NAME-tag-TAG.csv"."""
    _, tagged, tag = path.stem.partition("tag-")
    return tag if tagged else path.stem if meaning(path.stem) is not None else "loss"


def _as_meant(known: Mapping[str, Meaning]) -> Mapping[str, Meaning]:
    """Return the meanings, where an accuracy whose name says nothing stands beside losses whose names do.

    In `train_loss, valid_loss, accuracy` (fastai and many a script) it is the validation's.
    """
    meant = {found.field for found in known.values()}
    named = all(found.named_split for found in known.values() if found.field == "loss")
    if not {"loss", "val_loss"} <= meant or not named or "val_accuracy" in meant:
        return known
    return {
        name: replace(found, field="val_accuracy") if found.field == "accuracy" and not found.named_split else found
        for name, found in known.items()
    }


def _one_row_each(position_T: Column, columns: Mapping[str, Column]) -> tuple[Column, dict[str, Column]] | None:
    """Return positions that increase, with the rows of one position put together.

    None if they fall or are not all there, or if two rows of one position fill the same column.
    """
    if not np.isfinite(position_T).all():
        return None
    step_T = np.diff(position_T)
    if (step_T < 0).any():
        return None
    place_T = np.r_[0, np.cumsum(step_T > 0)]
    num = int(place_T[-1]) + 1
    merged = {}
    for of, column in columns.items():
        filled = ~np.isnan(column)
        if np.bincount(place_T[filled], minlength=num).max(initial=0) > 1:
            return None
        merged[of] = np.full(num, math.nan)
        merged[of][place_T[filled]] = column[filled]
    return (position_T[np.r_[True, step_T > 0]], merged) if num > 1 else None


def _is_broken(cell: str) -> bool:
    return _BROKEN.fullmatch(cell.strip().lower().lstrip("+-")) is not None


@final
@dataclass(frozen=True, eq=False)
class _File:
    """The cells of a log's columns by their names, the number of each row, and the problems found so far."""

    path: Path
    cells: Mapping[str, Sequence[str]]
    rows: Sequence[int]
    problems: list[str] = field(default_factory=list)

    def numbers(self, name: str) -> Column:
        """Return the numbers of a column, NaN where there is none."""
        values = np.full(len(self.rows), math.nan)
        for i, cell in enumerate(decimal_points(self.cells[name])):
            text = cell.strip().lower()
            if text in _EMPTY or _is_broken(text):
                continue
            try:
                number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
                values[i] = number if abs(number) <= _LARGEST else math.copysign(math.inf, number)
            except ValueError:
                if _ENDLESS.fullmatch(text.lstrip("+-")):
                    values[i] = math.inf
                    continue
                place = f"{self.path}: row {self.rows[i]}"
                problem = Problem(f"column {name!r}", f"{cell!r} is not a number", "correct it or empty it", file=place)
                self.problems.append(problem)
        return values

    def column(self, of: str, known: Mapping[str, Meaning]) -> tuple[str, Column]:
        """Return the column that is read for a field, of those that mean it, with its name."""
        values = {name: self.numbers(name) for name in known}
        name, column = self._nearest(of, known, values)
        if not of.endswith("loss"):
            column[~np.isfinite(column)] = math.nan
            return name, column
        # An empty cell and a loss that broke must not look the same.
        broken = np.array([_is_broken(cell) for cell in self.cells[name]], dtype=np.bool_)
        # Broken weights stay broken: "nan" between numbers is how some write that there was no validation.
        if of == "val_loss" and broken.sum() > np.isfinite(column).sum() and not broken[-1]:
            broken[:] = False
        column[broken] = math.inf
        return name, column

    def as_share(self, of: str, name: str, column: Column) -> Column:
        """Return a measure in [0, 1], which may be given in percent."""
        largest = np.nanmax(column, initial=0.0)
        # Adjusted measures of clusters are 0 by chance, and a little below it by bad luck.
        if largest > 100.0 or np.nanmin(column, initial=0.0) < (-100.0 if of == "clustering" else 0.0):
            said = repr(name) if of == "retrieval" else of
            self.problems.append(f"{self.path}: {said} is neither in [0, 1] nor in percent; correct it or leave it out")
            return column
        return column / 100.0 if largest > 1.0 else column

    def _nearest(self, of: str, known: Mapping[str, Meaning], values: Mapping[str, Column]) -> tuple[str, Column]:
        count = {name: int((~np.isnan(column)).sum()) for name, column in values.items()}
        # A single number is the summary of a training, as Hugging Face's Trainer writes at its end.
        kept = [name for name in values if count[name] > 1] or list(values)
        if of == "learning_rate":
            every = np.stack([values[name] for name in kept])
            return kept[0], np.where(np.isnan(every).all(axis=0), math.nan, np.fmax.reduce(every))
        lowest = min(known[name].rank for name in kept)
        kept = [name for name in kept if known[name].rank == lowest]
        if len({known[name].reduction for name in kept}) > 1:
            of_epochs = [n for n in kept if known[n].reduction == "epoch" and count[n] >= _NUMBER_OF_A_MEAN]
            most = max(count[name] for name in kept)
            kept = of_epochs or [name for name in kept if count[name] == most][:1]
        first = values[kept[0]]
        others = [name for name in kept[1:] if not np.array_equal(values[name], first, equal_nan=True)]
        if others and of != "retrieval":
            names = " and ".join(map(repr, [kept[0], *others]))
            self.problems.append(f"{self.path}: columns {names} are both {of}; remove one")
        return kept[0], first.copy()
