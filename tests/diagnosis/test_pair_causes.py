"""Causes in the scores of pairs, each both ways."""

import numpy as np
import pytest

import mohs
from mohs.diagnosis.pair_causes import (
    PairScores,
    find_constant_scores,
    find_fixed_threshold,
    find_sigmoid_on_distance,
    find_swapped_scores,
    read_pair_scores,
)
from mohs.errors import InputError


def pairs_of(apart=2.0, *, middle=1.0, width=0.1, num=200, share=0.5, kind="distance", seed=0):
    """Distances of pairs: of one class around `middle` − `apart`/2 · `width`, of two above it by as much."""
    random = np.random.default_rng(seed)
    same = np.arange(num) < share * num
    value = middle + width * (random.normal(size=num) + np.where(same, -apart / 2, apart / 2))
    return PairScores("pairs.csv", value, same, kind)


def changed(pairs, change, kind=None):
    return PairScores(pairs.source, change(pairs.value), pairs.same, pairs.kind if kind is None else kind)


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def causes(pairs, **more):
    return [each.cause for each in mohs.diagnose(pairs=pairs, **more).findings]


@pytest.mark.parametrize("apart", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("kind", ["distance", "score"])
def test_distances_read_in_their_middle_have_no_cause(apart, kind):
    assert causes(pairs_of(apart, kind=kind), threshold=1.0) == []


@pytest.mark.parametrize("apart", [0.0, 1.0, 4.0])
def test_similarities_and_probabilities_have_no_cause(apart):
    similarity = changed(pairs_of(apart, middle=0.5), lambda d: 1 - d, kind="similarity")
    assert causes(similarity) == []
    probability = changed(pairs_of(apart, middle=0.0, width=1.5), lambda d: sigmoid(-d), kind="score")
    assert causes(probability) == []


# swapped


def test_a_distance_that_is_larger_for_one_class():
    found = find_swapped_scores(pairs_of(-1.0))
    assert (found.cause, found.severity, found.share) == ("swapped", "error", 1.0)
    value, same = pairs_of(-1.0).value, pairs_of(-1.0).same
    auc = (value[same][:, None] < value[~same]).mean()
    assert found.numbers["auc"] == pytest.approx(auc)
    assert found.what.startswith(f"The distance is larger for pairs of one class: AUC {auc:.3f} (")


def test_a_similarity_that_is_smaller_for_one_class():
    found = find_swapped_scores(pairs_of(1.0, kind="similarity"))
    assert found.what.startswith("The similarity is smaller for pairs of one class: AUC 0.2")
    assert find_swapped_scores(pairs_of(-1.0, kind="similarity")) is None


@pytest.mark.parametrize(
    ("apart", "num", "kind"),
    [
        (1.0, 200, "distance"),
        (0.0, 200, "distance"),
        (-0.25, 2000, "distance"),  # AUC 0.43: sure, and no more than bad
        (-0.5, 30, "distance"),  # AUC 0.36 of few pairs
        (-2.0, 200, "score"),  # a score has no direction
    ],
)
def test_scores_that_are_not_swapped(apart, num, kind):
    assert find_swapped_scores(pairs_of(apart, num=num, kind=kind)) is None


def test_the_error_of_an_auc_is_that_of_many_draws():
    found = np.array([pairs_of(1.0, num=60, seed=seed).auc() for seed in range(300)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.15)
    # Where all are in order an error is left.
    assert pairs_of(40.0).auc()[0] == 1.0
    assert pairs_of(40.0).auc()[1] > 0


# sigmoid-on-distance


def test_a_sigmoid_of_a_distance():
    plain = pairs_of(2.0, middle=1.0, width=0.2, share=0.3)
    pairs = changed(plain, lambda d: sigmoid(np.abs(d)), kind="score")
    found = find_sigmoid_on_distance(pairs)
    assert (found.cause, found.severity) == ("sigmoid-on-distance", "error")
    assert found.numbers["accuracy_at_half"] == pytest.approx(0.7)
    assert found.numbers["auc"] == pytest.approx(plain.auc()[0], abs=0.01)
    assert found.numbers["smallest"] >= 0.5
    assert "σ(d) never crosses 0.5" in found.why
    assert found.settings == {"loss.name": "contrastive"}
    # At 0.5 nothing fits, and this is why: one cause is told.
    assert causes(pairs) == ["sigmoid-on-distance"]


def test_a_sigmoid_of_a_negative_distance():
    pairs = changed(pairs_of(2.0, middle=1.0, width=0.2), lambda d: sigmoid(-np.abs(d)), kind="score")
    found = find_sigmoid_on_distance(pairs)
    assert "σ(−d) never crosses 0.5" in found.why
    assert found.what.startswith("All 200 scores are at 0.5 or below (")


def test_a_saturated_sigmoid_says_nothing_about_order():
    pairs = changed(pairs_of(0.0, middle=30.0), sigmoid, kind="score")
    assert "and their order says nothing" in find_sigmoid_on_distance(pairs).what


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda d: d, "score"),  # plain distances, some above 1
        (lambda d: sigmoid(4 * (1 - d)), "score"),  # probabilities on both sides of 0.5
        (lambda d: sigmoid(-d) + 0.4, "score"),  # above 0.5, but larger for one class: a confident network
        (lambda d: sigmoid(-d), "similarity"),
        (lambda d: d / 5, "distance"),  # distances may be small
    ],
)
def test_scores_without_a_sigmoid_on_a_distance(change, kind):
    pairs = changed(pairs_of(3.0, middle=1.0, width=0.2), change, kind=kind)
    assert find_sigmoid_on_distance(pairs) is None


