"""Pairs that a review has ruled out."""

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.hardness.scales import SCALES
from mohs.mining import exclusions, mine
from mohs.mining.exclusions import TilePairs, make_exclusions

BANK = np.float32([[0.0], [0.1], [1.0], [3.0]])
LABELS = ["a", "a", "b", "c"]


def test_only_the_pairs_that_matter_are_kept_once():
    class_N, candidates = np.array([0, 1, 0, 1, 2]), np.array([2, 1, 3])  # by class
    pairs = [[4, 1], [0, 3], [0, 3], [0, 1], [0, 2], [1, 3], [1, 2], [1, 0], [3, 4]]
    kept = make_exclusions(pairs, class_N, candidates)
    assert kept.anchor_E.tolist() == [0, 0, 1, 4]
    assert candidates[kept.column_E].tolist() == [1, 3, 2, 1]
    assert kept.counts(np.array([4, 0, 2, 0])).tolist() == [1, 2, 0, 2]
    for none in (None, [], np.empty((0, 2), dtype=np.int64)):
        assert len(make_exclusions(none, class_N, candidates)) == 0


def test_tiles_meet_each_pair_where_a_sweep_multiplies_it():
    pairs = exclusions.Exclusions(np.array([0, 0, 1, 5]), np.array([1, 5, 0, 2]))
    place = np.array([0, 1, 2, 3, 4, 6, 5])  # item 5 stands at 6
    tiles = TilePairs(pairs, place, tile=2)
    met = {(i, j): list(zip(*tiles.within(i, j), strict=True)) for i in range(4) for j in range(i, 4)}
    assert {key: sorted(map(tuple, np.array(value).tolist())) for key, value in met.items() if value} == {
        (0, 0): [(0, 1), (0, 1), (1, 0), (1, 0)],
        (0, 2): [(0, 1)],
        (1, 3): [(0, 0)],
    }
    assert tiles.allowed_P2.tolist() == [[5, 0], [2, 6]]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("num_anchors", [50, 1200])  # blocks, sweeps
def test_an_excluded_pair_never_appears(scale, num_anchors):
    """What was chosen is ruled out, again and again: each time something else takes its place, no nearer for h = 1."""
    bank = np.random.default_rng(0).normal(size=(1200, 8)).astype(np.float32)
    anchors, labels = np.arange(num_anchors), np.arange(1200) // 3
    options = {"anchors_T": anchors, "hardness_T": 1.0, "scale": scale, "seed": 1}
    options |= {"margin": 0.1, "positives_T": anchors} if scale == "margin" else {}
    excluded, before = np.empty((0, 2), dtype=np.int64), np.zeros(num_anchors)
    for _ in range(3):
        plan = mine(bank, labels, **options, excluded_pairs=excluded)
        chosen = np.stack([plan.anchor, plan.negative], axis=1)
        assert not set(map(tuple, chosen.tolist())) & set(map(tuple, excluded.tolist()))
        assert (plan.anchor_negative_distance >= before).all()
        assert plan.header["num_excluded_pairs"] == len(excluded)
        excluded, before = np.concatenate([excluded, chosen]), plan.anchor_negative_distance


def test_order_matters_and_pairs_without_effect_have_none():
    def negatives(*pairs):
        return mine(BANK, LABELS, anchors_T=[0, 2], hardness_T=1.0, excluded_pairs=pairs).negative.tolist()

    assert negatives() == [2, 1]
    assert negatives((0, 2)) == [3, 1]
    assert negatives((2, 0)) == [2, 1]
    assert negatives((2, 1), (1, 2)) == [2, 0]
    assert negatives((0, 1), (1, 0), (2, 2)) == [2, 1]


def test_what_remains_is_what_ranks_count():
    bank = np.arange(12, dtype=np.float32)[:, None]
    plan = mine(
        bank, np.arange(12), anchors_T=[0], hardness_T=0.5, scale="rank", excluded_pairs=[[0, 1], [0, 2], [0, 7]]
    )
    assert plan.negative.tolist() == [8]  # rint(0.5 · 7) = 4, of 3 4 5 6 8 …
    assert plan.achieved_hardness[0] == np.float32(1 - 4 / 7)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            [[0, 2], [1, 3], [0, 3]],
            "excluded_pairs: anchor 0 (position 1) of class 'a' has no negative left: the excluded pairs take all 2 of "
            "them (1 such anchors); exclude fewer, add candidates of other classes or leave these anchors out",
        ),
        (
            [[0, 2], [1, 4], [-1, 3]],
            "excluded_pairs: 4 in row 1, column 1, is not an item index in [0, 4) (2 such values)",
        ),
        (
            [0, 2],
            "excluded_pairs: int64[2] is not a list of pairs of item indices; give integers [P, 2], (anchor item, "
            "other item)",
        ),
        (
            [[0.0, 2.0]],
            "excluded_pairs: float64[1, 2] is not a list of pairs of item indices; give integers [P, 2], (anchor item, "
            "other item)",
        ),
    ],
)
def test_bad_input_is_named(pairs, message):
    with pytest.raises(InputError) as caught:
        mine(BANK, LABELS, anchors_T=[2, 0], hardness_T=0.5, excluded_pairs=pairs)
    assert str(caught.value) == message
