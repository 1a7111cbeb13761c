"""A champion's answers: the same from every form of question, and a refusal in one line where there can be none."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Clone

import sextant
from sextant import config, files, predict, tracking
from sextant.errors import DataError, SextantError, UsageError

pytestmark = pytest.mark.slow  # all of them ask the chain's champion

MODEL = "ann"
NAME = tracking.registered_name(MODEL, "embedded")
ROWS = 31


@pytest.fixture(scope="module")
def registry(chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the chain's database, whose versions lie where the chain's do."""
    return chain.copy_registry(tmp_path_factory.mktemp("registry") / "mlflow.db")


@pytest.fixture(autouse=True)
def at_the_chain(chain: Clone, registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(chain.path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registry}")


@pytest.fixture(scope="module")
def asked(chain: Clone) -> pd.DataFrame:
    """Rows as they lie upstream, label and key among them."""
    return pd.read_csv(chain.path / "data/raw/churn/Churn_Modelling.csv").head(ROWS)


@pytest.fixture
def columns() -> Any:
    return config.dataset("churn").columns


Ask = Callable[..., pd.DataFrame]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """The answers of the command line to a frame, by way of files."""

    def asking(frame: pd.DataFrame, ending: str = "csv", **how: Any) -> pd.DataFrame:
        question, answers = (
            written(frame, tmp_path / f"rows.{ending}", **how),
            tmp_path / "answers.csv",
        )
        predict.main([f"model={MODEL}", f"input={question}", f"output={answers}"])
        return pd.read_csv(answers)

    return asking


def written(frame: pd.DataFrame, path: Path, **how: Any) -> Path:
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False, **how)
        case ".parquet":
            frame.to_parquet(path, index=False)
        case ".json":
            frame.to_json(path, orient="records")
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_every_form_of_question_gets_the_answers_of_the_library(
    asked: pd.DataFrame, ask: Ask, ending: str
) -> None:
    expected = sextant.load(MODEL).predict(asked)
    assert list(expected.columns) == ["prediction", "probability"] and len(expected) == ROWS
    pd.testing.assert_frame_equal(ask(asked, ending), expected, check_exact=True)


def test_answers_are_probabilities_and_the_class_they_favour(asked: pd.DataFrame) -> None:
    answers = sextant.load(MODEL).predict(asked)
    assert (
        answers["probability"].between(0, 1).all() and answers["probability"].nunique() > ROWS // 2
    )
    assert set(answers["prediction"]) == {0, 1}
    assert ((answers["probability"] > 0.5) == (answers["prediction"] == 1)).all()


def test_a_row_is_answered_for_itself_alone(asked: pd.DataFrame) -> None:
    model = sextant.load(MODEL)
    together = model.predict(asked)
    alone = pd.concat([model.predict(asked.iloc[[i]]) for i in range(ROWS)], ignore_index=True)
    pd.testing.assert_frame_equal(alone, together, atol=1e-6)
    turned = model.predict(asked.iloc[::-1])
    pd.testing.assert_frame_equal(turned.iloc[::-1].reset_index(drop=True), together, atol=1e-6)


def test_label_key_and_ignored_columns_may_be_left_out_in_any_order(
    asked: pd.DataFrame, columns: Any, ask: Ask
) -> None:
    expected = ask(asked)
    pd.testing.assert_frame_equal(ask(asked[columns.features[::-1]]), expected)
    pd.testing.assert_frame_equal(ask(asked.drop(columns=columns.target)), expected)


def test_answers_go_to_standard_output_where_no_file_is_named(
    asked: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict.main([f"model={MODEL}", f"input={written(asked, tmp_path / 'rows.csv')}"])
    said = capsys.readouterr()
    assert (
        said.out.splitlines()[0] == "prediction,probability"
        and len(said.out.splitlines()) == ROWS + 1
    )
    assert said.err == f"sextant: {MODEL} has no champion on real data; its twin's answers\n"


def test_the_command_line_says_no_more_than_the_answers(
    chain: Clone, asked: pd.DataFrame, tmp_path: Path
) -> None:
    rows = written(asked, tmp_path / "rows.csv")
    said = chain.run(sys.executable, "-m", "sextant.predict", f"model={MODEL}", f"input={rows}")
    assert len(said.stdout.splitlines()) == ROWS + 1 and len(said.stderr.splitlines()) == 1
    (tmp_path / "expected.csv").write_text(said.stdout)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "expected.csv"), sextant.load(MODEL).predict(asked)
    )


# --- what is refused --------------------------------------------------------------------------------------------------


def changed(row: int, column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object})
        frame.loc[frame.index[row - 1], column] = value
        return frame

    return change


REFUSED: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing column": (
        lambda rows: rows.drop(columns="Age"),
        "missing column Age; expected .*Tenure.*; name the columns",
    ),
    "surplus column": (
        lambda rows: rows.assign(Income=1),
        "surplus column Income; expected .*Tenure.*; name the columns",
    ),
    "renamed column": (
        lambda rows: rows.rename(columns={"Age": "Years"}),
        "missing column Age; surplus column Years; expected",
    ),
    "nothing in a number": (
        changed(7, "Age", None),
        "row 7 has no `Age`; expected a number; correct the row",
    ),
    "NaN": (
        changed(7, "Age", "NaN"),
        "row 7 has 'NaN' in `Age`; expected a finite number; correct the row",
    ),
    "infinity": (
        changed(5, "Balance", "inf"),
        "row 5 has inf in `Balance`; expected a finite number",
    ),
    "negative infinity": (
        changed(5, "Balance", "-inf"),
        "row 5 has -inf in `Balance`; expected a finite number",
    ),
    "letters": (
        changed(3, "Tenure", "five"),
        "row 3 has 'five' in `Tenure`; expected a finite number; correct the row",
    ),
    "nothing in a category": (
        changed(2, "Geography", None),
        "row 2 has no `Geography`; expected one of France, Germany",
    ),
    "no rows": (lambda rows: rows.head(0), "no rows to answer; give at least one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_cannot_be_answered_are_refused(
    case: str, asked: pd.DataFrame, tmp_path: Path, ask: Ask
) -> None:
    damage, why = REFUSED[case]
    answers = tmp_path / "answers.csv"
    answers.write_text("the answers of yesterday\n")
    with pytest.raises(DataError, match=why) as met:
        ask(damage(asked))
    assert "\n" not in str(met.value)
    assert answers.read_text() == "the answers of yesterday\n"
    assert {path.name for path in tmp_path.iterdir()} == {
        "rows.csv",
        "answers.csv",
    }  # nothing half-written


