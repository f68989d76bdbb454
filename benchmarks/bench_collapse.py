"""Which strategies collapse, and whether the guard sees it in time and keeps silent otherwise.

A grid: strategies × learning rates × margins × batch norm on and off × data sets, the small network, two pictures of
each class. A cell has **collapsed** if the spread of its test embeddings ends below a tenth of the untrained network's,
if R@1 on unseen classes ends below the untrained network's by more than two standard errors, or if the guard had to end
the run. R@1 is measured after every segment (a tenth of the run), as the guard's own bank is.

"hardest" and "sigmoid" are left to themselves, the guard only watching. "closed loop", "default" and "momentum pairs"
run with the settings as they come, which includes the guard's corrective action (`guard.action`); next to each stands
the same run with the guard only watching, so that the effect of each part is seen. A guarded run in which the guard did
nothing *is* the watched one, so it is not run again.

For each strategy are counted: collapsed cells; of these, those in which the first warning came no later than the
segment in which R@1 had lost a third of its best value; and cells with a verdict of a collapse (an action, where the
guard acts) among those that did not collapse, apart for healthy cells and for cells that lost a third of R@1 on the way
and recovered. Of a guarded cell, the watched twin tells which of these it is.

    python benchmarks/bench_collapse.py --omniglot omniglot/images.csv      the whole grid; cells in the CSV are skipped
    python benchmarks/bench_collapse.py --only hardest --batch-norm off     a part of it
    python benchmarks/bench_collapse.py --table                             the tables of the CSV as Markdown
"""

import argparse
import csv
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from mohs.data.images import ImagePolicy
from mohs.errors import TrainingError
from mohs.evaluation.collapse import spread
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.model.embedder import Embedder
from mohs.settings.config import (
    DataConfig,
    GuardConfig,
    HardnessConfig,
    LossConfig,
    MemoryConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)
from mohs.training.events import Event, GuardEvent, SegmentEvent, StepEvent
from mohs.training.loop import fit
from mohs.training.run_inputs import SplitData, open_split_data

WATCHED, GUARDED = ("hardest", "sigmoid"), ("closed loop", "default", "momentum pairs")
_IN_BATCH = ("default", "momentum pairs")
ONLY_WATCHING = ", guard only watching"
LEARNING_RATES = (1e-3, 4e-3, 1.6e-2)
MARGINS = (0.2, 0.6)
_ORDER = (*WATCHED, *(name + how for name in GUARDED for how in ("", ONLY_WATCHING)))
_HEAD = ("strategy", "collapsed", "of these warned in time", "verdicts in healthy cells",
         "verdicts in cells that recovered", "corrections")  # fmt: skip


