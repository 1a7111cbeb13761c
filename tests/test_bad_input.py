"""Bad input gives one line and a non-zero exit code, and changes nothing that lasts.

First faults in conf/, then damaged files as each stage meets them, then the same in a real
checkout, where DVC and make run the stages.
"""

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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import twins
from conftest import Clone, copy_clone, dump_yaml, load_yaml
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
USAGE, BAD_DATA = 2, 12  # exit codes

Main = Callable[[list[str]], object]
Capture = pytest.CaptureFixture[str]


def refusal(stderr: str) -> str:
    """The one line in which Sextant refused; DVC and make may add lines of their own."""
    assert "Traceback" not in stderr, stderr
    notes = ("warning: ", f"{MODEL} has no champion on real data")
    refusals = []
    for line in stderr.splitlines():
        message = line.removeprefix("sextant: ")
        if message != line and not message.startswith(notes):
            refusals.append(message)
    assert len(refusals) == 1, stderr
    return refusals[0]


def refused(main: Main, capsys: Capture, *arguments: str) -> tuple[str, int]:
    """The line and the exit code with which a command fails, run in this process."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["sextant", *arguments])
        errors.run(main)
    assert isinstance(ended.value.code, int)
    return refusal(capsys.readouterr().err), ended.value.code


# --- faults in conf/, which `make check` finds before DVC starts --------------------------------

PARAMS = "params.yaml"
MODEL_CONF = f"conf/model/{MODEL}.yaml"
DATASET_CONF = f"conf/dataset/{DATASET}.yaml"
SUITE = f"conf/expectations/{DATASET}.yaml"

Change = Callable[[Any], object]


def block_at(conf: Any, path: list[str]) -> Any:
    for key in path:
        conf = conf[int(key) if key.isdigit() else key]
    return conf


def put(path: str, value: object) -> Change:
    """Set the value at a path such as `net.dropout`."""

    def change(conf: Any) -> None:
        *above, last = path.split(".")
        block_at(conf, above)[last] = value

    return change


def rename(path: str, name: str) -> Change:
    """Rename the key at a path, as a typing error does."""

    def change(conf: Any) -> None:
        *above, last = path.split(".")
        block = block_at(conf, above)
        block[name] = block.pop(last)

    return change


def unknown_kind(conf: Any) -> None:
    conf["datasets"][DATASET] = "sounds"
    conf["models"][MODEL]["kind"] = "sounds"


# By the name of the fault: the file, the change, and what the message must match. One fault or more
# for each part of `sextant check`; the tests of the parts have the others.
CONF_FAULTS: dict[str, tuple[str, Change, str]] = {
    "unknown kind": (
        PARAMS,
        unknown_kind,
        "unknown kind `sounds`; .* has: .*tabular",
    ),
    "data set without conf": (
        PARAMS,
        put("datasets.moon", "tabular"),
        "moon.yaml does not exist; add it",
    ),
    "misspelt parameter": (
        PARAMS,
        rename("budget", "buget"),
        "unknown key `buget`; did you mean `budget`",
    ),
    "misspelt argument": (
        MODEL_CONF,
        rename("net.dropout", "dropuot"),
        "net: .*`dropuot`; did you mean `dropout`",
    ),
    "argument out of range": (
        MODEL_CONF,
        put("net.dropout", 1.5),
        "net: `dropout` is 1.5; .*less than 1",
    ),
    "not a number": (
        MODEL_CONF,
        put("optimizer.lr", float("nan")),
        "optimizer lr is nan; expected a finite number",
    ),
    "budget out of range": (
        MODEL_CONF,
        put("budgets.full.schedule.max_epochs", 0),
        "`max_epochs` is 0; .*greater than",
    ),
    "misspelt column role": (
        DATASET_CONF,
        rename("columns.target", "traget"),
        "`traget`; did you mean `target`",
    ),
    "path outside the mirror": (
        DATASET_CONF,
        put("sources.mirror.0.path", "../x.csv"),
        "`path` is '../x.csv'; .*plain",
    ),
    "unknown severity": (
        SUITE,
        put("0.severity", "fatal"),
        "`severity` is 'fatal'; .*'critical', 'warning' or 'info'",
    ),
}


FEW = ("unknown kind", "argument out of range", "misspelt column role", "unknown severity")
FAULTY = []
for fault, values in CONF_FAULTS.items():
    marks = [] if fault in FEW else [pytest.mark.slow]  # one of each file in `make test-fast`
    FAULTY.append(pytest.param(*values, marks=marks, id=fault))


@pytest.mark.parametrize(("file", "change", "message"), FAULTY)
def test_a_fault_in_a_conf_is_reported_with_its_place(
    file: str, change: Change, message: str, one_model: Path, capsys: Capture
) -> None:
    conf = load_yaml(Path(file).read_text())
    change(conf)
    Path(file).write_text(dump_yaml(conf))
    line, code = refused(check.main, capsys)
    assert re.search(message, line), line
    assert code == USAGE


DATASET_STAGES = [pull, validate, prepare, pin]
MODEL_STAGES = [evaluate, register]


@pytest.mark.parametrize("stage", DATASET_STAGES, ids=lambda stage: stage.__name__)
def test_an_unknown_data_set_is_refused(
    stage: ModuleType, workspace: Path, capsys: Capture
) -> None:
    line, code = refused(stage.main, capsys, "dataset=moon")
    assert f"unknown data set `moon`; params.yaml lists: {DATASET}" in line
    assert code == USAGE


@pytest.mark.parametrize("stage", MODEL_STAGES, ids=lambda stage: stage.__name__)
def test_an_unknown_model_is_refused(stage: ModuleType, workspace: Path, capsys: Capture) -> None:
    line, code = refused(stage.main, capsys, "model=moon")
    assert f"unknown model `moon`; params.yaml lists: {MODEL}" in line
    assert code == USAGE


@pytest.mark.parametrize("stage", DATASET_STAGES + MODEL_STAGES, ids=lambda stage: stage.__name__)
def test_an_argument_without_a_key_is_refused(
    stage: ModuleType, workspace: Path, capsys: Capture
) -> None:
    line, code = refused(stage.main, capsys, "moon")
    assert "`moon` is not understood; expected " in line
    assert code == USAGE


# --- damaged files of images, series and ratings, as each stage meets them ----------------------
# No digest reveals this damage: the files are as the conf pins them.

PETS, STOCK, FILMS = "cats_dogs", "google_stock", "movielens_100k"
ARCHIVE, DAYS, RATINGS = "cats_dogs_128.zip", "Google_Stock_Price_Train.csv", "u1.base"
CAT = "test_set/cats/cat.601.jpg"

Damage = Callable[[Path], object]
Members = dict[str, bytes]


def edit_lines(file: str, change: Callable[[list[str]], object]) -> Damage:
    """Change the lines of a file, whatever its encoding and line ends are."""

    def damage(folder: Path) -> None:
        lines = (folder / file).read_bytes().decode("latin-1").split("\n")
        change(lines)
        (folder / file).write_bytes("\n".join(lines).encode("latin-1"))

    return damage


def replace_line(file: str, index: int, text: str) -> Damage:
    def change(lines: list[str]) -> None:
        lines[index] = text

    return edit_lines(file, change)


def edit_archive(change: Callable[[Members], object]) -> Damage:
    """Change the members of the zip of pictures."""

    def damage(folder: Path) -> None:
        with zipfile.ZipFile(folder / ARCHIVE) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        change(members)
        with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return damage


def cut_in_half(file: str) -> Damage:
    return lambda folder: os.truncate(folder / file, (folder / file).stat().st_size // 2)


def move_cat_outside(members: Members) -> None:
    members[f"../../{CAT}"] = members.pop(CAT)


def cut_cat(members: Members) -> None:
    members[CAT] = members[CAT][:999]


def narrow_cat(members: Members) -> None:
    """Replace a picture by one that is a single pixel wide."""
    stream = io.BytesIO()
    Image.new("RGB", (1, 97)).save(stream, "PNG")
    members[CAT] = stream.getvalue()


def add_empty_class(members: Members) -> None:
    members["training_set/birds/"] = b""


def remove_test_cats(folder: Path) -> None:
    """Remove the cats of the test part, from the archive and from its index."""
    cats = "test_set/cats/"

    def change(members: Members) -> None:
        for name in list(members):
            if name.startswith(cats):
                del members[name]

    edit_archive(change)(folder)
    index = folder / "cats_dogs_index.csv"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(line for line in lines if not line.startswith(cats)))


def repeat_day(lines: list[str]) -> None:
    lines.insert(41, lines[40])


def negate_price(lines: list[str]) -> None:
    lines[41] = lines[41].replace(",", ",-", 1)


def keep_30_days(lines: list[str]) -> None:
    del lines[31:]


def set_utf_8(folder: Path) -> None:
    """Name the wrong encoding in the conf."""
    conf = Path(f"conf/dataset/{FILMS}.yaml")
    conf.write_text(conf.read_text().replace("encoding: latin-1", "encoding: utf-8"))


def encode_as_utf_8(folder: Path) -> None:
    titles = folder / "u.item"
    titles.write_text(titles.read_text(encoding="latin-1"), encoding="utf-8")


@dataclass(frozen=True)
class Fault:
    """Damaged files of a data set, and the messages with which the stages refuse them.

    `predict` is the message of a model that gets the same file as input. None: the stage cannot see
    the damage.
    """

    dataset: str
    damage: Damage
    validate: str | None = None
    prepare: str | None = None
    predict: str | None = None


NOT_WHOLE = r"cats_dogs_128.zip is not a complete zip file \(.+\); pull it again"
OUTSIDE = rf"contains '\.\./\.\./{CAT}', a path outside its folder; pull it again"
NO_BIRDS = "class birds of training_set has no pictures; add some, .*remove its folder"
NOT_UTF_8 = r"u.item line 1 is not utf-8 \(byte 0x[c-f][0-9a-f]\); set `encoding` in the conf"
NO_ID = "u1.base line 1 has no `user`; expected an id in each row"
SEVEN_STARS = "u1.base line 1 has `rating` 7; expected one of 1, 2, 3, 4, 5; correct the row"
REPEATED = f"{DAYS} line 42 has '2012-.*' in `Date` for a second time; expected each day once"
NEGATIVE = f"{DAYS} line 42 has -.* in `Open`; expected a price above 0"

FAULTS: dict[str, Fault] = {
    "truncated zip": Fault(
        PETS,
        cut_in_half(ARCHIVE),
        validate=NOT_WHOLE,
        prepare=NOT_WHOLE,
        predict=NOT_WHOLE,
    ),
    "path outside the zip": Fault(
        PETS,
        edit_archive(move_cat_outside),
        validate=OUTSIDE,
        prepare=OUTSIDE,
        predict=OUTSIDE,
    ),
    "picture that cannot be decoded": Fault(
        PETS,
        edit_archive(cut_cat),
        validate="column='decodable'.*1 of 1,400 rows.*damaged in transfer",
        prepare=f"{CAT} cannot be decoded as a picture .*; replace it, or remove it",
        predict=rf"row 1 \({CAT}\) cannot be decoded as a picture .*; replace it",
    ),
    "picture 1 pixel wide": Fault(
        PETS,
        edit_archive(narrow_cat),
        validate="column='width', min_value=16.*1 of 1,400 rows.*such as 1",
        prepare=f"{CAT} is 1 x 97 pixels; expected at least 16 on the short side; replace it",
        predict=rf"row 1 \({CAT}\) is 1 x 97 pixels; expected at least 16",
    ),
    "class without pictures": Fault(
        PETS,
        edit_archive(add_empty_class),
        validate=NO_BIRDS,
        prepare=NO_BIRDS,
    ),
    "class without test pictures": Fault(
        PETS,
        remove_test_cats,
        validate=(
            "expect_table_row_count_to_be_between.*animal == 'cats' and test == True.*observed 0"
        ),
        prepare="part test .*has no row of class cats of `animal`",
    ),
    "date twice": Fault(
        STOCK,
        edit_lines(DAYS, repeat_day),
        validate="expect_column_values_to_be_unique.*column='Date'.*a duplicate day",
        prepare=REPEATED,
        predict=REPEATED,
    ),
    "negative price": Fault(
        STOCK,
        edit_lines(DAYS, negate_price),
        validate="column='Open', min_value=0.*such as -.*a price is positive",
        prepare=NEGATIVE,
        predict=NEGATIVE,
    ),
    "fewer days than a window": Fault(
        STOCK,
        edit_lines(DAYS, keep_30_days),
        validate="expect_table_row_count_to_be_between.*observed 50 .*a shorter file is truncated",
        prepare=(
            "part train has 0 days to score after 30 days of history; expected 1 or more after 40;"
            " add days"
        ),
        predict="30 days; expected the 40 most recent days or more",
    ),
    "rating of 7": Fault(
        FILMS,
        replace_line(RATINGS, 0, "1\t2\t7\t874724710"),
        validate=r"column='rating', value_set=\[1, 2, 3, 4, 5\].*such as 7",
        prepare=SEVEN_STARS,
        predict=SEVEN_STARS,
    ),
    "user id of 0": Fault(
        FILMS,
        replace_line(RATINGS, 0, "0\t2\t3\t874724710"),
        validate="column='user', min_value=1.*such as 0 .*ids start at 1",
        prepare="u1.base line 1 has `user` 0, which u.user lacks; add it there",
    ),
    "no user id": Fault(
        FILMS,
        replace_line(RATINGS, 0, "\t2\t3\t874724710"),
        validate=NO_ID,
        prepare=NO_ID,
        predict=NO_ID,
    ),
    "unlisted film": Fault(
        FILMS,
        replace_line(RATINGS, 0, "1\t9973\t3\t874724710"),
        predict=(
            r"u1.base line 1 has item 9973, which is not one of the 1,682 in training"
            r" \(1 to 1682\)"
        ),
    ),
    "film without title": Fault(
        FILMS,
        replace_line("u.item", 40, "41|||"),
        validate="expect_column_values_to_not_be_null.*column='title'.*cannot be recommended",
        prepare="u.item: item 41 has no `title`; add one",
    ),
    "Latin-1 read as UTF-8": Fault(
        FILMS,
        set_utf_8,
        validate=NOT_UTF_8,
        prepare=NOT_UTF_8,
    ),
    "UTF-8 read as Latin-1": Fault(
        FILMS,
        encode_as_utf_8,
        validate=(
            "expect_column_values_to_not_match_regex.*column='title'.*UTF-8 decoded as Latin-1"
        ),
    ),
}
RESTORES = "; `git checkout dvc.lock && dvc checkout` restores"


def bring(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Put the twin of a data set where pull writes it, and outputs of an earlier run beside it."""
    folder = Path("data/raw") / name
    shutil.copytree(twins.raw(name, tmp_path_factory), folder)
    files.write_json(folder / files.RECEIPT, pull.receipt("embedded", folder))
    report = Path(f"reports/validation/{name}.json")
    files.write_json(report, {"source": "embedded", "success": True, "digest": "0"})
    prepared = Path("data/prepared") / name
    prepared.mkdir(parents=True)
    (prepared / "train.parquet").write_text("of an earlier run")
    return folder


