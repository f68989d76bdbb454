"""A plan of Mohs in someone else's training loop: a torch Dataset and DataLoader, a loss of pytorch-metric-learning.

    python examples/plan_in_another_loop.py

A small network learns to tell 300 characters of the built-in set from two drawings each. A plan is mined for each
segment by the network as it then is, with negatives that grow harder. What is measured is R@1 of 300 characters that
were not trained on: for how many drawings is the nearest other one of the same character? Drawing takes longest.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_metric_learning.losses import TripletMarginLoss
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import mohs


@final
class Drawings(Dataset[tuple[Tensor, int]]):
    """Pictures and the number of their class: what a plan's item index i stands for."""

    def __init__(self, pictures_NHWC: NDArray[np.uint8], class_N: NDArray[np.int64]) -> None:
        self.pictures_NHWC = pictures_NHWC
        self.class_N = class_N

    def __len__(self) -> int:
        return len(self.class_N)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return the ink of a picture, float [1, H, W] in [0, 1], and its class."""
        ink = 1.0 - torch.from_numpy(np.array(self.pictures_NHWC[index])).permute(2, 0, 1).float() / 255.0
        return ink, int(self.class_N[index])


@final
@dataclass(frozen=True)
class Result:
    """R@1 of unseen classes before and after, and the plans in the order in which they were trained on."""

    recall_before: float
    recall_after: float
    plans: tuple[mohs.TripletPlan, ...]


def run(
    *,
    num_classes: int = 300,
    num_segments: int = 6,
    triplets_per_segment: int = 1200,
    size: int = 32,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Result:
    """Train on `num_classes` classes and measure on as many others."""
    torch.manual_seed(seed)
    train, test = two_drawings_each(num_classes, size=size, seed=seed)
    network = make_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    before = recall_at_1(network, test)
    say(f"R@1 of {num_classes} unseen classes before training: {before:.3f}")

    # Who is the anchor when, and how hard its negative is to be, over the whole run.
    num_triplets = num_segments * triplets_per_segment
    anchors_T = mohs.anchor_sequence(train.class_N, num_triplets, seed=seed)
    hardness_T = mohs.curves.schedule(mohs.curves.sigmoid(0.8), num_triplets)
    triplet_loss = TripletMarginLoss(margin=0.2)
    miner = mohs.PlanMiner()
    sampler: mohs.PlanSampler | None = None
    plans = []
    for segment in range(num_segments):
        part = slice(segment * triplets_per_segment, (segment + 1) * triplets_per_segment)
        plan = mohs.mine(
            embed(network, train),
            train.class_N,
            anchors_T=anchors_T[part],
            hardness_T=hardness_T[part],
            scale="log-rank",
            seed=seed + segment,
        )
        plans.append(plan)
        if sampler is None:
            sampler = mohs.PlanSampler(plan, batch_triplets=32)
            loader = DataLoader(train, batch_sampler=sampler)
        else:
            sampler.set_plan(plan)
        network.train()
        losses = []
        for pictures, classes in loader:
            embeddings = network(pictures)
            loss = triplet_loss(embeddings, classes, miner(embeddings, classes))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        hardness = float(plan.achieved_hardness.mean())
        say(f"segment {segment + 1} of {num_segments}: hardness {hardness:.2f}, mean loss {np.mean(losses):.3f}")

    after = recall_at_1(network, test)
    say(f"R@1 of {num_classes} unseen classes after {num_triplets} triplets: {after:.3f}")
    return Result(before, after, tuple(plans))


def two_drawings_each(num_classes: int, *, size: int, seed: int) -> tuple[Drawings, Drawings]:
    """Return two sets of `num_classes` characters, no character in both, two drawings of each, all drawn at random."""
    glyphs = mohs.open_dataset("glyphs", policy=mohs.ImagePolicy(size=size, channels=1))
    random = np.random.default_rng(seed)
    order = random.permutation(len(glyphs))
    order = order[np.argsort(glyphs.labels_id[order], kind="stable")]  # by class, within a class at random
    first_C = np.unique(glyphs.labels_id[order], return_index=True)[1]
    chosen = random.permutation(len(first_C))[: 2 * num_classes]
    items_C2 = np.stack([order[first_C[chosen]], order[first_C[chosen] + 1]], axis=1)
    parts = []
    for items in (items_C2[:num_classes], items_C2[num_classes:]):
        parts.append(Drawings(glyphs.pictures[items.ravel()], np.repeat(np.arange(num_classes), 2)))
    return parts[0], parts[1]


def make_network() -> nn.Module:
    """Return a small convolutional network that maps pictures to 64 numbers."""
    layers: list[nn.Module] = []
    width_in = 1
    for width in (16, 32, 64):
        layers += [nn.Conv2d(width_in, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        width_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width_in, 64))


@torch.inference_mode()
def embed(network: nn.Module, drawings: Drawings) -> NDArray[np.float32]:
    """Return the unit vectors of all items: the bank to mine in. The loss normalises, so the bank must, too."""
    network.eval()
    batches = [network(pictures) for pictures, _ in DataLoader(drawings, batch_size=256)]
    return nn.functional.normalize(torch.cat(batches), dim=1).numpy()


def recall_at_1(network: nn.Module, drawings: Drawings) -> float:
    """Return the share of items whose nearest other item is of their class."""
    similarity_NN = (x_ND := embed(network, drawings)) @ x_ND.T
    np.fill_diagonal(similarity_NN, -np.inf)
    return float((drawings.class_N[similarity_NN.argmax(axis=1)] == drawings.class_N).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    run(seed=parser.parse_args().seed)
