"""Bad input of every kind: one clear line, an exit code that is not 0, and nothing harmed that lasts."""

import hashlib
import io
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import twins
import yaml
from conftest import Clone, copied
from PIL import Image

from sextant import (
    check,
    config,
    errors,
    evaluate,
    files,
    plugins,
    prepare,
    pull,
    register,
    saved_model,
    validate,
)
from sextant.commands import pin, predict

MODEL, DATASET = "ann", "churn"
FILE = "Churn_Modelling.csv"


def refusal(text: str) -> str:
    """The one line in which Sextant gave up; what DVC and make add is theirs."""
    assert "Traceback" not in text, text
    notes = ("warning: ", f"{MODEL} has no champion on real data")
    said = [
        line.removeprefix("sextant: ") for line in text.splitlines() if line.startswith("sextant: ")
    ]
    lines = [line for line in said if not line.startswith(notes)]
    assert len(lines) == 1, text
    return lines[0]


# --- a fault in a conf: found by `make check`, before DVC starts ------------------------------------------------------


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set the value at a path such as `net.dropout`."""

    def change(conf: Any) -> None:
        *way, last = path.split(".")
        for key in way:
            conf = conf[int(key) if key.isdigit() else key]
        conf[last] = value

    return change


def renamed(path: str, name: str) -> Callable[[dict[str, Any]], None]:
    """Misspell the key at a path."""

    def change(conf: Any) -> None:
        *way, last = path.split(".")
        for key in way:
            conf = conf[int(key) if key.isdigit() else key]
        conf[name] = conf.pop(last)

    return change


PARAMS, MODEL_CONF, DATASET_CONF = (
    "params.yaml",
    f"conf/model/{MODEL}.yaml",
    f"conf/dataset/{DATASET}.yaml",
)
SUITE = f"conf/expectations/{DATASET}.yaml"

CONF_FAULTS: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "unknown family": (PARAMS, at(f"models.{MODEL}.family", "quantum"), "unknown family `quantum`; .* has: .*ann"),
    "unknown data set": (PARAMS, at(f"models.{MODEL}.dataset", "moon"), "`moon`, which `datasets` does not list"),
    "data set without conf": (PARAMS, lambda conf: conf["datasets"].append("moon"), "moon.yaml is not there; add it"),
    "unknown source": (PARAMS, at("source", "moon"), "params.yaml: `source` is 'moon'; .*'embedded', 'mirror' or"),
    "unknown budget": (PARAMS, at("budget", "huge"), "params.yaml: `budget` is 'huge'; .*'smoke', 'standard' or"),
    "negative seed": (PARAMS, at("seed", -1), "params.yaml: `seed` is -1; .*greater than or equal to 0"),
    "misspelt parameter": (PARAMS, renamed("budget", "buget"), "unknown key `buget`; did you mean `budget`"),
    "missing parameter": (PARAMS, lambda conf: conf.pop("seed"), "params.yaml: key `seed` is missing; add it"),
    "misspelt argument": (MODEL_CONF, renamed("net.dropout", "dropuot"), "net: .*`dropuot`; did you mean `dropout`"),
    "argument of the wrong type": (MODEL_CONF, at("net.dropout", "much"), "net: `dropout` is 'much'; .*valid number"),
    "number as text": (MODEL_CONF, at("net.bins", "16"), "net: `bins` is '16'; .*valid integer"),
    "argument out of range": (MODEL_CONF, at("net.dropout", 1.5), "net: `dropout` is 1.5; .*less than 1"),
    "no number": (MODEL_CONF, at("optimizer.lr", float("nan")), "optimizer lr is nan; expected a finite number"),
    "unknown optimizer": (MODEL_CONF, at("optimizer.name", "magic"), "optimizer: name is 'magic'; expected one of"),
    "rate out of range": (MODEL_CONF, at("optimizer.lr", 0.0), "optimizer: `lr` is 0.0; .*greater than 0"),
    "misspelt block": (MODEL_CONF, renamed("schedule", "shedule"), "unknown key `shedule`; did you mean `schedule`"),
    "budget out of range": (MODEL_CONF, at("budgets.full.schedule.max_epochs", 0), "`max_epochs` is 0; .*greater than"),
    "unknown metric": (MODEL_CONF, at("schedule.monitor", "f1"), "schedule: `f1` is no metric of classification"),
    "unknown task": (MODEL_CONF, at("task", "guessing"), "unknown task `guessing`; .* has: .*classification"),
    "negative margin": (MODEL_CONF, at("gate.margin", -0.1), "`gate.margin` is -0.1; .*greater than or equal to 0"),
    "guard without a number": (MODEL_CONF, at("gate.guards", ["brier <= low"]), "`gate.guards.0` is 'brier <= low'; "),
    "guard on an unknown metric": (MODEL_CONF, at("gate.guards", ["f1 >= 0.5"]), "gate: `f1` is no metric of classif"),
    "unknown kind": (DATASET_CONF, at("kind", "sounds"), "unknown kind `sounds`; .* has: .*tabular"),
    "misspelt column role": (DATASET_CONF, renamed("columns.target", "traget"), "`traget`; did you mean `target`"),
    "share out of range": (DATASET_CONF, at("split.shares.train", 1.2), "`split.shares.train` is 1.2; .*less than 1"),
    "digest that is none": (DATASET_CONF, at("sources.mirror.0.sha256", "abc"), r"mirror\[0\]: `sha256` is 'abc'"),
    "mirror that climbs out": (DATASET_CONF, at("sources.mirror.0.path", "../x.csv"), "`path` is '../x.csv'; .*plain"),
    "unknown severity": (SUITE, at("0.severity", "fatal"), "`severity` is 'fatal'; .*'critical', 'warning' or 'info'"),
    "unknown expectation": (SUITE, at("0.expectation", "expect_wonders"), "expect_wonders"),
}  # fmt: skip


def heard(
    main: Callable[[list[str]], Any], capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[str, int]:
    """The one line and the exit code of a command, run in this process as its own would run it."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(sys, "argv", ["sextant", *words])
        errors.run(main)
    assert isinstance(left.value.code, int)
    return refusal(capsys.readouterr().err), left.value.code


