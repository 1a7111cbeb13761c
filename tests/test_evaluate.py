"""Stage evaluate: val as training recorded it, then test beside baselines on the same rows."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from builders import table_columns
from conftest import ROOT

from sextant import evaluate, plugins, saved_model, trees
from sextant.errors import SextantError, UsageError
from sextant.files import folder_digest, write_json
from sextant.kinds.tabular import rows as tabular_rows
from sextant.kinds.tabular.encoder import Encoder
from sextant.saved_model import SavedModel
from sextant.tasks.classification import metrics as classification
from sextant.tasks.classification.baselines import BASELINES

MODEL = next(iter(yaml.safe_load((ROOT / "params.yaml").read_text())["models"]))
COLUMNS = table_columns(target="label", numeric=["x"], categorical=["colour"])
NET = {
    "bins": 3,
    "embedding_size": 5,
    "hidden_sizes": [7],
    "dropout": 0.0,
    "bodies": 1,
    "members": 2,
}
STEPS = 199


def table(rows: int, seed: int) -> pd.DataFrame:
    """90 % of the labels are `yes` where x is near 0, which no linear model can separate.

    The colour agrees with it in 70 % of the rows.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    middle = np.abs(x) < 0.67
    label = np.where(rng.random(rows) < 0.9, middle, ~middle)
    colour = np.where(rng.random(rows) < 0.7, middle, ~middle)
    return pd.DataFrame(
        {
            "x": x,
            "colour": np.where(colour, "red", "blue"),
            "label": np.where(label, "yes", "no"),
        }
    )


PARTS = {"train": table(499, seed=0), "val": table(97, seed=1), "test": table(101, seed=2)}


