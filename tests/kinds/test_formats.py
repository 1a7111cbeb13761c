"""Files of rows: delimited text in many dialects, workbooks, Parquet, JSON, compressed files."""

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import cases
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant.errors import DataError, UsageError
from sextant.kinds import formats
from sextant.kinds.formats import Format, Table, place, read_table
from sextant.strict import check

Rows = list[list[object]]


def read(folder: Path, content: str | bytes, name: str = "rows.csv", **form: object) -> Table:
    """The table of a file with this content."""
    raw = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(raw)
    return read_table(folder / name, Format.model_validate(form), ["a", "b"])


def cells(table: Table) -> Rows:
    """The rows of a table, missing values as None."""
    rows = table.rows.astype(object)
    return rows.where(rows.notna(), None).to_numpy().tolist()


def lines(table: Table) -> list[int]:
    return table.rows.index.get_level_values("line").tolist()


# --- text ---------------------------------------------------------------------------------------

CLEAN = "a,b\n007,x\n1.50,y z\n"
EXPECTED: Rows = [["007", "x"], ["1.50", "y z"]]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (CLEAN, {}),
        (CLEAN.replace("\n", "\r\n"), {}),
        (CLEAN.replace("\n", "\r"), {}),
        (CLEAN.removesuffix("\n"), {}),
        ("\ufeff" + CLEAN, {}),
        (" a , b\n 007 ,x\t\n1.50 , y z \n", {}),
        ('"a","b"\n"007","x"\n"1.50","y z"\n', {}),
        (' "a" , "b" \n "007" ,"x" \n1.50, "y z"\n', {}),
        (CLEAN.replace(",", ";"), {"delimiter": ";"}),
        (CLEAN.replace(",", "\t"), {"delimiter": "\t"}),
        (CLEAN.replace(",", "::"), {"delimiter": "::"}),
        (CLEAN.replace(",", " | "), {"delimiter": " | "}),
        ('a  b\n 007 \t x\n1.50   "y z"\n', {"delimiter": "blanks"}),
        ("# made today\na,b\n007,x\n # a remark, with a delimiter\n1.50,y z\n", {"comment": "#"}),
        ("Report\n\na,b\n007,x\n1.50,y z\n", {"skip": 2}),
        ("a,b\nticker,X,,\ndate,\n007,x\n1.50,y z\n", {"skip_after": 2}),
        (CLEAN + "Total,2\nMade by hand\n\n", {"footer": 2}),
        ("007,x\n1.50,y z\n", {"names": ["a", "b"]}),
        (CLEAN, {"names": ["a", "b"]}),
        (CLEAN, {"thousands": ",", "decimal": "."}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_table_is_the_same_in_every_dialect(tmp_path: Path, text: str, form: dict[str, object]):
    table = read(tmp_path, text, **form)
    assert list(table.rows) == ["a", "b"]
    assert cells(table) == EXPECTED
    assert (table.rows.dtypes == "str").all()


@cases.each("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_the_encoding_is_that_of_the_format(tmp_path: Path, encoding: str):
    table = read(tmp_path, "a,ö\nMünchen,1\n".encode(encoding), encoding=encoding)
    assert list(table.rows) == ["a", "ö"]
    assert cells(table) == [["München", "1"]]


@cases.each(
    ("content", "form", "message"),
    [
        (
            "a,b\n1,2\nMünchen,3\n".encode("cp1252"),
            {},
            r"rows.csv line 3 is not utf-8 \(byte 0xfc\); set `encoding` in the conf, such as cp",
        ),
        ("a,b\n".encode("utf-16"), {}, r"line 1 is not utf-8 \(byte 0xff\)"),
        ("a,b\n".encode("utf-16"), {"encoding": "latin-1"}, "line 1 has a null character"),
        (b"a,b\n1,2,\n", {"encoding": "utf-16"}, "rows.csv line 2 is not utf-16"),
        (
            "a,b\n".encode("utf-8-sig"),
            {"encoding": "cp1252"},
            "begins with the byte order mark of utf-8; set `encoding: utf-8` in the conf",
        ),
    ],
    ids=["cp1252", "utf-16", "utf-16 as latin-1", "utf-8 as utf-16", "utf-8 as cp1252"],
)
def test_bytes_that_are_not_of_the_encoding_are_refused(tmp_path, content, form, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, **form)


def test_only_the_empty_cell_blanks_and_marks_are_missing(tmp_path: Path):
    text = 'a,b\n,?\n "" , ? \nNA,-\nnull,nan\n'
    table = read(tmp_path, text, unknown=["?", "-"])
    assert cells(table) == [[None, None], [None, None], ["NA", None], ["null", "nan"]]
    assert table.empty == 0  # a mark is content
    assert cells(read(tmp_path, "a,b\n1,?\n", unknown="?")) == [["1", None]]


def test_rows_without_content_are_passed_over_and_counted(tmp_path: Path):
    table = read(tmp_path, 'a,b\n\n1,2\n,\n   \n"",  \n3,4\n\n')
    assert cells(table) == [["1", "2"], ["3", "4"]]
    assert table.empty == 5
    assert lines(table) == [3, 7]


def test_a_row_is_known_by_the_line_of_its_file(tmp_path: Path):
    text = 'made today\n# a remark\na,b\n"first\nsecond",2\n\n3,4\n'
    table = read(tmp_path, text, skip=1, comment="#")
    assert cells(table) == [["first\nsecond", "2"], ["3", "4"]]
    assert lines(table) == [4, 7]
    assert place(table.rows, 1) == "rows.csv line 7"
    assert place(table.rows["b"], 0) == "rows.csv line 4"
    assert place(table.rows.reset_index(drop=True), 0) == "row 1"
    together = pd.concat([table.rows, read(tmp_path, "a,b\n1,2\n", "more.csv.gz.csv").rows])
    assert place(together, 2) == "more.csv.gz.csv line 2"


def test_quotation_marks_are_read_as_the_format_says(tmp_path: Path):
    standard = 'a,b\n"Smith, ""J""",5" pipe\n'
    assert cells(read(tmp_path, standard)) == [['Smith, "J"', '5" pipe']]
    backslash = 'a,b\n"Smith, \\"J\\"",x\\,y\n"a\\\\",1\n'
    assert cells(read(tmp_path, backslash, quoting="backslash")) == [
        ['Smith, "J"', "x,y"],
        ["a\\", "1"],
    ]
    plain = 'a,b\n"Great" Expectations,"\n'
    assert cells(read(tmp_path, plain, quoting="none")) == [['"Great" Expectations', '"']]


@cases.each(
    ("text", "message"),
    [
        ("", "rows.csv is empty; expected a table with a, b"),
        ("\n \n,\n", "rows.csv is empty; expected a table with a, b"),
        ("a,b\n1,2\n3\n", "rows.csv line 3 has 1 cells, and the header has 2 names; correct"),
        (
            "a,b\n\n1,2,3\n",
            "line 3 has 3 cells, and the header has 2 names; correct the line, or name all 3"
            " columns in `names` in the conf",
        ),
        ("a,b\n1,2,\n", "line 2 has 3 cells, and the header has 2 names"),
        ("a,b,a\n1,2,3\n", "rows.csv line 1 names the column `a` twice; rename one of them"),
        ('a,b\n1,2\n"3,4\n5,6\n', "line 3 opens a quotation mark that nothing closes; close it"),
        (
            'a,b\n1,"2\n3,4\n5,6",\n'.replace('",', '"'),
            "line 2 opens a quotation mark that line 4 closes, a row of its own",
        ),
        (
            'a,b\n1,"2\n3,"4\n',
            "line 3 has '4' after a closing quotation mark .the row begins in line 2.",
        ),
        ('a,b\n"1"2,3\n', "line 2 has '2,3' after a closing quotation mark"),
    ],
    ids=[
        *("empty", "blank", "short row", "long row", "delimiter at the end", "name twice"),
        *("open mark", "two stray marks", "stray mark before text", "text after a mark"),
    ],
)
def test_the_first_line_that_does_not_fit_is_refused_by_its_number(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_a_text_of_several_lines_is_one_cell(tmp_path: Path):
    text = 'a,b\n1,"Dear Sir, or Madam,\n\nthank you, bye"\n2,"x\ny"\n'
    assert cells(read(tmp_path, text)) == [
        ["1", "Dear Sir, or Madam,\n\nthank you, bye"],
        ["2", "x\ny"],
    ]


def test_columns_without_a_name_are_numbered(tmp_path: Path):
    table = read(tmp_path, ",a,\n1,2,3\n")
    assert list(table.rows) == ["Unnamed: 0", "a", "Unnamed: 2"]


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path):
    table = read(tmp_path, "a,b\n")
    assert list(table.rows) == ["a", "b"]
    assert len(table.rows) == 0


# --- names in conf ------------------------------------------------------------------------------

ABC = {"names": ["a", "b", "c"]}


@cases.each(
    ("text", "names", "expected"),
    [
        ("1,2,3\n", ["a", "b", "c"], [["1", "2", "3"]]),
        ("a,b,c\n1,2,3\n", ["a", "b", "c"], [["1", "2", "3"]]),
        ("c,b,a\n1,2,3\n", ["c", "b", "a"], [["1", "2", "3"]]),
        ("b,c\n2,3\n", ["b", "c"], [["2", "3"]]),
        ("b,c\n1,2,3\n", ["a", "b", "c"], [["1", "2", "3"]]),
        ("a,x,y\n1,2,3\n", ["a", "b", "c"], [["a", "x", "y"], ["1", "2", "3"]]),
        ("a,a,b\n", ["a", "b", "c"], [["a", "a", "b"]]),
        ("a,,\n", ["a", "b", "c"], [["a", None, None]]),
        ("a,b,c\n", ["a", "b", "c"], []),
    ],
    ids=[
        *("none", "all", "another order", "some", "fewer than cells", "an unknown name"),
        *("a name twice", "a single cell", "a header alone"),
    ],
)
def test_a_first_line_of_known_names_is_a_header(tmp_path, text, names, expected):
    table = read(tmp_path, text, **ABC)
    assert list(table.rows) == names
    assert cells(table) == expected


def test_a_header_with_all_expected_names_may_have_surplus_ones(tmp_path: Path):
    (tmp_path / "a.csv").write_text("b,a,d\n1,2,3\n")
    form = Format(names=["a", "b", "c"])
    assert list(read_table(tmp_path / "a.csv", form, ["a", "b"]).rows) == ["b", "a", "d"]
    with pytest.raises(DataError, match="and d, which `names` in the conf lacks"):
        read_table(tmp_path / "a.csv", form, ["a", "b", "c"])


def test_a_header_with_a_strange_name_is_refused(tmp_path: Path):
    message = "line 1 has names of columns, and #a, which `names` in the conf lacks; pass it over"
    with pytest.raises(DataError, match=f"{message} with `skip: 1` if it is a header"):
        read(tmp_path, "#a,b,c\n1,2,3\n", **ABC)
    with pytest.raises(DataError, match="and #b, which `names` in the conf lacks"):
        read(tmp_path, "a #b c\n1 2 3 4\n", delimiter=" ", names=["a", "b", "c", "d"])


def test_rows_have_as_many_cells_as_names(tmp_path: Path):
    for text in ("1,2\n", "1,2,3,4\n"):
        message = f"line 1 has {text.count(',') + 1} cells, and `names` in the conf has 3 names"
        with pytest.raises(DataError, match=message):
            read(tmp_path, text, **ABC)


class Beginning(Format):
    """A format whose names may be those of the first columns."""

    NAMES_MAY_END_EARLY = True


def test_names_may_be_those_of_the_first_columns(tmp_path: Path):
    (tmp_path / "u.item").write_bytes("1|Toy Story|1995|1\n2|Amélie|2001|0\n".encode("latin-1"))
    form = Beginning(delimiter="|", encoding="latin-1", names=["item", "title"])
    table = read_table(tmp_path / "u.item", form, ["item"])
    assert cells(table) == [["1", "Toy Story"], ["2", "Amélie"]]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"encoding": "utf-9"}, "`encoding` is 'utf-9'; no such encoding; common are"),
        ({"encoding": "base64"}, "no such encoding"),
        ({"thousands": "."}, "`decimal` and `thousands` are both '.'; expected different marks"),
        ({"names": ["a", "b", "a"]}, "`names` has `a` twice; expected each name once"),
        ({"delimiter": ""}, "`delimiter` is ''"),
        ({"quoting": "some"}, "`quoting` is 'some'"),
        ({"sniff": True}, "unknown key `sniff`"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_format_that_cannot_be_is_refused(block, message):
    with pytest.raises(UsageError, match=message):
        check(Format, block, "columns")


def test_the_keys_of_a_format_may_be_null_where_they_were_required():
    form = check(Format, {"names": None, "unknown": None, "thousands": None}, "columns")
    assert form == Format()
    assert form.model_dump(exclude_unset=True) == {"names": None, "unknown": [], "thousands": None}


# --- laws ---------------------------------------------------------------------------------------

texts = st.text(st.sampled_from(list('ab "\\,;\n\té|')), max_size=6)
tables = st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=8)


