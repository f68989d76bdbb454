"""An index in a bucket of an S3 server on loopback: as in a folder, whoever changes it, whatever is killed."""

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

import mohs
from mohs.data.images import ImagePolicy
from mohs.data.table import Table
from mohs.errors import InputError, ResourceError
from mohs.index.places import place_of
from mohs.index.store import Store
from mohs.serve.app import create_app
from mohs.serve.editions import Editions
from mohs.serve.metrics import Metrics
from mohs.settings.config import ModelConfig

NUM_SMALL = 40


@pytest.fixture(scope="module")
def system(s3_server: str | None) -> Any:
    """The server's files, with an empty bucket."""
    if s3_server is None:
        pytest.skip("moto's server is not installed: an index in a bucket is NOT tested")
    from pyarrow.fs import S3FileSystem

    found = S3FileSystem(endpoint_override=s3_server.removeprefix("http://"), scheme="http", allow_bucket_creation=True)
    found.create_dir("rings")
    return found


@pytest.fixture
def address(system: Any, request: pytest.FixtureRequest) -> str:
    return f"s3://rings/{request.node.name.translate(str.maketrans('[]', '--'))}.index"


@pytest.fixture
def table_of(shop: Path) -> Callable[..., Path]:
    """A table with these rows of the shop's."""

    def make(name: str, rows: range) -> Path:
        lines = (shop / "shop.csv").read_text().splitlines()
        (shop / name).write_text("\n".join([lines[0], *(lines[1 + row] for row in rows)]) + "\n")
        return shop / name

    return make


def objects(system: Any, address: str) -> list[str]:
    from pyarrow.fs import FileSelector, FileType

    selector = FileSelector(address.removeprefix("s3://"), recursive=True, allow_not_found=True)
    return [each.path for each in system.get_file_info(selector) if each.type == FileType.File]


def items(where: str | Path) -> Any:
    place = place_of(where)
    found = lancedb.connect(place.uri, storage_options=place.storage_options).open_table("items")
    return found.to_arrow().sort_by("id")


