"""Countries in a table: their names, a name of none, one named twice, and what prepare says."""

import cases
import numpy as np
import pandas as pd
import pytest
from builders import table_columns

from sextant import strict
from sextant.errors import DataError, UsageError
from sextant.kinds.tabular import rows as tabular_rows
from sextant.kinds.tabular.columns import Columns
from sextant.kinds.tabular.encoder import Encoder
from sextant.kinds.tabular.rows.countries import codes, countries
from sextant.kinds.tabular.twin import Twin, write_twin

PLACED = table_columns(target=None, numeric=["x"], key="land").model_copy(update={"place": "land"})


def parts_of(names: list[object], columns: Columns = PLACED) -> dict[str, pd.DataFrame]:
    """Parts of a table with these names, in turn."""
    table = pd.DataFrame({"land": names, "x": np.arange(len(names), dtype=float)})
    return {part: table[i::4] for i, part in enumerate(("train", "val", "gate", "test"))}


# --- names --------------------------------------------------------------------------------------


@cases.each(
    "code, names",
    [
        ("152", ["Chile", " chile ", "CL", "CHL", "Republic of Chile", "152", 152]),
        ("384", ["Côte d'Ivoire", "Ivory Coast"]),
        ("410", ["South Korea", "Korea, Rep.", "Republic of Korea"]),
        ("180", ["Dem. Rep. Congo", "DR Congo", "Congo, Dem. Rep."]),
        ("516", ["Namibia", "NA"]),
        ("004", ["Afghanistan"]),
        (None, ["Atlantis", "Africa", "European Union", "Total", "", None, float("nan"), 9999]),
    ],
)
def test_a_name_or_a_code_is_matched_and_what_is_no_country_is_not(code, names):
    assert codes(names) == [code] * len(names)


def test_names_are_sorted_by_country_and_unknown_ones_listed_once():
    named = countries(["Peru", "Atlantis", "Ivory Coast", None, "Atlantis", "Côte d'Ivoire"])
    assert named.names == {"604": ["Peru"], "384": ["Ivory Coast", "Côte d'Ivoire"]}
    assert named.unknown == ["Atlantis"]
    assert named.repeated == {"384": ["Ivory Coast", "Côte d'Ivoire"]}
    assert codes([]) == [] and countries([None]).names == {}


# --- the column ---------------------------------------------------------------------------------


def columns_of(**values: object) -> Columns:
    return strict.check(Columns, {"numeric": ["x"], **values}, "columns")


def test_the_column_of_places_needs_no_other_role_and_is_kept():
    assert PLACED.place_column == "land" and PLACED.all == ["land", "x"]
    further = columns_of(place="nation", key="id")
    assert further.place_column == "nation" and further.all == ["id", "x", "nation"]
    assert further.features == ["x"]
    raw = pd.DataFrame({"id": ["a", "b"], "nation": ["Peru", "Chile"], "x": ["1", "2"]})
    assert tabular_rows.repair(raw, further)["nation"].tolist() == ["Peru", "Chile"]
    with_pattern = columns_of(place="nation", numeric=[], categorical=["n*"])
    assert with_pattern.resolved(["nation", "name", "x"]).categorical == ["name"]


def test_country_is_the_column_of_that_name_or_else_the_key():
    assert columns_of(place="country", key="state").place_column == "state"
    assert columns_of(place="country").place_column == "country"
    assert columns_of(place="country", key="id", ignored=["country"]).place_column == "country"
    assert columns_of(key="country").place_column is None


def test_a_column_of_places_that_the_file_lacks_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("id,x\n1,2\n")
    with pytest.raises(DataError, match="lacks column nation"):
        tabular_rows.read(tmp_path, columns_of(place="nation"))
    with pytest.raises(UsageError, match="`nation` is not among `names`"):
        columns_of(place="nation", names=["x", "y"])


def test_the_encoder_gives_the_code_of_each_row():
    rows = pd.DataFrame({"land": ["Peru", "Atlantis"], "x": [1.0, 2.0]})
    assert Encoder.fit(rows, PLACED).countries(rows) == ["604", None]
    without = table_columns(target=None, numeric=["x"])
    assert Encoder.fit(rows, without).countries(rows) == [None, None]


# --- what prepare says --------------------------------------------------------------------------


def test_prepare_lists_names_of_no_country_and_countries_with_several_rows():
    parts = parts_of(["Peru", "Atlantis", "Ivory Coast", "Côte d'Ivoire", "Chile", "Peru", "Thule"])
    assert tabular_rows.remarks(parts, PLACED) == [
        "names in `land` that are no country's, which the map of the world lacks: Atlantis, Thule",
        "countries in `land` with several rows, which the map of the world shows where most of them"
        " lie: Peru, Ivory Coast and Côte d'Ivoire",
    ]
    assert tabular_rows.profile(parts, PLACED)["places"] == {
        "column": "land",
        "countries": 3,
        "unknown": ["Atlantis", "Thule"],
        "repeated": {"604": ["Peru", "Peru"], "384": ["Ivory Coast", "Côte d'Ivoire"]},
    }


def test_a_table_without_places_or_with_none_to_mention_has_no_line():
    parts = parts_of(["Peru", "Chile", "Mali", "Chad"])
    assert tabular_rows.remarks(parts, PLACED) == []
    unplaced = PLACED.model_copy(update={"place": None})
    assert "places" not in tabular_rows.profile(parts, unplaced)


def test_a_column_without_any_country_is_refused():
    parts = parts_of(["Atlantis", "Thule", "Lemuria", None])
    message = "no row of `land` names a country; found Atlantis, Thule, Lemuria; correct `place`"
    with pytest.raises(DataError, match=message):
        tabular_rows.check_parts(parts, PLACED)


# --- the twin -----------------------------------------------------------------------------------

TWIN = {
    "file": "t.csv",
    "rows": 3,
    "seed": 1,
    "draws": {"land": {"draw": "listed", "names": ["Peru", "Chile", "Mali"]}},
    "groups": None,
    "signal": [],
}


def test_a_twin_draws_each_of_the_listed_names_once_and_needs_no_target(tmp_path):
    columns = table_columns(target=None, categorical=["land"])
    write_twin(strict.check(Twin, TWIN, "twin"), columns, tmp_path)
    lines = (tmp_path / "t.csv").read_text().split()
    assert lines[0] == "land" and sorted(lines[1:]) == ["Chile", "Mali", "Peru"]
    with pytest.raises(UsageError, match="the twin has no target `y`"):
        with_target = table_columns(target="y", categorical=["land"])
        write_twin(strict.check(Twin, TWIN, "twin"), with_target, tmp_path)
    with pytest.raises(UsageError, match="`land` has 3 names for 4 rows"):
        strict.check(Twin, {**TWIN, "rows": 4}, "twin")
