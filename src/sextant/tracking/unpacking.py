"""Load packed models with the code that they were packed with, beside this checkout's."""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, SextantError, UsageError
from .packing import loader_module

if TYPE_CHECKING:
    from ..saved_model import SavedModel


def load(folder: Path, code: Path | None = None) -> "SavedModel":
    """Load a packed model with its packed code, whatever version of Sextant that is.

    `code` is a copy of the packed package, for a process that outlives the folder.
    """
    (data,) = (folder / "data").iterdir()
    package = import_code(code or code_of(folder))
    # The loader was `sextant.saved` before version 0.2, so its name is read from the packed model.
    loader = loader_module(folder).removeprefix("sextant.")
    module = importlib.import_module(f"{package}.{loader}")
    model: SavedModel = module.load(data)
    return model


def code_of(folder: Path) -> Path:
    """The package that was packed with a model."""
    return folder / "code" / "sextant"


def import_code(code: Path) -> str:
    """Import the packed code under a name that differs from this checkout's; return the name.

    The packed code raises this checkout's exceptions, so that callers can catch them. The rest of
    its module `errors` is not replaced, because the packed code imports functions from it by the
    names of its version.
    """
    name = f"sextant_{hashlib.sha256(str(code).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return name
    spec = importlib.util.spec_from_file_location(
        name, code / "__init__.py", submodule_search_locations=[str(code)]
    )
    assert spec and spec.loader
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    errors = importlib.import_module(f"{name}.errors")
    for exception in (SextantError, UsageError, DataError):
        setattr(errors, exception.__name__, exception)
    return name
