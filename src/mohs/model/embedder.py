"""The embedder: backbone, head, unit length; saved as two readable files, and shared among processes that embed."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mohs.artefacts import atomic_path
from mohs.bounds import PARAMETERS
from mohs.checks import plain_array, require, wrong_whole
from mohs.data.images import ImagePolicy
from mohs.data.picture_input import prepare_pictures
from mohs.data.stored_pictures import Pictures, StoredPictures, read_in_turn
from mohs.errors import InputError, Problem, reason_of
from mohs.model.backbones import build_backbone
from mohs.model.beginning import load_beginning
from mohs.model.saved import (
    WEIGHTS,
    embedder_folder,
    read_embedder_settings,
    weights_file,
    write_embedder_settings,
)
from mohs.peers import ALONE, Peers, exchange_rows, own_rows
from mohs.randomness import torch_seeded
from mohs.settings.config import ModelConfig

__all__ = ["BATCH", "Embedder", "embed_items"]

BATCH: Final = 256
"""Pictures per forward pass. The last digits depend on it, so processes and actors begin at multiples of it."""


@final
class Embedder(nn.Module):
    """Pictures in, unit vectors out: normalise, backbone, dropout, dense, batch norm, ReLU, dense, L2 norm.

    The picture policy (size, channels, how a picture becomes square) and the input statistics are part of the embedder
    and are saved with it, so that a query is prepared exactly as a training picture was.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, policy: ImagePolicy) -> None:
        super().__init__()
        self.config = config
        self.policy = policy
        backbone = build_backbone(config, channels=policy.channels, size=policy.size)
        self.backbone = backbone.network
        self.head = _build_head(config, backbone.num_features)
        self._num_features = backbone.num_features
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(1, -1, 1, 1))

    @classmethod
    def create(cls, config: ModelConfig, policy: ImagePolicy, *, seed: int = 0) -> "Embedder":
        """Return a new embedder whose random weights come from `seed`; what `config` begins with is loaded into it.

        That is a file (`weights`), a tag of timm on the hub (`pretrained`) or another embedder (`start`). Raises
        `InputError` for a network that cannot be made, or has more parameters than `mohs.bounds.PARAMETERS` allows.
        """
        _outline(config, policy)
        with torch_seeded(seed, "initial weights"):
            embedder = cls(config, policy)
        load_beginning(embedder.backbone, embedder.head, config, policy)
        # Convolutions of small pictures run 1.3 to 3 times faster in this layout on a CPU.
        return embedder.to(memory_format=torch.channels_last)

    @property
    def embedding_dim(self) -> int:
        """D, the length of an embedding."""
        return self.config.embedding_dim

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return unit vectors float32[B, D] of float pictures in [0, 1]."""
        return nn.functional.normalize(self.head(self.features(x_BCHW)).float(), dim=1)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the backbone's features [B, F] of float pictures in [0, 1]: what the head is given."""
        x_BCHW = (x_BCHW - self.mean) / self.std
        features: Tensor = self.backbone(x_BCHW.contiguous(memory_format=torch.channels_last))
        return features

    @torch.inference_mode()
    def embed(self, pictures: Pictures | Sequence[Any], *, batch_size: int = BATCH) -> NDArray[np.float32]:
        """Return the unit vectors of pictures, float32[N, D].

        Args:
            pictures: uint8[N, H, W, C] prepared by this embedder's policy; or a list of what `prepare_pictures` takes
                (file names, bytes, open files, Pillow images, arrays, tensors), which is prepared by it.
            batch_size: pictures per forward pass; the last digits of a result may depend on it.

        The network is put in evaluation mode for the call and back afterwards. Raises `InputError` if the shape does
        not fit the policy, or that says which pictures cannot be read.
        """
        return self._in_batches(pictures, batch_size, self.embedding_dim, self)

    @torch.inference_mode()
    def embed_features(self, pictures: Pictures | Sequence[Any], *, batch_size: int = BATCH) -> NDArray[np.float32]:
        """Return the backbone's pooled features at unit length, float32[N, F]: a network as it came, without a head.

        Otherwise as `embed`.
        """
        return self._in_batches(
            pictures, batch_size, self._num_features, lambda x: nn.functional.normalize(self.features(x).float(), dim=1)
        )

    def _in_batches(
        self, pictures: Any, batch_size: int, dim: int, forward: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32]:
        if isinstance(pictures, str | Path | bytes):
            name = "bytes" if isinstance(pictures, bytes) else repr(str(pictures))
            raise InputError(Problem("pictures", f"{name} is one file", "give a list of files"))
        if isinstance(pictures, np.ndarray):
            pictures = plain_array("pictures", pictures)
        require(wrong_whole("batch_size", batch_size))
        if isinstance(pictures, dict) or not hasattr(pictures, "__getitem__") or getattr(pictures, "ndim", 1) == 0:
            raise InputError(Problem("pictures", f"{type(pictures).__name__} is no list", "give a list of pictures"))
        num_pictures = len(pictures)
        expected = (self.policy.size, self.policy.size, self.policy.channels)
        if isinstance(pictures, np.ndarray | StoredPictures) and (
            pictures.shape[1:] != expected or pictures.dtype != np.uint8
        ):
            what = f"{pictures.dtype}{pictures.shape} is not uint8[N, H, W, C] with H, W, C = {expected}"
            raise InputError(Problem("pictures", what, "prepare them with decode_image"))
        embeddings_ND = np.empty((num_pictures, dim), dtype=np.float32)
        was_training = self.training
        self.eval()
        try:
            for start in range(0, num_pictures, batch_size):
                block = pictures[start : start + batch_size]
                array = block if isinstance(block, np.ndarray) else prepare_pictures(block, self.policy, first=start)
                embeddings_ND[start : start + len(block)] = forward(self.to_input(array)).cpu().numpy()
        finally:
            self.train(was_training)
        return embeddings_ND

    def to_input(self, pictures_NHWC: NDArray[np.uint8]) -> Tensor:
        """Return uint8 pictures [N, H, W, C] as float[N, C, H, W] in [0, 1] on the embedder's device."""
        # A copy: torch refuses the read-only memory of a cached set.
        tensor = torch.from_numpy(np.array(pictures_NHWC)).to(self.mean.device).permute(0, 3, 1, 2)
        return tensor.float().div_(255.0)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `embedder.json` into `folder`; each is whole or absent."""
        folder = Path(folder)
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        with atomic_path(folder / WEIGHTS) as temporary:
            # save_file writes to a file of its own beside this one, which a kill would leave for ever.
            temporary.write_bytes(save(state))
        write_embedder_settings(folder, self.config, self.policy)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Embedder":
        """Return the embedder saved in a folder (or in the `embedder` folder of a run), in evaluation mode.

        "hf-hub:user/name" is one of the Hugging Face hub, or of its cache (`mohs.model.hub`). Raises `InputError` if a
        file is missing, damaged (by its SHA-256), of another format, or does not fit the network it describes, and for
        weights that are NaN or Inf.
        """
        folder = embedder_folder(folder)
        config, policy = read_embedder_settings(folder)
        file = weights_file(folder)
        # What the settings ask for is allocated only once the file is known to hold it.
        _check_shapes(file, _outline(config, policy))
        with torch_seeded(0, "initial weights"):
            embedder = cls(config, policy).to(memory_format=torch.channels_last)
        try:
            embedder.load_state_dict(load_file(file))
        except Exception as error:  # safetensors and torch raise several kinds, none of them public
            raise _no_weights(file, reason_of(error)) from None
        for name, value in embedder.state_dict().items():
            if not value.isfinite().all():
                raise InputError(Problem(str(file), f"{name} holds NaN or Inf", "use another checkpoint or run"))
        return embedder.eval()


def _build_head(config: ModelConfig, num_features: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    if config.dropout > 0:
        layers.append(nn.Dropout(config.dropout))
    width = num_features
    hidden_dim = config.hidden_units
    if hidden_dim > 0:
        layers.append(nn.Linear(width, hidden_dim, bias=not config.batch_norm))
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(hidden_dim))
        layers.append(nn.ReLU(inplace=True))
        width = hidden_dim
    layers.append(nn.Linear(width, config.embedding_dim))
    return nn.Sequential(*layers)


def _outline(config: ModelConfig, policy: ImagePolicy) -> Embedder:
    """Return an embedder whose tensors have shapes and no memory; raise `InputError` if none can be made."""
    try:
        with torch.device("meta"):
            outline = Embedder(config, policy)
    except (RuntimeError, OverflowError, TypeError) as error:
        reason = reason_of(error)
        raise InputError(Problem("model", f"no such network can be made ({reason})", "use smaller numbers")) from None
    PARAMETERS.check("model", sum(parameter.numel() for parameter in outline.parameters()))
    return outline


def _check_shapes(file: Path, outline: Embedder) -> None:
    """Raise `InputError` if a safetensors file does not hold the tensors of a network, by names and shapes."""
    try:
        with safe_open(file, framework="pt") as opened:
            found = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 - no dict
    except Exception as error:  # as above
        raise _no_weights(file, reason_of(error)) from None
    wanted = {name: tuple(value.shape) for name, value in outline.state_dict().items()}
    if found == wanted:
        return
    names = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    of_file, of_network = (str(shapes.get(names[0], "not there")) for shapes in (found, wanted))
    raise _no_weights(file, f"{names[0]}: {of_file} in the file, {of_network} in the network; {len(names)} differ")


def _no_weights(file: Path, reason: str) -> InputError:
    return InputError(Problem(str(file), f"does not hold this network's weights ({reason})"))


_AT_ONCE_BYTES = 2**26
"""Of pictures that are read from their file at once; twice as many are held."""

_ITEMS_A_REPORT = 2 * BATCH


def embed_items(
    embedder: Embedder,
    pictures: Pictures,
    items_M: NDArray[np.int64] | None = None,
    *,
    peers: Peers = ALONE,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Return the embeddings of items, float32 [M, D], byte for byte as one process gives them on as many threads.

    Args:
        embedder: equal on all processes.
        pictures: uint8 [N, H, W, C] by its policy, often a memory map, of which some 64 MB are read at a time. Those
            that stay in their file are read while the ones before them are embedded.
        items_M: which of them; None: all.
        peers: processes that call this together with the same arguments.
        progress: called with (items done, items in all) of this process's part.
    """
    num_items = len(pictures) if items_M is None else len(items_M)
    own = own_rows(peers, num_items, BATCH)
    x_MD = np.empty((num_items, embedder.embedding_dim), dtype=np.float32)
    at_once = BATCH * max(1, _AT_ONCE_BYTES // (BATCH * max(1, math.prod(pictures.shape[1:]))))
    if progress is not None:
        at_once = min(at_once, _ITEMS_A_REPORT)
    pieces = [slice(start, min(start + at_once, own.stop)) for start in range(own.start, own.stop, at_once)]
    items = [np.arange(piece.start, piece.stop) if items_M is None else items_M[piece] for piece in pieces]
    for piece, read in zip(pieces, read_in_turn(pictures, items), strict=True):
        x_MD[piece] = embedder.embed(read, batch_size=BATCH)
        if progress is not None:
            progress(piece.stop - own.start, own.stop - own.start)
    exchange_rows(peers, np.arange(own.start, own.stop), x_MD)
    return x_MD
