"""Bring a data set from its chosen source: every file as its conf pins it, or nothing.

`embedded` writes the twin, `mirror` copies from the place in SEXTANT_MIRROR, `canonical` downloads from the public
addresses. A source that fails is an error: nothing falls back to another one.
"""

import csv
import fcntl
import json
import os
import shutil
import sys
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import quote, urlsplit, urlunsplit

import requests
from pydantic import AfterValidator, Field

from . import config, download, files, paths, plugins
from .errors import DataError, SextantError, UsageError, one_line, redact
from .strict import Strict, check
from .terminal import Progress

CONNECTIONS = 8  # at once, to a server that hands out many small files


# --- what stands under `sources` in conf/dataset/<name>.yaml ----------------------------------------------------------


def _plain(value: str) -> str:
    path = PurePosixPath(value)
    if (
        str(path) != value
        or path.is_absolute()
        or {".", ".."} & {value, *path.parts}
        or not value.isprintable()
    ):
        raise ValueError(
            "expected a plain relative path, such as folder/file.csv, that does not climb out"
        )
    return value


def _not_the_receipt(value: str) -> str:
    if value == files.RECEIPT:
        raise ValueError(
            f"{files.RECEIPT} is where pull writes what it brought; choose another name"
        )
    return value


PlainPath = Annotated[str, AfterValidator(_plain)]


