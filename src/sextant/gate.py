"""The gate: whether a trained model becomes champion.

Challenger and champion answer the same raw rows of the gate part through the registered
interface, each with its own fitted transforms and its own packed code. The metrics and the
trivial baseline are this commit's. So a changed scaler or a renamed constructor argument neither
prevents nor biases the comparison.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import config, drift, files, intervals, paths, plugins, reference, slices
from .errors import SextantError, one_line
from .kinds.levels import matched, renamed
from .kinds.parts import scored
from .tracking import packing, registry
from .tracking.registry import PROMOTED, REFUSED, WAITING

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
    gain_interval: tuple[float, float] | None = None,
    in_slices: Sequence[slices.SliceScore] = (),
) -> tuple[bool, str]:
    """Whether the challenger becomes champion, and the reason in a sentence; a pure function.

    `metric` is the one to compare and `direction` its good direction, `up` or `down`. `guarded`
    are the challenger's scores that the guards read, if the task computes them on other rows than
    the gate part. `gain_interval` is the interval of the gain over the champion, at the level
    `gate.interval`, and `in_slices` are the scores of both in the slices of `gate.slices`.
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
    if not (gain > 0 and gain >= gate.margin):  # the margin may be 0
        reason = f"{metric} {score:.4f} does not beat the champion's {best:.4f} by {gate.margin:g}"
        return False, reason
    reason = f"{metric} {score:.4f} beats the champion's {best:.4f} by {gate.margin:g} or more"
    if gate.interval is not None and gain_interval is not None:
        low, high = gain_interval
        label = f"the {100 * gate.interval:g} % interval of the gain, {low:+.4f} to {high:+.4f}"
        if not low > 0:
            return False, f"{reason}, but {label}, is not above 0: it may be chance"
        reason += f", and {label}, is above 0"
    for part in in_slices:
        if part.is_worse(direction):
            return False, f"{reason}, but {part.sentence(metric)}"
    return True, reason


# --- the rules that made a decision -------------------------------------------------------------


def rules(gate: config.Gate) -> dict[str, Any]:
    """What a gate decides by, as a decision records it."""
    return gate.model_dump(include={"metric", "margin", "interval", "guards", "slices", "drift"})


# The rules that decisions of earlier versions do not record, as they were then.
UNRECORDED: Mapping[str, object] = {"interval": None, "slices": []}


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
        # A comparison of the data is no reason to judge anew what was judged before there was one.
        before = recorded.get(name, UNRECORDED.get(name, value))
        if before == value:
            continue
        if name == "metric" and value == decision["metric"]:  # the default, now written out
            continue
        changes.append(f"{name}: {_in_words(name, before)} before, {_in_words(name, value)} now")
    return "; ".join(changes)


def _in_words(name: str, value: object) -> str:
    if value is None:
        return "the task's first" if name == "metric" else "none"
    if isinstance(value, list):
        return " and ".join(f"`{_in_words(name, entry)}`" for entry in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_in_words(key, entry)}" for key, entry in value.items())
    return f"{value}"


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
        summary = self.prepared / reference.FILE
        self.reference: reference.Reference = {}
        if summary.is_file():
            self.reference = files.read_json(summary)
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


class Answered(NamedTuple):
    """The metrics of the answers of a packed model, and the Sample of the one that is compared."""

    scores: dict[str, float]
    sample: intervals.Sample


class GateRows:
    """The gate part of a data set, and the answers of packed models to it.

    `metric` is the one that is compared; by default the first one of the task.
    """

    def __init__(
        self, model: "SavedModel", gate: "pd.DataFrame", folder: Path, metric: str | None = None
    ):
        self.model = model
        self.gate = gate
        self.metric = metric or model.task.primary[0]
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

    def sample(self, answers: "pd.DataFrame") -> intervals.Sample:
        """The Sample of the compared metric of answers to the gate's inputs."""
        contributions = self.model.task.metrics.contributions
        return plugins.call(
            contributions, answers, self.gate, self.model.encoder, metric=self.metric
        )

    def answered_by(self, uri: str) -> tuple[Answered | None, str]:
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
            decided = self.model.decided(answers)
            scores = self.score(decided)
            sample = self.sample(decided)
        except Exception as error:  # answers of an old champion may have another form
            return None, f"its answers cannot be scored: {one_line(error)}"
        for name, value in scores.items():
            if not math.isfinite(value):
                return None, f"its {name} is {value}"
        return Answered(scores, sample), ""

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
    metric = candidate.gate.metric or model.task.primary[0]
    direction = str(model.task.metrics.METRICS[metric])
    opponent = None
    with tempfile.TemporaryDirectory() as folder:
        gate_rows = GateRows(model, parts["gate"], Path(folder), metric)
        challenger, trouble = gate_rows.answered_by(model_uri)
        if challenger is None:
            raise SextantError(
                f"{candidate.name} as packed cannot answer the gate's rows: {trouble}"
            )
        if champion:
            opponent, trouble = gate_rows.answered_by(champion.model_uri)
    trivial = _trivial_score(candidate, model, parts, gate_rows, metric)
    best = _best_baseline(candidate.metrics, metric)
    compared = _compared(candidate.gate, gate_rows, challenger, opponent, direction)
    promoted, reason = decide(
        challenger.scores,
        opponent.scores if opponent else None,
        {metric: trivial},
        candidate.gate,
        metric,
        direction,
        _guarded_scores(model, parts),
        compared.interval if compared else None,
        compared.slices if compared else (),
    )
    then = _score_when_promoted(champion, metric, candidate.profile["digest"])
    moved = _drift(candidate, champion)
    decision = PROMOTED if promoted else REFUSED
    remark = ""
    if champion is None and promoted:
        remark = "; there was no champion to beat"
    if champion is not None and opponent is None:
        remark = f"; champion version {champion.version} cannot answer ({trouble})"
    if opponent is not None and then is not None:
        remark += f"; the champion had {then:.4f} on other data when it became champion"
    if promoted:
        remark += best.remark(direction)
    if moved is not None and moved.sentence():
        remark += f"; {moved.sentence()}"
        if promoted and moved.severity == "critical":
            decision = WAITING  # the data have moved so far that a person should look at them
            remark += "; this needs a person"
    elif moved is None and opponent is not None and candidate.gate.drift is not None:
        remark += "; drift is unknown, since the champion has no summary of its data"
    return {
        "decision": decision,
        "reason": reason + remark,
        "rules": rules(candidate.gate),
        "metric": metric,
        "challenger": challenger.scores[metric],
        "champion_score": opponent.scores[metric] if opponent else None,
        "champion_score_when_promoted": then,
        "against": champion.version if champion else None,
        **(compared.record() if compared else {}),
        **({"drift": moved.record()} if moved else {}),
        "baseline": trivial,
        "best_baseline_on_test": {"name": best.name, "score": best.score, "model": best.of_model},
        "gate_rows": len(scored(parts["gate"])),
        "gate": challenger.scores,
    }


