"""What a model is shown beside: one module per task, read by evaluate and register and never by train."""

from collections.abc import Callable
from typing import Any

from .. import rooms


def of(task: str) -> dict[str, Callable[..., Any]]:
    """The baselines of a task by name, the trivial one first; raises UsageError for a task that has none."""
    found: dict[str, Callable[..., Any]] = rooms.module("baselines", task).BASELINES
    return found
