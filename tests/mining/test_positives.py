import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.errors import InputError
from mohs.mining import choose_positives
from mohs.plan import POSITIVE_ORIGINS

LABELS = np.array(["a", "a", "a", "b", "b", "c"])
CATALOG = np.array([True, False, False, True, False, True])


def names(origin):
    return [POSITIVE_ORIGINS[o] for o in origin]


def test_another_item_of_the_class_or_an_augmentation():
    positives, origin = choose_positives(LABELS, np.arange(6), seed=0)
    assert positives.dtype == np.int64
    assert origin.dtype == np.uint8
    assert (LABELS[positives] == LABELS).all()
    assert (positives[:5] != np.arange(5)).all()
    assert positives[5] == 5
    assert names(origin) == ["class"] * 5 + ["augmentation"]


def test_a_sample_is_preferred_to_the_catalog():
    _, origin = choose_positives(LABELS, np.arange(6), seed=0, catalog_N=CATALOG)
    # 4 has no other sample, so its catalog item; 5 is alone.
    assert names(origin) == ["class", "class", "class", "class", "catalog", "augmentation"]


def test_the_catalog_is_preferred_on_request():
    positives, origin = choose_positives(LABELS, np.arange(6), seed=0, catalog_N=CATALOG, prefer="catalog")
    # A catalog item that is an anchor has no other catalog item, so a sample of its class.
    assert names(origin) == ["class", "catalog", "catalog", "class", "catalog", "augmentation"]
    assert positives[[1, 2, 3, 4, 5]].tolist() == [0, 0, 4, 3, 5]
    assert positives[0] in (1, 2)


def test_every_other_item_has_its_even_share():
    positives, _ = choose_positives(np.zeros(5, dtype=int), np.full(10_000, 2), seed=4)
    counts = np.bincount(positives, minlength=5)
    assert counts[2] == 0
    assert (np.abs(counts[[0, 1, 3, 4]] - 2500) < 250).all()


@given(st.integers(0, 2**63 - 1), st.integers(1, 30))
def test_shorter_choices_are_prefixes(seed, num_anchors):
    anchors = np.arange(30) % 6
    long, _ = choose_positives(LABELS, anchors, seed=seed, catalog_N=CATALOG)
    short, _ = choose_positives(LABELS, anchors[:num_anchors], seed=seed, catalog_N=CATALOG)
    np.testing.assert_array_equal(short, long[:num_anchors])


def test_the_seed_changes_the_choice():
    labels, anchors = np.zeros(50, dtype=int), np.arange(50)
    first, _ = choose_positives(labels, anchors, seed=0)
    assert (first != choose_positives(labels, anchors, seed=1)[0]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefer": "photo"}, "prefer: 'photo' is not one of 'class', 'catalog'"),
        ({"catalog_N": [True]}, "catalog_N: bool(1,) is not bool[6]; give one per item"),
        ({"catalog_N": [1] * 6}, "catalog_N: int64(6,) is not bool[6]; give one per item"),
        ({"anchors_T": [6]}, "anchors_T: 6 at position 0 is not an item index in [0, 6) (1 such values)"),
        ({"anchors_T": [-1]}, "anchors_T: -1 at position 0 is not an item index in [0, 6) (1 such values)"),
        ({"anchors_T": ["a"]}, "anchors_T: <U1[1] is not a list of item indices; give integers [T]"),
        ({"labels_N": []}, "labels_N: shape (0,) is not [N] with N >= 1; give one label per item"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(InputError) as caught:
        choose_positives(**{"labels_N": LABELS, "anchors_T": [0], "seed": 0, **options})
    assert str(caught.value) == message
