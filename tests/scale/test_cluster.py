"""Embedding and mining by actors of a Ray cluster: as by one process, and so with an actor killed in the middle."""

import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest

import mohs
from mohs.cluster import embedding
from mohs.cluster.embedding import build_on_cluster
from mohs.cluster.mining import ClusterBank, StoreRows
from mohs.cluster.remote_tables import read_remote_table
from mohs.errors import InputError
from mohs.hardness.scales import SCALES
from mohs.mining import mine
from mohs.shards import ShardLayout, open_shards, write_shards

# Each actor is a process that loads torch: on a busy machine a minute.
pytestmark = [
    pytest.mark.usefixtures("ray"), pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1800),
]  # fmt: skip

NUM_ITEMS, DIM, NUM_PICTURES = 3000, 8, 600


@pytest.fixture(scope="module")
def bank() -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(NUM_ITEMS, DIM)).astype(np.float32)
    rows[rng.permutation(NUM_ITEMS)[:300]] = rows[0]  # ties
    return rows


def wanted(scale: str) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "anchors_T": rng.integers(0, NUM_ITEMS, 400), "hardness_T": rng.random(400), "scale": scale,
        "margin": 0.5 if scale == "margin" else None, "candidates": rng.random(NUM_ITEMS) < 0.9,
    }  # fmt: skip


def saved(plan: mohs.TripletPlan, path: Path) -> bytes:
    plan.save(path)
    return path.read_bytes()


def in_store(ray: Any, bank: np.ndarray) -> StoreRows:
    layout = ShardLayout(len(bank), (DIM,), "float32", 250)
    return StoreRows([ray.put(bank[slice(*layout.span(number))]) for number in range(layout.num_shards)], layout)


@pytest.mark.parametrize("place", ["store", "folder"])
def test_the_plan_is_that_of_one_process(ray: Any, bank: np.ndarray, place: str, tmp_path: Path) -> None:
    rows: Any = in_store(ray, bank)
    if place == "folder":
        write_shards(tmp_path / "bank", rows.layout, {}, lambda start, stop: bank[start:stop])
        rows = open_shards(tmp_path / "bank")
    on_cluster = ClusterBank(ray, rows, 2)
    labels = np.arange(NUM_ITEMS) // 2
    for scale in SCALES if place == "store" else ["log-rank"]:
        expected = saved(mine(bank, labels, **wanted(scale)), tmp_path / "one.parquet")
        assert saved(mine(on_cluster, labels, **wanted(scale)), tmp_path / "cluster.parquet") == expected
    assert on_cluster.crew is not None
    assert on_cluster.crew.cost.actor_s > 0
    assert on_cluster.crew.cost.num_bytes >= 3 * bank.nbytes
    on_cluster.crew.dismiss()


def test_an_actor_that_is_killed_in_the_middle_changes_nothing(ray: Any, bank: np.ndarray, tmp_path: Path) -> None:
    on_cluster = ClusterBank(ray, in_store(ray, bank), 2)
    labels = np.arange(NUM_ITEMS) // 2
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        assert on_cluster.crew is not None
        if not killed and 0 < done < total:
            process = min(on_cluster.crew.processes)
            killed.append(int(process.rpartition(":")[2]))
            os.kill(killed[0], signal.SIGKILL)

    plan = mine(on_cluster, labels, **wanted("log-rank"), progress=kill_one)
    expected = mine(bank, labels, **wanted("log-rank"))
    assert killed
    assert saved(plan, tmp_path / "cluster.parquet") == saved(expected, tmp_path / "one.parquet")
    assert on_cluster.crew is not None
    assert on_cluster.crew.cost.num_restarts == 1
    assert "1 actors started again" in str(on_cluster)
    on_cluster.crew.dismiss()


def test_pictures_are_embedded_by_actors_and_one_may_die(ray: Any, shop: Path, torch_as_it_was: None) -> None:
    network = mohs.Embedder.from_pretrained(shop / "network")
    table = read_remote_table(str(shop / "shop.csv"))
    crew = embedding.embedding_crew(ray, network, 2)
    layout = ShardLayout(len(table), (8,), "float32", 256)
    killed = []

    def kill_one(done: int, total: int) -> None:
        if not killed and done < total:
            killed.append(min(crew.processes))
            os.kill(int(killed[0].rpartition(":")[2]), signal.SIGKILL)

    found = embedding.embed_into_memory(crew, table, layout, kill_one)
    expected = network.embed(mohs.open_dataset(shop / "shop.csv", policy=network.policy).pictures)
    assert killed
    np.testing.assert_array_equal(found, expected)
    assert crew.cost.num_bytes == sum((shop / file).stat().st_size for file in table.files)
    crew.dismiss()


