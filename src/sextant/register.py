"""The gate: a trained model becomes a registered version, and champion where it beats what there is.

Challenger and champion answer the same raw gate rows through the registered interface, each with its own fitted
transforms and its own packed code; the metrics and the trivial baseline are this commit's. So a changed scaler or a
renamed constructor argument neither stops nor tilts it.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import config, files, rooms, tracking
from .errors import SextantError, UsageError, run

DECISIONS = Path("reports/decisions")


def decide(
    challenger: Mapping[str, float],
    champion: Mapping[str, float] | None,
    trivial: Mapping[str, float],
    gate: config.Gate,
    metric: str,
    direction: str,
) -> tuple[bool, str]:
    """Whether the challenger becomes champion, and why in a sentence: a pure function of scores and gate conf."""
    sign = 1 if direction == "up" else -1
    for guard in gate.guards:
        name, relation, bound = guard.split()
        kept = challenger[name] <= float(bound) if relation == "<=" else challenger[name] >= float(bound)
        if not kept:
            return False, f"breaks the guard {guard}: {name} is {challenger[name]:.4f}"
    ours = challenger[metric]
    if sign * (ours - trivial[metric]) <= 0:
        return False, f"{metric} {ours:.4f} does not beat the trivial baseline's {trivial[metric]:.4f}"
    if champion is None:
        return (
            True,
            f"{metric} {ours:.4f} beats the trivial baseline's {trivial[metric]:.4f}; there was no champion to beat",
        )
    gain = sign * (ours - champion[metric])
    if gain <= 0 or gain < gate.margin:
        return False, f"{metric} {ours:.4f} does not beat the champion's {champion[metric]:.4f} by {gate.margin:g}"
    return True, f"{metric} {ours:.4f} beats the champion's {champion[metric]:.4f} by {gate.margin:g} or more"


class Candidate:
    """The outputs of one model as they lie in the workspace, and what the gate needs of them."""

    def __init__(self, name: str):
        self.conf = config.model(name)
        self.name, self.folder = name, Path("models") / name
        self.metrics_file = Path("reports/metrics") / f"{name}.json"
        prepared = Path("data/prepared") / self.conf.dataset
        for needed in (self.folder, self.metrics_file, prepared):
            if not needed.exists():
                raise SextantError(
                    f"{needed} is not there; `make repro` makes it, `dvc checkout` restores the last one"
                )
        self.metrics = json.loads(self.metrics_file.read_text(encoding="utf-8"))
        self.profile = json.loads((prepared / "profile.json").read_text(encoding="utf-8"))
        self.digest = files.folder_digest(self.folder)
        self.registered = tracking.registered_name(name, self.profile["source"])
        self.prepared = prepared


def judge(candidate: Candidate, model_uri: str, champion: tracking.Version | None) -> dict[str, Any]:
    """Score challenger, champion and trivial baseline on the gate part, and decide."""
    from . import baselines, saved

    model = saved.load(candidate.folder)
    kind, task = rooms.module("data", model.card["kind"]), model.task
    parts = {part: kind.load(candidate.prepared / part) for part in ("train", "gate")}
    trivial, fit = next(iter(baselines.of(candidate.conf.task).items()))

    def scored(answers: Any) -> dict[str, float]:
        scores: dict[str, float] = task.score(answers, parts["gate"], model.encoder)
        return scores

    with tempfile.TemporaryDirectory() as place:
        rows, out = Path(place) / "rows.parquet", Path(place) / "answers.parquet"
        kind.write(parts["gate"], rows)
        trouble = tracking.answers_of(model_uri, rows, out)
        if trouble:
            raise SextantError(f"{candidate.name} as packed cannot answer the gate's rows: {trouble}")
        challenger, champion_scores, note = scored(_table(out)), None, ""
        if champion:
            trouble = tracking.answers_of(champion.model_uri, rows, out)
            if trouble:
                note = f"; champion version {champion.version} cannot answer ({trouble})"
            else:
                champion_scores = scored(_table(out))
    floor = scored(fit(parts["train"], model.encoder.columns)(parts["gate"]))
    metric, direction = next(iter(task.METRICS.items()))
    promoted, reason = decide(challenger, champion_scores, floor, candidate.conf.gate, metric, direction)
    return {
        "decision": "promoted" if promoted else "not promoted",
        "reason": reason + note,
        "metric": metric,
        "challenger": challenger[metric],
        "champion_score": champion_scores[metric] if champion_scores else None,
        "against": champion.version if champion else None,
        "baseline": floor[metric],
        "gate_rows": len(parts["gate"]),
        "gate": challenger,
    }


def _table(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path)


def register(candidate: Candidate) -> dict[str, Any]:
    """Give the candidate its first decision in this registry and act on it; repeat the decision of a known one.

    The alias moves in the call that gives the first decision and in no other: a rollback survives a fresh clone.
    The decision is noted as `pending` before the alias moves: a crash between is finished by the next call.
    """
    mlflow = tracking.client()
    known = next(
        (v for v in tracking.versions(mlflow, candidate.registered) if v.tags.get("digest") == candidate.digest), None
    )
    if known and known.decision:
        return _record(candidate, known, known.decision)
    run_id = _run(mlflow, candidate)
    version = known or _version(mlflow, candidate, run_id)
    if "pending" in version.tags:
        decision = json.loads(version.tags["pending"])
    else:
        champion = tracking.champion(mlflow, candidate.registered)
        if champion and champion.version == version.version:
            champion = None
        decision = judge(candidate, version.model_uri, champion)
        gate = {f"gate.{name}": f"{value:.6f}" for name, value in decision["gate"].items()}
        tracking.tag(mlflow, version, pending=json.dumps(decision), **gate)
    promoted = decision["decision"] == "promoted"
    if promoted:
        tracking.crown(mlflow, version)
    tracking.tag(mlflow, version, decision=json.dumps(decision))
    tracking.untag(mlflow, version, "pending")
    return _record(candidate, version, decision, champion=promoted)


def rehearse(candidate: Candidate) -> dict[str, Any]:
    """Score and decide as `register` would, and move nothing: by hand, and for an experiment."""
    mlflow = tracking.client()
    with tempfile.TemporaryDirectory() as place:
        address = tracking.pack(Path(place) / "packed", None, candidate.folder, *_interface(candidate))
        decision = judge(candidate, address, tracking.champion(mlflow, candidate.registered))
    return {"model": candidate.name, "registered_model": candidate.registered, "digest": candidate.digest, **decision}


def _run(mlflow: Any, candidate: Candidate) -> str:
    """The run of the candidate's training, logged again where this store lacks it, with the evaluation added."""
    run_id = tracking.run_of(mlflow, candidate.registered, candidate.digest)
    if run_id is None:
        curves = Path("reports/curves") / f"{candidate.name}.csv"
        run_id = tracking.run_from_outputs(
            mlflow, candidate.registered, candidate.conf, candidate.profile, candidate.folder, curves
        )
    tracking.log_evaluation(mlflow, run_id, candidate.metrics, Path("reports/figures") / candidate.name)
    return run_id


