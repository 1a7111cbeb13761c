"""Tables: a row's part is a matter of that row alone; what was learnt travels as JSON; what cannot be is refused."""

import itertools
import json
import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant import plugins
from sextant.errors import DataError, UsageError
from sextant.files import sha256
from sextant.kinds.parts import PARTS
from sextant.kinds.splits import HashSplit, Shares
from sextant.kinds.tabular import rows as tabular_rows
from sextant.kinds.tabular.columns import Columns
from sextant.kinds.tabular.encoder import UNSEEN, Encoder, type_of_levels
from sextant.kinds.tabular.twin import Choice, Normal, Twin, Uniform, write_twin
from sextant.strict import check

ROOT = Path(__file__).parents[2]
MIRROR = os.environ.get("SEXTANT_MIRROR")  # read before the tests' environment is cleared of it
CONFS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "conf/dataset").glob("*.yaml"))
}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
TABLES = {name: CONFS[name] for name, kind in PARAMS["datasets"].items() if kind == "tabular"}
CLASSIFIED = {
    line["dataset"] for line in PARAMS["models"].values() if line["task"] == "classification"
}
TWINS = [name for name, conf in TABLES.items() if conf["twin"] is not None]

COLUMNS = Columns(
    names=None,
    delimiter=",",
    unknown=None,
    key="id",
    target="class",
    ignored=["note"],
    numeric=["height", "weight"],
    categorical=["colour", "shoes"],
)
KEYLESS = COLUMNS.model_copy(update={"key": None, "ignored": []})


def by_hash(**shares: float) -> HashSplit:
    return HashSplit(by="hash", salt=0, shares=Shares(**shares))


SPLIT = by_hash(train=0.6, val=0.1, gate=0.1, test=0.2)


def table(rows: int = 211, seed: int = 7) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": np.arange(1009, 1009 + rows),
            "note": "",
            "height": rng.normal(170, 11, rows).round(1),
            "colour": rng.choice(["red", "green", "blue"], rows),
            "weight": rng.integers(40, 97, rows),
            "shoes": rng.integers(36, 47, rows),
            "class": rng.choice(["cat", "dog"], rows),
        }
    )


def written(frame: pd.DataFrame, folder: Path, **how: Any) -> Path:
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / "table.csv", index=False, **how)
    return folder


def part_of(
    rows: pd.DataFrame, columns: Columns = COLUMNS, split: HashSplit = SPLIT
) -> dict[Any, str]:
    """The part in which each row, known by `tag`, lies."""
    parts = tabular_rows.split(rows, columns, split)
    return {tag: name for name, part in parts.items() for tag in part["tag"]}


# --- the split --------------------------------------------------------------------------------------------------------

cells = st.one_of(
    st.none(),
    st.integers(-1000, 1000),
    st.floats(-1e6, 1e6),
    st.sampled_from(["a", "b c", "é", "", "1"]),
)
rows_of_cells = st.lists(st.tuples(cells, cells), min_size=1, max_size=13)


def frame(rows: list[tuple[Any, Any]]) -> pd.DataFrame:
    """Columns as pandas makes them: their type is a matter of all their cells together."""
    return pd.DataFrame(
        {name: pd.Series([row[i] for row in rows]) for i, name in enumerate(("a", "b"))}
    )


AB = Columns(
    names=None,
    delimiter=",",
    unknown=None,
    key=None,
    target="b",
    ignored=[],
    numeric=[],
    categorical=["a"],
)


QUARTERS = by_hash(train=0.25, val=0.25, gate=0.25, test=0.25)


@given(rows=rows_of_cells)
@settings(max_examples=60)
def test_a_row_lies_where_it_lies_alone(rows):
    """So neither growing nor sorting a table moves a row, even where it changes the types of whole columns."""
    keyed = AB.model_copy(update={"key": "a"})
    alone = [
        part_of(frame([row]).assign(tag=tag), keyed, QUARTERS)[tag] for tag, row in enumerate(rows)
    ]
    assert part_of(frame(rows).assign(tag=range(len(rows))), keyed, QUARTERS) == dict(
        enumerate(alone)
    )


