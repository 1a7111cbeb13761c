"""Mutations of files and confs for test_fuzz.py: pure functions of their input and a generator.

`DAMAGES` may spoil a file, `CONF_DAMAGES` a conf. `HARMLESS` and `HARMLESS_IN_CONF` change how
these are written, and nothing of what they say.
"""

import bz2
import copy
import gzip
import io
import json
import lzma
import random
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd
import yaml

DELIMITERS = (b"::", b",", b";", b"\t", b"|")
# Cells as they come from other programs, and some that no program writes.
ODD_CELLS = (
    *("", " ", "-", "?", "NA", "N/A", "null", "NULL", "nan", "NaN", "inf", "-Infinity", "None"),
    *("True", "false", "0", "-0", "2.0", "1e999", "-1e999", "1e308", "1e-400", "9" * 25),
    *("9" * 400, "0x1F", "1_000", "1,000", "1.234,5", "(5)", "5-", "\u22125", "5 %", "$5", "1.69M"),
    *("\u0663\u0664", "\uff11\uff12", "\u00bd", "\u00b2", "caf\u00e9", "\U0001f600", "\u202e"),
    *("\ufeff", "\x00", "\x1a", "\x85", "\u2028", '"', '""', '"a', "'", "\\", "#", "x" * 3000),
    *("a\nb", "a\rb", "=1+1", "[]", "{}", "../../x", "1e10", "1388707200", "9" * 20),
    *("0000-00-00", "2014-13-45", "9999-12-31", "10000-01-01", "31/12/9999", "2/30/2014", "1/1/1"),
    "2014-01-03T00:00:00Z",
)
ODD_BYTES = (
    *(b"\x00", b"\xff", b"\xfe", b"\x80", b'"', b'""', b"\n", b"\r", b"\r\n", b",", b",,", b"\t"),
    *(b" ", b"\\", b"#", b"\xef\xbb\xbf", b"\xff\xfe", b"1e999", b"NaN", b"\xc3", b"PK\x03\x04"),
)
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "cp1252", "cp037", "utf-7", "utf-8-sig")
PLAIN_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
SUFFIXES = (
    *(".csv", ".tsv", ".txt", ".xlsx", ".xls", ".parquet", ".json", ".jsonl", ".gz", ".xz", ".bz2"),
    *(".zip", ".tar.gz", ".npz", ".npy", ".CSV", "", ".png", ".ods"),
)


LARGEST = 20_000_000  # bytes of the lines that `many_lines` adds


class File(NamedTuple):
    """A file of a data set or of a question."""

    name: str
    content: bytes


class Form(NamedTuple):
    """What a mutation without meaning has to know of a text file."""

    delimiter: str
    encoding: str = "utf-8"
    has_header: bool = True
    quotes: bool = True  # whether quotation marks around a cell are no part of it
    reorder: bool = True  # whether the order of rows has no meaning


Damage = Callable[[File, random.Random], File]
Rewrite = Callable[[File, Form, random.Random], File]


# --- damages of bytes ---------------------------------------------------------------------------


def _with(file: File, content: bytes) -> File:
    return File(file.name, content)


def _span(content: bytes, rng: random.Random, longest: int = 40) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(start + rng.randint(1, longest), len(content))


def cut_bytes(file: File, rng: random.Random) -> File:
    start, end = _span(file.content, rng)
    return _with(file, file.content[:start] + file.content[end:])


def truncate(file: File, rng: random.Random) -> File:
    return _with(file, file.content[: rng.randrange(len(file.content) + 1)])


def flip_bits(file: File, rng: random.Random) -> File:
    content = bytearray(file.content)
    for _ in range(rng.choice([1, 3, 20]) if content else 0):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return _with(file, bytes(content))


def insert_bytes(file: File, rng: random.Random) -> File:
    place = rng.randrange(len(file.content) + 1)
    token = rng.choice(ODD_BYTES)
    return _with(file, file.content[:place] + token + file.content[place:])


