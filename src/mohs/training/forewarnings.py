"""What is said of a run before it is trained: a result that will be poor, or cannot be measured, costs hours."""

import numpy as np
import numpy.typing as npt

from mohs.model.finetune import random_weights_warning, rate_warning
from mohs.sequence import length_warning
from mohs.settings.config import RunConfig

__all__ = ["counted_queries", "forewarnings", "no_query_counts"]


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


def counted_queries(
    labels_N: npt.NDArray[np.str_], train_N: npt.NDArray[np.bool_], test_N: npt.NDArray[np.bool_]
) -> int:
    """Return how many test items count as queries: those with an item of their class to find.

    On unseen classes that is another test item. Where test classes are trained on, it is a training item.

    >>> labels_N, no_N = np.array(["a", "a", "b"]), np.zeros(3, dtype=bool)
    >>> counted_queries(labels_N, no_N, ~no_N)
    2
    """
    names, class_N = np.unique(labels_N, return_inverse=True)
    test_C = np.bincount(class_N[test_N], minlength=len(names))
    train_C = np.bincount(class_N[train_N], minlength=len(names))
    if (train_C[test_C > 0] > 0).any():
        return int(test_C[train_C > 0].sum())
    return int(test_C[test_C > 1].sum())


def no_query_counts(source: str) -> str:
    """Return the message for a test in which no query has a picture of its class to find."""
    return f"{source}: every test class has one picture, so no query has another to find; add pictures, or a catalog"
