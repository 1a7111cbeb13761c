"""Take a data set's source as it is now: show what changed and write the new sizes and digests into its conf.

New data arrive as a commit: `make pin DATASET=x`, a look at the difference, `make repro`, the gate.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml

from .. import config, download, files, paths, pull
from ..errors import UsageError
from ..terminal import progress

BLOCK = 2**20  # bytes


@dataclass(frozen=True)
class State:
    """A file as it was or is; each None where it is not known, `lines` also where the file is no text."""

    bytes: int | None
    sha256: str | None
    lines: int | None


@dataclass(frozen=True)
class Change:
    """A file whose source holds something other than what was pinned."""

    dataset: str
    source: str
    file: str
    before: State
    after: State

    def __str__(self) -> str:
        before, after = self.before, self.after
        words = [f"{self.file}: bytes {_arrow(before.bytes, after.bytes)}"]
        words.append(f"sha256 {(before.sha256 or 'not pinned')[:12]} -> {str(after.sha256)[:12]}")
        if before.lines is not None and after.lines is not None:
            words.append(
                f"lines {_arrow(before.lines, after.lines)} ({after.lines - before.lines:+,})"
            )
        elif after.lines is not None:
            words.append(f"lines {after.lines:,}")
        return ", ".join(words)


def _arrow(before: int | None, after: int | None) -> str:
    return " -> ".join(
        "not pinned" if number is None else f"{number:,}" for number in (before, after)
    )


def pin(conf: config.DatasetConf, pause: float = download.PAUSE) -> list[Change]:
    """Look at the chosen source, write what changed into the conf, and return it; nothing new gives an empty list.

    Raises UsageError for a source that cannot be pinned, SextantError for one that cannot be reached.
    """
    changes = look(conf, pause)
    if changes:
        path = pull.conf_path(conf)
        text = repinned(path.read_bytes().decode("utf-8"), changes, path)
        with files.written_whole(path) as beside:
            beside.write_bytes(text.encode("utf-8"))
    return changes


def look(conf: config.DatasetConf, pause: float = download.PAUSE) -> list[Change]:
    """What the chosen source holds now where that is not what the conf pins; writes nothing that lasts.

    What was downloaded and is new stays among the partial downloads under its digest, where pull finds it whole.
    """
    if conf.chosen_source == "embedded":
        raise UsageError(
            f"{conf.name}: source is `embedded`, a twin that is generated, so there is nothing to pin;"
            f" set `source: mirror` or `source: canonical` in {paths.PARAMS} or in {pull.conf_path(conf)}"
        )
    found = [(entry, pull.locate(entry)) for entry in pull.chosen_entries(conf)]
    remote = any(download.is_http(address) for _, address in found)
    changes: list[Change] = []
    with (
        pull.download_lock(conf) if remote else nullcontext(),
        TemporaryDirectory(dir=pull.downloads()) as folder,
    ):
        whole: list[Path] = []
        seen: dict[str, State] = {}  # by address: of a zip with several members
        many = len(found) > pull.CONNECTIONS  # one progress of them all, or else one of each
        for number, (entry, address) in enumerate(
            progress(found, f"pin {conf.name}", "files") if many else found
        ):
            path = Path(folder) / str(number)
            if address not in seen:
                with pull.with_filename(path), pull.source_errors(conf, entry, address):
                    download.fetch(address, path, "" if many else entry.file, pause=pause)
                seen[address] = State(path.stat().st_size, files.sha256(path), lines(path))
            after = seen[address]
            if (after.bytes, after.sha256) != (entry.bytes, entry.sha256):
                changes.append(
                    Change(conf.name, conf.chosen_source, entry.file, _before(conf, entry), after)
                )
                if path.is_file() and download.is_http(address):
                    whole.append(path)
                    continue
            path.unlink(missing_ok=True)
        for path in whole:
            path.replace(pull.downloads() / f"{files.sha256(path)}.part")
    return changes


def lines(path: Path) -> int | None:
    """The number of lines, a last one without its end included; None for what is no text (a NUL byte, as git says)."""
    count, last = 0, b"\n"
    with path.open("rb") as stream:
        if b"\0" in stream.read(8000):
            return None
        stream.seek(0)
        while block := stream.read(BLOCK):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def _before(conf: config.DatasetConf, entry: pull.Entry) -> State:
    """The file as pinned; its lines are counted where data/raw still holds just that file."""
    old = Path("data/raw") / conf.name / entry.file
    same = entry.sha256 is not None and old.is_file() and files.sha256(old) == entry.sha256
    return State(entry.bytes, entry.sha256, lines(old) if same else None)


# --- the numbers in the text of a conf --------------------------------------------------------------------------------


def repinned(text: str, changes: list[Change], path: Path) -> str:
    """`text` of the conf at `path` with the new numbers in their places, and every other character as it was.

    The parser says where a value stands, and only that piece is exchanged: a YAML writer, even one that keeps
    comments, would lay out the rest anew. What comes out is read again and must be the same but for the numbers.
    """
    expected, root = deepcopy(yaml.safe_load(text)), yaml.compose(text, Loader=yaml.SafeLoader)
    edits: list[Edit] = []
    for change in changes:
        listed = (expected.get("sources") or {}).get(change.source) or []
        number = next((n for n, entry in enumerate(listed) if entry["file"] == change.file), None)
        if number is None:
            raise UsageError(
                f"{path}: sources.{change.source} has no `{change.file}`; add it to that file first"
            )
        numbers = {"bytes": change.after.bytes, "sha256": change.after.sha256}
        edits += _edits(text, _at(root, "sources", change.source).value[number], numbers)
        listed[number].update(numbers)
    result = _edited(text, edits)
    if not _says(result, expected):  # an anchor that two entries share, a layout unheard of
        wanted = "; ".join(
            f"{c.file}: bytes: {c.after.bytes}, sha256: {c.after.sha256}" for c in changes
        )
        raise UsageError(
            f"{path}: the pins cannot be exchanged without changing more; write them by hand: {wanted}"
        )
    return result


class Edit(NamedTuple):
    """The characters from `start` up to `end` become `new`."""

    start: int
    end: int
    new: str


def _edits(text: str, entry: yaml.MappingNode, numbers: dict[str, Any]) -> Iterator[Edit]:
    """What makes an entry say `numbers`: values exchanged where there are some, and then the missing keys added."""
    found = {name.value: node for name, node in entry.value}
    for key in numbers.keys() & found.keys():
        start, end, quotes = (
            found[key].start_mark.index,
            found[key].end_mark.index,
            found[key].style or "",
        )
        yield Edit(start, end, f"{' ' if start == end else ''}{quotes}{numbers[key]}{quotes}")
    missing = [f"{key}: {number}" for key, number in numbers.items() if key not in found]
    name, node = [pair for pair in entry.value if pair[1].start_mark.line == pair[1].end_mark.line][
        -1
    ]
    if missing and entry.flow_style:
        yield Edit(
            node.end_mark.index, node.end_mark.index, "".join(f", {words}" for words in missing)
        )
    elif missing:
        rest, line_end = text[node.end_mark.index :], "\r\n" if "\r\n" in text else "\n"
        at = node.end_mark.index + len(rest.partition("\n")[0].removesuffix("\r"))
        yield Edit(
            at, at, "".join(f"{line_end}{' ' * name.start_mark.column}{words}" for words in missing)
        )


def _edited(text: str, edits: list[Edit]) -> str:
    pieces, done = [], 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        pieces += [text[done : edit.start], edit.new]
        done = edit.end
    return "".join([*pieces, text[done:]])


def _at(node: Any, *path: str) -> Any:
    """The node below a mapping node that `path` leads to."""
    for key in path:
        node = next(value for name, value in node.value if name.value == key)
    return node


def _says(text: str, expected: Any) -> bool:
    try:
        return bool(yaml.safe_load(text) == expected)
    except yaml.YAMLError:
        return False


def main(argv: list[str]) -> None:
    """`sextant pin dataset=<name>`."""
    name, overrides = config.named(argv, "dataset")
    conf = config.dataset(name, overrides)
    changes = pin(conf)
    for change in changes:
        print(change)
    if changes:
        print(
            f"{name}: source {conf.chosen_source} pinned anew in {pull.conf_path(conf)}; next: make repro"
        )
    else:
        print(f"{name}: nothing new at source {conf.chosen_source}")
