"""A killed training is resumed and ends with the same bytes; two trainings of a model exclude each
other.

The checkout was copied to another folder, and its registry was not adapted to that yet.
"""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DVC, Clone

from sextant.files import folder_digest, sha256

EPOCHS = 31
EXPERIMENT = "sextant-ann-twin"


def digests(clone: Clone) -> tuple[str, str]:
    """The digests of the model and of its curves."""
    return folder_digest(clone.path / "models/ann"), sha256(clone.path / "reports/curves/ann.csv")


def wait_for_a_checkpoint(folder: Path, training: subprocess.Popen[str]) -> Path:
    """The folder of checkpoints below `folder`, once the first one is written."""
    while not (written := list(folder.glob("*/*.ckpt"))):
        assert training.poll() is None, "the training ended before it could be killed"
        time.sleep(0.01)
    return written[0].parent


def wait_for_the_end_of_dvc(clone: Path) -> None:
    """Return when no process that DVC's lock of files names is alive; it ends after its client."""
    text = (clone / ".dvc/tmp/rwlock").read_text()
    while any(Path("/proc", pid).exists() for pid in re.findall(r'"pid": (\d+)', text)):
        time.sleep(0.01)


@pytest.mark.slow(minutes=1)
def test_a_killed_training_is_resumed_and_ends_with_the_same_bytes(
    pipeline: Clone, tmp_path: Path, process: Callable[..., subprocess.Popen[str]]
) -> None:
    clone = Clone(Path(shutil.copytree(pipeline.path, tmp_path / "clone", symlinks=True)))
    schedule = {"max_epochs": EPOCHS, "patience": EPOCHS}
    clone.set("conf/model/ann.yaml", budgets__smoke__schedule=schedule)
    earlier = len(clone.runs(EXPERIMENT))
    command = (*DVC, "repro", "train@ann")
    training = process(*command, cwd=clone.path, env=clone.env, stdout=subprocess.DEVNULL)
    folder = wait_for_a_checkpoint(clone.path / ".checkpoints/ann", training)

    # A second training of this model stops and names the process of the first one. The first one is
    # paused, so that it cannot end meanwhile.
    holder = int((folder / "lock").read_text())
    os.kill(holder, signal.SIGSTOP)
    refused = clone.stage("train", "model=ann", code=1)
    assert f"process {holder} is training this already" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (clone.path / ".scratch/ann").exists()

    # DVC is killed with the training: by the fork server if both are forked.
    os.killpg(training.pid, signal.SIGKILL)
    training.wait()
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # returns when the training has ended
    wait_for_the_end_of_dvc(clone.path)

    printed = clone.run("dvc", "repro", "train@ann").stderr
    (epochs,) = re.findall(r"^train ann: continues after (\d+) ", printed, re.MULTILINE)
    assert 1 <= int(epochs) < EPOCHS
    resumed = digests(clone)
    assert (clone.path / "reports/curves/ann.csv").read_text().count("\n") == 1 + EPOCHS
    leftovers = [path for path in (clone.path / ".checkpoints").rglob("*") if path.is_file()]
    assert leftovers == []

    # Both halves are one run of MLflow, with every epoch, in the folder of the copy.
    (run,) = clone.runs(EXPERIMENT)[earlier:]
    assert run["status"] == "FINISHED"
    assert run["scratch"] == "false"
    assert run["schedule.max_epochs"] == str(EPOCHS)
    rows = clone.query(
        "SELECT DISTINCT step FROM metrics WHERE run_uuid = ? AND key = 'val/loss'", run["id"]
    )
    assert sorted(step for (step,) in rows) == list(range(1, EPOCHS + 1))
    assert (clone.path / "mlruns" / EXPERIMENT / run["id"] / "artifacts/config.yaml").is_file()
    assert not list(pipeline.path.glob(f"mlruns/*/{run['id']}"))

    # A training without an interruption gives the same bytes.
    lock_file = (clone.path / "dvc.lock").read_bytes()
    assert clone.repro("--force", "--single-item", "train@ann") == ["train@ann"]
    assert digests(clone) == resumed
    assert (clone.path / "dvc.lock").read_bytes() == lock_file
    # It repeats the run exactly, so its own run is deleted.
    assert len(clone.runs(EXPERIMENT)) == earlier + 1
