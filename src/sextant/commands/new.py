"""From a file to a first model: write the confs of a data set and a model, and pin the file.

What the file has decides the confs (guess/), unless the command line does. The confs are commented
and meant to be edited. They are tried on the data before the command ends: if these cannot be
prepared by them, nothing is written.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from .. import check, config, files, paths, plugins, pull
from ..errors import DataError, UsageError
from ..guess import building, confs
from ..guess.reading import WORDS
from ..guess.result import Result
from ..kinds.parts import scored
from ..kinds.splits import HashSplit
from ..strict import advice

if TYPE_CHECKING:
    import pandas as pd

    from .. import contracts

# By option: what it overrules.
OPTIONS = {
    "file": "a file of rows or text, or a folder or archive of pictures, clips, ratings or texts",
    "target": "the column to predict",
    "name": "of the data set and of the model",
    "kind": "tabular, images, clips, series, ratings or text",
    "task": "classification, regression, mapping, forecasting, frames, likes, stars or writing",
    "key": "the column that identifies a row",
    "ignored": "columns to leave aside, separated by commas",
    "numeric": "columns of quantities",
    "categorical": "columns of codes",
    "positive": "the class whose probability is answered",
    "decide": "from which probability on that class is predicted: a number below 1, or f1",
    "delimiter": "between cells: a character, tab, or blanks",
    "encoding": "of the text",
    "quoting": "standard, backslash or none",
    "comment": "what begins a line to pass over",
    "skip": "lines before the header",
    "skip_after": "lines after the header",
    "footer": "lines at the end",
    "header": "yes or no",
    "names": "the columns of a file without a header",
    "unknown": "marks of missing values, separated by commas",
    "decimal": "the mark of decimals",
    "thousands": "the mark of thousands",
    "sheet": "of a workbook",
    "date": "the column of the days",
    "date_format": "how days are written",
    "only": "the series of several in a file",
    "unit": "of the prices",
    "user": "the column of users",
    "item": "the column of items",
    "rating": "the column of ratings",
    "title": "the column of titles",
    "like": "the lowest rating that is a like",
    "size": "side of the prepared pictures, in pixels",
}
KINDS = {
    "tabular": ("classification", "regression", "mapping"),
    "images": ("classification",),
    "clips": ("classification", "frames"),
    "series": ("forecasting",),
    "ratings": ("likes", "stars"),
    "text": ("writing",),
}
LISTS = ("names", "unknown")
COUNTS = ("skip", "skip_after", "footer")
OF_FORMAT = (
    *("delimiter", "encoding", "quoting", "comment", "skip", "skip_after", "footer", "header"),
    *("names", "unknown", "decimal", "thousands", "sheet"),
)
NAME = re.compile(r"[a-z][a-z0-9_]*")
LARGE = 2**27  # bytes of pictures, from which on they are not tried: decoding takes minutes
SALTS = 40  # splits that are tried until each part has each class
WIDTH = 100  # characters of a line of the summary


class Written(NamedTuple):
    """The files of a data set and a model, with their contents."""

    dataset: Path
    expectations: Path
    model: Path


def parse(argv: Sequence[str]) -> dict[str, str]:
    """The options of the command line, with lower-case names.

    Raises UsageError for an unknown or empty one, and for a kind, task or number that is none.
    """
    options: dict[str, str] = {}
    for argument in argv:
        key, equals, value = argument.partition("=")
        name = key.lower()
        if not equals or name not in OPTIONS:
            raise UsageError(f"unknown option `{key}`; {advice(name, OPTIONS)}")
        if not value:
            raise UsageError(f"`{key}` is empty; expected {OPTIONS[name]}")
        options[name] = value
    if "file" not in options:
        raise UsageError(f"which file? add file=… with {OPTIONS['file']}")
    _check_words(options)
    return options


def _check_words(options: Mapping[str, str]) -> None:
    kind = options.get("kind")
    if kind is not None and kind not in KINDS:
        raise UsageError(f"KIND={kind}: {advice(kind, KINDS)}")
    tasks = [task for name in KINDS if kind in (None, name) for task in KINDS[name]]
    task = options.get("task")
    if task is not None and task not in tasks:
        raise UsageError(f"TASK={task}: {advice(task, tasks)}")
    for name in (*COUNTS, "size"):
        if name in options and not options[name].isdecimal():
            raise UsageError(f"{name.upper()}={options[name]}: expected a whole number")
    if "like" in options:
        try:
            float(options["like"])
        except ValueError:
            raise UsageError(f"LIKE={options['like']}: expected a number") from None
    if "decide" in options and options["decide"] != "f1" and not _is_share(options["decide"]):
        raise UsageError(f"DECIDE={options['decide']}: expected f1, or a number between 0 and 1")
    if "header" in options and options["header"] not in ("yes", "no"):
        raise UsageError(f"HEADER={options['header']}: expected yes or no")
    if "encoding" in options:
        try:
            "a".encode(options["encoding"])
        except (LookupError, UnicodeError):
            raise UsageError(
                f"ENCODING={options['encoding']}: Python has no such encoding; common are utf-8,"
                " cp1252, utf-16"
            ) from None


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False


def form_of(options: Mapping[str, str]) -> dict[str, object]:
    """The keys of formats.Format among the options."""
    form: dict[str, object] = {}
    for name in OF_FORMAT:
        if name not in options:
            continue
        value = options[name]
        if name in COUNTS:
            form[name] = int(value)
        elif name in LISTS:
            form[name] = [item.strip() for item in value.split(",")]
        elif name == "header":
            form[name] = value == "yes"
        else:
            form[name] = WORDS.get(value, value) if name == "delimiter" else value
    return form


# --- names and files ----------------------------------------------------------------------------


def free_name(name: str) -> Written:
    """The paths of a new data set and model; raises UsageError if one of them exists."""
    written = Written(paths.dataset_conf(name), paths.expectations(name), paths.model_conf(name))
    chosen = config.params()
    for path in written:
        if path.exists():
            raise UsageError(
                f"{path} exists and is not overwritten; choose another name with NAME=…, or delete"
                " it"
            )
    for group, listed in (("data set", chosen.datasets), ("model", chosen.models)):
        if name in listed:
            raise UsageError(
                f"{paths.PARAMS} lists a {group} `{name}`; choose another name with NAME=…"
            )
    return written


@contextmanager
def written_or_none(written: Written, result: Result, name: str) -> Iterator[None]:
    """Write the confs and the lines of params.yaml; if the block raises, all is as it was."""
    before = paths.PARAMS.read_bytes()
    text = before.decode("utf-8")
    params = confs.with_lines(text, name, result.kind, result.family, result.task)
    try:
        for path, content in zip(
            written, (result.dataset, result.expectations, result.model), strict=True
        ):
            _write(path, content)
        _write(paths.PARAMS, params)
        yield
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        paths.PARAMS.write_bytes(before)
        raise


def _write(path: Path, text: str) -> None:
    with files.written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


# --- a try on the data --------------------------------------------------------------------------


def tried(name: str) -> dict[str, int]:
    """The rows in each part, after all that the stages before train do; {} for many pictures.

    If a part lacks a class, other splits are tried, and the first that fits is written into the
    conf. Raises UsageError or DataError if the confs do not fit the data.
    """
    check.check_dataset(name)
    check.check_budgets(name)
    conf = config.dataset(name)
    rows = plugins.kind(conf.kind).rows
    scratch = paths.state_root() / paths.SCRATCH
    scratch.mkdir(exist_ok=True)
    size = sum(entry.bytes or 0 for entry in pull.chosen_entries(conf))
    if conf.kind in ("images", "clips") and size > LARGE:
        return {}
    with TemporaryDirectory(dir=scratch) as folder:
        raw_folder = Path(folder) / "raw"
        pull.pull(conf, raw_folder)
        raw = rows.read(raw_folder, conf.columns)
        repaired = rows.repair(raw, conf.columns)
        parts = _split(conf, repaired)
    return {part: len(scored(part_rows)) for part, part_rows in parts.items()}


def _split(conf: config.DatasetConf, repaired: "pd.DataFrame") -> "contracts.Parts":
    """The four parts, by another salt if one of them lacks a class."""
    rows = plugins.kind(conf.kind).rows
    failure: DataError | None = None
    for salt in range(SALTS):
        split = conf.split
        if isinstance(split, HashSplit):
            split = split.model_copy(update={"salt": salt})
        parts = rows.split(repaired, conf.columns, split)
        try:
            rows.check_parts(parts, conf.columns)
        except DataError as error:
            failure = failure or error
            if not isinstance(split, HashSplit):
                break
            continue
        if salt:
            path = paths.dataset_conf(conf.name)
            text = path.read_text(encoding="utf-8")
            _write(path, text.replace("\n  salt: 0 ", f"\n  salt: {salt} ", 1))
        return parts
    assert failure is not None
    raise failure


# --- the summary --------------------------------------------------------------------------------


def summary(name: str, result: Result, parts: Mapping[str, int], written: Written) -> str:
    """What was understood, what was unsure, what was written, and how to go on."""
    lines = [f"{name}: kind {result.kind}, task {result.task}, family {result.family}"]
    lines += _wrapped(result.lines)
    if parts:
        listed = ", ".join(f"{part} {rows:,}" for part, rows in parts.items())
        lines += _wrapped([f"rows of the parts: {listed}"])
    if result.doubts:
        lines.append("unsure of:")
        lines += _wrapped(result.doubts)
    lines.append(
        f"written and pinned: {', '.join(map(str, written))}, and its lines in params.yaml"
    )
    lines.append(f"next: make repro; after an edit of the confs: make check DATASET={name}")
    return "\n".join(lines)


def _wrapped(lines: Sequence[str]) -> list[str]:
    wrapped = []
    for line in lines:
        wrapped += textwrap.wrap(
            line,
            WIDTH,
            initial_indent="  ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return wrapped


def new(options: Mapping[str, str]) -> str:
    """Write the confs for the file in `given`; return the summary."""
    path = Path(options["file"]).expanduser()
    if not path.exists():
        raise UsageError(f"FILE={options['file']} does not exist; name a file or a folder")
    name = options.get("name", building.name_of(path))
    if not NAME.fullmatch(name):
        raise UsageError(
            f"NAME={name}: expected a lower-case letter, then letters, digits and _, such as loans"
        )
    written = free_name(name)
    result = building.build(path, name, options, form_of(options))
    try:
        with written_or_none(written, result, name):
            parts = tried(name)
    except DataError as error:
        if "leave_out: undecodable" not in str(error):
            raise
        result = building.build(path, name, {**options, "leave_out": "yes"}, form_of(options))
        with written_or_none(written, result, name):
            parts = tried(name)
    return summary(name, result, parts, written)


def main(argv: list[str]) -> None:
    """`sextant new file=<path> [target=<column>] [<option>=<value> ...]`."""
    print(new(parse(argv)))
