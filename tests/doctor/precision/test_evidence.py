"""The parts of the evidence, each against a plain version or a known answer."""

import numpy as np
import pytest
from PIL import Image

from mohs.data.equal_pictures import picture_difference, picture_numbers, small_pictures
from mohs.doctor.precision.evidence import (
    TripletMargin,
    check_margin,
    join_classes,
    low_information,
    occurrence,
    twins_by_number,
)
from mohs.doctor.precision.labels import class_fit, label_doubt
from mohs.doctor.precision.sheet import SheetPair, contact_sheet, spread_pairs
from mohs.doctor.precision.top_curve import top_curve
from mohs.doctor.precision.top_pairs import TopPairs, find_top_pairs
from mohs.errors import InputError
from mohs.evaluation.exact_neighbours import nearest_items


@pytest.fixture(scope="module")
def photographs():
    """Twelve smooth coloured pictures on white, uint8 [12, 48, 48, 3]."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (12, 6, 6, 3)).astype(np.uint8)
    things = [np.asarray(Image.fromarray(each).resize((36, 36), Image.Resampling.BICUBIC)) for each in coarse]
    return np.pad(np.stack(things), ((0, 0), (6, 6), (6, 6), (0, 0)), constant_values=255)


def changed(picture, *, shift=0.0, scale=1.0, contrast=1.0, noise=0.0):
    size = picture.shape[0]
    offset = size / 2 - (size / 2 + shift) / scale
    matrix = (1 / scale, 0, offset, 0, 1 / scale, offset)
    resampling, white = Image.Resampling.BICUBIC, (255, 255, 255)
    moved = Image.fromarray(picture).transform(
        (size, size), Image.Transform.AFFINE, matrix, resampling, fillcolor=white
    )
    pixels = 255 - contrast * (255 - np.asarray(moved, dtype=np.float64))
    pixels += noise * np.random.default_rng(1).normal(size=pixels.shape)
    return np.clip(pixels.round(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [{"shift": 2.0}, {"shift": -1.4}, {"scale": 1.05}, {"contrast": 0.8}, {"noise": 3.0}, {"shift": 1, "scale": 0.96}],
)
def test_a_small_change_is_a_small_difference_and_another_picture_a_large_one(photographs, change):
    every = np.concatenate([photographs, np.stack([changed(each, **change) for each in photographs])])
    items = np.arange(12)
    assert picture_difference(every, items, items + 12).max() < 0.12
    assert picture_difference(every, items, (items + 1) % 12 + 12).min() > 0.5


def test_the_difference_does_not_depend_on_who_else_is_compared(photographs):
    first, second = np.repeat(np.arange(12), 12), np.tile(np.arange(12), 12)
    together = picture_difference(photographs, first, second)
    alone = [picture_difference(photographs, first[[i]], second[[i]])[0] for i in (1, 30, 77)]
    assert together[[1, 30, 77]] == pytest.approx(alone, abs=1e-4)
    assert together[first == second] == pytest.approx(0.0, abs=1e-3)


def test_a_picture_of_one_colour_is_like_no_other(photographs):
    every = np.concatenate([photographs[:1], np.full((2, 48, 48, 3), 200, np.uint8)])
    assert picture_difference(every, np.array([0, 1, 1]), np.array([1, 0, 2])).tolist() == [1.0, 1.0, 1.0]


def test_small_pictures_are_means():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)
    blocks = pictures.reshape(2, 32, 2, 32, 3, 3).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(small_pictures(pictures), blocks.transpose(0, 3, 1, 2), atol=1e-6)
    assert small_pictures(pictures[:, :20, :8]).shape == (2, 3, 20, 8)


def test_numbers_of_equal_pictures(photographs):
    again = np.concatenate([photographs[:3], photographs[1:2], photographs[:1]])
    assert picture_numbers(again).tolist() == [0, 1, 2, 1, 0]
    again[4, 0, 0, 0] ^= 1
    assert picture_numbers(again).tolist() == [0, 1, 2, 1, 3]


def test_class_fit_equals_the_definition():
    random = np.random.default_rng(0)
    x_ND = random.normal(size=(40, 6))
    x_ND = (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)
    class_N, picture_N = random.integers(0, 9, 40), random.integers(0, 30, 40)
    item_Q, class_Q = np.repeat(np.arange(40), 9), np.tile(np.arange(9), 40)
    found = class_fit(x_ND, class_N, picture_N, item_Q, class_Q)
    for fit, item, label in zip(found, item_Q, class_Q, strict=True):
        others = np.flatnonzero((class_N == label) & (picture_N != picture_N[item]))
        best = np.sort(x_ND[others] @ x_ND[item])[-2:]
        assert fit == pytest.approx(best.mean() if len(best) else np.nan, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("noise", [0.6, 0.9])
def test_nearly_all_wrong_labels_are_called_wrong(noise):
    shares, num_astray = [], 0
    for seed in range(8):
        random = np.random.default_rng(seed)
        class_N = np.repeat(np.arange(150), 6)
        x_ND = random.normal(size=(150, 24))[class_N] + noise * random.normal(size=(900, 24))
        wrong = random.permutation(900)[:45]
        given_N = class_N.copy()
        given_N[wrong] = (class_N[wrong] + 1 + random.integers(0, 149, 45)) % 150
        neighbours_NK = nearest_items(x_ND, 20)
        doubt = label_doubt(x_ND, given_N, neighbours_NK)
        called = np.flatnonzero(doubt.wrong_N)
        found = np.isin(wrong, called).mean()
        shares.append((found, doubt.error_share))
        # Where all labels are right none is called wrong, but for a stray one.
        num_astray += label_doubt(x_ND, class_N, neighbours_NK).wrong_N.sum()
    found, error_share = np.mean(shares, axis=0)
    assert found > 0.95
    assert num_astray <= 2
    # One standard deviation is added to what was counted: 45 of 900 wrong labels are 34 beyond the quarter, and 6 more.
    assert error_share == pytest.approx((34 + 34**0.5) / 0.75 / 900, abs=0.005)


def test_occurrence_equals_the_definition():
    random = np.random.default_rng(0)
    neighbours_NK, class_N = nearest_items(random.normal(size=(60, 3)), 10), random.integers(0, 12, 60)
    found = occurrence(neighbours_NK, class_N)
    for item in range(60):
        queries = np.flatnonzero((neighbours_NK == item).any(axis=1))
        bad = queries[class_N[queries] != class_N[item]]
        expected = (len(queries), len(bad), len(set(class_N[bad].tolist())))
        assert (found.count_N[item], found.bad_count_N[item], found.num_bad_classes_N[item]) == expected
    assert found.count_N.mean() == 10


def test_more_than_half_of_the_pictures_make_two_classes_one():
    # Class 0 has pictures 0 to 3, class 1 two of them (half); classes 2 and 3 share two of three.
    class_N = np.repeat(np.arange(4), [4, 4, 3, 3])
    picture_N = np.array([0, 1, 2, 3, 0, 1, 4, 5, 2, 6, 7, 2, 6, 8])
    assert join_classes(class_N, picture_N, *twins_by_number(class_N, picture_N)).tolist() == [0, 1, 2, 2]
    # One more picture of class 1 in class 0, and both are one.
    picture_N[6] = 3
    assert join_classes(class_N, picture_N, *twins_by_number(class_N, picture_N)).tolist() == [0, 0, 2, 2]


def test_a_class_of_two_is_not_joined_by_one_picture():
    class_N, picture_N = np.array([0, 0, 1, 1]), np.array([5, 6, 5, 7])
    assert join_classes(class_N, picture_N, *twins_by_number(class_N, picture_N)).tolist() == [0, 1]
    class_N, picture_N = class_N[:3], picture_N[:3]
    assert join_classes(class_N, picture_N, *twins_by_number(class_N, picture_N)).tolist() == [0, 0]


def test_what_shows_too_little(photographs):
    pictures = photographs.copy()
    random = np.random.default_rng(0)
    pictures[:8] = random.integers(0, 256, (8, 48, 48, 3))
    pictures[8:] = pictures[8:] // 2 + 60  # smooth, next to noise: blurred
    pictures[0] = 128 + random.integers(-1, 2, (48, 48, 3))
    sides = np.full(12, 500)
    sides[1], sides[2] = 11, 0
    found = low_information(pictures, longer_side_N=sides)
    assert found.tolist() == ["blank", "tiny", *[""] * 6, *["blurred"] * 4]
    assert set(low_information(photographs).tolist()) == {""}
    # Contrast is no sharpness: an eighth of it has a 64th of the energy.
    assert set(low_information(np.concatenate([photographs, photographs // 8 + 100])).tolist()) == {""}


def test_a_margin_is_held_against_measured_triplets():
    x_ND, class_N = np.repeat(np.eye(4), 2, axis=0), np.repeat(np.arange(4), 2)
    found = check_margin(x_ND, class_N, TripletMargin(1.9))
    assert (found.positive, found.negative, found.met_share) == (0.0, 2.0, 1.0)
    assert check_margin(x_ND, class_N, TripletMargin(1.5, squared=False)).met_share == 0.0  # √2 is less
    assert np.isnan(check_margin(x_ND[::2], class_N[::2], TripletMargin(0.2)).met_share)


def test_the_curve_equals_counting_and_pairs_can_be_left_out():
    random = np.random.default_rng(0)
    x_ND, labels_N = random.normal(size=(80, 4)), random.integers(0, 20, 80)
    pairs = find_top_pairs(x_ND, labels_N, recall=1.0)
    curve = top_curve(pairs)
    for place in (0, 5, len(curve.recall_U) - 1):
        accepted = pairs.similarity_P >= curve.similarity_U[place]
        assert curve.num_pairs_U[place] == accepted.sum()
        assert curve.precision_U[place] == pytest.approx(pairs.same_P[accepted].mean())
        assert curve.recall_U[place] == pytest.approx(pairs.same_P[accepted].sum() / pairs.num_positive)
    no_false = top_curve(pairs, without_P=~pairs.same_P)
    assert (no_false.precision_U == 1.0).all()
    some_true = pairs.same_P & (np.cumsum(pairs.same_P) <= 10)
    assert top_curve(pairs, without_P=some_true).recall_U[-1] == 1.0


def test_a_dip_is_seen_and_a_falling_curve_is_none():
    random = np.random.default_rng(0)
    falls = random.random(2000) < np.linspace(1.0, 0.3, 2000)

    def curve(same_P):
        items = np.arange(2000)
        similarity = np.linspace(1.0, 0.5, 2000)
        return top_curve(TopPairs(items, items + 2000, similarity, same_P, 0.5, int(same_P.sum()), 8_000_000))

    assert not curve(falls).dips
    rises = curve(falls[::-1])
    assert rises.dips
    assert rises.dip.precision < 0.5 < rises.dip.later_precision
    # One wrong pair on top is no sure dip.
    falls[0] = False
    assert not curve(falls).dips


def test_a_sheet_shows_different_classes_first(photographs):
    class_2P = np.array([[0, 1, 0, 2], [1, 0, 2, 3]])
    assert spread_pairs(class_2P, np.arange(4), 3).tolist() == [0, 2, 3]
    assert spread_pairs(class_2P, np.arange(4), 9).tolist() == [0, 1, 2, 3]
    pairs = [SheetPair(photographs[0], photographs[i], "A" * 60, "Ж", "similarity 0.99") for i in range(1, 9)]
    sheet = contact_sheet("eight pairs", pairs)
    assert sheet.size[0] > 6 * 150
    # The first picture of the first pair is where it belongs.
    shown = np.asarray(sheet.crop((14, 41, 86, 113)), dtype=np.float64)
    asked = np.asarray(Image.fromarray(photographs[0]).resize((72, 72), Image.Resampling.LANCZOS), dtype=np.float64)
    assert np.abs(shown - asked).mean() < 1
    with pytest.raises(InputError, match=r"^pairs: none; give at least one pair$"):
        contact_sheet("none", [])


@pytest.mark.parametrize("noise", [1.5, 2.5, 4.0])
def test_an_embedder_that_does_not_know_the_classes_judges_no_label(noise):
    random = np.random.default_rng(3)
    class_N = np.repeat(np.arange(100), 3)
    x_ND = np.repeat(random.normal(size=(100, 16)), 3, axis=0) + noise * random.normal(size=(300, 16))
    x_ND = (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)
    doubt = label_doubt(x_ND, class_N, nearest_items(x_ND, 20))
    assert doubt.error_share > 0.25
    assert not doubt.wrong_N.any()