@given(rows=rows_of_cells)
@settings(max_examples=60)
def test_a_row_without_a_key_lies_where_it_lies_alone(rows):
    alone = [tabular_rows.split(frame([row]), AB, QUARTERS) for row in rows]
    together = tabular_rows.split(frame(rows), AB, QUARTERS)
    assert {name: len(part) for name, part in together.items()} == {
        name: sum(len(parts[name]) for parts in alone) for name in PARTS
    }


@pytest.mark.parametrize("columns", [COLUMNS, KEYLESS], ids=["keyed", "keyless"])
def test_every_row_lies_in_exactly_one_part(columns):
    rows = table().drop(columns=[] if columns.key else ["id", "note"])
    parts = tabular_rows.split(rows, columns, SPLIT)
    assert list(parts) == list(PARTS)
    order = list(rows.columns)
    together = pd.concat(parts.values()).sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(together, rows.sort_values(order, ignore_index=True))


def test_the_shares_are_approached():
    parts = tabular_rows.split(table(rows=20011), COLUMNS, SPLIT)
    for name, share in SPLIT.shares.model_dump().items():
        deviation = (share * (1 - share) / 20011) ** 0.5
        assert len(parts[name]) / 20011 == pytest.approx(share, abs=4 * deviation)


def test_a_key_decides_and_nothing_else_of_the_row():
    rows = table().assign(tag=range(211))
    other = rows.assign(height=0.0, colour="mauve", **{"class": "cow"})
    assert part_of(rows) == part_of(other)


def test_without_a_key_equal_rows_lie_together():
    rows = (
        pd.concat([table()] * 3, ignore_index=True)
        .drop(columns=["id", "note"])
        .assign(tag=[*range(211)] * 3)
    )
    parts = tabular_rows.split(rows, KEYLESS, SPLIT)
    assert all(len(part) == 3 * part["tag"].nunique() for part in parts.values())


def test_the_salt_deals_anew():
    rows = table().assign(tag=range(211))
    assert part_of(rows) != part_of(rows, split=SPLIT.model_copy(update={"salt": 1}))


def test_a_larger_share_of_train_only_adds_to_train():
    rows = table(997).assign(tag=range(997))
    for cut in itertools.pairwise((0.1, 0.3, 0.5, 0.7)):
        small, large = (
            part_of(rows, split=by_hash(train=c, val=0.9 - c, gate=0.05, test=0.05)) for c in cut
        )
        assert {tag for tag, part in small.items() if part == "train"} < {
            t for t, p in large.items() if p == "train"
        }


def test_a_share_of_nothing_gets_nothing():
    parts = tabular_rows.split(table(), COLUMNS, by_hash(train=0.8, val=0.1, gate=0.1, test=0.0))
    assert len(parts["test"]) == 0 and sum(map(len, parts.values())) == 211


def test_the_parts_do_not_depend_on_the_machine():
    """By hand: `printf 0:1009 | sha256sum` begins with b7, so 1009 lies at 0xb7 / 0x100 = 0.71, in gate's 0.7..0.8."""
    parts = tabular_rows.split(table(rows=3), COLUMNS, SPLIT)
    assert {name: part["id"].tolist() for name, part in parts.items()} == {
        "train": [1011],  # 38
        "val": [],
        "gate": [1009],  # b7
        "test": [1010],  # f0
    }


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            lambda parts: parts["val"].update(parts["train"].head(1)),
            r"key 1\d\d\d is in the parts train and val; expected each key in one part only",
        ),
        (
            lambda parts: parts.update(gate=parts["gate"].iloc[:0]),
            r"part gate \(0 rows\) has no row of class cat, dog",
        ),
        (
            lambda parts: parts.update(val=parts["val"][parts["val"]["class"] == "cat"]),
            r"part val \(\d+ rows\) has no row of class dog of `class`; add rows of it, or change `split`",
        ),
        (
            lambda parts: parts.update(
                {name: part.assign(**{"class": "cat"}) for name, part in parts.items()}
            ),
            "`class` is cat in every row; expected two classes; add rows",
        ),
    ],
    ids=["key in two parts", "empty part", "missing class", "one class"],
)
def test_parts_that_cannot_be_learnt_from(damage, says):
    parts = tabular_rows.split(table(), COLUMNS, SPLIT)
    tabular_rows.check_parts(parts, COLUMNS)
    damage(parts)
    with pytest.raises(DataError, match=says):
        tabular_rows.check_parts(parts, COLUMNS)


