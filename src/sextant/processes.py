"""Other processes: whether one still runs, and what a command prints."""

import subprocess
from collections.abc import Sequence

from .errors import SextantError


def is_alive(pid: int, seen: float) -> bool:
    """Whether process `pid` runs, and began before `seen`, in seconds since 1970.

    One that began later has the number of a process that has ended. A zombie has ended, although
    nobody has asked for its exit code yet.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        begun: float = process.create_time()
        has_ended = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return not has_ended and begun <= seen + 1  # a process's start is rounded


def output_of(title: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command; raises SextantError with its last line if it fails.

    `title` is the command as a message names it.
    """
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it gives no reason"]
        raise SextantError(f"`{title}` ended with {done.returncode}: {lines[-1]}")
    return done
