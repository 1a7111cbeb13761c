"""pin writes what the source has now into the conf and changes nothing else in it."""

from collections.abc import Iterator
from pathlib import Path

import cases
import pytest
import yaml
from farm import BODY, OTHER, Page, Server, pinned, serving, sha256, workspace
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant import config, pull
from sextant.commands import pin
from sextant.commands.pin import Change, State
from sextant.errors import SextantError, UsageError

CONF = Path("conf/dataset/farm.yaml")
GROWN = BODY + b"997,sheep,0\r\n"
TEXT = """\
# A farm, "one" row an animal.   (two spaces,  and a tab\t)
about: null
source: mirror        # ours
sources:
    mirror:
    - file: farm.csv   # the animals
      path: 'farm/farm.csv'
      bytes: {bytes}    # grows
      sha256: "{sha256}"

    canonical:
      - {{file: farm.csv, url: "https://example.org/farm.csv",
         bytes: {bytes}, sha256: {sha256}}}
columns: {{names: [number, animal, age], delimiter: ",", unknown: null, key: null, target: animal,
          ignored: [], numeric: [number, age], categorical: []}}
split: {{by: hash, salt: 0, shares: {{train: 0.6, val: 0.1, gate: 0.1, test: 0.2}}}}
twin: ~
"""


def with_pins(text: str, body: bytes) -> str:
    return text.format(bytes=len(body), sha256=sha256(body))


def change(before: State, body: bytes, source: str = "mirror", file: str = "farm.csv") -> Change:
    return Change("farm", source, file, before, State(len(body), sha256(body), body.count(b"\n")))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with BODY in a mirror and TEXT, which pins it, as the conf."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("SEXTANT_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror/farm").mkdir(parents=True)
    (tmp_path / "mirror/farm/farm.csv").write_bytes(BODY)
    workspace(tmp_path, {}, "mirror")
    CONF.write_text(with_pins(TEXT, BODY))
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


# --- properties ---------------------------------------------------------------------------------


