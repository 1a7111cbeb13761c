"""How far a long piece of work is, and whether a stream may be coloured. All of it goes to standard error."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self, TextIO, TypeVar

FIRST, EVERY = (
    5.0,
    10.0,
)  # seconds until the first line, and between two of them, where no bar can be drawn
BAR = "{desc} |{bar}| {n:,.0f} of {total:,.0f} {unit}, %s {remaining} left{postfix}"
ENDLESS = "{desc}: {n:,.0f} {unit}{postfix}"
Item = TypeVar("Item")


def colored(stream: TextIO) -> bool:
    """Whether colours may be written: on a terminal, and where nobody forbids them (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


class Progress:
    """How far `what` is, in `unit`s: a bar on a terminal, elsewhere a line now and then; none for what is soon done.

    `total` is None where nobody knows it. `left` says how sure the remaining time is: with an end that may come earlier
    it is "at most".
    """

    def __init__(self, what: str, total: float | None, unit: str, left: str = "about"):
        self.what, self.total, self.unit, self.left = what, total, unit, left
        self.done, self.note = 0.0, ""
        self.first: float | None = None  # which says nothing about how fast this goes
        self.begun = self.due = 0.0  # when that was, and when the next line is due
        self.bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def at(self, done: float) -> None:
        """So much is done now; the first time, what was done before. Cheap enough to be said of every step."""
        self.done = done
        if self.first is None:
            self._begin(done)
        elif self.bar is not None:
            self.bar.update(done - self.bar.n)
        elif done != self.total and (now := time.monotonic()) >= self.due:
            self.due = now + EVERY
            print(self._line(now), file=sys.stderr, flush=True)

    def step(self) -> None:
        """One more is done."""
        self.at(self.done + 1)

    def say(self, note: str) -> None:
        """What to add to the bar or line from now on."""
        self.note = note
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)

    def _begin(self, done: float) -> None:
        self.first, self.begun = done, time.monotonic()
        self.due = self.begun + FIRST
        if done:
            print(
                f"{self.what}: goes on after {done:,.0f} {self.unit}", file=sys.stderr, flush=True
            )
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                desc=self.what, total=self.total, initial=done, unit=self.unit,
                bar_format=BAR % self.left if self.total else ENDLESS,
                delay=1, smoothing=0, miniters=0, leave=False, dynamic_ncols=True,
            )  # fmt: skip

    def _line(self, now: float) -> str:
        done = f"{self.done:,.0f}"
        if self.total is not None:
            done += f" of {self.total:,.0f}"
        words = [f"{self.what}: {done} {self.unit}"]
        gone = self.done - (self.first or 0)
        if self.total is not None and gone > 0:
            words.append(
                f"{self.left} {span((now - self.begun) / gone * (self.total - self.done))} left"
            )
        return ", ".join([*words, *filter(None, [self.note])])


def progress(items: Sequence[Item], what: str, unit: str) -> Iterator[Item]:
    """The items, each counted once it was dealt with."""
    with Progress(what, len(items), unit) as told:
        told.at(0)
        for item in items:
            yield item
            told.step()


def span(seconds: float) -> str:
    """A time as one says it: `8 s`, `12 min`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
