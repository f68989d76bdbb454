import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mohs.artefacts import write_json
from mohs.errors import InputError
from mohs.evaluation.embedding_files import read_npy
from mohs.sums import (
    add_array_sum,
    arrays_sum,
    check_files,
    check_format,
    file_sums,
    json_sum,
    read_summed,
    write_summed,
)

VALUES = {"format": 1, "dim": 8, "share": 0.1, "names": ["a", "ü"], "inner": {"2": None, "10": True}}


def test_values_come_back_and_their_order_and_spaces_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    write_summed(file, VALUES)
    assert read_summed(file) == VALUES
    file.write_text(json.dumps(dict(reversed(json.loads(file.read_text()).items())), indent=8))
    assert read_summed(file) == VALUES
    write_json(file, VALUES)  # as older versions did
    assert read_summed(file) == VALUES
    assert json_sum({"a": {1: 0, 10: 0, 2: 0}}) == json_sum({"a": {"10": 0, "2": 0, "1": 0}})


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("8", "9", "damaged, or changed since it was written: its values do not match their SHA-256"),
        ("8", "8.0", "do not match their SHA-256"),
        ('"share"', '"shape"', "do not match their SHA-256"),
        ("0.1", "1e999", "not JSON (Out of range float"),
        ("0.1", "NaN", "not JSON (NaN is no number)"),
        ("0.1", "9" * 5000, "not JSON (Exceeds the limit"),
        ("8", '8, "dim": 8', "not JSON ('dim' is there twice)"),
        ("8", "[" * 100_000 + "]" * 100_000, "not JSON (too deep)"),
        ("8", "", "not JSON (Expecting value"),
    ],
)
def test_other_values_are_refused(tmp_path: Path, old: str, new: str, line: str) -> None:
    file = tmp_path / "x.json"
    write_summed(file, VALUES)
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_summed(file)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(f"{file}: ")
    assert line in str(caught.value)


@pytest.mark.parametrize("data", [b"[]", b"3", b"\xff", b""])
def test_what_is_no_object_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.json: not (a JSON object|JSON)"):
        read_summed(tmp_path / "x.json")
    with pytest.raises(InputError, match="no such file"):
        read_summed(tmp_path / "y.json")


@pytest.mark.parametrize("found", [0, None, "1", True, 1.5, [1]])
def test_only_the_format_that_is_known_is_read(found: Any) -> None:
    check_format("x.json", 1, 1)
    with pytest.raises(InputError, match=r"x\.json: format .* is not 1; use the version of mohs that saved it"):
        check_format("x.json", found, 1)
    with pytest.raises(
        InputError, match=r"format 3 is newer than 1, the newest that this mohs reads; use a newer mohs"
    ):
        check_format("x.json", 3, 1)


def test_files_beside_are_those_it_was_written_with(tmp_path: Path) -> None:
    head = tmp_path / "x.json"
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    values: dict[str, Any] = {"files": file_sums(tmp_path, ["a", "b"])}
    check_files(head, values)
    check_files(head, {})  # an older one
    (tmp_path / "a").write_text("b")
    (tmp_path / "b").unlink()
    with pytest.raises(InputError) as caught:
        check_files(head, values)
    assert caught.value.problems == (
        f"{tmp_path}/a: damaged, or changed since it was written: SHA-256 is not the one in x.json; copy or make it "
        "again",
        f"{tmp_path}/b: no such file; copy it beside x.json again",
    )
    with pytest.raises(InputError) as caught:
        check_files(head, values, may_lack=lambda name: name == "b")
    assert len(caught.value.problems) == 1
    for name in ("../a", "/etc/passwd"):
        with pytest.raises(InputError, match="is outside the folder"):
            check_files(head, {"files": {name: ""}})
    with pytest.raises(InputError, match=r"x\.json: files is list, no object"):
        check_files(head, {"files": ["a"]})


def test_the_sum_of_arrays_is_of_names_types_shapes_and_numbers() -> None:
    arrays = {"a": np.arange(6, dtype=np.int64), "b": np.zeros(2, np.float32)}
    others = [
        {"b": arrays["b"], "a": arrays["a"]},
        arrays | {"a": arrays["a"][::-1]},
        arrays | {"a": arrays["a"].reshape(2, 3)},
        arrays | {"a": arrays["a"].view(np.uint64)},
    ]
    sums = [arrays_sum(b"h", each) for each in (arrays, *others)] + [arrays_sum(b"i", arrays)]
    assert len(set(sums)) == len(sums)
    assert arrays_sum(b"h", {name: np.array(array[::-1])[::-1] for name, array in arrays.items()}) == sums[0]


@pytest.mark.parametrize("mapped", [False, True])
def test_an_array_is_held_against_the_sum_behind_it(tmp_path: Path, mapped: bool) -> None:
    file = tmp_path / "x.npy"
    x_ND = np.arange(24, dtype=np.float32).reshape(6, 4)
    np.save(file, x_ND)
    plain = file.read_bytes()
    add_array_sum(file)
    whole = file.read_bytes()
    np.testing.assert_array_equal(np.load(file), x_ND)  # numpy passes over it
    for data in (whole, plain):
        file.write_bytes(data)
        np.testing.assert_array_equal(read_npy(file, "numbers", mapped=mapped), x_ND)
    flipped = bytearray(whole)
    flipped[len(plain) - 3] ^= 4
    fewer = whole.replace(b"(6, 4)", b"(5, 4)")
    for data in (bytes(flipped), whole[:-1], whole + b"1", plain + b"1", fewer, whole[: len(plain)] + bytes(76)):
        file.write_bytes(data)
        with pytest.raises(InputError, match=r"x\.npy: damaged, or changed since it was written: "):
            read_npy(file, "numbers", mapped=mapped)
    file.write_bytes(whole.replace(b"(6, 4)", b"(6, 9)"))
    with pytest.raises(InputError, match=r"x\.npy: cannot be read"):
        read_npy(file, "numbers", mapped=mapped)
