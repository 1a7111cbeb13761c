"""Restricted Boltzmann machine for ratings: a film is a visible unit, a taste a hidden one, what is missing none."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..kinds.ratings.encoder import Batch

OFFSET = 0.5  # lambda: the mean of a hidden unit before training


class Seen(NamedTuple):
    """Which visible units a user has: `row` and `item` of each pair, sorted by row, and how many each user `rated`."""

    row: Tensor
    item: Tensor
    rated: Tensor


class RBM(nn.Module):
    """A bipartite graph of visible units v (films) and hidden units h (tastes), with no edge inside a layer.

    As an energy-based model: with offsets mu, lambda (centring) and the films i that a user has rated,

        E(v, h) = - sum_i (v_i - mu_i) b_i - (h - lambda) a,    a = c + s sum_i [(v_i - mu_i) phi W_i + D_i]

    and P(v, h) = exp(-E) / Z. Its free energy, F(v) = - log sum_h exp(-E(v, h)), has a closed form:

        F(v) = - sum_i (v_i - mu_i) b_i + lambda a - sum_j log(1 + exp a_j)

    As a probabilistic graph: given one layer the units of the other are independent, so that each is drawn in one go,

        P(h_j = 1 | v) = sigmoid(a_j),  P(v_i = l | h) = softmax_l(b_il + s phi_l W_i (h - lambda))

    Visible units: `bernoulli` (liked or not), `softmax` (one of the stars, a weight for each), `ordinal` (one of the
    stars, which share a weight times their place phi on the scale, from -1 to 1).

    What is missing is no unit: each user has a machine of the films rated, all with the same weights (Salakhutdinov,
    Mnih and Hinton, ICML 2007, section 2), in the data and in the chain. That a film was rated at all, whatever it
    got, speaks by D (section 4 there; `conditional`). Since a user rates 20 films or 700, what is known of one who
    rated n is scaled by s = sqrt(m / (n + m)), m = `shrinkage`: where the hidden units are near
    linear, what is inferred of a user is then shrunk by n / (n + m), as a bias model does it, and does not saturate.

    Training is contrastive divergence (Hinton 2002): `loss` is the mean free energy of the data minus that of k steps
    of Gibbs sampling from there, held constant; its gradient is CD-k. `pcd`: the chain of each user goes on where it
    stood in the last epoch (Tieleman 2008). A share `clamped` of a user's ratings is held fixed in the chain, which
    then learns P(these | those), as it is asked later. Centring: Montavon and Mueller 2012, offsets fixed at the start.

    Limits: the answer is P(v_i | the mean of h given the known), the usual mean-field step, not the exact conditional.
    """

    OUTPUTS = ("log_odds", "stars")
    progress = 0.0
    offset: Tensor
    scale: Tensor
    chains: Tensor

    def __init__(
        self,
        users: int,
        items: int,
        values: Sequence[float],
        like: float,
        *,
        units: Literal["bernoulli", "softmax", "ordinal"],
        hidden: Annotated[int, Field(ge=1)],
        chain: Literal["cd", "pcd"],
        k: Annotated[int, Field(ge=1)],
        clamped: Annotated[float, Field(ge=0, lt=1)],
        conditional: bool,
        shrinkage: Annotated[float, Field(gt=0)],
        init: Annotated[float, Field(gt=0)],
    ):
        super().__init__()
        self.units_kind, self.k, self.clamped, self.shrinkage = units, k, clamped, shrinkage
        self.values = list(values)
        self.liked_from = sum(value < like for value in values)  # the first liked level
        levels = 1 if units == "bernoulli" else len(values)
        scale = {
            "bernoulli": torch.ones(1, 1),
            "softmax": torch.eye(levels),
            "ordinal": torch.linspace(-1, 1, levels)[:, None],
        }[units]
        self.register_buffer("scale", scale)  # phi, (levels, features)
        self.register_buffer("offset", torch.full((items, levels), 1 / max(levels, 2)))  # mu
        self.register_buffer(
            "chains", torch.zeros(users if chain == "pcd" else 0, hidden, dtype=torch.uint8)
        )
        self.visible_bias = nn.Parameter(torch.zeros(items, levels))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.weight = nn.Parameter(torch.randn(items, scale.shape[1], hidden) * init)
        self.common = nn.Parameter(torch.randn(scale.shape[1], hidden) * init)
        self.rated = nn.Parameter(torch.zeros(items if conditional else 0, hidden))  # D

    def param_groups(self) -> list[dict[str, Any]]:
        """What is a film's own decays; what all share, and the biases, do not."""
        shared = [self.common, self.visible_bias, self.hidden_bias]
        return [{"params": [self.weight, self.rated]}, {"params": shared, "weight_decay": 0.0}]

    @torch.no_grad()
    def initialise(self, train: Batch) -> None:
        """Offsets and visible biases from the base rates of each film, drawn to those of all by five ratings."""
        seen = self.seen(train.known)
        v = self.states(train.known, seen)
        total = torch.zeros_like(self.offset).index_add_(0, seen.item, v)
        count = torch.bincount(seen.item, minlength=len(total))[:, None]
        every = (v.sum(0) + 1) / (len(v) + max(v.shape[1], 2))
        rates = (total + 5 * every) / (count + 5)
        self.offset.copy_(rates)
        self.visible_bias.copy_(rates.logit() if self.units_kind == "bernoulli" else rates.log())
        if len(self.chains):
            self.chains[train.user] = torch.bernoulli(self.activation(v, seen).sigmoid()).to(
                torch.uint8
            )

    # --- who is there, and what state they are in ---

    def seen(self, codes: Tensor) -> Seen:
        """The visible units of each user: the films with a code, (users, items), other than 0."""
        there = codes > 0
        row, item = there.nonzero(as_tuple=True)
        return Seen(row, item, there.sum(1))

    def states(self, codes: Tensor, seen: Seen) -> Tensor:
        """v, (pairs, levels): 1 at the level that was given; of Bernoulli units the one level is `liked`."""
        level = codes[seen.row, seen.item].long() - 1
        if self.units_kind == "bernoulli":
            return (level >= self.liked_from).to(self.offset.dtype)[:, None]
        return F.one_hot(level, len(self.values)).to(self.offset.dtype)

    # --- as a probabilistic graph: each layer given the other ---

    def activation(self, v: Tensor, seen: Seen) -> Tensor:
        """a, (users, hidden): the log odds of each hidden unit given v, (pairs, levels)."""
        x = v.new_zeros(len(seen.rated), *self.weight.shape[:2])
        x[seen.row, seen.item] = (v - self.offset[seen.item]) @ self.scale
        field = x.flatten(1) @ self._weights()
        if len(self.rated):
            there = v.new_zeros(len(seen.rated), len(self.rated))
            there[seen.row, seen.item] = 1.0
            field = field + there @ self.rated
        return self.hidden_bias + self._s(seen) * field

    def logits(self, h: Tensor, seen: Seen) -> Tensor:
        """(users, items, levels): of every film, rated or not, given h, (users, hidden)."""
        return self.visible_bias + self._field(h, seen) @ self.scale.T

    def gibbs(
        self, v: Tensor, h: Tensor, seen: Seen, free: Tensor, steps: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw v from h and h from v, `steps` times; pairs that are not `free`, (pairs) bool, stay as they are.

        Returns v and h, and the mean of the last v given the h that it was drawn from.
        """
        mean = v
        for _ in range(steps):
            logits = (
                self.visible_bias[seen.item]
                + self._field(h, seen)[seen.row, seen.item] @ self.scale.T
            )
            if self.units_kind == "bernoulli":
                p = logits.sigmoid()
                drawn = torch.bernoulli(p)
            else:
                p = logits.softmax(1)
                drawn = (
                    F.one_hot(torch.multinomial(p, 1)[:, 0], p.shape[1]).to(p.dtype)
                    if len(p)
                    else p
                )
            mean, v = (torch.where(free[:, None], new, v) for new in (p, drawn))
            h = torch.bernoulli(self.activation(v, seen).sigmoid())
        return v, h, mean

    # --- as an energy-based model ---

    def energy(self, v: Tensor, h: Tensor, seen: Seen) -> Tensor:
        """E(v, h), (users)."""
        return -self._visible(v, seen) - ((h - OFFSET) * self.activation(v, seen)).sum(1)

    def free_energy(self, v: Tensor, seen: Seen) -> Tensor:
        """F(v), (users)."""
        a = self.activation(v, seen)
        return -self._visible(v, seen) + OFFSET * a.sum(1) - F.softplus(a).sum(1)

    def loss(self, batch: Batch) -> Tensor:
        """Mean free energy of the data minus that of the chain, a rating.

        The data are what is known and what was asked for. Where both differ (val) what is known is held fixed: how
        much likelier are the ratings that the chain draws than those that were given? The chain starts from the data
        (`pcd`: in training, from where it stood), and its last step takes the mean of v, which is less noisy.
        """
        codes = torch.where(batch.target > 0, batch.target, batch.known)
        seen = self.seen(codes)
        v, free = self.states(codes, seen), batch.target[seen.row, seen.item] > 0
        if self.training and self.clamped:
            free = free & (torch.rand(len(v), device=v.device) >= self.clamped)
        with torch.no_grad():
            model = self._chain(batch, v, seen, free)
        gap = self.free_energy(v, seen) - self.free_energy(model, seen)
        return gap.sum() / free.sum().clamp_min(1)

    def _chain(self, batch: Batch, v: Tensor, seen: Seen, free: Tensor) -> Tensor:
        """Where k steps of the chain lead."""
        persistent = self.training and len(self.chains) > 0
        if persistent:
            h = self.chains[batch.user].to(v.dtype)
        else:
            h = torch.bernoulli(self.activation(v, seen).sigmoid())
        _, h, mean = self.gibbs(v, h, seen, free, self.k)
        if persistent:
            self.chains[batch.user] = h.to(torch.uint8)
        return mean

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`log_odds` (users, items) that a film is liked, by the mean of h given what is known; `stars` their mean."""
        seen = self.seen(batch.known)
        logits = self.logits(self.activation(self.states(batch.known, seen), seen).sigmoid(), seen)
        if self.units_kind == "bernoulli":
            return {"log_odds": logits[..., 0]}
        no, yes = logits[..., : self.liked_from], logits[..., self.liked_from :]
        values = torch.tensor(self.values, dtype=logits.dtype, device=logits.device)
        return {
            "log_odds": yes.logsumexp(-1) - no.logsumexp(-1),
            "stars": logits.softmax(-1) @ values,
        }

    @torch.no_grad()
    def units(self) -> Tensor:
        """(hidden, items): how much more a unit that is on says for the highest level of a film than for the lowest."""
        weights = (self.weight + self.common).transpose(
            1, 2
        ) @ self.scale.T  # (items, hidden, levels)
        return (weights[..., -1] - weights[..., 0] * (weights.shape[-1] > 1)).T

    def _visible(self, v: Tensor, seen: Seen) -> Tensor:
        """sum_i (v_i - mu_i) b_i, (users)."""
        each = ((v - self.offset[seen.item]) * self.visible_bias[seen.item]).sum(1)
        return each.new_zeros(len(seen.rated)).index_add(0, seen.row, each)

    def _field(self, h: Tensor, seen: Seen) -> Tensor:
        """s W_i (h - lambda), (users, items, features)."""
        return ((self._s(seen) * (h - OFFSET)) @ self._weights().T).unflatten(
            1, self.weight.shape[:2]
        )

    def _s(self, seen: Seen) -> Tensor:
        return (self.shrinkage / (seen.rated + self.shrinkage)).sqrt()[:, None]

    def _weights(self) -> Tensor:
        """(items * features, hidden): what is each film's own, and what all share."""
        return (self.weight + self.common).flatten(0, 1)
