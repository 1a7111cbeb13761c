"""Pictures as rows: read, decoded to squares, split into four parts and written.

A picture is cut to its largest centred square and scaled to `size` pixels, in training and when it
is answered, so the aspect ratio is kept.
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
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from ...errors import DataError
from ...files import RECEIPT
from ...terminal import progress
from ..parts import PARTS, Label, check_labelled_parts, class_labels
from ..splits import HashSplit, parts_by_hash
from ..tables import read_table
from .columns import Columns, Folders, Idx

MODES = {1: "L", 3: "RGB"}  # Pillow's mode by number of channels
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
MAX_BYTES = 2**26  # of one file in a zip; a larger one is not unpacked

# Two pictures look alike if their 64-bit fingerprints differ in at most so many bits. Of the 10,000
# real pets, 3 gives seven pairs, all of them true; 4 adds false ones.
MAX_DIFFERENT_BITS = 3
PAIRS_AT_ONCE = 2**20  # fingerprints are compared in chunks, which bounds the memory

# The content of a picture: the bytes of its file; uint8 (height, width[, channels]) from IDX files.
Content: TypeAlias = bytes | np.ndarray


class Picture(NamedTuple):
    """One row of `read`."""

    path: str
    label: Label
    test: bool  # whether the source reserves it for testing
    key: str | None  # None: the index does not list it
    raw: Content


# --- read: folders and zips ---------------------------------------------------------------------


def read(folder: Path, columns: Columns) -> pd.DataFrame:
    """Return one row a picture, sorted by path: `path`, the class, `test`, `key` and `raw`.

    `raw` is the file's bytes, or an array from an IDX file: uint8 (height, width) or (height,
    width, channels). Nothing is decoded yet.
    Raises DataError for a file that is missing, cannot be opened, or has a path outside its folder.
    """
    if isinstance(columns.files, Idx):
        pictures = _idx_pictures(folder, columns.files)
    else:
        pictures = _folder_pictures(folder, columns.files)
    if not pictures:
        raise DataError(
            f"{folder} has no pictures in the folders of `columns.files`; run `make pull`, or"
            " correct `columns.files` in the conf"
        )
    return pd.DataFrame(pictures, columns=["path", columns.target, "test", "key", "raw"])


def _folder_pictures(folder: Path, files: Folders) -> list[Picture]:
    keys = _index_keys(folder, files)
    places = [*files.train, *files.test]
    pictures = []
    classes: set[tuple[str, str]] = set()
    classes_with_pictures: set[tuple[str, str]] = set()
    for path, raw in sorted(_members(folder, files), key=lambda member: member[0]):
        place_and_label = _place_and_label(path, places)
        if place_and_label is None:
            if raw is not None and _is_picture(path):
                expected = ", ".join(f"{place}/<class>/" for place in places)
                raise DataError(
                    f"{path} is outside {expected}; move it there, or add its folder to"
                    " `columns.files` in the conf"
                )
            continue
        classes.add(place_and_label)
        if raw is not None:
            classes_with_pictures.add(place_and_label)
            place, label = place_and_label
            key = hashlib.sha256(raw).hexdigest() if keys is None else keys.get(path)
            pictures.append(Picture(path, label, place in files.test, key, raw))
    for place, label in sorted(classes - classes_with_pictures):
        raise DataError(f"class {label} of {place} has no pictures; add some, or remove its folder")
    if files.index and keys:
        _check_complete(pictures, keys, files.index.file)
    return pictures


def _check_complete(pictures: list[Picture], keys: dict[str, str | None], index_file: str) -> None:
    """Raise DataError if the index lists pictures that do not exist.

    A set that lost the same share of each class would otherwise pass as a small one.
    """
    missing = sorted(keys.keys() - {picture.path for picture in pictures})
    if missing:
        raise DataError(
            f"{index_file} lists {len(missing):,} pictures that do not exist, first {missing[0]};"
            " run `make pull`, or remove them from the index"
        )


def _index_keys(folder: Path, files: Folders) -> dict[str, str | None] | None:
    """The key of each path in the index, None if the cell is empty; None without an index."""
    if files.index is None:
        return None
    path = folder / files.index.file
    if not path.is_file():
        raise DataError(f"{path.name}, the index of the pictures, does not exist; run `make pull`")
    index = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name in ("path", files.index.key):
        if name not in index:
            raise DataError(
                f"{path.name} lacks column {name}; found {', '.join(map(str, index))}; correct it,"
                " or change `columns.files.index` in the conf"
            )
    keys = {}
    for place, key in zip(index["path"], index[files.index.key], strict=True):
        keys[place] = key or None
    return keys


def _members(folder: Path, files: Folders) -> Iterator[tuple[str, bytes | None]]:
    """Yield path and bytes of all files in `folder` and its zips, except hidden ones.

    The bytes of a folder are None.
    """
    not_data = {RECEIPT}
    if files.index:
        not_data.add(files.index.file)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name in not_data or _is_hidden(name):
            continue
        if path.is_dir():
            yield f"{name}/", None
        elif path.suffix == ".zip":
            yield from _zip_members(path)
        else:
            yield name, path.read_bytes()


def _zip_members(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Yield path and bytes of all files in a zip, except hidden ones.

    The bytes of a folder are None. Raises DataError for a zip that is incomplete, or has a path
    outside its folder.
    """
    remedy = "pull it again, or recreate it"
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename
                if _is_outside(name):
                    raise DataError(
                        f"{path.name} contains {name!r}, a path outside its folder; {remedy}"
                    )
                if member.file_size > MAX_BYTES:
                    raise DataError(
                        f"{path.name} contains {name}, {member.file_size:,} bytes; expected at most"
                        f" {MAX_BYTES:,}; remove it"
                    )
                if not _is_hidden(name):
                    yield name, None if member.is_dir() else archive.read(member)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,  # a password is needed
        NotImplementedError,  # an unknown compression
        ValueError,
    ) as error:
        raise DataError(f"{path.name} is not a complete zip file ({error}); {remedy}") from None


