"""Pictures that come in, and those of items that go out."""

import io
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, HTTPException, Query, Request, Response
from PIL import Image
from starlette.datastructures import UploadFile

from mohs.data.images import ImagePolicy, decode_all
from mohs.errors import InputError
from mohs.serve.editions import Edition
from mohs.serve.messages import Failure
from mohs.serve.queries import NoItemError, Queries

__all__ = ["PICTURE_BODY", "add_routes", "large_png", "read_picture"]

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "required": ["picture"], "properties": {"picture": {"type": "string", "format": "binary"}}}
PICTURE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {**_FORM, "additionalProperties": False}},
            "application/octet-stream": _BYTES,
            "image/*": _BYTES,
        },
    }
}
"""How OpenAPI describes a body that is a picture."""

_LARGE = ImagePolicy(size=512, channels=3, fit="pad")


async def read_picture(request: Request) -> bytes:
    """Return the bytes of the one picture that a request brings.

    Raises `InputError` for none, an empty one or several, and `HTTPException` (415) for a body of another kind.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=0) as form:
            files = [part for part in form.values() if isinstance(part, UploadFile)]
            if len(files) != 1 or "picture" not in form:
                raise InputError("picture: not in the form; send one file of this name")
            data = await files[0].read()
    elif kind == "application/octet-stream" or kind.startswith("image/"):
        data = await request.body()
    else:
        raise HTTPException(
            415, f"content-type: {kind[:100]!r}; send a form with a file, or a picture's bytes as image/*"
        )
    if not data:
        raise InputError("picture: empty file; send another picture")
    return data


def large_png(path: str | Path) -> bytes | None:
    """Return the picture in a file as a PNG of 512 × 512 pixels; None if it cannot be read."""
    pixels_HWC = decode_all([path], _LARGE)[0].pixels_HWC
    if pixels_HWC is None:
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def add_routes(app: FastAPI, queries: Queries) -> None:
    """Add the address of items' pictures."""

    @app.get(
        "/items/{id:path}/image",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, 404: {"model": Failure}},
        tags=["items"],
    )
    async def item_picture(
        id: str,  # noqa: A002
        large: Annotated[bool, Query(description="up to 512 pixels, if the file is still where it was")] = False,
    ) -> Response:
        """Return the picture of an item as PNG: a thumbnail, or larger."""

        async def ask(edition: Edition) -> bytes:
            return await queries.in_thread(_picture_of, edition, id, large)

        png = await queries.in_newest(ask)
        return Response(png, media_type="image/png", headers={"cache-control": "private, max-age=300"})


def _picture_of(edition: Edition, item: str, large: bool) -> bytes:
    place = edition.snapshot.place(item)
    if place is None:
        raise NoItemError
    path = edition.snapshot.rows.column("path")[place].as_py()
    png = large_png(path) if large and path else None
    if png is not None:
        return png
    thumbnail: bytes = edition.snapshot.store.rows([item]).column("thumbnail")[0].as_py()
    return thumbnail
