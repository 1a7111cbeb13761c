"""The gate: a trained model becomes a registered version, and champion where it beats what there is.

Challenger and champion answer the same raw gate rows through the registered interface, each with its own fitted
transforms and its own packed code; the metrics and the trivial baseline are this commit's. So a changed scaler or a
renamed constructor argument neither stops nor tilts it.
"""

import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import config, files, rooms, tracking
from .errors import SextantError, UsageError, one_line, run

DECISIONS = Path("reports/decisions")


def decide(
    challenger: Mapping[str, float],
    champion: Mapping[str, float] | None,
    trivial: Mapping[str, float],
    gate: config.Gate,
    metric: str,
    direction: str,
    guarded: Mapping[str, float] | None = None,
) -> tuple[bool, str]:
    """Whether the challenger becomes champion, and why in a sentence: a pure function of scores and gate conf.

    `guarded`: the challenger's scores that the guards read, where a task has them read on other rows than the gate's.
    """
    sign = 1 if direction == "up" else -1
    for guard in gate.guards:
        name, relation, bound = guard.split()
        value = (challenger if guarded is None else guarded)[name]
        kept = value <= float(bound) if relation == "<=" else value >= float(bound)
        if not kept:
            return False, f"breaks the guard {guard}: {name} is {value:.4f}"
    ours = challenger[metric]
    if not sign * (ours - trivial[metric]) > 0:  # so that NaN, too, beats nothing
        return (
            False,
            f"{metric} {ours:.4f} does not beat the trivial baseline's {trivial[metric]:.4f}",
        )
    if champion is None:
        return True, f"{metric} {ours:.4f} beats the trivial baseline's {trivial[metric]:.4f}"
    gain = sign * (ours - champion[metric])
    if not (gain > 0 and gain >= gate.margin):
        return (
            False,
            f"{metric} {ours:.4f} does not beat the champion's {champion[metric]:.4f} by {gate.margin:g}",
        )
    return (
        True,
        f"{metric} {ours:.4f} beats the champion's {champion[metric]:.4f} by {gate.margin:g} or more",
    )


class Candidate:
    """The outputs of one model as they lie in the workspace, and what the gate needs of them."""

    def __init__(self, name: str):
        self.conf = config.model(name)
        self.name, self.folder = name, Path("models") / name
        self.metrics_file = Path("reports/metrics") / f"{name}.json"
        prepared = Path("data/prepared") / self.conf.dataset
        for output in (self.folder, self.metrics_file, prepared):
            files.needed(output)
        self.metrics = json.loads(self.metrics_file.read_text(encoding="utf-8"))
        self.profile = json.loads((prepared / "profile.json").read_text(encoding="utf-8"))
        self._check_of_one_run()
        self.digest = files.folder_digest(self.folder)
        self.registered = tracking.registered_name(name, self.profile["source"])
        self.prepared = prepared

    def _check_of_one_run(self) -> None:
        """Raise SextantError where `make train` or `make prepare` left half a run: a twin's model on real rows."""
        trained = json.loads((self.folder / "model.json").read_text(encoding="utf-8"))
        expected = [self.metrics["model"], self.metrics["source"], self.profile["digest"]]
        same = [trained[key] for key in ("model", "source", "data")] == expected
        scores = [
            (value, self.metrics["val"].get(name, math.nan))
            for name, value in trained["val"].items()
        ]
        if not same or not all(math.isclose(a, b, abs_tol=1e-6) for a, b in scores):
            raise SextantError(
                f"{self.folder}, {self.metrics_file} and data/prepared/{self.conf.dataset} are not of one run;"
                " `make repro` brings them together"
            )


