"""`mohs doctor`: what it prints, to a person and to a machine, and how it ends."""

import io
import json
import shutil
import sys

import numpy as np
import pytest

import mohs
from mohs.cli import main
from mohs.cli.console import print_lines
from mohs.cli.doctor import finding_lines
from mohs.doctor.findings import Diagnosis, Finding, settings_diff

OF_A_LOG_ALONE = """\
not looked for (no column 'positive_distance'; no embeddings with labels): dead-positives, swapped
not looked for (no column 'val_loss'): overfitting
not looked for (no pairs): sigmoid-on-distance, fixed-threshold
not looked for (no embeddings with labels): failed-pictures, domain-gap, one-dimension-dominates, narrow-cone, \
label-order, mixed-labels, at-chance, perhaps-one-class, single-class, one-class-dominates, too-few-positives
not looked for (no embeddings with labels; no embeddings of queries): normalisation-missing
not looked for (no embeddings of training and of test pictures): train-test-leak, mixed-classes
not looked for (no embeddings of queries): self-match, other-network
not looked for (no embeddings of training pictures): only-easy-triplets
"""

BROKEN = f"""\
1 error: the result is not to be trusted; look first at not-finite

error: not-finite
   loss is NaN or Inf from epoch 3 on.
   (first_row 3 · last_finite 0.4)
   Why: The steps were so large that numbers left the range of floating point, or a square root or logarithm was taken \
of 0.
   Fix: Lower the learning rate to a tenth, shorten long gradients, and add 1e-12 under square roots.
   [training]
   +learning_rate = 0.03
   +max_gradient_norm = 1.0

looked for: not-finite, collapsed, stalled, learning-rate-too-high
not looked for (no column 'active_fraction' and no margin): nothing-active
{OF_A_LOG_ALONE}"""

HEALTHY = f"""\
nothing found; 5 causes looked for

looked for: not-finite, collapsed, stalled, learning-rate-too-high, nothing-active
{OF_A_LOG_ALONE}"""

OF_A_RUN = (
    "unfinished, not-finite, collapsed, stalled, nothing-active, margin-too-large, hardest-negatives, "
    "learning-rate-too-high, dead-positives, train-test-leak, near-duplicates, mixed-classes, one-class-dominates, "
    "too-few-positives, failed-pictures, domain-gap, at-chance, swapped, worse-than-untrained, "
    "batch-norm-statistics, false-negatives, forgetting"
)
NO_CURVE = "not looked for (no held-out curve of 10 classes and 3 segments): overfitting, train-longer"

NO_START = """\
1 warning: the result is worse than need be; look first at unfinished

warning: unfinished
   The run has not finished: its log ends before its first step.
   Why: It was stopped, failed (a loss or gradient of NaN or Inf stops a run), or is still going.
   Fix: Go on with 'mohs train --resume {run}'; it stops again with the reason, if there is one.

looked for: unfinished, learning-rate-too-high, train-test-leak, near-duplicates, mixed-classes, \
one-class-dominates, too-few-positives
not looked for (fewer than 2 steps): not-finite, stalled, nothing-active, margin-too-large, hardest-negatives
not looked for (fewer than 2 steps; the run left no embedder): collapsed
not looked for (no held-out curve of 10 classes and 3 segments): overfitting, train-longer
not looked for (no plans): dead-positives
not looked for (the run left no embedder): failed-pictures, domain-gap, at-chance, swapped, worse-than-untrained, \
batch-norm-statistics, false-negatives, forgetting
"""


@pytest.fixture(scope="module")
def finished_run(picture_set, tmp_path_factory):
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    flags = ["--size", "16", "--triplets", "24", "--batch", "8", "--set", "model.widths=[8, 8]", "--quiet"]
    with pytest.raises(SystemExit) as stop:
        main(["train", str(picture_set), "--out", str(folder), *flags])
    assert stop.value.code == 0
    return folder


def write_log(path, header, rows):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def broken_log(tmp_path):
    """A log whose loss became NaN: an error."""
    return write_log(tmp_path / "broken.csv", "epoch,loss,lr", ["1,0.5,0.3", "2,0.4,0.3", "3,nan,0.3", "4,nan,0.3"])


@pytest.fixture
def idle_log(tmp_path):
    """A log whose triplets were all solved after a fifth of the training: a warning."""
    active = [0.5] * 8 + [0.0] * 32
    return write_log(
        tmp_path / "idle.csv", "loss,active", [f"{0.3 / (t + 1)},{value}" for t, value in enumerate(active)]
    )


