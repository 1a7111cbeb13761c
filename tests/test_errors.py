"""Errors: one line with the repair, nothing secret, and the exit code."""

import errno
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from sextant import errors
from sextant.errors import DataError, SextantError, UsageError

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow  # MLflow is imported
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


def test_a_missing_module_names_the_extra_that_has_it() -> None:
    line = errors.one_line(ModuleNotFoundError("No module named 'boto3'", name="boto3"))
    assert line == (
        "an artifact store on S3 needs boto3: `.venv/bin/pip install -e '.[s3]'` adds it"
    )
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = pyproject["project"]["optional-dependencies"]
    assert {extra for _, extra in errors.EXTRA_OF_MODULE.values()} <= set(extras)


def test_memory_that_does_not_suffice_is_no_fault_of_the_program() -> None:
    line = errors.one_line(MemoryError("Unable to allocate 7 EiB"))
    assert line.startswith("memory does not suffice (Unable to allocate 7 EiB): let the conf ask")
    assert "no size is known" in errors.one_line(MemoryError())


def test_an_error_without_a_known_cause_says_its_type_and_how_to_see_more() -> None:
    line = errors.one_line(KeyError("logits"))
    assert line == "KeyError: 'logits' (SEXTANT_DEBUG=1 shows the traceback)"


@pytest.mark.parametrize("value", ["x" * 40_000, f"`{'a b ' * 9_000}`", f'"{"a b " * 9_000}"'])
def test_a_long_value_in_a_message_loses_its_middle(value: str) -> None:
    line = errors.one_line(DataError(f"a.csv line 3 has {value} in `a`; correct the row"))
    assert line.startswith(f"a.csv line 3 has {value[:99]}")
    assert line.endswith("in `a`; correct the row")
    assert len(line) < errors.LONGEST_VALUE + 60


def test_what_lies_between_two_values_is_no_value() -> None:
    text = f"`kurs` does not beat the baseline's 0.7133; {'raise it, ' * 25}or change `net`, 'x'"
    assert errors.one_line(errors.UsageError(text)) == text


def test_a_message_of_many_values_loses_its_middle() -> None:
    line = errors.one_line(DataError("a.csv has " + "12 " * 40_000 + "; correct the row"))
    assert line.startswith("a.csv has 12 12") and line.endswith("12 ; correct the row")
    assert len(line) == errors.LONGEST + len(" … ")


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


# --- how to restore what a stage deleted --------------------------------------------------------

LOCK = "schema: '2.0'\nstages:\n  pull@churn:\n    cmd: a\n  validate@churn:\n    cmd: b\n"
OF_THE_RUN = "; `dvc checkout` restores the outputs of the last run"
OF_THE_COMMIT = (
    "; `git checkout dvc.lock && dvc checkout` restores data and outputs of the last commit"
)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository whose last commit has LOCK, and whose dvc.lock has a further data set."""
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(LOCK)
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for command in (("init", "-q"), ("add", "dvc.lock"), (*who, "commit", "-qm", "a run")):
        subprocess.run(["git", *command], check=True)
    Path("dvc.lock").write_text(LOCK + LOCK.partition("stages:\n")[2].replace("churn", "loans"))
    return tmp_path


@pytest.mark.parametrize(
    ("stage", "error", "hint"),
    [
        ("", DataError("bad"), ""),
        ("validate@churn", UsageError("bad"), OF_THE_RUN),
        ("pull@churn", DataError("bad"), OF_THE_RUN),
        ("pull@loans", DataError("bad"), OF_THE_RUN),
        ("validate@churn", DataError("bad"), OF_THE_COMMIT),
        # Of these no commit, or not even a run, has anything to restore.
        ("validate@loans", DataError("bad"), ""),
        ("pull@wine", DataError("bad"), ""),
        ("train@ann", UsageError("bad"), ""),
    ],
)
def test_a_stage_that_fails_says_how_to_restore_its_outputs_if_there_are_any(
    stage: str, error: SextantError, hint: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", stage)
    assert errors.restore_hint(error) == hint


@pytest.mark.parametrize("lock", [LOCK, None])
def test_without_a_commit_nothing_is_said_of_one(
    lock: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "validate@churn")
    if lock:
        Path("dvc.lock").write_text(lock)
    assert errors.restore_hint(DataError("bad")) == ""
    monkeypatch.setenv("PATH", "")  # no git
    assert errors.restore_hint(DataError("bad")) == ""
