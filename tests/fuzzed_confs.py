"""What the stages do with mutated confs that `sextant check` accepts, for test_fuzz.py.

Each is tried in a forked process with a limit of memory, because a conf may ask for any amount of
it, and a process that the system kills prints no line.
"""

import functools
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any, NoReturn

import listed
import twins
import yaml
from conftest import ROOT

from sextant import __main__, check, config, errors, plugins, prepare, pull, train
from sextant.commands import repro
from sextant.errors import SextantError
from sextant.tuning import space

ADDRESS_SPACE = 3 * 2**30  # bytes that a trial may add to what the process has
MOMENT = 0.5  # seconds of steps after which a training is taken for one that works
STEPS = 20
Prepared = tuple[dict[str, Any], dict[str, Any]]  # the parts and their profile


class EnoughError(Exception):
    """A training that works is ended."""


def conf_files(model: str) -> list[str]:
    """The files of the conf that a model and its data set are read from."""
    line = listed.MODELS[model]
    dataset = line["dataset"]
    files = ["params.yaml" if model in listed.PARAMS["models"] else "conf/shelf.yaml"]
    files += [f"conf/dataset/{dataset}.yaml", f"conf/expectations/{dataset}.yaml"]
    files += [f"conf/model/{model}.yaml", "conf/trainer.yaml"]
    for name in (model, line["family"]):
        search = space.search_file(name)
        if (ROOT / search).is_file():
            return [*files, str(search)]
    return files


def stage_files(model: str) -> list[str]:
    """Those of them that the stages up to train read, most often that of the model."""
    params, dataset, _, conf, trainer = conf_files(model)[:5]
    return [conf, conf, conf, dataset, dataset, params, trainer]


def text_of(file: str) -> bytes:
    """A file of the conf; a data set has a small twin."""
    text = (ROOT / file).read_bytes()
    if not file.startswith("conf/dataset/"):
        return text
    name = Path(file).stem
    changes = twins.small_twin(name, listed.DATASETS[name])
    if not changes:
        return text
    conf = yaml.safe_load(text)
    conf["twin"] |= changes
    return yaml.safe_dump(conf, sort_keys=False, allow_unicode=True).encode()


# --- the stages ---------------------------------------------------------------------------------


@functools.cache
def prepared(dataset: str) -> Prepared:
    """The parts of a small twin, by the conf as it is."""
    with chdir(ROOT):
        return _prepared(twins.conf_of(dataset, small=True))


def _prepared(conf: config.DatasetConf) -> Prepared:
    kind = plugins.kind(conf.kind)
    with tempfile.TemporaryDirectory() as folder:
        pull.pull(conf, Path(folder) / "raw")
        raw = kind.rows.read(Path(folder) / "raw", conf.columns)
        kind.rows.table(raw, conf.columns)
        parts = prepare.prepare(raw, conf)
        loaded = {}
        for name, rows in parts.items():
            kind.rows.write(rows, Path(folder) / name)
            loaded[name] = kind.rows.load(Path(folder) / name)
    validation = {"source": "embedded", "digest": "0"}
    return loaded, prepare.profile(parts, conf, validation)


def run_stages(model: str, file: str, budget: str) -> None:
    """Check a model of the working directory, prepare its data, and begin to train it.

    `file` is the one that was changed; without need the data are not prepared again.
    """
    check.check_named("model", model)
    conf = config.model(model, [f"budget={budget}"], shelf=True)
    original = listed.MODELS[model]
    if file.startswith("conf/dataset/") or conf.dataset != original["dataset"]:
        dataset = config.dataset(conf.dataset, shelf=True)
        if dataset.chosen_source == "canonical":  # of the network
            return
        parts, profile = _prepared(dataset)
    else:
        parts, profile = prepared(conf.dataset)
    _begin_to_train(conf, parts, profile)


