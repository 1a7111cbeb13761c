"""dvc.yaml compared with the code and conf/: a stage runs again where what it loads or reads has
changed, else not.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Clone, copied
from dvc.repo import Repo

from sextant import train

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/sextant"
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
WRITTEN = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Loaded, and still no dependency, because none of these can change an output: they word messages,
# refuse a conf, or keep state beside the graph.
NO_DEPENDENCY = {"__main__", "errors", "terminal", "check", "decisions", "model_card", "tracking"}
# Named for every model, since a dependency cannot be conditional.
SHARED_BY_MODELS = ("families/blocks.py", "tasks/recommendation/", "kinds/tables.py")
FOLDERS = sorted({path.parent for path in PACKAGE.rglob("*.py")})


# --- dvc.yaml with its loops unrolled -----------------------------------------------------------


def unrolled() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every stage as DVC makes it: `train@ann` and its block, with `${…}` filled in from
    params.yaml.
    """
    for name, block in WRITTEN.items():
        if "foreach" not in block:
            yield name, filled(block, {})
            continue
        for key, item in PARAMS[block["foreach"].strip("${}")].items():
            yield f"{name}@{key}", filled(block["do"], {"key": key, "item": item})


def filled(block: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    def value(match: re.Match[str]) -> str:
        content: Any = {**PARAMS, **context}
        for part in match[1].split("."):
            content = content[part]
        return str(content)

    return yaml.safe_load(re.sub(r"\$\{([\w.]+)\}", value, yaml.safe_dump(block)))


STAGES = dict(unrolled())


def paths(stage: dict[str, Any], *sections: str) -> list[str]:
    """The paths under `deps`, `outs`, ...; each is a string or a mapping with its settings."""
    listed = []
    for section in sections:
        for entry in stage.get(section, []):
            listed += entry if isinstance(entry, dict) else [entry]
    return listed


def code(stage: str) -> list[str]:
    return [path for path in paths(STAGES[stage], "deps") if path.startswith("src/")]


# --- what a stage loads -------------------------------------------------------------------------


def test_no_dependency_is_a_folder_of_code_and_none_is_missing():
    for name in STAGES:
        listed = code(name)
        assert listed and len(set(listed)) == len(listed)
        for path in listed:
            assert (ROOT / path).is_file(), f"{name} depends on {path}"


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_files_that_it_loads_and_on_no_other(whole_chain: Clone, stage):
    """The modules are those that the real run of the stage had loaded when it ended."""
    record = whole_chain.path / ".git/imports" / stage
    loaded = set()
    for module in record.read_text().split():
        path = module.removeprefix("sextant.").replace(".", "/")
        if path.split("/")[0] not in NO_DEPENDENCY and (PACKAGE / f"{path}.py").is_file():
            loaded.add(f"src/sextant/{path}.py")
    assert len(loaded) > 5
    listed = {path for path in code(stage) if path.endswith(".py")}
    assert loaded - listed == set(), "loaded, but no dependency"
    unused = {path for path in listed - loaded if not _shared(path)}
    assert unused == set(), "a dependency, but not loaded"


def _shared(path: str) -> bool:
    return path.removeprefix("src/sextant/").startswith(SHARED_BY_MODELS)


def test_a_checkpoint_is_bound_to_the_code_that_train_depends_on():
    for model, line in PARAMS["models"].items():
        words = {key: line[key] for key in ("family", "kind", "task")}
        listed = {f"src/sextant/{path.format(**words)}" for path in train.CODE}
        assert listed == set(code(f"train@{model}"))


# --- what a new or edited file reaches, as DVC sees it ------------------------------------------


@pytest.fixture(scope="module")
def clone(whole_chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy in which DVC may look at edits; every test leaves it as it was."""
    return copied(whole_chain, tmp_path_factory.mktemp("edits") / "clone")


def stale(clone: Clone) -> set[str]:
    with chdir(clone.path), Repo() as repo:
        return set(repo.status())


@pytest.mark.slow
def test_a_new_file_in_any_folder_makes_no_stage_stale(clone: Clone):
    new = [clone.path / folder.relative_to(ROOT) / "added.py" for folder in FOLDERS]
    assert len(new) > 12
    try:
        for path in new:
            path.write_text("")
        assert stale(clone) == set()
    finally:
        for path in new:
            path.unlink()


@pytest.mark.slow
def test_a_new_kind_family_or_task_makes_no_stage_stale(clone: Clone):
    package = clone.path / "src/sextant"
    new = [package / "kinds/added", package / "tasks/added", package / "families/added.py"]
    try:
        shutil.copytree(package / "kinds/tabular", new[0])
        shutil.copytree(package / "tasks/classification", new[1])
        shutil.copy(package / "families/ann.py", new[2])
        assert stale(clone) == set()
    finally:
        for path in new:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


READERS = {
    "kinds": {
        "columns": "pull validate prepare train evaluate register",
        "rows": "validate prepare train evaluate register",
        "twin": "pull register",
        "encoder": "train evaluate register",
    },
    "tasks": {
        "metrics": "train evaluate register",
        "baselines": "evaluate register",
        "figures": "evaluate",
    },
}
PLUGIN_FILES = [
    *(
        (f"kinds/{kind}/{part}.py")
        for kind in set(PARAMS["datasets"].values())
        for part in READERS["kinds"]
    ),
    *(
        f"tasks/{line['task']}/{part}.py"
        for line in PARAMS["models"].values()
        for part in READERS["tasks"]
    ),
    *(f"families/{line['family']}.py" for line in PARAMS["models"].values()),
]


def readers(file: str) -> set[str]:
    """The stages that a file of a plugin reaches: of its models and data sets alone."""
    group, name = file.split("/")[:2]
    if group == "families":
        stages, key, name = "train evaluate register", "family", name.removesuffix(".py")
    else:
        stages, key = READERS[group][Path(file).stem], {"kinds": "kind", "tasks": "task"}[group]
    reached = set()
    for stage in stages.split():
        if stage in ("pull", "validate", "prepare"):
            reached |= {f"{stage}@{d}" for d, kind in PARAMS["datasets"].items() if kind == name}
        else:
            reached |= {f"{stage}@{m}" for m, line in PARAMS["models"].items() if line[key] == name}
    return reached


@pytest.mark.parametrize("file", sorted(set(PLUGIN_FILES)))
def test_a_file_of_a_plugin_is_a_dependency_of_its_own_stages_alone(file: str):
    listed = {stage for stage in STAGES if f"src/sextant/{file}" in code(stage)}
    assert listed == readers(file)


@pytest.mark.slow
def test_an_edit_of_a_plugin_reaches_its_own_stages_alone(clone: Clone):
    """As DVC sees it, one file of each sort: the test above compares every file with dvc.yaml."""
    for file in ("kinds/ratings/encoder.py", "tasks/mapping/figures.py", "families/rnn.py"):
        path = clone.path / "src/sextant" / file
        before = path.read_text()
        try:
            path.write_text(before + "\n# a comment\n")
            assert stale(clone) == readers(file)
        finally:
            path.write_text(before)


# --- the shape of the graph ---------------------------------------------------------------------


def test_the_seven_stages_stand_in_reading_order():
    assert list(WRITTEN) == [
        "pull", "validate", "prepare", "train", "evaluate", "register", "report",
    ]  # fmt: skip
    assert len(STAGES) == 3 * len(PARAMS["datasets"]) + 3 * len(PARAMS["models"]) + 1


def test_a_figure_a_baseline_or_the_gate_retrains_nothing():
    for name in STAGES:
        if name.startswith("train@"):
            pattern = r"figures|baselines|report|register|evaluate|gate"
            assert not [path for path in code(name) if re.search(pattern, path)]
            params = [entry for entry in STAGES[name]["params"] if isinstance(entry, dict)]
            assert not [
                entry for entry in params if re.search("gate|baselines", str(entry.values()))
            ]


def test_no_stage_depends_on_what_cannot_change_an_output():
    for name in STAGES:
        for path in code(name):
            assert (
                path.removeprefix("src/sextant/").split("/")[0].removesuffix(".py")
                not in NO_DEPENDENCY
            )


@pytest.mark.parametrize("name", STAGES)
def test_what_a_stage_depends_on_exists_or_is_made_by_an_earlier_one(name):
    earlier = list(STAGES)[: list(STAGES).index(name)]
    made = []
    for other in earlier:
        made += [Path(path) for path in paths(STAGES[other], "outs", "metrics", "plots")]
    for dep in map(Path, paths(STAGES[name], "deps")):
        inside = any(dep in path.parents or path == dep or path in dep.parents for path in made)
        assert inside or (ROOT / dep).exists(), f"{name} depends on {dep}"


@pytest.mark.parametrize("name", STAGES)
def test_every_key_that_a_stage_reads_exists(name):
    """DVC stops at a key that the file lacks."""
    for entry in STAGES[name].get("params", []):
        for file, keys in entry.items() if isinstance(entry, dict) else [("params.yaml", [entry])]:
            content = yaml.safe_load((ROOT / file).read_text())
            assert content
            for key in keys or []:
                block = content
                for part in key.split("."):
                    assert part in block, f"{name} reads {key}, which {file} lacks"
                    block = block[part]


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_runs_the_code_of_its_folder(name):
    """`dvc exp run --temp` works in a copy of the workspace; an installed package would be the
    original's.
    """
    stage, _, key = name.partition("@")
    group = "model" if WRITTEN[stage].get("foreach") == "${models}" else "dataset"
    argument = f" {group}={key}" if key else ""
    assert STAGES[name]["cmd"] == f"PYTHONPATH=src python -m sextant {stage}{argument}"


def test_no_path_is_written_by_two_stages():
    made = [path for stage in STAGES.values() for path in paths(stage, "outs", "metrics", "plots")]
    assert len(made) == len(set(made))
    assert not [(a, b) for a in made for b in made if Path(a) in Path(b).parents]


@pytest.mark.parametrize("name", STAGES)
def test_what_is_committed_is_no_copy_in_the_cache(name):
    """Git keeps and compares metrics and validation, the receipt belongs to this clone; DVC has the
    rest.
    """
    for section in ("outs", "metrics", "plots"):
        for path, settings in _settings(STAGES[name], section):
            folders = ("reports/metrics/", "reports/validation/", "reports/registry/")
            assert (settings.get("cache") is False) == path.startswith(folders), path


def _settings(stage: dict[str, Any], section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in stage.get(section, []):
        yield from entry.items() if isinstance(entry, dict) else [(entry, {})]


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_before_evaluate_reads_a_result(name):
    if name.startswith(("pull", "validate", "prepare", "train")):
        results = ("models/", "reports/metrics", "reports/figures")
        assert not [path for path in paths(STAGES[name], "deps") if path.startswith(results)]


# --- params.yaml and conf/ ----------------------------------------------------------------------


def test_every_listed_data_set_and_model_has_its_files():
    assert PARAMS["datasets"] and PARAMS["models"]
    wanted = []
    for name, line in PARAMS["models"].items():
        assert line["kind"] == PARAMS["datasets"][line["dataset"]]
        wanted += [f"conf/model/{name}.yaml", f"src/sextant/families/{line['family']}.py"]
    for name in PARAMS["datasets"]:
        wanted += [f"conf/dataset/{name}.yaml", f"conf/expectations/{name}.yaml"]
    assert [path for path in wanted if not (ROOT / path).is_file()] == []


def test_no_conf_hides_a_parent_or_reaches_into_another_file():
    """DVC reads single files: it sees neither Hydra's defaults nor an interpolation into another
    file.
    """
    for path in sorted((ROOT / "conf").glob("*/*.yaml")):
        content = yaml.safe_load(path.read_text())
        assert "defaults" not in content, path
        assert "${" not in yaml.safe_dump(content), path


def test_no_key_of_a_conf_is_a_number():
    """`dvc exp show` and `dvc params diff` cannot read such a file."""

    def keys(block: Any) -> Iterator[Any]:
        for key, value in block.items() if isinstance(block, dict) else enumerate(block):
            if isinstance(block, dict):
                yield key
            if isinstance(value, dict | list):
                yield from keys(value)

    for path in [ROOT / "params.yaml", *sorted((ROOT / "conf").rglob("*.yaml"))]:
        content = yaml.safe_load(path.read_text())
        assert [key for key in keys(content) if not isinstance(key, str)] == [], path


def test_seed_source_and_budget_reach_the_stages_that_they_change():
    scalars = {"pull": {"source"}, "train": {"seed", "budget"}, "report": {"models"}}
    for name, stage in STAGES.items():
        read = {entry for entry in stage.get("params", []) if isinstance(entry, str)}
        assert read == scalars.get(name.partition("@")[0], set())
        if name.startswith("train@"):
            assert f"budgets.{PARAMS['budget']}" in str(stage["params"])
