"""Fine-tuning a pretrained network against leaving it as it is, on classes that training has not seen.

Half of the classes (the first by name) train, the other half is the test: every picture of it is a query against all
others. Measured are the frozen network (its own pooled features, by cosine; then with a head trained on them, preset
"frozen"), the presets "photos" and "fine-tune", and a run that must go wrong: everything learns, at a rate of 1e-2. The
guard has to see it.

    python benchmarks/bench_finetune.py
    python benchmarks/bench_finetune.py --only photos --size 128

Differences are to the frozen row that is better at that measure, picture by picture, with a 95% interval over classes.
The exit code is 1 if "photos" does not beat the frozen network by more than the interval, a run takes longer than ten
minutes, or if the guard lets the run at 1e-2 pass.
"""

import argparse
import csv
import shutil
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import TrainingError
from mohs.evaluation.intervals import class_difference_interval
from mohs.evaluation.retrieval import RetrievalResult, evaluate_all_against_all
from mohs.model.embedder import Embedder
from mohs.runs import train_on
from mohs.settings.config import RunConfig, override_config
from mohs.settings.presets import preset_settings
from mohs.training.events import Event, GuardEvent
from mohs.training.run_inputs import SplitData, open_split_data

SHARED = Path(__file__).resolve().parents[2] / "shared"
USUAL = "tf_efficientnet_lite0"
# The weights of mobilenetv2_100 in ../shared were made for padding on both sides.
OPTIONS = {"mobilenetv2_100": {"pad_type": "same"}}
RUNS = ("frozen", "photos", "fine-tune", "1e-2")
MAX_MINUTES = 10.0


def hits(result: RetrievalResult) -> NDArray[np.float64]:
    """Return for each query 1 if the nearest picture is of its class, else 0."""
    return result.hit_at_1.astype(np.float64)


def precisions(result: RetrievalResult) -> NDArray[np.float64]:
    """Return the average precision of each query."""
    return result.average_precision


@final
@dataclass(frozen=True)
class Row:
    """What was measured of one network, and what it took to train it."""

    name: str
    result: RetrievalResult
    minutes: float
    cpu_minutes: float
    caught: bool = False  # the guard saw a collapse, and went back


def write_halves(archive: Path, folder: Path) -> Path:
    """Return a table of two halves of the classes, the first for training; a zip is unpacked first."""
    folder.mkdir(parents=True, exist_ok=True)
    if archive.is_dir():
        table = archive / "images.csv"
    else:
        if not any(folder.iterdir()):
            with zipfile.ZipFile(archive) as files:
                files.extractall(folder)
        [table] = folder.glob("*/images.csv")
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    classes = sorted({row["class"] for row in rows})
    first_half = set(classes[: len(classes) // 2])
    halves = folder / "halves.csv"
    with halves.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "class", "split"))
        for row in rows:
            file = (table.parent / row["file"]).resolve()
            writer.writerow((file, row["class"], "train" if row["class"] in first_half else "test"))
    return halves


def settings(
    name: str,
    halves: Path,
    weights: Path,
    *,
    backbone: str = USUAL,
    size: int,
    triplets: int,
    seed: int,
    more: Sequence[str] = (),
) -> RunConfig:
    """Return the settings of a run: a preset on this network and these pictures, or the run that must go wrong."""
    own = {
        "seed": seed,
        "data.source": str(halves),
        "data.size": size,
        "data.fit": "crop",
        "model.backbone": backbone,
        "model.weights": str(weights),
        "model.backbone_options": OPTIONS.get(backbone, {}),
        "model.mean": (0.5, 0.5, 0.5),
        "model.std": (0.5, 0.5, 0.5),
        "training.num_triplets": triplets,
        "training.batch_triplets": 48,
        "training.num_segments": 5,
    }
    if name == "1e-2":
        own["training.learning_rate"] = 1e-2
    preset = {} if name == "1e-2" else preset_settings(name)
    return override_config(None, more, own, preset=preset)


@torch.inference_mode()
def pooled_features(embedder: Embedder, dataset: Dataset) -> NDArray[np.float32]:
    """Return the backbone's features at unit length: the network as it came, without a head."""
    embedder.eval()
    blocks = [
        torch.nn.functional.normalize(embedder.features(embedder.to_input(dataset.pictures[i : i + 64]))).numpy()
        for i in range(0, len(dataset), 64)
    ]
    return np.concatenate(blocks)


