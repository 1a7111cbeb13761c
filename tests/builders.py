"""Small tables and pictures, and their columns, that several test files need."""

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from sextant.kinds.images.columns import Columns as PictureColumns
from sextant.kinds.splits import HashSplit, Shares
from sextant.kinds.tabular.columns import Columns as TableColumns

if TYPE_CHECKING:
    from sextant.saved_model import SavedModel

MIRROR = os.environ.get("SEXTANT_MIRROR")  # read on import, before a fixture clears the environment


def hash_split(train: float, val: float, gate: float, test: float, salt: int = 0) -> HashSplit:
    """A split by hash with these shares."""
    return HashSplit(
        by="hash", salt=salt, shares=Shares(train=train, val=val, gate=gate, test=test)
    )


# --- tables -------------------------------------------------------------------------------------


def table_columns(
    target: str | None,
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    key: str | None = None,
    ignored: Sequence[str] = (),
) -> TableColumns:
    """The columns of a CSV file with a header, in which only the empty cell is missing."""
    return TableColumns(
        key=key,
        target=target,
        ignored=list(ignored),
        numeric=list(numeric),
        categorical=list(categorical),
    )


ANIMAL_COLUMNS = table_columns(
    target="class",
    numeric=["height", "weight"],
    categorical=["colour", "shoes"],
    key="id",
    ignored=["note"],
)


def animal_table(rows: int = 211, seed: int = 7) -> pd.DataFrame:
    """Random cats and dogs in the columns ANIMAL_COLUMNS; nothing predicts the class."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": np.arange(1009, 1009 + rows),
            "note": "",
            "height": rng.normal(170, 11, rows).round(1),
            "colour": rng.choice(["red", "green", "blue"], rows),
            "weight": rng.integers(40, 97, rows),
            "shoes": rng.integers(36, 47, rows),
            "class": rng.choice(["cat", "dog"], rows),
        }
    )


def with_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """An `animal_table` in which every fifth height and every third colour is missing."""
    row = np.arange(len(rows))
    height = rows["height"].where(row % 5 != 0)
    colour = rows["colour"].where(row % 3 != 0)
    return rows.assign(height=height, colour=colour)


# The net and the card of `untrained_model`.
UNTRAINED_NET = {
    "bins": 3,
    "embedding_size": 5,
    "hidden_sizes": [7],
    "dropout": 0.2,
    "bodies": 1,
    "members": 2,
}
UNTRAINED_CARD: dict[str, Any] = {
    "family": "ann",
    "kind": "tabular",
    "task": "classification",
    "net": UNTRAINED_NET,
    "columns": ANIMAL_COLUMNS.model_dump(),
    "calibration": {"temperature": 1.5},
}


def untrained_model(seed: int = 3, **card: object) -> "SavedModel":
    """A classifier of animals with random weights; its encoder was fitted on `animal_table()`."""
    import torch

    from sextant import saved_model
    from sextant.kinds.tabular.encoder import Encoder

    encoder = Encoder.fit(animal_table(), ANIMAL_COLUMNS)
    torch.manual_seed(seed)
    net: Any = saved_model.build("ann", encoder.sizes, UNTRAINED_NET)
    net.initialise(encoder.encode(animal_table()))
    return saved_model.SavedModel({**UNTRAINED_CARD, **card}, net, encoder)


# --- pictures -----------------------------------------------------------------------------------


def picture_columns(index: bool = False, **changes: object) -> PictureColumns:
    """Cats and dogs in learn/ and exam/, prepared as squares of 11 pixels; with an index or not."""
    files = {"format": "folders", "train": ["learn"], "test": ["exam"], "index": None}
    if index:
        files["index"] = {"file": "index.csv", "key": "original"}
    block = {
        "files": files, "target": "animal", "channels": 3, "size": 11, "flat": 3, "smallest": 5,
    }  # fmt: skip
    return PictureColumns.model_validate(block | changes)


def picture_file(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The bytes of an image's file; the options are those of Pillow's writer."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def random_picture(seed: int, width: int = 17, height: int = 13, form: str = "PNG") -> bytes:
    """The file of a picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return picture_file(Image.fromarray(pixels), form)


def random_pictures(number: int = 41) -> dict[str, bytes]:
    """Pictures by path: cats and dogs, of which every fifth is in exam/, the others in learn/."""
    pictures = {}
    for i in range(number):
        place = "learn" if i % 5 else "exam"
        label = "cats" if i % 2 else "dogs"
        pictures[f"{place}/{label}/{i}.png"] = random_picture(i)
    return pictures


def write_zip(folder: Path, pictures: Mapping[str, bytes]) -> Path:
    """Write the files to pictures.zip in `folder`; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for path, raw in pictures.items():
            archive.writestr(path, raw)
    return folder


def write_files(folder: Path, pictures: Mapping[str, bytes]) -> Path:
    """Write the files below `folder`; return the folder."""
    for path, raw in pictures.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)
    return folder
