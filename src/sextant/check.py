"""Check params.yaml and every conf against the code, before anything runs.

DVC empties the outputs of a stage before its command can refuse a faulty conf, so `make` checks
first.
"""

import inspect
import itertools
import re
from typing import TYPE_CHECKING, get_args

from . import config, paths, plugins
from .errors import UsageError, lock_text
from .kinds.formats import fits_pattern
from .strict import advice, check, signature_model

if TYPE_CHECKING:
    from .optimizers import Schedule

LISTED = "--listed"
OVERFIT = "overfit"
CONFLICT = "<<<<<<< "  # how git begins a conflict in a file


def check_model(conf: config.ModelConf) -> None:
    """Check `net`, `optimizer` and `schedule` of a model against the code that takes them.

    It imports the family, and with it torch. Raises UsageError for the first fault.
    """
    from . import optimizers

    where = str(paths.model_conf(conf.name))
    family = plugins.family(conf.family)
    check_accelerator(conf.trainer.accelerator)
    check_kind(conf)
    check(signature_model(family), conf.net, f"{where} net")
    optimizers.check(conf.optimizer, f"{where} optimizer")
    schedule = check(optimizers.Schedule, conf.schedule, f"{where} schedule")
    check_together = plugins.optional(family, "check", None)
    if check_together:
        try:
            plugins.call(check_together, conf.net, optimizer=conf.optimizer, schedule=conf.schedule)
        except UsageError as error:
            raise UsageError(f"{where} net: {error}") from None
    check_pair(conf)
    check_metrics(conf, schedule.monitor)
    check_decide(conf, schedule)


