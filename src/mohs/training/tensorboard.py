"""A run for TensorBoard: what the event log says as curves and histograms, and at the end the embeddings.

TensorBoard is an extra (`mohs[track]`). The steps of its curves are triplets of the run, whatever a batch holds, so
that runs with other batches lie over each other.
"""

import importlib.util
import math
import shutil
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from mohs.data.dataset import Dataset
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.randomness import generator
from mohs.training.events import ClassificationEvent, Event, GuardEvent, HeldOutEvent, SegmentEvent, StepEvent

__all__ = ["TensorBoard", "require_tensorboard"]

_MAX_PICTURES = 2048
# The projector takes all thumbnails as one square picture of at most 8,192 pixels a side.
_THUMBNAIL = 64
_STEP_SCALARS = (
    "loss", "active_fraction", "spread", "gradient_norm", "learning_rate", "pictures_per_s", "positive_distance",
    "negative_distance", "collapsed_loss",
)  # fmt: skip
_BANK_SCALARS = ("recall", "spread", "effective_rank", "anchor_positive_distance", "anchor_negative_distance")


def require_tensorboard() -> None:
    """Raise `InputError` if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError(
            "training.tensorboard: the package tensorboard is not installed; install it with "
            "pip install 'mohs[track]', or leave the setting out"
        )


@final
class TensorBoard:
    """A listener that writes a run's events into a folder for TensorBoard; a context manager that closes it.

    ===================  =============================================================================
    train/…              of each step: loss, active_fraction, spread, gradient_norm, learning_rate,
                         pictures_per_s, distances, and the loss of a collapsed network
    hardness/…           asked, of each step; achieved, of each segment; both as histograms of a segment
    bank/…               of each bank, at the first triplet of its segment: recall, spread,
                         effective_rank, distances
    held-out/recall      of a few test pictures, after each segment
    warm-up/…            of the classification warm-up, its steps are pictures
    guard                what the collapse guard saw and did, as text
    ===================  =============================================================================

    Every event is on disk when the call returns. Of a run that is taken up, give the triplets it had trained on: what
    was written beyond them is not shown.
    """

    def __init__(self, folder: Path, done_triplets: int | None = None) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        if done_triplets is None:  # what a run left that never came to a checkpoint
            shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        purge_step = None if done_triplets is None else done_triplets + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def __call__(self, event: Event) -> None:
        """Write one event."""
        match event:
            case StepEvent():
                for name in _STEP_SCALARS:
                    self._scalar(f"train/{name}", getattr(event, name), event.triplets)
                self._scalar("hardness/asked", event.hardness, event.triplets)
            case SegmentEvent():
                for name in _BANK_SCALARS:
                    self._scalar(f"bank/{name}", getattr(event, name), event.triplets)
                self._scalar("hardness/achieved", float(np.mean(event.hardness_achieved)), event.triplets)
                for name in ("hardness_asked", "hardness_achieved"):
                    values = np.array(getattr(event, name))
                    self._writer.add_histogram(f"{name.replace('_', '/')} in segment", values, event.triplets)
            case HeldOutEvent():
                self._scalar("held-out/recall", event.recall, event.triplets)
            case GuardEvent():
                text = f"{event.level} ({event.signal}): {event.cause}; action: {event.action}"
                self._writer.add_text("guard", text, event.triplets)
            case ClassificationEvent():
                self._scalar("warm-up/loss", event.loss, event.pictures)
                self._scalar("warm-up/accuracy", event.accuracy, event.pictures)
        self._writer.flush()

    def add_embeddings(self, embedder: Embedder, dataset: Dataset, chosen_N: NDArray[np.bool_], *, seed: int) -> None:
        """Write embeddings of the items marked in `chosen_N` with class, file and thumbnail for the projector.

        At most 2,048 pictures: whole classes, drawn by `seed`, until the next would be too many.
        """
        items = np.flatnonzero(chosen_N)
        items = items[_some_classes(dataset.labels_id[items], seed)]
        pictures_NHWC = np.array(dataset.pictures[items])
        x_NCHW = torch.from_numpy(pictures_NHWC).permute(0, 3, 1, 2).float() / 255.0
        if x_NCHW.shape[-1] > _THUMBNAIL:
            x_NCHW = torch.nn.functional.interpolate(x_NCHW, _THUMBNAIL, mode="area")
        # Left by a run that was stopped here: the library would add to it.
        shutil.rmtree(self._folder / "00000", ignore_errors=True)
        (self._folder / "projector_config.pbtxt").unlink(missing_ok=True)
        self._writer.add_embedding(
            embedder.embed(pictures_NHWC),
            metadata=[[dataset.labels[i], dataset.table.files[i]] for i in items],
            metadata_header=["class", "file"],
            label_img=x_NCHW.expand(-1, 3, -1, -1),
            tag="pictures",
        )

    def _scalar(self, name: str, value: float | None, step: int) -> None:
        if value is not None and math.isfinite(value):
            self._writer.add_scalar(name, value, step)


def _some_classes(class_N: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    order = generator(seed, "projector").permutation(np.unique(class_N))
    ends_C = np.cumsum(np.bincount(class_N)[order])
    chosen = order[: max(1, np.searchsorted(ends_C, _MAX_PICTURES, side="right"))]
    return np.flatnonzero(np.isin(class_N, chosen))[:_MAX_PICTURES]
