"""The curves of the learning rate, and the arguments of the optimizers."""

import cases
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

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


ARGUMENTS = {
    "adamw": {"lr": 0.1, "weight_decay": 0.0},
    "sgd": {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.0},
}


def test_every_optimizer_is_tried_here():
    assert set(ARGUMENTS) == set(optimizers.OPTIMIZERS)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_an_optimizer_finds_the_bottom(name):
    conf, x = {"name": name, **ARGUMENTS[name]}, nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizers.check(conf, "")
    optimizer = optimizers.build(conf, [x])
    for _ in range(199):
        optimizer.zero_grad()
        (x**2).sum().backward()
        optimizer.step()
    assert x.abs().max() < 0.05


def test_plain_descent_is_that_of_torch():
    steps = []
    for optimizer_class in (optimizers.Descent, torch.optim.SGD):
        x = nn.Parameter(torch.tensor([3.0, -2.0]))
        unused = nn.Parameter(torch.ones(1))
        groups = [{"params": [x], "lr": 0.3}, {"params": [unused]}]
        optimizer = optimizer_class(groups, lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (x**3).sum().backward()
            optimizer.step()
        steps.append(x.detach())
    assert torch.equal(steps[0], steps[1])
    plain = {"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    assert isinstance(optimizers.build(plain, [x]), optimizers.Descent)


@cases.each("name", optimizers.OPTIMIZERS)
@cases.each(
    ("change", "says"),
    [
        ({"name": "adam"}, "x.yaml optimizer: name is 'adam'; expected one of: adamw, sgd"),
        ({"lr": 0.0}, "`lr` is 0.0; input should be greater than 0"),
        (
            {"weight_decay": -1.0},
            "`weight_decay` is -1.0; input should be greater than or equal to 0",
        ),
        ({"wieght_decay": 1.0}, "unknown key `wieght_decay`; did you mean `weight_decay`"),
        ({"params": []}, "unknown key `params`"),
    ],
)
def test_a_fault_in_an_optimizers_conf(name, change, says):
    with pytest.raises(UsageError, match=says):
        optimizers.check({"name": name, **ARGUMENTS[name], **change}, "x.yaml optimizer")


unit = st.floats(0, 1)


@given(unit, unit, st.sampled_from(["constant", "cosine"]), st.floats(0, 0.9))
def test_the_rate_rises_to_its_maximum_and_never_rises_again(one, other, lr, warmup):
    curve = schedule(lr, warmup)
    early, late = sorted((one, other))
    assert 0 <= curve.factor(early) <= 1
    if late < warmup:
        assert curve.factor(early) <= curve.factor(late)
    elif early >= warmup:
        assert curve.factor(early) >= curve.factor(late)


@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_the_schedule_on_paper(warmup):
    cosine, constant = (schedule(lr, warmup) for lr in ("cosine", "constant"))
    middle = warmup + (1 - warmup) / 2
    assert [cosine.factor(p) for p in (warmup, middle, 1.0)] == pytest.approx(
        [1, 0.5, 0], abs=1e-12
    )
    assert [constant.factor(p) for p in (warmup, middle, 1.0)] == [1, 1, 1]
    if warmup:
        assert cosine.factor(0.0) == 0 and cosine.factor(0.1) == pytest.approx(0.5)
