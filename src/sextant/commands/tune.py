"""Search better settings of a model on train and val, and write them into its conf if they win.

    sextant tune model=ann [trials=40] [jobs=2] [timeout=30] [--write] [overrides]

The trials are kept in .tuning/, so that the same command goes on after a kill, after Ctrl-C, and
after its time was over.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import check, config, drawing, paths
from ..errors import SextantError, UsageError
from ..tuning import comparison, figures, space, study, training
from ..tuning.search import Log, Logged, Search, run
from ..tuning.stopping import Stop, Stopped
from ..tuning.writing import write
from . import repro

if TYPE_CHECKING:
    from ..tracking.tuning import TuningRun
    from ..tuning.study import Study, Trial

WRITE = "--write"
TRIALS = 40
OPTIONS = ("model", "trials", "jobs", "timeout", "job")
GRACE = 10.0  # seconds for the jobs to end before they are killed
RUN = "run"  # the key under which the study keeps its MLflow run


@dataclass(frozen=True)
class Order:
    """A command line.

    trials: how many there are to be in the end, those of earlier commands included.
    jobs: slots, of which a trial takes as many as it has threads.
    until: when to stop, as of `time.time`; None: never.
    job: of a process that another one has started: its phase, its number, the number of jobs and
    the process of the command, as `trials:0:2:4711`; empty for the command itself.
    """

    model: str
    trials: int
    jobs: int
    until: float | None
    write: bool
    job: str
    overrides: list[str]

    def again(self, trials: int, write: str = "") -> str:
        """The command that goes on with this search."""
        options = f' OPTIONS="{" ".join(self.overrides)}"' if self.overrides else ""
        return f"make tune MODEL={self.model} TRIALS={trials}{write}{options}"

    def command(self, phase: str, number: int, count: int) -> list[str]:
        """The command of one of `count` jobs of this process."""
        job = f"job={phase}:{number}:{count}:{os.getpid()}"
        command = [sys.executable, "-m", "sextant", "tune", f"model={self.model}", job]
        command += [f"trials={self.trials}", *self.overrides]
        if self.until is not None:
            command.append(f"timeout={max(0.0, self.until - time.time()) / 60:.4f}")
        return command


def parse(argv: Sequence[str]) -> Order:
    """The order of a command line; raises UsageError."""
    arguments = [argument for argument in argv if argument != WRITE]
    options, _ = config.named_options(arguments, *OPTIONS)
    rest = [word for word in arguments if word.partition("=")[0] not in OPTIONS[1:]]
    name, overrides = config.named(rest, "model")
    timeout = options.get("timeout")
    return Order(
        model=name,
        trials=_whole("trials", options.get("trials", str(TRIALS)), "of trials in the end"),
        jobs=_whole("jobs", options.get("jobs", "1"), "of threads that trials take side by side"),
        until=None if timeout is None else time.time() + 60 * _minutes(timeout, "job" in options),
        write=WRITE in argv,
        job=options.get("job", ""),
        overrides=overrides,
    )


def _whole(name: str, value: str, meaning: str) -> int:
    if not value.isdecimal() or int(value) == 0:
        raise UsageError(f"{name}={value}: expected a whole number above 0, {meaning}")
    return int(value)


def _minutes(value: str, of_job: bool) -> float:
    try:
        minutes = float(value)
    except ValueError:
        minutes = float("nan")
    if not (0 < minutes < float("inf") or of_job and minutes == 0):
        raise UsageError(f"timeout={value}: expected a number of minutes above 0")
    return minutes


def jobs_side_by_side(jobs: int, threads: int, free: int) -> int:
    """How many trials run at once: each takes its threads of the slots, and memory.

    `free` is the memory in bytes; what a training takes is what `sextant repro` expects.
    """
    memory = int(repro.RESERVE * repro.MEMORY["train"] * repro.MIB)
    return max(1, min(jobs // threads, free // memory))


# --- the search ---------------------------------------------------------------------------------


def tune(order: Order) -> int:
    """Search, compare, and write if that was ordered; return the exit code.

    Lightning, whose import takes seconds, is imported when nothing in the call is wrong.
    """
    conf = config.model(order.model, order.overrides)
    if order.write and any(word.startswith("model.") for word in order.overrides):
        raise UsageError(
            f"{WRITE} with model.…: the best settings hold beside these alone; write them into"
            f" {paths.model_conf(conf.name)} first"
        )
    check.check_model(conf)
    searched = space.load(conf)
    data = training.read(conf.dataset)
    from .. import train

    folder = study.folder_of(conf, searched, data)
    search = Search(conf, searched, data, folder, folder / "checkpoints")
    train.quieten()
    if order.job:
        return _job(order, search)
    with study.locked(search.folder):
        return _search(order, search)


def _search(order: Order, search: Search) -> int:
    """Search as the process that holds the lock of the folder."""
    study.repair(search.folder)
    shutil.rmtree(search.scratch, ignore_errors=True)
    trials = search.study()
    run_of_search = _open(search, trials)
    _announce(order, search, trials)
    stop = Stop(order.until)
    status = "KILLED"
    try:
        with stop.on_signals():
            _trials(order, search, trials, run_of_search, stop)
            best = trials.best()
            gains = _compared(order, search, trials, best, stop)
        status = "FINISHED"
    except Stopped:
        _log(search, trials, run_of_search, [])
        print(_so_far(order, search, trials, stop), flush=True)
        return 0 if stop.signal is None else 128 + stop.signal
    finally:
        run_of_search.end(status)
    _log(search, trials, run_of_search, gains)
    _conclude(order, search, trials, gains)
    return 0


def _open(search: Search, trials: "Study") -> "TuningRun":
    """The run of the search; queue what was interrupted, and today's settings at the start."""
    from ..tracking import tuning

    run_of_search = tuning.open_run(search.conf, search.data.profile, trials.recall(RUN))
    trials.keep(RUN, tuning.record(run_of_search))
    run_of_search.discard(trials.recover())
    outside = search.space.outside(search.conf)
    if outside:
        print(
            f"today's conf lies outside of {search.space.path} ({', '.join(outside)}), so that it"
            " is not among the trials"
        )
    elif not trials.optuna.trials:
        trials.enqueue(search.conf)
    return run_of_search