@given(rows=tables, delimiter=st.sampled_from([",", ";", "||"]))
@settings(max_examples=25)
def test_what_is_quoted_is_read_as_it_was_written(tmp_path_factory, rows, delimiter):
    """Every cell in quotation marks, except rows that look like two stray ones."""
    written = []
    for row in rows:
        quoted = ['"' + cell.replace('"', '""') + '"' for cell in row]
        written.append(delimiter.join(quoted))
    path = tmp_path_factory.getbasetemp() / "law.csv"
    path.write_bytes(("x,y,z".replace(",", delimiter) + "\n" + "\n".join(written)).encode())
    expected = []
    for row in rows:
        trimmed = [cell.strip() or None for cell in row]
        if any(trimmed):
            expected.append(trimmed)
    try:
        table = read_table(path, Format(delimiter=delimiter), ["x"])
    except DataError as error:
        assert "a row of its own" in str(error)
        return
    assert cells(table) == expected


@given(content=st.binary(max_size=60))
@settings(max_examples=40)
def test_any_bytes_are_a_table_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(b"a,b\n" + content)
    try:
        table = read_table(path, Format(), ["a"])
    except DataError:
        return
    assert list(table.rows) == ["a", "b"]


# --- compressed files ---------------------------------------------------------------------------


LINE = st.lists(
    st.sampled_from(["", "7", "ab", " x", "\u00a0y\u2003", "?", "\t", "é"]), min_size=3, max_size=3
)
ODD_LINES = st.sampled_from(["", "  ", "# a remark", 'a,"b, c",d', "too,short", "a,b,c,d"])


