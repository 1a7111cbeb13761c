"""Tables: read, repaired, split, encoded; their twins; the quirks of the bank's table."""

import itertools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from builders import ANIMAL_COLUMNS, MIRROR, animal_table, hash_split, table_columns, with_gaps
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant import plugins
from sextant.errors import DataError, UsageError
from sextant.files import sha256
from sextant.kinds.parts import PARTS
from sextant.kinds.splits import HashSplit
from sextant.kinds.tabular import rows as tabular_rows
from sextant.kinds.tabular.columns import Columns
from sextant.kinds.tabular.encoder import UNSEEN, Encoder, type_of_levels
from sextant.kinds.tabular.twin import Choice, Normal, Twin, Uniform, write_twin
from sextant.strict import check

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
TABLES = {}
for dataset, kind in PARAMS["datasets"].items():
    if kind == "tabular":
        TABLES[dataset] = yaml.safe_load((ROOT / f"conf/dataset/{dataset}.yaml").read_text())
TWINS = [dataset for dataset, conf in TABLES.items() if conf["twin"] is not None]
MODELS = PARAMS["models"].values()
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
@settings(max_examples=30)
def test_the_part_of_a_row_depends_on_that_row_alone(rows):
    """Neither growing nor sorting a table moves a row, even where it changes a column's type."""
    alone = {}
    for tag, row in enumerate(rows):
        alone |= part_by_tag(ab_table([row]).assign(tag=tag), AB_KEYED, QUARTERS)
    together = part_by_tag(ab_table(rows).assign(tag=range(len(rows))), AB_KEYED, QUARTERS)
    assert together == alone


@given(rows=rows_of_cells)
@settings(max_examples=30)
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


def call_every_row_a_cat(parts: Parts) -> None:
    for part, rows in parts.items():
        parts[part] = rows.assign(**{"class": "cat"})


@pytest.mark.parametrize(
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
    ],
    ids=["key in two parts", "empty part", "missing class", "one class"],
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


def test_a_file_is_read_with_and_without_a_header(tmp_path):
    rows = animal_table(13)
    with_header = tabular_rows.read(write_csv(rows, tmp_path / "with"), COLUMNS)
    pd.testing.assert_frame_equal(with_header, rows.assign(note=np.nan), check_dtype=False)
    columns = COLUMNS.model_copy(update={"names": list(rows.columns), "delimiter": "|"})
    folder = write_csv(rows, tmp_path / "without", header=False, sep="|")
    pd.testing.assert_frame_equal(tabular_rows.read(folder, columns), with_header)


def test_all_files_of_the_folder_but_the_receipt_are_read(tmp_path):
    folder = write_csv(animal_table(13), tmp_path)
    animal_table(17, seed=1).to_csv(folder / "more.csv", index=False)
    (folder / "source.json").write_text("{}")
    assert len(tabular_rows.read(folder, COLUMNS)) == 30


def test_only_the_empty_cell_and_the_mark_are_missing_values(tmp_path):
    rows = animal_table(7).assign(colour=["NA", "null", "?", "", "nan", "None", "red"])
    columns = COLUMNS.model_copy(update={"unknown": "?"})
    read = tabular_rows.read(write_csv(rows, tmp_path), columns)
    assert read["colour"].isna().tolist() == [False, False, True, True, False, False, False]


