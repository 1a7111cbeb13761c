"""Six families of neural networks, each trained on a real task by one reproducible pipeline."""

from typing import Any


def load(model: str) -> Any:
    """The champion of a model, as `sextant.load("ann").predict(frame)`: raw rows in, answers out."""
    from .predict import champion

    return champion(model)
