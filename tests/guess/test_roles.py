"""The role of each column: key, target, feature, or left aside with a reason."""

import numpy as np
import pandas as pd
import pytest

from sextant.errors import UsageError
from sextant.guess.facts import facts
from sextant.guess.roles import Chosen, Roles, roles
from sextant.kinds.formats import Format

ROWS = 400
RNG = np.random.default_rng(5)
OUTCOME = RNG.random(ROWS) < 0.2


def table(**columns: object) -> pd.DataFrame:
    """A table of text, as a file of text is read."""
    rows = pd.DataFrame(
        {
            "RowNumber": np.arange(1, ROWS + 1),
            "CustomerId": RNG.permutation(ROWS) + 15_000_000,
            "Surname": [f"{chr(97 + i % 26)}{i % 7}son" for i in range(ROWS)],
            "Age": RNG.integers(18, 90, ROWS),
            "Balance": RNG.normal(1000, 200, ROWS).round(2),
            "Products": RNG.integers(1, 5, ROWS),
            "Country": RNG.choice(["France", "Spain"], ROWS),
            "Since": pd.date_range("2020-01-01", periods=ROWS).strftime("%Y-%m-%d"),
            "Zip": [f"0{i % 30:04d}" for i in range(ROWS)],
            "Bank": "ours",
            "Exited": OUTCOME.astype(int),
            **columns,
        }
    )
    return rows.astype(str).where(rows.notna(), None)


def found(rows: pd.DataFrame, **chosen: object) -> Roles:
    return roles(facts(rows, Format()), Chosen(**{"target": "Exited", **chosen}))  # type: ignore[arg-type]


def test_each_column_has_its_role() -> None:
    result = found(table())
    assert (result.key, result.target, result.task) == ("CustomerId", "Exited", "classification")
    assert result.numeric == ["Age", "Balance"]
    assert result.categorical == ["Products", "Country", "Zip"]
    assert set(result.ignored) == {"RowNumber", "Surname", "Since", "Bank"}
    assert result.ignored["RowNumber"] == "counts the rows"
    assert result.ignored["Since"] == "days"
    assert result.ignored["Bank"] == "always ours"
    assert "different texts" in result.ignored["Surname"]


def test_a_target_that_is_guessed_has_no_gaps() -> None:
    votes = pd.DataFrame({"column_1": np.where(OUTCOME, "red", "blue")})
    for number in range(2, 6):
        votes[f"column_{number}"] = RNG.choice(["y", "n"], ROWS)
    assert found(votes, target=None).target == "column_5"
    votes.loc[3, "column_5"] = None
    result = found(votes, target=None)
    assert (result.target, result.task) == ("column_1", "classification")
    named = votes.rename(columns={"column_1": "party"})
    result = found(named, target=None)
    assert (result.target, result.task) == (None, "mapping")


def test_a_map_reads_codes_as_numbers() -> None:
    result = found(table(), task="mapping")
    assert result.task == "mapping" and "Products" in result.numeric


def test_a_target_of_many_numbers_is_an_amount() -> None:
    result = found(table(), target="Balance")
    assert result.task == "regression"
    assert found(table(), target="Country").task == "classification"


def test_without_a_target_one_is_guessed_and_a_doubt() -> None:
    result = found(table(), target=None)
    assert result.target == "Exited" and "TARGET=" in result.doubts[0]
    blind = found(table()[["CustomerId", "Age", "Balance"]], target=None)
    assert blind.task == "mapping" and blind.target is None


@pytest.mark.parametrize(
    "column",
    [
        np.where(OUTCOME, "closed", "open"),
        np.where(OUTCOME, "moved", None),
        np.where(OUTCOME, 0.9, 0.1) + RNG.random(ROWS) / 100,
    ],
    ids=["level", "presence", "number"],
)
def test_a_column_that_tells_the_target_alone_is_left_aside(column: np.ndarray) -> None:
    result = found(table(Reason=column))
    assert result.leaks == ["Reason"]
    assert "tells `Exited` alone" in result.ignored["Reason"]
    assert any("`Reason` tells `Exited` alone" in doubt for doubt in result.doubts)


def test_a_strong_feature_is_no_leak() -> None:
    strong = np.where(RNG.random(ROWS) < 0.05, ~OUTCOME, OUTCOME)
    result = found(table(Strong=strong.astype(int)))
    assert result.leaks == [] and "Strong" in result.categorical


def test_a_copy_of_an_amount_is_a_leak() -> None:
    amounts = RNG.normal(100, 20, ROWS).round(2)
    result = found(table(Net=amounts, Gross=(amounts * 1.19).round(2)), target="Net")
    assert result.leaks == ["Gross"]


def test_what_the_caller_decides_holds() -> None:
    result = found(
        table(), key="RowNumber", ignored=["Age"], numeric=["Products"], categorical=["Surname"]
    )
    assert result.key == "RowNumber" and "Products" in result.numeric
    assert "Surname" in result.categorical and result.ignored["Age"] == "by IGNORED"


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"target": "Exitd"}, "TARGET=Exitd: no such column; did you mean `Exited`"),
        ({"key": "Customer"}, "KEY=Customer: no such column; did you mean `CustomerId`"),
        ({"numeric": ["Country"]}, "NUMERIC=Country: the column has texts, such as"),
    ],
)
def test_a_column_that_cannot_be_chosen_is_refused(chosen: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        found(table(), **chosen)


def test_a_text_that_differs_in_each_row_is_the_key_of_a_small_table() -> None:
    rows = pd.DataFrame(
        {"country": [f"land {i}" for i in range(60)], "gdp": [f"{i}.5" for i in range(60)]}
    )
    assert found(rows, target=None, task="mapping").key == "country"


def test_a_number_far_from_all_others_may_be_a_mark() -> None:
    income = np.where(np.arange(ROWS) % 40 == 0, -999, RNG.integers(100, 900, ROWS))
    result = found(table(Income=income))
    assert "`Income` has -999, perhaps a mark (UNKNOWN=-999)" in result.doubts
    assert not any("perhaps a mark" in doubt for doubt in found(table()).doubts)


# --- countries ----------------------------------------------------------------------------------

LANDS = (
    "Chile", "Peru", "Mali", "Chad", "Togo", "Iran", "Oman", "Laos", "Cuba", "Fiji", "Mu Land",
)  # fmt: skip


def of_lands(name: str, repeats: int = 1, **chosen: object) -> Roles:
    lands = list(LANDS) * repeats
    rows = pd.DataFrame({name: lands, "births": RNG.normal(20, 5, len(lands)).round(2)})
    return roles(facts(rows.astype(str), Format()), Chosen(**{"task": "mapping", **chosen}))  # type: ignore[arg-type]


def test_a_column_of_countries_is_the_place_of_a_map_and_the_key_if_each_has_one_row() -> None:
    for name in ("country", "Country Name", "home_country"):
        result = of_lands(name)
        assert (result.place, result.key, result.numeric) == (name, name, ["births"])
    repeated = of_lands("country", repeats=3)
    assert (repeated.place, repeated.key) == ("country", None)
    assert of_lands("land").place is None


def test_a_column_with_other_texts_and_one_of_a_classifier_are_no_places() -> None:
    rows = pd.DataFrame({"country": [f"club {i}" for i in range(40)], "x": RNG.random(40)})
    assert roles(facts(rows.astype(str), Format()), Chosen(task="mapping")).place is None
    assert found(table()).place is None
