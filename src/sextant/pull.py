"""Stage pull: fetch the files of a data set from its chosen source, each exactly as pinned.

Source `embedded` generates the twin, `local` copies files and folders of this machine, `mirror`
copies from the folder or address in SEXTANT_MIRROR, and `canonical` downloads from the public
addresses. A source that fails is an error: no other source is tried instead, because a model could
then be trained on other data unnoticed.
"""

import csv
import fcntl
import hashlib
import os
import shutil
import sys
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Annotated, TypedDict
from urllib.parse import quote, urlsplit, urlunsplit

import requests
from pydantic import AfterValidator, Field

from . import config, download, files, paths, plugins
from .errors import DataError, SextantError, UsageError, describe, one_line
from .redaction import redact
from .strict import PlainPath, Strict, check
from .terminal import Progress

# For a source of many small files: a round trip takes longer than the bytes of one of them.
CONNECTIONS = 8
MEMBERS = 5  # names of a zip's members that a message lists


# --- the entries under `sources` in conf/dataset/<name>.yaml ------------------------------------


def _local_file(value: str) -> str:
    path = PurePosixPath(value)
    if str(path) != value or not value.isprintable() or {".", ".."} & {value, *path.parts}:
        raise ValueError(
            "expected an absolute path, or one below the repository, without `..`, such as"
            " data/loans.csv"
        )
    return value


def _not_the_receipt(value: str) -> str:
    if value == files.RECEIPT:
        raise ValueError(f"pull writes its receipt to {files.RECEIPT}; choose another name")
    return value


