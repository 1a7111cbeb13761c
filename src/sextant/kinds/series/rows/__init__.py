"""Series as rows: read, repaired, split by date into four parts, and written.

Input rows are the `window` most recent days or more; each day that completes a window gets a
forecast of the next day.

Layout and order are put right on reading: the series that conf chooses, without the rows that its
rules leave out, the oldest day first. So the expectations look at what is left.
"""

from ...parts import load, write
from .days import checked_days, iso_day
from .facts import findings, table
from .parts import check_parts, forecast_days, monitored, profile, split
from .reading import arranged, passed_over, read, read_rows
from .repairing import repair, to_numbers

__all__ = [
    "arranged",
    "check_parts",
    "checked_days",
    "findings",
    "forecast_days",
    "iso_day",
    "load",
    "monitored",
    "passed_over",
    "profile",
    "read",
    "read_rows",
    "repair",
    "split",
    "table",
    "to_numbers",
    "write",
]
