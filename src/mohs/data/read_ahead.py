"""Pictures that are read by a thread before they are asked for: the disk works while the network does."""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mohs.data.stored_pictures import Pictures, StoredPictures

__all__ = ["ReadAhead", "read_in_turn"]

_Items: TypeAlias = NDArray[np.int64]


@final
class ReadAhead:
    """Pictures, of which the next ones are announced; what comes back is the same with and without that.

    Only pictures that stay in their file are read ahead. Memory holds those that were announced and not yet taken.

    >>> pictures = ReadAhead(np.zeros((9, 2, 2, 3), dtype=np.uint8))
    >>> pictures.announce(np.array([3, 1]))
    >>> pictures.take(np.array([3, 1])).shape
    (2, 2, 2, 3)
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._threads = ThreadPoolExecutor(1, "pictures") if isinstance(pictures, StoredPictures) else None
        self._waiting: deque[tuple[_Items, Future[NDArray[np.uint8]]]] = deque()

    def announce(self, item_K: _Items) -> None:
        """Begin to read pictures that will be asked for, after those that were announced before."""
        if self._threads is not None:
            self._waiting.append((item_K, self._threads.submit(self._pictures.__getitem__, item_K)))

    def take(self, item_K: _Items) -> NDArray[np.uint8]:
        """Return pictures, uint8 [K, H, W, C]. What was announced before them and is not asked for is given up.

        Raises what indexing them raises.
        """
        while self._waiting:
            announced_K, found = self._waiting.popleft()
            if np.array_equal(announced_K, item_K):
                return found.result()
            found.cancel()
        return np.asarray(self._pictures[item_K])

    def close(self) -> None:
        """Give up what was announced, and end the thread; pictures can be asked for, but not announced, after it."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
            self._waiting.clear()


def read_in_turn(pictures: Pictures, batches: Sequence[_Items]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of each batch, while those of the next one are read."""
    with contextlib.closing(ReadAhead(pictures)) as ahead:
        for number, item_K in enumerate(batches):
            if number == 0:
                ahead.announce(item_K)
            if number + 1 < len(batches):
                ahead.announce(batches[number + 1])
            yield ahead.take(item_K)
