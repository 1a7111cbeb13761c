"""The identity of categories: text as it is written, and values that a library has typed."""

from datetime import date, datetime

import cases
import numpy as np
import pandas as pd

from sextant.kinds.levels import Matcher, matched, renamed, text_of, texts_of


@cases.each(
    ("value", "text"),
    [
        ("007", "007"),
        (" Open ", "Open"),
        ("True", "True"),
        ("2.0", "2.0"),
        (7, "7"),
        (2.0, "2"),
        (2.5, "2.5"),
        (np.int8(7), "7"),
        (np.float64(2.0), "2"),
        (np.bool_(True), "True"),
        (True, "True"),
        (datetime(2020, 1, 2), "2020-01-02"),
        (datetime(2020, 1, 2, 3, 4), "2020-01-02 03:04:00"),
        (date(2020, 1, 2), "2020-01-02"),
        (pd.Timestamp("2020-01-02"), "2020-01-02"),
        ("", None),
        ("  ", None),
        (None, None),
        (float("nan"), None),
        (pd.NA, None),
        (pd.NaT, None),
        ([1], "[1]"),
    ],
)
def test_the_level_of_a_value(value, text):
    assert text_of(value) == text
    assert texts_of(pd.Series([value], dtype=object)).tolist() == [text]


@cases.each(
    ("levels", "value", "level"),
    [
        (["0", "1"], True, "1"),
        (["0", "1"], False, "0"),
        (["0", "1"], "True", "1"),
        (["0", "1"], "False", "0"),
        (["0", "1"], "TRUE", "1"),
        (["0", "1"], 1, "1"),
        (["0", "1"], 1.0, "1"),
        (["0", "1"], "1.0", "1"),
        (["0", "1"], np.bool_(True), "1"),
        (["1", "2"], "2.0", "2"),
        (["01", "02"], 2, "02"),
        (["01", "02"], 2.0, "02"),
        (["01", "02"], "2.0", "02"),
        (["1.0", "2.0"], 2, "2.0"),
        (["False", "True"], True, "True"),
        (["false", "true"], True, "true"),
        (["FALSE", "TRUE"], False, "FALSE"),
        (["False", "True"], 1, "True"),
        (["1", "True"], True, "True"),
        (["1", "True"], 1, "1"),
        (["2", "2.0"], "2.0", "2.0"),
        (["2", "2.0"], 2, "2"),
        (["2.5"], 2.5, "2.5"),
        (["2020-01-02"], datetime(2020, 1, 2), "2020-01-02"),
    ],
)
def test_a_typed_value_means_the_learnt_level(levels, value, level):
    assert Matcher(levels).match(value) == level
    assert matched(pd.Series([value], dtype=object), [*levels, None]).tolist() == [level]


@cases.each(
    ("levels", "value", "text"),
    [
        (["007"], "7", "7"),
        (["7"], "007", "007"),
        (["1"], "01", "01"),
        (["7", "007"], 7.5, "7.5"),
        (["07", "007"], 7, "7"),
        (["0", "1"], "yes", "yes"),
        (["no", "yes"], "true", "true"),
        (["1", "2"], "2.50", "2.50"),
        (["True"], "1", "1"),
        (["a"], "A", "A"),
        ([None], "None", "None"),
    ],
)
def test_a_value_that_was_not_learnt_stays_its_text(levels, value, text):
    assert Matcher(levels).match(value) == text


def test_missing_values_stay_missing():
    column = pd.Series(["a", None, np.nan, pd.NA, " "], dtype=object)
    assert matched(column, ["a"]).tolist() == ["a", None, None, None, None]


def test_equal_values_of_different_types_are_told_apart():
    column = pd.Series([1, True, 1.0, "1"], dtype=object)
    assert matched(column, ["1", "True"]).tolist() == ["1", "True", "1", "1"]


def test_the_classes_of_an_older_model_are_renamed():
    assert renamed(["0", "1"], [0, 1]) == {"0": "0", "1": "1"}
    assert renamed(["01", "02"], [1, 2]) == {"1": "01", "2": "02"}
    assert renamed(["False", "True"], [False, True]) == {"False": "False", "True": "True"}


@cases.each(
    ("levels", "text", "level"),
    [
        (["1.5", "2.5"], "1.50", "1.5"),
        (["1.5", "2", None], "2.0", "2"),
        (["7", "8"], "007", "7"),
        (["1000"], "1e3", "1000"),
        (["1.5"], "1.51", "1.51"),
        (["1.5", "a"], "1.50", "1.50"),  # one text, and pandas had read all as text
        (["1.50", "2.5"], "1.5", "1.5"),
        (["1.5"], "a", "a"),
        (["0.1"], 0.1, "0.1"),
    ],
)
def test_where_numbers_were_guessed_a_text_is_read_as_a_number(levels, text, level):
    assert Matcher(levels, guessed=True).match(text) == level
    if isinstance(text, str):
        assert Matcher(levels).match(text) == (level if text == "2.0" else text)
