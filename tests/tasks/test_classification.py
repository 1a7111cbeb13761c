"""Task classification: metrics as in scikit-learn, the temperature as in a grid search."""

from collections.abc import Sequence
from typing import NamedTuple

import cases
import numpy as np
import pandas as pd
import pytest
import torch
from builders import animal_table, table_columns, untrained_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sextant import config, plugins
from sextant.errors import DataError, UsageError
from sextant.kinds.parts import positive_class
from sextant.kinds.tabular.columns import Columns
from sextant.tasks.classification import metrics as classification

TWO, THREE = [0, 1], ["ant", "bee", "cow"]
COLUMNS = table_columns(target="kind", numeric=["x"])


class Batch(NamedTuple):
    """What the task reads of a batch."""

    target: Tensor


class Encoder(NamedTuple):
    """What the metrics read of an encoder."""

    classes: Sequence[classification.Label]
    columns: Columns = COLUMNS


def table(labels: Sequence[classification.Label]) -> pd.DataFrame:
    return pd.DataFrame({COLUMNS.target: labels})


def outputs(
    classes: int, n: int = 211, scale: float = 1.0, seed: int = 7
) -> tuple[dict[str, Tensor], Batch]:
    """Random labels, and logits that are `scale` times the true log odds of each label."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator, dtype=torch.float64)
    target = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return {"logits": scale * logits}, Batch(target)


def objective(outputs: dict[str, Tensor], batch: Batch, temperature: float) -> float:
    """What `calibrate` minimises."""
    logits = outputs["logits"].double() / temperature
    cross_entropy = F.cross_entropy(logits, batch.target, reduction="sum").item()
    return cross_entropy + (1 / temperature - 1) ** 2 / 2


# --- the temperature ----------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "scale"), [(2, 5.0), (3, 1.0), (11, 0.2)])
def test_the_temperature_equals_that_of_a_grid_search(classes, scale):
    tensors, batch = outputs(classes, scale=scale)
    grid = np.geomspace(0.05, 20, 2003)
    losses = [objective(tensors, batch, temperature) for temperature in grid]
    best = grid[int(np.argmin(losses))]
    temperature = classification.calibrate(tensors, batch)["temperature"]
    assert temperature == pytest.approx(best, rel=0.004)


@given(st.integers(2, 5), st.integers(1, 13), st.floats(-2, 2), st.integers(0, 997))
@settings(max_examples=25)
def test_no_other_temperature_in_its_range_is_better(classes, n, magnitude, seed):
    """With heavy-tailed logits, and with few rows, which may all be right or all be wrong."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_t(1.2, (n, classes)) * 10**magnitude
    tensors = {"logits": torch.from_numpy(logits)}
    batch = Batch(torch.from_numpy(rng.integers(0, classes, n)))
    temperature = classification.calibrate(tensors, batch)["temperature"]
    best = min(objective(tensors, batch, other) for other in np.geomspace(0.05, 20, 101))
    assert objective(tensors, batch, temperature) <= best + 1e-6 * (1 + abs(best))


@pytest.mark.parametrize("scale", [0.5, 2.0, 7.0])
def test_the_temperature_is_proportional_to_the_scale_of_the_logits(scale):
    """Up to the second term of the objective, which weighs as little as one row."""
    plain = classification.calibrate(*outputs(3, n=2003))["temperature"]
    scaled = classification.calibrate(*outputs(3, n=2003, scale=scale))["temperature"]
    assert scaled == pytest.approx(scale * plain, rel=0.02)


@pytest.mark.parametrize("n", [1, 7, 97])
def test_rows_that_are_all_right_give_no_temperature_of_0(n):
    """Cross entropy alone would, and then the first wrong row would have an infinite loss."""
    target = torch.arange(n) % 2
    tensors = {"logits": 2.0 * F.one_hot(target, 2)}
    assert 0.3 < classification.calibrate(tensors, Batch(target))["temperature"] < 1


def test_calibration_changes_no_prediction():
    tensors, batch = outputs(3, scale=5.0)
    calibration = classification.calibrate(tensors, batch)
    calibrated = classification.answers(tensors, None, Encoder(THREE), calibration)
    uncalibrated = classification.answers(tensors, None, Encoder(THREE), {})
    assert calibrated["prediction"].equals(uncalibrated["prediction"])


def test_the_calibration_is_json_with_nine_digits():
    temperature = classification.calibrate(*outputs(2))["temperature"]
    assert isinstance(temperature, float)
    assert temperature == round(temperature, 9)


# --- the answers --------------------------------------------------------------------------------


