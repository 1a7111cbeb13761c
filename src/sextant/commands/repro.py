"""`dvc repro` with numbered stages, side by side: `[12/34] Running stage 'train@ann':`.

`sextant repro [stage ...] [jobs=n]` passes its other arguments to `dvc repro`, prints DVC's lines
and ends with its exit code. With `--whole` (`make repro`) it also does what belongs before and
after: it checks every conf, and judges the models and prints the leaderboard.
"""

import atexit
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from .. import config, files, fork_server, processor, site_cache, terminal
from ..check import LISTED
from ..errors import SextantError, UsageError
from . import leaderboard, leftovers, scheduler
from .slots import Need

if TYPE_CHECKING:
    from dvc.stage import Stage

WHOLE = "--whole"
POLL = 0.5  # seconds between two looks at whether another command still runs
MIB = 2**20
# By stage, what one run takes on the twins at `budget: standard`: seconds on one core, and the peak
# of resident memory, of which half as much again is asked for.
SECONDS = {"pull": 2, "validate": 1, "prepare": 1, "train": 30, "evaluate": 5, "register": 5}
MEMORY = {"pull": 170, "validate": 300, "prepare": 200, "train": 900, "evaluate": 700}
OTHER_SECONDS = 1
OTHER_MEMORY = 400
RESERVE = 1.5
FULL = 4 * MIB  # with less on a disk, its being full is the likely cause of any failure
INTERRUPTED = 252  # DVC's exit code after Ctrl-C
STOPPING = (signal.SIGTERM, signal.SIGHUP)


class StageNumbers(logging.Filter):
    """Puts the number of a stage before DVC's lines about it: running, restored, or unchanged.

    Where several stages can run at the same time, their other lines begin with the stage's name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, str] = {}
        self.several = False

    def plan(self, stages: Sequence["Stage"], several: bool) -> None:
        """Number the stages in the order in which DVC runs them one by one."""
        self.several = several
        for number, stage in enumerate(stages, start=1):
            self.numbers[stage.addressing] = f"[{number}/{len(stages)}]"

    def filter(self, record: logging.LogRecord) -> bool:
        """Number a record whose one argument is a stage; all records pass."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        if len(arguments) == 1 and str(arguments[0]) in self.numbers:
            record.msg = f"{self.numbers[str(arguments[0])]} {record.msg}"
        elif self.several and record.threadName in self.numbers:
            record.msg = f"{record.threadName} | {record.msg}"
        return True


def parse(argv: Sequence[str]) -> tuple[int, bool, list[str]]:
    """The number of slots, whether `--whole` is there, and the arguments of `dvc repro`.

    Raises UsageError for a number of jobs below 1 or none at all.
    """
    jobs = len(os.sched_getaffinity(0))
    arguments = []
    for argument in argv:
        name, _, value = argument.partition("=")
        if name != "jobs":
            arguments.append(argument)
        elif value.isdecimal() and int(value) > 0:
            jobs = int(value)
        else:
            raise UsageError(
                f"jobs={value}: expected a whole number above 0, of stages that run side by side;"
                " without it, there are as many as cores"
            )
    whole = WHOLE in arguments
    return jobs, whole, [argument for argument in arguments if argument != WHOLE]


def check_writable() -> None:
    """Raise SextantError in a clone that this user may not write."""
    if Path(".dvc").is_dir() and not os.access(".dvc", os.W_OK):
        owner = site_cache.other_owner(Path(".dvc")) or "this user"
        raise SextantError(
            f"this clone belongs to {owner} and cannot be written; work in a clone of your own:"
            f" git clone {Path.cwd()}"
        )


@contextmanager
def alone() -> Iterator[None]:
    """Keep a second `sextant repro` out of this clone.

    Raises SextantError if one is running.
    """
    path = Path(".dvc/tmp/sextant-repro")
    if not Path(".dvc").is_dir():  # DVC refuses to run here
        yield
        return
    doing = "running the pipeline of this clone already; wait for its end, or stop it"
    with files.locked(path, doing):
        yield


