"""Classification: metrics as scikit-learn has them, a temperature as a grid search finds it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch.nn import functional as F

from sextant.tasks.classification import metrics as task

TWO, THREE = [0, 1], ["ant", "bee", "cow"]
COLUMNS = SimpleNamespace(target="kind")


def encoder(classes: list[Any]) -> Any:
    return SimpleNamespace(columns=COLUMNS, classes=classes)


def rows(labels: Any) -> pd.DataFrame:
    return pd.DataFrame({COLUMNS.target: labels})


def outputs(
    classes: int, n: int = 211, scale: float = 1.0, seed: int = 7
) -> tuple[dict[str, torch.Tensor], Any]:
    """Logits that are right about the odds up to `scale`, and the labels drawn from these odds."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator, dtype=torch.float64)
    target = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return {"logits": scale * logits}, SimpleNamespace(target=target)


def loss(found: dict[str, torch.Tensor], batch: Any, temperature: float) -> float:
    summed = F.cross_entropy(
        found["logits"].double() / temperature, batch.target, reduction="sum"
    ).item()
    return summed + (1 / temperature - 1) ** 2 / 2


# --- the temperature --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 11])
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_the_temperature_is_what_a_grid_search_finds(classes, scale):
    found, batch = outputs(classes, scale=scale)
    grid = np.geomspace(0.05, 20, 2003)
    best = grid[int(np.argmin([loss(found, batch, t) for t in grid]))]
    assert task.calibrate(found, batch)["temperature"] == pytest.approx(best, rel=0.004)


@given(st.integers(2, 5), st.integers(1, 13), st.floats(-2, 2), st.integers(0, 997))
@settings(max_examples=50)
def test_no_other_temperature_in_its_range_is_better(classes, n, magnitude, seed):
    """Whatever the logits: heavy tails, few rows, all of them right or all of them wrong."""
    rng = np.random.default_rng(seed)
    found = {"logits": torch.from_numpy(rng.standard_t(1.2, (n, classes)) * 10**magnitude)}
    batch = SimpleNamespace(target=torch.from_numpy(rng.integers(0, classes, n)))
    reached = loss(found, batch, task.calibrate(found, batch)["temperature"])
    best = min(loss(found, batch, t) for t in np.geomspace(0.05, 20, 101))
    assert reached <= best + 1e-6 * (1 + abs(best))


@pytest.mark.parametrize("scale", [0.5, 2.0, 7.0])
def test_louder_logits_have_a_higher_temperature_in_the_same_measure(scale):
    """But for the one row's weight of the doubt."""
    quiet, loud = (
        task.calibrate(*outputs(3, n=2003, scale=s))["temperature"] for s in (1.0, scale)
    )
    assert loud == pytest.approx(scale * quiet, rel=0.02)


@pytest.mark.parametrize("n", [1, 7, 97])
def test_rows_that_are_all_right_are_no_proof_of_certainty(n):
    """Cross entropy alone would like T = 0 then, and the first wrong row after that would cost without bound."""
    target = torch.arange(n) % 2
    found = {"logits": 2.0 * F.one_hot(target, 2)}
    assert 0.3 < task.calibrate(found, SimpleNamespace(target=target))["temperature"] < 1


def test_calibration_changes_no_prediction():
    found, batch = outputs(3, scale=5.0)
    calibrated = task.answers(found, None, encoder(THREE), task.calibrate(found, batch))
    assert calibrated["prediction"].equals(
        task.answers(found, None, encoder(THREE), {})["prediction"]
    )


def test_the_calibration_is_json_with_nine_digits():
    temperature = task.calibrate(*outputs(2))["temperature"]
    assert isinstance(temperature, float) and temperature == round(temperature, 9)


# --- the answers ------------------------------------------------------------------------------------------------------


def test_two_classes_on_paper():
    """Logits 0 and log 3 are the odds 1 : 3; at temperature 2 they are 1 : sqrt(3)."""
    found = {"logits": torch.tensor([[0.0, np.log(3)], [np.log(3), 0.0]])}
    answers = task.answers(found, None, encoder(TWO), {"temperature": 1.0})
    assert answers["prediction"].tolist() == [1, 0]
    assert answers["probability"].tolist() == pytest.approx([0.75, 0.25])
    cooler = task.answers(found, None, encoder(TWO), {"temperature": 2.0})
    assert cooler["probability"].tolist() == pytest.approx(
        [3**0.5 / (1 + 3**0.5), 1 / (1 + 3**0.5)]
    )