@pytest.fixture(scope="module")
def model() -> SavedModel:
    """A small net, trained for a second."""
    encoder = Encoder.fit(PARTS["train"], COLUMNS)
    torch.set_num_threads(1)
    torch.manual_seed(3)
    net = saved_model.build("ann", encoder.sizes, NET)
    batch = encoder.encode(PARTS["train"])
    net.initialise(batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    for _ in range(STEPS):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    val = encoder.encode(PARTS["val"])
    card = {
        "model": MODEL,
        "family": "ann",
        "dataset": "toy",
        "kind": "tabular",
        "task": "classification",
        "source": "embedded",
        "seed": 3,
        "budget": "smoke",
        "threads": 1,
        "epoch": STEPS,
        "net": NET,
        "columns": COLUMNS.model_dump(),
        "calibration": classification.calibrate(saved_model.outputs(net, val), val),
    }
    answers = SavedModel(card, net, encoder).answer(PARTS["val"])
    card["val"] = classification.score(answers, PARTS["val"], encoder)
    return SavedModel(card, net, encoder)


@pytest.fixture(scope="module", autouse=True)
def few_trees() -> Iterator[None]:
    """Trees that stop early: the whole choice by val takes most of the time of an evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "MAX_TREES", 2 * trees.TREES)
        patch.setattr(trees, "LEAVES", (8,))
        yield


@pytest.fixture(scope="module")
def evaluated(model, few_trees) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """The metrics and the answers of the model; tests share them and must not change them."""
    return evaluate.evaluate(model, PARTS, BASELINES)


def with_val(model: SavedModel, **val: float) -> SavedModel:
    """The model with other metrics of val in its card."""
    card = {**model.card, "val": {**model.card["val"], **val}}
    return SavedModel(card, model.net, model.encoder)


# --- what training recorded ---------------------------------------------------------------------


def test_the_recorded_score_is_accepted_up_to_rounding():
    evaluate.check_reproduced({"accuracy": 0.8}, {"accuracy": 0.8 + 1e-7, "auroc": 0.1})


@cases.each("accuracy", [0.81, 0.79, 0.8 + 2e-6, math.nan, math.inf])
def test_another_score_on_val_is_refused(accuracy):
    recorded = {"auroc": 0.9, "accuracy": 0.8}
    with pytest.raises(
        SextantError,
        match=r"^val accuracy is .* after reloading, training recorded 0.800000000; the sav",
    ):
        evaluate.check_reproduced(recorded, {"auroc": 0.9, "accuracy": accuracy})


def test_a_model_that_does_not_reproduce_its_score_is_refused(model, evaluated):
    assert evaluated[0]["val"] == model.card["val"]
    with pytest.raises(
        SextantError, match="val log_loss is .* training recorded 0.100000000; .* then `make train`"
    ):
        evaluate.evaluate(with_val(model, log_loss=0.1), PARTS, BASELINES)
    state = {**model.encoder.state(), "numbers": {"x": [1.0, 1.0, 0, 0, 0, 0, 0]}}
    encoder = Encoder.from_state(state, COLUMNS)
    with pytest.raises(SextantError, match="the saved model is not the trained one"):
        evaluate.evaluate(SavedModel(model.card, model.net, encoder), PARTS, BASELINES)


# --- the metrics --------------------------------------------------------------------------------


def test_the_metrics_are_the_scores_of_the_answers(model, evaluated):
    metrics, answers = evaluated
    score, test = classification.score, PARTS["test"]
    assert metrics["val"] == score(model.answer(PARTS["val"]), PARTS["val"], model.encoder)
    assert metrics["test"] == score(answers["model"], test, model.encoder)
    for name, fit in BASELINES.items():
        answer = plugins.call(fit, PARTS["train"], COLUMNS, encoder=model.encoder, val=PARTS["val"])
        pd.testing.assert_frame_equal(answers[name], answer(test))
        assert metrics["baselines"][name] == score(answers[name], test, model.encoder)


def test_the_content_of_a_metrics_file(model, evaluated):
    metrics, answers = evaluated
    for key in ("model", "family", "dataset", "task", "source", "seed", "budget"):
        assert metrics[key] == model.card[key]
    assert (metrics["metric"], metrics["direction"]) == ("accuracy", "up")
    assert list(metrics["baselines"]) == list(BASELINES)
    assert metrics["trivial"] == "majority"
    assert metrics["epochs"] == STEPS
    assert metrics["rows"] == {"train": 499, "val": 97, "test": 101}
    for scores in (metrics["val"], metrics["test"], *metrics["baselines"].values()):
        assert list(scores) == list(classification.METRICS)
    assert list(answers) == ["model", *metrics["baselines"]]
    json.dumps(metrics, allow_nan=False)


def test_the_best_baseline_and_the_gain_over_it_with_its_interval(evaluated):
    metrics, _ = evaluated
    accuracy = {name: scores["accuracy"] for name, scores in metrics["baselines"].items()}
    best = accuracy[metrics["best"]]
    assert best == max(accuracy.values())
    low, high = metrics["interval"]
    assert low < metrics["test"]["accuracy"] < high
    gain, low, high = metrics["better"]
    assert gain == pytest.approx(metrics["test"]["accuracy"] - best)
    assert low < gain < high


@pytest.mark.parametrize("metric", ["auroc", "log_loss"])
def test_the_metric_of_the_gate_is_compared_with_the_baselines(model, metric):
    metrics, _ = evaluate.evaluate(model, PARTS, BASELINES, gate_metric=metric)
    direction = "down" if metric == "log_loss" else "up"
    assert (metrics["metric"], metrics["direction"]) == (metric, direction)
    scores = {name: table[metric] for name, table in metrics["baselines"].items()}
    best = scores[metrics["best"]]
    assert best == (min if direction == "down" else max)(scores.values())
    sign = 1 if direction == "up" else -1
    assert metrics["better"][0] == pytest.approx(sign * (metrics["test"][metric] - best))
    low, high = metrics["interval"]
    assert low < metrics["test"][metric] < high


def test_another_test_part_changes_the_test_metrics_alone(model, evaluated):
    metrics, _ = evaluated
    other, _ = evaluate.evaluate(model, {**PARTS, "test": table(103, seed=7)}, BASELINES)
    assert other["val"] == metrics["val"]
    assert other["test"] != metrics["test"]


def test_a_net_beats_the_linear_baselines_where_no_linear_model_can(evaluated):
    metrics, _ = evaluated
    linear = [metrics["baselines"][name] for name in ("majority", "logistic_regression")]
    best = max(scores["accuracy"] for scores in linear)
    assert metrics["test"]["accuracy"] > best + 0.1


def test_golden(evaluated):
    """The metrics of a small net after 199 steps.

    They change with the mathematics of the net, its encoder or its calibration. If that is
    intended, take the new numbers from the failed assertion. Processors differ by less than 0.01.
    """
    metrics, _ = evaluated
    golden = {"accuracy": 0.842, "auroc": 0.849, "log_loss": 0.519, "brier": 0.142}
    assert metrics["test"] == pytest.approx(golden, abs=0.01)


# --- the stage ----------------------------------------------------------------------------------


@pytest.fixture
def trained(workspace, model) -> SavedModel:
    """The outputs of the stages before evaluate, as DVC runs them, in the workspace."""
    prepared = Path("data/prepared/toy")
    prepared.mkdir(parents=True)
    for part, rows in PARTS.items():
        tabular_rows.write(rows, prepared / part)
    sizes = {part: len(rows) for part, rows in PARTS.items()}
    write_json(prepared / "profile.json", {"rows": sizes})
    saved_model.save(Path("models") / MODEL, model.card, model.net, model.encoder)
    write_curves(Path(f"reports/curves/{MODEL}.csv"))
    return model


def write_curves(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"epoch": 1, "train/loss": 0.5, "val/loss": 0.6, "val/accuracy": 0.7}
    pd.DataFrame([row, {**row, "epoch": 2}]).to_csv(path, index=False)


def run_by_dvc(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the stage as DVC does; return the metrics that it wrote."""
    monkeypatch.setenv("DVC_STAGE", f"evaluate@{MODEL}")
    evaluate.main([f"model={MODEL}"])
    return json.loads(Path(f"reports/metrics/{MODEL}.json").read_text())


@pytest.mark.slow
def test_by_dvc_it_writes_the_same_metrics_and_figures_on_every_run(trained, monkeypatch, capsys):
    metrics, _ = evaluate.evaluate(trained, PARTS, BASELINES)
    assert run_by_dvc(monkeypatch) == json.loads(json.dumps(metrics))
    summary = f"{MODEL}: test accuracy {metrics['test']['accuracy']:.4f}, auroc "
    assert capsys.readouterr().out.startswith(summary)
    files = sorted(path.name for path in (Path("reports/figures") / MODEL).iterdir())
    assert files[:4] == ["00-curve.svg", "01-roc.svg", "02-calibration.svg", "03-confusion.svg"]
    first = folder_digest(Path("reports"))
    run_by_dvc(monkeypatch)
    assert folder_digest(Path("reports")) == first


@pytest.mark.slow
def test_by_hand_it_takes_the_scratch_model_and_writes_to_the_scratch_folder(trained):
    before = folder_digest(Path("reports"))
    # Without a scratch model it takes the one that DVC tracks, and leaves DVC's outputs alone.
    evaluate.main([f"model={MODEL}"])
    scratch = Path(".scratch") / MODEL
    assert json.loads((scratch / "metrics.json").read_text())["seed"] == 3
    saved_model.save(scratch / "model", {**trained.card, "seed": 5}, trained.net, trained.encoder)
    write_curves(scratch / "curves.csv")
    evaluate.main([f"model={MODEL}"])
    assert json.loads((scratch / "metrics.json").read_text())["seed"] == 5
    assert folder_digest(Path("reports")) == before


def test_a_missing_input_is_named_with_the_command_that_makes_it(trained, monkeypatch):
    for path in (f"reports/curves/{MODEL}.csv", "data/prepared/toy", f"models/{MODEL}"):
        Path(path).rename(f"away-{Path(path).name}")
        with pytest.raises(
            SextantError,
            match=f"^{path} does not exist; `make repro` creates it, `dvc checkout` restores",
        ):
            run_by_dvc(monkeypatch)


def test_a_refused_model_leaves_the_previous_metrics(trained, monkeypatch):
    metrics = Path(f"reports/metrics/{MODEL}.json")
    metrics.parent.mkdir()
    metrics.write_text("previous")
    wrong = with_val(trained, accuracy=0.123)
    saved_model.save(Path("models") / MODEL, wrong.card, wrong.net, wrong.encoder)
    with pytest.raises(SextantError, match="training recorded 0.123"):
        run_by_dvc(monkeypatch)
    assert metrics.read_text() == "previous"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            [f"model={MODEL}", "seed=7"],
            "`seed=7` is not understood: a trained model brings its own conf",
        ),
        (["model=strawberry"], f"unknown model `strawberry`; params.yaml lists: .*{MODEL}"),
        ([], "which model"),
    ],
)
def test_arguments_that_are_not_understood_are_refused(workspace, argv, message):
    with pytest.raises(UsageError, match=message):
        evaluate.main(argv)


def test_test_rows_without_labels_are_answered_and_not_scored(tmp_path: Path, model: SavedModel):
    """They begin with their key, as other answers do."""
    keyed = COLUMNS.model_copy(update={"key": "number"})
    model = SavedModel(model.card, model.net, Encoder.from_state(model.encoder.state(), keyed))
    assert evaluate.answers_without_labels(model, prepared(tmp_path, ["train"])) is None
    folder = prepared(tmp_path, ["train", "unlabelled"])
    rows = PARTS["test"].assign(label=None, number=[f"0{i}" for i in range(101)])
    tabular_rows.write(rows, folder / "unlabelled")
    answers = evaluate.answers_without_labels(model, folder)
    assert answers is not None
    assert answers["number"].tolist() == rows["number"].tolist()
    expected = model.answer(PARTS["test"])
    pd.testing.assert_frame_equal(answers.drop(columns="number"), expected)


def prepared(folder: Path, parts: list[str]) -> Path:
    """A folder of prepared data with the profile of these parts."""
    (folder / "profile.json").write_text(json.dumps({"rows": dict.fromkeys(parts, 1)}))
    return folder
