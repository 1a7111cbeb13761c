"""Boltzmann machine on the columns of a table: every unit may be coupled to every other."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import UsageError
from ..kinds.tabular.encoder import Batch
from . import blocks

COUNTABLE = 2**20  # the most states that are enumerated
CHUNK_STATES = 2**15  # of an enumeration at a time, which bounds the memory
HIDDEN_COUNTABLE = 12  # coupled hidden units whose 2^n states are summed over for each row
PSEUDO_ROWS = 1.0  # added to the counts of each column's states, spread evenly over them

# Annealed importance sampling of an uncountable machine. On the plant with 30 hidden units, 100
# chains of 500 temperatures are within 0.02 nat of the exact log Z.
AIS_CHAINS = 100
AIS_STEPS = 500
# Completions of a row that are enumerated in an uncountable machine; a row with more is annealed.
ROW_COMPLETIONS = 4096
GAP_SWEEPS = 10  # that draw the missing cells of a training row, from a random start
DRAW_SWEEPS = 100  # that draw a scenario, or a sample for the pair probabilities
SAMPLES = 1000  # for the pair probabilities of an uncountable machine
DRAW_TEMPERATURES = 5  # of the tempered chains that draw these

Block: TypeAlias = Literal["visible", "between", "hidden"]


class Color(NamedTuple):
    """Units that no coupling joins, so that all of them are drawn at once.

    `groups` and `hidden` are their places among the columns and among the hidden units. The columns
    of the state that they fill are `columns`; `slots` (groups, levels) are the places of the
    states of each group among these, padded with the number of columns.
    """

    groups: Tensor
    hidden: Tensor
    columns: Tensor
    slots: Tensor


class Completions(NamedTuple):
    """Distinct scenarios of one row: the states of all columns, how often each was drawn, and its
    log probability given the cells that are known.
    """

    codes: Tensor  # (scenarios, columns) int64
    draws: Tensor  # (scenarios) int64
    log_probability: Tensor  # (scenarios) float64


class Boltzmann(nn.Module):
    """Units with couplings between any two of them (Ackley, Hinton and Sejnowski 1985).

    A visible unit is a column of the table. It has one state per bin of a number, by quantiles of
    training, or per level of a category, as a softmax (Potts) unit; a hidden unit is binary. With s
    the states of all units, one-hot for visible ones,

        E(s) = - b s - sum_{i < j} J_ij s_i s_j,    P(s) = exp(-E(s)) / Z

    A mask says which J may differ from 0. `couplings` opens its blocks: `visible` (pairs of
    columns), `between` (a column and a hidden unit: with this alone it is the restricted machine)
    and `hidden` (pairs of hidden units). `couple` sets any other mask.

    Hidden units are summed out: in closed form if no coupling joins two of them,

        -F(v) = b v + sum_{i < j} J_ij v_i v_j + sum_k log(1 + exp(c_k + J_k v))

    and by their 2^n states otherwise. A missing cell is summed out too, so that a row with gaps
    counts with the probability of what it shows.

    `likelihood: exact` maximises the log-likelihood itself, over all states of the visible units,
    of which there may be COUNTABLE. `sampled` takes the expectations under the model from `chains`
    persistent Markov chains (Tieleman 2008), which `sweeps` Gibbs sweeps move on at each step. They
    are tempered: `temperatures` replicas of each chain lie between the machine and independent
    columns, and neighbours are swapped (Salakhutdinov, NIPS 2009; Desjardins et al., AISTATS 2010).
    A sweep draws one colour of the graph of couplings after the other, hidden units first.

    Whatever the training, log probabilities are exact where the states can be counted. Elsewhere
    log Z comes from annealed importance sampling (Neal 2001) from independent columns, and a
    missing cell of a row is summed out over at most ROW_COMPLETIONS completions, or annealed.

    `l1` and `l2` penalise the couplings: l1 sum |J_ij| + l2 / 2 sum J_ij^2 is added to the loss.
    `init` is the standard deviation of the initial couplings.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = ("log_probability", "codes", "seen", "pairs")
    progress = 0.0
    states: int
    edges: Tensor
    middles: Tensor
    present: Tensor
    base: Tensor
    seen: Tensor
    chains: Tensor
    group_of: Tensor
    mask: Tensor

    def __init__(
        self,
        numeric: int,
        cardinalities: Sequence[int],
        *,
        bins: Annotated[int, Field(ge=2, le=64)],
        hidden: Annotated[int, Field(ge=0)],
        couplings: list[Block],
        likelihood: Literal["exact", "sampled"],
        chains: Annotated[int, Field(ge=1)],
        sweeps: Annotated[int, Field(ge=1, le=1000)],
        temperatures: Annotated[int, Field(ge=1, le=1000)],
        l1: Annotated[float, Field(ge=0)],
        l2: Annotated[float, Field(ge=0)],
        init: Annotated[float, Field(ge=0)],
    ):
        super().__init__()
        self.levels = [bins] * numeric + list(cardinalities)
        self.hidden = hidden
        self.exact = likelihood == "exact"
        self.sweeps = sweeps
        self.temperatures = temperatures
        self.l1 = l1
        self.l2 = l2
        self.states = math.prod(self.levels)
        self.kept: tuple[Tensor, Tensor, Tensor] | None = None
        if self.exact and not self.countable:
            raise UsageError(
                f"`likelihood: exact` counts at most {COUNTABLE:,} states, and these columns have"
                f" {self.states:.3g}; set `likelihood: sampled`, or fewer bins or columns"
            )
        width = sum(self.levels)
        units = width + hidden
        self.width = width
        groups = torch.arange(len(self.levels))
        # With the size, memory.py can build the net without numbers.
        group_of = torch.repeat_interleave(groups, torch.tensor(self.levels), output_size=width)
        self.register_buffer("group_of", group_of, persistent=False)
        self.register_buffer("edges", torch.full((numeric, bins - 1), blocks.NO_EDGE))
        self.register_buffer("middles", torch.zeros(numeric, bins))
        # Bins that a column with few values lacks have no state.
        self.register_buffer("present", torch.ones(units, dtype=torch.bool))
        self.register_buffer("base", torch.zeros(units))  # the biases of independent columns
        # One bit for each state that a training row showed; beyond COUNTABLE states several share
        # a bit, so that of n rows about n / COUNTABLE count as seen by chance.
        self.register_buffer("seen", torch.zeros(min(self.states, COUNTABLE), dtype=torch.bool))
        kept = 0 if self.exact else chains
        self.register_buffer("chains", torch.zeros(temperatures, kept, units, dtype=torch.uint8))
        # Symmetric; a coupling J_ij is the mean of its two entries.
        noise = torch.randn(units, units) * init
        self.weight = nn.Parameter((noise + noise.T) / 2**0.5)
        self.bias = nn.Parameter(torch.zeros(units))
        self.register_buffer("mask", torch.zeros(units, units), persistent=False)
        self.couple(self.mask_of(couplings))

    @staticmethod
    def check(
        net: Mapping[str, object], optimizer: Mapping[str, object], schedule: Mapping[str, object]
    ) -> None:
        """Raise UsageError for arguments that are each valid and do not go together."""
        couplings = net["couplings"]
        hidden = net["hidden"]
        assert isinstance(couplings, list)
        assert isinstance(hidden, int)
        if "hidden" in couplings and hidden > HIDDEN_COUNTABLE:
            raise UsageError(
                f"hidden is {hidden}, and `couplings` has `hidden`: the states of coupled hidden"
                f" units are summed over, so at most {HIDDEN_COUNTABLE} are possible; set fewer, or"
                " remove `hidden` from `couplings`"
            )
        if not hidden and couplings != ["visible"]:
            raise UsageError(
                f"couplings is {couplings} and hidden is 0: without hidden units, only `visible`"
                " couplings exist; write `couplings: [visible]`, or set `hidden`"
            )
        if optimizer["weight_decay"]:
            raise UsageError(
                "optimizer.weight_decay would pull the biases to 0, too; set it to 0, and net.l2"
            )

    # --- the graph of couplings ---

    @property
    def countable(self) -> bool:
        """Whether the states of the visible units can be enumerated."""
        return self.states <= COUNTABLE

    @property
    def layered(self) -> bool:
        """Whether no coupling joins two hidden units, which then are summed out in closed form."""
        return not self.mask[self.width :, self.width :].any()

    def mask_of(self, couplings: Sequence[Block]) -> Tensor:
        """The mask, (units, units), with these blocks open; a unit has no coupling to itself."""
        visible = torch.arange(self.width + self.hidden) < self.width
        both_visible = visible[:, None] & visible
        both_hidden = ~visible[:, None] & ~visible
        open_blocks = {
            "visible": both_visible,
            "between": visible[:, None] != visible,
            "hidden": both_hidden,
        }
        mask = torch.zeros(self.width + self.hidden, self.width + self.hidden, dtype=torch.bool)
        for name in couplings:
            mask |= open_blocks[name]
        node = self._node_of_column()
        return (mask & (node[:, None] != node)).float()

    def couple(self, mask: Tensor) -> None:
        """Set the mask, (units, units), symmetric, 0 within a unit, and colour its graph."""
        self.mask.copy_(mask)
        node = self._node_of_column()
        nodes = len(self.levels) + self.hidden
        onto = torch.nn.functional.one_hot(node, nodes).float()
        adjacent = (onto.T @ mask.cpu().abs() @ onto) > 0
        self.colors = [self._color(part) for part in colored(adjacent, len(self.levels))]

    def _node_of_column(self) -> Tensor:
        """The unit of each column of the state, (units): groups first, then hidden units."""
        groups = len(self.levels)
        return torch.cat([self.group_of, torch.arange(groups, groups + self.hidden)])

    def _color(self, nodes: Sequence[int]) -> Color:
        groups = [node for node in nodes if node < len(self.levels)]
        hidden = [node - len(self.levels) for node in nodes if node >= len(self.levels)]
        starts = [sum(self.levels[:group]) for group in groups]
        columns: list[int] = []
        width = max([self.levels[group] for group in groups], default=0)
        size = sum(self.levels[group] for group in groups)
        slots = torch.full((len(groups), width), size)
        for i, (group, start) in enumerate(zip(groups, starts, strict=True)):
            levels = self.levels[group]
            slots[i, :levels] = torch.arange(len(columns), len(columns) + levels)
            columns += range(start, start + levels)
        columns += [self.width + unit for unit in hidden]
        return Color(
            torch.tensor(groups, dtype=torch.int64),
            torch.tensor(hidden, dtype=torch.int64),
            torch.tensor(columns, dtype=torch.int64),
            slots,
        )

    @property
    def couplings(self) -> Tensor:
        """J, (units, units), symmetric and 0 where the mask is."""
        return self.mask * (self.weight + self.weight.T) / 2

    # --- states ---

    @torch.no_grad()
    def initialise(self, train: Batch) -> None:
        """Learn the bins, set the biases to the base rates, and start the chains from these."""
        self.edges.copy_(blocks.quantile_edges(train.numeric, self.middles.shape[1]))
        codes = self.codes(train)
        for column, values in enumerate(train.numeric.T):
            for level in range(self.middles.shape[1]):
                inside = values[codes[:, column] == level]
                if len(inside):
                    self.middles[column, level] = inside.median()
        self.present[: self._numbers].copy_(self._existing_bins())
        counts = self.one_hot(codes).sum(0)
        rates = torch.zeros_like(counts)
        for group, levels in enumerate(self.levels):
            columns = self.group_of == group
            present = self.present[: self.width] & columns
            smoothed = counts[present] + PSEUDO_ROWS / levels
            rates[present] = smoothed / smoothed.sum()
        self.base[: self.width] = torch.where(rates > 0, rates.log(), 0.0)
        self.bias.copy_(self.base)
        complete = codes[(codes >= 0).all(1)]
        self.seen[self._bits(complete)] = True
        if self.chains.numel():
            temperatures, chains, _ = self.chains.shape
            start = self._independent(temperatures * chains)
            self.chains.copy_(start.view_as(self.chains).to(torch.uint8))

    @property
    def _numbers(self) -> int:
        """The states of all numeric columns together."""
        return self.middles.numel()

    def _existing_bins(self) -> Tensor:
        """Which bins the numeric columns have, (states of numeric columns)."""
        bins = (self.edges < blocks.NO_EDGE).sum(1) + 1
        places = torch.arange(self.middles.shape[1], device=bins.device)
        return (places < bins[:, None]).flatten()

    def codes(self, batch: Batch) -> Tensor:
        """The state of each column, (rows, columns) int64; -1 where it is not known."""
        return blocks.state_codes(batch.numeric, batch.categories, self.edges)

    def one_hot(self, codes: Tensor) -> Tensor:
        """v, (rows, states of all columns); zeros where a state is not known."""
        return one_hot(codes, self.levels).to(self.bias.dtype)

    def _codes_of(self, v: Tensor) -> Tensor:
        """The inverse of `one_hot` for rows without gaps."""
        parts = v[:, : self.width].split(self.levels, 1)
        return torch.stack([part.argmax(1) for part in parts], 1)

    def _strides(self) -> Tensor:
        """What each column's state adds to the number of a state, (columns)."""
        strides = [math.prod(self.levels[place + 1 :]) for place in range(len(self.levels))]
        return torch.tensor(strides, device=self.bias.device)

    def _index(self, codes: Tensor) -> Tensor:
        """The number of each state of all columns, from 0 to `states` - 1; of countable ones."""
        return (codes * self._strides()).sum(1)

    def _bits(self, codes: Tensor) -> Tensor:
        """The place of complete rows in `seen`: the number of their state, or a hash of it."""
        if self.countable:
            return self._index(codes)
        generator = torch.Generator().manual_seed(0)
        factors = torch.randint(2**31, (len(self.levels),), generator=generator)
        return (codes * factors.to(codes.device)).sum(1) % len(self.seen)

    def has_seen(self, codes: Tensor) -> Tensor:
        """Whether a training row showed this state, (rows) bool; False for a row with gaps."""
        complete = (codes >= 0).all(1)
        bits = self._bits(codes.clamp_min(0))
        return complete & self.seen[bits]

    # --- as an energy-based model ---

    def negative_energy(self, s: Tensor, beta: Tensor | float = 1.0) -> Tensor:
        """-E(s), (rows), of states of all units, (rows, units).

        At `beta` below 1: of the machine between independent columns (0) and this one (1).
        """
        s = s.to(self.bias.dtype)
        own = s @ self.bias + 0.5 * ((s @ self.couplings) * s).sum(1)
        return beta * own + (1 - beta) * (s @ self.base)

    def log_mass(self, v: Tensor, beta: Tensor | float = 1.0) -> Tensor:
        """-F(v), (rows): the log of the unnormalised probability, hidden units summed out.

        `beta` (rows) as of `negative_energy`. It is -inf for a bin that does not exist.
        """
        j = self.couplings
        split = self.width
        own = v @ self.bias[:split] + 0.5 * ((v @ j[:split, :split]) * v).sum(1)
        total = beta * own + (1 - beta) * (v @ self.base[:split])
        if self.hidden:
            a = v @ j[:split, split:] + self.bias[split:]
            total = total + self._hidden_log_mass(a, beta)
        absent = v @ (~self.present[:split]).to(v.dtype)
        return torch.where(absent > 0, -torch.inf, total)

    def _hidden_log_mass(self, a: Tensor, beta: Tensor | float) -> Tensor:
        """log sum_h exp(beta (a h + sum_{k < l} J_kl h_k h_l)), (rows), for a, (rows, hidden)."""
        if isinstance(beta, Tensor):
            beta = beta[:, None]
        if self.layered:
            return nn.functional.softplus(beta * a).sum(1)
        return (beta * self._hidden_exponents(a)).logsumexp(1)

    def _hidden_exponents(self, a: Tensor) -> Tensor:
        """a h + sum_{k < l} J_kl h_k h_l for all states h, (rows, 2^hidden)."""
        h = self._hidden_states()
        own = 0.5 * ((h @ self.couplings[self.width :, self.width :]) * h).sum(1)
        return a @ h.T + own

    def _hidden_states(self) -> Tensor:
        """All states of the hidden units, (2^hidden, hidden)."""
        number = torch.arange(2**self.hidden, device=self.bias.device)
        bit = torch.arange(self.hidden, device=self.bias.device)
        return ((number[:, None] >> bit) & 1).to(self.bias.dtype)

    # --- exact enumeration ---

    def all_codes(self) -> Iterator[Tensor]:
        """All states of the visible units in the order of their numbers, in chunks."""
        strides = self._strides()
        levels = torch.tensor(self.levels, device=strides.device)
        for start in range(0, self.states, CHUNK_STATES):
            end = min(start + CHUNK_STATES, self.states)
            number = torch.arange(start, end, device=strides.device)
            yield (number[:, None] // strides) % levels

    @torch.no_grad()
    def log_masses(self) -> Tensor:
        """-F of every state of the visible units, (states) in float64; see `all_codes`."""
        if not self.layered:
            chunks = [self.log_mass(self.one_hot(codes)).double() for codes in self.all_codes()]
            return torch.cat(chunks)
        first, second = self._halves()
        cut, split = first.shape[1], self.width
        j = self.couplings
        total = self._own_mass(first, 0)[:, None] + self._own_mass(second, cut)
        total += first @ j[:cut, cut:split] @ second.T
        for first_a, second_a in self._hidden_inputs(first, second):
            total += nn.functional.softplus(first_a[:, None] + second_a)
        return total.flatten().double()

    # All states are the pairs of a state of the first columns and one of the others. What couples
    # the two halves is a small product, so that a step over 131,072 states of 17 columns takes
    # a tenth of the time that products with all of them take.

    def _halves(self) -> tuple[Tensor, Tensor]:
        """v of all states of the first columns, and of all states of the others; about as many."""
        sizes = [math.prod(self.levels[:cut]) for cut in range(len(self.levels) + 1)]
        cut = min(range(len(sizes)), key=lambda place: abs(sizes[place] ** 2 - self.states))
        v = []
        for levels in (self.levels[:cut], self.levels[cut:]):
            ranges = [torch.arange(count, device=self.bias.device) for count in levels]
            states = torch.zeros(1, 0, dtype=torch.int64, device=self.bias.device)
            if ranges:
                states = torch.cartesian_prod(*ranges).view(-1, len(levels))
            v.append(one_hot(states, levels).to(self.bias.dtype))
        return v[0], v[1]

    def _own_mass(self, v: Tensor, start: int) -> Tensor:
        """What the columns of v, which begin at `start`, add to -F by themselves, (states)."""
        columns = slice(start, start + v.shape[1])
        own = v @ self.bias[columns] + 0.5 * ((v @ self.couplings[columns, columns]) * v).sum(1)
        return torch.where(v @ (~self.present[columns]).to(v.dtype) > 0, -torch.inf, own)

    def _hidden_inputs(self, first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each hidden unit, what each state of the two halves adds to its log odds."""
        between = self.couplings[: self.width, self.width :]
        cut = first.shape[1]
        first_a = first @ between[:cut]
        second_a = second @ between[cut:] + self.bias[self.width :]
        yield from zip(first_a.T, second_a.T, strict=True)

    def _moments_of_all(self, weights: Tensor, hidden: bool = True) -> tuple[Tensor, Tensor]:
        """`_moments` of all states with their `weights`, (states); if not `hidden`, of columns."""
        pairs = torch.zeros_like(self.weight)
        singles = torch.zeros_like(self.bias)
        if not self.layered:
            for codes, part in zip(self.all_codes(), weights.split(CHUNK_STATES), strict=True):
                chunk_pairs, chunk_singles = self._moments(self.one_hot(codes), part)
                pairs += chunk_pairs
                singles += chunk_singles
            return pairs, singles
        first, second = self._halves()
        cut, split = first.shape[1], self.width
        by_half = weights.view(len(first), len(second))
        rows, columns = by_half.sum(1), by_half.sum(0)
        pairs[:cut, :cut] = (first * rows[:, None]).T @ first
        pairs[cut:split, cut:split] = (second * columns[:, None]).T @ second
        pairs[:cut, cut:split] = first.T @ by_half @ second
        singles[:cut] = first.T @ rows
        singles[cut:split] = second.T @ columns
        inputs = self._hidden_inputs(first, second) if hidden else iter(())
        for unit, (first_a, second_a) in enumerate(inputs, start=split):
            active = by_half * (first_a[:, None] + second_a).sigmoid()
            pairs[:cut, unit] = first.T @ active.sum(1)
            pairs[cut:split, unit] = second.T @ active.sum(0)
            singles[unit] = active.sum()
        return pairs.triu() + pairs.triu(1).T, singles

    def exact_log_z(self) -> Tensor:
        """log Z by enumeration, a scalar in float64."""
        return self.log_masses().logsumexp(0)

    def _patterns(self, codes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows of each pattern of gaps, and its gaps, (columns) bool."""
        unknown = codes < 0
        has_gap = unknown.any(1)
        complete = (~has_gap).nonzero()[:, 0]
        if len(complete):
            yield complete, torch.zeros_like(unknown[0])
        rows = has_gap.nonzero()[:, 0]
        if len(rows):
            patterns, pattern_of = unknown[rows].unique(dim=0, return_inverse=True)
            for number, gaps in enumerate(patterns):
                yield rows[pattern_of == number], gaps

    def _completions(self, gaps: Tensor) -> Tensor:
        """All states of the columns with gaps, (completions, columns); 0 in the others."""
        parts = []
        for levels, gap in zip(self.levels, gaps.tolist(), strict=True):
            parts.append(torch.arange(levels if gap else 1, device=gaps.device))
        grid = torch.cartesian_prod(*parts)
        return grid.view(-1, len(self.levels))

    def _consistent(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers of all states that the rows may have, and the row of each: two flat tensors.

        The last ones are kept: each step of a training has the same rows.
        """
        if self.kept is not None and torch.equal(self.kept[0], codes):
            return self.kept[1], self.kept[2]
        parts = []
        row_of = []
        for rows, gaps in self._patterns(codes):
            known = self._index(torch.where(gaps, 0, codes[rows]))
            index = known[:, None] + self._index(self._completions(gaps))
            parts.append(index.flatten())
            row_of.append(rows.repeat_interleave(index.shape[1]))
        self.kept = (codes, torch.cat(parts), torch.cat(row_of))
        return self.kept[1], self.kept[2]

    def _observed(self, codes: Tensor, masses: Tensor) -> Tensor:
        """log sum of exp(-F) over the states that each row may have, (rows), given all -F."""
        index, row_of = self._consistent(codes)
        # One shift for all rows: in float64 it leaves those that are e^700 times less likely.
        shift = masses.max()
        total = masses.new_zeros(len(codes))
        total.index_add_(0, row_of, (masses[index] - shift).exp())
        return total.log() + shift

    # --- training ---

    def loss(self, batch: Batch) -> Tensor:
        """The negative log-likelihood per row; in training with the penalty on the couplings.

        In training with `likelihood: sampled` it is a difference of free energies with the same
        gradient: of the rows, and of the chains, which move on.
        """
        if not self.training:
            return -self.log_probability(self.codes(batch)).mean()
        loss, pairs, singles = self._loss_and_slopes(batch)
        # A scalar of value 0, whose gradients are the slopes.
        zero = (self.weight * pairs).sum() + (self.bias * singles).sum()
        return loss + (zero - zero.detach())

    def gradients(self, batch: Batch) -> Tensor:
        """The value of `loss`, without a graph; sets the gradients of couplings and biases."""
        loss, self.weight.grad, self.bias.grad = self._loss_and_slopes(batch)
        return loss

    @torch.no_grad()
    def _loss_and_slopes(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and its gradients by `weight` and `bias`, which are differences of moments."""
        codes = self.codes(batch)
        if self.exact:
            loss, pairs, singles = self._exact_gradients(codes)
        else:
            loss, pairs, singles = self._sampled_gradients(codes)
        j = self.couplings
        pairs = pairs + self.l1 * j.sign() + self.l2 * j
        # A coupling is in two entries of the matrix, so that each has half of its gradient.
        return loss.to(self.bias.dtype) + self._penalty(), 0.5 * self.mask * pairs, singles

    def _sampled_gradients(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean -F of the chains minus that of the rows, and the same difference of moments."""
        v = self._completed(codes)
        model = self._next_chains()
        pairs, singles = self._moments(model, torch.full_like(model[:, 0], 1 / len(model)))
        row_pairs, row_singles = self._moments(v, torch.full_like(v[:, 0], 1 / len(v)))
        loss = self.log_mass(model).mean() - self.log_mass(v).mean()
        return loss, pairs - row_pairs, singles - row_singles

    def _exact_gradients(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The negative log-likelihood per row, and the moments of the model minus those of rows."""
        masses = self.log_masses()
        log_z = masses.logsumexp(0)
        surplus = (masses - log_z).exp()  # of the model over the rows, for each state
        observed = self._observed(codes, masses)
        index, row_of = self._consistent(codes)
        surplus.index_add_(0, index, -(masses[index] - observed[row_of]).exp() / len(codes))
        pairs, singles = self._moments_of_all(surplus.to(self.bias.dtype))
        return log_z - observed.mean(), pairs, singles

    def _moments(self, v: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted sums of s_i s_j, (units, units), and of s_i, (units), over visible states.

        The hidden units have their expectations given v.
        """
        if not self.hidden:
            return (v * weights[:, None]).T @ v, weights @ v
        split = self.width
        j = self.couplings
        a = v @ j[:split, split:] + self.bias[split:]
        if self.layered:
            h = a.sigmoid()
        else:
            states = self._hidden_states()
            posterior = self._hidden_exponents(a).softmax(1)
            h = posterior @ states
        s = torch.cat([v, h], 1)
        pairs = (s * weights[:, None]).T @ s
        if not self.layered:
            joint = weights @ posterior
            pairs[split:, split:] = (states * joint[:, None]).T @ states
        return pairs, weights @ s

    def _penalty(self) -> Tensor:
        """l1 sum |J_ij| + l2 / 2 sum J_ij^2 over the pairs i < j."""
        j = self.couplings
        return 0.5 * self.l1 * j.abs().sum() + 0.25 * self.l2 * (j**2).sum()

    @torch.no_grad()
    def _completed(self, codes: Tensor) -> Tensor:
        """v of the rows, with missing cells drawn given the known ones."""
        v = self.one_hot(codes)
        rows = (codes < 0).any(1).nonzero()[:, 0]
        if len(rows):
            s = self._start(codes[rows])
            for _ in range(GAP_SWEEPS):
                s = self.sweep(s, codes[rows] >= 0)
            v[rows] = s[:, : self.width]
        return v

    @torch.no_grad()
    def _next_chains(self) -> Tensor:
        """v of the chains at temperature 1, (chains, states of all columns), after some sweeps."""
        s = self.tempered(self.chains.to(self.bias.dtype), self.sweeps)
        self.chains.copy_(s.to(torch.uint8))
        return s[0, :, : self.width]

    # --- sampling ---

    def sweep(self, s: Tensor, clamped: Tensor | None = None, beta: Tensor | float = 1.0) -> Tensor:
        """Draw every unit given the others, one colour after the other; s is (rows, units).

        Columns that are `clamped`, (rows, columns) bool, keep their states. `beta`, (rows, 1) or a
        number, is the inverse temperature, as of `negative_energy`.
        """
        s = s.clone()
        j = self.couplings
        for color in self.colors:
            columns = color.columns
            field = beta * (s @ j[:, columns] + self.bias[columns])
            logits = field + (1 - beta) * self.base[columns]
            logits = logits.masked_fill(~self.present[columns], -torch.inf)
            drawn = []
            if len(color.groups):
                drawn.append(self._drawn_groups(logits, color))
                if clamped is not None:
                    kept = clamped[:, self.group_of[columns[: drawn[0].shape[1]]]]
                    drawn[0] = torch.where(kept, s[:, columns[: kept.shape[1]]], drawn[0])
            if len(color.hidden):
                probs = logits[:, len(columns) - len(color.hidden) :].sigmoid()
                drawn.append(blocks.draw_binary(probs))
            s[:, columns] = torch.cat(drawn, 1)
        return s

    def _drawn_groups(self, logits: Tensor, color: Color) -> Tensor:
        """A one-hot state of each group of a colour, in the columns of the colour."""
        size = len(color.columns) - len(color.hidden)
        exists = color.slots < size
        nothing = torch.full_like(logits[:, :1], -torch.inf)
        padded = torch.cat([logits[:, :size], nothing], 1)[:, color.slots]
        # The state of the largest p / e, with e exponential, has the probability p: a quarter of
        # the time of torch.multinomial, and a state of probability 0 is never drawn.
        probs = padded.softmax(2)
        drawn = (probs / torch.empty_like(probs).exponential_()).argmax(2, keepdim=True)
        levels = torch.arange(probs.shape[2], device=probs.device)
        return (drawn == levels).flatten(1)[:, exists.flatten()].to(probs.dtype)

    def _independent(self, rows: int) -> Tensor:
        """Draws of independent columns at the base rates, hidden units at 1/2: (rows, units)."""
        zeros = torch.zeros(rows, self.width + self.hidden, device=self.bias.device)
        return self.sweep(zeros, beta=0.0)

    def _start(self, codes: Tensor) -> Tensor:
        """The known cells, and draws of independent columns for the others: (rows, units)."""
        s = self._independent(len(codes))
        known = (codes >= 0)[:, self.group_of]
        s[:, : self.width] = torch.where(known, self.one_hot(codes), s[:, : self.width])
        return s

    def tempered(self, s: Tensor, sweeps: int, clamped: Tensor | None = None) -> Tensor:
        """Parallel tempering of s, (temperatures, chains, units), the first of them at 1.

        After each sweep, neighbours of even and odd number in turn are swapped with the probability
        that keeps the joint distribution of all temperatures. `clamped` is (chains, columns).
        """
        temperatures, chains, _ = s.shape
        betas = torch.linspace(1, 0, temperatures, device=s.device)
        if temperatures == 1:
            betas = torch.ones(1, device=s.device)
        by_row = betas.repeat_interleave(chains)[:, None]
        clamps = None if clamped is None else clamped.repeat(temperatures, 1)
        for number in range(sweeps):
            s = self.sweep(s.flatten(0, 1), clamps, by_row).view_as(s)
            pairs = torch.arange(temperatures - 1)[number % 2 :: 2]
            if not len(pairs):
                continue
            flat = s.flatten(0, 1)
            # What the couplings add to independent columns, at each temperature and chain.
            added = (self.negative_energy(flat) - flat @ self.base).view(temperatures, chains)
            step = (betas[pairs] - betas[pairs + 1])[:, None]
            log_odds = step * (added[pairs + 1] - added[pairs])
            swap = (torch.rand_like(log_odds) < log_odds.exp())[:, :, None]
            first, second = s[pairs], s[pairs + 1]
            s = s.clone()
            s[pairs] = torch.where(swap, second, first)
            s[pairs + 1] = torch.where(swap, first, second)
        return s

    # --- the partition function by annealing ---

    def _annealing_mass(self, s: Tensor, beta: float) -> Tensor:
        """The log mass whose ratios weigh the chains: hidden units are summed out if layered.

        Then the hidden units are drawn first in each sweep, so that v is a Markov chain by itself.
        """
        if self.layered:
            return self.log_mass(s[:, : self.width], beta).double()
        return self.negative_energy(s, beta).double()

    def _log_z_base(self, codes: Tensor) -> Tensor:
        """log Z of independent columns whose known cells are clamped, (rows) in float64."""
        v = self.one_hot(codes)
        split = self.width
        masked = self.base[:split].masked_fill(~self.present[:split], -torch.inf)
        by_group = torch.stack([part.logsumexp(0) for part in masked.split(self.levels)])
        free = (codes < 0).double() @ by_group.double()
        return free + v.double() @ self.base[:split].double() + self.hidden * math.log(2)

    @torch.no_grad()
    def annealed_log_z(self, codes: Tensor, steps: int) -> Tensor:
        """log Z of each chain, (chains) in float64: annealed importance sampling (Neal 2001).

        `codes`, (chains, columns), are clamped where they are known. The mean of exp is unbiased,
        so that the log of the mean of several chains is too low on average.
        """
        clamped = codes >= 0
        s = self._start(codes)
        total = self._log_z_base(codes)
        betas = torch.linspace(0, 1, steps + 1).tolist()
        for before, after in zip(betas, betas[1:], strict=False):
            total += self._annealing_mass(s, after) - self._annealing_mass(s, before)
            s = self.sweep(s, clamped, after)
        return total

    @torch.no_grad()
    def reverse_log_z(self, s: Tensor, steps: int) -> Tensor:
        """log Z of each chain, (chains) in float64, annealed from samples s of the machine down to
        independent columns.

        -log of the mean of exp(-log Z) is too high on average: with `annealed_log_z` it brackets
        log Z, if s are fair samples (Burda, Grosse and Salakhutdinov, AISTATS 2015).
        """
        unknown = torch.full((len(s), len(self.levels)), blocks.UNKNOWN, device=s.device)
        total = self._log_z_base(unknown)
        betas = torch.linspace(1, 0, steps + 1).tolist()
        for before, after in zip(betas, betas[1:], strict=False):
            if self.layered or before < 1:
                s = self.sweep(s, None, before)
            total += self._annealing_mass(s, before) - self._annealing_mass(s, after)
        return total

    def log_z(self, seed: int = 0) -> tuple[Tensor, Tensor]:
        """log Z, twice: a lower and an upper estimate by annealing, or the exact one where the
        states can be counted.
        """
        if self.countable:
            exact = self.exact_log_z()
            return exact, exact
        return self.bracketed_log_z(seed, AIS_CHAINS, AIS_STEPS)

    @torch.no_grad()
    def bracketed_log_z(self, seed: int, chains: int, steps: int) -> tuple[Tensor, Tensor]:
        """The estimates of log Z by annealing up and by annealing down from tempered samples."""
        up = self._annealed_up(chains, steps, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            start = self._independent(DRAW_TEMPERATURES * chains)
            start = start.view(DRAW_TEMPERATURES, chains, -1)
            samples = self.tempered(start, DRAW_SWEEPS)[0]
            down = self.reverse_log_z(samples, steps)
        return up, math.log(chains) - (-down).logsumexp(0)

    def _annealed_up(self, chains: int, steps: int, seed: int) -> Tensor:
        """log Z by annealing `chains` chains up; the global random state is left as it was."""
        unknown = torch.full((chains, len(self.levels)), blocks.UNKNOWN, device=self.bias.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            weights = self.annealed_log_z(unknown, steps)
        return weights.logsumexp(0) - math.log(chains)

    # --- answers ---

    def log_probability(self, codes: Tensor) -> Tensor:
        """log P of the known cells of each row, (rows) in float64."""
        if self.countable:
            masses = self.log_masses()
            return self._observed(codes, masses) - masses.logsumexp(0)
        log_z = self._annealed_up(AIS_CHAINS, AIS_STEPS, seed=0)
        observed = torch.empty(len(codes), dtype=torch.float64, device=codes.device)
        for rows, gaps in self._patterns(codes):
            observed[rows] = self._uncounted(codes[rows], gaps)
        return observed - log_z

    @torch.no_grad()
    def _uncounted(self, codes: Tensor, gaps: Tensor) -> Tensor:
        """log of the mass of the known cells, (rows), of rows with these gaps."""
        if not gaps.any():
            return self.log_mass(self.one_hot(codes)).double()
        count = math.prod([self.levels[place] for place in gaps.nonzero()[:, 0].tolist()])
        if count <= ROW_COMPLETIONS:
            completions = self._completions(gaps)
            parts = []
            for row in codes:
                filled = torch.where(gaps, completions, row)
                parts.append(self.log_mass(self.one_hot(filled)).double().logsumexp(0))
            return torch.stack(parts)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            weights = self.annealed_log_z(codes.repeat_interleave(AIS_CHAINS, 0), AIS_STEPS)
        return weights.view(len(codes), AIS_CHAINS).logsumexp(1) - math.log(AIS_CHAINS)

    @torch.no_grad()
    def pair_probabilities(self) -> Tensor:
        """P(v_i = 1, v_j = 1), (states of all columns, the same); exact where countable.

        Elsewhere the share of SAMPLES tempered draws, always the same.
        """
        if not self.countable:
            v = self.one_hot(self.draws(SAMPLES, seed=0))
            return v.T @ v / len(v)
        masses = self.log_masses()
        shares = (masses - masses.logsumexp(0)).exp().to(self.bias.dtype)
        pairs, _ = self._moments_of_all(shares, hidden=False)
        return pairs[: self.width, : self.width]

    @torch.no_grad()
    def draws(self, count: int, seed: int, codes: Tensor | None = None) -> Tensor:
        """Tempered draws of all columns, (count, columns); the known cells of `codes` are clamped.

        `codes` is (columns). The global random state is left as it was.
        """
        if codes is None:
            codes = torch.full((len(self.levels),), blocks.UNKNOWN, device=self.bias.device)
        rows = codes.expand(DRAW_TEMPERATURES * count, -1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            start = self._start(rows).view(DRAW_TEMPERATURES, count, -1)
            s = self.tempered(start, DRAW_SWEEPS, rows[:count] >= 0)
        return self._codes_of(s[0])

    @torch.no_grad()
    def complete(self, codes: Tensor, count: int, seed: int) -> Completions:
        """Draw the empty cells of one row, (columns), `count` times, given the known ones.

        Each distinct completion comes once, the most probable first. Its probability is exact where
        the completions can be counted; elsewhere it is its share of the draws, by tempering.
        """
        gaps = codes < 0
        total = math.prod([self.levels[place] for place in gaps.nonzero()[:, 0].tolist()])
        if total > COUNTABLE:
            drawn, number = self.draws(count, seed, codes).unique(dim=0, return_counts=True)
            log_probability = (number.double() / count).log()
        else:
            filled = torch.where(gaps, self._completions(gaps), codes)
            chunks = [self.log_mass(self.one_hot(part)) for part in filled.split(CHUNK_STATES)]
            masses = torch.cat(chunks).double()
            log_probability = masses - masses.logsumexp(0)
            generator = torch.Generator().manual_seed(seed)
            places = torch.multinomial(
                log_probability.exp().cpu(), count, replacement=True, generator=generator
            )
            place, number = places.unique(return_counts=True)
            drawn, log_probability = filled[place], log_probability[place]
        order = log_probability.argsort(descending=True, stable=True)
        return Completions(drawn[order], number[order], log_probability[order])

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Of each row: `log_probability` of its known cells; `codes` (rows, columns), the states;
        `seen`, whether a training row showed all of them; `pairs` (rows, pairs of columns), the
        machine's probability of what the row shows of each pair.
        """
        codes = self.codes(batch)
        return self._outputs(codes, self.log_probability(codes))

    def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss` outside of training and `predict`; log Z is computed once for both."""
        codes = self.codes(batch)
        log_probability = self.log_probability(codes)
        return -log_probability.mean(), self._outputs(codes, log_probability)

    def _outputs(self, codes: Tensor, log_probability: Tensor) -> dict[str, Tensor]:
        return {
            "log_probability": log_probability.to(self.bias.dtype),
            "codes": codes,
            "seen": self.has_seen(codes),
            "pairs": self._pairs(codes),
        }

    def _pairs(self, codes: Tensor) -> Tensor:
        """The probability of what a row shows of each pair of columns, (rows, pairs of columns).

        That is the probability of one state where the other is not known, and 1 where none is.
        """
        table = self.pair_probabilities()
        ends = torch.tensor(self.levels, device=codes.device).cumsum(0)
        # One more row and column, of an unknown state.
        whole = table.new_ones(self.width + 1, self.width + 1)
        whole[:-1, :-1] = table
        whole[:-1, -1] = whole[-1, :-1] = table.diagonal()
        columns = ends - torch.tensor(self.levels, device=codes.device) + codes
        columns = torch.where(codes < 0, self.width, columns)
        first, second = torch.triu_indices(len(self.levels), len(self.levels), 1).to(codes.device)
        return whole[columns[:, first], columns[:, second]]

    # --- what a reader looks at ---

    @torch.no_grad()
    def column_couplings(self) -> Tensor:
        """How each pair of columns is coupled, (columns, columns, levels, levels), padded with 0.

        The blocks have rows and columns of mean 0: only then do they say nothing that the biases
        could say. Hidden units are summed out to second order: W diag(p (1 - p)) W' with p their
        probabilities without any visible unit.
        """
        split = self.width
        j = self.couplings
        direct = j[:split, :split]
        if self.hidden:
            p = self.bias[split:].sigmoid()
            between = j[:split, split:]
            direct = direct + (between * (p * (1 - p))) @ between.T
        most = max(self.levels)
        count = len(self.levels)
        blocks_of = direct.new_zeros(count, count, most, most)
        for first in range(count):
            for second in range(count):
                if first == second:
                    continue
                rows = (self.group_of == first) & self.present[:split]
                columns = (self.group_of == second) & self.present[:split]
                block = direct[rows][:, columns]
                block = block - block.mean(0) - block.mean(1, keepdim=True) + block.mean()
                blocks_of[first, second, : block.shape[0], : block.shape[1]] = block
        return blocks_of

    @torch.no_grad()
    def likely_unseen(self, count: int) -> tuple[Tensor, Tensor]:
        """The most probable states that no training row showed: codes (n, columns), log P (n).

        Of all states where these can be counted, else of SAMPLES draws.
        """
        if self.countable:
            masses = self.log_masses()
            log_p = (masses - masses.logsumexp(0)).masked_fill(self.seen, -torch.inf)
            log_p, place = log_p.topk(min(count, self.states))
            codes = (place[:, None] // self._strides()) % torch.tensor(self.levels)
        else:
            codes = self.draws(SAMPLES, seed=0).unique(dim=0)
            codes = codes[~self.has_seen(codes)]
            log_p, place = self.log_probability(codes).topk(min(count, len(codes)))
            codes = codes[place]
        possible = log_p > -torch.inf
        return codes[possible], log_p[possible]


def colored(adjacent: Tensor, visible: int) -> list[list[int]]:
    """The nodes of a graph in colours: no two of a colour are adjacent; hidden nodes first.

    `adjacent` is (nodes, nodes) bool; the first `visible` of the nodes are. Greedy, nodes with many
    neighbours first (Welsh and Powell 1967).
    """
    neighbors = [set(row.nonzero()[:, 0].tolist()) for row in adjacent]
    colors: list[list[int]] = []
    for layer in (range(visible, len(neighbors)), range(visible)):
        first = len(colors)  # a colour of visible nodes has no hidden ones
        for node in sorted(layer, key=lambda node: (-len(neighbors[node]), node)):
            for color in colors[first:]:
                if not neighbors[node].intersection(color):
                    color.append(node)
                    break
            else:
                colors.append([node])
    return [sorted(color) for color in colors]


def one_hot(codes: Tensor, levels: Sequence[int]) -> Tensor:
    """The states of columns, (rows, columns), as bool (rows, states); none where not known."""
    parts = [torch.zeros(len(codes), 0, dtype=torch.bool, device=codes.device)]
    for column, count in enumerate(levels):
        parts.append(codes[:, column : column + 1] == torch.arange(count, device=codes.device))
    return torch.cat(parts, 1)