def test_a_part_comes_back_as_it_was_written(tmp_path):
    rows = tabular_rows.repair(
        table().assign(colour=lambda t: t["colour"].where(t["colour"] != "red")), COLUMNS
    )
    tabular_rows.write(rows, tmp_path / "train")
    first = sha256(tmp_path / "train.parquet")
    again = tabular_rows.load(tmp_path / "train")
    assert again["colour"].isna().any() and (again["colour"].isna() == rows["colour"].isna()).all()
    pd.testing.assert_frame_equal(again.fillna("none"), rows.fillna("none"), check_dtype=False)
    tabular_rows.write(rows, tmp_path / "train")
    assert sha256(tmp_path / "train.parquet") == first


# --- reading and repairing --------------------------------------------------------------------------------------------


def test_a_file_with_and_without_a_header(tmp_path):
    rows = table(13)
    read = tabular_rows.read(written(rows, tmp_path / "with"), COLUMNS)
    pd.testing.assert_frame_equal(read, rows.assign(note=np.nan), check_dtype=False)
    columns = COLUMNS.model_copy(update={"names": list(rows.columns), "delimiter": "|"})
    without = written(rows, tmp_path / "without", header=False, sep="|")
    pd.testing.assert_frame_equal(tabular_rows.read(without, columns), read)


def test_all_files_of_the_folder_but_the_receipt_are_one_table(tmp_path):
    folder = written(table(13), tmp_path)
    table(17, seed=1).to_csv(folder / "more.csv", index=False)
    (folder / "source.json").write_text("{}")
    assert len(tabular_rows.read(folder, COLUMNS)) == 30


