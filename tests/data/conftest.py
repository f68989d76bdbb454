from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mohs.data import glyphs
from mohs.data.table import Table


@pytest.fixture
def save_picture() -> Callable[..., Path]:
    """Write a picture of random colours (of a seed) and return its path."""

    def save(path: Path, seed: int = 0, shape: tuple[int, ...] = (12, 10, 3)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return save


@pytest.fixture
def picture_table(tmp_path: Path, save_picture: Callable[..., Path]) -> Table:
    """Six pictures of three classes in tmp_path/set, listed in images.csv."""
    files = [f"{label}{i}.png" for label in "abc" for i in range(2)]
    for seed, file in enumerate(files):
        save_picture(tmp_path / "set" / file, seed)
    (tmp_path / "set" / "images.csv").write_text("file,class\n" + "".join(f"{file},{file[0]}\n" for file in files))
    from mohs.data.reading import read_table

    return read_table(tmp_path / "set")


@pytest.fixture
def two_faces(monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Draw glyphs with 2 of the 16 faces, for speed."""
    names = ("DejaVuSans", "STIXGeneral")
    found = glyphs._find_faces()
    faces = {name: found[name] for name in names}
    monkeypatch.setattr(glyphs, "_find_faces", lambda: faces)
    return faces
