import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from mohs.errors import InputError
from mohs.evaluation.given_pairs import given_pairs, read_pairs

FILES = ("a.png", "b.png", "c.png", "d.png", "e.png")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_items_linked_by_positive_pairs_are_of_one_class(seed):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 6, 30)
    every = [(i, j) for i in range(30) for j in range(i + 1, 30)]
    chosen = [every[i] for i in random.choice(len(every), size=40, replace=False)]
    first, second = (np.array(side) for side in zip(*chosen, strict=True))
    same = truth[first] == truth[second]
    # Components by walking.
    component = list(range(30))
    for _ in range(30):
        for i, j, linked in zip(first, second, same, strict=True):
            if linked:
                component[i] = component[j] = min(component[i], component[j])
    pairs = given_pairs(second, first, num_items=30, same_P=same)
    assert pairs.same.tolist() == same.tolist()
    assert (pairs.class_N[:, None] == pairs.class_N[None, :]).tolist() == [
        [a == b for b in component] for a in component
    ]
    by_labels = given_pairs(first, second, num_items=30, labels_N=truth)
    assert by_labels.same.tolist() == same.tolist()
    assert (by_labels.weight_P == 1).all()
    assert by_labels.law == f"40 given pairs: {same.sum()} of one class, {40 - same.sum()} of two"


def test_a_long_chain_is_one_class():
    order = np.random.default_rng(0).permutation(5000)
    pairs = given_pairs(order[:-1], order[1:], num_items=5001, same_P=np.ones(4999, dtype=bool))
    assert len(set(pairs.class_N[order].tolist())) == 1
    assert pairs.class_N[5000] == 1


@pytest.mark.parametrize(
    ("first", "second", "arguments", "message"),
    [
        ([0], [1], {}, "same_P, labels_N: neither is given; give labels_N if there are labels, otherwise same_P"),
        ([0, 1], [1], {"same_P": [True, True]}, "first_P, second_P: lengths 2 and 1; give two items for each pair"),
        ([0], [7], {"same_P": [True]}, "second_P: 7 of pair 0 is not in [0, 3)"),
        ([], [], {"same_P": []}, "first_P: shape (0,) and type float64; give a flat array of item indices"),
        ([0], [1], {"same_P": [0.5]}, "same_P: shape (1,) and type float64; give one flag for each pair"),
        (
            [0, 1, 1],
            [1, 1, 0],
            {"same_P": [True, True, True]},
            "first_P, second_P: pair 1: item 1 is paired with itself; leave the pair out\n"
            "first_P, second_P: pair 2: the same two items as in first_P, second_P: pair 0; leave one out",
        ),
        (
            [0, 1, 0],
            [1, 2, 2],
            {"same_P": [True, True, False]},
            "same_P: pair 2: said to be of two classes, but labels or other pairs say that it is not; "
            "correct one of them",
        ),
    ],
)
def test_messages(first, second, arguments, message):
    with pytest.raises(InputError) as caught:
        given_pairs(first, second, num_items=3, **arguments)
    assert str(caught.value) == message


def test_pairs_of_a_table(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("file1,file2,same\na.png,b.png,1\nc.png,b.png,Different\nd.png,e.png,same\na.png,e.png,0\n")
    pairs = read_pairs(path, FILES)
    assert (pairs.first_P.tolist(), pairs.second_P.tolist()) == ([0, 2, 3, 0], [1, 1, 4, 4])
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.class_N.tolist() == [0, 0, 1, 2, 2]
    assert pairs.law == "4 pairs of pairs.csv: 2 of one class, 2 of two"
    assert read_pairs(path, FILES, labels_N=["x", "x", "y", "z", "z"]).class_N.tolist() == [0, 0, 1, 2, 2]
    path.write_text("file1,file2\na.png,b.png\na.png,c.png\n")
    assert read_pairs(path, FILES, labels_N=[1, 1, 2, 3, 3]).same.tolist() == [True, False]


def write(path, header, cells):
    files = [("a.png", "b.png"), ("c.png", "b.png"), ("d.png", "e.png"), ("a.png", "e.png")]
    path.write_text(
        f"file1,file2,{header}\n" + "".join(f"{a},{b},{c}\n" for (a, b), c in zip(files, cells, strict=True))
    )
    return path


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("same", ["True", "False", "TRUE", "false"]),
        ("same", ["yes", "no", "Yes", "NO"]),
        ("is_same", ["1.0", "0.0", "1.0", "0"]),
        ("Is Match", ["t", "f", "match", "mismatch"]),
        ("different", ["0", "1", "no", "TRUE"]),
        ("is-different", ["False", "True", "same", "1.0"]),
        ("label", ["same", "different", "same", "different"]),
        ("y", ["match", "mismatch", "genuine", "impostor"]),
    ],
)
def test_what_is_the_same_is_read_in_every_usual_form(tmp_path, header, cells):
    pairs = read_pairs(write(tmp_path / "pairs.csv", header, cells), FILES)
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.law == "4 pairs of pairs.csv: 2 of one class, 2 of two"


def test_parquet_flags_are_read_and_fractions_are_not_passed_over(tmp_path):
    path = tmp_path / "pairs.parquet"
    files = {"file1": ["a.png", "c.png"], "file2": ["b.png", "b.png"]}
    pq.write_table(pa.table({**files, "same": [True, False]}), path)
    assert read_pairs(path, FILES).same.tolist() == [True, False]
    pq.write_table(pa.table({**files, "same": [1.0, 0.0]}), path)
    with pytest.raises(InputError) as caught:
        read_pairs(path, FILES)
    assert str(caught.value) == (
        f"{path}: column 'same' holds neither text, whole numbers nor flags; store it as 1 and 0"
    )


