"""One job of a search: it runs trials until there are enough."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config, plugins
from ..errors import SextantError, one_line
from .space import Space, with_values
from .stopping import Stop
from .study import RUN, Looks, Pruned, Study, Trial
from .training import Data, Result, fit

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Logged:
    """What is logged of a trial: `result` if it was trained to its end, else the `reason`."""

    number: int
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    result: Result | None
    reason: str


Log = Callable[[Logged], str]  # returns what identifies the trial where it was logged


@dataclass(frozen=True)
class Search:
    """What is searched: a model, its space and its data.

    folder: keeps the trials; scratch: where trainings keep their checkpoints.
    """

    conf: config.ModelConf
    space: Space
    data: Data
    folder: Path
    scratch: Path

    @property
    def up(self) -> bool:
        """Whether a higher value of the monitored metric is better."""
        metrics = plugins.task(self.conf.task).metrics.METRICS
        return metrics[self.conf.schedule["monitor"]] == "up"

    def study(self) -> Study:
        """The trials, for this process."""
        return Study(self.folder, self.conf, self.space, self.up)


def run(search: Search, study: Study, trials: int, stop: Stop, log: Log) -> None:
    """Run trials until there are `trials`; raises Stopped if the search has to end.

    A trial that was begun then counts as interrupted, and is queued by the next search.
    """
    while True:
        stop.look()
        trial = study.claim(trials)
        if trial is None:
            return
        started = time.monotonic()
        run_one(search, study, trial, stop, log)
        print(line(study, trial.number, time.monotonic() - started), flush=True)


def run_one(search: Search, study: Study, trial: "optuna.Trial", stop: Stop, log: Log) -> None:
    """Draw the settings of a trial, train them, and keep what val says."""
    settings = study.settings(trial)
    looks = Looks(trial, f"val/{search.conf.schedule['monitor']}")
    conf = with_values(search.conf, settings)
    result = None
    reason = ""
    try:
        result = fit(conf, search.data, search.scratch, stop, looks)
    except Pruned:
        reason = f"pruned after epoch {looks.history[-1]['epoch']:.0f}"
    except SextantError as error:
        reason = f"cannot be trained: {one_line(error)}"
    run = log(Logged(trial.number, settings, looks.history, result, reason))
    trial.set_user_attr(RUN, run)
    if result:
        study.complete(trial, result, search.conf.gate.on(search.conf.dataset))
    else:
        study.prune(trial, reason)


def line(study: Study, number: int, seconds: float) -> str:
    """What a finished trial showed, and the best one until then."""
    (trial,) = [trial for trial in study.trials() if trial.number == number]
    parts = [f"trial {number}:", result_of(trial) + ","]
    parts.append(f"{seconds:.1f} s")
    best = study.best()
    if best is None:
        parts.append("(none satisfies the guards yet)")
    elif best.number == number:
        parts.append("(the best)")
    else:
        parts.append(f"(best: {best.value:.4f}, trial {best.number})")
    return " ".join(parts)


def result_of(trial: Trial) -> str:
    """The value of a trial, or why it has none."""
    if trial.pruned:
        value = f" at {trial.value:.4f}" if trial.value is not None else ""
        return f"{trial.reason}{value}"
    guards = "" if trial.feasible else ", breaks a guard"
    return f"{trial.value:.4f}, epoch {trial.epoch} kept{guards}"
