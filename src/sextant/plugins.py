"""Plugin lookup: load a kind, family or task by name, with the defaults of its optional members.

A plugin is a folder or a file: kinds/<kind>/ with columns, rows/, twin and encoder;
families/<family>.py with one class; tasks/<task>/ with metrics, baselines and figures. contracts.py
describes their members.
"""

import ast
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar, cast

from .errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from . import contracts

T = TypeVar("T")
B = TypeVar("B", bound="contracts.Batch")
C = TypeVar("C")  # the Columns of a kind

PACKAGE = Path(__file__).parent
SINGULAR = {"kinds": "kind", "families": "family", "tasks": "task"}


def names(group: str) -> list[str]:
    """The plugins of a group (`kinds`, `families`, `tasks`), sorted.

    families/blocks.py, families/maps.py and tasks/recommendation/ contain shared code and are not
    plugins.
    """
    folder = PACKAGE / group
    if group == "families":
        stems = {path.stem for path in folder.glob("*.py")} - {"__init__", "blocks", "maps"}
    elif group == "tasks":
        stems = {path.parent.name for path in folder.glob("*/baselines.py")} - {"recommendation"}
    else:
        stems = {path.parent.name for path in folder.glob("*/encoder.py")}
    return sorted(stems)


@functools.cache
def load(group: str, name: str, part: str = "") -> ModuleType:
    """A module of a plugin; raises UsageError for an unknown name.

    It is looked for once: an answer reads eight members of plugins, and looking into the folder for
    each took a third of the time of one row.
    """
    if name not in names(group):
        raise UsageError(
            f"unknown {SINGULAR[group]} `{name}`; src/sextant/{group}/ has:"
            f" {', '.join(names(group))}"
        )
    path = f".{group}.{name}.{part}" if part else f".{group}.{name}"
    return importlib.import_module(path, __package__)


def optional(plugin: object, member: str, default: T) -> T:
    """An optional member of a plugin (a module, a class, a net), or its default."""
    return getattr(plugin, member, default)


def takes(function: Callable[..., object], name: str) -> bool:
    """Whether the signature of a plugin's function names this keyword."""
    return name in inspect.signature(function).parameters


def call(function: Callable[..., T], *args: object, **offered: object) -> T:
    """Call a plugin's function with those of the `offered` keywords that its signature names."""
    parameters = inspect.signature(function).parameters
    accepted = {name: value for name, value in offered.items() if name in parameters}
    return function(*args, **accepted)


# --- kinds --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of data; each of its modules is imported when it is first used."""

    name: str

    @property
    def columns(self) -> "contracts.KindColumns":
        return cast("contracts.KindColumns", load("kinds", self.name, "columns"))

    @property
    def rows(self) -> "contracts.KindRows":
        return cast("contracts.KindRows", load("kinds", self.name, "rows"))

    @property
    def twin(self) -> "contracts.KindTwin":
        return cast("contracts.KindTwin", load("kinds", self.name, "twin"))

    @property
    def encoder(self) -> "contracts.KindEncoder":
        return cast("contracts.KindEncoder", load("kinds", self.name, "encoder"))


def kind(name: str) -> Kind:
    """A kind of data by name; raises UsageError for an unknown one."""
    load("kinds", name)
    return Kind(name)


# --- families -----------------------------------------------------------------------------------


def family(name: str) -> "type[contracts.Family]":
    """The one class of a family: `ANN` in families/ann.py."""
    module = load("families", name)
    class_name = name.replace("_", "")
    for attribute, value in vars(module).items():
        if attribute.lower() == class_name and isinstance(value, type):
            return cast("type[contracts.Family]", value)
    raise UsageError(
        f"src/sextant/families/{name}.py has no class named `{class_name.upper()}`; add it"
    )


