"""Near-duplicates: in recordings, across splits and not within groups; not in pictures alike by nature."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from mohs.data.check import check_table
from mohs.data.dataset import Dataset, open_dataset
from mohs.data.equal_pictures import NearDuplicates, find_near_duplicates
from mohs.data.images import ImagePolicy
from mohs.data.reading import read_table
from mohs.data.table import Table
from mohs.doctor.findings import Finding
from mohs.doctor.run.causes import find_near_copies
from mohs.training.run_inputs import SplitData

SETS = Path(__file__).resolve().parents[3] / "shared" / "data"
NUM_CLASSES = 40


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def frames(picture: Image.Image) -> list[Image.Image]:
    """Four frames of a recording: as it is; moved by a pixel; moved and compressed; darker, smaller, compressed."""
    pixels = np.asarray(picture)
    smaller = picture.resize((picture.width * 4 // 5, picture.height * 4 // 5), Image.Resampling.BILINEAR)
    return [
        picture,
        Image.fromarray(np.roll(pixels, (1, -1), (0, 1))),
        jpeg(Image.fromarray(np.roll(pixels, 1, 0)), 60),
        jpeg(ImageEnhance.Brightness(smaller).enhance(0.85), 75),
    ]


@pytest.fixture(scope="module")
def emoji() -> tuple[list[Image.Image], list[str]]:
    """Emoji of `NUM_CLASSES` classes by two artists each."""
    archive = SETS / "emoji.zip"
    if not archive.is_file():
        pytest.skip("the real set emoji.zip is not in ../shared/data beside the project")
    pictures, labels = [], []
    with zipfile.ZipFile(archive) as files:
        of_class: dict[str, list[str]] = {}
        for row in csv.DictReader(io.StringIO(files.read("emoji/images.csv").decode())):
            of_class.setdefault(row["class"], []).append(row["file"])
        names = [name for name in sorted(of_class) if len(of_class[name]) > 1]
        for name in np.random.default_rng(0).permutation(names)[:NUM_CLASSES].tolist():
            for file in of_class[name][:2]:
                picture = Image.open(io.BytesIO(files.read(f"emoji/{file}"))).convert("RGBA")
                white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
                pictures.append(Image.alpha_composite(white, picture).convert("RGB"))
                labels.append(name)
    return pictures, labels


@pytest.fixture(scope="module")
def recordings(emoji: tuple[list[Image.Image], list[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, labels and recordings: two recordings a class, of four frames each."""
    pictures = [frame.resize((32, 32), Image.Resampling.LANCZOS) for picture in emoji[0] for frame in frames(picture)]
    recording = np.array([f"r{i}" for i in range(len(emoji[0])) for _ in range(4)])
    return np.stack([np.asarray(picture) for picture in pictures]), np.repeat(emoji[1], 4), recording


def test_frames_of_a_recording_are_found(recordings: tuple[np.ndarray, ...]) -> None:
    pictures, labels, recording = recordings
    found = find_near_duplicates(pictures, labels)
    assert found.is_common
    assert found.share > 0.6
    assert (recording[found.query_P] == recording[found.other_P]).mean() > 0.98
    assert not find_near_duplicates(pictures, labels, groups_N=recording).is_common
    # One picture of each recording: two artists who draw one thing are no recording.
    assert not find_near_duplicates(pictures[::4], labels[::4]).is_common


def split_data(recordings: tuple[np.ndarray, ...], test_N: np.ndarray, *, unseen: bool, grouped: bool) -> SplitData:
    pictures, labels, recording = recordings
    table = Table(
        tuple(f"{i}.png" for i in range(len(labels))), labels, np.full(len(labels), "sample"), np.full(len(labels), ""),
        groups=recording if grouped else None,
    )  # fmt: skip
    return SplitData(Dataset(table, pictures), ~test_N, test_N, unseen)


