"""The leaderboard: one row a model, wide enough to say it and narrow enough to read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant import leaderboard
from sextant.errors import SextantError, UsageError
from sextant.files import folder_digest

PARAMS = """\
seed: 42
source: embedded
budget: smoke
datasets: [loans, films]
models:
  tall: {family: ann, dataset: loans}
  wide: {family: sae, dataset: films}
"""


def metrics(model: str, dataset: str, direction: str = "up", source: str = "embedded") -> dict:
    """What evaluate writes: the model has 0.8, two baselines 0.5 and 0.7."""
    baselines = {"simple": {"worth": 0.5}, "clever": {"worth": 0.7}}
    facts = {
        "model": model,
        "family": "ann",
        "dataset": dataset,
        "task": "guessing",
        "source": source,
    }
    facts |= {
        "seed": 42,
        "budget": "smoke",
        "epochs": 3,
        "rows": {"train": 61, "val": 7, "test": 23},
    }
    facts |= {
        "metric": "worth",
        "direction": direction,
        "trivial": "simple",
        "baselines": baselines,
    }
    best, gain = ("clever", 0.1) if direction == "up" else ("simple", -0.3)
    facts |= {"interval": [0.7, 0.9], "best": best, "better": [gain, gain - 0.02, gain + 0.02]}
    return facts | {"val": {"worth": 0.81}, "test": {"worth": 0.8}}


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """Two models evaluated, the first of them promoted."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    for folder in ("reports/metrics", "reports/decisions", "models/tall", "data/raw/loans"):
        Path(folder).mkdir(parents=True)
    Path("models/tall/model.json").write_text("{}")
    Path("data/raw/loans/source.json").write_text("{}")
    Path("data/raw/loans/loans.csv").write_text("a\n1\n")
    Path("reports/metrics/tall.json").write_text(json.dumps(metrics("tall", "loans")))
    Path("reports/metrics/wide.json").write_text(
        json.dumps(metrics("wide", "films", "down", "mirror"))
    )
    decision = {
        "decision": "promoted",
        "champion": True,
        "digest": folder_digest(Path("models/tall")),
    }
    Path("reports/decisions/tall.json").write_text(json.dumps(decision))
    return tmp_path


def test_a_row_per_model_with_its_best_baseline_by_direction(workspace):
    models = ["tall", "wide"]
    tall, wide = leaderboard.rows(
        leaderboard.read_metrics(models), leaderboard.read_decisions(models)
    )
    assert tall.cells[:4] == ("tall", "loans (twin)", "worth", "0.8000 [0.700…0.900]")
    assert tall.cells[4:6] == ("0.5000 simple", "0.7000 clever")
    assert tall.cells[6:] == ("+0.1000 [+0.080…+0.120]", "promoted, champion")
    assert wide.cells[:4] == ("wide", "films (real)", "worth", "0.8000 [0.700…0.900]")
    assert wide.cells[4:6] == ("0.5000 simple", "0.5000 simple")
    assert wide.cells[6:] == ("-0.3000 [-0.320…-0.280]", "not registered here")


def test_a_decision_on_another_model_is_not_this_ones(workspace):
    Path("models/tall/model.json").write_text('{"trained": "anew"}')
    assert leaderboard.read_decisions(["tall"]) == {}


def test_a_decision_outlives_the_files_of_its_model(workspace):
    Path("models/tall/model.json").unlink()
    Path("models/tall").rmdir()
    assert set(leaderboard.read_decisions(["tall"])) == {"tall"}


def test_main_prints_the_table_and_what_to_type_next(workspace, capsys):
    leaderboard.main([])
    told = capsys.readouterr().out
    assert told.startswith("model  data set") and "\x1b" not in told
    assert "make ui" in told and "reports/index.html" in told
    assert "make predict MODEL=tall INPUT=data/raw/loans/loans.csv OUTPUT=answers.csv" in told
    assert "SEXTANT_MIRROR=<folder>" in told and "`source: mirror` in params.yaml" in told
    assert max(map(len, told.splitlines())) <= 100


