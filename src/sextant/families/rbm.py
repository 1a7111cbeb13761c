"""Restricted Boltzmann machine for ratings: visible units are films, hidden units are tastes."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..kinds.ratings.encoder import Batch
from . import blocks

HIDDEN_OFFSET = 0.5  # lambda: the mean of a hidden unit before training
PRIOR_RATINGS = 5  # pseudo-ratings at the overall base rates, added to the ratings of each film


class Pairs(NamedTuple):
    """The visible units of a batch: (user, film) pairs with a rating, sorted by user.

    `row` and `item` (pairs) index user and film; `ratings` (users) counts the ratings of each
    user.
    """

    row: Tensor
    item: Tensor
    ratings: Tensor

    @property
    def starts(self) -> Tensor:
        """The index of each user's first pair, (users)."""
        return self.ratings.cumsum(0) - self.ratings


class RBM(nn.Module):
    """A bipartite graph: visible units v are films, hidden units h tastes, with no edge in a layer.

    As an energy-based model: with offsets mu and lambda (centring) and the films i that a user has
    rated,

        E(v, h) = - sum_i (v_i - mu_i) b_i - (h - lambda) a
        a = c + s sum_i [(v_i - mu_i) phi W_i + D_i]

    and P(v, h) = exp(-E) / Z. The free energy, F(v) = - log sum_h exp(-E(v, h)), has a closed
    form:

        F(v) = - sum_i (v_i - mu_i) b_i + lambda a - sum_j log(1 + exp a_j)

    As a probabilistic graph: given one layer, the units of the other are independent, so that a
    whole layer is drawn at once,

        P(h_j = 1 | v) = sigmoid(a_j),  P(v_i = l | h) = softmax_l(b_il + s phi_l W_i (h - lambda))

    Visible units: `bernoulli` (liked or not), `softmax` (one of the stars, each with its own
    weight) or `ordinal` (one of the stars, which share a weight times their place phi on the
    scale, from -1 to 1).

    A missing rating is no unit: each user has an RBM of the films that they rated, and all share
    their weights (Salakhutdinov, Mnih and Hinton, ICML 2007, section 2), in the data and in the
    chain. D_i is the effect of film i having been rated at all, whatever the rating (section 4
    there; `conditional`). Users rate 20 films or 700, so the input of the hidden units is scaled
    by s = sqrt(m / (n + m)) for n ratings, m = `shrinkage`. While the hidden units are nearly
    linear, what is inferred of a user is then shrunk by n / (n + m), as in a bias model, and the
    units do not saturate.

    Training is contrastive divergence (Hinton 2002): `loss` is the mean free energy of the data
    minus that of the end of a Gibbs chain of k steps that starts there and is held constant; its
    gradient is CD-k. `pcd`: a user's chain continues where it ended in the last epoch (Tieleman
    2008). A share `clamped` of a user's ratings is held fixed in the chain, which then learns
    P(the rest | these), as prediction needs it. Centring: Montavon and Mueller 2012, with offsets
    fixed at the start.

    `init` is the standard deviation of the initial weights.

    Limits: a prediction is P(v_i | the mean of h given the known ratings), the usual mean-field
    step, and not the exact conditional, which `exact_log_odds` and `gibbs_log_odds` give for a few
    films.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = ("log_odds", "stars")
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
        k: Annotated[int, Field(ge=1, le=1000)],
        clamped: Annotated[float, Field(ge=0, lt=1)],
        conditional: bool,
        shrinkage: Annotated[float, Field(gt=0)],
        init: Annotated[float, Field(gt=0)],
    ):
        super().__init__()
        self.binary = units == "bernoulli"
        self.k = k
        self.clamped = clamped
        self.shrinkage = shrinkage
        self.values = list(values)
        disliked = [value for value in values if value < like]
        self.liked_from = len(disliked)  # the index of the lowest liked value
        levels = 1 if self.binary else len(values)
        scales = {
            "bernoulli": torch.ones(1, 1),
            "softmax": torch.eye(levels),
            "ordinal": torch.linspace(-1, 1, levels)[:, None],
        }
        scale = scales[units]
        features = scale.shape[1]
        self.register_buffer("scale", scale)  # phi, (levels, features)
        uniform = 1 / max(levels, 2)  # until `initialise` sets base rates
        self.register_buffer("offset", torch.full((items, levels), uniform))  # mu
        persistent = users if chain == "pcd" else 0  # cd keeps no chains
        self.register_buffer("chains", torch.zeros(persistent, hidden, dtype=torch.uint8))
        self.visible_bias = nn.Parameter(torch.zeros(items, levels))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.weight = nn.Parameter(torch.randn(items, features, hidden) * init)
        self.common = nn.Parameter(torch.randn(features, hidden) * init)  # added to every film's W
        self.rated = nn.Parameter(torch.zeros(items if conditional else 0, hidden))  # D

    @staticmethod
    def outputs(net: Mapping[str, object]) -> tuple[str, ...]:
        """The tensors that `predict` returns: with `bernoulli` units there are no stars."""
        if net["units"] == "bernoulli":
            return ("log_odds",)
        return RBM.OUTPUTS

    def param_groups(self) -> list[blocks.ParamGroup]:
        """A film's own weights decay; biases and the weights that all films share do not."""
        films = [self.weight, self.rated]
        shared = [self.common, self.visible_bias, self.hidden_bias]
        return [{"params": films}, {"params": shared, "weight_decay": 0.0}]

    @torch.no_grad()
    def initialise(self, train: Batch) -> None:
        """Set offsets and visible biases to each film's base rates, shrunk to the overall ones."""
        pairs = self.pairs(train.observed)
        v = self.visible_states(train.observed, pairs)
        total = torch.zeros_like(self.offset).index_add_(0, pairs.item, v)
        count = torch.bincount(pairs.item, minlength=len(total))[:, None]
        overall = (v.sum(0) + 1) / (len(v) + max(v.shape[1], 2))
        rates = (total + PRIOR_RATINGS * overall) / (count + PRIOR_RATINGS)
        self.offset.copy_(rates)
        self.visible_bias.copy_(rates.logit() if self.binary else rates.log())
        if len(self.chains):
            h = blocks.draw_binary(self.hidden_logits(v, pairs).sigmoid())
            self.chains[train.user] = h.to(torch.uint8)

    # --- visible units and their states ---

    def pairs(self, codes: Tensor) -> Pairs:
        """The visible units: films whose code, (users, items), is not 0."""
        row, item = codes.nonzero(as_tuple=True)
        return Pairs(row, item, torch.bincount(row, minlength=len(codes)))

    def visible_states(self, codes: Tensor, pairs: Pairs) -> Tensor:
        """v, (pairs, levels): one-hot at the rating; for Bernoulli units 1 if it is a like."""
        level = codes[pairs.row, pairs.item].long() - 1
        if self.binary:
            return (level >= self.liked_from).to(self.offset.dtype)[:, None]
        return F.one_hot(level, len(self.values)).to(self.offset.dtype)

    # --- as a probabilistic graph: each layer given the other ---

    def conditional_bias(self, pairs: Pairs) -> Tensor:
        """c + s sum_i D_i, (users, hidden): the part of a that depends on no rating's value."""
        if not len(self.rated):
            return self.hidden_bias.expand(len(pairs.ratings), -1)
        rated = F.embedding_bag(pairs.item, self.rated, pairs.starts, mode="sum")
        return self.hidden_bias + self._shrink(pairs) * rated

    def hidden_logits(self, v: Tensor, pairs: Pairs, bias: Tensor | None = None) -> Tensor:
        """a, (users, hidden): the log odds of each hidden unit given v, (pairs, levels).

        `bias` is `conditional_bias(pairs)`, for a caller that computes a for several v.
        """
        if bias is None:
            bias = self.conditional_bias(pairs)
        x = (v - self.offset[pairs.item]) @ self.scale  # (pairs, features)
        features = x.shape[1]
        # A user rates about 5 % of the films: the rows of W that they rated are summed, which for
        # many users is five times as fast as the product of a dense (users, items) with W.
        rows = pairs.item[:, None] * features + torch.arange(features, device=x.device)
        field = F.embedding_bag(
            rows.flatten(),
            self.weight.flatten(0, 1),
            pairs.starts * features,
            mode="sum",
            per_sample_weights=x.flatten(),
        )
        total = x.new_zeros(len(pairs.ratings), features).index_add(0, pairs.row, x)
        return bias + self._shrink(pairs) * (field + total @ self.common)

    def visible_logits(self, h: Tensor, pairs: Pairs) -> Tensor:
        """Logits of every film, rated or not, given h, (users, hidden): (users, items, levels)."""
        field = self._visible_field(h, pairs)
        # Of as many levels as features phi is the identity.
        logits = field if len(self.scale) == self.scale.shape[1] else field @ self.scale.T
        return logits + self.visible_bias

    def visible_probs(self, h: Tensor, pairs: Pairs) -> Tensor:
        """P(v_i | h) of the films of the pairs, (pairs, levels)."""
        field = self._visible_field(h, pairs)[pairs.row, pairs.item]
        logits = self.visible_bias[pairs.item] + field @ self.scale.T
        return logits.sigmoid() if self.binary else logits.softmax(1)

    def gibbs(
        self, v: Tensor, h: Tensor, pairs: Pairs, free: Tensor, steps: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw v given h and h given v, `steps` times.

        Pairs that are not `free`, (pairs) bool, are clamped. Returns v and h, and the mean of the
        last v given the h that it was drawn from.
        """

        def visible_probs(h: Tensor) -> Tensor:
            return self.visible_probs(h, pairs)

        def hidden_probs(v: Tensor) -> Tensor:
            return self.hidden_logits(v, pairs).sigmoid()

        return blocks.gibbs_chain(v, h, free, steps, visible_probs, hidden_probs)

    # --- as an energy-based model ---

    def energy(self, v: Tensor, h: Tensor, pairs: Pairs) -> Tensor:
        """E(v, h), (users)."""
        hidden_part = ((h - HIDDEN_OFFSET) * self.hidden_logits(v, pairs)).sum(1)
        return -self._visible_part(v, pairs) - hidden_part

    def free_energy(self, v: Tensor, pairs: Pairs) -> Tensor:
        """F(v), (users)."""
        return self._free_energy(v, self.hidden_logits(v, pairs), pairs)

    @torch.no_grad()
    def free_energy_of(self, codes: Tensor) -> Tensor:
        """F, (users), of ratings given as codes, (users, items)."""
        pairs = self.pairs(codes)
        return self.free_energy(self.visible_states(codes, pairs), pairs)

    # --- training and prediction ---

    def loss(self, batch: Batch) -> Tensor:
        """Mean free energy of the data minus that of the chain, per rating.

        The data are the known ratings and the target's. Where the two differ (val), the known ones
        are clamped: the loss is how much more probable the ratings that the chain draws are than
        the true ones. The chain starts from the data (with `pcd`, in training, from where it was),
        and its last step takes the mean of v, which is less noisy.
        """
        codes = _data(batch)
        return self._gap(batch, codes, self.pairs(codes))

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`log_odds` (users, items) that a film is liked, and the expected `stars` (users, items).

        Both are given the mean of h given the known ratings. Bernoulli units have no stars.
        """
        return self._outputs(batch, self.pairs(batch.observed))

    def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss` and `predict`; the visible units of both are found once."""
        codes = _data(batch)
        pairs = self.pairs(codes)
        observed_pairs = batch.observed[pairs.row, pairs.item].nonzero()[:, 0]
        row = pairs.row[observed_pairs]
        ratings = torch.bincount(row, minlength=len(codes))
        outputs = self._outputs(batch, Pairs(row, pairs.item[observed_pairs], ratings))
        return self._gap(batch, codes, pairs), outputs

    def _gap(self, batch: Batch, codes: Tensor, pairs: Pairs) -> Tensor:
        """`loss`, where `pairs` are those of the data's `codes`."""
        v = self.visible_states(codes, pairs)
        free = batch.target[pairs.row, pairs.item] > 0
        if self.training and self.clamped:
            free = free & (torch.rand(len(v), device=v.device) >= self.clamped)
        bias = self.conditional_bias(pairs)
        a = self.hidden_logits(v, pairs, bias)
        with torch.no_grad():
            model = self._chain(batch, v, a, pairs, free)
        model_a = self.hidden_logits(model, pairs, bias)
        gap = self._free_energy(v, a, pairs) - self._free_energy(model, model_a, pairs)
        return gap.sum() / free.sum().clamp_min(1)

    def _chain(self, batch: Batch, v: Tensor, a: Tensor, pairs: Pairs, free: Tensor) -> Tensor:
        """The mean of v at the end of k steps of the chain; `a` are the hidden logits of v."""
        if self.training and len(self.chains) > 0:
            h = self.chains[batch.user].to(v.dtype)
            _, h, mean = self.gibbs(v, h, pairs, free, self.k)
            self.chains[batch.user] = h.to(torch.uint8)
            return mean
        h = blocks.draw_binary(a.sigmoid())
        v, h, _ = self.gibbs(v, h, pairs, free, self.k - 1)
        # Nothing reads the states that the last step would draw.
        return torch.where(free[:, None], self.visible_probs(h, pairs), v)

    def _outputs(self, batch: Batch, pairs: Pairs) -> dict[str, Tensor]:
        """`predict`, where `pairs` are those of the known ratings."""
        v = self.visible_states(batch.observed, pairs)
        h = self.hidden_logits(v, pairs).sigmoid()
        logits = self.visible_logits(h, pairs)
        if self.binary:
            return {"log_odds": logits[..., 0]}
        disliked = logits[..., : self.liked_from].logsumexp(-1)
        liked = logits[..., self.liked_from :].logsumexp(-1)
        values = torch.tensor(self.values, dtype=logits.dtype, device=logits.device)
        return {"log_odds": liked - disliked, "stars": logits.softmax(-1) @ values}

    # --- exact inference and sampling, for a few films of one user ---

    def exact_log_odds(self, codes: Tensor, items: Tensor) -> Tensor:
        """Log odds, (n), that each of `items`, (n), is liked given a user's codes, (items).

        Each film is added to the known ratings alone, at each level: P(v_i = l | known) is
        proportional to exp(-F), in which the hidden units are summed out. Costs a free energy for
        each film and level.
        """
        if self.binary:
            # States 0 and 1: the highest rating that is not liked, and the lowest that is.
            levels = self.liked_from + torch.tensor([-1, 0])
        else:
            levels = torch.arange(len(self.values))
        rows = codes.repeat(len(items), 1)
        row = torch.arange(len(items))
        log_masses = []
        for level in levels:
            rows[row, items] = level.to(rows.dtype) + 1
            log_masses.append(-self.free_energy_of(rows))
        log_mass = torch.stack(log_masses)
        liked = levels >= self.liked_from
        return log_mass[liked].logsumexp(0) - log_mass[~liked].logsumexp(0)

    @torch.no_grad()
    def gibbs_log_odds(
        self, codes: Tensor, items: Tensor, chains: int, steps: int, seed: int = 0
    ) -> Tensor:
        """`exact_log_odds` by Gibbs sampling: `chains` chains of `steps` steps for each film.

        The known ratings are clamped; the estimate is the mean of P(v_i | h) over all steps. The
        global random state is left as it was.
        """
        repeated = items.repeat_interleave(chains)
        rows = codes.repeat(len(repeated), 1)
        rows[torch.arange(len(repeated)), repeated] = 1
        pairs = self.pairs(rows)
        v = self.visible_states(rows, pairs)
        free = pairs.item == repeated[pairs.row]
        first_liked = 0 if self.binary else self.liked_from
        total = torch.zeros(len(repeated))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            h = blocks.draw_binary(self.hidden_logits(v, pairs).sigmoid())
            for _ in range(steps):
                v, h, mean = self.gibbs(v, h, pairs, free, 1)
                total += mean[free][:, first_liked:].sum(1)
        return (total / steps).view(len(items), chains).mean(1).logit()

    @torch.no_grad()
    def units(self) -> Tensor:
        """The weight of each film in each hidden unit, (hidden, items).

        How much a unit that is on adds to the logit of the highest level over that of the lowest.
        """
        films = (self.weight + self.common).transpose(1, 2)
        weights = films @ self.scale.T  # (items, hidden, levels)
        # A Bernoulli unit has one level, and nothing to subtract.
        lowest = weights[..., 0] * (weights.shape[-1] > 1)
        return (weights[..., -1] - lowest).T

    # --- parts of the formulas ---

    def _free_energy(self, v: Tensor, a: Tensor, pairs: Pairs) -> Tensor:
        """F(v), (users), where `a` are the hidden logits of v."""
        return -self._visible_part(v, pairs) + HIDDEN_OFFSET * a.sum(1) - F.softplus(a).sum(1)

    def _visible_part(self, v: Tensor, pairs: Pairs) -> Tensor:
        """sum_i (v_i - mu_i) b_i, (users)."""
        terms = ((v - self.offset[pairs.item]) * self.visible_bias[pairs.item]).sum(1)
        return terms.new_zeros(len(pairs.ratings)).index_add(0, pairs.row, terms)

    def _visible_field(self, h: Tensor, pairs: Pairs) -> Tensor:
        """s W_i (h - lambda), (users, items, features)."""
        field = (self._shrink(pairs) * (h - HIDDEN_OFFSET)) @ self._flat_weight().T
        return field.unflatten(1, self.weight.shape[:2])

    def _shrink(self, pairs: Pairs) -> Tensor:
        """s, (users, 1)."""
        return (self.shrinkage / (pairs.ratings + self.shrinkage)).sqrt()[:, None]

    def _flat_weight(self) -> Tensor:
        """W, (items * features, hidden): the part of each film and the part that all share."""
        return (self.weight + self.common).flatten(0, 1)


def _data(batch: Batch) -> Tensor:
    """The codes of all ratings of a batch, known or to predict, (users, items).

    A rating that is both has the same code in both.
    """
    return torch.maximum(batch.observed, batch.target)
