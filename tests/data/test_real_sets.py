"""Real sets beside the project, where they are: a few pictures of each, from the zip to the dataset."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mohs.data.check import check_table
from mohs.data.dataset import open_dataset
from mohs.data.images import ImagePolicy
from mohs.data.split import assign_splits

SETS = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "channels", "per_class"), [("omniglot", 1, 20), ("emoji", 3, None), ("caltech30", 3, 30)]
)
def test_real_set(tmp_path: Path, name: str, channels: int, per_class: int | None) -> None:
    archive = SETS / f"{name}.zip"
    if not archive.is_file():
        pytest.skip(f"the real set {name}.zip is not in ../shared/data beside the project")
    num_classes = 6
    with zipfile.ZipFile(archive) as files:
        for table in {f"{name}/images.csv", f"{name}/catalog.csv"} & set(files.namelist()):
            rows = list(csv.DictReader(io.StringIO(files.read(table).decode())))
            keep = set(sorted({row["class"] for row in rows})[:num_classes])
            rows = [{key: row[key] for key in ("file", "class")} for row in rows if row["class"] in keep]
            for row in rows:
                files.extract(f"{name}/{row['file']}", tmp_path)
            with (tmp_path / table).open("w", newline="") as file:
                writer = csv.DictWriter(file, ["file", "class"])
                writer.writeheader()
                writer.writerows(rows)
    dataset = open_dataset(
        tmp_path / name, policy=ImagePolicy(size=32, channels=channels), cache_dir=tmp_path / "cache"
    )
    assert dataset.table.num_classes == num_classes
    assert dataset.pictures.shape[1:] == (32, 32, channels)
    assert (np.ptp(dataset.pictures, axis=(1, 2, 3)) > 30).all()
    if per_class is not None:
        assert np.bincount(dataset.labels_id).tolist() == [per_class] * num_classes
    else:
        assert (dataset.roles == "catalog").sum() == num_classes
    result = check_table(dataset.table)
    assert result.problems == ()
    assert assign_splits(dataset.table, "class", 0.34, seed=0).splits.tolist().count("test") > 0
