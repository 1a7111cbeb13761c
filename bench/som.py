"""A som against python-som: an epoch on four sizes, and a whole training

    python bench/som.py [python=path] [rounds=20] [seconds=0.1]

An epoch of a som in batch is one optimizer step on all rows. Ours is what training does in it:
loss, gradient and optimizer step. Theirs is an iteration of `train` of python-som 0.8 in mode
`batch`. A whole training is 100 epochs of models/som: ours with the first codebook, looks at val,
checkpoints and all else that `fit` does, theirs with `weight_initialization` and `train`.

Both have one thread and a process to themselves, and compute in turn, one waiting while the other
works: `rounds` times for `seconds`, or for one step if that is longer. Printed are the lowest, the
median and the highest tenth of the milliseconds of a step, the ratios of the lowest, which other
programs disturb least, and of the medians, and the cores that other programs and the host kept busy
meanwhile.

python-som must not change the environment of this project. `python` names the interpreter of
another environment that has it; by default a temporary one is made, which needs a package index.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
OTHER = "python-som==0.8.0"
WARM_UP = 3  # rounds that do not count


class Work(NamedTuple):
    """Rows and features of the data, rows and columns of the map, and the epochs of a step."""

    rows: int
    features: int
    down: int
    along: int
    epochs: int


WORKS = [
    Work(690, 14, 10, 10, 1),
    Work(690, 14, 60, 60, 1),
    Work(4000, 50, 25, 15, 1),
    Work(16000, 300, 90, 70, 1),
    Work(690, 14, 10, 10, 100),
]


# --- the processes that compute -----------------------------------------------------------------


def compute(side: str, work: Work) -> None:
    """Compute for as many seconds as each line of input says; answer with the milliseconds of the
    steps, as JSON.
    """
    makers = {"ours": our_step, "theirs": their_step}
    if work.epochs > 1:
        makers = {"ours": our_training, "theirs": their_training}
    step = makers[side](work)
    print("ready", flush=True)
    for line in sys.stdin:
        times: list[float] = []
        while sum(times) < float(line) * 1e3:
            started = time.perf_counter()
            step()
            times.append((time.perf_counter() - started) * 1e3)
        print(json.dumps(times), flush=True)


def our_step(work: Work) -> Callable[[], None]:
    """An optimizer step of the som, as the learner takes it."""
    import torch

    from sextant import optimizers
    from sextant.families.som import SOM
    from sextant.kinds.tabular.encoder import Batch
    from sextant.learner import gradients

    torch.set_num_threads(1)
    torch.manual_seed(0)
    numbers = torch.rand(work.rows, work.features) * 4 - 2
    no_categories = torch.empty(work.rows, 0, dtype=torch.long)
    batch = Batch(numbers, no_categories, torch.full((work.rows,), -1))
    net = SOM(
        work.features, [], rows=work.down, cols=work.along, grid="rectangular", toroidal=False,
        neighborhood="gaussian", sigma=max(work.down, work.along) / 2, sigma_end=0.5, init="sample",
        update="batch",
    )  # fmt: skip
    net.initialise(batch)
    conf = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    optimizer = optimizers.build(conf, net.parameters())
    rows = net.prepare(batch)

    def step() -> None:
        optimizer.zero_grad()
        gradients(net, rows)
        optimizer.step()

    return step


def our_training(work: Work) -> Callable[[], None]:
    """A whole training of models/som on all rows of its data, which have the size of `work`."""
    import epochs

    from sextant import train

    train.quieten()
    warnings.filterwarnings("ignore")  # as in a pipeline, where they go to a log
    data = epochs.read("som", whole=True)
    assert data.train[0].shape == (work.rows, work.features)
    assert data.conf.schedule["max_epochs"] == work.epochs

    def training() -> None:
        epochs.fit(data)

    return training


def their_step(work: Work) -> Callable[[], None]:
    """An iteration of python-som."""
    import numpy as np

    python_som: Any = importlib.import_module("python_som")
    rows = np.random.default_rng(0).random((work.rows, work.features))
    som = python_som.SOM(
        x=work.down, y=work.along, input_len=work.features, random_seed=0,
        neighborhood_radius=max(work.down, work.along) / 2,
    )  # fmt: skip
    som.weight_initialization(mode="sample", data=rows)
    # `train` would also compute the quantization error each time.

    def step() -> None:
        som._train_batch(rows, 1, verbose=False)

    return step


def their_training(work: Work) -> Callable[[], None]:
    """A whole training of python-som, from the first codebook to the quantization error."""
    import numpy as np

    python_som: Any = importlib.import_module("python_som")
    rows = np.random.default_rng(0).random((work.rows, work.features))

    def training() -> None:
        som = python_som.SOM(
            x=work.down, y=work.along, input_len=work.features, random_seed=0,
            neighborhood_radius=max(work.down, work.along) / 2,
        )  # fmt: skip
        som.weight_initialization(mode="linear", data=rows)
        som.train(rows, n_iteration=work.epochs, mode="batch")

    return training


# --- the process that measures ------------------------------------------------------------------


class Worker:
    """A process of one side, which computes only while it is asked to."""

    def __init__(self, python: Path, side: str, work: Work):
        self.process = subprocess.Popen(
            [str(python), __file__, json.dumps([side, *work])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        self.answer()

    def answer(self) -> str:
        """A line of its output; ends this process if there is none."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a process of the comparison ended with code {self.process.wait()}")
        return line

    def times(self, seconds: float) -> list[float]:
        """Milliseconds of each step, of steps that take `seconds` together."""
        assert self.process.stdin
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        times: list[float] = json.loads(self.answer())
        return times

    def end(self) -> None:
        self.process.communicate()


