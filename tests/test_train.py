"""The training loop on paper: a net of one weight whose every step can be written down, and the pieces around it."""

import csv
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sextant import config, optimizers, prepare, plugins, saved_model, train
from sextant.errors import SextantError, UsageError
from sextant.files import folder_digest, write_json

ROOT = Path(__file__).parents[1]
MODEL = next(iter(yaml.safe_load((ROOT / "params.yaml").read_text())["models"]))
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


TASK = SimpleNamespace(
    METRICS={"w": "down"}, watch=lambda outputs, batch: {"w": outputs["w"][0].item()}
)
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
    net: Any = None, rate: float = 1.0, seed: int = 3, tick: Any = abs, **changes: Any
) -> train.Learner:
    rows, descent = (
        Batch(torch.arange(37.0)),
        {"name": "sgd", "lr": rate, "momentum": 0.0, "weight_decay": 0.0},
    )
    return train.Learner(
        net or Fall(), rows, rows, TASK, descent, schedule(**changes), seed, lambda row: None, tick
    )


def fitted(folder: Path, **changes: Any) -> train.Learner:
    train.quieten()
    found = learner(**changes)
    train.fit(found, folder, CPU, "min")
    return found


@pytest.fixture(autouse=True)
def chunks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five steps an epoch are three chunks, the last of them of one step."""
    monkeypatch.setattr(train, "CHUNK", 2)


# --- the steps --------------------------------------------------------------------------------------------------------


def test_progress_is_told_before_each_step(tmp_path):
    told = [progress for progress, _, _ in fitted(tmp_path).net.seen]
    assert told == pytest.approx(
        [(epoch + step / STEPS) / EPOCHS for epoch in range(EPOCHS) for step in range(STEPS)]
    )


@pytest.mark.parametrize(("lr", "warmup"), [("constant", 0.0), ("cosine", 0.0), ("cosine", 0.4)])
def test_every_step_has_the_rate_of_its_progress(tmp_path, lr, warmup):
    found = fitted(tmp_path, rate=0.5, lr=lr, warmup=warmup)
    expected = -0.5 * sum(found.schedule.factor(progress) for progress, _, _ in found.net.seen)
    assert found.history[-1]["val/w"] == pytest.approx(expected)


def test_the_order_of_rows_is_another_each_epoch_and_no_row_comes_twice(tmp_path):
    rows = [row for _, _, row in fitted(tmp_path).net.seen]
    epochs = [sum(rows[i : i + STEPS], []) for i in range(0, len(rows), STEPS)]
    assert all(len(set(epoch)) == len(epoch) == 35 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == EPOCHS


def test_what_a_net_draws_is_a_matter_of_seed_epoch_and_chunk(tmp_path):
    def draws(found: train.Learner) -> list[float]:
        return [drawn for _, drawn, _ in found.net.seen]

    one, same, other = (
        draws(fitted(tmp_path / name, seed=seed)) for name, seed in (("a", 3), ("b", 3), ("c", 5))
    )
    assert one == same != other
    assert len(set(one)) == len(one)
    torch.manual_seed(train.derived_seed(3, 1, 2))  # the second epoch, its third chunk
    assert one[STEPS + 4] == torch.rand(1).item()


def test_a_gradient_is_clipped_to_its_norm(tmp_path):
    assert fitted(tmp_path, clip=0.25).history[-1]["val/w"] == pytest.approx(-0.25 * STEPS * EPOCHS)


def test_what_is_kept_is_the_running_mean_where_one_is_asked_for(tmp_path):
    mean = 0.0
    for step in range(1, STEPS * EPOCHS + 1):
        decay = min(
            0.8, step / (step + 9)
        )  # of the first weights next to nothing is left after a few steps
        mean = decay * mean + (1 - decay) * -step
    found = fitted(tmp_path, ema=0.8)
    assert found.history[-1]["val/w"] == pytest.approx(mean)
    assert found.kept.w.item() == pytest.approx(mean) and found.net.w.item() == -STEPS * EPOCHS
    assert found.kept.progress == found.net.progress


def test_counts_are_copied_and_not_averaged():
    class Counting(Fall):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.tensor(0))

    found = learner(Counting(), ema=0.9)
    found.net.steps += 7
    found._average(0.9)
    assert found.kept.steps == 7


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


@pytest.mark.parametrize(("mode", "kept"), [("min", 3), ("max", 1)])
def test_the_epoch_that_is_kept(tmp_path, mode, kept):
    train.quieten()
    net, epoch = train.fit(learner(), tmp_path, CPU, mode)
    assert (epoch, net.w.item()) == (kept, -5 * kept)


def test_training_stops_when_patience_ends(tmp_path):
    train.quieten()
    found = learner(max_epochs=11, patience=2)
    _, epoch = train.fit(found, tmp_path, CPU, "max")  # w falls, so the first epoch is the best
    assert (len(found.history), epoch) == (3, 1)


# --- the rows ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 211), st.integers(1, 97), st.integers(0, 11), st.integers(0, 5))
def test_an_epoch_is_whole_batches_of_distinct_rows(rows, batch_size, seed, epoch):
    chunks = train.Chunks(rows, batch_size, seed)
    chunks.set_epoch(epoch)
    found = list(chunks)
    size = min(batch_size, rows)
    assert len(found) == len(chunks)
    assert all(chunk.shape[1] == size and 1 <= len(chunk) <= train.CHUNK for chunk in found)
    indices = torch.cat(found).flatten().tolist()
    assert len(indices) == rows // size * size
    assert len(set(indices)) == len(indices) and set(indices) <= set(range(rows))
    again = train.Chunks(rows, batch_size, seed)
    again.set_epoch(epoch)
    assert all(map(torch.equal, found, again))


def test_an_iterator_made_before_it_knows_its_epoch_still_has_its_order():
    """On resume Lightning asks for the iterator first and says which epoch it is afterwards."""
    early, late = train.Chunks(37, 7, 3), train.Chunks(37, 7, 3)
    iterator = iter(early)
    for chunks in (early, late):
        chunks.set_epoch(5)
    assert all(map(torch.equal, iterator, late))


def test_rows_are_picked_by_chunks_of_steps():
    rows = train.Rows(Batch(torch.arange(37.0) * 2))
    assert rows[torch.tensor([[0, 1, 2], [36, 3, 4]])].x.tolist() == [[0, 2, 4], [72, 6, 8]]


@given(st.lists(st.one_of(st.integers(), st.text(max_size=3)), max_size=5))
def test_a_derived_seed_is_a_function_of_its_parts(parts):
    seed = train.derived_seed(*parts)
    assert seed == train.derived_seed(*parts) and 0 <= seed < 2**63
    assert seed != train.derived_seed(*parts, 0)


def test_derived_seeds_do_not_meet():
    seeds = {
        train.derived_seed(seed, epoch, chunk)
        for seed in range(5)
        for epoch in range(23)
        for chunk in range(11)
    }
    assert len(seeds) == 5 * 23 * 11


# --- optimizers and schedules -----------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
@pytest.mark.parametrize(
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
def test_the_rate_rises_to_all_of_it_and_never_rises_again(one, other, lr, warmup):
    found, (early, late) = schedule(lr=lr, warmup=warmup), sorted((one, other))
    assert 0 <= found.factor(early) <= 1
    if late < warmup:
        assert found.factor(early) <= found.factor(late)
    elif early >= warmup:
        assert found.factor(early) >= found.factor(late)


@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_the_schedule_on_paper(warmup):
    cosine, constant = (schedule(lr=lr, warmup=warmup) for lr in ("cosine", "constant"))
    middle = warmup + (1 - warmup) / 2
    assert [cosine.factor(p) for p in (warmup, middle, 1.0)] == pytest.approx(
        [1, 0.5, 0], abs=1e-12
    )
    assert [constant.factor(p) for p in (warmup, middle, 1.0)] == [1, 1, 1]
    if warmup:
        assert cosine.factor(0.0) == 0 and cosine.factor(0.1) == pytest.approx(0.5)


# --- around the loop --------------------------------------------------------------------------------------------------


def test_a_second_training_of_the_same_names_the_first(tmp_path):
    folder = tmp_path / "digest"
    with train.held(folder):
        with pytest.raises(
            SextantError,
            match=f"process {os.getpid()} is training this already .*; wait for it, or stop",
        ):
            with train.held(folder):
                raise AssertionError("both hold it")
        assert (folder / "lock").read_text() == str(os.getpid())  # the second one wrote nothing
    assert not folder.exists()


def test_checkpoints_stay_where_a_training_failed(tmp_path):
    folder = tmp_path / "digest"
    with pytest.raises(ZeroDivisionError), train.held(folder):
        (folder / "last.ckpt").touch()
        raise ZeroDivisionError
    with train.held(folder):
        assert (folder / "last.ckpt").exists()


def test_a_checkpoint_fits_conf_data_and_seed_or_is_not_met(workspace, monkeypatch):
    data = Path("data/prepared/x")
    data.mkdir(parents=True)
    (data / "profile.json").write_text("{}")
    conf = config.model(MODEL)
    usual = train.checkpoint_folder(conf, data)
    assert (
        usual.parent == Path(".checkpoints") / MODEL
        and train.checkpoint_folder(config.model(MODEL), data) == usual
    )
    gate = conf.gate.model_copy(update={"margin": 0.5})
    assert train.checkpoint_folder(conf.model_copy(update={"gate": gate}), data) == usual
    for change in (
        {"seed": 7},
        {"net": {}},
        {"optimizer": {}},
        {"schedule": {}},
        {"budget": "full"},
    ):
        assert train.checkpoint_folder(conf.model_copy(update=change), data) != usual
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")  # as in a copy made by `dvc exp run --temp`
    assert train.checkpoint_folder(conf, data) == Path("/elsewhere") / usual
    (data / "profile.json").write_text('{"other": "data"}')
    assert train.checkpoint_folder(conf, data).name != usual.name


def test_the_curves_come_back_as_they_were(tmp_path):
    history = [
        {"epoch": e, "train/loss": math.exp(-e), "val/log_loss": 1 / (3 + e)} for e in range(1, 4)
    ]
    train.write_curves(tmp_path / "curves.csv", history)
    with (tmp_path / "curves.csv").open(newline="") as stream:
        assert [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)
        ] == history


def test_each_step_tells_how_many_epochs_are_done(tmp_path):
    told: list[float] = []
    fitted(tmp_path, tick=told.append)
    assert told == pytest.approx([step / STEPS for step in range(STEPS * EPOCHS)])


@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_bfloat16_is_taken_only_where_it_was_asked_for(accelerator):
    trainer = config.Trainer(accelerator=accelerator, devices=1)
    assert train.precision(schedule(), trainer) == "32-true"
    assert train.precision(schedule(precision="bfloat16"), trainer) in ("32-true", "bf16-mixed")


# --- the whole of it --------------------------------------------------------------------------------------------------


@pytest.fixture
def prepared(workspace) -> config.ModelConf:
    """The first model at `budget: smoke`, with its data's twin prepared."""
    conf = config.model(MODEL, ["budget=smoke"])
    dataset = config.dataset(conf.dataset)
    kind, folder = plugins.module("data", dataset.kind), Path("data/prepared") / dataset.name
    kind.write_twin(dataset.twin, dataset.columns, Path("raw"))
    parts = prepare.prepare(kind.read(Path("raw"), dataset.columns), dataset)
    folder.mkdir(parents=True)
    for part, rows in parts.items():
        kind.write(rows, folder / part)
    write_json(
        folder / "profile.json",
        prepare.profile(parts, dataset, {"source": "embedded", "digest": "0123"}),
    )
    return conf


