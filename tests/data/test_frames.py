"""Pictures of several frames or pages: the first is taken, and that is said."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mohs.data.check import check_table
from mohs.data.dataset import open_dataset
from mohs.data.images import ImagePolicy, decode_image
from mohs.data.reading import read_table
from mohs.errors import DataWarning

POLICY = ImagePolicy(size=16, channels=3)


def pages(num: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(num)]


def save(path: Path, num: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = pages(num)
    first.save(path, save_all=True, append_images=others, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.png", "a.webp"])
def test_several_frames_are_said_and_the_first_is_taken(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, 3)
    with pytest.warns(DataWarning) as said:
        found = decode_image(path, POLICY)
    assert [str(each.message) for each in said] == [
        f"1 of 1 pictures has several frames or pages ({str(path)!r}: 3), and the first is taken; save another as a "
        "file of its own"
    ]
    assert np.abs(found.astype(int) - np.asarray(pages(1)[0])).mean() < 20  # a GIF has 256 colours
    decode_image(save(path, 1), POLICY)  # warns of nothing


def test_a_smaller_copy_of_the_page_is_no_page(tmp_path: Path) -> None:
    page = pages(1)[0]
    reduced = page.resize((8, 8))
    reduced.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(tmp_path / "a.tif", save_all=True, append_images=[reduced])
    with Image.open(tmp_path / "a.tif") as image:
        assert image.n_frames == 2
    decode_image(tmp_path / "a.tif", POLICY)  # warns of nothing


def test_what_a_camera_adds_to_a_jpeg_is_no_frame(tmp_path: Path) -> None:
    page, preview = pages(2)
    page.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.n_frames == 2
    decode_image(tmp_path / "a.jpg", POLICY)  # warns of nothing


def test_a_broken_later_frame_leaves_the_first(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gif", 3)
    path.write_bytes(path.read_bytes()[:-300])
    decode_image(path, POLICY)


def test_a_set_says_it_once_with_the_first_names_and_again_from_the_cache(tmp_path: Path) -> None:
    for i, label in enumerate("aabbc"):
        save(tmp_path / "set" / label / f"{i}.gif", 1 if label == "c" else i + 2)
    source, cache = tmp_path / "set", tmp_path / "cache"
    line = (
        f"{source}: 4 of 5 pictures have several frames or pages ({source}: 'a/0.gif': 2, {source}: 'a/1.gif': 3, "
        f"{source}: 'b/2.gif': 4 and 1 more), and the first is taken; save another as a file of its own"
    )
    for _ in range(2):
        with pytest.warns(DataWarning) as said:
            open_dataset(source, policy=POLICY, cache_dir=cache)
        assert [str(each.message) for each in said] == [line]
    assert line in check_table(read_table(source)).warnings
