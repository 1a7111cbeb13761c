"""`dvc repro` with numbered stages: `[12/34] Running stage 'train@ann':`.

`sextant repro [stage ...]` (or `make repro`) passes its arguments to `dvc repro`, prints DVC's
other lines unchanged and ends with its exit code.
"""

import atexit
import logging
import sys
from collections.abc import Iterable
from typing import Any

from .. import terminal


class StageNumbers(logging.Filter):
    """Puts the number of a stage before DVC's lines about it: running, restored, or unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, str] = {}

    def plan(self, names: Iterable[str]) -> None:
        """Number the stages in the order in which DVC runs them."""
        stages = list(names)
        for number, name in enumerate(stages, start=1):
            self.numbers[name] = f"[{number}/{len(stages)}]"

    def filter(self, record: logging.LogRecord) -> bool:
        """Number a record whose one argument is a stage; all records pass."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        if len(arguments) == 1 and str(arguments[0]) in self.numbers:
            record.msg = f"{self.numbers[str(arguments[0])]} {record.msg}"
        return True


def main(argv: list[str]) -> int:
    """`sextant repro [stage ...]`: run `dvc repro` with these arguments; return its exit code."""
    from dvc.cli import main as dvc
    from dvc.logger import colorama
    from dvc.repo import reproduce

    numbers = StageNumbers()
    plan_repro = reproduce.plan_repro

    def numbering_plan(*args: object, **kwargs: object) -> list[Any]:
        """DVC's own plan, because computing it again would take seconds to read dvc.lock."""
        stages: list[Any] = plan_repro(*args, **kwargs)
        numbers.plan(stage.addressing for stage in stages)
        return stages

    reproduce.plan_repro = numbering_plan
    for handler in logging.getLogger("dvc").handlers:
        if handler.level == logging.INFO:
            handler.addFilter(numbers)
        # DVC colours the words WARNING and ERROR and does not read NO_COLOR.
        formatter: Any = handler.formatter
        formatter.log_colors = terminal.colored(sys.stderr)
    if not terminal.colored(sys.stdout):
        atexit.unregister(colorama.initialise.reset_all)  # it would print an escape sequence
    code: int = dvc(["repro", *argv])
    return code
