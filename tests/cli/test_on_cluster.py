"""What `--engine ray` refuses before anything is read or started; what it does is in tests/scale."""

from pathlib import Path

import pytest

COMMANDS = {
    "embed": ("embed", "absent-run", "t.csv", "--out", "x.npy"),
    "mine": ("mine", "t.csv", "--embedder", "absent-run"),
    "index": ("index", "build", "t.index", "t.csv", "--embedder", "absent-run"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--engine", "spark"), "--engine: 'spark' is not 'ray'; leave it out for this machine"),
        (("--address", "auto"), "--address: 'auto' is for a cluster; add --engine ray"),
        (("--actors", "2"), "--actors: 2 is for a cluster; add --engine ray"),
        (("--engine", "ray", "--actors", "0"), "--actors: 0 is not a whole number of at least 1"),
    ],
)
def test_options_of_an_engine_are_told_first(
    run_cli, command: str, flags: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run_cli(*COMMANDS[command], *flags)
    assert (answer.code, answer.err) == (2, [f"mohs: {line}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--catalog", "c.csv"), "--catalog: not with --engine ray; give one table with the column 'role'"),
        (("--max-bad", "3"), "--max-bad: not with --engine ray; set pictures aside with 'mohs check --write'"),
    ],
)
def test_what_an_index_on_a_cluster_refuses(
    run_cli, flags: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run_cli(*COMMANDS["index"], "--engine", "ray", *flags)
    assert (answer.code, answer.err) == (2, [f"mohs: {line}"])
    answer = run_cli("index", "build", "t.index", "t.csv", "--backbone", "lite0", "--pretrained", "--engine", "ray")
    assert answer.err == ["mohs: --backbone: not with --engine ray; save its embedder, and give it with --embedder"]
    assert not list(tmp_path.iterdir())
