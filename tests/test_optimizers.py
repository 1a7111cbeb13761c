"""The curves of the learning rate, and the arguments of the optimizers."""

import pytest
import torch

from sextant import optimizers
from sextant.errors import UsageError

REST = {
    "max_epochs": 7,
    "batch_size": 11,
    "monitor": "accuracy",
    "patience": 3,
    "clip": None,
    "ema": None,
}
SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.5}


def schedule(lr: str, warmup: float = 0.25) -> optimizers.Schedule:
    return optimizers.Schedule(lr=lr, warmup=warmup, threads=1, precision="float32", **REST)


@pytest.mark.parametrize(
    ("lr", "points"),
    [
        ("constant", {0: 0, 0.125: 0.5, 0.25: 1, 0.625: 1, 1: 1}),
        ("cosine", {0: 0, 0.125: 0.5, 0.25: 1, 0.625: 0.5, 1: 0}),
        ("one_cycle", {0: 0.04, 0.125: 0.52, 0.25: 1, 0.625: 0.5, 1: 0}),
    ],
)
def test_a_curve_passes_through_these_points(lr, points):
    factors = {progress: schedule(lr).factor(progress) for progress in points}
    assert factors == pytest.approx(points, abs=1e-12)


@pytest.mark.parametrize("lr", ["constant", "cosine", "one_cycle"])
def test_a_curve_rises_once_and_falls_once_without_a_jump(lr):
    values = [schedule(lr, warmup=0.3).factor(i / 1000) for i in range(1001)]
    top = values.index(max(values))
    assert max(values) == pytest.approx(1) and min(values) >= 0
    assert values[:top] == sorted(values[:top])
    assert values[top:] == sorted(values[top:], reverse=True)
    steps = [abs(b - a) for a, b in zip(values, values[1:], strict=False)]
    assert max(steps) < 0.006


@pytest.mark.parametrize("lr", ["constant", "cosine", "one_cycle"])
def test_without_a_warm_up_a_curve_begins_at_its_top(lr):
    assert schedule(lr, warmup=0).factor(0) == 1


@pytest.mark.parametrize("name", ["strawberry", None, ["sgd"]])
def test_an_unknown_optimizer_is_refused(name):
    with pytest.raises(UsageError, match=r"name is .*; expected one of: adamw, sgd"):
        optimizers.check({"name": name}, "conf")


def test_an_unknown_argument_is_refused():
    with pytest.raises(UsageError, match=r"unknown key `momentun`; did you mean `momentum`"):
        optimizers.check({**SGD, "momentun": 0.9}, "conf")


def test_the_arguments_in_conf_reach_the_optimizer():
    weight = torch.nn.Parameter(torch.ones(1))
    defaults = optimizers.build(SGD, [weight]).defaults
    assert (defaults["lr"], defaults["momentum"], defaults["weight_decay"]) == (0.1, 0.9, 0.5)
    assert defaults["nesterov"] is True
