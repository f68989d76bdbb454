r"""Does the doctor leave healthy trainings alone? Ten runs of Mohs, ten of another library's loop, on two data sets.

    python benchmarks/healthy.py --omniglot omniglot/images.csv

Each training varies loss, size, data or optimiser, and ends far above its start. What the doctor says of each is
printed; the command fails (exit code 1) if it finds an error anywhere, or more than one warning in all. A training that
does not learn (R@1 below 1.3 times its start) is not healthy, and fails the command as well: it would prove nothing.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_metric_learning import distances, losses, miners
from torch import nn

import mohs
from mohs.data.dataset import Dataset
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.settings.config import override_config
from mohs.training.run_inputs import open_split_data

_GAIN = 1.3


@final
@dataclass(frozen=True)
class Case:
    """A training that has been done: what it was, R@1 of unseen classes before and after, what the doctor found."""

    name: str
    before: float
    after: float
    diagnosis: mohs.Diagnosis

    @property
    def healthy(self) -> bool:
        """Whether it learned: else it has nothing to say about false alarms."""
        return self.after > _GAIN * self.before

    def count(self, severity: str) -> int:
        """Return how many findings have this severity."""
        return sum(finding.severity == severity for finding in self.diagnosis.findings)


RUNS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "AdamW, 300 classes": {"training.optimizer": "adamw", "data.max_classes": 300},
    "supcon, rate 0.01, batches of 48": {
        "loss.name": "supcon",
        "training.learning_rate": 0.01,
        "training.batch_triplets": 48,
    },
    "triplet, closed loop": {"loss.name": "triplet", "hardness.curve": "closed-loop", "hardness.scale": "margin"},
    "semi-hard in the batch, no hidden layer": {"loss.name": "semi-hard", "model.hidden_dim": 0},
}
"""Settings of the runs of Mohs, beside those of the data."""


def library_losses() -> Mapping[str, tuple[nn.Module, nn.Module | None, dict[str, Any]]]:
    """Return the loops of the other library: the loss, its miner, and what its user tells the doctor of it."""
    return {
        "TripletMarginLoss, semi-hard, Adam": (
            losses.TripletMarginLoss(margin=0.2),
            miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard"),
            {"loss_name": "triplet", "margin": 0.2},
        ),
        "TripletMarginLoss, all triplets, SGD": (
            losses.TripletMarginLoss(margin=0.5),
            None,
            {"loss_name": "triplet", "margin": 0.5},
        ),
        "NTXentLoss, Adam": (losses.NTXentLoss(temperature=0.1), None, {"loss_name": "infonce", "batch": 64}),
        "ContrastiveLoss, Adam": (
            losses.ContrastiveLoss(pos_margin=0.0, neg_margin=0.8, distance=distances.LpDistance()),
            None,
            {"loss_name": "contrastive", "margin": 0.8},
        ),
        "MultiSimilarityLoss, Adam": (losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5), None, {}),
    }


def mohs_runs(name: str, data: mohs.DataConfig, folder: Path) -> Iterator[Case]:
    """Train, evaluate and diagnose the runs of one data set."""
    for number, (title, changed) in enumerate(RUNS.items()):
        settings = {f"data.{key}": value for key, value in data.model_dump(exclude_defaults=True).items()}
        settings |= {"out": str(folder / f"{name}-{number}"), "training.num_triplets": 9600, "seed": number, **changed}
        run = mohs.train(override_config(None, [], settings))
        measured = mohs.evaluate(run).measured
        before, after = (float(measured[row].retrieval.recall[1]) for row in ("untrained", "trained"))
        yield Case(f"{name}, run: {title}", before, after, mohs.diagnose(run))


def library_logs(name: str, data: mohs.DataConfig, folder: Path) -> Iterator[Case]:
    """Train with another library's losses, write the log and the embeddings, and give both to the doctor."""
    split = open_split_data(data, seed=0)
    train, test = (split.dataset.take(part_N) for part_N in (split.train_N, split.test_N))
    for number, (title, (loss, miner, told)) in enumerate(library_losses().items()):
        log = folder / f"{name}-{number}.csv"
        before, after, train_ND, test_ND = _library_loop(
            train, test, loss, miner, sgd=title.endswith("SGD"), log=log, seed=number
        )
        found = mohs.diagnose(
            log=log,
            embeddings=test_ND,
            labels=test.labels,
            train_embeddings=train_ND,
            train_labels=train.labels,
            **told,
        )
        yield Case(f"{name}, log: {title}", before, after, found)


