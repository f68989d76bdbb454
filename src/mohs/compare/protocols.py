"""Which pictures train, and which are asked for: two protocols from one training run.

- **Unseen classes**: no test class was trained on; every test picture is a query against all other test pictures.
- **Seen catalog**: queries are pictures of training classes that were held out; the gallery is one training picture of
  every training class. This is how a catalog is used. Where next to no class has a picture to hold out, the queries are
  the second training pictures themselves, and `held_out_is_trained` says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import fingerprint
from mohs.data.dataset import Dataset
from mohs.data.quarantine import Reading
from mohs.data.split import limit_per_class, split_by_class
from mohs.data.table import Table
from mohs.errors import InputError
from mohs.settings.config import DataConfig
from mohs.training.run_inputs import open_split_data

__all__ = ["ComparisonData", "PerClass", "fewest_classes", "open_comparison", "validation_parts"]

# Held-out pictures must come from at least this share of the training classes, else there is no catalog use to measure.
_LEAST_HELD_OUT = 0.1

# R@1 of 200 queries has a standard error of 0.035 at most.
_ENOUGH_QUERIES = 200
_LEAST_TUNED = 6


@final
@dataclass(frozen=True)
class PerClass:
    """How many pictures of a class are used at most: to train on, held out of training classes, of test classes."""

    train: int = 2
    held_out: int = 1
    test: int = 2


@final
@dataclass(frozen=True, eq=False)
class ComparisonData:
    """The pictures of a comparison. Items have no roles and no splits: every strategy sees the same.

    Attributes:
        name: of the data set.
        train: what is trained on.
        group_N: str [N], the class of each item of `train`, or for rotated classes the class before rotation: groups
            are never divided by `validation_parts`.
        catalog: int64 [C], the item of each training class that is in the catalog.
        held_out: queries of training classes.
        held_out_group_Q: str [Q], their groups: intervals draw groups, for turns of one class are alike.
        test: pictures of test classes.
        test_group_Q: str [Q], likewise.
        held_out_is_trained: whether `held_out` was trained on too, because next to no class has
            a picture more.
        reading: what became of the pictures that were read.
    """

    name: str
    train: Dataset
    group_N: NDArray[np.str_]
    catalog: NDArray[np.int64]
    held_out: Dataset
    held_out_group_Q: NDArray[np.str_]
    test: Dataset
    test_group_Q: NDArray[np.str_]
    held_out_is_trained: bool
    reading: Reading = field(default_factory=lambda: Reading(0))

    @property
    def num_classes(self) -> int:
        """How many classes are trained on."""
        return len(self.catalog)

    def fingerprint(self) -> str:
        """Return 32 hex digits of all pictures and labels, and of what is asked for."""
        parts = (self.train, self.held_out, self.test)
        arrays = (array for part in parts for array in (part.labels, np.asarray(part.pictures)))
        return fingerprint(*arrays, self.catalog)

    def facts(self) -> dict[str, int | bool | str]:
        """Return the sizes, as JSON values; a test picture alone in its class has nothing to find and is no query."""
        _, of_class_Q, count_C = np.unique(self.test.labels, return_inverse=True, return_counts=True)
        return {
            "name": self.name,
            "training_classes": self.num_classes,
            "training_pictures": len(self.train),
            "test_classes": len(np.unique(self.test.labels)),
            "test_pictures": len(self.test),
            "test_queries": int((count_C[of_class_Q] > 1).sum()),
            "catalog_queries": len(self.held_out),
            "catalog_queries_are_trained_on": self.held_out_is_trained,
        }


def open_comparison(
    config: DataConfig, *, name: str, per_class: PerClass | None = None, rotations: bool = False, seed: int = 0
) -> ComparisonData:
    """Return the pictures of a comparison.

    Classes are divided as `mohs train` divides them (by a column `split`, else `test_fraction` of them by `seed`).
    Pictures of a class are taken in one random order, catalog pictures first: the first ones train, the next are held
    out; the first is the one in the catalog. With `rotations` each picture turned by 0, 90, 180 and 270 degrees is of
    a class of its own, so that there are four times the classes; a class and its turns are on the same side.

    Raises `InputError` for bad data, and if the test has no class with two pictures.
    """
    per_class = per_class or PerClass()
    split = open_split_data(config.model_copy(update={"split_by": "class", "per_class": None}), seed=seed)
    known, test = split.dataset.take(split.train_N), split.dataset.take(split.test_N)

    trained = limit_per_class(known, per_class.train, seed=seed)
    others = np.setdiff1d(limit_per_class(known, per_class.train + per_class.held_out, seed=seed), trained)
    train, held_out = known.take(trained), known.take(others)
    catalog = limit_per_class(train, 1, seed=seed)
    least = max(2, _LEAST_HELD_OUT * len(catalog))
    is_trained = len(np.unique(held_out.labels)) < least
    if is_trained:
        held_out = train.take(np.setdiff1d(np.arange(len(train)), catalog))
    test = test.take(limit_per_class(test, per_class.test, seed=seed))
    _check_queries(name, held_out, test)
    group_N, held_out_group_Q, test_group_Q = train.labels, held_out.labels, test.labels
    if rotations:
        group_N, held_out_group_Q, test_group_Q = (
            np.tile(groups, 4) for groups in (group_N, held_out_group_Q, test_group_Q)
        )
        catalog = np.concatenate([catalog + turn * len(train) for turn in range(4)])
        train, held_out, test = (_rotated(part) for part in (train, held_out, test))
    train, held_out, test = (_without_roles(part) for part in (train, held_out, test))
    return ComparisonData(
        name, train, group_N, catalog, held_out, held_out_group_Q, test, test_group_Q, is_trained, split.reading
    )  # fmt: skip


def validation_parts(data: ComparisonData) -> list[ComparisonData]:
    """Return comparisons within the training classes, whose test are training classes that are not trained on.

    A quarter of the classes is the test of the only one; where these are fewer than 200 queries, there are two, in
    each of which one half of the classes is the test of the other.

    Raises `InputError` if no class of a test has two pictures, or if there are fewer than six.
    """
    num_groups = len(np.unique(data.group_N))
    if num_groups < _LEAST_TUNED:
        raise InputError(
            f"{data.name}: {num_groups} classes to train on; tuning needs {_LEAST_TUNED} (leave it out: --tune 0)"
        )
    is_test_N = split_by_class(data.group_N, {"test": 0.25}, seed=0) == "test"
    if is_test_N.sum() >= _ENOUGH_QUERIES:
        return [_validation_part(data, is_test_N)]
    is_test_N = split_by_class(data.group_N, {"test": 0.5}, seed=0) == "test"
    return [_validation_part(data, is_test_N), _validation_part(data, ~is_test_N)]


def fewest_classes(data: ComparisonData, *, tuned: bool) -> int:
    """Return how many classes the smallest training part of a comparison has; if `tuned`, that of a trial may be it.

    Raises `InputError` as `validation_parts` does.
    """
    parts = [data, *(validation_parts(data) if tuned else [])]
    return min(part.num_classes for part in parts)


def _validation_part(data: ComparisonData, is_test_N: NDArray[np.bool_]) -> ComparisonData:
    train, test = data.train.take(~is_test_N), data.train.take(is_test_N)
    if len(test) == len(np.unique(test.labels)):
        raise InputError(f"{data.name}: no validation class has two pictures; leave tuning out (--tune 0)")
    place_N = np.cumsum(~is_test_N) - 1
    catalog = place_N[data.catalog[~is_test_N[data.catalog]]]
    known_Q = np.isin(data.held_out.labels, train.labels)
    return ComparisonData(
        f"{data.name}, validation", train, data.group_N[~is_test_N], catalog, data.held_out.take(known_Q),
        data.held_out_group_Q[known_Q], test, data.group_N[is_test_N], data.held_out_is_trained,
    )  # fmt: skip


def _check_queries(name: str, held_out: Dataset, test: Dataset) -> None:
    """Raise `InputError` unless both protocols have queries of two classes: intervals are over classes."""
    sizes = np.unique(test.labels, return_counts=True)[1]
    problems = []
    if sizes.max() < 2:
        problems.append(f"{name}: no test class has two pictures, so that no query has anything to find; add some")
    elif (sizes >= 2).sum() < 2:
        problems.append(f"{name}: one test class has two pictures; intervals over classes need two such classes")
    if not len(held_out):
        problems.append(f"{name}: no training class has two pictures; a comparison needs one to ask for")
    elif len(np.unique(held_out.labels)) < 2:
        problems.append(f"{name}: one training class has two pictures; intervals over classes need two such classes")
    if problems:
        raise InputError(*problems)


def _rotated(dataset: Dataset) -> Dataset:
    pictures = np.asarray(dataset.pictures)
    turned = [np.ascontiguousarray(np.rot90(pictures, turn, axes=(1, 2))) for turn in range(4)]
    table = dataset.table

    def marked(values: Sequence[str]) -> list[str]:
        return [f"{value}@{90 * turn}" for turn in range(4) for value in values]

    rows = Table(
        tuple(marked(table.files)),
        np.array(marked(table.labels.tolist())),
        np.tile(table.roles, 4),
        np.tile(table.splits, 4),
        table.root,
        table.source,
    )
    return Dataset(rows, np.concatenate(turned))


def _without_roles(dataset: Dataset) -> Dataset:
    table = dataset.table
    rows = replace(table, roles=np.full(len(table), "sample"), splits=np.full(len(table), ""))
    return Dataset(rows, dataset.pictures, dataset.bad)
