"""The gate: laws of the decision, and outputs that do not belong together."""

import importlib
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import builders
import cases
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from sextant import config, gate, intervals, saved_model, slices
from sextant.errors import SextantError
from sextant.kinds.tabular import rows as tabular_rows
from sextant.kinds.tabular.columns import Columns as TableColumns
from sextant.kinds.tabular.encoder import Encoder
from sextant.tracking import unpacking

scores = st.floats(-1, 1).map(lambda x: round(x, 6))
margins = st.floats(0, 0.5).map(lambda x: round(x, 6))
directions = st.sampled_from(["up", "down"])


def decide(
    challenger: float,
    champion: float | None,
    trivial: float,
    margin: float,
    direction: str,
    guards: tuple[str, ...] = (),
) -> tuple[bool, str]:
    """A decision on one metric, `score`."""
    champion_scores = None if champion is None else {"score": champion}
    conf = config.Gate(margin=margin, guards=list(guards))
    return gate.decide(
        {"score": challenger}, champion_scores, {"score": trivial}, conf, "score", direction
    )


@given(scores, st.none() | scores, scores, margins, directions)
def test_a_decision_is_a_pure_function_with_a_reason(
    challenger: float, champion: float | None, trivial: float, margin: float, direction: str
) -> None:
    decision = decide(challenger, champion, trivial, margin, direction)
    assert decision == decide(challenger, champion, trivial, margin, direction)
    reason = decision[1]
    assert reason and "\n" not in reason


@given(scores, st.none() | scores, scores, margins)
def test_the_opposite_direction_with_opposite_signs_decides_the_same(
    challenger: float, champion: float | None, trivial: float, margin: float
) -> None:
    opposite = None if champion is None else -champion
    mirrored = decide(-challenger, opposite, -trivial, margin, "down")
    assert decide(challenger, champion, trivial, margin, "up")[0] == mirrored[0]


@given(scores, st.none() | scores, scores, margins, directions)
def test_a_broken_guard_prevents_the_promotion(
    challenger: float, champion: float | None, trivial: float, margin: float, direction: str
) -> None:
    arguments = (challenger, champion, trivial, margin, direction)
    below, above = f"{challenger - 0.01:.6f}", f"{challenger + 0.01:.6f}"
    for guard in (f"score <= {below}", f"score >= {above}"):
        promoted, reason = decide(*arguments, (guard,))
        assert not promoted and guard in reason
    kept = (f"score <= {above}", f"score >= {below}")
    assert decide(*arguments, kept) == decide(*arguments)


@given(scores, st.none() | scores, scores, margins, directions)
def test_a_promoted_model_beats_the_trivial_baseline_and_the_champion_by_the_margin(
    challenger: float, champion: float | None, trivial: float, margin: float, direction: str
) -> None:
    sign = 1 if direction == "up" else -1
    promoted, _ = decide(challenger, champion, trivial, margin, direction)
    beats_trivial = sign * (challenger - trivial) > 0
    if champion is None:
        assert promoted == beats_trivial
    else:
        gain = sign * (challenger - champion)
        assert promoted == (beats_trivial and gain > 0 and gain >= margin)


@given(scores, scores, st.none() | scores, scores, margins, directions)
def test_a_better_challenger_is_never_judged_worse(
    first: float,
    second: float,
    champion: float | None,
    trivial: float,
    margin: float,
    direction: str,
) -> None:
    worse, better = sorted((first, second), reverse=direction == "down")
    promoted_worse, _ = decide(worse, champion, trivial, margin, direction)
    promoted_better, _ = decide(better, champion, trivial, margin, direction)
    assert promoted_worse <= promoted_better


@cases.each("champion", [None, 0.1])
@cases.each("direction", ["up", "down"])
def test_nan_is_never_promoted(champion: float | None, direction: str) -> None:
    for guards in ((), ("score <= 1",)):
        assert not decide(float("nan"), champion, 0.0, 0.0, direction, guards)[0]


