"""Each fault is made for real, and the doctor must name it with its repair."""

import fcntl
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cases
import pytest

from sextant import files
from sextant.commands import doctor
from sextant.errors import UsageError
from sextant.tracking import store


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@contextmanager
def running_process(*command: str, **environment: str) -> Iterator[int]:
    """The number of a process that runs as long as the block and has printed a line."""
    env = {**os.environ, **environment}
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


WAIT = "import sys; print('started', flush=True); sys.stdin.read()"


def ended_process() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


# --- the report ---------------------------------------------------------------------------------


def test_a_finding_is_one_line_with_its_repair() -> None:
    line = doctor.Finding("broken", "the lamp is out", "replace it").line("lamp")
    assert line == "broken   lamp         the lamp is out; replace it"


def test_a_check_that_fails_is_a_finding_and_the_others_still_run() -> None:
    def faulty() -> doctor.Finding:
        raise ValueError("two\nlines")

    findings = dict(doctor.examine([faulty, doctor.disk]))
    assert findings["faulty"].state == "broken"
    assert findings["faulty"].text.startswith("this check failed: ValueError: two lines")
    assert "disk" in findings


@pytest.mark.parametrize("state, code", [("ok", 0), ("warning", 0), ("broken", 1)])
def test_the_exit_code_is_1_only_where_something_is_broken(
    state: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = doctor.Finding(state, "as expected")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "CHECKS", [doctor.python, lambda: finding])
    assert doctor.main([]) == code
    assert re.findall(r"^\w+", capsys.readouterr().out, re.MULTILINE)[-1] == state


def test_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="`--fix` is not understood"):
        doctor.main(["--fix"])


# --- the environment ----------------------------------------------------------------------------


def project(folder: Path, dependency: str, pin: str) -> None:
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "x"\ndependencies = ["{dependency}>=1"]\n'
    )
    tools = "packaging==0.1\n    # for audit\n"  # which `make audit` installs
    (folder / "requirements.lock").write_text(f"{pin}\nnever-installed==1\n{tools}")


def test_a_missing_package_is_broken(tmp_path: Path) -> None:
    project(tmp_path, "no_such.package", "pytest==1")
    finding = doctor.packages(tmp_path)
    assert (finding.state, finding.text) == ("broken", "not installed: no-such-package")


def test_another_version_is_a_warning_with_both_versions(tmp_path: Path) -> None:
    project(tmp_path, "pytest", "pytest==1.2.3")
    finding = doctor.packages(tmp_path)
    assert finding.state == "warning"
    assert finding.text == f"1 differ from requirements.lock: pytest {pytest.__version__} (1.2.3)"
    assert finding.repair.endswith("make setup")


def test_a_local_build_tag_does_not_make_another_version(tmp_path: Path) -> None:
    import torch

    project(tmp_path, "torch", f"torch=={torch.__version__.partition('+')[0]}")
    assert doctor.packages(tmp_path).state == "ok"


def test_the_files_of_another_user_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dvc/site").mkdir(parents=True, mode=0o700)
    cache = tmp_path / ".dvc/site/cache"
    (tmp_path / ".dvc/config").write_text(f"[core]\n    site_cache_dir = {cache}\n")
    assert doctor.site_cache(tmp_path).state == "ok"
    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    finding = doctor.site_cache(tmp_path)
    assert finding.state == "warning" and finding.repair == "work in a clone of your own"
    owner = doctor.private_cache.other_owner(tmp_path)
    assert owner and finding.text.startswith(f"{cache} belongs to {owner}, who can put files")


@pytest.mark.parametrize(
    "free, state", [(0, "broken"), (doctor.GIB, "warning"), (5 * doctor.GIB, "ok")]
)
def test_disk(free: int, state: str) -> None:
    assert doctor.disk(free).state == state


def test_the_accelerator_is_named() -> None:
    assert re.search(r"\(torch 2\.", doctor.accelerator().text)


# --- git and DVC --------------------------------------------------------------------------------


def test_git_without_repository_without_commit_and_with_one(workspace: Path) -> None:
    assert doctor.git().state == "broken"
    subprocess.run(["git", "init", "-q"], check=True)
    text = "no commit yet, so that a run cannot record its commit"
    assert doctor.git() == doctor.Finding("warning", text, "git add -A; git commit")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commit = ["git", *author, "commit", "-q", "--allow-empty", "-m", "first"]
    subprocess.run(commit, check=True)
    assert re.fullmatch(r"at commit [0-9a-f]{7,}", doctor.git().text)


def test_dvc_without_its_files(workspace: Path) -> None:
    assert doctor.dvc().repair == "run from the root of the repository"
    (workspace / "dvc.yaml").touch()
    assert ".dvc/config is missing" in doctor.dvc().text
    (workspace / ".dvc").mkdir()
    (workspace / ".dvc/config").touch()
    assert doctor.dvc().state == "ok"


