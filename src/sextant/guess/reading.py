"""Read a file of rows in the format that it seems to have."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..errors import DataError, UsageError, describe
from ..kinds import formats
from ..kinds.formats import Format
from . import dialect, encoding, numbers
from .facts import Facts, facts

HEAD = 2**20  # bytes of a text that tell its dialect
MOST_SKIPPED = 6  # rows above the header of a sheet that are tried
WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": "blanks"}
MOST_FOOTER = 5  # lines with totals, and lines of delimiters among them
FEWEST_ROWS = 10  # among fewer rows none is taken for a total
TOTAL = re.compile(
    r"((grand|sub)?[ -]?totals?|sums?|averages?|mean|(gesamt)?summe|gesamt|total général|somme"
    r"|totale)[ :]*",
    re.IGNORECASE,
)
MOST_DISTINCT = 5000  # values of a column that the marks of numbers are looked for in


@dataclass
class Reading:
    """A file as a table: its format, its rows, and the facts of its columns."""

    file: str
    form: dict[str, object]
    rows: pd.DataFrame
    columns: list[Facts]
    has_header: bool
    empty: int  # rows without content
    doubts: list[str] = field(default_factory=list)

    @property
    def format(self) -> Format:
        """The format as the kinds read it."""
        return Format.model_validate(self.form)

    @property
    def dialect(self) -> str:
        """The format in words."""
        if not self.is_text:
            sheet = self.form.get("sheet")
            return f"sheet {sheet}" if sheet else Path(self.file).suffix.lower().removeprefix(".")
        parts = [str(self.form.get("encoding", "utf-8"))]
        parts.append(f"delimiter {_word(str(self.form.get('delimiter', ',')))}")
        for key, value in self.form.items():
            if key not in ("encoding", "delimiter", "names"):
                text = " ".join(map(repr, value if isinstance(value, list) else [value]))
                parts.append(f"{key} {text}")
        parts.append("with a header" if self.has_header else "without a header")
        return ", ".join(parts)

    @property
    def is_text(self) -> bool:
        """Whether the file is delimited text."""
        return is_text_name(self.file)


def is_text_name(name: str) -> bool:
    """Whether a file is read as delimited text, by its name."""
    path = Path(name)
    if path.suffix.lower() in formats.COMPRESSED:
        path = path.with_suffix("")
    typed = (*formats.WORKBOOKS, *formats.JSON_LINES, ".parquet", ".json")
    return path.suffix.lower() not in typed


def _word(delimiter: str) -> str:
    return {"\t": "tab", "blanks": "blanks"}.get(delimiter, repr(delimiter))


def read(path: Path, chosen: Mapping[str, object]) -> Reading:
    """A file of rows.

    `chosen` are keys of formats.Format that are not to be guessed, and `header`. Raises UsageError
    for a file that is no table.
    """
    name, content = formats.unpacked(path)
    doubts: list[str] = []
    has_header = True
    if not is_text_name(name):
        form = _form_of_sheet(path, name, chosen, doubts)
    else:
        if not encoding.is_text(content):
            raise UsageError(
                f"{path.name} is no text, workbook, picture or archive; name a file of rows, or a"
                " folder or an archive of pictures"
            )
        if not content.strip():
            raise UsageError(f"{path.name} is empty; expected a file of rows, or a text")
        sniffed = dialect.sniff(_head(content), chosen)
        if sniffed is None:
            first = content[:60].decode("utf-8", errors="replace").split("\n")[0]
            raise UsageError(
                f"{path.name} has no columns with any usual delimiter; its first line is {first!r};"
                " name it with DELIMITER=…"
            )
        form = sniffed.form
        doubts += sniffed.doubts
        has_header = sniffed.has_header
    table, form = _read_any_way(path, form, chosen)
    if table.rows.empty:
        raise UsageError(f"{path.name} has a header and no rows; name a file with rows")
    if "footer" not in chosen and (is_text_name(name) or _is_workbook(name)):
        table, form = _without_totals(path, table, form, doubts)
    form = _with_marks(table.rows, form, chosen, doubts)
    if form.get("unknown"):
        table = formats.read_table(path, Format.model_validate(form), [])
    columns = facts(table.rows, Format.model_validate(form))
    return Reading(path.name, form, table.rows, columns, has_header, table.empty, doubts)


def _is_workbook(name: str) -> bool:
    return Path(name).suffix.lower() in formats.WORKBOOKS


def _without_totals(
    path: Path, table: formats.Table, form: dict[str, object], doubts: list[str]
) -> tuple[formats.Table, dict[str, object]]:
    """The table without the totals that a spreadsheet has below the rows."""
    first = int(str(form.get("footer", 0)))
    for footer in range(first, first + MOST_FOOTER):
        if not ends_with_total(table.rows):
            break
        cells = ", ".join(str(cell) for cell in table.rows.iloc[-1].dropna())
        doubt = f"the last row is left out as a total: {cells} (FOOTER={first})"
        if doubt not in doubts:
            doubts.append(doubt)
        form = {**form, "footer": footer + 1}
        table = formats.read_table(path, Format.model_validate(form), [])
    return table, form


def ends_with_total(rows: pd.DataFrame) -> bool:
    """Whether the last row is a total: half of the usual cells are empty, and one says so."""
    if len(rows) < FEWEST_ROWS:
        return False
    cells = rows.iloc[-1].dropna()
    usual = rows.notna().sum(axis=1).median()
    return len(cells) <= usual / 2 and any(TOTAL.fullmatch(str(cell).strip()) for cell in cells)


def _head(content: bytes) -> bytes:
    """The first bytes of a text, up to the end of a line."""
    if len(content) <= HEAD:
        return content
    return content[: content.rfind(b"\n", 0, HEAD) + 1] or content[:HEAD]


def _read_any_way(
    path: Path, form: dict[str, object], chosen: Mapping[str, object]
) -> tuple[formats.Table, dict[str, object]]:
    """The table, with another way of quoting if a later line does not fit the guessed one."""
    forms = [form]
    if "quoting" not in chosen and is_text_name(path.name):
        for quoting in dialect.QUOTING:
            if quoting != form.get("quoting", "standard"):
                forms.append({**form, "quoting": quoting})
    first: DataError | None = None
    for candidate in forms:
        try:
            return formats.read_table(path, Format.model_validate(candidate), []), candidate
        except DataError as error:
            first = first or error
    assert first is not None
    raise first


def _form_of_sheet(
    path: Path, name: str, chosen: Mapping[str, object], doubts: list[str]
) -> dict[str, object]:
    """The format of a workbook: its sheet, and the rows above the header. Of others: nothing."""
    kept = ("sheet", "skip", "skip_after", "footer", "names", "unknown")
    form = {key: value for key, value in chosen.items() if key in kept}
    if not _is_workbook(name):
        return {key: value for key, value in form.items() if key == "unknown"}
    sheets = _sheets(path)
    if "sheet" not in form and len(sheets) > 1:
        form["sheet"] = sheets[0]
        doubts.append(f"sheet `{sheets[0]}` of {len(sheets)} (SHEET={sheets[1]} …)")
    if "skip" in form:
        return form
    fewest = None
    best = 0
    for skip in range(MOST_SKIPPED):
        try:
            table = formats.read_table(path, Format.model_validate({**form, "skip": skip}), [])
        except DataError:
            continue
        unnamed = sum(column.startswith("Unnamed: ") for column in table.rows.columns)
        if fewest is None or unnamed < fewest:
            fewest, best = unnamed, skip
        if unnamed == 0:
            break
    return {**form, "skip": best} if best else form


def _sheets(path: Path) -> list[str]:
    """The names of the sheets of a workbook; raises UsageError if it cannot be opened."""
    import openpyxl

    try:
        return [str(name) for name in openpyxl.load_workbook(path, read_only=True).sheetnames]
    except Exception as error:  # whatever a damaged archive or XML raises
        raise UsageError(
            f"{path.name} is no workbook that can be read ({describe(error)}); save it again as"
            " .xlsx"
        ) from None


def _with_marks(
    rows: pd.DataFrame, form: dict[str, object], chosen: Mapping[str, object], doubts: list[str]
) -> dict[str, object]:
    """The format with the marks of numbers, of thousands, and of what is unknown."""
    columns = []
    for name in rows.columns:
        present = rows[name].dropna()
        texts = [value for value in present.unique()[:MOST_DISTINCT] if isinstance(value, str)]
        is_text = len(texts) == min(present.nunique(), MOST_DISTINCT)
        columns.append(texts if is_text else [text for text in texts if text in numbers.MARKS])
    marks_of_columns = numbers.marks(columns, str(form.get("delimiter", ",")), chosen)
    doubts += marks_of_columns.doubts
    defaults = {"decimal": "."}
    marks = {
        key: value for key, value in marks_of_columns.form.items() if defaults.get(key) != value
    }
    return {**form, **marks}