@pytest.mark.parametrize("case", CONF_FAULTS)
def test_a_fault_in_a_conf_is_named_with_its_place(
    case: str, one_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, change, why = CONF_FAULTS[case]
    conf = yaml.safe_load(Path(file).read_text())
    change(dict(enumerate(conf)) if isinstance(conf, list) else conf)
    Path(file).write_text(yaml.safe_dump(conf, sort_keys=False))
    line, code = heard(check.main, capsys)
    assert re.search(why, line), line
    assert code == 2


@pytest.mark.parametrize("file", [PARAMS, MODEL_CONF, DATASET_CONF, SUITE])
def test_a_conf_that_is_no_yaml_or_not_there_is_named(
    file: str, one_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(file).write_text("a: [1, 2\nb: }\n")
    line, code = heard(check.main, capsys)
    assert file in line and "not YAML" in line and code == 2
    Path(file).unlink()
    line, code = heard(check.main, capsys)
    assert file in line and "is not there" in line and code == 2


@pytest.mark.parametrize(
    "stage", [pull, validate, prepare, pin, evaluate, register], ids=lambda stage: stage.__name__
)
def test_an_unknown_name_on_the_command_line(
    stage: ModuleType, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = "dataset" if stage in (pull, validate, prepare, pin) else "model"
    line, code = heard(stage.main, capsys, f"{asked}=moon")
    assert re.search(
        rf"unknown (data set|model) `moon`; params.yaml lists: {DATASET if asked == 'dataset' else MODEL}",
        line,
    )
    assert code == 2
    line, code = heard(stage.main, capsys, "moon")
    assert "`moon` is not understood; expected " in line and code == 2


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("model.net.dropuot=0.1", "dropuot"),
        ("source=moon", "`source` is 'moon'"),
        ("budget=huge", "`budget` is 'huge'"),
        ("model.optimizer.lr=fast", "lr"),
    ],
)
def test_an_override_is_held_to_the_same_rules(
    override: str, why: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: list[str]) -> None:
        check.check_model(config.model(MODEL, argv))

    line, code = heard(main, capsys, override)
    assert why in line and code == 2


# --- the other kinds: damage that no digest can tell, as each stage meets it ------------------------------------------

PETS, SHARES, STARS = "cats_dogs", "google_stock", "movielens_100k"
ARCHIVE, DAYS = "cats_dogs_128.zip", "Google_Stock_Price_Train.csv"
CAT = "test_set/cats/cat.601.jpg"


def lines(file: str, change: Callable[[list[str]], Any]) -> Callable[[Path], None]:
    """Change the lines of a file in place, whatever it is encoded in and ends its lines with."""

    def damage(folder: Path) -> None:
        found = (folder / file).read_bytes().decode("latin-1").split("\n")
        change(found)
        (folder / file).write_bytes("\n".join(found).encode("latin-1"))

    return damage


def members(change: Callable[[dict[str, bytes]], Any]) -> Callable[[Path], None]:
    """Change the members of the zip of pictures in place."""

    def damage(folder: Path) -> None:
        with zipfile.ZipFile(folder / ARCHIVE) as archive:
            found = {name: archive.read(name) for name in archive.namelist()}
        change(found)
        with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
            for name, raw in found.items():
                archive.writestr(name, raw)

    return damage


def half(file: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / file, (folder / file).stat().st_size // 2)


def narrow() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1, 97)).save(file, "PNG")
    return file.getvalue()


