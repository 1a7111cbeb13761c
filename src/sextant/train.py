"""Train a model: one LightningModule for every family, which never asks which.

Small models are bound by overhead, not by arithmetic. So the rows lie in memory as tensors, a batch that Lightning
hands over is a chunk of many steps, and metrics are logged once an epoch.

An interrupted training resumes to the same weights: the order of rows is a function of (seed, epoch), every other draw
one of (seed, epoch, chunk), and a checkpoint is written at the end of each epoch.
"""

import copy
import csv
import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from . import config, files, optimizers, rooms, saved, tracking
from .errors import SextantError, run
from .terminal import Progress

CHUNK = 50  # steps that one call of Lightning's loop makes


def derived_seed(*parts: Any) -> int:
    """A seed that is a function of its parts alone."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:7], "big")


class Rows(Dataset):
    """A batch in memory; asked with an index tensor (steps, batch_size) it answers tensors of that leading shape."""

    def __init__(self, batch: Any):
        self.batch = batch

    def __getitem__(self, index: Tensor) -> Any:
        return type(self.batch)(*(t[index] for t in self.batch))


class Chunks(Sampler):
    """Index tensors (steps, batch_size) over shuffled rows; rows that fill no batch wait for another epoch's order.

    Lazy: on resume Lightning asks for the iterator before it says which epoch it is.
    """

    def __init__(self, rows: int, batch_size: int, seed: int):
        self.rows, self.batch_size, self.seed, self.epoch = rows, min(batch_size, rows), seed, 0
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
    """The training of any net: the chunked step, the schedule, the running mean of the weights, the history."""

    def __init__(
        self,
        net: Any,
        train: Any,
        val: Any,
        task: Any,
        optimizer: dict[str, Any],
        schedule: optimizers.Schedule,
        seed: int,
        report: Callable[[dict[str, float]], None],
        tick: Callable[[float], None] = lambda epochs: None,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.net: Any = net
        self.kept: Any = (
            copy.deepcopy(net) if schedule.ema else net
        )  # what val scores and what is kept
        self.train_rows, self.val_rows, self.task = train, val, task
        self.optimizer_conf, self.schedule, self.seed, self.report, self.tick = (
            optimizer,
            schedule,
            seed,
            report,
            tick,
        )
        self.history: list[dict[str, float]] = []
        self.losses: list[Tensor] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = (
            self.net.param_groups() if hasattr(self.net, "param_groups") else self.net.parameters()
        )
        optimizer = optimizers.build(self.optimizer_conf, groups)
        self.base_lr = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def train_dataloader(self) -> DataLoader:
        self.chunks = Chunks(len(self.train_rows[0]), self.schedule.batch_size, self.seed)
        return DataLoader(Rows(self.train_rows), sampler=self.chunks, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(
            Rows(self.val_rows), sampler=[torch.arange(len(self.val_rows[0]))], batch_size=None
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(derived_seed(self.seed, self.current_epoch, batch_idx))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for step, rows in enumerate(zip(*batch, strict=True), start=batch_idx * CHUNK):
            done = self.current_epoch * self.chunks.steps + step
            self.losses.append(self._step(type(batch)(*rows), done))

    def _step(self, batch: Any, done: int) -> Tensor:
        self.tick(done / self.chunks.steps)
        progress = done / (self.chunks.steps * self.schedule.max_epochs)
        optimizer: Any = self.optimizers()
        for group, lr in zip(optimizer.param_groups, self.base_lr, strict=True):
            group["lr"] = lr * self.schedule.factor(progress)
        self.net.progress = self.kept.progress = progress
        loss = self.net.loss(batch)
        if not torch.isfinite(loss):  # before the weights change
            raise SextantError(
                f"the loss is {loss.item()} in epoch {self.current_epoch + 1}; lower optimizer.lr, or set schedule.clip"
            )
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.schedule.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.schedule.clip)
        optimizer.step()
        if self.schedule.ema:
            self._average(
                min(self.schedule.ema, (done + 1) / (done + 10))
            )  # so that the first weights are forgotten
        return loss.detach()

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        """kept <- decay * kept + (1 - decay) * net; what counts rather than averages (BatchNorm's) is copied."""
        for mean, now in zip(
            self.kept.state_dict().values(), self.net.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(derived_seed(self.seed, self.current_epoch, "val"))
        with torch.autocast(
            self.device.type, enabled=False
        ):  # to the last bit what the saved model will answer
            self._score(batch)

    def _score(self, batch: Any) -> None:
        cpu = {name: t.cpu() for name, t in saved.outputs(self.kept, batch).items()}
        pieces = [(len(piece[0]), self.kept.loss(piece).item()) for piece in saved.pieces(batch)]
        metrics = self.task.watch(cpu, type(batch)(*(t.cpu() for t in batch)))
        loss = sum(rows * value for rows, value in pieces) / len(batch[0])
        self.scores = {"val/loss": loss, **{f"val/{name}": m for name, m in metrics.items()}}
        self.log_dict(self.scores, batch_size=1)

    def on_train_epoch_end(self) -> None:
        row = {
            "epoch": self.current_epoch + 1,
            "train/loss": torch.stack(self.losses).mean().item(),
            **self.scores,
        }
        self.losses.clear()
        self.history.append(row)
        self.report(row)

    def on_train_start(self) -> None:
        """A run that had stopped early stays stopped."""
        stopping = self.trainer.early_stopping_callback
        if stopping and stopping.wait_count >= stopping.patience:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]


def fit(
    learner: Learner, folder: Path, trainer: config.Trainer, mode: str
) -> tuple[nn.Module, int]:
    """Train, resuming from `folder` where an interrupted training left off; the kept net and its epoch."""
    monitor = f"val/{learner.schedule.monitor}"
    when: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(folder, "best", monitor, mode=mode, **when)
    last = ModelCheckpoint(
        folder, "last", **when
    )  # `save_last` of the one above would write when that one does
    stopping = EarlyStopping(
        monitor, mode=mode, patience=learner.schedule.patience, check_on_train_epoch_end=True
    )
    earlier = folder / "last.ckpt"
    pl.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        precision=precision(learner.schedule, trainer),
        max_epochs=learner.schedule.max_epochs,
        callbacks=[stopping, best, last],
        logger=False,
        enable_progress_bar=False,  # an epoch can be a fraction of a second: one bar over all of them, see `train`
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic=True,
    ).fit(learner, ckpt_path=str(earlier) if earlier.is_file() else None, weights_only=True)
    checkpoint = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
    learner.load_state_dict(checkpoint["state_dict"])
    return learner.kept.cpu(), int(checkpoint["epoch"]) + 1


