"""The whole run as segments whose negatives are not mined yet."""

import numpy as np

from mohs.config import RunConfig
from mohs.curves import schedule
from mohs.data.dataset import Dataset
from mohs.mining.roles import anchor_items, choose_roles, num_without_catalog, without_catalog
from mohs.training.batches import segment_bounds
from mohs.training.planning import Segment

__all__ = ["all_segments", "check_anchors"]


def check_anchors(labels: np.ndarray, roles: np.ndarray, config: RunConfig) -> str | None:
    """Return what is to be said of the anchors of training items with these labels and roles, a line or None.

    Raises `InputError` if the items cannot be what `training.anchors` asks for.
    """
    anchors, catalog_N = config.training.anchors, roles == "catalog"
    anchor_items(labels, catalog_N, anchors, name="training.anchors")
    num = num_without_catalog(labels, catalog_N) if anchors == "catalog" else 0
    return without_catalog(num, len(np.unique(labels))) if num else None


def all_segments(dataset: Dataset, config: RunConfig) -> list[Segment]:
    """Return the whole run: who is anchor when, with which positive, at which hardness."""
    training = config.training
    roles = choose_roles(
        dataset.labels,
        dataset.roles == "catalog",
        training.length,
        anchors=training.anchors,
        prefer=training.prefer_positive,
        seed=config.seed,
        name="training.anchors",
    )
    hardness_T = schedule(config.hardness.build(), training.length)
    segments = []
    for start, stop in segment_bounds(training.length, training.num_segments, config.hardness.cycles):
        part = slice(start, stop)
        segments.append(
            Segment(0, start, roles.anchors_T[part], roles.positives_T[part], roles.origin_T[part], hardness_T[part])
        )
    return segments
