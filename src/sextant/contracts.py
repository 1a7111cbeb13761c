"""Protocols of kinds, families and tasks: their required members, and the optional ones in prose.

Types only: every module imports this under TYPE_CHECKING, and no stage depends on it, so that a
further optional member makes nothing stale. plugins.py has the defaults of optional members; mypy
checks each plugin against its Protocol at the end of this file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from .drawing import Table
from .intervals import Sample
from .strict import Strict

C = TypeVar("C", contravariant=True)  # the Columns of a kind
R = TypeVar("R")  # what `read` makes of the raw files of a kind
W = TypeVar("W", contravariant=True)  # the Twin of a kind
S = TypeVar("S", contravariant=True)  # the split that a kind takes
B = TypeVar("B", contravariant=True)  # the Batch of a kind
E = TypeVar("E", contravariant=True)  # what a task reads of an Encoder

Option: TypeAlias = bool | int | float | str
Calibration: TypeAlias = Mapping[str, float]
Parts: TypeAlias = dict[str, pd.DataFrame]  # train, val, gate, test
Column: TypeAlias = tuple[str, str, bool]  # name, MLflow type, required
Answer: TypeAlias = Callable[[pd.DataFrame], pd.DataFrame]
Fit: TypeAlias = Callable[..., Answer]
# (answers, those of the rows as they are, encoder) -> a number of each answer, (rows,)
Explained: TypeAlias = Callable[[pd.DataFrame, pd.DataFrame, Any], np.ndarray]
# (answers as a caller sees them, a name for each) -> the answers with names of files, and the files
AsFiles: TypeAlias = Callable[
    [pd.DataFrame, Sequence[str]], tuple[pd.DataFrame, Mapping[str, bytes]]
]


# --- a kind of data: kinds/<kind>/ --------------------------------------------------------------


class Columns(Protocol):
    """The block `columns` of conf/dataset/<name>.yaml.

    Optional: `resolved(names)`, the block with patterns for columns replaced by those of `names`.
    """

    @property
    def all(self) -> list[str]:
        """The columns of the table that the expectations check."""

    def model_dump(self) -> dict[str, Any]:
        """The block as JSON."""


class Batch(Protocol):
    """Rows as tensors: a NamedTuple whose tensors share their first axis, which training shuffles.

    A batch that is sparse, or ragged, defines `take(index)`, the rows at an index tensor or slice,
    and `steps()`, which yields the batch of each step from tensors of shape (steps, batch_size,
    ...).
    """

    def __iter__(self) -> Iterator[Tensor]: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


class Encoder(Protocol):
    """Turns rows into a Batch, with statistics learnt from the training rows.

    Tasks may read further members: classification reads `classes` and `flat`, mapping `scale` and
    `wide`, recommendation `items` and `titles`. Optional: `named_by`, the columns that identify a
    row and that answers carry, if answers are one to a row; `remarks(rows, answers)`, a text for
    each answer that says what is unusual about the checked input rows, empty where nothing is;
    `typical`, of a table, the value of each feature that says nothing of a row, or None.
    """

    columns: Any

    @property
    def sizes(self) -> dict[str, Any]:
        """The arguments before the `*` in a family's constructor, by name."""

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON."""

    def encode(self, rows: pd.DataFrame) -> Any:
        """The Batch of prepared rows."""

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Input rows as `encode` takes them; raises DataError for a row that cannot be answered."""

    def schema(self) -> list[Column]:
        """The input columns."""

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Prepared rows as MLflow's interface takes them: the columns and types of `schema`."""

    def example(self) -> pd.DataFrame:
        """A synthetic input example of two rows or more."""


class EncoderClass(Protocol[C]):
    """The class Encoder of a kind."""

    def fit(self, rows: pd.DataFrame, columns: C) -> Encoder:
        """Learn from the training part alone."""

    def from_state(self, state: dict[str, Any], columns: C) -> Encoder:
        """The inverse of `state`."""


