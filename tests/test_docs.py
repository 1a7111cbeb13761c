"""The pages: every command in them runs, and every name, link and number in them is right.

make is run with a `python` that only prints its arguments. Each call that it prints is then run for
real, here or in the test that RUN names. test_openings.py runs the section on a table of
docs/your-data.md, from the file to a champion.
"""

import ast
import functools
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

import listed
import numpy as np
import pages
import pandas as pd
import pytest
import sources
import twins
import yaml
from conftest import ROOT, Clone, load_yaml
from PIL import Image
from test_makefile import MAKEFILE, TARGETS, make, make_environment

from sextant import __main__, check, config, paths, plugins, prepare, pull, validate
from sextant.commands import pin
from sextant.kinds.parts import PARTS
from sextant.kinds.tabular import rows as tabular

FAMILIES = plugins.names("families")
DATA_SECTIONS = ["a-table", "pictures", "ratings", "a-series"]  # of docs/your-data.md
COMMANDS = {"make", "dvc", "python", ".venv/bin/pre-commit", "source", "cp", "export"}

CI_FILES = "tests/test_ci.py::test_the_linters_have_no_findings"
TEAM = "tests/test_remote.py::test_a_fresh_clone_pulls_and_registers_and_leaves_the_teams_champion"
EXPERIMENTS = "tests/test_experiments.py::test_dvc_shows_the_differences_and_nothing_else"
PREDICT = "tests/test_answers.py::test_the_command_line_gives_the_answers_of_python"
TUNE = "tests/commands/test_tune.py::test_a_killed_search_loses_no_finished_trial"
TRAIN = "tests/test_train.py::test_by_hand_it_trains_into_scratch_the_same_every_time"
OPENINGS = "tests/test_openings.py::test_every_opening_needs_its_own_files_and_runs_its_own_stages"
REMAINING = "tests/test_docs.py::test_the_remaining_commands_run"
SHELF = "tests/commands/test_add.py::test_a_model_is_added_runs_and_is_removed"
LOCK = "tests/test_lock.py::test_the_lock_is_written_and_changes_are_printed"
YOUR_DATA = "tests/test_docs.py::test_the_data_of_a_section_can_be_prepared"
RUN = {  # a call: the test or fixture that runs it, and a part of its source that shows it
    "dvc repro": ("tests/conftest.py::pipeline", "clone.repro("),
    "dvc exp run": ("tests/conftest.py::with_experiment", '"dvc", "exp", "run"'),
    "dvc exp show": ("tests/test_experiments.py::exp_show", '"dvc", "exp", "show"'),
    "dvc metrics diff": (EXPERIMENTS, '"dvc", "metrics", "diff"'),
    "dvc plots diff": (EXPERIMENTS, '"dvc", "plots", "diff"'),
    "dvc push": (TEAM, '"dvc", "push"'),
    "dvc pull": (TEAM, '"dvc", "pull"'),
    "dvc remote add": (TEAM, '"make", "remote"'),
    "sextant check": ("tests/conftest.py::two_versions", '"make", "repro"'),
    "sextant repro": ("tests/conftest.py::two_versions", '"make", "repro"'),
    "sextant leaderboard": ("tests/conftest.py::two_versions", '"make", "repro"'),
    "sextant register --write": (TEAM, '"make", "register"'),
    "sextant promote": ("tests/test_remote.py::make_champion", '"promote"'),
    "sextant rollback": ("tests/test_remote.py::make_champion", '"rollback"'),
    "sextant history": (
        "tests/tracking/test_promotions.py::test_the_history_has_every_change_and_loses_none",
        "history.history(",
    ),
    "sextant compare": (
        "tests/commands/test_compare.py::test_the_comment_has_both_leaderboards_and_what_changed",
        '"make", "compare"',
    ),
    "sextant seeds": (
        "tests/commands/test_seeds.py::test_seeds_are_children_of_a_run_with_their_mean",
        '"make", "train"',
    ),
    "sextant gc": (
        "tests/commands/test_gc.py::test_only_what_nothing_refers_to_is_deleted",
        "gc.main(",
    ),
    "sextant merge-lock": (
        "tests/commands/test_merge_lock.py::test_two_branches_that_trained_are_merged",
        '"merge-lock"',
    ),
    "sextant predict": (PREDICT, "predict.main("),
    "sextant serve": ("tests/commands/test_serve.py::service", '"serve"'),
    "sextant new": ("tests/commands/test_new.py::made", "new.new("),
    "sextant add": (SHELF, '"make", "add"'),
    "sextant remove": (SHELF, '"make", "remove"'),
    "sextant pin": (OPENINGS, "pages.commands("),
    "sextant tune": (TUNE, '"make", "tune"'),
    "sextant train": (TRAIN, "train.main("),
    "sextant retrain": (
        "tests/commands/test_retrain.py::test_retraining_step_by_step",
        "team.retrain(",
    ),
    "sextant doctor": (REMAINING, '"make", "doctor"'),
    "sextant ui": (REMAINING, '"make", "ui"'),
    "source": (REMAINING, "source .venv/bin/activate"),
    "cp": (YOUR_DATA, "shutil.copy("),
    "export": (OPENINGS, "SEXTANT_MIRROR="),
    # The commands that run the tests, and the ones that CI runs beside them.
    "pytest": (".github/workflows/pull-request.yml", "run: make test"),
    "ruff": (".github/workflows/pull-request.yml", "run: make lint"),
    "mypy": (".github/workflows/pull-request.yml", "run: make lint"),
    "actionlint": (CI_FILES, '"actionlint"'),
    "zizmor": (CI_FILES, '"zizmor"'),
    "hadolint": (CI_FILES, '"hadolint"'),
    "sextant.audit": (".github/workflows/pull-request.yml", "run: make audit"),
    "sextant.lock": (LOCK, "lock.main("),
}