HEADER = "id,note,height,weight,colour,shoes,class\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table.csv is empty; expected a table with id, note, height"),
        (
            "id;note;height\n1;;2\n",
            r"table.csv lacks column id, note, .*; found id;note;height; correct the file, or",
        ),
        (
            HEADER.replace("class", "klass"),
            "lacks column class; found id, note, height, .*, klass; correct the file, or use",
        ),
        (f"{HEADER}1,,2,3,4,5,6\n1,,2,3,4,5,6,7\n", "is not a table with delimiter ','"),
        (f'{HEADER}"1,,2,3,4,5,6\n', "is not a table with delimiter ','"),
        ("id\xff,note\n", "is not a table with delimiter ','.*utf-8"),
    ],
    ids=["empty", "delimiter", "renamed", "long row", "open quote", "encoding"],
)
def test_a_file_that_is_not_such_a_table_is_refused(tmp_path, text, message):
    (tmp_path / "table.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        tabular_rows.read(tmp_path, COLUMNS)


def test_rows_longer_than_the_names_are_refused_and_not_cut(tmp_path):
    (tmp_path / "table.csv").write_text("1,2,3\n4,5,6\n")
    columns = table_columns(target="b", numeric=["a"]).model_copy(update={"names": ["a", "b"]})
    with pytest.raises(DataError, match="Length of header or names does not match length of data"):
        tabular_rows.read(tmp_path, columns)


def test_a_folder_without_files_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=f"{folder} has no files; run `make pull`"):
            tabular_rows.read(folder, COLUMNS)


@pytest.mark.parametrize("cell", ["tall", "1,7", "inf", "-inf", "nan", "1.7m"])
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
    message = "3 rows have no `class`; label them, or remove them from the file"
    with pytest.raises(DataError, match=message):
        tabular_rows.repair(rows, COLUMNS)


def test_repair_keeps_columns_and_values_and_does_not_change_its_argument():
    rows = animal_table()
    before = rows.copy()
    repaired = tabular_rows.repair(rows.assign(surplus=1), COLUMNS)
    pd.testing.assert_frame_equal(repaired, rows, check_dtype=False)
    pd.testing.assert_frame_equal(rows, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"numeric": ["height", "class"]},
            "`class` is named twice; a column is key, target, ignored, numeric or",
        ),
        ({"categorical": ["colour", "height"]}, "`height` is named twice"),
        ({"names": ["id"]}, "`note` is not among `names`; list all columns of the file in `names`"),
        ({"delimiter": ", "}, "`delimiter` is ', '; string should have at most 1 character"),
        ({"colour": []}, "unknown key `colour`"),
    ],
)
def test_contradictory_columns_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        check(Columns, {**COLUMNS.model_dump(), **changes}, "columns")


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


def test_a_constant_number_is_encoded_as_0():
    rows = animal_table().assign(height=170.0)
    assert (Encoder.fit(rows, COLUMNS).encode(rows).numeric[:, 0] == 0).all()


@pytest.mark.parametrize("name", COLUMNS.features)
def test_a_feature_without_any_value_is_refused(name):
    rows = animal_table().assign(**{name: None})
    message = f"no training row has a value in `{name}`; remove it from `columns` in the conf"
    with pytest.raises(DataError, match=message):
        Encoder.fit(rows, COLUMNS)


@pytest.mark.parametrize("dtype", ["int64", "int8", "float64", "float32", "str", "category"])
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


def test_an_unseen_category_has_code_0_and_a_warning():
    rows = animal_table()
    encoder = Encoder.fit(rows, COLUMNS)
    inputs = rows.head(3).assign(colour=["mauve", "red", "puce"])
    message = "`colour` has mauve, puce, which training did not have"
    with pytest.warns(UserWarning, match=message) as caught:
        checked = encoder.check(inputs)
    assert caught[0].filename == __file__
    is_unseen = encoder.encode(checked).categories[:, 0] == UNSEEN
    assert is_unseen.tolist() == [True, False, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.check(rows)


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
            "missing column height; surplus column hight; expected",
        ),
        (
            lambda rows: rows.assign(extra=1),
            "surplus column extra; expected height, weight, colour, shoes; name the columns",
        ),
        (lambda rows: rows.head(0), "no rows to answer; give at least one"),
        (set_in_row_5("height", np.nan), "row 5 has no `height`; expected a number; correct"),
        (set_in_row_5("height", np.inf), "row 5 has inf in `height`; expected a finite number"),
        (set_in_row_5("height", -np.inf), "row 5 has -inf in `height`; expected a finite number"),
        (
            lambda rows: rows.assign(height=rows["height"].astype(str) + "cm"),
            r"row 1 has '[\d.]+cm' in `height`; expected a finite number",
        ),
        (
            set_in_row_5("colour", None),
            "row 5 has no `colour`; expected one of blue, green, red; correct the row",
        ),
    ],
    ids=["missing", "renamed", "surplus", "none", "NaN", "inf", "-inf", "text", "no category"],
)
def test_input_rows_that_cannot_be_answered_are_refused(damage, message):
    encoder = Encoder.fit(animal_table(), COLUMNS)
    with pytest.raises(DataError, match=message):
        encoder.check(damage(animal_table(13)))


