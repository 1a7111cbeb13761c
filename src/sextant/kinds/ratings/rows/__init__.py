"""Ratings as rows: read, repaired, split into four parts, and written.

A row with a rating is known to the model; a row without one asks for that film. Parts and input
rows have the same form: a part other than train contains the known ratings of its users, all from
train and marked in the column `context`, followed by the rows that are scored, whose stars are in
`target` and not in the rating.
"""

from ...parts import load, write
from .catalogues import CATALOGUE, Catalogue, catalogue, users_of
from .facts import findings, table
from .identifiers import Ids, ids, typed_ids
from .inputs import read_rows
from .parts import TARGET, check_parts, monitored, profile, split
from .reading import Raw, passed_over, read
from .repairing import repair
from .repeated import single
from .stars import checked_ratings

__all__ = [
    "CATALOGUE",
    "TARGET",
    "Catalogue",
    "Ids",
    "Raw",
    "catalogue",
    "check_parts",
    "checked_ratings",
    "findings",
    "ids",
    "load",
    "monitored",
    "passed_over",
    "profile",
    "read",
    "read_rows",
    "repair",
    "single",
    "split",
    "table",
    "typed_ids",
    "users_of",
    "write",
]
