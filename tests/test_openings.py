"""A further model, a team's table, and a new kind, task and family: the files that each needs, and
the stages that run.

They are added to one clone, one after the other. Their files are in openings/<opening>/, under
their paths in the clone. The files of the table, and the commands from the file to a champion, are
those of docs/your-data.md. The kind, the task and the family are copies of templates/.
"""

import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pages
import pandas as pd
import pytest
import yaml
from conftest import PYTEST, ROOT, Clone

OPENINGS = Path(__file__).parent / "openings"
CHURN_SMALL = {"family": "ann", "task": "classification", "dataset": "churn", "kind": "tabular"}
# What is added, the files with tests that find it in conf/, params.yaml or the package, and the
# tests in them that read a list as a whole. The others are one test for each entry of a list.
ADDED = ("churn_small", "loans", "plane", "slope")
DISCOVERING = (
    *("check", "config", "docs", "dvc_yaml", "layout", "plugins", "prepare", "saved_model"),
    "validate",
)
READING = (
    *("test_dvc_yaml", "test_layout", "test_plugins", "listed", "their_confs"),
    *("every_family", "each_family", "every_suite", "suites"),
)
# The path of each template's copy in the clone.
COPIES = {
    "kind": "src/sextant/kinds/points",
    "task": "src/sextant/tasks/estimate",
    "family.py": "src/sextant/families/line.py",
}


def add_opening(clone: Clone, opening: str, **lines: Mapping[str, Any]) -> list[str]:
    """Copy the files of an opening into the clone, and add its lines to params.yaml.

    Returns the paths of the files.
    """
    folder = OPENINGS / opening
    files = []
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            file = str(path.relative_to(folder))
            assert not (clone.path / file).exists()
            shutil.copy(path, clone.path / file)
            files.append(file)
    pages.add_lines(clone.path, lines)
    return files


def instantiate_templates(clone: Clone) -> list[str]:
    """Copy the templates into the clone's package, with names filled in; return their paths."""
    files = []
    for template, copy in COPIES.items():
        source = clone.path / "templates" / template
        if source.is_file():
            copies = {source: copy}
        else:
            copies = {path: f"{copy}/{path.relative_to(source)}" for path in source.rglob("*.py")}
        for path, file in copies.items():
            text = path.read_text()
            assert "todo" in text or not text, f"{path} has no todo"
            text = text.replace("kinds.template", "kinds.points")
            text = text.replace("class Template", "class Line")
            (clone.path / file).parent.mkdir(parents=True, exist_ok=True)
            (clone.path / file).write_text(text)
            files.append(file)
    return files


def check_and_commit(clone: Clone, model: str, *files: str) -> None:
    """Git sees the new files and the outputs of the run; the model has a decision and is in the
    report.
    """
    changed = [*files, "params.yaml", "dvc.lock", f"reports/metrics/{model}.json"]
    changed.append(f"reports/processors/{model}.json")
    assert clone.changed() == sorted(changed)
    assert clone.read_json(f"reports/decisions/{model}.json")["reason"]
    assert re.search(rf">\s*{model}\s*<", (clone.path / "reports/index.html").read_text())
    clone.commit(model)


def write_loans(path: Path, rows: int = 700) -> None:
    """A table of loans: a high income for the age, or a house, makes repayment likely."""
    rng = random.Random(3)
    lines = ["loan,branch,age,income,purpose,repaid"]
    for loan in range(1001, 1001 + rows):
        age = rng.randint(19, 79)
        purpose = rng.choice(["car", "house", "school"])
        income = 50 * rng.randint(300, 900)
        score = income / 1000 - 0.5 * age + 8 * (purpose == "house") + rng.gauss(0, 2)
        branch = rng.choice(["North", "South"])
        repaid = "yes" if score > 9 else "no"
        lines.append(f"{loan},{branch},{age},{income},{purpose},{repaid}")
    path.write_text("\n".join(lines) + "\n")


