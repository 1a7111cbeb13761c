"""How a run came about: commit, changes, and the command that repeats it."""

import hashlib
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config, paths

if TYPE_CHECKING:
    pass


def made_by(model: str, commit: str, by_hand: bool) -> tuple[list[str], str]:
    """The settings that are not the commit's, as `net.sigma=3.0`, and the command that trains with them again."""
    if by_hand:
        words = [word for word in sys.argv[1:] if word != f"model={model}"]
        settings = [word.removeprefix("model.") for word in words]
        command, told = (
            ["python", "-m", "sextant", "train", f"model={model}", *words],
            not changes(),
        )
    else:
        conf = paths.CONF / "model" / f"{model}.yaml"
        (run, all_of_run), (own, all_of_own) = _altered(paths.PARAMS), _altered(conf)
        settings = [*run, *own]
        options = [
            word for one in [*run, *(f"{conf}:{one}" for one in own)] for word in ("-S", one)
        ]
        command = (
            ["dvc", "exp", "run", *options, f"train@{model}"]
            if options
            else ["make", "train", f"MODEL={model}"]
        )
        told = all_of_run and all_of_own and not changes(paths.PARAMS, conf)
    again = f"git checkout {commit[:12]} && {shlex.join(command)}"
    return settings, again if told else f"{again}  # and changes that were not committed"


def _altered(path: Path) -> tuple[list[str], bool]:
    """The values of a YAML file that are not the commit's, and whether it differs in nothing else."""
    texts = git("show", f"HEAD:./{path}"), path.read_text(encoding="utf-8")
    was, now = (config.flat(config.parsed(text, str(path)) or {}) for text in texts)
    altered = [key for key in now if key in was and was[key] != now[key]]
    return [f"{key}=" + now[key].strip('"') for key in altered], was.keys() == now.keys()


ASIDE = (".", ":!dvc.lock", ":!reports")  # what DVC itself writes is no change


def git(*words: str) -> str:
    """What git says; nothing where there is no repository."""
    done = subprocess.run(["git", *words], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def changes(*aside: Path) -> str:
    """The files that are not the commit's, but for those `aside`."""
    return git("status", "--porcelain", "--", *ASIDE, *(f":!{path}" for path in aside)).strip()


def pipeline(commit: str) -> str:
    """The tag that joins one execution's runs."""
    whole = [commit, git("diff", "HEAD", "--", *ASIDE), paths.PARAMS.read_text(encoding="utf-8")]
    return hashlib.sha256(" ".join(whole).encode()).hexdigest()[:12]
