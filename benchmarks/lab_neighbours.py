"""Which classes should meet in a batch? One plain loop with a switch for each idea, on 32,000 characters.

    python benchmarks/han.py han
    python benchmarks/lab_neighbours.py --han han
    python benchmarks/lab_neighbours.py --han han clique=8 clique_from=0.1
    python benchmarks/lab_neighbours.py --han han --classes 4000 --out rows.jsonl "clique=1" "clique=8 clique_from=0.1"

Two faces of each training character are shown in pairs; every pass shows each class once. Printed is one line of JSON a
run: R@1 of the third face in a catalog of all training characters ("seen"), and of unseen characters among those
("unseen"), CPU seconds of training, and of them those of composing batches. What was found: docs/lab-book.md.
Long, since each idea is a few lines of the one loop that all of them share.
"""

import argparse
import copy
import itertools
import json
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from bench_han import NUM_UNSEEN, measure
from neighbours import chains, cliques, communities, walks
from numpy.typing import NDArray
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn import functional

import mohs
from mohs.data.augment import AugmentPolicy, augment_batch
from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder
from mohs.randomness import torch_seeded
from mohs.settings.config import ModelConfig, TrainingConfig
from mohs.training.optimizers import Muon
from mohs.training.step import rate_factor


@final
@dataclass(frozen=True)
class Switches:
    """What can be tried. `pictures` and `pairs` are the budget and the batch; the others are ideas."""

    pictures: int = 400_000
    pairs: int = 96
    optimizer: str = "muon"
    rate: float = 0.016
    temperature: float = 0.1
    last_temperature: float = 0.0  # 0: it stays; else it goes there with progress
    hidden: int = 256
    dim: int = 128  # numbers in an embedding
    mu: float = 0.8  # momentum of Muon
    decay: float = 0.04  # weight decay of Muon
    form: str = "clique"  # chain, walk, metis: communities of a fixed teacher, which `teacher` pictures taught
    teacher: int = 100_000
    clique: int = 1  # classes that enter a batch together; 1: random batches
    last_clique: int = 0  # 0: it stays; else the size grows (or shrinks) to it, by progress
    clique_from: float = 0.1
    clique_until: float = 1.0
    share: float = 1.0  # of the classes of a pass that are put in cliques, at most
    curve: str = "constant"  # of hardness: linear, sigmoid, cyclic (four sigmoids), reversed (falls from `cap` to 0)
    cap: float = 1.0  # largest hardness, on the scale log-rank: of M classes or keys M^(1 - h) - 1 are passed over
    piece: int = 0  # classes that are composed at once; 0: a whole pass
    skip: int = 0  # nearest classes that are passed over
    aware: float = 0.0  # pass over classes more similar than this share of the similarity of the class's own two
    restart: float = 0.2  # of a walk
    one: int = 0  # 1: a class is the embedding of one of its two pictures, not their mean
    key: float = 0.0  # momentum of the encoder that positives and negatives come from; 0: the network itself
    pairs_live: int = 0  # 1: pictures of a batch are compared as the network sees them, not with keys
    live: float = 0.0  # with keys: weight of the loss within the batch beside the one with keys
    queue: int = 0  # keys of earlier steps that are negatives, too
    focus: float = 0.0  # classes of a pass are drawn with weights (loss when they were shown last) ** focus; 0: all
    focus_from: float = 0.3
    focus_share: float = 0.5  # of the classes, shown in such a pass
    aug: float = 0.7  # strength of the changes of pictures
    key_aug: float = -1.0  # of what the key encoder sees; -1: it sees the pictures of the network
    both: int = 0  # 1: near are keys to the mean of a row and its positive, not to the row
    own: float = 0.0  # with key_aug: weight of the loss whose positive is the key of the row's own picture
    inside: int = 0  # of the batch, only so many keys count for a row: those most similar to it; 0: all
    side: int = 0  # of the queue, only keys of the face of the row's positive (1) or of its own face (2) count
    proto: int = 0  # 1: the queue holds the mean of a class's two keys; 2: that is the positive, too
    predictor: int = 0  # layers between the network and what is compared with keys, left out afterwards
    proxies: int = 0  # so many class vectors that learn, the nearest, in a loss of their own beside that with keys
    mix_pair: float = 0.0  # share of pictures into which the other picture of their class is mixed
    last_key: float = 0.0  # 0: the momentum stays; else it goes there with progress
    near: int = 0  # of the queue, only so many keys count for a row: those most similar to it; 0: all
    key_mode: str = "train"  # of batch norm in the key encoder
    mix: int = 0  # made-up negatives of a row, each between two of its near keys
    mix_row: int = 0  # made-up negatives of a row, each between it and one of its near keys
    gap: float = 0.0  # similarity by which the positive has to be above the negatives
    consistent: float = 0.0  # weight of: a row sees the near keys as the key of its positive does
    loss: str = "infonce"  # decoupled; hard: weights exp(beta s) on negatives; xbm, ntxent: the library's, a queue
    beta: float = 0.5
    negatives: int = 0  # triplets with so many mined negatives each, which are shown, instead of a loss in the batch
    margin: float = 0.2  # of these triplets
    active: float = 0.5  # share of violated pairs of positive and negative that the hardness of these is led to

    @classmethod
    def parse(cls, text: str) -> "Switches":
        """Return the switches of a text "name=value name=value"."""
        kinds = {field.name: type(getattr(cls(), field.name)) for field in fields(cls)}
        values: dict[str, Any] = {}
        for part in text.split():
            name, _, value = part.partition("=")
            if name not in kinds:
                raise SystemExit(f"lab_neighbours: {name!r} is unknown; use some of {', '.join(kinds)}")
            values[name] = kinds[name](value)
        return cls(**values)


