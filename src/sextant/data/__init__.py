"""One file per kind of data: how rows are read, split and turned into tensors, and how the twin is made."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

PARTS = ("train", "val", "gate", "test")
CONTEXT = "context"  # the column that marks what a part holds as input alone: nobody scores it or counts it


def scored(part: Any) -> Any:
    """A part without its context, where it has some."""
    return part[~part[CONTEXT]] if CONTEXT in part else part


def parts_by_hash(keys: Iterable[str], split: Any) -> np.ndarray:
    """The index in PARTS of each key, by a salted hash of the key alone: it never changes as data grow."""
    at = [_place(f"{split.salt}:{key}") for key in keys]
    bounds = np.cumsum([getattr(split.shares, part) for part in PARTS])
    return np.searchsorted(bounds / bounds[-1], at, side="right")


def _place(key: str) -> float:
    """A key's place in [0, 1), the same on every machine: as many bits as a float holds, so that it is never 1."""
    return (int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 11) / 2**53
