"""What `make check` says of the files at hand, before DVC starts."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from farm import workspace

from sextant import config, preview
from sextant.errors import UsageError
from sextant.kinds.series.columns import Columns as SeriesColumns
from sextant.strict import check

HEADER = "number,animal,age,Monthly cost"
TABLE = "\n".join([HEADER, *[f"{i},{'cat' if i % 2 else 'dog'},{i}.5,{i}" for i in range(60)]])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def conf_of(home: Path, text: str, encoding: str = "utf-8", **columns: Any) -> config.DatasetConf:
    """The conf of a local table with this content."""
    (home / "farm.csv").write_text(text, encoding=encoding)
    entry = {"file": "farm.csv", "path": str(home / "farm.csv")}
    conf = workspace(home, {"local": [entry]}, "local")
    block = {"names": None, "target": "animal", "numeric": ["number", "age"], **columns}
    return conf.model_copy(update={"columns": conf.columns.model_copy(update=block)})


def refused(conf: config.DatasetConf) -> str:
    with pytest.raises(UsageError) as raised:
        preview.check_files(conf)
    assert str(raised.value).startswith("conf/dataset/farm.yaml columns: ")
    return str(raised.value)


def test_a_file_that_fits_its_conf_passes(home: Path) -> None:
    preview.check_files(conf_of(home, TABLE))


def test_a_misspelt_column_is_named_with_its_neighbour(home: Path) -> None:
    message = refused(conf_of(home, TABLE, numeric=["number", "agee"]))
    assert message.endswith("farm.csv has no column `agee`; did you mean `age`?")
    unlike = refused(conf_of(home, TABLE, numeric=["weight of it"]))
    assert unlike.endswith("it has: number, animal, age, 'Monthly cost'")


def test_a_delimiter_that_gives_one_column(home: Path) -> None:
    message = refused(conf_of(home, TABLE.replace(",", ";")))
    assert "with delimiter ',', farm.csv has one column; its first line has ';'" in message
    assert message.endswith('set `delimiter: ";"`')


def test_the_bytes_of_an_archive_are_no_first_line(home: Path) -> None:
    """Some of them are delimiters, such as `|` in this time."""
    conf = conf_of(home, "")
    member = zipfile.ZipInfo("farm.csv", (1980, 1, 1, 0, 3, 56))
    with zipfile.ZipFile(home / "farm.csv.zip", "w") as archive:
        archive.writestr(member, TABLE.replace(",", ";").replace("Monthly cost", "cost"))
    entry = {"file": "farm.csv.zip", "path": str(home / "farm.csv.zip")}
    zipped = workspace(home, {"local": [entry]}, "local")
    columns = conf.columns.model_copy(update={"delimiter": ";"})
    preview.check_files(zipped.model_copy(update={"columns": columns}))


def test_words_under_numeric(home: Path) -> None:
    message = refused(conf_of(home, TABLE, target="number", numeric=["animal"]))
    assert (
        "farm.csv line 2 has 'dog' in `animal`; expected a number; correct it, or move" in message
    )


@pytest.mark.parametrize(
    ("cell", "repair"),
    [
        ("N/A", "add 'N/A' to `unknown` if it marks a missing value"),
        ('"1,5"', 'set `decimal: ","`'),
        ('"7,380,500"', 'set `decimal: "."` and `thousands: ","`'),
    ],
)
def test_what_is_no_number_is_named_with_its_repair(home: Path, cell: str, repair: str) -> None:
    message = refused(conf_of(home, TABLE.replace(",3.5,", f",{cell},")))
    assert "farm.csv line 5 has" in message and message.endswith(repair)


def test_a_file_in_another_encoding(home: Path) -> None:
    message = refused(conf_of(home, TABLE.replace("cat", "Käfer"), "cp1252"))
    assert "set `encoding`" in message


def test_of_a_long_file_the_first_rows_are_looked_at(home: Path) -> None:
    long = "\n".join([TABLE, *[f"{i},{'x' * 1000},1,1" for i in range(500)], "a,b,c,d"])
    preview.check_files(conf_of(home, long))


def test_a_file_that_is_not_at_hand_is_not_looked_at(home: Path) -> None:
    conf = conf_of(home, TABLE, numeric=["agee"])
    (home / "farm.csv").unlink()
    preview.check_files(conf)


def test_an_amount_is_no_class(home: Path) -> None:
    conf = conf_of(home, TABLE, target="age", numeric=["number"])
    with pytest.raises(
        UsageError, match=r"model `herd`: task classification, but `age` of farm is"
    ):
        preview.check_classes(conf, "herd")
    preview.check_classes(conf_of(home, TABLE), "herd")
    classes = conf_of(home, TABLE, target="age", numeric=["number"], target_type="class")
    preview.check_classes(classes, "herd")


# --- a series -----------------------------------------------------------------------------------

SERIES = {
    "date": "Price",
    "target": "Close",
    "base": "Close",
    "prices": ["Close"],
    "unit": "USD",
    "window": 20,
}
DAYS = "Price,Close\n2022-01-03,50.1\n2022-01-04,49.9\n"


def series_of(home: Path, text: str, **columns: Any) -> config.DatasetConf:
    """The conf of a local series with this content."""
    conf = conf_of(home, text)
    block = check(SeriesColumns, SERIES | columns, "columns")
    return conf.model_copy(update={"kind": "series", "columns": block})


def test_the_header_rows_of_yfinance_are_named(home: Path) -> None:
    text = DAYS.replace("Close\n", "Close\nTicker,XYZ\nDate,\n", 1)
    message = refused(series_of(home, text))
    assert "farm.csv line 2 has 'Ticker' in `Price`; expected a day as %Y-%m-%d" in message
    assert "set `skip_after: 2` in the conf" in message
    preview.check_files(series_of(home, text, skip_after=2))


def test_the_days_and_numbers_of_the_chosen_series_are_looked_at(home: Path) -> None:
    text = "Price,Close,Name\n2022-01-03,50.1,A\nsoon,null,B\n"
    preview.check_files(series_of(home, text, only={"Name": "A"}))
    assert "'soon' in `Price`" in refused(series_of(home, text, only={"Name": "B"}))
    assert "has no column `Ticker`" in refused(series_of(home, text, only={"Ticker": "A"}))
    text = text.replace("soon", "2022-01-04")
    assert "add 'null' to `unknown`" in refused(series_of(home, text))


def test_a_pattern_stands_for_columns_and_a_test_file_may_lack_labels(home: Path) -> None:
    preview.check_files(conf_of(home, TABLE, numeric=["num*", "*cost", "age"]))
    message = refused(conf_of(home, TABLE, numeric=["pixel*", "age"]))
    assert "no column fits `pixel*`; found number, animal, age" in message
    message = refused(conf_of(home, TABLE, numeric=["anim*", "age"], target="Monthly cost"))
    assert "farm.csv line 2 has 'dog' in `animal`; expected a number" in message
    without = TABLE.replace(",animal", ",beast")
    preview.check_files(conf_of(home, without, test_files=["farm.csv"]))
