"""The fork server: a child is like a plain start, and without a server there is a plain start.

Most tests run a package that has the command line of ours and one verb, `probe`, on a server that
imports numpy alone.
"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import PLAIN, ROOT, clone_environment

from sextant import fork_server

PACKAGE = ROOT / "src/sextant"
# The verb writes what its process is like to state.json; then it ends as its argument says.
PROBE = """
import json, os, random, signal, sys, time


def main(argv):
    numpy = sys.modules.get("numpy")
    state = {
        "argv": sys.argv,
        "folder": os.getcwd(),
        "path": sys.path,
        "prefixes": [sys.prefix, sys.exec_prefix, sys.executable],
        "environment": dict(os.environ),
        "umask": os.umask(0o022),
        "streams": [str(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "buffered": [sys.stdout.line_buffering, sys.stderr.line_buffering],
        "signals": [str(signal.getsignal(number)) for number in range(1, 20)],
        "main": sys.modules["__main__"].__file__,
        "input": sys.stdin.read(),
        "forked": numpy is not None,
        "pid": os.getpid(),
        "draws": [random.random(), numpy.random.random() if numpy else None],
        "modules": sorted(sys.modules),
    }
    with open("state.new", "w") as stream:
        json.dump(state, stream)
    os.rename("state.new", "state.json")
    print("to stdout")
    print("to stderr", file=sys.stderr)
    if argv[0] == "wait":
        time.sleep(120)
    if argv[0] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if argv[0] == "failed":
        raise ValueError("on purpose")
    return int(argv[0])
"""
# Keys of its state that differ between any two processes.
OF_A_PROCESS = ("forked", "pid", "draws", "modules")
STARTER = """
import json, sys
from sextant import fork_server

with fork_server.running() as variables:
    print(json.dumps(variables), flush=True)
    sys.stdin.read()
"""
Process = Callable[..., "subprocess.Popen[str]"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not fork_server.running_possible(), reason="no fork server on this system"),
]


class Probe:
    """A folder with the package, in which its verb runs."""

    def __init__(self, folder: Path, process: Process) -> None:
        self.folder = folder
        self.process = process
        self.starters: list[subprocess.Popen[str]] = []
        self.env = {**os.environ, **PLAIN, "PYTHONPATH": "src"}
        package = folder / "src/sextant"
        (package / "tracking").mkdir(parents=True)
        for file in (
            *("__init__.py", "errors.py", "bytecode.py", "redaction.py"),
            *("processor.py", "files.py", "paths.py"),
            "tracking/__init__.py",
        ):
            (package / file).write_text((PACKAGE / file).read_text())
        verbs = 'VERBS = {"probe": ("probe", "", "")}'
        (package / "__main__.py").write_text(replaced("VERBS = .*", verbs, "__main__.py"))
        (package / "fork_server.py").write_text((PACKAGE / "fork_server.py").read_text())
        (package / "probe.py").write_text(PROBE)

    def serve(self, library: str = "numpy") -> psutil.Process:
        """Start a server, for all that this folder starts later; return its starter."""
        server = replaced(
            r"LIBRARIES = \((?s:.*?)\n\)", f"LIBRARIES = ({library!r},)", "fork_server.py"
        )
        (self.folder / "src/sextant/fork_server.py").write_text(server)
        starter = self.process(
            sys.executable, "-c", STARTER, cwd=self.folder,
            env={name: value for name, value in self.env.items() if name not in PLAIN},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.starters.append(starter)
        assert starter.stdout
        self.env |= json.loads(starter.stdout.readline())
        return psutil.Process(starter.pid)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "sextant", "probe", *arguments]

    def run(
        self, *command: str, code: int = 0, **env: str
    ) -> tuple["subprocess.CompletedProcess[str]", dict[str, Any]]:
        """Run a command that runs the verb; return its result and the state that it has written."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env | env, input="to stdin",
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        state = json.loads((self.folder / "state.json").read_text())
        (self.folder / "state.json").unlink()
        return done, state

    def wait(self, **options: Any) -> tuple["subprocess.Popen[str]", dict[str, Any]]:
        """Start the verb so that it waits; return its client and its state."""
        client = self.process(
            *self.command("wait"), cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip
        path = self.folder / "state.json"
        until(path.is_file)
        return client, json.loads(path.read_text())


def replaced(pattern: str, new: str, file: str) -> str:
    """The text of a file of the package with the only match of a pattern replaced."""
    text, number = re.subn(pattern, lambda match: new, (PACKAGE / file).read_text())
    assert number == 1
    return text


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that other processes will make true."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def probe(tmp_path: Path, process: Process) -> Iterator[Probe]:
    probe = Probe(tmp_path, process)
    yield probe
    for starter in probe.starters:
        if starter.stdin and starter.poll() is None:
            starter.stdin.close()  # after which it removes the folder of its server
            starter.wait(60)


@pytest.fixture
def served(probe: Probe) -> Probe:
    probe.serve()
    return probe


# --- a child is like a plain start --------------------------------------------------------------


def test_a_child_is_like_a_plain_start(served: Probe) -> None:
    shell = [
        "bash",
        "-c",
        'umask 027; trap "" HUP; exec "$0" "$@"',
        *served.command("0", "a b", "é"),
    ]
    forked, of_child = served.run(*shell, SEXTANT_PROBE="forked", PYTHONPATH=f"src:{ROOT}")
    plain, of_plain = served.run(*shell, SEXTANT_PROBE="forked", PYTHONPATH=f"src:{ROOT}", **PLAIN)
    assert (of_child["forked"], of_plain["forked"]) == (True, False)
    for state in (of_child, of_plain):
        for key in OF_A_PROCESS:
            del state[key]
        del state["environment"][fork_server.VARIABLE]
    assert of_child == of_plain
    assert of_child["umask"] == 0o027 and of_child["input"] == "to stdin"
    assert of_child["argv"][1:] == ["probe", "0", "a b", "é"]
    assert (forked.stdout, forked.stderr) == (plain.stdout, plain.stderr)
    assert (forked.stdout, forked.stderr) == ("to stdout\n", "to stderr\n")


@pytest.mark.parametrize(
    ("how", "code", "stderr"),
    [
        ("3", 3, "to stderr\n"),
        ("killed", -signal.SIGKILL, "to stderr\n"),
        ("failed", 1, "to stderr\nsextant: ValueError: on purpose (SEXTANT_DEBUG=1 shows it)\n"),
    ],
)
def test_the_code_and_the_message_are_those_of_a_plain_start(
    served: Probe, how: str, code: int, stderr: str
) -> None:
    for variables in ({}, PLAIN):
        done, state = served.run(*served.command(how), code=code, **variables)
        assert state["forked"] == (variables != PLAIN)
        assert done.stderr.replace("the traceback", "it") == stderr


def test_children_draw_other_numbers(served: Probe) -> None:
    draws = [served.run(*served.command("0"))[1]["draws"] for _ in range(2)]
    assert draws[0][0] != draws[1][0]
    assert draws[0][1] != draws[1][1]


def test_the_sitecustomize_of_the_client_runs_in_the_child_and_its_exit_once(served: Probe) -> None:
    """tests/conftest.py records with it which modules a stage has loaded when it ends."""
    (served.folder / "src/sitecustomize.py").write_text(
        "import atexit, sys\n"
        "starts = [name for name in sys.modules if name.startswith('sextant')]\n"
        "at_exit = lambda: print(starts, 'sextant.probe' in sys.modules)\n"
        "atexit.register(at_exit)\n"
    )
    done, state = served.run(*served.command("0"))
    assert state["forked"]
    assert done.stdout == "to stdout\n[] True\n"


def test_a_script_runs_without_the_code_of_its_caller(served: Probe) -> None:
    script = "import os, sys; print(sys.argv, sys.path, 'numpy' in sys.modules, file=sys.stderr)"
    code = f"""
import sys
from sextant.fork_server import run_script
done = run_script({script!r}, "a", "b")
print(done.returncode, done.stderr.strip())
print(run_script("1 / 0").stderr.splitlines()[-1], run_script("1 / 0").returncode)
print(run_script("import sys; sys.exit(3)").returncode)
"""
    environment = served.env | {"PYTHONPATH": "src"}
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=served.folder, env=environment, capture_output=True,
        text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert printed[0].startswith("0 ['-c', 'a', 'b'] [") and printed[0].endswith("] True")
    assert str(served.folder) not in printed[0]
    assert printed[1:] == ["ZeroDivisionError: division by zero 1", "3"]
    plain = subprocess.run(
        [sys.executable, "-c", "from sextant.fork_server import run_script; print(run_script(''))"],
        cwd=served.folder, env=environment | PLAIN, capture_output=True, text=True,
    )  # fmt: skip
    assert plain.stdout == "None\n"


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGHUP, -1)]
)
def test_a_signal_reaches_the_child(served: Probe, number: int, code: int) -> None:
    client, state = served.wait()
    assert state["forked"] and state["pid"] != client.pid
    client.send_signal(number)
    assert client.wait(60) == code
    assert gone(state["pid"])


