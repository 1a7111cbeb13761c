"""Planted secrets: after a whole run on a tracking server and a mirror that both need some, none of
them stands in what was printed, tracked or written.
"""

import functools
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import PLAIN, Clone, copy_clone
from servers import TrackingServer

USER, PASSWORD, TOKEN = "planted-user", "planted@pass/word-1", "planted-token-2"
QUOTED = "planted%40pass%2Fword-1"
KEYS = {
    "AWS_ACCESS_KEY_ID": "PLANTEDKEY3",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+4",
    "AWS_SESSION_TOKEN": "planted-session-5",
}
SECRETS = (USER, PASSWORD, QUOTED, "pass/word-1", "pass%2Fword-1", TOKEN, *KEYS.values())
DATASET, MODEL = "churn", "ann"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: its lines have the query, as those of any server."""


@contextmanager
def mirror(folder: Path) -> Iterator[str]:
    """The address of a server of the files in a folder, with a token."""
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/?token={TOKEN}"
        server.shutdown()


def leaks(text: bytes, place: object) -> list[str]:
    return [f"{place} has {secret}" for secret in SECRETS if secret.encode() in text]


def leaks_below(folder: Path) -> list[str]:
    """The files below a folder that have a secret; those of git, .venv and the tests are others."""
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not {".git", ".venv", "tests"} & set(parts):
            found += leaks(path.read_bytes(), path.relative_to(folder))
        found += leaks(str(parts).encode(), path)
    return found


@pytest.mark.slow(minutes=1)
def test_no_planted_secret_is_printed_tracked_or_written(
    pipeline: Clone, tracking_server: TrackingServer, tmp_path: Path
) -> None:
    clone = copy_clone(pipeline, tmp_path / "clone")
    (tmp_path / "files").mkdir()
    shutil.copytree(clone.path / "data/raw" / DATASET, tmp_path / "files" / DATASET)
    clone.set("params.yaml", source="mirror")
    printed = ""

    def run(code: int, *arguments: str) -> None:
        nonlocal printed
        done = clone.run(sys.executable, "-m", "sextant", *arguments, code=None, **PLAIN, **secrets)
        printed += done.stdout + done.stderr
        assert done.returncode == code, printed

    with mirror(tmp_path / "files") as address:
        server = tracking_server.address.replace("://", f"://{USER}:{QUOTED}@")
        secrets = {
            **KEYS,
            "MLFLOW_TRACKING_URI": server,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "SEXTANT_MIRROR": address,
            "SEXTANT_DEBUG": "1",
        }
        run(0, "pin", f"dataset={DATASET}")
        run(0, "repro", "--whole", "jobs=1")
        run(0, "doctor")
        run(0, "ui")
        run(0, "leaderboard")
        shutil.rmtree(tmp_path / "files" / DATASET)
        run(1, "pin", f"dataset={DATASET}")
    run(1, "pin", f"dataset={DATASET}")  # the mirror is gone
    tracking_server.stop()
    run(1, "register", "--write")
    run(1, "predict", f"model={MODEL}", "input=params.yaml")
    run(1, "doctor")
    assert f"sextant-{MODEL}" in printed
    assert not leaks(printed.encode(), "what was printed")
    assert not leaks_below(clone.path)
    assert not leaks_below(tracking_server.folder)
    runs = tracking_server.folder / "team.db"
    assert b"sextant-ann" in runs.read_bytes()