@pytest.mark.parametrize("header", ["label", "y", "target", "Label", "y_true"])
def test_a_column_that_may_be_either_way_round_is_asked_about(tmp_path, header):
    path = write(tmp_path / "pairs.csv", header, "1010")
    with pytest.raises(InputError) as caught:
        read_pairs(path, FILES)
    assert str(caught.value) == (
        f"{path}: column {header!r}: 1 may mean the same or different; say which with one_means, or name the column "
        "'same' or 'different'"
    )
    assert read_pairs(path, FILES, one_means="same").same.tolist() == [True, False, True, False]
    assert read_pairs(path, FILES, one_means="different").same.tolist() == [False, True, False, True]
    # The labels tell, either way.
    write(path, header, "1010")
    labels = ["x", "x", "y", "z", "z"]
    found = read_pairs(path, FILES, labels_N=labels)
    assert found.law.endswith(f"2 of two; column {header!r} read as 1 = same, as the labels say")
    found = read_pairs(write(path, header, "0101"), FILES, labels_N=labels)
    assert found.same.tolist() == [True, False, True, False]
    assert found.law.endswith(f"column {header!r} read as 1 = different, as the labels say")
    with pytest.raises(InputError, match=r"the labels do not tell \(they agree with 1 = same in 50% of the pairs\)"):
        read_pairs(write(path, header, "1100"), FILES, labels_N=labels)
    # Something else than flags is no such column.
    assert read_pairs(write(path, header, ["u", "v", "w", "u"]), FILES, labels_N=labels).same.sum() == 2


def test_distances_tell_what_1_means(tmp_path):
    files = [f"{i}.png" for i in range(60)]
    class_N = np.arange(60) // 2
    x_ND = np.random.default_rng(0).normal(size=(30, 4))[class_N] + 0.1
    path = tmp_path / "pairs.csv"
    rows = [(i, i + 1, 1) for i in range(0, 60, 2)] + [(i, i + 3, 0) for i in range(0, 56, 2)]
    path.write_text("file1,file2,label\n" + "".join(f"{a}.png,{b}.png,{c}\n" for a, b, c in rows))
    found = read_pairs(path, files, embeddings_ND=x_ND)
    assert found.same.tolist() == [c == 1 for _, _, c in rows]
    assert found.law.endswith("read as 1 = same, since pairs of 1 are the closer ones in 100.0% of the cases")
    path.write_text("file1,file2,label\n" + "".join(f"{a}.png,{b}.png,{1 - c}\n" for a, b, c in rows))
    with pytest.raises(InputError, match="so 1 means different, or distances or labels are the wrong way round"):
        read_pairs(path, files, embeddings_ND=x_ND)
    with pytest.raises(InputError, match="column 'label': 1 may mean the same or different, and the distances do not"):
        read_pairs(path, files, embeddings_ND=np.ones((60, 2)))


def test_what_1_means_is_not_said_twice(tmp_path):
    path = write(tmp_path / "pairs.csv", "different", "0101")
    assert read_pairs(path, FILES, one_means="different").same.tolist() == [True, False, True, False]
    with pytest.raises(InputError, match="column 'different' says that 1 means different, and one_means is 'same'"):
        read_pairs(path, FILES, one_means="same")
    with pytest.raises(InputError, match="one_means: '1' is not 'same' or 'different'; say what 1 means"):
        read_pairs(path, FILES, one_means="1")


def test_every_bad_row_is_named(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("file1,file2,same\na.png,x.png,1\ny.png,b.png,maybe\n")
    with pytest.raises(InputError) as caught:
        read_pairs(path, FILES)
    assert str(caught.value).splitlines() == [
        f"{path}: row 3, column 'file1': 'y.png' is none of the 5 items; write it as in their table",
        f"{path}: row 2, column 'file2': 'x.png' is none of the 5 items; write it as in their table",
        f"{path}: row 3: column 'same': 'maybe' is neither 1 nor 0 (nor true, false, same, different)",
    ]
    path.write_text("file1,file2,same\na.png,a.png,1\nb.png,c.png,0\nc.png,b.png,0\n")
    with pytest.raises(InputError) as caught:
        read_pairs(path, FILES)
    assert str(caught.value).splitlines() == [
        f"{path}: row 2: item 0 is paired with itself; leave the pair out",
        f"{path}: row 4: the same two items as in {path}: row 3; leave one out",
    ]
    path.write_text("file1,file2,same\na.png,b.png,0\na.png,c.png,1\n")
    with pytest.raises(InputError) as caught:
        read_pairs(path, FILES, labels_N=["x", "x", "y", "z", "z"])
    assert str(caught.value).splitlines() == [
        f"{path}: row 2, column 'same': said to be of two classes, but labels or other pairs say that it is not; "
        "correct one of them",
        f"{path}: row 3, column 'same': said to be of one class, but labels or other pairs say that it is not; "
        "correct one of them",
    ]
    path.write_text("file1,other\na.png,b.png\n")
    with pytest.raises(InputError) as caught:
        read_pairs(path, FILES)
    assert str(caught.value) == (
        f"{path}: no column 'file2', 'same' among 'file1', 'other'; the header must name file1, file2, same"
    )
    path.write_text("file1,file2,same\n")
    with pytest.raises(InputError, match=r"pairs\.csv: no pairs; write one a row"):
        read_pairs(path, FILES)
    path.write_text("file1,file2\na.png,b.png\n")
    with pytest.raises(InputError, match="files: 1 names appear more than once; pairs need different ones"):
        read_pairs(path, ["a.png", "a.png", "b.png"], labels_N=[0, 0, 1])
    with pytest.raises(InputError, match=r"none\.csv: no such file; check the path"):
        read_pairs(tmp_path / "none.csv", FILES)
