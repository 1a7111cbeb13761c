"""The bounds of the service, without a server: requests as uvicorn hands them on."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import cases
import pytest

from sextant.errors import DataError
from sextant.tracking.server import sextant_server

pytestmark = pytest.mark.slow  # MLflow's server is imported

JSON = "application/json"
ROW = {"dataframe_records": [{"Age": 40}]}


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await sextant_server._respond(send, 200, "inner")


def post(
    body: bytes, content_type: str = JSON, host: str = "127.0.0.1:5001", path: str = "/invocations"
) -> tuple[int, str]:
    """The status and the text of the response of a service whose model is never reached."""
    sent: list[Any] = []
    size = sextant_server.MIB
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    messages: Iterator[dict[str, Any]] = iter(
        {"body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    )

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", host.encode())]
    if content_type:
        headers.append((b"content-type", content_type.encode()))
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    model: Any = None
    asyncio.run(sextant_server.bounded(model, inner)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode()


def records(count: int) -> bytes:
    return json.dumps({"dataframe_records": [{}] * count}).encode()


BEYOND: list[tuple[bytes, int, str]] = [
    (b"x" * (32 * 2**20 + 1), 413, "the request has more than 32 MiB; send fewer rows"),
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
def test_a_request_beyond_the_bounds_is_refused_in_one_line(
    body: bytes, status: int, message: str
) -> None:
    actual, text = post(body)
    content = json.loads(text)
    assert actual == status and set(content) == {"error_code", "message"}
    assert content["message"].startswith(message) and "\n" not in content["message"]


def test_brackets_in_strings_are_no_depth() -> None:
    sextant_server.check_json(json.dumps({"inputs": [{"a": "[" * 99 + '"' + "{" * 99}]}).encode())


def test_a_request_without_a_content_type_is_refused() -> None:
    status, text = post(json.dumps(ROW).encode(), content_type="")
    assert status == 415 and "no Content-Type; expected application/json" in text


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org:5001", "", "10.0.0.1"])
@pytest.mark.parametrize("path", ["/invocations", "/ping"])
def test_another_host_is_refused(host: str, path: str) -> None:
    status, text = post(b"", host=host, path=path)
    assert status == 403 and "is not this machine" in text


@pytest.mark.parametrize("host", ["localhost:5001", "127.0.0.1", "[::1]:5001", "LOCALHOST"])
def test_this_machine_reaches_what_mlflow_answers(host: str) -> None:
    assert post(b"", host=host, path="/ping") == (200, "inner")


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
    assert sextant_server.reason(failed(DataError("row 2: `Age` is odd"))) == "row 2: `Age` is odd"
    text = sextant_server.reason(failed(ValueError("could not convert 'many'\nat /home/me/x.py")))
    assert text == "these rows cannot be answered (ValueError: could not convert 'many' at" + (
        " /home/me/x.py)"
    )
    assert len(sextant_server.reason(ValueError("x" * 10_000))) == sextant_server.LONGEST


def test_answers_that_are_no_numbers_are_null() -> None:
    answers = '{"predictions": [{"a": NaN, "b": -Infinity, "c": "NaN"}]}'
    assert json.loads(sextant_server.finite(answers)) == {
        "predictions": [{"a": None, "b": None, "c": "NaN"}]
    }
