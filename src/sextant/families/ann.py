"""Feed-forward net for tables: an ensemble in one net, on piecewise-linear number embeddings.

It predicts one of several classes, or a number with an interval.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..kinds.tabular.encoder import UNSEEN, Batch
from . import blocks

Size = Annotated[int, Field(ge=1)]
MIN_BIN_WIDTH = 1e-6  # of a bin between equal edges, which makes it a step
# Of a number as target: the names of the outputs, and the quantiles that the last two estimate.
NUMBER = ("location", "lower", "upper")
LOW, HIGH = 0.05, 0.95


class PiecewiseLinear(nn.Module):
    """Embedding of numbers: how far x is through each quantile bin, then a linear map and ReLU.

    e_t(x) = clamp((x - b_{t-1}) / (b_t - b_{t-1}), 0, 1), with edges b_0 ... b_bins for each
    number, and a linear map per number (Gorishniy et al., "On Embeddings for Numerical Features",
    NeurIPS 2022, eq. 1). Beyond the edges the paper extends the first and last bin by their slope.
    Here x itself is added with slope 1: where many rows share the extreme value that bin has
    almost no width, and the paper's slope would be huge.
    """

    edges: Tensor

    def __init__(self, numeric: int, bins: int, size: int):
        super().__init__()
        edges = torch.linspace(-2, 2, bins + 1).repeat(numeric, 1)
        self.register_buffer("edges", edges)  # (numeric, bins + 1)
        bound = (bins + 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(numeric, bins, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(numeric, size).uniform_(-bound, bound))

    def initialise(self, x: Tensor) -> None:
        """Set the edges to quantiles of x, (rows, numeric).

        A value that many rows share gives equal edges, and so a step at that value.
        """
        if x.numel():
            levels = torch.linspace(0, 1, self.edges.shape[1], dtype=torch.float64)
            self.edges.copy_(torch.quantile(x.double(), levels, dim=0).T)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, numeric) to (rows, numeric * size)."""
        embedded = torch.einsum("rnb,nbs->rns", self.encode(x), self.weight) + self.bias
        return F.relu(embedded).flatten(1)

    def encode(self, x: Tensor) -> Tensor:
        """e(x) for each number: (rows, numeric) to (rows, numeric, bins)."""
        x = x[:, :, None]
        widths = self.edges.diff().clamp_min(MIN_BIN_WIDTH)
        inside = ((x - self.edges[:, :-1]) / widths).clamp(0, 1)
        below = (x - self.edges[:, :1]).clamp(max=0)
        above = (x - self.edges[:, -1:]).clamp(min=0)
        first = inside[..., :1] + below
        last = inside[..., -1:] + above
        return torch.cat([first, inside[..., 1:-1], last], -1)


