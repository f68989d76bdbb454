"""Banks, and ways of mining them: this package's, the matrix product alone, and what others do.

Slow ways serve few anchors, and their times are scaled up. Many leave something out (the own class, hardness, all but a
batch), as their notes say: such a way does less than mining.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mohs.mining import mine
from mohs.mining.threads import num_threads, one_blas_thread

MARGIN = 0.2
PRODUCT = "the matrix product alone"
LIBRARY = "pytorch-metric-learning"

_BLOCK = 512
_COLUMNS = 2**18  # of a product's buffer
_ROWS = 2**16  # of a bank that are made at once
_BATCH = 4096  # of pytorch-metric-learning's miners


@dataclass(frozen=True)
class Bank:
    """Unit vectors, two items a class that are closer to each other than to most others; every item once an anchor."""

    rows_ND: np.ndarray
    labels_N: np.ndarray
    anchors_T: np.ndarray
    hardness_T: np.ndarray

    @classmethod
    def random(cls, num_items: int, dim: int) -> "Bank":
        """Return the same bank on every call; it is made in blocks, so that it takes no memory but its own."""
        rng = np.random.default_rng(0)
        labels = rng.permutation(num_items) // 2
        rows = np.empty((num_items, dim), dtype=np.float32)
        centres = rng.standard_normal(((num_items + 1) // 2, dim), dtype=np.float32)
        for start in range(0, num_items, _ROWS):
            block = rows[start : start + _ROWS]
            rng.standard_normal(out=block, dtype=np.float32)
            block *= 0.7
            block += centres[labels[start : start + _ROWS]]
            block /= np.sqrt(np.einsum("nd,nd->n", block, block))[:, None]
        return cls(rows, labels, rng.permutation(num_items), rng.random(num_items) * 0.85)


@dataclass(frozen=True)
class Way:
    """A way of mining: `run(anchors)` serves these anchors; what it does, or leaves out, is in the note."""

    name: str
    anchors: np.ndarray
    run: Callable[[np.ndarray], Any]
    note: str = ""


def mohs(bank: Bank, scale: str, **options: Any) -> Callable[[np.ndarray], Any]:
    """Mine with this package."""
    if scale == "margin":
        options["margin"] = MARGIN
    return lambda anchors: mine(
        bank.rows_ND,
        bank.labels_N,
        anchors_T=anchors,
        hardness_T=bank.hardness_T[: len(anchors)],
        scale=scale,
        **options,
    )


def product(bank: Bank) -> Callable[[np.ndarray], object]:
    """Multiply blocks of 512 anchors with all items into a reused buffer, one BLAS thread in each of our threads."""
    columns_DN = bank.rows_ND.T  # a copy in the other order is no faster
    num_items = columns_DN.shape[1]

    def run(anchors: np.ndarray) -> None:
        local = threading.local()

        def work(start: int) -> None:
            if not hasattr(local, "out"):
                local.out = np.empty((_BLOCK, min(num_items, _COLUMNS)), dtype=np.float32)
            block = bank.rows_ND[anchors[start : start + _BLOCK]]
            for first in range(0, num_items, _COLUMNS):
                part = columns_DN[:, first : first + _COLUMNS]
                np.matmul(block, part, out=local.out[: len(block), : part.shape[1]])

        with one_blas_thread(), ThreadPoolExecutor(num_threads()) as pool:
            list(pool.map(work, range(0, len(anchors), _BLOCK)))

    return run


def faiss_flat(bank: Bank, k: int) -> Callable[[np.ndarray], object]:
    """Search the k nearest of all items, as IndexFlatL2 does, without its copy: no own class, no hardness, no ties."""
    import faiss

    faiss.omp_set_num_threads(num_threads())
    return lambda anchors: faiss.knn(bank.rows_ND[anchors], bank.rows_ND, k)


def torch_blocks(bank: Bank, choose: str) -> Callable[[np.ndarray], object]:
    """Distances by torch in blocks, own class masked, then the negative by threshold, full sort or k-th value."""
    import torch

    torch.set_num_threads(num_threads())
    rows, labels = torch.from_numpy(bank.rows_ND), torch.from_numpy(bank.labels_N)
    size = 256

    def run(anchors: np.ndarray) -> None:
        for start in range(0, len(anchors), size):
            anchor = torch.from_numpy(anchors[start : start + size])
            hardness = torch.from_numpy(bank.hardness_T[start : start + len(anchor)]).float()[:, None]
            own = labels[anchor][:, None] == labels[None, :]
            distance = torch.cdist(rows[anchor], rows)
            if choose == "mask":
                nearest = distance.masked_fill(own, torch.inf).amin(dim=1, keepdim=True)
                farthest = distance.masked_fill(own, -torch.inf).amax(dim=1, keepdim=True)
                threshold = farthest - hardness * (farthest - nearest)
                distance.masked_fill_(own | (distance < threshold), torch.inf).argmin(dim=1)
            elif choose == "sort":
                order = distance.masked_fill_(own, torch.inf).sort(dim=1).indices
                order.gather(1, ((1 - hardness) * (rows.shape[0] - 3)).long())
            else:
                masked = distance.masked_fill_(own, torch.inf)
                for row, h in zip(masked, hardness.ravel().tolist(), strict=True):
                    row.kthvalue(1 + int((1 - h) * (rows.shape[0] - 3)))

    return run


def sklearn_brute(bank: Bank) -> Callable[[np.ndarray], object]:
    """Search the 3 nearest: the anchor, its class mate, a negative."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(bank.rows_ND)
    return lambda anchors: index.kneighbors(bank.rows_ND[anchors])


