"""What is missing or broken here, and how to mend it: `make doctor`, one line a check.

Only looks: nothing is written, and no database is made. A check that itself fails is reported as broken.
"""

import configparser
import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from .. import config, paths
from ..errors import SextantError, UsageError, one_line
from ..tracking import store

GIB = 2**30
SCHEMES = {
    "s3": ("dvc_s3", "s3fs"),
    "ssh": ("dvc_ssh", "sshfs"),
}  # of a remote: DVC's module, fsspec's
DVC = re.compile(  # in a command line: `dvc repro`, `python /…/bin/dvc repro`, `python -m dvc repro`, and our own
    r"((^|[/ ])dvc| sextant\.repro)( |$)"
)


@dataclass(frozen=True)
class Finding:
    """What a check found, and the repair where there is something to mend."""

    state: Literal["ok", "warning", "broken"]
    text: str
    repair: str = ""

    def line(self, subject: str) -> str:
        return (
            f"{self.state:<8} {subject:<12} {self.text}{f'; {self.repair}' if self.repair else ''}"
        )


def ok(text: str) -> Finding:
    return Finding("ok", text)


# --- the environment --------------------------------------------------------------------------------------------------


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info < (3, 14):
        return Finding(
            "broken",
            f"{version}; expected 3.11 to 3.13",
            "rm -r .venv; make setup PYTHON=python3.11",
        )
    if sys.prefix == sys.base_prefix:
        return Finding(
            "warning",
            f"{version}, outside of an environment",
            "use make, or source .venv/bin/activate",
        )
    return ok(f"{version} in {sys.prefix}")


def packages(folder: Path = Path(".")) -> Finding:
    """What is installed, against pyproject.toml (must be there) and constraints.txt (should be that version)."""
    wanted = dict(pins((folder / "constraints.txt").read_text(encoding="utf-8")))
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {_name(requirement) for requirement in project["dependencies"]}
    there = {
        normal(found.name): found.version.partition("+")[0]
        for found in metadata.distributions()
        if found.name
    }
    if missing := sorted(needed - set(there)):
        return Finding(
            "broken", f"not installed: {', '.join(missing)}", "rm -f .venv/.ready; make setup"
        )
    if "lightning" in there:
        return Finding(
            "broken", "`lightning` beside pytorch-lightning", "python -m pip uninstall lightning"
        )
    other = [
        f"{name} {there[name]} ({pin})"
        for name, pin in wanted.items()
        if there.get(name, pin) != pin
    ]
    if other:
        text = f"{len(other)} differ from constraints.txt: {', '.join(other[:5])}{' …' * (len(other) > 5)}"
        return Finding("warning", text, "rm -f .venv/.ready; make setup")
    return ok(f"{len(there)} installed, as constraints.txt pins them")


def pins(constraints: str) -> Iterator[tuple[str, str]]:
    """The names, normalised, and versions that a constraints file pins."""
    for line in constraints.splitlines():
        name, equals, version = line.partition("#")[0].partition("==")
        if equals:
            yield normal(name.strip()), version.strip()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    return normal(found[0] if found else requirement)


def disk(free: int | None = None) -> Finding:
    free = shutil.disk_usage(".").free if free is None else free
    if free < GIB // 4:
        return Finding(
            "broken",
            f"{free / GIB:.2f} GiB free",
            "free some: `dvc gc -w` drops what no output here uses",
        )
    if free < 2 * GIB:
        return Finding(
            "warning", f"{free / GIB:.1f} GiB free", "`dvc gc -w` drops what no output here uses"
        )
    return ok(f"{free / GIB:.0f} GiB free")


def accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        return ok(f"{torch.cuda.get_device_name(0)} (torch {torch.__version__})")
    if torch.backends.mps.is_available():
        return ok(f"Apple GPU (torch {torch.__version__})")
    if shutil.which("nvidia-smi") and torch.version.cuda is None:
        repair = "rm -r .venv; make setup TORCH_INDEX=https://download.pytorch.org/whl/cu130"
        return Finding(
            "warning",
            f"an NVIDIA GPU, but torch {torch.__version__} is a build for the CPU",
            repair,
        )
    return ok(f"none, {os.cpu_count()} processors (torch {torch.__version__})")


# --- git and DVC ------------------------------------------------------------------------------------------------------


def git() -> Finding:
    if not shutil.which("git"):
        return Finding(
            "broken", "git is not installed", "install it (Debian, Ubuntu: apt install git)"
        )
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if answer.returncode == 0:
        return ok(f"at commit {answer.stdout.strip()}")
    inside = subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True).returncode == 0
    if inside:
        return Finding(
            "warning", "no commit yet, so that runs cannot name theirs", "git add -A; git commit"
        )
    return Finding(
        "broken",
        "this folder is no git repository",
        "clone it, or: git init; git add -A; git commit",
    )


