"""Colours as sRGB: what an embedded ICC profile says a picture's numbers mean."""

import io
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageCms

__all__ = ["as_srgb"]

# Profiles of printers have about 500 KB; one of this length is no profile.
_MAX_PROFILE_BYTES: Final = 4 * 2**20
# Profiles that mean sRGB differ from each other by a step of grey or two, from rounding.
_SAME: Final = 2
_MODES: Final = ("L", "RGB", "RGBA", "CMYK")


def as_srgb(image: Image.Image) -> Image.Image:
    """Return a picture whose embedded ICC profile is not sRGB as RGB or RGBA in sRGB; others as they are.

    Conversion is by Little CMS, perceptual intent, transparency kept. Pictures of more than 8 bits are not
    converted, nor those whose profile cannot be read or is for other channels: they are taken as without a profile.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not 128 < len(profile) <= _MAX_PROFILE_BYTES:
        return image
    if image.mode in ("P", "PA", "LA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in ("L", "RGB") and image.has_transparency_data:
        image = image.convert("RGBA")  # a transparent colour is one of the file's numbers
    if image.mode not in _MODES:
        return image
    transform = _transform(profile, image.mode)
    if transform is None:
        return image
    converted = transform.apply(image)
    converted.info = {name: value for name, value in image.info.items() if name != "icc_profile"}
    return converted


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion of a profile's numbers to sRGB; None if there is none, or if they are sRGB already."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        out = "RGBA" if mode == "RGBA" else "RGB"
        transform = ImageCms.buildTransform(source, target, mode, out, ImageCms.Intent.PERCEPTUAL)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "CMYK":
        return transform
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(1, -1, 3)
    before = Image.fromarray(grid).convert(mode) if mode != "L" else Image.fromarray(levels[None])
    after = transform.apply(before)
    difference = np.asarray(after.convert("RGB"), np.int16) - np.asarray(before.convert("RGB"), np.int16)
    return None if np.abs(difference).max() <= _SAME else transform
