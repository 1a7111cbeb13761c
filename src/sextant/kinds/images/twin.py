"""The twin of a picture set: drawn heads whose ears and striped coat determine the class, or signs
of a few strokes.

Place, size, colours and shade of a head are random, and place, size and angle of a sign, so that no
single pixel determines the class.
"""

import gzip
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from ...errors import UsageError
from ...strict import PlainPath, Seed, Strict
from ...terminal import progress
from .columns import Columns, Folders, Idx, Index

# Where the strokes of a sign begin and end, as (x, y), y downwards: the segments of a seven-segment
# display, a at the top, then clockwise, g in the middle.
STROKES = {
    "a": ((-0.5, -1), (0.5, -1)),
    "b": ((0.5, -1), (0.5, 0)),
    "c": ((0.5, 0), (0.5, 1)),
    "d": ((-0.5, 1), (0.5, 1)),
    "e": ((-0.5, 0), (-0.5, 1)),
    "f": ((-0.5, -1), (-0.5, 0)),
    "g": ((-0.5, 0), (0.5, 0)),
}

# --- the block `twin` of conf/dataset/<name>.yaml -----------------------------------------------


class Look(Strict):
    """The look of a class.

    prefix: files are named <prefix>.<number>.jpg.
    ears: their shape.
    stripes: angle of the coat's stripes from the upright, in degrees.
    segments: in place of a head, a white sign of these strokes on black, see STROKES.
    """

    prefix: str = ""
    ears: Literal["pointed", "drooping", "none"] = "none"
    stripes: float = 0.0
    segments: Annotated[str, Field(pattern=r"^[a-g]*$")] = ""


class Twin(Strict):
    """The stand-in of a picture set.

    archive: the name of the zip; null for IDX files.
    seed: of all draws.
    each: the number of pictures of every class, by folder; by file of pictures for IDX files.
    looks: the look of each class.
    short_side, long_side: bounds of a picture's sides, in pixels.
    contrast: range of the stripes' amplitude, or of the strokes' brightness, as a share of full
        brightness.
    noise: standard deviation of the grain, as a share of full brightness.
    mislabelled: the share of pictures that have the look of another class.
    copies: by path, the path of the picture that it is a copy of.
    """

    archive: PlainPath | None = None
    seed: Seed
    each: dict[str, Annotated[int, Field(ge=1, le=1_000_000)]]
    looks: Annotated[dict[str, Look], Field(min_length=2)]
    short_side: Annotated[int, Field(ge=8, le=4096)]
    long_side: Annotated[int, Field(ge=8, le=4096)]
    contrast: Annotated[list[float], Field(min_length=2, max_length=2)]
    noise: Annotated[float, Field(ge=0)]
    mislabelled: Annotated[float, Field(ge=0, lt=1)]
    copies: dict[str, str] = {}


class File(NamedTuple):
    """A picture's file: its bytes, and its size in pixels."""

    raw: bytes
    width: int
    height: int


# --- the files ----------------------------------------------------------------------------------


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin to `folder` in the upstream format: a zip of JPEG files and its index, or IDX
    files.

    Raises UsageError for another format.
    """
    rng = np.random.default_rng(twin.seed)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(columns.files, Folders):
        files = _jpeg_files(twin, rng)
        _write_zip(files, folder / str(twin.archive))
        if columns.files.index:
            _write_index(files, columns.files.index, folder)
        return
    if not isinstance(columns.files, Idx):
        raise UsageError(
            f"a twin of pictures has no files of format `{columns.files.format}`; write `folders`"
            " or `idx`, or `twin: null`"
        )
    classes = [int(label) for label in twin.looks]
    for pair in [*columns.files.train, *columns.files.test]:
        labels = rng.permutation(np.repeat(classes, twin.each[pair.images]))
        images = []
        for label in progress(labels.tolist(), "drawing", "pictures"):
            images.append(np.asarray(_draw(twin, str(label), rng).convert("L")))
        _write_idx(folder / pair.images, np.stack(images))
        _write_idx(folder / pair.labels, labels)


def _jpeg_files(twin: Twin, rng: np.random.Generator) -> dict[str, File]:
    """The pictures by path, in the order of the draws; numbers continue from folder to folder."""
    planned: list[tuple[str, str]] = []
    first = 1
    for place, number in twin.each.items():
        for label, look in twin.looks.items():
            for i in range(first, first + number):
                planned.append((f"{place}/{label}/{look.prefix}.{i}.jpg", label))
        first += number
    files: dict[str, File] = {}
    for path, label in progress(planned, "drawing", "pictures"):
        image = _draw(twin, label, rng)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=90)
        files[path] = File(stream.getvalue(), *image.size)
    for copy, original in twin.copies.items():
        files[copy] = files[original]
    return files


def _write_zip(files: dict[str, File], path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in files.items():
            # A fixed date, the first that a zip can hold, makes the bytes the same every time.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), file.raw)


def _write_index(files: dict[str, File], index: Index, folder: Path) -> None:
    """Write the index in the columns of the real one, as if each picture were its own original."""
    lines = []
    for path, (raw, width, height) in files.items():
        digest = hashlib.sha256(raw).hexdigest()
        lines.append((path, digest, len(raw), width, height, width, height))
    originals = ["original_bytes", "original_width", "original_height"]
    table = pd.DataFrame(lines, columns=["path", index.key, *originals, "width", "height"])
    table.to_csv(folder / index.file, index=False, lineterminator="\n")


def _write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array of bytes in the format that rows/ reads."""
    header = bytes([0, 0, 8, array.ndim])
    for length in array.shape:
        header += length.to_bytes(4, "big")
    raw = header + array.astype(np.uint8).tobytes()
    if path.suffix == ".gz":
        raw = gzip.compress(raw, mtime=0)  # without the time, so that the bytes stay the same
    path.write_bytes(raw)


