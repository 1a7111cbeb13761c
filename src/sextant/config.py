"""Read params.yaml and conf/, compose them with Hydra, and check them block by block.

This is the only module that uses Hydra. check.py compares the result with the code, before
anything runs.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, model_validator

from . import paths, plugins
from .errors import UsageError, describe
from .kinds.splits import Split
from .strict import Strict, advice, check

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Guard = Annotated[str, Field(pattern=r"^[a-z0-9_]+ (<=|>=) -?\d+(\.\d+)?$")]
# A further baseline with its settings: `nearest: {rows: 5}`.
WithSettings = Annotated[dict[Name, dict[str, Any]], Field(min_length=1, max_length=1)]
Source = Literal["embedded", "local", "mirror", "canonical"]
Budget = Literal["smoke", "standard", "full"]
Level = Annotated[float, Field(gt=0, lt=1)]

SCALARS = ("seed", "source", "budget")  # the values of params.yaml that a command line may override
COMMAND_LINE = "the command line"
# Bounds of a conf; the longest here has 9,000 characters, five levels and no alias.
MAX_CHARACTERS = 2**20
MAX_DEPTH = 20
MAX_ALIASES = 20
# Reads our confs in an eighth of the time, where PyYAML was built with libyaml, as its wheels are.
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def _none(value: object) -> object:
    """None for the word `none`, which YAML reads as text."""
    return None if value == "none" else value


class ModelLine(Strict):
    """One line of `models` in params.yaml: the names that choose code and data."""

    family: Name
    task: Name
    dataset: Name
    kind: Name


class Params(Strict):
    """params.yaml: the few choices of a run. `datasets` maps each data set to its kind."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    source: Source
    budget: Budget
    datasets: Annotated[dict[Name, Name], Field(min_length=1)]
    models: Annotated[dict[Name, ModelLine], Field(min_length=1)]


class Shelf(Strict):
    """conf/shelf.yaml: further data sets and models, which params.yaml may list, in its form."""

    datasets: dict[Name, Name] = {}
    models: dict[Name, ModelLine] = {}


class Trainer(Strict):
    """conf/trainer.yaml: the hardware.

    `devices` is 1. With more, Lightning starts a process for each, and the second one is refused by
    the lock of the training that the first one holds. `exact` caps the instruction sets, see
    processor.py.
    """

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: Literal[1]
    exact: bool = False

    @model_validator(mode="after")
    def _exact_needs_a_processor(self) -> Self:
        if self.exact and self.accelerator != "cpu":
            raise ValueError("`exact: true` needs `accelerator: cpu`: GPUs compute otherwise")
        return self


class Slice(Strict):
    """Slices of the gate part, on none of which a challenger may be much worse than the champion.

    `by` is a column, whose values are the slices, or quarters of them if they are many numbers;
    `class`, the true class; or `activity`, how many ratings of the user are known. `floor` is how
    much worse the challenger may be on the same rows, in the unit of the metric. A slice of fewer
    than `rows` rows is left out, since its score is mostly noise.
    """

    by: Annotated[str, Field(min_length=1)]
    floor: Annotated[float, Field(ge=0)]
    rows: Annotated[int, Field(ge=1)] = 30


class Drift(Strict):
    """From which population stability index a column has drifted, by severity; null: never.

    0.1 and 0.25 are the usual bounds of this index. `critical` stops a promotion until a person
    makes it, `warning` is reported. Columns in `ignored` are not compared.
    """

    warning: Annotated[float, Field(gt=0)] | None = 0.1
    critical: Annotated[float, Field(gt=0)] | None = 0.25
    ignored: list[str] = []


