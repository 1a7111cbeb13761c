"""Bad input ends with one line and a non-zero exit code, and changes nothing that lasts."""

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
from collections.abc import Callable, MutableMapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
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
RESTORES = "`git checkout dvc.lock && dvc checkout` restores"  # the end of a stage's message

Main = Callable[[list[str]], object]


def refusal(stderr: str) -> str:
    """The one line in which Sextant gave up, without the lines of DVC, of make and of warnings."""
    assert "Traceback" not in stderr, stderr
    prefix = "sextant: "
    notes = (f"{prefix}warning: ", f"{prefix}{MODEL} has no champion on real data")
    lines = []
    for line in stderr.splitlines():
        if line.startswith(prefix) and not line.startswith(notes):
            lines.append(line.removeprefix(prefix))
    assert len(lines) == 1, stderr
    return lines[0]


def refused(main: Main, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, int]:
    """The one line and the exit code of a command, run in this process as it runs in its own."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as exit_info:
        patch.setattr(sys, "argv", ["sextant", *arguments])
        errors.run(main)
    code = exit_info.value.code
    assert isinstance(code, int)
    return refusal(capsys.readouterr().err), code


# --- a fault in a conf: `make check` refuses it before DVC starts -------------------------------

PARAMS = "params.yaml"
MODEL_CONF = f"conf/model/{MODEL}.yaml"
DATASET_CONF = f"conf/dataset/{DATASET}.yaml"
SUITE = f"conf/expectations/{DATASET}.yaml"

Edit = Callable[[Any], object]  # changes the content of a YAML file


def parent(content: Any, path: str) -> tuple[MutableMapping[str, object], str]:
    """The block that contains the key at a path such as `net.dropout`, and the key."""
    *parts, key = path.split(".")
    for part in parts:
        content = content[int(part)] if part.isdigit() else content[part]
    return content, key


def put(path: str, value: object) -> Edit:
    """Set the value at a path."""

    def edit(content: Any) -> None:
        block, key = parent(content, path)
        block[key] = value

    return edit


def rename(path: str, name: str) -> Edit:
    """Misspell the key at a path."""

    def edit(content: Any) -> None:
        block, key = parent(content, path)
        block[name] = block.pop(key)

    return edit


def remove(path: str) -> Edit:
    """Remove the key at a path."""

    def edit(content: Any) -> None:
        block, key = parent(content, path)
        del block[key]

    return edit


def set_unknown_kind(content: Any) -> None:
    content["datasets"][DATASET] = "sounds"
    content["models"][MODEL]["kind"] = "sounds"


@dataclass(frozen=True)
class ConfFault:
    """A faulty file, and a pattern of the message."""

    file: str
    edit: Edit
    message: str


CONF_FAULTS = {
    "unknown family": ConfFault(
        PARAMS,
        put(f"models.{MODEL}.family", "quantum"),
        "unknown family `quantum`; .* has: .*ann",
    ),
    "unknown task": ConfFault(
        PARAMS,
        put(f"models.{MODEL}.task", "guessing"),
        "unknown task `guessing`; .* has: .*classification",
    ),
    "unknown kind": ConfFault(
        PARAMS,
        set_unknown_kind,
        "unknown kind `sounds`; .* has: .*tabular",
    ),
    "unknown data set": ConfFault(
        PARAMS,
        put(f"models.{MODEL}.dataset", "moon"),
        "`moon`, which `datasets` does not list",
    ),
    "data set without conf": ConfFault(
        PARAMS,
        put("datasets.moon", "tabular"),
        "moon.yaml is not there; add it",
    ),
    "unknown source": ConfFault(
        PARAMS,
        put("source", "moon"),
        "params.yaml: `source` is 'moon'; .*'embedded', 'mirror' or",
    ),
    "unknown budget": ConfFault(
        PARAMS,
        put("budget", "huge"),
        "params.yaml: `budget` is 'huge'; .*'smoke', 'standard' or",
    ),
    "negative seed": ConfFault(
        PARAMS,
        put("seed", -1),
        "params.yaml: `seed` is -1; .*greater than or equal to 0",
    ),
    "misspelt parameter": ConfFault(
        PARAMS,
        rename("budget", "buget"),
        "unknown key `buget`; did you mean `budget`",
    ),
    "missing parameter": ConfFault(
        PARAMS,
        remove("seed"),
        "params.yaml: key `seed` is missing; add it",
    ),
    "misspelt argument": ConfFault(
        MODEL_CONF,
        rename("net.dropout", "dropuot"),
        "net: .*`dropuot`; did you mean `dropout`",
    ),
    "argument of the wrong type": ConfFault(
        MODEL_CONF,
        put("net.dropout", "much"),
        "net: `dropout` is 'much'; .*valid number",
    ),
    "number as text": ConfFault(
        MODEL_CONF,
        put("net.bins", "16"),
        "net: `bins` is '16'; .*valid integer",
    ),
    "argument out of range": ConfFault(
        MODEL_CONF,
        put("net.dropout", 1.5),
        "net: `dropout` is 1.5; .*less than 1",
    ),
    "rate that is no number": ConfFault(
        MODEL_CONF,
        put("optimizer.lr", float("nan")),
        "optimizer lr is nan; expected a finite number",
    ),
    "unknown optimizer": ConfFault(
        MODEL_CONF,
        put("optimizer.name", "magic"),
        "optimizer: name is 'magic'; expected one of",
    ),
    "rate out of range": ConfFault(
        MODEL_CONF,
        put("optimizer.lr", 0.0),
        "optimizer: `lr` is 0.0; .*greater than 0",
    ),
    "misspelt block": ConfFault(
        MODEL_CONF,
        rename("schedule", "shedule"),
        "unknown key `shedule`; did you mean `schedule`",
    ),
    "budget out of range": ConfFault(
        MODEL_CONF,
        put("budgets.full.schedule.max_epochs", 0),
        "`max_epochs` is 0; .*greater than",
    ),
    "unknown metric": ConfFault(
        MODEL_CONF,
        put("schedule.monitor", "f1"),
        "schedule: `f1` is no metric of classification",
    ),
    "negative margin": ConfFault(
        MODEL_CONF,
        put("gate.margin", -0.1),
        "`gate.margin` is -0.1; .*greater than or equal to 0",
    ),
    "guard without a number": ConfFault(
        MODEL_CONF,
        put("gate.guards", ["brier <= low"]),
        "`gate.guards.0` is 'brier <= low'; ",
    ),
    "guard on an unknown metric": ConfFault(
        MODEL_CONF,
        put("gate.guards", ["f1 >= 0.5"]),
        "gate: `f1` is no metric of classification",
    ),
    "task in the conf of a model": ConfFault(
        MODEL_CONF,
        put("task", "classification"),
        "ann.yaml: `task` stands in params.yaml now; delete it here",
    ),
    "kind in the conf of a data set": ConfFault(
        DATASET_CONF,
        put("kind", "tabular"),
        "churn.yaml: `kind` stands in params.yaml now; delete it here",
    ),
    "misspelt column role": ConfFault(
        DATASET_CONF,
        rename("columns.target", "traget"),
        "`traget`; did you mean `target`",
    ),
    "share out of range": ConfFault(
        DATASET_CONF,
        put("split.shares.train", 1.2),
        "`split.shares.train` is 1.2; .*less than 1",
    ),
    "text that is no digest": ConfFault(
        DATASET_CONF,
        put("sources.mirror.0.sha256", "abc"),
        r"mirror\[0\]: `sha256` is 'abc'",
    ),
    "mirror path outside the mirror": ConfFault(
        DATASET_CONF,
        put("sources.mirror.0.path", "../x.csv"),
        "`path` is '../x.csv'; .*plain",
    ),
    "unknown severity": ConfFault(
        SUITE,
        put("0.severity", "fatal"),
        "`severity` is 'fatal'; .*'critical', 'warning' or 'info'",
    ),
    "unknown expectation": ConfFault(
        SUITE,
        put("0.expectation", "expect_wonders"),
        "expect_wonders",
    ),
}


def edit_yaml(path: Path, edit: Edit) -> None:
    """Edit the content of a YAML file."""
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.mark.parametrize("case", CONF_FAULTS)
def test_a_fault_in_a_conf_is_refused_with_its_place(
    case: str, one_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = CONF_FAULTS[case]
    edit_yaml(Path(fault.file), fault.edit)
    line, code = refused(check.main, capsys)
    assert re.search(fault.message, line), line
    assert code == 2


@pytest.mark.parametrize("file", [PARAMS, MODEL_CONF, DATASET_CONF, SUITE])
def test_a_conf_that_is_no_yaml_or_is_missing_is_refused(
    file: str, one_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(file).write_text("a: [1, 2\nb: }\n")
    line, code = refused(check.main, capsys)
    assert file in line
    assert "not YAML" in line
    assert code == 2
    Path(file).unlink()
    line, code = refused(check.main, capsys)
    assert file in line
    assert "is not there" in line
    assert code == 2


@pytest.mark.parametrize(
    ("stage", "argument", "listed"),
    [
        (pull, "dataset", f"unknown data set `moon`; params.yaml lists: {DATASET}"),
        (validate, "dataset", f"unknown data set `moon`; params.yaml lists: {DATASET}"),
        (prepare, "dataset", f"unknown data set `moon`; params.yaml lists: {DATASET}"),
        (pin, "dataset", f"unknown data set `moon`; params.yaml lists: {DATASET}"),
        (evaluate, "model", f"unknown model `moon`; params.yaml lists: {MODEL}"),
        (register, "model", f"unknown model `moon`; params.yaml lists: {MODEL}"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, ModuleType) else "",
)
def test_an_unknown_name_on_the_command_line_is_refused(
    stage: ModuleType,
    argument: str,
    listed: str,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line, code = refused(stage.main, capsys, f"{argument}=moon")
    assert listed in line
    assert code == 2
    line, code = refused(stage.main, capsys, "moon")
    assert "`moon` is not understood; expected " in line
    assert code == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.net.dropuot=0.1", "dropuot"),
        ("source=moon", "`source` is 'moon'"),
        ("budget=huge", "`budget` is 'huge'"),
        ("model.optimizer.lr=fast", "lr"),
    ],
)
def test_an_override_is_checked_like_a_conf(
    override: str, message: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: list[str]) -> None:
        check.check_model(config.model(MODEL, argv))

    line, code = refused(main, capsys, override)
    assert message in line
    assert code == 2


# --- damaged raw data with correct digests: pictures, series and ratings ------------------------

PICTURES, STOCK, FILMS = "cats_dogs", "google_stock", "movielens_100k"
ARCHIVE = "cats_dogs_128.zip"
PRICES = "Google_Stock_Price_Train.csv"
RATINGS = "u1.base"
CAT = "test_set/cats/cat.601.jpg"

Damage = Callable[[Path], object]  # changes the files in a folder


def edit_lines(file: str, edit: Callable[[list[str]], object]) -> Damage:
    """Edit the list of lines of a file in place, whatever its encoding and its line ends are."""

    def damage(folder: Path) -> None:
        lines = (folder / file).read_bytes().decode("latin-1").split("\n")
        edit(lines)
        (folder / file).write_bytes("\n".join(lines).encode("latin-1"))

    return damage


def set_line(number: int, text: str) -> Callable[[list[str]], object]:
    def edit(lines: list[str]) -> None:
        lines[number] = text

    return edit


def move_line(lines: list[str]) -> None:
    """Put the 38th line after the 42nd."""
    lines.insert(41, lines.pop(37))


def repeat_line(lines: list[str]) -> None:
    lines.insert(41, lines[40])


def negate_price(lines: list[str]) -> None:
    lines[41] = lines[41].replace(",", ",-", 1)


def keep_30_days(lines: list[str]) -> None:
    del lines[31:]


def edit_archive(edit: Callable[[dict[str, bytes]], object]) -> Damage:
    """Edit the members of the zip of pictures in place."""

    def damage(folder: Path) -> None:
        members = {}
        with zipfile.ZipFile(folder / ARCHIVE) as archive:
            for name in archive.namelist():
                members[name] = archive.read(name)
        edit(members)
        with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return damage


def leave_the_folder(members: dict[str, bytes]) -> None:
    members[f"../../{CAT}"] = members.pop(CAT)


def truncate_a_picture(members: dict[str, bytes]) -> None:
    members[CAT] = members[CAT][:999]


def shrink_a_picture(members: dict[str, bytes]) -> None:
    file = io.BytesIO()
    Image.new("RGB", (1, 97)).save(file, "PNG")
    members[CAT] = file.getvalue()


def add_an_empty_class(members: dict[str, bytes]) -> None:
    members["training_set/birds/"] = b""


def remove_the_cats_of_the_test_part(folder: Path) -> None:
    """Remove them from the archive and from the index, which lists the pictures of the archive."""
    prefix = "test_set/cats/"

    def edit(members: dict[str, bytes]) -> None:
        for name in list(members):
            if name.startswith(prefix):
                del members[name]

    edit_archive(edit)(folder)
    index = folder / "cats_dogs_index.csv"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(line for line in lines if not line.startswith(prefix)))


def truncate(file: str) -> Damage:
    """Cut a file to half of its length."""

    def damage(folder: Path) -> None:
        path = folder / file
        os.truncate(path, path.stat().st_size // 2)

    return damage


def encode_titles_as_utf_8(folder: Path) -> None:
    titles = folder / "u.item"
    titles.write_text(titles.read_text(encoding="latin-1"), encoding="utf-8")


def declare_titles_as_utf_8(folder: Path) -> None:
    conf = Path(f"conf/dataset/{FILMS}.yaml")
    conf.write_text(conf.read_text().replace("encoding: latin-1", "encoding: utf-8"))


@dataclass(frozen=True)
class RawFault:
    """Damage of the raw files of a data set, and patterns of the messages.

    `predict` is the message of a model that has to answer the damaged file. None: nothing is wrong
    for that command.
    """

    dataset: str
    damage: Damage
    validate: str | None
    prepare: str | None
    predict: str | None


NOT_WHOLE = r"cats_dogs_128.zip is not a complete zip file \(.+\); pull it again, or recreate it"
OUTSIDE = f"contains '../../{CAT}', a path outside its folder; pull it again, or recreate it"
NO_BIRDS = "class birds of training_set has no pictures; add some, or remove its folder"
NOT_UTF_8 = r"u.item is not utf-8: byte 0x[c-f][0-9a-f] at [0-9,]+; name its encoding in the conf"
NOT_A_RATING = "row 1 has `rating` 7; expected one of 1, 2, 3, 4, 5; correct the row"
NOT_AN_ID = r"row 1 has `user` 0; ids are whole numbers from 1 and below 2\*\*53; correct it"

RAW_FAULTS = {
    "truncated zip": RawFault(
        PICTURES, truncate(ARCHIVE), validate=NOT_WHOLE, prepare=NOT_WHOLE, predict=NOT_WHOLE
    ),
    "zip member outside its folder": RawFault(
        PICTURES, edit_archive(leave_the_folder), validate=OUTSIDE, prepare=OUTSIDE, predict=OUTSIDE
    ),
    "picture that cannot be decoded": RawFault(
        PICTURES,
        edit_archive(truncate_a_picture),
        validate="column='decodable'.*1 of 1,400 rows.*damaged in transfer",
        prepare=f"{CAT} cannot be decoded as a picture .*; replace it, or remove it",
        predict=rf"row 1 \({CAT}\) cannot be decoded as a picture .*; replace it",
    ),
    "picture 1 pixel wide": RawFault(
        PICTURES,
        edit_archive(shrink_a_picture),
        validate="column='width', min_value=16.*1 of 1,400 rows are unexpected, such as 1",
        prepare=f"{CAT} is 1 x 97 pixels; expected at least 16 on the short side; replace it",
        predict=rf"row 1 \({CAT}\) is 1 x 97 pixels; expected at least 16",
    ),
    "class without pictures": RawFault(
        PICTURES,
        edit_archive(add_an_empty_class),
        validate=NO_BIRDS,
        prepare=NO_BIRDS,
        predict=None,
    ),
    "class without pictures in the test part": RawFault(
        PICTURES,
        remove_the_cats_of_the_test_part,
        validate=(
            "expect_table_row_count_to_be_between.*animal == 'cats' and test == True.*observed 0"
        ),
        prepare="part test .*has no row of class cats of `animal`",
        predict=None,
    ),
    "dates out of order": RawFault(
        STOCK,
        edit_lines(PRICES, move_line),
        validate=(
            "expect_column_values_to_be_increasing"
            ".*column='day_number'.*a window would contain future days"
        ),
        prepare=(
            r"row 41 has '2012-02-\d\d' in `Date` after a later day;"
            " expected the oldest day first; correct the row"
        ),
        predict=r"row 41 has '2012-02-\d\d' in `Date` after a later day",
    ),
    "date twice": RawFault(
        STOCK,
        edit_lines(PRICES, repeat_line),
        validate="expect_column_values_to_be_unique.*column='Date'.*a duplicate day",
        prepare=(
            "row 41 has '2012-.*' in `Date` for a second time;"
            " expected each day once; correct the row"
        ),
        predict="row 41 has '2012-.*' in `Date` for a second time",
    ),
    "negative price": RawFault(
        STOCK,
        edit_lines(PRICES, negate_price),
        validate="column='Open', min_value=0.*such as -.*a price is positive",
        prepare="row 41 has -.* in `Open`; expected a price above 0; correct the row",
        predict="row 41 has -.* in `Open`; expected a price above 0",
    ),
    "too few days for the window": RawFault(
        STOCK,
        edit_lines(PRICES, keep_30_days),
        validate="expect_table_row_count_to_be_between.*observed 30 .*a shorter file is truncated",
        prepare=(
            "part train has 0 days to score after 30 days of context;"
            " expected 1 or more after 40: bring more days"
        ),
        predict="30 days; expected the 40 most recent days or more, the oldest first",
    ),
    "rating of 7": RawFault(
        FILMS,
        edit_lines(RATINGS, set_line(0, "1\t2\t7\t874724710")),
        validate=r"column='rating', value_set=\[1, 2, 3, 4, 5\].*such as 7",
        prepare=NOT_A_RATING,
        predict=NOT_A_RATING,
    ),
    "user id of 0": RawFault(
        FILMS,
        edit_lines(RATINGS, set_line(0, "0\t2\t3\t874724710")),
        validate="column='user', min_value=1.*such as 0 .*ids count from 1",
        prepare=NOT_AN_ID,
        predict=NOT_AN_ID,
    ),
    "unknown film": RawFault(
        FILMS,
        edit_lines(RATINGS, set_line(0, "1\t9973\t3\t874724710")),
        validate="expect_column_values_to_not_be_null.*column='title'.*one that u.item lacks",
        prepare="row 1 has `item` 9973, which u.item lacks",
        predict=(
            "row 1 names item 9973, which training did not know;"
            " the 1,682 known ones go from 1 to 1682"
        ),
    ),
    "film without title": RawFault(
        FILMS,
        edit_lines("u.item", set_line(40, "41|||")),
        validate="expect_column_values_to_not_be_null.*column='title'.*cannot be recommended",
        prepare="u.item: item 41 has no `title`; give it one",
        predict=None,
    ),
    "Latin-1 read as UTF-8": RawFault(
        FILMS, declare_titles_as_utf_8, validate=NOT_UTF_8, prepare=NOT_UTF_8, predict=None
    ),
    "UTF-8 read as Latin-1": RawFault(
        FILMS,
        encode_titles_as_utf_8,
        validate="expect_column_values_to_not_match_regex.*column='title'.*UTF-8 that was read",
        prepare=None,
        predict=None,
    ),
}


def cases(command: str) -> list[str]:
    """The faults that a command has to refuse: `validate`, `prepare` or `predict`."""
    return [case for case, fault in RAW_FAULTS.items() if vars(fault)[command] is not None]


def write_raw(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the twin of a data set as pull leaves it; return its folder.

    The outputs of validate and prepare are there as well, as if an earlier file had been good.
    """
    folder = Path("data/raw") / name
    shutil.copytree(twins.raw(name, tmp_path_factory), folder)
    files.write_json(folder / files.RECEIPT, pull.receipt("embedded", folder))
    files.write_json(
        Path(f"reports/validation/{name}.json"),
        {"source": "embedded", "success": True, "digest": "0"},
    )
    prepared = Path("data/prepared") / name
    prepared.mkdir(parents=True)
    (prepared / "train.parquet").write_text("of an earlier run")
    return folder