def test_the_doctor_tells_them_across_the_split(recordings: tuple[np.ndarray, ...]) -> None:
    _, labels, recording = recordings
    fourth = np.arange(len(labels)) % 4 == 3
    found = find_near_copies(split_data(recordings, fourth, unseen=False, grouped=False))
    assert isinstance(found, Finding)
    assert (found.cause, found.severity) == ("near-duplicates", "warning")
    assert "in training, for example" in found.what
    assert "'group'" in found.fix
    # Whole recordings on one side: the same test pictures have none in training, and neither have they with groups.
    whole = np.array([int(name[1:]) % 2 == 1 for name in recording.tolist()])
    assert find_near_copies(split_data(recordings, whole, unseen=False, grouped=False)) is None
    assert find_near_copies(split_data(recordings, fourth, unseen=False, grouped=True)) is None
    half = np.isin(labels, np.unique(labels)[::2])
    found = find_near_copies(split_data(recordings, half, unseen=True, grouped=False))
    assert found is not None
    assert "among the other test pictures" in found.what


def test_check_tells_them_by_count_and_example(emoji: tuple[list[Image.Image], list[str]], tmp_path: Path) -> None:
    lines = []
    for i, (picture, label) in enumerate(zip(*emoji, strict=True)):
        for j, frame in enumerate(frames(picture)):
            frame.save(tmp_path / f"{i}-{j}.png")
            lines.append(f"{i}-{j}.png,{label},r{i},{'test' if j == 3 else 'train'}")
    path = tmp_path / "t.csv"
    path.write_text("file,class,recording,split\n" + "\n".join(lines) + "\n")
    (line,) = check_table(read_table(path)).warnings
    assert line.startswith(f"{path}: ")
    assert f" of {2 * NUM_CLASSES} test pictures looked at have a near-duplicate in training, as frames" in line
    assert "-3.png' and '" in line
    assert "A column 'group'" in line
    assert "--exclude-same-group" in line
    assert check_table(read_table(path, group_column="recording")).warnings == ()
    path.write_text("\n".join(each.rpartition(",")[0] for each in path.read_text().splitlines()) + "\n")
    (line,) = check_table(read_table(path)).warnings
    assert "pictures looked at have a near-duplicate in the set" in line
    pairs = line.partition("(for example ")[2].partition("):")[0].split(", ")
    assert len({frozenset(pair.split(" and ")) for pair in pairs}) == 3


def test_two_that_are_each_others_are_one_pair() -> None:
    query_P, other_P = np.array([0, 1, 2, 5]), np.array([1, 0, 1, 4])
    assert NearDuplicates(9, query_P, other_P, np.zeros(4)).pairs() == [(0, 1), (2, 1), (5, 4)]


@pytest.mark.parametrize("size", [32, 64])
def test_characters_are_alike_by_nature(size: int) -> None:
    glyphs = open_dataset("glyphs", policy=ImagePolicy(size=size, channels=1))
    found = find_near_duplicates(glyphs.pictures[:3000], glyphs.labels[:3000])
    assert not found.is_common
    assert found.why_not == "line drawings, which are alike by nature"


def test_unrelated_pictures_that_look_alike_give_no_alarm() -> None:
    # One shape in one place, each class with a mark of its own: half of what other classes differ by is less than 0.08.
    random = np.random.default_rng(0)
    base = random.integers(0, 256, (8, 8, 3)).repeat(4, 0).repeat(4, 1)
    pictures = np.stack([np.clip(base + random.integers(-12, 13, base.shape), 0, 255) for _ in range(120)]).astype(
        np.uint8
    )
    assert not find_near_duplicates(pictures, np.repeat(np.arange(60), 2).astype(str)).is_common
    assert find_near_duplicates(pictures, np.full(120, "one class")).is_common  # nothing else to compare with


def test_nothing_to_compare() -> None:
    pictures = np.zeros((2, 8, 8, 3), np.uint8)
    found = find_near_duplicates(pictures, np.array(["a", "b"]), query_Q=np.arange(0))
    assert (found.num_looked, found.share, found.is_common) == (0, 0.0, False)
    blank = find_near_duplicates(pictures, np.array(["a", "b"]))
    assert not blank.is_common
