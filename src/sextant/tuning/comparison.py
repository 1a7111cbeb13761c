"""The best settings of a search beside today's, trained with the same seeds."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import config, plugins
from .space import with_values
from .stopping import Stop
from .study import Study
from .training import Data, fit

SEEDS = 5
LEVEL = 0.975  # both ends together leave out 5 %


@dataclass(frozen=True)
class Task:
    """A training of the comparison."""

    conf: config.ModelConf
    key: str  # under which its scores are kept


@dataclass(frozen=True)
class Gain:
    """A metric of both settings, each a mean over the seeds, and the gain, above 0 is better.

    low, high: the ends of the 95 % interval of the gain, from the differences of equal seeds.
    """

    metric: str
    today: float
    best: float
    gain: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def seeds(conf: config.ModelConf) -> list[int]:
    """Seeds other than that of the trials, with which the best one may have been lucky."""
    return [(conf.seed + number) % 2**32 for number in range(1, SEEDS + 1)]


def tasks(conf: config.ModelConf) -> list[Task]:
    """The trainings of a conf, one for each seed."""
    trainings = []
    for seed in seeds(conf):
        seeded = conf.model_copy(update={"seed": seed})
        text = seeded.model_dump_json(include={"net", "optimizer", "schedule", "seed"})
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        trainings.append(Task(seeded, f"compared {digest}"))
    return trainings


def both(conf: config.ModelConf, settings: Mapping[str, object]) -> tuple[list[Task], list[Task]]:
    """The trainings of today's settings and those of the best ones."""
    return tasks(conf), tasks(with_values(conf, settings))


def train(study: Study, trainings: Sequence[Task], data: Data, scratch: Path, stop: Stop) -> None:
    """Train what was not trained yet; the scores are kept in the study.

    Raises Stopped if the search has to end.
    """
    for training in trainings:
        if study.recall(training.key) is None:
            stop.look()
            result = fit(training.conf, data, scratch, stop)
            scores = {**result.scores, monitored(training.conf): result.value}
            study.keep(training.key, scores)


def monitored(conf: config.ModelConf) -> str:
    """The name of the metric by which the trials are compared, as it stands at the kept epoch."""
    return f"val/{conf.schedule['monitor']}"


def gains(study: Study, conf: config.ModelConf, settings: Mapping[str, object]) -> list[Gain]:
    """The metric of the trials, and then the one that the gate reads, of all trainings."""
    today, best = both(conf, settings)
    task = plugins.task(conf.task)
    gate_metric = conf.gate.metric or task.primary[0]
    compared = []
    for name in (monitored(conf), gate_metric):
        direction = task.metrics.METRICS[name.removeprefix("val/")]
        before = np.array([study.recall(training.key)[name] for training in today])
        after = np.array([study.recall(training.key)[name] for training in best])
        compared.append(gain(name, before, after, 1 if direction == "up" else -1))
    return compared


def gain(name: str, before: np.ndarray, after: np.ndarray, sign: int) -> Gain:
    """The gain and its interval by Student's t, from scores (seeds,) of equal seeds.

    sign: 1 if a higher score is better, -1 if a lower one is.
    """
    from scipy.stats import t  # a second to import

    differences = sign * (after - before)
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    half = float(t.ppf(LEVEL, len(differences) - 1)) * error
    return Gain(name, float(before.mean()), float(after.mean()), mean, mean - half, mean + half)