def test_a_column_with_gaps_in_training_may_have_gaps_in_inputs():
    encoder = Encoder.fit(tabular_rows.repair(with_gaps(animal_table()), COLUMNS), COLUMNS)
    inputs = encoder.check(with_gaps(animal_table(13)))
    assert inputs["height"].isna().sum() == 3
    with pytest.raises(DataError, match="row 1 has no `weight`; expected a number"):
        encoder.check(animal_table(13).assign(weight=None))


def test_the_example_and_every_input_have_the_types_of_the_schema(rows):
    encoder = Encoder.fit(rows, COLUMNS)
    schema = encoder.schema()
    assert [name for name, _, _ in schema] == COLUMNS.features
    numpy_kinds = {"double": "f", "long": "i", "string": "O"}
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


@pytest.mark.parametrize(
    ("levels", "mlflow_type"),
    [
        (["1", "2"], "long"),
        (["-1", "0"], "long"),
        (["1", None], "double"),
        (["a"], "string"),
        (["01", "2"], "string"),
        (["1.5"], "string"),
        (["²"], "string"),
        (["-"], "string"),
        ([""], "string"),
    ],
)
def test_the_mlflow_type_of_a_category(levels, mlflow_type):
    assert type_of_levels(levels) == mlflow_type


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
    pd.testing.assert_frame_equal(tabular_rows.read_rows(path, COLUMNS), rows, check_dtype=False)
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


