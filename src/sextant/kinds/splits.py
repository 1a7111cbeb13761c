"""How rows are assigned to the four parts: the block `split` of conf/dataset/<name>.yaml.

A kind lists in its columns.py which of these it supports (`SPLITS`).
"""

import hashlib
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from ..strict import Day, Strict
from .parts import PARTS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# ASCII's unit separator joins several cells to one key. No file of text has it in a cell, so two
# different rows never give the same key.
SEPARATOR = "\x1f"

Share = Annotated[float, Field(ge=0, lt=1)]


class Shares(Strict):
    """The share of the rows in each part; `test: 0` if the source provides its own test part."""

    train: Share = 0.6
    val: Share = 0.1
    gate: Share = 0.1
    test: Share = 0.2

    @model_validator(mode="after")
    def sum_to_one(self) -> Self:
        total = self.train + self.val + self.gate + self.test
        if not math.isclose(total, 1):
            raise ValueError(f"the shares sum to {total:g}; expected 1")
        return self


class HashSplit(Strict):
    """Rows are assigned by a salted hash of their key."""

    by: Literal["hash"]
    salt: Annotated[int, Field(ge=0)] = 0
    shares: Shares = Shares()


class DateSplit(Strict):
    """Rows are assigned by their date (ISO): train ends before `val_from`, and so on.

    `gate_from` = `test_from` leaves the gate part empty, which some published protocols need;
    prepare refuses it.
    """

    by: Literal["dates"]
    val_from: Day
    gate_from: Day
    test_from: Day

    @model_validator(mode="after")
    def in_order(self) -> Self:
        if not self.val_from < self.gate_from <= self.test_from:
            days = ", ".join((self.val_from, self.gate_from, self.test_from))
            raise ValueError(
                f"val, gate and test begin on {days}; expected them in ascending order"
            )
        return self


class PlaceSplit(Strict):
    """Rows keep their order, and each part is a consecutive share of them."""

    by: Literal["place"]
    shares: Shares = Shares()


Split = Annotated[HashSplit | DateSplit | PlaceSplit, Field(discriminator="by")]


def parts_by_hash(keys: Iterable[str], split: HashSplit) -> "np.ndarray":
    """Return the index in PARTS of each key, shape (keys,).

    It depends on the salt and the key alone: a row stays in its part as the data set grows, and a
    larger share of train only moves rows into train.
    """
    import numpy as np  # config.py imports this module, and starts without NumPy

    fractions = [_fraction(f"{split.salt}:{key}") for key in keys]
    shares = split.shares.model_dump()
    bounds = np.cumsum([shares[part] for part in PARTS])
    # The sum of four shares may miss 1 by a rounding error; no key may lie above the last bound.
    return np.searchsorted(bounds / bounds[-1], fractions, side="right")


def parts_with_test(rows: "pd.DataFrame", split: HashSplit) -> "dict[str, pd.DataFrame]":
    """Return the four parts of rows that have `key`, `path` and `test`.

    Test is what the source reserves for testing; the rest is split by a salted hash of the key. If
    the source reserves nothing, the hash makes the test part too. Rows are sorted by key, which
    mixes the classes.
    """
    import numpy as np

    rows = rows.sort_values(["key", "path"], ignore_index=True)
    part_index = parts_by_hash(rows["key"], split)
    part_index = np.where(rows["test"], PARTS.index("test"), part_index)
    parts = {}
    for index, part in enumerate(PARTS):
        parts[part] = rows[part_index == index].reset_index(drop=True)
    return parts


def _fraction(key: str) -> float:
    """A hash of the key as a number in [0, 1), the same on every machine.

    Python's own `hash` changes with each process. 53 bits, as many as a float holds, are never
    rounded up to 1.
    """
    first_bytes = hashlib.sha256(key.encode()).digest()[:8]
    return (int.from_bytes(first_bytes, "big") >> 11) / 2**53