class Gate(Strict):
    """The conditions for becoming champion.

    A challenger must be better than the present champion by at least `margin`, and fulfil every
    guard, such as `ece <= 0.05`. `metric` is the metric of the task that is compared; null: its
    first one. `interval` is the level of the bootstrap interval of that gain, 0.9 for example,
    whose lower end must be above 0; null or `none`: the margin is enough. `slices`: see Slice.
    `drift` compares the training rows with those of the champion; null: they are not compared.
    Under `promote: review` a person promotes what the gate would.

    `guards_of` and `slices_of` hold further ones by data set: a conf that is copied for another
    data set leaves them behind, since a bound that fits one data set refuses good models of
    another.
    """

    margin: Annotated[float, Field(ge=0)]
    interval: Annotated[Level | None, BeforeValidator(_none)] = None
    guards: list[Guard] = []
    guards_of: dict[Name, list[Guard]] = {}
    metric: str | None = None
    promote: Literal["auto", "review"] = "auto"
    slices: list[Slice] = []
    slices_of: dict[Name, list[Slice]] = {}
    drift: Drift | None = Drift()

    def on(self, dataset: str) -> "Gate":
        """The gate of a model of one data set: its guards and slices are all in one list each."""
        guards = [*self.guards, *self.guards_of.get(dataset, [])]
        slices = [*self.slices, *self.slices_of.get(dataset, [])]
        update = {"guards": guards, "guards_of": {}, "slices": slices, "slices_of": {}}
        return self.model_copy(update=update)


class Costs(Strict):
    """What a missed row of the positive class costs, and a false alarm, in any unit."""

    missed: Annotated[float, Field(gt=0)]
    false_alarm: Annotated[float, Field(gt=0)] = 1.0


class Decide(Strict):
    """From which probability on the positive class is predicted, `schedule.decide`: one key of two.

    threshold: that probability, or `f1`: the one with the highest F1 on val.
    cost: the one with the lowest cost on val; a single number is the cost of a missed row, where a
    false alarm costs 1.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["f1"] | None = None
    cost: Annotated[float, Field(gt=0)] | Costs | None = None

    @model_validator(mode="after")
    def one_of_the_two(self) -> Self:
        if (self.threshold is None) == (self.cost is None):
            raise ValueError("expected either `threshold` or `cost`")
        return self

    @property
    def costs(self) -> Costs | None:
        """The block `cost` in its long form."""
        return Costs(missed=self.cost) if isinstance(self.cost, float) else self.cost


class DatasetFile(Strict):
    """conf/dataset/<name>.yaml; `columns` and `twin` are checked against the types of the kind.

    `about` is what a reader of scores on these data has to know; the report and the model card
    print it.
    """

    about: str | None = None
    source: Source | None = None
    sources: dict[Source, list[dict[str, Any]]]
    columns: dict[str, Any]
    split: Split
    twin: dict[str, Any] | None = None


class DatasetConf(Strict):
    """One data set: its file with the columns of its kind, its expectations, and its source.

    `twin` is not checked here, because few stages read it; the function `twin` checks it.
    """

    name: str
    kind: str
    about: str | None
    source: Source | None
    sources: dict[Source, list[dict[str, Any]]]
    columns: Any
    split: Split
    twin: dict[str, Any] | None
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
    """conf/model/<name>.yaml; `baselines` names further baselines of the task."""

    net: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    budgets: Budgets
    gate: Gate
    baselines: list[Name | WithSettings]


class ModelConf(Strict):
    """One model: its file with the budget's overrides, its line in params.yaml, the hardware."""

    name: str
    family: str
    task: str
    dataset: str
    kind: str
    seed: int
    budget: Budget
    net: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    gate: Gate
    baselines: list[Name | WithSettings]
    trainer: Trainer


# --- params.yaml --------------------------------------------------------------------------------


def params(overrides: Sequence[str] = (), *, shelf: bool = False) -> Params:
    """params.yaml, with overrides of its three scalars (`seed=7`, `source=mirror`, `budget=smoke`).

    With `shelf`, the data sets and models of the shelf follow those that it lists.
    Raises UsageError for a fault in it, and for a file in the form of versions before 0.2.
    """
    composed = _checked_params(read_yaml(paths.PARAMS), overrides)
    return _with_shelf(composed) if shelf else composed


