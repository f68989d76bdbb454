"""`mohs doctor`."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from mohs.errors import InputError

__all__ = ["DoctorRequest", "doctor_command"]


@final
@dataclass(frozen=True)
class DoctorRequest:
    """What is to be looked at: a run, or files of a training elsewhere."""

    run: Path | None
    log: Path | None
    loss_name: str | None
    margin: float | None
    batch: int | None
    embeddings: Path | None
    labels: Path | None
    train_embeddings: Path | None
    train_labels: Path | None
    query_embeddings: Path | None
    query_labels: Path | None
    pairs: Path | None


def doctor_command(request: DoctorRequest, *, fail_on: str | None, quiet: bool, as_json: bool) -> int:
    """Diagnose, print the findings and return the exit code."""
    del fail_on, quiet, as_json
    if request.run is None and request.log is None and request.embeddings is None and request.pairs is None:
        raise InputError("RUN: missing; give a run folder, --log, --embeddings or --pairs")
    raise InputError("doctor: not built yet")