def judge(
    candidate: Candidate, model_uri: str, champion: tracking.Version | None
) -> dict[str, Any]:
    """Score challenger, champion and trivial baseline on the gate part, and decide."""
    from . import baselines, data, saved

    model = saved.load(candidate.folder)
    kind, task = rooms.module("data", model.card["kind"]), model.task
    parts = {part: kind.load(candidate.prepared / part) for part in ("train", "val", "gate")}
    questions = model.questions(parts["gate"])
    trivial, fit = next(iter(baselines.of(candidate.conf.task).items()))

    def scored(answers: Any) -> dict[str, float]:
        return model.score(answers, parts["gate"])

    with tempfile.TemporaryDirectory() as place:
        rows = Path(place) / "rows.parquet"
        getattr(kind, "ask", kind.write)(
            questions, rows
        )  # of pictures, say, champions want the files

        def asked(uri: str) -> tuple[dict[str, float] | None, str]:
            """The scores of a packed model, or why it has none."""
            out = Path(place) / "answers.parquet"
            trouble = tracking.answers_of(uri, rows, out)
            if trouble:
                return None, trouble
            try:
                scores = scored(_table(out))
            except Exception as error:  # answers of another form: whatever stumbles over them
                return None, f"its answers cannot be scored: {one_line(error)}"
            lost = [name for name, value in scores.items() if not math.isfinite(value)]
            return (None, f"its {lost[0]} is {scores[lost[0]]}") if lost else (scores, "")

        challenger, trouble = asked(model_uri)
        if challenger is None:
            raise SextantError(
                f"{candidate.name} as packed cannot answer the gate's rows: {trouble}"
            )
        champion_scores, trouble = asked(champion.model_uri) if champion else (None, "")
    answer = rooms.call(
        fit, parts["train"], model.encoder.columns, encoder=model.encoder, net=model.card["net"]
    )
    floor = scored(answer(questions))
    guarded = None
    if hasattr(task, "guarded"):
        others = task.guarded(parts)
        guarded = model.score(model.answer(model.questions(others)), others)
    metric, direction = next(iter(task.METRICS.items()))
    promoted, reason = decide(
        challenger, champion_scores, floor, candidate.conf.gate, metric, direction, guarded
    )
    if champion is None:
        reason += "; there was no champion to beat" if promoted else ""
    elif champion_scores is None:
        reason += f"; champion version {champion.version} cannot answer ({trouble})"
    return {
        "decision": "promoted" if promoted else "not promoted",
        "reason": reason,
        "metric": metric,
        "challenger": challenger[metric],
        "champion_score": champion_scores[metric] if champion_scores else None,
        "against": _number(champion),
        "baseline": floor[metric],
        "gate_rows": len(data.scored(parts["gate"])),
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
    tracking.check_data(mlflow, candidate.registered, candidate.metrics["dataset"])
    every = reversed(tracking.versions(mlflow, candidate.registered))
    same = [version for version in every if version.tags.get("digest") == candidate.digest]
    known = next((version for version in same if version.decision), same[0] if same else None)
    if known and (place := tracking.lost(mlflow, known)):
        tracking.repack(place, candidate.folder, *_interface(candidate))
        print(
            f"register: the files of {known.name} version {known.version} were lost; they are written again"
        )
    if known and known.decision:
        return _record(mlflow, candidate, known, known.decision)
    run_id = _run(mlflow, candidate)
    version = known or _version(mlflow, candidate, run_id)
    decision = _pending(mlflow, version)
    while decision is None:
        champion = _rival(mlflow, version)
        found = judge(candidate, version.model_uri, champion)
        if found["against"] == _number(
            _rival(mlflow, version)
        ):  # another clone may have crowned one meanwhile
            decision = found
            gate = {f"gate.{name}": f"{value:.6f}" for name, value in decision["gate"].items()}
            tracking.tag(mlflow, version, pending=json.dumps(decision), **gate)
    if decision["decision"] == "promoted" and "champion_until" not in version.tags:
        tracking.crown(mlflow, version)
    decided = f"Gate: {decision['decision']}. {decision['reason']}.\n\n{card(candidate)}"
    mlflow.update_model_version(version.name, version.version, decided)
    tracking.tag(mlflow, version, decision=json.dumps(decision))
    tracking.untag(mlflow, version, "pending")
    return _record(mlflow, candidate, version, decision)


def _pending(mlflow: Any, version: tracking.Version) -> dict[str, Any] | None:
    """The decision that a crash left half done, unless the champion it was made against is no longer there.

    Where the version has been champion since (the crash came after the alias had moved), it stands as well.
    """
    if "pending" not in version.tags:
        return None
    decision: dict[str, Any] = json.loads(version.tags["pending"])
    stands = version.champion or "champion_until" in version.tags
    return decision if stands or decision["against"] == _number(_rival(mlflow, version)) else None


def _rival(mlflow: Any, version: tracking.Version) -> tracking.Version | None:
    """The champion, where it is another version."""
    champion = tracking.champion(mlflow, version.name)
    return champion if champion and champion.version != version.version else None


def _number(version: tracking.Version | None) -> str | None:
    return version.version if version else None


def rehearse(candidate: Candidate) -> dict[str, Any]:
    """Score and decide as `register` would, and move nothing: by hand, and for an experiment."""
    mlflow = tracking.client()
    tracking.check_data(mlflow, candidate.registered, candidate.metrics["dataset"])
    with tempfile.TemporaryDirectory() as place:
        address = tracking.pack(
            Path(place) / "packed", None, candidate.folder, *_interface(candidate)
        )
        decision = judge(candidate, address, tracking.champion(mlflow, candidate.registered))
    return {
        "model": candidate.name,
        "registered_model": candidate.registered,
        "digest": candidate.digest,
        **decision,
    }


def _run(mlflow: Any, candidate: Candidate) -> str:
    """The run of the candidate's training, logged again where this store lacks it, with the evaluation added."""
    run_id = tracking.run_of(mlflow, candidate.registered, candidate.digest)
    if run_id is None:
        curves = Path("reports/curves") / f"{candidate.name}.csv"
        run_id = tracking.run_from_outputs(
            mlflow,
            candidate.registered,
            candidate.conf,
            candidate.profile,
            candidate.folder,
            curves,
        )
    figures, tables = (
        Path("reports/figures", candidate.name),
        Path("reports/tables", f"{candidate.name}.json"),
    )
    tracking.log_evaluation(mlflow, run_id, candidate.metrics, figures, tables)
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
    return tracking.create_version(
        mlflow, candidate.registered, address, run_id, tags, card(candidate), about(candidate)
    )


def _interface(candidate: Candidate) -> tuple[Any, Any]:
    """An input example that is nobody's, and the columns asked with and answered, and the parameters."""
    from . import saved

    model = saved.load(candidate.folder)
    kind, conf = rooms.module("data", model.card["kind"]), config.dataset(candidate.conf.dataset)
    example = model.encoder.example()
    if conf.twin is not None:
        with tempfile.TemporaryDirectory() as place:
            kind.write_twin(conf.twin, conf.columns, Path(place))
            rows = kind.repair(kind.read(Path(place), conf.columns), conf.columns)
            example = model.encoder.question(rows.head(len(example)))
    types = {"b": "boolean", "f": "double", "i": "long"}
    answers = [
        (name, types.get(column.dtype.kind, "string"), True)
        for name, column in model.predict(example).items()
    ]
    params: list[tuple[str, str, Any]] = (
        [("details", "boolean", False)] if hasattr(model.task, "SHOWN") else []
    )
    params += [
        (name, "long", default) for name, default in getattr(model.task, "OPTIONS", {}).items()
    ]
    return example, (model.encoder.schema(), answers, params)


def about(candidate: Candidate) -> str:
    """What the page of a registered model says above its versions, in Markdown."""
    found = candidate.metrics
    real = "its generated twin" if found["source"] == "embedded" else "real data"
    return "\n".join(
        [
            f"{found['family'].upper()} for {found['task']} on `{found['dataset']}` ({real}).",
            "",
            f"- The version with the alias `champion` answers `make predict MODEL={candidate.name}`. The gate moves the"
            " alias, and by hand `make promote` and `make rollback`.",
            "- A version's tags: `decision` of the gate and why, `gate.…` its scores on the part that the gate alone"
            " reads, `digest` and `data`: sha256 of the model's folder and of its raw data.",
            "- The tag `reigns`: which versions were champion, one after the other.",
        ]
    )


def card(candidate: Candidate) -> str:
    """The model card, in Markdown: what it is asked, of which data, what it reached, where its limits lie."""
    found, profile = candidate.metrics, candidate.profile
    scores = {"this model": found["test"], **found["baselines"]}
    twin = "its generated twin, so these numbers say nothing of real data"
    rows = ", ".join(f"{part} {n:,}" for part, n in profile["rows"].items())
    return "\n".join(
        [
            f"{found['family'].upper()} for {found['task']} on `{found['dataset']}`"
            f" ({twin if found['source'] == 'embedded' else 'real data'}).",
            "",
            _line("on the test part", found["test"]),
            "|---|" + "---|" * len(found["test"]),
            *(
                _line(name, (_cell(one.get(metric)) for metric in found["test"]))
                for name, one in scores.items()
            ),
            "",
            *(f"- {sentence}" for sentence in found.get("verdict", [])),
            *([f"- {profile['about']}"] if profile.get("about") else []),
            f"- rows: {rows}; data sha256 {profile['digest'][:12]}",
            f"- seed {found['seed']}, budget {found['budget']}, epoch {found['epochs']} kept by its score on val",
            "- asked with rows like those of `input_example.json`, among the artifacts of the source model",
            "- chosen on train and val alone; the test part decided nothing, the gate part is read by the gate alone",
            "- for rows like those it was trained on: a category it never met adds nothing, and is warned about",
        ]
    )


def _line(name: str, cells: Iterable[str]) -> str:
    """A line of a table, its columns held apart: MLflow's pages do not."""
    return f"| {name} | " + " | ".join(f"&emsp;{cell}" for cell in cells) + " |"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _record(
    mlflow: Any, candidate: Candidate, version: tracking.Version, decision: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "model": candidate.name,
        "registered_model": version.name,
        "version": version.version,
        "digest": candidate.digest,
        **{key: value for key, value in decision.items() if key != "gate"},
        "champion": _number(tracking.champion(mlflow, version.name)) == version.version,
        "tracking_uri": tracking.address(),
    }


def write_decision(record: Mapping[str, Any]) -> None:
    """reports/decisions/<model>.json, and all of them as the script that the page includes."""
    files.write_json(DECISIONS / f"{record['model']}.json", record)
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(DECISIONS.glob("*.json"))
    ]
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
        candidate.digest, candidate.registered, tracking.address(),
    )  # fmt: skip
    if not same or not tracking.holds(candidate.registered, candidate.digest):
        return None
    return {**record, "champion": tracking.reigns_here(candidate.registered, record["version"])}


