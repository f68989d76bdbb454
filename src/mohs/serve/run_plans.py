"""What a run planned: its triplets in the order in which they were trained on, and the pictures that they are of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import fingerprint
from mohs.data.dataset import Dataset
from mohs.errors import InputError, Problem
from mohs.plan import TripletPlan
from mohs.settings.config import RunConfig, load_config
from mohs.training.events import read_run_events
from mohs.training.run_folder import FACTS, check_run_files
from mohs.training.run_inputs import changed_pictures, open_split_data

__all__ = ["Order", "RunPlans", "read_run_plans"]

Order: TypeAlias = Literal["time", "hardest", "easiest", "nearest"]
"""As trained; by achieved hardness, either way; by the distance from anchor to negative. Ties are by time."""

_NUM_SUGGESTED = 20


@final
@dataclass(frozen=True, eq=False)
class RunPlans:
    """T triplets of a run, and its training items.

    Attributes:
        name: of the run's folder.
        config: the run's settings.
        plan: all triplets that were trained on, in that order; what the guard broke off is left out.
        segment_T: the plan that each is of, int64[T].
        batch_active_fraction_T: the active share of the batch that each was trained in, float64[T]; NaN if no event
            tells.
        dataset: the items of the run, of which `item_M` are the training items that the plan counts.
        note: a line on pictures that changed since the run; "" if none did.
    """

    name: str
    config: RunConfig
    plan: TripletPlan
    segment_T: NDArray[np.int64]
    batch_active_fraction_T: NDArray[np.float64]
    dataset: Dataset
    item_M: NDArray[np.int64]
    note: str = ""

    def __len__(self) -> int:
        return len(self.plan)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The classes of anchors and negatives, sorted."""
        return tuple(np.unique(np.concatenate([self._anchor_classes, self._negative_classes])).tolist())

    def classes_with(self, text: str) -> list[str]:
        """Return the first 20 classes whose names contain a text, in any case of letters."""
        wanted = text.casefold()
        return [name for name in self.class_names if wanted in name.casefold()][:_NUM_SUGGESTED]

    def in_order(self, order: Order, label: str | None = None) -> NDArray[np.int64]:
        """Return the triplets in an order, int64; with a class, those of which it is the anchor's or negative's."""
        rows = self._orders[order]
        if label is None:
            return rows
        chosen_T = (self._anchor_classes == label) | (self._negative_classes == label)
        chosen: NDArray[np.int64] = rows[chosen_T[rows]]
        return chosen

    def file(self, item: int) -> str:
        """Return the file of a training item, as the table has it."""
        return self.dataset.table.files[int(self.item_M[item])]

    def label(self, item: int) -> str:
        """Return the class of a training item."""
        return str(self.dataset.labels[self.item_M[item]])

    def path(self, item: int) -> Path:
        """Return where the picture of a training item is, or was."""
        return self.dataset.table.path(int(self.item_M[item]))

    def picture(self, item: int) -> NDArray[np.uint8]:
        """Return a training item as the network saw it, before augmentation, uint8 [H, W, C]."""
        picture: NDArray[np.uint8] = np.asarray(self.dataset.pictures[int(self.item_M[item])])
        return picture

    @property
    def distances_tell_active(self) -> bool:
        """Whether distances say which triplets had a loss above 0: of the triplet loss, without anchor swap."""
        return self.config.loss.record.is_hinge_of_triplets and not self.config.loss.swap

    def was_active(self, row: int) -> bool | None:
        """Return whether a triplet had a loss above 0 by the distances it was mined with; None if they do not say."""
        if not self.distances_tell_active:
            return None
        loss = self.config.loss
        power = 2 if loss.squared else 1
        positive = float(self.plan.anchor_positive_distance[row]) ** power
        negative = float(self.plan.anchor_negative_distance[row]) ** power
        return positive - negative + loss.margin > 0

    @cached_property
    def _orders(self) -> Mapping[Order, NDArray[np.int64]]:
        plan = self.plan
        return {
            "time": np.arange(len(plan)),
            "hardest": np.argsort(-plan.achieved_hardness, kind="stable"),
            "easiest": np.argsort(plan.achieved_hardness, kind="stable"),
            "nearest": np.argsort(plan.anchor_negative_distance, kind="stable"),
        }

    @cached_property
    def _anchor_classes(self) -> NDArray[np.str_]:
        return self.dataset.labels[self.item_M[self.plan.anchor]].astype(str)

    @cached_property
    def _negative_classes(self) -> NDArray[np.str_]:
        return self.dataset.labels[self.item_M[self.plan.negative]].astype(str)


def read_run_plans(folder: str | Path, *, progress: Callable[[int, int], None] | None = None) -> RunPlans:
    """Return what the run in a folder planned; it need not have finished.

    Its pictures are decoded as for training, or taken from the cache. Raises `InputError` if it is no run, has no plan
    yet, or its items are not those that it was trained on.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: not a run folder (no config.json); give one made by 'mohs train'")
    files = sorted((folder / "plans").glob("segment-*.parquet"))
    if (folder / FACTS).is_file():
        if not files:
            raise InputError(Problem(str(folder / "plans"), "the run's plans are gone", "restore them, or train again"))
        check_run_files(folder)
    plans = [TripletPlan.load(file) for file in files]
    if not sum(map(len, plans)):
        raise InputError(f"{folder}: the run has no plan yet; wait for its first segment")
    config = load_config(folder / "config.json")
    data = open_split_data(config.data, seed=config.seed, progress=progress)
    item_M = np.flatnonzero(data.train_N)
    table = data.dataset.table.take(item_M)
    if plans[0].header.get("data_fingerprint") != fingerprint(np.array(table.files), table.labels):
        problem = f"not the items that {folder} was trained on (see its items.csv)"
        raise InputError(Problem(table.source, problem, "restore them"))
    plan = _joined(plans)
    plan.check_items(len(item_M), source=str(folder / "plans"))
    return RunPlans(
        name=folder.resolve().name,
        config=config,
        plan=plan,
        segment_T=np.repeat(np.arange(len(plans)), [len(each) for each in plans]),
        batch_active_fraction_T=_active_fractions(folder / "events.jsonl", len(plan)),
        dataset=data.dataset,
        item_M=item_M,
        note=changed_pictures(folder, data.dataset) or "",
    )


def _joined(plans: list[TripletPlan]) -> TripletPlan:
    """Return the triplets of plans in a row, under the header of the first."""
    names = [one.name for one in fields(TripletPlan) if one.name != "header"]
    columns = {name: np.concatenate([getattr(plan, name) for plan in plans]) for name in names}
    return TripletPlan(**columns, header=plans[0].header)


def _active_fractions(events: Path, num_triplets: int) -> NDArray[np.float64]:
    """Return for each triplet the active share of the step that trained on it: the first that ended beyond it."""
    steps = [event for event in read_run_events(events) if event["event"] == "step"] if events.is_file() else []
    ends = np.array([step["triplets"] for step in steps], dtype=np.int64)
    shares = np.array([*(step["active_fraction"] for step in steps), np.nan])
    return shares[np.searchsorted(ends, np.arange(num_triplets), side="right")]
