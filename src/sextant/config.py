"""The one file that knows Hydra: params.yaml and conf/ composed, and checked before anything runs."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from . import rooms
from .errors import UsageError, run
from .strict import Day, Strict, advice, check, signature_model

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Source = Literal["embedded", "mirror", "canonical"]
Budget = Literal["smoke", "standard", "full"]
Share = Annotated[float, Field(ge=0, lt=1)]

CONF = Path("conf")
PARAMS = Path("params.yaml")
SCALARS = ("seed", "source", "budget")  # of params.yaml: what a command line may choose otherwise
COMMAND_LINE = "the command line"


class ModelLine(Strict):
    """One line of `models` in params.yaml."""

    family: Name
    dataset: Name


class Params(Strict):
    """params.yaml: the few choices of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    source: Source
    budget: Budget
    datasets: Annotated[list[Name], Field(min_length=1)]
    models: Annotated[dict[Name, ModelLine], Field(min_length=1)]


class Trainer(Strict):
    """conf/trainer.yaml: the hardware."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: Annotated[int, Field(ge=1)]


class Shares(Strict):
    """The share of the rows that each part gets; `test: 0` where the source fixes a test part of its own."""

    train: Share
    val: Share
    gate: Share
    test: Share

    @model_validator(mode="after")
    def sum_to_one(self) -> Self:
        total = self.train + self.val + self.gate + self.test
        if not math.isclose(total, 1):
            raise ValueError(f"the shares sum to {total:g}; expected 1")
        return self


class HashSplit(Strict):
    """Rows come to a part by a salted hash of their key."""

    by: Literal["hash"]
    salt: Annotated[int, Field(ge=0)]
    shares: Shares


class DateSplit(Strict):
    """Rows come to a part by their date (ISO): train is what lies before `val_from`, and so on.

    `gate_from` = `test_from` leaves no gate part, as a published protocol may ask; prepare refuses it.
    """

    by: Literal["dates"]
    val_from: Day
    gate_from: Day
    test_from: Day

    @model_validator(mode="after")
    def in_order(self) -> Self:
        if not self.val_from < self.gate_from <= self.test_from:
            days = ", ".join((self.val_from, self.gate_from, self.test_from))
            raise ValueError(
                f"val, gate and test begin on {days}; expected them one after the other"
            )
        return self


Split = Annotated[HashSplit | DateSplit, Field(discriminator="by")]


class Gate(Strict):
    """What a challenger must do to become champion: beat the present one by `margin`, and keep the guards."""

    margin: Annotated[float, Field(ge=0)]
    guards: list[Annotated[str, Field(pattern=r"^[a-z0-9_]+ (<=|>=) -?\d+(\.\d+)?$")]]


class DatasetFile(Strict):
    """conf/dataset/<name>.yaml; `columns` and `twin` are held to the kind's own types.

    `about` is what a reader of any number reached on these data has to know; the report and the model card say it.
    """

    kind: str
    about: str | None
    source: Source | None
    sources: dict[Source, list[dict[str, Any]]]
    columns: dict[str, Any]
    split: Split
    twin: dict[str, Any] | None


class DatasetConf(Strict):
    """One data set: its file with the kind's types, its expectations, and the source it comes from."""

    name: str
    kind: str
    about: str | None
    source: Source | None
    sources: dict[Source, list[dict[str, Any]]]
    columns: Any
    split: Split
    twin: Any
    expectations: Any
    chosen_source: Source


class BudgetBlock(Strict):
    """What a budget overrides in its model's conf."""

    net: dict[str, Any] = {}
    optimizer: dict[str, Any] = {}
    schedule: dict[str, Any] = {}


class Budgets(Strict):
    """The three budgets of a model."""

    smoke: BudgetBlock
    standard: BudgetBlock
    full: BudgetBlock


class ModelFile(Strict):
    """conf/model/<name>.yaml."""

    task: str
    net: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    budgets: Budgets
    gate: Gate


class ModelConf(Strict):
    """One model: its file with the budget's overrides merged in, its line in params.yaml, its hardware."""

    name: str
    family: str
    dataset: str
    seed: int
    budget: Budget
    task: str
    net: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    gate: Gate
    trainer: Trainer


def params(overrides: Sequence[str] = ()) -> Params:
    """params.yaml, with overrides of its three scalars (`seed=7`, `source=mirror`, `budget=smoke`)."""
    found = check(Params, _yaml(PARAMS), str(PARAMS))
    pairs = [override.split("=", 1) for override in overrides if override.split("=")[0] in SCALARS]
    chosen = {key: parsed(value, COMMAND_LINE) for key, value in pairs}
    found = check(Params, {**found.model_dump(), **chosen}, COMMAND_LINE)
    for name, line in found.models.items():
        if line.dataset not in found.datasets:
            raise UsageError(
                f"{PARAMS}: model `{name}` asks for data set `{line.dataset}`, which `datasets` does not list;"
                f" add it there, or choose from: {', '.join(found.datasets)}"
            )
    return found