class SharedLinear(nn.Module):
    """A linear layer per body, shared by the members of that body.

    (bodies, members * rows, n_in) to (bodies, members * rows, n_out).
    """

    def __init__(self, bodies: int, n_in: int, n_out: int):
        super().__init__()
        bound = n_in**-0.5
        self.weight = nn.Parameter(torch.empty(bodies, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(bodies, 1, n_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.weight).add_(self.bias)


class ANN(nn.Module):
    """An ensemble in one net: a few bodies, each with many members that share the body's weights.

    f_bj(x) = head_bj(MLP_b(r_bj * x)): member j of body b has its own rank-one adapter r_bj before
    the first layer, and its own head. Every member is trained on its own loss; the prediction is
    the mean of the members' probabilities. Members cost little and differ little (Gorishniy et
    al., "TabM", ICLR 2025, TabM-mini). Bodies cost a net each and differ as nets trained from
    other seeds do (Lakshminarayanan et al., "Deep Ensembles", NeurIPS 2017).

    A category that training did not contain has the embedding 0, so it adds nothing.

    With 0 classes the target is a number. Then a member has three outputs: the mean, fitted by
    squared error, and the 5 % and 95 % quantiles, fitted by quantile loss (Koenker and Bassett,
    "Regression Quantiles", Econometrica 46, 1978). The net standardises the target itself, by
    `center` and `spread` of the training rows, and answers in its unit.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = ("logits", *NUMBER)  # by the target, the first or the rest
    center: Tensor
    spread: Tensor
    progress = 0.0

    def __init__(
        self,
        numeric: int,
        cardinalities: Sequence[int],
        classes: int,
        *,
        bins: Annotated[int, Field(ge=2)],
        embedding_size: Size,
        hidden_sizes: Annotated[list[Size], Field(min_length=1)],
        dropout: Annotated[float, Field(ge=0, lt=1)],
        bodies: Size,
        members: Size,
    ):
        super().__init__()
        self.numbers = PiecewiseLinear(numeric, bins, embedding_size)
        self.categories = nn.ModuleList(
            nn.Embedding(levels + 1, embedding_size, padding_idx=UNSEEN) for levels in cardinalities
        )
        sizes = [(numeric + len(cardinalities)) * embedding_size, *hidden_sizes]
        # Random signs make members differ from the start; equal adapters would train equal members.
        signs = torch.randint(0, 2, (bodies, members, sizes[0])) * 2.0 - 1
        self.adapter = nn.Parameter(signs)
        layers = []
        for n_in, n_out in pairwise(sizes):
            linear = SharedLinear(bodies, n_in, n_out)
            # In place, because no backward pass reads the sums; that dropout comes first changes
            # nothing, since what it keeps is multiplied by a positive number.
            activation = [blocks.Dropout(dropout, inplace=True), nn.ReLU(inplace=True)]
            layers.append(nn.Sequential(linear, *activation))
        self.body = nn.Sequential(*layers)
        outputs = classes or len(NUMBER)
        bound = sizes[-1] ** -0.5
        head = torch.empty(bodies, members, sizes[-1], outputs).uniform_(-bound, bound)
        self.head = nn.Parameter(head)
        self.base = nn.Parameter(torch.zeros(bodies, members, outputs))
        self.is_number = not classes
        if self.is_number:
            self.register_buffer("center", torch.zeros((), dtype=torch.float64))
            self.register_buffer("spread", torch.ones((), dtype=torch.float64))

    def initialise(self, train: Batch) -> None:
        """Set bin edges to quantiles, and the output bias to what is best without any column.

        That is the log of the class frequencies; of a number, its mean and quantiles.
        """
        self.numbers.initialise(train.numeric)
        if self.is_number:
            self._initialise_number(train.target)
            return
        # A class without a row counts as one row: its log frequency has to be finite.
        counts = torch.bincount(train.target, minlength=self.base.shape[-1]).clamp_min(1)
        with torch.no_grad():
            self.base.copy_((counts / counts.sum()).log())

    def _initialise_number(self, target: Tensor) -> None:
        self.center.copy_(target.mean())
        # A constant target is only centred.
        spread = target.std(correction=0)
        self.spread.copy_(spread if spread > 0 else torch.ones(()))
        levels = torch.tensor([LOW, HIGH], dtype=torch.float64)
        low, high = torch.quantile(self._standardised(target).double(), levels).tolist()
        with torch.no_grad():
            self.base.copy_(torch.tensor([0.0, low, high]).expand_as(self.base))

    def _standardised(self, target: Tensor) -> Tensor:
        return ((target - self.center) / self.spread).float()

    def forward(self, batch: Batch) -> Tensor:
        """Outputs of each member, (rows, bodies * members, classes): logits, or NUMBER."""
        return self._member_outputs(batch).permute(2, 0, 1)

    def _member_outputs(self, batch: Batch) -> Tensor:
        """Outputs of each member, (bodies * members, classes, rows): logits, or NUMBER."""
        embedded = [self.numbers(batch.numeric)]
        for column, embedding in enumerate(self.categories):
            embedded.append(embedding(batch.categories[:, column]))
        x = torch.cat(embedded, 1)
        adapted = x * self.adapter[:, :, None]  # (bodies, members, rows, n_in)
        head = self.head.flatten(0, 1)  # (bodies * members, hidden, classes)
        h = self.body(adapted.flatten(1, 2)).view(len(head), len(x), head.shape[1])
        outputs = torch.baddbmm(self.base.flatten(0, 1)[:, None], h, head)
        # The softmax runs over the second axis, so that it is computed for many rows at once.
        return outputs.transpose(1, 2)

    def loss(self, batch: Batch) -> Tensor:
        """Mean over rows and members: cross entropy; of a number, see `_number_loss`."""
        return self._loss(self._member_outputs(batch), batch)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`logits` (rows, classes), the log of the members' mean probability; of a number,
        `location`, `lower` and `upper`, (rows,) each, in float64 and in the unit of the target.
        """
        return self._predicted(self._member_outputs(batch))

    def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss` and `predict` from one forward pass."""
        outputs = self._member_outputs(batch)
        return self._loss(outputs, batch), self._predicted(outputs)

    def _loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        if self.is_number:
            return _number_loss(outputs, self._standardised(batch.target))
        return _cross_entropy(outputs.log_softmax(1), batch.target)

    def _predicted(self, outputs: Tensor) -> dict[str, Tensor]:
        if not self.is_number:
            return {"logits": _log_of_mean(outputs.log_softmax(1))}
        mean = self.center + self.spread * outputs.double().mean(0)  # (3, rows)
        location, low, high = mean.unbind()
        return {
            "location": location,
            "lower": torch.minimum(low, high),  # nothing keeps two quantiles from crossing
            "upper": torch.maximum(low, high),
        }


def _number_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """Half the squared error of the mean plus the quantile losses, averaged over members and rows.

    outputs (members, 3, rows) and target (rows) are standardised.
    """
    location, low, high = outputs.unbind(1)
    squared = 0.5 * (location - target).square()
    return (
        squared + _quantile_loss(target - low, LOW) + _quantile_loss(target - high, HIGH)
    ).mean()


def _quantile_loss(error: Tensor, level: float) -> Tensor:
    """`level` times a positive error, `level - 1` times a negative one, element by element."""
    return torch.maximum(level * error, (level - 1) * error)


def _cross_entropy(log_probs: Tensor, target: Tensor) -> Tensor:
    """The mean over members and rows; log_probs (members, classes, rows), target (rows)."""
    return -log_probs.gather(1, target.expand(len(log_probs), 1, -1)).mean()


def _log_of_mean(log_probs: Tensor) -> Tensor:
    """(members, classes, rows) to (rows, classes): the log of the members' mean probability."""
    return log_probs.logsumexp(0).T - math.log(len(log_probs))
