"""Held-out classes: a share of the training classes that is neither trained on nor tested, to watch training by.

Short, and apart from `split.py`, which decides of training and test for all classes.
"""

import numpy as np

from mohs.data.split import split_by_class
from mohs.data.table import Table

__all__ = ["hold_out_classes"]


def hold_out_classes(table: Table, fraction: float, *, seed: int) -> Table:
    """Return the table with a share of its training classes marked "validation", with all their pictures.

    Each item has a split before (`assign_splits`). Pictures that such a class has in the test, as by item, leave it.
    Groups stay whole. Raises `InputError` if the share leaves no training class.

    >>> table = Table(tuple("abcd"), np.array(list("wxyz")), np.full(4, "sample"), np.full(4, "train"))
    >>> hold_out_classes(table, 0.5, seed=0).splits.tolist().count("validation")
    2
    """
    of_training = np.flatnonzero(np.isin(table.labels, np.unique(table.labels[table.splits == "train"])))
    chosen = split_by_class(
        table.labels[of_training],
        {"validation": fraction},
        seed=seed,
        groups=None if table.groups is None else table.groups[of_training],
        purpose="held-out classes",
    )
    splits = table.splits.astype("<U10")
    splits[of_training[chosen == "validation"]] = "validation"
    return table.with_splits(splits)