# --- one picture --------------------------------------------------------------------------------
# The order of the draws decides the bytes of the files. Colours are drawn plane by plane, (3,
# height, width), because NumPy is slow over a last axis of three.


def _draw(twin: Twin, label: str, rng: np.random.Generator) -> Image.Image:
    """A striped head with ears before a background that shades from one colour to another."""
    look = _look(twin, label, rng)
    if look.segments:
        return _draw_sign(twin, look, rng)
    short = twin.short_side
    long = int(rng.integers(twin.short_side, twin.long_side + 1))
    height, width = long, short
    if rng.random() < 0.5:
        height, width = short, long
    # Coordinates of the head: its middle is at 0, its radius is 1, y goes downwards.
    v, u = np.ogrid[:height, :width]
    radius = short * rng.uniform(0.24, 0.36)
    y = (v - height / 2 - short * rng.uniform(-0.06, 0.12)) / radius
    x = (u - width / 2 - short * rng.uniform(-0.12, 0.12)) / radius
    is_head = (x**2 + y**2 < 1) | _is_ear(look, x, y)
    coat = _coat(look, twin.contrast, x, y, is_head, rng)
    pixels = _background(x, y, rng)
    pixels[:, is_head] = coat
    pixels += rng.normal(0, twin.noise, (height, width))
    np.clip(pixels, 0, 1, out=pixels)
    pixels *= 255
    colours = np.rint(pixels, out=pixels).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(colours.transpose(1, 2, 0)))


def _draw_sign(twin: Twin, look: Look, rng: np.random.Generator) -> Image.Image:
    """White strokes on black, moved, turned by up to 20 degrees, slanted and stretched."""
    side = twin.short_side
    v, u = np.mgrid[:side, :side] - (side - 1) / 2
    v = v - side * rng.uniform(-0.12, 0.12)
    u = u - side * rng.uniform(-0.12, 0.12)
    angle = np.deg2rad(rng.uniform(-20, 20))
    height = side * rng.uniform(0.22, 0.34)
    width = height * rng.uniform(0.8, 1.3)
    thickness = side * rng.uniform(0.03, 0.07)
    slant = rng.uniform(-0.1, 0.3)
    x = u * np.cos(angle) + v * np.sin(angle)
    y = v * np.cos(angle) - u * np.sin(angle)
    x = x + slant * y
    distance = np.full((side, side), np.inf)
    for name in look.segments:
        start = np.multiply(STROKES[name][0], (width, height))
        end = np.multiply(STROKES[name][1], (width, height))
        distance = np.minimum(distance, _distance(x, y, start, end))
    brightness = rng.uniform(twin.contrast[0], twin.contrast[1])
    pixels = brightness * np.clip(thickness + 0.5 - distance, 0, 1)
    pixels += rng.normal(0, twin.noise, (side, side))
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))


def _distance(x: np.ndarray, y: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The distance of each point (x, y) from the line segment between two points."""
    along = end - start
    share = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (along @ along)
    share = np.clip(share, 0, 1)
    return np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1])


def _look(twin: Twin, label: str, rng: np.random.Generator) -> Look:
    """The look of the class, or, for a share `mislabelled`, of another class."""
    other_labels = [name for name in twin.looks if name != label]
    if rng.random() < twin.mislabelled:
        label = str(rng.choice(other_labels))
    return twin.looks[label]


def _is_ear(look: Look, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where the ears are, (height, width): triangles above the head, or ellipses beside it."""
    if look.ears == "pointed":
        is_inside = np.abs(np.abs(x) - 0.62) < (y + 1.5) * 0.38
        return (y < -0.4) & (y > -1.5) & is_inside
    if look.ears == "drooping":
        return ((np.abs(x) - 1.05) / 0.28) ** 2 + ((y - 0.1) / 0.75) ** 2 < 1
    return np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)


def _coat(
    look: Look,
    contrast: list[float],
    x: np.ndarray,
    y: np.ndarray,
    is_head: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Stripes as a sine wave around a random colour, (3, pixels of the head)."""
    angle = np.deg2rad(look.stripes + rng.normal(0, 8))
    frequency = rng.uniform(2.2, 3.6) * 2 * np.pi
    phase = frequency * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 2 * np.pi)
    colour = rng.uniform(0.25, 0.75, 3)
    amplitude = rng.uniform(contrast[0], contrast[1])
    return colour[:, None] + amplitude * np.sin(phase[is_head])


def _background(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A sigmoid blend of two random colours in a random direction, (3, height, width)."""
    near = rng.uniform(0.1, 0.9, 3)[:, None, None]
    far = rng.uniform(0.1, 0.9, 3)[:, None, None]
    direction = rng.uniform(0, 2 * np.pi)
    blend = 1 / (1 + np.exp(-2 * (x * np.cos(direction) + y * np.sin(direction))))
    return near * blend + far * (1 - blend)
