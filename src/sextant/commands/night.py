"""The branch of a retraining: pins are committed before the training, its outputs after.

A run then records the commit that made it, without uncommitted changes, so that the command in its
tag `reproduce` works. A branch is never reused, because the commit of a live model must stay.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from ..errors import SextantError, UsageError

OUTPUTS = (
    *("conf/dataset", "dvc.lock", "reports/metrics", "reports/validation"),
    "reports/processors",
)
# For a machine without an identity, such as a runner of a CI.
IDENTITY = ("-c", "user.name=Sextant", "-c", "user.email=sextant@localhost")


@dataclass(frozen=True)
class Night:
    """A branch for one retraining, and the branch or commit that it began at."""

    branch: str
    start: str

    def commit_pins(self, lines: Sequence[str]) -> None:
        """Commit the pins of the new data; nothing if there are none."""
        git("add", "conf/dataset")
        if git("diff", "--cached", "--name-only"):
            commit("Pin new data", "\n".join(lines))

    def commit_outputs(self, subject: str, body: str) -> None:
        """Commit what the pipeline wrote, with the decisions as the text of the commit."""
        present = [path for path in OUTPUTS if git("status", "--porcelain", "--", path)]
        if present:
            git("add", "--", *present)
            commit(subject, body)

    def leave(self) -> None:
        """Return to the start and delete the branch: there is nothing to merge."""
        git("switch", "--quiet", "--force", *self._start())
        git("branch", "--quiet", "-D", self.branch)

    def _start(self) -> list[str]:
        is_branch = git_succeeds("show-ref", "--verify", "--quiet", f"refs/heads/{self.start}")
        return [self.start] if is_branch else ["--detach", self.start]


def begin(name: str) -> Night:
    """Create a branch `name`, or `name-2` and so on where that exists, here or on the remote.

    Raises UsageError outside of git, for uncommitted changes and for a name that git refuses.
    """
    if not git_succeeds("rev-parse", "--verify", "--quiet", "HEAD"):
        raise UsageError(f"BRANCH={name}: this folder is no git repository with a commit")
    if not git_succeeds("check-ref-format", "--branch", name):
        raise UsageError(f"BRANCH={name} is no name of a branch")
    changed = git("status", "--porcelain", "--untracked-files=no")
    if changed:
        files = ", ".join(line.split(maxsplit=1)[-1] for line in changed.splitlines()[:3])
        raise UsageError(
            f"BRANCH={name}: there are uncommitted changes ({files}); commit or stash them first"
        )
    start = git("branch", "--show-current") or git("rev-parse", "HEAD")
    taken = _branches()
    free = name
    for number in count(2):
        if free not in taken:
            break
        free = f"{name}-{number}"
    git("switch", "--quiet", "-c", free)
    return Night(free, start)


def _branches() -> set[str]:
    """The names of all branches, here and on the remote `origin` if there is one."""
    names = set(git("for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines())
    if git_succeeds("remote", "get-url", "origin"):
        for line in git("ls-remote", "--heads", "origin").splitlines():
            names.add(line.split("refs/heads/", 1)[-1])
    return names


def commit(subject: str, body: str) -> None:
    """Commit what is staged; without hooks, which check the changes of people."""
    identity = () if git_succeeds("config", "user.email") else IDENTITY
    git(*identity, "commit", "--quiet", "--no-verify", "-m", subject, "-m", body)


def git(*arguments: str) -> str:
    """The output of a git command; raises SextantError with the last line of one that fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        command = " ".join(argument for argument in arguments if not argument.startswith("-"))
        raise SextantError(f"`git {command.splitlines()[0]}` failed: {lines[-1]}")
    return done.stdout.strip()


def git_succeeds(*arguments: str) -> bool:
    """Whether a git command ends with code 0."""
    return subprocess.run(["git", *arguments], capture_output=True).returncode == 0
