"""What fine-tuning keeps of a pretrained network: a head that starts as principal components, and a share of weights.

A new head of random weights mixes the features that pretraining has found; what it loses has to be learned again, from
few pictures. And a network that is trained on few classes becomes better at those and worse at others: between the
weights before and after lies a network that is better at both.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mohs.data.dataset import Dataset
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.randomness import generator
from mohs.training.processes import Processes

__all__ = ["blend_weights", "start_with_principal_components"]

_MAX_PICTURES = 20_000
_BATCH = 64


def start_with_principal_components(embedder: Embedder, dataset: Dataset, peers: Processes, *, seed: int) -> None:
    """Set a linear head to the principal components of the backbone's features, in place.

    z = V (f − mean f), V being the D eigenvectors of the covariance of features f with the largest eigenvalues, of all
    pictures or of 20,000 drawn by `seed`. Distances between features are kept as well as D numbers can. Where pictures
    have fewer components (one less than there are pictures), the other rows of V stay as they are. The first process
    computes, and all get the same. After Gordo et al., "End-to-end learning of deep visual representations for image
    retrieval" (2017), section 3.2, whose projection starts with PCA.

    Raises `InputError` if the head is not one linear layer.
    """
    layers = [layer for layer in embedder.head if not isinstance(layer, nn.Dropout)]
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear):
        raise InputError(
            f"finetune.head: 'pca' is for a head of one linear layer, and model.hidden_dim is "
            f"{embedder.config.hidden_dim}; make it 0, or finetune.head 'random'"
        )
    found = None
    if peers.is_first:
        chosen = np.sort(generator(seed, "principal components").permutation(len(dataset))[:_MAX_PICTURES])
        found = _components(_features(embedder, dataset.pictures[chosen]), layers[0].out_features)
    mean_F, vector_KF = peers.from_first(found)
    with torch.no_grad():
        layers[0].weight[: len(vector_KF)] = torch.from_numpy(vector_KF.copy())
        layers[0].bias[: len(vector_KF)] = torch.from_numpy(-vector_KF @ mean_F)


@torch.inference_mode()
def _features(embedder: Embedder, pictures_NHWC: np.ndarray) -> NDArray[np.float64]:
    was_training = embedder.training
    embedder.eval()
    blocks = [
        embedder.features(embedder.to_input(pictures_NHWC[first : first + _BATCH])).double().cpu().numpy()
        for first in range(0, len(pictures_NHWC), _BATCH)
    ]
    embedder.train(was_training)
    return np.concatenate(blocks)


def _components(
    features_NF: NDArray[np.float64], num_components: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean [F] and at most so many components [K, F], the largest first; K is less where there are fewer."""
    mean_F = features_NF.mean(0)
    centred_NF = features_NF - mean_F
    variance_F, vector_FF = np.linalg.eigh(centred_NF.T @ centred_NF)
    num_components = min(num_components, int((variance_F > 1e-10 * variance_F[-1]).sum()))
    return mean_F, vector_FF.T[::-1][:num_components]


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