def repeat_bytes(file: File, rng: random.Random) -> File:
    start, end = _span(file.content, rng, 400)
    return _with(file, file.content[:end] + file.content[start:])


def replace_all(file: File, rng: random.Random) -> File:
    contents = (b"", b"\n", b"\xef\xbb\xbf", b" ", b"\x00" * 64, b"{}", b"[]", b"null", b'"')
    return _with(file, rng.choice([*contents, rng.randbytes(300)]))


def other_suffix(file: File, rng: random.Random) -> File:
    return File(file.name.split(".")[0] + rng.choice(SUFFIXES), file.content)


def compress_damaged(file: File, rng: random.Random) -> File:
    name, pack = rng.choice(
        [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zip", _zipped)]
    )
    damage = rng.choice([truncate, flip_bits, cut_bytes])
    return damage(File(file.name + name, pack(file.content)), rng)


def _zipped(content: bytes, name: str = "rows.csv") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def as_typed_damaged(file: File, rng: random.Random) -> File:
    """The file as a workbook, Parquet or JSON, with a damage or without."""
    try:
        rows = pd.read_csv(io.BytesIO(file.content), sep=None, engine="python", dtype=object)
        typed = _typed_file(rows, rng.choice(TYPED))
    except Exception:  # no table, perhaps by a damage before this one
        return file
    named = File(file.name.split(".")[0] + typed.name, typed.content)
    return rng.choice([flip_bits, truncate, lambda same, rng: same])(named, rng)


def odd_json(file: File, rng: random.Random) -> File:
    """The rows as JSON with odd values, as a program that asks over HTTP may send them."""
    try:
        rows = pd.read_csv(io.BytesIO(file.content), sep=None, engine="python")
        records = json.loads(rows.to_json(orient="records"))
    except Exception:  # no table, perhaps by a damage before this one
        return file
    if not records or not all(records):
        return file
    for _ in range(rng.choice([0, 1, 5, 50])):
        record = rng.choice(records)
        record[rng.choice(list(record))] = rng.choice(ODD_VALUES)
    if rng.random() < 0.3:
        name, value = rng.choice(list(records[0])), rng.choice(ODD_VALUES)
        records = [{**record, name: value} for record in records]
    if rng.random() < 0.1:
        rng.choice(records).clear()
    shape = rng.choice([records, records, records, {"rows": records}, records[0], [records]])
    return File(file.name.split(".")[0] + ".json", json.dumps(shape, default=str).encode())


# --- damages of lines and cells -----------------------------------------------------------------


def _lines(file: File) -> list[bytes]:
    return file.content.split(b"\n")


def _joined(file: File, lines: Sequence[bytes]) -> File:
    return _with(file, b"\n".join(lines))


def _delimiter(file: File) -> bytes:
    first = file.content.partition(b"\n")[0]
    return max(DELIMITERS, key=lambda delimiter: (first.count(delimiter), len(delimiter)))


def _edit_cells(
    file: File, rng: random.Random, edit: Callable[[list[bytes], random.Random], None]
) -> File:
    lines = _lines(file)
    delimiter = _delimiter(file)
    for _ in range(rng.choice([1, 1, 3])):
        place = rng.randrange(len(lines))
        cells = lines[place].split(delimiter)
        edit(cells, rng)
        lines[place] = delimiter.join(cells)
    return _joined(file, lines)


def duplicate_line(file: File, rng: random.Random) -> File:
    lines = _lines(file)
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return _joined(file, lines)


def delete_lines(file: File, rng: random.Random) -> File:
    lines = _lines(file)
    start = rng.randrange(len(lines))
    del lines[start : start + rng.choice([1, 1, 5, 1000])]
    return _joined(file, lines)


def swap_lines(file: File, rng: random.Random) -> File:
    lines = _lines(file)
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return _joined(file, lines)


def many_lines(file: File, rng: random.Random) -> File:
    lines = _lines(file)
    line = rng.choice(lines)
    # Without the bound, 5,000 times the line of `long_line` are a file of 1.5 GB, and the test then
    # measures the memory of the file instead of what the package takes for it.
    count = min(5000, LARGEST // (len(line) + 1))
    return _joined(file, [*lines[:3], *[line] * count, *lines[3:]])


def long_line(file: File, rng: random.Random) -> File:
    lines = _lines(file)
    piece = rng.choice([b"x", b",", b'"', b'","', b" ", b"\\", b"9"])
    lines.insert(rng.randrange(len(lines) + 1), piece * 300_000)
    return _joined(file, lines)


def delete_header(file: File, rng: random.Random) -> File:
    return _joined(file, _lines(file)[1:])


def odd_cell(file: File, rng: random.Random) -> File:
    def edit(cells: list[bytes], rng: random.Random) -> None:
        cells[rng.randrange(len(cells))] = rng.choice(ODD_CELLS).encode()

    return _edit_cells(file, rng, edit)


def odd_column(file: File, rng: random.Random) -> File:
    """The same odd cell in one column of all rows."""
    lines = _lines(file)
    delimiter = _delimiter(file)
    column = rng.randrange(len(lines[0].split(delimiter)))
    value = rng.choice(ODD_CELLS).encode()
    for i in range(rng.randrange(2), len(lines)):
        cells = lines[i].split(delimiter)
        if column < len(cells):
            cells[column] = value
            lines[i] = delimiter.join(cells)
    return _joined(file, lines)


def scaled_cells(file: File, rng: random.Random) -> File:
    """The numbers of one column, or of all, with another exponent: finite, and far from the others.

    Of one row, or of all.
    """
    lines = _lines(file)
    delimiter = _delimiter(file)
    exponent = rng.choice([30, 38, 39, 45, 150, 300, -30, -45, -300])
    columns = len(lines[0].split(delimiter))
    column = rng.choice([None, rng.randrange(columns)])
    row = rng.choice([None, rng.randrange(len(lines))])
    for i in range(1, len(lines)) if row is None else [row]:
        cells = lines[i].split(delimiter)
        for j, cell in enumerate(cells):
            if column in (None, j) and PLAIN_NUMBER.fullmatch(cell):
                cells[j] = cell + b"e%d" % exponent
        lines[i] = delimiter.join(cells)
    return _joined(file, lines)


def json_shapes(file: File, rng: random.Random) -> File:
    """JSON that is no list of rows, or one of rows that differ in shape."""
    try:
        rows = pd.read_csv(io.BytesIO(file.content), sep=None, engine="python")
        records = json.loads(rows.to_json(orient="records"))
    except Exception:  # no table, perhaps by a damage before this one
        records = []
    first = records[0] if records else {"a": 1}
    cells = list(first.values())
    shapes: list[object] = [
        *(None, [None], [[]], [[None]], [{}], {}, "", "x", 7, True, [1, 2], [[1, 2], [3]]),
        *(
            [cells, cells],
            [cells, cells[:1]],
            [cells, None],
            [first, None],
            [first, [1]],
            [first, 7],
        ),
        *({"a": [1, 2], "b": [1]}, {name: [value] for name, value in first.items()}, [first, {}]),
        *({"rows": None}, {"dataframe_split": {"columns": list(first), "data": [cells]}}),
        *([{name: [value] for name, value in first.items()}], [{name: {} for name in first}]),
        *(
            [dict.fromkeys(first, None)],
            [dict.fromkeys(first, 1e45)],
            [dict.fromkeys(first, -1e300)],
        ),
        *(
            [dict.fromkeys(first, True)],
            [dict.fromkeys(first, "x")],
            [dict.fromkeys(first, 10**30)],
        ),
        *([{**first, "": 1}], [{**first, "a.b": {"c": [1]}}], [[first]], [[[1]]], {"0": first}),
    ]
    text = json.dumps(rng.choice(shapes))
    if rng.random() < 0.2:
        text = rng.choice(
            ["[NaN]", "[" * 3000, '{"a":' * 3000, "[1e999]", "nul", "[1,]", text[:-1]]
        )
    suffix = rng.choice([".json", ".json", ".jsonl", ".csv"])
    return File(file.name.split(".")[0] + suffix, text.encode())


def duplicate_cell(file: File, rng: random.Random) -> File:
    def edit(cells: list[bytes], rng: random.Random) -> None:
        cells.insert(rng.randrange(len(cells) + 1), rng.choice(cells))

    return _edit_cells(file, rng, edit)


def delete_cell(file: File, rng: random.Random) -> File:
    def edit(cells: list[bytes], rng: random.Random) -> None:
        del cells[rng.randrange(len(cells))]

    return _edit_cells(file, rng, edit)


def swap_cells(file: File, rng: random.Random) -> File:
    def edit(cells: list[bytes], rng: random.Random) -> None:
        rng.shuffle(cells)

    return _edit_cells(file, rng, edit)


def other_encoding(file: File, rng: random.Random) -> File:
    text = file.content.decode("utf-8", "replace").replace("a", "\u00e4", rng.randrange(3))
    return _with(file, text.encode(rng.choice(ENCODINGS), "replace"))


def other_delimiter(file: File, rng: random.Random) -> File:
    other = rng.choice([*DELIMITERS, b" ", b"\x01"])
    return _with(file, file.content.replace(_delimiter(file), other))


BYTE_DAMAGES: dict[str, Damage] = {
    function.__name__: function
    for function in (cut_bytes, truncate, flip_bits, insert_bytes, repeat_bytes, replace_all)
} | {"other_suffix": other_suffix}
DAMAGES: dict[str, Damage] = BYTE_DAMAGES | {
    function.__name__: function
    for function in (
        *(compress_damaged, as_typed_damaged, odd_json, duplicate_line, delete_lines, swap_lines),
        *(many_lines, long_line, delete_header, odd_cell, odd_column, duplicate_cell, delete_cell),
        *(swap_cells, scaled_cells, json_shapes, other_encoding, other_delimiter),
    )
}


# --- what means nothing in a text file ----------------------------------------------------------


def _text_lines(file: File, form: Form) -> list[str]:
    return file.content.decode(form.encoding).removesuffix("\n").split("\n")


def _text(file: File, form: Form, lines: Sequence[str]) -> File:
    return _with(file, "".join(f"{line}\n" for line in lines).encode(form.encoding))


def with_bom(file: File, form: Form, rng: random.Random) -> File:
    if form.encoding != "utf-8":
        return file
    return _with(file, b"\xef\xbb\xbf" + file.content)


def with_line_ends(file: File, form: Form, rng: random.Random) -> File:
    return _with(file, file.content.replace(b"\n", rng.choice([b"\r\n", b"\r"])))


def without_last_line_end(file: File, form: Form, rng: random.Random) -> File:
    return _with(file, file.content.rstrip(b"\r\n"))


def with_blank_rows(file: File, form: Form, rng: random.Random) -> File:
    lines = _text_lines(file, form)
    for _ in range(3):
        cells = len(lines[0].split(form.delimiter))
        blank = rng.choice(["", "  ", form.delimiter * (cells - 1)])
        lines.insert(rng.randrange(len(lines) + 1), blank)
    return _text(file, form, lines)


def with_blanks_around_cells(file: File, form: Form, rng: random.Random) -> File:
    lines = []
    for line in _text_lines(file, form):
        cells = [
            rng.choice(["", " ", "  "]) + cell + rng.choice(["", " "])
            for cell in line.split(form.delimiter)
        ]
        lines.append(form.delimiter.join(cells))
    return _text(file, form, lines)


def with_quoted_cells(file: File, form: Form, rng: random.Random) -> File:
    if not form.quotes or b'"' in file.content:
        return file
    lines = []
    for line in _text_lines(file, form):
        cells = [f'"{cell}"' if rng.random() < 0.7 else cell for cell in line.split(form.delimiter)]
        lines.append(form.delimiter.join(cells))
    return _text(file, form, lines)


def with_rows_in_another_order(file: File, form: Form, rng: random.Random) -> File:
    if not form.reorder:
        return file
    lines = _text_lines(file, form)
    start = 1 if form.has_header else 0
    rows = lines[start:]
    rng.shuffle(rows)
    return _text(file, form, [*lines[:start], *rows])


def with_columns_in_another_order(file: File, form: Form, rng: random.Random) -> File:
    if not form.has_header or b'"' in file.content:
        return file
    rows = [line.split(form.delimiter) for line in _text_lines(file, form)]
    order = list(range(len(rows[0])))
    rng.shuffle(order)
    lines = [form.delimiter.join(row[i] for i in order) for row in rows]
    return _text(file, form, lines)


def with_surplus_column(file: File, form: Form, rng: random.Random) -> File:
    if not form.has_header:
        return file
    header, *rows = _text_lines(file, form)
    value = rng.choice(["", "7", "x", "caf\u00e9"])
    lines = [f"{header}{form.delimiter}surplus", *[f"{row}{form.delimiter}{value}" for row in rows]]
    return _text(file, form, lines)


def compressed(file: File, form: Form, rng: random.Random) -> File:
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": _zipped}
    suffix = rng.choice(list(pack))
    return File(file.name + suffix, pack[suffix](file.content))


def with_upper_suffix(file: File, form: Form, rng: random.Random) -> File:
    stem, dot, suffix = file.name.partition(".")
    return File(f"{stem}{dot}{suffix.upper()}", file.content)


class Typed(NamedTuple):
    """How a table is written by a library that gives its values types."""

    name: str
    content: bytes


TYPED = (".xlsx", ".parquet", ".json", ".jsonl")


def _typed_file(rows: pd.DataFrame, suffix: str) -> Typed:
    stream = io.BytesIO()
    if suffix == ".xlsx":
        rows.to_excel(stream, index=False)
    elif suffix == ".parquet":
        rows.to_parquet(stream, index=False)
    else:
        stream.write(rows.to_json(orient="records", lines=suffix == ".jsonl").encode())
    return Typed(suffix, stream.getvalue())


def typed(file: File, form: Form, rng: random.Random) -> File:
    """The table as a library writes it that has read it with types."""
    if not form.has_header:
        return file
    rows = pd.read_csv(io.BytesIO(file.content), sep=form.delimiter, engine="python")
    written = _typed_file(rows, rng.choice(TYPED))
    return File(file.name.split(".")[0] + written.name, written.content)


# In the order in which they are applied: after the last of the text a file may no longer be one.
# RENAMING changes the name of the file, which a conf may have.
HARMLESS: dict[str, Rewrite] = {
    function.__name__: function
    for function in (
        *(with_rows_in_another_order, with_columns_in_another_order, with_surplus_column),
        *(with_blanks_around_cells, with_quoted_cells, with_blank_rows, without_last_line_end),
        *(with_line_ends, with_bom),
    )
}
RENAMING: dict[str, Rewrite] = {
    function.__name__: function for function in (compressed, with_upper_suffix)
}
TYPING: dict[str, Rewrite] = {"typed": typed}


def rewritten(file: File, names: Sequence[str], form: Form, rng: random.Random) -> File:
    """A file after the harmless mutations of these names; it says the same."""
    for name, rewrite in (HARMLESS | TYPING | RENAMING).items():
        if name in names and not (name == "compressed" and "typed" in names):
            file = rewrite(file, form, rng)
    return file


# --- confs --------------------------------------------------------------------------------------

ODD_VALUES = (
    *(None, True, False, 0, -1, 1, 2, 0.5, 1e308, 1e-308, float("nan"), float("inf"), 10**30),
    *("", " ", "x", "no", "1", "null", "a b", "a\nb", "\u00e9", "*", "a*", "../x", "/", "~", "%Y"),
    *("utf-16", "${oc.env:HOME}", "${nothing}", "???", "x" * 3000, "[", "{", "(", "\\", "\x00"),
    *("\t", ",", '"', [], {}, [None], [[]], [[1, 2]], [{}], {"a": 1}, {"a": {"b": [1]}}),
    *({1: 2}, {None: None}, [1, "x"]),
)
Keys = tuple[Any, ...]
ConfDamage = Callable[[Any, random.Random], Any]


def paths_in(conf: Any) -> list[Keys]:
    """The paths of all values below the top of a conf."""
    found: list[Keys] = []
    items: Sequence[tuple[Any, Any]] = []
    if isinstance(conf, dict):
        items = list(conf.items())
    elif isinstance(conf, list):
        items = list(enumerate(conf))
    for key, value in items:
        found.append((key,))
        found += [(key, *path) for path in paths_in(value)]
    return found


def _changed(conf: Any, rng: random.Random, change: Callable[[Any, Any], None]) -> Any:
    """A copy of a conf in which `change` was applied to one block and one of its keys."""
    conf = copy.deepcopy(conf)
    paths = paths_in(conf)
    if not paths:
        return rng.choice(ODD_VALUES)
    *above, key = rng.choice(paths)
    block = conf
    for name in above:
        block = block[name]
    change(block, key)
    return conf


def delete_key(conf: Any, rng: random.Random) -> Any:
    def change(block: Any, key: Any) -> None:
        del block[key]

    return _changed(conf, rng, change)


def misspell_key(conf: Any, rng: random.Random) -> Any:
    def change(block: Any, key: Any) -> None:
        if isinstance(block, dict):
            text = str(key)
            place = rng.randrange(len(text) + 1)
            block[text[:place] + rng.choice("xe_ .\u00e9") + text[place + 1 :]] = block.pop(key)

    return _changed(conf, rng, change)


def odd_value(conf: Any, rng: random.Random) -> Any:
    def change(block: Any, key: Any) -> None:
        block[key] = copy.deepcopy(rng.choice(ODD_VALUES))

    return _changed(conf, rng, change)


def scaled_number(conf: Any, rng: random.Random) -> Any:
    def change(block: Any, key: Any) -> None:
        if isinstance(block[key], int | float):
            block[key] = block[key] * rng.choice([-1, 0, 0.5, 10, 1e6, 1e30])

    return _changed(conf, rng, change)


def huge_number(conf: Any, rng: random.Random) -> Any:
    """A whole number that stays one, a thousand to a quintillion times as large."""
    whole = []
    for path in paths_in(conf):
        value = conf
        for name in path:
            value = value[name]
        if isinstance(value, int) and not isinstance(value, bool):
            whole.append(path)
    if not whole:
        return conf
    conf = copy.deepcopy(conf)
    *above, key = rng.choice(whole)
    block = conf
    for name in above:
        block = block[name]
    block[key] = (block[key] or 1) * 10 ** rng.choice([3, 4, 5, 6, 7, 9, 12, 18])
    return conf


def other_place(conf: Any, rng: random.Random) -> Any:
    """One value of the conf in the place of another."""
    paths = paths_in(conf)
    if not paths:
        return conf
    value = conf
    for name in rng.choice(paths):
        value = value[name]

    def change(block: Any, key: Any) -> None:
        block[key] = copy.deepcopy(value)

    return _changed(conf, rng, change)


def surplus_key(conf: Any, rng: random.Random) -> Any:
    def change(block: Any, key: Any) -> None:
        if isinstance(block, dict):
            block[rng.choice(["surplus", 1, 1.5, None, True, "", "a.b", "\u00e9"])] = block[key]
        else:
            block.append(block[key])

    return _changed(conf, rng, change)


CONF_DAMAGES: dict[str, ConfDamage] = {
    function.__name__: function
    for function in (
        *(delete_key, misspell_key, odd_value, scaled_number, huge_number, other_place),
        surplus_key,
    )
}


# --- command lines ------------------------------------------------------------------------------

Line = list[str]
LineDamage = Callable[[Line, random.Random], Line]
ODD_ARGUMENTS = (
    *(
        "",
        "=",
        "==",
        "-h",
        "--help",
        "--write",
        "--whole",
        "-1",
        "\u00e9=1",
        "a",
        "a=",
        "=a",
        "a b=c d",
    ),
    *("seed=x", "seed=-1", "seed=1e99", "budget=", "budget=huge", "source=canonical:", "jobs=0"),
    *("model.net=null", "model.net.dropout=[1,2]", "model.net.dropout=.inf", "model.net.bins=1e9"),
    *("model.net.hidden_sizes=[", "++model.net.x=1", "~model.net", "model.net.x.y=1", "model..x=1"),
    *(
        "trainer.devices=2",
        "trainer.accelerator=gpu",
        "dataset.split=7",
        "model.schedule.lr={a: [}",
    ),
    *("a=${oc.env:HOME}", "model.net.dropout=${seed}", "hydra.run.dir=/tmp", "model=", "dataset="),
    *("model=ann,cnn", "model=../ann", "model=" + "x" * 5000, "a=" + "[" * 500, "a=!!python/none"),
)


def drop_argument(line: Line, rng: random.Random) -> Line:
    place = rng.randrange(len(line))
    return line[:place] + line[place + 1 :]


def repeat_argument(line: Line, rng: random.Random) -> Line:
    return [*line, rng.choice(line or [""])]


def odd_argument(line: Line, rng: random.Random) -> Line:
    return [*line[:1], *rng.sample([*line[1:], rng.choice(ODD_ARGUMENTS)], len(line))]


def odd_value_of_argument(line: Line, rng: random.Random) -> Line:
    line = list(line)
    place = rng.randrange(len(line))
    value = rng.choice([cell for cell in ODD_CELLS if "\x00" not in cell])
    line[place] = line[place].partition("=")[0] + "=" + value
    return line


def misspell_argument(line: Line, rng: random.Random) -> Line:
    line = list(line)
    place = rng.randrange(len(line))
    text = line[place]
    letter = rng.randrange(len(text) + 1)
    line[place] = text[:letter] + rng.choice("xe_ .=-\u00e9") + text[letter + 1 :]
    return line


LINE_DAMAGES: dict[str, LineDamage] = {
    function.__name__: function
    for function in (
        *(drop_argument, repeat_argument, odd_argument, odd_value_of_argument, misspell_argument),
    )
}


def _dumped(conf: Any, flow: bool | None = False) -> str:
    text: str = yaml.safe_dump(conf, sort_keys=False, default_flow_style=flow, allow_unicode=True)
    return text


def conf_with_comments(text: str, rng: random.Random) -> str:
    return "# a comment\n\n" + text + "\n# and another\n"


def conf_with_line_ends(text: str, rng: random.Random) -> str:
    return text.replace("\n", "\r\n")


def conf_with_bom(text: str, rng: random.Random) -> str:
    return f"\ufeff{text}"


def conf_as_json(text: str, rng: random.Random) -> str:
    written = json.dumps(yaml.safe_load(text))
    return re.sub(r"(?<![\w.])(\d+)e-", r"\1.0e-", written)  # YAML 1.1 takes 1e-05 for text


def conf_in_flow_style(text: str, rng: random.Random) -> str:
    return _dumped(yaml.safe_load(text), flow=True)


def conf_with_keys_in_another_order(text: str, rng: random.Random) -> str:
    conf = yaml.safe_load(text)
    if not isinstance(conf, dict):
        return text
    keys = list(conf)
    rng.shuffle(keys)
    return _dumped({key: conf[key] for key in keys})


HARMLESS_IN_CONF: dict[str, Callable[[str, random.Random], str]] = {
    function.__name__: function
    for function in (
        *(conf_with_keys_in_another_order, conf_in_flow_style, conf_as_json, conf_with_comments),
        *(conf_with_line_ends, conf_with_bom),
    )
}
