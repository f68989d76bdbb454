"""Causes that only a run shows: healthy runs, and the same with one thing wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mohs
from mohs.artefacts import EventLog
from mohs.doctor.run.causes import collapse_began, find_fall, find_rise
from mohs.doctor.run.checks import diagnose_run
from mohs.doctor.run.evidence import RunEvidence
from mohs.errors import InputError
from mohs.evaluation.embedded import Embedded
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.settings.config import RunConfig
from mohs.sums import read_summed, write_summed


@pytest.fixture
def own(runs, tmp_path):
    """Copy a healthy run, to be spoiled: without the sums of its files, as older versions left it."""

    def copy(name: str) -> Path:
        folder = Path(shutil.copytree(runs[name], tmp_path / name))
        write_summed(folder / "run.json", read_summed(folder / "run.json") | {"files": {}})
        return folder

    return copy


def causes(folder):
    return {finding.cause: finding for finding in mohs.diagnose(folder).findings}


def spoil_steps(folder, change):
    """Change the events of steps: `change` is given the event and its place among them."""
    file = folder / "events.jsonl"
    events = [json.loads(line) for line in file.read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    for place, event in enumerate(steps):
        change(event, place)
    file.write_text("".join(json.dumps(event) + "\n" for event in events))


def keep_events(folder, num, *more):
    file = folder / "events.jsonl"
    lines = file.read_text().splitlines()[:num] + [json.dumps(event) for event in more]
    file.write_text("".join(f"{line}\n" for line in lines))


def spoil_plans(folder, **columns):
    for file in (folder / "plans").glob("*.parquet"):
        plan = TripletPlan.load(file)
        replace(plan, **{name: np.full(len(plan), value) for name, value in columns.items()}).save(file)


def test_a_file_that_changed_since_the_run_is_named(runs, tmp_path):
    folder = Path(shutil.copytree(runs["infonce"], tmp_path / "run"))
    keep_events(folder, 3)
    with pytest.raises(InputError, match=r"events.jsonl: damaged, or changed .*: SHA-256 is not the one in run.json"):
        mohs.diagnose(folder)
    (folder / "events.jsonl").unlink()  # what is missing is not looked at, and said
    assert mohs.diagnose(folder).not_checked


@pytest.mark.parametrize(("num_triplets", "first"), [(9, "train-longer"), (10_000, "worse-than-untrained")])
def test_a_run_of_less_than_a_pass_that_did_harm_was_too_short(own, num_triplets, first):
    folder = own("infonce")
    spoil_steps(folder, lambda event, _: event.update(triplets=num_triplets))
    run = RunEvidence.open(folder)
    noise = np.random.default_rng(0).normal(size=run.test.x_ND.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    run.__dict__["test_at_start"] = run.test  # both are properties that are read once
    run.__dict__["test"] = Embedded.of(noise, run.test.labels, source="noise")
    errors = [each.cause for each in diagnose_run(run).findings if each.severity == "error"]
    assert "worse-than-untrained" in errors
    assert (errors[0] == "train-longer") == (first == "train-longer")


@pytest.mark.parametrize("name", ["infonce", "triplet", "contrastive"])
def test_a_healthy_run_has_no_error(runs, name):
    found = mohs.diagnose(runs[name])
    assert [f"{each.cause}: {each.what}" for each in found.findings if each.severity == "error"] == []
    assert "unfinished" not in {each.cause for each in found.findings}
    wanted = {"not-finite", "collapsed", "stalled", "nothing-active", "hardest-negatives", "learning-rate-too-high"}
    wanted |= {"dead-positives", "train-test-leak", "one-class-dominates", "swapped", "false-negatives", "forgetting"}
    assert wanted <= set(found.checked)
    seen = "the test is on classes that were trained on"
    expected = {"batch-norm-statistics": "no batch norm", "worse-than-untrained": seen}
    assert found.not_checked == (expected if name == "contrastive" else {})


def test_the_same_run_gives_the_same_diagnosis(runs):
    assert mohs.diagnose(runs["triplet"]) == mohs.diagnose(mohs.Run.open(runs["triplet"]))


# unfinished


def test_a_run_that_was_killed(own):
    folder = own("infonce")
    (folder / "run.json").unlink()
    shutil.rmtree(folder / "embedder")
    keep_events(folder, 12)
    steps = RunEvidence.open(folder).steps
    found = mohs.diagnose(folder)
    [finding] = [each for each in found.findings if each.cause == "unfinished"]
    last = steps[-1]["step"]
    assert finding.severity == "warning"
    assert finding.what == f"The run has not finished: its log ends at step {last} of 50"
    assert finding.fix.startswith(f"Go on with 'mohs train --resume {folder}'; ")
    assert finding.numbers == {"step": last, "num_steps": 50.0}
    assert found.not_checked["swapped"] == found.not_checked["forgetting"] == "the run left no embedder"


@pytest.mark.parametrize("num_events", [None, 0])
def test_a_run_that_died_before_its_first_step(own, num_events):
    folder = own("infonce")
    (folder / "run.json").unlink()
    shutil.rmtree(folder / "embedder")
    shutil.rmtree(folder / "plans")
    if num_events is None:
        (folder / "events.jsonl").unlink()
    else:
        keep_events(folder, num_events)
    found = mohs.diagnose(folder)
    assert [each.what for each in found.findings] == ["The run has not finished: its log ends before its first step"]
    assert found.not_checked["stalled"] == "fewer than 2 steps"
    assert found.not_checked["dead-positives"] == "no plans"


def test_a_run_that_its_guard_stopped(own):
    folder = own("infonce")
    (folder / "run.json").unlink()
    guard = {"event": "guard", "action": "stop", "cause": "the spread fell"}
    keep_events(folder, 12, {**guard, "action": "none", "cause": "a warning"}, guard)
    found = causes(folder)["unfinished"]
    assert found.what.startswith("The guard stopped the run at step ")
    assert found.what.endswith(": the spread fell")
    keep_events(folder, 12, guard, {**guard, "action": "none", "cause": "a warning"})
    assert causes(folder)["unfinished"].what.startswith("The run has not finished")


# collapse, and why


def fall(at, last, num=50):
    """A spread of 0.9 that is `last` from step `at` on (both counted from 0)."""
    return np.where(np.arange(num) < at, 0.9, last)


@pytest.mark.parametrize(
    ("spread", "row"),
    [
        (fall(30, 0.05), 25),  # the mean over the 10 steps from the 26th on still is half of the largest
        (fall(30, 0.2), None),
        (fall(0, 0.015), 40),
        (fall(0, 0.05), None),  # it began near a point
        (fall(42, 0.0), None),  # too late for a mean over 10 steps to tell
        (np.r_[fall(10, 0.05, 25), np.full(25, 0.9)], None),  # it recovered
    ],
)
def test_when_a_collapse_began(own, spread, row):
    folder = own("triplet")
    spoil_steps(folder, lambda event, place: event.update(spread=float(spread[place])))
    assert collapse_began(RunEvidence.open(folder)) == row


def test_few_steps_do_not_tell_a_collapse(own):
    folder = own("triplet")
    spoil_steps(folder, lambda event, place: event.update(spread=float(fall(2, 0.0)[place])))
    keep_events(folder, 10)
    assert collapse_began(RunEvidence.open(folder)) is None


def test_a_collapse_under_negatives_that_are_too_hard(own):
    folder = own("triplet")
    spoil_steps(folder, lambda event, place: event.update(spread=float(fall(4, 0.05)[place])))
    spoil_plans(folder, anchor_positive_distance=0.5, anchor_negative_distance=0.4, achieved_hardness=0.9)
    found = causes(folder)
    assert found["hardest-negatives"].severity == found["collapsed"].severity == "error"
    assert found["hardest-negatives"].numbers["wrong_share"] == 1.0
    assert found["hardest-negatives"].what.startswith("When the run collapsed (step 3 of 50), 100% of the triplets")
    assert "learning-rate-too-high" not in found


@pytest.mark.parametrize(("at", "is_cause"), [(4, True), (30, False)])
def test_an_early_collapse_without_hard_negatives_is_the_rates(own, at, is_cause):
    folder = own("triplet")
    spoil_steps(folder, lambda event, place: event.update(spread=float(fall(at, 0.05)[place])))
    spoil_plans(folder, anchor_positive_distance=0.4, anchor_negative_distance=0.5)
    found = causes(folder)
    assert "hardest-negatives" not in found
    assert ("learning-rate-too-high" in found) == is_cause
    if is_cause:
        finding = found["learning-rate-too-high"]
        assert finding.severity == "error"
        assert finding.numbers["last_spread"] == pytest.approx(0.05)
        assert finding.numbers["learning_rate"] == 0.004
        assert finding.settings == {"training.learning_rate": 0.0004}


def test_negatives_are_not_to_blame_for_an_in_batch_loss(own):
    folder = own("infonce")
    spoil_steps(folder, lambda event, place: event.update(spread=float(fall(4, 0.05)[place])))
    spoil_plans(folder, anchor_positive_distance=0.5, anchor_negative_distance=0.4)
    assert {"collapsed", "learning-rate-too-high"} <= set(causes(folder))
    assert "hardest-negatives" not in causes(folder)


def spoil_embedder(folder, change):
    embedder = Embedder.from_pretrained(folder / "embedder")
    change(embedder)
    shutil.rmtree(folder / "embedder")
    embedder.save_pretrained(folder / "embedder")


def test_an_embedder_at_one_point(own):
    folder = own("infonce")

    def to_a_point(embedder):
        last = [module for module in embedder.modules() if hasattr(module, "weight")][-1]
        last.weight.data.zero_()
        last.bias.data.fill_(1.0)

    spoil_embedder(folder, to_a_point)
    found = mohs.diagnose(folder)
    # Sixteen test classes do not prove that 0 is worse than the untrained 0.19; one point proves the collapse.
    assert (found.first.cause, found.first.severity) == ("collapsed", "error")
    assert found.not_checked["swapped"] == found.not_checked["forgetting"] == "the embeddings have collapsed"


def test_batch_norm_that_does_not_fit(own):
    folder = own("infonce")

    def out_of_tune(embedder):
        random = np.random.default_rng(0)
        for name, buffer in embedder.named_buffers():
            if name.endswith("running_mean"):
                buffer += 4 * buffer.new_tensor(random.normal(size=len(buffer)))

    spoil_embedder(folder, out_of_tune)
    finding = causes(folder)["batch-norm-statistics"]
    assert finding.severity == "error"
    assert finding.numbers["low"] >= 0.1
    # Looking changes nothing.
    run = RunEvidence.open(folder)
    before = run.train.x_ND
    assert run.train_by_batch.labels.tolist() == run.train.labels.tolist()
    again = run.embedder.embed(run.data.dataset.pictures[run.train_items])
    assert np.array_equal(again, before.astype(np.float32))


# pretrained weights


def segments(folder, *recalls, num_queries=1000):
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    one = next(event for event in events if event["event"] == "segment")
    keep_events(folder, 0, *({**one, "recall": recall, "num_queries": num_queries} for recall in recalls))


def with_weights(folder, backbone_rate=1.0):
    config = json.loads((folder / "config.json").read_text())
    config["model"]["weights"] = "weights.safetensors"
    config["finetune"]["backbone_rate"] = backbone_rate
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("recalls", "num_queries", "severity"),
    [
        ((0.6, 0.2, 0.3), 1000, "error"),
        ((0.6, 0.2, 0.7), 1000, "warning"),
        ((0.6, 0.45, 0.7), 1000, None),  # 0.8 of 0.6, less 3 standard errors
        ((0.6, 0.42, 0.7), 1000, "warning"),
        ((0.6, 0.42, 0.7), 50, None),
        ((0.6, None, 0.55), 1000, None),
        ((0.6,), 1000, None),
        ((0.4, 0.7, 0.1), 1000, None),  # lost later: not at once
    ],
)
def test_what_a_backbone_knew_and_lost_at_once(own, recalls, num_queries, severity):
    folder = own("infonce")
    segments(folder, *recalls, num_queries=num_queries)
    assert "learning-rate-too-high" not in causes(folder)  # there are no pretrained weights
    with_weights(folder)
    found = causes(folder).get("learning-rate-too-high")
    assert (None if found is None else found.severity) == severity
    if found is not None:
        numbers = {"start": recalls[0], "second": recalls[1], "last": recalls[-1], "num_queries": num_queries}
        assert found.numbers == pytest.approx({**numbers, "learning_rate": 0.004})
        assert found.settings == {"training.learning_rate": 0.001, "finetune.backbone_rate": 0.1}
        assert found.share == pytest.approx(1 - recalls[1] / recalls[0])


def test_a_backbone_that_learns_slowly_has_another_rate_to_lower(own):
    folder = own("infonce")
    segments(folder, 0.6, 0.2, 0.3)
    with_weights(folder, backbone_rate=0.2)
    assert causes(folder)["learning-rate-too-high"].settings == {"training.learning_rate": 0.0004}


# the folder


def test_pictures_that_are_gone_or_others(own, patterns, tmp_path):
    folder = own("infonce")
    moved = Path(shutil.copytree(patterns, tmp_path / "moved"))
    config = json.loads((folder / "config.json").read_text())
    config["data"]["source"] = str(moved)
    (folder / "config.json").write_text(json.dumps(config))
    assert mohs.diagnose(folder).not_checked == {}
    (moved / "class00" / "0.png").unlink()
    why = mohs.diagnose(folder).not_checked
    assert why["train-test-leak"] == why["swapped"] == f"the pictures are not those of {folder}/items.csv any more"
    (folder / "items.csv").unlink()
    assert mohs.diagnose(folder).not_checked["swapped"] == "the run has no items.csv"
    shutil.rmtree(moved)
    why = mohs.diagnose(folder).not_checked["mixed-classes"]
    assert why.startswith(f"the pictures of the run cannot be read ({moved}: ")


def test_what_is_no_run(tmp_path):
    with pytest.raises(InputError, match=r": not a run folder \(no config.json\); give one made by 'mohs train'$"):
        mohs.diagnose(tmp_path)
    with pytest.raises(InputError, match=r"^run: nothing to look at; give a run, log, embeddings or pairs$"):
        mohs.diagnose()


def test_a_run_and_files_are_looked_at_together(runs):
    point = Embedded.of(np.ones((20, 4)), np.arange(20) % 4, source="x")
    found = mohs.diagnose(runs["infonce"], embeddings=point.x_ND, labels=point.labels)
    assert found.first.cause == "collapsed"
    assert "forgetting" in found.checked
    assert "train-test-leak" not in found.not_checked


@pytest.mark.parametrize("cause", ["at-chance", "failed-pictures", "domain-gap"])
def test_test_pictures_are_judged_as_embeddings_are(runs, cause):
    run = RunEvidence.open(runs["triplet"])
    random = np.random.default_rng(0)
    class_N = np.repeat(np.arange(200), 2)
    x_ND = random.normal(size=(400, 16)) + 3 * (cause != "at-chance") * random.normal(size=(200, 16))[class_N]
    if cause == "failed-pictures":
        x_ND[random.permutation(400)[:240]] = 0.0
    if cause == "domain-gap":
        x_ND[::2] += 20 * random.normal(size=16)
    run.__dict__["test"] = run.__dict__["test_at_start"] = Embedded.of(x_ND, class_N, source="test items")
    found = diagnose_run(run)
    assert cause in found.checked
    others = {"at-chance", "failed-pictures", "domain-gap"} - {cause}
    assert cause in {each.cause for each in found.findings}
    assert not others & {each.cause for each in found.findings}


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
