"""The champion of every model gives the same answers to raw rows in Python, from a file and over
HTTP.
"""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT, Clone

import sextant
from sextant.commands import predict
from sextant.tracking import packing, registry, store

pytestmark = pytest.mark.slow

MODELS: dict[str, dict[str, str]] = yaml.safe_load((ROOT / "params.yaml").read_text())["models"]


@pytest.fixture(autouse=True)
def in_the_clone(whole_pipeline: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the folder of `whole_pipeline`, with a copy of its database."""
    database = whole_pipeline.copy_registry(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.chdir(whole_pipeline.path)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- input as a person has it -------------------------------------------------------------------


def table(raw: Path, folder: Path) -> Path:
    (file,) = raw.glob("*.csv")
    return file


def prices(raw: Path, folder: Path) -> Path:
    (file,) = raw.glob("*_Train.csv")
    return file


def pictures(raw: Path, folder: Path) -> Path:
    """Every 300th picture of the archive, as files in a folder."""
    (path,) = raw.glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        for name in names[::300]:
            (folder / Path(name).name).write_bytes(archive.read(name))
    return folder


def ratings(raw: Path, folder: Path) -> Path:
    """The ratings of three films by a new user, and a fourth film to answer for."""
    file = folder / "ratings.csv"
    file.write_text("user,item,rating\n5000,1,5\n5000,2,4\n5000,3,2\n5000,4,\n")
    return file


# By kind, the file or folder to answer: found in the raw files, or written to a folder.
INPUTS: dict[str, Callable[[Path, Path], Path]] = {
    "tabular": table,
    "series": prices,
    "images": pictures,
    "ratings": ratings,
}


# By data set, the first column of an answer, which identifies the row.
FIRST = {
    "churn": "CustomerId",
    "credit_applications": "CustomerID",
    "cats_dogs": "path",
    "google_stock": "after",
    "movielens_100k": "user",
}


# --- the answers --------------------------------------------------------------------------------


def as_csv(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers after a round trip through CSV, which keeps no types."""
    return pd.read_csv(io.StringIO(answers.to_csv(index=False)))


def test_the_command_line_gives_the_answers_of_python(model: str, tmp_path: Path) -> None:
    line = MODELS[model]
    (tmp_path / "inputs").mkdir()
    inputs = INPUTS[line["kind"]](Path("data/raw", line["dataset"]), tmp_path / "inputs")
    output = tmp_path / "answers.csv"
    predict.main([f"model={model}", f"input={inputs}", f"output={output}"])
    answers = pd.read_csv(output)
    champion = sextant.load(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of changes in the volume that are clipped
        expected = champion.predict(champion.read(inputs))
    pd.testing.assert_frame_equal(as_csv(answers), as_csv(expected))
    assert len(answers) > 0
    assert answers.drop(columns="warnings").notna().all(axis=None)
    assert next(iter(answers)) == FIRST[line["dataset"]]


def test_the_server_gives_the_answers_of_python(model: str) -> None:
    """Call MLflow's handler of a request; tests/commands/test_serve.py starts a real server."""
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import invocations

    champion = registry.champion_of(store.client(), model)
    packed = mlflow.pyfunc.load_model(str(packing.folder_of(champion.model_uri)))
    example = packed.input_example
    rows = json.loads(example.to_json(orient="split", date_format="iso"))
    body = json.dumps({"dataframe_split": rows})
    answer = invocations(body, "application/json", packed, packed.metadata.get_input_schema())
    assert answer.status == 200, answer.response
    answers = pd.DataFrame(json.loads(answer.response)["predictions"])
    expected = sextant.load(model).predict(example)
    assert len(answers) > 0
    pd.testing.assert_frame_equal(as_csv(answers), as_csv(expected))
    assert next(iter(answers)) == FIRST[MODELS[model]["dataset"]]
    outputs = [column.name for column in packed.metadata.get_output_schema()]
    assert outputs == list(answers) and outputs[-1] == "warnings"


def test_requests_that_are_answered_together_have_the_answers_that_they_have_alone(
    model: str,
) -> None:
    """Byte for byte; in a net that got all rows at once, the last digits would differ."""
    champion = sextant.load(model)
    if not champion.answers_each_row_alone:
        pytest.skip("the rows of a request belong together")
    rows = pd.concat([champion.encoder.example()] * 6, ignore_index=True)
    counts = [1, 2, 3, 1, 4, 7]
    alone = []
    start = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pictures of one colour
        together = champion.predict_requests(rows, counts)
        for count in counts:
            request = rows[start : start + count].reset_index(drop=True)
            alone.append(champion.predict(request))
            start += count
    pd.testing.assert_frame_equal(together, pd.concat(alone, ignore_index=True), check_exact=True)
