"""conf/ and params.yaml: what they say reaches the run, and a fault in them is found by name before
anything runs.
"""

import math
import re
import shutil
from pathlib import Path
from typing import Any

import listed
import pytest
from conftest import dump_yaml, load_yaml

from sextant import check as checks
from sextant import config
from sextant.errors import UsageError, one_line

ROOT = Path(__file__).parents[1]
PARAMS = listed.PARAMS
MODEL = next(iter(PARAMS["models"]))
DATASET = next(iter(PARAMS["datasets"]))
LINE = PARAMS["models"][MODEL]
FAMILY = LINE["family"]
FILES = {
    "params": "params.yaml",
    "model": f"conf/model/{MODEL}.yaml",
    "dataset": f"conf/dataset/{DATASET}.yaml",
}
FILES["trainer"] = "conf/trainer.yaml"
# Each family and task in one budget, and one model in each: the code is the same for all.
BUDGETED = [(name, "smoke") for name in sorted(listed.FIRSTS)]
BUDGETED += [(MODEL, "standard"), (MODEL, "full")]
GONE = object()

pytestmark = pytest.mark.usefixtures("workspace")


def conf(group: str, name: str) -> dict[str, Any]:
    return load_yaml((ROOT / "conf" / group / f"{name}.yaml").read_text())


def change(file: str, path: str, value: Any) -> None:
    """Put `value` where the dotted `path` leads to in a YAML file of the workspace; GONE takes the
    key away.
    """
    values = load_yaml(Path(file).read_text())
    *above, last = path.split(".")
    here = values
    for key in above:
        here = here[key]
    here.pop(last, None)
    if value is not GONE:
        here[last] = value
    Path(file).write_text(dump_yaml(values))


def check(file: str) -> None:
    """What `sextant check` does with one of FILES, in the chosen budget alone."""
    if file in ("params", "dataset"):
        checks.check_dataset(DATASET)
    if file in ("params", "model", "trainer"):
        checks.check_model(config.model(MODEL))


def refusal(file: str) -> str:
    with pytest.raises(UsageError) as met:
        check(file)
    return one_line(met.value)


# --- what conf says is what a run gets ----------------------------------------------------------


@pytest.mark.slow  # composes each conf in three budgets
def test_the_repository_passes():
    assert checks.main([]) is None


def test_every_model_and_its_data_set_have_their_confs():
    assert PARAMS["datasets"] and PARAMS["models"]
    for model, line in listed.MODELS.items():
        dataset = line["dataset"]
        assert dataset in listed.DATASETS, model
        for path in (f"model/{model}", f"dataset/{dataset}", f"expectations/{dataset}"):
            assert (ROOT / "conf" / f"{path}.yaml").is_file(), path


@pytest.mark.parametrize(("model", "budget"), BUDGETED)
def test_a_budget_overrides_its_model_and_nothing_else(model, budget):
    said, found = conf("model", model), config.model(model, [f"budget={budget}"], shelf=True)
    override = said["budgets"][budget] or {}
    for block in ("net", "optimizer", "schedule"):
        assert getattr(found, block) == {**said[block], **override.get(block, {})}
    assert (found.budget, found.gate) == (budget, config.Gate(**said["gate"]))
    line = listed.MODELS[model]
    assert {key: getattr(found, key) for key in line} == line


def test_the_command_line_wins_over_the_budget():
    said = conf("model", MODEL)["budgets"]["smoke"]["schedule"]
    assert said["max_epochs"] != 7
    found = config.model(MODEL, ["model.schedule.max_epochs=7", "budget=smoke"])
    assert found.schedule["max_epochs"] == 7


def test_params_yaml_first_and_the_command_line_second():
    for key, value in {"seed": 7, "budget": "full"}.items():
        assert getattr(config.model(MODEL), key) == PARAMS[key]
        assert getattr(config.model(MODEL, [f"{key}={value}"]), key) == value
    change(FILES["params"], "seed", 11)
    assert config.model(MODEL).seed == 11


