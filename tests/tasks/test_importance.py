"""Permutation importance against its definition, and the table of the most confident mistakes."""

import json
from types import SimpleNamespace

import cases
import numpy as np
import pandas as pd
import pytest
import torch
from builders import table_columns

from sextant import saved_model
from sextant.drawing import TOOLTIP, Table
from sextant.importance import ANSWERS_PER_REPEAT, LEAST_ROWS, importance, importance_figure
from sextant.kinds.tabular.encoder import Encoder
from sextant.tasks.classification import figures
from sextant.tasks.classification.baselines import logistic_regression

COLUMNS = table_columns(
    target="left",
    numeric=["age", "noise", "constant"],
    categorical=["land"],
    key="id",
    ignored=["name"],
)


def table(rows: int = 997, seed: int = 3) -> pd.DataFrame:
    """A table in which `left` depends on `age` alone."""
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 9, rows)
    return pd.DataFrame(
        {
            "id": range(rows),
            "name": "Smith",
            "age": age,
            "noise": rng.normal(0, 1e4, rows),
            "constant": 7.0,
            "land": rng.choice(["north", "south"], rows),
            "left": (age + rng.normal(0, 4, rows) > 45).astype(int),
        }
    )


def squared_error(answers: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    return (answers["value"].to_numpy() - rows["truth"].to_numpy()) ** 2


def log_loss(answers: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    p = answers["probability"].to_numpy()
    return -np.log(np.where(rows["left"] == 1, p, 1 - p))


@pytest.fixture(scope="module")
def logistic():
    """The answers of logistic regression."""
    train = table()
    return logistic_regression(train, COLUMNS, Encoder.fit(train, COLUMNS))


def test_shuffling_costs_on_average_what_all_pairs_of_rows_cost():
    """Fisher, Rudin and Dominici 2019: the mean over permutations is that over pairs of rows."""
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"x": rng.normal(size=53), "noise": rng.normal(size=53)})
    rows["truth"] = rows["x"] + 0.1 * rng.normal(size=53)

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"value": rows["x"]})

    rises = importance(answer, rows, ["x", "noise"], squared_error, 100)
    pairs = (rows["x"].to_numpy()[:, None] - rows["truth"].to_numpy()) ** 2
    assert rises["x"].mean() == pytest.approx(pairs.mean() - np.diag(pairs).mean(), rel=0.05)
    assert rises.shape == (100, 2)
    assert (rises["noise"] == 0).all()


def test_the_informative_column_comes_first_and_the_others_are_near_0(logistic):
    rises = importance(logistic, table(seed=4), COLUMNS.features, log_loss)
    assert rises.columns[0] == "age"
    assert rises["age"].min() > 0.3
    assert (rises["constant"] == 0).all()
    assert rises[["noise", "land"]].abs().max(axis=None) < 0.05


def test_importance_is_repeatable_and_leaves_the_rows_unchanged(logistic):
    rows = table(seed=4)
    before = rows.copy()
    first = importance(logistic, rows, COLUMNS.features, log_loss)
    second = importance(logistic, rows, COLUMNS.features, log_loss)
    assert second.equals(first)
    assert rows.equals(before)
    single = importance(logistic, rows, COLUMNS.features, log_loss, repeats=1)
    assert single["age"].tolist() == [first["age"].iloc[0]]


@pytest.mark.parametrize("columns", [1, 4, 101])
def test_a_repeat_answers_no_more_rows_than_its_limit(columns):
    """ANSWERS_PER_REPEAT over all columns, or LEAST_ROWS of each in a wide table."""
    sizes: list[int] = []
    names = [f"c{i}" for i in range(columns)]
    rows = pd.DataFrame(np.zeros((9001, columns)), columns=names).assign(truth=0.0)

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        sizes.append(len(rows))
        return pd.DataFrame({"value": rows["c0"]})

    importance(answer, rows, names, squared_error, repeats=1)
    assert len(sizes) == columns + 1  # once unshuffled
    assert len(set(sizes)) == 1
    assert sizes[0] >= LEAST_ROWS
    assert sum(sizes[1:]) <= max(ANSWERS_PER_REPEAT, columns * LEAST_ROWS)


def test_the_figure_has_a_bar_with_its_range_and_a_tooltip_per_column():
    rises = pd.DataFrame({"a column of a long, long name": [0.3, 0.5], "b": [0.0, -0.02]})
    (axes,) = importance_figure(rises, "log loss").axes
    assert [bar.get_width() for bar in axes.containers[0]] == pytest.approx([0.4, -0.01])
    (ranges,) = axes.collections
    ends = [line[:, 0].tolist() for line in ranges.get_segments()]
    assert ends == [[0.3, 0.5], [-0.02, 0.0]]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["a column of a long, lon…", "b"]
    tooltips = [patch.get_gid() for patch in axes.patches if patch.get_gid()]
    assert tooltips[1] == f"{TOOLTIP}b: log loss -0.0100; 2 repeats from -0.0200 to +0.0000"


