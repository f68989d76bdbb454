"""The folder of a classifier, and proof that its network was not changed: the hash of its weights."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from safetensors.numpy import load_file, save_file
from torch import nn

from mohs.artefacts import atomic_folder, atomic_path
from mohs.classify.calibration import Calibration
from mohs.errors import InputError, reason_of
from mohs.evaluation.checked import Array
from mohs.model.embedder import Embedder
from mohs.settings.section import setting_problems
from mohs.shown import printable
from mohs.sums import check_files, check_format, file_sums, read_summed, write_summed

__all__ = ["SavedClassifier", "load_classifier", "require_new_folder", "save_classifier", "weights_sha256"]


def weights_sha256(network: nn.Module) -> str:
    """Return the SHA-256 of a network's `state_dict()`, 64 hex digits: parameters and buffers, batch norm's too.

    Hashed are, in the order of the names, the name, dtype and shape of each tensor and its bytes in row-major order. So
    the hash does not depend on the device or on the memory format, and a single changed bit changes it.

    >>> network = nn.Linear(2, 1)
    >>> before = weights_sha256(network)
    >>> with torch.no_grad():
    ...     _ = network.bias.add_(1.0)
    >>> len(before), weights_sha256(network) == before
    (64, False)
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        # As bytes: numpy has no bfloat16.
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


_FORMAT = 1
_SETTINGS, _TENSORS, _EMBEDDER = "classifier.json", "classifier.safetensors", "embedder"


@final
class SavedClassifier(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What classifier.json holds; `facts` are the caller's, the rest is the classifier's.

    `files` are the SHA-256 of the files beside it, which `save_classifier` adds.
    """

    format: int = _FORMAT
    parameters: dict[str, str | bool | int | float | None]
    classes: list[str] | list[int]
    calibration: Calibration
    num_features: int
    embedder_sha256: str | None
    facts: dict[str, Any]
    files: dict[str, str] = {}


def require_new_folder(folder: str | Path) -> None:
    """Raise `InputError` if there is something at `folder`: no classifier replaces another."""
    if Path(folder).exists():
        raise InputError(f"{folder}: exists already; name another folder, or remove it")


def save_classifier(
    folder: str | Path, saved: SavedClassifier, tensors: Mapping[str, Array], embedder: Embedder | None
) -> None:
    """Write a new folder with settings, tensors and a copy of the embedder; raise `InputError` if there is one."""
    require_new_folder(folder)
    with atomic_folder(folder) as temporary:
        with atomic_path(temporary / _TENSORS) as file:
            save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, file)
        if embedder is not None:
            embedder.save_pretrained(temporary / _EMBEDDER)
        # The embedder's own JSON is of its weights, and they are known by `embedder_sha256`.
        files = file_sums(temporary, [_TENSORS])
        write_summed(temporary / _SETTINGS, {**saved.model_dump(mode="json"), "files": files})


def load_classifier(folder: str | Path) -> tuple[SavedClassifier, dict[str, Array], Embedder | None]:
    """Return settings, tensors and embedder of a folder.

    Raises `InputError` if a file is missing or damaged, which the SHA-256 of each say, for numbers that are NaN or Inf
    and classes that are there twice, and if the embedder's weights are not those that the classifier was fitted on.
    """
    folder = Path(folder)
    file = folder / _SETTINGS
    if not file.is_file():
        raise InputError(f"{folder}: not a classifier (no {_SETTINGS}); give a folder made by 'mohs classify fit'")
    settings = read_summed(file)
    check_format(file, settings.get("format"), _FORMAT)
    try:
        saved = SavedClassifier.model_validate(settings)
    except ValidationError as error:
        raise InputError(*setting_problems(error, source=str(file))) from None
    if len(set(saved.classes)) < len(saved.classes):
        raise InputError(f"{file}: classes: a class is there twice; fit the classifier again")
    check_files(file, settings)
    try:
        tensors = load_file(folder / _TENSORS)
    except Exception as error:  # safetensors raises several kinds, none of them public
        reason = reason_of(error)
        raise InputError(f"{folder / _TENSORS}: cannot be read ({reason}); fit the classifier again") from None
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise InputError(f"{folder / _TENSORS}: {name} holds NaN or Inf; fit the classifier again")
    embedder = None
    if saved.embedder_sha256 is not None:
        embedder = Embedder.from_pretrained(folder / _EMBEDDER)
        found = weights_sha256(embedder)
        if found != saved.embedder_sha256:
            raise InputError(
                f"{folder / _EMBEDDER}: not the embedder that the classifier was fitted on (SHA-256 of the weights "
                f"{found[:12]}…, not {printable(saved.embedder_sha256[:12])}…); fit the classifier again on this one"
            )
    return saved, tensors, embedder
