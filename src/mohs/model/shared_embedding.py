"""Embedding shared among processes: each reads and embeds a part of the items, and all have all of it."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mohs.data.stored_pictures import Pictures, read_in_turn
from mohs.model.embedder import BATCH, Embedder
from mohs.peers import ALONE, Peers, exchange_rows, own_rows

__all__ = ["embed_items"]

_AT_ONCE_BYTES = 2**26
"""Of pictures that are read from their file at once; twice as many are held."""

_ITEMS_A_REPORT = 2 * BATCH


def embed_items(
    embedder: Embedder,
    pictures: Pictures,
    items_M: NDArray[np.int64] | None = None,
    *,
    peers: Peers = ALONE,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Return the embeddings of items, float32 [M, D], byte for byte as one process gives them on as many threads.

    Args:
        embedder: equal on all processes.
        pictures: uint8 [N, H, W, C] by its policy, often a memory map, of which some 64 MB are read at a time. Those
            that stay in their file are read while the ones before them are embedded.
        items_M: which of them; None: all.
        peers: processes that call this together with the same arguments.
        progress: called with (items done, items in all) of this process's part.
    """
    num_items = len(pictures) if items_M is None else len(items_M)
    own = own_rows(peers, num_items, BATCH)
    x_MD = np.empty((num_items, embedder.embedding_dim), dtype=np.float32)
    at_once = BATCH * max(1, _AT_ONCE_BYTES // (BATCH * max(1, math.prod(pictures.shape[1:]))))
    if progress is not None:
        at_once = min(at_once, _ITEMS_A_REPORT)
    pieces = [slice(start, min(start + at_once, own.stop)) for start in range(own.start, own.stop, at_once)]
    items = [np.arange(piece.start, piece.stop) if items_M is None else items_M[piece] for piece in pieces]
    for piece, read in zip(pieces, read_in_turn(pictures, items), strict=True):
        x_MD[piece] = embedder.embed(read, batch_size=BATCH)
        if progress is not None:
            progress(piece.stop - own.start, own.stop - own.start)
    exchange_rows(peers, np.arange(own.start, own.stop), x_MD)
    return x_MD
