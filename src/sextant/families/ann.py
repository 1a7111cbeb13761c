"""Feed-forward net for tables: an ensemble in one network, on piecewise-linear embeddings of the numbers."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..kinds.tabular.encoder import UNSEEN, Batch

Size = Annotated[int, Field(ge=1)]
STEP = 1e-6  # the width of a bin between equal edges


class PiecewiseLinear(nn.Module):
    """Embed each number by how far it has come through each of its quantile bins.

    e_t(x) = clamp((x - b_{t-1}) / (b_t - b_{t-1}), 0, 1), then a linear map per number and ReLU. Gorishniy et al., "On
    Embeddings for Numerical Features", NeurIPS 2022, eq. 1, but for x beyond the edges: there the first and last code
    go on by x itself and not by their bin's width, which is next to nothing where many rows share the extreme value.
    """

    edges: Tensor

    def __init__(self, numeric: int, bins: int, size: int):
        super().__init__()
        self.register_buffer(
            "edges", torch.linspace(-2, 2, bins + 1).repeat(numeric, 1)
        )  # (numeric, bins + 1)
        bound = (bins + 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(numeric, bins, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(numeric, size).uniform_(-bound, bound))

    def initialise(self, x: Tensor) -> None:
        """Quantile edges of x, (rows, numeric); equal edges (a value that many rows share) become a step at it."""
        if x.numel():
            at = torch.linspace(0, 1, self.edges.shape[1], dtype=torch.float64)
            self.edges.copy_(torch.quantile(x.double(), at, dim=0).T)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, numeric) to (rows, numeric * size)."""
        return F.relu(torch.einsum("rnb,nbs->rns", self.code(x), self.weight) + self.bias).flatten(
            1
        )

    def code(self, x: Tensor) -> Tensor:
        """(rows, numeric) to (rows, numeric, bins)."""
        x = x[:, :, None]
        inside = ((x - self.edges[:, :-1]) / self.edges.diff().clamp_min(STEP)).clamp(0, 1)
        below, above = (x - self.edges[:, :1]).clamp(max=0), (x - self.edges[:, -1:]).clamp(min=0)
        return torch.cat([inside[..., :1] + below, inside[..., 1:-1], inside[..., -1:] + above], -1)


class Shared(nn.Module):
    """One linear layer of each body, for all the members that share it: (rows, bodies, members, n_in) to (…, n_out)."""

    def __init__(self, bodies: int, n_in: int, n_out: int):
        super().__init__()
        bound = n_in**-0.5
        self.weight = nn.Parameter(torch.empty(bodies, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(bodies, 1, n_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("rbmi,bio->rbmo", x, self.weight) + self.bias


class ANN(nn.Module):
    """An ensemble in one net: a few bodies, and in each of them members that share its weights.

    f_bj(x) = head_bj(MLP_b(r_bj * x)): a member has a rank-one adapter before the first layer of its body, and its own
    head. Each learns on its own loss; the answer is their mean probability. Members cost little and differ little
    (Gorishniy et al., "TabM", ICLR 2025, TabM-mini); bodies differ as nets of other seeds do (Lakshminarayanan et al.,
    "Deep Ensembles", NeurIPS 2017).

    What the embedding of an unseen category adds is nothing: its row stays at zero.
    """

    OUTPUTS = ("logits",)
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
        self.adapter = nn.Parameter(
            torch.randint(0, 2, (bodies, members, sizes[0])) * 2.0 - 1
        )  # random signs
        self.body = nn.Sequential(
            *(
                nn.Sequential(Shared(bodies, n_in, n_out), nn.ReLU(), nn.Dropout(dropout))
                for n_in, n_out in zip(sizes, sizes[1:], strict=False)
            )
        )
        bound = sizes[-1] ** -0.5
        self.head = nn.Parameter(
            torch.empty(bodies, members, sizes[-1], classes).uniform_(-bound, bound)
        )
        self.base = nn.Parameter(torch.zeros(bodies, members, classes))

    def initialise(self, train: Batch) -> None:
        """Bin edges from the quantiles, the output bias from the base rates: log P(class)."""
        self.numbers.initialise(train.numeric)
        counts = torch.bincount(train.target, minlength=self.base.shape[-1]).clamp_min(1)
        with torch.no_grad():
            self.base.copy_((counts / counts.sum()).log())

    def forward(self, batch: Batch) -> Tensor:
        """Logits of each member, (rows, bodies * members, classes)."""
        parts = [self.numbers(batch.numeric)]
        parts += [embed(batch.categories[:, i]) for i, embed in enumerate(self.categories)]
        x = torch.cat(parts, 1)
        h = self.body(x[:, None, None, :] * self.adapter)  # (rows, bodies, members, hidden)
        return (torch.einsum("rbmh,bmhc->rbmc", h, self.head) + self.base).flatten(1, 2)

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross entropy over rows and members: each member learns on its own."""
        logits = self(batch)
        return F.cross_entropy(
            logits.flatten(0, 1), batch.target.repeat_interleave(logits.shape[1])
        )

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`logits` (rows, classes): the log of the members' mean probability."""
        logits = self(batch)
        return {"logits": logits.log_softmax(-1).logsumexp(1) - math.log(logits.shape[1])}
