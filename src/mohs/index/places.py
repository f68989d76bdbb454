"""Where an index lies: a folder of this machine, or a bucket (`bucket`). Its small files are read and written here.

The items are LanceDB's, which finds them by `uri` and `storage_options` (`store`).
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union, final

from mohs.artefacts import atomic_folder, disk_named, file_stamp, require_disk
from mohs.checks import path_of
from mohs.errors import InputError, Problem, reason_of
from mohs.lock import only_writer
from mohs.model.embedder import Embedder
from mohs.sums import read_summed, write_summed

if TYPE_CHECKING:
    from mohs.index.bucket import BucketPlace  # which takes names from here

__all__ = ["ABOUT", "EMBEDDER", "FolderPlace", "Place", "Stamp", "is_address", "place_of"]

ABOUT = "index.json"
"""The file that makes a place an index: what it is of."""
EMBEDDER = "embedder"
"""The folder of the embedder in an index."""

Stamp: TypeAlias = tuple[int | str, ...] | None
"""What changes when a file is written or replaced; None if there is none."""

# Of two letters at least: C:/ is a disk. `Path` makes one slash of two.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://?")

Place: TypeAlias = Union["FolderPlace", "BucketPlace"]
"""Where an index lies, or is to lie: `folder` as the user gave it, `uri` as LanceDB and messages have it."""


def is_address(where: str | Path) -> bool:
    """Return whether this is an address, not a path.

    >>> is_address("s3://shop/rings.index"), is_address("shop/rings.index"), is_address("C:/rings.index")
    (True, False, False)
    """
    return _ADDRESS.match(str(where)) is not None


def place_of(where: str | Path | Place) -> Place:
    """Return the place of a path or an address; raise `InputError` for an address that no index can have.

    >>> place_of("rings.index").uri, place_of("s3://shop/rings.index/").uri
    ('rings.index', 's3://shop/rings.index')
    """
    if not isinstance(where, str | Path):
        if not hasattr(where, "has_file"):
            path_of("folder", where)
        return where
    if found := _ADDRESS.match(str(where)):
        from mohs.index.bucket import BucketPlace

        return BucketPlace.of(f"{found[1]}://{str(where)[found.end() :]}")
    return FolderPlace(Path(where))


@final
class FolderPlace:
    """A folder of this machine, which one process changes at a time (`mohs.lock`)."""

    storage_options = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = str(folder)

    def has_file(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        return (self.folder / name).is_file()

    def has_folder(self, name: str) -> bool:
        """Return whether there is a folder of this name."""
        return (self.folder / name).is_dir()

    def stamp(self, name: str) -> Stamp:
        """Return inode, time and length of a file."""
        return file_stamp(self.folder / name)

    def named(self, name: str) -> str:
        """Return a file's path."""
        return str(self.folder / name)

    def read(self, name: str) -> dict[str, Any]:
        """Return the values of a JSON file (`mohs.sums.read_summed`)."""
        return read_summed(self.folder / name)

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file (`mohs.sums.write_summed`)."""
        write_summed(self.folder / name, values)

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        (self.folder / name).unlink(missing_ok=True)

    def save_embedder(self, network: Embedder) -> None:
        """Write a copy of an embedder into the folder `embedder`."""
        network.save_pretrained(self.folder / EMBEDDER)

    def embedder_folder(self) -> Path:
        """Return the folder `embedder`."""
        return self.folder / EMBEDDER

    def require_new(self) -> None:
        """Raise `InputError` if the folder is there."""
        if self.folder.exists():
            raise InputError(Problem("folder", f"{self.folder} exists already", "give another, or remove it"))

    def require_room(self, num_bytes: int) -> None:
        """Raise `ResourceError` if the disk has not so much room for an index."""
        require_disk(self.folder, num_bytes, "an index of these items")

    @contextlib.contextmanager
    def new(self) -> Iterator["FolderPlace"]:
        """Yield a temporary folder that takes this one's place in one step (`mohs.artefacts.atomic_folder`)."""
        with atomic_folder(self.folder) as temporary:
            yield FolderPlace(temporary)

    @contextlib.contextmanager
    def changing(self, doing: str, wait_s: float) -> Iterator[bool]:
        """Hold the folder against other writers; yield whether that can be done here."""
        with disk_named(self.folder), only_writer(self.folder, doing, wait_s=wait_s) as is_alone:
            yield is_alone

    def reaching(self) -> AbstractContextManager[None]:
        """Change nothing: a folder is there or it is not."""
        return contextlib.nullcontext()

    def unreadable(self, error: Exception) -> InputError:
        """Return the line for what LanceDB could not read."""
        return InputError(Problem(self.uri, f"cannot be read ({reason_of(error)})", "build the index again"))

    def is_lost(self, error: Exception) -> bool:  # noqa: ARG002
        """Return False: a folder does not go away."""
        return False
