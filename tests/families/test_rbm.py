"""The Boltzmann machine against brute force: every state of a small one enumerated, in float64."""

import itertools

import numpy as np
import pytest
import torch

from sextant.families.rbm import RBM, Pairs
from sextant.kinds.ratings.encoder import Batch

USERS, ITEMS, HIDDEN = 5, 7, 3
UNITS = ["bernoulli", "softmax", "ordinal"]
CONF = {
    "hidden": HIDDEN,
    "chain": "cd",
    "k": 1,
    "clamped": 0.0,
    "conditional": True,
    "shrinkage": 2.0,
    "init": 0.7,
}


def batch(known: list[list[int]], target: list[list[int]] | None = None) -> Batch:
    codes, asked = (
        torch.tensor(known, dtype=torch.uint8),
        torch.tensor(target or known, dtype=torch.uint8),
    )
    users = len(codes)
    values = torch.tensor([1.0, 2.0, 3.0]).expand(users, -1)
    return Batch(torch.arange(users), codes, asked, values, torch.full((users,), 2.0))


def machine(units: str, **conf: object) -> RBM:
    """Three stars, liked from 2 on, with biases and offsets that are nobody's default."""
    torch.manual_seed(3)
    net = RBM(USERS, ITEMS, [1.0, 2.0, 3.0], 2.0, units=units, **{**CONF, **conf}).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.6)
    net.offset.uniform_(0.1, 0.6)
    return net


KNOWN = [[0, 1, 0, 3, 2, 0, 0]]


def visible_states(net: RBM, pairs: int) -> torch.Tensor:
    """(states, pairs, levels): all that the units of one user can be."""
    levels = net.offset.shape[1]
    each = [torch.zeros(1), torch.ones(1)] if levels == 1 else list(torch.eye(levels))
    return torch.stack(
        [torch.stack(state) for state in itertools.product(each, repeat=pairs)]
    ).double()


def hidden_states() -> torch.Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=HIDDEN)), dtype=torch.float64)


def together(pairs: Pairs, times: int) -> Pairs:
    """The same user `times` times."""
    rows = torch.arange(times).repeat_interleave(len(pairs.item))
    return Pairs(rows, pairs.item.repeat(times), pairs.ratings.repeat(times))


def exact(net: RBM) -> tuple[Pairs, torch.Tensor, torch.Tensor]:
    """The pairs of one user, all states of them, and the probability of each from the sum over all h."""
    pairs = net.pairs(torch.tensor(KNOWN))
    states, hs = visible_states(net, len(pairs.item)), hidden_states()
    energies = torch.stack(
        [
            net.energy(
                states.flatten(0, 1), h.expand(len(states), -1), together(pairs, len(states))
            )
            for h in hs
        ]
    )
    return pairs, states, (-energies).logsumexp(0).softmax(0)


@pytest.mark.parametrize("units", UNITS)
def test_the_free_energy_is_the_sum_over_all_hidden_states(units):
    net = machine(units)
    pairs = net.pairs(torch.tensor(KNOWN))
    states, hs = visible_states(net, len(pairs.item)), hidden_states()
    for v in states:
        summed = -torch.stack([-net.energy(v, h[None], pairs) for h in hs]).logsumexp(0)
        torch.testing.assert_close(net.free_energy(v, pairs), summed)


@pytest.mark.parametrize("units", UNITS)
def test_the_energy_is_the_formula_term_by_term(units):
    """- sum (v - mu) b - (h - 1/2) [c + s sum ((v - mu) phi W + D)], with loops and nothing else."""
    net, h = machine(units), torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    pairs = net.pairs(torch.tensor(KNOWN))
    v = net.visible_states(torch.tensor(KNOWN), pairs).double()
    scale, w = (2.0 / (3 + 2.0)) ** 0.5, net.weight + net.common
    energy = 0.0
    for j in range(HIDDEN):
        energy -= (h[0, j] - 0.5) * net.hidden_bias[j]
    for pair, i in enumerate(pairs.item):
        energy -= scale * (h[0] - 0.5) @ net.rated[i]
        for level in range(v.shape[1]):
            x = v[pair, level] - net.offset[i, level]
            energy -= x * net.visible_bias[i, level]
            for j, f in itertools.product(range(HIDDEN), range(w.shape[1])):
                energy -= (h[0, j] - 0.5) * scale * x * net.scale[level, f] * w[i, f, j]
    torch.testing.assert_close(net.energy(v, h, pairs)[0], energy)


