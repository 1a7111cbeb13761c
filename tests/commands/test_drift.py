"""`make drift`: rows of a file, or of a log of `make serve`, against the training rows."""

from pathlib import Path

import builders
import pytest

from sextant import config, reference
from sextant import drift as comparison
from sextant.commands import drift
from sextant.errors import DataError, UsageError
from sextant.kinds.tabular import rows as tabular_rows

TRAIN = builders.animal_table()


@pytest.fixture(scope="module")
def trained() -> reference.Reference:
    """The summary of the rows that the model of these tests was trained on."""
    return reference.summary(tabular_rows.monitored({"train": TRAIN}, builders.ANIMAL_COLUMNS))


def report(path: Path, trained: reference.Reference) -> comparison.Report:
    summary = drift.summary_of(builders.untrained_model(), path, trained)
    return comparison.compare(trained, summary, config.Drift())


def test_rows_of_a_file_are_compared_with_training(
    tmp_path: Path, trained: reference.Reference
) -> None:
    path = tmp_path / "rows.csv"
    TRAIN.drop(columns="class").to_csv(path, index=False)
    same = report(path, trained)
    assert (same.severity, same.absent) == ("none", ["class"])
    TRAIN.assign(height=TRAIN["height"] + 40).to_csv(path, index=False)
    moved = report(path, trained)
    assert [part.name for part in moved.findings if part.severity == "critical"] == ["height"]
    text = "\n".join(drift.lines(moved))
    assert "height" in text and f"{len(TRAIN):,} -> {len(TRAIN):,}" in text


def test_a_log_is_read_from_all_its_files_and_its_answers_stand_for_labels(
    tmp_path: Path, trained: reference.Reference
) -> None:
    asked = TRAIN.drop(columns=["class", "height"])  # a personal column is not in a log
    beside = {"served_version": "3", "answer_prediction": "cat", "answer_probability": 0.5}
    log = asked.assign(**beside)
    for number, part in enumerate((log.head(100), log.tail(-100))):
        part.to_parquet(tmp_path / f"{number}.parquet", index=False)
    found = report(tmp_path, trained)
    assert found.absent == ["height"]
    label = found.findings[0]
    assert (label.name, label.severity, label.lost) == ("class", "critical", ["dog"])
    assert {part.rows for part in found.findings} == {(len(TRAIN), len(TRAIN))}
    assert {part.severity for part in found.findings[1:]} == {"none"}


def test_rows_without_a_column_of_training_are_refused(
    tmp_path: Path, trained: reference.Reference
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column is one of training: height, weight"):
        report(path, trained)


@pytest.mark.parametrize("argv", [[], ["model=ann"], ["input=x"], ["model=a", "input=b", "c=d"]])
def test_model_and_input_are_needed(argv: list[str]) -> None:
    with pytest.raises(UsageError, match="make drift MODEL=<model> INPUT="):
        drift.main(argv)
