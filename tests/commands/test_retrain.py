"""Retraining: a first training, nothing new, more rows, damaged rows, a source that is gone."""

import json
import os
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cases
import pytest
import yaml
from conftest import Clone, fresh_clone

from sextant import errors, files
from sextant.commands import retrain
from sextant.errors import DataError, SextantError, UsageError, restore_hint

if TYPE_CHECKING:
    from mlflow.entities import Run

# --- units --------------------------------------------------------------------------------------


def snapshot(judged: dict[str, set[str]], champions: dict[str, str | None]) -> retrain.Snapshot:
    versions = {model: frozenset(numbers) for model, numbers in judged.items()}
    return retrain.Snapshot({}, {}, versions, champions, dict.fromkeys(judged))


@cases.each(
    "before, after, code",
    [
        (({"a": set()}, {"a": None}), ({"a": {"1"}}, {"a": "1"}), 0),
        (({"a": {"1"}}, {"a": "1"}), ({"a": {"1", "2"}}, {"a": "2"}), 0),
        (({"a": {"1"}}, {"a": "1"}), ({"a": {"1", "2"}}, {"a": "1"}), 11),
        (({"a": {"1"}}, {"a": "1"}), ({"a": {"1"}}, {"a": "1"}), 10),
        (
            ({"a": {"1"}, "b": {"1"}}, {"a": "1", "b": "1"}),
            ({"a": {"1", "2"}, "b": {"1", "2"}}, {"a": "1", "b": "2"}),
            0,
        ),
    ],
)
def test_the_verdict_compares_the_registry_before_and_after(
    before: Any, after: Any, code: int
) -> None:
    assert retrain.verdict(snapshot(*before), snapshot(*after)) == code


def test_a_version_that_waits_needs_a_person_once() -> None:
    before = snapshot({"a": {"1"}}, {"a": "1"})
    after = replace(snapshot({"a": {"1", "2"}}, {"a": "1"}), waiting={"a": "2"})
    assert retrain.verdict(before, after) == 13
    assert retrain.verdict(after, after) == 10


