"""Permutation importance: what it has to be on paper, and the surest mistakes, told by the columns that matter most."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sextant import saved_model
from sextant.drawing import Table
from sextant.kinds.tabular.columns import Columns
from sextant.kinds.tabular.encoder import Encoder
from sextant.tasks.classification import figures
from sextant.tasks.classification.baselines import logistic_regression
from sextant.tasks.classification.figures import importance

COLUMNS = Columns(
    names=None, delimiter=",", unknown=None, key="id", target="left", ignored=["name"],
    numeric=["age", "noise", "constant"], categorical=["land"],
)  # fmt: skip


def table(rows: int = 997, seed: int = 3) -> pd.DataFrame:
    """`age` alone tells who left."""
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 9, rows)
    return pd.DataFrame(
        {
            "id": range(rows),
            "name": "nobody",
            "age": age,
            "noise": rng.normal(0, 1e4, rows),
            "constant": 7.0,
            "land": rng.choice(["here", "there"], rows),
            "left": (age + rng.normal(0, 4, rows) > 45).astype(int),
        }
    )


def error(answers: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    return (answers["said"].to_numpy() - rows["truth"].to_numpy()) ** 2


def log_loss(answers: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    p = answers["probability"].to_numpy()
    return -np.log(np.where(rows["left"] == 1, p, 1 - p))


@pytest.fixture(scope="module")
def logistic() -> Any:
    """Answers by logistic regression on a table of which one column tells something."""
    train = table()
    return logistic_regression(train, COLUMNS, Encoder.fit(train, COLUMNS))


def test_a_shuffled_column_costs_what_all_pairs_of_rows_cost_on_average():
    """Fisher, Rudin and Dominici 2019: the mean over permutations is the mean over pairs, here of a known answer."""
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"given": rng.normal(size=53), "other": rng.normal(size=53)})
    rows["truth"] = rows["given"] + 0.1 * rng.normal(size=53)
    rises = importance(
        lambda asked: asked[["given"]].set_axis(["said"], axis=1),
        rows,
        ["given", "other"],
        error,
        100,
    )
    pairs = (rows["given"].to_numpy()[:, None] - rows["truth"].to_numpy()) ** 2
    assert rises["given"].mean() == pytest.approx(pairs.mean() - np.diag(pairs).mean(), rel=0.05)
    assert rises.shape == (100, 2) and (rises["other"] == 0).all()


def test_the_one_column_that_tells_comes_first_and_the_others_are_worth_nothing(logistic):
    rises = importance(logistic, table(seed=4), COLUMNS.features, log_loss)
    assert rises.columns[0] == "age" and rises["age"].min() > 0.3
    assert (rises["constant"] == 0).all() and rises[["noise", "land"]].abs().max(axis=None) < 0.05


def test_the_same_rows_give_the_same_and_are_left_as_they_were(logistic):
    rows = table(seed=4)
    before = rows.copy()
    first = importance(logistic, rows, COLUMNS.features, log_loss)
    assert importance(logistic, rows, COLUMNS.features, log_loss).equals(first) and rows.equals(
        before
    )
    assert importance(logistic, rows, COLUMNS.features, log_loss, repeats=1)["age"].tolist() == [
        first["age"].iloc[0]
    ]


@pytest.mark.parametrize("columns", [1, 4, 101])
def test_it_asks_no_more_than_it_may(columns):
    """Whatever the table: ANSWERS_PER_REPEAT answers in a repeat, or LEAST_ROWS rows of each column."""
    asked: list[int] = []
    rows = pd.DataFrame(
        np.zeros((9001, columns)), columns=[f"c{i}" for i in range(columns)]
    ).assign(truth=0.0)

    def answer(questions: pd.DataFrame) -> pd.DataFrame:
        asked.append(len(questions))
        return questions[["c0"]].set_axis(["said"], axis=1)

    importance(answer, rows, list(rows)[:-1], error, repeats=1)
    assert len(asked) == columns + 1 and len(set(asked)) == 1
    assert asked[0] >= figures.LEAST_ROWS and sum(asked[1:]) <= max(
        figures.ANSWERS_PER_REPEAT, columns * figures.LEAST_ROWS
    )


def test_the_figure_has_a_bar_a_column_with_its_spread_and_says_them():
    rises = pd.DataFrame({"a column of a long, long name": [0.3, 0.5], "b": [0.0, -0.02]})
    figure = figures.importance_figure(rises, "log loss")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.containers[0]] == pytest.approx([0.4, -0.01])
    (spread,) = axes.collections
    assert [line[:, 0].tolist() for line in spread.get_segments()] == [[0.3, 0.5], [-0.02, 0.0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "a column of a long, lon…",
        "b",
    ]
    told = [place.get_gid() for place in axes.patches if place.get_gid()]
    assert told[1] == "told:b: log loss -0.0100; 2 repeats from -0.0200 to +0.0000"
    many = figures.importance_figure(pd.DataFrame([range(23)]), "log loss")
    assert (
        len(many.axes[0].containers[0]) == 20
        and "Only the 20 most important of 23 columns are drawn." in many.get_label()
    )


# --- the surest mistakes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mistakes(logistic) -> tuple[Table, pd.DataFrame, pd.DataFrame]:
    """The table, the answers and the rows."""
    rows = table(seed=4)
    answers = logistic(rows)
    model = SimpleNamespace(answer=logistic, net=torch.nn.Identity())
    return (
        figures.figures(answers, rows, COLUMNS, {}, model)["mistakes"],
        answers,
        rows,
    )


def test_the_surest_mistakes_are_those_and_in_that_order(mistakes):
    found, answers, rows = mistakes
    sure = np.maximum(answers["probability"], 1 - answers["probability"])
    wrong = answers["prediction"] != rows["left"]
    assert found.rows["probability"].tolist() == sure[wrong].nlargest(10).round(3).tolist()
    assert (found.rows["true left"] != found.rows["predicted"]).all()
    assert found.caption.startswith(f"{wrong.sum()} of 997 test rows are predicted wrongly. ")
    assert "These are the 10 with the highest probability" in found.caption
    ages = rows.loc[sure[wrong].nlargest(10).index, "age"]
    assert found.rows["age"].tolist() == pytest.approx(ages.tolist(), abs=0.006)


def test_their_columns_are_features_the_most_telling_first_and_can_be_read(mistakes):
    found, _, _ = mistakes
    assert list(found.rows)[:4] == ["true left", "predicted", "probability", "age"]
    assert set(list(found.rows)[3:]) == set(COLUMNS.features)
    told = json.loads(json.dumps(found.record()))
    first = dict(zip(told["columns"], told["data"][0], strict=True))
    assert isinstance(first["noise"], int) and first["land"] in ("here", "there")
    assert all(len(str(value)) <= 7 for row in told["data"] for value in row)


def test_of_a_wide_table_few_columns_are_shown():
    names = [f"c{i}" for i in range(11)]
    columns = SimpleNamespace(target="left", features=names)
    rows = pd.DataFrame(np.ones((7, 11)), columns=names).assign(left=[0, 1, 0, 1, 0, 1, 0])
    always = pd.DataFrame({"prediction": [1] * 7, "probability": [0.75] * 7})
    model = SimpleNamespace(answer=lambda rows: always[: len(rows)], net=torch.nn.Identity())
    found = figures.figures(always, rows, columns, {}, model)["mistakes"].rows
    assert found.shape == (4, 9) and found["true left"].tolist() == [0] * 4
    right = always.assign(prediction=rows["left"])
    assert "mistakes" not in figures.figures(right, rows, columns, {}, model)


@pytest.mark.parametrize(
    ("values", "legible"),
    [
        ([1234.5, 91234.5, 551.25], [1234, 91234, 551]),
        ([0.12345, 0.5, 0.99999], [0.123, 0.5, 1.0]),
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0]),
        ([1, 2, 3], [1, 2, 3]),
        (["a", "b", "a"], ["a", "b", "a"]),
    ],
)
def test_numbers_are_as_long_as_their_spread_asks(values, legible):
    assert figures._legible(pd.Series(values)).tolist() == legible


@pytest.mark.parametrize("classes", [[0, 1], ["ant", "bee", "cow"]], ids=["two", "three"])
def test_a_saved_model_of_a_table_is_shown_with_its_importance(classes):
    rows = table(101).assign(left=lambda rows: [classes[i % len(classes)] for i in rows["id"]])
    encoder = Encoder.fit(rows, COLUMNS)
    torch.manual_seed(0)
    size = {
        "bins": 3,
        "embedding_size": 2,
        "hidden_sizes": [5],
        "dropout": 0.0,
        "bodies": 1,
        "members": 2,
    }
    card = {"task": "classification", "calibration": {"temperature": 1.0}}
    model = saved_model.SavedModel(card, saved_model.build("ann", encoder.sizes, size), encoder)
    found = figures.figures(model.answer(rows), rows, COLUMNS, {}, model=model, train=rows)
    assert list(found) == ["roc", "calibration", "confusion", "importance", "mistakes"]
    assert len(found["importance"].axes[0].containers[0]) == len(COLUMNS.features)