def remote(folder: Path, url: str) -> None:
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc/config").write_text(
        f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {url}\n"
    )


def test_a_remote_is_optional_and_must_exist_if_it_is_set(tmp_path: Path) -> None:
    assert doctor.remote(tmp_path).text.startswith("none:")
    assert doctor.default_remote(tmp_path) is None
    remote(tmp_path, "../store")
    assert doctor.remote(tmp_path).state == "warning"
    (tmp_path / "store").mkdir()
    assert doctor.remote(tmp_path) == doctor.ok("../store")


@pytest.mark.slow  # DVC is imported
def test_the_doctor_reads_what_dvc_writes(workspace: Path) -> None:
    (workspace / ".dvc").mkdir()
    (workspace / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    add = ["remote", "add", "-q", "--default", "storage", "s3://bucket/path"]
    subprocess.run([sys.executable, "-m", "dvc", *add], check=True)
    assert doctor.default_remote(workspace) == "s3://bucket/path"


def test_a_remote_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.SCHEMES, "s3", ("no_such_module", "no_such_module"))
    remote(tmp_path, "s3://bucket/path")
    text = "s3://bucket/path needs no-such-module"
    assert doctor.remote(tmp_path) == doctor.Finding("broken", text, "make setup")


def rwlock(folder: Path, text: str) -> None:
    (folder / ".dvc/tmp").mkdir(parents=True, exist_ok=True)
    (folder / ".dvc/tmp/rwlock").write_text(text)


def held_by(pid: int) -> str:
    holder = {"pid": pid, "cmd": "/venv/bin/dvc repro"}
    return json.dumps({"write": {"/x/models/ann": holder}, "read": {"/x/data": [holder]}})


def test_no_lock_and_an_empty_lock_are_ok(tmp_path: Path) -> None:
    assert doctor.locks(tmp_path).text == "no lock is held"
    rwlock(tmp_path, '{"write": {}, "read": {}}')
    assert doctor.locks(tmp_path).text == "no lock is held"


def test_a_lock_of_a_process_that_has_ended(tmp_path: Path) -> None:
    pid = ended_process()
    rwlock(tmp_path, held_by(pid))
    finding = doctor.locks(tmp_path)
    assert finding.state == "warning" and f"process {pid}, which has ended" in finding.text


def test_a_lock_whose_process_number_was_reused(tmp_path: Path) -> None:
    with running_process(sys.executable, "-c", WAIT) as pid:
        rwlock(tmp_path, held_by(pid))
        finding = doctor.locks(tmp_path)
    assert finding.state == "broken"
    assert f"names process {pid}, which is another program now" in finding.text
    assert finding.repair == f"rm {tmp_path}/.dvc/tmp/rwlock"


@pytest.mark.parametrize(
    "command",
    ["dvc repro", "-m sextant repro", "-m sextant repro train@ann", "/x/bin/sextant repro"],
)
def test_a_lock_of_a_dvc_that_runs(tmp_path: Path, command: str) -> None:
    with running_process(sys.executable, "-c", WAIT, *command.split()) as pid:
        rwlock(tmp_path, held_by(pid))
        finding = doctor.locks(tmp_path)
    assert finding.state == "ok" and f"DVC is running here (process {pid})" in finding.text


@pytest.mark.parametrize("text", ["{", "[]", '{"write": {"x": {"pid": "many"}}}'])
def test_a_lock_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    rwlock(tmp_path, text)
    assert doctor.locks(tmp_path).state == "broken"


# --- conf, data, training -----------------------------------------------------------------------


def test_a_fault_in_a_conf_is_broken_and_names_the_place(one_model: Path) -> None:
    model = one_model / "conf/model/ann.yaml"
    assert doctor.conf().state == "ok"
    edit(model, "optimizer:", "optimiser:")
    finding = doctor.conf()
    assert finding.state == "broken"
    assert "optimiser" in finding.text and model.name in finding.text


