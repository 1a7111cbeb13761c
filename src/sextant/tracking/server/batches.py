"""Requests that wait are answered together: one pass of pandas and of the model's checks for all.

Most of the time that a row takes does not depend on the number of rows: 100 rows take hardly longer
than one. The first request is answered at once; those that arrive meanwhile are the next batch.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import pandas as pd

from .questions import ROWS_TOGETHER, Question, as_json, records_of, together

# What a batch had: rows, and the number of requests.
Seen: TypeAlias = Callable[[int, int], None]


class Answers(NamedTuple):
    """The answers to a question, as records and as JSON."""

    records: list[dict[str, Any]]
    text: str


Outcome: TypeAlias = Answers | Exception
Waiting: TypeAlias = "tuple[Question, asyncio.Future[Answers]]"


class Batcher:
    """Answers questions in a thread, all that wait at a time; its methods belong to the loop."""

    def __init__(self, seen: Seen | None = None) -> None:
        self.waiting: deque[Waiting] = deque()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self.is_busy = False
        self.seen = seen

    async def ask(self, question: Question) -> Answers:
        """The answers to a question; raises what the model raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answers] = loop.create_future()
        self.waiting.append((question, future))
        if not self.is_busy:
            self.is_busy = True
            # Not at once: further requests may have arrived in this turn of the loop.
            loop.call_soon(self._start, loop)
        return await future

    def close(self) -> None:
        """End the thread after its batch."""
        self.thread.shutdown(wait=False)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the thread answer what waits, up to ROWS_TOGETHER rows, or one request with more."""
        batch: list[Waiting] = []
        rows = 0
        while self.waiting and (not batch or rows + self.waiting[0][0].rows <= ROWS_TOGETHER):
            question, future = self.waiting.popleft()
            if not future.cancelled():
                batch.append((question, future))
                rows += question.rows
        if not batch:
            self.is_busy = False
            return
        if self.seen:
            self.seen(rows, len(batch))
        self.thread.submit(self._answer, loop, batch)

    def _answer(self, loop: asyncio.AbstractEventLoop, batch: Sequence[Waiting]) -> None:
        """In the thread: answer a batch, and hand the outcomes to the loop."""
        outcomes = answer([question for question, _ in batch])
        try:
            loop.call_soon_threadsafe(self._deliver, loop, batch, outcomes)
        except RuntimeError:  # the loop was closed meanwhile
            return

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: Sequence[Waiting],
        outcomes: Sequence[Outcome],
    ) -> None:
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.cancelled():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        # After the responses are sent, so that the next batch has what their clients send next.
        loop.call_soon(self._start, loop)


def answer(batch: Sequence[Question]) -> list[Outcome]:
    """The answers to questions, or what the model has raised; in order.

    Those that are alike are answered together. If the model refuses them, each is answered alone,
    so that a bad row fails no request but its own.
    """
    groups: dict[object, list[int]] = {}
    for place, question in enumerate(batch):
        alike = question.alike()
        key = ("alone", place) if alike is None else alike
        groups.setdefault(key, []).append(place)
    outcomes: dict[int, Outcome] = {}
    for places in groups.values():
        group = [batch[place] for place in places]
        outcomes.update(zip(places, _answer_group(group), strict=True))
    return [outcomes[place] for place in range(len(batch))]


def _answer_group(group: Sequence[Question]) -> Sequence[Outcome]:
    if len(group) > 1:
        try:
            return answer_together(group)
        except Exception:  # nosec B110: each is answered alone, with an error of its own
            pass
    return [answer_alone(question) for question in group]


def answer_together(group: Sequence[Question]) -> list[Answers]:
    """The answers to questions that are alike; raises what the model raises."""
    model = group[0].champion.model
    counts = [question.rows for question in group]
    records = records_of(model.predict_requests(together(group), counts, dict(group[0].params)))
    answers = []
    start = 0
    for count in counts:
        part = records[start : start + count]
        answers.append(Answers(part, as_json(part)))
        start += count
    return answers


def answer_alone(question: Question) -> Outcome:
    """The answers to one question, or what the model has raised."""
    try:
        records = records_of(predicted(question))
        return Answers(records, as_json(records))
    except Exception as error:
        return error


def predicted(question: Question) -> pd.DataFrame:
    """The table of answers to one question, by the method that MLflow calls."""
    if question.params:
        return question.champion.model.predict(question.frame(), dict(question.params))
    return question.champion.model.predict(question.frame())