class Entry(Strict):
    """One file: its name in the raw folder, and its pin, which is absent until the first `make pin`.

    `member`: the file is that one inside a zip, and the pin is the zip's; several entries may name members of one zip.
    """

    file: Annotated[PlainPath, AfterValidator(_not_the_receipt)]
    member: PlainPath | None = None
    bytes: Annotated[int, Field(ge=0)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Canonical(Entry):
    """A file at its public address: http(s), or whatever scheme fsspec knows."""

    url: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://\S")]


class Listed(Entry):
    """Files that a CSV lists, which lies beside the conf and is pinned itself; it is brought along.

    `url` is the address of each, with {path} for the list's column `path`; `sizes` and `digests` are its columns of
    pins.
    """

    url: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://\S*\{path\}")]
    sizes: str
    digests: str


class Mirror(Entry):
    """A file in the mirror, by its path below SEXTANT_MIRROR."""

    path: PlainPath


SOURCES: dict[config.Source, type[Entry]] = {"canonical": Canonical, "mirror": Mirror}


def entries(conf: config.DatasetConf, source: config.Source) -> list[Entry]:
    """The checked entries of one source; raises UsageError for a fault in one, or one file named twice."""
    where = f"{conf_path(conf)} sources.{source}"
    if source not in SOURCES:
        raise UsageError(
            f"{where}: unknown key; expected one of: {', '.join(SOURCES)} (a twin stands under `twin`)"
        )
    found = [
        check(_form(source, entry), entry, f"{where}[{n}]")
        for n, entry in enumerate(conf.sources.get(source, []))
    ]
    named = Counter(entry.file for entry in found)
    for name in named:
        if named[name] > 1 or any(str(parent) in named for parent in PurePosixPath(name).parents):
            raise UsageError(
                f"{where}: `{name}` is named twice, or below another file; give it a name of its own"
            )
    return found


def _form(source: config.Source, entry: dict[str, Any]) -> type[Entry]:
    return Listed if source == "canonical" and "digests" in entry else SOURCES[source]


def listed(conf: config.DatasetConf, entry: Listed) -> list[Entry]:
    """What a list lists; raises DataError for a list that is not the pinned one, UsageError for a fault in a line."""
    path = list_path(entry)
    if not path.is_file():
        raise UsageError(
            f"{path} is not there, but {conf_path(conf)} names it; bring it back from git"
        )
    _check_pin(conf, entry, str(path), path)
    found: list[Entry] = []
    with path.open(newline="", encoding="utf-8") as stream:
        for number, line in enumerate(csv.DictReader(stream), start=2):
            name, size, digest = (
                line.get(column) or "" for column in ("path", entry.sizes, entry.digests)
            )
            pinned = {"bytes": int(size) if size.isdecimal() else size, "sha256": digest}
            address = entry.url.replace("{path}", quote(name))
            found.append(
                check(Canonical, {"file": name, "url": address, **pinned}, f"{path} line {number}")
            )
    return found


def list_path(entry: Entry) -> Path:
    return paths.CONF / "dataset" / entry.file


def chosen(conf: config.DatasetConf) -> list[Entry]:
    """The entries of the chosen source, none for `embedded`; raises UsageError where the conf does not have it."""
    source = conf.chosen_source
    there = [
        *(name for name in SOURCES if conf.sources.get(name)),
        *(["embedded"] if conf.twin is not None else []),
    ]
    if source not in there:
        lack = (
            "has no twin (`twin: null`)"
            if source == "embedded"
            else f"has no entries under sources.{source}"
        )
        repair = (
            f"set `source:` there to one of: {', '.join(there)}"
            if there
            else "add entries under `sources` there"
        )
        raise UsageError(
            f"{conf.name}: source is `{source}`, but {conf_path(conf)} {lack}; {repair}"
        )
    return [] if source == "embedded" else entries(conf, source)


def check_sources(conf: config.DatasetConf) -> None:
    """Everything about `sources` that can be wrong before a byte is fetched; raises UsageError."""
    for source in conf.sources:
        entries(conf, source)
    _pinned(conf)


def conf_path(conf: config.DatasetConf) -> Path:
    return paths.CONF / "dataset" / f"{conf.name}.yaml"


def _pinned(conf: config.DatasetConf) -> list[Entry]:
    """The chosen entries, all of them with a pin."""
    found = chosen(conf)
    for entry in found:
        if entry.bytes is None or entry.sha256 is None:
            raise UsageError(
                f"{conf.name}: `{entry.file}` has no bytes and sha256 yet in {conf_path(conf)}"
                f" sources.{conf.chosen_source}; `make pin DATASET={conf.name}` writes them"
            )
    return found


# --- where a file lies ------------------------------------------------------------------------------------------------


def mirror() -> str:
    """The place that SEXTANT_MIRROR names; raises UsageError where it is unset or relative."""
    base = os.environ.get("SEXTANT_MIRROR", "")
    repair = "export SEXTANT_MIRROR=… as an absolute folder or an address (s3://…, https://…)"
    if not base:
        raise UsageError(
            f"source `mirror` needs to know where the files lie, and SEXTANT_MIRROR is not set; {repair}"
        )
    folder = _local(base)
    if folder is not None and not folder.is_absolute():
        raise UsageError(f"SEXTANT_MIRROR is `{base}`, a relative path; {repair}")
    if folder is not None and not folder.is_dir():
        raise SextantError(
            f"SEXTANT_MIRROR is `{base}`, but no such folder is there; mount it, or {repair}"
        )
    return base


def locate(entry: Entry) -> str:
    """The address of an entry, for `fetch`."""
    if isinstance(entry, Canonical):
        return entry.url
    if isinstance(entry, Listed):
        return str(list_path(entry))
    assert isinstance(entry, Mirror)
    return joined(mirror(), entry.path)


def joined(base: str, path: str) -> str:
    """`path` below the address `base`: before a query (https://host/folder?token) and a chain (zip://::s3://a/b.zip)."""
    if download.is_http(base):
        parts = urlsplit(base)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(path)}"))
    head, chain, rest = base.partition("::")
    return f"{head}{'' if head.endswith('/') else '/'}{path}{chain}{rest}"


def _local(address: str) -> Path | None:
    scheme, _, path = address.rpartition("://")
    return Path(path) if scheme in ("", "file", "local") else None


# --- the stage --------------------------------------------------------------------------------------------------------


