"""Sets in tars and Arrow files: the pictures, classes and columns that were put in, and one line for what is wrong."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import mohs
from mohs.data.images import ImagePolicy
from mohs.errors import InputError

POLICY = ImagePolicy(size=8)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
CLASSES = ["a", "a", "b", "b", "c", "c"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mohs" / "unpacked"


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[i]).save(buffer, format="PNG")
    return buffer.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(first: int, last: int) -> dict[str, bytes]:
    files = {}
    for i in range(first, last):
        files[f"shop/{i:04d}.png"] = png(i)
        files[f"shop/{i:04d}.cls"] = f"{CLASSES[i]}\n".encode()
        files[f"shop/{i:04d}.json"] = json.dumps({"price": 3 * i, "tags": ["x"], "file": "/etc/passwd"}).encode()
    return files


def require_whole(source: Path) -> mohs.Dataset:
    dataset = mohs.open_dataset(source, policy=POLICY)
    assert dataset.labels.tolist() == CLASSES
    assert np.array_equal(np.asarray(dataset.pictures), PIXELS)
    return dataset


def test_a_tar_and_a_folder_of_them(tmp_path: Path, cache: Path) -> None:
    dataset = require_whole(write_tar(tmp_path / "shop.tar", samples(0, 6)))
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "b-1.tar", samples(4, 6))
    write_tar(tmp_path / "shards" / "b-0.tar", samples(0, 4))
    require_whole(tmp_path / "shards")
    assert len([folder for folder in cache.iterdir() if not folder.name.startswith(".")]) == 2
    columns = pq.read_table(Path(dataset.table.places[0].rpartition(": row ")[0])).to_pydict()
    assert columns["price"] == ["0", "3", "6", "9", "12", "15"]
    assert columns["key"][1] == "shop/0001"
    assert columns.keys() == {"file", "class", "key", "price"}


def test_it_is_unpacked_once_and_again_if_it_changed(tmp_path: Path, cache: Path) -> None:
    tar = write_tar(tmp_path / "shop.tar", samples(0, 6))
    first = mohs.read_table(tar)
    written = first.path(0).stat().st_mtime_ns
    assert mohs.read_table(tar).path(0).stat().st_mtime_ns == written
    write_tar(tar, samples(0, 4))
    assert len(mohs.read_table(tar)) == 4


def test_names_in_a_tar_write_nowhere_else(tmp_path: Path, cache: Path) -> None:
    files = {f"../../{i}.png": png(i) for i in range(2)} | {"../../0.cls": b"a", "../../1.cls": b"b"}
    order = ["../../0.png", "../../0.cls", "../../1.png", "../../1.cls"]
    tar = write_tar(tmp_path / "shop.tar", {name: files[name] for name in order})
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    table = mohs.read_table(tar)
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
    assert all(cache.resolve() in table.path(i).resolve().parents for i in range(2))


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"0.png": b"x"}, "shop.tar: sample '0': has no class; add a file 'cls', or 'class' to its 'json'"),
        ({"0.png": b"x", "0.jpg": b"x", "0.cls": b"a"}, "sample '0': has 2 pictures (png, jpg); keep one"),
        ({"0.png": b"x", "0.json": b"[1]"}, "sample '0': its JSON is a list, no object; correct it"),
        ({"0.png": b"x", "0.json": b"{"}, "sample '0': its json cannot be read ("),
        ({"0.cls": b"a"}, "shop.tar: no pictures; give a set that has some"),
    ],
)
def test_what_is_wrong_in_a_tar_is_one_line(tmp_path: Path, files: dict[str, bytes], line: str, cache: Path) -> None:
    with pytest.raises(InputError) as caught:
        mohs.read_table(write_tar(tmp_path / "shop.tar", files))
    assert line in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not [left for left in cache.iterdir() if left.is_dir()]


def test_a_tar_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "shop.tar", samples(0, 6))
    tar.write_bytes(tar.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"shop\.tar: not a whole tar \("):
        mohs.read_table(tar)
    tar.write_bytes(b"no tar")
    with pytest.raises(InputError, match=r"shop\.tar: not a whole tar \("):
        mohs.read_table(tar)


def hugging_face(label: str = "label", names: list[str] | None = None) -> pa.Table:
    number = {name: i for i, name in enumerate(names or [])}
    columns = {
        "image": pa.array([{"bytes": png(i), "path": f"{i}.png"} for i in range(6)]),
        label: pa.array([number[name] for name in CLASSES] if names else CLASSES),
        "price": pa.array(range(6)),
    }
    features = {"image": {"_type": "Image"}}
    if names:
        features[label] = {"names": names, "_type": "ClassLabel"}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table(columns).replace_schema_metadata(about)


def save_to_disk(folder: Path, table: pa.Table) -> None:
    folder.mkdir(parents=True)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as writer,
    ):
        writer.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_indices_data_files": None}
    (folder / "state.json").write_text(json.dumps(state))


def test_a_parquet_with_pictures_in_it(tmp_path: Path) -> None:
    pq.write_table(hugging_face(names=["c", "b", "a"]), tmp_path / "shop.parquet")
    require_whole(tmp_path / "shop.parquet")
    pq.write_table(hugging_face("brand", names=["c", "b", "a"]), tmp_path / "brands.parquet")
    require_whole(tmp_path / "brands.parquet")


def test_a_folder_by_save_to_disk(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "shop", hugging_face())
    require_whole(tmp_path / "shop")
    save_to_disk(tmp_path / "splits" / "train", hugging_face().slice(0, 4))
    save_to_disk(tmp_path / "splits" / "test", hugging_face().slice(4))
    (tmp_path / "splits" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    dataset = require_whole(tmp_path / "splits")
    assert dataset.table.splits.tolist() == ["train"] * 4 + ["test"] * 2


def test_what_is_wrong_in_a_saved_set_is_one_line(tmp_path: Path) -> None:
    pq.write_table(hugging_face("brand"), tmp_path / "shop.parquet")
    with pytest.raises(InputError, match="no column 'class' or 'label'; the columns are 'image', 'brand', 'price'"):
        mohs.read_table(tmp_path / "shop.parquet")
    save_to_disk(tmp_path / "shop", hugging_face())
    arrow = tmp_path / "shop" / "data-00000-of-00001.arrow"
    arrow.write_bytes(arrow.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be read"):
        mohs.read_table(tmp_path / "shop")
    (tmp_path / "shop" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../secret"}]}))
    with pytest.raises(InputError, match="names no data files beside it"):
        mohs.read_table(tmp_path / "shop")
    (tmp_path / "shop" / "state.json").write_text(json.dumps({"_data_files": [{}], "_indices_data_files": [{}]}))
    with pytest.raises(InputError, match="holds a selection of rows"):
        mohs.read_table(tmp_path / "shop")


def test_what_the_libraries_write_is_read(tmp_path: Path) -> None:
    reason = "is not installed: sets that it writes are NOT tested"
    webdataset = pytest.importorskip("webdataset", reason=f"webdataset {reason}")
    datasets = pytest.importorskip("datasets", reason=f"datasets {reason}")
    with webdataset.TarWriter(str(tmp_path / "shop.tar")) as writer:
        for i in range(6):
            writer.write({"__key__": f"{i:03d}", "png": png(i), "cls": CLASSES[i], "json": {"price": i}})
    require_whole(tmp_path / "shop.tar")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    rows = {"image": [{"bytes": png(i), "path": None} for i in range(6)], "label": CLASSES}
    made = datasets.Dataset.from_dict(rows, features=features)
    made.save_to_disk(tmp_path / "saved")
    require_whole(tmp_path / "saved")
    datasets.DatasetDict({"train": made}).save_to_disk(tmp_path / "splits")
    require_whole(tmp_path / "splits")
    made.to_parquet(tmp_path / "shop.parquet")
    require_whole(tmp_path / "shop.parquet")
