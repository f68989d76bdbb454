"""One plain training loop with many switches: where ideas for the default are tried before they are built.

    python benchmarks/lab.py --omniglot omniglot/images.csv
    python benchmarks/lab.py --omniglot omniglot/images.csv optimizer=muon rate=0.016 momentum=0.8 hood=4
    python benchmarks/lab.py optimizer=muon rate=0.016 momentum=0.8          # the built-in characters

Without a switch: InfoNCE on random batches that cover the classes (two pictures of each of 96), AdamW, small network.
Omniglot's four rotations are classes of their own. A fifth of the characters is never seen. Printed is one line of
JSON: R@1 on unseen classes (two pictures each, every one a query), R@1 of a third picture of each class trained on
against one picture of all of them ("seen"), both also after whitening by the spread within classes; seconds of CPU.
What was found: docs/lab-book.md.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn
from torch.nn import functional

import mohs
from mohs.data.augment import AugmentPolicy, augment_batch
from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig
from mohs.training.optimizers import Muon

Pictures = NDArray[np.uint8]
Classes = NDArray[np.int64]


@final
@dataclass(frozen=True)
class Switches:
    """What can be tried. `pictures` and `pairs` are the budget and the batch; the others are ideas."""

    pictures: int = 36_000
    pairs: int = 96
    optimizer: str = "adamw"  # muon: on matrices
    rate: float = 4e-3
    rest_rate: float = 0.0  # of what Muon leaves to AdamW; 0: `rate`
    momentum: float = 0.8
    largest: int = 10**9  # matrices of more numbers are left to AdamW
    decay: float = 1e-2
    loss: str = "infonce"  # clip, decoupled, ms, semihard
    temperature: float = 0.1
    last_temperature: float = 0.0  # 0: it stays
    smooth: float = 0.0  # label smoothing
    proxies: float = 0.0  # weight of a softmax over all classes' proxies
    hood: int = 1  # classes of a neighbourhood
    hood_from: float = 0.3
    augment: float = 0.7
    shared: str = ""  # changes that both pictures of a pair share, as if of another class: mirror, affine
    overlay: float = 0.0  # share of pairs drawn over with another pair: a new class
    average: float = 0.0  # momentum of the mean of weights that is kept
    dim: int = 128
    hidden: int = 256

    @classmethod
    def parse(cls, texts: list[str]) -> "Switches":
        """Return the switches of texts "name=value"."""
        kinds = {field.name: type(getattr(cls(), field.name)) for field in fields(cls)}
        values: dict[str, Any] = {}
        for text in texts:
            name, _, value = text.partition("=")
            if name not in kinds:
                raise SystemExit(f"lab: {name!r} is unknown; use some of {', '.join(kinds)}")
            values[name] = kinds[name](value)
        return cls(**values)


def open_pictures(omniglot: Path | None) -> tuple[Pictures, Classes, Classes]:
    """Return pictures, their classes, and the characters that these are made from."""
    policy = ImagePolicy(size=32, channels=1)
    dataset = mohs.open_dataset("glyphs" if omniglot is None else omniglot, policy=policy)
    pictures, characters = np.array(dataset.pictures), dataset.labels_id
    if omniglot is None:
        return pictures, characters, characters
    turned = np.concatenate([np.rot90(pictures, turn, (1, 2)) for turn in range(4)])
    characters = np.tile(characters, 4)
    return turned, characters * 4 + np.repeat(np.arange(4), len(pictures)), characters


def split(classes: Classes, characters: Classes, *, seed: int) -> tuple[Classes, Classes, Classes]:
    """Return two items of each training class [C, 2], two of each unseen one, and a third of the former (or -1)."""
    random = np.random.default_rng(1000 + seed)
    known = np.unique(characters)
    unseen = set(random.permutation(known)[: len(known) // 5].tolist())
    order = random.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    bounds = np.flatnonzero(np.diff(classes[order], prepend=-1, append=-1))
    train, test, third = [], [], []
    for start, stop in itertools.pairwise(bounds):
        if stop - start < 2:
            continue
        if int(characters[order[start]]) in unseen:
            test.append(order[start : start + 2])
        else:
            train.append(order[start : start + 2])
            third.append(order[start + 2] if stop - start > 2 else -1)
    return np.array(train), np.array(test), np.array(third)


def class_order(num_classes: int, random: np.random.Generator, near_CK: Classes | None, size: int) -> list[int]:
    """Return all classes in random order; with `near_CK`, in neighbourhoods of `size`, each the nearest of the last."""
    order: list[int] = random.permutation(num_classes).tolist()
    if near_CK is None:
        return order
    taken, grouped = np.zeros(num_classes, dtype=bool), []
    for first in order:
        current, together = first, 0
        while not taken[current]:
            taken[current] = True
            grouped.append(current)
            together += 1
            free = [near for near in near_CK[current] if not taken[near]]
            if together >= size or not free:
                break
            current = free[0]
    return grouped


def changed_alike(first: Tensor, second: Tensor, how: str, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return pairs of pictures [B, 1, H, W], both of a pair mirrored, or turned and stretched, in the same way."""
    num = len(first)
    if how == "mirror":
        mirrored = torch.from_numpy(random.integers(0, 2, size=num).astype(bool))[:, None, None, None]
        return torch.where(mirrored, first.flip(3), first), torch.where(mirrored, second.flip(3), second)
    angle, stretch_x, stretch_y, shear = (
        torch.from_numpy(random.uniform(-bound, bound, num)) for bound in (0.5, 0.3, 0.3, 0.4)
    )
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(num, dtype=torch.float64)
    across = torch.stack([cos * stretch_x.exp(), -sin * stretch_y.exp() + shear, zero], 1)
    down = torch.stack([sin * stretch_x.exp(), cos * stretch_y.exp(), zero], 1)
    grid = functional.affine_grid(torch.stack([across, down], 1).float(), list(first.shape), align_corners=False)
    one, two = (1 - functional.grid_sample(1 - x, grid, align_corners=False) for x in (first, second))
    return one, two