def test_guards_read_the_guarded_scores_if_the_task_has_them() -> None:
    conf = config.Gate(margin=0, guards=["error <= 0.5"])
    challenger = {"score": 0.9, "error": 0.7}
    promoted, reason = gate.decide(challenger, None, {"score": 0.1}, conf, "score", "up")
    assert not promoted and reason == "breaks the guard error <= 0.5: error is 0.7000"
    promoted, _ = gate.decide(
        challenger, None, {"score": 0.1}, conf, "score", "up", guarded={"error": 0.3}
    )
    assert promoted


ENDS = st.tuples(scores, scores).map(sorted).map(tuple)


@given(scores, scores, scores, ENDS, directions)
def test_with_an_interval_its_lower_end_has_to_be_above_zero(
    challenger: float, champion: float, trivial: float, ends: tuple[float, float], direction: str
) -> None:
    scored = ({"score": challenger}, {"score": champion}, {"score": trivial})
    sure = config.Gate(margin=0.0, interval=0.9)
    without = gate.decide(*scored, config.Gate(margin=0.0), "score", direction)
    promoted, reason = gate.decide(*scored, sure, "score", direction, gain_interval=ends)
    assert promoted == (without[0] and ends[0] > 0)
    if without[0]:
        assert "the 90 % interval of the gain" in reason
        assert ("it may be chance" in reason) != promoted
    nan = (float("nan"), float("nan"))
    assert not gate.decide(*scored, sure, "score", direction, gain_interval=nan)[0]
    assert gate.decide(*scored, sure, "score", direction) == without  # no champion that answers


def test_a_slice_that_is_worse_by_more_than_its_floor_prevents_the_promotion() -> None:
    scored = ({"score": 0.9}, {"score": 0.8}, {"score": 0.1})
    for loss, promoted in ((0.04, True), (0.06, False), (-0.5, True)):
        part = slices.SliceScore("region", "north", 50, 0.05, 0.7 - loss, 0.7)
        decision, reason = gate.decide(
            *scored, config.Gate(margin=0.0), "score", "up", in_slices=[part]
        )
        assert decision is promoted
        assert ("in the slice region north (50 rows) score is" in reason) != promoted
    lower_is_better = slices.SliceScore("region", "north", 50, 0.05, 0.8, 0.7)
    assert lower_is_better.is_worse("down") and not lower_is_better.is_worse("up")


def test_slices_are_scored_on_the_same_rows_of_both() -> None:
    rows = pd.DataFrame({"region": ["n", "s", None, "n"] * 10, "size": np.arange(40.0)})
    better = intervals.mean(np.tile([1.0, 0.0, 1.0, 1.0], 10))
    worse = intervals.mean(np.tile([1.0, 1.0, 1.0, 0.0], 10))
    by_region = config.Slice(by="region", floor=0.1, rows=10)
    found = slices.compare([by_region], rows, TableColumns(numeric=["size"]), better, worse)
    assert [(part.value, part.rows) for part in found] == [("missing", 10), ("n", 20), ("s", 10)]
    assert [(part.challenger, part.champion) for part in found] == [(1, 1), (1, 0.5), (0, 1)]
    assert [part.is_worse("up") for part in found] == [False, False, True]
    few = config.Slice(by="region", floor=0.1, rows=11)
    assert len(slices.compare([few], rows, TableColumns(numeric=["size"]), better, worse)) == 1
    quarters = slices.labels(rows, TableColumns(numeric=["size"]), "size")
    assert [sum(quarters == value) for value in sorted(set(quarters))] == [10, 10, 10, 10]
    assert json.dumps(found[0].record())


def test_activity_is_the_number_of_known_ratings_of_the_user() -> None:
    rows = pd.DataFrame(
        {"user": [1, 1, 2, 1, 2, 3], "context": [True, True, True, False, False, False]}
    )
    columns: Any = SimpleNamespace(user="user")
    assert slices.labels(rows, columns, "activity").tolist() == ["2.0", "1.0", "0.0"]


