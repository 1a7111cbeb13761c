"""A series is told from a table, and its columns and parts are found."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from sextant.errors import UsageError
from sextant.guess import series
from sextant.guess.facts import facts
from sextant.kinds.formats import Format

DAYS = pd.bdate_range("2020-01-01", periods=120)
ISO = DAYS.strftime("%Y-%m-%d")
RNG = np.random.default_rng(3)


def prices(**columns: object) -> pd.DataFrame:
    """Days with prices as a text file has them."""
    close = 100 * np.exp(np.cumsum(RNG.normal(0, 0.01, len(DAYS))))
    rows = pd.DataFrame(
        {
            "Date": ISO,
            "Open": (close * 0.999).round(2),
            "High": (close * 1.01).round(2),
            "Low": (close * 0.99).round(2),
            "Close": close.round(2),
            "Volume": RNG.integers(1000, 9000, len(DAYS)),
            **columns,
        }
    )
    return rows.astype(str)


def guessed(
    rows: pd.DataFrame, chosen: Mapping[str, str] | None = None, files: object = "all.csv"
) -> series.Series:
    names = pd.Series(files, index=rows.index)
    return series.series(facts(rows, Format()), rows["Date"], names, chosen or {})


def is_series(rows: pd.DataFrame, target: str | None = None) -> bool:
    return series.looks_like_series(facts(rows, Format()), target)


def test_prices_by_day_are_a_series_and_cases_with_a_day_are_none() -> None:
    assert is_series(prices()) and is_series(prices(), "Open")
    assert is_series(prices()[["Date", "Close"]])
    cases = prices()[["Date", "Volume"]].rename(columns={"Volume": "amount"})
    cases["repaid"] = RNG.choice(["yes", "no"], len(cases))
    cases["income"] = "1000"
    assert not is_series(cases) and not is_series(cases, "repaid")


def test_the_columns_and_the_parts() -> None:
    found = guessed(prices(Name="XYZ"))
    assert (found.date, found.target, found.base) == ("Date", "Close", "Close")
    assert found.prices == ["Open", "High", "Low", "Close"]
    assert (found.high, found.low, found.volume) == ("High", "Low", "Volume")
    assert found.starts == (ISO[84], ISO[96], ISO[108])
    assert found.window == 12 and found.ignored == {"Name": "no price"}
    assert guessed(prices(), {"target": "Open"}).base == "Close"


def test_a_file_named_test_is_the_test_part() -> None:
    files = ["prices_train.csv"] * 110 + ["prices_test.csv"] * 10
    assert guessed(prices(), files=files).starts == (ISO[86], ISO[98], ISO[110])


def test_a_price_before_a_split_is_found_with_its_factor() -> None:
    rows = prices()
    early = np.arange(len(rows)) < 50
    close = rows["Close"].astype(float)
    rows["Close"] = close.where(~early, (close * 2.002).round(2)).astype(str)
    found = guessed(rows)
    assert found.unadjusted is not None
    column, before, factor = found.unadjusted
    assert (column, before) == ("Close", ISO[50])
    assert factor == pytest.approx(2.0, abs=0.01)


def test_an_adjusted_price_outside_of_its_bounds_is_left_out() -> None:
    rows = prices()
    rows["Settle"] = (rows["Close"].astype(float) * 0.7).round(2).astype(str)
    assert "Settle" not in guessed(rows).prices


def test_days_twice_and_prices_of_zero_get_rules() -> None:
    rows = prices()
    rows.loc[5, ["Open", "High", "Low", "Close"]] = "0"
    found = guessed(pd.concat([rows, rows.tail(1)], ignore_index=True))
    assert (found.repeated, found.zeros) == ("last", "leave_out")
    assert any("stand twice" in doubt for doubt in found.doubts)


def test_several_series_in_one_file_are_told_apart() -> None:
    both = pd.concat([prices(Name="A"), prices(Name="B")], ignore_index=True)
    columns = facts(both, Format())
    day = series.day_column(columns)
    assert day is not None
    symbol = series.symbol_column(columns, day)
    assert symbol is not None and symbol.name == "Name"
    assert is_series(both)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"target": "Close"}, "the series has 20 days; expected at least 60"),
        ({"target": "Clos"}, "TARGET=Clos: no such column; did you mean `Close`"),
        ({"target": "Name"}, "TARGET=Name: a series is forecast from numbers above 0"),
    ],
)
def test_what_cannot_be_forecast_is_refused(chosen: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        guessed(prices(Name="XYZ").head(20), chosen)
