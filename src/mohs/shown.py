"""Names from files where a person meets them: on a terminal, in a spreadsheet, in a notebook. None does as it says."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any, Final

__all__ = ["csv_cell", "from_csv_cell", "html_table", "printable"]

# Controls of terminals (C0, DEL, C1) but for tab and newline, and those that turn the direction of text.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# What a spreadsheet takes for a formula; a number is none.
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_NUMBER: Final = re.compile(r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?")


def printable(text: str) -> str:
    r"""Return text for a terminal: characters that would steer it are written as their escapes.

    >>> printable("ring \x1b[2J")
    'ring \\x1b[2J'
    """
    return _CONTROLS.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def csv_cell(value: Any) -> Any:
    """Return a cell for a CSV that a person may open: text that a spreadsheet would take for a formula gets a ' before.

    Numbers stay as they are, and so does text that is one. `from_csv_cell` takes the ' away; text that has one before a
    formula already gets another, so that every name comes back as it was.

    >>> csv_cell("=1+1"), csv_cell("-7"), csv_cell("'=x"), csv_cell("ring")
    ("'=1+1", '-7', "''=x", 'ring')
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def from_csv_cell(text: str) -> str:
    """Return the text of a cell as it was before `csv_cell`.

    >>> [from_csv_cell(text) for text in ("'=1+1", "''=x", "'ring'", "-7")]
    ['=1+1', "'=x", "'ring'", '-7']
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def html_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as HTML for a notebook, its title above; text is escaped.

    >>> html_table("<a>", ["n"], [["1"]])
    '<p>&lt;a&gt;</p><table><thead><tr><th>n</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<p>{escape(title)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
