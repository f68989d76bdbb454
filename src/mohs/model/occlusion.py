"""Why two pictures are alike for a network: which parts, once hidden, make them less so."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.randomness import generator

__all__ = ["Occlusion", "occlusion"]

_NUM_DRAWS = 8


@final
@dataclass(frozen=True, eq=False)
class Occlusion:
    """What hiding parts of a picture does to its similarity to another one.

    Attributes:
        cost_GG: the similarity that is lost where a part is hidden, on a grid over the picture; negative where the part
            tells the two apart.
        similarity: cosine of the two, with nothing hidden.
        marked_cost: the similarity that is lost if the tenth of the cells that cost most is hidden, all at once.
        random_cost: the same for a random tenth, the mean of eight draws. A map that is not better than that says
            nothing.
    """

    cost_GG: NDArray[np.float64]
    similarity: float
    marked_cost: float
    random_cost: float


def occlusion(
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    picture_HWC: NDArray[np.uint8],
    other_D: NDArray[np.float32],
    *,
    grid: int = 8,
    seed: int = 0,
) -> Occlusion:
    """Return what hiding parts of a picture costs, and whether the map holds (a deletion test).

    Windows of two by two cells are hidden, one at a time, by the picture's mean colour; a cell's cost is the mean of
    the windows that it is in (occlusion, Zeiler and Fergus 2014). The deletion test then hides cells that no window hid
    together.

    Args:
        embed: makes unit vectors of pictures uint8[N, H, W, C].
        picture_HWC: the picture, prepared.
        other_D: the other one's unit vector.
        grid: G, cells along a side.
        seed: of the random tenths.
    """
    edges = np.linspace(0, len(picture_HWC), grid + 1).round().astype(int)
    colour = picture_HWC.reshape(-1, picture_HWC.shape[2]).mean(axis=0).round().astype(np.uint8)

    def hidden(cells_GG: NDArray[np.bool_]) -> NDArray[np.uint8]:
        picture = picture_HWC.copy()
        for row, column in np.argwhere(cells_GG):
            picture[edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = colour
        return picture

    windows = np.zeros(((grid - 1) ** 2, grid, grid), dtype=bool)
    for i in range(len(windows)):
        row, column = divmod(i, grid - 1)
        windows[i, row : row + 2, column : column + 2] = True
    pictures = np.stack([picture_HWC, *map(hidden, windows)])
    similarity_W = embed(pictures).astype(np.float64) @ other_D.astype(np.float64)
    whole, cost_W = float(similarity_W[0]), similarity_W[0] - similarity_W[1:]
    cost_GG = np.einsum("w,wrc->rc", cost_W, windows) / windows.sum(axis=0)

    num = max(1, grid * grid // 10)
    random = generator(seed, "random tenths of a picture")
    tenths = [np.argsort(-cost_GG.ravel(), kind="stable")[:num]]
    tenths += [random.choice(grid * grid, num, replace=False) for _ in range(_NUM_DRAWS)]
    masks = np.zeros((len(tenths), grid * grid), dtype=bool)
    for mask, cells in zip(masks, tenths, strict=True):
        mask[cells] = True
    left = embed(np.stack([hidden(mask.reshape(grid, grid)) for mask in masks])).astype(np.float64)
    lost = whole - left @ other_D.astype(np.float64)
    return Occlusion(cost_GG, whole, float(lost[0]), float(lost[1:].mean()))
