import numpy as np
import pytest
import torch

from mohs.errors import InputError
from mohs.evaluation.pair_scores import pair_scores

SAME = [True, False, True]


def test_a_distance_is_turned_and_a_similarity_is_not():
    assert pair_scores(SAME, distance_P=[0.1, 0.5, 0.2]).closeness.tolist() == [-0.1, -0.5, -0.2]
    assert pair_scores(SAME, similarity_P=[0.1, -0.5, 0.2]).closeness.tolist() == [0.1, -0.5, 0.2]
    assert pair_scores(SAME, distance_P=[0.1, 0.5, 0.2]).in_units(-0.5) == 0.5
    assert pair_scores(SAME, similarity_P=[0.1, 0.5, 0.2]).in_units(-0.5) == -0.5


def test_torch_numpy_and_integers_are_taken():
    scores = pair_scores(torch.tensor([1, 0]), distance_P=torch.tensor([1.5, 2.0], requires_grad=True))
    assert scores.same_P.tolist() == [True, False]
    assert scores.value_P.tolist() == [1.5, 2.0]
    assert scores.weight_P.tolist() == [1.0, 1.0]


def test_prevalence_and_weights_count_by_weight():
    scores = pair_scores(SAME, similarity_P=[1, 2, 3], weight_P=[1.0, 6.0, 1.0])
    assert scores.prevalence == 0.25
    assert scores.weights_at(0.5).tolist() == [0.25, 0.5, 0.25]
    assert scores.weight_P.tolist() == [1.0, 6.0, 1.0]


def test_how_many_negatives_a_rate_rests_on():
    num = 1000
    same = np.arange(num + 1) == 0
    scores = pair_scores(same, similarity_P=np.arange(num + 1.0))
    counts = [round(count, 6) for count, _ in scores.closest_negatives((0.1, 0.01, 0.001, 1e-4))]
    assert counts == [100, 10, 1, 0]
    assert [not reason for _, reason in scores.closest_negatives((0.1, 0.01, 0.00999))] == [True, True, False]
    # 0.29 · 100 is a little less than 29.
    [(count, _)] = pair_scores(same[:101], similarity_P=np.arange(101.0)).closest_negatives((0.29,))
    assert count == 29
    # 50 close ones that stand for themselves, and far ones that stand for 100 each.
    weight = np.where(np.arange(num + 1) > num - 50, 1.0, 100.0)
    scores = pair_scores(same, similarity_P=np.arange(num + 1.0), weight_P=weight)
    total = weight[1:].sum()
    [(close, _), (mixed, _)] = scores.closest_negatives((40 / total, 250 / total))
    assert close == pytest.approx(40)
    assert mixed == pytest.approx((50 + 200) ** 2 / (50 + 2 * 100**2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {},
            "distance_P, similarity_P: neither is given; "
            "give distance_P if smaller is closer, similarity_P if larger is",
        ),
        (
            {"distance_P": [1, 2, 3], "similarity_P": [1, 2, 3]},
            "distance_P, similarity_P: both are given; give distance_P if smaller is closer, similarity_P if larger is",
        ),
        ({"distance_P": [1, -2, -3]}, "distance_P: -2 of pair 1 is negative (2 in all); is it a similarity_P?"),
        (
            {"similarity_P": [1, 2, np.nan]},
            "similarity_P: nan of pair 2 is not finite (1 in all); leave the pair out, or embed its items again",
        ),
        (
            {"distance_P": [1, np.inf, 0]},
            "distance_P: inf of pair 1 is not finite (1 in all); leave the pair out, or embed its items again",
        ),
        (
            {"similarity_P": [1, 2]},
            "similarity_P: shape (2,) and type int64; give one number for each of the 3 pairs",
        ),
        (
            {"similarity_P": [1, 2, 3], "weight_P": [1, 0, 1]},
            "weight_P: 0 of pair 1 is not above 0 (1 in all); leave the pair out",
        ),
    ],
)
def test_bad_scores(arguments, message):
    with pytest.raises(InputError) as caught:
        pair_scores(SAME, **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("same", "message"),
    [
        ([True, True], "same_P: all 2 pairs are of one class; add pairs of two classes"),
        ([False, False], "same_P: all 2 pairs are of two classes; add pairs of one class"),
        ([], "same_P: shape (0,); give one flag for each pair, and at least one pair"),
        ([1, 2], "same_P: type int64 is not bool; give True for a pair of one class, False for two"),
        (["a", "b"], "same_P: type <U1 is not bool; give True for a pair of one class, False for two"),
    ],
)
def test_bad_flags(same, message):
    with pytest.raises(InputError) as caught:
        pair_scores(same, distance_P=[1.0] * len(same))
    assert str(caught.value) == message
    if same and all(flag is True for flag in same):
        assert pair_scores(same, distance_P=[1.0] * len(same), both_kinds=False).same_P.all()
