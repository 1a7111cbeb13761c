"""Errors: one line with the repair, nothing secret, and the exit code."""

import errno
import os
import sys
from collections.abc import Callable

import pytest

from sextant import errors
from sextant.errors import DataError, SextantError, UsageError


@pytest.mark.parametrize(
    "cause", ["database is locked", "disk I/O error", "database or disk is full"]
)
def test_a_database_error_is_one_line_without_the_statement(cause: str) -> None:
    from mlflow.exceptions import MlflowException

    statement = "[SQL: INSERT INTO metrics (key) VALUES (?)]\n(e3q8)"
    error = MlflowException(f"(sqlite3.OperationalError) {cause}\n{statement}")
    line = errors.one_line(error)
    assert line.startswith(f"the MLflow database refused ({cause}); `make doctor` shows")
    assert "INSERT" not in line and "\n" not in line


def test_a_full_disk_names_the_file() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "models/ann/model.safetensors")
    line = errors.one_line(error)
    assert line.startswith("no space left while writing models/ann/model.safetensors")
    assert line.endswith("then run the same command again")


def test_an_error_without_a_known_cause_says_its_type_and_how_to_see_more() -> None:
    line = errors.one_line(KeyError("logits"))
    assert line == "KeyError: 'logits' (SEXTANT_DEBUG=1 shows the traceback)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("get https://user:secret@host/a failed", "get https://host/a failed"),
        ("(https://host/a?token=secret)", "(https://host/a)"),
        ("no URL, a@b?c=d", "no URL, a@b?c=d"),
    ],
)
def test_secrets_of_urls_are_removed(text: str, expected: str) -> None:
    assert errors.redact(text) == expected


def test_the_reason_is_the_innermost_cause() -> None:
    try:
        try:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        except OSError as refused:
            raise RuntimeError("max retries exceeded") from refused
    except RuntimeError as error:
        assert errors.reason(error) == "Connection refused"


def test_an_exception_without_a_message_is_described_by_its_type() -> None:
    assert errors.describe(StopIteration()) == "StopIteration"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SextantError("broken"), 1),
        (UsageError("broken"), 2),
        (DataError("broken"), 12),
        (ValueError("broken"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_error_has_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        errors.run(raising(error))
    assert ended.value.code == code
    if isinstance(error, Exception):
        assert capsys.readouterr().err.count("\n") == 1


def raising(error: BaseException) -> Callable[[list[str]], int | None]:
    def main(argv: list[str]) -> int | None:
        assert argv == sys.argv[1:]
        raise error

    return main


@pytest.mark.parametrize(
    ("stage", "error", "hint"),
    [
        ("", DataError("bad"), ""),
        ("train@ann", UsageError("bad"), "; `dvc checkout` restores"),
        ("pull@churn", DataError("bad"), "; `dvc checkout` restores"),
        ("validate@churn", DataError("bad"), "; `git checkout dvc.lock && dvc checkout` restores"),
    ],
)
def test_a_stage_that_fails_says_how_to_restore_its_outputs(
    stage: str, error: SextantError, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", stage)
    assert errors.restore_hint(error).startswith(hint)
    assert bool(errors.restore_hint(error)) == bool(hint)
