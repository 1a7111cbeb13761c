"""The learner on paper: a net of one weight, each of whose steps can be written down."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sextant import config, optimizers
from sextant.errors import SextantError

if TYPE_CHECKING:
    from sextant.learner import Learner

CPU = config.Trainer(accelerator="cpu", devices=1)


class Batch(NamedTuple):
    x: Tensor


class Fall(nn.Module):
    """loss = w: a step of plain gradient descent at rate lr takes lr off the weight."""

    progress = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))
        self.seen: list[
            tuple[float, float, list[float]]
        ] = []  # progress, a random number, the rows of each step

    def loss(self, batch: Batch) -> Tensor:
        if self.training:
            self.seen.append((self.progress, torch.rand(1).item(), batch.x.tolist()))
        return self.w.sum()

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        return {"w": self.w.expand(len(batch.x))}


def task(direction: str = "down") -> Any:
    """A task whose one metric is the weight."""
    metrics = SimpleNamespace(
        METRICS={"w": direction}, watch=lambda outputs, batch: {"w": outputs["w"][0].item()}
    )
    return SimpleNamespace(metrics=metrics)


STEPS, EPOCHS = 5, 3  # 37 rows in batches of 7: two rows an epoch wait for another


def schedule(**changes: Any) -> optimizers.Schedule:
    plain = {
        "lr": "constant",
        "warmup": 0.0,
        "max_epochs": EPOCHS,
        "batch_size": 7,
        "monitor": "w",
        "patience": 3,
    }
    rest = {"clip": None, "ema": None, "threads": 1, "precision": "float32"}
    return optimizers.Schedule(**{**plain, **rest, **changes})


def learner(
    net: Any = None,
    rate: float = 1.0,
    seed: int = 3,
    tick: Any = abs,
    direction: str = "down",
    **changes: Any,
) -> "Learner":
    from sextant.learner import Learner

    rows, descent = (
        Batch(torch.arange(37.0)),
        {"name": "sgd", "lr": rate, "momentum": 0.0, "weight_decay": 0.0},
    )
    return Learner(
        net or Fall(),
        rows,
        rows,
        task(direction),
        descent,
        schedule(**changes),
        seed,
        lambda row: None,
        tick,
    )


def fitted(folder: Path, **changes: Any) -> "Learner":
    from sextant import train

    train.quieten()
    trained = learner(**changes)
    train.fit(trained, folder, CPU)
    return trained


@pytest.fixture(autouse=True)
def chunks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five steps an epoch are three chunks, the last of them of one step."""
    from sextant import learner as module

    monkeypatch.setattr(module, "CHUNK_STEPS", 2)


# --- the steps ----------------------------------------------------------------------------------


def test_progress_is_set_before_each_step(tmp_path):
    reported = [progress for progress, _, _ in fitted(tmp_path).net.seen]
    assert reported == pytest.approx(
        [(epoch + step / STEPS) / EPOCHS for epoch in range(EPOCHS) for step in range(STEPS)]
    )


@pytest.mark.parametrize(("lr", "warmup"), [("constant", 0.0), ("cosine", 0.0), ("cosine", 0.4)])
def test_every_step_has_the_rate_of_its_progress(tmp_path, lr, warmup):
    trained = fitted(tmp_path, rate=0.5, lr=lr, warmup=warmup)
    expected = -0.5 * sum(trained.schedule.factor(progress) for progress, _, _ in trained.net.seen)
    assert trained.history[-1]["val/w"] == pytest.approx(expected)


