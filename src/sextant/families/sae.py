"""Stacked autoencoder for ratings: known ratings are encoded, and decoded into all films."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from ..kinds.ratings.encoder import Batch
from . import blocks

Share = Annotated[float, Field(ge=0, le=1)]
BIAS_ITERATIONS = 30  # alternating updates of b_i and b_u before training
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "selu": F.selu,
}


class Stack(nn.Module):
    """Encoder and decoder of sizes n_0 -> n_1 -> ... -> n_k -> ... -> n_1 -> n_0, the last linear.

    A layer between equal sizes n is residual, x + act(W x / n + b), and starts near the identity,
    so that one more layer does no harm. W is divided by n because one weight decay serves all
    layers: without it the inner layers would grow and amplify. `tied`: a decoder layer uses the
    transposed weights of its encoder layer, with its own bias. `masks`: the first layer also reads
    which inputs are present, by weights that are not tied.
    """

    def __init__(
        self, sizes: Sequence[int], activation: str, dropout: float, tied: bool, masks: bool
    ):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.dropout = blocks.Dropout(dropout)
        self.tied = tied
        pairs = list(pairwise(sizes))
        self.encoders = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairs)
        self.decoders = nn.ModuleList(nn.Linear(n_out, n_in) for n_in, n_out in reversed(pairs))
        self.masks = nn.Linear(sizes[0], sizes[1], bias=False) if masks else None
        self._init_weights()
        if tied:
            for layer in self.decoders:
                del layer.weight

    def _init_weights(self) -> None:
        """Small weights at both ends and in residual layers: the net starts as the biases alone."""
        small = [self.encoders[0], self.decoders[-1]]
        for layer in [*self.encoders, *self.decoders]:
            if layer.in_features == layer.out_features:
                small.append(layer)
        if self.masks is not None:
            small.append(self.masks)
        for layer in small:
            nn.init.normal_(layer.get_parameter("weight"), std=0.02)
            if layer is not self.masks:  # which has no bias
                nn.init.zeros_(layer.get_parameter("bias"))

    def encode(self, x: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
        """x and mask (rows, n_0), each row times `scale` (rows, 1), to the code, (rows, n_k)."""
        (weight, bias), *inner_layers = self._encoder_layers()
        z = F.linear(x, weight)
        if self.masks is not None:
            z = z + self.masks(mask)
        # Scaled here, where a row has n_1 numbers and not n_0.
        x = self.dropout(self.activation(scale * z + bias))
        for weight, bias in inner_layers:
            x = self._inner_layer(x, weight, bias)
        return x

    def decode(self, code: Tensor, columns: Tensor | None = None) -> Tensor:
        """The code (rows, n_k) to (rows, n_0), or to some of the n_0 columns."""
        for weight, bias in self._decoder_layers()[:-1]:
            code = self._inner_layer(code, weight, bias)
        weight, bias = self.output_layer()
        if columns is not None:
            weight, bias = weight[columns], bias[columns]
        return F.linear(code, weight, bias)

    def output_layer(self) -> tuple[Tensor, Tensor]:
        """Weight (n_0, n_1) and bias (n_0) of the last layer."""
        return self._decoder_layers()[-1]

    def _encoder_layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases, in order."""
        layers: list[tuple[Tensor, Tensor]] = []
        for layer in self.encoders:
            layers.append((layer.get_parameter("weight"), layer.get_parameter("bias")))
        return layers

    def _decoder_layers(self) -> list[tuple[Tensor, Tensor]]:
        biases = [layer.get_parameter("bias") for layer in self.decoders]
        if self.tied:
            weights = [weight.T for weight, _ in reversed(self._encoder_layers())]
        else:
            weights = [layer.get_parameter("weight") for layer in self.decoders]
        return list(zip(weights, biases, strict=True))

    def _inner_layer(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        n_out, n_in = weight.shape
        residual = n_in == n_out
        if residual:
            weight = weight / n_in
        z = self.activation(F.linear(x, weight, bias))
        z = self.dropout(z)
        return x + z if residual else z


class SAE(nn.Module):
    """r_ui = mu + b_i + b_u + f(x)_ui, f a stack on the residuals x_ui = r_ui - mu - b_i - b_u.

    b_u is inferred from the known ratings of the user, b_u = sum (r_ui - mu - b_i) / (n_u + m), m
    = `shrinkage`, so that a new user has one at once. b_i is learnt, and starts at what the same
    rule gives. x is 0 where no rating is known, and divided by sqrt(n + m), so that a user who
    rated 700 films does not saturate the layer. Which films were rated at all is a second input
    (`masks`).

    Mode `user` (U-AutoRec; Sedhain et al., WWW 2015): a row of f is a user, and any user is
    answered from their known ratings. Mode `item` (I-AutoRec): a row of f is a film; its inputs
    and outputs are the users of training. Their ratings are stored with the weights (`ratings`),
    so a DVC remote or a shared registry would redistribute all training ratings, which MovieLens
    does not permit. A new user is answered by the biases alone. New ratings of a user of training
    change only b_u, since the film's row contains the old ones.

    The loss is the squared error over the known ratings. In training a share of each row's
    ratings, drawn between the two of `hide`, is hidden from the input (denoising; Vincent et al.
    2010); a rating that was not hidden weighs `visible` times as much as a hidden one. Dense
    re-feeding (Kuchaiev and Ginsburg 2017): the answer for all films, held constant, is fed in
    once more and should come out unchanged; `refeed` is the weight of that term.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = ("stars",)
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
        self.mode = mode
        self.hide = hide
        self.visible = visible
        self.refeed = refeed
        self.shrinkage = shrinkage
        inputs = items if mode == "user" else users
        self.stack = Stack([inputs, *hidden_sizes], activation, dropout, tied, masks)
        self.item_bias = nn.Parameter(torch.zeros(items))
        self.register_buffer("mean", torch.zeros(()))
        # Stars by code; code 0 is no rating.
        self.register_buffer("values", torch.tensor([0.0, *values]))
        stored = users if mode == "item" else 0
        # The type of the batch's codes: a byte holds those of 255 values.
        code_type = torch.uint8 if len(values) <= 255 else torch.int16
        self.register_buffer("ratings", torch.zeros(stored, items, dtype=code_type))

    @staticmethod
    def check(net: Mapping[str, object]) -> None:
        """Raise UsageError for arguments that are each valid but do not go together."""
        if net["mode"] == "item" and net["refeed"]:
            raise UsageError(
                f"refeed is {net['refeed']}, but only mode `user` feeds its answers back;"
                " set refeed: 0"
            )
        low, high = cast("Sequence[float]", net["hide"])
        if low > high:
            raise UsageError(f"hide is {net['hide']}; expected the lower share first")

    def param_groups(self) -> list[blocks.ParamGroup]:
        """Weights decay, biases do not."""
        return blocks.decay_weights_only(self)

    @torch.no_grad()
    def initialise(self, train: Batch) -> None:
        """Set mu, then b_i and b_u in turn, each to the shrunk mean of the other's residuals."""
        mask = _mask(train.observed).double()
        stars = self.stars(train.observed).double()
        mean = stars.sum() / mask.sum()
        residual = (stars - mean) * mask
        items, users = mask.sum(0), mask.sum(1, keepdim=True)
        b_u = residual.new_zeros(len(residual), 1)
        for _ in range(BIAS_ITERATIONS):
            b_i = ((residual - b_u) * mask).sum(0) / (items + self.shrinkage)
            b_u = ((residual - b_i) * mask).sum(1, keepdim=True) / (users + self.shrinkage)
        self.mean.copy_(mean)
        self.item_bias.copy_(b_i)
        if self.mode == "item":
            self.ratings[train.user] = train.observed

    def stars(self, codes: Tensor) -> Tensor:
        """The stars of codes, 0 for no rating; both (users, items)."""
        # By 32-bit indices, which takes a third of the time of `self.values[codes.long()]`.
        return self.values.index_select(0, codes.flatten().int()).view(codes.shape)

    def biases(self, stars: Tensor, mask: Tensor) -> Tensor:
        """mu + b_i + b_u, (users, items), with b_u inferred from ratings where the mask is 1."""
        b_i = self.mean + self.item_bias
        return b_i + self._user_bias((stars - b_i) * mask, mask)

    def _user_bias(self, residual: Tensor, mask: Tensor) -> Tensor:
        """b_u, (users, 1), from r_ui - mu - b_i where the mask is 1, else 0, (users, items)."""
        return residual.sum(1, keepdim=True) / (mask.sum(1, keepdim=True) + self.shrinkage)

    def forward(self, stars: Tensor, mask: Tensor, user: Tensor) -> Tensor:
        """Stars of all films, (users, items), given those where the mask is 1, (users, items).

        `user` (users) is the index of each user in training, negative for a new one; mode `item`
        reads it.
        """
        if self.mode == "user":
            x, b_u = self._inputs(stars, mask)
            return self.stack.decode(self._encode(x, mask)) + (self.mean + self.item_bias + b_u)
        train_stars = self.stars(self.ratings)
        train_mask = _mask(self.ratings)
        if self.training:
            train_mask = train_mask * self._draw_kept(train_mask.T).T
            # The batch's users are inputs here as well: what is hidden of them must be hidden in
            # the films' rows too, or the input would contain the target.
            train_mask[user] = mask
        code = self._encode_films(train_stars, train_mask)
        in_training = user >= 0
        residual = self.stack.decode(code, user.clamp_min(0)).T
        return self.biases(stars, mask) + residual * in_training[:, None]

    def _inputs(self, stars: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x, (users, items), 0 where the mask is, and b_u, (users, 1)."""
        residual = (stars - (self.mean + self.item_bias)) * mask
        b_u = self._user_bias(residual, mask)
        return residual - b_u * mask, b_u

    def _encode_films(self, stars: Tensor, mask: Tensor) -> Tensor:
        """The code of each film, (items, n_k), from the stars of training users, (users, items)."""
        x, _ = self._inputs(stars, mask)
        return self._encode(x.T, mask.T)

    def _encode(self, x: Tensor, mask: Tensor) -> Tensor:
        scale = (mask.sum(1, keepdim=True) + self.shrinkage).rsqrt()
        return self.stack.encode(x, mask, scale)

    def _draw_kept(self, mask: Tensor) -> Tensor:
        """1 where an input is kept, 0 where it is hidden; the share is drawn for each row."""
        low, high = self.hide
        share = low + (high - low) * torch.rand(len(mask), 1, device=mask.device)
        return (torch.rand_like(mask) >= share).float()

    def loss(self, batch: Batch) -> Tensor:
        """Mean squared error over the target; in training ratings in the input weigh `visible`."""
        stars = self.stars(batch.observed)
        target = self.stars(batch.target)
        mask = _mask(batch.observed)
        weight = _mask(batch.target)
        if self.training:
            mask = mask * self._draw_kept(mask)
            weight = weight * (1 - (1 - self.visible) * mask)
        answer = self(stars, mask, batch.user)
        loss = _mean_square(answer - target, weight)
        if self.refeed and self.training:
            dense = answer.detach()
            fed_back = self(dense, torch.ones_like(dense), batch.user)
            loss = loss + self.refeed * _sum((fed_back - dense) ** 2) / dense.numel()
        return loss

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`stars` (users, items), not clipped to the scale."""
        stars = self.stars(batch.observed)
        return {"stars": self(stars, _mask(batch.observed), batch.user)}

    def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss` in evaluation mode, which is the error of `predict`, and `predict`."""
        outputs = self.predict(batch)
        error = outputs["stars"] - self.stars(batch.target)
        return _mean_square(error, _mask(batch.target)), outputs

    @torch.no_grad()
    def units(self) -> Tensor:
        """The weight of each film in each unit of the last hidden layer, (units, items), in stars.

        In mode `item`, where a row is a film, the activation of each unit of the code for each
        film.
        """
        if self.mode == "user":
            weight, _ = self.stack.output_layer()
            return weight.T
        return self._encode_films(self.stars(self.ratings), _mask(self.ratings)).T


def _mask(codes: Tensor) -> Tensor:
    """1 where there is a rating, else 0."""
    # A comparison would give bools, and converting these takes eight times as long.
    return codes.clamp(max=1).float()


def _mean_square(error: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean of the squared errors, both (users, items)."""
    return _sum(error**2 * weight) / _sum(weight).clamp_min(1e-6)


def _sum(x: Tensor) -> Tensor:
    """The sum, row by row first.

    One sum over all elements is split by the number of threads, and so rounds otherwise on another
    machine.
    """
    return x.sum(1).sum()