@settings(max_examples=25)
@given(
    st.lists(st.one_of(LINE.map(",".join), LINE.map(",".join), ODD_LINES), max_size=12),
    st.integers(1, 12),
)
def test_many_lines_at_once_are_read_as_one_by_one(tmp_path_factory, written, size):
    """The same table, or the same refusal; `size` is the number of cells in a block."""
    folder = tmp_path_factory.getbasetemp()
    content = "\n".join(["a,b,c", *written])
    answers = []
    for first in (10**9, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(formats, "FIRST_CELLS", first)
            patch.setattr(formats, "BLOCK_CELLS", size)
            try:
                table = read(folder, content, unknown="?", comment="#")
            except DataError as error:
                answers.append(str(error))
            else:
                answers.append((cells(table), lines(table), table.empty, list(table.rows.dtypes)))
    assert answers[0] == answers[1]


def zipped(content: bytes, *names: str) -> bytes:
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("rows.csv.gz", gzip.compress),
        ("ROWS.CSV.GZ", gzip.compress),
        ("rows.csv.bz2", bz2.compress),
        ("rows.csv.xz", lzma.compress),
        ("rows.zip", lambda content: zipped(content, "folder/rows.csv")),
        ("rows.ZIP", lambda content: zipped(content, "rows.csv", "__MACOSX/._rows.csv")),
    ],
)
def test_a_compressed_file_is_read(tmp_path: Path, name: str, compress: Callable[[bytes], bytes]):
    table = read(tmp_path, compress(CLEAN.encode()), name)
    assert cells(table) == EXPECTED
    assert place(table.rows, 0) == f"{name} line 2"
    for damaged in (compress(CLEAN.encode())[:-9], b"no such file"):
        with pytest.raises(DataError, match=f"{name} cannot be read .*; check that it is complete"):
            read(tmp_path, damaged, name)


