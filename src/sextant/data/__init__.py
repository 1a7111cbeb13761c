"""One file per kind of data: how rows are read, split and turned into tensors, and how the twin is made."""

from typing import Any

from .. import rooms


def kind(name: str) -> Any:
    """The module of a kind; raises UsageError with what there is."""
    return rooms.module("data", name)
