"""An interrupted training resumes to the same weights: signals, kills, and torn checkpoints

    python promises/resume.py [n=6] [seed=1] [model=som]

Each trial trains one model on its twin, by hand, ends it at a random moment, and trains again: the
weights must be those of an undisturbed training. In turn it ends by SIGINT, SIGTERM or SIGKILL, or
the newest checkpoint is cut at a random byte, as by a loss of power. The net is that of `smoke`,
with more epochs, so that a training takes seconds and yet writes checkpoints.
"""

import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import _trials
import yaml
from _clones import ROOT

from sextant import files
from sextant.errors import SextantError, run

ENDS = ("SIGINT", "SIGTERM", "SIGKILL", "torn checkpoint")
LONGER = 4  # times the epochs of `smoke`
LONG = ("cnn",)  # whose epochs of `smoke` take long enough


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, trials=len(_trials.models()))
    prepared: dict[str, tuple[Path, str, float]] = {}
    with tempfile.TemporaryDirectory() as home:

        def trial(model: str, draws: random.Random, number: int) -> list[str]:
            if model not in prepared:
                prepared[model] = reference(Path(home) / model, model)
            clone, expected, seconds = prepared[model]
            end = ENDS[(number // len(_trials.models()) + number) % len(ENDS)]
            return interrupted(clone, model, draws, seconds, end, expected)

        return _trials.trials("resume", chosen, trial)


def reference(folder: Path, model: str) -> tuple[Path, str, float]:
    """A clone with prepared data, the digest of an undisturbed training, and its seconds."""
    clone = _trials.clone(folder, model)
    _trials.run(clone, "make", "prepare")
    started = time.monotonic()
    digest = trained(clone, model)
    return clone, digest, time.monotonic() - started


def command(model: str) -> list[str]:
    conf = yaml.safe_load((ROOT / f"conf/model/{model}.yaml").read_text(encoding="utf-8"))
    epochs = conf["budgets"]["smoke"]["schedule"]["max_epochs"]
    if model not in LONG:
        epochs *= LONGER
    options = [f"model.schedule.max_epochs={epochs}", f"model.schedule.patience={epochs}"]
    return ["python", "-m", "sextant", "train", f"model={model}", *options]


def trained(clone: Path, model: str) -> str:
    """Train to the end; return the digest of the model, which is removed."""
    _trials.run(clone, *command(model))
    folder = clone / ".scratch" / model / "model"
    digest = files.folder_digest(folder)
    shutil.rmtree(folder)
    return digest


def interrupted(
    clone: Path, model: str, draws: random.Random, seconds: float, end: str, expected: str
) -> list[str]:
    """What is wrong after an interruption and a second training."""
    moment = draws.uniform(0, seconds)
    place = f"{end} after {moment:.2f} s"
    process = _trials.start(clone, command(model))
    try:
        process.wait(timeout=moment)
        place += ", when it had ended"
    except subprocess.TimeoutExpired:
        process.send_signal(getattr(signal, end, signal.SIGKILL))
    process.wait()
    _trials.kill_all(clone)  # a kill of the command that was forked ends the fork a moment later
    shutil.rmtree(clone / ".scratch" / model / "model", ignore_errors=True)
    checkpoints = sorted(clone.glob(f".checkpoints/{model}/*/*.ckpt"))
    place += f", {len(checkpoints)} checkpoints"
    if end == "torn checkpoint" and checkpoints:
        with checkpoints[-1].open("r+b") as stream:
            stream.truncate(draws.randrange(checkpoints[-1].stat().st_size))
    try:
        digest = trained(clone, model)
    except SextantError as error:
        return [f"{place}: {error}"]
    return [] if digest == expected else [f"{place}: other weights"]


if __name__ == "__main__":
    run(main)
