"""Small random batches of each kind, for the tests of nets."""

from collections.abc import Sequence

import torch

from sextant.kinds.clips import encoder as clips
from sextant.kinds.images import encoder as images
from sextant.kinds.ratings import encoder as ratings
from sextant.kinds.series import encoder as series
from sextant.kinds.tabular import encoder as tabular
from sextant.kinds.text import encoder as text

STARS = [1.0, 2.0, 3.0]  # the scale of `of_ratings`
LIKE = 2.0


def of_table(
    rows: int,
    numeric: int,
    cardinalities: Sequence[int],
    classes: int = 1,
    seed: int = 1,
    unseen: bool = False,
) -> tabular.Batch:
    """Standardised numbers and random levels; `unseen`: levels unknown to training among them."""
    generator = torch.Generator().manual_seed(seed)
    lowest = tabular.UNSEEN if unseen else tabular.UNSEEN + 1
    columns = [torch.empty(rows, 0, dtype=torch.int64)]
    for levels in cardinalities:
        codes = torch.randint(lowest, levels + 1, (rows, 1), generator=generator)
        columns.append(codes)
    numbers = torch.randn(rows, numeric, generator=generator)
    return tabular.Batch(numbers, torch.cat(columns, 1), torch.arange(rows) % classes)


def of_images(
    rows: int = 13, channels: int = 3, side: int = 17, classes: int = 2, seed: int = 1
) -> images.Batch:
    """Pictures of noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, channels, side, side)
    image = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return images.Batch(image, torch.arange(rows) % classes)


def of_clips(
    rows: int = 4, frames: int = 5, channels: int = 1, side: int = 12, seed: int = 1
) -> clips.Batch:
    """Clips of noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, frames, channels, side, side)
    clip = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return clips.Batch(clip, torch.arange(rows) % 2)


def of_series(rows: int = 13, features: int = 5, steps: int = 10, seed: int = 3) -> series.Batch:
    """Windows of noise, and log returns of about 1 %."""
    generator = torch.Generator().manual_seed(seed)
    window = torch.randn(rows, steps, features, generator=generator)
    returns = 0.01 * torch.randn(rows, generator=generator)
    return series.Batch(window, torch.full((rows,), 100.0), returns)


def of_text(rows: int = 5, length: int = 12, codes: int = 7, seed: int = 1) -> text.Batch:
    """Rows of random codes, none of which follows another."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, codes, (rows, 1 + length), generator=generator, dtype=torch.int32)
    return text.Batch(drawn, torch.zeros(rows, dtype=torch.bool))


def of_ratings(
    known: Sequence[Sequence[int]],
    target: Sequence[Sequence[int]] | None = None,
    users: Sequence[int] | None = None,
) -> ratings.Batch:
    """Codes of users' ratings, 1 to 3, and 0 for none; the target is `known` unless given."""
    codes = torch.tensor(known, dtype=torch.uint8)
    targets = codes if target is None else torch.tensor(target, dtype=torch.uint8)
    rows = len(codes)
    places = torch.arange(rows) if users is None else torch.tensor(users)
    values = torch.tensor(STARS).expand(rows, -1)
    return ratings.Batch(places, codes, targets, values, torch.full((rows,), LIKE))
