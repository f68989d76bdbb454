"""Triplets of file names from CSV files, for training loops outside Mohs."""

from numbers import Integral
from pathlib import Path

import numpy as np

from mohs.config import ModelConfig
from mohs.curves import cyclic, schedule, sigmoid
from mohs.data.cache import load_pictures
from mohs.data.images import ImagePolicy
from mohs.data.reading import read_table
from mohs.data.split import split_by_class
from mohs.data.table import Table, require_classes
from mohs.errors import InputError
from mohs.mining import choose_positives, mine
from mohs.model.embedder import Embedder
from mohs.randomness import check_seed, derived_seed
from mohs.sequence import anchor_sequence

__all__ = ["create_data"]

_PICTURE_SIZE = 64


def create_data(
    data_filename: str | Path,
    catalog_filename: str | Path | None,
    train_test_split_ratio: float,
    ycolname: str,
    xcolname: str,
    *,
    total_data_points: int = 10_000,
    hardness_threshold: float = 0.85,
    num_hardness_cycles: int = 10,
    encoder: Embedder | None = None,
    seed: int = 0,
) -> tuple[list[str], list[str], list[str], list[str], list[str], list[str]]:
    """Return six lists of file names: train_ref, train_pos, train_neg, test_ref, test_pos, test_neg.

    Each list has `total_data_points` names, as written in the CSV files (pictures of a catalog in another folder: as
    absolute paths), in the order in which to train on them: every
    class is a reference once per pass, and the hardness of the negatives follows a sigmoid that rises to
    `hardness_threshold` in each of `num_hardness_cycles` cycles, on the `range` scale, over the whole split.

    Args:
        data_filename: CSV (or Parquet, or a folder) of pictures and classes.
        catalog_filename: table with reference pictures of the classes, whose pictures become the positives; None for
            no catalog. Without one a positive is another picture of the class, or, for a class of one picture, that
            picture itself: augment it when you load it.
        train_test_split_ratio: share of the classes that are for the test, in (0, 1); 0.2 is an 80/20 split.
        ycolname: the column of classes.
        xcolname: the column of file names.
        total_data_points: triplets of each split, at least 1.
        hardness_threshold: the cap of the curve, in [0, 1].
        num_hardness_cycles: at least 1.
        encoder: embeds the pictures; None for the small built-in network with random weights from `seed`.
        seed: of the split, the sequence, the positives and the untrained encoder.

    The signature is that of the code published with sigmoid hardness sequencing. Where we differ: the split is by
    class, so that no test class is seen in training; every pass has a new order; the curve is the published figure's
    generalised logistic curve; distances are exact; and `seed` decides everything.

    Raises `InputError` for wrong parameters, tables or pictures, or if a split would have fewer than two classes.

    >>> import tempfile
    >>> from mohs.data.glyphs import export_glyphs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shop = export_glyphs(f"{folder}/shop", 32, num_classes=20)
    ...     lists = create_data(shop / "images.csv", shop / "catalog.csv", 0.2, "class", "file", total_data_points=50)
    >>> [len(names) for names in lists]
    [50, 50, 50, 50, 50, 50]
    """
    _check(train_test_split_ratio, total_data_points, hardness_threshold, num_hardness_cycles)
    check_seed(seed)
    curve = cyclic(sigmoid(hardness_threshold), num_hardness_cycles)
    table = read_table(data_filename, catalog=catalog_filename, file_column=xcolname, class_column=ycolname)
    require_classes(table, 4)
    split_N = split_by_class(table.labels, {"test": train_test_split_ratio}, seed=seed)
    _check_split(table.labels, split_N, train_test_split_ratio)
    if encoder is None:
        encoder = Embedder.create(ModelConfig(), ImagePolicy(size=_PICTURE_SIZE), seed=seed)
    embeddings_ND = encoder.embed(load_pictures(table, encoder.policy).pictures)
    lists: list[list[str]] = []
    for name in ("train", "test"):
        items = np.flatnonzero(split_N == name)
        hardness = schedule(curve, total_data_points)
        lists += _triplets(table, items, embeddings_ND[items], hardness, seed=derived_seed(seed, f"create_data {name}"))
    return lists[0], lists[1], lists[2], lists[3], lists[4], lists[5]


def _check(ratio: object, total: object, threshold: object, cycles: object) -> None:
    """Raise `InputError` with a line for each parameter that is wrong, under the name the caller knows."""
    problems = [
        f"{name}: {value!r} is not a whole number of at least 1; use for example {example}"
        for name, value, example in (("total_data_points", total, 10_000), ("num_hardness_cycles", cycles, 10))
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1
    ]
    if not isinstance(ratio, int | float | np.floating) or not 0.0 < ratio < 1.0:
        problems.append(
            f"train_test_split_ratio: {ratio!r} is not in (0, 1); 0.2 keeps 20% of the classes for the test"
        )
    if not isinstance(threshold, int | float | np.floating) or not 0.0 <= threshold <= 1.0:
        problems.append(f"hardness_threshold: {threshold!r} is not in [0, 1]; use for example 0.85")
    if problems:
        raise InputError(*problems)


def _check_split(labels: np.ndarray, split_N: np.ndarray, ratio: float) -> None:
    num_classes = len(np.unique(labels))
    num_test = len(np.unique(labels[split_N == "test"]))
    if min(num_test, num_classes - num_test) < 2:
        raise InputError(
            f"train_test_split_ratio: {ratio!r} puts {num_test} of {num_classes} classes in the test; "
            "both splits need at least 2: use another ratio, or add classes"
        )


def _triplets(
    table: Table, items: np.ndarray, embeddings_ND: np.ndarray, hardness_T: np.ndarray, *, seed: int
) -> list[list[str]]:
    """Return the file names of anchors, positives and negatives mined among `items`."""
    labels, catalog = table.labels[items], table.roles[items] == "catalog"
    # A class known by its catalog picture alone can only be a negative.
    samples = np.flatnonzero(~catalog)
    anchors = samples[anchor_sequence(labels[samples], len(hardness_T), seed=seed)]
    positives, _ = choose_positives(labels, anchors, seed=seed, catalog_N=catalog, prefer="catalog")
    plan = mine(embeddings_ND, labels, anchors_T=anchors, hardness_T=hardness_T, positives_T=positives, seed=seed)
    return [[table.files[items[i]] for i in column.tolist()] for column in (plan.anchor, plan.positive, plan.negative)]
