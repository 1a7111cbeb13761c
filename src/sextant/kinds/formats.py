"""Files of rows as tables: delimited text, workbooks, Parquet and JSON.

What a file is stands in the conf, and nothing is guessed: the first line of a file that does not
fit its format is refused by its number. Every cell of a text file is text without the blanks around
it; which columns are numbers, days or names is decided by the kinds.
"""

import bz2
import codecs
import gzip
import io
import itertools
import json
import lzma
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ..errors import DataError, describe
from ..strict import Strict

if TYPE_CHECKING:
    import pandas as pd  # config.py imports this module, and starts without pandas

BLANKS = "blanks"  # the delimiter of columns that runs of blanks and tabs separate
# Cells that are held as Python's strings at a time, since these take ten times the memory of a
# column of text.
CHUNK_CELLS = 4_000_000
BLOCK_CELLS = 2_000_000  # cells of plain lines that are split at once
FIRST_CELLS = 100_000  # cells that are read one by one, which is faster for a small file
SHOWN = 60  # characters of a file's content in a message
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
WORKBOOKS = (".xlsx", ".xlsm")
OTHER_WORKBOOKS = (".xls", ".xlsb", ".ods", ".numbers")
JSON_LINES = (".jsonl", ".ndjson")
FILE, LINE = "file", "line"  # the levels of the index of a table

Cell: TypeAlias = object  # text from a text file; also a number, a day or None from other files


def _known_encoding(name: str) -> str:
    try:
        "a".encode(name)  # codecs.lookup also finds codecs that are no encodings, such as base64
    except (LookupError, UnicodeError):
        raise ValueError("no such encoding; common are utf-8, cp1252, utf-16") from None
    return name


