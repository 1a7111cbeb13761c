"""The gate as a law, and the registry as it stands after crashes, rollbacks, lost folders and a second clone."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import FOREIGN, Clone, copied
from hypothesis import given
from hypothesis import strategies as st

from sextant import config, files, register, tracking
from sextant.errors import SextantError, UsageError

pytestmark = pytest.mark.filterwarnings(
    "ignore:Operation with range is deprecated"
)  # MLflow's own, on pandas 3

MODEL = "ann"
NAME = tracking.registered_name(MODEL, "embedded")

# --- the decision: laws -----------------------------------------------------------------------------------------------

scores = st.floats(-1, 1).map(lambda x: round(x, 6))
margins = st.floats(0, 0.5).map(lambda x: round(x, 6))
directions = st.sampled_from(["up", "down"])


def decided(
    challenger: float,
    champion: float | None,
    trivial: float,
    margin: float,
    direction: str,
    guards: tuple[str, ...] = (),
) -> tuple[bool, str]:
    rival = None if champion is None else {"score": champion}
    gate = config.Gate(margin=margin, guards=list(guards))
    return register.decide(
        {"score": challenger}, rival, {"score": trivial}, gate, "score", direction
    )


@given(scores, st.none() | scores, scores, margins, directions)
def test_a_decision_is_a_pure_function_and_says_why(
    ours: float, champion: float | None, trivial: float, margin: float, direction: str
) -> None:
    first = decided(ours, champion, trivial, margin, direction)
    assert first == decided(ours, champion, trivial, margin, direction)
    assert first[1] and "\n" not in first[1]


@given(scores, st.none() | scores, scores, margins)
def test_turning_direction_and_signs_round_changes_nothing(
    ours: float, champion: float | None, trivial: float, margin: float
) -> None:
    mirrored = decided(-ours, None if champion is None else -champion, -trivial, margin, "down")
    assert decided(ours, champion, trivial, margin, "up")[0] == mirrored[0]


@given(scores, st.none() | scores, scores, margins, directions)
def test_a_broken_guard_is_never_promoted(
    ours: float, champion: float | None, trivial: float, margin: float, direction: str
) -> None:
    for guard in (f"score <= {ours - 0.01:.6f}", f"score >= {ours + 0.01:.6f}"):
        promoted, why = decided(ours, champion, trivial, margin, direction, (guard,))
        assert not promoted and guard in why
    kept = (f"score <= {ours + 0.01:.6f}", f"score >= {ours - 0.01:.6f}")
    assert decided(ours, champion, trivial, margin, direction, kept) == decided(
        ours, champion, trivial, margin, direction
    )


@given(scores, st.none() | scores, scores, margins, directions)
def test_who_is_promoted_beats_the_trivial_baseline_and_the_champion_by_the_margin(
    ours: float, champion: float | None, trivial: float, margin: float, direction: str
) -> None:
    sign = 1 if direction == "up" else -1
    promoted, _ = decided(ours, champion, trivial, margin, direction)
    beats = sign * (ours - trivial) > 0
    if champion is None:
        assert promoted == beats  # the trivial baseline is the bar
    else:
        gain = sign * (ours - champion)
        assert promoted == (beats and gain > 0 and gain >= margin)


@given(scores, scores, st.none() | scores, scores, margins, directions)
def test_a_better_challenger_is_never_judged_worse(
    one: float, other: float, champion: float | None, trivial: float, margin: float, direction: str
) -> None:
    worse, better = sorted((one, other), reverse=direction == "down")
    assert (
        decided(worse, champion, trivial, margin, direction)[0]
        <= decided(better, champion, trivial, margin, direction)[0]
    )


@pytest.mark.parametrize("champion", [None, 0.1])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_no_number_beats_nothing(champion: float | None, direction: str) -> None:
    for guards in ((), ("score <= 1",)):
        assert not decided(float("nan"), champion, 0.0, 0.0, direction, guards)[0]


# --- the registry, with real versions ---------------------------------------------------------------------------------


class Crash(BaseException):
    """What a kill does, as far as the process itself can play it."""


class Lineage:
    """A copy of the chain whose model is registered anew in three strengths, each call cut short on its way.

    Strength comes from the spread that the encoder divides by: the further from the fitted one, the worse the answers.
    So every version has transforms of its own.
    """

    def __init__(self, clone: Clone):
        self.clone, self.home = clone, clone.path.parent
        self.stood: dict[str, Path] = {}
        self.records: list[dict[str, Any]] = []
        shutil.copytree(f"models/{MODEL}", self.home / "3")
        for number, factor in (("1", 3.0), ("2", 1.7)):
            shutil.copytree(self.home / "3", self.home / number)
            card = json.loads((self.home / number / "model.json").read_text())
            for learnt in card["encoder"]["numbers"].values():
                learnt[1] *= factor
            (self.home / number / "model.json").write_text(json.dumps(card))

    def take(self, number: str) -> register.Candidate:
        """The model of that version, in the workspace."""
        shutil.rmtree(f"models/{MODEL}")
        shutil.copytree(self.home / number, f"models/{MODEL}")
        return register.Candidate(MODEL)

    def note(self, when: str) -> None:
        self.stood[when] = self.home / f"{when}.db"
        with (
            closing(sqlite3.connect("mlflow.db")) as now,
            closing(sqlite3.connect(self.stood[when])) as kept,
        ):
            now.backup(kept)

    def back_to(self, when: str) -> Any:
        """The registry as it stood; the files of the versions stay. A client of it."""
        shutil.rmtree("reports/decisions", ignore_errors=True)
        with (
            closing(sqlite3.connect(self.stood[when])) as kept,
            closing(sqlite3.connect("mlflow.db")) as now,
        ):
            kept.backup(now)
        return tracking.client()


@pytest.fixture(scope="module")
def lineage(chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    clone = copied(chain, tmp_path_factory.mktemp("lineage") / "clone")
    with pytest.MonkeyPatch.context() as patch:
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        patch.chdir(clone.path)
        made = Lineage(clone)
        tracking.client().delete_registered_model(NAME)

        weak = made.take("1")
        crash(register, "judge", lambda: register.register(weak))
        made.note("1 unjudged")
        made.records.append(register.register(weak))
        made.note("1")

        middle = made.take("2")
        crash(tracking, "crown", lambda: register.register(middle))
        made.note("2 pending")
        made.records.append(never("judge", lambda: register.register(middle)))
        made.note("2")

        strong = made.take("3")
        crash(tracking, "tag", lambda: register.register(strong), when="decision")
        made.note("3 crowned")
        made.records.append(never("judge", lambda: register.register(strong)))
        made.note("3")
        yield made


def crash(room: Any, name: str, call: Callable[[], Any], when: str = "") -> None:
    """Make the call and end it where it comes to `room.name` (with a keyword `when`)."""
    real = getattr(room, name)

    def cut(*words: Any, **named: Any) -> Any:
        if when and when not in named:
            return real(*words, **named)
        raise Crash

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(room, name, cut)
        call()


def never(name: str, call: Callable[[], Any]) -> Any:
    """Make the call, which must not come to `register.name`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(register, name, lambda *_: pytest.fail(f"{name} was called"))
        return call()


