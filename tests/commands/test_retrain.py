"""Retraining, played: a first training, nothing new, more rows, damaged rows, a source that is gone."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Clone, fresh_clone

from sextant import retrain
from sextant.errors import DataError, SextantError, UsageError, restore_hint

# --- the pieces -------------------------------------------------------------------------------------------------------


def snapshot(judged: dict[str, set[str]], champions: dict[str, str | None]) -> retrain.Snapshot:
    return retrain.Snapshot(
        {}, {}, {model: frozenset(found) for model, found in judged.items()}, champions
    )


@pytest.mark.parametrize(
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
def test_the_verdict_follows_from_what_the_registry_held_before_and_after(
    before: Any, after: Any, code: int
) -> None:
    assert retrain.verdict(snapshot(*before), snapshot(*after)) == code


@pytest.mark.parametrize("stage", ["pull@orders", "validate@orders"])
def test_the_refusal_is_the_last_word_of_a_stage_without_advice_already_followed(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", stage)
    advice = restore_hint(DataError("3 rows lie"))
    assert "dvc checkout` restores" in advice
    said = [
        f"Running stage '{stage}'\n",
        "sextant: first\n",
        f"sextant: 3 rows lie{advice}\n",
        "ERROR: y\n",
    ]
    assert retrain.refusal(said) == "3 rows lie"
    assert retrain.refusal(["ERROR: y\n"]) == ""


STAGE = "import sys; print('sextant: row 7 lies', file=sys.stderr); print('ERROR: failed, exited with {0}'); sys.exit(255)"


@pytest.mark.parametrize("code, error", [(12, DataError), (1, SextantError), (120, SextantError)])
def test_a_stage_that_refuses_the_data_is_told_from_one_that_fails(
    code: int, error: type[SextantError]
) -> None:
    with pytest.raises(SextantError, match="row 7 lies") as raised:
        retrain._run([sys.executable, "-c", STAGE.format(code)])
    assert type(raised.value) is error


def test_what_fails_leaves_pins_lock_and_reports_as_they_were(workspace: Path) -> None:
    conf = next((workspace / "conf/dataset").glob("*.yaml"))
    report = workspace / "reports/validation" / f"{conf.stem}.json"
    report.parent.mkdir(parents=True)
    report.write_bytes(b"{}\n")
    before = {path: path.read_bytes() for path in (conf, report)}
    with pytest.raises(KeyboardInterrupt), retrain.unharmed([conf.stem]):
        conf.write_bytes(b"kind: other\r\n")
        report.unlink()
        Path("dvc.lock").write_text("stages: {}\n")
        (report.parent / "new.json").touch()
        raise KeyboardInterrupt
    assert {path: path.read_bytes() for path in (conf, report)} == before
    assert not Path("dvc.lock").exists() and not (report.parent / "new.json").exists()


def test_what_passes_is_left_as_it_became(workspace: Path) -> None:
    conf = next((workspace / "conf/dataset").glob("*.yaml"))
    with retrain.unharmed([conf.stem]):
        conf.write_bytes(b"kind: other\n")
    assert conf.read_bytes() == b"kind: other\n"


def test_twins_have_nothing_new(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        UsageError, match="in params.yaml change the line `source: embedded` to `source: mirror`"
    ):
        retrain.main([])
    assert capsys.readouterr().out.startswith(
        "# Retraining: wrong question\n\nevery data set is a twin"
    )


def test_ci_is_told_in_its_own_files(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    monkeypatch.setenv("GITHUB_OUTPUT", "output")
    Path("output").write_text("earlier=1\n")
    with pytest.raises(UsageError):
        retrain.main([])
    assert Path("output").read_text() == "earlier=1\ncode=2\noutcome=wrong question\n"
    assert Path("summary.md").read_text().startswith("# Retraining: wrong question")
    assert capsys.readouterr().out == ""


def test_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="what to retrain stands in params.yaml"):
        retrain.main(["model=ann"])


# --- the play ---------------------------------------------------------------------------------------------------------

ROWS = 701
CONF = """
kind: tabular
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
  why: nobody is older
"""
PARAMS = """
seed: 42
source: embedded
budget: smoke
datasets: [orders]
models:
  orders: {family: ann, dataset: orders}