def check_params(text: str) -> None:
    """Raise UsageError for a fault in a text that is to be written to params.yaml."""
    _checked_params(parsed(text, str(paths.PARAMS)), [])


def _checked_params(values: Any, overrides: Sequence[str]) -> Params:
    _refuse_old_params(values)
    file = check(Params, values, str(paths.PARAMS))
    chosen = {}
    for override in overrides:
        key, _, value = override.partition("=")
        if key in SCALARS:
            chosen[key] = parsed(value, COMMAND_LINE)
    composed = check(Params, {**file.model_dump(), **chosen}, COMMAND_LINE)
    for name, line in composed.models.items():
        _check_line(name, line, composed.datasets, paths.PARAMS)
    return composed


def shelf() -> Shelf:
    """conf/shelf.yaml; nothing if there is no such file. Raises UsageError for a fault in it."""
    if not paths.SHELF.is_file():
        return Shelf()
    checked = check(Shelf, read_yaml(paths.SHELF), str(paths.SHELF))
    for name, line in checked.models.items():
        _check_line(name, line, checked.datasets, paths.SHELF)
    return checked


def _with_shelf(listed: Params) -> Params:
    """Lists of what is in params.yaml and on the shelf; of one name in both, the first counts."""
    further = shelf()
    datasets = dict(listed.datasets)
    models = dict(listed.models)
    for name, kind in further.datasets.items():
        datasets.setdefault(name, kind)
    for name, line in further.models.items():
        models.setdefault(name, line)
    for name, line in models.items():
        _check_line(name, line, datasets, paths.SHELF)
    return listed.model_copy(update={"datasets": datasets, "models": models})


def _check_line(name: str, line: ModelLine, datasets: Mapping[str, str], where: Path) -> None:
    """Raise UsageError unless the data set of a model is listed, with the same kind."""
    if line.dataset not in datasets:
        raise UsageError(
            f"{where}: model `{name}` names data set `{line.dataset}`, which `datasets` does"
            f" not list; add it there, or choose from: {', '.join(datasets)}"
        )
    kind = datasets[line.dataset]
    if line.kind != kind:
        raise UsageError(
            f"{where}: model `{name}` has kind `{line.kind}`, but its data set"
            f" `{line.dataset}` has kind `{kind}`; write `kind: {kind}`, or choose another data set"
        )


def _refuse_old_params(values: Any) -> None:
    """Raise UsageError, with the line to write, if params.yaml has the form of versions before 0.2.

    That form listed data sets without a kind, and models without task and kind.
    """
    if not isinstance(values, Mapping):
        return
    datasets = values.get("datasets")
    if isinstance(datasets, list):
        lines = [f"`{name}: {_old_value('dataset', name, 'kind')}`" for name in datasets]
        lines = lines or ["`churn: tabular`, for example"]
        raise UsageError(
            f"{paths.PARAMS}: `datasets` is a list; expected a mapping of data set to kind:"
            f" {'; '.join(lines)}"
        )
    models = values.get("models")
    if not isinstance(models, Mapping):
        return
    kinds = datasets if isinstance(datasets, Mapping) else {}
    for name, line in models.items():
        _refuse_old_line(name, line, kinds)


def _refuse_old_line(name: str, line: object, kinds: Mapping[str, str]) -> None:
    """Raise UsageError if a line of `models` has family and data set, but lacks task or kind."""
    if not isinstance(line, Mapping):
        return
    if not {"family", "dataset"} <= set(line) < set(ModelLine.model_fields):
        return
    dataset = line["dataset"]
    if not isinstance(dataset, str):
        return  # the check of types names it
    task = line.get("task") or _old_value("model", name, "task")
    kind = line.get("kind") or kinds.get(dataset) or _old_value("dataset", dataset, "kind")
    raise UsageError(
        f"{paths.PARAMS}: model `{name}` lacks task or kind; write `{name}: {{family:"
        f" {line['family']}, task: {task}, dataset: {dataset}, kind: {kind}}}`"
    )


