"""What the service holds: right answers under load and while the index changes, throughput, and attacks.

    python benchmarks/bench_serve.py --weights tf_efficientnet_lite0_imagenet.safetensors

1. 32 clients ask for 60 s in an index of 10,000 items, and again while it is changed 20 times: items come and go, and
   twice the whole folder is replaced by one of another embedder. Each answer is held against a comparison with every
   item of the version that it names.
2. 300 slow sockets and 20 bombs, while /health is asked ten times a second.

Without --weights the network is a small one for 32 pixels, which is so fast that HTTP is what is measured.
"""

import argparse
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from serve_load import Asked, HealthWatch, ask_for, bombs, send_all, slow_sockets

from mohs.data.images import ImagePolicy
from mohs.data.picture_input import prepare_pictures
from mohs.index.index import Index, embedder_hash
from mohs.index.rows import NewItem
from mohs.index.snapshot import Snapshot
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig

TOP = 10
NUM_QUERIES = 30
NUM_PICTURES = 60


def picture(seed: int, side: int = 320) -> bytes:
    """Return a JPEG of coloured blots, as large as a picture from a page."""
    random = np.random.default_rng(seed)
    blots = Image.fromarray(random.integers(0, 255, (8, 8, 3)).astype(np.uint8)).resize((side, side))
    buffer = io.BytesIO()
    blots.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def network(weights: Path | None, seed: int) -> Embedder:
    """Return an embedder whose head is random: how near is near does not matter here."""
    if weights is None:
        config = ModelConfig(hidden_dim=0, embedding_dim=128)
        return Embedder.create(config, ImagePolicy(size=32), seed=seed).eval()
    config = ModelConfig(
        backbone="tf_efficientnet_lite0", weights=str(weights), hidden_dim=0, embedding_dim=128, batch_norm=False
    )
    return Embedder.create(config, ImagePolicy(size=224), seed=seed).eval()


def build(folder: Path, embedder: Embedder, num_items: int) -> Index:
    """Write an index of 60 pictures; the vectors of the other items are theirs, with noise."""
    pictures = folder.parent / f"{folder.name}-pictures"
    pictures.mkdir()
    lines = ["file,class"]
    for i in range(NUM_PICTURES):
        (pictures / f"p{i:03d}.jpg").write_bytes(picture(i))
        lines.append(f"p{i:03d}.jpg,c{i:03d}")
    (pictures / "t.csv").write_text("\n".join(lines) + "\n")
    index = Index.build(folder, pictures / "t.csv", embedder)
    schema = index.snapshot().store.schema
    random = np.random.default_rng(1)
    num = num_items - NUM_PICTURES
    base = index.vectors().x_ND[random.integers(0, NUM_PICTURES, num)]
    x = base + random.normal(size=base.shape).astype(np.float32) * 0.05
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    ids = [f"r{i:06d}" for i in range(num)]
    cells = {"id": ids, "file": ids, "path": [""] * num, "class": ids, "role": ["sample"] * num}
    arrays = [
        pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
        if field.name == "vector"
        else pa.array([b""] * num if field.name == "thumbnail" else cells[field.name], field.type)
        for field in schema
    ]
    index.snapshot().store.add(pa.Table.from_arrays(arrays, schema=schema))
    return Index.open(folder)


def bare(embedder: Embedder, queries: list[bytes], for_s: float = 8.0) -> tuple[float, float, float]:
    """Return what the embedder alone does in batches of 32: pictures a second, from files and from arrays; and CPU.

    CPU is milliseconds for a picture from a file. It tells more than a clock beside other programs.
    """
    batch = [queries[i % len(queries)] for i in range(32)]
    arrays = prepare_pictures(batch, embedder.policy)
    found, cpu_ms = [], []
    for given in (batch, arrays):
        embedder.embed(given)
        began, num, cpu_s = time.perf_counter(), 0, time.process_time()
        while time.perf_counter() - began < for_s:
            num += len(embedder.embed(given))
        found.append(num / (time.perf_counter() - began))
        cpu_ms.append(1e3 * (time.process_time() - cpu_s) / num)
    return found[0], found[1], cpu_ms[0]


