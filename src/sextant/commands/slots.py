"""Which stages may run at the same time: their slots, their memory and their priorities."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

LOOK_AGAIN = 5.0  # seconds until the free memory is read again, which other programs change too


@dataclass(frozen=True, eq=False)
class Need:
    """What a stage takes while it runs: slots, which are threads, and bytes of memory.

    A stage of higher priority runs before those of lower ones.
    """

    slots: int
    memory: int
    priority: float


class Slots:
    """Lets stages run side by side as far as slots and memory suffice.

    Of the stages that fit beside the running ones, that of the highest priority is the next one. A
    smaller one overtakes a stage that waits for several slots: with two slots, the second one would
    otherwise be idle for as long as a long training runs on the first. A stage that needs more
    slots than there are takes all, and one that needs more memory than there is runs alone.
    """

    def __init__(self, count: int, free_memory: Callable[[], int]) -> None:
        self.count = count
        self.free_memory = free_memory
        self.idle_memory = free_memory()  # as it was when no stage was running
        self.changed = threading.Condition()
        self.queue: list[Need] = []
        self.running: list[Need] = []
        self.closed = False

    def register(self, need: Need) -> None:
        """Queue a stage that may have to run; until it has entered or left, lower ones wait.

        They do not wait for one that does not fit.
        """
        with self.changed:
            self.queue.append(need)

    def enter(self, need: Need) -> bool:
        """Wait for the turn of a registered stage; return False if no stage may start any more."""
        with self.changed:
            while not self.closed and not self._is_next(need):
                self.changed.wait(LOOK_AGAIN)
            if self.closed:
                return False
            self.queue.remove(need)
            self.running.append(need)
            self.changed.notify_all()
            return True

    def leave(self, need: Need) -> None:
        """Remove a stage that has ended or does not have to run."""
        with self.changed:
            for stages in (self.queue, self.running):
                if need in stages:
                    stages.remove(need)
            self.changed.notify_all()

    def close(self) -> None:
        """Let no further stage start."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _is_next(self, need: Need) -> bool:
        if not self.running:
            self.idle_memory = self.free_memory()
        fitting = [queued for queued in self.queue if self._fits(queued)]
        return max(fitting, key=lambda queued: queued.priority, default=None) is need

    def _fits(self, need: Need) -> bool:
        if not self.running:
            return True
        slots = sum(other.slots for other in self.running)
        # What the running stages are expected to take, because they may not have taken it yet.
        expected = sum(other.memory for other in self.running)
        return (
            slots + need.slots <= self.count
            and expected + need.memory <= self.idle_memory
            and need.memory <= self.free_memory()
        )
