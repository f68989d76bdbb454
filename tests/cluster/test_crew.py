"""Tasks are shared by actors that have begun, and no task is tried for ever."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import pytest

from mohs.cluster.crew import Crew, Done, cluster
from mohs.cluster.mining import ClusterBank
from mohs.cluster.remote_tables import read_bytes
from mohs.errors import InputError, ResourceError
from mohs.mining import mine
from mohs.shards import ShardLayout, open_shards, write_shards


@final
class Adder:
    """Adds; dies of 13."""

    def ready(self) -> Done:
        return Done(None, 0.0, 0, "here:1")

    def add(self, a: int, b: int) -> Done:
        if a == 13:
            raise self.death
        if a < 0:
            raise InputError("a: is below 0")
        return Done(a + b, 0.5, 8, "here:1")

    death: Exception = Exception()


def test_actors_without_a_processor_get_no_tasks(ray: Any) -> None:
    crew = Crew(ray, Adder, (), 5)
    assert sorted(crew.share("add", [(i, 1) for i in range(9)])) == [(i, i + 1) for i in range(9)]
    assert list(crew.share("add", [(7, 1)])) == [(0, 8)]
    assert crew.cost.num_restarts == 0
    assert 0 < ray.asked["max_task_retries"] < 100
    assert 0 < ray.asked["max_restarts"] < 100
    crew.dismiss()
    assert ray.killed == 5


def test_where_none_begins_is_told(ray: Any) -> None:
    crew = Crew(ray, Adder, (), 2)
    other = Crew(ray, Adder, (), 3)
    with pytest.raises(InputError, match=r"--actors: none of 3 actors has begun after 600 s; see 'ray status'"):
        list(other.share("add", [(1, 1)]))
    assert list(crew.share("add", [(1, 1)])) == [(0, 2)]


def test_a_task_whose_actor_dies_again_and_again_is_named(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Adder, "death", ray.exceptions.RayError("The actor died.\nmore"))
    with pytest.raises(ResourceError, match=r"task 2 \(add\): its actor died 6 times \(The actor died\); give"):
        list(Crew(ray, Adder, (), 1).share("add", [(1, 1), (13, 1)]))
    with pytest.raises(InputError, match="a: is below 0"):
        list(Crew(ray, Adder, (), 1).share("add", [(-1, 1)]))


def test_what_a_task_is_given_is_made_when_an_actor_is_free(ray: Any) -> None:
    made: list[int] = []

    def tasks() -> Iterator[tuple[int, int]]:
        for i in range(20):
            made.append(i)
            yield 100 + i, 1

    for done, _ in enumerate(Crew(ray, Adder, (), 2).share("add", tasks()), 1):
        assert len(made) <= done + 3
    assert done == len(made) == 20


def test_without_an_address_no_cluster_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    fake = SimpleNamespace(
        is_initialized=lambda: False, init=lambda address, **_: asked.append(address), shutdown=lambda: None
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    for address in (None, "auto"):
        with cluster(address):
            pass
    assert asked == ["local", "auto"]


def test_one_bank_is_mined_by_one_metric_and_by_another(ray: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 4)).astype(np.float32)
    rows *= rng.uniform(0.1, 10, (200, 1)).astype(np.float32)
    write_shards(tmp_path / "bank", ShardLayout(200, (4,), "float32", 60), {}, lambda start, stop: rows[start:stop])
    on_cluster = ClusterBank(ray, open_shards(tmp_path / "bank"), 2)
    wanted: Any = {"labels_N": np.arange(200) // 2, "anchors_T": np.arange(100), "hardness_T": 0.7, "scale": "range"}
    for metric in ("euclidean", "cosine"):
        found, expected = (mine(bank, **wanted, metric=metric) for bank in (on_cluster, rows))
        np.testing.assert_array_equal(found.negative, expected.negative)


def test_names_are_no_patterns(tmp_path: Path) -> None:
    names = ["ring [1].png", "ring 1.png", "*.png", "absent[.png"]
    for name in names[:3]:
        (tmp_path / name).write_text(name)
    *found, absent = read_bytes([str(tmp_path / name) for name in names])
    assert found == [name.encode() for name in names[:3]]
    assert isinstance(absent, FileNotFoundError)
    assert read_bytes([str(tmp_path / names[0])] * 2) == [names[0].encode()] * 2
