"""The schedule's curves, and conf held to the optimizers' arguments."""

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


def schedule(lr: str, warmup: float = 0.25) -> optimizers.Schedule:
    return optimizers.Schedule(lr=lr, warmup=warmup, threads=1, precision="float32", **REST)


@pytest.mark.parametrize(
    ("lr", "at"),
    [
        ("constant", {0: 0, 0.125: 0.5, 0.25: 1, 0.625: 1, 1: 1}),
        ("cosine", {0: 0, 0.125: 0.5, 0.25: 1, 0.625: 0.5, 1: 0}),
        ("one_cycle", {0: 0.04, 0.125: 0.52, 0.25: 1, 0.625: 0.5, 1: 0}),
    ],
)
def test_a_curve_goes_through_these_points(lr, at):
    assert {
        progress: pytest.approx(schedule(lr).factor(progress), abs=1e-12) for progress in at
    } == at


@pytest.mark.parametrize("lr", ["constant", "cosine", "one_cycle"])
def test_every_curve_rises_once_and_falls_once_without_a_jump(lr):
    values = [schedule(lr, warmup=0.3).factor(i / 1000) for i in range(1001)]
    top = values.index(max(values))
    assert max(values) == pytest.approx(1) and min(values) >= 0
    assert values[:top] == sorted(values[:top]) and values[top:] == sorted(
        values[top:], reverse=True
    )
    assert max(abs(b - a) for a, b in zip(values, values[1:], strict=False)) < 0.006


@pytest.mark.parametrize("lr", ["constant", "cosine", "one_cycle"])
def test_without_a_warm_up_a_curve_begins_at_its_top(lr):
    assert schedule(lr, warmup=0).factor(0) == 1


def test_an_unknown_optimizer_or_argument_is_refused_by_name():
    with pytest.raises(UsageError, match=r"name is 'strawberry'; expected one of: adamw, sgd"):
        optimizers.check({"name": "strawberry"}, "conf")
    with pytest.raises(UsageError, match=r"unknown key `momentun`; did you mean `momentum`"):
        optimizers.check(
            {"name": "sgd", "lr": 0.1, "momentun": 0.9, "momentum": 0.9, "weight_decay": 0.0},
            "conf",
        )


def test_conf_reaches_the_optimizer():
    weight = torch.nn.Parameter(torch.ones(1))
    built = optimizers.build(
        {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.5}, [weight]
    )
    assert [built.defaults[key] for key in ("lr", "momentum", "weight_decay", "nesterov")] == [
        0.1,
        0.9,
        0.5,
        True,
    ]