def digests(*folders: str) -> dict[str, str]:
    """The digest of every file in these folders of the working directory, by path."""
    return {
        str(path): files.sha256(path)
        for folder in folders
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def check_refusal(
    main: Main, message: str | None, capsys: pytest.CaptureFixture[str], *arguments: str
) -> None:
    """Run a command: it must refuse bad data with this message and change no file of the workspace.

    It may leave a report below .scratch/.
    """
    assert message is not None
    before = digests("data", "reports", "conf")
    line, code = refused(main, capsys, *arguments)
    assert re.search(message, line), line
    assert code == 12
    assert digests("data", "reports", "conf") == before


@pytest.mark.slow
@pytest.mark.parametrize("case", cases("validate"))
def test_damaged_raw_data_are_refused_by_validate(
    case: str,
    workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault = RAW_FAULTS[case]
    fault.damage(write_raw(fault.dataset, tmp_path_factory))
    monkeypatch.setenv("DVC_STAGE", f"validate@{fault.dataset}")
    message = f"{fault.validate}.*; {RESTORES}"
    check_refusal(validate.main, message, capsys, f"dataset={fault.dataset}")


@pytest.mark.slow
@pytest.mark.parametrize("case", cases("prepare"))
def test_damaged_raw_data_that_validate_accepted_are_refused_by_prepare(
    case: str,
    workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault = RAW_FAULTS[case]
    fault.damage(write_raw(fault.dataset, tmp_path_factory))
    monkeypatch.setenv("DVC_STAGE", f"prepare@{fault.dataset}")
    message = f"{fault.prepare}.*; {RESTORES}"
    check_refusal(prepare.main, message, capsys, f"dataset={fault.dataset}")


# The file of each data set that a model answers, the model, and the state of its encoder.
STOCK_STATE = {
    "features": {name: [0.0, 0.01] for name in ("Open", "High", "Low", "Close", "Volume")},
    "typical": {"Open": 500.0, "High": 505.0, "Low": 495.0, "Close": 500.0, "Volume": 1e6},
    "weekdays": [0, 1, 2, 3, 4],
}
FILMS_STATE = {
    "items": [*range(1, 1683)],
    "titles": [f"Film {number}" for number in range(1, 1683)],
    "users": [*range(1, 944)],
}
PICTURES_STATE = {"classes": ["cats", "dogs"], "mean": [0.5] * 3, "std": [0.25] * 3}
ENCODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    PICTURES: (ARCHIVE, "cnn", PICTURES_STATE),
    STOCK: (PRICES, "rnn", STOCK_STATE),
    FILMS: (RATINGS, "sae", FILMS_STATE),
}


def untrained(dataset: str, model: str) -> saved_model.SavedModel:
    """A model with random weights for a data set."""
    conf = config.model(model)
    columns = config.dataset(dataset).columns
    _, _, state = ENCODERS[dataset]
    encoder = plugins.kind(conf.kind).encoder.Encoder.from_state(state, columns)
    card = {
        "kind": conf.kind,
        "task": conf.task,
        "calibration": {"slope": 1.0, "offset": 0.0},
    }
    net = saved_model.build(conf.family, encoder.sizes, conf.net)
    return saved_model.SavedModel(card, net, encoder)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases("predict"))
def test_a_model_refuses_to_answer_damaged_raw_data(
    case: str,
    workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault = RAW_FAULTS[case]
    file, name, _ = ENCODERS[fault.dataset]
    folder = write_raw(fault.dataset, tmp_path_factory)
    fault.damage(folder)
    model = untrained(fault.dataset, name)

    def main(argv: list[str]) -> None:
        model.predict(model.read(argv[0]))

    check_refusal(main, fault.predict, capsys, str(folder / file))


@pytest.mark.parametrize("model", ["rbm", "sae"])
def test_a_new_user_and_a_user_without_ratings_get_answers(model: str, workspace: Path) -> None:
    """A new user is answered by the ratings in the input, and without any as the average user."""
    rows = [(7001, 1, 5.0), (7001, 2, None), (7002, 2, None)]
    inputs = pd.DataFrame(rows, columns=["user", "item", "rating"])
    message = "nothing is known of user 7002: answered as the average user"
    with pytest.warns(UserWarning, match=message):
        answers = untrained(FILMS, model).predict(inputs)
    assert answers["user"].tolist() == [7001, 7002]
    assert answers["title"].tolist() == ["Film 2"] * 2
    assert answers.notna().all(axis=None)


@pytest.mark.slow
def test_a_user_without_ratings_is_accepted_and_counted(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_raw(FILMS, tmp_path_factory)
    edit_lines("u.user", lambda lines: lines.insert(943, "944|33|F|other|02139"))(folder)
    for stage in (validate, prepare):
        monkeypatch.setenv("DVC_STAGE", f"{stage.__name__}@{FILMS}")
        stage.main([f"dataset={FILMS}"])
    profile = json.loads(Path(f"data/prepared/{FILMS}/profile.json").read_text())
    users = profile["columns"]["user"]
    assert users["count"] == 944
    assert users["without"] >= 1
    assert users["ratings_min"] == 0


# --- damaged files that pull refuses ------------------------------------------------------------


def incomplete(path: str) -> Damage:
    """Write the first bytes of a download that broke off to a path in the folder."""

    def damage(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text("the first bytes")

    return damage


def film_zip(member: str) -> Damage:
    """Write given.zip with one member."""

    def damage(folder: Path) -> None:
        with zipfile.ZipFile(folder / "given.zip", "w") as archive:
            archive.writestr(member, "1|Harbour (1995)\n" * 997)

    return damage


def truncated_film_zip(folder: Path) -> None:
    film_zip("ml-100k/u.item")(folder)
    truncate("given.zip")(folder)


# A data set, the files in its mirror, and the message.
PULLED: dict[str, tuple[str, Damage, str]] = {
    "incomplete pictures": (
        PICTURES,
        incomplete(f"cats_dogs/{ARCHIVE}"),
        "cats_dogs.yaml pins: got .*; `make pin",
    ),
    "incomplete prices": (
        STOCK,
        incomplete(f"stock/{PRICES}"),
        "stock.yaml pins: got .*`make pin",
    ),
    "incomplete ratings": (
        FILMS,
        incomplete(f"ratings/ml-100k/{RATINGS}"),
        "movielens_100k.yaml pins: got .*; `make pin",
    ),
    "truncated zip": (
        FILMS,
        truncated_film_zip,
        r"`u.item` cannot be extracted from its zip \(.+\); correct the source",
    ),
    "zip member outside its folder": (
        FILMS,
        film_zip("../u.item"),
        "the zip of `u.item` has no member ml-100k/u.item; it has ../u.item, …;"
        " correct `member` in conf",
    ),
}


@pytest.mark.parametrize("case", PULLED)
def test_damaged_files_of_a_mirror_are_refused_by_pull(
    case: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, damage, message = PULLED[case]
    mirror = workspace / "data/given"  # in data/, so that a change of its files would be noticed
    mirror.mkdir(parents=True)
    earlier = workspace / "data/raw" / name / "file.csv"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("of an earlier run")
    damage(mirror)
    archive = mirror / "given.zip"
    if archive.is_file():
        # The conf pins the damaged zip.
        pinned = {"bytes": archive.stat().st_size, "sha256": files.sha256(archive)}
        entry = {"file": "u.item", "member": "ml-100k/u.item", "path": "given.zip", **pinned}
        edit_yaml(Path(f"conf/dataset/{name}.yaml"), put("sources.mirror", [entry]))
    monkeypatch.setenv("SEXTANT_MIRROR", str(mirror))
    monkeypatch.setenv("DVC_STAGE", f"pull@{name}")
    restores = f"{message}.*; `dvc checkout` restores"
    check_refusal(pull.main, restores, capsys, f"dataset={name}", "source=mirror")
    assert [path.name for path in Path("data/raw").iterdir()] == [name]
    assert not list(workspace.rglob("u.item"))


# --- in a checkout, by DVC and by make ----------------------------------------------------------


@pytest.fixture(scope="module")
def clone(chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of `chain`; each test leaves it unchanged."""
    return copied(chain, tmp_path_factory.mktemp("bad") / "clone")


@pytest.fixture(scope="module")
def good_outputs(clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the clone's outputs before anything failed."""
    folder = tmp_path_factory.mktemp("good")
    for name in ("data", "models", "reports"):
        shutil.copytree(clone.path / name, folder / name)
    return folder


def output_digests(folder: Path) -> dict[str, str]:
    """The digests of all outputs that DVC or git keep, by path."""
    kept_files = []
    for place in [*folder.glob("data/*/*"), *folder.glob("models/*"), folder / "reports"]:
        paths = place.rglob("*") if place.is_dir() else [place]
        kept_files += [path for path in paths if path.is_file()]
    return {str(path.relative_to(folder)): files.sha256(path) for path in kept_files}


def lasting_state(clone: Clone) -> dict[str, object]:
    """Everything that bad input must not change.

    These are the registry, its artifacts, the checkpoints, the commits, and the files that git
    tracks, except for dvc.lock.
    """
    state: dict[str, object] = {"commits": clone.run("git", "log", "--oneline").stdout}
    for table in (
        "registered_models",
        "registered_model_aliases",
        "registered_model_tags",
        "model_versions",
        "model_version_tags",
    ):
        state[table] = clone.query(f"SELECT * FROM {table}")
    checkpoints = [path for path in (clone.path / ".checkpoints").rglob("*") if path.is_file()]
    state["checkpoints"] = sorted(path for path in checkpoints if path.name != "lock")
    artifacts = clone.path / f"mlruns/sextant-{MODEL}-twin/models"
    state["artifacts"] = sorted(artifacts.rglob("*.json"))
    for name in clone.run("git", "ls-files", "-z").stdout.split("\0"):
        if name and name != "dvc.lock":
            path = clone.path / name
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
            state[f"file {name}"] = digest
    return state


def cache_sizes(clone: Clone) -> dict[Path, int]:
    """The size of every file in DVC's cache."""
    cached = [path for path in (clone.path / ".dvc/cache/files").rglob("*") if path.is_file()]
    return {path: path.stat().st_size for path in cached}


class Harmless:
    """A block in which a command fails: the lasting state must be the same after it.

    At the end the workspace is restored: by `dvc checkout`, as the message says, if `checkout` is
    set, else from `good_outputs`, because `dvc checkout` takes two seconds.
    """

    def __init__(self, clone: Clone, good_outputs: Path, checkout: bool):
        self.clone = clone
        self.good_outputs = good_outputs
        self.checkout = checkout

    def __enter__(self) -> None:
        self.state = lasting_state(self.clone)
        self.cached = cache_sizes(self.clone)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                assert lasting_state(self.clone) == self.state
                assert cache_sizes(self.clone).items() >= self.cached.items()
        finally:
            self.clone.run("git", "checkout", "-q", ".")
            if self.checkout:
                self.clone.run("dvc", "checkout", "-q")
                restored = output_digests(self.clone.path) == output_digests(self.good_outputs)
                assert restored or kind is not None
            else:
                shutil.rmtree(self.clone.path / "data")
                shutil.copytree(self.good_outputs / "data", self.clone.path / "data")
            assert self.clone.changed() == []


@pytest.fixture
def harmless(clone: Clone, good_outputs: Path) -> Callable[..., Harmless]:
    return lambda checkout=False: Harmless(clone, good_outputs, checkout)


@dataclass(frozen=True)
class TableFault:
    """Damage of the table of customers, and a pattern of the message."""

    damage: Callable[[pd.DataFrame], pd.DataFrame]
    message: str


def write_letters(rows: pd.DataFrame) -> pd.DataFrame:
    tenure = rows["Tenure"].astype(object).where(rows.index != 17, "many")
    return rows.assign(Tenure=tenure)


CRITICAL = "critical expectations failed.*"
TABLE_FAULTS = {
    "missing column": TableFault(
        lambda rows: rows.drop(columns="Age"), "lacks column Age; found RowNumber, .*; correct"
    ),
    "renamed column": TableFault(
        lambda rows: rows.rename(columns={"Age": "Years"}), "lacks column Age; found .*Years"
    ),
    "letters in a number": TableFault(
        write_letters, f"{CRITICAL}column='Tenure'.*correct the file at its source"
    ),
    "empty file": TableFault(
        lambda rows: pd.DataFrame(), "is empty; expected a table with CustomerId, "
    ),
    "duplicate keys": TableFault(
        lambda rows: pd.concat([rows, rows.head(3)]),
        f"{CRITICAL}expect_column_values_to_be_unique.*CustomerId.*correct the file",
    ),
    "class without rows": TableFault(
        lambda rows: rows.assign(Exited=0),
        f"{CRITICAL}expect_column_distinct_values_to_equal_set.*Exited.*correct the file",
    ),
}


def write_mirror(folder: Path, text: str) -> Path:
    """Write a mirror with the data set's file to `folder`; return the path of the file."""
    path = folder / DATASET / FILE
    path.parent.mkdir()
    path.write_text(text)
    return path


def use_mirror(clone: Clone, path: Path) -> None:
    """Make the mirror the source and pin its file, so that no digest reveals the damage."""
    clone.edit(PARAMS, "source: embedded", "source: mirror")
    edit_yaml(clone.path / DATASET_CONF, put("sources.mirror.0.bytes", path.stat().st_size))
    edit_yaml(clone.path / DATASET_CONF, put("sources.mirror.0.sha256", files.sha256(path)))


@pytest.mark.slow
@pytest.mark.parametrize("case", TABLE_FAULTS)
def test_a_damaged_table_is_refused_before_prepare(
    case: str,
    clone: Clone,
    good_outputs: Path,
    harmless: Callable[..., Harmless],
    tmp_path: Path,
) -> None:
    fault = TABLE_FAULTS[case]
    rows = fault.damage(pd.read_csv(clone.path / f"data/raw/{DATASET}/{FILE}"))
    text = "" if case == "empty file" else rows.to_csv(index=False)
    mirror = write_mirror(tmp_path, text)
    use_mirror(clone, mirror)
    mirror_before = files.sha256(mirror)
    model_before = files.folder_digest(clone.path / f"models/{MODEL}")
    with harmless():
        done = clone.run("dvc", "repro", code=None, SEXTANT_MIRROR=str(tmp_path))
        line = refusal(done.stderr)
        assert re.search(fault.message, line), line
        assert done.returncode != 0
        assert "exited with 12" in done.stderr
        assert "Running stage 'prepare@" not in done.stdout
        assert files.folder_digest(clone.path / f"models/{MODEL}") == model_before
        (command,) = re.findall(r"; `(.*dvc checkout)` restores [a-z ]+$", line)
        # Try the command of the message twice: after a refusal by pull, and by validate.
        if case in ("empty file", "duplicate keys"):
            clone.run("bash", "-c", command)
            assert output_digests(clone.path) == output_digests(good_outputs)
            assert "dvc.lock" not in clone.changed()
    assert files.sha256(mirror) == mirror_before


@pytest.mark.slow
@pytest.mark.parametrize("case", ["truncated zip", "Latin-1 read as UTF-8"])
def test_damaged_raw_data_of_other_kinds_stop_dvc_before_prepare(
    case: str,
    clone: Clone,
    harmless: Callable[..., Harmless],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault = RAW_FAULTS[case]
    name = fault.dataset
    shutil.copytree(twins.raw(name, tmp_path_factory), tmp_path / "given")
    monkeypatch.chdir(clone.path)
    fault.damage(tmp_path / "given")
    pins = pull.receipt("mirror", tmp_path / "given")["files"]
    mirror = [{"file": file, "path": f"given/{file}", **pin} for file, pin in pins.items()]
    clone.set(f"conf/dataset/{name}.yaml", sources__mirror=mirror)
    kind = twins.conf_of(name).kind
    clone.set(PARAMS, source="mirror", datasets={DATASET: "tabular", name: kind})
    with harmless():
        done = clone.run("dvc", "repro", f"prepare@{name}", code=None, SEXTANT_MIRROR=str(tmp_path))
        assert re.search(f"{fault.validate}.*; {RESTORES}", refusal(done.stderr))
        assert done.returncode != 0
        assert "exited with 12" in done.stderr
        assert "Running stage 'prepare@" not in done.stdout
    assert pull.receipt("mirror", tmp_path / "given")["files"] == pins


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        (
            "wrong digest",
            12,
            r"is not the file that .*churn.yaml pins: got .*;"
            r" expected sha256 3996cd1fa372.*`make pin D",
        ),
        (
            "missing file",
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
def test_a_mirror_without_the_pinned_file_is_refused(
    case: str,
    code: int,
    message: str,
    clone: Clone,
    harmless: Callable[..., Harmless],
    tmp_path: Path,
) -> None:
    clone.edit(PARAMS, "source: embedded", "source: mirror")
    if case == "wrong digest":
        write_mirror(tmp_path, "RowNumber,CustomerId\n1,2\n")
    mirrors = {"unreachable mirror": "/nowhere", "unset mirror": ""}
    mirror = mirrors.get(case, str(tmp_path))
    with harmless(checkout=case == "unset mirror"):
        done = clone.run("dvc", "repro", f"pull@{DATASET}", code=None, SEXTANT_MIRROR=mirror)
        line = refusal(done.stderr)
        assert re.search(message, line), line
        assert f"exited with {code}" in done.stderr
        assert "`dvc checkout` restores" in line
        assert not (clone.path / f"data/raw/{DATASET}").exists()  # DVC had emptied it


def run_on_a_full_disk(clone: Clone, kib: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that can write no file of more than `kib` KiB; the error is that of a quota."""
    return clone.run("bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash", *command, code=None)


@pytest.mark.slow
def test_a_full_disk_while_a_stage_writes(clone: Clone, harmless: Callable[..., Harmless]) -> None:
    with harmless(checkout=True):
        done = run_on_a_full_disk(clone, 500, "dvc", "repro", "-f", "-s", f"pull@{DATASET}")
        message = "no space left while writing data/raw/churn.*: free some, then run the same"
        assert re.search(message, refusal(done.stderr))
        assert done.returncode != 0
        assert "`dvc checkout` restores" in done.stderr
        assert [path.name for path in (clone.path / "data/raw").glob(".*.part")] == []


@pytest.mark.slow
def test_a_full_disk_while_answers_are_written(
    clone: Clone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(clone.path)
    output = tmp_path / "answers.csv"
    output.write_text("earlier answers\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        arguments = [f"model={MODEL}", f"input=data/raw/{DATASET}/{FILE}", f"output={output}"]
        line, code = refused(predict.main, capsys, *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "no space left while writing" in line
    assert code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["answers.csv"]
    assert output.read_text() == "earlier answers\n"


@pytest.mark.slow
def test_a_locked_database_stops_a_training_before_it_begins(
    clone: Clone, harmless: Callable[..., Harmless]
) -> None:
    other = sqlite3.connect(clone.path / "mlflow.db", isolation_level=None)
    with harmless(checkout=True), closing(other):
        other.execute("BEGIN EXCLUSIVE")
        done = clone.run("dvc", "repro", "-f", "-s", f"train@{MODEL}", code=None)
        other.rollback()
        line = refusal(done.stderr)
        message = (
            r"mlflow.db cannot be written to \(database is locked\);"
            " end the program that holds it"
        )
        assert re.search(message, line)
        assert "`make doctor`" in line
        assert "`dvc checkout` restores" in line
        assert not (clone.path / f"models/{MODEL}").exists()  # DVC had emptied it


@pytest.mark.slow
def test_a_fault_in_a_conf_stops_make_before_dvc_starts(
    clone: Clone, harmless: Callable[..., Harmless]
) -> None:
    clone.edit(MODEL_CONF, "  dropout:", "  dropuot:")
    model_before = files.folder_digest(clone.path / f"models/{MODEL}")
    with harmless():
        done = clone.run("make", "repro", code=2)
        assert "did you mean `dropout`?" in refusal(done.stderr)
        assert "Running stage" not in done.stdout
        assert "dvc" not in done.stderr
        assert files.folder_digest(clone.path / f"models/{MODEL}") == model_before
