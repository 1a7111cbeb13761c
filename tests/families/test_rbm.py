"""The Boltzmann machine against enumeration: every state of a small one, in float64."""

import itertools

import batches
import numpy as np
import pytest
import torch
from torch import Tensor

from sextant import plugins
from sextant.families import blocks
from sextant.families.rbm import RBM, Pairs

USERS, ITEMS, HIDDEN = 5, 7, 3
UNITS = pytest.mark.parametrize("units", ["bernoulli", "softmax", "ordinal"])
NET = {
    "hidden": HIDDEN,
    "chain": "cd",
    "k": 1,
    "clamped": 0.0,
    "conditional": True,
    "shrinkage": 2.0,
    "init": 0.7,
}
ONE_USER = [[0, 1, 0, 3, 2, 0, 0]]
TWO_USERS = [[0, 1, 0, 3, 2, 0, 0], [3, 0, 0, 0, 1, 2, 2]]


def make_net(units: str, **net: object) -> RBM:
    """Three stars, liked from 2 on, with random biases and offsets, in float64."""
    torch.manual_seed(3)
    rbm = RBM(USERS, ITEMS, batches.STARS, batches.LIKE, units=units, **NET | net).double()
    for parameter in rbm.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    rbm.offset.uniform_(0.1, 0.6)
    return rbm


# --- enumeration --------------------------------------------------------------------------------


def all_visible_states(net: RBM, count: int) -> Tensor:
    """All states of `count` visible units, (states, count, levels)."""
    levels = net.offset.shape[1]
    unit_states = [torch.zeros(1), torch.ones(1)] if levels == 1 else list(torch.eye(levels))
    states = [torch.stack(state) for state in itertools.product(unit_states, repeat=count)]
    return torch.stack(states).double()


def all_hidden_states() -> Tensor:
    states = list(itertools.product([0.0, 1.0], repeat=HIDDEN))
    return torch.tensor(states, dtype=torch.float64)


def one_user(net: RBM) -> tuple[Pairs, Tensor]:
    """The pairs of ONE_USER and all their states."""
    pairs = net.pairs(torch.tensor(ONE_USER))
    return pairs, all_visible_states(net, len(pairs.item))


def repeat(pairs: Pairs, times: int) -> Pairs:
    """The pairs of one user, `times` times."""
    row = torch.arange(times).repeat_interleave(len(pairs.item))
    return Pairs(row, pairs.item.repeat(times), pairs.ratings.repeat(times))


def state_probs(net: RBM) -> Tensor:
    """The probability of each state of ONE_USER, (states), by summing over all h."""
    pairs, states = one_user(net)
    many = repeat(pairs, len(states))
    energies = []
    for h in all_hidden_states():
        energies.append(net.energy(states.flatten(0, 1), h.expand(len(states), -1), many))
    return (-torch.stack(energies)).logsumexp(0).softmax(0)


# --- as an energy-based model -------------------------------------------------------------------


@UNITS
def test_the_free_energy_is_the_sum_over_all_hidden_states(units):
    net = make_net(units)
    pairs, states = one_user(net)
    for v in states:
        terms = [-net.energy(v, h[None], pairs) for h in all_hidden_states()]
        torch.testing.assert_close(net.free_energy(v, pairs), -torch.stack(terms).logsumexp(0))


@UNITS
def test_the_free_energy_of_codes_is_that_of_their_states(units):
    net = make_net(units)
    codes = torch.tensor(TWO_USERS)
    pairs = net.pairs(codes)
    expected = net.free_energy(net.visible_states(codes, pairs), pairs)
    torch.testing.assert_close(net.free_energy_of(codes), expected.detach())