def state() -> dict[str, Any]:
    """What the registry says: the champion, and each version's tags."""
    every = tracking.versions(tracking.client(), NAME)
    return {
        "champion": next((one.version for one in every if one.champion), None),
        "tags": {one.version: dict(one.tags) for one in every},
    }


def champion() -> str | None:
    found = state()["champion"]
    assert found is None or isinstance(found, str)
    return found


@pytest.mark.slow
def test_each_version_was_judged_once_by_the_gate(lineage: Lineage) -> None:
    first, second, third = lineage.records
    assert [record["version"] for record in lineage.records] == ["1", "2", "3"]
    assert {record["decision"] for record in lineage.records} == {"promoted"}
    assert all(record["champion"] for record in lineage.records)
    assert (
        first["against"] is None
        and "no champion" in first["reason"]
        and first["champion_score"] is None
    )
    assert (second["against"], third["against"]) == ("1", "2")
    # Each champion answered with the transforms of its own that it was packed with, to the same score as before.
    assert (
        second["champion_score"] == first["challenger"]
        and third["champion_score"] == second["challenger"]
    )
    assert first["baseline"] < first["challenger"] < second["challenger"] < third["challenger"]


@pytest.mark.slow
def test_a_version_without_a_decision_was_left_by_each_crash(lineage: Lineage) -> None:
    for when, version, left in (
        ("1 unjudged", "1", set()),
        ("2 pending", "2", {"pending"}),
        ("3 crowned", "3", {"pending"}),
    ):
        lineage.back_to(when)
        tags = state()["tags"][version]
        assert set(tags) & {"decision", "pending"} == left
        assert champion() == {"1 unjudged": None, "2 pending": "1", "3 crowned": "3"}[when]
    lineage.back_to("3")
    assert all("decision" in tags and "pending" not in tags for tags in state()["tags"].values())
    for version in ("1", "2"):
        assert (
            state()["tags"][version]["champion_since"] < state()["tags"][version]["champion_until"]
        )
    assert "champion_until" not in state()["tags"]["3"]


