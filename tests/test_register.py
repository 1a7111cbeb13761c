"""Stage register: one decision per model, after crashes, in other clones and with other code."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cases
import pandas as pd
import pytest
import yaml
from builders import untrained_model
from conftest import Clone, forked_script
from servers import TrackingServer
from versions import MODEL, NAME, Versions, champion, crash, runs, state, without_judging

from sextant import config, files, register, saved_model
from sextant.commands import rollback
from sextant.errors import SextantError, UsageError
from sextant.gate import Candidate
from sextant.tracking import promotions, registry, store, training

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


# --- the interface ------------------------------------------------------------------------------


def test_an_option_is_a_flag_a_number_or_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = untrained_model()
    saved_model.save(tmp_path / "model", model.card, model.net, model.encoder)
    options = {"samples": 5, "temperature": 0.7, "mode": "greedy", "sorted": False}
    monkeypatch.setattr(model.task.metrics, "OPTIONS", options, raising=False)
    monkeypatch.setattr(register, "_example", lambda _, model: model.encoder.example())
    candidate: Any = SimpleNamespace(folder=tmp_path / "model")
    example, (inputs, answers, specs) = register._interface(candidate)
    assert inputs[0] == ("id", "string", False)
    assert [name for name, _, _ in inputs[1:]] == list(example.columns)
    assert answers == [
        ("prediction", "string", True),
        ("probability", "double", True),
        ("positive", "string", True),
        ("warnings", "string", True),
    ]
    assert specs == [
        ("details", "boolean", False),
        ("explain", "boolean", False),
        ("samples", "long", 5),
        ("temperature", "double", 0.7),
        ("mode", "string", "greedy"),
        ("sorted", "boolean", False),
    ]


def test_the_example_of_a_data_set_without_a_twin_has_a_key_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(config, "dataset", lambda name: SimpleNamespace(twin=None))
    model = untrained_model()
    candidate: Any = SimpleNamespace(conf=SimpleNamespace(dataset="animals"))
    example = register._example(candidate, model)
    assert example["id"].tolist() == ["1", "2", "3"]
    pd.testing.assert_frame_equal(example.drop(columns="id"), model.encoder.example())
    assert model.predict(example)["id"].tolist() == ["1", "2", "3"]


# --- decisions ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_version_is_judged_once_against_its_predecessor(versions: Versions) -> None:
    first, second, third = versions.records
    for number, record in enumerate(versions.records, start=1):
        assert record["version"] == str(number)
        assert record["decision"] == "promoted" and record["champion"]
    assert first["against"] is None and first["champion_score"] is None
    assert "no champion" in first["reason"]
    assert (second["against"], third["against"]) == ("1", "2")
    # Each champion answers with the transforms that it was packed with, so its score is as before.
    assert second["champion_score"] == first["challenger"]
    assert third["champion_score"] == second["challenger"]
    assert first["baseline"] < first["challenger"] < second["challenger"] < third["challenger"]


@pytest.mark.slow
def test_a_repeated_call_gives_the_first_decision_and_changes_nothing(versions: Versions) -> None:
    versions.set_back("3")
    rollback.roll_back(MODEL)
    before = state()
    assert before.champion == "2"
    for version, first in zip("123", versions.records, strict=True):
        candidate = versions.candidate(version)
        record = without_judging(lambda candidate=candidate: register.register(candidate))
        assert record == first | {"champion": version == "2"}
    assert state() == before


@pytest.mark.slow
def test_of_two_versions_of_one_digest_the_first_decision_counts(versions: Versions) -> None:
    client = versions.set_back("3")
    third = client.get_model_version(NAME, "3")
    tags = {"digest": third.tags["digest"]}
    client.create_model_version(NAME, third.source, third.run_id, tags=tags)
    candidate = versions.candidate("3")
    record = without_judging(lambda: register.register(candidate))
    assert (record["version"], record["champion"]) == ("3", True)


@pytest.mark.slow
def test_a_champion_that_cannot_answer_is_reported_and_the_trivial_baseline_decides(
    versions: Versions,
) -> None:
    client = versions.set_back("1")
    code = packed_folder(client, "1") / "code/sextant/saved_model.py"
    original = code.read_text()
    code.write_text("raise RuntimeError('this code is too old')\n")
    try:
        record = register.register(versions.candidate("2"))
    finally:
        code.write_text(original)
    assert record["against"] == "1" and record["champion_score"] is None
    trouble = "champion version 1 cannot answer (RuntimeError: this code is too old)"
    assert trouble in record["reason"]
    assert record["decision"] == "promoted" and "beats the trivial baseline" in record["reason"]


def packed_folder(client: "MlflowClient", version: str) -> Path:
    uri = str(client.get_model_version_download_uri(NAME, version))
    return Path(uri.removeprefix("file://"))


@pytest.mark.slow
def test_another_data_set_under_a_registered_name_is_refused(versions: Versions) -> None:
    client = versions.set_back("2")
    client.set_registered_model_tag(NAME, "dataset", "mushrooms")
    before = state()
    candidate = versions.candidate("3")
    message = "registered for data set `mushrooms`, not for `churn`.*another name"
    for call in (register.register, register.dry_run):
        with pytest.raises(SextantError, match=message):
            call(candidate)
    assert state() == before


# --- an edited gate -----------------------------------------------------------------------------


def with_gate(versions: Versions, version: str, **changes: object) -> Candidate:
    """The candidate of a version, with another gate."""
    candidate = versions.candidate(version)
    candidate.gate = candidate.gate.model_copy(update=changes)
    return candidate


@pytest.mark.slow
def test_a_refused_version_is_judged_again_when_the_gate_was_edited(versions: Versions) -> None:
    versions.set_back("2")
    strict = with_gate(versions, "3", guards=["accuracy >= 1.0"])
    refused = register.register(strict)
    assert refused["decision"] == "not promoted" and champion() == "2"
    assert without_judging(lambda: register.register(strict)) == refused
    record = register.register(versions.candidate("3"))
    assert (record["decision"], record["version"]) == ("promoted", refused["version"])
    assert champion() == record["version"]
    assert (
        "judged again, because the gate was edited (guards: `accuracy >= 1.0`" in record["reason"]
    )
    repeated = without_judging(lambda: register.register(versions.candidate("3")))
    assert repeated == record


@pytest.mark.slow
def test_the_gate_can_compare_another_metric(versions: Versions) -> None:
    versions.set_back("2")
    record = register.register(with_gate(versions, "3", metric="log_loss"))
    assert record["metric"] == "log_loss"
    assert record["challenger"] < record["champion_score"] < record["baseline"]


@pytest.mark.slow
def test_a_rollback_stands_when_the_gate_was_edited(versions: Versions) -> None:
    versions.set_back("3")
    rollback.roll_back(MODEL)
    record = register.register(with_gate(versions, "3", margin=0.0))
    assert record["decision"] == "promoted" and not record["champion"]
    assert f"only `make promote MODEL={MODEL} VERSION=3` brings it back" in record["reason"]
    assert champion() == "2"


@pytest.mark.slow
def test_a_champion_that_a_stricter_gate_refuses_stays_until_a_person_moves_it(
    versions: Versions,
) -> None:
    versions.set_back("3")
    record = register.register(with_gate(versions, "3", margin=0.9))
    assert record["decision"] == "not promoted" and record["champion"]
    assert record["against"] == "2"  # which it had to beat when it was new
    assert f"stays champion until `make rollback MODEL={MODEL}`" in record["reason"]
    assert champion() == "3"


@pytest.mark.slow
def test_a_crash_while_a_version_is_judged_again_is_completed(versions: Versions) -> None:
    versions.set_back("2")
    register.register(with_gate(versions, "3", guards=["accuracy >= 1.0"]))
    candidate = versions.candidate("3")
    crash(promotions, "set_champion", lambda: register.register(candidate))
    record = without_judging(lambda: register.register(candidate))
    assert record["decision"] == "promoted" and champion() == record["version"]


# --- crashes ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "version", "tags", "expected"),
    [
        ("1 unjudged", "1", set(), None),
        ("2 pending", "2", {"pending"}, "1"),
        ("3 champion", "3", {"pending"}, "3"),
    ],
)
def test_a_crash_leaves_a_version_without_a_decision(
    versions: Versions, name: str, version: str, tags: set[str], expected: str | None
) -> None:
    versions.set_back(name)
    assert set(state().tags[version]) & {"decision", "pending"} == tags
    assert champion() == expected


@pytest.mark.slow
def test_the_call_after_a_crash_completes_the_decision(versions: Versions) -> None:
    versions.set_back("3")
    tags = state().tags
    for version in ("1", "2", "3"):
        assert "decision" in tags[version] and "pending" not in tags[version]
    for version in ("1", "2"):
        assert tags[version]["champion_since"] < tags[version]["champion_until"]
    assert "champion_until" not in tags["3"]


@pytest.mark.slow
def test_a_pending_decision_is_made_again_if_its_champion_is_gone(versions: Versions) -> None:
    client = versions.set_back("2 pending")
    client.delete_registered_model_alias(NAME, registry.CHAMPION)
    record = register.register(versions.candidate("2"))
    assert record["against"] is None and record["decision"] == "promoted"
    assert champion() == "2"


@pytest.mark.slow
def test_a_rollback_between_a_crash_and_the_next_call_stays(versions: Versions) -> None:
    versions.set_back("3 champion")
    rollback.roll_back(MODEL)
    candidate = versions.candidate("3")
    record = without_judging(lambda: register.register(candidate))
    assert record["decision"] == "promoted" and record["champion"] is False
    assert champion() == "2"


# --- the command line ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [False, True])
def test_by_hand_and_in_an_experiment_nothing_is_registered(
    versions: Versions,
    experiment: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = versions.set_back("1 unjudged")
    versions.candidate("2")
    shutil.rmtree("reports/registry", ignore_errors=True)
    if experiment:
        monkeypatch.setenv("DVC_STAGE", f"register@{MODEL}")
        monkeypatch.setenv("DVC_EXP_NAME", "a-trial")
    before = state()
    number = len(runs(client))
    register.main([f"model={MODEL}"])
    assert f"{MODEL}: would be promoted: " in capsys.readouterr().out
    assert state() == before and not Path("reports/decisions").exists()
    # Only an experiment has a receipt, which DVC expects, and a run.
    assert Path(f"reports/registry/{MODEL}.json").is_file() == experiment
    assert len(runs(client)) == number + experiment


@pytest.mark.slow
def test_models_that_are_all_judged_are_reported_without_importing_mlflow(
    versions: Versions,
) -> None:
    client = versions.set_back("3")
    versions.candidate("3")
    register.main(["--write"])
    client.set_registered_model_alias(NAME, registry.CHAMPION, "2")
    script = (
        "import sys; from sextant import register; register.main(['--write']);"
        " print('mlflow' in sys.modules)"
    )
    decision, imported = versions.clone.run(sys.executable, "-c", script).stdout.splitlines()
    assert imported == "False"
    assert f"({NAME} version 3):" in decision  # no longer the champion
    assert not files.read_json(Path(f"reports/decisions/{MODEL}.json"))["champion"]


@pytest.mark.slow
def test_runs_that_a_kill_left_open_are_closed_although_all_is_judged(versions: Versions) -> None:
    client = versions.set_back("3")
    versions.candidate("3")
    register.main(["--write"])
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    tags = training.this_process() | {"pid": str(ended.pid)}
    killed, packed = (
        client.create_run(experiment.experiment_id, tags=tags | further).info.run_id
        for further in ({}, {"digest": "1"})
    )
    assert training.has_running(NAME)
    register.main(["--write"])
    assert not training.has_running(NAME)
    assert client.get_run(killed).info.status == "KILLED"
    assert client.get_run(packed).info.status == "FINISHED"


@pytest.mark.slow
def test_lost_files_of_a_version_are_written_again(
    versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    client = versions.set_back("3")
    versions.candidate("3")
    register.main(["--write"])
    packed = packed_folder(client, "3")
    before = state()
    shutil.rmtree(packed)
    register.main(["--write"])
    message = f"the files of {NAME} version 3 were lost; they are written again"
    assert message in capsys.readouterr().out
    model = Path("models") / MODEL
    assert files.folder_digest(packed / "data" / MODEL) == files.folder_digest(model)
    assert state() == before


@cases.each("arguments", [["promote"], ["--write", "--write"], ["version=1"], ["--write", "lr=1"]])
def test_other_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="is not understood; expected"):
        register.main(arguments)


# --- other clones -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_registry_of_a_copied_clone_names_its_own_files(
    versions: Versions, pipeline: Clone
) -> None:
    with closing(sqlite3.connect(versions.database("1"))) as database:
        dump = "\n".join(database.iterdump())
    assert f"{versions.clone.path}/mlruns/{NAME}" in dump
    assert f"{pipeline.path}/mlruns/{NAME}" not in dump


@pytest.fixture
def clone_without_registry(versions: Versions, tmp_path: Path) -> Clone:
    """The outputs of the best model as another clone has them after `dvc pull`."""
    versions.candidate("3")
    path = tmp_path / "clone"
    ignored = shutil.ignore_patterns("mlflow.db*", "mlruns", ".dvc", ".scratch")
    shutil.copytree(versions.clone.path, path, symlinks=True, ignore=ignored)
    for output in ("registry", "decisions"):
        shutil.rmtree(path / "reports" / output, ignore_errors=True)
    (path / "reports/decisions.js").unlink(missing_ok=True)
    return Clone(path)


@pytest.mark.slow
def test_a_lost_database_is_made_again_from_the_outputs(
    clone_without_registry: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = clone_without_registry.stage("register", "--write").stdout
    assert printed.startswith(f"{MODEL}: promoted ({NAME} version 1, champion): ")
    monkeypatch.chdir(clone_without_registry.path)
    client = store.client()
    (version,) = registry.versions(client, NAME)
    assert version.champion and version.decision and version.decision["decision"] == "promoted"
    (run,) = runs(client)
    assert client.get_model_version(NAME, "1").run_id == run.info.run_id
    assert run.data.tags["restored"] == "true" and run.data.tags["scratch"] == "false"
    assert f"&& make train MODEL={MODEL}" in run.data.tags["reproduce"]
    epochs = len(Path(f"reports/curves/{MODEL}.csv").read_text().splitlines()) - 1
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == epochs > 1
    assert {"best/accuracy", "test/accuracy", "vs/accuracy/majority"} <= set(run.data.metrics)


@pytest.mark.slow
def test_a_second_clone_on_one_server_repeats_the_first_decision(
    versions: Versions,
    clone_without_registry: Clone,
    tracking_server: TrackingServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    server = tracking_server.address
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    first = register.register(versions.candidate("3"))
    assert (first["version"], first["decision"], first["champion"]) == ("1", "promoted", True)
    before = state()
    second = clone_without_registry.stage("register", "--write", MLFLOW_TRACKING_URI=server)
    line = f"{MODEL}: promoted ({NAME} version 1, champion): {first['reason']}"
    assert line in second.stdout
    assert state() == before

    # A model is downloaded to a folder that is gone when the process ends.
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    script = (
        f"import tempfile; tempfile.tempdir = {str(downloads)!r};"
        " from sextant.tracking import packing;"
        f" print(*packing.folder_of('models:/{NAME}/1').glob('data/*/*'))"
    )
    done = clone_without_registry.run(*forked_script(script), MLFLOW_TRACKING_URI=server)
    names = {Path(path).name for path in done.stdout.split()}
    assert names == {"model.json", "model.safetensors"}
    assert list(downloads.iterdir()) == []


@pytest.mark.slow
def test_processes_that_register_at_once_make_one_version(clone_without_registry: Clone) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(clone_without_registry.stage, "register", "--write") for _ in range(4)]
    lines = {run.result().stdout.splitlines()[-1] for run in runs}
    assert len(lines) == 1 and f"{NAME} version " in lines.pop()
    with closing(sqlite3.connect(clone_without_registry.path / "mlflow.db")) as database:
        tags = database.execute(
            "SELECT version FROM model_versions JOIN model_version_tags USING (name, version)"
            " WHERE current_stage != 'Deleted_Internal' AND key = 'digest'"
        ).fetchall()
        aliases = database.execute("SELECT version FROM registered_model_aliases").fetchall()
    assert len(tags) == 1 and aliases == tags


@pytest.mark.slow
def test_a_version_that_came_second_is_withdrawn(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = versions.set_back("3")
    search = register._version_of_digest
    missed: list[Candidate] = []

    def late(mlflow: "MlflowClient", candidate: Candidate) -> registry.Version | None:
        if not missed:  # as if the other process had not created its version yet
            missed.append(candidate)
            return None
        return search(mlflow, candidate)

    monkeypatch.setattr(register, "_version_of_digest", late)
    record = register.register(versions.candidate("3"))
    assert record["version"] == "3" and missed
    assert [version.version for version in registry.versions(client, NAME)] == ["3", "2", "1"]


# --- other code ---------------------------------------------------------------------------------


WIDER = """

