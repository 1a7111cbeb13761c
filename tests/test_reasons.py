"""Why this answer: the shares of the columns, by a model whose reasons are known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from builders import ANIMAL_COLUMNS, UNTRAINED_CARD, animal_table, table_columns, untrained_model
from torch import nn

from sextant.errors import UsageError
from sextant.kinds.tabular.encoder import Encoder
from sextant.reasons import as_columns
from sextant.saved_model import SavedModel

CALIBRATION = {"temperature": 1.0}
# What the planted net adds to the logit of `dog`: by standard deviations of the height, and for a
# green animal. Weight and shoes move nothing.
BY_HEIGHT = 0.5
IF_GREEN = 2.0


class Planted(nn.Module):
    """A net whose reasons are known."""

    def __init__(self, green: int) -> None:
        super().__init__()
        self.green = green

    def predict(self, batch: Any) -> dict[str, torch.Tensor]:
        is_green = batch.categories[:, 0] == self.green
        logit = BY_HEIGHT * batch.numeric[:, 0] + IF_GREEN * is_green
        return {"logits": torch.stack([torch.zeros_like(logit), logit], 1)}


@pytest.fixture(scope="module")
def planted() -> SavedModel:
    table = animal_table()
    table["colour"] = np.where(np.arange(len(table)) % 3 == 0, "green", "red")
    encoder = Encoder.fit(table, ANIMAL_COLUMNS)
    net: Any = Planted(green=1 + encoder.levels["colour"].index("green"))
    return SavedModel({**UNTRAINED_CARD, "calibration": CALIBRATION}, net, encoder)


def sigmoid(logit: float) -> float:
    return 1 / (1 + float(np.exp(-logit)))


def test_the_planted_reasons_come_with_their_shares(planted: SavedModel) -> None:
    statistics = planted.encoder.numbers["height"]  # type: ignore[attr-defined]
    tall = statistics.median + 3 * statistics.std
    rows = animal_table(3).drop(columns="class").assign(height=tall, colour=["green", "red", "red"])
    rows.loc[2, "height"] = statistics.median
    answers = planted.predict(rows, {"explain": True})
    assert list(answers) == [
        "id", "prediction", "probability", "positive", "because_1", "share_1", "because_2",
        "share_2", "because_3", "share_3", "warnings",
    ]  # fmt: skip
    at_median = BY_HEIGHT * (statistics.median - statistics.mean) / statistics.std
    logit = at_median + 3 * BY_HEIGHT
    whole = sigmoid(logit + IF_GREEN)
    of_colour = whole - sigmoid(logit)
    of_height = whole - sigmoid(at_median + IF_GREEN)
    first = answers.iloc[0]
    both = sorted([(of_colour, "colour"), (of_height, "height")], reverse=True)
    assert [first["because_1"], first["because_2"], first["because_3"]] == [
        both[0][1], both[1][1], "",
    ]  # fmt: skip
    total = of_colour + of_height
    assert first["share_1"] == pytest.approx(both[0][0] / total, rel=1e-4)
    assert first["share_2"] == pytest.approx(both[1][0] / total, rel=1e-4)
    # Red is the most frequent colour, and says nothing.
    assert answers.loc[1, ["because_1", "because_2"]].tolist() == ["height", ""]
    assert answers.loc[1, "share_1"] == 1 and answers.loc[1, "share_2"] == 0
    assert answers.loc[2, ["because_1", "share_1"]].tolist() == ["", 0.0]


def test_a_column_that_speaks_against_the_answer_has_a_negative_share(planted: SavedModel) -> None:
    statistics = planted.encoder.numbers["height"]  # type: ignore[attr-defined]
    short = statistics.mean - 2 * statistics.std
    rows = animal_table(1).assign(height=short, colour="green")  # -1 + 2: still a dog
    (answer,) = planted.predict(rows, {"explain": True}).to_dict(orient="records")
    assert answer["prediction"] == "dog"
    shares = {answer[f"because_{rank}"]: answer[f"share_{rank}"] for rank in (1, 2)}
    assert shares["colour"] > 0 > shares["height"]
    assert shares["colour"] - shares["height"] == pytest.approx(1)


def test_answers_are_the_same_with_and_without_reasons() -> None:
    model = untrained_model()
    rows = animal_table(50)
    plain = model.predict(rows)
    explained = model.predict(rows, {"explain": True, "all_classes": True})
    pd.testing.assert_frame_equal(explained[list(plain)], plain)
    shares = explained[["share_1", "share_2", "share_3"]].abs()
    assert (shares.sum(axis=1) <= 1 + 1e-9).all()
    assert (shares["share_1"] >= shares["share_2"]).all()
    together = model.predict_requests(rows, [20, 30], {"explain": True})
    apart = [model.predict(part, {"explain": True}) for part in (rows[:20], rows[20:])]
    pd.testing.assert_frame_equal(together, pd.concat(apart, ignore_index=True))


def test_a_model_of_earlier_code_does_not_explain() -> None:
    model = untrained_model()
    state = model.encoder.state()
    assert state["usual"] == {"colour": state["usual"]["colour"], "shoes": state["usual"]["shoes"]}
    del state["usual"]
    earlier = SavedModel(model.card, model.net, Encoder.from_state(state, ANIMAL_COLUMNS))
    assert "explain" not in earlier.flags
    with pytest.raises(UsageError, match="unknown option `explain`"):
        earlier.predict(animal_table(2), {"explain": True})


def test_the_usual_value_of_a_column() -> None:
    rows = pd.DataFrame(
        {
            "x": [1.0, 2.0, 9.0, None],
            "often": ["b", "a", "b", "a"],
            "gone": [None, None, "a", "b"],
            "class": ["cat", "dog", "cat", "dog"],
        }
    )
    columns = table_columns("class", ["x"], ["often", "gone"])
    encoder = Encoder.fit(rows, columns)
    assert encoder.typical == {"x": 2.0, "often": "a", "gone": None}
    with_gaps = Encoder.fit(rows, columns.model_copy(update={"gaps": True}))
    typical = with_gaps.typical
    assert typical is not None and np.isnan(typical.pop("x")) and set(typical.values()) == {None}


def test_no_effect_at_all_names_no_column() -> None:
    shown = as_columns(np.array([[0.0, 0.0], [0.0, -2.0]]), ["a", "b"])
    assert shown.to_dict(orient="records") == [
        {"because_1": "", "share_1": 0.0, "because_2": "", "share_2": 0.0},
        {"because_1": "b", "share_1": -1.0, "because_2": "", "share_2": 0.0},
    ]
