"""Synthetic outliers: what is injected, and the metrics against brute force."""

import numpy as np
import pandas as pd
import pytest

from sextant import injection

ROWS = 31


def table(rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    return pd.DataFrame({"x": x, "y": x, "name": [f"n{i}" for i in range(rows)]})


def scores(ties: bool = False) -> np.ndarray:
    """Those of ROWS rows and of INJECTIONS sets of ROWS outliers, which score higher on average."""
    rng = np.random.default_rng(1)
    injected = rng.normal(1.0, 1.0, ROWS * injection.INJECTIONS)
    drawn = np.concatenate([rng.normal(size=ROWS), injected])
    return drawn.round(0) if ties else drawn


def test_injected_rows_keep_each_column_and_lose_what_ties_them():
    rows = table()
    both = injection.with_injections(rows, ["x", "y"], sets=2)
    assert len(both) == 3 * ROWS
    pd.testing.assert_frame_equal(both.head(ROWS), rows)
    for start in (ROWS, 2 * ROWS):
        injected = both.iloc[start : start + ROWS]
        for name in ("x", "y"):
            assert sorted(injected[name]) == sorted(rows[name])
        assert (injected["x"] == injected["y"]).sum() < 5
        assert injected["name"].tolist() == rows["name"].tolist()  # no feature
    assert not both["x"].iloc[ROWS : 2 * ROWS].tolist() == both["x"].iloc[2 * ROWS :].tolist()


def test_a_set_of_a_large_table_is_bounded_and_drawn_from_all_rows():
    rows = table(101)
    both = injection.with_injections(rows, ["x"], sets=1, most=7)
    assert len(both) == 108
    assert not set(both["x"].tail(7)) <= set(rows["x"].head(7))


@pytest.mark.parametrize("ties", [False, True])
def test_the_metrics_are_those_of_scikit_learn(ties):
    from sklearn.metrics import average_precision_score, roc_auc_score

    drawn = scores(ties)
    truth = np.repeat([0, 1], ROWS)
    weights = np.repeat([1.0, injection.SHARE / (1 - injection.SHARE)], ROWS)
    areas, precisions = [], []
    for injected in drawn[ROWS:].reshape(injection.INJECTIONS, -1):
        both = np.concatenate([drawn[:ROWS], injected])
        areas.append(roc_auc_score(truth, both))
        precisions.append(average_precision_score(truth, both, sample_weight=weights))
    assert injection.auroc(drawn, ROWS).observed == pytest.approx(np.mean(areas))
    assert injection.average_precision(drawn, ROWS) == pytest.approx(np.mean(precisions))


def test_a_constant_score_finds_as_much_as_chance():
    constant = np.ones(ROWS * (1 + injection.INJECTIONS))
    assert injection.auroc(constant, ROWS).observed == 0.5
    assert injection.average_precision(constant, ROWS) == pytest.approx(injection.SHARE)


def test_a_draw_weighs_a_row_and_a_position_of_all_sets():
    drawn = scores()
    sample = injection.auroc(drawn, ROWS)
    assert len(sample.groups) == len(drawn)
    assert len(np.unique(sample.groups)) == 2 * ROWS
    by_group = np.random.default_rng(2).integers(0, 3, 2 * ROWS)
    repeated = np.concatenate([np.repeat(drawn[:ROWS], by_group[:ROWS])])
    sets = drawn[ROWS:].reshape(injection.INJECTIONS, ROWS)
    of_sets = np.repeat(sets, by_group[ROWS:], axis=1)
    expected = injection.auroc(np.concatenate([repeated, of_sets.ravel()]), len(repeated)).observed
    assert sample.score(by_group[sample.groups].astype(float)) == pytest.approx(expected)
