"""The page on architecture names what is there."""

import functools
import importlib
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "mohs"
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


def named(name: str) -> object:
    """Return what a dotted name stands for: a module, or what is in one."""
    words = name.split(".")
    for length in range(len(words), 0, -1):
        try:
            # By its full name: a package may hold a function of a module's name.
            module = importlib.import_module(".".join(words[:length]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, words[length:], module)
    raise AssertionError(name)


def test_the_walk_of_one_picture_is_by_functions_that_are_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    steps = re.findall(r"^\| .+ \| `(mohs\.[\w.]+)` \|$", page.partition("## The walk")[2], re.MULTILINE)
    assert len(steps) == 10
    for name in steps:
        assert callable(named(name)), name


def test_every_room_is_on_the_page_and_every_file_that_it_names_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition("| module |")[2].partition("\n\n")[0]
    rooms = {f"{folder.name}/" for folder in PACKAGE.iterdir() if folder.is_dir() and folder.name != "__pycache__"}
    assert rooms == set(re.findall(r"`(\w+/)`", table))
    files = re.findall(r"`((?:\w+/)+\w+\.py)`", page)
    assert files
    for name in files:
        places = (PACKAGE / name, PACKAGE.parents[1] / name)
        assert any(place.is_file() for place in places), name
