"""Writers side by side: gates that judge one model at once on one database make one champion

    python promises/writers.py [n=3] [seed=1] [model=som]

Each trial takes a clone in which one model is trained, removes its registry, and starts six
`sextant register --write` within a random fraction of a second: all must end well and agree, and
there must be one version of the model, its champion.
"""

import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import _trials

from sextant.errors import run

AT_ONCE = 6
REGISTER = ("python", "-m", "sextant", "register", "--write")


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, trials=3)
    clones: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as home:

        def trial(model: str, draws: random.Random, number: int) -> list[str]:
            if model not in clones:
                clones[model] = _trials.clone(Path(home) / model, model)
                _trials.run(clones[model], "make", "repro")
            return registered_at_once(clones[model], draws)

        return _trials.trials("writers", chosen, trial)


def registered_at_once(clone: Path, draws: random.Random) -> list[str]:
    """What is wrong after several gates at once on an empty registry."""
    for path in clone.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(clone / "mlruns", ignore_errors=True)
    processes = []
    for _ in range(AT_ONCE):
        processes.append(_trials.start(clone, REGISTER, subprocess.PIPE))
        time.sleep(draws.uniform(0, 0.5))
    faults = []
    lines = set()
    for process in processes:
        output, _ = process.communicate()
        lines.add((output.splitlines() or [""])[-1])
        if process.returncode:
            faults.append(f"a gate ended with code {process.returncode}: {output[-300:]}")
    if len(lines) > 1:
        faults.append(f"the gates disagree: {' / '.join(sorted(lines))}")
    return faults + _trials.registry_faults(clone, runs=None)


if __name__ == "__main__":
    run(main)
