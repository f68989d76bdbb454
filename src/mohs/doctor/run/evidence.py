"""What a run left, finished or not: settings, events, plans, and with the pictures at hand its embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import nn

from mohs.checks import path_of
from mohs.data.rows import read_rows
from mohs.doctor.log.stuck_values import LossFacts
from mohs.doctor.log.training_log import TrainingLog, log_of_events
from mohs.errors import InputError, MohsError, at_most_20
from mohs.evaluation.checked import Float32, Index
from mohs.evaluation.embedded import Embedded
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.settings.config import RunConfig, load_run_config
from mohs.training.events import read_run_events
from mohs.training.run_folder import FACTS, check_run_files
from mohs.training.run_inputs import SplitData, changed_pictures, open_split_data

__all__ = ["RunEvidence"]

_MAX_ITEMS = 2048


@final
@dataclass(frozen=True, eq=False)
class RunEvidence:
    """A run folder and what can be read from it; each part is read when it is first asked for.

    What cannot be had is None, and `missing` says why.
    """

    folder: Path
    config: RunConfig
    seed: int
    missing: dict[str, str]
    opened: SplitData | None = None

    @classmethod
    def open(cls, folder: str | Path, *, seed: int = 0, data: SplitData | None = None) -> "RunEvidence":
        """Return the run in a folder; raise `InputError` if it has no settings, or a file changed since it finished.

        `data` are its pictures, where they are open already; by default they are read when they are first needed.
        """
        folder = path_of("run", folder)
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: not a run folder (no config.json); give one made by 'mohs train'")
        if (folder / FACTS).is_file():
            check_run_files(folder, may_lack=lambda _: True)
        return cls(folder, load_run_config(folder), seed, {}, data)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.folder / "run.json").is_file()

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """All events, oldest first; none if the run died before its first one."""
        file = self.folder / "events.jsonl"
        return read_run_events(file) if file.is_file() else []

    @cached_property
    def steps(self) -> list[Mapping[str, Any]]:
        """The events of steps."""
        return [event for event in self.events if event["event"] == "step"]

    @cached_property
    def held_out_curve(self) -> list[Mapping[str, Any]]:
        """The events of the held-out curve, oldest first; empty for runs that kept none."""
        return [event for event in self.events if event["event"] == "held-out"]

    @property
    def chosen_weights(self) -> str:
        """What stands against judging a run by the end of its curve: it has the weights of an earlier moment, or ""."""
        ends = [event for event in self.events if event["event"] == "early-stopping"]
        if not ends or ends[-1]["best_triplets"] == ends[-1]["triplets"]:
            return ""
        return "early stopping has chosen the weights"

    @cached_property
    def log(self) -> TrainingLog | None:
        """The steps as columns."""
        return log_of_events(self.events, source=str(self.folder / "events.jsonl"))

    @property
    def loss(self) -> LossFacts:
        """What the run's loss pays when it is stuck, as far as it is one of the known ones."""
        loss, batch = self.config.loss, self.config.training.batch_triplets
        name = loss.record.log_name if loss.miner is None else None
        return LossFacts(name, loss.margin if name is not None and loss.record.margin else None, batch)

    @cached_property
    def plans(self) -> list[TripletPlan]:
        """The plans, in order; empty ones, which the guard broke off before their first step, are left out.

        Raises `InputError` if one has items that are not in items.csv.
        """
        files = sorted((self.folder / "plans").glob("segment-*.parquet"))
        plans = [plan for file in files if len(plan := TripletPlan.load(file))]
        items = self.folder / "items.csv"
        if plans and items.is_file():
            num_train = read_rows(items)[0].get("split", []).count("train")
            for plan in plans:
                plan.check_items(num_train, source=str(self.folder / "plans"))
        return plans

    @cached_property
    def data(self) -> SplitData | None:
        """The pictures and their split; None if they are not there any more or not the same."""
        try:
            data = self.opened or open_split_data(self.config.data, seed=self.config.seed)
        except (MohsError, OSError) as error:
            self.missing["data"] = f"the pictures of the run cannot be read ({str(error).splitlines()[0]})"
            return None
        items = self.folder / "items.csv"
        if not items.is_file():
            self.missing["data"] = "the run has no items.csv"
            return None
        columns, _ = read_rows(items)
        own = data.dataset.table
        if columns["class"] != own.labels.tolist() or columns["split"] != own.splits.tolist():
            self.missing["data"] = f"the pictures are not those of {items} any more"
            return None
        if changed := changed_pictures(self.folder, data.dataset):
            self.missing["data"] = changed
            return None
        return data

    @cached_property
    def embedder(self) -> Embedder | None:
        """The trained embedder; None if the run did not finish."""
        if not (self.folder / "embedder" / "embedder.json").is_file():
            self.missing["embedder"] = "the run left no embedder"
            return None
        return Embedder.from_pretrained(self.folder / "embedder")

    @cached_property
    def start(self) -> Embedder | None:
        """The network that the run began with."""
        policy = self.config.data.policy
        try:
            return Embedder.create(self.config.network, policy, seed=self.config.seed).eval()
        except (MohsError, OSError) as error:
            self.missing["start"] = f"the network that the run began with ({str(error).splitlines()[0]})"
            return None

    def set_aside(self) -> list[str]:
        """Return what became of the pictures, and those that were set aside, a line each; nothing if none was."""
        if self.data is None or not self.data.dataset.bad:
            return []
        return [str(self.data.reading), *(f"set aside: {line}" for line in at_most_20(self.data.dataset.left_out))]

    def why_no(self, *parts: str) -> str:
        """Return "" if these parts are there, else why the first one that is not is not."""
        for part in parts:
            if getattr(self, part) is None:
                return self.missing.get(part, f"the run has no {part}")
        return ""

    @cached_property
    def train_items(self) -> Index:
        """Training items of whole classes, up to about 2,000, as positions among all items."""
        return self._sample(train=True)

    @cached_property
    def test_items(self) -> Index:
        """Test items likewise."""
        return self._sample(train=False)

    @cached_property
    def train(self) -> Embedded:
        """Training items by the trained network; asked for only where there are data and embedder."""
        return self._embedded(self.train_items, self.embedder)

    @cached_property
    def test(self) -> Embedded:
        """Test items by the trained network."""
        return self._embedded(self.test_items, self.embedder)

    @cached_property
    def test_at_start(self) -> Embedded:
        """Test items by the network that the run began with."""
        return self._embedded(self.test_items, self.start)

    @cached_property
    def train_by_batch(self) -> Embedded:
        """Training items by the trained network with batch norm in training mode, in random batches as in training."""
        assert self.data is not None
        assert self.embedder is not None
        labels = self.data.dataset.labels[self.train_items]
        # Items of one class come together in the table, and never did in a batch.
        order = np.random.default_rng(self.seed).permutation(len(self.train_items))
        state = {name: value.clone() for name, value in self.embedder.state_dict().items()}
        size = max(2, self.config.training.batch_triplets * self.config.loss.pictures_per_triplet)
        x_ND = np.empty((len(order), self.embedder.embedding_dim), dtype=np.float32)
        try:
            for module in self.embedder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train()
            with torch.inference_mode():
                # The last, short batch is joined to the one before.
                for rows in np.array_split(order, max(1, len(order) // size)):
                    pictures = self.data.dataset.pictures[self.train_items[rows]]
                    x_ND[rows] = self.embedder(self.embedder.to_input(pictures)).cpu().numpy()
        finally:
            self.embedder.load_state_dict(state)
            self.embedder.eval()
        return Embedded.of(x_ND, labels, source="training items, batch norm by the batch")

    def training_embeddings(self, items: Index) -> Float32:
        """Return the trained embeddings of items by their position among the training items, as plans count them."""
        assert self.data is not None
        assert self.embedder is not None
        place = np.flatnonzero(self.data.train_N)[items]
        return self.embedder.embed(self.data.dataset.pictures[place])

    @property
    def has_batch_norm(self) -> bool:
        """Whether the trained network has batch norm that may be out of tune."""
        modules = [] if self.embedder is None else self.embedder.modules()
        return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules)

    def _sample(self, *, train: bool) -> Index:
        assert self.data is not None
        items = np.flatnonzero(self.data.train_N if train else self.data.test_N)
        labels = self.data.dataset.labels[items]
        drawn = Embedded("", np.zeros((len(items), 1)), labels).sample_items(seed=self.seed, max_items=_MAX_ITEMS)
        sampled: Index = items[drawn]
        return sampled

    def _embedded(self, items: Index, embedder: Embedder | None) -> Embedded:
        assert self.data is not None
        assert embedder is not None
        dataset = self.data.dataset
        return Embedded.of(embedder.embed(dataset.pictures[items]), dataset.labels[items], source=str(self.folder))