@pytest.mark.slow
def test_a_known_digest_repeats_its_first_decision_and_moves_nothing(lineage: Lineage) -> None:
    lineage.back_to("3")
    register.main(["rollback", f"model={MODEL}"])
    before = state()
    assert before["champion"] == "2"
    for number, first in zip("123", lineage.records, strict=True):
        again = never("judge", lambda number=number: register.register(lineage.take(number)))
        assert again == first | {"champion": number == "2"}
    assert state() == before


@pytest.mark.slow
def test_rollback_goes_back_one_champion_at_a_time(
    lineage: Lineage, capsys: pytest.CaptureFixture[str]
) -> None:
    lineage.back_to("3")
    back = ["rollback", f"model={MODEL}"]
    register.main(back)
    assert "version 2 is champion now, version 3 is not" in capsys.readouterr().out
    register.main(back)
    assert champion() == "1"
    with pytest.raises(SextantError, match="no champion before version 1; `make promote`"):
        register.main(back)
    # Back from the one that was promoted by hand to the one before it, and not to one that was rolled back long ago.
    register.main(["promote", f"model={MODEL}", "version=3"])
    register.main(back)
    assert champion() == "1"
    assert "champion_until" not in state()["tags"]["1"] and "champion_until" in state()["tags"]["3"]


@pytest.mark.slow
def test_a_champion_named_in_mlflows_own_pages_counts(lineage: Lineage) -> None:
    client = lineage.back_to("3")
    client.set_registered_model_alias(NAME, tracking.CHAMPION, "1")
    register.main(["rollback", f"model={MODEL}"])
    assert champion() == "3"


@pytest.mark.slow
def test_promote_by_hand(lineage: Lineage, capsys: pytest.CaptureFixture[str]) -> None:
    lineage.back_to("3")
    lineage.take("3")
    register.main(["--write"])
    register.main(["promote", f"model={MODEL}", "version=1"])
    assert (
        champion() == "1"
        and "version 1 is champion now, version 3 is not" in capsys.readouterr().out
    )
    record = json.loads(Path(f"reports/decisions/{MODEL}.json").read_text())
    assert record["version"] == "3" and record["champion"] is False
    assert '"champion": false' in Path("reports/decisions.js").read_text()
    before = state()
    with pytest.raises(UsageError, match="has no version 7; it has: 3, 2, 1"):
        register.main(["promote", f"model={MODEL}", "version=7"])
    with pytest.raises(
        SextantError,
        match="`digits` has no champion in sqlite:///.*champions there: ann; `make repro`",
    ):
        register.main(["rollback", "model=digits"])
    for words in (
        ["promote", "--write"],
        ["promote", "model=ann"],
        ["rollback"],
        ["version=1"],
        ["--write", "lr=1"],
    ):
        with pytest.raises(UsageError, match="is not understood; expected: "):
            register.main(words)
    assert state() == before


@pytest.mark.slow
def test_promote_by_hand_where_the_gate_has_promoted_none(lineage: Lineage) -> None:
    lineage.back_to("1 unjudged")
    register.main(["promote", f"model={MODEL}", "version=1"])
    assert champion() == "1"


