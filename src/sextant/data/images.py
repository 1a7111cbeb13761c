"""Pictures: one class a folder, loose or in a zip, or IDX files; decoded once to squares of bytes.

A picture becomes its largest centred square, scaled to `size` pixels: the aspect is kept, in training as in answers.
"""

import base64
import gzip
import hashlib
import io
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from pydantic import Field

from ..errors import DataError
from ..files import RECEIPT
from ..strict import Strict
from ..terminal import progress
from . import PARTS, parts_by_hash, tabular

if TYPE_CHECKING:
    from torch import Tensor

check_parts = tabular.check_parts  # keys and classes are held to what a table's are

SPLITS = ("hash",)
MODES = {1: "L", 3: "RGB"}
SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
}  # of files that are asked with
HEAVIEST = 2**26  # bytes of one picture's file
ALIKE = 3  # bits of 64 in which the fingerprints of pictures that look alike differ at most; with 4 come false ones
AT_ONCE = 2**20  # pairs of fingerprints
TABLE = tabular.Columns(  # of questions
    names=None,
    delimiter=",",
    unknown=None,
    key=None,
    target="image",
    ignored=["path"],
    numeric=[],
    categorical=[],
)


class Index(Strict):
    """A CSV beside the pictures: their `path`, and in column `key` what each is known by however it is encoded."""

    file: str
    key: str


class Folders(Strict):
    """Pictures as <folder>/<class>/<file>, loose or in a zip; those in `test` are what the source keeps for testing.

    Without an index a picture is known by the sha256 of its file.
    """

    format: Literal["folders"]
    train: Annotated[list[str], Field(min_length=1)]
    test: list[str]
    index: Index | None


class Pair(Strict):
    """Two IDX files, plain or gzipped: pictures, and their labels in the same order."""

    images: str
    labels: str


class Idx(Strict):
    """IDX files; those in `test` are what the source keeps for testing."""

    format: Literal["idx"]
    train: Annotated[list[Pair], Field(min_length=1)]
    test: list[Pair]


class Columns(Strict):
    """How the pictures lie in their files, what their class is called, and what they are made into."""

    files: Annotated[Folders | Idx, Field(discriminator="format")]
    target: str
    channels: Literal[1, 3]
    size: Annotated[int, Field(ge=8, le=1024)]  # pixels of a side
    flat: Annotated[
        int, Field(ge=1)
    ]  # pixels of a side for a baseline that reads pixels one by one
    smallest: Annotated[
        int, Field(ge=2)
    ]  # pixels of the short side below which a picture is refused

    @property
    def key(self) -> str:
        return "key"

    @property
    def all(self) -> list[str]:
        facts = [
            "width",
            "height",
            "channels",
            "decodable",
            "bytes",
            "sha256",
            "dhash",
            "lookalike",
        ]
        return ["path", self.target, "test", self.key, *facts]


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


# --- from raw files to four parts -------------------------------------------------------------------------------------


def read(folder: Path, columns: Columns) -> pd.DataFrame:
    """One row a picture, in the order of their paths: `path`, class, `test`, `key` and `raw`, the file's bytes.

    `raw` of a picture in an IDX file is an array, uint8 (height, width) or (height, width, channels). Nothing is
    decoded yet. Raises DataError for what is not there, cannot be opened, or climbs out of its folder.
    """
    found = (
        _idx_rows(folder, columns.files)
        if isinstance(columns.files, Idx)
        else _rows(folder, columns.files)
    )
    rows = pd.DataFrame(list(found), columns=["path", columns.target, "test", "key", "raw"])
    if rows.empty:
        raise DataError(
            f"{folder} holds no picture where its conf says that they lie; `make pull` brings them"
        )
    return rows


def _rows(folder: Path, files: Folders) -> Iterator[tuple[str, str, bool, str | None, bytes]]:
    keys = _keys(folder / files.index.file, files.index.key) if files.index else None
    members, filled = sorted(_members(folder, files), key=lambda member: member[0]), set()
    for path, raw in members:
        found = _place(path, [*files.train, *files.test])
        if found and raw is not None:
            filled.add(found)
            place, label = found
            key = hashlib.sha256(raw).hexdigest() if keys is None else keys.get(path)
            yield path, label, place in files.test, key, raw
        elif raw is not None and _asked(path):
            places = ", ".join(f"{place}/<class>/" for place in [*files.train, *files.test])
            raise DataError(
                f"{path} lies outside {places}; move it, or name its folder in the conf's `columns.files`"
            )
    empty = {
        found for path, _ in members if (found := _place(path, [*files.train, *files.test]))
    } - filled
    for place, label in sorted(empty):
        raise DataError(
            f"class {label} of {place} has no pictures; add some, or take its folder away"
        )
    lost = sorted(set(keys or ()) - {path for path, raw in members if raw is not None})
    if files.index and lost:
        raise DataError(
            f"{files.index.file} names {len(lost):,} pictures that are not there, first {lost[0]}; `make pull` brings"
            " them, or take them out of the index"
        )


