"""The Boltzmann machine against brute force over all states of all units."""

import itertools
import math
from typing import Any

import batches
import pytest
import torch
import twins
from builders import MIRROR
from torch import Tensor

from sextant import plugins
from sextant.errors import UsageError
from sextant.families import blocks
from sextant.families.boltzmann import Boltzmann, colored
from sextant.kinds.tabular.encoder import Batch

NET: dict[str, Any] = {
    "bins": 3,
    "hidden": 3,
    "couplings": ["visible", "between"],
    "likelihood": "exact",
    "chains": 7,
    "sweeps": 1,
    "temperatures": 3,
    "l1": 0.0,
    "l2": 0.0,
    "init": 0.7,
}
COUPLINGS = {
    "pairs": {"hidden": 0, "couplings": ["visible"]},
    "restricted": {"couplings": ["between"]},
    "both": {"couplings": ["visible", "between"]},
    "all": {"couplings": ["visible", "between", "hidden"]},
}
every_mask = pytest.mark.parametrize("mask", COUPLINGS)


def machine(numeric: int = 1, cardinalities: tuple[int, ...] = (2, 3), **net: Any) -> Boltzmann:
    """A machine with random couplings and biases; 18 visible states by default."""
    torch.manual_seed(5)
    made = Boltzmann(numeric, list(cardinalities), **{**NET, **net})
    with torch.no_grad():
        made.bias.normal_()
        made.base[: made.width].normal_()
    return made.requires_grad_(False)


def batch(rows: int = 40, gaps: bool = False, cardinalities: tuple[int, ...] = (2, 3)) -> Batch:
    made = batches.of_table(rows, 1, cardinalities, unseen=gaps)
    if gaps:
        made.numeric[::3] = torch.nan
    return made


def brute_force(net: Boltzmann) -> tuple[Tensor, Tensor]:
    """Every state of all units, (states, units), and its -E by the sum over pairs."""
    groups = []
    start = 0
    for levels in net.levels:
        groups.append(range(start, start + levels))
        start += levels
    states = []
    energies = []
    j = net.couplings.double()
    for on in itertools.product(
        *groups, *[(None, unit) for unit in range(start, start + net.hidden)]
    ):
        units = [unit for unit in on if unit is not None]
        total = net.bias[units].double().sum()
        for first, second in itertools.combinations(units, 2):
            total = total + j[first, second]
        s = torch.zeros(net.width + net.hidden, dtype=torch.float64)
        s[units] = 1
        states.append(s)
        energies.append(total)
    return torch.stack(states), torch.stack(energies)


# --- energy, enumeration, gradients -------------------------------------------------------------


@every_mask
def test_masses_and_pairs_are_those_of_brute_force(mask):
    net = machine(**COUPLINGS[mask])
    s, energies = brute_force(net)
    torch.testing.assert_close(net.negative_energy(s).double(), energies, rtol=0, atol=1e-5)
    v = torch.cat([net.one_hot(codes) for codes in net.all_codes()])
    assert len(v) == net.states == 18
    for state, mass in zip(v, net.log_masses(), strict=True):
        same = (s[:, : net.width] == state).all(1)
        assert float(mass) == pytest.approx(float(energies[same].logsumexp(0)), abs=1e-5)
    p = energies.softmax(0)
    pairs = (s[:, : net.width].T * p) @ s[:, : net.width]
    torch.testing.assert_close(net.pair_probabilities().double(), pairs, rtol=0, atol=1e-6)
    known = net._pairs(torch.tensor([[1, 0, 2], [1, -1, 2], [-1, -1, -1]]))
    expected = [[pairs[1, 3], pairs[1, 7], pairs[3, 7]], [pairs[1, 1], pairs[1, 7], pairs[7, 7]]]
    torch.testing.assert_close(known.double(), torch.tensor([*expected, [1.0, 1.0, 1.0]]).double())


