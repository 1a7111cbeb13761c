"""The champion that a service answers with, and its successor."""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from ... import files, plugins
from .. import packing, registry, store, unpacking

if TYPE_CHECKING:
    from mlflow.models import Model
    from mlflow.tracking import MlflowClient

    from ... import contracts
    from ...saved_model import SavedModel


class Interface(NamedTuple):
    """The registered interface of a model, by MLflow's signature."""

    types: Mapping[str, str]  # of each input column, in order: double, string, long, ...
    required: frozenset[str]
    answers: Mapping[str, str]
    options: "Mapping[str, contracts.Option]"  # with their defaults
    option_types: Mapping[str, str]


def interface(folder: Path) -> Interface:
    """The interface of a packed model; importing MLflow for it would take seconds."""
    content = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    signature = content["signature"]
    inputs = json.loads(signature["inputs"])
    options = json.loads(signature.get("params") or "[]")
    return Interface(
        types={column["name"]: column["type"] for column in inputs},
        required=frozenset(column["name"] for column in inputs if column.get("required", True)),
        answers={column["name"]: column["type"] for column in json.loads(signature["outputs"])},
        options={option["name"]: option["default"] for option in options},
        option_types={option["name"]: option["type"] for option in options},
    )


@dataclass(frozen=True)
class Champion:
    """A loaded champion; a request is answered by the one that was served when it arrived."""

    version: registry.Version
    folder: Path
    model: "SavedModel"
    interface: Interface

    @property
    def name(self) -> str:
        return self.version.name

    @property
    def digest(self) -> str:
        return self.version.tags.get("digest", "")

    @cached_property
    def label(self) -> dict[str, str]:
        """What each response says of the model that has answered."""
        return {"model": self.name, "version": self.version.version, "digest": self.digest}

    @cached_property
    def label_json(self) -> str:
        return json.dumps(self.label)[1:]

    @cached_property
    def metadata(self) -> "Model":
        """What MLflow has written of the model, with its signature."""
        from mlflow.models import Model

        return Model.load(str(self.folder))

    @cached_property
    def personal(self) -> list[str]:
        """The columns that the conf of its data set marked as personal."""
        columns = plugins.optional(self.model.encoder, "columns", None)
        names: list[str] = plugins.optional(columns, "personal", [])
        return names

    @cached_property
    def answers_together(self) -> bool:
        """Whether the rows of several requests may be answered together; see SavedModel."""
        return bool(plugins.optional(self.model, "answers_each_row_alone", False))


class Champions:
    """Finds the champion of a model in the registry, and loads it."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.folder = Path(tempfile.mkdtemp(prefix="sextant-serve-"))
        self._client: MlflowClient | None = None
        self._downloads: list[Path] = []

    def close(self) -> None:
        """Remove the copies of code and models."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def current(self) -> tuple[registry.Version, Path | None]:
        """The present champion, with the folder of its files if that is on this machine.

        Raises SextantError if there is none.
        """
        local = registry.champion_here(self.model)
        if local is not None:
            return local
        # By its defaults, MLflow asks a server that is down for four minutes.
        with store.brief_requests():
            if self._client is None:
                self._client = store.client()
            return registry.champion_of(self._client, self.model), None

    def load(self, version: registry.Version, folder: Path | None) -> Champion:
        """Load a version, and let it answer its example twice, which compiles what is compiled."""
        if folder is None:
            folder = self._downloaded(version)
        model = unpacking.load(folder, self._kept_code(unpacking.code_of(folder)))
        champion = Champion(version, folder, model, interface(folder))
        example = model.encoder.example()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(2):
                model.predict(example)
        return champion

    def _downloaded(self, version: registry.Version) -> Path:
        """A copy of the files of a version that a server has; the last two are kept."""
        folder = self.folder / f"{version.name}-{version.version}"
        if not (folder / "MLmodel").is_file():
            source = packing.folder_of(version.model_uri)
            shutil.copytree(source, folder, dirs_exist_ok=True)
            if store.database() is None:
                shutil.rmtree(source, ignore_errors=True)
        self._downloads = [path for path in self._downloads if path != folder] + [folder]
        for path in self._downloads[:-2]:
            shutil.rmtree(path, ignore_errors=True)
        self._downloads = self._downloads[-2:]
        return folder

    def _kept_code(self, code: Path) -> Path:
        """A copy of packed code, by its contents.

        Modules are imported when they are first needed, which may be after the folder of an earlier
        champion has been removed. Champions with the same code share its modules.
        """
        name = code_digest(code)
        kept = self.folder / name
        if not kept.is_dir():
            beside = kept.with_suffix(f".{os.getpid()}")
            shutil.copytree(code, beside)
            beside.rename(kept)
        return kept


def code_digest(code: Path) -> str:
    """One digest of the Python files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(code.rglob("*.py")):
        digest.update(f"{path.relative_to(code).as_posix()} {files.sha256(path)}\n".encode())
    return digest.hexdigest()[:16]
