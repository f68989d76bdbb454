import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mohs.data.augment import AugmentPolicy, augment_batch
from mohs.errors import InputError


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These pictures are tiny: threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


STILL = {"rotation_degrees": 0.0, "translate": 0.0, "scale": (1.0, 1.0), "shear_degrees": 0.0}


def blob(height: int = 32, width: int = 32, row: int = 16, column: int = 16, half: int = 3) -> torch.Tensor:
    """Return a black square on white, [1, 1, H, W]."""
    picture = torch.ones(1, 1, height, width)
    picture[:, :, row - half : row + half, column - half : column + half] = 0
    return picture


def centre_of_ink(picture_HW: torch.Tensor) -> tuple[float, float]:
    ink = 1 - picture_HW
    rows, columns = torch.meshgrid(torch.arange(ink.shape[0]) + 0.5, torch.arange(ink.shape[1]) + 0.5, indexing="ij")
    return float((ink * rows).sum() / ink.sum()), float((ink * columns).sum() / ink.sum())


@given(
    batch=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    height=st.integers(4, 20),
    width=st.integers(4, 20),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.float16]),
    step=st.integers(0, 5),
)
def test_shape_dtype_and_range(
    batch: int, channels: int, height: int, width: int, dtype: torch.dtype, step: int
) -> None:
    values = torch.from_numpy(np.random.default_rng(step).random((batch, channels, height, width)))
    pictures = (values * 255).to(torch.uint8) if dtype == torch.uint8 else values.to(dtype)
    before = pictures.clone()
    policy = AugmentPolicy(horizontal_flip=0.5, brightness=0.3, contrast=0.3)
    changed = augment_batch(pictures, policy, seed=1, step=step)
    assert (changed.shape, changed.dtype) == (pictures.shape, dtype)
    assert torch.equal(pictures, before)
    assert changed.min() >= 0
    assert changed.max() <= (255 if dtype == torch.uint8 else 1)
    assert torch.equal(changed, augment_batch(pictures, policy, seed=1, step=step))


def test_steps_seeds_and_pictures_differ() -> None:
    pictures = blob().repeat(4, 1, 1, 1)
    policy = AugmentPolicy()
    one = augment_batch(pictures, policy, seed=0, step=0)
    assert not torch.equal(one, augment_batch(pictures, policy, seed=0, step=1))
    assert not torch.equal(one, augment_batch(pictures, policy, seed=1, step=0))
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize(("batch", "num_draws", "sizes"), [(20, 6, [3, 3, 3, 3, 4, 4]), (5, 16, [1] * 5), (4, 1, [4])])
def test_groups_are_near_equal_and_random(batch: int, num_draws: int, sizes: list[int]) -> None:
    policy = AugmentPolicy(num_draws=num_draws)
    changed = augment_batch(blob().repeat(batch, 1, 1, 1), policy, seed=0, step=0)
    group_B = torch.unique(changed.flatten(1), dim=0, return_inverse=True)[1]
    assert sorted(torch.bincount(group_B).tolist()) == sizes
    if num_draws == 6:
        assert len(torch.unique_consecutive(group_B)) > len(sizes)  # not in rows that follow one another


def test_pictures_keep_their_rows() -> None:
    pictures = torch.arange(0, 240, 10, dtype=torch.uint8).view(24, 1, 1, 1).repeat(1, 1, 16, 16)
    changed = augment_batch(pictures, AugmentPolicy(), seed=0, step=0)
    assert torch.equal(changed[:, 0, 8, 8], pictures[:, 0, 8, 8])


def test_global_random_state_is_neither_read_nor_changed() -> None:
    policy = AugmentPolicy(horizontal_flip=0.5, brightness=0.2, contrast=0.2)
    torch.manual_seed(0)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one = augment_batch(blob(), policy, seed=0, step=0)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(augment_batch(blob(), policy, seed=0, step=0), one)


def test_no_change_returns_the_input() -> None:
    pictures = blob()
    assert augment_batch(pictures, AugmentPolicy.of_strength(0), seed=0, step=0) is pictures
    assert augment_batch(pictures[:0], AugmentPolicy(), seed=0, step=0).shape == (0, 1, 32, 32)


def test_shift_is_within_its_range_and_reaches_it() -> None:
    pictures = blob(32, 64, 16, 32).repeat(300, 1, 1, 1)
    moved = augment_batch(pictures, AugmentPolicy(**{**STILL, "translate": 0.1}, num_draws=300), seed=0, step=0)
    shifts = np.array([centre_of_ink(picture[0]) for picture in moved]) - (16, 32)
    # A tenth of the height and of the width, in whole pixels.
    np.testing.assert_allclose(shifts, shifts.round(), atol=0.01)
    assert np.abs(shifts[:, 0]).max() == pytest.approx(3, abs=0.01)
    assert np.abs(shifts[:, 1]).max() == pytest.approx(6, abs=0.01)
    assert np.abs(shifts.mean(axis=0)).max() < 0.5


def test_scale_of_one_size() -> None:
    for factor in (0.5, 2.0):
        changed = augment_batch(blob(half=4), AugmentPolicy(**{**STILL, "scale": (factor, factor)}), seed=0, step=0)
        assert float((1 - changed).sum()) == pytest.approx(64 * factor**2, rel=0.05)
        assert centre_of_ink(changed[0, 0]) == pytest.approx((16, 16), abs=0.1)