def test_a_zip_of_several_files_is_refused(tmp_path: Path):
    message = r"rows.zip contains 2 files \(a.csv, b.csv\); expected one; unpack it, or zip the one"
    with pytest.raises(DataError, match=message):
        read(tmp_path, zipped(b"", "a.csv", "b.csv"), "rows.zip")


def test_a_file_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="none.csv does not exist; name a file of rows"):
        read_table(tmp_path / "none.csv", Format(), ["a"])


# --- files whose values have types --------------------------------------------------------------


def workbook(path: Path, **sheets: Rows) -> Path:
    """Write a workbook with these sheets; return its path."""
    book = openpyxl.Workbook()
    assert book.active is not None
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_workbook_keeps_the_types_of_its_cells(tmp_path: Path):
    path = workbook(
        tmp_path / "Rows.XLSX",
        Data=[
            ["made today"],
            [" a ", "b", "day", "text"],
            [7, 0.5, datetime(2020, 1, 2), " x "],
            [],
            [None, True, None, "?"],
            [8],
            ["total", 3],
        ],
    )
    table = read_table(path, Format(skip=1, footer=1, unknown=["?"]), ["a"])
    assert list(table.rows) == ["a", "b", "day", "text"]
    assert cells(table) == [
        [7, 0.5, datetime(2020, 1, 2), "x"],
        [None, True, None, None],
        [8, None, None, None],
    ]
    assert table.empty == 1
    assert lines(table) == [3, 5, 6]
    assert place(table.rows, 1) == "Rows.XLSX row 5"


