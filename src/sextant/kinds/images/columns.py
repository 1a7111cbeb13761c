"""The block `columns` of conf/dataset/<name>.yaml for pictures."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ...strict import Strict

SPLITS = ("hash",)

# The columns that `table` derives from each picture, for the expectations.
FACTS = ("width", "height", "channels", "decodable", "bytes", "sha256", "dhash", "lookalike")


class Index(Strict):
    """A CSV beside the pictures, with their `path` and, in the column that `key` names, their key.

    The key identifies a picture however it is encoded, so that two sources of the same pictures
    split alike.
    """

    file: str
    key: str


class Folders(Strict):
    """Pictures as <folder>/<class>/<file>, loose or in a zip.

    `test` are the folders that the source reserves for testing. Without an index the key of a
    picture is the sha256 of its file.
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
    """IDX files; `test` are those that the source reserves for testing."""

    format: Literal["idx"]
    train: Annotated[list[Pair], Field(min_length=1)]
    test: list[Pair]


class Columns(Strict):
    """The block `columns` of pictures: where the files are, and how they are prepared.

    files: folders by class, or IDX files.
    target: the name of the label.
    channels: 1 (grey) or 3 (RGB).
    size: side of the prepared square, in pixels.
    flat: side for a baseline that reads single pixels, in pixels.
    smallest: a picture with a shorter side is refused, in pixels.
    """

    files: Annotated[Folders | Idx, Field(discriminator="format")]
    target: str
    channels: Literal[1, 3]
    size: Annotated[int, Field(ge=8, le=1024)]
    flat: Annotated[int, Field(ge=1)]
    smallest: Annotated[int, Field(ge=2)]

    @property
    def key(self) -> str:
        return "key"

    @property
    def all(self) -> list[str]:
        """The columns of `table`."""
        return ["path", self.target, "test", self.key, *FACTS]


def input_file(columns: Columns, folder: Path) -> Path | None:
    """The folder of the raw files, which has the pictures loose or in archives.

    None for IDX files: `make predict` takes pictures.
    """
    return folder if isinstance(columns.files, Folders) else None
