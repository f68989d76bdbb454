"""HTML of a template, with pictures inside: small PNGs as `data:` addresses."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mohs.errors import InputError

__all__ = ["data_uris", "png_uri", "rendered", "thumbnail_uris"]

# Tried in order. 96 is sharp at the drawn size of 72 on most screens.
_SIZES = (96, 72, 48, 32)
_BUDGET_CHARACTERS = 1_700_000
_THUMBNAILS_BUDGET_CHARACTERS = 600_000


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """Return the HTML of a template, to which `style` is the text of the style sheet; every value is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mohs.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(values, style=style)


def png_uri(png: bytes) -> str:
    """Return the address that holds a PNG."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def data_uris(pictures: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
    """Return `data:image/png;base64,...` for each picture (uint8 [H, W], [H, W, 1] or [H, W, 3]).

    Pictures are shrunk to fit 96 × 96, never enlarged; if together they then take over 2 MB, to 72, 48 or 32.

    Raises:
        InputError: a picture of another type or shape, or too many for 2 MB at 32 × 32.

    >>> [uri[:22] for uri in data_uris([np.zeros((8, 8), dtype=np.uint8)])]
    ['data:image/png;base64,']
    """
    images = [_image(picture, index) for index, picture in enumerate(pictures)]
    for size in _SIZES:
        uris = [_data_uri(image, size) for image in images]
        if sum(map(len, uris)) <= _BUDGET_CHARACTERS:
            return uris
    raise InputError(
        f"report: {len(pictures)} pictures take over {_BUDGET_CHARACTERS:,} bytes even at {_SIZES[-1]} x {_SIZES[-1]}; "
        "show fewer examples"
    )


def thumbnail_uris(pictures: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
    """Return `data:image/png;base64,...` for each picture, shrunk to fit 32 × 32, in at most 32 colours.

    Raises:
        InputError: a picture of another type or shape, or over 600,000 bytes in all.
    """
    uris = [_data_uri(_image(picture, i).quantize(32), _SIZES[-1]) for i, picture in enumerate(pictures)]
    if sum(map(len, uris)) > _THUMBNAILS_BUDGET_CHARACTERS:
        raise InputError(
            f"report: the map's {len(pictures)} pictures take over {_THUMBNAILS_BUDGET_CHARACTERS:,} bytes; show fewer"
        )
    return uris


def _image(picture: Any, index: int) -> Image.Image:
    array = np.asarray(picture)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not fits or 0 in array.shape:
        raise InputError(
            f"report: picture {index}: shape {array.shape} and type {array.dtype}; "
            "give uint8 [H, W], [H, W, 1] or [H, W, 3]"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _data_uri(image: Image.Image, size: int) -> str:
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return png_uri(buffer.getvalue())
