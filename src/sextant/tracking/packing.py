"""Pack a model for the registry, locate packed models, and let them answer rows."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from .. import files, fork_server, plugins, reference
from ..errors import SextantError, reason
from .store import client, database, files_exist, uri

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

    from .. import contracts
    from .registry import Version

# What the packed code imports to answer rows of any kind; MLflow adds itself.
REQUIREMENTS = ("torch", "pandas", "numpy", "safetensors", "pydantic", "scikit-learn", "pillow")


class Interface(NamedTuple):
    """The registered interface of a model."""

    inputs: "list[contracts.Column]"
    answers: "list[contracts.Column]"
    options: "list[tuple[str, str, contracts.Option]]"  # name, MLflow type, default


class FilesMissing(SextantError):
    """The files of a registered version are not at the location that the registry records."""


# --- packing ------------------------------------------------------------------------------------


def pack(
    target: Path | None,
    run_id: str | None,
    model: Path,
    example: "pd.DataFrame",
    interface: Interface,
) -> str:
    """Pack a model's folder with this commit's code as an MLflow pyfunc model; return its URI.

    It is written to the folder `target`, or logged to the run `run_id`. Nothing is pickled: the
    loader is a module of the packed code, and the data are safetensors and JSON.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    inputs, answers, options = interface
    params: Any = ParamSchema([ParamSpec(*option) for option in options]) if options else None
    package = dict(
        loader_module="sextant.saved_model",
        data_path=str(model),
        code_paths=[str(Path(__file__).parents[1])],
        signature=ModelSignature(
            inputs=Schema([ColSpec(dtype, name, required) for name, dtype, required in inputs]),
            outputs=Schema([ColSpec(dtype, name, required) for name, dtype, required in answers]),
            params=params,
        ),
        input_example=example,
        pip_requirements=requirements(files.read_json(model / "model.json")["kind"]),
    )
    if target is not None:
        mlflow.pyfunc.save_model(str(target), **package)
        return str(target)
    with mlflow.start_run(run_id, log_system_metrics=False):
        return str(mlflow.pyfunc.log_model(name=model.name, **package).model_uri)


def requirements(kind: str) -> list[str]:
    """What answering rows of a kind imports, pinned to the installed versions.

    Of the PACKAGES of the kind, which some rows alone need, those that are installed here.
    """
    lines = []
    optional = plugins.optional(plugins.kind(kind).columns, "PACKAGES", ())
    for name in (*REQUIREMENTS, *optional):
        try:
            version = installed(name)
        except PackageNotFoundError:
            if name in REQUIREMENTS:
                raise
            continue
        # A wheel's local version, as in torch 2.13.0+cpu, is on no package index.
        lines.append(f"{name}=={version.split('+')[0]}")
    return lines


def missing_files(mlflow: "MlflowClient", version: "Version") -> str | None:
    """The URI where the files of a version should be in a local store; None if they are there."""
    location = str(mlflow.get_model_version_download_uri(version.name, version.version))
    if database() is None or files_exist(location):
        return None
    return location


def repack(location: str, model: Path, example: "pd.DataFrame", interface: Interface) -> None:
    """Write the files of a version again at `location`, from its model's folder."""
    with files.written_whole(Path(unquote(urlsplit(location).path))) as beside:
        pack(beside, None, model, example, interface)


# --- the data that a model was trained on -------------------------------------------------------


def has_reference(mlflow: "MlflowClient", version: "Version") -> bool:
    """Whether a version has the summary of the rows that it was trained on.

    One that was registered before there were logged models cannot be given any, and counts as one
    that has it.
    """
    model_id = _logged_model(mlflow, version)
    if model_id is None:
        return True
    names = [entry.path for entry in mlflow.list_logged_model_artifacts(model_id)]
    return reference.FILE in names


def add_reference(mlflow: "MlflowClient", version: "Version", path: Path) -> None:
    """Store the summary of the rows that a version was trained on among the version's files."""
    model_id = _logged_model(mlflow, version)
    if model_id is not None:
        mlflow.log_model_artifact(model_id, str(path))


