import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mohs.data import images
from mohs.data.images import ImagePolicy, decode_image, decode_images, decode_untrusted
from mohs.errors import DataWarning, InputError

GREY = ImagePolicy(size=8, channels=1)
RGB = ImagePolicy(size=8, channels=3)


def test_policy_is_checked() -> None:
    with pytest.raises(InputError) as caught:
        ImagePolicy(size=4, channels=2, fit="shrink")  # type: ignore[arg-type]
    assert caught.value.problems == (
        "size: 4 is not a whole number in [8, 2048]; use for example 64 (pixels)",
        "channels: 2 is not 1 (grey) or 3 (RGB); use 3",
        "fit: 'shrink' is not one of 'pad', 'stretch', 'crop'",
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "HSV"])
@pytest.mark.parametrize("policy", [GREY, RGB])
def test_every_mode_keeps_black_and_white(tmp_path: Path, mode: str, policy: ImagePolicy) -> None:
    half = np.zeros((8, 8), np.uint8)
    half[:, 4:] = 255
    if mode in ("I;16", "I"):
        picture = Image.fromarray(half.astype(np.uint16) * 257)
        picture = picture.convert("I") if mode == "I" else picture
    else:
        picture = Image.fromarray(half).convert("RGB").convert(mode)
    path = tmp_path / ("p.png" if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "p.tiff")
    if mode in ("HSV", "PA"):
        picture = picture.convert("RGBA")
    picture.save(path)
    decoded = decode_image(path, policy)
    assert decoded.shape == (8, 8, policy.channels)
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded, np.repeat(half[..., None], policy.channels, -1), atol=1)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_sixteen_bits_become_eight(tmp_path: Path, name: str) -> None:
    pixels = np.full((8, 8), 0x8040, np.uint16 if name.endswith("png") else np.int32)
    Image.fromarray(pixels).save(tmp_path / name)
    assert (decode_image(tmp_path / name, GREY) == 0x80).all()


def test_transparency_becomes_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, 4:, 3] = 255  # black: clear on the left, opaque on the right
    Image.fromarray(pixels).save(tmp_path / "a.png")
    decoded = decode_image(tmp_path / "a.png", GREY)
    assert (decoded[:, :4] == 255).all()
    assert (decoded[:, 4:] == 0).all()
    palette = Image.fromarray(np.array([[0] * 4 + [1] * 4] * 8, np.uint8))
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "p.png", transparency=0)
    assert decode_image(tmp_path / "p.png", GREY)[0, [0, -1], 0].tolist() == [255, 9]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255  # white on top
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: white on the right
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    decoded = decode_image(tmp_path / "a.jpg", GREY)[:, :, 0]
    assert decoded[:, 5:].min() > 240
    assert decoded[:, :3].max() < 15


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), grey) for grey in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(DataWarning, match="several frames"):
        assert (decode_image(tmp_path / "a.gif", GREY) == 10).all()


def test_pad_keeps_all_and_fills_with_the_border(tmp_path: Path) -> None:
    pixels = np.full((8, 16, 3), (10, 20, 30), np.uint8)
    pixels[3:5, 6:10] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    policy = ImagePolicy(size=16)
    decoded = decode_image(tmp_path / "a.png", policy)
    np.testing.assert_array_equal(decoded[4:12], pixels)
    assert (decoded[:4] == (10, 20, 30)).all()
    assert (decoded[12:] == (10, 20, 30)).all()


def test_crop_and_stretch(tmp_path: Path) -> None:
    pixels = np.zeros((8, 24), np.uint8)
    pixels[:, 8:16] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (decode_image(tmp_path / "a.png", ImagePolicy(8, 1, "crop"))[:, 1:-1] > 240).all()
    columns = decode_image(tmp_path / "a.png", ImagePolicy(24, 1, "stretch"))[12, :, 0]
    np.testing.assert_allclose(columns, pixels[0], atol=1)


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    decoded = decode_image(tmp_path / "a.png", GREY)
    assert np.abs(decoded.astype(int) - 127).max() <= 8


