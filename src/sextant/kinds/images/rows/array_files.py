"""Pictures in arrays: .npy, .npz and IDX files, with an array of labels."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....errors import DataError
from ... import arrays
from ...levels import text_of
from ...parts import Label
from ..columns import ArrayPair, Arrays, Idx
from .pictures import Picture


def array_pictures(folder: Path, files: Arrays, white: float | None) -> list[Picture]:
    """The pictures of NumPy's files."""
    pictures = []
    for test, pairs in ((False, files.train), (True, files.test)):
        for pair in pairs:
            images_name = pair.images
            labels_name = pair.labels
            if pair.file is not None:
                images_name = f"{pair.file}/{images_name}"
                labels_name = f"{pair.file}/{labels_name}"
            images = arrays.as_pictures(
                arrays.read_numpy(folder, pair.file, pair.images), images_name, white
            )
            labels = arrays.read_numpy(folder, pair.file, pair.labels)
            pictures += paired(images_name, images, labels_name, _array_labels(labels, pair), test)
    return pictures


def idx_pictures(folder: Path, files: Idx) -> list[Picture]:
    """The pictures of IDX files, as MNIST has them."""
    pictures = []
    for test, pairs in ((False, files.train), (True, files.test)):
        for pair in pairs:
            images = arrays.read_idx(folder / pair.images, (3, 4))
            numbers = arrays.read_idx(folder / pair.labels, (1,)).tolist()
            labels = [str(number) for number in numbers]
            pictures += paired(pair.images, images, pair.labels, labels, test)
    return pictures


def paired(
    images_name: str, images: np.ndarray, labels_name: str, labels: Sequence[Label], test: bool
) -> list[Picture]:
    """Pictures with the sha256 of their pixels as keys; raises DataError for unequal numbers."""
    if len(images) != len(labels):
        raise DataError(
            f"{images_name} has {len(images):,} pictures, but {labels_name} has"
            f" {len(labels):,} labels; expected one label a picture; name the two of one set in"
            " `columns.files`"
        )
    pictures = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        key = hashlib.sha256(image.tobytes()).hexdigest()
        pictures.append(Picture(f"{images_name}/{i}", label, test, key, image))
    return pictures


def _array_labels(labels: np.ndarray, pair: ArrayPair) -> list[Label]:
    """The labels as text; raises DataError for an array that has not one for each picture."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{pair.labels} has the shape {labels.shape}; expected one label a picture; correct"
            " `columns.files` in the conf"
        )
    texts: list[Label] = []
    for i, label in enumerate(labels.tolist()):
        text = text_of(label.decode("utf-8", "replace") if isinstance(label, bytes) else label)
        if text is None:
            raise DataError(f"{pair.labels}/{i} is missing; expected a label; correct it")
        texts.append(text)
    return texts
