"""`make leaderboard`: the table, and the commands to go on with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_scoreboard import metrics, write_reports

from sextant.commands import leaderboard
from sextant.errors import UsageError


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_reports()
    return tmp_path


def test_main_prints_the_table_and_the_next_commands(workspace, capsys):
    leaderboard.main([])
    text = capsys.readouterr().out
    assert text.startswith("model  data set") and "\x1b" not in text
    assert "make ui" in text and "reports/index.html" in text
    assert "make predict MODEL=tall INPUT=data/raw/loans/loans.csv OUTPUT=answers.csv" in text
    assert "SEXTANT_MIRROR=<folder>" in text and "`source: mirror` in params.yaml" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_hint_on_real_data_is_shown_for_twins_only(workspace, capsys):
    for model, dataset in (("tall", "loans"), ("wide", "films")):
        record = metrics(model, dataset, source="canonical")
        Path(f"reports/metrics/{model}.json").write_text(json.dumps(record))
    leaderboard.main([])
    assert "SEXTANT_MIRROR" not in capsys.readouterr().out


def test_it_takes_no_arguments(workspace):
    with pytest.raises(UsageError, match="`model=tall` is not understood"):
        leaderboard.main(["model=tall"])


def test_it_starts_without_the_heavy_libraries():
    code = "import sys, sextant.commands.leaderboard; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(leaderboard.__file__).parents[2])}
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(process.stdout.split())
    assert "sextant.commands.leaderboard" in loaded
    heavy = {"torch", "pandas", "numpy", "matplotlib", "mlflow", "hydra", "jinja2"}
    assert not heavy & loaded
