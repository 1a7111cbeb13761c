"""An interrupted pipeline completes to the same bytes: `kill -9` at a random moment, then again

    python promises/kill.py [n=6] [seed=1] [model=som]

Each trial runs `make repro` of one model at `smoke` in a fresh clone, with one job or two, kills
its process group or all processes of the clone at a random moment, and runs it again: no process
may go on by itself, the outputs and dvc.lock must have the bytes of an undisturbed run, and no run,
version, lock or temporary file may be left over.
"""

import random
import shutil
import tempfile
import time
from pathlib import Path

import _trials

from sextant.errors import SextantError, run


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, trials=len(_trials.models()))
    undisturbed: dict[str, tuple[dict[str, str], float]] = {}
    with tempfile.TemporaryDirectory() as home:

        def trial(model: str, draws: random.Random, number: int) -> list[str]:
            if model not in undisturbed:
                undisturbed[model] = reference(Path(home) / f"{model}-undisturbed", model)
            expected, seconds = undisturbed[model]
            folder = Path(home) / str(number)
            faults = killed(folder, draws, seconds, model, expected)
            shutil.rmtree(folder, ignore_errors=True)
            return faults

        return _trials.trials("kill", chosen, trial)


def reference(folder: Path, model: str) -> tuple[dict[str, str], float]:
    """The digests of an undisturbed run, and its seconds."""
    clone = _trials.clone(folder, model)
    started = time.monotonic()
    _trials.run(clone, "make", "repro", "JOBS=1")
    seconds = time.monotonic() - started
    faults = _trials.differences(clone, _trials.digests(clone))
    if faults:
        raise SextantError(f"an undisturbed run of {model} has: {'; '.join(faults)}")
    return _trials.digests(clone), seconds


def killed(
    folder: Path, draws: random.Random, longest: float, model: str, expected: dict[str, str]
) -> list[str]:
    """What is wrong after a kill at a random moment and a second run."""
    clone = _trials.clone(folder, model)
    command = ["make", "repro", f"JOBS={draws.choice((1, 2))}"]
    seconds = draws.uniform(0, longest)
    group = draws.random() < 0.5
    further = _trials.OWN_SERVER if draws.random() < 0.25 else {}
    place = f"{'group' if group else 'all'} killed after {seconds:.2f} s of `{' '.join(command)}`"
    faults = _trials.run_and_kill(clone, seconds, group, *command, **further)
    try:
        _trials.run(clone, *command, **further)
        faults += _trials.differences(clone, expected)
    except SextantError as error:
        faults.append(str(error))
    return [f"{place}: {fault}" for fault in faults]


if __name__ == "__main__":
    run(main)
