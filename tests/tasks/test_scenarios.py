"""Scenarios: likelihoods by hand, the tree against brute force, completions of raw rows."""

import itertools
import math
from typing import Any

import cases
import numpy as np
import pandas as pd
import pytest
import svgs
import torch
from builders import table_columns

from sextant import evaluate, plugins, saved_model
from sextant.errors import DataError, UsageError
from sextant.families.boltzmann import Boltzmann
from sextant.kinds.tabular.encoder import Encoder
from sextant.saved_model import SavedModel
from sextant.tasks.scenarios import baselines
from sextant.tasks.scenarios import metrics as scenarios
from sextant.tasks.scenarios.figures import couplings

COLUMNS = table_columns(
    target="power", numeric=["heat", "damp"], categorical=["wind"], key="hour", ignored=["note"]
)
NET: dict[str, Any] = {
    "bins": 4,
    "hidden": 2,
    "couplings": ["visible", "between"],
    "likelihood": "exact",
    "chains": 5,
    "sweeps": 1,
    "temperatures": 2,
    "l1": 0.0,
    "l2": 0.001,
    "init": 0.1,
}


def hours(rows: int = 400, seed: int = 1, gaps: bool = False) -> pd.DataFrame:
    """Power falls with the heat, the damp is free, and the wind rises with both together."""
    rng = np.random.default_rng(seed)
    heat = rng.normal(20, 7, rows)
    damp = rng.normal(70, 10, rows)
    windy = (heat - 20) * (damp - 70) + rng.normal(0, 20, rows) > 0
    table = pd.DataFrame(
        {
            "hour": np.arange(1, rows + 1).astype(str),
            "note": "",
            "heat": heat.round(2),
            "damp": damp.round(2),
            "wind": np.where(windy, "strong", "weak"),
            "power": (500 - 2 * heat + rng.normal(0, 4, rows)).round(1),
        }
    )
    if gaps:
        table.loc[::5, "damp"] = np.nan
        table["wind"] = table["wind"].where(np.arange(rows) % 3 != 0, None)
    return table


def fitted(train: pd.DataFrame, steps: int = 60, **net: Any) -> SavedModel:
    """A machine after some steps on all rows."""
    columns = scenarios.roles(COLUMNS, train)
    encoder = Encoder.fit(train, columns)
    torch.manual_seed(0)
    made = saved_model.build("boltzmann", encoder.sizes, NET | net)
    assert isinstance(made, Boltzmann)
    batch = encoder.encode(train)
    made.initialise(batch)
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.1, weight_decay=0.0)
    for _ in range(steps):
        made.gradients(batch)
        optimizer.step()
    card = {
        "task": "scenarios",
        "family": "boltzmann",
        "kind": "tabular",
        "net": NET | net,
        "columns": columns.model_dump(exclude_unset=True),
        "calibration": {},
    }
    return SavedModel(card, made.eval(), encoder)


@pytest.fixture(scope="module")
def model() -> SavedModel:
    return fitted(hours(gaps=True))


@pytest.fixture(scope="module")
def parts() -> dict[str, pd.DataFrame]:
    return {"train": hours(gaps=True), "val": hours(150, 2), "test": hours(200, 3, gaps=True)}


# --- what is read -------------------------------------------------------------------------------


def test_the_target_is_a_column_like_others_and_gaps_stay_empty(model):
    assert model.encoder.columns.features == ["heat", "damp", "power", "wind"]
    assert model.encoder.columns.target is None
    assert model.encoder.sizes == {"numeric": 3, "cardinalities": [2]}
    assert model.encoder.levels == {"wind": ["strong", "weak"]}
    batch = model.encoder.encode(hours(gaps=True))
    assert torch.equal(batch.numeric[:, 1].isnan(), torch.arange(400) % 5 == 0)
    assert torch.equal(batch.categories[:, 0] == 0, torch.arange(400) % 3 == 0)
    loaded = type(model.encoder.columns)(**model.card["columns"])
    assert loaded == model.encoder.columns


