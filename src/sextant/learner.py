"""One LightningModule that trains any family.

Small models are bound by overhead, not by arithmetic. So the rows are kept in memory as tensors,
each batch that Lightning passes on is a chunk of many steps, and one of Lightning's epochs is a
round: the epochs between two looks at val.
"""

import copy
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from . import optimizers, plugins, saved_model
from .errors import SextantError

if TYPE_CHECKING:
    from . import contracts

B = TypeVar("B", bound="contracts.Batch")

# Steps per call of Lightning's loop, whose overhead is about as long as a small step; fewer where
# the rows of so many steps would have more numbers than CHUNK_NUMBERS.
CHUNK_STEPS = 50
CHUNK_NUMBERS = 16_000_000

# How often val is looked at follows from counts and not from a clock, so that reruns are equal. A
# look at a row (forward pass and metrics) costs about half of a training step on it.
LOOK_COST = 0.5
LOOK_SHARE = 0.1  # the largest cost of the looks, as a share of the cost of the steps
# Steps between two looks: a look takes a few milliseconds, however few the rows, and the step of a
# small map less than one.
LOOK_STEPS = 10
MIN_LOOKS = 8  # in a whole training, so that its curve shows a course

Report: TypeAlias = Callable[[dict[str, float]], None]
Tick: TypeAlias = Callable[[float], None]


