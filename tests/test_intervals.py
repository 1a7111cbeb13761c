"""Intervals: Wilson against textbook values, the bootstrap against theory, the sign of gains."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sextant import intervals
from sextant.intervals import auroc, gain, interval, mean, root_mean, wilson

RNG = np.random.default_rng(11)


def test_wilson_agrees_with_the_textbook_and_stays_between_0_and_1() -> None:
    assert wilson(0.9, 500) == pytest.approx((0.8706, 0.9233), abs=1e-4)
    assert wilson(0.95, 20) == pytest.approx((0.7639, 0.9911), abs=1e-4)
    low, high = wilson(1.0, 20)
    assert 0.83 < low < 0.84 and high == pytest.approx(1)


def test_a_score_with_all_weights_1_is_the_plain_score() -> None:
    from sklearn.metrics import roc_auc_score

    values = RNG.normal(size=211)
    targets = RNG.random(211) < 0.4
    assert mean(values).observed == pytest.approx(values.mean())
    assert root_mean(values**2).observed == pytest.approx(np.sqrt((values**2).mean()))
    tied = values.round(1)
    area = roc_auc_score(targets, tied)
    assert auroc(tied, targets).observed == pytest.approx(area, rel=1e-14)
    assert auroc(tied, targets).score(np.ones(211)) == auroc(tied, targets).observed


def test_the_area_is_nan_if_a_score_is_nan_or_a_class_is_missing() -> None:
    assert np.isnan(auroc([0.3, np.nan, 0.1], [True, False, True]).observed)
    assert np.isnan(auroc([0.3, 0.1], [True, True]).observed)
    assert np.isnan(auroc([], []).observed)


@given(st.lists(st.integers(0, 3), min_size=20, max_size=20).filter(any))
def test_a_weight_counts_a_row_as_often_as_it_was_drawn(times: list[int]) -> None:
    from sklearn.metrics import roc_auc_score

    values = np.arange(20.0) % 7
    targets = np.arange(20) % 3 == 0
    weights = np.array(times, float)
    rows = np.repeat(np.arange(20), times)
    assert mean(values).score(weights) == pytest.approx(values[rows].mean())
    area = auroc(values, targets).score(weights)
    if len(set(targets[rows])) == 2:
        assert area == pytest.approx(roc_auc_score(targets[rows], values[rows]))
    else:
        assert np.isnan(area)


def test_a_share_has_wilsons_interval_and_a_bootstrap_comes_close_to_it() -> None:
    hits = RNG.random(1999) < 0.8
    expected = wilson(hits.mean(), 1999)
    assert interval(mean(hits)) == expected
    assert interval(mean(hits, np.arange(1999))) == pytest.approx(expected, abs=0.003)


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_predicts() -> None:
    values = RNG.normal(size=997)
    low, high = interval(mean(values))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * intervals.Z * values.std() / np.sqrt(997), rel=0.1)


def test_rows_of_one_group_are_drawn_together() -> None:
    """Nine equal rows per group hold the information of one: the interval is 3 times as wide."""
    values = np.repeat(RNG.normal(size=97), 9)
    low_by_row, high_by_row = interval(mean(values))
    low_by_group, high_by_group = interval(mean(values, np.repeat(np.arange(97), 9)))
    width_by_row = high_by_row - low_by_row
    assert high_by_group - low_by_group == pytest.approx(3 * width_by_row, rel=0.15)


def test_a_gain_is_positive_in_the_direction_of_the_metric_and_its_draws_are_paired() -> None:
    errors = RNG.random(499)
    small = mean(errors)
    large = mean(errors + 0.25)
    # Both share all the randomness, so that the paired interval has no width.
    assert gain(small, large, "down") == pytest.approx((0.25, 0.25, 0.25))
    assert gain(small, large, "up") == pytest.approx((-0.25, -0.25, -0.25))
    value, low, high = gain(mean(errors), mean(RNG.random(499)), "down")
    assert low < value < high


def test_an_interval_is_the_same_on_every_call() -> None:
    sample = root_mean(RNG.random(101), np.arange(101) // 5)
    assert interval(sample) == interval(sample)
