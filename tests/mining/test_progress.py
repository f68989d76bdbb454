"""Progress never falls and ends complete; an error that it raises ends mining on every thread."""

import threading
import time

import numpy as np
import pytest

from mohs.hardness.scales import SCALES
from mohs.mining import exact, mine
from mohs.mining.threads import Meter

NUM_ITEMS = 3000
BANK = np.random.default_rng(0).normal(size=(NUM_ITEMS, 8)).astype(np.float32)
PAIRS = np.arange(NUM_ITEMS) // 2
ALL = np.random.default_rng(1).permutation(NUM_ITEMS)
WAYS = [
    *((scale, "exact", anchors) for scale in SCALES for anchors in ("all", "twice", "few")),
    ("rank", "sampled", "all"),
    ("log-rank", "sampled", "all"),
]


def mined(way, progress):
    scale, method, which = way
    anchors = {"all": ALL, "twice": np.r_[ALL, ALL[::-1]], "few": ALL[:700]}[which]
    # Half of the anchors have no negative beyond a margin of 30, so that sweeps have to ask again.
    hardness = np.random.default_rng(2).integers(0, 2, len(anchors)).astype(float)
    options = {"margin": 30.0} if scale == "margin" else {}
    return mine(
        BANK, PAIRS, anchors_T=anchors, hardness_T=hardness, scale=scale, method=method, num_sampled=256,
        progress=progress, **options,
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_it_never_falls_and_ends_complete(way, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    calls, callers = [], set()

    def progress(done, total):
        calls.append((done, total))
        callers.add(threading.current_thread())

    plan = mined(way, progress)
    done, totals = zip(*calls, strict=True)
    assert set(totals) == {len(plan)}
    assert list(done) == sorted(done)
    assert calls[-1] == (len(plan), len(plan))
    assert calls.count(calls[-1]) == 1
    # It is of use only if there is something to see between the ends.
    assert any(0 < d < len(plan) for d in done)
    assert callers == {threading.current_thread()}
    assert mined(way, None).to_arrow().equals(plan.to_arrow(), check_metadata=True)


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_an_error_ends_mining_on_all_threads(way, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    in_all = []
    mined(way, lambda *call: in_all.append(call))
    before, calls = set(threading.enumerate()), []

    def progress(done, total):
        calls.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mined(way, progress)
    assert set(threading.enumerate()) == before
    assert len(calls) == 1 < len(in_all)


def test_work_that_has_not_begun_does_not_begin(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    selected, select_rank, refused = [], exact.kernels.select_rank, threading.Event()

    def counted(*arguments):
        selected.append(len(arguments[1]))
        select_rank(*arguments)
        if len(selected) > 1:  # a busy machine may tell late of the first
            refused.wait(60)
            time.sleep(0.2)

    def refuse(done, total):
        refused.set()
        raise ValueError("enough")

    monkeypatch.setattr(exact.kernels, "select_rank", counted)
    with pytest.raises(ValueError, match="enough"):
        mined(("rank", "exact", "twice"), refuse)
    # Each thread had begun a block or two when the first was reported.
    assert 0 < sum(selected) < NUM_ITEMS


def test_the_tail_of_a_sample_counts_too():
    seen = []
    hardness = np.where(np.arange(NUM_ITEMS) < 1000, 1.0, 0.5)  # at hardness 1 the rank is lost in a sample
    mine(
        BANK, PAIRS, anchors_T=ALL, hardness_T=hardness, scale="rank", method="sampled", num_sampled=512,
        progress=lambda done, _: seen.append(done),
    )  # fmt: skip
    assert 2000 in seen
    assert max(d for d in seen if d < NUM_ITEMS) > 2000


def test_a_stage_is_worth_no_more_than_what_is_left():
    seen = []
    meter = Meter(lambda done, total: seen.append((done, total)), 10)
    first = meter.stage(8)
    first(1, 3), first(3, 3)
    second = meter.stage(5)
    assert meter.left == 2
    second(1, 2)
    meter.finish(), meter.finish()
    assert seen == [(2, 10), (8, 10), (9, 10), (10, 10)]