def pull(conf: config.DatasetConf, folder: Path, pause: float = download.PAUSE) -> None:
    """Write the files of the chosen source and source.json to `folder`, or leave `folder` as it is.

    Raises UsageError for a source that the conf lacks or SEXTANT_MIRROR not set, SextantError for an unreachable one,
    DataError for a file that is not the pinned one.
    """
    found = _pinned(conf)
    found += [one for entry in found if isinstance(entry, Listed) for one in listed(conf, entry)]
    addresses = [locate(entry) for entry in found]
    with (
        turn(conf) if any(map(download.is_http, addresses)) else nullcontext(),
        files.written_whole(folder) as beside,
    ):
        with naming(folder):
            beside.mkdir()
            if conf.chosen_source == "embedded":
                plugins.kind(conf.kind).twin.write_twin(config.twin(conf), conf.columns, beside)
            else:
                _bring(conf, list(zip(found, addresses, strict=True)), beside, pause)
            files.write_json(beside / files.RECEIPT, receipt(conf.chosen_source, beside))


def receipt(source: str, folder: Path) -> dict[str, Any]:
    """What source.json says: the source, and the size and sha256 of every file of `folder`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": files.sha256(path),
        }
        for path in paths
    }
    return {"source": source, "files": whole}


def _bring(
    conf: config.DatasetConf, found: list[tuple[Entry, str]], folder: Path, pause: float
) -> None:
    """Bring each file to `folder`; what was downloaded is moved there last, so that the next run goes on from it."""
    places: dict[Path, list[Entry]] = {}
    wanted: dict[Path, tuple[Entry, str]] = {}
    waiting = downloads()
    for entry, address in found:
        place = folder / entry.file
        place.parent.mkdir(parents=True, exist_ok=True)
        if download.is_http(address):
            part = waiting / f"{entry.sha256}.part"
            places.setdefault(part, []).append(entry)
            wanted[part] = entry, address
        else:
            with reading(conf, entry, address):
                download.fetch(address, place, entry.file, entry.bytes)
            _check_pin(conf, entry, address, place)
            if entry.member:
                zipped = place.replace(place.with_name(f".{place.name}.zip"))
                _unzip(conf, entry, zipped, place)
                zipped.unlink()
    _download(conf, wanted, pause)
    for part, brought in places.items():
        for entry in brought:
            if entry.member:
                _unzip(conf, entry, part, folder / entry.file)
        whole = [folder / entry.file for entry in brought if not entry.member]
        for other in whole[1:]:
            shutil.copyfile(part, other)
        if whole:
            shutil.move(part, whole[0])
        else:
            part.unlink()


def _unzip(conf: config.DatasetConf, entry: Entry, zipped: Path, place: Path) -> None:
    """Write the entry's member to `place`; its own name in the zip decides nothing about where that is."""
    assert entry.member
    try:
        with (
            zipfile.ZipFile(zipped) as archive,
            archive.open(entry.member) as inside,
            place.open("wb") as stream,
        ):
            shutil.copyfileobj(inside, stream)
    except KeyError:
        there = ", ".join(zipfile.ZipFile(zipped).namelist()[:5])
        raise DataError(
            f"{conf.name}: the zip of `{entry.file}` has no member {entry.member}; it has {there}, …; mend"
            f" `member` in {conf_path(conf)}"
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{conf.name}: `{entry.file}` cannot be taken out of its zip ({one_line(error)}); mend the source"
        ) from None


def _download(
    conf: config.DatasetConf, wanted: dict[Path, tuple[Entry, str]], pause: float
) -> None:
    """Download each entry to its place: many over several connections and under one bar, few one after the other."""
    connections = CONNECTIONS if len(wanted) > CONNECTIONS else 1
    stop = threading.Event()

    def bring(share: list[tuple[Path, tuple[Entry, str]]], progress: Progress | None) -> None:
        with requests.Session() as session:
            for part, (entry, address) in share:
                if stop.is_set():
                    return
                label = entry.file if connections == 1 else ""
                _to_part(conf, entry, address, part, label, pause, session)
                if progress:
                    progress.step()

    with (
        Progress(f"pull {conf.name}", len(wanted), "files")
        if connections > 1
        else nullcontext() as progress
    ):
        if progress:
            progress.at(0)
        with ThreadPoolExecutor(connections) as pool:
            every = list(wanted.items())
            shares = [
                pool.submit(bring, every[start::connections], progress)
                for start in range(connections)
            ]
            try:
                for share in as_completed(shares):
                    share.result()
            finally:
                stop.set()


