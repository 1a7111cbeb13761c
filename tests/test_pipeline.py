"""The pipeline as DVC runs it: which stages an edit makes stale, and that every tracked output is a
function of the commit and the data.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Clone

pytestmark = pytest.mark.slow

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
DATASETS: list[str] = list(PARAMS["datasets"])
MODELS: dict[str, dict[str, str]] = PARAMS["models"]
# The outputs that git keeps.
COMMITTED = [
    *(f"reports/metrics/{model}.json" for model in MODELS),
    *(f"reports/processors/{model}.json" for model in MODELS),
    *(f"reports/validation/{dataset}.json" for dataset in DATASETS),
]


def test_params_list_every_family_and_data_set() -> None:
    assert len(MODELS) >= 6
    assert len(DATASETS) >= 5


# --- the outputs of a run -----------------------------------------------------------------------


def out_digests(clone: Clone) -> dict[str, str]:
    """The digest of every output by its path, from dvc.lock."""
    lock = yaml.safe_load((clone.path / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


def test_a_second_repro_runs_no_stage(whole_copy: Clone) -> None:
    assert whole_copy.repro() == []
    assert whole_copy.changed() == []


def test_git_sees_the_lock_and_the_committed_reports_and_no_other_change(whole_copy: Clone) -> None:
    (first_commit,) = whole_copy.run("git", "rev-list", "--max-parents=0", "HEAD").stdout.split()
    changed = whole_copy.run("git", "diff", "--name-only", first_commit).stdout.split()
    assert sorted(changed) == sorted(["dvc.lock", *COMMITTED])
    assert whole_copy.changed() == []


def test_every_model_has_metrics_a_decision_and_a_place_in_the_report(whole_copy: Clone) -> None:
    page = (whole_copy.path / "reports/index.html").read_text()
    for model, line in MODELS.items():
        metrics = whole_copy.read_json(f"reports/metrics/{model}.json")
        for scores in (metrics["val"], metrics["test"], *metrics["baselines"].values()):
            assert all(math.isfinite(value) for value in scores.values())
        assert metrics["dataset"] == line["dataset"]
        decision = whole_copy.read_json(f"reports/decisions/{model}.json")
        assert decision["decision"] in ("promoted", "not promoted")
        assert decision["reason"]
        assert re.search(rf">\s*{model}\s*<", page)


def test_outputs_contain_no_path_no_date_and_no_run_id(whole_pipeline: Clone) -> None:
    runs = [run.encode() for (run,) in whole_pipeline.query("SELECT run_uuid FROM runs")]
    assert len(runs) >= len(MODELS)
    date = re.compile(rb"\b%d-[01]\d-[0-3]\d" % datetime.now().year)
    folder = str(whole_pipeline.path.parent).encode()

    files = [whole_pipeline.path / "dvc.lock"]
    for out in out_digests(whole_pipeline):
        path = whole_pipeline.path / out
        paths = path.rglob("*") if path.is_dir() else [path]
        files += [path for path in paths if path.is_file()]
    assert len(files) > 15
    for file in files:
        content = file.read_bytes()
        assert folder not in content, f"{file} contains the path of its clone"
        assert not date.search(content), f"{file} contains today's year in a date"
        assert not any(run in content for run in runs), f"{file} contains the id of an MLflow run"


# --- which stages an edit makes stale -----------------------------------------------------------

Change = tuple[str, Callable[[str], str]]  # a file, and the function that changes its text


def add_comment(text: str) -> str:
    return text + "\n# a comment\n"


def replace_first(pattern: str, new: str) -> Callable[[str], str]:
    """A change that replaces the first match of `pattern`, which must be in the text."""

    def change(text: str) -> str:
        text, replaced = re.subn(pattern, new, text, count=1, flags=re.MULTILINE)
        assert replaced, f"nothing matches {pattern}"
        return text

    return change


def stages(names: str, keys: Iterable[str]) -> set[str]:
    return {f"{name}@{key}" for name in names.split() for key in keys}


def in_datasets(change: Callable[[str], str], folder: str = "dataset") -> dict[str, Change]:
    """The same change in the conf of every data set, by data set."""
    return {name: (f"conf/{folder}/{name}.yaml", change) for name in DATASETS}


def in_models(change: Callable[[str], str]) -> dict[str, Change]:
    """The same change in the conf of every model, by model."""
    return {name: (f"conf/model/{name}.yaml", change) for name in MODELS}


def in_families(change: Callable[[str], str]) -> dict[str, Change]:
    """The same change in the family of every model, by model."""
    return {
        name: (f"src/sextant/families/{line['family']}.py", change) for name, line in MODELS.items()
    }


# Edits of a model's or a data set's files, the stages of that model or data set that they make
# stale, and the key that these read; None where they read the file.
EDITS: dict[str, tuple[dict[str, Change], str, str | None]] = {
    "url": (
        in_datasets(replace_first(r"url: \S+", "url: https://example.org/x")),
        "pull prepare",  # these depend on the whole file
        "sources",
    ),
    "suite": (in_datasets(add_comment, "expectations"), "validate", None),
    "split": (
        in_datasets(replace_first(r"^(split:\n.*\n *\w+: )\S+", r"\g<1>123")),
        "pull prepare",
        "split",
    ),
    # The comparison with the baselines is by `gate.metric`. DVC cannot track that key alone, since
    # most confs leave it out.
    "gate": (in_models(replace_first("margin: .*", "margin: 0.0123")), "evaluate register", "gate"),
    "decide": (
        in_models(replace_first("^schedule:", r"\g<0>\n  decide: {threshold: f1}")),
        "train",
        "schedule",
    ),
    "optimizer": (in_models(replace_first(r"  lr: \d\S*", "  lr: 0.0123")), "train", "optimizer"),
    "comment": (in_models(add_comment), "", None),
    "other budget": (in_models(replace_first("^  full:.*", r"\g<0> # more")), "", None),
    "code": (in_families(add_comment), "train evaluate register", None),
}
# Edits of shared files, all stages that they make stale, and the key that these read.
SHARED_EDITS: dict[str, tuple[Change, set[str], str | None]] = {
    "report": (("src/sextant/report.py", add_comment), {"report"}, None),
    "tracking": (("src/sextant/tracking/registry.py", add_comment), set(), None),
    "doctor": (("src/sextant/commands/doctor.py", add_comment), set(), None),
    "source": (
        ("params.yaml", replace_first("^source: .*", "source: canonical")),
        stages("pull", DATASETS),
        "source",
    ),
    "seed": (
        ("params.yaml", replace_first("^seed: .*", "seed: 43")),
        stages("train", MODELS),
        "seed",
    ),
    "hardware": (
        ("conf/trainer.yaml", replace_first("^accelerator: .*", "accelerator: cpu")),
        stages("train", MODELS),
        "accelerator",
    ),
}


def apply_changes(clone: Clone, *changes: Change) -> None:
    for file, change in changes:
        path = clone.path / file
        path.write_text(change(path.read_text()))


Reasons = dict[str, dict[str, Any]]  # by stage and file: `modified`, or what changed of its keys


def add_reasons(reasons: Reasons, names: set[str], file: str, key: str | None) -> None:
    """Add to each stage that a file is modified, or a key of a YAML file."""
    for name in names:
        files = reasons.setdefault(name, {})
        if key is None:
            files[file] = "modified"
        else:
            files.setdefault(file, {})[key] = "modified"


def test_an_edit_makes_the_stages_stale_that_read_it_and_no_other(whole_copy: Clone) -> None:
    """All edits are made at once, and each stage must list the files and keys that it reads."""
    changes: list[Change] = []
    expected: Reasons = {}
    for edits, names, key in EDITS.values():
        for name, change in edits.items():
            changes.append(change)
            add_reasons(expected, stages(names, [name]), change[0], key)
    for change, shared, key in SHARED_EDITS.values():
        changes.append(change)
        add_reasons(expected, shared, change[0], key)

    before = {file: (whole_copy.path / file).read_text() for file, _ in changes}
    try:
        apply_changes(whole_copy, *changes)
        assert whole_copy.stale_stages() == expected
    finally:
        for file, text in before.items():
            (whole_copy.path / file).write_text(text)


# --- a run after edits, and DVC's tables --------------------------------------------------------


def dvc_json(clone: Clone, *command: str) -> Any:
    """The output of `dvc … --json`, which must print no warning."""
    done = clone.run("dvc", *command, "--json")
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.slow(minutes=1)
def test_a_repro_after_edits_runs_the_stale_stages_and_gives_the_same_bytes(clone: Clone) -> None:
    before = out_digests(clone)
    decision = clone.read_json("reports/decisions/ann.json")

    # The file at the new address is the same, the version is judged again by the new gate, and the
    # edited report writes the same page.
    edits = [EDITS["url"][0]["churn"], EDITS["gate"][0]["ann"], SHARED_EDITS["report"][0]]
    apply_changes(clone, *edits)
    assert sorted(clone.repro()) == [
        "evaluate@ann", "prepare@churn", "pull@churn", "register@ann", "report",
    ]  # fmt: skip
    assert out_digests(clone) == before
    judged = clone.read_json("reports/decisions/ann.json")
    assert judged["decision"] == decision["decision"] == "promoted"
    assert "judged again" in judged["reason"] and "0.0123 now" in judged["reason"]
    assert len(clone.versions()) == 1

    # A comment in a family trains again. The bytes are the same, so the report does not run.
    apply_changes(clone, EDITS["code"][0]["ann"])
    assert clone.repro() == ["train@ann", "evaluate@ann", "register@ann"]
    assert out_digests(clone) == before
    assert clone.changed() == [
        "conf/dataset/churn.yaml",
        "conf/model/ann.yaml",
        "dvc.lock",
        "src/sextant/families/ann.py",
        "src/sextant/report.py",
    ]

    params = dvc_json(clone, "params", "diff")["conf/model/ann.yaml"]
    assert list(params) == ["gate.margin"]
    assert params["gate.margin"]["new"] == 0.0123


def test_dvc_shows_metrics_params_and_curves(whole_copy: Clone, tmp_path: Path) -> None:
    table = dvc_json(whole_copy, "metrics", "show")[""]["data"]["reports/metrics/ann.json"]["data"]
    metrics = whole_copy.read_json("reports/metrics/ann.json")
    assert table == {key: value for key, value in metrics.items() if not isinstance(value, list)}
    diff = dvc_json(whole_copy, "metrics", "diff", "--all")["reports/metrics/ann.json"]
    accuracy = table["test"]["accuracy"]
    assert diff["test.accuracy"]["old"] == accuracy
    assert diff["test.accuracy"]["new"] == accuracy

    workspace = dvc_json(whole_copy, "exp", "show")[0]["data"]
    assert workspace["metrics"]["reports/metrics/ann.json"]["data"] == table
    confs = [*in_datasets(add_comment).values(), *in_models(add_comment).values()]
    for file in ["conf/trainer.yaml", *(file for file, _ in confs)]:
        assert "error" not in workspace["params"][file]
    assert workspace["params"]["conf/model/ann.yaml"]["data"]["optimizer"]["lr"] == 0.002

    done = whole_copy.run("dvc", "plots", "show", "-o", str(tmp_path / "plots"))
    assert done.stderr == ""
    page = (tmp_path / "plots/index.html").read_text()
    _, *epochs = (whole_copy.path / "reports/curves/ann.csv").read_text().splitlines()
    for epoch in epochs:
        val_loss = epoch.split(",")[2]
        assert val_loss[:12] in page
    for figure in ("01-roc", "02-calibration", "03-confusion"):
        (name,) = re.findall(rf'src="([^"]*ann_{figure}\.svg)"', page)
        assert (tmp_path / "plots" / name).read_text().startswith("<?xml")
