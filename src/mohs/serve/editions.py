"""The version of an index that answers are made from, and how a newer one takes its place."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mohs.errors import MohsError, reason_of
from mohs.index.index import Index, embedder_hash
from mohs.index.places import ABOUT, EMBEDDER, Place, Stamp, place_of
from mohs.index.snapshot import Snapshot
from mohs.model.saved import WEIGHTS
from mohs.serve.metrics import Metrics

__all__ = ["Edition", "Editions"]


@final
@dataclass(frozen=True, eq=False)
class Edition:
    """An embedder, its hash, and items whose vectors it made. An answer is made from one edition alone."""

    index: Index
    snapshot: Snapshot
    embedder: str

    @property
    def version(self) -> str:
        """The store's version and the embedder's first digits: equal if answers are of the same items."""
        return f"{self.snapshot.version}-{self.embedder[:8]}"


@final
class Editions:
    """The newest edition of the index in a place.

    A request takes `current` once and keeps it; a new edition is read beside it and then takes its place. What cannot
    be read leaves the old one in place, and is tried again.
    """

    def __init__(self, where: str | Path | Place, metrics: Metrics) -> None:
        self._place = place_of(where)
        self._metrics = metrics
        self._stamp = self._place_stamp()
        index = Index.open(self._place.folder)
        self.current = Edition(index, index.snapshot(), embedder_hash(index.embedder))
        self.problem: str | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="reload")
        self._lock = asyncio.Lock()
        self._tell()

    async def refresh(self) -> Edition:
        """Take up a newer edition if there is one, and return the newest."""
        async with self._lock:
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._pool, self._newest)
            except (MohsError, OSError, ValueError, RuntimeError, KeyError) as error:
                self.problem = reason_of(error)
                self._metrics.failed_reloads.inc()
            else:
                self.problem = None
                if found is not self.current:
                    self.current = found
                    self._metrics.reloads.inc()
                    self._tell()
            return self.current

    async def watch(self, every_s: float) -> None:
        """Refresh again and again."""
        while True:
            await asyncio.sleep(every_s)
            await self.refresh()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _newest(self) -> Edition:
        old = self.current
        stamp = self._place_stamp()
        if stamp == self._stamp:
            snapshot = old.index.snapshot()
            found = old if snapshot is old.snapshot else Edition(old.index, snapshot, old.embedder)
        else:
            index = Index.open(self._place.folder)
            found = Edition(index, index.snapshot(), embedder_hash(index.embedder))
        # A folder that was replaced meanwhile may have given vectors of another embedder: wait for the next look.
        if self._place_stamp() != stamp:
            return old
        self._stamp = stamp
        return found

    def _place_stamp(self) -> tuple[Stamp, ...]:
        """Return what changes if the folder is replaced, not if items are added."""
        return tuple(self._place.stamp(name) for name in (ABOUT, f"{EMBEDDER}/{WEIGHTS}"))

    def _tell(self) -> None:
        self._metrics.items.set(len(self.current.snapshot))
        self._metrics.version.set(self.current.snapshot.version)
