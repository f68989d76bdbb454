"""Which strategies collapse, and whether the guard sees it in time.

A grid: strategies × learning rates × margins × batch norm on and off × data sets, the small network, two pictures of
each class, the guard watching but not acting. Cells are told apart by what happened: a cell has **collapsed** if the
spread of its test embeddings ends below a tenth of the untrained network's, or R@1 on unseen classes ends below the
untrained network's by more than two standard errors. Then: was the first warning there before R@1 had lost a third of
its best value, and did the guard stay quiet (no verdict "collapse") where nothing collapsed?

    python benchmarks/bench_collapse.py                                     the whole grid
    python benchmarks/bench_collapse.py --pictures 9000 --only hardest      a part of it
"""

import argparse
import csv
import itertools
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import final

import numpy as np

from mohs.config import DataConfig, GuardConfig, HardnessConfig, LossConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.data.images import ImagePolicy
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.evaluation.spread import spread
from mohs.model.embedder import Embedder
from mohs.runs import SplitData, open_split_data
from mohs.training.events import Event, GuardEvent, SegmentEvent
from mohs.training.loop import fit

STRATEGIES = ("hardest", "sigmoid", "closed loop", "default")
LEARNING_RATES = (1e-3, 4e-3, 1.6e-2)
MARGINS = (0.2, 0.6)


@final
@dataclass(frozen=True)
class Cell:
    """One run of the grid and what came of it. Triplets are counted from the run's start; -1 is never."""

    data: str
    strategy: str
    learning_rate: float
    margin: float
    batch_norm: bool
    untrained_recall: float
    best_recall: float
    final_recall: float
    untrained_spread: float
    final_spread: float
    final_loss: float
    collapsed: bool
    third_lost_at: int
    first_warning_at: int
    first_collapse_at: int
    signal: str
    seconds: float

    @property
    def warned_in_time(self) -> bool:
        """Whether a warning came no later than the end of the segment in which R@1 had lost a third of its best."""
        return self.first_warning_at >= 0 and (self.third_lost_at < 0 or self.first_warning_at <= self.third_lost_at)


def settings(
    strategy: str, *, data: DataConfig, rate: float, margin: float, batch_norm: bool, pictures: int, seed: int = 0
) -> RunConfig:
    """Return the settings of a cell; all strategies show the same number of pictures."""
    loss = LossConfig(name="triplet", margin=margin)
    match strategy:
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
            num_triplets=pictures // loss.pictures_per_triplet, learning_rate=rate, num_segments=10, device="cpu"
        ),
        guard=GuardConfig(action="warn"),
    )


def run_cell(name: str, strategy: str, split: SplitData, config: RunConfig) -> Cell:
    """Train one cell and return what happened."""
    train_set, test_set = split.dataset.take(split.train_N), split.dataset.take(split.test_N)
    policy = ImagePolicy(size=config.data.size, channels=config.data.channels, fit=config.data.fit)
    embedder = Embedder.create(config.model, policy, seed=config.seed)

    def look() -> tuple[float, float]:
        x_ND = embedder.embed(test_set.pictures)
        return evaluate_all_against_all(x_ND, test_set.labels).recall[1], spread(x_ND).std_sqrt_dim

    untrained_recall, untrained_spread = look()
    recalls, triplets, guards, losses = [untrained_recall], [0], list[GuardEvent](), [math.nan]
    spreads = [untrained_spread]

    def listen(event: Event) -> None:
        if isinstance(event, GuardEvent):
            guards.append(event)
        elif isinstance(event, SegmentEvent):
            recall, now = look()
            recalls.append(recall)
            spreads.append(now)
            triplets.append(seen[-1])
        elif hasattr(event, "triplets"):
            seen.append(event.triplets)
            losses.append(event.loss)

    seen = [0]
    began = time.perf_counter()
    fit(embedder, train_set, config, listeners=(listen,))
    best = max(recalls)
    lost = [
        t for t, r in zip(triplets, recalls, strict=True) if t > triplets[int(np.argmax(recalls))] and r < best * 2 / 3
    ]
    noise = 2 * math.sqrt(max(untrained_recall * (1 - untrained_recall), 1e-4) / len(test_set))
    collapses = [event.triplets for event in guards if event.level == "collapse"]
    return Cell(
        data=name,
        strategy=strategy,
        learning_rate=config.training.learning_rate,
        margin=config.loss.margin,
        batch_norm=config.model.batch_norm,
        untrained_recall=untrained_recall,
        best_recall=best,
        final_recall=recalls[-1],
        untrained_spread=untrained_spread,
        final_spread=spreads[-1],
        final_loss=float(np.mean(losses[-10:])),
        collapsed=spreads[-1] < untrained_spread / 10 or recalls[-1] < untrained_recall - noise,
        third_lost_at=lost[0] if lost else -1,
        first_warning_at=guards[0].triplets if guards else -1,
        first_collapse_at=collapses[0] if collapses else -1,
        signal=guards[0].signal if guards else "",
        seconds=time.perf_counter() - began,
    )


