"""Gradient-boosted trees of scikit-learn, the baseline that readers of a table ask for first.

They are fitted on train. Val chooses their size, as it chooses the epoch of a net: the number of
leaves, and the number of trees.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from torch import Tensor

LEAVES = (8, 31)  # of a tree; 31 is scikit-learn's default, 8 does better on small tables
TREES = 20  # grown between two looks at val
PATIENCE = 3  # looks without a gain after which no more trees are grown
MAX_TREES = 600
MAX_LEVELS = 254  # of a category; scikit-learn sorts a column into 255 bins, one for unseen levels

# (leaves, trees) -> an unfitted HistGradientBoosting model of scikit-learn.
Build: TypeAlias = Callable[[int, int], Any]
Loss: TypeAlias = Callable[[Any], float]  # of a fitted model on val


class Coded(Protocol):
    """What the trees read of a batch."""

    @property
    def numeric(self) -> "Tensor":
        """(rows, numeric columns)."""

    @property
    def categories(self) -> "Tensor":
        """The codes of levels, (rows, categorical columns)."""


class Encoder(Protocol):
    """What the trees read of an encoder."""

    def encode(self, rows: pd.DataFrame) -> Coded: ...

    @property
    def sizes(self) -> dict[str, Any]:
        """`numeric`, the number of numeric columns; `cardinalities`, the levels per category."""


def features(encoder: Encoder, rows: pd.DataFrame) -> np.ndarray:
    """Return the rows as numbers and codes, (rows, columns) in float64."""
    batch = encoder.encode(rows)
    return np.hstack([batch.numeric.double().numpy(), batch.categories.double().numpy()])


def is_categorical(encoder: Encoder) -> list[bool]:
    """Whether each column of `features` is a category; one of very many levels is not."""
    levels: Sequence[int] = encoder.sizes["cardinalities"]
    return [False] * int(encoder.sizes["numeric"]) + [count <= MAX_LEVELS for count in levels]


def grown(build: Build, x: np.ndarray, y: np.ndarray, val_loss: Loss) -> Any:
    """Return the model, fitted on x and y, whose leaves and trees have the lowest loss on val."""
    best = (np.inf, 0, 0)
    for leaves in LEAVES:
        model = build(leaves, TREES).set_params(warm_start=True)
        best_look = 0
        lowest = np.inf
        for look in range(1, MAX_TREES // TREES + 1):
            model.set_params(max_iter=look * TREES).fit(x, y)
            loss = val_loss(model)
            if loss < lowest:
                best_look, lowest = look, loss
            elif look - best_look >= PATIENCE:
                break
        best = min(best, (lowest, leaves, best_look * TREES))
    _, leaves, trees = best
    return build(leaves, trees).fit(x, y)
