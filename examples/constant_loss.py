"""A Siamese network whose loss is the same in every epoch: a sigmoid on the distance, and steps that are too large.

    python examples/constant_loss.py

Pairs of pictures, same character or not; a network embeds both, and a sigmoid turns their distance into a "score" for
the contrastive loss y·s² + (1 − y)·max(0, 1 − s)². A distance is never negative, so the score is never below 0.5, and
it has no slope where distances are large. The first large steps throw the pictures apart: every score is 1, every pair
is "different", the loss is 0.5 for good, and accuracy is 50%. The loop leaves a CSV of losses and one of test pairs
with their scores, and the doctor reads these. For comparison: the sigmoid with small steps, which still calls every
pair different at the threshold 0.5, and the distance itself with small steps.
"""

import argparse
import csv
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

import mohs

MARGIN = 1.0


@final
@dataclass(frozen=True)
class Result:
    """Loss and accuracy on pairs of unseen characters, one an epoch, and what the doctor says."""

    val_losses: tuple[float, ...]
    val_accuracy: float
    diagnosis: mohs.Diagnosis


def run(
    glyphs: mohs.Dataset,
    out: Path,
    *,
    sigmoid: bool,
    learning_rate: float,
    num_classes: int = 300,
    num_epochs: int = 6,
    steps_per_epoch: int = 20,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Result:
    """Train on pairs of `num_classes` characters, test on pairs of as many others, write to `out`, diagnose."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    train, test = photos_and_catalog(glyphs, num_classes, seed=seed)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    test_pairs = draw_pairs(num_classes, 1000, random)
    log = []
    for epoch in range(1, num_epochs + 1):
        losses = []
        for _ in range(steps_per_epoch):
            photo, catalog, same = draw_pairs(num_classes, 64, random)
            a, b = network(torch.cat([train[0][photo], train[1][catalog]])).chunk(2)
            scores = score(a, b, sigmoid=sigmoid)
            loss = contrastive(scores, same)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        photo, catalog, same = test_pairs
        with torch.no_grad():
            scores = score(network(test[0])[photo], network(test[1])[catalog], sigmoid=sigmoid)
        accuracy = float(((scores < MARGIN / 2) == same).float().mean())
        log.append((epoch, float(np.mean(losses)), float(contrastive(scores, same)), accuracy, learning_rate))
        say(f"epoch {epoch}: loss {log[-1][1]:.4f}, val_loss {log[-1][2]:.4f}, val_accuracy {accuracy:.3f}")

    out.mkdir(parents=True, exist_ok=True)
    with (out / "losses.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("epoch", "loss", "val_loss", "val_accuracy", "learning_rate"), *log])
    with (out / "pairs.csv").open("w", newline="") as file:
        rows = zip(same.int().tolist(), scores.tolist(), strict=True)
        csv.writer(file).writerows([("same", "score" if sigmoid else "distance"), *rows])
    diagnosis = mohs.diagnose(
        log=out / "losses.csv",
        loss_name="contrastive",
        margin=MARGIN,
        pairs=out / "pairs.csv",
        threshold=MARGIN / 2,
    )
    return Result(tuple(row[2] for row in log), log[-1][3], diagnosis)


def photos_and_catalog(glyphs: mohs.Dataset, num_classes: int, *, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return (photos, catalog pictures) of `num_classes` characters, float [C, 1, H, W], and of as many others."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(glyphs))
    order = order[np.argsort(glyphs.labels_id[order], kind="stable")]  # by class, within a class at random
    first = random.permutation(np.unique(glyphs.labels_id[order], return_index=True)[1])
    parts = (first[:num_classes], first[num_classes : 2 * num_classes])
    return [(to_tensor(glyphs.pictures[order[part]]), to_tensor(glyphs.pictures[order[part + 1]])) for part in parts]


def to_tensor(pictures: np.ndarray) -> Tensor:
    """Return pictures, uint8 [B, H, W, C], as float [B, C, H, W], ink 1 and paper 0."""
    return 1.0 - torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255.0


def make_network() -> nn.Module:
    """Return a small convolutional network that maps pictures to 64 numbers."""
    layers: list[nn.Module] = []
    width_in = 1
    for width in (16, 32, 64):
        layers += [nn.Conv2d(width_in, width, 3, stride=2, padding=1), nn.ReLU()]
        width_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width_in, 64))


def draw_pairs(num_classes: int, num: int, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return the characters of photo and catalog picture, half of them the same, and whether they are, bool."""
    same = np.arange(num) % 2 == 0
    photo = random.integers(num_classes, size=num)
    catalog = np.where(same, photo, (photo + random.integers(1, num_classes, size=num)) % num_classes)
    return torch.from_numpy(photo), torch.from_numpy(catalog), torch.from_numpy(same)


def score(a: Tensor, b: Tensor, *, sigmoid: bool) -> Tensor:
    """Return the distance of each pair of embeddings, or the sigmoid of it: the mistake."""
    distance = ((a - b).square().sum(1) + 1e-12).sqrt()
    return torch.sigmoid(distance) if sigmoid else distance


def contrastive(scores: Tensor, same: Tensor) -> Tensor:
    """Return the contrastive loss of Hadsell et al. without its factor of one half."""
    return torch.where(same, scores.square(), torch.relu(MARGIN - scores).square()).mean()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for losses and pairs; default: a temporary one")
    arguments = parser.parse_args()
    drawn = mohs.open_dataset("glyphs", policy=mohs.ImagePolicy(size=32, channels=1))
    with tempfile.TemporaryDirectory() as folder:
        for name, sigmoid, rate in (("both", True, 0.3), ("sigmoid", True, 1e-3), ("right", False, 1e-3)):
            print(f"{name}: {'sigmoid of the distance' if sigmoid else 'distance'}, learning rate {rate:g}")
            place = (arguments.out or Path(folder)) / name
            result = run(drawn, place, sigmoid=sigmoid, learning_rate=rate, seed=arguments.seed)
            for finding in result.diagnosis.findings:
                print(f"   {finding.severity}: {finding.cause}\n      {finding.what}\n      Fix: {finding.fix}")
