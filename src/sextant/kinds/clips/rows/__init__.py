"""Clips as rows: read or made, brought to one size, split into four parts and written."""

from .facts import findings, table
from .inputs import decoded, read_rows, to_base64, write_inputs
from .parts import check_parts, load, monitored, profile, repair, split, write
from .reading import Raw, read

__all__ = [
    "NAMED_BY",
    "Raw",
    "check_parts",
    "decoded",
    "findings",
    "load",
    "monitored",
    "profile",
    "read",
    "read_rows",
    "repair",
    "split",
    "table",
    "to_base64",
    "write",
    "write_inputs",
]

NAMED_BY = "path"  # the column that names a clip in messages
