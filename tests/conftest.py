"""What the tests share: a workspace of plain files, and one smoke chain made once and copied."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOREIGN = ("MLFLOW_TRACKING_URI", "SEXTANT_MIRROR", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "MAKEFLAGS", "MAKELEVEL")


@pytest.fixture(autouse=True)
def nobody_elses_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test must not meet the tracking server, the mirror or the make of whoever runs it."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """conf/ and params.yaml in an empty folder, which is the working directory."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Clone:
    """A git clone of this checkout, as a user has it, with the environment that runs the tests as its .venv."""

    def __init__(self, path: Path):
        self.path = path
        self.env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        self.env |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": "src",
            "DVC_NO_ANALYTICS": "1",
            "HOME": str(path.parent),
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
        }  # fmt: skip

    def run(self, *words: str, code: int | None = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone; its exit code must be `code` (None: any)."""
        done = subprocess.run(words, cwd=self.path, env=self.env | env, capture_output=True, text=True, timeout=550)
        if code is not None:
            assert done.returncode == code, (
                f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done

    def stage(self, name: str, *words: str, code: int | None = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a stage by hand: `python -m sextant.<name>`."""
        return self.run(sys.executable, "-m", f"sextant.{name}", *words, code=code, **env)

    def repro(self, *words: str, code: int | None = 0, **env: str) -> list[str]:
        """`dvc repro`; the names of the stages that ran."""
        done = self.run("dvc", "repro", *words, code=code, **env)
        return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage '")]

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace the one `old` in a file by `new`."""
        text = (self.path / file).read_text()
        assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
        (self.path / file).write_text(text.replace(old, new))

    def commit(self, why: str = "as it stands") -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", why)

    def changed(self) -> list[str]:
        """What `git status` shows, file by file."""
        done = self.run("git", "status", "--porcelain", "-uall")
        return sorted(line[3:] for line in done.stdout.splitlines())


def fresh_clone(path: Path) -> Clone:
    """What git would give: the files that are tracked or would be, at `budget: smoke`, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path / name)
    (path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    clone = Clone(path)
    clone.edit("params.yaml", "budget: standard", "budget: smoke")
    (path / "dvc.lock").unlink(missing_ok=True)
    clone.run("git", "init", "-q")
    (path / ".git/info/exclude").write_text("/.venv\n")  # a link here, a folder at home
    clone.commit()
    return clone


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The whole pipeline at `budget: smoke`, run once, registered and committed. Not to be changed: see `road`."""
    clone = fresh_clone(tmp_path_factory.mktemp("chain") / "clone")
    clone.repro()
    clone.commit("the smoke chain")
    return clone


@pytest.fixture
def road(chain: Clone, tmp_path: Path) -> Clone:
    """A copy of the chain of one's own, its registry moved along."""
    return copied(chain, tmp_path / "clone")


def copied(chain: Clone, path: Path) -> Clone:
    shutil.copytree(chain.path, path, symlinks=True)
    clone = Clone(path)
    clone.stage("register", "--write")
    return clone


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **how: object) -> subprocess.Popen[str]:
        started.append(subprocess.Popen(words, text=True, start_new_session=True, **how))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            os.killpg(one.pid, 9)
        one.wait()
