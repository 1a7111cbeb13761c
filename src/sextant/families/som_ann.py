"""A map and a net in one: the map learns the rows, and a net learns from the map and the columns.

With a label the net predicts it; without one it predicts which rows are outliers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from ..kinds.tabular.encoder import UNSEEN, Batch
from . import blocks, maps

Size = Annotated[int, Field(ge=1)]
Width = Annotated[float, Field(gt=0)]
Reads = Literal["place", "distances", "surprise"]

OUTLIER_SHARE = 0.05  # of the training rows: the map flags those that it is most surprised by
OF_MAP = ("unit", "surprise")
OF_TARGET = {"label": "logits", "flag": "outlier"}  # what the net answers, by `target`


class Reading(NamedTuple):
    """What a map says of rows."""

    unit: Tensor  # (rows) int64, the nearest unit
    distances: Tensor  # (rows, units), to the prototypes
    surprise: Tensor  # (rows)


class Map(nn.Module):
    """A self-organizing map of the columns, fitted by Kohonen's batch rule before the net is.

    It has no parameters, and so no gradient of the net's loss reaches it. Numbers are scaled by
    their range in training to 0..1; a category is one-hot times sqrt(1/2), so that two levels are
    as far apart as the ends of a number.
    """

    low: Tensor  # (numeric), the minimum of each number in training
    span: Tensor  # (numeric), its range, maximum - minimum
    codebook: Tensor  # (units, features); unit = row * cols + col
    variance: Tensor  # (units, features), the mean square of the rows around each prototype
    center: Tensor  # (3 + units), the mean in training of what `facts` scales
    scale: Tensor  # (3 + units), its standard deviation
    threshold: Tensor  # the surprise that OUTLIER_SHARE of the training rows exceed
    before: Tensor  # (categories), the column before the first level of each category

    def __init__(self, numeric: int, cardinalities: Sequence[int], rows: int, cols: int):
        super().__init__()
        self.rows = rows
        self.cols = cols
        features = numeric + sum(cardinalities)
        # Two deviations of standardised numbers to each side, until `fit` sets the real range.
        self.register_buffer("low", torch.full((numeric,), -2.0))
        self.register_buffer("span", torch.full((numeric,), 4.0))
        self.register_buffer("codebook", torch.rand(rows * cols, features))
        self.register_buffer("variance", torch.ones(rows * cols, features))
        self.register_buffer("center", torch.zeros(3 + rows * cols))
        self.register_buffer("scale", torch.ones(3 + rows * cols))
        self.register_buffer("threshold", torch.zeros(()))
        # It follows from the arguments, so it is not saved.
        before = torch.tensor([0, *cardinalities], dtype=torch.long).cumsum(0)[:-1]
        self.register_buffer("before", before, persistent=False)

    @torch.no_grad()
    def fit(self, train: Batch, sigma: float, sigma_end: float, epochs: int) -> None:
        """Learn the columns of the training rows; the target is not read."""
        if train.numeric.shape[1]:
            low, high = train.numeric.aminmax(dim=0)
            self.low.copy_(low)
            # A number that never changes gets the range 1: all rows are at 0 of it.
            self.span.copy_(torch.where(high > low, high - low, torch.ones_like(low)))
        x = self.features(train)
        codebook, variance = maps.batch_map(x, self.rows, self.cols, sigma, sigma_end, epochs)
        self.codebook.copy_(codebook)
        self.variance.copy_(variance)
        reading = self.forward(train)
        self.threshold.copy_(torch.quantile(reading.surprise, 1 - OUTLIER_SHARE))
        facts = self._facts(reading)
        deviation = facts.std(0, correction=0)
        self.center.copy_(facts.mean(0))
        self.scale.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))

    def features(self, batch: Batch) -> Tensor:
        """Rows in the space of the prototypes, (rows, features)."""
        levels = self.codebook.shape[1] - len(self.low)
        one_hot = self.low.new_zeros(len(batch.numeric), 1 + levels)
        if len(self.before):
            # Code 0, a level that training did not have, goes to the first column, which is left
            # out.
            known = batch.categories != UNSEEN
            columns = torch.where(known, batch.categories + self.before, 0)
            one_hot.scatter_(1, columns, 0.5**0.5)
        return torch.cat([(batch.numeric - self.low) / self.span, one_hot[:, 1:]], 1)

    def forward(self, batch: Batch) -> Reading:
        x = self.features(batch)
        # From differences, and not by way of products: a row then has the same distances whatever
        # rows are beside it.
        distances = torch.cdist(x, self.codebook, compute_mode="donot_use_mm_for_euclid_dist")
        unit = distances.argmin(1)
        return Reading(unit, distances, maps.surprise(x, self.codebook[unit], self.variance[unit]))

    def facts(self, reading: Reading, reads: Sequence[Reads]) -> Tensor:
        """What the net reads of the map, (rows, facts), standardised by the training rows.

        A distance is divided by the root of the number of units too, so that all of them together
        weigh as much as one fact at the start.
        """
        scaled = (self._facts(reading) - self.center) / self.scale
        place, surprise, distances = scaled.split([2, 1, scaled.shape[1] - 3], 1)
        parts = {
            "place": place,
            "surprise": surprise,
            "distances": distances / distances.shape[1] ** 0.5,
        }
        return torch.cat([place[:, :0], *[parts[name] for name in reads]], 1)

    def _facts(self, reading: Reading) -> Tensor:
        """Row and column of the unit, surprise and distances, (rows, 3 + units)."""
        place = torch.stack([reading.unit // self.cols, reading.unit % self.cols], 1)
        surprise = reading.surprise[:, None]
        return torch.cat([place.to(surprise), surprise, reading.distances], 1)


class SOMANN(nn.Module):
    """Two halves: a self-organizing map of the columns, and a net on the map and the columns.

    The map (`Map`, as in families/som.py) is fitted first and does not read the label. The net is
    an ensemble as in families/ann.py. It reads the embedded columns and, as `reads` names them, the
    place of a row's unit on the grid, the distances to all units, and the surprise, which is the
    map's outlier score.

    target `label`: the net predicts the class; its loss is the cross entropy of each member.

    target `flag`: there is no label. The dependent variable is the map's own outlier flag: whether
    its surprise is above that of 95 % of the training rows. The flag alone would teach the net
    nothing that the map does not say, so each step adds as many synthetic outliers as it has rows:
    the same rows with each column permuted on its own, which are flagged by construction. They
    count `injected` times; 0 leaves the flag alone. A net that tells rows from permuted ones
    estimates p(x) / prod_j p(x_j), how much more likely a row is than its cells are together by
    chance (T. Hastie, R. Tibshirani and J. Friedman, "The Elements of Statistical Learning", 2009,
    section 14.2.4). The answer is the probability that a row is an outlier where 5 % are.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = (*OF_TARGET.values(), *OF_MAP)
    progress = 0.0
    map: Map

    def __init__(
        self,
        numeric: int,
        cardinalities: Sequence[int],
        classes: int = 0,
        *,
        target: Literal["label", "flag"],
        rows: Size,
        cols: Size,
        sigma: Width,
        sigma_end: Width,
        map_epochs: Annotated[int, Field(ge=1, le=10_000)],
        reads: list[Reads],
        injected: Annotated[float, Field(ge=0)],
        bins: Annotated[int, Field(ge=2)],
        embedding_size: Size,
        hidden_sizes: Annotated[list[Size], Field(min_length=1)],
        dropout: Annotated[float, Field(ge=0, lt=1)],
        bodies: Size,
        members: Size,
    ):
        super().__init__()
        if target == "label" and not classes:
            raise UsageError(
                "family som_ann predicts a class, and these data have none; set `target: flag` to"
                " find outliers, or choose another family for a number"
            )
        self.target = target
        self.reads = reads
        self.injected = injected
        self.sigma = sigma
        self.sigma_end = sigma_end
        self.map_epochs = map_epochs
        self.map = Map(numeric, cardinalities, rows, cols)
        self.numbers = blocks.PiecewiseLinear(numeric, bins, embedding_size)
        self.categories = nn.ModuleList(
            nn.Embedding(levels + 1, embedding_size, padding_idx=UNSEEN) for levels in cardinalities
        )
        facts = {"place": 2, "surprise": 1, "distances": rows * cols}
        embedded = (numeric + len(cardinalities)) * embedding_size
        sizes = [embedded + sum(facts[name] for name in reads), *hidden_sizes]
        # Random signs make members differ from the start; equal adapters would train equal members.
        self.adapter = nn.Parameter(blocks.random_signs(bodies, members, sizes[0]))
        self.body = blocks.shared_body(bodies, sizes, dropout)
        outputs = classes if target == "label" else 1
        bound = sizes[-1] ** -0.5
        head = torch.empty(bodies, members, sizes[-1], outputs).uniform_(-bound, bound)
        self.head = nn.Parameter(head)
        self.base = nn.Parameter(torch.zeros(bodies, members, outputs))

    @staticmethod
    def check(
        net: Mapping[str, object],
        optimizer: Mapping[str, object] | None = None,
        schedule: Mapping[str, object] | None = None,
    ) -> None:
        """Raise UsageError for arguments that are each valid but do not go together."""
        maps.check_size(net)
        reads = cast("list[str]", net["reads"])
        if len(set(reads)) < len(reads):
            raise UsageError(f"`reads` names a fact twice: {', '.join(reads)}; name each once")

    @staticmethod
    def outputs(net: Mapping[str, object]) -> tuple[str, ...]:
        """The names of the tensors that `predict` returns with these arguments."""
        return (OF_TARGET[cast("str", net["target"])], *OF_MAP)

    def initialise(self, train: Batch) -> None:
        """Fit the map; set bin edges to quantiles, and the output bias to what is best without any
        column: the log of the class frequencies, or the log odds of a flag.
        """
        self.map.fit(train, self.sigma, self.sigma_end, self.map_epochs)
        self.numbers.initialise(train.numeric)
        base = torch.full((1,), self._trained_odds())
        if self.target == "label":
            # A class without a row counts as one row: its log frequency has to be finite.
            counts = torch.bincount(train.target, minlength=self.base.shape[-1]).clamp_min(1)
            base = (counts / counts.sum()).log()
        with torch.no_grad():
            self.base.copy_(base.expand_as(self.base))

    def _trained_odds(self) -> float:
        """The log odds of a flag among the rows of a training step, the injected ones included."""
        return math.log((OUTLIER_SHARE + self.injected) / (1 - OUTLIER_SHARE))

    # --- training ---

    def loss(self, batch: Batch) -> Tensor:
        """The mean over rows and members of the cross entropy of the class, or of the flag."""
        return self._loss(self.map(batch), batch)[0]

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """What the net answers, and what the map says.

        `logits` (rows, classes): the log of the members' mean probability; or `outlier` (rows): the
        probability of being one, in float64. `unit` (rows, 2): row and column of the nearest unit;
        `surprise` (rows), of which the flag is made.
        """
        reading = self.map(batch)
        return self._predicted(self._member_outputs(batch, reading), reading)

    def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss` and `predict` from one pass over the rows."""
        reading = self.map(batch)
        loss, outputs = self._loss(reading, batch)
        return loss, self._predicted(outputs, reading)

    def _member_outputs(self, batch: Batch, reading: Reading) -> Tensor:
        """Logits of each member, (bodies * members, classes or 1, rows)."""
        embedded = [self.numbers(batch.numeric)]
        for column, embedding in enumerate(self.categories):
            embedded.append(embedding(batch.categories[:, column]))
        x = torch.cat([*embedded, self.map.facts(reading, self.reads)], 1)
        return blocks.member_outputs(x, self.adapter, self.body, self.head, self.base)

    def _loss(self, reading: Reading, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and the outputs of the members for the rows of the batch."""
        outputs = self._member_outputs(batch, reading)
        if self.target == "label":
            return blocks.cross_entropy(outputs.log_softmax(1), batch.target), outputs
        flagged = (reading.surprise > self.map.threshold).to(outputs)
        loss = F.binary_cross_entropy_with_logits(outputs, flagged.expand_as(outputs))
        if self.injected:
            synthetic = permuted(batch)
            of_synthetic = self._member_outputs(synthetic, self.map(synthetic))
            loss = loss + self.injected * F.softplus(-of_synthetic).mean()
        return loss, outputs

    def _predicted(self, outputs: Tensor, reading: Reading) -> dict[str, Tensor]:
        unit = torch.stack([reading.unit // self.map.cols, reading.unit % self.map.cols], 1)
        of_map = {"unit": unit, "surprise": reading.surprise}
        if self.target == "label":
            return {"logits": blocks.log_of_mean(outputs.log_softmax(1)), **of_map}
        # The odds of the answer are those of training, but for the share of outliers.
        shift = math.log(OUTLIER_SHARE / (1 - OUTLIER_SHARE)) - self._trained_odds()
        return {"outlier": (outputs[:, 0].double() + shift).sigmoid().mean(0), **of_map}


def permuted(batch: Batch) -> Batch:
    """The rows of a batch with each column permuted on its own; the target stays."""

    def shuffled(columns: Tensor) -> Tensor:
        order = torch.rand(columns.shape, device=columns.device).argsort(0)
        return columns.gather(0, order)

    return Batch(shuffled(batch.numeric), shuffled(batch.categories), batch.target)
