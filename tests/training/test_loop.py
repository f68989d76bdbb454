"""The segment loop: the same seed gives the same weights, and what is planned is what is trained on, in order."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import InputError, TrainingError
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.hardness.curves import schedule
from mohs.model.embedder import Embedder
from mohs.plan import POSITIVE_ORIGINS, TripletPlan
from mohs.settings.config import (
    DataConfig,
    GuardConfig,
    HardnessConfig,
    LossConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)
from mohs.training import plan_segment
from mohs.training.events import Event, SegmentEvent, StepEvent
from mohs.training.loop import FitResult, Folder, fit
from mohs.training.plan_segment import Planner, batch_slices
from mohs.training.run_inputs import SplitData

SETTINGS: dict[str, Any] = {
    "num_triplets": 96,
    "batch_triplets": 20,
    "num_segments": 3,
    "device": "cpu",
    "learning_rate": 2e-3,
}


def settings(
    *, seed: int = 0, loss: LossConfig | None = None, hardness: HardnessConfig | None = None, **training: Any
) -> RunConfig:
    return RunConfig(
        seed=seed,
        data=DataConfig(size=16, channels=1),
        model=ModelConfig(widths=(8, 16), hidden_dim=32, embedding_dim=16),
        loss=loss or LossConfig(),
        hardness=hardness or HardnessConfig(),
        training=TrainingConfig(**{**SETTINGS, **training}),
    )


def new_embedder(config: RunConfig) -> Embedder:
    return Embedder.create(config.model, ImagePolicy(config.data.size, config.data.channels), seed=config.seed)


def run(dataset: Dataset, config: RunConfig, **how: Any) -> tuple[Embedder, FitResult, list[Event]]:
    embedder, events = new_embedder(config), list[Event]()
    result = fit(embedder, dataset, config, listeners=(events.append,), **how)
    return embedder, result, events


def shown_pictures(embedder: Embedder) -> list[Tensor]:
    """Return a list that fills with the batches the network is trained on."""
    shown: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training:
            shown.append(inputs[0].detach().clone())

    embedder.register_forward_pre_hook(look)
    return shown


def whole(plans: Sequence[TripletPlan], column: str) -> np.ndarray:
    return np.concatenate([getattr(plan, column) for plan in plans])


LOSSES = [
    LossConfig(),
    LossConfig(name="semi-hard"),
    LossConfig(name="semi-hard", squared=False),
    LossConfig(name="triplet"),
    LossConfig(name="triplet", squared=False),
    LossConfig(name="soft-triplet"),
    LossConfig(name="soft-triplet", squared=False),
]


@pytest.mark.parametrize("loss", [LossConfig(), LossConfig(name="triplet")], ids=["in-batch", "triplet"])
def test_same_seed_gives_the_same_weights_and_plans(glyphs: Dataset, tmp_path: Path, loss: LossConfig) -> None:
    def once(folder: str, seed: int) -> tuple[dict[str, Tensor], list[bytes]]:
        config = settings(seed=seed, loss=loss)
        embedder, _, _ = run(glyphs, config, folder=Folder(tmp_path / folder, None))
        return embedder.state_dict(), [file.read_bytes() for file in sorted((tmp_path / folder / "plans").iterdir())]

    torch.manual_seed(1)
    weights, plans = once("one", seed=0)
    torch.manual_seed(2)
    again, plans_again = once("again", seed=0)
    other, plans_other = once("other", seed=1)
    names = [file.name for file in sorted((tmp_path / "one" / "plans").iterdir())]
    assert names == [f"segment-00{i}.parquet" for i in range(3)]
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert plans == plans_again
    assert not torch.equal(weights["head.0.weight"], other["head.0.weight"])
    assert all(one != two for one, two in zip(plans, plans_other, strict=True))


def test_the_seed_of_the_run_matters_for_the_same_initial_weights(glyphs: Dataset) -> None:
    embedders = []
    for seed in (0, 1):
        embedder = new_embedder(settings())
        fit(embedder, glyphs, settings(seed=seed))
        embedders.append(embedder)
    assert not torch.equal(embedders[0].head[0].weight, embedders[1].head[0].weight)


def test_global_random_state_is_untouched(glyphs: Dataset) -> None:
    config = settings()
    config = config.model_copy(update={"model": config.model.model_copy(update={"dropout": 0.5})})
    torch.manual_seed(5)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run(glyphs, config)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("loss", [LossConfig(), LossConfig(name="triplet")], ids=["in-batch", "triplet"])
def test_pictures_are_shown_in_the_order_of_the_plan(glyphs: Dataset, tmp_path: Path, loss: LossConfig) -> None:
    config = settings(loss=loss, augment=0.0)
    embedder = new_embedder(config)
    shown = shown_pictures(embedder)
    result = fit(embedder, glyphs, config, folder=Folder(tmp_path, None))
    columns = ["anchor", "positive"] if loss.in_batch else ["anchor", "positive", "negative"]
    expected = []
    for i in range(len(result.plans)):
        # What was saved is what was trained on.
        plan = TripletPlan.load(tmp_path / "plans" / f"segment-{i:03d}.parquet")
        for piece in batch_slices(len(plan), 20):
            items = np.concatenate([getattr(plan, column)[piece] for column in columns])
            expected.append(torch.from_numpy(glyphs.pictures[items]).permute(0, 3, 1, 2) / 255)
    assert len(shown) == len(expected) == result.num_steps == 6
    for found, wanted in zip(shown, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert result.num_pictures == len(columns) * 96 == sum(map(len, shown))


def test_cliques_only_after_their_share_of_the_run(glyphs: Dataset) -> None:
    def plans(**training: Any) -> tuple[TripletPlan, ...]:
        return run(glyphs, settings(augment=0.0, embed_anew=True, **training))[1].plans

    plain = plans(neighbourhood=1)
    for start, together in ((0.0, (True, True, True)), (0.4, (False, False, True)), (1.0, (False, False, False))):
        for i, (plan, expected) in enumerate(zip(plans(neighbourhood_from=start), together, strict=True)):
            assert sorted(plan.anchor.tolist()) == sorted(plain[i].anchor.tolist())
            # The negative of the first of a clique is shown next, and that of the next is the first.
            linked = (plan.negative[:-1] == plan.anchor[1:]) & (plan.negative[1:] == plan.anchor[:-1])
            assert (linked.sum() >= len(plan) // 8) == expected
            if not expected:
                np.testing.assert_array_equal(plan.anchor, plain[i].anchor)
                np.testing.assert_array_equal(plan.negative, plain[i].negative)


def test_cliques_begin_with_the_segment_of_their_share_of_a_run_that_does_not_divide_evenly(glyphs: Dataset) -> None:
    # The last of three segments begins at triplet 66, and two thirds of 100 are 66.7.
    config = settings(augment=0.0, num_triplets=100, neighbourhood_from=2 / 3)
    plan = run(glyphs, config)[1].plans[2]
    assert ((plan.negative[:-1] == plan.anchor[1:]) & (plan.negative[1:] == plan.anchor[:-1])).sum() >= len(plan) // 8


def test_a_plan_is_of_the_embeddings_of_the_steps(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture is embedded once to be planned, before a step has shown it, and then no more; anew each time."""
    embedded: list[int] = []
    own = Planner._embed

    def counted(self: Planner, embedder: Embedder, items_M: Any) -> Any:
        embedded.append(len(items_M))
        return own(self, embedder, items_M)

    monkeypatch.setattr(Planner, "_embed", counted)
    monkeypatch.setattr(plan_segment, "_HEALTH_PAIRS", 4)
    off = {"guard": GuardConfig(enabled=False)}
    _, result, _ = run(glyphs, settings(num_triplets=480, num_segments=10).model_copy(update=off))
    shown_in = [np.unique(np.r_[plan.anchor, plan.positive]) for plan in result.plans]
    new, known = [], np.empty(0, np.int64)
    for items in shown_in:
        new.append(len(np.setdiff1d(items, known)))
        known = np.union1d(known, items)
    assert sum(new) == len(known)
    # Beside them, 4 pairs of each segment are looked at.
    assert sum(n for n in embedded if n > 8) == sum(n for n in new if n > 8) > 0
    assert sum(n <= 8 for n in embedded) == 10 + sum(0 < n <= 8 for n in new)
    embedded.clear()
    run(glyphs, settings(num_triplets=480, num_segments=10, embed_anew=True).model_copy(update=off))
    assert embedded == [len(items) for items in shown_in]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.name}-{'squared' if loss.squared else 'plain'}")
