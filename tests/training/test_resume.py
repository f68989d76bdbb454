"""A run that was stopped and taken up ends with the weights, plans, events and reviews of one that never was."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mohs.artefacts import EventLog, read_events, read_json, write_json
from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import InputError, TrainingError
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.settings.config import (
    DataConfig,
    FinetuneConfig,
    GuardConfig,
    HardnessConfig,
    LossConfig,
    MemoryConfig,
    ModelConfig,
    NegativesConfig,
    RunConfig,
    TrainingConfig,
)
from mohs.training.checkpoint import load_checkpoint
from mohs.training.events import Event, StepEvent
from mohs.training.guard import BankHealth, CollapseGuard, StepHealth, Verdict
from mohs.training.held_out import HeldOut
from mohs.training.loop import FitResult, Folder, fit
from mohs.training.step import Stepped, Stepper

Changes = dict[str, Any]

VARIANTS: dict[str, Changes] = {
    "default": {},
    "triplet": {"loss": LossConfig(name="triplet"), "negatives": NegativesConfig(min_distance_ratio=0.9)},
    "closed loop": {"loss": LossConfig(name="triplet"), "hardness": HardnessConfig(curve="closed-loop")},
    "overlap": {"overlap": True},
    "overlap, closed loop": {
        "overlap": True,
        "loss": LossConfig(name="triplet"),
        "hardness": HardnessConfig(curve="closed-loop"),
    },
    "loss with parameters": {"loss": LossConfig(name="proxy-anchor")},
    "sgd, unfreezing": {
        "optimizer": "sgd",
        "finetune": FinetuneConfig(trainable_stages=0, unfreeze_at=(0.3, 0.6)),
    },
    "muon": {"optimizer": "muon"},
    "dropout": {"model": ModelConfig(widths=(8, 16), hidden_dim=32, embedding_dim=16, dropout=0.3)},
    "roll-back": {"warmup": 0.5},
    "roll-back, closed loop": {
        "warmup": 0.5,
        "loss": LossConfig(name="triplet"),
        "hardness": HardnessConfig(curve="closed-loop"),
    },
    "roll-back, overlap, closed loop": {
        "overlap": True,
        "loss": LossConfig(name="triplet"),
        "hardness": HardnessConfig(curve="closed-loop"),
    },
    "memory": {"memory": MemoryConfig(num_negatives=20, from_progress=0.2)},
    "memory, overlap, roll-back": {
        "warmup": 0.5,
        "overlap": True,
        "memory": MemoryConfig(num_negatives=20, from_progress=0.0),
    },
}


def settings(changes: Changes) -> RunConfig:
    sections = {name: value for name, value in changes.items() if name in RunConfig.model_fields}
    training = {name: value for name, value in changes.items() if name not in RunConfig.model_fields}
    base: Changes = {
        "num_triplets": 120,
        "batch_triplets": 15,
        "num_segments": 3,
        "device": "cpu",
        "learning_rate": 2e-3,
        "checkpoint_s": 1e-9,
    }
    return RunConfig(
        data=DataConfig(size=16, channels=1),
        training=TrainingConfig(**{**base, **training}),
        **{"model": ModelConfig(widths=(8, 16), hidden_dim=32, embedding_dim=16), **sections},
    )


class Stopped(BaseException):
    """What a kill looks like from inside: nothing is done after it."""


def go(
    dataset: Dataset,
    config: RunConfig,
    path: Path,
    *,
    stop_at: int | None = None,
    resume: bool = False,
    by_signal: signal.Signals | None = None,
    held_out: HeldOut | None = None,
) -> tuple[Embedder, FitResult | None]:
    embedder = Embedder.create(config.model, ImagePolicy(16, 1), seed=0)

    def stop(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == stop_at:
            if by_signal is None:
                raise Stopped
            signal.raise_signal(by_signal)

    checkpoint = load_checkpoint(path / "checkpoints") if resume else None
    path.mkdir(exist_ok=True)
    with EventLog(path / "events.jsonl") as log:
        try:
            result = fit(
                embedder, dataset, config, listeners=(stop,), folder=Folder(path, log, checkpoint), held_out=held_out
            )
        except Stopped:
            return embedder, None
    return embedder, result


def files(path: Path) -> dict[str, bytes]:
    found = {file.name: file.read_bytes() for file in sorted((path / "plans").iterdir())}
    review = path / "review.csv"
    return found | ({"review.csv": review.read_bytes()} if review.exists() else {})


def without_times(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in event.items() if not k.endswith("_s")} for event in events]


def collapse_once(monkeypatch: pytest.MonkeyPatch, at_step: int) -> None:
    """Make the guard see a collapse at one step of the run; what was rolled back is not counted back."""
    train, after_step = Stepper.train, CollapseGuard.after_step

    def marked_train(self: Stepper, batch: TripletPlan) -> Stepped:
        stepped = train(self, batch)
        mark = -1.0 if self.step == at_step else stepped.health.gradient_norm
        return replace(stepped, health=replace(stepped.health, gradient_norm=mark))

    def marked_after_step(self: CollapseGuard, health: StepHealth) -> Verdict | None:
        after_step(self, health)
        if health.gradient_norm < 0:
            return Verdict("collapse", "batch spread", "for the test", {"spread": 0.0})
        return None

    monkeypatch.setattr(Stepper, "train", marked_train)
    monkeypatch.setattr(CollapseGuard, "after_step", marked_after_step)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("stops", [(1,), (4, 5), (3, 7)])
def test_stopped_and_taken_up_is_the_same(
    glyphs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stops: tuple[int, ...]
) -> None:
    config = settings(VARIANTS[name])
    if "roll-back" in name:
        collapse_once(monkeypatch, at_step=5)
    whole, result = go(glyphs, config, tmp_path / "whole")
    for number, stop in enumerate(stops):
        _, nothing = go(glyphs, config, tmp_path / "cut", stop_at=stop, resume=number > 0)
        assert nothing is None
    again, result_again = go(glyphs, config, tmp_path / "cut", resume=True)
    assert result is not None
    assert result_again is not None
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert files(tmp_path / "whole") == files(tmp_path / "cut")
    logs = [without_times(read_events(tmp_path / folder / "events.jsonl")) for folder in ("whole", "cut")]
    assert logs[0] == logs[1]
    assert (result.num_steps, result.num_pictures) == (result_again.num_steps, result_again.num_pictures)
    assert [len(plan) for plan in result.plans] == [len(plan) for plan in result_again.plans]
    last = [load_checkpoint(tmp_path / folder / "checkpoints").values for folder in ("whole", "cut")]
    for key in ("guard", "controller", "before", "hardness_factor", "rate_scale", "ramp_from"):
        assert last[0][key] == last[1][key], key
    if "roll-back" in name:
        actions = [event["action"] for event in logs[0] if event["event"] == "guard"]
        assert [action for action in actions if action != "none"] == ["roll-back"]  # beside a warning, which is real


@pytest.mark.parametrize("stop_at", [2, 3, 4])  # 3 is the last step of a segment
@pytest.mark.parametrize("by_signal", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_end_and_leaves_a_checkpoint_of_it(
    glyphs: Dataset, tmp_path: Path, stop_at: int, by_signal: signal.Signals
) -> None:
    def as_the_command_line_does(*_: object) -> None:
        raise KeyboardInterrupt

    config = settings({"checkpoint_s": 1000.0})
    whole, _ = go(glyphs, config, tmp_path / "whole")
    before = signal.signal(by_signal, as_the_command_line_does)
    try:
        with pytest.raises(KeyboardInterrupt):
            go(glyphs, config, tmp_path / "cut", stop_at=stop_at, by_signal=by_signal)
        assert signal.getsignal(by_signal) is as_the_command_line_does
    finally:
        signal.signal(by_signal, before)
    left = load_checkpoint(tmp_path / "cut" / "checkpoints")
    assert left is not None
    assert left.step == stop_at
    again, _ = go(glyphs, config, tmp_path / "cut", resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    logs = [without_times(read_events(tmp_path / folder / "events.jsonl")) for folder in ("whole", "cut")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("stops", [(2,), (3,), (4, 5)])  # 3 steps are a segment
def test_early_stopping_is_taken_up_with_its_best_weights(
    glyphs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: tuple[int, ...]
) -> None:
    def falls(_: HeldOut, embedder: Embedder) -> NDArray[np.bool_]:
        """R@1 by the weights alone, so that a run that is taken up measures the same: best after the first segment."""
        known = [float(event["recall"]) for event in read_events(path / "events.jsonl") if event["event"] == "held-out"]
        return np.arange(10) < (3, 9, 5, 5)[len(known)]

    monkeypatch.setattr(HeldOut, "hits", falls)
    pictures = np.zeros((10, 16, 16, 1), dtype=np.uint8)
    held_out = HeldOut(pictures, pictures, matches_trained=False, of="validation")
    config = settings({"stop_after": 1, "num_segments": 4, "num_triplets": 180})
    path = tmp_path / "whole"
    whole, result = go(glyphs, config, path, held_out=held_out)
    path = tmp_path / "cut"
    for number, stop in enumerate(stops):
        go(glyphs, config, path, stop_at=stop, resume=number > 0, held_out=held_out)
    again, result_again = go(glyphs, config, path, resume=True, held_out=held_out)
    for one in (result, result_again):
        assert one is not None
        assert (one.num_steps, one.num_triplets, one.best_triplets, one.stopped_early) == (6, 90, 45, True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    logs = [without_times(read_events(tmp_path / folder / "events.jsonl")) for folder in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_a_checkpoint_with_another_plan_is_refused(glyphs: Dataset, tmp_path: Path) -> None:
    config = settings({})
    go(glyphs, config, tmp_path / "run", stop_at=5)
    plan = max((tmp_path / "run" / "plans").iterdir())
    plan.write_bytes(plan.read_bytes() + b" ")
    with pytest.raises(InputError, match="not the plan that the checkpoint belongs to"):
        go(glyphs, config, tmp_path / "run", resume=True)


def test_a_checkpoint_from_before_pairs_were_counted_is_taken_up(glyphs: Dataset, tmp_path: Path) -> None:
    config = settings({})
    go(glyphs, config, tmp_path / "run", stop_at=5)
    for file in (tmp_path / "run" / "checkpoints").glob("step-*.json"):
        record = read_json(file)
        del record["values"]["num_kept_apart"], record["content_sha256"]  # of such a checkpoint there is no sum
        write_json(file, record)
    _, result = go(glyphs, config, tmp_path / "run", resume=True)
    assert result is not None
    assert (result.num_steps, result.num_kept_apart) == (9, 0)


def test_a_checkpoint_has_the_names_that_runs_of_format_3_are_taken_up_by(glyphs: Dataset, tmp_path: Path) -> None:
    go(glyphs, settings(VARIANTS["roll-back, overlap, closed loop"]), tmp_path / "run", stop_at=5)
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    assert set(checkpoint.tensors) == {"embedder", "loss", "optimizer", "before", "ahead"}
    values = checkpoint.values
    assert set(values) == {
        "segment", "num_waiting", "num_steps", "num_plans", "num_actions", "ahead_step", "ahead_memory",
        "hardness_factor", "rate_scale", "ramp_from", "before", "best", "triplets", "pictures", "num_kept_apart",
        "seconds", "guard", "controller", "log_bytes", "review_bytes", "num_threads", "distrusted",
    }  # fmt: skip
    assert set(values["segment"]) == {
        "number", "first", "hardness_factor", "row", "plan_sha256", "health", "control", "num_dropped", "active",
        "embed_s", "mine_s", "train_s",
    }  # fmt: skip
    assert set(values["seconds"]) == {"embed", "mine", "train"}
    guard = {
        "num_steps", "mean_spread", "mean_loss", "largest_step_spread", "largest_bank_spread", "largest_rank",
        "best_recall", "most_queries", "bank_is_healthy", "num_low", "num_near", "grace", "told",
    }  # fmt: skip
    controller = {"relative_margin", "largest_spread", "has_observed"}
    assert set(values["controller"]) == controller
    assert set(values["guard"]) == guard
    for moment in ("before", "ahead_memory"):
        assert {name: set(known) for name, known in values[moment].items()} == {
            "guard": guard,
            "controller": controller,
        }


def test_a_changed_review_list_is_refused(glyphs: Dataset, tmp_path: Path) -> None:
    review = tmp_path / "review.csv"
    classes = glyphs.labels_id
    others = np.flatnonzero(classes != classes[0])[:2]
    rows = [f"{glyphs.table.files[0]},{glyphs.table.files[other]}\n" for other in others]
    review.write_text("file,other\n" + rows[0])
    config = settings({"negatives": NegativesConfig(review_list=str(review))})
    go(glyphs, config, tmp_path / "run", stop_at=5)
    review.write_text("file,other\n" + rows[1])
    with pytest.raises(InputError) as caught:
        go(glyphs, config, tmp_path / "run", resume=True)
    assert str(caught.value) == (
        "negatives: the pairs that may not be anchor and negative are not those that the run began with: equal "
        f"pictures or the review list ({review}) have changed; restore them, or train into another folder"
    )


def test_another_number_of_threads_is_told(glyphs: Dataset, tmp_path: Path) -> None:
    config, threads = settings({}), torch.get_num_threads()
    go(glyphs, config, tmp_path / "run", stop_at=5)
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(UserWarning, match=f"begun with {threads} threads and goes on with {threads + 1}; its weig"):
            go(glyphs, config, tmp_path / "run", resume=True)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("action", ["lower-hardness", "cut-rate", "roll-back", "stop", "warn"])
def test_what_the_guard_does(glyphs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    config = settings({"guard": GuardConfig(action=action), "loss": LossConfig(name="triplet")})
    plain, plain_result = go(glyphs, settings({"loss": LossConfig(name="triplet")}), tmp_path / "plain")
    collapse_once(monkeypatch, at_step=2)
    seen: Callable[[], list[dict[str, Any]]] = lambda: read_events(tmp_path / "run" / "events.jsonl")  # noqa: E731
    if action == "stop":
        with pytest.raises(TrainingError, match="collapsed at step 2 of 9: for the test; lower"):
            go(glyphs, config, tmp_path / "run")
        assert [event["action"] for event in seen() if event["event"] == "guard"] == ["stop"]
        return
    embedder, result = go(glyphs, config, tmp_path / "run")
    assert plain_result is not None
    assert result is not None
    guards = [event for event in seen() if event["event"] == "guard"]
    assert guards[0]["step"] == 2
    assert guards[0]["numbers"] == {"spread": 0.0}
    steps = [event for event in seen() if event["event"] == "step"]
    assert sum(len(plan) for plan in result.plans) == 120 == steps[-1]["triplets"]
    rates = [event["learning_rate"] for event in steps]
    if action == "warn":
        assert all(torch.equal(v, plain.state_dict()[k]) for k, v in embedder.state_dict().items())
    elif action == "cut-rate":
        plain_rates = [
            e["learning_rate"] for e in read_events(tmp_path / "plain" / "events.jsonl") if e["event"] == "step"
        ]
        assert rates[:2] == plain_rates[:2]
        assert rates[2:6] == pytest.approx([0.3 * rate for rate in plain_rates[2:6]])
    else:
        # The segment that was stopped is cut, what is left of it is planned again, at half the hardness.
        assert 0 < len(result.plans[0]) < 40
        first, second = plain_result.plans[0], result.plans[1]
        rest = dict(zip(zip(first.anchor, first.positive, strict=True), first.hardness, strict=True))
        assert len(second) == 40 - len(result.plans[0])
        for anchor, positive, hardness in zip(second.anchor, second.positive, second.hardness, strict=True):
            assert hardness == pytest.approx(rest[(anchor, positive)] / 2, abs=1e-6)


def test_too_many_actions_end_the_run(glyphs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def always(self: Any, health: BankHealth) -> Verdict:
        return Verdict("collapse", "bank spread", "for the test", {"spread": health.spread})

    monkeypatch.setattr(CollapseGuard, "after_bank", always)
    config = settings({"guard": GuardConfig(action="lower-hardness", max_actions=2)})
    with pytest.raises(TrainingError, match="after 2 corrections: for the test"):
        go(glyphs, config, tmp_path / "run")
    events = read_events(tmp_path / "run" / "events.jsonl")
    assert [event["action"] for event in events] == ["lower-hardness", "lower-hardness", "stop"]
    off = settings({"guard": GuardConfig(enabled=False)})
    assert go(glyphs, off, tmp_path / "off")[1] is not None
