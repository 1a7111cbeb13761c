"""A search finds settings by val alone, goes on after a kill, and writes its winner into conf."""

import functools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import listed
import numpy as np
import pytest
import twins
import yaml
from conftest import ROOT, Clone, load_yaml

from sextant import check, config, drawing, files, plugins, prepare
from sextant.commands import tune
from sextant.errors import SextantError, UsageError
from sextant.tracking import tuning as tracking
from sextant.tuning import comparison, figures, space, study, training
from sextant.tuning.stopping import Stop, Stopped
from sextant.tuning.training import Result
from sextant.tuning.writing import as_yaml, with_settings

MODEL = "ann"
CONF = Path("conf/model/ann.yaml")
SPACE = Path("conf/search/ann.yaml")
SMALL_SPACE = """\
net:
  dropout: {low: 0.0, high: 0.5, step: 0.1}
  hidden_sizes: {choices: [[8], [16]]}
optimizer:
  lr: {low: 0.0001, high: 0.1, log: true}
"""
WORDS = ["budget=smoke", "model.schedule.max_epochs=3", "model.net.hidden_sizes=[8]"]
WORDS += ["model.optimizer.lr=0.1"]  # so high that another trial is better


class FakeRun(tracking.TuningRun):
    """Keeps what would be logged, since a database of MLflow takes seconds to make."""

    def __init__(self) -> None:
        self.run_id = "parent"
        self.trials: list[dict[str, Any]] = []
        self.discarded: list[str] = []
        self.logged: dict[str, Any] = {}
        self.status = ""

    def trial(self, number: int, *logged: Any) -> str:  # type: ignore[override]
        names = ("settings", "history", "scores", "epoch", "reason")
        self.trials.append({"number": number, **dict(zip(names, logged, strict=True))})
        return f"child {number}"

    def discard(self, run_ids: Sequence[str]) -> None:
        self.discarded += run_ids

    def log(self, metrics: Any, texts: Any, figures: Path) -> None:
        names = sorted(path.name for path in figures.glob("*"))
        self.logged = {"metrics": metrics, "texts": texts, "figures": names}

    def end(self, status: str) -> None:
        self.status = status


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts train and val of a small twin, with the profile; nothing else is there to read."""
    conf = twins.conf_of("churn", small=True)
    raw = tmp_path_factory.mktemp("raw")
    kind = plugins.kind(conf.kind)
    kind.twin.write_twin(config.twin(conf), conf.columns, raw)
    prepared = prepare.prepare(kind.rows.read(raw, conf.columns), conf)
    folder = tmp_path_factory.mktemp("prepared")
    for part in training.PARTS:
        kind.rows.write(prepared[part], folder / part)
    validation = {"source": "embedded", "digest": "0123"}
    files.write_json(folder / "profile.json", prepare.profile(prepared, conf, validation))
    return folder


@pytest.fixture
def run(one_model: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRun]:
    """A workspace with a small space, in which `tune` runs without MLflow."""
    Path("data/prepared").mkdir(parents=True)
    Path("data/prepared/churn").symlink_to(parts)
    SPACE.write_text(SMALL_SPACE)
    text = CONF.read_text()
    for guard in ("log_loss <= 0.5", "brier <= 0.2"):  # for trainings of three epochs
        assert guard in text
        text = text.replace(guard, guard.split()[0] + " <= 0.9")
    CONF.write_text(text)
    fake = FakeRun()
    monkeypatch.setattr(tracking, "open_run", lambda *arguments: fake)
    yield fake


def quick_learn(
    conf: config.ModelConf,
    parts: object,
    profile: object,
    folder: Path,
    report: Callable[[dict[str, float]], None],
    tick: Callable[[float], None],
) -> tuple[Any, list[dict[str, float]]]:
    """In place of a training: a loss with a minimum at lr 0.01, which falls for three epochs."""
    distance = abs(np.log10(conf.optimizer["lr"]) + 2) + conf.net["dropout"]
    noise = np.random.default_rng(conf.seed).normal(0, 0.01)
    history = []
    for epoch in (1, 2, 3):
        tick(epoch - 0.5)
        loss = float(distance + noise + 1 / epoch)
        history.append({"epoch": epoch, "train/loss": loss, "val/log_loss": loss})
        report(history[-1])
    scores = {"log_loss": loss, "brier": 0.1, "accuracy": 1 / (1 + loss)}
    return SimpleNamespace(card={"epoch": 3, "val": scores}), history


def quick_save(figure: object, path: Path) -> None:
    """In place of a figure's file: an empty one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def quick(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    """A workspace in which neither a training nor a drawing takes time."""
    monkeypatch.setattr("sextant.train.learn", quick_learn)
    monkeypatch.setattr(drawing, "save", quick_save)
    text = CONF.read_text()
    CONF.write_text(text.replace("log_loss <= 0.9", "log_loss <= 9.9"))
    return run


