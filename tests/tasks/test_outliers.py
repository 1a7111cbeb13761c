"""Task outliers: answers and metrics, the look at val, baselines, figures, and the twin."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import svgs
import torch
from builders import table_columns

from sextant import injection, plugins, saved_model
from sextant.families.som_ann import SOMANN
from sextant.kinds.tabular.encoder import Encoder
from sextant.saved_model import SavedModel
from sextant.tasks.outliers import metrics as outliers
from sextant.tasks.outliers.baselines import BASELINES

COLUMNS = table_columns(target=None, numeric=["x", "y"], categorical=["colour"])
NET: dict[str, Any] = {
    "target": "flag",
    "rows": 3,
    "cols": 4,
    "sigma": 2.0,
    "sigma_end": 0.5,
    "map_epochs": 20,
    "reads": ["place", "distances", "surprise"],
    "injected": 1.0,
    "bins": 4,
    "embedding_size": 4,
    "hidden_sizes": [16],
    "dropout": 0.0,
    "bodies": 1,
    "members": 3,
}


def table(rows: int = 151, seed: int = 7) -> pd.DataFrame:
    """Three clusters, each with its own colour."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(3, size=rows)
    return pd.DataFrame(
        {
            "x": 3.0 * cluster + rng.normal(size=rows),
            "y": -3.0 * cluster + rng.normal(size=rows),
            "colour": np.array(["red", "green", "blue"])[cluster].astype(object),
        }
    )


@pytest.fixture(scope="module")
def model() -> SavedModel:
    """A net after some steps on the table."""
    torch.manual_seed(0)
    encoder = Encoder.fit(table(), COLUMNS)
    batch = encoder.encode(table())
    net = SOMANN(encoder.sizes["numeric"], encoder.sizes["cardinalities"], **NET)
    net.initialise(batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    calibration = outliers.calibrate(saved_model.outputs(net, batch), batch)
    card = {"task": "outliers", "net": NET, "calibration": calibration}
    return SavedModel(card, net, encoder)


# --- answers and metrics ------------------------------------------------------------------------


def test_an_answer_is_a_probability_and_whether_it_is_above_the_threshold(model):
    answers = model.predict(table(301))
    assert list(answers) == ["probability", "outlier", "warnings"]
    assert answers["probability"].between(0, 1).all()
    above = answers["probability"] > model.card["calibration"]["threshold"]
    assert answers["outlier"].equals(above.rename("outlier"))
    assert 0 < answers["outlier"].mean() < 0.2


def test_a_combination_that_no_row_has_is_an_outlier(model):
    usual = pd.DataFrame({"x": [0.0, 6.0], "y": [0.0, -6.0], "colour": ["red", "blue"]})
    mixed = usual.assign(colour=["blue", "red"])
    assert model.predict(mixed)["outlier"].all() and not model.predict(usual)["outlier"].any()


def test_one_row_in_twenty_is_above_the_threshold():
    probabilities = torch.linspace(0.0, 1.0, 100, dtype=torch.float64)
    threshold = outliers.calibrate({"outlier": probabilities}, None)["threshold"]
    assert (probabilities > threshold).sum() == 5


def test_the_scores_are_those_of_the_injected_rows(model):
    rows = table(97, seed=11)
    answers = model.answer(model.inputs(rows))
    scores = model.score(answers, rows)
    probabilities = answers["probability"].to_numpy()
    assert scores == {
        "outlier_auroc": injection.auroc(probabilities, 97).observed,
        "average_precision": injection.average_precision(probabilities, 97),
    }
    assert scores["outlier_auroc"] > 0.8
    sample = outliers.contributions(answers, rows, model.encoder)
    assert sample.observed == scores["outlier_auroc"]


def test_a_look_at_val_scores_other_outliers_that_are_the_same_each_time(model):
    rows = table(97, seed=11)
    batch = model.encoder.encode(rows)
    outputs = saved_model.outputs(model.net, batch)
    state = torch.get_rng_state()
    watched = outliers.watch(outputs, batch, model.net)
    assert torch.equal(torch.get_rng_state(), state)
    assert watched == outliers.watch(outputs, batch, model.net)
    scores = model.score(model.answer(model.inputs(rows)), rows)
    assert watched == pytest.approx(scores, abs=0.05) and watched != scores


# --- baselines ----------------------------------------------------------------------------------

Answer = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def baselines(model) -> dict[str, Answer]:
    fitted = {}
    for name, fit in BASELINES.items():
        fitted[name] = plugins.call(fit, table(), COLUMNS, encoder=model.encoder, net=NET)
    return fitted


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_finds_injected_rows_and_flags_about_one_row_in_twenty(name, baselines, model):
    rows = table(97, seed=11)
    answers = baselines[name](model.inputs(rows))
    scores = model.score(answers, rows)
    if name == "constant":
        expected = {"outlier_auroc": 0.5, "average_precision": pytest.approx(injection.SHARE)}
        assert scores == expected
        return
    assert scores["outlier_auroc"] > 0.7
    assert answers["probability"].between(0, 1).all()
    assert 0 < answers["outlier"].head(97).mean() < 0.35  # the map has nearly a unit for each row


@pytest.mark.parametrize("name", BASELINES)
def test_permuted_rows_have_permuted_answers(name, baselines):
    rows = table(53, seed=11)
    order = np.random.default_rng(3).permutation(len(rows))
    answer = baselines[name]
    pd.testing.assert_frame_equal(answer(rows.iloc[order]), answer(rows).iloc[order])


def test_the_som_scores_as_its_family_does(baselines):
    """The order of the surprise of families/som.py with the settings of its conf."""
    from sextant.families.som import SOM

    train, rows = table(), table(53, seed=11)
    encoder = Encoder.fit(train, COLUMNS)
    batch = encoder.encode(train)
    som = SOM(
        encoder.sizes["numeric"],
        encoder.sizes["cardinalities"],
        rows=10,
        cols=10,
        grid="rectangular",
        toroidal=False,
        neighborhood="gaussian",
        sigma=5.0,
        sigma_end=0.5,
        init="pca",
        update="batch",
    )
    som.initialise(batch)
    for epoch in range(100):
        som.progress = epoch / 100
        som.gradients(batch)
        with torch.no_grad():
            som.codebook -= som.codebook.grad
    surprise = saved_model.outputs(som, encoder.encode(rows))["surprise"].numpy()
    answers = baselines["som"](rows)["probability"].to_numpy()
    assert (
        np.corrcoef(np.argsort(np.argsort(surprise)), np.argsort(np.argsort(answers)))[0, 1] > 0.99
    )


# --- figures ------------------------------------------------------------------------------------


def test_every_figure_can_be_drawn_and_the_table_begins_with_the_likeliest(
    model, baselines, tmp_path: Path
):
    rows = table(97, seed=11).assign(id=[f"r{i}" for i in range(97)])
    inputs = model.inputs(rows)
    answers = model.answer(inputs)
    drawn = plugins.task("outliers").figures.figures(
        answers,
        rows,
        COLUMNS.model_copy(update={"key": "id"}),
        {name: answer(inputs) for name, answer in baselines.items()},
        model=model,
        train=table(),
    )
    assert list(drawn) == ["roc", "probabilities", "map", "outliers"]
    # The first two are the classifier's, which test_drawing.py saves.
    assert b"<title>" in svgs.svg(drawn["map"], tmp_path)
    rows_of_table = drawn["outliers"].record()
    first = answers["probability"].head(97).idxmax()
    assert rows_of_table["data"][0][0] == f"r{first}"
    assert rows_of_table["columns"] == ["id", "probability", "outlier", "x", "y", "colour"]