def cpu_s_of(process: int) -> float:
    """Return the CPU seconds that a process has taken."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class Changes(threading.Thread):
    """Changes the index again and again, and keeps every version that it made."""

    def __init__(self, folder: Path, others: list[Path], num: int, every_s: float) -> None:
        super().__init__()
        self._folder, self._others, self._num, self._every_s = folder, others, num, every_s
        self.versions: dict[str, tuple[Snapshot, str]] = {}
        self.keep(Index.open(folder))

    def keep(self, index: Index) -> Index:
        """Keep what an index is now, by the name that answers give it."""
        snapshot, whose = index.snapshot(), embedder_hash(index.embedder)
        self.versions[f"{snapshot.version}-{whose[:8]}"] = snapshot, whose
        return index

    def run(self) -> None:
        """Add and remove items that queries would find, and replace the folder in between."""
        index = Index.open(self._folder)
        for i in range(self._num):
            time.sleep(self._every_s)
            if i in (self._num // 3, 2 * self._num // 3):
                self._folder.rename(self._folder.parent / f"was-{i}")
                self._others.pop(0).rename(self._folder)
                index = self.keep(Index.open(self._folder))
            elif i % 2 == 0:
                added = [NewItem(f"n{i}-{k}", "new", picture((3 * i + k) % NUM_QUERIES), {}) for k in range(3)]
                index.add_pictures(added)
                self.keep(index)
            else:
                index.remove([f"p{(3 * (i // 2) + k) % NUM_QUERIES:03d}.jpg" for k in range(3)])
                self.keep(index)


def wrong_answers(asked: list[Asked], changes: Changes, query_of: dict[str, np.ndarray]) -> tuple[int, int, int]:
    """Return how many answers are wrong in their own version, right in another, and of a version that never was."""
    wrong = mixed = nowhere = 0
    cosines: dict[tuple[str, int], np.ndarray] = {}

    def fits(version: str, each: Asked) -> bool:
        snapshot, whose = changes.versions[version]
        if (version, each.query) not in cosines:
            x = snapshot.vectors.x_ND.astype(np.float64)
            cosines[version, each.query] = np.linalg.norm(x - query_of[whose][each.query].astype(np.float64), axis=1)
        distance_N = cosines[version, each.query]
        matches = each.answer["matches"]
        places = [snapshot.place(match["id"]) for match in matches]
        if None in places or len(set(places)) != TOP:
            return False
        told = np.array([match["distance"] for match in matches])
        nearest = np.sort(distance_N)[:TOP]
        # Queries are embedded in batches of other sizes here, so the last digits differ.
        return bool(np.allclose(told, nearest, atol=2e-4) and np.allclose(told, distance_N[places], atol=2e-4))

    for each in asked:
        version = each.answer["version"]
        if version not in changes.versions:
            nowhere += 1
        elif not fits(version, each):
            wrong += 1
            mixed += any(fits(other, each) for other in changes.versions)
    return wrong, mixed, nowhere


def load(arguments: argparse.Namespace, place: Path) -> None:
    """Measure right answers and throughput, and print them."""
    embedders = [network(arguments.weights, seed) for seed in range(3)]
    queries = [picture(i) for i in range(NUM_QUERIES)]
    folder = place / "index"
    build(folder, embedders[0], arguments.items)
    others = [build(place / f"other-{seed}", embedders[seed], arguments.items).folder for seed in (1, 2)]
    query_of = {embedder_hash(each): each.embed(queries) for each in embedders}
    before = bare(embedders[0], queries)
    service = serving(folder)
    with service as port:
        ask_for(port, queries, 4, 3, TOP)
        cpu_s = cpu_s_of(service.process.pid)
        quiet = ask_for(port, queries, arguments.clients, arguments.seconds, TOP)
        cpu_ms = 1e3 * (cpu_s_of(service.process.pid) - cpu_s) / len(quiet)
        changes = Changes(folder, others, arguments.changes, arguments.seconds / (arguments.changes + 1))
        changes.start()
        busy = ask_for(port, queries, arguments.clients, arguments.seconds, TOP)
        changes.join()
    after = bare(embedders[0], queries)
    files, arrays, bare_ms = ((one + other) / 2 for one, other in zip(before, after, strict=True))
    print(f"bare embedder, batches of 32: {files:.1f} pictures/s from files, {arrays:.1f} from arrays")
    print(f"CPU: {bare_ms:.1f} ms a picture bare, {cpu_ms:.1f} ms a query in the service: {bare_ms / cpu_ms:.2f} ×")
    for name, asked in (("unchanged", quiet), (f"{arguments.changes} changes", busy)):
        good = [each for each in asked if each.status == 200]
        wrong, mixed, nowhere = wrong_answers(good, changes, query_of)
        per_s = len(good) / arguments.seconds
        times = np.quantile([each.time_s for each in good], [0.5, 0.99])
        versions = len({each.answer["version"] for each in good})
        print(
            f"{name}: {len(asked):,} queries of {arguments.clients} clients in {arguments.seconds:g} s, statuses "
            f"{dict(Counter(each.status for each in asked))}, {per_s:.1f}/s = {per_s / files:.2f} × bare from files "
            f"({per_s / arrays:.2f} × from arrays), p50 {1e3 * times[0]:.0f} ms, p99 {1e3 * times[1]:.0f} ms; "
            f"{versions} versions; wrong {wrong}, mixed {mixed}, of no version {nowhere}",
            flush=True,
        )


def attack(arguments: argparse.Namespace, place: Path) -> None:
    """Measure /health under slow sockets and bombs, and print it."""
    folder = place / "attacked"
    build(folder, network(arguments.weights, 0), 1000)
    sent = bombs()
    with serving(folder) as port, HealthWatch(port) as watch:
        lived: list[float] = []
        slow = threading.Thread(target=lambda: lived.extend(slow_sockets(port, arguments.slow, 90)))
        slow.start()
        time.sleep(3)
        found = send_all(port, [data for _, data in sent])
        good = ask_for(port, [picture(i) for i in range(5)], 2, 3, TOP)
        slow.join()
    for name in dict.fromkeys(name for name, _ in sent):
        of_kind = [each for each, (kind, _) in zip(found, sent, strict=True) if kind == name]
        size = next(len(data) for kind, data in sent if kind == name)
        said = Counter((each.status, each.answer.get("detail", "answered")) for each in of_kind)
        print(f"{name} ({size / 1e6:.1f} MB): {dict(said)}, at most {max(e.time_s for e in of_kind):.1f} s")
    print(f"{len(lived)} slow sockets: all cut after {min(lived):.0f} to {max(lived):.0f} s")
    print(f"honest queries meanwhile: {dict(Counter(each.status for each in good))}")
    times = np.array(watch.times_s)
    print(
        f"/health: {len(times)} times, {watch.failed} failed, p50 {1e3 * np.median(times):.0f} ms, "
        f"longest {times.max():.2f} s"
    )


class serving:  # noqa: N801
    """A service in a process of its own, for the length of a block; its port."""

    def __init__(self, *words: str | Path) -> None:
        self._command = [sys.executable, "-m", "mohs", "serve", *map(str, words), "--port", "0"]

    def __enter__(self) -> int:
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        threading.Thread(target=self._tell, daemon=True).start()
        return int(line.split(":")[-1].split()[0])

    def _tell(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            print(f"service: {line.rstrip()}")

    def __exit__(self, *_: object) -> None:
        peak = Path(f"/proc/{self.process.pid}/status")
        if peak.exists():
            line = next(each for each in peak.read_text().splitlines() if each.startswith("VmHWM"))
            print(f"service: peak memory {int(line.split()[1]) / 1e6:.2f} GB")
        self.process.send_signal(signal.SIGINT)
        self.process.wait(300)


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="of tf_efficientnet_lite0; without: a small network")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--slow", type=int, default=300)
    parser.add_argument("--only", choices=("load", "attack"))
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    place = Path(tempfile.mkdtemp())
    try:
        if arguments.only != "attack":
            load(arguments, place)
        if arguments.only != "load":
            attack(arguments, place)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
