import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import mohs
from mohs import cli
from mohs.data import check as check_module
from mohs.hardness.scales import SCALES
from mohs.settings.loss_records import LOSSES

FLAG_PROBLEMS = [
    (["foo"], "mohs: No such command 'foo'; see 'mohs --help'"),
    (["--foo"], "mohs: No such option: --foo; see 'mohs --help'"),
    (["mine", "SET", "--foo"], "mohs mine: No such option: --foo (Possible options: --out); see 'mohs mine --help'"),
    (["check", "SET", "--file_column", "x"], None),
    (["mine"], "mohs mine: Missing argument 'source'; see 'mohs mine --help'"),
    (["evaluate"], "mohs: RUN: missing; give a run folder, or --embeddings FILE and --labels FILE"),
    (["check", "SET", "b"], "mohs check: Got unexpected extra argument(s) (b); see 'mohs check --help'"),
    (
        ["mine", "SET", "--scale", "foo"],
        "mohs: --scale: 'foo' is wrong: input should be 'range', 'rank', 'log-rank' or 'margin'",
    ),
    (
        ["mine", "SET", "--curve", "foo"],
        "mohs: --curve: 'foo' is wrong: input should be 'auto', 'constant', 'linear', 'sine', 'tanh', 'logarithmic', "
        "'sigmoid' or 'closed-loop'",
    ),
    (["mine", "SET", "--channels", "2"], "mohs: --channels: 2 is wrong: input should be 1 or 3"),
    (
        ["train", "SET", "--loss", "foo"],
        f"mohs: --loss: 'foo' is wrong: it should be one of {', '.join(loss.name for loss in LOSSES)}, or a class name "
        "(in capitals) of pytorch_metric_learning.losses",
    ),
    (["mine", "SET", "--prefer", "foo"], "mohs: --prefer: 'foo' is wrong: input should be 'class' or 'catalog'"),
    (["mine", "SET", "--triplets", "0"], "mohs: --triplets: 0 is wrong: input should be greater than or equal to 1"),
    (["train", "SET", "--cap", "1.5"], "mohs: --cap: 1.5 is wrong: input should be less than or equal to 1"),
    (["mine", "SET", "--seed", "-1"], "mohs: --seed: -1 is wrong: input should be greater than or equal to 0"),
    (
        ["train", "SET", "--batch", "x"],
        "mohs train: Invalid value 'x' for '--batch': Input should be a valid integer, unable to parse string as an "
        "integer; see 'mohs train --help'",
    ),
    (
        ["train", "SET", "--set", "nonsense"],
        "mohs: --set: 'nonsense' is not section.name=value; write for example --set loss.margin=0.5",
    ),
    (
        ["train", "SET", "--set", "loss.margn=1"],
        "mohs: settings: loss.margn: unknown setting; see 'mohs train --print-config' for the names",
    ),
    (["train"], "mohs: SOURCE: missing; give a CSV, Parquet file or folder, 'glyphs', or --config FILE"),
    (
        ["mine", "SET", "--size", "32", "--embeddings", "x.npy"],
        "mohs: --size, --channels: decided already by --embedder or --embeddings; leave them out",
    ),
    (
        ["evaluate", "SET", "--catalog", "x"],
        "mohs: --catalog, --file-column, --class-column, --group-column, --multi-label, --max-bad: need --data; "
        "a run uses its own data",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), FLAG_PROBLEMS, ids=lambda value: str(value)[:40])
