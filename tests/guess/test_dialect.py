"""The dialect of a text file: what is guessed reads the file as its author meant it."""

import random

import cases

from sextant.guess import dialect, encoding

NAMES = ["id", "height", "note", "class"]
ROWS = [
    ["1", "1.75", "a plain note", "cat"],
    ["2", "1.8", "another, with a comma", "dog"],
    ["3", "2", "", "cat"],
    ["4", "1.62", "short", "dog"],
] * 8


def content(
    delimiter: str, rows: list[list[str]] = ROWS, header: list[str] | None = NAMES
) -> bytes:
    lines = []
    for row in [header, *rows] if header else rows:
        cells = []
        for cell in row:
            quoted = f'"{cell}"' if delimiter.strip() and delimiter in cell else cell
            cells.append(quoted)
        lines.append(delimiter.join(cells))
    return "\n".join(lines).encode()


def form(text: bytes, **chosen: object) -> dict[str, object]:
    found = dialect.sniff(text, chosen)
    assert found is not None
    return found.form


@cases.each("delimiter", [",", ";", "\t", "|", "::", "^"])
def test_a_delimiter_is_found(delimiter: str) -> None:
    found = dialect.sniff(content(delimiter), {})
    assert found is not None
    assert found.form == {"delimiter": delimiter}
    assert found.header == NAMES and found.has_header and found.doubts == []


def test_runs_of_blanks_are_a_delimiter() -> None:
    text = b"  a   b  c\n 1.5  2  3\n   4 5.25   6\n" * 1
    assert form(text) == {"delimiter": "blanks"}


def test_a_decimal_comma_is_no_delimiter() -> None:
    rows = [[f"{i},5", f"{i},25", f"{i * 3},125"] for i in range(30)]
    assert form(content(";", rows, ["a", "b", "c"])) == {"delimiter": ";"}
    assert form(content(";", rows, None))["delimiter"] == ";"


@cases.each(
    ("codec", "name"),
    [("utf-8", None), ("utf-8-sig", None), ("cp1252", "cp1252"), ("utf-16", "utf-16"),
     ("utf-16-le", "utf-16-le"), ("cp1251", "cp1251")],
)  # fmt: skip
def test_an_encoding_is_found(codec: str, name: str | None) -> None:
    word = "Москва" if codec == "cp1251" else "Zürich"
    text = f"city,people\n{word},{400_000}\nRoma,{2_800_000}\n" * 20
    found = form(text.encode(codec))
    assert found.get("encoding") == name
    assert found["delimiter"] == ","


def test_a_guessed_encoding_is_a_doubt_with_a_word_in_it() -> None:
    found = encoding.encoding("name\nGarçon\n".encode("cp1252"))
    assert found.name == "cp1252" and "`Garçon`" in found.doubt


def test_bytes_that_cp1252_lacks_are_latin_1() -> None:
    assert encoding.encoding(b"a,b\ncaf\x81\xe9 au lait,2\n").name == "latin-1"


def test_a_file_without_a_header_gets_names() -> None:
    found = dialect.sniff(content(",", header=None), {})
    assert found is not None
    assert found.form["names"] == ["column_1", "column_2", "column_3", "column_4"]
    assert not found.has_header and "HEADER=yes" in found.doubts[0]


def test_a_table_of_words_has_a_header_if_its_first_line_is_not_repeated() -> None:
    words = [["y", "n"], ["n", "y"], ["y", "y"], ["n", "n"]] * 5
    assert "names" in form(content(",", words, None))
    assert "names" not in form(content(",", words, ["aid", "crime"]))
    assert "names" in form(content(",", words, ["aid", "crime"]), header=False)


def test_lines_around_the_rows_are_passed_over() -> None:
    text = b"Report of 2020\n\nsep and such\n" + content(";") + b"\nTotal: 32\n"
    found = form(text)
    assert found == {"delimiter": ";", "skip": 3, "footer": 1}
    assert form(b"sep=;\n" + content(";")) == {"delimiter": ";", "skip": 1}


def test_lines_with_tickers_under_the_header_are_passed_over() -> None:
    rows = [["2020-01-0" + str(i), "1.5", "2.5"] for i in range(1, 9)]
    head = [["Ticker", "XYZ", "XYZ"], ["Date", "", ""]]
    found = form(content(",", head + rows, ["Price", "Close", "High"]))
    assert found == {"delimiter": ",", "skip_after": 2}