def run_as(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let DVC run this stage, of which the last commit has an earlier run."""
    lock = f"stages:\n  {stage}:\n    cmd: a\n"
    Path("dvc.lock").write_text(lock)
    monkeypatch.setattr(errors, "committed_lock", lambda: lock)
    monkeypatch.setenv("DVC_STAGE", stage)


def digests() -> dict[str, str]:
    """The inputs of a stage and the outputs of an earlier run; .scratch/ may change."""
    paths = [path for place in ("data", "reports", "conf") for path in Path(place).rglob("*")]
    return {str(path): files.sha256(path) for path in paths if path.is_file()}


def check_refusal(main: Main, message: str, capsys: Capture, *arguments: str) -> None:
    """A stage must refuse bad data in one line that matches `message`, and change nothing."""
    before = digests()
    line, code = refused(main, capsys, *arguments)
    assert re.search(message, line), line
    assert code == BAD_DATA
    assert digests() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.validate])
def test_validate_refuses_damaged_files(
    name: str,
    workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    fault = FAULTS[name]
    fault.damage(bring(fault.dataset, tmp_path_factory))
    run_as(f"validate@{fault.dataset}", monkeypatch)
    message = f"{fault.validate}.*{RESTORES}"
    check_refusal(validate.main, message, capsys, f"dataset={fault.dataset}")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.prepare])
def test_prepare_refuses_damaged_files_that_validate_passed(
    name: str,
    workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    fault = FAULTS[name]
    fault.damage(bring(fault.dataset, tmp_path_factory))
    run_as(f"prepare@{fault.dataset}", monkeypatch)
    message = f"{fault.prepare}.*{RESTORES}"
    check_refusal(prepare.main, message, capsys, f"dataset={fault.dataset}")


# By data set: the file that is given as input, the model, and the state of its encoder.
ENCODERS: dict[str, tuple[str, str, dict[str, object]]] = {
    PETS: (
        ARCHIVE,
        "cnn",
        {"classes": ["cats", "dogs"], "mean": [0.5] * 3, "std": [0.25] * 3},
    ),
    STOCK: (
        DAYS,
        "rnn",
        {
            "features": {name: [0.0, 0.01] for name in ("Open", "High", "Low", "Close", "Volume")},
            "typical": {"Open": 500.0, "High": 505.0, "Low": 495.0, "Close": 500.0, "Volume": 1e6},
            "weekdays": [0, 1, 2, 3, 4],
        },
    ),
    FILMS: (
        RATINGS,
        "sae",
        {
            "items": [*range(1, 1683)],
            "titles": [f"Film {item}" for item in range(1, 1683)],
            "users": [*range(1, 944)],
        },
    ),
}


def untrained(dataset: str, model: str) -> saved_model.SavedModel:
    """A model with random weights, which answers like a trained one."""
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
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.predict])
def test_a_model_refuses_damaged_input_rows(
    name: str, workspace: Path, tmp_path_factory: pytest.TempPathFactory, capsys: Capture
) -> None:
    fault = FAULTS[name]
    file, model_name, _ = ENCODERS[fault.dataset]
    folder = bring(fault.dataset, tmp_path_factory)
    fault.damage(folder)
    model = untrained(fault.dataset, model_name)

    def main(argv: list[str]) -> None:
        model.predict(model.read(argv[0]))

    check_refusal(main, str(fault.predict), capsys, str(folder / file))


@pytest.mark.parametrize("model", ["rbm", "sae"])
def test_a_new_user_and_one_without_ratings_are_answered(model: str, workspace: Path) -> None:
    """By the known ratings of the user, and where there are none, as the average user."""
    rows = [(7001, 1, 5.0), (7001, 2, None), (7002, 2, None)]
    frame = pd.DataFrame(rows, columns=["user", "item", "rating"])
    message = "no rating is known of user 7002: answered as the average user"
    with pytest.warns(UserWarning, match=message):
        answers = untrained(FILMS, model).predict(frame)
    assert answers["user"].tolist() == [7001, 7002]
    assert answers["title"].tolist() == ["Film 2", "Film 2"]
    assert answers["warnings"].tolist() == ["", message]
    assert answers.notna().all(axis=None)


@pytest.mark.slow
def test_a_user_without_ratings_is_accepted_and_counted(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_user(lines: list[str]) -> None:
        lines.insert(943, "944|33|F|other|02139")

    edit_lines("u.user", add_user)(bring(FILMS, tmp_path_factory))
    run_as(f"validate@{FILMS}", monkeypatch)
    validate.main([f"dataset={FILMS}"])
    run_as(f"prepare@{FILMS}", monkeypatch)
    prepare.main([f"dataset={FILMS}"])
    profile = json.loads(Path(f"data/prepared/{FILMS}/profile.json").read_text())
    users = profile["columns"]["user"]
    assert users["count"] == 944
    assert users["without"] >= 1
    assert users["ratings_min"] == 0


# --- files that arrive damaged, as pull meets them ----------------------------------------------

ZIP = "given.zip"


def write_zip(folder: Path, member: str = "ml-100k/u.item") -> None:
    with zipfile.ZipFile(folder / ZIP, "w") as archive:
        archive.writestr(member, "1|Harbour (1995)\n" * 997)


def write_truncated_zip(folder: Path) -> None:
    write_zip(folder)
    cut_in_half(ZIP)(folder)


def write_zip_with_other_member(folder: Path) -> None:
    write_zip(folder, "../u.item")


def truncated(path: str) -> Damage:
    """Write the first part of a file to the mirror."""

    def write(folder: Path) -> None:
        file = folder / path
        file.parent.mkdir(parents=True)
        file.write_text("what arrived before the connection broke")

    return write


# By the name of the fault: the data set, the file in the mirror, and what the message must match.
PULL_FAULTS: dict[str, tuple[str, Damage, str]] = {
    "truncated pictures": (
        PETS,
        truncated("cats_dogs/cats_dogs_128.zip"),
        "cats_dogs.yaml pins: got .*; `make pin",
    ),
    "truncated days": (
        STOCK,
        truncated("stock/Google_Stock_Price_Train.csv"),
        "stock.yaml pins: got .*`make pin",
    ),
    "truncated ratings": (
        FILMS,
        truncated("ratings/ml-100k/u1.base"),
        "movielens_100k.yaml pins: got .*; `make pin",
    ),
    "truncated zip": (
        FILMS,
        write_truncated_zip,
        r"`u.item` cannot be extracted from its zip \(.+\); ",
    ),
    "zip without the member": (
        FILMS,
        write_zip_with_other_member,
        "the zip of `u.item` has no member ml-100k/u.item; it has ../u.item, …; correct `member`",
    ),
}


@pytest.mark.parametrize(("name", "write", "message"), PULL_FAULTS.values(), ids=PULL_FAULTS)
def test_pull_refuses_files_that_arrive_damaged(
    name: str,
    write: Damage,
    message: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    mirror = workspace / "data/mirror"  # below data/, so that `digests` contains it
    earlier = workspace / "data/raw" / name
    earlier.mkdir(parents=True)
    (earlier / "file.csv").write_text("of an earlier run")
    mirror.mkdir()
    write(mirror)
    archive = mirror / ZIP
    if archive.is_file():
        entry = {
            "file": "u.item",
            "member": "ml-100k/u.item",
            "path": ZIP,
            "bytes": archive.stat().st_size,
            "sha256": files.sha256(archive),
        }
        path = Path(f"conf/dataset/{name}.yaml")
        conf = load_yaml(path.read_text())
        conf["sources"]["mirror"] = [entry]
        path.write_text(dump_yaml(conf))
    monkeypatch.setenv("SEXTANT_MIRROR", str(mirror))
    run_as(f"pull@{name}", monkeypatch)
    message = f"{message}.*; `dvc checkout` restores"
    check_refusal(pull.main, message, capsys, f"dataset={name}", "source=mirror")
    assert [path.name for path in Path("data/raw").iterdir()] == [name]
    assert not list(workspace.rglob("u.item"))


# --- in a real checkout, where DVC and make run the stages --------------------------------------


@pytest.fixture(scope="module")
def clone(pipeline: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return copy_clone(pipeline, tmp_path_factory.mktemp("bad") / "clone")


@pytest.fixture(scope="module")
def backup(clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of `clone` before anything failed."""
    folder = tmp_path_factory.mktemp("backup")
    for name in ("data", "models", "reports"):
        shutil.copytree(clone.path / name, folder / name)
    return folder


def outputs(clone: Clone) -> dict[str, str]:
    """The digests of the files that DVC and git track."""
    places = [*clone.path.glob("data/*/*"), *clone.path.glob("models/*"), clone.path / "reports"]
    paths = [path for place in places for path in [place, *place.rglob("*")]]
    return {
        str(path.relative_to(clone.path)): files.sha256(path) for path in paths if path.is_file()
    }


TABLES = (
    "registered_models",
    "registered_model_aliases",
    "registered_model_tags",
    "model_versions",
    "model_version_tags",
)


def lasting(clone: Clone) -> dict[str, object]:
    """What bad input must not change: the registry, checkpoints, artifacts, and git's files."""
    with closing(sqlite3.connect(clone.path / "mlflow.db")) as database:
        registry = {}
        for table in TABLES:
            registry[table] = database.execute(f"SELECT * FROM {table}").fetchall()
    tracked = clone.run("git", "ls-files", "-z").stdout.split("\0")
    artifacts = clone.path / f"mlruns/sextant-{MODEL}-twin/models"
    checkpoints = [
        path
        for path in (clone.path / ".checkpoints").rglob("*")
        if path.is_file() and path.name != "lock"
    ]
    return {
        "registry": registry,
        "checkpoints": sorted(map(str, checkpoints)),
        "git": {name: digest(clone.path / name) for name in tracked if name and name != "dvc.lock"},
        "commits": clone.run("git", "log", "--oneline").stdout,
        "artifacts": sorted(map(str, artifacts.rglob("*.json"))),
    }


def digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def cache(clone: Clone) -> dict[str, int]:
    """The files of DVC's cache and their sizes."""
    paths = [path for path in (clone.path / ".dvc/cache/files").rglob("*") if path.is_file()]
    return {str(path): path.stat().st_size for path in paths}


@contextmanager
def unharmed(clone: Clone, backup: Path, checkout: bool = False) -> Iterator[None]:
    """A block in which a command fails: what lasts must be unchanged; then the workspace is
    restored.

    With `checkout` by `dvc checkout`, as the message advises, else from the backup, which takes
    two seconds less.
    """
    before = lasting(clone)
    cached = cache(clone)
    try:
        yield
        assert lasting(clone) == before
        assert cache(clone).items() >= cached.items()
    finally:
        clone.run("git", "checkout", "-q", ".")
        if checkout:
            clone.run("dvc", "checkout", "-q")
        else:
            shutil.rmtree(clone.path / "data")
            shutil.copytree(backup / "data", clone.path / "data")
    assert clone.changed() == []
    if checkout:
        assert outputs(clone) == outputs(Clone(backup))


TableDamage = Callable[[pd.DataFrame], pd.DataFrame]


def without_age(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns="Age")


def with_age_renamed(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.rename(columns={"Age": "Years"})


def with_letters(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(Tenure=rows["Tenure"].astype(object).where(rows.index != 17, "many"))


def with_repeated_keys(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([rows, rows.head(3)])


def with_one_class(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(Exited=0)


CRITICAL = "critical expectations failed.*"
SOURCE = ".*correct the file at its source"
TABLE_FAULTS: dict[str, tuple[TableDamage | None, str]] = {
    "missing column": (without_age, "lacks column Age; found RowNumber, .* correct"),
    "renamed column": (with_age_renamed, "lacks column Age; found .*Years"),
    "letters in a number": (with_letters, f"{CRITICAL}column='Tenure'{SOURCE}"),
    "empty file": (None, "is empty; expected a table with CustomerId, "),
    "repeated keys": (
        with_repeated_keys,
        f"{CRITICAL}expect_column_values_to_be_unique.*CustomerId{SOURCE}",
    ),
    "class without rows": (
        with_one_class,
        f"{CRITICAL}expect_column_distinct_values_to_equal_set.*Exited{SOURCE}",
    ),
}
# What DVC does after a refusal does not depend on the damage: one that the reader refuses, one that
# pull refuses, and one that breaks an expectation.
IN_CHECKOUT = ("renamed column", "empty file", "repeated keys")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TABLE_FAULTS if name not in IN_CHECKOUT])
def test_validate_refuses_a_damaged_table(
    name: str,
    workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    damage, message = TABLE_FAULTS[name]
    assert damage is not None
    file = bring(DATASET, tmp_path_factory) / FILE
    damage(pd.read_csv(file)).to_csv(file, index=False)
    run_as(f"validate@{DATASET}", monkeypatch)
    check_refusal(validate.main, f"{message}.*{RESTORES}", capsys, f"dataset={DATASET}")


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_CHECKOUT)
def test_damaged_data_are_refused_before_anything_is_trained(
    name: str, clone: Clone, backup: Path, tmp_path: Path
) -> None:
    damage, message = TABLE_FAULTS[name]
    text = ""
    if damage:
        text = damage(pd.read_csv(clone.path / f"data/raw/{DATASET}/{FILE}")).to_csv(index=False)
    file = write_mirror(tmp_path, text)
    pin_mirror(clone, file)
    digest_before = files.sha256(file)
    trained = files.folder_digest(clone.path / f"models/{MODEL}")
    with unharmed(clone, backup):
        done = clone.run("dvc", "repro", code=None, SEXTANT_MIRROR=str(tmp_path))
        line = refusal(done.stderr)
        assert re.search(message, line), line
        assert done.returncode != 0
        assert f"exited with {BAD_DATA}" in done.stderr
        assert "Running stage 'prepare@" not in done.stdout
        assert files.folder_digest(clone.path / f"models/{MODEL}") == trained
        (remedy,) = re.findall(r"; `(.*dvc checkout)` restores [a-z ]+$", line)
        # One that pull refuses, and one that pull has written to dvc.lock.
        if name in ("empty file", "repeated keys"):
            clone.run("bash", "-c", remedy)
            assert outputs(clone) == outputs(Clone(backup))
            assert "dvc.lock" not in clone.changed()
    assert files.sha256(file) == digest_before


def write_mirror(folder: Path, text: str) -> Path:
    """A mirror with `text` as the file of the data set."""
    file = folder / DATASET / FILE
    file.parent.mkdir()
    file.write_text(text)
    return file


def pin_mirror(clone: Clone, file: Path) -> None:
    """Choose the mirror as source, and pin its file in the conf, so that no digest reveals
    damage.
    """
    clone.edit(PARAMS, "source: embedded", "source: mirror")
    path = clone.path / DATASET_CONF
    conf = load_yaml(path.read_text())
    conf["sources"]["mirror"][0] |= {"bytes": file.stat().st_size, "sha256": files.sha256(file)}
    path.write_text(dump_yaml(conf))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["truncated zip", "Latin-1 read as UTF-8"])
def test_dvc_stops_at_damaged_files_of_the_other_kinds(
    name: str,
    clone: Clone,
    backup: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault = FAULTS[name]
    mirror = tmp_path / "mirror"
    shutil.copytree(twins.raw(fault.dataset, tmp_path_factory), mirror)
    monkeypatch.chdir(clone.path)
    fault.damage(mirror)
    pins = pull.receipt("mirror", mirror)["files"]
    entries = [{"file": file, "path": f"mirror/{file}", **pin} for file, pin in pins.items()]
    clone.set(f"conf/dataset/{fault.dataset}.yaml", sources__mirror=entries)
    kind = twins.conf_of(fault.dataset).kind
    clone.set(PARAMS, source="mirror", datasets={DATASET: "tabular", fault.dataset: kind})
    with unharmed(clone, backup):
        stage = f"prepare@{fault.dataset}"
        done = clone.run("dvc", "repro", stage, code=None, SEXTANT_MIRROR=str(tmp_path))
        # No commit of the clone has this data set, so nothing can be restored.
        assert re.search(f"{fault.validate}.*$", refusal(done.stderr))
        assert RESTORES not in done.stderr
        assert done.returncode != 0
        assert f"exited with {BAD_DATA}" in done.stderr
        assert "Running stage 'prepare@" not in done.stdout
    assert pull.receipt("mirror", mirror)["files"] == pins


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        (
            "wrong digest",
            BAD_DATA,
            "is not the file that .*churn.yaml pins: got .*; expected sha256 3996cd1fa372.*; `make"
            " pin",
        ),
        (
            "missing file",
            1,
            "cannot read .*: no such file; check that SEXTANT_MIRROR names the place",
        ),
        (
            "unset mirror",
            USAGE,
            "SEXTANT_MIRROR is not set; export SEXTANT_MIRROR=",
        ),
    ],
)
def test_a_source_without_the_pinned_file_is_refused(
    name: str, code: int, message: str, clone: Clone, backup: Path, tmp_path: Path
) -> None:
    clone.edit(PARAMS, "source: embedded", "source: mirror")
    if name == "wrong digest":
        write_mirror(tmp_path, "RowNumber,CustomerId\n1,2\n")
    mirror = "" if name == "unset mirror" else str(tmp_path)
    with unharmed(clone, backup, checkout=name == "unset mirror"):
        done = clone.run("dvc", "repro", f"pull@{DATASET}", code=None, SEXTANT_MIRROR=mirror)
        line = refusal(done.stderr)
        assert re.search(message, line), line
        assert f"exited with {code}" in done.stderr
        assert "`dvc checkout` restores" in line
        # DVC does not delete this output before the stage, so it stays as it was.
        assert (clone.path / f"data/raw/{DATASET}/source.json").exists()


def run_with_small_files(clone: Clone, kib: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that cannot write a file of more than `kib`; the system reports EFBIG."""
    return clone.run("bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash", *command, code=None)


@pytest.mark.slow
def test_a_full_disk_stops_a_stage(clone: Clone, backup: Path) -> None:
    with unharmed(clone, backup, checkout=True):
        done = run_with_small_files(clone, 500, "dvc", "repro", "-f", "-s", f"pull@{DATASET}")
        message = "no space left while writing data/raw/churn.*: free some, then run the same"
        assert re.search(message, refusal(done.stderr))
        assert done.returncode != 0
        assert "`dvc checkout` restores" in done.stderr
        assert not list((clone.path / "data/raw").glob(".*.part"))


@pytest.mark.slow
def test_a_full_disk_leaves_earlier_answers_as_they_are(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(clone.path)
    answers = tmp_path / "answers.csv"
    answers.write_text("earlier answers\n")
    arguments = [f"model={MODEL}", f"input=data/raw/{DATASET}/{FILE}", f"output={answers}"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        line, code = refused(predict.main, capsys, *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "no space left while writing" in line
    assert code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["answers.csv"]
    assert answers.read_text() == "earlier answers\n"


@pytest.mark.slow
def test_a_locked_database_stops_a_training_before_it_begins(clone: Clone, backup: Path) -> None:
    clone.edit("src/sextant/tracking/store.py", "PATIENCE = 10.0", "PATIENCE = 0.3")
    database = sqlite3.connect(clone.path / "mlflow.db", isolation_level=None)
    # Closed first: `unharmed` reads the database too.
    with unharmed(clone, backup, checkout=True), closing(database):
        database.execute("BEGIN EXCLUSIVE")
        done = clone.run("dvc", "repro", "-f", "-s", f"train@{MODEL}", code=None)
        database.rollback()
        line = refusal(done.stderr)
        assert re.search(r"mlflow.db cannot be written .*\(database is locked\)", line), line
        assert "`make doctor`" in line
        assert "`dvc checkout` restores" in line
        # DVC had deleted the output before it started the stage.
        assert not (clone.path / f"models/{MODEL}").exists()


@pytest.mark.slow
def test_a_fault_in_a_conf_stops_make_before_dvc_starts(clone: Clone, backup: Path) -> None:
    clone.edit(MODEL_CONF, "  dropout:", "  dropuot:")
    trained = files.folder_digest(clone.path / f"models/{MODEL}")
    with unharmed(clone, backup):
        done = clone.run("make", "repro", code=2)
        assert "did you mean `dropout`?" in refusal(done.stderr)
        assert "Running stage" not in done.stdout
        assert "dvc" not in done.stderr
        assert files.folder_digest(clone.path / f"models/{MODEL}") == trained
