"""The contract of every model, on its own conf and some rows of its data set's twin.

Models are discovered from conf/model/, params.yaml and conf/shelf.yaml, so that a further model
gets all of these tests for one conf and one line.
"""

import copy
import functools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import listed
import numpy as np
import pandas as pd
import pytest
import torch
import twins
from conftest import ROOT
from torch import Tensor

from sextant import config, optimizers, plugins, prepare, saved_model
from sextant.errors import SextantError
from sextant.files import folder_digest
from sextant.kinds.parts import scored

if TYPE_CHECKING:
    from sextant.learner import Learner

CONFS = sorted(path.stem for path in (ROOT / "conf/model").glob("*.yaml"))
MODELS = [name for name in CONFS if name in listed.MODELS]  # a conf without a line is switched off
# Arguments that the confs could set and do not, tested like the confs themselves.
VARIANTS = {
    "rbm": [["units=softmax", "chain=pcd"], ["units=ordinal"]],
    # Mode item is tested in tests/families/test_sae.py, on fewer users.
    "sae": [["tied=false", "refeed=0.1", "activation=selu"]],
}
CHEAPER = {
    "images": ["dataset.columns.size=16"],
    "text": ["dataset.columns.chunk=64"],
    "clips": [f"dataset.columns.{key}" for key in ("past=3", "future=2", "files.room=1.7")],
}  # by kind, what takes time and no test needs
TRAIN_ROWS, VAL_ROWS = 211, 97  # at most; rows, windows of days, users: the first axis of a batch


def all_cases() -> list[tuple[str, list[str]]]:
    cases: list[tuple[str, list[str]]] = []
    for name in MODELS:
        cases.append((name, []))
        cases += [(name, overrides) for overrides in VARIANTS.get(name, [])]
    return cases


CASES = all_cases()


def test_every_listed_model_has_a_conf():
    assert MODELS and set(MODELS) == set(listed.MODELS)


def test_every_family_is_tested_by_a_model():
    tested = {line["family"] for line in listed.MODELS.values()} | set(CONFS)
    for family in plugins.names("families"):
        assert family in tested, (
            f"families/{family}.py has no conf/model/{family}.yaml:"
            " add it, and its line in params.yaml"
        )


# --- a model and some rows of its twin ----------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A model at `budget: smoke`, the parts of its twin, and their first rows as batches."""

    conf: config.ModelConf
    columns: Any
    encoder: Any
    parts: dict[str, pd.DataFrame]
    train: Any
    val: Any

    @property
    def task(self) -> plugins.Task:
        return plugins.task(self.conf.task)

    @property
    def monitor(self) -> str:
        """The metric that picks the epoch."""
        return self.conf.schedule["monitor"]

    @property
    def monitor_rises(self) -> bool:
        return self.task.metrics.METRICS[self.monitor] == "up"

    def card(self, net: torch.nn.Module) -> dict[str, Any]:
        """The card of a saved model, with the calibration of the net on val."""
        calibrate = self.task.metrics.calibrate
        return {
            "family": self.conf.family,
            "kind": self.conf.kind,
            "task": self.conf.task,
            "net": self.conf.net,
            "columns": self.columns.model_dump(),
            "calibration": calibrate(saved_model.outputs(net, self.val), self.val),
        }

    def model(self, net: torch.nn.Module) -> saved_model.SavedModel:
        return saved_model.SavedModel(self.card(net), net, self.encoder)


def take(batch: Any, rows: int) -> Any:
    """The first rows of a batch."""
    return plugins.take(batch, slice(rows))


