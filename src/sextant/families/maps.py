"""The mathematics that families of maps share: searches for units, the batch rule, grids.

Imports torch, errors.py and blocks.py. Every model stage depends on this file, as on blocks.py.
"""

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UsageError
from . import blocks

MIN_WEIGHT = 1e-30  # the least n_j of the batch rule: float32 cannot divide by less accurately
# The smallest standard deviation of a feature around a prototype, as a share of its range.
MIN_SPREAD = 0.01
# Units of a row whose distances are computed exactly, so that rounding in the search for them does
# not decide which one is the nearest.
CANDIDATES = 4
# Scores (rows x units) that the search holds at a time on a CPU: one MB, which stays in the cache
# until their maxima are found. On a map of 60 x 60, 128 kB took 1.6 and 16 MB 1.4 times as long.
CACHED_SCORES = 2**18
HELD_PULLS = 2**24  # values of h (units x units) held at a time, or scores on a GPU: 64 MB


def check_size(net: Mapping[str, object]) -> None:
    """Raise UsageError for a map of one unit, or one whose neighborhood would widen."""
    if cast("int", net["rows"]) * cast("int", net["cols"]) < 2:
        raise UsageError(
            "`rows` times `cols` is 1; expected two units or more: a topology needs two"
        )
    sigma, sigma_end = cast("float", net["sigma"]), cast("float", net["sigma_end"])
    if sigma_end > sigma:
        raise UsageError(
            f"`sigma_end` {sigma_end} is above `sigma` {sigma}; swap the two: the width shrinks"
        )


def gaussian(q: Tensor) -> Tensor:
    return (q * -0.5).exp()


# --- the batch rule -----------------------------------------------------------------------------


