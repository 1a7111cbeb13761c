"""Stage register: make a model a registered version, and champion if the gate decides so."""

import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import config, files, paths, plugins, processor, reference
from .decisions import judged_here, print_decision, write_decision
from .errors import UsageError
from .gate import Candidate, changed_rules, judge
from .model_card import about, card
from .tracking import packing, promotions, registry, runs, store, training
from .tracking.registry import PROMOTED, WAITING

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

    from . import contracts
    from .saved_model import SavedModel

# MLflow's types by the kind of a NumPy dtype; every other kind is "string".
MLFLOW_TYPES = {"b": "boolean", "f": "double", "i": "long"}
OPTION_TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}


def register(candidate: Candidate) -> dict[str, Any]:
    """Give the candidate its decision in this registry, or repeat the one it has.

    A decision is made again if the gate (metric, margin, guards) was edited since. The alias moves
    only in a call that decides, and never to a version that has been champion before, so that a
    rollback survives a fresh clone and an edited gate. The decision is stored as `pending` before
    the alias moves: after a crash in between, the next call completes it.
    """
    mlflow = store.client()
    registry.check_data(mlflow, candidate.registered, candidate.metrics["dataset"])
    version = _version_of_digest(mlflow, candidate)
    if version:
        _restore_files(mlflow, candidate, version)
        _add_reference(mlflow, candidate, version)
        if version.decision and not changed_rules(version.decision, candidate.gate):
            return _record(mlflow, candidate, version, version.decision)
    run_id = _run(mlflow, candidate)
    version = version or _only_version(mlflow, candidate, run_id)
    _add_reference(mlflow, candidate, version)
    decision = _pending(mlflow, candidate, version) or _decide(mlflow, candidate, version)
    description = f"Gate: {decision['decision']}. {decision['reason']}.\n\n{card(candidate)}"
    mlflow.update_model_version(version.name, version.version, description)
    if decision["decision"] == PROMOTED and "champion_until" not in version.tags:
        promotions.set_champion(mlflow, version, _cause(decision))
    if decision["decision"] == WAITING and not version.champion:
        promotions.set_challenger(mlflow, version)
    registry.tag(mlflow, version, decision=json.dumps(decision))
    registry.untag(mlflow, version, "pending")
    return _record(mlflow, candidate, version, decision)


def _version_of_digest(mlflow: "MlflowClient", candidate: Candidate) -> registry.Version | None:
    """The oldest decided version with the candidate's digest, or else the oldest one."""
    oldest = None
    for version in reversed(registry.versions(mlflow, candidate.registered)):
        if version.tags.get("digest") == candidate.digest:
            oldest = oldest or version
            if version.decision:
                return version
    return oldest


def _restore_files(mlflow: "MlflowClient", candidate: Candidate, version: registry.Version) -> None:
    """Write the files of a version again if they are lost."""
    location = packing.missing_files(mlflow, version)
    if location:
        packing.repack(location, candidate.folder, *_interface(candidate))
        print(
            f"register: the files of {version.name} version {version.version} were lost;"
            " they are written again"
        )


def _add_reference(mlflow: "MlflowClient", candidate: Candidate, version: registry.Version) -> None:
    """Give a version the summary of its training rows, if it lacks it, as those of before do.

    The candidate has the version's digest, and with it the version's data.
    """
    path = candidate.prepared / reference.FILE
    if path.is_file() and not packing.has_reference(mlflow, version):
        packing.add_reference(mlflow, version, path)


def _decide(
    mlflow: "MlflowClient", candidate: Candidate, version: registry.Version
) -> dict[str, Any]:
    """The gate's decision against the version's opponent, stored as `pending`."""
    while True:
        opponent = _opponent(mlflow, version)
        decision = judge(candidate, version.model_uri, opponent)
        # Another clone may have changed the champion in the meantime: then judge again.
        if decision["against"] == _number(_opponent(mlflow, version)):
            break
    if decision["decision"] == WAITING:
        command = registry.promote_command(candidate.name, version.version)
        decision["reason"] += f": `{command}` makes it champion"
    _hold(mlflow, candidate, version, decision)
    decision["reason"] += _remark(candidate, version, decision["decision"] == PROMOTED)
    scores = {f"gate.{name}": f"{value:.6f}" for name, value in decision["gate"].items()}
    if "drift" in decision:
        scores["drift"] = decision["drift"]["severity"]
    registry.tag(mlflow, version, pending=json.dumps(decision), **scores)
    return decision


