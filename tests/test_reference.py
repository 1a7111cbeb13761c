"""Drift: the comparison of two summaries, and the summaries of each kind."""

import json
from typing import Any

import cases
import listed
import numpy as np
import pandas as pd
import pytest
import twins
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sextant import config, drift, plugins, prepare, reference

USUAL = config.Drift()


def finding(old: Any, new: Any, **thresholds: Any) -> drift.Finding:
    """The comparison of two series of one quantity."""
    summaries = [reference.summary({"x": pd.Series(values)}) for values in (old, new)]
    (only,) = drift.compare(*summaries, config.Drift(**thresholds)).findings
    return only


# --- the statistics -----------------------------------------------------------------------------

few_numbers = st.lists(st.integers(0, 9).map(float), min_size=2, max_size=60)


@given(few_numbers, few_numbers)
def test_few_different_numbers_are_compared_exactly(old: list[float], new: list[float]) -> None:
    compared = finding(old, new)
    assert compared.test == "KS"
    expected = stats.ks_2samp(old, new, method="asymp")
    assert compared.statistic == pytest.approx(expected.statistic, abs=1e-9)
    assert compared.rows == (len(old), len(new))
    assert finding(old, old).psi == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0, 30.0])
def test_many_numbers_are_compared_to_a_hundredth(shift: float) -> None:
    rng = np.random.default_rng(1)
    old = rng.normal(size=3000)
    old[:900] = 0.0  # a value of many rows
    new = np.where(rng.random(2000) < 0.3, shift, rng.normal(shift, 1, 2000))
    compared = finding(old, new)
    expected = stats.ks_2samp(old, new, method="asymp")
    assert compared.statistic == pytest.approx(expected.statistic, abs=1 / reference.POINTS)
    p = stats.kstwobign.sf((3000 * 2000 / 5000) ** 0.5 * compared.statistic)
    assert compared.p == pytest.approx(p)
    assert len(json.dumps(reference.numbers(pd.Series(old)))) < 5000


@given(st.lists(st.integers(6, 200), min_size=2, max_size=5), st.data())
def test_categories_are_compared_by_chi_square(old: list[int], data: st.DataObject) -> None:
    sizes = st.lists(st.integers(6, 200), min_size=len(old), max_size=len(old))
    new = data.draw(sizes)
    by_level = [dict(zip("abcde", counts, strict=False)) for counts in (old, new)]
    series = []
    for counts in by_level:
        series.append([level for level, count in counts.items() for _ in range(count)])
    compared = finding(*series)
    expected = stats.chi2_contingency([old, new], correction=False)
    if expected.expected_freq.min() >= drift.SMALLEST_EXPECTED:
        assert compared.statistic == pytest.approx(expected.statistic, abs=1e-9)
        assert compared.p == pytest.approx(expected.pvalue, abs=1e-12)
    shares = np.array([np.array(counts) / sum(counts) for counts in (old, new)])
    psi = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
    assert compared.psi == pytest.approx(psi)


def test_the_index_of_numbers_is_that_of_the_deciles() -> None:
    old = np.arange(1000.0)
    new = np.concatenate([np.arange(500.0), np.arange(500.0)])
    expected = 5 * (0.2 - 0.1) * np.log(2) + 5 * (0.0005 - 0.1) * np.log(0.0005 / 0.1)
    assert finding(old, new).psi == pytest.approx(expected, rel=0.05)


def test_missing_values_are_a_bin_and_a_share() -> None:
    old = [1.0, 2.0] * 200
    new = [1.0, 2.0] * 100 + [None] * 200
    for values in ((old, new), ([str(x) for x in old], [x and str(x) for x in new])):
        compared = finding(*values)
        assert compared.missing == (0.0, 0.5)
        assert compared.severity == "critical"
    nothing = finding(old, [None] * 50 + [float("nan")])
    assert nothing.severity == "critical" and nothing.statistic == 0


def test_new_and_lost_categories_are_named() -> None:
    compared = finding(["a", "b"] * 50, ["b", "c"] * 50)
    assert (compared.new, compared.lost) == (["c"], ["a"])
    assert compared.sentence().startswith("`x` (PSI ")
    assert compared.sentence().endswith("new: c, lost: a)")
    many = [f"level {number}" for number in range(2 * reference.LEVELS)]
    assert finding(many, ["level 0"]).new == []  # the reference does not list all of its levels


@cases.each(
    "psi, p, severity",
    [
        (0.05, 0.0, "none"),
        (0.1, 0.0, "warning"),
        (0.25, 0.0, "critical"),
        (9.0, 0.002, "none"),  # by chance
        (9.0, float("nan"), "none"),
    ],
)
def test_a_drift_is_large_and_not_by_chance(psi: float, p: float, severity: str) -> None:
    assert drift._severity(psi, p, USUAL) == severity


def test_thresholds_are_those_of_conf() -> None:
    old, new = [0.0, 1.0] * 100, [0.0, 1.0, 1.0, 1.0] * 100
    assert finding(old, new).severity == "critical"
    assert finding(old, new, critical=None).severity == "warning"
    assert finding(old, new, critical=5.0, warning=None).severity == "none"
    summaries = [reference.summary({"x": pd.Series(values)}) for values in (old, new)]
    assert drift.compare(*summaries, config.Drift(ignored=["x"])).findings == []


def test_a_report_has_the_largest_drift_first_and_names_what_is_absent() -> None:
    old = reference.summary({"x": pd.Series([0.0, 1.0] * 99), "y": pd.Series(["a"] * 99)})
    new = reference.summary({"z": pd.Series([1.0]), "x": pd.Series([1.0, 2.0] * 99)})
    report = drift.compare(old, new, USUAL)
    assert report.severity == "critical" and report.absent == ["z", "y"]
    assert report.sentence().startswith("drift: critical in `x` (PSI ")
    assert json.dumps(report.record()) and json.dumps(report.table())
    same = drift.compare(old, old, USUAL)
    assert (same.severity, same.sentence()) == ("none", "")
    assert [part.name for part in same.findings] == ["x", "y"]


def test_a_number_that_has_become_text_has_drifted() -> None:
    assert finding([1.0, 2.0] * 50, ["1", "2"] * 50).severity == "none"
    assert finding([1.0, 2.0] * 50, ["one", "two"] * 50).severity == "critical"


# --- the summaries of each kind -----------------------------------------------------------------

DATASETS = {kind: name for name, kind in reversed(listed.DATASETS.items())}
NAMES = {
    "tabular": ["Age", "Geography", "Exited"],
    "images": ["animal", "brightness", "contrast", "projection 1", "width"],
    "series": ["return of Open", "volatility of Open", "days to the next row"],
    "ratings": ["rating", "item", "ratings of a user"],
    "text": ["characters", "pairs of characters"],
    "clips": ["motion", "brightness", "projection 8"],
}


@pytest.mark.parametrize("kind", DATASETS)
def test_each_kind_says_whose_drift_is_looked_at(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    conf = twins.conf_of(DATASETS[kind], small=True)
    folder = twins.raw(DATASETS[kind], tmp_path_factory, small=True)
    parts = prepare.prepare(plugins.kind(kind).rows.read(folder, conf.columns), conf)
    summaries = prepare.summary(parts, conf)
    assert set(NAMES[kind]) <= set(summaries)
    assert json.loads(json.dumps(summaries, allow_nan=False)) == summaries
    assert drift.compare(summaries, summaries, USUAL).severity == "none"
    assert all(values["rows"] > 0 for values in summaries.values())
