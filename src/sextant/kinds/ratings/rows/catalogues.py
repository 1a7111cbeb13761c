"""The catalogue: all films with their titles, and all users.

It belongs to all rows and travels as an attribute of the frame. So the sizes of a net follow from
the catalogue, not from the rows of a part.
"""

import json
from typing import TypedDict

import numpy as np
import pandas as pd

from ..columns import Columns
from .identifiers import Ids

CATALOGUE = "catalogue"  # the attribute of a frame with the Catalogue as JSON
UNLISTED = "unlisted"  # the attribute with the number of films that the catalogue lacked, if any


class Catalogue(TypedDict):
    """All films with their titles, and all users, in the order of their files.

    What no file lists comes last, in ascending order.
    """

    items: Ids
    titles: list[str]
    users: Ids


def catalogue(rows: pd.DataFrame) -> Catalogue:
    """The catalogue that prepared rows carry."""
    lists: Catalogue = json.loads(rows.attrs[CATALOGUE])
    return lists


def users_of(rows: pd.DataFrame, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """The users in order of first appearance, (users,), and the position in it by row, (rows,)."""
    positions, users = pd.factorize(rows[columns.user])
    return np.asarray(users), positions
