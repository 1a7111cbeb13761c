"""The block `columns` of conf/dataset/<name>.yaml for a text: how it is written and cut.

A text is one file or a folder of them. It is cut into chunks, the rows of its parts, and a model
predicts each character from those before it.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ...strict import Strict
from ..formats import Encoding

# `place`: the files follow one another by name, and the parts are consecutive shares of their
# characters; `hash`: whole files, by a hash of their names.
SPLITS = ("place", "hash")

# The columns of the table that the expectations check: one row for each line of the text.
TABLE = ("text", "characters", "letters", "unusual")


class Columns(Strict):
    """The block `columns` of a text.

    encoding: of the files; a byte order mark is no part of the text, and line ends become `\\n`.
    chunk: characters of a row. Training starts each row without a memory, and a prompt begins
        like one, so that a chunk has to be many times as long as what the model should remember.
    unseen: a prompt with a character that the training part lacks is refused, or that character is
        mapped: to the letter without its accent, to the plain form of a mark, or to a blank.
    """

    encoding: Encoding = "utf-8"
    chunk: Annotated[int, Field(ge=16)]
    unseen: Literal["refuse", "map"] = "refuse"

    @property
    def all(self) -> list[str]:
        """The columns of the table that the expectations check."""
        return list(TABLE)


def input_file(columns: Columns, folder: Path) -> None:
    """No raw file has prompts: its lines are those of a text, and some are empty."""
    return None
