"""Answer rows with a champion, by the code it was packed with."""

import hashlib
import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from typing import Any

from . import config, errors, files, tracking
from .errors import UsageError, run


def champion(model: str) -> Any:
    """The champion of a model: the real one, or else its twin's; `.predict(frame)` answers rows.

    Raises SextantError where there is none, and from `predict` DataError for rows that cannot be answered.
    """
    version = tracking.champion_of(tracking.client(), model)
    tracking.say_twin(version)
    folder = tracking.folder_of(version.model_uri)
    (data,) = (folder / "data").iterdir()
    return importlib.import_module(f"{_packed(folder / 'code' / 'sextant')}.saved").load(data)


def _packed(code: Path) -> str:
    """Import the code packed with a model under a name of its own, so that this checkout's may be another; the name.

    The errors alone are this checkout's, so that who calls can catch them.
    """
    name = f"sextant_{hashlib.sha256(str(code).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, code / "__init__.py", submodule_search_locations=[str(code)]
        )
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        sys.modules[f"{name}.errors"] = errors
        spec.loader.exec_module(sys.modules[name])
    return name


def main(argv: list[str]) -> None:
    """`python -m sextant.predict model=<name> input=<file> [output=<file>] [top_k=5]`: CSV to a file or stdout.

    What else is named, as top_k here, are options of the model's task.
    """
    asked, rest = config.asked(argv, "model", "input", "output")
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


if __name__ == "__main__":
    run(main)
