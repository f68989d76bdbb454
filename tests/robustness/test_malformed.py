"""Malformed variants of what Mohs saves: refused in one line, or read as a whole and equal to the original.

`MOHS_FUZZ_VARIANTS` says how many of each artefact (24 in CI, 210 with `make fuzz`, which the table of
`docs/reliability.md` is of).
"""

import mmap
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from saved_formats import ARTEFACTS, Artefact, some_pictures

from mohs.data.cache import load_pictures
from mohs.data.images import ImagePolicy
from mohs.data.reading import read_table
from mohs.errors import MohsError

from .mutations import BYTES, changed_json
from .own_memory import with_peak
from .reliability import record_figures

NUM_VARIANTS = int(os.environ.get("MOHS_FUZZ_VARIANTS", "24"))
RELEASE = Path(__file__).parents[1] / "formats" / "0.1"
SLOWEST_S, MOST_BYTES = 2.0, 500_000_000
# LanceDB answers for its own.
NOT_OURS = "items.lance"


def make_cache(folder: Path) -> None:
    """Write pictures, a table, and their cache."""
    folder.mkdir()
    for number, pixels in enumerate(some_pictures(4)):
        Image.fromarray(pixels[..., 0]).save(folder / f"{number}.png")
    (folder / "table.csv").write_text("file,class\n" + "".join(f"{n}.png,c{n % 2}\n" for n in range(4)))
    read_cache(folder)


def read_cache(folder: Path) -> Any:
    """Return the pictures, decoded again if need be."""
    table = read_table(folder / "table.csv")
    loaded = load_pictures(table, ImagePolicy(16, 1), cache_dir=folder / "cache")
    return [np.array(loaded.pictures).tolist(), list(loaded.warnings), len(loaded.bad)]


def changed_tensors(file: Path, rng: random.Random) -> None:
    """Rename a tensor, or give it another type or shape, NaN, or other numbers."""
    tensors = load_file(file)
    name = rng.choice(sorted(tensors))
    match rng.randrange(6):
        case 0:
            tensors[f"{name}x"] = tensors.pop(name)
        case 1:
            tensors[name] = tensors[name].astype(np.int16)
        case 2:
            tensors[name] = tensors[name].astype(np.float64)
        case 3:
            tensors[name] = np.ascontiguousarray(tensors[name].reshape(-1)[:-1])
        case 4:
            tensors[name] = np.full_like(tensors[name], np.nan, dtype=np.float32)
        case _:
            tensors["extra"] = np.zeros(3, np.float32)
    save_file(tensors, file)


def spoil(folder: Path, rng: random.Random) -> str:
    """Change a file of an artefact, and say what was done."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and NOT_OURS not in file.parts]
    files = [file for file in files if file.suffix not in (".png", ".lock", ".html") and file.name != "table.csv"]
    file = rng.choice(files)
    kind = rng.randrange(4)
    if kind == 0 and len(files) > 1:
        other = rng.choice([each for each in files if each != file])
        one, two = file.read_bytes(), other.read_bytes()
        file.write_bytes(two)
        other.write_bytes(one)
        return f"{file.name} and {other.name} swapped"
    if kind <= 1 and file.suffix == ".safetensors":
        changed_tensors(file, rng)
        return f"tensors of {file.name}"
    if kind <= 2 and file.suffix == ".json":
        file.write_bytes(changed_json(file.read_bytes(), rng))
        return f"values of {file.name}"
    change: Callable[[bytes, random.Random], bytes] = rng.choice(BYTES)
    file.write_bytes(change(file.read_bytes(), rng))
    return f"{file.name} {change.__name__}"


def read_or_refused(artefact: Artefact, folder: Path, expected: Any) -> tuple[str, ...] | None:
    """Return what refuses an artefact, a line for each file that is wrong; None if it is as it was."""
    problems = None
    try:
        assert artefact.read(folder) == expected, "other content"
    except MohsError as error:
        problems = error.problems
    assert all(line.isprintable() and len(line) < 1000 for line in problems or ()), problems
    return problems


SAVED = {name: each for name, each in ARTEFACTS.items() if (RELEASE / name).is_dir()}
ALL = SAVED | {"cache": Artefact(make_cache, read_cache)}
FIGURES: dict[str, tuple[object, ...]] = {}


@pytest.mark.parametrize("name", ALL)
def test_a_malformed_artefact_is_refused_in_a_line_or_read_whole(tmp_path: Path, name: str) -> None:
    whole, artefact = tmp_path / "whole", ALL[name]
    if name in SAVED:
        shutil.copytree(RELEASE / name, whole)
    else:
        artefact.make(whole)
    expected = artefact.read(whole)
    refused = most_bytes = 0
    slowest_s = 0.0
    for variant in range(NUM_VARIANTS):
        # In one place: the name of a cache file depends on that of its pictures.
        kept = tmp_path / "kept"
        shutil.copytree(whole, kept)
        done = spoil(whole, random.Random(f"{name} {variant}"))
        began = time.process_time()
        try:
            problems, num_bytes = with_peak(lambda: read_or_refused(artefact, whole, expected))
        except Exception as error:
            raise AssertionError(f"{name}, variant {variant}: {done}") from error
        took_s = time.process_time() - began
        assert took_s < SLOWEST_S, (name, variant, done)
        assert num_bytes < MOST_BYTES, (name, variant, done)
        slowest_s, most_bytes = max(slowest_s, took_s), max(most_bytes, num_bytes)
        refused += problems is not None
        shutil.rmtree(whole)
        kept.rename(whole)
    FIGURES[name] = (
        NUM_VARIANTS,
        refused,
        NUM_VARIANTS - refused,
        f"{slowest_s * 1000:.0f}",
        f"{most_bytes / 1e6:.1f}",
    )
    assert refused or name == "cache"  # whose pictures are decoded again


def test_the_figures_of_the_document_are_of_all_artefacts() -> None:
    header = ["saved", "variants", "refused", "read as it was", "slowest, ms of CPU", "most memory, MB"]
    if len(FIGURES) == len(ALL):
        rows = [[name, *figures] for name, figures in FIGURES.items()]
        record_figures("malformed", header, rows, complete=NUM_VARIANTS >= 210)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux counts")
def test_a_peak_is_seen() -> None:
    # Of the system, not of the heap, where earlier tests may have left as much.
    def take() -> None:
        with mmap.mmap(-1, 50_000_000) as taken:
            for _ in range(50):
                taken.write(bytes([1]) * 1_000_000)

    assert 40e6 < with_peak(take)[1] < 80e6
    assert with_peak(lambda: None)[1] < 5e6