def test_a_wrong_flag_is_one_line(arguments, message, run_cli, picture_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = run_cli(*(str(picture_set) if each == "SET" else each for each in arguments))
    assert (answer.code, answer.out, len(answer.err)) == (2, "", 1)
    if message is not None:  # None: the wording of suggestions is the library's
        assert answer.err == [message]
    assert list(tmp_path.iterdir()) == []


def test_two_wrong_flags_are_two_lines(run_cli, picture_set):
    answer = run_cli("train", picture_set, "--scale", "foo", "--size", "4")
    assert answer.err == [
        "mohs: --size: 4 is wrong: input should be greater than or equal to 8",
        "mohs: --scale: 'foo' is wrong: input should be 'range', 'rank', 'log-rank' or 'margin'",
    ]


def test_a_wrong_value_in_a_file_names_the_file_and_a_flag_the_flag(run_cli, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[hardness]\nscale = 'foo'\n[loss]\nmargin = -1.0\n")
    answer = run_cli("train", "--config", path, "--margin", "0", "--print-config")
    assert answer.err == [
        f"mohs: {path}: hardness.scale: 'foo' is wrong: input should be 'range', 'rank', 'log-rank' or 'margin'",
        "mohs: --margin: 0.0 is wrong: input should be greater than 0",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.toml", None, "no such file; check the path"),
        ("none.json", None, "no such file; check the path"),
        ("folder", "", "a folder; give a TOML file or a run's config.json"),
        ("bad.toml", "seed = = 1", "not TOML (Invalid value (at line 1, column 8)); correct that place"),
        (
            "bad.json",
            "{",
            "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
            "write it again or use another file",
        ),
    ],
)
def test_a_wrong_configuration_file(name, content, message, run_cli, tmp_path):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    answer = run_cli("train", "--config", path)
    assert (answer.code, answer.err) == (2, [f"mohs: {path}: {message}"])


def test_nothing_asked_for_is_help_on_stderr_and_exit_code_2(run_cli):
    answer = run_cli()
    assert (answer.code, answer.out) == (2, "")
    assert "Usage: mohs" in "\n".join(answer.err)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_on_stdout(flag, run_cli):
    answer = run_cli("train", flag)
    assert (answer.code, answer.err) == (0, [])
    assert "--learning-rate" in answer.out


def test_version(run_cli):
    assert run_cli("--version").out == f"mohs {mohs.__version__}\n"


def test_printed_settings_are_read_back(run_cli, tmp_path):
    flags = ["--loss", "triplet", "--cap", "0.5", "--seed", "7", "--set", "model.mean=[0.5, 0.4, 0.3]"]
    printed = run_cli("train", "pictures.csv", *flags, "--print-config")
    assert printed.code == 0
    (tmp_path / "run.toml").write_text(printed.out)
    again = run_cli("train", "--config", tmp_path / "run.toml", "--print-config")
    assert again.out == printed.out
    for line in ('name = "triplet"', "cap = 0.5", "seed = 7", "mean = [0.5, 0.4, 0.3]", 'source = "pictures.csv"'):
        assert line in printed.out.splitlines()
    changed = run_cli("train", "--config", tmp_path / "run.toml", "--cap", "0.25", "--print-config")
    assert changed.out == printed.out.replace("cap = 0.5", "cap = 0.25")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "p.png"), 2, "p.png: Permission denied; check the path"),
        (OSError(errno.EROFS, "Read-only file system", "a", None, "b"), 2, "b: Read-only file system; check the path"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "No space left on device; free some space"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 4, "x: No space left on device; free some space"),
        (OSError(errno.EMFILE, "Too many open files", "x"), 4, "x: Too many open files; close other programs"),
        (MemoryError(), 4, "out of memory; use fewer or smaller pictures"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 4, "out of memory; use fewer"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 4, "out of memory; use fewer"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_of_the_machine_are_one_line(error, code, line, run_cli, picture_set, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(check_module, "check_table", fail)
    answer = run_cli("check", picture_set)
    assert (answer.code, answer.out, len(answer.err)) == (code, "", 1)
    assert answer.err[0].startswith(f"mohs: {line}")


def test_a_mistake_of_ours_is_not_hidden(picture_set, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(check_module, "check_table", fail)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        cli.main(["check", str(picture_set)])
    signal.signal(signal.SIGTERM, handler)


def program() -> list[str]:
    """The installed command, where there is one."""
    installed = Path(sys.executable).with_name("mohs")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "mohs"]


def test_the_program_itself(picture_set, tmp_path):
    done = subprocess.run([*program(), "check", str(picture_set), "--json"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["num_samples"] == 36
    done = subprocess.run([*program(), "check", str(tmp_path / "none.csv")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"mohs: {tmp_path / 'none.csv'}: no such file or folder; give a CSV or Parquet table, "
        "or a folder with one per class\n"
    )


def test_a_reader_that_leaves_is_no_error(picture_set):
    # The pipe's reading end is closed before anything is written, as 'head' does.
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run([*program(), "check", str(picture_set), "--json"], stdout=pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_settings_can_be_seen_without_data(run_cli):
    answer = run_cli("train", "--print-config")
    assert (answer.code, answer.err) == (0, [])
    assert answer.out.startswith("seed = 0\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_mining_leaves_no_plan(number, code, tmp_path):
    # 40,000 vectors and 10 million triplets take far longer than the test waits.
    count = 40_000
    table = "file,class\n" + "".join(f"{i}.png,{i // 2}\n" for i in range(count))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images.csv").write_text(table)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32))
    out = tmp_path / "out"
    out.mkdir()
    command = [*program(), "mine", str(tmp_path / "set"), "--embeddings", str(tmp_path / "x.npy")]
    child = subprocess.Popen(
        [*command, "--quiet", "--triplets", "10000000", "--out", str(out / "plan.parquet")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that runs in the background of a script is born with SIGINT ignored, and so would the child be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        time.sleep(4.0)
        assert child.poll() is None
        child.send_signal(number)
        stdout, stderr = child.communicate(timeout=60)
    finally:
        child.kill()
        child.communicate()
    assert (child.returncode, stdout) == (code, "")
    assert stderr == ("mohs: interrupted\n" if number == signal.SIGINT else "")
    assert list(out.iterdir()) == []


def test_a_warning_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *args: print(warnings.formatwarning(*args), end="")
        warnings.warn("training: begun with 1 thread", stacklevel=1)
    assert capsys.readouterr().out.splitlines()[-1] == "warning: training: begun with 1 thread"


@pytest.mark.parametrize("command", ["mine", "train"])
def test_help_names_every_scale(command, run_cli):
    # They are written out there, so that help need not import what knows them.
    shown = " ".join(run_cli(command, "--help").out.replace("│", " ").split())
    assert f"{', '.join(SCALES[:-1])} or {SCALES[-1]}" in shown


def test_the_shell_completes_commands_and_flags(run_cli, monkeypatch):
    monkeypatch.setenv("_MOHS_COMPLETE", "complete_bash")
    for words, expected in [("mohs tra", "train"), ("mohs train --expl", "--explain")]:
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        assert run_cli().out.split() == [expected]
    monkeypatch.delenv("_MOHS_COMPLETE")
    assert "_MOHS_COMPLETE=complete_bash" in run_cli("--show-completion", "bash").out