def train_and_measure(name: str, data: SplitData, config: RunConfig, folder: Path) -> Row:
    """Train into a folder of its own and measure on the test half; the untrained network is not measured again."""
    shutil.rmtree(folder, ignore_errors=True)
    config = config.model_copy(update={"out": str(folder)})
    guards = list[GuardEvent]()

    def listen(event: Event) -> None:
        if isinstance(event, GuardEvent):
            guards.append(event)

    began, cpu = time.perf_counter(), time.process_time()
    run = train_on(data, config, listeners=(listen,))
    minutes, cpu_minutes = (time.perf_counter() - began) / 60, (time.process_time() - cpu) / 60
    for event in guards:
        print(f"  {name}: guard at triplet {event.triplets}: {event.level}: {event.cause}; {event.action}", flush=True)
    test = data.dataset.take(data.test_N)
    result = evaluate_all_against_all(run.embedder().embed(test.pictures, batch_size=64), test.labels)
    return Row(name, result, minutes, cpu_minutes, any(event.level == "collapse" for event in guards))


def show(row: Row, frozen: Sequence[Row], labels: NDArray[np.str_]) -> bool:
    """Print a row; return whether R@1 and mAP are above those of every frozen row by more than the interval."""
    text = f"{row.name:24} {row.result.recall[1]:.4f}  {row.result.mean_average_precision:.4f}"
    better = bool(frozen)
    for values in (hits, precisions) if frozen else ():
        best_Q = max((values(other.result) for other in frozen), key=lambda value_Q: float(value_Q.mean()))
        difference_Q = values(row.result) - best_Q
        low, high = class_difference_interval(difference_Q, labels)
        text += f"   {difference_Q.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
        better = better and low > 0
    print(f"{text}   {row.minutes:5.1f}  {row.cpu_minutes:5.1f}", flush=True)
    return better


def main() -> int:
    """Measure, and return 1 if what the module's docstring says does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="zip or folder with images.csv", default=SHARED / "data" / "caltech30.zip"
    )
    parser.add_argument("--backbone", default=USUAL, help="of timm")
    parser.add_argument("--weights", type=Path, help="of the backbone; default: those in ../shared")
    parser.add_argument("--size", type=int, default=96, help="side of the pictures in pixels")
    parser.add_argument("--triplets", type=int, default=4000, help="two pictures each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(RUNS), choices=RUNS)
    parser.add_argument("--set", dest="more", action="append", default=[], help="settings, as of mohs train")
    parser.add_argument("--out", type=Path, default=Path("build/bench-finetune"))
    arguments = parser.parse_args()
    if arguments.weights is None:
        arguments.weights = SHARED / "weights" / f"{arguments.backbone}_imagenet.safetensors"
    for file in (arguments.data, arguments.weights):
        if not file.exists():
            print(f"bench_finetune: {file}: no such file; give it with --data or --weights", file=sys.stderr)
            return 2
    halves = write_halves(arguments.data, arguments.out / "pictures")

    def config_of(name: str) -> RunConfig:
        return settings(
            name, halves, arguments.weights, backbone=arguments.backbone, size=arguments.size,
            triplets=arguments.triplets, seed=arguments.seed,
            more=arguments.more,
        )  # fmt: skip

    data = open_split_data(config_of("frozen").data, seed=arguments.seed)
    test = data.dataset.take(data.test_N)
    plain = Embedder.create(config_of("frozen").model, ImagePolicy(arguments.size, 3, "crop"), seed=arguments.seed)
    print(f"{int(data.train_N.sum())} pictures train, {len(test)} pictures of unseen classes are queries")
    print(f"{'':24} R@1     mAP      R@1: difference, 95%        mAP: difference, 95%      minutes  CPU")
    pooled = evaluate_all_against_all(pooled_features(plain, test), test.labels)
    frozen = [Row("frozen, pooled features", pooled, 0.0, 0.0)]
    show(frozen[0], (), test.labels)
    failed = []
    for name in arguments.only:
        try:
            row = train_and_measure(name, data, config_of(name), arguments.out / name)
        except TrainingError as error:
            print(f"{name}: {error}", flush=True)
            if name != "1e-2":
                failed.append(f"{name} was ended")
            continue
        better = show(row, frozen, test.labels)
        if name == "frozen":
            frozen.append(row)
        elif name == "1e-2" and not row.caught:
            failed.append("the guard let the run at 1e-2 pass")
        elif name == "photos" and not better:
            failed.append("photos does not beat the frozen network")
        if row.minutes > MAX_MINUTES:
            failed.append(f"{name} took {row.minutes:.1f} minutes (CPU {row.cpu_minutes:.1f})")
    for line in failed:
        print(f"does not hold: {line}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