def derived_seed(*parts: int | str) -> int:
    """A seed of 56 bits that depends on `parts` alone: the first bytes of their sha256."""
    text = " ".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def seed_draws(seed: int) -> None:
    """Seed the draws of all devices in use.

    torch.manual_seed also leaves a note, with its stack, for each device that may be used later:
    0.3 ms at the depth of the loop, twice the step of a small map.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def epochs_per_round(train_rows: int, val_rows: int, steps: int, max_epochs: int) -> int:
    """The epochs between two looks at val; `steps` are those of an epoch.

    It divides `max_epochs`, because Lightning takes the length of the first round for that of all.
    """
    by_rows = LOOK_COST * val_rows / (LOOK_SHARE * train_rows)
    by_steps = LOOK_STEPS / steps
    at_most = max(1, max_epochs // MIN_LOOKS)
    epochs = min(at_most, math.ceil(max(by_rows, by_steps)))
    while max_epochs % epochs:
        epochs -= 1
    return epochs


def leave_averaging_to_ema(net: nn.Module) -> None:
    """Set the momentum of batch normalisation to 1, so that its statistics are those of one batch.

    The running mean of the weights includes them. Statistics that are averaged twice belong to
    earlier weights than those beside them, and the loss on val leaps while the weights change fast.
    """
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0


class Rows(Dataset):
    """A batch in memory; an index tensor (steps, batch_size) gives tensors of that shape."""

    def __init__(self, batch: "contracts.Batch"):
        self.batch = batch

    def __getitem__(self, index: Tensor | slice) -> "contracts.Batch":
        return plugins.take(self.batch, index)


class Chunks(Sampler):
    """Index tensors (steps, batch_size) over shuffled rows, for one round of `epochs` epochs.

    The incomplete last batch of an epoch is dropped; other rows fall into it each epoch. The
    sampler is lazy, because on resume Lightning asks for the iterator before it sets the round.

    If a batch has all rows (`whole`), their order is of no account: each chunk is all rows once,
    and `steps_in` is the number of steps on them.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, epochs: int, chunk_steps: int):
        self.rows = rows
        self.batch_size = min(batch_size, rows)
        self.seed = seed
        self.epochs = epochs
        self.chunk_steps = chunk_steps
        self.round = 0
        self.steps = rows // self.batch_size
        self.whole = self.batch_size == rows

    def set_epoch(self, epoch: int) -> None:
        """Set the round, which is Lightning's epoch."""
        self.round = epoch

    def __len__(self) -> int:
        return math.ceil(self.epochs * self.steps / self.chunk_steps)

    def steps_in(self, chunk: int) -> int:
        """The steps of a chunk of the round, counted from 0."""
        return min(self.chunk_steps, self.epochs * self.steps - chunk * self.chunk_steps)

    def __iter__(self) -> Iterator[Tensor | slice]:
        if self.whole:
            yield from itertools.repeat(slice(None), len(self))
            return
        first = self.round * self.epochs
        orders = torch.cat([self._order(epoch) for epoch in range(first, first + self.epochs)])
        yield from orders.split(self.chunk_steps)

    def _order(self, epoch: int) -> Tensor:
        """The rows of each step of an epoch, (steps, batch_size)."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, epoch))
        order = torch.randperm(self.rows, generator=generator)[: self.steps * self.batch_size]
        return order.view(self.steps, self.batch_size)


@dataclass
class Best:
    """The weights of the epoch to keep, with the score on val that chose it."""

    epoch: int  # counted from 1
    score: float
    weights: dict[str, Tensor]


def gradients(net: nn.Module, batch: "contracts.Batch") -> Tensor:
    """The loss, without its graph; the gradients of the weights become those of the loss.

    A family that has its gradients in closed form defines `gradients`.
    """
    closed_form = plugins.optional(net, "gradients", None)
    if closed_form:
        return cast(Tensor, closed_form(batch))
    loss = cast("contracts.Family", net).loss(batch)
    loss.backward()
    return loss.detach()


class Learner(pl.LightningModule):
    """Trains any net: steps in chunks, the schedule, the running mean of the weights, the history.

    `averaged` is the net that val scores and that is saved: with `schedule.ema` a running mean of
    the weights, otherwise the net itself.

    `best` stays in memory, and checkpoints contain it: writing it whenever val improves would take
    longer than the epochs of a small model.
    """

    def __init__(
        self,
        net: nn.Module,
        train: "contracts.Batch",
        val: "contracts.Batch",
        task: plugins.Task,
        optimizer: Mapping[str, object],
        schedule: optimizers.Schedule,
        seed: int,
        report: Report,
        tick: Tick = lambda epochs: None,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.net: Any = net
        self.averaged: Any = net
        if schedule.ema:
            self.averaged = copy.deepcopy(net)
            leave_averaging_to_ema(net)
        prepare = plugins.optional(net, "prepare", None)
        self.train_rows = prepare(train) if prepare else train
        self.val_rows = val
        self.task = task
        self.optimizer_conf = optimizer
        self.schedule = schedule
        self.higher_is_better = task.metrics.METRICS[schedule.monitor] == "up"
        self.seed = seed
        self.report = report
        self.tick = tick
        self.history: list[dict[str, float]] = []
        self.losses: list[Tensor] = []
        self.best: Best | None = None
        rows = len(train[0])
        steps = max(1, rows // schedule.batch_size)
        epochs = epochs_per_round(rows, len(val[0]), steps, schedule.max_epochs)
        step_numbers = saved_model.numbers_per_row(self.train_rows) * min(schedule.batch_size, rows)
        chunk_steps = min(CHUNK_STEPS, max(1, CHUNK_NUMBERS // step_numbers))
        self.chunks = Chunks(rows, schedule.batch_size, seed, epochs, chunk_steps)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        param_groups = plugins.optional(self.net, "param_groups", self.net.parameters)
        optimizer = optimizers.build(self.optimizer_conf, param_groups())
        self.base_lr = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Rows(self.train_rows), sampler=self.chunks, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(
            Rows(self.val_rows), sampler=cast(Sampler, [slice(None)]), batch_size=None
        )

    # --- steps ---

    def on_train_start(self) -> None:
        """List the tensors of both nets, which by now are on their device.

        A resumed training that had already stopped early stops at once.
        """
        self._means: list[Tensor] = []
        self._currents: list[Tensor] = []
        self._counts: list[tuple[Tensor, Tensor]] = []
        states = zip(
            self.averaged.state_dict().values(), self.net.state_dict().values(), strict=True
        )
        for mean, current in states:
            if mean.is_floating_point():
                self._means.append(mean)
                self._currents.append(current)
            else:
                self._counts.append((mean, current))
        if self.history:
            self._stop_early(int(self.history[-1]["epoch"]))

    def on_train_batch_start(self, batch: "contracts.Batch", batch_idx: int) -> None:
        seed_draws(derived_seed(self.seed, self.current_epoch, batch_idx))

    def training_step(self, batch: "contracts.Batch", batch_idx: int) -> None:
        round_start = self.current_epoch * self.chunks.epochs * self.chunks.steps
        first = round_start + batch_idx * self.chunks.chunk_steps
        for step, step_batch in enumerate(self.steps(batch, batch_idx), start=first):
            self.losses.append(self.step(step_batch, step))

    def steps(self, batch: B, chunk: int) -> Iterator[B]:
        """The batches of the single steps of a chunk of the round, counted from 0."""
        if self.chunks.whole:
            return itertools.repeat(batch, self.chunks.steps_in(chunk))
        return plugins.steps(batch)

    def step(self, batch: "contracts.Batch", done: int) -> Tensor:
        """One optimizer step after `done` others; its loss."""
        self.tick(done / self.chunks.steps)
        progress = done / (self.chunks.steps * self.schedule.max_epochs)
        # Lightning's own optimizer adds hooks for scaled gradients, which no precision here uses.
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        for group, lr in zip(optimizer.param_groups, self.base_lr, strict=True):
            group["lr"] = lr * self.schedule.factor(progress)
        self.net.progress = progress
        self.averaged.progress = progress
        optimizer.zero_grad()
        loss = gradients(self.net, batch)
        if not torch.isfinite(loss):  # checked before the weights change
            epoch = done // self.chunks.steps + 1
            raise SextantError(
                f"the loss is {loss.item()} in epoch {epoch}; lower optimizer.lr, or set"
                " schedule.clip"
            )
        if self.schedule.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.schedule.clip)
        optimizer.step()
        if self.schedule.ema:
            # The decay grows to its final value, so that the first weights lose their influence.
            self._average(min(self.schedule.ema, (done + 1) / (done + 10)))
        return loss

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        """averaged <- decay * averaged + (1 - decay) * net; integer buffers, such as BatchNorm's
        count of batches, are copied."""
        torch._foreach_lerp_(self._means, self._currents, 1 - decay)
        for mean, current in self._counts:
            mean.copy_(current)

    # --- looks at val ---

    def validation_step(self, batch: "contracts.Batch", batch_idx: int) -> None:
        """The loss and the metrics on val, with the averaged net, at the precision of training."""
        seed_draws(derived_seed(self.seed, self.current_epoch, "val"))
        loss, outputs = saved_model.loss_and_outputs(self.averaged, batch)
        on_cpu = {name: tensor.float().cpu() for name, tensor in outputs.items()}
        tensors = [tensor.cpu() for tensor in batch]
        watch = self.task.metrics.watch
        metrics = plugins.call(watch, on_cpu, type(batch)(*tensors), net=self.averaged)
        self.scores = {"val/loss": loss}
        for name, value in metrics.items():
            self.scores[f"val/{name}"] = value

    def on_train_epoch_end(self) -> None:
        """Append the round to the history; validation has run by then and set `scores`."""
        epoch = (self.current_epoch + 1) * self.chunks.epochs
        train_loss = torch.stack(self.losses).mean().item()
        self.losses.clear()
        row = {"epoch": epoch, "train/loss": train_loss, **self.scores}
        self.history.append(row)
        self._keep_best(epoch, row[f"val/{self.schedule.monitor}"])
        self._stop_early(epoch)
        self.report(row)

    def _keep_best(self, epoch: int, score: float) -> None:
        """Copy the averaged weights if `score` is the best so far; nan is never the best."""
        if self.best is None:
            better = not math.isnan(score)
        elif self.higher_is_better:
            better = score > self.best.score
        else:
            better = score < self.best.score
        if better:
            state = self.averaged.state_dict()
            weights = {name: tensor.detach().clone() for name, tensor in state.items()}
            self.best = Best(epoch, score, weights)

    def _stop_early(self, epoch: int) -> None:
        best_epoch = self.best.epoch if self.best else 0
        if epoch - best_epoch >= self.schedule.patience:
            self.trainer.should_stop = True

    # --- checkpoints ---

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history
        checkpoint["best"] = vars(self.best) if self.best else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
        self.best = Best(**checkpoint["best"]) if checkpoint["best"] else None