class Entry(Strict):
    """One file of a source.

    `file` is its path in data/raw/<name>/. `bytes` and `sha256` are its pin, None before the first
    `make pin`. With `member` the source has a zip: the file is that member of it, and the pin is
    that of the zip. Several entries may name members of the same zip.
    """

    file: Annotated[PlainPath, AfterValidator(_not_the_receipt)]
    member: PlainPath | None = None
    bytes: Annotated[int, Field(ge=0)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Canonical(Entry):
    """A file at its public address: http(s), or any scheme that fsspec supports."""

    url: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://\S")]


class Listed(Entry):
    """All files that a CSV in facts/ lists. The CSV itself is pinned and copied as well.

    `url` is the address of each file, in which {path} stands for the CSV's column `path`. `sizes`
    and `digests` name its columns of pins.
    """

    url: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://\S*\{path\}")]
    sizes: str
    digests: str


class Mirror(Entry):
    """A file or folder of the mirror; `path` is relative to SEXTANT_MIRROR."""

    path: PlainPath


class Local(Entry):
    """A file or folder of this machine; `path` is absolute, or relative to the repository's root.

    `bytes` of a folder are those of all its files, and `sha256` is one digest over their paths and
    digests, see `pin_of`.
    """

    path: Annotated[str, AfterValidator(_local_file)]


SOURCES: dict[config.Source, type[Entry]] = {
    "local": Local,
    "mirror": Mirror,
    "canonical": Canonical,
}


def entries(conf: config.DatasetConf, source: config.Source) -> list[Entry]:
    """Return the checked entries of a source; raise UsageError for a fault or a repeated name."""
    where = f"{conf_path(conf)} sources.{source}"
    if source not in SOURCES:
        raise UsageError(
            f"{where}: unknown key; expected one of: {', '.join(SOURCES)}; a twin goes under `twin`"
        )
    checked: list[Entry] = []
    for number, block in enumerate(conf.sources.get(source, [])):
        is_list = source == "canonical" and "digests" in block
        checked.append(check(Listed if is_list else SOURCES[source], block, f"{where}[{number}]"))
    _check_names([entry.file for entry in checked], where)
    return checked


def _check_names(names: Sequence[str], where: str) -> None:
    counts = Counter(names)
    for name in names:
        below_a_file = any(str(parent) in counts for parent in PurePosixPath(name).parents)
        if counts[name] > 1 or below_a_file:
            raise UsageError(
                f"{where}: `{name}` is listed twice, or is below another file; choose another name"
            )


def read_list(conf: config.DatasetConf, entry: Listed) -> list[Entry]:
    """Return the entries of the files that a CSV lists.

    Raises DataError if the CSV is not the pinned one, and UsageError for a fault in a line.
    """
    path = list_path(entry)
    if not path.is_file():
        repair = "restore it from git"
        before = paths.CONF / "dataset" / entry.file  # where it belonged up to version 0.1
        if before.is_file():
            repair = f"move it there: git mv {before} {path}"
        raise UsageError(f"{path} does not exist, but {conf_path(conf)} names it; {repair}")
    _check_pin(conf, entry, str(path), path)
    listed: list[Entry] = []
    with path.open(newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=2):  # line 1 is the header
            name = row.get("path") or ""
            size = row.get(entry.sizes) or ""
            values = {
                "file": name,
                "url": entry.url.replace("{path}", quote(name)),
                "bytes": int(size) if size.isdecimal() else size,
                "sha256": row.get(entry.digests) or "",
            }
            listed.append(check(Canonical, values, f"{path} line {number}"))
    return listed


def list_path(entry: Listed) -> Path:
    return paths.FACTS / entry.file


def chosen_entries(conf: config.DatasetConf) -> list[Entry]:
    """Return the entries of the chosen source, none for `embedded`.

    Raises UsageError if the conf does not have that source.
    """
    source = conf.chosen_source
    available: list[str] = [name for name in SOURCES if conf.sources.get(name)]
    if conf.twin is not None:
        available.append("embedded")
    if source not in available:
        missing = f"no entries under sources.{source}"
        if source == "embedded":
            missing = "no twin (`twin: null`)"
        repair = "add entries under its `sources`"
        if available:
            repair = f"set its `source` to one of: {', '.join(available)}"
        raise UsageError(
            f"{conf.name}: source is `{source}`, but {conf_path(conf)} has {missing}; {repair}"
        )
    return [] if source == "embedded" else entries(conf, source)


def check_sources(conf: config.DatasetConf) -> None:
    """Raise UsageError for a fault in `sources`; nothing is fetched."""
    for source in conf.sources:
        entries(conf, source)
    _pinned_entries(conf)


def conf_path(conf: config.DatasetConf) -> Path:
    return paths.dataset_conf(conf.name)


def _pinned_entries(conf: config.DatasetConf) -> list[Entry]:
    """Return the entries of the chosen source; raise UsageError if one has no pin."""
    chosen = chosen_entries(conf)
    for entry in chosen:
        if entry.bytes is None or entry.sha256 is None:
            raise UsageError(
                f"{conf.name}: `{entry.file}` has no bytes and sha256 yet in {conf_path(conf)}"
                f" sources.{conf.chosen_source}; `make pin DATASET={conf.name}` writes them"
            )
    return chosen


# --- addresses ----------------------------------------------------------------------------------


def mirror() -> str:
    """Return SEXTANT_MIRROR.

    Raises UsageError if it is unset or relative, SextantError if the folder does not exist.
    """
    base = os.environ.get("SEXTANT_MIRROR", "")
    repair = "export SEXTANT_MIRROR=… as an absolute folder or an address (s3://…, https://…)"
    if not base:
        raise UsageError(f"source is `mirror`, but SEXTANT_MIRROR is not set; {repair}")
    folder = _local_path(base)
    # An experiment may run in a copy of the repository, where a relative path would differ.
    if folder is not None and not folder.is_absolute():
        raise UsageError(f"SEXTANT_MIRROR is `{base}`, a relative path; {repair}")
    if folder is not None and not folder.is_dir():
        raise SextantError(
            f"SEXTANT_MIRROR is `{base}`, but that folder does not exist; mount it, or {repair}"
        )
    return base


def locate(entry: Entry) -> str:
    """Return the address of an entry, as `download.fetch` takes it."""
    if isinstance(entry, Canonical):
        return entry.url
    if isinstance(entry, Listed):
        return str(list_path(entry))
    if isinstance(entry, Local):
        # Not below the working directory: an experiment may run in a copy of the repository, which
        # lacks the files that git does not track.
        return str((paths.state_root() / entry.path).absolute())
    assert isinstance(entry, Mirror)
    return joined(mirror(), entry.path)


def joined(base: str, path: str) -> str:
    """Return the address of `path` below the address `base`.

    The path goes before a query (https://host/folder?token) and before the rest of a chain of
    fsspec (zip://::s3://bucket/archive.zip).
    """
    if download.is_http(base):
        parts = urlsplit(base)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(path)}"))
    head, chain, rest = base.partition("::")
    slash = "" if head.endswith("/") else "/"
    return f"{head}{slash}{path}{chain}{rest}"


