"""pull: every file as it is pinned, or the folder as it was before; against a server and mirrors that misbehave."""

import errno
import hashlib
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
import twins
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sextant import config, download, errors, pin, pull
from sextant.errors import DataError, SextantError, UsageError

ROOT = Path(__file__).parents[1]
BODY = b"".join(b"%d,sheep,%d\r\n" % (n, n * n % 89) for n in range(997))
OTHER = BODY.replace(b"sheep,9", b"sheep,7", 1)  # as long as BODY


# --- a server with faults on order ------------------------------------------------------------------------------------


@dataclass
class Page:
    """What the server has at one path. `drops`: after how many bytes each of the next answers is cut off."""

    body: bytes
    drops: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # of the next answers, before all goes well
    after: str | None = None  # their Retry-After
    ranges: bool = True
    tag: str | None = '"1"'
    heeds: bool = True  # what If-Range says
    length: int | None = None  # a Content-Length that lies
    location: str | None = None  # a redirection
    then: "Page | None" = None  # what lies there once an answer was cut off


class Server(ThreadingHTTPServer):
    """Pages by path, and the Range of every request in `asked`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Page] = {}
        self.asked: list[str | None] = []

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
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
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and page.ranges else 0
        if page.heeds and self.headers.get("If-Range", page.tag) != page.tag:
            start = 0
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

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


# --- a workspace with one small table of its own ----------------------------------------------------------------------

CONF = """\
kind: tabular
about: null
source: {source}
sources: {sources}
columns: {{names: [number, animal, age], delimiter: ",", unknown: null, key: null, target: animal, ignored: [],
  numeric: [number, age], categorical: []}}
split: {{by: hash, salt: 0, shares: {{train: 0.6, val: 0.1, gate: 0.1, test: 0.2}}}}
twin: null
"""


def workspace(root: Path, sources: dict[str, Any], source: str = "canonical") -> config.DatasetConf:
    """params.yaml and conf/ of one data set `farm` below `root`, which must be the working directory."""
    for folder in ("dataset", "expectations"):
        (root / "conf" / folder).mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "trainer.yaml"):
        shutil.copy(ROOT / "conf" / name, root / "conf" / name)
    models = {"herd": {"family": "ann", "dataset": "farm"}}
    params = {
        "seed": 42,
        "source": "embedded",
        "budget": "smoke",
        "datasets": ["farm"],
        "models": models,
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "conf/expectations/farm.yaml").write_text("[]\n")
    text = CONF.format(source=source, sources=json.dumps(sources))
    (root / "conf/dataset/farm.yaml").write_text(text)
    return config.dataset("farm")


def pinned(body: bytes = BODY, **keys: str) -> dict[str, Any]:
    """An entry that pins `body`."""
    return {
        "file": "farm.csv",
        **keys,
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, no mirror, no proxy, not under DVC."""
    monkeypatch.chdir(tmp_path)
    for name in ("SEXTANT_MIRROR", "DVC_ROOT", "DVC_STAGE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def raw(home: Path) -> Path:
    """A raw folder of an earlier pull."""
    folder = home / "data/raw/farm"
    folder.mkdir(parents=True)
    (folder / "farm.csv").write_bytes(b"an earlier pull")
    return folder


# --- the law ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_file(home: Path, server: Server) -> config.DatasetConf:
    return workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]})


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.sampled_from([BODY, OTHER, BODY[:701], BODY + b"7", b""]),
    drops=st.lists(st.integers(0, len(BODY)), max_size=7),
    statuses=st.lists(st.sampled_from([404, 429, 500, 503]), max_size=2),
    ranges=st.booleans(),
    tag=st.sampled_from([None, '"1"', 'W/"1"']),
    length=st.sampled_from([None, len(BODY), len(BODY) + 11]),
    before=st.booleans(),
    left_over=st.sampled_from([None, BODY[:503], OTHER[-503:], OTHER, BODY, BODY + b"7"]),
)
def test_a_pull_brings_exactly_what_is_pinned_or_leaves_the_folder_as_it_was(
    home: Path,
    server: Server,
    one_file: config.DatasetConf,
    before: bool,
    left_over: bytes | None,
    **page: Any,
) -> None:
    folder, part = (
        home / "data/raw/farm",
        home / f".scratch/downloads/{hashlib.sha256(BODY).hexdigest()}.part",
    )
    shutil.rmtree(home / "data", ignore_errors=True)
    shutil.rmtree(home / ".scratch", ignore_errors=True)
    if before:
        folder.mkdir(parents=True)
        (folder / "farm.csv").write_bytes(b"an earlier pull")
    if left_over is not None:
        part.parent.mkdir(parents=True)
        part.write_bytes(left_over)
    server.pages = {"/farm.csv": Page(**page)}
    was = snapshot(home / "data")
    try:
        pull.pull(one_file, folder, pause=0)
    except SextantError as error:
        assert "\n" not in str(error) and str(error).startswith("farm: ")
        assert snapshot(home / "data") == was
    else:
        assert (folder / "farm.csv").read_bytes() == BODY
        assert sorted(snapshot(folder)) == ["farm.csv", "source.json"]
        assert not part.exists()


