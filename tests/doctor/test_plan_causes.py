"""Causes in the plans and pictures of a run, on plans made by hand: each both ways."""

from types import SimpleNamespace

import numpy as np
import pytest

from mohs.data.dataset import Dataset
from mohs.data.table import Table
from mohs.doctor.log.training_log import TrainingLog
from mohs.doctor.of_triplets import reachable_distance
from mohs.doctor.run.causes import (
    find_dead_run_positives,
    find_dominating_negatives,
    find_equal_pictures,
    find_run_false_negatives,
    find_run_forgetting,
    find_run_margin,
)
from mohs.evaluation.embedded import Embedded
from mohs.plan import POSITIVE_ORIGINS, TripletPlan
from mohs.settings.config import HardnessConfig, LossConfig, ModelConfig, RunConfig

AUGMENTATION = POSITIVE_ORIGINS.index("augmentation")


def plan_of(anchor, positive, negative, **columns):
    header = {"num_classes": 500, "num_items": 1000}
    return TripletPlan.of(anchor, positive, negative, header=header, **columns)


def data_of(labels):
    labels = np.asarray(labels).astype(np.str_)
    return SimpleNamespace(dataset=SimpleNamespace(labels=labels), train_N=np.ones(len(labels), dtype=bool))


# margin-too-large


def run_with_margin(margin, *, dim=16, scale="log-rank", hardness=1.0, loss="triplet", active=0.99):
    num = 40
    config = RunConfig(
        loss=LossConfig(name=loss, margin=margin),
        model=ModelConfig(embedding_dim=dim),
        hardness=HardnessConfig(scale=scale),
    )
    columns = {"loss": np.full(num, 0.5), "active_fraction": np.full(num, active), "spread": np.full(num, 0.9)}
    log = TrainingLog("run", np.arange(1.0, num + 1), "step", **columns)
    # Only the last quarter counts.
    steps = [{"hardness": hardness if place >= 30 else 0.0} for place in range(num)]
    return SimpleNamespace(config=config, log=log, plans=[plan_of([0], [1], [2])], steps=steps)


@pytest.mark.parametrize(
    ("scale", "hardness", "quantile"),
    [
        ("log-rank", 1.0, 0.001),
        ("log-rank", 0.5, 1000**0.5 / 1000),
        ("rank", 0.8, 0.2),
        ("rank", 0.0, 1.0),
        ("range", 1.0, 0.5),
        ("margin", 1.0, 0.5),
    ],
)
def test_the_room_for_the_hardness_that_was_asked_for(scale, hardness, quantile):
    room = reachable_distance(quantile, dim=16, num_classes=500)
    found = find_run_margin(run_with_margin(room + 0.01, scale=scale, hardness=hardness))
    assert (found.severity, found.numbers["reachable"]) == ("warning", pytest.approx(room))
    assert find_run_margin(run_with_margin(room - 0.01, scale=scale, hardness=hardness)) is None


def test_runs_whose_margin_is_not_judged():
    assert find_run_margin(run_with_margin(3.0)) is not None
    assert find_run_margin(run_with_margin(3.0, active=0.9)) is None
    assert find_run_margin(run_with_margin(3.0, loss="contrastive")) is None
    assert find_run_margin(run_with_margin(3.0, dim=1)) is None


# dead-positives


def test_copies_in_plans_and_augmentations_that_are_none():
    def run(num_dead, num_augmented):
        distance = np.where(np.arange(100) < num_dead + num_augmented, 0.0, 0.5)
        origin = np.where(np.arange(100) < num_augmented, AUGMENTATION, 0)
        columns = {"anchor_positive_distance": distance, "anchor_negative_distance": np.full(100, 0.8)}
        plan = plan_of(np.zeros(100, int), np.ones(100, int), np.full(100, 2), positive_origin=origin, **columns)
        return SimpleNamespace(plans=[plan.take(np.arange(50)), plan.take(np.arange(50, 100))])

    assert find_dead_run_positives(run(0, 0)) is None
    assert find_dead_run_positives(run(0, 60)) is None
    assert find_dead_run_positives(run(0, 100)) is None
    found = find_dead_run_positives(run(10, 50))
    assert (found.severity, found.numbers) == ("warning", {"dead_share": 0.2, "num_triplets": 50.0})


# one-class-dominates


