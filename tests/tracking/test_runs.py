"""What the run of a training holds, and how it continues after a kill."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml
from conftest import Clone

from sextant import config, files, processor
from sextant.tracking import registry, store, views

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow

MODEL = "ann"
NAME = registry.registered_name(MODEL, "embedded")


@pytest.fixture
def client(in_pipeline: None) -> "MlflowClient":
    return store.client()


@pytest.fixture
def run(client: "MlflowClient") -> "Run":
    """The run of the pipeline's training."""
    experiment = client.get_experiment_by_name(NAME)
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def read_profile() -> dict[str, Any]:
    profile: dict[str, Any] = files.read_json(Path("data/prepared/churn/profile.json"))
    return profile


# --- tags and parameters ------------------------------------------------------------------------


def test_tags_say_which_model_was_trained(run: "Run") -> None:
    tags = run.data.tags
    expected = {
        "model": MODEL,
        "family": "ann",
        "task": "classification",
        "source": "embedded",
        "scratch": "false",
        "dirty": "false",  # files that DVC writes are no change
        "digest": files.folder_digest(Path("models") / MODEL),
    }
    assert {key: tags[key] for key in expected} == expected
    assert len(tags["pipeline"]) == 12 and "experiment" not in tags


def test_tags_say_how_to_repeat_the_run(pipeline: Clone, run: "Run") -> None:
    tags = run.data.tags
    commit = tags["mlflow.source.git.commit"]
    assert pipeline.run("git", "cat-file", "-t", commit).stdout == "commit\n"
    processor_of_run = f"{tags['processor']}, {tags['instruction_set']}"
    assert processor_of_run == processor.describe(processor.here("cpu"))
    command = f"git checkout {commit[:12]} && make train MODEL={MODEL}"
    assert tags["reproduce"] == f"{command}  # on {processor_of_run}"
    assert tags["reproduce"].replace(" && ", "\n") in tags[store.NOTE]
    assert re.fullmatch(rf"{MODEL} \d{{4}}-\d\d-\d\d {commit[:7]}", run.info.run_name)


def test_the_experiment_has_a_view_with_the_best_run_first(client: "MlflowClient") -> None:
    experiment = client.get_experiment_by_name(NAME)
    assert experiment
    view = json.loads(experiment.tags[views.TAG])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`test/accuracy`", False)
    assert {"metrics.`test/accuracy`", "metrics.`vs/gain`"} <= set(view["selectedColumns"])
    link = views.link(experiment.experiment_id)
    assert experiment.tags[store.NOTE].startswith(f"[{views.LINK_TEXT}]({link}).\n\n")
    views.share(client, experiment, "log_loss", "down")
    changed = client.get_experiment(experiment.experiment_id)
    assert json.loads(changed.tags[views.TAG])["orderByAsc"] is True
    assert changed.tags[store.NOTE].count(views.LINK_TEXT) == 1
    views.share(client, changed, "accuracy", "up")


def test_parameters_are_the_arguments_of_the_training(run: "Run") -> None:
    conf = config.model(MODEL)
    params = run.data.params
    expected = {"seed": str(conf.seed), "budget": "smoke", "source": "embedded"}
    assert {key: params[key] for key in expected} == expected
    blocks = {"net": conf.net, "optimizer": conf.optimizer, "schedule": conf.schedule}
    for block, arguments in blocks.items():
        for name, value in arguments.items():
            assert params[f"{block}.{name}"] == str(value)


def test_the_data_set_is_an_input(run: "Run") -> None:
    (data,) = run.inputs.dataset_inputs
    profile = read_profile()
    assert len(data.dataset.digest) == 36 and profile["digest"].startswith(data.dataset.digest)
    # MLflow's pages show the `uri` of a data set of type `local`.
    assert (data.dataset.name, data.dataset.source_type) == ("churn", "local")
    source = json.loads(data.dataset.source)
    assert (source["source"], source["digest"]) == ("embedded", profile["digest"])
    assert "twin" in source["uri"]
    assert json.loads(data.dataset.profile)["rows"] == profile["rows"]


# --- metrics and artifacts ----------------------------------------------------------------------


def test_metrics_of_epochs_have_the_epoch_as_step(client: "MlflowClient", run: "Run") -> None:
    curves = pd.read_csv(f"reports/curves/{MODEL}.csv")
    for name in curves.columns.drop("epoch"):
        history = client.get_metric_history(run.info.run_id, name)
        points = {metric.step: metric.value for metric in history}
        assert points == pytest.approx(dict(zip(curves["epoch"], curves[name], strict=True)))


def test_scores_have_the_prefixes_that_the_legend_explains(
    client: "MlflowClient", run: "Run"
) -> None:
    card = files.read_json(Path(f"models/{MODEL}/model.json"))
    metrics = files.read_json(Path(f"reports/metrics/{MODEL}.json"))
    expected = {"best/epoch": card["epoch"]}
    for name, value in card["val"].items():
        expected[f"best/{name}"] = value
    for name, value in metrics["test"].items():
        expected[f"test/{name}"] = value
    for baseline, scores in metrics["baselines"].items():
        for name, value in scores.items():
            expected[f"vs/{name}/{baseline}"] = value
    expected["test/interval_low"], expected["test/interval_high"] = metrics["interval"]
    expected["vs/gain"], expected["vs/gain_low"], expected["vs/gain_high"] = metrics["better"]
    logged = run.data.metrics
    assert {name: logged[name] for name in expected} == pytest.approx(expected)
    legend = client.get_experiment(run.info.experiment_id).tags[store.NOTE]
    for name in logged:
        assert f"`{name.split('/')[0]}/`" in legend


def test_conf_curves_figures_and_tables_are_artifacts(client: "MlflowClient", run: "Run") -> None:
    run_id = run.info.run_id
    top_level = {artifact.path for artifact in client.list_artifacts(run_id)}
    assert {"curves.csv", "config.yaml", "metrics.json", "figures", "tables"} <= top_level
    conf = yaml.safe_load(Path(client.download_artifacts(run_id, "config.yaml")).read_text())
    assert conf == config.model(MODEL).model_dump()

    drawn = {f"figures/{path.name}" for path in Path(f"reports/figures/{MODEL}").iterdir()}
    tables = files.read_json(Path(f"reports/tables/{MODEL}.json"))
    expected_tables = {f"tables/{name}.json" for name in tables}
    assert drawn and {item.path for item in client.list_artifacts(run_id, "figures")} == drawn
    logged_tables = {item.path for item in client.list_artifacts(run_id, "tables")}
    assert expected_tables and logged_tables == expected_tables
    # This tag tells MLflow's pages which of the JSON files are tables.
    listed = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert {item["path"] for item in listed} == expected_tables
