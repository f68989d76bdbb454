"""The search that everything else stands on: the rows of a gallery that are nearest to each query, by faiss."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest_rows"]


def nearest_rows(
    query_QD: NDArray[np.floating],
    gallery_GD: NDArray[np.floating],
    k: int,
    *,
    by: Literal["distance", "similarity"] = "distance",
    same_items: bool = False,
) -> NDArray[np.int64]:
    """Return the k rows of the gallery that are nearest to each query, int64 [Q, k], nearest first; fewer if it has.

    All rows are compared, by float32 products: rows that are nearer to each other than these can tell come in any
    order. `mohs.evaluation.exact_neighbours.nearest` orders such rows too. With `same_items` the queries are the
    gallery, in the same order, and a row is not its own neighbour; copies of it are.

    Args:
        query_QD: numbers [Q, D]; taken as float32.
        gallery_GD: numbers [G, D].
        k: at least 1.
        by: the smallest Euclidean distance, or the largest dot product.
        same_items: whether query i is row i of the gallery.

    >>> nearest_rows(np.eye(3)[:1], np.array([[0.0, 1.0, 0.0], [0.9, 0.1, 0.0]]), 2).tolist()
    [[1, 0]]
    >>> nearest_rows(np.array([[0.0], [1.0], [3.0]]), np.array([[0.0], [1.0], [3.0]]), 1, same_items=True).tolist()
    [[1], [0], [1]]
    """
    import faiss

    gallery_GD = np.ascontiguousarray(gallery_GD, dtype=np.float32)
    index = (faiss.IndexFlatL2 if by == "distance" else faiss.IndexFlatIP)(gallery_GD.shape[1])
    index.add(gallery_GD)
    rows_QD = np.ascontiguousarray(query_QD, dtype=np.float32)
    found_Qk: NDArray[np.int64] = index.search(rows_QD, min(k + same_items, len(gallery_GD)))[1].astype(np.int64)
    if not same_items:
        return found_Qk
    # A row is its own neighbour, though not always the first one: copies of it are as near.
    is_self_Qk = found_Qk == np.arange(len(found_Qk))[:, None]
    is_self_Qk[~is_self_Qk.any(axis=1), -1] = True
    others_Qk: NDArray[np.int64] = found_Qk[~is_self_Qk].reshape(len(found_Qk), -1)
    return others_Qk