"""


def write_orders(folder: Path, rows: int, age: int | None = None) -> None:
    """Who is rich or likes red buys, with some noise; `age` damages one row."""
    dice, lines = random.Random(7), ["id,age,income,colour,bought"]
    for number in range(rows):
        income, colour = dice.randint(0, 1000), dice.choice(["red", "green", "blue"])
        bought = int(income + 400 * (colour == "red") + dice.gauss(0, 60) > 700)
        lines.append(f"{number},{dice.randint(18, 90)},{income},{colour},{bought}")
    if age is not None:
        lines[11] = lines[11].replace(f",{lines[11].split(',')[1]},", f",{age},", 1)
    folder.mkdir(exist_ok=True)
    (folder / "orders.csv").write_text("\n".join(lines) + "\n")


class Team:
    """A clone with one model on a table of its own, a mirror that changes, a remote, and what CI would read."""

    def __init__(self, place: Path):
        self.mirror, self.place = place / "mirror", place
        write_orders(self.mirror, ROWS)
        (place / "clone").mkdir(parents=True)
        self.clone = fresh_clone(place / "clone")
        self.write("conf/dataset/orders.yaml", CONF)
        self.write("conf/expectations/orders.yaml", EXPECTATIONS)
        model = yaml.safe_load((self.clone.path / "conf/model/ann.yaml").read_text())
        model["budgets"]["smoke"]["schedule"]["max_epochs"] = (
            23  # few rows, so that an epoch is short
        )
        self.write(
            "conf/model/orders.yaml",
            yaml.safe_dump(model | {"gate": {"margin": 0.0, "guards": []}}),
        )
        self.write("params.yaml", PARAMS)
        self.clone.run("dvc", "remote", "add", "-q", "--default", "storage", str(place / "store"))
        self.clone.commit()

    def write(self, file: str, text: str) -> None:
        (self.clone.path / file).write_text(text)

    def retrain(self, code: int | None, clone: Clone | None = None) -> tuple[int, str, str]:
        """The exit code, the summary and what was said, in `clone` or in the team's first one."""
        for name in ("summary.md", "output"):
            (self.place / name).write_text("")
        done = (clone or self.clone).stage(
            "retrain",
            code=code,
            SEXTANT_MIRROR=str(self.mirror),
            GITHUB_STEP_SUMMARY=str(self.place / "summary.md"),
            GITHUB_OUTPUT=str(self.place / "output"),
        )
        assert (self.place / "output").read_text().startswith(f"code={done.returncode}\n")
        assert done.stdout == ""
        return done.returncode, (self.place / "summary.md").read_text(), done.stderr

    def champion(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (self.clone.path / "reports/decisions/orders.json").read_text()
        )
        return found

    def clean(self) -> bool:
        """Neither git nor DVC sees a change."""
        return (
            self.clone.changed() == []
            and json.loads(self.clone.run("dvc", "status", "--json").stdout or "{}") == {}
        )


@pytest.mark.slow(minutes=3)
@pytest.mark.timeout(900)
def test_retraining_played(tmp_path: Path) -> None:
    team = Team(tmp_path)

    # A first training counts as new.
    code, summary, _ = team.retrain(0)
    assert summary.startswith("# Retraining: promoted\n")
    assert (
        "orders.csv: bytes not pinned -> " in summary
        and "first training" in summary
        and f"{ROWS:,}" in summary
    )
    assert team.champion()["champion"] is True and team.champion()["version"] == "1"
    assert any(path.is_file() for path in (tmp_path / "store").rglob("*")), "nothing was pushed"
    produced = ["dvc.lock", "reports/metrics/orders.json", "reports/validation/orders.json"]
    assert team.clone.changed() == ["conf/dataset/orders.yaml", *produced]
    team.clone.commit("first training")
    assert team.clean()

    # Nothing new runs nothing.
    code, summary, said = team.retrain(10)
    assert summary.startswith("# Retraining: nothing new\n") and "Running stage" not in said
    assert team.clean()

    # Damaged rows: all as before, champion and all.
    before = team.champion()
    write_orders(team.mirror, ROWS + 11, age=400)
    code, summary, said = team.retrain(12)
    assert (
        summary.startswith("# Retraining: bad data\n")
        and "age" in summary
        and "as before" in summary
    )
    assert said.splitlines()[-1].startswith("sextant: the new data were refused")
    assert team.clean() and team.champion() == before

    # A source that is gone.
    (team.mirror / "orders.csv").rename(tmp_path / "aside.csv")
    code, summary, _ = team.retrain(1)
    assert summary.startswith("# Retraining: failure\n") and "orders.csv" in summary
    assert team.clean() and team.champion() == before

    # More rows: the gate decides, and the code says how.
    write_orders(team.mirror, ROWS + 201)
    code, summary, _ = team.retrain(None)
    assert code == (0 if team.champion()["champion"] else 11)
    assert summary.startswith(f"# Retraining: {'promoted' if code == 0 else 'not promoted'}\n")
    assert f"{ROWS:,} -> {ROWS + 201:,}" in summary and "(+201)" in summary
    assert (
        f"{json.loads((team.clone.path / 'reports/metrics/orders.json').read_text())['test']['accuracy']:.4f}"
        in summary
    )
    assert team.champion()["reason"] in summary and team.champion()["version"] == "2"
    assert team.clone.changed() == ["conf/dataset/orders.yaml", *produced]
    team.clone.commit("more rows")
