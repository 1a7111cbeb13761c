"""MLflow's scoring protocol: its formats and options, and the same answers without its parser."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from builders import animal_table, untrained_model
from in_process import champion, request, rows, run, service

from sextant import saved_model
from sextant.tracking import packing
from sextant.tracking.server import champions
from sextant.tracking.server.service import Service

pytestmark = [
    pytest.mark.slow,  # MLflow is imported
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> champions.Champion:
    """A packed model of animals, and its interface as MLflow has registered it."""
    folder = tmp_path_factory.mktemp("packed")
    model = untrained_model()
    saved_model.save(folder / "animals", model.card, model.net, model.encoder)
    answers = [("prediction", "string", True), ("probability", "double", True)]
    options = [(name, "boolean", False) for name in (*model.flags, *model.task.options)]
    interface = packing.Interface(model.schema(), answers, options)
    example = model.encoder.example()
    packing.pack(folder / "packed", None, folder / "animals", example, interface)
    present = champion(model=model, folder=folder / "packed")
    assert champions.interface(folder / "packed").types == present.interface.types
    assert champions.interface(folder / "packed").options == present.interface.options
    return present


def variants() -> list[list[dict[str, Any]]]:
    """Rows as JSON may have them, all of which can be read without MLflow."""
    contents = [rows(1), rows(40), rows(300, seed=3)]
    (row,) = rows(1)
    for changes in (
        {"height": 170},
        {"height": None},
        {"height": 1e300},
        {"height": 2**62},
        {"weight": 0.1 + 0.2},
        {"colour": " red "},
        {"colour": ""},
        {"colour": None},
        {"colour": "1.0"},
        {"colour": "r\u00f6t"},
        {"shoes": "40"},
        {"shoes": 40.0},
        {"shoes": 40.5},
        {"shoes": False},
        {"shoes": None},
        {"id": "007"},
        {"id": 7},
        {"id": 7.5},
        {"id": None},
        {"id": True},
    ):
        contents.append([{**row, **changes}])
    return contents


def test_rows_have_the_same_answers_by_both_parsers(packed: champions.Champion) -> None:
    """Byte for byte, answers and refusals; MLflow reads what has `params`."""

    async def test(app: Service) -> None:
        for content in variants():
            quick = await request(app, body={"dataframe_records": content})
            slow = await request(app, body={"dataframe_records": content, "params": {}})
            assert (quick.status, quick.text) == (slow.status, slow.text), content[0]

    run(service(packed), test)


def test_every_format_has_the_same_answers(packed: champions.Champion) -> None:
    table = animal_table(5)[["height", "weight", "colour", "shoes"]]
    split = json.loads(table.to_json(orient="split"))
    columns = {name: json.loads(table[name].to_json(orient="values")) for name in table}
    bodies: list[dict[str, object]] = [
        {"dataframe_split": split},
        {"instances": rows(5)},
        {"inputs": columns},
        {"dataframe_records": rows(5), "params": {"all_classes": False}},
    ]

    async def test(app: Service) -> None:
        expected = (await request(app, body={"dataframe_records": rows(5)})).text
        for body in bodies:
            assert (await request(app, body=body)).text == expected, body
        csv = await request(
            app, body=table.to_csv(index=False).encode(), headers={"content-type": "text/csv"}
        )
        assert csv.text == expected
        body = {"dataframe_records": rows(1), "params": {"details": True}}
        explained = await request(app, body={**body, "params": {"explain": True}})
        assert {"because_1", "share_1"} <= set(explained.content["predictions"][0])
        odd = await request(app, body={**body, "params": {"details": "yes"}})
        assert odd.status == 400 and "details" in odd.content["message"]

    run(service(packed), test)


def test_requests_that_mlflow_reads_are_answered_with_others(packed: champions.Champion) -> None:
    async def test(app: Service) -> None:
        bodies = []
        for number in range(12):
            body: dict[str, object] = {"dataframe_records": rows(2, seed=number)}
            bodies.append({**body, "params": {}} if number % 2 else body)
        alone = [(await request(app, body=body)).text for body in bodies]
        together = await asyncio.gather(*[request(app, body=body) for body in bodies])
        assert [reply.text for reply in together] == alone

    run(service(packed), test)


def test_what_mlflow_refuses_is_one_line(packed: champions.Champion) -> None:
    (row,) = rows(1)
    refused = [
        ([{**row, "height": "tall"}], "could not convert string to float: 'tall'"),
        ([{"height": 1}], "Model is missing inputs ['weight', 'colour', 'shoes']"),
        ([{**row, "weight": 1e200}], "has 1e+200 in `weight`; expected a number of at most"),
        ([], "Model is missing inputs"),
    ]

    async def test(app: Service) -> None:
        for content, message in refused:
            reply = await request(app, body={"dataframe_records": content})
            assert reply.status == 400 and message in reply.content["message"]
            assert set(reply.content) == {"error_code", "message"}
        reply = await request(app, body=b"x", headers={"content-type": "text/html"})
        assert reply.status == 415

    run(service(packed), test)


def test_a_warning_of_mlflow_has_the_id_of_its_request(
    packed: champions.Champion, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    from sextant.tracking.server import protocol, request_log

    protocol.prepare()
    lines = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(request_log.WithRequest(request_log.FORMAT).format(record))

    root = logging.getLogger()
    handler = Kept()
    root.addHandler(handler)

    async def test(app: Service) -> None:
        body = {"dataframe_records": [{**rows(1)[0], "surplus": 1}]}
        reply = await request(app, body=body, headers={"x-request-id": "night-8"})
        assert reply.status == 200

    try:
        run(service(packed), test)
    finally:
        root.removeHandler(handler)
    (line,) = [line for line in lines if "`['surplus']`" in line]
    assert " night-8 " in line
