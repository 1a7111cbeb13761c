"""The text of conf/dataset/<name>.yaml, and the lines of params.yaml."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .. import listing, paths
from . import layout

ABOUT = "a note for readers of the results, shown in the report and the model card"
FORMAT_NOTES = {
    "encoding": "of the text; a byte order mark is no part of it",
    "delimiter": "between two cells",
    "quoting": "standard, backslash or none: a quotation mark is a character like any other",
    "comment": "lines that begin with it are passed over",
    "skip": "lines before the header",
    "skip_after": "lines between the header and the first row",
    "footer": "lines at the end that are no rows",
    "names": "",
    "unknown": "marks of a missing value, besides the empty cell",
    "decimal": "the mark of decimals",
    "thousands": "the mark of thousands",
    "sheet": "of the workbook",
}


class Pinned(NamedTuple):
    """A file of a source: its name in data/raw/<name>/, where it lies, its size and sha256.

    `member` is the file's name in a zip at `path`, "" if `path` is the file itself.
    """

    file: str
    path: str
    bytes: int
    sha256: str
    member: str = ""


def head(name: str, summary: str) -> list[str]:
    """The comment at the top, and `about`."""
    return [
        layout.comment(summary),
        "# Written by `make new` from what the file has: edit what is wrong. docs/your-data.md",
        "# explains each key.",
        layout.line(0, "about", "null", ABOUT),
    ]


def sources(pinned: Sequence[Pinned]) -> list[str]:
    """The source `local` with its entries."""
    lines = [
        layout.line(0, "source", "local", "overrides `source` of params.yaml for this data set"),
        "sources:              # mirror: below SEXTANT_MIRROR; canonical: at a public address",
        "  local:              # where the file lies on this machine; `make pin` after a change",
    ]
    for entry in pinned:
        lines.append(f"    - file: {layout.scalar(entry.file)}")
        if entry.member:
            lines.append(f"      member: {layout.scalar(entry.member)}")
        lines.append(f"      path: {layout.scalar(entry.path)}")
        lines.append(f"      bytes: {entry.bytes}")
        lines.append(f"      sha256: {entry.sha256}")
    return lines


def file_format(form: Mapping[str, object], indent: int = 2) -> list[str]:
    """The keys of formats.Format that differ from its defaults, each with a comment."""
    lines = []
    for key, note in FORMAT_NOTES.items():
        if key not in form:
            continue
        value = form[key]
        if isinstance(value, list) and key == "names":
            lines.append(
                f"{' ' * indent}# The file has no header; these are its columns, in order."
            )
            lines += layout.wrapped(indent, key, value)
        elif isinstance(value, list):
            lines.append(layout.line(indent, key, layout.flow(value), note))
        else:
            lines.append(layout.line(indent, key, layout.scalar(value), note))
    return lines


def hash_split(shares: Mapping[str, float], salt: int, what: str) -> list[str]:
    """The block `split` by a hash of the key."""
    return [
        "split:",
        layout.line(2, "by", "hash", f"of {what}, so it stays in its part as the data grow"),
        layout.line(2, "salt", str(salt), "another one gives other parts"),
        f"  shares: {layout.flow_map(shares)}",
    ]


def date_split(val: str, gate: str, test: str) -> list[str]:
    """The block `split` by dates."""
    return [
        "split:",
        layout.line(2, "by", "dates", "train is before val_from, val before gate_from, and so on"),
        f'  val_from: "{val}"',
        f'  gate_from: "{gate}"',
        f'  test_from: "{test}"',
    ]


def twin() -> list[str]:
    """That there is no generated stand-in."""
    return [layout.line(0, "twin", "null", "no generated data")]


# --- params.yaml --------------------------------------------------------------------------------


def with_lines(text: str, name: str, kind: str, family: str, task: str) -> str:
    """The text of params.yaml with a data set and a model of this name at the ends of its lists.

    Every other character stays. Raises UsageError if the lists are not written as blocks.
    """
    model = f"{{family: {family}, task: {task}, dataset: {name}, kind: {kind}}}"
    added = {"datasets": f"{name}: {kind}", "models": f"{name}: {model}"}
    for block, line in added.items():
        text = listing.with_entry(text, block, listing.Entry([], line), str(paths.PARAMS))
    return text
