"""Let a net learn one small batch by heart: seconds that tell whether it can learn at all.

    sextant check model=ann budget=overfit

A net that cannot has a fault in its code, its loss or its learning rate, and no budget helps. The
optimizer is that of the conf, at its constant rate; there is no dropout, and nothing is written.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import config, files, learner, optimizers, paths, plugins, saved_model
from ..errors import SextantError

if TYPE_CHECKING:
    from .. import contracts

ROWS = 8
STEPS = 1000  # at most; most nets need the first hundred
LOOK = 100  # steps between two scores
LEFT = 0.5  # of the distance between the first score and the best possible one
# Families whose units keep the rows that they answer from.
FROM_ALL_ROWS = ("som_atlas",)
TRIES = 25  # batches; eight rows of one class have no area under a curve


@dataclass(frozen=True)
class Outcome:
    """A metric before and after; `left` is the share of its distance to the best that is left."""

    metric: str
    before: float
    after: float
    left: float
    steps: int


def overfit(conf: config.ModelConf) -> Outcome:
    """Train the net of a conf on the first rows of the prepared train part.

    Raises SextantError without prepared data, or if no batch has a score.
    """
    prepared = files.needed(paths.prepared(conf.dataset))
    profile = files.read_json(prepared / "profile.json")
    kind = plugins.kind(profile["kind"])
    task = plugins.task(conf.task)
    rows = kind.rows.load(prepared / "train")
    columns = task.roles(kind.columns.Columns(**profile["layout"]), rows, conf.net)
    encoder = kind.encoder.Encoder.fit(rows, columns)
    train = encoder.encode(rows)
    saved_model.limit_threads(optimizers.Schedule(**conf.schedule).threads)
    torch.manual_seed(learner.derived_seed(conf.seed, "initialise"))
    settings = {**conf.net, "dropout": 0.0} if "dropout" in conf.net else conf.net
    net = saved_model.build(conf.family, encoder.sizes, settings)
    initialise = plugins.optional(net, "initialise", None)
    if initialise:
        initialise(train)
    metric = str(conf.schedule["monitor"])
    best = _best(metric, str(task.metrics.METRICS[metric]))
    batch, before = _first_scored(net, task, train, metric)
    outcome = Outcome(metric, before, before, 1.0, 0)
    for steps in _learning(net, batch, conf):
        after = _score(net, task, batch, metric)
        outcome = Outcome(metric, before, after, (best - after) / (best - before), steps)
        if outcome.left < LEFT:
            break
    return outcome


def _first_scored(
    net: nn.Module, task: plugins.Task, train: "contracts.Batch", metric: str
) -> tuple["contracts.Batch", float]:
    """The first batch whose score before training is a number and can become better."""
    for start in range(0, TRIES * ROWS, ROWS):
        batch: contracts.Batch = plugins.take(train, slice(start, start + ROWS))
        score = _score(net, task, batch, metric)
        if math.isfinite(score) and score != _best(metric, str(task.metrics.METRICS[metric])):
            return batch, score
    raise SextantError(f"none of {TRIES} batches of {ROWS} rows has a {metric} to be improved")


def _score(net: nn.Module, task: plugins.Task, batch: "contracts.Batch", metric: str) -> float:
    outputs = saved_model.outputs(net, batch)
    scores: dict[str, float] = plugins.call(task.metrics.watch, outputs, batch, net=net)
    return scores[metric]


def _best(metric: str, direction: str) -> float:
    """The best possible value on the batch."""
    if metric == "log_likelihood":  # eight different rows have at best the probability 1/8 each
        return -math.log(ROWS)
    return 1.0 if direction == "up" else 0.0


def _learning(net: Any, batch: "contracts.Batch", conf: config.ModelConf) -> Iterator[int]:
    """Train on the batch; yield the number of steps done after every LOOK of them."""
    prepare = plugins.optional(net, "prepare", None)
    rows = prepare(batch) if prepare else batch
    param_groups = plugins.optional(net, "param_groups", net.parameters)
    optimizer = optimizers.build(conf.optimizer, param_groups())
    for step in range(STEPS):
        net.train()
        net.progress = step / STEPS
        optimizer.zero_grad()
        learner.gradients(net, rows)
        optimizer.step()
        if (step + 1) % LOOK == 0:
            yield step + 1


def main(name: str) -> None:
    """Print one line; raises SextantError if the batch is not learnt."""
    conf = config.model(name)
    if conf.family in FROM_ALL_ROWS:
        print(f"{name}: family {conf.family} answers from all rows of train, and learns no batch")
        return
    start = time.perf_counter()
    outcome = overfit(conf)
    seconds = time.perf_counter() - start
    text = (
        f"{name}: {ROWS} rows, {outcome.steps} steps, {seconds:.1f} s: {outcome.metric}"
        f" {outcome.before:.4g} -> {outcome.after:.4g}"
    )
    if not outcome.left < LEFT:  # also where it is no number
        raise SextantError(
            f"{text}; they are not learnt by heart, so look at `optimizer` and `net` in"
            f" {paths.model_conf(name)}, and at the loss of family {conf.family}"
        )
    print(f"{text}, learnt by heart")
