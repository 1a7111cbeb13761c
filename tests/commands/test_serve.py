"""Command serve: the answers of `predict` over HTTP."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import requests
from conftest import Clone

import sextant
from sextant.commands import serve
from sextant.errors import SextantError, UsageError
from sextant.tracking.server.champions import Champions

MODEL = "ann"


@dataclass(frozen=True)
class Service:
    """A served champion."""

    address: str
    log: Path  # what the server prints

    def answer(self, body: str, media_type: str = "application/json") -> requests.Response:
        return requests.post(
            f"{self.address}/invocations",
            data=body,
            headers={"Content-Type": media_type},
            timeout=60,
        )


@pytest.fixture(scope="module")
def service(pipeline: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = Service(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("serve") / "log")
    # A user may call it without the environment's bin folder on PATH.
    environment = pipeline.env | {"PATH": os.defpath, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "sextant", "serve", f"model={MODEL}", f"port={port}"]
    with service.log.open("w") as log:
        server = subprocess.Popen(
            command,
            cwd=pipeline.path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: responds(service) or server.poll() is not None, service.log)
        assert server.poll() is None, service.log.read_text()
        yield service
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_until(condition: Callable[[], bool], log: Path, patience: float = 120) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def responds(service: Service) -> bool:
    try:
        return requests.get(f"{service.address}/ping", timeout=10).ok
    except requests.RequestException:
        return False


@pytest.fixture
def rows(pipeline: Clone, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Rows as they are upstream, with label and key."""
    monkeypatch.chdir(pipeline.path)
    return pd.read_csv("data/raw/churn/Churn_Modelling.csv").head(13)


@pytest.fixture
def features(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that the model reads: MLflow warns about others."""
    return rows[sextant.load(MODEL).encoder.columns.features]


def as_json(rows: pd.DataFrame) -> str:
    return json.dumps({"dataframe_split": json.loads(rows.to_json(orient="split", index=False))})


def assert_answers(response: requests.Response, expected: pd.DataFrame) -> None:
    assert response.status_code == 200, response.text
    answers = pd.DataFrame(response.json()["predictions"])
    pd.testing.assert_frame_equal(answers, expected, check_exact=True)


@pytest.mark.slow
def test_the_service_gives_the_answers_of_predict(
    service: Service, rows: pd.DataFrame, features: pd.DataFrame
) -> None:
    with_key = sextant.load(MODEL).predict(rows)
    assert_answers(service.answer(as_json(rows[["CustomerId", *features]])), with_key)
    expected = with_key.drop(columns="CustomerId")
    assert_answers(service.answer(as_json(features)), expected)
    csv = features.to_csv(index=False)
    # CSV keeps every digit of these numbers.
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(csv)), features, check_exact=True)
    assert_answers(service.answer(csv, "text/csv"), expected)
    line = f"sextant-{MODEL}-twin version 1 answers at {service.address}/invocations"
    assert line in service.log.read_text()
    version = requests.get(f"{service.address}/version", timeout=10).json()
    assert (version["model"], version["version"]) == (f"sextant-{MODEL}-twin", "1")
    metrics = requests.get(f"{service.address}/metrics", timeout=10).text
    assert 'sextant_requests_total{path="/invocations",status="200"}' in metrics
    assert "process_resident_memory_bytes" in metrics


@pytest.mark.slow
def test_the_service_refuses_rows_that_it_cannot_answer(
    service: Service, features: pd.DataFrame
) -> None:
    refused = [
        (features.drop(columns="Age"), "Model is missing inputs ['Age']"),
        (features.assign(Age="many"), "could not convert string to float: 'many'"),
    ]
    for damaged, message in refused:
        response = service.answer(as_json(damaged))
        assert response.status_code == 400 and message in response.json()["message"]
        assert set(response.json()) == {"error_code", "message"}  # and no stack trace
    unusual = features.assign(Geography="Atlantis", HasCrCard="maybe", Age=4000.0)
    response = service.answer(as_json(unusual))
    assert response.status_code == 200
    for answer in response.json()["predictions"]:
        far, unseen, word = answer["warnings"].split("; ")
        assert far.startswith("`Age` is 4000, far from the ")
        assert unseen == "`Geography` has Atlantis, which training did not have"
        assert word == "`HasCrCard` has maybe, which training did not have"
    missing = features.assign(Age=None, Geography=None, HasCrCard=None)
    response = service.answer(as_json(missing))
    for answer in response.json()["predictions"]:
        age, geography, card = answer["warnings"].split("; ")
        assert age.startswith("`Age` is missing, and never was in training: read as the median")
        assert geography.startswith("`Geography` is missing, and never was in training")
        assert card.startswith("`HasCrCard` is missing, and never was in training")


@pytest.mark.slow
def test_the_service_warns_about_a_surplus_column(
    service: Service, rows: pd.DataFrame, features: pd.DataFrame
) -> None:
    response = service.answer(as_json(features.assign(Income=1)))
    assert_answers(response, sextant.load(MODEL).predict(features))
    assert "Income" in service.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["workers=0"], "WORKERS=0: expected a number from 1 to 64"),
        (["port=0"], "PORT=0 is not a port"),
        (["host=192.0.2.7"], r"port 5001 is not available \(cannot assign .*PORT=…"),
        (["log=/dev/null/log"], "LOG=/dev/null/log cannot be a folder of logs"),
        (["host=no such host"], "HOST=no such host is no address of this machine"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        serve.main([f"model={MODEL}", *arguments])


@pytest.mark.slow
def test_the_champion_of_the_registry_is_loaded_with_its_packed_code(in_pipeline: None) -> None:
    champions = Champions(MODEL)
    version, folder = champions.current()
    champion = champions.load(version, folder)
    try:
        assert (champion.name, champion.version.version) == (f"sextant-{MODEL}-twin", "1")
        assert type(champion.model).__module__.startswith("sextant_")
        assert champion.answers_together
        assert champions.load(version, folder).model is not champion.model
        # Champions with the same code share its modules.
        assert type(champions.load(version, folder).model) is type(champion.model)
    finally:
        champions.close()
    assert not champions.folder.exists()


@pytest.mark.parametrize("arguments", [[], ["port=5001"], [f"model={MODEL}", "lr=1"]])
def test_other_arguments_are_answered_with_the_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="expected: make serve MODEL=<model>"):
        serve.main(arguments)


@pytest.mark.slow
def test_a_model_without_a_champion_is_not_served(
    pipeline: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pipeline.path)
    message = f"`digits` has no champion in .*; models with a champion: .*{MODEL}"
    with pytest.raises(SextantError, match=message):
        serve.main(["model=digits"])
