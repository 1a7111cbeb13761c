"""Pictures and their classes as arrays: IDX files, as MNIST has them, and NumPy's files."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError, UsageError
from ..kinds import arrays
from ..kinds.levels import text_of
from . import pictures
from .pictures import MOST_CLASSES, ArrayFiles, Pictures

NUMPY_SUFFIXES = (".npz", ".npy")
LEAST_SIDE = 8  # pixels
# MNIST calls its files for testing t10k.
TEST = re.compile(r"test|t10k|holdout", re.IGNORECASE)
VAL = re.compile(r"val|dev(?![a-z])", re.IGNORECASE)
# What names of arrays have beside the name of their set: the part, and what is in the array.
NOT_OF_SET = re.compile(
    r"train(ing)?|test(ing)?|t10k|holdout|val(id(ation)?)?|dev|images?|labels?|imgs?|pictures?|data"
    r"|target|class(es)?|features|idx|ubyte|uint8|\bx|\by|x\b|y\b|[^a-z]",
    re.IGNORECASE,
)
SAMPLE = 60  # pictures that are looked at


class Array(NamedTuple):
    """An array as the conf names it; `file` is the .npz that it lies in."""

    file: str | None
    name: str
    values: np.ndarray

    @property
    def is_pictures(self) -> bool:
        """Whether these may be pictures: (pictures, height, width) with or without channels."""
        shape = self.values.shape
        if len(shape) == 4 and shape[3] not in (1, 3, 4) and shape[1] not in (1, 3, 4):
            return False
        is_number = self.values.dtype.kind in "buif"
        return len(shape) in (3, 4) and is_number and len(shape) > 2 and min(shape[1:]) > 0

    def may_label(self, images: "Array") -> bool:
        """Whether these may be the classes of pictures, one each."""
        shape = self.values.shape
        is_column = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        if not is_column or shape[0] != len(images.values) or self.file != images.file:
            return False
        return self.values.dtype.kind in "buiUS"

    @property
    def labels(self) -> list[str]:
        """The classes as text; "" for one that is missing."""
        texts = []
        for value in self.values.ravel().tolist():
            label = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            texts.append(text_of(label) or "")
        return texts


class Pair(NamedTuple):
    """Pictures and their classes."""

    images: Array
    labels: Array

    @property
    def conf(self) -> dict[str, str]:
        """The entry of `columns.files`."""
        entry: dict[str, str] = {}
        if self.images.file is not None:
            entry["file"] = self.images.file
        return {**entry, "images": self.images.name, "labels": self.labels.name}


def picture_arrays(path: Path, options: Mapping[str, str]) -> Pictures | None:
    """The pictures in an .npz file, or in the IDX files or NumPy's files of a folder; None if there
    are none.

    TARGET may name the array of the classes, and SIZE the side of the prepared pictures. Raises
    UsageError for pictures without classes.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.is_file() and file.name[0] != "."]
    else:
        files = [path]
    idx = [file for file in files if arrays.is_idx(file)]
    numpy = [file for file in files if file.suffix.lower() in NUMPY_SUFFIXES]
    if not idx and not numpy:
        return None
    if not path.is_dir() and path.suffix.lower() != ".npz":
        raise UsageError(
            f"{path} is one array; the pictures and their classes are two: name the folder of both"
        )
    try:
        stored = _idx_arrays(idx) if idx else _numpy_arrays(numpy)
    except DataError as error:
        raise UsageError(str(error)) from None
    if path.is_dir() and not any(array.is_pictures for array in stored):
        return None
    return _pictures(path, "idx" if idx else "arrays", stored, options)


def _idx_arrays(files: Sequence[Path]) -> list[Array]:
    stored = []
    for file in files:
        stored.append(Array(None, file.name, arrays.read_idx(file, (1, 3, 4))))
    return stored


def _numpy_arrays(files: Sequence[Path]) -> list[Array]:
    stored = []
    for file in files:
        if file.suffix.lower() == ".npy":
            values = arrays.read_numpy(file.parent, None, file.name)
            stored.append(Array(None, file.name, values))
            continue
        for name in arrays.names_of(file):
            stored.append(Array(file.name, name, arrays.read_numpy(file.parent, file.name, name)))
    return stored