def test_answers_of_two_classes_by_hand():
    """Logits 0 and log 3 are the odds 1 : 3; at temperature 2 they are 1 : sqrt(3)."""
    tensors = {"logits": torch.tensor([[0.0, np.log(3)], [np.log(3), 0.0]])}
    answers = classification.answers(tensors, None, Encoder(TWO), {"temperature": 1.0})
    assert answers["prediction"].tolist() == [1, 0]
    assert answers["probability"].tolist() == pytest.approx([0.75, 0.25])
    cooler = classification.answers(tensors, None, Encoder(TWO), {"temperature": 2.0})
    root = 3**0.5
    expected = [root / (1 + root), 1 / (1 + root)]
    assert cooler["probability"].tolist() == pytest.approx(expected)


def test_answers_of_three_classes_by_hand():
    answers = classification.as_answers(np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), THREE)
    assert answers.to_dict("list") == {
        "prediction": ["ant", "cow"],
        "probability": [0.5, 0.7],
        "positive": ["ant", "cow"],
        "probability_ant": [0.5, 0.1],
        "probability_bee": [0.3, 0.2],
        "probability_cow": [0.2, 0.7],
    }


@cases.each("classes", [[0, 1], [0.5, 1.5], ["no", "yes"], [False, True]])
def test_a_prediction_is_a_label_of_the_data(classes):
    answers = classification.as_answers(np.array([[0.9, 0.1], [0.2, 0.8]]), classes)
    assert answers["prediction"].tolist() == classes
    scores = classification.score(answers, table(classes), Encoder(classes))
    assert scores["accuracy"] == 1.0


# --- whose probability --------------------------------------------------------------------------


@pytest.mark.parametrize(("positive", "expected"), [(None, [0.1, 0.8]), ("no", [0.9, 0.2])])
def test_the_column_positive_names_the_class_of_the_probability(positive, expected):
    probs = np.array([[0.9, 0.1], [0.2, 0.8]])
    answers = classification.as_answers(probs, ["no", "yes"], positive)
    assert list(answers) == ["prediction", "probability", "positive"]
    assert answers["probability"].tolist() == expected
    assert answers["positive"].tolist() == [positive or "yes"] * 2
    assert answers["prediction"].tolist() == ["no", "yes"]


def test_of_three_classes_the_named_one_has_the_probability():
    probs = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    answers = classification.as_answers(probs, THREE, "bee")
    assert answers["probability"].tolist() == [0.3, 0.2]
    assert answers["positive"].tolist() == ["bee"] * 2
    assert answers["prediction"].tolist() == ["ant", "cow"]


@cases.each("positive", [1, "1", 0, "0"])
def test_a_number_in_conf_is_the_class_of_that_text(positive):
    for classes in ([0, 1], ["0", "1"]):
        label = positive_class(classes, positive)
        assert label == classes[int(positive)]


def test_a_positive_that_is_no_class_is_refused_with_the_classes():
    with pytest.raises(DataError, match="`columns.positive` is 'maybe'; expected a class: no, yes"):
        classification.as_answers(np.eye(2), ["no", "yes"], "maybe")
    with pytest.raises(DataError, match="is True; expected a class: no, yes; put it in quotation"):
        classification.as_answers(np.eye(2), ["no", "yes"], True)


@pytest.mark.parametrize("classes", [TWO, ["no", "yes"]])
def test_the_metrics_do_not_depend_on_the_positive_class(classes):
    tensors, batch = outputs(2)
    probs = tensors["logits"].softmax(1).numpy()
    truth = table([classes[i] for i in batch.target])
    expected = classification.score(
        classification.as_answers(probs, classes), truth, Encoder(classes)
    )
    answers = classification.as_answers(probs, classes, classes[0])
    assert classification.score(answers, truth, Encoder(classes)) == pytest.approx(expected)


def test_answers_of_a_model_before_the_column_positive_mean_its_last_class():
    """Its classes were numbers in the order of numbers; of text, 10 comes before 9."""
    old = pd.DataFrame({"prediction": [10, 9, 10], "probability": [0.8, 0.3, 0.6]})
    probs = classification.class_probabilities(old, ["10", "9"])
    assert probs[:, 0].tolist() == [0.8, 0.3, 0.6]
    decided = classification.decided(old, Encoder(["10", "9"]), {})
    assert decided["prediction"].tolist() == ["10", "9", "10"]


def test_a_caller_sees_the_probability_of_each_class_on_demand():
    answers = classification.as_answers(np.eye(3), THREE)
    assert list(classification.public(answers)) == ["prediction", "probability", "positive"]
    assert list(classification.public(answers, all_classes=True)) == list(answers)
    two = classification.as_answers(np.eye(2), TWO)
    assert list(classification.public(two)) == list(two)


# --- from which probability on ------------------------------------------------------------------


