import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.errors import InputError
from mohs.hardness import curves

caps = st.floats(0, 1)
growths = st.floats(0.01, 50)
progress = st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=30).map(np.array)
RISING = ("linear", "sine", "tanh", "logarithmic", "sigmoid")


def make(name, cap, growth):
    constructor = getattr(curves, name)
    return constructor(cap) if name in ("constant", "linear", "sine") else constructor(cap, growth)


@pytest.mark.parametrize("name", ["constant", *RISING])
@given(cap=caps, growth=growths, p=progress)
def test_hardness_keeps_shape_and_stays_in_zero_to_cap(name, cap, growth, p):
    hardness = make(name, cap, growth)(p)
    assert hardness.shape == p.shape
    assert hardness.dtype == np.float64
    assert (hardness >= 0).all()
    assert (hardness <= cap * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", RISING)
@given(cap=caps, growth=growths, p=progress)
def test_later_is_never_easier(name, cap, growth, p):
    assert (np.diff(make(name, cap, growth)(np.sort(p))) >= -1e-12).all()


@pytest.mark.parametrize("name", RISING)
def test_curves_rise(name):
    start, end = make(name, 0.8, 3.0)(np.array([0.0, 1 - 1e-9]))
    assert start < 0.01
    assert end > 0.79
    if name != "sigmoid":
        assert start == 0.0
        assert end == pytest.approx(0.8)


@given(cap=caps, growth=growths)
def test_the_sigmoid_is_symmetric_about_its_middle(cap, growth):
    p = np.linspace(0.0, 0.5, 9)
    curve = curves.sigmoid(cap, growth)
    np.testing.assert_allclose(curve(0.5 - p) + curve(0.5 + p), cap, atol=1e-12)
    assert curve(np.array([0.5]))[0] == pytest.approx(cap / 2)


@given(lower=st.floats(0, 0.5), offset=st.floats(0.1, 10), asymmetry=st.floats(0.1, 10), p=progress)
def test_the_sigmoid_stays_between_its_asymptotes(lower, offset, asymmetry, p):
    hardness = curves.sigmoid(0.9, lower=lower, offset=offset, asymmetry=asymmetry)(p)
    assert ((hardness >= lower) & (hardness <= 0.9)).all()


def test_a_larger_offset_is_later():
    p = np.linspace(0, 0.99, 20)
    assert (curves.sigmoid(offset=4.0)(p) < curves.sigmoid()(p)).all()
    assert (curves.sigmoid()(p) < curves.sigmoid(offset=0.25)(p)).all()


def test_published_values_of_the_default_sigmoid():
    expected = 0.85 / (1 + np.exp(-3 * np.array([-2.0, -1.0, 0.0, 1.0])))
    np.testing.assert_allclose(curves.sigmoid()(np.array([0.0, 0.25, 0.5, 0.75])), expected)


@given(num_cycles=st.integers(1, 1000), cycle=st.integers(0, 999))
def test_every_cycle_starts_easy(num_cycles, cycle):
    """Rounding must not turn the easiest triplet of a cycle into the hardest of the one before."""
    p = np.array([cycle % num_cycles / num_cycles])
    assert curves.cyclic(curves.linear(), num_cycles)(p)[0] < 1e-6


def test_a_boundary_just_missed_by_rounding_starts_the_next_cycle():
    p, num_cycles = np.array([0.58]), 50
    assert p[0] * num_cycles == 28.999999999999996
    assert curves.cyclic(curves.linear(), num_cycles)(p).tolist() == [0.0]
    assert curves.cyclic(curves.linear(), num_cycles)(p - 1e-6)[0] > 0.999


@given(num_cycles=st.integers(1, 100), num_triplets=st.integers(1, 2000))
def test_each_cycle_of_a_schedule_rises(num_cycles, num_triplets):
    hardness = curves.schedule(curves.cyclic(curves.linear(), num_cycles), num_triplets)
    falls = int((np.diff(hardness) < 0).sum())
    assert falls <= num_cycles - 1
    if num_triplets >= 2 * num_cycles:
        assert falls == num_cycles - 1


@given(num_triplets=st.integers(1, 500), cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_part_of_a_schedule_is_a_slice_of_the_whole(num_triplets, cuts):
    start, stop = sorted(int(cut * num_triplets) for cut in cuts)
    whole = curves.schedule(curves.sigmoid(), num_triplets)
    part = curves.schedule(curves.sigmoid(), num_triplets, start=start, stop=stop)
    np.testing.assert_array_equal(part, whole[start:stop])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: curves.constant(1.5),
            "cap: 1.5 is not in [0, 1]; hardness runs from 0 (easiest) to 1 (hardest)",
        ),
        (
            lambda: curves.linear(float("nan")),
            "cap: nan is not in [0, 1]; hardness runs from 0 (easiest) to 1 (hardest)",
        ),
        (lambda: curves.tanh(growth=0), "growth: 0 is not a positive number; use for example 3"),
        (lambda: curves.logarithmic(growth=np.inf), "growth: inf is not a positive number; use for example 3"),
        (lambda: curves.sigmoid(0.5, lower=0.6), "lower: 0.6 is above cap (0.5); use a value in [0, cap]"),
        (
            lambda: curves.cyclic(curves.linear(), 2.5),
            "num_cycles: 2.5 is not a whole number of at least 1; use for example 10",
        ),
        (
            lambda: curves.cyclic(curves.linear(), 0),
            "num_cycles: 0 is not a whole number of at least 1; use for example 10",
        ),
        (
            lambda: curves.schedule(curves.linear(), 4, start=3, stop=5),
            "start, stop: 3, 5 are not within 0 … num_triplets (4)",
        ),
        (
            lambda: curves.schedule(lambda p: 3 * p, 4, start=1),
            "curve: hardness 1.5 at triplet 2 is not in [0, 1]; scale or cap the curve",
        ),
        (
            lambda: curves.schedule(lambda p: p[:1], 4),
            "curve: gave shape (1,) for 4 values of progress; return one each",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message