class KindColumns(Protocol):
    """kinds/<kind>/columns.py: the block `columns` of a data set's conf.

    Optional: `input_file(columns, folder)`, a raw file or the folder, with rows that `make predict`
    takes, or None, where the largest file is not one; `PACKAGES`, distributions that answering some
    rows of the kind imports, which a packed model then requires.
    """

    @property
    def SPLITS(self) -> tuple[str, ...]:
        """The values of `split.by` that the kind supports: hash, dates, ..."""

    @property
    def Columns(self) -> type[Strict]:
        """The block `columns`."""


class KindRows(Protocol[C, R, S]):
    """kinds/<kind>/rows/: how rows are read, repaired, split and written.

    Optional: `write_inputs(rows, path)`, which writes the rows that the gate lets a champion
    answer, if they differ from what `write` writes; `passed_over(raw)`, what reading passed over or
    a rule of conf left out, as JSON, for the report of validate and the profile; `findings(raw,
    columns)`, expectations that every data set of the kind has to meet, with what was observed,
    which may name `table` among its arguments; `monitored(parts, columns)`, the quantities of the
    training rows whose drift is looked at, by name, as series of numbers or of text;
    `remarks(parts, columns)`, the lines that prepare prints; `NAMED_BY`, the column of the table
    that names a row in messages; `ADVICE`, further repairs of a failed expectation by its column.
    """

    def read(self, folder: Path, columns: C) -> R:
        """The raw files of a folder; raises DataError for what is missing or unreadable."""

    def table(self, raw: R, columns: C) -> pd.DataFrame:
        """The table that the expectations check."""

    def repair(self, raw: R, columns: C) -> pd.DataFrame:
        """Rows in upstream columns, never scaled; raises DataError for what cannot be repaired."""

    def split(self, rows: pd.DataFrame, columns: C, split: S) -> Parts:
        """The four parts; history rows (model input only, excluded from metrics) are marked in the
        column `context`."""

    def check_parts(self, parts: Parts, columns: C) -> None:
        """Raise DataError if a key is in two parts, or a part cannot be scored."""

    def profile(self, parts: Parts, columns: C) -> dict[str, Any]:
        """A summary of the training rows for readers of the report, as JSON."""

    def write(self, rows: pd.DataFrame, path: Path) -> None:
        """Write a part; the bytes depend on the rows alone."""

    def load(self, path: Path) -> pd.DataFrame:
        """Read a part that `write` wrote."""

    def read_rows(self, path: Path, columns: C) -> pd.DataFrame:
        """A file of input rows: CSV, Parquet, JSON records, or the upstream format."""


class KindTwin(Protocol[C, W]):
    """kinds/<kind>/twin.py: the generator of the embedded stand-in of a data set."""

    @property
    def Twin(self) -> type[Strict]:
        """The block `twin`."""

    def write_twin(self, twin: W, columns: C, folder: Path) -> None:
        """Write the twin to `folder`, in the upstream file format."""


class KindEncoder(Protocol):
    """kinds/<kind>/encoder.py: rows as tensors."""

    @property
    def Batch(self) -> type[tuple[Any, ...]]:
        """The tensors of some rows."""

    @property
    def Encoder(self) -> EncoderClass:
        """Rows to a Batch."""


# --- a family of nets: families/<family>.py -----------------------------------------------------


