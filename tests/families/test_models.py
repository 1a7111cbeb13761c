"""The contract of every model, on its own conf and a few rows of its data set's twin.

Discovered from conf/model/: a further model gets all of this for one conf and one line in params.yaml.
"""

import copy
import math
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import twins
import yaml
from torch import Tensor

from sextant import baselines, config, data, optimizers, plugins, prepare, saved_model, train
from sextant.errors import SextantError
from sextant.files import folder_digest

ROOT = Path(__file__).parents[2]
LISTED = yaml.safe_load((ROOT / "params.yaml").read_text())["models"]
CONFS = sorted(path.stem for path in (ROOT / "conf/model").glob("*.yaml"))
MODELS = [name for name in CONFS if name in LISTED]  # a conf without a line is switched off
# What a conf may also say and these do not, each a word or two of it: tried as the models themselves are.
VARIANTS = {
    "rbm": [["units=softmax", "chain=pcd"], ["units=ordinal"]],
    "sae": [
        ["tied=false", "refeed=0.1", "activation=selu"]
    ],  # mode item: tests/test_sae.py, on fewer users
}
CASES = [(name, words) for name in MODELS for words in ([], *VARIANTS.get(name, []))]
CHEAPER = {
    "images": ["dataset.columns.size=16"]
}  # by kind: what the laws do not need and would wait for


def test_every_model_of_params_yaml_is_found_here():
    assert MODELS and set(MODELS) == set(LISTED)


@pytest.mark.parametrize("family", plugins.options("models"))
def test_every_family_is_tried_by_some_model(family):
    tried = {line["family"] for line in LISTED.values()} | set(CONFS)
    assert family in tried, (
        f"models/{family}.py has no conf/model/{family}.yaml: add it, and its line in params.yaml"
    )


# --- a model and a few rows of its twin -------------------------------------------------------------------------------


def first(batch: Any, rows: slice) -> Any:
    return type(batch)(*(t[rows] for t in batch))


