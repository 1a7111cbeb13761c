"""A random atlas: many self-organizing maps of a table, whose units predict a number."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import UsageError
from ..kinds.tabular.encoder import Batch, MeasuredBatch
from . import blocks
from .maps import (
    CANDIDATES,
    MIN_WEIGHT,
    add_by_axis,
    axis_squares,
    check_size,
    descent,
    gaussian,
    nearest_units,
    pca_grid,
    two_nearest,
)

Size = Annotated[int, Field(ge=1)]
Width = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]

# Numbers are scaled by the range between these quantiles of training, and on the maps clipped at
# half of it beyond each end: a single wrong value would otherwise set the scale of its column.
RANGE = (0.005, 0.995)
BEYOND = 0.5
# An axis of the rows whose variance is below this share of the largest one repeats others, such as
# a difference of two columns beside both: what is left of it is rounding.
MIN_VARIANCE = 1e-6
FARTHEST = 10.0  # deviations from the mean along an axis at which the local fit clips a row
JITTER = 1e-9  # added to the diagonal of normal equations, so that a unit of one row has a fit
MIN_SCALE = 1e-9  # the least standard deviation of a unit, relative to that of the target
MAX_TERMS = 300  # of a local fit: its normal equations have as many rows and columns in every unit
HELD_PRODUCTS = 2**22  # products of terms (rows x terms x terms) held at a time: 32 MB
LOW, HIGH = 0.05, 0.95


class Drawn(NamedTuple):
    """Rows as they were drawn for each map: (x, 1, x^2), (rows, maps, 2 features + 1)."""

    values: Tensor


class SOMAtlas(nn.Module):
    """Kohonen maps that differ by their rows and columns, and a fit of the target in each unit.

    Each of `maps` maps, of `rows` x `cols` units, reads a random share `columns` of the columns,
    and rows that are drawn with replacement. Where the data set's conf names columns of errors, a
    row is also drawn within its errors. The maps are trained by Kohonen's batch rule, as families/
    som.py describes it, without the target.

    Then each unit keeps the targets of its rows as a fit of degree 0 (their mean), 1 or 2 (a
    polynomial of all columns), with a standard deviation of what the fit leaves. A row counts in a
    unit by exp(-d^2 / (2 width^2)), d being the distance on the grid between the row's unit and
    this one; with width 0 a unit has its own rows alone. Slopes and variance are those of the unit
    with `shrinkage` further rows that follow the fit of the whole table: ridge regression towards
    the global slopes.

    A question is answered by the mixture over the maps, one normal distribution from the unit that
    is the row's nearest among those with rows:
    p(y | x) = 1/maps sum_m N(y; a_mu + b_mu phi(x), s_mu^2), u = u_m(x).

    M. Carrasco Kind and R. J. Brunner, "SOMz: photometric redshift PDFs with self-organizing maps
    and random atlas", MNRAS 438, 2014. The local fit: R. Beck et al., "Photometric redshifts for
    the SDSS Data Release 12", MNRAS 460, 2016.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = ("location", "lower", "upper", "locations", "scales")
    progress = 0.0
    codebook: Tensor  # (maps, units, features), the parameter; unit = row * cols + col
    reads: Tensor  # (maps, features), 1 where a map reads the feature, else 0
    low: Tensor  # (numeric), the lower end of the range of each number
    span: Tensor  # (numeric), its length
    center: Tensor  # (features), the mean of the training rows
    axes: Tensor  # (features, features), their main axes over the deviation, the rest 0
    counts: Tensor  # (maps, units), the drawn rows of each unit
    intercept: Tensor  # (maps, units)
    slopes: Tensor  # (maps, units, terms)
    scale: Tensor  # (maps, units), a standard deviation
    targets: Tensor  # (maps, units), the mean of the targets, for figures
    ends: Tensor  # (2,), the least and the largest target of training
    before: Tensor  # (categories), the feature before the first level of each category
    row_squares: Tensor  # (rows, rows), squared distances on the grid along a column
    col_squares: Tensor  # (cols, cols), the same along a row

    def __init__(
        self,
        numeric: int,
        cardinalities: Sequence[int],
        classes: int,
        *,
        maps: Size,
        rows: Size,
        cols: Size,
        columns: Share,
        sigma: Width,
        sigma_end: Width,
        width: NotNegative,
        degree: Literal[0, 1, 2],
        shrinkage: NotNegative,
    ):
        super().__init__()
        if classes:
            raise UsageError(
                "family som_atlas predicts a number, and the target is a class; choose another"
                " family, or, if it is an amount, write `target_type: number` in its conf"
            )
        features = numeric + sum(cardinalities)
        self.degree = degree
        terms = len(self._pairs(features)[0]) + features if degree == 2 else degree * features
        if terms > MAX_TERMS:
            raise UsageError(
                f"`degree: {degree}` has {terms} terms for {features} columns and levels; expected"
                f" {MAX_TERMS} at most; set `degree: {degree - 1}`"
            )
        self.rows = rows
        self.cols = cols
        self.columns = columns
        self.cardinalities = tuple(cardinalities)
        self.sigma = sigma
        self.sigma_end = sigma_end
        self.width = width
        self.shrinkage = shrinkage
        units = rows * cols
        self.codebook = nn.Parameter(torch.rand(maps, units, features))
        self.register_buffer("reads", torch.ones(maps, features))
        # Two deviations of standardised numbers to each side, until `initialise` sets the real
        # range.
        self.register_buffer("low", torch.full((numeric,), -2.0))
        self.register_buffer("span", torch.full((numeric,), 4.0))
        self.register_buffer("center", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("axes", torch.eye(features, dtype=torch.float64))
        self.register_buffer("counts", torch.ones(maps, units))
        self.register_buffer("intercept", torch.zeros(maps, units, dtype=torch.float64))
        self.register_buffer("slopes", torch.zeros(maps, units, terms, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(maps, units, dtype=torch.float64))
        self.register_buffer("targets", torch.zeros(maps, units, dtype=torch.float64))
        self.register_buffer("ends", torch.tensor([-torch.inf, torch.inf], dtype=torch.float64))
        # The others follow from the arguments, so they are not saved.
        before = numeric - 1 + torch.tensor([0, *cardinalities], dtype=torch.long).cumsum(0)[:-1]
        self.register_buffer("before", before, persistent=False)
        self.register_buffer("row_squares", axis_squares(rows, cyclic=False), persistent=False)
        self.register_buffer("col_squares", axis_squares(cols, cyclic=False), persistent=False)
        self.draw_seed = 0
        self.train_rows: tuple[Tensor, Tensor] | None = None  # features and targets
        self.fitted_at = -1  # the version of the codebook to which the units are fitted

    @staticmethod
    def check(
        net: Mapping[str, object],
        optimizer: Mapping[str, object] | None = None,
        schedule: Mapping[str, object] | None = None,
    ) -> None:
        """Raise UsageError for arguments that are each valid but do not go together."""
        check_size(net)

    # --- rows ---

    def features(self, batch: Batch | MeasuredBatch) -> Tensor:
        """Rows in the space of the prototypes, (rows, features).

        Numbers are scaled by their range in training; the maps read them `clipped`. A category is
        one-hot times sqrt(1/2), so that two levels are as far apart as the ends of a number.
        """
        levels = batch.numeric.new_zeros(len(batch.numeric), 1 + sum(self.cardinalities))
        if len(self.before):
            # Code 0, a level that training did not contain, goes to the first column, which is
            # dropped.
            offset = 1 - len(self.low)
            columns = torch.where(batch.categories > 0, batch.categories + self.before + offset, 0)
            levels.scatter_(1, columns, 0.5**0.5)
        return torch.cat([self._scaled(batch.numeric), levels[:, 1:]], 1)

    def _scaled(self, numeric: Tensor) -> Tensor:
        return (numeric - self.low) / self.span

    def _terms(self, x: Tensor) -> Tensor:
        """The terms of the local fit of rows, (rows, terms), from their features.

        A row is clipped along the main axes and not column by column, which would tear apart
        columns that belong together, such as two numbers and their difference.
        """
        if not self.degree:
            return x.new_zeros(len(x), 0, dtype=torch.float64)
        z = ((x.double() - self.center) @ self.axes).clamp(-FARTHEST, FARTHEST)
        if self.degree == 1:
            return z
        first, second = self._pairs(z.shape[1])
        return torch.cat([z, z[:, first] * z[:, second]], 1)

    @staticmethod
    def _pairs(count: int) -> tuple[Tensor, Tensor]:
        """All pairs of `count` axes, also of one with itself."""
        first, second = torch.triu_indices(count, count).unbind()
        return first, second

    # --- before training ---

    @torch.no_grad()
    def initialise(self, train: Batch | MeasuredBatch) -> None:
        """Set the ranges, the columns of each map and the first codebooks, and fit the units.

        A map starts as a grid on the plane of the two main axes of its columns.
        """
        if train.numeric.shape[1]:
            levels = torch.tensor(RANGE, dtype=torch.float64)
            low, high = torch.quantile(train.numeric.double(), levels, dim=0).float()
            self.low.copy_(low)
            # A number that hardly ever changes gets the range of a deviation.
            self.span.copy_(torch.where(high > low, high - low, torch.ones_like(low)))
        self.draw_seed = int(torch.randint(2**62, ()))
        for reads in self.reads:
            reads.copy_(self._drawn_columns())
        x = self.features(train)
        self.center.copy_(x.double().mean(0))
        self.axes.copy_(_whitening(x.double() - self.center))
        self.ends.copy_(torch.stack(torch.aminmax(train.target)))
        drawn = self.prepare(train).values
        features = x.shape[1]
        for number, codebook in enumerate(self.codebook):
            of_map = drawn[:, number, :features].double()
            codebook.copy_(pca_grid(of_map, self.rows, self.cols))
        self.train_rows = (x, train.target.double())
        self._fit()

    def _drawn_columns(self) -> Tensor:
        """1 for each feature of a random share of the columns, else 0, (features)."""
        count = len(self.low) + len(self.cardinalities)
        chosen = torch.zeros(count)
        chosen[torch.randperm(count)[: max(1, round(self.columns * count))]] = 1
        sizes = torch.tensor([1] * len(self.low) + list(self.cardinalities))
        return chosen.repeat_interleave(sizes)

    def prepare(self, train: Batch | MeasuredBatch) -> Drawn:
        """Rows as they are drawn for each map, with replacement, and within their errors.

        Training computes them once, so that a map has the same rows in each step.
        """
        x = self.features(train)
        noise = torch.Generator().manual_seed(self.draw_seed + 1)
        of_maps = []
        for reads, rows in zip(self.reads, self._draws(len(x)), strict=True):
            drawn = x[rows]
            if isinstance(train, MeasuredBatch):
                errors = train.errors[rows]
                numeric = train.numeric[rows] + errors * torch.randn(
                    errors.shape, generator=noise
                ).to(errors)
                drawn = torch.cat([self._scaled(numeric), drawn[:, len(self.low) :]], 1)
            of_maps.append(_moments(_clipped(drawn) * reads))
        # Laid out map by map, so that the rows of one lie together.
        return Drawn(torch.stack(of_maps).transpose(0, 1))

    def _draws(self, n: int) -> Tensor:
        """The n of n rows that each map has, (maps, n): a function of the net's seed and n."""
        generator = torch.Generator().manual_seed(self.draw_seed)
        shape = (len(self.reads), n)
        return torch.randint(n, shape, generator=generator).to(self.codebook.device)

    # --- training of the maps: no target -----------------------------------------------------

    def loss(self, batch: Batch | MeasuredBatch | Drawn) -> Tensor:
        """The sum over maps of 0.5 sum_j sum_i h_ij |x_i - W_j|^2 / n_j, n_j = sum_i h_ij.

        One step of plain gradient descent with lr 1 is the batch rule. A unit that no row pulls
        (n_j is below MIN_WEIGHT, and taken as MIN_WEIGHT) stays. In training the rows of a map are
        those drawn for it, in evaluation all rows of the batch.
        """
        loss, slope = self._loss_and_slope(batch)
        # Its value is 0, and `slope` its gradient by the codebooks.
        zero = (self.codebook * slope).sum()
        return loss + (zero - zero.detach())

    def gradients(self, batch: Batch | MeasuredBatch | Drawn) -> Tensor:
        """The value of `loss`, without a graph; its gradient becomes that of the codebooks."""
        loss, self.codebook.grad = self._loss_and_slope(batch)
        return loss

    @torch.no_grad()
    def _loss_and_slope(self, batch: Batch | MeasuredBatch | Drawn) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient by the codebooks, (maps, units, features)."""
        if isinstance(batch, Drawn):
            values = batch.values
        elif self.training:
            values = self.prepare(batch).values
        else:
            values = _moments(_clipped(self.features(batch))[:, None] * self.reads)
        codebook = self.codebook.detach()
        features = codebook.shape[2]
        by_unit = values.new_zeros(codebook.shape[1], *values.shape[1:])
        for number, prototypes in enumerate(codebook):
            of_map = values[:, number]
            (bmu,) = nearest_units(of_map[:, : features + 1], prototypes, 1)
            by_unit[:, number].index_add_(0, bmu, of_map)
        sigma = float(self.sigma * (self.sigma_end / self.sigma) ** self.progress)
        pulls = self._smoothed(by_unit.flatten(1), sigma).view_as(by_unit).transpose(0, 1)
        means = pulls / pulls[..., features : features + 1].clamp_min(MIN_WEIGHT)
        slope, _, squares = descent(codebook, means)
        return 0.5 * squares.sum(), slope

    def _smoothed(self, by_unit: Tensor, width: float) -> Tensor:
        """sum_k h_kj v_k of the sums v by unit, (units, n), with h of this width on the grid."""
        if not width:
            return by_unit
        rows = gaussian(self.row_squares / width**2).to(by_unit)
        cols = gaussian(self.col_squares / width**2).to(by_unit)
        return add_by_axis(torch.zeros_like(by_unit), by_unit, [(rows, cols)])

    # --- what the units keep of the targets ----------------------------------------------------

    @torch.no_grad()
    def _fit(self) -> None:
        """Fit the targets in each unit of each map, to the rows drawn for the map as they are.

        Not to rows redrawn within their errors, which would flatten the slopes.
        """
        assert self.train_rows is not None
        device = self.codebook.device
        x = self.train_rows[0].to(device)
        target = self.train_rows[1].to(device)
        terms = self._terms(x)
        # Axes that are left out give terms that are 0 in every row.
        used = terms.any(0)
        rows = torch.cat([torch.ones_like(target)[:, None], terms[:, used], target[:, None]], 1)
        middle = target.mean()
        rows[:, -1] -= middle
        # The whole table as one unit, per row.
        table = _centered((rows.T @ rows)[None] / len(rows))
        slopes_of_all = _solved(table.products, table.with_target, JITTER)
        variance_of_all = table.left(slopes_of_all)
        least = MIN_SCALE * (float(target.std(correction=0)) or 1.0)
        draws = self._draws(len(x))
        for number in range(len(self.codebook)):
            drawn = draws[number].bincount(minlength=len(x))
            units = self._nearest(x, number, torch.arange(self.rows * self.cols, device=device))
            counts = torch.zeros_like(self.counts[number])
            self.counts[number] = counts.index_add_(0, units, drawn.to(counts))
            sums = self._smoothed(_sums(rows, units, drawn, len(counts)), self.width)
            unit = _centered(sums.view(len(counts), rows.shape[1], -1))
            slopes = _solved(
                unit.products + self.shrinkage * table.products,
                unit.with_target + self.shrinkage * table.with_target,
                JITTER,
            )
            self.slopes[number] = 0
            self.slopes[number][:, used] = slopes
            self.intercept[number] = middle + unit.target - (unit.terms * slopes).sum(1)
            self.targets[number] = middle + unit.target
            left = unit.weight * unit.left(slopes) + self.shrinkage * variance_of_all
            variance = left / (unit.weight + self.shrinkage).clamp_min(MIN_WEIGHT)
            self.scale[number] = variance.clamp_min(0).sqrt().clamp_min(least)
        self.fitted_at = self.codebook._version

    def _nearest(self, x: Tensor, number: int, units: Tensor) -> Tensor:
        """The nearest of some `units` of a map for each row, (rows), from features of rows."""
        read = _clipped(x) * self.reads[number]
        prototypes = self.codebook.detach()[number][units]
        with_one = torch.cat([read, torch.ones_like(read[:, :1])], 1)
        candidates = nearest_units(with_one, prototypes, CANDIDATES)
        nearest, _ = two_nearest(read, prototypes, candidates)
        return units[nearest[:, 0]]

    # --- predictions ---------------------------------------------------------------------------

    def predict(self, batch: Batch | MeasuredBatch) -> dict[str, Tensor]:
        """The mixture for each row, in float64 and in the unit of the target.

        `locations` and `scales` (rows, maps): mean and standard deviation of its parts, which count
        alike; `location` (rows): its mean; `lower` and `upper` (rows): its 5 % and 95 % quantiles.

        A location is never outside of the targets of training. The first prediction after the maps
        have moved fits their units again.
        """
        if self.train_rows is not None and self.codebook._version != self.fitted_at:
            self._fit()
        x = self.features(batch)
        terms = self._terms(x)
        locations = []
        scales = []
        for number, counts in enumerate(self.counts):
            # A unit without rows has nothing to say.
            (with_rows,) = counts.nonzero(as_tuple=True)
            units = self._nearest(x, number, with_rows)
            rise = (self.slopes[number][units] * terms).sum(1)
            locations.append(self.intercept[number][units] + rise)
            scales.append(self.scale[number][units])
        location = torch.stack(locations, 1).clamp(self.ends[0], self.ends[1])
        scale = torch.stack(scales, 1)
        levels = torch.tensor([LOW, HIGH], dtype=torch.float64, device=location.device)
        quantiles = blocks.mixture_quantiles(location, scale, levels)
        return {
            "location": location.mean(1),
            "lower": quantiles[:, 0],
            "upper": quantiles[:, 1],
            "locations": location,
            "scales": scale,
        }

    # --- for figures ---

    def map_planes(self) -> tuple[Tensor, Tensor]:
        """The mean target of each unit, and the number of its rows, (maps, rows, cols) each."""
        shape = (len(self.counts), self.rows, self.cols)
        return self.targets.view(shape), self.counts.view(shape)


class Fit(NamedTuple):
    """Sums of rows (1, terms, target) by unit, about their means; the first axis is the unit."""

    weight: Tensor  # (units), the weighted number of rows
    terms: Tensor  # (units, terms), their means
    target: Tensor  # (units), its mean
    products: Tensor  # (units, terms, terms), of deviations from the means
    with_target: Tensor  # (units, terms)
    squares: Tensor  # (units), of the target

    def left(self, slopes: Tensor) -> Tensor:
        """The mean square of what slopes, (units, terms), leave of the target, (units)."""
        fitted = (slopes[:, None] @ self.products @ slopes[:, :, None]).view(-1)
        explained = 2 * (slopes * self.with_target).sum(1) - fitted
        return (self.squares - explained) / self.weight.clamp_min(MIN_WEIGHT)


def _centered(sums: Tensor) -> Fit:
    """The sums of products of rows (1, terms, target), (units, k, k), about the means."""
    weight = sums[:, 0, 0]
    means = sums[:, 0] / weight.clamp_min(MIN_WEIGHT)[:, None]
    centered = sums - weight[:, None, None] * means[:, :, None] * means[:, None, :]
    return Fit(
        weight,
        means[:, 1:-1],
        means[:, -1],
        centered[:, 1:-1, 1:-1],
        centered[:, 1:-1, -1],
        centered[:, -1, -1],
    )


def _sums(rows: Tensor, units: Tensor, drawn: Tensor, count: int) -> Tensor:
    """Sums of the products of each row with itself by unit, (count, k * k).

    rows (n, k) lie in `units` (n), and each was `drawn` so often, (n).
    """
    width = rows.shape[1]
    sums = rows.new_zeros(count, width * width)
    (chosen,) = drawn.nonzero(as_tuple=True)
    for part in chosen.split(max(1, HELD_PRODUCTS // width**2)):
        of_part = rows[part]
        weighted = of_part * drawn[part][:, None]
        products = weighted[:, :, None] * of_part[:, None, :]
        sums.index_add_(0, units[part], products.flatten(1))
    return sums


def _solved(products: Tensor, with_target: Tensor, jitter: float) -> Tensor:
    """Slopes b with (products + jitter) b = with_target, (units, terms)."""
    if not with_target.shape[1]:
        return with_target
    diagonal = jitter * torch.eye(with_target.shape[1]).to(products)
    return torch.linalg.solve(products + diagonal, with_target)


def _whitening(x: Tensor) -> Tensor:
    """The main axes of rows about 0, each over its standard deviation, (features, features).

    x @ axes has columns of variance 1 without correlation. Axes with a variance below MIN_VARIANCE
    of the largest are 0.
    """
    variances, axes = torch.linalg.eigh(x.T @ x / len(x))
    kept = variances > MIN_VARIANCE * variances.max()
    return torch.where(kept, axes / variances.clamp_min(1e-300).sqrt(), 0)


def _clipped(x: Tensor) -> Tensor:
    """Features as the maps read them: within half of the range beyond each end of it."""
    return x.clamp(-BEYOND, 1 + BEYOND)


def _moments(x: Tensor) -> Tensor:
    """(x, 1, x^2) of features, (..., features), as the batch rule sums them."""
    return torch.cat([x, torch.ones_like(x[..., :1]), x * x], -1)