def test_three_classes_on_paper():
    answers = task.as_answers(np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), THREE)
    assert answers.to_dict("list") == {
        "prediction": ["ant", "cow"],
        "probability": [0.5, 0.7],
        "probability_ant": [0.5, 0.1],
        "probability_bee": [0.3, 0.2],
        "probability_cow": [0.2, 0.7],
    }


@pytest.mark.parametrize("classes", [[0, 1], [0.5, 1.5], ["no", "yes"], [False, True]])
def test_a_prediction_is_a_label_of_the_data(classes):
    answers = task.as_answers(np.array([[0.9, 0.1], [0.2, 0.8]]), classes)
    assert answers["prediction"].tolist() == classes
    assert task.score(answers, rows(classes), encoder(classes))["accuracy"] == 1.0


# --- the metrics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [TWO, THREE, list(range(7))], ids=len)
def test_the_metrics_are_those_of_scikit_learn(classes):
    found, batch = outputs(len(classes))
    truth = [classes[i] for i in batch.target]
    probs = found["logits"].softmax(1).numpy()
    answers = task.as_answers(probs, classes)
    two = len(classes) == 2
    onehot = np.eye(len(classes))[batch.target.numpy()]
    each = [sklearn_metrics.roc_auc_score(onehot[:, i], probs[:, i]) for i in range(len(classes))]
    assert task.score(answers, rows(truth), encoder(classes)) == pytest.approx(
        {
            "accuracy": sklearn_metrics.accuracy_score(truth, answers["prediction"]),
            "auroc": each[1] if two else np.mean(each),
            "log_loss": sklearn_metrics.log_loss(truth, probs, labels=classes),
            "brier": sklearn_metrics.brier_score_loss(truth, probs[:, 1])
            if two
            else ((probs - onehot) ** 2).sum(1).mean(),
        },
        abs=1e-12,
    )


def test_the_metrics_on_paper():
    answers = task.as_answers(np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1]]), TWO)
    scores = task.score(answers, rows([0, 0, 1, 1]), encoder(TWO))
    assert scores["accuracy"] == 0.5
    assert scores["auroc"] == 0.5  # of the four pairs, .7 is above .2 and .6, .1 is below both
    assert scores["log_loss"] == pytest.approx(-np.log([0.8, 0.4, 0.7, 0.1]).mean())
    assert scores["brier"] == pytest.approx((0.2**2 + 0.6**2 + 0.3**2 + 0.9**2) / 4)


@pytest.mark.parametrize("classes", [TWO, THREE], ids=len)
def test_the_best_and_the_worst_there_can_be(classes):
    truth = rows(classes * 5)
    right = np.tile(np.eye(len(classes)), (5, 1))
    wrong = np.roll(right, 1, axis=1)
    best = task.score(task.as_answers(right, classes), truth, encoder(classes))
    assert best == pytest.approx({"accuracy": 1, "auroc": 1, "log_loss": 0, "brier": 0})
    worst = task.score(task.as_answers(wrong, classes), truth, encoder(classes))
    assert worst["accuracy"] == 0 and worst["brier"] == (1 if len(classes) == 2 else 2)
    assert worst["log_loss"] == pytest.approx(
        -np.log(1e-15)
    )  # and not infinity, which no table holds


def test_metrics_and_order_of_the_rows():
    found, batch = outputs(3)
    order = np.random.default_rng(3).permutation(211)
    answers, truth = (
        task.as_answers(found["logits"].softmax(1).numpy(), THREE),
        rows([THREE[i] for i in batch.target]),
    )
    assert task.score(answers.iloc[order], truth.iloc[order], encoder(THREE)) == pytest.approx(
        task.score(answers, truth, encoder(THREE))
    )


@pytest.mark.parametrize("classes", [TWO, THREE], ids=len)
def test_what_is_watched_during_training_is_the_score_uncalibrated(classes):
    found, batch = outputs(len(classes))
    answers = task.answers(found, None, encoder(classes), {})
    scores = task.score(answers, rows([classes[i] for i in batch.target]), encoder(classes))
    assert task.watch(found, batch) == pytest.approx(scores)


def test_every_metric_has_its_direction_and_the_gates_comes_first():
    assert task.METRICS == {"accuracy": "up", "auroc": "up", "log_loss": "down", "brier": "down"}
    found, batch = outputs(2)
    assert list(task.watch(found, batch)) == list(task.METRICS)
