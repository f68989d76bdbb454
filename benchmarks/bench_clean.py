"""What cleaning many pictures costs, and whether it finds what was put in (--help says how).

Synthetic photographs lie in a file, as a table's decoded pictures do. Copies, paler copies and blank pictures are put
in, and wrong labels given. Printed: seconds, the largest memory beside the file's pages, and what was found of each.
"""

import argparse
import re
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from mohs.doctor.clean import find_issues

SIZE, PER_CLASS, DIM = 64, 5, 64
_BLOCK = 1000


def main() -> None:
    """Write the pictures, look for issues, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=100_000)
    parser.add_argument("--defects", type=int, default=100, help="of each kind")
    given = parser.parse_args()
    num, k = given.num, given.defects
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(-(-num // PER_CLASS)), PER_CLASS)[:num].astype(np.str_)
    x_ND = _vectors(labels, random)
    with tempfile.TemporaryDirectory() as folder:
        pictures = np.lib.format.open_memmap(Path(folder) / "p.npy", "w+", np.uint8, (num, SIZE, SIZE, 3))
        for start in range(0, num, _BLOCK):
            pictures[start : start + _BLOCK] = _photographs(min(_BLOCK, num - start), random)
        chosen = random.permutation(num)
        copies, sources, pale, blank, wrong = (np.sort(chosen[i * k : (i + 1) * k]) for i in range(5))
        pictures[copies] = pictures[sources]
        pictures[pale] = (pictures[sources] * 0.7 + 40).astype(np.uint8)
        pictures[blank] = 128
        labels[wrong] = labels[random.permutation(num)[:k]]
        pictures.flush()
        del pictures
        mapped = np.load(Path(folder) / "p.npy", mmap_mode="r")
        began, peak = time.perf_counter(), _Peak()
        issues, notes = find_issues(labels, mapped, x_ND=x_ND)
        seconds, megabytes = time.perf_counter() - began, peak.stop()
    print(
        f"{num:,} pictures: {seconds:.0f} s, {megabytes:,.0f} MB beside the file's pages (before: {peak.before:,.0f})"
    )
    both = {frozenset((issue.item, issue.other)) for issue in issues if issue.other >= 0}
    blank_found = {issue.item for issue in issues if issue.cause in ("blank", "duplicate", "two-labels")}
    doubted = {issue.item for issue in issues if issue.cause == "label-error"}
    for name, found, all_ in (
        ("copies", sum(frozenset(p) in both for p in zip(copies.tolist(), sources.tolist(), strict=True)), k),
        ("paler copies", sum(any(item in pair for pair in both) for item in pale.tolist()), k),
        ("blank", sum(item in blank_found for item in blank.tolist()), k),
        ("wrong labels", sum(item in doubted for item in wrong.tolist()), k),
    ):
        print(f"{name}: {found} of {all_} found")
    put_in = set(np.concatenate([copies, sources, pale, blank, wrong]).tolist())
    print(f"others: {sum(issue.item not in put_in for issue in issues)} of {len(issues)} issues")
    for note in notes:
        print(note)


def _photographs(num: int, random: np.random.Generator) -> np.ndarray:
    coarse = random.integers(0, 256, (num, 9, 9, 3)).astype(np.float32)
    place = np.linspace(0, 8, SIZE)
    low, share = np.minimum(place.astype(int), 7), (place - np.minimum(place.astype(int), 7)).astype(np.float32)
    rows = coarse[:, low] * (1 - share)[:, None, None] + coarse[:, low + 1] * share[:, None, None]
    whole = rows[:, :, low] * (1 - share)[:, None] + rows[:, :, low + 1] * share[:, None]
    return np.clip(whole + random.normal(0, 8, whole.shape), 0, 255).astype(np.uint8)


def _vectors(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    class_N = np.unique(labels, return_inverse=True)[1]
    x_ND = random.normal(size=(int(class_N.max()) + 1, DIM))[class_N] + 0.6 * random.normal(size=(len(labels), DIM))
    return (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)


class _Peak:
    """Looks at the memory of this process that is not a file's, ten times a second."""

    def __init__(self) -> None:
        self.before = self._largest = _anonymous_mb()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self._largest = max(self._largest, _anonymous_mb())

    def stop(self) -> float:
        """Return the largest, in MB."""
        self._over.set()
        self._thread.join()
        return self._largest


def _anonymous_mb() -> float:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return float(found.group(1)) / 1000 if found else 0.0


if __name__ == "__main__":
    main()
