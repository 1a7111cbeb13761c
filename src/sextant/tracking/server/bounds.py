"""The bounds of a request: its body, its JSON, and the host that it names.

A request that is refused gets a status of 4xx and one line, never a stack trace: a JSON object with
`error_code` and `message`, as MLflow's.
"""

import ipaddress
import json
import re
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, NoReturn

MIB = 2**20
MAX_BODY = 32 * MIB  # bytes: some thousand pictures
MAX_STRING = 8 * MIB  # characters of one JSON string: a picture in base64
MAX_DEPTH = 16  # of lists and objects in each other
MAX_ROWS = 10_000
SECONDS_TO_SEND = 60  # that a client has for its request
LONGEST = 900  # characters of a message
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:]+)(:\d+)?", re.IGNORECASE)
CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "REQUEST_TOO_LARGE"}
CODES |= {415: "UNSUPPORTED_MEDIA_TYPE", 500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE"}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refused(Exception):
    """A request that is not answered: the status, and what was wrong."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def content(self) -> dict[str, str]:
        """The body of the response."""
        return {"error_code": CODES.get(self.status, "BAD_REQUEST"), "message": str(self)}


async def body_of(receive: Receive) -> bytes:
    """The body of a request; raises Refused if it is longer than MAX_BODY."""
    parts = []
    size = 0
    more = True
    while more:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            raise Refused(413, f"the request has more than {MAX_BODY // MIB} MiB; send fewer rows")
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises Refused if it is malformed, too deep, or too long."""
    _check_size(body)
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    check_rows(content)
    checked: dict[str, Any] = content
    return checked


def _check_size(body: bytes) -> None:
    """Raise Refused for strings that are too long, and for lists that lie too deep in each other.

    Both are looked for only in a body that has enough characters, or brackets, for that.
    """
    if len(body) > MAX_STRING:
        longest = max((len(match[0]) for match in STRING.finditer(body)), default=0)
        if longest - 2 > MAX_STRING:
            size = MAX_STRING // MIB
            raise Refused(413, f"a string has more than {size} MiB; send smaller values")
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = deepest = 0
    for character in re.findall(rb"[\[\]{}]", STRING.sub(b"", body)):
        depth += 1 if character in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise Refused(400, f"lists and objects lie in each other {deepest} deep; expected a table")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number; leave the cell out, or write null")


def check_rows(content: object) -> None:
    """Raise Refused if parsed JSON is no object, or has more than MAX_ROWS rows."""
    if not isinstance(content, dict):
        raise Refused(400, 'the body is no JSON object; expected {"dataframe_records": [{...}]}')
    for key, value in content.items():
        rows = value.get("data") if isinstance(value, dict) else value
        if isinstance(rows, list) and len(rows) > MAX_ROWS:
            raise Refused(413, f"`{key}` has {len(rows):,} rows; send at most {MAX_ROWS:,} at once")


# --- hosts --------------------------------------------------------------------------------------


def names_of(host: str, further: str = "") -> frozenset[str] | None:
    """The names by which requests may address a service that listens on `host`; None: this machine.

    `further` are names with commas, such as that of a proxy in front of it.
    """
    names = {name.strip().lower() for name in further.split(",")} - {""}
    if LOOPBACK.fullmatch(host) and not names:
        return None
    return frozenset({*names, host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()})


def check_host(header: str, names: Collection[str] | None) -> None:
    """Raise Refused if the header Host names another machine.

    A page in a browser can reach the service by a name that it lets point here (DNS rebinding), but
    not by an address. So a service on other addresses than loopback takes every address as well.
    """
    if LOOPBACK.fullmatch(header):
        return
    if names is None:
        raise Refused(403, f"host {header[:100]} is not this machine; use 127.0.0.1")
    match = HOST.fullmatch(header)
    name = match["name"].lower() if match else ""
    if name not in names and not _is_address(name):
        raise Refused(
            403, f"host {header[:100]} is no name of this service; add it: HOST=address,name"
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


# --- messages -----------------------------------------------------------------------------------


def reason(error: BaseException) -> str:
    """The message of the SextantError that an exception is or was raised from, or else of the
    innermost one, in one line, without a path or a stack trace."""
    while not _is_a(error, "SextantError"):
        cause = error.__cause__ or error.__context__
        if cause is None:
            break
        error = cause
    text = str(getattr(error, "message", "") or error)
    text = " ".join(text.rpartition("\nError: ")[2].split())
    if not (_is_a(error, "SextantError") or _is_a(error, "MlflowException")):
        text = f"these rows cannot be answered ({type(error).__name__}: {text})"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …"


def _is_a(error: BaseException, name: str) -> bool:
    """Whether an exception is of a class of this name, also of a packed model's code."""
    return any(base.__name__ == name for base in type(error).__mro__)
