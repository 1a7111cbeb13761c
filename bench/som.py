"""A step of the som against an epoch of python-som, on four sizes

    python bench/som.py [python=path] [rounds=20] [seconds=0.1]

An epoch of a som in batch is one optimizer step on all rows. Ours is what training does in it: loss,
gradient and optimizer step. Theirs is an iteration of `train` of python-som 0.8 in mode `batch`. Both have one thread and a process to themselves, and compute in
turn, one waiting while the other works: `rounds` times for `seconds`, or for one step if that is
longer. Printed are the lowest, the median and the highest tenth of the milliseconds that a step of
either takes, the ratios of the lowest, which other programs disturb least, and of the medians, and
the cores that other programs and the host kept busy meanwhile.

python-som must not change the environment of this project. `python` names the interpreter of
another environment that has it; by default a temporary one is made, which needs a package index.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

THREADS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
OTHER = "python-som==0.8.0"
WARM_UP = 3  # rounds that do not count


class Size(NamedTuple):
    """Rows and features of the data, rows and columns of the map."""

    rows: int
    features: int
    down: int
    along: int


SIZES = [
    Size(690, 14, 10, 10),
    Size(690, 14, 60, 60),
    Size(4000, 50, 25, 15),
    Size(16000, 300, 90, 70),
]


# --- the processes that compute -----------------------------------------------------------------


def work(side: str, size: Size) -> None:
    """Compute for as many seconds as each line of input says; answer with the times of the steps,
    in milliseconds, as JSON.
    """
    if side == "ours":
        step = our_step(size)
    else:
        step = their_step(size)
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        while sum(times) < float(line) * 1e3:
            started = time.perf_counter()
            step()
            times.append((time.perf_counter() - started) * 1e3)
        print(json.dumps(times), flush=True)


def our_step(size: Size) -> Callable[[], None]:
    """An optimizer step of the som, as the learner takes it."""
    import torch

    from sextant import optimizers
    from sextant.families.som import SOM
    from sextant.kinds.tabular.encoder import Batch
    from sextant.learner import gradients

    torch.set_num_threads(1)
    torch.manual_seed(0)
    numbers = torch.rand(size.rows, size.features) * 4 - 2
    no_categories = torch.empty(size.rows, 0, dtype=torch.long)
    batch = Batch(numbers, no_categories, torch.full((size.rows,), -1))
    net = SOM(
        size.features, [], rows=size.down, cols=size.along, grid="rectangular", toroidal=False,
        neighborhood="gaussian", sigma=max(size.down, size.along) / 2, sigma_end=0.5, init="sample",
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


def their_step(size: Size) -> Callable[[], None]:
    """An iteration of python-som."""
    import numpy as np
    import python_som

    rows = np.random.default_rng(0).random((size.rows, size.features))
    som = python_som.SOM(
        x=size.down, y=size.along, input_len=size.features, random_seed=0,
        neighborhood_radius=max(size.down, size.along) / 2,
    )  # fmt: skip
    som.weight_initialization(mode="sample", data=rows)
    # `train` would also compute the quantization error each time.
    return lambda: som._train_batch(rows, 1, verbose=False)


# --- the process that measures ------------------------------------------------------------------


class Worker:
    """A process of one side, which computes only while it is asked to."""

    def __init__(self, python: Path, side: str, size: Size):
        environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
        self.process = subprocess.Popen(
            [str(python), __file__, json.dumps([side, *size])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.answer()

    def answer(self) -> str:
        """A line of its output; ends this process if there is none."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a process of the comparison ended with code {self.process.wait()}")
        return line

    def compute(self, seconds: float) -> list[float]:
        """Milliseconds of each step, of steps that take `seconds` together."""
        assert self.process.stdin
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        times: list[float] = json.loads(self.answer())
        return times

    def end(self) -> None:
        self.process.communicate()


def compare(size: Size, python: Path, rounds: int, seconds: float) -> str:
    """Measure both in turn; return the line of the table."""
    from _machine import busy_time

    ours = Worker(Path(sys.executable), "ours", size)
    theirs = Worker(python, "theirs", size)
    our_times: list[float] = []
    their_times: list[float] = []
    started, busy = time.perf_counter(), busy_time()
    for i in range(WARM_UP + rounds):
        our_round, their_round = ours.compute(seconds), theirs.compute(seconds)
        if i >= WARM_UP:
            our_times += our_round
            their_times += their_round
    others = (busy_time() - busy) / (time.perf_counter() - started) - 1  # one of the two computes
    ours.end()
    theirs.end()
    lowest = min(our_times) / min(their_times)
    middle = median(our_times) / median(their_times)
    return (
        f"| {size.rows} x {size.features}, {size.down} x {size.along} | {spread(our_times)}"
        f" | {spread(their_times)} | {lowest:.2f} | {middle:.2f} | {max(others, 0.0):.1f} |"
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

    options = {"python": "", "rounds": "20", "seconds": "0.1"}
    for argument in argv:
        name, equals, value = argument.partition("=")
        if not equals or name not in options:
            sys.exit(f"`{argument}` is not understood; expected python=, rounds= or seconds=")
        options[name] = value
    if not re.fullmatch("[1-9][0-9]*", options["rounds"]):
        sys.exit(f"rounds={options['rounds']}: expected a whole number above 0")
    with tempfile.TemporaryDirectory() as folder:
        python = Path(options["python"]) if options["python"] else install(Path(folder))
        print(f"{machine()}; milliseconds a step: lowest / median / highest tenth\n")
        print("| data, map | ours | python-som | ratio of lowest | of medians | others |")
        print("|---|---|---|---|---|---|")
        for size in SIZES:
            print(compare(size, python, int(options["rounds"]), float(options["seconds"])))


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("["):
        side, *numbers = json.loads(sys.argv[1])
        work(side, Size(*numbers))
    else:
        main(sys.argv[1:])
