"""What a linear head makes of pretrained features, without any training: the table of the lab book.

    python benchmarks/lab_heads.py --caltech30 caltech30 --weights mobilenetv2_100.safetensors

The pictures are those of `bench_strategies.py`: 100 of 50 classes make the head, 500 pictures of 50 other classes and
250 held-out ones of the first are asked for. R@1 is by cosine; ties do not occur.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import bench_strategies
import numpy as np
import torch
from numpy.typing import NDArray

from mohs.compare.protocols import ComparisonData
from mohs.compare.training import new_embedder
from mohs.data.dataset import Dataset
from mohs.distances import unit_rows
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.model.embedder import Embedder
from mohs.settings.config import override_config
from mohs.training.whitening import within_class_whitening

Rows = NDArray[np.float64]
_BATCH = 50


@torch.inference_mode()
def feature_maps(embedder: Embedder, dataset: Dataset) -> Rows:
    """Return what the backbone has before it pools, [N, F, H, W]."""
    blocks = []
    for first in range(0, len(dataset), _BATCH):
        x_BCHW = embedder.to_input(dataset.pictures[first : first + _BATCH])
        blocks.append(embedder.backbone.forward_features((x_BCHW - embedder.mean) / embedder.std).numpy())
    return np.concatenate(blocks).astype(np.float64)


def gem(maps_NFHW: Rows, power: float = 3.0) -> Rows:
    """Return the generalised mean over places."""
    means_NF: Rows = (np.clip(maps_NFHW, 1e-6, None) ** power).mean((2, 3)) ** (1 / power)
    return means_NF


def mean(maps_NFHW: Rows) -> Rows:
    """Return the mean over places, as the backbone itself pools."""
    means_NF: Rows = maps_NFHW.mean((2, 3))
    return means_NF


def reduced(features_NF: Rows, head_FF: Rows, num_rows: int, fill: str) -> Rows:
    """Return the components of the features behind a head, [F, D], and random directions beside them if asked for."""
    x_NF = (features_NF - features_NF.mean(0)) @ head_FF
    _, size, component_KF = np.linalg.svd(x_NF, full_matrices=False)
    component_KF = component_KF[size > 1e-5 * size[0]]
    if fill != "none":
        random_MF = np.random.default_rng(0).normal(size=(num_rows - len(component_KF), len(head_FF)))
        random_MF -= random_MF @ component_KF.T @ component_KF
        random_MF = np.linalg.qr(random_MF.T)[0].T
        left = len(head_FF) - len(component_KF)
        random_MF *= np.sqrt(left / len(random_MF)) if fill == "as long" else 1.0
        component_KF = np.concatenate([component_KF, random_MF])
    return head_FF @ component_KF.T


def score(data: ComparisonData, train_ND: Rows, held_ND: Rows, test_ND: Rows) -> tuple[float, float, float]:
    """Return R@1 and mAP of unseen classes, and R@1 in the catalog."""
    result = evaluate_all_against_all(unit_rows(test_ND), data.test.labels)
    nearest_Q = (unit_rows(held_ND) @ unit_rows(train_ND[data.catalog]).T).argmax(1)
    in_catalog = data.train.labels[data.catalog][nearest_Q] == data.held_out.labels
    return result.recall[1], float(result.average_precision.mean()), float(in_catalog.mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--caltech30", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    arguments = parser.parse_args()
    data = bench_strategies.open_set("caltech30", arguments.caltech30, max_classes=None)
    settings = {**bench_strategies.SETS["caltech30"].settings, "model.weights": str(arguments.weights)}
    embedder = new_embedder(override_config(None, (), settings)).eval()
    maps = [feature_maps(embedder, part) for part in (data.train, data.held_out, data.test)]
    class_N = data.train.labels_id

    def tried(pool: Callable[[Rows], Rows], head: Callable[[Rows], Rows], *, centre: bool = True) -> tuple[int, str]:
        train_NF, held_NF, test_NF = (pool(part) for part in maps)
        head_FD = head(train_NF)
        shift_F = train_NF.mean(0) if centre else 0.0
        figures = score(data, *((rows - shift_F) @ head_FD for rows in (train_NF, held_NF, test_NF)))
        return head_FD.shape[1], " | ".join(f"{figure:.3f}" for figure in figures)

    def identity(x_NF: Rows) -> Rows:
        return np.eye(x_NF.shape[1])

    def within(x_NF: Rows) -> Rows:
        return within_class_whitening(x_NF, class_N)

    def filled(fill: str) -> Callable[[Rows], Rows]:
        return lambda x_NF: reduced(x_NF, within(x_NF), 512, fill)

    table: Mapping[str, tuple[int, str]] = {
        "none: the features": tried(mean, identity, centre=False),
        "centred": tried(mean, identity),
        "whitened by all pictures": tried(
            mean, lambda x_NF: within_class_whitening(x_NF, np.zeros(len(x_NF), np.int64))
        ),
        "divided by the spread within classes": tried(mean, within),
        "GeM pooling (p = 3) instead of the mean, else the same": tried(gem, within),
        "square roots of the features, else the same": tried(
            lambda m_NFHW: np.sqrt(np.clip(mean(m_NFHW), 0, None)), within
        ),
        "within classes, the components of the 100 pictures alone": tried(mean, filled("none")),
        "within classes, and random directions beside them": tried(mean, filled("of length one")),
        "within classes, and random directions as long as what they stand for": tried(mean, filled("as long")),
    }
    print("| head | D | R@1, unseen | mAP | R@1, catalog |\n|---|---|---|---|---|")
    for name, (dim, figures) in table.items():
        print(f"| {name} | {dim:,} | {figures} |")


if __name__ == "__main__":
    main()