def journal() -> Path:
    (path,) = Path(".tuning").glob(f"{MODEL}/*/journal.log")
    return path


# --- the spaces that are shipped ------------------------------------------------------------------


@functools.cache
def shipped(model: str) -> tuple[config.ModelConf, space.Space]:
    """The conf of a listed model and its space, of this checkout; tests must not change them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        conf = config.model(model, shelf=True)
        return conf, space.load(conf)


@pytest.mark.parametrize("model", listed.MODELS)
def test_each_model_has_a_space_and_lies_in_it(model: str) -> None:
    conf, searched = shipped(model)
    assert searched.path.stem in (conf.name, conf.family)
    assert len(searched.dimensions) >= 3
    assert searched.outside(conf) == []
    for name in searched.dimensions:
        assert space.values(conf, {name: None})[name] is not None


@pytest.mark.usefixtures("workspace")
def test_a_file_of_the_model_wins() -> None:
    for name in ("ann", "power"):
        Path(f"conf/search/{name}.yaml").unlink()
    conf = config.model("power", shelf=True)
    with pytest.raises(UsageError, match="conf/search/ann.yaml does not exist; write one"):
        space.load(conf)
    Path("conf/search/power.yaml").write_text("net: {dropout: {low: 0.0, high: 0.1}}")
    assert list(space.load(conf).dimensions) == ["net.dropout"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net: {dropot: {low: 0.0, high: 0.5}}", "has no `net.dropot`; did you mean `dropout`"),
        ("nett: {dropout: {low: 0.0, high: 0.5}}", "unknown key `nett`; did you mean `net`"),
        ("optimizer: {momentum: {low: 0.0, high: 0.5}}", "ann has no `optimizer.momentum`"),
        ("schedule: {monitor: {choices: [auroc]}}", "no setting to search, since the trials are"),
        ("net: {dropout: {low: 0.5, high: 0.1}}", "the range from 0.5 to 0.1 is empty"),
        ("net: {dropout: {low: 0.2, high: 0.2}}", "the range from 0.2 to 0.2 is empty"),
        ("net: {dropout: {low: 0.0, high: 0.5, step: 0.3}}", "`step` is 0.3; expected a part"),
        ("net: {bins: {low: 2, high: 9, step: 0.5}}", "between whole numbers it is whole"),
        ("net: {dropout: {low: 0.0, high: 1.5}}", "`dropout` is 1.5; input should be less"),
        ("net: {dropout: {low: 0.0}}", "net.dropout: key `high` is missing"),
        ("net: {dropout: {low: 0.0, high: 0.5, log: true}}", "`log` needs a `low` above 0"),
        ("net: {dropout: [0.0, 0.5]}", r"expected {low: …, high: …} or {choices: \[…\]}"),
        ("net: {hidden_sizes: {choices: []}}", "1 or more entries"),
        ("net: {hidden_sizes: {choices: [[8], [8]]}}", r"`choices` has \[8\] twice"),
        ("net: {hidden_sizes: {choices: [[8], [0]]}}", "hidden_sizes.0` is 0; input should be gre"),
        ("net:", "`net` is None; expected names with their ranges"),
        ("", "expected blocks of: net, optimizer, schedule"),
        ("net: {", "conf/search/ann.yaml is not YAML"),
    ],
)
@pytest.mark.usefixtures("one_model")
def test_a_fault_in_a_space_is_one_line(text: str, message: str) -> None:
    SPACE.write_text(text)
    with pytest.raises(UsageError, match=message) as met:
        space.load(config.model(MODEL))
    assert "conf/search/ann.yaml" in str(met.value)


def test_sampled_numbers_are_short_and_stay_in_the_range() -> None:
    wide = space.Range(low=0.000123456, high=0.1, log=True)
    assert wide.value(0.0123456789) == 0.0123
    assert wide.value(0.0001234561) == 0.000123456
    assert space.Range(low=0.0, high=1.0, step=0.1).value(0.30000000000000004) == 0.3
    assert space.Range(low=1, high=9).value(3) == 3
    assert [wide.has(value) for value in (0.05, 0.2, True, "0.05", None)] == [
        True, False, False, False, False,
    ]  # fmt: skip


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which model"),
        (["model=strawberry"], "unknown model `strawberry`; params.yaml lists: ann"),
        (["model=ann", "trials=0"], "trials=0: expected a whole number above 0"),
        (["model=ann", "trials=many"], "trials=many: expected a whole number above 0"),
        (["model=ann", "jobs=x"], "jobs=x: expected a whole number above 0, of threads"),
        (["model=ann", "jobs=-1"], "jobs=-1: expected a whole number"),
        (["model=ann", "timeout=soon"], "timeout=soon: expected a number of minutes above 0"),
        (["model=ann", "timeout=0"], "timeout=0: expected a number of minutes above 0"),
        (["model=ann", "--wirte"], "`--wirte` is not understood"),
        (["model=ann", "model.net.dropot=1"], "unknown key `model.net.dropot`; did you mean"),
        (["model=ann", "--write", "model.net.dropout=0.1"], "write them into conf/model/ann.yaml"),
    ],
)
@pytest.mark.usefixtures("one_model")
def test_a_wrong_call_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tune.main(words)
    assert not Path(".tuning").exists()


@pytest.mark.usefixtures("one_model")
def test_without_prepared_data_nothing_is_searched() -> None:
    with pytest.raises(
        SextantError, match="data/prepared/churn/profile.json does not exist; `make"
    ):
        tune.main(["model=ann"])
    assert not Path(".tuning").exists()


def test_as_many_trials_run_as_threads_and_memory_allow() -> None:
    gib = 2**30
    assert tune.jobs_side_by_side(1, 1, 64 * gib) == 1
    assert tune.jobs_side_by_side(4, 1, 64 * gib) == 4
    assert tune.jobs_side_by_side(4, 2, 64 * gib) == 2
    assert tune.jobs_side_by_side(1, 2, 64 * gib) == 1
    assert tune.jobs_side_by_side(4, 1, 3 * gib) == 2
    assert tune.jobs_side_by_side(4, 1, 0) == 1


# --- a search -------------------------------------------------------------------------------------


def test_a_search_keeps_its_trials_and_compares_the_best_with_todays(
    run: FakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder has the parts train and val alone, so that no other part was read."""
    monkeypatch.setattr(comparison, "SEEDS", 2)
    before = CONF.read_bytes()
    assert tune.main(["model=ann", "trials=5", *WORDS]) == 0
    printed = capsys.readouterr().out
    assert "already" not in printed and "compared by val/log_loss" in printed
    assert [trial["number"] for trial in run.trials] == list(range(5))
    first = run.trials[0]
    assert first["settings"] == {
        "net.dropout": 0.2, "net.hidden_sizes": [8], "optimizer.lr": 0.1,
    }  # fmt: skip
    for trial in run.trials:
        conf = space.with_values(config.model(MODEL, WORDS), trial["settings"])
        check.check_model(conf)
        looks = [row["epoch"] for row in trial["history"]]
        assert looks == sorted(looks) and looks[-1] <= 3
    assert run.logged["figures"] == ["history.svg", "importance.svg"]
    assert run.logged["metrics"]["trials"] == 5
    assert run.status == "FINISHED"
    assert CONF.read_bytes() == before
    assert not list(Path(".tuning").rglob("*.ckpt"))

    # The same command again trains nothing.
    text = journal().read_text()
    assert tune.main(["model=ann", "trials=5", *WORDS]) == 0
    again = capsys.readouterr().out
    assert "5 trials, which are there already" in again
    assert len(run.trials) == 5
    assert again.endswith(printed[printed.index("5 trials, ", printed.index("trial 4:")) :])
    assert text.count('"op_code":4') == journal().read_text().count('"op_code":4')


