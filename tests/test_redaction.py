"""No secret of the environment leaves the process."""

import io
import sys

import pytest

from sextant import errors, redaction
from sextant.errors import UsageError

PASSWORD = "wor@d of passage"
ENCODED = "wor%40d%20of%20passage"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("get https://user:secret@host/a failed", "get https://host/a failed"),
        ("at postgresql://me:half@word@host:5/a", "at postgresql://host:5/a"),
        ("(https://host/a?token=secret)", "(https://host/a)"),
        ("no URL, a@b?c=d", "no URL, a@b?c=d"),
        ("see https://host/a and me@host", "see https://host/a and me@host"),
    ],
)
def test_secrets_of_urls_are_removed(text: str, expected: str) -> None:
    assert redaction.redact(text) == expected


def test_a_line_keeps_the_arguments_of_a_page_that_are_no_secrets() -> None:
    line = "see http://host/#/runs?tab=2&X-Amz-Signature=ab12&token=abc"
    kept = redaction.without_secrets(line)
    assert kept == "see http://host/#/runs?tab=2&X-Amz-Signature=***&token=***"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI", "wJalrXUtnFEMI"),
        ("MLFLOW_TRACKING_TOKEN", "ey.abcdef", "ey.abcdef"),
        ("MLFLOW_TRACKING_URI", f"http://me:{ENCODED}@host:5000", PASSWORD),
        ("MLFLOW_TRACKING_URI", f"http://me:{ENCODED}@host:5000", ENCODED),
        ("MLFLOW_TRACKING_URI", "postgresql://me:pass/word@host/db", "me:pass/word"),
        ("SEXTANT_MIRROR", "https://host/data?sas=1234567890", "1234567890"),
    ],
)
def test_a_secret_of_the_environment_is_hidden_wherever_it_stands(
    name: str, value: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert redaction.without_secrets(f"refused ({secret}): try again") == "refused (***): try again"
    assert secret not in redaction.redact(f"{name}={value}")


def test_a_short_secret_does_not_blank_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "test")
    assert redaction.without_secrets("the test part") == "the test part"


def test_what_a_command_prints_or_a_library_raises_has_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{ENCODED}@host:5000")
    monkeypatch.setenv("SEXTANT_DEBUG", "1")

    def failing(argv: list[str]) -> int:
        print(f"the password is {PASSWORD}")
        print(f"http://me:{ENCODED}@host:5000/api", file=sys.stderr)
        raise ConnectionError(f"HTTPConnection(me:{ENCODED}@host): refused")

    with pytest.raises(SystemExit):
        errors.run(failing)
    printed = capsys.readouterr()
    assert printed.out == "the password is ***\n"
    assert "http://host:5000/api" in printed.err and "Traceback" in printed.err
    assert ENCODED not in printed.err and PASSWORD not in printed.err


def test_a_redacted_stream_is_a_stream() -> None:
    stream = redaction.Redacting(io.StringIO())
    stream.writelines(["a\n", "b\n"])
    assert stream.getvalue() == "a\nb\n" and not stream.isatty()


def test_a_failure_ends_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    def refusing(argv: list[str]) -> int:
        raise UsageError("no such model")

    with pytest.raises(SystemExit) as end:
        errors.run(refusing)
    assert end.value.code == 2 and capsys.readouterr().err == "sextant: no such model\n"
