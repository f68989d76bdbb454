import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mohs.distances import check_embeddings, exact_distance, unit_rows
from mohs.errors import InputError

rows = hnp.arrays(np.float32, (4, 3), elements=st.floats(-1e6, 1e6, width=32))


@given(rows, rows)
def test_exact_distance_is_the_correctly_rounded_one(a, b):
    expected = [
        np.float32(math.sqrt(math.fsum((float(x) - float(y)) ** 2 for x, y in zip(p, q, strict=True))))
        for p, q in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(exact_distance(a, b), expected, rtol=2**-24)


def test_near_duplicates_keep_their_precision():
    """2 − 2s of these unit vectors is 0 or 1.2e-7 in float32; the distance is 1e-5."""
    a = np.float32([[1.0, 0.0]])
    b = np.float32([[1.0, 1e-5]])
    assert exact_distance(a, b)[0] == np.float32(1e-5)
    assert exact_distance(a, a)[0] == 0.0


def test_a_distance_grows_as_a_similarity_falls():
    angle = np.linspace(0.1, 3.0, 20)
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    axis = np.broadcast_to(np.float32([1, 0]), unit.shape)
    distance = exact_distance(axis, unit)
    assert (np.diff(distance) > 0).all()
    assert (np.diff(unit[:, 0]) < 0).all()
    np.testing.assert_allclose(distance**2, 2 - 2 * unit[:, 0], rtol=1e-4)


def test_blocks_do_not_change_a_value():
    a, b = np.random.default_rng(0).normal(size=(2, 20_000, 5)).astype(np.float32)
    whole = exact_distance(a, b)
    for part in (slice(0, 7), slice(8190, 8195), slice(19_999, None)):
        np.testing.assert_array_equal(exact_distance(a[part], b[part]), whole[part])


def test_embeddings_of_any_kind_become_contiguous_float32():
    array = np.random.default_rng(0).normal(size=(6, 4))
    expected = array.astype(np.float32)
    for given_rows in (array, array.tolist(), torch.from_numpy(array), np.asfortranarray(expected)):
        checked = check_embeddings(given_rows)
        assert checked.dtype == np.float32
        assert checked.flags.c_contiguous
        np.testing.assert_array_equal(checked, expected)
    half = torch.from_numpy(expected).to(torch.bfloat16).requires_grad_()
    np.testing.assert_array_equal(check_embeddings(half), half.detach().float().numpy())
    assert check_embeddings(expected) is expected


@given(rows.filter(lambda a: (np.abs(a).max(axis=1) > 1e-3).all()))
def test_unit_rows_have_norm_one_and_keep_their_direction(a):
    unit = unit_rows(a)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(a.astype(np.float64), axis=1)[:, None], a, rtol=1e-5, atol=1e-6)


def test_unit_rows_are_made_in_blocks_that_change_nothing():
    a = np.random.default_rng(0).normal(size=(3000, 700)).astype(np.float32)  # three blocks
    np.testing.assert_array_equal(unit_rows(a), np.concatenate([unit_rows(part) for part in np.array_split(a, 50)]))
    a[2999] = 0.0
    with pytest.raises(InputError, match="row 2999 has norm 0"):
        unit_rows(a)


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        (check_embeddings, [1.0], "x: shape (1,) is not [N, D] with N >= 1 and D >= 1; give one row per item"),
        (
            check_embeddings,
            np.zeros((0, 4)),
            "x: shape (0, 4) is not [N, D] with N >= 1 and D >= 1; give one row per item",
        ),
        (
            check_embeddings,
            [[np.nan, 0.0], [0.0, 1.0]],
            "x: row 0 has NaN or Inf (1 row in all); leave it out or embed it again",
        ),
        (
            check_embeddings,
            np.full((9, 1), np.inf),
            "x: rows 0, 1, 2, 3, 4, … have NaN or Inf (9 rows in all); leave them out or embed them again",
        ),
        (
            unit_rows,
            [[1.0, 0.0], [0.0, 0.0]],
            "x: row 1 has norm 0 (1 in all) and cannot be normalised; leave it out or use plain Euclidean distances",
        ),
    ],
)
def test_bad_rows_are_named(function, value, message):
    with pytest.raises(InputError) as caught:
        function(value, name="x")
    assert str(caught.value) == message


def test_bad_rows_are_found_in_every_block():
    array = np.zeros((10_000, 1), dtype=np.float32)
    array[9_999] = np.nan
    with pytest.raises(InputError, match="row 9999 has NaN"):
        check_embeddings(array)
