"""Checkpoints: everything that decides what comes next, in files that are whole or not there.

`checkpoints/step-00000120.pt` holds the tensors, `step-00000120.json` the rest, the name of the other file and the
SHA-256 of both; it is written last, so a checkpoint without it does not count. The newest two are kept: if the newest
does not match its hashes, the one before it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from mohs.artefacts import atomic_path, sha256_file
from mohs.checks import require
from mohs.errors import InputError
from mohs.sums import check_format, read_summed, write_summed

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

_FORMAT = 4
_LONGEST_NAME = 200
_KEPT = 2
_KINDS = {"step": int, "sha256": str, "values": dict}


@final
@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A moment of a run.

    Attributes:
        step: optimiser steps taken.
        tensors: state_dicts by name ("embedder", "optimizer", "loss" …).
        values: JSON: positions, counters, states of controller and guard.
        skipped: why newer checkpoints were passed over, a line each; empty for the newest.
    """

    step: int
    tensors: Mapping[str, Any]
    values: Mapping[str, Any]
    skipped: tuple[str, ...] = ()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then remove all but the newest two.

    At one step twice (a segment's end and the next one's beginning), the later one replaces the earlier: its tensors
    have another name, so that this happens in the one moment in which its JSON takes the other's place.
    """
    stem = f"step-{checkpoint.step:08d}"
    names = (f"{stem}.pt", f"{stem}-again.pt")
    tensors_file = folder / next(name for name in names if name != _tensors_of(folder / f"{stem}.json"))
    with atomic_path(tensors_file) as temporary:
        torch.save(dict(checkpoint.tensors), temporary)
    record = {
        "format": _FORMAT,
        "step": checkpoint.step,
        "tensors": tensors_file.name,
        "sha256": sha256_file(tensors_file),
        "values": dict(checkpoint.values),
    }
    write_summed(folder / f"{stem}.json", record)
    for old in _by_step(folder)[:-_KEPT]:
        old.unlink()
    # Tensors go after their JSON: what a kill leaves in between is tensors without JSON, which do not count.
    kept = {_tensors_of(file) for file in _by_step(folder)}
    for file in folder.glob("step-*.pt"):
        if file.name not in kept:
            file.unlink()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None if there is none at all.

    Raises `InputError` if there are checkpoints and every one is damaged or of another format.
    """
    problems: list[str] = []
    for file in reversed(_by_step(folder)):
        try:
            record = read_summed(file)
            check_format(file, record.get("format"), _FORMAT)
        except InputError as error:
            problems.extend(error.problems)
            continue
        tensors_file = folder / _tensors_of(file)
        wrong = [name for name, kind in _KINDS.items() if not isinstance(record.get(name), kind)]
        if wrong:
            problems.append(f"{file}: {wrong[0]!r} is {record.get(wrong[0])!r:.60}; go on from another checkpoint")
        elif not tensors_file.is_file():
            problems.append(f"{tensors_file}: no such file; it belongs to {file.name}")
        elif sha256_file(tensors_file) != record["sha256"]:
            problems.append(f"{tensors_file}: SHA-256 is not the one in {file.name}; the file is damaged")
        else:
            tensors: Mapping[str, Tensor | Any] = torch.load(tensors_file, map_location="cpu", weights_only=True)
            return Checkpoint(record["step"], tensors, record["values"], tuple(problems))
    require(*problems)
    return None


def _tensors_of(file: Path) -> str:
    """Return the name of the tensors that belong to a checkpoint's JSON; "" if it cannot be read."""
    try:
        record = read_summed(file)
    except InputError:
        return ""
    own = f"{file.stem}.pt"
    named = record.get("tensors", own)
    return Path(named).name if isinstance(named, str) and len(named) < _LONGEST_NAME else own


def _by_step(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.json"), key=lambda file: (len(file.name), file.name))
