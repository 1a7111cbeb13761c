"""The marks of numbers and of missing values, found in the columns of a text."""

import cases

from sextant.guess import numbers


@cases.each(
    ("cells", "form"),
    [
        (["1.5", "2", "-3.25"], {"decimal": "."}),
        (["1,5", "2", "-3,25"], {"decimal": ","}),
        (["1,234.5", "12"], {"decimal": ".", "thousands": ","}),
        (["1.234,5", "12"], {"decimal": ",", "thousands": "."}),
        (["1 234,5", "12"], {"decimal": ",", "thousands": " "}),
        (["1'234.5", "12"], {"decimal": ".", "thousands": "'"}),
        (["7,380,500", "1,002,003"], {"decimal": ".", "thousands": ","}),
        (["0,125", "0,250"], {"decimal": ","}),
        (["5 %", "$1.50", "(2.5)", "1.69M"], {"decimal": "."}),
    ],
)
def test_the_marks_of_numbers(cells: list[str], form: dict[str, object]) -> None:
    assert numbers.marks([cells, ["a word", "b"]], ",", {}).form == form


def test_what_may_be_a_decimal_or_a_thousand_is_a_doubt() -> None:
    commas = numbers.marks([["1,234", "5,678"]], ",", {})
    assert commas.form["thousands"] == "," and "DECIMAL=," in commas.doubts[0]
    dots = numbers.marks([["1.234", "5.678", "9.123"]], ";", {})
    assert dots.form == {"decimal": "."} and "DECIMAL=," in dots.doubts[0]


def test_marks_of_missing_values_stand_among_numbers_or_are_clear() -> None:
    columns = [["1", "2", "-", "3"], ["NA", "DE", "FR"], ["x", "?", "y"]]
    assert numbers.marks(columns, ",", {}).form["unknown"] == ["-", "?"]
    assert "unknown" not in numbers.marks([["NA", "DE"]], ",", {}).form
    assert "unknown" not in numbers.marks(columns, ",", {"unknown": ["x"]}).form


def test_chosen_marks_stay() -> None:
    assert numbers.marks([["1,234", "5,678"]], ",", {"decimal": ","}).form == {"decimal": ","}
