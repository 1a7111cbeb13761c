"""Bring the bytes at an address to a file, in as many attempts as it takes.

Over http a download that broke off is gone on with (RFC 9110, 14: Range) where the server can; every other scheme is
fsspec's matter.
"""

import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import fsspec
import requests
import urllib3

from .errors import reason, words
from .terminal import Progress

BLOCK = 2**18  # bytes
MB = 1e6
TIMEOUT = (10, 60)  # seconds to connect, and of silence
ATTEMPTS = 5  # in a row without a further byte
PAUSE = 1.0  # seconds before the second attempt, doubled before each further one
LONGEST = 60.0  # seconds that a busy server may ask for before the next attempt
BUSY = {408, 425, 429, 500, 502, 503, 504}  # answers that another attempt may mend


def is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))


class Unreachable(Exception):
    """The source does not hand over the file; the message says why. `later`: another run may find it mended."""

    def __init__(self, why: str, later: bool = False) -> None:
        super().__init__(why)
        self.later = later


class WrongSize(Exception):
    """The source announces another size than the pinned one."""

    def __init__(self, size: int | None) -> None:
        super().__init__(size)
        self.size = size


class Broken(Exception):
    """An attempt failed in a way that another one may mend, after `wait` seconds at the earliest."""

    def __init__(self, why: str, wait: float = 0) -> None:
        super().__init__(why)
        self.wait = wait


def fetch(
    address: str,
    to: Path,
    label: str,
    size: int | None = None,
    pause: float = PAUSE,
    session: requests.Session | None = None,
) -> bool:
    """Write what lies at `address` to `to`; raises Unreachable, WrongSize.

    `size` is the pinned one, None where any will do. `label` stands before the progress; without one there is none.
    A `session` keeps its connection open for the next file. Returns whether the file was put together from several
    attempts; then only its digest can say that they fit. Over http an interrupted `to` is gone on with.
    """
    if is_http(address):
        with nullcontext(session) if session else requests.Session() as connection:
            return _download(connection, address, to, label, size, pause)
    with to.open("wb") as stream:
        _write(_blocks(address), stream, label, size)
    return False


def _blocks(address: str) -> Iterator[bytes]:
    try:
        with fsspec.open(address, "rb") as stream:
            while block := stream.read(BLOCK):
                yield block
    except FileNotFoundError:
        raise Unreachable("no such file") from None
    except Exception as error:  # every remote file system has exceptions of its own
        raise Unreachable(words(error)) from error


def _download(
    session: requests.Session, url: str, to: Path, label: str, size: int | None, pause: float
) -> bool:
    with to.open("ab") as stream:
        download = Download(session, url, stream, label, size)
        if size is not None and stream.tell() > size:
            download.restart()
        if size and stream.tell() == size:
            return True
        best, left = stream.tell(), ATTEMPTS
        while True:
            try:
                download.attempt()
                return download.resumed
            except Broken as error:
                if stream.tell() > best:
                    best, left = stream.tell(), ATTEMPTS
                left -= 1
                if not left:
                    raise Unreachable(
                        f"{error}, {ATTEMPTS} attempts in a row", later=True
                    ) from error
                wait = error.wait
            # Without a digest to come, bytes of two versions could be joined unseen; only a validator rules that out.
            if size is None and download.validator is None:
                download.restart()
            time.sleep(max(wait, pause * 2 ** (ATTEMPTS - 1 - left)))


@dataclass
class Download:
    """A download over http in as many attempts as it takes, each going on where the last one stopped."""

    session: requests.Session
    url: str
    stream: BinaryIO  # opened for appending
    label: str
    size: int | None
    validator: str | None = (
        None  # what If-Range compares: a strong ETag or the date of the last change
    )
    resumed: bool = False

    def attempt(self) -> None:
        """Ask for what is missing and write it; raises Broken, Unreachable, WrongSize."""
        offset = self.stream.tell()
        with self._get(offset) as response:
            if response.status_code == 416:
                self.restart()
                raise Broken(f"the server has nothing after {offset:,} bytes")
            if response.status_code in BUSY:
                raise Broken(f"{response.status_code} {response.reason}", _wait(response))
            if response.status_code not in (200, 206):
                raise Unreachable(f"{response.status_code} {response.reason}")
            start, total = _extent(response)
            other = None not in (self.size, total) and total != self.size
            replaced = self.validator not in (
                None,
                _validator(response),
            )  # and If-Range was not heeded
            if start != offset or (offset and (other or replaced)):
                self.restart()
            if start != self.stream.tell():
                raise Broken("the server did not go on with the same file")
            if other:
                raise WrongSize(total)
            self.resumed, self.validator = start > 0, _validator(response)
            self._append(response, total)

    def restart(self) -> None:
        self.stream.truncate(0)
        self.stream.seek(0)

    def _get(self, offset: int) -> requests.Response:
        # identity: the bytes as they lie there, so that lengths, ranges and digests speak of the same thing
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self.validator:
                headers["If-Range"] = self.validator
        try:
            return self.session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Broken(reason(error)) from error
        except requests.RequestException as error:
            raise Unreachable(reason(error)) from error

    def _append(self, response: requests.Response, total: int | None) -> None:
        _write(self._body(response, total), self.stream, self.label, total)
        if total is not None and self.stream.tell() != total:
            raise Broken(f"broke off at {self.stream.tell():,} of {total:,} bytes")

    def _body(self, response: requests.Response, total: int | None) -> Iterator[bytes]:
        try:
            yield from response.raw.stream(BLOCK, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            of = f" of {total:,}" if total is not None else ""
            raise Broken(f"broke off at {self.stream.tell():,}{of} bytes") from error


def _extent(response: requests.Response) -> tuple[int, int | None]:
    """Where in the file the body begins (-1: nobody knows), and the size of the whole file if the server says it."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found:
            return -1, None
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _wait(response: requests.Response) -> float:
    """The seconds that a busy server asks for (RFC 9110, 10.2.3: Retry-After), 0 where it names none."""
    try:
        return min(urllib3.Retry().get_retry_after(response.raw) or 0.0, LONGEST)
    except urllib3.exceptions.InvalidHeader:
        return 0.0


def _validator(response: requests.Response) -> str | None:
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _write(blocks: Iterator[bytes], stream: BinaryIO, label: str, total: int | None) -> None:
    """Write the blocks, and tell how far that is where there is a `label`."""
    with (
        Progress(label, None if total is None else total / MB, "MB")
        if label
        else nullcontext() as progress
    ):
        for block in blocks:
            if progress:
                progress.at(stream.tell() / MB)
            stream.write(block)