def _announce(order: Order, search: Search, trials: "Study") -> None:
    """Say what is searched, and what there is already."""
    done = len(trials.trials())
    goal = f"{order.trials} trials"
    if done >= order.trials:
        goal = f"{done} trials, which are there already"
    elif done:
        goal += f", of which {done} are there already"
    print(
        f"tune {search.conf.name} on {search.conf.dataset} ({search.data.profile['source']}, budget"
        f" {search.conf.budget}): {len(search.space.dimensions)} settings of {search.space.path},"
        f" {goal}, compared by {comparison.monitored(search.conf)}",
        flush=True,
    )


def _trials(
    order: Order, search: Search, trials: "Study", run_of_search: "TuningRun", stop: Stop
) -> None:
    """Run the trials that are missing, in this process or in several others."""
    threads = int(search.conf.schedule["threads"])
    count = jobs_side_by_side(order.jobs, threads, repro.free_memory())
    if 1 < order.jobs != count:
        print(f"jobs={order.jobs}: {count} side by side, by threads ({threads} each) and memory")
    if count == 1:
        run(search, trials, order.trials, stop, _logger(run_of_search))
    elif len(trials.trials()) < order.trials:
        _in_jobs(order, "trials", count, stop)


def _compared(
    order: Order, search: Search, trials: "Study", best: "Trial | None", stop: Stop
) -> list[comparison.Gain]:
    """The gains of the best settings over today's; empty if these are the best."""
    if best is None or not _changes(search, best):
        return []
    print(
        f"training today's settings and those of trial {best.number} with {comparison.SEEDS} seeds"
        " each",
        flush=True,
    )
    today, winner = comparison.both(search.conf, best.settings)
    threads = int(search.conf.schedule["threads"])
    count = jobs_side_by_side(order.jobs, threads, repro.free_memory())
    if count > 1:
        _in_jobs(order, "seeds", count, stop)
    comparison.train(trials, [*today, *winner], search.data, search.scratch, stop)
    return comparison.gains(trials, search.conf, best.settings)


def _changes(search: Search, best: "Trial") -> dict[str, object]:
    """The settings of a trial that are not today's."""
    today = space.values(search.conf, search.space.dimensions)
    changes = {}
    for name, value in best.settings.items():
        if value != today[name]:
            changes[name] = value
    return changes


def _logger(run_of_search: "TuningRun") -> Log:
    """What logs the trials of this process to the run of the search."""

    def log(trial: Logged) -> str:
        result = trial.result
        return run_of_search.trial(
            trial.number,
            trial.settings,
            result.history if result else trial.history,
            result.scores if result else {},
            result.epoch if result else None,
            trial.reason,
        )

    return log


# --- jobs ---------------------------------------------------------------------------------------


def _in_jobs(order: Order, phase: str, count: int, stop: Stop) -> None:
    """Run a phase in `count` other processes; raises Stopped if the search has to end.

    Each runs many trainings, since a start takes seconds. Raises SextantError if one fails.
    """
    jobs = []
    for number in range(count):
        jobs.append(subprocess.Popen(order.command(phase, number, count)))
    try:
        while any(job.poll() is None for job in jobs):
            if any(job.returncode for job in jobs) or stop.signal is not None:
                break
            time.sleep(0.1)
    finally:
        _end(jobs)
    stop.look()
    codes = [job.returncode for job in jobs if job.returncode]
    if codes:
        raise SextantError(
            f"a job ended with {codes[0]}, see the lines above; the same command goes on"
        )


