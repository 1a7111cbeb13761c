"""Whether a training fits into memory, estimated before its net is built.

The net is built on PyTorch's device `meta`, whose tensors have shapes and no numbers, and takes one
step on a batch there. Every tensor is counted while it lives. A process that asks for too much is
killed by the system without a word, sometimes together with others.
"""

import resource
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from . import paths, plugins, saved_model
from .errors import UsageError
from .learner import gradients

if TYPE_CHECKING:
    from . import contracts, optimizers
    from .config import ModelConf

GIB = 2**30
# Tensors of one net: more are layers without end, such as `layers: 1000000000`.
MAX_TENSORS = 5000
# Tensors of a step that are counted: on `meta`, each takes 0.2 ms. A cell that reads a long window
# makes more, and the first ones show its size.
STEP_TENSORS = 1000
# How often an optimizer keeps the size of the weights, beside the weights and their gradients.
STATES = {"adamw": 2, "sgd": 1}
SAFETY = 4  # by which a bound on the tensors of a step is multiplied
META = torch.device("meta")
OVERFLOW = "verflow"  # in PyTorch's messages about sizes that no 64 bits can count
GROUPS = Path("/proc/self/cgroup")
MOUNTED = Path("/sys/fs/cgroup")


class TooLargeError(Exception):
    """More bytes than there are."""


class TooManyError(Exception):
    """More tensors than are counted."""


class Counter(TorchDispatchMode):
    """Counts the bytes of the tensors that live at the same time.

    Raises TooLargeError beyond `most` bytes, and TooManyError beyond `tensors` tensors.
    """

    def __init__(self, most: float, tensors: int) -> None:
        super().__init__()
        self.most = most
        self.tensors = tensors
        self.living = 0
        self.counted = 0
        self.storages: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        output = func(*args, **(kwargs or {}))
        outputs = output if isinstance(output, tuple | list) else (output,)
        for tensor in outputs:
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return output

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self.storages:
            return
        self.storages.add(storage)
        size = storage.nbytes()
        weakref.finalize(storage, self._remove, size)
        self.living += size
        self.counted += 1
        if self.living > self.most:
            raise TooLargeError
        if self.counted > self.tensors:
            raise TooManyError

    def _remove(self, size: int) -> None:
        self.living -= size


def check(
    conf: "ModelConf",
    schedule: "optimizers.Schedule",
    sizes: Mapping[str, object],
    train: "contracts.Batch",
) -> None:
    """Raise UsageError for a net or a batch that this machine's memory cannot hold.

    `sizes` are those of the encoder, and `train` are the encoded training rows. The message names
    the setting that takes the most.
    """
    most = limit(conf.trainer.accelerator)
    copies = 2 + STATES[str(conf.optimizer["name"])] + (1 if schedule.ema else 0)

    def excess(net: Mapping[str, Any], rows: int) -> str:
        return _excess(conf.family, sizes, net, train, rows, copies, most)

    rows = min(schedule.batch_size, len(train[0]))
    reason = excess(conf.net, rows)
    if not reason:
        return
    where = paths.model_conf(conf.name)
    if not excess(conf.net, 1):
        raise UsageError(
            f"{where} schedule: `batch_size` is {schedule.batch_size}, and a step on {rows:,} rows"
            f" takes {reason}; set it lower, or make the net smaller"
        )
    names = _large(conf.net)
    for name in names:
        if not excess({**conf.net, name: _smallest(conf.net[name])}, rows):
            raise UsageError(
                f"{where} net: `{name}` is {conf.net[name]}, and training this net takes {reason};"
                " set it lower"
            )
    settings = " or ".join(f"`{name}: {conf.net[name]}`" for name in names)
    raise UsageError(f"{where} net: training this net takes {reason}; set lower {settings}")


def _large(net: Mapping[str, Any]) -> list[str]:
    """The settings that are counts above 1, the largest first."""
    counts: dict[str, int] = {}
    for name, value in net.items():
        numbers = value if isinstance(value, list) else [value]
        whole = [number for number in numbers if isinstance(number, int) and number > 1]
        if whole:
            counts[name] = max(whole)
    return sorted(counts, key=lambda name: -counts[name])


def _smallest(value: Any) -> Any:
    """A setting of the same shape that takes the least."""
    return [1 for _ in value] if isinstance(value, list) else 2


def _excess(
    family: str,
    sizes: Mapping[str, object],
    net: Mapping[str, Any],
    train: "contracts.Batch",
    rows: int,
    copies: int,
    most: float,
) -> str:
    """What a net and a step on `rows` rows take too much of; empty if they fit.

    Counted are the weights, their gradients, the optimizer's state and the tensors of the step. A
    constructor or a step that reads numbers cannot run on `meta` to its end. Then what it has
    counted until that place is compared, which is less than the training takes.
    """
    too_large = f"more than the {most / GIB:.1f} GiB of memory that this process can have"
    counter = Counter(most, MAX_TENSORS)
    is_built = False
    try:
        with counter, META:
            built: Any = saved_model.build(family, sizes, net)
            is_built = True
            weights = sum(weight.numel() * weight.element_size() for weight in built.parameters())
            # The weights live already, and the step makes their gradients.
            counter.most = most - (copies - 2) * weights
            # Each weight meets each number of each row once at most: nearly always that is little,
            # and the step, which can take a quarter of a second, need not be made.
            products = rows * saved_model.numbers_per_row(train) * weights
            if products * SAFETY < counter.most - counter.living:
                return ""
            counter.tensors = counter.counted + STEP_TENSORS
            _step(built, train, rows)
    except TooLargeError:
        return too_large
    except TooManyError:
        return "" if is_built else f"more than {MAX_TENSORS:,} tensors"
    except Exception as error:
        # Also what the arguments themselves are refused for: the training refuses them again.
        return too_large if OVERFLOW in str(error) else ""
    return too_large if copies * weights > most else ""


def _step(net: nn.Module, train: "contracts.Batch", rows: int) -> None:
    batch = plugins.take(train, slice(0, rows))
    on_meta = type(batch)(*[tensor.to(META) for tensor in batch])
    prepare = plugins.optional(net, "prepare", None)
    gradients(net, prepare(on_meta) if prepare else on_meta)


# --- how much there is --------------------------------------------------------------------------


def limit(accelerator: str = "cpu") -> float:
    """The bytes that a training in this process can have.

    They are bounded by the machine, by a GPU if one is used, by the control group, and by ulimit.

    What other processes hold does not count, because that changes from moment to moment.
    """
    import psutil

    bounds = [float(psutil.virtual_memory().total), *_of_groups()]
    for kind, held in ((resource.RLIMIT_AS, "vms"), (resource.RLIMIT_DATA, "data")):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            memory: Any = psutil.Process().memory_info()
            bounds.append(float(soft - plugins.optional(memory, held, 0)))
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        bounds.append(float(torch.cuda.get_device_properties(0).total_memory))
    return max(0.0, min(bounds))


def _of_groups(groups: Path = GROUPS, mounted: Path = MOUNTED) -> list[float]:
    """The limits of the control groups that hold this process, in versions 1 and 2.

    There are none on other systems than Linux.
    """
    bounds = []
    for line in _read(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = mounted, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = mounted / "memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path is that of the host, and the root has the container's limit.
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            text = _read(place / name)
            if text.isdecimal():
                bounds.append(float(text))
            if place == root:
                break
    return bounds


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
