"""Ratings: files and their faults, parts with their history, tensors, input rows, the twin."""

import gzip
import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import cases
import numpy as np
import pandas as pd
import pytest
import torch
import twins
from builders import MIRROR
from conftest import ROOT, load_yaml
from movielens import (
    COLUMNS,
    CONF,
    ITEMS,
    RATINGS,
    SPLIT,
    TWIN,
    USERS,
    columns_with,
    small_twin,
)

from sextant import plugins
from sextant.errors import DataError, UsageError
from sextant.families.rbm import RBM
from sextant.families.sae import SAE
from sextant.kinds.parts import PARTS, scored
from sextant.kinds.ratings import rows as ratings
from sextant.kinds.ratings.columns import Columns
from sextant.kinds.ratings.encoder import UNKNOWN_USER, Batch, Encoder
from sextant.kinds.ratings.twin import write_twin
from sextant.kinds.splits import HashSplit
from sextant.strict import check
from sextant.tasks.likes import baselines as likes_baselines
from sextant.tasks.likes import metrics as likes
from sextant.tasks.stars import baselines as stars_baselines
from sextant.tasks.stars import metrics as stars

Frame = pd.DataFrame
Parts = dict[str, pd.DataFrame]
PAIR = ["user", "item"]
NEEDED = ["user", "item", "rating"]
# The shares and quirks of MovieLens 100K, as its README lists them.
STARS_GIVEN = [6110, 11370, 27145, 34174, 21201]
ODD_FILM = 266  # the row of the film without a title, which upstream writes as `unknown`


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the small twin. Tests must not change them, nor what is made of them below."""
    folder = tmp_path_factory.mktemp("small")
    write_twin(small_twin(), COLUMNS, folder)
    return folder


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    """A copy of the files of the small twin."""
    return shutil.copytree(shared, tmp_path, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def rows(shared: Path) -> Frame:
    return ratings.repair(ratings.read(shared, COLUMNS), COLUMNS)


@pytest.fixture(scope="module")
def parts(rows: Frame) -> Parts:
    return ratings.split(rows, COLUMNS, SPLIT)


@pytest.fixture(scope="module")
def encoder(parts: Parts) -> Encoder:
    return Encoder.fit(parts["train"], COLUMNS)


def pairs(frame: Frame) -> set[tuple[int, int]]:
    return {(user, item) for user, item in frame[PAIR].to_numpy().tolist()}


# --- files --------------------------------------------------------------------------------------


def test_files_are_read_in_the_upstream_format(folder: Path) -> None:
    """Invented rows, of invented films."""
    films = "1|Fenêtre à l'Île, Une (2031)|01-Jan-2031||x|0\n2|61 (2032)||||1\n"
    (folder / "u.item").write_bytes(films.encode("latin-1"))
    (folder / "u1.base").write_text("7\t1\t2\t101\n")
    (folder / "u1.test").write_text("7\t2\t4\t103\n9\t1\t5\t107\n")
    raw = ratings.read(folder, COLUMNS)
    titles = ["Fenêtre à l'Île, Une (2031)", "61 (2032)"]
    assert raw.items["title"].tolist() == titles
    assert raw.ratings.to_numpy().tolist() == [
        ["7", "1", "2", "101", False],
        ["7", "2", "4", "103", True],
        ["9", "1", "5", "107", True],
    ]
    table = ratings.table(raw, COLUMNS)
    assert list(table) == COLUMNS.all == ["user", "item", "rating", "timestamp", "title"]
    assert table["title"].tolist() == [titles[0], titles[1], titles[0]]
    assert table["user"].tolist() == [7, 7, 9]
    assert table["timestamp"].tolist() == [101, 103, 107]


@pytest.mark.parametrize(
    ("delimiter", "names", "header"),
    [
        ("::", ["user", "item", "rating"], ""),
        (",", None, "user,item,rating\n"),
        ("; ", None, "user; item; rating\n"),
    ],
    ids=["two characters", "header", "header and two characters"],
)
def test_any_delimiter_is_read_with_or_without_a_header(
    folder: Path, delimiter: str, names: list[str] | None, header: str
) -> None:
    lines = [[1, 2, 4.5], [3, 1, 0.5]]
    text = header
    for line in lines:
        text += delimiter.join(map(str, line)) + "\n"
    (folder / "r.dat").write_text(text)
    columns = columns_with(
        ratings={"delimiter": delimiter, "encoding": "ascii", "names": names},
        files=["r.dat"],
        test_files=[],
        values=[0.5, 1, 2.5, 4.5],
    )
    frame = ratings.read(folder, columns).ratings
    assert frame[NEEDED].astype(float).to_numpy().tolist() == lines
    assert not frame["test"].any()


def test_without_a_header_a_quotation_mark_is_part_of_the_title(folder: Path) -> None:
    """At the start of a title it would otherwise swallow all lines up to the next one."""
    titles = [
        '"Harbour" Letters, The (2031)',
        '"Iron',
        'Glass" (2032)',
        '""',
        "'Garden'",
        'Last "Road"',
    ]
    for delimiter in ("|", "::"):
        lines = [f"{n}{delimiter}{title}{delimiter}x" for n, title in enumerate(titles, start=1)]
        (folder / "u.item").write_text("\n".join(lines))
        columns = columns_with(items={**CONF["columns"]["items"], "delimiter": delimiter})
        items = ratings.read(folder, columns).items.head(6)
        assert items["title"].tolist() == titles, delimiter
        assert items["item"].tolist() == ["1", "2", "3", "4", "5", "6"]


def test_with_a_header_a_title_may_be_quoted(folder: Path) -> None:
    (folder / "u.item").write_text('item,title\n1,"Road, The (2031)"\n2,"A ""Glass"" (2032)"\n')
    columns = columns_with(items={"delimiter": ",", "encoding": "ascii", "names": None})
    items = ratings.read(folder, columns).items.head(2)
    assert items["title"].tolist() == ["Road, The (2031)", 'A "Glass" (2032)']


def test_a_line_with_too_many_cells_is_refused_by_its_number(folder: Path) -> None:
    (folder / "r.csv").write_text("user,item,rating\n1,2,3\n1,2,3,4,5\n")
    columns = columns_with(
        ratings={"delimiter": ",", "encoding": "ascii", "names": None},
        files=["r.csv"],
        test_files=[],
    )
    message = "r.csv line 3 has 5 cells, and the header has 3 names"
    with pytest.raises(DataError, match=message) as refused:
        ratings.read(folder, columns)
    assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match=message) as refused:
        ratings.read_rows(folder / "r.csv", columns)
    assert "\n" not in str(refused.value)


# --- damaged files ------------------------------------------------------------------------------

Damage = Callable[[Path], object]


def line(file: str, index: int, text: str) -> Damage:
    """Replace one line of a file."""

    def damage(folder: Path) -> None:
        lines = (folder / file).read_text(encoding="latin-1").splitlines()
        lines[index] = text
        (folder / file).write_text("\n".join(lines) + "\n", encoding="latin-1")

    return damage


def repeat_a_rating(folder: Path) -> None:
    first = (folder / "u1.base").read_text().splitlines()[0]
    with (folder / "u1.test").open("a") as stream:
        stream.write(first + "\n")


def remove_films(folder: Path) -> None:
    (folder / "u.item").unlink()


def empty_ratings(folder: Path) -> None:
    (folder / "u1.base").write_bytes(b"")


WHOLE_NUMBER = r"expected text, or a whole number up to 2\*\*53 - 1; correct the row"

BAD: dict[str, tuple[Damage, str]] = {
    "rating of 7": (
        line("u1.base", 0, "1\t2\t7\t9"),
        "u1.base line 1 has `rating` 7; expected one of 1, 2, 3, 4, 5; correct the row",
    ),
    "half a star": (
        line("u1.base", 2, "1\t2\t3.5\t9"),
        "u1.base line 3 has `rating` 3.5; expected one of",
    ),
    "no rating": (
        line("u1.base", 2, "1\t2\t\t9"),
        "u1.base line 3 has no `rating`; expected one of",
    ),
    "rating in letters": (
        line("u1.base", 2, "1\t2\tfour\t9"),
        "u1.base line 3 has `rating` four; expected one of",
    ),
    "user id of 0 that is not listed": (
        line("u1.base", 1, "0\t2\t3\t9"),
        "u1.base line 2 has `user` 0, which u.user lacks",
    ),
    "no film id": (
        line("u1.base", 1, "1\t\t3\t9"),
        "u1.base line 2 has no `item`; expected an id in each row",
    ),
    "unlisted user": (
        line("u1.base", 1, "99\t1\t3\t9"),
        "u1.base line 2 has `user` 99, which u.user lacks; add it there, or remove the row",
    ),
    "pair twice": (
        repeat_a_rating,
        r"u1.test line 84 repeats user \d+, item \d+; keep one row",
    ),
    "film without title": (
        line("u.item", 4, "5|||"),
        "u.item: item 5 has no `title`; add one",
    ),
    "blank title": (
        line("u.item", 4, "5|  ||"),
        "u.item: item 5 has no `title`; add one",
    ),
    "film twice": (
        line("u.item", 4, "4|Again (1990)||"),
        "u.item line 5 lists `item` 4 for a second time; keep one line",
    ),
    "listed film without id": (
        line("u.item", 4, "|Zero (1990)||"),
        "u.item line 5 has no `item`; expected an id in each row",
    ),
    "no file": (
        remove_films,
        "u.item does not exist; run `make pull`",
    ),
    "empty file": (
        empty_ratings,
        "u1.base is empty; expected a table with user, item, rating",
    ),
    "another delimiter": (
        line("u.item", 0, "1, Glass Harbour"),
        "u.item line 1 has 1 cells, and `names` in the conf has 2 names",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD)
def test_a_damaged_file_is_refused_in_one_line(folder: Path, damage: Damage, message: str) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message) as refused:
        ratings.repair(ratings.read(folder, COLUMNS), COLUMNS)
    assert "\n" not in str(refused.value)


def test_latin_1_read_as_utf_8_is_refused_with_its_position(folder: Path) -> None:
    columns = columns_with(items={**CONF["columns"]["items"], "encoding": "utf-8"})
    message = r"u.item line \d+ is not utf-8 \(byte 0x[89a-f][0-9a-f]\); set `encoding` in the conf"
    with pytest.raises(DataError, match=message):
        ratings.read(folder, columns)


@pytest.mark.parametrize(
    "changes",
    [{"like": 1.0}, {"like": 6.0}, {"values": [1, 3, 2], "like": 2.0}],
    ids=["like is the lowest", "like above the highest", "values not sorted"],
)
def test_a_scale_that_like_does_not_divide_is_refused(changes: dict[str, object]) -> None:
    message = r"`values` must be sorted, and `like` above the lowest.*; got values \[1"
    with pytest.raises(UsageError, match=message):
        columns_with(**changes)


# --- parts --------------------------------------------------------------------------------------


def test_each_pair_lies_in_one_part_and_test_files_are_the_test_part(
    rows: Frame, parts: Parts
) -> None:
    pairs_of = {name: pairs(scored(part)) for name, part in parts.items()}
    assert list(parts) == list(PARTS)
    assert sum(map(len, pairs_of.values())) == len(rows)
    assert set().union(*pairs_of.values()) == pairs(rows)
    assert pairs_of["test"] == pairs(rows[rows["test"]])
    assert min(map(len, pairs_of.values())) > 20
    ratings.check_parts(parts, COLUMNS)


def test_history_rows_are_the_training_ratings_of_the_users_of_a_part(parts: Parts) -> None:
    train = parts["train"]
    assert not train["context"].any()
    assert (train["rating"] == train["target"]).all()
    for name in PARTS[1:]:
        part = parts[name]
        history, to_score = part[part["context"]], part[~part["context"]]
        expected = train[train["user"].isin(to_score["user"])]
        pd.testing.assert_frame_equal(
            history[NEEDED].reset_index(drop=True),
            expected[NEEDED].reset_index(drop=True),
            check_like=True,
        )
        assert history["target"].isna().all()
        assert to_score["rating"].isna().all()
        assert to_score["target"].notna().all()


def test_the_part_of_a_pair_never_changes_as_ratings_come_in(rows: Frame) -> None:
    fewer = rows.iloc[::3].reset_index(drop=True)
    fewer.attrs = rows.attrs
    parts_of_all = ratings.split(rows, COLUMNS, SPLIT)
    parts_of_fewer = ratings.split(fewer, COLUMNS, SPLIT)
    for name in PARTS:
        assert pairs(scored(parts_of_fewer[name])) <= pairs(scored(parts_of_all[name]))


def test_a_pair_in_two_parts_is_refused(parts: Parts) -> None:
    row = scored(parts["gate"]).head(1)
    overlapping = {**parts, "val": pd.concat([parts["val"], row])}
    with pytest.raises(DataError, match=r"user \d+, item \d+ lies in val and in gate; keep one"):
        ratings.check_parts(overlapping, COLUMNS)


def test_a_part_without_dislikes_is_refused(parts: Parts) -> None:
    liked = {**parts, "gate": parts["gate"].assign(target=5.0)}
    with pytest.raises(DataError, match=r"part gate \(\d+ ratings\) lacks likes or dislikes"):
        ratings.check_parts(liked, COLUMNS)


def test_a_part_is_written_with_its_catalogue_and_the_same_bytes(
    parts: Parts, tmp_path: Path
) -> None:
    ratings.write(parts["val"], tmp_path / "val")
    ratings.write(parts["val"].copy(), tmp_path / "again")
    assert (tmp_path / "val.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    loaded = ratings.load(tmp_path / "val")
    pd.testing.assert_frame_equal(loaded, parts["val"])
    catalogue = ratings.catalogue(loaded)
    assert catalogue == ratings.catalogue(parts["train"])
    assert len(catalogue["items"]) == ITEMS
    assert len(catalogue["users"]) == USERS


def test_the_profile_is_json_and_counts_the_training_ratings(parts: Parts) -> None:
    profile = json.loads(json.dumps(ratings.profile(parts, COLUMNS)))["columns"]
    assert list(profile["rating"]) == ["1", "2", "3", "4", "5"]
    assert sum(profile["rating"].values()) == len(parts["train"])
    assert profile["user"]["count"] == USERS
    assert profile["item"]["count"] == ITEMS


# --- tensors ------------------------------------------------------------------------------------


def test_sizes_are_those_of_the_catalogue(parts: Parts, encoder: Encoder) -> None:
    """A part holds few users and films; its matrices are nevertheless as wide as u.item."""
    assert encoder.sizes == {"users": USERS, "items": ITEMS, "values": [1, 2, 3, 4, 5], "like": 3}
    batch = encoder.encode(parts["test"])
    users = scored(parts["test"])["user"].nunique()
    assert batch.observed.shape == batch.target.shape == (users, ITEMS)


def test_each_rating_is_at_its_user_and_film(parts: Parts, encoder: Encoder) -> None:
    for name, part in parts.items():
        batch = encoder.encode(part)
        users = ratings.users_of(part, COLUMNS)[0].tolist()
        for column, codes in (("rating", batch.observed), ("target", batch.target)):
            rated = part[part[column].notna()]
            assert (codes > 0).sum() == len(rated), name
            for user, item, star in rated[["user", "item", column]].to_numpy()[::17]:
                assert codes[users.index(user), encoder.items.index(item)] == star, name
        assert [encoder.users[i] for i in batch.user] == users, name
        if name != "train":
            assert not ((batch.observed > 0) & (batch.target > 0)).any(), name
        assert torch.equal(batch.stars, batch.target[batch.target > 0].float()), name
        assert torch.equal(batch.liked, batch.target[batch.target > 0] >= 3), name


def test_the_state_is_json_without_ratings_and_restores_the_encoder(
    parts: Parts, encoder: Encoder
) -> None:
    state = json.loads(json.dumps(encoder.state()))
    assert set(state) == {"items", "titles", "users"}
    batch = encoder.encode(parts["val"])
    restored = Encoder.from_state(state, COLUMNS).encode(parts["val"])
    for before, after in zip(batch, restored, strict=True):
        assert torch.equal(before, after)


# --- input rows ---------------------------------------------------------------------------------

Line = list[int | float | str | None]


def input_rows(*lines: Line) -> Frame:
    return pd.DataFrame(lines, columns=NEEDED)


def test_input_rows_are_read_from_csv_json_parquet_and_upstream_files(
    folder: Path, tmp_path: Path
) -> None:
    frame = input_rows([1, 2, 5.0], [1, 3, np.nan])
    frame.to_csv(tmp_path / "q.csv", index=False)
    frame.to_parquet(tmp_path / "q.parquet")
    frame.to_json(tmp_path / "q.json", orient="records")
    for name in ("q.csv", "q.parquet", "q.json"):
        read = ratings.read_rows(tmp_path / name, COLUMNS).reset_index(drop=True)
        pd.testing.assert_frame_equal(read.astype(float), frame.astype(float))
    assert list(ratings.read_rows(folder / "u1.test", COLUMNS)) == [*NEEDED, "timestamp"]


def test_a_header_in_input_rows_is_found_however_the_file_is_written(tmp_path: Path) -> None:
    frame = input_rows([1, 2, 5.0], [1, 3, np.nan])
    text = frame.to_csv(index=False)
    contents = {
        "old.csv": text.replace("\n", "\r").encode(),
        "marked.csv": b"\xef\xbb\xbf\r\n,,\r\n" + text.encode(),
        "packed.CSV.GZ": gzip.compress(text.encode()),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        read = ratings.read_rows(tmp_path / name, COLUMNS).reset_index(drop=True)
        pd.testing.assert_frame_equal(read.astype(float), frame.astype(float))


def test_a_missing_and_an_empty_file_of_input_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.csv does not exist; name a file of rows"):
        ratings.read_rows(tmp_path / "nowhere.csv", COLUMNS)
    (tmp_path / "q.csv").write_text("")
    with pytest.raises(DataError, match="q.csv is empty; expected a table with user, item, rating"):
        ratings.read_rows(tmp_path / "q.csv", COLUMNS)


def test_a_new_user_is_answered_and_keeps_the_id(encoder: Encoder) -> None:
    frame = input_rows([7001, 2, 5], [7001, 3, None], [4, 2, 1])
    batch = encoder.encode(encoder.check(frame))
    assert batch.user.tolist() == [UNKNOWN_USER, 3]
    assert batch.observed[0, 1] == 5
    assert batch.observed[0].sum() == 5
    assert batch.observed[1, 1] == 1


REFUSED: dict[str, tuple[Frame, str]] = {
    "missing column": (
        pd.DataFrame({"user": [1], "item": [2]}),
        "missing column rating; expected user, item, rating",
    ),
    "no rows": (
        input_rows(),
        "no rows to answer; send some ratings",
    ),
    "film that the catalogue lacks": (
        input_rows([1, 2, 3], [1, 38, None]),
        r"row 2 has item 38, which is not one of the 37 in training \(1 to 37\); remove the row",
    ),
    "seven stars": (
        input_rows([1, 2, 7]),
        "row 1 has `rating` 7; expected one of 1, 2, 3, 4, 5",
    ),
    "film id in letters": (
        input_rows([1, "two", 3]),
        "row 1 has item two, which is not one of the 37 in training",
    ),
    "infinite user id": (
        input_rows([1, 2, 3], [math.inf, 2, 3]),
        f"row 2 has `user` inf; {WHOLE_NUMBER}",
    ),
    "user id of 1.5": (
        input_rows([1, 2, 3], [1.5, 2, 3]),
        f"row 2 has `user` 1.5; {WHOLE_NUMBER}",
    ),
    "missing user id": (
        input_rows([1, 2, 3], [math.nan, 2, 3]),
        "row 2 has no `user`; expected an id in each row",
    ),
    "negative infinite film id": (
        input_rows([1, -math.inf, 3]),
        f"row 1 has `item` -inf; {WHOLE_NUMBER}",
    ),
    "pair twice": (
        input_rows([1, 2, 3], [1, 2, None]),
        "row 2 repeats user 1, item 2; keep one row",
    ),
}


def test_impossible_input_rows_are_refused(encoder: Encoder) -> None:
    for frame, message in REFUSED.values():
        with pytest.raises(DataError, match=message) as refused:
            encoder.check(frame)
        assert "\n" not in str(refused.value)


def test_an_id_that_a_float_may_have_rounded_is_refused(encoder: Encoder) -> None:
    message = rf"row 2 has `user` [\d.e+]+; {WHOLE_NUMBER}"
    for user in (1e20, 2.0**53, 2.0**63):
        with pytest.raises(DataError, match=message):
            encoder.check(input_rows([1, 2, 3], [user, 2, 3]))


def test_the_greatest_id_is_kept_as_it_is(encoder: Encoder) -> None:
    greatest = 2**53 - 1
    rows = encoder.check(input_rows([1, 2, 3], [greatest, 2, 3]))
    assert rows["user"].tolist() == [1, greatest]


def test_an_empty_input_row_is_passed_over(encoder: Encoder) -> None:
    rows = encoder.check(input_rows([1, 2, 3], [None, None, None], [1, 3, None]))
    assert rows["item"].tolist() == [2, 3]
    with pytest.raises(DataError, match="row 2 has no `user`"):
        encoder.check(input_rows([1, 2, 3], [None, 3, None]))


def test_a_surplus_column_is_passed_over_with_a_warning(encoder: Encoder) -> None:
    with pytest.warns(UserWarning, match="passed over: mood"):
        rows = encoder.check(input_rows([1, 2, 3]).assign(mood="good"))
    assert list(rows) == NEEDED


def test_a_user_without_ratings_is_answered_with_a_remark(encoder: Encoder) -> None:
    rows = encoder.check(input_rows([9, 2, None], [8, 2, 4], [9, 3, None]))
    assert encoder.encode(rows).observed[0].sum() == 0
    answers = pd.DataFrame({"user": [8, 9, 9]})
    text = "no rating is known of user 9: answered as the average user"
    assert encoder.remarks(rows, answers) == ["", text, text]


def test_inputs_of_a_part_hold_no_targets(parts: Parts, encoder: Encoder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = encoder.check(encoder.inputs(parts["gate"]))
    assert list(rows) == NEEDED
    assert rows["rating"].isna().sum() == len(scored(parts["gate"]))
    assert encoder.schema() == [
        ("user", "long", True),
        ("item", "long", True),
        ("rating", "double", True),
    ]


def test_the_example_gives_answers_for_two_users(encoder: Encoder) -> None:
    assert len(encoder.encode(encoder.check(encoder.example())).user) == 2


# --- the twin -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twins.raw("movielens_100k", tmp_path_factory)


def test_a_small_twin_has_the_counts_and_quirks_of_its_block(shared: Path) -> None:
    block = small_twin()
    raw = ratings.read(shared, COLUMNS)
    rows = raw.ratings
    assert len(rows) == block.ratings
    assert rows["test"].sum() == block.test
    assert len(raw.items) == rows["item"].nunique() == block.items
    assert len(raw.users) == rows["user"].nunique() == block.users
    assert rows.loc[rows["test"], "user"].nunique() <= block.test_users
    assert rows.groupby("user").size().min() >= block.least
    assert raw.items["title"].duplicated().sum() == block.repeated_titles
    assert raw.items["title"].tolist().count("unknown") == 1
    with pytest.raises(UnicodeDecodeError):
        (shared / "u.item").read_text(encoding="utf-8")
    ratings.repair(raw, COLUMNS)


@pytest.mark.slow
def test_the_twin_has_the_counts_shares_and_quirks_of_the_files(twin: Path) -> None:
    raw = ratings.read(twin, COLUMNS)
    rows = raw.ratings
    assert len(rows) == 100_000
    assert rows["test"].sum() == 20_000
    assert len(raw.items) == rows["item"].nunique() == 1682
    assert len(raw.users) == rows["user"].nunique() == 943
    assert rows["rating"].value_counts().sort_index().tolist() == pytest.approx(STARS_GIVEN, abs=2)
    assert rows.loc[rows["test"], "user"].astype(int).max() <= 462
    per_user = rows.groupby("user").size()
    assert per_user.min() >= 20
    assert 600 < per_user.max() < 800
    per_item = rows.groupby("item").size()
    assert 60 < (per_item == 1).sum() < 200
    assert per_item.median() < 40
    base, test = rows[~rows["test"]], rows[rows["test"]]
    only_in_test = ~test["item"].drop_duplicates().isin(base["item"])
    assert 10 < only_in_test.sum() < 60
    assert raw.items["title"].duplicated().sum() == 18
    assert raw.items["title"].iloc[ODD_FILM] == "unknown"
    with pytest.raises(UnicodeDecodeError):
        (twin / "u.item").read_text(encoding="utf-8")
    ratings.repair(raw, COLUMNS)


def test_the_twin_has_the_same_bytes_each_time(shared: Path, tmp_path: Path) -> None:
    write_twin(small_twin(), COLUMNS, tmp_path)
    written = sorted(path.name for path in shared.iterdir())
    assert len(written) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == written
    for name in written:
        assert (shared / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_twin_may_have_headers_and_no_test_file(tmp_path: Path) -> None:
    table = {"delimiter": ",", "encoding": "utf-8", "names": None}
    columns = columns_with(ratings=table, items=table, users=table, test_files=[])
    write_twin(small_twin(), columns, tmp_path)
    raw = ratings.read(tmp_path, columns)
    assert len(raw.ratings) == RATINGS
    assert len(raw.items) == ITEMS
    assert "title" in raw.items
    assert "user" in raw.users
    ratings.repair(raw, columns)


# --- nets on the twin ---------------------------------------------------------------------------

Planted = tuple[Parts, Encoder, dict[str, Batch]]


@pytest.fixture(scope="module")
def planted(twin: Path) -> Planted:
    """The twin's parts as the conf splits them, the encoder, and the batches of train and val."""
    rows = ratings.repair(ratings.read(twin, COLUMNS), COLUMNS)
    parts = ratings.split(rows, COLUMNS, HashSplit(**CONF["split"]))
    encoder = Encoder.fit(parts["train"], COLUMNS)
    batches = {name: encoder.encode(parts[name]) for name in ("train", "val")}
    return parts, encoder, batches