def stages(model: str, *datasets: str) -> list[str]:
    """The stages of new data sets and of a model, and the report, sorted."""
    names = ["report"]
    names += [f"{stage}@{name}" for stage in ("pull", "validate", "prepare") for name in datasets]
    names += [f"{stage}@{model}" for stage in ("train", "evaluate", "register")]
    return sorted(names)


@pytest.mark.slow(minutes=3)
def test_every_opening_needs_its_own_files_and_runs_its_own_stages(
    clone: Clone, tmp_path: Path
) -> None:
    # A further model on known data: one conf and one line.
    files = add_opening(clone, "known_data", models={"churn_small": CHURN_SMALL})
    assert len(files) == 1
    assert sorted(clone.repro()) == stages("churn_small")
    check_and_commit(clone, "churn_small", *files)

    # A team's table, from a mirror, while the other data are twins: three confs and two lines.
    write_loans(tmp_path / "loans.csv")
    files = pages.write_confs("a-table", clone.path)
    assert len(files) == 3
    inputs = pd.read_csv(tmp_path / "loans.csv").head(13)
    inputs[["age", "income", "purpose"]].to_csv(clone.path / "new-loans.csv", index=False)
    for command in pages.commands(pages.YOUR_DATA, "a-table"):
        printed = clone.run("bash", "-c", command, SEXTANT_MIRROR=str(tmp_path)).stdout
        if command == "make repro":
            ran = re.findall(r"^\[\d+/\d+\] Running stage '(\S+)'", printed, re.MULTILINE)
            assert sorted(ran) == stages("loans", "loans")
    assert len(pd.read_csv(clone.path / "answers.csv")) == len(inputs)
    for name in ("new-loans.csv", "answers.csv"):
        (clone.path / name).unlink()
    metrics = clone.read_json("reports/metrics/loans.json")
    assert metrics["source"] == "mirror"
    assert metrics["test"]["accuracy"] > metrics["baselines"]["majority"]["accuracy"]
    profile = clone.read_json("data/prepared/loans/profile.json")
    assert sum(profile["rows"].values()) == 700
    assert clone.champions()["sextant-loans"] == "1"
    assert clone.read_json("reports/metrics/ann.json")["source"] == "embedded"
    check_and_commit(clone, "loans", *files, "reports/validation/loans.json")

    # A further kind, task and family, from the templates: two folders and a file.
    files = instantiate_templates(clone)
    slope = {"family": "line", "task": "estimate", "dataset": "plane", "kind": "points"}
    files += add_opening(clone, "templates", datasets={"plane": "points"}, models={"slope": slope})
    assert sorted(clone.repro()) == stages("slope", "plane")
    metrics = clone.read_json("reports/metrics/slope.json")
    assert metrics["test"]["rmse"] < 0.2 < metrics["baselines"]["mean"]["rmse"]
    check_and_commit(clone, "slope", *files, "reports/validation/plane.json")

    assert clone.repro() == []
    names = ["sextant-ann-twin", "sextant-churn_small-twin", "sextant-loans", "sextant-slope-twin"]
    assert [name for name, _, judged in clone.versions() if judged] == names

    # With all of these in one clone, beside all models of the repository, its fast tests pass. Only
    # those run that read the lists, or test what was added; the others cannot see it.
    params = (ROOT / "params.yaml").read_text()
    with_openings = yaml.safe_load((clone.path / "params.yaml").read_text())
    (clone.path / "params.yaml").write_text(params)
    for key in ("datasets", "models"):
        listed = yaml.safe_load(params)[key]
        added = {name: line for name, line in with_openings[key].items() if name not in listed}
        pages.add_lines(clone.path, {key: added})
    clone.stage("check")
    # A model that was added has no page in docs/.
    selected = f"({' or '.join((*READING, *ADDED))}) and not has_a_page"
    options = ["-q", "-x", "-m", "not slow", "-n", "0", "-k", selected]
    # The fork server has imported plugins of pytest.
    options += ["-W", "ignore:Module already imported so cannot be rewritten"]
    files = [f"tests/test_{name}.py" for name in DISCOVERING]
    files.append("tests/families/test_models.py")
    clone.run(*PYTEST, *options, *files)
