"""`sextant check`: what does not fit together is refused by name, before anything runs."""

import re
from pathlib import Path
from typing import Any

import cases
import listed
import pytest
from conftest import dump_yaml, load_yaml

from sextant import check, config, optimizers, plugins
from sextant.errors import UsageError
from sextant.tuning import space

MODELS: dict[str, dict[str, str]] = listed.PARAMS["models"]

pytestmark = pytest.mark.usefixtures("workspace")


def edit(file: str, **changes: Any) -> None:
    """Update top-level keys of a YAML file of the workspace; None removes one."""
    content = load_yaml(Path(file).read_text())
    for key, value in changes.items():
        content.pop(key, None)
        if value is not None:
            content[key] = value
    Path(file).write_text(dump_yaml(content))


def with_line(model: str, **words: str) -> config.ModelConf:
    """The model with other words in its line of params.yaml."""
    edit("params.yaml", models={**MODELS, model: {**MODELS[model], **words}})
    return config.model(model)


# --- a family and a task ------------------------------------------------------------------------


@pytest.mark.parametrize("model", listed.MODELS)
def test_a_model_fits_its_task_and_its_figures(model):
    conf = config.model(model, shelf=True)
    check.check_pair(conf)
    check.check_figures(conf)
    assert conf.task in check.fitting_tasks(conf)


@pytest.mark.parametrize(
    ("model", "task", "needed", "fitting"),
    [
        ("som", "classification", "logits", "mapping"),
        (
            "ann",
            "mapping",
            "unit, surprise, adjacent, prototype, distance",
            "classification, regression",
        ),
        ("sae", "likes", "log_odds", "stars"),
        ("rnn", "stars", "stars", "forecasting"),
    ],
)
def test_a_task_that_needs_what_the_family_does_not_give_is_refused(model, task, needed, fitting):
    conf = with_line(model, task=task)
    message = f"task {task} needs {needed} of a net, and family {model} gives .*: {fitting}$"
    with pytest.raises(UsageError, match=message):
        check.check_pair(conf)


def test_what_a_family_gives_can_depend_on_its_arguments():
    conf = with_line("rbm", task="stars")
    ordinal = conf.model_copy(update={"net": {**conf.net, "units": "ordinal"}})
    bernoulli = conf.model_copy(update={"net": {**conf.net, "units": "bernoulli"}})
    check.check_pair(ordinal)
    with pytest.raises(UsageError, match="task stars needs stars of a net, and family rbm gives"):
        check.check_pair(bernoulli)


def test_a_net_without_what_the_figures_read_is_refused(monkeypatch):
    som = plugins.family("som")
    monkeypatch.delattr(som, "u_matrix")
    with pytest.raises(UsageError, match="figures of task mapping need u_matrix of a net, which"):
        check.check_figures(config.model("som"))


def test_what_figures_read_of_a_net_is_what_their_protocol_says():
    net = plugins.task("mapping").figures.Net
    assert plugins.task("mapping").net_members == plugins.members(net) != []
    assert plugins.task("classification").net_members == []


def test_every_family_gives_something_and_every_task_needs_something():
    for name in plugins.names("families"):
        assert plugins.family(name).OUTPUTS
    for name in plugins.names("tasks"):
        assert plugins.task(name).metrics.OUTPUTS


# --- the metric of the gate ---------------------------------------------------------------------


def with_gate(model: str, **gate: Any) -> None:
    """Check the metrics of a model with other keys in its block `gate`."""
    block = load_yaml(Path(f"conf/model/{model}.yaml").read_text())["gate"]
    edit(f"conf/model/{model}.yaml", gate={**block, **gate})
    conf = config.model(model)
    check.check_metrics(conf, conf.schedule["monitor"])


@pytest.mark.parametrize("metric", ["accuracy", "auroc", "log_loss", None])
def test_the_gate_can_read_each_metric_of_the_task(metric):
    with_gate("ann", metric=metric)


@pytest.mark.parametrize(
    ("model", "gate", "message"),
    [
        ("ann", {"metric": "auc"}, "`auc` is not a metric of classification; choose from: accur"),
        ("rnn", {"metric": "coverage_90"}, "`coverage_90` has a target value and no direction, .*"),
        ("ann", {"guards_of": {"churn": ["auc >= 1"]}}, "gate: `auc` is not a metric of class"),
    ],
)
def test_what_is_no_metric_of_the_task_is_refused(model, gate, message):
    with pytest.raises(UsageError, match=message):
        with_gate(model, **gate)


def test_a_metric_that_the_net_does_not_answer_is_refused():
    message = "`crps` cannot be computed from what family ann answers; choose from: rmse, mae"
    with pytest.raises(UsageError, match=message):
        conf = config.model("power", ["model.gate.metric=crps"], shelf=True)
        check.check_metrics(conf, "rmse")
    with pytest.raises(UsageError, match=message):
        check.check_metrics(config.model("power", shelf=True), "crps")
    check.check_metrics(config.model("redshift", shelf=True), "crps")


