"""A picture in a file of many, with what is said of it.

Short, and apart from `packed.py`, since both readers of such files give it to that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

__all__ = ["PackedItem"]


@final
@dataclass(frozen=True)
class PackedItem:
    """A picture of a packed set.

    Attributes:
        place: where it is, for messages.
        picture: the bytes of its file.
        suffix: of its name, such as ".jpg"; "" if there is none.
        cells: text by column; among them "class".
    """

    place: str
    picture: bytes
    suffix: str
    cells: Mapping[str, str]