def _version(mlflow: Any, candidate: Candidate, run_id: str) -> tracking.Version:
    address = tracking.pack(None, run_id, candidate.folder, *_interface(candidate))
    tags = {
        "digest": candidate.digest,
        "model": candidate.name,
        "family": candidate.metrics["family"],
        "dataset": candidate.metrics["dataset"],
        "source": candidate.metrics["source"],
        "data": candidate.profile["digest"],
    }
    about = (
        f"{candidate.metrics['task']} on {candidate.metrics['dataset']}; the alias `champion` answers `make predict`."
    )
    return tracking.create_version(mlflow, candidate.registered, address, run_id, tags, card(candidate), about)


def _interface(candidate: Candidate) -> tuple[Any, Any]:
    """An input example that is nobody's, and the columns asked with and answered."""
    from . import saved

    model = saved.load(candidate.folder)
    kind, conf = rooms.module("data", model.card["kind"]), config.dataset(candidate.conf.dataset)
    example = model.encoder.example()
    if conf.twin is not None:
        with tempfile.TemporaryDirectory() as place:
            kind.write_twin(conf.twin, conf.columns, Path(place))
            example = model.encoder.question(kind.read(Path(place), conf.columns).head(3))
    types = {"f": "double", "i": "long"}
    answers = [(name, types.get(column.dtype.kind, "string"), True) for name, column in model.predict(example).items()]
    return example, (model.encoder.schema(), answers)


def card(candidate: Candidate) -> str:
    """The model card, in Markdown: what it is asked, of which data, what it reached, where its limits lie."""
    found, profile = candidate.metrics, candidate.profile
    scores = {"this model": found["test"], **found["baselines"]}
    twin = "its generated twin, so these numbers say nothing of real data"
    rows = ", ".join(f"{part} {n:,}" for part, n in profile["rows"].items())
    return "\n".join(
        [
            f"A {found['family'].upper()} for {found['task']} on `{found['dataset']}`"
            f" ({twin if found['source'] == 'embedded' else 'real data'}).",
            "",
            f"| on the test part | {' | '.join(found['test'])} |",
            "|---|" + "---|" * len(found["test"]),
            *(f"| {name} | {' | '.join(f'{v:.4f}' for v in one.values())} |" for name, one in scores.items()),
            "",
            f"- rows: {rows}; data sha256 {profile['digest'][:12]}",
            f"- seed {found['seed']}, budget {found['budget']}, epoch {found['epochs']} kept by its score on val",
            "- chosen on train and val alone; the test part decided nothing, the gate part is read by the gate alone",
            "- for rows like those it was trained on: a category it never met adds nothing, and is warned about",
        ]
    )


