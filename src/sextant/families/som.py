"""Self-organizing map: a grid of prototypes, fitted to rows so that adjacent units are similar."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import UsageError
from ..kinds.tabular.encoder import Batch
from . import maps
from .maps import MIN_SPREAD, axis_squares, check_size, gaussian

Size = Annotated[int, Field(ge=1)]
Width = Annotated[float, Field(gt=0)]

SPREAD_RATE = 0.05  # online: the share of a unit's spread that one row renews
TABLE_UNITS = 128  # the largest map whose h is computed for all pairs of units in each step


# The pull h on a unit at grid distance d from the best matching unit, at width sigma, as a
# function of q = (d / sigma)^2.


def bubble(q: Tensor) -> Tensor:
    return (q <= 1).to(q.dtype)


def mexican_hat(q: Tensor) -> Tensor:
    return (1 - q) * gaussian(q)


def triangle(q: Tensor) -> Tensor:
    return (1 - q.sqrt()).clamp_min(0)


Pull: TypeAlias = Callable[[Tensor], Tensor]

NEIGHBORHOODS: dict[str, Pull] = {
    "gaussian": gaussian,
    "bubble": bubble,
    "mexican_hat": mexican_hat,
    "triangle": triangle,
}


def minus_gaussian_bend(q: Tensor) -> Tensor:
    """-q exp(-q / 2), what the second axis adds to the mexican hat of the first."""
    return -q * gaussian(q)


# On a rectangular grid q = a + b, a along a column and b along a row, and h(a + b) is a sum of
# products f(a) g(b) for two of the neighborhoods: e^-(a + b)/2 = e^-a/2 e^-b/2 and
# (1 - a - b) e^-(a + b)/2 = (1 - a) e^-a/2 e^-b/2 - e^-a/2 b e^-b/2.
PRODUCTS: dict[str, list[tuple[Pull, Pull]]] = {
    "gaussian": [(gaussian, gaussian)],
    "mexican_hat": [(mexican_hat, gaussian), (gaussian, minus_gaussian_bend)],
}


class Moments(NamedTuple):
    """Rows as the loss reads them: (x, 1, x^2), (rows, 2 features + 1).

    The 1 counts the rows in sums over them, and adds a constant in products with prototypes.
    """

    values: Tensor


class SOM(nn.Module):
    """Kohonen's map: `rows` x `cols` units on a grid, each with a prototype W_j in feature space.

    The best matching unit (bmu) of a row x is the one whose prototype is nearest to x. The loss is
    0.5 sum_j sum_i h_ij |x_i - W_j|^2 / n_j, where h_ij is the neighborhood of row i's bmu at unit
    j; its width shrinks from `sigma` to `sigma_end` by equal factors in the course of training.

    update `batch`: n_j = sum_i h_ij, so that one step of plain gradient descent with lr 1 on all
    rows is Kohonen's batch rule, W_j <- the mean of the rows weighted by h. A unit that no row
    pulls (n_j is below MIN_WEIGHT, and taken as MIN_WEIGHT) stays.

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
    # Squared grid distances along the two axes. The places along a row are the columns of a row
    # that is not shifted, followed on a hexagonal grid by those of a shifted row.
    row_squares: Tensor  # (rows, rows)
    place_squares: Tensor  # (places, places), places = cols or 2 cols
    shift_of: Tensor  # (rows), 1 if a row is shifted, else 0
    squares: Tensor  # (units, units), between any two units, or empty on a large map
    before: Tensor  # (categories), the feature before the first level of each category

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
        self.products = PRODUCTS.get(neighborhood, []) if grid == "rectangular" else []
        # Only a negative h pushes prototypes away, which needs a limit.
        self.pushes = neighborhood == "mexican_hat"
        self.sigma = sigma
        self.sigma_end = sigma_end
        self.init = init
        self.update = update
        features = numeric + sum(cardinalities)
        self.codebook = nn.Parameter(torch.rand(rows * cols, features))
        # Two deviations of standardised numbers to each side, until `initialise` sets the real
        # range.
        self.register_buffer("low", torch.full((numeric,), -2.0))
        self.register_buffer("span", torch.full((numeric,), 4.0))
        self.register_buffer("spread", torch.ones(rows * cols, features))
        # The others follow from the arguments, so they are not saved.
        shift_of = torch.zeros(rows, dtype=torch.long)
        row_squares, place_squares = axis_squares(rows, toroidal), axis_squares(cols, toroidal)
        self.adjacent_within = 2.0  # the squared distance along a diagonal
        if grid == "hexagonal":
            shift_of = torch.arange(rows) % 2
            row_squares = 0.75 * row_squares
            half_columns = torch.cat([torch.arange(0, 2 * cols, 2), torch.arange(1, 2 * cols, 2)])
            place_squares = 0.25 * axis_squares(2 * cols, toroidal)[half_columns][:, half_columns]
            self.adjacent_within = 1.0
        before = numeric - 1 + torch.tensor([0, *cardinalities], dtype=torch.long).cumsum(0)[:-1]
        self.register_buffer("row_squares", row_squares, persistent=False)
        self.register_buffer("place_squares", place_squares, persistent=False)
        self.register_buffer("shift_of", shift_of, persistent=False)
        self.register_buffer("before", before, persistent=False)
        squares = torch.empty(0)
        if rows * cols <= TABLE_UNITS:
            squares = self.squares_from(torch.arange(rows * cols))
        self.register_buffer("squares", squares, persistent=False)

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
        check_size(net)
        rows = cast("int", net["rows"])
        if net["toroidal"] and net["grid"] == "hexagonal" and rows % 2:
            raise UsageError(
                f"a toroidal hexagonal grid has {rows} `rows`; expected an even number of rows"
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
            self.codebook.copy_(maps.pca_grid(x.double(), self.rows, self.cols))
        else:
            # Each row once before any row twice.
            repeats = math.ceil(len(self.codebook) / len(x))
            order = torch.cat([torch.randperm(len(x)) for _ in range(repeats)])
            self.codebook.copy_(x[order[: len(self.codebook)]])

    def features(self, batch: Batch) -> Tensor:
        """Rows in the space of the prototypes, (rows, features).

        Numbers as 0..1 of their range in training, then the levels of each category.
        """
        return self._x(self.prepare(batch).values)

    def prepare(self, batch: Batch) -> Moments:
        """Rows as `loss` may have them too; training computes them once, not in each epoch."""
        features = self.codebook.shape[1]
        values = self.low.new_ones(len(batch.numeric), 2 * features + 1)
        numbers = values[:, : len(self.low)]
        torch.sub(batch.numeric, self.low, out=numbers).div_(self.span)
        x = values[:, :features]
        if len(self.before):
            # Code 0, a level that training did not contain, goes to the first column of x^2.
            levels = torch.where(batch.categories > 0, batch.categories + self.before, features + 1)
            x[:, len(self.low) :] = 0
            values.scatter_(1, levels, 0.5**0.5)
        torch.mul(x, x, out=values[:, features + 1 :])
        return Moments(values)

    def _x(self, moments: Tensor) -> Tensor:
        """The features of rows, (rows, features), from their moments."""
        return moments[:, : self.codebook.shape[1]]

    def _scored(self, moments: Tensor, count: int) -> list[Tensor]:
        """The nearest unit of each row, (rows), and the next nearest ones: `nearest_units`."""
        codebook = self.codebook.detach()
        return maps.nearest_units(moments[:, : codebook.shape[1] + 1], codebook, count)

    # --- the grid ---

    def squares_from(self, units: Tensor) -> Tensor:
        """Squared grid distances between these units, (n), and every unit: (n, units)."""
        rows, places = self._row_and_place(units)
        along = self.place_squares[places].view(len(units), -1, self.cols)[:, self.shift_of]
        return (self.row_squares[rows][:, :, None] + along).view(len(units), -1)

    def adjacent(self, units: Tensor, others: Tensor) -> Tensor:
        """Whether each unit is adjacent to the other one at its index, (n) bool."""
        rows, places = self._row_and_place(units)
        other_rows, other_places = self._row_and_place(others)
        squares = self.row_squares[rows, other_rows] + self.place_squares[places, other_places]
        return (units != others) & (squares <= self.adjacent_within)

    def _row_and_place(self, units: Tensor) -> tuple[Tensor, Tensor]:
        """The row of the grid in which each unit lies, (n), and its place along that row, (n)."""
        rows = units // self.cols
        return rows, self.shift_of[rows] * self.cols + units % self.cols

    def neighbors(self, units: Tensor) -> Tensor:
        """h between these units, (n), and every unit, (n, units), at the present sigma."""
        return self.neighborhood(self.squares_from(units) / self.width() ** 2)

    def width(self) -> float:
        """The present sigma, in grid units."""
        return float(self.sigma * (self.sigma_end / self.sigma) ** self.progress)

    def pulls(self, bmu: Tensor, values: Tensor) -> Tensor:
        """sum_i h_ij v_i, (units, k), of the values (rows, k) of rows and their bmus (rows).

        Values are summed by bmu first. On a large rectangular grid sums along the rows and the
        columns of the grid suffice for the neighborhoods in PRODUCTS. The others, and batches of
        few rows, need h between the occupied units and every unit.
        """
        by_unit = values.new_zeros(len(self.codebook), values.shape[1]).index_add_(0, bmu, values)
        # Products are added in place, because autocast would compute others in bfloat16.
        pulls = torch.zeros_like(by_unit)
        if len(self.squares):
            return pulls.addmm_(self.neighborhood(self.squares / self.width() ** 2), by_unit)
        # The products take as long as the rows of h of about a third as many units.
        if self.products and 3 * len(bmu) > self.rows + self.cols:
            variance = self.width() ** 2
            rows, cols = self.row_squares / variance, self.place_squares / variance
            products = [(f(rows), g(cols)) for f, g in self.products]
            return maps.add_by_axis(pulls, by_unit, products)
        for units in bmu.unique().split(max(1, maps.HELD_PULLS // len(self.codebook))):
            pulls.addmm_(self.neighbors(units).T, by_unit[units])
        return pulls

    # --- training ---

    def loss(self, batch: Batch | Moments) -> Tensor:
        """The loss of the class's docstring. In training it also updates `spread`."""
        loss, slope = self._loss_and_slope(batch)
        # Its value is 0, and `slope` its gradient by the codebook.
        zero = (self.codebook * slope).sum()
        return loss + (zero - zero.detach())

    def gradients(self, batch: Batch | Moments) -> Tensor:
        """The value of `loss`, without a graph; its gradient becomes that of the codebook."""
        loss, self.codebook.grad = self._loss_and_slope(batch)
        return loss

    def _loss_and_slope(self, batch: Batch | Moments) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient by the codebook, (units, features)."""
        moments = batch if isinstance(batch, Moments) else self.prepare(batch)
        (bmu,) = self._scored(moments.values, 1)
        return self._descent(moments.values, bmu)

    def _descent(self, moments: Tensor, bmu: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and its gradient, of rows as moments (x, 1, x^2) and their bmus.

        With means over the rows, m_j = sum_i h_ij x_i / n_j, p_j = sum_i h_ij / n_j, which is 1 in
        the batch rule, and q_j = sum_i h_ij x_i^2 / n_j, the gradient by W_j is p_j W_j - m_j,
        Kohonen's rule, and sum_i h_ij (x_i - W_j)^2 / n_j is q_j - 2 m_j W_j + p_j W_j^2 for each
        feature. h is held constant, although the bmus depend on W.
        """
        codebook = self.codebook.detach()
        features = codebook.shape[1]
        pulls = self.pulls(bmu, moments)
        if self.update == "batch":
            pulls /= pulls[:, features : features + 1].clamp_min(maps.MIN_WEIGHT)
            rate = 1.0
        else:
            pulls /= len(moments)
            rate = SPREAD_RATE
        slope, weight, squares = maps.descent(codebook, pulls)
        if self.training:
            renewed = weight.clamp_min(0) if self.pushes else weight
            self.spread.addcmul_(self.spread, renewed, value=-rate)
            self.spread.add_(squares.clamp_min(0), alpha=rate)
        if self.pushes:
            # Not beyond 0 and 1, the range of the rows: without that limit prototypes diverge.
            outward = ((codebook <= 0) & (slope > 0)) | ((codebook >= 1) & (slope < 0))
            slope = torch.where(outward, 0, slope)
        return 0.5 * squares.sum(), slope

    # --- predictions ---

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
        moments = self.prepare(batch).values
        return self._outputs(self._x(moments), self._scored(moments, maps.CANDIDATES))

    def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss` and `predict` of a batch, with one search for the bmus."""
        moments = self.prepare(batch).values
        candidates = self._scored(moments, maps.CANDIDATES)
        loss, _ = self._descent(moments, candidates[0])
        return loss, self._outputs(self._x(moments), candidates)

    def _outputs(self, x: Tensor, candidates: list[Tensor]) -> dict[str, Tensor]:
        """What `predict` returns for rows, (rows, features), with candidates for their bmu."""
        units, distances = maps.two_nearest(x, self.codebook, candidates)
        bmu, second = units.unbind(1)
        prototype = self.codebook[bmu]
        return {
            "unit": torch.stack([bmu // self.cols, bmu % self.cols], 1),
            "second_unit": torch.stack([second // self.cols, second % self.cols], 1),
            "adjacent": self.adjacent(bmu, second),
            "prototype": prototype,
            "distance": distances[:, 0],
            "surprise": maps.surprise(x, prototype, self.spreads(bmu)),
        }

    def spreads(self, units: Tensor) -> Tensor:
        """v of some units, (units, features): the mean square of the rows around the prototype."""
        return self.spread[units] + MIN_SPREAD**2

    def places(self) -> Tensor:
        """Where the units lie in a drawing of the map, (units, 2) as y and x."""
        return maps.unit_places(self.rows, self.cols, self.grid)

    @torch.no_grad()
    def u_matrix(self) -> Tensor:
        """Mean distance of each prototype to those of adjacent units, (rows, cols)."""
        means = []
        every_unit = torch.arange(len(self.codebook), device=self.codebook.device)
        for units in every_unit.split(self.cols):
            squares = self.squares_from(units)
            is_adjacent = (squares > 0) & (squares <= self.adjacent_within)
            unit, other = is_adjacent.nonzero(as_tuple=True)
            distance = (self.codebook[units[unit]] - self.codebook[other]).norm(dim=1)
            total = distance.new_zeros(self.cols).index_add_(0, unit, distance)
            means.append(total / unit.bincount(minlength=self.cols))
        return torch.stack(means)
