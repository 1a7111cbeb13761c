"""The pages: every command in them runs, every name, link and figure in them is there.

make runs each command with a `python` that says how it was called; what it would have called is then run for real, here
or in the test that RUN names. The table of docs/your-data.md is run from file to champion in test_openings.py.
"""

import ast
import hashlib
import io
import json
import re
import shutil
import socket
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pages
import pandas as pd
import pytest
import twins
import yaml
from conftest import ROOT, Clone
from PIL import Image
from test_makefile import MAKEFILE, TARGETS, make, ready

from sextant import config, pin, prepare, pull, validate
from sextant.data import PARTS, tabular

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
FAMILIES = list(PARAMS["models"])
OWN = [
    "pictures",
    "ratings",
    "a-series",
]  # the sections of the page on one's own data, beside the table
COMMANDS = {"make", "dvc", "python", ".venv/bin/pre-commit", "source", "cp", "export"}

TEAM = (
    "tests/test_remote.py::test_a_fresh_clone_pulls_and_registers_and_moves_no_champion_of_the_team"
)
SHOWN = "tests/test_experiments.py::test_dvc_shows_what_differs_and_no_more"
ASKED = "tests/test_answers.py::test_raw_files_are_answered_from_the_command_line_as_in_python"
BY_HAND = "tests/test_train.py::test_by_hand_it_trains_into_scratch_the_same_every_time"
TABLE = "tests/test_openings.py::test_three_openings_cost_what_they_must_and_no_more"
HERE, OTHERS = (
    "tests/test_docs.py::test_what_no_other_test_runs",
    "tests/test_docs.py::test_data_of_ones_own_are_prepared",
)
RUN = {  # what a command comes to: where that is run for real, and by which words
    "dvc repro": ("tests/conftest.py::chain", "clone.repro()"),
    "sextant.repro": ("tests/conftest.py::twice", '"make", "repro"'),
    "dvc exp run": ("tests/conftest.py::experimented", '"dvc", "exp", "run"'),
    "dvc exp show": ("tests/test_experiments.py::shown", '"dvc", "exp", "show"'),
    "dvc metrics diff": (SHOWN, '"dvc", "metrics", "diff"'),
    "dvc plots diff": (SHOWN, '"dvc", "plots", "diff"'),
    "dvc push": (TEAM, '"dvc", "push"'),
    "dvc pull": (TEAM, '"dvc", "pull"'),
    "dvc remote add": (TEAM, '"make", "remote"'),
    "sextant.config check": ("tests/conftest.py::twice", '"make", "repro"'),
    "sextant.leaderboard": ("tests/conftest.py::twice", '"make", "repro"'),
    "sextant.register --write": (TEAM, '"make", "register"'),
    "sextant.register promote": ("tests/test_remote.py::move", '"promote"'),
    "sextant.register rollback": ("tests/test_remote.py::move", '"rollback"'),
    "sextant.predict": (ASKED, "predict.main("),
    "sextant.serve": ("tests/test_serve.py::service", '"sextant.serve"'),
    "sextant.pin": (TABLE, "pages.commands("),
    "sextant.train": (BY_HAND, "train.main("),
    "sextant.retrain": ("tests/test_retrain.py::test_retraining_played", "team.retrain("),
    "sextant.doctor": (HERE, '"make", "doctor"'),
    "sextant.ui": (HERE, '"make", "ui"'),
    "source": (HERE, "source .venv/bin/activate"),
    "cp": (OTHERS, "shutil.copy("),
    "export": (TABLE, "SEXTANT_MIRROR="),
    # What runs this test, and what is run beside it.
    "pytest": (".github/workflows/pull-request.yml", "run: make test"),
    "ruff": (".github/workflows/pull-request.yml", "run: make lint"),
    "mypy": (".github/workflows/pull-request.yml", "run: make lint"),
}

EVERY = {command: page for page in pages.PAGES for command in pages.commands(page)}


