"""Early stopping: a run that gets worse ends, one that improves does not, and held-out classes are never trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.runs import Run, train
from mohs.settings.config import DataConfig, GuardConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training.events import EarlyStoppingEvent, Event
from mohs.training.held_out import HeldOut, choose_held_out, copied_weights
from mohs.training.loop import fit
from mohs.training.run_inputs import SplitData, open_split_data, with_held_out_classes


def settings(out: Path | None = None, *, data: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    training = {"num_triplets": 96, "batch_triplets": 12, "num_segments": 8, "device": "cpu", **changes}
    return RunConfig(
        out=None if out is None else str(out),
        data=DataConfig(
            **{"size": 16, "channels": 1, "max_classes": 120, "test_fraction": 0.2, "validation_fraction": 0.2}
            | (data or {})
        ),
        model=ModelConfig(widths=(8, 16), hidden_dim=0, embedding_dim=16),
        training=TrainingConfig(**training),
    )


def some_pairs() -> HeldOut:
    pictures = np.zeros((10, 16, 16, 1), dtype=np.uint8)
    return HeldOut(pictures, pictures, matches_trained=False, of="validation")


def trained(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, hits_of_10: list[int], **changes: Any
) -> tuple[Embedder, list[dict[str, torch.Tensor]], list[Event]]:
    """Train, with so many of ten queries found before the first segment, after it, …; return every network, too."""
    embedder = Embedder.create(settings().model, ImagePolicy(16, 1), seed=0)
    moments: list[dict[str, torch.Tensor]] = []

    def hits(_: HeldOut, network: Embedder) -> NDArray[np.bool_]:
        moments.append(copied_weights(network))
        return np.arange(10) < hits_of_10[len(moments) - 1]

    monkeypatch.setattr(HeldOut, "hits", hits)
    seen: list[Event] = []
    fit(embedder, dataset, settings(**changes), listeners=(seen.append,), held_out=some_pairs())
    return embedder, moments, seen


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_that_gets_worse_stops_and_has_the_weights_of_its_best_moment(
    glyphs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, moments, seen = trained(glyphs, monkeypatch, [2, 4, 7, 6, 7, 5], stop_after=3)
    assert len(moments) == 6  # a measurement that is as good is not better
    assert same(embedder.state_dict(), moments[2])
    assert not same(embedder.state_dict(), moments[5])
    assert seen[-1] == EarlyStoppingEvent(triplets=60, num_triplets=96, best_triplets=24, best_recall=0.7, stopped=True)


def test_a_run_that_improves_does_not_stop(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, moments, seen = trained(glyphs, monkeypatch, [1, 1, 2, 2, 3, 3, 4, 4, 5], stop_after=2)
    assert len(moments) == 9
    assert same(embedder.state_dict(), moments[8])
    assert seen[-1] == EarlyStoppingEvent(
        triplets=96, num_triplets=96, best_triplets=96, best_recall=0.5, stopped=False
    )


def test_without_it_a_run_that_gets_worse_goes_on_and_has_the_last_weights(
    glyphs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, moments, seen = trained(glyphs, monkeypatch, [9, 8, 7, 6, 5, 4, 3, 2, 1])
    assert len(moments) == 9
    assert same(embedder.state_dict(), moments[8])
    assert not any(isinstance(event, EarlyStoppingEvent) for event in seen)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("early")
    return train(settings(folder / "run", num_triplets=600, batch_triplets=24, num_segments=5, stop_after=4))


def test_a_healthy_run_learns_and_is_not_stopped(healthy: Run) -> None:
    points = [event for event in healthy.events() if event["event"] == "held-out"]
    assert [point["triplets"] for point in points] == [0, 120, 240, 360, 480, 600]
    assert {(point["of"], point["num_queries"]) for point in points} == {("validation", 19)}
    assert max(point["recall"] for point in points[1:]) > points[0]["recall"]
    assert all(point["low"] < point["recall"] < point["high"] for point in points)
    facts = healthy.facts()
    best = max(points, key=lambda point: point["recall"])  # the first of equal ones
    assert (facts["stopped_early"], facts["num_triplets"]) == (False, 600)
    assert (facts["best_triplets"], facts["best_recall"]) == (best["triplets"], best["recall"])


def test_the_curve_is_r_at_1_of_the_weights_that_are_kept(healthy: Run) -> None:
    data = open_split_data(healthy.config.data, seed=0)
    held_out = choose_held_out(data, healthy.config)
    assert held_out is not None
    embedder = healthy.embedder()
    assert float(held_out.hits(embedder).mean()) == healthy.facts()["best_recall"]
    # The same by the definition, each query against all other pictures.
    x_ND = embedder.embed(np.concatenate([held_out.query_CHWC, held_out.match_CHWC]))
    distance_NN = np.linalg.norm(x_ND[:, None] - x_ND, axis=2)
    np.fill_diagonal(distance_NN, np.inf)
    assert np.mean(distance_NN[:19].argmin(axis=1) == np.arange(19, 38)) == healthy.facts()["best_recall"]


def test_held_out_classes_are_neither_trained_on_nor_tested(healthy: Run) -> None:
    data = open_split_data(healthy.config.data, seed=0)
    labels = data.dataset.labels
    held_out, training, test = (set(labels[part].tolist()) for part in (data.validation_N, data.train_N, data.test_N))
    assert (len(held_out), len(training), len(test)) == (19, 77, 24)
    assert not held_out & training
    assert not held_out & test
    assert set(healthy.trained_classes().tolist()) == training
    # They are taken of the training classes: the test is that of a run without them.
    without = open_split_data(healthy.config.data.model_copy(update={"validation_fraction": 0.0}), seed=0)
    assert (without.test_N == data.test_N).all()
    assert set(labels[without.train_N].tolist()) == training | held_out
    other = open_split_data(healthy.config.data, seed=1)
    assert set(labels[other.validation_N].tolist()) != held_out


def test_a_run_that_is_made_worse_is_stopped(healthy: Run, tmp_path: Path) -> None:
    config = settings(tmp_path / "run", num_triplets=600, batch_triplets=24, num_segments=10, stop_after=2)
    worse = config.model_copy(
        update={
            "model": config.model.model_copy(update={"start": str(healthy.folder)}),
            "training": config.training.model_copy(update={"learning_rate": 30.0, "optimizer": "sgd", "warmup": 0.0}),
            "guard": GuardConfig(enabled=False),
        }
    )
    run = train(worse)
    assert (run.facts()["stopped_early"], run.facts()["best_triplets"], run.facts()["num_triplets"]) == (True, 0, 120)
    assert same(run.embedder().state_dict(), healthy.embedder().state_dict())


def test_a_class_that_is_held_out_leaves_the_test_by_item_too() -> None:
    config = settings(data={"split_by": "item", "test_fraction": 0.4})
    data = open_split_data(config.data, seed=0)
    held_out = set(data.dataset.labels[data.validation_N].tolist())
    assert len(held_out) == 24
    assert not held_out & set(data.dataset.labels[data.train_N | data.test_N].tolist())
    assert not data.unseen_classes


def test_groups_stay_whole() -> None:
    from mohs.data.split import hold_out_classes
    from mohs.data.table import Table

    labels = np.array([f"c{i // 2}" for i in range(80)])
    groups = np.array([f"family {i // 8}" for i in range(80)])
    table = Table(
        tuple(map(str, range(80))), labels, np.full(80, "sample"), np.full(80, "train", dtype="<U10"), groups=groups
    )
    chosen_N = hold_out_classes(table, 0.3, seed=3).splits == "validation"
    assert chosen_N.sum() == 24
    assert not set(groups[chosen_N].tolist()) & set(groups[~chosen_N].tolist())


def test_too_few_classes_are_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        train(settings(tmp_path / "run", data={"validation_fraction": 0.05}))
    assert str(caught.value) == (
        "data.validation_fraction: 0.05 of 96 training classes holds out 5 with two pictures or more; R@1 needs 10 "
        "such classes; raise it, add classes, or leave it out"
    )
    with pytest.raises(InputError, match=r"0\.5 of 10 training classes holds out 0 with two pictures"):
        train(settings(tmp_path / "run", data={"validation_fraction": 0.5, "max_classes": 12}))
    assert not (tmp_path / "run").exists()


def test_the_test_may_not_decide_when_to_stop(tmp_path: Path, glyphs: Dataset) -> None:
    with pytest.raises(InputError) as caught:
        train(settings(tmp_path / "run", data={"validation_fraction": 0.0}, stop_after=3))
    assert str(caught.value) == (
        "training.stop_after: 3, and no classes are held out to measure on; the test must not decide when to "
        "stop; give data.validation_fraction, for example 0.1, or leave it out"
    )
    assert not (tmp_path / "run" / "config.json").exists()
    embedder = Embedder.create(settings().model, ImagePolicy(16, 1), seed=0)
    for held_out in (None, replace(some_pairs(), of="test")):
        with pytest.raises(InputError, match="the test must not decide"):
            fit(embedder, glyphs, settings(stop_after=3), held_out=held_out)


def test_what_a_table_marks_as_validation_may_stop_a_run(glyphs: Dataset) -> None:
    splits = np.array([("validation", "test", "train")[min(label // 11, 2)] for label in glyphs.labels_id])
    dataset = replace(glyphs, table=replace(glyphs.table, splits=splits))
    data = SplitData(dataset, splits == "train", splits == "test", unseen_classes=True)
    found = choose_held_out(data, settings(data={"validation_fraction": 0.0}, stop_after=3))
    assert found is not None
    assert (found.of, len(found.query_CHWC)) == ("validation", 11)
    with pytest.raises(InputError) as caught:
        with_held_out_classes(dataset.table, settings().data, seed=0)
    assert str(caught.value) == (
        "data.validation_fraction: 0.2, and the column 'split' of glyphs marks held-out pictures already "
        "(validation); leave it out, or mark none there"
    )