def compare(work: Work, python: Path, rounds: int, seconds: float) -> str:
    """Measure both in turn; return the line of the table."""
    from _machine import busy_time

    ours = Worker(Path(sys.executable), "ours", work)
    theirs = Worker(python, "theirs", work)
    our_times: list[float] = []
    their_times: list[float] = []
    started, busy = time.perf_counter(), busy_time()
    for i in range(WARM_UP + rounds):
        our_round, their_round = ours.times(seconds), theirs.times(seconds)
        if i >= WARM_UP:
            our_times += our_round
            their_times += their_round
    used = (busy_time() - busy) / (time.perf_counter() - started)
    ours.end()
    theirs.end()
    lowest = min(our_times) / min(their_times)
    middle = median(our_times) / median(their_times)
    others = max(used - 1, 0.0)  # one of the two always computes
    return (
        f"| {work.rows} x {work.features}, {work.down} x {work.along}, {work.epochs}"
        f" | {spread(our_times)} | {spread(their_times)} | {lowest:.2f} | {middle:.2f}"
        f" | {others:.1f} |"
    )


def spread(times: list[float]) -> str:
    """The lowest, the median and the highest tenth."""
    return f"{min(times):.3f} / {median(times):.3f} / {quantiles(times, n=10)[-1]:.3f}"


def install(folder: Path) -> Path:
    """A new environment with python-som; its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", OTHER], check=True)
    return python


def main(argv: list[str]) -> None:
    """Measure and print the table."""
    from _machine import machine

    from sextant.errors import UsageError

    options = {"python": "", "rounds": "20", "seconds": "0.1"}
    for argument in argv:
        name, equals, value = argument.partition("=")
        if not equals or name not in options:
            raise UsageError(
                f"`{argument}` is not understood; expected python=, rounds= or seconds="
            )
        options[name] = value
    if not re.fullmatch("[1-9][0-9]*", options["rounds"]):
        raise UsageError(f"rounds={options['rounds']}: expected a whole number above 0")
    if not re.fullmatch(r"[0-9]*\.?[0-9]+", options["seconds"]):
        raise UsageError(f"seconds={options['seconds']}: expected a number")
    with tempfile.TemporaryDirectory() as folder:
        python = Path(options["python"]) if options["python"] else install(Path(folder))
        print(f"{machine()}; milliseconds of a step: lowest / median / highest tenth\n")
        print("| data, map, epochs of a step | ours | python-som | lowest | median | others |")
        print("|---|---|---|---|---|---|")
        for work in WORKS:
            line = compare(work, python, int(options["rounds"]), float(options["seconds"]))
            print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("["):
        side, *numbers = json.loads(sys.argv[1])
        compute(side, Work(*numbers))
    else:
        from sextant.errors import run

        run(main)