def test_every_loss_runs_on_a_fair_plan(glyphs: Dataset, loss: LossConfig) -> None:
    embedder, result, events = run(glyphs, settings(loss=loss))
    anchor, positive, negative = (whole(result.plans, name) for name in ("anchor", "positive", "negative"))
    labels = glyphs.labels
    assert (labels[anchor] == labels[positive]).all()
    assert (anchor != positive).all()
    assert (labels[anchor] != labels[negative]).all()
    assert np.bincount(glyphs.labels_id[anchor]).tolist() == [4] * 24  # 96 anchors over 24 classes
    assert (glyphs.roles[anchor] == "sample").all()  # each class has samples, so none of the catalog
    assert not embedder.training
    steps = [event for event in events if isinstance(event, StepEvent)]
    assert len(steps) == result.num_steps == steps[-1].step == steps[0].num_steps
    assert steps[-1].triplets == 96
    assert steps[-1].pictures == result.num_pictures == 96 * loss.pictures_per_triplet
    assert all(math.isfinite(step.loss) and 0 <= step.active_fraction <= 1 and 0 < step.spread <= 1 for step in steps)
    assert sum(isinstance(event, SegmentEvent) for event in events) == 3
    if loss.in_batch:  # the mined negative is in the segment as an anchor, with a positive of its own
        assert all(np.isin(plan.negative, plan.anchor).all() for plan in result.plans)