def test_a_killed_client_takes_its_child_along(served: Probe) -> None:
    client, state = served.wait()
    client.kill()
    until(lambda: gone(state["pid"]))


def test_a_stopped_client_stops_its_child(served: Probe) -> None:
    client, state = served.wait()
    child = psutil.Process(state["pid"])
    client.send_signal(signal.SIGTSTP)
    until(lambda: child.status() == psutil.STATUS_STOPPED)
    until(lambda: psutil.Process(client.pid).status() == psutil.STATUS_STOPPED)
    client.send_signal(signal.SIGCONT)
    until(lambda: child.status() == psutil.STATUS_SLEEPING)


# --- no server, no fork -------------------------------------------------------------------------


def test_a_client_starts_plainly_where_the_child_would_differ(served: Probe) -> None:
    other = {"OMP_NUM_THREADS": "7", "MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}
    for name, value in other.items():
        variables = {name: value, "SEXTANT_DEBUG": "1"}
        done, state = served.run(*served.command("0"), **variables)
        assert not state["forked"]
        assert done.stderr == f"not forked: other {name}\nto stderr\n"
    limited = ["bash", "-c", 'ulimit -c 0 -f 4096; exec "$0" "$@"', *served.command("0")]
    done, state = served.run(*limited, SEXTANT_DEBUG="1")
    assert not state["forked"]
    assert "other limits" in done.stderr
    optimised = [sys.executable, "-O", *served.command("0")[1:]]
    assert not served.run(*optimised)[1]["forked"]
    assert served.run(*served.command("0"))[1]["forked"], "the server still serves"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_what_a_shell_sets_does_not_keep_a_client_from_forking(probe: Probe, shell: str) -> None:
    exported = {"PS1": "(.venv) $ ", "PS2": "> ", "PS4": "+", "IFS": " ", "OPTIND": "3"}
    probe.env |= exported
    probe.serve()
    inner = [shell, "-c", '"$0" "$@"; exit $?', *probe.command("0")]
    done, state = probe.run(*inner, SEXTANT_DEBUG="1")
    assert state["forked"], done.stderr


def test_a_client_without_a_buffer_forks_and_writes_line_by_line(probe: Probe) -> None:
    """`sextant retrain` starts the stages so."""
    probe.env.pop("PYTHONUNBUFFERED", None)
    probe.serve()
    _, state = probe.run(*probe.command("0"), PYTHONUNBUFFERED="1")
    assert state["forked"] and state["buffered"][0]


def test_a_client_starts_plainly_without_a_server(probe: Probe) -> None:
    for address in ("off", "", str(probe.folder / "no-socket"), str(probe.folder)):
        done, state = probe.run(*probe.command("0"), **{fork_server.VARIABLE: address})
        assert not state["forked"]
        assert done.stderr == "to stderr\n"


def test_a_server_whose_libraries_start_a_thread_does_not_fork(probe: Probe) -> None:
    (probe.folder / "src/threaded.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=[9], daemon=True).start()\n"
    )
    probe.serve("threaded")
    assert not probe.run(*probe.command("0"))[1]["forked"]
    _, errors = probe.starters[0].communicate(timeout=60)
    assert errors == "fork server: 2 threads run after the imports, so it cannot fork\n"


def test_no_server_runs_on_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server, "GPUS", ("nul*",))  # /dev/null
    with fork_server.running({}) as variables:
        assert variables == {}


