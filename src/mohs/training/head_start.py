"""What fine-tuning keeps of a pretrained network: a head that starts from its features, and a share of weights.

A new head of random weights mixes the features that pretraining has found; what it loses has to be learned again, from
few pictures. And a network that is trained on few classes becomes better at those and worse at others: between the
weights before and after lies a network that is better at both.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mohs.data.dataset import Dataset
from mohs.data.stored_pictures import Pictures, read_in_turn
from mohs.errors import InputError, Problem
from mohs.model.beginning import takes_head
from mohs.model.embedder import Embedder
from mohs.model.finetune import Finetuning, check_pictures_at_once
from mohs.randomness import generator
from mohs.settings.config import RunConfig
from mohs.training.processes import Processes
from mohs.training.whitening import MAX_PICTURES, whole_classes, within_class_whitening

__all__ = ["blend_weights", "check_finetuning", "start_head"]

_BATCH = 64


def start_head(
    embedder: Embedder, dataset: Dataset, peers: Processes, *, way: Literal["pca", "rca"], seed: int
) -> None:
    """Set a linear head, z = A (f − mean f), A [D, F], in place, from the backbone's features f [F] of pictures.

    Of more than 20,000 pictures so many are taken, class after class as `seed` draws them.

    "pca": the rows of A are the D eigenvectors of the covariance of features with the largest eigenvalues. Distances
    between features are kept as well as D numbers can. After Gordo et al., "End-to-end learning of deep visual
    representations for image retrieval" (2017), section 3.2, whose projection starts with PCA.

    "rca": features are first divided by how much they vary among pictures of one class, f' = W^(−1/2) (f − mean f), W
    being the covariance within classes with its mean eigenvalue added to each (a few pictures of a class do not fill F
    dimensions), and the rows are the principal components of f'. A scale gives A the norm that it has with "pca". Where
    no class has two pictures it is "pca". Relevant component analysis (Bar-Hillel et al., "Learning a Mahalanobis
    metric from equivalence constraints", 2005), in which the addition is ours.

    N pictures have at most N − 1 components. The other rows are random directions perpendicular to these, all equally
    long, so that what pictures of other classes have there is kept, too: distances are right in the mean (Johnson and
    Lindenstrauss, 1984). Rows beyond the F-th are 0. Which pictures and directions these are comes from `seed`. The
    first process computes, and all get the same.

    Raises `InputError` if the head is not one linear layer.
    """
    layer = _only_layer(embedder, way)
    found = None
    if peers.is_first:
        chosen = whole_classes(dataset.labels_id, MAX_PICTURES, generator(seed, "pictures for the head"))
        features_NF = _features(embedder, dataset.pictures, chosen)
        class_N = dataset.labels_id[chosen] if way == "rca" else np.arange(len(chosen))
        found = _head(features_NF, class_N, layer.out_features, generator(seed, "directions for the head"))
    mean_F, row_DF = peers.from_first(found)
    with torch.no_grad():
        layer.weight[:] = torch.from_numpy(row_DF)
        layer.bias[:] = torch.from_numpy(-row_DF @ mean_F)


def check_finetuning(embedder: Embedder, config: RunConfig) -> None:
    """Raise `InputError` for settings of fine-tuning that do not fit the network; what learns is set as at the start.

    `Finetuning` and `check_pictures_at_once` say which these are, `start_head` what its head must be.
    """
    finetuning = Finetuning(embedder, config.finetune, pretrained=config.model.beginning is not None)
    check_pictures_at_once(finetuning, config)
    if config.finetune.head != "random":
        if takes_head(config.network):
            fix = "leave it out"
            raise InputError(
                Problem("finetune.head", f"{config.finetune.head!r} would replace the head of model.start", fix)
            )
        _only_layer(embedder, config.finetune.head)


def _only_layer(embedder: Embedder, way: str) -> nn.Linear:
    layers = [layer for layer in embedder.head if not isinstance(layer, nn.Dropout)]
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear):
        what = f"{way!r} is for a head of one linear layer, and model.hidden_dim is {embedder.config.hidden_dim}"
        raise InputError(Problem("finetune.head", what, "make it 0, or finetune.head 'random'"))
    return layers[0]


@torch.inference_mode()
def _features(embedder: Embedder, pictures: Pictures, item_N: NDArray[np.int64]) -> NDArray[np.float64]:
    was_training = embedder.training
    embedder.eval()
    batches = [item_N[first : first + _BATCH] for first in range(0, len(item_N), _BATCH)]
    blocks = [
        embedder.features(embedder.to_input(read)).double().cpu().numpy() for read in read_in_turn(pictures, batches)
    ]
    embedder.train(was_training)
    return np.concatenate(blocks)


def _head(
    features_NF: NDArray[np.float64], class_N: NDArray[np.int64], num_rows: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean [F] and the rows of the head [D, F]; pictures that are alone in their class say nothing of it."""
    mean_F = features_NF.mean(0)
    centred_NF = features_NF - mean_F
    whitening_FF = within_class_whitening(features_NF, class_N)
    whitened_NF = centred_NF @ whitening_FF
    variance_F, vector_FF = np.linalg.eigh(whitened_NF.T @ whitened_NF)
    dim = len(mean_F)
    num_found = min(num_rows, int((variance_F > 1e-10 * variance_F[-1]).sum()))
    row_DF = np.zeros((num_rows, dim))
    row_DF[:num_found] = vector_FF.T[::-1][:num_found]
    num_more = min(num_rows, dim) - num_found
    if num_more:
        # Eigenvectors without variance are perpendicular to the others; turned at random, none is preferred.
        rest_FR = vector_FF[:, : dim - num_found]
        turned_RM = np.linalg.qr(random.standard_normal((dim - num_found, num_more)))[0]
        row_DF[num_found : num_found + num_more] = (rest_FR @ turned_RM).T * np.sqrt((dim - num_found) / num_more)
    norm = np.linalg.norm(row_DF)
    row_DF = row_DF @ whitening_FF
    return mean_F, row_DF * (norm / np.linalg.norm(row_DF))


def blend_weights(network: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Make every weight share · trained + (1 − share) · start, in place; whole numbers (counters) stay as trained.

    Batch norm's statistics are blended, too. Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (2022),
    equation 1.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(layer.weight, 3.0)
    >>> blend_weights(layer, {"weight": torch.tensor([[1.0]])}, 0.5)
    >>> layer.weight.item()
    2.0
    """
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.lerp_(start[name].to(value.device), 1.0 - share)
