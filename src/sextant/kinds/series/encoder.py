"""Series as tensors: windows of standardised log returns."""

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ...errors import DataError
from ..remarks import Remarks
from ..tables import without_surplus
from .columns import Columns
from .rows import arranged, forecast_days, repair, to_numbers

if TYPE_CHECKING:
    from torch import Tensor

# Features are clipped at so many standard deviations. Returns have heavy tails, and one extreme day
# would dominate every window that contains it.
LIMIT = 8.0
LONG_GAP = 7  # days without a row; weekends and holidays explain shorter gaps


class Batch(NamedTuple):
    """Windows as tensors, one per forecast.

    window: (days, window - 1, features) float32, standardised features of each step, oldest step
    first.
    base: (days,) float32, the base price that the forecast is a log return over.
    target: (days,) float32, log(next target price / base); NaN if the next day is not in the
    rows. With a `horizon` above 1, (days, horizon): of each of the following days.
    """

    window: "Tensor"
    base: "Tensor"
    target: "Tensor"


class Encoder:
    """Turns days into a Batch.

    The features of a day are the log return of each price over the base price of the previous
    day, and the log change of the volume. They are standardised by the mean and standard
    deviation in the training part, and clipped at LIMIT. The window of a forecast ends with the
    last day before the forecast; later days are only in its target.
    """

    def __init__(
        self,
        columns: Columns,
        features: dict[str, list[float]],
        typical: dict[str, float],
        weekdays: list[int],
    ):
        self.columns = columns
        self.features = features  # mean and standard deviation by feature
        self.typical = typical  # the median of each numeric column
        self.weekdays = weekdays  # Monday is 0

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone."""
        features = {}
        for name, returns in _returns(rows, columns).items():
            # `or 1.0`: a feature that never changes has no deviation to divide by.
            features[name] = [float(returns.mean()), float(returns.std()) or 1.0]
        typical = {name: float(rows[name].median()) for name in columns.numbers}
        weekdays = pd.to_datetime(rows[columns.date]).dt.day_of_week.unique()
        return cls(columns, features, typical, sorted(map(int, weekdays)))

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON."""
        return {"features": self.features, "typical": self.typical, "weekdays": self.weekdays}

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """The inverse of `state`."""
        return cls(columns, state["features"], state["typical"], state["weekdays"])

    @property
    def sizes(self) -> dict[str, int]:
        """What a family's constructor may name before its `*`."""
        return {"features": len(self.features)}

    def encode(self, rows: pd.DataFrame) -> Batch:
        """One window for each row of `forecast_days`."""
        import torch  # takes two seconds, which pull, validate and prepare do not need

        standardised = []
        for name, returns in _returns(rows, self.columns).items():
            mean, std = self.features[name]
            standardised.append(np.clip((returns - mean) / std, -LIMIT, LIMIT))
        steps = np.stack(standardised, axis=1, dtype=np.float32)  # (rows - 1, features)
        length = self.columns.window - 1
        windows = np.lib.stride_tricks.sliding_window_view(steps, length, axis=0)

        forecasts = self.forecast_days(rows)
        # From (days, features, steps) to (days, steps, features). A copy, because the windows
        # overlap in memory.
        window = torch.from_numpy(windows[: len(forecasts)].transpose(0, 2, 1).copy())
        base = torch.tensor(forecasts["base"].to_numpy(np.float64))
        targets = []
        for ahead in range(1, self.columns.horizon + 1):
            following = torch.tensor(self.forecast_days(rows, ahead)["next"].to_numpy(np.float64))
            targets.append((following / base).log().float())
        target = targets[0] if len(targets) == 1 else torch.stack(targets, dim=1)
        return Batch(window, base.float(), target)

    def forecast_days(self, rows: pd.DataFrame, ahead: int = 1) -> pd.DataFrame:
        """One row per forecast, as `rows.forecast_days` gives them."""
        return forecast_days(rows, self.columns, ahead)

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Input rows as `encode` takes them.

        The rows are arranged as those of training: without those that the conf leaves out, and
        the oldest day first. Raises DataError for a missing column, for fewer days than a window,
        and for all that `repair` refuses. Warns of rows that are left out.
        """
        columns = self.columns
        accepted = [*columns.upstream, *columns.only]
        frame = without_surplus(frame, columns.upstream, accepted)
        rows, left_out = arranged(frame, columns)
        for reason, count in left_out.items():
            warnings.warn(f"left out {count:,} {reason}", stacklevel=2)
        if len(rows) < columns.window:
            raise DataError(
                f"{len(rows)} days; expected the {columns.window} most recent days or more"
            )
        return repair(rows[columns.upstream], columns).reset_index(drop=True)

    def remarks(self, rows: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
        """What is unusual in the window of each answer; the latest case of each.

        That are a weekday that the training part lacks, a long gap between two days, and a change
        that is clipped at LIMIT standard deviations.
        """
        days = rows[self.columns.date].to_numpy()
        # The last row of each answer's window, and the first.
        last = pd.Index(days).get_indexer(pd.Index(answers["after"]))
        first = last - self.columns.window + 1
        remarks = Remarks(len(answers))
        dates = pd.to_datetime(rows[self.columns.date])
        weekday = _latest(~dates.dt.day_of_week.isin(self.weekdays).to_numpy())[last]
        for answer in np.flatnonzero(weekday >= first):
            day = days[weekday[answer]]
            remarks.add(answer, f"{day} is on a weekday that the training rows lack")
        gaps = dates.diff().dt.days.to_numpy()
        # A gap, as a change, is between two days, and both have to be in the window.
        gap = _latest(gaps > LONG_GAP)[last]
        for answer in np.flatnonzero(gap > first):
            row = gap[answer]
            text = f"no rows for {gaps[row]:.0f} days, up to {days[row]}"
            remarks.add(answer, f"{text}: consecutive rows are taken for consecutive trading days")
        clipped = self._clipped(rows)
        change = _latest(clipped.any(axis=1).to_numpy())[last]
        for answer in np.flatnonzero(change > first):
            row = change[answer]
            names = ", ".join(f"`{name}`" for name in clipped if clipped[name].iloc[row])
            text = f"the change of {names} on {days[row]} is clipped"
            remarks.add(answer, f"{text}: it is over {LIMIT:g} standard deviations of training")
        return remarks.texts()

    def _clipped(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Whether each feature (columns) of each row is clipped; the first row has none."""
        clipped = {}
        for name, returns in _returns(rows, self.columns).items():
            mean, std = self.features[name]
            is_clipped = np.abs((returns - mean) / std) > LIMIT
            clipped[name] = np.concatenate([[False], is_clipped])
        return pd.DataFrame(clipped)

    def schema(self) -> list[tuple[str, str, bool]]:
        """The input columns: name, MLflow type, whether it is required."""
        numbers = [(name, "double", True) for name in self.columns.numbers]
        return [(self.columns.date, "string", True), *numbers]

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as MLflow's interface takes them, in the types of `schema`."""
        days = rows[self.columns.date].astype(str).astype(object)
        numbers = {name: to_numbers(rows[name], self.columns) for name in self.columns.numbers}
        return pd.DataFrame({self.columns.date: days, **numbers})

    def example(self) -> pd.DataFrame:
        """A synthetic input example for two forecasts, made of the medians in the training part.

        A slow wave keeps the returns from being constant; High and Low are widened so that they
        bound the other prices.
        """
        columns = self.columns
        days = pd.bdate_range("2000-01-03", periods=columns.window + 1).strftime("%Y-%m-%d")
        wave = 1 + 0.01 * np.sin(np.arange(len(days)))
        prices = [self.typical[name] for name in columns.prices]
        bounds = {columns.high: 1.02 * max(prices), columns.low: 0.98 * min(prices)}
        rows = pd.DataFrame({columns.date: days})
        for name in columns.numbers:
            rows[name] = (bounds.get(name, self.typical[name]) * wave).round(2)
        return self.inputs(rows)


def _latest(is_event: np.ndarray) -> np.ndarray:
    """For each row the latest row up to it that is an event, -1 if there is none; (rows,) each."""
    rows = np.where(is_event, np.arange(len(is_event)), -1)
    return np.maximum.accumulate(rows)


def _returns(rows: pd.DataFrame, columns: Columns) -> dict[str, np.ndarray]:
    """The features before standardisation, each an array of (rows - 1,).

    A price gives its log return over the base price of the previous day, the volume its own log
    change.
    """
    base = np.log(rows[columns.base].to_numpy(float))
    returns = {}
    for name in columns.prices:
        returns[name] = np.log(rows[name].to_numpy(float))[1:] - base[:-1]
    if columns.volume:
        # log1p, because a day without trades has volume 0.
        returns[columns.volume] = np.diff(np.log1p(rows[columns.volume].to_numpy(float)))
    return returns
