"""Windows of a series as tensors."""

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ...errors import DataError

if TYPE_CHECKING:
    from torch import Tensor
from .columns import Columns
from .rows import known, repair, to_numbers

LIMIT = 8.0  # standard deviations at which a feature is cut, so that one wild day drowns no other
LONG_GAP = 7  # days without a price that no weekend with a holiday explains


# --- from rows to tensors ---------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Windows as tensors: features of each step (days, window - 1, features), the known price that the answer is an
    increment on (days), and the log of the target's next price over it (days), NaN where nobody knows it yet."""

    window: "Tensor"
    base: "Tensor"
    target: "Tensor"


class Encoder:
    """Days to a Batch. The features of a day are its log returns over the base price of the day before, one for each
    price, and the log change of the volume; standardised by what the training days taught, and cut at LIMIT.

    The window of a day holds that day and those before it. What comes after is in its target alone.
    """

    def __init__(
        self,
        columns: Columns,
        features: dict[str, list[float]],
        typical: dict[str, float],
        weekdays: list[int],
    ):
        self.columns, self.features, self.typical, self.weekdays = (
            columns,
            features,
            typical,
            weekdays,
        )

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone."""
        returns = _returns(rows, columns)
        moments = {name: [float(x.mean()), float(x.std()) or 1.0] for name, x in returns.items()}
        weekdays = sorted(
            int(day) for day in pd.to_datetime(rows[columns.date]).dt.day_of_week.unique()
        )
        return cls(
            columns,
            moments,
            {name: float(rows[name].median()) for name in columns.numbers},
            weekdays,
        )

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON."""
        return {"features": self.features, "typical": self.typical, "weekdays": self.weekdays}

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """The inverse of `state`."""
        return cls(columns, state["features"], state["typical"], state["weekdays"])

    @property
    def sizes(self) -> dict[str, Any]:
        """What a family's constructor may ask for before its `*`."""
        return {"features": len(self.features)}

    def encode(self, rows: pd.DataFrame) -> Batch:
        """A window for each day that `known` lists."""
        steps = np.stack(
            [np.clip((x - self.features[name][0]) / self.features[name][1], -LIMIT, LIMIT)
             for name, x in _returns(rows, self.columns).items()], axis=1, dtype=np.float32,
        )  # fmt: skip
        windows = np.lib.stride_tricks.sliding_window_view(steps, self.columns.window - 1, axis=0)
        import torch  # two seconds, which pull, validate and prepare need not wait for

        known = self.known(rows)
        window = torch.from_numpy(windows[: len(known)].transpose(0, 2, 1).copy())
        base, following = (
            torch.tensor(known[name].to_numpy(np.float64)) for name in ("base", "next")
        )
        return Batch(window, base.float(), (following / base).log().float())

    def known(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The days that rows can be asked about, each by the last day `after` which it comes, the `base` price of that
        day, and what the target was `next` and on which `date` (missing where it is yet to come).

        Of a part these are the days that are scored; of a question those after every whole window.
        """
        return known(rows, self.columns)

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Days that are asked with, as `encode` takes them.

        Raises DataError for a missing or surplus column, for fewer days than a window, and for all that `repair`
        refuses. Warns about a gap that no weekend explains, and of weekdays that training did not meet.
        """
        columns = self.columns
        missing = [name for name in columns.upstream if name not in frame]
        surplus = [str(name) for name in frame if name not in columns.upstream]
        if missing or surplus:
            got = "; ".join(
                f"{what} column {', '.join(names)}"
                for what, names in (("missing", missing), ("surplus", surplus))
                if names
            )
            raise DataError(
                f"{got}; expected {', '.join(columns.upstream)}; name the columns as in training"
            )
        if len(frame) < columns.window:
            raise DataError(
                f"{len(frame)} days; expected the {columns.window} most recent days or more, the oldest first"
            )
        rows = repair(frame, columns)
        days = pd.to_datetime(rows[columns.date])
        gaps = days.diff().dt.days
        if (gaps > LONG_GAP).any():
            last = rows[columns.date][gaps > LONG_GAP].iloc[-1]
            said = f"no rows for {gaps.max():.0f} days, up to {last}; the model takes rows for days in a row"
            warnings.warn(said, stacklevel=2)
        strange = rows[columns.date][~days.dt.day_of_week.isin(self.weekdays)]
        if len(strange):
            said = f"{len(strange)} rows of a weekday that training did not meet, such as {strange.iloc[0]}"
            warnings.warn(f"{said}; look at the dates", stacklevel=2)
        return rows

    def schema(self) -> list[tuple[str, str, bool]]:
        """Columns that are asked with: name, MLflow type, whether it must be there."""
        return [
            (self.columns.date, "string", True),
            *((name, "double", True) for name in self.columns.numbers),
        ]

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as MLflow's interface takes them, in the types of `schema`."""
        numbers = {name: to_numbers(rows[name], self.columns) for name in self.columns.numbers}
        return pd.DataFrame(
            {self.columns.date: rows[self.columns.date].astype(str).astype(object), **numbers}
        )

    def example(self) -> pd.DataFrame:
        """Days made of the training medians, which never were: enough for two answers."""
        days = pd.bdate_range("2000-01-03", periods=self.columns.window + 1).strftime("%Y-%m-%d")
        wave = 1 + 0.01 * np.sin(np.arange(len(days)))
        prices = [self.typical[name] for name in self.columns.prices]
        bounds = {self.columns.high: 1.02 * max(prices), self.columns.low: 0.98 * min(prices)}
        rows = pd.DataFrame({self.columns.date: days})
        for name in self.columns.numbers:
            rows[name] = (bounds.get(name, self.typical[name]) * wave).round(2)
        return self.inputs(rows)


def _returns(rows: pd.DataFrame, columns: Columns) -> dict[str, np.ndarray]:
    """(rows - 1) values of each feature: of a price over the base price the day before, of the volume over itself."""
    base = np.log(rows[columns.base].to_numpy(float))
    found = {name: np.log(rows[name].to_numpy(float))[1:] - base[:-1] for name in columns.prices}
    if columns.volume:
        found[columns.volume] = np.diff(np.log1p(rows[columns.volume].to_numpy(float)))
    return found