@pytest.fixture(scope="module", params=TWINS)
def twin(request, tmp_path_factory) -> SimpleNamespace:
    """A twin as pull writes it, and its rows."""
    conf, columns, split = conf_of(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    write_twin(conf, columns, folder)
    raw = tabular_rows.read(folder, columns)
    return SimpleNamespace(
        name=request.param, conf=conf, columns=columns, split=split, folder=folder, raw=raw
    )


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
    text = (twin.folder / twin.conf.file).read_bytes().decode()
    line_ends = twin.conf.rows + (twin.columns.names is None) - (not twin.conf.last_line_end)
    assert text.count("\r\n") == text.count("\n") == line_ends
    assert text.endswith("\n") == twin.conf.last_line_end
    assert sorted(twin.raw.columns) == sorted(twin.columns.all)
    assert len(twin.raw) == twin.conf.rows


def test_a_twin_has_the_distributions_of_its_conf(twin):
    share = (twin.raw[twin.columns.target] == twin.conf.labels[1]).mean()
    assert share == pytest.approx(twin.conf.rate, abs=1 / twin.conf.rows)
    for name, draw in twin.conf.draws.items():
        if isinstance(draw, Choice):
            weights = pd.Series(draw.levels) / sum(draw.levels.values())
            shares = twin.raw[name].astype(str).value_counts(normalize=True)
            assert set(shares.index) <= set(weights.index)
            deviation = np.abs(shares.reindex(weights.index, fill_value=0) - weights)
            assert deviation.max() < 2 / twin.conf.rows**0.5
        elif isinstance(draw, Normal | Uniform):
            is_inside = twin.raw[name].between(draw.low, draw.high) | (twin.raw[name] == 0)
            assert is_inside.all() or draw.digits == 0


def test_a_twin_gives_usable_parts(twin):
    rows = tabular_rows.repair(twin.raw, twin.columns)
    parts = tabular_rows.split(rows, twin.columns, twin.split)
    tabular_rows.check_parts(parts, twin.columns)
    if twin.columns.key:
        assert twin.raw[twin.columns.key].is_unique


@pytest.mark.slow
def test_a_linear_model_cannot_fit_the_planted_signal(twin):
    """A net needs room above the strongest baseline: gradient boosting is better by two points."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if twin.name not in CLASSIFIED:
        pytest.skip("no model predicts its labels")
    rows = tabular_rows.repair(twin.raw, twin.columns)
    parts = tabular_rows.split(rows, twin.columns, twin.split)
    encoder = Encoder.fit(parts["train"], twin.columns)
    x = {}
    labels = {}
    for part, part_rows in parts.items():
        batch = encoder.encode(part_rows)
        x[part] = np.hstack([batch.numeric.numpy(), batch.categories.numpy()])
        labels[part] = part_rows[twin.columns.target].to_numpy()
    boosting = HistGradientBoostingClassifier(max_iter=50, random_state=0)
    boosting.fit(x["train"], labels["train"])
    fit = plugins.task("classification").baselines("tabular")["logistic_regression"]
    logistic_regression = fit(parts["train"], twin.columns, encoder=encoder)
    predictions = logistic_regression(parts["test"])["prediction"].to_numpy()
    linear_accuracy = (predictions == labels["test"]).mean()
    assert boosting.score(x["test"], labels["test"]) - linear_accuracy > 0.02


def signal_of(*factors: dict[str, object]) -> dict[str, object]:
    return {"signal": [{"weight": 1.0, "factors": list(factors)}]}


def draw_of(**draw: object) -> dict[str, object]:
    return {"draws": {"x": draw}}


@pytest.mark.parametrize(
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
        (signal_of(), "should have at least 1 item"),
        (draw_of(draw="puppies"), "does not match any of the expected tags"),
        (
            draw_of(draw="uniform", low=0.0, hihg=1.0, digits=0),
            "unknown key .*hihg`; .*`high`",
        ),
        ({"rate": 1.0}, "`rate` is 1.0; input should be less than 1"),
        ({"labels": [0]}, "`labels` is .*; list should have at least 2 items"),
    ],
)
@pytest.mark.parametrize("dataset", TWINS)
def test_a_twin_that_cannot_be_drawn_is_refused(dataset, changes, message):
    block = TABLES[dataset]["twin"]
    kinds_of_draw = {draw["draw"] for draw in block["draws"].values()}
    if "rows" in changes and "unique" not in kinds_of_draw:
        pytest.skip("draws no unique column")
    with pytest.raises(UsageError, match=message):
        check(Twin, {**block, **changes}, "twin")


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
    conf, columns, _ = conf_of(BANK)
    if request.param == "real":
        if not MIRROR:
            pytest.skip("needs the real table under SEXTANT_MIRROR")
        path = TABLES[BANK]["sources"]["mirror"][0]["path"]
        return tabular_rows.read_rows(Path(MIRROR, path), columns)
    folder = tmp_path_factory.mktemp("bank")
    write_twin(conf, columns, folder)
    return tabular_rows.read(folder, columns)


def test_the_quirks_of_the_bank(bank):
    assert len(bank) == 10_000
    assert bank["Exited"].sum() == 2037
    assert bank["RowNumber"].tolist() == list(range(1, 10_001))
    assert bank["CustomerId"].is_unique
    assert not bank.isna().any().any()
    assert (bank.loc[bank["Geography"] == "Germany", "Balance"] > 0).all()
    assert (bank["Balance"] == 0).mean() == pytest.approx(0.3617, abs=0.015)
    assert bank.loc[bank["NumOfProducts"] == 4, "Exited"].all()
    assert bank["Surname"].str.contains("?", regex=False).any()
    assert bank["EstimatedSalary"].min() < 100
    exit_rate = bank.groupby("Geography")["Exited"].mean()
    assert exit_rate["Germany"] > 1.3 * exit_rate["France"]
    assert exit_rate["Germany"] > 1.3 * exit_rate["Spain"]