CURVES = {
    "constant": lambda _: 1.0,
    "linear": lambda p: p,
    "sigmoid": mohs.curves.sigmoid(1.0),
    "cyclic": mohs.curves.cyclic(mohs.curves.sigmoid(1.0), 4),
    "reversed": lambda p: 1.0 - p,
}


@final
class Passes:
    """Whose turn it is: every class once a pass, in groups once it is time for them."""

    def __init__(self, s: Switches, num_classes: int, dim: int, seed: int) -> None:
        self._s = s
        self._random = np.random.default_rng(seed)
        self._waiting: list[int] = []
        self._grouped = False
        self._of_pass: list[NDArray[np.int64]] = []
        self.vector_CD = np.zeros((num_classes, dim), np.float32)
        self.own_similarity_C = np.zeros(num_classes, np.float32)
        self.spent_s = 0.0
        self.groups: list[list[int]] = []  # of the form metis
        self.loss_C = np.full(num_classes, np.nan)

    def saw(self, classes: NDArray[np.int64], first_BD: Tensor, second_BD: Tensor) -> None:
        """Take note of the embeddings of a step."""
        vector_BD = first_BD if self._s.one else functional.normalize(first_BD + second_BD, dim=1)
        self.vector_CD[classes] = vector_BD.numpy()
        self.own_similarity_C[classes] = (first_BD * second_BD).sum(1).numpy()

    def next(self, progress: float) -> NDArray[np.int64]:
        """Return the classes of the next batch."""
        s = self._s
        grouped = (s.clique > 1 or s.form == "metis") and s.clique_from <= progress < s.clique_until
        began = time.process_time()
        if grouped != self._grouped:
            self._grouped = grouped
            self._waiting = self._compose(np.array(self._waiting, dtype=np.int64), progress)
        while len(self._waiting) < s.pairs:
            # What is left over of a pass stands before the next one, unless it would be shown twice in a batch.
            left = self._waiting
            if not self._of_pass:
                order = self._random.permutation(len(self.vector_CD))
                if s.focus and progress >= s.focus_from:
                    weight = np.where(np.isnan(self.loss_C), np.nanmax(self.loss_C), self.loss_C)
                    key = s.focus * np.log(weight + 1e-3) + self._random.gumbel(size=len(order))
                    order = self._random.permutation(np.argsort(-key)[: round(s.focus_share * len(order))])
                self._of_pass = np.array_split(order, max(1, round(len(order) / (s.piece or len(order)))))
            fresh = self._compose(self._of_pass.pop(0), progress)
            if left:
                late = set(left)
                head = [c for c in fresh[: s.pairs * 2] if c not in late]
                fresh = head + [c for c in fresh[: s.pairs * 2] if c in late] + fresh[s.pairs * 2 :]
            self._waiting = left + fresh
        chosen, self._waiting = self._waiting[: s.pairs], self._waiting[s.pairs :]
        self.spent_s += time.process_time() - began
        return np.array(chosen)

    def _compose(self, pool: NDArray[np.int64], progress: float) -> list[int]:
        s = self._s
        if not self._grouped or len(pool) < 2:
            return self._random.permutation(pool).tolist()  # type: ignore[no-any-return]
        known = np.abs(self.vector_CD[pool]).sum(1) > 0
        in_groups = known & (self._random.random(len(pool)) < s.share)
        by_rank = round(int(in_groups.sum()) ** (1.0 - s.cap * CURVES[s.curve](progress))) - 1 if in_groups.any() else 0
        apart = [[c] for c in pool[~in_groups].tolist()]
        size = s.clique
        if s.last_clique:
            size = round(s.clique * (s.last_clique / s.clique) ** progress)
        if s.form == "chain":
            groups = chains(self.vector_CD, pool[in_groups], size, self._random)
        elif s.form == "metis":
            members = set(pool[in_groups].tolist())
            groups = [kept for group in self.groups if (kept := [c for c in group if c in members])]
        elif s.form == "walk":
            groups = walks(self.vector_CD, pool[in_groups], size, self._random, restart=s.restart)
        else:
            ceiling_C = s.aware * self.own_similarity_C if s.aware else None
            groups = cliques(
                self.vector_CD, pool[in_groups], size, self._random, skip=s.skip + by_rank, ceiling_C=ceiling_C
            )
        groups += apart
        order = self._random.permutation(len(groups)).tolist()
        return [c for at in order for c in groups[at]]


