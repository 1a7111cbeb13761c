"""Building blocks of more than one family: parameter groups, Gibbs sampling, bins, a grid.

Imports torch alone. Every model stage depends on this file, because a DVC dependency cannot be
conditional: an edit retrains all models, so only settled code belongs here. A family imports
torch, the batch of its kind and these blocks, and no other family.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ParamGroup: TypeAlias = dict[str, list[nn.Parameter] | float]

# Standard deviations that an initial grid covers to each side of the mean, along each principal
# axis. Of 0.5, 1, 1.5 and 2 this gave the grid nearest to the training rows in all of five splits
# of the real credit applications.
REACH = 1.5
HALVINGS = 40  # of the range in which a quantile of a mixture is sought

# What stands for an edge of bins that does not exist. An infinite one would become NaN in a running
# mean of the weights.
NO_EDGE = 1e30
UNKNOWN = -1  # the code of a missing cell


def decay_weights_only(net: nn.Module) -> list[ParamGroup]:
    """Parameter groups for an optimizer: matrices and kernels decay, vectors do not.

    Vectors are biases and the scales and shifts of a normalisation. They are few and do not
    overfit, and decay would pull a scale to 0 without any support in the data.
    """
    weights = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": weights}, {"params": vectors, "weight_decay": 0.0}]


class Dropout(nn.Module):
    """Dropout (Srivastava et al., JMLR 2014) that draws one byte for each element.

    An element is dropped if its byte is below 256 p, rounded, so p = 0.2 becomes 51/256 = 0.1992;
    the others are divided by the probability with which they are really kept, so that the
    expectation is exact. A million elements take 1 ms, and 8 ms by torch.nn.Dropout, which in a
    small net is as long as its matrix products.
    """

    def __init__(self, p: float, inplace: bool = False):
        super().__init__()
        self.inplace = inplace
        self.dropped = round(256 * p)  # of the 256 values of a byte
        if p > 0:  # a small p drops something, and a large one not everything
            self.dropped = min(max(self.dropped, 1), 255)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.dropped:
            return x
        words = torch.empty(x.numel() // 8 + 1, dtype=torch.int64, device=x.device)
        words.random_(-(2**63), None)  # all 64 bits
        # Compared in place: a comparison that gives a tensor of bool takes ten times as long.
        kept = words.view(torch.uint8)[: x.numel()].ge_(self.dropped)
        factor = kept.view(x.shape).to(x.dtype).mul_(256 / (256 - self.dropped))
        return x.mul_(factor) if self.inplace else x * factor


def draw_binary(probs: Tensor) -> Tensor:
    """1 with the probability `probs`, else 0, for each element.

    In place of torch.bernoulli, which takes three times as long.
    """
    return torch.rand_like(probs).lt_(probs)


def draw_levels(probs: Tensor) -> Tensor:
    """A random state for each row of `probs`, (n, levels): binary if levels is 1, else one-hot."""
    levels = probs.shape[1]
    if levels == 1:
        return draw_binary(probs)
    if len(probs) == 0:  # multinomial refuses an empty input
        return probs
    return F.one_hot(torch.multinomial(probs, 1)[:, 0], levels).to(probs.dtype)


def gibbs_chain(
    visible: Tensor,
    hidden: Tensor,
    free: Tensor,
    steps: int,
    visible_probs: Callable[[Tensor], Tensor],
    hidden_probs: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Block Gibbs sampling in a bipartite graph: draw v given h, then h given v, `steps` times.

    visible (n, levels) are binary units (one level) or one-hot ones; hidden, of any shape, binary
    units. `visible_probs(h)` is P(v | h), (n, levels), and `hidden_probs(v)` is P(h = 1 | v).
    Visible units that are not `free`, (n) bool, are clamped: they keep their state.

    Returns the last v and h, and the mean of the last v given the h that it was drawn from, which
    is a less noisy statistic than v itself.
    """
    mean = visible
    for _ in range(steps):
        probs = visible_probs(hidden)
        drawn = draw_levels(probs)
        mean = torch.where(free[:, None], probs, visible)
        visible = torch.where(free[:, None], drawn, visible)
        hidden = draw_binary(hidden_probs(visible))
    return visible, hidden, mean


