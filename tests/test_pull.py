"""pull brings every file as it is pinned, or leaves the folder as it was."""

import errno
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
from email.utils import formatdate
from pathlib import Path
from typing import Any

import fsspec
import pytest
import twins
from conftest import ROOT
from farm import BODY, OTHER, Page, Server, contents, pinned, serving, sha256, workspace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sextant import config, download, errors, plugins, pull
from sextant.commands import pin
from sextant.errors import DataError, SextantError, UsageError

EARLIER = b"an earlier pull"
ENTRY = pinned(path="farm/farm.csv")  # of a mirror


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without a mirror, a proxy and DVC."""
    monkeypatch.chdir(tmp_path)
    for name in ("SEXTANT_MIRROR", "DVC_ROOT", "DVC_STAGE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def farm(home: Path, server: Server) -> config.DatasetConf:
    """The conf of one file at /farm.csv of the server."""
    return workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]})


@pytest.fixture
def raw(home: Path) -> Path:
    """A raw folder with a file of an earlier pull."""
    folder = home / "data/raw/farm"
    folder.mkdir(parents=True)
    (folder / "farm.csv").write_bytes(EARLIER)
    return folder


def mirror_conf(home: Path) -> config.DatasetConf:
    return workspace(home, {"mirror": [ENTRY]}, "mirror")


# --- properties ---------------------------------------------------------------------------------


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.sampled_from([BODY, OTHER, BODY[:701], BODY + b"7", b""]),
    drops=st.lists(st.integers(0, len(BODY)), max_size=7),
    statuses=st.lists(st.sampled_from([404, 429, 500, 503]), max_size=2),
    ranges=st.booleans(),
    tag=st.sampled_from([None, '"1"', 'W/"1"']),
    length=st.sampled_from([None, len(BODY), len(BODY) + 11]),
    pulled_before=st.booleans(),
    partial=st.sampled_from([None, BODY[:503], OTHER[-503:], OTHER, BODY, BODY + b"7"]),
)
def test_a_pull_brings_the_pinned_file_or_leaves_the_folder_as_it_was(
    home: Path,
    server: Server,
    farm: config.DatasetConf,
    pulled_before: bool,
    partial: bytes | None,
    **page: Any,
) -> None:
    folder = home / "data/raw/farm"
    part = home / f".scratch/downloads/{sha256(BODY)}.part"
    shutil.rmtree(home / "data", ignore_errors=True)
    shutil.rmtree(home / ".scratch", ignore_errors=True)
    if pulled_before:
        folder.mkdir(parents=True)
        (folder / "farm.csv").write_bytes(EARLIER)
    if partial is not None:
        part.parent.mkdir(parents=True)
        part.write_bytes(partial)
    server.pages = {"/farm.csv": Page(**page)}
    before = contents(home / "data")
    try:
        pull.pull(farm, folder, pause=0)
    except SextantError as error:
        assert "\n" not in str(error) and str(error).startswith("farm: ")
        assert contents(home / "data") == before
    else:
        assert (folder / "farm.csv").read_bytes() == BODY
        assert sorted(contents(folder)) == ["farm.csv", "source.json"]
        assert not part.exists()


def test_some_data_set_is_listed() -> None:
    assert twins.LISTED


def test_a_twin_that_cannot_be_drawn_is_refused_by_its_conf(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_twin(*arguments: object) -> None:
        raise ValueError("Unable to allocate 7 EiB")

    shutil.copytree(ROOT / "conf", home / "conf")
    shutil.copy(ROOT / "params.yaml", home)
    conf = config.dataset("churn", ["source=embedded"])
    monkeypatch.setattr(plugins.kind("tabular").twin, "write_twin", write_twin)
    message = r"conf/dataset/churn.yaml twin: no data can .* \(Unable to allocate 7 EiB\); correct"
    with pytest.raises(UsageError, match=message):
        pull.pull(conf, home / "out")
    assert not (home / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", twins.LISTED)
def test_a_twin_has_the_same_bytes_in_two_processes(
    name: str, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shutil.copytree(ROOT / "conf", home / "conf")
    shutil.copy(ROOT / "params.yaml", home)
    conf = config.dataset(name, ["source=embedded"], shelf=True)
    if conf.chosen_source != "embedded":
        pytest.skip(f"{name} has a source of its own")
    pull.pull(conf, home / "out")
    pulled = contents(home / "out")
    receipt = json.loads(pulled.pop("source.json"))
    # Another worker of pytest-xdist may have made this one.
    assert pulled == contents(twins.raw(name, tmp_path_factory))
    assert receipt["source"] == "embedded"
    digests = {name: file["sha256"] for name, file in receipt["files"].items()}
    assert digests == {name: sha256(body) for name, body in pulled.items()}


# --- canonical ----------------------------------------------------------------------------------


def test_a_download_that_breaks_off_is_resumed(
    home: Path, server: Server, farm: config.DatasetConf
) -> None:
    server.pages["/farm.csv"] = Page(BODY, drops=[503, 211])
    pull.pull(farm, home / "out", pause=0)
    assert server.requested == [None, "bytes=503-", "bytes=714-"]
    assert json.loads((home / "out/source.json").read_text()) == {
        "source": "canonical",
        "files": {"farm.csv": {"bytes": len(BODY), "sha256": sha256(BODY)}},
    }


def test_only_attempts_without_a_further_byte_count_as_failures(
    home: Path, server: Server, farm: config.DatasetConf
) -> None:
    server.pages["/farm.csv"] = Page(BODY, drops=[503] * 11)
    pull.pull(farm, home / "out", pause=0)
    assert len(server.requested) == 12


def test_without_ranges_the_whole_file_is_requested_again(
    home: Path, server: Server, farm: config.DatasetConf
) -> None:
    server.pages["/farm.csv"] = Page(BODY, drops=[503], ranges=False)
    pull.pull(farm, home / "out", pause=0)
    assert (home / "out/farm.csv").read_bytes() == BODY


def test_files_that_are_there_as_pinned_are_not_downloaded_again(
    home: Path, server: Server, farm: config.DatasetConf
) -> None:
    """DVC runs the stage for every change of the conf, also of the split."""
    server.pages["/farm.csv"] = Page(BODY)
    pull.pull(farm, home / "out", pause=0)
    pull.pull(farm, home / "out", pause=0)
    assert server.requested == [None]
    (home / "out/more.csv").write_text("another file")
    pull.pull(farm, home / "out", pause=0)
    (home / "out/farm.csv").write_bytes(EARLIER)
    pull.pull(farm, home / "out", pause=0)
    (home / "out/source.json").write_text('{"source": "mirror", "files": {}}')
    pull.pull(farm, home / "out", pause=0)
    assert server.requested == [None] * 4
    assert sorted(path.name for path in (home / "out").iterdir()) == ["farm.csv", "source.json"]


def test_a_later_run_resumes_a_failed_one(
    home: Path, server: Server, farm: config.DatasetConf
) -> None:
    server.pages["/farm.csv"] = Page(BODY, drops=[503, 0, 0, 0, 0])
    message = r"broke off at 503 of [\d,]+ bytes, 5 attempts in a row; run the same command again"
    with pytest.raises(SextantError, match=message):
        pull.pull(farm, home / "out", pause=0)
    assert not (home / "out").exists()
    server.requested.clear()
    pull.pull(farm, home / "out", pause=0)
    assert server.requested == ["bytes=503-"]


def test_files_that_arrived_before_a_failure_are_not_downloaded_again(
    home: Path, server: Server
) -> None:
    server.pages = {"/1": Page(BODY), "/2": Page(OTHER, statuses=[404])}
    sources = [
        pinned(url=server.url("/1")),
        pinned(OTHER, url=server.url("/2")) | {"file": "more/farm.csv"},
    ]
    conf = workspace(home, {"canonical": sources})
    message = "404 Not Found; correct the url of `more/farm.csv` in conf/dataset/farm.yaml"
    with pytest.raises(SextantError, match=message):
        pull.pull(conf, home / "out", pause=0)
    server.requested.clear()
    pull.pull(conf, home / "out", pause=0)
    assert len(server.requested) == 1
    assert (home / "out/more/farm.csv").read_bytes() == OTHER


def test_one_content_under_two_names_gives_two_files(home: Path, server: Server) -> None:
    server.pages["/farm.csv"] = Page(BODY)
    entry = pinned(url=server.url("/farm.csv"))
    conf = workspace(home, {"canonical": [entry, entry | {"file": "copy.csv"}]})
    pull.pull(conf, home / "out", pause=0)
    assert (home / "out/farm.csv").read_bytes() == (home / "out/copy.csv").read_bytes() == BODY


def test_a_partial_download_of_another_file_is_replaced(
    home: Path, server: Server, farm: config.DatasetConf
) -> None:
    server.pages["/farm.csv"] = Page(BODY)
    (home / ".scratch/downloads").mkdir(parents=True)
    (home / f".scratch/downloads/{sha256(BODY)}.part").write_bytes(b"\0" * 503)
    pull.pull(farm, home / "out", pause=0)
    assert server.requested == ["bytes=503-", None]


def test_redirections_are_followed(home: Path, server: Server, farm: config.DatasetConf) -> None:
    server.pages = {"/farm.csv": Page(b"", location="/new"), "/new": Page(BODY)}
    pull.pull(farm, home / "out", pause=0)
    assert (home / "out/farm.csv").read_bytes() == BODY


def test_a_busy_server_is_tried_again_and_nothing_is_printed(
    home: Path, server: Server, farm: config.DatasetConf, capfd: pytest.CaptureFixture[str]
) -> None:
    server.pages["/farm.csv"] = Page(BODY, statuses=[503, 429])
    pull.pull(farm, home / "out", pause=0)
    assert len(server.requested) == 3
    assert capfd.readouterr() == ("", "")


def test_the_pauses_double(home: Path, server: Server, farm: config.DatasetConf) -> None:
    server.pages["/farm.csv"] = Page(BODY, statuses=[503] * 9)
    begin = time.monotonic()
    with pytest.raises(SextantError, match="503 Service Unavailable, 5 attempts in a row"):
        pull.pull(farm, home / "out", pause=0.02)
    assert time.monotonic() - begin >= 0.02 * (1 + 2 + 4 + 8)


@pytest.mark.parametrize(
    ("after", "least", "most", "status"),
    [
        ("7", 7, 7, 429),
        ("7", 7, 7, 503),
        ("0", 2, 2, 429),
        ("in 40 s", 38, 40, 503),  # a date, in whole seconds
        (formatdate(0, usegmt=True), 2, 2, 429),
        ("31536000", download.LONGEST, download.LONGEST, 503),
        ("soon", 2, 2, 503),
        ("-7", 2, 2, 503),
        ("", 2, 2, 503),
    ],
)
def test_a_busy_server_may_set_the_pause(
    after: str,
    least: float,
    most: float,
    status: int,
    home: Path,
    server: Server,
    farm: config.DatasetConf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pause is the longer one of the server's and ours, and at most LONGEST."""
    waits: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    if after == "in 40 s":
        after = formatdate(time.time() + 40, usegmt=True)
    server.pages["/farm.csv"] = Page(BODY, statuses=[status], after=after)
    pull.pull(farm, home / "out", pause=2)
    assert len(waits) == 1 and least <= waits[0] <= most