def dataset(name: str, overrides: Sequence[str] = ()) -> DatasetConf:
    """A data set by its name in params.yaml; raises UsageError for a fault in its conf."""
    chosen = params(overrides)
    _listed(name, chosen.datasets, "dataset")
    where = str(CONF / "dataset" / f"{name}.yaml")
    file = check(DatasetFile, _yaml(Path(where)), where)
    _check_keys(overrides, {"dataset": file.model_dump()}, COMMAND_LINE)
    composed = _compose([f"dataset={name}", *_scalars(chosen), *overrides])["dataset"]
    _finite(composed, where)
    found = check(DatasetFile, composed, where)
    room = rooms.module("data", found.kind)
    if found.split.by not in room.SPLITS:
        raise UsageError(
            f"{where} split: `by` is {found.split.by}; data of kind {found.kind} are split by {', '.join(room.SPLITS)}"
        )
    return DatasetConf(
        **{key: getattr(found, key) for key in ("kind", "about", "source", "sources", "split")},
        name=name,
        columns=check(room.Columns, found.columns, f"{where} columns"),
        twin=None if found.twin is None else check(room.Twin, found.twin, f"{where} twin"),
        expectations=_yaml(CONF / "expectations" / f"{name}.yaml"),
        chosen_source=found.source or chosen.source,
    )


def model(name: str, overrides: Sequence[str] = ()) -> ModelConf:
    """A model by its name in params.yaml, in the budget chosen; raises UsageError for a fault in its conf."""
    chosen = params(overrides)
    _listed(name, chosen.models, "model")
    where = str(CONF / "model" / f"{name}.yaml")
    file = check(ModelFile, _yaml(Path(where)), where)
    trainer = check(Trainer, _yaml(CONF / "trainer.yaml"), str(CONF / "trainer.yaml"))
    known = {"model": file.model_dump(exclude={"budgets"}), "trainer": trainer.model_dump()}
    changed = flat(getattr(file.budgets, chosen.budget).model_dump(), "model.")
    budget = [
        f"{key}={value}" for key, value in changed.items()
    ]  # so that a word on the command line still wins
    _check_keys(budget, known, f"{where} budgets.{chosen.budget}")
    _check_keys(overrides, known, COMMAND_LINE)
    composed = _compose([f"model={name}", *_scalars(chosen), *budget, *overrides])
    _finite(composed, where)
    found = check(ModelFile, composed["model"], where)
    return ModelConf(
        **{key: getattr(found, key) for key in ("task", "net", "optimizer", "schedule", "gate")},
        name=name,
        family=chosen.models[name].family,
        dataset=chosen.models[name].dataset,
        seed=chosen.seed,
        budget=chosen.budget,
        trainer=check(Trainer, composed["trainer"], str(CONF / "trainer.yaml")),
    )


def check_model(conf: ModelConf) -> None:
    """Hold the blocks of a model to the constructors they are calls of; imports the family, so torch."""
    from . import optimizers

    where = f"conf/model/{conf.name}.yaml"
    task = rooms.module("tasks", conf.task)
    family = rooms.family(conf.family)
    check(signature_model(family), conf.net, f"{where} net")
    optimizers.check(conf.optimizer, f"{where} optimizer")
    schedule = check(optimizers.Schedule, conf.schedule, f"{where} schedule")
    if hasattr(family, "check"):  # what its arguments must be together, and with how it is trained
        try:
            rooms.call(family.check, conf.net, optimizer=conf.optimizer, schedule=conf.schedule)
        except UsageError as error:
            raise UsageError(f"{where} net: {error}") from None
    for place, metric in [
        ("schedule", schedule.monitor),
        *(("gate", guard.split()[0]) for guard in conf.gate.guards),
    ]:
        if metric not in task.METRICS:
            raise UsageError(
                f"{where} {place}: `{metric}` is no metric of {conf.task}: {', '.join(task.METRICS)}"
            )
    # What is known after each epoch, where that is not all, and good up or down.
    watched = [
        name
        for name in getattr(task, "WATCHED", task.METRICS)
        if task.METRICS[name] in ("up", "down")
    ]
    if schedule.monitor not in watched:
        known = ", ".join(watched)
        raise UsageError(
            f"{where} schedule: `{schedule.monitor}` cannot pick an epoch; choose from: {known}"
        )


