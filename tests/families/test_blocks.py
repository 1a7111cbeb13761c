"""What several families share: parameter groups, Gibbs sampling, a grid on a plane."""

import cases
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sextant.families import blocks


def test_weights_decay_and_vectors_do_not():
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Conv1d(5, 2, 3))
    weights, vectors = blocks.decay_weights_only(net)
    assert [p.ndim for p in weights["params"]] == [2, 3] and "weight_decay" not in weights
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1, 1] and vectors["weight_decay"] == 0


# --- dropout ------------------------------------------------------------------------------------


@cases.each(("p", "dropped"), [(0.2, 51), (0.5, 128), (0.001, 1), (0.999, 255), (1 / 256, 1)])
def test_dropout_drops_a_share_in_256ths_and_keeps_the_expectation(p, dropped):
    torch.manual_seed(1)
    rows = 50_003  # not divisible by the eight bytes of a random number
    y = blocks.Dropout(p)(torch.ones(rows, 5, dtype=torch.float64))
    share = dropped / 256
    assert set(y.unique().tolist()) == {0.0, 256 / (256 - dropped)}
    tolerance = 5 * (share * (1 - share) / y.numel()) ** 0.5
    assert float((y == 0).double().mean()) == pytest.approx(share, abs=tolerance)
    # Neighbours, which come from one random number, are independent.
    zero = (y == 0).double()
    both = float((zero[:, 1:] * zero[:, :-1]).mean())
    assert both == pytest.approx(share**2, abs=5 * share / y.numel() ** 0.5)


def test_dropout_in_evaluation_and_of_share_0_changes_nothing():
    x = torch.randn(3, 5)
    assert blocks.Dropout(0.5).eval()(x) is x
    assert blocks.Dropout(0.0)(x) is x


@pytest.mark.parametrize("inplace", [False, True])
def test_dropout_repeats_under_a_seed_and_passes_gradients_of_what_it_keeps(inplace):
    dropout, x = blocks.Dropout(0.3, inplace), torch.randn(31, 7, requires_grad=True)
    outputs = []
    for _ in range(2):
        torch.manual_seed(4)
        z = x * 1.0
        y = dropout(z)
        assert (y is z) == inplace
        outputs.append(y)
    assert torch.equal(*outputs)
    (grad,) = torch.autograd.grad(outputs[0].sum(), x)
    torch.testing.assert_close(grad * x, outputs[0])
    assert not torch.equal(dropout(x * 1.0), outputs[0])


# --- Gibbs sampling -----------------------------------------------------------------------------


def test_levels_are_drawn_in_proportion_to_their_probability():
    torch.manual_seed(3)
    rows = 20_000
    tolerance = 5 * 0.5 / rows**0.5
    binary = blocks.draw_levels(torch.full((rows, 1), 0.3))
    assert set(binary.unique().tolist()) == {0, 1} and abs(binary.mean() - 0.3) < tolerance
    probs = torch.tensor([0.2, 0.5, 0.3])
    one_hot = blocks.draw_levels(probs.expand(rows, -1))
    assert (one_hot.sum(1) == 1).all() and one_hot.dtype == probs.dtype
    assert (one_hot.mean(0) - probs).abs().max() < tolerance


@pytest.mark.parametrize("levels", [1, 3])
def test_no_unit_is_no_draw(levels):
    assert blocks.draw_levels(torch.empty(0, levels)).shape == (0, levels)


@torch.no_grad()
def test_a_gibbs_chain_reaches_the_joint_distribution_and_clamped_units_stay():
    """Two visible and one hidden binary unit, P(v, h) in proportion to exp(h (w v + c))."""
    w, c, chains = torch.tensor([1.5, -2.0]), 0.4, 20_000

    def visible_probs(h: Tensor) -> Tensor:
        return (h * w).sigmoid().reshape(-1, 1)

    def hidden_probs(v: Tensor) -> Tensor:
        return (v.view(chains, 2) @ w + c).sigmoid()[:, None]

    def run(free: list[bool], start: list[float]) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(1)
        v = torch.tensor(start).repeat(chains)[:, None]
        h = torch.zeros(chains, 1)
        clamp = torch.tensor(free).repeat(chains)
        return blocks.gibbs_chain(v, h, clamp, 30, visible_probs, hidden_probs)

    tolerance = 5 * 0.5 / chains**0.5
    states = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    masses = 1 + (states @ w + c).exp()  # h = 0 and h = 1
    v, h, mean = run([True, True], [0.0, 0.0])
    expected = (masses / masses.sum()) @ states
    assert (v.view(chains, 2).mean(0) - expected).abs().max() < tolerance
    assert (mean.view(chains, 2).mean(0) - expected).abs().max() < tolerance
    p_hidden = (masses - 1).sum() / masses.sum()
    assert abs(h.mean() - p_hidden) < tolerance

    v, _, mean = run([True, False], [0.0, 1.0])
    assert (v.view(chains, 2)[:, 1] == 1).all() and (mean.view(chains, 2)[:, 1] == 1).all()
    conditional = masses[3] / (masses[1] + masses[3])
    assert abs(v.view(chains, 2)[:, 0].mean() - conditional) < tolerance


# --- a grid on a plane --------------------------------------------------------------------------


@cases.each(("rows", "cols"), [(3, 5), (5, 3), (4, 4), (1, 6), (1, 1)])
def test_a_grid_by_hand(rows, cols):
    center = torch.tensor([1.0, 2.0, 3.0])
    axes = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    down, along = torch.linspace(-1.5, 1.5, rows), torch.linspace(-1.5, 1.5, cols)
    grid = blocks.grid_on_plane(center, axes, down, along).view(rows, cols, 3)
    down_axis, along_axis = (axes[0], axes[1]) if rows >= cols else (axes[1], axes[0])
    for row, col in np.ndindex(rows, cols):
        expected = center + down[row] * down_axis + along[col] * along_axis
        torch.testing.assert_close(grid[row, col], expected)


def test_a_grid_equals_numpy_to_the_last_bit():
    """So the baseline `untrained_pca` has the same metrics as before it used torch for this."""
    rng = np.random.default_rng(3)
    center, axes = rng.normal(size=14), rng.normal(size=(2, 14))
    down, along = np.linspace(-1.5, 1.5, 10), np.linspace(-1.5, 1.5, 11)
    expected = center + down[:, None, None] * axes[1] + along[None, :, None] * axes[0]
    tensors = [torch.from_numpy(array) for array in (center, axes, down, along)]
    grid = blocks.grid_on_plane(*tensors).numpy()
    assert np.array_equal(grid, expected.reshape(-1, 14))
