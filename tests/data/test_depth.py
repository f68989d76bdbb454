"""Pictures of more than 8 bits: the values, and the word on those that use little of their range."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mohs.data.check import check_table
from mohs.data.dataset import open_dataset
from mohs.data.depth import Depth, depth_warning, reduced_bits
from mohs.data.images import ImagePolicy, decode_image, decode_images
from mohs.data.reading import read_table
from mohs.errors import DataWarning, InputError


def policy(white_level: float | None = None, size: int = 64, channels: int = 1) -> ImagePolicy:
    return ImagePolicy(size, channels, white_level=white_level)  # type: ignore[arg-type]


def ramp(peak: float, kind: type = np.uint16) -> np.ndarray:
    return np.rint(np.linspace(0, peak, 64 * 64)).astype(kind).reshape(64, 64)


def save(pixels: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.png", np.uint16), ("a.tif", np.uint16), ("a.tif", np.int32), ("a.pgm", np.uint16), ("a.jp2", np.uint16)],
)
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_few_bits_in_sixteen(tmp_path: Path, name: str, kind: type, bits: int) -> None:
    path = save(ramp(2**bits - 1, kind), tmp_path / name)
    with pytest.warns(DataWarning) as said:
        dark = decode_image(path, policy())
    (line,) = (str(each.message) for each in said)
    assert line == (
        f"1 picture of 16 bits has no value above {2**bits - 1:,} of 65,535 (for example {str(path)!r}) and comes out "
        f"nearly black; if it holds {bits} bits, set --white-level {2**bits - 1} (data.white_level)"
    )
    assert dark.max() == (2**bits - 1) // 256
    bright = decode_image(path, policy(2**bits - 1))
    assert bright.mean() == pytest.approx(127.5, abs=1)
    assert (bright.min(), bright.max()) == (0, 255)


def test_sixteen_bits_and_eight_say_nothing(tmp_path: Path) -> None:
    full = decode_image(save(ramp(65_535), tmp_path / "a.png"), policy())
    assert full.mean() == pytest.approx(127.5, abs=1)
    decode_image(save(np.full((64, 64), 9, np.uint8), tmp_path / "b.png"), policy())  # dark, but of 8 bits
    decode_image(save(np.zeros((64, 64), np.uint16), tmp_path / "c.png"), policy())  # nothing to say of nothing


@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGB;16B"), ("a.tif", "RGB;16")])
def test_colour_that_is_cut_to_eight_bits(tmp_path: Path, name: str, mode: str) -> None:
    _write_colour(ramp(4095), tmp_path / name)
    with pytest.warns(
        DataWarning, match=r"^1 picture of 16 bits has no value above 3,840 of 65,535 .* save it with 8 bits"
    ):
        assert decode_image(tmp_path / name, policy(channels=3)).max() <= 15
    (problem,) = decode_images([tmp_path / name], policy(4095))
    assert "white_level is of grey pictures" in problem
    _write_colour(ramp(65_535), tmp_path / name)
    assert decode_image(tmp_path / name, policy(channels=3)).mean() == pytest.approx(127.5, abs=1)


def _write_colour(values: np.ndarray, path: Path) -> None:
    """Write grey values as colour of 16 bits: Pillow cannot."""
    import struct
    import zlib

    height, width = values.shape
    colours = np.repeat(values[..., None], 3, axis=2)
    if path.suffix == ".png":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
        parts = [
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        ]
        chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        return
    data = colours.astype("<u2").tobytes()
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 14),
            (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data))]  # fmt: skip
    place = 14 + len(data)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path.write_bytes(
        b"II*\0" + struct.pack("<I", place) + struct.pack("<HHH", 16, 16, 16) + data
        + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    )  # fmt: skip


def test_floats_need_a_white_level(tmp_path: Path) -> None:
    path = save(np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64), tmp_path / "f.tif")
    with pytest.raises(
        InputError,
        match=r"have no fixed range, the largest here 1; .* or set --white-level \(data\.white_level\)",
    ):
        decode_image(path, policy())
    assert decode_image(path, policy(1.0)).mean() == pytest.approx(127.5, abs=1)
    for bad in (-1.0, np.nan, np.inf):
        pixels = np.ones((8, 8), np.float32)
        pixels[0, 0] = bad
        save(pixels, tmp_path / "b.tif")
        with pytest.raises(InputError, match="pixels below 0, infinite or not a number"):
            decode_image(tmp_path / "b.tif", policy(1.0))


def test_values_above_white_are_said(tmp_path: Path) -> None:
    path = save(ramp(5000), tmp_path / "a.png")
    with pytest.warns(
        DataWarning, match=r"^1 picture of more than 8 bits has values above the white level 4,095, up to 5,000 "
    ):
        assert decode_image(path, policy(4095)).max() == 255


def test_a_set_says_it_once_and_again_from_the_cache(tmp_path: Path) -> None:
    for i, label in enumerate("aabb"):
        save(ramp(4095 - i), tmp_path / "set" / label / f"{i}.png")
    source, cache = tmp_path / "set", tmp_path / "cache"
    line = (
        f"{source}: 4 pictures of 16 bits have no value above 4,095 of 65,535 (for example {source}: 'a/0.png') and "
        "come out nearly black; if they hold 12 bits, set --white-level 4095 (data.white_level)"
    )
    for _ in range(2):
        with pytest.warns(DataWarning) as said:
            open_dataset(source, policy=policy(), cache_dir=cache)
        assert [str(each.message) for each in said] == [line]
    assert check_table(read_table(source)).warnings == (line,)
    assert check_table(read_table(source), white_level=4095).warnings == ()
    bright = open_dataset(source, policy=policy(4095), cache_dir=cache)
    assert bright.pictures.mean() == pytest.approx(127.5, abs=1)


def test_some_dark_pictures_are_no_depth() -> None:
    line = depth_warning([same(60_000), same(900), None], str, None)
    assert line == (
        "1 of 2 pictures of 16 bits has no value above 900 of 65,535 (for example 1) and comes out nearly black; "
        "if it holds 10 bits, save all with one range, such as 8 bits"
    )
    # With the white level given, dark pictures among bright ones are what they are; all of them dark are not.
    assert depth_warning([same(4000), same(90)], str, 4095) == ""
    assert "set --white-level to the value of white" in depth_warning([same(90), same(80)], str, 4095)


def same(value: float) -> Depth:
    """Return the depth of a picture whose values are all alike."""
    return Depth(float(value), float(value))


@pytest.mark.parametrize("num_hot", [1, 4])
def test_hot_pixels_hide_nothing(tmp_path: Path, num_hot: int) -> None:
    values = ramp(4000)
    values[1, :num_hot] = 65_535
    path = save(values, tmp_path / "a.png")
    with pytest.warns(
        DataWarning, match=r"no value above (3,99\d|4,000) of 65,535, but for 1 pixel in 1,000 or fewer .* 4095 "
    ):
        decode_image(path, policy())
    decode_image(path, policy(4095))  # says nothing: that a hot pixel became white is no loss
    values[2:4] = 65_535
    decode_image(save(values, tmp_path / "b.png"), policy())  # bright on purpose


def test_a_night_among_bright_pictures_is_one() -> None:
    assert depth_warning([same(60_000), Depth(50_000.0, 900.0)], str, None) == ""
    assert depth_warning([Depth(60_000.0, 3000.0), Depth(900.0, 800.0)], str, None).startswith(
        "2 pictures of 16 bits have no value above 3,000 of 65,535, but for 1 pixel in 1,000 or fewer (for example 0)"
    )


def test_the_largest_value_is_said_in_full(tmp_path: Path) -> None:
    path = save(ramp(2**20 - 1, np.int32), tmp_path / "a.tif")
    with pytest.raises(InputError, match="32-bit integer pixels, the largest here 1,048,575; "):
        decode_image(path, policy())
    with pytest.warns(
        DataWarning, match=r"up to 1,048,575 .*; set --white-level 1048575 or more \(data.white_level\)$"
    ):
        decode_image(path, policy(2**16))


@settings(deadline=None)
@given(values=st.lists(st.integers(0, 65_535), min_size=1, max_size=9), white=st.sampled_from([None, 65_535.0, 4095.0]))
def test_reduction_is_monotone_and_keeps_the_ends(values: list[int], white: float | None) -> None:
    reduced = reduced_bits(np.array([sorted([0, *values, 65_535])]), white)[0]
    assert (np.diff(reduced.astype(int)) >= 0).all()
    assert (reduced[0], reduced[-1]) == (0, 255)
    if white == 65_535.0:
        plain = reduced_bits(np.array([sorted([0, *values, 65_535])]), None)[0]
        assert np.abs(plain.astype(int) - reduced).max() <= 1
