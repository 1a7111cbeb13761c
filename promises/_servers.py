"""An MLflow server for trials, and a way to it that can be closed, slowed or made to fail."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from sextant.errors import SextantError

PATIENCE = 400.0  # seconds until a server answers, on a busy machine
HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "content-encoding", "host"}


class TrackingServer:
    """`mlflow server`; its database, if it has no other, artifacts and log are in `folder`."""

    def __init__(self, folder: Path, store: str = "", python_path: str = "") -> None:
        self.folder = folder
        self.store = store or f"sqlite:///{folder}/team.db"
        self.python_path = python_path
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1", "--backend-store-uri", self.store]
        command += ["--artifacts-destination", str(self.folder / "files")]
        # Otherwise eight more processes start.
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment["PYTHONPATH"] = self.python_path
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=environment,
                start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if requests.get(f"{self.address}/health", timeout=10).ok:
                    return
            except requests.RequestException:
                time.sleep(0.2)
            if self.process.poll() is not None:
                break
        end_of_log = (self.folder / "log").read_text(encoding="utf-8")[-500:]
        raise SextantError(f"the MLflow server did not start: {end_of_log}")

    def stop(self) -> None:
        """Kill it with all its processes."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Way(ThreadingHTTPServer):
    """Hands requests on to a server, or does not.

    While `status` is set, each answer is that; while it is 0, the connection breaks off. Else the
    next answer comes `seconds` late.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.status: int | None = None
        self.seconds = 0.0
        self.requests = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing where a client went away."""


class _Handler(BaseHTTPRequestHandler):
    server: Way
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.session = requests.Session()

    def finish(self) -> None:
        self.session.close()
        super().finish()

    def _body(self) -> bytes:
        """The body of the request, of a length that its head or each chunk gives."""
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _hand_on(self) -> None:
        way = self.server
        way.requests += 1
        body = self._body()
        if way.seconds:
            seconds = way.seconds
            way.seconds = 0.0
            time.sleep(seconds)
        if way.status == 0:
            self.close_connection = True
            return
        if way.status:
            self._answer(way.status, {}, b"")
            return
        headers = {}
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP:
                headers[name] = value
        try:
            answer = self.session.request(
                self.command, way.target + self.path, headers=headers, data=body, timeout=300
            )
        except requests.RequestException:
            self.close_connection = True
            return
        self._answer(answer.status_code, dict(answer.headers), answer.content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _hand_on

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def way_to(target: str) -> Iterator[Way]:
    with Way(target) as way:
        threading.Thread(target=way.serve_forever, daemon=True).start()
        yield way
        way.shutdown()
