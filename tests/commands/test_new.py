"""`make new` on small files of each kind: its confs need no editing to prepare the data."""

import copy
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from builders import random_picture, write_files, write_zip

from sextant import check, config, paths, plugins, prepare, pull, validate
from sextant.commands import new
from sextant.errors import DataError, UsageError

RNG = np.random.default_rng(11)
ROWS = 300


@pytest.fixture
def home(one_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with conf/ and params.yaml, and a folder for the files of a user."""
    monkeypatch.setattr(config, "_compose", composed_once)
    (one_model / "mine").mkdir()
    return one_model / "mine"


COMPOSED: dict[tuple[object, ...], dict[str, Any]] = {}
COMPOSE = config._compose


def composed_once(overrides: Sequence[str]) -> dict[str, Any]:
    """What Hydra composes of files with these contents: it takes most of the time of `new`.

    The name of a data set or model is no part of that, nor are comments.
    """
    group, _, name = overrides[0].partition("=")
    key: list[object] = [group, *overrides[1:]]
    for file in ("config.yaml", "trainer.yaml", f"{group}/{name}.yaml"):
        key.append(re.sub(r" +# .*|^# .*", "", (paths.CONF / file).read_text()))
    if tuple(key) not in COMPOSED:
        COMPOSED[tuple(key)] = COMPOSE(overrides)
    return copy.deepcopy(COMPOSED[tuple(key)])


def loans() -> pd.DataFrame:
    """The same rows each time, so that their confs are composed once."""
    rng = np.random.default_rng(11)
    income = rng.normal(3000, 800, ROWS).round(2)
    repaid = np.where(income + rng.normal(0, 900, ROWS) > 2300, "yes", "no")
    return pd.DataFrame(
        {
            "Loan": np.arange(1001, 1001 + ROWS),
            "Branch name": rng.choice(["North", "South"], ROWS),
            "Age": rng.integers(18, 90, ROWS),
            "Income": income,
            "Since": pd.date_range("2020-01-01", periods=ROWS).strftime("%d.%m.%Y"),
            "Repaid": repaid,
        }
    )


def made(file: Path, **options: str) -> tuple[config.DatasetConf, str]:
    """Run `new` on a file; return the conf of the data set and what was printed."""
    given = {name.upper(): value for name, value in options.items()}
    summary = new.new(new.parse([f"FILE={file}", *[f"{k}={v}" for k, v in given.items()]]))
    name = summary.split(":")[0]
    return config.dataset(name), summary


def holds(conf: config.DatasetConf, tmp_path: Path, suite: bool = True) -> dict[str, pd.DataFrame]:
    """The parts of the data; pull, prepare and every expectation (`suite`) have passed.

    `new` itself has checked the confs: see test_confs_that_fail_the_check_are_not_written.
    """
    raw_folder = tmp_path / "raw"
    pull.pull(conf, raw_folder)
    rows: Any = plugins.kind(conf.kind).rows
    raw = rows.read(raw_folder, conf.columns)
    if suite:
        results = validate.validate(rows.table(raw, conf.columns), conf.expectations)
        assert [result["message"] for result in results if not result["success"]] == []
    return prepare.prepare(raw, conf)


# --- tables -------------------------------------------------------------------------------------


def test_where_one_class_is_rare_the_conf_says_how_to_predict_it(home: Path) -> None:
    rows = loans()
    rows["Repaid"] = np.where(np.arange(ROWS) % 8 == 0, "no", "yes")
    rows.to_csv(home / "loans.csv", index=False)
    _, summary = made(home / "loans.csv", target="Repaid")
    assert "12.7% are no, so that it is the most probable class in few" in summary
    text = paths.model_conf("loans").read_text()
    assert "# In few rows no is the most probable class." in text
    model = config.model("loans")
    assert "decide" not in model.schedule and model.gate.metric == "auroc"
    made(home / "loans.csv", target="Repaid", name="chosen", decide="f1")
    assert config.model("chosen").schedule["decide"] == {"threshold": "f1"}
    with pytest.raises(UsageError, match="DECIDE=2: expected f1, or a number between 0 and 1"):
        made(home / "loans.csv", target="Repaid", name="other", decide="2")
    with pytest.raises(UsageError, match="DECIDE is about the probability of one class: name it"):
        made(home / "loans.csv", target="Branch name", name="x", decide="f1", task="regression")


def test_an_amount_with_marks_is_a_number_to_predict(home: Path, tmp_path: Path) -> None:
    rows = loans()
    rows["Repaid"] = [f"$ {amount:,.2f}" for amount in rows["Income"] * 3]
    rows["Income"] = [f"{income:,.2f}" for income in rows["Income"]]
    title = "Loans of 2020,,,,,\n"
    total = 'Total,,,,,"$ 2,700,000.00"\n'
    (home / "loans.csv").write_text(title + rows.to_csv(index=False) + total)
    conf, summary = made(home / "loans.csv", target="Repaid")
    assert "left out as a total: Total, $ 2,700,000.00 (FOOTER=0)" in summary
    columns = conf.columns
    assert (columns.skip, columns.footer, columns.thousands) == (1, 1, ",")
    parts = holds(conf, tmp_path, suite=False)
    assert sum(map(len, parts.values())) == ROWS
    assert parts["train"]["Repaid"].between(1000, 20_000).all()
    rows_of_kind: Any = plugins.kind("tabular").rows
    table = rows_of_kind.table(rows_of_kind.read(tmp_path / "raw", columns), columns)
    assert table["Repaid"].dtype == float  # as its expectations are written


WRITERS: Mapping[str, Callable[[pd.DataFrame, Path], object]] = {
    "loans.csv": lambda rows, path: rows.to_csv(path, index=False),
    "Loans 2020.CSV": lambda rows, path: rows.to_csv(path, index=False),
    "loans.tsv": lambda rows, path: rows.to_csv(path, index=False, sep="\t"),
    "loans_eu.csv": lambda rows, path: rows.to_csv(
        path, index=False, sep=";", decimal=",", encoding="utf-16"
    ),
    "loans.csv.gz": lambda rows, path: rows.to_csv(path, index=False),
    "loans.xlsx": lambda rows, path: rows.to_excel(path, index=False),
    "loans.parquet": lambda rows, path: rows.to_parquet(path, index=False),
    "loans.jsonl": lambda rows, path: rows.to_json(path, orient="records", lines=True),
}


# tests/guess/ tests each guess alone, and tests/kinds/test_formats.py each format.
FILES = [
    pytest.param(file, marks=[] if file == "loans.csv" else pytest.mark.slow) for file in WRITERS
]


@pytest.mark.parametrize("file", FILES)
def test_a_table_of_any_format_needs_no_editing(file: str, home: Path, tmp_path: Path) -> None:
    WRITERS[file](loans(), home / file)
    conf, summary = made(home / file, target="Repaid", name="mine")
    columns = conf.columns
    assert (columns.key, columns.target, columns.positive) == ("Loan", "Repaid", "no")
    assert columns.numeric == ["Age", "Income"]
    assert columns.categorical == ["Branch name"]
    assert columns.ignored == ["Since"]
    assert conf.chosen_source == "local"
    assert conf.sources["local"][0]["path"] == f"mine/{file}"
    # Great Expectations takes a second: text and values with types are enough.
    parts = holds(conf, tmp_path, suite=file in ("loans.tsv", "loans.parquet"))
    assert sum(map(len, parts.values())) == ROWS
    assert summary.startswith("mine: kind tabular, task classification, family ann")
    assert len(summary.splitlines()) <= 18
    assert max(map(len, summary.splitlines())) <= 160
    line = config.params().models["mine"]
    assert (line.family, line.task, line.kind) == ("ann", "classification", "tabular")


@pytest.mark.slow
def test_the_tasks_of_a_table(home: Path, tmp_path: Path) -> None:
    loans().to_csv(home / "loans.csv", index=False)
    # Classification: test_a_table_of_any_format_needs_no_editing.
    conf, _ = made(home / "loans.csv", target="Income")
    model = config.params().models[conf.name]
    assert (model.task, model.family) == ("regression", "ann")
    holds(conf, tmp_path / "regression")
    conf, _ = made(home / "loans.csv", task="mapping", name="a_map")
    assert config.params().models["a_map"].family == "som" and conf.columns.target is None
    holds(conf, tmp_path / "map")


@pytest.mark.slow
def test_marks_and_messy_cells_are_found(home: Path, tmp_path: Path) -> None:
    rows = loans().astype({"Income": object, "Age": object})
    rows.loc[::7, "Income"] = "N/A"
    rows.loc[3, "Age"] = " "
    text = "# exported\n# on Monday\n" + rows.to_csv(index=False)
    (home / "loans.csv").write_text(text.replace("North", " North"), encoding="cp1252")
    conf, summary = made(home / "loans.csv", target="Repaid")
    assert conf.columns.unknown == ["N/A"] and conf.columns.comment == "#"
    assert "Income 43" in summary
    parts = holds(conf, tmp_path)
    levels = set(pd.concat(list(parts.values()))["Branch name"])
    assert levels == {"North", "South"}


@pytest.mark.slow
def test_options_overrule_guesses(home: Path, tmp_path: Path) -> None:
    loans().to_csv(home / "loans.csv", index=False, header=False)
    conf, summary = made(
        home / "loans.csv", target="6", key="column_1", name="mine", header="no",
        ignored="column_5", positive="yes",
    )  # fmt: skip
    assert conf.columns.target == "column_6"
    assert conf.columns.positive == "yes"
    assert "HEADER" not in summary
    holds(conf, tmp_path)
    named, _ = made(
        home / "loans.csv", names="a,b,c,d,e,f", target="f", name="other", unknown="North,South"
    )
    assert named.columns.names == list("abcdef") and named.columns.unknown == ["North", "South"]


@pytest.mark.slow
def test_a_class_that_a_part_lacks_gets_another_split(home: Path, tmp_path: Path) -> None:
    rows = loans()
    rows["Repaid"] = "yes"
    rows.loc[rows.index % 30 == 0, "Repaid"] = "no"
    rows.to_csv(home / "loans.csv", index=False)
    conf, _ = made(home / "loans.csv", target="Repaid")
    parts = holds(conf, tmp_path)
    assert all(set(part["Repaid"]) == {"no", "yes"} for part in parts.values())


# --- series, ratings, pictures ------------------------------------------------------------------


def stock(days: int = 200) -> pd.DataFrame:
    close = 100 * np.exp(np.cumsum(RNG.normal(0, 0.01, days)))
    return pd.DataFrame(
        {
            "Date": pd.bdate_range("2020-01-01", periods=days).strftime("%m/%d/%Y"),
            "Open": (close * 0.999).round(2),
            "High": (close * 1.01).round(2),
            "Low": (close * 0.99).round(2),
            "Close": close.round(2),
            "Volume": [f"{volume:,}" for volume in RNG.integers(1000, 9_000_000, days)],
        }
    )


def test_an_export_of_prices_is_a_series(home: Path, tmp_path: Path) -> None:
    stock().iloc[::-1].to_csv(home / "prices.csv", index=False)
    conf, summary = made(home / "prices.csv", target="Open")
    assert conf.kind == "series" and conf.columns.date_format == "%m/%d/%Y"
    assert (conf.columns.target, conf.columns.base) == ("Open", "Close")
    assert conf.columns.thousands == ","
    holds(conf, tmp_path, suite=False)  # that of the header of three lines is tested
    assert "task forecasting, family rnn" in summary


@pytest.mark.slow
def test_the_header_of_three_lines_of_yfinance(home: Path, tmp_path: Path) -> None:
    rows = stock().drop(columns="Volume")
    body = rows.to_csv(index=False, header=False)
    head = "Price,Open,High,Low,Close\nTicker,XYZ,XYZ,XYZ,XYZ\nDate,,,,\n"
    (home / "xyz.csv").write_text(head + body)
    conf, _ = made(home / "xyz.csv")
    assert (conf.columns.date, conf.columns.skip_after) == ("Price", 2)
    holds(conf, tmp_path)


# --- text ---------------------------------------------------------------------------------------


def test_lines_of_words_are_a_text(home: Path, tmp_path: Path) -> None:
    play = "First Citizen:\nBefore we go, hear me speak.\n\nAll:\nSpeak, we hear!\n\n" * 90
    (home / "Scripts 2.txt").write_text(play)
    conf, summary = made(home / "Scripts 2.txt")
    assert (conf.name, conf.kind) == ("scripts_2", "text")
    assert f"text: {len(play):,} characters of" in summary
    parts = holds(conf, tmp_path, suite=False)
    assert sum(len("".join(rows["text"])) for rows in parts.values()) == len(play)
    assert config.model("scripts_2").family == "char_rnn"


@pytest.mark.slow
def test_a_folder_of_movielens_is_ratings(home: Path, tmp_path: Path) -> None:
    folder = home / "ml"
    folder.mkdir()
    lines = []
    for user in range(1, 41):
        for item in RNG.permutation(50)[:20]:
            lines.append(f"{user}\t{item + 1}\t{RNG.integers(1, 6)}\t{881250949 + user}\n")
    (folder / "u.data").write_text("".join(lines))
    (folder / "u.item").write_bytes(
        "".join(f"{i}|Été {i} (1995)|01-Jan-1995||\n" for i in range(1, 51)).encode("latin-1")
    )
    (folder / "u.user").write_text("".join(f"{i}|2{i}|M|writer|0{i}\n" for i in range(1, 41)))
    (folder / "README").write_text("ratings\n")
    conf, summary = made(folder)
    assert conf.kind == "ratings" and conf.columns.items_file == "u.item"
    assert "family rbm" in summary
    parts = holds(conf, tmp_path)
    assert sum((~part["context"]).sum() for part in parts.values()) == len(lines)
    shutil.make_archive(str(home / "zipped"), "zip", home, "ml")
    zipped, _ = made(home / "zipped.zip", task="stars")
    members = [entry["member"] for entry in zipped.sources["local"]]
    assert sorted(members) == ["ml/u.data", "ml/u.item", "ml/u.user"]
    holds(zipped, tmp_path / "zipped")


@pytest.mark.slow
def test_ratings_alone_are_enough(home: Path, tmp_path: Path) -> None:
    lines = ["userId,movieId,rating,timestamp\n"]
    for user in range(60):
        for item in RNG.permutation(50)[:20]:
            lines.append(f"{user},{item * 7},{RNG.integers(1, 11) / 2},{881250949 + user}\n")
    (home / "ratings.csv").write_text("".join(lines))
    conf, _ = made(home / "ratings.csv")
    assert conf.columns.items_file is None and len(conf.columns.values) == 10
    holds(conf, tmp_path)


def pet_pictures() -> dict[str, bytes]:
    return {
        f"pets/{'cat' if i % 2 else 'dog'}/{i}.png": random_picture(i, 30, 40) for i in range(90)
    }


@pytest.mark.parametrize("form", ["folder", pytest.param("zip", marks=pytest.mark.slow)])
def test_pictures_in_folders(form: str, home: Path, tmp_path: Path) -> None:
    if form == "zip":
        file = write_zip(home, pet_pictures()) / "pictures.zip"
    else:
        file = write_files(home, pet_pictures()) / "pets"
    conf, summary = made(file, name="pets", target="animal")
    assert conf.kind == "images" and conf.columns.files.train == ["pets"]
    assert "2 classes by the folder of a picture: cat 45 (50%), dog 45 (50%)" in summary
    parts = holds(conf, tmp_path, suite=form == "zip")
    assert sum(map(len, parts.values())) == 90


@pytest.mark.slow
def test_pictures_that_cannot_be_decoded_are_left_out(home: Path, tmp_path: Path) -> None:
    pictures_ = {**pet_pictures(), "pets/cat/1.png": b"\x89PNG\r\n\x1a\n broken"}
    conf, summary = made(write_zip(home, pictures_) / "pictures.zip", name="pets")
    assert conf.columns.leave_out == ["undecodable"] and "left out" in summary
    assert sum(map(len, holds(conf, tmp_path, suite=False).values())) == 89


@pytest.mark.slow
def test_names_say_the_classes(home: Path, tmp_path: Path) -> None:
    flat = {f"train/{'cat' if i % 2 else 'dog'}.{i}.png": random_picture(i) for i in range(90)}
    flat |= {f"test/{i}.png": random_picture(i + 100) for i in range(5)}
    conf, _ = made(write_zip(home, flat) / "pictures.zip", name="pets")
    assert conf.columns.files.ignored == ["test"] and conf.columns.files.pattern is not None
    assert sum(map(len, holds(conf, tmp_path, suite=False).values())) == 90


@pytest.mark.slow
def test_a_table_beside_pictures_says_the_classes(home: Path, tmp_path: Path) -> None:
    shown = {f"images/{i:03d}.png": random_picture(i) for i in range(90)}
    rows = [f"{i:03d};{30 + i};{'cat' if i % 2 else 'dog'}\n" for i in range(90)]
    table = {"about.csv": "".join(["id;width;animal\n", *rows]).encode()}
    folder = write_files(home / "pets", shown | table)
    conf, summary = made(folder, name="pets", target="animal")
    (labels,) = conf.columns.files.labels
    assert (labels.file, labels.path, labels.delimiter) == (["pets/about.csv"], "id", ";")
    assert conf.columns.target == "animal"
    assert "2 classes by pets/about.csv: cat 45 (50%), dog 45 (50%)" in summary
    assert sum(map(len, holds(conf, tmp_path, suite=False).values())) == 90


@pytest.mark.slow
def test_a_column_for_each_pixel_makes_pictures(home: Path, tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (90, 64))
    rows = pd.DataFrame(pixels, columns=[f"pixel{i}" for i in range(64)])
    rows.insert(0, "label", np.arange(90) % 3)
    rows.to_csv(home / "digits.csv", index=False)
    conf, summary = made(home / "digits.csv", name="pixels")
    assert conf.kind == "images" and (conf.columns.size, conf.columns.channels) == (8, 1)
    assert "KIND=tabular" in summary
    assert sum(map(len, holds(conf, tmp_path, suite=False).values())) == 90
    table, _ = made(home / "digits.csv", kind="tabular", target="label", name="as_table")
    assert table.columns.numeric == ["pixel*"]


# --- refusals -----------------------------------------------------------------------------------


UNUSABLE: Sequence[tuple[list[str], str]] = (
    ([], "which file?"),
    (["FILE="], "`FILE` is empty"),
    (["FILE=mine/nothing.csv"], "FILE=mine/nothing.csv does not exist"),
    (["FILE=mine/loans.csv", "TRAGET=Age"], "unknown option `TRAGET`; did you mean `target`"),
    (["FILE=mine/loans.csv", "TARGET=Repayd"], "TARGET=Repayd: no such column; did you mean"),
    (["FILE=mine/loans.csv", "KIND=table"], "KIND=table: "),
    (["FILE=mine/loans.csv", "KIND=series", "TASK=stars"], "TASK=stars: "),
    (["FILE=mine/loans.csv", "SKIP=two"], "SKIP=two: expected a whole number"),
    (["FILE=mine/loans.csv", "HEADER=maybe"], "HEADER=maybe: expected yes or no"),
    (["FILE=mine/loans.csv", "ENCODING=utf-9"], "ENCODING=utf-9: Python has no such encoding"),
    (["FILE=mine/loans.csv", "NAME=My loans"], "NAME=My loans: expected a lower-case letter"),
    (["FILE=mine/loans.csv", "NAME=churn"], "conf/dataset/churn.yaml exists and is not over"),
    (["FILE=mine/one.txt"], "has no columns with any usual delimiter"),
    (["FILE=mine/empty.csv"], "empty"),
    (["FILE=mine"], "has other columns than"),
)


def test_an_input_that_cannot_be_used_is_refused_and_nothing_is_written(home: Path) -> None:
    loans().to_csv(home / "loans.csv", index=False)
    (home / "one.txt").write_text("Tobe\nornot\ntobe\n")
    (home / "empty.csv").write_text("")
    before = {path: path.read_bytes() for path in sorted(Path().rglob("*.yaml"))}
    for arguments, message in UNUSABLE:
        with pytest.raises((UsageError, DataError), match=re.escape(message)) as raised:
            new.main(arguments)
        assert "\n" not in str(raised.value)
        after = {path: path.read_bytes() for path in sorted(Path().rglob("*.yaml"))}
        assert after == before, arguments


def test_what_cannot_be_prepared_leaves_no_conf(home: Path) -> None:
    rows = loans()
    rows.loc[5, "Repaid"] = None
    rows.to_csv(home / "loans.csv", index=False)
    before = paths.PARAMS.read_bytes()
    with pytest.raises(DataError, match="Repaid"):
        made(home / "loans.csv", target="Repaid")
    assert paths.PARAMS.read_bytes() == before
    assert not paths.dataset_conf("loans").exists() and not paths.model_conf("loans").exists()


@pytest.mark.parametrize("function", ["check_dataset", "check_budgets"])
def test_confs_that_fail_the_check_are_not_written(
    function: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loans().to_csv(home / "loans.csv", index=False)

    def refuse(name: str) -> None:
        assert paths.dataset_conf(name).exists() and paths.model_conf(name).exists()
        raise UsageError(f"a fault in {name}")

    monkeypatch.setattr(check, function, refuse)
    with pytest.raises(UsageError, match="a fault in loans"):
        made(home / "loans.csv", target="Repaid")
    assert not paths.dataset_conf("loans").exists() and not paths.model_conf("loans").exists()


def test_the_confs_are_commented_and_in_lines_of_at_most_100_characters(home: Path) -> None:
    loans().to_csv(home / "loans.csv", index=False)
    conf, _ = made(home / "loans.csv", target="Repaid")
    for path in (
        paths.dataset_conf(conf.name),
        paths.expectations(conf.name),
        paths.model_conf(conf.name),
    ):
        text = path.read_text()
        assert text.startswith("# ") and "make new" in text
        assert max(map(len, text.splitlines())) <= 105
        assert yaml.safe_load(text)
