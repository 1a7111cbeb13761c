"""The rows of the leaderboard: one per model, complete, and narrow enough for a terminal."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant import scoreboard
from sextant.errors import SextantError
from sextant.files import folder_digest

PARAMS = """\
seed: 42
source: embedded
budget: smoke
datasets:
  loans: tabular
  films: ratings
models:
  tall: {family: ann, task: classification, dataset: loans, kind: tabular}
  wide: {family: sae, task: stars, dataset: films, kind: ratings}
"""


def metrics(model: str, dataset: str, direction: str = "up", source: str = "embedded") -> dict:
    """Metrics as evaluate writes them: 0.8 for the model, 0.5 and 0.7 for two baselines."""
    best, gain = ("clever", 0.1) if direction == "up" else ("simple", -0.3)
    return {
        "model": model,
        "family": "ann",
        "dataset": dataset,
        "task": "guessing",
        "source": source,
        "seed": 42,
        "budget": "smoke",
        "epochs": 3,
        "rows": {"train": 61, "val": 7, "test": 23},
        "metric": "worth",
        "direction": direction,
        "val": {"worth": 0.81},
        "test": {"worth": 0.8},
        "interval": [0.7, 0.9],
        "baselines": {"simple": {"worth": 0.5}, "clever": {"worth": 0.7}},
        "trivial": "simple",
        "best": best,
        "better": [gain, gain - 0.02, gain + 0.02],
    }


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_reports()
    return tmp_path


def write_reports() -> None:
    """Write params.yaml and reports of two evaluated models, the first of them promoted."""
    Path("params.yaml").write_text(PARAMS)
    for folder in ("reports/metrics", "reports/decisions", "models/tall", "data/raw/loans"):
        Path(folder).mkdir(parents=True)
    Path("models/tall/model.json").write_text("{}")
    Path("data/raw/loans/source.json").write_text("{}")
    Path("data/raw/loans/loans.csv").write_text("a\n1\n")
    for record in (metrics("tall", "loans"), metrics("wide", "films", "down", "mirror")):
        Path(f"reports/metrics/{record['model']}.json").write_text(json.dumps(record))
    decision = {
        "decision": "promoted",
        "champion": True,
        "digest": folder_digest(Path("models/tall")),
    }
    Path("reports/decisions/tall.json").write_text(json.dumps(decision))


def test_rows_show_the_best_baseline_by_direction(workspace):
    models = ["tall", "wide"]
    decisions = scoreboard.read_decisions(models)
    tall, wide = scoreboard.rows(scoreboard.read_metrics(models), decisions)
    assert tall.cells[:4] == ("tall", "loans (twin)", "worth", "0.8000 [0.700…0.900]")
    assert tall.cells[4:6] == ("0.5000 simple", "0.7000 clever")
    assert tall.cells[6:] == ("+0.1000 [+0.080…+0.120]", "promoted, champion")
    assert wide.cells[:4] == ("wide", "films (real)", "worth", "0.8000 [0.700…0.900]")
    assert wide.cells[4:6] == ("0.5000 simple", "0.5000 simple")
    assert wide.cells[6:] == ("-0.3000 [-0.320…-0.280]", "not registered here")


def test_a_decision_on_an_older_training_is_ignored(workspace):
    Path("models/tall/model.json").write_text('{"trained": "again"}')
    assert scoreboard.read_decisions(["tall"]) == {}


def test_a_decision_is_kept_if_the_files_of_its_model_are_missing(workspace):
    Path("models/tall/model.json").unlink()
    Path("models/tall").rmdir()
    assert set(scoreboard.read_decisions(["tall"])) == {"tall"}


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,40}", fullmatch=True)


@settings(max_examples=15, deadline=None)
@given(
    names=st.lists(NAMES, min_size=3, max_size=3),
    decision=st.text("abc _", min_size=1, max_size=40),
)
def test_the_table_fits_and_is_complete_for_any_names(names, decision):
    model, dataset, baseline = names
    record = metrics(model, dataset) | {
        "baselines": {baseline: {"worth": 0.7}},
        "trivial": baseline,
        "best": baseline,
    }
    row = scoreboard.rows([record], {model: {"decision": decision, "champion": True}})[0]
    text = scoreboard.as_text([row])
    assert max(map(len, text.splitlines())) <= 100
    rule = next(line for line in text.splitlines() if set(line) <= {"-", " "})
    starts = [i for i, mark in enumerate(rule) if mark == "-" and rule[:i][-1:] in ("", " ")]
    ends = [*starts[1:], 101]
    headings = scoreboard.TERMINAL_HEADINGS
    for start, end, heading, cell in zip(starts, ends, headings, row.terminal_cells, strict=True):
        column = "".join(line[start:end] for line in text.splitlines() if line != rule)
        assert "".join(column.split()) == "".join(f"{heading}{cell}".split())


def test_a_name_is_broken_after_an_underscore_and_only_if_necessary():
    record = metrics("ann", "loans") | {
        "baselines": {"logistic_regression": {"worth": 0.7}},
        "trivial": "logistic_regression",
        "best": "logistic_regression",
    }
    rows = scoreboard.rows([record], {})
    assert scoreboard.as_text(rows, 120).count("logistic_regression") == 2
    narrow = scoreboard.as_text(rows, 68)
    assert narrow.count("logistic_\n") + narrow.count("logistic_ ") == 2
    assert "logistic_r" not in narrow


def test_only_the_heading_is_coloured():
    rows = scoreboard.rows([metrics("tall", "loans")], {})
    plain, coloured = scoreboard.as_text(rows), scoreboard.as_text(rows, colors=True)
    assert "\x1b" not in plain and coloured.replace("\x1b[1m", "").replace("\x1b[0m", "") == plain
    heading, rule, body = coloured.partition("\x1b[0m")
    assert rule and heading.startswith("\x1b[1m")
    assert "\x1b" not in body and body.lstrip("\n").startswith("-----  ")


def test_markdown_has_a_column_per_cell_and_escapes_bars():
    decisions = {"tall": {"decision": "kept | so far", "champion": False}}
    row = scoreboard.rows([metrics("tall", "loans")], decisions)[0]
    heading, rule, line = scoreboard.as_markdown([row]).splitlines()
    bars = len(row.cells) + 1
    assert heading.count("|") == rule.count("|") == bars
    assert line.replace("\\|", "").count("|") == bars
    assert "kept \\| so far" in line


def test_a_missing_file_is_named_with_the_command_that_creates_it(workspace):
    Path("reports/metrics/wide.json").unlink()
    with pytest.raises(
        SextantError, match=r"reports/metrics/wide.json is missing.*`wide`.*`make repro`"
    ):
        scoreboard.read_metrics(["wide"])


@pytest.mark.parametrize(
    "text", ["{", "{}", "[]", json.dumps(metrics("wide", "films") | {"best": "clevver"})]
)
def test_a_broken_file_is_named(workspace, text):
    Path("reports/metrics/wide.json").write_text(text)
    with pytest.raises(SextantError, match=r"reports/metrics/wide.json .*`make repro`"):
        scoreboard.read_metrics(["wide"])
