"""The run of a training: across a kill, without a server, and when it was left open."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers import TrackingServer

from sextant import config, files
from sextant.tracking import runs, store, training

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow

MODEL = "ann"


@pytest.fixture
def client(in_pipeline: None) -> "MlflowClient":
    return store.client()


def read_profile() -> dict[str, Any]:
    profile: dict[str, Any] = files.read_json(Path("data/prepared/churn/profile.json"))
    return profile


@pytest.fixture
def conf(in_pipeline: None, tmp_path: Path) -> Iterator[config.ModelConf]:
    """The conf of a model under another name, so that its experiment is created beside the copied
    database. Its folder of checkpoints is removed, because others copy the pipeline."""
    name = tmp_path.name.replace("_", "")[:40]
    yield config.model(MODEL).model_copy(update={"name": name})
    shutil.rmtree(Path(".checkpoints") / name, ignore_errors=True)


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    path = tmp_path / "curves.csv"
    path.write_text("epoch,train/loss\n1,0.5\n2,0.25\n3,0.125\n")
    return path


def test_a_resumed_training_continues_its_run_and_loses_no_epoch(
    client: "MlflowClient", conf: config.ModelConf, curves: Path, tmp_path: Path
) -> None:
    profile = read_profile()
    with pytest.raises(KeyboardInterrupt), training.training_run(conf, profile, tmp_path) as first:
        first.log({"epoch": 1, "train/loss": 0.5})
        first._flush()
        first.log({"epoch": 2, "train/loss": 0.25})  # it is not sent yet when the kill comes
        raise KeyboardInterrupt
    assert client.get_run(first.run_id).info.status == "FAILED"
    with training.training_run(conf, profile, tmp_path) as second:
        second.log({"epoch": 3, "train/loss": 0.125})
        second.finish({"epoch": 3, "val": {"accuracy": 0.9}}, Path("models") / MODEL, curves)
    assert second.run_id == first.run_id
    done = client.get_run(first.run_id)
    assert done.info.status == "FINISHED" and done.data.metrics["best/accuracy"] == 0.9
    assert done.data.tags["scratch"] == "true"  # a training by hand, without DVC_STAGE
    history = client.get_metric_history(first.run_id, "train/loss")
    points = sorted((metric.step, metric.value) for metric in history)
    assert points == [(1, 0.5), (2, 0.25), (3, 0.125)]


def test_a_deleted_run_is_not_continued(
    client: "MlflowClient", conf: config.ModelConf, tmp_path: Path
) -> None:
    with training.training_run(conf, read_profile(), tmp_path) as first:
        pass
    client.delete_run(first.run_id)
    with training.training_run(conf, read_profile(), tmp_path) as second:
        pass
    assert second.run_id != first.run_id


CARD = {"epoch": 3, "val": {"accuracy": 0.9}}
ROWS = [{"epoch": epoch, "train/loss": 0.5**epoch} for epoch in (1, 2, 3)]


def losses(client: "MlflowClient", run_id: str) -> list[tuple[int, float]]:
    history = client.get_metric_history(run_id, "train/loss")
    return sorted((metric.step, metric.value) for metric in history)


def test_a_server_that_dies_in_training_gets_everything_when_it_is_back(
    in_pipeline: None,
    tracking_server: TrackingServer,
    conf: config.ModelConf,
    curves: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server.address)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_BATCHES", -1)  # each epoch is sent at once
    folder = Path(".checkpoints") / conf.name / "digest"
    with training.training_run(conf, read_profile(), folder) as run:
        run.log(ROWS[0])
        tracking_server.stop()
        for row in ROWS[1:]:
            run.log(row)
        run.finish(CARD, Path("models") / MODEL, curves)
    warning = capsys.readouterr().err
    assert warning.count("no answer from the MLflow store") == 1
    assert "the training goes on" in warning and "`make register`" in warning
    assert training.has_unsent(conf.name)

    tracking_server.start()
    client = store.client()
    assert losses(client, run.run_id) == [(1, 0.5)]
    training.send_unsent(client, conf.name)
    assert not training.has_unsent(conf.name)
    assert losses(client, run.run_id) == [(1, 0.5), (2, 0.25), (3, 0.125)]
    done = client.get_run(run.run_id)
    assert done.info.status == "FINISHED" and done.data.metrics["best/accuracy"] == 0.9
    assert done.data.tags["digest"] == files.folder_digest(Path("models") / MODEL)


def test_what_another_store_has_to_get_is_kept(
    client: "MlflowClient", conf: config.ModelConf, curves: Path
) -> None:
    with training.training_run(
        conf, read_profile(), Path(".checkpoints") / conf.name / "digest"
    ) as run:
        pass
    path = Path(".checkpoints") / conf.name / training.UNSENT.format(run=run.run_id)
    files.write_json(path, {"uri": "http://elsewhere", "run": run.run_id})
    training.send_unsent(client, conf.name)
    assert path.is_file()


def test_a_run_whose_process_was_killed_is_closed_by_the_next_training(
    client: "MlflowClient", conf: config.ModelConf, tmp_path: Path
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with training.training_run(conf, read_profile(), tmp_path / "a") as killed:
        pass
    with training.training_run(conf, read_profile(), tmp_path / "b") as running:
        pass
    client.set_tag(killed.run_id, "pid", str(ended.pid))
    with training.training_run(conf, read_profile(), tmp_path / "c"):
        pass
    assert client.get_run(killed.run_id).info.status == "KILLED"
    assert client.get_run(running.run_id).info.status == "RUNNING"  # that process is this one


@pytest.mark.parametrize("same_pipeline", [True, False])
def test_a_training_that_repeats_a_run_exactly_takes_it_over(
    client: "MlflowClient",
    conf: config.ModelConf,
    curves: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    same_pipeline: bool,
) -> None:
    """A kill between the end of a training and DVC's note of it makes DVC train again."""
    monkeypatch.setenv("DVC_STAGE", f"train@{MODEL}")
    monkeypatch.setattr(runs, "made_by", lambda *_: ([], "make train"))
    ids = []
    for number in (1, 2):
        if number == 2 and not same_pipeline:
            monkeypatch.setattr(runs, "pipeline", lambda commit: "another")
        with training.training_run(conf, read_profile(), tmp_path / str(number)) as run:
            run.finish(CARD, Path("models") / MODEL, curves)
        ids.append(run.run_id)
    stages = [client.get_run(run_id).info.lifecycle_stage for run_id in ids]
    assert stages == ["active", "deleted" if same_pipeline else "active"]