def trained(net: RBM | SAE, conf: dict, train: Batch, epochs: int) -> RBM | SAE:
    """The net after some epochs with the optimizer of its conf."""
    net.initialise(train)
    settings = conf["optimizer"]
    optimizer = torch.optim.AdamW(
        net.param_groups(), lr=settings["lr"], weight_decay=settings["weight_decay"]
    )
    batch_size = conf["schedule"]["batch_size"]
    net.train()
    for _ in range(epochs):
        for index in torch.randperm(len(train.user)).split(batch_size):
            optimizer.zero_grad()
            net.loss(plugins.take(train, index)).backward()
            optimizer.step()
    return net.eval()


@pytest.mark.slow
def test_on_the_twin_the_autoencoder_beats_the_best_baseline_by_a_tenth_of_a_star(
    planted: Planted,
) -> None:
    parts, encoder, batches = planted
    conf = load_yaml((ROOT / "conf/model/sae.yaml").read_text())
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = SAE(TWIN.users, TWIN.items, COLUMNS.values, **conf["net"])
    trained(net, conf, batches["train"], epochs=12)
    with torch.no_grad():
        outputs = net.predict(batches["val"])
    calibration = stars.calibrate(outputs, batches["val"])
    answers = stars.answers(outputs, parts["val"], encoder, calibration)
    baseline = stars_baselines.user_item_bias(parts["train"], COLUMNS)(parts["val"])
    rmse = stars.score(answers, parts["val"], encoder)["rmse"]
    assert rmse < stars.score(baseline, parts["val"], encoder)["rmse"] - 0.1