def say(record: Mapping[str, Any]) -> None:
    place = (
        f"{record['registered_model']} version {record['version']}"
        if "version" in record
        else record["registered_model"]
    )
    crown = {True: ", champion", False: "", None: ""}[record.get("champion")]
    print(f"{record['model']}: {record['decision']} ({place}{crown}): {record['reason']}")


def promote(model: str, version: str) -> None:
    """Make a version champion by hand: of the real lineage where there is one, or else of the twin's."""
    mlflow = tracking.client()
    every = next(
        filter(None, (tracking.versions(mlflow, name) for name in tracking.lineages(model))), None
    )
    if every is None:
        raise tracking.no_champion(mlflow, model)
    chosen = next((one for one in every if one.version == version), None)
    if chosen is None:
        known = ", ".join(one.version for one in every)
        raise UsageError(f"{every[0].name} has no version {version}; it has: {known}")
    before = next((one for one in every if one.champion), None)
    tracking.crown(mlflow, chosen)
    _refresh(model, chosen.name, version)
    _say_moved(chosen.name, version, before)


def roll_back(model: str) -> None:
    """Back to the champion before this one."""
    mlflow = tracking.client()
    now = tracking.champion_of(mlflow, model)
    earlier = tracking.roll_back(mlflow, now.name)
    if earlier is None:
        raise SextantError(
            f"{now.name} had no champion before version {now.version}; `make promote` names one by hand"
        )
    _refresh(model, now.name, earlier)
    _say_moved(now.name, earlier, now)


def _say_moved(name: str, version: str, before: tracking.Version | None) -> None:
    now = f", version {before.version} is not" if before and before.version != version else ""
    print(f"{name}: version {version} is champion now{now}")


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
    needs = {"promote": ["model", "version"], "rollback": ["model"]}
    verb = verbs[0] if verbs else ""
    if (
        rest
        or len(verbs) > 1
        or ("version" in asked and verb != "promote")
        or set(needs.get(verb, [])) - set(asked)
    ):
        raise UsageError(
            f"`{' '.join(argv)}` is not understood; expected: [--write] [model=…], or promote model=… version=…,"
            " or rollback model=…"
        )
    if verb == "promote":
        return promote(asked["model"], asked["version"])
    if verb == "rollback":
        return roll_back(asked["model"])
    by_dvc, experiment = "DVC_STAGE" in os.environ, bool(os.environ.get("DVC_EXP_NAME"))
    write = by_dvc or verb == "--write"
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