def test_pictures_that_cannot_be_read_are_named(ray: Any, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "t.csv").write_text(f"file,class\n{shop}/0.png,a\nbad.png,b\nabsent.png,c\n")
    network = mohs.Embedder.from_pretrained(shop / "network")
    table = read_remote_table(str(tmp_path / "t.csv"))
    crew = embedding.embedding_crew(ray, network, 1)
    with pytest.raises(InputError) as caught:
        embedding.embed_into_memory(crew, table, embedding.even_layout(3, 8, 1))
    assert [line.partition(": ")[2] for line in str(caught.value).splitlines()] == [
        "row 3: 'bad.png': not a picture of a known format; send another picture",
        "row 4: 'absent.png': cannot be read (FileNotFoundError)",
    ]
    crew.dismiss()


def test_an_index_by_actors_is_that_of_one_process_and_one_may_die(
    ray: Any, shop: Path, tmp_path: Path, torch_as_it_was: None
) -> None:
    table = tmp_path / "priced.csv"
    lines = (shop / "shop.csv").read_text().splitlines()
    priced = ["file,class,price,id", *(f"{shop}/{line},{i},ring-{i}" for i, line in enumerate(lines[1:]))]
    table.write_text("\n".join(priced) + "\n")
    network = mohs.Embedder.from_pretrained(shop / "network")
    expected = mohs.Index.build(tmp_path / "one.index", table, network, id_column="id")
    crew = embedding.embedding_crew(ray, network, 2)
    killed = []

    def kill_one(done: int, total: int) -> None:
        if not killed and done < total:
            killed.append(min(crew.processes))
            os.kill(int(killed[0].rpartition(":")[2]), signal.SIGKILL)

    found = build_on_cluster(
        crew, tmp_path / "two.index", str(table), network, id_column="id", exact_up_to=10_000, progress=kill_one
    )
    assert killed
    one, two = (lancedb.connect(index.folder).open_table("items").to_arrow() for index in (expected, found))
    assert one.equals(two)
    assert two.column("price").to_pylist() == list(range(NUM_PICTURES))
    crew.dismiss()


@pytest.fixture
def bucket(s3_server: str | None, shop: Path) -> str:
    """The shop in a bucket of an S3 server on loopback."""
    if s3_server is None or find_spec("s3fs") is None:
        pytest.skip("moto or s3fs is not installed: s3:// is NOT tested")
    import s3fs

    system = s3fs.S3FileSystem()
    if system.exists("shop/shop.csv"):
        return "s3://shop/shop.csv"
    system.mkdir("shop")
    for file in [shop / "shop.csv", *(shop / f"{i}.png" for i in range(600))]:
        system.pipe_file(f"shop/{file.name}", file.read_bytes())
    return "s3://shop/shop.csv"


def test_the_commands_run_on_a_table_in_a_bucket(ray: Any, shop: Path, bucket: str, tmp_path: Path, run_cli) -> None:
    local, remote = tmp_path / "local.npy", tmp_path / "remote.npy"
    answer = run_cli("embed", shop / "network", shop / "shop.csv", "--out", local)  # in this process
    assert answer.code == 0, answer.err
    answer = run_cli("embed", shop / "network", bucket, "--out", remote, "--engine", "ray", "--actors", 2)
    assert answer.code == 0, answer.err
    assert answer.err[-1].startswith("2 actors embedded: ")
    np.testing.assert_array_equal(np.load(remote), np.load(local))
    plans = []
    for source, engine in ((str(shop / "shop.csv"), ()), (bucket, ("--engine", "ray", "--actors", 2))):
        plan = tmp_path / f"{len(plans)}.parquet"
        answer = run_cli(
            "mine", source, "--embedder", shop / "network", *engine, "--scale", "rank", "--triplets", 300, "--out", plan
        )
        assert answer.code == 0, answer.err
        assert any(line.startswith("mined: 2 actors, ") for line in answer.err) == bool(engine)
        plans.append(mohs.TripletPlan.load(plan))
    np.testing.assert_array_equal(plans[0].negative, plans[1].negative)
    answer = run_cli("embed", shop / "network", bucket, "--out", tmp_path / "bank", "--shards", "--engine", "ray",
                     "--actors", 1, "--shard-rows", 256)  # fmt: skip
    assert answer.code == 0, answer.err
    np.testing.assert_array_equal(open_shards(tmp_path / "bank")[0:600], np.load(local))
    answer = run_cli("embed", shop / "network", "s3://absent/t.csv", "--out", remote, "--engine", "ray")
    assert answer.code == 2
    assert answer.err[-1].startswith("mohs: s3://absent/t.csv: cannot be opened (")


def test_an_index_is_built_of_a_table_in_a_bucket(ray: Any, shop: Path, bucket: str, tmp_path: Path, run_cli) -> None:
    answer = run_cli(
        "index", "build", tmp_path / "remote.index", bucket, "--embedder", shop / "network", "--engine", "ray",
        "--actors", 2,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert any(line.startswith("2 actors embedded: ") for line in answer.err)
    index = mohs.Index.open(tmp_path / "remote.index")
    [answer] = index.search([shop / "7.png"])
    assert (answer.matches[0].id, answer.matches[0].label) == ("7.png", "ring 3")
    assert answer.matches[0].columns["path"] == "s3://shop/7.png"
