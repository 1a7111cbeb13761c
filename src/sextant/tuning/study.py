"""The trials of a search, kept by Optuna in a journal on disk.

A journal is a file to which each change appends a line, so that several processes can write to it
and a kill loses no line that was written.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from .. import config, files, paths
from .space import Choices, Dimension, Space, values
from .training import PARTS, Data, Result

NAME = "tune"  # of the study, one in each journal
LOCK = "lock"  # the file that the process of a search holds, in its folder
JOURNAL = "journal.log"
# Trials that are drawn at random before the sampler learns from them, Optuna's default, and trials
# that are not pruned, of which it takes the median.
RANDOM_TRIALS = 10
UNPRUNED_TRIALS = 5
# Share of a training before it can be pruned: a warm-up and a high learning rate make early values
# say little.
UNPRUNED_SHARE = 0.3
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
VALUES = "values"  # attributes of a trial: its settings as a conf has them
SCORES = "scores"
EPOCH = "epoch"
REASON = "reason"
RUN = "run"


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    value: the monitored metric on val of the kept epoch; of a pruned trial at its last look; None
    if it could not be trained.
    feasible: whether all guards of the gate hold on val.
    """

    number: int
    settings: Mapping[str, Any]
    value: float | None
    epoch: int | None
    pruned: bool
    reason: str
    feasible: bool


class Pruned(Exception):
    """A trial is worse than the median of the earlier ones."""


class Sampler(BaseSampler):
    """Optuna's TPE, whose draws for a trial are a function of the seed and of the earlier trials.

    A sampler with a state would begin anew in each process, and repeat its first draws. A trial
    that was interrupted does not count, so that a resumed search goes on as one without a break.

    J. Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.tpe = TPESampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed the draws by the place of a trial among those that were not interrupted."""
        from ..learner import derived_seed

        place = trial.number
        for other in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if other.number < trial.number:
                place -= 1
        seed = derived_seed(self.seed, "trial", place) % 2**32
        self.tpe = TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
        self.tpe.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self.tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self.tpe.after_trial(study, trial, state, values)


class Looks:
    """Reports each look at val to Optuna, and ends a trial that it prunes.

    metric: the monitored one, `val/log_loss` for example.
    """

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        self.trial = trial
        self.metric = metric
        self.history: list[dict[str, float]] = []

    def __call__(self, row: dict[str, float]) -> None:
        """Report the metrics of a look; raises Pruned if the trial is to end."""
        self.history.append(row)
        value = row[self.metric]
        if math.isnan(value):
            return
        self.trial.report(value, int(row["epoch"]))
        if self.trial.should_prune():
            raise Pruned


# --- the folder ---------------------------------------------------------------------------------


def folder_of(conf: config.ModelConf, space: Space, data: Data) -> Path:
    """.tuning/<model>/<digest of everything that makes trials comparable>/.

    These are the space, the settings outside of it, the data, the seed and the code. The values of
    today within the space are not among them, so that a search goes on after its winner was
    written.
    """
    from .. import train

    rest = conf.model_dump(include={"name", "family", "task", "dataset", "seed", "budget"})
    for block in ("net", "optimizer", "schedule"):
        settings = conf.model_dump()[block]
        rest[block] = {
            key: value
            for key, value in settings.items()
            if f"{block}.{key}" not in space.dimensions
        }
    rest["guards"] = conf.gate.on(conf.dataset).guards
    dimensions = {}
    for name, dimension in space.dimensions.items():
        dimensions[name] = dimension.model_dump()
    parts = [json.dumps([rest, dimensions]), json.dumps(data.profile, sort_keys=True)]
    parts += [torch.__version__, *_digests(data.folder)]
    parts += [files.sha256(path) for path in train.code_files(conf)]
    digest = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]
    return paths.state_root() / ".tuning" / conf.name / digest


