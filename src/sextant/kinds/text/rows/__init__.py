"""Text as rows: read, cut into chunks, split into four parts, and written.

A row of a part is a chunk of a text, with the file and the place where it begins, so that the rows
that follow one another can be read as one text. An input row is a prompt.
"""

from .chunks import FILE_COLUMN, PROMPT, START, TEXT, follows, repair, texts_of
from .facts import findings, table
from .parts import check_parts, load, monitored, profile, split, write, write_inputs
from .reading import read, read_rows

__all__ = [
    "FILE_COLUMN",
    "PROMPT",
    "START",
    "TEXT",
    "check_parts",
    "findings",
    "follows",
    "load",
    "monitored",
    "profile",
    "read",
    "read_rows",
    "repair",
    "split",
    "table",
    "texts_of",
    "write",
    "write_inputs",
]
