"""The command line of a script: `name=value` for the fields of its options."""

import subprocess
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from _clones import ROOT

from sextant.errors import UsageError

T = TypeVar("T", bound=NamedTuple)


def parsed(options: T, argv: Sequence[str]) -> T:
    """The options with the values of the command line; raises UsageError for another name."""
    for argument in argv:
        name, equals, value = argument.partition("=")
        if not equals or name not in options._fields:
            expected = "=, ".join(options._fields)
            raise UsageError(f"`{argument}` is not understood; expected {expected}=")
        options = options._replace(**{name: value})
    return options


def short_hash(commit: str) -> str:
    """The short hash of a commit; raises UsageError if there is none of that name."""
    done = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--verify", "--short", f"{commit}^{{commit}}"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UsageError(f"against={commit}: no such commit in this repository")
    return done.stdout.strip()
