from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mohs.diagnosis.embedded import Embedded
from mohs.diagnosis.training_log import TrainingLog


@pytest.fixture
def log_of() -> Callable[..., TrainingLog]:
    """A log of epochs 1, 2, … with these columns."""

    def make(*, unit: str = "epoch", **columns: Any) -> TrainingLog:
        arrays = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
        length = len(next(iter(arrays.values())))
        return TrainingLog("log.csv", np.arange(1.0, length + 1), unit, **arrays)

    return make


@pytest.fixture
def clusters() -> Callable[..., Embedded]:
    """Classes around unit centres: a row is its class's centre with noise of this length, brought to unit length."""

    def make(
        num_classes: int = 30, per_class: int = 4, *, dim: int = 16, noise: float = 0.3, seed: int = 0, first: int = 0
    ) -> Embedded:
        random = np.random.default_rng(seed)
        class_N = np.repeat(np.arange(num_classes), per_class)
        centre_CD = random.normal(size=(num_classes, dim))
        centre_CD /= np.linalg.norm(centre_CD, axis=1, keepdims=True)
        x_ND = centre_CD[class_N] + noise / np.sqrt(dim) * random.normal(size=(len(class_N), dim))
        x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
        return Embedded.of(x_ND, class_N + first, source="clusters")

    return make
