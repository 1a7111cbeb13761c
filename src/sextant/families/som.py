"""Self-organizing map: a grid of prototypes, drawn over the rows like a net over a surface."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from ..kinds.tabular.encoder import Batch

Size = Annotated[int, Field(ge=1)]
Width = Annotated[float, Field(gt=0)]

NOTHING = 1e-30  # a pull this weak is none: below it float32 has no digits left to divide
MEMORY = 0.05  # the share of a unit's spread that one row renews, online
REACH = 1.5  # deviations along each main axis that the first plane covers; chosen as in baselines/mapping.py
FLOOR = 0.01  # the least spread of a feature, as a share of its range in training

# How strongly a unit at grid distance d from the best one is pulled, at width sigma: functions of d / sigma.
NEIGHBORHOODS: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": lambda u: (-(u**2) / 2).exp(),
    "bubble": lambda u: (u <= 1).to(u.dtype),
    "mexican_hat": lambda u: (1 - u**2) * (-(u**2) / 2).exp(),
    "triangle": lambda u: (1 - u).clamp_min(0),
}


class _Pull(torch.autograd.Function):
    """0.5 sum_j sum_i h_ij |x_i - W_j|^2 / n_j from sums over rows; its gradient is Kohonen's rule.

    With s_j = sum_i h_ij x_i and w_j = sum_i h_ij the gradient by W_j is (w_j W_j - s_j) / n_j: h, the neighborhood
    of the best units, is held constant, although which unit is best depends on W. What pushes away (the mexican hat)
    pushes no further than the ends of the rows' range, 0 and 1: without that end it would go on for ever.
    """

    @staticmethod
    def forward(
        ctx: Any, codebook: Tensor, weights: Tensor, sums: Tensor, squares: Tensor, norm: Tensor
    ) -> Tensor:
        slope = (weights * codebook - sums) / norm
        outward = ((codebook <= 0) & (slope > 0)) | ((codebook >= 1) & (slope < 0))
        ctx.save_for_backward(torch.where(outward, 0, slope))
        each = squares.sum(1, keepdim=True) - 2 * (sums * codebook).sum(1, keepdim=True)
        each = each + weights * (codebook**2).sum(1, keepdim=True)
        return 0.5 * (each / norm).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] * ctx.saved_tensors[0], None, None, None, None


class SOM(nn.Module):
    """Kohonen's map: `rows` x `cols` units on a grid, each with a prototype W_j; the one nearest to x is its best unit.

    loss = 0.5 sum_j sum_i h_ij |x_i - W_j|^2 / n_j, where h_ij is the neighborhood of row i's best unit at unit j and
    sigma shrinks from `sigma` to `sigma_end` by equal factors as training goes on.

    batch: n_j = sum_i h_ij, so that one step of plain gradient descent with lr 1 on all rows is Kohonen's batch rule,
    W_j <- the mean of the rows weighted by h; a unit that nothing pulls stays. online: n_j = rows of the batch, the
    classic W_j <- W_j + lr h_j (x - W_j) at batch size 1; the mexican hat, which pushes what is further away, knows
    this way alone. Its sigma has to stay wide, for it pushes from sigma on: where that is the unit next door, the map
    falls apart. From the grid's width to half of it with lr 0.02 it organises (toroidal: a third to a fifth of the
    width); it stays further from the rows than the others, which end at half a unit.

    Numbers are scaled by their range in training to 0..1; a category is one-hot over sqrt(2), so that two levels are as
    far apart as the ends of a number. On a rectangular grid the eight units around one are next to it, on a
    hexagonal one the six, on a toroidal one also across the seam.

    T. Kohonen, "Essentials of the self-organizing map", Neural Networks 37, 2013.
    """

    OUTPUTS = ("unit", "second_unit", "adjacent", "prototype", "distance", "surprise")
    progress = 0.0
    low: Tensor
    span: Tensor
    spread: Tensor
    between: Tensor

    def __init__(
        self,
        numeric: int,
        cardinalities: Sequence[int],
        *,
        rows: Size,
        cols: Size,
        grid: Literal["rectangular", "hexagonal"],
        toroidal: bool,
        neighborhood: Literal["gaussian", "bubble", "mexican_hat", "triangle"],
        sigma: Width,
        sigma_end: Width,
        init: Literal["pca", "sample"],
        update: Literal["batch", "online"],
    ):
        super().__init__()
        net = dict(
            rows=rows,
            cols=cols,
            grid=grid,
            toroidal=toroidal,
            neighborhood=neighborhood,
            update=update,
        )
        self.check({**net, "sigma": sigma, "sigma_end": sigma_end})
        self.rows, self.cols, self.grid, self.neighborhood = (
            rows,
            cols,
            grid,
            NEIGHBORHOODS[neighborhood],
        )
        self.sigma, self.sigma_end, self.init, self.update = sigma, sigma_end, init, update
        self.cardinalities = list(cardinalities)
        features = numeric + sum(cardinalities)
        self.codebook = nn.Parameter(torch.rand(rows * cols, features))
        self.register_buffer(
            "low", torch.full((numeric,), -2.0)
        )  # of standardised numbers, until `initialise`
        self.register_buffer("span", torch.full((numeric,), 4.0))
        self.register_buffer(
            "spread", torch.ones(rows * cols, features)
        )  # mean square around each prototype
        self.register_buffer("between", distances(rows, cols, grid, toroidal), persistent=False)
        self.reach = (
            1.01 if grid == "hexagonal" else 1.42
        )  # up to which grid distance units are next to each other

    @staticmethod
    def check(
        net: Mapping[str, Any],
        optimizer: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise UsageError for arguments that are each right and together, or with the training told, are not."""
        if net["neighborhood"] == "mexican_hat" and net["update"] == "batch":
            raise UsageError(
                "neighborhood `mexican_hat` trains online only: its weights sum to nothing or less for many units, and"
                " the batch rule divides by that sum; set `update: online`, or another `neighborhood`"
            )
        if net["update"] == "online" and optimizer and schedule:
            rows, lr = schedule["batch_size"], optimizer["lr"]
            if rows > 1 or lr >= 1:
                raise UsageError(
                    f"`update: online` takes a step for each row, with `schedule.batch_size` {rows} and `optimizer.lr`"
                    f" {lr:g}; set batch_size to 1 and lr to 0.1 or less, or `update: batch`"
                )
        if net["rows"] * net["cols"] < 2:
            raise UsageError(
                "`rows` times `cols` is 1; expected two units or more: a topology needs two"
            )
        if net["toroidal"] and net["grid"] == "hexagonal" and net["rows"] % 2:
            raise UsageError(
                f"a toroidal hexagonal grid has {net['rows']} `rows`; expected an even number of them"
            )
        if net["sigma_end"] > net["sigma"]:
            raise UsageError(
                f"`sigma_end` {net['sigma_end']} is above `sigma` {net['sigma']}; turn them round"
            )

    @torch.no_grad()
    def initialise(self, train: Batch) -> None:
        """The range of each number, and a first codebook: a plane through the rows (PCA), or rows drawn at random."""
        if train.numeric.shape[1]:
            low, high = train.numeric.aminmax(dim=0)
            self.low.copy_(low)
            self.span.copy_(torch.where(high > low, high - low, torch.ones_like(low)))
        x = self.features(train)
        self.spread.copy_((x - x.mean(0)).square().mean(0).expand_as(self.spread))
        if self.init == "pca":
            self.codebook.copy_(plane(x.double(), self.rows, self.cols))
        else:
            repeats = math.ceil(len(self.codebook) / len(x))
            drawn = torch.cat([torch.randperm(len(x)) for _ in range(repeats)])[
                : len(self.codebook)
            ]
            self.codebook.copy_(x[drawn])

    def features(self, batch: Batch) -> Tensor:
        """(rows, features): numbers at 0..1 of their range in training, then the levels of each category."""
        hot = [
            F.one_hot(batch.categories[:, i], n + 1)[:, 1:]
            * 0.5**0.5  # code 0, an unseen level, is none of them
            for i, n in enumerate(self.cardinalities)
        ]
        return torch.cat([(batch.numeric - self.low) / self.span, *hot], 1).to(self.codebook.dtype)

    def neighbors(self) -> Tensor:
        """h between any two units, (units, units), at the present sigma."""
        sigma = self.sigma * (self.sigma_end / self.sigma) ** self.progress
        return self.neighborhood(self.between.to(self.codebook.dtype) / sigma)

    def loss(self, batch: Batch) -> Tensor:
        """The loss above. In training it also renews `spread`, each unit's mean square distance to the rows it learns.

        Sums over rows go by best unit first, so that the neighborhood costs one product of (units, units).
        """
        x, codebook = self.features(batch), self.codebook.detach()
        best = ((codebook**2).sum(1) - 2 * x @ codebook.T).argmin(1)
        moments = torch.cat([torch.ones_like(x[:, :1]), x, x**2], 1)
        by_unit = moments.new_zeros(len(codebook), moments.shape[1]).index_add_(0, best, moments)
        weights, sums, squares = (self.neighbors() @ by_unit).split([1, x.shape[1], x.shape[1]], 1)
        pulled = weights > NOTHING
        if self.update == "batch":
            weights, sums, squares = (torch.where(pulled, t, 0) for t in (weights, sums, squares))
            norm = torch.where(pulled, weights, 1)
            rate = pulled.to(x.dtype)
        else:
            norm = torch.full_like(weights, len(x))
            rate = (MEMORY * weights / len(x)).clamp(0, 1)
        if self.training:
            around = (squares - 2 * codebook * sums + codebook**2 * weights) / torch.where(
                pulled, weights, 1
            )
            self.spread.lerp_(around.clamp_min(0), rate)
        loss: Tensor = _Pull.apply(self.codebook, weights, sums, squares, norm)
        return loss

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Of each row, the best unit and the second best, (rows, 2) as row and column on the grid; whether they are
        `adjacent`; the best one's `prototype`, (rows, features), and the `distance` to it; and `surprise`.

        surprise = 0.5 mean_f ((x_f - W_f)^2 / v_f + log(v_f / FLOOR^2)), v = spread + FLOOR^2: how improbable the row
        is for a normal distribution around the prototype that is as wide as the rows are there; 0 at the prototype of
        rows that are all alike. A distance alone does not know that 0.1 is much in one place and nothing in another.
        """
        x = self.features(batch)
        distance = torch.cdist(x, self.codebook, compute_mode="donot_use_mm_for_euclid_dist")
        best = distance.argmin(1, keepdim=True)
        second = distance.scatter(1, best, math.inf).argmin(1, keepdim=True)
        prototype = self.codebook[best[:, 0]]
        spread = self.spreads(best[:, 0])
        surprise = 0.5 * ((x - prototype) ** 2 / spread + (spread / FLOOR**2).log()).mean(1)
        return {
            "unit": torch.cat([best // self.cols, best % self.cols], 1),
            "second_unit": torch.cat([second // self.cols, second % self.cols], 1),
            "adjacent": self.between[best[:, 0], second[:, 0]] <= self.reach,
            "prototype": prototype,
            "distance": distance.gather(1, best)[:, 0],
            "surprise": surprise,
        }

    def spreads(self, units: Tensor) -> Tensor:
        """v above, of each of `units`, (units, features): the mean square of the rows around its prototype."""
        return self.spread[units] + FLOOR**2

    def places(self) -> Tensor:
        """Where the units lie when drawn, (units, 2) as y and x."""
        return places(self.rows, self.cols, self.grid)

    @torch.no_grad()
    def u_matrix(self) -> Tensor:
        """The mean distance of each unit's prototype to those next to it, (rows, cols): hills part the groups."""
        apart = torch.cdist(
            self.codebook, self.codebook, compute_mode="donot_use_mm_for_euclid_dist"
        )
        near = ((self.between > 0) & (self.between <= self.reach)).to(apart.dtype)
        return ((apart * near).sum(1) / near.sum(1)).view(self.rows, self.cols)