def settings(run: FakeRun) -> list[Any]:
    return [
        (trial["settings"], trial["history"], trial["scores"], trial["reason"])
        for trial in run.trials
    ]


def test_an_interrupted_search_goes_on_to_the_same_trials(
    quick: FakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=ann", "trials=13", *WORDS]
    assert tune.main(words) == 0
    whole = settings(quick)
    journal().rename("whole.log")
    quick.trials.clear()
    capsys.readouterr()

    # Interrupted in the middle of the fifth trial; half of it, half a line and a lock remain.
    looks: list[float] = []
    look = Stop.look

    def interrupted(self: Stop, epochs: float = 0.0) -> None:
        looks.append(epochs)
        if len(quick.trials) == 4 and epochs > 0.5:
            raise Stopped
        look(self, epochs)

    monkeypatch.setattr(Stop, "look", interrupted)
    assert tune.main(words) == 0
    printed = capsys.readouterr().out
    options = f'OPTIONS="{" ".join(WORDS)}"'
    assert f"`make tune MODEL=ann TRIALS=13 {options}` goes on" in printed
    assert f"`make tune MODEL=ann TRIALS=4 {options}` compares the best" in printed
    assert quick.status == "KILLED"
    monkeypatch.setattr(Stop, "look", look)
    with journal().open("a") as stream:
        stream.write('{"op_code":')
    journal().with_name("journal.log.lock").symlink_to("journal.log")
    assert tune.main(words) == 0
    assert "13 trials, of which 4 are there already" in capsys.readouterr().out
    assert settings(quick) == whole
    assert [trial["number"] for trial in quick.trials] == [0, 1, 2, 3, *range(5, 14)]
    assert quick.status == "FINISHED"


def test_the_time_ends_a_search_and_keeps_the_best(
    quick: FakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stop, "late", property(lambda self: len(quick.trials) >= 2))
    assert tune.main(["model=ann", "trials=5", "timeout=60", *WORDS]) == 0
    printed = capsys.readouterr().out
    assert "the time is over: 2 trials" in printed and "` goes on" in printed
    assert quick.logged["figures"] == ["history.svg"]
    assert len(quick.trials) == 2


def test_ctrl_c_ends_a_search_with_its_code(
    quick: FakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = quick.trial

    def interrupted(number: int, *logged: Any) -> str:
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return trial(number, *logged)

    monkeypatch.setattr(quick, "trial", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    assert tune.main(["model=ann", "trials=5", *WORDS]) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    assert "interrupted: 2 trials" in capsys.readouterr().out
    assert [trial["number"] for trial in quick.trials] == [0, 1]


def test_the_winner_is_written_and_the_search_goes_on_after_it(
    quick: FakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "SEEDS", 2)
    text = CONF.read_text()
    smoke = "    net: {bodies: 1, members: 4, hidden_sizes: [32]}\n    optimizer: {lr: 0.01}"
    assert smoke in text
    text = text.replace(smoke, "    net: {hidden_sizes: [8]}\n    optimizer: {lr: 0.1}")
    CONF.write_text(text.replace("max_epochs: 8", "max_epochs: 3"))
    before = CONF.read_text().splitlines()
    assert tune.main(["model=ann", "trials=6", "--write", "budget=smoke"]) == 0
    printed = capsys.readouterr().out
    metrics = quick.logged["metrics"]
    gain, low, high = (metrics[f"gain/val_log_loss{end}"] for end in ("", "_low", "_high"))
    assert 0 < low <= gain <= high
    assert metrics["gain/accuracy"] > 0
    assert f"{gain:+.4f}" in printed
    assert "written to conf/model/ann.yaml: " in printed and "budgets.smoke.optimizer.lr" in printed
    best = quick.logged["texts"]["best.yaml"]
    conf = config.model(MODEL, ["budget=smoke"])
    assert space.values(conf, best) == best
    after = CONF.read_text().splitlines()
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert old.partition("#")[2] == new.partition("#")[2]
    assert sum(old != new for old, new in zip(before, after, strict=True)) <= len(best)
    assert tune.main(["model=ann", "trials=6", "budget=smoke"]) == 0
    assert "with today's settings" in capsys.readouterr().out
    assert len(quick.trials) == 6


def test_a_trial_that_cannot_be_trained_is_pruned_with_its_reason(
    quick: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    SPACE.write_text("optimizer: {lr: {low: 0.001, high: 0.002}}")
    monkeypatch.setattr(comparison, "SEEDS", 2)
    fit = quick_learn
    calls: list[object] = []

    def learn(conf: config.ModelConf, *rest: Any) -> Any:
        calls.append(conf)
        if len(calls) == 2:
            raise SextantError("the loss is nan in epoch 1")
        return fit(conf, *rest)

    monkeypatch.setattr("sextant.train.learn", learn)
    words = ["model=ann", "trials=3", *WORDS[:3]]
    assert tune.main(words) == 0
    assert [trial["reason"] for trial in quick.trials] == [
        "", "cannot be trained: the loss is nan in epoch 1", "",
    ]  # fmt: skip


def test_a_second_search_of_the_same_names_the_first(quick: FakeRun) -> None:
    conf = config.model(MODEL, WORDS)
    data = training.read("churn")
    folder = study.folder_of(conf, space.load(conf), data)
    with study.locked(folder):
        with pytest.raises(SextantError, match=f"process {os.getpid()} is tuning this already"):
            tune.main(["model=ann", "trials=2", *WORDS])


def test_trials_are_comparable_or_have_another_folder(run: FakeRun) -> None:
    def folder(*words: str) -> Path:
        conf = config.model(MODEL, [*WORDS, *words])
        return study.folder_of(conf, space.load(conf), training.read("churn"))

    usual = folder()
    assert folder() == usual
    assert folder("model.net.dropout=0.4") == usual  # the space has it
    for word in ("seed=7", "model.net.bins=8", "model.schedule.monitor=auroc", "budget=full"):
        assert folder(word) != usual
    SPACE.write_text(SMALL_SPACE.replace("0.1, log", "0.2, log"))
    assert folder() != usual


# --- guards, gains, figures, the text of a conf ---------------------------------------------------


def small_study(folder: Path, up: bool = False) -> study.Study:
    conf = config.model(MODEL)
    SPACE.write_text(SMALL_SPACE)
    return study.Study(folder, conf, space.load(conf), up)


def finish(trials: study.Study, value: float, gate: config.Gate, **scores: float) -> None:
    trial = trials.claim(1000)
    assert trial is not None
    trials.settings(trial)
    trials.complete(trial, Result(value, 3, scores, []), gate)


@pytest.mark.usefixtures("one_model")
def test_a_trial_that_breaks_a_guard_does_not_win(tmp_path: Path) -> None:
    gate = config.Gate(margin=0.0, guards=["brier <= 0.2", "auroc >= 0.7"])
    trials = small_study(tmp_path)
    assert trials.best() is None
    finish(trials, 0.1, gate, brier=0.3, auroc=0.8)
    finish(trials, 0.2, gate, brier=0.1, auroc=0.6)
    assert trials.best() is None
    finish(trials, 0.4, gate, brier=0.2, auroc=0.7)
    finish(trials, 0.3, gate, brier=0.1, auroc=0.8)
    best = trials.best()
    assert best is not None and best.number == 3
    assert [trial.feasible for trial in trials.trials()] == [False, False, True, True]


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.usefixtures("one_model")
def test_a_trial_worse_than_the_median_is_pruned(up: bool, tmp_path: Path) -> None:
    trials = small_study(tmp_path, up)
    for value in np.linspace(0.1, 0.9, study.UNPRUNED_TRIALS):
        trial = trials.claim(100)
        assert trial is not None
        trials.settings(trial)
        looks = study.Looks(trial, "val/x")
        for epoch in (1, 20, 40):
            looks({"epoch": epoch, "val/x": float(value)})
        trials.complete(trial, Result(float(value), 40, {}, []), config.Gate(margin=0.0))
    worse, better = (0.2, 0.8) if up else (0.8, 0.2)
    for value, pruned in ((better, False), (worse, True)):
        trial = trials.claim(100)
        assert trial is not None
        looks = study.Looks(trial, "val/x")
        looks({"epoch": 1, "val/x": value})  # too early to prune
        looks({"epoch": 19, "val/x": float("nan")})
        if pruned:
            with pytest.raises(study.Pruned):
                looks({"epoch": 20, "val/x": value})
        else:
            looks({"epoch": 20, "val/x": value})


def test_the_interval_of_a_gain_is_students_of_the_differences() -> None:
    before = np.array([0.5, 0.4, 0.6, 0.5, 0.7])
    after = before - np.array([0.1, 0.1, 0.2, 0.0, 0.1])
    gain = comparison.gain("val/log_loss", before, after, -1)
    assert gain.gain == pytest.approx(0.1)
    # t of 4 degrees of freedom at 0.975 is 2.7764; the deviation is sqrt(0.005), of five.
    half = 2.7764451 * (0.005 / 5) ** 0.5
    assert (gain.low, gain.high) == pytest.approx((0.1 - half, 0.1 + half))
    assert gain.clear
    assert not comparison.gain("x", before, before + [0.1, -0.1, 0.1, -0.1, 0.0], 1).clear
    lines = tune.table([gain])
    assert lines[1].split()[:4] == ["val/log_loss", "0.5400", "0.4400", "+0.1000"]


def test_the_seeds_of_the_comparison_are_not_that_of_the_trials(one_model: Path) -> None:
    for seed in (0, 42, 2**32 - 1):
        conf = config.model(MODEL, [f"seed={seed}"])
        assert seed not in comparison.seeds(conf)
        assert len(set(comparison.seeds(conf))) == comparison.SEEDS
        today, best = comparison.both(conf, {"net.dropout": 0.4})
        assert [task.conf.seed for task in today] == [task.conf.seed for task in best]
        assert len({task.key for task in [*today, *best]}) == 2 * comparison.SEEDS


def test_the_figures_show_every_trial_and_every_setting() -> None:
    trials = [
        study.Trial(number, {}, value, 3, pruned, "", True)
        for number, (value, pruned) in enumerate(
            [(0.5, False), (0.4, False), (90.0, True), (None, True), (0.3, False), (0.45, False)]
        )
    ]
    figure = figures.history(trials, "log_loss", False, 0.5)
    assert figure.get_label().startswith("4 trials trained to the end, 2 pruned; 1 beyond the")
    (axes,) = figure.axes
    assert axes.get_ylim()[1] < 1
    assert figures._best_so_far(trials, False) == (
        [0, 1, 2, 3, 4, 5], [0.5, 0.4, 0.4, 0.4, 0.3, 0.3],
    )  # fmt: skip
    figure = figures.importance({"optimizer.lr": 0.7, "net.dropout": 0.3}, 20)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        "net.dropout", "optimizer.lr",
    ]  # fmt: skip


def written_values(text: str, budget: str, names: Iterable[str]) -> dict[str, Any]:
    """The values that a budget has by the text of a conf, by names such as `net.dropout`."""
    content = load_yaml(text)
    overrides = content["budgets"].get(budget) or {}
    values = {}
    for name in names:
        block, key = name.split(".")
        values[name] = {**content[block], **overrides.get(block, {})}[key]
    return values


@pytest.mark.parametrize("model", listed.MODELS)
def test_the_values_of_every_conf_can_be_written(model: str) -> None:
    """Written values are those of the budget, and the text has no other difference.

    That a composed conf has them is tested after a search, where its winner is written.
    """
    _, searched = shipped(model)
    text = (ROOT / f"conf/model/{model}.yaml").read_text()
    changes = {name: dimension.ends[-1] for name, dimension in searched.dimensions.items()}
    comments = [line.partition("#")[2] for line in text.splitlines()]
    for budget in ("smoke", "standard"):
        changed, places = with_settings(text, changes, budget, model)
        assert len(places) == len(changes)
        assert [line.partition("#")[2] for line in changed.splitlines()] == comments
        assert written_values(changed, budget, changes) == changes
        back = written_values(text, budget, changes)
        assert with_settings(changed, back, budget, model)[0].split() == text.split()


@pytest.mark.parametrize(
    "value", [1e-05, 3e-7, 0.1, 12.0, 3, True, "gaussian", [8, 16], [0.2, 1e-6]]
)
def test_a_value_is_read_as_it_was(value: object) -> None:
    read = yaml.safe_load(f"key: {as_yaml(value)}  # comment")["key"]
    assert read == value and type(read) is type(value)


def test_a_value_that_cannot_be_replaced_is_to_be_written_by_hand() -> None:
    lines = "net:\n  sizes:\n  - 8\n  rate: &r 0.1\noptimizer: {lr: *r}\nbudgets: {}\n"
    for name, value, reason in (
        ("net.dropout", 0.2, "it has no `net.dropout`"),
        ("net.sizes", [9], "`net.sizes` stands on several lines"),
        ("net.rate", 0.2, "other values would change"),
    ):
        message = rf"m.yaml: {reason}; write these values by hand: {name}: "
        with pytest.raises(UsageError, match=message):
            with_settings(lines, {name: value}, "standard", "m.yaml")


# --- a real kill ----------------------------------------------------------------------------------


@pytest.mark.slow(minutes=1)
def test_a_killed_search_loses_no_finished_trial(
    clone: Clone, process: Callable[..., subprocess.Popen[str]]
) -> None:
    space_file = clone.path / SPACE
    space_file.write_text(SMALL_SPACE)
    words = ["make", "tune", "MODEL=ann", "TRIALS=6", "OPTIONS=model.schedule.max_epochs=4"]
    running = process(*words, cwd=clone.path, env=clone.env, stdout=subprocess.PIPE)
    assert running.stdout is not None
    lines = []
    for text in running.stdout:
        lines.append(text)
        if text.startswith("trial 2:"):
            break
    (lock,) = clone.path.glob(".tuning/ann/*/lock")
    os.kill(int(lock.read_text()), signal.SIGKILL)
    running.wait()
    assert running.returncode != 0
    time.sleep(0.1)

    done = clone.run(*words, "JOBS=2").stdout  # in two other processes, if memory suffices
    assert "6 trials, of which 3 are there already" in done
    numbers = [
        int(line.split()[1].strip(":")) for line in done.splitlines() if line[:6] == "trial "
    ]
    assert min(numbers) >= 3 and len(numbers) == 3
    assert "over 5 seeds on val" in done or "with today's settings" in done

    runs = clone.runs("sextant-ann-twin-tune")
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run]
    children = [run for run in runs if "mlflow.parentRunId" in run]
    assert {run["mlflow.parentRunId"] for run in children} == {parent["id"]}
    assert len({run["trial"] for run in children}) == len(children) == 6
    assert {run["status"] for run in runs} == {"FINISHED"}
    artifacts = clone.path / "mlruns/sextant-ann-twin-tune" / parent["id"] / "artifacts"
    assert (artifacts / "figures/history.svg").is_file()
    assert json.dumps(children[0]["net.hidden_sizes"]) in ('"[8]"', '"[16]"', '"[32]"')
    assert clone.changed() == ["conf/search/ann.yaml"]
    assert clone.champions() and "sextant-ann-twin-tune" not in clone.champions()
