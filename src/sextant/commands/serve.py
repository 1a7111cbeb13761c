"""Serve a champion over HTTP with MLflow's server: POST rows to /invocations."""

import os
import socket
import sys
from pathlib import Path

from .. import config
from ..errors import UsageError, describe
from ..tracking import registry, store


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
    """`sextant serve model=<name> [port=5001]`: replaces this process by `mlflow models serve`.

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
    # MLflow starts `uvicorn` from PATH, which may lack the environment's folder.
    folder = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])
    # The packed code must answer; PYTHONPATH and the working directory would put this checkout's
    # first.
    os.environ.pop("PYTHONPATH", None)
    command = [sys.executable, "-P", "-m", "mlflow", "models", "serve"]
    command += ["--model-uri", champion.model_uri, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", port]
    os.execv(sys.executable, command)