@final
@dataclass(frozen=True)
class Cell:
    """One run of the grid and what came of it. Triplets are counted from the run's start; -1 is never."""

    data: str
    strategy: str
    learning_rate: float
    margin: float
    batch_norm: bool
    pictures: int
    classes: int
    seed: int
    num_queries: int
    untrained_recall: float
    best_recall: float
    final_recall: float
    untrained_spread: float
    final_spread: float
    collapsed: bool
    third_lost_at: int
    first_warning_at: int
    first_verdict_at: int
    signal: str
    num_actions: int
    stopped: bool
    seconds: float

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells the cell from others."""
        return tuple(getattr(self, field.name) for field in fields(self)[:8])

    @property
    def guarded(self) -> bool:
        """Whether the guard may act."""
        return self.strategy in GUARDED

    @property
    def warned_in_time(self) -> bool:
        """Whether a warning came no later than the end of the segment in which R@1 had lost a third of its best."""
        return self.first_warning_at >= 0 and (self.third_lost_at < 0 or self.first_warning_at <= self.third_lost_at)


def settings(
    strategy: str,
    *,
    data: DataConfig,
    rate: float,
    margin: float,
    batch_norm: bool,
    pictures: int,
    seed: int = 0,
    num_segments: int = 10,
) -> RunConfig:
    """Return the settings of a cell; all strategies show the same number of pictures."""
    loss = LossConfig(name="triplet", margin=margin)
    match strategy.removesuffix(ONLY_WATCHING):
        case "hardest":
            hardness = HardnessConfig(curve="constant", cap=1.0, scale="log-rank")
        case "sigmoid":
            hardness = HardnessConfig(curve="sigmoid", cap=0.85, scale="range")
        case "closed loop":
            hardness = HardnessConfig(curve="closed-loop", cap=1.0, scale="log-rank")
        case _:
            hardness, loss = HardnessConfig(), LossConfig()
    return RunConfig(
        seed=seed,
        data=data,
        model=ModelConfig(batch_norm=batch_norm),
        hardness=hardness,
        loss=loss,
        training=TrainingConfig(
            num_triplets=pictures // loss.pictures_per_triplet,
            learning_rate=rate,
            num_segments=num_segments,
            device="cpu",
        ),
        # The default has them from 8,000 classes on, which no set of the grid has.
        memory=MemoryConfig(num_negatives=8 if strategy.startswith("momentum pairs") else None),
        guard=GuardConfig() if strategy in GUARDED else GuardConfig(action="warn"),
    )


def run_cell(name: str, strategy: str, split: SplitData, config: RunConfig, *, pictures: int) -> Cell:
    """Train one cell and return what happened."""
    train_set, test_set = split.dataset.take(split.train_N), split.dataset.take(split.test_N)
    policy = ImagePolicy(size=config.data.size, channels=config.data.channels, fit=config.data.fit)
    embedder = Embedder.create(config.network, policy, seed=config.seed)

    def look() -> tuple[float, float]:
        x_ND = embedder.embed(test_set.pictures)
        return evaluate_all_against_all(x_ND, test_set.labels).recall[1], spread(x_ND).std_sqrt_dim

    untrained_recall, untrained_spread = look()
    recalls, triplets, guards = [untrained_recall], [0], list[GuardEvent]()
    seen = 0

    def listen(event: Event) -> None:
        nonlocal seen
        match event:
            case GuardEvent():
                guards.append(event)
            case StepEvent():
                seen = event.triplets
            case SegmentEvent():
                recalls.append(look()[0])
                triplets.append(seen)
            case _:
                pass

    began = time.process_time()
    stopped = False
    try:
        fit(embedder, train_set, config, listeners=(listen,))
    except TrainingError as error:
        stopped = True
        print(f"stopped: {error}", file=sys.stderr)
    final_recall, final_spread = look()
    noise = 2 * math.sqrt(max(untrained_recall * (1 - untrained_recall), 1e-4) / len(test_set))
    verdicts = [event for event in guards if event.level == "collapse"]
    lost = _third_lost(recalls, triplets)
    return Cell(
        data=name,
        strategy=strategy,
        learning_rate=config.training.learning_rate,
        margin=config.loss.margin,
        batch_norm=config.model.batch_norm,
        pictures=pictures,
        classes=len(np.unique(train_set.labels)),
        seed=config.seed,
        num_queries=len(test_set),
        untrained_recall=untrained_recall,
        best_recall=max(recalls),
        final_recall=final_recall,
        untrained_spread=untrained_spread,
        final_spread=final_spread,
        collapsed=stopped or final_spread < untrained_spread / 10 or final_recall < untrained_recall - noise,
        third_lost_at=lost,
        first_warning_at=guards[0].triplets if guards else -1,
        first_verdict_at=verdicts[0].triplets if verdicts else -1,
        signal=guards[0].signal if guards else "",
        num_actions=sum(event.action != "none" for event in guards),
        stopped=stopped,
        seconds=time.process_time() - began,
    )


def _third_lost(recalls: Sequence[float], triplets: Sequence[int]) -> int:
    """Return after how many triplets R@1 was first seen below two thirds of the best before it; -1: never."""
    best_so_far = np.maximum.accumulate(recalls)
    lost = np.flatnonzero(np.asarray(recalls) < best_so_far * 2 / 3)
    return triplets[lost[0]] if lost.size else -1


def grid(
    sets: Sequence[tuple[str, DataConfig]],
    done: Sequence[Cell],
    *,
    pictures: int,
    only: Sequence[str],
    rates: Sequence[float],
    margins: Sequence[float],
    batch_norms: Sequence[bool],
    seed: int = 0,
    num_segments: int = 10,
) -> Iterator[Cell]:
    """Yield the cells of the grid that are not done yet, one after another.

    A margin means nothing to the loss of the default and of momentum pairs: they run once. After a guarded cell comes
    the same cell with the guard only watching: run if the guard acted, else copied.
    """
    known = {cell.key: cell for cell in done}
    for name, data in sets:
        split = open_split_data(data, seed=0)
        classes = len(np.unique(split.dataset.labels[split.train_N]))
        for strategy, rate, margin, batch_norm in itertools.product(only, rates, margins, batch_norms):
            if strategy in _IN_BATCH and margin != margins[0]:
                continue
            twin = strategy + ONLY_WATCHING
            config, twin_config = (
                settings(
                    label, data=data, rate=rate, margin=margin, batch_norm=batch_norm, pictures=pictures, seed=seed,
                    num_segments=num_segments,
                )
                for label in (strategy, twin)
            )  # fmt: skip
            place = (rate, config.loss.margin, batch_norm, pictures, classes, seed)
            cell = known.get((name, strategy, *place))
            if cell is None:
                cell = run_cell(name, strategy, split, config, pictures=pictures)
                yield cell
            if strategy in GUARDED and (name, twin, *place) not in known:
                acted = cell.num_actions > 0
                yield (
                    run_cell(name, twin, split, twin_config, pictures=pictures)
                    if acted
                    else replace(cell, strategy=twin)
                )


def read_cells(path: Path) -> list[Cell]:
    """Return the cells in a CSV that `append_cell` wrote; none if there is no such file."""
    if not path.exists():
        return []
    reads: dict[Any, Callable[[str], Any]] = {bool: lambda text: text == "True", int: int, float: float, str: str}
    with path.open(newline="", encoding="utf-8") as stream:
        return [Cell(**{f.name: reads[f.type](row[f.name]) for f in fields(Cell)}) for row in csv.DictReader(stream)]


def append_cell(path: Path, cell: Cell) -> None:
    """Add a cell to the CSV at once, so that a run that is cut short goes on where it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Cell)])
        if stream.tell() == 0:
            writer.writeheader()
        writer.writerow(asdict(cell))