@cases.each("direction, says_so", [("up", True), ("down", False)])
def test_a_promoted_model_below_the_best_baseline_says_so(direction: str, says_so: bool) -> None:
    remark = gate.BestBaseline("trees", 0.8, 0.7).remark(direction)
    words = "; on the test part, its 0.7000 does not beat the best baseline's 0.8000 (trees)"
    assert remark == words * says_so
    assert gate.BestBaseline("trees", 0.8, 0.8).remark(direction)  # as good is not better


# --- the rules of a decision, and guards of one data set ----------------------------------------

GUARD = "log_loss <= 0.5"


def decision(made_by: config.Gate, word: str = "not promoted") -> dict[str, Any]:
    return {"decision": word, "metric": made_by.metric or "accuracy", "rules": gate.rules(made_by)}


def test_a_gate_that_was_not_edited_has_no_changes() -> None:
    conf = config.Gate(margin=0.001, guards=[GUARD])
    assert gate.changed_rules(json.loads(json.dumps(decision(conf))), conf) == ""
    named = config.Gate(margin=0.001, guards=[GUARD], metric="accuracy")
    assert gate.changed_rules(decision(conf), named) == ""  # the default, written out


@pytest.mark.parametrize(
    ("edited", "words"),
    [
        ({"margin": 0.01}, "margin: 0.001 before, 0.01 now"),
        ({"guards": []}, "guards: `log_loss <= 0.5` before, none now"),
        ({"metric": "auroc"}, "metric: the task's first before, auroc now"),
        ({"interval": 0.9}, "interval: none before, 0.9 now"),
        (
            {"slices": [config.Slice(by="class", floor=0.1)]},
            "slices: none before, `by class, floor 0.1, rows 30` now",
        ),
        ({"drift": None}, "drift: warning 0.1, critical 0.25, ignored none before, none now"),
    ],
)
def test_an_edited_gate_is_described(edited: dict[str, Any], words: str) -> None:
    conf = config.Gate(margin=0.001, guards=[GUARD])
    assert gate.changed_rules(decision(conf), conf.model_copy(update=edited)) == words


def test_a_decision_of_a_version_without_intervals_counts_as_one_without() -> None:
    conf = config.Gate(margin=0.001)
    old = decision(conf)
    old["rules"] = {name: old["rules"][name] for name in ("margin", "guards", "metric")}
    assert gate.changed_rules(old, conf) == ""
    sure = conf.model_copy(update={"interval": 0.9})
    assert gate.changed_rules(old, sure) == "interval: none before, 0.9 now"


def test_of_decisions_without_rules_only_a_refusal_is_made_again() -> None:
    conf = config.Gate(margin=0.001)
    old = {"decision": "not promoted", "metric": "accuracy"}
    assert "does not say" in gate.changed_rules(old, conf)
    assert gate.changed_rules({**old, "decision": "promoted"}, conf) == ""


def test_guards_of_a_data_set_hold_on_that_data_set_alone() -> None:
    conf = config.Gate(margin=0.001, guards=["brier <= 1"], guards_of={"churn": [GUARD]})
    assert conf.on("churn").guards == ["brier <= 1", GUARD]
    assert conf.on("loans").guards == ["brier <= 1"]
    assert conf.on("loans").guards_of == {}


def test_no_conf_that_may_be_copied_has_a_guard_for_every_data_set() -> None:
    confs = sorted((ROOT / "conf/model").glob("*.yaml"))
    assert confs
    for path in confs:
        block = yaml.safe_load(path.read_text())["gate"]
        assert block["guards"] == [], f"{path}: name the data set of this guard in guards_of"


def test_no_conf_of_the_documentation_has_a_guard() -> None:
    text = (ROOT / "docs/your-data.md").read_text()
    assert re.findall(r"^\s*guards(?:_of)?:(?! \[\])", text, re.MULTILINE) == []


# --- candidates ---------------------------------------------------------------------------------


