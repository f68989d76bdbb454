import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mohs import lock
from mohs.errors import DataWarning, InputError
from mohs.lock import is_locked, only_writer

HOLDER = """
import sys, time
from mohs.lock import only_writer
with only_writer(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    pattern = rf"^{tmp_path}: in use by process {os.getpid()} on \S+ \(training since .*\); wait for its end"
    with only_writer(tmp_path, "training"), pytest.raises(InputError, match=pattern), only_writer(tmp_path, "other"):
        pass
    with only_writer(tmp_path, "other"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_made_for_the_lock_goes_again_unless_something_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    with only_writer(folder, "training"):
        assert folder.is_dir()
    assert not (tmp_path / "runs").exists()
    with only_writer(folder, "training"):
        (folder / "result").touch()
    assert [file.name for file in folder.iterdir()] == ["result"]


def test_a_file_is_locked_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "plan.parquet"
    with only_writer(file, "mining", of_file=True):
        with (
            pytest.raises(InputError, match=r"plan\.parquet: in use by process .* \(mining"),
            only_writer(file, "mining", of_file=True),
        ):
            pass
        with only_writer(tmp_path / "other.parquet", "mining", of_file=True):
            pass
    assert not list(tmp_path.iterdir())


def test_a_kill_releases_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_locked(tmp_path / ".lock")
        with pytest.raises(InputError, match=f"process {holder.pid} "), only_writer(tmp_path, "another"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    assert not is_locked(tmp_path / ".lock")
    with only_writer(tmp_path, "another"):
        pass


def test_it_waits_for_the_holder_as_long_as_asked(tmp_path: Path) -> None:
    began = time.monotonic()
    with only_writer(tmp_path, "one"), pytest.raises(InputError), only_writer(tmp_path, "other", wait_s=0.2):
        pass
    assert time.monotonic() - began >= 0.2


def test_where_no_lock_is_to_be_had_it_is_said_and_not_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> Any:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_flock", refuse)
    told = r"no lock on this file system \(No locks available\); take care that"
    with pytest.warns(DataWarning, match=told), only_writer(tmp_path, "one"):
        assert not list(tmp_path.iterdir())
    assert is_locked(tmp_path)  # not known: then it is not taken for free