@pytest.mark.parametrize("stage", ["pull@orders", "validate@orders"])
def test_the_refusal_is_the_last_message_of_a_stage_without_the_advice_to_restore(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = f"stages:\n  {stage}:\n    cmd: a\n"
    (tmp_path / "dvc.lock").write_text(lock)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(errors, "committed_lock", lambda: lock)
    monkeypatch.setenv("DVC_STAGE", stage)
    advice = restore_hint(DataError("3 rows are wrong"))
    assert "dvc checkout` restores" in advice
    output = [
        f"Running stage '{stage}'\n",
        "sextant: first\n",
        f"sextant: 3 rows are wrong{advice}\n",
        "ERROR: y\n",
    ]
    assert retrain.refusal(output) == "3 rows are wrong"
    assert retrain.refusal(["ERROR: y\n"]) == ""


# Like DVC with a stage that fails: a message, the stage's exit code in the output, DVC's own code.
STAGE = """
import sys
print('sextant: row 7 is wrong', file=sys.stderr)
print('ERROR: failed, exited with {0}')
sys.exit(255)
"""


@pytest.mark.parametrize("code, error", [(12, DataError), (1, SextantError), (120, SextantError)])
def test_a_stage_that_refuses_the_data_is_distinguished_from_one_that_fails(
    code: int, error: type[SextantError]
) -> None:
    with pytest.raises(SextantError, match="row 7 is wrong") as raised:
        retrain._run([sys.executable, "-c", STAGE.format(code)])
    assert type(raised.value) is error


def test_a_failure_leaves_pins_lock_and_reports_as_they_were(workspace: Path) -> None:
    conf = next((workspace / "conf/dataset").glob("*.yaml"))
    report = workspace / "reports/validation" / f"{conf.stem}.json"
    report.parent.mkdir(parents=True)
    report.write_bytes(b"{}\n")
    before = {path: path.read_bytes() for path in (conf, report)}
    with pytest.raises(KeyboardInterrupt), retrain.restored_on_failure([conf.stem]):
        conf.write_bytes(b"kind: other\r\n")
        report.unlink()
        Path("dvc.lock").write_text("stages: {}\n")
        (report.parent / "new.json").touch()
        raise KeyboardInterrupt
    assert {path: path.read_bytes() for path in (conf, report)} == before
    assert not Path("dvc.lock").exists() and not (report.parent / "new.json").exists()


def test_a_success_restores_nothing(workspace: Path) -> None:
    conf = next((workspace / "conf/dataset").glob("*.yaml"))
    with retrain.restored_on_failure([conf.stem]):
        conf.write_bytes(b"kind: other\n")
    assert conf.read_bytes() == b"kind: other\n"


def test_twins_have_nothing_new(one_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = "in params.yaml change the line `source: embedded` to `source: mirror`"
    with pytest.raises(UsageError, match=message):
        retrain.main([])
    expected = "# Retraining: wrong question\n\nevery data set is a twin"
    assert capsys.readouterr().out.startswith(expected)


def test_in_ci_summary_and_code_go_to_its_files(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    monkeypatch.setenv("GITHUB_OUTPUT", "output")
    Path("output").write_text("earlier=1\n")
    with pytest.raises(UsageError):
        retrain.main([])
    assert (
        Path("output")
        .read_text()
        .startswith("earlier=1\ncode=2\noutcome=wrong question\nmerge=false\n")
    )
    assert Path("summary.md").read_text().startswith("# Retraining: wrong question")
    assert capsys.readouterr().out == ""


def test_a_second_retraining_says_who_is_running(one_model: Path) -> None:
    params = one_model / "params.yaml"
    params.write_text(params.read_text().replace("source: embedded", "source: mirror"))
    before = params.read_bytes()
    with files.locked(retrain.RUNNING, "retraining"):
        with pytest.raises(
            SextantError, match=f"process {os.getpid()} is retraining in this clone"
        ):
            retrain.main([])
    assert params.read_bytes() == before


def test_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="params.yaml lists what to retrain"):
        retrain.main(["model=ann"])


# --- a team, step by step -----------------------------------------------------------------------

ROWS = 701
CONF = """
about: null
source: mirror
sources:
  mirror:
    - file: orders.csv
      path: orders.csv
columns:
  names: null
  delimiter: ","
  unknown: null
  key: id
  target: bought
  ignored: []
  numeric: [age, income]
  categorical: [colour]
split:
  by: hash
  salt: 0
  shares: {train: 0.6, val: 0.1, gate: 0.1, test: 0.2}
twin: null
"""
EXPECTATIONS = """
- expectation: expect_table_row_count_to_be_between
  min_value: 100
  severity: critical
  why: a shorter file is truncated
- expectation: expect_column_values_to_be_between
  column: age
  min_value: 0
  max_value: 130
  severity: critical
  why: no person is older
"""
PARAMS = """
seed: 42
source: embedded
budget: smoke
datasets:
  orders: tabular
models:
  orders: {family: ann, task: classification, dataset: orders, kind: tabular}
"""


def write_orders(folder: Path, rows: int, age: int | None = None) -> None:
    """Write `rows` orders: income and the colour red decide, with noise; `age` damages one row."""
    rng = random.Random(7)
    lines = ["id,age,income,colour,bought"]
    for number in range(rows):
        income = rng.randint(0, 1000)
        colour = rng.choice(["red", "green", "blue"])
        bought = int(income + 400 * (colour == "red") + rng.gauss(0, 60) > 700)
        lines.append(f"{number},{rng.randint(18, 90)},{income},{colour},{bought}")
    if age is not None:
        cells = lines[11].split(",")
        lines[11] = ",".join([cells[0], str(age), *cells[2:]])
    folder.mkdir(exist_ok=True)
    (folder / "orders.csv").write_text("\n".join(lines) + "\n")


class Team:
    """A clone with one model on its data set, a mirror that changes, a remote, and CI's files."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.mirror = place / "mirror"
        write_orders(self.mirror, ROWS)
        (place / "clone").mkdir(parents=True)
        self.clone = fresh_clone(place / "clone")
        self.write("conf/dataset/orders.yaml", CONF)
        self.write("conf/expectations/orders.yaml", EXPECTATIONS)
        model = yaml.safe_load((self.clone.path / "conf/model/ann.yaml").read_text())
        # Few rows make short epochs.
        model["budgets"]["smoke"]["schedule"]["max_epochs"] = 23
        model["gate"] = {"margin": 0.0, "guards": []}
        self.write("conf/model/orders.yaml", yaml.safe_dump(model))
        self.write("params.yaml", PARAMS)
        self.clone.run("dvc", "remote", "add", "-q", "--default", "storage", str(place / "store"))
        self.clone.commit()

    def write(self, file: str, text: str) -> None:
        (self.clone.path / file).write_text(text)

    def retrain(
        self, code: int | None, clone: Clone | None = None, branch: str = ""
    ) -> tuple[int, str, str]:
        """The exit code, the summary and standard error, in `clone` or in the team's first one."""
        for name in ("summary.md", "output"):
            (self.place / name).write_text("")
        arguments = [f"branch={branch}"] if branch else []
        done = (clone or self.clone).stage(
            "retrain",
            *arguments,
            code=code,
            SEXTANT_MIRROR=str(self.mirror),
            GITHUB_STEP_SUMMARY=str(self.place / "summary.md"),
            GITHUB_OUTPUT=str(self.place / "output"),
        )
        assert (self.place / "output").read_text().startswith(f"code={done.returncode}\n")
        assert done.stdout == ""
        return done.returncode, (self.place / "summary.md").read_text(), done.stderr

    def champion(self) -> dict[str, Any]:
        """The decision on the last version."""
        decision: dict[str, Any] = self.clone.read_json("reports/decisions/orders.json")
        return decision

    def run_of_the_champion(self) -> "Run":
        from mlflow.tracking import MlflowClient

        uri = f"sqlite:///{self.clone.path}/mlflow.db"
        mlflow = MlflowClient(uri, uri)  # another test may have set a global registry
        version = mlflow.get_model_version_by_alias("sextant-orders", "champion")
        return mlflow.get_run(str(version.run_id))

    def clean(self) -> bool:
        """Neither git nor DVC sees a change."""
        status = self.clone.run("dvc", "status", "--json").stdout
        return self.clone.changed() == [] and json.loads(status or "{}") == {}


@pytest.mark.slow(minutes=3)
@pytest.mark.timeout(900)
def test_retraining_step_by_step(tmp_path: Path) -> None:
    team = Team(tmp_path)

    # A first training counts as new. The run is of the commit of the pins, without changes.
    code, summary, _ = team.retrain(0, branch="night/1")
    assert summary.startswith("# Retraining: promoted\n")
    for part in ("orders.csv: bytes not pinned -> ", "first training", f"{ROWS:,}"):
        assert part in summary
    assert team.champion()["champion"] is True and team.champion()["version"] == "1"
    assert any(path.is_file() for path in (tmp_path / "store").rglob("*")), "nothing was pushed"
    produced = [
        *("dvc.lock", "reports/metrics/orders.json", "reports/processors/orders.json"),
        "reports/validation/orders.json",
    ]
    assert team.clean()
    subjects = team.clone.run("git", "log", "-3", "--format=%s %H").stdout.splitlines()
    assert subjects[0].startswith("Retrain: promoted") and subjects[1].startswith("Pin new data")
    assert team.clone.run("git", "branch", "--show-current").stdout == "night/1\n"
    run = team.run_of_the_champion()
    assert run.data.tags["mlflow.source.git.commit"] == subjects[1].split()[-1]
    assert run.data.tags["dirty"] == "false"

    # Nothing new: no stage runs.
    code, summary, err = team.retrain(10)
    assert summary.startswith("# Retraining: nothing new\n") and "Running stage" not in err
    assert team.clean()

    # Damaged rows: everything is as before, also the champion.
    before = team.champion()
    write_orders(team.mirror, ROWS + 11, age=400)
    code, summary, err = team.retrain(12, branch="night/2")
    assert summary.startswith("# Retraining: bad data\n")
    assert "night/2" not in team.clone.run("git", "branch").stdout
    assert "age" in summary and "as before" in summary
    assert err.splitlines()[-1].startswith("sextant: the new data were refused")
    assert team.clean() and team.champion() == before

    # A source that is gone.
    (team.mirror / "orders.csv").rename(tmp_path / "aside.csv")
    code, summary, _ = team.retrain(1)
    assert summary.startswith("# Retraining: failure\n") and "orders.csv" in summary
    assert team.clean() and team.champion() == before

    # More rows: the gate decides, and the exit code tells how.
    write_orders(team.mirror, ROWS + 201)
    code, summary, _ = team.retrain(None)
    assert code == (0 if team.champion()["champion"] else 11)
    assert summary.startswith(f"# Retraining: {'promoted' if code == 0 else 'not promoted'}\n")
    assert f"{ROWS:,} -> {ROWS + 201:,}" in summary and "(+201)" in summary
    metrics = team.clone.read_json("reports/metrics/orders.json")
    assert f"{metrics['test']['accuracy']:.4f}" in summary
    assert team.champion()["reason"] in summary and team.champion()["version"] == "2"
    assert team.clone.changed() == ["conf/dataset/orders.yaml", *produced]
    team.clone.commit("more rows")
