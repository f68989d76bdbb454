"""The held-out curve: what it says of a run's length, and how seldom it says so where nothing is to be said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mohs.artefacts import EventLog
from mohs.doctor.run.evidence import RunEvidence
from mohs.doctor.run.held_out import find_fall, find_rise
from mohs.settings.config import RunConfig

NUM_QUERIES = 200


def curve(recalls: list[float], *, seed: int = 0, num: int = NUM_QUERIES, steady: float = 0.8) -> list[dict[str, Any]]:
    """Return events of a curve: each query has a difficulty of its own, and some luck at each point."""
    random = np.random.default_rng(seed)
    own = random.random(num)
    events = []
    for point, recall in enumerate(recalls):
        luck = random.random(num)
        hits = np.where(random.random(num) < steady, own, luck) < recall
        digits = "".join("1" if hit else "0" for hit in hits)
        events.append({"event": "held-out", "triplets": 1000 * point, "hits": digits, "recall": float(hits.mean())})
    return events


RISING = [0.05, 0.1, 0.17, 0.25, 0.3, 0.36, 0.42, 0.47, 0.52, 0.56, 0.58]
FLAT = [0.05, 0.3, 0.45, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
FALLING = [0.3, 0.45, 0.6, 0.6, 0.57, 0.54, 0.5, 0.47, 0.44, 0.42, 0.4]


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_that_rises_to_the_end_asks_for_a_longer_run(seed: int) -> None:
    events = curve(RISING, seed=seed)
    found = find_rise(events)
    assert found is not None
    assert (found.cause, found.severity) == ("train-longer", "note")
    assert found.settings == {"training.num_triplets": 30_000}
    assert found.numbers["last_recall"] == pytest.approx(np.mean([event["recall"] for event in events[7:]]))
    assert found.numbers["middle_recall"] == pytest.approx(np.mean([event["recall"] for event in events[4:7]]))
    assert find_fall(events) is None
    assert find_rise(events[::-1][:1] + events[1:][::-1]) is None  # the same, falling


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_that_falls_is_overfitting(seed: int) -> None:
    events = curve(FALLING, seed=seed)
    found = find_fall(events)
    assert found is not None
    assert (found.cause, found.severity) == ("overfitting", "warning")
    peak = max(range(len(events) - 1), key=lambda i: (events[i]["recall"], -i))
    assert found.settings == {"training.num_triplets": 1000 * peak}
    assert found.numbers["fall"] == pytest.approx(events[peak]["recall"] - events[-1]["recall"])
    assert "augment" not in found.settings
    assert find_rise(events) is None


@pytest.mark.parametrize("num", [12, 100])
@pytest.mark.parametrize("recall", [0.1, 0.5, 0.95])
def test_a_flat_curve_says_nothing_nineteen_times_in_twenty(num: int, recall: float) -> None:
    curves = [curve([recall * 0.3, *[recall] * 10], seed=seed, num=num) for seed in range(100)]
    assert np.mean([find_fall(events) is not None for events in curves]) <= 0.1
    assert np.mean([find_rise(events) is not None for events in curves]) <= 0.1


def test_training_pictures_have_no_say_and_short_curves_neither() -> None:
    for events in ([], curve([0.5]), curve([0.1, 0.6]), curve([1.0] * 11), curve([0.0] * 11)):
        assert find_fall(events) is None
        assert find_rise(events) is None
    assert find_rise(curve(FLAT)) is None
    assert find_fall(curve(FLAT)) is None


@pytest.mark.parametrize(("best", "why"), [(300, "early stopping has chosen the weights"), (400, ""), (None, "")])
def test_a_run_with_the_weights_of_its_best_moment_is_not_judged_by_its_end(
    tmp_path: Path, best: int | None, why: str
) -> None:
    (tmp_path / "config.json").write_text(RunConfig().model_dump_json())
    with EventLog(tmp_path / "events.jsonl") as log:
        if best is not None:
            log.write(
                "early-stopping",
                {"triplets": 400, "num_triplets": 900, "best_triplets": best, "best_recall": 0.5, "stopped": True},
            )
    assert RunEvidence.open(tmp_path).chosen_weights == why
