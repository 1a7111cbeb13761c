"""The pipeline as DVC runs it: what an edit reruns, and that all that is tracked is a function of
commit and data.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from contextlib import chdir
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Clone, copied
from dvc.repo import Repo

pytestmark = pytest.mark.slow

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
DATASETS: list[str] = list(PARAMS["datasets"])
MODELS: dict[str, dict[str, str]] = PARAMS["models"]
SMALL = [
    *(f"reports/metrics/{model}.json" for model in MODELS),
    *(f"reports/validation/{dataset}.json" for dataset in DATASETS),
]


def test_there_are_models_and_data_sets() -> None:
    assert len(MODELS) >= 6 and len(DATASETS) >= 5


@pytest.fixture(scope="module")
def copy(whole_chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """For all that leaves it as it was; DVC does not work in `whole_chain` itself, which others
    copy meanwhile.
    """
    return copied(whole_chain, tmp_path_factory.mktemp("copy") / "clone")


# --- the chain as it came out -------------------------------------------------------------------


def outs(clone: Clone) -> dict[str, str]:
    """The digest of every output, as dvc.lock has them."""
    lock = yaml.safe_load((clone.path / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


def test_a_second_repro_runs_no_stage(copy: Clone) -> None:
    assert copy.repro() == []
    assert copy.changed() == []


def test_a_chain_changes_the_lock_and_the_small_reports_and_nothing_else(copy: Clone) -> None:
    (root,) = copy.run("git", "rev-list", "--max-parents=0", "HEAD").stdout.split()
    assert sorted(copy.run("git", "diff", "--name-only", root).stdout.split()) == sorted(
        ["dvc.lock", *SMALL]
    )
    assert copy.changed() == []


def test_every_model_is_judged_and_shown(copy: Clone) -> None:
    page = (copy.path / "reports/index.html").read_text()
    for model, line in MODELS.items():
        metrics = copy.read_json(f"reports/metrics/{model}.json")
        scored = [metrics["val"], metrics["test"], *metrics["baselines"].values()]
        assert all(math.isfinite(value) for scores in scored for value in scores.values())
        assert metrics["dataset"] == line["dataset"]
        decision = copy.read_json(f"reports/decisions/{model}.json")
        assert decision["decision"] in ("promoted", "not promoted") and decision["reason"]
        assert re.search(rf">\s*{model}\s*<", page)


def test_outputs_carry_no_path_no_time_and_no_run(whole_chain: Clone) -> None:
    runs = [run.encode() for (run,) in whole_chain.ask("SELECT run_uuid FROM runs")]
    date = re.compile(rb"\b%d-[01]\d-[0-3]\d" % datetime.now().year)
    places = [whole_chain.path / "dvc.lock", *(whole_chain.path / out for out in outs(whole_chain))]
    files = [
        file
        for place in places
        for file in (place.rglob("*") if place.is_dir() else [place])
        if file.is_file()
    ]
    assert len(files) > 15 and len(runs) >= len(MODELS)
    for file in files:
        content = file.read_bytes()
        assert str(whole_chain.path.parent).encode() not in content, (
            f"{file} names the folder it was made in"
        )
        assert not date.search(content), f"{file} says when it was made"
        assert not any(run in content for run in runs), f"{file} names a run of MLflow"


# --- what an edit reaches -----------------------------------------------------------------------


def comment(text: str) -> str:
    return text + "\n# a comment\n"


def with_other(pattern: str, new: str) -> Callable[[str], str]:
    def edited(text: str) -> str:
        text, found = re.subn(pattern, new, text, count=1, flags=re.MULTILINE)
        assert found, f"nothing looks like {pattern}"
        return text

    return edited


def stages(names: str, of: Iterable[str]) -> set[str]:
    return {f"{name}@{key}" for name in names.split() for key in of}


Change = tuple[str, Callable[[str], str]]  # a file, and what becomes of it


def of_dataset(change: Callable[[str], str], folder: str = "dataset") -> dict[str, Change]:
    return {name: (f"conf/{folder}/{name}.yaml", change) for name in DATASETS}


def of_model(change: Callable[[str], str]) -> dict[str, Change]:
    return {name: (f"conf/model/{name}.yaml", change) for name in MODELS}


# Edits of one sort, each by whose it is, and the stages of that one that it reaches.
EDITS: dict[str, tuple[dict[str, Change], str]] = {
    "url": (of_dataset(with_other(r"url: \S+", "url: https://example.org/x")), "pull"),
    "suite": (of_dataset(comment, "expectations"), "validate"),
    "split": (of_dataset(with_other(r"^(split:\n.*\n *\w+: )\S+", r"\g<1>123")), "prepare"),
    "gate": (of_model(with_other("margin: .*", "margin: 0.0123")), "register"),
    "optimizer": (of_model(with_other(r"  lr: \d\S*", "  lr: 0.0123")), "train"),
    "comment": (of_model(comment), ""),
    "other budget": (of_model(with_other("^  full:.*", r"\g<0> # more")), ""),
    "code": (
        {
            name: (f"src/sextant/families/{line['family']}.py", comment)
            for name, line in MODELS.items()
        },
        "train evaluate register",
    ),
}
# Edits of what is everybody's, and all stages that they reach.
COMMON: dict[str, tuple[Change, set[str]]] = {
    "report": (("src/sextant/report.py", comment), {"report"}),
    "tracking": (("src/sextant/tracking/registry.py", comment), set()),
    "doctor": (("src/sextant/commands/doctor.py", comment), set()),
    "source": (
        ("params.yaml", with_other("^source: .*", "source: canonical")),
        stages("pull", DATASETS),
    ),
    "seed": (("params.yaml", with_other("^seed: .*", "seed: 43")), stages("train", MODELS)),
    "hardware": (
        ("conf/trainer.yaml", with_other("^devices: .*", "devices: 2")),
        stages("train", MODELS),
    ),
}


def reached(clone: Clone, *changes: Change) -> dict[str, set[str]]:
    """By stage the files whose change reaches it, as DVC sees it while the changes are made."""
    before = {file: (clone.path / file).read_text() for file, _ in changes}
    try:
        for file, change in changes:
            (clone.path / file).write_text(change(before[file]))
        with chdir(clone.path), Repo() as repo:
            found = repo.status()
    finally:
        for file, text in before.items():
            (clone.path / file).write_text(text)
    return {
        stage: {file for why in reasons for file in why["changed deps"]}
        for stage, reasons in found.items()
    }


@pytest.mark.parametrize("sort", EDITS)
def test_an_edit_reaches_the_stages_that_read_it_and_no_other(copy: Clone, sort: str) -> None:
    """All of a sort at once: each stage must be reached by its own and by nothing else."""
    changes, names = EDITS[sort]
    expected = {
        stage: {file} for owner, (file, _) in changes.items() for stage in stages(names, [owner])
    }
    assert reached(copy, *changes.values()) == expected


@pytest.mark.parametrize("name", COMMON)
def test_an_edit_of_what_is_everybodys_reaches_all_that_read_it(copy: Clone, name: str) -> None:
    change, expected = COMMON[name]
    assert set(reached(copy, change)) == expected


# --- edits run, and DVC's tables of them --------------------------------------------------------


def edit(clone: Clone, *changes: Change) -> None:
    for file, change in changes:
        (clone.path / file).write_text(change((clone.path / file).read_text()))


def told(clone: Clone, *words: str) -> Any:
    """What `dvc … --json` says; it must have nothing to complain of."""
    done = clone.run("dvc", *words, "--json")
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_edits_rerun_what_they_must_and_come_to_the_same_bytes(road: Clone) -> None:
    before, judged = outs(road), road.read_json("reports/decisions/ann.json")

    # A new address brings the same file, a new gate judges nothing twice, a new page shows the
    # same.
    edit(road, EDITS["url"][0]["churn"], EDITS["gate"][0]["ann"], COMMON["report"][0])
    assert sorted(road.repro()) == ["pull@churn", "register@ann", "report"]
    assert outs(road) == before
    assert road.read_json("reports/decisions/ann.json") == judged and len(road.versions()) == 1

    # A comment in a family trains again, and since the same bytes come out, the page is not drawn
    # again.
    edit(road, EDITS["code"][0]["ann"])
    assert road.repro() == ["train@ann", "evaluate@ann", "register@ann"]
    assert outs(road) == before
    tracked = [
        "conf/dataset/churn.yaml",
        "conf/model/ann.yaml",
        "dvc.lock",
        "src/sextant/families/ann.py",
    ]
    assert road.changed() == [*tracked, "src/sextant/report.py"]

    gate = told(road, "params", "diff")["conf/model/ann.yaml"]
    assert list(gate) == ["gate.margin"] and gate["gate.margin"]["new"] == 0.0123


def test_the_tables_of_dvc_show_metrics_params_and_curves(copy: Clone, tmp_path: Path) -> None:
    shown = told(copy, "metrics", "show")[""]["data"]["reports/metrics/ann.json"]["data"]
    whole = copy.read_json("reports/metrics/ann.json")
    assert shown == {key: value for key, value in whole.items() if not isinstance(value, list)}
    same = told(copy, "metrics", "diff", "--all")["reports/metrics/ann.json"]["test.accuracy"]
    assert same["old"] == same["new"] == shown["test"]["accuracy"]

    workspace = told(copy, "exp", "show")[0]["data"]
    assert workspace["metrics"]["reports/metrics/ann.json"]["data"] == shown
    for file in [
        *(f"dataset/{name}" for name in DATASETS),
        *(f"model/{name}" for name in MODELS),
        "trainer",
    ]:
        assert "error" not in workspace["params"][f"conf/{file}.yaml"]
    assert workspace["params"]["conf/model/ann.yaml"]["data"]["optimizer"]["lr"] == 0.002

    done = copy.run("dvc", "plots", "show", "-o", str(tmp_path / "plots"))
    assert done.stderr == ""
    page = (tmp_path / "plots/index.html").read_text()
    epochs = (copy.path / "reports/curves/ann.csv").read_text().splitlines()[1:]
    for value in (line.split(",")[2] for line in epochs):
        assert value[:12] in page
    for figure in ("01-roc", "02-calibration", "03-confusion"):
        (name,) = re.findall(rf'src="([^"]*ann_{figure}\.svg)"', page)
        assert (tmp_path / "plots" / name).read_text().startswith("<?xml")
