"""Regression: metrics as in scikit-learn, intervals that hold, a model that conf alone makes."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cases
import numpy as np
import pandas as pd
import pytest
import svgs
import torch
from builders import hash_split, table_columns
from torch import Tensor

from sextant import config, plugins, prepare, saved_model, trees
from sextant.errors import DataError, UsageError
from sextant.families.ann import ANN
from sextant.kinds.tabular import rows as tabular_rows
from sextant.kinds.tabular.columns import Columns
from sextant.kinds.tabular.encoder import Encoder
from sextant.tasks.regression import metrics as regression
from sextant.tasks.regression.baselines import BASELINES, FURTHER

COLUMNS = table_columns(
    target="price", numeric=["area", "age"], categorical=["town"], key="house", ignored=["note"]
)
SPLIT = hash_split(train=0.6, val=0.15, gate=0.1, test=0.15)


def houses(rows: int = 997, seed: int = 7) -> pd.DataFrame:
    """Prices that are not linear in the columns, whose noise grows with the area."""
    rng = np.random.default_rng(seed)
    area = rng.uniform(30, 200, rows)
    age = rng.uniform(0, 80, rows)
    town = rng.choice(["North", "South", "West"], rows)
    ring = np.exp(-(((age - 40) / 10) ** 2))
    price = 2000 * area + 90_000 * ring + 60_000 * (town == "West")
    price = price + rng.normal(size=rows) * 150 * area
    return pd.DataFrame(
        {
            "house": np.arange(1009, 1009 + rows),
            "note": "",
            "area": area.round(1),
            "age": age.round(0),
            "town": town,
            "price": price.round(0),
        }
    )


def parts_of(rows: pd.DataFrame, columns: Columns = COLUMNS) -> dict[str, pd.DataFrame]:
    parts = tabular_rows.split(tabular_rows.repair(rows, columns), columns, SPLIT)
    tabular_rows.check_parts(parts, columns)
    return parts


@pytest.fixture(scope="module")
def parts() -> dict[str, pd.DataFrame]:
    return parts_of(houses())


@pytest.fixture(scope="module")
def encoder(parts: dict[str, pd.DataFrame]) -> Encoder:
    return Encoder.fit(parts["train"], COLUMNS)


class Batch(NamedTuple):
    """What the task reads of a batch."""

    target: Tensor


# --- the target ---------------------------------------------------------------------------------


def test_a_target_of_many_numbers_is_a_number_and_keeps_its_unit(parts, encoder):
    assert encoder.predicts_number and encoder.classes == []
    assert encoder.sizes["classes"] == 0
    target = encoder.encode(parts["val"]).target
    assert target.dtype == torch.float64
    assert target.tolist() == parts["val"]["price"].tolist()
    unlabelled = encoder.encode(parts["val"].drop(columns="price")).target
    assert unlabelled.isnan().all()


def test_the_state_of_the_encoder_is_json_and_restores_it(parts, encoder):
    state = json.loads(json.dumps(encoder.state()))
    restored = Encoder.from_state(state, COLUMNS)
    assert restored.sizes == encoder.sizes
    assert torch.equal(restored.encode(parts["val"]).target, encoder.encode(parts["val"]).target)


@cases.each(
    ("target_type", "distinct", "is_number"),
    [(None, 7, False), ("number", 7, True), (None, 499, True), ("class", 499, False)],
)
def test_conf_says_what_the_target_is_where_its_values_do_not(target_type, distinct, is_number):
    columns = COLUMNS.model_copy(update={"target_type": target_type})
    rows = houses()
    rows["price"] = np.arange(len(rows)) % distinct
    repaired = tabular_rows.repair(rows, columns)
    assert Encoder.fit(repaired, columns).predicts_number == is_number


def test_of_a_short_table_fewer_numbers_are_enough():
    rows = houses(61)
    assert Encoder.fit(tabular_rows.repair(rows, COLUMNS), COLUMNS).predicts_number
    rows["price"] = np.arange(61) % 19
    assert not Encoder.fit(tabular_rows.repair(rows, COLUMNS), COLUMNS).predicts_number


def test_words_are_never_a_number():
    rows = houses()
    rows["price"] = [f"{price} EUR" for price in rows["price"]]
    assert not Encoder.fit(tabular_rows.repair(rows, COLUMNS), COLUMNS).predicts_number
    columns = COLUMNS.model_copy(update={"target_type": "number"})
    with pytest.raises(DataError, match="EUR' in `price`; expected a finite number"):
        tabular_rows.repair(rows, columns)


def test_the_profile_has_the_range_of_the_target(parts):
    profile = tabular_rows.profile(parts, COLUMNS)
    assert profile["classes"] == []
    summary = profile["columns"]["price"]
    assert summary["mean"] == pytest.approx(parts["train"]["price"].mean())
    assert len(summary) == 5


# --- metrics ------------------------------------------------------------------------------------


def random_answers(n: int = 211, seed: int = 3) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(100, 20, n)
    value = truth + rng.normal(0, 7, n)
    return regression.as_answers(value, value - 10, value + 12), truth


def test_the_metrics_equal_those_of_scikit_learn():
    from sklearn import metrics as sklearn_metrics

    answers, truth = random_answers()
    value = answers["prediction"]
    losses = [
        sklearn_metrics.mean_pinball_loss(truth, answers[name], alpha=level)
        for name, level in (("lower", 0.05), ("prediction", 0.5), ("upper", 0.95))
    ]
    expected = {
        "rmse": sklearn_metrics.root_mean_squared_error(truth, value),
        "mae": sklearn_metrics.mean_absolute_error(truth, value),
        "r2": sklearn_metrics.r2_score(truth, value),
        "pinball": np.mean(losses),
        "coverage_90": ((truth >= answers["lower"]) & (truth <= answers["upper"])).mean(),
    }
    assert regression.scores(answers, truth) == pytest.approx(expected)
    assert [*expected, "crps"] == list(regression.METRICS)


@cases.each("metric", ["rmse", "mae", "r2", "pinball"])
def test_the_bootstrap_sample_of_each_metric_has_its_score(metric, encoder):
    answers, truth = random_answers()
    rows = pd.DataFrame({"price": truth})
    sample = regression.contributions(answers, rows, encoder, metric)
    assert sample.observed == pytest.approx(regression.score(answers, rows, encoder)[metric])


def test_an_interval_always_holds_the_prediction():
    answers = regression.as_answers(
        np.array([5.0, 5.0]), np.array([6.0, 1.0]), np.array([7.0, 2.0])
    )
    assert answers["lower"].tolist() == [5.0, 1.0]
    assert answers["upper"].tolist() == [7.0, 5.0]


def test_the_target_that_does_not_vary_has_an_r2_of_0():
    answers = regression.as_answers(np.ones(3), np.zeros(3), np.full(3, 2.0))
    assert regression.scores(answers, np.full(3, 1.5))["r2"] == 0


# --- calibration --------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_calibrated_intervals_hold_nine_in_ten_of_val(factor):
    rng = np.random.default_rng(5)
    truth = rng.normal(size=501)
    half = np.full(501, 1.645 * factor)
    wider = regression.margin(-half, half, truth)
    assert (np.abs(truth) <= half + wider).mean() == pytest.approx(0.9, abs=0.003)
    assert (wider < 0) == (factor > 1) or factor == 1


def test_the_margin_is_that_of_the_next_rank():
    """Of 9 rows, the ceil(10 * 0.9) = 9th smallest: the furthest one."""
    truth = np.arange(9.0)
    zeros = np.zeros(9)
    assert regression.margin(zeros, zeros, truth) == 8.0


def test_watch_gives_the_scores_of_the_calibrated_answers(encoder):
    rng = np.random.default_rng(7)
    truth = torch.from_numpy(rng.normal(100, 20, 97))
    location = truth + torch.from_numpy(rng.normal(0, 5, 97))
    tensors = {"location": location, "lower": location - 1, "upper": location + 1}
    calibration = regression.calibrate(tensors, Batch(truth))
    answers = regression.answers(tensors, pd.DataFrame(), encoder, calibration)
    rows = pd.DataFrame({"price": truth.numpy()})
    watched = regression.watch(tensors, Batch(truth))
    assert watched == regression.score(answers, rows, encoder)
    assert watched["coverage_90"] == pytest.approx(0.9, abs=0.02)


# --- densities ----------------------------------------------------------------------------------


def mixture(rows: int = 97, parts: int = 5, seed: int = 7) -> tuple[dict[str, Tensor], Tensor]:
    """What a net answers that has a density, and numbers drawn from it with half its scales."""
    rng = np.random.default_rng(seed)
    locations = rng.normal(100, 5, (rows, 1)) + rng.normal(0, 2, (rows, parts))
    scales = rng.uniform(1, 3, (rows, parts))
    part = rng.integers(parts, size=rows)
    drawn = (locations[np.arange(rows), part], scales[np.arange(rows), part])
    truth = drawn[0] + 0.5 * drawn[1] * rng.normal(size=rows)
    location = torch.from_numpy(locations.mean(1))
    tensors = {"location": location, "lower": location - 9, "upper": location + 9}
    tensors |= {"locations": torch.from_numpy(locations), "scales": torch.from_numpy(scales)}
    return tensors, torch.from_numpy(truth)


def test_the_quantiles_of_a_calibrated_mixture_hold_nine_in_ten(encoder):
    tensors, truth = mixture(997)
    calibration = regression.calibrate(tensors, Batch(truth))
    assert set(calibration) == {"factor", "grid_low", "grid_high"}
    assert 0.4 < calibration["factor"] < 0.9
    answers = regression.answers(tensors, pd.DataFrame(), encoder, calibration)
    assert list(answers) == ["prediction", "lower", "upper", *regression.QUANTILES]
    quantiles = answers[list(regression.QUANTILES)]
    assert (quantiles.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert answers["lower"].tolist() == answers["q05"].tolist()
    scores = regression.scores(answers, truth.numpy())
    assert scores["coverage_90"] == pytest.approx(0.9, abs=0.003)
    below = (truth.numpy()[:, None] < quantiles.to_numpy()).mean(0)
    assert below == pytest.approx(regression.LEVELS, abs=0.06)


def test_the_density_of_each_row_integrates_to_1(encoder):
    tensors, truth = mixture()
    calibration = regression.calibrate(tensors, Batch(truth))
    plain = regression.answers(tensors, pd.DataFrame(), encoder, calibration)
    answers = regression.answers(tensors, pd.DataFrame(), encoder, calibration, density=True)
    assert answers[list(plain)].equals(plain)
    names = list(answers)[len(plain.columns) :]
    assert len(names) == regression.CELLS
    middles = np.array([float(name.removeprefix("density_")) for name in names])
    width = (middles[-1] - middles[0]) / (len(middles) - 1)
    densities = answers[names].to_numpy()
    # The ends of the grid are those of all rows together, so that little of one is beyond.
    assert densities.sum(1) * width == pytest.approx(np.ones(97), abs=0.02)
    assert (densities.sum(1) * width).mean() == pytest.approx(1, abs=0.001)
    mean = (densities * middles).sum(1) * width
    assert mean == pytest.approx(answers["prediction"].to_numpy(), abs=0.5)
    narrow = {**tensors, "locations": tensors["locations"][:, :1], "scales": tensors["scales"] / 9}
    narrow["scales"] = narrow["scales"][:, :1]
    at = regression.answers(narrow, pd.DataFrame(), encoder, calibration, density=True)[names]
    off = middles[at.to_numpy().argmax(1)] - narrow["locations"][:, 0].numpy()
    assert np.abs(off).max() <= width


def test_the_ranked_probability_score_is_close_to_the_integral(encoder):
    """Of a normal distribution it has a closed form (Gneiting and Raftery 2007, equation 21)."""
    from scipy.stats import norm

    rng = np.random.default_rng(3)
    location, scale = rng.normal(100, 20, 499), rng.uniform(1, 9, 499)
    truth = rng.normal(location, scale)
    z = (truth - location) / scale
    exact = scale * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5)
    quantiles = location[:, None] + scale[:, None] * norm.ppf(regression.LEVELS)
    answers = regression.as_answers(location, quantiles[:, 0], quantiles[:, -1], quantiles)
    losses = regression.crps_of_rows(answers, truth)
    assert losses.mean() == pytest.approx(exact.mean(), rel=0.01)
    assert np.corrcoef(losses, exact)[0, 1] > 0.999
    rows = pd.DataFrame({"price": truth})
    sample = regression.contributions(answers, rows, encoder, "crps")
    assert sample.observed == pytest.approx(regression.score(answers, rows, encoder)["crps"])


def test_a_net_without_a_density_is_asked_for_none(encoder):
    location = torch.zeros(3, dtype=torch.float64)
    tensors = {"location": location, "lower": location, "upper": location}
    with pytest.raises(UsageError, match="answers an interval and no density; remove the option"):
        regression.answers(tensors, pd.DataFrame(), encoder, {"margin": 1.0}, density=True)
    task = plugins.task("regression")
    assert task.measured(ANN.OUTPUTS) == [name for name in regression.METRICS if name != "crps"]
    assert task.measured([*ANN.OUTPUTS, *regression.MIXTURE]) == list(regression.METRICS)


# --- the net ------------------------------------------------------------------------------------


NET: dict[str, Any] = {
    "bins": 8, "embedding_size": 6, "hidden_sizes": [32], "dropout": 0.0, "bodies": 1, "members": 4,
}  # fmt: skip


def net_of(parts: dict[str, pd.DataFrame], encoder: Encoder) -> ANN:
    torch.manual_seed(3)
    net = saved_model.build("ann", encoder.sizes, NET)
    assert isinstance(net, ANN)
    net.initialise(encoder.encode(parts["train"]))
    return net


def test_a_net_starts_at_mean_and_quantiles_of_the_target(parts, encoder):
    net = net_of(parts, encoder)
    with torch.no_grad():
        net.head.zero_()
    outputs = saved_model.outputs(net, encoder.encode(parts["val"]))
    target = parts["train"]["price"]
    expected = {"location": target.mean()}
    expected |= {"lower": target.quantile(0.05), "upper": target.quantile(0.95)}
    for name, value in expected.items():
        assert outputs[name].tolist() == pytest.approx([value] * len(parts["val"]), rel=1e-5)


def test_the_unit_of_the_target_changes_nothing_else(parts, encoder):
    """Prices in thousands are predicted as a thousandth."""
    scaled = {part: rows.assign(price=rows["price"] / 1000) for part, rows in parts.items()}
    outputs = []
    for each in (parts, scaled):
        batch = encoder.encode(each["train"])
        net = net_of(each, encoder)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            net.loss(batch).backward()
            optimizer.step()
        outputs.append(saved_model.outputs(net, encoder.encode(each["val"])))
    for name in regression.OUTPUTS:
        torch.testing.assert_close(outputs[0][name], 1000 * outputs[1][name], rtol=1e-4, atol=1)


def test_the_quantiles_of_a_net_do_not_cross(parts, encoder):
    net = net_of(parts, encoder)
    with torch.no_grad():
        net.head.mul_(50)
    outputs = saved_model.outputs(net, encoder.encode(parts["val"]))
    assert (outputs["lower"] <= outputs["upper"]).all()


def test_a_constant_target_has_a_finite_loss(parts):
    constant = {part: rows.assign(price=7.0) for part, rows in parts.items()}
    columns = COLUMNS.model_copy(update={"target_type": "number"})
    encoder = Encoder.fit(constant["train"], columns)
    net = net_of(constant, encoder)
    assert torch.isfinite(net.loss(encoder.encode(constant["train"])))


# --- baselines ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few_trees() -> Iterator[None]:
    """Trees of one size that stop early: the whole choice by val takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "MAX_TREES", 2 * trees.TREES)
        patch.setattr(trees, "LEAVES", (8,))
        yield


