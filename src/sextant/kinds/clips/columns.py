"""The block `columns` of conf/dataset/<name>.yaml for clips, short films of equal length."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ...strict import Strict
from ..formats import Format
from ..parts import Label

SPLITS = ("hash",)
PACKAGES = ("av",)  # PyAV reads films such as MP4

# The columns that `table` derives from each clip, for the expectations.
FACTS = ("frames", "width", "height", "channels", "readable", "still", "sha256")


def _as_list(value: object) -> object:
    """A word as a list of one, and null as an empty list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_as_list)]
Length = Annotated[int, Field(ge=1)]


class Labels(Format):
    """A CSV beside the clips with the path and the class of each; `target` is the class's column.

    path: the column of the path: of the folder of frames, or of the file with its suffix or not.
    """

    file: str
    path: str = "path"


class Folders(Strict):
    """Clips in folders, loose or in archives: each is a folder of frames, a GIF or a film (MP4).

    train: the folders, `.` for the top.
    test: the folders that the source reserves for testing.
    labels: a CSV with the classes; null: the class is the first folder below those of `train` and
        `test`, if the conf names a `target`.
    """

    format: Literal["folders"]
    train: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)] = ["."]
    test: Names = []
    labels: Labels | None = None


class Digits(Strict):
    """Clips made while reading: pictures of IDX files move over a black frame and bounce.

    The procedure is that of Moving MNIST (Srivastava et al., "Unsupervised Learning of Video
    Representations using LSTMs", ICML 2015): see rows/digits.py.

    train, test: the IDX files of pictures; those of `test` make the test part.
    clips: the number of clips for each picture of a file.
    digits: the number of pictures in a clip.
    step: how far one moves from frame to frame, as a share of the room that it has.
    room: the side of the frame, in sides of a picture; rounded to a multiple of 4 pixels.
    pools: the pictures for training are dealt into so many pools, and the pictures of a clip are of
        one pool, which is its key: so no picture is in two parts.
    seed: of all draws.
    """

    format: Literal["digits"]
    train: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
    test: Names = []
    clips: Annotated[float, Field(gt=0)] = 0.1
    digits: Annotated[int, Field(ge=1, le=9)] = 2
    step: Annotated[float, Field(gt=0, le=1)] = 0.1
    room: Annotated[float, Field(gt=1, le=16)] = 64 / 28
    pools: Length = 100
    seed: Annotated[int, Field(ge=0)] = 0


class Columns(Strict):
    """The block `columns` of clips.

    files: clips in folders, or made of the pictures of IDX files.
    target: the name of the label; null: clips have none.
    positive: the class that `probability` of an answer is about; null: the last in sorted order.
    channels: 1 (grey) or 3 (RGB).
    size: side of the prepared frames, in pixels; null, for `digits` alone: as `room` makes them.
    past: the frames that a model sees.
    future: the frames after these, which a model of next frames answers.
    flat: side for a baseline that reads single pixels, in pixels.
    """

    files: Annotated[Folders | Digits, Field(discriminator="format")]
    target: str | None = None
    positive: Label | None = None
    channels: Literal[1, 3] = 1
    size: Annotated[int, Field(ge=8, le=512)] | None = None
    past: Annotated[int, Field(ge=2, le=1000)] = 10
    future: Annotated[int, Field(ge=0, le=1000)] = 10
    flat: Length = 8

    @model_validator(mode="after")
    def fit_together(self) -> Self:
        if isinstance(self.files, Folders):
            if self.size is None:
                raise ValueError("`size` is missing; write the side of the frames, in pixels")
            if self.files.labels is not None and self.target is None:
                raise ValueError("`target` is missing; name the column of `files.labels`")
        elif self.channels == 3:
            raise ValueError("the pictures of IDX files are grey; write `channels: 1`")
        elif self.files.digits != 2 and self.target is not None:
            raise ValueError("clips of digits have a label if there are two; write `target: null`")
        return self

    @property
    def key(self) -> str:
        return "key"

    @property
    def length(self) -> int:
        """The frames of a prepared clip."""
        return self.past + self.future

    @property
    def all(self) -> list[str]:
        """The columns of `table`."""
        labels = [] if self.target is None else [self.target]
        return ["path", *labels, "test", self.key, *FACTS]


def input_file(columns: Columns, folder: Path) -> Path | None:
    """The folder of the raw files; None where clips are made of pictures."""
    return folder if isinstance(columns.files, Folders) else None
