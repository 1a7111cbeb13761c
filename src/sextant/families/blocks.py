"""Building blocks of more than one family: parameter groups, Gibbs sampling, a grid on a plane.

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