PAGE_OF_COMMAND = {command: page for page in pages.PAGES for command in pages.commands(page)}


def test_each_family_has_a_page_and_pages_have_commands() -> None:
    """A model of params.yaml and of the shelf has a page, and so every family has one."""
    names = [*listed.MODELS, "row", "registry", "your-data"]
    expected = {f"docs/{name}.md" for name in names}
    assert expected <= set(pages.PAGES)
    assert {line["family"] for line in listed.MODELS.values()} == set(FAMILIES)
    assert all(pages.commands(page) for page in pages.PAGES) and len(PAGE_OF_COMMAND) > 40


# --- commands -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose tools only print their arguments."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    make_environment(folder)
    for name in ("ruff", "mypy", "actionlint", "zizmor", "hadolint"):
        (folder / ".venv/bin" / name).write_text(f'#!/bin/sh\necho "[-m][{name}]"\n')
        (folder / ".venv/bin" / name).chmod(0o755)
    (folder / "mlflow.db").touch()
    return folder


def calls(command: str, bare: Path) -> list[str]:
    """The calls that a command makes: those of its target for make, else the command itself."""
    arguments, environment = pages.split_environment(command)
    assert arguments[0] in COMMANDS, f"`{command}` is not a known command"
    if arguments[0] != "make":
        python_module = arguments[:2] == ["python", "-m"]
        return [" ".join(arguments[2:] if python_module else arguments)]
    values = {}
    words = []
    for argument in arguments[2:]:
        name, _, value = argument.partition("=")
        values[f"value_of_{name}"] = value
        words.append(f"{name}=value_of_{name}")
    printed = calls_of_target((arguments[1], *words), tuple(environment.items()), bare)
    made = []
    for call in printed:
        for word, value in values.items():
            call = call.replace(word, value)
        made.append(call)
    return made


@functools.cache
def calls_of_target(
    arguments: tuple[str, ...], environment: tuple[tuple[str, str], ...], bare: Path
) -> list[str]:
    """The calls of a target with names in place of values, for the commands that differ in these.

    A start of make takes longer than all else that is tested of a command.
    """
    process = make(*arguments, folder=bare, **dict(environment))
    assert process.returncode == 0, f"make {' '.join(arguments)}: {process.stderr}"
    lines = [line for line in process.stdout.splitlines() if line.startswith("[-m]")]
    return [" ".join(re.findall(r"\[([^\]]*)\]", line)[1:]) for line in lines]


