"""Checks of arguments, and problems that know their parts."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.checks import is_number, is_whole, item_indices, require, wrong_choice, wrong_number, wrong_whole
from mohs.errors import InputError, Problem


@given(value=st.integers(-20, 20), least=st.integers(-5, 5), more=st.integers(0, 10))
def test_a_count_is_wrong_exactly_outside_its_limits(value, least, more):
    assert (wrong_whole("n", value, at_least=least) is None) == (value >= least)
    assert (wrong_whole("n", value, at_least=least, at_most=least + more) is None) == (least <= value <= least + more)
    assert (wrong_whole("n", np.int32(value), at_least=least) is None) == (value >= least)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, np.float64(2), float("nan"), [1]])
def test_what_is_no_count(value):
    assert not is_whole(value)
    assert wrong_whole("n", value, example=7) == f"n: {value!r} is not a whole number of at least 1; use for example 7"


@given(value=st.floats(-2, 2), low=st.floats(-1, 1), width=st.floats(0.1, 1))
def test_a_number_is_wrong_exactly_outside_its_limits(value, low, width):
    high = low + width
    assert (wrong_number("x", value, above=low, below=high) is None) == (low < value < high)
    assert (wrong_number("x", value, at_least=low, at_most=high) is None) == (low <= value <= high)
    assert (wrong_number("x", value, at_least=low) is None) == (value >= low)
    assert (wrong_number("x", value, below=high) is None) == (value < high)


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), [1.0]])
def test_what_is_no_number(value):
    assert not is_number(value)
    assert wrong_number("x", value) == f"x: {value!r} is not a number"


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        ({"above": 0}, " above 0"),
        ({"at_least": 0}, " of at least 0"),
        ({"below": 1}, " below 1"),
        ({"at_most": 1}, " of at most 1"),
        ({"above": 0, "at_most": 1}, " in (0, 1]"),
        ({"at_least": 0, "below": 1}, " in [0, 1)"),
    ],
)
def test_the_rule_of_a_number_is_said(limits, rule):
    assert wrong_number("x", 5 if "below" in limits or "at_most" in limits else -5, **limits).endswith(f"number{rule}")


def test_all_that_is_wrong_is_told_together_and_nothing_if_nothing_is():
    require(None, wrong_choice("metric", "cosine", ("cosine",)))
    with pytest.raises(InputError) as error:
        require(wrong_whole("a", 0), None, wrong_choice("b", 3, ("x", "y")))
    assert error.value.problems == ("a: 0 is not a whole number of at least 1", "b: 3 is not one of 'x', 'y'")


def test_item_indices_are_named_by_position():
    assert item_indices("t", np.uint8([1, 0]), 2).dtype == np.int64
    assert item_indices("t", [], 2).tolist() == []
    for values, what in (([0, -1], "-1 at position 1"), ([0.0], "float64[1]"), ([[0]], "int64[1, 1]")):
        with pytest.raises(InputError, match="t: ") as error:
            item_indices("t", values, 1)
        assert what in str(error.value)


def test_a_problem_is_its_line_and_keeps_its_parts():
    problem = Problem("data.size", "4 is too small", "use 64", file="run.toml")
    assert problem == "run.toml: data.size: 4 is too small; use 64"
    assert problem.at("--size") == "--size: 4 is too small; use 64"
    for twin in (copy.deepcopy(problem), pickle.loads(pickle.dumps(problem))):
        assert twin == problem
        assert (twin.place, twin.problem, twin.fix, twin.file) == ("data.size", "4 is too small", "use 64", "run.toml")
    assert Problem("seed", "is missing") == "seed: is missing"