@pytest.mark.parametrize("units", UNITS)
def test_each_layer_given_the_other_has_the_probabilities_of_the_energy(units):
    net = machine(units)
    pairs = net.pairs(torch.tensor(KNOWN))
    states, hs = visible_states(net, len(pairs.item)), hidden_states()
    v = states[5]
    on = torch.stack([-net.energy(v, h[None], pairs)[0] for h in hs]).softmax(0) @ hs
    torch.testing.assert_close(net.hidden_logits(v, pairs).sigmoid()[0], on)
    h = hs[5][None]
    weights = torch.stack([-net.energy(v, h, pairs)[0] for v in states]).softmax(0)
    marginal = (weights[:, None, None] * states).sum(0)
    logits = net.visible_logits(h, pairs)[0, pairs.item]
    found = logits.sigmoid() if units == "bernoulli" else logits.softmax(-1)
    torch.testing.assert_close(found, marginal)


@pytest.mark.parametrize("units", UNITS)
def test_the_gibbs_chain_visits_states_as_often_as_they_are_probable(units):
    net = machine(units)
    pairs, states, p = exact(net)
    chains = 20_000
    many = together(pairs, chains)
    torch.manual_seed(1)
    v = states[0].repeat(chains, 1)
    h = torch.bernoulli(net.hidden_logits(v, many).sigmoid())
    with torch.no_grad():
        v, h, _ = net.gibbs(v, h, many, torch.ones(len(v), dtype=torch.bool), 60)
    found = v.unflatten(0, (chains, -1)).mean(0)
    expected = (p[:, None, None] * states).sum(0)
    assert (found - expected).abs().max() < 5 * 0.5 / chains**0.5
    hit = (v.unflatten(0, (chains, -1))[:, None] == states).all(-1).all(-1).double().mean(0)
    assert (hit - p).abs().max() < 5 * 0.5 / chains**0.5


@pytest.mark.parametrize("units", UNITS)
def test_what_is_clamped_stays_and_the_rest_follows_its_conditional(units):
    net = machine(units)
    pairs, states, p = exact(net)
    start, chains = states[-1], 20_000
    free = torch.tensor([True, False, True])
    with torch.no_grad():
        torch.manual_seed(1)
        many, v = together(pairs, chains), start.repeat(chains, 1)
        h = torch.bernoulli(net.hidden_logits(v, many).sigmoid())
        v, _, mean = net.gibbs(v, h, many, free.repeat(chains), 60)
    v = v.unflatten(0, (chains, -1))
    assert (v[:, 1] == start[1]).all() and (mean.unflatten(0, (chains, -1))[:, 1] == start[1]).all()
    given = (states[:, 1] == start[1]).all(-1)
    conditional = p * given / (p * given).sum()
    expected = (conditional[:, None, None] * states).sum(0)
    assert (v.mean(0) - expected).abs().max() < 5 * 0.5 / chains**0.5


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("k", [1, 3])
def test_the_gradient_of_the_loss_is_contrastive_divergence(units, k):
    """dL/dW = chain's minus data's mean of s (v - mu) phi (sigmoid(a) - 1/2), and likewise for the biases."""
    net = machine(units, k=k).train()
    some = batch([[0, 1, 0, 3, 2, 0, 0], [3, 0, 0, 0, 1, 2, 2]])
    pairs = net.pairs(some.known)
    data = net.visible_states(some.known, pairs).double()
    torch.manual_seed(11)
    net.loss(some).backward()
    torch.manual_seed(11)
    with torch.no_grad():
        h = torch.bernoulli(net.hidden_logits(data, pairs).sigmoid())
        _, _, model = net.gibbs(data, h, pairs, torch.ones(len(data), dtype=torch.bool), k)
    n = len(data)
    w, b, c = (
        torch.zeros_like(net.weight),
        torch.zeros_like(net.visible_bias),
        torch.zeros_like(net.hidden_bias),
    )
    d = torch.zeros_like(net.rated)
    for v, sign in ((data, -1.0), (model, 1.0)):
        on = net.hidden_logits(v, pairs).sigmoid() - 0.5
        for pair in range(n):
            row, i = pairs.row[pair], pairs.item[pair]
            x, s = v[pair] - net.offset[i], (2.0 / (pairs.ratings[row] + 2.0)) ** 0.5
            w[i] += sign * s * (x @ net.scale)[:, None] * on[row] / n
            b[i] += sign * x / n
            d[i] += sign * s * on[row] / n
        c += sign * on.sum(0) / n
    torch.testing.assert_close(net.weight.grad, w.detach())
    torch.testing.assert_close(net.visible_bias.grad, b.detach())
    torch.testing.assert_close(net.hidden_bias.grad, c.detach())
    torch.testing.assert_close(net.common.grad, w.detach().sum(0))
    torch.testing.assert_close(net.rated.grad, d.detach())


