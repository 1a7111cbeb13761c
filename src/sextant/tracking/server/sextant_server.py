"""The service of `make serve`: MLflow's answers to POST /invocations, within bounds.

uvicorn imports this module by its file (`--app-dir`), not as part of the package: the package that
answers is the one that was packed with the model. So it imports MLflow and nothing of ours.

A request that is refused gets a status of 4xx and one line, never a stack trace: a JSON object with
`error_code` and `message`, as MLflow's. Requests must name this machine as their host, so that a
page in a browser cannot reach the service by a name that it lets point here.
"""

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

MODEL = "SEXTANT_SERVED_MODEL"  # the variable with the URI of the model
MIB = 2**20
MAX_BODY = 32 * MIB  # bytes: some thousand pictures
MAX_STRING = 8 * MIB  # characters of one JSON string: a picture in base64
MAX_DEPTH = 16  # of lists and objects in each other
MAX_ROWS = 10_000
SECONDS_TO_SEND = 60  # that a client has for its request
HOSTS = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
LONGEST = 900  # characters of a message

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Refused(Exception):
    """A request that is not answered: the status, and what was wrong."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


# --- bounds of a request ------------------------------------------------------------------------


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
    return b"".join(parts)


def check_json(body: bytes) -> None:
    """Raise Refused for JSON that is malformed, too deep, or too long."""
    longest = max((len(match[0]) for match in STRING.finditer(body)), default=0)
    if longest - 2 > MAX_STRING:
        raise Refused(413, f"a string has more than {MAX_STRING // MIB} MiB; send smaller values")
    depth = deepest = 0
    for character in re.findall(rb"[\[\]{}]", STRING.sub(b"", body)):
        depth += 1 if character in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise Refused(400, f"lists and objects lie in each other {deepest} deep; expected a table")
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    check_rows(content)


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


# --- answers ------------------------------------------------------------------------------------


def answer(model: "PyFuncModel", body: bytes, content_type: str) -> str:
    """The answers to a request as JSON; raises Refused."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    if content_type.partition(";")[0].strip() == scoring_server.CONTENT_TYPE_JSON:
        check_json(body)
    schema = model.metadata.get_input_schema()
    try:
        response = scoring_server.invocations(body, content_type, model, schema)
    except MlflowException as error:
        raise Refused(_status(error), reason(error)) from None
    except Exception as error:  # pandas and NumPy refuse odd tables with errors of many types
        raise Refused(400, reason(error)) from None
    if response.status != 200:
        raise Refused(response.status, str(response.response))
    return finite(response.response)


def _status(error: Any) -> int:
    """The HTTP status of an MlflowException: what the caller sent, if the server is not at fault.

    MLflow answers 500 also for a body that it cannot parse.
    """
    status: int = error.get_http_status_code()
    return status if 400 <= status < 500 else 400


def reason(error: BaseException) -> str:
    """The innermost message of an exception in one line, without a path or a stack trace."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    text = str(getattr(error, "message", "") or error)
    text = " ".join(text.rpartition("\nError: ")[2].split())
    names = {base.__name__ for base in type(error).__mro__}
    if names.isdisjoint({"SextantError", "MlflowException"}):
        text = f"these rows cannot be answered ({type(error).__name__}: {text})"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …"


def finite(answers: str) -> str:
    """JSON without NaN and Infinity, which are no JSON: null stands for them."""
    if "NaN" not in answers and "Infinity" not in answers:
        return answers
    return json.dumps(json.loads(answers, parse_constant=lambda _: None))


# --- the application ----------------------------------------------------------------------------


def bounded(model: "PyFuncModel", inner: App) -> App:
    """An ASGI application that answers /invocations itself and leaves the rest to `inner`."""

    async def invocations(scope: Message, receive: Receive) -> str:
        headers = dict(scope["headers"])
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        if not content_type:
            raise Refused(415, "no Content-Type; expected application/json or text/csv")
        try:
            body = await asyncio.wait_for(body_of(receive), SECONDS_TO_SEND)
        except TimeoutError:
            raise Refused(
                408, f"the request took more than {SECONDS_TO_SEND} s to arrive"
            ) from None
        return await asyncio.to_thread(answer, model, body, content_type)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        try:
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            if not HOSTS.fullmatch(host):
                raise Refused(403, f"host {host[:100]} is not this machine; use 127.0.0.1")
            if (scope["method"], scope["path"]) != ("POST", "/invocations"):
                await inner(scope, receive, send)
                return
            await _respond(send, 200, await invocations(scope, receive))
        except Refused as refusal:
            codes = {413: "REQUEST_TOO_LARGE", 415: "UNSUPPORTED_MEDIA_TYPE"}
            code = codes.get(refusal.status, "BAD_REQUEST")
            content = {"error_code": code, "message": str(refusal)}
            await _respond(send, refusal.status, json.dumps(content))

    return app


async def _respond(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def create_app() -> App:
    """The application that uvicorn runs: the model whose URI is in the environment."""
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    model = mlflow.pyfunc.load_model(os.environ[MODEL])
    return bounded(model, scoring_server.init(model))