def scores_loss(s: Switches, scores_MK: Tensor, own_MK: Tensor, positive_M: Tensor, progress: float) -> Tensor:
    """Return the loss of each row of similarities; keys of its own class, in `own_MK`, count only as positive."""
    t = s.temperature * (s.last_temperature / s.temperature) ** progress if s.last_temperature else s.temperature
    at_positive = (scores_MK.gather(1, positive_M[:, None])[:, 0] - s.gap) / t
    negative_MK = (scores_MK / t).masked_fill(own_MK, -torch.inf)
    if s.loss == "hard":
        weight_MK = (s.beta * scores_MK.detach() / t).masked_fill(own_MK, -torch.inf)
        weight_MK = torch.log_softmax(weight_MK, 1) + (~own_MK).sum(1, keepdim=True).log()
        negative_MK = negative_MK + weight_MK
    if s.loss == "decoupled":
        return negative_MK.logsumexp(1) - at_positive
    return torch.cat([negative_MK, at_positive[:, None]], 1).logsumexp(1) - at_positive


@final
class Proxies:
    """A vector for each class: it begins at the mean of its keys, and learns by a softmax over the nearest ones."""

    def __init__(self, s: Switches, num_classes: int) -> None:
        self._s = s
        self._vector_CD = torch.zeros(num_classes, s.dim)
        self._row_R = torch.zeros(0, dtype=torch.int64)
        self._leaf_RD = torch.zeros(0, s.dim)

    def loss(self, e_MD: Tensor, class_M: Tensor, key_MD: Tensor) -> Tensor:
        """Return the loss of a batch; `step` then moves the vectors that had a part in it."""
        num = len(class_M) // 2
        mean_PD = functional.normalize(key_MD[:num] + key_MD[num:], dim=1)
        new_P = self._vector_CD[class_M[:num]].abs().sum(1) == 0
        self._vector_CD[class_M[:num][new_P]] = mean_PD[new_P]
        with torch.no_grad():
            score_MC = e_MD @ self._vector_CD.T
            score_MC.scatter_(1, class_M[:, None], -9.0)
            near_MK = score_MC.topk(self._s.proxies, dim=1).indices
        self._row_R = torch.unique(torch.cat([class_M, near_MK.reshape(-1)]))
        self._leaf_RD = self._vector_CD[self._row_R].clone().requires_grad_()
        unit_RD = functional.normalize(self._leaf_RD, dim=1, eps=1e-6)
        positive_MD = unit_RD[torch.searchsorted(self._row_R, class_M)]
        negative_MKD = unit_RD[torch.searchsorted(self._row_R, near_MK)]
        at_positive_M1 = (e_MD * positive_MD).sum(1, keepdim=True) / self._s.temperature
        at_negative_MK = torch.einsum("md,mkd->mk", e_MD, negative_MKD) / self._s.temperature
        return (torch.cat([at_negative_MK, at_positive_M1], 1).logsumexp(1) - at_positive_M1[:, 0]).mean()

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move the vectors of the last loss by 0.02 times `factor`, on the mean; what was never shown stays 0."""
        assert self._leaf_RD.grad is not None
        gradient_RD = self._leaf_RD.grad / self._leaf_RD.grad.norm(dim=1).mean().clamp_min(1e-9)
        known_R1 = (self._leaf_RD.abs().sum(1, keepdim=True) > 0).float()
        moved_RD = self._leaf_RD - 0.02 * factor * gradient_RD * known_R1
        self._vector_CD[self._row_R] = functional.normalize(moved_RD, dim=1, eps=1e-6) * known_R1


@final
class MinedTriplets:
    """Triplets with k negatives each, at a hardness that is led to a share of violated ones, as in the closed loop."""

    def __init__(self, s: Switches) -> None:
        self._s = s
        self.hardness = 0.5

    def classes(self, chosen_P: NDArray[np.int64], vector_CD: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return for each class the classes of its negatives, int64 [P, k], on the scale log-rank among all classes."""
        similarity_PC = vector_CD[chosen_P] @ vector_CD.T
        similarity_PC[np.arange(len(chosen_P)), chosen_P] = -np.inf
        passed_over = round(len(vector_CD) ** (1.0 - self.hardness)) - 1
        last = min(passed_over + self._s.negatives, len(vector_CD) - 1)
        order_PK = np.argpartition(-similarity_PC, last, axis=1)[:, : last + 1]
        near_PK = np.take_along_axis(similarity_PC, order_PK, axis=1).argsort(axis=1)[:, ::-1]
        return np.take_along_axis(order_PK, near_PK, axis=1)[:, last - self._s.negatives : last]

    def loss(self, anchor_PD: Tensor, positive_PD: Tensor, negative_PKD: Tensor) -> Tensor:
        """Return the mean of max(0, d_ap² − d_an² + margin) over all pairs, and note how many are violated."""
        near_P1 = (anchor_PD - positive_PD).square().sum(1, keepdim=True)
        far_PK = (anchor_PD[:, None] - negative_PKD).square().sum(2)
        missing_PK = near_P1 - far_PK + self._s.margin
        share = float((missing_PK > 0).float().mean())
        self.hardness = float(np.clip(self.hardness + 0.02 * (self._s.active - share), 0.0, 1.0))
        return functional.relu(missing_PK).mean()