class Family(Protocol[B]):
    """A plain nn.Module: `__init__(self, <sizes by name>, *, <what conf sets>)`.

    A size with a default may be missing in the data, such as the classes of rows without a label.

    The outputs may depend on the data: a family of tables gives `logits` where the target is a
    class, and others where it is a number; OUTPUTS then names all of them.

    Optional: `initialise(train)`, called once with the training batch (bins, base rates, a
    codebook); `param_groups()`, the parameters in groups, as optimizers take them; `check(net,
    optimizer, schedule)`, static, which raises UsageError for arguments that are each valid but do
    not go together; `outputs(net)`, static, the names of the tensors that `predict` returns, where
    they depend on the arguments; `loss_and_outputs(batch)`, the loss in evaluation mode and the
    tensors of `predict` from one pass, where that is cheaper than `loss` and `predict`;
    `prepare(train)`, the training batch as `loss` reads it, where that is the same in each epoch;
    `gradients(batch)`, the loss without a graph, which sets the gradients itself, where they have
    a closed form. Figures may need further members: a task's figures.py names them in a Protocol.
    Regression also draws the maps of a net that has `map_planes()`.
    """

    OUTPUTS: ClassVar[tuple[str, ...]]  # the names of the tensors that `predict` returns
    progress: float  # 0 to 1, set before each step

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def loss(self, batch: B) -> Tensor:
        """The training objective, a scalar."""

    def predict(self, batch: B) -> dict[str, Tensor]:
        """The tensors that the task reads, first axis: rows; no random draw."""


# --- a task: tasks/<task>/ ----------------------------------------------------------------------


class TaskMetrics(Protocol[B, E]):
    """tasks/<task>/metrics.py: answers from the outputs of a net, and their metrics.

    Optional: `OPTIONS`, what a caller may set, with defaults (an integer, a float, a string or a
    flag); `WATCHED`, the metrics that `watch` returns, where these are not all; `NEEDS`, by metric
    the further outputs of a net without which a model does not have it; `check(encoder)`, which
    raises UsageError if the target is nothing that the task can predict, with `counts`, the rows of
    each part, if it names them; `roles(columns, train)`, the block `columns` as encoder and
    baselines read it, such as with the target as one more feature, with the arguments of the `net`
    if it names them; `public(answers)`,
    the answers as a caller sees them, where they have more columns, with the options that it names;
    `as_files(answers, names)`, those with the names of files in place of what no cell of a CSV
    holds, such as pictures, and the files by name, which `make predict` writes beside its table;
    `inputs(rows, encoder)`, the rows that have to be answered in order to score `rows`;
    `guard_rows(parts)`, the rows on which the gate's guards are computed, where these are not the
    gate part; `decided(answers, encoder, calibration)`, the answers of any model with predictions
    by the rule of one calibration; `verdict(answers, rows, encoder)`, a sentence that sums up the
    metrics, with the `calibration` and the `net` if it names them; `explained(answers, base,
    encoder)`, the number of each answer of which the reasons are sought, (rows,), where `base` are
    the answers to the same rows as they are. `calibrate` gets the `encoder`,
    and the block `schedule.decide` of the model's conf, where its signature names them. A task that
    generates (text, scenarios, next frames) names `net` among the arguments of `answers`, and draws
    with the seed in its options. It may answer a row several times: the index of the answers is
    then the position of their row.
    """

    @property
    def METRICS(self) -> Mapping[str, str | float]:
        """By name: `up`, `down`, or a target value; the first is primary.

        The gate reads it, unless `gate.metric` names another one.
        """

    @property
    def OUTPUTS(self) -> tuple[str, ...]:
        """The tensors that the task needs from a net's `predict`."""

    def calibrate(self, outputs: Mapping[str, Tensor], batch: B) -> dict[str, float]:
        """Numbers that are fitted on val after training, such as a temperature."""

    @property
    def answers(self) -> Callable[..., pd.DataFrame]:
        """(outputs, rows, encoder, calibration, **options) -> one row per answer, in the rows'
        order.

        Quantiles and densities on a grid are columns, one per level or grid point.
        """

    def score(self, answers: pd.DataFrame, rows: pd.DataFrame, encoder: E) -> dict[str, float]:
        """The metrics of answers, in float64: those of METRICS, and further ones by name.

        The further ones are details, such as `rmse_3`: they are reported and never compared.
        """

    @property
    def watch(self) -> Callable[..., dict[str, float]]:
        """(outputs, batch) -> the metrics on val at each look during training, calibrated on val.

        An epoch is chosen by what will be answered; see `calibrate`. `net` is passed if the
        signature names it, for metrics that compare the rows with others.
        """

    def contributions(self, answers: pd.DataFrame, rows: pd.DataFrame, encoder: E) -> Sample:
        """Per-row contributions to the primary metric, for the bootstrap.

        A task that gives those of its other metrics too takes the name as `metric`.
        """


