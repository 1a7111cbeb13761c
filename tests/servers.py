"""An MLflow server on this machine that can be stopped and started again."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


class TrackingServer:
    """`mlflow server` on a SQLite database; database, artifacts and log are in `folder`."""

    def __init__(self, folder: Path, process: Callable[..., subprocess.Popen[str]]) -> None:
        self.folder = folder
        self.process = process
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = str(probe.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}"
        self.running: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server"]
        command += ["--host", "127.0.0.1", "--port", self.port, "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/team.db"]
        command += ["--artifacts-destination", str(self.folder / "files")]
        # Otherwise eight more processes start.
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log").open("a") as log:
            self.running = self.process(
                *command, stdout=log, stderr=log, cwd=self.folder, env=environment
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Kill it with all its processes."""
        assert self.running
        os.killpg(self.running.pid, 9)
        self.running.wait()

    def _wait_until_it_answers(self, patience: float = 240) -> None:
        import requests

        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                if requests.get(f"{self.address}/health", timeout=10).ok:
                    return
            except requests.RequestException:
                time.sleep(0.2)
        pytest.fail(f"{self.address} did not answer:\n{(self.folder / 'log').read_text()}")