@pytest.fixture
def healthy_log(tmp_path):
    return write_log(tmp_path / "healthy.csv", "epoch,loss", [f"{t},{0.5 * 0.9**t}" for t in range(20)])


def test_what_a_person_sees(run_cli, broken_log, healthy_log):
    answer = run_cli("doctor", "--log", broken_log)
    assert (answer.code, answer.out, answer.err) == (0, BROKEN, [])
    answer = run_cli("doctor", "--log", healthy_log, "--margin", "0.2")
    assert (answer.code, answer.out, answer.err) == (0, HEALTHY, [])


def test_what_a_machine_sees(run_cli, broken_log, healthy_log):
    answer = run_cli("doctor", "--log", broken_log, "--json")
    assert (answer.code, answer.err) == (0, [])
    record = json.loads(answer.out)
    assert list(record) == ["findings", "checked", "not_checked", "notes"]
    assert record == mohs.diagnose(log=broken_log).as_record()
    [finding] = record["findings"]
    assert (finding["cause"], finding["severity"], finding["share"]) == ("not-finite", "error", 1.0)
    assert finding["settings"] == {"training.learning_rate": 0.03, "training.max_gradient_norm": 1.0}
    assert finding["numbers"] == {"first_row": 3.0, "last_finite": 0.4}
    assert json.loads(run_cli("doctor", "--log", healthy_log, "--json").out)["findings"] == []


@pytest.mark.parametrize(
    ("name", "fail_on", "code"),
    [
        ("broken_log", None, 0),
        ("broken_log", "error", 5),
        ("broken_log", "warning", 5),
        ("idle_log", "error", 0),
        ("idle_log", "warning", 5),
        ("healthy_log", "warning", 0),
    ],
)
def test_findings_fail_on_demand(run_cli, request, name, fail_on, code):
    flags = [] if fail_on is None else ["--fail-on", fail_on]
    for more in ([], ["--json"]):
        answer = run_cli("doctor", "--log", request.getfixturevalue(name), *flags, *more)
        assert (answer.code, answer.err) == (code, [])
        assert len(answer.out) > 100


def test_a_note_never_fails(run_cli, tmp_path):
    rows = [f"{active},0.95" for active in [0.5] * 8 + [0.0] * 32]
    log = write_log(tmp_path / "log.csv", "active,acc", rows)
    answer = run_cli("doctor", "--log", log, "--fail-on", "warning")
    assert (answer.code, answer.out.splitlines()[0]) == (0, "1 note: good to know; look first at nothing-active")


def test_files_of_every_kind(run_cli, tmp_path):
    random = np.random.default_rng(0)
    class_N = np.repeat(np.arange(60), 2)
    x_ND = np.repeat(random.normal(size=(60, 8)), 2, axis=0) + 0.1 * random.normal(size=(120, 8))
    for name, rows in (
        ("train", x_ND + 9),
        ("test", x_ND),
        ("query", 3 * (x_ND + 0.1 * random.normal(size=x_ND.shape))),
    ):
        np.save(tmp_path / f"{name}.npy", rows)
        write_log(tmp_path / f"{name}.csv", "class", [f"{c + 100 * (name == 'train')}" for c in class_N])
    distances = [f"{i % 2},{3 + 0.5 * (1 - i % 2) + 0.01 * i}" for i in range(40)]
    pairs = write_log(tmp_path / "pairs.csv", "same,distance", distances)
    flags = []
    for flag, name in (("--train-", "train"), ("--", "test"), ("--query-", "query")):
        flags += [f"{flag}embeddings", tmp_path / f"{name}.npy", f"{flag}labels", tmp_path / f"{name}.csv"]
    answer = run_cli("doctor", *flags, "--pairs", pairs, "--threshold", "0.5", "--json")
    assert (answer.code, answer.err) == (0, [])
    found = json.loads(answer.out)
    assert [each["cause"] for each in found["findings"]] == ["fixed-threshold", "normalisation-missing"]
    # The length of a query does not change which of the gallery is nearest by much, but a threshold is off.
    assert found["findings"][0]["numbers"]["threshold"] == 0.5
    answer = run_cli("doctor", "--pairs", pairs, "--threshold", "3.45", "--json")
    assert json.loads(answer.out)["findings"] == []


