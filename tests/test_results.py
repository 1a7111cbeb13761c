"""The published figures: their intervals by hand and by law, their quarters, what their pages say."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from sextant.intervals import middle
from sextant.tasks.forecasting import metrics as forecasting

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "results").glob("*.py"))
DAYS = 53


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"results_{name}", ROOT / "results" / f"{name}.py"
    )
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RNN, SOM = script("rnn"), script("som")


def answered(errors: dict[str, list[float]]) -> pd.DataFrame:
    """Who answers with which error at each seed, the same one each day or, below 0, of a random size."""
    rng, found = np.random.default_rng(3), []
    for who, sizes in errors.items():
        for seed, size in enumerate(sizes):
            off = np.full(DAYS, size) if size >= 0 else size * rng.normal(size=DAYS)
            day = pd.bdate_range("2015-01-01", periods=DAYS).strftime("%Y-%m-%d")
            known = {
                "truth": 100.0,
                "base": 99.0,
                "value": 100 - off,
                "lower": 99.5,
                "upper": 100.5,
            }
            found.append(pd.DataFrame({"who": who, "seed": seed, "day": day} | known))
    return pd.concat(found, ignore_index=True)


def test_there_are_scripts_each_with_its_page() -> None:
    assert len(SCRIPTS) >= 2
    assert [path.stem for path in SCRIPTS] == [
        path.stem for path in sorted((ROOT / "results").glob("*.md"))
    ]


def test_there_are_five_seeds_and_five_splits() -> None:
    assert len(set(RNN.SEEDS)) >= 5 and len(set(SOM.SALTS)) >= 5


def test_a_bootstrap_of_equal_errors_knows_the_rmse_and_of_random_ones_lies_around_it() -> None:
    drawn = RNN._bootstrapped(answered({"model": [1.0, 3.0], "previous_close": [-2.0]}))
    assert drawn["model"] == pytest.approx(np.full(RNN.DRAWS, 2.0))
    low, high = middle(drawn["previous_close"])
    assert 1 < low < 2 < high < 3


def test_two_who_err_alike_are_drawn_alike() -> None:
    found = answered({"model": [-2.0]})
    both = pd.concat([found, found.assign(who="previous_close")], ignore_index=True)
    drawn = RNN._bootstrapped(both)
    assert np.array_equal(drawn["model"], drawn["previous_close"])


def test_the_table_has_both_intervals_and_the_page_says_what_was_used() -> None:
    found = answered({"model": [1.0, 1.0], "previous_close": [2.0], "ar5": [0.1]})
    table = RNN._table(found)
    assert all(line.count("|") == len(forecasting.METRICS) + 4 for line in table)
    assert (
        "1.000 to 1.000" in table[2]
        and "2.000 to 2.000" in table[3]
        and "0.932 to 1.000" in table[4]
    )
    page = RNN._page(found, found)
    assert "less that of previous_close on the same days: 95 % from -1.000 to -1.000" in page
    assert "Information used: Open, High, Low, Close and Volume" in page
    assert "train (2015), val (first half of 2016) and gate (second half)" in page


def test_what_the_page_says_of_the_overlap_is_what_the_pipelines_split_has() -> None:
    from sextant import config

    split = config.dataset("google_stock").split
    assert (split.val_from, split.gate_from, split.test_from) == (
        "2016-01-01",
        "2016-07-01",
        "2017-01-01",
    )


def test_a_paired_interval_is_students_where_no_row_is_shared_and_wider_where_some_are() -> None:
    apart = [0.06, 0.07, 0.08, 0.07, 0.05]
    low, high = SOM.paired(apart, 0.0)
    half = (
        2.776 * np.std(apart, ddof=1) / 5**0.5
    )  # the 97.5 % quantile of Student's t with 4 degrees
    assert (low, high) == pytest.approx((0.066 - half, 0.066 + half), abs=1e-5)
    wider = SOM.paired(apart, 2 / 7)
    assert wider[0] < low < high < wider[1]


def test_the_pages_are_of_these_scripts() -> None:
    rnn, som = (
        (ROOT / "results" / name).read_text(encoding="utf-8") for name in ("rnn.md", "som.md")
    )
    assert f"seeds {', '.join(map(str, RNN.SEEDS))}." in rnn and "rmse, 95 %" in rnn
    assert "som less knn_distance on the same rows" in som and "95 % from" in som
