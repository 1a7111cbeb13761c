"""`make leaderboard`: the table, and the commands to go on with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import listed
import pytest
import twins
from test_scoreboard import metrics, write_reports

from sextant import config, plugins
from sextant.commands import leaderboard
from sextant.errors import UsageError
from sextant.gate import decide
from sextant.kinds.images.columns import Idx, input_file
from sextant.scoreboard import UNDECIDED, Decision, Row
from sextant.tracking import registry, store


@pytest.fixture
def with_reports(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_reports()
    return tmp_path


@pytest.fixture
def champions(monkeypatch) -> set[str]:
    """The models that have a champion in the local store; a test adds to it."""
    names: set[str] = set()

    def champion_here(model: str) -> object:
        return "a champion" if model in names else None

    monkeypatch.setattr(registry, "champion_here", champion_here)
    return names


def row(model: str, dataset: str, decision: str = UNDECIDED) -> Row:
    """A row of the leaderboard; the numbers do not matter."""
    gain = (0.1, 0.0, 0.2)
    scores = (("simple", 0.5), ("clever", 0.7))
    return Row(model, dataset, "mirror", "worth", 0.8, (0.7, 0.9), *scores, gain, decision)


def refusal(model: str, reason: str, **changes: object) -> Decision:
    """A decision not to promote a model."""
    decision: Decision = {
        "decision": "not promoted",
        "reason": reason,
        "champion": False,
        "digest": "ab",
        "registered_model": f"sextant-{model}",
        "version": "3",
        "against": None,
    }
    decision.update(changes)
    return decision


# --- the command --------------------------------------------------------------------------------


def test_main_prints_the_table_and_the_next_commands(with_reports, champions, capsys):
    champions.add("tall")
    leaderboard.main([])
    text = capsys.readouterr().out
    assert text.startswith("model  data set") and "\x1b" not in text
    assert "make ui" in text and "reports/index.html" in text
    assert "  make predict MODEL=tall INPUT=" in text
    assert "  make register       judge the models that are not registered here" in text
    assert "SEXTANT_MIRROR=<folder>" in text and "`source: mirror` in params.yaml" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_hint_on_real_data_is_shown_for_twins_only(with_reports, champions, capsys):
    for model, dataset in (("tall", "loans"), ("wide", "films")):
        record = metrics(model, dataset, source="canonical")
        Path(f"reports/metrics/{model}.json").write_text(json.dumps(record))
    leaderboard.main([])
    assert "SEXTANT_MIRROR" not in capsys.readouterr().out


def test_it_takes_no_arguments(with_reports):
    with pytest.raises(UsageError, match="`model=tall` is not understood"):
        leaderboard.main(["model=tall"])


def test_it_starts_without_the_heavy_libraries():
    code = "import sys, sextant.commands.leaderboard; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(leaderboard.__file__).parents[2])}
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(process.stdout.split())
    assert "sextant.commands.leaderboard" in loaded
    heavy = {"torch", "pandas", "numpy", "matplotlib", "mlflow", "hydra", "jinja2"}
    assert not heavy & loaded


# --- a model that can be asked ------------------------------------------------------------------


def write_raw(dataset: str, *files: str) -> Path:
    """Raw files of a data set, each larger than the one before, and the receipt of pull."""
    folder = Path("data/raw") / dataset
    folder.mkdir(parents=True)
    (folder / "source.json").write_text("x" * 9999)
    for number, name in enumerate(files, start=1):
        (folder / name).write_text("x" * number)
    return folder


@pytest.mark.parametrize(
    ("dataset", "files", "expected"),
    [
        ("churn", ["new customers.csv"], "'data/raw/churn/new customers.csv'"),
        (
            "google_stock",
            ["Google_Stock_Price_Test.csv", "Google_Stock_Price_Train.csv"],
            "data/raw/google_stock/Google_Stock_Price_Train.csv",
        ),
        ("cats_dogs", ["cats_dogs_index.csv", "cats_dogs_128.zip"], "data/raw/cats_dogs"),
        ("movielens_100k", ["u1.base", "u.item"], "data/raw/movielens_100k/u1.base"),
        ("movielens_100k", ["u.item"], "'<file of rows>'"),
        ("churn", [], "'<file of rows>'"),
    ],
)
def test_the_first_model_with_a_champion_is_asked_rows_of_its_raw_files(
    dataset, files, expected, workspace, champions
):
    write_raw(dataset, *files)
    champions.add("second")
    rows = [row("first", "churn"), row("second", dataset), row("third", "churn")]
    command = leaderboard.predict_command(rows, {})
    assert command == f"make predict MODEL=second INPUT={expected} OUTPUT=answers.csv"


def test_without_a_champion_no_model_is_asked(workspace, champions):
    decisions = {"ann": refusal("ann", "it is bad")}
    assert leaderboard.predict_command([row("ann", "churn")], decisions) == ""
    assert "make predict" not in leaderboard.next_steps([row("ann", "churn")], decisions, "")


@pytest.mark.parametrize("conf", ["no: conf", None])
def test_a_data_set_without_its_files_or_with_a_faulty_conf_has_no_file_to_ask(
    conf, workspace, champions
):
    champions.add("ann")
    if conf:
        write_raw("churn", "rows.csv")
        Path("conf/dataset/churn.yaml").write_text(conf)
    command = leaderboard.predict_command([row("ann", "churn")], {})
    assert command == "make predict MODEL=ann INPUT='<file of rows>' OUTPUT=answers.csv"


@pytest.mark.parametrize(
    ("champion", "against", "asked"), [(True, None, True), (False, "2", True), (False, None, False)]
)
def test_with_a_server_the_last_decision_says_whether_there_is_a_champion(
    champion, against, asked, workspace, monkeypatch
):
    monkeypatch.setattr(store, "uri", lambda: "http://localhost:1")
    decisions = {"ann": refusal("ann", "it is bad", champion=champion, against=against)}
    assert bool(leaderboard.predict_command([row("ann", "churn")], decisions)) == asked


def test_idx_files_can_be_asked_with():
    files = Idx(format="idx", train=[{"images": "a.gz", "labels": "b.gz"}], test=[])
    columns = twins.conf_of("cats_dogs").columns.model_copy(update={"files": files})
    assert input_file(columns, Path("data/raw/digits")) == Path("data/raw/digits/a.gz")


FIRST_OF_KIND = set({kind: name for name, kind in reversed(listed.DATASETS.items())}.values())
NAMES = []
for name in twins.LISTED:
    NAMES.append(pytest.param(name, marks=[] if name in FIRST_OF_KIND else pytest.mark.slow))


@pytest.mark.parametrize("name", NAMES)
def test_the_file_that_is_named_can_be_answered(name, tmp_path_factory):
    conf = twins.conf_of(name, small=True)
    kind = plugins.kind(conf.kind)
    folder = twins.raw(name, tmp_path_factory, small=True)
    choose = plugins.optional(kind.columns, "input_file", leaderboard.largest_file)
    raw = kind.rows.read(folder, conf.columns)
    train = kind.rows.split(kind.rows.repair(raw, conf.columns), conf.columns, conf.split)["train"]
    encoder = kind.encoder.Encoder.fit(train, conf.columns)
    file = choose(conf.columns, folder)
    if name in ("moving_mnist", "shakespeare"):  # neither digits nor lines of a book are inputs
        assert file is None
        return
    rows = encoder.check(kind.rows.read_rows(file, conf.columns))
    assert len(encoder.encode(rows)[0]) > 0


# --- a model that was not promoted --------------------------------------------------------------

GATE = config.Gate(margin=0.01, guards=["skill >= 0.01"])


def reason(score: float, champion: float | None = None, skill: float = 0.5) -> str:
    """The reason of a decision of the gate not to promote a model."""
    challenger = {"worth": score, "skill": skill}
    rival = {"worth": champion} if champion is not None else None
    promoted, text = decide(challenger, rival, {"worth": 0.5}, GATE, "worth", "up")
    assert not promoted
    return text


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (
            reason(0.8, skill=0.0012),
            "rnn: breaks the guard skill >= 0.01: skill is 0.0012; the guard is set in `gate` of"
            " conf/model/rnn.yaml",
        ),
        (
            reason(0.8, champion=0.795),
            "rnn: worth 0.8000 does not beat the champion's 0.7950 by 0.01; `gate.margin` in"
            " conf/model/rnn.yaml sets by how much a model has to be better",
        ),
        (
            reason(0.4),
            "rnn: worth 0.4000 does not beat the trivial baseline's 0.5000; a model has to beat"
            " that baseline: raise `budget` in params.yaml, change `net` in conf/model/rnn.yaml, or"
            " let its `gate.metric` choose another metric",
        ),
    ],
)
def test_a_model_that_was_not_promoted_says_why_and_what_would_change_it(text, remedy, workspace):
    steps = leaderboard.next_steps([row("rnn", "churn")], {"rnn": refusal("rnn", text)}, "")
    lines = steps.splitlines()
    start = lines.index("Not promoted:")
    assert lines[-1] == "    make promote MODEL=rnn VERSION=3"
    assert " ".join(line.strip() for line in lines[start + 1 : -1]) == remedy
    assert max(map(len, lines)) <= 100


def test_a_champion_needs_no_remedy(workspace):
    decisions = {
        "ann": refusal("ann", "it is bad", champion=True),  # made champion by hand
        "cnn": refusal("cnn", "it is good", decision="promoted"),
    }
    assert "Not promoted" not in leaderboard.next_steps([row("ann", "churn")], decisions, "")


@pytest.mark.parametrize("on_real_data", [True, False])
def test_a_version_that_make_promote_does_not_reach_is_not_offered(
    on_real_data, workspace, monkeypatch
):
    monkeypatch.setattr(registry, "is_registered_here", lambda name: on_real_data)
    decisions = {"ann": refusal("ann", "it is bad", registered_model="sextant-ann-twin")}
    steps = leaderboard.next_steps([row("ann", "churn")], decisions, "")
    assert ("make promote" in steps) == (not on_real_data)