def test_some_data_set_is_listed() -> None:
    assert twins.LISTED


@pytest.mark.slow
@pytest.mark.parametrize("name", twins.LISTED)
def test_two_twins_are_equal_byte_for_byte(
    name: str, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shutil.copytree(ROOT / "conf", home / "conf")
    shutil.copy(ROOT / "params.yaml", home)
    conf = config.dataset(name, ["source=embedded"])
    if conf.chosen_source != "embedded":
        pytest.skip(f"{name} has a source of its own")
    pull.pull(conf, home / "out")
    first = snapshot(home / "out")
    receipt = json.loads(first.pop("source.json"))
    assert first == snapshot(
        twins.raw(name, tmp_path_factory)
    )  # as another process may have made it
    assert receipt["source"] == "embedded"
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in first.items()}
    assert {name: file["sha256"] for name, file in receipt["files"].items()} == digests


# --- canonical --------------------------------------------------------------------------------------------------------


def test_a_download_that_was_cut_off_goes_on_from_there(home: Path, server: Server) -> None:
    server.pages["/farm.csv"] = Page(BODY, drops=[503, 211])
    pull.pull(
        workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]}), home / "out", pause=0
    )
    assert server.asked == [None, "bytes=503-", "bytes=714-"]
    assert json.loads((home / "out/source.json").read_text()) == {
        "source": "canonical",
        "files": {"farm.csv": {"bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}},
    }


def test_patience_is_for_attempts_without_a_further_byte(home: Path, server: Server) -> None:
    server.pages["/farm.csv"] = Page(BODY, drops=[503] * 11)
    pull.pull(
        workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]}), home / "out", pause=0
    )
    assert len(server.asked) == 12


def test_a_server_without_ranges_is_asked_for_the_whole_again(home: Path, server: Server) -> None:
    server.pages["/farm.csv"] = Page(BODY, drops=[503], ranges=False)
    pull.pull(
        workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]}), home / "out", pause=0
    )
    assert (home / "out/farm.csv").read_bytes() == BODY


def test_a_later_run_goes_on_where_a_failed_one_stopped(home: Path, server: Server) -> None:
    conf = workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]})
    server.pages["/farm.csv"] = Page(BODY, drops=[503, 0, 0, 0, 0])
    with pytest.raises(
        SextantError,
        match=r"broke off at 503 of [\d,]+ bytes, 5 attempts in a row; run the same comm",
    ):
        pull.pull(conf, home / "out", pause=0)
    assert not (home / "out").exists()
    server.asked.clear()
    pull.pull(conf, home / "out", pause=0)
    assert server.asked == ["bytes=503-"]


def test_files_that_arrived_before_a_failure_are_not_downloaded_again(
    home: Path, server: Server
) -> None:
    server.pages = {"/1": Page(BODY), "/2": Page(OTHER, statuses=[404])}
    sources = [
        pinned(url=server.url("/1")),
        pinned(OTHER, url=server.url("/2")) | {"file": "more/farm.csv"},
    ]
    conf = workspace(home, {"canonical": sources})
    with pytest.raises(
        SextantError,
        match="404 Not Found; mend the url of `more/farm.csv` in conf/dataset/farm.yaml",
    ):
        pull.pull(conf, home / "out", pause=0)
    server.asked.clear()
    pull.pull(conf, home / "out", pause=0)
    assert len(server.asked) == 1
    assert (home / "out/more/farm.csv").read_bytes() == OTHER


