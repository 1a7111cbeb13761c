"""The published figures of results/: their intervals, their quarters, and the text of their
pages.
"""

import functools
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from sextant import config, published
from sextant.intervals import middle
from sextant.tasks.forecasting import metrics as forecasting

RESULTS = ROOT / "results"
SCRIPTS = sorted(RESULTS.glob("*.py"))
DAYS = 53


@functools.cache
def imported(name: str) -> ModuleType:
    """A script of results/ as a module; it imports Lightning, which takes seconds."""
    spec = importlib.util.spec_from_file_location(f"results_{name}", RESULTS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def forecasts(errors_by_method: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Forecasts by method, with one error per seed: the same error every day.

    A negative number stands for random errors of that standard deviation.
    """
    rng = np.random.default_rng(3)
    day = pd.bdate_range("2015-01-01", periods=DAYS).strftime("%Y-%m-%d")
    tables = []
    for method, errors in errors_by_method.items():
        for seed, error in enumerate(errors):
            daily = np.full(DAYS, error) if error >= 0 else error * rng.normal(size=DAYS)
            table = {
                "method": method,
                "seed": seed,
                "day": day,
                "truth": 100.0,
                "base": 99.0,
                "value": 100 - daily,
                "lower": 99.5,
                "upper": 100.5,
            }
            tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def test_each_script_has_a_page() -> None:
    assert len(SCRIPTS) >= 2
    pages = sorted(RESULTS.glob("*.md"))
    assert [path.stem for path in SCRIPTS] == [path.stem for path in pages]


def test_there_are_five_seeds_and_five_splits() -> None:
    assert len(set(imported("rnn").SEEDS)) >= 5
    assert len(set(imported("week").SEEDS)) >= 3
    assert len(set(imported("som").SALTS)) >= 5
    assert len(set(imported("votes").SALTS)) >= 5


# --- rnn ----------------------------------------------------------------------------------------


def test_a_bootstrap_of_constant_errors_gives_their_mean_over_seeds() -> None:
    rmse = imported("rnn")._bootstrapped(forecasts({"model": [1.0, 3.0]}))
    assert rmse["model"] == pytest.approx(np.full(imported("rnn").DRAWS, 2.0))


def test_a_bootstrap_of_random_errors_lies_around_their_deviation() -> None:
    rmse = imported("rnn")._bootstrapped(forecasts({"previous_close": [-2.0]}))
    low, high = middle(rmse["previous_close"])
    assert 1 < low < 2 < high < 3


def test_all_methods_have_the_same_resamples() -> None:
    model = forecasts({"model": [-2.0]})
    both = pd.concat([model, model.assign(method="previous_close")], ignore_index=True)
    rmse = imported("rnn")._bootstrapped(both)
    assert np.array_equal(rmse["model"], rmse["previous_close"])


ANSWERS = forecasts({"model": [1.0, 1.0], "previous_close": [2.0], "ar5": [0.1]})


def test_the_table_has_an_interval_of_rmse_and_of_coverage() -> None:
    table = imported("rnn")._table(ANSWERS)
    assert all(line.count("|") == len(forecasting.METRICS) + 4 for line in table)
    model, baseline, ar5 = table[2:]
    assert "1.000 to 1.000" in model
    assert "2.000 to 2.000" in baseline
    assert "0.932 to 1.000" in ar5


def test_the_model_has_a_deviation_over_seeds_and_a_baseline_has_none() -> None:
    model, baseline, _ = imported("rnn")._table(ANSWERS)[2:]
    assert "1.000 ± 0.000" in model
    assert "±" not in baseline


def test_the_page_compares_the_model_and_says_which_information_it_used() -> None:
    page = " ".join(imported("rnn")._page(ANSWERS, ANSWERS).split())
    assert "minus that of previous_close on the same days: 95 % from -1.000 to -1.000" in page
    assert f"seed 1: p = 1.00, {DAYS} of {DAYS} days" in page
    assert "Information used: Open, High, Low, Close and Volume" in page
    assert "train (2015), val (first half of 2016) and gate (second half)" in page


def test_each_quarter_is_the_test_part_of_a_split_after_half_a_year_of_val() -> None:
    conf = config.dataset("google_stock")
    days = pd.bdate_range("2012-01-03", "2017-01-31").strftime("%Y-%m-%d")
    rows = pd.DataFrame({conf.columns.date: days})
    quarters = list(published.periods(rows, conf, imported("rnn").QUARTERS))
    assert len(quarters) == 8
    rows, split = quarters[0]
    assert (split.val_from, split.gate_from, split.test_from) == (
        "2014-07-01",
        "2015-01-01",
        "2015-01-01",
    )
    assert rows[conf.columns.date].iloc[-1] == "2015-03-31"


def test_the_split_of_the_pipeline_is_as_the_page_says() -> None:
    split = config.dataset("google_stock").split
    assert split.val_from == "2016-01-01"
    assert split.gate_from == "2016-07-01"
    assert split.test_from == "2017-01-01"


# --- week ---------------------------------------------------------------------------------------


def test_the_table_of_the_week_has_a_line_for_each_day_ahead_and_their_mean() -> None:
    tables = []
    for ahead, error in enumerate((1.0, 3.0), start=1):
        errors = {"model": [error, error], "previous_close": [2.0], "ar5": [4.0]}
        tables.append(forecasts(errors).assign(ahead=ahead))
    answers = pd.concat(tables, ignore_index=True)
    lines = imported("week")._table(answers)[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [line[:3] for line in cells] == [
        ["1", f"{DAYS}", "1.000 ± 0.000"],
        ["2", f"{DAYS}", "3.000 ± 0.000"],
        ["mean", "", "2.000 ± 0.000"],
    ]
    assert cells[2][3] == "-1.000 ± 0.000"  # the base is off by 1
    assert [line[6] for line in cells] == ["2.000"] * 3
    page = " ".join(imported("week")._page(answers, answers).split())
    assert "median p over seeds, 1 to 2 days ahead: 1.00, 1.00." in page


# --- som ----------------------------------------------------------------------------------------


def test_a_paired_interval_is_students_without_shared_rows_and_wider_with_them() -> None:
    differences = [0.06, 0.07, 0.08, 0.07, 0.05]
    low, high = published.paired(differences, 0.0)
    # 2.776 is the 97.5 % quantile of Student's t with 4 degrees of freedom.
    half = 2.776 * np.std(differences, ddof=1) / 5**0.5
    assert (low, high) == pytest.approx((0.066 - half, 0.066 + half), abs=1e-5)
    wider_low, wider_high = published.paired(differences, 2 / 7)
    assert wider_low < low < high < wider_high


def test_a_cell_has_a_mean_with_its_deviation_a_value_or_a_dash() -> None:
    runs = [{"a": 1.0, "b": 2.0}, {"a": 2.0}]
    assert published.cells(runs, ["a", "b", "c"]) == ["1.5000 ± 0.7071", "2.0000", "–"]
    assert published.cells(runs, ["a"], digits=2) == ["1.50 ± 0.71"]


# --- power --------------------------------------------------------------------------------------


def test_each_half_of_a_sheet_is_fitted_once_and_answered_once() -> None:
    rows = pd.DataFrame({"hour": range(211)})
    first, second = imported("power").halves(rows)
    for parts in (first, second):
        together = pd.concat(parts.values())["hour"]
        assert sorted(together) == list(range(211))
        assert len(parts["val"]) == -(-(211 - len(parts["test"])) // 10)
    answered = [*first["test"]["hour"], *second["test"]["hour"]]
    assert sorted(answered) == list(range(211))


# --- the pages ----------------------------------------------------------------------------------


def test_the_committed_pages_are_written_by_these_scripts() -> None:
    rnn = _flat(RESULTS / "rnn.md")
    assert f"seeds {', '.join(map(str, imported('rnn').SEEDS))}." in rnn
    assert "rmse, 95 %" in rnn
    assert "RMSE of the model minus that of previous_close" in rnn
    week = _flat(RESULTS / "week.md")
    assert f"seeds {', '.join(map(str, imported('week').SEEDS))}." in week
    assert "median p over seeds, 1 to 5 days ahead" in week
    som = _flat(RESULTS / "som.md")
    assert " ".join(str(imported("som").__doc__).split("\n\n", 1)[1].split()) in som
    assert "som minus knn_distance on the same rows" in som
    assert "95 % from" in som
    power = _flat(RESULTS / "power.md")
    assert " ".join(str(imported("power").__doc__).split("\n\n", 1)[1].split()) in power
    assert "power minus gradient_boosting on the same rows" in power
    for name in ("hybrid", "sampling", "scenarios", "suspects", "votes"):
        about = str(imported(name).__doc__).split("\n\n", 1)[1]
        assert " ".join(about.split()) in _flat(RESULTS / f"{name}.md"), name


def _flat(path: Path) -> str:
    """A page without its line breaks."""
    return " ".join(path.read_text(encoding="utf-8").split())


# --- plant --------------------------------------------------------------------------------------


def test_states_are_held_out_with_all_of_their_rows() -> None:
    rows = pd.DataFrame({"x": range(900)})
    states = np.arange(900) % 30
    held_out = []
    for seed in imported("plant").SEEDS:
        parts = imported("plant").by_states(rows, states, seed)
        assert sum(len(part) for part in parts.values()) == 900
        test = set(parts["test"]["x"] % 30)
        assert len(test) == 6 and len(parts["test"]) == 180
        assert not test & set(pd.concat([parts["train"], parts["val"]])["x"] % 30)
        assert 30 < len(parts["val"]) < 120
        held_out.append(frozenset(test))
    assert len(set(held_out)) == len(held_out) >= 5


# --- votes --------------------------------------------------------------------------------------


def test_the_purity_of_a_vote_is_that_of_its_levels_and_a_missing_vote_is_one() -> None:
    purity_by = imported("votes").purity_by
    train = pd.DataFrame({"v": ["y", "y", "n", None, None], "party": ["a", "a", "b", "b", "a"]})
    train = pd.concat([train, pd.DataFrame({"v": [None], "party": ["b"]})])
    test = pd.DataFrame({"v": ["y", "n", None, "n"], "party": ["a", "b", "b", "a"]})
    assert purity_by("v", train, test, "party") == 0.75
    assert purity_by(None, train.head(2), test, "party") == 0.5


# --- hybrid -------------------------------------------------------------------------------------


def test_folds_have_the_same_share_of_each_label_and_depend_on_the_seed() -> None:
    target = pd.Series(["no"] * 70 + ["yes"] * 30)
    folds = imported("hybrid").folds_of(target, 10, seed=3)
    for fold in range(10):
        assert target[folds == fold].value_counts().to_dict() == {"no": 7, "yes": 3}
    assert (folds == imported("hybrid").folds_of(target, 10, seed=3)).all()
    assert (folds != imported("hybrid").folds_of(target, 10, seed=4)).any()


def test_a_page_of_hybrid_has_deviations_over_seeds_and_what_was_chosen() -> None:
    truth = pd.Series(["no", "yes"] * 10)
    right = pd.DataFrame({"prediction": truth, "probability": [0.1, 0.9] * 10, "positive": "yes"})
    wrong = right.assign(prediction=truth.where(truth.index > 3, "no"))
    answers = {("hybrid", 0): right, ("hybrid", 1): wrong, ("majority", 0): right}
    page = imported("hybrid").page(answers, truth, ["small", "large", "small"])
    assert "| hybrid | 0.9500 ± 0.0707 | 1.0000 ± 0.0000 |" in page
    assert "| majority | 1.0000 | 1.0000 |" in page
    text = " ".join(page.split())
    assert (
        "standard error of 0.0487. Chosen of the map, by outer folds: small in 2, large in 1"
        in text
    )


def test_a_page_of_suspects_has_a_row_for_each_method_and_the_gains() -> None:
    methods = [*imported("suspects").VARIANTS, "som", "isolation_forest", "knn_distance"]
    splits = []
    for shift in (0.0, 0.1, 0.2):
        scores = {name: {"outlier_auroc": 0.5 + shift} for name in methods}
        scores["suspects"] = {"outlier_auroc": 0.7 + shift}
        splits.append(scores)
    page = imported("suspects").page(splits)
    assert "| suspects | 0.8000 ± 0.1000 | – | – | – |" in page
    assert "| som | 0.6000 ± 0.1000 | – | – | – |" in page
    assert "som +0.2000 (+0.2000 to +0.2000)" in " ".join(page.split())


# --- writer -------------------------------------------------------------------------------------


def test_a_recall_counts_by_the_lines_in_between_and_a_cut_scene_counts_nowhere() -> None:
    text = "Exit A.\n\nEnter B.\nExit B.\n\nEnter A.\nHe sings.\nExit A.\n\nEnter A.\nExit A.\n"
    rows = pd.DataFrame({"text": [text[:20], text[20:]]})
    nats = np.zeros(len(text))
    letters = [match.start() + 5 for match in re.finditer("Exit ", text)]
    nats[letters] = [9.0, 1.0, 3.0, 2.0]
    answers = pd.DataFrame({"nats": [nats[:20], nats[20:]]})
    assert imported("writer").recall(answers, rows) == {0: 1.5, 1: 3.0}


def test_a_page_of_writer_has_a_column_for_each_cell() -> None:
    runs = {"lstm": [{0: 0.1, 1: 0.2}, {0: 0.3, 1: 0.2}], "kneser_ney": [{0: 1.4, 1: 1.3}]}
    page = imported("writer").page(runs, {"lstm": [{1: 3.0}, {1: 3.0}]}, {"lstm": [0.01, 0.003]})
    assert "| lines between | lstm | kneser_ney |" in page
    assert "| 0 | 0.200 ± 0.141 | 1.400 |" in page
    assert "| 1 | 3.000 ± 0.000 |" in page
    assert "0.003, 0.01, 0.03: `lstm` 0.01 and 0.003." in page.replace("\n", " ")
