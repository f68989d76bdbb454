"""The nearest and the farthest positive."""

import numpy as np
import pytest
from oracle import oracle_positives

from mohs.errors import InputError
from mohs.mining import mine, positives
from mohs.mining.problem import Hardness, make_problem
from mohs.plan import POSITIVE_ORIGINS
from mohs.shards import ShardLayout, open_shards, write_shards


def mined(bank, labels, anchors, rule, **more):
    return mine(bank, labels, anchors_T=anchors, hardness_T=0.5, scale="rank", positive_rule=rule, **more)


def test_hard_positives_are_farther_than_easy_ones_and_random_ones_lie_between():
    bank = np.random.default_rng(0).normal(size=(600, 5)).astype(np.float32)
    labels, anchors = np.arange(600) // 12, np.arange(600)
    easy, random, hard = (
        mined(bank, labels, anchors, rule).anchor_positive_distance for rule in ("easy", "random", "hard")
    )
    assert (easy <= random).all()
    assert (random <= hard).all()
    assert easy.mean() < random.mean() - 0.5 < hard.mean() - 1.0


def test_ties_go_to_the_lower_index_and_who_is_alone_is_augmented():
    bank = np.float32([[1.0], [0.0], [-1.0], [1.0], [9.0], [2.0], [-2.0], [-2.0]])
    labels = ["a", "a", "a", "a", "b", "a", "a", "a"]
    for rule, expected in (("easy", [0, 4, 3, 7]), ("hard", [5, 4, 6, 5])):
        plan = mined(bank, labels, [1, 4, 0, 6], rule)
        assert plan.positive.tolist() == expected
        origin = [POSITIVE_ORIGINS[o] for o in plan.positive_origin]
        assert origin == ["class", "augmentation", "class", "class"]
        assert plan.header["positive_rule"] == rule
    assert mined(bank, labels, [1], "random").header["positive_rule"] == "random"
    assert mined(bank, labels, [1], "random", positives_T=[0]).header["positive_rule"] == "given"


def test_positives_need_not_be_candidates():
    bank = np.float32([[0.0], [1.0], [3.0], [9.0]])
    plan = mined(bank, ["a", "a", "a", "b"], [0, 0], "hard", candidates=[3], excluded_pairs=[[0, 2]])
    assert plan.positive.tolist() == [2, 2]


@pytest.mark.parametrize("rule", ["easy", "hard"])
@pytest.mark.parametrize("spread", [1.0, 1e-5])
def test_a_large_class_is_searched_by_products_with_the_same_result(rule, spread, monkeypatch):
    rng = np.random.default_rng(3)
    bank = np.rint(rng.normal(size=(1500, 3)) * 4).astype(np.float32)  # plenty of ties
    bank = bank * np.float32(spread) + np.float32([1.0, 2.0, 3.0])
    labels = rng.choice([0, 0, 0, 1, 2], 1500)
    anchors = np.concatenate([np.arange(200), np.arange(20)])
    calls = []
    by_mining = positives._by_mining
    monkeypatch.setattr(positives, "_by_mining", lambda *a: calls.append(len(a[1])) or by_mining(*a))
    plan = mined(bank, labels, anchors, rule)
    assert calls == [(labels == 0).sum()]  # the others are small
    np.testing.assert_array_equal(plan.positive, oracle_positives(bank, labels, anchors_T=anchors, rule=rule))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positive_rule": "far"}, "positive_rule: 'far' is not one of 'random', 'easy', 'hard'"),
        (
            {"positive_rule": "hard", "positives_T": [1]},
            "positive_rule: 'hard' chooses positives, but positives_T gives them; leave one of the two out",
        ),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(InputError) as caught:
        mine(np.float32([[0.0], [1.0], [2.0]]), ["a", "a", "b"], anchors_T=[0], hardness_T=0.5, **change)
    assert str(caught.value) == message


@pytest.mark.parametrize("rule", ["easy", "hard"])
def test_rows_in_shards_are_read_some_classes_at_a_time(rule, tmp_path, monkeypatch):
    """With the positives of a bank in memory; one class of many rows is read whole."""
    rng = np.random.default_rng(0)
    bank = np.rint(rng.normal(size=(500, 3)) * 4).astype(np.float32)
    labels = np.concatenate([np.full(100, 40), rng.integers(0, 90, 400)])
    anchors = np.concatenate([rng.permutation(500)[:120], [0, 0]])
    write_shards(tmp_path, ShardLayout(500, (3,), "float32", 70), {}, lambda start, stop: bank[start:stop])
    shards = open_shards(tmp_path)
    read: list[int] = []
    get = type(shards).__getitem__

    def counted(self, index):
        if not isinstance(index, slice):
            read.append(len(index))
        return get(self, index)

    monkeypatch.setattr(positives, "_BYTES_AT_ONCE", 12 * 30)
    expected = mined(bank, labels, anchors, rule)
    problem = make_problem(shards, labels, anchors_T=anchors, wanted=Hardness(0.5, "rank"))
    monkeypatch.setattr(type(shards), "__getitem__", counted)
    positive, origin = positives.positives_by_distance(problem, rule)
    np.testing.assert_array_equal(positive, expected.positive)
    np.testing.assert_array_equal(origin, expected.positive_origin)
    assert len(read) > 5
    assert max(read) <= 100 + 2 * 30
    assert sorted(read)[-2] <= 2 * 30
