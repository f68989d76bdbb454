"""The items of an index as a collection of Qdrant."""

import math
import os
import uuid
from pathlib import Path
from typing import Any

from mohs.errors import InputError, Problem, reason_of
from mohs.index.index import Index

__all__ = ["export_to_qdrant"]

_BATCH = 256
# Points of Qdrant are numbered or have UUIDs: an item's is made of its id, so that it is the same every time.
_NAMESPACE = uuid.UUID("6d6f6873-0000-5000-8000-000000000000")


def export_to_qdrant(index: Index, collection: str, *, url: str | None = None, folder: str | Path | None = None) -> int:
    """Write all items of an index into a new collection, and return how many.

    A point has the item's vector, compared by Euclidean distance as in Mohs, so that the index's thresholds hold. Its
    payload is the item's columns, `id` among them; thumbnails are left out. Its own id is `point_id` of the item's.

    Args:
        index: any.
        collection: must not exist; if anything fails, it does not exist afterwards either.
        url: of a server; QDRANT_API_KEY is the key, if it wants one.
        folder: instead of a server: the folder of Qdrant's local mode.

    Raises `InputError` without qdrant-client (extra `qdrant`), for a collection that exists, and for a server that
    cannot be reached or refuses.
    """
    try:
        from qdrant_client import QdrantClient, models
    except ImportError:
        raise InputError("mohs[qdrant]: needs qdrant-client; pip install 'mohs[qdrant]'") from None
    if (url is None) == (folder is None):
        raise InputError(Problem("url, folder", "give one of them, where the collection goes"))
    place = str(folder if url is None else url)
    snapshot = index.snapshot()
    rows, vectors = snapshot.rows, snapshot.vectors.x_ND
    made = False
    client: Any = None
    try:
        if url is None:
            client = QdrantClient(path=place)
        else:
            # The check of versions warns, from a thread of its own, of a server that is not there.
            key = os.environ.get("QDRANT_API_KEY")
            client = QdrantClient(url, api_key=key, check_compatibility=False)
        if client.collection_exists(collection):
            raise InputError(Problem("collection", f"{collection!r} exists in {place}", "give another, or delete it"))
        params = models.VectorParams(size=vectors.shape[1], distance=models.Distance.EUCLID)
        client.create_collection(collection, vectors_config=params)
        made = True
        for start in range(0, len(rows), _BATCH):
            payloads = rows.slice(start, _BATCH).to_pylist()
            points = [
                models.PointStruct(id=point_id(payload["id"]), vector=x_D.tolist(), payload=_json(payload))
                for payload, x_D in zip(payloads, vectors[start : start + _BATCH], strict=True)
            ]
            client.upsert(collection, points, wait=True)
    except BaseException as error:
        if made:
            client.delete_collection(collection)
        if isinstance(error, InputError) or not isinstance(error, Exception):
            raise
        reason = reason_of(error)
        raise InputError(Problem(place, f"Qdrant does not take the items ({reason})", "check the address")) from None
    finally:
        if client is not None:
            client.close()
    return len(rows)


def point_id(item: str) -> str:
    """Return the UUID of an item's point: version 5 of its id, always the same.

    >>> point_id("ring-0815") == point_id("ring-0815") != point_id("ring-0816")
    True
    """
    return str(uuid.uuid5(_NAMESPACE, item))


def _json(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a row as JSON has values: no number that is none, and times as text."""
    return {
        name: None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        if value is None or isinstance(value, str | int | float | bool)
        else str(value)
        for name, value in payload.items()
    }