@pytest.mark.slow
def test_by_hand_it_trains_into_scratch_the_same_every_time(prepared, monkeypatch, capsys):
    monkeypatch.setattr(train, "CHUNK", 50)
    words = [f"model={MODEL}", "budget=smoke", "model.schedule.max_epochs=2"]
    train.main(words)
    scratch = Path(".scratch") / MODEL
    card = json.loads((scratch / "model" / saved_model.CARD).read_text())
    told = {
        "model": MODEL,
        "dataset": prepared.dataset,
        "source": "embedded",
        "data": "0123",
        "budget": "smoke",
    }
    assert {key: card[key] for key in told} == told
    assert len((scratch / "curves.csv").read_text().splitlines()) == 1 + 2
    assert f"{MODEL}: epoch {card['epoch']} kept, val " in capsys.readouterr().out
    assert (
        not list(Path(".checkpoints").rglob("*.ckpt"))
        and not Path("models").exists()
        and not Path("reports").exists()
    )
    first = folder_digest(scratch)
    train.main(words)
    assert folder_digest(scratch) == first
    train.main([*words, "seed=7"])
    assert folder_digest(scratch) != first


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (
            [f"model={MODEL}"],
            SextantError,
            r"data/prepared/\w+/profile.json does not exist; `make repro` makes it",
        ),
        (["model=strawberry"], UsageError, "unknown model `strawberry`"),
        (
            [f"model={MODEL}", "model.optimizer.lr=-1"],
            UsageError,
            "optimizer: `lr` is -1; input should be greater",
        ),
        (
            [f"model={MODEL}", "model.optimizer.lrr=1"],
            UsageError,
            "unknown key `model.optimizer.lrr`; did you mean `lr`",
        ),
    ],
)
def test_what_cannot_be_trained_says_so_and_writes_nothing(workspace, words, error, says):
    with pytest.raises(error, match=says):
        train.main(words)
    assert sorted(path.name for path in workspace.iterdir()) == ["conf", "params.yaml"]