@functools.cache
def names() -> set[str]:
    """All models and data sets, and those that docs/your-data.md adds."""
    known = {*listed.MODELS, *listed.DATASETS}
    for section in DATA_SECTIONS:
        lines = load_yaml(pages.confs(section)["params.yaml"])
        known |= {*lines["models"], *lines["datasets"]}
    return known


def test_some_test_runs_what_a_command_calls(bare: Path) -> None:
    wrong = []
    for command, page in PAGE_OF_COMMAND.items():
        for call in calls(command, bare):
            if not any(f"{call} ".startswith(f"{key} ") for key in RUN):
                wrong.append(f"{page}: no test runs `{call}`")
            used = re.findall(r"(?:\b(?:model|dataset)=|@)(\w+)", call)
            if not set(used) <= names():
                wrong.append(f"{page}: `{command}` names what is not listed")
    assert not wrong, "\n".join(wrong)


@functools.cache
def functions(file: str) -> dict[str, str]:
    """The source of every function of a file of Python, by name."""
    source = (ROOT / file).read_text(encoding="utf-8")
    lines = source.splitlines()
    texts = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            texts[node.name] = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    return texts


def test_the_tests_in_run_contain_their_calls() -> None:
    for key, (place, part) in RUN.items():
        file, _, function = place.partition("::")
        source = (ROOT / file).read_text(encoding="utf-8")
        if function:
            assert function in functions(file), f"{key}: {file} has no function {function}"
            source = functions(file)[function]
        assert part in source, f"{key}: {place} lacks {part}"


@functools.cache
def all_spans() -> list[tuple[str, str]]:
    """The `code spans` of all pages, each with its page."""
    spans = []
    for page in pages.PAGES:
        of_page = pages.spans(page)
        assert of_page, page
        spans += [(page, span) for span in of_page]
    return spans


def test_commands_in_the_prose_exist_and_take_their_variables() -> None:
    for page, span in all_spans():
        program, *arguments = span.split()
        if program == "make" and arguments:
            target = arguments[0]
            assert target in TARGETS, f"{page}: `{span}`"
            usage = re.search(rf"^{target}:.* ## (.*)\|", MAKEFILE, re.MULTILINE)
            for name in re.findall(r"\b([A-Z_]+)=", span):
                assert usage and f"{name}=" in usage[1], f"{page}: `{span}`"
        for verb in re.findall(r"\bpython -m sextant(?! VERB)\b ?(\S*)", span):
            assert verb in __main__.VERBS, f"{page}: `{span}`"


SETTINGS = [
    *re.findall(r"-S 'conf/model/(\w+)\.yaml:([^']+)'", "\n".join(PAGE_OF_COMMAND)),
    *re.findall(r"sextant train model=(\w+) .*\bmodel\.(\S+)", "\n".join(PAGE_OF_COMMAND)),
]


def test_the_settings_in_commands_are_valid(workspace: Path) -> None:
    assert len(SETTINGS) >= 3
    for model, setting in SETTINGS:
        changed = config.model(model, [f"model.{setting}"])
        assert changed != config.model(model)
        check.check_model(changed)


@pytest.mark.slow
def test_the_remaining_commands_run(
    clone: Clone, process: Callable[..., subprocess.Popen[str]]
) -> None:
    activated = clone.run("bash", "-c", "source .venv/bin/activate && command -v dvc python")
    assert [Path(path).name for path in activated.stdout.split()] == ["dvc", "python"]
    doctor = clone.run("make", "doctor").stdout
    assert "registered version(s)" in doctor and "broken" not in doctor
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = process("make", "ui", f"PORT={port}", cwd=clone.path, env=clone.env)
    for _ in range(300):
        try:
            assert b"MLflow" in urlopen(f"http://127.0.0.1:{port}", timeout=10).read()
            break
        except OSError:
            assert server.poll() is None
            time.sleep(0.2)
    else:
        pytest.fail("`make ui` did not answer within a minute")


# --- docs/your-data.md --------------------------------------------------------------------------


def write_leaves(folder: Path) -> None:
    rng = np.random.default_rng(3)
    with zipfile.ZipFile(folder / "leaves.zip", "w") as archive:
        for number in range(120):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (17, 23, 3), np.uint8)).save(file, "PNG")
            archive.writestr(f"leaves/{('oak', 'beech')[number % 2]}/{number}.png", file.getvalue())


