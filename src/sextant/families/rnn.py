"""Recurrent net for series: a stacked LSTM that reads a window of days and says how far the next value will be off."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ..kinds.series.encoder import Batch

Size = Annotated[int, Field(ge=1)]


class RNN(nn.Module):
    """A stacked LSTM with a Student-t head on the increment over the best known price.

    A window comes in, and its answer goes out, in units of the window's own level, its mean absolute feature: what calm
    years teach holds in a storm, only larger. (Kim et al., "Reversible Instance Normalization", ICLR 2022, of spread
    alone.) For each step x_t of the window, in each layer (Hochreiter and Schmidhuber 1997; Gers et al. 2000):

        i, f, o = sigmoid(W x_t + U h_{t-1} + b)    c_t = f * c_{t-1} + i * tanh(W x_t + U h_{t-1} + b)
        h_t = o * tanh(c_t)

    The last h of the last layer gives location and log scale of the log return r to come,

        r = log(next / base) ~ location + scale * Student-t(freedom)

    with one `freedom` for all days. Location and log scale start near 0: what an untrained net answers is about the
    base price, with a spread in proportion to the level.
    """

    OUTPUTS = ("location", "scale")
    progress = 0.0
    unit: Tensor

    def __init__(
        self,
        features: int,
        *,
        hidden_size: Size,
        layers: Size,
        dropout: Annotated[float, Field(ge=0, lt=1)],
    ):
        super().__init__()
        self.lstm = nn.LSTM(
            features, hidden_size, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, 2)
        self.freedom = nn.Parameter(torch.zeros(()))
        self.register_buffer(
            "unit", torch.ones(())
        )  # log return at level 1: inside the net all is of order 1
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        self.head.weight.mul_(0.1)
        self.head.bias.zero_()
        for name, bias in self.lstm.named_parameters():
            if name.startswith(
                "bias_ih"
            ):  # forget gates that start open (Jozefowicz et al., ICML 2015)
                n = len(bias) // 4
                bias[n : 2 * n] += 1.0

    def initialise(self, train: Batch) -> None:
        """The unit: the median of the training days' sizes at level 1, which rare jumps do not move."""
        self.unit.copy_((train.target.abs() / self.level(train)).median().clamp_min(1e-6))

    @staticmethod
    def level(batch: Batch) -> Tensor:
        """Mean absolute feature of each window, (days)."""
        return batch.window.abs().mean((1, 2)).clamp_min(1e-3)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Location and scale in log returns, (days) each."""
        level = self.level(batch)
        h, _ = self.lstm(batch.window / level[:, None, None])  # (days, steps, hidden)
        location, log_scale = self.head(self.dropout(h[:, -1])).unbind(1)
        return self.unit * level * location, self.unit * level * log_scale.exp()

    def loss(self, batch: Batch) -> Tensor:
        """Mean negative log likelihood of r / unit."""
        location, scale = self(batch)
        freedom = 2 + self.freedom.exp()  # above 2: its variance is finite
        noise = torch.distributions.StudentT(freedom, location / self.unit, scale / self.unit)
        return -noise.log_prob(batch.target / self.unit).mean()

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`location` and `scale` of the log return over the base price, (days) each."""
        location, scale = self(batch)
        return {"location": location, "scale": scale}