def _local_path(address: str) -> Path | None:
    scheme, _, path = address.rpartition("://")
    return Path(path) if scheme in ("", "file", "local") else None


# --- the stage ----------------------------------------------------------------------------------


class FilePin(TypedDict):
    """The size and the digest of a file."""

    bytes: int
    sha256: str


class Receipt(TypedDict):
    """source.json: the source of a raw folder, and the pin of each file by its path there."""

    source: str
    files: dict[str, FilePin]


def pull(conf: config.DatasetConf, folder: Path, pause: float = download.PAUSE) -> None:
    """Write the files of the chosen source and source.json to `folder`.

    If anything fails, `folder` stays as it was. `pause` is in seconds, see download.PAUSE.

    Raises UsageError if the conf lacks the source or SEXTANT_MIRROR is not set, SextantError if the
    source cannot be read, and DataError if a file is not the pinned one.
    """
    all_entries = _pinned_entries(conf)
    for entry in list(all_entries):
        if isinstance(entry, Listed):
            all_entries += read_list(conf, entry)
    located = [(entry, locate(entry)) for entry in all_entries]
    over_http = any(download.is_http(address) for _, address in located)
    if conf.chosen_source != "embedded" and _are_there(conf, all_entries, folder):
        return  # DVC runs the stage for every change of the conf, also of the split
    lock = download_lock(conf) if over_http else nullcontext()
    with lock, files.written_whole(folder) as beside, with_filename(folder):
        beside.mkdir()
        if conf.chosen_source == "embedded":
            _write_twin(conf, beside)
        else:
            _fetch_all(conf, located, beside, pause)
        files.write_json(beside / files.RECEIPT, receipt(conf.chosen_source, beside))


def _write_twin(conf: config.DatasetConf, folder: Path) -> None:
    """Generate the twin; raises UsageError for settings by which no rows can be drawn.

    Each is valid by itself, and what NumPy says of them together names no key.
    """
    twin = config.twin(conf)
    try:
        plugins.kind(conf.kind).twin.write_twin(twin, conf.columns, folder)
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise UsageError(
            f"{conf_path(conf)} twin: no data can be generated by these settings"
            f" ({describe(error)}); correct what was changed last, in `twin` or in `columns`"
        ) from error


def _are_there(conf: config.DatasetConf, entries: Sequence[Entry], folder: Path) -> bool:
    """Return whether `folder` has the pinned files of all entries from this source, and no others.

    The pin of a member of a zip is that of the zip, which is not kept.
    """
    pins: dict[str, FilePin] = {}
    for entry in entries:
        if entry.member or entry.bytes is None or entry.sha256 is None:
            return False
        pins[entry.file] = {"bytes": entry.bytes, "sha256": entry.sha256}
    path = folder / files.RECEIPT
    if not path.is_file() or files.read_json(path).get("source") != conf.chosen_source:
        return False
    present = receipt(conf.chosen_source, folder)["files"]
    del present[files.RECEIPT]
    return present == pins


