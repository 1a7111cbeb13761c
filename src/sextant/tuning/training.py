"""Train one conf on the parts train and val, without writing a model."""

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from .. import check, config, files, paths, plugins
from .stopping import Stop

if TYPE_CHECKING:
    from .. import contracts

PARTS = ("train", "val")  # the only ones that a search reads


@dataclass(frozen=True)
class Data:
    """The prepared parts of a data set that a search reads, and prepare's profile of all."""

    folder: Path
    parts: "contracts.Parts"
    profile: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A training on val.

    value: the monitored metric in the epoch that was kept.
    scores: all metrics of the model of that epoch, as its card has them.
    history: the metrics of each look at val.
    """

    value: float
    epoch: int
    scores: Mapping[str, float]
    history: list[dict[str, float]]

    def broken(self, gate: config.Gate) -> dict[str, float]:
        """By guard of a gate how far the scores are beyond its bound; 0 or below: it holds."""
        distances = {}
        for guard in gate.guards:
            name, relation, bound = guard.split()
            beyond = self.scores[name] - float(bound)
            distances[guard] = beyond if relation == "<=" else -beyond
        return distances


def read(dataset: str) -> Data:
    """Read the parts train and val; raises SextantError if they are not prepared."""
    folder = paths.prepared(dataset)
    profile = files.read_json(files.needed(folder / "profile.json"))
    rows = plugins.kind(profile["kind"]).rows
    parts = {part: rows.load(folder / part) for part in PARTS}
    return Data(folder, parts, profile)


def fit(
    conf: config.ModelConf,
    data: Data,
    scratch: Path,
    stop: Stop,
    look: Callable[[dict[str, float]], None] = lambda row: None,
) -> Result:
    """Train a conf; `look` gets the metrics of each look at val.

    Checkpoints, which `train.learn` writes, are in `scratch` until the end. Raises Stopped if the
    search has to end, and SextantError for settings that cannot be trained.
    """
    from .. import train

    check.check_model(conf)
    monitor = f"val/{conf.schedule['monitor']}"

    def report(row: dict[str, float]) -> None:
        stop.look()
        look(row)

    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(dir=scratch))
    try:
        model, history = train.learn(conf, data.parts, data.profile, folder, report, stop.look)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    epoch = int(model.card["epoch"])
    (kept,) = [row[monitor] for row in history if row["epoch"] == epoch]
    scores = {name: float(value) for name, value in model.card["val"].items()}
    assert not math.isnan(kept)
    return Result(kept, epoch, scores, history)
