"""The cells of a comparison, strategies × seeds, one row of a CSV each: what was cut short goes on where it was."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import DAMAGED_ARRAYS, atomic_path
from mohs.compare.budget import Budget
from mohs.compare.metrics import Measured, Metrics, measure, measure_embeddings
from mohs.compare.protocols import ComparisonData
from mohs.compare.row_files import append_row, read_rows
from mohs.compare.strategies import Strategy
from mohs.compare.training import (
    Choice,
    Trained,
    made_by,
    parameter_value,
    started_embedder,
    strategy_config,
    train_strategy,
)
from mohs.data.dataset import Dataset
from mohs.errors import InputError
from mohs.evaluation.pixels import pixel_embeddings
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.evaluation.triplets import triplet_accuracy
from mohs.model.embedder import Embedder
from mohs.settings.config import RunConfig, override_config

__all__ = ["BASELINES", "Cell", "Comparison", "Results", "read_arrays", "read_cells", "run_cells"]

BASELINES = ("pixels", "untrained", "plain untrained")
"""Rows that are not trained: shrunken pictures, which have no seed; each seed's network as training finds it, with the
head that `finetune.head` asks for; and the same with a new head, where plain strategies begin with another one."""

# As in the benchmark of collapses.
_SPREAD_LEFT = 0.1


@final
@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared on what.

    Attributes:
        data: the pictures.
        settings: of every run, "section.name" to value.
        budget: of every run.
        strategies: in the order of the table.
        num_seeds: every strategy is trained with the seeds 0, 1 …; the noise of seeds is in the intervals, and of fewer
            than five little is known.
        look: whether runs of Mohs are measured after each segment too, for curves of accuracy over training; the time
            this takes is not theirs.
        own_budgets: of strategies with another budget, by name (`mohs.compare.equal_cpu`).
    """

    data: ComparisonData
    settings: Mapping[str, Any]
    budget: Budget
    strategies: tuple[Strategy, ...]
    num_seeds: int = 5
    look: bool = False
    own_budgets: Mapping[str, Budget] = field(default_factory=dict)

    def budget_of(self, name: str) -> Budget:
        """Return the budget of a strategy."""
        return self.own_budgets.get(name, self.budget)

    def training_of(
        self, strategy: Strategy, choice: Choice, budget: Budget | None = None, *, seed: int = 0
    ) -> tuple[RunConfig, float]:
        """Return the settings that a strategy is trained with, and its parameter's value; by default on its budget."""
        budget, num_classes = budget or self.budget_of(strategy.name), self.data.num_classes
        config = strategy_config(strategy, self.settings, budget, choice, num_classes=num_classes, seed=seed)
        return config, parameter_value(strategy, self.settings, choice)


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """One strategy with one seed, and what came of it; untrained by default.

    Attributes:
        data, strategy, seed: which cell.
        made_by: 16 hex digits of all that decides its figures: settings, budget, and the pictures themselves.
        budget_pictures: pictures that it was given; `num_pictures` is what it showed, in whole batches.
        learning_rate, parameter, value: what tuning chose, or the defaults.
        metrics: what the network is worth at the end.
        collapsed: the spread of the test embeddings fell to a tenth of the untrained network's, or training stopped.
            The untrained network has the head that the strategy begins with.
        below_start: R@1 on unseen classes is below the untrained network's by more than two standard errors.
        stopped: why it stopped, "" if it did not.
        active_start, active_end: mean share of active triplets or (in-batch losses) anchors in the first and last
            tenth of the steps.
        num_steps, num_pictures: as shown.
        pictures_per_s: pictures shown a second of `train_s`, wall time with embedding and mining, of which there are
            `embed_s` and `mine_s`.
        cpu_s: processor time of training.
        evaluate_s: wall time of the measurement.
    """

    data: str
    strategy: str
    seed: int
    made_by: str
    budget_pictures: int = 0
    learning_rate: float = 0.0
    parameter: str = ""
    value: float = 0.0
    metrics: Metrics
    collapsed: bool = False
    below_start: bool = False
    stopped: str = ""
    active_start: float = math.nan
    active_end: float = math.nan
    num_steps: int = 0
    num_pictures: int = 0
    pictures_per_s: float = math.nan
    train_s: float = 0.0
    embed_s: float = 0.0
    mine_s: float = 0.0
    cpu_s: float = 0.0
    evaluate_s: float

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What tells the cell from others: a cell of other settings is another one."""
        return (self.data, self.strategy, self.seed, self.made_by)


@final
@dataclass(frozen=True)
class Results:
    """Where the cells of a data set are: `cells.csv`, and in `cells/` a file of ranks and curves for each."""

    folder: Path

    @property
    def table(self) -> Path:
        """The CSV."""
        return self.folder / "cells.csv"

    def arrays_file(self, key: tuple[str, str, int, str]) -> Path:
        """Return the file of a cell's arrays."""
        _, strategy, seed, made_by = key
        return self.folder / "cells" / f"{strategy.replace(' ', '-')}-{seed}-{made_by}.npz"