@UNITS
def test_the_energy_is_the_formula_term_by_term(units):
    """- sum (v - mu) b - (h - 1/2) [c + s sum ((v - mu) phi W + D)], in plain loops."""
    net, h = make_net(units), torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    pairs, _ = one_user(net)
    v = net.visible_states(torch.tensor(ONE_USER), pairs).double()
    s, w = (2.0 / (3 + 2.0)) ** 0.5, net.weight + net.common
    energy = 0.0
    for j in range(HIDDEN):
        energy -= (h[0, j] - 0.5) * net.hidden_bias[j]
    for pair, i in enumerate(pairs.item):
        energy -= s * (h[0] - 0.5) @ net.rated[i]
        for level in range(v.shape[1]):
            x = v[pair, level] - net.offset[i, level]
            energy -= x * net.visible_bias[i, level]
            for j, f in itertools.product(range(HIDDEN), range(w.shape[1])):
                energy -= (h[0, j] - 0.5) * s * x * net.scale[level, f] * w[i, f, j]
    torch.testing.assert_close(net.energy(v, h, pairs)[0], energy)


# --- as a probabilistic graph -------------------------------------------------------------------


@UNITS
def test_the_conditionals_of_each_layer_follow_from_the_energy(units):
    net = make_net(units)
    pairs, states = one_user(net)
    hidden_states = all_hidden_states()
    v = states[5]
    energies = torch.stack([net.energy(v, h[None], pairs)[0] for h in hidden_states])
    mean_h = (-energies).softmax(0) @ hidden_states
    torch.testing.assert_close(net.hidden_logits(v, pairs).sigmoid()[0], mean_h)
    h = hidden_states[5][None]
    energies = torch.stack([net.energy(v, h, pairs)[0] for v in states])
    mean_v = ((-energies).softmax(0)[:, None, None] * states).sum(0)
    logits = net.visible_logits(h, pairs)[0, pairs.item]
    probs = logits.sigmoid() if units == "bernoulli" else logits.softmax(-1)
    torch.testing.assert_close(probs, mean_v)


CHAINS, STEPS = 10_000, 12
TOLERANCE = 5 * 0.5 / CHAINS**0.5  # five standard errors of a share, at most