def build_loss(s: Switches, num_classes: int, seed: int) -> tuple[Callable[[Tensor, Tensor, float], Tensor], list[Any]]:
    """Return the loss as a function of embeddings (anchors, then positives), classes and progress; its parameters."""
    proxies_CD = nn.Parameter(torch.randn(num_classes, s.dim, generator=torch.Generator().manual_seed(seed)))

    def in_batch(e_MD: Tensor, class_M: Tensor, progress: float) -> Tensor:
        num = len(e_MD) // 2
        other = torch.cat([torch.arange(num) + num, torch.arange(num)])
        t = s.temperature * (s.last_temperature / s.temperature) ** progress if s.last_temperature else s.temperature
        match s.loss:
            case "ms":
                return losses.MultiSimilarityLoss()(e_MD, class_M, miners.MultiSimilarityMiner()(e_MD, class_M))
            case "semihard":
                miner = miners.TripletMarginMiner(0.2, "semihard")
                return losses.TripletMarginLoss(margin=0.2)(e_MD, class_M, miner(e_MD, class_M))
            case "clip":
                scores = e_MD[:num] @ e_MD[num:].T / t
                both = (
                    functional.cross_entropy(x, torch.arange(num), label_smoothing=s.smooth) for x in (scores, scores.T)
                )
                return 0.5 * sum(both, torch.zeros(()))
        scores = (e_MD @ e_MD.T / t).masked_fill(torch.eye(2 * num, dtype=torch.bool), -1e9)
        if s.loss == "decoupled":  # the positive is not among its own alternatives
            positive = scores[torch.arange(2 * num), other]
            return (scores.scatter(1, other[:, None], -1e9).logsumexp(1) - positive).mean()
        return functional.cross_entropy(scores, other, label_smoothing=s.smooth)

    def loss(e_MD: Tensor, class_M: Tensor, progress: float) -> Tensor:
        value = in_batch(e_MD, class_M, progress)
        if s.proxies > 0:
            scores = e_MD @ functional.normalize(proxies_CD, dim=1).T / s.temperature
            value = value + s.proxies * functional.cross_entropy(scores, class_M)
        return value

    return loss, [proxies_CD] if s.proxies > 0 else []


