"""The comment on a pull request: what a branch changes."""

import json

import pytest
from conftest import Clone

from sextant.commands import compare
from sextant.errors import UsageError


def test_a_table_has_what_changed_and_is_short() -> None:
    changes = {
        "reports/metrics/ann.json": {
            "test.accuracy": {"old": 0.85, "new": 0.861234},
            "baselines.majority.accuracy": {"old": None, "new": 0.8},
        },
        "conf/model/ann.yaml": {"net.about": {"old": "a|b", "new": "x" * 500}},
    }
    table = compare.changes_table(changes, ("test.", "net."))
    lines = table.splitlines()
    assert lines[2].startswith("| ann: net.about | a\\|b | xxx") and len(lines[2]) < 120
    assert lines[3] == "| ann: test.accuracy | 0.8500 | 0.8612 |"
    assert len(lines) == 4
    assert compare.changes_table({}) == "No change.\n"
    many = {"params.yaml": {f"k{number}": {"old": 0, "new": 1} for number in range(70)}}
    assert compare.changes_table(many).endswith("\nAnd 10 more.\n")


def test_a_record_of_an_earlier_form_is_left_out() -> None:
    assert compare.rows_of([{"model": "ann"}]) == []  # type: ignore[typeddict-item]


@pytest.mark.parametrize("base", ["origin/nowhere", "--all"])
def test_an_unknown_commit_is_refused(base: str) -> None:
    with pytest.raises(UsageError, match=f"BASE={base}: git has no such commit"):
        compare.compare(base)


@pytest.mark.slow
def test_the_comment_has_both_leaderboards_and_what_changed(clone: Clone) -> None:
    metrics = clone.path / "reports/metrics/ann.json"
    record = json.loads(metrics.read_text())
    before = record["test"]["accuracy"]
    record["test"]["accuracy"] = 0.123456
    metrics.write_text(json.dumps(record))
    conf = clone.path / "conf/model/ann.yaml"
    conf.write_text(conf.read_text().replace("dropout: 0.2", "dropout: 0.4"))
    comment = clone.run("make", "compare", "BASE=HEAD").stdout
    here, there = comment.split("## Leaderboard of `HEAD`")
    assert "0.1235" in here and f"{before:.4f}" in there
    assert f"| ann: test.accuracy | {before:.4f} | 0.1235 |" in there
    assert "| ann: net.dropout | 0.2000 | 0.4000 |" in there