@pytest.mark.slow
def test_a_pending_decision_against_a_champion_that_is_gone_is_made_again(lineage: Lineage) -> None:
    client = lineage.back_to("2 pending")
    client.delete_registered_model_alias(NAME, tracking.CHAMPION)
    record = register.register(lineage.take("2"))
    assert record["against"] is None and record["decision"] == "promoted" and champion() == "2"


@pytest.mark.slow
def test_a_rollback_between_a_crash_and_the_next_call_stands(lineage: Lineage) -> None:
    lineage.back_to("3 crowned")
    register.main(["rollback", f"model={MODEL}"])
    record = never("judge", lambda: register.register(lineage.take("3")))
    assert record["decision"] == "promoted" and record["champion"] is False and champion() == "2"


@pytest.mark.slow
def test_of_two_versions_of_one_digest_the_first_decision_counts(lineage: Lineage) -> None:
    client = lineage.back_to("3")
    twice = client.get_model_version(NAME, "3")
    client.create_model_version(
        NAME, twice.source, twice.run_id, tags={"digest": twice.tags["digest"]}
    )
    record = never("judge", lambda: register.register(lineage.take("3")))
    assert (record["version"], record["champion"]) == ("3", True)


@pytest.mark.slow
def test_a_champion_that_cannot_answer_is_a_reason_and_the_trivial_baseline_the_bar(
    lineage: Lineage,
) -> None:
    client = lineage.back_to("1")
    packed = Path(client.get_model_version_download_uri(NAME, "1").removeprefix("file://"))
    code = packed / "code/sextant/saved.py"
    whole = code.read_text()
    code.write_text("raise RuntimeError('this code is too old')\n")
    try:
        record = register.register(lineage.take("2"))
    finally:
        code.write_text(whole)
    assert record["against"] == "1" and record["champion_score"] is None
    assert (
        "champion version 1 cannot answer (RuntimeError: this code is too old)" in record["reason"]
    )
    assert record["decision"] == "promoted" and "beats the trivial baseline" in record["reason"]


@pytest.mark.slow
def test_another_data_set_under_a_registered_name_is_refused(lineage: Lineage) -> None:
    client = lineage.back_to("2")
    client.set_registered_model_tag(NAME, "dataset", "mushrooms")
    before = state()
    candidate = lineage.take("3")
    for call in (register.register, register.rehearse):
        with pytest.raises(
            SextantError,
            match="registered for data set `mushrooms`, not for `churn`.*a name of its own",
        ):
            call(candidate)
    assert state() == before


@pytest.mark.slow
@pytest.mark.parametrize("key", ["source", "data", "val"])
def test_outputs_of_two_runs_are_not_registered(lineage: Lineage, key: str) -> None:
    lineage.take("3")
    path = Path(f"models/{MODEL}/model.json")
    card = json.loads(path.read_text())
    card[key] = (
        {name: value + 1e-3 for name, value in card[key].items()} if key == "val" else "another"
    )
    path.write_text(json.dumps(card))
    with pytest.raises(SextantError, match="are not of one run; `make repro` brings them together"):
        register.Candidate(MODEL)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [False, True])