def cost_of(cut: float, probs: np.ndarray, happened: np.ndarray, missed: float) -> float:
    predicted = probs >= cut
    return float(missed * (happened & ~predicted).sum() + (~happened & predicted).sum())


@given(st.integers(1, 41), st.floats(0.1, 20), st.integers(0, 997))
@settings(max_examples=50)
def test_no_other_threshold_costs_less_on_val(n, missed, seed):
    rng = np.random.default_rng(seed)
    probs = rng.random(n).round(1)  # many are equal
    happened = rng.random(n) < probs
    chosen = classification.threshold(probs, happened, config.Decide(cost=missed))
    costs = [cost_of(cut, probs, happened, missed) for cut in np.linspace(-0.01, 1.01, 205)]
    assert cost_of(chosen, probs, happened, missed) <= min(costs) + 1e-9
    assert 0 < chosen < 1


def test_costs_decide_where_many_rows_are_calibrated():
    """The threshold of lowest expected cost is false_alarm / (false_alarm + missed)."""
    rng = np.random.default_rng(3)
    probs = rng.random(200_003)
    happened = rng.random(len(probs)) < probs
    for costs in ({"missed": 4.0}, {"missed": 8.0, "false_alarm": 2.0}):
        decide = config.Decide.model_validate({"cost": costs})
        assert classification.threshold(probs, happened, decide) == pytest.approx(0.2, abs=0.02)
    f1 = classification.threshold(probs, happened, config.Decide(threshold="f1"))
    assert f1 < 0.5
    assert classification.threshold(probs, happened, config.Decide(threshold=0.3)) == 0.3


def test_the_positive_class_is_predicted_from_the_threshold_on():
    tensors, batch = outputs(2)
    encoder = Encoder(["no", "yes"], COLUMNS.model_copy(update={"positive": "no"}))
    decide = config.Decide(threshold=0.8)
    calibration = classification.calibrate(tensors, batch, encoder, decide)
    assert calibration["threshold"] == 0.8
    answers = classification.answers(tensors, None, encoder, calibration)
    assert (answers["prediction"] == "no").equals(answers["probability"] >= 0.8)
    assert 0 < (answers["prediction"] == "no").sum() < (answers["probability"] > 0.5).sum()
    truth = table([encoder.classes[i] for i in batch.target])
    sentence = classification.verdict(answers, truth, encoder, calibration)
    assert sentence.startswith("`kind` = no is predicted from a probability of 0.8 on")
    assert classification.verdict(answers, truth, encoder, {"temperature": 1.0}) == ""


def test_of_more_classes_the_named_one_or_the_most_probable_other_one_is_predicted():
    probs = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.6, 0.2]])
    encoder = Encoder(THREE, COLUMNS.model_copy(update={"positive": "bee"}))
    answers = classification.as_answers(probs, THREE, "bee")
    low = classification.decided(answers, encoder, {"threshold": 0.25})
    assert low["prediction"].tolist() == ["bee", "cow", "bee"]
    high = classification.decided(answers, encoder, {"threshold": 0.65})
    assert high["prediction"].tolist() == ["ant", "cow", "ant"]
    tensors, batch = outputs(3)
    with pytest.raises(UsageError, match="which of the 3 classes it is about; name it as `posit"):
        classification.calibrate(tensors, batch, Encoder(THREE), config.Decide(threshold=0.5))


def test_a_model_and_what_it_is_compared_with_decide_by_the_same_rule():
    """Otherwise the majority would win in accuracy over a rule that finds more of a rare class."""
    model = untrained_model(calibration={"temperature": 1.5, "threshold": 0.05})
    rows = animal_table(97)
    answers = model.answer(rows)
    assert (answers["prediction"] == "dog").equals(answers["probability"] >= 0.05)
    majority = plugins.task("classification").baselines("tabular")["majority"]
    baseline = model.fit_baseline(majority, {"train": animal_table(), "val": rows})(rows)
    assert (baseline["prediction"] == "dog").all()


# --- the metrics --------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [TWO, THREE, list(range(7))], ids=len)
def test_the_metrics_equal_those_of_scikit_learn(classes):
    from sklearn import metrics as sklearn_metrics

    tensors, batch = outputs(len(classes))
    truth = [classes[i] for i in batch.target]
    probs = tensors["logits"].softmax(1).numpy()
    answers = classification.as_answers(probs, classes)
    onehot = np.eye(len(classes))[batch.target.numpy()]
    aurocs = []
    for i in range(len(classes)):
        aurocs.append(sklearn_metrics.roc_auc_score(onehot[:, i], probs[:, i]))
    if len(classes) == 2:
        auroc = aurocs[1]
        brier = sklearn_metrics.brier_score_loss(truth, probs[:, 1])
    else:
        auroc = np.mean(aurocs)
        brier = ((probs - onehot) ** 2).sum(1).mean()
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(truth, answers["prediction"]),
        "auroc": auroc,
        "log_loss": sklearn_metrics.log_loss(truth, probs, labels=classes),
        "brier": brier,
    }
    scores = classification.score(answers, table(truth), Encoder(classes))
    assert scores == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", classification.METRICS)