def _hold(
    mlflow: "MlflowClient",
    candidate: Candidate,
    version: registry.Version,
    decision: dict[str, Any],
) -> None:
    """Let a version that the gate would promote wait for a person, if conf or a freeze asks so."""
    if decision["decision"] != PROMOTED or version.champion:
        return
    freeze = promotions.frozen(mlflow, candidate.registered)
    if freeze:
        why = f": {freeze.why}" if freeze.why else ""
        hold = f"promotions are frozen since {freeze.time} by {freeze.who}{why}"
    elif candidate.gate.promote == "review":
        hold = "`gate.promote: review` leaves the promotion to a person"
    else:
        return
    command = registry.promote_command(candidate.name, version.version)
    decision["decision"] = WAITING
    decision["reason"] += f"; {hold}; `{command}` makes it champion"


def _cause(decision: Mapping[str, Any]) -> promotions.Cause:
    """The cause of a promotion by the gate, with the scores that it compared."""
    names = ("metric", "challenger", "champion_score", "baseline")
    figures = {name: decision[name] for name in names if decision.get(name) is not None}
    return promotions.Cause("gate", decision["reason"], figures)


def _remark(candidate: Candidate, version: registry.Version, promoted: bool) -> str:
    """What a decision that is made again adds to its reason; empty for a first one."""
    if version.decision is None:
        return ""
    changes = changed_rules(version.decision, candidate.gate)
    remark = f"; judged again, because the gate was edited ({changes})"
    if version.champion and not promoted:
        remark += f"; it stays champion until `make rollback MODEL={candidate.name}`"
    if promoted and "champion_until" in version.tags:
        remark += (
            "; it has been champion before, so only"
            f" `make promote MODEL={candidate.name} VERSION={version.version}` brings it back"
        )
    return remark


def _pending(
    mlflow: "MlflowClient", candidate: Candidate, version: registry.Version
) -> dict[str, Any] | None:
    """The decision that a crash left half done, unless champion or gate have changed since.

    It is still valid if the version has been champion since: then the crash came after the alias
    had moved.
    """
    if "pending" not in version.tags:
        return None
    decision: dict[str, Any] = json.loads(version.tags["pending"])
    if changed_rules(decision, candidate.gate):
        return None
    was_champion = version.champion or "champion_until" in version.tags
    if was_champion or decision["against"] == _number(_opponent(mlflow, version)):
        return decision
    return None


def _opponent(mlflow: "MlflowClient", version: registry.Version) -> registry.Version | None:
    """The champion; for the champion itself, which is judged again, the one that it had to beat."""
    champion = registry.champion(mlflow, version.name)
    if champion is None or champion.version != version.version:
        return champion
    beaten = version.decision["against"] if version.decision else None
    for other in registry.versions(mlflow, version.name):
        if other.version == beaten:
            return other
    return None


def _number(version: registry.Version | None) -> str | None:
    return version.version if version else None


def dry_run(candidate: Candidate) -> dict[str, Any]:
    """Score and decide as `register` does, but change nothing: by hand, and for an experiment."""
    mlflow = store.client()
    registry.check_data(mlflow, candidate.registered, candidate.metrics["dataset"])
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "packed"
        uri = packing.pack(packed, None, candidate.folder, *_interface(candidate))
        decision = judge(candidate, uri, registry.champion(mlflow, candidate.registered))
    return {
        "model": candidate.name,
        "registered_model": candidate.registered,
        "digest": candidate.digest,
        **decision,
    }


def _run(mlflow: "MlflowClient", candidate: Candidate) -> str:
    """The run of the candidate's training, with the evaluation added.

    The run is logged again if this store lacks it.
    """
    tracked = paths.tracked(candidate.name)
    run_id = runs.run_of(mlflow, candidate.registered, candidate.digest)
    if run_id is None:
        run_id = training.run_from_outputs(
            mlflow,
            candidate.registered,
            candidate.conf,
            candidate.profile,
            candidate.folder,
            tracked.curves,
        )
    runs.log_evaluation(mlflow, run_id, candidate.metrics, tracked.figures, tracked.tables)
    return run_id


def _only_version(mlflow: "MlflowClient", candidate: Candidate, run_id: str) -> registry.Version:
    """A new version, or the earlier one that another process has made of the digest since.

    The store numbers versions in order and knows the digest of each from the start, so that of
    several processes all but the first see an earlier version and withdraw their own.
    """
    created = _create_version(mlflow, candidate, run_id)
    earliest = _version_of_digest(mlflow, candidate)
    if earliest is None or earliest.version == created.version:
        return created
    registry.withdraw(mlflow, created)
    return earliest