def receipt(source: str, folder: Path) -> Receipt:
    """Return the content of source.json for the files in `folder`."""
    pins: dict[str, FilePin] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        pins[name] = {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
    return {"source": source, "files": pins}


def _fetch_all(
    conf: config.DatasetConf, located: Sequence[tuple[Entry, str]], folder: Path, pause: float
) -> None:
    """Fetch each entry from its address into `folder`.

    Downloads are kept outside of `folder`, under their digests, until all are complete: if one
    fails, the next run resumes it and reuses the others.
    """
    entries_of: dict[Path, list[Entry]] = {}  # by download: equal digests share one
    address_of: dict[Path, tuple[Entry, str]] = {}
    for entry, address in located:
        path = folder / entry.file
        path.parent.mkdir(parents=True, exist_ok=True)
        if download.is_http(address):
            part = downloads() / f"{entry.sha256}.part"
            entries_of.setdefault(part, []).append(entry)
            address_of[part] = entry, address
        else:
            _copy(conf, entry, address, path)
    _download_all(conf, address_of, pause)
    for part, sharing in entries_of.items():
        _distribute(conf, part, sharing, folder)


def _copy(conf: config.DatasetConf, entry: Entry, address: str, path: Path) -> None:
    """Copy an entry from a file system to `path`; if it is a zip, extract its member."""
    with source_errors(conf, entry, address):
        if is_folder(address):
            _copy_folder(Path(address), path)
        else:
            download.fetch(address, path, entry.file, entry.bytes)
    _check_pin(conf, entry, address, path)
    if entry.member:
        archive = path.replace(path.with_name(f".{path.name}.zip"))
        _unzip(conf, entry, archive, path)
        archive.unlink()


def is_folder(address: str) -> bool:
    """Return whether an address is that of a folder of this machine."""
    path = _local_path(address)
    return path is not None and path.is_dir()


def folder_files(folder: Path) -> list[Path]:
    """Return the files of a folder, sorted, without hidden ones and those in hidden folders."""
    contents = []
    for path in folder.rglob("*"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not is_hidden:
            contents.append(path)
    return sorted(contents)


def pin_of(path: Path) -> "FilePin":
    """Return the size and digest of a file, or of all files of a folder.

    The digest of a folder is over the relative paths and the digests of its files, so it does not
    depend on the order in which a file system lists them.
    """
    if not path.is_dir():
        return {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
    size = 0
    digest = hashlib.sha256()
    for file in folder_files(path):
        size += file.stat().st_size
        digest.update(f"{file.relative_to(path).as_posix()} {files.sha256(file)}\n".encode())
    return {"bytes": size, "sha256": digest.hexdigest()}


def _copy_folder(source: Path, folder: Path) -> None:
    """Copy the files of a folder; raises download.Unreachable for one that cannot be read."""
    folder.mkdir()
    for file in folder_files(source):
        copy = folder / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(file, copy)
        except PermissionError as error:
            raise download.Unreachable(f"{file.name}: {describe(error)}") from error


def _distribute(
    conf: config.DatasetConf, part: Path, sharing: Sequence[Entry], folder: Path
) -> None:
    """Turn a complete download into the files of all entries that share it."""
    for entry in sharing:
        if entry.member:
            _unzip(conf, entry, part, folder / entry.file)
    whole = [folder / entry.file for entry in sharing if not entry.member]
    for path in whole[1:]:
        shutil.copyfile(part, path)
    if whole:
        shutil.move(part, whole[0])
    else:
        part.unlink()


def _unzip(conf: config.DatasetConf, entry: Entry, archive: Path, path: Path) -> None:
    """Write the entry's member of a zip to `path`, which does not depend on names in the zip."""
    assert entry.member
    try:
        with (
            zipfile.ZipFile(archive) as opened,
            opened.open(entry.member) as member,
            path.open("wb") as stream,
        ):
            shutil.copyfileobj(member, stream)
    except KeyError:
        names = ", ".join(zipfile.ZipFile(archive).namelist()[:MEMBERS])
        raise DataError(
            f"{conf.name}: the zip of `{entry.file}` has no member {entry.member}; it has {names},"
            f" …; correct `member` in {conf_path(conf)}"
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{conf.name}: `{entry.file}` cannot be extracted from its zip ({one_line(error)});"
            " correct the source"
        ) from None


def _download_all(
    conf: config.DatasetConf, address_of: Mapping[Path, tuple[Entry, str]], pause: float
) -> None:
    """Download each entry to its path.

    Few files are downloaded one after the other, each with its progress; many over several
    connections, with one progress in files.
    """
    connections = CONNECTIONS if len(address_of) > CONNECTIONS else 1
    wanted = list(address_of.items())
    stop = threading.Event()

    def download_share(
        share: Sequence[tuple[Path, tuple[Entry, str]]], progress: Progress | None
    ) -> None:
        with requests.Session() as session:
            for part, (entry, address) in share:
                if stop.is_set():
                    return
                label = entry.file if connections == 1 else ""
                _download(conf, entry, address, part, label, pause, session)
                if progress:
                    progress.step()

    several = connections > 1
    whole = Progress(f"pull {conf.name}", len(wanted), "files") if several else nullcontext()
    with whole as progress:
        if progress:
            progress.at(0)
        with ThreadPoolExecutor(connections) as pool:
            shares = [wanted[start::connections] for start in range(connections)]
            futures = [pool.submit(download_share, share, progress) for share in shares]
            try:
                for future in as_completed(futures):
                    future.result()
            finally:
                stop.set()  # after a failure, the other threads end with their current file


def _download(
    conf: config.DatasetConf,
    entry: Entry,
    address: str,
    part: Path,
    label: str,
    pause: float,
    session: requests.Session,
) -> None:
    """Download an entry to `part`, which may have bytes of an earlier run.

    If these turn out to be of another file, it is downloaded once more, from the beginning.
    """
    try:
        with with_filename(part), source_errors(conf, entry, address):
            resumed = download.fetch(address, part, label, entry.bytes, pause, session)
            if resumed and files.sha256(part) != entry.sha256:
                part.unlink()
                download.fetch(address, part, label, entry.bytes, pause, session)
        _check_pin(conf, entry, address, part)
    except SextantError as error:
        useless = isinstance(error, DataError) or not part.stat().st_size
        if useless:  # nothing that a later run could resume
            part.unlink()
        raise


def _check_pin(conf: config.DatasetConf, entry: Entry, address: str, path: Path) -> None:
    actual = pin_of(path)
    size = actual["bytes"]
    digest = actual["sha256"]
    if (size, digest) != (entry.bytes, entry.sha256):
        raise _not_as_pinned(conf, entry, address, f"sha256 {digest[:12]}, {size:,} bytes")


def _not_as_pinned(conf: config.DatasetConf, entry: Entry, address: str, actual: str) -> DataError:
    expected = f"sha256 {str(entry.sha256)[:12]}, {entry.bytes:,} bytes"
    return DataError(
        f"{conf.name}: {redact(address)} is not the file that {conf_path(conf)} pins: got {actual};"
        f" expected {expected}; `make pin DATASET={conf.name}` if the change is intended, otherwise"
        " correct the source"
    )


@contextmanager
def source_errors(conf: config.DatasetConf, entry: Entry, address: str) -> Iterator[None]:
    """Turn errors of a download into messages that name the data set, the file and the repair."""
    try:
        yield
    except download.WrongSize as error:
        raise _not_as_pinned(conf, entry, address, f"{error.size:,} bytes") from None
    except download.Unreachable as error:
        repair = f"correct the url of `{entry.file}` in {conf_path(conf)}"
        if isinstance(entry, Mirror):
            repair = f"check that SEXTANT_MIRROR names the place that has {entry.path}"
        if isinstance(entry, Local):
            repair = f"put the file there, or correct `path` of `{entry.file}` in {conf_path(conf)}"
        if error.later:
            repair = f"run the same command again to resume, or {repair}"
        raise SextantError(
            f"{conf.name}: cannot read {redact(address)}: {error}; {repair}"
        ) from error


@contextmanager
def download_lock(conf: config.DatasetConf) -> Iterator[None]:
    """Wait for other pulls and pins of the data set: they write the same partial downloads."""
    with (downloads() / f"{conf.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting = "another process is downloading it; waiting for it to finish"
            print(f"{conf.name}: {waiting}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def with_filename(path: Path) -> Iterator[None]:
    """Add `path` to an OSError without a filename, such as the one for a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def downloads() -> Path:
    """Return the folder of partial downloads.

    It is below the root of the clone, so that an experiment in a temporary copy finds them too.
    """
    folder = paths.state_root() / paths.SCRATCH / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main(argv: list[str]) -> None:
    """`sextant pull dataset=<name>`: to data/raw/<name>/, by hand to .scratch/raw/<name>/."""
    name, overrides = config.named(argv, "dataset")
    conf = config.dataset(name, overrides)
    folder = paths.raw(name) if paths.run_by_dvc() else paths.SCRATCH / "raw" / name
    pull(conf, folder)
    pins = files.read_json(folder / files.RECEIPT)["files"]
    size = sum(pin["bytes"] for pin in pins.values())
    source = conf.chosen_source
    print(f"{name}: {len(pins)} file(s), {size:,} bytes from source {source} in {folder}/")