def test_there_are_pages_with_commands() -> None:
    assert {f"docs/{name}.md" for name in [*FAMILIES, "row", "registry", "your-data"]} <= set(
        pages.PAGES
    )
    assert all(pages.commands(page) for page in pages.PAGES) and len(EVERY) > 40


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose tools only say how they were called."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    ready(folder)
    for name in ("ruff", "mypy"):
        (folder / ".venv/bin" / name).write_text(f'#!/bin/sh\necho "[-m][{name}]"\n')
        (folder / ".venv/bin" / name).chmod(0o755)
    (folder / "mlflow.db").touch()
    return folder


def calls(command: str, bare: Path) -> list[str]:
    """What a command comes to: the modules that make calls with their arguments, or the command itself."""
    words, environment = pages.without_environment(command)
    assert words[0] in COMMANDS, f"`{command}` is no command that is known here"
    if words[0] == "make":
        done = make(*words[1:], folder=bare, **dict(word.split("=", 1) for word in environment))
        assert done.returncode == 0, f"{command}: {done.stderr}"
        said = [
            re.findall(r"\[([^\]]*)\]", line)[1:]
            for line in done.stdout.splitlines()
            if line.startswith("[-m]")
        ]
        return [" ".join(one) for one in said]
    return [" ".join(words[2:] if words[:2] == ["python", "-m"] else words)]


def names() -> set[str]:
    """The models and data sets of params.yaml, and those that the page on one's own data adds."""
    found = {*PARAMS["models"], *PARAMS["datasets"]}
    for section in ["a-table", *OWN]:
        added = yaml.safe_load(pages.confs(section)["params.yaml"])
        found |= {*added["models"], *added["datasets"]}
    return found


@pytest.mark.parametrize("command", EVERY)
def test_a_command_comes_to_what_a_test_runs(command: str, bare: Path) -> None:
    for call in calls(command, bare):
        assert any(f"{call} ".startswith(f"{key} ") for key in RUN), (
            f"{EVERY[command]}: no test runs `{call}`"
        )
        asked = re.findall(r"(?:\b(?:model|dataset)=|@)(\w+)", call)
        assert set(asked) <= names(), f"{EVERY[command]}: `{command}`"


@pytest.mark.parametrize("key", RUN)
def test_what_a_command_comes_to_is_run_where_it_says(key: str) -> None:
    place, words = RUN[key]
    file, _, function = place.partition("::")
    source = (ROOT / file).read_text(encoding="utf-8")
    if function:
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        (source,) = [
            str(ast.get_source_segment(source, node)) for node in nodes if node.name == function
        ]
    assert words in source


@pytest.mark.parametrize("page", pages.PAGES)
def test_a_command_in_a_sentence_has_its_target_and_variables(page: str) -> None:
    for span in pages.spans(page):
        target, *words = [*span.split()[1:], ""] if span.startswith("make ") else [""]
        assert not span.startswith("make ") or target in TARGETS, f"{page}: `{span}`"
        usage = re.search(rf"^{target}:.* ## (.*)\|", MAKEFILE, re.MULTILINE) if target else None
        for name in re.findall(r"\b([A-Z_]+)=", " ".join(words)):
            assert usage and f"{name}=" in usage[1], f"{page}: `{span}`"
        for module in re.findall(r"\bpython -m sextant\.(\w+)", span):
            assert (ROOT / f"src/sextant/{module}.py").is_file(), f"{page}: `{span}`"


SETTINGS = [
    *re.findall(r"-S 'conf/model/(\w+)\.yaml:([^']+)'", "\n".join(EVERY)),
    *re.findall(r"sextant\.train model=(\w+) .*\bmodel\.(\S+)", "\n".join(EVERY)),
]


def test_the_settings_that_a_page_tries_are_allowed(workspace: Path) -> None:
    assert len(SETTINGS) >= 3
    for model, setting in SETTINGS:
        tried = config.model(model, [f"model.{setting}"])
        assert tried != config.model(model)
        config.check_model(tried)