def write_books(folder: Path) -> None:
    rng = np.random.default_rng(3)
    (folder / "books").mkdir()
    readers, books = range(1, 24), range(1, 14)
    pairs = pd.MultiIndex.from_product([readers, books], names=["reader", "book"])
    ratings = pairs.to_frame(index=False).assign(stars=rng.integers(1, 6, len(pairs)))
    ratings.to_csv(folder / "books/ratings.csv", index=False)
    titles = pd.DataFrame({"book": books, "title": [f"Volume {book}" for book in books]})
    titles.to_csv(folder / "books/books.csv", index=False)
    pd.DataFrame({"reader": readers}).to_csv(folder / "books/readers.csv", index=False)


def write_copper(folder: Path) -> None:
    rng = np.random.default_rng(3)
    days = pd.bdate_range("2022-09-01", "2024-01-31")
    prices = 8000 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))
    pd.DataFrame({"Day": days, "Price": prices.round(2)}).to_csv(folder / "copper.csv", index=False)


WRITERS = {"pictures": write_leaves, "ratings": write_books, "a-series": write_copper}


@pytest.mark.parametrize("section", DATA_SECTIONS)
def test_the_confs_of_a_section_are_valid(section: str, workspace: Path) -> None:
    """Everything except size and sha256, which `make pin` writes."""
    for file in pages.write_confs(section, workspace):
        if file.startswith("conf/dataset/"):
            conf = config.dataset(Path(file).stem)
            pull.entries(conf, conf.chosen_source)
            validate.check_suite(conf.expectations, file, conf.columns.all)
    for command in pages.commands(pages.YOUR_DATA, section):
        if command.startswith("cp "):
            shutil.copy(*command.split()[1:])
    lines = yaml.safe_load(pages.confs(section)["params.yaml"])
    for name in lines["models"]:
        for budget in ("smoke", "full"):
            check.check_model(config.model(name, [f"budget={budget}"]))


@pytest.mark.slow
@pytest.mark.parametrize("section", WRITERS)
def test_the_data_of_a_section_can_be_prepared(
    section: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEXTANT_MIRROR", str(workspace / "mirror"))
    monkeypatch.setenv("DVC_STAGE", "set, so that stages write where DVC expects it")
    (workspace / "mirror").mkdir()
    WRITERS[section](workspace / "mirror")
    pages.write_confs(section, workspace)
    (name,) = yaml.safe_load(pages.confs(section)["params.yaml"])["datasets"]
    for command in pages.commands(pages.YOUR_DATA, section):
        if command.startswith("cp "):
            shutil.copy(*command.split()[1:])
        elif command.startswith("make pin "):
            pin.main([f"dataset={name}"])
        else:
            assert command.startswith("make prepare ")
            for stage in (pull, validate, prepare):
                stage.main([f"dataset={name}"])
    pull.check_sources(config.dataset(name))
    profile = json.loads((paths.prepared(name) / "profile.json").read_text())
    assert list(profile["rows"]) == list(PARTS) and all(profile["rows"].values())
    report = json.loads(paths.validation(name).read_text())
    assert report["success"] and report["counts"]["passed"] == len(report["expectations"])


def messages() -> list[str]:
    """All f-strings of the package, with `…` in place of values and without backticks."""
    texts = []
    for path in (ROOT / "src/sextant").rglob("*.py"):
        for node in ast.walk(sources.tree(path)):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                ]
                texts.append("".join(map(str, parts)).replace("`", ""))
    return texts


def test_the_error_messages_of_the_page_exist() -> None:
    section = pages.text(pages.YOUR_DATA).split("## Error messages")[1].split("##")[0]
    rows = re.findall(r"^\| (.*?) \| ", section, re.MULTILINE)[1:]
    assert len(rows) >= 8
    texts = messages()
    for row in rows:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in row.split("…")))
        assert any(pattern.search(text) for text in texts), f"no message says `{row}`"


# --- names, links, numbers ----------------------------------------------------------------------

# Outputs and the examples of docs/your-data.md, which do not exist in a fresh clone.
NOT_IN_GIT = (
    r"(data|models|reports|\.scratch|\.checkpoints|\.venv|mlruns)/|(leaves|books|gaits)/|mlflow\.db"
)