def _to_part(
    conf: config.DatasetConf,
    entry: Entry,
    address: str,
    part: Path,
    label: str,
    pause: float,
    session: requests.Session,
) -> None:
    """Download to `part`; one that holds bytes of an earlier run and does not fit is downloaded whole, once."""
    try:
        with naming(part), reading(conf, entry, address):
            resumed = download.fetch(address, part, label, entry.bytes, pause, session)
            if resumed and files.sha256(part) != entry.sha256:
                part.unlink()
                download.fetch(address, part, label, entry.bytes, pause, session)
        _check_pin(conf, entry, address, part)
    except SextantError as error:
        if (
            isinstance(error, DataError) or not part.stat().st_size
        ):  # nothing that a later run could go on with
            part.unlink()
        raise


def _check_pin(conf: config.DatasetConf, entry: Entry, address: str, path: Path) -> None:
    size, digest = path.stat().st_size, files.sha256(path)
    if (size, digest) != (entry.bytes, entry.sha256):
        raise _differs(conf, entry, address, f"sha256 {digest[:12]}, {size:,} bytes")


def _differs(conf: config.DatasetConf, entry: Entry, address: str, got: str) -> DataError:
    expected = f"sha256 {str(entry.sha256)[:12]}, {entry.bytes:,} bytes"
    return DataError(
        f"{conf.name}: {redact(address)} is not the file that {conf_path(conf)} pins: got {got};"
        f" expected {expected};"
        f" `make pin DATASET={conf.name}` if the change is intended, otherwise mend the source"
    )


@contextmanager
def reading(conf: config.DatasetConf, entry: Entry, address: str) -> Iterator[None]:
    """Say of a fetch that failed which file of which data set it was, and what to do."""
    try:
        yield
    except download.WrongSize as error:
        raise _differs(conf, entry, address, f"{error.size:,} bytes") from None
    except download.Unreachable as error:
        if isinstance(entry, Mirror):
            repair = f"check that SEXTANT_MIRROR names the place that holds {entry.path}"
        else:
            repair = f"mend the url of `{entry.file}` in {conf_path(conf)}"
        later = "run the same command again, which goes on from there, or " if error.later else ""
        raise SextantError(
            f"{conf.name}: cannot read {redact(address)}: {error}; {later}{repair}"
        ) from error


@contextmanager
def turn(conf: config.DatasetConf) -> Iterator[None]:
    """Wait for another pull or pin of the same data set: both would write the same partial downloads."""
    with (downloads() / f"{conf.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"{conf.name}: another process is downloading it; waiting for that one to end",
                file=sys.stderr,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a full disk say what was being written: the system's own error names no file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def downloads() -> Path:
    """Where partial downloads wait for the next run; DVC's root, so that an experiment's copy finds them too."""
    folder = paths.state_root() / ".scratch" / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main(argv: list[str]) -> None:
    """`sextant pull dataset=<name>`: to data/raw/<name>/, by hand to .scratch/raw/<name>/."""
    name, overrides = config.named(argv, "dataset")
    conf = config.dataset(name, overrides)
    folder = paths.raw(name) if paths.run_by_dvc() else paths.SCRATCH / "raw" / name
    pull(conf, folder)
    brought = json.loads((folder / files.RECEIPT).read_text(encoding="utf-8"))["files"]
    size = sum(file["bytes"] for file in brought.values())
    print(
        f"{name}: {len(brought)} file(s), {size:,} bytes from source {conf.chosen_source} in {folder}/"
    )