@contextmanager
def in_turn() -> Iterator[None]:
    """Wait until no other `sextant repro` runs in this clone, then keep others out of it."""
    waits = False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(alone())
                break
            except SextantError as error:
                if not waits:
                    running = str(error).partition(";")[0]
                    print(f"sextant: {running}; this command waits for its end", file=sys.stderr)
                waits = True
                time.sleep(POLL)
        yield


def threads() -> dict[str, int]:
    """By model, the threads that its conf gives to it; empty if a conf is faulty."""
    counts = {}
    try:
        for name in config.params().models:
            counts[name] = int(config.model(name).schedule["threads"])
    except (SextantError, KeyError, TypeError, ValueError):  # `check` or the stage explains it
        return {}
    return counts


def free_memory() -> int:
    """The bytes that programs can take without swapping."""
    import psutil

    return psutil.virtual_memory().available


def run_stages(arguments: Sequence[str], jobs: int) -> int:
    """Run `dvc repro` with `jobs` slots; return its exit code."""
    from dvc.cli import main as dvc
    from dvc.logger import colorama

    site_cache.keep_private()
    threads_of = threads() if jobs > 1 else {}

    def need(stage: "Stage") -> Need:
        kind, _, name = stage.addressing.partition("@")
        slots = threads_of.get(name, 1) if kind in ("train", "evaluate", "register") else 1
        memory = int(RESERVE * MEMORY.get(kind, OTHER_MEMORY) * MIB)
        return Need(slots, memory, SECONDS.get(kind, OTHER_SECONDS) * slots)

    numbers = StageNumbers()

    scheduler.install(jobs, free_memory, need, numbers.plan)
    for handler in logging.getLogger("dvc").handlers:
        if handler.level in (logging.INFO, logging.WARNING):
            handler.addFilter(numbers)
        # DVC colours the words WARNING and ERROR and does not read NO_COLOR.
        formatter: Any = handler.formatter
        formatter.log_colors = terminal.colored(sys.stderr)
    if not terminal.colored(sys.stdout):
        atexit.unregister(colorama.initialise.reset_all)  # it would print an escape sequence
    code: int = dvc(["repro", *arguments])
    if code:
        explain_full_disk()
    return 130 if code == INTERRUPTED else code


def explain_full_disk() -> None:
    """Say that the disk is full, if it is: DVC's database reports an "I/O error" only."""
    free = shutil.disk_usage(".").free
    if free < FULL:
        print(
            f"sextant: no space left on the disk of {Path.cwd()} ({free:,} bytes): free some, then"
            " run the same command again",
            file=sys.stderr,
        )


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # as shells report it


def _run_verb(*arguments: str) -> int:
    """Run a verb in another process, which ends if this one is interrupted."""
    return subprocess.run([sys.executable, "-m", "sextant", *arguments]).returncode


def main(argv: list[str]) -> int:
    """`sextant repro [--whole] [stage ...] [jobs=n]`: return the exit code of the first failure."""
    jobs, whole, arguments = parse(argv)
    check_writable()
    for number in STOPPING:
        signal.signal(number, _end)
    # Two people who train two models share a clone; two whole runs would do the same twice.
    with in_turn() if arguments and not whole else alone():
        leftovers.remove()
        if not whole:
            return run_stages(arguments, jobs)
        with fork_server.running(at_once=True) as variables:
            # Plainly, while the server imports the libraries.
            code = _run_verb("check", LISTED)
            if code:
                return code
            os.environ.update(variables)
            code = run_stages(arguments, jobs)
            if code:
                return code
            code = _run_verb("register", "--write")
        if code == 0:
            leaderboard.main([])
            explanation = processor.explanation(config.params().models)
            if explanation:
                print(explanation)
        return code
