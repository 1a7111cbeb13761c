"""What a run and a packed model carry, and a store that is missing, held by another program, or gone."""

import http.server
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import ROOT, Clone

from sextant import config, errors, files, register, tracking
from sextant.errors import SextantError

pytestmark = pytest.mark.filterwarnings(
    "ignore:Operation with range is deprecated"
)  # MLflow's own, on pandas 3

MODEL = "ann"
NAME = tracking.registered_name(MODEL, "embedded")


def test_the_names_of_real_and_twin_lineages() -> None:
    assert tracking.registered_name("ann", "embedded") == "sextant-ann-twin"
    assert {tracking.registered_name("ann", source) for source in ("mirror", "canonical")} == {
        "sextant-ann"
    }
    assert tracking.lineages("ann") == ("sextant-ann", "sextant-ann-twin")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:secret@host:5000/path", "https://host:5000/path"),
        ("postgresql://user:secret@host/db", "postgresql://host/db"),
        ("sqlite:////a/folder@home/team.db", "sqlite:////a/folder@home/team.db"),
    ],
)
def test_no_password_is_written_down(uri: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking.address() == shown


# --- how to make a run again ------------------------------------------------------------------------------------------


@pytest.fixture
def committed(workspace: Path) -> str:
    """The commit of a workspace."""
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "-A"], check=True)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *who, "commit", "-qm", "as it stands"], check=True)
    return tracking._git("rev-parse", "HEAD").strip()