def test_the_order_of_rows_is_another_each_epoch_and_no_row_comes_twice(tmp_path):
    rows = [row for _, _, row in fitted(tmp_path).net.seen]
    epochs = [sum(rows[i : i + STEPS], []) for i in range(0, len(rows), STEPS)]
    assert all(len(set(epoch)) == len(epoch) == 35 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == EPOCHS


def test_what_a_net_draws_is_a_matter_of_seed_epoch_and_chunk(tmp_path):
    from sextant.learner import Learner, derived_seed

    def draws(trained: Learner) -> list[float]:
        return [drawn for _, drawn, _ in trained.net.seen]

    first, same, other = (
        draws(fitted(tmp_path / name, seed=seed)) for name, seed in (("a", 3), ("b", 3), ("c", 5))
    )
    assert first == same != other
    assert len(set(first)) == len(first)
    torch.manual_seed(derived_seed(3, 1, 2))  # the second epoch, its third chunk
    assert first[STEPS + 4] == torch.rand(1).item()


def test_a_gradient_is_clipped_to_its_norm(tmp_path):
    assert fitted(tmp_path, clip=0.25).history[-1]["val/w"] == pytest.approx(-0.25 * STEPS * EPOCHS)


def test_what_is_kept_is_the_running_mean_where_one_is_asked_for(tmp_path):
    mean = 0.0
    for step in range(1, STEPS * EPOCHS + 1):
        decay = min(
            0.8, step / (step + 9)
        )  # of the first weights next to nothing is left after a few steps
        mean = decay * mean + (1 - decay) * -step
    trained = fitted(tmp_path, ema=0.8)
    assert trained.history[-1]["val/w"] == pytest.approx(mean)
    assert (
        trained.averaged.w.item() == pytest.approx(mean) and trained.net.w.item() == -STEPS * EPOCHS
    )
    assert trained.averaged.progress == trained.net.progress


def test_counts_are_copied_and_not_averaged():
    class Counting(Fall):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.tensor(0))

    trained = learner(Counting(), ema=0.9)
    trained.net.steps += 7
    trained.on_train_start()
    trained._average(0.9)
    assert trained.averaged.steps == 7


def test_the_statistics_of_batch_normalisation_are_averaged_once_over_the_steps_of_the_weights(
    tmp_path,
):
    class Normalising(Fall):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(1)

        def loss(self, batch: Batch) -> Tensor:
            return super().loss(batch) + self.norm(batch.x[:, None]).sum()

    trained = fitted(tmp_path, net=Normalising(), ema=0.8)
    mean, variance = 0.0, 1.0
    for step, (_, _, rows) in enumerate(trained.net.seen, start=1):
        decay = min(0.8, step / (step + 9))
        mean = decay * mean + (1 - decay) * torch.tensor(rows).mean().item()
        variance = decay * variance + (1 - decay) * torch.tensor(rows).var().item()
    assert trained.averaged.norm.running_mean.item() == pytest.approx(mean)
    assert trained.averaged.norm.running_var.item() == pytest.approx(variance)
    assert trained.averaged.norm.momentum == 0.1  # as a user of the saved net expects


def test_a_model_of_two_halves_has_its_own_rates(tmp_path):
    class Halves(Fall):
        def __init__(self) -> None:
            super().__init__()
            self.slow = nn.Parameter(torch.zeros(1))

        def loss(self, batch: Batch) -> Tensor:
            return super().loss(batch) + self.slow.sum()

        def param_groups(self) -> list[dict[str, Any]]:
            return [{"params": [self.w]}, {"params": [self.slow], "lr": 0.1}]

    net = fitted(tmp_path, net=Halves()).net
    assert (net.w.item(), net.slow.item()) == pytest.approx((-15, -1.5))


def test_the_history_has_one_row_an_epoch_counted_from_one(tmp_path):
    history = fitted(tmp_path).history
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert list(history[0]) == ["epoch", "train/loss", "val/loss", "val/w"]
    assert [row["train/loss"] for row in history] == [
        -2,
        -7,
        -12,
    ]  # the mean of 0..4, of 5..9, of 10..14
    assert (
        [row["val/loss"] for row in history] == [row["val/w"] for row in history] == [-5, -10, -15]
    )


def test_validation_leaves_the_net_in_training(tmp_path):
    assert len(fitted(tmp_path).net.seen) == STEPS * EPOCHS  # which counts where `training` is true


@pytest.mark.parametrize(("direction", "kept"), [("down", 3), ("up", 1)])
def test_the_epoch_that_is_kept(tmp_path, direction, kept):
    from sextant import train

    train.quieten()
    net, epoch = train.fit(learner(direction=direction), tmp_path, CPU)
    assert (epoch, net.w.item()) == (kept, -5 * kept)


def test_training_stops_when_patience_ends(tmp_path):
    from sextant import train

    train.quieten()
    # w falls, so the first epoch is the best.
    trained = learner(direction="up", max_epochs=11, patience=2)
    _, epoch = train.fit(trained, tmp_path, CPU)
    assert (len(trained.history), epoch) == (3, 1)