def test_a_column_of_pairs_that_may_be_either_way_round(run_cli, tmp_path):
    pairs = write_log(tmp_path / "pairs.csv", "label,distance", [f"{i % 2},{3 - i % 2 + 0.01 * i}" for i in range(40)])
    answer = run_cli("doctor", "--pairs", pairs, "--threshold", "2.7")
    lines = answer.out.splitlines()
    assert lines[0] == "nothing found; 4 causes looked for"
    assert lines[1].startswith(f"{pairs}: column 'label': read as 1 = same, since pairs of 1 are the closer ones in ")
    write_log(pairs, "label,distance", [f"{i % 2},{3 + i % 2 + 0.01 * i}" for i in range(40)])
    answer = run_cli("doctor", "--pairs", pairs, "--threshold", "3.7")
    [line] = answer.err
    assert line.endswith("say which with --one-means, or name the column 'same' or 'different'")
    answer = run_cli("doctor", "--pairs", pairs, "--threshold", "3.7", "--one-means", "different")
    assert (answer.code, answer.err) == (0, [])
    assert answer.out.startswith("nothing found; 5 causes looked for\n\nlooked for:")
    answer = run_cli("doctor", "--pairs", pairs, "--one-means", "1")
    assert answer.err == ["mohs: --one-means: '1' is not 'same' or 'different'; say what 1 means"]
    answer = run_cli("doctor", "--log", pairs, "--one-means", "same")
    assert answer.err == ["mohs: --one-means: of a file of pairs; give pairs too"]


def test_classes_as_evaluate_takes_them(run_cli, tmp_path):
    random = np.random.default_rng(0)
    class_N = np.repeat(np.arange(60), 2)
    x, y, text = tmp_path / "x.npy", tmp_path / "y.npy", tmp_path / "y.txt"
    np.save(x, np.repeat(random.normal(size=(60, 8)), 2, axis=0) + 0.1 * random.normal(size=(120, 8)))
    np.save(y, class_N)
    text.write_text("".join(f"{c}\n" for c in class_N))
    table = write_log(tmp_path / "y.csv", "class", [str(c) for c in class_N])
    answers = [run_cli("doctor", "--embeddings", x, "--labels", labels, "--json") for labels in (y, text, table)]
    assert [answer.code for answer in answers] == [0, 0, 0]
    assert answers[0].out == answers[1].out == answers[2].out
    out = tmp_path / "precision"
    told = [
        run_cli("doctor", "--precision", "--embeddings", x, "--labels", labels, "--out", out, "--json")
        for labels in (y, text)
    ]
    assert [answer.code for answer in told] == [0, 0]
    assert told[0].out == told[1].out


# runs


def test_a_finished_run(run_cli, finished_run):
    answer = run_cli("doctor", finished_run)
    assert (answer.code, answer.err) == (0, [])
    assert answer.out.endswith(f"\n\nlooked for: {OF_A_RUN}\n{NO_CURVE}\n")
    assert "error: " not in answer.out
    assert run_cli("doctor", finished_run).out == answer.out
    not_checked = json.loads(run_cli("doctor", finished_run, "--json").out)["not_checked"]
    assert set(not_checked) == {"overfitting", "train-longer"}


