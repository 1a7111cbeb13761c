"""How pictures lie in their files, and what they are made into."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...strict import Strict

if TYPE_CHECKING:
    pass


SPLITS = ("hash",)


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