def test_a_source_in_its_own_conf_wins_for_that_data_set():
    assert config.dataset(DATASET, ["source=mirror"]).chosen_source == "mirror"
    change(FILES["dataset"], "source", "canonical")
    assert config.dataset(DATASET, ["source=mirror"]).chosen_source == "canonical"


@pytest.mark.parametrize("dataset", listed.DATASETS)
def test_a_data_set_is_what_its_file_says(dataset):
    found = config.dataset(dataset, shelf=True)
    said = conf("dataset", dataset)
    assert found.columns.model_dump(exclude_unset=True) == said["columns"]
    assert found.sources == said["sources"]
    assert found.split.model_dump(exclude_unset=True) == said["split"]


def test_what_has_a_default_may_be_left_out():
    said = conf("dataset", DATASET)
    roles = {"target": "y", "numeric": ["x"]}
    short = {"sources": said["sources"], "columns": roles, "split": {"by": "hash"}}
    Path(FILES["dataset"]).write_text(dump_yaml(short))
    found = config.dataset(DATASET)
    assert (found.about, found.source, found.twin) == (None, None, None)
    assert found.split.salt == 0
    assert found.split.shares.model_dump() == {"train": 0.6, "val": 0.1, "gate": 0.1, "test": 0.2}
    assert found.columns.model_dump(exclude_unset=True) == roles


def test_conf_is_found_from_the_working_directory(tmp_path, monkeypatch):
    change(FILES["model"], "schedule.max_epochs", 13)
    other = tmp_path / "other"
    shutil.copytree(ROOT / "conf", other / "conf")
    shutil.copy(ROOT / "params.yaml", other)
    assert config.model(MODEL).schedule["max_epochs"] == 13
    monkeypatch.chdir(other)
    assert (
        config.model(MODEL).schedule["max_epochs"] == conf("model", MODEL)["schedule"]["max_epochs"]
    )


@pytest.mark.usefixtures("one_model")
def test_more_confs_than_keys_may_lie_there_switched_off():
    shutil.copy(FILES["model"], "conf/model/spare.yaml")
    change("conf/model/spare.yaml", "net", GONE)
    checks.check_all()
    with pytest.raises(UsageError, match="unknown model `spare`; params.yaml lists: "):
        config.model("spare")


# --- every key of every conf --------------------------------------------------------------------


# The keys are those of the family, the optimizer and the schedule.
ONE_OF_A_FAMILY = {line["family"]: model for model, line in listed.MODELS.items()}


@pytest.mark.parametrize("model", ONE_OF_A_FAMILY.values())
def test_every_key_misspelt_or_of_the_wrong_type(model):
    found = config.model(model, shelf=True)
    for block in ("net", "optimizer", "schedule"):
        where, said = f"conf/model/{model}.yaml {block}: ", getattr(found, block)
        for key, value in said.items():
            wrong = f"{value}-ish" if isinstance(value, str) else "strawberry"
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            for strange in (wrong, math.nan) if is_number else (wrong,):
                with pytest.raises(UsageError, match=f"{where}.*{strange}"):
                    checks.check_model(found.model_copy(update={block: {**said, key: strange}}))
            misspelt = {(f"{key}{key[-1]}" if name == key else name): v for name, v in said.items()}
            says = (
                f"unknown key `{key}{key[-1]}`; did you mean `{key}`"
                if key != "name"
                else "name is None; expected"
            )
            with pytest.raises(UsageError, match=f"{where}{says}"):
                checks.check_model(found.model_copy(update={block: misspelt}))


# --- one fault, one line ------------------------------------------------------------------------

