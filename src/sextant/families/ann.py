"""Feed-forward net for tables: an ensemble in one net, on piecewise-linear number embeddings.

It predicts one of several classes, or a number with an interval.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ..kinds.tabular.encoder import UNSEEN, Batch
from . import blocks
from .blocks import PiecewiseLinear

Size = Annotated[int, Field(ge=1)]
# Of a number as target: the names of the outputs, and the quantiles that the last two estimate.
NUMBER = ("location", "lower", "upper")
LOW, HIGH = 0.05, 0.95


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
        self.adapter = nn.Parameter(blocks.random_signs(bodies, members, sizes[0]))
        self.body = blocks.shared_body(bodies, sizes, dropout)
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
        return blocks.member_outputs(x, self.adapter, self.body, self.head, self.base)

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
        return blocks.cross_entropy(outputs.log_softmax(1), batch.target)

    def _predicted(self, outputs: Tensor) -> dict[str, Tensor]:
        if not self.is_number:
            return {"logits": blocks.log_of_mean(outputs.log_softmax(1))}
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
