"""Triplets of file names from CSV files, for training loops outside Mohs."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from mohs.checks import require, wrong_choice, wrong_kind, wrong_number, wrong_whole
from mohs.data.cache import load_pictures
from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.data.multi_label import MultiLabel
from mohs.data.reading import read_table
from mohs.data.split import assign_splits, split_by_class, split_by_item
from mohs.data.table import Table, require_classes
from mohs.errors import InputError
from mohs.hardness.curves import cyclic, schedule, sigmoid
from mohs.mining import choose_positives, mine
from mohs.mining.roles import anchor_items, num_without_catalog, without_catalog
from mohs.model.embedder import Embedder, embed_items
from mohs.plan import TripletPlan
from mohs.randomness import check_seed, derived_seed
from mohs.sequence import anchor_sequence, length_warning
from mohs.settings.config import ModelConfig
from mohs.training.false_negatives import duplicate_pairs

__all__ = ["create_data"]

_PICTURE_SIZE = 64
_EARLY_SAMPLES = 2  # of a class, from which its positives are taken where there is a catalog, as published

SplitBy: TypeAlias = Literal["class", "item"]


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
    split_by: SplitBy = "class",
    group_column: str = "group",
    multi_label: MultiLabel = "error",
    plot: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[list[str], list[str], list[str], list[str], list[str], list[str]]:
    """Return six lists of file names: train_ref, train_pos, train_neg, test_ref, test_pos, test_neg.

    Each list has `total_data_points` names, as written in the CSV files (pictures of a catalog in another folder: as
    absolute paths), in the order in which to train on them: every class is a reference once per pass, and the hardness
    of the negatives follows a sigmoid that rises to `hardness_threshold` in each of `num_hardness_cycles` cycles, on
    the `range` scale, over the whole split.

    With a catalog the reference is the catalog picture of its class, the positive one of the first two samples of the
    class (rows of the data file), and the negative a sample of another class, by its distance from the reference. No
    catalog picture is ever a positive or a negative. In a class without a catalog picture its samples take turns as
    reference; how many such classes there are is said in a `UserWarning`. A class without samples is left out.

    Without a catalog, references and negatives are any pictures, and the positive is another picture of the class or,
    for a class of one picture, that picture itself: augment it when you load it.

    Args:
        data_filename: CSV (or Parquet, or a folder) of pictures and classes.
        catalog_filename: table with reference pictures of the classes; None for no catalog.
        train_test_split_ratio: share of the classes (or of the samples, see `split_by`) that are for the test, in
            (0, 1); 0.2 is an 80/20 split.
        ycolname: the column of classes.
        xcolname: the column of file names.
        total_data_points: triplets of each split, at least 1.
        hardness_threshold: the cap of the curve, in [0, 1].
        num_hardness_cycles: at least 1.
        encoder: embeds the pictures; None for the small built-in network with random weights from `seed`.
        seed: of the split, the sequence, the positives and the untrained encoder.
        split_by: "class": no class is in both splits. "item", as published: rows of the data file are divided (within
            each class, see `mohs.data.split.split_by_item`), so that the test asks for new pictures of known classes;
            catalog pictures are references in both splits.
        group_column: pictures with the same name in this column stay in one split; "" reads no groups.
        multi_label: what becomes of a picture under several classes (`mohs.data.multi_label`).
        plot: file for a picture of the hardness asked for and achieved, a dot for each triplet of either split; PNG,
            SVG, PDF or what else matplotlib writes, by the name's end. None for none.
        progress: called with (what is being done, done, total) from time to time: "reading", "embedding" and "mining",
            each by pictures or triplets of its own.

    The signature is that of the code published with sigmoid hardness sequencing, and so are the roles. Where we differ:
    the split is by class unless `split_by` is "item"; every pass has a new order; the curve is the published figure's
    generalised logistic curve; distances are exact; `seed` decides everything; and a column `split` (train, test) is
    kept where there is one, in place of a split by ratio.

    Warns (`UserWarning`) of what `read_table` does, and if there are fewer triplets than classes in a split.

    Raises `InputError` for wrong parameters, tables or pictures, or if a split would have fewer than two classes.

    >>> import tempfile
    >>> from mohs.data.glyphs import export_glyphs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shop = export_glyphs(f"{folder}/shop", 32, num_classes=20)
    ...     lists = create_data(shop / "images.csv", shop / "catalog.csv", 0.2, "class", "file", total_data_points=50)
    ...     catalog = (shop / "catalog.csv").read_text()
    >>> [len(names) for names in lists]
    [50, 50, 50, 50, 50, 50]
    >>> [sum(f"{name}," in catalog for name in names) for names in lists]
    [50, 0, 0, 50, 0, 0]
    """
    kept = "0.2, which keeps 20% of the classes for the test"
    require(
        wrong_whole("total_data_points", total_data_points, example=10_000),
        wrong_whole("num_hardness_cycles", num_hardness_cycles, example=10),
        wrong_number("train_test_split_ratio", train_test_split_ratio, above=0, below=1, example=kept),
        wrong_choice("split_by", split_by, get_args(SplitBy)),
        wrong_number("hardness_threshold", hardness_threshold, at_least=0, at_most=1, example=0.85),
    )
    check_seed(seed)
    if encoder is not None and not (hasattr(encoder, "embed") and hasattr(encoder, "policy")):
        require(wrong_kind("encoder", encoder, Embedder, "load one with mohs.Embedder.from_pretrained(folder)"))
    if plot is not None:
        from mohs.report.plots import check_picture_place, save_hardness_plot  # matplotlib is slow to import

        check_picture_place(plot, name="plot")
    table = read_table(
        data_filename,
        catalog=catalog_filename,
        file_column=xcolname,
        class_column=ycolname,
        group_column=group_column,
        multi_label=multi_label,
    )
    has_catalog = bool((table.roles == "catalog").any())
    table = table.take(np.isin(table.labels, table.labels[table.roles == "sample"]))
    require_classes(table, 4)
    items_of = _split(table, train_test_split_ratio, split_by, seed=seed)
    num_classes = max(len(np.unique(table.labels[items])) for items in items_of.values())
    if short := length_warning(total_data_points, num_classes):
        warnings.warn(f"total_data_points: {short}", stacklevel=2)
    if encoder is None:
        encoder = Embedder.create(ModelConfig(), ImagePolicy(size=_PICTURE_SIZE), seed=seed)
    reading, embedding, mining = (
        None if progress is None else partial(progress, name) for name in ("reading", "embedding", "mining")
    )
    dataset = Dataset(table, load_pictures(table, encoder.policy, progress=reading).pictures)
    embeddings_ND = embed_items(encoder, dataset.pictures, progress=embedding)
    hardness_T = schedule(cyclic(sigmoid(hardness_threshold), num_hardness_cycles), total_data_points)
    plans = {
        name: _plan(
            dataset,
            items,
            embeddings_ND,
            hardness_T,
            seed=derived_seed(seed, f"create_data {name}"),
            progress=mining,
        )
        for name, items in items_of.items()
    }
    catalog_N = table.roles == "catalog"
    if has_catalog and (num := num_without_catalog(table.labels, catalog_N)):
        warnings.warn(without_catalog(num, table.num_classes), stacklevel=2)
    if plot is not None:
        save_hardness_plot(plot, plans)
    train, test = (_files(table, plans[name]) for name in ("train", "test"))
    return *train, *test


def _files(table: Table, plan: TripletPlan) -> tuple[list[str], list[str], list[str]]:
    """Return the files of anchors, positives and negatives."""
    anchors, positives, negatives = (
        [table.files[item] for item in column.tolist()] for column in (plan.anchor, plan.positive, plan.negative)
    )
    return anchors, positives, negatives


def _split(table: Table, ratio: float, by: SplitBy, *, seed: int) -> dict[str, np.ndarray]:
    """Return the items of "train" and "test", int64 each, ascending; by item, catalog pictures are in both."""
    fractions = {"test": ratio}
    if table.groups is not None or (table.splits != "").any():
        split_N = assign_splits(table, by, ratio, seed=seed).splits
    elif by == "class":
        split_N = split_by_class(table.labels, fractions, seed=seed)
    else:
        split_N = split_by_item(table.labels, fractions, seed=seed, roles=table.roles, keys=table.files)
    catalog_N = table.roles == "catalog"
    items_of = {}
    for name in ("train", "test"):
        chosen_N = split_N == name
        if by == "item":
            # The catalog picture of a class is a reference wherever the class has samples.
            samples_N = chosen_N & ~catalog_N
            chosen_N = samples_N | (catalog_N & np.isin(table.labels, table.labels[samples_N]))
        items_of[name] = np.flatnonzero(chosen_N)
    counts = {name: len(np.unique(table.labels[items])) for name, items in items_of.items()}
    if min(counts.values()) < 2:
        few = min(counts, key=lambda name: counts[name])
        num_divided = int((np.unique(table.labels, return_counts=True)[1] > 1).sum())
        if by == "item" and num_divided < 2:
            raise InputError(
                f"split_by: 'item' divides the pictures of a class, and {table.num_classes - num_divided} of "
                f"{table.num_classes} classes have one; add pictures, give a catalog, or use split_by='class'"
            )
        where = {"train": "training", "test": "the test"}[few]
        raise InputError(
            f"train_test_split_ratio: {ratio!r} puts {counts[few]} of {table.num_classes} classes in {where}; "
            "both splits need at least 2: use another ratio, or add classes"
        )
    return items_of


def _plan(
    dataset: Dataset,
    items: np.ndarray,
    embeddings_ND: np.ndarray,
    hardness_T: np.ndarray,
    *,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> TripletPlan:
    """Return the triplets mined among `items` of the dataset; its header counts pairs of equal pictures."""
    chosen = dataset.take(items)
    labels, catalog_N = chosen.labels, chosen.roles == "catalog"
    has_catalog = bool(catalog_N.any())
    references = anchor_items(labels, catalog_N, "catalog" if has_catalog else "any")
    anchors = references[anchor_sequence(labels[references], len(hardness_T), seed=seed)]
    # Where there is a catalog, what is not among the first samples of its class comes second.
    later_N = ~_early_samples(labels, catalog_N) if has_catalog else None
    positives, origin = choose_positives(labels, anchors, seed=seed, catalog_N=later_N)
    equal_P2 = duplicate_pairs(chosen)
    plan = mine(
        embeddings_ND[items],
        labels,
        anchors_T=anchors,
        hardness_T=hardness_T,
        positives_T=positives,
        positive_origin_T=origin,
        candidates=~catalog_N,
        excluded_pairs=equal_P2 if len(equal_P2) else None,
        seed=seed,
        progress=progress,
    )
    plan = plan.with_header({"num_equal_picture_pairs": len(equal_P2)})
    return replace(plan, anchor=items[plan.anchor], positive=items[plan.positive], negative=items[plan.negative])


def _early_samples(labels: np.ndarray, catalog_N: np.ndarray) -> np.ndarray:
    """Return which items are among the first samples of their class, bool [N]."""
    samples = np.flatnonzero(~catalog_N)
    order = samples[np.argsort(labels[samples], kind="stable")]
    _, first, class_of = np.unique(labels[order], return_index=True, return_inverse=True)
    early_N = np.zeros(len(labels), dtype=bool)
    early_N[order[np.arange(len(order)) - first[class_of] < _EARLY_SAMPLES]] = True
    return early_N