def places(rows: int, cols: int, grid: str) -> Tensor:
    """Where the units lie, (units, 2) as y and x: 1 apart in a row, and on a hexagonal grid odd rows shifted."""
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    y, x = row.flatten().double(), col.flatten().double()
    return torch.stack([y * 0.75**0.5, x + 0.5 * (y % 2)] if grid == "hexagonal" else [y, x], 1)


def distances(rows: int, cols: int, grid: str, toroidal: bool) -> Tensor:
    """Euclidean distance between any two units on the grid, (units, units); toroidal: the shortest way round."""
    at = places(rows, cols, grid)
    apart = at[:, None] - at
    if toroidal:
        around = torch.tensor(
            [rows * 0.75**0.5 if grid == "hexagonal" else rows, cols], dtype=at.dtype
        )
        apart = apart - around * (apart / around).round()
    return apart.norm(dim=2).float()


def plane(x: Tensor, rows: int, cols: int) -> Tensor:
    """A grid of (rows * cols) points on the plane of the two main axes of x, up to REACH deviations each way.

    x is (n, features). The first axis runs along the longer side of the grid.
    """
    center = x.mean(0)
    _, deviations, axes = torch.linalg.svd((x - center) / len(x) ** 0.5, full_matrices=False)
    axes = (
        axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    )  # an axis has no direction of its own
    steps = F.pad(
        deviations[:2, None] * axes[:2], (0, 0, 0, 2 - min(2, len(axes)))
    )  # where there is one axis alone
    down, along = (
        torch.linspace(-1, 1, n, dtype=x.dtype) * REACH if n > 1 else x.new_zeros(1)
        for n in (rows, cols)
    )
    first, second = (steps[0], steps[1]) if rows >= cols else (steps[1], steps[0])
    points = center + down[:, None, None] * first + along[None, :, None] * second
    return points.view(rows * cols, -1)
