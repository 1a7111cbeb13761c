"""The gate: whether a trained model becomes champion.

Challenger and champion answer the same raw rows of the gate part through the registered
interface, each with its own fitted transforms and its own packed code. The metrics and the
trivial baseline are this commit's. So a changed scaler or a renamed constructor argument neither
prevents nor biases the comparison.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import config, files, paths, plugins
from .errors import SextantError, one_line
from .kinds.levels import matched, renamed
from .kinds.parts import scored
from .tracking import packing, registry
from .tracking.registry import PROMOTED, REFUSED

if TYPE_CHECKING:
    import pandas as pd

    from . import contracts
    from .saved_model import SavedModel

Scores = Mapping[str, float]


def decide(
    challenger: Scores,
    champion: Scores | None,
    trivial: Scores,
    gate: config.Gate,
    metric: str,
    direction: str,
    guarded: Scores | None = None,
) -> tuple[bool, str]:
    """Whether the challenger becomes champion, and the reason in a sentence; a pure function.

    `metric` is the one to compare and `direction` its good direction, `up` or `down`. `guarded`
    are the challenger's scores that the guards read, if the task computes them on other rows than
    the gate part.
    """
    sign = 1 if direction == "up" else -1
    guard_scores = challenger if guarded is None else guarded
    for guard in gate.guards:
        name, relation, bound = guard.split()
        value = guard_scores[name]
        kept = value <= float(bound) if relation == "<=" else value >= float(bound)
        if not kept:
            return False, f"breaks the guard {guard}: {name} is {value:.4f}"
    score = challenger[metric]
    baseline = trivial[metric]
    if not sign * (score - baseline) > 0:  # written so that NaN does not pass either
        return False, f"{metric} {score:.4f} does not beat the trivial baseline's {baseline:.4f}"
    if champion is None:
        return True, f"{metric} {score:.4f} beats the trivial baseline's {baseline:.4f}"
    best = champion[metric]
    gain = sign * (score - best)
    if gain > 0 and gain >= gate.margin:  # the margin may be 0
        reason = f"{metric} {score:.4f} beats the champion's {best:.4f} by {gate.margin:g} or more"
        return True, reason
    return False, f"{metric} {score:.4f} does not beat the champion's {best:.4f} by {gate.margin:g}"


# --- the rules that made a decision -------------------------------------------------------------


def rules(gate: config.Gate) -> dict[str, Any]:
    """What a gate decides by, as a decision records it."""
    return gate.model_dump(include={"metric", "margin", "guards"})


def changed_rules(decision: Mapping[str, Any], gate: config.Gate) -> str:
    """How a gate differs from the one that made a decision, in words; empty if it does not.

    Decisions of earlier versions do not record their gate. A refusal among them is made again; a
    promotion has moved the alias, and stands.
    """
    recorded = decision.get("rules")
    if recorded is None:
        if decision["decision"] == PROMOTED:
            return ""
        return "the decision before does not say which it had"
    changes = []
    for name, value in rules(gate).items():
        if recorded[name] == value:
            continue
        if name == "metric" and value == decision["metric"]:  # the default, now written out
            continue
        changes.append(f"{name}: {_in_words(recorded[name])} before, {_in_words(value)} now")
    return "; ".join(changes)


def _in_words(value: object) -> str:
    if isinstance(value, list):
        return " and ".join(f"`{guard}`" for guard in value) or "none"
    return "the task's first" if value is None else f"{value}"


# --- candidates ---------------------------------------------------------------------------------


class Candidate:
    """The outputs of one model in the workspace; `gate` is that of its data set.

    Raises SextantError if one is missing, or if they come from different runs of the pipeline.
    """

    def __init__(self, name: str):
        self.conf = config.model(name)
        self.name = name
        self.gate = self.conf.gate.on(self.conf.dataset)
        tracked = paths.tracked(name)
        self.folder = tracked.model
        self.metrics_file = tracked.metrics
        self.prepared = paths.prepared(self.conf.dataset)
        for output in (self.folder, self.metrics_file, self.prepared):
            files.needed(output)
        self.metrics: dict[str, Any] = files.read_json(self.metrics_file)
        self.profile: dict[str, Any] = files.read_json(self.prepared / "profile.json")
        self._check_consistent()
        self.digest = files.folder_digest(self.folder)
        self.registered = registry.registered_name(name, self.profile["source"])

    def _check_consistent(self) -> None:
        """Raise SextantError if the outputs come from different runs.

        This happens when `make train` or `make prepare` ran alone: for example, the model was
        trained on the twin, and the prepared rows are real.
        """
        card = files.read_json(self.folder / "model.json")
        expected = [self.metrics["model"], self.metrics["source"], self.profile["digest"]]
        consistent = [card[key] for key in ("model", "source", "data")] == expected
        for name, value in card["val"].items():
            evaluated = self.metrics["val"].get(name, math.nan)
            consistent = consistent and math.isclose(value, evaluated, abs_tol=1e-6)
        if not consistent:
            raise SextantError(
                f"{self.folder}, {self.metrics_file} and {self.prepared} come from different runs;"
                " `make repro` makes them consistent"
            )


def as_meant(
    answers: "pd.DataFrame", learnt: Sequence[object], classes: Sequence[str]
) -> "pd.DataFrame":
    """The answers of a packed classifier, which has learnt the classes `learnt`, as `classes`.

    Code before levels were text guessed types. Its classes may be numbers, which sort otherwise
    than text: of the classes 2 and 10 its `probability` is that of 10, today it is that of 2.
    """
    names = renamed(classes, learnt)
    columns = {}
    for old, new in names.items():
        columns[f"probability_{old}"] = f"probability_{new}"
    meant = answers.rename(columns=columns)
    meant["prediction"] = [names.get(str(label), str(label)) for label in answers["prediction"]]
    last = names.get(str(learnt[-1]))
    if len(learnt) == 2 and "positive" not in meant and last != classes[-1]:
        meant["probability"] = 1 - answers["probability"]
    return meant


def guessed_types(card: Mapping[str, Any]) -> bool:
    """Whether a packed model is of code that let pandas guess the types of a table.

    The block `columns` of its conf had no encoding yet, which came with text as it is written.
    """
    return card.get("kind") == "tabular" and "encoding" not in card.get("columns", {})


class GateRows:
    """The gate part of a data set, and the answers of packed models to it."""

    def __init__(self, model: "SavedModel", gate: "pd.DataFrame", folder: Path):
        self.model = model
        self.gate = gate
        self.inputs = model.inputs(gate)
        self.rows = folder / "rows.parquet"
        self.answers = folder / "answers.parquet"
        rows = plugins.kind(model.card["kind"]).rows
        # A champion may expect another form than a prepared part, for example the files of
        # pictures and not the decoded squares.
        plugins.optional(rows, "write_inputs", rows.write)(self.inputs, self.rows)

    def score(self, answers: "pd.DataFrame") -> dict[str, float]:
        """The metrics of answers to the gate's inputs."""
        return self.model.score(answers, self.gate)

    def scores_of(self, uri: str) -> tuple[dict[str, float] | None, str]:
        """The scores of a packed model, or why there are none."""
        import pandas as pd

        try:
            card = packing.card_of(uri)
        except packing.FilesMissing as error:
            return None, str(error)
        learnt = card.get("encoder", {})
        rows = self._rows_for(learnt, guessed_types(card))
        trouble = packing.answers_of(uri, rows, self.answers, self.model.card["threads"])
        if trouble:
            return None, trouble
        try:
            answers = self._as_meant(pd.read_parquet(self.answers), learnt)
            scores = self.score(self.model.decided(answers))
        except Exception as error:  # answers of an old champion may have another form
            return None, f"its answers cannot be scored: {one_line(error)}"
        for name, value in scores.items():
            if not math.isfinite(value):
                return None, f"its {name} is {value}"
        return scores, ""

    def _rows_for(self, learnt: Mapping[str, Any], guessed: bool) -> Path:
        """The file of rows for a model whose encoder has this state.

        Code before levels were text guessed types: a model of it knows the category TRUE as True,
        and 1.50 as 1.5.
        """
        levels = learnt.get("levels")
        if not levels or not isinstance(levels, dict) or not set(levels) <= set(self.inputs):
            return self.rows
        columns = {}
        for name in levels:
            columns[name] = matched(self.inputs.loc[:, name], levels[name], guessed)
        path = self.rows.with_name("rows-as-learnt.parquet")
        self.inputs.assign(**columns).to_parquet(path)
        return path

    def _as_meant(self, answers: "pd.DataFrame", learnt: Mapping[str, Any]) -> "pd.DataFrame":
        """The answers of a packed model in the classes of this one, if both are classifiers."""
        classes = self.model.encoder.state().get("classes") or []
        is_text = all(isinstance(label, str) for label in classes)
        if not classes or not is_text or not learnt.get("classes") or "prediction" not in answers:
            return answers
        return as_meant(answers, learnt["classes"], classes)