def test_rotation_keeps_distance_and_is_not_distorted_by_wide_pictures() -> None:
    pictures = blob(32, 64, 16, 44).repeat(200, 1, 1, 1)  # 12 pixels right of the middle
    turned = augment_batch(
        pictures, AugmentPolicy(**{**STILL, "rotation_degrees": 40.0}, num_draws=200), seed=0, step=0
    )
    offsets = np.array([centre_of_ink(picture[0]) for picture in turned]) - (16, 32)
    np.testing.assert_allclose(np.hypot(*offsets.T), 12, atol=0.1)
    angles = np.degrees(np.arctan2(offsets[:, 0], offsets[:, 1]))
    assert np.abs(angles).max() == pytest.approx(40, abs=1.5)
    assert abs(float(angles.mean())) < 6


def test_shear_moves_rows_sideways() -> None:
    pictures = blob(row=8).repeat(200, 1, 1, 1)  # 8 pixels above the middle
    sheared = augment_batch(pictures, AugmentPolicy(**{**STILL, "shear_degrees": 30.0}, num_draws=200), seed=0, step=0)
    offsets = np.array([centre_of_ink(picture[0]) for picture in sheared]) - (8, 16)
    np.testing.assert_allclose(offsets[:, 0], 0, atol=0.05)
    assert np.abs(offsets[:, 1]).max() == pytest.approx(8 * math.tan(math.radians(30)), abs=0.2)


def test_mirror() -> None:
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mirrored = augment_batch(picture, AugmentPolicy(**STILL, horizontal_flip=1.0), seed=0, step=0)
    assert torch.allclose(mirrored, picture.flip(-1), atol=1e-5)
    many = augment_batch(
        picture.repeat(400, 1, 1, 1), AugmentPolicy(**STILL, horizontal_flip=0.25, num_draws=400), seed=0, step=0
    )
    share = float(((many - picture.flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-4).float().mean())
    assert share == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize(("fill", "grey"), [(1.0, 255), (0.0, 0), (0.5, 128)])
def test_fill_comes_in_at_the_edges(fill: float, grey: int) -> None:
    pictures = torch.full((1, 1, 16, 16), 60, dtype=torch.uint8)
    changed = augment_batch(pictures, AugmentPolicy(**{**STILL, "scale": (0.5, 0.5)}, fill=fill), seed=0, step=0)
    assert changed[0, 0, 0, 0] == grey
    assert changed[0, 0, 8, 8] == 60


def test_edges_leave_no_rim() -> None:
    """Where the picture is as grey as the fill, nothing shows that it was moved."""
    for grey in (0.0, 0.5, 1.0):
        pictures = torch.full((16, 1, 16, 16), grey)
        changed = augment_batch(pictures, AugmentPolicy(scale=(0.4, 0.8), fill=grey), seed=0, step=0)
        torch.testing.assert_close(changed, pictures)


def test_light() -> None:
    pictures = torch.cat([torch.full((200, 1, 4, 2), 0.2), torch.full((200, 1, 4, 2), 0.4)], dim=3)
    bright = augment_batch(pictures, AugmentPolicy(**STILL, brightness=0.5, num_draws=200), seed=0, step=0)
    ratio = bright[:, 0, 0, 0] / 0.2
    assert torch.allclose(bright[:, 0, 0, 3] / 0.4, ratio)
    assert (float(ratio.min()), float(ratio.max())) == pytest.approx((0.5, 1.5), abs=0.03)
    contrast = augment_batch(pictures, AugmentPolicy(**STILL, contrast=0.5, num_draws=200), seed=0, step=0)
    assert torch.allclose(contrast.mean(dim=(1, 2, 3)), torch.full((200,), 0.3))
    spread = (contrast[:, 0, 0, 3] - contrast[:, 0, 0, 0]) / 0.2
    assert (float(spread.min()), float(spread.max())) == pytest.approx((0.5, 1.5), abs=0.03)


def test_wrong_arguments() -> None:
    with pytest.raises(InputError) as caught:
        AugmentPolicy(rotation_degrees=-1, scale=(1.2, 0.8), fill=2, num_draws=0)
    assert caught.value.problems == (
        "rotation_degrees: -1 is not a number in [0, 180]; use for example 10.0",
        "fill: 2 is not a number in [0, 1]; use for example 1.0",
        "scale: (1.2, 0.8) is not two numbers, 0 < smallest <= largest; use for example (0.85, 1.15)",
        "num_draws: 0 is not a whole number of at least 1; use for example 16",
    )
    with pytest.raises(InputError, match=r"^pictures_BCHW: torch.int64\[2, 8, 8\] is not \[B, 1 or 3, H, W\] of"):
        augment_batch(torch.zeros(2, 8, 8, dtype=torch.int64), AugmentPolicy(), seed=0, step=0)


def devices() -> list[str]:
    return [
        name
        for name, found in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        if found
    ]


@pytest.mark.skipif(not devices(), reason="no accelerator (CUDA or MPS) on this machine")
@pytest.mark.parametrize("device", devices() or ["none"])
def test_devices_agree_with_the_cpu(device: str) -> None:
    pictures = torch.rand(16, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    policy = AugmentPolicy(horizontal_flip=0.5, brightness=0.2, contrast=0.2)
    there = augment_batch(pictures.to(device), policy, seed=0, step=0)
    assert there.device.type == device
    assert torch.allclose(there.cpu(), augment_batch(pictures, policy, seed=0, step=0), atol=1e-3, rtol=0)