def test_a_target_that_is_a_class_is_a_category_and_a_conf_may_ask_for_levels():
    train = hours(gaps=True)
    columns = COLUMNS.model_copy(
        update={"target": "wind", "categorical": [], "numeric": ["heat", "damp", "power"]}
    )
    joint = scenarios.roles(columns, train)
    assert (joint.numeric, joint.categorical) == (["heat", "damp", "power"], ["wind"])
    kept = {"damp": "median", "wind": "level"}
    joint = scenarios.roles(COLUMNS.model_copy(update={"missing": kept}), train)
    encoder = Encoder.fit(train, joint)
    assert encoder.levels == {"wind": ["strong", "weak", None]}
    batch = encoder.encode(train)
    assert not batch.numeric.isnan().any()
    assert (batch.categories > 0).all()


# --- metrics ------------------------------------------------------------------------------------


def answers_of(log_probability: list[float], states: list[list[int]], seen: list[bool]) -> Any:
    codes = np.array(states)
    pairs = np.full((len(codes), 1), 0.25)
    return scenarios.as_answers(
        np.array(log_probability), codes, np.array(seen), pairs, ["heat", "wind"]
    )


def test_metrics_by_hand(model):
    """Four rows, of which the third is unseen; of the permuted ones two never occur."""
    states = [[0, 0], [0, 0], [1, 1], [1, -1], [0, 1], [1, 0], [1, 1], [0, -1]]
    seen = [True, True, False, False, False, False, False, False]
    log_probability = [-1.0, -1.0, -3.0, -0.5, -4.0, -2.0, -3.0, -0.1]
    answers = answers_of(log_probability, states, seen)
    encoder = type("Named", (), {"columns": table_columns(None, ["heat"], ["wind"])})()
    scores = scenarios.score(answers, hours(4), encoder)
    assert scores["log_likelihood"] == pytest.approx(-5.5 / 4)
    assert scores["unseen_auroc"] == 0.5  # -3 is above -4 and below -2
    # Frequencies 2/3 and 1/3, probabilities 1/4 each, and 1/2 where no row is.
    expected = (abs(0.25 - 2 / 3) + abs(0.25 - 1 / 3) + 0.5) / 2
    assert scores["pair_error"] == pytest.approx(expected)
    assert list(scores) == list(scenarios.METRICS)
    sample = scenarios.contributions(answers, hours(4), encoder)
    assert sample.observed == pytest.approx(scores["log_likelihood"])
    auroc = scenarios.contributions(answers, hours(4), encoder, metric="unseen_auroc")
    assert auroc.observed == scores["unseen_auroc"]


def test_without_unseen_states_there_is_nothing_to_tell_apart(model):
    answers = answers_of([-1.0, -2.0], [[0, 0], [1, 1]], [True, True])
    encoder = type("Named", (), {"columns": table_columns(None, ["heat"], ["wind"])})()
    assert scenarios.score(answers, hours(2), encoder)["unseen_auroc"] == 0.5


def test_permuted_rows_follow_the_rows_and_keep_each_column(model):
    rows = hours(50, gaps=True)
    inputs = scenarios.inputs(rows, model.encoder)
    assert len(inputs) == 50 * (1 + scenarios.INJECTIONS)
    pd.testing.assert_frame_equal(inputs.head(50), rows)
    permuted = inputs.iloc[50:100]
    for name in model.encoder.columns.features:
        assert not permuted[name].equals(rows[name].set_axis(permuted.index))
        assert permuted[name].value_counts().to_dict() == rows[name].value_counts().to_dict()


# --- baselines ----------------------------------------------------------------------------------


