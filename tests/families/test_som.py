"""The self-organizing map: its gradient against autograd and Kohonen's rules, its grids drawn by hand, its limits."""

import math

import pytest
import torch
from torch import Tensor

from sextant.errors import UsageError
from sextant.families.som import MIN_SPREAD, NEIGHBORHOODS, SOM, pca_grid, unit_distances
from sextant.kinds.tabular.encoder import Batch

NET = {
    "rows": 3, "cols": 5, "grid": "rectangular", "toroidal": False, "neighborhood": "gaussian", "sigma": 2.0,
    "sigma_end": 0.5, "init": "pca", "update": "batch",
}  # fmt: skip
ROWS, NUMERIC, CARDINALITIES = 17, 7, [2, 3]


def batch(rows: int = ROWS, seed: int = 3, cardinalities: list[int] = CARDINALITIES) -> Batch:
    """Standardised numbers, categories with an unseen level among them, no labels."""
    draw = torch.Generator().manual_seed(seed)
    codes = [torch.randint(0, n + 1, (rows, 1), generator=draw) for n in cardinalities]
    numeric = torch.randn(rows, NUMERIC, generator=draw)
    return Batch(
        numeric,
        torch.cat([*codes, torch.empty(rows, 0, dtype=torch.int64)], 1),
        torch.zeros(rows).long(),
    )


def som(
    train: Batch | None = None, seed: int = 5, cardinalities: list[int] = CARDINALITIES, **net
) -> SOM:
    """A map in double precision, initialised on `train`."""
    torch.manual_seed(seed)
    found = SOM(NUMERIC, cardinalities, **(NET | net))
    found.initialise(train or batch(cardinalities=cardinalities))
    return found.double()


def plain_loss(net: SOM, rows: Batch) -> Tensor:
    """The loss as it is written, h held constant: a sum over every row and unit."""
    x, w = net.features(rows), net.codebook
    with torch.no_grad():
        h = net.neighbors()[torch.cdist(x, w).argmin(1)]  # (rows, units)
        norm = h.sum(0) if net.update == "batch" else torch.full_like(h[0], len(x))
    each = h * ((x[:, None] - w) ** 2).sum(2)
    return 0.5 * (each.sum(0)[norm > 0] / norm[norm > 0]).sum()


WAYS = [(kind, update) for kind in NEIGHBORHOODS for update in ("batch", "online")]
WAYS.remove(("mexican_hat", "batch"))


