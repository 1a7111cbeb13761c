"""A data set `farm` of one small table, and an http server that can misbehave."""

import functools
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT

from sextant import config

BODY = b"".join(b"%d,sheep,%d\r\n" % (n, n * n % 89) for n in range(997))
OTHER = BODY.replace(b"sheep,9", b"sheep,7", 1)  # as long as BODY


# --- a server with faults on demand -------------------------------------------------------------


@dataclass
class Page:
    """What the server has at one path, and how it misbehaves."""

    body: bytes
    drops: list[int] = field(default_factory=list)  # bytes after which each next answer breaks off
    statuses: list[int] = field(default_factory=list)  # of the next answers, before all goes well
    after: str | None = None  # Retry-After of these answers
    ranges: bool = True  # whether Range is supported
    tag: str | None = '"1"'  # ETag
    heeds: bool = True  # whether If-Range is supported
    length: int | None = None  # a wrong Content-Length
    location: str | None = None  # where it redirects to
    then: "Page | None" = None  # replaces this page after an answer that broke off


class Server(ThreadingHTTPServer):
    """Serves `pages` by path; `requested` collects the header Range of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Page] = {}
        self.requested: list[str | None] = []

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requested.append(wanted)
        page = self.server.pages.get(self.path)
        if page is None:
            return self.send_error(404)
        if page.statuses:
            self.send_response(page.statuses.pop(0))
            if page.after is not None:
                self.send_header("Retry-After", page.after)
            return self.end_headers()
        if page.location:
            self.send_response(302)
            self.send_header("Location", page.location)
            return self.end_headers()
        start = 0
        replaced = page.heeds and self.headers.get("If-Range", page.tag) != page.tag
        if wanted and page.ranges and not replaced:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(page.body) > 0:
            return self.send_error(416)
        self._send(page, start)

    def _send(self, page: Page, start: int) -> None:
        whole = len(page.body) if page.length is None else page.length
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(whole - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if page.tag:
            self.send_header("ETag", page.tag)
        self.end_headers()
        rest = page.body[start:]
        if page.drops and page.then:
            self.server.pages[self.path] = page.then
        self.wfile.write(rest[: page.drops.pop(0)] if page.drops else rest)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


# --- the conf -----------------------------------------------------------------------------------

CONF = """\
about: null
source: {source}
sources: {sources}
columns: {{names: [number, animal, age], delimiter: ",", unknown: null, key: null, target: animal,
  ignored: [], numeric: [number, age], categorical: []}}
split: {{by: hash, salt: 0, shares: {{train: 0.6, val: 0.1, gate: 0.1, test: 0.2}}}}
twin: null
"""
PARAMS = {
    "seed": 42,
    "source": "embedded",
    "budget": "smoke",
    "datasets": {"farm": "tabular"},
    "models": {
        "herd": {"family": "ann", "task": "classification", "dataset": "farm", "kind": "tabular"}
    },
}


@functools.cache
def composed() -> config.DatasetConf:
    """The conf of `farm` in the working directory, composed once: Hydra takes 50 ms each time."""
    return config.dataset("farm")


def workspace(root: Path, sources: dict[str, Any], source: str = "canonical") -> config.DatasetConf:
    """Write params.yaml and the conf of `farm` to the working directory `root`; return the conf."""
    for folder in ("conf/dataset", "conf/expectations", "facts"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "trainer.yaml"):
        shutil.copy(ROOT / "conf" / name, root / "conf" / name)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    (root / "conf/expectations/farm.yaml").write_text("[]\n")
    text = CONF.format(source=source, sources=json.dumps(sources))
    (root / "conf/dataset/farm.yaml").write_text(text)
    chosen = {"sources": sources, "source": source, "chosen_source": source}
    return composed().model_copy(update=chosen, deep=True)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def pinned(body: bytes = BODY, **keys: str) -> dict[str, Any]:
    """An entry of `sources` that pins `body`."""
    return {"file": "farm.csv", **keys, "bytes": len(body), "sha256": sha256(body)}


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files in a folder, by path."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
