"""Whether files are text and no tables: lines of words, of which no delimiter makes columns."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError, UsageError
from ..kinds import archives, formats
from ..kinds.text.rows.reading import text_of
from . import encoding

SUFFIXES = (".txt", ".text", ".md", ".rst", "")
HEAD = 2**17  # bytes that tell whether a file is text
LINES = 2000  # of these
DELIMITERS = (",", ";", "\t", "|", "::")
# Of a table, so many lines have the same number of cells, or any delimiter at all; of text, the
# lines have so many words in the mean, and so many characters are letters and blanks.
ALIKE, DELIMITED = 0.85, 0.95
WORDS, LETTERS = 2.5, 0.75
LETTER = re.compile(r"[^\W\d_]|\s")
LONG_LINE = 200  # characters: a paragraph, in which a comma is no delimiter

LONGEST_CHUNK, SHORTEST_CHUNK = 2000, 64
CHUNKS = 200  # that a text should have, where that leaves them long enough
MANY_FILES = 20  # from which on whole files are held out


@dataclass
class Texts:
    """The files of a text by their names, and what they consist of."""

    lengths: dict[str, int]  # characters of each
    alphabet: int
    lines: int
    longest_line: int
    letters: float  # the share of letters and blanks
    encoding: str
    doubts: list[str] = field(default_factory=list)

    @property
    def characters(self) -> int:
        """Of all files."""
        return sum(self.lengths.values())

    @property
    def chunk(self) -> int:
        """Characters of a row: as many as leave enough rows."""
        return max(SHORTEST_CHUNK, min(LONGEST_CHUNK, self.characters // CHUNKS))


def files_of(path: Path) -> list[Path]:
    """The file itself, or those in a folder and below it, without those that systems add."""
    if not path.is_dir():
        return [path]
    files = []
    for file in sorted(path.rglob("*")):
        inner = file.relative_to(path).as_posix()
        if file.is_file() and not archives.is_system_file(inner):
            files.append(file)
    return files


def are_texts(path: Path) -> bool:
    """Whether a file, or each file of a folder, is named as a text is and looks like one."""
    files = files_of(path)
    if not files or not all(file.suffix.lower() in SUFFIXES for file in files):
        return False
    return all(looks_like_text(file) for file in files)


def looks_like_text(path: Path) -> bool:
    """Whether the lines of a file are words, and not the rows of a table."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if not head or not encoding.is_text(head):
        return False
    content = head.decode(encoding.encoding(head).name, errors="ignore")
    lines = [line for line in content.splitlines()[:LINES] if line.strip()]
    if not lines:
        return False
    words = sum(len(line.split()) for line in lines) / len(lines)
    joined = "".join(lines)
    letters = len(LETTER.findall(joined)) / len(joined)
    return words >= WORDS and letters >= LETTERS and not _has_columns(lines)


def _has_columns(lines: Sequence[str]) -> bool:
    """Whether a delimiter divides most lines into as many cells, or occurs in nearly all."""
    if len(lines) == 1:
        return False
    are_paragraphs = sum(map(len, lines)) / len(lines) > LONG_LINE
    for delimiter in DELIMITERS:
        counts = Counter(line.count(delimiter) for line in lines)
        number, most = counts.most_common(1)[0]
        if number and most >= ALIKE * len(lines):
            return True
        if not are_paragraphs and counts[0] <= (1 - DELIMITED) * len(lines):
            return True
    words = Counter(len(line.split()) for line in lines)
    return words.most_common(1)[0][1] >= ALIKE * len(lines)


def texts(path: Path, chosen_encoding: str | None) -> Texts:
    """The text of a file or folder; raises UsageError for what is none."""
    files = files_of(path)
    contents: dict[str, str] = {}
    guessed = None
    for file in files:
        name = file.name if file == path else file.relative_to(path).as_posix()
        try:
            raw = formats.unpacked(file)[1]
            guessed = guessed or encoding.encoding(raw)
            contents[name] = text_of(name, raw, chosen_encoding or guessed.name)
        except DataError as error:
            raise UsageError(f"{error}; with `make new`: ENCODING=…") from None
        if not contents[name].strip():
            raise UsageError(f"{name} is empty; expected a text")
    if not contents:
        raise UsageError(f"{path} has no files; name a file or a folder of text")
    joined = "".join(contents.values())
    lines = joined.splitlines()
    assert guessed is not None
    doubts = [guessed.doubt] if guessed.doubt and not chosen_encoding else []
    return Texts(
        lengths={name: len(content) for name, content in contents.items()},
        alphabet=len(set(joined)),
        lines=len(lines),
        longest_line=max(map(len, lines)),
        letters=len(LETTER.findall(joined)) / len(joined),
        encoding=chosen_encoding or guessed.name,
        doubts=doubts,
    )