@pytest.mark.parametrize("column", ["Age", "Geography"])
def test_the_library_refuses_what_the_command_line_refuses(
    asked: pd.DataFrame, column: str
) -> None:
    model = sextant.load(MODEL)
    for value in (np.nan, None) if column == "Geography" else (np.nan, np.inf, -np.inf, "many"):
        with pytest.raises(DataError, match=f"row 11 has .*`{column}`"):
            model.predict(changed(11, column, value)(asked))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("gone.csv", None, "gone.csv does not exist; name a file of rows"),
        ("empty.csv", b"", "empty.csv is empty; expected a table with"),
        ("torn.parquet", b"PAR1 and then nothing", "torn.parquet is not a table"),
        ("torn.json", b'[{"Age": 41}, {"Age"', "torn.json is not a table"),
        ("bytes.csv", b"\xff\xfe\x00\x01" * 50, "bytes.csv is not a table"),
    ],
)
def test_files_that_are_no_table_are_refused(
    name: str, content: bytes | None, why: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=why) as met:
        predict.main([f"model={MODEL}", f"input={tmp_path / name}"])
    assert "\n" not in " ".join(str(met.value).split())


def test_an_unseen_category_is_answered_with_a_warning(
    asked: pd.DataFrame, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = ask(changed(4, "Geography", "Atlantis")(asked))
    assert (
        "sextant: warning: `Geography` has Atlantis, which training did not have\n"
        in capsys.readouterr().err
    )
    before = ask(asked)
    others = answers.drop(index=3)
    pd.testing.assert_frame_equal(others, before.drop(index=3))
    assert (
        0 <= answers["probability"][3] <= 1
        and answers["probability"][3] != before["probability"][3]
    )


def test_given_files_are_left_as_they_are(asked: pd.DataFrame, tmp_path: Path, ask: Ask) -> None:
    rows = written(asked, tmp_path / "rows.csv")
    before = files.sha256(rows), rows.stat().st_mtime_ns
    predict.main([f"model={MODEL}", f"input={rows}", f"output={tmp_path / 'far' / 'answers.csv'}"])
    assert (files.sha256(rows), rows.stat().st_mtime_ns) == before
    for output, what in ((rows, "the input"), (tmp_path / "far", "a folder")):
        with pytest.raises(UsageError, match=f"is {what}; name a file for the answers"):
            predict.main([f"model={MODEL}", f"input={rows}", f"output={output}"])
    assert files.sha256(rows) == before[0] and (tmp_path / "far/answers.csv").is_file()


@pytest.mark.parametrize("words", [[], ["model=ann"], ["input=x.csv"], ["model=ann", "lr=1"]])
def test_a_question_without_model_or_rows_is_answered_with_the_usage(words: list[str]) -> None:
    with pytest.raises(
        UsageError, match="expected: make predict MODEL=<model> INPUT=<file of rows>"
    ):
        predict.main(words)


def test_an_option_that_the_task_does_not_have_is_refused(
    asked: pd.DataFrame, tmp_path: Path
) -> None:
    rows = written(asked, tmp_path / "rows.csv")
    with pytest.raises(UsageError, match="unknown option `lr`; this model takes none"):
        predict.main([f"model={MODEL}", f"input={rows}", "lr=1"])


# --- which champion, and by which code --------------------------------------------------------------------------------


def test_a_model_that_has_no_champion_is_named() -> None:
    with pytest.raises(
        SextantError,
        match="`digits` has no champion in sqlite:///.*; champions there: ann.*; `make repro`",
    ):
        sextant.load("digits")


@pytest.fixture
def real(registry: Path) -> Iterator[Any]:
    """The same files registered as a real lineage beside the twin's."""
    client, name = tracking.client(), tracking.registered_name(MODEL, "mirror")
    twin = client.get_model_version(NAME, "1")
    client.create_registered_model(name, tags={"dataset": "churn"})
    client.create_model_version(
        name, twin.source, twin.run_id, tags={"model": MODEL, "source": "mirror"}
    )
    yield client
    client.delete_registered_model(name)


def test_the_real_champion_answers_before_the_twins(
    real: Any, asked: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    sextant.load(MODEL).predict(asked)
    assert "its twin's answers" in capsys.readouterr().err  # registered, and not champion
    real.set_registered_model_alias(
        tracking.registered_name(MODEL, "mirror"), tracking.CHAMPION, "1"
    )
    sextant.load(MODEL).predict(asked)
    assert capsys.readouterr().err == ""


def test_the_packed_code_answers_and_not_this_checkouts(chain: Clone, asked: pd.DataFrame) -> None:
    model = sextant.load(MODEL)
    module = sys.modules[type(model).__module__]
    assert module.__name__.startswith("sextant_") and module.__file__
    assert Path(module.__file__).is_relative_to(chain.path / "mlruns")
    assert sys.modules[type(model.net).__module__].__name__.startswith("sextant_")
    assert "sextant_" not in predict.__name__
