"""todo: rows as tensors."""

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import pandas as pd

from ...errors import DataError
from .columns import Columns

if TYPE_CHECKING:
    from torch import Tensor


class Batch(NamedTuple):
    """todo: features (rows, features) float32, target (rows) float32."""

    features: "Tensor"
    target: "Tensor"


class Encoder:
    """todo: turns rows into a Batch; here with the mean and standard deviation of each feature."""

    def __init__(self, columns: Columns, mean: list[float], std: list[float]):
        self.columns = columns
        self.mean = mean
        self.std = std

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone."""
        features = rows[columns.features].to_numpy(np.float64)
        std = features.std(axis=0)
        std[std == 0] = 1.0  # a constant column is only centred
        return cls(columns, features.mean(axis=0).tolist(), std.tolist())

    def state(self) -> dict[str, list[float]]:
        """All that was learnt, as JSON."""
        return {"mean": self.mean, "std": self.std}

    @classmethod
    def from_state(cls, state: dict[str, list[float]], columns: Columns) -> Self:
        """The inverse of `state`."""
        return cls(columns, **state)

    @property
    def sizes(self) -> dict[str, int]:
        """The arguments before the `*` in a family's constructor, by name."""
        return {"features": len(self.columns.features)}

    def encode(self, rows: pd.DataFrame) -> Batch:
        """Rows to tensors; the target is 0 if there is none."""
        import torch  # takes two seconds, which pull, validate and prepare need not wait for

        features = (rows[self.columns.features].to_numpy(np.float64) - self.mean) / self.std
        target = np.zeros(len(rows))
        if self.columns.target in rows:
            # A copy, because pandas gives a read-only view and torch warns of those.
            target = rows[self.columns.target].to_numpy(np.float64, copy=True)
        return Batch(torch.from_numpy(features).float(), torch.from_numpy(target).float())

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Input rows as `encode` takes them; raises DataError for a row that cannot be answered."""
        missing = [name for name in self.columns.features if name not in frame]
        if missing:
            raise DataError(f"missing column {', '.join(missing)}; name the columns as in training")
        return frame

    def schema(self) -> list[tuple[str, str, bool]]:
        """The input columns: name, MLflow type, whether it is required."""
        return [(name, "double", True) for name in self.columns.features]

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Prepared rows as MLflow's interface takes them."""
        return rows[self.columns.features].astype(np.float64)

    def example(self) -> pd.DataFrame:
        """A synthetic input example of two rows."""
        return pd.DataFrame([self.mean, self.mean], columns=self.columns.features)
