"""Stacked autoencoder for ratings: what is known of a user is folded into a few numbers and unfolded into all films."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from ..kinds.ratings.encoder import Batch

Share = Annotated[float, Field(ge=0, le=1)]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "selu": F.selu,
}


class Stack(nn.Module):
    """Encoding layers and as many decoding ones, n_0 -> n_1 -> … -> n_k -> … -> n_1 -> n_0, the last one linear.

    A layer between equal sizes n adds to what comes in, x + act(W x / n + b), so that it begins as nothing and one more
    layer does no harm; divided by n, since with weights that decay all alike the inner ones would grow and amplify.
    `tied`: a decoding layer has the transposed weights of its encoding one, and a bias of its own. With `masks`, the
    first layer also reads which inputs are there at all, by weights that are not tied.
    """

    def __init__(
        self, sizes: Sequence[int], activation: str, dropout: float, tied: bool, masks: bool
    ):
        super().__init__()
        self.activation, self.dropout, self.tied = ACTIVATIONS[activation], dropout, tied
        pairs = list(zip(sizes, sizes[1:], strict=False))
        self.encoders = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairs)
        self.decoders = nn.ModuleList(nn.Linear(n_out, n_in) for n_in, n_out in reversed(pairs))
        self.masks = nn.Linear(sizes[0], sizes[1], bias=False) if masks else None
        inner = [
            layer
            for layer in [*self.encoders, *self.decoders]
            if layer.in_features == layer.out_features
        ]
        for layer in [
            self.encoders[0],
            self.decoders[-1],
            *inner,
            *([self.masks] if self.masks else []),
        ]:
            nn.init.normal_(
                layer.weight, std=0.02
            )  # near nothing at first: the answer begins as the biases
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if tied:
            for layer in self.decoders:
                del layer.weight

    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        """x and mask (rows, n_0) to the code, (rows, n_k)."""
        (weight, bias), *others = self._encoding()
        z = F.linear(x, weight, bias)
        if self.masks is not None:
            z = z + self.masks(mask)
        x = F.dropout(self.activation(z), self.dropout, self.training)
        for weight, bias in others:
            x = self._inner(x, weight, bias)
        return x

    def decode(self, code: Tensor, columns: Tensor | None = None) -> Tensor:
        """The code to (rows, n_0), or to some of the n_0 columns."""
        for weight, bias in self._decoding()[:-1]:
            code = self._inner(code, weight, bias)
        weight, bias = self.output()
        return (
            F.linear(code, weight, bias)
            if columns is None
            else F.linear(code, weight[columns], bias[columns])
        )

    def output(self) -> tuple[Tensor, Tensor]:
        """The last layer: (n_0, n_1) and (n_0)."""
        return self._decoding()[-1]

    def _encoding(self) -> list[tuple[Tensor, Tensor]]:
        """The weights and biases of the layers, in order."""
        return [
            (layer.get_parameter("weight"), layer.get_parameter("bias")) for layer in self.encoders
        ]

    def _decoding(self) -> list[tuple[Tensor, Tensor]]:
        biases = [layer.get_parameter("bias") for layer in self.decoders]
        if self.tied:
            weights = [weight.T for weight, _ in reversed(self._encoding())]
        else:
            weights = [layer.get_parameter("weight") for layer in self.decoders]
        return list(zip(weights, biases, strict=True))

    def _inner(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        n_out, n_in = weight.shape
        new = self.activation(F.linear(x, weight / n_in if n_in == n_out else weight, bias))
        new = F.dropout(new, self.dropout, self.training)
        return x + new if n_in == n_out else new


class SAE(nn.Module):
    """r_ui = mu + b_i + b_u + f(x)_ui, with f a stack that learns what the biases leave: x_ui = r_ui - mu - b_i - b_u.

    b_u is inferred from what is known of the user, b_u = sum (r_ui - mu - b_i) / (n_u + m), m = `shrinkage`, so that a
    new user has one at once; b_i is learnt, from where the same rule puts it. x is 0 where nothing is known and divided
    by sqrt(n + m), so that one who rated 700 films does not drown the layer; whether a film was rated at all is a
    second input (`masks`).

    Mode `user` (U-AutoRec; Sedhain et al., WWW 2015): a row of f is a user, and any user is answered from what is known
    of them. Mode `item` (I-AutoRec): a row of f is a film, its inputs and outputs the users of training, whose ratings
    are kept with the weights (`ratings`); a new user is answered by the biases alone. So whoever has the weights, as
    `dvc push` and the registry pass them on, has all ratings of training, and MovieLens forbids to pass those on. New
    ratings of a user of training move only b_u there: the film's row holds the old ones.

    The loss is the squared error over the ratings that there are. In training a share between the two of `hide` of a
    row's ratings is hidden from the input (denoising; Vincent et al. 2010); one that was not hidden counts `visible`
    times as much as a hidden one. Dense re-feeding (Kuchaiev and Ginsburg 2017): what f answers for all films, held
    constant, goes through it once more and should come out as it is; `refeed` weighs that.
    """

    OUTPUTS = ("stars",)
    progress = 0.0
    mean: Tensor
    values: Tensor
    ratings: Tensor

    def __init__(
        self,
        users: int,
        items: int,
        values: Sequence[float],
        *,
        mode: Literal["user", "item"],
        hidden_sizes: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)],
        activation: Literal["tanh", "sigmoid", "selu"],
        dropout: Annotated[float, Field(ge=0, lt=1)],
        tied: bool,
        masks: bool,
        hide: Annotated[list[Share], Field(min_length=2, max_length=2)],
        visible: Share,
        refeed: Annotated[float, Field(ge=0)],
        shrinkage: Annotated[float, Field(gt=0)],
    ):
        super().__init__()
        self.check({"mode": mode, "refeed": refeed, "hide": hide})
        self.mode, self.hide, self.visible, self.refeed, self.shrinkage = (
            mode,
            hide,
            visible,
            refeed,
            shrinkage,
        )
        self.stack = Stack(
            [items if mode == "user" else users, *hidden_sizes], activation, dropout, tied, masks
        )
        self.item_bias = nn.Parameter(torch.zeros(items))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("values", torch.tensor([0.0, *values]))  # of each code, 0 of none
        self.register_buffer(
            "ratings", torch.zeros(users if mode == "item" else 0, items, dtype=torch.uint8)
        )

    @staticmethod
    def check(net: Mapping[str, Any]) -> None:
        """Raise UsageError for arguments that are not right together."""
        if net["mode"] == "item" and net["refeed"]:
            raise UsageError(
                f"refeed is {net['refeed']:g}, but only mode `user` feeds its answers back; set refeed: 0"
            )
        if net["hide"][0] > net["hide"][1]:
            raise UsageError(f"hide is {net['hide']}; expected the lower share first")

    def param_groups(self) -> list[dict[str, Any]]:
        """Weights decay, biases do not."""
        weights = [p for p in self.parameters() if p.ndim > 1]
        return [
            {"params": weights},
            {"params": [p for p in self.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]

    @torch.no_grad()
    def initialise(self, train: Batch) -> None:
        """mu, and b_i with b_u by turns, each the shrunk mean of what the other leaves."""
        mask = (train.known > 0).double()
        left = self.values.double()[train.known.long()]
        mean = left.sum() / mask.sum()
        left = (left - mean) * mask
        b_u = left.new_zeros(len(left), 1)
        for _ in range(30):
            b_i = ((left - b_u) * mask).sum(0) / (mask.sum(0) + self.shrinkage)
            b_u = ((left - b_i) * mask).sum(1, keepdim=True) / (
                mask.sum(1, keepdim=True) + self.shrinkage
            )
        self.mean.copy_(mean)
        self.item_bias.copy_(b_i)
        if self.mode == "item":
            self.ratings[train.user] = train.known

    def biases(self, stars: Tensor, mask: Tensor) -> Tensor:
        """mu + b_i + b_u, (users, items), b_u from what the mask shows."""
        item = self.mean + self.item_bias
        user = ((stars - item) * mask).sum(1, keepdim=True) / (
            mask.sum(1, keepdim=True) + self.shrinkage
        )
        return item + user

    def forward(self, stars: Tensor, mask: Tensor, user: Tensor) -> Tensor:
        """The answer for all films, (users, items), from the stars that the mask shows of users at places `user`."""
        biases = self.biases(stars, mask)
        if self.mode == "user":
            return biases + self.stack.decode(self._encode((stars - biases) * mask, mask))
        every, there = self.values[self.ratings.long()], (self.ratings > 0).float()
        if self.training:
            there = there * self._shown(there.T).T
            there[user] = (
                mask  # what is hidden of the batch's users is hidden of them as inputs too
            )
        code = self._films(every, there)
        known = user >= 0
        residual = self.stack.decode(code, user.clamp_min(0)).T
        return biases + residual * known[:, None]

    def _films(self, every: Tensor, there: Tensor) -> Tensor:
        """The code of each film, (items, n_k), from the stars of all users of training that `there` shows."""
        return self._encode(((every - self.biases(every, there)) * there).T, there.T)

    def _encode(self, x: Tensor, mask: Tensor) -> Tensor:
        scale = (mask.sum(1, keepdim=True) + self.shrinkage).rsqrt()
        return self.stack.encode(x * scale, mask * scale)

    def _shown(self, mask: Tensor) -> Tensor:
        """1 where the input stays, drawn with a share of its own for each row."""
        low, high = self.hide
        share = low + (high - low) * torch.rand(len(mask), 1, device=mask.device)
        return (torch.rand_like(mask) >= share).float()

    def loss(self, batch: Batch) -> Tensor:
        """Mean squared error over the targets there are; in training those shown to the net count `visible`."""
        known, target = self.values[batch.known.long()], self.values[batch.target.long()]
        mask, weight = (batch.known > 0).float(), (batch.target > 0).float()
        if self.training:
            shown = mask * self._shown(mask)
            weight = weight * (1 - (1 - self.visible) * shown)
            mask = shown
        found = self(known * mask, mask, batch.user)
        loss = _sum((found - target) ** 2 * weight) / _sum(weight).clamp_min(1e-6)
        if self.refeed and self.training:
            dense = found.detach()
            again = self(dense, torch.ones_like(dense), batch.user)
            loss = loss + self.refeed * _sum((again - dense) ** 2) / dense.numel()
        return loss

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`stars` (users, items), not clipped."""
        return {
            "stars": self(self.values[batch.known.long()], (batch.known > 0).float(), batch.user)
        }

    @torch.no_grad()
    def units(self) -> Tensor:
        """(units, items): what each unit of the last hidden layer adds to the stars of a film.

        In mode `item`, where films are rows and not columns, how much of each unit there is in a film.
        """
        if self.mode == "user":
            return self.stack.output()[0].T
        return self._films(self.values[self.ratings.long()], (self.ratings > 0).float()).T


def _sum(x: Tensor) -> Tensor:
    """The sum, row by row: over all at once it would be cut anew for another number of threads, and round otherwise."""
    return x.sum(1).sum()
