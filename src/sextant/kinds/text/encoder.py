"""Text as tensors: the code of each character, row by row."""

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ...errors import DataError
from ..remarks import Remarks
from ..tables import check_input_columns, first_place, numbered
from .columns import Columns
from .rows import FILE_COLUMN, PROMPT, START, TEXT, follows

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = 0  # the code of every character that the training part lacks
PADDING = -1  # after the end of a row that is shorter than others
# A text, and each prompt, begins as after the end of a line.
BEFORE = "\n"
# The plain forms of typographic marks, which have no decomposition in Unicode.
PLAIN_MARKS = str.maketrans(
    "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2010\u2011\u2012\u2013\u2014\u2212\u00a0\t",
    '\'\'\'"""""------  ',
)
SHOWN = 5  # characters in a message


class Batch(NamedTuple):
    """Rows as tensors.

    text: (rows, 1 + longest) int32, the codes of the character before a row and of its own, and
    PADDING. Each character of a row is predicted from those before it.
    follows: (rows,) bool, whether a row continues the one before it.
    """

    text: "Tensor"
    follows: "Tensor"


class Encoder:
    """Turns rows of text into a Batch, with the characters of the training part."""

    def __init__(self, columns: Columns, characters: Sequence[str], example: str):
        self.columns = columns
        self.characters = list(characters)  # in the order of their codes, from 1
        self.code_of = {character: code for code, character in enumerate(self.characters, start=1)}
        self.example_text = example

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone."""
        present: set[str] = set()
        for text in rows[TEXT]:
            present |= set(text)
        characters = sorted(present)
        # A text that no one wrote: the characters themselves, in their order.
        return cls(columns, characters, "".join(characters).strip()[:40] or characters[0])

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON."""
        return {"characters": self.characters, "example": self.example_text}

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """The inverse of `state`."""
        return cls(columns, state["characters"], state["example"])

    @property
    def sizes(self) -> dict[str, int]:
        """What a family's constructor may name before its `*`: codes, the unknown one included."""
        return {"characters": 1 + len(self.characters)}

    def encode(self, rows: pd.DataFrame) -> Batch:
        """The codes of each row, after that of the character before it."""
        import torch  # takes two seconds, which pull, validate and prepare do not need

        continues = follows(rows)
        codes = [self.codes(text) for text in rows[TEXT]]
        longest = max([len(code) for code in codes], default=0)
        table = np.full((len(codes), 1 + longest), PADDING, np.int32)
        first = self.code_of.get(BEFORE, UNKNOWN)
        for place, code in enumerate(codes):
            table[place, 0] = codes[place - 1][-1] if continues[place] else first
            table[place, 1 : 1 + len(code)] = code
        return Batch(torch.from_numpy(table), torch.from_numpy(continues))

    def codes(self, text: str) -> np.ndarray:
        """The code of each character, (characters) int32."""
        return np.array([self.code_of.get(character, UNKNOWN) for character in text], np.int32)

    def decode(self, codes: Sequence[int]) -> str:
        """The text of codes; an unknown one is U+FFFD."""
        characters = []
        for code in codes:
            characters.append("\ufffd" if code == UNKNOWN else self.characters[code - 1])
        return "".join(characters)

    # --- input rows ---

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Prompts as `encode` takes them.

        With `file` and `start`, a row is a chunk of a text, which is scored and not continued.
        Raises DataError for a missing column, an empty prompt, and for a prompt with a character
        that the training part lacks, unless conf says `unseen: map`.
        """
        check_input_columns(frame, [PROMPT], [PROMPT, FILE_COLUMN, START])
        if frame.empty:
            raise DataError("no prompts; expected one row or more with a text in `prompt`")
        rows = numbered(frame)
        is_text = rows[PROMPT].map(lambda cell: isinstance(cell, str) and cell != "")
        if not is_text.all():
            where = first_place(rows, ~is_text.to_numpy(bool))
            raise DataError(
                f"{where} has an empty `{PROMPT}`; expected a text of one character or more"
            )
        checked = pd.DataFrame({TEXT: rows[PROMPT].astype("str")}, index=rows.index)
        if FILE_COLUMN in rows and START in rows:
            checked[FILE_COLUMN] = rows[FILE_COLUMN].astype("str")
            checked[START] = rows[START].astype("int64")
            return checked.reset_index(drop=True)
        texts = checked[TEXT].str.replace("\r\n", "\n").str.replace("\r", "\n")
        if self.columns.unseen == "refuse":
            self._refuse_unseen(texts)
        checked[TEXT] = texts.map(self.mapped)
        is_empty = (checked[TEXT] == "").to_numpy(bool)
        if is_empty.any():
            raise DataError(
                f"{first_place(rows, is_empty)} has a `{PROMPT}` without a character that the"
                " training text has; write another one"
            )
        checked[PROMPT] = rows[PROMPT]
        return checked.reset_index(drop=True)

    def _refuse_unseen(self, texts: pd.Series) -> None:
        unseen = [[char for char in text if char not in self.code_of] for text in texts]
        is_wrong = np.array([bool(characters) for characters in unseen])
        if is_wrong.any():
            characters = unseen[int(is_wrong.argmax())]
            names = ", ".join(map(named, list(dict.fromkeys(characters))[:SHOWN]))
            raise DataError(
                f"{first_place(texts, is_wrong)} has {names} in `{PROMPT}`, which the training text"
                " lacks; write it otherwise, or set `unseen: map` in `columns` of the conf"
            )

    def mapped(self, text: str) -> str:
        """A text in the characters of training: see `unseen` of Columns."""
        characters = []
        for character in text:
            if character in self.code_of:
                characters.append(character)
                continue
            plain = unicodedata.normalize("NFKD", character).translate(PLAIN_MARKS)
            known = [part for part in plain if part in self.code_of]
            if known:
                characters += known
            elif " " in self.code_of and not unicodedata.combining(character):
                characters.append(" ")
        return "".join(characters)

    def remarks(self, rows: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
        """The characters of each prompt that the training part lacks and that were mapped."""
        remarks = Remarks(len(rows))
        if PROMPT in rows:
            for place, prompt in enumerate(rows[PROMPT]):
                unseen = [char for char in dict.fromkeys(prompt) if char not in self.code_of]
                names = ", ".join(map(named, [char for char in unseen if char != "\r"][:SHOWN]))
                if names:
                    remarks.add(place, f"{names} is mapped, since the training text lacks it")
        return remarks.texts()

    def schema(self) -> list[tuple[str, str, bool]]:
        """The input columns: name, MLflow type, whether it is required."""
        return [(PROMPT, "string", True), (FILE_COLUMN, "string", False), (START, "long", False)]

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Prepared rows as MLflow's interface takes them: chunks of a text, with their places."""
        return pd.DataFrame(
            {
                PROMPT: rows[TEXT].astype(object),
                FILE_COLUMN: rows[FILE_COLUMN].astype(object),
                START: rows[START].astype("int64"),
            }
        ).reset_index(drop=True)

    def example(self) -> pd.DataFrame:
        """A synthetic input example: two prompts of the characters in their order."""
        prompts = [self.example_text, self.example_text[: 1 + len(self.example_text) // 2]]
        return pd.DataFrame({PROMPT: prompts})


def named(character: str) -> str:
    """A character for a message: itself, with its code point where it is not plain ASCII."""
    if character.isascii() and character.isprintable():
        return repr(character)
    label = unicodedata.name(character, "")
    code_point = f"U+{ord(character):04X}"
    return f"{character!r} ({code_point}{f' {label}' if label else ''})"