@pytest.mark.parametrize("num_triplets", [96, 100, 47])
def test_every_class_is_an_anchor_in_turn(glyphs: Dataset, num_triplets: int) -> None:
    _, result, _ = run(glyphs, settings(num_triplets=num_triplets, num_segments=2))
    times = np.bincount(glyphs.labels_id[whole(result.plans, "anchor")], minlength=24)
    assert times.sum() == num_triplets
    assert set(times.tolist()) <= {num_triplets // 24, -(-num_triplets // 24)}


def test_positives_from_the_catalog_on_request(glyphs: Dataset) -> None:
    for prefer in ("class", "catalog"):
        _, result, _ = run(glyphs, settings(prefer_positive=prefer))
        assert set(whole(result.plans, "positive_origin").tolist()) == {POSITIVE_ORIGINS.index(prefer)}
        roles = glyphs.roles[whole(result.plans, "positive")]
        assert (roles == ("catalog" if prefer == "catalog" else "sample")).all()


@pytest.mark.parametrize("loss", [LossConfig(), LossConfig(name="triplet")], ids=["in-batch", "triplet"])
@pytest.mark.parametrize("anchors", ["any", "sample", "catalog"])
def test_anchors_of_one_role(glyphs: Dataset, loss: LossConfig, anchors: str) -> None:
    plain = run(glyphs, settings(loss=loss))[1].plans
    config = settings(loss=loss, anchors=anchors, neighbourhood_from=0.0)
    plans = run(glyphs, config)[1].plans
    roles = [set(glyphs.roles[whole(plans, name)]) for name in ("anchor", "positive", "negative")]
    if anchors == "catalog":
        assert roles == [{"catalog"}, {"sample"}, {"sample"}]
        if loss.in_batch:  # it is in the segment with an anchor of its own
            assert all(np.isin(plan.negative, plan.positive).all() for plan in plans)
    elif anchors == "sample":
        assert roles[:2] == [{"sample"}, {"catalog"}]
    else:
        np.testing.assert_array_equal(np.sort(whole(plans, "anchor")), np.sort(whole(plain, "anchor")))
    times = np.bincount(glyphs.labels_id[whole(plans, "anchor")], minlength=24)
    assert times.tolist() == [4] * 24


def trained_on(dataset: Dataset) -> SplitData:
    everything = np.ones(len(dataset), dtype=bool)
    return SplitData(dataset, everything, ~everything, unseen_classes=True)


def test_classes_without_a_catalog_picture_are_counted_and_no_catalog_is_refused(glyphs: Dataset) -> None:
    some = glyphs.take((glyphs.roles == "sample") | (glyphs.labels_id < 20))
    config = settings(anchors="catalog")
    line = "classes without a catalog picture: 4 of 24; a sample is their anchor"
    assert trained_on(some).anchors_note(config) == line
    assert trained_on(glyphs).anchors_note(config) is None
    assert trained_on(some).anchors_note(settings()) is None
    plans = run(some, config)[1].plans
    anchor = whole(plans, "anchor")
    assert ((some.roles[anchor] == "catalog") == (some.labels_id[anchor] < 20)).all()
    assert set(some.roles[whole(plans, "negative")]) == {"sample"}
    bare = glyphs.take(glyphs.roles == "sample")
    with pytest.raises(InputError, match=r"^training\.anchors: 'catalog', but none of the 96 pictures is a catalog "):
        fit(new_embedder(config), bare, config)


@pytest.mark.parametrize("changes", [{"augment": 0.0}, {"augment": 0.3}, {"augment": 0.0, "mirror": 0.5}], ids=str)
@pytest.mark.parametrize("loss", [LossConfig(), LossConfig(name="triplet")], ids=["in-batch", "triplet"])
def test_a_class_of_one_picture_is_shown_in_two_unlike_views(
    glyphs: Dataset, changes: dict[str, float], loss: LossConfig
) -> None:
    """Catalog pictures that are alone in their class are anchors too: nothing else is there to learn from."""
    alone = glyphs.take((glyphs.roles == "catalog") | (glyphs.labels_id < 4))
    config = settings(loss=loss, **changes)
    embedder = new_embedder(config)
    shown = shown_pictures(embedder)
    result = fit(embedder, alone, config)
    single = alone.labels_id[whole(result.plans, "anchor")] >= 4
    origin = whole(result.plans, "positive_origin")
    assert ((origin == POSITIVE_ORIGINS.index("augmentation")) == single).all()
    assert 0 < single.sum() < 96
    batches = [plan.take(piece) for plan in result.plans for piece in batch_slices(len(plan), 20)]
    for batch, x in zip(batches, shown, strict=True):
        anchor, positive = x[: len(batch)], x[len(batch) : 2 * len(batch)]
        assert bool(((anchor - positive).abs().amax(dim=(1, 2, 3)) > 0.01).all())


def test_pictures_are_mirrored_and_recoloured_as_asked(glyphs: Dataset) -> None:
    def first_batch(**changes: float) -> Tensor:
        config = settings(augment=0.0, num_triplets=20, **changes)
        embedder = new_embedder(config)
        shown = shown_pictures(embedder)
        fit(embedder, glyphs.take(glyphs.roles == "sample"), config)
        return shown[0]

    plain, mirrored, recoloured = first_batch(), first_batch(mirror=1.0), first_batch(colour=1.0)
    assert torch.equal(mirrored, plain.flip(3))
    assert not torch.equal(plain, mirrored)
    change = (recoloured - plain).abs().amax(dim=(1, 2, 3))
    assert 0.05 < float(change.median()) < 0.4


def test_hardness_is_the_schedule_over_the_whole_run(glyphs: Dataset) -> None:
    hardness = HardnessConfig(curve="linear", cap=0.8, cycles=2)
    config = settings(hardness=hardness, neighbourhood=1).model_copy(update={"guard": GuardConfig(enabled=False)})
    _, result, events = run(glyphs, config)  # eight steps are noise: a guard might correct the hardness
    assert len(result.plans) == 4  # a cycle is a whole number of segments
    expected = schedule(hardness.build(), 96)
    np.testing.assert_allclose(whole(result.plans, "hardness"), expected, atol=1e-6)
    segments = [event for event in events if isinstance(event, SegmentEvent)]
    assert [event.triplets for event in segments] == [0, 24, 48, 72]
    for event in segments:
        np.testing.assert_allclose(event.hardness_asked, expected[list(event.triplet_index)], atol=1e-5)


def test_hard_negatives_are_nearer_than_easy_ones(glyphs: Dataset) -> None:
    def mean_distance(cap: float, loss: LossConfig) -> float:
        hardness = HardnessConfig(curve="constant", cap=cap)
        _, result, _ = run(glyphs, settings(hardness=hardness, loss=loss, num_segments=1))
        return float(result.plans[0].anchor_negative_distance.mean())

    for loss in (LossConfig(), LossConfig(name="triplet")):
        assert mean_distance(1.0, loss) < mean_distance(0.5, loss) < mean_distance(0.0, loss)


@pytest.mark.parametrize("scale", ["range", "rank", "log-rank", "margin"])
@pytest.mark.parametrize("squared", [True, False])
def test_every_scale_runs(glyphs: Dataset, scale: Any, squared: bool) -> None:
    loss = LossConfig(name="triplet", squared=squared)
    _, result, _ = run(glyphs, settings(loss=loss, hardness=HardnessConfig(scale=scale), num_triplets=40))
    assert (glyphs.labels[whole(result.plans, "anchor")] != glyphs.labels[whole(result.plans, "negative")]).all()
    assert all(plan.header["scale"] == scale for plan in result.plans)


def test_training_lowers_the_loss_and_raises_recall(glyphs: Dataset) -> None:
    config = settings(num_triplets=2400, batch_triplets=24, num_segments=4, learning_rate=4e-3)
    untrained = evaluate_all_against_all(new_embedder(config).embed(glyphs.pictures), glyphs.labels)
    embedder, _, events = run(glyphs, config)
    trained = evaluate_all_against_all(embedder.embed(glyphs.pictures), glyphs.labels)
    losses = [event.loss for event in events if isinstance(event, StepEvent)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    assert trained.metrics["recall@1"] > untrained.metrics["recall@1"] + 0.15


def test_learning_rate_rises_then_falls_to_nothing(glyphs: Dataset) -> None:
    _, _, events = run(glyphs, settings(num_triplets=400, batch_triplets=20, num_segments=1, warmup=0.25))
    rates = np.array([event.learning_rate for event in events if isinstance(event, StepEvent)])
    np.testing.assert_allclose(rates[:5], 2e-3 * np.arange(1, 6) / 5)
    assert rates.argmax() in (4, 5)
    assert (np.diff(rates[5:]) < 0).all()
    assert 0 < rates[-1] < 0.05 * 2e-3


def test_the_learning_rate_told_is_the_one_used(glyphs: Dataset) -> None:
    """The first step of AdamW moves a weight by the rate, whatever its gradient."""
    config = settings(
        num_triplets=400, batch_triplets=20, num_segments=1, warmup=0.25, weight_decay=0.0, optimizer="adamw"
    )
    embedder = new_embedder(config)
    before = embedder.head[-1].weight.detach().clone()
    moved = []

    def measure(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == 1:
            moved.append((float((embedder.head[-1].weight.detach() - before).abs().max()), event.learning_rate))

    fit(embedder, glyphs, config, listeners=[measure])
    assert moved == [(pytest.approx(4e-4, rel=0.01), pytest.approx(4e-4))]


@pytest.mark.parametrize(
    ("broken_at", "what"),
    [(1, "loss is nan at step 1"), (2, "embeddings are NaN or Inf at step 2"), (6, "weights are NaN or Inf at step 6")],
    ids=["inside a segment", "at the end of a segment", "by the last step"],
)
def test_broken_training_is_told(glyphs: Dataset, broken_at: int, what: str) -> None:
    embedder = new_embedder(settings())

    def breaks(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == broken_at:
            with torch.no_grad():
                embedder.head[-1].weight[0, 0] = math.nan

    with pytest.raises(TrainingError) as caught:
        fit(embedder, glyphs, settings(), listeners=[breaks])
    assert str(caught.value) == (
        f"training: {what} of 6 (training.learning_rate 0.002); lower it (try 0.0002), "
        "or check model.weights and, with 'mohs check', the pictures"
    )


def test_far_too_fast_is_told(glyphs: Dataset) -> None:
    with pytest.raises(TrainingError, match=r"^training: .* at step \d of 6 \(training\.learning_rate 1e\+30\)"):
        run(glyphs, settings(learning_rate=1e30, warmup=0.0))


def test_one_class_is_not_enough(glyphs: Dataset) -> None:
    one = glyphs.take(glyphs.labels_id == 3)
    with pytest.raises(InputError) as caught:
        run(one, settings())
    assert str(caught.value) == "glyphs: 1 class to train on; similarity learning needs 2 or more"


@pytest.mark.parametrize("num_triplets", [1, 2, 3])
def test_very_short_runs(glyphs: Dataset, num_triplets: int) -> None:
    for loss in LOSSES:
        _, result, _ = run(glyphs, settings(num_triplets=num_triplets, loss=loss, num_segments=5))
        assert len(whole(result.plans, "anchor")) == num_triplets


def test_the_dataset_is_left_as_it_is(glyphs: Dataset) -> None:
    before = np.array(glyphs.pictures)
    run(glyphs, settings())
    np.testing.assert_array_equal(glyphs.pictures, before)