_fit = Encoder.fit.__func__


def _fit_wider(cls, rows, columns):
    encoder = _fit(cls, rows, columns)
    for name, statistics in encoder.numbers.items():
        encoder.numbers[name] = statistics._replace(std=2 * statistics.std)
    return encoder


Encoder.fit = classmethod(_fit_wider)
"""


@pytest.mark.slow
def test_a_champion_answers_with_its_packed_code_after_a_refit_and_a_renamed_argument(
    clone: Clone,
) -> None:
    before = clone.read_json(f"reports/decisions/{MODEL}.json")
    conf = clone.path / f"conf/model/{MODEL}.yaml"
    module = clone.path / f"src/sextant/families/{MODEL}.py"
    argument = next(iter(yaml.safe_load(conf.read_text())["net"]))
    for path in (module, conf):
        path.write_text(re.sub(rf"\b{argument}\b", f"{argument}_renamed", path.read_text()))
    with (clone.path / "src/sextant/kinds/tabular/encoder.py").open("a") as stream:
        stream.write(WIDER)
    clone.stage("train", f"model={MODEL}", DVC_STAGE=f"train@{MODEL}")
    card = clone.read_json(f"models/{MODEL}/model.json")
    # Evaluate would take seconds for metrics that the gate does not read.
    metrics = clone.read_json(f"reports/metrics/{MODEL}.json") | {"val": card["val"]}
    (clone.path / f"reports/metrics/{MODEL}.json").write_text(json.dumps(metrics))
    assert f"{argument}_renamed" in card["net"] and argument not in card["net"]
    (packed,) = (clone.path / f"mlruns/{NAME}/models").glob(f"*/artifacts/data/{MODEL}/model.json")
    old = json.loads(packed.read_text())["encoder"]["numbers"]
    for name, statistics in card["encoder"]["numbers"].items():
        assert statistics[1] == 2 * old[name][1]

    clone.stage("register", "--write")
    record = clone.read_json(f"reports/decisions/{MODEL}.json")
    assert (record["version"], record["against"]) == ("2", "1")
    assert record["champion_score"] is not None
    assert record["champion_score"] == before["challenger"]
    assert "cannot answer" not in record["reason"]
