"""What a segment's negatives are chosen from."""

from dataclasses import replace

import numpy as np
import pytest

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.settings.config import DataConfig, LossConfig, MemoryConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training import plan_segment
from mohs.training.plan_segment import Planner, all_segments
from mohs.training.processes import Processes

FEW = 10


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_segment, "_LOOKED_AT", FEW)


def settings(
    *, loss: str = "infonce", num_negatives: int = 0, neighbourhood: int | None = None, num_triplets: int = 96
) -> RunConfig:
    return RunConfig(
        data=DataConfig(size=16, channels=1),
        model=ModelConfig(widths=(8, 16), hidden_dim=32, embedding_dim=16),
        loss=LossConfig(name=loss),
        memory=MemoryConfig(num_negatives=num_negatives),
        training=TrainingConfig(
            num_triplets=num_triplets, num_segments=1, neighbourhood=neighbourhood, neighbourhood_from=0.0
        ),
    )


def plan_of(dataset: Dataset, config: RunConfig) -> TripletPlan:
    embedder = Embedder.create(config.model, ImagePolicy(config.data.size, config.data.channels), seed=0)
    (segment,) = all_segments(dataset, config)
    return Planner(dataset, config, Processes()).plan(segment, embedder).plan


@pytest.mark.parametrize(
    ("config", "looks_at_few"),
    [
        (settings(num_negatives=4), True),
        (settings(neighbourhood=1), True),
        (settings(num_negatives=4, neighbourhood=4), False),
        (settings(), False),
        (settings(loss="triplet"), False),
    ],
    ids=["bank", "random batches", "bank and cliques", "cliques", "triplets"],
)
def test_negatives_that_nothing_is_trained_on_are_chosen_from_few(
    glyphs: Dataset, config: RunConfig, looks_at_few: bool
) -> None:
    plan = plan_of(glyphs, config)
    assert (len(np.unique(plan.negative)) <= FEW) == looks_at_few
    assert (glyphs.labels[plan.negative] != glyphs.labels[plan.anchor]).all()
    assert len(plan.negative) == 96


def test_few_of_one_class_are_not_enough(glyphs: Dataset) -> None:
    # Ten drawn of ninety-one pictures of one class and five of another are mostly of the first alone.
    one = np.array(["one"] * 91 + ["other"] * 5)
    taken = glyphs.take(np.arange(96))
    lopsided = Dataset(replace(taken.table, labels=one), taken.pictures)
    for seed in range(5):
        config = settings(neighbourhood=1, num_triplets=400).model_copy(update={"seed": seed})
        plan = plan_of(lopsided, config)
        assert (lopsided.labels[plan.negative] != lopsided.labels[plan.anchor]).all()
