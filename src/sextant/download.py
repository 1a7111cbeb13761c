"""Copy the bytes at an address to a file, with retries over http.

A broken http download is resumed if the server supports it (RFC 9110, section 14: Range). All
other schemes are read through fsspec, without retries.
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

from .errors import describe, reason
from .terminal import Progress

BLOCK = 2**18  # bytes
MB = 1e6
TIMEOUT = (10, 60)  # seconds to connect, and without a byte
ATTEMPTS = 5  # in a row that brought no further byte
PAUSE = 1.0  # seconds before the second attempt; doubled before each further one
LONGEST = 60.0  # seconds; a server may ask for more, but the program would seem to hang
BUSY = {408, 425, 429, 500, 502, 503, 504}  # status codes worth another attempt


def is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))


class Unreachable(Exception):
    """The source does not deliver the file; the message says why.

    `later`: the same command may succeed later.
    """

    def __init__(self, why: str, later: bool = False) -> None:
        super().__init__(why)
        self.later = later


class WrongSize(Exception):
    """The source announces a size that differs from the pinned one."""

    def __init__(self, size: int | None) -> None:
        super().__init__(size)
        self.size = size


class Broken(Exception):
    """An attempt failed, but another one may succeed, after at least `wait` seconds."""

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
    """Write the bytes at `address` to the file `to`; over http, resume a partial `to`.

    `size` is the pinned size in bytes, None to accept any. `label` names the progress, "" for none.
    `pause` is in seconds, see PAUSE. A `session` keeps its connection open for the next file.

    Returns whether the file was put together from several attempts. If so, only its digest can tell
    whether they belong to the same version of it. Raises Unreachable and WrongSize.
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
    except Exception as error:  # each remote file system has exceptions of its own
        raise Unreachable(describe(error)) from error


def _download(
    session: requests.Session, url: str, to: Path, label: str, size: int | None, pause: float
) -> bool:
    """Download with retries, at most ATTEMPTS in a row that bring no further byte; see `fetch`."""
    with to.open("ab") as stream:
        download = Download(session, url, stream, label, size)
        if size is not None and stream.tell() > size:
            download.restart()
        if size and stream.tell() == size:
            return True
        longest = stream.tell()
        attempts_left = ATTEMPTS
        while True:
            try:
                download.attempt()
                return download.resumed
            except Broken as error:
                if stream.tell() > longest:
                    longest = stream.tell()
                    attempts_left = ATTEMPTS
                attempts_left -= 1
                if not attempts_left:
                    raise Unreachable(
                        f"{error}, {ATTEMPTS} attempts in a row", later=True
                    ) from error
                wait = error.wait
            # Without a pin no digest will be checked, so a mixture of two versions of the file
            # would go unnoticed unless a validator (ETag, Last-Modified) rules it out.
            if size is None and download.validator is None:
                download.restart()
            failures = ATTEMPTS - 1 - attempts_left
            time.sleep(max(wait, pause * 2**failures))


@dataclass
class Download:
    """A download over http; each attempt resumes where the last one stopped.

    `stream` is open for appending. `validator` is the value for If-Range: a strong ETag or the date
    of the last change.
    """

    session: requests.Session
    url: str
    stream: BinaryIO
    label: str
    size: int | None
    validator: str | None = None
    resumed: bool = False

    def attempt(self) -> None:
        """Request the missing bytes and append them; raises Broken, Unreachable and WrongSize."""
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
            wrong_size = self.size is not None and total is not None and total != self.size
            # A server may ignore If-Range and send the rest of a file that has changed.
            replaced = self.validator is not None and self.validator != _validator(response)
            if start != offset or (offset and (wrong_size or replaced)):
                self.restart()
            if start != self.stream.tell():
                raise Broken("the server did not continue with the same file")
            if wrong_size:
                raise WrongSize(total)
            self.resumed = start > 0
            self.validator = _validator(response)
            self._append(response, total)

    def restart(self) -> None:
        """Drop the bytes of earlier attempts."""
        self.stream.truncate(0)
        self.stream.seek(0)

    def _get(self, offset: int) -> requests.Response:
        # identity: bytes as stored, so that lengths, ranges and digests refer to the same thing.
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
            raise Broken(self._broke_off(total))

    def _body(self, response: requests.Response, total: int | None) -> Iterator[bytes]:
        try:
            yield from response.raw.stream(BLOCK, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Broken(self._broke_off(total)) from error

    def _broke_off(self, total: int | None) -> str:
        of_total = "" if total is None else f" of {total:,}"
        return f"broke off at {self.stream.tell():,}{of_total} bytes"


def _extent(response: requests.Response) -> tuple[int, int | None]:
    """Return where in the file the body begins and the size of the file, both in bytes.

    If the server does not say, the beginning is -1 and the size None.
    """
    if response.status_code == 206:
        content_range = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
        if not match:
            return -1, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _wait(response: requests.Response) -> float:
    """Return the seconds that a busy server asks for (RFC 9110, 10.2.3: Retry-After), else 0."""
    try:
        seconds = urllib3.Retry().get_retry_after(response.raw)
    except urllib3.exceptions.InvalidHeader:
        return 0.0
    return min(seconds or 0.0, LONGEST)


def _validator(response: requests.Response) -> str | None:
    """Return what If-Range may compare: a weak ETag (W/"…") does not promise the same bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _write(blocks: Iterator[bytes], stream: BinaryIO, label: str, total: int | None) -> None:
    """Write the blocks, with progress in MB if there is a `label`."""
    total_mb = None if total is None else total / MB
    with Progress(label, total_mb, "MB") if label else nullcontext() as progress:
        for block in blocks:
            if progress:
                progress.at(stream.tell() / MB)
            stream.write(block)
