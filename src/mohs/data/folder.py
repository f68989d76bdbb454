"""A folder with a sub-folder for each class: which files are its pictures, and which are not."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mohs.data.formats import is_picture_name, why_not_read
from mohs.errors import InputError, at_most_20

__all__ = ["read_class_folders"]


def read_class_folders(folder: Path) -> tuple[list[str], list[str], str]:
    """Return the pictures relative to the folder, their classes, and a line about what is passed over, or "".

    Passed over are files that are no pictures, and folders without a picture. Pictures are told by their
    extension (`mohs.data.formats`), in order of class and name. Hidden files, and files beside the class folders that
    are no pictures, are no part of the set and not in the line.

    Raises `InputError` with a line for each problem: pictures outside the class folders or two folders deep, no picture
    at all.
    """
    problems: list[str] = []
    files: list[str] = []
    labels: list[str] = []
    others: list[Path] = []
    bare: list[str] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name == "__MACOSX":  # the latter is left by archives of macOS
            continue
        if not entry.is_dir():
            if is_picture_name(entry.name):
                problems.append(f"{entry}: a picture outside the class folders; move it into the folder of its class")
            continue
        num_before = len(files)
        for child in sorted(entry.iterdir()):
            if child.name.startswith("."):
                continue
            if child.is_dir():
                inner = [file for file in child.rglob("*") if not file.name.startswith(".") and not file.is_dir()]
                if any(is_picture_name(file.name) for file in inner):
                    problems.append(
                        f"{child}: pictures two folders deep; give the folder that holds the class folders, "
                        "or write a table with columns 'file,class'"
                    )
                else:
                    others += sorted(inner)
            # A link that leads nowhere is a picture that cannot be read, and is named as such later.
            elif is_picture_name(child.name):
                files.append(f"{entry.name}/{child.name}")
                labels.append(entry.name)
            else:
                others.append(child)
        if len(files) == num_before:
            bare.append(entry.name)
    if problems:
        raise InputError(*at_most_20(problems))
    found = _passed_over(folder, others, len(files) + len(others)) if others else ""
    if bare and files:
        one = len(bare) == 1
        line = f"{len(bare):,} folder{' has' if one else 's have'} no picture: {', '.join(map(repr, bare[:3]))}"
        found = "; ".join(filter(None, [found, line + (f" and {len(bare) - 3} more" if len(bare) > 3 else "")]))
    if not files:
        seen = f"; {found}" if found else ""
        raise InputError(
            f"{folder}: no pictures (jpg, png, webp, tif and others); put those of each class in a sub-folder named "
            f"after it{seen}"
        )
    return files, labels, f"{folder}: {found}" if found else ""


def _passed_over(folder: Path, others: Sequence[Path], num_all: int) -> str:
    kinds = Counter(file.suffix.lower() or "without an extension" for file in others)
    named = ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items(), key=lambda each: (-each[1], each)))
    examples = ", ".join(repr(file.relative_to(folder).as_posix()) for file in others[:3])
    reasons = sorted({why for file in others if (why := why_not_read(file))})
    one = len(others) == 1
    return (
        f"{len(others):,} of {num_all:,} files {'is no picture' if one else 'are no pictures'} that Mohs reads and "
        f"{'is' if one else 'are'} passed over: {named} ({'' if one else 'for example '}{examples})"
    ) + "".join(f"; {why}" for why in reasons)
