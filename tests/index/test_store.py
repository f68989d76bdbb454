"""The store: any order of changes leaves what a dictionary would hold, and a killed writer leaves a whole version."""

import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mohs.errors import InputError
from mohs.index import store as stores
from mohs.index.store import Store, item_schema, vectors_of

SCHEMA = item_schema(4, [pa.field("price", pa.float64())])


def rows_of(ids, value):
    cells = {name: [f"{name} of {item}" for item in ids] for name in ("file", "path", "class", "role")}
    arrays = {
        "id": pa.array(ids),
        **cells,
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(np.full(4 * len(ids), value, dtype=np.float32)), 4),
        "thumbnail": pa.array([b"png"] * len(ids)),
        "price": pa.array([float(value)] * len(ids)),
    }
    return pa.table(arrays, schema=SCHEMA)


IDS = st.lists(st.sampled_from([*"abcdefgh", "it's", 'a "b"', "ü; --"]), min_size=1, max_size=5, unique=True)


class AsADictionary(RuleBasedStateMachine):
    @initialize(ids=IDS)
    def begin(self, ids):
        self.place = tempfile.TemporaryDirectory()
        self.folder = Path(self.place.name)
        Store.create(self.folder, rows_of(ids, 0).to_batches(), SCHEMA)
        self.model = dict.fromkeys(ids, 0.0)

    @rule(ids=IDS, value=st.integers(1, 99))
    def add(self, ids, value):
        Store.open(self.folder).add(rows_of(ids, value))
        self.model = dict.fromkeys(ids, float(value)) | self.model

    @rule(ids=IDS, value=st.integers(1, 99))
    def replace(self, ids, value):
        Store.open(self.folder).replace(rows_of(ids, value))
        self.model |= dict.fromkeys(ids, float(value))

    @rule(ids=IDS)
    def remove(self, ids):
        Store.open(self.folder).remove(ids)
        for item in ids:
            self.model.pop(item, None)

    @invariant()
    def same(self):
        if not hasattr(self, "model"):
            return
        store = Store.open(self.folder)
        found = store.read()
        assert dict(zip(found.column("id").to_pylist(), found.column("price").to_pylist(), strict=True)) == self.model
        assert len(store) == len(self.model)
        assert vectors_of(found)[:, 0].tolist() == found.column("price").to_pylist()
        ids = [*self.model, "none"]
        assert store.missing(ids) == ["none"]
        assert store.rows(list(self.model)).column("id").to_pylist() == list(self.model)

    def teardown(self):
        if hasattr(self, "place"):
            self.place.cleanup()


