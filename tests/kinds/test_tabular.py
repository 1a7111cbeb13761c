"""Tables: read, repaired, split, encoded; their twins; the quirks of the bank's table."""

import itertools
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cases
import listed
import numpy as np
import pandas as pd
import pytest
import torch
import twins
from builders import ANIMAL_COLUMNS, MIRROR, animal_table, hash_split, table_columns, with_gaps
from conftest import ROOT, load_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant import plugins
from sextant.errors import DataError, UsageError
from sextant.files import sha256
from sextant.kinds.parts import PARTS
from sextant.kinds.splits import HashSplit
from sextant.kinds.tabular import rows as tabular_rows
from sextant.kinds.tabular.columns import Columns
from sextant.kinds.tabular.encoder import FARTHEST, UNSEEN, Batch, Encoder, MeasuredBatch
from sextant.kinds.tabular.twin import Choice, Normal, Twin, Uniform, write_twin
from sextant.kinds.tabular.twin import _rows as twin_rows
from sextant.strict import check

TABLES = {}
for dataset, kind in listed.DATASETS.items():
    if kind == "tabular":
        TABLES[dataset] = load_yaml((ROOT / f"conf/dataset/{dataset}.yaml").read_text())
TWINS = [dataset for dataset, conf in TABLES.items() if conf["twin"] is not None]
MODELS = listed.MODELS.values()
CLASSIFIED = {model["dataset"] for model in MODELS if model["task"] == "classification"}

COLUMNS = ANIMAL_COLUMNS
KEYLESS = COLUMNS.model_copy(update={"key": None, "ignored": []})
SPLIT = hash_split(train=0.6, val=0.1, gate=0.1, test=0.2)
QUARTERS = hash_split(train=0.25, val=0.25, gate=0.25, test=0.25)

Parts = dict[str, pd.DataFrame]


def write_csv(rows: pd.DataFrame, folder: Path, **options: object) -> Path:
    """Write table.csv to `folder`; return the folder."""
    folder.mkdir(exist_ok=True)
    rows.to_csv(folder / "table.csv", index=False, **options)
    return folder


def part_by_tag(
    rows: pd.DataFrame, columns: Columns = COLUMNS, split: HashSplit = SPLIT
) -> dict[int, str]:
    """The part of each row by its `tag`."""
    parts = {}
    for part, part_rows in tabular_rows.split(rows, columns, split).items():
        parts |= dict.fromkeys(part_rows["tag"], part)
    return parts


# --- the split ----------------------------------------------------------------------------------

Cell = int | float | str | None
cells = st.one_of(
    st.none(),
    st.integers(-1000, 1000),
    st.floats(-1e6, 1e6),
    st.sampled_from(["a", "b c", "é", "", "1"]),
)
rows_of_cells = st.lists(st.tuples(cells, cells), min_size=1, max_size=13)
AB_KEYLESS = table_columns(target="b", categorical=["a"])
AB_KEYED = AB_KEYLESS.model_copy(update={"key": "a"})


def ab_table(rows: list[tuple[Cell, Cell]]) -> pd.DataFrame:
    """Columns `a` and `b`, whose types pandas infers from all their cells."""
    a = pd.Series([row[0] for row in rows])
    b = pd.Series([row[1] for row in rows])
    return pd.DataFrame({"a": a, "b": b})


@given(rows=rows_of_cells)
@settings(max_examples=10)
def test_the_part_of_a_row_depends_on_that_row_alone(rows):
    """Neither growing nor sorting a table moves a row, even where it changes a column's type."""
    alone = {}
    for tag, row in enumerate(rows):
        alone |= part_by_tag(ab_table([row]).assign(tag=tag), AB_KEYED, QUARTERS)
    together = part_by_tag(ab_table(rows).assign(tag=range(len(rows))), AB_KEYED, QUARTERS)
    assert together == alone


@given(rows=rows_of_cells)
@settings(max_examples=10)
def test_the_part_of_a_row_without_a_key_depends_on_that_row_alone(rows):
    counts = dict.fromkeys(PARTS, 0)
    for row in rows:
        for part, part_rows in tabular_rows.split(ab_table([row]), AB_KEYLESS, QUARTERS).items():
            counts[part] += len(part_rows)
    together = tabular_rows.split(ab_table(rows), AB_KEYLESS, QUARTERS)
    assert {part: len(part_rows) for part, part_rows in together.items()} == counts


@pytest.mark.parametrize("columns", [COLUMNS, KEYLESS], ids=["keyed", "keyless"])
def test_every_row_is_in_exactly_one_part(columns):
    rows = animal_table()
    if columns.key is None:
        rows = rows.drop(columns=["id", "note"])
    parts = tabular_rows.split(rows, columns, SPLIT)
    assert list(parts) == list(PARTS)
    order = list(rows.columns)
    together = pd.concat(parts.values()).sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(together, rows.sort_values(order, ignore_index=True))


def test_the_parts_have_about_their_shares():
    rows = 20011
    parts = tabular_rows.split(animal_table(rows), COLUMNS, SPLIT)
    for part, share in SPLIT.shares.model_dump().items():
        deviation = (share * (1 - share) / rows) ** 0.5
        assert len(parts[part]) / rows == pytest.approx(share, abs=4 * deviation)


def test_only_the_key_of_a_row_decides_its_part():
    rows = animal_table().assign(tag=range(211))
    other = rows.assign(height=0.0, colour="mauve", **{"class": "cow"})
    assert part_by_tag(rows) == part_by_tag(other)


def test_without_a_key_equal_rows_share_a_part():
    rows = animal_table().drop(columns=["id", "note"]).assign(tag=range(211))
    parts = tabular_rows.split(pd.concat([rows] * 3, ignore_index=True), KEYLESS, SPLIT)
    for part_rows in parts.values():
        assert len(part_rows) == 3 * part_rows["tag"].nunique()


def test_another_salt_gives_another_split():
    rows = animal_table().assign(tag=range(211))
    assert part_by_tag(rows) != part_by_tag(rows, split=SPLIT.model_copy(update={"salt": 1}))


def test_a_larger_share_of_train_only_adds_to_train():
    rows = animal_table(997).assign(tag=range(997))
    training_rows = []
    for share in (0.1, 0.3, 0.5, 0.7):
        split = hash_split(train=share, val=0.9 - share, gate=0.05, test=0.05)
        parts = part_by_tag(rows, split=split)
        training_rows.append({tag for tag, part in parts.items() if part == "train"})
    for small, large in itertools.pairwise(training_rows):
        assert small < large


def test_a_share_of_0_gives_an_empty_part():
    split = hash_split(train=0.8, val=0.1, gate=0.1, test=0.0)
    parts = tabular_rows.split(animal_table(), COLUMNS, split)
    assert len(parts["test"]) == 0
    assert sum(map(len, parts.values())) == 211


def test_the_parts_are_the_same_on_every_machine():
    """Worked by hand: the sha256 of `0:1009` begins with b7, so key 1009 is at 0xb7 / 0x100 = 0.71,
    in the gate's 0.7..0.8."""
    parts = tabular_rows.split(animal_table(rows=3), COLUMNS, SPLIT)
    assert {part: part_rows["id"].tolist() for part, part_rows in parts.items()} == {
        "train": [1011],  # 38
        "val": [],
        "gate": [1009],  # b7
        "test": [1010],  # f0
    }


def copy_a_key_to_val(parts: Parts) -> None:
    parts["val"].update(parts["train"].head(1))


def empty_the_gate(parts: Parts) -> None:
    parts["gate"] = parts["gate"].head(0)


def remove_dogs_from_val(parts: Parts) -> None:
    parts["val"] = parts["val"][parts["val"]["class"] == "cat"]


