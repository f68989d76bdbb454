"""Every value is worked on once; few wait at a time, and an error stops what has not begun."""

import threading
from collections.abc import Sequence

import pytest

from mohs.mining.threads import for_each


class Counted(Sequence):
    """The numbers below `count`, which notes how far it has been read."""

    def __init__(self, count):
        self.count, self.num_read = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        self.num_read = max(self.num_read, index + 1)
        return index


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_value_is_worked_on_once_and_ticked_in_order(threads):
    done, ticks = [], []
    for_each(done.append, range(1000), threads, lambda *counts: ticks.append(counts))
    assert sorted(done) == list(range(1000))
    assert ticks == [(count, 1000) for count in range(1, 1001)]


@pytest.mark.parametrize("threads", [1, 2])
def test_no_values_are_no_work(threads):
    done, ticks = [], []
    for_each(done.append, [], threads, lambda *counts: ticks.append(counts))
    assert done == ticks == []


def test_few_values_wait_so_that_memory_does_not_grow_with_their_number():
    values, ahead = Counted(5000), []
    for_each(lambda _: None, values, 2, lambda count, _: ahead.append(values.num_read - count))
    assert values.num_read == 5000
    assert max(ahead) < 32


def test_behind_a_value_that_takes_long_the_other_thread_goes_on():
    others = threading.Semaphore(0)

    def work(value):
        if value:
            others.release()
        else:
            assert all(others.acquire(timeout=20) for _ in range(10))

    for_each(work, range(40), 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_stops_what_has_not_begun(threads):
    done = []

    def work(value):
        if value == 3:
            raise ZeroDivisionError
        done.append(value)

    with pytest.raises(ZeroDivisionError):
        for_each(work, range(10_000), threads)
    assert len(done) < 100