FAULTS = {
    "unknown source": (
        "params",
        "source",
        "puppies",
        r"params.yaml: `source` is 'puppies'; .*'embedded', 'local', 'mirror' or",
    ),
    "unknown budget": (
        "params",
        "budget",
        "puppies",
        r"`budget` is 'puppies'; .*'smoke', 'standard' or 'full'",
    ),
    "negative seed": ("params", "seed", -1, r"`seed` is -1; .*greater than or equal to 0"),
    "seed of text": ("params", "seed", "42", r"`seed` is '42'; .*valid integer"),
    "no seed": ("params", "seed", GONE, r"params.yaml: key `seed` is missing; add it"),
    "no data set": ("params", "datasets", {}, r"`datasets` is {}; .*1 or more entries"),
    "no model": ("params", "models", {}, r"`models` is {}; .*1 or more entries"),
    "unknown key": (
        "params",
        "sources",
        "mirror",
        r"unknown key `sources`; did you mean `source`\?",
    ),
    "strange name": (
        *("params", "datasets", {"../x": "tabular"}),
        r"`datasets.../x.*` is '../x'; .*match pattern",
    ),
    "unlisted data set": (
        *("params", "models.puppies", {**LINE, "dataset": "strawberry"}),
        r"model `puppies` names data set `strawberry`, which `datasets` does not list; .*"
        rf"choose from: .*{DATASET}",
    ),
    "unknown family": (
        *("params", f"models.{MODEL}.family", "puppies"),
        rf"unknown family `puppies`; src/sextant/families/ has: .*{FAMILY}",
    ),
    "unknown task": (
        "params",
        f"models.{MODEL}.task",
        "puppies",
        r"unknown task `puppies`; src/sextant/tasks/ has: .*classification",
    ),
    "unknown optimizer": (
        "model",
        "optimizer.name",
        "puppies",
        r"optimizer: name is 'puppies'; expected one of: .*sgd",
    ),
    "unknown metric": (
        "model",
        "schedule.monitor",
        "puppies",
        r"schedule: `puppies` is not a metric of \w+; choose from: .+, ",
    ),
    "unknown guard": (
        "model",
        "gate.guards",
        ["puppies <= 1"],
        r"gate: `puppies` is not a metric of \w+; choose from: .+, ",
    ),
    "no guard": (
        "model",
        "gate.guards",
        ["accuracy > 1"],
        r"`gate.guards.0` is 'accuracy > 1'; .*match pattern",
    ),
    "negative margin": (
        "model",
        "gate.margin",
        -0.1,
        r"`gate.margin` is -0.1; .*greater than or equal to 0",
    ),
    "rate of zero": (
        "model",
        "optimizer.lr",
        0,
        r"optimizer: `lr` is 0; input should be greater than 0",
    ),
    "half an epoch": (
        "model",
        "schedule.max_epochs",
        0.5,
        r"schedule: `max_epochs` is 0.5; .*valid integer",
    ),
    "no gate": ("model", "gate", GONE, rf"conf/model/{MODEL}.yaml: key `gate` is missing; add it"),
    "no budget": ("model", "budgets.full", GONE, r"key `budgets.full` is missing; add it"),
    "budget of a strange block": (
        "model",
        "budgets.full.gates",
        {},
        r"unknown key `budgets.full.gates`; expected one of: net,",
    ),
    "budget of a misspelt key": (
        *("model", f"budgets.{PARAMS['budget']}", {"schedule": {"max_epoch": 3}}),
        rf"budgets.{PARAMS['budget']}: unknown key `model.schedule.max_epoch`; "
        r"did you mean `max_epochs`\?",
    ),
    "unknown kind": (
        "params",
        f"datasets.{DATASET}",
        "puppies",
        rf"model `{MODEL}` has kind `tabular`, but its data set `{DATASET}` has kind `puppies`;",
    ),
    "misspelt block": ("dataset", "colums", {}, r"unknown key `colums`; did you mean `columns`\?"),
    "no split": (
        "dataset",
        "split",
        GONE,
        rf"conf/dataset/{DATASET}.yaml: key `split` is missing; add it",
    ),
    "shares": (
        *("dataset", "split.shares", {"train": 0.6, "val": 0.1, "gate": 0.1, "test": 0.1}),
        r"`split.shares` is .*; the shares sum to 0.9; expected 1",
    ),
    "share of all": (
        "dataset",
        "split.shares.train",
        1.0,
        r"`split.shares.train` is 1.0; .*less than 1",
    ),
    "own source": (
        "dataset",
        "source",
        "puppies",
        r"`source` is 'puppies'; .*'embedded', 'local', 'mirror' or 'canonical'",
    ),
    "strange source": (
        "dataset",
        "sources.puppies",
        [],
        r"`sources.puppies.* is 'puppies'; .*'embedded', 'local', 'mirror'",
    ),
    "no twin where it is the source": (
        "dataset",
        "twin",
        None,
        r"source is `embedded`, but .* has no twin",
    ),
    "unknown accelerator": (
        "trainer",
        "accelerator",
        "puppies",
        r"trainer.yaml: `accelerator` is 'puppies'; .*'auto'",
    ),
    "no device": ("trainer", "devices", 0, r"trainer.yaml: `devices` is 0; input should be 1"),
    "two devices": ("trainer", "devices", 2, r"trainer.yaml: `devices` is 2; input should be 1"),
    "trainer's misspelt key": (
        "trainer",
        "device",
        1,
        r"trainer.yaml: unknown key `device`; did you mean `devices`\?",
    ),
    "nan": ("dataset", "split.salt", math.nan, r"salt.* is nan"),
}


