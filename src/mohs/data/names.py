"""Names that look the same and are not: composed accents, capitals, spaces, full width, invisible ones, 01 and 1."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

__all__ = [
    "file_name_warning",
    "find_as_written",
    "folded_name",
    "is_text",
    "joined_warning",
    "name_warning",
    "same_name_groups",
    "spelling_differences",
]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _visible(name: str) -> str:
    # Cf: zero-width characters, soft hyphens, marks of direction; the others are variation selectors.
    seen = (c for c in name if unicodedata.category(c) != "Cf" and not "\ufe00" <= c <= "\ufe0f")
    return _composed("".join(seen))


def _plain(name: str) -> str:
    compatible = unicodedata.normalize("NFKC", _visible(name))
    return "".join("-" if unicodedata.category(c) == "Pd" else "'" if c in "\u2018\u2019" else c for c in compatible)


def _spaced(name: str) -> str:
    return " ".join(_plain(name).split())


def _capitals(name: str) -> str:
    return _composed(_spaced(name).casefold())


# What a spreadsheet or a data frame makes of a number: zeros before it are lost, ".0" is added.
_NUMBER = re.compile(r"0*([0-9]+?)(?:\.0+)?")


def folded_name(name: str) -> str:
    r"""Return what is left of a name without the differences that a person overlooks.

    Accents are composed, invisible characters (Unicode Cf, variation selectors) left out, full width and other
    compatibility forms made plain (NFKC), dashes and apostrophes of one kind, white space one blank, capitals small.
    Of a name that is a whole number, zeros before it and ".0" after it are left out.

    >>> folded_name("Cafe\u0301\u00a0 Bar ") == folded_name("caf\u00e9 bar")
    True
    >>> folded_name("007"), folded_name("7.0"), folded_name("0"), folded_name("7.10")
    ('7', '7', '0', '7.10')
    """
    plain = _capitals(name)
    number = _NUMBER.fullmatch(plain)
    return number[1] if number else plain


_MOST_PAIRS = 20

# In the order in which they are taken away; each includes those before it.
_DIFFERENCES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("accents composed or not", _composed),
    ("invisible characters", _visible),
    ("full width or other forms of a character", _plain),
    ("spaces", _spaced),
    ("capitals", _capitals),
    ("numbers", folded_name),
)


def spelling_differences(one: str, other: str) -> str:
    r"""Return in words how two names differ that `folded_name` makes equal, as in "spaces, capitals".

    >>> spelling_differences("Ring ", "ring"), spelling_differences("e\u0301", "\u00e9")
    ('spaces, capitals', 'accents composed or not')
    """
    found = []
    before = one, other
    for what, without in _DIFFERENCES:
        after = without(one), without(other)
        if after != before:
            found.append(what)
        if after[0] == after[1]:
            break
        before = after
    return ", ".join(found)


def same_name_groups(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of different names that `folded_name` makes equal, each sorted, in order of their first.

    >>> same_name_groups(["b", "A", "a", "a "])
    [['A', 'a', 'a ']]
    """
    different = set(names)
    num_of = Counter(map(folded_name, different))
    groups: dict[str, list[str]] = {folded: [] for folded, num in num_of.items() if num > 1}
    if not groups:
        return []
    for name in sorted(different):
        if (group := groups.get(folded_name(name))) is not None:
            group.append(name)
    return sorted(groups.values())


def is_text(name: str) -> bool:
    r"""Return whether a name can be written as UTF-8; a file's name that is none comes as text with stray halves.

    >>> is_text("Käse"), is_text(os.fsdecode(b"K\xe4se"))
    (True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def find_as_written(path: Path) -> list[Path]:
    """Return the existing files whose path is `path` but for differences that `folded_name` takes away.

    Those that differ in composed accents alone are the same name by the Unicode standard: if there is one, it is the
    only answer. Sorted; empty if there is none, or if `path` exists.
    """
    if os.path.lexists(path):
        return []
    found = _look(path)
    same = [each for each in found if _composed(str(each)) == _composed(str(path))]
    return same if len(same) == 1 else found


def _look(path: Path) -> list[Path]:
    """Return the paths that are like `path`, itself if it exists."""
    if os.path.lexists(path):
        return [path]
    if path.parent == path:
        return []
    found: list[Path] = []
    for folder in _look(path.parent):
        found += [folder / name for name in _names_in(folder).get(folded_name(path.name), ())]
    return found


def _names_in(folder: Path) -> dict[str, Sequence[str]]:
    try:
        return _listing(str(folder), folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _listing(folder: str, _changed_ns: int) -> dict[str, Sequence[str]]:
    """Return the names in a folder by their folded name; the time of its last change makes an old answer void."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names alone, for thousands of files
        names[folded_name(name)].append(name)
    return dict(names)