def test_other_schemes_are_read_through_fsspec(home: Path) -> None:
    (home / "elsewhere.csv").write_bytes(BODY)
    conf = workspace(home, {"canonical": [pinned(url=f"file://{home}/elsewhere.csv")]})
    pull.pull(conf, home / "out")
    assert (home / "out/farm.csv").read_bytes() == BODY


@pytest.mark.parametrize(
    ("page", "error", "message"),
    [
        (
            None,
            SextantError,
            r"farm: cannot read http://127.*/farm.csv: 404 Not Found; correct the url of `farm",
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
            r"got sha256 [0-9a-f]{12}, [\d,]+ bytes; expected sha256 [0-9a-f]{12}, [\d,]+ bytes;",
        ),
        (Page(b""), DataError, "got 0 bytes"),
        (Page(BODY, location="/farm.csv"), SextantError, "Exceeded 30 redirects"),
    ],
    ids=["404", "drops", "length-lies", "truncated", "other-bytes", "empty", "circle"],
)
def test_a_bad_answer_is_one_line_and_the_folder_stays(
    raw: Path,
    home: Path,
    server: Server,
    farm: config.DatasetConf,
    page: Page | None,
    error: type[Exception],
    message: str,
) -> None:
    server.pages = {"/farm.csv": page} if page else {}
    with pytest.raises(error, match=message):
        pull.pull(farm, raw, pause=0)
    assert contents(home / "data") == {"raw/farm/farm.csv": EARLIER}
    assert all(path.stat().st_size for path in (home / ".scratch/downloads").glob("*.part"))