def test_a_key_with_a_default_can_be_set_on_the_command_line():
    assert config.model("ann", ["model.gate.metric=auroc"]).gate.metric == "auroc"


# --- decide -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "threshold", "costs"),
    [
        ({"threshold": 0.3}, 0.3, None),
        ({"threshold": "f1"}, "f1", None),
        ({"cost": 5.0}, None, config.Costs(missed=5.0)),
        ({"cost": {"missed": 5.0, "false_alarm": 2.0}}, None, None),
    ],
)
def test_a_rule_of_decision_is_read(block, threshold, costs):
    conf = config.model("ann")
    conf.schedule["decide"] = block
    check.check_model(conf)
    decide = optimizers.Schedule(**conf.schedule).decide
    assert decide is not None and decide.threshold == threshold
    if costs is not None:
        assert decide.costs == costs


def test_a_whole_number_is_a_cost():
    conf = config.model("ann", ["model.schedule.decide={cost: 5}"])
    decide = optimizers.Schedule(**conf.schedule).decide
    assert decide is not None and decide.costs == config.Costs(missed=5.0)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({}, "expected either `threshold` or `cost`"),
        ({"threshold": 0.3, "cost": 5}, "expected either `threshold` or `cost`"),
        ({"threshold": 1.5}, "decide.threshold"),
        ({"cost": -1}, "decide.cost"),
        ({"treshold": 0.3}, "unknown key `decide.treshold`; did you mean `threshold`"),
    ],
)
def test_a_faulty_rule_of_decision_is_refused(block, message):
    conf = config.model("ann")
    conf.schedule["decide"] = block
    with pytest.raises(UsageError, match=message):
        check.check_model(conf)


def test_a_rule_of_decision_is_refused_where_no_class_is_predicted():
    conf = config.model("rnn")
    conf.schedule["decide"] = {"threshold": 0.3}
    with pytest.raises(UsageError, match="rnn.yaml schedule: task forecasting predicts no class"):
        check.check_model(conf)


def test_a_rule_of_decision_outside_of_the_schedule_is_refused():
    """DVC would not see it."""
    edit("conf/model/ann.yaml", decide={"cost": 5})
    with pytest.raises(UsageError, match="ann.yaml: `decide` .* move it into the block `schedule`"):
        config.model("ann")


# --- params.yaml and conf of the form before 0.2 ------------------------------------------------


def test_a_list_of_data_sets_is_answered_with_the_lines_to_write():
    edit("params.yaml", datasets=["churn", "cats_dogs"])
    edit("conf/dataset/churn.yaml", kind="tabular")
    with pytest.raises(UsageError, match="is a list; .*: `churn: tabular`; `cats_dogs: <kind>`$"):
        config.params()


def test_a_model_without_task_and_kind_is_answered_with_its_line():
    edit("params.yaml", models={"ann": {"family": "ann", "dataset": "churn"}})
    edit("conf/model/ann.yaml", task="classification")
    line = "ann: {family: ann, task: classification, dataset: churn, kind: tabular}"
    with pytest.raises(UsageError, match=f"write `{re.escape(line)}`$"):
        config.params()


@pytest.mark.parametrize(
    ("file", "key", "line"),
    [
        ("conf/dataset/churn.yaml", "kind", "churn: tabular"),
        ("conf/model/ann.yaml", "task", "task: classification"),
    ],
)
def test_a_word_that_moved_to_params_yaml_is_refused_in_conf(file, key, line):
    edit(file, **{key: "anything"})
    message = f"{file}: `{key}` has moved to params.yaml; delete it here, and write `{line}` there"
    with pytest.raises(UsageError, match=message):
        config.dataset("churn") if key == "kind" else config.model("ann")


@pytest.mark.parametrize("line", MODELS.values(), ids=MODELS)
def test_the_kind_of_a_family_is_that_of_its_batch(line):
    assert check.kinds_of(line["family"]) == [line["kind"]]


def test_a_kind_that_is_not_its_data_sets_is_refused():
    message = "model `ann` has kind `images`, but its data set `churn` has kind `tabular`; write"
    with pytest.raises(UsageError, match=message):
        with_line("ann", kind="images")


# --- baselines that a conf names ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("baselines", "message"),
    [
        (
            ["knn"],
            "task classification has no further baseline `knn`; it has: nearest_neighbours,"
            " random_forest, cnn_last_frame, cnn_mean_frame",
        ),
        ([{"knn": {"k": 3}}], "task classification has no further baseline `knn`"),
        ([{}], "conf/model/ann.yaml: .*`baselines.0.* is {}; expected 1 or more entries"),
        ([{"knn": {}, "random_forest": {}}], "`baselines.0.*; expected at most 1 entries"),
    ],
)
def test_an_unknown_further_baseline_is_refused(baselines, message):
    edit("conf/model/ann.yaml", baselines=baselines)
    with pytest.raises(UsageError, match=message):
        check.check_baselines(config.model("ann"))


