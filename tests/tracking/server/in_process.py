"""A service in this process: a champion with random weights, and requests as uvicorn sends them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from builders import animal_table, untrained_model

from sextant.saved_model import SavedModel
from sextant.tracking.registry import Version
from sextant.tracking.server.champions import Champion, Interface
from sextant.tracking.server.service import Service, Settings

JSON = "application/json"


class Reply(NamedTuple):
    """The response to a request."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def content(self) -> Any:
        return json.loads(self.text)


def champion(number: int = 1, model: SavedModel | None = None, folder: Path = Path()) -> Champion:
    """A version of a model of animals; each version has other weights."""
    model = model or untrained_model(seed=number)
    schema = model.schema()
    options = {**dict.fromkeys(model.flags, False), **model.task.options}
    interface = Interface(
        types={name: kind for name, kind, _ in schema},
        required=frozenset(name for name, _, required in schema if required),
        answers={"prediction": "string", "probability": "double", "warnings": "string"},
        options=options,
        option_types=dict.fromkeys(options, "boolean"),
    )
    tags = {"digest": f"digest of {number}", "source": "embedded"}
    version = Version("sextant-animals", str(number), tags, True, "")
    return Champion(version, folder, model, interface)


class FakeChampions:
    """A registry in memory: `present` is the champion, or what a look at the registry raises."""

    def __init__(self, present: Champion) -> None:
        self.present: Champion | Exception = present
        self.loaded = 0

    def current(self) -> tuple[Version, Path | None]:
        if isinstance(self.present, Exception):
            raise self.present
        return self.present.version, None

    def load(self, version: Version, folder: Path | None) -> Champion:
        assert isinstance(self.present, Champion)
        self.loaded += 1
        return self.present

    def close(self) -> None: ...


def service(present: Champion | None = None, **settings: Any) -> Service:
    """A service that has not started."""
    made = Service(Settings("animals", **{"seconds": 60.0, **settings}))
    made.champions.close()
    fake: Any = FakeChampions(present or champion())
    made.champions = fake
    return made


def rows(count: int = 1, seed: int = 7) -> list[dict[str, Any]]:
    """Rows to answer, as JSON has them."""
    table = animal_table(count, seed=seed)[["height", "weight", "colour", "shoes"]]
    content: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return content


async def request(
    app: Service,
    path: str = "/invocations",
    body: object = None,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    delay: float = 0.0,
) -> Reply:
    """The response of a service to a request whose body arrives after a delay."""
    sent_headers = {"host": "127.0.0.1", "content-type": JSON, **(headers or {})}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(delay)
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in sent_headers.items() if value]
    await app({"type": "http", "method": method, "path": path, "headers": pairs}, receive, send)
    received = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Reply(sent[0]["status"], sent[1]["body"].decode(), received)


def run(app: Service, test: Callable[[Service], Awaitable[None]]) -> None:
    """Start a service, run a test on it, and end it."""

    async def whole() -> None:
        await app.start()
        try:
            await test(app)
        finally:
            await app.stop()

    asyncio.run(whole())