@pytest.fixture
def outputs(workspace: Path) -> Path:
    """The outputs that a candidate is made from; the card of the model."""
    card = {"model": "ann", "source": "embedded", "data": "0" * 64, "val": {"accuracy": 0.75}}
    metrics = {"model": "ann", "source": "embedded", "val": {"accuracy": 0.7500001}}
    write(Path("data/prepared/churn/profile.json"), {"source": "embedded", "digest": "0" * 64})
    write(Path("reports/metrics/ann.json"), metrics)
    return write(Path("models/ann/model.json"), card)


def write(path: Path, content: dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_a_candidate_is_registered_by_its_model_and_source(outputs: Path) -> None:
    assert gate.Candidate("ann").registered == "sextant-ann-twin"


@pytest.mark.parametrize(
    ("key", "value"),
    [("source", "mirror"), ("data", "1" * 64), ("val", {"accuracy": 0.751}), ("model", "cnn")],
)
def test_outputs_of_different_runs_are_refused(outputs: Path, key: str, value: object) -> None:
    write(outputs, json.loads(outputs.read_text()) | {key: value})
    message = "come from different runs; `make repro` makes them consistent"
    with pytest.raises(SextantError, match=message):
        gate.Candidate("ann")


def test_a_missing_output_is_named(outputs: Path) -> None:
    Path("reports/metrics/ann.json").unlink()
    with pytest.raises(SextantError, match="reports/metrics/ann.json does not exist"):
        gate.Candidate("ann")


# --- a champion of code that guessed the types of a table ---------------------------------------


def test_the_answers_of_an_older_champion_are_read_as_it_meant_them() -> None:
    """Its classes were numbers: of 2 and 10, `probability` is that of 10; as text, 2 is last."""
    answers = pd.DataFrame({"prediction": [2, 10], "probability": [0.1, 0.8]})
    meant = gate.as_meant(answers, [2, 10], ["10", "2"])
    assert meant["prediction"].tolist() == ["2", "10"]
    assert meant["probability"].tolist() == [0.9, 1 - 0.8]
    three = pd.DataFrame({"prediction": [1.0, 7.0], "probability_1.0": 0.1, "probability_7.0": 0.2})
    meant = gate.as_meant(three, [1.0, 7.0, 8.0], ["01", "07", "08"])
    assert meant["prediction"].tolist() == ["01", "07"]
    assert list(meant) == ["prediction", "probability_01", "probability_07"]
    truths = pd.DataFrame({"prediction": [True], "probability": [0.6]})
    meant = gate.as_meant(truths, [False, True], ["FALSE", "TRUE"])
    assert meant.to_dict("records") == [{"prediction": "TRUE", "probability": 0.6}]
    named = answers.assign(positive=10)
    assert gate.as_meant(named, [2, 10], ["10", "2"])["probability"].tolist() == [0.1, 0.8]


def test_an_older_champion_is_asked_in_the_levels_that_its_code_had_guessed(
    tmp_path: Path,
) -> None:
    """Its pandas read 1.50 as the number 1.5; today's champions read text as it is written."""
    model = builders.untrained_model()
    rows = builders.animal_table(3).assign(shoes=["1.50", "2", "x"])
    asked = gate.GateRows(model, rows, tmp_path)
    learnt = {"levels": {"shoes": ["1.5", "2"], "colour": ["blue", "green", "red"]}}
    for guessed, shoes in ((True, ["1.5", "2", "x"]), (False, ["1.50", "2", "x"])):
        read = pd.read_parquet(asked._rows_for(learnt, guessed))
        assert read["shoes"].tolist() == shoes
        assert read["colour"].tolist() == rows["colour"].tolist()
    block: dict[str, object] = {"names": None, "delimiter": ",", "unknown": None}
    assert gate.guessed_types({"kind": "tabular", "columns": block})
    assert not gate.guessed_types(model.card)
    assert not gate.guessed_types({"kind": "ratings", "columns": block})
    assert not gate.guessed_types({})


@pytest.fixture
def wines(tmp_path: Path) -> Path:
    """300 wines whose grade, 2 or 10, follows from x and kind.

    `opened` is a truth value, and `litres`, which follows from kind, a number with two digits.
    """
    lines = []
    for number in range(300):
        kind = number % 3
        x = (number * 37 % 100) / 10
        grade = 10 if (x > 5) != (kind == 2) else 2
        opened = "TRUE" if number % 2 else "FALSE"
        lines.append(f"{number:04},{x},{kind},{opened},{kind}.50,{grade}\n")
    path = tmp_path / "wines.csv"
    path.write_text("id,x,kind,opened,litres,grade\n" + "".join(lines))
    return path


ROLES = {
    "key": "id", "target": "grade", "numeric": ["x"], "categorical": ["kind", "opened", "litres"],
}  # fmt: skip
NET = {
    "bins": 4, "embedding_size": 4, "hidden_sizes": [16], "dropout": 0.0, "bodies": 1, "members": 1,
}  # fmt: skip


def trained(net: Any, batch: Any) -> Any:
    """A net after some steps on one batch."""
    torch.manual_seed(0)
    net.initialise(batch)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture
def old_champion(tmp_path: Path, wines: Path) -> tuple[Path, dict[str, float]]:
    """A classifier that code of commit 0efe4ab has trained and packed, and its scores by that."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    command = ["git", "archive", "0efe4ab", "src/sextant"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip("this clone lacks the commit")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as members:
        members.extractall(tmp_path, filter="data")
    code = tmp_path / "src/sextant"
    package = unpacking.import_code(code)
    tabular = importlib.import_module(f"{package}.data.tabular")
    saved = importlib.import_module(f"{package}.saved")
    block = {"names": None, "delimiter": ",", "unknown": None, "ignored": [], **ROLES}
    columns = tabular.Columns(**block)
    rows = tabular.repair(tabular.read_rows(wines, columns), columns)
    encoder = tabular.Encoder.fit(rows, columns)
    assert encoder.classes == [2, 10]
    torch.manual_seed(0)
    net = trained(saved.build("ann", encoder.sizes, NET), encoder.encode(rows))
    card = {
        "family": "ann", "kind": "tabular", "task": "classification", "net": NET,
        "columns": block, "calibration": {"temperature": 1.0},
    }  # fmt: skip
    saved.save(tmp_path / "wine", card, net, encoder)
    model = saved.load(tmp_path / "wine")
    inputs = [ColSpec(dtype, name, required) for name, dtype, required in encoder.schema()]
    outputs = [ColSpec("long", "prediction"), ColSpec("double", "probability")]
    mlflow.pyfunc.save_model(
        str(tmp_path / "packed"),
        loader_module="sextant.saved",
        data_path=str(tmp_path / "wine"),
        code_paths=[str(code)],
        signature=ModelSignature(Schema(inputs), Schema(outputs)),
        input_example=encoder.example(),
        pip_requirements=[],
    )
    return tmp_path / "packed", model.score(model.answer(rows), rows)


@pytest.mark.slow
def test_a_champion_of_older_code_with_numbers_as_classes_is_judged_as_it_meant(
    workspace: Path,
    tmp_path: Path,
    wines: Path,
    old_champion: tuple[Path, dict[str, float]],
    forked: None,
) -> None:
    packed, expected = old_champion
    assert expected["accuracy"] > 0.9
    columns = TableColumns.model_validate(ROLES)
    rows = tabular_rows.repair(tabular_rows.read_rows(wines, columns), columns)
    rows = rows.reset_index(drop=True)
    encoder = Encoder.fit(rows, columns)
    assert encoder.classes == ["10", "2"]
    net = saved_model.build("ann", encoder.sizes, NET)
    card = {
        "family": "ann", "kind": "tabular", "task": "classification", "net": NET, "threads": 1,
        "columns": columns.model_dump(), "calibration": {"temperature": 1.0},
    }  # fmt: skip
    challenger = saved_model.SavedModel(card, net, encoder)
    folder = tmp_path / "gate"
    folder.mkdir()
    answered, trouble = gate.GateRows(challenger, rows, folder).answered_by(str(packed))
    assert answered is not None, trouble
    for metric in ("accuracy", "auroc", "log_loss", "brier"):
        assert answered.scores[metric] == pytest.approx(expected[metric], abs=1e-6)