# --- the rows -----------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.integers(1, 211),
    st.integers(1, 97),
    st.integers(0, 11),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_a_training_is_whole_batches_of_distinct_rows_an_epoch(
    rows, batch_size, seed, epochs, rounds
):
    from sextant.learner import Chunks

    chunks = Chunks(rows, batch_size, seed, epochs, 3)
    again = Chunks(rows, batch_size, seed, epochs, 3)
    size = min(batch_size, rows)
    if size == rows:
        assert list(chunks) == [slice(None)] * len(chunks)
        assert sum(chunks.steps_in(chunk) for chunk in range(len(chunks))) == epochs
        return
    steps = []
    for number in range(rounds):
        chunks.set_epoch(number)
        again.set_epoch(number)
        trained = list(chunks)
        assert len(trained) == len(chunks)
        for number_of_chunk, chunk in enumerate(trained):
            assert chunk.shape == (chunks.steps_in(number_of_chunk), size)
        assert max(map(len, trained)) <= 3
        assert all(map(torch.equal, trained, again))
        steps += torch.cat(trained).tolist()
    assert len(steps) == rounds * epochs * chunks.steps
    for start in range(0, len(steps), chunks.steps):
        indices = sum(steps[start : start + chunks.steps], [])
        assert len(set(indices)) == rows // size * size and set(indices) <= set(range(rows))


def test_a_batch_of_all_rows_is_the_same_in_each_step(tmp_path):
    """Six epochs in chunks of two steps: rounds of one epoch, because val has as many rows."""
    trained = fitted(tmp_path, batch_size=100, max_epochs=6, patience=6)
    assert [rows for _, _, rows in trained.net.seen] == [list(range(37))] * 6
    assert [row["train/loss"] for row in trained.history] == [0, -1, -2, -3, -4, -5]


class Prepared(NamedTuple):
    doubled: Tensor


class ClosedForm(Fall):
    """Reads rows that are computed once, and knows its gradient."""

    def prepare(self, batch: Batch) -> Prepared:
        return Prepared(2 * batch.x)

    def gradients(self, batch: Prepared) -> Tensor:
        self.seen.append((self.progress, 0.0, batch.doubled.tolist()))
        self.w.grad = torch.ones_like(self.w)
        return self.w.detach().sum()


def test_a_family_may_prepare_its_rows_and_set_its_gradients(tmp_path):
    trained, plain = fitted(tmp_path / "closed", net=ClosedForm()), fitted(tmp_path / "plain")
    assert trained.history == plain.history
    for (_, _, doubled), (_, _, rows) in zip(trained.net.seen, plain.net.seen, strict=True):
        assert doubled == [2 * row for row in rows]


def test_the_order_of_an_epoch_does_not_depend_on_the_rounds():
    from sextant.learner import Chunks

    orders = []
    for epochs in (1, 2, 6):
        chunks = Chunks(37, 7, 3, epochs, 4)
        steps = []
        for number in range(6 // epochs):
            chunks.set_epoch(number)
            steps.append(torch.cat(list(chunks)))
        orders.append(torch.cat(steps))
    assert torch.equal(orders[0], orders[1]) and torch.equal(orders[0], orders[2])


def test_an_iterator_made_before_it_knows_its_round_still_has_its_order():
    """On resume Lightning asks for the iterator first and says which round it is afterwards."""
    from sextant.learner import Chunks

    early, late = Chunks(37, 7, 3, 2, 4), Chunks(37, 7, 3, 2, 4)
    iterator = iter(early)
    for chunks in (early, late):
        chunks.set_epoch(5)
    assert all(map(torch.equal, iterator, late))


# --- the looks at val ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train_rows", "val_rows", "steps", "max_epochs", "expected"),
    [
        (6000, 1000, 46, 40, 1),  # a look costs 0.08 of the steps of an epoch
        (943, 908, 14, 40, 5),  # 0.48
        (943, 908, 14, 41, 1),  # 41 has no other divisor
        (943, 908, 14, 16, 2),  # more looks than their cost allows, for a curve
        (449, 110, 3, 48, 4),  # three steps an epoch
        (400, 80, 1, 100, 10),
        (400, 80, 1, 3, 1),
        (37, 37, 5, 1, 1),
    ],
)
def test_val_is_looked_at_as_often_as_the_counts_say(
    train_rows, val_rows, steps, max_epochs, expected
):
    from sextant import learner as module

    assert module.epochs_per_round(train_rows, val_rows, steps, max_epochs) == expected