def test_a_tree_is_a_distribution_and_sums_over_what_is_missing():
    rng = np.random.default_rng(0)
    levels = [2, 3, 2, 4]
    codes = np.stack([rng.integers(-1, count, 300) for count in levels], 1)
    codes[:, 3] = np.where(codes[:, 1] >= 0, codes[:, 1], codes[:, 3])
    tree = baselines.chow_liu_tree(codes, levels, 1.0)
    assert tree.order[0] == 0 and sorted(tree.order) == [0, 1, 2, 3]
    assert {tree.parent[3], tree.parent[1]} & {1, 3}, "the copied column is beside its original"
    states = np.array(list(itertools.product(*map(range, levels))))
    log_p = baselines.log_probability(tree, states)
    assert np.exp(log_p).sum() == pytest.approx(1)
    for known in ([1, -1, 0, -1], [-1, 2, -1, 3], [-1, -1, -1, -1]):
        fits = ((states == known) | (np.array(known) < 0)).all(1)
        value = baselines.log_probability(tree, np.array([known]))[0]
        assert math.exp(value) == pytest.approx(np.exp(log_p[fits]).sum())
    tables = baselines.pair_tables(tree)
    for first, second in itertools.product(range(4), repeat=2):
        expected = np.zeros((levels[first], levels[second]))
        np.add.at(expected, (states[:, first], states[:, second]), np.exp(log_p))
        np.testing.assert_allclose(tables[first][second], expected, atol=1e-12)


def test_the_tree_has_the_largest_mutual_information_of_all_trees():
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 3, (200, 4))
    codes[:, 2] = (codes[:, 0] + (rng.random(200) < 0.4)) % 3
    codes[:, 1] = (codes[:, 2] + (rng.random(200) < 0.6)) % 3
    pairs = list(itertools.combinations(range(4), 2))
    information = {}
    for pair in pairs:
        counts = baselines.pair_counts(codes, [3] * 4, *pair)
        information[pair] = baselines.mutual_information(counts)
    best = -math.inf
    for edges in itertools.combinations(pairs, 3):
        reached = {0}
        for _ in edges:
            for edge in edges:
                if reached & set(edge):
                    reached |= set(edge)
        if len(reached) == 4:
            best = max(best, sum(information[edge] for edge in edges))
    tree = baselines.chow_liu_tree(codes, [3] * 4, 1.0)
    total = 0.0
    for column, parent in enumerate(tree.parent):
        if parent >= 0:
            total += information[min(column, parent), max(column, parent)]
    assert total == pytest.approx(best)


def test_the_machine_finds_what_no_tree_can_and_baselines_answer_in_its_columns(parts):
    model = fitted(parts["train"], steps=120)
    named = plugins.task("scenarios").baselines("tabular")
    metrics, answers = evaluate.evaluate(
        SavedModel({**model.card, "val": _val(model, parts), **CARD}, model.net, model.encoder),
        parts,
        named,
    )
    baseline = metrics["baselines"]
    assert metrics["trivial"] == "independent" and metrics["best"] == "chow_liu"
    assert metrics["test"]["log_likelihood"] > baseline["chow_liu"]["log_likelihood"] + 0.05
    tree = baseline["chow_liu"]["log_likelihood"]
    assert tree > baseline["independent"]["log_likelihood"] + 0.3
    assert metrics["better"][1] > 0
    for table in answers.values():
        assert list(table) == list(answers["model"])
        np.testing.assert_array_equal(table["seen"], answers["model"]["seen"])
        states = [name for name in table if name.startswith(scenarios.STATE)]
        pd.testing.assert_frame_equal(table[states], answers["model"][states])
    assert "all 128 states are counted" in metrics["verdict"][0]


CARD = {"model": "hours", "dataset": "hours", "source": "local", "seed": 1, "budget": "smoke"}
CARD |= {"epoch": 1}


def _val(model: SavedModel, parts: dict[str, pd.DataFrame]) -> dict[str, float]:
    return model.score(model.answer(model.inputs(parts["val"])), parts["val"])


# --- raw rows -----------------------------------------------------------------------------------