def test_the_mirror_is_needed_only_if_a_data_set_has_it_as_its_source(
    one_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.mirror().text.startswith("not needed")
    edit(one_model / "params.yaml", "source: embedded", "source: mirror")
    finding = doctor.mirror()
    assert finding.state == "broken" and "SEXTANT_MIRROR is not set" in finding.text
    monkeypatch.setenv("SEXTANT_MIRROR", str(one_model / "nowhere"))
    finding = doctor.mirror()
    assert finding.state == "broken" and "that folder does not exist" in finding.text
    monkeypatch.setenv("SEXTANT_MIRROR", str(one_model))
    assert doctor.mirror().state == "ok"


HOLD = f"import fcntl, sys; lock = open(sys.argv[1]); fcntl.flock(lock, fcntl.LOCK_EX); {WAIT}"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / ".checkpoints/ann/0f1e"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    return folder


def test_no_training_and_an_interrupted_one(tmp_path: Path, checkpoint: Path) -> None:
    finding = doctor.training(tmp_path)
    assert finding.state == "warning" and finding.text.startswith("interrupted: ann")
    assert "`make train` resumes" in finding.repair
    shutil.rmtree(checkpoint)
    assert doctor.training(tmp_path).text == "none is running, none was interrupted"


def test_a_training_by_hand_is_ok(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with running_process(sys.executable, "-c", HOLD, str(checkpoint / "lock")) as pid:
        (checkpoint / "lock").write_text(str(pid))
        assert doctor.training(tmp_path) == doctor.ok(f"ann is trained by process {pid}")


def test_a_training_whose_pipeline_was_killed(tmp_path: Path, checkpoint: Path) -> None:
    with running_process(
        sys.executable, "-c", HOLD, str(checkpoint / "lock"), DVC_STAGE="train@ann"
    ) as pid:
        (checkpoint / "lock").write_text(str(pid))
        finding = doctor.training(tmp_path)
    assert finding.state == "warning"
    assert finding.text == f"ann is trained by process {pid}, whose pipeline has ended"
    assert finding.repair == f"wait for its end, or: kill {pid}"


def test_a_search_is_kept_interrupted_or_running(tmp_path: Path) -> None:
    assert doctor.tuning(tmp_path) == doctor.ok("no search is kept")
    folder = tmp_path / ".tuning/ann/0f1e"
    (folder / "checkpoints/0").mkdir(parents=True)
    (folder / "journal.log").write_bytes(bytes(3 * 2**20))
    finding = doctor.tuning(tmp_path)
    assert (finding.state, finding.text) == ("ok", "1 search of ann (3 MiB in .tuning)")
    assert finding.repair.startswith("`rm -r .tuning` discards the trials")
    (folder / "checkpoints/0/tmp3").mkdir()
    (tmp_path / ".tuning/rnn/77aa").mkdir(parents=True)
    finding = doctor.tuning(tmp_path)
    assert finding.state == "warning"
    assert finding.text == "2 searches of ann, rnn (3 MiB in .tuning), interrupted: ann"
    assert finding.repair.startswith("`make tune MODEL=ann` goes on; `rm -r .tuning`")
    with files.locked(folder / "lock", "tuning"):
        assert doctor.tuning(tmp_path) == doctor.ok(f"ann is tuned by process {os.getpid()}")


def test_a_lock_counts_only_while_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not doctor._is_locked(path)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert doctor._is_locked(path)
    assert not doctor._is_locked(path)


# --- the registry -------------------------------------------------------------------------------


def test_no_database_is_created(workspace: Path) -> None:
    assert doctor.registry().text.startswith("no MLflow database yet")
    assert not list(workspace.glob("mlflow.db*"))


@cases.each(
    "uri, path",
    [
        ("/a b/model", Path("/a b/model")),
        ("file:///a%20b/model", Path("/a b/model")),
        ("mlflow-artifacts:/1/models/m-1", None),
        ("s3://bucket/model", None),
    ],
)
def test_only_a_path_or_a_file_uri_is_local(uri: str, path: Path | None) -> None:
    assert doctor.local(uri) == path


@pytest.mark.slow
def test_a_registry_whose_files_are_lost_moved_or_locked(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = workspace / "before"
    checkout.mkdir()
    monkeypatch.chdir(checkout)
    mlflow = store.client()
    artifact = checkout / "mlruns" / "sextant-ann" / "model"
    artifact.mkdir(parents=True)
    mlflow.create_experiment("sextant-ann", artifact_location=artifact.parent.as_uri())
    mlflow.create_registered_model("sextant-ann")
    mlflow.create_model_version("sextant-ann", artifact.as_uri())
    assert doctor.registry().text.startswith("1 registered version(s)")

    artifact.rename(artifact.with_name("elsewhere"))
    finding = doctor.registry()
    assert finding.state == "broken"
    assert "the files of sextant-ann version 1 are not where" in finding.text
    assert "make register" in finding.repair

    monkeypatch.setattr(store, "PATIENCE", 0.1)
    with sqlite3.connect(checkout / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "cannot be written to" in doctor.registry().text
        other.rollback()

    monkeypatch.chdir(checkout.rename(workspace / "after"))
    finding = doctor.registry()
    assert finding.state == "broken"
    assert str(checkout) in finding.text and "make register" in finding.repair


@pytest.mark.slow
def test_a_server_that_does_not_answer(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    finding = doctor.registry()
    assert finding.state == "broken" and "http://127.0.0.1:9 does not answer" in finding.text
    assert "MLFLOW_TRACKING_URI" in finding.repair


def test_every_check_is_listed_once() -> None:
    names = {function.__name__ for function in doctor.CHECKS}
    assert len(names) == len(doctor.CHECKS) == 14