def edit(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert text.count(old) == 1
    Path(file).write_text(text.replace(old, new))


def test_what_is_not_the_commits_is_in_the_runs_name_and_in_the_command(committed: str) -> None:
    checkout = f"git checkout {committed[:12]} && "
    assert tracking._made_by("som", committed, by_hand=False) == (
        [],
        f"{checkout}make train MODEL=som",
    )
    edit("params.yaml", "source: embedded", "source: mirror")
    edit("conf/model/som.yaml", "sigma: 5.0 ", "sigma: 3.0 ")
    edit("conf/model/ann.yaml", "hidden_sizes: [128, 128]", "hidden_sizes: [64]")
    settings, command = tracking._made_by("som", committed, by_hand=False)
    assert settings == ["source=mirror", "net.sigma=3.0"]
    words = "dvc exp run -S source=mirror -S conf/model/som.yaml:net.sigma=3.0 train@som"
    assert command == f"{checkout}{words}  # and changes that were not committed"  # the ann's
    tracking._git("checkout", "conf/model/ann.yaml")
    assert tracking._made_by("som", committed, by_hand=False)[1] == f"{checkout}{words}"


def test_a_setting_that_came_or_went_is_a_change_that_was_not_committed(committed: str) -> None:
    edit("conf/model/som.yaml", "  rows: 10\n", "  rows: 11\n  depth: 2\n")
    settings, command = tracking._made_by("som", committed, by_hand=False)
    assert settings == ["net.rows=11"] and command.endswith(
        " train@som  # and changes that were not committed"
    )
    Path("conf/model/map.yaml").write_text("task: mapping\n")
    settings, command = tracking._made_by("map", committed, by_hand=False)
    assert settings == [] and command.endswith(
        "&& make train MODEL=map  # and changes that were not committed"
    )


def test_a_training_by_hand_is_told_by_its_words(
    committed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["train.py", "budget=smoke", "model=ann", "model.net.hidden_sizes=[8, 8]"]
    )
    settings, command = tracking._made_by("ann", committed, by_hand=True)
    assert settings == ["budget=smoke", "net.hidden_sizes=[8, 8]"]
    words = "python -m sextant train model=ann budget=smoke 'model.net.hidden_sizes=[8, 8]'"
    assert command == f"git checkout {committed[:12]} && {words}"


# --- what the chain's run carries -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the chain's database; what it says of the chain's files stays true."""
    return chain.copy_registry(tmp_path_factory.mktemp("store") / "mlflow.db")


@pytest.fixture
def client(chain: Clone, store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(chain.path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    return tracking.client()


@pytest.fixture
def run(client: Any) -> Any:
    (found,) = client.search_runs([client.get_experiment_by_name(NAME).experiment_id])
    return found


@pytest.mark.slow
def test_tags_and_parameters_say_how_the_run_was_made(chain: Clone, run: Any) -> None:
    conf = config.model(MODEL)
    tags = run.data.tags
    assert (tags["model"], tags["family"], tags["task"], tags["source"]) == (
        MODEL,
        "ann",
        conf.task,
        "embedded",
    )
    assert tags["scratch"] == "false" and "experiment" not in tags
    trained_at = tags["mlflow.source.git.commit"]
    assert chain.run("git", "cat-file", "-t", trained_at).stdout == "commit\n"
    assert tags["reproduce"] == f"git checkout {trained_at[:12]} && make train MODEL={MODEL}"
    assert tags["reproduce"].replace(" && ", "\n") in tags[tracking.NOTE]
    assert run.info.run_name == f"{MODEL} {trained_at[:7]}"
    assert tags["dirty"] == "false"  # what DVC itself writes does not count
    assert tags["digest"] == files.folder_digest(Path("models") / MODEL)
    assert len(tags["pipeline"]) == 12
    params = run.data.params
    assert (params["seed"], params["budget"], params["source"]) == (
        str(conf.seed),
        "smoke",
        "embedded",
    )
    for block in ("net", "optimizer", "schedule"):
        assert {f"{block}.{key}" for key in getattr(conf, block)} <= set(params)
    assert params["optimizer.lr"] == str(conf.optimizer["lr"])


@pytest.mark.slow
def test_the_data_set_is_an_input(run: Any) -> None:
    (data,) = run.inputs.dataset_inputs
    profile = json.loads(Path("data/prepared/churn/profile.json").read_text())
    assert len(data.dataset.digest) == 36 and profile["digest"].startswith(data.dataset.digest)
    assert (data.dataset.name, data.dataset.source_type) == (
        "churn",
        "local",
    )  # a type whose `uri` the pages show
    source = json.loads(data.dataset.source)
    assert (source["source"], source["digest"]) == (
        "embedded",
        profile["digest"],
    ) and "twin" in source["uri"]
    assert json.loads(data.dataset.profile)["rows"] == profile["rows"]


@pytest.mark.slow
def test_metrics_lie_on_one_axis_of_epochs_and_the_best_are_told(client: Any, run: Any) -> None:
    curves = pd.read_csv(f"reports/curves/{MODEL}.csv")
    for name in curves.columns.drop("epoch"):
        points = {
            metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)
        }
        assert points == pytest.approx(dict(zip(curves["epoch"], curves[name], strict=True)))
    card = json.loads(Path(f"models/{MODEL}/model.json").read_text())
    metrics = json.loads(Path(f"reports/metrics/{MODEL}.json").read_text())
    found = run.data.metrics
    assert found["best/epoch"] == card["epoch"]
    assert {key: found[f"best/{key}"] for key in card["val"]} == pytest.approx(card["val"])
    assert {key: found[f"test/{key}"] for key in metrics["test"]} == pytest.approx(metrics["test"])
    for baseline, scores in metrics["baselines"].items():
        assert {key: found[f"vs/{key}/{baseline}"] for key in scores} == pytest.approx(scores)
    assert [found["test/interval_low"], found["test/interval_high"]] == pytest.approx(
        metrics["interval"]
    )
    gain = [found[f"vs/gain{end}"] for end in ("", "_low", "_high")]
    assert gain == pytest.approx(metrics["better"])
    legend = client.get_experiment(run.info.experiment_id).tags[tracking.NOTE]
    assert [name for name in found if f"`{name.split('/')[0]}/`" not in legend] == []


@pytest.mark.slow
def test_configuration_curves_figures_and_tables_are_artifacts(client: Any, run: Any) -> None:
    assert {"curves.csv", "config.yaml", "metrics.json", "figures", "tables"} <= {
        one.path for one in client.list_artifacts(run.info.run_id)
    }
    whole = yaml.safe_load(
        Path(client.download_artifacts(run.info.run_id, "config.yaml")).read_text()
    )
    assert whole == config.model(MODEL).model_dump()
    logged = {
        one.path
        for kind in ("figures", "tables")
        for one in client.list_artifacts(run.info.run_id, kind)
    }
    drawn = {f"figures/{path.name}" for path in Path(f"reports/figures/{MODEL}").iterdir()}
    told = {
        f"tables/{name}.json"
        for name in json.loads(Path(f"reports/tables/{MODEL}.json").read_text())
    }
    assert logged == drawn | told and drawn and told
    shown = json.loads(
        run.data.tags["mlflow.loggedArtifacts"]
    )  # which of the JSON files are tables
    assert {one["path"] for one in shown} == told


# --- what the registered model carries --------------------------------------------------------------------------------


@pytest.fixture
def packed(client: Any) -> Path:
    return Path(client.get_model_version_download_uri(NAME, "1").removeprefix("file://"))


@pytest.mark.slow
def test_no_pickle_is_packed(packed: Path) -> None:
    names = [path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file()]
    endings = {Path(name).suffix for name in names if name.startswith("data/")}
    assert endings == {".safetensors", ".json"}
    assert not [
        name
        for name in names
        if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"))
    ]
    flavor = yaml.safe_load((packed / "MLmodel").read_text())["flavors"]["python_function"]
    assert flavor["loader_module"] == "sextant.saved" and flavor["data"] == f"data/{MODEL}"
    assert "python_model" not in flavor and (packed / flavor["code"] / "sextant/saved.py").is_file()
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.mark.slow
def test_no_bytecode_is_packed(client: Any, tmp_path: Path) -> None:
    """What a champion's own code leaves beside it when it answers comes later."""
    candidate = register.Candidate(MODEL)
    tracking.pack(tmp_path / "packed", None, candidate.folder, *register._interface(candidate))
    names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert "saved.py" in names and not [name for name in names if name.endswith(".pyc")]


@pytest.mark.slow
def test_the_signature_names_the_columns_asked_and_answered(packed: Path) -> None:
    signature = yaml.safe_load((packed / "MLmodel").read_text())["signature"]
    columns = config.dataset("churn").columns
    asked, answered = (json.loads(signature[side]) for side in ("inputs", "outputs"))
    assert [one["name"] for one in asked] == columns.features
    assert {one["name"] for one in asked if one["type"] == "double"} == set(columns.numeric)
    assert all(one["required"] for one in asked)
    assert [(one["name"], one["type"]) for one in answered] == [
        ("prediction", "long"),
        ("probability", "double"),
    ]


@pytest.mark.slow
def test_the_input_example_is_nobody(packed: Path) -> None:
    example = json.loads((packed / "input_example.json").read_text())
    rows = pd.DataFrame(example["data"], columns=example["columns"])
    assert len(rows) >= 2  # one row alone would freeze the batch size of an exported model
    assert list(rows.columns) == config.dataset("churn").columns.features
    twin = pd.read_csv("data/raw/churn/Churn_Modelling.csv")
    assert json.loads(Path("data/raw/churn/source.json").read_text())["source"] == "embedded"
    pd.testing.assert_frame_equal(rows, twin[list(rows.columns)].head(len(rows)), check_dtype=False)


@pytest.mark.slow
def test_requirements_are_pinned_to_what_is_installed(packed: Path) -> None:
    lines = (packed / "requirements.txt").read_text().split()
    pinned = dict(line.split("==") for line in lines)
    assert pinned.keys() == {"mlflow", *tracking.REQUIREMENTS}
    assert pinned["torch"] == installed("torch").split("+")[0]


@pytest.mark.slow
def test_the_model_card_says_what_it_is_and_is_not(client: Any) -> None:
    version = client.get_model_version(NAME, "1")
    card, metrics = (
        version.description,
        json.loads(Path(f"reports/metrics/{MODEL}.json").read_text()),
    )
    assert card.startswith("Gate: promoted. accuracy ")
    assert "its generated twin, so these numbers say nothing of real data" in card
    for name, scores in [("this model", metrics["test"]), *metrics["baselines"].items()]:
        assert (
            f"| {name} | {' | '.join(f'&emsp;{value:.4f}' for value in scores.values())} |" in card
        )
    assert "seed 42, budget smoke" in card and "the gate part is read by the gate alone" in card
    assert len(card) <= 5000  # the column of MLflow's database
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": "1"}]
    tags = version.tags
    assert (
        tags["digest"] == files.folder_digest(Path("models") / MODEL) and tags["dataset"] == "churn"
    )
    decision = json.loads(tags["decision"])
    assert decision["decision"] == "promoted" and decision["gate_rows"] > 500
    assert float(tags[f"gate.{decision['metric']}"]) == pytest.approx(
        decision["challenger"], abs=1e-6
    )
    assert "champion_since" in tags and "champion_until" not in tags


# --- a run across a kill ----------------------------------------------------------------------------------------------


@pytest.fixture
def another(client: Any, tmp_path: Path) -> tuple[config.ModelConf, dict[str, Any]]:
    """The conf of a model with an experiment of its own, so that its files come to the copied database's side."""
    profile = json.loads(Path("data/prepared/churn/profile.json").read_text())
    return config.model(MODEL).model_copy(
        update={"name": tmp_path.name.replace("_", "")[:40]}
    ), profile


@pytest.mark.slow
def test_a_resumed_training_goes_on_in_its_run_and_loses_no_epoch(
    client: Any, another: tuple[config.ModelConf, dict[str, Any]], tmp_path: Path
) -> None:
    conf, profile = another
    curves = tmp_path / "curves.csv"
    curves.write_text("epoch,train/loss\n1,0.5\n2,0.25\n3,0.125\n")
    with pytest.raises(KeyboardInterrupt), tracking.training_run(conf, profile, tmp_path) as first:
        first.log({"epoch": 1, "train/loss": 0.5})
        first.flush()
        first.log({"epoch": 2, "train/loss": 0.25})  # waits to be sent, and is killed
        raise KeyboardInterrupt
    assert client.get_run(first.run_id).info.status == "FAILED"
    with tracking.training_run(conf, profile, tmp_path) as second:
        second.log({"epoch": 3, "train/loss": 0.125})
        second.finish({"epoch": 3, "val": {"accuracy": 0.9}}, Path("models") / MODEL, curves)
    assert second.run_id == first.run_id
    done = client.get_run(first.run_id)
    assert done.info.status == "FINISHED" and done.data.metrics["best/accuracy"] == 0.9
    points = sorted(
        (m.step, m.value) for m in client.get_metric_history(first.run_id, "train/loss")
    )
    assert points == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert done.data.tags["scratch"] == "true"  # by hand: no DVC_STAGE

    client.delete_run(first.run_id)  # as a store that was lost in between
    with tracking.training_run(conf, profile, tmp_path) as third:
        pass
    assert third.run_id != first.run_id


# --- the store itself -------------------------------------------------------------------------------------------------


TOUCH = "from sextant import tracking; tracking.client(); print('there')"


@pytest.mark.slow
def test_first_touches_at_once_and_one_that_is_killed_leave_a_whole_database(
    tmp_path: Path, process: Callable[..., subprocess.Popen[str]]
) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    how: dict[str, Any] = {
        "cwd": tmp_path,
        "env": env,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    killed = process(sys.executable, "-c", TOUCH, **how)
    wait(
        lambda: (
            any(path.stat().st_size for path in tmp_path.glob(".mlflow.db.*.part"))
            or killed.poll() is not None
        )
    )
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "mlflow.db").exists()
    both = [process(sys.executable, "-c", TOUCH, **how) for _ in range(2)]
    for one in both:
        out, err = one.communicate()
        assert (one.returncode, out) == (0, "there\n"), err
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM experiments").fetchone() == (1,)


def wait(until: Callable[[], bool], patience: float = 60) -> None:
    end = time.monotonic() + patience
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def held(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[sqlite3.Connection]:
    """The database of an empty checkout, which another program holds for itself alone."""
    shutil.copy(store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "PATIENCE", 0.3)
    monkeypatch.setattr(tracking._check_unlocked, "__defaults__", (0.3,))
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield other


@pytest.mark.slow
def test_a_database_that_is_held_is_waited_for_and_then_named(held: sqlite3.Connection) -> None:
    questions: list[Callable[[], Any]] = [
        tracking.client,
        tracking.moved_from,
        tracking.relocate,
        lambda: tracking.holds(NAME, "0" * 64),
    ]
    for ask in questions:
        with pytest.raises(
            SextantError,
            match=r"mlflow.db cannot be written to \(database is locked\); end the program",
        ):
            ask()
    held.rollback()
    assert tracking.moved_from() is not None  # a copy of the chain's database
    assert tracking.client()


@pytest.mark.parametrize("content", [b"", b"id,metric\n1,0.5\n" * 200])
def test_a_file_that_is_no_database_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mlflow.db").write_bytes(content)
    if not content:  # what sqlite makes before the first table
        assert tracking.moved_from() is None and not tracking.holds(NAME, "0" * 64)
        return
    for ask in (tracking.client, tracking.moved_from):
        with pytest.raises(
            SextantError,
            match="mlflow.db is no database; move it away, then `make register` makes one",
        ):
            ask()
    assert Path("mlflow.db").read_bytes() == content


@pytest.mark.slow
def test_a_database_of_a_newer_mlflow_is_left_alone(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(store, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'of_tomorrow'")
    before = files.sha256(tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SextantError, match="written by another version than the installed 3.*`make setup`"
    ):
        tracking.client()
    assert files.sha256(tmp_path / "mlflow.db") == before


@pytest.mark.slow
def test_a_server_that_is_not_there_is_named(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(SextantError) as met:
        tracking.client()
    assert str(met.value) == (
        "no answer from the MLflow store http://127.0.0.1:9 (Connection refused);"
        " start the server, or correct MLFLOW_TRACKING_URI"
    )


@pytest.mark.slow
def test_a_server_that_has_no_answer_is_asked_three_times_at_first(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not eight times, over MLflow's four minutes."""
    asked: list[str] = []

    class Busy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        do_POST = do_GET

        def log_message(self, *words: object) -> None:
            """Not to the output of the tests."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(SextantError, match="no answer from the MLflow store"):
            tracking.client()
        server.shutdown()
    assert len(asked) == 3 and len(set(asked)) == 1
    assert (
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    )  # later questions keep MLflow's patience


@pytest.mark.parametrize("uri", ["postgresql://u:secret@host/db", "mlruns", "nonsense://x"])
def test_a_store_that_cannot_be_spoken_to_is_named(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(
        SextantError, match="no answer from the MLflow store .*; start the server, or correct"
    ) as met:
        tracking.client()
    assert "secret" not in str(met.value) and "\n" not in str(met.value)


@pytest.mark.slow
def test_a_server_that_stumbles_does_not_pass_for_an_empty_one(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    def stumble(*_: Any, **__: Any) -> Any:
        raise MlflowException("503: try again")

    assert (
        tracking.versions(client, "sextant-nobody") == []
        and tracking.champion(client, "sextant-nobody") is None
    )
    monkeypatch.setattr(client, "get_registered_model", stumble)
    for call in (tracking.versions, tracking.champion, tracking.reigns):
        with pytest.raises(MlflowException, match="503"):
            call(client, NAME)


def test_a_database_that_fails_under_way_is_one_line_without_the_statement() -> None:
    from mlflow.exceptions import MlflowException

    for why in ("database is locked", "disk I/O error", "database or disk is full"):
        error = MlflowException(
            f"(sqlite3.OperationalError) {why}\n[SQL: INSERT INTO metrics (key) VALUES (?)]\n(e3q8)"
        )
        line = errors.one_line(error)
        assert (
            line.startswith(f"the MLflow database refused ({why}); `make doctor` says")
            and "INSERT" not in line
        )