def test_a_round_of_several_epochs_takes_the_steps_of_each_and_one_look(tmp_path):
    """18 epochs in rounds of two: 37 rows on val cost five times a tenth of an epoch's steps."""
    trained = fitted(tmp_path, max_epochs=18, patience=18)
    assert trained.chunks.epochs == 2
    assert [row["epoch"] for row in trained.history] == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert [row["val/w"] for row in trained.history] == [
        -5 * row["epoch"] for row in trained.history
    ]
    assert [progress for progress, _, _ in trained.net.seen] == pytest.approx(
        [step / (18 * STEPS) for step in range(18 * STEPS)]
    )


def test_patience_is_counted_in_epochs_whatever_the_rounds(tmp_path):
    trained = fitted(tmp_path, direction="up", max_epochs=18, patience=5)
    assert [row["epoch"] for row in trained.history] == [2, 4, 6, 8]  # 7 would be 5 after the best


class Interrupted(Exception):
    """Raised in place of a kill."""


def interrupted(number: int) -> Callable[[dict[str, float]], None]:
    """A report that interrupts the training at the end of an epoch."""

    def report(row: dict[str, float]) -> None:
        if row["epoch"] == number:
            raise Interrupted

    return report


@pytest.mark.parametrize(
    ("first", "between", "written"), [(0.0, 0.0, 2), (0.0, 3600.0, 1), (3600.0, 3600.0, 0)]
)
def test_a_resumed_training_ends_the_same_whenever_checkpoints_were_written(
    tmp_path, monkeypatch, first, between, written
):
    """After every round, after the first one alone, or at the end alone."""
    from sextant import train

    monkeypatch.setattr(train, "FIRST_CHECKPOINT_SECONDS", first)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", between)
    whole = fitted(tmp_path / "whole", max_epochs=18, patience=18, ema=0.9)
    for number in (6, 18):
        folder = tmp_path / str(number)
        stopped = learner(max_epochs=18, patience=18, ema=0.9)
        stopped.report = interrupted(number)
        with pytest.raises(Interrupted):
            train.fit(stopped, folder, CPU)
        assert len(train.checkpoints(folder)) == written
        resumed = fitted(folder, max_epochs=18, patience=18, ema=0.9)
        assert resumed.history == whole.history
        assert resumed.averaged.w.item() == whole.averaged.w.item()
        assert len(train.checkpoints(folder)) == (2 if written else 1)


def test_a_score_that_is_not_a_number_is_never_kept(tmp_path):
    class Broken(Fall):
        def predict(self, batch: Batch) -> dict[str, Tensor]:
            return {"w": self.w.expand(len(batch.x)) * torch.nan}

    with pytest.raises(SextantError, match="val/w is not a number in any epoch"):
        fitted(tmp_path, net=Broken())


def test_loss_and_outputs_of_a_family_come_from_one_pass(tmp_path):
    class OnePass(Fall):
        def loss(self, batch: Batch) -> Tensor:
            assert self.training
            return super().loss(batch)

        def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return 2 * self.w.sum(), self.predict(batch)

    history = fitted(tmp_path, net=OnePass()).history
    assert [row["val/loss"] for row in history] == [-10, -20, -30]


# --- rows and seeds -----------------------------------------------------------------------------


def test_rows_are_picked_by_chunks_of_steps():
    from sextant.learner import Rows

    rows = Rows(Batch(torch.arange(37.0) * 2))
    assert rows[torch.tensor([[0, 1, 2], [36, 3, 4]])].x.tolist() == [[0, 2, 4], [72, 6, 8]]


@given(st.lists(st.one_of(st.integers(), st.text("aé,1", max_size=3)), max_size=5))
def test_a_derived_seed_is_a_function_of_its_parts(parts):
    from sextant.learner import derived_seed

    seed = derived_seed(*parts)
    assert seed == derived_seed(*parts) and 0 <= seed < 2**63
    assert seed != derived_seed(*parts, 0)


def test_derived_seeds_do_not_meet():
    from sextant.learner import derived_seed

    seeds = {
        derived_seed(seed, epoch, chunk)
        for seed in range(5)
        for epoch in range(23)
        for chunk in range(11)
    }
    assert len(seeds) == 5 * 23 * 11


def test_each_step_tells_how_many_epochs_are_done(tmp_path):
    reported: list[float] = []
    fitted(tmp_path, tick=reported.append)
    assert reported == pytest.approx([step / STEPS for step in range(STEPS * EPOCHS)])
