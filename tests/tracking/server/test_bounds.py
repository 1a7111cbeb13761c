"""The bounds of a request to the service: its body, its JSON, its host."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import cases
import pytest

from sextant.errors import DataError
from sextant.tracking.server import bounds


def records(count: int) -> bytes:
    return json.dumps({"dataframe_records": [{}] * count}).encode()


BEYOND: list[tuple[bytes, int, str]] = [
    (json.dumps({"a": "x" * (8 * 2**20 + 1)}).encode(), 413, "a string has more than 8 MiB"),
    (records(10_001), 413, "`dataframe_records` has 10,001 rows; send at most 10,000 at once"),
    (
        json.dumps({"dataframe_split": {"data": [[1]] * 10_001}}).encode(),
        413,
        "`dataframe_split` has 10,001 rows",
    ),
    (b"[" * 100_000, 400, "lists and objects lie in each other 100000 deep"),
    (
        b'{"dataframe_records": [{"Age": NaN}]}',
        400,
        "the body is not JSON: NaN is no JSON number",
    ),
    (b'{"dataframe_records": [{"Age": -Infinity}]}', 400, "the body is not JSON: -Infinity"),
    (b'{"dataframe_records": [{"Age": ' + b"1" * 5000 + b"}]}", 400, "the body is not JSON"),
    (b'{"dataframe_records": [', 400, "the body is not JSON"),
    (b"\xff\xfe", 400, "the body is not JSON"),
    (b"[1, 2]", 400, "the body is no JSON object; expected"),
    (b"null", 400, "the body is no JSON object; expected"),
    (b"", 400, "the body is not JSON"),
]


@cases.each(("body", "status", "message"), BEYOND, ids=[repr(body)[:30] for body, _, _ in BEYOND])
def test_json_beyond_the_bounds_is_refused_in_one_line(
    body: bytes, status: int, message: str
) -> None:
    with pytest.raises(bounds.Refused) as refused:
        bounds.parsed(body)
    content = refused.value.content
    assert refused.value.status == status and set(content) == {"error_code", "message"}
    assert content["message"].startswith(message) and "\n" not in content["message"]


def test_a_long_body_is_refused_before_it_has_arrived() -> None:
    parts: Iterator[dict[str, Any]] = iter([{"body": b"x" * 2**20, "more_body": True}] * 40)

    async def receive() -> Any:
        return next(parts)

    with pytest.raises(bounds.Refused, match="the request has more than 32 MiB; send fewer rows"):
        asyncio.run(bounds.body_of(receive))
    assert len(list(parts)) == 40 - 33


def test_brackets_in_strings_are_no_depth() -> None:
    content = {"inputs": [{"a": "[" * 99 + '"' + "{" * 99}]}
    assert bounds.parsed(json.dumps(content).encode()) == content


# --- hosts --------------------------------------------------------------------------------------


@cases.each("header", ["example.org", "127.0.0.1.example.org:5001", "", "10.0.0.1", "[::2]"])
def test_another_host_is_refused_by_a_service_of_this_machine(header: str) -> None:
    names = bounds.names_of("127.0.0.1")
    with pytest.raises(bounds.Refused, match="is not this machine; use 127.0.0.1") as refused:
        bounds.check_host(header, names)
    assert refused.value.status == 403


@cases.each("header", ["localhost:5001", "127.0.0.1", "[::1]:5001", "LOCALHOST"])
def test_this_machine_is_always_allowed(header: str) -> None:
    bounds.check_host(header, bounds.names_of("127.0.0.1"))
    bounds.check_host(header, bounds.names_of("0.0.0.0"))


def test_a_service_of_all_addresses_takes_addresses_and_the_names_that_it_was_given() -> None:
    names = bounds.names_of("0.0.0.0", "ann, ann.Example.org")
    for header in ("10.0.0.1:5001", "[fe80::1]:5001", "ann:5001", "ANN.example.org"):
        bounds.check_host(header, names)
    for header in ("example.org", "10.0.0.1.example.org", "ann.example.org.evil.org:80", ""):
        with pytest.raises(bounds.Refused, match="is no name of this service"):
            bounds.check_host(header, names)
    bounds.check_host("proxy", bounds.names_of("127.0.0.1", "proxy"))


# --- messages -----------------------------------------------------------------------------------


def failed(error: Exception) -> Exception:
    """`error` as the cause of another one, as MLflow raises it."""
    try:
        try:
            raise error
        except type(error):
            raise RuntimeError("Encountered an unexpected error while evaluating") from None
    except RuntimeError as outer:
        return outer


def test_the_reason_is_the_innermost_and_has_no_trace() -> None:
    assert bounds.reason(failed(DataError("row 2: `Age` is odd"))) == "row 2: `Age` is odd"
    text = bounds.reason(failed(ValueError("could not convert 'many'\nat /home/me/x.py")))
    assert text == "these rows cannot be answered (ValueError: could not convert 'many' at" + (
        " /home/me/x.py)"
    )
    assert len(bounds.reason(ValueError("x" * 10_000))) == bounds.LONGEST


def test_the_reason_is_our_line_and_not_what_it_was_made_from() -> None:
    """A decoder's message says less than the line that names the row and the remedy."""
    line = DataError("row 1 cannot be decoded as a GIF (its end is missing); replace it")
    line.__context__ = EOFError("its end is missing")  # also after `raise … from None`
    assert bounds.reason(failed(line)) == str(line)
