"""Directions in which pictures of one class differ count less: a matrix, and a head that is multiplied by it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mohs.data.dataset import Dataset
from mohs.model.embedder import Embedder, embed_items
from mohs.randomness import generator
from mohs.training.processes import Processes

__all__ = ["MAX_PICTURES", "whiten_head", "whole_classes", "within_class_whitening"]

MAX_PICTURES = 20_000
"""So many pictures say how the ones of a class differ; more change it by less than a seed does."""


def whiten_head(embedder: Embedder, dataset: Dataset, peers: Processes, *, seed: int) -> None:
    """Multiply the head's last layer by W^(−1/2) in place, W being how embeddings of one class vary.

    With z = A h + b what the head gives and e = z / ‖z‖, the new embedding is

        W^(−1/2) z / ‖W^(−1/2) z‖ = W^(−1/2) e / ‖W^(−1/2) e‖

    so the new layer is W^(−1/2) A and W^(−1/2) b, and using the network costs what it did. W^(−1/2) [D, D] is
    `within_class_whitening` of the embeddings e of training pictures, unchanged ones; of more than 20,000 so many are
    taken, class after class as `seed` draws them. Where no class has two pictures, or an embedding is not finite, the
    head stays as it is.

    Within-class covariance normalisation (Hatch, Kajarekar and Stolcke, "Within-class covariance normalization for
    SVM-based speaker recognition", 2006); the mean eigenvalue that is added to each is ours. The first process
    computes, and all get the same.
    """
    layer = next(module for module in reversed(embedder.head) if isinstance(module, nn.Linear))
    whitening_DD = None
    if peers.is_first:
        chosen_M = whole_classes(dataset.labels_id, MAX_PICTURES, generator(seed, "pictures for the whitening"))
        e_MD = embed_items(embedder, dataset.pictures, chosen_M).astype(np.float64)
        whitening_DD = within_class_whitening(e_MD, dataset.labels_id[chosen_M])
    found_DD = torch.from_numpy(peers.from_first(whitening_DD)).to(layer.weight.device, layer.weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(found_DD @ layer.weight)
        layer.bias.copy_(found_DD @ layer.bias)


def whole_classes(class_N: NDArray[np.int64], at_most: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return items of classes drawn one after another, int64 [N'], in order; only of the last one some may be left out.

    Items drawn alone would seldom have another one of their class beside them.
    """
    place_C = random.permutation(int(class_N.max()) + 1)
    return np.sort(np.argsort(place_C[class_N], kind="stable")[:at_most])


def within_class_whitening(features_NF: NDArray[np.float64], class_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return W^(−1/2), symmetric, float64 [F, F], or the identity where pictures of a class do not differ or are NaN.

    W is the sum over pictures of (f − m)(f − m)ᵀ, m being the mean of the picture's class, divided by the mean of its
    eigenvalues, plus 1 on the diagonal: directions in which pictures of a class do not differ keep their length.

    Args:
        features_NF: float64 [N, F].
        class_N: int64 [N].

    >>> within_class_whitening(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([0, 0])).round(3)
    array([[0.577, 0.   ],
           [0.   , 1.   ]])
    """
    _, class_N, count_C = np.unique(class_N, return_inverse=True, return_counts=True)
    sum_CF = np.zeros((len(count_C), features_NF.shape[1]))
    np.add.at(sum_CF, class_N, features_NF)
    within_NF = features_NF - (sum_CF / count_C[:, None])[class_N]
    scatter_FF = within_NF.T @ within_NF
    mean_variance = np.trace(scatter_FF) / len(scatter_FF)
    # With NaN in the features it is NaN, and above nothing.
    if not mean_variance > 1e-12 * np.square(features_NF).sum():
        return np.eye(len(scatter_FF))
    variance_F, vector_FF = np.linalg.eigh(scatter_FF / mean_variance + np.eye(len(scatter_FF)))
    whitening_FF: NDArray[np.float64] = (vector_FF / np.sqrt(variance_F)) @ vector_FF.T
    return whitening_FF