def _old_value(group: str, name: str, key: str) -> str:
    """The `kind` or `task` in a conf of the old form, or a placeholder such as `<kind>`."""
    placeholder = f"<{key}>"
    try:
        values = read_yaml(paths.CONF / group / f"{name}.yaml")
    except UsageError:
        return placeholder
    value = values.get(key) if isinstance(values, Mapping) else None
    return value if isinstance(value, str) else placeholder


def _refuse_moved_key(values: Any, key: str, path: Path, line: str) -> None:
    """Raise UsageError if a conf still has the key `kind` or `task`, which moved to params.yaml."""
    if isinstance(values, Mapping) and key in values:
        raise UsageError(
            f"{path}: `{key}` has moved to {paths.PARAMS}; delete it here, and write `{line}` there"
        )


# --- conf/ --------------------------------------------------------------------------------------


def dataset(name: str, overrides: Sequence[str] = (), *, shelf: bool = False) -> DatasetConf:
    """A data set by its name in params.yaml, or with `shelf` there or on the shelf.

    Raises UsageError for a fault in its conf.
    """
    chosen = params(overrides, shelf=shelf)
    _check_listed(name, chosen.datasets, "dataset")
    path = paths.dataset_conf(name)
    values = read_yaml(path)
    kind_name = chosen.datasets[name]
    _refuse_moved_key(values, "kind", path, f"{name}: {kind_name}")
    file = check(DatasetFile, values, str(path))
    _check_keys(overrides, {"dataset": file.model_dump()}, COMMAND_LINE)
    _trainer()  # Hydra reads it as well, and does not name it in its errors
    composed = _compose([f"dataset={name}", *_scalars(chosen), *overrides])["dataset"]
    _check_finite(composed, str(path))
    conf = check(DatasetFile, composed, str(path))
    kind = plugins.kind(kind_name)
    if conf.split.by not in kind.columns.SPLITS:
        raise UsageError(
            f"{path} split: `by` is {conf.split.by}; data of kind {kind_name} are split by"
            f" {', '.join(kind.columns.SPLITS)}"
        )
    return DatasetConf(
        name=name,
        kind=kind_name,
        about=conf.about,
        source=conf.source,
        sources=conf.sources,
        columns=check(kind.columns.Columns, conf.columns, f"{path} columns"),
        split=conf.split,
        twin=conf.twin,
        expectations=read_yaml(paths.expectations(name)),
        chosen_source=conf.source or chosen.source,
    )


def twin(conf: DatasetConf) -> Any:
    """The checked block `twin` of a data set that has one; raises UsageError for a fault in it."""
    where = f"{paths.dataset_conf(conf.name)} twin"
    return check(plugins.kind(conf.kind).twin.Twin, conf.twin or {}, where)


def model(name: str, overrides: Sequence[str] = (), *, shelf: bool = False) -> ModelConf:
    """A model by its name in params.yaml, or with `shelf` there or on the shelf.

    What its budget overrides is overridden. Raises UsageError for a fault in its conf.
    """
    chosen = params(overrides, shelf=shelf)
    _check_listed(name, chosen.models, "model")
    line = chosen.models[name]
    path = paths.model_conf(name)
    file = _model_file(name, line.task)
    trainer = _trainer()
    keys = file.model_dump(exclude={"budgets"})
    keys["schedule"].setdefault("decide", None)  # the one key that a schedule may leave out
    blocks = {"model": keys, "trainer": trainer.model_dump()}
    changes = flat(file.budgets.model_dump()[chosen.budget], "model.")
    # The budget comes before the command line, so that an override of the same key wins.
    budget = [f"{key}={value}" for key, value in changes.items()]
    _check_keys(budget, blocks, f"{path} budgets.{chosen.budget}")
    _check_keys(overrides, blocks, COMMAND_LINE)
    composed = _compose([f"model={name}", *_scalars(chosen), *budget, *overrides])
    _check_finite(composed, str(path))
    conf = check(ModelFile, composed["model"], str(path))
    return ModelConf(
        name=name,
        family=line.family,
        task=line.task,
        dataset=line.dataset,
        kind=line.kind,
        seed=chosen.seed,
        budget=chosen.budget,
        net=conf.net,
        optimizer=conf.optimizer,
        schedule=conf.schedule,
        gate=conf.gate,
        baselines=conf.baselines,
        trainer=check(Trainer, composed["trainer"], str(paths.CONF / "trainer.yaml")),
    )


