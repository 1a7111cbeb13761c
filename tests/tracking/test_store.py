"""The MLflow store: created whole, waited for when locked, named when it does not answer."""

import http.server
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ROOT, clone_environment, forked_script

from sextant import files
from sextant.errors import SextantError
from sextant.tracking import registry, store

NAME = "sextant-ann-twin"


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("https://user:secret@host:5000/path", "https://host:5000/path"),
        ("postgresql://user:secret@host/db", "postgresql://host/db"),
        ("sqlite:////a/folder@home/team.db", "sqlite:////a/folder@home/team.db"),
    ],
)
def test_the_address_has_no_password(
    uri: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store.address() == address


# --- creating a database ------------------------------------------------------------------------


CREATE = "from sextant.tracking import store; store.client(); print('created')"


@pytest.mark.slow
def test_concurrent_and_killed_processes_leave_a_whole_database(
    tmp_path: Path, process: Callable[..., subprocess.Popen[str]]
) -> None:
    def create() -> subprocess.Popen[str]:
        return process(
            *forked_script(CREATE),
            cwd=tmp_path,
            env=clone_environment() | {"PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    killed = create()
    wait(lambda: is_half_written(tmp_path) or killed.poll() is not None)
    (part,) = tmp_path.glob(".mlflow.db.*.part")
    os.kill(int(part.suffixes[-2].removeprefix(".")), signal.SIGKILL)
    assert killed.communicate()[0] == ""
    assert not (tmp_path / "mlflow.db").exists()
    for concurrent in (create(), create()):
        out, err = concurrent.communicate()
        assert (concurrent.returncode, out) == (0, "created\n"), err
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM experiments").fetchone() == (1,)


def is_half_written(folder: Path) -> bool:
    return any(path.stat().st_size for path in folder.glob(".mlflow.db.*.part"))


def wait(condition: Callable[[], bool], patience: float = 60) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- a database that cannot be used -------------------------------------------------------------


@pytest.fixture
def locked(
    pipeline_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[sqlite3.Connection]:
    """The database of an otherwise empty checkout, which another program has locked."""
    shutil.copy(pipeline_registry, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "PATIENCE", 0.3)
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield other


@pytest.mark.slow
def test_a_locked_database_is_waited_for_and_then_named(locked: sqlite3.Connection) -> None:
    calls: list[Callable[[], object]] = [
        store.client,
        store.moved_from,
        store.relocate,
        lambda: registry.is_judged_here(NAME, "0" * 64),
    ]
    message = r"mlflow.db cannot be written to \(database is locked\); end the program"
    for call in calls:
        with pytest.raises(SextantError, match=message):
            call()
    locked.rollback()
    assert store.moved_from() is not None  # it is a copy of the pipeline's database
    assert store.client()


def test_a_file_that_is_not_a_database_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = b"id,metric\n1,0.5\n" * 200
    Path("mlflow.db").write_bytes(content)
    message = "mlflow.db is not a database; move it away, then `make register` makes one"
    for call in (store.client, store.moved_from):
        with pytest.raises(SextantError, match=message):
            call()
    assert Path("mlflow.db").read_bytes() == content


def test_an_empty_file_is_a_database_without_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite creates such a file before the first table."""
    monkeypatch.chdir(tmp_path)
    Path("mlflow.db").touch()
    assert store.moved_from() is None
    assert not registry.is_judged_here(NAME, "0" * 64)


@pytest.mark.slow
def test_a_database_of_a_newer_mlflow_is_left_unchanged(
    pipeline_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(pipeline_registry, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'of_tomorrow'")
    before = files.sha256(tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    message = "written by another version than the installed 3.*`make setup`"
    with pytest.raises(SextantError, match=message):
        store.client()
    assert files.sha256(tmp_path / "mlflow.db") == before


# --- a server that does not answer --------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause before a request is repeated."""
    monkeypatch.setitem(store.BRIEF, "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")


@pytest.mark.slow
def test_a_server_that_is_not_running_is_named(
    workspace: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(SextantError) as raised:
        store.client()
    assert str(raised.value) == (
        "no answer from the MLflow store http://127.0.0.1:9 (Connection refused);"
        " start the server, or correct MLFLOW_TRACKING_URI"
    )


@pytest.mark.slow
def test_the_first_request_is_sent_three_times(
    workspace: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not eight times, which is MLflow's default and takes four minutes."""
    requested: list[str] = []

    class Busy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_error(503)

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            """Keep requests out of the output of the tests."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(SextantError, match="no answer from the MLflow store"):
            store.client()
        server.shutdown()
    assert len(requested) == 3 and len(set(requested)) == 1
    # Later requests use MLflow's defaults.
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


@pytest.mark.slow  # MLflow is imported
@pytest.mark.parametrize("uri", ["postgresql://u:secret@host/db", "mlruns", "nonsense://x"])
def test_a_store_without_a_driver_is_named(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    message = "no answer from the MLflow store .*; start the server, or correct"
    with pytest.raises(SextantError, match=message) as raised:
        store.client()
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)


# --- a checkout that was moved ------------------------------------------------------------------


def test_the_paths_of_a_moved_checkout_are_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / "before"
    write_database(before / "mlflow.db", location=before / "mlruns" / NAME)
    after = before.rename(tmp_path / "after")
    monkeypatch.chdir(after)
    assert store.moved_from() == before.as_uri()
    assert store.relocate()
    assert store.moved_from() is None and not store.relocate()
    with closing(sqlite3.connect("mlflow.db")) as database:
        for table, column in store.PATH_COLUMNS:
            (location,) = database.execute(f"SELECT {column} FROM {table}").fetchone()
            assert location == (after / "mlruns" / NAME).as_uri()


def test_a_database_that_clones_share_is_not_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = tmp_path / "team"
    write_database(team / "tracking.db", location=team / "mlruns" / NAME)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{team}/tracking.db")
    for clone in ("one", "other"):
        (tmp_path / clone).mkdir()
        monkeypatch.chdir(tmp_path / clone)
        assert store.moved_from() is None and not store.relocate()


def write_database(path: Path, location: Path) -> None:
    """A database with the columns of artifact paths alone, and one row in each of its tables."""
    path.parent.mkdir()
    columns: dict[str, list[str]] = {}
    for table, column in store.PATH_COLUMNS:
        columns.setdefault(table, []).append(column)
    with closing(sqlite3.connect(path)) as database, database:
        for table, named in columns.items():
            database.execute(f"CREATE TABLE {table} (name, {', '.join(named)})")
            values = [NAME] + [location.as_uri()] * len(named)
            marks = ", ".join("?" * len(values))
            database.execute(f"INSERT INTO {table} VALUES ({marks})", values)


@pytest.mark.parametrize(
    ("location", "exist"),
    [
        ("{folder}/packed", True),
        ("file://{folder}/packed", True),
        ("file://{folder}/gone", False),
        ("{folder}/gone", False),
        ("mlflow-artifacts:/1/models/m-1", True),
        ("s3://bucket/model", True),
    ],
)
def test_files_on_another_machine_are_assumed_to_exist(
    location: str, exist: bool, tmp_path: Path
) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/MLmodel").touch()
    assert store.files_exist(location.format(folder=tmp_path)) == exist