def untested(folder: Path) -> None:
    """No cat to test, neither in the archive nor in the index that says what is in it."""
    cats = "test_set/cats/"
    members(lambda found: [found.pop(name) for name in list(found) if name.startswith(cats)])(
        folder
    )
    index = folder / "cats_dogs_index.csv"
    index.write_text(
        "".join(line for line in index.read_text().splitlines(True) if not line.startswith(cats))
    )


def mojibake(folder: Path) -> None:
    titles = folder / "u.item"
    titles.write_text(titles.read_text(encoding="latin-1"), encoding="utf-8")


def first_line(text: str) -> Callable[[list[str]], None]:
    return lambda rows: rows.__setitem__(0, text)


NOT_WHOLE = r"cats_dogs_128.zip is not a complete zip file \(.+\); pull it again, or recreate it"
CLIMBS = (
    f"contains '../../{CAT}', a path outside its folder; pull it again, or recreate it"
)
NO_BIRDS = "class birds of training_set has no pictures; add some, or remove its folder"
NOT_UTF_8 = r"u.item is not utf-8: byte 0x[c-f][0-9a-f] at [0-9,]+; name its encoding in the conf"

# Of each: the data set, what is done to its files, and how validate, prepare and a model that is asked with the same
# file refuse. None: the damage is not to be seen there.
RAW_FAULTS: dict[str, tuple[str, Callable[[Path], Any], str | None, str | None, str | None]] = {
    "truncated zip": (PETS, half(ARCHIVE), NOT_WHOLE, NOT_WHOLE, NOT_WHOLE),
    "zip that climbs out": (
        PETS, members(lambda found: found.update({f"../../{CAT}": found.pop(CAT)})),
        CLIMBS, CLIMBS, CLIMBS,
    ),
    "picture that does not decode": (
        PETS, members(lambda found: found.update({CAT: found[CAT][:999]})),
        "column='decodable'.*1 of 1,400 rows.*damaged in transfer",
        f"{CAT} cannot be decoded as a picture .*; replace it, or remove it",
        rf"row 1 \({CAT}\) cannot be decoded as a picture .*; replace it",
    ),
    "picture 1 pixel wide": (
        PETS, members(lambda found: found.update({CAT: narrow()})),
        "column='width', min_value=16.*1 of 1,400 rows are unexpected, such as 1",
        f"{CAT} is 1 x 97 pixels; expected at least 16 on the short side; replace it",
        rf"row 1 \({CAT}\) is 1 x 97 pixels; expected at least 16",
    ),
    "class without pictures": (
        PETS, members(lambda found: found.update({"training_set/birds/": b""})), NO_BIRDS, NO_BIRDS, None,
    ),
    "class without pictures to test": (
        PETS, untested,
        "expect_table_row_count_to_be_between.*animal == 'cats' and test == True.*observed 0",
        "part test .*has no row of class cats of `animal`", None,
    ),
    "dates out of order": (
        SHARES, lines(DAYS, lambda rows: rows.insert(41, rows.pop(37))),
        "expect_column_values_to_be_increasing.*column='day_number'.*a window would contain future days",
        r"row 41 has '2012-02-\d\d' in `Date` after a later day; expected the oldest day first; correct the row",
        r"row 41 has '2012-02-\d\d' in `Date` after a later day",
    ),
    "date twice": (
        SHARES, lines(DAYS, lambda rows: rows.insert(41, rows[40])),
        "expect_column_values_to_be_unique.*column='Date'.*a duplicate day",
        "row 41 has '2012-.*' in `Date` for a second time; expected each day once; correct the row",
        "row 41 has '2012-.*' in `Date` for a second time",
    ),
    "negative price": (
        SHARES, lines(DAYS, lambda rows: rows.__setitem__(41, rows[41].replace(",", ",-", 1))),
        "column='Open', min_value=0.*such as -.*a price is positive",
        "row 41 has -.* in `Open`; expected a price above 0; correct the row",
        "row 41 has -.* in `Open`; expected a price above 0",
    ),
    "too few days for the window": (
        SHARES, lines(DAYS, lambda rows: rows.__delitem__(slice(31, None))),
        "expect_table_row_count_to_be_between.*observed 50 .*a shorter file is truncated",
        "part train has 0 days to score after 30 days of context; expected 1 or more after 40: bring more days",
        "30 days; expected the 40 most recent days or more, the oldest first",
    ),
    "rating of 7": (
        STARS, lines("u1.base", first_line("1\t2\t7\t874724710")),
        r"column='rating', value_set=\[1, 2, 3, 4, 5\].*such as 7",
        "row 1 has `rating` 7; expected one of 1, 2, 3, 4, 5; correct the row",
        "row 1 has `rating` 7; expected one of 1, 2, 3, 4, 5; correct the row",
    ),
    "user id of 0": (
        STARS, lines("u1.base", first_line("0\t2\t3\t874724710")),
        "column='user', min_value=1.*such as 0 .*ids count from 1",
        r"row 1 has `user` 0; ids are whole numbers from 1 and below 2\*\*53; correct it",
        r"row 1 has `user` 0; ids are whole numbers from 1 and below 2\*\*53; correct it",
    ),
    "film that is not known": (
        STARS, lines("u1.base", first_line("1\t9973\t3\t874724710")),
        "expect_column_values_to_not_be_null.*column='title'.*one that u.item lacks",
        "row 1 has `item` 9973, which u.item lacks",
        "row 1 names item 9973, which training did not know; the 1,682 known ones go from 1 to 1682",
    ),
    "film without title": (
        STARS, lines("u.item", lambda rows: rows.__setitem__(40, "41|||")),
        "expect_column_values_to_not_be_null.*column='title'.*cannot be recommended",
        "u.item: item 41 has no `title`; give it one", None,
    ),
    "Latin-1 read as UTF-8": (
        STARS, lambda _: Path(f"conf/dataset/{STARS}.yaml").write_text(
            Path(f"conf/dataset/{STARS}.yaml").read_text().replace("encoding: latin-1", "encoding: utf-8")
        ),
        NOT_UTF_8, NOT_UTF_8, None,
    ),
    "UTF-8 read as Latin-1": (
        STARS, mojibake, "expect_column_values_to_not_match_regex.*column='title'.*UTF-8 that was read", None, None,
    ),
}  # fmt: skip


