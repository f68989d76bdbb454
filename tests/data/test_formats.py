"""Which files of a folder are pictures, and what is said of those that are not."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, features

from mohs.data.dataset import open_dataset
from mohs.data.folder import picture_formats, why_not_read
from mohs.data.images import ImagePolicy, decode_images
from mohs.data.reading import read_table
from mohs.errors import DataWarning, InputError

GREY = ImagePolicy(size=8, channels=1)
KINDS = ["jpg", "jfif", "jpe", "png", "apng", "bmp", "gif", "webp", "tif", "ppm", "pgm", "pnm", "jp2", "j2k", "tga",
         "ico", "pcx", "mpo", "qoi"]  # fmt: skip


def half(size: int = 32) -> Image.Image:
    pixels = np.zeros((size, size), np.uint8)
    pixels[:, size // 2 :] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", [*KINDS, *(["avif"] if features.check("avif") else [])])
def test_a_folder_of_any_kind_is_read(tmp_path: Path, kind: str) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        picture = (
            half().convert("RGB") if kind in ("avif", "jpg", "jfif", "jpe", "mpo", "webp", "ppm", "qoi") else half()
        )
        picture.save(tmp_path / label / f"x.{kind.upper()}", **({"quality": 95} if kind != "png" else {}))
    dataset = open_dataset(tmp_path, policy=GREY, cache_dir=tmp_path / ".cache")
    assert len(dataset) == 2
    assert dataset.pictures[:, :, :3].max() < 40
    assert dataset.pictures[:, :, 5:].min() > 215


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path, save_picture: Callable[..., Path]) -> None:
    for i, name in enumerate(["a/1.png", "a/2.JFIF", "b/3.ppm"]):
        path = save_picture(tmp_path / name.replace("JFIF", "jpg"), i)
        path.rename(tmp_path / name)
    for name in ("a/scan.pdf", "a/logo.eps", "b/4.eps", "b/raw.CR2", "b/noextension", "b/deep/x.svg", "b/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.warns(DataWarning) as said:
        assert read_table(tmp_path).files == ("a/1.png", "a/2.JFIF", "b/3.ppm")
    assert [str(each.message) for each in said] == [
        f"{tmp_path}: 6 of 9 files are no pictures that Mohs reads and are passed over: 2 .eps, 1 .cr2, 1 .pdf, "
        "1 .svg, 1 without an extension (for example 'a/logo.eps', 'a/scan.pdf', 'b/4.eps'); EPS is not read, since "
        "Pillow would start a program for it; save it as PNG; PDF is not read, since it is a document; save it as PNG"
    ]


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, save_picture: Callable[..., Path]) -> None:
    for i, label in enumerate("ab"):
        save_picture(tmp_path / label / "x.png", i)
    (tmp_path / "a" / "y.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(
        InputError, match=r"'a/y\.png': no such file: a link that leads nowhere \('.*/gone\.png'\); replace"
    ):
        open_dataset(tmp_path, policy=GREY, cache_dir=tmp_path / ".cache")


@pytest.mark.parametrize("name", ["a.eps", "a.ps", "a.png", "a.jpg"])
def test_no_program_is_started_whatever_the_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start(*_: object, **__: object) -> object:
        started.append(name)
        return Image.new("RGB", (9, 9)).im

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", start)
    (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    (line,) = decode_images([tmp_path / name], GREY)
    eps = "EPS is not read, since Pillow would start a program for it; save it as PNG"
    assert line == (eps if name.endswith("ps") else "not a picture of a known format")
    assert not started
    with Image.open(tmp_path / name) as image:  # this test can fail: Pillow alone starts it
        image.load()
    assert started


def test_heic_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    picture_formats.cache_clear()
    try:
        for label in "ab":
            (tmp_path / label).mkdir()
            (tmp_path / label / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        table = read_table(tmp_path)
        assert len(table) == 2  # counted as pictures, not passed over
        assert decode_images([table.path(0)], GREY) == ["HEIC needs the extra 'heif': pip install 'mohs[heif]'"]
        assert (
            why_not_read("x.heif") == why_not_read("x.HIF") == "HEIC needs the extra 'heif': pip install 'mohs[heif]'"
        )
    finally:
        picture_formats.cache_clear()


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="needs the extra heif")
def test_heic_is_read_with_its_extra(tmp_path: Path) -> None:
    import pillow_heif

    for label in "ab":
        (tmp_path / label).mkdir()
        pillow_heif.from_pillow(half(64).convert("RGB")).save(tmp_path / label / "x.heic", quality=95)
    dataset = open_dataset(tmp_path, policy=GREY, cache_dir=tmp_path / ".cache")
    assert dataset.pictures[:, :, :3].max() < 40
    assert dataset.pictures[:, :, 5:].min() > 215