def _digests(folder: Path) -> list[str]:
    """The digests of the files of the parts that a search reads."""
    digests = []
    for part in PARTS:
        for path in sorted(folder.glob(f"{part}*")):
            digests.append(files.folder_digest(path) if path.is_dir() else files.sha256(path))
    return digests


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second search out of a folder; raises SextantError if one is running."""
    with files.locked(folder / LOCK, f"tuning this already ({folder}); wait for it, or stop it"):
        yield


# --- the study ----------------------------------------------------------------------------------


class Study:
    """The trials of one folder; every process has an object of its own."""

    def __init__(self, folder: Path, conf: config.ModelConf, space: Space, up: bool) -> None:
        self.folder = folder
        self.space = space
        self.up = up
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        first = math.ceil(UNPRUNED_SHARE * int(conf.schedule["max_epochs"]))
        self.optuna = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
            study_name=NAME,
            direction="maximize" if up else "minimize",
            sampler=Sampler(conf.seed),
            pruner=optuna.pruners.MedianPruner(UNPRUNED_TRIALS, n_warmup_steps=first),
            load_if_exists=True,
        )

    def recover(self) -> list[str]:
        """Queue the trials of killed processes again; return the runs that they left.

        It is for the process that holds the lock, when no job is running.
        """
        runs = []
        for trial in self.optuna.get_trials(states=(TrialState.RUNNING,)):
            if trial.params:
                self.optuna.enqueue_trial(trial.params)
            self.optuna.tell(trial.number, state=TrialState.FAIL)
            if RUN in trial.user_attrs:
                runs.append(str(trial.user_attrs[RUN]))
        return runs

    def enqueue(self, conf: config.ModelConf) -> None:
        """Let the first trial be that of a conf, whose values lie in the space."""
        params = {}
        for name, value in values(conf, self.space.dimensions).items():
            params[name] = _encoded(self.space.dimensions[name], value)
        self.optuna.enqueue_trial(params)

    def claim(self, trials: int) -> optuna.Trial | None:
        """Begin a trial, of which the settings are drawn; None if there are `trials` already."""
        with FileLock(self.folder / "claim"):
            begun = self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING, *DONE))
            if len(begun) >= trials:
                return None
            return self.optuna.ask()

    def settings(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the settings of a trial."""
        drawn = {}
        for name, dimension in self.space.dimensions.items():
            drawn[name] = _draw(trial, name, dimension)
        trial.set_user_attr(VALUES, drawn)
        return drawn

    def complete(self, trial: optuna.Trial, result: Result, gate: config.Gate) -> None:
        """Keep a trial that was trained to its end."""
        for guard, beyond in result.broken(gate).items():
            trial.set_constraint(guard, beyond)
        trial.set_user_attr(SCORES, dict(result.scores))
        trial.set_user_attr(EPOCH, result.epoch)
        self.optuna.tell(trial, result.value)

    def prune(self, trial: optuna.Trial, reason: str) -> None:
        """Keep a trial that ended early; the sampler takes one without a look for the worst."""
        trial.set_user_attr(REASON, reason)
        self.optuna.tell(trial, state=TrialState.PRUNED)

    def trials(self) -> list[Trial]:
        """The finished trials, in their order."""
        return [_finished(trial) for trial in self.optuna.get_trials(states=DONE)]

    def best(self) -> Trial | None:
        """The best trial among those that satisfy the guards; None if there is none."""
        candidates = []
        for trial in self.trials():
            if not trial.pruned and trial.feasible and trial.value is not None:
                candidates.append(trial)
        sign = -1 if self.up else 1
        return min(candidates, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def importances(self) -> dict[str, float]:
        """By setting the share that it has in good trials; empty if there are too few.

        PED-ANOVA compares how a setting is spread among the best trials and among all (Watanabe et
        al., IJCAI 2023).
        """
        complete = [trial.value for trial in self.trials() if not trial.pruned]
        if len(set(complete)) < 4:
            return {}
        return optuna.importance.get_param_importances(self.optuna)

    # --- what is kept beside the trials ---

    def recall(self, key: str) -> Any:
        """A value that `keep` wrote; None if it did not."""
        return self.optuna.user_attrs.get(key)

    def keep(self, key: str, value: object) -> None:
        """Keep a value, as JSON, beside the trials."""
        self.optuna.set_user_attr(key, value)


def repair(folder: Path) -> None:
    """Remove what a killed process can leave in a folder: half a line, a lock, checkpoints.

    It is for the process that holds the lock, when no job is running.
    """
    journal = folder / JOURNAL
    if journal.is_file():
        content = journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with journal.open("r+b") as stream:
                stream.truncate(len(whole))
    for path in folder.glob(f"{JOURNAL}.lock*"):  # Optuna would wait 30 s for one
        path.unlink()


def _finished(trial: FrozenTrial) -> Trial:
    looks = trial.intermediate_values
    value = trial.value
    epoch = trial.user_attrs.get(EPOCH)
    if trial.state == TrialState.PRUNED:
        epoch = max(looks, default=None)
        value = looks[epoch] if epoch is not None else None
    return Trial(
        number=trial.number,
        settings=trial.user_attrs.get(VALUES, {}),
        value=value,
        epoch=epoch,
        pruned=trial.state == TrialState.PRUNED,
        reason=trial.user_attrs.get(REASON, ""),
        feasible=all(beyond <= 0 for beyond in trial.constraints.values()),
    )


def _draw(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    """A value of a dimension for a trial, as it is written in a conf."""
    if isinstance(dimension, Choices):
        # As JSON, because Optuna keeps single numbers and texts alone.
        texts = [json.dumps(value) for value in dimension.choices]
        return json.loads(trial.suggest_categorical(name, texts))
    if dimension.whole:
        low, high = int(dimension.low), int(dimension.high)
        return trial.suggest_int(name, low, high, step=int(dimension.step or 1), log=dimension.log)
    raw = trial.suggest_float(
        name, dimension.low, dimension.high, step=dimension.step, log=dimension.log
    )
    return dimension.value(raw)


def _encoded(dimension: Dimension, value: Any) -> Any:
    if isinstance(dimension, Choices):
        return json.dumps(dimension.choices[dimension.choices.index(value)])
    return value
