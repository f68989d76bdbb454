"""The closed loop on plants that are known: it finds the hardness that keeps the target active, whatever the margin."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mohs.settings.config import HardnessConfig, LossConfig, RunConfig
from mohs.training.closed_loop import HardnessController, SegmentBank, measure_gaps

Floats = NDArray[np.float64]


def plant(shift: float, width: float) -> Callable[[Floats], Floats]:
    """Gaps that rise by `width` from hardness 0 to 1, spread evenly over 1."""
    return lambda hardness_G: shift + width * hardness_G[:, None] + np.linspace(-0.5, 0.5, 401)[None, :]


def active(gaps: Callable[[Floats], Floats], hardness: float, margin: float) -> float:
    return float((gaps(np.array([hardness])) > -margin).mean())


@pytest.mark.parametrize("margin", [-0.4, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("gain", [0.3, 1.0])
@pytest.mark.parametrize("target", [0.2, 0.5])
def test_it_reaches_the_target_whatever_the_real_margin(margin: float, gain: float, target: float) -> None:
    config = HardnessConfig(curve="closed-loop", scale="margin", cap=1.0, gain=gain, target_active=target)
    loop = HardnessController(config, margin=0.2)
    gaps = plant(-1.0 - margin, 2.0)  # somewhere within [0, 1] half is active
    seen = []
    for _ in range(25):
        control = loop.next_hardness(gaps, spread=1.0, num_negatives=100)
        seen.append(active(gaps, control.hardness, margin))
        loop.observe(seen[-1], control)
    # A margin may be so large that the target would need negatives of which hardly any violate: then more are active.
    least = min(1.0, target / 2 + margin)
    assert seen[-1] == pytest.approx(max(target, least), abs=0.03)


def test_it_follows_a_jump_of_the_margin_and_of_the_network() -> None:
    loop = HardnessController(HardnessConfig(curve="closed-loop", scale="margin", cap=1.0), margin=0.2)
    for margin, shift in ((0.2, -1.2), (-0.3, -1.2), (-0.3, -1.0), (0.1, -0.9)):
        gaps = plant(shift, 2.0)
        for _ in range(6):
            control = loop.next_hardness(gaps, spread=1.0, num_negatives=100)
            loop.observe(active(gaps, control.hardness, margin), control)
        assert active(gaps, control.hardness, margin) == pytest.approx(0.5, abs=0.05)


def test_more_active_triplets_mean_easier_ones_next() -> None:
    def after(observed: float) -> float:
        loop = HardnessController(HardnessConfig(curve="closed-loop", scale="margin", cap=1.0), margin=0.2)
        gaps = plant(-1.0, 2.0)
        loop.observe(observed, loop.next_hardness(gaps, spread=1.0, num_negatives=100))
        return loop.next_hardness(gaps, spread=1.0, num_negatives=100).hardness

    assert after(0.05) > after(0.3) > after(0.9)


def test_it_gives_way_as_the_spread_falls() -> None:
    loop = HardnessController(HardnessConfig(curve="closed-loop", scale="margin", cap=1.0), margin=0.2)
    gaps = plant(-1.0, 2.0)
    loop.observe(0.1, loop.next_hardness(gaps, spread=0.9, num_negatives=100))
    hardness = [
        loop.next_hardness(gaps, spread=spread, num_negatives=100) for spread in (0.9, 0.75, 0.63, 0.54, 0.44, 0.1)
    ]
    assert [control.back_off for control in hardness] == pytest.approx([1.0, 1.0, 2 / 3, 1 / 3, 0.0, 0.0], abs=0.01)
    assert all(one.hardness >= two.hardness for one, two in itertools.pairwise(hardness))
    assert hardness[-1].hardness == 0.0


@pytest.mark.parametrize(("scale", "least"), [("margin", 0.0), ("rank", 0.5), ("range", 0.5), ("log-rank", 0.1505)])
def test_it_begins_where_a_quarter_is_violated_and_never_asks_for_outliers(scale: str, least: float) -> None:
    config = HardnessConfig.model_validate({"curve": "closed-loop", "scale": scale, "cap": 0.9})
    loop = HardnessController(config, margin=0.2)
    gaps = plant(-1.25, 2.0)
    control = loop.next_hardness(gaps, spread=1.0, num_negatives=100)
    first = control.hardness
    assert first == pytest.approx(max(least, 0.5), abs=2e-3)  # half of the target of 1/2
    assert active(gaps, first, 0.0) == pytest.approx(0.25, abs=0.01)
    loop.observe(1.0, control)
    control = loop.next_hardness(plant(5.0, 2.0), spread=1.0, num_negatives=100)
    assert control.hardness == pytest.approx(least, abs=1e-4)
    for _ in range(3):
        loop.observe(0.0, control)
        control = loop.next_hardness(plant(-9.0, 2.0), spread=1.0, num_negatives=100)
        assert control.hardness <= 0.9


def test_activity_is_explained_by_its_own_segment_though_the_next_is_planned_already() -> None:
    """As with `training.overlap`: hardness is decided one segment before the last one's activity is known."""
    loop = HardnessController(HardnessConfig(curve="closed-loop", scale="margin", cap=1.0), margin=0.2)
    gaps, margin = plant(-1.0, 2.0), 0.05
    control = loop.next_hardness(gaps, spread=1.0, num_negatives=100)
    reached = []
    for _ in range(8):
        ahead = loop.next_hardness(gaps, spread=1.0, num_negatives=100)
        loop.observe(active(gaps, control.hardness, margin), control)
        reached.append(active(gaps, control.hardness, margin))
        control = ahead
    assert reached[2:] == pytest.approx([0.5] * 6, abs=0.02)