def test_a_further_baseline_stands_beside_the_others_with_its_settings(monkeypatch):
    def small_net(train, columns, *, max_epochs=1):
        return max_epochs

    def fits_pictures_alone(train, columns):
        return None

    baselines = plugins.load("tasks", "classification", "baselines")
    further = {"small_net": small_net, "pixels": fits_pictures_alone}
    monkeypatch.setattr(baselines, "FURTHER", further, raising=False)
    monkeypatch.setattr(baselines, "KINDS", {"pixels": ("images",)}, raising=False)
    task = plugins.task("classification")
    usual = list(task.baselines("tabular"))
    chosen = task.baselines("tabular", [{"small_net": {"max_epochs": 5}}])
    assert list(chosen) == [*usual, "small_net"]
    assert plugins.call(chosen["small_net"], None, None, encoder=None) == 5
    assert "pixels" in task.baselines("images", ["pixels"])
    with pytest.raises(
        UsageError, match="baseline `pixels` does not fit kind tabular; it fits images"
    ):
        task.baselines("tabular", ["pixels"])
    with pytest.raises(UsageError, match="baseline `small_net` has no setting `train`"):
        task.baselines("tabular", [{"small_net": {"train": 1}}])


# --- the search spaces --------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["model=ann"]])
def test_a_fault_in_a_search_space_is_met_before_any_trial_and_stops_no_stage(arguments, one_model):
    Path("conf/search/ann.yaml").write_text("net: {dropot: {low: 0.0, high: 0.5}}")
    message = "^conf/search/ann.yaml: ann has no `net.dropot`; did you mean `dropout`.$"
    with pytest.raises(UsageError, match=message):
        check.main(arguments)
    check.main(["--listed", *arguments])
    Path("conf/search/ann.yaml").write_text("net: {dropout: {low: 0.5, high: 0.1}}")
    with pytest.raises(UsageError, match="net.dropout: the range from 0.5 to 0.1 is empty"):
        check.main(arguments)
    Path("conf/search/ann.yaml").unlink()  # a family of a team may have none
    check.main(arguments)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("an.yaml", "conf/search/an.yaml fits no family and no model; did you mean `ann`.; rename"),
        ("ann.yml", "conf/search/ann.yml is never read; rename it to ann.yaml, or remove it"),
    ],
)
def test_a_search_space_of_nothing_is_refused(name, message):
    Path("conf/search/.ann.yaml.swp").touch()
    space.check_files(["mine"])
    Path("conf/search/mine.yaml").write_text("")
    space.check_files(["mine"])
    Path(f"conf/search/{name}").write_text("")
    with pytest.raises(UsageError, match=message):
        space.check_files(["mine"])


# --- the command --------------------------------------------------------------------------------


def test_a_name_that_is_not_listed_is_refused(monkeypatch):
    checked = []
    monkeypatch.setattr(check, "check_all", lambda shelf: checked.append("all"))
    for function in ("check_dataset", "check_budgets"):
        monkeypatch.setattr(check, function, lambda name, shelf: checked.append(name))
    monkeypatch.setattr(check, "check_space", lambda name: checked.append(f"space of {name}"))
    check.main(["model=ann"])
    assert checked == ["churn", "ann", "space of ann"]
    with pytest.raises(UsageError, match="unknown model `strawberry`; params.yaml lists: ann"):
        check.main(["model=strawberry"])
    with pytest.raises(UsageError, match="`modell=ann` is not understood; expected: check"):
        check.main(["modell=ann"])


def test_conflicts_of_a_merge_in_dvc_lock_are_refused_with_the_repair(workspace, monkeypatch):
    monkeypatch.setattr(check, "check_all", lambda shelf: None)
    (workspace / "dvc.lock").write_text("schema: '2.0'\nstages:\n")
    check.main([])
    (workspace / "dvc.lock").write_text("stages:\n<<<<<<< HEAD\n=======\n>>>>>>> wide\n")
    with pytest.raises(
        UsageError, match="`git checkout --theirs dvc.lock reports` .or --ours., and"
    ):
        check.main(["--listed"])


@cases.each("name", ["gpu", "mps"])
def test_an_accelerator_that_the_machine_lacks_is_refused(name, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    check.check_accelerator("cpu")
    check.check_accelerator("auto")
    message = (
        f"conf/trainer.yaml: `accelerator` is {name}, and PyTorch finds none .* `accelerator: auto`"
    )
    with pytest.raises(UsageError, match=message):
        check.check_accelerator(name)


def test_an_accelerator_is_checked_with_a_model(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match="conf/trainer.yaml: `accelerator` is gpu"):
        check.check_model(config.model("ann", ["trainer.accelerator=gpu"]))
