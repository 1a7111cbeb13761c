"""Self-organizing map: a grid of prototypes, fitted to rows so that adjacent units are similar."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn import functional as F

from ..errors import UsageError
from ..kinds.tabular.encoder import Batch
from . import blocks

Size = Annotated[int, Field(ge=1)]
Width = Annotated[float, Field(gt=0)]

MIN_WEIGHT = 1e-30  # a weaker pull counts as none: float32 cannot divide by it accurately
SPREAD_RATE = 0.05  # online: the share of a unit's spread that one row renews
# The smallest standard deviation of a feature around a prototype, as a share of its range.
MIN_SPREAD = 0.01

# The pull h on a unit at grid distance d from the best matching unit, at width sigma, as a
# function of u = d / sigma.
NEIGHBORHOODS: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": lambda u: (-(u**2) / 2).exp(),
    "bubble": lambda u: (u <= 1).to(u.dtype),
    "mexican_hat": lambda u: (1 - u**2) * (-(u**2) / 2).exp(),
    "triangle": lambda u: (1 - u).clamp_min(0),
}


class _Pull(torch.autograd.Function):
    """0.5 sum_j sum_i h_ij |x_i - W_j|^2 / n_j from sums over rows; its gradient is Kohonen's rule.

    With s_j = sum_i h_ij x_i and w_j = sum_i h_ij, the gradient by W_j is (w_j W_j - s_j) / n_j. h
    is held constant, although the best matching units depend on W. A negative h (mexican hat)
    pushes prototypes away, but not beyond 0 and 1, the range of the rows; without that limit they
    would diverge.
    """

    @staticmethod
    def forward(
        ctx: BackwardCFunction,
        codebook: Tensor,
        weights: Tensor,
        sums: Tensor,
        squares: Tensor,
        norm: Tensor,
    ) -> Tensor:
        slope = (weights * codebook - sums) / norm
        outward = ((codebook <= 0) & (slope > 0)) | ((codebook >= 1) & (slope < 0))
        ctx.save_for_backward(torch.where(outward, 0, slope))
        energy = squares.sum(1, keepdim=True) - 2 * (sums * codebook).sum(1, keepdim=True)
        energy = energy + weights * (codebook**2).sum(1, keepdim=True)
        return 0.5 * (energy / norm).sum()

    @staticmethod
    def backward(ctx: BackwardCFunction, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None, None, None, None


class SOM(nn.Module):
    """Kohonen's map: `rows` x `cols` units on a grid, each with a prototype W_j in feature space.

    The best matching unit (bmu) of a row x is the one whose prototype is nearest to x. The loss is
    0.5 sum_j sum_i h_ij |x_i - W_j|^2 / n_j, where h_ij is the neighborhood of row i's bmu at unit
    j; its width shrinks from `sigma` to `sigma_end` by equal factors in the course of training.

    update `batch`: n_j = sum_i h_ij, so that one step of plain gradient descent with lr 1 on all
    rows is Kohonen's batch rule, W_j <- the mean of the rows weighted by h. A unit that no row
    pulls stays.

    update `online`: n_j = the rows of the batch; at batch size 1 that is the classic rule, W_j <-
    W_j + lr h_j (x - W_j). The mexican hat, which pushes more distant units away, trains only like
    this. Its width has to stay large, since it pushes units beyond sigma: if sigma shrinks until
    these are the adjacent units, the map loses its order. It organises with lr 0.02 and a sigma
    that shrinks from the grid's width to half of it (toroidal: from a third to a fifth of the
    width). It ends further from the rows than the other neighborhoods, which shrink to half a unit.

    Numbers are scaled by their range in training to 0..1. A category is one-hot times sqrt(1/2),
    so that two levels are as far apart as the ends of a number. On a rectangular grid a unit has
    eight adjacent units, on a hexagonal grid six; on a toroidal grid units are adjacent across the
    edges too.

    T. Kohonen, "Essentials of the self-organizing map", Neural Networks 37, 2013.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = (
        "unit",
        "second_unit",
        "adjacent",
        "prototype",
        "distance",
        "surprise",
    )
    progress = 0.0
    rows: int
    cols: int
    grid: str
    codebook: Tensor  # (units, features), the parameter; unit = row * cols + col
    low: Tensor  # (numeric), the minimum of each number in training
    span: Tensor  # (numeric), its range, maximum - minimum
    spread: Tensor  # (units, features), the mean square of the rows around each prototype
    grid_distances: Tensor  # (units, units)

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
        net = {
            "rows": rows,
            "cols": cols,
            "grid": grid,
            "toroidal": toroidal,
            "neighborhood": neighborhood,
            "sigma": sigma,
            "sigma_end": sigma_end,
            "update": update,
        }
        self.check(net)
        self.rows = rows
        self.cols = cols
        self.grid = grid
        self.neighborhood = NEIGHBORHOODS[neighborhood]
        self.sigma = sigma
        self.sigma_end = sigma_end
        self.init = init
        self.update = update
        self.cardinalities = list(cardinalities)
        features = numeric + sum(cardinalities)
        self.codebook = nn.Parameter(torch.rand(rows * cols, features))
        # Two deviations of standardised numbers to each side, until `initialise` sets the real
        # range.
        self.register_buffer("low", torch.full((numeric,), -2.0))
        self.register_buffer("span", torch.full((numeric,), 4.0))
        self.register_buffer("spread", torch.ones(rows * cols, features))
        # Follows from the arguments, so it is not saved.
        distances = unit_distances(rows, cols, grid, toroidal)
        self.register_buffer("grid_distances", distances, persistent=False)
        # The largest grid distance of adjacent units: 1 on a hexagonal grid, sqrt(2) along a
        # diagonal.
        self.adjacent_within = 1.01 if grid == "hexagonal" else 1.42

    @staticmethod
    def check(
        net: Mapping[str, object],
        optimizer: Mapping[str, object] | None = None,
        schedule: Mapping[str, object] | None = None,
    ) -> None:
        """Raise UsageError for arguments that are each valid but do not go together.

        `optimizer` and `schedule` are those blocks of the model's conf, if there is one.
        """
        if net["neighborhood"] == "mexican_hat" and net["update"] == "batch":
            raise UsageError(
                "neighborhood `mexican_hat` trains online only: its weights sum to 0 or less for"
                " many units, and the batch rule divides by that sum; set `update: online`, or"
                " another `neighborhood`"
            )
        if net["update"] == "online" and optimizer and schedule:
            batch_size = cast("int", schedule["batch_size"])
            lr = cast("float", optimizer["lr"])
            if batch_size > 1 or lr >= 1:
                raise UsageError(
                    "`update: online` takes a step for each row, but `schedule.batch_size` is"
                    f" {batch_size} and `optimizer.lr` is {lr:g}; set batch_size to 1 and lr to 0.1"
                    " or less, or `update: batch`"
                )
        rows, cols = cast("int", net["rows"]), cast("int", net["cols"])
        if rows * cols < 2:
            raise UsageError(
                "`rows` times `cols` is 1; expected two units or more: a topology needs two"
            )
        if net["toroidal"] and net["grid"] == "hexagonal" and rows % 2:
            raise UsageError(
                f"a toroidal hexagonal grid has {rows} `rows`; expected an even number of rows"
            )
        sigma, sigma_end = cast("float", net["sigma"]), cast("float", net["sigma_end"])
        if sigma_end > sigma:
            raise UsageError(
                f"`sigma_end` {sigma_end} is above `sigma` {sigma}; swap the two: the width shrinks"
            )

    @torch.no_grad()
    def initialise(self, train: Batch) -> None:
        """Set the range of each number and the first codebook.

        `init` pca: a grid on the plane of the two main axes; sample: rows drawn at random.
        """
        if train.numeric.shape[1]:
            low, high = train.numeric.aminmax(dim=0)
            self.low.copy_(low)
            # A number that never changes gets the range 1: all rows are at 0 of it.
            self.span.copy_(torch.where(high > low, high - low, torch.ones_like(low)))
        x = self.features(train)
        self.spread.copy_((x - x.mean(0)).square().mean(0).expand_as(self.spread))
        if self.init == "pca":
            self.codebook.copy_(pca_grid(x.double(), self.rows, self.cols))
        else:
            # Each row once before any row twice.
            repeats = math.ceil(len(self.codebook) / len(x))
            order = torch.cat([torch.randperm(len(x)) for _ in range(repeats)])
            self.codebook.copy_(x[order[: len(self.codebook)]])

    def features(self, batch: Batch) -> Tensor:
        """Rows in the space of the prototypes, (rows, features).

        Numbers as 0..1 of their range in training, then the levels of each category.
        """
        parts = [(batch.numeric - self.low) / self.span]
        for column, levels in enumerate(self.cardinalities):
            # Code 0, a level that training did not contain, becomes all zeros.
            one_hot = F.one_hot(batch.categories[:, column], levels + 1)[:, 1:]
            parts.append(one_hot * 0.5**0.5)
        return torch.cat(parts, 1).to(self.codebook.dtype)

    def neighbors(self) -> Tensor:
        """h between any two units, (units, units), at the present sigma."""
        sigma = self.sigma * (self.sigma_end / self.sigma) ** self.progress
        return self.neighborhood(self.grid_distances.to(self.codebook.dtype) / sigma)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of the class's docstring. In training it also updates `spread`.

        Rows are summed by bmu first, so that applying the neighborhood is one product with a
        matrix of (units, units).
        """
        x, codebook = self.features(batch), self.codebook.detach()
        bmu = ((codebook**2).sum(1) - 2 * x @ codebook.T).argmin(1)
        moments = torch.cat([torch.ones_like(x[:, :1]), x, x**2], 1)
        by_unit = moments.new_zeros(len(codebook), moments.shape[1]).index_add_(0, bmu, moments)
        weights, sums, squares = (self.neighbors() @ by_unit).split([1, x.shape[1], x.shape[1]], 1)
        pulled = weights > MIN_WEIGHT
        if self.update == "batch":
            weights = torch.where(pulled, weights, 0)
            sums = torch.where(pulled, sums, 0)
            squares = torch.where(pulled, squares, 0)
            norm = torch.where(pulled, weights, 1)
            rate = pulled.to(x.dtype)
        else:
            norm = torch.full_like(weights, len(x))
            rate = (SPREAD_RATE * weights / len(x)).clamp(0, 1)
        if self.training:
            square_distance = squares - 2 * codebook * sums + codebook**2 * weights
            spread = square_distance / torch.where(pulled, weights, 1)
            self.spread.lerp_(spread.clamp_min(0), rate)
        loss: Tensor = _Pull.apply(self.codebook, weights, sums, squares, norm)
        return loss

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """The bmu of each row and how well the row fits there; first axis: rows.

        `unit` and `second_unit` (rows, 2): the best and second best unit as row and column of the
        grid; `adjacent` (rows) bool: whether the two are adjacent; `prototype` (rows, features):
        that of the bmu; `distance` (rows): to the prototype; `surprise` (rows).

        surprise = 0.5 mean_f ((x_f - W_f)^2 / v_f + log(v_f / MIN_SPREAD^2)), v = spread +
        MIN_SPREAD^2: the negative log density of the row under a normal distribution around the
        prototype, as wide as the training rows are there. It is 0 at a prototype whose rows are
        all equal. A distance alone does not show that 0.1 is much in one place of the map and
        nothing in another.
        """
        x = self.features(batch)
        distance = torch.cdist(x, self.codebook, compute_mode="donot_use_mm_for_euclid_dist")
        bmu = distance.argmin(1, keepdim=True)
        second = distance.scatter(1, bmu, math.inf).argmin(1, keepdim=True)
        prototype = self.codebook[bmu[:, 0]]
        spread = self.spreads(bmu[:, 0])
        by_feature = (x - prototype) ** 2 / spread + (spread / MIN_SPREAD**2).log()
        return {
            "unit": torch.cat([bmu // self.cols, bmu % self.cols], 1),
            "second_unit": torch.cat([second // self.cols, second % self.cols], 1),
            "adjacent": self.grid_distances[bmu[:, 0], second[:, 0]] <= self.adjacent_within,
            "prototype": prototype,
            "distance": distance.gather(1, bmu)[:, 0],
            "surprise": 0.5 * by_feature.mean(1),
        }

    def spreads(self, units: Tensor) -> Tensor:
        """v of some units, (units, features): the mean square of the rows around the prototype."""
        return self.spread[units] + MIN_SPREAD**2

    def places(self) -> Tensor:
        """Where the units lie in a drawing of the map, (units, 2) as y and x."""
        return unit_places(self.rows, self.cols, self.grid)

    @torch.no_grad()
    def u_matrix(self) -> Tensor:
        """Mean distance of each prototype to those of adjacent units, (rows, cols)."""
        distance = torch.cdist(
            self.codebook, self.codebook, compute_mode="donot_use_mm_for_euclid_dist"
        )
        adjacent = (self.grid_distances > 0) & (self.grid_distances <= self.adjacent_within)
        weight = adjacent.to(distance.dtype)
        return ((distance * weight).sum(1) / weight.sum(1)).view(self.rows, self.cols)


def unit_places(rows: int, cols: int, grid: str) -> Tensor:
    """Where the units lie, (units, 2) as y and x, 1 apart in a row.

    On a hexagonal grid odd rows are shifted by 1/2.
    """
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    y, x = row.flatten().double(), col.flatten().double()
    if grid == "hexagonal":
        return torch.stack([y * 0.75**0.5, x + 0.5 * (y % 2)], 1)
    return torch.stack([y, x], 1)


def unit_distances(rows: int, cols: int, grid: str, toroidal: bool) -> Tensor:
    """Euclidean distance between any two units, (units, units); toroidal: across edges too."""
    places = unit_places(rows, cols, grid)
    offset = places[:, None] - places
    if toroidal:
        height = rows * 0.75**0.5 if grid == "hexagonal" else rows
        period = torch.tensor([height, cols], dtype=places.dtype)
        offset = offset - period * (offset / period).round()
    return offset.norm(dim=2).float()


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