def test_paths_in_the_prose_exist() -> None:
    written = {file for section in DATA_SECTIONS for file in pages.confs(section)}
    modules = {path.name for path in (ROOT / "src/sextant").rglob("*.py")}
    for page, span in all_spans():
        is_path = re.fullmatch(r"\.?[\w.-]+(/[\w.-]+)+/?|\w+\.(py|md|yaml|toml)", span)
        if is_path and not re.match(NOT_IN_GIT, span) and span not in written | modules:
            exists = (ROOT / span).exists() or (ROOT / "src/sextant" / span).exists()
            assert exists, f"{page}: `{span}` does not exist"


def test_links_and_anchors_resolve() -> None:
    links = [(page, link) for page in pages.PAGES for link in pages.links(page)]
    assert len(links) > 50
    for page, link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            anchors = pages.anchors(str(target.relative_to(ROOT)))
            assert anchor in anchors, f"{page} links to {link}"


def decimals(text: str) -> list[str]:
    return re.findall(r"(?<![\w.])\d+\.\d+", text)


ROW = re.compile(r"^\| \[`(\w+)`\]\(docs/(\w+)\.md\) .*$", re.MULTILINE)
UNMEASURED = re.compile(r"\| (not measured yet|no real table stands here) \|")


def test_numbers_in_the_tables_of_the_readme_are_those_of_the_pages() -> None:
    """The first table has the models of params.yaml, the second those of the shelf."""
    rows = list(ROW.finditer(pages.text("README.md")))
    assert [row[2] for row in rows[:6]] == list(listed.PARAMS["models"])
    assert {row[2] for row in rows[6:]} == set(listed.SHELF["models"])
    for row in rows:
        model = row[2]
        on_page = decimals(pages.text(f"docs/{model}.md"))
        numbers = decimals(row[0])
        assert row[1] == model and (numbers or UNMEASURED.search(row[0]))
        for number in numbers:
            digits = len(number.partition(".")[2])
            rounded = {f"{float(value):.{digits}f}" for value in on_page}
            assert number in rounded, f"{number} is not on the page of {model}"


def results_of(page: str) -> list[str]:
    """The pages of results/ to which a page links."""
    return [link for link in pages.links(page) if link.startswith("../results/")]


WITH_RESULTS = [page for page in pages.PAGES if page.startswith("docs/") and results_of(page)]


def test_each_page_of_results_is_linked_by_one_of_docs() -> None:
    linked = {Path(link).name for page in WITH_RESULTS for link in results_of(page)}
    assert {path.name for path in (ROOT / "results").glob("*.md")} <= linked


@pytest.mark.parametrize("page", WITH_RESULTS)
def test_deviations_are_those_of_the_published_results(page: str) -> None:
    results = ""
    for link in set(results_of(page)):
        results += (ROOT / "docs" / link).read_text(encoding="utf-8")
    deviations = re.findall(r"\d+\.\d+ ± \d+\.\d+", pages.text(page))
    assert deviations
    for deviation in deviations:
        assert deviation in results, f"{deviation} of {page} is on no page of results/"


def test_the_row_that_travels_is_the_first_of_the_twin_and_in_the_part_on_the_page(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    conf, page = twins.conf_of("churn"), " ".join(pages.text("docs/row.md").split())
    raw = twins.raw("churn", tmp_path_factory)
    (block,) = [block.text for block in pages.blocks("docs/row.md") if block.language == "csv"]
    first = (raw / conf.twin["file"]).read_text().splitlines()[:2]
    assert block.splitlines() == first
    key = first[1].split(",")[1]
    sentence = rf'`sha256\("0:{key}"\)`, read as a number between 0 and 1, is (0\.\d+)'
    (fraction,) = re.findall(sentence, page)
    digest = hashlib.sha256(f"0:{key}".encode()).digest()
    assert f"{int.from_bytes(digest[:8], 'big') / 2**64:.4f}" == fraction
    table = tabular.repair(tabular.read(raw, conf.columns), conf.columns)
    parts = tabular.split(table, conf.columns, conf.split)
    assert key in set(parts["test"][conf.columns.key])
    for part in ("train", "test"):
        assert f"{len(parts[part]):,} rows" in page