@pytest.mark.slow
def test_on_the_twin_the_boltzmann_machine_beats_the_best_baseline_by_four_points_of_auroc(
    planted: Planted,
) -> None:
    parts, encoder, batches = planted
    conf = load_yaml((ROOT / "conf/model/rbm.yaml").read_text())
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = RBM(TWIN.users, TWIN.items, COLUMNS.values, COLUMNS.like, **conf["net"])
    trained(net, conf, batches["train"], epochs=25)
    with torch.no_grad():
        outputs = net.predict(batches["val"])
    calibration = likes.calibrate(outputs, batches["val"])
    answers = likes.answers(outputs, parts["val"], encoder, calibration)
    baseline = likes_baselines.bias_logistic(parts["train"], COLUMNS)(parts["val"])
    auroc = likes.score(answers, parts["val"], encoder)["auroc"]
    assert auroc > likes.score(baseline, parts["val"], encoder)["auroc"] + 0.04


# --- the expectations ---------------------------------------------------------------------------


def with_rating_of_7(table: Frame) -> Frame:
    return table.assign(rating=table["rating"].replace(1, 7))


def with_user_0(table: Frame) -> Frame:
    return table.assign(user=table["user"] - 1)


def with_untitled_film(table: Frame) -> Frame:
    return table.assign(title=table["title"].where(table["item"] != 3))


