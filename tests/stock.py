"""A synthetic series of stock prices in the upstream format of google_stock.

The tests of the kind `series`, of the family `rnn` and of the task `forecasting` share it.
"""

import functools

import numpy as np
import pandas as pd
from conftest import ROOT, load_yaml

from sextant.kinds.series.columns import Columns
from sextant.kinds.splits import DateSplit

STOCK = load_yaml((ROOT / "conf/dataset/google_stock.yaml").read_text())
WINDOW = 11
COLUMNS = Columns(**STOCK["columns"] | {"window": WINDOW})
ROWS = 97
HORIZON = 3
FURTHER = COLUMNS.model_copy(update={"horizon": HORIZON})  # as a net with this horizon reads them
SPLIT = DateSplit(by="dates", val_from="2014-06-02", gate_from="2014-06-16", test_from="2014-06-30")


def days(rows: int = ROWS, first: str = "2014-03-03", seed: int = 7) -> pd.DataFrame:
    """Weekdays from `first` on, with random prices.

    As in the upstream file, Close is not adjusted for the split: it is doubled before it.
    """
    return _days(rows, first, seed).copy()


@functools.cache
def _days(rows: int, first: str, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 300 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    opens = close * np.exp(rng.normal(0, 0.01, rows))
    dates = pd.bdate_range(first, periods=rows)
    frame = pd.DataFrame(
        {
            "Date": [f"{d.month}/{d.day}/{d.year}" for d in dates],
            "Open": opens.round(2),
            "High": (np.maximum(opens, close) * 1.01).round(2),
            "Low": (np.minimum(opens, close) * 0.99).round(2),
            "Close": close.round(2),
            "Volume": rng.integers(1_000_000, 9_000_000, rows),
        }
    )
    early = dates < COLUMNS.unadjusted.before
    frame["Close"] = frame["Close"].mask(
        early, (frame["Close"] * COLUMNS.unadjusted.factor).round(2)
    )
    return frame
