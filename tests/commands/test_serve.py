"""A champion as a service on this machine: the same answers over HTTP as from `predict`."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import requests
from conftest import Clone

import sextant
from sextant import serve
from sextant.errors import SextantError, UsageError

MODEL = "ann"


@pytest.fixture(scope="module")
def service(chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of the served champion, and the file with what the server says."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    # As a user may call it: without the environment's bin on PATH.
    env = chain.env | {"PATH": os.defpath, "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-m", "sextant.serve", f"model={MODEL}", f"port={port}"]
    with log.open("w") as stream:
        server = subprocess.Popen(
            words, cwd=chain.path, env=env, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: pinged(address) or server.poll() is not None, log)
        assert server.poll() is None, log.read_text()
        yield address, log
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_until(done: Callable[[], bool], log: Path, patience: float = 120) -> None:
    end = time.monotonic() + patience
    while not done():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def pinged(address: str) -> bool:
    try:
        return requests.get(f"{address}/ping", timeout=10).ok
    except requests.RequestException:
        return False


@pytest.fixture
def asked(chain: Clone, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.chdir(chain.path)
    return pd.read_csv("data/raw/churn/Churn_Modelling.csv").head(13)


@pytest.fixture
def features(asked: pd.DataFrame) -> pd.DataFrame:
    return asked[sextant.load(MODEL).encoder.columns.features]


def invoked(
    service: tuple[str, Path], body: str, kind: str = "application/json"
) -> requests.Response:
    return requests.post(
        f"{service[0]}/invocations", data=body, headers={"Content-Type": kind}, timeout=60
    )


def split(rows: pd.DataFrame) -> str:
    return json.dumps({"dataframe_split": json.loads(rows.to_json(orient="split", index=False))})


@pytest.mark.slow
def test_the_service_gives_the_answers_of_predict(
    service: tuple[str, Path], asked: pd.DataFrame, features: pd.DataFrame
) -> None:
    expected = sextant.load(MODEL).predict(asked)
    questions = {"application/json": split(features), "text/csv": features.to_csv(index=False)}
    for kind, body in questions.items():
        answer = invoked(service, body, kind)
        assert answer.status_code == 200, answer.text
        found = pd.DataFrame(answer.json()["predictions"])
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    name = f"sextant-{MODEL}-twin version 1 answers at {service[0]}/invocations"
    assert name in service[1].read_text()


@pytest.mark.slow
def test_the_service_refuses_what_it_cannot_answer(
    service: tuple[str, Path], features: pd.DataFrame
) -> None:
    for damaged, why in (
        (features.drop(columns="Age"), "Model is missing inputs ['Age']"),
        (features.assign(Age="many"), "could not convert string to float: 'many'"),
        (
            features.assign(Age=None),
            "DataError: row 1 has no `Age`; expected a number; correct the row",
        ),
    ):
        answer = invoked(service, split(damaged))
        assert answer.status_code == 400 and why in answer.text
    assert invoked(service, split(features.assign(Geography="Atlantis"))).status_code == 200


@pytest.mark.slow
def test_the_service_warns_of_a_surplus_column(
    service: tuple[str, Path], asked: pd.DataFrame, features: pd.DataFrame
) -> None:
    answer = invoked(service, split(features.assign(Income=1)))
    assert answer.status_code == 200
    expected = sextant.load(MODEL).predict(asked)
    pd.testing.assert_frame_equal(
        pd.DataFrame(answer.json()["predictions"]), expected, check_exact=True
    )
    assert "Income" in service[1].read_text()


@pytest.mark.parametrize("words", [[], ["port=5001"], [f"model={MODEL}", "lr=1"]])
def test_a_service_of_nothing_is_answered_with_the_usage(words: list[str]) -> None:
    with pytest.raises(UsageError, match="expected: make serve MODEL=<model>"):
        serve.main(words)


@pytest.mark.slow
def test_a_model_without_a_champion_is_not_served(
    chain: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(chain.path)
    with pytest.raises(
        SextantError, match=f"`digits` has no champion in .*; champions there: .*{MODEL}"
    ):
        serve.main(["model=digits"])


@pytest.mark.slow
def test_csv_survives_the_way(features: pd.DataFrame) -> None:
    """What the first test relies on: text keeps every number."""
    again = pd.read_csv(io.StringIO(features.to_csv(index=False)))
    pd.testing.assert_frame_equal(again, features, check_exact=True)