class TaskBaselines(Protocol):
    """tasks/<task>/baselines.py: what a model is compared with, fitted on the same rows.

    A baseline is `fit(train, columns) -> answer`; it gets `encoder`, `net` (the net's arguments)
    and `val` where its signature names them. Keyword-only arguments besides these may be set in a
    model's conf, as `baselines: [knn, {small_cnn: {max_epochs: 5}}]`: a baseline that is a net is
    trained by a plain torch loop, within such a bound. Optional: `FURTHER`, baselines that are used
    only for a model whose conf names them; `KINDS`, by name of the baseline, the kinds that it
    fits, where these are not all.
    """

    @property
    def BASELINES(self) -> Mapping[str, Fit]:
        """The baselines of every model of the task, by name, the trivial one first."""


class TaskFigures(Protocol):
    """tasks/<task>/figures.py: the figures and tables of a model.

    Optional: `Net`, a Protocol of the members of a net that the figures read.
    """

    @property
    def figures(self) -> Callable[..., Mapping[str, Figure | Table]]:
        """(answers, rows, columns, baselines) -> figures and tables by name, in reading order.

        `model`, `train`, `val` and `gate` are passed if its signature names them; the rows of the
        gate part may be shown, but not scored.
        """


# --- mypy checks every plugin against its Protocol ----------------------------------------------