@pytest.mark.parametrize("apart", [0.0, -2.0])
def test_small_distances_in_no_or_the_wrong_order_are_no_sigmoid(apart):
    pairs = pairs_of(apart, middle=0.2, width=0.02)
    assert find_sigmoid_on_distance(pairs) is None
    assert causes(pairs, threshold=0.2) == (["swapped"] if apart else [])


# collapsed


def test_scores_that_are_all_the_same():
    found = find_constant_scores(changed(pairs_of(), lambda d: 0.3 + 1e-8 * d))
    assert (found.cause, found.severity) == ("collapsed", "error")
    assert found.what == "All 200 pairs have the same distance, 0.3"
    assert causes(changed(pairs_of(), np.zeros_like)) == ["collapsed"]


def test_scores_that_differ_a_little_are_not_the_same():
    assert find_constant_scores(changed(pairs_of(), lambda d: 0.3 + 1e-5 * d)) is None


# fixed-threshold


def test_a_threshold_that_fits_nothing():
    pairs = pairs_of(3.0, middle=5.0, num=2000)
    found = find_fixed_threshold(pairs)
    assert (found.cause, found.severity) == ("fixed-threshold", "error")
    numbers = found.numbers
    assert (numbers["accuracy"], numbers["one_answer"], numbers["threshold"]) == (0.5, 0.5, 0.5)
    assert numbers["best_threshold"] == pytest.approx(5.0, abs=0.05)
    right = (pairs.value < 5.0) == pairs.same
    assert numbers["best_accuracy"] == pytest.approx(right.mean(), abs=0.02)
    assert numbers["low"] < numbers["best_accuracy"] < numbers["high"]
    assert found.share == pytest.approx(1.0)
    assert causes(pairs) == ["fixed-threshold"]


def test_a_threshold_that_fits_badly_is_a_warning():
    pairs = pairs_of(3.0, middle=0.5)
    found = find_fixed_threshold(pairs, threshold=0.38)
    assert found.severity == "warning"
    assert found.numbers["accuracy"] == ((pairs.value < 0.38) == pairs.same).mean() > 0.6


def test_what_the_training_reported_was_read_there(log_of):
    pairs = pairs_of(3.0, middle=0.5)
    read = find_fixed_threshold(pairs, threshold=0.38).numbers["accuracy"]
    found = find_fixed_threshold(pairs, threshold=0.38, reported=read + 0.009)
    assert found.severity == "error"
    assert f"(the training reported {read + 0.009:.3f})" in found.what
    assert find_fixed_threshold(pairs, threshold=0.38, reported=read + 0.02).severity == "warning"
    log = log_of(loss=np.geomspace(0.8, 0.3, 20), val_accuracy=[read] * 20)
    assert mohs.diagnose(log=log, pairs=pairs, threshold=0.38).first.severity == "error"