@pytest.mark.slow
def test_what_no_other_test_runs(
    road: Clone, process: Callable[..., subprocess.Popen[str]]
) -> None:
    said = road.run(
        "bash", "-c", "source .venv/bin/activate && command -v dvc python"
    ).stdout.split()
    assert [Path(path).name for path in said] == ["dvc", "python"]
    doctor = road.run("make", "doctor").stdout
    assert "registered version(s)" in doctor and "broken" not in doctor
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    page = process("make", "ui", f"PORT={port}", cwd=road.path, env=road.env)
    for _ in range(300):
        try:
            assert b"MLflow" in urlopen(f"http://127.0.0.1:{port}", timeout=10).read()
            break
        except OSError:
            assert page.poll() is None
            time.sleep(0.2)
    else:
        pytest.fail("`make ui` did not answer within a minute")


# --- data of one's own ------------------------------------------------------------------------------------------------


def leaves(folder: Path) -> None:
    rng = np.random.default_rng(3)
    with zipfile.ZipFile(folder / "leaves.zip", "w") as archive:
        for number in range(120):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (17, 23, 3), np.uint8)).save(file, "PNG")
            archive.writestr(f"leaves/{('oak', 'beech')[number % 2]}/{number}.png", file.getvalue())


def books(folder: Path) -> None:
    rng = np.random.default_rng(3)
    (folder / "books").mkdir()
    pairs = pd.MultiIndex.from_product(
        [range(1, 24), range(1, 14)], names=["reader", "book"]
    ).to_frame(index=False)
    pairs.assign(stars=rng.integers(1, 6, len(pairs))).to_csv(
        folder / "books/ratings.csv", index=False
    )
    titles = pd.DataFrame({"book": range(1, 14)}).assign(
        title=lambda books: "Volume " + books["book"].astype(str)
    )
    titles.to_csv(folder / "books/books.csv", index=False)
    pd.DataFrame({"reader": range(1, 24)}).to_csv(folder / "books/readers.csv", index=False)


def copper(folder: Path) -> None:
    rng = np.random.default_rng(3)
    days = pd.bdate_range("2022-09-01", "2024-01-31")
    prices = 8000 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))
    pd.DataFrame({"Day": days, "Price": prices.round(2)}).to_csv(folder / "copper.csv", index=False)


FILES = {"pictures": leaves, "ratings": books, "a-series": copper}


@pytest.mark.parametrize("section", ["a-table", *OWN])
def test_what_the_page_says_to_write_is_without_fault(section: str, workspace: Path) -> None:
    """All but the pins, which `make pin` writes."""
    for file in pages.write_own(section, workspace):
        if file.startswith("conf/dataset/"):
            (name,) = re.findall(r"(\w+)\.yaml", file)
            conf = config.dataset(name)
            pull.entries(conf, conf.chosen_source)
            validate.check_suite(conf.expectations, file, conf.columns.all)
    for command in pages.commands(pages.OWN, section):
        if command.startswith("cp "):
            shutil.copy(*command.split()[1:])
    for name, line in yaml.safe_load(pages.confs(section)["params.yaml"])["models"].items():
        for budget in ("smoke", "standard", "full"):
            conf = config.model(name, [f"budget={budget}"])
            config.check_model(conf)
        assert conf.family == line["family"]