# --- states: numbers in quantile bins, categories as they are ------------------------------------


def quantile_edges(x: Tensor, bins: int) -> Tensor:
    """Edges of quantile bins of each column of x, (rows, columns), NaN where missing.

    Returns (columns, bins - 1), ascending. An edge lies in the middle between two neighbouring
    values, those nearest to the quantile, so that no value is on it. A column with fewer distinct
    values, or with a value that makes up several bins, has fewer bins: the edges that it lacks are
    NO_EDGE.
    """
    edges = torch.full((x.shape[1], bins - 1), NO_EDGE, dtype=x.dtype, device=x.device)
    for column, values in enumerate(x.T):
        distinct, counts = values[~values.isnan()].unique(return_counts=True)
        if len(distinct) < 2:
            continue
        below = counts.cumsum(0)[:-1]  # the values below each possible edge
        quantiles = counts.sum() * torch.arange(1, bins, device=x.device) / bins
        nearest = (below - quantiles[:, None]).abs().argmin(1).unique()
        edges[column, : len(nearest)] = (distinct[nearest] + distinct[nearest + 1]) / 2
    return edges


def bin_codes(x: Tensor, edges: Tensor) -> Tensor:
    """The bin of each number of x, (rows, columns): how many edges are below it; int64.

    UNKNOWN where the number is missing (NaN). A number beyond all edges is in the last bin.
    """
    if not x.shape[1]:
        return torch.empty(x.shape, dtype=torch.int64, device=x.device)
    codes = torch.searchsorted(edges.contiguous(), x.T.contiguous()).T
    return torch.where(x.isnan(), UNKNOWN, codes)


def state_codes(numeric: Tensor, categories: Tensor, edges: Tensor) -> Tensor:
    """The state of each column, (rows, columns) int64 from 0; UNKNOWN where it is not known.

    `categories` has the codes of an encoder, from 1; its 0, a category that training did not have,
    is as unknown as an empty cell.
    """
    return torch.cat([bin_codes(numeric, edges), categories - 1], dim=1)


def grid_on_plane(center: Tensor, axes: Tensor, down: Tensor, along: Tensor) -> Tensor:
    """Grid points on a plane, (rows * cols, features), row by row: center + down_r a + along_c b.

    axes (2, features) are the two main axes of the data, longest first, each as long as one
    standard deviation; the first one lies along the longer side of the grid. `down` (rows) and
    `along` (cols) are the offsets of the grid's rows and columns, in standard deviations, from
    -REACH to REACH.

    The map's initial codebook and the baseline `untrained_pca` both use this, and only this much
    of the two can be shared without moving recorded numbers: the codebook divides variances by n
    and spaces its offsets with torch.linspace, the baseline (scikit-learn's PCA, numpy.linspace)
    divides by n - 1. The two linspaces differ in the last bit for 289 of the 299 sizes from 2 to
    300.
    """
    if len(down) >= len(along):
        down_axis, along_axis = axes[0], axes[1]
    else:
        down_axis, along_axis = axes[1], axes[0]
    points = center + down[:, None, None] * down_axis + along[None, :, None] * along_axis
    return points.view(len(down) * len(along), -1)


def mixture_quantiles(locations: Tensor, scales: Tensor, levels: Tensor) -> Tensor:
    """Quantiles of mixtures of normal distributions, (rows, levels), in float64.

    A row's mixture has k parts that count alike: locations and scales, (rows, k). Bisection between
    the ends of what eight deviations around every part cover; the result is exact to 2^-40 of that
    range.
    """
    locations = locations.double()
    scales = scales.double()
    shape = (len(locations), len(levels))
    low = (locations - 8 * scales).amin(1, keepdim=True).expand(shape)
    high = (locations + 8 * scales).amax(1, keepdim=True).expand(shape)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_below = mixture_cdf(locations, scales, middle) < levels
        low = torch.where(is_below, middle, low)
        high = torch.where(is_below, high, middle)
    return (low + high) / 2


def mixture_cdf(locations: Tensor, scales: Tensor, values: Tensor) -> Tensor:
    """P(y <= value) of mixtures of normal distributions at values, (rows, n), each of its row."""
    z = (values[:, :, None] - locations[:, None]) / scales[:, None]
    return torch.special.ndtr(z).mean(2)