def test_what_was_not_observed_decides_nothing() -> None:
    config = HardnessConfig(curve="closed-loop", scale="margin", cap=1.0)
    loop, other = HardnessController(config, margin=0.2), HardnessController(config, margin=0.2)
    gaps = plant(-1.0, 2.0)
    for _ in range(2):  # the guard went back to where the first segment began
        first = loop.next_hardness(gaps, spread=0.8, num_negatives=50)
        # What is violated decides; the loss's own margin would ask for 0.4.
        assert first.hardness == pytest.approx(0.375, abs=2e-3)
        other.restore(loop.state())
        assert other.next_hardness(gaps, spread=0.8, num_negatives=50).hardness == first.hardness
    loop.observe(0.01, first)  # hardly any of the gaps from -0.75 to 0.25 was active: q is about -0.25
    other.restore(loop.state())
    assert other.next_hardness(gaps, spread=0.8, num_negatives=50).hardness == pytest.approx(0.62, abs=0.02)


def test_a_restored_loop_decides_like_the_one_that_went_on() -> None:
    config = HardnessConfig(curve="closed-loop", cap=1.0)
    loop, other = HardnessController(config, margin=0.2), HardnessController(config, margin=0.2)
    gaps = plant(-1.0, 2.0)
    for observed in (0.3, 0.6):
        loop.observe(observed, loop.next_hardness(gaps, spread=0.8, num_negatives=50))
    other.restore(loop.state())
    ahead = [c.next_hardness(gaps, spread=0.7, num_negatives=50) for c in (loop, other)]
    assert ahead[0] == ahead[1]
    assert loop.state() == other.state()


@pytest.mark.parametrize("squared", [True, False])
def test_gaps_do_not_change_when_the_embedding_grows_and_rise_with_hardness(squared: bool) -> None:
    rng = np.random.default_rng(0)
    bank_ND = rng.standard_normal((60, 4)).astype(np.float32)
    class_N = np.repeat(np.arange(30), 2)
    anchors, positives = np.arange(0, 60, 2), np.arange(1, 60, 2)

    def gaps(factor: float) -> Floats:
        bank = SegmentBank(bank_ND * np.float32(factor), class_N, anchors, positives)
        loss = LossConfig(name="triplet", squared=squared)
        config = RunConfig(hardness=HardnessConfig(curve="closed-loop"), loss=loss)
        measure = measure_gaps(bank, config, spread=factor, step=0)
        return measure(np.array([0.0, 0.5, 1.0]))

    small, large = gaps(1.0), gaps(8.0)
    np.testing.assert_allclose(small, large, rtol=1e-5)
    assert small.shape == (3, 30)
    assert (np.diff(small, axis=0) >= 0).all()  # a harder negative is nearer, so the gap is larger
