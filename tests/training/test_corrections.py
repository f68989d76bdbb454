"""What the guard's actions do to a run: back to the last healthy state, at a lower rate and hardness, and forgetful."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import TrainingError
from mohs.model.embedder import Embedder
from mohs.settings.config import (
    DataConfig,
    GuardConfig,
    HardnessConfig,
    LossConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)
from mohs.training.events import Event, GuardEvent, SegmentEvent, StepEvent
from mohs.training.guard import BankHealth, CollapseGuard, Verdict
from mohs.training.loop import fit
from mohs.training.plan_segment import Planner

COLLAPSE = Verdict("collapse", "bank spread", "for the test", {"spread": 0.0})
WARNING = Verdict("warning", "bank spread", "for the test", {"spread": 0.3})


def settings(*, action: Any = "roll-back", curve: Any = "closed-loop", warmup: float = 0.0) -> RunConfig:
    return RunConfig(
        data=DataConfig(size=16, channels=1),
        model=ModelConfig(widths=(8, 16), hidden_dim=32, embedding_dim=16),
        hardness=HardnessConfig(curve=curve, cap=1.0),
        loss=LossConfig(name="triplet"),
        training=TrainingConfig(
            num_triplets=120, batch_triplets=10, num_segments=4, warmup=warmup, learning_rate=2e-3, device="cpu"
        ),
        guard=GuardConfig(action=action),
    )


class Watched:
    """A run whose guard gives these verdicts on banks, in turn, and its weights as each bank was judged.

    `at_step` is a step with a verdict of its own.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        dataset: Dataset,
        config: RunConfig,
        *verdicts: Verdict | None,
        at_step: int = 0,
    ) -> None:
        self.embedder = Embedder.create(config.model, ImagePolicy(16, 1), seed=0)
        self.banks: list[dict[str, torch.Tensor]] = []
        self.events: list[Event] = []
        coming: Iterator[Verdict | None] = itertools.chain(verdicts, itertools.repeat(None))

        def after_bank(guard: CollapseGuard, bank: BankHealth) -> Verdict | None:
            self.banks.append({name: value.clone() for name, value in self.embedder.state_dict().items()})
            verdict = next(coming)
            guard.bank_is_healthy = verdict is None
            return verdict

        monkeypatch.setattr(CollapseGuard, "after_bank", after_bank)
        steps = itertools.count(1)
        monkeypatch.setattr(CollapseGuard, "after_step", lambda *_: COLLAPSE if next(steps) == at_step else None)
        fit(self.embedder, dataset, config, listeners=(self.events.append,))

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, two[name]) for name, value in one.items())