@pytest.mark.slow
@pytest.mark.parametrize("section", OWN)
def test_data_of_ones_own_are_prepared(
    section: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEXTANT_MIRROR", str(workspace / "mine"))
    monkeypatch.setenv("DVC_STAGE", "as DVC calls them")
    (workspace / "mine").mkdir()
    FILES[section](workspace / "mine")
    pages.write_own(section, workspace)
    run: dict[str, Callable[[str], object]] = {
        "make pin": lambda name: pin.main([f"dataset={name}"]),
        "make prepare": lambda name: [
            stage.main([f"dataset={name}"]) for stage in (pull, validate, prepare)
        ],
    }
    for command in pages.commands(pages.OWN, section):
        if command.startswith("cp "):
            shutil.copy(*command.split()[1:])
        else:
            target, name = command.split(" DATASET=")
            run[target](name)
    pull.check_sources(config.dataset(name))
    rows = json.loads(Path(f"data/prepared/{name}/profile.json").read_text())["rows"]
    assert list(rows) == list(PARTS) and all(rows.values())
    report = json.loads(Path(f"reports/validation/{name}.json").read_text())
    assert report["success"] and report["counts"]["passed"] == len(report["expectations"])


# --- names, links, figures --------------------------------------------------------------------------------------------

MADE = r"(data|models|reports|\.scratch|\.checkpoints|\.venv|mlruns)/|(leaves|books)/|mlflow\.db"


@pytest.mark.parametrize("page", pages.PAGES)
def test_the_paths_that_a_page_names_are_there(page: str) -> None:
    own = {file for section in ["a-table", *OWN] for file in pages.confs(section)}
    for span in pages.spans(page):
        if re.fullmatch(r"\.?[\w.-]+(/[\w.-]+)+/?|\w+\.(py|md|yaml|toml)", span) and not re.match(
            MADE, span
        ):
            places = [ROOT / span, ROOT / "src/sextant" / span, ROOT / "src/sextant/data" / span]
            assert any(place.exists() for place in places) or span in own, (
                f"{page}: `{span}` is not there"
            )


@pytest.mark.parametrize("page", pages.PAGES)
def test_links_and_anchors_resolve(page: str) -> None:
    for link in pages.links(page):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
            assert target.exists(), f"{page} links to {link}"
            assert not anchor or anchor in pages.anchors(str(target.relative_to(ROOT))), (
                f"{page} links to {link}"
            )


def numbers(text: str) -> list[str]:
    return re.findall(r"(?<![\w.])\d+\.\d+", text)


@pytest.mark.parametrize("model", FAMILIES)
def test_the_table_of_the_readme_says_what_the_page_of_the_model_says(model: str) -> None:
    (row,) = re.findall(
        rf"^\| \[`{model}`\]\(docs/{model}\.md\) .*$", pages.text("README.md"), re.MULTILINE
    )
    told = numbers(pages.text(f"docs/{model}.md"))
    assert numbers(row)
    for number in numbers(row):
        digits = len(number.partition(".")[2])
        assert any(f"{float(one):.{digits}f}" == number for one in told), (
            f"{number} is not on the page of {model}"
        )


@pytest.mark.parametrize("model", sorted(path.stem for path in (ROOT / "results").glob("*.md")))
def test_deviations_are_those_of_the_published_results(model: str) -> None:
    results = (ROOT / "results" / f"{model}.md").read_text(encoding="utf-8")
    told = re.findall(r"\d+\.\d+ ± \d+\.\d+", pages.text(f"docs/{model}.md"))
    assert told and all(one in results for one in told)


def test_the_row_that_travels_is_the_first_of_the_twin_and_lies_where_it_says(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    conf, page = twins.conf_of("churn"), " ".join(pages.text("docs/row.md").split())
    raw = twins.raw("churn", tmp_path_factory)
    (shown,) = [block.text for block in pages.blocks("docs/row.md") if block.language == "csv"]
    first = (raw / conf.twin.file).read_text().splitlines()[:2]
    assert shown.splitlines() == first
    key = first[1].split(",")[1]
    (place,) = re.findall(
        rf'`sha256\("0:{key}"\)` read as a number between 0 and 1, is (0\.\d+)', page
    )
    digest = hashlib.sha256(f"0:{key}".encode()).digest()
    assert f"{int.from_bytes(digest[:8], 'big') / 2**64:.4f}" == place
    parts = tabular.split(
        tabular.repair(tabular.read(raw, conf.columns), conf.columns), conf.columns, conf.split
    )
    assert int(key) in set(parts["test"][conf.columns.key])
    for part in ("train", "test"):
        assert f"{len(parts[part]):,} rows" in page
