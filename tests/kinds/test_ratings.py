"""Ratings: the upstream files and what is wrong with them, parts with their context, the question, the twin."""

import json
import math
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from sextant.errors import DataError
from sextant.families.rbm import RBM
from sextant.families.sae import SAE
from sextant.kinds.parts import PARTS, scored
from sextant.kinds.ratings import rows as ratings
from sextant.kinds.ratings.columns import Columns
from sextant.kinds.ratings.encoder import UNKNOWN_USER, Batch, Encoder
from sextant.kinds.ratings.twin import Twin, write_twin
from sextant.kinds.splits import HashSplit, Shares
from sextant.strict import check
from sextant.tasks.likes import metrics as likes
from sextant.tasks.stars import metrics as stars

ROOT = Path(__file__).parents[2]
CONF = yaml.safe_load((ROOT / "conf/dataset/movielens_100k.yaml").read_text())
COLUMNS = check(Columns, CONF["columns"], "columns")
TWIN = check(Twin, CONF["twin"], "twin")
MIRROR = os.environ.get(
    "SEXTANT_MIRROR"
)  # read here: conftest.py hides the environment from the tests

USERS, ITEMS = 31, 37
SPLIT = HashSplit(by="hash", salt=0, shares=Shares(train=0.6, val=0.2, gate=0.2, test=0.0))