def test_callers_see_the_probability_of_what_a_row_shows(model):
    rows = hours(20, 5, gaps=True)
    answers = model.predict(rows)
    assert list(answers) == ["hour", "probability", "log_probability", "seen", "warnings"]
    np.testing.assert_allclose(answers["probability"], np.exp(answers["log_probability"]))
    assert not answers["seen"].iloc[0], "a row with a gap has no state"
    assert (answers["warnings"] == "").all(), "a missing cell is nothing unusual"
    without = model.predict(rows.drop(columns=["hour", "note"]))
    assert list(without)[0] == "probability"


def test_scenarios_complete_the_empty_cells_with_exact_probabilities(model):
    rows = hours(3, 5)
    rows.loc[0, ["wind", "power"]] = None
    rows.loc[2, ["heat", "damp", "power"]] = np.nan
    answers = model.predict(rows, {"scenarios": 3000, "seed": 1})
    assert list(answers) == [
        *("hour", "row", "heat", "heat_bin", "damp", "damp_bin", "power", "power_bin", "wind"),
        *("draws", "probability", "log_probability", "warnings"),
    ]
    assert answers.index.tolist() == list(range(len(answers)))
    by_row = answers.groupby("row")
    assert by_row.size().to_dict()[2] == 1, "nothing is left to draw"
    assert by_row["draws"].sum().tolist() == [3000] * 3
    assert by_row.size().to_dict()[1] == 8
    first = answers[answers["row"] == 1]
    assert first["probability"].sum() == pytest.approx(1)
    np.testing.assert_allclose(first["draws"] / 3000, first["probability"], atol=0.03)
    assert first["probability"].is_monotonic_decreasing
    assert (first["hour"] == rows["hour"].iloc[0]).all()
    assert (first["heat"] == rows["heat"].iloc[0]).all(), "a known number stays as it is"
    likely = model.predict(rows.assign(power=first["power"].iloc[0], wind=first["wind"].iloc[0]))
    whole = model.predict(rows)
    ratio = likely["log_probability"].iloc[0] - whole["log_probability"].iloc[0]
    assert first["log_probability"].iloc[0] == pytest.approx(ratio, abs=1e-5)
    train = hours(gaps=True)
    for text, value in zip(answers["power_bin"], answers["power"], strict=True):
        ends = [
            float(end) for end in text.replace("below", "").replace("and above", "").split("to")
        ]
        low = -math.inf if text.startswith("below") else ends[0]
        high = math.inf if text.endswith("above") else ends[-1]
        assert low <= value <= high
    edges = model.net.edges[2] * model.encoder.numbers["power"].std
    assert float(edges[1]) + model.encoder.numbers["power"].mean == pytest.approx(
        train["power"].quantile(0.5), abs=0.2
    )


def test_the_same_seed_draws_the_same_and_a_row_does_not_depend_on_others(model):
    rows = hours(4, 5)
    rows["wind"] = None
    rows["damp"] = np.nan
    first = model.predict(rows, {"scenarios": 50, "seed": 3})
    pd.testing.assert_frame_equal(model.predict(rows, {"scenarios": 50, "seed": 3}), first)
    other = model.predict(rows, {"scenarios": 50, "seed": 4})
    assert not other["draws"].equals(first["draws"])
    head = model.predict(rows.head(2), {"scenarios": 50, "seed": 3})
    pd.testing.assert_frame_equal(head, first[first["row"] <= 2])


@cases.each(
    ("options", "message"),
    [
        ({"scenarios": -1}, "scenarios is -1; expected a whole number from 1 to 1,000,000"),
        ({"scenarios": 2.5}, "scenarios is 2.5; expected a whole number"),
        ({"scenarios": True}, "scenarios is True; expected a whole number"),
        ({"scenarios": 10, "seed": -1}, "seed is -1; expected a whole number from 0 to"),
        ({"scenarios": 10, "seed": 2**31}, "seed is 2147483648; expected a whole number"),
        ({"scenario": 10}, "unknown option `scenario`; this model takes scenarios, seed, details"),
    ],
)
def test_options_out_of_range_are_refused(model, options, message):
    with pytest.raises(UsageError, match=message.replace("(", "[(]")):
        model.predict(hours(2), options)


