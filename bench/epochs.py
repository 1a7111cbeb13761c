"""An epoch in the loop against the same steps bare

    python bench/epochs.py [models=ann,cnn,rnn,som,rbm,sae] [pairs=3]

On the twins, with the conf of each model. In the loop: the whole fit (looks at val, checkpoints,
early stopping, Lightning), divided by its epochs. Bare: forward pass, backward pass, clipping,
optimizer step and running mean on the same batches in the same order, and nothing else. Both in
turn, in one process, with the threads of the conf; the table shows medians, and ratios of wall and
of CPU time.
"""

import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from _machine import busy_time, machine
from torch import Tensor, nn

from sextant import config, optimizers, plugins, prepare, pull, saved_model, train
from sextant.errors import UsageError, run
from sextant.learner import Learner, Rows, derived_seed, gradients

if TYPE_CHECKING:
    from sextant.contracts import Batch

# Bare steps are all alike, so an expensive model needs no whole training of them.
BARE_SECONDS = 5.0


class Data(NamedTuple):
    """A model's conf, the sizes for its net, and its rows as tensors."""

    conf: config.ModelConf
    sizes: Any
    train: "Batch"
    val: "Batch"


class Time(NamedTuple):
    """The time of one epoch, or of one training."""

    wall: float  # seconds
    cpu: float  # seconds


def read(name: str, whole: bool = False) -> Data:
    """The twin of a model's data set, encoded; with `whole`, every row of it is in train."""
    conf = config.model(name, ["budget=standard"])
    data = config.dataset(conf.dataset, ["source=embedded"])
    kind = plugins.kind(data.kind)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        pull.pull(data, raw)
        rows = kind.rows.read(raw, data.columns)
        parts = prepare.prepare(rows, data)
        all_rows = kind.rows.repair(rows, data.columns) if whole else parts["train"]
        columns = kind.columns.Columns(**data.columns.model_dump())
        encoder = kind.encoder.Encoder.fit(all_rows, columns)
        return Data(conf, encoder.sizes, encoder.encode(all_rows), encoder.encode(parts["val"]))


def make_learner(data: Data) -> Learner:
    """A new net and its learner, as train.py makes them."""
    conf = data.conf
    schedule = optimizers.Schedule(**conf.schedule)
    torch.set_num_threads(schedule.threads)
    torch.manual_seed(derived_seed(conf.seed, "initialise"))
    net = saved_model.build(conf.family, data.sizes, conf.net)
    initialise = plugins.optional(net, "initialise", None)
    if initialise:
        initialise(data.train)
    task = plugins.task(conf.task)
    return Learner(
        net, data.train, data.val, task, conf.optimizer, schedule, conf.seed, lambda row: None
    )


def timed(work: Callable[[], object]) -> Time:
    """The time of a call, and of this process and its threads meanwhile."""
    wall = time.perf_counter()
    cpu = time.process_time()
    work()
    return Time(time.perf_counter() - wall, time.process_time() - cpu)


def fit(data: Data) -> tuple[Time, int]:
    """A whole training in the loop: its time, and its epochs."""
    learner = make_learner(data)
    with tempfile.TemporaryDirectory() as folder:
        whole = timed(lambda: train.fit(learner, Path(folder), data.conf.trainer))
    return whole, int(learner.history[-1]["epoch"])


def bare(data: Data, at_most: int) -> tuple[Time, int]:
    """Bare steps for some epochs, `at_most` of them: their time, and how many there were."""
    learner = make_learner(data)
    optimizer = learner.configure_optimizers()
    step = bare_step(learner, optimizer, train.precision(learner.schedule, data.conf.trainer))
    rows = Rows(learner.train_rows)
    learner.net.train()
    epochs = 0

    def steps() -> None:
        nonlocal epochs
        started = time.perf_counter()
        while epochs < at_most and time.perf_counter() - started < BARE_SECONDS:
            learner.chunks.set_epoch(epochs // learner.chunks.epochs)
            learner.net.progress = epochs / learner.schedule.max_epochs
            for chunk, index in enumerate(learner.chunks):
                for batch in learner.steps(rows[index], chunk):
                    step(batch)
            epochs += learner.chunks.epochs

    return timed(steps), epochs


def bare_step(
    learner: Learner, optimizer: torch.optim.Optimizer, precision: str
) -> Callable[["Batch"], None]:
    """The arithmetic of an optimizer step, with the learner's nets."""
    schedule = learner.schedule
    parameters = list(learner.net.parameters())
    averaged = floats(learner.averaged)
    current = floats(learner.net)

    def step(batch: "Batch") -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            gradients(learner.net, batch)
        if schedule.clip:
            nn.utils.clip_grad_norm_(parameters, schedule.clip)
        optimizer.step()
        if schedule.ema:
            with torch.no_grad():
                torch._foreach_lerp_(averaged, current, 1 - schedule.ema)

    return step


def floats(net: nn.Module) -> list[Tensor]:
    """The weights and buffers of a net that a running mean has."""
    return [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]


def compare(name: str, pairs: int) -> str:
    """Measure the loop and the bare steps of a model in turn; return its line of the table."""
    data = read(name)
    loop, steps = [], []
    busy, started = busy_time() - time.process_time(), time.perf_counter()
    for _ in range(pairs):
        whole, epochs = fit(data)
        loop.append(Time(whole.wall / epochs, whole.cpu / epochs))
        some, bare_epochs = bare(data, epochs)
        steps.append(Time(some.wall / bare_epochs, some.cpu / bare_epochs))
    others = (busy_time() - time.process_time() - busy) / (time.perf_counter() - started)
    return f"| {name}, {epochs} epochs | {line(loop, steps)} | {max(others, 0.0):.1f} |"


def line(ours: list[Time], theirs: list[Time]) -> str:
    """Median milliseconds of both, and the ratios of the medians of wall and of CPU time."""
    wall = [median(run.wall for run in runs) for runs in (ours, theirs)]
    cpu = [median(run.cpu for run in runs) for runs in (ours, theirs)]
    times = f"{wall[0] * 1e3:.2f} | {wall[1] * 1e3:.2f}"
    return f"{times} | {wall[0] / wall[1]:.2f} | {cpu[0] / cpu[1]:.2f}"


def main(argv: list[str]) -> None:
    """Measure and print the table."""
    options = {"models": "", "pairs": "3"}
    for argument in argv:
        name, equals, value = argument.partition("=")
        if not equals or name not in options:
            raise UsageError(f"`{argument}` is not understood; expected models= or pairs=")
        options[name] = value
    if not re.fullmatch("[1-9]", options["pairs"]):
        raise UsageError(f"pairs={options['pairs']}: expected a number from 1 to 9")
    pairs = int(options["pairs"])
    names = options["models"].split(",") if options["models"] else list(config.params().models)
    train.quieten()
    warnings.filterwarnings("ignore")  # as in a pipeline, where they go to a log
    lines = []
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        lines.append(compare(name, pairs))
    print(f"\n{machine()}; {pairs} pairs; medians, milliseconds an epoch or a whole training\n")
    print("| training | loop | bare | ratio | CPU ratio | cores used by others |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    run(main)
