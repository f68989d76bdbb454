import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from mohs.errors import InputError
from mohs.plan import POSITIVE_ORIGINS, TripletPlan

COLUMNS = (
    "anchor",
    "positive",
    "negative",
    "hardness",
    "achieved_hardness",
    "anchor_positive_distance",
    "anchor_negative_distance",
    "positive_origin",
)


@pytest.fixture
def plan():
    return TripletPlan.of(
        [0, 3, 0],
        [1, 3, 1],
        [2, 0, 4],
        hardness=[0.1, 0.5, 1.0],
        achieved_hardness=[0.1, 0.25, 0.75],
        anchor_positive_distance=[0.5, 0.0, 0.5],
        anchor_negative_distance=[1.5, 1.25, 0.125],
        positive_origin=[0, 2, 1],
        header={"seed": 3, "scale": "range", "curve": "sigmoid é"},
    )


def assert_same(a, b):
    for name in COLUMNS:
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    assert dict(a.header) == dict(b.header)


def test_a_saved_plan_comes_back_whole(plan, tmp_path):
    plan.save(tmp_path / "plan.parquet")
    assert_same(TripletPlan.load(tmp_path / "plan.parquet"), plan)


def test_the_same_plan_gives_the_same_bytes(plan, tmp_path):
    plan.save(tmp_path / "a.parquet")
    reordered = replace(plan, header=dict(reversed(list(plan.header.items()))))
    reordered.save(tmp_path / "b.parquet")
    plan.with_header({"seed": 4}).save(tmp_path / "c.parquet")
    a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_csv_is_readable_text_with_files_and_classes(plan, tmp_path):
    files, labels = [f"{i}.png" for i in range(5)], ["007", "007", "NA", "é, b", "1.0"]
    plan.save_csv(tmp_path / "plan.csv", files=files, labels=labels)
    text = pyarrow.csv.ConvertOptions(column_types={"anchor_class": pa.string(), "negative_class": pa.string()})
    table = pyarrow.csv.read_csv(tmp_path / "plan.csv", convert_options=text)
    added = ["anchor_file", "positive_file", "negative_file", "anchor_class", "negative_class"]
    assert table.column_names == [*COLUMNS, *added]
    assert table.column("positive_origin").to_pylist() == ["class", "augmentation", "catalog"]
    assert table.column("negative").to_pylist() == [2, 0, 4]
    assert table.column("negative_file").to_pylist() == ["2.png", "0.png", "4.png"]
    assert table.column("positive_file").to_pylist() == ["1.png", "3.png", "1.png"]
    assert table.column("anchor_class").to_pylist() == ["007", "é, b", "007"]
    assert table.column("negative_class").to_pylist() == ["NA", "007", "1.0"]


def test_take_and_with_header(plan):
    assert plan.take(slice(1, 3)).anchor.tolist() == [3, 0]
    assert plan.take(np.array([2, 0])).hardness.tolist() == [1.0, np.float32(0.1)]
    part = plan.take(plan.negative == 0)
    assert (len(part), part.positive_origin.tolist(), part.header) == (1, [2], plan.header)
    assert plan.with_header({"seed": 9, "run": "x"}).header == {**plan.header, "seed": 9, "run": "x"}
    assert plan.header["seed"] == 3


def test_a_plan_of_indices_counts_its_positives_as_given():
    plan = TripletPlan.of([0], [1], [2])
    assert POSITIVE_ORIGINS[plan.positive_origin[0]] == "given"
    assert plan.hardness.tolist() == plan.anchor_negative_distance.tolist() == [0.0]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("anchor", -1, "anchor -1 is negative (1 rows in all); use item indices from 0"),
        ("positive", -2, "positive -2 is negative (1 rows in all); use item indices from 0"),
        ("negative", -3, "negative -3 is negative (1 rows in all); use item indices from 0"),
        ("negative", 3, "negative 3 is the anchor (1 rows in all); use an item of another class"),
        ("positive_origin", 4, "positive_origin 4 is unknown (1 rows in all); use 0 to 3"),
        ("hardness", 1.5, "hardness 1.5 is not in [0, 1] (1 rows in all); 0 is easiest, 1 hardest"),
        ("hardness", np.nan, "hardness nan is not in [0, 1] (1 rows in all); 0 is easiest, 1 hardest"),
        (
            "achieved_hardness",
            -0.5,
            "achieved_hardness -0.5 is not in [0, 1] (1 rows in all); 0 is easiest, 1 hardest",
        ),
        (
            "anchor_positive_distance",
            -1,
            "anchor_positive_distance -1.0 is negative, NaN or Inf (1 rows in all); give Euclidean distances",
        ),
        (
            "anchor_negative_distance",
            np.nan,
            "anchor_negative_distance nan is negative, NaN or Inf (1 rows in all); give Euclidean distances",
        ),
    ],
)
def test_a_broken_rule_is_named_with_its_row(plan, column, value, message):
    values = getattr(plan, column).copy()
    values[1] = value
    with pytest.raises(InputError) as caught:
        replace(plan, **{column: values})
    assert f"plan: row 1: {message}" in caught.value.problems


def test_a_negative_may_not_be_the_positive(plan):
    with pytest.raises(InputError) as caught:
        replace(plan, negative=np.array([1, 0, 1]))
    message = "plan: row 0: negative 1 is the positive (2 rows in all); use an item of another class"
    assert str(caught.value) == message


def test_all_broken_rules_are_reported_together(plan):
    with pytest.raises(InputError) as caught:
        replace(plan, anchor=np.array([-1, 3, 0]), hardness=np.array([0.1, 2.0, 1.0]))
    assert len(caught.value.problems) == 2


def test_columns_of_different_lengths_are_listed(plan):
    with pytest.raises(InputError, match=r"plan: columns differ in shape \(anchor \(2,\), positive \(3,\)"):
        replace(plan, anchor=np.array([0, 3]))


def test_files_that_are_no_plans_are_named(plan, tmp_path):
    missing, text, other, headless, unknown, broken = (tmp_path / f"{i}.parquet" for i in range(6))
    text.write_text("not parquet at all, but long enough to be read as one")
    pyarrow.parquet.write_table(pa.table({"anchor": [1]}), other)
    pyarrow.parquet.write_table(plan.to_arrow().replace_schema_metadata({}), headless)
    table = plan.to_arrow()
    strange = pa.array(["class", "luck", "class"])
    pyarrow.parquet.write_table(table.set_column(7, "positive_origin", strange), unknown)
    pyarrow.parquet.write_table(table.set_column(0, "anchor", pa.array([0, -3, 0])), broken)
    expected = {
        missing: "no such file; check the path",
        text: r"not a Parquet file \(.*\); make a plan with 'mohs mine'",
        other: r"not a triplet plan \(no column 'positive'\); make one with 'mohs mine'",
        headless: r"not a triplet plan \(no header\); make one with 'mohs mine'",
        unknown: "positive_origin: 'luck' is not one of class, catalog, augmentation, given",
        broken: r"plan: row 1: anchor -3 is negative \(1 rows in all\); use item indices from 0",
    }
    for path, message in expected.items():
        with pytest.raises(InputError) as caught:
            TripletPlan.load(path)
        assert re.fullmatch(re.escape(f"{path}: ") + message, caught.value.problems[0]), str(caught.value)