def _end(jobs: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask the jobs that still run to end, and kill those that do not."""
    for job in jobs:
        if job.poll() is None:
            job.terminate()
    deadline = time.monotonic() + GRACE
    for job in jobs:
        try:
            job.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.kill()
            job.wait()


def _job(order: Order, search: Search) -> int:
    """One phase of a search, as a process that another one has started."""
    from ..tracking import tuning

    phase, number, count, parent = order.job.split(":")
    trials = search.study()
    stop = Stop(order.until, int(parent))
    scratch = search.scratch / number
    try:
        with stop.on_signals():
            if phase == "trials":
                logger = _logger(tuning.join_run(trials.recall(RUN)["run"]))
                run(replace(search, scratch=scratch), trials, order.trials, stop, logger)
            else:
                best = trials.best()
                assert best is not None
                today, winner = comparison.both(search.conf, best.settings)
                share = [*today, *winner][int(number) :: int(count)]
                comparison.train(trials, share, search.data, scratch, stop)
    except Stopped:
        return 0
    return 0


# --- the end ------------------------------------------------------------------------------------


def _log(
    search: Search, trials: "Study", run_of_search: "TuningRun", gains: Sequence[comparison.Gain]
) -> None:
    """Log figures, the best settings and the gains to the run of the search."""
    finished = trials.trials()
    best = trials.best()
    folder = search.folder / "figures"
    shutil.rmtree(folder, ignore_errors=True)
    if finished:
        metric = comparison.monitored(search.conf).removeprefix("val/")
        today = None
        for trial in finished:
            if not trial.pruned and not _changes(search, trial):
                today = trial.value
        figure = figures.history(finished, metric, search.up, today)
        drawing.save(figure, folder / "history.svg")
    shares = trials.importances()
    if shares:
        complete = sum(not trial.pruned for trial in finished)
        drawing.save(figures.importance(shares, complete), folder / "importance.svg")
    metrics: dict[str, float] = {"trials": len(finished)}
    texts: dict[str, dict[str, Any]] = {}
    if best is not None and best.value is not None:
        monitor = comparison.monitored(search.conf).removeprefix("val/")
        metrics |= {f"best/{monitor}": best.value, "best/trial": best.number}
        texts["best.yaml"] = dict(best.settings)
    for gain in gains:
        name = gain.metric.replace("/", "_")
        metrics |= {
            f"gain/{name}": gain.gain,
            f"gain/{name}_low": gain.low,
            f"gain/{name}_high": gain.high,
        }
    run_of_search.log(metrics, texts, folder)


def _summary(search: Search, trials: "Study") -> list[str]:
    """How many trials there are, and the best one with what it changes."""
    finished = trials.trials()
    pruned = sum(trial.pruned for trial in finished)
    counts = f"{len(finished)} trials, {pruned} of them pruned"
    best = trials.best()
    if best is None:
        return [f"{counts}; none was trained to its end and satisfies the guards on val"]
    monitor = comparison.monitored(search.conf)
    changes = _changes(search, best)
    lines = [f"{counts}; the best is trial {best.number}: {monitor} {best.value:.4f}"]
    if not changes:
        lines[0] += ", with today's settings"
    today = space.values(search.conf, changes)
    width = max(map(len, changes), default=0)
    for name, value in changes.items():
        lines.append(f"  {name:<{width}}  {today[name]} -> {value}")
    return lines


def _so_far(order: Order, search: Search, trials: "Study", stop: Stop) -> str:
    """What a search that was stopped has, and how to go on."""
    done = len(trials.trials())
    why = "the time is over" if stop.signal is None else "interrupted"
    lines = _summary(search, trials)
    lines[0] = f"{why}: {lines[0]}"
    lines.append(f"`{order.again(order.trials)}` goes on")
    if 0 < done < order.trials:
        lines.append(f"`{order.again(done)}` compares the best of these with today's settings")
    return "\n".join(lines)


def _conclude(
    order: Order, search: Search, trials: "Study", gains: Sequence[comparison.Gain]
) -> None:
    """Print the best settings beside today's, and write them if that was ordered and they win."""
    print("\n".join(_summary(search, trials)))
    best = trials.best()
    if best is None or not gains:
        if best is not None:
            print("nothing to write: no trial was better than today's conf")
        return
    print(f"over {comparison.SEEDS} seeds on val, differences of equal seeds, 95 % interval:")
    for line in table(gains):
        print(f"  {line}")
    path = paths.model_conf(search.conf.name)
    changes = _changes(search, best)
    if gains[0].gain <= 0:
        print(f"nothing to write: over the seeds, today's settings are better; {path} stays")
    elif order.write:
        places = write(path, changes, search.conf.budget)
        print(
            f"written to {path}: {', '.join(places)}; next: make repro, whose gate reads other rows"
        )
    else:
        print(f"`{order.again(order.trials, ' WRITE=1')}` writes them into {path}")
    if gains[0].gain > 0 and not gains[0].clear:
        print("the interval contains 0: the gain may be chance")


def table(gains: Sequence[comparison.Gain]) -> list[str]:
    """The gains in columns."""
    rows = [("metric", "today", "best", "gain", "95 %")]
    for gain in gains:
        bounds = f"{gain.low:+.4f} … {gain.high:+.4f}"
        rows.append(
            (gain.metric, f"{gain.today:.4f}", f"{gain.best:.4f}", f"{gain.gain:+.4f}", bounds)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def main(argv: list[str]) -> int:
    """`sextant tune model=<name> [trials=40] [jobs=2] [timeout=<minutes>] [--write]`."""
    return tune(parse(argv))