def _library_loop(
    train: Dataset, test: Dataset, loss: nn.Module, miner: nn.Module | None, *, sgd: bool, log: Path, seed: int
) -> tuple[float, float, NDArray[np.float32], NDArray[np.float32]]:
    """Train 15 epochs on batches of 64 pairs of one class; write epoch, loss, lr, d_ap, d_an, recall_at_1."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    embedder = mohs.Embedder.create(mohs.ModelConfig(), mohs.ImagePolicy(size=32, channels=1), seed=seed)
    before = _recall(embedder, test)
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(embedder.parameters(), lr=0.2, momentum=0.9)
        if sgd
        else torch.optim.Adam(embedder.parameters(), lr=2e-3)
    )
    num_epochs = 15
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_epochs)
    first_C = np.unique(train.labels_id, return_index=True)[1]
    by_class = [np.flatnonzero(train.labels_id == train.labels_id[first]) for first in first_C]
    by_class = [items for items in by_class if len(items) > 1]
    with log.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "train_loss", "lr", "d_ap", "d_an", "recall_at_1"])
        for epoch in range(num_epochs):
            embedder.train()
            rows = []
            order = random.permutation(len(by_class))
            for start in range(0, len(order) - 63, 64):
                pairs_P2 = np.stack([random.choice(by_class[c], 2, replace=False) for c in order[start : start + 64]])
                items = pairs_P2.T.ravel()
                x_BD = embedder(embedder.to_input(train.pictures[items]))
                labels = torch.from_numpy(train.labels_id[items])
                value = loss(x_BD, labels, None if miner is None else miner(x_BD, labels))
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                x = x_BD.detach()
                d_ap = (x[:64] - x[64:]).norm(dim=1).mean()
                d_an = (x[:64] - x[64:].roll(1, 0)).norm(dim=1).mean()
                rows.append((float(value.detach()), float(d_ap), float(d_an)))
            mean = np.mean(rows, axis=0)
            rate = optimizer.param_groups[0]["lr"]
            writer.writerow([epoch, mean[0], rate, mean[1], mean[2], _recall(embedder, test)])
            schedule.step()
    embedder.eval()
    return before, _recall(embedder, test), embedder.embed(train.pictures), embedder.embed(test.pictures)


def _recall(embedder: mohs.Embedder, test: Dataset) -> float:
    embedder.eval()
    return float(evaluate_all_against_all(embedder.embed(test.pictures), test.labels, ks=(1,)).recall[1])


def main() -> int:
    """Train, ask the doctor, print a table; 1 if the doctor cries wolf."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--omniglot", help="table or folder: the second set; without it only the built-in one")
    parser.add_argument("--classes", type=int, default=1200, help="of each set, at most")
    arguments = parser.parse_args()
    common = {"size": 32, "channels": 1, "per_class": 2, "max_classes": arguments.classes}
    sets = {"glyphs": mohs.DataConfig(**common)}
    if arguments.omniglot:
        sets["omniglot"] = mohs.DataConfig(source=arguments.omniglot, **common)
    kinds: tuple[Callable[[str, mohs.DataConfig, Path], Iterator[Case]], ...] = (mohs_runs, library_logs)
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for name, data in sets.items():
            for kind in kinds:
                for case in kind(name, data, Path(folder)):
                    cases.append(case)
                    found = ", ".join(f"{f.severity} {f.cause}" for f in case.diagnosis.findings) or "nothing"
                    print(f"{case.name}: R@1 {case.before:.3f} to {case.after:.3f}; found: {found}", flush=True)
                    for finding in case.diagnosis.findings:
                        if finding.severity != "note":
                            print(f"    {finding.what}", flush=True)
    errors, warnings = (sum(case.count(severity) for case in cases) for severity in ("error", "warning"))
    sick = [case.name for case in cases if not case.healthy]
    print(f"{len(cases)} trainings: {errors} errors, {warnings} warnings; not healthy: {', '.join(sick) or 'none'}")
    return int(errors > 0 or warnings > 1 or bool(sick))


if __name__ == "__main__":
    sys.exit(main())
