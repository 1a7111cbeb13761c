"""Recurrent net for series: stacked LSTM, GRU or classic cells forecast the next log returns."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..kinds.series.encoder import Batch

Size = Annotated[int, Field(ge=1)]
# Lower bounds of two divisors: a window in which no price moves has level 0, and training rows in
# which the target hardly moves have unit 0.
MIN_LEVEL = 1e-3
MIN_UNIT = 1e-6

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class RNN(nn.Module):
    """A stacked LSTM with a Student-t head on the log return over the base price.

    Input and output are scaled by the window's level, its mean absolute feature, so that what the
    net learns from calm years also applies, at a larger scale, in volatile ones (as in Kim et al.,
    "Reversible Instance Normalization", ICLR 2022, but without centring). For each step x_t of the
    window, in each layer (Hochreiter and Schmidhuber 1997; Gers et al. 2000):

        i, f, o = sigmoid(W x_t + U h_{t-1} + b)
        c_t = f * c_{t-1} + i * tanh(W x_t + U h_{t-1} + b)
        h_t = o * tanh(c_t)

    The last h of the last layer gives location and log scale of the next log return r,

        r = log(next / base) ~ location + scale * Student-t(freedom)

    with one learnt `freedom` for all days. Location and log scale start near 0, so an untrained
    net forecasts about the base price, with a spread in proportion to the level.

    With a `horizon` above 1, the same h gives location and log scale of the log return over the
    base price at each of the following days, each with a unit and a `freedom` of its own. All are
    forecast directly; a recursive forecast would feed its errors back, and has no prices but the
    target to feed (Marcellino, Stock and Watson, Journal of Econometrics 135, 2006, compare the
    two). The loss counts the return over a days 1 / a times, because such returns overlap: n of
    them say as much as n / a that do not. Counted alike, four noisier days hid most of what the
    first one shows: on three seeds of the twin its skill on val was 0.20 to 0.22, and 0.30 to 0.32
    with these weights.

    `cell` may be another one than the LSTM: `gru` (Cho et al. 2014), whose state is h alone, or
    `rnn`, the classic net h_t = tanh(W x_t + U h_{t-1} + b), which has no gates (Elman 1990).
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = ("location", "scale")
    progress = 0.0
    unit: Tensor

    def __init__(
        self,
        features: int,
        *,
        hidden_size: Size,
        layers: Size,
        dropout: Annotated[float, Field(ge=0, lt=1)],
        horizon: Annotated[int, Field(ge=1, le=1000)] = 1,
        cell: Literal["lstm", "gru", "rnn"] = "lstm",
    ):
        super().__init__()
        # The shape of a target and of each output, without the days: one number, or one per day
        # ahead.
        self.shape = (horizon,) if horizon > 1 else ()
        between_layers = dropout if layers > 1 else 0.0  # torch warns about dropout in one layer
        # The name is that of the default, since it is in the files of all saved models.
        self.lstm = CELLS[cell](
            features, hidden_size, layers, batch_first=True, dropout=between_layers
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, 2 * horizon)
        self.freedom = nn.Parameter(torch.zeros(self.shape))
        # The log return of a day at level 1. Returns are about 0.01; divided by this the net's
        # output and loss are of order 1.
        self.register_buffer("unit", torch.ones(self.shape))
        self._init_weights(cell)

    @torch.no_grad()
    def _init_weights(self, cell: str) -> None:
        self.head.weight.mul_(0.1)
        self.head.bias.zero_()
        for name, bias in self.lstm.named_parameters():
            if cell == "lstm" and name.startswith("bias_ih"):
                # Forget gates start open (Jozefowicz et al., ICML 2015); torch orders gates i, f,
                # g, o.
                n = len(bias) // 4
                bias[n : 2 * n] += 1.0

    def initialise(self, train: Batch) -> None:
        """Set the unit to the median absolute return at level 1, which rare jumps do not move."""
        at_level_1 = train.target.abs() / self._beside_target(self.level(train))
        # The last targets may be beyond the training part, NaN.
        median = at_level_1.nanmedian(0).values if self.shape else at_level_1.median()
        self.unit.copy_(median.clamp_min(MIN_UNIT))

    @staticmethod
    def level(batch: Batch) -> Tensor:
        """Mean absolute feature of each window, (days)."""
        return batch.window.abs().mean((1, 2)).clamp_min(MIN_LEVEL)

    def _beside_target(self, level: Tensor) -> Tensor:
        """A level, (days), as it multiplies what has the shape of the target."""
        return level[:, None] if self.shape else level

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Location and scale of the log return, (days) or (days, horizon) each."""
        level = self.level(batch)
        h, _ = self.lstm(batch.window / level[:, None, None])  # (days, steps, hidden)
        outputs = self.head(self.dropout(h[:, -1])).view(len(level), 2, *self.shape)
        location, log_scale = outputs.unbind(1)
        level = self._beside_target(level)
        return self.unit * level * location, self.unit * level * log_scale.exp()

    def loss(self, batch: Batch) -> Tensor:
        """Mean negative log likelihood of r / unit over the known returns; those over a days count
        1 / a times.
        """
        return self.loss_and_outputs(batch)[0]

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`location` and `scale` of the log return over the base price; (days) or (days, horizon)
        each.
        """
        location, scale = self(batch)
        return {"location": location, "scale": scale}

    def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss` and `predict` from one forward pass."""
        location, scale = self(batch)
        freedom = 2 + self.freedom.exp()  # the variance of a Student-t is finite above 2
        returns = torch.distributions.StudentT(freedom, location / self.unit, scale / self.unit)
        outputs = {"location": location, "scale": scale}
        target = batch.target / self.unit
        if not self.shape:
            return -returns.log_prob(target).mean(), outputs
        # A NaN would make every gradient NaN, even where its likelihood has the weight 0.
        ahead = torch.arange(1, len(self.unit) + 1, device=target.device)
        weights = target.isfinite() / ahead
        log_likelihood = returns.log_prob(target.nan_to_num()) * weights
        return -log_likelihood.sum() / weights.sum(), outputs