def _as_list(value: object) -> object:
    """A mark as a list of one, and null as an empty list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


Encoding = Annotated[str, AfterValidator(_known_encoding)]
Text = Annotated[str, Field(min_length=1)]
Marks = Annotated[list[str], BeforeValidator(_as_list)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class Format(Strict):
    """How a file of rows is written. For a workbook, Parquet or JSON most of it has no meaning.

    delimiter: one or more characters between two cells, or `blanks`: any run of blanks and tabs.
    encoding: of the text; a byte order mark is no part of it.
    quoting: `standard`: a cell in quotation marks may contain delimiters, line ends and doubled
        quotation marks; `backslash`: a backslash takes the meaning from the character after it;
        `none`: a quotation mark is a character like any other.
    comment: lines that begin with it are passed over; null: there are none.
    skip, skip_after: lines before the header, and between it and the first row.
    footer: lines at the end that are no rows.
    names: the columns of a file without a header, in its order; null: the file has a header.
    unknown: the texts that mark a missing value, in addition to the empty cell.
    decimal, thousands: the marks in numbers; null: thousands are not marked.
    sheet: the sheet of a workbook; null: its only one.
    """

    # Whether rows may have further cells after those that `names` lists.
    NAMES_MAY_END_EARLY: ClassVar[bool] = False

    delimiter: Text = ","
    encoding: Encoding = "utf-8"
    quoting: Literal["standard", "backslash", "none"] = "standard"
    comment: Text | None = None
    skip: Count = 0
    skip_after: Count = 0
    footer: Count = 0
    names: Annotated[list[str], Field(min_length=1)] | None = None
    unknown: Marks = []
    decimal: Literal[".", ","] = "."
    thousands: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    sheet: str | None = None

    @model_validator(mode="after")
    def marks_are_distinct(self) -> Self:
        if self.thousands == self.decimal:
            raise ValueError(
                f"`decimal` and `thousands` are both {self.decimal!r}; expected different marks"
            )
        repeated = _repeated(self.names or [])
        if repeated is not None:
            raise ValueError(f"`names` has `{repeated}` twice; expected each name once")
        return self


class Table(NamedTuple):
    """The rows of a file, and how many rows without content were passed over.

    The index of `rows` is (file, line): the name of the file, and the number of the line on which
    the row begins; for a workbook its row, for Parquet and JSON its position, counted from 1.
    A missing value is None or NaN, whatever marked it. The columns of a text file are text.
    """

    rows: "pd.DataFrame"
    empty: int


def place(rows: "pd.DataFrame | pd.Series", position: int) -> str:
    """Where the row at `position` stands, for messages: `churn.csv line 12`.

    It is `row 3` of a frame that was not read from a file.
    """
    if rows.index.names != [FILE, LINE]:
        return f"row {position + 1}"
    file, line = rows.index[position]
    data_file = Path(file)
    if data_file.suffix.lower() in COMPRESSED:
        data_file = data_file.with_suffix("")
    is_text = data_file.suffix.lower() not in (*WORKBOOKS, ".parquet", ".json")
    return f"{file} {'line' if is_text else 'row'} {line}"


def read_table(path: Path, form: Format, expected: Sequence[str]) -> Table:
    """The rows of a file with all its columns; `expected` are those that messages name.

    Raises DataError for a file that does not exist or is empty, and for the first line that does
    not fit the format.
    """
    name, content = unpacked(path)
    suffix = Path(name).suffix.lower()
    if suffix in OTHER_WORKBOOKS:
        raise DataError(f"{path.name} is a workbook that is not supported; save it as .xlsx or CSV")
    if suffix in (".parquet", ".json", *JSON_LINES):
        return _records(path.name, suffix, content, form, expected)
    if suffix in WORKBOOKS:
        return _table(path.name, _workbook_rows(path.name, content, form), form, expected)
    text = decoded(path.name, content, form.encoding)
    del content  # a large file need not be held as bytes, as text and as lines
    lines = _text_rows(path.name, text, form)
    del text
    return _table(path.name, lines, form, expected)


# --- bytes and text -----------------------------------------------------------------------------


def unpacked(path: Path) -> tuple[str, bytes]:
    """The name and the content of a file, or of the one file in a compressed one."""
    suffix = path.suffix.lower()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name a file of rows") from None
    except OSError as error:
        reason = describe(error).lower()
        raise DataError(f"{path} cannot be read ({reason}); name a file of rows") from None
    try:
        if suffix in COMPRESSED:
            return path.stem, COMPRESSED[suffix](content)
        if suffix == ".zip":
            return _unzipped(path.name, content)
    except DataError:
        raise
    except Exception as error:  # whatever the decompressors raise for damaged files
        reason = describe(error)
        raise DataError(
            f"{path.name} cannot be read ({reason}); check that it is complete"
        ) from None
    return path.name, content


def _unzipped(file: str, content: bytes) -> tuple[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [member for member in archive.infolist() if _is_data(member)]
        if len(members) != 1:
            names = ", ".join(member.filename for member in members) or "none"
            raise DataError(
                f"{file} contains {len(members)} files ({names[:SHOWN]}); expected one; unpack it,"
                " or zip the one that is meant"
            )
        return members[0].filename, archive.read(members[0])


def _is_data(member: zipfile.ZipInfo) -> bool:
    """Whether a member of a zip is a file, and not one that macOS adds."""
    return not member.is_dir() and not member.filename.startswith("__MACOSX/")


def decoded(file: str, content: bytes, encoding: str) -> str:
    """The text of a file without its byte order mark.

    Raises DataError for bytes that the encoding does not have, and for a null character.
    """
    is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    if content.startswith(codecs.BOM_UTF8) and not is_utf8:
        raise DataError(
            f"{file} begins with the byte order mark of utf-8; set `encoding: utf-8` in the conf"
        )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start : error.start + 1].hex()
        raise DataError(
            f"{file} line {line} is not {encoding} (byte 0x{byte}); set `encoding` in the conf,"
            " such as cp1252 or utf-16"
        ) from None
    except UnicodeError as error:  # UTF-16 without a byte order mark, for example
        raise DataError(
            f"{file} is not {encoding} ({describe(error)}); set `encoding` in the conf"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            f"{file} line {line} has a null character; set `encoding` in the conf, such as utf-16,"
            " or name a file of text"
        )
    return text.removeprefix("\ufeff")


# --- lines to rows ------------------------------------------------------------------------------


class Row(NamedTuple):
    """The cells of a row, and the number of the line on which it begins."""

    line: int
    cells: list[Cell]


class _Grammar(NamedTuple):
    """The patterns of one format.

    delimiter: between two cells. blanks: around a cell in quotation marks, none of the delimiter.
    plain: a cell without quotation marks. quoted: what may stand between two of them in a line.
    """

    delimiter: re.Pattern[str]
    blanks: re.Pattern[str]
    plain: re.Pattern[str]
    quoted: re.Pattern[str]


def _grammar(form: Format) -> _Grammar:
    delimiter = r"[ \t]+" if form.delimiter == BLANKS else re.escape(form.delimiter)
    blanks = "".join(blank for blank in " \t" if blank not in form.delimiter)
    if form.delimiter == BLANKS:
        blanks = ""
    plain = rf"(?:(?!{delimiter}).)*"
    quoted = r'[^"]*(?:""[^"]*)*'
    if form.quoting == "backslash":
        plain = rf"(?:\\.|(?!{delimiter}).)*"
        quoted = r'[^"\\]*(?:\\.[^"\\]*)*'
    return _Grammar(
        re.compile(delimiter),
        re.compile(f"[{blanks}]*" if blanks else ""),
        re.compile(plain, re.DOTALL),
        re.compile(quoted, re.DOTALL),
    )


class _PlainLines(NamedTuple):
    """Lines with their numbers, how many blank ones are among them, and where they end."""

    numbers: list[int]
    lines: list[str]
    blank: int
    end: int


class _TextReader:
    """The rows of a text: the header, if the format has one, and also rows without content.

    Not the csv module: it takes delimiters of one character only, and where quotation marks do not
    pair up, it neither names the line nor notices that rows were swallowed.
    """

    def __init__(self, file: str, lines: Sequence[str], form: Format) -> None:
        self.file = file
        self.lines = lines  # those of the whole file without its last ones, which are no rows
        self.form = form
        self.grammar = _grammar(form)
        self.position = form.skip  # of the next line

    def __iter__(self) -> Iterator[Row]:
        comment = self.form.comment
        while self.position < len(self.lines):
            start = self.position
            line = self.lines[start]
            self.position += 1
            if comment is not None and line.lstrip(" ").startswith(comment):
                continue
            if self._is_plain(line):
                cells = self._split(line)
            else:
                cells = self._quoted_row(line, start)
            yield Row(start + 1, [cell.strip() for cell in cells])

    def plain_lines(self, most: int) -> "_PlainLines | None":
        """The next `most` lines, or all that are left; None if one of them is not plain.

        The reader stays where it is, and goes on from `end` if the lines are taken.
        """
        if self.form.delimiter == BLANKS:
            return None
        comment = self.form.comment
        position = self.position
        numbers: list[int] = []
        lines: list[str] = []
        blank = 0
        while position < len(self.lines) and len(lines) < most:
            line = self.lines[position]
            position += 1
            if comment is not None and line.lstrip(" ").startswith(comment):
                continue
            if not self._is_plain(line):
                return None
            if not line.strip():
                blank += 1
                continue
            numbers.append(position)
            lines.append(line)
        return _PlainLines(numbers, lines, blank, position) if lines else None

    def _is_plain(self, line: str) -> bool:
        """Whether every delimiter in a line separates cells."""
        if self.form.quoting == "none":
            return True
        return '"' not in line and (self.form.quoting == "standard" or "\\" not in line)

    def _split(self, line: str) -> list[str]:
        if self.form.delimiter == BLANKS:
            return self.grammar.delimiter.split(line.strip(" \t"))
        return line.split(self.form.delimiter)

    def _quoted_row(self, line: str, start: int) -> list[str]:
        """The cells of a row that may continue in the next lines."""
        if self.form.delimiter == BLANKS:
            line = line.strip(" \t")
        cells = []
        column = 0
        while True:
            opening = self._after_blanks(line, column)
            if line.startswith('"', opening):
                cell, line, column = self._quoted_cell(line, opening + 1, start)
                column = self._after_blanks(line, column)
            else:
                match = self.grammar.plain.match(line, column)
                assert match is not None  # the pattern also matches an empty text
                cell, column = self._unescaped(match[0]), match.end()
            cells.append(cell)
            if column == len(line):
                self._check_quotation(start, len(cells))
                return cells
            delimiter = self.grammar.delimiter.match(line, column)
            if delimiter is None:
                raise DataError(
                    f"{self.file} line {self.position} has {line[column:][:SHOWN]!r} after a"
                    f" closing quotation mark (the row begins in line {start + 1}); expected a"
                    " delimiter; correct it, or set `quoting` in the conf to `none` or `backslash`"
                )
            column = delimiter.end()

    def _after_blanks(self, line: str, column: int) -> int:
        match = self.grammar.blanks.match(line, column)
        assert match is not None  # the pattern also matches an empty text
        return match.end()

    def _quoted_cell(self, line: str, column: int, start: int) -> tuple[str, str, int]:
        """The content of a cell in quotation marks, its last line, and the column after it."""
        parts = []
        while True:
            match = self.grammar.quoted.match(line, column)
            assert match is not None  # the pattern also matches an empty text
            end = match.end()
            if line.startswith('"', end):
                parts.append(line[column:end])
                return self._unescaped("".join(parts)), line, end + 1
            if self.position == len(self.lines):
                raise DataError(
                    f"{self.file} line {start + 1} opens a quotation mark that nothing closes;"
                    " close it, or set `quoting: none` in the conf where it is only a character"
                )
            parts.append(f"{line[column:]}\n")
            line = self.lines[self.position]
            self.position += 1
            column = 0

    def _unescaped(self, text: str) -> str:
        if self.form.quoting == "backslash":
            return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
        return text.replace('""', '"')

    def _check_quotation(self, start: int, cells: int) -> None:
        """Raise DataError for a quotation that has swallowed whole rows.

        Two stray quotation marks can pair up over several lines. Each of these lines then has as
        many cells as a row; the lines of a text that was written on purpose hardly ever have.
        """
        of_row = [line for line in self.lines[start : self.position] if line.strip()]
        if len(of_row) < 2 or cells < 2:
            return
        if all(len(self._split(line)) == cells for line in of_row):
            raise DataError(
                f"{self.file} line {start + 1} opens a quotation mark that line {self.position}"
                " closes, a row of its own; remove both marks, or set `quoting: none` in the conf"
            )


def _text_rows(file: str, text: str, form: Format) -> _TextReader:
    # Lines end at \n, \r\n or \r; str.splitlines would also split at characters inside of cells.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not lines[-1]:
        lines.pop()  # what follows the last line end is no line
    if form.footer:
        lines = lines[: _end([line.strip() for line in lines], form.footer)]
    return _TextReader(file, lines, form)


def _end(lines: Sequence[object], footer: int) -> int:
    """The number of lines before the footer; empty ones at the end are no part of it."""
    end = len(lines)
    for _ in range(footer):
        while end > 0 and not lines[end - 1]:
            end -= 1
        end = max(end - 1, 0)
    return end


def _workbook_rows(file: str, content: bytes, form: Format) -> Iterator[Row]:
    """The rows of a sheet with the types of its cells, text without the blanks around it."""
    import openpyxl  # a quarter of a second, which only workbooks need

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and validations that openpyxl leaves out
            book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
            sheets = {sheet.title: sheet for sheet in book.worksheets}
            name = form.sheet
            if name is None and len(sheets) == 1:
                (name,) = sheets
            rows = []
            if name in sheets:
                # The recorded size of a sheet may be that of the largest one, a million rows.
                sheets[name].reset_dimensions()
                rows = [_trimmed(cells) for cells in sheets[name].iter_rows(values_only=True)]
    except Exception as error:  # whatever a damaged archive or XML raises
        raise DataError(
            f"{file} is no workbook that can be read ({describe(error)}); save it again as .xlsx"
        ) from None
    if name not in sheets:
        fault = f"has no sheet `{name}`"
        if name is None:
            fault = f"has {len(sheets)} sheets"
        raise DataError(
            f"{file} {fault}; set `sheet` in the conf to one of its sheets: {', '.join(sheets)}"
        )
    numbered = [Row(number, cells) for number, cells in enumerate(rows, start=1)]
    return iter(numbered[form.skip : _end(rows, form.footer)])


def _trimmed(cells: Sequence[Cell]) -> list[Cell]:
    """Cells without the blanks around them, and without the empty ones at the end.

    A sheet stores no empty cells, so a row of it is never too short.
    """
    trimmed = [cell.strip() if isinstance(cell, str) else cell for cell in cells]
    while trimmed and trimmed[-1] in (None, ""):
        trimmed.pop()
    return trimmed


# --- rows to a table ----------------------------------------------------------------------------


def _table(
    file: str, lines: "_TextReader | Iterator[Row]", form: Format, expected: Sequence[str]
) -> Table:
    """A table of the rows that have content; raises DataError for one that does not fit."""
    import pandas as pd

    reader = _TableReader(file, lines, form)
    chunks = list(reader.chunks(expected))
    rows = chunks[0] if len(chunks) == 1 else pd.concat(chunks)
    return Table(rows, reader.empty)


class _TableReader:
    """The rows of a file as frames of at most CHUNK_CELLS cells; `empty` counts those left out."""

    def __init__(self, file: str, lines: "_TextReader | Iterator[Row]", form: Format) -> None:
        self.file = file
        self.text = lines if isinstance(lines, _TextReader) else None
        self.is_text = self.text is not None
        self.lines = iter(lines)
        self.form = form
        self.empty = 0
        self.header: list[str] = []

    def chunks(self, expected: Sequence[str]) -> "Iterator[pd.DataFrame]":
        """One frame or more; that of a file with a header alone has no rows."""
        rows = self._start(expected)
        size = max(1, CHUNK_CELLS // len(self.header))
        first = max(1, FIRST_CELLS // len(self.header)) if self.text else size
        yield self._frame(list(itertools.islice(rows, first)))
        while True:
            plain = self._plain_frame()
            if plain is not None:
                yield plain
            chunk = list(itertools.islice(rows, size))
            if not chunk:
                return
            yield self._frame(chunk)

    def _plain_frame(self) -> "pd.DataFrame | None":
        """The rows of the next lines up to one that is not plain or does not fit, if they are many.

        `_frame` reads the others, or says what is wrong with them.
        """
        from . import plain_lines  # PyArrow

        blocks = []
        numbers: list[int] = []
        size = max(1, BLOCK_CELLS // len(self.header))
        while block := self.text and self.text.plain_lines(size):
            assert self.text is not None
            columns = plain_lines.columns(
                block.lines, self.form.delimiter, len(self.header), self.form.unknown
            )
            if columns is None:
                break
            self.text.position = block.end
            self.empty += block.blank + int((~columns.has_content).sum())
            blocks.append(columns)
            numbers += itertools.compress(block.numbers, columns.has_content)
        if not blocks:
            return None
        return plain_lines.frame(self.header, blocks, _index(self.file, numbers))

    def _start(self, expected: Sequence[str]) -> Iterator[Row]:
        """Set the names of the columns; return the rows."""
        rows = self._with_content()
        first = next(rows, None)
        if first is None:
            raise DataError(f"{self.file} is empty; expected a table with {', '.join(expected)}")
        names = self.form.names
        if names is not None and not _is_header(first.cells, names, expected):
            self._check_no_header(first, names)
            self.header = names
            return itertools.chain([first], rows)
        self.header = self._names_in(first)
        for _ in range(self.form.skip_after):
            next(self.lines, None)
        second = next(rows, None)
        if second is None:
            return iter(())
        # Where the conf has names and the file a header all the same, the header holds, since it
        # may have another order, unless it names fewer columns than the rows have.
        if names is not None and len(self.header) < len(second.cells) == len(names):
            self.header = names
        return itertools.chain([second], rows)

    def _with_content(self) -> Iterator[Row]:
        for row in self.lines:
            # An empty cell of a text is "", and the empty cells at the end of a sheet are cut off.
            if any(row.cells) if self.is_text else row.cells:
                yield row
            else:
                self.empty += 1

    def _names_in(self, row: Row) -> list[str]:
        """The names in a header; raises DataError for a name that stands twice."""
        header = []
        for position, cell in enumerate(row.cells):
            name = "" if cell is None else str(cell)
            header.append(name or f"Unnamed: {position}")  # as pandas names them
        repeated = _repeated(header)
        if repeated is not None:
            raise DataError(
                f"{self.file} {self._word} {row.line} names the column `{repeated}` twice; rename"
                " one of them"
            )
        return header

    def _check_no_header(self, row: Row, names: Sequence[str]) -> None:
        """Raise DataError for a first row that is neither a header of known names nor data."""
        named = {str(cell) for cell in row.cells} & set(names)
        strange = [str(cell) for cell in row.cells if cell not in names]
        if strange and len(named) >= 2 and len(named) > len(strange):
            raise DataError(
                f"{self.file} {self._word} {row.line} has names of columns, and"
                f" {', '.join(strange)[:SHOWN]}, which `names` in the conf lacks; pass it over with"
                f" `skip: {row.line}` if it is a header, or correct `names`"
            )

    @property
    def _word(self) -> str:
        return "line" if self.is_text else "row"

    def _fitted(self, row: Row) -> Sequence[Cell]:
        """The cells of a row, one for each name; raises DataError if it has too few or too many."""
        expected = len(self.header)
        cells = row.cells
        if len(cells) == expected:
            return cells
        named = self.form.names is not None
        if len(cells) > expected and named and self.form.NAMES_MAY_END_EARLY:
            return cells[:expected]
        if len(cells) < expected and not self.is_text:
            return [*cells, *[None] * (expected - len(cells))]
        source = "`names` in the conf has" if named else "the header has"
        advice = "correct the line"
        if len(cells) > expected:
            advice += f", or name all {len(cells)} columns in `names` in the conf"
        raise DataError(
            f"{self.file} {self._word} {row.line} has {len(cells)} cells, and {source} {expected}"
            f" names; {advice}"
        )

    def _frame(self, rows: Sequence[Row]) -> "pd.DataFrame":
        import pandas as pd

        index = _index(self.file, [row.line for row in rows])
        fitted = [self._fitted(row) for row in rows]
        by_column = zip(*fitted, strict=True) if fitted else [()] * len(self.header)
        columns = {}
        for name, cells in zip(self.header, by_column, strict=True):
            columns[name] = _column(cells, self.form.unknown, index)
        return pd.DataFrame(columns, index=index)


def _is_header(cells: Sequence[Cell], names: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether a row is a header: different names of columns, and nothing else.

    Surplus columns may be among them where all the `expected` names are, which no row of data has.
    A single name may also be the only cell of a row of data that is not empty.
    """
    present = [cell for cell in cells if cell not in (None, "")]
    distinct = set(map(str, present))
    if len(distinct) < len(present) or len(present) < min(2, len(names)):
        return False
    return distinct <= set(names) or (len(expected) > 1 and set(expected) <= distinct)


