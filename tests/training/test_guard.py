"""The guard: quiet over healthy runs, early over dying ones, and the same after a checkpoint."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.training.guard import BankHealth, CollapseGuard, StepHealth, Verdict, bank_recall


def step(*, loss: float = 0.1, spread: float = 0.9, collapsed_loss: float | None = 0.2) -> StepHealth:
    return StepHealth(
        loss=loss,
        collapsed_loss=collapsed_loss,
        spread=spread,
        active_fraction=0.5,
        gradient_norm=1.0,
        positive_distance=0.5,
        negative_distance=0.9,
    )


def bank(
    *, spread: float = 0.9, recall: float | None = 0.5, num_queries: int = 1000, effective_rank: float = 30.0
) -> BankHealth:
    return BankHealth(spread=spread, effective_rank=effective_rank, recall=recall, num_queries=num_queries)


def verdicts(guard: CollapseGuard, spreads: list[float], loss: float = 0.1) -> list[tuple[int, Verdict]]:
    found = [(i, guard.after_step(step(loss=loss, spread=spread))) for i, spread in enumerate(spreads)]
    return [(i, verdict) for i, verdict in found if verdict is not None]


def test_a_healthy_run_hears_nothing() -> None:
    guard = CollapseGuard()
    rng = np.random.default_rng(0)
    assert verdicts(guard, list(0.9 + 0.05 * rng.standard_normal(500))) == []
    assert all(guard.after_bank(bank(recall=0.5 + 0.02 * rng.standard_normal())) is None for _ in range(50))


def test_a_shrinking_embedding_is_warned_of_before_it_is_called_collapsed() -> None:
    found = verdicts(CollapseGuard(), [0.9] * 20 + list(np.linspace(0.9, 0.01, 60)) + [0.01] * 20)
    levels = [verdict.level for _, verdict in found]
    assert levels[0] == "warning"
    assert levels.count("warning") == 1  # once, and then not again
    assert levels.count("collapse") == 1
    first_collapse = levels.index("collapse")
    assert found[0][0] + 5 < found[first_collapse][0]
    assert found[0][1].signal == "batch spread"
    assert found[0][1].numbers["mean_spread"] < 0.5 * found[0][1].numbers["largest_spread"]


def test_growing_is_not_collapsing() -> None:
    assert verdicts(CollapseGuard(), list(np.linspace(0.05, 0.9, 100))) == []


def test_a_network_that_begins_near_a_point_has_not_collapsed() -> None:
    guard = CollapseGuard()
    assert guard.after_bank(bank(spread=0.01)) is None
    assert guard.after_bank(bank(spread=0.008)) is None
    assert verdicts(guard, [0.01] * 30) == []
    assert guard.after_bank(bank(spread=0.03)) is None
    verdict = guard.after_bank(bank(spread=0.01))
    assert verdict is not None
    assert verdict.level == "collapse"


def test_one_bad_batch_is_not_a_collapse() -> None:
    assert verdicts(CollapseGuard(), [0.9] * 30 + [0.1] + [0.9] * 30) == []


def test_a_warning_is_given_again_after_recovery() -> None:
    found = verdicts(CollapseGuard(), [0.9] * 20 + [0.35] * 30 + [0.9] * 40 + [0.35] * 30)
    assert [verdict.level for _, verdict in found] == ["warning", "warning"]


def test_a_loss_at_its_collapsed_value_counts_only_while_the_spread_is_low() -> None:
    assert verdicts(CollapseGuard(), [0.9] * 200, loss=0.2) == []
    found = verdicts(CollapseGuard(), [0.3] * 200, loss=0.2)
    assert [verdict.signal for _, verdict in found][:1] == ["loss"]
    # It may be a stall only: once told, and no reason to act.
    assert [verdict.level for _, verdict in found] == ["warning"]
    assert verdicts(CollapseGuard(), [0.3] * 200, loss=0.1) == []


def test_a_fall_of_recall_over_a_few_queries_is_chance() -> None:
    for num_queries, expected in ((20, None), (99, None), (1000, "collapse")):
        guard = CollapseGuard()
        guard.after_bank(bank(recall=0.65, num_queries=num_queries))
        verdict = guard.after_bank(bank(recall=0.2, num_queries=num_queries))
        assert (verdict and verdict.level) == expected


def test_recall_that_falls_beyond_chance() -> None:
    guard = CollapseGuard()
    assert guard.after_bank(bank(recall=0.6)) is None
    assert guard.after_bank(bank(recall=0.5)) is None
    warning = guard.after_bank(bank(recall=0.4))
    assert warning is not None
    assert (warning.level, warning.signal) == ("warning", "recall")
    assert warning.cause == "R@1 of training pictures in the bank fell from 0.600 to 0.400 (1,000 queries)"
    collapse = guard.after_bank(bank(recall=0.2))
    assert collapse is not None
    assert collapse.level == "collapse"
    # What does not come back by the next bank is lost.
    lasting = CollapseGuard()
    levels = []
    for recall in (0.6, 0.45, 0.5, 0.45, 0.45, 0.45):
        verdict = lasting.after_bank(bank(recall=recall))
        levels.append(verdict and verdict.level)
    assert levels == [None, "warning", None, "warning", "collapse", None]
    # The same fall over few queries may be chance.
    few = CollapseGuard()
    assert few.after_bank(bank(recall=0.6, num_queries=10)) is None
    assert few.after_bank(bank(recall=0.4, num_queries=10)) is None


def test_a_line_is_a_collapse_though_the_spread_grows() -> None:
    guard = CollapseGuard()
    assert guard.after_bank(bank(spread=0.1, recall=0.1, num_queries=771)) is None
    # Few directions at a recall that was kept: two classes on a line, or a network that learns coarse things first.
    assert guard.after_bank(bank(spread=0.5, recall=0.1, num_queries=771, effective_rank=1.3)) is None
    assert guard.after_bank(bank(spread=0.5, recall=0.09, num_queries=771, effective_rank=2.6)) is None
    warning = guard.after_bank(bank(spread=0.5, recall=0.06, num_queries=771, effective_rank=2.6))
    assert warning is not None
    assert (warning.level, warning.signal) == ("warning", "effective rank")
    collapse = guard.after_bank(bank(spread=0.6, recall=0.06, num_queries=771, effective_rank=1.3))
    assert collapse is not None
    assert (collapse.level, collapse.signal) == ("collapse", "effective rank")
    assert collapse.cause == (
        "the effective rank of the bank is 1.3 (1 is a line), and R@1 of training pictures fell from 0.100 to 0.060 "
        "(771 queries)"
    )
    assert collapse.numbers["best_recall"] == 0.1
    # On a line a loss is warned of before it is large: over so many queries it may not show yet.
    early = CollapseGuard()
    assert early.after_bank(bank(spread=0.1, recall=0.1, num_queries=771)) is None
    warning = early.after_bank(bank(spread=0.5, recall=0.09, num_queries=771, effective_rank=1.3))
    assert warning is not None
    assert (warning.level, warning.signal) == ("warning", "effective rank")
    assert early.after_bank(bank(spread=0.5, recall=0.09, num_queries=771, effective_rank=1.3)) is None  # said once
    # So it is where nearly all directions are gone and recall is lost by more than chance.
    fallen = CollapseGuard()
    assert fallen.after_bank(bank(recall=0.1, effective_rank=44.0)) is None
    assert fallen.after_bank(bank(recall=0.095, effective_rank=4.2)) is None  # a standard error is 0.0095
    assert fallen.after_bank(bank(recall=0.085, effective_rank=6.0)) is None
    warning = fallen.after_bank(bank(recall=0.085, effective_rank=4.2))
    assert warning is not None
    assert (warning.level, warning.signal) == ("warning", "effective rank")
    restored = CollapseGuard()
    restored.restore(fallen.state() | {"told": []})
    assert restored.after_bank(bank(recall=0.085, effective_rank=4.2)) == warning
    # Over few queries such a fall may be chance.
    few = CollapseGuard()
    assert few.after_bank(bank(recall=1.0, num_queries=4)) is None
    chance = few.after_bank(bank(recall=0.75, num_queries=4, effective_rank=1.2))
    assert chance is not None
    assert chance.level == "warning"


def test_a_small_bank_is_not_compared_by_recall() -> None:
    guard = CollapseGuard()
    assert guard.after_bank(bank(recall=0.4, num_queries=1000)) is None
    assert guard.after_bank(bank(recall=0.9, num_queries=800)) is None  # easier: fewer classes to confuse
    assert guard.after_bank(bank(recall=0.4, num_queries=1000)) is None
    verdict = guard.after_bank(bank(recall=0.1, num_queries=950))
    assert verdict is not None
    assert verdict.numbers["best_recall"] == 0.4


def test_a_bank_is_unhealthy_for_as_long_as_it_shows_a_sign_warned_of_or_not() -> None:
    guard = CollapseGuard()
    seen = []
    for spread in (0.9, 0.4, 0.4, 0.85):
        verdict = guard.after_bank(bank(spread=spread, recall=0.6))
        seen.append((verdict is None, guard.bank_is_healthy))
    assert seen == [(True, True), (False, False), (True, False), (True, True)]
    assert guard.after_bank(bank(recall=0.55)) is None
    assert not guard.bank_is_healthy  # no sign, but not as good as it was: what is gone back to should be
    assert guard.after_bank(bank(recall=0.59, effective_rank=2.5)) is None
    assert not guard.bank_is_healthy  # near a line only the best will do
    assert guard.after_bank(bank(recall=0.6, effective_rank=2.5)) is None
    assert guard.bank_is_healthy
    guard.acted()  # it looks away, but is not blind
    assert guard.after_bank(bank(recall=0.1)) is None
    assert not guard.bank_is_healthy


def test_classes_of_one_picture_have_no_recall_and_are_judged_by_spread() -> None:
    guard = CollapseGuard()
    assert guard.after_bank(bank(recall=None, num_queries=0)) is None
    verdict = guard.after_bank(bank(spread=0.1, recall=None, num_queries=0))
    assert verdict is not None
    assert (verdict.level, verdict.signal) == ("collapse", "bank spread")
    assert guard.after_bank(bank(spread=0.7, recall=None, num_queries=0)) is None
    assert not guard.bank_is_healthy  # less than 4/5 of the spread
    assert guard.after_bank(bank(spread=0.8, recall=None, num_queries=0)) is None
    assert guard.bank_is_healthy


def test_after_an_action_it_looks_away_for_a_while() -> None:
    guard = CollapseGuard()
    verdicts(guard, [0.9] * 20)
    guard.acted()
    assert guard.after_bank(bank(spread=0.001)) is None
    found = verdicts(guard, [0.05] * 60)
    assert found[0][0] >= 29
    assert found[0][1].level == "collapse"


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=80), st.integers(0, 79))
def test_a_restored_guard_judges_like_the_one_that_went_on(spreads: list[float], cut: int) -> None:
    cut = min(cut, len(spreads))
    whole, first, second = CollapseGuard(), CollapseGuard(), CollapseGuard()
    expected = verdicts(whole, spreads)
    before = verdicts(first, spreads[:cut])
    second.restore(first.state())
    after = [(i + cut, verdict) for i, verdict in verdicts(second, spreads[cut:])]
    assert before + after == expected
    assert second.state() == whole.state()


def test_a_restored_guard_judges_banks_like_the_one_that_went_on() -> None:
    whole, second = CollapseGuard(), CollapseGuard()
    for recall in (0.6, 0.4):
        whole.after_bank(bank(recall=recall))
    second.restore(whole.state())
    assert not second.bank_is_healthy
    for recall, num_queries in ((0.4, 1000), (0.9, 500), (0.2, 1000)):
        now = bank(recall=recall, num_queries=num_queries)
        assert second.after_bank(now) == whole.after_bank(now)
    assert second.state() == whole.state()


@pytest.mark.parametrize("num_classes", [2, 40])
def test_bank_recall_of_perfect_useless_and_collapsed_banks(num_classes: int) -> None:
    class_N = np.repeat(np.arange(num_classes), 3)
    centre_CD = np.random.default_rng(0).standard_normal((num_classes, 8)).astype(np.float32)
    assert bank_recall(centre_CD[class_N], class_N, seed=0) == (1.0, num_classes)
    # Items at the centre of the next class: the nearest is always wrong.
    wrong_ND = centre_CD[(class_N + np.tile([0, 1, 0], num_classes)) % num_classes]
    assert bank_recall(wrong_ND, class_N, seed=0)[0] < 1.0
    assert bank_recall(np.ones_like(wrong_ND), class_N, seed=0) == (0.0, num_classes)


def test_bank_recall_equals_brute_force() -> None:
    rng = np.random.default_rng(1)
    class_N = rng.permutation(np.repeat(np.arange(30), 2))
    x_ND = rng.standard_normal((60, 4)).astype(np.float32)
    distance_NN = np.linalg.norm(x_ND[:, None].astype(float) - x_ND[None], axis=2)
    np.fill_diagonal(distance_NN, math.inf)
    hit_N = class_N[distance_NN.argmin(1)] == class_N
    recall, num_queries = bank_recall(x_ND, class_N, seed=0)
    assert num_queries == 30
    assert recall is not None
    # One of the two items of each class is the query; the hits are of those.
    assert hit_N.reshape(-1).sum() >= recall * 30 >= hit_N.sum() - 30
    singles = bank_recall(x_ND[:3], np.arange(3), seed=0)
    assert singles == (None, 0)
