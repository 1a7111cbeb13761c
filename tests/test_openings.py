"""What a further model, an own table, and a new kind, task and family cost, and no more.

In one clone, one after the other. Their files lie in openings/<opening>/ under the paths that they
get in the clone; those of the table, and the commands that bring it from file to champion, are what
docs/your-data.md shows. The kind, the task and the family are copies of templates/.
"""

import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pages
import pandas as pd
import pytest
import yaml
from conftest import ROOT, Clone

OPENINGS = Path(__file__).parent / "openings"
CHURN_SMALL = {"family": "ann", "task": "classification", "dataset": "churn", "kind": "tabular"}
# What a copy of a template is called, by the path that it is copied to.
COPIES = {
    "kind": "src/sextant/kinds/points",
    "task": "src/sextant/tasks/regression",
    "family.py": "src/sextant/families/line.py",
}


def add(clone: Clone, opening: str, **lines: Any) -> list[str]:
    """Copy the files of an opening into the clone, and add its lines to params.yaml."""
    folder = OPENINGS / opening
    files = [
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    ]
    for file in files:
        assert not (clone.path / file).exists()
        shutil.copy(folder / file, clone.path / file)
    pages.add_lines(clone.path, lines)
    return [str(file) for file in files]


def instantiate_templates(clone: Clone) -> list[str]:
    """Copy the templates into the clone's package, with the names filled in; the files by name."""
    files = []
    for template, copy in COPIES.items():
        source = clone.path / "templates" / template
        for path in [source] if source.is_file() else sorted(source.glob("*.py")):
            target = Path(copy) if source.is_file() else Path(copy) / path.name
            text = path.read_text().replace("kinds.template", "kinds.points")
            assert text.count("todo") > 0 or not text, f"{path} has no todo"
            (clone.path / target).parent.mkdir(exist_ok=True)
            (clone.path / target).write_text(text.replace("class Template", "class Line"))
            files.append(str(target))
    return files


def check(clone: Clone, model: str, *written: str) -> None:
    """Git sees what was written and what a run changes; the model was judged and is shown."""
    produced = ["params.yaml", "dvc.lock", f"reports/metrics/{model}.json"]
    assert clone.changed() == sorted([*written, *produced])
    assert clone.read_json(f"reports/decisions/{model}.json")["reason"]
    assert re.search(rf">\s*{model}\s*<", (clone.path / "reports/index.html").read_text())
    clone.commit(model)


def write_loans(path: Path, rows: int = 700) -> None:
    """Who earns much for their age, or builds a house, repays, with some noise."""
    dice = random.Random(3)
    with path.open("w") as stream:
        print("loan,branch,age,income,purpose,repaid", file=stream)
        for loan in range(1001, 1001 + rows):
            age, purpose = dice.randint(19, 79), dice.choice(["car", "house", "school"])
            income = 50 * dice.randint(300, 900)
            good = income / 1000 - 0.5 * age + 8 * (purpose == "house") + dice.gauss(0, 2) > 9
            print(
                loan,
                dice.choice(["North", "South"]),
                age,
                income,
                purpose,
                "yes" if good else "no",
                sep=",",
                file=stream,
            )


def of(model: str, *datasets: str) -> list[str]:
    """The stages of a model, of new data sets before it, and the report."""
    data = [
        f"{stage}@{dataset}" for dataset in datasets for stage in ("pull", "validate", "prepare")
    ]
    return [*data, *(f"{stage}@{model}" for stage in ("train", "evaluate", "register")), "report"]


@pytest.mark.slow(minutes=3)
def test_every_opening_costs_what_it_must_and_no_more(road: Clone, tmp_path: Path) -> None:
    # A further model on known data: one conf, one line.
    files = add(road, "known_data", models={"churn_small": CHURN_SMALL})
    assert len(files) == 1
    assert sorted(road.repro()) == sorted(of("churn_small"))
    check(road, "churn_small", *files)

    # An own table, from a source of its own beside the twins: three confs, a word and a line.
    write_loans(tmp_path / "loans.csv")
    files = pages.write_confs("a-table", road.path)
    assert len(files) == 3
    rows = pd.read_csv(tmp_path / "loans.csv").head(13)
    rows[["age", "income", "purpose"]].to_csv(road.path / "new-loans.csv", index=False)
    for command in pages.commands(pages.YOUR_DATA, "a-table"):
        said = road.run("bash", "-c", command, SEXTANT_MIRROR=str(tmp_path)).stdout
        if command == "make repro":
            ran = re.findall(r"^\[\d+/\d+\] Running stage '(\S+)'", said, re.MULTILINE)
            assert sorted(ran) == sorted(of("loans", "loans"))
    assert len(pd.read_csv(road.path / "answers.csv")) == len(rows)
    for name in ("new-loans.csv", "answers.csv"):
        (road.path / name).unlink()
    metrics = road.read_json("reports/metrics/loans.json")
    assert (
        metrics["source"] == "mirror"
        and sum(road.read_json("data/prepared/loans/profile.json")["rows"].values()) == 700
    )
    assert metrics["test"]["accuracy"] > metrics["baselines"]["majority"]["accuracy"]
    assert road.champions()["sextant-loans"] == "1"
    assert road.read_json("reports/metrics/ann.json")["source"] == "embedded"
    check(road, "loans", *files, "reports/validation/loans.json")

    # A further kind, task and family, from the templates: a folder, a folder and a file.
    files = instantiate_templates(road)
    files += add(
        road,
        "templates",
        datasets={"plane": "points"},
        models={
            "slope": {"family": "line", "task": "regression", "dataset": "plane", "kind": "points"}
        },
    )
    assert sorted(road.repro()) == sorted(of("slope", "plane"))
    metrics = road.read_json("reports/metrics/slope.json")
    assert metrics["test"]["rmse"] < 0.2 < metrics["baselines"]["mean"]["rmse"]
    check(road, "slope", *files, "reports/validation/plane.json")

    assert road.repro() == []
    names = ["sextant-ann-twin", "sextant-churn_small-twin", "sextant-loans", "sextant-slope-twin"]
    assert [name for name, _, judged in road.versions() if judged] == names

    # With all of these in one clone, beside the models of the repository, its fast tests pass.
    params = ROOT.joinpath("params.yaml").read_text()
    models = yaml.safe_load((road.path / "params.yaml").read_text())
    (road.path / "params.yaml").write_text(params)
    for key in ("datasets", "models"):
        listed = yaml.safe_load(params)[key]
        further = {name: value for name, value in models[key].items() if name not in listed}
        pages.add_lines(road.path, {key: further})
    road.run(sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-n", "0")