def published_loop(bank: Bank) -> Callable[[np.ndarray], object]:
    """One Python call of a distance for each item and anchor, then the threshold, as published."""

    def run(anchors: np.ndarray) -> None:
        for anchor, h in zip(anchors, bank.hardness_T, strict=False):
            distances = [
                (float(np.linalg.norm(bank.rows_ND[anchor] - row)), item)
                for item, row in enumerate(bank.rows_ND)
                if bank.labels_N[item] != bank.labels_N[anchor]
            ]
            farthest, nearest = max(distances)[0], min(distances)[0]
            min(pair for pair in distances if pair[0] >= farthest - h * (farthest - nearest))

    return run


def library_batch(bank: Bank, miner: str, **options: Any) -> Callable[[np.ndarray], object]:
    """Mine with a miner of pytorch-metric-learning in one batch, classes whole: it sees nothing but the batch."""
    import torch
    from pytorch_metric_learning import miners

    torch.set_num_threads(num_threads())
    mine_batch = getattr(miners, miner)(**options)
    items = np.argsort(bank.labels_N, kind="stable")

    def run(anchors: np.ndarray) -> None:
        batch = items[: len(anchors)]
        mine_batch(torch.from_numpy(bank.rows_ND[batch]), torch.from_numpy(bank.labels_N[batch]))

    return run


def library_all(bank: Bank) -> Callable[[np.ndarray], object]:
    """Mine the hardest positive and negative with pytorch-metric-learning, 256 anchors at once against all items."""
    import torch
    from pytorch_metric_learning import miners

    torch.set_num_threads(num_threads())
    mine_batch = miners.BatchHardMiner()
    rows, labels = torch.from_numpy(bank.rows_ND), torch.from_numpy(bank.labels_N)

    def run(anchors: np.ndarray) -> None:
        for start in range(0, len(anchors), 256):
            anchor = torch.from_numpy(anchors[start : start + 256])
            mine_batch(rows[anchor], labels[anchor], rows, labels)

    return run


def other_ways(bank: Bank) -> list[Way]:
    """Return what others do for a bank all of whose items are anchors."""
    everything = bank.anchors_T
    some, few, batch = everything[:2048], everything[:512], everything[:_BATCH]
    whole, size = "sees only its batch", f"{len(batch):,}"
    return [
        Way("faiss flat, k = 1", everything, faiss_flat(bank, 1), "nearest only, own class among them"),
        Way("faiss flat, k = 100", some, faiss_flat(bank, 100), "own class among them"),
        Way("scikit-learn brute force, k = 3", some, sklearn_brute(bank), "nearest only, own class among them"),
        Way("torch cdist + mask", some, torch_blocks(bank, "mask"), "`range`"),
        Way("torch cdist + kthvalue", few, torch_blocks(bank, "kthvalue"), "`rank`"),
        Way("torch cdist + sort", few, torch_blocks(bank, "sort"), "`rank`"),
        Way("published loop", everything[:20], published_loop(bank), "`range`, one distance call a pair"),
        Way(f"{LIBRARY}, hardest in batches of {size}", batch, library_batch(bank, "BatchHardMiner"), whole),
        Way(
            f"{LIBRARY}, semi-hard in batches of {size}",
            batch,
            library_batch(bank, "TripletMarginMiner", margin=MARGIN, type_of_triplets="semihard"),
            whole,
        ),
        Way(f"{LIBRARY}, hardest of all items", few, library_all(bank), "hardest only, 256 anchors at once"),
    ]