def test_only_the_empty_cell_and_the_mark_are_missing(tmp_path):
    rows = table(7).assign(colour=["NA", "null", "?", "", "nan", "None", "red"])
    read = tabular_rows.read(written(rows, tmp_path), COLUMNS.model_copy(update={"unknown": "?"}))
    assert read["colour"].isna().tolist() == [False, False, True, True, False, False, False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "table.csv is empty; expected a table with id, note, height"),
        (
            "id;note;height\n1;;2\n",
            r"table.csv lacks column id, note, .*; found id;note;height; correct the file, or change",
        ),
        (
            "id,note,height,weight,colour,shoes,klass\n",
            "lacks column class; found id, note, height, .*, klass;",
        ),
        (
            "id,note,height,weight,colour,shoes,class\n1,,2,3,4,5,6\n1,,2,3,4,5,6,7\n",
            "is not a table with delimiter ','",
        ),
        (
            'id,note,height,weight,colour,shoes,class\n"1,,2,3,4,5,6\n',
            "is not a table with delimiter ','",
        ),
        ("id\xff,note\n", "is not a table with delimiter ','.*utf-8"),
    ],
    ids=["empty", "delimiter", "renamed", "long row", "open quote", "encoding"],
)
def test_what_is_no_such_table(tmp_path, text, says):
    (tmp_path / "table.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=says):
        tabular_rows.read(tmp_path, COLUMNS)


def test_rows_longer_than_the_names_are_refused_and_not_cut(tmp_path):
    (tmp_path / "table.csv").write_text("1,2,3\n4,5,6\n")
    columns = Columns(
        names=["a", "b"],
        delimiter=",",
        unknown=None,
        key=None,
        target="b",
        ignored=[],
        numeric=["a"],
        categorical=[],
    )
    with pytest.raises(DataError, match="Length of header or names does not match length of data"):
        tabular_rows.read(tmp_path, columns)


def test_a_folder_without_a_file(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=f"{folder} has no files; run `make pull`"):
            tabular_rows.read(folder, COLUMNS)


@pytest.mark.parametrize("word", ["tall", "1,7", "inf", "-inf", "nan", "1.7m"])
def test_letters_and_infinity_in_a_number(word):
    rows = table(13)
    rows["height"] = rows["height"].astype(object)
    rows.loc[4, "height"] = word
    with pytest.raises(
        DataError,
        match=f"row 5 has '{word}' in `height`; expected a finite number; correct the row",
    ):
        tabular_rows.repair(rows, COLUMNS)


def test_a_row_without_a_label():
    rows = table(13)
    rows.loc[4:6, "class"] = None
    with pytest.raises(
        DataError, match="3 rows have no `class`; label them, or remove them from the file"
    ):
        tabular_rows.repair(rows, COLUMNS)


def test_repair_leaves_columns_values_and_its_argument_as_they_are():
    rows = table()
    before = rows.copy()
    repaired = tabular_rows.repair(rows.assign(surplus=1), COLUMNS)
    pd.testing.assert_frame_equal(repaired, rows, check_dtype=False)
    pd.testing.assert_frame_equal(rows, before)


@pytest.mark.parametrize(
    ("columns", "says"),
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
def test_columns_that_cannot_be(columns, says):
    with pytest.raises(UsageError, match=says):
        check(Columns, {**COLUMNS.model_dump(), **columns}, "columns")


# --- the encoder ------------------------------------------------------------------------------------------------------


def gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """Every fifth number and every third category is missing."""
    n = np.arange(len(rows))
    return rows.assign(
        height=rows["height"].where(n % 5 != 0), colour=rows["colour"].where(n % 3 != 0)
    )


@pytest.fixture(params=[False, True], ids=["full", "gaps"])
def rows(request) -> pd.DataFrame:
    return tabular_rows.repair(gaps(table()) if request.param else table(), COLUMNS)


def test_what_was_learnt_comes_back_from_json(rows):
    encoder = Encoder.fit(rows, COLUMNS)
    state = json.loads(json.dumps(encoder.state(), allow_nan=False))
    again = Encoder.from_state(state, COLUMNS)
    assert again.state() == encoder.state() and again.sizes == encoder.sizes
    for ours, theirs in zip(encoder.encode(rows), again.encode(rows), strict=True):
        assert torch.equal(ours, theirs)


def test_train_is_standardised_and_every_level_has_a_code(rows):
    encoder = Encoder.fit(rows, COLUMNS)
    batch = encoder.encode(rows)
    assert (batch.numeric.dtype, batch.categories.dtype, batch.target.dtype) == (
        torch.float32,
        torch.int64,
        torch.int64,
    )
    there = torch.tensor(rows[COLUMNS.numeric].notna().to_numpy())
    for i in range(2):
        x = batch.numeric[there[:, i], i]
        assert x.mean().item() == pytest.approx(0, abs=1e-6) and x.std(
            correction=0
        ).item() == pytest.approx(1)
    for codes, size in zip(batch.categories.T, encoder.sizes["cardinalities"], strict=True):
        assert codes.unique().tolist() == list(range(1, size + 1))
    assert [encoder.classes[i] for i in batch.target] == rows["class"].tolist()


def test_a_baseline_reads_what_a_net_does(rows):
    """Flat: the numbers as the batch has them, then a 1 at the code of each category."""
    encoder = Encoder.fit(rows, COLUMNS)
    flat, batch = encoder.flat(rows), encoder.encode(rows)
    codes = [
        np.eye(n + 1)[code][:, 1:]
        for code, n in zip(batch.categories.T, encoder.sizes["cardinalities"], strict=True)
    ]
    np.testing.assert_allclose(flat, np.hstack([batch.numeric.numpy(), *codes]), atol=1e-6)
    strange = rows.head(5).assign(colour="mauve")
    assert (encoder.flat(strange)[:, 2 : 2 + encoder.sizes["cardinalities"][0]] == 0).all()


def test_rows_are_encoded_one_by_one_as_together(rows):
    encoder = Encoder.fit(rows, COLUMNS)
    together = encoder.encode(rows)
    alone = [encoder.encode(rows.iloc[[i]]) for i in range(13)]
    for whole, *pieces in zip(together, *alone, strict=True):
        assert torch.equal(whole[:13], torch.cat(pieces))


def test_a_missing_number_is_the_median_and_a_missing_category_a_level():
    rows = tabular_rows.repair(gaps(table()), COLUMNS)
    encoder = Encoder.fit(rows, COLUMNS)
    filled = rows.assign(height=rows["height"].fillna(rows["height"].median()))
    assert torch.equal(encoder.encode(rows).numeric, encoder.encode(filled).numeric)
    assert encoder.levels["colour"][-1] is None
    assert encoder.encode(rows).categories[0, 0] == len(encoder.levels["colour"])


def test_a_number_without_spread_is_zero():
    rows = table().assign(height=170.0)
    assert (Encoder.fit(rows, COLUMNS).encode(rows).numeric[:, 0] == 0).all()


@pytest.mark.parametrize("name", COLUMNS.features)
def test_a_column_without_any_value_teaches_nothing(name):
    with pytest.raises(
        DataError,
        match=f"no training row has a value in `{name}`; remove it from `columns` in the conf",
    ):
        Encoder.fit(table().assign(**{name: None}), COLUMNS)


@pytest.mark.parametrize("dtype", ["int64", "int8", "float64", "float32", "str", "category"])
def test_a_category_is_the_same_in_every_type(dtype):
    rows = table()
    encoder = Encoder.fit(rows, COLUMNS)
    other = encoder.check(rows.assign(shoes=rows["shoes"].astype(dtype)))
    assert torch.equal(encoder.encode(other).categories, encoder.encode(rows).categories)


def test_rows_asked_with_may_lack_label_key_and_what_is_ignored():
    rows = table()
    encoder = Encoder.fit(rows, COLUMNS)
    asked = encoder.check(rows[COLUMNS.features[::-1]])
    batch, whole = encoder.encode(asked), encoder.encode(rows)
    assert torch.equal(batch.numeric, whole.numeric) and torch.equal(
        batch.categories, whole.categories
    )
    assert (batch.target == -1).all()


def test_an_unseen_category_has_code_zero_and_a_warning():
    rows = table()
    encoder = Encoder.fit(rows, COLUMNS)
    asked = rows.head(3).assign(colour=["mauve", "red", "puce"])
    with pytest.warns(UserWarning, match="`colour` has mauve, puce, which training did not have"):
        checked = encoder.check(asked)
    assert (encoder.encode(checked).categories[:, 0] == UNSEEN).tolist() == [
        True,
        False,
        True,
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.check(rows)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            lambda t: t.drop(columns=["height", "shoes"]),
            "missing column height, shoes; expected height, weight, colour",
        ),
        (
            lambda t: t.rename(columns={"height": "hight"}),
            "missing column height; surplus column hight; expected",
        ),
        (
            lambda t: t.assign(extra=1),
            "surplus column extra; expected height, weight, colour, shoes; name the columns",
        ),
        (lambda t: t.head(0), "no rows to answer; give at least one"),
        (
            lambda t: t.assign(height=t["height"].where(t.index != 4)),
            "row 5 has no `height`; expected a number",
        ),
        (
            lambda t: t.assign(height=t["height"].mask(t.index == 4, np.inf)),
            "row 5 has inf in `height`; expected a fin",
        ),
        (
            lambda t: t.assign(height=t["height"].mask(t.index == 4, -np.inf)),
            "row 5 has -inf in `height`; expected",
        ),
        (
            lambda t: t.assign(height=t["height"].astype(str) + "cm"),
            r"row 1 has '[\d.]+cm' in `height`; expected a fin",
        ),
        (
            lambda t: t.assign(colour=t["colour"].where(t.index != 4)),
            "row 5 has no `colour`; expected one of blue, gr",
        ),
    ],
    ids=["missing", "renamed", "surplus", "none", "NaN", "inf", "-inf", "letters", "no category"],
)
def test_rows_that_cannot_be_answered(damage, says):
    encoder = Encoder.fit(table(), COLUMNS)
    with pytest.raises(DataError, match=says):
        encoder.check(damage(table(13)))