Prepared = tuple[config.DatasetConf, dict[str, pd.DataFrame]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Callable[[str], Prepared]:
    """The conf of a data set, and the parts of its small twin; several cases share them."""

    @functools.cache
    def prepare_once(dataset: str) -> Prepared:
        kind = listed.DATASETS[dataset]
        conf = twins.conf_of(dataset, *CHEAPER.get(kind, []), small=True)
        raw = twins.raw(dataset, tmp_path_factory, small=True)
        return conf, prepare.prepare(plugins.kind(kind).rows.read(raw, conf.columns), conf)

    return prepare_once


CASE_PARAMS = []
for name, overrides in CASES:
    marks = [] if name in listed.FIRSTS and not overrides else [pytest.mark.slow]
    case_id = " ".join([name, *overrides])
    CASE_PARAMS.append(pytest.param((name, overrides), marks=marks, id=case_id))


# What a net learns, and what a training keeps, depends on the family and the task.
OF_EACH_PAIR = pytest.mark.parametrize(
    "case", [param for param in CASE_PARAMS if param.values[0][0] in listed.FIRSTS], indirect=True
)


@pytest.fixture(scope="module", params=CASE_PARAMS)
def case(request, prepared) -> Case:
    name, overrides = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        net_overrides = [f"model.net.{override}" for override in overrides]
        conf = config.model(name, ["budget=smoke", *net_overrides], shelf=True)
    torch.set_num_threads(1)  # two tests at once on two cores would wait for each other
    dataset, parts = prepared(conf.dataset)
    columns = plugins.task(conf.task).roles(dataset.columns, parts["train"], conf.net)
    encoder = plugins.kind(conf.kind).encoder.Encoder.fit(parts["train"], columns)
    train_batch = take(encoder.encode(parts["train"]), TRAIN_ROWS)
    val_batch = take(encoder.encode(parts["val"]), VAL_ROWS)
    return Case(conf, columns, encoder, parts, train_batch, val_batch)


def make_net(case: Case, seed: int = 3, **net: object) -> Any:
    torch.manual_seed(seed)
    made = saved_model.build(case.conf.family, case.encoder.sizes, {**case.conf.net, **net})
    initialise = plugins.optional(made, "initialise", None)
    if initialise:
        initialise(case.train)
    return made


@pytest.fixture
def net(case) -> Any:
    return make_net(case)


def watched(case: Case, net: Any, batch: Any) -> dict[str, float]:
    """The metrics of a look at a batch during training."""
    return plugins.call(case.task.metrics.watch, saved_model.outputs(net, batch), batch, net=net)


def copy_state(net: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def copy_parameters(net: Any) -> dict[str, Tensor]:
    """What an optimizer changes; computing the loss changes running statistics too."""
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def equal(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    if state.keys() != other.keys():
        return False
    return all(torch.equal(tensor, other[name]) for name, tensor in state.items())


# --- the net ------------------------------------------------------------------------------------


def test_predict_gives_the_declared_outputs(case, net):
    declared = plugins.outputs(type(net), case.conf.net)
    tensors = saved_model.outputs(net, case.val)
    assert set(case.task.metrics.OUTPUTS) <= set(tensors) <= set(declared)
    assert set(declared) <= set(type(net).OUTPUTS)
    assert all(len(tensor) == len(case.val[0]) for tensor in tensors.values())


def test_a_batch_is_predicted_like_its_rows_one_by_one(case, net):
    together = saved_model.outputs(net, case.val)
    alone = []
    for i in range(13):
        alone.append(saved_model.outputs(net, plugins.take(case.val, slice(i, i + 1))))
    for name, tensor in together.items():
        rows = torch.cat([outputs[name] for outputs in alone])
        torch.testing.assert_close(rows, tensor[:13], rtol=1e-5, atol=1e-5)


def test_permuted_rows_have_permuted_predictions(case, net):
    order = torch.randperm(len(case.val[0]))
    outputs = saved_model.outputs(net, case.val)
    permuted = saved_model.outputs(net, plugins.take(case.val, order))
    for name, tensor in outputs.items():
        torch.testing.assert_close(permuted[name], tensor[order], rtol=1e-5, atol=1e-5)


def test_more_rows_than_a_chunk_are_predicted_the_same(case, net, monkeypatch):
    outputs = saved_model.outputs(net, case.val)
    monkeypatch.setattr(saved_model, "CHUNK_ROWS", 11)
    for name, tensor in saved_model.outputs(net, case.val).items():
        torch.testing.assert_close(tensor, outputs[name], rtol=1e-5, atol=1e-5)


def test_predict_draws_nothing_and_changes_nothing(case, net):
    def random_state() -> tuple[bytes, bytes, str]:
        numpy_state = np.random.get_state()[1].tobytes()
        return torch.get_rng_state().numpy().tobytes(), numpy_state, repr(random.getstate())

    weights, state = copy_state(net), random_state()
    first, second = saved_model.outputs(net, case.val), saved_model.outputs(net, case.val)
    assert random_state() == state
    assert equal(first, second)
    assert equal(copy_state(net), weights)


def test_the_loss_is_a_finite_scalar(case, net):
    for rows, progress in ((1, 0.0), (7, 0.5), (211, 1.0)):
        net.progress = progress
        loss = net.loss(take(case.train, rows))
        assert loss.shape == () and torch.isfinite(loss) and loss.requires_grad, rows


def test_loss_and_outputs_are_the_loss_and_the_prediction(case, net):
    """A family that computes both at once gives, to the last bit, what it gives one by one."""
    loss_and_outputs = plugins.optional(net.eval(), "loss_and_outputs", None)
    if loss_and_outputs is None:
        pytest.skip("the family computes them one by one")
    for batch in (case.val, case.train):
        with torch.no_grad():
            torch.manual_seed(5)
            loss, outputs = loss_and_outputs(batch)
            torch.manual_seed(5)
            assert torch.equal(loss, net.loss(batch))
            assert equal(outputs, net.predict(batch))


def test_gradients_in_closed_form_of_prepared_rows_are_those_of_the_loss(case, net):
    gradients = plugins.optional(net, "gradients", None)
    if gradients is None:
        pytest.skip("the family has its gradients from autograd")
    prepare = plugins.optional(net, "prepare", None)
    loss = net.loss(case.train)
    loss.backward()
    expected = [parameter.grad for parameter in net.parameters()]
    net.zero_grad()
    closed_form = gradients(prepare(case.train) if prepare else case.train)
    assert torch.equal(closed_form, loss) and not closed_form.requires_grad
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_progress_is_a_float_that_is_not_saved(case, net):
    assert isinstance(net.progress, float)
    assert not any("progress" in name for name in net.state_dict())


def test_every_parameter_has_a_gradient(case, net):
    net.train().loss(case.train).backward()
    missing = []
    for name, parameter in net.named_parameters():
        if parameter.numel() and (parameter.grad is None or not parameter.grad.any()):
            missing.append(name)
    assert not missing, f"no gradient for {', '.join(missing)}"


def test_the_same_seed_makes_the_same_net(case):
    assert equal(copy_state(make_net(case)), copy_state(make_net(case)))


def test_a_saved_model_is_restored_completely(case, net, tmp_path):
    """State outside the state_dict would show as other answers after reloading."""
    saved_model.save(tmp_path / "model", case.card(net), net, case.encoder)
    loaded = saved_model.load(tmp_path / "model")
    inputs = case.encoder.inputs(case.parts["val"])
    pd.testing.assert_frame_equal(loaded.predict(inputs), case.model(net).predict(inputs))
    saved_model.save(tmp_path / "again", case.card(net), loaded.net, loaded.encoder)
    assert folder_digest(tmp_path / "again") == folder_digest(tmp_path / "model")


def test_answers_have_the_columns_of_the_baselines_and_one_row_per_scored_row(case, net):
    rows, model = case.parts["val"], case.model(net)
    fit = next(iter(case.task.baselines(case.conf.kind).values()))
    baseline = plugins.call(
        fit, case.parts["train"], case.columns, encoder=case.encoder, net=case.conf.net
    )
    answers, baseline_answers = model.answer(rows), baseline(rows)
    # A baseline may answer more, such as quantiles beside a net that answers an interval.
    shared = [name for name in baseline_answers if name in answers]
    assert answers.columns.tolist() == shared
    assert len(answers) == len(baseline_answers) == len(scored(rows))
    assert not answers.isna().any().any()


def test_scores_are_finite_and_bootstrap_samples_have_those_the_gate_may_compare(case, net):
    rows, model = case.parts["val"], case.model(net)
    answers = model.answer(model.inputs(rows))
    scores = model.score(answers, rows)
    measured = case.task.measured(plugins.outputs(type(net), case.conf.net))
    assert list(scores)[: len(measured)] == measured  # details may follow
    assert all(math.isfinite(score) for score in scores.values())
    contributions = case.task.metrics.contributions
    primary = contributions(answers, rows, case.encoder).observed
    for metric in case.task.directed:
        if metric in measured:
            sample = contributions(answers, rows, case.encoder, metric=metric)
            assert sample.observed == pytest.approx(scores[metric]), metric
            doubled = 2 * np.ones(len(sample.groups))  # each row drawn twice
            assert sample.score(doubled) == pytest.approx(scores[metric]), metric
    assert primary == pytest.approx(scores[case.task.primary[0]])


@OF_EACH_PAIR
@pytest.mark.slow
def test_the_net_overfits_eight_rows(case):
    """The monitored metric comes close to its best value, so the net is able to learn."""
    if case.conf.family == "som_atlas":
        pytest.skip("its units answer from the rows of `initialise`, not from the last eight")
    changes: dict[str, object] = {"dropout": 0.0} if "dropout" in case.conf.net else {}
    if case.conf.task == "frames":
        changes["hidden"] = [64]  # the 16 channels of smoke need some hundred steps more
    net, steps = make_net(case, **changes), 300
    several_days = case.conf.net.get("horizon", 1) > 1

    def score(batch: Any) -> float:
        if several_days:
            # The heavy tails of its likelihood leave a jump among forty targets as an outlier, so
            # that the mean stays away from 0.
            return (net.predict(batch)["location"] - batch.target).abs().median().item()
        return watched(case, net, batch)[case.monitor]

    for start in range(0, 200, 8):
        batch = plugins.take(case.train, slice(start, start + 8))
        if math.isfinite(score(batch)):  # eight rows of one class have no auroc
            break
    before, optimizer = score(batch), optimizers.build(case.conf.optimizer, net.parameters())
    net.train()
    for step in range(steps):
        net.progress = step / steps
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    if case.monitor_rises:
        # Eight different rows have at best the probability 1/8 each.
        best = -math.log(8) if case.monitor == "log_likelihood" else 1.0
        left = (best - score(batch)) / (best - before)
    else:
        left = score(batch) / before
    assert left < 0.2


# --- its training -------------------------------------------------------------------------------


class Interrupted(Exception):
    """Raised in place of a kill."""


@pytest.fixture(scope="module")
def short_chunks_and_checkpoints_of_each_epoch() -> Iterator[None]:
    """16 steps an epoch are four chunks, the last of them incomplete."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sextant.learner.CHUNK_STEPS", 5)
        patch.setattr("sextant.train.FIRST_CHECKPOINT_SECONDS", 0.0)
        patch.setattr("sextant.train.CHECKPOINT_SECONDS", 0.0)
        yield


# Only these tests import Lightning, which takes seconds.
TRAINS = pytest.mark.usefixtures("short_chunks_and_checkpoints_of_each_epoch")


def make_learner(
    case: Case,
    seed: int = 3,
    report: Callable[[dict[str, float]], None] = lambda row: None,
    lr: float | None = None,
    **schedule: object,
) -> "Learner":
    from sextant.learner import Learner

    settings = {"max_epochs": 5, "batch_size": 13, "patience": 5}
    optimizer = case.conf.optimizer
    net = make_net(case, seed)
    if lr:
        # So small that no weight changes. Running statistics of a normalisation must not change
        # either, so the net stays in evaluation mode.
        optimizer = {**optimizer, "lr": lr}
        net.eval().train = lambda mode=True: net
    return Learner(
        net,
        case.train,
        case.val,
        case.task,
        optimizer,
        optimizers.Schedule(**{**case.conf.schedule, **settings, **schedule}),
        seed,
        report,
    )


def fit(case: Case, learning: "Learner", folder: Path) -> tuple[dict[str, Tensor], int]:
    """Train; the state of the best net, and its epoch."""
    from sextant import train

    train.quieten()
    best, epoch = train.fit(learning, folder, case.conf.trainer)
    return copy_state(best), epoch


@pytest.fixture(scope="module")
def whole(
    case, short_chunks_and_checkpoints_of_each_epoch, tmp_path_factory
) -> tuple["Learner", dict[str, Tensor], int]:
    """A training without a break, the state of its best net, and its epoch; two tests share it."""
    learning = make_learner(case, ema=0.9)
    return learning, *fit(case, learning, tmp_path_factory.mktemp("whole"))


def interrupt_after(epoch: int) -> Callable[[dict[str, float]], None]:
    """A report that interrupts the training at the end of an epoch."""

    def report(row: dict[str, float]) -> None:
        if row["epoch"] == epoch:
            raise Interrupted

    return report


@TRAINS
@pytest.mark.slow
def test_the_same_seed_trains_the_same_bytes(case, tmp_path):
    def train_bytes(seed: int, name: str) -> tuple[bytes, list[dict[str, float]]]:
        learning = make_learner(case, seed, max_epochs=3)
        _, epoch = fit(case, learning, tmp_path / f"checkpoints {name}")
        saved_model.save(tmp_path / name, {"epoch": epoch}, learning.averaged, case.encoder)
        return (tmp_path / name / saved_model.WEIGHTS).read_bytes(), learning.history

    first = train_bytes(3, "first")
    assert train_bytes(3, "same seed") == first
    assert train_bytes(5, "other seed")[0] != first[0]


@TRAINS
@OF_EACH_PAIR
@pytest.mark.slow
def test_an_interrupted_training_ends_like_an_uninterrupted_one(case, whole, tmp_path):
    """Interrupted in the third epoch, and again at the end of the fourth."""
    uninterrupted, expected_state, expected_epoch = whole
    interrupted = make_learner(case, ema=0.9)
    training_step = interrupted.training_step

    def interrupting_step(batch: Any, batch_idx: int) -> None:
        training_step(batch, batch_idx)
        if (interrupted.current_epoch, batch_idx) == (2, 1):
            raise Interrupted

    interrupted.training_step = interrupting_step  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        fit(case, interrupted, tmp_path / "interrupted")
    with pytest.raises(Interrupted):
        again = make_learner(case, report=interrupt_after(4), ema=0.9)
        fit(case, again, tmp_path / "interrupted")
    assert [row["epoch"] for row in again.history] == [1, 2, 3, 4]
    epochs: list[float] = []
    resumed = make_learner(case, report=lambda row: epochs.append(row["epoch"]), ema=0.9)
    state, epoch = fit(case, resumed, tmp_path / "interrupted")
    assert epochs == [4, 5]
    assert equal(state, expected_state) and epoch == expected_epoch
    assert resumed.history == uninterrupted.history


@TRAINS
@OF_EACH_PAIR
@pytest.mark.slow
def test_a_resumed_training_repeats_no_epoch_after_the_best(case, tmp_path):
    """No step changes a weight: the best epoch is the first, and training goes on at the last."""
    settings = {"max_epochs": 3, "lr": 1e-30}
    with pytest.raises(Interrupted):
        fit(case, make_learner(case, report=interrupt_after(3), **settings), tmp_path)
    epochs: list[float] = []
    resumed = make_learner(case, report=lambda row: epochs.append(row["epoch"]), **settings)
    _, best = fit(case, resumed, tmp_path)
    assert (epochs, best) == ([3], 1)


@TRAINS
@OF_EACH_PAIR
@pytest.mark.slow
def test_a_training_that_had_stopped_early_stays_stopped(case, tmp_path):
    stopped = make_learner(case, lr=1e-30, patience=2)
    expected_state, expected_epoch = fit(case, stopped, tmp_path)
    assert [row["epoch"] for row in stopped.history] == [1, 2, 3] and expected_epoch == 1

    def report(row: dict[str, float]) -> None:
        raise AssertionError("training continued")

    resumed = make_learner(case, report=report, lr=1e-30, patience=2)
    state, epoch = fit(case, resumed, tmp_path)
    assert equal(state, expected_state) and epoch == 1
    assert resumed.history == stopped.history


@TRAINS
def test_a_loss_of_nan_stops_training_before_the_weights_change(case, tmp_path):
    learning = make_learner(case)
    net, before = learning.net, copy_parameters(learning.net)
    for name in ("loss", "gradients"):
        compute = plugins.optional(net, name, None)
        if compute:
            setattr(net, name, lambda batch, compute=compute: compute(batch) * math.nan)
    message = r"the loss is nan in epoch 1; lower optimizer.lr, or set schedule.clip"
    with pytest.raises(SextantError, match=message):
        fit(case, learning, tmp_path)
    assert equal(copy_parameters(net), before)


@TRAINS
@OF_EACH_PAIR
@pytest.mark.slow
def test_the_best_epoch_on_val_is_kept(case, whole):
    from sextant import train

    learning, state, epoch = whole
    pick = max if case.monitor_rises else min
    best = pick(learning.history, key=lambda row: row[f"val/{case.monitor}"])
    assert epoch == best["epoch"]
    net = copy.deepcopy(learning.net)
    net.load_state_dict(state)
    scores = watched(case, net, case.val)
    # Val is looked at with the precision of training, and `outputs` computes in float32.
    # Its rounding is relative: a number as target is some hundreds, and so are the outputs.
    half = train.precision(learning.schedule, case.conf.trainer) == "bf16-mixed"
    exact = pytest.approx(best[f"val/{case.monitor}"], rel=1e-6, abs=0.02 if half else 1e-9)
    assert scores[case.monitor] == exact
