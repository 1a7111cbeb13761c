"""Errors that hand over the repair: what was got, what was expected, what to do next, in one line."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable


class SextantError(Exception):
    """Something failed that the user can mend."""

    code = 1


class UsageError(SextantError):
    """The question itself is wrong: an unknown name, a misspelt key, a value out of range."""

    code = 2


class DataError(SextantError):
    """The data are not what their conf and their expectations say."""

    code = 12


def one_line(error: BaseException) -> str:
    """The message of `error` in one line, with the repair where the cause is known."""
    text = " ".join(str(error).split())
    if isinstance(error, SextantError):
        return text
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        what = error.filename or "an output"
        return f"no space left while writing {what} ({error.strerror}): free some, then run the same command again"
    if found := re.search(
        r"\(sqlite3\.\w+\) ([^\[(]+)", text
    ):  # in MLflow's errors, before a whole SQL statement
        return (
            f"the MLflow database refused ({found[1].strip()}); `make doctor` says who holds it and what space is left;"
            " then run the same command again"
        )
    return f"{type(error).__name__}: {text} (SEXTANT_DEBUG=1 shows where)"


def redact(text: str) -> str:
    """Addresses as a message may show them: without user, password and query, which can be secrets."""
    return re.sub(r"(://[^\s?]*)\?[^\s)'\"]*", r"\1", re.sub(r"://[^\s/@]*@", "://", text))


def describe(error: BaseException) -> str:
    """What an exception says, as a message may show it."""
    said = error.strerror if isinstance(error, OSError) else None
    return redact(said or " ".join(str(error).split()) or type(error).__name__)


def reason(error: BaseException) -> str:
    """Why, in the words of the exception at the bottom: `Connection refused` and not the layers above it."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return describe(error)


def restore_hint(error: BaseException) -> str:
    """The command that brings back what DVC emptied before the stage could refuse.

    Data that a stage after pull refuses are in dvc.lock already: there pull had taken them.
    """
    stage = os.environ.get("DVC_STAGE", "")
    if not stage:
        return ""
    if isinstance(error, DataError) and not stage.startswith("pull"):
        return (
            "; `git checkout dvc.lock && dvc checkout` restores data and outputs of the last commit"
        )
    return "; `dvc checkout` restores the outputs as they last were"


def run(main: Callable[[list[str]], int | None]) -> None:
    """Run a command line: one line on stderr and the error's exit code; a traceback with SEXTANT_DEBUG=1."""
    try:
        sys.exit(main(sys.argv[1:]) or 0)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("SEXTANT_DEBUG") == "1":
            traceback.print_exc()
        print(f"sextant: {one_line(error)}{restore_hint(error)}", file=sys.stderr)
        sys.exit(error.code if isinstance(error, SextantError) else 1)