@final
class Keys:
    """A momentum encoder and the queue of what it wrote."""

    def __init__(self, s: Switches, embedder: Embedder) -> None:
        self._s = s
        self._network = copy.deepcopy(embedder).train(s.key_mode == "train")
        self.queue_QD = torch.zeros(0, 0)
        self.class_Q = torch.zeros(0, dtype=torch.int64)
        self.face_Q = torch.zeros(0, dtype=torch.int64)
        self._random = torch.Generator().manual_seed(0)
        self.inconsistent = torch.zeros(())

    @torch.no_grad()
    def write(self, pictures: Tensor) -> Tensor:
        """Return keys of a batch."""
        return self._network(pictures)  # type: ignore[no-any-return]

    def compare(
        self, e_MD: Tensor, key_MD: Tensor, class_M: Tensor, face_M: Tensor, hardness: float
    ) -> tuple[Tensor, Tensor]:
        """Return similarities to keys of the queue, and where a key is of the row's own class."""
        if not 0 < self._s.near < len(self.queue_QD):
            return e_MD @ self.queue_QD.T, class_M[:, None] == self.class_Q[None, :]
        with torch.no_grad():
            by_MD = e_MD
            if self._s.both:
                by_MD = functional.normalize(e_MD + e_MD.roll(len(e_MD) // 2, 0), dim=1)
            first = min(round(len(self.queue_QD) ** (1.0 - hardness)) - 1, len(self.queue_QD) - self._s.near)
            all_MQ = by_MD @ self.queue_QD.T
            if self._s.side:
                all_MQ[(face_M[:, None] == self.face_Q) == (self._s.side == 1)] = -9.0
            near_MK = all_MQ.topk(first + self._s.near, dim=1).indices[:, first:]
        near_MKD = self.queue_QD[near_MK]
        score_MK = torch.einsum("md,mkd->mk", e_MD, near_MKD)
        own_MK = class_M[:, None] == self.class_Q[near_MK]
        if self._s.consistent:
            with torch.no_grad():
                theirs_MK = torch.einsum("md,mkd->mk", key_MD.roll(len(e_MD) // 2, 0), near_MKD)
                theirs_MK = (theirs_MK / self._s.temperature).masked_fill(own_MK, -1e9).softmax(1)
            ours_MK = (score_MK / self._s.temperature).masked_fill(own_MK, -1e9).log_softmax(1)
            self.inconsistent = functional.kl_div(ours_MK, theirs_MK, reduction="batchmean")
        made, made_own = [score_MK], [own_MK]
        num_rows, num_near = near_MK.shape
        rows = torch.arange(num_rows)[:, None]
        for num, with_row in ((self._s.mix, False), (self._s.mix_row, True)):
            if num:
                first_MN = torch.randint(num_near, (num_rows, num), generator=self._random)
                second_MN = torch.randint(num_near, (num_rows, num), generator=self._random)
                share_MN1 = torch.rand(num_rows, num, 1, generator=self._random) * (0.5 if with_row else 1.0)
                other_MND = e_MD.detach()[:, None] if with_row else near_MKD[rows, second_MN]
                mixed_MND = share_MN1 * other_MND + (1 - share_MN1) * near_MKD[rows, first_MN]
                made.append(torch.einsum("md,mnd->mn", e_MD, functional.normalize(mixed_MND, dim=2)))
                made_own.append(own_MK.gather(1, first_MN) | own_MK.gather(1, second_MN))
        return torch.cat(made, 1), torch.cat(made_own, 1)

    def push(self, key_MD: Tensor, class_M: Tensor, face_M: Tensor) -> None:
        """Put the keys of a step at the end of the queue."""
        if self._s.queue:
            self.queue_QD = torch.cat([self.queue_QD, key_MD] if len(self.queue_QD) else [key_MD])[-self._s.queue :]
            self.class_Q = torch.cat([self.class_Q, class_M])[-self._s.queue :]
            self.face_Q = torch.cat([self.face_Q, face_M])[-self._s.queue :]

    @torch.no_grad()
    def follow(self, embedder: Embedder, progress: float) -> None:
        """Move the key encoder a little towards the network."""
        share = 1 - self._s.key
        if self._s.last_key:
            share *= ((1 - self._s.last_key) / share) ** progress
        for own, live in zip(self._network.parameters(), embedder.parameters(), strict=True):
            own.lerp_(live, share)
        for own, live in zip(self._network.buffers(), embedder.buffers(), strict=True):
            own.copy_(live)


def build_predictor(num_layers: int, dim: int) -> torch.nn.Sequential | None:
    """Return what is added to embeddings before they are compared with keys, 0 at first; None for no layers."""
    if not num_layers:
        return None
    widths = [dim] + [256] * (num_layers - 1)
    layers: list[torch.nn.Module] = []
    for one, other in itertools.pairwise(widths):
        layers += [torch.nn.Linear(one, other), torch.nn.ReLU()]
    last = torch.nn.Linear(widths[-1], dim, bias=False)
    torch.nn.init.zeros_(last.weight)
    return torch.nn.Sequential(*layers, last)


def train(s: Switches, pictures_2C: NDArray[np.uint8], *, seed: int) -> tuple[Embedder, float]:
    """Return the embedder after `s.pictures` pictures, and the CPU seconds that composing batches took."""
    num_classes = pictures_2C.shape[1]
    embedder = Embedder.create(
        ModelConfig(hidden_dim=s.hidden, embedding_dim=s.dim), ImagePolicy(size=32, channels=1), seed=seed
    )
    policy = AugmentPolicy(**{**asdict(AugmentPolicy.of_strength(s.aug)), "num_draws": 8})
    key_policy = AugmentPolicy(**{**asdict(AugmentPolicy.of_strength(max(s.key_aug, 0.0))), "num_draws": 8})
    learning: list[torch.nn.Parameter] = list(embedder.parameters())
    with torch_seeded(seed, "predictor"):
        predictor = build_predictor(s.predictor, s.dim)
    if predictor is not None:
        learning += predictor.parameters()
    by_muon = [p for p in learning if s.optimizer == "muon" and p.ndim >= 2]
    rest = [p for p in learning if all(p is not q for q in by_muon)]
    optimizers: list[tuple[torch.optim.Optimizer, float]] = [(torch.optim.AdamW(rest, weight_decay=1e-2), s.rate)]
    if by_muon:
        optimizers.append((Muon(by_muon, momentum=s.mu, weight_decay=s.decay), s.rate / 4))
    library = None
    if s.loss in ("xbm", "ntxent"):
        inner = losses.SupConLoss(s.temperature) if s.loss == "ntxent" else losses.ContrastiveLoss(0.0, 0.5)
        library = losses.CrossBatchMemory(inner, s.dim, memory_size=s.queue)
    num_steps = s.pictures // ((2 + s.negatives) * s.pairs)
    passes = Passes(s, num_classes, s.dim, seed)
    if s.form == "metis":
        teacher = train(replace(s, form="clique", clique=1, pictures=s.teacher), pictures_2C, seed=seed)[0]
        began = time.process_time()
        passes.groups = communities(teacher.embed(np.ascontiguousarray(pictures_2C[0][..., None])), s.clique)
        passes.spent_s += time.process_time() - began
    mined = MinedTriplets(s) if s.negatives else None
    proxies = Proxies(s, num_classes) if s.proxies else None
    keys = Keys(s, embedder) if (s.key or s.queue) and library is None else None
    random = np.random.default_rng(seed + 1)
    own = torch.arange(s.pairs).repeat(2)
    own_MM = own[:, None] == own[None, :]
    positive_M = torch.cat([torch.arange(s.pairs) + s.pairs, torch.arange(s.pairs)])
    embedder.train()
    for step in range(num_steps):
        progress = step / num_steps
        chosen = passes.next(progress)
        which = random.integers(0, 2, size=s.pairs)
        shown = torch.cat(
            [
                augment_batch(
                    embedder.to_input(pictures_2C[w, chosen][..., None]), policy, seed=seed, step=2 * step + i
                )
                for i, w in enumerate((which, 1 - which))
            ]
        )
        if s.mix_pair:
            mixed_M = random.random(2 * s.pairs) < s.mix_pair
            share_M = torch.from_numpy(np.where(mixed_M, 0.5 * random.random(2 * s.pairs), 0.0).astype(np.float32))
            shown = torch.lerp(shown, shown.roll(s.pairs, 0), share_M[:, None, None, None])
        class_M = torch.from_numpy(np.concatenate([chosen, chosen]))
        face_M = torch.from_numpy(np.concatenate([which, 1 - which]))
        e_MD = embedder(shown)
        passes.saw(chosen, *e_MD.detach().split(s.pairs))
        if mined is not None:
            negative_PK = mined.classes(chosen, passes.vector_CD)
            of_class_PK = pictures_2C[random.integers(0, 2, size=negative_PK.shape), negative_PK]
            shape = (negative_PK.size, *of_class_PK.shape[2:], 1)
            seen_ND = embedder(
                augment_batch(embedder.to_input(of_class_PK.reshape(shape)), policy, seed=seed, step=-1 - step)
            )
            value = mined.loss(*e_MD.split(s.pairs), seen_ND.reshape(*negative_PK.shape, -1))
        elif keys is not None:
            for_keys = shown
            if s.key_aug >= 0:
                for_keys = torch.cat([embedder.to_input(pictures_2C[w, chosen][..., None]) for w in (which, 1 - which)])
                if s.key_aug > 0:
                    for_keys = augment_batch(for_keys, key_policy, seed=seed, step=-1 - step)
            key_MD = keys.write(for_keys) if s.key else e_MD.detach()
            live_MD = e_MD
            if predictor is not None:
                e_MD = functional.normalize(e_MD + predictor(e_MD), dim=1)
            mean_PD = functional.normalize(key_MD[: s.pairs] + key_MD[s.pairs :], dim=1)
            compared_MD = e_MD if s.pairs_live else mean_PD.repeat(2, 1) if s.proto == 2 else key_MD
            own_MK, score_MK = own_MM, e_MD @ compared_MD.T
            if s.inside:
                nearest_MK = score_MK.detach().masked_fill(own_MM, -torch.inf).topk(s.inside, dim=1).values
                own_MK = own_MM | (score_MK < nearest_MK[:, -1:])
            if len(keys.queue_QD):
                hardness = s.cap * CURVES[s.curve](progress)
                queued_MK, queued_own_MK = keys.compare(e_MD, key_MD, class_M, face_M, hardness)
                score_MK, own_MK = torch.cat([score_MK, queued_MK], 1), torch.cat([own_MK, queued_own_MK], 1)
            row_M = scores_loss(s, score_MK, own_MK, positive_M, progress)
            passes.loss_C[chosen] = row_M.detach().view(2, -1).mean(0).numpy()
            value = row_M.mean() + s.consistent * keys.inconsistent
            if s.live:
                value = value + s.live * scores_loss(s, e_MD @ e_MD.T, own_MM, positive_M, progress).mean()
            if s.own:
                at_own_MK = score_MK.scatter(1, positive_M[:, None], (e_MD * key_MD).sum(1, keepdim=True))
                value = value + s.own * scores_loss(s, at_own_MK, own_MK, positive_M, progress).mean()
            if proxies is not None:
                value = value + proxies.loss(live_MD, class_M, key_MD)
            if s.proto:
                keys.push(mean_PD, class_M[: s.pairs], face_M[: s.pairs])
            else:
                keys.push(key_MD, class_M, face_M)
        elif library is not None:
            value = library(e_MD, class_M)
        else:
            row_M = scores_loss(s, e_MD @ e_MD.T, own_MM, positive_M, progress)
            passes.loss_C[chosen] = row_M.detach().view(2, -1).mean(0).numpy()
            value = row_M.mean()
        factor = rate_factor(step, num_steps, TrainingConfig())
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        for optimizer, _ in optimizers:
            optimizer.step()
        if s.key and keys is not None:
            keys.follow(embedder, progress)
        if proxies is not None:
            proxies.step(factor)
    return embedder.eval(), passes.spent_s


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--han", type=Path, required=True, help="the folder that han.py wrote")
    parser.add_argument("--classes", type=int, default=32_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, help="append the lines to this file, and leave out what stands there")
    parser.add_argument("runs", nargs="*", default=[""], help='each "name=value name=value"')
    arguments = parser.parse_args()
    pictures = np.load(arguments.han / "pictures.npy")
    # Unseen characters are the last ones, so that they are the same for any number of classes.
    trained, unseen = pictures[:, : arguments.classes], pictures[:, -NUM_UNSEEN:]
    if arguments.classes + NUM_UNSEEN > pictures.shape[1]:
        raise SystemExit(f"lab_neighbours: {pictures.shape[1]} characters are too few; draw more with han.py")
    done = set()
    if arguments.out is not None and arguments.out.exists():
        rows = [json.loads(line) for line in arguments.out.read_text().splitlines()]
        done = {(row["classes"], row["switches"], row["seed"]) for row in rows}
    for text in arguments.runs:
        for seed in arguments.seeds:
            if (arguments.classes, text, seed) in done:
                continue
            began = time.process_time()
            embedder, composing_s = train(Switches.parse(text), trained[:2], seed=seed)
            cpu_s = time.process_time() - began
            row = {
                "classes": arguments.classes,
                "switches": text,
                "seed": seed,
                "seen": round(float(measure(embedder, trained).mean()), 4),
                "unseen": round(float(measure(embedder, unseen).mean()), 4),
                "cpu_s": round(cpu_s, 1),
                "composing_s": round(composing_s, 1),
            }
            line = json.dumps(row)
            print(line, flush=True)
            if arguments.out is not None:
                with arguments.out.open("a") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
