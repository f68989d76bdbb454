"""`run.json`: what a finished run counted, and the SHA-256 of the files of its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mohs.sums import check_files, check_format, file_sums, read_summed, write_summed

__all__ = ["FACTS", "check_run_files", "read_facts", "write_facts"]

FACTS: Final = "run.json"

_FORMAT = 1
# The embedder's own JSON has the sum of its weights.
_NAMES = (
    "config.json", "items.csv", "inputs.json", "quarantine.csv", "trained_before.json", "events.jsonl",
    "embedder/embedder.json",
)  # fmt: skip


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write run.json, whose presence says that the run finished: all its other files are there, and hashed in it."""
    plans = [str(file.relative_to(folder)) for file in sorted((folder / "plans").glob("*.parquet"))]
    names = [name for name in (*_NAMES, *plans) if (folder / name).is_file()]
    write_summed(folder / FACTS, {"format": _FORMAT, **facts, "files": file_sums(folder, names)})


def read_facts(folder: Path) -> Mapping[str, Any]:
    """Return what run.json says; raise `InputError` if it is missing, damaged or of a newer format."""
    facts = read_summed(folder / FACTS)
    # The first ones had no number.
    check_format(folder / FACTS, facts.setdefault("format", _FORMAT), _FORMAT)
    return facts


def check_run_files(folder: Path, *, complete: bool = True) -> None:
    """Raise `InputError` naming each file of a finished run that is not as the run left it.

    One that is missing is named too, if the run must be `complete`.
    """
    check_files(folder / FACTS, read_facts(folder), complete=complete)