def _trainer() -> Trainer:
    path = paths.CONF / "trainer.yaml"
    return check(Trainer, read_yaml(path), str(path))


def further_baselines(name: str) -> list[str | dict[str, dict[str, Any]]]:
    """The block `baselines` of a model's conf, without the cost of composing it."""
    return _model_file(name, params().models[name].task).baselines


def gate_metric(name: str) -> str | None:
    """`gate.metric` of a model's conf, without the cost of composing it."""
    return _model_file(name, params().models[name].task).gate.metric


def _model_file(name: str, task: str) -> ModelFile:
    path = paths.model_conf(name)
    values = read_yaml(path)
    _refuse_moved_key(values, "task", path, f"task: {task}")
    if isinstance(values, Mapping) and "gate" in values and "baselines" not in values:
        raise UsageError(f"{path}: key `baselines` is missing; add `baselines: []`")
    if isinstance(values, Mapping) and "decide" in values:
        raise UsageError(f"{path}: `decide` has no place here; move it into the block `schedule`")
    return check(ModelFile, values, str(path))


# --- command lines ------------------------------------------------------------------------------


def named_options(argv: Sequence[str], *names: str) -> tuple[dict[str, str], list[str]]:
    """Split a command line into named options (`model=ann`) and Hydra's overrides
    (`model.net.dropout=0`).

    Raises UsageError for an argument without `=`.
    """
    options: dict[str, str] = {}
    overrides = []
    for argument in argv:
        key, equals, value = argument.partition("=")
        if not equals:
            expected = " ".join(f"{name}=…" for name in names)
            raise UsageError(f"`{argument}` is not understood; expected {expected} or key=value")
        if key in names:
            options[key] = value
        else:
            overrides.append(argument)
    return options, overrides


def named(argv: Sequence[str], group: str, *, shelf: bool = False) -> tuple[str, list[str]]:
    """The name in `model=…` or `dataset=…`, which a stage requires, and the overrides.

    Raises UsageError if it is missing or params.yaml does not list it, nor with `shelf` the shelf.
    """
    options, overrides = named_options(argv, group)
    chosen = params(shelf=shelf)
    listed: Collection[str] = chosen.models if group == "model" else chosen.datasets
    if group not in options:
        raise UsageError(f"which {group}? add {group}=… with one of: {', '.join(listed)}")
    _check_listed(options[group], listed, group)
    return options[group], overrides


def _check_listed(name: str, listed: Collection[str], group: str) -> None:
    """Raise UsageError unless params.yaml lists a `model` or `dataset` and its conf exists."""
    label = "data set" if group == "dataset" else group
    if name not in listed:
        raise UsageError(
            f"unknown {label} `{name}`; {paths.PARAMS} lists: {', '.join(listed)}{_on_shelf(name)}"
        )
    path = paths.CONF / group / f"{name}.yaml"
    if not path.is_file():
        raise UsageError(f"{label} `{name}` is listed, but {path} does not exist; add it")


