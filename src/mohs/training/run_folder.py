"""The folder of a run: which one, who may write there, what it begins with, and whether it holds this very run.

When the run has finished, `run.json` holds what it counted, and the SHA-256 of the files of its folder.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mohs.artefacts import remove_left_over, write_json
from mohs.checks import require
from mohs.data.quarantine import write_quarantine
from mohs.data.table import BUILT_IN, table_bytes, write_table
from mohs.errors import InputError, Problem
from mohs.lock import LOCK_NAME, only_writer
from mohs.model.embedder import Embedder
from mohs.model.hub import HUB_PREFIX
from mohs.settings.config import RunConfig, load_config
from mohs.settings.toml import flat_settings
from mohs.sums import check_files, check_format, file_sums, read_summed, write_summed
from mohs.training.run_inputs import SplitData, changed_files, changed_pictures, save_inputs

__all__ = [
    "FACTS",
    "begin_folder",
    "check_run_files",
    "check_same_run",
    "disk_bytes",
    "held_run_folder",
    "is_plan",
    "read_facts",
    "with_run_folder",
    "write_facts",
]


def with_run_folder(config: RunConfig, *, resume: bool = False) -> RunConfig:
    """Return the settings with a run folder that is free; raise `InputError` if the one they name is not.

    No run overwrites another. Without a name it is `runs/NAME-001`, or the next free number, NAME being the data's.
    With `resume` the folder must be named, and may hold a run (what a killed process left half-written does not count).
    """
    if config.out is None:
        source = Path(config.data.source)
        name = source.parent.name if source.stem == "images" and source.parent.name else source.stem
        numbers = (f"runs/{name or 'run'}-{number:03d}" for number in itertools.count(1))
        return config.model_copy(update={"out": next(folder for folder in numbers if not Path(folder).exists())})
    folder = Path(config.out)
    if resume and folder.is_dir():
        left = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        if not left or (folder / "config.json").is_file():
            return config
    if folder.exists() and (not folder.is_dir() or any(entry.name != LOCK_NAME for entry in folder.iterdir())):
        unfinished = (folder / "config.json").is_file() and not (folder / "run.json").is_file()
        if unfinished:
            raise InputError(
                f"out: {folder} holds a run that did not finish; go on with --resume {folder}, or give another folder "
                "with --out"
            )
        raise InputError(f"out: {folder} exists already; give another folder with --out, or remove it")
    return config


def disk_bytes(embedder: Embedder, config: RunConfig) -> int:
    """Return about what a run leaves on disk while it trains: checkpoints, plans and the log of steps."""
    weights: int = sum(value.numel() * value.element_size() for value in embedder.state_dict().values())
    # Three checkpoints, two kept and one being written, of weights and up to two moments of the optimiser.
    per_checkpoint = 3 if config.training.stop_after is None else 4  # and of the best weights
    num_steps = config.training.length // config.training.batch_triplets + 1
    return 3 * per_checkpoint * weights + 41 * config.training.length + 400 * num_steps


@contextlib.contextmanager
def held_run_folder(config: RunConfig, *, resume: bool = False) -> Iterator[RunConfig]:
    """Hold the run folder of these settings against every other writer, and yield the settings that name it.

    Where they name none, it is the next free one, whoever else is looking for one. Raises `InputError` if another
    process writes there, and as `with_run_folder` does, of what is there once it is held.
    """
    while True:
        named = with_run_folder(config, resume=resume)
        try:
            held = contextlib.ExitStack()
            held.enter_context(only_writer(Path(str(named.out)), "training"))
            break
        except InputError:
            if config.out is not None:
                raise
    with held:
        # Between the look and the lock another run may have come and gone.
        config, folder = with_run_folder(named, resume=resume), Path(str(named.out))
        for place in (folder, *(entry for entry in folder.iterdir() if entry.is_dir())):
            remove_left_over(place)
        yield config


def begin_folder(folder: Path, data: SplitData, config: RunConfig) -> None:
    """Write what a run is. Before the first checkpoint there is nothing to take up: what was logged is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", _independent(config).model_dump(mode="json"))
    write_table(data.dataset.table, folder / "items.csv")
    save_inputs(folder, data.dataset, config)
    if data.dataset.bad:
        write_quarantine(folder / "quarantine.csv", data.dataset.bad)
    for name in ("events.jsonl", "review.csv"):
        (folder / name).unlink(missing_ok=True)


