"""Bad input of every kind: one clear line, an exit code that is not 0, and nothing harmed that lasts."""

import hashlib
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import Clone, copied

from sextant import config, errors, evaluate, files, pin, predict, prepare, pull, register, validate

MODEL, DATASET = "ann", "churn"
FILE = "Churn_Modelling.csv"


def refusal(text: str) -> str:
    """The one line in which Sextant gave up; what DVC and make add is theirs."""
    assert "Traceback" not in text, text
    notes = ("warning: ", f"{MODEL} has no champion on real data")
    said = [line.removeprefix("sextant: ") for line in text.splitlines() if line.startswith("sextant: ")]
    lines = [line for line in said if not line.startswith(notes)]
    assert len(lines) == 1, text
    return lines[0]


# --- a fault in a conf: found by `make check`, before DVC starts ------------------------------------------------------


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set the value at a path such as `net.dropout`."""

    def change(conf: Any) -> None:
        *way, last = path.split(".")
        for key in way:
            conf = conf[int(key) if key.isdigit() else key]
        conf[last] = value

    return change


def renamed(path: str, name: str) -> Callable[[dict[str, Any]], None]:
    """Misspell the key at a path."""

    def change(conf: Any) -> None:
        *way, last = path.split(".")
        for key in way:
            conf = conf[int(key) if key.isdigit() else key]
        conf[name] = conf.pop(last)

    return change


PARAMS, MODEL_CONF, DATASET_CONF = "params.yaml", f"conf/model/{MODEL}.yaml", f"conf/dataset/{DATASET}.yaml"
SUITE = f"conf/expectations/{DATASET}.yaml"

CONF_FAULTS: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "unknown family": (PARAMS, at(f"models.{MODEL}.family", "quantum"), "unknown family `quantum`; .* has: .*ann"),
    "unknown data set": (PARAMS, at(f"models.{MODEL}.dataset", "moon"), "`moon`, which `datasets` does not list"),
    "data set without conf": (PARAMS, at("datasets", [DATASET, "moon"]), "conf/dataset/moon.yaml is not there; add it"),
    "unknown source": (PARAMS, at("source", "moon"), "params.yaml: `source` is 'moon'; .*'embedded', 'mirror' or"),
    "unknown budget": (PARAMS, at("budget", "huge"), "params.yaml: `budget` is 'huge'; .*'smoke', 'standard' or"),
    "negative seed": (PARAMS, at("seed", -1), "params.yaml: `seed` is -1; .*greater than or equal to 0"),
    "misspelt parameter": (PARAMS, renamed("budget", "buget"), "unknown key `buget`; did you mean `budget`"),
    "missing parameter": (PARAMS, lambda conf: conf.pop("seed"), "params.yaml: key `seed` is missing; add it"),
    "misspelt argument": (MODEL_CONF, renamed("net.dropout", "dropuot"), "net: .*`dropuot`; did you mean `dropout`"),
    "argument of the wrong type": (MODEL_CONF, at("net.dropout", "much"), "net: `dropout` is 'much'; .*valid number"),
    "number as text": (MODEL_CONF, at("net.bins", "16"), "net: `bins` is '16'; .*valid integer"),
    "argument out of range": (MODEL_CONF, at("net.dropout", 1.5), "net: `dropout` is 1.5; .*less than 1"),
    "no number": (MODEL_CONF, at("optimizer.lr", float("nan")), "optimizer lr is nan; expected a finite number"),
    "unknown optimizer": (MODEL_CONF, at("optimizer.name", "magic"), "optimizer: name is 'magic'; expected one of"),
    "rate out of range": (MODEL_CONF, at("optimizer.lr", 0.0), "optimizer: `lr` is 0.0; .*greater than 0"),
    "misspelt block": (MODEL_CONF, renamed("schedule", "shedule"), "unknown key `shedule`; did you mean `schedule`"),
    "budget out of range": (MODEL_CONF, at("budgets.full.schedule.max_epochs", 0), "`max_epochs` is 0; .*greater than"),
    "unknown metric": (MODEL_CONF, at("schedule.monitor", "f1"), "schedule: `f1` is no metric of classification"),
    "unknown task": (MODEL_CONF, at("task", "guessing"), "unknown task `guessing`; .* has: .*classification"),
    "negative margin": (MODEL_CONF, at("gate.margin", -0.1), "`gate.margin` is -0.1; .*greater than or equal to 0"),
    "guard without a number": (MODEL_CONF, at("gate.guards", ["brier <= low"]), "`gate.guards.0` is 'brier <= low'; "),
    "guard on an unknown metric": (MODEL_CONF, at("gate.guards", ["f1 >= 0.5"]), "gate: `f1` is no metric of classif"),
    "unknown kind": (DATASET_CONF, at("kind", "sounds"), "unknown kind `sounds`; .* has: .*tabular"),
    "misspelt column role": (DATASET_CONF, renamed("columns.target", "traget"), "`traget`; did you mean `target`"),
    "share out of range": (DATASET_CONF, at("split.shares.train", 1.2), "`split.shares.train` is 1.2; .*less than 1"),
    "digest that is none": (DATASET_CONF, at("sources.mirror.0.sha256", "abc"), r"mirror\[0\]: `sha256` is 'abc'"),
    "mirror that climbs out": (DATASET_CONF, at("sources.mirror.0.path", "../x.csv"), "`path` is '../x.csv'; .*plain"),
    "unknown severity": (SUITE, at("0.severity", "fatal"), "`severity` is 'fatal'; .*'critical', 'warning' or 'info'"),
    "unknown expectation": (SUITE, at("0.expectation", "expect_wonders"), "expect_wonders"),
}  # fmt: skip


def heard(main: Callable[[list[str]], Any], capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, int]:
    """The one line and the exit code of a command, run in this process as its own would run it."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(sys, "argv", ["sextant", *words])
        errors.run(main)
    assert isinstance(left.value.code, int)
    return refusal(capsys.readouterr().err), left.value.code