def test_a_workbook_is_refused_with_what_to_do(tmp_path: Path):
    path = workbook(tmp_path / "rows.xlsx", One=[["a"], [1, 2]], Two=[["a"], [1]])
    with pytest.raises(
        DataError, match="has 2 sheets; set `sheet` in the conf to one of its sheet"
    ):
        read_table(path, Format(), ["a"])
    with pytest.raises(DataError, match="has no sheet `Three`; set `sheet` .*: One, Two"):
        read_table(path, Format(sheet="Three"), ["a"])
    with pytest.raises(DataError, match="row 2 has 2 cells, and the header has 1 names"):
        read_table(path, Format(sheet="One"), ["a"])
    assert cells(read_table(path, Format(sheet="Two"), ["a"])) == [[1]]
    with pytest.raises(DataError, match="rows.xlsx is no workbook that can be read"):
        read(tmp_path, CLEAN, "rows.xlsx")
    with pytest.raises(DataError, match="old.xls is a workbook that is not supported; save it as"):
        read(tmp_path, CLEAN, "old.xls")


RECORDS = [{"a": " x ", "b": 1.5}, {"a": None, "b": None}, {"a": "?", "b": 2}]


def test_parquet_and_json_keep_types_and_know_the_marks(tmp_path: Path):
    pd.DataFrame(RECORDS).to_parquet(tmp_path / "rows.PARQUET")
    (tmp_path / "rows.json").write_text(json.dumps(RECORDS))
    jsonl = "\n".join(json.dumps(record) for record in RECORDS)
    (tmp_path / "rows.jsonl").write_text(jsonl + "\n\n")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(jsonl.encode()))
    for name in ("rows.PARQUET", "rows.json", "rows.jsonl", "rows.jsonl.gz"):
        table = read_table(tmp_path / name, Format(unknown=["?"]), ["a"])
        assert cells(table) == [["x", 1.5], [None, 2.0]]
        assert table.rows["b"].dtype == "float64"
        assert table.empty == 1
        assert lines(table) == [1, 3]
    assert place(table.rows, 1) == "rows.jsonl.gz line 3"


@pytest.mark.parametrize("name", ["rows.parquet", "rows.json", "rows.jsonl"])
def test_damaged_records_are_refused(tmp_path: Path, name: str):
    for content in ("{", '{"a": 1', "[1, 2", "\xff"):
        with pytest.raises(DataError, match=f"{name} is no table in {name[5:]}"):
            read(tmp_path, content, name)
    if name == "rows.json":
        with pytest.raises(DataError, match="rows.json is empty; expected a table with a, b"):
            read(tmp_path, "[]", name)