def _begin_to_train(conf: config.ModelConf, parts: dict[str, Any], profile: dict[str, Any]) -> None:
    start = 0.0
    steps = 0

    def tick(epochs: float) -> None:
        nonlocal start, steps
        start = start or time.monotonic()
        steps += 1
        if steps > STEPS or time.monotonic() - start > MOMENT:
            raise EnoughError

    train.quieten()
    with tempfile.TemporaryDirectory() as folder:
        try:
            train.learn(conf, parts, profile, Path(folder), lambda row: None, tick)
        except EnoughError:
            return


# --- command lines ------------------------------------------------------------------------------

# By verb, a line of it; `rows.csv` has rows of animals.
LINES: dict[str, list[str]] = {
    "check": ["model=ann", "dataset=churn"],
    "pull": ["dataset=churn"],
    "validate": ["dataset=churn"],
    "prepare": ["dataset=churn", "source=embedded"],
    "train": ["model=ann", "model.net.dropout=0.1", "seed=3"],
    "evaluate": ["model=ann"],
    "register": ["--write", "model=ann"],
    "report": [],
    "repro": ["jobs=2", "train@ann"],
    "leaderboard": [],
    "tune": ["model=ann", "trials=4", "timeout=1", "jobs=2", "model.net.bins=4"],
    "predict": ["model=ann", "input=rows.csv", "output=answers.csv", "top_k=3"],
    "serve": ["model=ann", "port=5001"],
    "ui": ["port=5000"],
    "promote": ["model=ann", "version=1"],
    "rollback": ["model=ann"],
    "new": ["file=rows.csv", "target=class", "name=zz", "skip=0", "decide=0.3", "unknown=?,-"],
    "add": ["model=digits"],
    "remove": ["model=ann"],
    "pin": ["dataset=churn", "source=embedded"],
}


def run_line(line: list[str]) -> None:
    """Run a command line up to where it starts another process.

    Those that would wait for one, a server for example, end there.
    """

    def enough(*arguments: object, **options: object) -> NoReturn:
        raise EnoughError

    os.execv = enough
    subprocess.Popen.__init__ = enough  # type: ignore[method-assign]
    repro.run_stages = enough
    repro.fork_server.running = enough
    try:
        __main__.dispatch(line)
    except EnoughError:
        return


# --- a process of its own -----------------------------------------------------------------------


def in_child(attempt: Callable[[], object], cpu_seconds: int, seconds: int) -> str:
    """The line that refuses, or an empty text if `attempt` ends, in a forked process.

    Raises AssertionError for any other error, for a process that a signal ends, and for one that
    takes too long.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _end_as(attempt, writer, cpu_seconds)
    os.close(writer)
    try:
        text = _read(reader, seconds)
    finally:
        os.close(reader)
        if not _has_ended(pid):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert text is not None, f"it takes more than {seconds} s"
    assert text, f"the process was ended by a signal or has used {cpu_seconds} s of processor time"
    outcome = json.loads(text)
    assert not outcome["fault"], outcome["fault"]
    return str(outcome["line"])


def _read(reader: int, seconds: int) -> str | None:
    """What a process writes until its end; None if it does not end in time."""
    until = time.monotonic() + seconds
    content = b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return None
        block = os.read(reader, 2**16)
        if not block:
            return content.decode()
        content += block


def _has_ended(pid: int) -> bool:
    for _ in range(50):
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.02)
    return False


def _end_as(attempt: Callable[[], object], writer: int, cpu_seconds: int) -> NoReturn:
    """Run `attempt` within limits, write what became of it, and end the process."""
    line = fault = ""
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        _limit(cpu_seconds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt()
    except SextantError as error:
        line = errors.one_line(error)
    except BaseException:
        fault = traceback.format_exc()
    os.write(writer, json.dumps({"line": line, "fault": fault}).encode())
    os._exit(0)


def _limit(cpu_seconds: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(usage.ru_utime + usage.ru_stime) + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
