"""Stage train: train a model on the parts train and val.

An interrupted training resumes to the same weights: the order of rows is a function of (seed,
epoch), every other draw one of (seed, round, chunk), and a checkpoint is written every few seconds
at the end of a round, which is the epochs between two looks at val.
"""

import csv
import hashlib
import logging
import math
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from . import (
    check,
    config,
    errors,
    files,
    memory,
    optimizers,
    paths,
    plugins,
    processor,
    saved_model,
)
from .errors import SextantError
from .learner import Learner, Report, Tick, derived_seed
from .terminal import Progress
from .tracking.training import training_run

if TYPE_CHECKING:
    from . import contracts

# The files and folders of code that a training depends on, as dvc.yaml names them for this stage;
# tests/test_dvc_yaml.py compares the two lists.
CODE = (
    "train.py",
    "learner.py",
    "memory.py",
    "optimizers.py",
    "saved_model.py",
    "intervals.py",
    "injection.py",
    "config.py",
    "strict.py",
    "plugins.py",
    "paths.py",
    "files.py",
    "families/blocks.py",
    "families/maps.py",
    "families/{family}.py",
    "kinds/parts.py",
    "kinds/remarks.py",
    "kinds/splits.py",
    "kinds/tables.py",
    "kinds/formats.py",
    "kinds/plain_lines.py",
    "kinds/numbers.py",
    "kinds/levels.py",
    "kinds/archives.py",
    "kinds/arrays.py",
    "kinds/pixels.py",
    "kinds/{kind}/columns.py",
    "kinds/{kind}/rows",
    "kinds/{kind}/encoder.py",
    "tasks/recommendation/metrics.py",
    "tasks/{task}/metrics.py",
)


CHECKPOINT_SECONDS = 5.0  # between two checkpoints: what a kill loses at most
# Before the first checkpoint: a training that is shorter has little to lose, and a checkpoint takes
# as long as ten epochs of a small map.
FIRST_CHECKPOINT_SECONDS = 1.0
CHECKPOINTS_KEPT = 2  # the newest, and the one before it in case that one cannot be read


CHECKPOINT_KEYS = {"loops", "optimizer_states", "state_dict"}  # that a resumed training reads


class Checkpoints(pl.callbacks.Checkpoint):
    """Writes a checkpoint after the first second, then every few seconds, and at the end.

    A checkpoint takes longer than an epoch of a small model, so it is not written for each. When it
    is written changes no result. Lightning calls a callback of this base class last, when the
    learner has scored the round.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.due = math.inf  # time of the next checkpoint

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.due = time.monotonic() + FIRST_CHECKPOINT_SECONDS

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if not last and time.monotonic() < self.due:
            return
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch:06}.ckpt")
        for old in checkpoints(self.folder)[CHECKPOINTS_KEPT:]:
            old.unlink()
        self.due = time.monotonic() + CHECKPOINT_SECONDS


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a kill leaves none that is torn.

    Lightning writes it to TMPDIR first, and where that is another file system, moves it by copying.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        with files.written_whole(Path(path)) as beside:
            torch.save(checkpoint, beside)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    return sorted(folder.glob("*.ckpt"), reverse=True)


def readable_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that can be read; those that cannot are set aside."""
    for path in checkpoints(folder):
        fault = unreadable(path)
        if not fault:
            return path
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        print(
            f"{path} cannot be read ({fault}) and is now {aside.name}; the training resumes from"
            " the checkpoint before it, or from the start",
            file=sys.stderr,
        )
    return None