def test_a_run_that_did_not_start(run_cli, finished_run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.json", "items.csv"):
        shutil.copy(finished_run / name, folder)
    answer = run_cli("doctor", folder)
    assert (answer.code, answer.out, answer.err) == (0, NO_START.format(run=folder), [])


def test_a_run_that_did_not_finish_and_its_settings(run_cli, finished_run, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    (folder / "run.json").unlink()
    shutil.rmtree(folder / "embedder")
    steps = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    [step, *_] = [event for event in steps if event["event"] == "step"]
    # A killed run leaves a torn line.
    lines = [
        json.dumps({**step, "step": i + 1, "num_steps": 99, "active_fraction": 0.0, "loss": 0.0}) for i in range(20)
    ]
    (folder / "events.jsonl").write_text("\n".join(lines) + '\n{"event": "st')
    out = run_cli("doctor", folder).out
    assert "   The run has not finished: its log ends at step 20 of 99.\n   (step 20 · num_steps 99)\n" in out
    assert '   [hardness]\n   -curve = "auto"\n   +curve = "closed-loop"\n' in out
    assert "\nnot looked for (the run left no embedder): failed-pictures, domain-gap, at-chance, swapped, " in out


# what is wrong with what was given


NO_LOSS = "none is a loss or an accuracy; name one 'loss', 'val_loss', 'accuracy' or 'val_accuracy'"


def test_input_that_cannot_be_taken(run_cli, finished_run, broken_log, tmp_path):
    run = finished_run
    (tmp_path / "text.npy").write_text("1,2\n")
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    (tmp_path / "y.csv").write_text("class\na\nb\nc\n")
    (tmp_path / "y.txt").write_text("a\nb\n")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{")
    x, y = tmp_path / "x.npy", tmp_path / "y.csv"
    cases = [
        ([], ["RUN: nothing to look at; give a run, log, embeddings or pairs"]),
        ([tmp_path], [f"{tmp_path}: not a run folder (no config.json); give one made by 'mohs train'"]),
        (["none"], ["none: not a run folder (no config.json); give one made by 'mohs train'"]),
        ([run, "--fail-on", "note"], ["--fail-on: 'note' is not one of 'error', 'warning'"]),
        ([run, "--loss-name", "triplet"], ["--loss-name, --batch: of a log; give log too"]),
        ([run, "--margin", "nan"], ["--margin: nan is not a number above 0; use for example 0.2"]),
        (
            ["--log", broken_log, "--margin", "0", "--batch", "1"],
            [
                "--margin: 0.0 is not a number above 0; use for example 0.2",
                "--batch: 1 is not a whole number of at least 2; use for example 96",
            ],
        ),
        (["--log", tmp_path / "none.csv"], [f"{tmp_path}/none.csv: no such file; check the path"]),
        (["--log", run], [f"{run}: a folder; give a CSV file (a run folder needs no --log)"]),
        (["--log", y], [f"{y}: columns 'class': {NO_LOSS}"]),
        (["--pairs", run], [f"{run}: a folder; give a CSV file"]),
        ([run, "--threshold", "nan"], ["--threshold: nan is not a number; use for example 0.8"]),
        (["--embeddings", x], ["--embeddings: without --labels; give both"]),
        (["--labels", y], ["--labels: without --embeddings; give both"]),
        (
            ["--train-embeddings", x, "--train-labels", tmp_path / "y.txt"],
            [
                f"--train-labels: {tmp_path}/y.txt has 2 classes for the 3 rows of {x}; give one for each row, in the "
                "same order"
            ],
        ),
        (["--train-embeddings", x], ["--train-embeddings: without --train-labels; give both"]),
        (["--train-labels", y], ["--train-labels: without --train-embeddings; give both"]),
        (
            ["--query-embeddings", x, "--query-labels", y],
            ["--query-embeddings: nothing to search in; give embeddings, the gallery"],
        ),
        (
            ["--embeddings", tmp_path / "text.npy", "--labels", y],
            [f"{tmp_path}/text.npy: not a .npy file; write the numbers with numpy.save"],
        ),
        ([run, "--data", "x"], ["--data: need --precision"]),
        (
            [run, "--precision", "--pairs", "x", "--margin", "1"],
            ["--margin, --pairs: not used with --precision; leave out"],
        ),
    ]
    for arguments, lines in cases:
        answer = run_cli("doctor", *arguments)
        assert (answer.code, answer.out, answer.err) == (2, "", [f"mohs: {line}" for line in lines]), arguments
    for arguments in (["--batch", "x"], ["--log"], [run, run], [tmp_path / "bad"]):
        answer = run_cli("doctor", *arguments)
        assert (answer.code, answer.out, len(answer.err)) == (2, "", 1), answer


# the parts


def test_the_verdict_counts_and_names_the_worst():
    def found(*severities):
        return Diagnosis(tuple(Finding(f"cause-{s}", s, "", "", "") for s in severities), ("collapsed",), {})

    assert found("error", "error", "warning", "note").verdict == (
        "2 errors, 1 warning, 1 note: the result is not to be trusted; look first at cause-error"
    )
    assert found("warning", "note", "note").verdict == (
        "1 warning, 2 notes: the result is worse than need be; look first at cause-warning"
    )
    assert found("note").verdict == "1 note: good to know; look first at cause-note"


def test_settings_are_shown_as_changes():
    settings = {"loss.name": "infonce", "loss.margin": 0.5, "model.batch_norm": True, "training.augment": 1.0}
    current = {"loss.name": "triplet", "loss.margin": None, "model.batch_norm": True}
    assert settings_diff(settings, current) == [
        "[loss]",
        '-name = "triplet"',
        '+name = "infonce"',
        "+margin = 0.5",
        "[training]",
        "+augment = 1.0",
    ]
    assert settings_diff({"model.batch_norm": True}, current) == []


def test_a_finding_without_numbers_or_settings():
    assert finding_lines(Finding("hubs", "note", "What", "Why.", "Fix."), {}) == [
        "note: hubs",
        "   What.",
        "   Why: Why.",
        "   Fix: Fix.",
    ]


def test_signs_that_a_terminal_cannot_show(monkeypatch):
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        print_lines(["a · b", "σ(−d)"])
    terminal.flush()
    assert raw.getvalue().decode().splitlines() == ["a ? b", "?(?d)"]
