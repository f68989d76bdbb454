import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.errors import InputError
from mohs.sequence import anchor_sequence, describe_length, length_warning, usual_length

label_lists = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40)


@pytest.mark.parametrize("num_triplets", [70_000, 69_999, 34_999, 100_000])
def test_at_35_000_classes_every_class_has_its_even_share(num_triplets):
    labels = np.random.default_rng(0).permutation(np.arange(70_000) // 2)
    anchors = anchor_sequence(labels, num_triplets, seed=0)
    counts = np.bincount(labels[anchors], minlength=35_000)
    assert set(counts) <= {num_triplets // 35_000, -(-num_triplets // 35_000)}
    if num_triplets == 70_000:  # two items a class, two passes: every item once
        np.testing.assert_array_equal(np.sort(anchors), np.arange(70_000))


@given(labels=label_lists, num_triplets=st.integers(1, 200), seed=st.integers(0, 2**63 - 1))
def test_classes_share_evenly_and_so_do_the_items_of_a_class(labels, num_triplets, seed):
    names = np.array(labels)
    anchors = anchor_sequence(labels, num_triplets, seed=seed)
    assert anchors.shape == (num_triplets,)
    assert anchors.dtype == np.int64
    classes = np.unique(names)
    counts = np.array([(names[anchors] == name).sum() for name in classes])
    assert set(counts) <= {num_triplets // len(classes), -(-num_triplets // len(classes))}
    for name, count in zip(classes, counts, strict=True):
        items = np.flatnonzero(names == name)
        per_item = np.bincount(anchors, minlength=len(labels))[items]
        assert set(per_item) <= {count // len(items), -(-count // len(items))}


@given(labels=label_lists, lengths=st.tuples(st.integers(1, 100), st.integers(1, 100)), seed=st.integers(0, 99))
def test_a_shorter_sequence_is_a_prefix(labels, lengths, seed):
    short, long = sorted(lengths)
    np.testing.assert_array_equal(
        anchor_sequence(labels, short, seed=seed), anchor_sequence(labels, long, seed=seed)[:short]
    )


@given(num_classes=st.integers(2, 30), num_passes=st.integers(1, 4))
def test_each_pass_is_a_permutation(num_classes, num_passes):
    labels = np.arange(num_classes * 2) % num_classes
    anchors = anchor_sequence(labels, num_classes * num_passes, seed=0)
    for start in range(0, len(anchors), num_classes):
        np.testing.assert_array_equal(np.sort(labels[anchors[start : start + num_classes]]), np.arange(num_classes))


def test_passes_and_seeds_differ_in_order():
    labels = np.arange(100)
    anchors = anchor_sequence(labels, 200, seed=0)
    assert (anchors[:100] != anchors[100:]).any()
    assert (anchors != anchor_sequence(labels, 200, seed=1)).any()


def test_strings_and_numbers_stay_as_written():
    """`007` and `7` are two classes."""
    assert sorted(anchor_sequence(["007", "7", "1.0", "1"], 4, seed=0).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("labels", "num_triplets", "message"),
    [
        ([], 5, "labels_N: shape (0,) is not [N] with N >= 1; give one label per item"),
        ([["a"]], 5, "labels_N: ['a'] at position 0 is neither text nor a whole number; give class names or numbers"),
        (["a"], 0, "num_triplets: 0 is not a whole number of at least 1; use for example 10000"),
        (["a"], 2.0, "num_triplets: 2.0 is not a whole number of at least 1; use for example 10000"),
        (["a"], True, "num_triplets: True is not a whole number of at least 1; use for example 10000"),
    ],
)
def test_bad_input_is_named(labels, num_triplets, message):
    with pytest.raises(InputError) as caught:
        anchor_sequence(labels, num_triplets, seed=0)
    assert str(caught.value) == message


@pytest.mark.parametrize(("num_classes", "length"), [(2, 20_000), (5_000, 20_000), (5_001, 20_004), (25_102, 100_408)])
def test_the_usual_length_is_four_passes_or_20_000_triplets(num_classes, length):
    assert usual_length(num_classes) == length
    assert length_warning(length, num_classes) is None


@given(num_triplets=st.integers(1, 300), num_classes=st.integers(1, 300))
def test_a_length_is_warned_of_where_a_class_is_never_an_anchor(num_triplets, num_classes):
    never = num_classes - len(set(anchor_sequence(np.arange(num_classes), num_triplets, seed=0).tolist()))
    warning = length_warning(num_triplets, num_classes)
    assert (warning is None) == (never == 0)
    if warning is not None:
        assert warning.startswith(describe_length(num_triplets, num_classes))
        assert (
            f" {never} of them {'is' if never == 1 else 'are'} never an anchor: give {num_classes} or more" in warning
        )