def test_a_class_that_is_everybodys_negative():
    labels = np.arange(40)

    def run(num_one):
        negative = np.where(np.arange(100) < num_one, 7, 10 + np.arange(100) % 30)
        plan = plan_of(np.zeros(100, int), np.ones(100, int), negative)
        return SimpleNamespace(data=data_of(labels), plans=[plan, plan])

    found = find_dominating_negatives(run(50))
    assert (found.severity, found.numbers["share"], found.settings) == ("error", 0.5, {})
    assert found.what.startswith("50% of the 200 mined negatives are of the class '7', one of ")
    assert find_dominating_negatives(run(10)) is None


# false-negatives


def run_with_false_negatives(share, *, origin=0, num=200):
    """Pairs of one class about 0.5 apart; of this share of anchors the negative is a copy of the anchor."""
    random = np.random.default_rng(0)
    anchor_ND = random.normal(size=(num, 8))
    negative_ND = random.normal(size=(num, 8))
    copied = np.arange(num) < share * num
    negative_ND[copied] = anchor_ND[copied] + 1e-3
    x_ND = np.concatenate([anchor_ND, anchor_ND + 0.18 * random.normal(size=(num, 8)), negative_ND])
    items = np.arange(num)
    last = plan_of(items, items + num, items + 2 * num, positive_origin=np.full(num, origin))
    # What was mined long ago is not judged: there the negatives are all copies.
    first = plan_of(items[copied], items[copied] + num, items[copied] + 2 * num)
    plans = [first, first, last] if copied.any() else [last]
    return SimpleNamespace(plans=plans, training_embeddings=lambda items: x_ND[items].astype(np.float32))


@pytest.mark.parametrize(("share", "severity"), [(0.0, None), (0.15, None), (0.4, "warning"), (0.7, "error")])
def test_mined_negatives_that_are_the_same_thing(share, severity):
    found = find_run_false_negatives(run_with_false_negatives(share))
    assert (None if found is None else found.severity) == severity
    if found is not None:
        assert found.numbers["share"] == pytest.approx(share, abs=0.01)


def test_augmented_anchors_say_nothing_of_negatives():
    assert find_run_false_negatives(run_with_false_negatives(0.7, origin=AUGMENTATION)) is None


# forgetting


def run_that_forgot(num_lost):
    """40 classes are anchors once, in order; the embeddings of the first ones are lost."""
    random = np.random.default_rng(0)
    class_N = np.repeat(np.arange(50), 4)
    x_ND = random.normal(size=(50, 8))[class_N] + 0.05 * random.normal(size=(200, 8))
    lost = class_N < num_lost
    x_ND[lost] = random.normal(size=(int(lost.sum()), 8))
    # Classes 40 and later never were an anchor.
    anchor = 4 * np.arange(40)
    plans = [plan_of(anchor[part], anchor[part] + 1, (anchor[part] + 4) % 160) for part in np.split(np.arange(40), 4)]
    return SimpleNamespace(data=data_of(class_N), plans=plans, train=Embedded.of(x_ND, class_N, source="train"))


def test_classes_that_were_forgotten():
    found = find_run_forgetting(run_that_forgot(8))
    assert found.severity == "warning"
    assert found.numbers["recent"] == 1.0
    assert found.numbers["old"] < 0.4
    assert find_run_forgetting(run_that_forgot(0)) is None


def test_classes_that_were_never_shown_were_not_forgotten():
    run = run_that_forgot(0)
    x_ND = run.train.x_ND.copy()
    x_ND[160:] = np.random.default_rng(1).normal(size=(40, 8))
    run.train = Embedded.of(x_ND, run.train.labels, source="train")
    assert find_run_forgetting(run) is None
    run.plans = []
    assert find_run_forgetting(run) is None


# train-test-leak


@pytest.mark.parametrize(("num_copied", "severity"), [(0, None), (1, "warning"), (9, "warning"), (10, "error")])
def test_test_pictures_that_are_training_pictures(num_copied, severity):
    pictures = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 1), dtype=np.uint8)
    pictures[200 : 200 + num_copied] = pictures[50 : 50 + num_copied]
    pictures[399] = pictures[398]  # copies within the test are no leak
    files = tuple(f"{item}.png" for item in range(400))
    labels, roles = np.arange(400).astype(np.str_), np.full(400, "sample")
    dataset = Dataset(Table(files, labels, roles, np.full(400, ""), source="t"), pictures)
    train_N = np.arange(400) < 200
    found = find_equal_pictures(dataset, train_N, ~train_N)
    assert (None if found is None else found.severity) == severity
    if found is not None:
        assert found.numbers == {"share": num_copied / 200, "num_equal": float(num_copied), "num_test": 200.0}
        expected = ", ".join(files[200 : 200 + min(num_copied, 3)])
        assert found.what.endswith(f"are training pictures too, for example {expected}")
