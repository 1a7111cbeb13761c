"""The service as an ASGI application: the champion's answers, and what it says of itself.

The alias `champion` is looked up every few seconds. Another champion is loaded beside the present
one, answers its example, and replaces it; requests that have arrived before get the answers of the
one that was served then. A champion that cannot be loaded is reported, and the present one stays.
"""

import asyncio
import json
import os
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import describe
from . import bounds, openapi, protocol, request_log
from .answer_log import AnswerLog, Entry, now
from .batches import Answers, Batcher, predicted
from .bounds import MIB, Message, Receive, Refused, Send
from .champions import Champion, Champions
from .meters import Meters
from .questions import Question, as_json, quick, records_of
from .request_log import REQUEST, log

SETTINGS = "SEXTANT_SERVICE"  # the variable with the settings of the workers
SECONDS = 3.0  # between two looks at the registry
SECONDS_BETWEEN_WRITES = 1.0  # between two looks at whether answers have to be written
THREADS = 32  # requests that MLflow's parser reads at a time
# Requests that models answer at a time which cannot be answered with others; Python runs one
# thread at a time, and more threads than these wait for one another.
ALONE = 6
LARGE = MIB // 8  # bytes of a body that is not parsed in the loop
JSON_TYPES = ("application/json", "application/json;charset=utf-8")
TEXT = "application/json"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Settings(NamedTuple):
    """What `make serve` sets."""

    model: str
    host: str = "127.0.0.1"
    hosts: str = ""
    seconds: float = SECONDS
    log: str = ""  # the folder in which answers are kept
    personal: Sequence[str] = ()  # columns that are left out there
    threads: int = 0  # of torch; 0: as many as there are cores


class Response(NamedTuple):
    """A response before it is sent."""

    status: int
    body: bytes
    content_type: str = TEXT


