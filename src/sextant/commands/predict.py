"""Answer rows with a champion, which runs the code that it was packed with."""

import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from .. import config, files, plugins
from ..errors import UsageError
from ..tracking import packing, registry, store, unpacking

if TYPE_CHECKING:
    import pandas as pd

    from .. import contracts
    from ..saved_model import SavedModel

USAGE = (
    "expected: make predict MODEL=<model> INPUT=<file of rows> [OUTPUT=<file of answers>]"
    ' [OPTIONS="top_k=10"]'
)


def champion(model: str) -> "SavedModel":
    """The champion of a model on real data, or else on its twin; `.predict(frame)` answers rows.

    Raises SextantError if there is none; `predict` raises DataError for rows that it cannot answer.
    """
    # Half of the time that ten rows took was spent on importing MLflow and opening its store.
    local = registry.champion_here(model)
    if local is None:
        version = registry.champion_of(store.client(), model)
        folder = packing.folder_of(version.model_uri)
    else:
        version, folder = local
    registry.warn_if_twin(version)
    return unpacking.load(folder)


def answer(
    model: "SavedModel", rows: "pd.DataFrame", options: "dict[str, contracts.Option]"
) -> "pd.DataFrame":
    """The answers to rows; prints warnings on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        answers = model.predict(rows, options) if options else model.predict(rows)
    for warning in caught:
        print(f"sextant: warning: {warning.message}", file=sys.stderr)
    return _named_as_today(model, answers, rows)


def _named_as_today(
    model: "SavedModel", answers: "pd.DataFrame", rows: "pd.DataFrame"
) -> "pd.DataFrame":
    """The answers of a champion that was packed before answers carried what identifies a row.

    Then the encoder named at most one column, of pictures, and left a table's key to its columns.
    """
    name = plugins.optional(model.encoder, "named_by", None)
    if name is None:
        name = plugins.optional(model.encoder.columns, "key", None)
    if isinstance(name, str) and name in rows and len(rows) == len(answers):
        answers.insert(0, f"key_{name}" if name in answers else name, rows[name].to_numpy())
    return answers


def _output_path(output: str | None, rows: str) -> Path | None:
    """The file for the answers, None for stdout; raises UsageError."""
    if not output:
        return None
    path = Path(output)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file for the answers")
    if path.resolve() == Path(rows).resolve():
        raise UsageError(f"{path} is the input; name another file for the answers")
    return path


def _task_options(overrides: Sequence[str]) -> "dict[str, contracts.Option]":
    """`top_k=10` as an option with its value."""
    options: dict[str, contracts.Option] = {}
    for override in overrides:
        name, _, value = override.partition("=")
        options[name] = config.parsed(value, override)
    return options


def _as_files(model: "SavedModel", output: Path | None) -> "contracts.AsFiles | None":
    """What makes files of the answers of a model, if its task has it; raises UsageError without an
    output, beside which they could be written."""
    task = plugins.optional(model, "task", None)
    if task is None:  # of a champion that was packed before version 0.2
        return None
    as_files: contracts.AsFiles | None = plugins.optional(task.metrics, "as_files", None)
    if as_files and output is None:
        raise UsageError(
            "this model answers with files beside a table; name the table: OUTPUT=answers.csv"
        )
    return as_files


def _with_files(
    answers: "pd.DataFrame", as_files: "contracts.AsFiles", output: Path
) -> "pd.DataFrame":
    """The answers with paths of files, which are written to a folder beside the table.

    Files of the same name are replaced, and others in the folder stay.
    """
    names = [str(number) for number in range(1, len(answers) + 1)]
    if "path" in answers:
        names = _file_names(answers["path"])
    table, contents = as_files(answers, names)
    folder = output.with_name(f"{output.stem}-files")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with files.written_whole(folder / name) as beside:
            beside.write_bytes(content)
    print(f"{len(contents):,} files in {folder}/")
    return table


def _file_names(paths: "Sequence[object] | pd.Series[Any]") -> list[str]:
    """A different name of a file for each path: `walk/a.mp4` becomes `walk-a`."""
    names: list[str] = []
    for path in paths:
        name = re.sub(r"[^\w.-]+", "-", str(PurePath(str(path)).with_suffix(""))).strip("-.")
        name = name or "clip"
        repeated = sum(other == name or other.startswith(f"{name}~") for other in names)
        names.append(f"{name}~{repeated + 1}" if repeated else name)
    return names


def main(argv: list[str]) -> None:
    """`sextant predict model=<name> input=<file> [output=<file>] [top_k=5]`: writes CSV.

    Other names, as top_k here, are options of the model's task.
    """
    named, overrides = config.named_options(argv, "model", "input", "output")
    if "model" not in named or "input" not in named:
        raise UsageError(USAGE)
    output = _output_path(named.get("output"), named["input"])
    options = _task_options(overrides)
    model = champion(named["model"])
    as_files = _as_files(model, output)
    answers = answer(model, model.read(named["input"]), options)
    if as_files and output is not None:
        answers = _with_files(answers, as_files, output)
    if output is None:
        answers.to_csv(sys.stdout, index=False)
        return
    with files.written_whole(output) as beside:
        answers.to_csv(beside, index=False)
    print(f"{len(answers):,} answers in {output}")
