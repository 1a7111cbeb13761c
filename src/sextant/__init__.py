"""Six families of neural networks, each trained on a real task by one reproducible pipeline."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .saved_model import SavedModel


def load(model: str) -> "SavedModel":
    """Load the champion of a model: `sextant.load("ann").predict(frame)` answers raw rows.

    Raises SextantError if the model has no champion.
    """
    from .commands.predict import champion

    return champion(model)
