"""What a packed model holds, and how it answers, also one that older code has packed."""

import json
import os
import textwrap
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import builders
import pandas as pd
import pytest
import yaml

from sextant import config, files, register, saved_model
from sextant.errors import DataError
from sextant.gate import Candidate
from sextant.tracking import packing, registry, store, unpacking

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MODEL = "ann"
NAME = registry.registered_name(MODEL, "embedded")


@pytest.fixture
def client(in_pipeline: None) -> "MlflowClient":
    return store.client()


@pytest.fixture
def packed(client: "MlflowClient") -> Path:
    """The folder of the pipeline's champion."""
    uri = str(client.get_model_version_download_uri(NAME, "1"))
    return Path(uri.removeprefix("file://"))


def mlmodel(packed: Path) -> Any:
    return yaml.safe_load((packed / "MLmodel").read_text())


# --- the folder ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_is_pickled(packed: Path) -> None:
    suffixes = {path.suffix for path in packed.rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"}
    data = {path.suffix for path in (packed / "data").rglob("*") if path.is_file()}
    assert data == {".safetensors", ".json"}
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.mark.slow
def test_the_loader_is_a_module_of_the_packed_code(packed: Path) -> None:
    flavor = mlmodel(packed)["flavors"]["python_function"]
    assert flavor["loader_module"] == packing.loader_module(packed) == "sextant.saved_model"
    assert flavor["data"] == f"data/{MODEL}" and "python_model" not in flavor
    assert (packed / flavor["code"] / "sextant/saved_model.py").is_file()


@pytest.mark.slow
def test_no_bytecode_is_packed(in_pipeline: None, tmp_path: Path) -> None:
    """The pipeline's champion has bytecode, because its code ran when the gate let it answer."""
    candidate = Candidate(MODEL)
    packing.pack(tmp_path / "packed", None, candidate.folder, *register._interface(candidate))
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert "saved_model.py" in names
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.slow
def test_the_signature_names_the_columns_of_inputs_and_answers(packed: Path) -> None:
    signature = mlmodel(packed)["signature"]
    columns = config.dataset("churn").columns
    inputs = json.loads(signature["inputs"])
    assert [column["name"] for column in inputs] == [columns.key, *columns.features]
    numbers = {column["name"] for column in inputs if column["type"] == "double"}
    assert numbers == set(columns.numeric)
    optional = [column["name"] for column in inputs if not column["required"]]
    assert optional == [columns.key]
    answers = {column["name"]: column["type"] for column in json.loads(signature["outputs"])}
    assert list(answers)[0] == columns.key
    assert answers["prediction"] == "string"
    assert answers["probability"] == "double"


@pytest.mark.slow
def test_the_input_example_is_synthetic(packed: Path) -> None:
    example = json.loads((packed / "input_example.json").read_text())
    rows = pd.DataFrame(example["data"], columns=example["columns"])
    assert len(rows) >= 2  # a single row would fix the batch size of an exported model
    columns = config.dataset("churn").columns
    assert set(rows.columns) == {columns.key, *columns.features}
    assert files.read_json(Path("data/raw/churn/source.json"))["source"] == "embedded"
    texts = dict.fromkeys([columns.key, *columns.categorical], "str")
    twin = pd.read_csv("data/raw/churn/Churn_Modelling.csv", dtype=texts)
    expected = twin[list(rows.columns)].head(len(rows))
    pd.testing.assert_frame_equal(rows, expected, check_dtype=False)


@pytest.mark.slow
def test_requirements_are_pinned_to_the_installed_versions(packed: Path) -> None:
    lines = (packed / "requirements.txt").read_text().split()
    pinned = dict(line.split("==") for line in lines)
    assert pinned.keys() == {"mlflow", *packing.REQUIREMENTS}
    assert pinned["torch"] == installed("torch").split("+")[0]


def test_a_packed_model_of_clips_requires_what_reads_films(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "av" and missing:
            raise PackageNotFoundError(name)
        return "1.2.3+cpu"

    monkeypatch.setattr(packing, "installed", version)
    of_any = [f"{name}==1.2.3" for name in packing.REQUIREMENTS]
    missing = False
    assert packing.requirements("clips") == [*of_any, "av==1.2.3"]
    assert packing.requirements("text") == of_any
    missing = True
    assert packing.requirements("clips") == of_any


@pytest.mark.slow
def test_the_registered_version_has_card_and_tags(client: "MlflowClient") -> None:
    version = client.get_model_version(NAME, "1")
    card = str(version.description)
    metrics = files.read_json(Path(f"reports/metrics/{MODEL}.json"))
    assert card.startswith("Status: champion since ")
    assert "\n\nGate: promoted. accuracy " in card
    assert len(card) <= 5000  # the column of MLflow's database
    for name, scores in {"this model": metrics["test"], **metrics["baselines"]}.items():
        cells = " | ".join(f"&emsp;{value:.4f}" for value in scores.values())
        assert f"| {name} | {cells} |" in card
    tags = version.tags
    assert tags["digest"] == files.folder_digest(Path("models") / MODEL)
    assert tags["dataset"] == "churn"
    assert "champion_since" in tags and "champion_until" not in tags
    decision = json.loads(tags["decision"])
    assert decision["decision"] == "promoted" and decision["gate_rows"] > 500
    score = float(tags[f"gate.{decision['metric']}"])
    assert score == pytest.approx(decision["challenger"], abs=1e-6)
    logged = client.get_logged_model(str(version.source).removeprefix("models:/"))
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": "1"}]


# --- a model that code before version 0.2 has packed --------------------------------------------

OLD_ERRORS = """
class SextantError(Exception):
    code = 1

class UsageError(SextantError):
    code = 2

class DataError(SextantError):
    code = 12

def words(error):
    return str(error)

def shown(text):
    return text
"""
OLD_SAVED = """
import json
from pathlib import Path

from .errors import DataError, shown, words


class Saved:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, frame, params=None):
        if frame["x"].isna().any():
            raise DataError(f"row without {words(KeyError('x'))}: {shown('old code')}")
        return frame.assign(y=self.factor * frame["x"])[["y"]]


def load(folder):
    return Saved(json.loads((Path(folder) / "model.json").read_text())["factor"])


def _load_pyfunc(path):
    return load(path)
"""


@pytest.fixture
def old_packed(tmp_path: Path) -> Path:
    """A miniature of a model that was packed before `saved` became `saved_model`."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    code = tmp_path / "old" / "sextant"
    code.mkdir(parents=True)
    (code / "__init__.py").write_text('"""Sextant before version 0.2."""\n')
    (code / "errors.py").write_text(textwrap.dedent(OLD_ERRORS))
    (code / "saved.py").write_text(textwrap.dedent(OLD_SAVED))
    data = tmp_path / "tiny"
    data.mkdir()
    (data / "model.json").write_text('{"factor": 3}')
    column = Schema([ColSpec("double", "x")])
    mlflow.pyfunc.save_model(
        str(tmp_path / "packed"),
        loader_module="sextant.saved",
        data_path=str(data),
        code_paths=[str(code)],
        signature=ModelSignature(column, Schema([ColSpec("double", "y")])),
        input_example=pd.DataFrame({"x": [1.0, 2.0]}),
        pip_requirements=[],
    )
    return tmp_path / "packed"


@pytest.mark.slow  # MLflow is imported
def test_an_old_model_answers_in_this_process(old_packed: Path) -> None:
    model = unpacking.load(old_packed)
    answers = model.predict(pd.DataFrame({"x": [1.0, 2.0]}))
    assert answers["y"].tolist() == [3.0, 6.0]


@pytest.mark.slow
def test_an_error_of_an_old_model_can_be_caught(old_packed: Path) -> None:
    model = unpacking.load(old_packed)
    with pytest.raises(DataError, match="row without 'x': old code"):
        model.predict(pd.DataFrame({"x": [None]}))


@pytest.mark.slow
def test_an_old_model_answers_through_its_registered_interface(
    old_packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the gate asks it: in a process of its own, with an integer where it expects a float."""
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "rows.parquet"
    out = tmp_path / "answers.parquet"
    pd.DataFrame({"x": [1, 2]}).to_parquet(rows)
    assert packing.answers_of(str(old_packed), rows, out) is None
    assert pd.read_parquet(out)["y"].tolist() == [3.0, 6.0]


@pytest.mark.slow
def test_what_keeps_a_model_from_answering_is_returned(
    old_packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: None
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "rows.parquet"
    pd.DataFrame({"x": [1.0, None]}).to_parquet(rows)
    trouble = packing.answers_of(str(old_packed), rows, tmp_path / "answers.parquet")
    assert trouble and trouble.endswith("DataError: row without 'x': old code")
    missing = packing.answers_of(str(tmp_path / "gone"), rows, tmp_path / "answers.parquet")
    assert missing and "cannot be read" in missing and "`make register`" in missing


# --- over HTTP ----------------------------------------------------------------------------------

MISSING = "`shoes` is missing, and never was in training: read as a category that training did not"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the server's log, beside the column `warnings`
def test_a_server_answers_any_value_of_a_category_whose_levels_are_whole_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Call MLflow's handler of a request; tests/commands/test_serve.py starts a real server."""
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import invocations

    monkeypatch.chdir(tmp_path)
    model = builders.untrained_model()
    saved_model.save(tmp_path / "animals", model.card, model.net, model.encoder)
    interface = packing.Interface(model.schema(), [("prediction", "string", True)], [])
    example = model.encoder.example()
    packed = packing.pack(tmp_path / "packed", None, tmp_path / "animals", example, interface)
    served = mlflow.pyfunc.load_model(packed)

    def answers(body: str, media_type: str) -> list[dict[str, Any]]:
        answer = invocations(body, media_type, served, served.metadata.get_input_schema())
        assert answer.status == 200, answer.response
        predictions: list[dict[str, Any]] = json.loads(answer.response)["predictions"]
        return predictions

    def asked(shoes: list[object]) -> list[dict[str, Any]]:
        rows = [{"height": 170.5, "weight": 60, "colour": "red", "shoes": size} for size in shoes]
        return answers(json.dumps({"dataframe_records": rows}), "application/json")

    (expected,) = asked(["40"])
    assert expected["warnings"] == ""
    for alone in ([40], [40.0], ["40.0"]):
        assert asked(alone) == [expected]
    same = [40, "40", 40.0, None]  # in one request: of a hole in a column of numbers, floats come
    assert [answer["probability"] for answer in asked(same)[:3]] == pytest.approx(
        [expected["probability"]] * 3
    )
    texts = {None: MISSING, "gym": "`shoes` has gym, which", True: "`shoes` has True, which"}
    for value, text in texts.items():
        for shoes in ([value], [40, value]):
            assert asked(shoes)[-1]["warnings"].startswith(text)
    assert asked([float("nan")])[0]["warnings"].startswith(MISSING)
    csv = "height,weight,colour,shoes\n170.5,60,red,40\n170.5,60,red,\n170.5,60,red,040\n"
    first, second, third = answers(csv, "text/csv")
    assert first["probability"] == pytest.approx(expected["probability"])
    assert first["warnings"] == "" and second["warnings"].startswith(MISSING)
    assert third["warnings"] == "`shoes` has 040, which training did not have"
