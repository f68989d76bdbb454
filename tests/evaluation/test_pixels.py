import numpy as np
import pytest
from PIL import Image

from mohs.errors import InputError
from mohs.evaluation.pixels import pixel_embeddings


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_box_average_of_pillow(channels):
    batch = pictures(3, 48, 32, channels)
    for picture, row in zip(batch, pixel_embeddings(batch, size=8), strict=True):
        grey = picture[..., 0].astype(float) if channels == 1 else picture @ [0.299, 0.587, 0.114]
        small = np.asarray(Image.fromarray(grey.astype(np.float32)).resize((8, 8), Image.Resampling.BOX), dtype=float)
        expected = (small - small.mean()).ravel()
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize("shape", [(33, 47), (16, 16), (17, 100)])
def test_sizes_that_do_not_divide(shape):
    x = pixel_embeddings(pictures(4, *shape))
    assert (x.shape, x.dtype) == ((4, 256), np.float32)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(x.mean(axis=1), 0, atol=1e-6)


def test_brightness_and_contrast_do_not_count_but_shape_does():
    picture = pictures(1, 32, 32, 1) // 4
    a, brighter, other = pixel_embeddings(np.concatenate([picture, picture * 2 + 40, pictures(1, 32, 32, 1, seed=1)]))
    assert np.linalg.norm(a - brighter) < 1e-5 < 0.5 < np.linalg.norm(a - other)


def test_blank_pictures_are_one_fixed_unit_vector():
    blanks = np.stack([np.full((20, 20, 3), value, dtype=np.uint8) for value in (0, 77, 255)])
    x = pixel_embeddings(np.concatenate([blanks, pictures(1, 20, 20, 3)]))
    assert (x[:3] == 1 / 16).all()
    assert abs(float(x[0] @ x[3])) < 1e-6
    faint = blanks[:1].copy()
    faint[0, 3, 3, 2] = 1
    assert abs(float(pixel_embeddings(faint)[0].sum())) < 1e-5


@pytest.mark.parametrize(
    ("batch", "size", "message"),
    [
        (
            np.zeros((2, 8, 8, 3)),
            4,
            "pictures_NHWC: shape (2, 8, 8, 3) and type float64; give uint8 pictures [N, H, W, C] with 1 or 3 channels",
        ),
        (
            np.zeros((2, 8, 8, 4), dtype=np.uint8),
            4,
            "pictures_NHWC: shape (2, 8, 8, 4) and type uint8; give uint8 pictures [N, H, W, C] with 1 or 3 channels",
        ),
        (
            np.zeros((2, 8, 9, 3), dtype=np.uint8),
            16,
            "size: 16 is not in [2, 8], the size of the pictures; use a smaller one",
        ),
    ],
)
def test_messages(batch, size, message):
    with pytest.raises(InputError) as caught:
        pixel_embeddings(batch, size)
    assert str(caught.value) == message
