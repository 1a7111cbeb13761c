"""A server that imports the libraries once and forks for each start of `python -m sextant`.

Importing torch, Lightning, MLflow and Great Expectations takes seconds, a fork some milliseconds.
`running()` starts a server, which lives as long as its starter, and yields the variable
SEXTANT_FORK_SERVER with the path of its socket; `python -m sextant` with that variable is a client.
The client sends its arguments, environment and standard streams; the server forks, and the child
runs the verb with the code of the client's checkout, because the server imports libraries only.
Signals go from the client to the child, the exit code back. The client starts plainly, as without a
server, where the child would differ from it: see `traits`. SEXTANT_FORK_SERVER=off forbids it all.
"""

import atexit
import ctypes
import gc
import importlib
import io
import json
import os
import select
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

VARIABLE = "SEXTANT_FORK_SERVER"
LIBRARIES = (
    *("pandas", "pyarrow.dataset", "pydantic", "yaml", "requests", "fsspec", "filelock", "hydra"),
    *("great_expectations", "great_expectations.render.renderer.site_builder", "jinja2"),
    *(
        "pytorch_lightning",
        "safetensors.torch",
        "git",
        "mlflow.pyfunc",
        "mlflow.tracing.processor.otel",
    ),
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    "mlflow.system_metrics.system_metrics_monitor",
    # Called: it reads the metadata of every installed package, for half a second, as the first
    # model does that a process packs or loads.
    "mlflow.utils.requirements_utils:_init_packages_to_modules_map",
    *("sklearn.cluster", "sklearn.decomposition", "sklearn.ensemble", "sklearn.linear_model"),
    *("sklearn.neighbors", "threadpoolctl", "PIL.Image", "matplotlib.backends.backend_svg"),
)
# Variables that no library reads at its import; any other one must be the same in the server. Only
# the server has JE_ARROW_MALLOC_CONF, which prevents a thread.
FREE = {"PATH", "PYTHONPATH", "PWD", "OLDPWD", "SHLVL", "_", "VIRTUAL_ENV", "COLUMNS", "LINES"}
FREE |= {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "JE_ARROW_MALLOC_CONF"}
# A shell sets them itself where it has inherited them: PS1 is exported by `activate` of a venv, and
# DVC starts commands by a shell.
FREE |= {"PS1", "PS2", "PS4", "IFS", "OPTIND", "PPID", "LINENO", "SHELLOPTS", "BASHOPTS"}
FREE |= {"PYTHONUNBUFFERED"}  # which `become` takes into account
FREE |= {"JOBS", "MODEL", "DATASET"}  # arguments of make, which exports them
FREE_PREFIXES = (
    *("SEXTANT_", "DVC_", "GIT_AUTHOR_", "GIT_COMMITTER_", "GITHUB_"),
    *("MAKE", "MFLAGS", "PYTEST_", "CELERY_", "_MP_FORK_LOG"),  # celery runs the queue of DVC
)
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
GPUS = ("nvidia*", "kfd", "dxg")  # device files of NVIDIA, AMD and of Windows' Linux
STARTED = b"s"
PR_SET_PDEATHSIG = 1  # of prctl(2)


def running_possible() -> bool:
    """Whether a server may run here: on Linux without a GPU, whose drivers forbid to fork."""
    gpus = [path for pattern in GPUS for path in Path("/dev").glob(pattern)]
    return sys.platform == "linux" and not gpus


def traits() -> dict[str, Any]:
    """What a forked child would have of the server and not of its client.

    The client starts plainly where these differ, for example OMP_NUM_THREADS or the ulimits.
    """
    server_traits: dict[str, Any] = {
        "server": Path(__file__).read_text(encoding="utf-8"),
        "python": [sys.version, os.path.realpath(sys.executable), list(sys.flags)],
        "libraries": [os.path.realpath(path) for path in sys.path if path.endswith("-packages")],
        "options": [sys.warnoptions, {name: str(sys._xoptions[name]) for name in sys._xoptions}],
        "process": [os.nice(0), os.getuid(), os.getgid(), sorted(os.sched_getaffinity(0))],
        "limits": Path("/proc/self/limits").read_text(),
        "network": os.readlink("/proc/self/ns/net"),
    }
    for name, value in os.environ.items():
        if name not in FREE and not name.startswith(FREE_PREFIXES):
            server_traits[name] = value
    return server_traits


# --- starter ------------------------------------------------------------------------------------


