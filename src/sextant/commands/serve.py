"""Serve a champion over HTTP: POST rows to /invocations, as MLflow's servers take them."""

import json
import os
import signal
import socket
import tempfile
from pathlib import Path

from .. import config, plugins
from ..errors import SextantError, UsageError, describe
from ..tracking import registry, store

USAGE = (
    "expected: make serve MODEL=<model> [HOST=0.0.0.0,name] [PORT=5001] [WORKERS=2] [LOG=folder]"
)
MOST_WORKERS = 64
SECONDS_TO_KEEP = 75  # an idle connection; longer than the minute of most proxies
# After which a worker that does not answer is replaced: to import torch may take long.
SECONDS_TO_ANSWER = 60


def checked_port(port: str, host: str = "127.0.0.1") -> str:
    """The port, if this machine can listen on it; raises UsageError otherwise."""
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"PORT={port} is not a port; expected a number from 1 to {2**16 - 1}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"HOST={host} is no address of this machine ({describe(error).lower()}); expected"
            " 127.0.0.1, or 0.0.0.0 for all of its addresses"
        ) from None
    with socket.socket(family, kind, protocol) as probe:
        # As the server does: a port whose last connections are still closing can be used again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise UsageError(
                f"port {port} is not available ({describe(error).lower()}); choose another: PORT=…"
            ) from None
    return port


def checked_workers(workers: str) -> int:
    """The number of processes that answer; raises UsageError."""
    if not workers.isdecimal() or not 0 < int(workers) <= MOST_WORKERS:
        raise UsageError(f"WORKERS={workers}: expected a number from 1 to {MOST_WORKERS}")
    return int(workers)


def checked_log(folder: str) -> str:
    """The folder of the log, absolute; raises UsageError if it cannot be one."""
    if not folder:
        return ""
    path = Path(folder).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"LOG={folder} cannot be a folder of logs ({describe(error).lower()}); name a folder"
        ) from None
    if not os.access(path, os.W_OK):
        raise UsageError(f"LOG={folder} cannot be written to; name another folder")
    return str(path)


def personal_columns(champion: registry.Version) -> list[str]:
    """The columns that the conf marks as personal today; a champion may be older than the mark."""
    try:
        columns = config.dataset(champion.tags["dataset"], shelf=True).columns
    except (KeyError, SextantError):  # the data set is not listed any more
        return []
    personal: list[str] = plugins.optional(columns, "personal", [])
    return personal


def main(argv: list[str]) -> None:
    """`sextant serve model=<name> [host=0.0.0.0,name] [port=5001] [workers=2] [log=<folder>]`.

    The first `host` is the address to listen on; the others are names by which requests may address
    it. `/ready` answers 200 once the server is up. What was asked and answered is kept in `log`.
    """
    options, rest = config.named_options(argv, "model", "host", "port", "workers", "log")
    if rest or "model" not in options:
        raise UsageError(USAGE)
    host, _, names = (options.get("host") or "127.0.0.1").partition(",")
    port = checked_port(options.get("port") or "5001", host)
    workers = checked_workers(options.get("workers") or "1")
    folder = checked_log(options.get("log", ""))
    champion = _champion(options["model"])
    registry.warn_if_twin(champion)
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(
        f"{champion.name} version {champion.version} answers at {address}/invocations", flush=True
    )
    settings = {
        "model": options["model"],
        "host": host,
        "hosts": names,
        "log": folder,
        "personal": personal_columns(champion) if folder else [],
        "threads": max(1, (os.cpu_count() or 1) // workers) if workers > 1 else 0,
    }
    os.environ["MLFLOW_TRACKING_URI"] = store.uri()
    os.environ["MLFLOW_REGISTRY_URI"] = store.uri()
    os.environ["SEXTANT_SERVICE"] = json.dumps(settings)
    signal.signal(signal.SIGTERM, _end)
    if workers == 1:
        _serve(host, int(port), workers)
        return
    with tempfile.TemporaryDirectory(prefix="sextant-metrics-") as counted:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counted  # what the workers count together
        _serve(host, int(port), workers)


def _end(number: int, frame: object) -> None:
    """End by a signal, once the server has stopped, so that temporary files are removed."""
    raise SystemExit(128 + number)


def _champion(model: str) -> registry.Version:
    """The champion; raises SextantError without one. A local store needs no MLflow for that."""
    local = registry.champion_here(model)
    return local[0] if local else registry.champion_of(store.client(), model)


def _serve(host: str, port: int, workers: int) -> None:
    import uvicorn

    uvicorn.run(
        "sextant.tracking.server.service:create_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=SECONDS_TO_KEEP,
        timeout_worker_healthcheck=SECONDS_TO_ANSWER,
    )
