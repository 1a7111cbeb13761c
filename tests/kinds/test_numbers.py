"""Text as numbers: decimal commas, thousands, percent and currency signs, magnitudes, negatives."""

import math
from pathlib import Path

import cases
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant.errors import DataError
from sextant.kinds.formats import Format, read_table
from sextant.kinds.numbers import LARGEST, number_pattern, numbers_or_faults, parse, to_numbers

PLAIN = Format()
ENGLISH = Format(thousands=",")
GERMAN = Format(decimal=",", thousands=".")
FRENCH = Format(decimal=",", thousands=" ")


@cases.each(
    ("text", "form", "value"),
    [
        ("0", PLAIN, 0.0),
        ("-1.5", PLAIN, -1.5),
        ("+.5", PLAIN, 0.5),
        ("5.", PLAIN, 5.0),
        ("007", PLAIN, 7.0),
        ("1.5e3", PLAIN, 1500.0),
        (" 2 ", PLAIN, 2.0),
        ("1,234,567.5", ENGLISH, 1234567.5),
        ("1234.5", ENGLISH, 1234.5),
        ("1.234,50", GERMAN, 1234.5),
        ("139985,36", Format(decimal=","), 139985.36),
        ("1 234,5", FRENCH, 1234.5),
        ("1\u00a0234", FRENCH, 1234.0),
        ("1\u202f234", FRENCH, 1234.0),
        ("1'234.5", Format(thousands="'"), 1234.5),
        ("5%", PLAIN, 0.05),
        ("12.5 %", PLAIN, 0.125),
        ("$1,000", ENGLISH, 1000.0),
        ("-$5", PLAIN, -5.0),
        ("$-5", PLAIN, -5.0),
        ("1.234,50 €", GERMAN, 1234.5),
        ("€ 3", PLAIN, 3.0),
        ("1.69M", PLAIN, 1690000.0),
        ("955.50K", PLAIN, 955500.0),
        ("2B", PLAIN, 2e9),
        ("12k", PLAIN, 12e3),
        ("$1.2T", PLAIN, 1.2e12),
        ("(1,234.50)", ENGLISH, -1234.5),
        ("($5)", PLAIN, -5.0),
        ("5-", PLAIN, -5.0),
        ("\u22125.5", PLAIN, -5.5),
    ],
)
def test_a_number_is_read_as_it_is_written(text: str, form: Format, value: float):
    assert parse(text, form, number_pattern(form)) == value
    column = pd.Series([text], dtype="str")
    assert to_numbers(column, "x", form).tolist() == [value]
    assert to_numbers(column.astype(object), "x", form).tolist() == [value]


@cases.each(
    ("text", "form"),
    [
        ("1,7", PLAIN),
        ("1,234", PLAIN),
        ("1,23", ENGLISH),
        ("12,34,567", ENGLISH),
        ("1.234", Format(decimal=",")),
        ("1.23,5", GERMAN),
        ("tall", PLAIN),
        ("1.7m2", PLAIN),
        ("1.7m", PLAIN),
        ("inf", PLAIN),
        ("-inf", PLAIN),
        ("nan", PLAIN),
        ("1e999", PLAIN),
        ("0x1F", PLAIN),
        ("1_000", PLAIN),
        ("(5", PLAIN),
        ("5)", PLAIN),
        ("(-5)", PLAIN),
        ("--5", PLAIN),
        ("-5-", PLAIN),
        ("$5€", PLAIN),
        ("%", PLAIN),
        ("-", PLAIN),
        ("1 2", PLAIN),
        ("٣", PLAIN),
        (True, PLAIN),
        (math.inf, PLAIN),
        (pd.Timestamp("2020-01-01"), PLAIN),
        ([1], PLAIN),
    ],
)
def test_what_is_no_number_is_refused_with_its_place(text: object, form: Format):
    column = pd.Series(["1", text, "2"], dtype=object)
    numbers, is_wrong = numbers_or_faults(column, form)
    assert is_wrong.tolist() == [False, True, False]
    assert numbers.iloc[[0, 2]].tolist() == [1, 2]
    with pytest.raises(DataError, match="row 2 has .* in `x`; expected a finite number; correct"):
        to_numbers(column, "x", form)


