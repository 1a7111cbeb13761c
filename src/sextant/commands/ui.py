"""The MLflow pages of this clone's runs and registry, by MLflow's own server."""

import os
import sys

from .. import config
from ..errors import SextantError, UsageError
from ..tracking import store
from .serve import free


def main(argv: list[str]) -> None:
    """`sextant ui [port=5000]`: becomes `mlflow ui`, or names the tracking server, which has the pages."""
    asked, rest = config.named_options(argv, "port")
    if rest:
        raise UsageError(f"`{rest[0]}` is not understood; expected: make ui [PORT=5000]")
    port = free(asked.get("port") or "5000")
    uri = store.uri()
    database = store.database()
    if uri.startswith("http"):
        return print(f"the tracking server has the pages: {store.address()}")
    if database and not database.is_file():
        raise SextantError(
            f"{database} is not there, for nothing was tracked here yet; run `make repro` first"
        )
    page = "#/experiments?workflowType=machine_learning"  # MLflow's first page is of what Sextant has none of
    print(f"http://127.0.0.1:{port}/{page} (Ctrl-C ends it)", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ["PYTHONWARNINGS"] = "ignore"  # of the libraries about one another
    words = ["ui", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    words += ["--backend-store-uri", uri, "--registry-store-uri", uri]
    if os.environ.get("SEXTANT_DEBUG") != "1":
        words += ["--uvicorn-opts", "--log-level critical"]  # or Ctrl-C ends with a traceback
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *words])
