"""`make doctor`: what is missing or broken here and how to repair it, one line per check.

It only reads: nothing is written, and no database is created. A check that fails by itself is
reported as broken, so that the others still run.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from .. import check, config, environment, paths
from .. import site_cache as private_cache
from ..errors import SextantError, UsageError, one_line
from ..tracking import store

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MIB = 2**20
GIB = 2**30
LISTED = 5  # packages in a message
# By the scheme of an address: the module that DVC needs for it, and the one that fsspec needs.
SCHEMES = {"s3": ("dvc_s3", "s3fs"), "ssh": ("dvc_ssh", "sshfs")}
# A command line of DVC: `dvc repro`, `python /…/bin/dvc repro`, `python -m dvc repro`, and the
# same with `sextant repro`, which runs DVC in its own process.
DVC = re.compile(r"(^|[/ ])(dvc|sextant repro)( |$)")


@dataclass(frozen=True)
class Finding:
    """The result of a check, and the repair, "" if there is nothing to do."""

    state: Literal["ok", "warning", "broken"]
    text: str
    repair: str = ""

    def line(self, subject: str) -> str:
        line = f"{self.state:<8} {subject:<12} {self.text}"
        return f"{line}; {self.repair}" if self.repair else line


def ok(text: str) -> Finding:
    return Finding("ok", text)


# --- the environment ----------------------------------------------------------------------------


def python() -> Finding:
    """Check the version of Python, and that it runs in an environment."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info < (3, 14):
        repair = "rm -r .venv; make setup PYTHON=python3.11"
        return Finding("broken", f"{version}; expected 3.11 to 3.13", repair)
    if sys.prefix == sys.base_prefix:
        repair = "use make, or source .venv/bin/activate"
        return Finding("warning", f"{version}, outside of an environment", repair)
    return ok(f"{version} in {sys.prefix}")


def packages(folder: Path = Path(".")) -> Finding:
    """Compare the installed packages with pyproject.toml and requirements.lock.

    Packages in the first must be installed; those in the second should have the pinned version.
    """
    pinned = environment.pins((folder / environment.LOCK).read_text(encoding="utf-8"))
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {requirement_name(requirement) for requirement in project["dependencies"]}
    installed: dict[str, str] = {}
    for distribution in metadata.distributions():
        if distribution.name:
            # Without a local build tag: 2.13.0+cpu is version 2.13.0.
            name = environment.normalized(distribution.name)
            installed[name] = distribution.version.partition("+")[0]
    setup = "rm -f .venv/.ready; make setup"
    missing = sorted(required - set(installed))
    if missing:
        return Finding("broken", f"not installed: {', '.join(missing)}", setup)
    if "lightning" in installed:  # both packages write into the same folders
        repair = "python -m pip uninstall lightning"
        return Finding("broken", "`lightning` beside pytorch-lightning", repair)
    different = []
    for pin in pinned:
        if environment.AUDIT not in pin.groups:
            expected = pin.version.partition("+")[0]
            version = installed.get(pin.name, expected)
            if version != expected:
                different.append(f"{pin.name} {version} ({expected})")
    if different:
        more = " …" if len(different) > LISTED else ""
        listed = ", ".join(different[:LISTED])
        text = f"{len(different)} differ from requirements.lock: {listed}{more}"
        return Finding("warning", text, setup)
    return ok(f"{len(installed)} installed, as requirements.lock pins them")


def requirement_name(requirement: str) -> str:
    """Return the normalised name in a requirement such as `PyYAML>=6`."""
    match = re.match(r"[\w.-]+", requirement)
    return environment.normalized(match[0] if match else requirement)


def disk(free: int | None = None) -> Finding:
    """Check the free bytes on the disk of the working directory."""
    if free is None:
        free = shutil.disk_usage(".").free
    repair = "`dvc gc -w` removes what no output here uses"
    if free < GIB // 4:
        return Finding("broken", f"{free / GIB:.2f} GiB free", f"free some: {repair}")
    if free < 2 * GIB:
        return Finding("warning", f"{free / GIB:.1f} GiB free", repair)
    return ok(f"{free / GIB:.0f} GiB free")


def accelerator() -> Finding:
    """Report the GPU that torch uses, or one that the installed build cannot use."""
    import torch

    version = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        return ok(f"{torch.cuda.get_device_name(0)} ({version})")
    if torch.backends.mps.is_available():
        return ok(f"Apple GPU ({version})")
    if shutil.which("nvidia-smi") and torch.version.cuda is None:
        text = f"an NVIDIA GPU, but {version} is a build for the CPU"
        repair = "rm -r .venv; make setup TORCH_INDEX=https://download.pytorch.org/whl/cu130"
        return Finding("warning", text, repair)
    return ok(f"none, {os.cpu_count()} processors ({version})")


