"""The twin of a picture set: drawn heads whose ears and coat tell the class."""

import gzip
import hashlib
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from ...strict import Strict
from ...terminal import progress

if TYPE_CHECKING:
    pass
from .columns import Columns, Folders

# --- the twin: drawn heads whose ears and coat tell the class ---------------------------------------------------------


class Look(Strict):
    """What a class looks like; the stripes of its coat lean by an angle from the upright, in degrees."""

    prefix: str
    ears: Literal["pointed", "drooping", "none"]
    stripes: float


class Twin(Strict):
    """The stand-in: heads of any place, size, colour and shade, so that no single pixel knows the class.

    `each` is the number of pictures of every class by folder (by file of pictures where they are IDX files); `copies`
    makes one picture a copy of another, and a share of `mislabelled` ones looks like another class. Sides are in
    pixels; `contrast` is the range of how far stripes stand out and `noise` the standard deviation of the grain, as
    shares of full brightness.
    """

    archive: str | None
    seed: int
    each: dict[str, Annotated[int, Field(ge=1)]]
    looks: Annotated[dict[str, Look], Field(min_length=2)]
    short_side: Annotated[int, Field(ge=8)]
    long_side: Annotated[int, Field(ge=8)]
    contrast: Annotated[list[float], Field(min_length=2, max_length=2)]
    noise: Annotated[float, Field(ge=0)]
    mislabelled: Annotated[float, Field(ge=0, lt=1)]
    copies: dict[str, str]


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin to `folder` as upstream does: a zip of JPEG files and its index, or IDX files."""
    rng = np.random.default_rng(twin.seed)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(columns.files, Folders):
        _write_folders(twin, columns.files, folder, rng)
    else:
        for pair in [*columns.files.train, *columns.files.test]:
            labels = rng.permutation(
                np.repeat([int(name) for name in twin.looks], twin.each[pair.images])
            )
            shown = progress(labels.tolist(), "drawing", "pictures")
            drawn = [np.asarray(_drawn(twin, str(label), rng).convert("L")) for label in shown]
            _write_idx(folder / pair.images, np.stack(drawn))
            _write_idx(folder / pair.labels, labels)


def _write_folders(twin: Twin, files: Folders, folder: Path, rng: np.random.Generator) -> None:
    pictures: dict[str, tuple[bytes, int, int]] = {}
    wanted, first = [], 1
    for place, number in twin.each.items():
        wanted += [(place, label, i) for label in twin.looks for i in range(first, first + number)]
        first += number
    for place, label, i in progress(wanted, "drawing", "pictures"):
        image, file = _drawn(twin, label, rng), io.BytesIO()
        image.save(file, "JPEG", quality=90)
        pictures[f"{place}/{label}/{twin.looks[label].prefix}.{i}.jpg"] = (
            file.getvalue(),
            *image.size,
        )
    pictures |= {copy: pictures[original] for copy, original in twin.copies.items()}
    with zipfile.ZipFile(folder / str(twin.archive), "w") as archive:
        for path, (raw, _, _) in pictures.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), raw)
    if files.index:
        facts = [
            (path, hashlib.sha256(raw).hexdigest(), len(raw), width, height, width, height)
            for path, (raw, width, height) in pictures.items()
        ]
        originals = ["original_bytes", "original_width", "original_height"]
        header = ["path", files.index.key, *originals, "width", "height"]
        pd.DataFrame(facts, columns=header).to_csv(
            folder / files.index.file, index=False, lineterminator="\n"
        )


def _write_idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    raw = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)


def _drawn(twin: Twin, label: str, rng: np.random.Generator) -> Image.Image:
    """A striped head with ears before a ground that shades from one colour to another."""
    others = [name for name in twin.looks if name != label]
    look = twin.looks[str(rng.choice(others)) if rng.random() < twin.mislabelled else label]
    short, long = twin.short_side, int(rng.integers(twin.short_side, twin.long_side + 1))
    height, width = (short, long) if rng.random() < 0.5 else (long, short)
    v, u = np.ogrid[:height, :width]
    # the head's own axes: its middle at 0, its radius 1, y downwards
    radius = short * rng.uniform(0.24, 0.36)
    y = (v - height / 2 - short * rng.uniform(-0.06, 0.12)) / radius
    x = (u - width / 2 - short * rng.uniform(-0.12, 0.12)) / radius
    head = x**2 + y**2 < 1
    if look.ears == "pointed":
        head = head | ((y < -0.4) & (y > -1.5) & (np.abs(np.abs(x) - 0.62) < (y + 1.5) * 0.38))
    elif look.ears == "drooping":
        head = head | (((np.abs(x) - 1.05) / 0.28) ** 2 + ((y - 0.1) / 0.75) ** 2 < 1)
    lean = np.deg2rad(look.stripes + rng.normal(0, 8))
    waves = rng.uniform(2.2, 3.6) * 2 * np.pi * (x * np.cos(lean) + y * np.sin(lean)) + rng.uniform(
        0, 2 * np.pi
    )
    coat = (
        rng.uniform(0.25, 0.75, 3)
        + rng.uniform(twin.contrast[0], twin.contrast[1]) * np.sin(waves)[..., None]
    )
    near, far, turn = rng.uniform(0.1, 0.9, 3), rng.uniform(0.1, 0.9, 3), rng.uniform(0, 2 * np.pi)
    shade = 1 / (1 + np.exp(-2 * (x * np.cos(turn) + y * np.sin(turn))))[..., None]
    pixels = np.where(head[..., None], coat, near * shade + far * (1 - shade))
    pixels = pixels + rng.normal(0, twin.noise, (height, width, 1))
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))
