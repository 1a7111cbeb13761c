"""The message to a webhook, to a real server on this machine."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from sextant import notification


class Webhook(HTTPServer):
    """A server that keeps what is posted to it, and answers with `status`."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.messages: list[dict[str, object]] = []


class Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.messages.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with Webhook() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/hooks/secret-path"
        monkeypatch.setenv(notification.VARIABLE, address)
        yield server
        server.shutdown()
        thread.join()


def test_a_message_has_the_first_lines_and_the_links(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ana:s3cret-word@mlflow.example")
    summary = "# Retraining: bad data\n\n" + "\n".join(f"line {number}" for number in range(40))
    summary = summary.replace("line 3", "line 3 of https://ana:s3cret-word@mlflow.example")
    links = {"job": "https://ci.example/jobs/7"}
    assert notification.send("bad data", 12, summary, links)
    (message,) = webhook.messages
    lines = str(message["text"]).splitlines()
    assert lines[0] == "# Retraining: bad data" and lines[-1] == "job: https://ci.example/jobs/7"
    assert len(lines) == notification.LINES + 1
    assert "s3cret-word" not in json.dumps(message)
    assert (message["outcome"], message["code"], message["links"]) == ("bad data", 12, links)


def test_a_failure_is_a_warning_without_the_address(
    webhook: Webhook, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook.status = 403
    assert not notification.send("promoted", 0, "text", {})
    monkeypatch.setenv(notification.VARIABLE, "http://127.0.0.1:1/hooks/secret-path")
    assert not notification.send("promoted", 0, "text", {})
    refused, unreachable = capsys.readouterr().err.splitlines()
    assert refused.endswith("the message to NOTIFY_URL was not delivered: HTTP 403")
    assert unreachable.endswith("was not delivered: ConnectionError")
    assert "secret-path" not in refused + unreachable


def test_without_an_address_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(notification.VARIABLE, raising=False)
    assert not notification.send("promoted", 0, "text", {})
