"""What a segment's negatives are chosen from."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder
from mohs.peers import Peers
from mohs.plan import TripletPlan
from mohs.settings.config import DataConfig, LossConfig, MemoryConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training import closed_loop, plan_segment
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


@pytest.mark.parametrize(
    "config",
    [settings(loss="triplet"), settings(neighbourhood=1), settings(neighbourhood=4), settings(loss="semi-hard")],
    ids=["triplets", "random batches", "cliques", "semi-hard"],
)
def test_processes_mine_for_a_part_of_the_anchors_each_and_have_one_plan(
    glyphs: Dataset, config: RunConfig, together, torch_as_it_was: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config.model_copy(
        update={"negatives": config.negatives.model_copy(update={"skip_nearest": 2, "min_distance_ratio": 0.5})}
    )
    monkeypatch.setattr(closed_loop, "_SHARED_ROWS", 8)
    torch.set_num_threads(1)
    module = importlib.import_module("mohs.mining.mine")
    usual, num_mined = module.mine_exact, []

    def counted(problem, *rest):
        num_mined.append(len(problem.anchors_T))
        return usual(problem, *rest)

    monkeypatch.setattr(module, "mine_exact", counted)
    (segment,) = all_segments(glyphs, config)

    # Made here: the ranks are threads, and torch's generator, which draws the weights, is one for all of them.
    embedders = [Embedder.create(config.model, ImagePolicy(16, 1), seed=0) for _ in range(3)]

    def plan(peers: Peers) -> bytes:
        made = Planner(glyphs, config, peers).plan(segment, embedders[peers.rank]).plan
        return made.to_arrow().schema.metadata[b"mohs.sha256"]

    [wanted] = together(1, plan)
    alone = sum(num_mined)
    for num_ranks in (2, 3):
        num_mined.clear()
        assert together(num_ranks, plan) == [wanted] * num_ranks
        assert sum(num_mined) < 1.5 * alone  # all together about as many as one, not each of them
