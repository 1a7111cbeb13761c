"""Trainings from several seeds: mean and deviation, in MLflow and beside the leaderboard."""

import json
from pathlib import Path

import pytest
from conftest import Clone

from sextant import config, files, paths
from sextant.commands import seeds
from sextant.errors import UsageError
from sextant.tracking.seeds import PARENT_TAG, spread


def test_the_spread_is_that_of_a_sample() -> None:
    scores = [{"accuracy": 0.8}, {"accuracy": 0.9}, {"accuracy": 1.0}]
    assert spread(scores) == {"accuracy": (pytest.approx(0.9), pytest.approx(0.1))}
    assert spread(scores[:1]) == {"accuracy": (0.8, 0.0)}


@pytest.mark.parametrize("text", ["0", "1", "-3", "x", "101", "2.5"])
def test_another_number_of_seeds_is_refused(text: str) -> None:
    assert seeds.seeds_of(42, "3") == [42, 43, 44]
    with pytest.raises(UsageError, match=f"SEEDS={text}: expected how many seeds"):
        seeds.seeds_of(42, text)


def test_a_fixed_seed_is_refused() -> None:
    with pytest.raises(UsageError, match="`seed=7`: the seeds begin with `seed` of params.yaml"):
        seeds.main(["model=ann", "seed=7"])


def test_the_spread_is_known_for_the_conf_and_data_of_today_alone(one_model: Path) -> None:
    profile = paths.prepared("churn") / "profile.json"
    profile.parent.mkdir(parents=True)
    files.write_json(profile, {"digest": "d1"})
    record = {
        "conf": seeds.conf_digest(config.model("ann")),
        "data": "d1",
        "test": {"42": {"accuracy": 0.8}, "43": {"accuracy": 0.9}},
    }
    assert seeds.known_spread("ann", "accuracy") == ""
    files.write_json(seeds.record_path("ann"), record)
    line = "ann over 2 seeds: accuracy 0.8500 ± 0.0707"
    assert seeds.known_spread("ann", "accuracy") == line
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("seed: 42", "seed: 7"))
    assert seeds.known_spread("ann", "accuracy") == line
    for change in ({"conf": "other"}, {"data": "d2"}):
        files.write_json(seeds.record_path("ann"), record | change)
        assert seeds.known_spread("ann", "accuracy") == ""


@pytest.mark.slow
def test_seeds_are_children_of_a_run_with_their_mean(clone: Clone) -> None:
    from mlflow.tracking import MlflowClient

    done = clone.run("make", "train", "MODEL=ann", "SEEDS=2")
    assert "ann, 2 seeds from 42 on, test part:" in done.stdout and " ± " in done.stdout
    record = json.loads((clone.path / ".scratch/ann/seeds.json").read_text())
    accuracies = [scores["accuracy"] for scores in record["test"].values()]
    mean, deviation = spread(list(record["test"].values()))["accuracy"]
    uri = f"sqlite:///{clone.path}/mlflow.db"
    mlflow = MlflowClient(uri, uri)
    experiment = mlflow.get_experiment_by_name("sextant-ann-twin")
    assert experiment
    runs = mlflow.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "seeds" in run.data.tags]
    children = [run for run in runs if run.data.tags.get(PARENT_TAG) == parent.info.run_id]
    assert parent.data.metrics["test/accuracy"] == pytest.approx(mean)
    assert parent.data.metrics["test/accuracy_deviation"] == pytest.approx(deviation)
    assert sorted(run.data.metrics["test/accuracy"] for run in children) == sorted(accuracies)
    assert clone.changed() == []
    assert f"ann over 2 seeds: accuracy {mean:.4f}" in clone.stage("leaderboard").stdout
