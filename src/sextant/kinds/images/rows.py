"""Pictures as rows: read, decoded to squares, split into four parts and written."""

import base64
import gzip
import hashlib
import io
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from ...errors import DataError
from ...files import RECEIPT
from ...terminal import progress
from ..parts import PARTS
from ..splits import parts_by_hash

if TYPE_CHECKING:
    pass
from ..parts import check_labelled_parts
from ..tables import read_table
from .columns import Columns, Folders, Idx

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
        images[i] = square(one, columns, raw["path"].iloc[i])
    return raw.assign(image=list(images))


def square(raw: bytes | np.ndarray, columns: Columns, name: str) -> np.ndarray:
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


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError where a picture lies in two parts, or a part has no picture or lacks a class."""
    check_labelled_parts(parts, columns.key, columns.target)


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


def write_inputs(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows of a part as any champion is asked with them: `image` in base64."""
    pd.DataFrame({"image": to_base64(rows)}).to_parquet(path, index=False)


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, Any]:
    """What a reader asks of the training pictures: how many of each class, and their colours."""
    train = parts["train"]
    counts = train[columns.target].value_counts().sort_index()
    mean, std = channel_statistics(train, columns)
    return {
        "columns": {
            columns.target: {str(label): int(n) for label, n in counts.items()},
            "image": {
                "size": columns.size,
                "channels": columns.channels,
                "mean": mean,
                "std": std,
            },
        },
        "classes": sorted(train[columns.target].unique().tolist()),
    }


def channel_statistics(rows: pd.DataFrame, columns: Columns) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in 0..1.

    Pixels are counted by their level, so that the order of the pictures does not change a digit.
    """
    counts = np.zeros((columns.channels, 256), np.int64)
    for image in rows["image"]:
        for channel in range(columns.channels):
            counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt(shares @ levels**2 - mean**2)
    std = np.where(std > 1e-3, std, 1)  # a channel of one level is only centred
    return [round(float(x), 6) for x in mean], [round(float(x), 6) for x in std]


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    _image(image).save(file, "PNG")
    return file.getvalue()


def to_base64(rows: pd.DataFrame) -> list[str]:
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
        return pd.DataFrame({"path": [path.name], "image": [read_bytes_of(path, "")]})
    rows = read_table(path, ",", None, None, ["path", "image"])
    if "path" in rows and "image" not in rows:
        rows["image"] = [
            read_bytes_of(path.parent / str(name), f"row {i}: ")
            for i, name in enumerate(rows["path"], start=1)
        ]
    return rows


def read_bytes_of(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{where}{path} cannot be read ({error.strerror}); name a picture that is there"
        ) from None