def empty_the_weights(parts: Parts) -> None:
    parts["train"] = parts["train"].assign(weight=float("nan"))


def call_every_row_a_cat(parts: Parts) -> None:
    for part, rows in parts.items():
        parts[part] = rows.assign(**{"class": "cat"})


@cases.each(
    ("damage", "message"),
    [
        (
            copy_a_key_to_val,
            r"key 1\d\d\d is in the parts train and val; expected each key in one part only",
        ),
        (empty_the_gate, r"part gate \(0 rows\) has no row of class cat, dog"),
        (
            remove_dogs_from_val,
            r"part val \(\d+ rows\) has no row of class dog of `class`; add rows of it, or change",
        ),
        (
            call_every_row_a_cat,
            "`class` is cat in every row; expected two classes; add rows of another class",
        ),
        (
            empty_the_weights,
            "`weight` has no number in the training rows; write it under `ignored` in the conf",
        ),
    ],
    ids=["key in two parts", "empty part", "missing class", "one class", "no number"],
)
def test_parts_that_cannot_be_used_are_refused(damage, message):
    parts = tabular_rows.split(animal_table(), COLUMNS, SPLIT)
    tabular_rows.check_parts(parts, COLUMNS)
    damage(parts)
    with pytest.raises(DataError, match=message):
        tabular_rows.check_parts(parts, COLUMNS)


def test_without_a_target_an_empty_part_is_refused():
    columns = COLUMNS.model_copy(update={"target": None})
    parts = tabular_rows.split(animal_table(), columns, SPLIT)
    tabular_rows.check_parts(parts, columns)
    empty_the_gate(parts)
    with pytest.raises(DataError, match="part gate has no row; add rows, or change `split`"):
        tabular_rows.check_parts(parts, columns)


def test_a_part_is_loaded_as_it_was_written(tmp_path):
    table = animal_table()
    table["colour"] = table["colour"].where(table["colour"] != "red")
    rows = tabular_rows.repair(table, COLUMNS)
    tabular_rows.write(rows, tmp_path / "train")
    digest = sha256(tmp_path / "train.parquet")
    loaded = tabular_rows.load(tmp_path / "train")
    assert loaded["colour"].isna().any()
    assert (loaded["colour"].isna() == rows["colour"].isna()).all()
    pd.testing.assert_frame_equal(loaded.fillna("none"), rows.fillna("none"), check_dtype=False)
    tabular_rows.write(rows, tmp_path / "train")
    assert sha256(tmp_path / "train.parquet") == digest


# --- reading and repairing ----------------------------------------------------------------------


def as_text(rows: pd.DataFrame) -> pd.DataFrame:
    """An `animal_table` as it is prepared: text in all columns that are not numeric."""
    text = rows.astype({"id": str, "shoes": str})
    return text.assign(note=None) if "note" in rows else text


def test_a_file_is_read_with_and_without_a_header(tmp_path):
    rows = animal_table(13)
    with_header = tabular_rows.read(write_csv(rows, tmp_path / "with"), COLUMNS)
    assert (with_header.dtypes == "str").all()
    repaired = tabular_rows.repair(with_header, COLUMNS).reset_index(drop=True)
    pd.testing.assert_frame_equal(repaired, as_text(rows), check_dtype=False)
    columns = COLUMNS.model_copy(update={"names": list(rows.columns), "delimiter": "|"})
    folder = write_csv(rows, tmp_path / "without", header=False, sep="|")
    without = tabular_rows.read(folder, columns)
    assert without.index.tolist() == [("table.csv", line) for line in range(1, 14)]
    pd.testing.assert_frame_equal(
        without.reset_index(drop=True), with_header.reset_index(drop=True)
    )


def test_all_files_of_the_folder_but_the_receipt_are_read(tmp_path):
    folder = write_csv(animal_table(13), tmp_path)
    animal_table(17, seed=1).to_csv(folder / "more.csv", index=False)
    (folder / "source.json").write_text("{}")
    write_csv(animal_table(19, seed=2), folder / "below")
    assert len(tabular_rows.read(folder, COLUMNS)) == 49


def test_only_the_empty_cell_and_the_mark_are_missing_values(tmp_path):
    rows = animal_table(7).assign(colour=["NA", "null", "?", "", "nan", "None", "red"])
    columns = COLUMNS.model_copy(update={"unknown": ["?"]})
    read = tabular_rows.read(write_csv(rows, tmp_path), columns)
    assert read["colour"].isna().tolist() == [False, False, True, True, False, False, False]


HEADER = "id,note,height,weight,colour,shoes,class\n"


@cases.each(
    ("text", "message"),
    [
        ("", "table.csv is empty; expected a table with id, note, height"),
        (
            "id;note;height\n1;;2\n",
            r"table.csv lacks column id, note, .*; found id;note;height; correct the file, or use"
            r" its column names in the conf; if it has no header, list its columns in `columns.n",
        ),
        (
            HEADER.replace("class", "klass"),
            "lacks column class; found id, note, .*, klass; did you mean `klass` for `class`",
        ),
        (
            f"{HEADER}1,,2,3,4,5,6\n1,,2,3,4,5,6,7\n",
            "table.csv line 3 has 8 cells, and the header has 7 names",
        ),
        (f"{HEADER}1,,2,3\n", "table.csv line 2 has 4 cells, and the header has 7 names"),
        (f'{HEADER}"1,,2,3,4,5,6\n', "table.csv line 2 opens a quotation mark that nothing closes"),
        ("id\xff,note\n", r"table.csv line 1 is not utf-8 .byte 0xff.; set `encoding`"),
    ],
    ids=["empty", "delimiter", "renamed", "long row", "short row", "open quote", "encoding"],
)
def test_a_file_that_is_not_such_a_table_is_refused(tmp_path, text, message):
    (tmp_path / "table.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        tabular_rows.read(tmp_path, COLUMNS)


def test_rows_longer_than_the_names_are_refused_and_not_cut(tmp_path):
    (tmp_path / "table.csv").write_text("1,2,3\n4,5,6\n")
    columns = table_columns(target="b", numeric=["a"]).model_copy(update={"names": ["a", "b"]})
    with pytest.raises(DataError, match="line 1 has 3 cells, and `names` in the conf has 2 names"):
        tabular_rows.read(tmp_path, columns)


def test_a_folder_without_files_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=f"{folder} has no files; run `make pull`"):
            tabular_rows.read(folder, COLUMNS)


@cases.each("cell", ["tall", "1,7", "inf", "-inf", "nan", "1.7m"])
def test_text_and_infinity_in_a_numeric_column_are_refused(cell):
    rows = animal_table(13)
    rows["height"] = rows["height"].astype(object)
    rows.loc[4, "height"] = cell
    message = f"row 5 has '{cell}' in `height`; expected a finite number; correct the row"
    with pytest.raises(DataError, match=message):
        tabular_rows.repair(rows, COLUMNS)


def test_rows_without_a_label_are_refused():
    rows = animal_table(13)
    rows.loc[4:6, "class"] = None
    message = "3 rows have no `class`, such as row 5, row 6, row 7; label them, or remove them from"
    with pytest.raises(DataError, match=message):
        tabular_rows.repair(rows, COLUMNS)


def test_repair_keeps_columns_and_values_and_does_not_change_its_argument():
    rows = animal_table()
    before = rows.copy()
    repaired = tabular_rows.repair(rows.assign(surplus=1), COLUMNS)
    pd.testing.assert_frame_equal(repaired, as_text(rows), check_dtype=False)
    pd.testing.assert_frame_equal(rows, before)