def dvc() -> Finding:
    if not Path("dvc.yaml").is_file():
        return Finding("broken", "dvc.yaml is not here", "run from the repository's root")
    if not Path(".dvc/config").is_file():
        return Finding("broken", ".dvc/config is missing", "git checkout .dvc, or: dvc init")
    return ok("initialised")


def remote(root: Path = Path(".")) -> Finding:
    """The default remote of DVC: none, a folder, or an address whose package must be there."""
    url = default_remote(root)
    if url is None:
        return ok("none: data and models stay on this machine (make remote URL=… for a team)")
    if not url:
        return Finding("broken", "the default remote has no url", "make remote URL=…")
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme in SCHEMES and importlib.util.find_spec(SCHEMES[scheme][0]) is None:
        return Finding(
            "broken", f"{url} needs {SCHEMES[scheme][0].replace('_', '-')}", "make setup"
        )
    if not scheme and not (root / ".dvc" / url).is_dir():
        return Finding(
            "warning", f"{url} is not there", "mount it; the first `dvc push` makes it where it can"
        )
    return ok(url)


def default_remote(root: Path = Path(".")) -> str | None:
    """The url of DVC's default remote ("" where it lacks one), relative to .dvc/; None where no remote is set."""
    settings = configparser.ConfigParser()
    settings.read([root / ".dvc/config", root / ".dvc/config.local"], encoding="utf-8")
    name = settings.get("core", "remote", fallback="")
    section = next((s for s in settings.sections() if s.strip("'") == f'remote "{name}"'), None)
    return None if not name else settings.get(section, "url", fallback="") if section else ""


def locks(root: Path = Path(".")) -> Finding:
    """Locks of DVC that a killed process, or a process number used again, left behind."""
    path = root / ".dvc/tmp/rwlock"
    try:
        holders = dict(_holders(json.loads(path.read_text(encoding="utf-8") or "{}")))
    except FileNotFoundError:
        holders = {}
    except (ValueError, AttributeError, TypeError, KeyError):
        return Finding("broken", f"{path} cannot be read", f"when no DVC runs here: rm {path}")
    running = sorted(pid for pid, command in holders.items() if DVC.search(_command(pid)))
    stale = sorted(set(holders) - set(running))
    blocking = [pid for pid in stale if _command(pid)]
    if blocking:
        text = f"{path} names process {blocking[0]}, which is another program now"
        return Finding("broken", text, f"rm {path}")
    if stale:
        return Finding(
            "warning",
            f"{path} names process {stale[0]}, which has ended",
            "the next DVC command clears it",
        )
    if running or _flocked(root / ".dvc/tmp/lock"):
        return ok(
            f"DVC is running here{f' (process {running[0]})' if running else ''}; another one would wait or stop"
        )
    return ok("none held")


