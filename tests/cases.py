"""Tests that try many small cases in one go, since pytest needs some milliseconds for each test."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

Test = Callable[..., None]


def each(
    names: str | Sequence[str], cases: Iterable[Any], ids: Iterable[str] | None = None
) -> Callable[[Test], Test]:
    """`pytest.mark.parametrize` for cases that take no time and share their fixtures.

    All cases are tried; the message has those that fail, and the traceback is that of the first.
    """
    keys = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    of_cases = []
    for case in cases:
        values = (case,) if len(keys) == 1 else case
        of_cases.append(dict(zip(keys, values, strict=True)))
    titles = [""] * len(of_cases) if ids is None else list(ids)
    assert of_cases and len(titles) == len(of_cases)

    def decorated(test: Test) -> Test:
        @functools.wraps(test)
        def try_all(**fixtures: object) -> None:
            failed: list[BaseException] = []
            lines = []
            for title, values in zip(titles, of_cases, strict=True):
                try:
                    test(**fixtures, **values)
                except (Exception, pytest.fail.Exception) as error:
                    failed.append(error)
                    lines.append(f"{title or values}: {error}")
            if failed:
                raise AssertionError("\n".join(lines)) from failed[0]

        signature = inspect.signature(test)
        fixtures = [entry for name, entry in signature.parameters.items() if name not in keys]
        try_all.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
        del try_all.__wrapped__  # type: ignore[attr-defined]
        return try_all

    return decorated