def made_up(**changes: object) -> Twin:
    """A twin of prime sizes."""
    small = {
        "users": USERS,
        "items": ITEMS,
        "ratings": 421,
        "least": 7,
        "test": 83,
        "test_users": 13,
        "unknown": 5,
    }
    return TWIN.model_copy(update={**small, "repeated_titles": 3, "clusters": 3, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_twin(made_up(), COLUMNS, tmp_path)
    return tmp_path


@pytest.fixture
def rows(folder: Path) -> pd.DataFrame:
    return ratings.repair(ratings.read(folder, COLUMNS), COLUMNS)


@pytest.fixture
def parts(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return ratings.split(rows, COLUMNS, SPLIT)


@pytest.fixture
def encoder(parts: dict[str, pd.DataFrame]) -> Encoder:
    return Encoder.fit(parts["train"], COLUMNS)


def other(**changes: object) -> Columns:
    return check(Columns, {**CONF["columns"], **changes}, "columns")


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_files_are_read_as_upstream_writes_them(folder):
    """Rows that nobody gave, of films that nobody made."""
    films = "1|Fenêtre à l'Île, Une (2031)|01-Jan-2031||x|0\n2|61 (2032)||||1\n"
    (folder / "u.item").write_bytes(films.encode("latin-1"))
    (folder / "u1.base").write_text("7\t1\t2\t101\n")
    (folder / "u1.test").write_text("7\t2\t4\t103\n9\t1\t5\t107\n")
    raw = ratings.read(folder, COLUMNS)
    assert raw.items["title"].tolist() == ["Fenêtre à l'Île, Une (2031)", "61 (2032)"]
    assert raw.ratings.to_numpy().tolist() == [
        [7, 1, 2, 101, False],
        [7, 2, 4, 103, True],
        [9, 1, 5, 107, True],
    ]
    table = ratings.table(raw, COLUMNS)
    assert list(table) == COLUMNS.all == ["user", "item", "rating", "timestamp", "title"]
    assert table["title"].tolist() == [
        "Fenêtre à l'Île, Une (2031)",
        "61 (2032)",
        "Fenêtre à l'Île, Une (2031)",
    ]


@pytest.mark.parametrize(
    "delimiter, names, head",
    [
        ("::", ["user", "item", "rating"], ""),
        (",", None, "user,item,rating\n"),
        ("; ", None, "user; item; rating\n"),
    ],
    ids=["two signs", "header", "header and two signs"],
)
def test_any_delimiter_with_or_without_a_header(folder, delimiter, names, head):
    lines = [[1, 2, 4.5], [3, 1, 0.5]]
    (folder / "r.dat").write_text(
        head + "".join(delimiter.join(map(str, line)) + "\n" for line in lines)
    )
    columns = other(
        ratings={"delimiter": delimiter, "encoding": "ascii", "names": names},
        files=["r.dat"], test_files=[], values=[0.5, 1, 2.5, 4.5],
    )  # fmt: skip
    found = ratings.read(folder, columns).ratings
    assert (
        found[["user", "item", "rating"]].to_numpy().tolist() == lines and not found["test"].any()
    )


@pytest.mark.parametrize("delimiter", ["|", "::"])
def test_in_a_file_without_a_header_a_quotation_mark_is_a_sign_like_any_other(folder, delimiter):
    """At the start of a title it would else swallow all lines up to the next one."""
    titles = [
        '"Harbour" Letters, The (2031)',
        '"Iron',
        'Glass" (2032)',
        '""',
        "'Garden'",
        'Last "Road"',
    ]
    lines = [f"{n}{delimiter}{title}{delimiter}x" for n, title in enumerate(titles, start=1)]
    (folder / "u.item").write_text("\n".join(lines))
    items = ratings.read(
        folder, other(items={**CONF["columns"]["items"], "delimiter": delimiter})
    ).items
    assert items["title"].tolist() == titles and items["item"].tolist() == [1, 2, 3, 4, 5, 6]


def test_in_a_file_with_a_header_a_title_may_be_quoted(folder):
    (folder / "u.item").write_text('item,title\n1,"Road, The (2031)"\n2,"A ""Glass"" (2032)"\n')
    items = ratings.read(
        folder, other(items={"delimiter": ",", "encoding": "ascii", "names": None})
    ).items
    assert items["title"].tolist() == ["Road, The (2031)", 'A "Glass" (2032)']


def test_what_the_parser_says_is_told_in_one_line(folder, tmp_path):
    """Its words end with a line break."""
    ragged = "user,item,rating\n1,2,3\n1,2,3,4,5\n"
    (folder / "r.csv").write_text(ragged)
    columns = other(
        ratings={"delimiter": ",", "encoding": "ascii", "names": None},
        files=["r.csv"],
        test_files=[],
    )
    for read in (
        lambda: ratings.read(folder, columns),
        lambda: ratings.read_rows(folder / "r.csv", columns),
    ):
        with pytest.raises(
            DataError, match=r"r.csv is no table.*: .*Expected 3 fields in line 3, saw 5"
        ) as refused:
            read()
        assert "\n" not in str(refused.value)


def change(file: str, line: int, text: str, encoding: str = "latin-1"):
    def damage(folder: Path) -> None:
        lines = (folder / file).read_text(encoding="latin-1").splitlines()
        lines[line] = text
        (folder / file).write_bytes("".join(f"{one}\n" for one in lines).encode(encoding))

    return damage


def twice(folder: Path) -> None:
    first = (folder / "u1.base").read_text().splitlines()[0]
    with (folder / "u1.test").open("a") as stream:
        stream.write(first + "\n")


def without(file: str):
    return lambda folder: (folder / file).unlink()


def empty(file: str):
    return lambda folder: (folder / file).write_bytes(b"")


BAD = {
    "a rating of 7": (
        change("u1.base", 0, "1\t2\t7\t9"),
        r"row 1 has `rating` 7; expected one of 1, 2, 3, 4, 5",
    ),
    "half a star": (
        change("u1.base", 2, "1\t2\t3.5\t9"),
        r"row 3 has `rating` 3.5; expected one of",
    ),
    "no rating": (change("u1.base", 2, "1\t2\t\t9"), r"row 3 has `rating` nan; expected one of"),
    "letters": (change("u1.base", 2, "1\t2\tfour\t9"), r"row 3 has `rating` four; expected one of"),
    "a user id of 0": (
        change("u1.base", 1, "0\t2\t3\t9"),
        r"row 2 has `user` 0; ids are whole numbers from 1",
    ),
    "a film id of -3": (
        change("u1.base", 1, "1\t-3\t3\t9"),
        r"row 2 has `item` -3; ids are whole numbers from 1",
    ),
    "an unknown film": (
        change("u1.base", 1, "1\t99\t3\t9"),
        r"row 2 has `item` 99, which u.item lacks",
    ),
    "an unknown user": (
        change("u1.base", 1, "99\t1\t3\t9"),
        r"row 2 has `user` 99, which u.user lacks",
    ),
    "a pair twice": (twice, r"user \d+ and item \d+ are there twice; keep one"),
    "a film without title": (
        change("u.item", 4, "5|||"),
        r"u.item: item 5 has no `title`; give it one",
    ),
    "a blank title": (change("u.item", 4, "5|  ||"), r"u.item: item 5 has no `title`; give it one"),
    "a film twice": (change("u.item", 4, "4|Again (1990)||"), r"u.item has `item` 4 twice"),
    "a film id of 0": (
        change("u.item", 4, "0|Zero (1990)||"),
        r"u.item row 5 has `item` 0; ids are whole",
    ),
    "no file": (without("u.item"), r"u.item is not there; `make pull` brings it"),
    "an empty file": (empty("u1.base"), r"u1.base is empty; expected user, item, rating"),
    "another delimiter": (
        change("u.item", 0, "1, Glass Harbour"),
        r"u.item: item 1, Glass Harbour has no `title`|has `item`",
    ),
}


@pytest.mark.parametrize("damage, message", BAD.values(), ids=BAD)
def test_what_is_wrong_is_refused_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(DataError, match=message) as refused:
        ratings.repair(ratings.read(folder, COLUMNS), COLUMNS)
    assert "\n" not in str(refused.value)


def test_latin_1_read_as_utf_8_is_refused_with_the_place(folder):
    wrong = other(items={**CONF["columns"]["items"], "encoding": "utf-8"})
    with pytest.raises(
        DataError, match=r"u.item is not utf-8: byte 0x[89a-f][0-9a-f] at \d+; name its encoding"
    ):
        ratings.read(folder, wrong)


def test_a_scale_that_like_does_not_divide_is_refused():
    for changes in ({"like": 1.0}, {"like": 6.0}, {"values": [1, 3, 2], "like": 2.0}):
        with pytest.raises(Exception, match="does not divide the rising `values`"):
            other(**changes)


# --- parts ------------------------------------------------------------------------------------------------------------


def test_each_pair_lies_in_one_part_and_the_fixed_one_is_test(rows, parts):
    own = {
        name: set(map(tuple, scored(part)[["user", "item"]].to_numpy()))
        for name, part in parts.items()
    }
    assert sum(map(len, own.values())) == len(set().union(*own.values())) == len(rows)
    assert own["test"] == set(map(tuple, rows.loc[rows["test"], ["user", "item"]].to_numpy()))
    assert list(parts) == list(PARTS) and all(len(own[name]) > 20 for name in PARTS)
    ratings.check_parts(parts, COLUMNS)


def test_context_is_what_train_knows_of_the_users_of_the_part_and_nothing_else(parts):
    train = parts["train"]
    assert not train["context"].any() and (train["rating"] == train["target"]).all()
    for name in PARTS[1:]:
        part = parts[name]
        context, asked = part[part["context"]], part[~part["context"]]
        known = train[train["user"].isin(asked["user"])]
        pd.testing.assert_frame_equal(
            context[["user", "item", "rating"]].reset_index(drop=True),
            known[["user", "item", "rating"]].reset_index(drop=True),
            check_like=True,
        )
        assert (
            context["target"].isna().all()
            and asked["rating"].isna().all()
            and asked["target"].notna().all()
        )


def test_a_pair_never_changes_sides_as_ratings_come_in(rows):
    fewer = rows.iloc[::3].reset_index(drop=True)
    fewer.attrs = rows.attrs
    whole, some = (ratings.split(each, COLUMNS, SPLIT) for each in (rows, fewer))
    for name in PARTS:
        inside = set(map(tuple, scored(some[name])[["user", "item"]].to_numpy()))
        assert inside <= set(map(tuple, scored(whole[name])[["user", "item"]].to_numpy()))


def test_a_pair_in_two_parts_and_a_part_without_dislikes_are_refused(parts):
    asked = scored(parts["gate"]).head(1)
    with pytest.raises(DataError, match=r"user \d+, item \d+ lies in val and in gate"):
        ratings.check_parts({**parts, "val": pd.concat([parts["val"], asked])}, COLUMNS)
    one = parts["gate"].assign(target=5.0)
    with pytest.raises(DataError, match=r"part gate \(\d+ ratings\) lacks likes or dislikes"):
        ratings.check_parts({**parts, "gate": one}, COLUMNS)


def test_a_part_is_written_with_its_catalogue_and_the_same_bytes(parts, tmp_path):
    ratings.write(parts["val"], tmp_path / "val")
    ratings.write(parts["val"].copy(), tmp_path / "again")
    assert (tmp_path / "val.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    found = ratings.load(tmp_path / "val")
    pd.testing.assert_frame_equal(found, parts["val"])
    assert ratings.catalogue(found) == ratings.catalogue(parts["train"])
    assert (
        len(ratings.catalogue(found)["items"]) == ITEMS
        and len(ratings.catalogue(found)["users"]) == USERS
    )


def test_the_profile_counts_the_training_ratings(parts):
    found = ratings.profile(parts, COLUMNS)["columns"]
    assert sum(found["rating"].values()) == len(parts["train"]) and list(found["rating"]) == [
        "1",
        "2",
        "3",
        "4",
        "5",
    ]
    assert found["user"]["count"] == USERS and found["item"]["count"] == ITEMS
    json.dumps(found)


# --- tensors ----------------------------------------------------------------------------------------------------------


def test_the_sizes_are_those_of_the_catalogue_and_not_of_a_part(parts, encoder):
    """A part holds few users and films; every matrix is as wide as u.item, and knows all of u.user."""
    assert encoder.sizes == {"users": USERS, "items": ITEMS, "values": [1, 2, 3, 4, 5], "like": 3}
    batch = encoder.encode(parts["test"])
    assert (
        batch.known.shape == batch.target.shape == (scored(parts["test"])["user"].nunique(), ITEMS)
    )


@pytest.mark.parametrize("name", PARTS)
def test_each_rating_has_its_place(name, parts, encoder):
    part, batch = parts[name], encoder.encode(parts[name])
    users, _ = ratings.users_of(part, COLUMNS)
    for column, codes in (("rating", batch.known), ("target", batch.target)):
        there = part[part[column].notna()]
        assert (codes > 0).sum() == len(there)
        for user, item, star in there[["user", "item", column]].to_numpy()[::17]:
            assert codes[list(users).index(user), encoder.items.index(item)] == star
    assert [encoder.users[i] for i in batch.user] == list(users)
    if name != "train":
        assert not ((batch.known > 0) & (batch.target > 0)).any()
    assert torch.equal(batch.stars, batch.target[batch.target > 0].float())
    assert torch.equal(batch.liked, batch.target[batch.target > 0] >= 3)


def test_the_state_is_json_holds_no_rating_and_gives_the_encoder_back(parts, encoder):
    state = json.loads(json.dumps(encoder.state()))
    assert set(state) == {"items", "titles", "users"}
    again = Encoder.from_state(state, COLUMNS)
    for one, other in zip(encoder.encode(parts["val"]), again.encode(parts["val"]), strict=True):
        assert torch.equal(one, other)


# --- questions --------------------------------------------------------------------------------------------------------


def question(*lines: list) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=["user", "item", "rating"])


def test_a_question_is_read_from_csv_json_parquet_and_an_upstream_file(folder, tmp_path):
    asked = question([1, 2, 5.0], [1, 3, np.nan])
    asked.to_csv(tmp_path / "q.csv", index=False)
    asked.to_parquet(tmp_path / "q.parquet")
    asked.to_json(tmp_path / "q.json", orient="records")
    for name in ("q.csv", "q.parquet", "q.json"):
        pd.testing.assert_frame_equal(
            ratings.read_rows(tmp_path / name, COLUMNS), asked, check_dtype=False
        )
    assert list(ratings.read_rows(folder / "u1.test", COLUMNS)) == [
        "user",
        "item",
        "rating",
        "timestamp",
    ]
    with pytest.raises(DataError, match="nowhere.csv is not there; name a file of ratings"):
        ratings.read_rows(tmp_path / "nowhere.csv", COLUMNS)
    (tmp_path / "q.csv").write_text("")
    with pytest.raises(DataError, match="q.csv is no table: .*; expected user, item, rating"):
        ratings.read_rows(tmp_path / "q.csv", COLUMNS)


def test_a_new_user_is_answered_and_keeps_the_id(encoder):
    batch = encoder.encode(encoder.check(question([7001, 2, 5], [7001, 3, None], [4, 2, 1])))
    assert batch.user.tolist() == [UNKNOWN_USER, 3]
    assert batch.known[0, 1] == 5 and batch.known[0].sum() == 5 and batch.known[1, 1] == 1


REFUSED = {
    "missing column": (
        pd.DataFrame({"user": [1], "item": [2]}),
        "missing column rating; expected user, item, rating",
    ),
    "surplus column": (
        question([1, 2, 3]).assign(mood="good"),
        "surplus column mood; expected user, item, rating",
    ),
    "no rows": (question(), "no rows to answer; give some ratings"),
    "a film out of the catalogue": (
        question([1, 2, 3], [1, 38, None]),
        r"row 2 names item 38, .* 37 known .* 1 to 37",
    ),
    "seven stars": (question([1, 2, 7]), "row 1 has `rating` 7; expected one of 1, 2, 3, 4, 5"),
    "a user id of 0": (question([0, 2, 3]), "row 1 has `user` 0; ids are whole numbers from 1"),
    "a film id in letters": (
        question([1, "two", 3]),
        "row 1 has `item` two; ids are whole numbers",
    ),
    "a user id without end": (
        question([1, 2, 3], [math.inf, 2, 3]),
        "row 2 has `user` inf; ids are whole numbers",
    ),
    "half a user": (
        question([1, 2, 3], [1.5, 2, 3]),
        "row 2 has `user` 1.5; ids are whole numbers",
    ),
    "a user id of no number": (
        question([1, 2, 3], [math.nan, 2, 3]),
        "row 2 has `user` nan; ids are whole numbers",
    ),
    **{
        f"{name} as an id": (
            question([1, 2, 3], [big, 2, 3]),
            r"row 2 has `user` [\d.e+]+; ids are .* below 2\*\*53",
        )
        for name, big in {
            "1e20": 1e20,
            "2**53": 2**53,
            "2**63": 2**63,
            "2**64": 2**64,
            "2.0**63": 2.0**63,
        }.items()
    },
    "a film id without end": (
        question([1, -math.inf, 3]),
        "row 1 has `item` -inf; ids are whole numbers",
    ),
    "a pair twice": (question([1, 2, 3], [1, 2, None]), "row 2: user 1 and item 2 are there twice"),
}


@pytest.mark.parametrize("frame, message", REFUSED.values(), ids=REFUSED)
def test_a_question_that_cannot_be_answered_is_refused(encoder, frame, message):
    with pytest.raises(DataError, match=message) as refused:
        encoder.check(frame)
    assert "\n" not in str(refused.value)


def test_the_greatest_id_is_taken_as_it_is(encoder):
    greatest = 2**53 - 1
    assert encoder.check(question([1, 2, 3], [greatest, 2, 3]))["user"].tolist() == [1, greatest]


def test_a_user_of_whom_nothing_is_known_is_answered_with_a_warning(encoder):
    with pytest.warns(
        UserWarning, match="nothing is known of user 9: answered as the average user"
    ):
        found = encoder.check(question([9, 2, None], [8, 2, 4]))
    assert encoder.encode(found).known[0].sum() == 0


def test_a_part_is_a_question_that_holds_no_answer(parts, encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked = encoder.check(encoder.inputs(parts["gate"]))
    assert list(asked) == ["user", "item", "rating"]
    assert asked["rating"].isna().sum() == (~parts["gate"]["context"]).sum()
    assert encoder.schema() == [
        ("user", "long", True),
        ("item", "long", True),
        ("rating", "double", True),
    ]


def test_the_example_can_be_asked(encoder):
    assert len(encoder.encode(encoder.check(encoder.example())).user) == 2


# --- the twin ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("twin")
    write_twin(TWIN, COLUMNS, folder)
    return folder


def test_the_twin_has_the_counts_shares_and_quirks_of_the_files(twin):
    raw = ratings.read(twin, COLUMNS)
    rows = raw.ratings
    assert (len(rows), int(rows["test"].sum()), len(raw.items), len(raw.users)) == (
        100_000,
        20_000,
        1682,
        943,
    )
    shares = rows["rating"].value_counts().sort_index().tolist()
    assert shares == pytest.approx([6110, 11370, 27145, 34174, 21201], abs=2)
    assert rows.loc[rows["test"], "user"].max() <= 462 and rows["item"].nunique() == 1682
    per_user, per_item = rows.groupby("user").size(), rows.groupby("item").size()
    assert per_user.min() >= 20 and 600 < per_user.max() < 800 and len(per_user) == 943
    assert 60 < (per_item == 1).sum() < 200 and per_item.median() < 40
    base, test = rows[~rows["test"]], rows[rows["test"]]
    assert 10 < (~test["item"].drop_duplicates().isin(base["item"])).sum() < 60
    assert raw.items["title"].duplicated().sum() == 18 and raw.items["title"][266] == "unknown"
    with pytest.raises(UnicodeDecodeError):
        (twin / "u.item").read_text(encoding="utf-8")
    ratings.repair(raw, COLUMNS)


def test_the_twin_is_the_same_every_time(twin, tmp_path):
    write_twin(TWIN, COLUMNS, tmp_path)
    for path in twin.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_a_twin_without_a_fixed_test_part_and_with_a_header(tmp_path):
    table = {"delimiter": ",", "encoding": "utf-8", "names": None}
    columns = other(ratings=table, items=table, users=table, test_files=[])
    write_twin(made_up(), columns, tmp_path)
    raw = ratings.read(tmp_path, columns)
    assert (
        len(raw.ratings) == 421
        and len(raw.items) == ITEMS
        and "title" in raw.items
        and "user" in raw.users
    )
    ratings.repair(raw, columns)


@pytest.fixture(scope="module")
def planted(twin):
    """The twin's parts as the conf splits them, the encoder, and the batches of train and val."""
    split = HashSplit(**CONF["split"])
    parts = ratings.split(ratings.repair(ratings.read(twin, COLUMNS), COLUMNS), COLUMNS, split)
    encoder = Encoder.fit(parts["train"], COLUMNS)
    return parts, encoder, {name: encoder.encode(parts[name]) for name in ("train", "val")}


def trained(family: type, name: str, planted, epochs: int):
    """A net as its conf builds it, trained for a few epochs, and its answers about val."""
    conf = yaml.safe_load((ROOT / f"conf/model/{name}.yaml").read_text())
    parts, encoder, batch = planted
    task = {"rbm": likes, "sae": stars}[name]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {key: value for key, value in encoder.sizes.items() if family is RBM or key != "like"}
    net = family(**sizes, **conf["net"])
    net.initialise(batch["train"])
    decay = conf["optimizer"]["weight_decay"]
    optimizer = torch.optim.AdamW(
        net.param_groups(), lr=conf["optimizer"]["lr"], weight_decay=decay
    )
    size = conf["schedule"]["batch_size"]
    for _ in range(epochs):
        net.train()
        for index in torch.randperm(len(batch["train"].user)).split(size):
            optimizer.zero_grad()
            net.loss(Batch(*(t[index] for t in batch["train"]))).backward()
            optimizer.step()
    with torch.no_grad():
        outputs = net.eval().predict(batch["val"])
    calibration = task.calibrate(outputs, batch["val"])
    return task.score(
        task.answers(outputs, parts["val"], encoder, calibration), parts["val"], encoder
    )


@pytest.mark.slow
def test_on_the_twin_the_autoencoder_beats_the_strongest_baseline_by_a_tenth_of_a_star(planted):
    from sextant.tasks.stars.baselines import user_item_bias

    parts, encoder, _ = planted
    strongest = stars.score(
        user_item_bias(parts["train"], COLUMNS)(parts["val"]), parts["val"], encoder
    )
    assert trained(SAE, "sae", planted, epochs=12)["rmse"] < strongest["rmse"] - 0.1


@pytest.mark.slow
def test_on_the_twin_the_boltzmann_machine_beats_the_strongest_baseline_by_four_points_of_auc(
    planted,
):
    from sextant.tasks.likes.baselines import bias_logistic

    parts, encoder, _ = planted
    strongest = likes.score(
        bias_logistic(parts["train"], COLUMNS)(parts["val"]), parts["val"], encoder
    )
    assert trained(RBM, "rbm", planted, epochs=25)["auroc"] > strongest["auroc"] + 0.04


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage, fails",
    [
        (lambda rows: rows, []),
        (
            lambda rows: rows.assign(rating=rows["rating"].replace(1, 7)),
            ["expect_column_values_to_be_in_set"],
        ),
        (lambda rows: rows.assign(user=rows["user"] - 1), ["expect_column_values_to_be_between"]),
        (
            lambda rows: rows.assign(title=rows["title"].where(rows.item != 3)),
            ["expect_column_values_to_not_be_null"],
        ),
        (lambda rows: pd.concat([rows, rows.head(1)]), ["expect_compound_columns_to_be_unique"]),
        (lambda rows: rows.head(99_999), ["expect_table_row_count_to_be_between"]),
        (
            lambda rows: rows.assign(title=rows["title"].str.encode("utf-8").str.decode("latin-1")),
            ["expect_column_values_to_not_match_regex"],
        ),
    ],
    ids=[
        "as it is",
        "a rating of 7",
        "a user id of 0",
        "a film without title",
        "a pair twice",
        "cut off",
        "mojibake",
    ],
)
def test_the_expectations_name_what_is_wrong(twin, damage, fails):
    from sextant.validate import validate

    suite = yaml.safe_load((ROOT / "conf/expectations/movielens_100k.yaml").read_text())
    results = validate(
        damage(ratings.table(ratings.read(twin, COLUMNS), COLUMNS)).reset_index(drop=True), suite
    )
    assert [
        r["expectation"] for r in results if r["severity"] == "critical" and not r["success"]
    ] == fails


# --- the real files ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(MIRROR is None, reason="needs the real ratings under SEXTANT_MIRROR")
def test_the_real_files_are_as_their_readme_says():
    raw = ratings.read(Path(str(MIRROR), "ratings/ml-100k"), COLUMNS)
    rows = ratings.repair(raw, COLUMNS)
    assert rows["rating"].value_counts().sort_index().tolist() == [6110, 11370, 27145, 34174, 21201]
    assert (
        rows.loc[rows["test"], "user"].nunique() == 459
        and rows.loc[rows["test"], "user"].max() == 462
    )
    assert raw.items["title"].duplicated().sum() == 18 and raw.items["title"][266] == "unknown"
    assert raw.items["title"].str.contains("[^\x00-\x7f]", regex=True).sum() == 9