def _holders(rwlock: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for held in (*rwlock.get("read", {}).values(), *rwlock.get("write", {}).values()):
        for holder in held if isinstance(held, list) else [held] if held else []:
            yield int(holder["pid"]), str(holder["cmd"])


def _flocked(path: Path) -> bool:
    try:
        with path.open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _command(pid: int) -> str:
    """The command line of a living process, or nothing."""
    import psutil

    try:
        process = psutil.Process(pid)
        return (
            ""
            if process.status() == psutil.STATUS_ZOMBIE
            else " ".join(process.cmdline()) or process.name()
        )
    except psutil.Error:
        return ""


# --- data, training, registry -----------------------------------------------------------------------------------------


def conf() -> Finding:
    try:
        config.check_all()
    except SextantError as error:
        return Finding("broken", one_line(error))
    chosen = config.params()
    sources = ", ".join(
        f"{name} from {config.dataset(name).chosen_source}" for name in chosen.datasets
    )
    return ok(f"every conf fits: {', '.join(chosen.models)} at budget {chosen.budget}; {sources}")


def mirror() -> Finding:
    from .. import pull

    try:
        users = [
            name
            for name in config.params().datasets
            if config.dataset(name).chosen_source == "mirror"
        ]
    except SextantError:
        return ok("not looked at: the conf comes first")
    if not users:
        return ok("not needed: no data set comes from source `mirror`")
    try:
        place = pull.mirror()
    except SextantError as error:
        return Finding("broken", one_line(error))
    scheme = place.partition("://")[0] if "://" in place else ""
    if scheme in SCHEMES and importlib.util.find_spec(SCHEMES[scheme][1]) is None:
        return Finding(
            "broken",
            f"{scheme}:// needs {SCHEMES[scheme][1]}",
            f"pip install -c constraints.txt '.[{scheme}]'",
        )
    return ok(f"SEXTANT_MIRROR is set, for {', '.join(users)}")


def training(root: Path | None = None) -> Finding:
    """Trainings that run, that a killed pipeline left running, or that were interrupted and wait."""
    folders = sorted(
        path
        for path in ((root or paths.state_root()) / ".checkpoints").glob("*/*")
        if path.is_dir()
    )
    names = {path: path.parent.name for path in folders}
    for path in folders:
        if _flocked(path / "lock"):
            pid = _pid(path / "lock")
            text = f"{names[path]} is trained by process {pid}"
            if _under_dvc(pid):
                return ok(text)
            return Finding(
                "warning", f"{text}, whose pipeline has ended", f"let it end, or: kill {pid}"
            )
    if not folders:
        return ok("none runs, none was interrupted")
    size = sum(
        file.stat().st_size for path in folders for file in path.rglob("*") if file.is_file()
    )
    text = f"interrupted: {', '.join(sorted(set(names.values())))} ({size / 2**20:.0f} MiB in .checkpoints)"
    return Finding("warning", text, "`make train` goes on; `rm -r .checkpoints` forgets them")


def _pid(path: Path) -> int:
    try:
        found = re.search(r"\d+", path.read_text(encoding="utf-8"))
    except OSError:
        return 0
    return int(found[0]) if found else 0


def _under_dvc(pid: int) -> bool:
    """Whether the pipeline that started a training still runs; one started by hand needs none."""
    import psutil

    try:
        process = psutil.Process(pid)
        by_hand = "DVC_STAGE" not in process.environ()
        return by_hand or any(
            DVC.search(" ".join(parent.cmdline())) for parent in process.parents()
        )
    except psutil.Error:
        return True


def registry() -> Finding:
    """The tracking database, and whether what its registered versions are made of is still where it says."""

    uri, database = store.uri(), store.database()
    if database and not database.is_file():
        return ok("no MLflow database yet: the first `make repro` makes it")
    if old := store.moved_from():
        return Finding(
            "broken", f"{uri} was written in {old}", "`make register` mends its addresses"
        )
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    try:
        versions = list(_versions(store.client()))
    except Exception as error:
        repair = _holder(database) if database else "start the server, or mend MLFLOW_TRACKING_URI"
        return Finding("broken", f"{uri} does not answer ({one_line(error)[:160]})", repair)
    lost = [
        f"{name} version {number}"
        for name, number, place in versions
        if place and not place.exists()
    ]
    if lost:
        text = f"the files of {lost[0]}{f' and {len(lost) - 1} more' * (len(lost) > 1)} are not where {uri} says"
        return Finding("broken", text, "`make register` brings back what lies in models/")
    return ok(f"{len(versions)} registered version(s) in {uri}")


def _holder(database: Path) -> str:
    """Who has the database open."""
    import psutil

    for process in psutil.process_iter(["pid", "name"]):
        try:
            if process.pid != os.getpid() and any(
                f.path == str(database) for f in process.open_files()
            ):
                return f"process {process.pid} ({process.info['name']}) has it open: let it end, or: kill {process.pid}"
        except psutil.Error:
            continue
    return f"is {database} a whole database? `make register` makes a new one from models/ when it is moved away"


def _versions(client: Any) -> Iterator[tuple[str, str, Path | None]]:
    """Each registered version of this project and, where its files lie on this machine, their place."""
    for found in client.search_model_versions("name LIKE 'sextant-%'", max_results=1000):
        yield (
            found.name,
            found.version,
            local(client.get_model_version_download_uri(found.name, found.version)),
        )


def local(uri: str) -> Path | None:
    """The path that a plain path or a file:// address names; None for what lies elsewhere."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else uri)


CHECKS: list[Callable[[], Finding]] = [
    *(python, packages, disk, accelerator),
    *(git, dvc, remote, locks),
    *(conf, mirror, training, registry),
]


def examine(checks: Iterable[Callable[[], Finding]]) -> Iterator[tuple[str, Finding]]:
    """The name of each check and what it found."""
    for check in checks:
        try:
            yield check.__name__, check()
        except Exception as error:
            yield check.__name__, Finding("broken", f"this check failed: {one_line(error)}")


def main(argv: list[str]) -> int:
    """Print the findings; 1 when something is broken."""
    if argv:
        raise UsageError(f"`{' '.join(argv)}` is not understood; the doctor takes no arguments")
    broken = 0
    for subject, finding in examine(CHECKS):
        print(finding.line(subject), flush=True)
        broken += finding.state == "broken"
    return 1 if broken else 0