def precision(schedule: optimizers.Schedule, trainer: config.Trainer) -> Any:
    """bfloat16 where it was asked for and the hardware multiplies in it: without, it is slow or raises."""
    gpu = trainer.accelerator in ("auto", "gpu") and torch.cuda.is_available()
    able = torch.cuda.is_bf16_supported() if gpu else torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if schedule.precision == "bfloat16" and able else "32-true"


def checkpoint_folder(conf: config.ModelConf, data: Path) -> Path:
    """.checkpoints/<model>/<digest of conf, data, seed, code>/: a checkpoint fits its folder or is not met."""
    package = Path(__file__).parent
    code = [
        package / "train.py",
        package / "optimizers.py",
        package / "saved.py",
        package / f"models/{conf.family}.py",
    ]
    code += sorted((package / "data").glob("*.py")) + sorted((package / "tasks").glob("*.py"))
    whole = [conf.model_dump_json(exclude={"gate"}), files.folder_digest(data), torch.__version__]
    digest = hashlib.sha256(" ".join([*whole, *map(files.sha256, code)]).encode()).hexdigest()[:16]
    return files.state_root() / ".checkpoints" / conf.name / digest


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder against a second training of the same; it is removed once all went well."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise SextantError(
                f"process {lock.read().strip()} is training this already ({folder});"
                " wait for it, or stop it: `make doctor`"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        shutil.rmtree(folder)