def test_one_content_under_two_names_is_two_files(home: Path, server: Server) -> None:
    server.pages["/farm.csv"] = Page(BODY)
    entry = pinned(url=server.url("/farm.csv"))
    pull.pull(
        workspace(home, {"canonical": [entry, entry | {"file": "twin.csv"}]}), home / "out", pause=0
    )
    assert (home / "out/farm.csv").read_bytes() == (home / "out/twin.csv").read_bytes() == BODY


def zipped(**members: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name.replace("__", "/"), body)
    return whole.getvalue()


def member(name: str, body: bytes, **keys: str) -> dict[str, Any]:
    return pinned(body, **keys) | {"file": f"{Path(name).name}", "member": name}


def test_members_of_one_zip_are_files_and_it_is_downloaded_once(home: Path, server: Server) -> None:
    body = zipped(farm__a=BODY, farm__b=OTHER)
    server.pages["/farm.zip"] = Page(body, drops=[101])
    url = server.url("/farm.zip")
    entries = [member("farm/a", body, url=url), member("farm/b", body, url=url)]
    pull.pull(
        workspace(home, {"canonical": [*entries, pinned(body, url=url)]}), home / "out", pause=0
    )
    assert server.asked == [None, "bytes=101-"]
    files = snapshot(home / "out")
    assert (files["a"], files["b"], files["farm.csv"]) == (BODY, OTHER, body) and len(files) == 4
    assert not list((home / ".scratch/downloads").glob("*.part"))


def test_a_mirror_may_hold_the_zip(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = zipped(farm__a=BODY)
    (home / "mirror").mkdir()
    (home / "mirror/farm.zip").write_bytes(body)
    monkeypatch.setenv("SEXTANT_MIRROR", f"{home}/mirror")
    pull.pull(
        workspace(home, {"mirror": [member("farm/a", body, path="farm.zip")]}, "mirror"),
        home / "out",
    )
    assert (
        sorted(snapshot(home / "out")) == ["a", "source.json"]
        and (home / "out/a").read_bytes() == BODY
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            zipped(farm__b=BODY),
            r"the zip of `a` has no member farm/a; it has farm/b, …; mend `member` in",
        ),
        (BODY, r"`a` cannot be taken out of its zip \(.*not a zip file.*\); mend the source"),
        (
            zipped(farm__a=BODY)[:-40],
            r"`a` cannot be taken out of its zip \(.*not a zip file.*\); mend the source",
        ),
        (zipped(farm__a=BODY).replace(BODY[:1], b"x"), r"`a` cannot be taken out of its zip"),
    ],
    ids=["another member", "no zip", "a truncated zip", "a broken zip"],
)
def test_a_zip_without_its_member_leaves_the_folder_as_it_was(
    body: bytes, message: str, home: Path, server: Server, raw: Path
) -> None:
    server.pages["/farm.zip"] = Page(body)
    conf = workspace(home, {"canonical": [member("farm/a", body, url=server.url("/farm.zip"))]})
    with pytest.raises(DataError, match=message) as refused:
        pull.pull(conf, raw, pause=0)
    assert "\n" not in str(refused.value) and snapshot(raw) == {"farm.csv": b"an earlier pull"}


def test_a_member_cannot_be_named_so_that_it_climbs_out(home: Path) -> None:
    conf = workspace(home, {"canonical": [member("../a", BODY, url="https://example.org/a.zip")]})
    with pytest.raises(UsageError, match="`member` is '../a'; .*does not climb out"):
        pull.check_sources(conf)


def test_a_left_over_of_other_bytes_is_downloaded_whole_once(home: Path, server: Server) -> None:
    server.pages["/farm.csv"] = Page(BODY)
    entry = pinned(url=server.url("/farm.csv"))
    (home / ".scratch/downloads").mkdir(parents=True)
    (home / f".scratch/downloads/{entry['sha256']}.part").write_bytes(b"\0" * 503)
    pull.pull(workspace(home, {"canonical": [entry]}), home / "out", pause=0)
    assert server.asked == ["bytes=503-", None]


def test_redirections_are_followed(home: Path, server: Server) -> None:
    server.pages = {"/old": Page(b"", location="/new"), "/new": Page(BODY)}
    pull.pull(
        workspace(home, {"canonical": [pinned(url=server.url("/old"))]}), home / "out", pause=0
    )
    assert (home / "out/farm.csv").read_bytes() == BODY


