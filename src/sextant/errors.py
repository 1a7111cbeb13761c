"""Errors whose message says in one line what is wrong, what was expected and what to do."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO, cast

from . import bytecode
from .redaction import Redacting, redact

LONGEST = 900  # characters of a message
LONGEST_VALUE = 200  # characters of a value in it, such as a cell
# The end of the line for a fault of the program, which names no remedy: what a user can cause has a
# line of its own where it is caught first.
GENERIC = "SEXTANT_DEBUG=1 shows the traceback"
# What stands in backticks or quotes, or a long word. Short values are matched too, since otherwise
# the end of one and the beginning of the next would be taken for the marks of a long one.
VALUE = re.compile(r"`[^`]*`|\"[^\"]*\"|(?<!\w)'[^']*'|\S{201,}")
# Modules that MLflow imports when an address asks for them: what needs one, and the extra with it.
EXTRA_OF_MODULE = {
    "boto3": ("an artifact store on S3", "s3"),
    "psycopg2": ("a database on PostgreSQL", "server"),
}


class SextantError(Exception):
    """A failure that the user can repair."""

    code = 1


class UsageError(SextantError):
    """Wrong usage: an unknown name, a misspelt key, a value out of range."""

    code = 2


class DataError(SextantError):
    """Data that do not match their conf or their expectations."""

    code = 12  # scheduled retraining distinguishes bad data from other failures


def one_line(error: BaseException) -> str:
    """The message of `error` in one line, with the repair if the cause is known."""
    text = " ".join(str(error).split())
    if isinstance(error, SextantError):
        return _shortened(text)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        target = error.filename or "an output"
        return (
            f"no space left while writing {target} ({error.strerror}): free some, then run the same"
            " command again"
        )
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRA_OF_MODULE:
        need, extra = EXTRA_OF_MODULE[error.name]
        return f"{need} needs {error.name}: `.venv/bin/pip install -e '.[{extra}]'` adds it"
    if isinstance(error, MemoryError):
        return (
            f"memory does not suffice ({text or 'no size is known'}): let the conf ask for less, or"
            " run the same command where there is more"
        )
    # MLflow's errors contain SQLAlchemy's: the reason, then the whole SQL statement in brackets.
    database_error = re.search(r"\(sqlite3\.\w+\) ([^\[(]+)", text)
    if database_error:
        return (
            f"the MLflow database refused ({database_error[1].strip()}); `make doctor` shows which"
            " program has locked it and how much space is left; then run the same command again"
        )
    return f"{type(error).__name__}: {text} ({GENERIC})"


def _shortened(text: str) -> str:
    """A message whose long values, and if need be whose middle, are cut out.

    Messages begin with the place and end with what to do.
    """
    text = VALUE.sub(lambda value: _without_middle(value[0], LONGEST_VALUE), text)
    return _without_middle(text, LONGEST)


def _without_middle(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]} … {text[-longest // 3 :]}"


def describe(error: BaseException) -> str:
    """The message of an exception for use in another message: redacted, one line, not empty."""
    message = error.strerror if isinstance(error, OSError) else None
    return redact(message or " ".join(str(error).split()) or type(error).__name__)


def reason(error: BaseException) -> str:
    """The message of the innermost cause: `Connection refused` and not the layers around it."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return describe(error)


def restore_hint(error: BaseException) -> str:
    """The command that restores the outputs that DVC deleted before the stage failed.

    DVC empties a stage's outputs before it runs it. If a stage after pull refuses the data, pull
    has already written them to dvc.lock, which has to be restored too. Empty for a stage that no
    commit, or no earlier run, has outputs of: then these commands restore nothing.
    """
    stage = os.environ.get("DVC_STAGE", "")
    if not stage:
        return ""
    if isinstance(error, DataError) and not stage.startswith("pull"):
        if not _has_outputs(stage, committed_lock()):
            return ""
        return (
            "; `git checkout dvc.lock && dvc checkout` restores data and outputs of the last commit"
        )
    if not _has_outputs(stage, lock_text()):
        return ""
    return "; `dvc checkout` restores the outputs of the last run"


def _has_outputs(stage: str, lock: str) -> bool:
    """Whether the text of a dvc.lock has an entry of a stage, such as `pull@churn`."""
    return f"\n  {stage}:\n" in lock


def lock_text() -> str:
    """The text of dvc.lock; empty if there is none."""
    try:
        return Path("dvc.lock").read_text(encoding="utf-8")
    except OSError:
        return ""


def committed_lock() -> str:
    """The text of dvc.lock in the last commit; empty if there is none, or no git."""
    import subprocess  # only after a failure

    command = ["git", "show", "HEAD:./dvc.lock"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def run(main: Callable[[list[str]], int | None]) -> None:
    """Run a command line: an error becomes one line on stderr and its exit code.

    SEXTANT_DEBUG=1 prints the traceback as well. Secrets are removed from all that is printed.
    """
    stdout = cast(TextIO, Redacting(sys.stdout))
    stderr = cast(TextIO, Redacting(sys.stderr))
    with redirect_stdout(stdout), redirect_stderr(stderr):
        _run(main)


def _run(main: Callable[[list[str]], int | None]) -> None:
    try:
        sys.exit(main(sys.argv[1:]) or 0)
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells report it
    except BrokenPipeError:  # the reader of our output has ended, as `head` does
        # Python flushes stdout at exit, which would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # 128 + SIGPIPE
    except Exception as error:
        if os.environ.get("SEXTANT_DEBUG") == "1":
            traceback.print_exc()
        torn = bytecode.remove_torn(error)
        if torn:
            error = SextantError(
                f"{torn} was damaged, as after a full disk, and is removed; run the same command"
                " again"
            )
        print(f"sextant: {one_line(error)}{restore_hint(error)}", file=sys.stderr)
        sys.exit(error.code if isinstance(error, SextantError) else 1)
