"""The service in this process: answers, champions that change, and what it says of itself."""

import asyncio
import json
import logging
import re

import cases
import pytest
from builders import untrained_model
from in_process import champion, request, rows, run, service

from sextant.errors import SextantError
from sextant.tracking.server import batches, protocol, questions
from sextant.tracking.server.service import ROUTES, Service

# Of unusual rows; the answers have a column of them, and `create_app` ignores them as well.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the import of MLflow's parser, which these requests do not need."""
    monkeypatch.setattr(protocol, "prepare", lambda: None)


def records(content: list[dict[str, object]]) -> dict[str, object]:
    return {"dataframe_records": content}


def test_an_answer_names_the_model_and_is_that_of_predict() -> None:
    asked = rows(5)
    present = champion(3)
    question = questions.quick(records(asked), present)
    assert question is not None
    expected = json.loads(present.model.predict(question.frame()).to_json(orient="records"))

    async def test(app: Service) -> None:
        reply = await request(app, body=records(asked))
        assert reply.status == 200 and reply.headers["content-type"] == "application/json"
        answers = reply.content.pop("predictions")
        assert [answer["warnings"] for answer in answers] == [""] * 5
        for answer, row in zip(answers, expected, strict=True):
            assert answer["prediction"] == row["prediction"]
            assert answer["probability"] == pytest.approx(row["probability"], abs=1e-10)
        label = {"model": "sextant-animals", "version": "3", "digest": "digest of 3"}
        assert {name: reply.content[name] for name in label} == label
        split = {"columns": list(asked[0]), "data": [list(row.values()) for row in asked]}
        assert (await request(app, body={"dataframe_split": split})).text == reply.text

    run(service(present), test)


# --- requests that wait -------------------------------------------------------------------------


def test_requests_are_answered_together_as_they_are_alone() -> None:
    """Byte for byte, also those with unusual values; a bad row fails its own request alone."""
    present = champion()
    asked = []
    for number in range(60):
        asked.append(rows(1 + number % 3, seed=number))
    asked[6][0]["height"] = None
    asked[9][0]["height"] = 1e9
    asked[15][0]["colour"] = "mauve"
    asked[18][0]["shoes"] = "40"
    asked[21][0]["shoes"] = True
    asked[12][0]["weight"] = 1e200  # no number of a table
    group = []
    for content in asked:
        question = questions.quick(records(content), present)
        assert question is not None
        group.append(question)
    alone = [batches.answer([question])[0] for question in group]
    for size in (2, 13, 60):
        together = []
        for start in range(0, 60, size):
            together += batches.answer(group[start : start + size])
        for first, other in zip(alone, together, strict=True):
            if isinstance(first, Exception):
                assert str(first) == str(other)
            else:
                assert isinstance(other, batches.Answers) and first.text == other.text
    refused = [number for number, outcome in enumerate(alone) if isinstance(outcome, Exception)]
    assert refused == [12] and "has 1e+200 in `weight`" in str(alone[12])


def test_requests_that_wait_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    answer = batches.answer

    def noted(batch: list[questions.Question]) -> list[batches.Outcome]:
        sizes.append(len(batch))
        return answer(batch)

    monkeypatch.setattr(batches, "answer", noted)

    async def test(app: Service) -> None:
        replies = await asyncio.gather(
            *[request(app, body=records(rows(1, seed=number))) for number in range(20)]
        )
        assert [reply.status for reply in replies] == [200] * 20
        assert len({reply.text for reply in replies}) == 20

    run(service(), test)
    assert sum(sizes) == 20 and len(sizes) <= 2


def test_questions_with_other_types_or_options_are_not_put_together() -> None:
    present = champion()

    def alike(content: list[dict[str, object]]) -> object:
        question = questions.quick(records(content), present)
        assert question is not None
        return question.alike()

    (row,) = rows(1)
    assert alike([row]) == alike(rows(3)) is not None
    assert alike([row]) != alike([{**row, "shoes": "40"}])
    assert alike([row]) != alike([{**row, "id": "7"}])
    assert alike([{**row, "shoes": None}]) is None  # null is read as NaN beside numbers
    assert alike(rows(1) * 300) is None  # a long request waits for none and holds none up