def test_a_busy_server_is_asked_again_and_nothing_is_printed(
    home: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.pages["/farm.csv"] = Page(BODY, statuses=[503, 429])
    pull.pull(
        workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]}), home / "out", pause=0
    )
    assert len(server.asked) == 3
    assert capfd.readouterr() == ("", "")


def test_the_pauses_double(home: Path, server: Server) -> None:
    server.pages["/farm.csv"] = Page(BODY, statuses=[503] * 9)
    begin = time.monotonic()
    with pytest.raises(SextantError, match="503 Service Unavailable, 5 attempts in a row"):
        pull.pull(
            workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]}),
            home / "out",
            pause=0.02,
        )
    assert time.monotonic() - begin >= 0.02 * (1 + 2 + 4 + 8)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("after", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 2, 2),
        ("in 40 s", 38, 40),
        (formatdate(0, usegmt=True), 2, 2),
        ("31536000", download.LONGEST, download.LONGEST),
        ("soon", 2, 2),
        ("-7", 2, 2),
        ("", 2, 2),
    ],
)
def test_a_busy_server_says_when_to_come_back(
    after: str,
    least: float,
    most: float,
    status: int,
    home: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not before that, not before the pause of our own, and no later than the longest."""
    waits: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    date = (
        formatdate(time.time() + 40, usegmt=True) if after == "in 40 s" else after
    )  # whole seconds
    server.pages["/farm.csv"] = Page(BODY, statuses=[status], after=date)
    pull.pull(
        workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]}), home / "out", pause=2
    )
    assert len(waits) == 1 and least <= waits[0] <= most


def test_other_schemes_go_through_fsspec(home: Path) -> None:
    (home / "elsewhere.csv").write_bytes(BODY)
    pull.pull(
        workspace(home, {"canonical": [pinned(url=f"file://{home}/elsewhere.csv")]}), home / "out"
    )
    assert (home / "out/farm.csv").read_bytes() == BODY


@pytest.mark.parametrize(
    ("page", "error", "message"),
    [
        (
            None,
            SextantError,
            r"farm: cannot read http://127.*/farm.csv: 404 Not Found; mend the url of `farm.csv`",
        ),
        (Page(BODY, drops=[0] * 9), SextantError, r"broke off at 0 of [\d,]+ bytes, 5 attempts"),
        (
            Page(BODY[:701], length=len(BODY)),
            SextantError,
            r"(broke off at|nothing after) 701 .* 5 attempts",
        ),
        (
            Page(BODY[:701]),
            DataError,
            r"got 701 bytes; expected sha256 [0-9a-f]{12}, [\d,]+ bytes; `make pin DATASET=f",
        ),
        (
            Page(OTHER),
            DataError,
            r"got sha256 [0-9a-f]{12}, [\d,]+ bytes; expected sha256 [0-9a-f]{12}, [\d,]+ bytes; `m",
        ),
        (Page(b""), DataError, "got 0 bytes"),
        (Page(BODY, location="/farm.csv"), SextantError, "Exceeded 30 redirects"),
    ],
    ids=["404", "drops", "length-lies", "truncated", "other-bytes", "empty", "circle"],
)
def test_a_bad_answer_is_one_clear_line_and_the_folder_stays(
    raw: Path, home: Path, server: Server, page: Page | None, error: type[Exception], message: str
) -> None:
    server.pages = {"/farm.csv": page} if page else {}
    conf = workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]})
    with pytest.raises(error, match=message):
        pull.pull(conf, raw, pause=0)
    assert snapshot(home / "data") == {"raw/farm/farm.csv": b"an earlier pull"}
    assert all(path.stat().st_size for path in (home / ".scratch/downloads").glob("*.part"))


def test_nobody_there(home: Path, server: Server) -> None:
    conf = workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]})
    server.shutdown()
    server.server_close()
    with pytest.raises(
        SextantError, match="Connection refused, 5 attempts in a row; run the same command again"
    ):
        pull.pull(conf, home / "out", pause=0)
    conf = workspace(home, {"canonical": [pinned(url="http://nowhere.invalid/farm.csv")]})
    with pytest.raises(
        SextantError,
        match=r"cannot read http://nowhere.invalid/farm.csv: \S.*, 5 attempts in a row",
    ):
        pull.pull(conf, home / "out", pause=0)


# --- canonical, by a list that lies beside the conf -------------------------------------------------------------------

FLOCK = {f"pens/{n % 3}/{n}.csv": BODY[: 503 + n] for n in range(1, 24)} | {
    "pens/0/copy.csv": BODY[:504]
}


def by_list(home: Path, server: Server, change: tuple[str, str] = ("", "")) -> config.DatasetConf:
    """A conf whose list holds FLOCK, with one change after it was pinned; the server has it all."""
    rows = [
        f"{path},{hashlib.sha256(body).hexdigest()},{len(body)}" for path, body in FLOCK.items()
    ]
    text = "\n".join(["path,digest,size", *rows]) + "\n"
    entry = pinned(text.encode(), url=server.url("/farm/{path}"), sizes="size", digests="digest")
    conf = workspace(home, {"canonical": [entry | {"file": "flock.csv"}]})
    (home / "conf/dataset/flock.csv").write_text(text.replace(*change) if change[0] else text)
    server.pages = {f"/farm/{path}": Page(body) for path, body in FLOCK.items()}
    return conf


def test_a_list_brings_each_file_that_it_lists_and_itself(home: Path, server: Server) -> None:
    pull.pull(by_list(home, server), home / "out", pause=0)
    brought = snapshot(home / "out")
    receipt = json.loads(brought.pop("source.json"))["files"]
    assert brought.pop("flock.csv") == (home / "conf/dataset/flock.csv").read_bytes()
    assert brought == FLOCK and len(receipt) == len(FLOCK) + 1
    assert len(server.asked) == len(FLOCK) - 1  # two of one content are asked for once
    assert not list((home / ".scratch/downloads").glob("*.part"))


def test_a_list_is_brought_whole_however_many_of_its_files_need_another_attempt(
    home: Path, server: Server
) -> None:
    conf = by_list(home, server)
    for n, (path, page) in enumerate(
        list(server.pages.items()), start=3
    ):  # the first one's content has its copy
        if n % 4 == 0:
            page.drops = [101, 0]
        elif n % 4 == 1:
            page.statuses = [503, 429]
        elif n % 4 == 2:
            server.pages |= {path: Page(b"", location=f"/moved{path}"), f"/moved{path}": page}
            page.statuses, page.drops = [503], [211]
    pull.pull(conf, home / "out", pause=0)
    brought = snapshot(home / "out")
    assert {path: brought[path] for path in FLOCK} == FLOCK and len(brought) == len(FLOCK) + 2
    assert (
        server.asked.count("bytes=101-") == 2 * 6
    )  # six files were cut off there, and then at once again
    assert (
        server.asked.count("bytes=211-") == 2 * 6
    )  # and six after a redirection, which takes two questions
    assert not list((home / ".scratch/downloads").glob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "message"),
    [
        (
            Page(BODY, drops=[101, 0, 0, 0, 0]),
            "pens/2/17.csv: broke off at 101 of .* 5 attempts in a row; run the same",
        ),
        (
            Page(BODY, statuses=[503] * 5),
            "pens/2/17.csv: 503 Service Unavailable, 5 attempts in a row; run the same",
        ),
        (Page(b"", location="/farm/pens/2/17.csv"), "pens/2/17.csv: Exceeded 30 redirects"),
    ],
    ids=["drops", "busy", "circle"],
)
def test_a_file_of_a_list_that_does_not_come_leaves_nothing_but_what_the_next_run_goes_on_with(
    page: Page, message: str, home: Path, server: Server
) -> None:
    conf = by_list(home, server)
    good, page.body = server.pages["/farm/pens/2/17.csv"], FLOCK["pens/2/17.csv"]
    server.pages["/farm/pens/2/17.csv"] = page
    with pytest.raises(SextantError, match=message) as raised:
        pull.pull(conf, home / "out", pause=0)
    assert "\n" not in str(raised.value) and not (home / "out").exists()
    server.pages["/farm/pens/2/17.csv"] = good
    pull.pull(conf, home / "out", pause=0)
    assert {path: snapshot(home / "out")[path] for path in FLOCK} == FLOCK


def test_what_arrived_of_a_list_is_not_asked_for_again(home: Path, server: Server) -> None:
    conf = by_list(home, server)
    lost = server.pages.pop("/farm/pens/1/22.csv")
    with pytest.raises(SextantError, match="404 Not Found; mend the url of `pens/1/22.csv`"):
        pull.pull(conf, home / "out", pause=0)
    assert not (home / "out").exists()
    there = len(list((home / ".scratch/downloads").glob("*.part")))
    server.asked.clear()
    server.pages["/farm/pens/1/22.csv"] = lost
    pull.pull(conf, home / "out", pause=0)
    assert 0 < len(server.asked) == len(FLOCK) - 1 - there


def test_a_file_of_a_list_with_other_bytes_is_refused(home: Path, server: Server) -> None:
    conf = by_list(home, server)
    server.pages["/farm/pens/2/17.csv"] = Page(OTHER[: 503 + 17])
    with pytest.raises(
        DataError, match=r"/pens/2/17.csv is not the file that .*farm.yaml pins: got sha256"
    ):
        pull.pull(conf, home / "out", pause=0)


def test_a_list_that_is_not_the_pinned_one_is_refused_before_anything_is_asked(
    home: Path, server: Server
) -> None:
    conf = by_list(home, server, ("pens/2/17.csv", "pens/2/18.csv"))
    with pytest.raises(
        DataError, match=r"conf/dataset/flock.csv is not the file that conf/dataset/farm.yaml pins"
    ):
        pull.pull(conf, home / "out", pause=0)
    assert not server.asked
    (change,) = pin.pin(conf)
    assert change.file == "flock.csv" and not pin.pin(config.dataset("farm"))


def test_a_faulty_line_of_a_list_is_named(home: Path, server: Server) -> None:
    conf = by_list(home, server, ("pens/1/1.csv", "../1.csv"))
    pin.pin(conf)
    with pytest.raises(
        UsageError, match=r"flock.csv line 2: `file` is '../1.csv'; .*that does not climb out"
    ):
        pull.pull(config.dataset("farm"), home / "out", pause=0)
    (home / "conf/dataset/flock.csv").unlink()
    with pytest.raises(
        UsageError, match="conf/dataset/flock.csv is not there, but .*farm.yaml names it"
    ):
        pull.pull(config.dataset("farm"), home / "out", pause=0)


# --- mirror -----------------------------------------------------------------------------------------------------------

ENTRY = pinned(path="farm/farm.csv")


@pytest.mark.parametrize("kind", ["folder", "file", "memory", "http", "zip"])
def test_a_mirror_is_any_address(
    kind: str, home: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "mirror/farm").mkdir(parents=True)
    (home / "mirror/farm/farm.csv").write_bytes(BODY)
    server.pages["/all/farm/farm.csv?token=7"] = Page(BODY, drops=[503])
    fsspec.filesystem("memory").pipe("/all/farm/farm.csv", BODY)
    shutil.make_archive(str(home / "all"), "zip", home / "mirror")
    address = {
        "folder": f"{home}/mirror",
        "file": f"file://{home}/mirror/",
        "memory": "memory://all",
        "http": server.url("/all/?token=7"),
        "zip": f"zip://::{home}/all.zip",
    }
    monkeypatch.setenv("SEXTANT_MIRROR", address[kind])
    pull.pull(workspace(home, {"mirror": [ENTRY]}, "mirror"), home / "out", pause=0)
    assert (home / "out/farm.csv").read_bytes() == BODY
    assert json.loads((home / "out/source.json").read_text())["source"] == "mirror"


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        (
            None,
            UsageError,
            "SEXTANT_MIRROR is not set; export SEXTANT_MIRROR=… as an absolute folder or an address",
        ),
        ("", UsageError, "SEXTANT_MIRROR is not set"),
        ("some/folder", UsageError, "SEXTANT_MIRROR is `some/folder`, a relative path; export"),
        ("file://some/folder", UsageError, "a relative path"),
        ("~/folder", UsageError, "a relative path"),
        (
            "/nowhere/at/all",
            SextantError,
            "`/nowhere/at/all`, but no such folder is there; mount it, or export",
        ),
        (
            "memory://void",
            SextantError,
            "memory://void/farm/farm.csv: no such file; check that SEXTANT_MIRROR names the",
        ),
        (
            "strange://x",
            SextantError,
            "cannot read strange://x/farm/farm.csv: Protocol not known: strange",
        ),
    ],
)
def test_a_mirror_that_cannot_be_read(
    address: str | None,
    error: type[Exception],
    message: str,
    raw: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if address is not None:
        monkeypatch.setenv("SEXTANT_MIRROR", address)
    with pytest.raises(error, match=message):
        pull.pull(workspace(home, {"mirror": [ENTRY]}, "mirror"), raw)
    assert snapshot(home / "data") == {"raw/farm/farm.csv": b"an earlier pull"}


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (
            None,
            SextantError,
            "mirror/farm/farm.csv: no such file; check that SEXTANT_MIRROR names the place that holds f",
        ),
        (
            OTHER,
            DataError,
            r"mirror/farm/farm.csv is not the file that conf/dataset/farm.yaml pins: got sha256 [0-9a-f]{12}",
        ),
        (
            BODY[:-1],
            DataError,
            r"`make pin DATASET=farm` if the change is intended, otherwise mend the source",
        ),
    ],
)
def test_a_mirror_with_another_file(
    body: bytes | None,
    error: type[Exception],
    message: str,
    raw: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (home / "mirror/farm").mkdir(parents=True)
    if body is not None:
        (home / "mirror/farm/farm.csv").write_bytes(body)
    monkeypatch.setenv("SEXTANT_MIRROR", f"{home}/mirror")
    with pytest.raises(error, match=message):
        pull.pull(workspace(home, {"mirror": [ENTRY]}, "mirror"), raw)
    assert snapshot(home / "data") == {"raw/farm/farm.csv": b"an earlier pull"}


def test_no_message_shows_a_secret_of_the_address(
    home: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEXTANT_MIRROR", server.url("/all?token=hush").replace("//", "//me:hush@"))
    with pytest.raises(
        SextantError, match=r"cannot read http://127[^?@]*/all/farm/farm.csv: 404"
    ) as raised:
        pull.pull(workspace(home, {"mirror": [ENTRY]}, "mirror"), home / "out", pause=0)
    assert "hush" not in str(raised.value)


# --- the conf ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"byte": 7}, r"farm.yaml sources.mirror\[0\]: unknown key `byte`; did you mean `bytes`\?"),
        ({"bytes": -1}, "`bytes` is -1; input should be greater than or equal to 0"),
        ({"bytes": "7"}, "`bytes` is '7'; input should be a valid integer"),
        ({"sha256": "abc"}, "`sha256` is 'abc'; string should match pattern"),
        (
            {"file": "../farm.csv"},
            "expected a plain relative path, such as folder/file.csv, that does not climb out",
        ),
        ({"file": "a/../../farm.csv"}, "expected a plain relative path"),
        ({"file": "/farm.csv"}, "expected a plain relative path"),
        ({"file": "."}, "expected a plain relative path"),
        ({"file": ""}, "expected a plain relative path"),
        ({"file": "a//b"}, "expected a plain relative path"),
        ({"file": "a\nb"}, "expected a plain relative path"),
        (
            {"file": "source.json"},
            "source.json is where pull writes what it brought; choose another name",
        ),
        ({"path": "../../etc/passwd"}, "expected a plain relative path"),
    ],
)
def test_a_fault_in_an_entry_is_named(change: dict[str, Any], message: str, home: Path) -> None:
    conf = workspace(home, {"mirror": [ENTRY | change]}, "mirror")
    with pytest.raises(UsageError, match=message):
        pull.check_sources(conf)


@pytest.mark.parametrize(
    ("sources", "source", "message"),
    [
        ({"mirror": [ENTRY, ENTRY]}, "mirror", "`farm.csv` is named twice"),
        (
            {"mirror": [ENTRY, ENTRY | {"file": "farm.csv/x"}]},
            "mirror",
            "`farm.csv/x` is named twice, or below another",
        ),
        (
            {"mirror": [ENTRY], "embedded": []},
            "mirror",
            "sources.embedded: unknown key; expected one of: canonical, mirror",
        ),
        (
            {"canonical": [pinned(url="farm/farm.csv")]},
            "canonical",
            "`url` is 'farm/farm.csv'; string should match",
        ),
        (
            {"mirror": [ENTRY]},
            "canonical",
            "no entries under sources.canonical; set `source:` there to one of: mirror",
        ),
        (
            {"mirror": [ENTRY]},
            "embedded",
            "farm.yaml has no twin .*; set `source:` there to one of: mirror",
        ),
        ({}, "mirror", "no entries under sources.mirror; add entries under `sources` there"),
        (
            {"mirror": [{"file": "farm.csv", "path": "farm.csv"}]},
            "mirror",
            "no bytes and sha256 yet .*`make pin DATASET=f",
        ),
        ({"mirror": [ENTRY | {"sha256": None}]}, "mirror", "`make pin DATASET=farm` writes them"),
    ],
)
def test_a_source_that_cannot_be_taken(
    sources: dict[str, Any], source: str, message: str, home: Path
) -> None:
    conf = workspace(home, sources, source)
    with pytest.raises(UsageError, match=message):
        pull.check_sources(conf)
    with pytest.raises(UsageError):
        pull.pull(conf, home / "data/raw/farm")
    assert not (home / "data").exists()


def test_every_conf_here_passes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in config.params().datasets:
        pull.check_sources(config.dataset(name))


# --- full disks, and the command line ---------------------------------------------------------------------------------


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 8 KiB at `folder`; skips the test where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("source", ["canonical", "mirror"])
@pytest.mark.parametrize("limit", ["disk", "file size"])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(
    limit: str, source: str, home: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "mirror/farm").mkdir(parents=True)
    (home / "mirror/farm/farm.csv").write_bytes(BODY)
    server.pages["/farm.csv"] = Page(BODY)
    monkeypatch.setenv("SEXTANT_MIRROR", f"{home}/mirror")
    url = server.url("/farm.csv")
    conf = workspace(home, {"canonical": [pinned(url=url)], "mirror": [ENTRY]}, source)
    assert len(BODY) > 8192
    with small_disk(home / "data") if limit == "disk" else small_files(4099):
        with pytest.raises(OSError) as raised:
            pull.pull(conf, home / "data/raw/farm", pause=0)
        assert raised.value.errno in (errno.ENOSPC, errno.EFBIG)
        assert re.search(
            r"no space left while writing \S+ .*: free some, then run the same",
            errors.one_line(raised.value),
        )
        assert not list((home / "data/raw").iterdir())
    pull.pull(conf, home / "data/raw/farm", pause=0)


def command(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    """The exit code of `python -m sextant pull <argv>`."""
    monkeypatch.setattr(sys, "argv", ["pull", *argv])
    with pytest.raises(SystemExit) as raised:
        errors.run(pull.main)
    assert isinstance(raised.value.code, int)
    return raised.value.code


def test_the_command_writes_to_scratch_by_hand_and_to_data_under_dvc(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "farm").mkdir()
    (home / "farm/farm.csv").write_bytes(BODY)
    monkeypatch.setenv("SEXTANT_MIRROR", str(home))
    workspace(home, {"mirror": [ENTRY]}, "mirror")
    assert command(monkeypatch, "dataset=farm") == 0
    assert (
        capsys.readouterr().out
        == f"farm: 1 file(s), {len(BODY):,} bytes from source mirror in .scratch/raw/farm/\n"
    )
    assert not (home / "data").exists()
    monkeypatch.setenv("DVC_STAGE", "pull@farm")
    assert command(monkeypatch, "dataset=farm") == 0
    assert snapshot(home / "data/raw/farm") == snapshot(home / ".scratch/raw/farm")


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [(OTHER, 12, "is not the file"), (None, 1, "no such file")],
    ids=["other", "missing"],
)
def test_the_command_fails_with_one_line(
    body: bytes | None,
    code: int,
    message: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (home / "farm").mkdir()
    if body:
        (home / "farm/farm.csv").write_bytes(body)
    monkeypatch.setenv("SEXTANT_MIRROR", str(home))
    workspace(home, {"mirror": [ENTRY]}, "mirror")
    assert command(monkeypatch, "dataset=farm") == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err


def test_two_pulls_of_one_data_set_take_turns(
    home: Path, capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    server.pages["/farm.csv"] = Page(BODY)
    conf = workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]})
    other = threading.Thread(target=pull.pull, args=(conf, home / "out"))
    with pull.turn(conf):
        other.start()
        other.join(0.2)
        assert not (home / "out").exists()
    other.join(10)
    assert (home / "out/farm.csv").read_bytes() == BODY
    assert "farm: another process is downloading it; waiting" in capsys.readouterr().err


def test_partial_downloads_lie_under_dvcs_root(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(home / "main"))
    assert pull.downloads() == home / "main/.scratch/downloads"
    assert os.path.isdir(pull.downloads())
