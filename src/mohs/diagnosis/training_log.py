"""What a training wrote down as it went: columns of numbers, from a CSV of any library or from a run's events."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from mohs.data.rows import read_rows
from mohs.diagnosis.stuck import finite_tail
from mohs.errors import InputError, at_most_20

__all__ = ["Column", "TrainingLog", "log_of_events", "read_training_log"]

Column = NDArray[np.float64]

# Names in use, lower case, with "_" for blanks, dots, dashes and slashes; the first is ours.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "loss": ("loss", "train_loss", "training_loss", "loss_train"),
    "val_loss": ("val_loss", "valid_loss", "validation_loss", "eval_loss", "test_loss", "loss_val"),
    "accuracy": ("accuracy", "acc", "train_accuracy", "train_acc", "training_accuracy", "binary_accuracy"),
    "val_accuracy": (
        "val_accuracy",
        "val_acc",
        "valid_accuracy",
        "validation_accuracy",
        "test_accuracy",
        "test_acc",
        "val_binary_accuracy",
    ),
    "learning_rate": ("learning_rate", "lr", "rate"),
    "positive_distance": ("positive_distance", "d_ap", "dap", "ap_distance", "pos_dist", "pos_distance", "d_pos"),
    "negative_distance": ("negative_distance", "d_an", "dan", "an_distance", "neg_dist", "neg_distance", "d_neg"),
    "active_fraction": ("active_fraction", "active", "fraction_active", "nonzero_fraction", "frac_active"),
    "spread": ("spread",),
}
_POSITIONS = ("epoch", "step", "iteration", "iter", "batch", "global_step")


@final
@dataclass(frozen=True, eq=False)
class TrainingLog:
    """Numbers of a training by time, float64[T] each; None where there is no such column, NaN where a cell is empty.

    Attributes:
        source: where it comes from, for messages.
        position: the number of each row, increasing.
        unit: what the position counts: "epoch", "step" or "row".
        loss, val_loss: as the training reports them.
        accuracy, val_accuracy: in [0, 1].
        learning_rate: per step.
        positive_distance, negative_distance: means of d_ap and d_an over what was trained on.
        active_fraction: share of triplets with a loss above 0.
        spread: of the embeddings, see `mohs.evaluation.spread`.
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
        for values in (self.val_accuracy, self.accuracy):
            if values is not None and len(tail := finite_tail(values, 0.1)):
                return float(tail.mean())
        return None

    def learned(self) -> bool:
        """Return whether an accuracy says that something was learned: a loss may rest where no more is to be gained."""
        accuracy = self.last_accuracy()
        return accuracy is not None and accuracy > 0.65

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

    Columns are known by their usual names (`loss`, `train_loss`, `val_loss`, `acc`, `val_accuracy`, `lr`, `d_ap`,
    `d_an`, `active_fraction`, …; upper case, blanks, dots, dashes and slashes do not matter), others are passed over.
    An empty cell is a number that was not written in that row; "nan" and "inf" are kept as losses that broke. An
    accuracy above 1 is in percent.

    Raises `InputError`, a line for each problem, if the file cannot be read, has fewer than 2 rows, has none of `loss`,
    `val_loss`, `accuracy` and `val_accuracy`, names one of them twice, or holds a cell that is not a number.
    """
    path = Path(path)
    if path.suffix.lower() in (".parquet", ".pq"):
        raise InputError(f"{path}: a log is a CSV file; write it as CSV")
    try:
        cells, rows = read_rows(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; give a CSV file (a run folder needs no --log)") from None
    problems: list[str] = []
    columns: dict[str, Column] = {}
    for field, names in _NAMES.items():
        given = [name for name in cells if _plain(name) in names]
        if len(given) > 1:
            problems.append(f"{path}: columns {' and '.join(map(repr, given))} are both {field}; remove one")
        elif given:
            values = _numbers(path, given[0], cells[given[0]], rows, problems)
            if field.endswith("loss"):
                # An empty cell and a loss that broke must not look the same.
                broken = [cell.strip().lower().lstrip("+-") == "nan" for cell in cells[given[0]]]
                values[broken] = math.inf
            else:
                values[~np.isfinite(values)] = math.nan
            columns[field] = values
    judged = {name for field in ("loss", "val_loss", "accuracy", "val_accuracy") for name in _NAMES[field]}
    if not judged & set(map(_plain, cells)):
        problems.append(
            f"{path}: columns {', '.join(map(repr, cells))}: none is a loss or an accuracy; name one 'loss', "
            "'val_loss', 'accuracy' or 'val_accuracy'"
        )
    if len(rows) < 2:
        problems.append(f"{path}: {len(rows)} rows; a log needs 2 or more")
    unit, position = "row", np.arange(1, len(rows) + 1, dtype=np.float64)
    named = [name for position_name in _POSITIONS for name in cells if _plain(name) == position_name]
    if named:
        given_position = _numbers(path, named[0], cells[named[0]], rows, problems)
        # Keras and others begin again at 0 in a file that is written to twice: rows then count for themselves.
        if np.isfinite(given_position).all() and (np.diff(given_position) > 0).all():
            unit = "epoch" if _plain(named[0]) == "epoch" else "step"
            position = given_position
    for field in ("accuracy", "val_accuracy"):
        largest = np.nanmax(columns[field], initial=0.0) if field in columns else 0.0
        if largest > 100.0 or (field in columns and np.nanmin(columns[field], initial=0.0) < 0.0):
            problems.append(f"{path}: {field} is neither in [0, 1] nor in percent; correct it or leave it out")
        elif largest > 1.0:
            columns[field] = columns[field] / 100.0
    if problems:
        raise InputError(*at_most_20(problems))
    return TrainingLog(str(path), position, unit, **columns)


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

    names = {field.name for field in fields(TrainingLog)} - {"source", "position", "unit"}
    columns = {name: column(name) for name in names if name in steps[0]}
    return TrainingLog(source, np.array([step["step"] for step in steps], dtype=np.float64), "step", **columns)


def _plain(name: str) -> str:
    plain = name.strip().lower()
    for mark in " .-/":
        plain = plain.replace(mark, "_")
    return plain


def _numbers(path: Path, name: str, cells: Sequence[str], rows: Sequence[int], problems: list[str]) -> Column:
    values = np.full(len(cells), math.nan)
    for i, cell in enumerate(cells):
        text = cell.strip()
        if not text:
            continue
        try:
            values[i] = float(text)
        except ValueError:
            problems.append(f"{path}: row {rows[i]}: column {name!r}: {cell!r} is not a number; correct it or empty it")
    return values
