"""Progress of long work on standard error, and whether a stream may be coloured."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn, Self, TextIO, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

# Where no bar can be drawn, in a log, lines are few: short work prints none at all.
FIRST_LINE = 5.0  # seconds until the first line
NEXT_LINE = 10.0  # seconds between two lines

BAR = "{desc} |{bar}| {n:,.0f} of {total:,.0f} {unit}, %s {remaining} left{postfix}"
BAR_WITHOUT_TOTAL = "{desc}: {n:,.0f} {unit}{postfix}"
Item = TypeVar("Item")


def colored(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal and NO_COLOR (no-color.org) is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


class Progress:
    """Shows how much of some work is done: a bar on a terminal, elsewhere a line now and then.

    `what` names the work, `unit` what is counted. `total` is None if it is not known in advance.
    `left` qualifies the remaining time: "about", or "at most" for work that may stop early.
    """

    def __init__(self, what: str, total: float | None, unit: str, left: str = "about") -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self.left = left
        self.done = 0.0
        self.note = ""
        # Done by an earlier run: it took no time in this one, so the estimate leaves it out.
        self.first: float | None = None
        self.started = 0.0  # time of the first call of `at`
        self.due = 0.0  # time of the next line
        self.bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def at(self, done: float) -> None:
        """Set how much is done; the first call sets what was done before this run.

        It is cheap enough to be called for every step.
        """
        self.done = done
        if self.first is None:
            self._begin(done)
            return
        if self.bar is not None:
            self.bar.update(done - self.bar.n)
            return
        time_now = time.monotonic()
        if done != self.total and time_now >= self.due:
            self.due = time_now + NEXT_LINE
            print(self._line(time_now), file=sys.stderr, flush=True)

    def step(self) -> None:
        """Count one more unit as done."""
        self.at(self.done + 1)

    def set_note(self, note: str) -> None:
        """Set the text at the end of the bar and of the lines that follow."""
        self.note = note
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)

    def _begin(self, done: float) -> None:
        self.first = done
        self.started = time.monotonic()
        self.due = self.started + FIRST_LINE
        if done:
            resumed = f"{self.what}: continues after {done:,.0f} {self.unit}"
            print(resumed, file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            from tqdm import tqdm

            # delay=1: no bar for what takes less than a second.
            # smoothing=0: the mean speed; an epoch with validation would make a recent one jump.
            self.bar = tqdm(
                desc=self.what, total=self.total, initial=done, unit=self.unit,
                bar_format=BAR % self.left if self.total else BAR_WITHOUT_TOTAL,
                delay=1, smoothing=0, miniters=0, leave=False, dynamic_ncols=True,
            )  # fmt: skip

    def _line(self, time_now: float) -> str:
        done = f"{self.done:,.0f}"
        if self.total is not None:
            done += f" of {self.total:,.0f}"
        parts = [f"{self.what}: {done} {self.unit}"]
        done_in_this_run = self.done - (self.first or 0)
        if self.total is not None and done_in_this_run > 0:
            seconds_each = (time_now - self.started) / done_in_this_run
            parts.append(f"{self.left} {span(seconds_each * (self.total - self.done))} left")
        if self.note:
            parts.append(self.note)
        return ", ".join(parts)


def progress(items: Sequence[Item], what: str, unit: str) -> Iterator[Item]:
    """Yield the items and show a Progress; each counts as done when the next one is requested."""
    with Progress(what, len(items), unit) as display:
        display.at(0)
        for item in items:
            yield item
            display.step()


def span(seconds: float) -> str:
    """Return a duration in rounded words: `8 s`, `12 min`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min"
