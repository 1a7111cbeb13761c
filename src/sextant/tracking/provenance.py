"""How a run was made: its commit, uncommitted changes, and the command that repeats it."""

import getpass
import hashlib
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from .. import config, paths

# Files that DVC and the stages write: a difference in them is not a change of the code or the conf.
GENERATED = (".", ":!dvc.lock", ":!reports")


# In a fresh clone: `dvc` and the `python` that its stages start are those of .venv.
ACTIVATE = ". .venv/bin/activate"


def made_by(
    model: str, dataset: str, commit: str, by_hand: bool, computed_on: str = ""
) -> tuple[list[str], str]:
    """The settings that differ from the commit's, and the command that repeats the training.

    The command is one line of a shell, for a clone that has nothing yet. `computed_on` names the
    processor, on which the bytes depend too.
    """
    if by_hand:
        settings, command = _made_by_hand(model)
        complete = not changes()
        steps = [f"make prepare DATASET={dataset}", ACTIVATE]
    else:
        settings, command, complete = _made_by_dvc(model)
        steps = [] if command[0] == "make" else ["make setup", ACTIVATE]
    repeat = " && ".join([f"git checkout {commit[:12]}", *steps, shlex.join(command)])
    remarks = [] if complete else ["and changes that were not committed"]
    if computed_on:
        remarks.append(f"on {computed_on}")
    return settings, "  # ".join([repeat, "; ".join(remarks)] if remarks else [repeat])


def _made_by_hand(model: str) -> tuple[list[str], list[str]]:
    """Settings and command of `sextant train`, from this process's command line."""
    arguments = sys.argv[2:]  # after the verb `train`
    overrides = [argument for argument in arguments if argument != f"model={model}"]
    settings = [override.removeprefix("model.") for override in overrides]
    return settings, ["python", "-m", "sextant", "train", f"model={model}", *overrides]


def _made_by_dvc(model: str) -> tuple[list[str], list[str], bool]:
    """Settings and command of stage train, and whether the command repeats all changes."""
    conf = paths.model_conf(model)
    settings: list[str] = []
    options: list[str] = []
    trainer = paths.CONF / "trainer.yaml"
    complete = not changes(paths.PARAMS, conf, trainer)
    for path, prefix in ((paths.PARAMS, ""), (conf, f"{conf}:"), (trainer, f"{trainer}:")):
        altered, only_values = _altered(path)
        complete = complete and only_values
        settings += altered
        for setting in altered:
            options += ["-S", f"{prefix}{setting}"]
    if options:
        return settings, ["dvc", "exp", "run", *options, f"train@{model}"], complete
    return settings, ["make", "train", f"MODEL={model}"], complete


def _altered(path: Path) -> tuple[list[str], bool]:
    """The values of a YAML file that differ from the commit's, and whether its keys match."""
    committed = _flat_yaml(git("show", f"HEAD:./{path}"), path)
    present = _flat_yaml(path.read_text(encoding="utf-8"), path)
    altered = []
    for key, value in present.items():
        if key in committed and committed[key] != value:
            altered.append(f"{key}=" + value.strip('"'))
    return altered, committed.keys() == present.keys()


def _flat_yaml(text: str, path: Path) -> dict[str, str]:
    return config.flat(config.parsed(text, str(path)) or {})


def git(*arguments: str) -> str:
    """The output of a git command; empty if there is no repository."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def changes(*excluded: Path) -> str:
    """The uncommitted changes, without generated and `excluded` files."""
    exclusions = [f":!{path}" for path in excluded]
    return git("status", "--porcelain", "--", *GENERATED, *exclusions).strip()


def pipeline(commit: str) -> str:
    """A digest of commit, changes and params, which runs of one `dvc repro` have in common."""
    parts = [
        commit,
        git("diff", "HEAD", "--", *GENERATED),
        paths.PARAMS.read_text(encoding="utf-8"),
    ]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


# --- who ----------------------------------------------------------------------------------------


def author() -> str:
    """Who runs this process: the address of a CI job, or else user and host."""
    return ci_job() or f"{user()}@{socket.gethostname()}"


def user() -> str:
    """The user's name, or number where the system has no name for it, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def ci_job() -> str:
    """The address of the job of GitHub Actions or GitLab that runs this process; else empty."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, run = (os.environ.get(name, "") for name in names)
    if server and repository and run:
        return f"{server}/{repository}/actions/runs/{run}"
    return os.environ.get("CI_JOB_URL", "")


def pull_request() -> str:
    """The number of the pull or merge request that a CI job runs for; else empty."""
    reference = os.environ.get("GITHUB_REF", "")
    if reference.startswith("refs/pull/"):
        return reference.split("/")[2]
    return os.environ.get("CI_MERGE_REQUEST_IID", "")