@pytest.mark.parametrize("units", UNITS)
def test_the_gradient_is_that_of_the_difference_of_free_energies(units):
    net = machine(units).train()
    some = batch([[0, 1, 0, 3, 2, 0, 0]])
    pairs = net.pairs(some.known)
    data = net.visible_states(some.known, pairs).double()
    torch.manual_seed(11)
    net.loss(some).backward()
    torch.manual_seed(11)
    with torch.no_grad():
        h = torch.bernoulli(net.hidden_logits(data, pairs).sigmoid())
        _, _, model = net.gibbs(data, h, pairs, torch.ones(3, dtype=torch.bool), 1)
    gap = (net.free_energy(data, pairs) - net.free_energy(model, pairs)).sum() / 3
    for name, p in net.named_parameters():
        torch.testing.assert_close(
            torch.autograd.grad(gap, p, retain_graph=True)[0], p.grad, msg=name
        )


@pytest.mark.parametrize("chain", ["cd", "pcd"])
@pytest.mark.parametrize("units", UNITS)
def test_a_film_that_nobody_rated_takes_no_part(units, chain):
    """No gradient reaches it, and its weights change no answer about the other films."""
    net = machine(units, chain=chain).train()
    some = batch([[0, 1, 0, 3, 2, 0, 0], [0, 2, 0, 0, 1, 1, 0]])
    net.loss(some).backward()
    assert (net.weight.grad[[0, 2, 6]] == 0).all() and (net.visible_bias.grad[[0, 2, 6]] == 0).all()
    assert (net.weight.grad[[1, 3, 4, 5]].abs().amax((1, 2)) > 0).all()
    before = net.eval().predict(some)["log_odds"].clone()
    with torch.no_grad():
        net.weight[[0, 2, 6]] += 3.0
    after = net.predict(some)["log_odds"]
    torch.testing.assert_close(after[:, [1, 3, 4, 5]], before[:, [1, 3, 4, 5]])


def test_on_val_the_loss_holds_what_is_known_fixed():
    """Only the films asked for are drawn, so that a pair both known and certain adds nothing."""
    net = machine("ordinal").eval()
    some = batch([[0, 1, 0, 3, 0, 0, 0]], [[0, 0, 0, 0, 2, 0, 0]])
    pairs = net.pairs(torch.tensor([[0, 1, 0, 3, 2, 0, 0]]))
    v = net.visible_states(torch.tensor([[0, 1, 0, 3, 2, 0, 0]]), pairs).double()
    torch.manual_seed(5)
    loss = net.loss(some)
    torch.manual_seed(5)
    h = torch.bernoulli(net.hidden_logits(v, pairs).sigmoid())
    _, _, mean = net.gibbs(v, h, pairs, torch.tensor([False, False, True]), 1)
    assert (mean[:2] == v[:2]).all()
    torch.testing.assert_close(loss, net.free_energy(v, pairs)[0] - net.free_energy(mean, pairs)[0])


def test_a_persistent_chain_goes_on_where_it_stood_and_only_in_training():
    net = machine("ordinal", chain="pcd").train()
    some = batch([[0, 1, 0, 3, 2, 0, 0], [3, 0, 0, 0, 1, 2, 2]])
    net.initialise(some)
    begun = net.chains.clone()
    assert net.chains.shape == (USERS, HIDDEN) and begun[:2].any() and not begun[2:].any()
    torch.manual_seed(2)
    net.loss(some)
    pairs = net.pairs(some.known)
    torch.manual_seed(2)
    v, free = net.visible_states(some.known, pairs), torch.ones(7, dtype=torch.bool)
    _, h, _ = net.gibbs(v, begun[:2].double(), pairs, free, 1)
    assert torch.equal(net.chains[:2].double(), h)
    stood = net.chains.clone()
    net.eval()
    net.loss(some)
    assert torch.equal(net.chains, stood)