def check_accelerator(name: str) -> None:
    """Raise UsageError for an accelerator that this machine, or this build of PyTorch, lacks."""
    import torch

    present = {
        "gpu": torch.cuda.is_available() or torch.backends.mps.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(name, True):
        raise UsageError(
            f"{paths.CONF / 'trainer.yaml'}: `accelerator` is {name}, and PyTorch finds none here;"
            " write `accelerator: auto`, which takes one where there is one, or `cpu`"
        )


def check_baselines(conf: config.ModelConf) -> None:
    """Raise UsageError for a baseline in the conf that the task lacks or that does not fit.

    Training does not check it: it would load the baselines, on which it does not depend.
    """
    plugins.task(conf.task).baselines(conf.kind, conf.baselines)


def check_slices(conf: config.ModelConf, columns: config.DatasetConf) -> None:
    """Raise UsageError for slices by something that the rows of the data set do not have."""
    # No stage checks slices, so a stage that checks its conf does not load them.
    from .slices import ACTIVITY, CLASS

    known = list(columns.columns.all)
    target = plugins.optional(columns.columns, "target", None)
    if target is not None and target in known:
        known.append(CLASS)
    if plugins.optional(columns.columns, "user", None) is not None:
        known = [ACTIVITY]
    for entry in conf.gate.on(conf.dataset).slices:
        if not any(entry.by == name or fits_pattern(entry.by, name) for name in known):
            raise UsageError(
                f"{paths.model_conf(conf.name)} gate: slices by `{entry.by}`, which the rows of"
                f" {conf.dataset} do not have; {advice(entry.by, known)}"
            )


def check_kind(conf: config.ModelConf) -> None:
    """Raise UsageError if the family reads data of another kind."""
    kinds = kinds_of(conf.family)
    if kinds and conf.kind not in kinds:
        fitting = [name for name in plugins.names("families") if conf.kind in kinds_of(name)]
        raise UsageError(
            f"model `{conf.name}`: family {conf.family} reads kind {', '.join(kinds)}, and"
            f" {conf.dataset} is {conf.kind}; families that read it: {', '.join(fitting) or 'none'}"
        )


def kinds_of(family: str) -> list[str]:
    """The kinds whose Batch a family's `predict` takes; [] if its annotation names none."""
    annotation = inspect.get_annotations(plugins.family(family).predict).get("batch")
    kinds = []
    for batch in get_args(annotation) or (annotation,):
        module = batch.__module__ if isinstance(batch, type) else ""
        match = re.fullmatch(rf"{__package__}\.kinds\.(\w+)\.encoder", module)
        if match:
            kinds.append(match[1])
    return kinds


def check_pair(conf: config.ModelConf) -> None:
    """Raise UsageError if the family's `predict` lacks an output that the task needs.

    The message names the tasks that fit the family.
    """
    family = plugins.family(conf.family)
    outputs = plugins.outputs(family, conf.net)
    missing = [name for name in plugins.task(conf.task).metrics.OUTPUTS if name not in outputs]
    if missing:
        raise UsageError(
            f"model `{conf.name}`: task {conf.task} needs {', '.join(missing)} of a net, and family"
            f" {conf.family} gives {', '.join(outputs)}; tasks that fit it:"
            f" {', '.join(fitting_tasks(conf)) or 'none'}"
        )


def check_figures(conf: config.ModelConf) -> None:
    """Raise UsageError if the family lacks a member that the figures of the task read."""
    lacking = _lacking_for_figures(conf, conf.task)
    if lacking:
        raise UsageError(
            f"model `{conf.name}`: the figures of task {conf.task} need {', '.join(lacking)} of a"
            f" net, which family {conf.family} lacks; add them, or choose another family"
        )


def fitting_tasks(conf: config.ModelConf) -> list[str]:
    """The tasks that the family of a model fits, with the arguments of this conf."""
    outputs = plugins.outputs(plugins.family(conf.family), conf.net)
    fitting = []
    for name in plugins.names("tasks"):
        needed = plugins.task(name).metrics.OUTPUTS
        if set(needed) <= set(outputs) and not _lacking_for_figures(conf, name):
            fitting.append(name)
    return fitting


def _lacking_for_figures(conf: config.ModelConf, task: str) -> list[str]:
    """The members of a net that the figures of a task read, but the family lacks."""
    return plugins.lacking(plugins.family(conf.family), plugins.task(task).net_members)


def check_metrics(conf: config.ModelConf, monitor: str) -> None:
    """Raise UsageError if a guard, `gate.metric` or the `monitor` is not a metric of the task.

    The monitor must also be computed at each look at val. Monitor and `gate.metric` must have a
    direction.
    """
    where = str(paths.model_conf(conf.name))
    task = plugins.task(conf.task)
    metrics = ", ".join(task.metrics.METRICS)
    measured = task.measured(plugins.outputs(plugins.family(conf.family), conf.net))
    if monitor not in task.metrics.METRICS:
        raise UsageError(
            f"{where} schedule: `{monitor}` is not a metric of {conf.task}; choose from: {metrics}"
        )
    guards = [*conf.gate.guards, *itertools.chain.from_iterable(conf.gate.guards_of.values())]
    read = [guard.split()[0] for guard in guards]
    if conf.gate.metric is not None:
        read.append(conf.gate.metric)
    for name in read:
        if name not in task.metrics.METRICS:
            raise UsageError(
                f"{where} gate: `{name}` is not a metric of {conf.task}; choose from: {metrics}"
            )
    for name in (monitor, *read):
        if name not in measured:
            raise UsageError(
                f"{where}: `{name}` cannot be computed from what family {conf.family} answers;"
                f" choose from: {', '.join(measured)}"
            )
    if conf.gate.metric is not None and conf.gate.metric not in task.directed:
        raise UsageError(
            f"{where} gate: `{conf.gate.metric}` has a target value and no direction, so that no"
            f" model is better by it; choose from: {', '.join(task.directed)}"
        )
    if monitor not in task.monitors:
        raise UsageError(
            f"{where} schedule: `{monitor}` cannot choose an epoch; choose from:"
            f" {', '.join(task.monitors)}"
        )


def check_decide(conf: config.ModelConf, schedule: "Schedule") -> None:
    """Raise UsageError for `schedule.decide` of a model whose task has no use for it."""
    calibrate = plugins.task(conf.task).metrics.calibrate
    if schedule.decide is not None and not plugins.takes(calibrate, "decide"):
        raise UsageError(
            f"{paths.model_conf(conf.name)} schedule: task {conf.task} predicts no class, so that"
            " `decide` has no meaning; remove it"
        )


def check_dataset(name: str, *, shelf: bool = False) -> None:
    """Check all blocks of a data set, its expectations, and its files as far as they are at hand.

    Raises UsageError for a fault.
    """
    from . import preview, pull, validate

    conf = config.dataset(name, shelf=shelf)
    if conf.twin is not None:
        config.twin(conf)
    pull.check_sources(conf)
    where = str(paths.expectations(name))
    validate.check_suite(conf.expectations, where, conf.columns.all)
    preview.check_files(conf)


def check_budgets(name: str, *, shelf: bool = False) -> None:
    """Check a model in all three budgets; raises UsageError for a fault."""
    from . import preview

    for budget in ("smoke", "standard", "full"):
        conf = config.model(name, [f"budget={budget}"], shelf=shelf)
        check_model(conf)
        check_baselines(conf)
        check_figures(conf)
    check_slices(conf, config.dataset(conf.dataset, shelf=shelf))
    if conf.task == "classification":
        preview.check_classes(config.dataset(conf.dataset, shelf=shelf), name)


def check_space(name: str) -> None:
    """Check the search space of a model, if it has one.

    `make tune` alone reads it, so that no stage is stopped by a fault in it.
    """
    from .tuning import space

    conf = config.model(name, shelf=True)
    if space.file_of(conf) is not None:
        space.load(conf)


def check_all(*, shelf: bool = True) -> None:
    """Check everything that params.yaml lists, and with `shelf` what the shelf does and
    conf/search.
    """
    from .tuning import space

    chosen = config.params(shelf=shelf)
    for name in chosen.datasets:
        check_dataset(name, shelf=shelf)
    for name in chosen.models:
        check_budgets(name, shelf=shelf)
    if shelf:
        for name in chosen.models:
            check_space(name)
        space.check_files(list(chosen.models))


def check_named(group: str, name: str, *, shelf: bool = True) -> None:
    """Check a model with its data set, or a data set: the others may have faults.

    Raises UsageError for a fault, and for a name that params.yaml does not list, nor with `shelf`
    the shelf. DVC would only say that the stage does not exist.
    """
    config.named([f"{group}={name}"], group, shelf=shelf)
    if group == "dataset":
        check_dataset(name, shelf=shelf)
        return
    check_dataset(config.params(shelf=shelf).models[name].dataset, shelf=shelf)
    check_budgets(name, shelf=shelf)
    if shelf:
        check_space(name)


def check_lock() -> None:
    """Raise UsageError for a dvc.lock in which a merge has left its conflicts.

    DVC refuses it as invalid and names no repair. Either side will do: what differs from it runs.
    """
    lines = lock_text().splitlines()
    if any(line.startswith(CONFLICT) for line in lines):
        raise UsageError(
            "dvc.lock has the conflicts of a merge; resolve those of conf/ by hand, then take one"
            " side of it, `git checkout --theirs dvc.lock reports` (or --ours), and `make repro`"
            " runs what differs"
        )


def main(argv: list[str]) -> None:
    """`sextant check [--listed] [model=…] [dataset=…] [budget=overfit]`: one line for a fault.

    With `budget=overfit` the model's net also has to learn one small batch by heart. With
    `--listed`, as before a stage runs, what is on the shelf alone counts as nowhere.
    """
    shelf = LISTED not in argv
    arguments = [argument for argument in argv if argument != LISTED]
    options, overrides = config.named_options(arguments, "model", "dataset", "budget")
    budget = options.pop("budget", None)
    if overrides:
        raise UsageError(
            f"`{overrides[0]}` is not understood; expected: check [model=…] [dataset=…]"
        )
    if budget is not None and (budget != OVERFIT or "model" not in options):
        raise UsageError(
            f"BUDGET={budget}: expected make check MODEL=<model> BUDGET={OVERFIT}, which lets the"
            " net learn one batch by heart"
        )
    check_lock()
    for group, name in options.items():
        check_named(group, name, shelf=shelf)
    if budget:
        from .commands import overfit  # torch

        overfit.main(options["model"])
    if not options:
        check_all(shelf=shelf)