def write_curves(path: Path, history: list[dict[str, float]]) -> None:
    """The history as CSV, an epoch a row."""
    with files.written_whole(path) as beside, beside.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def learn(
    conf: config.ModelConf,
    parts: dict[str, Any],
    profile: dict[str, Any],
    folder: Path,
    report: Callable[[dict[str, float]], None],
    tick: Callable[[float], None] = lambda epochs: None,
) -> tuple[saved.Saved, list[dict[str, float]]]:
    """Train on the parts train and val; the model and its history.

    `profile` is what prepare says of the data, `folder` holds the checkpoints, `report` hears of each epoch and `tick`,
    before each step, how many epochs are done.
    """
    kind, task = rooms.module("data", profile["kind"]), rooms.module("tasks", conf.task)
    schedule = optimizers.Schedule(**conf.schedule)
    encoder = kind.Encoder.fit(parts["train"], kind.Columns(**profile["layout"]))
    batch = {part: encoder.encode(parts[part]) for part in ("train", "val")}

    torch.set_num_threads(schedule.threads)
    torch.manual_seed(derived_seed(conf.seed, "initialise"))
    net = saved.build(conf.family, encoder.sizes, conf.net)
    if hasattr(net, "initialise"):
        net.initialise(batch["train"])
    learner = Learner(
        net, batch["train"], batch["val"], task, conf.optimizer, schedule, conf.seed, report, tick
    )
    mode = "max" if task.METRICS[schedule.monitor] == "up" else "min"
    best, epoch = fit(learner, folder, conf.trainer, mode)

    found = saved.outputs(best, batch["val"])
    calibration = task.calibrate(found, batch["val"])
    card: dict[str, Any] = {
        "model": conf.name,
        "family": conf.family,
        "task": conf.task,
        "dataset": conf.dataset,
        "kind": profile["kind"],
        "source": profile["source"],
        "data": profile["digest"],
        "seed": conf.seed,
        "budget": conf.budget,
        "threads": schedule.threads,
        "net": conf.net,
        "columns": profile["layout"],
        "calibration": calibration,
        "epoch": epoch,
    }
    model = saved.Saved(card, best, encoder)
    card["val"] = model.score(model.answer(model.questions(parts["val"])), parts["val"])
    return model, learner.history


def train(conf: config.ModelConf, data: Path, out: Path, curves: Path) -> None:
    """Train `conf` on the parts train and val in `data`; write the model to `out` and the history to `curves`."""
    profile = json.loads(files.needed(data / "profile.json").read_text(encoding="utf-8"))
    kind = rooms.module("data", profile["kind"])
    parts = {part: kind.load(data / part) for part in ("train", "val")}
    folder = checkpoint_folder(conf, data)
    with held(folder), tracking.training_run(conf, profile, folder) as tracked:
        metric = f"val/{conf.schedule['monitor']}"
        # "at most": it may stop early
        with Progress(
            f"train {conf.name}", conf.schedule["max_epochs"], "epochs", "at most"
        ) as progress:

            def report(row: dict[str, float]) -> None:
                progress.say(f"{metric} {row[metric]:.4f}")
                tracked.log(row)

            model, history = learn(conf, parts, profile, folder, report, progress.at)
        write_curves(curves, history)
        saved.save(out, model.card, model.net, model.encoder)
        tracked.finish(model.card, out, curves)


def main(argv: list[str]) -> None:
    """`python -m sextant.train model=<name> [overrides]`: by DVC to models/<name>/, by hand to .scratch/<name>/."""
    name, overrides = config.one(argv, "model")
    conf = config.model(name, overrides)
    config.check_model(conf)
    quieten()
    by_dvc = "DVC_STAGE" in os.environ
    scratch = Path(".scratch") / name
    out = Path("models") / name if by_dvc else scratch / "model"
    curves = Path("reports/curves") / f"{name}.csv" if by_dvc else scratch / "curves.csv"
    train(conf, Path("data/prepared") / conf.dataset, out, curves)
    card = json.loads((out / saved.CARD).read_text(encoding="utf-8"))
    print(
        f"{name}: epoch {card['epoch']} kept, val "
        + ", ".join(f"{k} {v:.4f}" for k, v in card["val"].items())
    )


def quieten() -> None:
    """Lightning's advice on loaders and loggers is for other kinds of training."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")


if __name__ == "__main__":
    run(main)