def with_repeated_pair(table: Frame) -> Frame:
    return pd.concat([table, table.head(1)]).reset_index(drop=True)


def truncated(table: Frame) -> Frame:
    return table.head(99_999)


def with_mojibake(table: Frame) -> Frame:
    return table.assign(title=table["title"].str.encode("utf-8").str.decode("latin-1"))


@pytest.fixture(scope="module")
def table(twin: Path) -> Frame:
    """What the expectations look at; tests share it and must not change it."""
    return ratings.table(ratings.read(twin, COLUMNS), COLUMNS)


IN_SET, BETWEEN, NOT_NULL, UNIQUE, COUNT, REGEX = (
    *("expect_column_values_to_be_in_set", "expect_column_values_to_be_between"),
    *("expect_column_values_to_not_be_null", "expect_compound_columns_to_be_unique"),
    *("expect_table_row_count_to_be_between", "expect_column_values_to_not_match_regex"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damages",
    [
        {},
        {with_rating_of_7: IN_SET, with_user_0: BETWEEN, with_mojibake: REGEX},
        {with_untitled_film: NOT_NULL, with_repeated_pair: UNIQUE},
        {truncated: COUNT},
    ],
    ids=["undamaged", "values", "missing and repeated", "truncated"],
)
def test_one_expectation_fails_for_each_damage(
    table: Frame, damages: dict[Callable[[Frame], Frame], str]
) -> None:
    """Damages of different columns are validated together."""
    from sextant.validate import validate

    suite = load_yaml((ROOT / "conf/expectations/movielens_100k.yaml").read_text())
    damaged = table
    for damage in damages:
        damaged = damage(damaged)
    results = validate(damaged, suite)
    failures = [result for result in results if not result["success"]]
    critical = [result["expectation"] for result in failures if result["severity"] == "critical"]
    assert sorted(critical) == sorted(damages.values())


# --- the real files -----------------------------------------------------------------------------


@pytest.mark.skipif(MIRROR is None, reason="needs the real ratings under SEXTANT_MIRROR")
def test_the_real_files_match_their_readme() -> None:
    raw = ratings.read(Path(str(MIRROR), "ratings/ml-100k"), COLUMNS)
    rows = ratings.repair(raw, COLUMNS)
    assert rows["rating"].value_counts().sort_index().tolist() == STARS_GIVEN
    test_users = rows.loc[rows["test"], "user"]
    assert test_users.nunique() == 459
    assert test_users.max() == 462
    titles = raw.items["title"]
    assert titles.duplicated().sum() == 18
    assert titles.iloc[ODD_FILM] == "unknown"
    assert titles.str.contains("[^\x00-\x7f]", regex=True).sum() == 9


# --- files as people have them ------------------------------------------------------------------

SAE_NET = load_yaml((ROOT / "conf/model/sae.yaml").read_text())["net"]
BLOCK: dict[str, object] = {
    "user": "user",
    "item": "item",
    "rating": "rating",
    "values": [1, 2, 3, 4, 5],
    "like": 3,
    "files": ["r.csv"],
}


def plain(**changes: object) -> Columns:
    """The columns of ratings in one CSV with a header, without lists of items and users."""
    return check(Columns, BLOCK | changes, "columns")


def repaired(folder: Path, columns: Columns, **files: str) -> Frame:
    """The repaired rows of some files, named by their stems."""
    for stem, text in files.items():
        (folder / f"{stem}.csv").write_text(text)
    return ratings.repair(ratings.read(folder, columns), columns)


def test_users_and_items_may_be_those_of_the_ratings(tmp_path: Path) -> None:
    rows = repaired(tmp_path, plain(), r="user,item,rating\n10,7,3\n2,30,4\n10,30,5\n")
    lists = ratings.catalogue(rows)
    assert lists == {"items": [7, 30], "titles": ["7", "30"], "users": [2, 10]}
    assert rows.to_numpy().tolist() == [[10, 7, 3, False], [2, 30, 4, False], [10, 30, 5, False]]


def test_ids_are_the_text_that_is_written(tmp_path: Path) -> None:
    """Ids with letters and zeros in front, an id of 0, and gaps."""
    columns = plain(items_file="i.csv", users_file="u.csv")
    rows = repaired(
        tmp_path,
        columns,
        r="user,item,rating\n0,0679781587,3\n7,000001000X,4\n",
        i="item,title\n000001000X,Ten\n0679781587,Babar\n679781587,Other\n",
        u="user\n0\n7\n900\n",
    )
    assert rows["item"].tolist() == ["0679781587", "000001000X"]
    assert rows["user"].tolist() == [0, 7]
    encoder = Encoder.fit(rows.assign(target=rows["rating"]), columns)
    assert encoder.items == ["000001000X", "0679781587", "679781587"]
    assert encoder.users == [0, 7, 900]
    assert [type_ for _, type_, _ in encoder.schema()] == ["long", "string", "double"]
    batch = encoder.encode(rows)
    assert batch.observed.tolist() == [[0, 3, 0], [4, 0, 0]]
    assert len(encoder.encode(encoder.check(encoder.example())).user) == 2


def test_the_part_and_the_code_of_a_row_depend_on_that_row_alone(tmp_path: Path) -> None:
    """One id with a letter changes the type of the column, and no part and no key."""
    lines = [f"{n % 17},{n},{n % 5 + 1}\n" for n in range(300)]
    text = "user,item,rating\n" + "".join(lines)
    before = repaired(tmp_path, plain(), r=text)
    after = repaired(tmp_path, plain(), r=text + "x1,y1,3\n")
    assert before["user"].dtype == before["item"].dtype == np.int64
    assert after["user"].dtype == "str"
    parts_before = ratings.split(before, plain(), SPLIT)
    parts_after = ratings.split(after, plain(), SPLIT)
    for name in PARTS:
        some = {(str(u), str(i)) for u, i in pairs(scored(parts_before[name]))}
        all_pairs = pairs(scored(parts_after[name]))
        assert all_pairs - some <= {("x1", "y1")}
        assert some <= all_pairs


def test_a_whole_number_that_became_a_float_is_the_listed_id(tmp_path: Path) -> None:
    columns = plain(items_file="i.csv")
    rows = repaired(
        tmp_path,
        columns,
        r="user,item,rating\n1,10.0,3\n1,20,4\n",
        i="item,title\n10,A\n20,B\n",
    )
    assert rows["item"].tolist() == [10, 20]


def test_rated_items_that_the_catalogue_lacks_are_kept_and_counted(tmp_path: Path) -> None:
    columns = plain(items_file="i.csv")
    files = {"r": "user,item,rating\n1,a,3\n1,c,4\n2,b,5\n2,c,2\n", "i": "item,title\na,Anna\n"}
    rows = repaired(tmp_path, columns, **files)
    lists = ratings.catalogue(rows)
    assert lists["items"] == ["a", "b", "c"]
    assert lists["titles"] == ["Anna", "b", "c"]
    raw = ratings.read(tmp_path, columns)
    assert ratings.table(raw, columns)["title"].tolist() == ["Anna", "c", "b", "c"]
    finding = ratings.findings(raw, columns)[0]
    assert (finding.severity, finding.unexpected) == ("warning", 3)
    assert finding.examples == ["b", "c"]
    parts = ratings.split(rows, columns, SPLIT)
    assert ratings.profile(parts, columns)["columns"]["item"]["unlisted"] == 2


def test_a_catalogue_with_other_ids_is_refused(tmp_path: Path) -> None:
    files = {"r": "user,item,rating\n1,7,3\n1,8,4\n", "i": "item,title\n7.0,A\n8.0,B\n"}
    message = "i.csv lists none of the rated items: it has 7.0, 8.0 in `item`, and .* have 7, 8"
    with pytest.raises(DataError, match=message):
        repaired(tmp_path, plain(items_file="i.csv"), **files)


def test_unlisted_items_are_left_out_or_refused_by_the_conf(tmp_path: Path) -> None:
    files = {"r": "user,item,rating\n1,a,3\n1,c,4\n", "i": "item,title\na,Anna\n"}
    columns = plain(items_file="i.csv", unlisted="leave_out")
    assert repaired(tmp_path, columns, **files)["item"].tolist() == ["a"]
    raw = ratings.read(tmp_path, columns)
    assert ratings.passed_over(raw) == {"ratings of items that i.csv lacks": 1}
    with pytest.raises(DataError, match="r.csv line 3 has `item` c, which i.csv lacks"):
        repaired(tmp_path, plain(items_file="i.csv", unlisted="refuse"), **files)


REPEATED = "user,item,rating,when\n1,7,3,50\n1,7,5,90\n2,7,1,10\n1,7,4,70\n"


@cases.each(
    ("rule", "kept"),
    [
        ({"repeated": "first"}, [3, 1]),
        ({"repeated": "last"}, [1, 4]),
        ({"repeated": "last", "time": "when"}, [5, 1]),
        ({"repeated": "mean"}, [4, 1]),
        ({"repeated": "mean", "values": [1, 3, 5]}, None),
    ],
    ids=["first", "last", "last by time", "mean", "no value of the scale"],
)
def test_what_is_rated_twice_is_decided_by_the_conf(
    rule: dict[str, object], kept: list[int] | None, tmp_path: Path
) -> None:
    columns = plain(**rule)
    if kept is None:
        with pytest.raises(DataError, match="r.csv line 5 has `rating` 4; expected one of 1, 3, 5"):
            repaired(tmp_path, columns, r=REPEATED)
        return
    rows = repaired(tmp_path, columns, r=REPEATED)
    assert rows["rating"].tolist() == kept
    raw = ratings.read(tmp_path, columns)
    assert ratings.passed_over(raw) == {"ratings of a pair that has another": 2}
    assert len(ratings.table(raw, columns)) == 2


def test_a_pair_that_is_rated_twice_is_refused_without_a_rule(tmp_path: Path) -> None:
    message = "r.csv line 3 repeats user 1, item 7; keep one row, or say in `repeated`"
    with pytest.raises(DataError, match=message):
        repaired(tmp_path, plain(), r=REPEATED)


def test_a_mean_is_the_nearest_value_of_the_scale(tmp_path: Path) -> None:
    text = "user,item,rating\n1,7,3\n1,7,4\n2,7,4\n2,7,4.5\n"
    half = [value / 2 for value in range(1, 11)]
    assert repaired(tmp_path, plain(values=half, repeated="mean"), r=text)["rating"].tolist() == [
        3.5,
        4,
    ]


def test_times_may_be_days(tmp_path: Path) -> None:
    text = "user,item,rating,when\n1,7,3,2021-05-01 10:00:00\n1,7,5,2020-01-01\n"
    columns = plain(repeated="last", time="when")
    assert repaired(tmp_path, columns, r=text)["rating"].tolist() == [3]
    with pytest.raises(
        DataError, match="r.csv line 3 has 'yesterday' in `when`; expected the time"
    ):
        repaired(tmp_path, columns, r=text.replace("2020-01-01", "yesterday"))


@cases.each(
    ("mark", "changes"),
    [
        ("0", {"unrated": [0]}),
        ("0.0", {"unrated": 0}),
        ("-1", {"unrated": [-1, 99]}),
        ("NULL", {"ratings": {"unknown": "NULL"}}),
        ("", {"ratings": {"unknown": ["NULL"]}}),
    ],
)
def test_a_rating_that_means_none_is_left_out_and_counted(
    mark: str, changes: dict[str, object], tmp_path: Path
) -> None:
    columns = plain(**changes)
    rows = repaired(tmp_path, columns, r=f"user,item,rating\n1,7,3\n1,8,{mark}\n")
    assert rows["item"].tolist() == [7]
    assert list(ratings.passed_over(ratings.read(tmp_path, columns)).values()) == [1]
    encoder = Encoder.fit(rows.assign(target=3.0), columns)
    checked = encoder.check(input_rows([1, 7, mark], [2, 7, "4"]))
    unrated, rated = encoder.remarks(checked, checked)
    assert unrated.startswith("no rating is known of user 1:") and rated == ""
    assert checked["rating"].isna().tolist() == [True, False]


def test_a_rating_that_is_missing_is_refused_where_no_rule_says_otherwise(tmp_path: Path) -> None:
    message = "r.csv line 3 has no `rating`; expected one of 1, 2, 3, 4, 5"
    with pytest.raises(DataError, match=message):
        repaired(tmp_path, plain(), r="user,item,rating\n1,7,3\n1,8,\n")


@pytest.mark.parametrize(("line", "name"), [(",8,3", "user"), ("1, ,3", "item")])
def test_a_row_without_an_id_is_refused_and_an_empty_row_is_counted(
    line: str, name: str, tmp_path: Path
) -> None:
    text = f"user,item,rating\n1,7,3\n,,\n{line}\n"
    with pytest.raises(DataError, match=f"r.csv line 4 has no `{name}`; expected an id"):
        repaired(tmp_path, plain(), r=text)
    repaired(tmp_path, plain(), r=text.replace(line, ""))
    assert ratings.passed_over(ratings.read(tmp_path, plain()))["empty rows"] >= 1


def test_a_compressed_file_with_another_delimiter_and_times_is_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "r.dat.gz", "wt", encoding="latin-1") as stream:
        stream.write("1::7::4.5::978300760\nÜ::8::0.5::978302109\n")
    columns = plain(
        files=["r.dat.gz"],
        values={"lowest": 0.5, "highest": 5, "step": 0.5},
        ratings={
            "delimiter": "::",
            "encoding": "latin-1",
            "names": ["user", "item", "rating", "time"],
        },
    )
    rows = ratings.repair(ratings.read(tmp_path, columns), columns)
    assert rows[NEEDED].to_numpy().tolist() == [["1", 7, 4.5], ["Ü", 8, 0.5]]
    assert rows["time"].tolist() == [978300760, 978302109]


