"""Optimizers and the schedule of a training, shared by all families; conf gives their arguments."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch.optim.optimizer import ParamsT

from . import strict
from .config import Decide
from .errors import UsageError
from .strict import Strict

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
MAX_THREADS = (
    256  # for each, OpenMP reserves memory before the first step, and ends the process without it
)


def adamw(params: ParamsT, *, lr: Positive, weight_decay: NotNegative) -> torch.optim.Optimizer:
    """Return Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019).

    It is the fused version, because the nets are small and a step is mostly overhead.
    """
    return torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay, fused=True)


def sgd(
    params: ParamsT,
    *,
    lr: Positive,
    momentum: Annotated[float, Field(ge=0, lt=1)],
    weight_decay: NotNegative,
) -> torch.optim.Optimizer:
    """Return stochastic gradient descent, with Nesterov's momentum if `momentum` is above 0."""
    if momentum == 0 and weight_decay == 0:
        return Descent(params, lr=lr)
    return torch.optim.SGD(
        params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0
    )


class Descent(torch.optim.SGD):
    """w <- w - lr g, as torch.optim.SGD computes it without momentum and weight decay.

    The hooks and checks of torch.optim take 60 us a step, as long as the arithmetic of a small map.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.add_(weight.grad, alpha=-group["lr"])

    # torch.optim wraps the method of a class without this mark in its hooks for profilers.
    step.hooked = True  # type: ignore[attr-defined]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adamw": adamw, "sgd": sgd}


def check(conf: Mapping[str, object], where: str) -> None:
    """Raise UsageError unless `conf` is `{name: <a key of OPTIMIZERS>, ...its arguments}`."""
    name = conf.get("name")
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise UsageError(f"{where}: name is {name!r}; expected one of: {', '.join(OPTIMIZERS)}")
    strict.check(strict.signature_model(OPTIMIZERS[name]), _arguments(conf), where)


def build(conf: Mapping[str, object], params: ParamsT) -> torch.optim.Optimizer:
    """Return the optimizer that `conf` names, for `params`; `conf` has passed `check`."""
    return OPTIMIZERS[str(conf["name"])](params, **_arguments(conf))


def _arguments(conf: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in conf.items() if key != "name"}


class Schedule(Strict):
    """How long a training runs, how its learning rate changes, and at which precision it computes.

    `monitor` is the metric on val that chooses the epoch to keep; training stops after `patience`
    epochs without a better one. `clip` bounds the norm of the gradient (null: no bound). `ema` is
    the decay per step of a running mean of the weights, which is then validated and kept in their
    place (null: no running mean). `warmup` is the share of the training before the full learning
    rate. `threads` and `precision` change the last digits of the result, so they belong here and
    not to the hardware in conf/trainer.yaml; bfloat16 is used only if the hardware supports it.
    `decide` says from which probability on a classifier predicts the positive class; null: the most
    probable class is predicted. It stands here because val chooses it at the end of a training, and
    because DVC cannot track a key outside of a block that most confs leave out.
    """

    lr: Literal["constant", "cosine", "one_cycle"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    max_epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    monitor: str
    patience: Annotated[int, Field(ge=1)]
    clip: Positive | None
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    threads: Annotated[int, Field(ge=1, le=MAX_THREADS)]
    precision: Literal["float32", "bfloat16"]
    decide: Decide | None = None

    def factor(self, progress: float) -> float:
        """Return the share of the full learning rate at `progress`, in 0..1, of the training.

        A linear warm-up is followed by a constant rate or by half a cosine down to 0. one_cycle
        warms up along half a cosine too, from 1/25 (Smith and Topin, "Super-Convergence", 2018).
        """
        if progress < self.warmup:
            rising = progress / self.warmup
            if self.lr == "one_cycle":
                # 1/25 is the default of PyTorch's OneCycleLR.
                return 1 - (1 - 1 / 25) * _half_cosine(rising)
            return rising
        if self.lr == "constant":
            return 1.0
        return _half_cosine((progress - self.warmup) / (1 - self.warmup))


def _half_cosine(progress: float) -> float:
    """Half a cosine, from 1 at 0 down to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))
