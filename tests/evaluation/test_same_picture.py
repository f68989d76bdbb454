"""Equal rows, with the precision that the numbers show."""

import numpy as np
import pytest

from mohs.evaluation.same_picture import equal_groups, equal_partner, rounding


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    x_ND = random.normal(size=(200, 24))
    return (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)


def bfloat16(x_ND):
    """Rounded to the nearest bfloat16, as float32."""
    bits = np.ascontiguousarray(x_ND, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


FORMATS = [
    lambda x: x,
    lambda x: x.astype(np.float64) * (1 + 2e-7),
    lambda x: x.astype(np.float16),
    bfloat16,
    lambda x: x.round(2),
    lambda x: x.round(4),
    lambda x: x + np.float32(1e-7),
]


@pytest.mark.parametrize("one", FORMATS)
@pytest.mark.parametrize("other", FORMATS)
@pytest.mark.parametrize("scale", [1.0, 0.5, 16.0])
def test_a_copy_is_found_in_any_format_and_scale(rows, one, other, scale):
    # Decimals are those of the numbers as they stand, so only powers of two leave the other formats as they are.
    x_ND = rows * np.float32(scale)
    assert equal_partner(one(x_ND[:100]), other(x_ND)).tolist() == list(range(100))


@pytest.mark.parametrize("form", FORMATS)
def test_other_pictures_are_not_equal(rows, form):
    assert (equal_partner(form(rows[:100]), form(rows[100:])) == -1).all()


def test_the_limit_is_that_of_the_format(rows):
    moved = rows + np.float32(3e-4) * rows[::-1]
    assert (equal_partner(rows, moved) == -1).all()
    assert (equal_partner(rows.astype(np.float16), moved.astype(np.float16)) >= 0).mean() > 0.9
    far = (rows + np.float32(3e-3) * rows[::-1]).astype(np.float16)
    assert (equal_partner(rows.astype(np.float16), far) == -1).all()


def test_codes_of_few_values_are_not_rounded():
    random = np.random.default_rng(0)
    assert (rounding(random.integers(0, 3, (50, 8)).astype(np.float32)) == 0).all()
    assert (rounding(random.integers(0, 4, (50, 8)) / 10) == 0).all()
    assert (rounding(random.normal(size=(50, 8)).astype(np.float32)) == 0).all()
    assert rounding(random.normal(size=(50, 8)).round(3)) == pytest.approx(0.0005 * 8**0.5)


def test_the_format_is_that_of_each_row(rows):
    mixed = rows.copy()
    mixed[::2] = rows[::2].astype(np.float16)
    assert (rounding(mixed) > 0).tolist() == [True, False] * 100
    assert equal_partner(mixed, rows).tolist() == list(range(200))


def test_groups_equal_the_definition(rows):
    random = np.random.default_rng(1)
    source = random.integers(0, 60, 300)
    x_ND = rows[source] + np.float32(1e-8) * random.normal(size=(300, 24)).astype(np.float32)
    group_N = equal_groups(x_ND)
    assert (group_N[:, None] == group_N).tolist() == (source[:, None] == source).tolist()
    first = [int(np.flatnonzero(group_N == group)[0]) for group in range(group_N.max() + 1)]
    assert first == sorted(first)


def test_a_row_is_not_its_own_partner(rows):
    assert (equal_partner(rows, rows, same_items=True) == -1).all()
    twice = np.concatenate([rows, rows[:3]])
    found = equal_partner(twice, twice, same_items=True)
    assert found[:3].tolist() == [200, 201, 202]
    assert found[200:].tolist() == [0, 1, 2]
    assert (found[3:200] == -1).all()


def test_one_dimension_and_one_row():
    assert equal_partner([[1.0]], [[1.0], [2.5]]).tolist() == [0]
    assert equal_groups([[1.0], [1.0], [0.0], [-0.0]]).tolist() == [0, 0, 1, 1]
    assert equal_partner([[1.0]], [[1.0]], same_items=True).tolist() == [-1]