MATRIX = "user,j1,j2,j3\nann,-7.82,99,8.79\nbob,99,,4.08\n"


def test_a_matrix_of_users_by_items_is_read(tmp_path: Path) -> None:
    columns = plain(
        ratings={"layout": "matrix"},
        values={"lowest": -10, "highest": 10, "step": 0.01},
        like=5,
        unrated=[99],
    )
    rows = repaired(tmp_path, columns, r=MATRIX)
    assert rows[NEEDED].to_numpy().tolist() == [
        ["ann", "j1", -7.82],
        ["ann", "j3", 8.79],
        ["bob", "j3", 4.08],
    ]
    raw = ratings.read(tmp_path, columns)
    assert ratings.passed_over(raw) == {"ratings of 99, which mean none": 2}
    assert list(ratings.table(raw, columns)) == [*NEEDED, "title"]
    encoder = Encoder.fit(rows.assign(target=rows["rating"]), columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked = encoder.check(ratings.read_rows(tmp_path / "r.csv", columns))
    assert checked["rating"].tolist() == [-7.82, 8.79, 4.08]


def test_users_of_a_matrix_without_their_column_are_numbered(tmp_path: Path) -> None:
    columns = plain(
        ratings={"layout": "matrix", "names": ["count", "a", "b"], "ignored": ["count"]},
    )
    rows = repaired(tmp_path, columns, r="2,1,5\n1,,4\n")
    assert rows[NEEDED].to_numpy().tolist() == [[1, "a", 1], [1, "b", 5], [2, "b", 4]]


def test_the_codes_of_a_long_scale_do_not_wrap(tmp_path: Path) -> None:
    """2,001 values, which a byte cannot number."""
    columns = plain(values={"lowest": -10, "highest": 10, "step": 0.01}, like=5)
    assert len(columns.values) == 2001
    rows = repaired(tmp_path, columns, r="user,item,rating\n1,7,-10\n1,8,10\n2,7,-9.99\n2,8,0\n")
    encoder = Encoder.fit(rows.assign(target=rows["rating"]), columns)
    batch = encoder.encode(rows.assign(target=rows["rating"]))
    assert batch.observed.tolist() == [[1, 2001], [2, 1001]]
    assert batch.stars.tolist() == pytest.approx([-10, 10, -9.99, 0])
    for net in (
        SAE(2, 2, columns.values, **SAE_NET),
        SAE(2, 2, columns.values, **{**SAE_NET, "mode": "item", "refeed": 0}),
    ):
        net.initialise(batch)
        assert torch.isfinite(net.loss(batch))
        assert net.eval().predict(batch)["stars"].shape == (2, 2)


QUESTION = "user,item,rating\n1,7,4\n1,8,\nnew,8,3\nnew,7,\n"


@pytest.mark.parametrize(
    "upstream",
    [
        {"delimiter": "::", "names": ["user", "item", "rating", "time"]},
        {"delimiter": ";", "decimal": ","},
        {},
    ],
)
def test_a_question_may_be_csv_with_a_header_whatever_the_files_of_training_are(
    upstream: dict[str, object], tmp_path: Path
) -> None:
    columns = plain(ratings=upstream)
    (tmp_path / "q.csv").write_text(QUESTION)
    rows = ratings.read_rows(tmp_path / "q.csv", columns)
    encoder = Encoder(columns, [7, 8], ["7", "8"], [1, 2])
    checked = encoder.check(rows)
    assert checked["user"].tolist() == [1, 1, "new", "new"]
    assert checked["item"].tolist() == [7, 8, 8, 7]
    assert checked["rating"].tolist()[::2] == [4, 3]
    assert encoder.encode(checked).user.tolist() == [0, UNKNOWN_USER]
    (tmp_path / "q.csv").write_text(QUESTION.replace("1,8,\n", "1,8,,\n"))
    with pytest.raises(DataError, match="q.csv line 3 has 4 cells"):
        ratings.read_rows(tmp_path / "q.csv", columns)


def test_the_names_in_the_header_of_a_question_may_have_blanks_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(QUESTION.replace("user,item", '" user ", item '))
    columns = plain(ratings={"delimiter": "::", "names": ["user", "item", "rating"]})
    assert ratings.read_rows(tmp_path / "q.csv", columns)["item"].tolist() == ["7", "8", "8", "7"]


def test_a_question_in_the_upstream_format_is_read(tmp_path: Path) -> None:
    columns = plain(ratings={"delimiter": ";", "decimal": ","}, values=[0.5, 4.5], like=1)
    (tmp_path / "q.csv").write_text("user;item;rating\n1;7;4,5\n1;8;\n")
    rows = ratings.read_rows(tmp_path / "q.csv", columns)
    checked = Encoder(columns, [7, 8], ["7", "8"], [1, 2]).check(rows)
    assert checked["rating"].tolist()[0] == 4.5


def test_a_unrated_value_on_the_scale_is_refused() -> None:
    with pytest.raises(UsageError, match="`unrated` and `values` both have 1"):
        plain(unrated=[1])
    with pytest.raises(UsageError, match="`time` is `when`, which only `repeated: last` reads"):
        plain(time="when")


def test_what_has_one_sensible_default_may_be_left_out() -> None:
    columns = plain()
    assert (columns.title, columns.users_file, columns.test_files) == ("title", None, [])
    assert columns.all == ["user", "item", "rating", "title"]
    assert columns.model_dump(exclude_unset=True) == BLOCK
