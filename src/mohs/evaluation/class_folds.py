"""Folds by class, so that what is chosen on some classes is measured on others."""

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.randomness import generator

__all__ = ["fold_of_class", "pairs_of_fold"]


def fold_of_class(
    class_2P: npt.NDArray[np.int64], same_P: npt.NDArray[np.bool_], num_folds: int, *, seed: int
) -> npt.NDArray[np.int64]:
    """Return the fold of each class, int64 [C]: no class is in two folds.

    The classes with a positive pair, in random order, are dealt to folds 0, 1, …, and then the others go on from there,
    so that folds differ by one class at most. Raises `InputError` if `num_folds` is less than 2, or if there are fewer
    than two classes with a positive pair for each fold: a fold would have no pair of each kind.

    >>> class_2P = np.array([[0, 1, 2, 3, 0, 2], [0, 1, 2, 3, 1, 3]])
    >>> sorted(fold_of_class(class_2P, class_2P[0] == class_2P[1], 2, seed=0).tolist())
    [0, 0, 1, 1]
    """
    if isinstance(num_folds, bool) or not isinstance(num_folds, int | np.integer) or num_folds < 2:
        raise InputError(f"num_folds: {num_folds!r} is not an integer >= 2; use for example 10")
    num_classes = int(class_2P.max()) + 1
    with_positive = np.unique(class_2P[0, same_P])
    if len(with_positive) < 2 * num_folds:
        raise InputError(
            f"num_folds: {num_folds} folds need {2 * num_folds} classes with a positive pair, and there are "
            f"{len(with_positive)}; use fewer folds or more classes"
        )
    random = generator(seed, "verification folds")
    others = np.setdiff1d(np.arange(num_classes), with_positive)
    order = np.concatenate([random.permutation(with_positive), random.permutation(others)])
    fold_C = np.empty(num_classes, dtype=np.int64)
    fold_C[order] = np.arange(num_classes) % num_folds
    return fold_C


def pairs_of_fold(
    class_2P: npt.NDArray[np.int64], fold_C: npt.NDArray[np.int64], fold: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return (pairs without a class of the fold, pairs of classes of the fold only), bool [P] each.

    Pairs with one class inside and one outside are in neither.
    """
    inside_2P = fold_C[class_2P] == fold
    return ~inside_2P.any(axis=0), inside_2P.all(axis=0)