def summary(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """Return a row for each strategy, as `_HEAD` says. A guarded cell is judged healthy or not by its watched twin."""
    rows = []
    twins = {cell.key: cell for cell in cells}
    for strategy in sorted({cell.strategy for cell in cells}, key=_ORDER.index):
        own = [cell for cell in cells if cell.strategy == strategy]
        dead = [cell for cell in own if cell.collapsed]
        judged = [(cell, twins.get((cell.data, strategy + ONLY_WATCHING, *cell.key[2:]), cell)) for cell in own]
        acted = [
            (cell.num_actions > 0 if cell.guarded else cell.first_verdict_at >= 0, twin.third_lost_at >= 0)
            for cell, twin in judged
            if not twin.collapsed
        ]
        healthy = [loud for loud, hurt in acted if not hurt]
        recovered = [loud for loud, hurt in acted if hurt]
        rows.append(
            (
                strategy,
                f"{len(dead)} of {len(own)}",
                f"{sum(cell.warned_in_time for cell in dead)} of {len(dead)}",
                f"{sum(healthy)} of {len(healthy)}",
                f"{sum(recovered)} of {len(recovered)}",
                str(sum(cell.num_actions for cell in own)) if strategy in GUARDED else "",
            )
        )
    return rows


def tables(cells: Sequence[Cell]) -> list[str]:
    """Return as Markdown: the summary, what corrections did, and what the guard missed or said without need."""
    twins = {cell.key: cell for cell in cells}
    corrected = [
        (*_place(cell), f"{cell.untrained_recall:.3f}", f"{twin.final_recall:.3f}", f"{cell.final_recall:.3f}",
         f"{twin.final_spread:.3f}", f"{cell.final_spread:.3f}", str(cell.num_actions))
        for cell in cells
        if cell.num_actions and (twin := twins.get((cell.data, cell.strategy + ONLY_WATCHING, *cell.key[2:])))
    ]  # fmt: skip
    missed = [
        (*_place(cell), f"{cell.untrained_recall:.3f}", f"{cell.best_recall:.3f}", f"{cell.final_recall:.3f}",
         _triplets(cell.third_lost_at), _triplets(cell.first_warning_at), _triplets(cell.first_verdict_at), cell.signal)
        for cell in cells
        if (cell.collapsed and not cell.warned_in_time)
        or (not cell.guarded and not cell.collapsed and cell.first_verdict_at >= 0)
    ]  # fmt: skip
    place = ("data", "strategy", "rate", "margin", "batch norm", "R@1 untrained")
    of_corrected = ("R@1 watched", "corrected", "spread watched", "corrected", "corrections")
    of_missed = ("best", "final", "a third lost at", "first warning at", "verdict at", "signal")
    return [
        *_table(_HEAD, summary(cells)),
        "",
        *_table((*place, *of_corrected), corrected),
        "",
        *_table((*place, *of_missed), missed),
    ]


def _place(cell: Cell) -> tuple[str, ...]:
    return (
        cell.data, cell.strategy, f"{cell.learning_rate:.2g}", f"{cell.margin}", "on" if cell.batch_norm else "off"
    )  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _triplets(count: int) -> str:
    return "never" if count < 0 else f"{count:,}"


def main() -> None:
    """Run what is not in the CSV yet, add each cell to it as it ends, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=30_000)
    parser.add_argument("--classes", type=int, default=1500, help="of the glyphs, a fifth of them for the test")
    strategies = (*WATCHED, *GUARDED)
    parser.add_argument("--only", nargs="+", default=list(strategies), choices=strategies)
    parser.add_argument("--rates", nargs="+", type=float, default=list(LEARNING_RATES))
    parser.add_argument("--margins", nargs="+", type=float, default=list(MARGINS))
    parser.add_argument("--batch-norm", nargs="+", default=["on", "off"], choices=["on", "off"])
    parser.add_argument("--omniglot", help="the second data set: folder of class folders, or table")
    parser.add_argument("--no-glyphs", action="store_true", help="the second data set alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench-collapse.csv"))
    parser.add_argument("--table", action="store_true", help="train nothing, print the tables of the CSV as Markdown")
    arguments = parser.parse_args()
    cells = read_cells(arguments.out)
    glyphs = DataConfig(size=32, channels=1, per_class=2, max_classes=arguments.classes)
    sets = [] if arguments.no_glyphs else [("glyphs", glyphs)]
    if arguments.omniglot:
        sets.append(("omniglot", glyphs.model_copy(update={"source": arguments.omniglot})))
    elif not arguments.table:
        print("NO OMNIGLOT: half of the grid is left out; give its folder with --omniglot (make: OMNIGLOT=folder)",
              file=sys.stderr)  # fmt: skip
    if cells and not arguments.table:
        print(f"{arguments.out}: {len(cells)} cells are there already; remove it to run them again", file=sys.stderr)
    for cell in () if arguments.table else grid(
        sets, tuple(cells), pictures=arguments.pictures, only=arguments.only, rates=arguments.rates,
        margins=arguments.margins, batch_norms=[name == "on" for name in arguments.batch_norm], seed=arguments.seed,
    ):  # fmt: skip
        cells.append(cell)
        append_cell(arguments.out, cell)
        print(
            f"{cell.data} {cell.strategy} rate {cell.learning_rate:.2g} margin {cell.margin} batch norm "
            f"{'on' if cell.batch_norm else 'off'}: R@1 {cell.untrained_recall:.3f} untrained, {cell.best_recall:.3f} "
            f"best, {cell.final_recall:.3f} final, spread {cell.final_spread:.3f}, "
            f"{'COLLAPSED' if cell.collapsed else 'healthy'}; a third lost at {_triplets(cell.third_lost_at)}, warned "
            f"at {_triplets(cell.first_warning_at)} {cell.signal}, verdict at {_triplets(cell.first_verdict_at)}, "
            f"{cell.num_actions} actions; {cell.seconds:.0f} s of CPU",
            flush=True,
        )
    print(*tables(cells), sep="\n")
    print(f"written: {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