@pytest.mark.parametrize("case", CONF_FAULTS)
def test_a_fault_in_a_conf_is_named_with_its_place(
    case: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, change, why = CONF_FAULTS[case]
    conf = yaml.safe_load(Path(file).read_text())
    change(dict(enumerate(conf)) if isinstance(conf, list) else conf)
    Path(file).write_text(yaml.safe_dump(conf, sort_keys=False))
    line, code = heard(config.main, capsys, "check")
    assert re.search(why, line), line
    assert code == 2


@pytest.mark.parametrize("file", [PARAMS, MODEL_CONF, DATASET_CONF, SUITE])
def test_a_conf_that_is_no_yaml_or_not_there_is_named(
    file: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(file).write_text("a: [1, 2\nb: }\n")
    line, code = heard(config.main, capsys, "check")
    assert file in line and "not YAML" in line and code == 2
    Path(file).unlink()
    line, code = heard(config.main, capsys, "check")
    assert file in line and "is not there" in line and code == 2


@pytest.mark.parametrize("stage", [pull, validate, prepare, pin, evaluate, register], ids=lambda stage: stage.__name__)
def test_an_unknown_name_on_the_command_line(
    stage: ModuleType, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = "dataset" if stage in (pull, validate, prepare, pin) else "model"
    line, code = heard(stage.main, capsys, f"{asked}=moon")
    assert re.search(
        rf"unknown (data set|model) `moon`; params.yaml lists: {DATASET if asked == 'dataset' else MODEL}", line
    )
    assert code == 2
    line, code = heard(stage.main, capsys, "moon")
    assert "`moon` is not understood; expected " in line and code == 2


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("model.net.dropuot=0.1", "dropuot"),
        ("source=moon", "`source` is 'moon'"),
        ("budget=huge", "`budget` is 'huge'"),
        ("model.optimizer.lr=fast", "lr"),
    ],
)
def test_an_override_is_held_to_the_same_rules(
    override: str, why: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: list[str]) -> None:
        config.check_model(config.model(MODEL, argv))

    line, code = heard(main, capsys, override)
    assert why in line and code == 2


# --- in a real checkout: by DVC and by make ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def road(chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return copied(chain, tmp_path_factory.mktemp("bad") / "clone")


@pytest.fixture(scope="module")
def whole(road: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of the road as they were before anything failed."""
    copy = tmp_path_factory.mktemp("whole")
    for name in ("data", "models", "reports"):
        shutil.copytree(road.path / name, copy / name)
    return copy


def outputs(road: Clone) -> dict[str, str]:
    """The files that DVC and git keep, by their digests."""
    places = [*road.path.glob("data/*/*"), *road.path.glob("models/*"), road.path / "reports"]
    found = (path for place in places for path in [place, *place.rglob("*")] if path.is_file())
    return {str(path.relative_to(road.path)): files.sha256(path) for path in found}


def lasting(road: Clone) -> dict[str, Any]:
    """What no bad input may touch: registry, decisions, DVC's cache, checkpoints, and every file that git knows."""
    tables = ("registered_models", "registered_model_aliases", "registered_model_tags", "model_versions")
    with closing(sqlite3.connect(road.path / "mlflow.db")) as database:
        registry = {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
        registry["tags"] = database.execute("SELECT * FROM model_version_tags").fetchall()
    tracked = road.run("git", "ls-files", "-z").stdout.split("\0")
    return {
        "registry": registry,
        "checkpoints": sorted(
            str(p) for p in (road.path / ".checkpoints").rglob("*") if p.is_file() and p.name != "lock"
        ),
        "git": {name: digest(road.path / name) for name in tracked if name and name != "dvc.lock"},
        "commits": road.run("git", "log", "--oneline").stdout,
        "artifacts": sorted(str(path) for path in (road.path / f"mlruns/sextant-{MODEL}-twin/models").rglob("*.json")),
    }


def digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def cache(road: Clone) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in (road.path / ".dvc/cache/files").rglob("*") if path.is_file()}


class Harmless:
    """A block in which something fails: what lasts is the same after it, and the workspace is brought back.

    `checkout`: by `dvc checkout`, as the message says. It takes two seconds, so that most cases use a copy instead.
    """

    def __init__(self, road: Clone, copy: Path, checkout: bool):
        self.road, self.copy, self.checkout = road, copy, checkout

    def __enter__(self) -> None:
        self.before, self.cached = lasting(self.road), cache(self.road)

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                assert lasting(self.road) == self.before
                assert cache(self.road).items() >= self.cached.items()
        finally:
            self.road.run("git", "checkout", "-q", ".")
            if self.checkout:
                self.road.run("dvc", "checkout", "-q")
                assert kind or outputs(self.road) == outputs(Clone(self.copy))
            else:
                shutil.rmtree(self.road.path / "data")
                shutil.copytree(self.copy / "data", self.road.path / "data")
            assert self.road.changed() == []


@pytest.fixture
def harmless(road: Clone, whole: Path) -> Callable[..., Harmless]:
    return lambda checkout=False: Harmless(road, whole, checkout)


Damage = Callable[[pd.DataFrame], pd.DataFrame]

DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing column": (lambda rows: rows.drop(columns="Age"), "lacks column Age; found RowNumber, .*; correct"),
    "renamed column": (lambda rows: rows.rename(columns={"Age": "Years"}), "lacks column Age; found .*Years"),
    "letters in a number": (
        lambda rows: rows.assign(Tenure=rows["Tenure"].astype(object).where(rows.index != 17, "many")),
        "critical expectations failed.*column='Tenure'.*correct the file where it comes from",
    ),
    "empty file": (lambda rows: rows[[]].head(0), "is empty; expected a table with CustomerId, "),
    "duplicated keys": (
        lambda rows: pd.concat([rows, rows.head(3)]),
        "critical expectations failed.*expect_column_values_to_be_unique.*CustomerId.*correct the file",
    ),
    "class without rows": (
        lambda rows: rows.assign(Exited=0),
        "critical expectations failed.*expect_column_distinct_values_to_equal_set.*Exited.*correct the file",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_data_are_refused_before_anything_is_learnt(
    case: str, road: Clone, whole: Path, harmless: Callable[..., Harmless], tmp_path: Path
) -> None:
    damage, why = DAMAGES[case]
    rows = damage(pd.read_csv(road.path / f"data/raw/{DATASET}/{FILE}"))
    given = mirrored(tmp_path, "" if case == "empty file" else rows.to_csv(index=False))
    pinned(road, given)
    sum_before, trained = files.sha256(given), files.folder_digest(road.path / f"models/{MODEL}")
    with harmless():
        done = road.run("dvc", "repro", code=None, SEXTANT_MIRROR=str(tmp_path))
        line = refusal(done.stderr)
        assert re.search(why, line), line
        assert done.returncode != 0 and "exited with 12" in done.stderr
        assert "Running stage 'prepare@" not in done.stdout
        assert files.folder_digest(road.path / f"models/{MODEL}") == trained
        (repair,) = re.findall(r"; `(.*dvc checkout)` restores [a-z ]+$", line)
        if case in ("empty file", "duplicated keys"):  # one that pull refuses, and one that it has taken
            road.run("bash", "-c", repair)
            assert outputs(road) == outputs(Clone(whole))
            assert "dvc.lock" not in road.changed()
    assert files.sha256(given) == sum_before


def mirrored(folder: Path, text: str) -> Path:
    """The text as the data set's file in a mirror of its own."""
    given = folder / DATASET / FILE
    given.parent.mkdir()
    given.write_text(text)
    return given


def pinned(road: Clone, given: Path) -> None:
    """The mirror's file as the source, with its digest in the conf: damage that no digest can tell."""
    road.edit(PARAMS, "source: embedded", "source: mirror")
    path = road.path / DATASET_CONF
    conf = yaml.safe_load(path.read_text())
    conf["sources"]["mirror"][0] |= {"bytes": given.stat().st_size, "sha256": files.sha256(given)}
    path.write_text(yaml.safe_dump(conf, sort_keys=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "code", "why"),
    [
        (
            "wrong digest",
            12,
            r"is not the file that .*churn.yaml pins: got .*; expected sha256 3996cd1fa372.*`make pin D",
        ),
        ("file that is not there", 1, "cannot read .*: no such file; check that SEXTANT_MIRROR names the place"),
        ("unreachable mirror", 1, "SEXTANT_MIRROR is `/nowhere`, but no such folder is there; mount it, or export"),
        ("unset mirror", 2, "SEXTANT_MIRROR is not set; export SEXTANT_MIRROR="),
    ],
)
def test_a_source_that_does_not_give_the_pinned_file(
    case: str, code: int, why: str, road: Clone, harmless: Callable[..., Harmless], tmp_path: Path
) -> None:
    road.edit(PARAMS, "source: embedded", "source: mirror")
    if case == "wrong digest":
        mirrored(tmp_path, "RowNumber,CustomerId\n1,2\n")
    mirror = {"unreachable mirror": "/nowhere", "unset mirror": ""}.get(case, str(tmp_path))
    with harmless(checkout=case == "unset mirror"):
        done = road.run("dvc", "repro", f"pull@{DATASET}", code=None, SEXTANT_MIRROR=mirror)
        line = refusal(done.stderr)
        assert re.search(why, line), line
        assert f"exited with {code}" in done.stderr and "`dvc checkout` restores" in line
        assert not (road.path / f"data/raw/{DATASET}").exists()  # DVC had emptied it


@pytest.mark.slow
def test_a_full_disk_while_a_stage_writes(road: Clone, harmless: Callable[..., Harmless]) -> None:
    with harmless(checkout=True):
        done = short_of_space(road, 500, "dvc", "repro", "-f", "-s", f"pull@{DATASET}")
        assert re.search(
            "no space left while writing data/raw/churn.*: free some, then run the same", refusal(done.stderr)
        )
        assert done.returncode != 0 and "`dvc checkout` restores" in done.stderr
        assert [path.name for path in (road.path / "data/raw").glob(".*.part")] == []


@pytest.mark.slow
def test_a_full_disk_while_answers_are_written(
    road: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(road.path)
    answers = tmp_path / "answers.csv"
    answers.write_text("the answers of yesterday\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        words = [f"model={MODEL}", f"input=data/raw/{DATASET}/{FILE}", f"output={answers}"]
        line, code = heard(predict.main, capsys, *words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "no space left while writing" in line and code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["answers.csv"]
    assert answers.read_text() == "the answers of yesterday\n"


def short_of_space(road: Clone, kib: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that may write no file larger than that; the system's error is the one of a quota."""
    return road.run("bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash", *words, code=None)


@pytest.mark.slow
def test_a_locked_database_stops_a_training_before_it_begins(road: Clone, harmless: Callable[..., Harmless]) -> None:
    with harmless(checkout=True), closing(sqlite3.connect(road.path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = road.run("dvc", "repro", "-f", "-s", f"train@{MODEL}", code=None)
        other.rollback()
        line = refusal(done.stderr)
        assert re.search(r"mlflow.db cannot be written to \(database is locked\); end the program that holds it", line)
        assert "`make doctor`" in line and "`dvc checkout` restores" in line
        assert not (road.path / f"models/{MODEL}").exists()  # DVC had emptied it


@pytest.mark.slow
def test_a_fault_in_a_conf_stops_make_before_dvc_starts(road: Clone, harmless: Callable[..., Harmless]) -> None:
    road.edit(MODEL_CONF, "  dropout:", "  dropuot:")
    trained = files.folder_digest(road.path / f"models/{MODEL}")
    with harmless():
        done = road.run("make", "repro", code=2)
        assert "did you mean `dropout`?" in refusal(done.stderr)
        assert "Running stage" not in done.stdout and "dvc" not in done.stderr
        assert files.folder_digest(road.path / f"models/{MODEL}") == trained
