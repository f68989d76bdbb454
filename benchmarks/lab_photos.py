"""An idea for fine-tuning on few photographs, tried without a look at the benchmark's queries: rows of the lab book.

    python benchmarks/lab_photos.py --caltech30 caltech30 --weights mobilenetv2_100.safetensors rate=2 parameter=2

The pictures are those of the training classes of `bench_strategies.py`: of 50 classes two pictures each can train, ten
others are asked for, and the five that the benchmark holds out are left alone. Half of the classes train, the other
half is unseen; then the other way round, and both again with other halves: four runs, 1,000 queries on either protocol.
Twice as many passes are made over half as many pictures as in the benchmark, for the same number of steps.

An idea is a number of switches: `strategy` (a name of `mohs compare`), `rate` (times the preset's), `parameter` (0, 1
or 2, as tuning counts them), `pictures`, `batch`, and settings, `section.name=value`.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_strategies
import numpy as np

from mohs.compare.budget import Budget
from mohs.compare.metrics import measure
from mohs.compare.protocols import ComparisonData
from mohs.compare.strategies import find_strategies
from mohs.compare.training import Choice, strategy_config, train_strategy
from mohs.data.dataset import Dataset
from mohs.data.split import limit_per_class, split_by_class
from mohs.errors import TrainingError
from mohs.settings.config import parse_settings
from mohs.training.run_inputs import open_split_data

NUM_SPLITS, NUM_QUERIES = 2, 10
SWITCHES = ("strategy", "rate", "parameter", "pictures", "batch")
OWN = ("model.backbone_options", "model.mean", "model.std")
FIRST_SEED = 100  # of the halves; tuning in the benchmark halves the same classes with seed 0


def first(dataset: Dataset, count: int) -> np.ndarray:
    """Return as many items of each class, int64, as the benchmark takes them."""
    return limit_per_class(dataset, count, seed=0)


def halves(source: Path, size: int) -> Iterator[ComparisonData]:
    """Yield the four comparisons within the training classes."""
    chosen = bench_strategies.SETS["caltech30"]
    config = chosen.data.model_copy(update={"source": str(source), "split_by": "class", "size": size})
    split = open_split_data(config, seed=0)
    known = split.dataset.take(split.train_N)
    per_class = chosen.per_class
    assert per_class is not None
    trains_N, used_N = (
        np.isin(np.arange(len(known)), first(known, count))
        for count in (per_class.train, per_class.train + per_class.held_out)
    )
    for seed in range(FIRST_SEED, FIRST_SEED + NUM_SPLITS):
        in_half_N = split_by_class(known.table.labels, {"test": 0.5}, seed=seed) == "test"
        for unseen_N in (in_half_N, ~in_half_N):
            train = known.take(np.flatnonzero(trains_N & ~unseen_N))
            asked = [known.take(np.flatnonzero(~used_N & side_N)) for side_N in (~unseen_N, unseen_N)]
            held_out, test = (part.take(first(part, NUM_QUERIES)) for part in asked)
            yield ComparisonData(
                "lab", train, train.labels, first(train, 1), held_out, held_out.labels, test, test.labels, False
            )  # fmt: skip


def network(backbone: str, weights: Path, size: int) -> dict[str, Any]:
    """Return the settings of the benchmark's network, or of another backbone, with pictures of a size."""
    settings = {**bench_strategies.SETS["caltech30"].settings, "model.weights": str(weights), "data.size": size}
    if backbone != settings["model.backbone"]:  # padding, mean and spread were those of the benchmark's weights
        settings = {name: value for name, value in settings.items() if name not in OWN} | {"model.backbone": backbone}
    return settings


def figures(data: ComparisonData, switches: Mapping[str, Any], network: Mapping[str, Any], seed: int) -> list[float]:
    """Return R@1 and mAP@R of unseen classes and R@1 in the catalog after one run."""
    [strategy] = find_strategies([switches.get("strategy", "default")])
    changed = {name: value for name, value in switches.items() if "." in name}
    strategy = replace(strategy, settings={**strategy.settings, **changed})
    budget = Budget(switches.get("pictures", 960), batch_pictures=switches.get("batch", 48))
    choice = Choice(switches.get("rate", 1.0), switches.get("parameter", 0))
    config = strategy_config(strategy, network, budget, choice, num_classes=data.num_classes, seed=seed)
    trained = train_strategy(strategy, data.train, config, budget, choice)
    if trained.stopped:
        raise TrainingError(trained.stopped)
    found = measure(trained.embedder, data).metrics
    return [found.unseen_recall_1, found.unseen_map_at_r, found.seen_recall_1]


def main() -> None:
    """Print the row of one idea."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--caltech30", type=Path, required=True, help="images.csv, or folder of class folders")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", default="mobilenetv2_100", help="timm's name of what the weights are of")
    parser.add_argument("--size", type=int, default=96, help="side of a picture in pixels")
    parser.add_argument("idea", nargs="*", help="switches, name=value")
    arguments = parser.parse_args()
    switches = parse_settings(arguments.idea)
    # Rate, pictures and batch have switches of their own, and these settings would be overwritten.
    decided = ("training.learning_rate", "training.num_triplets", "training.batch_triplets")
    if wrong := [name for name in switches if name in decided or ("." not in name and name not in SWITCHES)]:
        parser.error(f"{', '.join(wrong)}: not a switch; use {', '.join(SWITCHES)} or another setting, section.name")
    settings = network(arguments.backbone, arguments.weights, arguments.size)
    runs = enumerate(halves(arguments.caltech30, arguments.size))
    rows = [figures(data, switches, settings, seed) for seed, data in runs]
    means = " | ".join(f"{mean:.3f}" for mean in np.mean(rows, 0))
    print(f"| `{' '.join(arguments.idea) or '(none)'}` | {means} |")


if __name__ == "__main__":
    main()
