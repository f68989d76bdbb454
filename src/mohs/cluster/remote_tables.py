"""Tables and pictures on any file system that fsspec knows: local, s3://, gs:// and so on."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mohs.data.reading import read_table
from mohs.data.table import Table
from mohs.errors import InputError, Problem

__all__ = ["is_address", "local_copy", "picture_addresses", "read_bytes", "read_remote_table"]


def is_address(source: str) -> bool:
    """Return whether a source is an address of a file system, not a path.

    >>> is_address("s3://shop/images.csv"), is_address("shop/images.csv")
    (True, False)
    """
    return "://" in source


def read_remote_table(source: str, *, file_column: str = "file", class_column: str = "class") -> Table:
    """Return the table of a CSV or Parquet file at an address, or at a path; its files are relative to where it is.

    Raises `InputError` for what cannot be opened, and what `read_table` raises.
    """
    with local_copy(source) as path:
        table = read_table(path, file_column=file_column, class_column=class_column)
    if not is_address(source):
        return table
    places = tuple(place.replace(str(path), source) for place in table.places)
    return replace(table, source=source, places=places, root=Path())


@contextmanager
def local_copy(source: str) -> Iterator[Path]:
    """Yield a table's file on this machine: itself or, for an address, a copy. Errors name the address.

    Raises `InputError` for what cannot be opened.
    """
    if not is_address(source):
        yield Path(source)
        return
    import fsspec

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / source.rpartition("/")[2]
        try:
            with fsspec.open(source, "rb") as file:
                path.write_bytes(file.read())
        except Exception as error:  # each file system raises its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(Problem(source, f"cannot be opened ({reason})", "check address and credentials")) from None
        try:
            yield path
        except InputError as error:
            raise InputError(*(line.replace(str(path), source) for line in map(str, error.problems))) from None


def picture_addresses(table: Table) -> list[str]:
    """Return where each picture of a table is: an address, or an absolute path."""
    if not is_address(table.source):
        return [str(table.path(i).absolute()) for i in range(len(table))]
    folder = table.source.rpartition("/")[0]
    return [file if is_address(file) else f"{folder}/{file}" for file in table.files]


def read_bytes(addresses: Sequence[str]) -> list[bytes | Exception]:
    """Return the bytes of files, which are on one file system, or what was raised for them."""
    import fsspec

    if not addresses:
        return []
    system: Any = fsspec.core.url_to_fs(addresses[0])[0]
    paths = [system._strip_protocol(address) for address in addresses]
    # All at once, where the file system can; names are no patterns, as they are for `cat`.
    different = list(dict.fromkeys(paths))
    found = dict(zip(different, system.cat_ranges(different, None, None, on_error="return"), strict=True))
    return [found[path] for path in paths]
