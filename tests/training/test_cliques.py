"""Cliques: the rule by an oracle, nobody lost or twice, and nobody beside one whom they may not meet."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import mohs
from mohs.errors import InputError
from mohs.plan import TripletPlan
from mohs.training.cliques import MineAmong, Pairs, find_cliques


def mine_by(x_ND: NDArray[np.float32], class_N: NDArray[np.int64], hardness: float = 1.0) -> MineAmong:
    """Mine at one hardness on log-rank; triplet t is of item t, and its own positive."""

    def mined(rows_R: NDArray[np.int64], among_A: NDArray[np.int64], num: int) -> TripletPlan:
        return mohs.mine(
            x_ND,
            class_N,
            anchors_T=rows_R,
            positives_T=rows_R,
            hardness_T=hardness,
            scale="log-rank",
            candidates=among_A,
            num_negatives=num,
        )

    return mined


def points(num: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((num, 3)).astype(np.float32)


def greedy(x_ND: NDArray[np.float32], size: int) -> list[tuple[int, ...]]:
    """The rule in words: the first that waits, with those nearest to it that wait."""
    waiting = list(range(len(x_ND)))
    cliques = []
    while waiting:
        first = waiting.pop(0)
        near = sorted(waiting, key=lambda t: (float(np.linalg.norm(x_ND[first].astype(float) - x_ND[t])), t))
        mates = near[: size - 1]
        cliques.append((first, *mates))
        waiting = [t for t in waiting if t not in mates]
    return cliques


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("num", "size"), [(16, 4), (17, 4), (12, 3), (9, 8), (2, 4)])
def test_the_nearest_that_wait_are_mates(num: int, size: int, seed: int) -> None:
    """Where all that wait are sought for each, asking for many at once changes nothing."""
    x_ND = points(num, seed)
    found, distrusted = find_cliques(np.arange(num), np.arange(num), size, mine_by(x_ND, np.arange(num)))
    assert [clique.triplets for clique in found] == greedy(x_ND, size)
    assert distrusted.shape == (0, 2)


def test_a_lower_hardness_passes_over_the_nearest() -> None:
    x_ND = np.float32([[t] for t in range(41)])
    # M = 40 others: 40^(1 − h) − 1 = 3 of them are passed over.
    hardness = 1 - np.log(4) / np.log(40)
    found, _ = find_cliques(np.arange(41), np.arange(41), 3, mine_by(x_ND, np.arange(41), hardness))
    assert [clique.triplets for clique in found[:2]] == [(0, 4, 5), (1, 6, 7)]
    assert found[0].achieved_hardness[0] == pytest.approx(hardness, abs=1e-6)
    assert found[0].achieved_hardness[1] < hardness


def test_cliques_are_nearer_than_chance_and_fewer_are_left_alone() -> None:
    """600 points: the distance to the first one's mates is far under that of random groups; nearly all have mates."""
    x_ND = points(600, 0)
    found, _ = find_cliques(np.arange(600), np.arange(600), 8, mine_by(x_ND, np.arange(600)))
    inside = [np.linalg.norm(x_ND[c.triplets[0]] - x_ND[list(c.triplets[1:])], axis=1).mean() for c in found[:60]]
    across = np.linalg.norm(x_ND[:300] - x_ND[300:], axis=1).mean()
    assert np.mean(inside) < 0.4 * across
    assert np.mean([len(c.triplets) == 8 for c in found]) > 0.95


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=40),
    st.integers(1, 9),
    st.integers(0, 2**16),
)
def test_every_triplet_once_and_every_class_once_in_a_clique(
    shown: list[tuple[int, int]], size: int, seed: int
) -> None:
    """Items may come several times, and all of one class may be left; each item here is of the class item // 2."""
    item_K = np.array([4 * a + b for a, b in shown])
    class_N = np.arange(24) // 2
    random = np.random.default_rng(seed)
    apart_KK = random.random((len(item_K), len(item_K))) < 0.2
    pairs = Pairs(apart=lambda t, u: bool(apart_KK[t, u] or apart_KK[u, t]))
    x_ND = points(24, seed)
    found, _ = find_cliques(item_K, class_N[item_K], size, of_items(item_K, mine_by(x_ND, class_N)), pairs)
    assert sorted(t for clique in found for t in clique.triplets) == list(range(len(item_K)))
    for clique in found:
        classes = class_N[item_K[list(clique.triplets)]]
        assert len(clique.triplets) <= size
        assert len(set(classes.tolist())) == len(classes)
        assert len(clique.achieved_hardness) == len(clique.triplets) - 1
        assert not any(pairs.apart(t, u) for t in clique.triplets for u in clique.triplets if t != u)


def of_items(item_K: NDArray[np.int64], mined: MineAmong) -> MineAmong:
    def by_triplet(rows_R: NDArray[np.int64], among_A: NDArray[np.int64], num: int) -> TripletPlan:
        return mined(item_K[rows_R], among_A, num)

    return by_triplet


def test_what_is_too_near_is_no_mate_and_is_told() -> None:
    """Items 0 and 1 lie nearer than 0's positive; 2 does not."""
    x_ND = np.float32([[0], [0.1], [3], [2], [50], [51]])

    def mined(rows_R: NDArray[np.int64], among_A: NDArray[np.int64], num: int) -> TripletPlan:
        return mohs.mine(
            x_ND,
            np.array([0, 1, 2, 0, 4, 5]),
            anchors_T=rows_R,
            positives_T=np.where(rows_R == 0, 3, rows_R),
            hardness_T=1.0,
            scale="log-rank",
            candidates=among_A,
            num_negatives=num,
        )

    found, distrusted = find_cliques([0, 1, 2, 4, 5][:3], [0, 1, 2], 2, mined, Pairs(min_distance_ratio=0.5))
    assert found[0].triplets == (0, 2)
    assert distrusted.tolist() == [[0, 1]]


def test_one_whose_negatives_are_all_excluded_keeps_nobody_waiting() -> None:
    x_ND = points(9, 0)
    excluded_K = np.array([9] + [0] * 8)
    found, _ = find_cliques(
        np.arange(9), np.arange(9), 4, mine_by(x_ND, np.arange(9)), Pairs(num_excluded_K=excluded_K)
    )
    assert sorted(t for clique in found for t in clique.triplets) == list(range(9))
    assert max(len(clique.triplets) for clique in found) == 4


def test_columns_of_different_length() -> None:
    with pytest.raises(InputError, match=r"^class_K: 1 classes for 2 triplets; give one for each$"):
        find_cliques([0, 1], [0], 2, mine_by(points(2, 0), np.arange(2)))


def test_a_triplet_that_may_be_nobodys_negative_still_begins_a_clique() -> None:
    x_ND = points(6, 0)
    found, _ = find_cliques([-1, 1, 2, 3, -1, 5], np.arange(6), 2, of_items(np.arange(6), mine_by(x_ND, np.arange(6))))
    assert sorted(t for clique in found for t in clique.triplets) == list(range(6))
    assert {0, 4} == {clique.triplets[0] for clique in found if {0, 4} & set(clique.triplets)}