def _is_outside(name: str) -> bool:
    """Whether a path in a zip would be written outside the folder that it is unpacked to."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name


def _is_hidden(name: str) -> bool:
    """Whether a path is hidden, or one of those that macOS and Windows add."""
    path = PurePosixPath(name)
    if path.name in ("_DS_Store", "Thumbs.db"):
        return True
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _is_picture(name: str) -> bool:
    """Whether a file is a picture by its name."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _place_and_label(path: str, places: list[str]) -> tuple[str, str] | None:
    """The folder of `places` and the class that a path is in; None if it is in no class."""
    for place in places:
        if place == ".":
            inside = path
        elif path.startswith(f"{place}/"):
            inside = path.removeprefix(f"{place}/")
        else:
            continue
        label, slash, _ = inside.partition("/")
        if slash and label:
            return place, label
    return None


# --- read: IDX files ----------------------------------------------------------------------------


def _idx_pictures(folder: Path, files: Idx) -> list[Picture]:
    pictures = []
    for test, pairs in ((False, files.train), (True, files.test)):
        for pair in pairs:
            images = _read_idx(folder / pair.images, (3, 4))
            labels = _read_idx(folder / pair.labels, (1,))
            if len(images) != len(labels):
                raise DataError(
                    f"{pair.images} has {len(images):,} pictures, but {pair.labels} has"
                    f" {len(labels):,} labels; expected one label a picture; name the two files of"
                    " one set in `columns.files`"
                )
            for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                key = hashlib.sha256(image.tobytes()).hexdigest()
                pictures.append(Picture(f"{pair.images}/{i}", label, test, key, image))
    return pictures