# --- git and DVC --------------------------------------------------------------------------------


def git() -> Finding:
    """Check that this is a git repository with a commit, which every run records."""
    if not shutil.which("git"):
        repair = "install it (Debian, Ubuntu: apt install git)"
        return Finding("broken", "git is not installed", repair)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if commit.returncode == 0:
        return ok(f"at commit {commit.stdout.strip()}")
    repository = subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True, text=True)
    if "dubious ownership" in repository.stderr:
        owner = private_cache.other_owner(Path(".")) or "another user"
        text = f"this folder belongs to {owner}, so that git refuses it"
        return Finding("broken", text, "work in a clone of your own")
    if repository.returncode == 0:
        text = "no commit yet, so that a run cannot record its commit"
        return Finding("warning", text, "git add -A; git commit")
    repair = "clone it, or: git init; git add -A; git commit"
    return Finding("broken", "this folder is not a git repository", repair)


def dvc() -> Finding:
    """Check that DVC is initialised here."""
    if not Path("dvc.yaml").is_file():
        return Finding(
            "broken", "there is no dvc.yaml in this folder", "run from the root of the repository"
        )
    if not Path(".dvc/config").is_file():
        return Finding("broken", ".dvc/config is missing", "git checkout .dvc, or: dvc init")
    return ok("initialised")


def site_cache(root: Path = Path(".")) -> Finding:
    """Check where a bare `dvc` keeps files that it unpickles."""
    cache = private_cache.configured(root)
    if cache is not None and private_cache.is_private(cache):
        return ok(f"{cache}, in a folder of this user alone")
    owner = private_cache.other_owner(cache.parent) if cache is not None else ""
    if owner:
        text = f"{cache} belongs to {owner}, who can put files there that run here"
        return Finding("warning", text, "work in a clone of your own")
    place = "/var/tmp/dvc" if cache is None else str(cache)  # nosec B108: named, not used
    text = f"a bare `dvc` uses {place}, where other users can put files that run here"
    repair = f'dvc config --local {private_cache.KEY} "$PWD/{private_cache.PARENT}/cache"'
    return Finding("warning", text, f"mkdir -p -m 700 {private_cache.PARENT} && {repair}")


def remote(root: Path = Path(".")) -> Finding:
    """Check DVC's default remote: none, a folder, or an address whose package is installed."""
    url = default_remote(root)
    if url is None:
        return ok("none: data and models stay on this machine (make remote URL=… for a team)")
    if not url:
        return Finding("broken", "the default remote has no url", "make remote URL=…")
    scheme = _scheme(url)
    if scheme in SCHEMES and importlib.util.find_spec(SCHEMES[scheme][0]) is None:
        package = SCHEMES[scheme][0].replace("_", "-")
        return Finding("broken", f"{url} needs {package}", "make setup")
    if not scheme and not (root / ".dvc" / url).is_dir():
        repair = "mount it; if it is new, the first `dvc push` creates it"
        return Finding("warning", f"{url} does not exist", repair)
    return ok(url)


def default_remote(root: Path = Path(".")) -> str | None:
    """Return the url of DVC's default remote, "" if it has none, None if no remote is set.

    A path is relative to .dvc/.
    """
    settings = configparser.ConfigParser()
    settings.read([root / ".dvc/config", root / ".dvc/config.local"], encoding="utf-8")
    name = settings.get("core", "remote", fallback="")
    if not name:
        return None
    for section in settings.sections():
        if section.strip("'") == f'remote "{name}"':
            return settings.get(section, "url", fallback="")
    return ""


def _scheme(address: str) -> str:
    scheme, separator, _ = address.partition("://")
    return scheme if separator else ""


