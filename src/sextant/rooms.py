"""The open ends of the house: a kind, a family, a task is a module in its room, found by its name."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .errors import UsageError

T = TypeVar("T")

SINGULAR = {
    "data": "kind",
    "models": "family",
    "tasks": "task",
    "baselines": "task",
    "figures": "task",
}


def options(room: str) -> list[str]:
    """The names of the modules in a room: `data`, `models`, `tasks`, `baselines`, `figures`."""
    return sorted(
        path.stem
        for path in (Path(__file__).parent / room).glob("*.py")
        if not path.stem.startswith("_")
    )


def module(room: str, name: str) -> Any:
    """The module `name` of a room; raises UsageError with what there is."""
    if name not in options(room):
        raise UsageError(
            f"unknown {SINGULAR[room]} `{name}`; src/sextant/{room}/ has: {', '.join(options(room))}"
        )
    return importlib.import_module(f".{room}.{name}", __package__)


def call(function: Callable[..., T], *args: Any, **offered: Any) -> T:
    """Call a room's function with those of `offered` that its signature names: it asks for no more than it needs."""
    asked = inspect.signature(function).parameters
    return function(*args, **{name: value for name, value in offered.items() if name in asked})


def family(name: str) -> Any:
    """The one class of a family: `ANN` in models/ann.py."""
    found = module("models", name)
    for attribute, value in vars(found).items():
        if attribute.lower() == name.replace("_", "") and isinstance(value, type):
            return value
    raise UsageError(
        f"src/sextant/models/{name}.py has no class named `{name.replace('_', '').upper()}`; add it"
    )
