"""The MLflow store: its address, a checked client, and SQL queries to a local database.

Without MLFLOW_TRACKING_URI the store is mlflow.db at the repository's root, with the artifacts in
mlruns/ beside it.
"""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .. import files, paths
from ..errors import SextantError, reason
from ..redaction import redact

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

PATIENCE = 10.0  # seconds to wait for a database that another program has locked
# Limits for the first request to a server, and for those of a training, which can go on without it:
# MLflow's defaults wait four minutes before they report a server that is down. Other requests use
# the defaults, which outlast a restart of the server.
BRIEF = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
# The tag that MLflow's pages show as the description of an experiment, a run or a logged model.
NOTE = "mlflow.note.content"
# The columns of MLflow's database that contain absolute artifact paths.
PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


# --- address ------------------------------------------------------------------------------------


def uri() -> str:
    """MLFLOW_TRACKING_URI, or this clone's SQLite database under MLflow's default name."""
    database = paths.state_root().resolve() / "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}"


def address() -> str:
    """The URI of the store without user and password, for records and messages."""
    return redact(uri())


def database() -> Path | None:
    """The file of a SQLite store; None for a server."""
    scheme = "sqlite:///"
    if not uri().startswith(scheme):
        return None
    return Path(uri().removeprefix(scheme)).absolute()


def home() -> str | None:
    """The folder of a SQLite store as a file:// URI; None for a server.

    It also holds the artifacts.
    """
    path = database()
    return path.parent.as_uri() if path else None


# --- client -------------------------------------------------------------------------------------


def client() -> "MlflowClient":
    """A client of the store, after one request to it.

    Creates a local database that does not exist, and upgrades one that an older MLflow wrote.
    Raises SextantError if the store does not answer, is locked, or was written by a newer MLflow.
    """
    from filelock import FileLock

    path = database()
    if path is None:
        try:
            return _connect(uri())
        except Exception as error:  # MLflow's errors, SQLAlchemy's, a driver that is not installed
            repair = "start the server, or correct MLFLOW_TRACKING_URI"
            raise _no_answer(error, repair) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # creating the database is not atomic
        _check_unlocked(path)
        return _local_client(path)


def _local_client(path: Path) -> "MlflowClient":
    """A client of the database at `path`, which is created or upgraded if necessary."""
    try:
        if not path.exists():
            # A temporary file that is renamed, because a killed process would leave half the
            # tables.
            with files.written_whole(path) as beside:
                _connect(f"sqlite:///{beside}")
        return _connect(uri())
    except Exception as error:
        if "db upgrade" in str(error):  # MLflow's message about a database of another version
            return _upgrade()
        repair = "move it away, then `make register` makes a new one from the outputs"
        raise _no_answer(error, repair) from error


def _connect(address: str) -> "MlflowClient":
    """A client whose store has answered one request, within the limits of BRIEF."""
    from mlflow.tracking import MlflowClient

    with brief_requests():
        mlflow = MlflowClient(tracking_uri=address, registry_uri=address)
        mlflow.search_experiments(max_results=1)
    return mlflow


@contextmanager
def brief_requests() -> Iterator[None]:
    """Let requests to a server end within the limits of BRIEF, unless the environment has others.

    A block that begins in another one leaves the limits to it.
    """
    limits = {name: value for name, value in BRIEF.items() if name not in os.environ}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name in limits:
            del os.environ[name]


def _upgrade() -> "MlflowClient":
    """Upgrade a local database that an older MLflow wrote; raises SextantError for a newer one."""
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", uri()]
    if subprocess.run(command, capture_output=True).returncode:
        raise SextantError(
            f"the MLflow store {address()} was written by another version than the installed"
            f" {installed('mlflow')}; `make setup` installs the one that requirements.lock names,"
            " which upgrades an older store"
        )
    return _connect(uri())


def _no_answer(error: Exception, repair: str) -> SextantError:
    return SextantError(
        f"no answer from the MLflow store {address()} ({reason(error)[:200]}); {repair}"
    )


def raise_unless_absent(error: "MlflowException") -> None:
    """Raise `error` unless it says that an object does not exist.

    A server that fails must not be taken for an empty one.
    """
    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
        raise error


def raise_unless_present(error: "MlflowException") -> None:
    """Raise `error` unless it says that an object exists: another process has just created it."""
    if error.error_code != "RESOURCE_ALREADY_EXISTS":
        raise error


# --- the database of a local store --------------------------------------------------------------


def query(statement: str, *values: str) -> list[tuple[Any, ...]]:
    """The rows of a SQL query to a local database.

    It saves the two seconds that importing MLflow takes.

    Returns no rows if the store is a server, or the database or the table does not exist. Raises
    SextantError if another program has locked the database.
    """
    path = database()
    if path is None or not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
            return connection.execute(statement, values).fetchall()
    except sqlite3.DatabaseError as error:
        # No such table or column: a database of another MLflow, which `client` upgrades or refuses.
        if "no such" in str(error):
            return []
        raise _unusable(path, error) from None


def _check_unlocked(path: Path) -> None:
    """Raise SextantError if another program keeps the database locked for longer than PATIENCE."""
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: sqlite3.DatabaseError) -> SextantError:
    if "not a database" in str(error):
        return SextantError(
            f"{path} is not a database; move it away, then `make register` makes one from the"
            " outputs"
        )
    if "readonly" in str(error):
        return SextantError(
            f"the MLflow database {path} cannot be written to ({error}); change the permissions of"
            " the file and of its folder, or name another store by MLFLOW_TRACKING_URI"
        )
    return SextantError(
        f"the MLflow database {path} cannot be written to ({error}); end the program that has"
        " locked it (`make doctor` shows which), then run the same command again"
    )


# --- a checkout that was moved ------------------------------------------------------------------


def relocate() -> bool:
    """Correct the artifact paths of a local store whose checkout was moved or copied.

    MLflow stores them absolute. Returns whether there was anything to correct.
    """
    path = database()
    moved = False
    while path and (old := moved_from()):
        _check_unlocked(path)
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection, connection:
            for table, column in PATH_COLUMNS:
                connection.execute(
                    # Both names are constants above.
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?)",  # nosec B608
                    (f"{old}/mlruns/", f"{home()}/mlruns/"),
                )
        moved = True
    return moved


def moved_from() -> str | None:
    """The folder in which a local store was written, as a URI; None if it is still its folder."""
    rows = query("SELECT artifact_location FROM experiments WHERE name LIKE 'sextant-%'")
    for (location,) in rows:
        old = str(location).rpartition("/mlruns/")[0]
        if old and old != home():
            return old
    return None


def own_location(location: str) -> str:
    """Where the files of a recorded location lie beside the database, if they do: in a copy."""
    old = moved_from()
    copied = location.replace(f"{old}/mlruns/", f"{home()}/mlruns/") if old else location
    return copied if files_exist(copied) else location


def local_path(location: str) -> Path | None:
    """The path of a location, a path or URI, on this machine; None on another one."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme == "file" else location)


def files_exist(location: str | None) -> bool:
    """Whether a packed model exists at a path or URI; assumed to be true on another machine."""
    path = local_path(location or "")
    return path is None or (path / "MLmodel").is_file()
