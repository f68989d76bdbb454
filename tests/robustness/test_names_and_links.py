"""Names that are not UTF-8, and entries of folders that are no files: said, in one line, and nothing half made."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


@pytest.fixture
def class_folders(tmp_path: Path, picture_set: Path) -> Path:
    """Two classes of two pictures in folders."""
    for label in ("ring", "cup"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(2):
            shutil.copy(picture_set / "img" / f"00{number}-0.png", tmp_path / "set" / label / f"{number}.png")
    return tmp_path / "set"


@pytest.mark.parametrize("command", ["check", "mine", "train", "clean", "embed"])
@pytest.mark.parametrize("what", ["file", "class", "source"])
def test_a_name_that_is_not_utf8_is_one_line_and_leaves_nothing(
    run_cli: Cli, class_folders: Path, tmp_path: Path, command: str, what: str
) -> None:
    source, out = class_folders, tmp_path / "out"
    odd = os.fsdecode(b"K\xe4se")
    if what == "file":
        (class_folders / "ring" / "0.png").rename(class_folders / "ring" / f"{odd}.png")
    elif what == "class":
        (class_folders / "ring").rename(class_folders / odd)
    else:
        source = class_folders.rename(tmp_path / odd)
    flags = () if command == "check" else ("--out", out)
    embedder = (tmp_path,) if command == "embed" else ()
    answer = run_cli(command, *embedder, source, *flags)
    assert answer.code == 2
    assert "Traceback" not in "\n".join(answer.err)
    assert not out.exists()
    if command != "embed":
        assert len(answer.err) == (2 if what == "class" else 1), answer.err
        assert all(r"K\udce4se" in line and "not UTF-8; rename it" in line for line in answer.err)


def test_a_result_whose_name_is_not_utf8_is_refused_before_the_work(
    run_cli: Cli, class_folders: Path, tmp_path: Path
) -> None:
    answer = run_cli("train", class_folders, "--out", tmp_path / os.fsdecode(b"r\xe4n"))
    assert (answer.code, len(answer.err)) == (2, 1)
    assert r"r\udce4n' is not UTF-8" in answer.err[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]


def test_links_and_pipes_are_counted_and_named(run_cli: Cli, class_folders: Path) -> None:
    (class_folders / "gone").symlink_to("nowhere")
    (class_folders / "round").symlink_to("round")
    (class_folders / "self").symlink_to(".")
    (class_folders / "ring" / "up").symlink_to("..")
    os.mkfifo(class_folders / "cup" / "pipe")
    answer = run_cli("check", class_folders)
    assert answer.code == 0
    (told,) = [line for line in answer.err if "passed over" in line]
    assert told.startswith(
        f"warning: {class_folders}: 5 of 9 files are no pictures that Mohs reads and are passed over: "
    )
    assert "2 a link that leads nowhere" in told
    assert "2 a link to a folder around it" in told
    assert "1 a pipe, socket or device" in told


def test_a_picture_that_is_a_link_to_nowhere_is_a_bad_one(run_cli: Cli, class_folders: Path) -> None:
    (class_folders / "ring" / "2.png").symlink_to("gone.png")
    answer = run_cli("check", class_folders)
    assert answer.code == 2
    assert "ring/2.png': no such file: a link that leads nowhere ('gone.png'); replace" in answer.err[-1]
