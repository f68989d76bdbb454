"""The whole run as segments whose negatives are not mined yet."""

import numpy as np

from mohs.config import RunConfig
from mohs.curves import schedule
from mohs.data.dataset import Dataset
from mohs.mining import choose_positives
from mohs.sequence import anchor_sequence
from mohs.training.batches import segment_bounds
from mohs.training.planning import Segment

__all__ = ["all_segments"]


def all_segments(dataset: Dataset, config: RunConfig) -> list[Segment]:
    """Return the whole run: who is anchor when, with which positive, at which hardness."""
    training, labels = config.training, dataset.labels
    class_N = dataset.labels_id
    catalog_N = dataset.roles == "catalog"
    # Catalog pictures are anchors only in classes that have nothing else.
    anchor_N = ~catalog_N | ~np.isin(class_N, class_N[~catalog_N])
    sample_items = np.flatnonzero(anchor_N)
    anchor_T = sample_items[anchor_sequence(labels[sample_items], training.length, seed=config.seed)]
    positive_T, origin_T = choose_positives(
        labels, anchor_T, seed=config.seed, catalog_N=catalog_N, prefer=training.prefer_positive
    )
    hardness_T = schedule(config.hardness.build(), training.length)
    segments = []
    for start, stop in segment_bounds(training.length, training.num_segments, config.hardness.cycles):
        part = slice(start, stop)
        segments.append(Segment(0, start, anchor_T[part], positive_T[part], origin_T[part], hardness_T[part]))
    return segments