@torch.no_grad()
def run_chains(net: RBM, start: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Many chains of ONE_USER from one state: the last v and its mean, (chains, pairs, levels)."""
    pairs, _ = one_user(net)
    many = repeat(pairs, CHAINS)
    torch.manual_seed(1)
    v = start.repeat(CHAINS, 1)
    h = blocks.draw_binary(net.hidden_logits(v, many).sigmoid())
    v, _, mean = net.gibbs(v, h, many, free.repeat(CHAINS), STEPS)
    return v.unflatten(0, (CHAINS, -1)), mean.unflatten(0, (CHAINS, -1))


@UNITS
def test_the_gibbs_chain_visits_states_in_proportion_to_their_probability(units):
    net = make_net(units)
    _, states = one_user(net)
    probs = state_probs(net)
    v, _ = run_chains(net, states[0], free=torch.tensor([True, True, True]))
    expected = (probs[:, None, None] * states).sum(0)
    assert (v.mean(0) - expected).abs().max() < TOLERANCE
    visited = (v[:, None] == states).all(-1).all(-1).double().mean(0)
    assert (visited - probs).abs().max() < TOLERANCE


@UNITS
def test_clamped_units_stay_and_the_others_follow_their_conditional(units):
    net = make_net(units)
    _, states = one_user(net)
    probs, start = state_probs(net), states[-1]
    v, mean = run_chains(net, start, free=torch.tensor([True, False, True]))
    assert (v[:, 1] == start[1]).all() and (mean[:, 1] == start[1]).all()
    agrees = (states[:, 1] == start[1]).all(-1)
    conditional = probs * agrees / (probs * agrees).sum()
    expected = (conditional[:, None, None] * states).sum(0)
    assert (v.mean(0) - expected).abs().max() < TOLERANCE


@UNITS
def test_exact_log_odds_are_the_ratio_of_enumerated_masses_and_gibbs_agrees(units):
    net = make_net(units).float()
    codes, items = torch.tensor(ONE_USER[0], dtype=torch.uint8), torch.tensor([1, 6])
    odds = net.exact_log_odds(codes, items)
    for item, value in zip(items, odds, strict=True):
        masses = []
        for code in (1, 2, 3):
            rated = codes.clone()
            rated[item] = code
            masses.append((-net.free_energy_of(rated[None])).exp().item())
        disliked, liked = masses[:1], masses[1:]
        if units == "bernoulli":
            liked = liked[:1]  # both liked codes are the same state
        assert value.item() == pytest.approx(np.log(sum(liked) / sum(disliked)), abs=1e-4)
    state = torch.get_rng_state()
    sampled = net.gibbs_log_odds(codes, items, chains=160, steps=60)
    assert sampled.sigmoid().numpy() == pytest.approx(odds.sigmoid().numpy(), abs=0.03)
    assert torch.equal(torch.get_rng_state(), state)
    short = net.gibbs_log_odds(codes, items, chains=20, steps=10)
    assert torch.equal(net.gibbs_log_odds(codes, items, chains=20, steps=10), short)


# --- contrastive divergence ---------------------------------------------------------------------


@UNITS
@pytest.mark.parametrize("k", [1, 3])
def test_the_gradient_of_the_loss_is_contrastive_divergence(units, k):
    """dL/dW = (chain's - data's) mean of s (v - mu) phi (sigmoid(a) - 1/2); likewise for biases."""
    net = make_net(units, k=k).train()
    batch = batches.of_ratings(TWO_USERS)
    pairs = net.pairs(batch.observed)
    data = net.visible_states(batch.observed, pairs).double()
    torch.manual_seed(11)
    net.loss(batch).backward()
    torch.manual_seed(11)
    free = torch.ones(len(data), dtype=torch.bool)
    with torch.no_grad():
        h = blocks.draw_binary(net.hidden_logits(data, pairs).sigmoid())
        _, _, model = net.gibbs(data, h, pairs, free, k)
    w, b = torch.zeros_like(net.weight), torch.zeros_like(net.visible_bias)
    c, d = torch.zeros_like(net.hidden_bias), torch.zeros_like(net.rated)
    for v, sign in ((data, -1.0), (model, 1.0)):
        mean_h = net.hidden_logits(v, pairs).sigmoid() - 0.5
        for pair in range(len(data)):
            row, i = pairs.row[pair], pairs.item[pair]
            x, s = v[pair] - net.offset[i], (2.0 / (pairs.ratings[row] + 2.0)) ** 0.5
            w[i] += sign * s * (x @ net.scale)[:, None] * mean_h[row] / len(data)
            b[i] += sign * x / len(data)
            d[i] += sign * s * mean_h[row] / len(data)
        c += sign * mean_h.sum(0) / len(data)
    torch.testing.assert_close(net.weight.grad, w.detach())
    torch.testing.assert_close(net.visible_bias.grad, b.detach())
    torch.testing.assert_close(net.hidden_bias.grad, c.detach())
    torch.testing.assert_close(net.common.grad, w.detach().sum(0))
    torch.testing.assert_close(net.rated.grad, d.detach())


@UNITS
def test_the_gradient_is_that_of_the_difference_of_free_energies(units):
    net = make_net(units).train()
    batch = batches.of_ratings(ONE_USER)
    pairs = net.pairs(batch.observed)
    data = net.visible_states(batch.observed, pairs).double()
    torch.manual_seed(11)
    net.loss(batch).backward()
    torch.manual_seed(11)
    with torch.no_grad():
        h = blocks.draw_binary(net.hidden_logits(data, pairs).sigmoid())
        _, _, model = net.gibbs(data, h, pairs, torch.ones(3, dtype=torch.bool), 1)
    gap = (net.free_energy(data, pairs) - net.free_energy(model, pairs)).sum() / 3
    for name, parameter in net.named_parameters():
        (expected,) = torch.autograd.grad(gap, parameter, retain_graph=True)
        torch.testing.assert_close(expected, parameter.grad, msg=name)


@pytest.mark.parametrize("chain", ["cd", "pcd"])
@UNITS
def test_a_film_without_ratings_takes_no_part(units, chain):
    """It gets no gradient, and its weights change no prediction of another film."""
    net = make_net(units, chain=chain).train()
    batch = batches.of_ratings([[0, 1, 0, 3, 2, 0, 0], [0, 2, 0, 0, 1, 1, 0]])
    rated, unrated = [1, 3, 4, 5], [0, 2, 6]
    net.loss(batch).backward()
    assert (net.weight.grad[unrated] == 0).all() and (net.visible_bias.grad[unrated] == 0).all()
    assert (net.weight.grad[rated].abs().amax((1, 2)) > 0).all()
    before = net.eval().predict(batch)["log_odds"].clone()
    with torch.no_grad():
        net.weight[unrated] += 3.0
    after = net.predict(batch)["log_odds"]
    torch.testing.assert_close(after[:, rated], before[:, rated])


def test_on_val_the_loss_clamps_the_known_ratings():
    """Only the films of the target are drawn."""
    net = make_net("ordinal").eval()
    batch = batches.of_ratings([[0, 1, 0, 3, 0, 0, 0]], [[0, 0, 0, 0, 2, 0, 0]])
    pairs, _ = one_user(net)
    v = net.visible_states(torch.tensor(ONE_USER), pairs).double()
    torch.manual_seed(5)
    loss = net.loss(batch)
    torch.manual_seed(5)
    h = blocks.draw_binary(net.hidden_logits(v, pairs).sigmoid())
    _, _, mean = net.gibbs(v, h, pairs, torch.tensor([False, False, True]), 1)
    assert (mean[:2] == v[:2]).all()
    gap = net.free_energy(v, pairs)[0] - net.free_energy(mean, pairs)[0]
    torch.testing.assert_close(loss, gap)


def test_a_persistent_chain_continues_where_it_was_in_training_only():
    net = make_net("ordinal", chain="pcd").train()
    batch = batches.of_ratings(TWO_USERS)
    net.initialise(batch)
    start = net.chains.clone()
    assert net.chains.shape == (USERS, HIDDEN) and start[:2].any() and not start[2:].any()
    torch.manual_seed(2)
    net.loss(batch)
    pairs = net.pairs(batch.observed)
    torch.manual_seed(2)
    v, free = net.visible_states(batch.observed, pairs), torch.ones(7, dtype=torch.bool)
    _, h, _ = net.gibbs(v, start[:2].double(), pairs, free, 1)
    assert torch.equal(net.chains[:2].double(), h)
    after = net.chains.clone()
    net.eval()
    net.loss(batch)
    assert torch.equal(net.chains, after)


def test_the_loss_without_ratings_is_0():
    net = make_net("ordinal").train()
    assert net.loss(batches.of_ratings([[0] * 7])).item() == 0


@pytest.mark.parametrize(
    "units",
    ["ordinal", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bernoulli", "softmax"))],
)
def test_training_raises_the_likelihood_of_the_data(units):
    """On a machine that is small enough to enumerate its likelihood."""
    torch.manual_seed(0)
    net = RBM(23, 4, batches.STARS, batches.LIKE, units=units, **NET | {"init": 0.05})
    coin = np.random.default_rng(2).random((23, 1)) < 0.5
    batch = batches.of_ratings(np.where(coin, [[1, 1, 3, 3]], [[3, 3, 1, 1]]).tolist())
    net.initialise(batch)

    def mean_log_likelihood() -> float:
        with torch.no_grad():
            states = all_visible_states(net, 4).float()
            pairs = net.pairs(batch.observed)
            first = Pairs(pairs.row[:4], pairs.item[:4], pairs.ratings[:1])
            log_masses = -net.free_energy(states.flatten(0, 1), repeat(first, len(states)))
            log_z = log_masses.logsumexp(0)
            return float((-net.free_energy_of(batch.observed)).mean() - log_z)

    before = mean_log_likelihood()
    optimizer = torch.optim.SGD(net.parameters(), lr=2.0)
    for _ in range(200):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    assert mean_log_likelihood() > before + 1


# --- initialising and predicting ----------------------------------------------------------------


def test_initialise_takes_shrunk_base_rates():
    """Film 0 has the stars 1, 3, 3. Five ratings are added at the overall shares, 3, 3 and 7 of 13.

    The overall shares are those of all ten ratings, each level counted once more.
    """
    net = RBM(3, 4, batches.STARS, batches.LIKE, units="ordinal", **NET)
    batch = batches.of_ratings([[1, 3, 3, 0], [3, 3, 3, 2], [3, 2, 1, 0]])
    net.initialise(batch)
    rates = torch.tensor([1 + 5 * 3 / 13, 0 + 5 * 3 / 13, 2 + 5 * 7 / 13]) / 8
    torch.testing.assert_close(net.offset[0], rates)
    torch.testing.assert_close(net.visible_bias[0], rates.log())
    binary = RBM(3, 4, batches.STARS, batches.LIKE, units="bernoulli", **NET)
    binary.initialise(batch)
    torch.testing.assert_close(binary.offset[0, 0], torch.tensor((2 + 5 * 9 / 12) / 8))


@UNITS
def test_a_prediction_is_the_conditional_given_the_mean_of_h(units):
    net = make_net(units).eval()
    batch = batches.of_ratings(ONE_USER)
    pairs = net.pairs(batch.observed)
    v = net.visible_states(batch.observed, pairs).double()
    h = net.hidden_logits(v, pairs).sigmoid()
    prediction, logits = net.predict(batch), net.visible_logits(h, pairs)[0]
    if units == "bernoulli":
        torch.testing.assert_close(prediction["log_odds"][0], logits[:, 0])
        assert "stars" not in prediction
    else:
        probs = logits.softmax(-1)
        torch.testing.assert_close(prediction["log_odds"][0].sigmoid(), probs[:, 1:].sum(-1))
        stars = probs @ torch.tensor(batches.STARS, dtype=torch.float64)
        torch.testing.assert_close(prediction["stars"][0], stars)


def test_with_weights_of_0_the_prediction_is_the_base_rate():
    net = make_net("ordinal").eval()
    with torch.no_grad():
        net.weight.zero_()
        net.common.zero_()
        net.rated.zero_()
    liked = net.visible_bias.softmax(-1)[:, 1:].sum(-1)
    log_odds = net.predict(batches.of_ratings(ONE_USER))["log_odds"][0]
    torch.testing.assert_close(log_odds.sigmoid(), liked)


@UNITS
def test_users_are_predicted_as_one_by_one_also_without_known_ratings(units):
    net = make_net(units).eval()
    batch = batches.of_ratings([*ONE_USER, [0] * 7, [3, 3, 1, 2, 1, 2, 2]])
    together = net.predict(batch)["log_odds"]
    for i in range(3):
        alone = net.predict(plugins.take(batch, slice(i, i + 1)))["log_odds"]
        torch.testing.assert_close(alone[0], together[i])
    assert torch.isfinite(together).all()


def test_units_are_weights_of_films():
    net = make_net("ordinal")
    assert net.units().shape == (HIDDEN, ITEMS)
    # The scale runs from -1 to 1, so the highest level is 2 above the lowest.
    torch.testing.assert_close(net.units(), 2 * (net.weight + net.common)[:, 0].T.detach())
    for units in ("bernoulli", "softmax"):
        assert make_net(units).units().shape == (HIDDEN, ITEMS)
