"""The MLflow store: where it lies, whether it answers, and what a local one holds."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, nullcontext
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .. import files, paths
from ..errors import SextantError, reason, redact

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PATIENCE = 10.0  # seconds to wait for a database that another program holds
# How long the first question waits for a server. Later ones keep MLflow's minutes, which outlast a server's restart.
PROBE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
NOTE = "mlflow.note.content"  # the tag that MLflow's pages show as the description of an experiment or a run


# --- the store --------------------------------------------------------------------------------------------------------


def root() -> Path:
    """Where this clone's database and artifacts lie."""
    return paths.state_root().resolve()


def uri() -> str:
    """MLFLOW_TRACKING_URI, or this clone's own SQLite database under MLflow's default name."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root() / 'mlflow.db'}"


def address() -> str:
    """The store as records and messages may show it: without user and password."""
    return redact(uri())


def client() -> "MlflowClient":
    """A client of a store that is there, of this version, and not locked; raises SextantError otherwise."""
    from filelock import FileLock

    path = database()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(f"{path}.lock") if path else nullcontext()
    ):  # two first touches at once break a database for good
        _check_unlocked()
        try:
            if path and not path.exists():
                with files.written_whole(path) as beside:  # so does one that is killed
                    _answering(f"sqlite:///{beside}")
            return _answering(uri())
        except Exception as error:  # MLflow's own, SQLAlchemy's, a driver that is not installed
            if path and "db upgrade" in str(error):
                return _upgraded()
            repair = (
                "move it away, then `make register` makes a new one from the outputs"
                if path
                else "start the server, or correct MLFLOW_TRACKING_URI"
            )
            raise SextantError(
                f"no answer from the MLflow store {address()} ({reason(error)[:200]}); {repair}"
            ) from error


def _answering(address: str) -> "MlflowClient":
    """A client whose store has answered one question."""
    from mlflow.tracking import MlflowClient

    brief = {key: value for key, value in PROBE.items() if key not in os.environ}
    os.environ.update(brief)
    try:
        found = MlflowClient(tracking_uri=address, registry_uri=address)
        found.search_experiments(max_results=1)
    finally:
        for key in brief:
            del os.environ[key]
    return found


def _upgraded() -> "MlflowClient":
    """A client of a local store that an older MLflow had written."""
    words = [sys.executable, "-m", "mlflow", "db", "upgrade", uri()]
    if subprocess.run(words, capture_output=True).returncode:
        raise SextantError(
            f"the MLflow store {address()} was written by another version than the installed {installed('mlflow')};"
            " `make setup` installs the one that constraints.txt names, which upgrades an older store"
        )
    return _answering(uri())


def database() -> Path | None:
    """The file of a SQLite store, or None for a server."""
    return (
        Path(uri().removeprefix("sqlite:///")).absolute()
        if uri().startswith("sqlite:///")
        else None
    )


def _check_unlocked(patience: float = PATIENCE) -> None:
    path = database()
    if path is None or not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path, timeout=patience)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: sqlite3.DatabaseError) -> SextantError:
    if "not a database" in str(error):
        return SextantError(
            f"{path} is no database; move it away, then `make register` makes one from the outputs"
        )
    return SextantError(
        f"the MLflow database {path} cannot be written to ({error}); end the program that holds it"
        " (`make doctor` looks), then run the same command again"
    )


def query(question: str, *values: str) -> list[tuple[Any, ...]]:
    """The answer of a local store in SQL, since the client's import alone costs two seconds; none where it is not there
    or not filled yet. Raises SextantError where another program holds it."""
    path = database()
    if path is None or not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
            return connection.execute(question, values).fetchall()
    except sqlite3.DatabaseError as error:
        if "no such" in str(error):  # table or column: of another MLflow, which `client` sees to
            return []
        raise _unusable(path, error) from None


def relocate() -> bool:
    """Mend a local store whose checkout has moved: MLflow stores artifact paths absolute. True where it had."""
    path, new, moved = database(), home(), False
    while path and new and (old := moved_from()):
        _check_unlocked()
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection, connection:
            for table, column in (
                ("experiments", "artifact_location"),
                ("runs", "artifact_uri"),
                ("logged_models", "artifact_location"),
                ("model_versions", "storage_location"),
                ("model_versions", "source"),
            ):
                connection.execute(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                    (f"{old}/mlruns/", f"{new}/mlruns/"),
                )
        moved = True
    return moved


def moved_from() -> str | None:
    """The address of the checkout that a local store was written in, where that is not this one any more."""
    for (place,) in query("SELECT artifact_location FROM experiments WHERE name LIKE 'sextant-%'"):
        old = str(place).rpartition("/mlruns/")[0]
        if old and old != home():
            return old
    return None


def home() -> str | None:
    """The address of the folder of a local store, where its artifacts lie too; None for a server."""
    path = database()
    return path.parent.as_uri() if path else None


def raise_unless_absent(error: Any) -> None:
    """Raise `error` unless it says that a thing is not there: a server that stumbles must not pass for an empty one."""
    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
        raise error


def files_exist(place: str | None) -> bool:
    """Whether there are files at an address; what lies on another machine is taken to be there."""
    parts = urlsplit(place or "")
    path = unquote(parts.path) if parts.scheme == "file" else place or ""
    return parts.scheme not in ("", "file") or Path(path, "MLmodel").is_file()