def test_by_hand_and_in_an_experiment_nothing_is_decided(
    lineage: Lineage,
    experiment: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = lineage.back_to("1 unjudged")
    lineage.take("2")
    shutil.rmtree("reports/registry", ignore_errors=True)
    if experiment:
        monkeypatch.setenv("DVC_STAGE", f"register@{MODEL}")
        monkeypatch.setenv("DVC_EXP_NAME", "a-trial")
    before = state(), runs(client)
    register.main([f"model={MODEL}"])
    assert f"{MODEL}: would be promoted: " in capsys.readouterr().out
    assert state() == before[0] and not Path("reports/decisions").exists()
    assert (
        Path(f"reports/registry/{MODEL}.json").is_file() == experiment
    )  # the receipt that DVC waits for
    assert len(runs(client)) - len(before[1]) == experiment  # the experiment is logged


def runs(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name(NAME)
    return list(client.search_runs([experiment.experiment_id]))


@pytest.mark.slow
def test_with_everything_judged_mlflow_is_not_even_imported(lineage: Lineage) -> None:
    client = lineage.back_to("3")
    lineage.take("3")
    register.main(["--write"])
    client.set_registered_model_alias(NAME, tracking.CHAMPION, "2")
    words = "import sys; from sextant import register; register.main(['--write']); print('mlflow' in sys.modules)"
    said = lineage.clone.run(sys.executable, "-c", words).stdout
    assert said.splitlines()[-1] == "False"
    assert f"({NAME} version 3):" in said  # and no more the champion
    assert not json.loads(Path(f"reports/decisions/{MODEL}.json").read_text())["champion"]


@pytest.mark.slow
def test_lost_files_of_a_version_are_written_again(
    lineage: Lineage, capsys: pytest.CaptureFixture[str]
) -> None:
    client = lineage.back_to("3")
    lineage.take("3")
    register.main(["--write"])
    packed = Path(client.get_model_version_download_uri(NAME, "3").removeprefix("file://"))
    before = state()
    shutil.rmtree(packed)
    register.main(["--write"])
    assert (
        f"the files of {NAME} version 3 were lost; they are written again"
        in capsys.readouterr().out
    )
    assert files.folder_digest(packed / f"data/{MODEL}") == files.folder_digest(
        Path(f"models/{MODEL}")
    )
    assert state() == before


@pytest.mark.slow
def test_a_moved_checkout_is_healed(lineage: Lineage, chain: Clone) -> None:
    with closing(sqlite3.connect(lineage.stood["1"])) as database:
        text = "\n".join(database.iterdump())
    assert (
        f"{chain.path}/mlruns/{NAME}" not in text and f"{lineage.clone.path}/mlruns/{NAME}" in text
    )
    lineage.back_to("1")
    moved = lineage.home / "moved"
    with closing(sqlite3.connect("mlflow.db")) as now:
        assert tracking.moved_from() is None
        moved.mkdir()
        with closing(sqlite3.connect(moved / "mlflow.db")) as kept:
            now.backup(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(moved)
        assert tracking.moved_from() == lineage.clone.path.as_uri()
        assert tracking.relocate() and not tracking.relocate()
        assert tracking.moved_from() is None


def test_a_database_that_clones_share_is_not_taken_for_a_moved_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = tmp_path / "team"
    team.mkdir()
    with closing(sqlite3.connect(team / "tracking.db")) as database:
        database.execute("CREATE TABLE experiments (name, artifact_location)")
        place = (team / "mlruns" / NAME).as_uri()
        database.execute("INSERT INTO experiments VALUES (?, ?)", (NAME, place))
        database.commit()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{team}/tracking.db")
    for clone in ("one", "other"):
        (tmp_path / clone).mkdir()
        monkeypatch.chdir(tmp_path / clone)
        assert tracking.moved_from() is None and not tracking.relocate()


# --- other clones, other code -----------------------------------------------------------------------------------------


@pytest.fixture
def clone_without_registry(lineage: Lineage, tmp_path: Path) -> Clone:
    """The outputs of the lineage's strongest model, as another clone has them after `dvc pull`."""
    lineage.take("3")
    path = tmp_path / "clone"
    left = shutil.ignore_patterns(
        "mlflow.db*", "mlruns", "registry", "decisions*", ".dvc", ".scratch"
    )
    shutil.copytree(lineage.clone.path, path, symlinks=True, ignore=left)
    return Clone(path)


@pytest.mark.slow
def test_a_lost_database_is_healed_from_the_outputs(
    clone_without_registry: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = clone_without_registry.stage("register", "--write").stdout
    assert said.startswith(f"{MODEL}: promoted ({NAME} version 1, champion): ")
    monkeypatch.chdir(clone_without_registry.path)
    client = tracking.client()
    (version,) = tracking.versions(client, NAME)
    assert version.champion and version.decision and version.decision["decision"] == "promoted"
    (run,) = runs(client)
    assert client.get_model_version(NAME, "1").run_id == run.info.run_id
    assert run.data.tags["restored"] == "true" and run.data.tags["scratch"] == "false"
    assert f"&& make train MODEL={MODEL}" in run.data.tags["reproduce"]
    epochs = len(Path(f"reports/curves/{MODEL}.csv").read_text().splitlines()) - 1
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == epochs > 1
    assert {"best/accuracy", "test/accuracy", "vs/accuracy/majority"} <= set(run.data.metrics)


@pytest.mark.slow
def test_a_second_clone_on_one_tracking_server_repeats_the_first_decision(
    lineage: Lineage,
    clone_without_registry: Clone,
    process: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    server = tmp_path / "server"
    (server / "downloads").mkdir(parents=True)
    address = f"http://127.0.0.1:{free_port()}"
    words = [
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        address.rpartition(":")[2],
        "--workers",
        "1",
    ]
    store = [
        "--backend-store-uri",
        f"sqlite:///{server}/team.db",
        "--artifacts-destination",
        str(server / "files"),
    ]
    lean = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"
    }  # or eight more processes start
    with (server / "log").open("w") as log:
        process(
            sys.executable,
            "-m",
            "mlflow",
            *words,
            *store,
            stdout=log,
            stderr=log,
            cwd=server,
            env=lean,
        )
    wait_for(f"{address}/health", server / "log")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    first = register.register(lineage.take("3"))
    assert (first["version"], first["decision"], first["champion"]) == ("1", "promoted", True)
    before = state()
    said = clone_without_registry.stage("register", "--write", MLFLOW_TRACKING_URI=address).stdout
    assert f"{MODEL}: promoted ({NAME} version 1, champion): {first['reason']}" in said
    assert state() == before

    fetch = f"from sextant import tracking; print(*tracking.folder_of('models:/{NAME}/1').glob('data/*/*'))"
    env = {"MLFLOW_TRACKING_URI": address, "TMPDIR": str(server / "downloads")}
    fetched = clone_without_registry.run(sys.executable, "-c", fetch, **env).stdout.split()
    assert {Path(path).name for path in fetched} == {"model.json", "model.safetensors"}
    assert list((server / "downloads").iterdir()) == []  # gone with the process


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(address: str, log: Path, patience: float = 90) -> None:
    import requests

    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            if requests.get(address, timeout=10).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    pytest.fail(f"{address} did not answer:\n{log.read_text()}")


@pytest.mark.slow
def test_the_champion_answers_with_its_own_code_after_a_refit_and_a_renamed_argument(
    road: Clone,
) -> None:
    before = json.loads((road.path / f"reports/decisions/{MODEL}.json").read_text())
    module, conf = (
        road.path / f"src/sextant/models/{MODEL}.py",
        road.path / f"conf/model/{MODEL}.yaml",
    )
    argument = next(iter(yaml.safe_load(conf.read_text())["net"]))
    for path in (module, conf):
        path.write_text(re.sub(rf"\b{argument}\b", f"{argument}_renamed", path.read_text()))
    with (road.path / "src/sextant/data/tabular.py").open("a") as stream:
        stream.write(WIDER)
    road.stage("train", f"model={MODEL}", DVC_STAGE=f"train@{MODEL}")
    card = json.loads((road.path / f"models/{MODEL}/model.json").read_text())
    metrics = (
        road.path / f"reports/metrics/{MODEL}.json"
    )  # evaluate would take seconds to write what no gate reads
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"val": card["val"]}))
    assert f"{argument}_renamed" in card["net"] and argument not in card["net"]
    (packed,) = (road.path / f"mlruns/{NAME}/models").glob(f"*/artifacts/data/{MODEL}/model.json")
    for old, new in zip(
        json.loads(packed.read_text())["encoder"]["numbers"].values(),
        card["encoder"]["numbers"].values(),
        strict=True,
    ):
        assert new[1] == 2 * old[1]

    road.stage("register", "--write")
    record = json.loads((road.path / f"reports/decisions/{MODEL}.json").read_text())
    assert (record["version"], record["against"]) == ("2", "1")
    assert record["champion_score"] is not None and record["champion_score"] == before["challenger"]
    assert "cannot answer" not in record["reason"]


WIDER = """

_fit = Encoder.fit.__func__


def _wider(cls, rows, columns):
    found = _fit(cls, rows, columns)
    found.numbers = {name: learnt._replace(std=2 * learnt.std) for name, learnt in found.numbers.items()}
    return found


Encoder.fit = classmethod(_wider)
"""
