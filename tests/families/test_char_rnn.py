"""The net of characters: its cells, its windows, and the state that it carries."""

import itertools
import math
from typing import Any

import batches
import numpy as np
import pytest
import torch
import twins
from conftest import ROOT
from torch import Tensor
from torch.nn import functional as F

from sextant import config, plugins, prepare, published
from sextant.errors import UsageError
from sextant.families import char_rnn
from sextant.families.char_rnn import CharRNN, Window
from sextant.kinds.text import rows as text_rows
from sextant.kinds.text.encoder import PADDING, UNKNOWN, Batch
from sextant.kinds.text.twin import recalls

CODES = 7
NET: dict[str, Any] = {
    "cell": "lstm",
    "hidden_size": 5,
    "layers": 2,
    "embedding": 5,
    "dropout": 0.0,
    "tied": False,
    "window": 4,
}


def make_net(**net: Any) -> CharRNN:
    torch.manual_seed(3)
    return CharRNN(CODES, **NET | net).eval()


# --- equations ----------------------------------------------------------------------------------


def cell_step(cell: str, x: Tensor, state: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """One step of a cell by its equations; torch orders gates i, f, g, o, and r, z, n."""
    w, u, b, d = weights
    h = state[0]
    if cell == "rnn":
        return [(x @ w.T + b + h @ u.T + d).tanh()]
    if cell == "gru":
        r, z, n = (x @ w.T + b).chunk(3, 1)
        r_h, z_h, n_h = (h @ u.T + d).chunk(3, 1)
        z = (z + z_h).sigmoid()
        return [(1 - z) * (n + (r + r_h).sigmoid() * n_h).tanh() + z * h]
    i, f, g, o = (x @ w.T + b + h @ u.T + d).chunk(4, 1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return [o.sigmoid() * c.tanh(), c]


@pytest.mark.parametrize(
    ("cell", "embedding", "tied"), [("lstm", 5, True), ("gru", 3, False), ("rnn", 0, False)]
)
def test_the_net_follows_the_equations_of_its_cells(cell: str, embedding: int, tied: bool) -> None:
    net = make_net(cell=cell, embedding=embedding, tied=tied)
    batch = batches.of_text(rows=3, length=6, codes=CODES)
    table = torch.eye(CODES) if net.embedding is None else net.embedding.weight
    inputs = list(table[batch.text[:, :-1].T.long()])
    for layer in range(2):
        weights = [getattr(net.cells, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh")]
        weights += [getattr(net.cells, f"{name}_l{layer}") for name in ("bias_ih", "bias_hh")]
        state = [torch.zeros(3, 5), torch.zeros(3, 5)]
        outputs = []
        for x in inputs:
            state = cell_step(cell, x, state, weights)
            outputs.append(state[0])
        inputs = outputs
    weight, bias = (table, net.bias) if net.head is None else (net.head.weight, net.head.bias)
    logits = F.linear(torch.stack(inputs), weight, bias)
    targets = batch.text[:, 1:].T.long()
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(net.predict(batch)["nats"], nats.view(6, 3).T)
    assert net.loss(batch).item() == pytest.approx(nats.mean().item())


def test_a_tied_output_needs_an_embedding_as_wide_as_the_cells() -> None:
    CharRNN.check(NET | {"tied": True})
    with pytest.raises(UsageError, match="set embedding: 5, or tied: false"):
        CharRNN.check(NET | {"tied": True, "embedding": 3})


# --- the state that is carried ------------------------------------------------------------------


def as_rows(text: Tensor, length: int) -> Batch:
    """One text, 1 + its characters, as rows that follow one another."""
    rows = []
    for start in range(0, len(text) - 1, length):
        row = torch.full((length + 1,), PADDING, dtype=torch.int32)
        piece = text[start : start + length + 1]
        row[: len(piece)] = piece
        rows.append(row)
    return Batch(torch.stack(rows), torch.tensor([False] + [True] * (len(rows) - 1)))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_state_that_is_carried_equals_one_long_sequence(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two texts of several rows, read in pieces, are each as one row."""
    monkeypatch.setattr(char_rnn, "READ_AT_ONCE", 3)
    net = make_net(cell=cell)
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(1, CODES, (size,), generator=generator).int() for size in (24, 51)]
    cut = [as_rows(text, 10) for text in texts]
    together = Batch(*[torch.cat(tensors) for tensors in zip(*cut, strict=True)])
    scores = net.follow(together)
    whole = []
    for text in texts:
        whole.append(net.predict(as_rows(text, len(text) - 1)))
    for name in net.OUTPUTS:
        expected = torch.cat([scores_of[name][0] for scores_of in whole])
        is_text = together.text[:, 1:] != PADDING
        torch.testing.assert_close(scores[name][is_text], expected)
        assert (scores[name][~is_text] == 0).all()
    alone = net.predict(together)["nats"]
    assert not torch.allclose(alone[1], scores["nats"][1]), "a row alone begins without a state"


def test_a_long_text_is_read_in_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(char_rnn, "LANE_ROWS", 3)
    follows = [False, True, True, True, True, False, True]
    assert char_rnn.lanes_of(follows) == [[0, 1, 2], [3, 4], [5, 6]]
    assert char_rnn.lanes_of([]) == []


# --- steps of a training ------------------------------------------------------------------------


def test_steps_read_each_row_once_in_windows_and_carry_the_state() -> None:
    """Of 5 steps the first 3 read 6 rows of 12 characters, and the last 2 read 4 rows."""
    net = make_net()
    batch = batches.of_text(rows=10, length=12, codes=CODES)
    streams = net.prepare(batch)
    index = torch.arange(10).view(5, 2)
    windows = list(plugins.steps(plugins.take(streams, index)))
    assert [tuple(window.text.shape) for window in windows] == [(6, 5)] * 3 + [(4, 7)] * 2
    for group, first in ((windows[:3], 0), (windows[3:], 6)):
        text = torch.cat([group[0].text, *[window.text[:, 1:] for window in group[1:]]], 1)
        assert torch.equal(text, batch.text[first : first + len(text)])
        for before, after in itertools.pairwise(group):
            assert torch.equal(before.text[:, -1], after.text[:, 0])
    losses = [net.loss(window) for window in windows[:3]]
    whole = net.loss(Batch(batch.text[:6], batch.follows[:6]))
    torch.testing.assert_close(torch.stack(losses).mean(), whole)
    losses[1].backward()  # no graph leads into the window before


def test_a_window_after_the_end_of_all_rows_has_no_loss() -> None:
    net = make_net()
    window = Window(torch.full((2, 5), PADDING, dtype=torch.int32), [])
    assert net.loss(window).item() == 0


# --- writing ------------------------------------------------------------------------------------


def test_prompts_are_continued_by_the_probabilities_of_the_net() -> None:
    net = make_net(layers=1)
    prompts = [torch.tensor([1, 2, 3]), torch.tensor([4])]
    greedy = net.write(prompts, 6, 0.0, 0, [1, 2])
    for prompt, written in zip(prompts, greedy, strict=True):
        codes = prompt.tolist()
        for code in written.tolist():
            logits = net(torch.tensor([codes]))[0][-1, 0]
            logits[UNKNOWN] = -torch.inf
            assert code == logits.argmax()
            codes.append(code)
    assert torch.equal(net.write(prompts, 6, 1.0, 1, [5, 6]), greedy), "the likeliest one alone"
    drawn = net.write(prompts, 6, 1.0, 0, [7, 8])
    assert torch.equal(net.write(prompts[1:], 6, 1.0, 0, [8]), drawn[1:])
    assert not torch.equal(net.write(prompts, 6, 1.0, 0, [9, 10]), drawn)


def test_draws_have_the_probabilities_of_the_softmax() -> None:
    logits = torch.tensor([[5.0, 0.0, 1.0, 2.0]])
    uniform = (torch.arange(1000) + 0.5) / 1000
    for temperature, top_k in ((1.0, 0), (0.5, 0), (1.0, 2)):
        codes = char_rnn.drawn(logits.expand(1000, 4), temperature, top_k, uniform)
        kept = logits[0, 1:] / temperature
        if top_k:
            kept = kept.masked_fill(kept < 1, -torch.inf)
        expected = [0.0, *kept.softmax(0).tolist()]
        shares = torch.bincount(codes, minlength=4) / 1000
        torch.testing.assert_close(shares, torch.tensor(expected), atol=2e-3, rtol=0)


def test_the_likeliest_and_a_number_of_one_are_drawn_without_error() -> None:
    logits = torch.tensor([[0.0, 1.0, 900.0]])
    assert char_rnn.drawn(logits, 1e-3, 0, torch.tensor([0.9999999])).item() == 2


# --- the twin -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's
def test_on_the_twin_the_planted_fact_is_recalled_at_smoke(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At standard the first letter of the name costs 0.005 nats, or 0.008 after a line in between;
    n-grams, and a net that has not seen the first line, pay ln 4 for it."""
    monkeypatch.chdir(ROOT)
    data = twins.conf_of("shakespeare")
    raw = twins.raw("shakespeare", tmp_path_factory)
    parts = prepare.prepare(text_rows.read(raw, data.columns), data)
    conf = config.model("writer", ["budget=smoke"], shelf=True)
    model = published.trained(conf, data, parts)
    nats = np.concatenate(list(model.answer(parts["test"])["nats"]))
    places = recalls("".join(parts["test"]["text"]))
    assert len(places) > 300
    assert nats[places].mean() < 0.1 * math.log(4)
