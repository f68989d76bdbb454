"""The embedder as one file that other runtimes run, ONNX or torch's own; kept only if it gives the same vectors."""

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mohs.artefacts import atomic_path, sha256_file, write_json
from mohs.data.images import ImagePolicy
from mohs.errors import InputError, Problem, reason_of
from mohs.model.embedder import Embedder

__all__ = ["Exported", "export_onnx", "export_torch"]

MAX_DIFFERENCE: Final = 1e-4
"""No element of a vector of an exported network may differ by more; unit vectors, float32."""

_BATCHES = (1, 33)
_FORMAT = 1


@final
@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it was checked.

    Attributes:
        path: the network.
        description: the JSON beside it, which says how a picture is prepared.
        num_pictures: so many real pictures were compared, in batches of 1 and of up to 33.
        largest_difference: of an element of a vector from the embedder's.
    """

    path: Path
    description: Path
    num_pictures: int
    largest_difference: float


def export_onnx(embedder: Embedder, path: str | Path, pictures_NHWC: NDArray[np.uint8]) -> Exported:
    """Write an embedder as ONNX: uint8 pictures [batch, H, W, C] in, unit vectors float32 [batch, D] out.

    Scaling, mean and spread, the network and unit length are in the file, and the batch may have any size. How a
    picture file becomes uint8 [H, W, C] is not, and is described in a JSON beside it, NAME.onnx.json.

    Args:
        embedder: on whatever device, in whatever mode; it stays as it is.
        path: of the new file; it and the JSON are whole or absent.
        pictures_NHWC: real pictures, prepared by the embedder's policy. The file is kept if onnxruntime gives their
            vectors as the embedder does, to 1e-4 in each element, in batches of 1 and of 33.

    Raises `InputError` without onnx, onnxscript and onnxruntime (extra `onnx`), without pictures, for a network that
    cannot be exported, and for vectors that differ.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise InputError("mohs[onnx]: ONNX needs onnx, onnxscript and onnxruntime; pip install 'mohs[onnx]'") from None

    def write(network: nn.Module, example: Tensor, place: Path) -> None:
        batch = torch.export.Dim("batch")
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=["pictures"],
            output_names=["vectors"],
            verbose=False,
        )
        assert program is not None, "the dynamo exporter returns a program"
        program.save(str(place))

    def run(place: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        session = onnxruntime.InferenceSession(str(place), providers=["CPUExecutionProvider"])
        return lambda pictures: session.run(["vectors"], {"pictures": pictures})[0]

    runtime = f"onnxruntime {version('onnxruntime')}"
    return _export(embedder, Path(path), pictures_NHWC, write=write, run=run, runtime=runtime)


def export_torch(embedder: Embedder, path: str | Path, pictures_NHWC: NDArray[np.uint8]) -> Exported:
    """Write an embedder as `torch.export` saves a program (.pt2); otherwise as `export_onnx`, which see."""

    def write(network: nn.Module, example: Tensor, place: Path) -> None:
        shapes = ({0: torch.export.Dim("batch")},)
        torch.export.save(torch.export.export(network, (example,), dynamic_shapes=shapes), place)

    def run(place: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        network = torch.export.load(place).module()
        return lambda pictures: network(torch.from_numpy(pictures)).numpy()

    return _export(embedder, Path(path), pictures_NHWC, write=write, run=run, runtime=f"torch {version('torch')}")


@final
class _UnitVectors(nn.Module):
    """uint8 pictures [batch, H, W, C] in, unit vectors out: what `Embedder.embed` computes."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, pictures: Tensor) -> Tensor:
        vectors: Tensor = self.embedder(pictures.permute(0, 3, 1, 2).float() / 255.0)
        return vectors


def _export(
    embedder: Embedder,
    path: Path,
    pictures_NHWC: NDArray[np.uint8],
    *,
    write: Callable[[nn.Module, Tensor, Path], None],
    run: Callable[[Path], Callable[[NDArray[np.uint8]], NDArray[np.float32]]],
    runtime: str,
) -> Exported:
    description = path.with_name(f"{path.name}.json")
    if not len(pictures_NHWC):
        raise InputError(Problem("pictures", "none are given, and the export is checked on them", "give some"))
    embedder = copy.deepcopy(embedder).cpu().eval().requires_grad_(requires_grad=False)
    expected_ND = embedder.embed(pictures_NHWC)
    with atomic_path(path) as temporary, torch.inference_mode(False), torch.no_grad():
        # Two pictures, since a batch of one would be taken for a constant.
        example = torch.from_numpy(np.resize(pictures_NHWC, (2, *pictures_NHWC.shape[1:])))
        try:
            with _quiet():
                write(_UnitVectors(embedder).eval(), example, temporary)
        except Exception as error:  # torch's exporters raise many kinds, none of them public
            reason = reason_of(error)
            what = f"{embedder.config.backbone!r} cannot be exported ({reason})"
            raise InputError(Problem(str(path), what, "use another backbone")) from None
        vectors_of = run(temporary)
        found = [(vectors_of(block), wanted) for block, wanted in _batches(pictures_NHWC, expected_ND)]
        difference = max(float(np.abs(vectors - wanted).max()) for vectors, wanted in found)
        if not difference <= MAX_DIFFERENCE:
            what = f"{runtime} gives other vectors, by {difference:.2g}, over {MAX_DIFFERENCE:g}; it was not kept"
            raise InputError(Problem(str(path), what, "use another version of it"))
        checked = {"runtime": runtime, "num_pictures": len(pictures_NHWC), "largest_difference": difference}
        about = describe(embedder) | {"file": path.name, "sha256": sha256_file(temporary), "checked": checked}
        write_json(description, about)
    return Exported(path, description, len(pictures_NHWC), difference)


def _batches(
    pictures_NHWC: NDArray[np.uint8], x_ND: NDArray[np.float32]
) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Return the pictures and their vectors, first the first one alone, then all in batches."""
    small, large = _BATCHES
    starts = range(0, len(pictures_NHWC), large)
    parts = [slice(0, small), *(slice(start, start + large) for start in starts)]
    return [(np.ascontiguousarray(pictures_NHWC[part]), x_ND[part]) for part in parts]


def describe(embedder: Embedder) -> dict[str, Any]:
    """Return what a program must know to use the network, as JSON values."""
    policy, size = embedder.policy, embedder.policy.size
    return {
        "format": _FORMAT,
        "made_by": f"mohs {version('mohs')}",
        "input": {
            "name": "pictures",
            "dtype": "uint8",
            "shape": ["batch", size, size, policy.channels],
            "axes": "batch, height, width, channels",
            "colour": "RGB" if policy.channels == 3 else "grey, ITU-R 601 luma",
        },
        "preparation": _preparation(policy),
        "in_the_network": {
            "scale": 1 / 255,
            "mean": embedder.mean.flatten().tolist(),
            "std": embedder.std.flatten().tolist(),
        },
        "output": {
            "name": "vectors",
            "dtype": "float32",
            "shape": ["batch", embedder.embedding_dim],
            "length": 1.0,
            "compare_by": "Euclidean distance, 0 to 2, smaller is closer; or cosine similarity",
        },
    }


_FIT: Final = {
    "pad": "scale so that the longer side fits; centre on a square of the median colour of the border",
    "crop": "scale so that the shorter side fits; keep the centre",
    "stretch": "scale both sides to fit, whatever their ratio",
}


def _preparation(policy: ImagePolicy) -> dict[str, Any]:
    depth = "v // 256" if policy.white_level is None else f"round(255 * v / {policy.white_level:g}), at most 255"
    return {
        "size": policy.size,
        "fit": policy.fit,
        "white_level": policy.white_level,
        "steps": [
            "turn as the EXIF orientation says",
            f"grey of more than 8 bits becomes 8: {depth}",
            "transparency: on white",
            "convert to " + ("RGB" if policy.channels == 3 else "grey"),
            f"{_FIT[policy.fit]}; {policy.size} x {policy.size} pixels, resampled by Lanczos with antialiasing",
        ],
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch's exporters say to those who work on them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
