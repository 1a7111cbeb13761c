"""Answer rows with a champion, by the code it was packed with."""

import hashlib
import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from .. import config, files
from ..errors import DataError, SextantError, UsageError
from ..tracking import packing, registry, store

if TYPE_CHECKING:
    from ..saved_model import SavedModel


def champion(model: str) -> "SavedModel":
    """The champion of a model on real data, or else on its twin; `.predict(frame)` answers rows.

    Raises SextantError where there is none; `predict` raises DataError for rows that it cannot answer.
    """
    version = registry.champion_of(store.client(), model)
    registry.say_twin(version)
    folder = packing.folder_of(version.model_uri)
    (data,) = (folder / "data").iterdir()
    # The module was renamed since the first champions: the packed model names its own.
    loader = packing.loader_module(folder).removeprefix("sextant.")
    package = _import_packed(folder / "code" / "sextant")
    module = importlib.import_module(f"{package}.{loader}")
    loaded: SavedModel = module.load(data)
    return loaded


def _import_packed(code: Path) -> str:
    """Import the code packed with a model under a name of its own, beside this checkout's; the name.

    Its exceptions become this checkout's, so that callers can catch them.
    """
    name = f"sextant_{hashlib.sha256(str(code).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        _import_file(name, code / "__init__.py", [str(code)])
        packed_errors = _import_file(f"{name}.errors", code / "errors.py", None)
        for exception in (SextantError, UsageError, DataError):
            setattr(packed_errors, exception.__name__, exception)
    return name


def _import_file(name: str, path: Path, search: list[str] | None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=search)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(argv: list[str]) -> None:
    """`sextant predict model=<name> input=<file> [output=<file>] [top_k=5]`: CSV to a file or stdout.

    What else is named, as top_k here, are options of the model's task.
    """
    asked, rest = config.named_options(argv, "model", "input", "output")
    if not {"model", "input"} <= set(asked):
        raise UsageError(
            'expected: make predict MODEL=<model> INPUT=<file of rows> [OUTPUT=<file of answers>] [OPTIONS="top_k=10"]'
        )
    output = Path(asked["output"]) if asked.get("output") else None
    if output and (output.is_dir() or output.resolve() == Path(asked["input"]).resolve()):
        raise UsageError(
            f"{output} is {'a folder' if output.is_dir() else 'the input'}; name a file for the answers"
        )
    options = {
        key: config.parsed(value, word) for word in rest for key, value in [word.split("=", 1)]
    }
    model = champion(asked["model"])
    rows = model.read(asked["input"])
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always", UserWarning)
        answers = model.predict(rows, options) if options else model.predict(rows)
    for warning in met:
        print(f"sextant: warning: {warning.message}", file=sys.stderr)
    name = getattr(
        model.encoder, "named_by", None
    )  # where rows are asked with as files, an answer says whose it is
    if name in rows:
        answers.insert(0, name, rows[name].to_numpy())
    if output:
        with files.written_whole(output) as beside:
            answers.to_csv(beside, index=False)
        print(f"{len(answers):,} answers in {output}")
    else:
        answers.to_csv(sys.stdout, index=False)
