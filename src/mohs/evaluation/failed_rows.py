"""Rows that say nothing: all zero, or one vector that rows of many classes share."""

import numpy as np
import numpy.typing as npt

from mohs.evaluation.copies import equal_groups

__all__ = ["failed_rows", "shared_rows", "some_rows"]

_MIN_CLASSES = 3
_MAX_SHARE = 0.5
_MAX_SHARE_OF_A_VECTOR = 0.95
_FEW_VECTORS = 2


def failed_rows(
    x_ND: npt.ArrayLike, class_N: npt.NDArray[np.int64], *, group_N: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.bool_]:
    """Return which rows are all zero or of a vector that three classes or more share, bool [N].

    A picture that did not load, or that is blank, gives the same vector whatever its class. These rows are those of
    `shared_rows`. Where more than half of all rows are such, they have failed if they hold one vector or two and at
    least a twentieth of all rows hold others. With more vectors it is the network that failed: then only rows of zeros
    count, and none where more than half are zero.

    >>> failed_rows([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0], [3.0, 1.0], [3.0, 1.0]], np.array([0, 0, 1, 2, 3])).tolist()
    [True, False, True, True, True]
    >>> failed_rows(np.repeat(np.eye(3), 3, axis=0), np.arange(9) % 3).any()
    np.False_
    >>> x_ND = [[1.0, 2.0], [2.0, 1.0], [1.0, 0.0], [0.0, 1.0], [3.0, 1.0], [3.0, 1.0], [3.0, 1.0]]
    >>> failed_rows(x_ND, np.array([0, 0, 1, 1, 0, 1, 2])).tolist()
    [False, False, False, False, True, True, True]
    """
    rows = np.asarray(x_ND)
    group_N = equal_groups(rows) if group_N is None else group_N
    failed = shared_rows(rows, class_N, group_N=group_N)
    few = len(np.unique(group_N[failed])) <= _FEW_VECTORS
    if failed.mean() > (_MAX_SHARE_OF_A_VECTOR if few else _MAX_SHARE):
        zero_N: npt.NDArray[np.bool_] = np.logical_not(np.any(rows, axis=1))
        failed = zero_N if zero_N.mean() <= _MAX_SHARE else np.zeros_like(zero_N)
    return failed


def shared_rows(
    x_ND: npt.ArrayLike, class_N: npt.NDArray[np.int64], *, group_N: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.bool_]:
    """Return which rows are all zero or of a vector that three classes or more share, bool [N].

    A shared vector is one of `equal_groups` (within rounding). Of single numbers (D = 1) only zero counts: others are
    equal by chance.

    >>> shared_rows([[3.0, 1.0], [3.0, 1.0], [3.0, 1.0]], np.array([0, 1, 2])).tolist()
    [True, True, True]
    >>> shared_rows([[3.0], [3.0], [3.0], [0.0]], np.array([0, 1, 2, 2])).tolist()
    [False, False, False, True]
    """
    rows = np.asarray(x_ND)
    zero_N: npt.NDArray[np.bool_] = np.logical_not(np.any(rows, axis=1))
    if rows.shape[1] == 1:
        return zero_N
    group_N = equal_groups(rows) if group_N is None else group_N
    pairs_G = np.unique(np.stack([group_N, class_N]), axis=1)[0]
    shared_N = (np.bincount(pairs_G, minlength=int(group_N.max()) + 1) >= _MIN_CLASSES)[group_N]
    shared: npt.NDArray[np.bool_] = np.logical_or(zero_N, shared_N)
    return shared


def some_rows(row_N: npt.NDArray[np.int64], num: int = 3) -> str:
    """Return the first few rows for a message.

    >>> some_rows(np.array([2, 5, 8, 9])), some_rows(np.array([2]))
    ('rows 2, 5, 8, …', 'row 2')
    """
    named = ", ".join(str(row) for row in row_N[:num].tolist())
    return f"row{'s' if len(row_N) > 1 else ''} {named}{', …' if len(row_N) > num else ''}"
