"""Optimizers and the schedule of a training, the same for every family; conf names them and their arguments."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from . import strict
from .errors import UsageError
from .strict import Strict

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def adamw(
    params: Iterable[Any], *, lr: Positive, weight_decay: NotNegative
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); fused, since small steps are bound by overhead."""
    return torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay, fused=True)


def sgd(
    params: Iterable[Any],
    *,
    lr: Positive,
    momentum: Annotated[float, Field(ge=0, lt=1)],
    weight_decay: NotNegative,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent; Nesterov's where there is momentum."""
    return torch.optim.SGD(
        params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0
    )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adamw": adamw, "sgd": sgd}


def check(conf: Mapping[str, Any], where: str) -> None:
    """Raise UsageError unless `conf` is `{name: <one of OPTIMIZERS>, ...its arguments}`."""
    if conf.get("name") not in OPTIMIZERS:
        raise UsageError(
            f"{where}: name is {conf.get('name')!r}; expected one of: {', '.join(OPTIMIZERS)}"
        )
    arguments = {key: value for key, value in conf.items() if key != "name"}
    strict.check(strict.signature_model(OPTIMIZERS[conf["name"]]), arguments, where)


def build(conf: Mapping[str, Any], params: Iterable[Any]) -> torch.optim.Optimizer:
    """The optimizer that `conf` names."""
    arguments = {key: value for key, value in conf.items() if key != "name"}
    return OPTIMIZERS[conf["name"]](params, **arguments)


class Schedule(Strict):
    """How long training runs, how its learning rate goes, and in what it is computed.

    `monitor` is the metric on val that picks the epoch to keep; training stops `patience` epochs after the best.
    `clip` bounds the gradient's norm (null: not at all). `ema` is the decay per step of the weights' running mean,
    which is then what val scores and what is kept (null: the weights themselves). `threads` and `precision` change the
    last bits of the result, so they stand here and not with the hardware; bfloat16 is taken where the hardware has it.
    """

    lr: Literal["constant", "cosine", "one_cycle"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    max_epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    monitor: str
    patience: Annotated[int, Field(ge=1)]
    clip: Positive | None
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    threads: Annotated[int, Field(ge=1)]
    precision: Literal["float32", "bfloat16"]

    def factor(self, progress: float) -> float:
        """The share of the learning rate at `progress` in 0..1: a linear warm-up, then constant or half a cosine.

        one_cycle warms up by half a cosine as well, from 1/25 (Smith and Topin, "Super-Convergence", 2018).
        """
        if progress < self.warmup:
            rising = progress / self.warmup
            return 1 - (1 - 1 / 25) * _falling(rising) if self.lr == "one_cycle" else rising
        return (
            1.0 if self.lr == "constant" else _falling((progress - self.warmup) / (1 - self.warmup))
        )


def _falling(done: float) -> float:
    """Half a cosine from 1 down to 0."""
    return 0.5 * (1 + math.cos(math.pi * done))
