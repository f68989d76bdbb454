"""What a run read: fingerprints of its pictures and files, so that a run that is taken up reads the same.

File names say little: a picture that was exported again has the name it had. Fingerprints are of the pictures as they
are decoded, since these are what the network sees. A file that was only copied or touched has not changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mohs.artefacts import read_json, sha256_file, write_json
from mohs.data.dataset import Dataset
from mohs.data.equal_pictures import picture_digest
from mohs.settings.config import RunConfig

__all__ = ["RunInputs", "changed_files", "changed_pictures"]

_FILE = "inputs.json"
_DIGEST_BYTES = 8
_NUM_NAMED = 5


@final
@dataclass(frozen=True)
class RunInputs:
    """Fingerprints: 16 hex digits of each picture, in the order of items.csv; SHA-256 of other files, by setting."""

    pictures: tuple[str, ...]
    files: Mapping[str, str]

    @classmethod
    def of(cls, dataset: Dataset, config: RunConfig) -> "RunInputs":
        """Return the fingerprints of what a run reads now: every picture (about 1 s a GB), weights, review list."""
        return cls(_picture_digests(dataset), _file_digests(config))

    def save(self, folder: Path) -> None:
        """Write them to inputs.json in a run folder."""
        write_json(folder / _FILE, {"pictures": "".join(self.pictures), "files": dict(self.files)})

    @classmethod
    def load(cls, folder: Path) -> "RunInputs | None":
        """Return those of a run folder; None if it has none, as runs of older versions."""
        if not (folder / _FILE).is_file():
            return None
        found = read_json(folder / _FILE)
        digits, all_digits = 2 * _DIGEST_BYTES, str(found["pictures"])
        pictures = tuple(all_digits[i : i + digits] for i in range(0, len(all_digits), digits))
        return cls(pictures, dict(found["files"]))


def changed_pictures(folder: Path, dataset: Dataset) -> str | None:
    """Return a line if pictures are not those that the run in this folder read; None if all are as they were.

    The items of `dataset` must be those of items.csv, in its order. A run without fingerprints has nothing to compare.
    """
    before = RunInputs.load(folder)
    if before is None:
        return None
    pairs = zip(before.pictures, _picture_digests(dataset), strict=True)
    changed = [i for i, (old, new) in enumerate(pairs) if old != new]
    if not changed:
        return None
    names = ", ".join(dataset.table.files[i] for i in changed[:_NUM_NAMED])
    more = f" and {len(changed) - _NUM_NAMED:,} more" if len(changed) > _NUM_NAMED else ""
    have = "has" if len(changed) == 1 else "have"
    return (
        f"{dataset.table.source}: {len(changed):,} of {len(dataset):,} pictures {have} changed since the run read "
        f"them: {names}{more}"
    )


def changed_files(folder: Path, config: RunConfig) -> list[str]:
    """Return a line for each other file that is not as the run in this folder read it."""
    before = RunInputs.load(folder)
    now, paths = _file_digests(config), _paths(config)
    return [
        f"{name}: {paths.get(name)} {'has changed since the run read it' if name in now else 'is not there any more'}"
        for name, digest in ({} if before is None else before.files).items()
        if now.get(name) != digest
    ]


def _picture_digests(dataset: Dataset) -> tuple[str, ...]:
    return tuple(picture_digest(picture, _DIGEST_BYTES).hex() for picture in dataset.pictures)


def _paths(config: RunConfig) -> dict[str, str]:
    paths = {"model.weights": config.model.weights, "negatives.review_list": config.negatives.review_list}
    return {name: path for name, path in paths.items() if path is not None}


def _file_digests(config: RunConfig) -> dict[str, str]:
    return {name: sha256_file(path) for name, path in _paths(config).items() if Path(path).is_file()}