def add_by_axis(pulls: Tensor, by_unit: Tensor, products: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Add sum_c g(c, column of j) sum_r f(r, row of j) v_rc to `pulls`, (units, k), in place.

    by_unit (units, k) are the sums v of each unit of a rectangular grid; `products` are the factors
    f, (rows, rows), and g, (cols, cols), whose products add up to a neighborhood h.
    """
    n_rows, n_cols = len(products[0][0]), len(products[0][1])
    down = torch.empty_like(pulls).view(n_rows, -1)
    grid = pulls.view(n_rows, n_cols, -1)
    for f, g in products:
        torch.mm(f, by_unit.view(n_rows, -1), out=down)
        grid.baddbmm_(g.expand(n_rows, -1, -1), down.view_as(grid))
    return pulls


def descent(codebook: Tensor, means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of a map's loss by its codebook, (..., units, features), with two of its sums.

    `means` (..., units, 2 features + 1) are sum_i h_ij (x_i, 1, x_i^2) / n_j, with the neighborhood
    h_ij of the best matching unit of row i at unit j. In parts m_j, p_j and q_j, the gradient is
    p_j W_j - m_j. Also returned: p_j, (..., units, 1), which is 1 in the batch rule, and sum_i h_ij
    (x_i - W_j)^2 / n_j = q_j - 2 m_j W_j + p_j W_j^2 for each feature, (..., units, features).
    """
    features = codebook.shape[-1]
    mean, weight, squares = means.split([features, 1, features], -1)
    slope = codebook * weight - mean
    return slope, weight, torch.addcmul(squares, codebook, slope - mean)


def surprise(x: Tensor, prototype: Tensor, variance: Tensor) -> Tensor:
    """How unlike its prototype each row is, (rows), given the `variance` of rows around it.

    0.5 mean_f ((x_f - W_f)^2 / v_f + log(v_f / MIN_SPREAD^2)), all of them (rows, features): the
    negative log density under a normal distribution. It is 0 at a prototype with the least variance
    that there can be, MIN_SPREAD^2.
    """
    by_feature = (x - prototype) ** 2 / variance + (variance / MIN_SPREAD**2).log()
    return 0.5 * by_feature.mean(1)


def batch_map(
    x: Tensor, rows: int, cols: int, sigma: float, sigma_end: float, epochs: int
) -> tuple[Tensor, Tensor]:
    """A map trained by Kohonen's batch rule on rows x, (n, features): its codebook and variances.

    The grid is rectangular, the neighborhood a Gaussian whose width falls from `sigma` to
    `sigma_end` by equal factors, and the initial codebook a grid on the plane of the two main axes.
    Returned are (units, features) twice; see `surprise` for the variances.
    """
    codebook = pca_grid(x.double(), rows, cols).to(x)
    features = x.shape[1]
    moments = torch.cat([x, torch.ones_like(x[:, :1]), x * x], 1)
    row_squares = axis_squares(rows, cyclic=False).to(x)
    col_squares = axis_squares(cols, cyclic=False).to(x)
    spread = torch.ones_like(codebook)
    for epoch in range(epochs):
        width = sigma * (sigma_end / sigma) ** (epoch / epochs)
        (bmu,) = nearest_units(moments[:, : features + 1], codebook, 1)
        by_unit = moments.new_zeros(len(codebook), moments.shape[1]).index_add_(0, bmu, moments)
        h = (gaussian(row_squares / width**2), gaussian(col_squares / width**2))
        pulls = add_by_axis(torch.zeros_like(by_unit), by_unit, [h])
        pulls /= pulls[:, features : features + 1].clamp_min(MIN_WEIGHT)
        slope, _, squares = descent(codebook, pulls)
        spread = squares.clamp_min(0)
        codebook = codebook - slope
    return codebook, spread + MIN_SPREAD**2


# --- the search for units -----------------------------------------------------------------------


def nearest_units(x: Tensor, codebook: Tensor, count: int) -> list[Tensor]:
    """The nearest unit of each row, then the second nearest: `count` tensors (rows), or fewer.

    x (rows, features + 1) are features and a 1. A unit is the nearer, the larger its score
    x_i W_j - |W_j|^2 / 2 = (|x_i|^2 - |x_i - W_j|^2) / 2, the product of (x_i, 1) and
    (W_j, -|W_j|^2 / 2). Units at distances that differ by rounding alone may change places.
    """
    half_squares = codebook.square().sum(1, keepdim=True) * -0.5
    weights = torch.cat([codebook, half_squares], 1).T
    held = CACHED_SCORES if x.device.type == "cpu" else HELD_PULLS
    step = max(1, held // len(codebook))
    scores = x.new_empty(min(step, len(x)), len(codebook))
    if len(x) <= step:
        torch.mm(x, weights, out=scores)
        return largest(scores, count)
    chunks = []
    for chunk in x.split(step):
        # The scores of a chunk overwrite those of the one before, in the cache.
        chunk_scores = torch.mm(chunk, weights, out=scores[: len(chunk)])
        chunks.append(largest(chunk_scores, count))
    return [torch.cat(units) for units in zip(*chunks, strict=True)]


def largest(scores: Tensor, count: int) -> list[Tensor]:
    """The column with the largest score of each row, then the second largest, ...: (rows) each.

    Of equal scores the first counts as the largest. `scores` is overwritten if `count` is above 1.
    """
    columns = [argmax(scores)]
    for _ in range(1, min(count, scores.shape[1])):
        scores.scatter_(1, columns[-1][:, None], -math.inf)
        columns.append(argmax(scores))
    return columns


def argmax(scores: Tensor) -> Tensor:
    """The first column with the largest score of each row, (rows).

    On a CPU it is NumPy's, which compares many columns at once: 16 us for 690 x 100 scores, where
    PyTorch's takes 135 us.
    """
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmax(1))
    return scores.argmax(1)


def two_nearest(x: Tensor, codebook: Tensor, candidates: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The nearest and second nearest of the candidates for each row of x, (rows, features).

    Returns them and their distances, (rows, 2) each. Distances are computed from differences, so
    they do not depend on the rows beside; at equal distances the first unit is the nearer one.
    """
    units = torch.stack(candidates, 1).sort(1).values
    distances = (x[:, None] - codebook[units]).norm(dim=2)
    order = distances.argsort(dim=1, stable=True)[:, :2]
    return units.gather(1, order), distances.gather(1, order)


# --- grids --------------------------------------------------------------------------------------


def unit_places(rows: int, cols: int, grid: str) -> Tensor:
    """Where the units lie, (units, 2) as y and x, 1 apart in a row.

    On a hexagonal grid odd rows are shifted by 1/2.
    """
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    y, x = row.flatten().double(), col.flatten().double()
    if grid == "hexagonal":
        return torch.stack([y * 0.75**0.5, x + 0.5 * (y % 2)], 1)
    return torch.stack([y, x], 1)


def axis_squares(n: int, cyclic: bool) -> Tensor:
    """Squared distances between n points in a row, (n, n); cyclic: the last is beside the first."""
    points = torch.arange(n)
    distance = (points[:, None] - points).abs()
    if cyclic:
        distance = torch.minimum(distance, n - distance)
    return distance.float() ** 2


def pca_grid(x: Tensor, rows: int, cols: int) -> Tensor:
    """A grid on the plane of the two main axes of x, (n, features): (rows * cols, features).

    It covers REACH standard deviations to each side; the first axis lies along its longer side.
    """
    center = x.mean(0)
    _, deviations, axes = torch.linalg.svd((x - center) / len(x) ** 0.5, full_matrices=False)
    # An SVD may return an axis or its negative: make the largest component positive.
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    scaled = deviations[:2, None] * axes[:2]
    scaled = F.pad(scaled, (0, 0, 0, 2 - len(scaled)))  # one feature has one axis; the second is 0
    return blocks.grid_on_plane(center, scaled, _grid_offsets(x, rows), _grid_offsets(x, cols))


def _grid_offsets(x: Tensor, n: int) -> Tensor:
    """Offsets of n rows or columns from the center, in standard deviations; 0 for a single one."""
    if n == 1:
        return x.new_zeros(1)
    return torch.linspace(-1, 1, n, dtype=x.dtype) * blocks.REACH