@pytest.fixture(
    scope="module", params=CASES, ids=[" ".join([name, *words]) for name, words in CASES]
)
def case(request, tmp_path_factory) -> SimpleNamespace:
    """A model at `budget: smoke`, and of its data set's twin 211 to train on and at most 97 to score: rows, windows of
    days, users or whatever a batch has along its first axis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name, words = request.param
        conf = config.model(name, ["budget=smoke", *(f"model.net.{word}" for word in words)])
    dataset = twins.conf_of(conf.dataset)
    dataset = twins.conf_of(conf.dataset, *CHEAPER.get(dataset.kind, []))
    torch.set_num_threads(1)  # two tests at once on two cores would wait for each other
    kind = plugins.module("data", dataset.kind)
    parts = prepare.prepare(
        kind.read(twins.raw(conf.dataset, tmp_path_factory), dataset.columns), dataset
    )
    encoder = kind.Encoder.fit(parts["train"], dataset.columns)
    return SimpleNamespace(
        conf=conf,
        kind=dataset.kind,
        columns=dataset.columns,
        task=plugins.module("tasks", conf.task),
        encoder=encoder,
        parts=parts,
        batch={
            part: first(encoder.encode(parts[part]), slice(n))
            for part, n in (("train", 211), ("val", 97))
        },
    )


def net_of(case: SimpleNamespace, seed: int = 3, **net: Any) -> Any:
    torch.manual_seed(seed)
    found = saved_model.build(case.conf.family, case.encoder.sizes, {**case.conf.net, **net})
    if hasattr(found, "initialise"):
        found.initialise(case.batch["train"])
    return found


@pytest.fixture
def net(case) -> Any:
    return net_of(case)


def weights(net: Any) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in net.state_dict().items()}


def parameters(net: Any) -> dict[str, Tensor]:
    """What an optimizer moves; running statistics are taken as the loss is computed."""
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- the net ----------------------------------------------------------------------------------------------------------


def test_batched_equals_one_by_one(case, net):
    together = saved_model.outputs(net, case.batch["val"])
    alone = [saved_model.outputs(net, first(case.batch["val"], slice(i, i + 1))) for i in range(13)]
    assert together
    for name, whole in together.items():
        torch.testing.assert_close(
            torch.cat([one[name] for one in alone]), whole[:13], rtol=1e-5, atol=1e-5
        )


def test_permuted_rows_have_permuted_answers(case, net):
    order = torch.randperm(len(case.batch["val"][0]))
    before, after = (
        saved_model.outputs(net, first(case.batch["val"], rows)) for rows in (slice(None), order)
    )
    for name in before:
        torch.testing.assert_close(after[name], before[name][order], rtol=1e-5, atol=1e-5)


def test_more_rows_than_are_answered_at_once(case, net, monkeypatch):
    whole = saved_model.outputs(net, case.batch["val"])
    monkeypatch.setattr(saved, "ROWS_AT_ONCE", 11)
    for name, pieces in saved_model.outputs(net, case.batch["val"]).items():
        torch.testing.assert_close(pieces, whole[name], rtol=1e-5, atol=1e-5)


def test_predict_draws_nothing_and_changes_nothing(case, net):
    def state() -> tuple[bytes, ...]:
        return (
            torch.get_rng_state().numpy().tobytes(),
            np.random.get_state()[1].tobytes(),
            repr(random.getstate()),
        )

    before, told = weights(net), state()
    one, other = (
        saved_model.outputs(net, case.batch["val"]),
        saved_model.outputs(net, case.batch["val"]),
    )
    assert state() == told
    assert same(one, other)
    assert same(weights(net), before)


@pytest.mark.parametrize("rows", [1, 7, 211])
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_the_loss_is_one_finite_number(case, net, rows, progress):
    net.progress = progress
    loss = net.loss(first(case.batch["train"], slice(rows)))
    assert loss.shape == () and torch.isfinite(loss) and loss.requires_grad


def test_progress_is_a_number_and_no_part_of_what_is_saved(case, net):
    assert isinstance(net.progress, float)
    assert not any("progress" in name for name in net.state_dict())


def test_every_parameter_gets_a_gradient(case, net):
    net.train().loss(case.batch["train"]).backward()
    missing = [
        name
        for name, p in net.named_parameters()
        if p.numel() and (p.grad is None or not p.grad.any())
    ]
    assert not missing, f"no gradient for {', '.join(missing)}"


def test_the_same_seed_makes_the_same_net(case):
    assert same(weights(net_of(case)), weights(net_of(case)))


def test_what_is_saved_is_all_there_is(case, net, tmp_path):
    """State outside the state_dict would show as other answers after reloading."""
    card = {
        "family": case.conf.family,
        "kind": case.kind,
        "task": case.conf.task,
        "net": case.conf.net,
        "columns": case.columns.model_dump(),
        "calibration": case.task.calibrate(
            saved_model.outputs(net, case.batch["val"]), case.batch["val"]
        ),
    }
    saved_model.save(tmp_path / "model", card, net, case.encoder)
    again, now = (
        saved_model.load(tmp_path / "model"),
        saved_model.SavedModel(card, net, case.encoder),
    )
    question = case.encoder.question(case.parts["val"])
    pd.testing.assert_frame_equal(again.predict(question), now.predict(question))
    saved_model.save(tmp_path / "again", card, again.net, again.encoder)
    assert folder_digest(tmp_path / "again") == folder_digest(tmp_path / "model")


def test_one_answer_a_row_in_the_form_of_the_baselines(case, net):
    rows = case.parts["val"]
    calibration = case.task.calibrate(
        saved_model.outputs(net, case.batch["val"]), case.batch["val"]
    )
    model = saved_model.SavedModel(
        {"task": case.conf.task, "calibration": calibration}, net, case.encoder
    )
    answers, fit = model.answer(rows), next(iter(baselines.of(case.conf.task).values()))
    theirs = plugins.call(
        fit, case.parts["train"], case.columns, encoder=case.encoder, net=case.conf.net
    )(rows)
    assert answers.columns.tolist() == theirs.columns.tolist()
    assert len(answers) == len(theirs) == len(data.scored(rows)) and not answers.isna().any().any()
    scores = model.score(model.answer(model.questions(rows)), rows)
    assert list(scores) == list(case.task.METRICS) and all(map(math.isfinite, scores.values()))
    sample = case.task.contributions(model.answer(model.questions(rows)), rows, case.encoder)
    assert sample.score(np.ones(len(sample.groups))) == pytest.approx(next(iter(scores.values())))


@pytest.mark.slow
def test_it_overfits_eight_rows(case):
    """The metric that picks the epoch nears its best on rows known by heart, which no net reaches that cannot learn."""
    net = net_of(case, **({"dropout": 0.0} if "dropout" in case.conf.net else {}))
    monitor, steps = case.conf.schedule["monitor"], 300

    def score(rows: Any) -> float:
        return case.task.watch(saved_model.outputs(net, rows), rows)[monitor]

    windows = [first(case.batch["train"], slice(i, i + 8)) for i in range(0, 200, 8)]
    rows = next(
        rows for rows in windows if math.isfinite(score(rows))
    )  # all of one class have no auroc, say
    before, optimizer = score(rows), optimizers.build(case.conf.optimizer, net.parameters())
    net.train()
    for step in range(steps):
        net.progress = step / steps
        optimizer.zero_grad()
        net.loss(rows).backward()
        optimizer.step()
    left = (
        score(rows) / before
        if case.task.METRICS[monitor] == "down"
        else (1 - score(rows)) / (1 - before)
    )
    assert left < 0.2


# --- its training -----------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """What stands for a kill."""


@pytest.fixture(autouse=True)
def chunks_of_five(monkeypatch) -> None:
    """16 steps an epoch are four chunks, the last of them not full."""
    monkeypatch.setattr(train, "CHUNK", 5)


def learner_of(
    case: SimpleNamespace,
    seed: int = 3,
    report: Callable = lambda row: None,
    lr: float | None = None,
    **schedule: Any,
) -> train.Learner:
    given = {**case.conf.schedule, "max_epochs": 5, "batch_size": 13, "patience": 5, **schedule}
    net = net_of(case, seed)
    if lr:  # so small that no weight changes: nor shall what a normalisation counts, which is none
        net.eval().train = lambda mode=True: net
    return train.Learner(
        net,
        case.batch["train"],
        case.batch["val"],
        case.task,
        {**case.conf.optimizer, **({"lr": lr} if lr else {})},
        optimizers.Schedule(**given),
        seed,
        report,
    )


def fit(
    case: SimpleNamespace, learner: train.Learner, folder: Path
) -> tuple[dict[str, Tensor], int]:
    train.quieten()
    direction = case.task.METRICS[learner.schedule.monitor]
    best, epoch = train.fit(
        learner, folder, case.conf.trainer, "max" if direction == "up" else "min"
    )
    return weights(best), epoch


@pytest.mark.slow
def test_the_same_seed_trains_the_same_bytes(case, tmp_path):
    found = {}
    for name, seed in (("one", 3), ("same", 3), ("other", 5)):
        learner = learner_of(case, seed, max_epochs=3)
        _, epoch = fit(case, learner, tmp_path / f"checkpoints {name}")
        saved_model.save(tmp_path / name, {"epoch": epoch}, learner.kept, case.encoder)
        found[name] = (tmp_path / name / saved_model.WEIGHTS).read_bytes(), learner.history
    assert found["one"] == found["same"]
    assert found["one"][0] != found["other"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "ema"), [("in the third epoch", None), ("at the end of the third epoch", 0.9)]
)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(case, tmp_path, ema, where):
    whole = learner_of(case, ema=ema)
    expected = fit(case, whole, tmp_path / "whole")

    def report(row: dict[str, float]) -> None:
        if where == "at the end of the third epoch" and row["epoch"] == 3:
            raise Interrupted

    broken = learner_of(case, report=report, ema=ema)
    if where == "in the third epoch":
        plain = broken.training_step

        def step(batch: Any, batch_idx: int) -> None:
            plain(batch, batch_idx)
            if (broken.current_epoch, batch_idx) == (2, 1):
                raise Interrupted

        broken.training_step = step  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        fit(case, broken, tmp_path / "broken")
    epochs: list[float] = []
    resumed = learner_of(case, report=lambda row: epochs.append(row["epoch"]), ema=ema)
    found = fit(case, resumed, tmp_path / "broken")
    assert epochs == [3, 4, 5]
    assert same(found[0], expected[0]) and found[1] == expected[1]
    assert resumed.history == whole.history


@pytest.mark.slow
def test_no_epoch_is_trained_twice_where_none_was_better(case, tmp_path):
    """A step that changes no weight: the best epoch is the first, and the last one is where it goes on."""

    def report(row: dict[str, float]) -> None:
        if row["epoch"] == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(case, learner_of(case, report=report, lr=1e-30), tmp_path)
    epochs: list[float] = []
    _, best = fit(
        case, learner_of(case, report=lambda row: epochs.append(row["epoch"]), lr=1e-30), tmp_path
    )
    assert (epochs, best) == ([4, 5], 1)


@pytest.mark.slow
def test_a_run_that_had_stopped_early_stays_stopped(case, tmp_path):
    stopped = learner_of(case, lr=1e-30, patience=2)
    expected = fit(case, stopped, tmp_path / "x")
    assert [row["epoch"] for row in stopped.history] == [1, 2, 3] and expected[1] == 1

    def report(row: dict[str, float]) -> None:
        raise AssertionError("it went on")

    resumed = learner_of(case, report=report, lr=1e-30, patience=2)
    found = fit(case, resumed, tmp_path / "x")
    assert same(found[0], expected[0]) and found[1] == 1
    assert resumed.history == stopped.history


def test_a_loss_that_is_no_number_stops_before_the_weights_change(case, tmp_path):
    learner = learner_of(case)
    net, before = learner.net, parameters(learner.net)
    plain = net.loss
    net.loss = lambda batch: plain(batch) * math.nan
    with pytest.raises(
        SextantError, match=r"the loss is nan in epoch 1; lower optimizer.lr, or set schedule.clip"
    ):
        fit(case, learner, tmp_path)
    assert same(parameters(net), before)


@pytest.mark.slow
def test_the_kept_epoch_is_the_best_on_val(case, tmp_path):
    learner = learner_of(case)
    kept, epoch = fit(case, learner, tmp_path)
    monitor = f"val/{learner.schedule.monitor}"
    pick = max if case.task.METRICS[learner.schedule.monitor] == "up" else min
    best = pick(learner.history, key=lambda row: row[monitor])
    assert epoch == best["epoch"]
    net = copy.deepcopy(learner.net)
    net.load_state_dict(kept)
    found = case.task.watch(saved_model.outputs(net, case.batch["val"]), case.batch["val"])
    assert found[learner.schedule.monitor] == pytest.approx(best[monitor], abs=1e-9)