def assert_slopes(net: Boltzmann, rows: Batch, objective: Tensor, seed: int = 3) -> None:
    """That `loss` and `gradients` give the value and the gradients of `objective`."""
    objective.backward()
    expected = [parameter.grad.clone() for parameter in net.parameters()]
    chains = net.chains.clone()
    for closed_form in (False, True):
        net.zero_grad()
        net.chains.copy_(chains)
        torch.manual_seed(seed)
        value = net.gradients(rows) if closed_form else net.loss(rows)
        if not closed_form:
            value.backward()
        assert float(value.detach()) == pytest.approx(float(objective.detach()), abs=1e-5)
        for parameter, gradient in zip(net.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def penalty(net: Boltzmann) -> Tensor:
    """The penalty on the couplings by the sum over pairs."""
    upper = net.couplings.triu(1)
    return net.l1 * upper.abs().sum() + net.l2 / 2 * (upper**2).sum()


@every_mask
@pytest.mark.parametrize("gaps", [False, True])
def test_exact_gradients_are_those_of_the_likelihood(mask, gaps):
    net = machine(**COUPLINGS[mask], l1=0.02, l2=0.3).requires_grad_(True)
    rows = batch(gaps=gaps)
    net.edges.copy_(blocks.quantile_edges(rows.numeric, 3))
    states = torch.cat(list(net.all_codes()))
    log_p = net.log_mass(net.one_hot(states)).double().log_softmax(0)
    observed = []
    for row in net.codes(rows):
        observed.append(log_p[((states == row) | (row < 0)).all(1)].logsumexp(0))
    assert_slopes(net, rows, penalty(net) - torch.stack(observed).mean())
    with torch.no_grad():
        assert float(net.eval().loss(rows)) == pytest.approx(-float(torch.stack(observed).mean()))


@every_mask
def test_sampled_gradients_are_those_of_the_difference_of_free_energies(mask):
    rows = batch(gaps=True)
    net = machine(**COUPLINGS[mask], likelihood="sampled", l2=0.1).requires_grad_(True)
    net.initialise(rows)
    chains = net.chains.clone()
    torch.manual_seed(3)
    v = net._completed(net.codes(rows))
    model = net._next_chains()
    assert not torch.equal(net.chains, chains)
    objective = net.log_mass(model).mean() - net.log_mass(v).mean() + penalty(net)
    net.chains.copy_(chains)
    assert_slopes(net, rows, objective)


@pytest.mark.parametrize("mask", ["restricted", "all"])
def test_sampled_gradients_approach_the_exact_ones(mask):
    rows = batch(4000, gaps=True)
    exact = machine(**COUPLINGS[mask])
    sampled = machine(**COUPLINGS[mask], likelihood="sampled", chains=4000, sweeps=15)
    for net in (exact, sampled):
        net.initialise(rows)
        net.gradients(rows)
    for one, other in zip(sampled.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0.03)
        assert other.grad.abs().max() > 0.05


def test_the_probability_of_a_row_with_gaps_sums_over_what_may_be_there():
    net = machine()
    log_p = torch.cat([net.log_probability(codes) for codes in net.all_codes()])
    assert float(log_p.exp().sum()) == pytest.approx(1)
    codes = torch.cat(list(net.all_codes()))
    known = torch.tensor([[1, -1, 2], [-1, -1, -1], [0, 1, -1]])
    for row, value in zip(known, net.log_probability(known), strict=True):
        fits = ((codes == row) | (row < 0)).all(1)
        assert float(value) == pytest.approx(float(log_p[fits].logsumexp(0)))


# --- colours and sampling -----------------------------------------------------------------------


def test_no_colour_has_neighbours_and_each_unit_is_in_one():
    generator = torch.Generator().manual_seed(2)
    for density in (0.0, 0.1, 0.5, 1.0):
        upper = torch.rand(14, 14, generator=generator).triu(1) > 1 - density
        adjacent = upper | upper.T
        colors = colored(adjacent, 9)
        assert sorted(sum(colors, [])) == list(range(14))
        for color in colors:
            assert not adjacent[color][:, color].any()
            assert all(node < 9 for node in color) or all(node >= 9 for node in color)
        assert colors[0][0] >= 9, "hidden units first"
        if not density:
            assert len(colors) == 2


def test_a_colour_of_a_machine_has_no_coupling_inside_and_is_drawn_at_once():
    net = machine(2, (2, 3, 4, 2), hidden=4)
    nodes = len(net.levels) + net.hidden
    restricted = net.mask_of(["between"])
    net.couple(restricted)
    assert len(net.colors) == 2
    sparse = torch.ones_like(net.mask)
    sparse[: net.levels[0]] = 0  # the first column is coupled to nothing
    sparse[:, : net.levels[0]] = 0
    net.couple(net.mask_of(["visible", "between", "hidden"]) * sparse)
    assert len(net.colors) == nodes - 1
    units = torch.cat([color.columns for color in net.colors])
    assert units.sort().values.tolist() == list(range(net.width + net.hidden))
    for color in net.colors:
        assert not net.mask[color.columns][:, color.columns].any()


@pytest.mark.parametrize(("mask", "temperatures"), [("pairs", 3), ("both", 1), ("all", 3)])
def test_samples_and_clamped_samples_have_the_exact_distribution(mask, temperatures):
    net = machine(**COUPLINGS[mask])
    chains = 3000
    for known in (torch.tensor([-1, -1, -1]), torch.tensor([1, -1, 2])):
        rows = known.expand(temperatures * chains, -1)
        torch.manual_seed(1)
        s = net._start(rows).view(temperatures, chains, -1)
        s = net.tempered(s, 45 // temperatures, rows[:chains] >= 0)
        assert set(s.unique().tolist()) <= {0.0, 1.0}
        drawn = net._codes_of(s[0])
        assert ((drawn == known) | (known < 0)).all()
        states = torch.cat(list(net.all_codes()))
        fits = ((states == known) | (known < 0)).all(1)
        exact = torch.where(fits, net.log_masses(), -torch.inf).softmax(0)
        counts = torch.bincount(net._index(drawn), minlength=net.states) / chains
        torch.testing.assert_close(counts.double(), exact, rtol=0, atol=0.025)


def test_completions_have_the_exact_conditional_probabilities():
    net = machine()
    known = torch.tensor([1, -1, -1])
    scenarios = net.complete(known, 5000, seed=1)
    states = torch.cat(list(net.all_codes()))
    fits = states[:, 0] == 1
    log_p = net.log_masses()[fits].log_softmax(0)
    order = log_p.argsort(descending=True)
    assert len(scenarios.codes) == 6
    torch.testing.assert_close(scenarios.codes, states[fits][order])
    torch.testing.assert_close(scenarios.log_probability, log_p[order])
    shares = scenarios.draws.double() / 5000
    torch.testing.assert_close(shares, log_p[order].exp(), rtol=0, atol=0.03)
    again = net.complete(known, 5000, seed=1)
    other = net.complete(known, 5000, seed=2)
    assert torch.equal(again.draws, scenarios.draws)
    assert not torch.equal(other.draws, scenarios.draws)


def test_a_bin_that_does_not_exist_has_no_probability_and_is_never_drawn():
    rows = batch(60)
    rows.numeric[:] = torch.arange(60)[:, None] % 2  # two values, three bins
    net = machine()
    net.initialise(rows)
    assert net.present.tolist()[:3] == [True, True, False]
    assert net.codes(rows)[:, 0].unique().tolist() == [0, 1]
    for codes, masses in zip(net.all_codes(), net.log_masses().split(2**15), strict=True):
        assert torch.equal(masses == -torch.inf, codes[:, 0] == 2)
    assert net.draws(200, seed=1)[:, 0].max() == 1
    assert torch.isfinite(net.gradients(rows))
    assert torch.isfinite(net.log_probability(net.codes(rows))).all()


# --- the partition function ---------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["pairs", "all"])
def test_annealing_is_within_a_tenth_of_a_nat_of_the_exact_log_z_on_15_units(mask, monkeypatch):
    hidden = 0 if mask == "pairs" else 5
    net = machine(0, (2,) * (15 - hidden), **{**COUPLINGS[mask], "hidden": hidden}, init=0.3)
    exact = float(net.exact_log_z())
    monkeypatch.setattr("sextant.families.boltzmann.DRAW_SWEEPS", 20)
    up, down = net.bracketed_log_z(seed=0, chains=100, steps=60)
    assert abs(exact - float(net._log_z_base(torch.full((1, 15 - hidden), -1)))) > 0.3
    assert float(up) == pytest.approx(exact, abs=0.1)
    assert float(down) == pytest.approx(exact, abs=0.1)
    assert net.log_z() == (net.exact_log_z(), net.exact_log_z())


def test_annealing_with_clamped_cells_gives_the_mass_of_what_is_known():
    net = machine()
    known = torch.tensor([1, -1, 2])
    estimate = net.annealed_log_z(known.expand(200, -1), 200).logsumexp(0) - math.log(200)
    exact = net._observed(known[None], net.log_masses())
    assert float(estimate) == pytest.approx(float(exact), abs=0.05)


def test_an_uncountable_machine_estimates_what_a_countable_one_counts(monkeypatch):
    net = machine(init=0.4)
    rows = batch(7, gaps=True)
    net.initialise(rows)
    exact = net.predict(rows)
    monkeypatch.setattr("sextant.families.boltzmann.COUNTABLE", 4)
    monkeypatch.setattr("sextant.families.boltzmann.AIS_STEPS", 60)
    monkeypatch.setattr("sextant.families.boltzmann.SAMPLES", 1000)
    monkeypatch.setattr("sextant.families.boltzmann.DRAW_SWEEPS", 20)
    assert not net.countable
    for completions in (4096, 1):
        monkeypatch.setattr("sextant.families.boltzmann.ROW_COMPLETIONS", completions)
        state = torch.get_rng_state()
        estimated = net.predict(rows)
        assert torch.equal(torch.get_rng_state(), state)
        torch.testing.assert_close(
            estimated["log_probability"], exact["log_probability"], rtol=0, atol=0.1
        )
        torch.testing.assert_close(
            estimated["pairs"], exact["pairs"], rtol=0, atol=0.05, equal_nan=True
        )
    scenarios = net.complete(torch.tensor([1, -1, -1]), 500, seed=1)
    assert int(scenarios.draws.sum()) == 500
    assert float(scenarios.log_probability.exp().sum()) == pytest.approx(1)


# --- states, and what is refused ----------------------------------------------------------------


def test_bins_are_quantiles_of_training_and_an_unknown_cell_has_no_state():
    x = torch.arange(80.0)[torch.randperm(80)][:, None]
    edges = blocks.quantile_edges(x, 8)
    assert edges.tolist() == [[9.5, 19.5, 29.5, 39.5, 49.5, 59.5, 69.5]]
    codes = blocks.bin_codes(x, edges)[:, 0]
    assert torch.bincount(codes).tolist() == [10] * 8
    beyond = torch.tensor([[-1e6], [1e6], [torch.nan]])
    assert blocks.bin_codes(beyond, edges)[:, 0].tolist() == [0, 7, -1]
    categories = torch.tensor([[0, 2], [1, 3]])
    assert blocks.state_codes(x[:2, :0], categories, edges[:0]).tolist() == [[-1, 1], [0, 2]]


def test_a_column_of_one_value_is_one_bin_and_one_of_few_values_has_as_many_bins():
    same = torch.full((9, 1), 2.0)
    assert (blocks.quantile_edges(same, 4) == blocks.NO_EDGE).all()
    gaps = torch.full((9, 1), torch.nan)
    assert (blocks.quantile_edges(gaps, 4) == blocks.NO_EDGE).all()
    three = torch.tensor([0.0] * 7 + [1.0, 2.0])[:, None]
    assert (blocks.quantile_edges(three, 3) < blocks.NO_EDGE).sum() == 1
    assert blocks.quantile_edges(three, 9)[0, :2].tolist() == [0.5, 1.5]


def test_initialise_learns_base_rates_middles_and_the_states_that_occur():
    rows = batch(200, gaps=True)
    net = machine()
    net.initialise(rows)
    codes = net.codes(rows)
    known = codes[codes[:, 2] >= 0, 2]
    shares = (torch.bincount(known, minlength=3) + 1 / 3) / (len(known) + 1)
    torch.testing.assert_close(net.base[5:8].exp(), shares)
    assert torch.equal(net.bias.detach(), net.base)
    middle = rows.numeric[codes[:, 0] == 1].median()
    assert float(net.middles[0, 1]) == float(middle)
    complete = codes[(codes >= 0).all(1)]
    assert int(net.seen.sum()) == len(complete.unique(dim=0))
    assert net.has_seen(codes).tolist() == (codes >= 0).all(1).tolist()


def test_what_does_not_go_together_is_refused():
    optimizer, schedule = {"name": "adamw", "lr": 0.1, "weight_decay": 0.0}, {}
    Boltzmann.check(NET, optimizer, schedule)
    with pytest.raises(UsageError, match=r"at most 12 are possible"):
        Boltzmann.check({**NET, "hidden": 13, "couplings": ["hidden"]}, optimizer, schedule)
    with pytest.raises(UsageError, match=r"without hidden units, only `visible`"):
        Boltzmann.check({**NET, "hidden": 0}, optimizer, schedule)
    with pytest.raises(UsageError, match=r"set it to 0, and net.l2"):
        Boltzmann.check(NET, {**optimizer, "weight_decay": 0.1}, schedule)
    with pytest.raises(UsageError, match=r"counts at most 1,048,576 states"):
        machine(30)
    assert not machine(30, likelihood="sampled").countable


# --- on the real hours of the power plant -------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not MIRROR, reason="needs the real table under SEXTANT_MIRROR")
def test_on_the_real_plant_what_is_sampled_agrees_with_what_is_counted(tmp_path, monkeypatch):
    """Gradients, pairs of states, completions and log Z, of a machine between start and end."""
    conf = twins.conf_of("plant")
    (tmp_path / "Folds5x2_pp.xlsx").symlink_to(f"{MIRROR}/plant/Folds5x2_pp.xlsx")
    kind = plugins.kind("tabular")
    table = kind.rows.repair(kind.rows.read(tmp_path, conf.columns), conf.columns)
    columns = plugins.task("scenarios").roles(conf.columns, table)
    rows = kind.encoder.Encoder.fit(table, columns).encode(table)
    settings = {"bins": 8, "hidden": 4, "init": 0.1, "chains": 1000, "sweeps": 5}
    torch.manual_seed(0)
    exact = Boltzmann(5, [], **{**NET, **settings})
    exact.initialise(rows)
    optimizer = torch.optim.AdamW(exact.parameters(), lr=0.1, weight_decay=0.0)
    for _ in range(50):
        exact.gradients(rows)
        optimizer.step()
    sampled = Boltzmann(5, [], **{**NET, **settings, "likelihood": "sampled", "temperatures": 5})
    state = {**exact.state_dict(), "chains": sampled.chains}
    sampled.load_state_dict(state)
    sampled.chains.copy_(sampled._independent(5 * 1000).view_as(sampled.chains))
    for _ in range(12):
        sampled._next_chains()
    exact.gradients(rows)
    sampled.gradients(rows)
    for one, other in zip(sampled.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0.04)
    monkeypatch.setattr("sextant.families.boltzmann.DRAW_SWEEPS", 40)
    drawn = sampled.one_hot(sampled.draws(1000, seed=1))
    pairs = exact.pair_probabilities()
    torch.testing.assert_close(drawn.T @ drawn / 1000, pairs, rtol=0, atol=0.05)
    up, down = exact.bracketed_log_z(seed=0, chains=100, steps=200)
    with torch.no_grad():
        log_z = float(exact.exact_log_z())
    assert float(up) == pytest.approx(log_z, abs=0.1)
    assert float(down) == pytest.approx(log_z, abs=0.1)
