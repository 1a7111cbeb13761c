"""End a search early: Ctrl-C, the end of the time, or the end of the command that started a job."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """The search ends before its last trial."""


class Stop:
    """Whether to end, which a training asks at each step.

    A signal only sets a mark: Lightning answers a KeyboardInterrupt with an exit of its own, and
    ignores all further ones. A second signal ends the process at once, as it does otherwise.

    until: time, as of `time.time`, at which the search ends; None: never.
    parent: the process without which this one has no purpose; None: there is none.
    """

    def __init__(self, until: float | None = None, parent: int | None = None) -> None:
        self.until = until
        self.parent = parent
        self.signal: int | None = None

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self.until is not None and time.time() >= self.until

    def look(self, epochs: float = 0.0) -> None:
        """Raise Stopped if the search has to end; `epochs` is what a training counts."""
        if self.signal is not None or self.late:
            raise Stopped
        if self.parent is not None and not _runs(self.parent):
            raise Stopped

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Mark a signal instead of ending, within the block."""
        earlier = {number: signal.getsignal(number) for number in SIGNALS}

        def mark(number: int, frame: FrameType | None) -> None:
            self.signal = number
            for each, handler in earlier.items():
                signal.signal(each, handler)

        for number in SIGNALS:
            signal.signal(number, mark)
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