@settings(max_examples=11, deadline=None)
@given(
    st.lists(st.binary(max_size=47), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
def test_only_the_pins_of_the_text_change(bodies: list[bytes], quoted: bool, end: str) -> None:
    quote = "'" if quoted else ""
    text = TEXT.replace('"{sha256}"', f"{quote}{{sha256}}{quote}").replace("\n", end)
    old = BODY
    result = with_pins(text, old)
    for body in bodies:
        before = State(len(old), sha256(old), None)
        for source in ("mirror", "canonical"):
            result = pin.repinned(result, [change(before, body, source)], CONF)
        assert result == with_pins(text, body)
        old = body


@given(body=st.binary(max_size=97), end=st.sampled_from([b"", b"\r\n", b"\n"]))
def test_lines_are_counted_as_by_split(
    body: bytes, end: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "some.txt"
    path.write_bytes(body + end)
    whole = body + end
    expected: int | None = len(whole.removesuffix(b"\n").split(b"\n"))
    if not whole:
        expected = 0
    if b"\0" in whole:
        expected = None
    assert pin.lines(path) == expected


def test_after_a_pin_the_source_can_be_pulled_and_nothing_is_new(home: Path) -> None:
    for body in (OTHER, GROWN, b"", BODY):
        (home / "mirror/farm/farm.csv").write_bytes(body)
        changes = pin.pin(config.dataset("farm"))
        assert [(c.after.bytes, c.after.sha256) for c in changes] == [(len(body), sha256(body))]
        pull.pull(config.dataset("farm"), home / "data/raw/farm")
        assert (home / "data/raw/farm/farm.csv").read_bytes() == body
        assert pin.pin(config.dataset("farm")) == []


# --- examples -----------------------------------------------------------------------------------


def test_without_a_change_the_conf_is_not_written(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = CONF.stat()
    pin.main(["dataset=farm"])
    assert capsys.readouterr().out == "farm: nothing new at source mirror\n"
    assert (CONF.stat().st_ino, CONF.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert CONF.read_text() == with_pins(TEXT, BODY)


def test_a_change_is_printed_and_only_its_source_is_pinned(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pull.pull(config.dataset("farm"), home / "data/raw/farm")
    (home / "mirror/farm/farm.csv").write_bytes(GROWN)
    pin.main(["dataset=farm"])
    assert capsys.readouterr().out == (
        f"farm.csv: bytes {len(BODY):,} -> {len(GROWN):,},"
        f" sha256 {sha256(BODY)[:12]} -> {sha256(GROWN)[:12]}, lines 997 -> 998 (+1)\n"
        "farm: source mirror pinned in conf/dataset/farm.yaml; next: make repro\n"
    )
    canonical = TEXT.index("    canonical:")
    assert CONF.read_text() == with_pins(TEXT[:canonical], GROWN) + with_pins(
        TEXT[canonical:], BODY
    )
    assert not list((home / ".scratch/downloads").iterdir())


def test_lines_are_compared_only_with_the_pinned_file(home: Path) -> None:
    (home / "data/raw/farm").mkdir(parents=True)
    (home / "data/raw/farm/farm.csv").write_bytes(b"the twin of another day\n")
    (home / "mirror/farm/farm.csv").write_bytes(GROWN)
    (changed,) = pin.look(config.dataset("farm"))
    assert (changed.before.lines, changed.after.lines) == (None, 998)
    assert str(changed).endswith(", lines 998")


@cases.each(
    ("entry", "expected"),
    [
        (
            "mirror:\n    - file: farm.csv   # ours\n      path: farm/farm.csv  # there\nsplit:",
            "mirror:\n    - file: farm.csv   # ours\n      path: farm/farm.csv  # there\n"
            "      bytes: {bytes}\n      sha256: {sha256}\nsplit:",
        ),
        (
            "mirror: [{{file: farm.csv}}]",
            "mirror: [{{file: farm.csv, bytes: {bytes}, sha256: {sha256}}}]",
        ),
        (
            "mirror:\n  - bytes:     # soon\n    sha256: null\n    file: farm.csv",
            "mirror:\n  - bytes: {bytes}     # soon\n    sha256: {sha256}\n    file: farm.csv",
        ),
        (
            "mirror:\r\n  - file: farm.csv\r\n    sha256:\r\n",
            "mirror:\r\n  - file: farm.csv\r\n    sha256: {sha256}\r\n    bytes: {bytes}\r\n",
        ),
        (
            "mirror:\n  - file: farm.csv",
            "mirror:\n  - file: farm.csv\n    bytes: {bytes}\n    sha256: {sha256}",
        ),
    ],
    ids=["block", "flow", "null", "crlf", "no-line-end"],
)
def test_a_first_pin_adds_the_keys(entry: str, expected: str) -> None:
    text = "# my own\nsources:\n  " + entry.replace("{{", "{").replace("}}", "}")
    result = pin.repinned(text, [change(State(None, None, None), BODY)], CONF)
    assert result == "# my own\nsources:\n  " + with_pins(expected, BODY)


def test_a_new_data_set_is_pinned_and_then_pulled(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace(home, {"mirror": [{"file": "farm.csv", "path": "farm/farm.csv"}]}, "mirror")
    with pytest.raises(UsageError, match="`make pin DATASET=farm` writes them"):
        pull.pull(config.dataset("farm"), home / "data/raw/farm")
    pin.main(["dataset=farm"])
    expected = f"farm.csv: bytes not pinned -> {len(BODY):,}, sha256 not pinned -> "
    assert expected in capsys.readouterr().out
    pull.pull(config.dataset("farm"), home / "data/raw/farm")


def test_each_of_several_files_is_compared_with_its_pin(home: Path) -> None:
    listed = [{"file": name, "path": f"farm/{name}"} for name in ("a.csv", "b.bin", "c/d.csv")]
    for n, entry in enumerate(listed):
        path = home / "mirror" / entry["path"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0" * n + b"%d\n" % n)
    workspace(home, {"mirror": listed}, "mirror")
    assert [c.file for c in pin.pin(config.dataset("farm"))] == ["a.csv", "b.bin", "c/d.csv"]
    (home / "mirror/farm/b.bin").write_bytes(b"\0other")
    (changed,) = pin.pin(config.dataset("farm"))
    assert (changed.file, changed.before.bytes) == ("b.bin", 3)
    assert changed.after == State(6, sha256(b"\0other"), None)
    assert pin.pin(config.dataset("farm")) == []


def test_what_was_downloaded_for_the_pin_is_not_downloaded_again(
    home: Path, server: Server
) -> None:
    server.pages["/farm.csv"] = Page(GROWN, drops=[503, 211])
    conf = workspace(home, {"canonical": [pinned(url=server.url("/farm.csv"))]})
    assert [c.after for c in pin.pin(conf, pause=0)] == [State(len(GROWN), sha256(GROWN), 998)]
    assert server.requested == [None, "bytes=503-", "bytes=714-"]
    server.requested.clear()
    pull.pull(config.dataset("farm"), home / "data/raw/farm", pause=0)
    assert server.requested == []
    assert (home / "data/raw/farm/farm.csv").read_bytes() == GROWN


def test_a_zip_with_several_members_is_downloaded_once_and_pinned_for_each(
    home: Path, server: Server
) -> None:
    server.pages["/farm.zip"] = Page(GROWN)
    entry = pinned(url=server.url("/farm.zip"))
    members = [entry | {"file": name, "member": f"farm/{name}"} for name in ("a", "b")]
    conf = workspace(home, {"canonical": members})
    changes = [(c.file, c.after.sha256) for c in pin.pin(conf, pause=0)]
    assert changes == [("a", sha256(GROWN)), ("b", sha256(GROWN))]
    assert server.requested == [None]
    entries = config.dataset("farm").sources["canonical"]
    assert [entry["bytes"] for entry in entries] == [len(GROWN)] * 2


@pytest.mark.parametrize(
    ("tag", "heeds"), [(None, True), ('"1"', True), ('"1"', False), ('W/"1"', True)]
)
def test_a_file_that_changes_while_it_is_pinned_is_never_a_mixture(
    tag: str | None, heeds: bool, home: Path, server: Server
) -> None:
    later = Page(OTHER, tag=tag and tag.replace("1", "2"), heeds=heeds)
    server.pages["/farm.csv"] = Page(BODY, drops=[503], tag=tag, then=later)
    conf = workspace(home, {"canonical": [{"file": "farm.csv", "url": server.url("/farm.csv")}]})
    assert [c.after.sha256 for c in pin.pin(conf, pause=0)] == [sha256(OTHER)]
    assert len(server.requested) == (2 if heeds else 3)


# --- refusals -----------------------------------------------------------------------------------


def test_a_twin_cannot_be_pinned(home: Path) -> None:
    conf = workspace(home, {}, "embedded")
    message = "nothing to pin; set `source: local`, `mirror` or `canonical` in params.yaml or in"
    with pytest.raises(UsageError, match=message):
        pin.pin(conf)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("mirror", "that folder does not exist"),
        ("mirror/farm/farm.csv", "no such file; check"),
    ],
)
def test_a_source_that_cannot_be_read_pins_nothing(path: str, message: str, home: Path) -> None:
    (home / path).rename(home / "elsewhere")
    with pytest.raises(SextantError, match=message):
        pin.pin(config.dataset("farm"))
    assert CONF.read_text() == with_pins(TEXT, BODY)


def test_if_one_of_two_files_is_missing_neither_is_pinned(home: Path) -> None:
    entries = [
        {"file": "farm.csv", "path": "farm/farm.csv"},
        {"file": "more.csv", "path": "farm/more.csv"},
    ]
    conf = workspace(home, {"mirror": entries}, "mirror")
    before = CONF.read_bytes()
    with pytest.raises(SextantError, match="farm/more.csv: no such file"):
        pin.pin(conf)
    assert CONF.read_bytes() == before


def test_a_shared_anchor_has_to_be_edited_by_hand() -> None:
    text = (
        "sources:\n  mirror:\n  - {file: farm.csv, path: farm.csv, bytes: &n 7, sha256: &d abc}\n"
        "  canonical:\n  - {file: farm.csv, url: 'x://y', bytes: *n, sha256: *d}\n"
    )
    assert yaml.safe_load(text)["sources"]["canonical"][0]["bytes"] == 7
    message = f"write them by hand: farm.csv: bytes: {len(BODY)}, sha256: {sha256(BODY)}"
    with pytest.raises(UsageError, match=message):
        pin.repinned(text, [change(State(7, "abc", None), BODY)], CONF)


def test_an_entry_of_the_command_line_cannot_be_pinned(home: Path) -> None:
    other = change(State(None, None, None), BODY, file="other.csv")
    message = "conf/dataset/farm.yaml: sources.mirror has no `other.csv`; add it to that file"
    with pytest.raises(UsageError, match=message):
        pin.repinned(with_pins(TEXT, BODY), [other], CONF)
