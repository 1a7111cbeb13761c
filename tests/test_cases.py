"""`cases.each`: all cases are tried, and those that fail are named."""

import inspect

import cases
import pytest


def test_those_that_fail_are_named_after_all_were_tried() -> None:
    tried = []

    @cases.each("number, word", [(1, "a"), (2, "b"), (3, "c"), (4, "d")])
    def is_odd(tmp_path: str, number: int, word: str) -> None:
        tried.append((number, tmp_path))
        assert number % 2, f"{word} is even"
        if number == 3:
            with pytest.raises(ValueError):
                pass

    assert list(inspect.signature(is_odd).parameters) == ["tmp_path"]
    with pytest.raises(AssertionError) as failed:
        is_odd(tmp_path="x")
    assert tried == [(1, "x"), (2, "x"), (3, "x"), (4, "x")]
    first, second, third = str(failed.value).split("{'number': ")[1:]
    assert first.startswith("2, 'word': 'b'}: b is even")
    assert second.startswith("3, 'word': 'c'}: DID NOT RAISE")
    assert third.startswith("4, 'word': 'd'}: d is even")


def test_a_case_without_its_values_is_refused() -> None:
    with pytest.raises(ValueError):
        cases.each("number, word", [(1,)])
    with pytest.raises(AssertionError):
        cases.each("number", [])