def judge(
    candidate: Candidate, model_uri: str, champion: registry.Version | None
) -> dict[str, Any]:
    """Score challenger, champion and trivial baseline on the gate part, and decide.

    Returns the decision with its reason and scores, as JSON. Raises SextantError if the challenger
    cannot answer; a champion that cannot is reported, and the trivial baseline alone decides.
    """
    from . import saved_model

    model = saved_model.load(candidate.folder)
    saved_model.limit_threads(model.card["threads"])
    rows = plugins.kind(model.card["kind"]).rows
    parts = {part: rows.load(candidate.prepared / part) for part in ("train", "val", "gate")}
    with tempfile.TemporaryDirectory() as folder:
        gate_rows = GateRows(model, parts["gate"], Path(folder))
        challenger_scores, trouble = gate_rows.scores_of(model_uri)
        if challenger_scores is None:
            raise SextantError(
                f"{candidate.name} as packed cannot answer the gate's rows: {trouble}"
            )
        champion_scores = None
        if champion:
            champion_scores, trouble = gate_rows.scores_of(champion.model_uri)
    trivial = _trivial_baseline(candidate, model, parts)
    trivial_scores = gate_rows.score(trivial(gate_rows.inputs))
    metric = candidate.gate.metric or model.task.primary[0]
    direction = str(model.task.metrics.METRICS[metric])
    promoted, reason = decide(
        challenger_scores,
        champion_scores,
        trivial_scores,
        candidate.gate,
        metric,
        direction,
        _guarded_scores(model, parts),
    )
    remark = ""
    if champion is None and promoted:
        remark = "; there was no champion to beat"
    if champion is not None and champion_scores is None:
        remark = f"; champion version {champion.version} cannot answer ({trouble})"
    return {
        "decision": PROMOTED if promoted else REFUSED,
        "reason": reason + remark,
        "rules": rules(candidate.gate),
        "metric": metric,
        "challenger": challenger_scores[metric],
        "champion_score": champion_scores[metric] if champion_scores else None,
        "against": champion.version if champion else None,
        "baseline": trivial_scores[metric],
        "gate_rows": len(scored(parts["gate"])),
        "gate": challenger_scores,
    }


def _trivial_baseline(
    candidate: Candidate, model: "SavedModel", parts: "contracts.Parts"
) -> "contracts.Answer":
    """The first baseline of the task that fits the kind, fitted on the train part."""
    baselines = model.task.baselines(candidate.conf.kind, candidate.conf.baselines)
    fit = next(iter(baselines.values()))
    return model.fit_baseline(fit, parts)


def _guarded_scores(model: "SavedModel", parts: "contracts.Parts") -> dict[str, float] | None:
    """The scores for the guards, if the task computes them on other rows than the gate part."""
    guard_rows = plugins.optional(model.task.metrics, "guard_rows", None)
    if guard_rows is None:
        return None
    rows = guard_rows(parts)
    return model.score(model.answer(model.inputs(rows)), rows)
