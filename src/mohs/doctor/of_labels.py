"""Causes that the labels alone show: one class, a class that dominates, classes without a second picture."""

import math

import numpy as np
from numpy.typing import ArrayLike

from mohs.doctor.findings import Finding

__all__ = ["find_dominating_class", "find_few_positives", "find_single_class"]


def find_dominating_class(labels_N: ArrayLike, *, of: str = "pictures") -> Finding | None:
    """Find a class with far more than its part: a fifth of all or more, and 5 times the mean class or more.

    From a half on it is an error: a mean over pictures is then a mean over that class. `of` says what the labels are
    of, as in "mined negatives".
    """
    names, count_C = np.unique(np.asarray(labels_N), return_counts=True)
    share = float(count_C.max() / count_C.sum())
    mean = 1.0 / len(names)
    if len(names) < 3 or share < 0.2 or share < 5 * mean:
        return None
    p_C = count_C / count_C.sum()
    effective = math.exp(-float((p_C * np.log(p_C)).sum()))
    name = str(names[int(count_C.argmax())])
    return Finding(
        cause="one-class-dominates",
        severity="error" if share >= 0.5 else "warning",
        what=f"{share:.0%} of the {int(count_C.sum()):,} {of} are of the class {name!r}, one of {len(names):,}; they "
        f"count like {effective:.1f} equal classes",
        why="Batches that draw pictures, not classes, are mostly of this class, and so are means over pictures.",
        fix="Draw classes first and then pictures, keep a few pictures of each class, and report means over classes.",
        settings={"data.per_class": max(2, int(np.median(count_C)))} if of == "pictures" else {},
        numbers={"share": share, "num_classes": float(len(names)), "effective_classes": effective},
        share=share,
    )


def find_single_class(labels_N: ArrayLike) -> Finding | None:
    """Find labels of one class alone: nothing can be taken for another class, so that no measure can be wrong.

    >>> find_single_class(["ring", "ring"]).cause, find_single_class(["ring", "lamp"])
    ('single-class', None)
    """
    names = np.unique(np.asarray(labels_N))
    if len(names) != 1:
        return None
    num = len(np.asarray(labels_N))
    return Finding(
        cause="single-class",
        severity="error",
        what=f"All {num:,} rows are of one class, {names[0].item()!r}",
        why="Nothing can be taken for another class: R@1 is 1 whatever the embeddings are, and most causes hide.",
        fix="Check that these are the classes, and give pictures of other classes too.",
        numbers={"num_classes": 1.0},
        share=1.0,
    )


def find_few_positives(labels_N: ArrayLike, *, of: str = "training") -> Finding | None:
    """Find classes without a positive: half of them or more have one picture.

    `of` is "training" or "test". In the test such pictures have no right answer and are not counted; an error if fewer
    than 20 classes are left.
    """
    count_C = np.unique(np.asarray(labels_N), return_counts=True)[1]
    single = float((count_C == 1).mean())
    with_pair = int((count_C > 1).sum())
    if single < 0.5:
        return None
    if of == "test":
        why = "A query without another picture of its class has no right answer: the result is that of the others."
        fix = "Add pictures, or a catalog picture of each class, to the test."
        severe = with_pair < 20
    else:
        why = (
            "Where a class has one picture, its positive is that picture, augmented: the network learns to see through "
        )
        why += "the augmentation, not through what makes two pictures of one thing differ."
        fix = "Add a second picture or a catalog picture of each class, or augment as queries differ from the catalog."
        severe = False
    return Finding(
        cause="too-few-positives",
        severity="error" if severe else "warning",
        what=f"{single:.0%} of the {len(count_C):,} {of} classes have one picture; {with_pair:,} have two or more",
        why=why,
        fix=fix,
        settings={"training.augment": 1.0} if of == "training" else {},
        numbers={"share": single, "num_classes": float(len(count_C)), "num_with_pair": float(with_pair)},
        share=single,
    )
