"""A triplet network whose accuracy stays at 50%: its filter keeps the triplets that are right already.

    python examples/fifty_percent.py

Characters are to be found in a catalog (black on white) from photos of them (another face, white on black). The loop is
one that many have written: draw triplets, keep the "valid" ones, train on these. Its filter d_ap < d_an throws away
what the network has to learn: the loss nears 0, accuracy stays at chance. The loop leaves what any library leaves, a
CSV of losses and .npy embeddings, and the doctor reads these. Then the same loop with the filter d_an < d_ap + margin.
"""

import argparse
import csv
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn

import mohs

MARGIN = 0.2
Keep = Literal["in order", "inside the margin"]
KEEPS: tuple[Keep, ...] = ("in order", "inside the margin")


@final
@dataclass(frozen=True)
class Result:
    """Accuracy on triplets of unseen characters at the end, the loss at the end, and what the doctor says."""

    val_accuracy: float
    loss: float
    diagnosis: mohs.Diagnosis


def run(
    glyphs: mohs.Dataset,
    out: Path,
    *,
    keep: Keep,
    num_classes: int = 200,
    num_epochs: int = 8,
    steps_per_epoch: int = 25,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Result:
    """Train on `num_classes` characters, test on as many others, write losses and embeddings to `out`, diagnose."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    (train_photo, train_catalog), (test_photo, test_catalog) = photos_and_catalog(glyphs, num_classes, seed=seed)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    log = []
    for epoch in range(1, num_epochs + 1):
        losses = []
        for _ in range(steps_per_epoch):
            a, n = draw_triplets(num_classes, 32, random)
            x_3B = embed(network, torch.cat([train_photo[a], train_catalog[a], train_catalog[n]]))
            d_ap, d_an = distances(*x_3B.chunk(3))
            valid = d_ap < d_an if keep == "in order" else d_an < d_ap + MARGIN
            if valid.any():
                loss = torch.relu(d_ap - d_an + MARGIN)[valid].mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
        a, n = draw_triplets(num_classes, 2000, random)
        with torch.no_grad():
            photo, catalog = embed(network, test_photo), embed(network, test_catalog)
        d_ap, d_an = distances(photo[a], catalog[a], catalog[n])
        log.append((epoch, float(np.mean(losses)) if losses else 0.0, float((d_ap < d_an).float().mean())))
        say(f"epoch {epoch}: loss {log[-1][1]:.4f}, val_accuracy {log[-1][2]:.3f}")

    out.mkdir(parents=True, exist_ok=True)
    with (out / "losses.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("epoch", "loss", "val_accuracy"), *log])
    for name, pictures in (("train", [train_photo, train_catalog]), ("test", [test_photo, test_catalog])):
        with torch.no_grad():
            np.save(out / f"{name}.npy", embed(network, torch.cat(pictures)).numpy())
        labels = [f"{name}-{c % num_classes}" for c in range(2 * num_classes)]
        (out / f"{name}.csv").write_text("\n".join(["class", *labels]))
    diagnosis = mohs.diagnose(
        log=out / "losses.csv",
        loss_name="triplet",
        margin=MARGIN,
        train_embeddings=out / "train.npy",
        train_labels=out / "train.csv",
        embeddings=out / "test.npy",
        labels=out / "test.csv",
    )
    return Result(log[-1][2], log[-1][1], diagnosis)


def photos_and_catalog(glyphs: mohs.Dataset, num_classes: int, *, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return (photos, catalog pictures) of `num_classes` characters, float [C, 1, H, W], and of as many others."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(glyphs))
    order = order[np.argsort(glyphs.labels_id[order], kind="stable")]  # by class, within a class at random
    first = random.permutation(np.unique(glyphs.labels_id[order], return_index=True)[1])
    parts = []
    for part in (first[:num_classes], first[num_classes : 2 * num_classes]):
        photo, catalog = (
            torch.from_numpy(glyphs.pictures[order[items]]).permute(0, 3, 1, 2).float() / 255.0
            for items in (part, part + 1)
        )
        parts.append((1.0 - photo, catalog))
    return parts


def make_network() -> nn.Module:
    """Return a small convolutional network that maps pictures to 64 numbers."""
    layers: list[nn.Module] = []
    width_in = 1
    for width in (16, 32, 64):
        layers += [nn.Conv2d(width_in, width, 3, stride=2, padding=1), nn.ReLU()]
        width_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width_in, 64))


def embed(network: nn.Module, pictures: Tensor) -> Tensor:
    """Return unit vectors."""
    return nn.functional.normalize(network(pictures), dim=1)


def draw_triplets(num_classes: int, num: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return the characters of photo and catalog picture, and those of the catalog pictures that are the negatives."""
    a = random.integers(num_classes, size=num)
    n = (a + random.integers(1, num_classes, size=num)) % num_classes
    return torch.from_numpy(a), torch.from_numpy(n)


def distances(anchor: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared distances from anchors to positives and to negatives."""
    return (anchor - positive).square().sum(1), (anchor - negative).square().sum(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for losses and embeddings; default: a temporary one")
    arguments = parser.parse_args()
    drawn = mohs.open_dataset("glyphs", policy=mohs.ImagePolicy(size=32, channels=1))
    with tempfile.TemporaryDirectory() as folder:
        for keep in KEEPS:
            print(f"training on triplets {keep}:")
            place = (arguments.out or Path(folder)) / keep.replace(" ", "-")
            result = run(drawn, place, keep=keep, seed=arguments.seed)
            for finding in result.diagnosis.findings:
                print(f"   {finding.severity}: {finding.cause}\n      {finding.what}\n      Fix: {finding.fix}")