def test_a_request_that_is_answered_alone_has_the_answers_of_the_batch() -> None:
    asked = rows(300, seed=3)

    async def test(app: Service) -> None:
        whole = (await request(app, body=records(asked))).content["predictions"]
        for start in (0, 299):
            (single,) = (await request(app, body=records(asked[start:][:1]))).content["predictions"]
            assert single["prediction"] == whole[start]["prediction"]
            assert single["probability"] == pytest.approx(whole[start]["probability"], abs=1e-6)

    run(service(), test)


# --- champions that change ----------------------------------------------------------------------


def test_another_champion_replaces_the_present_one_without_a_failed_request() -> None:
    app = service()
    body = records(rows(2))

    async def test(app: Service) -> None:
        first = await request(app, body=body)
        before = app.champion
        pending = [asyncio.create_task(request(app, body=body)) for _ in range(10)]
        await asyncio.sleep(0)
        app.champions.present = champion(2)  # type: ignore[attr-defined]
        await app.look()
        second = await request(app, body=body)
        assert app.champion is not before
        assert {(await task).text for task in pending} == {first.text}
        assert (first.content["version"], second.content["version"]) == ("1", "2")
        assert first.content["predictions"] != second.content["predictions"]
        await app.look()
        assert app.champions.loaded == 2  # type: ignore[attr-defined]
        metrics = (await request(app, "/metrics", method="GET")).text
        assert "sextant_champion_swaps_total 1.0" in metrics
        one = 'sextant_champion{digest="digest of 2",model="sextant-animals",version="2"} 1.0'
        assert one in metrics and 'version="1"} 0.0' in metrics

    run(app, test)


def test_the_champion_stays_while_the_registry_fails(caplog: pytest.LogCaptureFixture) -> None:
    app = service(seconds=0.01)

    async def test(app: Service) -> None:
        app.champions.present = SextantError("no answer")  # type: ignore[attr-defined]
        with caplog.at_level(logging.WARNING):
            await asyncio.sleep(0.1)
        assert (await request(app, body=records(rows()))).content["version"] == "1"
        app.champions.present = champion(2)  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)
        assert (await request(app, body=records(rows()))).content["version"] == "2"

    run(app, test)
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("the champion stays as it is: no answer") == 1  # and not at each look


# --- pages --------------------------------------------------------------------------------------


def test_a_service_says_what_it_serves() -> None:
    async def test(app: Service) -> None:
        for path in ("/health", "/ready", "/ping", "/version", "/metrics", "/openapi.json"):
            assert (await request(app, path, method="GET")).status == 200
        version = (await request(app, "/version", method="GET")).content
        assert version["version"] == "1" and version["digest"] == "digest of 1"
        document = (await request(app, "/openapi.json", method="GET")).content
        row = document["components"]["schemas"]["Row"]
        assert row["required"] == ["colour", "height", "shoes", "weight"]
        assert row["properties"]["height"] == {"type": ["number", "null"]}
        assert set(document["paths"]) == set(ROUTES)
        options = document["components"]["schemas"]["Params"]["properties"]
        assert options["all_classes"] == {"type": "boolean", "default": False}

    run(service(), test)


def test_before_the_champion_is_loaded_a_service_is_alive_and_not_ready() -> None:
    app = service()
    assert asyncio.run(request(app, "/health", method="GET")).status == 200
    for path, method in (("/ready", "GET"), ("/ping", "GET"), ("/invocations", "POST")):
        reply = asyncio.run(request(app, path, method=method))
        assert reply.status == 503 and "not loaded yet" in reply.content["message"]


def test_a_service_counts_requests_answers_and_unusual_rows() -> None:
    (row,) = rows(1)
    odd = [
        {**row, "colour": "mauve"},
        {**row, "colour": "mauve", "height": 1e6},
        {**row, "weight": None},
    ]

    async def test(app: Service) -> None:
        answers = (await request(app, body=records(odd))).content["predictions"]
        await request(app, body=b"[")
        metrics = (await request(app, "/metrics", method="GET")).text
        counted = dict(re.findall(r"^(sextant_\S+) ([0-9.]+)$", metrics, re.MULTILINE))
        assert counted['sextant_requests_total{path="/invocations",status="200"}'] == "1.0"
        assert counted['sextant_requests_total{path="/invocations",status="400"}'] == "1.0"
        assert counted["sextant_rows_total"] == "3.0"
        classes = {answer["prediction"] for answer in answers}
        total = 0.0
        for label in classes:
            total += float(counted[f'sextant_answers_total{{prediction="{label}"}}'])
        assert total == 3
        kinds = {"unseen_category": "2.0", "out_of_range": "1.0", "missing": "1.0"}
        for kind, count in kinds.items():
            assert counted[f'sextant_unusual_rows_total{{kind="{kind}"}}'] == count
        assert counted["sextant_request_seconds_count"] == "2.0"

    run(service(), test)


