"""Intervals: Wilson's as in the textbook, a bootstrap that agrees with what is known, gains with their sign."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from sextant import intervals
from sextant.intervals import auroc, gain, interval, mean, root_mean, wilson

RNG = np.random.default_rng(11)


def test_wilson_is_what_the_textbook_has_and_stays_between_0_and_1() -> None:
    assert wilson(0.9, 500) == pytest.approx((0.8706, 0.9233), abs=1e-4)
    assert wilson(0.95, 20) == pytest.approx((0.7639, 0.9911), abs=1e-4)
    low, high = wilson(1.0, 20)
    assert 0.83 < low < 0.84 and high == pytest.approx(1)


def test_each_score_of_rows_drawn_once_is_the_plain_one() -> None:
    values, truth = RNG.normal(size=211), RNG.random(211) < 0.4
    once = np.ones(211)
    assert mean(values).score(once) == pytest.approx(values.mean())
    assert root_mean(values**2).score(once) == pytest.approx(np.sqrt((values**2).mean()))
    tied = values.round(1)
    assert auroc(tied, truth).score(once) == pytest.approx(roc_auc_score(truth, tied))


@given(st.lists(st.integers(0, 3), min_size=20, max_size=20).filter(any))
def test_a_weight_is_how_often_a_row_is_there(times: list[int]) -> None:
    values, truth = np.arange(20.0) % 7, np.arange(20) % 3 == 0
    weights, rows = np.array(times, float), np.repeat(np.arange(20), times)
    assert mean(values).score(weights) == pytest.approx(values[rows].mean())
    found = auroc(values, truth).score(weights)
    if len(set(truth[rows])) == 2:
        assert found == pytest.approx(roc_auc_score(truth[rows], values[rows]))
    else:
        assert np.isnan(found)


def test_a_share_has_wilsons_interval_and_the_bootstrap_comes_near_to_it() -> None:
    hits = RNG.random(1999) < 0.8
    assert interval(mean(hits)) == wilson(hits.mean(), 1999)
    assert interval(mean(hits, np.arange(1999))) == pytest.approx(
        wilson(hits.mean(), 1999), abs=0.003
    )


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_has_it() -> None:
    values = RNG.normal(size=997)
    low, high = interval(mean(values))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * intervals.Z * values.std() / np.sqrt(997), rel=0.1)


def test_rows_of_one_group_do_not_vary_on_their_own() -> None:
    values = np.repeat(RNG.normal(size=97), 9)
    alone, together = (
        interval(mean(values, groups)) for groups in (None, np.repeat(np.arange(97), 9))
    )
    assert together[1] - together[0] == pytest.approx(3 * (alone[1] - alone[0]), rel=0.15)


def test_a_gain_is_what_is_better_in_the_direction_of_the_metric_and_its_draws_are_paired() -> None:
    errors = RNG.random(499)
    less, more = mean(errors), mean(errors + 0.25)
    assert gain(less, more, "down") == pytest.approx((0.25, 0.25, 0.25))
    assert gain(less, more, "up") == pytest.approx((-0.25, -0.25, -0.25))
    value, low, high = gain(mean(errors), mean(RNG.random(499)), "down")
    assert low < value < high


def test_the_same_rows_have_the_same_interval_on_every_call() -> None:
    sample = root_mean(RNG.random(101), np.arange(101) // 5)
    assert interval(sample) == interval(sample)
