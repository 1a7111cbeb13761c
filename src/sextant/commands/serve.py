"""Serve a champion over HTTP, by MLflow's own server: POST rows to /invocations."""

import os
import socket
import sys

from .. import config
from ..errors import UsageError, describe
from ..tracking import registry, store


def free(port: str) -> str:
    """The port, where it is one that can be listened at; raises UsageError."""
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"PORT={port} is no port; expected a number from 1 to {2**16 - 1}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be had ({describe(error).lower()}); name another: PORT=…"
            ) from None
    return port


def main(argv: list[str]) -> None:
    """`sextant serve model=<name> [port=5001]`: becomes `mlflow models serve`; `/ping` says when it is up."""
    asked, rest = config.named_options(argv, "model", "port")
    port = asked.get("port") or "5001"
    if rest or "model" not in asked:
        raise UsageError("expected: make serve MODEL=<model> [PORT=5001]")
    free(port)
    found = registry.champion_of(store.client(), asked["model"])
    registry.say_twin(found)
    print(
        f"{found.name} version {found.version} answers at http://127.0.0.1:{port}/invocations",
        flush=True,
    )
    os.environ["MLFLOW_TRACKING_URI"] = os.environ["MLFLOW_REGISTRY_URI"] = store.uri()
    os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"  # it says when it leaves out a surplus column
    os.environ["PATH"] = os.pathsep.join(
        [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
    )  # its uvicorn
    os.environ.pop("PYTHONPATH", None)  # the packed code answers, not this checkout's
    serve = [
        "models",
        "serve",
        "-m",
        found.model_uri,
        "--env-manager",
        "local",
        "-h",
        "127.0.0.1",
        "-p",
        port,
    ]
    os.execv(sys.executable, [sys.executable, "-P", "-m", "mlflow", *serve])