def _pairs_told(groups: Sequence[Sequence[str]], differences: Callable[[str, str], str], most: int) -> str:
    """Return the first of each group with each of the others, and how they differ; so many pairs at most."""
    pairs = []
    for first, *others in groups:
        for other in others:
            # Names that look alike to the last dot are shown by their code points.
            shown = ascii if _visible(first) == _visible(other) else repr
            pairs.append(f"{shown(first)} and {shown(other)} ({differences(first, other)})")
    return _first_of(pairs, most)


def _first_of(shown: Sequence[str], most: int) -> str:
    return ", ".join(shown[:most]) + (f" and {len(shown) - most:,} more" if len(shown) > most else "")


def name_warning(names: Iterable[str], what: str) -> str:
    """Return a line with the names that look the same and are not, as pairs; "" if there are none.

    >>> name_warning(["Ring", "ring", "x"], "classes")
    "2 classes look like 1: 'Ring' and 'ring' (capitals); write each of them one way if they are one"
    """
    groups = same_name_groups(names)
    if not groups:
        return ""
    return (
        f"{sum(map(len, groups)):,} {what} look like {len(groups):,}: "
        f"{_pairs_told(groups, spelling_differences, _MOST_PAIRS)}; write each of them one way if they are one"
    )


_MOST_FILES = 3


def _without_outer_spaces(path: str) -> str:
    """Return a path without spaces around its parts, and around the name before the extension."""
    folder, slash, name = path.rpartition("/")
    stem, dot, kind = name.rpartition(".")
    return "/".join(part.strip() for part in folder.split("/")) + slash + stem.strip() + dot + kind.strip()


def _path_differences(one: str, other: str) -> str:
    inner = _without_outer_spaces(one), _without_outer_spaces(other)
    words = ["spaces"] if inner != (one, other) else []
    return ", ".join(dict.fromkeys(filter(None, [*words, *spelling_differences(*inner).split(", ")])))


def file_name_warning(files: Iterable[str]) -> str:
    """Return a line with the files whose names look the same and are not, with the first three pairs; "" if none.

    Numbers are told apart, unlike those of classes: `1.png` and `01.png` are two files for everybody.

    >>> file_name_warning(["a/1.png", "a/1.PNG", "a/01.png"]).partition(";")[0]
    "2 file names look like 1: 'a/1.PNG' and 'a/1.png' (capitals)"
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for file in sorted(set(files)):
        groups[_capitals(_without_outer_spaces(file))].append(file)
    alike = sorted(group for group in groups.values() if len(group) > 1)
    if not alike:
        return ""
    return (
        f"{sum(map(len, alike)):,} file names look like {len(alike):,}: "
        f"{_pairs_told(alike, _path_differences, _MOST_FILES)}; "
        "rename or remove one of each, since some disks and archives keep only one of them"
    )


_JOINTS = re.compile(r"[|;,/+&]")


def joined_warning(labels: Iterable[str]) -> str:
    """Return a line with the classes whose name is several others with a mark between; "" if there are none.

    >>> joined_warning(["ring", "gold", "ring|gold", "gold, steel"])
    "1 class looks like several in one cell: 'ring|gold'; write a row for each of them, and choose with --multi-label"
    """
    names = set(labels)
    parts_of = {name: [part.strip() for part in _JOINTS.split(name)] for name in names if _JOINTS.search(name)}
    joined = [repr(name) for name, parts in sorted(parts_of.items()) if names.issuperset(parts)]
    if not joined:
        return ""
    return (
        f"{len(joined):,} {'class looks' if len(joined) == 1 else 'classes look'} like several in one cell: "
        f"{_first_of(joined, _MOST_PAIRS)}; write a row for each of them, and choose with --multi-label"
    )