@contextmanager
def running(
    environment: Mapping[str, str] | None = None,
    at_once: bool = False,
    libraries: Sequence[str] = LIBRARIES,
) -> Iterator[dict[str, str]]:
    """Run a server; yield the variable for the environment of its clients, {} if there is none.

    The server imports `libraries` at once, or when the first client comes, which waits for it.
    `environment` is the server's, and its clients need the same: by default that of this process.
    If it contains SEXTANT_FORK_SERVER, the socket of another server or `off`, that is what is
    yielded.
    """
    from .tracking import VARIABLES

    environment = os.environ if environment is None else environment
    if environment.get(VARIABLE) or not running_possible():
        yield {name: value for name, value in environment.items() if name == VARIABLE}
        return
    with tempfile.TemporaryDirectory(prefix="sextant-", ignore_cleanup_errors=True) as folder:
        address = f"{folder}/socket"
        # The server reads this pipe, which ends when the starter does, however it dies.
        alive, pipe = os.pipe()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(128)
            fds = (listener.fileno(), alive)
            arguments = [*fds, int(at_once), *libraries]
            # A session of its own: the Ctrl-C of a terminal is for the clients.
            server = subprocess.Popen(
                [sys.executable, __file__, *map(str, arguments)],
                pass_fds=fds, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                env={**VARIABLES, **environment, "JE_ARROW_MALLOC_CONF": "background_thread:false"},
            )  # fmt: skip
        os.close(alive)
        try:
            yield {VARIABLE: address}
        finally:
            os.close(pipe)
            with suppress(subprocess.TimeoutExpired):
                server.wait(1)
            server.terminate()  # it is still importing
            server.wait()


# --- client -------------------------------------------------------------------------------------


def run_forked(argv: list[str], script: str | None = None) -> None:
    """End this process with the exit code of a forked child that has run the verb in its place.

    With `script`, the child runs that Python script and no verb. Returns if no server answers or it
    refuses. Raises SextantError if it dies while the child runs.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        connection = _start_child([sys.argv[0], *argv], (0, 1, 2), script=script)
        if connection:
            _end_like_child(connection, argv)


def run_script(script: str, *arguments: str) -> "subprocess.CompletedProcess[str] | None":
    """Run a Python script like `python -P -c script`, without PYTHONPATH, in a forked child.

    Returns its exit code and what it wrote to stderr; None if no server answers or it refuses.
    """
    environment = dict(os.environ)
    folders = environment.pop("PYTHONPATH", "").split(os.pathsep)
    ours = {os.getcwd(), *map(os.path.abspath, folders)}
    path = [folder for folder in sys.path if folder not in ours]
    with tempfile.TemporaryFile("w+") as errors, open(os.devnull, "r+b") as nothing:
        streams = (nothing.fileno(), nothing.fileno(), errors.fileno())
        changes = {"script": script, "environment": environment, "path": path}
        connection = _start_child(["-c", *arguments], streams, **changes)
        if connection is None:
            return None
        with connection:
            status = connection.recv(8)
        code = os.waitstatus_to_exitcode(int(status)) if status else 1
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, code, "", errors.read())


def _start_child(
    argv: list[str], streams: tuple[int, int, int], **changes: Any
) -> socket.socket | None:
    """Let the server fork a child that is like this process, but for `changes` of the request.

    Returns the connection to it, or None if no server answers or it refuses.
    """
    address = os.environ.get(VARIABLE, "off")
    if address == "off" or sys.platform != "linux":
        return None
    from . import tracking  # noqa: F401  # sets the variables that MLflow reads at its import

    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
        _send_request(connection, streams, {"argv": argv, **changes})
        if connection.recv(1) == STARTED:
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _end_like_child(connection: socket.socket, argv: list[str]) -> None:
    """Send signals to the child until it ends, then end with its code or of its signal."""
    for number in FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: _forward(connection, number))
    if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, lambda number, frame: _pause(connection))
    status = connection.recv(8)
    if not status:
        from .errors import SextantError

        raise SextantError(
            f"the fork server was killed while `{' '.join(argv)}` ran; run the same command again"
        )
    code = os.waitstatus_to_exitcode(int(status))
    if code < 0:  # the child was killed: this process dies of the same signal
        if -code != signal.SIGKILL:  # whose action cannot be set
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)  # what is registered for the exit has run in the child


def _send_request(
    connection: socket.socket, streams: tuple[int, int, int], changes: dict[str, Any]
) -> None:
    """Send one byte with four descriptors: the standard streams and a file with all else."""
    request = {
        "traits": traits(),
        "script": None,
        "path": sys.path,
        "prefixes": [sys.prefix, sys.exec_prefix, sys.executable],
        "folder": os.getcwd(),
        "umask": _umask(),
        "environment": dict(os.environ),
        "ignored": [int(n) for n in FORWARDED if signal.getsignal(n) == signal.SIG_IGN],
        **changes,
    }
    with open(os.memfd_create("request"), "w+b") as stream:
        stream.write(json.dumps(request).encode())
        stream.flush()
        socket.send_fds(connection, [b"r"], [*streams, stream.fileno()])


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _forward(connection: socket.socket, number: int) -> None:
    with suppress(OSError):  # the child has just ended
        connection.send(bytes([number]))


def _pause(connection: socket.socket) -> None:
    """Stop the child, then this process; when this one continues, so does the child."""
    _forward(connection, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    _forward(connection, signal.SIGCONT)


# --- server -------------------------------------------------------------------------------------


def import_libraries(names: Sequence[str]) -> None:
    """Import libraries, and call the function of a name with a colon, if the library has it.

    Ends the server if that leaves a thread, which a fork would not copy.
    """
    # Of the folders in sys.path, this file's own has modules named like libraries.
    sys.path[:] = [path for path in sys.path if Path(path) != Path(__file__).parent]
    for name in names:
        module, _, function = name.partition(":")
        members = vars(importlib.import_module(module))
        if function in members:
            members[function]()
    # OpenBLAS ends its threads before a fork, and starts them again where it is used.
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        sys.exit(f"fork server: {len(threads)} threads run after the imports, so it cannot fork")
    gc.collect()
    gc.freeze()  # the collector of a child leaves the pages of these objects shared


def serve(listener: socket.socket, alive: int, server_traits: dict[str, Any]) -> dict[str, Any]:
    """Fork for each client until the starter has ended; return the request in a child alone."""
    while True:
        _wait_for_ended()
        ready, _, _ = select.select([listener.fileno(), alive], [], [])
        if alive in ready:
            _wait_for_ended()
            shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.close(alive)
            return _supervise(connection, server_traits)
        connection.close()


def _wait_for_ended() -> None:
    """Wait for the supervisors that have ended, so that `time make repro` counts their CPU time."""
    with suppress(ChildProcessError):  # there is none
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _supervise(connection: socket.socket, server_traits: dict[str, Any]) -> dict[str, Any]:
    """Fork the child of a client and wait for either of them; return the request in the child.

    There is one supervisor for each client, so that the death of the server harms no running child.
    """
    _, fds, _, _ = socket.recv_fds(connection, 1, 4)
    request: dict[str, Any] = json.loads(os.pread(fds[3], os.fstat(fds[3]).st_size, 0))
    theirs = request["traits"]
    different = [
        name for name in {**server_traits, **theirs} if server_traits.get(name) != theirs.get(name)
    ]
    if different:  # the end of this process closes the connection
        if request["environment"].get("SEXTANT_DEBUG") == "1":
            os.write(fds[2], f"not forked: other {', '.join(different)}\n".encode())
        os._exit(0)
    child = os.fork()
    if child == 0:
        connection.close()
        return {**request, "streams": fds[:3]}
    for fd in fds:
        os.close(fd)
    if _forward_until_end(connection, child):
        with suppress(OSError):
            connection.send(str(os.waitpid(child, 0)[1]).encode())
    else:
        os.kill(child, signal.SIGKILL)
        with suppress(ProcessLookupError):  # it has not called `become`
            os.killpg(child, signal.SIGKILL)
    os._exit(0)


def _forward_until_end(connection: socket.socket, child: int) -> bool:
    """Send the client's signals to the child until it ends; return False if the client dies."""
    pidfd = os.pidfd_open(child)
    with suppress(OSError):
        connection.send(STARTED)
        while True:
            ready, _, _ = select.select([connection.fileno(), pidfd], [], [])
            if pidfd in ready:
                return True
            numbers = connection.recv(16)
            if not numbers:
                break
            for number in numbers:
                os.kill(child, number)
    return False