def train(s: Switches, pictures: Pictures, train_C2: Classes, *, seed: int) -> Embedder:
    """Return the embedder after `s.pictures` pictures."""
    num_classes = len(train_C2)
    config = ModelConfig(embedding_dim=s.dim, hidden_dim=s.hidden)
    embedder = Embedder.create(config, ImagePolicy(size=32, channels=1), seed=seed)
    policy = AugmentPolicy.of_strength(s.augment)
    loss, own = build_loss(s, num_classes, seed)
    by_muon = [p for p in embedder.parameters() if s.optimizer == "muon" and p.ndim >= 2 and p.numel() < s.largest]
    rest = [p for p in embedder.parameters() if all(p is not q for q in by_muon)] + own
    # The rate of the lab is that of a step as large as AdamW's; Muon's own is a quarter of it.
    optimizers = [(torch.optim.AdamW(rest, weight_decay=s.decay), s.rest_rate or s.rate)]
    if by_muon:
        optimizers.append((Muon(by_muon, momentum=s.momentum, weight_decay=4 * s.decay), s.rate / 4))
    num_steps = s.pictures // (2 * s.pairs)
    random = np.random.default_rng(seed)
    waiting: list[int] = []
    near_CK: Classes | None = None
    mean: dict[str, Tensor] = {}
    embedder.train()
    for step in range(num_steps):
        progress = step / num_steps
        use = s.hood > 1 and progress >= s.hood_from
        while len(waiting) < s.pairs:
            waiting += class_order(num_classes, random, near_CK if use else None, s.hood)
        chosen, waiting = np.array(waiting[: s.pairs]), waiting[s.pairs :]
        if s.hood > 1 and progress >= s.hood_from - 0.02 and step % max(1, num_steps // 10) == 0:
            e_CD = embedder.embed(pictures[train_C2.reshape(-1)]).reshape(num_classes, 2, -1).mean(1)
            e_CD /= np.linalg.norm(e_CD, axis=1, keepdims=True)
            scores_CC = e_CD @ e_CD.T
            np.fill_diagonal(scores_CC, -9)
            near_CK = np.argsort(-scores_CC, 1)[:, :8]
            embedder.train()
        which = random.integers(0, 2, size=s.pairs)
        first, second = (embedder.to_input(pictures[train_C2[chosen, w]]) for w in (which, 1 - which))
        if s.shared:
            first, second = changed_alike(first, second, s.shared, random)
        if s.augment > 0:
            first, second = (
                augment_batch(x, AugmentPolicy(**{**asdict(policy), "num_draws": 8}), seed=seed, step=2 * step + i)
                for i, x in enumerate((first, second))
            )
        if s.overlay > 0:
            num = int(s.overlay * s.pairs)
            over = torch.from_numpy(random.permutation(s.pairs)[:num])
            for x in (first, second):
                x[:num] = torch.minimum(x[:num], x[over])
        num_rise = int(0.05 * num_steps)
        factor = (step + 1) / num_rise if step < num_rise else 0.5 * (
            1 + math.cos(math.pi * (step - num_rise) / max(1, num_steps - num_rise))
        )  # fmt: skip
        class_M = torch.from_numpy(np.concatenate([chosen, chosen]))
        value = loss(embedder(torch.cat([first, second])), class_M, progress)
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        for optimizer, _ in optimizers:
            optimizer.step()
        if s.average > 0:
            keep = min(s.average, (step + 1) / (step + 10))
            for name, now in embedder.state_dict().items():
                old = mean.setdefault(name, now.clone())
                mean[name] = old.lerp(now, 1 - keep) if now.is_floating_point() else now
    if mean:
        embedder.load_state_dict(mean)
    return embedder.eval()


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--omniglot", type=Path, help="folder or table; without it, the built-in characters")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("switches", nargs="*")
    arguments = parser.parse_args()
    switches, seed = Switches.parse(arguments.switches), arguments.seed
    pictures, classes, characters = open_pictures(arguments.omniglot)
    train_C2, test_U2, third_C = split(classes, characters, seed=seed)
    began = time.process_time()
    embedder = train(switches, pictures, train_C2, seed=seed)
    seconds = time.process_time() - began

    def embed(items: Classes) -> NDArray[np.float64]:
        return embedder.embed(np.ascontiguousarray(pictures[items.reshape(-1)])).astype(np.float64)

    train_D, test_D, third_D = embed(train_C2), embed(test_U2), embed(third_C[third_C >= 0])
    within = train_D[::2] - train_D[1::2]
    values, vectors = np.linalg.eigh(
        within.T @ within + 0.1 * np.trace(within.T @ within) / switches.dim * np.eye(switches.dim)
    )

    def whitened(e_ND: NDArray[np.float64]) -> NDArray[np.float64]:
        e_ND = (e_ND - train_D.mean(0)) @ (vectors / np.sqrt(values))
        return e_ND / np.linalg.norm(e_ND, axis=1, keepdims=True)

    found: dict[str, Any] = {"switches": arguments.switches, "seed": seed}
    for name, change in (("", lambda e: e), (" whitened", whitened)):
        a_ND, b_ND, c_ND = (change(e) for e in (test_D, third_D, train_D))
        scores = a_ND @ a_ND.T
        np.fill_diagonal(scores, -9)
        found["unseen" + name] = round(float((scores.argmax(1) == np.arange(len(a_ND)) ^ 1).mean()), 4)
        seen = (b_ND @ c_ND[::2].T).argmax(1) == np.flatnonzero(third_C >= 0)
        found["seen" + name] = round(float(seen.mean()), 4)
    print(json.dumps({**found, "cpu_s": round(seconds, 1)}))


if __name__ == "__main__":
    main()
