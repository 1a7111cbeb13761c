"""Command predict: the same answers for every form of input, and errors in one line."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from conftest import Clone

import sextant
from sextant import config, files
from sextant.commands import predict
from sextant.errors import DataError, SextantError, UsageError
from sextant.tracking import registry, store

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

pytestmark = [
    pytest.mark.slow,  # all of them ask the pipeline's champion
    pytest.mark.usefixtures("in_pipeline"),
]

MODEL = "ann"
NAME = registry.registered_name(MODEL, "embedded")
ROWS = 31

Ask = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def rows(pipeline: Clone) -> pd.DataFrame:
    """Rows as they are upstream, with label and key."""
    return pd.read_csv(pipeline.path / "data/raw/churn/Churn_Modelling.csv").head(ROWS)


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """The answers of the command line to a frame, which is written to a file."""

    def answers_to(frame: pd.DataFrame, suffix: str = "csv") -> pd.DataFrame:
        source = write(frame, tmp_path / f"rows.{suffix}")
        answers = tmp_path / "answers.csv"
        predict.main([f"model={MODEL}", f"input={source}", f"output={answers}"])
        return read_answers(answers)

    return answers_to


def read_answers(path: Path) -> pd.DataFrame:
    """The answers in a CSV file; classes are text, and most rows have no warnings."""
    types = {"prediction": "str", "positive": "str", "warnings": "str"}
    return pd.read_csv(path, dtype=types).fillna({"warnings": ""})


def write(frame: pd.DataFrame, path: Path) -> Path:
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".parquet":
            frame.to_parquet(path, index=False)
        case ".json":
            frame.to_json(path, orient="records")
    return path


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_every_file_format_gets_the_answers_of_the_library(
    rows: pd.DataFrame, ask: Ask, suffix: str
) -> None:
    expected = sextant.load(MODEL).predict(rows)
    named = ["CustomerId", "prediction", "probability", "positive"]
    assert list(expected.columns)[:4] == named
    assert list(expected.columns)[-1] == "warnings" and len(expected) == ROWS
    assert expected["CustomerId"].tolist() == rows["CustomerId"].tolist()
    assert (expected["warnings"] == "").all()
    pd.testing.assert_frame_equal(ask(rows, suffix), expected, check_exact=True)


def test_answers_are_probabilities_and_the_more_likely_class(rows: pd.DataFrame) -> None:
    answers = sextant.load(MODEL).predict(rows)
    probability = answers["probability"]
    assert probability.between(0, 1).all() and probability.nunique() > ROWS // 2
    assert set(answers["prediction"]) == {"0", "1"}
    assert ((probability > 0.5) == (answers["prediction"] == "1")).all()


def test_an_answer_depends_on_its_row_alone(rows: pd.DataFrame) -> None:
    model = sextant.load(MODEL)
    together = model.predict(rows)
    one_by_one = [model.predict(rows.iloc[[i]]) for i in range(ROWS)]
    alone = pd.concat(one_by_one, ignore_index=True)
    pd.testing.assert_frame_equal(alone, together, atol=1e-6)
    reversed_answers = model.predict(rows.iloc[::-1]).iloc[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(reversed_answers, together, atol=1e-6)


def test_label_key_and_ignored_columns_may_be_left_out(rows: pd.DataFrame, ask: Ask) -> None:
    columns = config.dataset("churn").columns
    expected = ask(rows)
    without_key = ask(rows[columns.features[::-1]])
    pd.testing.assert_frame_equal(without_key, expected.drop(columns=columns.key))
    pd.testing.assert_frame_equal(ask(rows.drop(columns=columns.target)), expected)


def test_without_an_output_file_the_answers_are_printed(
    rows: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict.main([f"model={MODEL}", f"input={write(rows, tmp_path / 'rows.csv')}"])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert (
        lines[0].startswith("CustomerId,prediction,probability,positive") and len(lines) == ROWS + 1
    )
    note = f"{MODEL} has no champion on real data; the champion on its twin answers"
    assert printed.err == f"sextant: {note}\n"


def test_the_command_line_prints_the_answers_and_nothing_else(
    pipeline: Clone, rows: pd.DataFrame, tmp_path: Path
) -> None:
    source = write(rows, tmp_path / "rows.csv")
    done = pipeline.stage("predict", f"model={MODEL}", f"input={source}")
    assert len(done.stdout.splitlines()) == ROWS + 1 and len(done.stderr.splitlines()) == 1
    (tmp_path / "answers.csv").write_text(done.stdout)
    answers = read_answers(tmp_path / "answers.csv")
    pd.testing.assert_frame_equal(answers, sextant.load(MODEL).predict(rows))


def test_an_unseen_category_is_answered_with_a_warning(
    rows: pd.DataFrame, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = ask(change(4, "Geography", "Atlantis")(rows))
    assert "sextant: warning: `Geography` has Atlantis, which" in capsys.readouterr().err
    unchanged = ask(rows)
    pd.testing.assert_frame_equal(answers.drop(index=3), unchanged.drop(index=3))
    assert answers["warnings"][3] == "`Geography` has Atlantis, which training did not have"
    assert 0 <= answers["probability"][3] <= 1
    assert answers["probability"][3] != unchanged["probability"][3]


def test_a_number_far_from_training_is_answered_with_a_warning(
    rows: pd.DataFrame, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = ask(change(4, "Age", 4000)(rows))
    assert answers["warnings"][3].startswith("`Age` is 4000, far from the ")
    assert (answers["warnings"].drop(index=3) == "").all()
    assert "sextant: warning: `Age` is 4000, far from the " in capsys.readouterr().err


def test_the_input_file_is_left_unchanged(rows: pd.DataFrame, tmp_path: Path) -> None:
    source = write(rows, tmp_path / "rows.csv")
    before = files.sha256(source), source.stat().st_mtime_ns
    arguments = [f"model={MODEL}", f"input={source}"]
    predict.main([*arguments, f"output={tmp_path / 'far' / 'answers.csv'}"])
    assert (tmp_path / "far/answers.csv").is_file()
    refused = {
        source: "is the input; name another file for the answers",
        tmp_path / "far": "is a folder; name a file for the answers",
    }
    for output, message in refused.items():
        with pytest.raises(UsageError, match=message):
            predict.main([*arguments, f"output={output}"])
    assert (files.sha256(source), source.stat().st_mtime_ns) == before


# --- what is refused ----------------------------------------------------------------------------


def change(row: int, column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object})
        frame.loc[frame.index[row - 1], column] = value
        return frame

    return changed


REFUSED: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing column": (
        lambda rows: rows.drop(columns="Age"),
        "missing column Age; expected .*Tenure",
    ),
    "renamed column": (
        lambda rows: rows.rename(columns={"Age": "Years"}),
        "missing column Age; surplus column Years; expected",
    ),
    "NaN": (change(7, "Age", "NaN"), "rows.csv line 8 has 'NaN' in `Age`; expected a finite"),
    "infinity": (change(5, "Balance", "inf"), "line 6 has 'inf' in `Balance`; expected a finite"),
    "-infinity": (change(5, "Balance", "-inf"), "line 6 has '-inf' in `Balance`; expected a fini"),
    "letters": (change(3, "Tenure", "five"), "line 4 has 'five' in `Tenure`; expected a finite"),
    "no rows": (lambda rows: rows.head(0), "no rows to answer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_cannot_be_answered_are_refused(
    case: str, rows: pd.DataFrame, tmp_path: Path, ask: Ask
) -> None:
    damage, message = REFUSED[case]
    answers = tmp_path / "answers.csv"
    answers.write_text("earlier answers\n")
    with pytest.raises(DataError, match=message) as raised:
        ask(damage(rows))
    assert "\n" not in str(raised.value)
    assert answers.read_text() == "earlier answers\n"
    # No partial file is left.
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv", "answers.csv"}


@pytest.mark.parametrize("value", [np.inf, -np.inf, "many"])
def test_the_library_refuses_the_same_rows(rows: pd.DataFrame, value: object) -> None:
    with pytest.raises(DataError, match="row 11 has .*`Age`"):
        sextant.load(MODEL).predict(change(11, "Age", value)(rows))


def test_surplus_columns_are_passed_over_in_one_line(
    rows: pd.DataFrame, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = ask(rows.assign(Income=1))
    line = "sextant: warning: columns that the model does not know are passed over: Income\n"
    assert line in capsys.readouterr().err
    pd.testing.assert_frame_equal(answers, ask(rows))


@pytest.mark.parametrize("column", ["Age", "Geography"])
def test_a_missing_value_is_answered_with_a_warning(
    column: str, rows: pd.DataFrame, ask: Ask
) -> None:
    answers = ask(change(7, column, None)(rows))
    assert f"`{column}` is missing, and never was in training" in answers["warnings"][6]
    assert len(answers) == ROWS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gone.csv", None),
        ("empty.csv", b""),
        ("torn.parquet", b"PAR1 and then nothing"),
        ("torn.json", b'[{"Age": 41}, {"Age"'),
        ("bytes.csv", b"\xff\xfe\x00\x01" * 50),
    ],
)
def test_an_unreadable_file_is_named(name: str, content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as raised:
        predict.main([f"model={MODEL}", f"input={tmp_path / name}"])
    assert "\n" not in " ".join(str(raised.value).split())


@pytest.mark.parametrize("arguments", [[], ["model=ann"], ["input=x.csv"], ["model=ann", "lr=1"]])
def test_a_missing_argument_is_answered_with_the_usage(arguments: list[str]) -> None:
    message = "expected: make predict MODEL=<model> INPUT=<file of rows>"
    with pytest.raises(UsageError, match=message):
        predict.main(arguments)


def test_an_option_that_the_task_does_not_have_is_refused(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    source = write(rows, tmp_path / "rows.csv")
    with pytest.raises(UsageError, match="unknown option `lr`; this model takes all_classes"):
        predict.main([f"model={MODEL}", f"input={source}", "lr=1"])


# --- which champion, and which code -------------------------------------------------------------


def test_a_model_without_a_champion_is_named() -> None:
    message = (
        "`digits` has no champion in sqlite:///.*; models with a champion: ann.*; `make repro`"
    )
    with pytest.raises(SextantError, match=message):
        sextant.load("digits")


@pytest.fixture
def real() -> "Iterator[MlflowClient]":
    """The twin's champion registered a second time, as a model of real data."""
    import mlflow

    client = store.client()
    mlflow.set_tracking_uri(store.uri())  # where MLflow looks for the logged model of a version
    name = registry.registered_name(MODEL, "mirror")
    twin = client.get_model_version(NAME, "1")
    client.create_registered_model(name, tags={"dataset": "churn"})
    tags = {"model": MODEL, "source": "mirror"}
    client.create_model_version(name, str(twin.source), twin.run_id, tags=tags)
    yield client
    client.delete_registered_model(name)


def test_the_champion_on_real_data_comes_before_the_twins(
    real: "MlflowClient", rows: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    sextant.load(MODEL).predict(rows)
    # The version on real data is registered, but not champion.
    assert "the champion on its twin answers" in capsys.readouterr().err
    name = registry.registered_name(MODEL, "mirror")
    real.set_registered_model_alias(name, registry.CHAMPION, "1")
    sextant.load(MODEL).predict(rows)
    assert capsys.readouterr().err == ""


def test_the_packed_code_answers_and_not_this_checkout(pipeline: Clone) -> None:
    model: Any = sextant.load(MODEL)
    module = sys.modules[type(model).__module__]
    assert module.__name__.startswith("sextant_") and module.__file__
    assert Path(module.__file__).resolve().is_relative_to((pipeline.path / "mlruns").resolve())
    assert type(model.net).__module__.startswith("sextant_")
    assert not predict.__name__.startswith("sextant_")
