"""One file per kind of data: how rows are read, split and turned into tensors, and how the twin is made."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import rooms

PARTS = ("train", "val", "gate", "test")


def kind(name: str) -> Any:
    """The module of a kind; raises UsageError with what there is."""
    return rooms.module("data", name)


def parts_by_hash(keys: Iterable[str], split: Any) -> np.ndarray:
    """The index in PARTS of each key, by a salted hash of the key alone: it never changes as data grow."""
    at = [int.from_bytes(hashlib.sha256(f"{split.salt}:{key}".encode()).digest()[:8], "big") / 2**64 for key in keys]
    bounds = np.cumsum([getattr(split.shares, part) for part in PARTS])
    return np.searchsorted(bounds / bounds[-1], at, side="right")
