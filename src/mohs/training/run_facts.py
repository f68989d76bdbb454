"""`run.json`: what a finished run counted, and the SHA-256 of the files of its folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mohs.errors import InputError, Problem
from mohs.sums import check_files, check_format, file_sums, read_summed, write_summed

__all__ = ["FACTS", "check_run_files", "is_plan", "read_facts", "write_facts"]

FACTS: Final = "run.json"

_FORMAT = 1
_PLANS = "plans/"
_ALWAYS = ("data_fingerprint", "num_items", "num_triplets")
# The embedder's own JSON has the sum of its weights.
_NAMES = (
    "config.json", "items.csv", "inputs.json", "quarantine.csv", "trained_before.json", "events.jsonl",
    "embedder/embedder.json",
)  # fmt: skip


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write run.json, whose presence says that the run finished: all its other files are there, and hashed in it."""
    plans = [file.relative_to(folder).as_posix() for file in sorted((folder / _PLANS).glob("*.parquet"))]
    names = [name for name in (*_NAMES, *plans) if (folder / name).is_file()]
    write_summed(folder / FACTS, {"format": _FORMAT, **facts, "files": file_sums(folder, names)})


def read_facts(folder: Path) -> Mapping[str, Any]:
    """Return what run.json says; raise `InputError` if it is missing, damaged, of a newer format, or another file."""
    facts = read_summed(folder / FACTS)
    # The first ones had no number.
    check_format(folder / FACTS, facts.setdefault("format", _FORMAT), _FORMAT)
    if missing := [name for name in _ALWAYS if name not in facts]:
        what = f"not a complete run.json ({missing[0]!r} is missing)"
        raise InputError(Problem(str(folder / FACTS), what, "copy the run again"))
    return facts


def check_run_files(folder: Path, *, may_lack: Callable[[str], bool] = lambda _: False) -> None:
    """Raise `InputError` naming each file of a finished run that is not as the run left it, or that it may not lack."""
    check_files(folder / FACTS, read_facts(folder), may_lack=may_lack)


def is_plan(name: str) -> bool:
    """Return whether a file of a run, by its name in run.json, is a plan: big, and not needed to use the run."""
    return name.startswith(_PLANS)