def unreadable(path: Path) -> str:
    """Why a file is no checkpoint of a training; empty if it is one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols of pickle
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn file raises almost anything
        reason = errors.describe(error)
        # PyTorch's message goes on to advise loading the file all the same.
        return "it holds more than weights and numbers" if "weights_only" in reason else reason
    if not isinstance(content, dict) or not CHECKPOINT_KEYS <= content.keys():
        return f"it lacks {', '.join(sorted(CHECKPOINT_KEYS))}"
    return ""


def fit(learner: Learner, folder: Path, trainer: config.Trainer) -> tuple[nn.Module, int]:
    """Train, resuming from `folder` after an interruption; return the best net and its epoch.

    Epochs are counted from 1. Raises SextantError if no epoch has a score on val.
    """
    lightning_trainer = pl.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        precision=precision(learner.schedule, trainer),
        max_epochs=learner.schedule.max_epochs // learner.chunks.epochs,
        callbacks=[Checkpoints(folder)],
        plugins=[WholeCheckpoints()],
        logger=False,
        # An epoch can take a fraction of a second, so `train` shows one bar over all epochs.
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic=True,
    )
    lightning_trainer.fit(learner, ckpt_path=readable_checkpoint(folder), weights_only=True)
    best = learner.best
    if best is None:
        raise SextantError(
            f"val/{learner.schedule.monitor} is not a number in any epoch, so none can be kept;"
            " lower optimizer.lr, or set schedule.clip"
        )
    learner.averaged.load_state_dict(best.weights)
    return learner.averaged.cpu(), best.epoch


def precision(
    schedule: optimizers.Schedule, trainer: config.Trainer
) -> Literal["bf16-mixed", "32-true"]:
    """Lightning's precision: bfloat16 if conf sets it and the hardware multiplies it faster.

    On other hardware it is slower than float32, and without AVX-512 the LSTM raises. With `exact`
    every processor computes in float32.
    """
    if schedule.precision != "bfloat16" or trainer.exact:
        return "32-true"
    gpu = trainer.accelerator in ("auto", "gpu") and torch.cuda.is_available()
    if gpu:
        faster = torch.cuda.is_bf16_supported()
    else:
        faster = cpu_multiplies_bfloat16_faster()
    return "bf16-mixed" if faster else "32-true"


def cpu_multiplies_bfloat16_faster() -> bool:
    """Whether the CPU multiplies matrices in bfloat16 faster than in float32.

    Intel's CPUs do so with AMX alone, which virtual machines often hide: on a Xeon without it a
    convolution did 115 GFLOP/s in bfloat16 and 200 in float32 (one thread, the fastest of twelve).
    """
    if not torch.cpu._is_avx512_bf16_supported():
        return False
    is_intel = "Intel" in str(torch.cpu.get_capabilities()["cpu_name"])
    return torch.cpu._is_amx_tile_supported() or not is_intel


def code_files(conf: config.ModelConf) -> list[Path]:
    """The files of CODE for the family, kind and task of one model."""
    package = Path(__file__).parent
    chosen = {"family": conf.family, "kind": conf.kind, "task": conf.task}
    files_of_code = []
    for entry in CODE:
        path = package / entry.format(**chosen)
        files_of_code += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return files_of_code


def checkpoint_folder(conf: config.ModelConf, data: Path) -> Path:
    """.checkpoints/<model>/<digest of conf, data, seed and code>/.

    A checkpoint is resumed only by a training of the same digest.
    """
    settings = conf.model_dump_json(exclude={"gate", "baselines"})
    parts = [settings, files.folder_digest(data), torch.__version__]
    parts += [files.sha256(path) for path in code_files(conf)]
    digest = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    return paths.checkpoints(conf.name) / digest


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder of checkpoints during a training; remove the folder after success.

    Raises SextantError if another process trains the same model on the same data.
    """
    doing = f"training this already ({folder}); wait for it, or stop it: `make doctor`"
    with files.locked(folder / "lock", doing):
        yield
        shutil.rmtree(folder)


