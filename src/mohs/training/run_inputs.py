"""What a run reads: its pictures and their split, what is said of them before, and their fingerprints after.

A run that is taken up must read the same. File names say little: a picture that was exported again has the name it had.
Fingerprints are of the pictures as they are decoded, since these are what the network sees. A file that was only copied
or touched has not changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from mohs.artefacts import fingerprint, read_json, sha256_file, write_json
from mohs.data.dataset import Dataset
from mohs.data.equal_pictures import picture_digest
from mohs.data.quarantine import Reading
from mohs.data.rows import read_rows
from mohs.data.split import assign_splits, hold_out_classes, limit_per_class
from mohs.data.table import Table, require_classes
from mohs.errors import InputError, Problem
from mohs.mining.roles import anchor_items, num_without_catalog, without_catalog
from mohs.model.finetune import random_weights_warning, rate_warning
from mohs.sequence import length_warning
from mohs.settings.config import DataConfig, RunConfig

__all__ = [
    "FEWEST_HELD_OUT",
    "SplitData",
    "changed_files",
    "changed_pictures",
    "classes_before",
    "forewarnings",
    "open_split_data",
    "save_inputs",
    "trained_classes",
    "with_held_out_classes",
]

_FILE = "inputs.json"
_BEFORE = "trained_before.json"
FEWEST_HELD_OUT = 10
"""Classes below which an R@1 of held-out pictures says nothing."""

_DIGEST_BYTES = 8
_NUM_NAMED = 5


@final
@dataclass(frozen=True, eq=False)
class SplitData:
    """A dataset and which of its items are for training and which for the test, bool [N] each.

    Items marked "validation", in the table or by `data.validation_fraction`, are in neither, unless the table has none
    marked "test". `num_not_chosen` counts those that were left out of the data set by settings.
    """

    dataset: Dataset
    train_N: np.ndarray
    test_N: np.ndarray
    unseen_classes: bool
    num_not_chosen: int = 0

    @property
    def validation_N(self) -> np.ndarray:  # noqa: N802  the axis
        """Items that are neither trained on nor tested, bool [N]: what a run may be watched and stopped by."""
        marked_N: np.ndarray = (self.dataset.table.splits == "validation") & ~self.test_N
        return marked_N

    @property
    def reading(self) -> Reading:
        """What became of the pictures that were read."""
        return Reading(len(self.dataset), self.dataset.bad, self.num_not_chosen)

    @property
    def num_training_classes(self) -> int:
        """Classes that have a training item."""
        return len(np.unique(self.dataset.labels[self.train_N]))

    def count_queries(self) -> int:
        """Return how many test items have an item of their class to find; raise `InputError` if none has.

        On unseen classes that is another test item. Where test classes are trained on, it is a training item.
        """
        table = self.dataset.table
        names, class_N = np.unique(table.labels, return_inverse=True)
        test_C = np.bincount(class_N[self.test_N], minlength=len(names))
        train_C = np.bincount(class_N[self.train_N], minlength=len(names))
        seen = bool((train_C[test_C > 0] > 0).any())
        count = int(test_C[train_C > 0 if seen else test_C > 1].sum())
        if not count:
            what = "every test class has one picture, so no query has another to find"
            raise InputError(Problem(table.source, what, "add pictures, or a catalog"))
        return count

    def anchors_note(self, config: RunConfig) -> str | None:
        """Return what is to be said of the anchors of a run on these training items, a line or None.

        Raises `InputError` if the items cannot be what `training.anchors` asks for.
        """
        table, anchors = self.dataset.table, config.training.anchors
        labels, catalog_N = table.labels[self.train_N], table.roles[self.train_N] == "catalog"
        anchor_items(labels, catalog_N, anchors, name="training.anchors")
        num = num_without_catalog(labels, catalog_N) if anchors == "catalog" else 0
        return without_catalog(num, len(np.unique(labels))) if num else None

    @property
    def fingerprint(self) -> str:
        """32 hex digits of the files (as written), labels, roles, splits, groups: equal if these are the same items."""
        table = self.dataset.table
        groups = () if table.groups is None else (table.groups,)
        return fingerprint(np.array(table.files), table.labels, table.roles, self.train_N, self.test_N, *groups)


def open_split_data(
    config: DataConfig, *, seed: int, all_test: bool = False, progress: Callable[[int, int], None] | None = None
) -> SplitData:
    """Return the dataset that `config` describes, with its split.

    Rules: the first `max_classes` classes by name are kept; of each at most `per_class` items, drawn by `seed`; a
    `split` column in the table is kept to (if no item is marked "test", those marked "validation" are the test);
    otherwise `test_fraction` of the classes (or of each class's items) is the test. Of the training classes
    `validation_fraction` are then held out. With `all_test` every item is a test item, whatever its split. Raises
    `InputError` for bad data.
    """
    dataset = config.open(progress=progress)
    num_readable = len(dataset)
    if config.max_classes is not None:
        dataset = dataset.take(dataset.labels_id < config.max_classes)
    if config.per_class is not None:
        dataset = dataset.take(limit_per_class(dataset, config.per_class, seed=seed))
    require_classes(dataset.table)
    not_chosen = num_readable - len(dataset)
    if all_test:
        none, every = np.zeros(len(dataset), dtype=bool), np.ones(len(dataset), dtype=bool)
        return SplitData(dataset, none, every, True, not_chosen)
    unsplit = not (dataset.table.splits != "").any()
    if unsplit and config.split_by == "item" and np.bincount(dataset.labels_id).max() < 2:
        what = "every class has one picture, so by item none is left for the test"
        raise InputError(Problem(dataset.table.source, what, "add pictures, or a catalog"))
    table = assign_splits(dataset.table, config.split_by, config.test_fraction, seed=seed)
    if config.validation_fraction:
        table = with_held_out_classes(table, config, seed=seed)
    dataset = Dataset(table, dataset.pictures, dataset.bad)
    train_N, test_N = table.splits == "train", table.splits == "test"
    if not test_N.any():  # tables for other libraries have only "train" and "validation"
        test_N = table.splits == "validation"
    for name, marked_N in (("train", train_N), ("test", test_N)):
        if not marked_N.any():
            what = f"the column 'split' marks no item {name!r}"
            raise InputError(Problem(table.source, what, "mark some, or leave the column out"))
    unseen = not np.isin(table.labels[test_N], table.labels[train_N]).any()
    return SplitData(dataset, train_N, test_N, unseen, not_chosen)


def with_held_out_classes(table: Table, config: DataConfig, *, seed: int) -> Table:
    """Return the table with its held-out classes; raise `InputError` if they are too few, or it has some already."""
    share = config.validation_fraction
    if (table.splits == "validation").any():
        what = f"{share:g}, and the column 'split' of {table.source} marks held-out pictures already (validation)"
        raise InputError(Problem("data.validation_fraction", what, "leave it out, or mark none there"))
    training = np.unique(table.labels[table.splits == "train"])
    num_pairs = 0
    if len(training) >= 2 * FEWEST_HELD_OUT:  # else no share of at most a half is enough
        found = hold_out_classes(table, share, seed=seed)
        num_each = np.unique(found.labels[found.splits == "validation"], return_counts=True)[1]
        num_pairs = int((num_each > 1).sum())
        if num_pairs >= FEWEST_HELD_OUT:
            return found
    what = (
        f"{share:g} of {len(training):,} training classes holds out {num_pairs:,} with two pictures or more; R@1 needs "
        f"{FEWEST_HELD_OUT} such classes"
    )
    raise InputError(Problem("data.validation_fraction", what, "raise it, add classes, or leave it out"))


def forewarnings(config: RunConfig, num_classes: int) -> list[str]:
    """Return a line for each thing that makes a run on so many training classes worse than it need be.

    They are pretrained weights that learn too fast, settings for pretrained weights without weights, and fewer triplets
    than classes. What cannot be trained at all is an error elsewhere.

    >>> from mohs.settings.config import TrainingConfig
    >>> forewarnings(RunConfig(training=TrainingConfig(num_triplets=3)), 4)
    ['training.num_triplets: 3 triplets: 0.75 passes over 4 classes; 1 of them is never an anchor: give 4 or more']
    """
    length = length_warning(config.for_classes(num_classes).training.length, num_classes)
    lines = [rate_warning(config), random_weights_warning(config)]
    lines.append(None if length is None else f"training.num_triplets: {length}")
    return [line for line in lines if line is not None]


def changed_pictures(folder: Path, dataset: Dataset) -> str | None:
    """Return a line if pictures are not those that the run in this folder read; None if all are as they were.

    The items of `dataset` must be those of items.csv, in its order. A run without fingerprints has nothing to compare.
    """
    before = _inputs(folder)
    if before is None:
        return None
    digits, all_digits = 2 * _DIGEST_BYTES, str(before["pictures"])
    old_digests = [all_digits[i : i + digits] for i in range(0, len(all_digits), digits)]
    pairs = zip(old_digests, _picture_digests(dataset), strict=True)
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
    before = _inputs(folder)
    now, paths = _file_digests(config), _paths(config)
    return [
        f"{name}: {paths.get(name)} {'has changed since the run read it' if name in now else 'is not there any more'}"
        for name, digest in ({} if before is None else dict(before["files"])).items()
        if now.get(name) != digest
    ]


def trained_classes(folder: Path) -> np.ndarray:
    """Return the classes that the run in a folder was trained on, or one that it started from, str, sorted."""
    columns, _ = read_rows(folder / "items.csv")
    own = [name for name, split in zip(columns["class"], columns["split"], strict=True) if split == "train"]
    before = folder / _BEFORE
    return np.unique([*own, *(read_json(before) if before.is_file() else ())])


def classes_before(config: RunConfig) -> set[str]:
    """Return the classes that the run was trained on which a run starts from; none if it starts from none."""
    start = config.model.start
    if start is None or not (Path(start) / "items.csv").is_file():
        return set()
    return set(trained_classes(Path(start)).tolist())


def save_inputs(folder: Path, dataset: Dataset, config: RunConfig) -> None:
    """Write fingerprints of what a run reads, and the classes that it knew before it began.

    The fingerprints are 16 hex digits of each picture (about 1 s a GB), in the order of items.csv, and the SHA-256 of
    other files, weights and review list, by setting. The run that it starts from may go, so its classes are kept.
    """
    pictures = "".join(_picture_digests(dataset))
    write_json(folder / _FILE, {"pictures": pictures, "files": _file_digests(config)})
    if before := classes_before(config):
        write_json(folder / _BEFORE, sorted(before))


def _inputs(folder: Path) -> dict[str, Any] | None:
    """Return the fingerprints in a run folder; None if it has none, as runs of older versions."""
    return dict(read_json(folder / _FILE)) if (folder / _FILE).is_file() else None


def _picture_digests(dataset: Dataset) -> tuple[str, ...]:
    return tuple(picture_digest(picture, _DIGEST_BYTES).hex() for picture in dataset.pictures)


def _paths(config: RunConfig) -> dict[str, str]:
    paths = {"model.weights": config.model.weights, "negatives.review_list": config.negatives.review_list}
    return {name: path for name, path in paths.items() if path is not None}


def _file_digests(config: RunConfig) -> dict[str, str]:
    return {name: sha256_file(path) for name, path in _paths(config).items() if Path(path).is_file()}