@cases.each("cell", ["1e308", "-" + "9" * 160, 1e151, np.float64(-1e200)])
def test_a_number_whose_square_is_no_float_is_refused(cell: object):
    column = pd.Series(["7", cell], dtype=object)
    with pytest.raises(DataError, match="in `x`; expected a number of at most 1e.150; correct the"):
        to_numbers(column, "x", PLAIN)
    message = r"^row 2 has '1e999' in `x`; expected a finite number; correct the row, or add the"
    with pytest.raises(DataError, match=message):
        to_numbers(pd.Series(["7", "1e999"], dtype="str"), "x", PLAIN)


def test_the_place_is_the_line_of_the_file(tmp_path: Path):
    (tmp_path / "sizes.csv").write_text("name,size\n\na,1\nb,tall\n")
    rows = read_table(tmp_path / "sizes.csv", PLAIN, ["size"]).rows
    message = "sizes.csv line 4 has 'tall' in `size`; expected a finite number; correct the row, or"
    with pytest.raises(DataError, match=message):
        to_numbers(rows["size"], "size", PLAIN)


@cases.each(
    ("text", "form", "advice"),
    [
        ("139985,36", PLAIN, '`decimal: ","`'),
        ("1,234.5", PLAIN, '`thousands: ","`'),
        ("1.234,5", Format(decimal=","), r'`thousands: "\."`'),
        ("12.5", Format(decimal=","), r'`decimal: "\."`'),
    ],
)
def test_a_number_by_other_marks_is_refused_with_what_to_set(text, form, advice):
    with pytest.raises(DataError, match=f"correct the row, or set {advice} in the conf, or add"):
        to_numbers(pd.Series([text], dtype="str"), "x", form)


def test_numbers_with_types_stay_and_missing_ones_are_nan():
    for column in (
        pd.Series([1, 2], dtype="int8"),
        pd.Series([1.0, 2.0]),
        pd.Series([1, 2], dtype="Int64"),
        pd.Series([1, np.float32(2)], dtype=object),
    ):
        assert to_numbers(column, "x", PLAIN).tolist() == [1.0, 2.0]
    for column in (
        pd.Series([1, None], dtype="Int64"),
        pd.Series(["1", None], dtype="str"),
        pd.Series(["1", None], dtype=object),
        pd.Series([1.0, np.nan]),
        pd.Series([None, None], dtype=object),
    ):
        numbers = to_numbers(column, "x", PLAIN)
        assert numbers.dtype == "float64"
        assert math.isnan(numbers.iloc[1])


@given(values=st.lists(st.floats(-LARGEST, LARGEST), min_size=1, max_size=9))
@settings(max_examples=25)
def test_a_float_is_read_to_its_last_digit(values):
    column = pd.Series([repr(value) for value in values], dtype="str")
    assert to_numbers(column, "x", PLAIN).tolist() == values
    german = column.str.replace(".", ",", regex=False)
    assert to_numbers(german, "x", Format(decimal=",")).tolist() == values


cells = st.one_of(st.text(st.sampled_from("0123456789.,-+()%$KM eE"), max_size=7), st.integers())


@given(values=st.lists(cells, min_size=1, max_size=9))
@settings(max_examples=40)
def test_a_cell_is_read_alone_as_among_others(values):
    together, is_wrong = numbers_or_faults(pd.Series(values, dtype=object), ENGLISH)
    for position, value in enumerate(values):
        alone, is_alone_wrong = numbers_or_faults(pd.Series([value], dtype=object), ENGLISH)
        assert is_alone_wrong[0] == is_wrong[position]
        np.testing.assert_equal(alone.iloc[0], together.iloc[position])