def _repeated(names: Sequence[str]) -> str | None:
    """The first name that stands twice."""
    seen = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _index(file: str, lines: Sequence[int]) -> "pd.MultiIndex":
    import pandas as pd

    files = pd.Categorical.from_codes([0] * len(lines), categories=pd.Index([file]))
    return pd.MultiIndex.from_arrays([files, list(lines)], names=[FILE, LINE])


def _column(cells: Sequence[Cell], unknown: Sequence[str], index: "pd.Index") -> "pd.Series":
    """A column of text, or of any values; missing where a cell is empty or a mark."""
    import pandas as pd

    missing = {"", *unknown}
    values: list[Cell] = []
    is_text = True
    for cell in cells:
        if isinstance(cell, str):
            values.append(None if cell in missing else cell)
        else:
            values.append(cell)
            is_text = is_text and cell is None
    return pd.Series(values, index=index, dtype="str" if is_text else object)


# --- files whose values have types --------------------------------------------------------------


def _records(
    file: str, suffix: str, content: bytes, form: Format, expected: Sequence[str]
) -> Table:
    """The rows of a Parquet or JSON file, with the types of their values."""
    try:
        rows = trimmed(_typed_rows(suffix, content), form)
    except Exception as error:  # pyarrow's errors, those of json and of the frame's constructor
        raise DataError(
            f"{file} is no table in {suffix.removeprefix('.')} ({describe(error)}); correct it"
        ) from None
    if not len(rows.columns):
        raise DataError(f"{file} is empty; expected a table with {', '.join(expected)}")
    rows.columns = [str(name).strip() for name in rows.columns]
    repeated = _repeated(list(rows.columns))
    if repeated is not None:
        raise DataError(f"{file} names the column `{repeated}` twice; rename one of them")
    rows.index = _index(file, range(1, len(rows) + 1))
    has_content = rows.notna().any(axis=1)
    return Table(rows[has_content], int((~has_content).sum()))