@pytest.mark.parametrize(("neighborhood", "update"), WAYS)
@pytest.mark.parametrize("progress", [0.0, 0.5, 0.97])
def test_loss_and_gradient_are_those_of_the_plain_loss_by_autograd(neighborhood, update, progress):
    net = som(neighborhood=neighborhood, update=update)
    net.progress = progress
    plain, ours = plain_loss(net, batch(seed=11)), net.loss(batch(seed=11))
    (expected,) = torch.autograd.grad(plain, net.codebook)
    (found,) = torch.autograd.grad(3 * ours, net.codebook)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    held = (neighborhood == "mexican_hat") & (
        (net.codebook <= 0) | (net.codebook >= 1)
    )  # see the test of edges
    torch.testing.assert_close(found[~held], 3 * expected[~held], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("neighborhood", ["gaussian", "bubble", "triangle"])
@pytest.mark.parametrize("sigma", [2.0, 0.6])
def test_gradient_descent_with_lr_1_is_kohonens_batch_rule(neighborhood, sigma):
    """Each prototype becomes the mean of the rows, weighted by h; one that nothing pulls stays where it was."""
    net, rows = som(neighborhood=neighborhood, sigma=sigma, sigma_end=sigma), batch(seed=11)
    before, x = net.codebook.detach().clone(), net.features(rows)
    best = torch.cdist(x, before).argmin(1)
    net.loss(rows).backward()
    torch.optim.SGD(net.parameters(), lr=1.0).step()
    stayed = 0
    for j in range(15):
        h = NEIGHBORHOODS[neighborhood](net.grid_distances[best, j].double() / sigma)
        expected = (h[:, None] * x).sum(0) / h.sum() if h.sum() > 0 else before[j]
        stayed += int(h.sum() == 0)
        torch.testing.assert_close(net.codebook[j].detach(), expected, rtol=1e-12, atol=1e-13)
    assert stayed or neighborhood == "gaussian" or sigma == 2.0  # the case was met


@pytest.mark.parametrize("neighborhood", NEIGHBORHOODS)
def test_online_one_row_at_a_time_is_kohonens_classic_rule(neighborhood):
    net, row = som(neighborhood=neighborhood, update="online"), batch(1, seed=11)
    before, x = net.codebook.detach().clone(), net.features(row)[0]
    best = (before - x).norm(dim=1).argmin()
    net.loss(row).backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    h = NEIGHBORHOODS[neighborhood](net.grid_distances[best].double() / 2.0)[:, None]
    inside = (before > 0) & (before < 1)
    expected = before + 0.1 * h * (x - before)
    torch.testing.assert_close(
        net.codebook.detach()[inside], expected[inside], rtol=1e-12, atol=1e-13
    )


def test_what_pushes_away_ends_at_the_edge_of_the_rows_and_never_grows_without_end():
    net, rows = som(neighborhood="mexican_hat", update="online"), batch()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for step in range(600):
        net.progress = step / 600
        optimizer.zero_grad()
        net.loss(Batch(*(t[step % ROWS, None] for t in rows))).backward()
        optimizer.step()
    assert net.codebook.abs().max() < 2


def test_mexican_hat_is_refused_by_name_in_batch():
    with pytest.raises(UsageError, match="`mexican_hat` trains online only.*`update: online`"):
        som(neighborhood="mexican_hat")
    assert som(neighborhood="mexican_hat", update="online")


@pytest.mark.parametrize(
    ("net", "says"),
    [
        ({"rows": 1, "cols": 1}, "`rows` times `cols` is 1; expected two units or more"),
        (
            {"grid": "hexagonal", "toroidal": True},
            "hexagonal grid has 3 `rows`; expected an even number",
        ),
        ({"sigma": 0.4}, "`sigma_end` 0.5 is above `sigma` 0.4"),
    ],
)
def test_arguments_that_are_not_right_together_are_refused(net, says):
    with pytest.raises(UsageError, match=says):
        som(**net)


# --- neighborhoods and grids ------------------------------------------------------------------------------------------


def test_neighborhoods_have_their_shapes():
    u = torch.tensor([0.0, 0.5, 1.0, 2.0])
    drawn = {name: h(u).tolist() for name, h in NEIGHBORHOODS.items()}
    assert drawn["bubble"] == [1, 1, 1, 0] and drawn["triangle"] == [1, 0.5, 0, 0]
    assert drawn["gaussian"] == pytest.approx([1, math.exp(-1 / 8), math.exp(-1 / 2), math.exp(-2)])
    assert drawn["mexican_hat"] == pytest.approx([1, 0.75 * math.exp(-1 / 8), 0, -3 * math.exp(-2)])


def test_sigma_shrinks_by_equal_factors_from_its_start_to_its_end():
    net, one_apart = som(sigma=8.0, sigma_end=0.5), []
    for progress in (0.0, 0.5, 1.0):
        net.progress = progress
        one_apart.append(net.neighbors()[0, 1].item())
    assert one_apart == pytest.approx([math.exp(-0.5 / sigma**2) for sigma in (8.0, 2.0, 0.5)])


def neighbors(rows: int, cols: int, **net) -> list[int]:
    """How many units lie next to each, unit by unit."""
    drawn = som(rows=rows, cols=cols, **net)
    return (
        ((drawn.grid_distances > 0) & (drawn.grid_distances <= drawn.adjacent_within))
        .sum(1)
        .tolist()
    )


def test_a_rectangular_grid_has_eight_neighbours_inside_and_three_in_a_corner():
    assert neighbors(3, 4) == [3, 5, 5, 3, 5, 8, 8, 5, 3, 5, 5, 3]


def test_a_hexagonal_grid_has_six_neighbours_inside():
    counts = neighbors(3, 4, grid="hexagonal")
    assert counts == [2, 4, 4, 3, 5, 6, 6, 3, 2, 4, 4, 3]
    assert unit_distances(3, 4, "hexagonal", False)[0, [1, 4]].tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(("grid", "count"), [("rectangular", 8), ("hexagonal", 6)])
def test_a_toroidal_grid_has_no_edge(grid, count):
    assert neighbors(4, 5, grid=grid, toroidal=True) == [count] * 20
    apart = unit_distances(4, 5, "rectangular", True)
    assert apart[0, [4, 15, 19, 12]].tolist() == pytest.approx([1, 1, 2**0.5, 8**0.5])


def test_distances_on_a_grid_are_euclidean():
    apart = unit_distances(3, 5, "rectangular", False)
    assert apart[0, [1, 5, 6, 14]].tolist() == pytest.approx([1, 1, 2**0.5, 20**0.5])
    assert torch.equal(apart, apart.T)


# --- scaling, initialising, predicting --------------------------------------------------------------------------------


def test_training_rows_fill_0_to_1_and_levels_are_as_far_apart_as_the_ends_of_a_number():
    rows = batch()
    x = som(rows).features(rows)
    assert x.shape == (ROWS, NUMERIC + sum(CARDINALITIES))
    assert (
        torch.equal(x[:, :NUMERIC].amin(0), torch.zeros(NUMERIC))
        and (x[:, :NUMERIC].amax(0) - 1).abs().max() < 1e-6
    )
    levels = x[:, NUMERIC : NUMERIC + 2]
    assert torch.pdist(levels[rows.categories[:, 0] > 0].unique(dim=0)).item() == pytest.approx(1)
    assert (levels[rows.categories[:, 0] == 0] == 0).all()  # an unseen level is none of them


def test_a_number_that_never_changes_says_nothing():
    rows = batch()
    rows.numeric[:, 2] = 0.0
    assert (som(rows).features(rows)[:, 2] == 0).all()


def test_the_first_plane_lies_along_the_two_main_axes_the_first_along_the_longer_side():
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(4001, 3, generator=draw, dtype=torch.float64) * torch.tensor([0.1, 5.0, 2.0])
    grid = pca_grid(x, 3, 5).view(3, 5, 3)
    across, down = grid[1, 4] - grid[1, 0], grid[2, 2] - grid[0, 2]
    assert across.abs().argmax() == 1 and down.abs().argmax() == 2 and abs(across @ down) < 1e-9
    assert across.norm() == pytest.approx(2 * 1.5 * 5, rel=0.05) and down.norm() == pytest.approx(
        2 * 1.5 * 2, rel=0.05
    )
    torch.testing.assert_close(grid.mean((0, 1)), x.mean(0))
    turned = pca_grid(x, 5, 3).view(5, 3, 3)
    assert (turned[4, 1] - turned[0, 1]).abs().argmax() == 1


@pytest.mark.parametrize("rows", [1, 2, 8])
@pytest.mark.parametrize("init", ["pca", "sample"])
def test_few_rows_are_enough_to_begin(rows, init):
    net = som(batch(rows), init=init)
    assert torch.isfinite(net.codebook).all() and torch.isfinite(net.loss(batch(rows)))


def test_one_feature_makes_a_line():
    assert pca_grid(torch.arange(7.0).double()[:, None], 2, 3).shape == (6, 1)


def test_samples_are_rows_each_taken_once_while_there_are_some():
    rows = batch(23)
    net = som(rows, init="sample")
    hits = (torch.cdist(net.codebook, net.features(rows)) < 1e-6).sum(0)
    assert hits.sum() == 15 and hits.max() == 1


def test_predict_finds_the_two_nearest_units_and_what_stands_there():
    net, rows = som(), batch(29, seed=11)
    found, x = net.predict(rows), net.features(rows)
    for i in range(29):
        apart = (net.codebook - x[i]).norm(dim=1)
        first, second = apart.argsort()[:2].tolist()
        assert found["unit"][i].tolist() == [first // 5, first % 5]
        assert found["second_unit"][i].tolist() == [second // 5, second % 5]
        assert found["distance"][i].item() == pytest.approx(apart[first].item())
        assert torch.equal(found["prototype"][i], net.codebook[first])
        steps = [abs(first // 5 - second // 5), abs(first % 5 - second % 5)]
        assert found["adjacent"][i].item() == (max(steps) == 1)


def by_hand(codebook: list[float], **net) -> SOM:
    """A map whose prototypes are these numbers, of rows that lie between 0 and 1 in their one feature."""
    found = SOM(1, [], **(NET | net)).double()
    with torch.no_grad():
        found.codebook.copy_(torch.tensor(codebook)[:, None])
        found.low.zero_()
        found.span.fill_(1)
    return found


def line(numbers: list[float]) -> Batch:
    n = len(numbers)
    return Batch(
        torch.tensor(numbers)[:, None].double(), torch.empty(n, 0).long(), torch.zeros(n).long()
    )


def test_the_topographic_error_of_a_line_folded_on_itself_is_that_of_paper():
    """Units 0 to 4 go up to 0.8 and come back: near 0 the second best is the other end, near 0.45 the other leg.

    unit   0    1    2    3    4          row        0.02  0.42  0.48  0.70  0.79
    W      0.0  0.4  0.8  0.5  0.1        best       0     1     3     2     2
                                          second     4     3     1     3     3
                                          apart      4     2     2     1     1      so 3 of 5 are errors
    """
    found = by_hand([0.0, 0.4, 0.8, 0.5, 0.1], rows=1, cols=5).predict(
        line([0.02, 0.42, 0.48, 0.70, 0.79])
    )
    assert found["unit"][:, 1].tolist() == [0, 1, 3, 2, 2] and found["second_unit"][
        :, 1
    ].tolist() == [4, 3, 1, 3, 3]
    assert found["adjacent"].tolist() == [False, False, False, True, True]
    assert 1 - found["adjacent"].double().mean() == pytest.approx(3 / 5)
    straight = by_hand([0.0, 0.2, 0.4, 0.6, 0.8], rows=1, cols=5).predict(
        line([0.02, 0.42, 0.48, 0.70, 0.79])
    )
    assert straight["adjacent"].all()


@pytest.mark.parametrize(
    ("second", "rectangular", "hexagonal", "toroidal"),
    [  # of the unit at row 1, column 0 of 4 x 5; on a hexagonal grid row 1 is shifted to the right by a half
        ((0, 0), True, True, True),
        ((0, 1), True, True, True),
        ((2, 1), True, True, True),
        ((1, 4), False, False, True),  # across the seam
        ((0, 4), False, False, True),  # across it and one up
        ((3, 0), False, False, False),
        ((1, 2), False, False, False),
    ],
)
def test_which_second_unit_is_an_error_on_each_grid(second, rectangular, hexagonal, toroidal):
    codebook = [1.0] * 20
    codebook[5], codebook[5 * second[0] + second[1]] = 0.5, 0.6
    for how, expected in (
        ({}, rectangular),
        ({"grid": "hexagonal"}, hexagonal),
        ({"toroidal": True}, toroidal),
    ):
        found = by_hand(codebook, rows=4, cols=5, **how).predict(line([0.5]))
        assert found["unit"].tolist() == [[1, 0]] and found["second_unit"].tolist() == [
            list(second)
        ]
        assert found["adjacent"].tolist() == [expected], how


def test_a_diagonal_away_from_the_shift_is_an_error_on_a_hexagonal_grid_alone():
    """Unit (1, 1) lies at x = 1.5 there, and (0, 0) at x = 0."""
    codebook = [1.0] * 20
    codebook[6], codebook[0] = 0.5, 0.6
    assert by_hand(codebook, rows=4, cols=5).predict(line([0.5]))["adjacent"].item()
    assert (
        not by_hand(codebook, rows=4, cols=5, grid="hexagonal")
        .predict(line([0.5]))["adjacent"]
        .item()
    )


def test_batched_answers_equal_one_by_one_and_the_same_seed_gives_the_same_map():
    net, rows = som().float(), batch(29, seed=11)
    whole = net.predict(rows)
    for i in range(29):
        for name, value in net.predict(Batch(*(t[i : i + 1] for t in rows))).items():
            assert torch.equal(value[0], whole[name][i]), name
    assert torch.equal(som(init="sample").codebook, som(init="sample").codebook)


def test_surprise_is_zero_at_a_prototype_of_equal_rows_and_counts_in_the_spread_there():
    net, rows = som(), batch(1, seed=11)
    x = net.features(rows)[0]
    with torch.no_grad():
        net.codebook[4], net.spread[4] = x, 0.0
    assert net.predict(rows)["surprise"].item() == pytest.approx(0, abs=1e-12)
    with torch.no_grad():
        net.codebook[4, 0] += 3 * MIN_SPREAD  # three deviations in one of the features
    assert net.predict(rows)["surprise"].item() == pytest.approx(0.5 * 9 / len(x))


def test_spread_is_the_mean_square_of_the_rows_around_each_prototype_and_stays_outside_training():
    net, rows = som(sigma=0.7, sigma_end=0.7), batch(seed=11)
    before, x = net.codebook.detach().clone(), net.features(rows)
    h = net.neighbors()[torch.cdist(x, before).argmin(1)]
    expected = torch.einsum("ij,ijf->jf", h, (x[:, None] - before) ** 2) / h.sum(0)[:, None]
    net.loss(rows)
    torch.testing.assert_close(net.spread, expected, rtol=1e-9, atol=1e-12)
    net.eval()
    net.loss(batch(seed=13))
    torch.testing.assert_close(net.spread, expected, rtol=1e-9, atol=1e-12)


# --- learning ---------------------------------------------------------------------------------------------------------


def trained(net: SOM, rows: Batch, epochs: int = 60) -> SOM:
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    for epoch in range(epochs):
        net.progress = epoch / epochs
        optimizer.zero_grad()
        net.loss(rows).backward()
        optimizer.step()
    return net


def test_eight_rows_are_learnt_by_heart():
    net = trained(som(batch(8), rows=7, cols=7, sigma=3.0), batch(8))
    assert net.predict(batch(8))["distance"].max() < 1e-3


def trained_online(net: SOM, rows: Batch, lr: float, epochs: int = 10) -> SOM:
    """The classic way: a step for each row, in an order drawn for each epoch."""
    optimizer, draw = torch.optim.SGD(net.parameters(), lr=lr), torch.Generator().manual_seed(2)
    for epoch in range(epochs):
        net.progress = epoch / epochs
        for i in torch.randperm(len(rows.numeric), generator=draw).tolist():
            optimizer.zero_grad()
            net.loss(Batch(*(t[i, None] for t in rows))).backward()
            optimizer.step()
    return net


@pytest.mark.slow
@pytest.mark.parametrize(("neighborhood", "update"), WAYS)
@pytest.mark.parametrize("grid", ["rectangular", "hexagonal"])
@pytest.mark.parametrize("toroidal", [False, True])
def test_training_brings_the_map_to_the_rows_on_every_grid(grid, toroidal, neighborhood, update):
    rows, hat = batch(211), neighborhood == "mexican_hat"
    wide = (
        {"sigma": 3.0, "sigma_end": 2.0} if toroidal else {"sigma": 7.0, "sigma_end": 3.5}
    )  # as SOM says
    how = {"grid": grid, "toroidal": toroidal, "neighborhood": neighborhood, "update": update}
    net = som(rows, rows=6, cols=7, **how, **(wide if hat else {}))
    before = net.predict(rows)["distance"].mean()
    found = (
        trained_online(net, rows, 0.02 if hat else 0.1)
        if update == "online"
        else trained(net, rows)
    ).predict(rows)
    assert found["distance"].mean() < (0.97 if hat else 0.85) * before
    if neighborhood in (
        "gaussian",
        "mexican_hat",
    ):  # the others end at a unit alone, with no neighbour to hold
        assert found["adjacent"].double().mean() > 0.9


def test_a_mexican_hat_that_shrinks_to_half_a_unit_is_no_map():
    """Why its sigma stays wide: it pushes the units next door away."""
    rows = batch(211)
    net = som(
        rows, rows=6, cols=7, neighborhood="mexican_hat", update="online", sigma=7.0, sigma_end=0.5
    )
    found = trained_online(net, rows, 0.1).predict(rows)
    assert found["adjacent"].double().mean() < 0.7


def test_online_is_refused_with_a_step_for_many_rows_or_one_that_forgets_all():
    online = NET | {"update": "online"}
    SOM.check(online, {"lr": 0.1}, {"batch_size": 1})
    SOM.check(NET, {"lr": 1.0}, {"batch_size": 1000})
    for lr, rows in ((0.1, 2), (1.0, 1)):
        with pytest.raises(
            UsageError,
            match=f"takes a step for each row, but .*batch_size` is {rows} and .*lr` is {lr:g}; set",
        ):
            SOM.check(online, {"lr": lr}, {"batch_size": rows})


def test_a_map_of_a_square_unfolds_without_a_twist():
    """Rows spread evenly over a square: a square map lies flat on them, so that no second unit is far off."""
    draw = torch.Generator().manual_seed(2)
    rows = Batch(
        torch.rand(997, 2, generator=draw) * 4 - 2,
        torch.empty(997, 0).long(),
        torch.zeros(997).long(),
    )
    torch.manual_seed(1)
    net = SOM(2, [], **(NET | {"rows": 8, "cols": 8, "sigma": 4.0, "init": "sample"}))
    net.initialise(rows)
    found = trained(net, rows).predict(rows)
    assert found["adjacent"].double().mean() > 0.97 and found["distance"].mean() < 0.07


def test_the_u_matrix_is_the_mean_distance_to_the_units_next_to_it():
    net = som(rows=2, cols=3)
    w = net.codebook
    apart = [(w[0] - w[j]).norm() for j in (1, 3, 4)]
    assert net.u_matrix()[0, 0].item() == pytest.approx(torch.stack(apart).mean().item())
    assert net.u_matrix().shape == (2, 3)
