"""A model as it is saved: weights, what its encoder learnt, and its card; raw rows in, answers out.

The folder holds model.safetensors and model.json and nothing that runs, so loading it runs nothing but this package.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import rooms
from .errors import DataError, UsageError, words
from .files import write_json, written_whole

WEIGHTS = "model.safetensors"
CARD = "model.json"
ROWS_AT_ONCE = 4096
NUMBERS_AT_ONCE = (
    2**21
)  # of a row that is a picture, fewer rows: what a net makes of one is a hundred times as large


@dataclass(frozen=True)
class Saved:
    """A model that answers raw rows in upstream columns."""

    card: Mapping[str, Any]
    net: nn.Module
    encoder: Any

    @property
    def task(self) -> Any:
        return rooms.module("tasks", self.card["task"])

    def read(self, path: str | Path) -> Any:
        """Rows from a file in the upstream format, from Parquet or from JSON records; pictures also from a folder."""
        try:
            return rooms.module("data", self.card["kind"]).read_rows(
                Path(path), self.encoder.columns
            )
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({words(error).lower()}); name a file of rows"
            ) from None

    def predict(self, frame: Any, params: Mapping[str, Any] | None = None) -> Any:
        """The answers to rows asked with; raises DataError for a row that cannot be answered.

        `params` may set what the task has under OPTIONS; `details`: True gives also the columns that its `score` needs
        and that it otherwise does not show. Raises UsageError for others.
        """
        details, options = _params(self.task, params or {})
        answers = self.answer(self.encoder.check(frame), **options)
        shown = getattr(self.task, "SHOWN", None)
        return answers[list(shown)] if shown and not details else answers

    def answer(self, rows: Any, **options: Any) -> Any:
        """The answers to rows of a prepared part."""
        found = outputs(self.net, self.encoder.encode(rows))
        return self.task.answers(found, rows, self.encoder, self.card["calibration"], **options)

    def questions(self, rows: Any) -> Any:
        """What to ask in order to score `rows`: these, or what a task's own `questions` makes of them."""
        return self.task.questions(rows, self.encoder) if hasattr(self.task, "questions") else rows

    def score(self, answers: Any, rows: Any) -> dict[str, float]:
        """The metrics on `rows` of the answers, this model's or another's, to their `questions`."""
        scores: dict[str, float] = self.task.score(answers, rows, self.encoder)
        return scores


def _params(task: Any, params: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether details are asked for, and the task's options."""
    known = [*getattr(task, "OPTIONS", {}), *(["details"] if hasattr(task, "SHOWN") else [])]
    unknown = [name for name in params if name not in known]
    if unknown:
        raise UsageError(
            f"unknown option `{unknown[0]}`; this model takes {', '.join(known) or 'none'}"
        )
    return bool(params.get("details")), {
        name: value for name, value in params.items() if name != "details"
    }


def build(family: str, sizes: Mapping[str, Any], net: Mapping[str, Any]) -> Any:
    """The net of a family: sizes by the names before the `*` of its constructor, the rest from conf."""
    constructor = rooms.family(family)
    positional = constructor.__init__.__code__.co_varnames[
        1 : constructor.__init__.__code__.co_argcount
    ]
    lacking = [name for name in positional if name not in sizes]
    if lacking:
        raise UsageError(
            f"family `{family}` needs the number of `{lacking[0]}`, which these data do not have; they have:"
            f" {', '.join(sizes)}; choose another family, or name the columns in conf/dataset/"
        )
    return constructor(**{name: sizes[name] for name in positional}, **net)


def outputs(net: Any, batch: Any) -> dict[str, Tensor]:
    """The tensors that a net predicts for a batch, a piece at a time, on the batch's device."""
    net.eval()
    with torch.no_grad():
        found = [net.predict(piece) for piece in pieces(batch)]
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}


def pieces(batch: Any) -> Iterator[Any]:
    """A batch in pieces that a net can take without asking for gigabytes."""
    numbers = sum(math.prod(t.shape[1:]) for t in batch)
    rows = min(ROWS_AT_ONCE, max(1, NUMBERS_AT_ONCE // max(1, numbers)))
    for piece in zip(*(t.split(rows) for t in batch), strict=True):
        yield type(batch)(*piece)


def save(folder: Path, card: Mapping[str, Any], net: nn.Module, encoder: Any) -> None:
    """Write the folder whole; its bytes depend on the arguments alone."""
    with written_whole(folder) as beside:
        beside.mkdir()
        save_file({name: t.contiguous() for name, t in net.state_dict().items()}, beside / WEIGHTS)
        write_json(beside / CARD, {**card, "sizes": encoder.sizes, "encoder": encoder.state()})


def load(folder: Path) -> Saved:
    """The inverse of `save`."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    kind = rooms.module("data", card["kind"])
    encoder = kind.Encoder.from_state(card["encoder"], kind.Columns(**card["columns"]))
    net = build(card["family"], card["sizes"], card["net"])
    net.load_state_dict(load_file(folder / WEIGHTS))
    return Saved(card, net.eval(), encoder)


def _load_pyfunc(path: str) -> Saved:
    """What MLflow calls to open a registered model."""
    return load(Path(path))