def _typed_rows(suffix: str, content: bytes) -> "pd.DataFrame":
    import pandas as pd

    if suffix == ".parquet":
        rows = pd.read_parquet(io.BytesIO(content))
        is_named = any(name is not None for name in rows.index.names)
        return rows.reset_index() if is_named else rows
    if suffix == ".json":
        # Not pandas.read_json, which turns texts into days and numbers by rules of its own.
        return pd.DataFrame(json.loads(content))
    records = []
    # Not splitlines, which also splits at characters that JSON allows inside of a text.
    for line in content.decode("utf-8-sig").split("\n"):
        if line.strip():
            records.append(json.loads(line))
    return pd.DataFrame(records)


def trimmed(rows: "pd.DataFrame", form: Format) -> "pd.DataFrame":
    """Rows with types, in which text is read as that of a file: trimmed, missing where a mark is.

    The index and the types of other columns stay as they are.
    """
    import pandas as pd

    columns = []
    for _, column in rows.items():
        if pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column):
            cells = [_plain(cell) for cell in column]
            column = _column(cells, form.unknown, rows.index)
        columns.append(column)
    # Not by their names, of which one may stand twice.
    typed = pd.concat(columns, axis=1) if columns else rows
    return typed.set_axis(rows.columns, axis=1)


def _plain(cell: Cell) -> Cell:
    """Text without blanks around it; None for NaN; a list or a mapping of JSON as its text."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, list | dict):
        return str(cell)  # no kind has a use for one, and pandas cannot compare them
    if isinstance(cell, float) and cell != cell:
        return None
    return cell


# --- patterns for names of columns --------------------------------------------------------------


def is_pattern(name: str) -> bool:
    """Whether a name in the conf stands for several columns, as `pixel*` does."""
    return "*" in name


def fits_pattern(name: str, pattern: str) -> bool:
    """Whether the name of a column fits a pattern, in which `*` is any text and all else itself."""
    parts = [re.escape(part) for part in pattern.split("*")]
    return is_pattern(pattern) and re.fullmatch(".*".join(parts), name, re.DOTALL) is not None