def run_cells(
    comparison: Comparison,
    results: Results,
    choices: Mapping[str, Choice] | None = None,
    *,
    started: Callable[[str, int], None] = lambda *_: None,
) -> Iterator[Cell]:
    """Yield every cell of a comparison, those that are there already and those that are run now, seed by seed.

    `choices` are what tuning chose, by strategy; without, defaults. A cell is written as it ends, its arrays first, so
    that one in the CSV is whole. `started` is called with the name and the seed of a cell that is about to run.
    """
    known = {cell.key: cell for cell in read_cells(results.table)}

    pictures = comparison.data.fingerprint()

    def there(name: str, seed: int, made_by: str) -> Cell | None:
        cell = known.get((comparison.data.name, name, seed, made_by))
        return cell if cell is not None and results.arrays_file(cell.key).is_file() else None

    for seed in range(comparison.num_seeds):
        starts: dict[tuple[str, int | None], Metrics] = {}
        for name in _baselines(comparison, seed):
            own = {"finetune.head": "random"} if name == "plain untrained" else {}
            config = override_config(None, (), {**comparison.settings, **own, "seed": seed})
            hashed = made_by(config, pictures, name)
            cell = there(name, seed, hashed)
            if cell is None:
                started(name, seed)
                cell, measured = _baseline(comparison.data, config, name, hashed)
                _write(results, cell, measured, {})
            yield cell
            if name != "pixels":
                starts[_head_of(config)] = cell.metrics
        for strategy in comparison.strategies:
            choice = (choices or {}).get(strategy.name, Choice())
            budget = comparison.budget_of(strategy.name)
            config, value = comparison.training_of(strategy, choice, seed=seed)
            what = (strategy.name, strategy.parameter.name, value, asdict(budget))
            hashed = made_by(config, pictures, *what, *(["look"] if comparison.look else []))
            cell = there(strategy.name, seed, hashed)
            if cell is None:
                started(strategy.name, seed)
                looks = _Looks(comparison.data)
                trained = train_strategy(
                    strategy, comparison.data.train, config, budget, choice,
                    look=looks.look if comparison.look else None,
                )  # fmt: skip
                began = time.perf_counter()
                measured = measure(trained.embedder, comparison.data, trained.plan)
                evaluate_s = time.perf_counter() - began
                if _head_of(config) not in starts:
                    found = measure(started_embedder(config, comparison.data.train), comparison.data)
                    starts[_head_of(config)] = found.metrics
                start = starts[_head_of(config)]
                cell = _cell(comparison, strategy, config, hashed, value, measured, trained, start, evaluate_s)
                _write(results, cell, measured, {**trained.curves, **looks.curves()})
            yield cell


def _head_of(config: RunConfig) -> tuple[str, int | None]:
    """Return what tells starts of one seed apart: how the head begins, and its hidden layer."""
    return config.finetune.head, config.network.hidden_dim


def _baselines(comparison: Comparison, seed: int) -> list[str]:
    head = comparison.settings.get("finetune.head", "random")
    needed = {
        "pixels": seed == 0,
        "untrained": True,
        "plain untrained": head != "random" and any(strategy.is_plain for strategy in comparison.strategies),
    }
    return [name for name in BASELINES if needed[name]]


