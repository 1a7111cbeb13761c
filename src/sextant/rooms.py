"""The open ends of the house: a kind, a family, a task is a module in its room, found by its name."""

import importlib
from pathlib import Path
from typing import Any

from .errors import UsageError

SINGULAR = {"data": "kind", "models": "family", "tasks": "task", "baselines": "task", "figures": "task"}


def options(room: str) -> list[str]:
    """The names of the modules in a room: `data`, `models`, `tasks`, `baselines`, `figures`."""
    return sorted(path.stem for path in (Path(__file__).parent / room).glob("*.py") if not path.stem.startswith("_"))


def module(room: str, name: str) -> Any:
    """The module `name` of a room; raises UsageError with what there is."""
    if name not in options(room):
        raise UsageError(f"unknown {SINGULAR[room]} `{name}`; src/sextant/{room}/ has: {', '.join(options(room))}")
    return importlib.import_module(f".{room}.{name}", __package__)


def family(name: str) -> Any:
    """The one class of a family: `ANN` in models/ann.py."""
    found = module("models", name)
    for attribute, value in vars(found).items():
        if attribute.lower() == name.replace("_", "") and isinstance(value, type):
            return value
    raise UsageError(f"src/sextant/models/{name}.py has no class named `{name.replace('_', '').upper()}`; add it")
