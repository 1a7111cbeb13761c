"""Every champion of the whole chain answers raw rows the same in Python, from a file and over HTTP."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
import pytest
import yaml
from conftest import ROOT, Clone
from mlflow.pyfunc.scoring_server import invocations

import sextant
from sextant.commands import predict
from sextant.tracking import registry

pytestmark = pytest.mark.slow

MODELS: dict[str, dict[str, str]] = yaml.safe_load((ROOT / "params.yaml").read_text())["models"]


@pytest.fixture(autouse=True)
def at_the_chain(whole_chain: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the chain's folder, on a copy of its database."""
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", f"sqlite:///{whole_chain.copy_registry(tmp_path / 'mlflow.db')}"
    )
    monkeypatch.chdir(whole_chain.path)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def table(raw: Path, to: Path) -> Path:
    (file,) = raw.glob("*.csv")
    return file


def days(raw: Path, to: Path) -> Path:
    (file,) = raw.glob("*_Train.csv")
    return file


def pictures(raw: Path, to: Path) -> Path:
    """Some of the archive as files in a folder."""
    (archive,) = raw.glob("*.zip")
    with zipfile.ZipFile(archive) as opened:
        for name in [name for name in opened.namelist() if name.endswith(".jpg")][::300]:
            (to / Path(name).name).write_bytes(opened.read(name))
    return to


def ratings(raw: Path, to: Path) -> Path:
    """What a new user said of three films, and a question about a fourth."""
    file = to / "ratings.csv"
    file.write_text("user,item,rating\n5000,1,5\n5000,2,4\n5000,3,2\n5000,4,\n")
    return file


QUESTIONS: dict[str, Callable[[Path, Path], Path]] = {
    "tabular": table, "series": days, "images": pictures, "ratings": ratings
}  # fmt: skip


def asked(model: str, folder: Path) -> Path:
    """A file or folder as whoever has such data has it."""
    dataset = MODELS[model]["dataset"]
    kind = yaml.safe_load(Path(f"conf/dataset/{dataset}.yaml").read_text())["kind"]
    folder.mkdir()
    return QUESTIONS[kind](Path("data/raw", dataset), folder)


def test_raw_files_are_answered_from_the_command_line_as_in_python(
    model: str, tmp_path: Path
) -> None:
    question = asked(model, tmp_path / "question")
    predict.main([f"model={model}", f"input={question}", f"output={tmp_path / 'answers.csv'}"])
    found = pd.read_csv(tmp_path / "answers.csv")
    champion = sextant.load(model)
    expected = champion.predict(champion.read(question))
    named = found.columns.difference(
        expected.columns
    )  # whose answer it is, where files are asked with
    pd.testing.assert_frame_equal(same(found.drop(columns=named)), same(expected))
    assert len(found) and found.notna().all(axis=None)


def test_a_served_champion_gives_the_same_answers(model: str) -> None:
    """By what MLflow's server calls for a request; tests/test_serve.py starts a real one."""
    folder = tracking.folder_of(tracking.champion_of(tracking.client(), model).model_uri)
    example = mlflow.pyfunc.load_model(str(folder)).input_example
    body = json.dumps(
        {"dataframe_split": json.loads(example.to_json(orient="split", date_format="iso"))}
    )
    served = mlflow.pyfunc.load_model(str(folder))
    answer = invocations(body, "application/json", served, served.metadata.get_input_schema())
    assert answer.status == 200, answer.response
    found = pd.DataFrame(json.loads(answer.response)["predictions"])
    expected = sextant.load(model).predict(example)
    assert len(found)
    pd.testing.assert_frame_equal(same(found), same(expected))


def same(answers: pd.DataFrame) -> pd.DataFrame:
    """What a CSV file keeps of answers."""
    return pd.read_csv(io.StringIO(answers.to_csv(index=False)))