def test_what_training_saw_missing_may_be_missing():
    encoder = Encoder.fit(tabular_rows.repair(gaps(table()), COLUMNS), COLUMNS)
    asked = encoder.check(gaps(table(13)))
    assert asked["height"].isna().sum() == 3
    with pytest.raises(DataError, match="row 1 has no `weight`; expected a number"):
        encoder.check(table(13).assign(weight=None))


def test_the_example_and_every_question_fit_the_schema(rows):
    encoder = Encoder.fit(rows, COLUMNS)
    names = [name for name, _, _ in encoder.schema()]
    assert names == COLUMNS.features
    kinds = {"double": "f", "long": "i", "string": "O"}
    for frame in (encoder.example(), encoder.inputs(rows)):
        assert [frame[name].dtype.kind for name in names] == [
            kinds[kind] for _, kind, _ in encoder.schema()
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unseen level would be one
        asked = encoder.check(encoder.inputs(rows))
        assert len(encoder.check(encoder.example())) == 3
    for ours, theirs in zip(encoder.encode(asked)[:2], encoder.encode(rows)[:2], strict=True):
        assert torch.equal(ours, theirs)


def test_no_row_of_the_example_is_a_row_of_training():
    rows = table()
    example = Encoder.fit(rows, COLUMNS).example()
    assert not set(map(tuple, example[COLUMNS.features].to_numpy())) & set(
        map(tuple, rows[COLUMNS.features].to_numpy())
    )


@pytest.mark.parametrize(
    ("levels", "kind"),
    [
        *((["1", "2"], "long"), (["-1", "0"], "long"), (["1", None], "double"), (["a"], "string")),
        *(
            (["01", "2"], "string"),
            (["1.5"], "string"),
            (["²"], "string"),
            (["-"], "string"),
            ([""], "string"),
        ),
    ],
)
def test_the_type_in_which_a_category_is_asked(levels, kind):
    assert type_of_levels(levels) == kind


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_rows_in_every_format_are_the_same_rows(tmp_path, suffix):
    rows = table(13).drop(columns=["note"])
    path = tmp_path / f"rows.{suffix}"
    {"csv": rows.to_csv, "parquet": rows.to_parquet, "json": rows.to_json}[suffix](
        path, **({"orient": "records"} if suffix == "json" else {"index": False})
    )
    pd.testing.assert_frame_equal(tabular_rows.read_rows(path, COLUMNS), rows, check_dtype=False)
    with pytest.raises(DataError, match=f"none.{suffix} does not exist; name a file of rows"):
        tabular_rows.read_rows(tmp_path / f"none.{suffix}", COLUMNS)


def test_the_profile_is_json_of_train_alone():
    parts = tabular_rows.split(tabular_rows.repair(gaps(table()), COLUMNS), COLUMNS, SPLIT)
    profile = tabular_rows.profile(parts, COLUMNS)
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile
    assert profile == tabular_rows.profile({"train": parts["train"]}, COLUMNS)
    assert profile["classes"] == ["cat", "dog"]
    assert profile["columns"]["height"]["mean"] == pytest.approx(parts["train"]["height"].mean())
    assert sum(profile["columns"]["class"].values()) == len(parts["train"])


# --- the twins --------------------------------------------------------------------------------------------------------


def conf_of(name: str, **twin: Any) -> tuple[Twin, Columns, HashSplit]:
    conf = TABLES[name]
    return (
        Twin.model_validate({**conf["twin"], **twin}),
        Columns(**conf["columns"]),
        HashSplit(**conf["split"]),
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


def test_there_are_twins():
    assert TWINS


def test_a_twin_is_the_same_bytes_every_time_and_other_ones_by_another_seed(twin, tmp_path):
    write_twin(twin.conf, twin.columns, tmp_path / "again")
    assert sha256(tmp_path / "again" / twin.conf.file) == sha256(twin.folder / twin.conf.file)
    write_twin(twin.conf.model_copy(update={"seed": -1 % 97}), twin.columns, tmp_path / "other")
    assert sha256(tmp_path / "other" / twin.conf.file) != sha256(twin.folder / twin.conf.file)


def test_a_twin_has_the_upstream_file_format(twin):
    text = (twin.folder / twin.conf.file).read_bytes().decode()
    ends = twin.conf.rows + (twin.columns.names is None) - (not twin.conf.last_line_end)
    assert (
        text.count("\r\n") == text.count("\n") == ends
        and text.endswith("\n") == twin.conf.last_line_end
    )
    assert sorted(twin.raw.columns) == sorted(twin.columns.all)
    assert len(twin.raw) == twin.conf.rows


def test_a_twin_has_the_shares_of_its_conf(twin):
    share = (twin.raw[twin.columns.target] == twin.conf.labels[1]).mean()
    assert share == pytest.approx(twin.conf.rate, abs=1 / twin.conf.rows)
    for name, draw in twin.conf.draws.items():
        if isinstance(draw, Choice):
            found = twin.raw[name].astype(str).value_counts(normalize=True)
            weights = pd.Series(draw.levels) / sum(draw.levels.values())
            assert set(found.index) <= set(weights.index)
            assert (
                np.abs(found.reindex(weights.index, fill_value=0) - weights).max()
                < 2 / twin.conf.rows**0.5
            )
        elif isinstance(draw, Normal | Uniform):
            inside = twin.raw[name].between(draw.low, draw.high) | (twin.raw[name] == 0)
            assert inside.all() or draw.digits == 0


def test_a_twin_can_be_learnt_from(twin):
    parts = tabular_rows.split(
        tabular_rows.repair(twin.raw, twin.columns), twin.columns, twin.split
    )
    tabular_rows.check_parts(parts, twin.columns)
    if twin.columns.key:
        assert twin.raw[twin.columns.key].is_unique


@pytest.mark.slow
def test_the_planted_signal_is_one_that_a_straight_line_cannot_follow(twin):
    """The right model has to have room above the strongest baseline: here gradient boosting, by two points and more."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if twin.name not in CLASSIFIED:
        pytest.skip("no model is asked for its labels")
    parts = tabular_rows.split(
        tabular_rows.repair(twin.raw, twin.columns), twin.columns, twin.split
    )
    encoder = Encoder.fit(parts["train"], twin.columns)
    x = {
        name: np.hstack([t.numpy() for t in encoder.encode(part)[:2]])
        for name, part in parts.items()
    }
    y = {name: part[twin.columns.target].to_numpy() for name, part in parts.items()}
    boosted = HistGradientBoostingClassifier(max_iter=50, random_state=0).fit(
        x["train"], y["train"]
    )
    fit = plugins.task("classification").baselines("tabular")["logistic_regression"]
    linear = fit(parts["train"], twin.columns, encoder=encoder)(parts["test"])
    margin = (
        boosted.score(x["test"], y["test"]) - (linear["prediction"].to_numpy() == y["test"]).mean()
    )
    assert margin > 0.02


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"rows": 10**9},
            "has too few values between low and high for 1,000,000,000 rows; widen the range",
        ),
        (
            {
                "signal": [
                    {"weight": 1.0, "factors": [{"column": "puppies", "zero": 0.0, "unit": 1.0}]}
                ]
            },
            "`signal` depends on `puppies`; the columns drawn are",
        ),
        ({"signal": [{"weight": 1.0, "factors": []}]}, "should have at least 1 item"),
        ({"draws": {"x": {"draw": "puppies"}}}, "does not match any of the expected tags"),
        (
            {"draws": {"x": {"draw": "uniform", "low": 0.0, "hihg": 1.0, "digits": 0}}},
            "unknown key .*hihg`; .*`high`",
        ),
        ({"rate": 1.0}, "`rate` is 1.0; input should be less than 1"),
        ({"labels": [0]}, "`labels` is .*; list should have at least 2 items"),
    ],
)
@pytest.mark.parametrize("name", TWINS)
def test_a_twin_that_cannot_be_drawn(name, change, says):
    if "rows" in change and not any(
        d["draw"] == "unique" for d in TABLES[name]["twin"]["draws"].values()
    ):
        pytest.skip("draws no unique column")
    with pytest.raises(UsageError, match=says):
        check(Twin, {**TABLES[name]["twin"], **change}, "twin")


def test_zeros_ask_for_a_column_drawn_before():
    normal = {
        "draw": "normal",
        "mean": 0.0,
        "sd": 1.0,
        "skew": 0.0,
        "low": -1.0,
        "high": 1.0,
        "digits": 2,
    }
    draws = {
        "x": {**normal, "zeros": {"column": "y", "shares": {"a": 1.0}}},
        "y": {"draw": "choice", "levels": {"a": 1}},
    }
    twin = {
        "file": "x.csv",
        "last_line_end": True,
        "rows": 7,
        "seed": 0,
        "draws": draws,
        "groups": None,
    }
    twin |= {"rate": 0.5, "labels": [0, 1], "signal": []}
    with pytest.raises(
        UsageError, match="the zeros of `x` depend on `y`; draw that column before it"
    ):
        check(Twin, twin, "twin")
    turned = {**twin, "draws": dict(reversed(draws.items()))}
    assert check(Twin, turned, "twin").draws


# --- the quirks of the bank's table, in its twin and, where it is at hand, in the real one ---------------------------

BANK = "churn"


@pytest.fixture(scope="module", params=["twin", "real"])
def bank(request, tmp_path_factory) -> pd.DataFrame:
    twin, columns, _ = conf_of(BANK)
    if request.param == "real":
        if not MIRROR:
            pytest.skip("needs the real table under SEXTANT_MIRROR")
        return tabular_rows.read_rows(
            Path(MIRROR, TABLES[BANK]["sources"]["mirror"][0]["path"]), columns
        )
    folder = tmp_path_factory.mktemp("bank")
    write_twin(twin, columns, folder)
    return tabular_rows.read(folder, columns)


def test_the_quirks_of_the_bank(bank):
    assert len(bank) == 10_000 and bank["Exited"].sum() == 2037
    assert bank["RowNumber"].tolist() == list(range(1, 10_001)) and bank["CustomerId"].is_unique
    assert not bank.isna().any().any()
    assert (bank.loc[bank["Geography"] == "Germany", "Balance"] > 0).all()
    assert (bank["Balance"] == 0).mean() == pytest.approx(0.3617, abs=0.015)
    assert bank.loc[bank["NumOfProducts"] == 4, "Exited"].all()
    assert bank["Surname"].str.contains("?", regex=False).any()
    assert bank["EstimatedSalary"].min() < 100
    left = bank.groupby("Geography")["Exited"].mean()
    assert left["Germany"] > 1.3 * left["France"] and left["Germany"] > 1.3 * left["Spain"]
