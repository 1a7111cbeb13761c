"""The twin of a text: scenes with a planted fact, which is named at the start and at the end.

Its parameters are the block `twin` of conf/dataset/<name>.yaml.
"""

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from ...strict import PlainPath, Seed, Strict
from .columns import Columns

Some = Annotated[list[str], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class Twin(Strict):
    """Scenes of one person each, who is named in the first line and in the last one:

        Enter <name>.
        <sentence>.
        Exit <name>.

    Between the two are `least` to `most` lines, in which no name occurs: each is a sentence with a
    word of every list of `words`. So the name at the end follows from the first line alone, and
    nothing nearer tells one name from another. Scenes are added until the text has `characters`;
    the line ends of the file are CRLF, as some editors write them.
    """

    seed: Seed
    file: PlainPath
    characters: Annotated[int, Field(ge=1, le=100_000_000)]
    names: Annotated[list[str], Field(min_length=2)]
    words: Annotated[list[Some], Field(min_length=1)]
    least: Annotated[int, Field(ge=0)]
    most: Annotated[int, Field(ge=1, le=1_000_000)]

    @model_validator(mode="after")
    def names_differ_at_once(self) -> Self:
        letters = {name[:1] for name in self.names}
        if len(letters) < len(self.names):
            raise ValueError("two `names` begin with the same letter; expected each a letter alone")
        if self.least > self.most:
            raise ValueError(f"`least` is {self.least} and `most` {self.most}; swap them")
        return self


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin in the encoding of the data set."""
    folder.mkdir(parents=True, exist_ok=True)
    text = scenes(twin).replace("\n", "\r\n")
    (folder / twin.file).write_bytes(text.encode(columns.encoding))


def scenes(twin: Twin) -> str:
    """The text. The order of the random draws must not change: it fixes the bytes."""
    rng = np.random.default_rng(twin.seed)
    written: list[str] = []
    length = 0
    while length < twin.characters:
        scene = _scene(twin, rng)
        written.append(scene)
        length += len(scene)
    return "".join(written)


def _scene(twin: Twin, rng: np.random.Generator) -> str:
    name = twin.names[rng.integers(len(twin.names))]
    lines = [f"Enter {name}."]
    for _ in range(rng.integers(twin.least, twin.most + 1)):
        chosen = [choices[rng.integers(len(choices))] for choices in twin.words]
        lines.append(f"{' '.join(chosen).capitalize()}.")
    lines.append(f"Exit {name}.")
    return "\n".join(lines) + "\n\n"


def recalls(text: str) -> list[int]:
    """Where the planted fact has to be recalled: the place of each name's first letter."""
    places = []
    mark = "\nExit "
    place = text.find(mark)
    while place >= 0:
        places.append(place + len(mark))
        place = text.find(mark, place + 1)
    return places