def outputs(net_class: "type[contracts.Family]", net: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the tensors that a family's `predict` gives with these arguments."""
    of_arguments: Callable[[Mapping[str, object]], tuple[str, ...]] | None
    of_arguments = optional(net_class, "outputs", None)
    return of_arguments(net) if of_arguments else tuple(net_class.OUTPUTS)


def members(protocol: type) -> list[str]:
    """The members of a Protocol: annotations first, then methods."""
    methods = [name for name in vars(protocol) if not name.startswith("_")]
    return [*inspect.get_annotations(protocol), *methods]


def lacking(net_class: type, required: Iterable[str]) -> list[str]:
    """The `required` members that a family's class has neither defined nor annotated."""
    present = {*dir(net_class)}
    for base in net_class.__mro__:
        present |= inspect.get_annotations(base).keys()
    return [name for name in required if name not in present]


# --- batches ------------------------------------------------------------------------------------


def steps(batch: B) -> Iterator[B]:
    """The batches of single steps in tensors of shape (steps, batch_size, ...)."""
    custom: Callable[[], Iterator[B]] | None = optional(batch, "steps", None)
    if custom:
        yield from custom()
        return
    for tensors in zip(*batch, strict=True):
        yield type(batch)(*tensors)


def take(batch: B, index: "Tensor | slice") -> B:
    """The rows of a batch at `index`, an integer tensor or a slice over the first axis."""
    custom: Callable[[Tensor | slice], B] | None = optional(batch, "take", None)
    if custom:
        return custom(index)
    return type(batch)(*[tensor[index] for tensor in batch])


# --- tasks --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A task; each of its modules is imported when it is first used."""

    name: str

    @property
    def metrics(self) -> "contracts.TaskMetrics":
        return cast("contracts.TaskMetrics", load("tasks", self.name, "metrics"))

    @property
    def figures(self) -> "contracts.TaskFigures":
        return cast("contracts.TaskFigures", load("tasks", self.name, "figures"))

    @property
    def net_members(self) -> list[str]:
        """The members of a net that the figures read: those of `Net` in figures.py, often none.

        They are read from the source, because importing the figures of every task would load
        Matplotlib and take `make check` twice as long.
        """
        path = PACKAGE / "tasks" / self.name / "figures.py"
        names = []
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == "Net":
                for member in node.body:
                    if isinstance(member, ast.FunctionDef):
                        names.append(member.name)
                    elif isinstance(member, ast.AnnAssign):
                        names.append(ast.unparse(member.target))
        return names

    @property
    def primary(self) -> tuple[str, str]:
        """The first metric and its direction, `up` or `down`; the gate reads it by default."""
        name, direction = next(iter(self.metrics.METRICS.items()))
        return name, str(direction)

    def compared(self, metric: str | None) -> tuple[str, str]:
        """The metric that evaluate compares with the baselines, and its direction.

        That is the one that the gate reads, `metric`, if the task gives its contributions by row.
        """
        by_metric = takes(self.metrics.contributions, "metric")
        if metric is None or metric not in self.directed or not by_metric:
            return self.primary
        return metric, str(self.metrics.METRICS[metric])

    @property
    def directed(self) -> list[str]:
        """The metrics of which more, or less, is better; the others have a target value."""
        metrics = self.metrics.METRICS
        return [name for name, direction in metrics.items() if direction in ("up", "down")]

    def measured(self, outputs: Iterable[str]) -> list[str]:
        """The metrics that can be computed for a net with these outputs: nearly always all."""
        needs: Mapping[str, tuple[str, ...]] = optional(self.metrics, "NEEDS", {})
        present = set(outputs)
        return [name for name in self.metrics.METRICS if present.issuperset(needs.get(name, ()))]

    @property
    def options(self) -> "Mapping[str, contracts.Option]":
        """The options that a caller may set (`make predict OPTIONS="top_k=5"`), with defaults."""
        return optional(self.metrics, "OPTIONS", {})

    @property
    def hides_columns(self) -> bool:
        """Whether an answer has columns that scores need and that a caller does not see."""
        return optional(self.metrics, "public", None) is not None

    @property
    def explained(self) -> "contracts.Explained | None":
        """The number of an answer that its reasons are about; None if the task has no such one."""
        return optional(self.metrics, "explained", None)

    def roles(self, columns: C, train: "pd.DataFrame", net: Mapping[str, object]) -> C:
        """The block `columns` as an encoder of this task reads it, for these arguments of a net."""
        change: Callable[..., C] | None = optional(self.metrics, "roles", None)
        return call(change, columns, train, net=net) if change else columns

    def public(
        self, answers: "pd.DataFrame", options: "Mapping[str, contracts.Option]"
    ) -> "pd.DataFrame":
        """Answers as a caller sees them who set these options of the task."""
        hide: Callable[..., pd.DataFrame] | None = optional(self.metrics, "public", None)
        return call(hide, answers, **options) if hide else answers

    @property
    def monitors(self) -> list[str]:
        """The metrics that can choose an epoch: computed after each, and with a direction."""
        watched = optional(self.metrics, "WATCHED", list(self.metrics.METRICS))
        return [name for name in watched if name in self.directed]

    def baselines(
        self, kind: str, further: "Iterable[str | Mapping[str, Mapping[str, object]]]" = ()
    ) -> "dict[str, contracts.Fit]":
        """The baselines of a kind by name, the trivial one first, and the `further` ones of a conf.

        Raises UsageError for a further one that the task does not have or that does not fit the
        kind, and for an unknown setting.
        """
        module = cast("contracts.TaskBaselines", load("tasks", self.name, "baselines"))
        kinds: dict[str, tuple[str, ...]] = optional(module, "KINDS", {})
        chosen: dict[str, contracts.Fit] = {}
        for name, fit in module.BASELINES.items():
            if kind in kinds.get(name, (kind,)):
                chosen[name] = fit
        available: dict[str, contracts.Fit] = optional(module, "FURTHER", {})
        for entry in further:
            name, settings = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
            chosen[name] = self._further(available, kinds, name, kind, settings)
        return chosen

    def _further(
        self,
        available: "Mapping[str, contracts.Fit]",
        kinds: Mapping[str, tuple[str, ...]],
        name: str,
        kind: str,
        settings: Mapping[str, object],
    ) -> "contracts.Fit":
        """A further baseline with its settings; raises UsageError as `baselines` describes."""
        if name not in available:
            raise UsageError(
                f"task {self.name} has no further baseline `{name}`; it has:"
                f" {', '.join(available) or 'none'}"
            )
        if kind not in kinds.get(name, (kind,)):
            raise UsageError(
                f"baseline `{name}` does not fit kind {kind}; it fits {', '.join(kinds[name])}"
            )
        fit = available[name]
        allowed = []
        for parameter in inspect.signature(fit).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                allowed.append(parameter.name)
        for setting in settings:
            if setting not in allowed:
                raise UsageError(
                    f"baseline `{name}` has no setting `{setting}`; it has:"
                    f" {', '.join(allowed) or 'none'}"
                )
        return functools.partial(fit, **settings)


def task(name: str) -> Task:
    """A task by name; raises UsageError for an unknown one."""
    load("tasks", name)
    return Task(name)
