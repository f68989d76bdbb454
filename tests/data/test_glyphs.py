import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mohs.data import glyphs
from mohs.data.dataset import Dataset, open_dataset
from mohs.data.glyphs import draw_glyphs, export_glyphs
from mohs.data.images import ImagePolicy
from mohs.errors import InputError


@pytest.fixture(scope="module")
def whole() -> Dataset:
    return draw_glyphs()


def test_size_of_the_set(whole: Dataset) -> None:
    # Other releases of FreeType may draw, and so merge, a little differently.
    assert 5_000 < whole.table.num_classes < 5_400
    assert 38_000 < len(whole) < 40_500
    assert whole.pictures.shape == (len(whole), 32, 32, 1)
    assert min(Counter(whole.labels.tolist()).values()) == 2
    assert len(set(whole.table.files)) == len(whole)


def test_homoglyphs_are_one_class(whole: Dataset) -> None:
    labels = set(whole.labels.tolist())
    assert "U+0041" in labels
    assert not {"U+0391", "U+0410"} & labels  # Greek Alpha, Cyrillic A
    assert {"U+0042", "U+0061", "U+0126"} <= labels


def test_no_class_has_the_same_drawing_twice_and_no_two_share_one_face(whole: Dataset) -> None:
    owner: dict[tuple[str, bytes], str] = {}
    seen: set[tuple[str, bytes]] = set()
    for file, label, picture in zip(whole.table.files, whole.labels.tolist(), whole.pictures, strict=True):
        pixels = picture.tobytes()
        assert (label, pixels) not in seen
        seen.add((label, pixels))
        assert owner.setdefault((file.split("/")[0], pixels), label) == label


def test_drawings_fill_the_picture(whole: Dataset) -> None:
    ink = whole.pictures[..., 0] < 255
    assert ink.any(axis=(1, 2)).all()
    assert not ink[:, [0, 1, -2, -1]].any()  # a border of 32 // 16
    assert not ink[:, :, [0, 1, -2, -1]].any()
    # Centred: the free space on both sides differs by a pixel at most.
    for axis in (1, 2):
        along = ink.any(axis=3 - axis)
        before, after = along.argmax(axis=1), along[:, ::-1].argmax(axis=1)
        assert np.abs(before - after).max() <= 1


def test_roles(whole: Dataset) -> None:
    in_catalog = whole.roles == "catalog"
    assert Counter(whole.labels[in_catalog].tolist()).most_common(1)[0][1] == 1
    assert all(file.startswith("DejaVuSans/") for file in whole.table.take(in_catalog).files)
    assert in_catalog.sum() > 0.9 * whole.table.num_classes
    assert "DejaVuSans/U+0041.png" in whole.table.take(in_catalog).files


def test_deterministic_and_in_order(two_faces: dict[str, Path]) -> None:
    one, other = draw_glyphs(), draw_glyphs()
    assert one.table.files == other.table.files
    np.testing.assert_array_equal(one.pictures, other.pictures)
    points = [int(label.removeprefix("U+"), 16) for label in one.labels.tolist()]
    assert points == sorted(points)


def test_classes_do_not_depend_on_the_size(two_faces: dict[str, Path]) -> None:
    small, large = draw_glyphs(), draw_glyphs(48, channels=3)
    assert large.pictures.shape == (len(small), 48, 48, 3)
    assert large.table.files == small.table.files
    assert large.labels.tolist() == small.labels.tolist()
    assert (large.pictures[..., 0] == large.pictures[..., 2]).all()
    assert (large.pictures.min(axis=(1, 2, 3)) < 255).all()


def test_unmerged_set_has_identical_drawings_with_different_labels(two_faces: dict[str, Path]) -> None:
    raw, merged = draw_glyphs(merge_homoglyphs=False), draw_glyphs()
    assert raw.table.num_classes > merged.table.num_classes
    assert len(raw) > len(merged)
    position = {file: i for i, file in enumerate(raw.table.files)}
    latin, greek = position["DejaVuSans/U+0041.png"], position["DejaVuSans/U+0391.png"]
    np.testing.assert_array_equal(raw.pictures[latin], raw.pictures[greek])
    assert raw.labels[latin] != raw.labels[greek]
    assert not {"U+0020", "U+00AD", "U+E000"} & set(raw.labels.tolist())


def test_export_reads_back(tmp_path: Path, two_faces: dict[str, Path]) -> None:
    folder = export_glyphs(tmp_path / "out", 16, num_classes=30)
    read = open_dataset(folder, policy=ImagePolicy(size=16, channels=1), cache_dir=tmp_path / "cache")
    drawn = draw_glyphs(16)
    drawn = drawn.take(drawn.labels_id < 30)
    assert read.table.num_classes == 30
    assert sorted(read.table.files) == sorted(drawn.table.files)
    position = {file: i for i, file in enumerate(drawn.table.files)}
    order = [position[file] for file in read.table.files]
    np.testing.assert_array_equal(read.pictures, drawn.pictures[order])
    assert read.roles.tolist() == drawn.roles[order].tolist()
    assert read.labels.tolist() == drawn.labels[order].tolist()
    with pytest.raises(InputError, match=r"out: not an empty folder; name a new one$"):
        export_glyphs(folder)


def test_wrong_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^size: 4 is not"):
        draw_glyphs(4)
    with pytest.raises(InputError, match=r"^num_classes: 0 is not a whole number of at least 1"):
        export_glyphs(tmp_path / "x", num_classes=0)
    monkeypatch.setattr(glyphs.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"^glyphs: matplotlib's DejaVu fonts are not in .*; install matplotlib"):
        draw_glyphs()


def test_neither_matplotlib_nor_torch_is_imported() -> None:
    code = (
        "import sys, mohs.data.glyphs, mohs.data.split, mohs.data.check; "
        "print({'matplotlib', 'torch'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"
