"""How a model is packed for the registry, found on disk and asked."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .. import files
from ..errors import SextantError, reason

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

    from .registry import Version
from .store import client, database, files_exist, uri

REQUIREMENTS = ("torch", "pandas", "numpy", "safetensors", "pydantic", "scikit-learn", "pillow")


Column = tuple[str, str, bool]  # name, MLflow type, required
OptionSpec = tuple[str, str, bool | int | float | str]  # name, MLflow type, default
Interface = tuple[list[Column], list[Column], list[OptionSpec]]  # inputs, answers, options


def pack(
    place: Path | None,
    run_id: str | None,
    model: Path,
    example: "pd.DataFrame",
    interface: Interface,
) -> str:
    """Pack a model's folder with this commit's code behind MLflow's pyfunc, into `place` or into a run; its address.

    No pickle: the loader is a module of the packed code, the data are safetensors and JSON.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    inputs, outputs = (
        Schema([ColSpec(kind, name, required) for name, kind, required in s]) for s in interface[:2]
    )
    params: Any = ParamSchema([ParamSpec(*each) for each in interface[2]]) if interface[2] else None
    package = dict(
        loader_module="sextant.saved_model",
        data_path=str(model),
        code_paths=[str(Path(__file__).parents[1])],
        signature=ModelSignature(inputs, outputs, params),
        input_example=example,
        pip_requirements=[f"{name}=={installed(name).split('+')[0]}" for name in REQUIREMENTS],
    )
    if place is not None:
        mlflow.pyfunc.save_model(str(place), **package)
        return str(place)
    with mlflow.start_run(run_id, log_system_metrics=False):
        return str(mlflow.pyfunc.log_model(name=model.name, **package).model_uri)


def lost(mlflow: "MlflowClient", version: "Version") -> str | None:
    """Where the files of a local version should lie and do not."""
    place = str(mlflow.get_model_version_download_uri(version.name, version.version))
    return None if database() is None or files_exist(place) else place


def repack(place: str, model: Path, example: "pd.DataFrame", interface: Interface) -> None:
    """Write the lost files of a version again, from its model's folder."""
    with files.written_whole(Path(unquote(urlsplit(place).path))) as beside:
        pack(beside, None, model, example, interface)


def loader_module(folder: Path) -> str:
    """The module that opens a packed model, as its MLmodel file names it."""
    import yaml

    content = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    return str(content["flavors"]["python_function"]["loader_module"])


class Lost(SextantError):
    """The files of a registered version are not where the registry says."""


def folder_of(model_uri: str) -> Path:
    """A packed model on this disk; from a server it is fetched, and removed when this process ends. Raises Lost."""
    import mlflow

    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    place = None
    if database() is None:
        place = tempfile.mkdtemp(prefix="sextant-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    try:
        return Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=place))
    except Exception as error:
        client()  # raises where the store itself is gone
        raise Lost(
            f"the files of {model_uri} cannot be read ({reason(error)[:200]});"
            " `make register` mends what a moved or lost folder broke"
        ) from error


ANSWER = """
import sys, warnings, mlflow.pyfunc, pandas
warnings.simplefilter("ignore")
model, rows = mlflow.pyfunc.load_model(sys.argv[1]), pandas.read_parquet(sys.argv[2])
numbers = [one.name for one in model.metadata.get_input_schema() if one.type.name == "double"]
rows[numbers] = rows[numbers].astype(float)  # MLflow takes no integer for a float
params = model.metadata.get_params_schema() or []
details = {one.name: True for one in params if one.name == "details"}  # what scores need and people do not
model.predict(rows, params=details or None).to_parquet(sys.argv[3])
"""


def answers_of(model_uri: str, rows: Path, out: Path) -> str | None:
    """Let a packed model answer rows through its registered interface, with its own code in a process of its own.

    The answers come to `out` as Parquet; what came in the way is returned.
    """
    try:
        folder = folder_of(model_uri)
    except Lost as error:
        return str(error)
    env = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH"
    }  # the packed code must answer
    words = [sys.executable, "-P", "-c", ANSWER, str(folder), str(rows), str(out)]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no word"])[-1]