if TYPE_CHECKING:
    from .families import (
        ann,
        boltzmann,
        char_rnn,
        cnn,
        conv_lstm,
        rbm,
        rnn,
        sae,
        som,
        som_ann,
        som_atlas,
    )
    from .kinds.clips import columns as clips_columns
    from .kinds.clips import encoder as clips_encoder
    from .kinds.clips import rows as clips_rows
    from .kinds.clips import twin as clips_twin
    from .kinds.images import columns as images_columns
    from .kinds.images import encoder as images_encoder
    from .kinds.images import rows as images_rows
    from .kinds.images import twin as images_twin
    from .kinds.ratings import columns as ratings_columns
    from .kinds.ratings import encoder as ratings_encoder
    from .kinds.ratings import rows as ratings_rows
    from .kinds.ratings import twin as ratings_twin
    from .kinds.series import columns as series_columns
    from .kinds.series import encoder as series_encoder
    from .kinds.series import rows as series_rows
    from .kinds.series import twin as series_twin
    from .kinds.splits import DateSplit, HashSplit, PlaceSplit
    from .kinds.tabular import columns as tabular_columns
    from .kinds.tabular import encoder as tabular_encoder
    from .kinds.tabular import rows as tabular_rows
    from .kinds.tabular import twin as tabular_twin
    from .kinds.text import columns as text_columns
    from .kinds.text import encoder as text_encoder
    from .kinds.text import rows as text_rows
    from .kinds.text import twin as text_twin
    from .tasks.classification import baselines as classification_baselines
    from .tasks.classification import figures as classification_figures
    from .tasks.classification import metrics as classification_metrics
    from .tasks.forecasting import baselines as forecasting_baselines
    from .tasks.forecasting import figures as forecasting_figures
    from .tasks.forecasting import metrics as forecasting_metrics
    from .tasks.frames import baselines as frames_baselines
    from .tasks.frames import figures as frames_figures
    from .tasks.frames import metrics as frames_metrics
    from .tasks.likes import baselines as likes_baselines
    from .tasks.likes import figures as likes_figures
    from .tasks.likes import metrics as likes_metrics
    from .tasks.mapping import baselines as mapping_baselines
    from .tasks.mapping import figures as mapping_figures
    from .tasks.mapping import metrics as mapping_metrics
    from .tasks.outliers import baselines as outliers_baselines
    from .tasks.outliers import figures as outliers_figures
    from .tasks.outliers import metrics as outliers_metrics
    from .tasks.regression import baselines as regression_baselines
    from .tasks.regression import figures as regression_figures
    from .tasks.regression import metrics as regression_metrics
    from .tasks.scenarios import baselines as scenarios_baselines
    from .tasks.scenarios import figures as scenarios_figures
    from .tasks.scenarios import metrics as scenarios_metrics
    from .tasks.stars import baselines as stars_baselines
    from .tasks.stars import figures as stars_figures
    from .tasks.stars import metrics as stars_metrics
    from .tasks.writing import baselines as writing_baselines
    from .tasks.writing import figures as writing_figures
    from .tasks.writing import metrics as writing_metrics

    _columns: list[KindColumns] = [
        clips_columns,
        images_columns,
        ratings_columns,
        series_columns,
        tabular_columns,
        text_columns,
    ]
    _clips: KindRows[clips_columns.Columns, clips_rows.Raw, HashSplit] = clips_rows
    _images: KindRows[images_columns.Columns, images_rows.Raw, HashSplit] = images_rows
    _ratings: KindRows[ratings_columns.Columns, ratings_rows.Raw, HashSplit] = ratings_rows
    _series: KindRows[series_columns.Columns, pd.DataFrame, DateSplit] = series_rows
    _tabular: KindRows[tabular_columns.Columns, pd.DataFrame, HashSplit] = tabular_rows
    _text: KindRows[text_columns.Columns, dict[str, str], HashSplit | PlaceSplit] = text_rows
    _clips_twin: KindTwin[clips_columns.Columns, clips_twin.Twin] = clips_twin
    _images_twin: KindTwin[images_columns.Columns, images_twin.Twin] = images_twin
    _ratings_twin: KindTwin[ratings_columns.Columns, ratings_twin.Twin] = ratings_twin
    _series_twin: KindTwin[series_columns.Columns, series_twin.Twin] = series_twin
    _tabular_twin: KindTwin[tabular_columns.Columns, tabular_twin.Twin] = tabular_twin
    _text_twin: KindTwin[text_columns.Columns, text_twin.Twin] = text_twin
    _encoders: list[KindEncoder] = [
        clips_encoder,
        images_encoder,
        ratings_encoder,
        series_encoder,
        tabular_encoder,
        text_encoder,
    ]
    _families: list[type[Family]] = [
        ann.ANN,
        boltzmann.Boltzmann,
        char_rnn.CharRNN,
        cnn.CNN,
        conv_lstm.ConvLSTM,
        rbm.RBM,
        rnn.RNN,
        sae.SAE,
        som.SOM,
        som_ann.SOMANN,
        som_atlas.SOMAtlas,
    ]
    _metrics: list[TaskMetrics] = [
        classification_metrics,
        forecasting_metrics,
        frames_metrics,
        likes_metrics,
        mapping_metrics,
        outliers_metrics,
        regression_metrics,
        scenarios_metrics,
        stars_metrics,
        writing_metrics,
    ]
    _baselines: list[TaskBaselines] = [
        classification_baselines,
        forecasting_baselines,
        frames_baselines,
        likes_baselines,
        mapping_baselines,
        outliers_baselines,
        regression_baselines,
        scenarios_baselines,
        stars_baselines,
        writing_baselines,
    ]
    _figures: list[TaskFigures] = [
        classification_figures,
        forecasting_figures,
        frames_figures,
        likes_figures,
        mapping_figures,
        outliers_figures,
        regression_figures,
        scenarios_figures,
        stars_figures,
        writing_figures,
    ]
