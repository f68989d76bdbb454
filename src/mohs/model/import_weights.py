"""Weights in the pickles that are passed around, as a safetensors file for a backbone, every shape checked."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from mohs.artefacts import atomic_path
from mohs.errors import InputError, Problem
from mohs.model.backbones import classifier_prefixes, require_timm_model

__all__ = ["Imported", "import_weights"]

_LEAST_BYTES = 2**30
_TIMES = 4
_LIMIT_S = 300
_COUNTER = "num_batches_tracked"


@final
@dataclass(frozen=True)
class Imported:
    """What was written.

    Attributes:
        path: the safetensors file.
        num_tensors: of the backbone that are in it.
        mapped: "by name", or "in order": the n-th tensor of the file is the n-th of the backbone.
        left_out: names of the file's tensors that the backbone has no place for: its classifier.
    """

    path: Path
    num_tensors: int
    mapped: Literal["by name", "in order"]
    left_out: tuple[str, ...]


def import_weights(file: str | Path, backbone: str, out: str | Path) -> Imported:
    """Write the weights in a pickle (.pth, .pt, .bin) as a safetensors file that `model.weights` takes.

    The pickle is read in a process of its own, as tensors and plain containers alone, with at most 1 GiB of memory, or
    four times the file if that is more. Tensors are mapped by name; if names differ, in order, where each must have
    the shape of its place and the last part of its name ("weight", "running_mean" …).

    Args:
        file: the pickle.
        backbone: a name of timm.
        out: the new file, whole or absent.

    Raises `InputError` for an unknown backbone, a file that is missing, holds more than weights or takes more memory,
    and for tensors that do not fit; the first of them are named.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(Problem("file", f"{file}: no such file", "check the path"))
    wanted, classifier = _wanted(backbone)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "weights.safetensors"
        _unpickle(file, place)
        with safe_open(place, framework="pt") as opened:
            names = json.loads(opened.metadata()["names"])
            found = {name: opened.get_tensor(name) for name in names}
    mapped: Literal["by name", "in order"] = "by name"
    by_name = _by_name(found, wanted, classifier)
    if by_name is None:
        mapped, by_name = "in order", _in_order(file, found, wanted, classifier)
    wrong = [
        Problem(str(file), f"{name} has shape {tuple(value.shape)}, the backbone {tuple(wanted[name].shape)}")
        for name, value in by_name.items()
        if value.shape != wanted[name].shape
    ]
    if wrong:
        raise InputError(*wrong[:10], *([f"... and {len(wrong) - 10} more"] if len(wrong) > 10 else []))
    with atomic_path(out) as temporary:
        temporary.write_bytes(save({name: value.contiguous() for name, value in by_name.items()}))
    written = set(map(id, by_name.values()))
    left_out = tuple(name for name, value in found.items() if id(value) not in written and not name.endswith(_COUNTER))
    return Imported(Path(out), len(by_name), mapped, left_out)


def _wanted(backbone: str) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a backbone with its classifier, counters left out, and the names of the classifier."""
    import timm

    require_timm_model("backbone", backbone, "is no timm model")
    network = timm.create_model(backbone, pretrained=False)
    prefixes = classifier_prefixes(network)
    state = {name: value for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    return state, tuple(name for name in state if prefixes and name.startswith(prefixes))


def _unpickle(file: Path, out: Path) -> None:
    memory_bytes = max(_LEAST_BYTES, _TIMES * file.stat().st_size)
    # Our own module, and paths as arguments, not as text of a shell.
    command = [sys.executable, "-m", "mohs.model.unpickle", str(file), str(out), str(memory_bytes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise InputError(Problem(str(file), f"not read within {_LIMIT_S} s", "use another file")) from None
    if done.returncode != 0:
        why = done.stdout.strip().splitlines()
        raise InputError(Problem(str(file), why[-1] if why else "cannot be read", "use another file"))


def _by_name(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], classifier: Sequence[str]
) -> dict[str, Tensor] | None:
    """Return the file's tensors by the backbone's names, if it has them all; its classifier may be missing."""
    needed = set(wanted) - set(classifier)
    return {name: found[name] for name in wanted if name in needed} if needed <= set(found) else None


def _in_order(
    file: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], classifier: Sequence[str]
) -> dict[str, Tensor]:
    """Return the file's tensors by the backbone's names, the n-th by the n-th; raise `InputError` if they differ."""
    own = [name for name in found if not name.endswith(_COUNTER)]
    places = [name for name in wanted if name not in classifier]
    if len(own) < len(places):
        what = f"{len(own)} tensors, and the backbone has {len(places)}"
        raise InputError(Problem(str(file), what, "use weights of this backbone"))
    for name, place in zip(own, places, strict=False):
        if found[name].shape != wanted[place].shape or _kind(name) != _kind(place):
            what = (
                f"{name} {tuple(found[name].shape)} stands where the backbone has {place} {tuple(wanted[place].shape)}"
            )
            raise InputError(Problem(str(file), what, "use weights of this backbone"))
    return {place: found[name] for name, place in zip(own, places, strict=False)}


def _kind(name: str) -> str:
    return name.rpartition(".")[2]