def test_real_data_need_no_word_on_how_to_get_them(workspace, capsys):
    for model, dataset in (("tall", "loans"), ("wide", "films")):
        Path(f"reports/metrics/{model}.json").write_text(
            json.dumps(metrics(model, dataset, source="canonical"))
        )
    leaderboard.main([])
    assert "SEXTANT_MIRROR" not in capsys.readouterr().out


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,40}", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(NAMES, min_size=3, max_size=3),
    decision=st.text("abc _", min_size=1, max_size=40),
)
def test_whatever_the_names_the_table_fits_and_loses_no_letter(names, decision):
    model, dataset, baseline = names
    found = metrics(model, dataset) | {
        "baselines": {baseline: {"worth": 0.7}},
        "trivial": baseline,
        "best": baseline,
    }
    row = leaderboard.rows([found], {model: {"decision": decision, "champion": True}})[0]
    text = leaderboard.as_text([row])
    assert max(map(len, text.splitlines())) <= 100
    rule = next(line for line in text.splitlines() if set(line) <= {"-", " "})
    starts = [i for i, mark in enumerate(rule) if mark == "-" and rule[:i][-1:] in ("", " ")]
    for start, end, heading, cell in zip(
        starts, [*starts[1:], 101], leaderboard.TOLD, row.told, strict=True
    ):
        column = "".join(line[start:end] for line in text.splitlines() if line != rule)
        assert "".join(column.split()) == "".join(f"{heading}{cell}".split())


def test_a_word_is_broken_after_an_underscore_and_only_where_it_must():
    long = metrics("ann", "loans") | {"baselines": {"logistic_regression": {"worth": 0.7}}}
    found = leaderboard.rows(
        [long | {"trivial": "logistic_regression", "best": "logistic_regression"}], {}
    )
    assert leaderboard.as_text(found, 120).count("logistic_regression") == 2
    narrow = leaderboard.as_text(found, 68)
    assert (
        narrow.count("logistic_\n") + narrow.count("logistic_ ") == 2 and "logistic_r" not in narrow
    )


def test_colours_are_in_the_heading_alone():
    found = leaderboard.rows([metrics("tall", "loans")], {})
    plain, coloured = leaderboard.as_text(found), leaderboard.as_text(found, colors=True)
    assert "\x1b" not in plain and coloured.replace("\x1b[1m", "").replace("\x1b[0m", "") == plain
    heading, rule, body = coloured.partition("\x1b[0m")
    assert (
        rule
        and heading.startswith("\x1b[1m")
        and "\x1b" not in body
        and body.lstrip("\n").startswith("-----  ")
    )


def test_markdown_says_the_same():
    row = leaderboard.rows(
        [metrics("tall", "loans")], {"tall": {"decision": "kept | so far", "champion": False}}
    )[0]
    heading, rule, line = leaderboard.as_markdown([row]).splitlines()
    assert (
        heading.count("|")
        == rule.count("|")
        == line.replace("\\|", "").count("|")
        == len(row.cells) + 1
    )
    assert "kept \\| so far" in line


def test_a_missing_file_is_named_with_the_command_that_makes_it(workspace):
    Path("reports/metrics/wide.json").unlink()
    with pytest.raises(
        SextantError, match=r"reports/metrics/wide.json is missing.*`wide`.*`make repro`"
    ):
        leaderboard.main([])


@pytest.mark.parametrize(
    "text", ["{", "{}", "[]", json.dumps(metrics("wide", "films") | {"best": "clevver"})]
)
def test_a_broken_file_is_named(workspace, text):
    Path("reports/metrics/wide.json").write_text(text)
    with pytest.raises(SextantError, match=r"reports/metrics/wide.json .*`make repro`"):
        leaderboard.main([])


def test_it_takes_no_arguments(workspace):
    with pytest.raises(UsageError, match="`model=tall` is not understood"):
        leaderboard.main(["model=tall"])


def test_it_starts_without_the_heavy_libraries():
    code = "import sys, sextant.leaderboard; print(*sys.modules)"
    here = os.environ | {"PYTHONPATH": str(Path(leaderboard.__file__).parents[1])}
    told = subprocess.run(
        [sys.executable, "-c", code], env=here, capture_output=True, text=True, check=True
    )
    loaded = told.stdout.split()
    assert "sextant.leaderboard" in loaded and not {
        "torch",
        "pandas",
        "numpy",
        "matplotlib",
        "mlflow",
        "hydra",
        "jinja2",
    } & set(loaded)
