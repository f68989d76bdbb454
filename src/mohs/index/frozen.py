"""An embedder without training: what a pretrained backbone sees, in directions that tell these classes apart."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mohs.data.dataset import open_dataset
from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig
from mohs.training.head_start import start_head
from mohs.training.processes import Processes

__all__ = ["frozen_embedder"]


def frozen_embedder(
    source: str | Path,
    *,
    backbone: str,
    weights: str | Path | None = None,
    size: int = 224,
    embedding_dim: int = 256,
    backbone_options: Mapping[str, str | int | float | bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
    seed: int = 0,
) -> Embedder:
    """Return a pretrained backbone with a linear head of relevant components of a table's pictures; nothing is trained.

    The head divides the features by how much they vary within classes and keeps their principal components
    (`mohs.training.head_start.start_head`, "rca"); of classes with one picture each it keeps those of the features.

    Args:
        source: a table or folder, as `mohs.read_table` takes it: classes to learn the head from.
        backbone: a name of timm.
        weights: a safetensors file for it; None: timm's weights, from the Hugging Face hub or its cache.
        size: side of the square input, pixels; colour, padded to a square.
        embedding_dim: D of the vectors; more than the backbone has features are 0.
        backbone_options: for `timm.create_model`.
        progress: called with the number of pictures decoded, and of all.
        seed: of directions beyond those that the pictures have.

    Raises `InputError` for a bad table, an unknown backbone, weights that do not fit it, and a hub that is not reached.
    """
    config = ModelConfig(
        backbone=backbone,
        weights=None if weights is None else str(weights),
        pretrained="default" if weights is None else None,
        backbone_options=dict(backbone_options or {}),
        hidden_dim=0,
        embedding_dim=embedding_dim,
        batch_norm=False,
    )
    policy = ImagePolicy(size=size, channels=3)
    # First, so that wrong weights are told before the pictures are decoded.
    embedder = Embedder.create(config, policy, seed=seed).eval()
    dataset = open_dataset(source, policy=policy, progress=progress)
    start_head(embedder, dataset, Processes(), way="rca", seed=seed)
    return embedder