@cases.each(
    ("changes", "message"),
    [
        (
            {"numeric": ["height", "class"]},
            "`class` is named twice; a column is key, target, ignored, numeric or",
        ),
        ({"categorical": ["colour", "height"]}, "`height` is named twice"),
        ({"names": ["id"]}, "`note` is not among `names`; list all columns of the file in `names`"),
        ({"delimiter": ""}, "`delimiter` is ''; string should have at least 1 character"),
        ({"missing": {"colour": "refuse"}}, "`missing` names `colour`, which is not numeric"),
        ({"missing": {"height": "level"}}, "`missing` has `level` for `height`, which is not cat"),
        ({"personal": ["nickname"]}, "`personal` names `nickname`, which has no role"),
        ({"errors": {"colour": "e"}}, "`errors` names `colour`, which is not numeric; name a"),
        ({"errors": {"height": "weight"}}, "`weight` is named twice; .* or has the errors of one"),
        ({"colour": []}, "unknown key `colour`"),
    ],
)
def test_contradictory_columns_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        check(Columns, {**COLUMNS.model_dump(), **changes}, "columns")


# --- what is written is what is read ------------------------------------------------------------

SMALL = table_columns(target="y", numeric=["x"], categorical=["c"], key="k")


def read_text(folder: Path, text: str, **changes: object) -> pd.DataFrame:
    """Repaired rows of a file with this text."""
    (folder / "table.csv").write_text(text)
    columns = check(Columns, {**SMALL.model_dump(), **changes}, "columns")
    return tabular_rows.repair(tabular_rows.read(folder, columns), columns)


def test_keys_categories_and_labels_are_what_is_written_there(tmp_path):
    rows = read_text(tmp_path, "k,x,c,y\n007,1,01,1\n7,2.50,1,0\n0679781587,3,True,01\n")
    assert rows["k"].tolist() == ["007", "7", "0679781587"]
    assert rows["c"].tolist() == ["01", "1", "True"]
    assert rows["y"].tolist() == ["1", "0", "01"]
    assert rows["x"].tolist() == [1.0, 2.5, 3.0]


cell = st.sampled_from(["0", "1", "01", "007", "7", "7.0", "True", "a", "1e5", "NA", "é"])
file_rows = st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=8)


@given(rows=file_rows)
@settings(max_examples=6)
def test_part_and_code_of_a_row_depend_on_that_row_alone(tmp_path_factory, rows):
    """Read in a file of its own, a row has the same part, categories and label."""
    folder = tmp_path_factory.mktemp("law")
    header = "k,x,c,y\n"
    lines = [f"{k},1,{c},{y}\n" for k, c, y in rows]
    together = read_text(folder, header + "".join(lines))
    assert together[["k", "c", "y"]].to_numpy().tolist() == [list(row) for row in rows]
    encoder = Encoder.fit(together, SMALL)
    codes = encoder.encode(together)
    part_of_key = {}
    for part, part_rows in tabular_rows.split(together, SMALL, QUARTERS).items():
        part_of_key |= dict.fromkeys(part_rows["k"], part)
    for position, line in enumerate(lines):
        alone = read_text(folder, header + line)
        (part,) = [
            name
            for name, part_rows in tabular_rows.split(alone, SMALL, QUARTERS).items()
            if len(part_rows)
        ]
        assert part == part_of_key[alone["k"].iloc[0]]
        batch = encoder.encode(alone)
        assert torch.equal(batch.categories[0], codes.categories[position])
        assert torch.equal(batch.target[0], codes.target[position])


def test_a_key_with_a_letter_moves_no_other_row(tmp_path):
    lines = [f"{number:05},{number % 7},0{number % 3},no\n" for number in range(1, 200)]
    parts = {}
    for name, more in (("before", ""), ("after", "A0601,1,01,yes\n")):
        rows = read_text(tmp_path, "k,x,c,y\n" + "".join(lines) + more)
        parts[name] = {}
        for part, part_rows in tabular_rows.split(rows, SMALL, QUARTERS).items():
            parts[name] |= dict.fromkeys(part_rows["k"], part)
    assert parts["after"].pop("A0601") in PARTS
    assert parts["after"] == parts["before"]


def test_whole_numbers_keep_the_parts_that_they_had_as_numbers():
    rows = animal_table()
    parts = part_by_tag(rows.assign(tag=range(211)))
    assert parts == part_by_tag(as_text(rows).assign(tag=range(211)))
    without_key = rows.drop(columns=["id", "note"]).assign(tag=range(211))
    text = without_key.astype({"shoes": str})
    assert part_by_tag(without_key, KEYLESS) == part_by_tag(text, KEYLESS)


@cases.each(
    ("text", "changes"),
    [
        ("k;x;c;y\nÅ1;139985,36;b;1\n", {"delimiter": ";", "decimal": ",", "encoding": "cp1252"}),
        ("\ufeffk,x,c,y\nÅ1,139985.36,b,1\n", {}),
        ("k,x,c,y\nÅ1, 139985.36, b, 1\n\n,,,\n", {}),
        ("#k x c y z\nÅ1  139985.36 b 1\n", {"delimiter": "blanks", "comment": "#",
                                           "names": ["k", "x", "c", "y"]}),
        ('k,x,c,y\nÅ1,"$139,985.36",b,1\n', {"thousands": ","}),
    ],
    ids=["cp1252", "byte order mark", "blanks", "header in a comment", "dollars"],
)  # fmt: skip
def test_a_table_is_the_same_in_every_format(tmp_path, text, changes):
    (tmp_path / "table.csv").write_bytes(text.encode(changes.get("encoding", "utf-8")))
    columns = check(Columns, {**SMALL.model_dump(), **changes}, "columns")
    rows = tabular_rows.repair(tabular_rows.read(tmp_path, columns), columns)
    assert rows.to_dict("records") == [{"k": "Å1", "x": 139985.36, "c": "b", "y": "1"}]