def _pictures(
    path: Path, form: str, stored: Sequence[Array], options: Mapping[str, str]
) -> Pictures:
    doubts: list[str] = []
    pairs = _pairs(path, stored, options.get("target"), doubts)
    train, test = _train_and_test(pairs, doubts)
    classes: Counter[str] = Counter()
    for pair in pairs:
        classes.update(pair.labels.labels)
    trained = {label for pair in train for label in pair.labels.labels}
    if not 2 <= len(classes) <= MOST_CLASSES or "" in classes or set(classes) - trained:
        raise UsageError(
            f"{path}: {', '.join(pair.labels.name for pair in pairs)} has {len(classes)} classes;"
            f" expected 2 to {MOST_CLASSES}, none empty, and in the test part no others; name the"
            " array of the classes with TARGET=…"
        )
    sides = []
    grey = True
    for pair in pairs:
        shape = pair.images.values.shape
        height, width = shape[1:3] if len(shape) == 3 or shape[3] <= 4 else shape[2:4]
        sides.append(min(height, width))
        grey = grey and _is_grey(pair.images.values)
    photos = not (grey and max(sides) <= 40)
    if not photos:
        doubts.append(
            "a mirrored picture may be another class: `mirror` is off in the model's conf"
        )
    return Pictures(
        train=[pair.images.name for pair in train],
        test=[pair.images.name for pair in test],
        ignored=[],
        pattern=None,
        classes=dict(sorted(classes.items())),
        tested=sum(len(pair.labels.values) for pair in test),
        side=int(options["size"]) if "size" in options else pictures.side(sides),
        grey=grey,
        shortest=min(sides),
        photos=photos,
        doubts=doubts,
        arrays=ArrayFiles(form, [pair.conf for pair in train], [pair.conf for pair in test]),
        label=train[0].labels.name,
    )


def _pairs(
    path: Path, stored: Sequence[Array], target: str | None, doubts: list[str]
) -> list[Pair]:
    """Each array of pictures with that of its classes: as many, and of the likest name."""
    named = [array for array in stored if array.name == target]
    pairs = []
    for images in stored:
        if not images.is_pictures:
            continue
        labels = [array for array in stored if array.may_label(images)]
        labels = [array for array in labels if array in named] or labels
        if not labels:
            doubts.append(f"{images.name} has no classes: left aside")
            continue
        labels.sort(key=lambda array: -SequenceMatcher(None, images.name, array.name).ratio())
        if len(labels) > 1 and not named and _set(labels[0]) != _set(labels[1]):
            doubts.append(f"the classes are {labels[0].name} (TARGET={labels[1].name})")
        pairs.append(Pair(images, labels[0]))
    if not pairs:
        listed = ", ".join(f"{array.name} {array.values.shape}" for array in stored)
        raise UsageError(
            f"{path} has no pictures with their classes, but {listed or 'no array'}; expected"
            " numbers as (pictures, height, width), with or without channels, and one label each"
        )
    sets = sorted({_set(pair.images) for pair in pairs})
    if len(sets) > 1:
        raise UsageError(
            f"{path} has several sets of pictures: {', '.join(sets)}; put the files of one into a"
            " folder, and name it"
        )
    return pairs


def _set(array: Array) -> str:
    """The name of the set that an array belongs to, such as `letters`; mostly empty."""
    return NOT_OF_SET.sub("", Path(array.name).stem).lower()


def _train_and_test(pairs: list[Pair], doubts: list[str]) -> tuple[list[Pair], list[Pair]]:
    """The pairs to train on, and those that the source reserves for testing."""
    test = [pair for pair in pairs if TEST.search(pair.images.name)]
    train = [pair for pair in pairs if pair not in test]
    if not train:
        return test, []
    val = [pair for pair in train if VAL.search(pair.images.name)]
    names = ", ".join(pair.images.name for pair in val)
    if val and not test and len(train) > len(val):
        doubts.append(f"{names} is the test part")
        return [pair for pair in train if pair not in val], val
    if val and train != val:
        doubts.append(f"{names} is trained on as well: val is chosen by hash")
    return train, test


def _is_grey(values: np.ndarray) -> bool:
    """Whether pictures have one channel, or equal ones in a sample."""
    if values.ndim == 3:
        return True
    last = arrays.channels_last(values[:: max(1, len(values) // SAMPLE)], "")
    colours = last[..., :3]
    return bool((colours == colours[..., :1]).all())
