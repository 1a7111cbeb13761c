"""Pictures and their classes in IDX files and in NumPy's files: which arrays belong together."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sextant.errors import UsageError
from sextant.guess.picture_arrays import picture_arrays
from sextant.guess.pictures import Pictures

RNG = np.random.default_rng(5)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def codes(count: int, classes: int = 3) -> np.ndarray:
    return (np.arange(count) % classes).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    """The content of an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def guessed(path: Path, **options: str) -> Pictures:
    found = picture_arrays(path, options)
    assert found is not None and found.arrays is not None
    return found


def write_mnist(folder: Path, prefix: str = "") -> Path:
    """A miniature in the files of MNIST, one of them unpacked, with a text beside."""
    folder.mkdir(exist_ok=True)
    for part, count in (("train", 31), ("t10k", 12)):
        images = idx(noise(count, 28, 28))
        (folder / f"{prefix}{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{prefix}{part}-labels-idx1-ubyte").write_bytes(idx(codes(count)))
    (folder / "README.txt").write_text("digits")
    return folder


def test_the_files_of_mnist(tmp_path: Path) -> None:
    found = guessed(write_mnist(tmp_path / "mnist"))
    assert found.arrays is not None
    assert found.arrays.format == "idx"
    assert found.arrays.train == [
        {"images": "train-images-idx3-ubyte.gz", "labels": "train-labels-idx1-ubyte"}
    ]
    assert found.arrays.test == [
        {"images": "t10k-images-idx3-ubyte.gz", "labels": "t10k-labels-idx1-ubyte"}
    ]
    assert found.classes == {"0": 15, "1": 14, "2": 14}
    assert (found.trained, found.tested, found.side) == (31, 12, 28)
    assert found.grey and not found.photos
    assert "README.txt" not in found.files and len(found.files) == 4
    assert guessed(tmp_path / "mnist", size="16").side == 16


def test_two_sets_in_a_folder_are_not_mixed(tmp_path: Path) -> None:
    write_mnist(tmp_path / "emnist", "emnist-letters-")
    assert guessed(tmp_path / "emnist").trained == 31
    write_mnist(tmp_path / "emnist", "emnist-balanced-")
    with pytest.raises(UsageError, match="several sets of pictures: emnistbalanced, emnistletters"):
        guessed(tmp_path / "emnist")


@pytest.mark.parametrize(
    ("parts", "train", "test"),
    [
        ({"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}, 1, 1),
        ({"all": ("images", "labels")}, 1, 0),
        ({"all": ("X", "y")}, 1, 0),
        ({"train": ("train_images", "train_labels"), "val": ("val_images", "val_labels")}, 1, 1),
        (
            {
                "train": ("train_images", "train_labels"),
                "val": ("val_images", "val_labels"),
                "test": ("test_images", "test_labels"),
            },
            2,
            1,
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(28, 28), (64, 64, 3), (3, 64, 64), (9, 28, 1)], ids=str)
def test_the_arrays_of_an_npz_file(
    tmp_path: Path, parts: dict[str, tuple[str, str]], train: int, test: int, shape: tuple[int, ...]
) -> None:
    stored = {}
    for count, (images, labels) in enumerate(parts.values(), start=20):
        stored[images] = noise(count, *shape)
        stored[labels] = codes(count)[:, np.newaxis]
    path = tmp_path / "cells.npz"
    np.savez(path, **stored)
    found = guessed(path)
    assert found.arrays is not None and found.arrays.format == "arrays"
    assert (len(found.arrays.train), len(found.arrays.test)) == (train, test)
    listed = [*found.arrays.train, *found.arrays.test]
    assert [(entry["images"], entry["labels"]) for entry in listed] == list(parts.values())
    assert {entry["file"] for entry in listed} == {"cells.npz"} == set(found.files)
    assert found.grey == (3 not in shape) and found.photos == (3 in shape)


def test_numpys_files_in_a_folder_as_many_as_they_are(tmp_path: Path) -> None:
    """Both parts have the same number of pictures, so that names decide."""
    for part in ("train", "test"):
        np.save(tmp_path / f"x_{part}.npy", noise(20, 32, 32))
        np.save(tmp_path / f"y_{part}.npy", codes(20))
    found = guessed(tmp_path)
    assert found.arrays is not None
    assert found.arrays.train == [{"images": "x_train.npy", "labels": "y_train.npy"}]
    assert found.arrays.test == [{"images": "x_test.npy", "labels": "y_test.npy"}]


def test_one_of_several_classes_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "things.npz"
    np.savez(path, images=noise(20, 32, 32, 3), coarse=codes(20, 2), fine=codes(20, 5))
    found = guessed(path)
    assert len(found.doubts) == 1 and "(TARGET=" in found.doubts[0]
    assert len(guessed(path, target="fine").classes) == 5
    assert len(guessed(path, target="coarse").classes) == 2


def test_what_has_no_pictures_with_classes_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist")
    with pytest.raises(UsageError, match="is one array; .* name the folder of both"):
        picture_arrays(tmp_path / "mnist" / "train-images-idx3-ubyte.gz", {})
    path = tmp_path / "flat.npz"
    np.savez(path, X=RNG.random((20, 64)), y=codes(20))
    with pytest.raises(UsageError, match=r"no pictures with their classes, but X \(20, 64\), y"):
        picture_arrays(path, {})
    np.savez(path, x=noise(20, 32, 32), y=np.arange(20) * 0)
    with pytest.raises(UsageError, match="y has 1 classes; expected 2 to"):
        picture_arrays(path, {})
    np.savez(path, x=noise(20, 32, 32), y=np.array([None] * 20))
    with pytest.raises(UsageError, match="cannot be read as arrays"):
        picture_arrays(path, {})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no array")
    with pytest.raises(UsageError, match="flat.npz/notes.txt is no array of NumPy"):
        picture_arrays(path, {})
    (tmp_path / "tables").mkdir()
    np.save(tmp_path / "tables" / "weights.npy", RNG.random((3, 4)))
    assert picture_arrays(tmp_path / "tables", {}) is None