def write_curves(path: Path, history: list[dict[str, float]]) -> None:
    """The history as CSV, one epoch per row."""
    with files.written_whole(path) as beside, beside.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def learn(
    conf: config.ModelConf,
    parts: "contracts.Parts",
    profile: Mapping[str, Any],
    folder: Path,
    report: Report,
    tick: Tick = lambda epochs: None,
) -> tuple[saved_model.SavedModel, list[dict[str, float]]]:
    """Train on the parts train and val; return the model and its history, one entry per epoch.

    `profile` is prepare's profile of the data, and `folder` holds the checkpoints. `report` is
    called after each round with its metrics, `tick` before each step with the number of epochs done
    so far.
    """
    kind = plugins.kind(profile["kind"])
    task = plugins.task(conf.task)
    schedule = optimizers.Schedule(**conf.schedule)
    columns = task.roles(kind.columns.Columns(**profile["layout"]), parts["train"], conf.net)
    encoder = kind.encoder.Encoder.fit(parts["train"], columns)
    check_encoder = plugins.optional(task.metrics, "check", None)
    if check_encoder:
        plugins.call(check_encoder, encoder, counts=profile.get("rows", {}))
    train_batch = encoder.encode(parts["train"])
    val_batch = encoder.encode(parts["val"])

    saved_model.limit_threads(schedule.threads)
    memory.check(conf, schedule, encoder.sizes, train_batch)
    torch.manual_seed(derived_seed(conf.seed, "initialise"))
    net = saved_model.build(conf.family, encoder.sizes, conf.net)
    initialise = plugins.optional(net, "initialise", None)
    if initialise:
        initialise(train_batch)
    learner = Learner(
        net, train_batch, val_batch, task, conf.optimizer, schedule, conf.seed, report, tick
    )
    best, epoch = fit(learner, folder, conf.trainer)

    tensors = saved_model.outputs(best, val_batch)
    calibration = plugins.call(
        task.metrics.calibrate, tensors, val_batch, encoder=encoder, decide=schedule.decide
    )
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
        "columns": columns.model_dump(exclude_unset=True),
        "calibration": calibration,
        "epoch": epoch,
    }
    if schedule.decide is not None:
        card["decide"] = schedule.decide.model_dump()
    model = saved_model.SavedModel(card, best, encoder)
    card["val"] = model.score(model.answer(model.inputs(parts["val"])), parts["val"])
    return model, learner.history


def train(conf: config.ModelConf, data: Path, out: Path, curves: Path) -> None:
    """Train `conf` on the parts in `data`; write the model to `out` and the history to `curves`."""
    profile = files.read_json(files.needed(data / "profile.json"))
    rows = plugins.kind(profile["kind"]).rows
    parts = {part: rows.load(data / part) for part in ("train", "val")}
    folder = checkpoint_folder(conf, data)
    with locked(folder), training_run(conf, profile, folder) as run:
        metric = f"val/{conf.schedule['monitor']}"
        # "at most", because training may stop early.
        epochs = conf.schedule["max_epochs"]
        with Progress(f"train {conf.name}", epochs, "epochs", "at most") as progress:

            def report(row: dict[str, float]) -> None:
                progress.set_note(f"{metric} {row[metric]:.4f}")
                run.log(row)

            model, history = learn(conf, parts, profile, folder, report, progress.at)
        write_curves(curves, history)
        saved_model.save(out, model.card, model.net, model.encoder)
        run.finish(model.card, out, curves)
    if paths.run_by_dvc():
        processor.record(conf.name, files.folder_digest(out), conf.trainer.accelerator)


def main(argv: list[str]) -> None:
    """`sextant train model=<name> [overrides]`.

    Run by DVC, it writes to models/<name>/; run by hand, to .scratch/<name>/.
    """
    name, overrides = config.named(argv, "model")
    conf = config.model(name, overrides)
    check.check_model(conf)
    if conf.trainer.exact and not processor.capped():
        raise SextantError("`exact: true` needs a start by `python -m sextant train`")
    quieten()
    outputs = paths.outputs(name)
    train(conf, paths.prepared(conf.dataset), outputs.model, outputs.curves)
    card = files.read_json(outputs.model / saved_model.CARD)
    scores = [f"{metric} {value:.4f}" for metric, value in card["val"].items()]
    print(f"{name}: epoch {card['epoch']} kept, val {', '.join(scores)}")


def quieten() -> None:
    """Silence Lightning's advice on loaders and loggers, which does not apply to this training."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