def test_the_figure_of_a_wide_table_has_the_most_important_columns():
    figure = importance_figure(pd.DataFrame([range(23)]), "log loss")
    assert len(figure.axes[0].containers[0]) == 20
    assert "Only the 20 most important of 23 columns are drawn." in figure.get_label()


# --- the most confident mistakes ----------------------------------------------------------------


@pytest.fixture(scope="module")
def mistakes(logistic) -> tuple[Table, pd.DataFrame, pd.DataFrame]:
    """The table, the answers and the rows."""
    rows = table(seed=4)
    answers = logistic(rows)
    model = SimpleNamespace(card={}, answer=logistic, net=torch.nn.Identity())
    drawn = figures.figures(answers, rows, COLUMNS, {}, model)
    return drawn["mistakes"], answers, rows


def test_the_table_lists_the_wrong_rows_of_highest_probability_in_order(mistakes):
    table, answers, rows = mistakes
    confidence = np.maximum(answers["probability"], 1 - answers["probability"])
    wrong = answers["prediction"] != rows["left"]
    surest = confidence[wrong].nlargest(10)
    assert table.rows["probability"].tolist() == surest.round(3).tolist()
    assert (table.rows["true left"] != table.rows["predicted"]).all()
    assert table.caption.startswith(f"{wrong.sum()} of 997 test rows are predicted wrongly. ")
    assert "These are the 10 with the highest probability" in table.caption
    ages = rows.loc[surest.index, "age"]
    assert table.rows["age"].tolist() == pytest.approx(ages.tolist(), abs=0.006)


def test_the_table_shows_the_most_important_features_as_readable_json(mistakes):
    table, _, _ = mistakes
    assert list(table.rows)[:4] == ["true left", "predicted", "probability", "age"]
    assert set(list(table.rows)[3:]) == set(COLUMNS.features)
    record = json.loads(json.dumps(table.record()))
    assert list(record) == ["title", "says", "columns", "data"]
    first = dict(zip(record["columns"], record["data"][0], strict=True))
    assert isinstance(first["noise"], int)
    assert first["land"] in ("north", "south")
    for row in record["data"]:
        assert all(len(str(value)) <= 7 for value in row)


def test_of_a_wide_table_few_columns_are_listed():
    names = [f"c{i}" for i in range(11)]
    columns = table_columns(target="left", numeric=names)
    rows = pd.DataFrame(np.ones((7, 11)), columns=names).assign(left=[0, 1, 0, 1, 0, 1, 0])
    answers = pd.DataFrame({"prediction": [1] * 7, "probability": [0.75] * 7})
    model = SimpleNamespace(
        card={}, answer=lambda rows: answers[: len(rows)], net=torch.nn.Identity()
    )
    table = figures.figures(answers, rows, columns, {}, model)["mistakes"].rows
    assert table.shape == (4, 9)
    assert table["true left"].tolist() == [0] * 4
    right = answers.assign(prediction=rows["left"])
    assert "mistakes" not in figures.figures(right, rows, columns, {}, model)


@cases.each(
    ("values", "legible"),
    [
        ([1234.5, 91234.5, 551.25], [1234, 91234, 551]),
        ([0.12345, 0.5, 0.99999], [0.123, 0.5, 1.0]),
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0]),
        ([1, 2, 3], [1, 2, 3]),
        (["a", "b", "a"], ["a", "b", "a"]),
    ],
)
def test_floats_are_rounded_by_their_standard_deviation(values, legible):
    assert figures._legible(pd.Series(values)).tolist() == legible


@pytest.mark.parametrize(
    "classes",
    [pytest.param([0, 1], marks=pytest.mark.slow), ["ant", "bee", "cow"]],
    ids=["two", "three"],
)
def test_the_figures_of_a_saved_model_of_a_table_include_its_importance(classes):
    rows = table(101)
    rows["left"] = [str(classes[i % len(classes)]) for i in rows["id"]]
    encoder = Encoder.fit(rows, COLUMNS)
    torch.manual_seed(0)
    arguments = {
        "bins": 3,
        "embedding_size": 2,
        "hidden_sizes": [5],
        "dropout": 0.0,
        "bodies": 1,
        "members": 2,
    }
    net = saved_model.build("ann", encoder.sizes, arguments)
    card = {"task": "classification", "calibration": {"temperature": 1.0}}
    model = saved_model.SavedModel(card, net, encoder)
    drawn = figures.figures(model.answer(rows), rows, COLUMNS, {}, model=model, train=rows)
    assert list(drawn) == ["roc", "calibration", "confusion", "importance", "mistakes"]
    assert len(drawn["importance"].axes[0].containers[0]) == len(COLUMNS.features)
