"""What is unusual about input rows, as texts for whoever asked."""

import cases
import numpy as np
import pandas as pd
from builders import ANIMAL_COLUMNS, animal_table, picture_columns, with_gaps

from sextant.kinds.images.encoder import Encoder as PictureEncoder
from sextant.kinds.remarks import Remarks, summary
from sextant.kinds.tabular.encoder import Encoder

# --- texts --------------------------------------------------------------------------------------


def test_remarks_on_a_row_are_one_text_and_other_rows_have_none() -> None:
    remarks = Remarks(4)
    remarks.add(2, "a")
    remarks.add_where(np.array([True, False, True, False]), "b")
    assert remarks.texts() == ["b", "", "a; b", ""]


def test_a_summary_has_each_text_once_and_five_at_most() -> None:
    assert summary(["", "", ""]) == []
    assert summary(["a", "", "b", "a"]) == ["a (2 answers)", "b"]
    many = [f"{number}" for number in range(9)]
    further = "4 further answers have warnings, see their column `warnings`"
    assert summary(many) == ["0", "1", "2", "3", "4", further]


# --- a table ------------------------------------------------------------------------------------


def remarks_on(train: pd.DataFrame, **cells: object) -> str:
    """The remarks on a usual row of animals with other values in some cells."""
    encoder = Encoder.fit(train, ANIMAL_COLUMNS)
    rows = animal_table(3).astype(dict.fromkeys(cells, object))
    for name, value in cells.items():
        rows.loc[1, name] = value
    checked = encoder.check(rows)
    before, text, after = encoder.remarks(checked, checked)
    assert before == after == ""
    return text


@cases.each(
    ("weight", "is_far"), [(4000, True), (-17, True), (-15, False), (152, False), (153, True)]
)
def test_a_number_is_far_if_it_is_outside_of_the_range_by_more_than_its_span(
    weight: float, is_far: bool
) -> None:
    train = animal_table().assign(weight=np.linspace(40, 96, 211))
    text = f"`weight` is {weight}, far from the 40 to 96 of training"
    assert remarks_on(train, weight=weight) == (text if is_far else "")


def test_a_number_that_never_varied_is_far_as_soon_as_it_does() -> None:
    encoder = Encoder.fit(animal_table().assign(weight=50.0), ANIMAL_COLUMNS)
    rows = encoder.check(animal_table(2).assign(weight=[50.0, 50.5]))
    far = "`weight` is 50.5, far from the 50 to 50 of training"
    assert encoder.remarks(rows, rows) == ["", far]


def test_an_unseen_category_is_named_and_every_remark_on_a_row_is_there() -> None:
    unseen = "`colour` has mauve, which training did not have"
    far = "`weight` is 4000, far from the 40 to 96 of training"
    assert remarks_on(animal_table(), colour="mauve") == unseen
    assert remarks_on(animal_table(), colour="mauve", weight=4000) == f"{far}; {unseen}"


def test_a_missing_value_where_training_had_some_is_usual() -> None:
    assert remarks_on(with_gaps(animal_table()), height=None, colour=None) == ""


def test_a_missing_value_where_training_had_none_is_remarked_on() -> None:
    encoder = Encoder.fit(animal_table(), ANIMAL_COLUMNS)
    rows = encoder.check(animal_table(1)).assign(height=np.nan, colour=None)
    median = animal_table()["height"].median()
    assert encoder.remarks(rows, rows) == [
        "`height` is missing, and never was in training: read as the median of training,"
        f" {median:.10g}; `colour` is missing, and never was in training: read as a category that"
        " training did not have"
    ]


# --- pictures -----------------------------------------------------------------------------------


def test_a_picture_of_one_colour_is_remarked_on() -> None:
    encoder = PictureEncoder(picture_columns(), ["cats", "dogs"], [0.5] * 3, [0.2] * 3)
    plain = np.full((11, 11, 3), (1, 2, 3), np.uint8)
    spotted = plain.copy()
    spotted[5, 5, 1] = 7
    rows = pd.DataFrame({"image": pd.Series([plain, spotted])})
    assert encoder.remarks(rows, rows) == ["the picture has one colour", ""]