def _read_idx(path: Path, dimensions: tuple[int, ...]) -> np.ndarray:
    """The array in an IDX file, plain or gzipped, with one of these numbers of dimensions.

    The format of MNIST (yann.lecun.com/exdb/mnist): 0, 0, 8 for unsigned bytes, the number of
    dimensions, each dimension as a big-endian 32-bit number, the bytes.
    """
    remedy = "pull it again, or correct `columns.files` in the conf"
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except FileNotFoundError:
        raise DataError(f"{path.name} does not exist; {remedy}") from None
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path.name} is not a complete gzip file ({error}); {remedy}") from None
    if raw[:3] != b"\0\0\x08" or len(raw) < 4 or raw[3] not in dimensions:
        expected = " or ".join(f"0000080{number}" for number in dimensions)
        raise DataError(
            f"{path.name} begins with {raw[:4].hex() or 'nothing'}; expected an IDX file of bytes,"
            f" {expected}; {remedy}"
        )
    start = 4 + 4 * raw[3]
    shape = []
    for position in range(4, start, 4):
        shape.append(int.from_bytes(raw[position : position + 4], "big"))
    # dtype=object: Python's integers, since the product of a damaged header may exceed 64 bits.
    if len(raw) - start != np.prod(shape, dtype=object):
        raise DataError(
            f"{path.name} has {len(raw) - start:,} bytes of pixels or labels; expected"
            f" {' x '.join(map(str, shape))}; {remedy}"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


# --- decode -------------------------------------------------------------------------------------


def _decoded(raw: Content) -> Image.Image:
    """A picture, turned upright by its EXIF orientation; raises ValueError with the reason."""
    if isinstance(raw, np.ndarray):
        is_grey = raw.shape[2:] == (1,)
        return Image.fromarray(raw[..., 0] if is_grey else raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(raw))
            image.load()
            return ImageOps.exif_transpose(image)
        except Exception as error:  # Pillow's thirty decoders raise errors of many types
            reason = str(error)
            if "identify" in reason:  # "cannot identify image file <_io.BytesIO object at 0x…>"
                reason = "unknown format"
            raise ValueError(reason) from None


def square(raw: Content, columns: Columns, name: str) -> np.ndarray:
    """Return the largest centred square of a picture, scaled: uint8 (size, size, channels).

    Raises DataError, beginning with `name`, for a picture that cannot be decoded or is too small.
    """
    try:
        image = _decoded(raw)
    except ValueError as error:
        raise DataError(
            f"{name} cannot be decoded as a picture ({error}); replace it, or remove it"
        ) from None
    width, height = image.size
    short = min(width, height)
    if short < columns.smallest:
        raise DataError(
            f"{name} is {width} x {height} pixels; expected at least {columns.smallest} on the"
            " short side; replace it, or remove it"
        )
    left = (width - short) / 2
    top = (height - short) / 2
    scaled = image.convert(MODES[columns.channels]).resize(
        (columns.size, columns.size),
        Image.Resampling.BICUBIC,
        box=(left, top, left + short, top + short),
    )
    return np.asarray(scaled).reshape(columns.size, columns.size, columns.channels)


def png(image: np.ndarray) -> bytes:
    """Return an image as a PNG file, which decodes to the same pixels."""
    file = io.BytesIO()
    _decoded(image).save(file, "PNG")
    return file.getvalue()


# --- the table of the expectations --------------------------------------------------------------


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the facts of each picture: size, whether it decodes, digest, and fingerprint.

    `dhash` is a 64-bit fingerprint (Krawetz 2013): whether each of 8 x 8 grey pixels is darker than
    its right neighbour, as hexadecimal. `lookalike`: whether another picture's fingerprint differs
    in at most MAX_DIFFERENT_BITS bits.
    """
    contents = progress(raw["raw"].tolist(), "checking", "pictures")
    facts = pd.DataFrame([_facts(content) for content in contents], index=raw.index)
    facts["lookalike"] = _has_lookalike(facts["dhash"])
    return pd.concat([raw.drop(columns="raw"), facts], axis=1)[columns.all]


def _facts(raw: Content) -> dict[str, bool | int | str | None]:
    content = raw.tobytes() if isinstance(raw, np.ndarray) else raw
    facts: dict[str, bool | int | str | None] = {
        "width": None,
        "height": None,
        "channels": None,
        "decodable": False,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "dhash": None,
    }
    try:
        image = _decoded(raw)
    except ValueError:
        return facts
    facts["width"], facts["height"] = image.size
    facts["channels"] = len(image.getbands())
    facts["decodable"] = True
    facts["dhash"] = _dhash(image)
    return facts


def _dhash(image: Image.Image) -> str:
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), int)
    is_brighter = grey[:, 1:] > grey[:, :-1]
    return np.packbits(is_brighter).tobytes().hex()


def _has_lookalike(dhash: pd.Series) -> np.ndarray:
    """Whether another fingerprint is near, shape (rows,) bool; False if there is none."""
    is_present = dhash.notna().to_numpy()
    fingerprints = np.array([int(digits, 16) for digits in dhash[is_present]], np.uint64)
    number_of_chunks = max(1, len(fingerprints) ** 2 // PAIRS_AT_ONCE)
    near = []
    for chunk in np.array_split(fingerprints, number_of_chunks):
        different_bits = np.bitwise_count(chunk[:, None] ^ fingerprints)
        # More than one, since each fingerprint is near itself.
        near.append((different_bits <= MAX_DIFFERENT_BITS).sum(1) > 1)
    has_lookalike = np.zeros(len(dhash), bool)
    has_lookalike[is_present] = np.concatenate(near)
    return has_lookalike


# --- four parts ---------------------------------------------------------------------------------


def repair(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the rows of `read` with a column `image`, uint8 (size, size, channels).

    Raises DataError for a picture that does not decode or is too small, or is not in the index.
    """
    unlisted = raw["path"][raw["key"].isna()]
    if len(unlisted):
        raise DataError(
            f"{len(unlisted)} pictures, first {unlisted.iloc[0]}, are not in the index; add them"
        )
    images = np.empty((len(raw), columns.size, columns.size, columns.channels), np.uint8)
    contents = progress(raw["raw"].tolist(), "decoding", "pictures")
    for i, (content, path) in enumerate(zip(contents, raw["path"], strict=True)):
        images[i] = square(content, columns, path)
    return raw.assign(image=list(images))


def split(rows: pd.DataFrame, columns: Columns, split: HashSplit) -> dict[str, pd.DataFrame]:
    """Return the four parts: test is what the source reserves for testing, the rest is split by a
    salted hash of the key.

    Rows are sorted by key, which mixes the classes. The rows of the gate keep the files, because a
    champion answers these, whatever size of square it was trained on.
    """
    rows = rows.sort_values(["key", "path"], ignore_index=True)
    part_index = parts_by_hash(rows["key"], split)
    part_index = np.where(rows["test"], PARTS.index("test"), part_index)
    parts = {}
    for index, part in enumerate(PARTS):
        parts[part] = rows[part_index == index].reset_index(drop=True)
        if part != "gate":
            parts[part] = parts[part].drop(columns="raw")
    return parts


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError if a picture is in two parts, or a part has no picture of some class."""
    check_labelled_parts(parts, columns.key, columns.target)


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part: the images to `path`.npy, the rest to `path`.parquet.

    A .npy file can be mapped into memory, so that a large set need not fit.
    """
    np.save(path.with_suffix(".npy"), np.stack(rows["image"].tolist()))
    facts = rows.drop(columns="image")
    if "raw" in facts:
        facts["raw"] = [_file_of(raw) for raw in facts["raw"]]
    facts.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Return a part that `write` wrote; an image is read from the disk when it is used."""
    images = np.load(path.with_suffix(".npy"), mmap_mode="r")
    return pd.read_parquet(path.with_suffix(".parquet")).assign(image=list(np.asarray(images)))


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """Return a summary of the training pictures as JSON: counts by class, and their colours.

    `mean` and `std` are by channel, in 0..1; `classes` are the labels.
    """
    train = parts["train"]
    counts = train[columns.target].value_counts().sort_index()
    mean, std = channel_statistics(train, columns)
    image = {"size": columns.size, "channels": columns.channels, "mean": mean, "std": std}
    return {
        "columns": {
            columns.target: {str(label): int(count) for label, count in counts.items()},
            "image": image,
        },
        "classes": class_labels(train, columns.target),
    }


def channel_statistics(rows: pd.DataFrame, columns: Columns) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel, in 0..1, to six digits.

    Pixels are counted by level, in whole numbers, so the order of the pictures cannot change a
    digit.
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


# --- input rows ---------------------------------------------------------------------------------


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Return input rows: a folder, a zip, one picture, or a table with `path` or base64 in `image`.

    The frame has `path` and, where files were read, their bytes as `image`. A path in a table is
    relative to the folder of the table.
    Raises DataError for a file that does not exist or cannot be read.
    """
    if path.is_dir() or path.suffix == ".zip":
        return _read_folder(path)
    if _is_picture(path.name):
        return pd.DataFrame({"path": [path.name], "image": [read_picture(path)]})
    rows = read_table(path, ",", None, None, ["path", "image"])
    if "path" in rows and "image" not in rows:
        contents = []
        for number, name in enumerate(rows["path"], start=1):
            contents.append(read_picture(path.parent / str(name), f"row {number}: "))
        rows["image"] = contents
    return rows


def _read_folder(path: Path) -> pd.DataFrame:
    if path.is_dir():
        everything = Folders(format="folders", train=["."], test=[], index=None)
        members = _members(path, everything)
    else:
        members = _zip_members(path)
    pictures = []
    for name, raw in members:
        if raw is not None and _is_picture(name):
            pictures.append((name, raw))
    if not pictures:
        raise DataError(
            f"{path} has no pictures ({', '.join(sorted(SUFFIXES))}); name a folder that has some"
        )
    return pd.DataFrame(sorted(pictures), columns=["path", "image"])


def read_picture(path: Path, where: str = "") -> bytes:
    """Return the bytes of a picture's file; raise DataError, beginning with `where`, if it cannot
    be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{where}{path} cannot be read ({error.strerror}); name a picture that exists"
        ) from None


def write_inputs(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows of a part as input of any champion: `image` in base64."""
    pd.DataFrame({"image": to_base64(rows)}).to_parquet(path, index=False)


def to_base64(rows: pd.DataFrame) -> list[str]:
    """Return each picture's file in base64; a prepared square as PNG if there is no file."""
    contents = rows["raw"] if "raw" in rows else rows["image"]
    return [base64.b64encode(_file_of(content)).decode() for content in contents]


def _file_of(content: Content) -> bytes:
    return png(content) if isinstance(content, np.ndarray) else content