def test_a_similarity_is_the_same_above_the_threshold():
    pairs = changed(pairs_of(3.0, middle=0.1), lambda d: 1 - d, kind="similarity")
    found = find_fixed_threshold(pairs, threshold=0.3)
    assert found.numbers["accuracy"] == 0.5
    assert found.numbers["best_threshold"] == pytest.approx(0.9, abs=0.05)
    assert find_fixed_threshold(pairs, threshold=0.9) is None


def test_a_score_is_taken_the_way_it_is_better():
    pairs = changed(pairs_of(3.0, middle=5.0), lambda d: -d, kind="score")
    assert find_fixed_threshold(pairs, threshold=-5.0) is None
    assert find_fixed_threshold(pairs).numbers["best_threshold"] == pytest.approx(-5.0, abs=0.05)


@pytest.mark.parametrize(
    ("apart", "threshold"),
    [
        (3.0, 0.5),
        (3.0, 0.51),
        (0.0, 0.9),  # no threshold would be better
        (-3.0, 0.9),
        (0.5, 0.5),
    ],
)
def test_a_threshold_that_is_good_enough(apart, threshold):
    assert find_fixed_threshold(pairs_of(apart, middle=0.5), threshold=threshold) is None


# reading

_NO_SAME = "columns say whether a pair is of one class; name one 'same'"
_NO_SCORES = "columns hold scores; name one 'distance', 'similarity' or 'score'"


def rows(num=10):
    return "".join(f"1,{0.1 + i / 100}\n0,{0.8 + i / 100}\n" for i in range(num))


@pytest.mark.parametrize(
    ("header", "kind"), [("same,distance", "distance"), ("Label,Cosine", "similarity"), ("y_true, y_pred", "score")]
)
def test_pairs_of_a_file(tmp_path, header, kind):
    (tmp_path / "pairs.csv").write_text(f"{header}\n{rows()}")
    found = read_pair_scores(tmp_path / "pairs.csv")
    assert (found.kind, len(found.value), int(found.same.sum())) == (kind, 20, 10)
    assert (found.value[0], found.same[0]) == (0.1, True)


def test_words_for_the_same(tmp_path):
    (tmp_path / "pairs.csv").write_text("same,distance\nTRUE,0.1\nno,0.9\nsame,0.1\n" + rows())
    assert read_pair_scores(tmp_path / "pairs.csv").same[:3].tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a,b\n1,2\n", [f"0 {_NO_SAME}", f"0 {_NO_SCORES}"]),
        ("same,label,d,sim\n1,1,1,1\n", [f"2 {_NO_SAME}", f"2 {_NO_SCORES}"]),
        (
            "same,distance\n1,\n2,0.5\n",
            [
                "row 2: column 'distance': '' is not a number; leave the row out",
                "row 3: column 'same': '2' is neither 1 nor 0",
            ],
        ),
        ("same,distance\n" + rows(9), ["9 pairs of one class and 9 of two; give at least 10 of each"]),
        ("same,distance\n" + rows() + "1,nan\n", ["pair 20: nan is not a finite number; leave it out"]),
        ("same,distance\n", ["0 pairs of one class and 0 of two; give at least 10 of each"]),
    ],
)
def test_pairs_that_cannot_be_read(tmp_path, text, lines):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_pair_scores(path)
    assert error.value.problems == tuple(f"{path}: {line}" for line in lines)


def test_places_without_pairs(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"same": [1, 0], "distance": [0.1, 0.2]}), tmp_path / "pairs.parquet")
    for path, line in {
        tmp_path / "none.csv": "no such file; check the path",
        tmp_path: "a folder; give a CSV file",
        tmp_path / "pairs.parquet": "pairs are a CSV file; write them as CSV",
    }.items():
        with pytest.raises(InputError) as error:
            read_pair_scores(path)
        assert error.value.problems == (f"{path}: {line}",)


def test_values_and_pairs_of_other_numbers():
    with pytest.raises(InputError, match=r"^p: \(3,\) values for \(2,\) pairs; give one each$"):
        PairScores("p", np.zeros(3), np.zeros(2, dtype=bool))