def grid(
    sets: Sequence[tuple[str, DataConfig]], *, pictures: int, only: Sequence[str], rates: Sequence[float],
    margins: Sequence[float], batch_norms: Sequence[bool],
) -> Iterator[Cell]:  # fmt: skip
    """Yield the cells of the grid, one after another. A margin means nothing to the default's loss: it runs once."""
    for name, data in sets:
        split = open_split_data(data, seed=0)
        for strategy, rate, margin, batch_norm in itertools.product(only, rates, margins, batch_norms):
            if strategy == "default" and margin != margins[0]:
                continue
            config = settings(strategy, data=data, rate=rate, margin=margin, batch_norm=batch_norm, pictures=pictures)
            yield run_cell(name, strategy, split, config)


def summary(cells: Sequence[Cell]) -> list[str]:
    """Return a line for each strategy, and what the guard did."""
    lines = []
    for strategy in dict.fromkeys(cell.strategy for cell in cells):
        own = [cell for cell in cells if cell.strategy == strategy]
        dead = [cell for cell in own if cell.collapsed]
        late = [cell for cell in dead if not cell.warned_in_time]
        loud = [cell for cell in own if not cell.collapsed and cell.first_collapse_at >= 0]
        lines.append(
            f"{strategy}: {len(dead)} of {len(own)} cells collapsed; warned in time in {len(dead) - len(late)} of "
            f"{len(dead)}; verdicts in healthy cells: {len(loud)} of {len(own) - len(dead)}"
        )
    return lines


def main() -> None:
    """Run the grid, print each cell as it ends, and write it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=30_000)
    parser.add_argument("--classes", type=int, default=1500)
    parser.add_argument("--only", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--rates", nargs="+", type=float, default=list(LEARNING_RATES))
    parser.add_argument("--margins", nargs="+", type=float, default=list(MARGINS))
    parser.add_argument("--batch-norm", nargs="+", default=["on", "off"], choices=["on", "off"])
    parser.add_argument("--omniglot", help="folder of class folders or table; left out if not given")
    parser.add_argument("--out", type=Path, default=Path("build/bench-collapse.csv"))
    arguments = parser.parse_args()
    glyphs = DataConfig(size=32, channels=1, per_class=2, max_classes=arguments.classes)
    sets = [("glyphs", glyphs)]
    if arguments.omniglot:
        sets.append(("omniglot", glyphs.model_copy(update={"source": arguments.omniglot})))
    cells = []
    print(
        "data      strategy     rate    margin bn   untrained best  final  spread  collapsed warned third lost verdict"
    )
    for cell in grid(
        sets, pictures=arguments.pictures, only=arguments.only, rates=arguments.rates, margins=arguments.margins,
        batch_norms=[name == "on" for name in arguments.batch_norm],
    ):  # fmt: skip
        cells.append(cell)
        print(
            f"{cell.data:9} {cell.strategy:12} {cell.learning_rate:<7.2g} {cell.margin:<6} "
            f"{'on ' if cell.batch_norm else 'off'}  {cell.untrained_recall:8.3f} {cell.best_recall:6.3f} "
            f"{cell.final_recall:6.3f} {cell.final_spread:7.4f}  {'yes' if cell.collapsed else 'no ':9} "
            f"{cell.first_warning_at:6} {cell.third_lost_at:6} {cell.first_collapse_at:6} {cell.signal} "
            f"{cell.seconds:.0f} s",
            flush=True,
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Cell)])
        writer.writeheader()
        writer.writerows(asdict(cell) for cell in cells)
    print(*summary(cells), sep="\n")
    print(f"written: {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