class Service:
    """The ASGI application of one worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.champions = Champions(settings.model)
        self.champion: Champion | None = None
        self.meters = Meters()
        self.batcher = Batcher(self._note_batch)
        self.names = bounds.names_of(settings.host, settings.hosts)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mlflow")
        self.alone = ThreadPoolExecutor(ALONE, thread_name_prefix="alone")
        self.watching: asyncio.Task[None] | None = None
        self.logging: asyncio.Task[None] | None = None
        self.last_failure = ""
        self.answers: AnswerLog | None = None
        if settings.log:
            self.answers = AnswerLog(Path(settings.log), settings.personal)

    def _note_batch(self, rows: int, requests: int) -> None:
        self.meters.batch_rows.observe(rows)

    # --- the champion ---

    async def start(self) -> None:
        """Load the champion, then look for others from time to time.

        Raises SextantError without one.
        """
        version, folder = await asyncio.to_thread(self.champions.current)
        self.champion = await asyncio.to_thread(self.champions.load, version, folder)
        self.meters.serve(self.champion)
        log.info("%s version %s is ready", self.champion.name, self.champion.version.version)
        self.watching = asyncio.create_task(self._watch())
        if self.answers:
            self.logging = asyncio.create_task(self._write_answers(self.answers))
        # Most requests do not need MLflow's parser, which takes seconds to import.
        threading.Thread(target=protocol.prepare, daemon=True).start()

    async def stop(self) -> None:
        """End what runs in the background."""
        for task in (self.watching, self.logging):
            if task:
                task.cancel()
        self.batcher.close()
        if self.answers:
            await asyncio.to_thread(self._write, self.answers)
        for pool in (self.threads, self.alone):
            pool.shutdown(wait=False, cancel_futures=True)
        self.champions.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.seconds)
            try:
                await self.look()
                self.last_failure = ""
            except Exception as error:  # of the registry, the network, or a model
                self.meters.failed_loads.inc()
                failure = describe(error)
                if failure != self.last_failure:
                    log.warning("the champion stays as it is: %s", failure)
                    self.last_failure = failure

    async def _write_answers(self, answers: AnswerLog) -> None:
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_WRITES)
            if answers.is_due():
                await asyncio.to_thread(self._write, answers)

    def _write(self, answers: AnswerLog) -> None:
        """Write what was asked and answered; a failure is a line of the log."""
        try:
            answers.write()
        except Exception as error:
            self.meters.failed_logs.inc()
            log.warning(
                "%d rows wait to be kept in %s: %s", answers.rows, answers.folder, describe(error)
            )

    async def look(self) -> None:
        """Replace the champion if the registry has another one."""
        version, folder = await asyncio.to_thread(self.champions.current)
        before = self.champion
        if before and (version.name, version.version) == (before.name, before.version.version):
            return
        champion = await asyncio.to_thread(self.champions.load, version, folder)
        self.champion = champion
        self.meters.serve(champion, before)
        replaced = f"{before.name} version {before.version.version}" if before else "none"
        log.info(
            "%s version %s answers from now on; before it: %s",
            champion.name,
            champion.version.version,
            replaced,
        )

    def served(self) -> Champion:
        """The champion; raises Refused before one is loaded."""
        if self.champion is None:
            raise Refused(503, "the champion is not loaded yet; try again in a moment")
        return self.champion

    # --- requests ---

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        begun = time.perf_counter()
        headers = dict(scope["headers"])
        request = request_log.request_id(headers.get(b"x-request-id"))
        REQUEST.set(request)
        response = await self._respond(scope, headers, receive)
        sent = [
            (b"content-type", response.content_type.encode()),
            (b"content-length", str(len(response.body)).encode()),
            (b"x-request-id", request.encode()),
        ]
        start = {"type": "http.response.start", "status": response.status, "headers": sent}
        await send(start)
        await send({"type": "http.response.body", "body": response.body})
        self._note_response(scope, response.status, time.perf_counter() - begun)

    def _note_response(self, scope: Message, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in ROUTES else "other"
        self.meters.requests.labels(path, str(status)).inc()
        if path == "/invocations":
            self.meters.seconds.observe(seconds)
        milliseconds = 1000 * seconds
        log.info("%s %s %d %.1f ms", scope["method"], path, status, milliseconds)

    async def _respond(
        self, scope: Message, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Response:
        try:
            bounds.check_host(headers.get(b"host", b"").decode("latin-1"), self.names)
            path = scope["path"]
            if path not in ROUTES:
                raise Refused(404, f"no such page; this service has {', '.join(ROUTES)}")
            allowed = ROUTES[path]
            if scope["method"] not in allowed:
                raise Refused(405, f"{path} takes {' and '.join(allowed)}")
            if path == "/invocations":
                text = await self._invocations(headers, receive)
                return Response(200, text.encode())
            return self._page(path)
        except Refused as refusal:
            log.info("refused: %s", self._loggable(refusal))
            return Response(refusal.status, json.dumps(refusal.content).encode())
        except Exception as error:
            line = f"a fault of the service: {type(error).__name__}: {describe(error)}"
            log.error("%s", line, exc_info=_debug())
            fault = Refused(500, "a fault of the service; its log has more under the request's id")
            return Response(500, json.dumps(fault.content).encode())

    def _loggable(self, refusal: Refused) -> str:
        """Why a request is refused; a message may have a value, which may be personal."""
        personal = [*self.settings.personal, *(self.champion.personal if self.champion else [])]
        return refusal.content["error_code"] if personal else str(refusal)

    def _page(self, path: str) -> Response:
        """What the service says of itself."""
        if path == "/health":
            return Response(200, b"{}")
        if path == "/metrics":
            return Response(200, self.meters.text(), METRICS)
        champion = self.served()
        if path == "/version":
            about = {**champion.label, "source": champion.version.tags.get("source", "")}
            about |= {"sextant": installed("sextant"), "mlflow": installed("mlflow")}
            return Response(200, json.dumps(about).encode())
        if path == "/openapi.json":
            return Response(200, json.dumps(openapi.document(champion)).encode())
        return Response(200, b"\n")  # /ready, and /ping as MLflow answers it

    async def _invocations(self, headers: Mapping[bytes, bytes], receive: Receive) -> str:
        champion = self.served()
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        if not content_type:
            raise Refused(415, "no Content-Type; expected application/json or text/csv")
        try:
            async with asyncio.timeout(bounds.SECONDS_TO_SEND):
                body = await bounds.body_of(receive)
        except TimeoutError:
            limit = bounds.SECONDS_TO_SEND
            raise Refused(408, f"the request took more than {limit} s to arrive") from None
        read = partial(read_body, body, content_type, champion)
        question = await asyncio.to_thread(read) if len(body) > LARGE else read()
        if question is None:
            text = await self._by_mlflow(champion, body, content_type)
            return f"{text[:-1]}, {champion.label_json}"
        try:
            answers = await self._ask(question)
        except Exception as error:  # the model refuses a row
            raise Refused(400, bounds.reason(error)) from None
        self._note_answers(question, answers.records)
        return f'{{"predictions": {answers.text}, {champion.label_json}'

    async def _ask(self, question: Question) -> Answers:
        """The answers to a question, with others if it can be; raises what the model raises."""
        if question.alike() is not None:
            return await self.batcher.ask(question)
        loop = asyncio.get_running_loop()
        context = partial(_in_request, REQUEST.get())
        records = records_of(await loop.run_in_executor(self.alone, context, predicted, question))
        return Answers(records, as_json(records))

    async def _by_mlflow(self, champion: Champion, body: bytes, content_type: str) -> str:
        loop = asyncio.get_running_loop()
        ask = partial(self._ask_from_thread, loop)
        context = partial(_in_request, REQUEST.get())
        return await loop.run_in_executor(
            self.threads, context, protocol.answer, champion, body, content_type, ask
        )

    def _ask_from_thread(self, loop: asyncio.AbstractEventLoop, question: Question) -> object:
        """The answers to rows that MLflow has read, with others if they can be."""
        if question.alike() is not None:
            asked = asyncio.run_coroutine_threadsafe(self.batcher.ask(question), loop)
            answers: Answers = asked.result()
            self._note_answers(question, answers.records)
            return answers.records
        table = self.alone.submit(_in_request, REQUEST.get(), predicted, question).result()
        self._note_answers(question, records_of(table))
        return table

    def _note_answers(self, question: Question, records: Sequence[Mapping[str, Any]]) -> None:
        """Count answers, and keep them if they are to be kept."""
        if self.answers:
            champion, columns, rows = question.champion, question.columns, question.rows
            self.answers.add(Entry(now(), REQUEST.get(), champion, columns, rows, records))
        predictions = [record["prediction"] for record in records if "prediction" in record]
        remarks = [record["warnings"] for record in records if "warnings" in record]
        self.meters.count_answers(predictions, remarks)

    # --- start and end ---

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.start()
                except Exception as error:
                    log.error("the service cannot start: %s", describe(error))
                    await send({"type": "lifespan.startup.failed", "message": ""})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


GET = ("GET", "HEAD")
ROUTES: dict[str, tuple[str, ...]] = {"/invocations": ("POST",)}
ROUTES |= dict.fromkeys(openapi.PATHS, GET)


def read_body(body: bytes, content_type: str, champion: Champion) -> Question | None:
    """The question in a body; None if MLflow has to read it. Raises Refused."""
    plain = content_type.replace(" ", "").lower()
    if plain.partition(";")[0] != "application/json":
        return None
    content = bounds.parsed(body)
    return quick(content, champion) if plain in JSON_TYPES else None


def _in_request(request: str, function: Any, *arguments: Any) -> Any:
    """Call a function in a thread whose lines of the log have the id of the request."""
    REQUEST.set(request)
    return function(*arguments)


def _debug() -> bool:
    return os.environ.get("SEXTANT_DEBUG") == "1"


def create_app() -> Service:
    """The application of a worker that uvicorn starts, by the settings in the environment."""
    request_log.configure()
    warnings.simplefilter("ignore", UserWarning)  # answers have a column of warnings
    settings = Settings(**json.loads(os.environ[SETTINGS]))
    if settings.threads:
        import torch

        torch.set_num_threads(settings.threads)
    return Service(settings)
