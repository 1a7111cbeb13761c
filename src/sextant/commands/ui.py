"""MLflow's pages for the runs and the registry of this clone, by MLflow's server."""

import os
import sys

from .. import config
from ..errors import SextantError, UsageError
from ..tracking import store, views
from .serve import checked_port

# The list of experiments, because MLflow's home page shows features that Sextant does not use.
PAGE = "#/experiments?workflowType=machine_learning"

VIEWS = (
    "SELECT name, experiments.experiment_id FROM experiments JOIN experiment_tags AS tag"
    " ON tag.experiment_id = experiments.experiment_id AND tag.key = ?"
    " WHERE lifecycle_stage = 'active' ORDER BY name"
)


def main(argv: list[str]) -> None:
    """`sextant ui [port=5000]`: replaces this process by `mlflow ui`.

    With a tracking server it prints the server's address, which has the pages.
    """
    options, rest = config.named_options(argv, "port")
    if rest:
        raise UsageError(f"`{rest[0]}` is not understood; expected: make ui [PORT=5000]")
    port = checked_port(options.get("port") or "5000")
    uri = store.uri()
    if uri.startswith("http"):
        print(f"the tracking server has the pages: {store.address()}")
        return
    database = store.database()
    if database and not database.is_file():
        raise SextantError(
            f"{database} does not exist: nothing has been tracked here yet; run `make repro` first"
        )
    print(f"http://127.0.0.1:{port}/{PAGE} (Ctrl-C ends it)")
    for name, experiment_id in store.query(VIEWS, views.TAG):
        print(f"  {name}: http://127.0.0.1:{port}/{views.link(experiment_id)}")
    sys.stdout.flush()
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # or eight more processes start
    os.environ["PYTHONWARNINGS"] = "ignore"  # libraries of the server warn about each other
    command = [sys.executable, "-m", "mlflow", "ui"]
    command += ["--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command += ["--backend-store-uri", uri, "--registry-store-uri", uri]
    if os.environ.get("SEXTANT_DEBUG") != "1":
        # At another level, Ctrl-C ends with a traceback.
        command += ["--uvicorn-opts", "--log-level critical"]
    os.execv(sys.executable, command)
