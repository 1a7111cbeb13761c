"""The champion of a service: found in a store or on a server, loaded with its packed code."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sextant.errors import DataError
from sextant.tracking import packing, registry, store
from sextant.tracking.registry import Version
from sextant.tracking.server.champions import Champions

ERRORS = """
class SextantError(Exception): ...
class UsageError(SextantError): ...
class DataError(SextantError): ...
"""
# A model of one number, whose packed code multiplies it.
SAVED = """
import json
from pathlib import Path

import pandas as pd

from .errors import DataError


class Encoder:
    def example(self):
        return pd.DataFrame({{"x": [1.0, 2.0]}})


class SavedModel:
    encoder = Encoder()

    def predict(self, frame, params=None):
        if frame["x"].isna().any():
            raise DataError("no number")
        return pd.DataFrame({{"y": {factor} * frame["x"]}})


def load(folder):
    return SavedModel()
"""


def packed(folder: Path, factor: int = 3) -> Path:
    """A folder as MLflow packs a model, with as little in it as possible."""
    code = folder / "code" / "sextant"
    code.mkdir(parents=True)
    (code / "__init__.py").write_text("")
    (code / "errors.py").write_text(ERRORS)
    (code / "saved_model.py").write_text(SAVED.format(factor=factor))
    (folder / "data" / "tiny").mkdir(parents=True)
    inputs = [{"type": "double", "name": "x", "required": True}]
    inputs.append({"type": "string", "name": "id", "required": False})
    params = [{"name": "top_k", "default": 10, "shape": None, "type": "long"}]
    content = {
        "flavors": {"python_function": {"loader_module": "sextant.saved_model"}},
        "signature": {
            "inputs": json.dumps(inputs),
            "outputs": json.dumps([{"type": "double", "name": "y", "required": True}]),
            "params": json.dumps(params),
        },
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(content))
    return folder


def version(number: int) -> Version:
    return Version("sextant-tiny", str(number), {"digest": "d"}, True, f"models:/tiny/{number}")


@pytest.fixture
def champions() -> Iterator[Champions]:
    made = Champions("tiny")
    yield made
    made.close()
    assert not made.folder.exists()


def test_a_model_answers_with_the_code_that_it_was_packed_with(
    champions: Champions, tmp_path: Path
) -> None:
    first = champions.load(version(1), packed(tmp_path / "1", factor=3))
    second = champions.load(version(2), packed(tmp_path / "2", factor=5))
    rows = pd.DataFrame({"x": [2.0]})
    assert first.model.predict(rows)["y"].tolist() == [6.0]
    assert second.model.predict(rows)["y"].tolist() == [10.0]
    assert not first.answers_together and first.personal == []  # as code before it had either
    with pytest.raises(DataError, match="no number"):
        first.model.predict(pd.DataFrame({"x": [None]}))
    third = champions.load(version(3), packed(tmp_path / "3", factor=3))
    assert type(third.model) is type(first.model)  # the same code is imported once


def test_the_interface_is_read_without_mlflow(champions: Champions, tmp_path: Path) -> None:
    champion = champions.load(version(1), packed(tmp_path / "1"))
    assert champion.interface.types == {"x": "double", "id": "string"}
    assert champion.interface.required == {"x"}
    assert champion.interface.answers == {"y": "double"}
    assert champion.interface.options == {"top_k": 10}
    assert champion.label == {"model": "sextant-tiny", "version": "1", "digest": "d"}


def test_the_champion_of_a_server_is_downloaded_and_the_last_two_are_kept(
    champions: Champions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "champion_here", lambda model: None)
    monkeypatch.setattr(store, "client", lambda: "client")
    monkeypatch.setattr(store, "database", lambda: None)
    present = [version(1)]
    monkeypatch.setattr(registry, "champion_of", lambda client, model: present[0])

    def downloaded(uri: str) -> Path:
        return packed(tmp_path / uri.rpartition("/")[2])

    monkeypatch.setattr(packing, "folder_of", downloaded)
    for number in (1, 2, 3):
        present[0] = version(number)
        champion = champions.load(*champions.current())
        assert champion.version.version == str(number)
        assert champion.folder.parent == champions.folder
        assert not (tmp_path / str(number)).exists()
    kept = {path.name for path in champions.folder.glob("sextant-tiny-*")}
    assert kept == {"sextant-tiny-2", "sextant-tiny-3"}