AsADictionary.TestCase.settings = settings(
    max_examples=6, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAsADictionary = AsADictionary.TestCase


def test_a_reader_keeps_its_version(tmp_path):
    store = Store.create(tmp_path, rows_of(["a", "b"], 1).to_batches(), SCHEMA)
    before = Store.open(tmp_path)
    assert before.newest() is before
    store.replace(rows_of(["a"], 2))
    assert before.rows(["a"]).column("price").to_pylist() == [1.0]
    after = before.newest()
    assert after.version > before.version
    assert after.rows(["a"]).column("price").to_pylist() == [2.0]
    assert after.read(["id"], where="price > 1.5").column("id").to_pylist() == ["a"]


def fragments(store):
    return store._writer().stats()["fragment_stats"]["num_fragments"]


def versions(store):
    return [each["version"] for each in store._writer().list_versions()]


def tidied():
    """Wait for what tidies up beside changes."""
    for thread in threading.enumerate():
        if thread.name.startswith("tidy up"):
            thread.join()


def test_many_changes_leave_few_fragments_and_versions(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "KEPT_S", 0.0)
    monkeypatch.setattr(stores, "_CLEAN_EVERY_VERSIONS", 32)
    monkeypatch.setattr(stores, "_PAUSE_S", 0.0)
    store = Store.create(tmp_path, rows_of(["first"], 0).to_batches(), SCHEMA)
    for i in range(60):
        store.add(rows_of([f"i{i:02d}"], i + 1))
        tidied()
    assert fragments(store) <= 18
    assert len(versions(store)) <= 34
    assert sorted(store.newest().read().column("price").to_pylist()) == list(range(61))


def sizes(store):
    rows = store._writer().search().select(["id"]).with_row_id(True).limit(None).to_arrow()
    return np.unique(rows["_rowid"].to_numpy() >> np.uint64(32), return_counts=True)[1].tolist()


def test_new_fragments_are_gathered_and_the_large_ones_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_GATHERED_ROWS", 100)
    model = {f"{i:04d}": 0.0 for i in range(101)}
    store = Store.create(tmp_path, rows_of(list(model), 0).to_batches(), SCHEMA)
    for i in range(1, 80):
        ids = [f"{(7 * i + k) % 200:04d}" for k in range(4)]
        if i % 5:
            store.replace(rows_of(ids, i))
            model.update(dict.fromkeys(ids, float(i)))
        else:
            ids = [item for item in ids if item in model]
            store.remove(ids)
            model = {item: price for item, price in model.items() if item not in ids}
    found = store.newest().read()
    assert dict(zip(found.column("id").to_pylist(), found.column("price").to_pylist(), strict=True)) == model
    # The first is still what it was: compaction, which would have made them all one, was not needed.
    assert 2 < len(sizes(store)) < 20
    assert sizes(store)[0] < 101


def test_a_change_waits_while_fragments_are_gathered(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_GATHER_EVERY_VERSIONS", 1)
    store = Store.create(tmp_path, rows_of(["a", "b"], 1).to_batches(), SCHEMA)
    gather, other = stores._gather, threading.Thread(target=lambda: store.replace(rows_of(["a"], 3)))

    def slow(table):
        monkeypatch.setattr(stores, "_gather", gather)
        other.start()
        time.sleep(0.3)
        assert store.newest().rows(["a"]).column("price").to_pylist() == [2.0]
        gather(table)

    monkeypatch.setattr(stores, "_gather", slow)
    store.replace(rows_of(["a"], 2))
    other.join()
    assert store.newest().rows(["a", "b"]).column("price").to_pylist() == [3.0, 1.0]


def test_no_change_waits_for_a_compaction_and_none_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_MIN_FRAGMENTS", 0)
    monkeypatch.setattr(stores, "_FRAGMENTS_PER_ROOT", 0.0)
    monkeypatch.setattr(stores, "_PAUSE_S", 0.0)
    compact, begun, go_on, num = stores._compact, threading.Event(), threading.Event(), [0]

    def slow(table):
        num[0] += 1
        begun.set()
        assert go_on.wait(60)
        compact(table)

    monkeypatch.setattr(stores, "_compact", slow)
    store = Store.create(tmp_path, rows_of(["a", "b"], 1).to_batches(), SCHEMA)
    store.add(rows_of(["c"], 2))
    assert begun.wait(60)
    store.replace(rows_of(["a"], 3))
    store.remove(["b"])
    assert num == [1]  # one at a time
    go_on.set()
    tidied()
    assert store.newest().rows(["a", "c"]).column("price").to_pylist() == [3.0, 2.0]
    assert len(store.newest()) == 2
    # It had been preempted, and the next change tries again.
    assert fragments(store) > 1
    store.add(rows_of(["d"], 4))
    tidied()
    assert num == [2]
    assert fragments(store) == 1


@pytest.mark.parametrize(("most", "is_tidied"), [(2, True), (1000, False)])
def test_where_changes_come_without_a_pause_they_wait_once_many_versions_could_go(
    tmp_path, monkeypatch, most, is_tidied
):
    monkeypatch.setattr(stores, "_CLEAN_EVERY_VERSIONS", 1)
    monkeypatch.setattr(stores, "KEPT_S", 0.0)
    monkeypatch.setattr(stores, "_MOST_REPLACED", most)
    monkeypatch.setattr(stores, "_MOST_WAITS", 3)
    compact, is_held = stores._compact, []
    store = Store.create(tmp_path, rows_of(["a"], 1).to_batches(), SCHEMA)

    def seen(table):
        is_held.append((tmp_path / ".lock").exists())
        compact(table)

    monkeypatch.setattr(stores, "_compact", seen)
    # Whoever waits for a pause finds a change instead.
    monkeypatch.setattr(stores.time, "sleep", lambda _: store._writer().add(rows_of([f"{len(versions(store))}"], 2)))
    store.add(rows_of(["b"], 2))
    tidied()
    assert is_held == [True] * is_tidied
    assert fragments(store) == (1 if is_tidied else 5)
    assert len(store.newest()) == 5


def test_a_version_that_was_newest_lately_stays(tmp_path, monkeypatch):
    store = Store.create(tmp_path, rows_of(["a", "b"], 1).to_batches(), SCHEMA)
    old = Store.open(tmp_path)
    store.remove(["b"])
    store.compact()
    assert old.read(["id"]).column("id").to_pylist() == ["a", "b"]
    monkeypatch.setattr(stores, "KEPT_S", 2.4)
    # The version that is replaced just now was read until now, however old it is.
    between = Store.open(tmp_path)
    time.sleep(2.5)
    store.remove(["a"])
    store.compact()
    assert between.version in versions(store)
    assert between.read(["id"]).column("id").to_pylist() == ["a"]
    monkeypatch.setattr(stores, "KEPT_S", 0.0)
    store.compact()
    with pytest.raises(InputError, match="version 1 is cleaned up, there are newer ones; read the newest"):
        old.read()
    assert len(store.newest()) == 0


def test_a_change_that_cannot_tidy_up_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_MIN_FRAGMENTS", 0)
    store = Store.create(tmp_path, rows_of(["a"], 1).to_batches(), SCHEMA)

    def conflict(table, **_):
        raise RuntimeError("lance error: Retryable commit conflict")

    monkeypatch.setattr(type(store._writer()), "optimize", conflict)
    store.add(rows_of(["b"], 2))
    tidied()
    assert len(store.newest()) == 2
    with pytest.raises(InputError, match=r"cannot be compacted \(lance error: Retryable commit conflict\); try again"):
        store.compact()


def test_what_is_no_store_and_what_is_no_filter(tmp_path):
    with pytest.raises(InputError, match="no store of items"):
        Store.open(tmp_path)
    (tmp_path / "items.lance").mkdir()
    with pytest.raises(InputError, match="build the index again"):
        Store.open(tmp_path)
    store = Store.create(tmp_path / "i", rows_of(["a"], 1).to_batches(), SCHEMA)
    for where in ("cost > 1", "price >", "; drop"):
        with pytest.raises(InputError, match="the columns are 'id', 'file', 'path', 'class', 'role', 'price'") as error:
            store.read(["id"], where=where)
        assert "\n" not in str(error.value)


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store import rows_of
from mohs.index.store import Store
store = Store.open(Path(sys.argv[1]))
print("ready", flush=True)
for round in range(1, 10_000):
    store.replace(rows_of([f"i{i}" for i in range(200)], round))
"""


def test_a_killed_writer_leaves_a_whole_version(tmp_path):
    folder = tmp_path / "i"
    Store.create(folder, rows_of([f"i{i}" for i in range(200)], 0).to_batches(), SCHEMA)
    seen = set()
    # The last writer is killed after its first change, however busy the machine.
    for delay_s in (0.05, 0.23, None):
        command = [sys.executable, "-c", WRITER, str(folder), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"ready\n"
            if delay_s is None:
                until = time.monotonic() + 60
                while Store.open(folder).version == 1 and time.monotonic() < until:
                    time.sleep(0.01)
            else:
                time.sleep(delay_s)
            writer.send_signal(signal.SIGKILL)
        prices = set(Store.open(folder).read(["price"]).column("price").to_pylist())
        assert len(prices) == 1  # all rows are of one round
        assert len(Store.open(folder)) == 200
        seen |= prices
    assert max(seen) > 0
