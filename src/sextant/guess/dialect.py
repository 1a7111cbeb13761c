"""How a text file of rows is written: encoding, delimiter, quotation, header, comments.

Each delimiter and each way of quoting is tried on the first lines. The one in which rows have the
same number of cells, and cells are numbers, days or plain text, is taken (van den Burg, Nazabal and
Sutton, "Wrangling messy CSV files by detecting row and type patterns", 2019).
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..kinds.formats import BLANKS
from . import numbers
from .dates import date_format
from .encoding import encoding

SEPARATOR = "\x1f"  # stands in for a delimiter of several characters; no text has it
DELIMITERS = (",", ";", "\t", "|", "::", "^", "~", BLANKS)
QUOTING = ("standard", "backslash", "none")
COMMENT = "#"
SAMPLE_LINES = 2000
SCORED_ROWS = 300
MOST_SKIPPED = 20  # lines before the header, or after the rows, that are looked for
MOST_UNITS = 3  # lines between the header and the rows that are looked for
ENOUGH = 0.4  # of 1, the score of a delimiter that is taken
TYPED = 0.8  # the share of numbers in a column of numbers
NUMBER = re.compile(
    r"[(+\-\u2212]?\s*[$€£¥]?\s*\d[\d.,' \u00a0]*([eE][+-]?\d+)?\s*[%KMBTkmb€$£]?-?\)?|[.,]\d+"
)
PROSE = re.compile(r"(, |; | \| )")
FOREIGN = re.compile(r"[;\t|,^~]|::")


class Layout(NamedTuple):
    """Where the rows are: keys of formats.Format, the names of the columns, and the doubts."""

    form: dict[str, object]
    header: list[str]
    has_header: bool
    doubts: list[str]


@dataclass
class Dialect:
    """`form`: keys of formats.Format that differ from its defaults; `doubts`: what is unsure."""

    form: dict[str, object]
    header: list[str]
    has_header: bool
    doubts: list[str] = field(default_factory=list)


class Candidate(NamedTuple):
    """A delimiter with a way of quoting, and the rows of the sample that they give."""

    score: float
    delimiter: str
    quoting: str
    rows: list[list[str]]
    width: int


def sniff(content: bytes, chosen: Mapping[str, object]) -> Dialect | None:
    """The dialect of the first bytes of a file; None if no delimiter gives columns.

    `chosen` are keys of formats.Format that are not to be guessed, and `header`, whether there is
    one.
    """
    guessed = encoding(content)
    name = str(chosen.get("encoding", guessed.name))
    doubts = []
    if guessed.doubt and "encoding" not in chosen:
        doubts.append(f"{guessed.doubt} (ENCODING=…)")
    text = content.decode("utf-8-sig" if name == "utf-8" else name, errors="replace")
    lines = [line.rstrip("\n") for line in io.StringIO(text, newline=None)]
    is_whole = len(lines) <= SAMPLE_LINES
    lines = lines[:SAMPLE_LINES]
    # Excel writes the delimiter so.
    skip = 1 if lines and re.fullmatch(r"sep=.", lines[0]) else 0
    comment, rows = without_comments(lines[skip:], chosen)
    best = best_candidate(rows, chosen)
    if best is None:
        return None
    layout = _layout(best, lines, skip, is_whole, chosen)
    form: dict[str, object] = {"encoding": name, "delimiter": best.delimiter}
    form["quoting"] = best.quoting
    form |= layout.form
    if comment:
        form["comment"] = comment
    for key, value in chosen.items():
        if key != "header":
            form[key] = value
    defaults = {"encoding": "utf-8", "quoting": "standard", "skip": 0, "skip_after": 0, "footer": 0}
    form = {key: value for key, value in form.items() if defaults.get(key) != value}
    return Dialect(form, layout.header, layout.has_header, [*doubts, *layout.doubts])


# --- delimiter and quotation --------------------------------------------------------------------


def without_comments(lines: Sequence[str], chosen: Mapping[str, object]) -> tuple[str, list[str]]:
    """The mark of comments, "" for none, and the lines without comments."""
    mark = str(chosen.get("comment") or COMMENT)
    rows = [line for line in lines if not line.lstrip(" ").startswith(mark)]
    marked = len(lines) - len(rows)
    if chosen.get("comment"):
        return mark, rows
    # A single marked line may be a header of which the first name begins with the mark: `#,Name`.
    is_header = marked == 1 and bool(rows) and _as_wide(lines[0], rows)
    if marked == 0 or marked > len(lines) / 2 or is_header:
        return "", list(lines)
    return mark, rows


def _as_wide(line: str, rows: Sequence[str]) -> bool:
    """Whether a line has as many cells as the others, with the delimiter that these have."""
    best = best_candidate(rows, {})
    if best is None:
        return False
    cells, _ = split_lines([line], best.delimiter, best.quoting)
    return bool(cells) and len(cells[0]) == best.width


def best_candidate(lines: Sequence[str], chosen: Mapping[str, object]) -> Candidate | None:
    """The delimiter and the quoting with the highest score; None if there is only one column."""
    delimiters = (str(chosen["delimiter"]),) if "delimiter" in chosen else DELIMITERS
    quotings = (str(chosen["quoting"]),) if "quoting" in chosen else _quotings(lines)
    best: Candidate | None = None
    for delimiter in delimiters:
        if delimiter != BLANKS and not any(delimiter in line for line in lines):
            continue
        for quoting in quotings:
            candidate = _candidate(lines, delimiter, quoting)
            if best is None or candidate.score > best.score + 1e-9:
                best = candidate
    if best is None or best.width < 2:
        return None
    return best if best.score >= ENOUGH or "delimiter" in chosen else None


def _quotings(lines: Sequence[str]) -> tuple[str, ...]:
    """The ways of quoting that can differ on these lines."""
    if not any('"' in line for line in lines):
        return ("standard",)
    if not any("\\" in line for line in lines):
        return ("standard", "none")
    return QUOTING


def _candidate(lines: Sequence[str], delimiter: str, quoting: str) -> Candidate:
    """A delimiter and a quoting with their score: rows as wide as most, cells that are values."""
    rows, unread = split_lines(lines, delimiter, quoting)
    counts = Counter(len(row) for row in rows if any(row))
    if not counts:
        return Candidate(0.0, delimiter, quoting, rows, 0)
    width = max(counts, key=lambda cells: (counts[cells], cells))
    if width < 2:
        return Candidate(0.0, delimiter, quoting, rows, width)
    same = counts[width] / (sum(counts.values()) + unread)
    plain = 0.0
    cells = 0
    for row in [row for row in rows if len(row) == width][:SCORED_ROWS]:
        for cell in row:
            plain += plainness(cell, delimiter, quoting)
            cells += 1
    score = same**2 * (plain / cells) ** 2 * (1 - 0.5 / width)
    return Candidate(score, delimiter, quoting, rows, width)


def split_lines(lines: Sequence[str], delimiter: str, quoting: str) -> tuple[list[list[str]], int]:
    """The rows of some lines, cells without the blanks around them, and the lines left unread."""
    single = delimiter if len(delimiter) == 1 else SEPARATOR
    arguments: dict[str, object] = {"delimiter": single, "skipinitialspace": True, "strict": True}
    if quoting == "none":
        arguments |= {"quoting": csv.QUOTE_NONE, "quotechar": None}
    if quoting == "backslash":
        arguments |= {"escapechar": "\\", "doublequote": False}
    separated = [f"{_separated(line, delimiter)}\n" for line in lines]
    reader = csv.reader(separated, **arguments)  # type: ignore[arg-type]
    rows = []
    read = 0
    try:
        for row in reader:
            rows.append([cell.strip() for cell in row])
            read = reader.line_num
    except csv.Error:
        return rows, len(lines) - read
    return rows, 0


def _separated(line: str, delimiter: str) -> str:
    if delimiter == BLANKS:
        return re.sub(r"[ \t]+", SEPARATOR, line.strip())
    if len(delimiter) > 1:
        return line.replace(delimiter, SEPARATOR)
    return line


def plainness(cell: str, delimiter: str, quoting: str) -> float:
    """How much a cell looks like one value, from 0 to 1.

    A cell with another delimiter in it is often two cells, and one that begins or ends with a
    quotation mark is quoted, or a part of a quoted one. Where quotation marks are read as such, one
    of them may be left in a cell, as in 18" for inches.
    """
    if not cell or NUMBER.fullmatch(cell) or delimiter in cell:
        return 1.0
    if quoting == "none" and (cell[0] == '"' or cell[-1] == '"'):
        return 0.2
    if cell.count('"') % 2 and FOREIGN.search(cell):
        return 0.2
    if FOREIGN.search(PROSE.sub(" ", cell)):
        return 0.3
    return 0.9 if PROSE.search(cell) else 1.0


# --- header and rows ----------------------------------------------------------------------------


def _layout(
    best: Candidate,
    lines: Sequence[str],
    skip: int,
    is_whole: bool,
    chosen: Mapping[str, object],
) -> Layout:
    """Where the header and the rows are; `is_whole` if the lines are all of the file."""
    rows = [row for row in best.rows if any(row)]
    first = _first_row(rows, best.width)
    short = rows[first - 1] if first else []
    body = rows[first:]
    form: dict[str, object] = {}
    if first and first <= MOST_SKIPPED:
        form["skip"] = skip + _lines_before(lines[skip:], best, body[0])
    elif skip:
        form["skip"] = skip
    footer = _footer(body, best.width) if is_whole else 0
    if footer:
        form["footer"] = footer
    body = [row for row in body if len(row) == best.width]
    names = chosen.get("names")
    if isinstance(names, list):
        return Layout(form, [str(name) for name in names], False, [])
    has_header = chosen.get("header")
    if has_header is None:
        has_header = is_header(body)
    if has_header:
        form["skip_after"] = units_after_header(body[1:])
        return Layout(form, named(body[0]), True, [])
    doubts: list[str] = []
    header = _names(lines, best, short, body, doubts)
    if header == _numbered(best.width) and "header" not in chosen:
        doubts.append("the file has no header (HEADER=yes if line 1 is one)")
    form["names"] = header
    return Layout(form, header, False, doubts)


def _first_row(rows: Sequence[Sequence[str]], width: int) -> int:
    """The place of the header, or of the first row if there is none.

    Spreadsheets fill a title above the header with delimiters, so that it is as wide as the rows.
    """
    first = next(number for number, row in enumerate(rows) if len(row) == width)
    for number in range(first, min(len(rows), MOST_SKIPPED)):
        filled = sum(map(bool, rows[number]))
        if len(rows[number]) == width and (filled > 1 or width == 2):
            return number
    return first


def _names(
    lines: Sequence[str],
    best: Candidate,
    short: Sequence[str],
    body: Sequence[Sequence[str]],
    doubts: list[str],
) -> list[str]:
    """The names of rows without a header of their width; `short` is the row before the first.

    They stand in a comment or in the short row, one of them perhaps missing; else numbers do.
    """
    header = _marked_header(lines, best)
    if not header and 1 < len(short) < best.width and are_names(short):
        header = list(short)
    if not header:
        return _numbered(best.width)
    return header if len(header) == best.width else _completed(header, body, doubts)


def _numbered(width: int, start: int = 1) -> list[str]:
    """Names of columns without a name, from `start` to the width."""
    return [f"column_{number}" for number in range(start, width + 1)]


def _footer(body: Sequence[Sequence[str]], width: int) -> int:
    """How many of the last rows have another number of cells."""
    count = 0
    for row in reversed(body[-MOST_SKIPPED:]):
        if len(row) == width:
            break
        count += 1
    return count if count < len(body) else 0


def _lines_before(lines: Sequence[str], best: Candidate, row: Sequence[str]) -> int:
    """How many lines stand before the first row with as many cells as the others."""
    for number, line in enumerate(lines):
        cells, _ = split_lines([line], best.delimiter, best.quoting)
        if cells and cells[0] == list(row):
            return number
    return 0


def _marked_header(lines: Sequence[str], best: Candidate) -> list[str]:
    """The names in a comment such as `# a b c` above the rows; [] if there is none.

    One name may be missing.
    """
    for line in lines[:MOST_SKIPPED]:
        if line.startswith(COMMENT):
            cells, _ = split_lines([line.lstrip("# ")], best.delimiter, best.quoting)
            if cells and best.width - 1 <= len(cells[0]) <= best.width and are_names(cells[0]):
                return cells[0]
    return []


def _completed(short: Sequence[str], body: Sequence[Sequence[str]], doubts: list[str]) -> list[str]:
    """The names of a header that has fewer than the rows have cells.

    R's write.table leaves out the name of the first column, which has the names of the rows.
    """
    missing = len(body[0]) - len(short)
    first = [row[0] for row in body]
    is_name = not any(NUMBER.fullmatch(cell) and not cell.isdecimal() for cell in first)
    if missing == 1 and is_name and len(set(first)) == len(first):
        header = ["row", *short]
        place = f"the first column is called `{header[0]}`"
    else:
        header = [*short, *_numbered(len(body[0]), len(short) + 1)]
        place = f"the last is called `{header[-1]}`"
    doubts.append(f"the header has {len(short)} names for {len(body[0])} cells: {place}")
    return named(header)


def named(header: Sequence[str]) -> list[str]:
    """Names as the reader gives them: an empty one is called by its position."""
    return [name or f"Unnamed: {position}" for position, name in enumerate(header)]


def are_names(cells: Sequence[str]) -> bool:
    """Whether cells can be names of columns: different from each other, and no numbers."""
    full = [cell for cell in cells if cell]
    if not full or len(set(full)) < len(full) or len(full) < len(cells) - 1:
        return False
    return not any(NUMBER.fullmatch(cell) or date_format([cell]) for cell in full)


def is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first of the rows is a header: names, above numbers or not repeated below."""
    first, body = rows[0], rows[1:]
    # Spreadsheets write delimiters after the last column, too.
    width = max((len(first) - _empty_at_end(row) for row in rows), default=0)
    if not are_names(first[:width]):
        return False
    repeated = 0
    for position, name in enumerate(first):
        column = [row[position] for row in body if row[position]]
        if column and _typed(column) >= TYPED and name:
            return True
        repeated += name in column
    return repeated == 0


def _empty_at_end(row: Sequence[str]) -> int:
    """How many of the last cells are empty."""
    count = 0
    for cell in reversed(row):
        if cell:
            break
        count += 1
    return count


def units_after_header(body: Sequence[Sequence[str]]) -> int:
    """How many lines with units or tickers stand between the header and the rows.

    In such a line no column of numbers has a number, and one of them has a text.
    """
    later = body[MOST_UNITS:]
    if not later:
        return 0
    numeric = []
    for position in range(len(body[0])):
        column = [row[position] for row in later if row[position]]
        if column and _typed(column) >= TYPED:
            numeric.append(position)
    count = 0
    texts = 0
    for row in body[:MOST_UNITS]:
        cells = [row[position] for position in numeric]
        if not cells or any(NUMBER.fullmatch(cell) for cell in cells):
            break
        texts += any(cell and cell not in numbers.MARKS for cell in cells)
        count += 1
    return count if texts else 0


def _typed(column: Sequence[str]) -> float:
    """The share of numbers in a column."""
    return sum(NUMBER.fullmatch(cell) is not None for cell in column) / len(column)
