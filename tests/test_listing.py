"""Entries of params.yaml are added and removed as text, and every other byte stays."""

import cases
import pytest
import yaml

from sextant import listing
from sextant.errors import UsageError
from sextant.listing import Entry

PARAMS = """\
# The choices of a run.
seed: 42
datasets:             # name: kind
  # of the bank
  churn: tabular      # 10,000 rows
  prices: series
models:

  ann: {family: ann, dataset: churn}   # the first
  # about rnn
  rnn:
    family: rnn
    dataset: prices   # of Google

  # the end
budget: smoke
"""
LOANS = Entry(["# of loans", "# two lines"], "loans: {family: ann, dataset: loans}  # new")


def test_an_entry_has_its_lines_and_the_comments_above_it() -> None:
    assert listing.entry(PARAMS, "datasets", "churn", "x") == Entry(
        ["# of the bank"], "churn: tabular      # 10,000 rows"
    )
    assert listing.entry(PARAMS, "datasets", "prices", "x") == Entry([], "prices: series")
    rnn = listing.entry(PARAMS, "models", "rnn", "x")
    assert rnn.comments == ["# about rnn"]
    assert rnn.text == "rnn:\n    family: rnn\n    dataset: prices   # of Google"


@cases.each("block", ["datasets", "models"])
@cases.each("newline", ["\n", "\r\n"])
def test_what_is_added_and_removed_again_leaves_every_byte(block: str, newline: str) -> None:
    text = PARAMS.replace("\n", newline)
    added = listing.with_entry(text, block, LOANS, "x")
    assert list(yaml.safe_load(added)[block])[-1] == "loans"
    assert [line for line in added.split(newline) if line not in text.split(newline)] == [
        "  # of loans",
        "  # two lines",
        f"  {LOANS.text}",
    ]
    assert listing.entry(added, block, "loans", "x") == LOANS
    assert listing.without_entry(added, block, "loans", LOANS.comments, "x") == text


@pytest.mark.parametrize("end", ["", "\n", "  # the last\n"])
def test_an_entry_is_added_at_the_end_of_a_file(end: str) -> None:
    text = "models:\n  ann: {family: ann}" + end
    added = listing.with_entry(text, "models", Entry([], "rnn: {family: rnn}"), "x")
    assert added == text.rstrip("\n") + "\n  rnn: {family: rnn}\n"


def test_a_removed_entry_takes_only_the_comments_that_were_added_with_it() -> None:
    without = listing.without_entry(PARAMS, "datasets", "churn", [], "x")
    assert without == PARAMS.replace("  churn: tabular      # 10,000 rows\n", "")
    without = listing.without_entry(PARAMS, "datasets", "churn", ["# of the bank"], "x")
    assert without == PARAMS.replace("  # of the bank\n  churn: tabular      # 10,000 rows\n", "")
    without = listing.without_entry(PARAMS, "datasets", "churn", ["# another"], "x")
    assert "  # of the bank\n" in without
    lines = "  rnn:\n    family: rnn\n    dataset: prices   # of Google\n"
    assert listing.without_entry(PARAMS, "models", "rnn", [], "x") == PARAMS.replace(lines, "")


@pytest.mark.parametrize("text", ["models: {ann: {family: ann}}\n", "models:\n", "seed: 1\n"])
def test_lists_that_are_not_written_in_lines_are_refused(text: str) -> None:
    message = "x: `models` is no block of lines; add `loans: .*` to it by hand, or write each entry"
    with pytest.raises(UsageError, match=message):
        listing.with_entry(text, "models", LOANS, "x")
    with pytest.raises(UsageError, match="edit `ann` in it by hand"):
        listing.without_entry(text, "models", "ann", [], "x")
