"""MLflow's pages for the runs and the registry of this clone, by MLflow's server.

They are open to this machine alone, unless HOST says otherwise, and then only with AUTH=1: users
and passwords of MLflow's basic-auth. Requests must name this machine as their host, so that a page
in a browser cannot reach the server by a name that it lets point here.
"""

import importlib.util
import os
import secrets
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from .. import config, paths
from ..errors import SextantError, UsageError
from ..tracking import store, views
from .serve import checked_port

USAGE = "expected: make ui [PORT=5000] [AUTH=1] [HOST=0.0.0.0,name]"
# The list of experiments, because MLflow's home page shows features that Sextant does not use.
PAGE = "#/experiments?workflowType=machine_learning"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::")  # nosec B104: compared, never a default
ADMIN = "admin"
AUTH_CONF = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{database}
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""

VIEWS = (
    "SELECT name, experiments.experiment_id FROM experiments JOIN experiment_tags AS tag"
    " ON tag.experiment_id = experiments.experiment_id AND tag.key = ?"
    " WHERE lifecycle_stage = 'active' ORDER BY name"
)


def main(argv: list[str]) -> None:
    """`sextant ui [port=5000] [auth=1] [host=0.0.0.0,name]`: replaces this process by a server.

    The first `host` is the address to listen on; the others are names by which requests may address
    it. With a tracking server it prints the server's address, which has the pages.
    """
    options, rest = config.named_options(argv, "port", "auth", "host")
    if rest:
        raise UsageError(f"`{rest[0]}` is not understood; {USAGE}")
    auth = options.get("auth", "") not in ("", "0")
    host, _, names = (options.get("host") or LOOPBACK[0]).partition(",")
    if host not in LOOPBACK and not auth:
        raise UsageError(
            f"HOST={host} lets other machines read and change runs and models; add AUTH=1, which"
            " asks for a user and a password"
        )
    port = checked_port(options.get("port") or "5000", host)
    uri = store.uri()
    if uri.startswith("http"):
        print(f"the tracking server has the pages: {store.address()}")
        return
    database = store.database()
    if database and not database.is_file():
        raise SextantError(
            f"{database} does not exist: nothing has been tracked here yet; run `make repro` first"
        )
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--host", host, "--port", port, "--workers", "1"]
    command += ["--backend-store-uri", uri, "--registry-store-uri", uri]
    command += host_options(host, names.split(",") if names else [], port)
    if auth:
        command += ["--app-name", "basic-auth"]
        prepare_auth(paths.state_root().resolve() / ".auth")
    if os.environ.get("SEXTANT_DEBUG") != "1":
        # At another level, Ctrl-C ends with a traceback.
        command += ["--uvicorn-opts", "--log-level critical"]
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}/{PAGE} (Ctrl-C ends it)")
    for name, experiment_id in store.query(VIEWS, views.TAG):
        print(f"  {name}: http://{shown}:{port}/{views.page(experiment_id)}")
    sys.stdout.flush()
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # or eight more processes start
    os.environ["PYTHONWARNINGS"] = "ignore"  # libraries of the server warn about each other
    os.execv(sys.executable, command)


def host_options(host: str, names: list[str], port: str) -> list[str]:
    """The options of MLflow's server for the hosts that requests may name.

    Its default also allows every name that begins like a private address, such as 10.example.org.
    """
    hosts = ["localhost", "127.0.0.1", "[::1]", *names]
    if host not in LOOPBACK + EVERY_ADDRESS:
        hosts.append(f"[{host}]" if ":" in host else host)
    allowed = []
    for allowed_host in hosts:
        allowed += [allowed_host, f"{allowed_host}:{port}"]  # a browser leaves out port 80
    origins = []
    for allowed_host in allowed:
        origins += [f"http://{allowed_host}", f"https://{allowed_host}"]
    return ["--allowed-hosts", ",".join(allowed), "--cors-allowed-origins", ",".join(origins)]


def prepare_auth(folder: Path) -> None:
    """Let MLflow's basic-auth keep its users in `folder`, which this user alone may enter.

    The password of the first user is drawn, printed, and passed to MLflow, which keeps its hash:
    nothing here stores it. Further users are created by MLflow's page /signup or its REST API.
    """
    if importlib.util.find_spec("flask_wtf") is None:
        raise SextantError("AUTH=1 needs Flask-WTF, which is not installed; run `make setup`")
    os.umask(0o077)  # the server's files too
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    database = folder / "users.db"
    conf = folder / "basic_auth.ini"
    conf.write_text(AUTH_CONF.format(database=database, admin=ADMIN), encoding="utf-8")
    conf.chmod(0o600)
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(conf)
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_urlsafe(32)
    if has_users(database):
        print(f"users and the hashes of their passwords: {folder}; remove it to begin anew")
        return
    password = secrets.token_urlsafe(18)
    os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"] = password
    print(f"user {ADMIN}, password {password} (shown once; MLflow keeps only its hash)")


def has_users(database: Path) -> bool:
    """Whether a database of MLflow's basic-auth has a user."""
    if not database.is_file():
        return False
    with closing(sqlite3.connect(database)) as connection:
        try:
            return connection.execute("SELECT 1 FROM users").fetchone() is not None
        except sqlite3.OperationalError:  # it was left before its tables were made
            return False