def _create_version(mlflow: "MlflowClient", candidate: Candidate, run_id: str) -> registry.Version:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # remarks on the rows of the example
        uri = packing.pack(None, run_id, candidate.folder, *_interface(candidate))
    tags = {
        "digest": candidate.digest,
        "model": candidate.name,
        "family": candidate.metrics["family"],
        "dataset": candidate.metrics["dataset"],
        "source": candidate.metrics["source"],
        "data": candidate.profile["digest"],
    }
    return registry.create_version(
        mlflow, candidate.registered, uri, run_id, tags, card(candidate), about(candidate)
    )


def _interface(candidate: Candidate) -> tuple["pd.DataFrame", packing.Interface]:
    """A synthetic input example, and the columns of inputs and answers with the options."""
    from . import saved_model

    model = saved_model.load(candidate.folder)
    example = _example(candidate, model)
    answers: list[contracts.Column] = []
    for name, column in model.predict(example).items():
        # A caller may leave out what identifies a row.
        required = name not in example or name not in model.named_by
        answers.append((str(name), MLFLOW_TYPES.get(column.dtype.kind, "string"), required))
    options: list[tuple[str, str, contracts.Option]] = []
    for flag in model.flags:
        options.append((flag, "boolean", False))
    for name, default in model.task.options.items():
        options.append((name, OPTION_TYPES[type(default)], default))
    return example, packing.Interface(model.schema(), answers, options)


def _example(candidate: Candidate, model: "SavedModel") -> "pd.DataFrame":
    """Synthetic input rows: from the twin if the data set has one, otherwise from the encoder."""
    example = model.encoder.example()
    conf = config.dataset(candidate.conf.dataset)
    names = {}
    if conf.twin is None:
        for name in model.named_by:
            names[name] = [str(row) for row in range(1, 1 + len(example))]
        return example.assign(**names)
    kind = plugins.kind(conf.kind)
    with tempfile.TemporaryDirectory() as folder:
        kind.twin.write_twin(config.twin(conf), conf.columns, Path(folder))
        rows = kind.rows.repair(kind.rows.read(Path(folder), conf.columns), conf.columns)
        rows = rows.head(len(example))
        for name in model.named_by:
            names[name] = rows[name].astype(str).tolist()
        return model.encoder.inputs(rows).assign(**names)


def _record(
    mlflow: "MlflowClient",
    candidate: Candidate,
    version: registry.Version,
    decision: Mapping[str, object],
) -> dict[str, Any]:
    """The content of reports/decisions/<model>.json: a decision without all scores of the gate."""
    shared = {key: value for key, value in decision.items() if key != "gate"}
    champion = registry.champion(mlflow, version.name)
    return {
        "model": candidate.name,
        "registered_model": version.name,
        "version": version.version,
        "digest": candidate.digest,
        **shared,
        "champion": _number(champion) == version.version,
        "tracking_uri": store.address(),
    }


def main(argv: list[str]) -> None:
    """`sextant register [--write] [model=<name>]`.

    Run by DVC, it registers one model and writes the receipt; under `dvc exp run` it only scores.
    Run by hand, it prints what it would decide; with --write it judges every listed model that
    this registry has not judged yet.
    """
    arguments = [argument for argument in argv if argument != "--write"]
    options, rest = config.named_options(arguments, "model")
    if rest or len(argv) - len(arguments) > 1:
        raise UsageError(
            f"`{' '.join(argv)}` is not understood; expected: register [--write] [model=…]"
        )
    experiment = bool(os.environ.get("DVC_EXP_NAME"))
    write = paths.run_by_dvc() or "--write" in argv
    if write and store.relocate():
        print("register: the checkout has moved; the paths in its MLflow database are corrected")
    models = [options["model"]] if "model" in options else list(config.params().models)
    for name in models:
        if write and training.has_unsent(name):
            training.send_unsent(store.client(), name)
        candidate = Candidate(name)
        if write and training.has_running(candidate.registered):
            training.close_abandoned(store.client(), candidate.registered)
        if experiment:
            _run(store.client(), candidate)  # an experiment is logged, but never registered
        if experiment or not write:
            record = dry_run(candidate)
            print(f"{name}: would be {record['decision']}: {record['reason']}")
        else:
            record = judged_here(candidate) or register(candidate)
            write_decision(record)
            print_decision(record)
        if paths.run_by_dvc():
            _write_receipt(candidate)


def _write_receipt(candidate: Candidate) -> None:
    """Write the output that DVC expects of this stage: the digests of what was registered.

    It must not depend on the registry's state, or a clone with another registry would be stale.
    """
    receipt = {"model": candidate.digest, "metrics": files.sha256(candidate.metrics_file)}
    receipt |= processor.recorded(candidate.name, candidate.digest)
    files.write_json(paths.receipt(candidate.name), receipt)
