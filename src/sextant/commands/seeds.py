"""Train a model from several seeds, to see how much of its score is chance.

    sextant seeds model=ann seeds=5 [overrides]

Each seed is a training by hand, evaluated on the test part: models/ and the registry stay as they
are. In MLflow the trainings are children of one run with mean and deviation. The leaderboard shows
them as long as conf and data are those of the model that it lists.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import config, files, paths
from ..errors import SextantError, UsageError
from ..tracking import seeds as runs
from ..tracking import store
from ..tracking.runs import PARENT

DEFAULT = 5
MOST = 100


def seeds_of(first: int, text: str) -> list[int]:
    """The seeds to train from: as many as `text` says, from the one of params.yaml on."""
    if not text.isdecimal() or not 2 <= int(text) <= MOST:
        raise UsageError(f"SEEDS={text}: expected how many seeds to train from, 2 to {MOST}")
    return list(range(first, first + int(text)))


def conf_digest(conf: config.ModelConf) -> str:
    """What makes trainings comparable: the whole conf of a model but its seed and its gate."""
    content = conf.model_dump(exclude={"seed", "gate"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def record_path(model: str) -> Path:
    """Where the scores by seed are kept, for the leaderboard."""
    return paths.SCRATCH / model / "seeds.json"


def train_seeds(model: str, seeds: Sequence[int], overrides: Sequence[str]) -> str:
    """Train and evaluate from each seed; return a table of the test metrics.

    Raises SextantError if one of the trainings fails; those that ended are kept in MLflow.
    """
    conf = config.model(model, list(overrides))
    _sextant("repro", f"prepare@{conf.dataset}")
    profile: dict[str, Any] = files.read_json(paths.prepared(conf.dataset) / "profile.json")
    mlflow = store.client()
    parent = runs.open_parent(mlflow, conf, profile, seeds)
    folder = paths.SCRATCH / model
    by_seed: dict[int, Mapping[str, float]] = {}
    try:
        for seed in seeds:
            _sextant("train", f"model={model}", f"seed={seed}", *overrides, parent=parent)
            _sextant("evaluate", f"model={model}")
            metrics = files.read_json(folder / "metrics.json")
            by_seed[seed] = metrics["test"]
            runs.log_child(mlflow, parent, seed, metrics, folder)
    except BaseException:  # also Ctrl-C
        mlflow.set_terminated(parent, "FAILED")
        raise
    runs.close_parent(mlflow, parent, by_seed)
    record = {
        "conf": conf_digest(conf),
        "data": profile["digest"],
        "test": {str(seed): dict(scores) for seed, scores in by_seed.items()},
    }
    files.write_json(record_path(model), record)
    return table(model, by_seed)


def table(model: str, by_seed: Mapping[int, Mapping[str, float]]) -> str:
    """Each test metric: mean, standard deviation, lowest and highest over the seeds."""
    lines = [f"{model}, {len(by_seed)} seeds from {min(by_seed)} on, test part:"]
    scores = list(by_seed.values())
    for name, (mean, deviation) in runs.spread(scores).items():
        values = [score[name] for score in scores]
        low, high = min(values), max(values)
        lines.append(f"  {name:<20} {mean:.4f} ± {deviation:.4f} ({low:.4f} to {high:.4f})")
    return "\n".join(lines)


def known_spread(model: str, metric: str) -> str:
    """A line on a metric over the seeds that were tried.

    Empty if none were, or with another conf or other data than those of today.
    """
    path = record_path(model)
    if not path.is_file():
        return ""
    record = files.read_json(path)
    conf = config.model(model)
    profile = paths.prepared(conf.dataset) / "profile.json"
    is_current = record["conf"] == conf_digest(conf) and (
        profile.is_file() and record["data"] == files.read_json(profile)["digest"]
    )
    scores = list(record["test"].values())
    if not is_current or metric not in scores[0]:
        return ""
    mean, deviation = runs.spread(scores)[metric]
    return f"{model} over {len(scores)} seeds: {metric} {mean:.4f} ± {deviation:.4f}"


def _sextant(*arguments: str, parent: str = "") -> None:
    environment = dict(os.environ)
    if parent:
        environment[PARENT] = parent
    command = [sys.executable, "-m", "sextant", *arguments]
    code = subprocess.run(command, env=environment).returncode
    if code:
        verb = " ".join(arguments)
        raise SextantError(f"`sextant {verb}` ended with {code}, see the lines above")


def main(argv: list[str]) -> None:
    """`sextant seeds model=<name> [seeds=5] [overrides]`."""
    options, overrides = config.named_options(argv, "model", "seeds")
    if "model" not in options:
        raise UsageError("expected: make train MODEL=<model> SEEDS=5")
    fixed = [override for override in overrides if override.startswith("seed=")]
    if fixed:
        raise UsageError(f"`{fixed[0]}`: the seeds begin with `seed` of {paths.PARAMS}")
    model, _ = config.named([f"model={options['model']}"], "model")
    seeds = seeds_of(config.params().seed, options.get("seeds") or str(DEFAULT))
    print(train_seeds(model, seeds, overrides))
