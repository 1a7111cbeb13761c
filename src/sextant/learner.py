"""One LightningModule that trains any family.

Small models are bound by overhead, not by arithmetic. So the rows are kept in memory as tensors,
each batch that Lightning passes on is a chunk of many steps, and metrics are logged once per epoch.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from . import optimizers, plugins, saved_model
from .errors import SextantError

if TYPE_CHECKING:
    from . import contracts

CHUNK = 50  # steps per call of Lightning's loop, whose overhead is about as long as a small step

Report: TypeAlias = Callable[[dict[str, float]], None]
Tick: TypeAlias = Callable[[float], None]


def derived_seed(*parts: int | str) -> int:
    """A seed of 56 bits that depends on `parts` alone: the first bytes of their sha256."""
    text = " ".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


class Rows(Dataset):
    """A batch in memory; an index tensor (steps, batch_size) gives tensors of that shape."""

    def __init__(self, batch: "contracts.Batch"):
        self.batch = batch

    def __getitem__(self, index: Tensor) -> "contracts.Batch":
        return plugins.take(self.batch, index)


class Chunks(Sampler):
    """Index tensors (steps, batch_size) over shuffled rows.

    The incomplete last batch is dropped; other rows fall into it each epoch. The sampler is lazy,
    because on resume Lightning asks for the iterator before it sets the epoch.
    """

    def __init__(self, rows: int, batch_size: int, seed: int):
        self.rows = rows
        self.batch_size = min(batch_size, rows)
        self.seed = seed
        self.epoch = 0
        self.steps = rows // self.batch_size

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.steps / CHUNK)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        order = torch.randperm(self.rows, generator=generator)[: self.steps * self.batch_size]
        yield from order.view(self.steps, self.batch_size).split(CHUNK)


class Learner(pl.LightningModule):
    """Trains any net: steps in chunks, the schedule, the running mean of the weights, the history.

    `averaged` is the net that val scores and that is saved: with `schedule.ema` a running mean of
    the weights, otherwise the net itself.
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
        self.averaged: Any = copy.deepcopy(net) if schedule.ema else net
        self.train_rows = train
        self.val_rows = val
        self.task = task
        self.optimizer_conf = optimizer
        self.schedule = schedule
        self.seed = seed
        self.report = report
        self.tick = tick
        self.history: list[dict[str, float]] = []
        self.losses: list[Tensor] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        param_groups = plugins.optional(self.net, "param_groups", self.net.parameters)
        optimizer = optimizers.build(self.optimizer_conf, param_groups())
        self.base_lr = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def train_dataloader(self) -> DataLoader:
        self.chunks = Chunks(len(self.train_rows[0]), self.schedule.batch_size, self.seed)
        return DataLoader(Rows(self.train_rows), sampler=self.chunks, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        every_row = torch.arange(len(self.val_rows[0]))
        return DataLoader(Rows(self.val_rows), sampler=cast(Sampler, [every_row]), batch_size=None)

    def on_train_batch_start(self, batch: "contracts.Batch", batch_idx: int) -> None:
        torch.manual_seed(derived_seed(self.seed, self.current_epoch, batch_idx))

    def training_step(self, batch: "contracts.Batch", batch_idx: int) -> None:
        epoch_start = self.current_epoch * self.chunks.steps
        for step, step_batch in enumerate(plugins.steps(batch), start=batch_idx * CHUNK):
            self.losses.append(self._step(step_batch, epoch_start + step))

    def _step(self, batch: "contracts.Batch", done: int) -> Tensor:
        """One optimizer step after `done` others; its loss."""
        self.tick(done / self.chunks.steps)
        progress = done / (self.chunks.steps * self.schedule.max_epochs)
        optimizer: Any = self.optimizers()
        for group, lr in zip(optimizer.param_groups, self.base_lr, strict=True):
            group["lr"] = lr * self.schedule.factor(progress)
        self.net.progress = progress
        self.averaged.progress = progress
        loss: Tensor = self.net.loss(batch)
        if not torch.isfinite(loss):  # checked before the weights change
            raise SextantError(
                f"the loss is {loss.item()} in epoch {self.current_epoch + 1};"
                " lower optimizer.lr, or set schedule.clip"
            )
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.schedule.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.schedule.clip)
        optimizer.step()
        if self.schedule.ema:
            # The decay grows to its final value, so that the first weights lose their influence.
            self._average(min(self.schedule.ema, (done + 1) / (done + 10)))
        return loss.detach()

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        """averaged <- decay * averaged + (1 - decay) * net; integer buffers, such as BatchNorm's
        count of batches, are copied."""
        states = zip(
            self.averaged.state_dict().values(), self.net.state_dict().values(), strict=True
        )
        for mean, current in states:
            if mean.is_floating_point():
                mean.lerp_(current, 1 - decay)
            else:
                mean.copy_(current)

    def validation_step(self, batch: "contracts.Batch", batch_idx: int) -> None:
        torch.manual_seed(derived_seed(self.seed, self.current_epoch, "val"))
        # float32, so that the scores are to the last bit those of the saved model.
        with torch.autocast(self.device.type, enabled=False):
            self._score(batch)

    def _score(self, batch: "contracts.Batch") -> None:
        """Log the loss and the metrics on val, with the averaged net."""
        outputs = saved_model.outputs(self.averaged, batch)
        on_cpu = {name: tensor.cpu() for name, tensor in outputs.items()}
        weighted_loss = 0.0
        for chunk in saved_model.chunks(batch):
            weighted_loss += len(chunk[0]) * self.averaged.loss(chunk).item()
        self.scores = {"val/loss": weighted_loss / len(batch[0])}
        tensors = [tensor.cpu() for tensor in batch]
        metrics = self.task.metrics.watch(on_cpu, type(batch)(*tensors))
        for name, value in metrics.items():
            self.scores[f"val/{name}"] = value
        self.log_dict(self.scores, batch_size=1)

    def on_train_epoch_end(self) -> None:
        """Append the epoch to the history; validation has run by then and set `scores`."""
        train_loss = torch.stack(self.losses).mean().item()
        row = {"epoch": self.current_epoch + 1, "train/loss": train_loss, **self.scores}
        self.losses.clear()
        self.history.append(row)
        self.report(row)

    def on_train_start(self) -> None:
        """Stop a resumed training at once if it had already stopped early."""
        stopping: Any = self.trainer.early_stopping_callback
        if stopping and stopping.wait_count >= stopping.patience:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
