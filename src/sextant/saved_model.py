"""A saved model: the weights, the state of the encoder, and the card; it answers raw rows.

The folder contains model.safetensors and model.json and no code, so that loading it runs nothing
but this package.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import plugins
from .errors import DataError, UsageError, describe
from .files import read_json, readable, write_json, written_whole
from .kinds.remarks import summary

if TYPE_CHECKING:
    from . import contracts

B = TypeVar("B", bound="contracts.Batch")

WARNINGS = "warnings"  # the last column of an answer
WEIGHTS = "model.safetensors"
CARD = "model.json"
CHUNK_ROWS = 4096
# Numbers in the inputs of a chunk. Pictures reach it at fewer rows: the activations of a net are
# about a hundred times as large as its input.
CHUNK_NUMBERS = 2**21
# By kind, the tasks of which an answer depends on its row alone: encoder and task compute nothing
# across rows, and draw nothing. Rows of series and ratings belong together; scenarios are drawn.
ROW_BY_ROW = {
    "tabular": ("classification", "regression", "outliers", "mapping"),
    "images": ("classification",),
}


@dataclass(frozen=True)
class SavedModel:
    """A model that answers raw rows in upstream columns."""

    card: Mapping[str, Any]
    net: nn.Module
    encoder: "contracts.Encoder"

    @property
    def task(self) -> plugins.Task:
        return plugins.task(self.card["task"])

    def read(self, path: str | Path) -> "pd.DataFrame":
        """Rows from a file in the upstream format, Parquet or JSON records; pictures also from a
        folder.

        Raises DataError for a file that cannot be read.
        """
        try:
            rows = plugins.kind(self.card["kind"]).rows
            return rows.read_rows(Path(path), self.encoder.columns)
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({describe(error).lower()}); name a file of rows"
            ) from None

    def predict(
        self, frame: "pd.DataFrame", params: Mapping[str, "contracts.Option"] | None = None
    ) -> "pd.DataFrame":
        """The answers to input rows; raises DataError for a row that cannot be answered.

        Numbers in answers are finite.

        The first columns identify the row, if it came with them: its key, or the path of a picture.
        The last one, `warnings`, says what is unusual about a row, and is empty otherwise; each
        different text is also a warning of Python.

        `params` may set the options of the task; `details: True` adds the columns that `score`
        needs and callers usually do not, and `explain: True` those that say why; see reasons.py.
        Raises UsageError for an unknown option.
        """
        return self.predict_requests(frame, [len(frame)], params)

    @property
    def answers_each_row_alone(self) -> bool:
        """Whether an answer depends on its row alone, so that requests can be answered together."""
        return self.card["task"] in ROW_BY_ROW.get(self.card["kind"], ())

    def predict_requests(
        self,
        frame: "pd.DataFrame",
        counts: Sequence[int],
        params: Mapping[str, "contracts.Option"] | None = None,
    ) -> "pd.DataFrame":
        """The answers to the rows of several requests, each equal to `predict` of that request.

        `counts` are the rows of each request. The net gets the rows of one request at a time: a
        product of matrices differs in its last digits with the number of rows.
        """
        flags, options = self._options(params or {})
        rows = self.encoder.check(frame)
        if len(counts) > 1:
            answers = self._answers(self._outputs(rows, counts), rows, options)
        else:
            answers = self.answer(rows, **options)
        check_finite(answers)
        remarks = self._remarks(rows, answers)
        for line in summary(remarks):
            warnings.warn(line, stacklevel=3)
        reasons = self._reasons(rows, answers, counts, options) if "explain" in flags else None
        if "details" not in flags:
            answers = self.task.public(answers, options)
        if reasons is not None:
            answers = pd.concat([answers, reasons], axis=1)
        named = with_names(answers, rows, self.named_by)
        if len(answers) != len(rows):
            named = named.reset_index(drop=True)
        return named.assign(**{WARNINGS: pd.Series(remarks, index=named.index, dtype="str")})

    def _outputs(self, rows: "pd.DataFrame", counts: Sequence[int]) -> dict[str, Tensor]:
        """The tensors that the net predicts, request by request."""
        family = cast("contracts.Family", self.net)
        batch = self.encoder.encode(rows)
        self.net.eval()
        parts = []
        start = 0
        with torch.no_grad():
            for count in counts:
                request = plugins.take(batch, slice(start, start + count))
                parts += [family.predict(chunk) for chunk in chunks(request)]
                start += count
        return _joined(parts)

    @property
    def named_by(self) -> list[str]:
        """The columns that identify an input row; a caller may leave them out."""
        return plugins.optional(self.encoder, "named_by", [])

    def _remarks(self, rows: "pd.DataFrame", answers: "pd.DataFrame") -> list[str]:
        """What is unusual about the row of each answer; empty texts where nothing is."""
        remarks: Callable[[pd.DataFrame, pd.DataFrame], list[str]] | None
        remarks = plugins.optional(self.encoder, "remarks", None)
        if remarks is None:
            return [""] * len(answers)
        texts = remarks(rows, answers)
        if len(texts) != len(answers):  # one for each row, and several answers to some
            texts = [texts[position] for position in answers.index]
        return texts

    def schema(self) -> "list[contracts.Column]":
        """The input columns: those that identify a row, which are optional, and the encoder's.

        A key is `string`, which takes the numbers of JSON as they are, and keeps the zeros of 007.
        """
        names = [(name, "string", False) for name in self.named_by]
        return [*names, *self.encoder.schema()]

    @property
    def flags(self) -> list[str]:
        """The options that a caller may set beside those of the task."""
        names = []
        if self.task.hides_columns:
            names.append("details")
        has_typical = plugins.optional(self.encoder, "typical", None) is not None
        if has_typical and self.task.explained is not None:
            names.append("explain")
        return names

    def _options(
        self, params: Mapping[str, "contracts.Option"]
    ) -> tuple[set[str], dict[str, "contracts.Option"]]:
        """The flags that are set, and the options of the task."""
        flags = self.flags
        allowed = [*self.task.options, *flags]
        for name in params:
            if name not in allowed:
                raise UsageError(
                    f"unknown option `{name}`; this model takes {', '.join(allowed) or 'none'}"
                )
        options = {name: value for name, value in params.items() if name not in flags}
        return {name for name in flags if params.get(name)}, options

    def _reasons(
        self,
        rows: "pd.DataFrame",
        answers: "pd.DataFrame",
        counts: Sequence[int],
        options: "Mapping[str, contracts.Option]",
    ) -> "pd.DataFrame":
        """The columns that moved each answer most, request by request as the net's outputs."""
        from .reasons import Question, reasons

        explained = self.task.explained
        if explained is None or len(answers) != len(rows):
            raise UsageError(
                "`explain` goes with one answer to a row; leave it out, or the other options"
            )
        typical: Mapping[str, float | str | None] = plugins.optional(self.encoder, "typical", {})

        def answer(question: "pd.DataFrame") -> "pd.DataFrame":
            return self.answer(question, **options)

        def number(some: "pd.DataFrame", base: "pd.DataFrame") -> np.ndarray:
            return explained(some, base, self.encoder)

        parts = []
        start = 0
        for count in counts:
            request = slice(start, start + count)
            question = Question(rows.iloc[request], answers.iloc[request], typical)
            parts.append(reasons(question, answer, number))
            start += count
        return pd.concat(parts).set_axis(answers.index)

    def answer(self, rows: "pd.DataFrame", **options: "contracts.Option") -> "pd.DataFrame":
        """The answers to the rows of a prepared part."""
        return self._answers(outputs(self.net, self.encoder.encode(rows)), rows, options)

    def _answers(
        self,
        tensors: Mapping[str, Tensor],
        rows: "pd.DataFrame",
        options: "Mapping[str, contracts.Option]",
    ) -> "pd.DataFrame":
        """The answers from the tensors that the net predicts for `rows`."""
        calibration = self.card["calibration"]
        answers = self.task.metrics.answers
        return plugins.call(
            answers, tensors, rows, self.encoder, calibration, net=self.net, **options
        )

    def inputs(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """The rows that have to be answered in order to score `rows`: usually `rows` themselves."""
        make_inputs = plugins.optional(self.task.metrics, "inputs", None)
        return make_inputs(rows, self.encoder) if make_inputs else rows

    def score(self, answers: "pd.DataFrame", rows: "pd.DataFrame") -> dict[str, float]:
        """The metrics on `rows` of the answers to their `inputs`, by this or another model."""
        return self.task.metrics.score(answers, rows, self.encoder)

    def decided(self, answers: "pd.DataFrame") -> "pd.DataFrame":
        """Answers of another model or of a baseline, with predictions by this model's rule.

        A rule that finds more churners has a lower accuracy. Compared with the most probable class
        of a baseline, it would always lose.
        """
        decided = plugins.optional(self.task.metrics, "decided", None)
        return decided(answers, self.encoder, self.card["calibration"]) if decided else answers

    def fit_baseline(self, fit: "contracts.Fit", parts: "contracts.Parts") -> "contracts.Answer":
        """A baseline, fitted on the train part with what its signature names.

        It predicts by the rule of this model.
        """
        answer = plugins.call(
            fit,
            parts["train"],
            self.encoder.columns,
            encoder=self.encoder,
            net=self.card["net"],
            val=parts["val"],
        )
        return lambda rows: self.decided(answer(rows))


def check_finite(answers: pd.DataFrame) -> None:
    """Raise DataError for a number in answers that is NaN or infinite, with the row that has it.

    Encoders clip what is far from the training rows. What still overflows is refused here, because
    such a number is no answer, and JSON has no word for it.
    """
    numbers = answers.select_dtypes("number")
    is_finite = np.isfinite(numbers.to_numpy(np.float64))
    if is_finite.all():
        return
    place, column = np.argwhere(~is_finite)[0]
    row = int(answers.index[place]) + 1  # several answers to a row have its position as index
    raise DataError(
        f"row {row} would get {numbers.iloc[place, column]} as `{numbers.columns[column]}`: its"
        " values are beyond what the model can compute with; correct the row, or leave it out"
    )


def with_names(answers: pd.DataFrame, rows: pd.DataFrame, named_by: Sequence[str]) -> pd.DataFrame:
    """Answers, one for each of `rows`, with those columns in front that identify the rows.

    If there are more or fewer answers, their index is the position of their row. A column that has
    the name of a column of answers gets the prefix `key_`.
    """
    names = {}
    for name in named_by:
        if name in rows:
            is_taken = name in answers or name == WARNINGS
            heading = f"key_{name}" if is_taken else name
            values = rows[name].to_numpy()
            if len(answers) != len(rows):
                values = values[answers.index]
            names[heading] = values
    if not names:
        return answers
    return pd.concat([pd.DataFrame(names, index=answers.index), answers], axis=1)


def build(family: str, sizes: Mapping[str, object], net: Mapping[str, object]) -> nn.Module:
    """Construct the net of a family.

    The arguments before the `*` are taken from `sizes`, those of the encoder, by name; the others
    are the block `net` of conf. Raises UsageError for a size that these data do not have.
    """
    constructor = plugins.family(family)
    arguments = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            continue
        if name in sizes:
            arguments[name] = sizes[name]
        elif parameter.default is parameter.empty:
            raise UsageError(
                f"family `{family}` needs the size `{name}`, which these data do not have; they"
                f" have: {', '.join(sizes)}; choose another family, or name the columns in"
                " conf/dataset/"
            )
    return cast(nn.Module, constructor(**arguments, **net))


def limit_threads(count: int) -> None:
    """Let torch, and the libraries of BLAS and OpenMP that are loaded, use `count` threads.

    By default each takes as many as there are cores. Beside another process, such threads wait for
    one another in busy loops: the baselines of `rbm` took 17 s of CPU instead of 7.
    """
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(count)
    threadpool_limits(count)


def outputs(net: nn.Module, batch: "contracts.Batch") -> dict[str, Tensor]:
    """The tensors that a net predicts for a batch, chunk by chunk, on the batch's device."""
    family = cast("contracts.Family", net)
    net.eval()
    with torch.no_grad():
        parts = [family.predict(chunk) for chunk in chunks(batch)]
    return _joined(parts)


def loss_and_outputs(net: nn.Module, batch: "contracts.Batch") -> tuple[float, dict[str, Tensor]]:
    """The mean loss over the rows of a batch, and `outputs`, in one pass where the family has it.

    A family whose loss and prediction share work defines `loss_and_outputs`.
    """
    family = cast("contracts.Family", net)

    def two_passes(chunk: "contracts.Batch") -> tuple[Tensor, dict[str, Tensor]]:
        return family.loss(chunk), family.predict(chunk)

    one_pass = plugins.optional(net, "loss_and_outputs", two_passes)
    net.eval()
    total = 0.0
    parts = []
    with torch.no_grad():
        for chunk in chunks(batch):
            loss, part = one_pass(chunk)
            total += len(chunk[0]) * loss.item()
            parts.append(part)
    return total / len(batch[0]), _joined(parts)


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    whole = {}
    for name in parts[0]:
        whole[name] = torch.cat([part[name] for part in parts])
    return whole


def numbers_per_row(batch: "contracts.Batch") -> int:
    """How many numbers the tensors of a batch have for each row, 1 or more."""
    return max(1, sum(math.prod(tensor.shape[1:]) for tensor in batch))


def chunks(batch: B) -> Iterator[B]:
    """Yield a batch in chunks of at most CHUNK_ROWS rows and about CHUNK_NUMBERS input numbers."""
    size = min(CHUNK_ROWS, max(1, CHUNK_NUMBERS // numbers_per_row(batch)))
    rows = max(1, len(batch[0]))  # a batch without rows gives one empty chunk
    for start in range(0, rows, size):
        yield plugins.take(batch, slice(start, start + size))


def save(
    folder: Path, card: Mapping[str, object], net: nn.Module, encoder: "contracts.Encoder"
) -> None:
    """Write a model to `folder`, all or nothing; the bytes depend on the arguments alone."""
    weights = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    with written_whole(folder) as beside:
        beside.mkdir()
        save_file(weights, beside / WEIGHTS)
        write_json(beside / CARD, {**card, "sizes": encoder.sizes, "encoder": encoder.state()})


def load(folder: Path) -> SavedModel:
    """Load the model that `save` wrote to `folder`."""
    card = read_json(folder / CARD)
    kind = plugins.kind(card["kind"])
    columns = kind.columns.Columns(**card["columns"])
    encoder = kind.encoder.Encoder.from_state(card["encoder"], columns)
    net = build(card["family"], card["sizes"], card["net"])
    with readable(folder / WEIGHTS):
        net.load_state_dict(load_file(folder / WEIGHTS))
    return SavedModel(card, net.eval(), encoder)


def _load_pyfunc(path: str) -> SavedModel:
    """The entry point that MLflow calls to load a packed model."""
    return load(Path(path))
