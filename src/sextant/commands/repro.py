"""The pipeline as DVC runs it, each stage told with its place: `[12/34] Running stage 'train@ann':`.

    python -m sextant.repro [stage ...]       (or `make repro`)

is `dvc repro [stage ...]`, with its options, all else that it says, and its code.
"""

import atexit
import logging
import sys
from collections.abc import Iterable
from typing import Any

from .. import terminal


class Numbered(logging.Filter):
    """Puts its place before what DVC says of a stage: that it runs, is restored, or has not changed."""

    places: dict[str, str] = {}

    def plan(self, stages: Iterable[str]) -> None:
        """The names of the stages, in the order in which DVC comes to them."""
        names = list(stages)
        self.places = {name: f"[{place}/{len(names)}]" for place, name in enumerate(names, 1)}

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.args if isinstance(record.args, tuple) else ()
        if len(said) == 1 and str(said[0]) in self.places:
            record.msg = f"{self.places[str(said[0])]} {record.msg}"
        return True


def main(argv: list[str]) -> int:
    """`dvc repro` with these words; its exit code."""
    from dvc.cli import main as dvc
    from dvc.logger import colorama
    from dvc.repo import reproduce

    numbered, planned = Numbered(), reproduce.plan_repro

    def plan_repro(*graph: Any, **options: Any) -> list[Any]:
        """DVC's own plan, overheard: to ask for it beforehand would read dvc.lock twice more, which takes seconds."""
        stages: list[Any] = planned(*graph, **options)
        numbered.plan(stage.addressing for stage in stages)
        return stages

    reproduce.plan_repro = plan_repro
    for handler in logging.getLogger("dvc").handlers:
        if handler.level == logging.INFO:
            handler.addFilter(numbered)
        form: Any = handler.formatter
        form.log_colors = terminal.colored(
            sys.stderr
        )  # of the words WARNING and ERROR; DVC knows no NO_COLOR
    if not terminal.colored(sys.stdout):
        atexit.unregister(colorama.initialise.reset_all)  # which would end with a colour
    code: int = dvc(["repro", *argv])
    return code