def test_large_jpeg_is_like_its_png(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.linspace(0, 6, 900), np.linspace(0, 4, 600))
    smooth = Image.fromarray((127 + 120 * np.sin(x) * np.cos(y)).astype(np.uint8))
    smooth.save(tmp_path / "a.png")
    smooth.save(tmp_path / "a.jpg", quality=95)
    for fit in ("pad", "crop", "stretch"):
        policy = ImagePolicy(32, 1, fit)  # type: ignore[arg-type]
        jpeg, png = (decode_image(tmp_path / name, policy).astype(int) for name in ("a.jpg", "a.png"))
        assert np.abs(jpeg - png).max() <= 6


@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    size=st.integers(8, 40),
    fit=st.sampled_from(["pad", "crop", "stretch"]),
)
def test_every_shape_gives_the_policy_shape(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, size: int, fit: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "shape.bmp"
    Image.new("RGB", (width, height), (9, 8, 7)).save(path)
    decoded = decode_image(path, ImagePolicy(size, 3, fit))  # type: ignore[arg-type]
    assert decoded.shape == (size, size, 3)
    assert (decoded == (9, 8, 7)).all()


def test_what_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tmp_path / "good.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(good)
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:-800])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(tmp_path / "wide.tif")
    names = ["cut.jpg", "empty.png", "text.png", "float.tif", "wide.tif", "none.png", "."]
    assert decode_images([tmp_path / name for name in names], RGB) == [
        "cannot be decoded (truncated file)",
        "empty file",
        "not a picture of a known format",
        "cannot be decoded (floating-point pixels have no fixed range, the largest here 1; save it with 8 or 16 "
        "bits, or set --white-level (data.white_level), such as 1 for pixels in [0, 1])",
        "cannot be decoded (32-bit integer pixels, the largest here 70,000; save it with 8 or 16 bits, or set "
        "--white-level (data.white_level))",
        "no such file",
        "cannot be opened (is a directory)",
    ]
    with pytest.raises(InputError) as caught:
        decode_image(tmp_path / "empty.png", RGB)
    assert str(caught.value) == f"'{tmp_path / 'empty.png'}': empty file; replace the file"
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    assert decode_images([good], RGB) == ["too large (64 x 64; at most 1,000 pixels)"]


def test_bombs_are_refused_without_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    # Twice the limit is Pillow's error, once its warning.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "too large" in str(decode_images([tmp_path / "a.png"], GREY)[0])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        with ThreadPoolExecutor(4) as outer:
            list(outer.map(lambda _: decode_image(tmp_path / "a.png", GREY), range(50)))
        assert warnings.filters == filters  # threads that overlap leave nothing behind
        assert caught == []
        Image.open(tmp_path / "a.png").close()
        assert len(caught) == 1  # and outside, Pillow may warn


def test_what_anybody_may_have_sent_takes_no_minutes():
    def bytes_of(kind, **options):
        buffer = io.BytesIO()
        more = [Image.new("RGB", (20, 10), (9, 9, 9))] if kind == "GIF" else []
        Image.new("RGB", (20, 10), (200, 0, 0)).save(buffer, kind, save_all=bool(more), append_images=more, **options)
        return buffer.getvalue()

    policy = ImagePolicy(8)
    found = decode_untrusted(bytes_of("PNG"), policy, 200)
    assert (found.problem, found.pixels_HWC.shape) == ("", (8, 8, 3))
    assert decode_untrusted(bytes_of("PNG"), policy, 199).problem == "too large (20 x 10; at most 199 pixels)"
    assert decode_untrusted(bytes_of("GIF"), policy, 200).num_frames == 1
    jpeg = bytes_of("JPEG", progressive=True)
    assert decode_untrusted(jpeg, policy, 200).problem == ""
    # The last scan again and again: each would go over the whole picture.
    last = jpeg.rindex(b"\xff\xda")
    assert decode_untrusted(jpeg[:-2] + 100 * jpeg[last:-2] + jpeg[-2:], policy, 200).problem == (
        "has more than 100 scans"
    )