@pytest.mark.parametrize("classes", [TWO, THREE], ids=len)
def test_the_bootstrap_sample_of_each_metric_has_its_score(classes, metric):
    tensors, batch = outputs(len(classes))
    answers = classification.as_answers(tensors["logits"].softmax(1).numpy(), classes)
    truth = table([classes[i] for i in batch.target])
    sample = classification.contributions(answers, truth, Encoder(classes), metric)
    scores = classification.score(answers, truth, Encoder(classes))
    assert sample.observed == pytest.approx(scores[metric])


def test_the_metrics_by_hand():
    probs = np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1]])
    answers = classification.as_answers(probs, TWO)
    scores = classification.score(answers, table([0, 0, 1, 1]), Encoder(TWO))
    assert scores["accuracy"] == 0.5
    assert scores["auroc"] == 0.5  # of the four pairs, .7 is above .2 and .6, .1 is below both
    assert scores["log_loss"] == pytest.approx(-np.log([0.8, 0.4, 0.7, 0.1]).mean())
    assert scores["brier"] == pytest.approx((0.2**2 + 0.6**2 + 0.3**2 + 0.9**2) / 4)


@pytest.mark.parametrize("classes", [TWO, THREE], ids=len)
def test_the_best_and_the_worst_possible_scores(classes):
    truth = table(classes * 5)
    right = np.tile(np.eye(len(classes)), (5, 1))
    wrong = np.roll(right, 1, axis=1)
    best = classification.score(classification.as_answers(right, classes), truth, Encoder(classes))
    assert best == pytest.approx({"accuracy": 1, "auroc": 1, "log_loss": 0, "brier": 0})
    worst = classification.score(classification.as_answers(wrong, classes), truth, Encoder(classes))
    assert worst["accuracy"] == 0
    assert worst["brier"] == (1 if len(classes) == 2 else 2)
    assert worst["log_loss"] == pytest.approx(-np.log(1e-15))  # finite, because JSON has to hold it


def test_the_metrics_do_not_depend_on_the_order_of_the_rows():
    tensors, batch = outputs(3)
    order = np.random.default_rng(3).permutation(211)
    answers = classification.as_answers(tensors["logits"].softmax(1).numpy(), THREE)
    truth = table([THREE[i] for i in batch.target])
    scores = classification.score(answers, truth, Encoder(THREE))
    permuted = classification.score(answers.iloc[order], truth.iloc[order], Encoder(THREE))
    assert permuted == pytest.approx(scores)


@pytest.mark.parametrize("classes", [TWO, THREE], ids=len)
def test_watch_gives_the_scores_of_the_calibrated_answers(classes):
    tensors, batch = outputs(len(classes), scale=3.0)
    calibration = classification.calibrate(tensors, batch)
    answers = classification.answers(tensors, None, Encoder(classes), calibration)
    truth = table([classes[i] for i in batch.target])
    scores = classification.score(answers, truth, Encoder(classes))
    assert classification.watch(tensors, batch) == pytest.approx(scores)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_scale_of_the_logits_does_not_choose_the_epoch(scale):
    """Label smoothing keeps logits small, and their log loss high, however well they rank."""
    watched = classification.watch(*outputs(3, n=2003, scale=scale))
    assert watched == pytest.approx(classification.watch(*outputs(3, n=2003)), abs=2e-4)


def test_of_two_epochs_the_better_one_is_kept_although_its_logits_are_smoothed():
    """The later one ranks better; uncalibrated, its log loss is higher."""
    tensors, batch = outputs(2, n=997)
    noise = torch.randn(997, 2, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    earlier = {"logits": tensors["logits"] + 0.7 * noise}
    smoothed = {"logits": 0.2 * tensors["logits"]}
    raw = [F.cross_entropy(epoch["logits"], batch.target) for epoch in (earlier, smoothed)]
    assert raw[0] < raw[1]
    losses = [classification.watch(epoch, batch)["log_loss"] for epoch in (earlier, smoothed)]
    assert losses[1] < losses[0]


def test_every_metric_has_its_direction_and_accuracy_comes_first():
    """The gate reads the first one."""
    directions = {"accuracy": "up", "auroc": "up", "log_loss": "down", "brier": "down"}
    assert directions == classification.METRICS
    assert list(classification.METRICS)[0] == "accuracy"
    tensors, batch = outputs(2)
    assert list(classification.watch(tensors, batch)) == list(classification.METRICS)