# --- refusals and the log -----------------------------------------------------------------------


REFUSED = [
    ({"body": b"["}, 400, "the body is not JSON"),
    ({"headers": {"content-type": ""}}, 415, "no Content-Type; expected application/json"),
    ({"headers": {"host": "example.org"}}, 403, "is not this machine"),
    ({"path": "/docs"}, 404, "no such page; this service has /invocations, /health"),
    ({"method": "GET"}, 405, "/invocations takes POST"),
    ({"path": "/ping"}, 405, "/ping takes GET and HEAD"),
]


def test_a_refusal_is_one_line() -> None:
    async def test(app: Service) -> None:
        for changes, status, message in REFUSED:
            reply = await request(app, **{"body": records(rows()), **changes})  # type: ignore[arg-type]
            assert (reply.status, set(reply.content)) == (status, {"error_code", "message"})
            assert message in reply.content["message"]

    run(service(), test)


def test_a_slow_client_is_refused_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sextant.tracking.server.bounds.SECONDS_TO_SEND", 0.02)

    async def test(app: Service) -> None:
        slow = asyncio.create_task(request(app, body=records(rows()), delay=5))
        assert (await request(app, body=records(rows()))).status == 200
        assert (await slow).status == 408

    run(service(), test)


def test_a_fault_of_the_service_has_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def test(app: Service) -> None:
        app.meters = None  # type: ignore[assignment]
        reply = await request(app, "/metrics", method="GET")
        assert reply.status == 500 and "Traceback" not in reply.text

    app = service()
    with pytest.raises(AttributeError):  # the count of the response fails as well
        run(app, test)
    assert "a fault of the service: AttributeError" in caplog.text


def test_a_request_has_an_id_in_its_response_and_in_each_line_of_the_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sextant.tracking.server import request_log

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(logging, "captureWarnings", lambda on: None)
    request_log.configure()

    async def test(app: Service) -> None:
        chosen = await request(app, body=records(rows()), headers={"x-request-id": "night-7"})
        assert chosen.headers["x-request-id"] == "night-7"
        forged = await request(app, body=b"[", headers={"x-request-id": "a b\n"})
        assert re.fullmatch("[0-9a-f]{16}", forged.headers["x-request-id"])

    run(service(), test)
    lines = capsys.readouterr().err.splitlines()
    answered = [line for line in lines if " night-7 " in line]
    assert len(answered) == 1 and "POST /invocations 200" in answered[0]
    refused = [line for line in lines if "the body is not JSON" in line or " 400 " in line]
    assert len({line.split()[3] for line in refused}) == 1 and len(refused) == 2


@cases.each(
    ("content", "is_quick"),
    [
        (records(rows(2)), True),
        ({"dataframe_split": {"columns": ["height"], "data": [[1]]}}, False),  # columns are missing
        ({**records(rows()), "params": {}}, False),
        ({"instances": rows()}, False),
        (records([{**rows()[0], "note": "surplus"}]), False),
        (records([{**rows()[0], "height": "170"}]), False),
        (records([{**rows()[0], "height": True}]), False),
        (records([{**rows()[0], "height": 2**70}]), False),
        (records([{**rows()[0], "colour": ["red"]}]), False),
        (records([{**rows()[0], "colour": "\ud800"}]), False),
        (records([{**rows()[0], "colour": "r\u00f6t"}]), True),
        (records([*rows(), {"height": 1}]), False),
        (records([]), False),
        ({"dataframe_records": {"height": 1}}, False),
    ],
)
def test_only_rows_in_the_types_of_the_signature_are_read_without_mlflow(
    content: dict[str, object], is_quick: bool
) -> None:
    assert (questions.quick(content, PRESENT) is not None) == is_quick


PRESENT = champion(model=untrained_model())
