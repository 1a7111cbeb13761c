"""The block `columns` of conf/dataset/<name>.yaml for pictures."""

import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ...strict import Strict
from ..formats import Encoding, Format

SPLITS = ("hash",)

# The columns that `table` derives from each picture, for the expectations.
FACTS = (
    "width",
    "height",
    "channels",
    "decodable",
    "bytes",
    "sha256",
    "dhash",
    "lookalike",
    "alike",
    "plain",
)


def _place(name: str) -> str:
    """A folder as the paths of pictures have it: in NFC, without a slash at its end."""
    return unicodedata.normalize("NFC", PurePosixPath(name).as_posix())


def _class_pattern(pattern: str) -> str:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"expected a regular expression ({error})") from None
    if compiled.groups != 1 and "class" not in compiled.groupindex:
        raise ValueError(
            "expected the class in parentheses, such as ^(cat|dog) for cat.0.jpg; of several"
            " groups, name it (?P<class>...)"
        )
    return pattern


def _as_list(value: object) -> object:
    """A word as a list of one, and null as an empty list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _one_as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


Place = Annotated[str, AfterValidator(_place)]
Places = Annotated[list[Place], BeforeValidator(_as_list)]
Names = Annotated[list[str], BeforeValidator(_as_list)]
Length = Annotated[int, Field(ge=1)]


class Index(Strict):
    """A CSV beside the pictures, with their `path` and, in the column that `key` names, their key.

    The key identifies a picture however it is encoded, so that two sources of the same pictures
    split alike.
    """

    file: str
    key: str


class Labels(Format):
    """CSV files beside the pictures or among them, with the path and the class of each picture.

    file: their names or patterns, such as `train/*/GT-*.csv`.
    path: the column of the path, with its suffix or without. The column of the class is `target`.
    folder: the folder that the paths begin in, of whose pictures alone these are the classes; null:
        the folder of the CSV, that of the pictures in `train` and `test`, or the top.
    """

    file: Annotated[list[Place], BeforeValidator(_as_list), Field(min_length=1)]
    path: str = "path"
    folder: Place | None = None


class Folders(Strict):
    """Pictures in folders, loose or in archives: <folder>/<class>/<file>.

    train: the folders, `.` for the top.
    test: the folders that the source reserves for testing.
    ignored: folders that are passed over.
    pattern: a regular expression that finds the class in the path below the folder, for pictures
        that are not in a folder of their class.
    labels: CSV files with the classes, likewise; one block or a list of them.
    index: a CSV with the keys; without one the key of a picture is the sha256 of its file.
    """

    format: Literal["folders"]
    train: Annotated[list[Place], BeforeValidator(_as_list), Field(min_length=1)] = ["."]
    test: Places = []
    ignored: Places = []
    pattern: Annotated[str, AfterValidator(_class_pattern)] | None = None
    labels: Annotated[list[Labels], BeforeValidator(_one_as_list)] | None = None
    index: Index | None = None

    @model_validator(mode="after")
    def one_source_of_classes(self) -> Self:
        if self.pattern is not None and self.labels is not None:
            raise ValueError("the class is named by both `pattern` and `labels`; expected one")
        return self


class Pair(Strict):
    """Two IDX files, plain or gzipped: pictures, and their labels in the same order."""

    images: str
    labels: str


class Idx(Strict):
    """IDX files; `test` are those that the source reserves for testing."""

    format: Literal["idx"]
    train: Annotated[list[Pair], Field(min_length=1)]
    test: list[Pair] = []


class ArrayPair(Strict):
    """Pictures and their labels as two arrays.

    file: the .npz file in which `images` and `labels` are the names of the arrays; null: they are
        the names of two .npy files.
    """

    file: str | None = None
    images: str
    labels: str


class Arrays(Strict):
    """NumPy's files; `test` are the arrays that the source reserves for testing.

    The shape of `images` is (pictures, height, width), or has a further axis of 1, 3 or 4 channels
    at its end or after the first.
    """

    format: Literal["arrays"]
    train: Annotated[list[ArrayPair], Field(min_length=1)]
    test: list[ArrayPair] = []


class Pixels(Format):
    """Tables with one row a picture and a column for each pixel; `target` is the label's column.

    train, test: the files.
    pixels: a pattern of the columns. If all names end with a number, these give the order of the
        pixels, otherwise the place in the file does.
    shape: height and width, and the number of channels before or after them; null: a grey square.
    """

    format: Literal["pixels"]
    train: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
    test: Names = []
    pixels: str = "pixel*"
    shape: Annotated[list[Length], Field(min_length=2, max_length=3)] | None = None


class Columns(Strict):
    """The block `columns` of pictures: where the files are, and how they are prepared.

    files: folders by class, IDX files, arrays, or tables of pixels.
    target: the name of the label.
    positive: the class that `probability` of an answer is about; null: the last in sorted order.
    channels: 1 (grey) or 3 (RGB).
    size: side of the prepared square, in pixels.
    flat: side for a baseline that reads single pixels, in pixels.
    smallest: a picture with a shorter side is refused, in pixels.
    ground: the colour under transparent pixels.
    white: the value of a pixel that is white, where pixels have more than 8 bits or are numbers in
        an array or a table; null: by their type, see pixels.white_of.
    names_encoding: of names in a zip that are not marked as UTF-8; null: UTF-8 where a name is, and
        otherwise code page 437.
    leave_out: `undecodable`: pictures that cannot be decoded are left out; `repeated`: pictures for
        training that are also among those for testing are left out.
    undecodable_share: more undecodable pictures are refused all the same, as a share of all.
    """

    files: Annotated[Folders | Idx | Arrays | Pixels, Field(discriminator="format")]
    target: str
    channels: Literal[1, 3] = 3
    size: Annotated[int, Field(ge=8, le=1024)]
    flat: Annotated[int, Field(ge=1)] = 8
    smallest: Annotated[int, Field(ge=2)] = 16
    ground: Annotated[str, Field(pattern=r"^(white|black|gray|grey|#[0-9a-fA-F]{6})$")] = "white"
    white: Annotated[float, Field(gt=0)] | None = None
    names_encoding: Encoding | None = None
    leave_out: Annotated[list[Literal["undecodable", "repeated"]], BeforeValidator(_as_list)] = []
    undecodable_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    positive: bool | int | float | str | None = None

    @property
    def key(self) -> str:
        return "key"

    @property
    def all(self) -> list[str]:
        """The columns of `table`."""
        return ["path", self.target, "test", self.key, *FACTS]


def input_file(columns: Columns, folder: Path) -> Path:
    """The folder of the raw files, which has the pictures loose or in archives, or one file."""
    files = columns.files
    if isinstance(files, Folders):
        return folder
    if isinstance(files, Pixels):
        return folder / (files.test or files.train)[0]
    if isinstance(files, Arrays):
        pair = (files.test or files.train)[0]
        return folder / (pair.file or pair.images)
    return folder / (files.test or files.train)[0].images