def test_the_commands_do_with_an_address_what_they_do_with_a_folder(
    address: str, system: Any, shop: Path, table_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    some, more = table_of("some.csv", range(NUM_SMALL)), table_of("more.csv", range(NUM_SMALL - 2, NUM_SMALL + 6))
    new = table_of("new.csv", range(100, 104))
    told = []
    for where in ("local.index", address):
        lines: list[Any] = []
        for words in (
            ("index", "build", where, some, "--embedder", shop / "network"),
            ("index", "build", where, some, "--embedder", shop / "network"),
            ("index", "add", where, new),
            ("index", "add", where, more),
            ("index", "replace", where, more),
            ("index", "remove", where, "0.png", "1.png"),
            ("index", "remove", where, "0.png"),
            ("index", "calibrate", where, table_of("held.csv", range(200, 260)), "--json"),
            ("index", "check", where),
            ("index", "compact", where),
            ("index", "info", where),
            ("search", where, shop / "7.png", shop / "101.png", "--top", 3, "--json"),
            ("search", where, shop / "7.png", "--where", "class = 'ring 5'"),
            ("search", where, shop / "7.png", "--where", "price < 3"),
        ):
            answer = run_cli(*words)
            name = words[0] if words[0] == "search" else words[1]
            err = [line.replace(where, "INDEX") for line in answer.err]
            lines.append((name, answer.code, answer.out.replace(where, "INDEX"), err))
        told.append(lines)
    for local, remote in zip(*told, strict=True):
        if local[0] == "info":  # its version is another: the first change made a key, and gathers nothing
            assert local[1] == remote[1] == 0
            continue
        assert local == remote
    assert [code for _, code, _, _ in told[1]] == [0, 2, 0, 2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 2]
    assert items("local.index").equals(items(address).cast(items("local.index").schema))
    assert "rings/test" in objects(system, address)[0]
    # The embedder came once, by its content.
    assert len(list((tmp_path / "cache" / "mohs" / "embedders").iterdir())) == 1


def test_an_approximate_index(address: str, shop: Path) -> None:
    index = mohs.Index.build(address, shop / "shop.csv", shop / "network", exact_up_to=300)
    assert index.approximation is not None
    assert index.search([shop / "7.png"], num_matches=1)[0].matches[0].id == "7.png"
    mohs.Index.open(address).compact()
    assert mohs.Index.open(address).approximation is None


def test_a_build_that_fails_leaves_nothing(address: str, system: Any, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    files = (*(str(shop / f"{i}.png") for i in range(300)), "bad.png")
    table = Table(files, np.full(301, "a"), np.full(301, "sample"), np.full(301, ""), tmp_path)
    with pytest.raises(InputError, match=r"'bad\.png': not a picture of a known format"):
        mohs.Index.build(address, table, shop / "network")
    assert objects(system, address) == []
    with pytest.raises(ResourceError, match=r"s3://absent/x\.index: cannot be reached \(NO_SUCH_BUCKET"):
        mohs.Index.build("s3://absent/x.index", shop / "shop.csv", shop / "network")
    with pytest.raises(InputError, match="not an index"):
        mohs.Index.open("s3://absent/x.index")


BUILD = """
import sys, mohs
mohs.Index.build(sys.argv[1], sys.argv[2], sys.argv[3], progress=lambda done, total: print(done, flush=True))
"""

ADD = """
import sys, mohs
index = mohs.Index.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
index.replace(sys.argv[2])
print("done", flush=True)
"""


def started(code: str, *words: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_killed_build_is_no_index(address: str, system: Any, shop: Path) -> None:
    with started(BUILD, address, shop / "shop.csv", shop / "network") as process:
        assert int(line_of(process)) < 600
        process.kill()
    assert objects(system, address)
    with pytest.raises(InputError, match=r"not an index \(no index.json\)"):
        mohs.Index.open(address)
    with pytest.raises(InputError, match="is no index and not empty"):
        mohs.Index.build(address, shop / "shop.csv", shop / "network")
    system.delete_dir(address.removeprefix("s3://"))
    assert len(mohs.Index.build(address, shop / "shop.csv", shop / "network")) == 600


def test_a_killed_change_leaves_the_state_before_or_after(address: str, shop: Path, table_of: Any) -> None:
    mohs.Index.build(address, table_of("some.csv", range(NUM_SMALL)), shop / "network")
    before = mohs.Index.open(address)
    delays, sizes = (0.0, 0.1, 0.3, 0.8), []
    for number, delay in enumerate(delays):
        new = table_of(f"new{number}.csv", range(100 + 20 * number, 120 + 20 * number))
        with started(ADD, address, new) as process:
            line_of(process)
            go_on(process)
            time.sleep(delay)
            process.kill()
        found = mohs.Index.open(address)
        assert found.check() == []
        sizes.append(len(found))
    steps = np.diff([NUM_SMALL, *sizes])
    assert set(steps.tolist()) <= {0, 20}, sizes
    assert len(before) == sizes[-1]


@pytest.mark.parametrize("made", ["there", "copied"])
def test_of_those_that_add_an_id_at_once_one_does(
    address: str, system: Any, shop: Path, table_of: Any, made: str, tmp_path: Path
) -> None:
    some = table_of("some.csv", range(NUM_SMALL))
    mohs.Index.build(address if made == "there" else tmp_path / "i", some, shop / "network")
    for file in [file for file in tmp_path.rglob("*") if file.is_file()]:
        place = f"{address.removeprefix('s3://')}/{file.relative_to(tmp_path / 'i')}"
        with file.open("rb") as found, system.open_output_stream(place) as to:
            shutil.copyfileobj(found, to)
    index, num_writers, num_rounds = mohs.Index.open(address), 3, 6
    rows = items(address).slice(0, 1)
    together = threading.Barrier(num_writers)

    def write(writer: int) -> None:
        for number in range(num_rounds):
            ids = [f"shared {number}", f"own {writer}-{number}"]
            new = pa.concat_tables([rows, rows]).set_column(0, rows.schema.field("id"), [ids])
            together.wait()
            Store.open(place_of(address)).add(new)

    with ThreadPoolExecutor(num_writers) as pool:
        list(pool.map(write, range(num_writers)))
    assert index.check() == []
    assert len(index) == NUM_SMALL + num_rounds * (num_writers + 1)


def test_a_service_takes_up_what_changes_in_the_bucket(
    address: str, shop: Path, table_of: Any, tmp_path: Path, system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    some = table_of("some.csv", range(NUM_SMALL))
    mohs.Index.build(address, some, shop / "network")
    editions = Editions(address, Metrics())
    first = editions.current
    assert asyncio.run(editions.refresh()) is first
    mohs.Index.open(address).remove(["0.png"])
    second = asyncio.run(editions.refresh())
    assert len(second.snapshot) == NUM_SMALL - 1
    mohs.Index.open(address).calibrate([shop / f"{i}.png" for i in range(40)], [f"ring {i // 2}" for i in range(40)])
    third = asyncio.run(editions.refresh())
    assert third.snapshot.calibration is not None
    # Another index at the same address, of another embedder.
    system.delete_dir(address.removeprefix("s3://"))
    assert asyncio.run(editions.refresh()) is third
    assert editions.problem is not None
    other = mohs.Embedder.create(ModelConfig(widths=(4,), hidden_dim=0, embedding_dim=8), ImagePolicy(size=16), seed=5)
    mohs.Index.build(address, some, other)
    fourth = asyncio.run(editions.refresh())
    assert fourth.embedder != first.embedder
    assert len(fourth.snapshot) == NUM_SMALL
    editions.close()
    app = create_app(address)
    app.state.editions.close()
    assert list(tmp_path.iterdir()) == []