def _logged_model(mlflow: "MlflowClient", version: "Version") -> str | None:
    source = mlflow.get_model_version(version.name, version.version).source or ""
    return source.removeprefix("models:/") if source.startswith("models:/m-") else None


def reference_of(folder: Path) -> "reference.Reference | None":
    """The summary of the rows that a packed model was trained on; None for one without."""
    path = folder / reference.FILE
    return files.read_json(path) if path.is_file() else None


# --- packed models ------------------------------------------------------------------------------


def loader_module(folder: Path) -> str:
    """The module that opens a packed model, as its MLmodel file names it."""
    import yaml

    path = folder / "MLmodel"
    with files.readable(path):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return str(content["flavors"]["python_function"]["loader_module"])


def folder_of(model_uri: str) -> Path:
    """The folder of a packed model; raises FilesMissing.

    A model from a server is downloaded to a temporary folder, which is removed when the process
    ends.
    """
    import mlflow

    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    download = None
    if database() is None:
        download = tempfile.mkdtemp(prefix="sextant-")
        atexit.register(shutil.rmtree, download, ignore_errors=True)
    try:
        return Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=download))
    except Exception as error:
        client()  # raises if the store itself does not answer
        raise FilesMissing(
            f"the files of {model_uri} cannot be read ({reason(error)[:200]});"
            " `make register` repairs a moved or lost folder"
        ) from error


def card_of(model_uri: str) -> dict[str, Any]:
    """The card of a packed model, empty for one without; raises FilesMissing."""
    card: dict[str, Any] = {}
    for path in (folder_of(model_uri) / "data").glob("*/model.json"):
        card = files.read_json(path)
    return card


# The script of the process in which a packed model answers: folder, input rows, output file and
# number of threads are its arguments. The option `details` adds the columns that scores need and
# callers usually do not. Rows are asked in the types of the signature, since MLflow refuses an
# integer where it expects a float, and text where it expects an integer.
ANSWER_SCRIPT = """
import sys, threadpoolctl, warnings, mlflow.pyfunc, pandas
UNSEEN = -(2.0**53)  # a category that is no number, for a model whose categories all are
warnings.simplefilter("ignore")
model, rows = mlflow.pyfunc.load_model(sys.argv[1]), pandas.read_parquet(sys.argv[2])
threadpoolctl.threadpool_limits(int(sys.argv[4]))
for column in model.metadata.get_input_schema():
    if column.name not in rows:
        continue
    if column.type.name == "string":
        rows[column.name] = rows[column.name].astype(object)  # also a key of whole numbers
    if column.type.name not in ("double", "long"):
        continue
    numbers = pandas.to_numeric(rows[column.name], errors="coerce")
    is_unseen = numbers.isna() & rows[column.name].notna()
    numbers = numbers.astype(float).mask(is_unseen, UNSEEN)
    if column.type.name == "long" and not numbers.isna().any():
        numbers = numbers.astype("int64")
    rows[column.name] = numbers
options = [option.name for option in model.metadata.get_params_schema() or []]
params = {"details": True} if "details" in options else None
model.predict(rows, params=params).to_parquet(sys.argv[3])
"""


def answers_of(model_uri: str, rows: Path, out: Path, threads: int = 1) -> str | None:
    """Let a packed model answer `rows` through its registered interface, into the file `out`.

    Both files are Parquet. The model runs its packed code in a process of its own. Returns what
    went wrong, or None.
    """
    try:
        folder = folder_of(model_uri)
    except FilesMissing as error:
        return str(error)
    arguments = (str(folder), str(rows), str(out), str(threads))
    done = fork_server.run_script(ANSWER_SCRIPT, *arguments) or _answer_plainly(*arguments)
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode} without a message"


def _answer_plainly(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)  # it would put this checkout's code before the packed code
    command = [sys.executable, "-P", "-c", ANSWER_SCRIPT, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)
