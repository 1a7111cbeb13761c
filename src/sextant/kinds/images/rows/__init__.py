"""Pictures as rows: read, decoded to squares, split into four parts and written."""

from .facts import findings, table
from .inputs import read_picture, read_rows, write_inputs
from .parts import channel_statistics, check_parts, load, monitored, profile, repair, split, write
from .pictures import Content, Picture, Raw
from .reading import passed_over, read
from .squares import png, square, to_base64

__all__ = [
    "ADVICE",
    "NAMED_BY",
    "Content",
    "Picture",
    "Raw",
    "channel_statistics",
    "check_parts",
    "findings",
    "load",
    "monitored",
    "passed_over",
    "png",
    "profile",
    "read",
    "read_picture",
    "read_rows",
    "repair",
    "split",
    "square",
    "table",
    "to_base64",
    "write",
    "write_inputs",
]

NAMED_BY = "path"  # the column that names a picture in messages
# By column of the table, what a data set's conf can do about an expectation that failed.
ADVICE = {"decodable": "set `columns.leave_out: undecodable` in the conf"}
