"""Pin a data set: write the present size and digest of each file of its source into its conf.

New data arrive as a commit: `make pin DATASET=x`, a look at the difference, `make repro`, the gate.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from .. import config, download, files, paths, pull
from ..errors import UsageError
from ..terminal import progress
from ..yaml_text import Edit, edited, has_content, node_at

BLOCK = 2**20  # bytes
BINARY_TEST = 8000  # bytes at the beginning that git searches for a NUL, too


@dataclass(frozen=True)
class State:
    """Size in bytes, digest and number of lines of a file; None for what is unknown.

    A file that is not text has no number of lines.
    """

    bytes: int | None
    sha256: str | None
    lines: int | None


@dataclass(frozen=True)
class Change:
    """A file of a source that is not as it was pinned."""

    dataset: str
    source: str
    file: str
    before: State
    after: State

    def __str__(self) -> str:
        before = self.before
        after = self.after
        digest = (before.sha256 or "not pinned")[:12]
        parts = [
            f"{self.file}: bytes {_count(before.bytes)} -> {_count(after.bytes)}",
            f"sha256 {digest} -> {str(after.sha256)[:12]}",
        ]
        if before.lines is not None and after.lines is not None:
            difference = after.lines - before.lines
            parts.append(f"lines {before.lines:,} -> {after.lines:,} ({difference:+,})")
        elif after.lines is not None:
            parts.append(f"lines {after.lines:,}")
        return ", ".join(parts)


def _count(number: int | None) -> str:
    return "not pinned" if number is None else f"{number:,}"


def pin(conf: config.DatasetConf, pause: float = download.PAUSE) -> list[Change]:
    """Write the changes at the chosen source into the conf and return them, [] for none.

    `pause` is in seconds, see download.PAUSE. Raises UsageError for a source that cannot be pinned,
    SextantError for one that cannot be read.
    """
    changes = look(conf, pause)
    if changes:
        path = pull.conf_path(conf)
        # As bytes, so that line ends are kept.
        text = repinned(path.read_bytes().decode("utf-8"), changes, path)
        with files.written_whole(path) as beside:
            beside.write_bytes(text.encode("utf-8"))
    return changes


def look(conf: config.DatasetConf, pause: float = download.PAUSE) -> list[Change]:
    """Return the files of the chosen source that are not as pinned; the conf is not changed.

    Changed files that were downloaded are kept among the partial downloads, under their digests, so
    that pull does not download them again.
    """
    if conf.chosen_source == "embedded":
        raise UsageError(
            f"{conf.name}: source is `embedded`, a generated twin, so there is nothing to pin; set"
            f" `source: local`, `mirror` or `canonical` in {paths.PARAMS} or in"
            f" {pull.conf_path(conf)}"
        )
    located = [(entry, pull.locate(entry)) for entry in pull.chosen_entries(conf)]
    over_http = any(download.is_http(address) for _, address in located)
    lock = pull.download_lock(conf) if over_http else nullcontext()
    changes: list[Change] = []
    downloaded: list[Path] = []
    state_of: dict[str, State] = {}  # by address, which several members of a zip share
    with lock, TemporaryDirectory(dir=pull.downloads()) as folder:
        # Many files share one progress; each of a few has its own.
        many = len(located) > pull.CONNECTIONS
        items = progress(located, f"pin {conf.name}", "files") if many else located
        for number, (entry, address) in enumerate(items):
            path = Path(folder) / str(number)
            if address not in state_of and pull.is_folder(address):
                state_of[address] = State(**pull.pin_of(Path(address)), lines=None)
            if address not in state_of:
                with pull.with_filename(path), pull.source_errors(conf, entry, address):
                    download.fetch(address, path, "" if many else entry.file, pause=pause)
                state_of[address] = State(**pull.pin_of(path), lines=lines(path))
            state = state_of[address]
            changed = (state.bytes, state.sha256) != (entry.bytes, entry.sha256)
            if changed:
                before = _pinned_state(conf, entry)
                changes.append(Change(conf.name, conf.chosen_source, entry.file, before, state))
            if changed and path.is_file() and download.is_http(address):
                downloaded.append(path)
            else:
                path.unlink(missing_ok=True)
        for path in downloaded:
            path.replace(pull.downloads() / f"{files.sha256(path)}.part")
    return changes


def lines(path: Path) -> int | None:
    """Return the number of lines of a text file, None for a binary one.

    A last line without a line end counts.

    As for git, a file with a NUL at its beginning is binary.
    """
    count = 0
    last = b"\n"
    with path.open("rb") as stream:
        if b"\0" in stream.read(BINARY_TEST):
            return None
        stream.seek(0)
        while block := stream.read(BLOCK):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


def _pinned_state(conf: config.DatasetConf, entry: pull.Entry) -> State:
    """Return the state of a file as pinned, with its lines if data/raw/ still has that file."""
    path = paths.raw(conf.name) / entry.file
    is_pinned = entry.sha256 is not None and path.is_file() and files.sha256(path) == entry.sha256
    return State(entry.bytes, entry.sha256, lines(path) if is_pinned else None)


# --- the numbers in the text of a conf ----------------------------------------------------------


def repinned(text: str, changes: Sequence[Change], path: Path) -> str:
    """Return the `text` of the conf at `path` with new pins and every other character as it was.

    The result is parsed again as a check, and must differ only in the pins.

    Raises UsageError for a file that the conf does not list, and for a layout in which a pin cannot
    be replaced by itself, such as an anchor that two entries share.
    """
    expected = yaml.safe_load(text)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    edits: list[Edit] = []
    for change in changes:
        blocks = (expected.get("sources") or {}).get(change.source) or []
        names = [block["file"] for block in blocks]
        if change.file not in names:
            raise UsageError(
                f"{path}: sources.{change.source} has no `{change.file}`; add it to that file first"
            )
        number = names.index(change.file)
        pins = {"bytes": change.after.bytes, "sha256": change.after.sha256}
        blocks[number].update(pins)
        assert root is not None
        entry = node_at(root, "sources", change.source).value[number]
        edits += _edits(text, entry, pins)
    result = edited(text, edits)
    if not has_content(result, expected):
        wanted = []
        for change in changes:
            after = change.after
            wanted.append(f"{change.file}: bytes: {after.bytes}, sha256: {after.sha256}")
        raise UsageError(
            f"{path}: the pins cannot be replaced without other changes; write them by hand:"
            f" {'; '.join(wanted)}"
        )
    return result


def _edits(text: str, entry: yaml.MappingNode, pins: Mapping[str, object]) -> Iterator[Edit]:
    """Yield the edits that give an entry its `pins`: first values replaced, then keys added."""
    value_of = {name.value: node for name, node in entry.value}
    for key, pin_value in pins.items():
        if key in value_of:
            node = value_of[key]
            start = node.start_mark.index
            end = node.end_mark.index
            quotes = node.style or ""
            space = " " if start == end else ""  # an empty value: `bytes:`
            yield Edit(start, end, f"{space}{quotes}{pin_value}{quotes}")
    missing = [f"{key}: {pin_value}" for key, pin_value in pins.items() if key not in value_of]
    if not missing:
        return
    # New keys follow the last value that is on one line.
    on_one_line = []
    for name, node in entry.value:
        if node.start_mark.line == node.end_mark.line:
            on_one_line.append((name, node))
    name, node = on_one_line[-1]
    end = node.end_mark.index
    if entry.flow_style:  # {file: a.csv, path: a.csv}
        yield Edit(end, end, "".join(f", {item}" for item in missing))
        return
    line_end = "\r\n" if "\r\n" in text else "\n"
    indent = " " * name.start_mark.column
    comment = text[end:].partition("\n")[0].removesuffix("\r")
    end += len(comment)
    yield Edit(end, end, "".join(f"{line_end}{indent}{item}" for item in missing))


def main(argv: list[str]) -> None:
    """`sextant pin dataset=<name>`."""
    name, overrides = config.named(argv, "dataset")
    conf = config.dataset(name, overrides)
    changes = pin(conf)
    for change in changes:
        print(change)
    source = conf.chosen_source
    if changes:
        print(f"{name}: source {source} pinned in {pull.conf_path(conf)}; next: make repro")
    else:
        print(f"{name}: nothing new at source {source}")