def _on_shelf(name: str) -> str:
    """The end of a message about a model that is not listed, if the shelf has it."""
    try:
        models = shelf().models
    except UsageError:  # `make check` explains it
        return ""
    return f"; `make add MODEL={name}` adds it from {paths.SHELF}" if name in models else ""


# --- YAML and Hydra -----------------------------------------------------------------------------


def read_yaml(path: Path) -> Any:
    """The content of a YAML file as plain values; raises UsageError if it cannot be read."""
    try:
        return parsed(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise UsageError(
            f"{path} does not exist; run from the repository's root, or add it"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:  # a folder, for example, or a name that none can have
        raise UsageError(
            f"{path} cannot be read ({describe(error)}); expected a file of text"
        ) from None


def parsed(text: str, where: str) -> Any:
    """A YAML text as plain values; raises UsageError, which calls the text `where`."""
    try:
        _check_bounds(text, where)
        return yaml.load(text, Loader=LOADER)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is not YAML: {error}") from None


def _check_bounds(text: str, where: str) -> None:
    """Raise UsageError for a YAML text whose values could take minutes to walk through.

    Aliases of aliases multiply: nine of each of the nine before it make 9 ** n values of n lines.
    """
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"{where} has {len(text):,} characters; expected a conf of at most {MAX_CHARACTERS:,}:"
            " data belong into data/"
        )
    depth = aliases = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > MAX_DEPTH or aliases > MAX_ALIASES:
            limit = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_ALIASES} aliases (`*`)"
            place = f" line {event.start_mark.line + 1}" if event.start_mark else ""
            raise UsageError(f"{where}{place} has more than {limit}; write the values out")


def _scalars(chosen: Params) -> list[str]:
    values = chosen.model_dump()
    return [f"{key}={values[key]}" for key in SCALARS]


def _check_keys(overrides: Sequence[str], blocks: Mapping[str, object], where: str) -> None:
    """Raise UsageError for an override of a key that does not exist.

    Hydra's own message would advise to append the misspelt key.
    """
    for override in overrides:
        key = override.partition("=")[0]
        block: Any = {**dict.fromkeys(SCALARS), **blocks}
        for part in key.split("."):
            names = {}
            if isinstance(block, dict):
                names = {str(name): value for name, value in block.items()}
            if part not in names:
                raise UsageError(f"{where}: unknown key `{key}`; {advice(part, names)}")
            block = names[part]


def flat(block: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """A nested block in one level (`net.sigma`: `3.0`), values as JSON, as Hydra reads them."""
    lines: dict[str, str] = {}
    for key, value in block.items():
        if isinstance(value, Mapping):
            lines |= flat(value, f"{prefix}{key}.")
        else:
            lines[f"{prefix}{key}"] = json.dumps(value)
    return lines


def _compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Hydra's composition of conf/ as plain values; raises UsageError with Hydra's message.

    `_check_keys` has checked the keys of the overrides. `++` lets Hydra set a key that has a
    default and that the file leaves out.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(config_dir=str(paths.CONF.resolve()), version_base=None):
            composed = compose("config", overrides=[_set_or_add(line) for line in overrides])
        # Without this resolver, a conf cannot copy a secret from the environment into the outputs.
        OmegaConf.clear_resolver("oc.env")
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(f"{error} (composing {' '.join(overrides)})") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _set_or_add(override: str) -> str:
    """An override of a key inside a block in Hydra's form `++key=value`, any other as it is."""
    return f"++{override}" if "." in override.partition("=")[0] else override


def _check_finite(values: object, where: str) -> None:
    """Raise UsageError for NaN or infinity anywhere in a conf."""
    if isinstance(values, float) and not math.isfinite(values):
        raise UsageError(f"{where} is {values}; expected a finite number")
    for key, value in _children(values):
        _check_finite(value, f"{where} {key}")


def _children(values: object) -> Iterator[tuple[object, object]]:
    if isinstance(values, dict):
        yield from values.items()
    elif isinstance(values, list):
        yield from enumerate(values)