@pytest.fixture(scope="module")
def answered(parts, encoder, few_trees) -> dict[str, pd.DataFrame]:
    answers = {}
    for name, fit in BASELINES.items():
        answer = plugins.call(fit, parts["train"], COLUMNS, encoder=encoder, val=parts["val"])
        answers[name] = answer(parts["test"])
    return answers


def test_the_baselines_are_ordered_by_what_they_can_find(answered, parts, encoder):
    assert list(answered) == ["mean", "linear", "gradient_boosting"]
    scores = {
        name: regression.score(table, parts["test"], encoder) for name, table in answered.items()
    }
    rmse = [scores[name]["rmse"] for name in answered]
    assert rmse == sorted(rmse, reverse=True)
    assert scores["mean"]["r2"] < 0.1 < 0.6 < scores["linear"]["r2"]
    for name in answered:
        assert scores[name]["coverage_90"] == pytest.approx(0.9, abs=0.08)


@pytest.mark.parametrize("name", FURTHER)
def test_a_further_baseline_answers_quantiles(name, parts, encoder, answered, few_trees):
    answer = plugins.call(FURTHER[name], parts["train"], COLUMNS, encoder=encoder, val=parts["val"])
    table = answer(parts["test"])
    assert table.index.equals(parts["test"].index)
    assert list(table) == ["prediction", "lower", "upper", *regression.QUANTILES]
    assert (table[list(regression.QUANTILES)].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    scores = regression.score(table, parts["test"], encoder)
    mean = regression.score(answered["mean"], parts["test"], encoder)
    assert scores["crps"] < 0.7 * mean["crps"]
    assert scores["coverage_90"] == pytest.approx(0.9, abs=0.08)


def test_a_polynomial_finds_a_product_that_the_linear_model_does_not(encoder, parts):
    product = {part: rows.assign(price=rows["area"] * rows["age"]) for part, rows in parts.items()}
    scores = {}
    for name, fit in {"linear": BASELINES["linear"], "polynomial": FURTHER["polynomial"]}.items():
        answer = plugins.call(fit, product["train"], COLUMNS, encoder=encoder, val=product["val"])
        scores[name] = regression.score(answer(product["test"]), product["test"], encoder)
    assert scores["polynomial"]["rmse"] < 0.01 * scores["linear"]["rmse"]


def test_answers_have_one_interval_per_row_and_the_rows_index(answered, parts):
    for name, table in answered.items():
        quantiles = [] if name == "gradient_boosting" else list(regression.QUANTILES)
        assert list(table) == ["prediction", "lower", "upper", *quantiles]
        assert table.index.equals(parts["test"].index)
        assert (table["lower"] <= table["prediction"]).all()
        assert (table["prediction"] <= table["upper"]).all()


# --- a net that answers a density ---------------------------------------------------------------


def test_an_atlas_answers_a_density_and_shows_its_levels_and_maps(parts, encoder, tmp_path):
    arguments: dict[str, Any] = {
        "maps": 3, "rows": 9, "cols": 9, "columns": 0.7, "sigma": 2.0, "sigma_end": 0.5,
        "width": 0.8, "degree": 1, "shrinkage": 3.0,
    }  # fmt: skip
    torch.manual_seed(3)
    net: Any = saved_model.build("som_atlas", encoder.sizes, arguments)
    net.initialise(encoder.encode(parts["train"]))
    val = encoder.encode(parts["val"])
    calibration = regression.calibrate(saved_model.outputs(net, val), val)
    card = {"task": "regression", "net": arguments, "calibration": calibration}
    model = saved_model.SavedModel(card, net, encoder)
    rows = parts["test"]
    answers = model.answer(rows)
    assert model.answer(rows, density=True).shape[1] == answers.shape[1] + regression.CELLS
    scores = model.score(answers, rows)
    assert list(scores) == list(regression.METRICS)
    mean = model.fit_baseline(BASELINES["mean"], parts)(rows)
    assert scores["crps"] < 0.6 * model.score(mean, rows)["crps"]
    figures = plugins.task("regression").figures.figures(
        answers, rows, COLUMNS, {"mean": mean}, model
    )
    names = ["predicted", "residuals", "importance", "coverage", "levels", "maps", "errors"]
    assert list(figures) == names
    assert f"mean {model.score(mean, rows)['crps']:.4g}" in figures["levels"].get_label()
    empty = int((net.counts == 0).sum())
    assert (
        empty and f" {empty} of 243 units of all maps have no rows" in figures["maps"].get_label()
    )
    for name in ("levels", "maps"):
        assert b"<title>" in svgs.svg(figures[name], tmp_path)


# --- a model that conf alone makes --------------------------------------------------------------


DATASET = """
sources: {mirror: [{file: houses.csv, path: houses.csv}]}
about: null
source: mirror
columns:
  names: null
  delimiter: ","
  unknown: null
  key: house
  target: price
  ignored: [note]
  numeric: [area, age]
  categorical: [town]
split: {by: hash, salt: 0, shares: {train: 0.6, val: 0.15, gate: 0.1, test: 0.15}}
twin: null
"""
MODEL = """
net: {bins: 8, embedding_size: 8, hidden_sizes: [32], dropout: 0.0, bodies: 1, members: 4}
optimizer: {name: adamw, lr: 0.01, weight_decay: 0.01}
schedule:
  lr: cosine
  warmup: 0.05
  max_epochs: 25
  batch_size: 64
  monitor: rmse
  patience: 25
  clip: 1.0
  ema: null
  threads: 1
  precision: float32
budgets: {smoke: {}, standard: {}, full: {}}
gate: {margin: 0.0, guards: []}
baselines: []
"""
LINES = """
seed: 42
source: mirror
budget: standard
datasets: {houses: tabular}
models: {prices: {family: ann, task: regression, dataset: houses, kind: tabular}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[saved_model.SavedModel, dict[str, pd.DataFrame]]:
    """A model, trained in process as the stages would: read, prepare, train."""
    from conftest import ROOT

    from sextant import check, train

    folder = tmp_path_factory.mktemp("houses")
    for path, text in (
        ("params.yaml", LINES),
        ("conf/dataset/houses.yaml", DATASET),
        ("conf/model/prices.yaml", MODEL),
        ("conf/expectations/houses.yaml", "[]"),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for name in ("config.yaml", "trainer.yaml"):
        (folder / "conf" / name).write_text((ROOT / "conf" / name).read_text())
    raw = folder / "raw"
    raw.mkdir()
    houses(1499).to_csv(raw / "houses.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        dataset = config.dataset("houses")
        conf = config.model("prices")
        check.check_model(conf)
        check.check_baselines(conf)
        check.check_figures(conf)
    parts = prepare.prepare(tabular_rows.read(raw, dataset.columns), dataset)
    validation = {"source": "mirror", "digest": "0" * 64}
    profile = json.loads(json.dumps(prepare.profile(parts, dataset, validation)))
    train.quieten()
    model, _ = train.learn(conf, parts, profile, folder / "checkpoints", lambda row: None)
    return model, parts


def test_a_model_of_a_table_predicts_its_prices(trained, encoder):
    model, parts = trained
    scores = model.score(model.answer(parts["test"]), parts["test"])
    assert scores["r2"] > 0.85
    assert scores["coverage_90"] == pytest.approx(0.9, abs=0.07)
    for name in ("mean", "linear"):
        answer = model.fit_baseline(BASELINES[name], parts)
        baseline = model.score(answer(parts["test"]), parts["test"])
        assert scores["rmse"] < baseline["rmse"]
        assert scores["pinball"] < baseline["pinball"]


def test_its_intervals_are_wider_where_prices_vary_more(trained):
    model, parts = trained
    rows = parts["test"]
    answers = model.answer(rows)
    width = answers["upper"] - answers["lower"]
    large = (rows["area"] > rows["area"].median()).to_numpy()
    assert width[large].mean() > 1.5 * width[~large].mean()


def test_it_is_saved_and_evaluated_like_any_other_model(trained, few_trees, tmp_path):
    from sextant import evaluate

    model, parts = trained
    saved_model.save(tmp_path / "model", model.card, model.net, model.encoder)
    loaded = saved_model.load(tmp_path / "model")
    baselines = loaded.task.baselines("tabular")
    metrics, answers = evaluate.evaluate(loaded, parts, baselines)
    assert metrics["metric"] == "rmse" and metrics["direction"] == "down"
    assert metrics["trivial"] == "mean" and metrics["better"][0] == pytest.approx(
        metrics["baselines"][metrics["best"]]["rmse"] - metrics["test"]["rmse"], abs=1e-6
    )
    assert "The 90 % interval" in metrics["verdict"][0]
    curves = pd.DataFrame([{"epoch": 1, "train/loss": 1.0, "val/loss": 1.0, "val/rmse": 2.0}])
    figures, tables = evaluate.draw(loaded, parts, answers, curves)
    assert list(figures) == ["curve", "predicted", "residuals", "importance", "coverage"]
    assert list(tables) == ["errors"]
    assert all(figure.get_label() for figure in figures.values())
    for name in ("predicted", "residuals", "coverage"):  # the others are those of every table
        assert svgs.svg(figures[name], tmp_path), name
    assert json.loads(json.dumps(tables["errors"].record()))


def test_its_interface_has_the_columns_of_the_rows_and_of_the_answers(
    trained, tmp_path, monkeypatch
):
    from types import SimpleNamespace

    from sextant import register

    model, _ = trained
    saved_model.save(tmp_path / "model", model.card, model.net, model.encoder)
    monkeypatch.setattr(register, "_example", lambda _, model: model.encoder.example())
    candidate: Any = SimpleNamespace(folder=tmp_path / "model")
    _, (inputs, answers, options) = register._interface(candidate)
    features = [("area", "double", True), ("age", "double", True), ("town", "string", True)]
    assert inputs == [("house", "string", False), *features]
    numbers = [(name, "double", True) for name in ("prediction", "lower", "upper")]
    assert answers == [*numbers, ("warnings", "string", True)]
    assert options == [("explain", "boolean", False), ("density", "boolean", False)]


def test_the_answer_of_a_row_does_not_depend_on_the_others(trained):
    model, parts = trained
    inputs = model.encoder.inputs(parts["test"])
    names = ["prediction", "lower", "upper"]
    answers = model.predict(inputs)[names]
    alone = model.predict(inputs.iloc[[5]])[names]
    assert alone.iloc[0].tolist() == pytest.approx(answers.iloc[5].tolist(), rel=1e-5)


def test_a_class_as_target_is_refused_with_what_to_write(trained):
    model, _ = trained
    assert model.task.name == "regression"
    check_rows: Callable[[Encoder], None] = plugins.optional(model.task.metrics, "check", None)
    columns = table_columns(target="town", numeric=["area"])
    towns = Encoder.fit(tabular_rows.repair(houses(), columns), columns)
    with pytest.raises(UsageError, match="`town` is a class, such as North, South, West; choose"):
        check_rows(towns)


def test_a_number_as_target_of_classification_is_refused_and_named(encoder):
    check_rows: Callable[[Encoder], None] = plugins.optional(
        plugins.task("classification").metrics, "check", None
    )
    with pytest.raises(UsageError, match="`price` is a number.*; choose task regression"):
        check_rows(encoder)