@pytest.mark.parametrize(("file", "path", "value", "says"), FAULTS.values(), ids=FAULTS)
def test_a_fault_in_conf(file, path, value, says):
    if file == "model":
        change(FILES[file], f"budgets.{PARAMS['budget']}", {})  # or it might override the fault
    change(FILES[file], path, value)
    assert re.search(says, refusal(file))


@pytest.mark.usefixtures("one_model")
def test_a_listed_model_without_a_conf():
    change("params.yaml", "models.puppies", LINE)
    message = "model `puppies` is listed, but conf/model/puppies.yaml does not exist; add"
    with pytest.raises(UsageError, match=message):
        checks.check_all()


BOMB = "net:\n  a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"  {name}: &{name} [{', '.join([f'*{earlier}'] * 9)}]\n"
    for earlier, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "line 5 has more than 20 aliases (`*`); write the values out"),
        ("net: " + "[" * 30_000, "line 1 has more than 20 levels"),
        ("- " * 30_000, "line 1 has more than 20 levels"),
        ("net: " + "x" * 2**20, "has 1,048,581 characters; expected a conf of at most 1,048,576"),
    ],
    ids=["aliases", "brackets", "dashes", "characters"],
)
@pytest.mark.parametrize("kind", FILES)
def test_a_conf_beyond_its_bounds_is_refused_at_once(kind, text, says):
    path = Path(FILES[kind])
    path.write_text(text)
    assert f"{path} {says}" in refusal(kind)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_read(kind):
    file = FILES[kind]
    text = Path(file).read_text()
    Path(file).write_text(text + "\n\t- [")
    assert f"{file} is not YAML: " in refusal(kind)
    Path(file).write_bytes(text.encode() + b"# \xff\n")
    assert (
        f"{file} is not UTF-8 (invalid start byte at byte {len(text.encode()) + 2}); save it"
        in refusal(kind)
    )
    for nothing in ("", "# nothing\n", "- a list\n"):
        Path(file).write_text(nothing)
        assert f"{file} is {load_yaml(nothing)!r}; expected keys with values: " in refusal(kind)
    Path(file).unlink()
    assert f"{file} does not exist; " in refusal(kind) and refusal(kind).endswith("add it")


def test_a_trainer_that_cannot_be_read_is_named_by_what_reads_a_data_set():
    file = Path("conf/trainer.yaml")
    file.write_text("3.5\n")
    with pytest.raises(UsageError, match="conf/trainer.yaml is 3.5; expected keys with values"):
        config.dataset(DATASET)
    file.write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match="conf/trainer.yaml is not UTF-8"):
        config.dataset(DATASET)


def test_a_suite_that_cannot_be_read():
    suite = Path(f"conf/expectations/{DATASET}.yaml")
    suite.write_text("- [1, 2\n- }\n")
    assert f"{suite} is not YAML: " in refusal("dataset")
    suite.unlink()
    assert f"{suite} does not exist; " in refusal("dataset")


