"""The search space of a model: conf/search/<model>.yaml, or else conf/search/<family>.yaml."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from .. import config, optimizers, paths, plugins, strict
from ..errors import UsageError
from ..strict import Strict

BLOCKS = ("net", "optimizer", "schedule")
DIGITS = 3  # of a sampled number: more could not be told apart, and nobody would write them
# Keys that trials may not change, and why.
FIXED = {
    "optimizer.name": "another optimizer takes other arguments",
    "schedule.monitor": "the trials are compared by it",
    "schedule.threads": "it is a choice of time, and changes the last digits alone",
    "schedule.precision": "it is a choice of time, and changes the last digits alone",
    "schedule.decide": "it changes no training, only which class is predicted",
}


class Range(Strict):
    """The numbers from `low` to `high`, whole ones if both are; `step` keeps to a grid.

    With `log`, each factor is as likely as any other: 0.001 to 0.01 as 0.01 to 0.1.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> list[object]:
        """The values by which the range is checked."""
        return [self.low, self.high]

    def value(self, number: float) -> float:
        """A sampled number as it is written in a conf."""
        if self.whole:
            return int(number)
        if self.step is not None:
            return round(number, 10)
        rounded = float(f"{number:.{DIGITS}g}")
        return min(max(rounded, self.low), self.high)

    def has(self, value: object) -> bool:
        """Whether a value of a conf lies in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.whole and not isinstance(value, int):
            return False
        if self.step is not None:
            steps = (value - self.low) / self.step
            if not math.isclose(steps, round(steps), abs_tol=1e-8):
                return False
        return self.low <= value <= self.high


class Choices(Strict):
    """Single values of any type."""

    choices: list[Any] = Field(min_length=1)

    @property
    def ends(self) -> list[object]:
        """The values by which the choices are checked."""
        return self.choices

    def has(self, value: object) -> bool:
        """Whether a value of a conf is one of the choices."""
        return value in self.choices


Dimension = Range | Choices


@dataclass(frozen=True)
class Space:
    """What a search varies: each dimension by its name in the conf, such as `net.dropout`."""

    path: Path
    dimensions: Mapping[str, Dimension]

    def outside(self, conf: config.ModelConf) -> list[str]:
        """The names of those values of a conf that no trial can have."""
        current = values(conf, self.dimensions)
        return [name for name, value in current.items() if not self.dimensions[name].has(value)]


def values(conf: config.ModelConf, names: Mapping[str, object]) -> dict[str, Any]:
    """The values of a conf by their names, such as `net.dropout`."""
    blocks = _blocks(conf)
    found = {}
    for name in names:
        block, _, key = name.partition(".")
        found[name] = blocks[block].get(key)
    return found


def with_values(conf: config.ModelConf, changes: Mapping[str, object]) -> config.ModelConf:
    """A conf with other values by their names, such as `net.dropout`."""
    blocks = {name: dict(block) for name, block in _blocks(conf).items()}
    for name, value in changes.items():
        block, _, key = name.partition(".")
        blocks[block][key] = value
    return conf.model_copy(update=blocks)


def _blocks(conf: config.ModelConf) -> dict[str, dict[str, Any]]:
    return {"net": conf.net, "optimizer": conf.optimizer, "schedule": conf.schedule}


# --- the files ----------------------------------------------------------------------------------


def search_file(name: str) -> Path:
    """The file of a model or a family."""
    return paths.CONF / "search" / f"{name}.yaml"


def file_of(conf: config.ModelConf) -> Path | None:
    """The file of a model, or of its family; None if there is none."""
    for name in (conf.name, conf.family):
        path = search_file(name)
        if path.is_file():
            return path
    return None


def check_files(models: Sequence[str]) -> None:
    """Raise UsageError for a file of conf/search/ that no search would read.

    It belongs to a family, to one of `models`, or to another model that has a conf: a model that
    `make remove` took out leaves its confs behind.
    """
    confs = [path.stem for path in paths.model_conf("").parent.glob("*.yaml")]
    names = [*plugins.names("families"), *models, *confs]
    for path in sorted(search_file("").parent.glob("[!.]*")):  # editors keep hidden files
        if path != search_file(path.stem):
            raise UsageError(f"{path} is never read; rename it to {path.stem}.yaml, or remove it")
        if path.stem not in names:
            raise UsageError(
                f"{path} fits no family and no model; {strict.advice(path.stem, names)}; rename it,"
                " or remove it"
            )


def load(conf: config.ModelConf) -> Space:
    """The search space of a model.

    Raises UsageError if there is no file, and for a name that the model does not have, an empty
    range, and a value that the code does not take.
    """
    path = file_of(conf)
    if path is None:
        raise UsageError(
            f"{search_file(conf.family)} does not exist; write one, as the other files of its"
            f" folder are, or {search_file(conf.name)} for this model alone"
        )
    content = config.read_yaml(path)
    if not isinstance(content, Mapping) or not content:
        raise UsageError(f"{path} is {content!r}; expected blocks of: {', '.join(BLOCKS)}")
    allowed = _allowed(conf)
    dimensions: dict[str, Dimension] = {}
    for block, entries in content.items():
        if block not in BLOCKS:
            raise UsageError(f"{path}: unknown key `{block}`; {strict.advice(str(block), BLOCKS)}")
        if not isinstance(entries, Mapping) or not entries:
            raise UsageError(f"{path}: `{block}` is {entries!r}; expected names with their ranges")
        for key, entry in entries.items():
            if key not in allowed[block]:
                advice = strict.advice(str(key), allowed[block])
                raise UsageError(f"{path}: {conf.name} has no `{block}.{key}`; {advice}")
            name = f"{block}.{key}"
            if name in FIXED:
                raise UsageError(f"{path}: `{name}` is no setting to search, since {FIXED[name]}")
            dimensions[name] = _dimension(entry, f"{path} {name}")
    space = Space(path, dimensions)
    _check_values(space, conf)
    return space


def _allowed(conf: config.ModelConf) -> dict[str, list[str]]:
    """The keys of each block: those of the family, of the optimizer in the conf, of a schedule."""
    family = strict.signature_model(plugins.family(conf.family))
    return {
        "net": list(family.model_fields),
        "optimizer": list(conf.optimizer),
        "schedule": list(optimizers.Schedule.model_fields),
    }


def _dimension(entry: object, where: str) -> Dimension:
    """A range or choices; raises UsageError for an empty one."""
    if isinstance(entry, Mapping) and "choices" in entry:
        choices = strict.check(Choices, entry, where)
        repeated = [value for value in choices.choices if choices.choices.count(value) > 1]
        if repeated:
            raise UsageError(f"{where}: `choices` has {repeated[0]!r} twice; write it once")
        return choices
    if not isinstance(entry, Mapping):
        raise UsageError(f"{where} is {entry!r}; expected {{low: …, high: …}} or {{choices: […]}}")
    checked = strict.check(Range, entry, where)
    if checked.low >= checked.high:
        raise UsageError(
            f"{where}: the range from {checked.low:g} to {checked.high:g} is empty; expected `low`"
            " below `high`"
        )
    if checked.log and (checked.low <= 0 or checked.step is not None):
        raise UsageError(f"{where}: `log` needs a `low` above 0, and takes no `step`")
    _check_step(checked, where)
    return checked


def _check_step(checked: Range, where: str) -> None:
    """Raise UsageError for a step that does not lead from `low` to `high`."""
    if checked.step is None:
        return
    if checked.whole and isinstance(checked.step, float):
        raise UsageError(f"{where}: `step` is {checked.step:g}; between whole numbers it is whole")
    if checked.step <= 0 or not checked.has(checked.high):
        raise UsageError(
            f"{where}: `step` is {checked.step:g}; expected a part of the range from"
            f" {checked.low:g} to {checked.high:g}, without a remainder"
        )


def _check_values(space: Space, conf: config.ModelConf) -> None:
    """Raise UsageError for an end or a choice that the constructor's types do not allow.

    Values that are each valid and do not go together are met by a trial, which is pruned.
    """
    family = strict.signature_model(plugins.family(conf.family))
    for name, dimension in space.dimensions.items():
        for value in dimension.ends:
            changed = with_values(conf, {name: value})
            where = str(space.path)
            if name.startswith("net."):
                strict.check(family, changed.net, f"{where} net")
            elif name.startswith("optimizer."):
                optimizers.check(changed.optimizer, f"{where} optimizer")
            else:
                strict.check(optimizers.Schedule, changed.schedule, f"{where} schedule")