def test_it_goes_back_past_warned_states_to_the_last_healthy_one(
    glyphs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Watched(monkeypatch, glyphs, settings(), None, None, WARNING, COLLAPSE)
    before, warned, collapsed, again = run.banks[1:5]
    assert same(again, before)
    assert not same(again, warned)
    assert not same(again, collapsed)
    assert [event.action for event in run.of(GuardEvent)] == ["none", "roll-back"]
    assert run.of(StepEvent)[-1].triplets == 120  # what was trained on before is not shown again


def test_what_a_network_showed_that_is_no_longer_trusted_is_forgotten(
    glyphs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment of an in-batch loss is planned from what steps showed; after going back, all of it is embedded."""
    num_known: list[int] = []
    own = Planner.plan

    def plan(self: Planner, segment: Any, embedder: Any, controller: Any = None, seen: Any = None) -> Any:
        num_known.append(int(seen.known_M.sum()))
        return own(self, segment, embedder, controller, seen)

    monkeypatch.setattr(Planner, "plan", plan)
    config = settings(curve="auto").model_copy(update={"loss": LossConfig()})
    Watched(monkeypatch, glyphs, config, None, None, COLLAPSE)
    assert num_known[0] == 0 < num_known[2]
    assert num_known[3] == 0


def test_with_plans_made_ahead_it_goes_back_to_what_the_healthy_bank_was_of(
    glyphs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings()
    config = config.model_copy(update={"training": config.training.model_copy(update={"overlap": True})})
    # Banks 0 and 1 are of the network at the start, bank 2 of the network as it was when bank 1 was judged.
    run = Watched(monkeypatch, glyphs, config, None, None, COLLAPSE)
    start, collapsed, _, again = run.banks[:4]
    assert same(again, start)
    assert not same(again, collapsed)
    assert run.of(StepEvent)[-1].triplets == 120


def test_the_rate_is_cut_and_rises_anew(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(warmup=0.25)  # 3 of 12 steps
    plain = [event.learning_rate for event in Watched(monkeypatch, glyphs, config).of(StepEvent)]
    cut = [event.learning_rate for event in Watched(monkeypatch, glyphs, config, None, None, COLLAPSE).of(StepEvent)]
    assert cut[:6] == plain[:6]
    rise = (1 / 3, 2 / 3, 1, 1, 1, 1)
    assert cut[6:] == pytest.approx([0.3 * share * rate for share, rate in zip(rise, plain[6:], strict=True)])


def test_the_closed_loop_forgets_what_it_saw_since_and_earns_its_hardness_back(
    glyphs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardness = HardnessConfig(curve="closed-loop", cap=0.2, target_active=0.99)
    config = settings().model_copy(update={"hardness": hardness})
    run = Watched(monkeypatch, glyphs, config, None, None, COLLAPSE)
    control = [event.control for event in run.of(SegmentEvent)]
    # The second segment was planned by the same network: once before the collapse, and once after it.
    assert control[2]["relative_margin"] == control[1]["relative_margin"]
    assert control[2]["back_off"] == control[1]["back_off"]
    # So high a target asks for the cap: of what lies between it and the easiest, half is left for a segment.
    least = math.log(2) / math.log(len(glyphs))
    assert [c["hardness"] for c in control] == pytest.approx([0.2, 0.2, (least + 0.2) / 2, 0.2])
    assert least < 0.15


def test_steps_that_were_undone_are_not_observed(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Watched(monkeypatch, glyphs, settings(), at_step=5)
    lengths = [len(event.triplet_index) for event in run.of(SegmentEvent)]
    assert lengths == [30, 20, 10, 30, 30]  # of the second segment two of three steps were taken, then the third
    shown = [i for event in run.of(SegmentEvent) for i in event.triplet_index]
    assert sorted(shown) == list(range(120))
    control = [event.control for event in run.of(SegmentEvent)]
    assert control[2]["relative_margin"] == control[1]["relative_margin"] != control[0]["relative_margin"]


@pytest.mark.parametrize(("action", "kept"), [("roll-back", True), ("warn", False)])
def test_the_last_weights_are_judged_too(
    glyphs: Dataset, monkeypatch: pytest.MonkeyPatch, action: str, kept: bool
) -> None:
    run = Watched(monkeypatch, glyphs, settings(action=action), None, None, None, None, COLLAPSE)
    assert len(run.banks) == 5
    assert same(run.embedder.state_dict(), run.banks[3]) == kept
    assert same(run.embedder.state_dict(), run.banks[4]) != kept


@pytest.mark.parametrize("action", ["stop", "cut-rate", "lower-hardness"])
def test_a_run_that_ends_collapsed_stops_where_no_step_is_left_for_a_correction(
    glyphs: Dataset, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    with pytest.raises(TrainingError, match="collapsed at step 12 of 12: for the test"):
        Watched(monkeypatch, glyphs, settings(action=action), None, None, None, None, COLLAPSE)


def test_a_guard_that_never_acts_changes_nothing(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    weights: Callable[[str], dict[str, torch.Tensor]] = lambda action: (  # noqa: E731
        Watched(monkeypatch, glyphs, settings(action=action)).embedder.state_dict()
    )
    assert same(weights("warn"), weights("roll-back"))