def test_a_server_inside_of_another_is_the_outer_one(served: Probe) -> None:
    with fork_server.running(served.env) as variables:
        assert variables == {fork_server.VARIABLE: served.env[fork_server.VARIABLE]}


# --- the end of the server ----------------------------------------------------------------------


def test_the_folder_of_the_socket_is_private_and_ends_with_the_starter(probe: Probe) -> None:
    """However the starter dies, and although a child still runs, which ends in peace."""
    starter = probe.serve()
    (server,) = starter.children()
    folder = Path(probe.env[fork_server.VARIABLE]).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    client, state = probe.wait()
    starter.kill()
    until(lambda: gone(server.pid))
    assert not folder.exists()
    assert not gone(state["pid"])
    client.terminate()
    assert client.wait(60) == -signal.SIGTERM


def test_a_killed_server_leaves_its_children_and_the_next_start_is_plain(probe: Probe) -> None:
    (server,) = probe.serve().children()
    client, state = probe.wait()
    server.kill()
    until(lambda: gone(server.pid))
    assert not gone(state["pid"])
    client.send_signal(signal.SIGINT)
    assert client.wait(60) == 130
    (probe.folder / "state.json").unlink()
    assert not probe.run(*probe.command("0"))[1]["forked"]


def test_a_client_whose_child_was_lost_says_so_in_one_line(probe: Probe) -> None:
    (server,) = probe.serve().children()
    client, state = probe.wait()
    (supervisor,) = server.children()
    supervisor.kill()
    assert client.wait(60) == 1
    assert client.stderr
    assert client.stderr.read() == (
        "to stderr\n"
        "sextant: the fork server was killed while `probe wait` ran; run the same command again\n"
    )
    until(lambda: gone(state["pid"]))


# --- what the server of the stages has imported -------------------------------------------------


@pytest.mark.slow
def test_the_server_of_the_stages_forks_and_has_no_module_of_the_package(probe: Probe) -> None:
    """The server of this run of pytest, which would not fork if it had more than one thread.

    So a record of the modules of a forked stage is right: those that the stage has loaded.
    """
    probe.env = clone_environment() | {"SEXTANT_DEBUG": "1"}
    if probe.env[fork_server.VARIABLE] == "off":
        pytest.skip("this run of pytest has no fork server")
    done, state = probe.run(*probe.command("0"))
    assert done.stderr == "to stderr\n"
    assert state["forked"]
    assert {"torch", "pytorch_lightning", "mlflow", "great_expectations"} <= set(state["modules"])
    ours = [name for name in state["modules"] if name.split(".")[0] == "sextant"]
    names = ("__main__", "bytecode", "errors", "files", "paths", "probe", "processor", "redaction")
    assert ours == ["sextant", *[f"sextant.{name}" for name in names]]
