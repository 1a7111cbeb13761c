"""A run found in MLflow can be made again: its tag `reproduce`, in a fresh clone, equal digest

    python promises/reproduce.py [n=6] [seed=1] [model=som]

Each trial makes a run at `smoke` in a clone, by the pipeline, by `dvc exp run` or by hand, takes
the command from the run's tag and runs it with a shell in another clone that has nothing yet. Every
model of params.yaml is made by the pipeline first, then in the other ways.
"""

import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import _trials
from _clones import link_environment

from sextant import files
from sextant.errors import SextantError, run

SEED = "43"  # another one than that of params.yaml
WAYS = ("pipeline", "experiment", "hand")


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, trials=len(_trials.models()))
    with tempfile.TemporaryDirectory() as home:

        def trial(model: str, draws: random.Random, number: int) -> list[str]:
            way = WAYS[number // len(_trials.models()) % len(WAYS)]
            folder = Path(home) / str(number)
            try:
                return made_again(folder, model, way)
            except SextantError as error:
                return [f"{way}: {error}"]
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        return _trials.trials("reproduce", chosen, trial)


def made_again(folder: Path, model: str, way: str) -> list[str]:
    """What is wrong with a run that is made in one clone and again in another."""
    clone = _trials.clone(folder / "first", model)
    _trials.run(clone, "make", "train" if way == "pipeline" else "prepare")
    if way == "experiment":
        _trials.run(clone, "dvc", "exp", "run", "-S", f"seed={SEED}", f"train@{model}")
    if way == "hand":
        command = ["python", "-m", "sextant", "train", f"model={model}", f"seed={SEED}"]
        _trials.run(clone, *command)
    tags = _trials.tags_of_runs(clone)[-1]

    again = folder / "again" / "sextant"
    subprocess.run(["git", "clone", "-q", clone, again], check=True)
    link_environment(again)
    _trials.run(again, "sh", "-c", tags["reproduce"])
    place = again / (f".scratch/{model}/model" if way == "hand" else f"models/{model}")
    if files.folder_digest(place) != tags["digest"]:
        return [f"{way}: `{tags['reproduce']}` gives another model"]
    return []


if __name__ == "__main__":
    run(main)