def test_every_empty_cell_is_one_kind_of_missing(tmp_path):
    text = 'k,x,c,y\n1,,,0\n2, ,"",1\n3,?, ? ,1\n4,n/a,n/a,0\n'
    rows = read_text(tmp_path, text, unknown=["?", "n/a"])
    assert rows["x"].isna().all()
    assert rows["c"].tolist() == [None] * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "k,x,c,y\n1,2,a,0\n\n,2,a,0\n",
            "table.csv line 4 has no `k`; expected a key in every row",
        ),
        ("k,x,c,y\n1,2,a,0\n2,3\n", "table.csv line 3 has 2 cells, and the header has 4 names"),
        (
            "k,x,c,y\n1,2,a,0\n\n2,tall,a,0\n",
            "table.csv line 4 has 'tall' in `x`; expected a finite",
        ),
        ("k,x,c,y\n1,2,a,0\n2,3,a,\n", "1 rows have no `y`, such as table.csv line 3; label them"),
    ],
    ids=["key", "short", "number", "label"],
)
def test_a_row_that_has_something_is_never_left_out(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_text(tmp_path, text)


def test_empty_rows_are_passed_over_and_counted(tmp_path):
    (tmp_path / "table.csv").write_text("k,x,c,y\n\n1,2,a,0\n,,,\n")
    raw = tabular_rows.read(tmp_path, SMALL)
    assert len(raw) == 1
    assert tabular_rows.passed_over(raw) == {"empty rows": 2}


def test_the_expectations_see_numbers_and_text_as_it_is_written(tmp_path):
    (tmp_path / "table.csv").write_text("k,x,c,y,z\n007,1,01,1,5\n8,2,1,0,x\n")
    table = tabular_rows.table(tabular_rows.read(tmp_path, SMALL), SMALL)
    assert table.dtypes.astype(str).to_dict() == {
        "k": "str", "x": "int64", "c": "str", "y": "str", "z": "str",
    }  # fmt: skip
    (tmp_path / "table.csv").write_text("k,x,c,y\n1,tall,01,1\n2,1.5,1,0\n")
    table = tabular_rows.table(tabular_rows.read(tmp_path, SMALL), SMALL)
    assert table["x"].tolist() == ["tall", "1.5"]
    columns = SMALL.model_copy(update={"target_type": "number", "thousands": "."})
    columns = columns.model_copy(update={"decimal": ","})
    (tmp_path / "table.csv").write_text('k,x,c,y\n1,1,01,"$1.234,50"\n2,2,1,"(3,5)"\n')
    table = tabular_rows.table(tabular_rows.read(tmp_path, columns), columns)
    assert table["y"].tolist() == [1234.5, -3.5]
    (tmp_path / "table.csv").write_text("k,x,c,y\n1,1,01,dear\n2,2,1,3\n")
    table = tabular_rows.table(tabular_rows.read(tmp_path, columns), columns)
    assert table["y"].tolist() == ["dear", "3"]


def test_a_question_may_contain_the_number_to_predict_in_any_form(tmp_path):
    columns = SMALL.model_copy(update={"target_type": "number", "thousands": ","})
    (tmp_path / "table.csv").write_text('k,x,c,y\n1,1,01,"$1,234.50"\n2,2,1,3\n')
    raw = tabular_rows.read(tmp_path, columns)
    encoder = Encoder.fit(tabular_rows.repair(raw, columns), columns)
    questions = encoder.check(raw.assign(y=["$1,234.50", "not yet known"]))
    assert encoder.encode(questions).target.tolist() == pytest.approx([1234.5, np.nan], nan_ok=True)
    assert encoder.encode(encoder.check(raw.drop(columns="y"))).target.isnan().all()


def test_a_pattern_stands_for_the_columns_that_fit(tmp_path):
    columns = check(Columns, {"target": "label", "numeric": ["pixel*"], "ignored": ["pixel9"]}, "c")
    header = "label," + ",".join(f"pixel{i}" for i in range(12))
    (tmp_path / "table.csv").write_text(f"{header},other\n" + "7," + "0," * 12 + "x\n")
    rows = tabular_rows.repair(tabular_rows.read(tmp_path, columns), columns)
    names = [f"pixel{i}" for i in range(12) if i != 9]
    assert columns.resolved(rows.columns).numeric == names
    assert "other" not in rows
    encoder = Encoder.fit(rows, columns)
    assert encoder.columns.numeric == names
    assert encoder.sizes["numeric"] == 11
    with pytest.raises(DataError, match=r"no column fits `pixel\*`; found label, a"):
        columns.resolved(["label", "a"])
    twice = columns.model_copy(update={"categorical": ["*1"]})
    with pytest.raises(DataError, match="column `pixel1` fits two patterns in the conf"):
        twice.resolved(["label", "pixel1", "pixel2", "pixel9"])


def test_a_numeric_target_is_refused_with_three_examples():
    rows = as_text(animal_table()).assign(**{"class": [f"{i}.5" for i in range(211)]})
    parts = tabular_rows.split(rows, COLUMNS, SPLIT)
    with pytest.raises(DataError) as caught:
        tabular_rows.check_parts(parts, COLUMNS)
    message = str(caught.value)
    assert "of class 0.5, 1.5, 10.5 and " in message or "more of `class`" in message
    assert "if `class` is an amount, choose task regression" in message
    assert len(message) < 400


def test_a_file_that_the_source_reserves_is_the_test_part(tmp_path):
    rows = animal_table()
    rows.head(150).to_csv(tmp_path / "train.csv", index=False)
    rows.tail(61).to_csv(tmp_path / "test.csv", index=False)
    columns = COLUMNS.model_copy(update={"test_files": ["test.csv"]})
    split = hash_split(train=0.7, val=0.15, gate=0.15, test=0.0)
    repaired = tabular_rows.repair(tabular_rows.read(tmp_path, columns), columns)
    parts = tabular_rows.split(repaired, columns, split)
    tabular_rows.check_parts(parts, columns)
    assert parts["test"]["id"].tolist() == rows["id"].tail(61).astype(str).tolist()
    missing = columns.model_copy(update={"test_files": ["exam.csv"]})
    with pytest.raises(DataError, match="lacks exam.csv, which `test_files` names; found test.csv"):
        tabular_rows.read(tmp_path, missing)


@pytest.mark.parametrize("form", ["no column", "empty cells"])
def test_a_test_file_without_labels_is_a_part_of_its_own(tmp_path, form):
    rows = animal_table()
    rows.head(150).to_csv(tmp_path / "train.csv", index=False)
    unlabelled = rows.tail(61).assign(**{"class": ""})
    if form == "no column":
        unlabelled = unlabelled.drop(columns="class")
    unlabelled.to_csv(tmp_path / "test.csv", index=False)
    columns = COLUMNS.model_copy(update={"test_files": ["test.csv"]})
    repaired = tabular_rows.repair(tabular_rows.read(tmp_path, columns), columns)
    parts = tabular_rows.split(repaired, columns, SPLIT)
    tabular_rows.check_parts(parts, columns)
    assert list(parts) == [*PARTS, "unlabelled"]
    assert parts["unlabelled"]["id"].tolist() == rows["id"].tail(61).astype(str).tolist()
    assert sum(len(parts[part]) for part in PARTS) == 150
    assert (Encoder.fit(parts["train"], columns).encode(parts["unlabelled"]).target == -1).all()


@pytest.mark.parametrize(
    "text",
    ["44,31,car\n", "a,i,p\n44,31,car\n", "p,a,i,r\ncar,44,31,\n"],
    ids=["without", "with", "another order"],
)
def test_a_headerless_table_is_asked_with_and_without_a_header(tmp_path, text):
    columns = check(
        Columns,
        {"names": ["a", "i", "p", "r"], "target": "r", "numeric": ["a", "i"], "categorical": ["p"]},
        "columns",
    )
    learnt = pd.DataFrame({"a": [1.0, 2], "i": [3.0, 4], "p": ["car", "bus"], "r": ["no", "yes"]})
    encoder = Encoder.fit(learnt, columns)
    (tmp_path / "new.csv").write_text(text)
    if text[0].isdigit():
        with pytest.raises(DataError, match="line 1 has 3 cells, and `names` in the conf has 4"):
            tabular_rows.read_rows(tmp_path / "new.csv", columns)
        (tmp_path / "new.csv").write_text(text.replace("car", "car,"))
    checked = encoder.check(tabular_rows.read_rows(tmp_path / "new.csv", columns))
    assert checked[["a", "i", "p"]].to_numpy().tolist() == [[44, 31, "car"]]


def test_a_table_with_a_header_is_not_asked_without_one(tmp_path):
    encoder = Encoder.fit(animal_table(), COLUMNS)
    (tmp_path / "new.csv").write_text("1,,170,red,60,40,cat\n2,,170,red,60,40,cat\n")
    with pytest.raises(DataError, match="missing column height, .*; expected .*, in a header"):
        encoder.check(tabular_rows.read_rows(tmp_path / "new.csv", COLUMNS))


# --- the encoder --------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["complete", "gaps"])
def rows(request) -> pd.DataFrame:
    """Repaired rows, without and with missing values."""
    table = animal_table()
    if request.param:
        table = with_gaps(table)
    return tabular_rows.repair(table, COLUMNS)


def test_the_encoder_is_restored_from_json(rows):
    encoder = Encoder.fit(rows, COLUMNS)
    state = json.loads(json.dumps(encoder.state(), allow_nan=False))
    restored = Encoder.from_state(state, COLUMNS)
    assert restored.state() == encoder.state()
    assert restored.sizes == encoder.sizes
    for tensor, restored_tensor in zip(encoder.encode(rows), restored.encode(rows), strict=True):
        assert torch.equal(tensor, restored_tensor)


def test_training_rows_are_standardised_and_every_level_has_a_code(rows):
    encoder = Encoder.fit(rows, COLUMNS)
    batch = encoder.encode(rows)
    assert batch.numeric.dtype == torch.float32
    assert batch.categories.dtype == torch.int64
    assert batch.target.dtype == torch.int64
    is_present = torch.tensor(rows[COLUMNS.numeric].notna().to_numpy())
    for i in range(2):
        x = batch.numeric[is_present[:, i], i]
        assert x.mean().item() == pytest.approx(0, abs=1e-6)
        assert x.std(correction=0).item() == pytest.approx(1)
    for codes, size in zip(batch.categories.T, encoder.sizes["cardinalities"], strict=True):
        assert codes.unique().tolist() == list(range(1, size + 1))
    assert [encoder.classes[i] for i in batch.target] == rows["class"].tolist()


def test_a_baseline_reads_what_a_net_reads(rows):
    """`flat` has the numbers of the batch, then a 1 at the code of each category."""
    encoder = Encoder.fit(rows, COLUMNS)
    batch = encoder.encode(rows)
    expected = [batch.numeric.numpy()]
    cardinalities = encoder.sizes["cardinalities"]
    for codes, size in zip(batch.categories.T, cardinalities, strict=True):
        expected.append(np.eye(size + 1)[codes][:, 1:])
    np.testing.assert_allclose(encoder.flat(rows), np.hstack(expected), atol=1e-6)
    unseen = encoder.flat(rows.head(5).assign(colour="mauve"))
    assert (unseen[:, 2 : 2 + cardinalities[0]] == 0).all()


def test_rows_are_encoded_alone_as_together(rows):
    encoder = Encoder.fit(rows, COLUMNS)
    together = encoder.encode(rows)
    alone = [encoder.encode(rows.iloc[[i]]) for i in range(13)]
    for tensor, *single_rows in zip(together, *alone, strict=True):
        assert torch.equal(tensor[:13], torch.cat(single_rows))


def test_a_missing_number_is_the_median_and_a_missing_category_a_level():
    rows = tabular_rows.repair(with_gaps(animal_table()), COLUMNS)
    encoder = Encoder.fit(rows, COLUMNS)
    filled = rows.assign(height=rows["height"].fillna(rows["height"].median()))
    assert torch.equal(encoder.encode(rows).numeric, encoder.encode(filled).numeric)
    assert encoder.levels["colour"][-1] is None
    assert encoder.encode(rows).categories[0, 0] == len(encoder.levels["colour"])


def test_a_number_far_from_training_is_finite_in_the_input_of_a_net():
    encoder = Encoder.fit(animal_table(), ANIMAL_COLUMNS)
    rows = encoder.check(animal_table(3).assign(weight=[-1e100, 60.0, 1e39]))
    weights = encoder.encode(rows).numeric[:, 1]
    assert weights[0] == -FARTHEST and weights[2] == FARTHEST
    assert weights[1] == encoder.encode(rows.iloc[[1]]).numeric[0, 1]


def test_a_constant_number_is_encoded_as_0():
    rows = animal_table().assign(height=170.0)
    assert (Encoder.fit(rows, COLUMNS).encode(rows).numeric[:, 0] == 0).all()


@cases.each("name", COLUMNS.features)
def test_a_feature_without_any_value_is_refused(name):
    rows = animal_table().assign(**{name: None})
    message = f"no training row has a value in `{name}`; remove it from `columns` in the conf"
    with pytest.raises(DataError, match=message):
        Encoder.fit(rows, COLUMNS)


@cases.each("dtype", ["int64", "int8", "float64", "float32", "str", "category"])
def test_a_category_is_the_same_in_every_type(dtype):
    rows = animal_table()
    encoder = Encoder.fit(rows, COLUMNS)
    converted = encoder.check(rows.assign(shoes=rows["shoes"].astype(dtype)))
    assert torch.equal(encoder.encode(converted).categories, encoder.encode(rows).categories)


def test_input_rows_may_lack_label_key_and_ignored_columns():
    rows = animal_table()
    encoder = Encoder.fit(rows, COLUMNS)
    inputs = encoder.check(rows[COLUMNS.features[::-1]])
    batch = encoder.encode(inputs)
    expected = encoder.encode(rows)
    assert torch.equal(batch.numeric, expected.numeric)
    assert torch.equal(batch.categories, expected.categories)
    assert (batch.target == -1).all()


def test_an_unseen_category_has_code_0_and_a_remark():
    rows = animal_table()
    encoder = Encoder.fit(rows, COLUMNS)
    checked = encoder.check(rows.head(3).assign(colour=["mauve", "red", "puce"]))
    text = "`colour` has mauve, which training did not have"
    assert encoder.remarks(checked, checked) == [text, "", text.replace("mauve", "puce")]
    is_unseen = encoder.encode(checked).categories[:, 0] == UNSEEN
    assert is_unseen.tolist() == [True, False, True]
    assert set(encoder.remarks(encoder.check(rows), rows)) == {""}


def set_in_row_5(name: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda rows: rows.assign(**{name: rows[name].mask(rows.index == 4, value)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda rows: rows.drop(columns=["height", "shoes"]),
            "missing column height, shoes; expected height, weight, colour",
        ),
        (
            lambda rows: rows.rename(columns={"height": "hight"}),
            "missing column height; surplus column hight; expected .*; did you mean `hight` for",
        ),
        (lambda rows: rows.head(0), "no rows to answer; give at least one"),
        (set_in_row_5("height", np.inf), "row 5 has inf in `height`; expected a finite number"),
        (set_in_row_5("height", -np.inf), "row 5 has -inf in `height`; expected a finite number"),
        (
            lambda rows: rows.assign(height=rows["height"].astype(str) + "cm"),
            r"row 1 has '[\d.]+cm' in `height`; expected a finite number",
        ),
    ],
    ids=["missing", "renamed", "none", "inf", "-inf", "text"],
)
def test_input_rows_that_cannot_be_answered_are_refused(damage, message):
    encoder = Encoder.fit(animal_table(), COLUMNS)
    with pytest.raises(DataError, match=message):
        encoder.check(damage(animal_table(13)))


def test_surplus_columns_of_inputs_are_passed_over_with_a_warning():
    rows = animal_table(13)
    encoder = Encoder.fit(animal_table(), COLUMNS)
    message = "columns that the model does not know are passed over: Unnamed: 0, extra"
    with pytest.warns(UserWarning, match=message):
        checked = encoder.check(rows.assign(**{"Unnamed: 0": 1, "extra": 2}))
    pd.testing.assert_frame_equal(checked, encoder.check(rows))


@pytest.mark.parametrize(
    ("name", "stand_in"),
    [
        ("height", r"the median of training, 1\d\d"),
        ("colour", "a category that training did not have"),
    ],
)
def test_a_missing_value_where_training_had_none_is_remarked_on(name, stand_in):
    encoder = Encoder.fit(animal_table(), COLUMNS)
    checked = encoder.check(set_in_row_5(name, None)(animal_table(13)))
    text = encoder.remarks(checked, checked)[4]
    assert re.match(f"`{name}` is missing, and never was in training: read as {stand_in}", text)
    batch = encoder.encode(checked)
    if name == "colour":
        assert batch.categories[4, 0] == UNSEEN
    else:
        median = encoder.encode(animal_table(13).assign(height=encoder.numbers[name].median))
        assert batch.numeric[4, 0] == median.numeric[0, 0]


def test_a_column_with_gaps_in_training_may_have_gaps_in_inputs():
    encoder = Encoder.fit(tabular_rows.repair(with_gaps(animal_table()), COLUMNS), COLUMNS)
    inputs = encoder.check(with_gaps(animal_table(13)))
    assert inputs["height"].isna().sum() == 3


def with_missing(**choices: str) -> Columns:
    return check(Columns, {**COLUMNS.model_dump(), "missing": choices}, "columns")


def test_a_missing_number_can_be_an_input_of_its_own():
    columns = with_missing(height="indicator")
    rows = tabular_rows.repair(with_gaps(animal_table()), columns)
    encoder = Encoder.fit(rows, columns)
    plain = Encoder.fit(rows, COLUMNS)
    assert encoder.sizes["numeric"] == 3
    numeric = encoder.encode(rows).numeric
    assert torch.equal(numeric[:, :2], plain.encode(rows).numeric)
    assert numeric[:, 2].tolist() == rows["height"].isna().astype(float).tolist()
    assert list(encoder.wide(rows))[:3] == ["height", "weight", "height is missing"]
    assert list(encoder.scale) == list(encoder.wide(rows))
    assert encoder.flat(rows).shape[1] == plain.flat(rows).shape[1] + 1
    state = json.loads(json.dumps(encoder.state()))
    restored = Encoder.from_state(state, Columns(**columns.model_dump()))
    assert torch.equal(restored.encode(rows).numeric, numeric)


def test_prepare_says_in_one_line_what_becomes_of_missing_numbers():
    columns = with_missing(height="indicator")
    table = with_gaps(animal_table()).assign(weight=[i if i % 4 else None for i in range(211)])
    parts = tabular_rows.split(tabular_rows.repair(table, columns), columns, SPLIT)
    missing = parts["train"].isna().sum()
    (line,) = tabular_rows.remarks(parts, columns)
    assert line == (
        f"of {len(parts['train'])} training rows, numbers are missing in `height`"
        f" ({missing['height']} with an indicator), `weight` ({missing['weight']}); they become the"
        " median of training, and stay empty for a task that draws missing cells"
    )
    complete = tabular_rows.split(as_text(animal_table()), COLUMNS, SPLIT)
    assert tabular_rows.remarks(complete, COLUMNS) == []


def test_a_pattern_chooses_what_becomes_of_missing_numbers():
    block = {**COLUMNS.model_dump(), "numeric": ["*eight"], "missing": {"*eigh*": "indicator"}}
    columns = check(Columns, block, "columns").resolved(animal_table().columns)
    assert columns.numeric == ["height", "weight"] or columns.numeric == ["height"]
    assert columns.missing == dict.fromkeys(columns.numeric, "indicator")


@pytest.mark.parametrize("dtype", ["bool", "boolean", object])
def test_typed_truth_values_are_numbers_in_a_numeric_column(dtype):
    heights = pd.Series([True, False] * 100 + [True] * 11, dtype=dtype)
    rows = tabular_rows.repair(animal_table().assign(height=heights), COLUMNS)
    assert rows["height"].tolist() == [1.0, 0.0] * 100 + [1.0] * 11
    checked = Encoder.fit(animal_table(), COLUMNS).check(animal_table().assign(height=heights))
    assert checked["height"].tolist() == rows["height"].tolist()
    with pytest.raises(DataError, match="row 1 has 'True' in `height`; expected a finite number"):
        tabular_rows.repair(animal_table().assign(height="True"), COLUMNS)


def test_a_missing_number_can_be_refused():
    columns = with_missing(height="refuse")
    with pytest.raises(DataError, match="row 1 has no `height`; expected a number, since the conf"):
        tabular_rows.repair(with_gaps(animal_table()), columns)
    encoder = Encoder.fit(animal_table(), columns)
    with pytest.raises(DataError, match="row 1 has no `height`; expected a number; correct the ro"):
        encoder.check(with_gaps(animal_table(13)))


@cases.each("colours", [[True, False], ["True", "False"], [1.0, 0.0], ["1.0", "0.0"]])
def test_a_typed_category_means_the_learnt_level(colours):
    rows = animal_table()
    rows["colour"] = np.where(rows["colour"] == "red", "1", "0")
    encoder = Encoder.fit(rows, COLUMNS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked = encoder.check(rows.head(2).assign(colour=colours))
    assert checked["colour"].tolist() == ["1", "0"]
    assert encoder.encode(checked).categories[:, 0].tolist() == [2, 1]


def test_the_example_and_every_input_have_the_types_of_the_schema(rows):
    encoder = Encoder.fit(rows, COLUMNS)
    schema = encoder.schema()
    assert [name for name, _, _ in schema] == COLUMNS.features
    numpy_kinds = {"double": "f", "string": "O"}
    for frame in (encoder.example(), encoder.inputs(rows)):
        for name, mlflow_type, _ in schema:
            assert frame[name].dtype.kind == numpy_kinds[mlflow_type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unseen level would give a warning
        inputs = encoder.check(encoder.inputs(rows))
        assert len(encoder.check(encoder.example())) == 3
    batch = encoder.encode(inputs)
    expected = encoder.encode(rows)
    assert torch.equal(batch.numeric, expected.numeric)
    assert torch.equal(batch.categories, expected.categories)


def test_no_row_of_the_example_is_a_training_row():
    rows = animal_table()
    example = Encoder.fit(rows, COLUMNS).example()
    example_rows = set(map(tuple, example[COLUMNS.features].to_numpy()))
    training_rows = set(map(tuple, rows[COLUMNS.features].to_numpy()))
    assert not example_rows & training_rows


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_input_rows_are_read_from_every_format(tmp_path, suffix):
    rows = animal_table(13).drop(columns=["note"])
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        rows.to_csv(path, index=False)
    elif suffix == "parquet":
        rows.to_parquet(path, index=False)
    else:
        rows.to_json(path, orient="records")
    read = tabular_rows.repair(tabular_rows.read_rows(path, COLUMNS), COLUMNS)
    pd.testing.assert_frame_equal(read.reset_index(drop=True), as_text(rows), check_dtype=False)
    with pytest.raises(DataError, match=f"none.{suffix} does not exist; name a file of rows"):
        tabular_rows.read_rows(tmp_path / f"none.{suffix}", COLUMNS)


def test_the_profile_is_json_and_depends_on_train_alone():
    rows = tabular_rows.repair(with_gaps(animal_table()), COLUMNS)
    parts = tabular_rows.split(rows, COLUMNS, SPLIT)
    profile = tabular_rows.profile(parts, COLUMNS)
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile
    assert profile == tabular_rows.profile({"train": parts["train"]}, COLUMNS)
    assert profile["classes"] == ["cat", "dog"]
    assert profile["columns"]["height"]["mean"] == pytest.approx(parts["train"]["height"].mean())
    assert sum(profile["columns"]["class"].values()) == len(parts["train"])


# --- the twins ----------------------------------------------------------------------------------


def conf_of(dataset: str) -> tuple[Twin, Columns, HashSplit]:
    """The blocks `twin`, `columns` and `split` of a data set."""
    conf = TABLES[dataset]
    return (
        Twin.model_validate(conf["twin"]),
        Columns.model_validate(conf["columns"]),
        HashSplit.model_validate(conf["split"]),
    )


# The generator of twins is the same for all: `make test-fast` tries those of params.yaml.
DRAWN = [
    pytest.param(name, marks=[] if name in listed.PARAMS["datasets"] else pytest.mark.slow)
    for name in TWINS
]


@pytest.fixture(scope="module", params=DRAWN)
def twin(request, tmp_path_factory) -> SimpleNamespace:
    """A small twin as pull writes it, and its rows; tests must not change them."""
    conf, columns, split = conf_of(request.param)
    conf = conf.model_copy(update=twins.small_twin(request.param, "tabular"))
    folder = twins.raw(request.param, tmp_path_factory, small=True)
    raw = tabular_rows.read(folder, columns)
    return SimpleNamespace(conf=conf, columns=columns, split=split, folder=folder, raw=raw)


def test_some_table_has_a_twin():
    assert TWINS


def test_a_twin_has_the_same_bytes_every_time_and_others_with_another_seed(twin, tmp_path):
    file = twin.conf.file
    write_twin(twin.conf, twin.columns, tmp_path / "same")
    assert sha256(tmp_path / "same" / file) == sha256(twin.folder / file)
    other_seed = twin.conf.model_copy(update={"seed": 96})
    write_twin(other_seed, twin.columns, tmp_path / "other")
    assert sha256(tmp_path / "other" / file) != sha256(twin.folder / file)


def test_a_twin_has_the_upstream_file_format(twin):
    assert sorted(twin.raw.columns) == sorted(twin.columns.all)
    assert len(twin.raw) == twin.conf.rows
    if twin.conf.file.endswith(".xlsx"):
        return
    text = (twin.folder / twin.conf.file).read_bytes().decode()
    header = (twin.columns.names is None) + (twin.conf.first_line is not None)
    rows = round((1 - twin.conf.test_share) * twin.conf.rows)
    line_ends = rows + header - (not twin.conf.last_line_end)
    assert text.count("\r\n") == text.count("\n") == line_ends
    assert text.endswith("\n") == twin.conf.last_line_end


def test_the_sheets_of_a_workbook_hold_the_same_rows_in_other_orders(tmp_path):
    draws = {"x": {"draw": "counter"}, "<y>": {"draw": "choice", "levels": {"a&b": 1, "1": 1}}}
    conf = Twin.model_validate(
        {
            "file": "book.xlsx", "sheets": 2, "rows": 17, "seed": 3, "draws": draws,
            "groups": None, "rate": 0.5, "labels": ["no", "yes"], "signal": [],
        }
    )  # fmt: skip
    columns = table_columns(target="z", numeric=["x"], categorical=["<y>"])
    write_twin(conf, columns, tmp_path)
    sheets = []
    for name in ("Sheet1", "Sheet2"):
        sheet = columns.model_copy(update={"sheet": name})
        rows = tabular_rows.repair(tabular_rows.read(tmp_path, sheet), sheet)
        sheets.append(rows.reset_index(drop=True))
    first, second = sheets
    assert first["x"].tolist() == list(range(1, 18)) != second["x"].tolist()
    assert set(first["<y>"]) == {"a&b", "1"}
    pd.testing.assert_frame_equal(first, second.sort_values("x", ignore_index=True))


def test_a_number_as_target_has_the_planted_signal_and_noise():
    block = {"mean": 100.0, "spread": 10.0, "noise": 2.0, "low": 0.0, "high": 200.0, "digits": 3}
    draw = {"draw": "uniform", "low": -1.0, "high": 1.0, "digits": 6}
    conf = Twin.model_validate(
        {
            "file": "x.csv", "rows": 2011, "seed": 3, "draws": {"x": draw}, "groups": None,
            "number": block, **signal_of({"column": "x", "zero": 0.0, "unit": 1.0}),
        }
    )  # fmt: skip
    rows = twin_rows(conf, table_columns(target="y", numeric=["x"]))
    slope, level = np.polyfit(rows["x"] / rows["x"].std(ddof=0), rows["y"], 1)
    assert (slope, level) == (pytest.approx(10, abs=0.3), pytest.approx(100, abs=0.3))
    assert rows["y"].std() == pytest.approx((10**2 + 2**2) ** 0.5, abs=0.3)
    limited = conf.model_copy(update={"number": conf.number.model_copy(update={"high": 101.0})})
    assert twin_rows(limited, table_columns(target="y", numeric=["x"]))["y"].max() == 101
    for changes in ({"rate": 0.5, "labels": [0, 1]}, {"number": None}, {"labels": [0, 1]}):
        with pytest.raises(UsageError, match="expected either `rate` and `labels`, or `number`"):
            check(Twin, {**conf.model_dump(), **changes}, "twin")


def test_a_twin_has_the_distributions_of_its_conf(twin):
    if twin.conf.rate is not None:
        share = (twin.raw[twin.columns.target] == str(twin.conf.labels[1])).mean()
        assert share == pytest.approx(twin.conf.rate, abs=1 / twin.conf.rows)
    for name, draw in twin.conf.draws.items():
        if isinstance(draw, Choice):
            weights = pd.Series(draw.levels) / sum(draw.levels.values())
            # A level that marks a missing value is read as none.
            values = twin.raw[name].astype(object).fillna("?").astype(str)
            shares = values.value_counts(normalize=True)
            assert set(shares.index) <= set(weights.index)
            deviation = np.abs(shares.reindex(weights.index, fill_value=0) - weights)
            assert deviation.max() < 2 / twin.conf.rows**0.5
        elif isinstance(draw, Normal | Uniform):
            numbers = twin.raw[name].astype(float)
            is_inside = numbers.between(draw.low, draw.high) | (numbers == 0)
            assert is_inside.all() or draw.digits == 0


def test_a_twin_gives_usable_parts(twin):
    rows = tabular_rows.repair(twin.raw, twin.columns)
    parts = tabular_rows.split(rows, twin.columns, twin.split)
    tabular_rows.check_parts(parts, twin.columns)
    if twin.columns.key:
        assert twin.raw[twin.columns.key].is_unique


@pytest.mark.slow
@pytest.mark.parametrize("dataset", TWINS)
def test_a_linear_model_cannot_fit_the_planted_signal(dataset, tmp_path_factory):
    """Gradient boosting is better by two points, or by a tenth of the RMSE.

    What a net adds to it is tested with the net.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    conf, columns, split = conf_of(dataset)
    is_number = conf.number is not None
    if not is_number and dataset not in CLASSIFIED:
        pytest.skip("no model predicts its labels")
    if dataset == "credit_applications":
        pytest.skip("as in the real table, where trees are level with a linear model")
    raw = tabular_rows.read(twins.raw(dataset, tmp_path_factory), columns)
    parts = tabular_rows.split(tabular_rows.repair(raw, columns), columns, split)
    encoder = Encoder.fit(parts["train"], columns)
    x = {}
    labels = {}
    for part, part_rows in parts.items():
        batch = encoder.encode(part_rows)
        x[part] = np.hstack([batch.numeric.numpy(), batch.categories.numpy()])
        labels[part] = part_rows[columns.target].to_numpy()
    if is_number:
        trees = HistGradientBoostingRegressor(random_state=0).fit(x["train"], labels["train"])
        fit = plugins.task("regression").baselines("tabular")["linear"]
        linear = fit(parts["train"], columns, encoder=encoder, val=parts["val"])
        errors = linear(parts["test"])["prediction"].to_numpy() - labels["test"]
        tree_errors = trees.predict(x["test"]) - labels["test"]
        assert np.square(tree_errors).mean() < 0.9**2 * np.square(errors).mean()
        return
    boosting = HistGradientBoostingClassifier(max_iter=50, random_state=0)
    boosting.fit(x["train"], labels["train"])
    fit = plugins.task("classification").baselines("tabular")["logistic_regression"]
    logistic_regression = fit(parts["train"], columns, encoder=encoder)
    predictions = logistic_regression(parts["test"])["prediction"].to_numpy()
    linear_accuracy = (predictions == labels["test"]).mean()
    assert boosting.score(x["test"], labels["test"]) - linear_accuracy > 0.02


def signal_of(*factors: dict[str, object]) -> dict[str, object]:
    return {"signal": [{"weight": 1.0, "factors": list(factors)}]}


def draw_of(**draw: object) -> dict[str, object]:
    return {"draws": {"x": draw}}


@cases.each(
    ("changes", "message"),
    [
        (
            {"rows": 10**9},
            "has too few values between low and high for 1,000,000,000 rows; widen the range",
        ),
        (
            signal_of({"column": "puppies", "zero": 0.0, "unit": 1.0}),
            "`signal` depends on `puppies`; the columns drawn are ",
        ),
        (signal_of(), "1 or more entries"),
        (draw_of(draw="puppies"), "does not match any of the expected tags"),
        (
            draw_of(draw="uniform", low=0.0, hihg=1.0, digits=0),
            "unknown key .*hihg`; .*`high`",
        ),
        ({"rate": 1.0, "number": None}, "`rate` is 1.0; input should be less than 1"),
        ({"labels": [0]}, "`labels` is .*; expected 2 or more entries"),
    ],
)
@cases.each("dataset", TWINS)
def test_a_twin_that_cannot_be_drawn_is_refused(dataset, changes, message):
    block = TABLES[dataset]["twin"]
    kinds_of_draw = {draw["draw"] for draw in block["draws"].values()}
    if "rows" in changes and "unique" not in kinds_of_draw:
        pytest.skip("draws no unique column")
    with pytest.raises(UsageError, match=message):
        check(Twin, {**block, **changes}, "twin")


def test_a_sum_follows_other_columns_and_the_last_rows_are_a_file_of_their_own(tmp_path):
    normal = {"draw": "normal", "mean": 3.0, "sd": 2.0, "skew": 0.0, "low": -9.0, "high": 9.0}
    x = {**normal, "digits": 6, "zeros": None}
    bend = [
        {"weight": 2.0, "factors": [{"column": "x", "zero": 1.0, "unit": 1.0}]},
        {"weight": 5.0, "factors": [{"column": "x", "center": 3.0, "width": 1.0}]},
    ]
    y = {"draw": "sum", "mean": 7.0, "terms": bend, "noise": 0.1, "digits": 6}
    block = {
        "file": "a.txt", "test_file": "b.txt", "test_share": 0.1134, "first_line": "#t y x",
        "rows": 97, "seed": 0, "groups": None, "signal": [],
        "draws": {"x": x, "y": y},
        "rate": 0.5, "labels": [0, 1],
    }  # fmt: skip
    columns = Columns(
        delimiter="blanks", comment="#", names=["t", "y", "x"], target="t", numeric=["x", "y"],
        test_files=["b.txt"],
    )  # fmt: skip
    write_twin(check(Twin, block, "twin"), columns, tmp_path)
    assert (tmp_path / "a.txt").read_text().startswith("#t y x\n")
    raw = tabular_rows.read(tmp_path, columns)
    assert tabular_rows.is_test(raw, columns).sum() == 11 and len(raw) == 97
    rows = tabular_rows.repair(raw, columns)
    expected = 7 + 2 * (rows["x"] - 1) + 5 * np.exp(-((rows["x"] - 3) ** 2))
    assert 0.07 < (rows["y"] - expected).std() < 0.13
    first = {"draws": {"y": y, "x": x}}
    with pytest.raises(UsageError, match="`y` depends on `x`; the columns drawn are"):
        check(Twin, {**block, **first}, "twin")


# --- errors of measurement ----------------------------------------------------------------------


def test_errors_are_numbers_and_no_features():
    """They are kept with the rows, in the unit of the standardised numbers; answers need none."""
    columns = COLUMNS.model_copy(update={"errors": {"weight": "dw"}})
    rows = animal_table(97).assign(dw=np.arange(97) / 10)
    rows.loc[3, "dw"] = None
    repaired = tabular_rows.repair(rows, columns)
    assert repaired["dw"].dtype == np.float64
    encoder = Encoder.fit(repaired, columns)
    assert encoder.sizes == Encoder.fit(repaired, COLUMNS).sizes
    batch = encoder.encode(repaired)
    plain = Encoder.fit(repaired, COLUMNS).encode(repaired)
    assert type(plain) is Batch and type(batch) is MeasuredBatch
    assert torch.equal(batch.numeric, plain.numeric) and len(batch) == len(plain) + 1
    expected = repaired["dw"].fillna(0) / repaired["weight"].std(ddof=0)
    assert batch.errors[:, 1].tolist() == pytest.approx(expected.tolist())
    assert not batch.errors[:, 0].any()
    asked = encoder.check(rows.drop(columns=["dw", "class"]))
    assert not encoder.encode(asked).errors.any()
    with pytest.raises(DataError, match="'heavy' in `dw`; expected a finite number"):
        tabular_rows.repair(rows.assign(dw="heavy"), columns)


def test_zeros_depend_on_a_column_that_is_drawn_before():
    x = {
        "draw": "normal", "mean": 0.0, "sd": 1.0, "skew": 0.0, "low": -1.0, "high": 1.0,
        "digits": 2, "zeros": {"column": "y", "shares": {"a": 1.0}},
    }  # fmt: skip
    y = {"draw": "choice", "levels": {"a": 1}}
    block = {
        "file": "x.csv", "last_line_end": True, "rows": 7, "seed": 0, "draws": {"x": x, "y": y},
        "groups": None, "rate": 0.5, "labels": [0, 1], "signal": [],
    }  # fmt: skip
    message = "the zeros of `x` depend on `y`; draw that column before it"
    with pytest.raises(UsageError, match=message):
        check(Twin, block, "twin")
    assert check(Twin, {**block, "draws": {"y": y, "x": x}}, "twin").draws


# --- the bank's table: its twin and, where it is available, the real one ------------------------

BANK = "churn"


@pytest.fixture(scope="module", params=["twin", "real"])
def bank(request, tmp_path_factory) -> pd.DataFrame:
    _, columns, _ = conf_of(BANK)
    if request.param == "real":
        if not MIRROR:
            pytest.skip("needs the real table under SEXTANT_MIRROR")
        path = TABLES[BANK]["sources"]["mirror"][0]["path"]
        raw = tabular_rows.read_rows(Path(MIRROR, path), columns)
        return tabular_rows.repair(raw, columns)
    folder = twins.raw(BANK, tmp_path_factory)
    return tabular_rows.repair(tabular_rows.read(folder, columns), columns)


def test_the_quirks_of_the_bank(bank):
    assert len(bank) == 10_000
    assert (bank["Exited"] == "1").sum() == 2037
    assert bank["RowNumber"].tolist() == [str(number) for number in range(1, 10_001)]
    assert bank["CustomerId"].is_unique
    assert not bank.isna().any().any()
    assert (bank.loc[bank["Geography"] == "Germany", "Balance"] > 0).all()
    assert (bank["Balance"] == 0).mean() == pytest.approx(0.3617, abs=0.015)
    assert (bank.loc[bank["NumOfProducts"] == "4", "Exited"] == "1").all()
    assert bank["Surname"].str.contains("?", regex=False).any()
    assert bank["EstimatedSalary"].min() < 100
    exit_rate = bank["Exited"].astype(int).groupby(bank["Geography"]).mean()
    assert exit_rate["Germany"] > 1.3 * exit_rate["France"]
    assert exit_rate["Germany"] > 1.3 * exit_rate["Spain"]