def test_a_key_given_twice():
    with Path(FILES["model"]).open("a") as file:
        file.write("baselines: []\n")
    assert "found duplicate key baselines" in refusal("model")


@pytest.mark.parametrize(
    ("file", "path"),
    [("model", "optimizer.lr"), ("model", "net.dropout"), ("dataset", "columns.target")],
)
def test_no_secret_of_the_environment_reaches_a_config(file, path, monkeypatch):
    monkeypatch.setenv("SECRET", "strawberry")
    secrets = ["${oc.env:SECRET}"]
    if path == "optimizer.lr":  # how a secret is named does not depend on the place
        secrets += ["${oc.decode:${oc.env:SECRET}}", "${env:SECRET}"]
    for secret in secrets:
        change(FILES[file], path, secret)
        said = refusal(file)
        assert "nsupported interpolation type" in said and "strawberry" not in said


# --- the command line ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "model.net.{key}x=1",
            r"^the command line: unknown key `model.net.{key}x`; did you mean `{key}`\?$",
        ),
        (
            "model.nett.{key}=1",
            r"^the command line: unknown key `model.nett.{key}`; did you mean `net`\?$",
        ),
        ("modle.net.{key}=1", r"unknown key `modle.net.{key}`; did you mean `model`\?$"),
        (
            "model.net.{key}.deeper=1",
            r"unknown key `model.net.{key}.deeper`; none is allowed here$",
        ),
        ("+model.net.{key}=1", r"unknown key `\+model.net.{key}`; did you mean `model`\?$"),
        ("++seed=7", r"unknown key `\+\+seed`; did you mean `seed`\?$"),
        (
            "strawberry=1",
            r"unknown key `strawberry`; expected one of: seed, source, budget, model, trainer$",
        ),
        (
            "model.budgets.smoke=null",
            r"unknown key `model.budgets.smoke`; expected one of: net, optimizer, ",
        ),
        ("dataset.kind=tabular", r"unknown key `dataset.kind`; expected one of: seed, "),
        ("budget=puppies", r"^the command line: `budget` is 'puppies'; .*'smoke'"),
        ("seed=[", r"^the command line is not YAML: "),
        ("model.optimizer=[", r"no viable alternative at input .*composing model="),
        ("trainer.devices=two", r"`devices` is 'two'; input should be 1"),
    ],
)
def test_a_fault_in_an_override(override, says):
    key = next(iter(conf("model", MODEL)["net"]))
    with pytest.raises(UsageError) as met:
        config.model(MODEL, [override.format(key=key)])
    assert re.search(says.format(key=key), one_line(met.value))


def test_an_override_of_a_data_set():
    assert config.dataset(DATASET, ["dataset.split.salt=7"]).split.salt == 7
    with pytest.raises(
        UsageError, match=r"unknown key `dataset.split.slat`; did you mean `salt`\?"
    ):
        config.dataset(DATASET, ["dataset.split.slat=7"])


def test_words_are_split_into_what_is_asked_and_overrides():
    words = ["model=ann", "model.net.x=[1,2]", "input=a=b.csv", "seed=7"]
    assert config.named_options(words, "model", "input") == (
        {"model": "ann", "input": "a=b.csv"},
        [words[1], words[3]],
    )
    assert config.named(words[:1], "model") == ("ann", [])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model"], r"`model` is not understood; expected model=… or key=value"),
        (["--help"], r"`--help` is not understood; expected model=… or key=value"),
        ([], rf"which model\? add model=… with one of: .*{MODEL}"),
        (["dataset=x"], rf"which model\? add model=… with one of: .*{MODEL}"),
    ],
)
def test_words_that_do_not_say_which(words, says):
    with pytest.raises(UsageError, match=says):
        config.named(words, "model")


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(
        UsageError, match=f"unknown model `strawberry`; params.yaml lists: .*{MODEL}"
    ):
        config.model("strawberry")
    with pytest.raises(
        UsageError, match=f"unknown data set `strawberry`; params.yaml lists: .*{DATASET}"
    ):
        config.dataset("strawberry")
