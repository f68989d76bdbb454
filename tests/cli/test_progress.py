"""The time left: of a measured pace, without what a job's start takes."""

import io

import pytest
from rich.console import Console

from mohs.cli import progress as shown
from mohs.cli.progress import TimeLeft, in_time


def reports(first_s: float, step_s: float, total: int, begin: int = 0) -> list[tuple[int, float]]:
    return [(begin + i + 1, first_s + i * step_s) for i in range(total - begin)]


@pytest.mark.parametrize("first_s", [0.0, 4.0, 60.0])
def test_what_the_first_step_takes_is_not_counted(first_s: float) -> None:
    left = TimeLeft()
    found = [(done, left.at(done, 100, now_s)) for done, now_s in reports(first_s, 0.12, 100)]
    assert all(left_s is None for done, left_s in found if done < 12)  # 0.12 s each, nothing before a second
    assert all(left_s == pytest.approx((100 - done) * 0.12, abs=0.01) for done, left_s in found if done >= 12)
    assert found[-1][1] == 0.0


def test_what_was_done_before_a_job_was_taken_up_is_not_counted() -> None:
    left = TimeLeft()
    found = [left.at(done, 1000, now_s) for done, now_s in reports(9.0, 0.5, 920, begin=900)]
    assert found[-1] == pytest.approx(80 * 0.5)


def test_pauses_between_steps_count() -> None:
    left = TimeLeft()
    now_s, last = 0.0, None
    for step in range(1, 61):  # after each tenth step a segment is planned, for ten times as long as a step
        now_s += 1.0 if step % 10 else 11.0
        last = left.at(step, 100, now_s)
    assert last == pytest.approx(40 * 2.0, rel=0.1)


def test_a_clock_that_stands_or_a_count_that_does_not_move_says_nothing() -> None:
    left = TimeLeft()
    assert [left.at(5, 10, float(i)) for i in range(6)] == [None] * 6
    other = TimeLeft()
    assert [other.at(i, 10, 1.0) for i in range(6)] == [None] * 6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s left"), (0.2, "1 s left"), (59.9, "1 min 0 s left"), (3599.5, "1 h 0 min left"), (None, "")],
)
def test_in_time(seconds: float | None, text: str) -> None:
    assert in_time(seconds) == text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_every_ten_seconds(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(shown, "say", said.append)
    with shown.counting_progress("embedding", quiet=False) as progress:
        assert progress is not None
        for done in range(1, 26):
            clock[0] += 1.0
            progress(done * 100, 2500)
    assert said == ["embedding: 1,000 of 2,500  15 s left", "embedding: 2,000 of 2,500  5 s left"]
    with shown.counting_progress("embedding", quiet=True) as progress:
        assert progress is None


def test_a_terminal_has_a_bar_with_the_time_left(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        shown, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100, color_system=None)
    )
    with shown.counting_progress("comparing", quiet=False) as progress:
        assert progress is not None
        for done in range(1, 8):
            clock[0] += 2.0
            progress(done, 10)
    assert "comparing" in screen.getvalue()
    assert "6 s left" in screen.getvalue()
