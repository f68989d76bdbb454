"""What every release has saved is read by this version, and gives the numbers that it gave then."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_formats import ARTEFACTS

from mohs.artefacts import read_json, write_json
from mohs.errors import InputError

RELEASES = sorted(folder for folder in Path(__file__).parent.iterdir() if (folder / "embedder.json").is_file())
SAVED = [(release, name) for release in RELEASES for name in ARTEFACTS if (release / name).is_dir()]
HEADS = {"embedder": "embedder.json", "checkpoint": "step-00000012.json", "classifier": "classifier.json",
         "index": "index.json", "run": "run.json"}  # fmt: skip


def assert_same(found: Any, expected: Any) -> None:
    """Compare JSON values; numbers may differ in their last digits, as those of other processors do."""
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        for name in found:
            assert_same(found[name], expected[name])
    elif isinstance(found, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(found, float):
        np.testing.assert_allclose(found, expected, atol=2e-4)
    else:
        assert found == expected


@pytest.mark.parametrize(("release", "name"), SAVED, ids=lambda each: getattr(each, "name", each))
def test_what_a_release_saved_is_read(tmp_path: Path, release: Path, name: str) -> None:
    shutil.copytree(release / name, tmp_path / name)
    assert_same(ARTEFACTS[name].read(tmp_path / name), read_json(release / f"{name}.json"))


@pytest.mark.parametrize("name", [name for name in HEADS if (RELEASES[-1] / name).is_dir()])
def test_a_newer_format_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    shutil.copytree(RELEASES[-1] / name, tmp_path / name)
    head = tmp_path / name / HEADS[name]
    # Of later formats no sum is known.
    write_json(head, {key: value for key, value in read_json(head).items() if key != "content_sha256"} | {"format": 99})
    with pytest.raises(InputError, match=r"format 99 is newer than \d, the newest that this mohs reads; use a newer"):
        ARTEFACTS[name].read(tmp_path / name)


def test_a_plan_of_a_newer_format_is_said_in_one_line(tmp_path: Path) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(RELEASES[-1] / "plan" / "plan.parquet")
    about = {**table.schema.metadata, b"mohs.format": b"2"}
    pyarrow.parquet.write_table(table.replace_schema_metadata(about), tmp_path / "plan.parquet")
    with pytest.raises(InputError, match=r"plan.parquet: format 2 is newer than 1, the newest that this mohs reads"):
        ARTEFACTS["plan"].read(tmp_path)


def test_what_is_committed_is_small() -> None:
    for release in RELEASES:
        assert sum(file.stat().st_size for file in release.rglob("*") if file.is_file()) <= 300_000
