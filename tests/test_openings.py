"""The three openings: what a further model, an own table and a new family cost, and no more.

In one clone, one after the other; the files that each adds lie in openings/<opening>/ as they come to lie in the clone.
"""

import random
import re
import shutil
from pathlib import Path

import pytest
from conftest import Clone

from sextant.files import sha256

OPENINGS = Path(__file__).parent / "openings"


def add(clone: Clone, opening: str, *lines: tuple[str, str]) -> list[str]:
    """Copy the files of an opening into the clone, and add lines below keys of params.yaml; the files by name."""
    folder = OPENINGS / opening
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    for file in files:
        assert not (clone.path / file).exists()
        shutil.copy(folder / file, clone.path / file)
    params = clone.path / "params.yaml"
    for key, line in lines:
        text, found = re.subn(rf"^{key}:.*\n", rf"\g<0>  {line}\n", params.read_text(), flags=re.MULTILINE)
        assert found == 1
        params.write_text(text)
    return [str(file) for file in files]


def check(clone: Clone, model: str, *written: str) -> None:
    """Git sees what was written, params.yaml, the lock and the small reports; the model was judged and is shown."""
    produced = ["params.yaml", "dvc.lock", f"reports/metrics/{model}.json"]
    assert clone.changed() == sorted([*written, *produced])
    assert clone.read_json(f"reports/decisions/{model}.json")["reason"]
    assert re.search(rf">\s*{model}\s*<", (clone.path / "reports/index.html").read_text())
    clone.commit(model)


def write_votes(path: Path, rows: int = 200) -> None:
    """Two parties that vote apart more and more from the first vote to the last; now and then somebody is absent."""
    dice = random.Random(3)
    path.parent.mkdir()
    with path.open("w") as stream:
        for _ in range(rows):
            party = dice.choice(["left", "right"])
            yes = [0.5 + (0.03 if party == "left" else -0.03) * vote for vote in range(16)]
            votes = ["?" if dice.random() < 0.05 else "y" if dice.random() < share else "n" for share in yes]
            print(party, *votes, sep=",", file=stream)


def of(model: str, *datasets: str) -> list[str]:
    """The stages of a model, of new data sets before it, and the report."""
    data = [f"{stage}@{dataset}" for dataset in datasets for stage in ("pull", "validate", "prepare")]
    return [*data, *(f"{stage}@{model}" for stage in ("train", "evaluate", "register")), "report"]


@pytest.mark.slow
def test_three_openings_cost_what_they_must_and_no_more(road: Clone, tmp_path: Path) -> None:
    # A further model on known data: one conf, one line.
    files = add(road, "known_data", ("models", "churn_small: {family: ann, dataset: churn}"))
    assert len(files) == 1
    assert sorted(road.repro()) == sorted(of("churn_small"))
    check(road, "churn_small", *files)

    # An own table, from a source of its own beside the twins: three confs, a word and a line.
    table = tmp_path / "mirror/politics/votes.data"
    table.parent.parent.mkdir()
    write_votes(table)
    lines = ("datasets", "- votes"), ("models", "votes: {family: ann, dataset: votes}")
    files = add(road, "own_table", *lines)
    assert len(files) == 3
    pin = f"path: politics/votes.data\n      bytes: {table.stat().st_size}\n      sha256: {sha256(table)}"
    road.edit("conf/dataset/votes.yaml", "path: politics/votes.data", pin)
    assert sorted(road.repro(SEXTANT_MIRROR=str(tmp_path / "mirror"))) == sorted(of("votes", "votes"))
    metrics = road.read_json("reports/metrics/votes.json")
    assert (
        metrics["source"] == "mirror"
        and sum(road.read_json("data/prepared/votes/profile.json")["rows"].values()) == 200
    )
    assert metrics["test"]["accuracy"] > metrics["baselines"]["majority"]["accuracy"]
    assert road.read_json("reports/metrics/ann.json")["source"] == "embedded"
    check(road, "votes", *files, "reports/validation/votes.json")

    # A new family: one module, one conf, one line.
    files = add(road, "new_family", ("models", "line: {family: line, dataset: votes}"))
    assert len(files) == 2
    assert sorted(road.repro()) == sorted(of("line"))
    check(road, "line", *files)

    assert road.repro() == []
    names = ["sextant-ann-twin", "sextant-churn_small-twin", "sextant-line", "sextant-votes"]
    assert [name for name, _, judged in road.versions() if judged] == names
