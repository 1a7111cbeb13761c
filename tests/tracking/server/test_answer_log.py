"""What a service keeps of questions and answers."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import ANIMAL_COLUMNS, untrained_model
from in_process import champion, request, rows, run, service

from sextant.kinds.tabular.columns import Columns
from sextant.saved_model import SavedModel
from sextant.tracking.server import answer_log, protocol
from sextant.tracking.server.answer_log import AnswerLog, Entry, table_of
from sextant.tracking.server.champions import Champion
from sextant.tracking.server.service import Service

TIME = datetime(2026, 11, 29, 20, 30, tzinfo=UTC)
PRESENT = champion()


def entry(
    columns: dict[str, list[Any]],
    answers: list[dict[str, Any]],
    present: Champion = PRESENT,
) -> Entry:
    count = len(next(iter(columns.values())))
    return Entry(TIME, "night-7", present, columns, count, answers)


def private() -> Champion:
    """A champion whose data set has a personal key and a personal category."""
    model = untrained_model()
    marked = {**ANIMAL_COLUMNS.model_dump(), "personal": ["id", "colour"]}
    model.encoder.columns = Columns(**marked)
    return champion(model=SavedModel(model.card, model.net, model.encoder))


def test_a_service_keeps_what_was_asked_and_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "prepare", lambda: None)
    asked = rows(3)

    async def test(app: Service) -> None:
        reply = await request(app, body={"dataframe_records": asked[:2]})
        await request(app, body={"dataframe_records": asked[2:]})
        await request(app, body=b"[")
        assert not list(tmp_path.iterdir())  # a file is written after a while, or at the end
        answers.extend(reply.content["predictions"])
        ids.append(reply.headers["x-request-id"])

    answers: list[dict[str, Any]] = []
    ids: list[str] = []
    run(service(log=str(tmp_path)), test)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("sextant-animals-2") and file.suffix == ".parquet"
    table = pd.read_parquet(file)
    assert list(table) == [
        *answer_log.SERVED, "height", "weight", "colour", "shoes",
        "answer_prediction", "answer_probability", "answer_positive", "answer_warnings",
    ]  # fmt: skip
    assert len(table) == 3 and table["served_request"].tolist()[:2] == ids * 2
    assert table["height"].tolist() == [row["height"] for row in asked]
    assert table["shoes"].tolist() == [str(row["shoes"]) for row in asked]
    assert table["answer_probability"].tolist()[:2] == [a["probability"] for a in answers]
    assert set(table["served_version"]) == {"1"}


def test_personal_columns_are_left_out_also_of_answers_and_remarks() -> None:
    columns = {"id": ["007", "8"], "height": [1.0, None], "colour": ["secret", "red"]}
    answers: list[dict[str, Any]] = [
        {"id": "007", "prediction": "cat", "warnings": "`colour` has secret, which training"},
        {"id": "8", "prediction": "dog", "warnings": "`height` is missing"},
    ]
    table = table_of([entry(columns, answers, private())], frozenset())
    assert "secret" not in table.to_csv() and "007" not in table.to_csv()
    assert "id" not in table and "colour" not in table and "answer_id" not in table
    assert table["answer_warnings"].tolist() == [answer_log.LEFT_OUT, "`height` is missing"]
    # Those that the conf marks today, of a champion that was trained before.
    table = table_of([entry(columns, answers)], frozenset(["colour"]))
    assert "secret" not in table.to_csv() and table["answer_id"].tolist() == ["007", "8"]


def test_the_log_has_no_value_of_a_refused_request_where_columns_are_personal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "prepare", lambda: None)

    async def test(app: Service) -> None:
        reply = await request(app, body={"dataframe_records": [{**rows(1)[0], "weight": 1e200}]})
        assert reply.status == 400 and "1e+200" in reply.content["message"]

    with caplog.at_level("INFO"):
        run(service(private()), test)
    assert "refused: BAD_REQUEST" in caplog.text and "1e+200" not in caplog.text


def test_columns_of_several_requests_have_one_type(tmp_path: Path) -> None:
    entries = [
        entry({"shoes": [40, True], "height": [1, None]}, [{"prediction": "cat"}] * 2),
        entry({"shoes": ["40"], "height": [2.5]}, [{"prediction": "dog", "share_1": 0.5}]),
        entry({"shoes": [None], "colour": ["x" * 2000]}, [{"prediction": "dog"}]),
    ]
    table = table_of(entries, frozenset())
    table.to_parquet(tmp_path / "log.parquet")
    table = pd.read_parquet(tmp_path / "log.parquet")
    assert table["shoes"].tolist()[:3] == ["40", "True", "40"] and pd.isna(table["shoes"][3])
    assert table["height"].dtype == np.float64
    assert table["colour"][3] == f"sha256:{hashlib.sha256(b'x' * 2000).hexdigest()}"
    assert table["answer_share_1"].dropna().tolist() == [0.5]


def test_answers_that_are_no_rows_are_kept_as_json() -> None:
    answers: list[dict[str, Any]] = [{"rank": 1}, {"rank": 2}, {"rank": 3}]
    table = table_of([entry({"height": [1.0, 2.0]}, answers)], frozenset())
    assert json.loads(table["answer_json"][0]) == answers and pd.isna(table["answer_json"][1])


def test_a_file_is_due_after_some_rows_or_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AnswerLog(tmp_path)
    one = entry({"height": [1.0]}, [{"prediction": "cat"}])
    assert not log.is_due()
    log.add(one)
    assert not log.is_due()
    monkeypatch.setattr(answer_log, "ROWS_OF_FILE", 2)
    log.add(one)
    assert log.is_due()
    log.write()
    assert not log.is_due() and log.rows == 0 and not log.entries
    monkeypatch.setattr(answer_log, "SECONDS_OF_FILE", 0)
    log.add(one)
    assert log.is_due()
    monkeypatch.setattr(answer_log, "MOST_ROWS", 1)
    log.add(one)
    assert (log.rows, log.dropped) == (1, 1)
    log.write()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_fails_no_request_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(protocol, "prepare", lambda: None)
    app = service(log=str(tmp_path))
    whole = pd.DataFrame.to_parquet

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    async def test(app: Service) -> None:
        assert app.answers is not None
        await request(app, body={"dataframe_records": rows(2)})
        monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
        await asyncio.to_thread(app._write, app.answers)
        assert (await request(app, body={"dataframe_records": rows(1)})).status == 200
        assert not app.answers.is_due()  # it is tried again after a minute
        monkeypatch.setattr(pd.DataFrame, "to_parquet", whole)

    run(app, test)
    assert "2 rows wait to be kept in" in caplog.text and "No space left" in caplog.text
    (file,) = tmp_path.iterdir()
    assert len(pd.read_parquet(file)) == 3
