"""Serve a champion over HTTP: POST rows to /invocations, as MLflow's servers take them."""

import os
import socket
import sys
from pathlib import Path

from .. import config
from ..errors import UsageError, describe
from ..tracking import registry, store
from ..tracking.server import sextant_server

SERVER = Path(sextant_server.__file__)


def checked_port(port: str) -> str:
    """The port, if this machine can listen on it; raises UsageError otherwise."""
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"PORT={port} is not a port; expected a number from 1 to {2**16 - 1}")
    with socket.socket() as probe:
        # As the server does: a port whose last connections are still closing can be used again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError as error:
            raise UsageError(
                f"port {port} is not available ({describe(error).lower()}); choose another: PORT=…"
            ) from None
    return port


def main(argv: list[str]) -> None:
    """`sextant serve model=<name> [port=5001]`: replaces this process by a server.

    `/ping` answers once the server is up.
    """
    options, rest = config.named_options(argv, "model", "port")
    if rest or "model" not in options:
        raise UsageError("expected: make serve MODEL=<model> [PORT=5001]")
    port = checked_port(options.get("port") or "5001")
    champion = registry.champion_of(store.client(), options["model"])
    registry.warn_if_twin(champion)
    print(
        f"{champion.name} version {champion.version} answers at"
        f" http://127.0.0.1:{port}/invocations",
        flush=True,
    )
    os.environ["MLFLOW_TRACKING_URI"] = store.uri()
    os.environ["MLFLOW_REGISTRY_URI"] = store.uri()
    os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"  # MLflow warns when it drops a surplus column
    os.environ[sextant_server.MODEL] = champion.model_uri
    # The packed code must answer; PYTHONPATH and the working directory would put this checkout's
    # first.
    os.environ.pop("PYTHONPATH", None)
    command = [sys.executable, "-P", "-m", "uvicorn", "--factory"]
    command += [f"{SERVER.stem}:{sextant_server.create_app.__name__}"]
    command += ["--app-dir", str(SERVER.parent), "--host", "127.0.0.1", "--port", port]
    command += ["--log-level", "warning"]
    os.execv(sys.executable, command)
