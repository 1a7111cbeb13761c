"""Another processor gives nearly the same, and says so; `exact: true` gives the same bytes

    python promises/processor.py [n=3] [seed=1] [model=som]

The other processor is this one with its instruction sets capped, since the libraries choose their
code by them. Each trial runs one model at `smoke` in a clone and commits the outputs, then again in
a clone of that one under the caps: the metrics must nearly agree, and where the model's bytes
differ, the run, the receipt and a line at the end must name both processors. Then it does the same
with `exact: true`, where every byte must be equal.
"""

import json
import math
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import _trials
from _clones import change, link_environment

from sextant.errors import SextantError, run

CAPS = ("ATEN_CPU_CAPABILITY=avx2", "ONEDNN_MAX_CPU_ISA=AVX2", "MKL_CBWR=AVX2")
NEARLY = 0.02  # of a metric, relative: at `smoke` a model is half trained and tested on few rows
SENTENCE = "computed on another processor than the commit's"


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, trials=3)
    with tempfile.TemporaryDirectory() as home:

        def trial(model: str, draws: random.Random, number: int) -> list[str]:
            folder = Path(home) / str(number)
            try:
                return compared(folder, model)
            except SextantError as error:
                return [str(error)]
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        return _trials.trials("processor", chosen, trial)


def compared(folder: Path, model: str) -> list[str]:
    """What is wrong with a model on two processors, as it is and with `exact: true`."""
    clone = _trials.clone(folder / "as-it-is", model)
    _trials.run(clone, "make", "repro", "JOBS=1")
    other, output = on_the_other_processor(clone, folder / "capped")
    faults = nearly_equal(clone, other, model)
    if differing(clone, other, "models"):
        faults += unexplained(other, model, output)
    elif SENTENCE in output:
        faults.append("equal bytes are explained by a processor")

    exact = _trials.clone(folder / "exact", model)
    trainer = exact / "conf/trainer.yaml"
    change(trainer, "accelerator: auto", "accelerator: cpu")
    change(trainer, "exact: false", "exact: true")
    commit(exact, "exact")
    _trials.run(exact, "make", "repro", "JOBS=1")
    other, output = on_the_other_processor(exact, folder / "exact-capped")
    faults += [f"exact: {path} differs" for path in differing(exact, other)]
    if SENTENCE in output:
        faults.append("exact: a difference is explained")
    return faults


def commit(clone: Path, message: str) -> None:
    git = ["git", "-C", str(clone)]
    subprocess.run([*git, "add", "--all"], check=True)
    author = os.environ | _trials.LOGIN
    subprocess.run([*git, "commit", "-q", "-m", message], check=True, env=author)


def on_the_other_processor(clone: Path, folder: Path) -> tuple[Path, str]:
    """Commit the outputs of a clone, and run a clone of it under the caps; return it
    and what it prints.
    """
    commit(clone, "outputs")
    path = folder / "sextant"
    subprocess.run(["git", "clone", "-q", clone, path], check=True)
    link_environment(path)
    return path, _trials.run(path, "env", *CAPS, "make", "repro", "JOBS=1")


def differing(clone: Path, other: Path, top: str = "") -> list[str]:
    """The files below `top` that differ between two clones."""
    ours, theirs = _trials.digests(clone), _trials.digests(other)
    paths = [path for path in sorted(ours.keys() | theirs.keys()) if path.startswith(top)]
    return [path for path in paths if ours.get(path) != theirs.get(path)]


def nearly_equal(clone: Path, other: Path, model: str) -> list[str]:
    """The metrics of the test part that differ by more than NEARLY."""
    faults = []
    file = f"reports/metrics/{model}.json"
    ours = json.loads((clone / file).read_text())
    theirs = json.loads((other / file).read_text())
    for name, value in ours["test"].items():
        if not math.isclose(value, theirs["test"][name], rel_tol=NEARLY, abs_tol=NEARLY):
            faults.append(f"{name} is {value} and {theirs['test'][name]}")
    return faults


def unexplained(clone: Path, model: str, output: str) -> list[str]:
    """Where a clone that computed other bytes does not name its processor."""
    faults = []
    if f"{model}: {SENTENCE}" not in output:
        faults.append("no line says why the models differ")
    receipt = json.loads((clone / f"reports/registry/{model}.json").read_text())
    if CAPS[0] not in receipt.get("instruction_set", ""):
        faults.append("the receipt does not name the instruction set")
    tags = _trials.tags_of_runs(clone)
    for tag in ("instruction_set", "reproduce"):
        if not any(CAPS[0] in run_tags.get(tag, "") for run_tags in tags):
            faults.append(f"the tag {tag} does not name the instruction set")
    return faults


if __name__ == "__main__":
    run(main)