def test_unusual_cells_are_named_and_still_answered(model):
    rows = hours(4, 5)
    rows.loc[0, "heat"] = 1e5
    rows.loc[1, "wind"] = "storm"
    rows.loc[2, ["heat", "damp", "power", "wind"]] = None
    with pytest.warns(UserWarning) as caught:
        answers = model.predict(rows)
    assert len(caught) == 3
    texts = answers["warnings"].tolist()
    assert texts[0].startswith("`heat` is 100000, far from the")
    assert texts[1] == "`wind` has storm, which training did not have: read as an empty cell"
    assert texts[2] == "no cell is known"
    assert texts[3] == ""
    assert answers["probability"].iloc[2] == pytest.approx(1)
    with pytest.warns(UserWarning):
        drawn = model.predict(rows, {"scenarios": 20})
    assert drawn.groupby("row")["warnings"].first().tolist() == texts
    assert drawn.groupby("row")["warnings"].nunique().tolist() == [1] * 4
    assert (drawn[drawn["row"] == 1]["heat"] == 1e5).all()
    with pytest.raises(DataError, match="`damp`"):
        model.predict(rows.assign(damp="wet"))
    with pytest.raises(DataError, match="missing column damp"):
        model.predict(rows.drop(columns="damp"))


def test_a_column_of_one_level_and_a_row_without_any_cell_train():
    train = hours(60, gaps=True).assign(wind="weak")
    train.loc[3, ["heat", "damp", "power", "wind"]] = None
    model = fitted(train, steps=5)
    with pytest.warns(UserWarning, match="no cell is known"):
        answers = model.predict(train, {"scenarios": 5})
    assert set(answers["wind"]) == {"weak"}
    scores = model.score(model.answer(model.inputs(train)), train)
    assert all(math.isfinite(score) for score in scores.values())


def test_columns_named_like_those_of_an_answer_have_another_heading():
    train = hours(60).rename(columns={"wind": "probability"})
    columns = COLUMNS.model_copy(update={"categorical": ["probability"]})
    columns = scenarios.roles(columns, train)
    encoder = Encoder.fit(train, columns)
    net = saved_model.build("boltzmann", encoder.sizes, NET)
    assert isinstance(net, Boltzmann)
    net.initialise(encoder.encode(train))
    model = SavedModel({"task": "scenarios", "calibration": {}}, net.eval(), encoder)
    answers = model.predict(train.head(2).assign(probability=None), {"scenarios": 9})
    assert set(answers["column_probability"]) <= {"strong", "weak"}
    assert answers["probability"].dtype.kind == "f"


# --- figures ------------------------------------------------------------------------------------


def test_figures_show_couplings_and_what_was_never_seen(model, parts, tmp_path):
    answers = model.answer(model.inputs(parts["test"]))
    tree = model.fit_baseline(baselines.chow_liu, parts)(model.inputs(parts["test"]))
    drawn = plugins.call(
        plugins.task("scenarios").figures.figures,
        answers,
        parts["test"],
        model.encoder.columns,
        {"chow_liu": tree},
        model=model,
        train=parts["train"],
    )
    assert list(drawn) == ["couplings", "strengths", "marginals", "pairs", "unseen", "rare"]
    coupled = couplings(model.net, model.encoder)
    assert (coupled[0].first, coupled[0].second, coupled[0].sign) == ("heat", "power", -1)
    rare = drawn["rare"].rows
    assert list(rare)[:4] == ["heat", "damp", "power", "wind"]
    assert rare["probability"].is_monotonic_decreasing
    assert b"heat and power" in svgs.svg(drawn["couplings"], tmp_path)