def _baseline(data: ComparisonData, config: RunConfig, name: str, made_by: str) -> tuple[Cell, Measured]:
    began = time.perf_counter()
    if name == "pixels":
        size = min(16, config.data.size)

        def shrunk(part: Dataset) -> NDArray[np.float32]:
            return pixel_embeddings(np.asarray(part.pictures), size=size)

        measured = measure_embeddings(shrunk(data.train), shrunk(data.held_out), shrunk(data.test), data)
    else:
        measured = measure(started_embedder(config, data.train), data)
    cell = Cell(
        data=data.name,
        strategy=name,
        seed=config.seed,
        made_by=made_by,
        metrics=measured.metrics,
        evaluate_s=time.perf_counter() - began,
    )
    return cell, measured


def _cell(
    comparison: Comparison,
    strategy: Strategy,
    config: RunConfig,
    made_by: str,
    value: float,
    measured: Measured,
    trained: Trained,
    start: Metrics,
    evaluate_s: float,
) -> Cell:
    active = trained.curves.get("active", np.full(1, np.nan))
    tenth = max(1, len(active) // 10)
    return Cell(
        data=comparison.data.name,
        strategy=strategy.name,
        seed=config.seed,
        made_by=made_by,
        metrics=measured.metrics,
        budget_pictures=comparison.budget_of(strategy.name).num_pictures,
        learning_rate=config.training.learning_rate,
        parameter=strategy.parameter.name,
        value=value,
        collapsed=bool(trained.stopped) or measured.metrics.spread < _SPREAD_LEFT * start.spread,
        below_start=is_below_start(measured.metrics, start, int((measured.unseen_rank > 0).sum())),
        stopped=trained.stopped,
        active_start=float(active[:tenth].mean()),
        active_end=float(active[-tenth:].mean()),
        num_steps=trained.num_steps,
        num_pictures=trained.num_pictures,
        pictures_per_s=trained.num_pictures / max(trained.train_s, 1e-9),
        train_s=trained.train_s,
        embed_s=trained.embed_s,
        mine_s=trained.mine_s,
        cpu_s=trained.cpu_s,
        evaluate_s=evaluate_s,
    )


def is_below_start(metrics: Metrics, start: Metrics, num_queries: int) -> bool:
    """Return whether a network is worse than it was at its start: see `Cell.below_start`."""
    share = start.unseen_recall_1
    noise = 2 * math.sqrt(max(share * (1 - share), 1e-4) / num_queries)
    return metrics.unseen_recall_1 < share - noise


@final
class _Looks:
    """Top-50 accuracy on the test, and accuracy on random training triplets, each time that it is asked to look."""

    def __init__(self, data: ComparisonData) -> None:
        self._data = data
        self._found: list[tuple[float, float]] = []

    def look(self, embedder: Embedder) -> None:
        """Measure a network."""
        test, train = self._data.test, self._data.train
        top_50 = evaluate_all_against_all(embedder.embed(test.pictures), test.labels, ks=(50,)).recall[50]
        triplets = triplet_accuracy(embedder.embed(train.pictures), train.labels).accuracy
        self._found.append((top_50, triplets))

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """Return what was found, by name."""
        if not self._found:
            return {}
        top_50, triplets = np.array(self._found).T
        return {"look_top_50": top_50, "look_triplets": triplets}


def _write(results: Results, cell: Cell, measured: Measured, curves: Mapping[str, NDArray[Any]]) -> None:
    names = ("rank", "wrong_classes", "num_classes")
    arrays: dict[str, Any] = {
        f"{protocol}_{name}": getattr(measured, f"{protocol}_{name}")
        for protocol in ("unseen", "seen")
        for name in names
    }
    arrays |= {f"curve_{name}": values for name, values in curves.items()}
    with atomic_path(results.arrays_file(cell.key)) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    append_row(results.table, cell)


def read_cells(path: Path) -> list[Cell]:
    """Return the cells in a CSV, the later of two alike; none without a file."""
    return list({cell.key: cell for cell in read_rows(path, Cell)}.values())


def read_arrays(results: Results, cell: Cell) -> dict[str, NDArray[Any]]:
    """Return a cell's arrays by name: those of `Measured`, and its curves as "curve_NAME".

    Raises `InputError` if the file is damaged.
    """
    path = results.arrays_file(cell.key)
    try:
        with path.open("rb") as stream, np.load(stream) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except DAMAGED_ARRAYS as error:
        raise InputError(f"{path}: cannot be read ({error}); remove the file to run that cell again") from None