def test_a_server_that_cannot_be_reached(
    home: Path, server: Server, farm: config.DatasetConf
) -> None:
    server.shutdown()
    server.server_close()
    message = "Connection refused, 5 attempts in a row; run the same command again"
    with pytest.raises(SextantError, match=message):
        pull.pull(farm, home / "out", pause=0)
    conf = workspace(home, {"canonical": [pinned(url="http://nowhere.invalid/farm.csv")]})
    message = r"cannot read http://nowhere.invalid/farm.csv: \S.*, 5 attempts in a row"
    with pytest.raises(SextantError, match=message):
        pull.pull(conf, home / "out", pause=0)


# --- zips ---------------------------------------------------------------------------------------


def zipped(**members: bytes) -> bytes:
    """A zip of members whose names have `__` in place of `/`."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name.replace("__", "/"), body)
    return whole.getvalue()


def member(name: str, archive: bytes, **keys: str) -> dict[str, Any]:
    """An entry for a member of a zip, named as in the zip without its folder."""
    return pinned(archive, **keys) | {"file": Path(name).name, "member": name}


def test_members_of_one_zip_are_files_and_it_is_downloaded_once(home: Path, server: Server) -> None:
    archive = zipped(farm__a=BODY, farm__b=OTHER)
    server.pages["/farm.zip"] = Page(archive, drops=[101])
    url = server.url("/farm.zip")
    members = [member("farm/a", archive, url=url), member("farm/b", archive, url=url)]
    conf = workspace(home, {"canonical": [*members, pinned(archive, url=url)]})
    pull.pull(conf, home / "out", pause=0)
    assert server.requested == [None, "bytes=101-"]
    files = contents(home / "out")
    assert (files["a"], files["b"], files["farm.csv"]) == (BODY, OTHER, archive)
    assert len(files) == 4
    assert not list((home / ".scratch/downloads").glob("*.part"))


def test_a_mirror_may_hold_the_zip(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(farm__a=BODY)
    (home / "mirror").mkdir()
    (home / "mirror/farm.zip").write_bytes(archive)
    monkeypatch.setenv("SEXTANT_MIRROR", f"{home}/mirror")
    conf = workspace(home, {"mirror": [member("farm/a", archive, path="farm.zip")]}, "mirror")
    pull.pull(conf, home / "out")
    assert sorted(contents(home / "out")) == ["a", "source.json"]
    assert (home / "out/a").read_bytes() == BODY


NOT_A_ZIP = r"`a` cannot be extracted from its zip \(.*not a zip file.*\); correct the source"


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (
            zipped(farm__b=BODY),
            r"the zip of `a` has no member farm/a; it has farm/b, …; correct `member` in",
        ),
        (BODY, NOT_A_ZIP),
        (zipped(farm__a=BODY)[:-40], NOT_A_ZIP),
        (zipped(farm__a=BODY).replace(BODY[:1], b"x"), r"`a` cannot be extracted from its zip"),
    ],
    ids=["another member", "no zip", "a truncated zip", "a broken zip"],
)
def test_a_zip_without_its_member_leaves_the_folder_as_it_was(
    archive: bytes, message: str, home: Path, server: Server, raw: Path
) -> None:
    server.pages["/farm.zip"] = Page(archive)
    entry = member("farm/a", archive, url=server.url("/farm.zip"))
    conf = workspace(home, {"canonical": [entry]})
    with pytest.raises(DataError, match=message) as raised:
        pull.pull(conf, raw, pause=0)
    assert "\n" not in str(raised.value) and contents(raw) == {"farm.csv": EARLIER}


def test_the_name_of_a_member_cannot_lead_out_of_the_folder(home: Path) -> None:
    entry = member("../a", BODY, url="https://example.org/a.zip")
    conf = workspace(home, {"canonical": [entry]})
    with pytest.raises(UsageError, match="`member` is '../a'; expected a plain relative path"):
        pull.check_sources(conf)


# --- canonical, with a list of files in facts/ --------------------------------------------------

FLOCK = {f"pens/{n % 3}/{n}.csv": BODY[: 503 + n] for n in range(1, 24)}
FLOCK["pens/0/copy.csv"] = BODY[:504]  # the same content as the first one


def by_list(home: Path, server: Server, change: tuple[str, str] = ("", "")) -> config.DatasetConf:
    """A conf with a list of all files of FLOCK, which the server has.

    `change` replaces a text in the list after it was pinned.
    """
    rows = [f"{path},{sha256(body)},{len(body)}" for path, body in FLOCK.items()]
    text = "\n".join(["path,digest,size", *rows]) + "\n"
    entry = pinned(text.encode(), url=server.url("/farm/{path}"), sizes="size", digests="digest")
    conf = workspace(home, {"canonical": [entry | {"file": "flock.csv"}]})
    if change[0]:
        text = text.replace(*change)
    (home / "facts/flock.csv").write_text(text)
    server.pages = {f"/farm/{path}": Page(body) for path, body in FLOCK.items()}
    return conf


def flock_in(folder: Path) -> dict[str, bytes]:
    """The files of FLOCK in a folder."""
    return {path: body for path, body in contents(folder).items() if path in FLOCK}


def test_a_list_is_brought_with_every_file_that_it_lists(home: Path, server: Server) -> None:
    pull.pull(by_list(home, server), home / "out", pause=0)
    pulled = contents(home / "out")
    receipt = json.loads(pulled.pop("source.json"))["files"]
    assert pulled.pop("flock.csv") == (home / "facts/flock.csv").read_bytes()
    assert pulled == FLOCK and len(receipt) == len(FLOCK) + 1
    assert len(server.requested) == len(FLOCK) - 1  # two of one content are requested once
    assert not list((home / ".scratch/downloads").glob("*.part"))


def test_a_list_is_complete_however_many_of_its_files_need_another_attempt(
    home: Path, server: Server
) -> None:
    conf = by_list(home, server)
    # Counted from 3, so that the content that is in two files, the first one's, has no fault.
    for n, (path, page) in enumerate(list(server.pages.items()), start=3):
        if n % 4 == 0:
            page.drops = [101, 0]
        elif n % 4 == 1:
            page.statuses = [503, 429]
        elif n % 4 == 2:
            server.pages |= {path: Page(b"", location=f"/moved{path}"), f"/moved{path}": page}
            page.statuses = [503]
            page.drops = [211]
    pull.pull(conf, home / "out", pause=0)
    assert flock_in(home / "out") == FLOCK
    assert len(contents(home / "out")) == len(FLOCK) + 2
    # Six files broke off there, and then again at once.
    assert server.requested.count("bytes=101-") == 2 * 6
    # Six files broke off there after a redirection, which takes two requests.
    assert server.requested.count("bytes=211-") == 2 * 6
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
def test_a_file_of_a_list_that_fails_leaves_only_what_the_next_run_resumes(
    page: Page, message: str, home: Path, server: Server
) -> None:
    conf = by_list(home, server)
    good = server.pages["/farm/pens/2/17.csv"]
    page.body = FLOCK["pens/2/17.csv"]
    server.pages["/farm/pens/2/17.csv"] = page
    with pytest.raises(SextantError, match=message) as raised:
        pull.pull(conf, home / "out", pause=0)
    assert "\n" not in str(raised.value) and not (home / "out").exists()
    server.pages["/farm/pens/2/17.csv"] = good
    pull.pull(conf, home / "out", pause=0)
    assert flock_in(home / "out") == FLOCK


def test_files_of_a_list_that_arrived_are_not_requested_again(home: Path, server: Server) -> None:
    conf = by_list(home, server)
    lost = server.pages.pop("/farm/pens/1/22.csv")
    with pytest.raises(SextantError, match="404 Not Found; correct the url of `pens/1/22.csv`"):
        pull.pull(conf, home / "out", pause=0)
    assert not (home / "out").exists()
    arrived = len(list((home / ".scratch/downloads").glob("*.part")))
    server.requested.clear()
    server.pages["/farm/pens/1/22.csv"] = lost
    pull.pull(conf, home / "out", pause=0)
    assert 0 < len(server.requested) == len(FLOCK) - 1 - arrived


def test_a_file_of_a_list_with_other_bytes_is_refused(home: Path, server: Server) -> None:
    conf = by_list(home, server)
    server.pages["/farm/pens/2/17.csv"] = Page(OTHER[: 503 + 17])
    message = r"/pens/2/17.csv is not the file that .*farm.yaml pins: got sha256"
    with pytest.raises(DataError, match=message):
        pull.pull(conf, home / "out", pause=0)


def test_a_list_that_is_not_the_pinned_one_is_refused_before_any_request(
    home: Path, server: Server
) -> None:
    conf = by_list(home, server, ("pens/2/17.csv", "pens/2/18.csv"))
    message = r"facts/flock.csv is not the file that conf/dataset/farm.yaml pins"
    with pytest.raises(DataError, match=message):
        pull.pull(conf, home / "out", pause=0)
    assert not server.requested
    (change,) = pin.pin(conf)
    assert change.file == "flock.csv" and not pin.pin(config.dataset("farm"))


def test_a_faulty_line_of_a_list_is_named(home: Path, server: Server) -> None:
    conf = by_list(home, server, ("pens/1/1.csv", "../1.csv"))
    pin.pin(conf)
    message = r"flock.csv line 2: `file` is '../1.csv'; expected a plain relative path without `..`"
    with pytest.raises(UsageError, match=message):
        pull.pull(config.dataset("farm"), home / "out", pause=0)


def test_a_list_that_does_not_exist_or_is_in_its_old_place(home: Path, server: Server) -> None:
    conf = by_list(home, server)
    missing = "facts/flock.csv does not exist, but conf/dataset/farm.yaml names it; "
    (home / "facts/flock.csv").rename(home / "conf/dataset/flock.csv")
    with pytest.raises(UsageError, match=f"{missing}move it there: git mv conf/dataset/flock.csv"):
        pull.pull(conf, home / "out", pause=0)
    (home / "conf/dataset/flock.csv").unlink()
    with pytest.raises(UsageError, match=f"{missing}restore it from git"):
        pull.pull(conf, home / "out", pause=0)


# --- mirror -------------------------------------------------------------------------------------


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
    pull.pull(mirror_conf(home), home / "out", pause=0)
    assert (home / "out/farm.csv").read_bytes() == BODY
    assert json.loads((home / "out/source.json").read_text())["source"] == "mirror"


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        (
            None,
            UsageError,
            "SEXTANT_MIRROR is not set; export SEXTANT_MIRROR=… as an absolute folder or an add",
        ),
        ("", UsageError, "SEXTANT_MIRROR is not set"),
        ("some/folder", UsageError, "SEXTANT_MIRROR is `some/folder`, a relative path; export"),
        ("file://some/folder", UsageError, "a relative path"),
        ("~/folder", UsageError, "a relative path"),
        (
            "/nowhere/at/all",
            SextantError,
            "`/nowhere/at/all`, but that folder does not exist; mount it, or export",
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
        pull.pull(mirror_conf(home), raw)
    assert contents(home / "data") == {"raw/farm/farm.csv": EARLIER}


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (
            None,
            SextantError,
            "farm/farm.csv: no such file; check that SEXTANT_MIRROR names the place that has f",
        ),
        (
            OTHER,
            DataError,
            r"farm/farm.csv is not the file that conf/dataset/farm.yaml pins: got sha256 [0-9a-f]",
        ),
        (
            BODY[:-1],
            DataError,
            r"`make pin DATASET=farm` if the change is intended, otherwise correct the source",
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
        pull.pull(mirror_conf(home), raw)
    assert contents(home / "data") == {"raw/farm/farm.csv": EARLIER}


def test_a_message_hides_the_secrets_of_an_address(
    home: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.url("/all?token=hush").replace("//", "//me:hush@")
    monkeypatch.setenv("SEXTANT_MIRROR", address)
    message = r"cannot read http://127[^?@]*/all/farm/farm.csv: 404"
    with pytest.raises(SextantError, match=message) as raised:
        pull.pull(mirror_conf(home), home / "out", pause=0)
    assert "hush" not in str(raised.value)


# --- the conf -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"byte": 7}, r"farm.yaml sources.mirror\[0\]: unknown key `byte`; did you mean `bytes`\?"),
        ({"bytes": -1}, "`bytes` is -1; input should be greater than or equal to 0"),
        ({"bytes": "7"}, "`bytes` is '7'; input should be a valid integer"),
        ({"sha256": "abc"}, "`sha256` is 'abc'; string should match pattern"),
        (
            {"file": "../farm.csv"},
            "expected a plain relative path without `..`, such as folder/file.csv",
        ),
        ({"file": "a/../../farm.csv"}, "expected a plain relative path"),
        ({"file": "/farm.csv"}, "expected a plain relative path"),
        ({"file": "."}, "expected a plain relative path"),
        ({"file": ""}, "expected a plain relative path"),
        ({"file": "a//b"}, "expected a plain relative path"),
        ({"file": "a\nb"}, "expected a plain relative path"),
        ({"file": "source.json"}, "pull writes its receipt to source.json; choose another name"),
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
        ({"mirror": [ENTRY, ENTRY]}, "mirror", "`farm.csv` is listed twice"),
        (
            {"mirror": [ENTRY, ENTRY | {"file": "farm.csv/x"}]},
            "mirror",
            "`farm.csv/x` is listed twice, or is below another",
        ),
        (
            {"mirror": [ENTRY], "embedded": []},
            "mirror",
            "sources.embedded: unknown key; expected one of: local, mirror, canonical",
        ),
        (
            {"canonical": [pinned(url="farm/farm.csv")]},
            "canonical",
            "`url` is 'farm/farm.csv'; string should match",
        ),
        (
            {"mirror": [ENTRY]},
            "canonical",
            "no entries under sources.canonical; set its `source` to one of: mirror",
        ),
        (
            {"mirror": [ENTRY]},
            "embedded",
            "farm.yaml has no twin .*; set its `source` to one of: mirror",
        ),
        ({}, "mirror", "no entries under sources.mirror; add entries under its `sources`"),
        (
            {"mirror": [{"file": "farm.csv", "path": "farm.csv"}]},
            "mirror",
            "no bytes and sha256 yet .*`make pin DATASET=f",
        ),
        ({"mirror": [ENTRY | {"sha256": None}]}, "mirror", "`make pin DATASET=farm` writes them"),
    ],
)
def test_a_source_that_cannot_be_used(
    sources: dict[str, Any], source: str, message: str, home: Path
) -> None:
    conf = workspace(home, sources, source)
    with pytest.raises(UsageError, match=message):
        pull.check_sources(conf)
    with pytest.raises(UsageError):
        pull.pull(conf, home / "data/raw/farm")
    assert not (home / "data").exists()


# --- full disks, and the command line -----------------------------------------------------------


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
    """A file system of 8 KiB at `folder`; skips the test if this user may not mount one."""
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
def test_a_full_disk_is_one_line_and_leaves_no_partial_file(
    limit: str, source: str, home: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "mirror/farm").mkdir(parents=True)
    (home / "mirror/farm/farm.csv").write_bytes(BODY)
    server.pages["/farm.csv"] = Page(BODY)
    monkeypatch.setenv("SEXTANT_MIRROR", f"{home}/mirror")
    sources = {"canonical": [pinned(url=server.url("/farm.csv"))], "mirror": [ENTRY]}
    conf = workspace(home, sources, source)
    assert len(BODY) > 8192
    with small_disk(home / "data") if limit == "disk" else small_files(4099):
        with pytest.raises(OSError) as raised:
            pull.pull(conf, home / "data/raw/farm", pause=0)
        assert raised.value.errno in (errno.ENOSPC, errno.EFBIG)
        line = errors.one_line(raised.value)
        assert re.search(r"no space left while writing \S+ .*: free some, then run the same", line)
        assert not list((home / "data/raw").iterdir())
    pull.pull(conf, home / "data/raw/farm", pause=0)


def exit_code(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    """The exit code of `sextant pull <argv>`."""
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
    mirror_conf(home)
    assert exit_code(monkeypatch, "dataset=farm") == 0
    expected = f"farm: 1 file(s), {len(BODY):,} bytes from source mirror in .scratch/raw/farm/\n"
    assert capsys.readouterr().out == expected
    assert not (home / "data").exists()
    monkeypatch.setenv("DVC_STAGE", "pull@farm")
    assert exit_code(monkeypatch, "dataset=farm") == 0
    assert contents(home / "data/raw/farm") == contents(home / ".scratch/raw/farm")


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
    mirror_conf(home)
    assert exit_code(monkeypatch, "dataset=farm") == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err


def test_two_pulls_of_one_data_set_wait_for_each_other(
    home: Path, capsys: pytest.CaptureFixture[str], server: Server, farm: config.DatasetConf
) -> None:
    server.pages["/farm.csv"] = Page(BODY)
    second = threading.Thread(target=pull.pull, args=(farm, home / "out"))
    with pull.download_lock(farm):
        second.start()
        second.join(0.2)
        assert not (home / "out").exists()
    second.join(10)
    assert (home / "out/farm.csv").read_bytes() == BODY
    assert "farm: another process is downloading it; waiting" in capsys.readouterr().err


def test_partial_downloads_are_below_dvcs_root(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(home / "main"))
    assert pull.downloads() == home / "main/.scratch/downloads"
    assert os.path.isdir(pull.downloads())


# --- files and folders of this machine ----------------------------------------------------------


def local_conf(home: Path, path: str, body: bytes = BODY) -> config.DatasetConf:
    return workspace(home, {"local": [pinned(body, path=path)]}, "local")


@pytest.mark.parametrize("below", [True, False])
def test_a_local_file_is_copied_from_its_path(home: Path, below: bool) -> None:
    (home / "mine").mkdir()
    (home / "mine/farm.csv").write_bytes(BODY)
    path = "mine/farm.csv" if below else str(home / "mine/farm.csv")
    pull.pull(local_conf(home, path), home / "raw")
    assert (home / "raw/farm.csv").read_bytes() == BODY
    assert json.loads((home / "raw/source.json").read_text())["source"] == "local"


def test_a_relative_path_is_below_the_clone_in_an_experiment_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "clone").mkdir()
    (home / "clone/farm.csv").write_bytes(BODY)
    monkeypatch.setenv("DVC_ROOT", str(home / "clone"))
    pull.pull(local_conf(home, "farm.csv"), home / "raw")
    assert (home / "raw/farm.csv").read_bytes() == BODY


def test_a_local_folder_is_copied_without_hidden_files(home: Path) -> None:
    for name in ("a/1.txt", "b/2.txt", ".hidden/3.txt", "a/.DS_Store"):
        (home / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "mine" / name).write_text(name)
    conf = workspace(home, {"local": [{"file": "mine", "path": "mine"}]}, "local")
    changes = pin.look(conf)
    assert changes[0].after.bytes == 14 and changes[0].after.lines is None
    pins = {"bytes": changes[0].after.bytes, "sha256": changes[0].after.sha256}
    entry = {"file": "mine", "path": "mine", **pins}
    conf = workspace(home, {"local": [entry]}, "local")
    pull.pull(conf, home / "raw")
    assert sorted(contents(home / "raw")) == ["mine/a/1.txt", "mine/b/2.txt", "source.json"]
    assert pin.look(conf) == []
    (home / "mine/a/1.txt").write_text("A/1.txt")
    with pytest.raises(DataError, match="is not the file that .* pins"):
        pull.pull(conf, home / "raw")
    assert [change.file for change in pin.look(conf)] == ["mine"]


def test_a_local_file_that_is_missing_or_other_is_refused(home: Path) -> None:
    with pytest.raises(SextantError, match=r"no such file; put the file there, or correct `path`"):
        pull.pull(local_conf(home, "farm.csv"), home / "raw")
    (home / "farm.csv").write_bytes(OTHER)
    with pytest.raises(DataError, match="is not the file that"):
        pull.pull(local_conf(home, "farm.csv"), home / "raw")
    assert not (home / "raw").exists()


@pytest.mark.parametrize("path", ["../farm.csv", "/a/../farm.csv", "a//b.csv", ""])
def test_a_local_path_is_plain(home: Path, path: str) -> None:
    with pytest.raises(UsageError, match="expected an absolute path, or one below the repository"):
        pull.check_sources(local_conf(home, path))
