"""Building blocks of more than one family: Gibbs sampling, bins, a grid, ensembles of tables.

Imports torch alone. Every model stage depends on this file, because a DVC dependency cannot be
conditional: an edit retrains all models, so only settled code belongs here. A family imports
torch, the batch of its kind and these blocks, and no other family.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ParamGroup: TypeAlias = dict[str, list[nn.Parameter] | float]

MIN_BIN_WIDTH = 1e-6  # of a bin between equal edges, which makes it a step

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


# --- an ensemble in one net, on embeddings of numbers --------------------------------------------


class PiecewiseLinear(nn.Module):
    """Embedding of numbers: how far x is through each quantile bin, then a linear map and ReLU.

    e_t(x) = clamp((x - b_{t-1}) / (b_t - b_{t-1}), 0, 1), with edges b_0 ... b_bins for each
    number, and a linear map per number (Gorishniy et al., "On Embeddings for Numerical Features",
    NeurIPS 2022, eq. 1). Beyond the edges the paper extends the first and last bin by their slope.
    Here x itself is added with slope 1: where many rows share the extreme value that bin has
    almost no width, and the paper's slope would be huge.
    """

    edges: Tensor

    def __init__(self, numeric: int, bins: int, size: int):
        super().__init__()
        edges = torch.linspace(-2, 2, bins + 1).repeat(numeric, 1)
        self.register_buffer("edges", edges)  # (numeric, bins + 1)
        bound = (bins + 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(numeric, bins, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(numeric, size).uniform_(-bound, bound))

    def initialise(self, x: Tensor) -> None:
        """Set the edges to quantiles of x, (rows, numeric).

        A value that many rows share gives equal edges, and so a step at that value.
        """
        if x.numel():
            levels = torch.linspace(0, 1, self.edges.shape[1], dtype=torch.float64)
            self.edges.copy_(torch.quantile(x.double(), levels, dim=0).T)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, numeric) to (rows, numeric * size)."""
        embedded = torch.einsum("rnb,nbs->rns", self.encode(x), self.weight) + self.bias
        return F.relu(embedded).flatten(1)

    def encode(self, x: Tensor) -> Tensor:
        """e(x) for each number: (rows, numeric) to (rows, numeric, bins)."""
        x = x[:, :, None]
        widths = self.edges.diff().clamp_min(MIN_BIN_WIDTH)
        inside = ((x - self.edges[:, :-1]) / widths).clamp(0, 1)
        below = (x - self.edges[:, :1]).clamp(max=0)
        above = (x - self.edges[:, -1:]).clamp(min=0)
        first = inside[..., :1] + below
        last = inside[..., -1:] + above
        return torch.cat([first, inside[..., 1:-1], last], -1)


class SharedLinear(nn.Module):
    """A linear layer per body, shared by the members of that body.

    (bodies, members * rows, n_in) to (bodies, members * rows, n_out).
    """

    def __init__(self, bodies: int, n_in: int, n_out: int):
        super().__init__()
        bound = n_in**-0.5
        self.weight = nn.Parameter(torch.empty(bodies, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(bodies, 1, n_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.weight).add_(self.bias)


def random_signs(bodies: int, members: int, size: int) -> Tensor:
    """1 or -1 at random, (bodies, members, size): the adapters of an ensemble as they start."""
    return torch.randint(0, 2, (bodies, members, size)) * 2.0 - 1


def shared_body(bodies: int, sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """Hidden layers of the given sizes, the first of which is that of the input, for each body."""
    layers = []
    for n_in, n_out in pairwise(sizes):
        linear = SharedLinear(bodies, n_in, n_out)
        # In place, because no backward pass reads the sums; that dropout comes first changes
        # nothing, since what it keeps is multiplied by a positive number.
        activation = [Dropout(dropout, inplace=True), nn.ReLU(inplace=True)]
        layers.append(nn.Sequential(linear, *activation))
    return nn.Sequential(*layers)


def member_outputs(
    x: Tensor, adapter: Tensor, body: nn.Module, head: Tensor, base: Tensor
) -> Tensor:
    """Outputs of each member of an ensemble, (bodies * members, outputs, rows), for x (rows, n_in).

    Member j of body b answers head_bj(body_b(adapter_bj * x)) + base_bj; adapter (bodies, members,
    n_in), head (bodies, members, hidden, outputs), base (bodies, members, outputs).
    """
    adapted = x * adapter[:, :, None]  # (bodies, members, rows, n_in)
    of_members = head.flatten(0, 1)  # (bodies * members, hidden, outputs)
    h = body(adapted.flatten(1, 2)).view(len(of_members), len(x), of_members.shape[1])
    outputs = torch.baddbmm(base.flatten(0, 1)[:, None], h, of_members)
    # A softmax then runs over the second axis, so that it is computed for many rows at once.
    return outputs.transpose(1, 2)


def cross_entropy(log_probs: Tensor, target: Tensor) -> Tensor:
    """The mean over members and rows; log_probs (members, classes, rows), target (rows)."""
    return -log_probs.gather(1, target.expand(len(log_probs), 1, -1)).mean()


def log_of_mean(log_probs: Tensor) -> Tensor:
    """(members, classes, rows) to (rows, classes): the log of the members' mean probability."""
    return log_probs.logsumexp(0).T - math.log(len(log_probs))