def _record(
    candidate: Candidate, version: tracking.Version, decision: Mapping[str, Any], champion: bool | None = None
) -> dict[str, Any]:
    return {
        "model": candidate.name,
        "registered_model": version.name,
        "version": version.version,
        "digest": candidate.digest,
        **{key: value for key, value in decision.items() if key != "gate"},
        "champion": version.champion if champion is None else champion,
        "tracking_uri": tracking.uri(),
    }


def write_decision(record: Mapping[str, Any]) -> None:
    """reports/decisions/<model>.json, and all of them as the script that the page includes."""
    files.write_json(DECISIONS / f"{record['model']}.json", record)
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(DECISIONS.glob("*.json"))]
    text = json.dumps({one["model"]: one for one in found}, indent=2).replace("</", "<\\/")
    with files.written_whole(Path("reports/decisions.js")) as beside:
        beside.write_text(f"window.decisions = {text};\n", encoding="utf-8")


def judged_here(candidate: Candidate) -> dict[str, Any] | None:
    """The decision on this very digest in this very registry, where it can be known without MLflow's import."""
    path = DECISIONS / f"{candidate.name}.json"
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    same = (record["digest"], record["registered_model"], record["tracking_uri"]) == (
        candidate.digest, candidate.registered, tracking.uri(),
    )  # fmt: skip
    return record if same and tracking.holds(candidate.registered, candidate.digest) else None


def say(record: Mapping[str, Any]) -> None:
    place = (
        f"{record['registered_model']} version {record['version']}"
        if "version" in record
        else record["registered_model"]
    )
    crown = {True: ", champion", False: "", None: ""}[record.get("champion")]
    print(f"{record['model']}: {record['decision']} ({place}{crown}): {record['reason']}")


def by_hand(argv: list[str], model: str, version: str | None) -> None:
    """`promote` a version, or roll back to the champion before this one."""
    mlflow = tracking.client()
    name = tracking.champion_of(mlflow, model).name
    every = tracking.versions(mlflow, name)
    now = next(v for v in every if v.champion)
    if version is None:
        since = now.tags.get("champion_since", "")
        earlier = [v for v in every if not v.champion and v.tags.get("champion_since", "~") < since]
        if not earlier:
            raise SextantError(f"{name} had no champion before version {now.version}; `make promote` names one by hand")
        chosen = max(earlier, key=lambda v: (v.tags["champion_since"], int(v.version)))
    else:
        found = [v for v in every if v.version == version]
        if not found:
            raise UsageError(f"{name} has no version {version}; it has: {', '.join(v.version for v in every)}")
        chosen = found[0]
    tracking.crown(mlflow, chosen, keep_since=version is None)
    _refresh(model, name, chosen.version)
    print(f"{name}: version {chosen.version} is champion now, version {now.version} is not")


def _refresh(model: str, name: str, champion: str) -> None:
    """The decision on file says who is champion now."""
    path = DECISIONS / f"{model}.json"
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["registered_model"] == name:
            write_decision({**record, "champion": record["version"] == champion})


def main(argv: list[str]) -> None:
    """`python -m sextant.register [--write] [model=<name>]`, `… promote model=… version=…`, `… rollback model=…`.

    By DVC it registers one model and leaves the receipt; under `dvc exp run` it scores and decides nothing.
    By hand it prints what it would decide; with --write it judges every listed model that this registry has not judged.
    """
    verbs = [word for word in argv if word in ("promote", "rollback", "--write")]
    asked, rest = config.asked([word for word in argv if word not in verbs], "model", "version")
    if rest:
        raise UsageError(f"`{rest[0]}` is not understood; expected model=… or version=…")
    if verbs in (["promote"], ["rollback"]):
        if "model" not in asked or (verbs == ["promote"] and "version" not in asked):
            raise UsageError(f"expected: {verbs[0]} model=…" + (" version=…" if verbs == ["promote"] else ""))
        by_hand(argv, asked["model"], asked["version"] if verbs == ["promote"] else None)
        return
    by_dvc, experiment = "DVC_STAGE" in os.environ, bool(os.environ.get("DVC_EXP_NAME"))
    write = by_dvc or bool(verbs)
    if write and tracking.relocate():
        print("register: the checkout has moved; the paths in its MLflow database are mended")
    for name in [asked["model"]] if "model" in asked else config.params().models:
        candidate = Candidate(name)
        if not write or experiment:
            if experiment:
                _run(tracking.client(), candidate)
            record = rehearse(candidate)
            print(f"{name}: would be {record['decision']}: {record['reason']}")
        else:
            record = judged_here(candidate) or register(candidate)
            write_decision(record)
            say(record)
        if by_dvc:
            receipt = {"model": candidate.digest, "metrics": files.sha256(candidate.metrics_file)}
            files.write_json(Path("reports/registry") / f"{name}.json", receipt)


if __name__ == "__main__":
    run(main)