def met_by(stage: int) -> list[str]:
    return [case for case, faults in RAW_FAULTS.items() if faults[stage + 2] is not None]


def brought(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twin of a data set as pull left it, and beside it what validate and prepare made of better data."""
    folder = Path("data/raw") / name
    shutil.copytree(twins.raw(name, tmp_path_factory), folder)
    files.write_json(folder / files.RECEIPT, pull.receipt("embedded", folder))
    files.write_json(
        Path(f"reports/validation/{name}.json"),
        {"source": "embedded", "success": True, "digest": "0"},
    )
    prepared = Path("data/prepared") / name
    prepared.mkdir(parents=True)
    (prepared / "train.parquet").write_text("of yesterday")
    return folder


def standing() -> dict[str, str]:
    """Every file that a stage was given or that an earlier one made; what a refusal leaves is below .scratch/."""
    found = (
        path
        for place in ("data", "reports", "conf")
        for path in Path(place).rglob("*")
        if path.is_file()
    )
    return {str(path): files.sha256(path) for path in found}


def refused_by(
    main: Callable[[list[str]], Any],
    why: str | None,
    capsys: pytest.CaptureFixture[str],
    *words: str,
) -> None:
    """Run a stage as DVC does; it says in one line why, ends with the code of bad data and harms nothing."""
    before = standing()
    line, code = heard(main, capsys, *words)
    assert why and re.search(why, line), line
    assert code == 12 and standing() == before


@pytest.mark.slow
@pytest.mark.parametrize("case", met_by(0))
def test_damaged_raw_data_are_refused_by_validate(
    case: str, workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name, damage, why, *_ = RAW_FAULTS[case]
    damage(brought(name, tmp_path_factory))
    monkeypatch.setenv("DVC_STAGE", f"validate@{name}")
    refused_by(
        validate.main,
        f"{why}.*; `git checkout dvc.lock && dvc checkout` restores",
        capsys,
        f"dataset={name}",
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", met_by(1))
def test_damaged_raw_data_that_validate_let_pass_are_refused_by_prepare(
    case: str, workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name, damage, _, why, _ = RAW_FAULTS[case]
    damage(brought(name, tmp_path_factory))
    monkeypatch.setenv("DVC_STAGE", f"prepare@{name}")
    refused_by(
        prepare.main,
        f"{why}.*; `git checkout dvc.lock && dvc checkout` restores",
        capsys,
        f"dataset={name}",
    )


LEARNT: dict[str, tuple[str, str, dict[str, Any]]] = {  # what the encoder of a model knows of its data set
    PETS: (ARCHIVE, "cnn", {"classes": ["cats", "dogs"], "mean": [0.5] * 3, "std": [0.25] * 3}),
    SHARES: (
        DAYS, "rnn",
        {
            "features": {name: [0.0, 0.01] for name in ("Open", "High", "Low", "Close", "Volume")},
            "typical": {"Open": 500.0, "High": 505.0, "Low": 495.0, "Close": 500.0, "Volume": 1e6},
            "weekdays": [0, 1, 2, 3, 4],
        },
    ),
    STARS: (
        "u1.base", "sae",
        {"items": [*range(1, 1683)], "titles": [f"Film {n}" for n in range(1, 1683)], "users": [*range(1, 944)]},
    ),
}  # fmt: skip


def untrained(dataset: str, model: str) -> saved_model.SavedModel:
    conf, columns = config.model(model), config.dataset(dataset).columns
    kind = config.dataset(dataset).kind
    encoder = plugins.kind(kind).encoder.Encoder.from_state(LEARNT[dataset][2], columns)
    card = {"kind": kind, "task": conf.task, "calibration": {"slope": 1.0, "offset": 0.0}}
    return saved_model.SavedModel(
        card, saved_model.build(conf.family, encoder.sizes, conf.net), encoder
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", met_by(2))
def test_a_question_that_is_damaged_in_the_same_way_is_refused(
    case: str,
    workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, damage, _, _, why = RAW_FAULTS[case]
    file, family, _ = LEARNT[name]
    given = brought(name, tmp_path_factory)
    damage(given)
    model = untrained(name, family)
    refused_by(lambda argv: model.predict(model.read(argv[0])), why, capsys, str(given / file))


@pytest.mark.parametrize("model", ["rbm", "sae"])
def test_a_user_who_is_new_and_one_who_rated_nothing_are_answered(
    model: str, workspace: Path
) -> None:
    """The defined fallback: by what is known of the user, and where that is nothing, as the average user."""
    rows = [(7001, 1, 5.0), (7001, 2, None), (7002, 2, None)]
    asked = pd.DataFrame(rows, columns=["user", "item", "rating"])
    with pytest.warns(
        UserWarning, match="nothing is known of user 7002: answered as the average user"
    ):
        answers = untrained(STARS, model).predict(asked)
    assert answers["user"].tolist() == [7001, 7002] and answers["title"].tolist() == ["Film 2"] * 2
    assert answers.notna().all(axis=None)


@pytest.mark.slow
def test_a_user_with_no_ratings_is_taken_and_counted(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines("u.user", lambda rows: rows.insert(943, "944|33|F|other|02139"))(
        brought(STARS, tmp_path_factory)
    )
    for stage in (validate, prepare):
        monkeypatch.setenv("DVC_STAGE", f"{stage.__name__}@{STARS}")
        stage.main([f"dataset={STARS}"])
    users = json.loads(Path(f"data/prepared/{STARS}/profile.json").read_text())["columns"]["user"]
    assert users["count"] == 944 and users["without"] >= 1 and users["ratings_min"] == 0


def whole_zip(folder: Path, member: str) -> None:
    with zipfile.ZipFile(folder / "given.zip", "w") as archive:
        archive.writestr(member, "1|Harbour (1995)\n" * 997)


def in_zip(folder: Path) -> list[dict[str, Any]]:
    """The entry of a film file inside a zip, with the digest of what is given."""
    given = folder / "given.zip"
    pin = {"bytes": given.stat().st_size, "sha256": files.sha256(given)}
    return [{"file": "u.item", "member": "ml-100k/u.item", "path": "given.zip", **pin}]


def cut_zip(folder: Path) -> None:
    whole_zip(folder, "ml-100k/u.item")
    half("given.zip")(folder)


PULLED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "pictures cut off": (
        PETS, lambda folder: put(folder / "cats_dogs/cats_dogs_128.zip"), "cats_dogs.yaml pins: got .*; `make pin",
    ),
    "days cut off": (
        SHARES, lambda folder: put(folder / "stock/Google_Stock_Price_Train.csv"), "stock.yaml pins: got .*`make pin",
    ),
    "ratings cut off": (
        STARS, lambda folder: put(folder / "ratings/ml-100k/u1.base"), "movielens_100k.yaml pins: got .*; `make pin",
    ),
    "zip cut off": (STARS, cut_zip, r"`u.item` cannot be extracted from its zip \(.+\); correct the source"),
    "zip that climbs out": (
        STARS, lambda folder: whole_zip(folder, "../u.item"),
        "the zip of `u.item` has no member ml-100k/u.item; it has ../u.item, …; correct `member` in conf",
    ),
}  # fmt: skip


def put(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("what came before the line broke")


@pytest.mark.parametrize("case", PULLED)
def test_files_that_came_damaged_are_refused_by_pull(
    case: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, give, why = PULLED[case]
    given = workspace / "data/given"  # among what has to stand as it was
    (given.parent / "raw" / name).mkdir(parents=True)
    (given.parent / "raw" / name / "file.csv").write_text("of yesterday")
    given.mkdir()
    give(given)
    if (given / "given.zip").is_file():
        conf = Path(f"conf/dataset/{name}.yaml")
        changed = yaml.safe_load(conf.read_text())
        changed["sources"]["mirror"] = in_zip(given)
        conf.write_text(yaml.safe_dump(changed, sort_keys=False))
    monkeypatch.setenv("SEXTANT_MIRROR", str(given))
    monkeypatch.setenv("DVC_STAGE", f"pull@{name}")
    refused_by(
        pull.main, f"{why}.*; `dvc checkout` restores", capsys, f"dataset={name}", "source=mirror"
    )
    assert [path.name for path in Path("data/raw").iterdir()] == [name] and not list(
        workspace.rglob("u.item")
    )


# --- in a real checkout: by DVC and by make ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def road(chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return copied(chain, tmp_path_factory.mktemp("bad") / "clone")


@pytest.fixture(scope="module")
def whole(road: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of the road as they were before anything failed."""
    copy = tmp_path_factory.mktemp("whole")
    for name in ("data", "models", "reports"):
        shutil.copytree(road.path / name, copy / name)
    return copy


def outputs(road: Clone) -> dict[str, str]:
    """The files that DVC and git keep, by their digests."""
    places = [*road.path.glob("data/*/*"), *road.path.glob("models/*"), road.path / "reports"]
    found = (path for place in places for path in [place, *place.rglob("*")] if path.is_file())
    return {str(path.relative_to(road.path)): files.sha256(path) for path in found}


def lasting(road: Clone) -> dict[str, Any]:
    """What no bad input may touch: registry, decisions, DVC's cache, checkpoints, and every file that git knows."""
    tables = (
        "registered_models",
        "registered_model_aliases",
        "registered_model_tags",
        "model_versions",
    )
    with closing(sqlite3.connect(road.path / "mlflow.db")) as database:
        registry = {
            table: database.execute(f"SELECT * FROM {table}").fetchall() for table in tables
        }
        registry["tags"] = database.execute("SELECT * FROM model_version_tags").fetchall()
    tracked = road.run("git", "ls-files", "-z").stdout.split("\0")
    return {
        "registry": registry,
        "checkpoints": sorted(
            str(p)
            for p in (road.path / ".checkpoints").rglob("*")
            if p.is_file() and p.name != "lock"
        ),
        "git": {name: digest(road.path / name) for name in tracked if name and name != "dvc.lock"},
        "commits": road.run("git", "log", "--oneline").stdout,
        "artifacts": sorted(
            str(path)
            for path in (road.path / f"mlruns/sextant-{MODEL}-twin/models").rglob("*.json")
        ),
    }


def digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def cache(road: Clone) -> dict[str, int]:
    return {
        str(path): path.stat().st_size
        for path in (road.path / ".dvc/cache/files").rglob("*")
        if path.is_file()
    }


class Harmless:
    """A block in which something fails: what lasts is the same after it, and the workspace is brought back.

    `checkout`: by `dvc checkout`, as the message says. It takes two seconds, so that most cases use a copy instead.
    """

    def __init__(self, road: Clone, copy: Path, checkout: bool):
        self.road, self.copy, self.checkout = road, copy, checkout

    def __enter__(self) -> None:
        self.before, self.cached = lasting(self.road), cache(self.road)

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                assert lasting(self.road) == self.before
                assert cache(self.road).items() >= self.cached.items()
        finally:
            self.road.run("git", "checkout", "-q", ".")
            if self.checkout:
                self.road.run("dvc", "checkout", "-q")
                assert kind or outputs(self.road) == outputs(Clone(self.copy))
            else:
                shutil.rmtree(self.road.path / "data")
                shutil.copytree(self.copy / "data", self.road.path / "data")
            assert self.road.changed() == []


@pytest.fixture
def harmless(road: Clone, whole: Path) -> Callable[..., Harmless]:
    return lambda checkout=False: Harmless(road, whole, checkout)


Damage = Callable[[pd.DataFrame], pd.DataFrame]

DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing column": (lambda rows: rows.drop(columns="Age"), "lacks column Age; found RowNumber, .*; correct"),
    "renamed column": (lambda rows: rows.rename(columns={"Age": "Years"}), "lacks column Age; found .*Years"),
    "letters in a number": (
        lambda rows: rows.assign(Tenure=rows["Tenure"].astype(object).where(rows.index != 17, "many")),
        "critical expectations failed.*column='Tenure'.*correct the file at its source",
    ),
    "empty file": (lambda rows: rows[[]].head(0), "is empty; expected a table with CustomerId, "),
    "duplicated keys": (
        lambda rows: pd.concat([rows, rows.head(3)]),
        "critical expectations failed.*expect_column_values_to_be_unique.*CustomerId.*correct the file",
    ),
    "class without rows": (
        lambda rows: rows.assign(Exited=0),
        "critical expectations failed.*expect_column_distinct_values_to_equal_set.*Exited.*correct the file",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_data_are_refused_before_anything_is_learnt(
    case: str, road: Clone, whole: Path, harmless: Callable[..., Harmless], tmp_path: Path
) -> None:
    damage, why = DAMAGES[case]
    rows = damage(pd.read_csv(road.path / f"data/raw/{DATASET}/{FILE}"))
    given = mirrored(tmp_path, "" if case == "empty file" else rows.to_csv(index=False))
    pinned(road, given)
    sum_before, trained = files.sha256(given), files.folder_digest(road.path / f"models/{MODEL}")
    with harmless():
        done = road.run("dvc", "repro", code=None, SEXTANT_MIRROR=str(tmp_path))
        line = refusal(done.stderr)
        assert re.search(why, line), line
        assert done.returncode != 0 and "exited with 12" in done.stderr
        assert "Running stage 'prepare@" not in done.stdout
        assert files.folder_digest(road.path / f"models/{MODEL}") == trained
        (repair,) = re.findall(r"; `(.*dvc checkout)` restores [a-z ]+$", line)
        if case in (
            "empty file",
            "duplicated keys",
        ):  # one that pull refuses, and one that it has taken
            road.run("bash", "-c", repair)
            assert outputs(road) == outputs(Clone(whole))
            assert "dvc.lock" not in road.changed()
    assert files.sha256(given) == sum_before


@pytest.mark.slow
@pytest.mark.parametrize("case", ["truncated zip", "Latin-1 read as UTF-8"])
def test_damage_of_another_kind_as_dvc_meets_it(
    case: str, road: Clone, harmless: Callable[..., Harmless], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name, damage, why, *_ = RAW_FAULTS[case]
    shutil.copytree(twins.raw(name, tmp_path_factory), tmp_path / "given")
    monkeypatch.chdir(road.path)
    damage(tmp_path / "given")
    pins = pull.receipt("mirror", tmp_path / "given")["files"]
    mirror = [{"file": file, "path": f"given/{file}", **pin} for file, pin in pins.items()]
    road.set(f"conf/dataset/{name}.yaml", sources__mirror=mirror)
    road.set(PARAMS, source="mirror", datasets=[DATASET, name])
    with harmless():
        done = road.run("dvc", "repro", f"prepare@{name}", code=None, SEXTANT_MIRROR=str(tmp_path))
        assert re.search(
            f"{why}.*; `git checkout dvc.lock && dvc checkout` restores", refusal(done.stderr)
        )
        assert done.returncode != 0 and "exited with 12" in done.stderr
        assert "Running stage 'prepare@" not in done.stdout
    assert pull.receipt("mirror", tmp_path / "given")["files"] == pins


def mirrored(folder: Path, text: str) -> Path:
    """The text as the data set's file in a mirror of its own."""
    given = folder / DATASET / FILE
    given.parent.mkdir()
    given.write_text(text)
    return given


def pinned(road: Clone, given: Path) -> None:
    """The mirror's file as the source, with its digest in the conf: damage that no digest can tell."""
    road.edit(PARAMS, "source: embedded", "source: mirror")
    path = road.path / DATASET_CONF
    conf = yaml.safe_load(path.read_text())
    conf["sources"]["mirror"][0] |= {"bytes": given.stat().st_size, "sha256": files.sha256(given)}
    path.write_text(yaml.safe_dump(conf, sort_keys=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "code", "why"),
    [
        (
            "wrong digest",
            12,
            r"is not the file that .*churn.yaml pins: got .*; expected sha256 3996cd1fa372.*`make pin D",
        ),
        (
            "file that is not there",
            1,
            "cannot read .*: no such file; check that SEXTANT_MIRROR names the place",
        ),
        (
            "unreachable mirror",
            1,
            "SEXTANT_MIRROR is `/nowhere`, but that folder does not exist; mount it, or export",
        ),
        ("unset mirror", 2, "SEXTANT_MIRROR is not set; export SEXTANT_MIRROR="),
    ],
)
def test_a_source_that_does_not_give_the_pinned_file(
    case: str, code: int, why: str, road: Clone, harmless: Callable[..., Harmless], tmp_path: Path
) -> None:
    road.edit(PARAMS, "source: embedded", "source: mirror")
    if case == "wrong digest":
        mirrored(tmp_path, "RowNumber,CustomerId\n1,2\n")
    mirror = {"unreachable mirror": "/nowhere", "unset mirror": ""}.get(case, str(tmp_path))
    with harmless(checkout=case == "unset mirror"):
        done = road.run("dvc", "repro", f"pull@{DATASET}", code=None, SEXTANT_MIRROR=mirror)
        line = refusal(done.stderr)
        assert re.search(why, line), line
        assert f"exited with {code}" in done.stderr and "`dvc checkout` restores" in line
        assert not (road.path / f"data/raw/{DATASET}").exists()  # DVC had emptied it


@pytest.mark.slow
def test_a_full_disk_while_a_stage_writes(road: Clone, harmless: Callable[..., Harmless]) -> None:
    with harmless(checkout=True):
        done = short_of_space(road, 500, "dvc", "repro", "-f", "-s", f"pull@{DATASET}")
        assert re.search(
            "no space left while writing data/raw/churn.*: free some, then run the same",
            refusal(done.stderr),
        )
        assert done.returncode != 0 and "`dvc checkout` restores" in done.stderr
        assert [path.name for path in (road.path / "data/raw").glob(".*.part")] == []


@pytest.mark.slow
def test_a_full_disk_while_answers_are_written(
    road: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(road.path)
    answers = tmp_path / "answers.csv"
    answers.write_text("the answers of yesterday\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        words = [f"model={MODEL}", f"input=data/raw/{DATASET}/{FILE}", f"output={answers}"]
        line, code = heard(predict.main, capsys, *words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "no space left while writing" in line and code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["answers.csv"]
    assert answers.read_text() == "the answers of yesterday\n"


def short_of_space(road: Clone, kib: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that may write no file larger than that; the system's error is the one of a quota."""
    return road.run("bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash", *words, code=None)


@pytest.mark.slow
def test_a_locked_database_stops_a_training_before_it_begins(
    road: Clone, harmless: Callable[..., Harmless]
) -> None:
    with (
        harmless(checkout=True),
        closing(sqlite3.connect(road.path / "mlflow.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN EXCLUSIVE")
        done = road.run("dvc", "repro", "-f", "-s", f"train@{MODEL}", code=None)
        other.rollback()
        line = refusal(done.stderr)
        assert re.search(
            r"mlflow.db cannot be written to \(database is locked\); end the program that holds it",
            line,
        )
        assert "`make doctor`" in line and "`dvc checkout` restores" in line
        assert not (road.path / f"models/{MODEL}").exists()  # DVC had emptied it


@pytest.mark.slow
def test_a_fault_in_a_conf_stops_make_before_dvc_starts(
    road: Clone, harmless: Callable[..., Harmless]
) -> None:
    road.edit(MODEL_CONF, "  dropout:", "  dropuot:")
    trained = files.folder_digest(road.path / f"models/{MODEL}")
    with harmless():
        done = road.run("make", "repro", code=2)
        assert "did you mean `dropout`?" in refusal(done.stderr)
        assert "Running stage" not in done.stdout and "dvc" not in done.stderr
        assert files.folder_digest(road.path / f"models/{MODEL}") == trained