def check_same_run(folder: Path, data: SplitData, config: RunConfig) -> None:
    """Raise `InputError` if the folder holds another run: other settings, items, pictures or files."""
    if not (folder / "config.json").is_file():
        return
    own = flat_settings(_independent(config).model_dump(mode="json"))
    other = flat_settings(load_config(folder / "config.json").model_dump(mode="json"))
    problems = [
        f"{folder}: {name} is {other.get(name)!r} in this run and {value!r} now; leave it as it was, or train into "
        "another folder"
        for name, value in own.items()
        if name != "out" and other.get(name) != value
    ]
    require(*problems)
    items = folder / "items.csv"
    if not items.is_file() or (folder / "run.json").is_file():
        return
    # Files are written relative to the run's folder: elsewhere the same items have other bytes.
    if items.read_bytes() != table_bytes(data.dataset.table, folder):
        source = data.dataset.table.source
        raise InputError(
            f"{items}: the items of {source} have changed since the run began; restore them, or train into another "
            "folder"
        )
    pictures = changed_pictures(folder, data.dataset)
    changed = changed_files(folder, config) if pictures is None else [pictures, *changed_files(folder, config)]
    if changed:
        raise InputError(*(f"{line}; restore what was there, or train into another folder" for line in changed))


def _independent(config: RunConfig) -> RunConfig:
    """Return the settings with absolute paths, so that the run can be evaluated from any working directory."""
    changed: dict[str, Any] = {}
    files = (
        ("data", "source"),
        ("data", "catalog"),
        ("model", "weights"),
        ("model", "start"),
        ("negatives", "review_list"),
    )
    for section, name in files:
        own = changed.get(section, getattr(config, section))
        path = getattr(own, name)
        if path is not None and (name != "source" or path != BUILT_IN) and not path.startswith(HUB_PREFIX):
            changed[section] = own.model_copy(update={name: str(Path(path).resolve())})
    return config.model_copy(update=changed)


FACTS: Final = "run.json"

_FACTS_FORMAT = 1
_PLAN_FOLDER = "plans/"
_FACTS_ALWAYS = ("data_fingerprint", "num_items", "num_triplets")
# The embedder's own JSON has the sum of its weights.
_SUMMED = (
    "config.json", "items.csv", "inputs.json", "quarantine.csv", "trained_before.json", "events.jsonl",
    "embedder/embedder.json",
)  # fmt: skip


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write run.json, whose presence says that the run finished: all its other files are there, and hashed in it."""
    plans = [file.relative_to(folder).as_posix() for file in sorted((folder / _PLAN_FOLDER).glob("*.parquet"))]
    names = [name for name in (*_SUMMED, *plans) if (folder / name).is_file()]
    write_summed(folder / FACTS, {"format": _FACTS_FORMAT, **facts, "files": file_sums(folder, names)})


def read_facts(folder: Path) -> Mapping[str, Any]:
    """Return what run.json says; raise `InputError` if it is missing, damaged, of a newer format, or another file."""
    facts = read_summed(folder / FACTS)
    # The first ones had no number.
    check_format(folder / FACTS, facts.setdefault("format", _FACTS_FORMAT), _FACTS_FORMAT)
    if missing := [name for name in _FACTS_ALWAYS if name not in facts]:
        what = f"not a complete run.json ({missing[0]!r} is missing)"
        raise InputError(Problem(str(folder / FACTS), what, "copy the run again"))
    return facts


def check_run_files(folder: Path, *, may_lack: Callable[[str], bool] = lambda _: False) -> None:
    """Raise `InputError` naming each file of a finished run that is not as the run left it, or that it may not lack."""
    check_files(folder / FACTS, read_facts(folder), may_lack=may_lack)


def is_plan(name: str) -> bool:
    """Return whether a file of a run, by its name in run.json, is a plan: big, and not needed to use the run."""
    return name.startswith(_PLAN_FOLDER)