def test_initialise_takes_the_base_rates():
    """Film 1: stars 1, 3, 3; drawn by five ratings to the shares of all ten (and one more of each): 3, 3, 7 of 13."""
    net = RBM(3, 4, [1.0, 2.0, 3.0], 2.0, units="ordinal", **CONF)
    some = batch([[1, 3, 3, 0], [3, 3, 3, 2], [3, 2, 1, 0]])
    net.initialise(some)
    rates = torch.tensor([1 + 5 * 3 / 13, 0 + 5 * 3 / 13, 2 + 5 * 7 / 13]) / 8
    torch.testing.assert_close(net.offset[0], rates)
    torch.testing.assert_close(net.visible_bias[0], rates.log())
    liked = RBM(3, 4, [1.0, 2.0, 3.0], 2.0, units="bernoulli", **CONF)
    liked.initialise(some)
    torch.testing.assert_close(liked.offset[0, 0], torch.tensor((2 + 5 * 9 / 12) / 8))


@pytest.mark.parametrize("units", UNITS)
def test_the_answer_is_the_conditional_given_the_mean_of_h(units):
    net = machine(units).eval()
    some = batch(KNOWN)
    pairs = net.pairs(some.known)
    h = net.hidden_logits(net.visible_states(some.known, pairs).double(), pairs).sigmoid()
    found, logits = net.predict(some), net.visible_logits(h, pairs)[0]
    if units == "bernoulli":
        torch.testing.assert_close(found["log_odds"][0], logits[:, 0])
        assert "stars" not in found
    else:
        p = logits.softmax(-1)
        torch.testing.assert_close(found["log_odds"][0].sigmoid(), p[:, 1:].sum(-1))
        torch.testing.assert_close(
            found["stars"][0], p @ torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        )


def test_without_hidden_units_that_speak_the_answer_is_the_base_rate():
    net = machine("ordinal").eval()
    with torch.no_grad():
        net.weight.zero_()
        net.common.zero_()
        net.rated.zero_()
    p = net.visible_bias.softmax(-1)
    found = net.predict(batch(KNOWN))["log_odds"][0]
    torch.testing.assert_close(found.sigmoid(), p[:, 1:].sum(-1))


@pytest.mark.parametrize("units", UNITS)
def test_many_users_are_answered_as_one_by_one_and_one_of_whom_nothing_is_known(units):
    net = machine(units).eval()
    some = batch([[0, 1, 0, 3, 2, 0, 0], [0] * 7, [3, 3, 1, 2, 1, 2, 2]])
    whole = net.predict(some)["log_odds"]
    for i in range(3):
        one = net.predict(Batch(*(t[i : i + 1] for t in some)))["log_odds"]
        torch.testing.assert_close(one[0], whole[i])
    assert torch.isfinite(whole).all()


def test_the_loss_of_nobody_is_nought():
    net = machine("ordinal").train()
    assert net.loss(batch([[0] * 7])).item() == 0


def test_a_unit_is_told_by_the_films_it_speaks_for():
    net = machine("ordinal")
    assert net.units().shape == (HIDDEN, ITEMS)
    torch.testing.assert_close(net.units(), 2 * (net.weight + net.common)[:, 0].T.detach())
    assert machine("bernoulli").units().shape == machine("softmax").units().shape == (HIDDEN, ITEMS)


@pytest.mark.parametrize("units", UNITS)
def test_contrastive_divergence_raises_the_probability_of_the_data(units):
    """On a machine whose likelihood can be enumerated: training from nothing makes the data likelier."""
    torch.manual_seed(0)
    net = RBM(23, 4, [1.0, 2.0, 3.0], 2.0, units=units, **{**CONF, "init": 0.05})
    rng = np.random.default_rng(2)
    codes = np.where(rng.random((23, 1)) < 0.5, [[1, 1, 3, 3]], [[3, 3, 1, 1]])
    some = batch(codes.tolist())
    net.initialise(some)

    def likelihood() -> float:
        with torch.no_grad():
            states = visible_states(net, 4).float()
            pairs = net.pairs(some.known)
            one = Pairs(pairs.row[:4], pairs.item[:4], pairs.ratings[:1])
            z = -net.free_energy(states.flatten(0, 1), together(one, len(states)))
            return float(
                (-net.free_energy(net.visible_states(some.known, pairs), pairs)).mean()
                - z.logsumexp(0)
            )

    before = likelihood()
    optimizer = torch.optim.SGD(net.parameters(), lr=2.0)
    for _ in range(400):
        optimizer.zero_grad()
        net.loss(some).backward()
        optimizer.step()
    assert likelihood() > before + 1