# --- challenger and champion on the same rows ---------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """How much better a challenger is than the champion, on the same rows of the gate part.

    `interval` is that of the `gain` at the level `gate.interval`, None without one.
    """

    gain: float
    interval: tuple[float, float] | None
    slices: list[slices.SliceScore]

    def record(self) -> dict[str, object]:
        """What the decision records of it."""
        record: dict[str, object] = {"gain": round(self.gain, 9)}
        if self.interval is not None:
            record["gain_interval"] = [round(end, 9) for end in self.interval]
        if self.slices:
            record["slices"] = [part.record() for part in self.slices]
        return record


def _compared(
    gate: config.Gate,
    gate_rows: GateRows,
    challenger: Answered,
    champion: Answered | None,
    direction: str,
) -> Compared | None:
    """The comparison with the champion, None if there is none that can answer."""
    if champion is None:
        return None
    sign = 1 if direction == "up" else -1
    metric = gate_rows.metric
    difference = sign * (challenger.scores[metric] - champion.scores[metric])
    interval = None
    if gate.interval is not None:
        # One seed draws the same rows for both.
        _, low, high = intervals.gain(challenger.sample, champion.sample, direction, gate.interval)
        interval = (low, high)
    columns = gate_rows.model.encoder.columns
    parts = slices.compare(gate.slices, gate_rows.gate, columns, challenger.sample, champion.sample)
    return Compared(difference, interval, parts)


def _drift(candidate: Candidate, champion: registry.Version | None) -> drift.Report | None:
    """The training rows of a candidate against those of the champion; None if they are unknown.

    Also None if the gate does not compare them.
    """
    if champion is None or candidate.gate.drift is None:
        return None
    try:
        of_champion = packing.reference_of(packing.folder_of(champion.model_uri))
    except packing.FilesMissing:
        return None
    if of_champion is None:
        return None
    return drift.compare(of_champion, candidate.reference, candidate.gate.drift)


def _score_when_promoted(champion: registry.Version | None, metric: str, data: str) -> float | None:
    """The champion's score on the gate part of the data it was judged on, if these were others."""
    if champion is None or champion.decision is None or champion.tags.get("data") == data:
        return None
    decision = champion.decision
    return float(decision["challenger"]) if decision["metric"] == metric else None


# --- baselines ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class BestBaseline:
    """The best baseline of the test part, beside the model there: it is shown, and never decides.

    Evaluate has scored both. To fit it again for the gate part would take minutes where it is a
    forest or a net.
    """

    name: str
    score: float
    of_model: float

    def remark(self, direction: str) -> str:
        """That a promoted model does not beat it; empty if it does."""
        sign = 1 if direction == "up" else -1
        if sign * (self.of_model - self.score) > 0:
            return ""
        return (
            f"; on the test part, its {self.of_model:.4f} does not beat the best baseline's"
            f" {self.score:.4f} ({self.name})"
        )


def _best_baseline(metrics: Mapping[str, Any], metric: str) -> BestBaseline:
    name = metrics["best"]
    return BestBaseline(name, metrics["baselines"][name][metric], metrics["test"][metric])


def _trivial_score(
    candidate: Candidate,
    model: "SavedModel",
    parts: "contracts.Parts",
    gate_rows: GateRows,
    metric: str,
) -> float:
    """Fit the first baseline of the task that fits the kind, and score it on the gate part."""
    baselines = model.task.baselines(candidate.conf.kind, candidate.conf.baselines)
    trivial = model.fit_baseline(next(iter(baselines.values())), parts)
    return gate_rows.score(trivial(gate_rows.inputs))[metric]


def _guarded_scores(model: "SavedModel", parts: "contracts.Parts") -> dict[str, float] | None:
    """The scores for the guards, if the task computes them on other rows than the gate part."""
    guard_rows = plugins.optional(model.task.metrics, "guard_rows", None)
    if guard_rows is None:
        return None
    rows = guard_rows(parts)
    return model.score(model.answer(model.inputs(rows)), rows)