def test_comments_are_passed_over_and_a_header_that_begins_so_is_none() -> None:
    body = content(",")
    assert form(b"# from a colleague\n# in 2020\n" + body) == {"delimiter": ",", "comment": "#"}
    marked = dialect.sniff(body.replace(b"id,", b"#,", 1), {})
    assert marked is not None and marked.header[0] == "#" and "comment" not in marked.form


def test_a_header_in_a_comment_gives_the_names() -> None:
    rows = [f"{i}.5 {i * 2} {i * 3}" for i in range(30)]
    found = form("\n".join(["# zs  u  g", *rows]).encode())
    assert found["names"] == ["zs", "u", "g"] and found["comment"] == "#"


def test_a_header_with_too_few_names_is_completed() -> None:
    rows = [f"car{i} {i}.5 {i * 2}" for i in range(30)]
    found = dialect.sniff("\n".join(["mpg cyl", *rows]).encode(), {})
    assert found is not None
    assert found.header == ["row", "mpg", "cyl"] and found.form["skip"] == 1
    assert "2 names for 3 cells" in found.doubts[0]


def test_the_way_of_quoting_is_found() -> None:
    assert form(content(",")).get("quoting") is None
    escaped = b'a,b\n"he said \\"hi\\", twice",2\n' * 20
    assert form(escaped)["quoting"] == "backslash"
    stray = b'a|b|c\n12|5" pipe|3\n13|"The End|4\n14|x|5\n' * 20
    assert form(stray)["quoting"] == "none"


def test_what_the_caller_chooses_is_not_guessed() -> None:
    found = form(content(","), delimiter=",", encoding="cp1252", quoting="none", skip=0)
    assert found["quoting"] == "none" and found["encoding"] == "cp1252"


def test_text_without_columns_has_no_dialect() -> None:
    assert dialect.sniff(b"To be, or not to be:\nthat is the question\nWhether\n", {}) is None
    assert dialect.sniff(b"", {}) is None


def test_any_bytes_are_answered_without_an_exception() -> None:
    draw = random.Random(7)
    for _ in range(60):
        text = bytearray(content(draw.choice([",", ";", "|"])))
        for _ in range(draw.randrange(40)):
            text[draw.randrange(len(text))] = draw.choice(b'",;\n|#\x00\xff 1a')
        dialect.sniff(bytes(text), {})


def test_a_header_in_a_comment_may_lack_a_name() -> None:
    rows = [f"{i}.5 {i % 3} {i % 4}" for i in range(30)]
    found = dialect.sniff("\n".join(["#zs u", *rows]).encode(), {})
    assert found is not None and found.header == ["zs", "u", "column_3"]


def test_empty_columns_at_the_end_do_not_hide_a_header() -> None:
    rows = [f"{i}/1/2022,{i}.5,{i},,," for i in range(1, 29)]
    found = dialect.sniff("\n".join(["Date,Open,Close,,,", *rows]).encode(), {})
    assert found is not None and found.has_header and found.form == {"delimiter": ","}


def test_titles_above_the_header_may_be_as_wide_as_the_rows() -> None:
    titles = [["Sales report", "", "", ""], ["", "Generated 05/02/2025", "", ""]]
    found = dialect.sniff(content(";", [*titles, NAMES, *ROWS], None), {})
    assert found is not None
    assert found.header == NAMES
    assert found.form == {"delimiter": ";", "skip": 2}
    two = [["name", ""], *[["a", "1"], ["b", "2"]] * 5]  # of two cells one may be empty
    found = dialect.sniff(content(";", two, None), {})
    assert found is not None and found.form == {"delimiter": ";"}


def test_a_doubled_quotation_mark_is_one_in_a_quoted_cell() -> None:
    """Inches, as a spreadsheet writes them."""
    rows = [["1", '"Hedge trimmer 18"""', "a"], ["2", "Mower", "b"], ["3", '"Drill, 5"" bit"', "c"]]
    found = form(content(";", rows * 5, ["id", "product", "class"]))
    assert found == {"delimiter": ";"}
    bare = [["1", 'Hedge trimmer 18"', "a"], ["2", "Mower", "b"]]
    assert form(content(";", bare * 5, ["id", "product", "class"])) == {"delimiter": ";"}