def check_all() -> None:
    """Hold everything that params.yaml lists to its constructor, in all three budgets, before DVC starts."""
    from . import pull, validate

    chosen = params()
    for name in chosen.datasets:
        found = dataset(name)
        pull.check_sources(found)
        validate.check_suite(
            found.expectations, f"conf/expectations/{name}.yaml", found.columns.all
        )
    for name in chosen.models:
        for budget in ("smoke", "standard", "full"):
            check_model(model(name, [f"budget={budget}"]))


def asked(argv: Sequence[str], *names: str) -> tuple[dict[str, str], list[str]]:
    """Split a command line into what is asked by name (`model=ann`) and Hydra's overrides (`model.net.dropout=0`)."""
    found, rest = {}, []
    for word in argv:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(
                f"`{word}` is not understood; expected {' '.join(f'{n}=…' for n in names)} or key=value"
            )
        if key in names:
            found[key] = value
        else:
            rest.append(word)
    return found, rest


def one(argv: Sequence[str], name: str) -> tuple[str, list[str]]:
    """The one `name=…` that a stage needs, of those in params.yaml, and the overrides."""
    found, rest = asked(argv, name)
    known: Collection[str] = params().models if name == "model" else params().datasets
    if name not in found:
        raise UsageError(f"which {name}? add {name}=… with one of: {', '.join(known)}")
    _listed(found[name], known, name)
    return found[name], rest


def _listed(name: str, known: Collection[str], group: str) -> None:
    what = "data set" if group == "dataset" else group
    if name not in known:
        raise UsageError(f"unknown {what} `{name}`; {PARAMS} lists: {', '.join(known)}")
    if not (CONF / group / f"{name}.yaml").is_file():
        raise UsageError(
            f"{PARAMS} lists {what} `{name}`, but conf/{group}/{name}.yaml is not there; add it"
        )


def _yaml(path: Path) -> Any:
    try:
        return parsed(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise UsageError(
            f"{path} is not there; run from the repository's root, or add it"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as such"
        ) from None


def parsed(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is not YAML: {error}") from None


def _scalars(chosen: Params) -> list[str]:
    return [f"{key}={getattr(chosen, key)}" for key in SCALARS]


def _check_keys(overrides: Sequence[str], blocks: dict[str, Any], where: str) -> None:
    """An override changes what is there; Hydra's own words are an advice to append what is misspelt."""
    for override in overrides:
        key = override.partition("=")[0]
        here: Any = {**dict.fromkeys(SCALARS), **blocks}
        for part in key.split("."):
            here = (
                {str(name): value for name, value in here.items()} if isinstance(here, dict) else {}
            )
            if part not in here:
                raise UsageError(f"{where}: unknown key `{key}`; {advice(part, here)}")
            here = here[part]


def flat(block: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested block as `net.sigma`: `3.0`, the values as JSON, which is how Hydra and DVC take them."""
    found = {}
    for key, value in block.items():
        inner = (
            flat(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": json.dumps(value)}
        )
        found.update(inner)
    return found


def _compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Hydra's composition of conf/, as plain values; raises UsageError in its words."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(config_dir=str(CONF.resolve()), version_base=None):
            composed = compose("config", overrides=list(overrides))
        OmegaConf.clear_resolver("oc.env")  # no secret of the environment can reach a config
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(f"{error} (composing {' '.join(overrides)})") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _finite(values: Any, where: str) -> None:
    """No NaN and no infinity anywhere in a conf."""
    if isinstance(values, float) and not math.isfinite(values):
        raise UsageError(f"{where} is {values}; expected a finite number")
    children = (
        values.items()
        if isinstance(values, dict)
        else enumerate(values)
        if isinstance(values, list)
        else ()
    )
    for key, value in children:
        _finite(value, f"{where} {key}")


def main(argv: list[str]) -> None:
    """`python -m sextant.config check [model=…] [dataset=…]`: one line and a non-zero exit for the first fault.

    A model or data set that is named must be listed: DVC only says that it does not know the stage.
    """
    if argv[:1] != ["check"]:
        raise UsageError(
            f"`{' '.join(argv)}` is not understood; expected: check [model=…] [dataset=…]"
        )
    check_all()
    named, rest = asked(argv[1:], "model", "dataset")
    if rest:
        raise UsageError(f"`{rest[0]}` is not understood; expected: check [model=…] [dataset=…]")
    for group, name in named.items():
        one([f"{group}={name}"], group)


if __name__ == "__main__":
    run(main)