def become(request: dict[str, Any]) -> None:
    """Give this child what its client has."""
    os.setsid()  # the terminal's signals come through the client, once
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for target, fd in enumerate(request["streams"]):
        os.dup2(fd, target)
        os.close(fd)
    if isinstance(sys.stdout, io.TextIOWrapper):
        unbuffered = "PYTHONUNBUFFERED" in request["environment"] and not sys.stdout.write_through
        sys.stdout.reconfigure(line_buffering=unbuffered or sys.stdout.isatty())
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = request["argv"]
    sys.path[:] = request["path"]
    sys.prefix, sys.exec_prefix, sys.executable = request["prefixes"]
    importlib.invalidate_caches()
    for number in FORWARDED:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else default)
    sys.modules["numpy"].random.seed()  # or all children would draw the same numbers
    sys.modules.pop("sitecustomize", None)  # the server's; the client may have another one
    site.execsitecustomize()


def main(listener: int, alive: int, at_once: int, libraries: Sequence[str]) -> None:
    """Serve; a child of the server runs the verb of its client and ends."""
    server_traits = json.loads(json.dumps(traits()))  # before the libraries set variables
    codes = [1]
    atexit.register(_leave, codes)  # the first to be registered is the last to run
    if not at_once:
        select.select([listener, alive], [], [])
    import_libraries(libraries)
    request = serve(socket.socket(fileno=listener), alive, server_traits)
    become(request)
    try:
        if request["script"] is None:
            command_line = importlib.import_module("sextant.__main__")
            sys.modules["__main__"] = command_line
            command_line.run(command_line.dispatch)
        exec(  # nosec B102: a script of this package, from a client of this user
            compile(request["script"], "<script>", "exec"), {"__name__": "__main__"}
        )
        codes[0] = 0
    except SystemExit as end:
        codes[0] = int(end.code or 0)
        raise


def _leave(codes: list[int]) -> None:
    """End without freeing every object of the libraries, which takes half a second."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(codes[0])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
