"""A training that was killed goes on to the same bytes, and two of the same do not run at once.

In a checkout that was copied to another folder, and whose registry knows nothing of that yet.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Clone

from sextant.files import folder_digest, sha256

EPOCHS = 31
SEEN = 3  # checkpoints that are waited for before the kill


def outputs(clone: Clone) -> tuple[str, str]:
    return folder_digest(clone.path / "models/ann"), sha256(clone.path / "reports/curves/ann.csv")


def wait_for_checkpoints(place: Path, number: int, pipeline: subprocess.Popen[str]) -> Path:
    """The checkpoint folder below `place`, once `last.ckpt` was seen in so many states."""
    seen: set[int] = set()
    while len(seen) < number:
        assert pipeline.poll() is None, "the training ended before it could be killed"
        for last in place.glob("*/last.ckpt"):
            seen.add(last.stat().st_mtime_ns)
        time.sleep(0.01)
    return next(place.glob("*/last.ckpt")).parent


@pytest.mark.slow(minutes=1)
def test_a_killed_training_goes_on_to_the_same_bytes(
    chain: Clone, tmp_path: Path, process: Callable[..., subprocess.Popen[str]]
) -> None:
    road = Clone(Path(shutil.copytree(chain.path, tmp_path / "clone", symlinks=True)))
    road.set(
        "conf/model/ann.yaml", budgets__smoke__schedule={"max_epochs": EPOCHS, "patience": EPOCHS}
    )
    earlier = road.runs("sextant-ann-twin")
    pipeline = process(
        "dvc", "repro", "train@ann", cwd=road.path, env=road.env, stdout=subprocess.DEVNULL
    )
    folder = wait_for_checkpoints(road.path / ".checkpoints/ann", SEEN, pipeline)

    # A second training of the same is refused and names the first one, which is halted so that it cannot end meanwhile.
    os.killpg(pipeline.pid, signal.SIGSTOP)
    holder = int((folder / "lock").read_text())
    assert os.getpgid(holder) == pipeline.pid
    refused = road.stage("train", "model=ann", code=1)
    assert f"process {holder} is training this already" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (road.path / ".scratch/ann").exists()

    os.killpg(pipeline.pid, signal.SIGKILL)
    pipeline.wait()
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the last of the group has ended

    said = road.run("dvc", "repro", "train@ann").stderr
    (first,) = (line for line in said.splitlines() if line.startswith("train ann: goes on after "))
    assert SEEN <= int(first.split()[5]) < EPOCHS, first
    resumed = outputs(road)
    assert (road.path / "reports/curves/ann.csv").read_text().count("\n") == 1 + EPOCHS
    assert [path for path in (road.path / ".checkpoints").rglob("*") if path.is_file()] == []

    # One run for both halves, with every epoch.
    (run,) = road.runs("sextant-ann-twin")[len(earlier) :]
    assert (run["status"], run["scratch"], run["schedule.max_epochs"]) == (
        "FINISHED",
        "false",
        str(EPOCHS),
    )
    steps = road.ask(
        "SELECT DISTINCT step FROM metrics WHERE run_uuid = ? AND key = 'val/loss'", run["id"]
    )
    assert sorted(step for (step,) in steps) == list(range(1, EPOCHS + 1))

    assert (road.path / "mlruns/sextant-ann-twin" / run["id"] / "artifacts/config.yaml").is_file()
    assert not list(chain.path.glob(f"mlruns/*/{run['id']}"))

    # Without an interruption the same comes out.
    lock = (road.path / "dvc.lock").read_bytes()
    assert road.repro("--force", "--single-item", "train@ann") == ["train@ann"]
    assert outputs(road) == resumed
    assert (road.path / "dvc.lock").read_bytes() == lock
    assert len(road.runs("sextant-ann-twin")) == len(earlier) + 2