def locks(root: Path = Path(".")) -> Finding:
    """Look for locks of DVC that a killed process left behind.

    DVC removes a lock whose process has ended. If the pid of that process is used again, by any
    program, DVC refuses to run.
    """
    path = root / ".dvc/tmp/rwlock"
    try:
        rwlock = json.loads(path.read_text(encoding="utf-8") or "{}")
        holders = set(_holders(rwlock))
    except FileNotFoundError:
        holders = set()
    except (ValueError, AttributeError, TypeError, KeyError):
        return Finding("broken", f"{path} cannot be read", f"when no DVC runs here: rm {path}")
    running = sorted(pid for pid in holders if DVC.search(_command(pid)))
    stale = sorted(holders - set(running))
    for pid in stale:
        if _command(pid):
            text = f"{path} names process {pid}, which is another program now"
            return Finding("broken", text, f"rm {path}")
    if stale:
        text = f"{path} names process {stale[0]}, which has ended"
        return Finding("warning", text, "the next DVC command clears it")
    if running or _is_locked(root / ".dvc/tmp/lock"):
        process = f" (process {running[0]})" if running else ""
        return ok(f"DVC is running here{process}; another one would wait or stop")
    return ok("no lock is held")


def _holders(rwlock: Mapping[str, Any]) -> Iterator[int]:
    """Yield the process numbers in DVC's file of locks: a path has one writer or many readers."""
    for kind in ("read", "write"):
        for entry in rwlock.get(kind, {}).values():
            holders = entry if isinstance(entry, list) else [entry]
            for holder in holders:
                if holder:
                    yield int(holder["pid"])


