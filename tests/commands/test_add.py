"""A model of the shelf is listed in params.yaml, runs, and is taken out again."""

from pathlib import Path

import listed
import pytest
import yaml
from conftest import Clone

from sextant import check, config
from sextant.commands import add, remove
from sextant.errors import UsageError

# A cheap model of the shelf, on a data set that no listed model names.
MODEL = "power"
DATASET = listed.SHELF["models"][MODEL]["dataset"]


def params() -> dict[str, dict[str, object]]:
    return yaml.safe_load(Path("params.yaml").read_text())


@pytest.mark.parametrize("model", listed.SHELF["models"])
@pytest.mark.usefixtures("workspace")
def test_each_model_of_the_shelf_is_added_and_removed_without_a_trace(model: str) -> None:
    before = Path("params.yaml").read_bytes()
    add.main([f"model={model}"])
    line = listed.SHELF["models"][model]
    assert params()["models"] == {**listed.PARAMS["models"], model: line}
    assert params()["datasets"] == {**listed.PARAMS["datasets"], line["dataset"]: line["kind"]}
    after = Path("params.yaml").read_text().splitlines()
    assert [text for text in before.decode().splitlines() if text not in after] == []
    assert config.model(model) == config.model(model, shelf=True)
    remove.main([f"model={model}"])
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.usefixtures("workspace")
def test_what_is_listed_or_nowhere_is_refused_and_nothing_is_written() -> None:
    add.main([f"model={MODEL}"])
    before = Path("params.yaml").read_bytes()
    for model, message in {
        MODEL: f"params.yaml lists model `{MODEL}` already",
        "ann": "params.yaml lists model `ann` already",
        f"{MODEL}s": f"conf/shelf.yaml has no model `{MODEL}s`; did you mean `{MODEL}`",
        "": "conf/shelf.yaml has no model ``; expected one of: ",
    }.items():
        with pytest.raises(UsageError, match=message):
            add.main([f"model={model}"])
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.usefixtures("workspace")
def test_a_model_without_its_conf_is_not_listed() -> None:
    before = Path("params.yaml").read_bytes()
    Path(f"conf/dataset/{DATASET}.yaml").unlink()
    with pytest.raises(UsageError, match=f"conf/dataset/{DATASET}.yaml does not exist; add it"):
        add.main([f"model={MODEL}"])
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["power"], ["model=power", "lr=1"]])
def test_other_arguments_are_answered_with_the_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match=r"expected( model=…|: make add MODEL=<model of conf)"):
        add.main(arguments)


# --- what is not listed -------------------------------------------------------------------------


@pytest.mark.usefixtures("one_model")
def test_check_reads_the_shelf_and_stages_do_not() -> None:
    Path("conf/shelf.yaml").write_text(
        "datasets: {churn: tabular}\n"
        "models:\n"
        "  faulty: {family: ann, task: classification, dataset: churn, kind: tabular}\n"
    )
    text = Path("conf/model/ann.yaml").read_text()
    Path("conf/model/faulty.yaml").write_text(text.replace("bins: 16", "bins: many"))
    with pytest.raises(UsageError, match="conf/model/faulty.yaml net: `bins` is 'many'"):
        check.main([])
    with pytest.raises(UsageError, match="conf/model/faulty.yaml net: `bins` is 'many'"):
        check.main(["model=faulty"])
    check.main(["--listed"])
    message = "unknown model `faulty`; params.yaml lists: ann; `make add MODEL=faulty` adds it"
    with pytest.raises(UsageError, match=message):
        check.main(["--listed", "model=faulty"])


FAULTS = (
    ("models: [power]\n", r"conf/shelf.yaml: `models` is \['power'\]"),
    ("modles: {}\n", "conf/shelf.yaml: unknown key `modles`; did you mean `models`"),
    (
        "models: {a: {family: ann, task: mapping, dataset: sea, kind: tabular}}\n",
        "conf/shelf.yaml: model `a` names data set `sea`, which `datasets` does not list",
    ),
    (
        "datasets: {sea: images}\n"
        "models: {a: {family: ann, task: mapping, dataset: sea, kind: tabular}}\n",
        "conf/shelf.yaml: model `a` has kind `tabular`, but its data set `sea` has kind",
    ),
)


@pytest.mark.usefixtures("one_model")
def test_a_fault_of_the_shelf_is_named_and_stops_no_listed_model() -> None:
    for text, message in FAULTS:
        Path("conf/shelf.yaml").write_text(text)
        with pytest.raises(UsageError, match=message):
            check.main([])
        with pytest.raises(UsageError, match=message):
            add.main(["model=a"])
        assert list(config.params().models) == ["ann"]
    check.main(["--listed"])


# --- the whole way ------------------------------------------------------------------------------


@pytest.mark.slow(minutes=2)
def test_a_model_is_added_runs_and_is_removed(clone: Clone) -> None:
    """`clone` has run the pipeline of `ann`."""
    lock = (clone.path / "dvc.lock").read_text()
    clone.run("make", "add", f"MODEL={MODEL}")
    assert sorted(clone.repro()) == sorted(
        [
            *(f"{stage}@{DATASET}" for stage in ("pull", "validate", "prepare")),
            *(f"{stage}@{MODEL}" for stage in ("train", "evaluate", "register")),
            "report",
        ]
    )
    champions = clone.champions()
    assert f"sextant-{MODEL}-twin" in champions
    page = (clone.path / "reports/index.html").read_text()
    with_model = (clone.path / "dvc.lock").read_text()

    clone.run("make", "remove", f"MODEL={MODEL}")
    assert clone.repro() == ["report"]
    assert clone.champions() == champions
    assert f'id="{MODEL}"' in page
    assert f'id="{MODEL}"' not in (clone.path / "reports/index.html").read_text()
    assert MODEL not in clone.run("make", "leaderboard").stdout
    assert lock != with_model

    # Its stages and outputs are known, so that nothing is trained when it comes back.
    clone.run("make", "add", f"MODEL={MODEL}")
    assert clone.repro() == []
    assert (clone.path / "reports/index.html").read_text() == page
