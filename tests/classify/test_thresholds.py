import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from mohs.classify.thresholds import choose_threshold
from mohs.errors import InputError


def kept(value, known, correct, unseen, precision, acceptance):
    accepted_right = sum(c for k, c in zip(known, correct, strict=True) if k >= value)
    accepted_unseen = sum(u >= value for u in unseen)
    accepted = sum(k >= value for k in known) + accepted_unseen
    good = acceptance is None or accepted_unseen / len(unseen) <= acceptance
    return good and (precision is None or (accepted > 0 and accepted_right / accepted >= precision))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6), precision=st.sampled_from([None, 0.5, 0.8]), acceptance=st.sampled_from([None, 0, 0.2])
)
def test_the_smallest_that_keeps_what_is_asked_for(seed, precision, acceptance):
    assume(precision is not None or acceptance is not None)
    random = np.random.default_rng(seed)
    known, unseen = random.integers(0, 10, 15) / 10, random.integers(0, 8, 10) / 10
    correct = random.random(15) < 0.4 + known / 2
    candidates = sorted({0.0, *known, *unseen})
    candidates.append(float(np.nextafter(candidates[-1], np.inf)))
    good = [value for value in candidates if kept(value, known, correct, unseen, precision, acceptance)]
    asked = {"min_precision": precision, "max_false_acceptance": acceptance}
    if not good:
        beside = "" if acceptance is None else f" that also keeps max_false_acceptance {acceptance:g}"
        message = f"no threshold{beside} reaches {precision:g} on these 15 pictures of known and 10 of unseen"
        with pytest.raises(InputError, match=message):
            choose_threshold(known, correct, unseen, **asked)
        return
    found = choose_threshold(known, correct, unseen, **asked)
    assert found.value == good[0]
    assert found.coverage == np.mean(known >= found.value)
    assert found.false_acceptance == np.mean(unseen >= found.value)
    assert (found.num_known, found.num_unseen) == (15, 10)


def test_asking_for_more_never_lowers_the_threshold():
    random = np.random.default_rng(0)
    known, unseen = random.random(200) ** 0.3, random.random(100)
    values = [
        choose_threshold(known, known > 0, unseen, max_false_acceptance=share).value for share in (0.5, 0.1, 0.01, 0.0)
    ]
    assert values == sorted(values)
    assert values[0] < values[-1]


def test_all_can_be_refused_for_false_acceptance():
    found = choose_threshold([], [], [0.5, 1.0], max_false_acceptance=0.0)
    assert found.value == np.nextafter(1.0, 2.0)
    assert (found.coverage, found.precision, found.false_acceptance) == (None, None, 0.0)
    # 0.29 · 100 is less than 29 in floating point.
    assert choose_threshold([], [], np.arange(100) / 100, max_false_acceptance=0.29).value == pytest.approx(0.71)


@pytest.mark.parametrize(
    ("known", "unseen", "asked", "message"),
    [
        ([0.5], [0.5], {}, "min_precision, max_false_acceptance: neither is given; ask for one, or for both"),
        ([0.5], [0.5], {"min_precision": 0.0}, "min_precision: 0.0 is not a number in (0, 1]; use for example 0.95"),
        (
            [0.5],
            [0.5],
            {"max_false_acceptance": 1.0},
            "max_false_acceptance: 1.0 is not a number in [0, 1); use for example 0.01",
        ),
        (
            [],
            [0.5],
            {"min_precision": 0.9},
            "min_precision: no picture of a known class was held out; give such pictures, or use max_false_acceptance",
        ),
        (
            [0.5],
            [],
            {"max_false_acceptance": 0.1},
            "max_false_acceptance: no picture of an unseen class; give such pictures, or use min_precision",
        ),
        (
            [float("nan")],
            [0.5],
            {"min_precision": 0.1},
            "known_confidence_K, unseen_confidence_U: NaN or Inf among them; give finite numbers",
        ),
        (
            [0.5],
            [0.9],
            {"min_precision": 0.9},
            "min_precision: no threshold reaches 0.9 on these 1 pictures of known and 1 of unseen classes "
            "(the best is 0.500); ask for less",
        ),
        (
            # At 0.3 precision is 0.6, but there both unseen pictures are accepted.
            [0.9, 0.4, 0.3],
            [0.95, 0.5],
            {"min_precision": 0.7, "max_false_acceptance": 0.5},
            "min_precision: no threshold that also keeps max_false_acceptance 0.5 reaches 0.7 on these 3 pictures "
            "of known and 2 of unseen classes (the best is 0.500); ask for less",
        ),
    ],
)
def test_what_cannot_be_asked_for(known, unseen, asked, message):
    with pytest.raises(InputError) as caught:
        choose_threshold(known, [True] * len(known), unseen, **asked)
    assert caught.value.problems == (message,)