def _is_locked(path: Path) -> bool:
    """Return whether a process holds a lock (flock) on a file."""
    try:
        with path.open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _command(pid: int) -> str:
    """Return the command line of a running process, "" if it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return ""


# --- data, training, registry -------------------------------------------------------------------


def conf() -> Finding:
    """Check params.yaml and conf/, as `make check` does, and list models and sources."""
    try:
        check.check_all()
    except SextantError as error:
        return Finding("broken", one_line(error))
    chosen = config.params()
    sources = []
    for name in chosen.datasets:
        sources.append(f"{name} from {config.dataset(name).chosen_source}")
    models = ", ".join(chosen.models)
    return ok(f"all confs are valid: {models} at budget {chosen.budget}; {', '.join(sources)}")


def mirror() -> Finding:
    """Check SEXTANT_MIRROR if a data set has source `mirror`."""
    from .. import pull

    users = []
    try:
        for name in config.params().datasets:
            if config.dataset(name).chosen_source == "mirror":
                users.append(name)
    except SextantError:
        return ok("not checked: the conf has to be corrected first")
    if not users:
        return ok("not needed: no data set has source `mirror`")
    try:
        address = pull.mirror()
    except SextantError as error:
        return Finding("broken", one_line(error))
    scheme = _scheme(address)
    if scheme in SCHEMES and importlib.util.find_spec(SCHEMES[scheme][1]) is None:
        repair = f".venv/bin/python -m sextant.environment dev,{scheme}"
        return Finding("broken", f"{scheme}:// needs {SCHEMES[scheme][1]}", repair)
    return ok(f"SEXTANT_MIRROR is set, for {', '.join(users)}")


def training(root: Path | None = None) -> Finding:
    """Look for trainings that are running, also after their pipeline was killed, or interrupted."""
    root = root or paths.state_root()
    folders = sorted(path for path in root.glob(".checkpoints/*/*") if path.is_dir())
    if not folders:
        return ok("none is running, none was interrupted")
    for folder in folders:
        lock = folder / "lock"
        if _is_locked(lock):
            pid = _pid(lock)
            text = f"{folder.parent.name} is trained by process {pid}"
            if _has_pipeline(pid):
                return ok(text)
            repair = f"wait for its end, or: kill {pid}"
            return Finding("warning", f"{text}, whose pipeline has ended", repair)
    text = f"interrupted: {_models(folders)} ({_size(folders) / MIB:.0f} MiB in .checkpoints)"
    return Finding("warning", text, "`make train` resumes; `rm -r .checkpoints` discards them")


def tuning(root: Path | None = None) -> Finding:
    """Look for searches of `make tune`: those that run, were interrupted in a trial, or are kept.

    A search is kept for ever, so that the same command goes on with it.
    """
    root = root or paths.state_root()
    folders = sorted(path for path in root.glob(".tuning/*/*") if path.is_dir())
    if not folders:
        return ok("no search is kept")
    interrupted = []
    for folder in folders:
        if _is_locked(folder / "lock"):
            return ok(f"{folder.parent.name} is tuned by process {_pid(folder / 'lock')}")
        # A trial removes its checkpoints at its end; a job leaves an empty folder, a number.
        left = [path for path in folder.glob("checkpoints/**/*") if not path.name.isdigit()]
        if left:
            interrupted.append(folder)
    noun = "search" if len(folders) == 1 else "searches"
    size = f"{_size(folders) / MIB:.0f} MiB in .tuning"
    text = f"{len(folders)} {noun} of {_models(folders)} ({size})"
    repair = "`rm -r .tuning` discards the trials; MLflow keeps what it has of them"
    if interrupted:
        model = interrupted[0].parent.name
        text = f"{text}, interrupted: {_models(interrupted)}"
        return Finding("warning", text, f"`make tune MODEL={model}` goes on; {repair}")
    return Finding("ok", text, repair)


def _models(folders: Iterable[Path]) -> str:
    """The models of folders .checkpoints/<model>/<digest>, .tuning/<model>/<digest>."""
    return ", ".join(sorted({folder.parent.name for folder in folders}))


def _size(folders: Iterable[Path]) -> int:
    """The bytes of all files in folders."""
    size = 0
    for folder in folders:
        size += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return size


def _pid(path: Path) -> int:
    """Return the process number in a lock file, 0 if it has none."""
    try:
        match = re.search(r"\d+", path.read_text(encoding="utf-8"))
    except OSError:
        return 0
    return int(match[0]) if match else 0


def _has_pipeline(pid: int) -> bool:
    """Return whether the pipeline of a training is running; one started by hand has none."""
    import psutil

    try:
        process = psutil.Process(pid)
        if "DVC_STAGE" not in process.environ():
            return True
        return any(DVC.search(" ".join(parent.cmdline())) for parent in process.parents())
    except psutil.Error:
        return True


def registry() -> Finding:
    """Check that the tracking store answers and that the files of registered versions exist."""
    address = store.address()
    database = store.database()
    if database and not database.is_file():
        return ok("no MLflow database yet: the first `make repro` creates it")
    moved_from = store.moved_from()
    if moved_from:
        text = f"{address} was written in {moved_from}"
        return Finding("broken", text, "`make register` corrects its paths")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    try:
        versions = list(_versions(store.client()))
    except Exception as error:
        text = f"{address} does not answer ({one_line(error)[:160]})"
        repair = "start the server, or correct MLFLOW_TRACKING_URI"
        if database:
            repair = _database_repair(database)
        return Finding("broken", text, repair)
    lost = [name for name, path in versions if path and not path.exists()]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        text = f"the files of {lost[0]}{more} are not where {address} has them"
        return Finding("broken", text, "`make register` restores what models/ still has")
    return ok(f"{len(versions)} registered version(s) in {address}")


def _database_repair(database: Path) -> str:
    """Return what to do about a database that does not answer: usually a process has it open."""
    import psutil

    for process in psutil.process_iter(["pid", "name"]):
        if process.pid == os.getpid():
            continue
        try:
            opened = [file.path for file in process.open_files()]
        except psutil.Error:  # a process of another user
            continue
        if str(database) in opened:
            name = process.info["name"]
            return f"process {process.pid} ({name}) has it open: let it end, or: kill {process.pid}"
    return f"if {database} is damaged, move it away; `make register` then makes a new one"


def _versions(mlflow: "MlflowClient") -> Iterator[tuple[str, Path | None]]:
    """Yield each registered version of this project and the path of its files, see `local`."""
    for version in mlflow.search_model_versions("name LIKE 'sextant-%'", max_results=1000):
        uri = mlflow.get_model_version_download_uri(version.name, version.version)
        yield f"{version.name} version {version.version}", local(uri)


def local(uri: str) -> Path | None:
    """Return the path of a plain path or a file:// URI; None if it is not on this machine."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else uri)


# --- the report ---------------------------------------------------------------------------------

CHECKS: Sequence[Callable[[], Finding]] = (
    *(python, packages, disk, accelerator),
    *(git, dvc, site_cache, remote, locks),
    *(conf, mirror, training, tuning, registry),
)


def examine(checks: Iterable[Callable[[], Finding]]) -> Iterator[tuple[str, Finding]]:
    """Yield the name of each check and its finding."""
    for function in checks:
        try:
            yield function.__name__, function()
        except Exception as error:
            finding = Finding("broken", f"this check failed: {one_line(error)}")
            yield function.__name__, finding


def main(argv: list[str]) -> int:
    """`sextant doctor`: print the findings; the exit code is 1 if something is broken."""
    if argv:
        raise UsageError(f"`{' '.join(argv)}` is not understood; doctor takes no arguments")
    code = 0
    for subject, finding in examine(CHECKS):
        print(finding.line(subject), flush=True)
        if finding.state == "broken":
            code = 1
    return code