def _members(folder: Path, files: Folders) -> Iterator[tuple[str, bytes | None]]:
    """Path and bytes of all that lies in `folder` and in its zips but hidden files; None for a folder."""
    own = {RECEIPT, *([files.index.file] if files.index else [])}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name in own or _hidden(name):
            continue
        if path.is_dir():
            yield f"{name}/", None
        elif path.suffix == ".zip":
            yield from _zipped(path)
        else:
            yield name, path.read_bytes()


def _zipped(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """The same of a zip; raises DataError for one that is cut off or that would write outside its folder."""
    repair = "pull it again, or make it anew"
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename
                if (
                    PurePosixPath(name).is_absolute()
                    or ".." in PurePosixPath(name).parts
                    or "\\" in name
                ):
                    raise DataError(
                        f"{path.name} holds {name!r}, a path that climbs out of its folder; {repair}"
                    )
                if member.file_size > HEAVIEST:
                    size = f"{member.file_size:,} bytes; expected at most {HEAVIEST:,}"
                    raise DataError(f"{path.name} holds {name}, {size}")
                if not _hidden(name):
                    yield name, None if member.is_dir() else archive.read(member)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
    ) as error:
        raise DataError(f"{path.name} is no whole zip ({error}); {repair}") from None


def _hidden(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return any(part.startswith((".", "__MACOSX")) for part in parts) or parts[-1:] in (
        ("_DS_Store",),
        ("Thumbs.db",),
    )


def _asked(path: str) -> bool:
    """Whether a file calls itself a picture."""
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def _place(path: str, places: list[str]) -> tuple[str, str] | None:
    """The folder of `places` and the class that a path lies in; None for one that lies in no class."""
    for place in places:
        inside = path if place == "." else path.removeprefix(f"{place}/")
        label, below, _ = inside.partition("/")
        if below and label and (place == "." or inside != path):
            return place, label
    return None


def _keys(path: Path, column: str) -> dict[str, str | None]:
    if not path.is_file():
        raise DataError(
            f"{path.name} is not there, the index of the pictures; `make pull` brings it"
        )
    index = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name in ("path", column):
        if name not in index:
            found = ", ".join(map(str, index))
            raise DataError(
                f"{path.name} lacks column {name}; found {found}; correct it, or name it in the conf"
            )
    return {place: key or None for place, key in zip(index["path"], index[column], strict=True)}


def _idx_rows(folder: Path, files: Idx) -> Iterator[tuple[str, int, bool, str, np.ndarray]]:
    for test, pairs in ((False, files.train), (True, files.test)):
        for pair in pairs:
            images, labels = _idx(folder / pair.images, (3, 4)), _idx(folder / pair.labels, (1,))
            if len(images) != len(labels):
                raise DataError(
                    f"{pair.images} has {len(images):,} pictures, {pair.labels} {len(labels):,} labels;"
                    " expected as many; are they of one set?"
                )
            for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                yield (
                    f"{pair.images}/{i}",
                    label,
                    test,
                    hashlib.sha256(image.tobytes()).hexdigest(),
                    image,
                )


def _idx(path: Path, dimensions: tuple[int, ...]) -> np.ndarray:
    """An IDX file of bytes: 0, 0, 8, the number of dimensions, each as a big-endian 32-bit number, then the bytes."""
    repair = "; pull it again, or correct `columns.files` in the conf"
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError:
        raise DataError(f"{path.name} is not there{repair}") from None
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path.name} is no whole gzip file ({error}){repair}") from None
    if raw[:3] != b"\0\0\x08" or len(raw) < 4 or raw[3] not in dimensions:
        got, expected = raw[:4].hex() or "nothing", " or ".join(f"0000080{n}" for n in dimensions)
        raise DataError(
            f"{path.name} begins with {got}; expected an IDX file of bytes, {expected}{repair}"
        )
    start = 4 + 4 * raw[3]
    shape = tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(4, start, 4))
    if len(raw) - start != np.prod(shape, dtype=object):
        raise DataError(
            f"{path.name} holds {len(raw) - start:,} bytes; expected {' x '.join(map(str, shape))}{repair}"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _image(raw: bytes | np.ndarray) -> Image.Image:
    """A picture decoded whole and turned upright; raises ValueError that says why it cannot be."""
    if isinstance(raw, np.ndarray):
        return Image.fromarray(raw[..., 0] if raw.shape[2:] == (1,) else raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(raw))
            image.load()
            return ImageOps.exif_transpose(image)
        except Exception as error:  # whatever one of thirty decoders stumbles over
            raise ValueError(
                "no known format" if "identify" in str(error) else f"{error}"
            ) from None


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """What the expectations look at: the facts of each picture; sizes are None where it does not decode.

    `sha256` is of its content, `dhash` 64 bits of what it looks like: whether each of 8 x 8 greys is brighter than the
    one to its left. `lookalike` is true of a picture whose `dhash` another one has too but for ALIKE bits.
    """
    shown = progress(raw["raw"].tolist(), "looking at", "pictures")
    facts = pd.DataFrame([_facts(one) for one in shown], index=raw.index)
    facts["lookalike"] = _lookalike(facts["dhash"])
    return pd.concat([raw.drop(columns="raw"), facts], axis=1)[columns.all]


def _lookalike(dhash: pd.Series) -> np.ndarray:
    """Of each fingerprint, whether another one is near; one that is missing is near none."""
    there = dhash.notna().to_numpy()
    bits = np.array([int(one, 16) for one in dhash[there]], np.uint64)
    near = np.zeros(len(dhash), bool)
    pieces = np.array_split(bits, max(1, len(bits) ** 2 // AT_ONCE))
    near[there] = np.concatenate(
        [(np.bitwise_count(one[:, None] ^ bits) <= ALIKE).sum(1) > 1 for one in pieces]
    )
    return near


def _facts(raw: bytes | np.ndarray) -> dict[str, Any]:
    content = raw.tobytes() if isinstance(raw, np.ndarray) else raw
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    try:
        image = _image(raw)
    except ValueError:
        return {
            "width": None,
            "height": None,
            "channels": None,
            "decodable": False,
            **facts,
            "dhash": None,
        }
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), int)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()
    width, height = image.size
    return {
        "width": width, "height": height, "channels": len(image.getbands()), "decodable": True, **facts, "dhash": bits,
    }  # fmt: skip


def repair(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Rows with the picture as `image`, uint8 (size, size, channels), beside what `read` gave.

    Raises DataError for a picture that does not decode or is too small, and for one that the index does not know.
    """
    unknown = raw["path"][raw["key"].isna()]
    if len(unknown):
        raise DataError(
            f"{len(unknown)} pictures, first {unknown.iloc[0]}, are not in the index; add them to it"
        )
    images = np.empty((len(raw), columns.size, columns.size, columns.channels), np.uint8)
    for i, one in enumerate(progress(raw["raw"].tolist(), "decoding", "pictures")):
        images[i] = _square(one, columns, raw["path"].iloc[i])
    return raw.assign(image=list(images))


def _square(raw: bytes | np.ndarray, columns: Columns, name: str) -> np.ndarray:
    """The largest centred square of a picture, scaled: uint8 (size, size, channels)."""
    try:
        image = _image(raw)
    except ValueError as error:
        raise DataError(
            f"{name} is no picture that decodes ({error}); replace it, or take it out"
        ) from None
    width, height = image.size
    short = min(width, height)
    if short < columns.smallest:
        raise DataError(
            f"{name} is {width} x {height} pixels; expected at least {columns.smallest} on the short side;"
            " replace it, or take it out"
        )
    left, top = (width - short) / 2, (height - short) / 2
    square = (left, top, left + short, top + short)
    scaled = image.convert(MODES[columns.channels]).resize(
        (columns.size,) * 2, Image.Resampling.BICUBIC, square
    )
    return np.asarray(scaled).reshape(columns.size, columns.size, columns.channels)


def split(rows: pd.DataFrame, columns: Columns, split: Any) -> dict[str, pd.DataFrame]:
    """Four parts: what the source keeps for testing, and of the rest a picture's by a salted hash of its key.

    They are in the order of their keys, which mixes the classes. The gate's rows keep the files, since these are what a
    champion is asked with, whatever size it was trained at.
    """
    rows = rows.sort_values(["key", "path"], ignore_index=True)
    part = np.where(rows["test"], PARTS.index("test"), parts_by_hash(rows["key"], split))
    parts = {name: rows[part == i].reset_index(drop=True) for i, name in enumerate(PARTS)}
    return {name: own if name == "gate" else own.drop(columns="raw") for name, own in parts.items()}


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part: the pictures as one array that can be mapped into memory, the rest as a table."""
    np.save(path.with_suffix(".npy"), np.stack(rows["image"].tolist()))
    facts = rows.drop(columns="image")
    if "raw" in facts:
        facts["raw"] = [_png(raw) if isinstance(raw, np.ndarray) else raw for raw in facts["raw"]]
    facts.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Read a part written by `write`; the pictures stay on the disk until they are looked at."""
    images = np.load(path.with_suffix(".npy"), mmap_mode="r")
    return pd.read_parquet(path.with_suffix(".parquet")).assign(image=list(np.asarray(images)))


def ask(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows of a part as any champion is asked with them: `image` in base64."""
    pd.DataFrame({"image": _base64(rows)}).to_parquet(path, index=False)


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, Any]:
    """What a reader asks of the training pictures: how many of each class, and their colours."""
    train = parts["train"]
    counts = train[columns.target].value_counts().sort_index()
    encoder = Encoder.fit(train, columns)
    return {
        "columns": {
            columns.target: {str(label): int(n) for label, n in counts.items()},
            "image": {
                "size": columns.size,
                "channels": columns.channels,
                "mean": encoder.mean,
                "std": encoder.std,
            },
        },
        "classes": encoder.classes,
    }


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    _image(image).save(file, "PNG")
    return file.getvalue()


def _base64(rows: pd.DataFrame) -> list[str]:
    """Each picture's file; where there is none, the prepared square as PNG, which decodes to itself."""
    raw = rows["raw"] if "raw" in rows else rows["image"]
    return [
        base64.b64encode(_png(one) if isinstance(one, np.ndarray) else one).decode() for one in raw
    ]


# --- what is asked with -----------------------------------------------------------------------------------------------


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Pictures that are asked with: a folder, a zip, one picture, or a table with `path` or base64 in `image`.

    The answer is a frame with `path` and, where files were read, their bytes as `image`. A path in a CSV is seen from
    the folder that the CSV lies in.
    """
    if path.is_dir() or path.suffix == ".zip":
        everything = Folders(format="folders", train=["."], test=[], index=None)
        members = _members(path, everything) if path.is_dir() else _zipped(path)
        found = sorted((name, raw) for name, raw in members if raw is not None and _asked(name))
        if not found:
            raise DataError(
                f"{path} holds no picture ({', '.join(sorted(SUFFIXES))}); name a folder that does"
            )
        return pd.DataFrame(found, columns=["path", "image"])
    if _asked(path.name):
        return pd.DataFrame({"path": [path.name], "image": [_bytes(path, "")]})
    rows = tabular.read_rows(path, TABLE)
    if "path" in rows and "image" not in rows:
        rows["image"] = [
            _bytes(path.parent / str(name), f"row {i}: ")
            for i, name in enumerate(rows["path"], start=1)
        ]
    return rows


def _bytes(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{where}{path} cannot be read ({error.strerror}); name a picture that is there"
        ) from None


# --- from rows to tensors ---------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Pictures as tensors: image (rows, channels, size, size) uint8, target (rows) int64."""

    image: "Tensor"
    target: "Tensor"


class Encoder:
    """Pictures to a Batch; what training taught: the classes, mean and spread of each channel in 0..1."""

    named_by = "path"  # what the answers to a file of rows are told apart by

    def __init__(self, columns: Columns, classes: list[Any], mean: list[float], std: list[float]):
        self.columns, self.classes, self.mean, self.std = columns, classes, mean, std

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone; counted in whole numbers, so that no order of adding matters."""
        counts = np.zeros((columns.channels, 256), np.int64)
        for image in rows["image"]:
            for channel in range(columns.channels):
                counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
        levels, shares = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)
        mean = shares @ levels
        std = np.sqrt(shares @ levels**2 - mean**2)
        rounded = [
            [round(float(one), 6) for one in values]
            for values in (mean, np.where(std > 1e-3, std, 1))
        ]
        return cls(columns, sorted(rows[columns.target].unique().tolist()), *rounded)

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON."""
        return {"classes": self.classes, "mean": self.mean, "std": self.std}

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """The inverse of `state`."""
        return cls(columns, **state)

    @property
    def sizes(self) -> dict[str, Any]:
        """What a family's constructor may ask for before its `*`."""
        return {
            "channels": self.columns.channels,
            "size": self.columns.size,
            "classes": len(self.classes),
            "mean": self.mean,
            "std": self.std,
        }

    def encode(self, rows: pd.DataFrame) -> Batch:
        """Rows with `image` to tensors; the target is -1 where it is not there."""
        import torch  # two seconds, which pull, validate and prepare need not wait for

        images = torch.from_numpy(np.stack(rows["image"].tolist())).permute(0, 3, 1, 2)
        target = np.full(len(rows), -1)
        if self.columns.target in rows:
            target = pd.Index(self.classes).get_indexer(rows[self.columns.target])
        return Batch(images, torch.from_numpy(target.astype(np.int64)))

    def flat(self, rows: pd.DataFrame) -> np.ndarray:
        """Standardised features for a baseline, (rows, features): the pictures, averaged to a few large pixels."""
        import torch
        from torch.nn import functional as F

        images, side = self.encode(rows).image, min(self.columns.flat, self.columns.size)
        small = torch.cat([F.adaptive_avg_pool2d(piece / 255, side) for piece in images.split(256)])
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return ((small - mean) / std).flatten(1).double().numpy()

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows that are asked with, as `encode` takes them: `image` in base64 or bytes, or else the `path` of a file.

        Raises DataError for a missing or surplus column, and for what is no picture, names its row.
        """
        surplus = [str(name) for name in frame if name not in ("image", *self.columns.all)]
        if surplus or not {"image", "path"} & set(frame):
            got = f"{'surplus column' if surplus else 'got'} {', '.join(map(str, surplus or frame)) or 'nothing'}"
            raise DataError(
                f"{got}; expected `image` (a file in base64) or `path` (of a file); name the columns so"
            )
        if frame.empty:
            raise DataError("no rows to answer; give at least one")
        names = [f"row {i}" for i in range(1, len(frame) + 1)]
        if "path" in frame:
            names = [f"{name} ({path})" for name, path in zip(names, frame["path"], strict=True)]
        if "image" in frame:
            given: list[Any] = [
                _file(one, name) for one, name in zip(frame["image"], names, strict=True)
            ]
        else:
            given = [
                _bytes(Path(str(path)), f"row {i}: ")
                for i, path in enumerate(frame["path"], start=1)
            ]
        shown = progress(list(zip(given, names, strict=True)), "decoding", "pictures")
        images = [_square(raw, self.columns, name) for raw, name in shown]
        return frame.assign(image=pd.Series(images, index=frame.index))

    def schema(self) -> list[tuple[str, str, bool]]:
        """Columns that may be asked with: name, MLflow type, whether it must be there."""
        return [("image", "string", True)]

    def question(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as MLflow's interface takes them: `image` in base64."""
        return pd.DataFrame({"image": _base64(rows)})

    def example(self) -> pd.DataFrame:
        """Three plain pictures of the training colours, dark, middling and bright: nobody's."""
        shades = [
            np.clip(np.array(self.mean) + step * np.array(self.std), 0, 1) for step in (-1, 0, 1)
        ]
        side = (self.columns.size, self.columns.size, 1)
        images = [np.tile((255 * shade).round().astype(np.uint8), side) for shade in shades]
        return self.question(pd.DataFrame({"image": pd.Series(images)}))


def _file(given: Any, name: str) -> bytes | np.ndarray:
    """A picture that was asked with: a file's bytes in base64 or as they are, or an array as a part holds it."""
    decoded = (
        isinstance(given, np.ndarray)
        and given.dtype == np.uint8
        and given.shape[2:] in ((), (1,), (3,))
    )
    if isinstance(given, bytes) or (decoded and given.size):
        return given
    try:
        text = given.rpartition(",")[2] if given.startswith("data:") else given
        return base64.b64decode("".join(text.split()), validate=True)
    except (AttributeError, ValueError):
        raise DataError(
            f"{name}: `image` is no base64; expected a picture's file in base64; correct the row"
        ) from None
