"""dvc.yaml compared with the code and conf/: a stage depends on the files that it loads and the
keys that it reads, and on nothing else.
"""

import functools
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import listed
import pytest
from conftest import ROOT, Clone, dump_yaml, load_yaml

PACKAGE = ROOT / "src/sextant"
PARAMS = {**listed.PARAMS, "datasets": listed.DATASETS, "models": listed.MODELS}
BLOCKS = load_yaml((ROOT / "dvc.yaml").read_text())["stages"]
# Stages load these and do not depend on them, because none can change an output: they start a
# stage, word messages, refuse a conf, or keep state beside the graph.
NO_DEPENDENCY = {"__main__", "fork_server"}
NO_DEPENDENCY |= {"errors", "terminal", "check", "decisions", "model_card", "tracking"}
NO_DEPENDENCY |= {"redaction", "bytecode", "processes", "processor"}
# Some data sets or models do not load these and depend on them all the same, since a dependency
# cannot be conditional.
SHARED = (
    "families/blocks.py",
    "families/maps.py",
    "kinds/tables.py",
    "kinds/formats.py",
    "kinds/plain_lines.py",
    "kinds/numbers.py",
    "kinds/levels.py",
    "kinds/archives.py",
    "kinds/arrays.py",
    "kinds/pixels.py",
    "injection.py",
    "probability_figures.py",
    "importance.py",
    "trees.py",
    "world.py",
    "tasks/recommendation/",
)
FOLDERS = sorted({path.parent for path in PACKAGE.rglob("*.py")})
READER = re.compile(r"kinds/\w+/rows")  # the reader of a kind: the only folders of code in dvc.yaml


# --- dvc.yaml with its loops unrolled -----------------------------------------------------------


def unrolled() -> dict[str, dict[str, Any]]:
    """The block of every stage by its name in DVC (`train@ann`), with the values of `${…}`."""
    stages = {}
    for name, block in BLOCKS.items():
        if "foreach" not in block:
            stages[name] = interpolate(block, {})
            continue
        items = PARAMS[block["foreach"].strip("${}")]
        for key, item in items.items():
            stages[f"{name}@{key}"] = interpolate(block["do"], {"key": key, "item": item})
    return stages


def interpolate(block: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """Replace `${path}` by its value in params.yaml or among the variables of the loop."""

    def value(match: re.Match[str]) -> str:
        content: Any = {**PARAMS, **variables}
        for part in match[1].split("."):
            content = content[part]
        return str(content)

    return load_yaml(re.sub(r"\$\{([\w.]+)\}", value, dump_yaml(block)))


STAGES = unrolled()
LISTED = [*listed.PARAMS["datasets"], *listed.PARAMS["models"], ""]
RUN = [stage for stage in STAGES if stage.partition("@")[2] in LISTED]  # by `whole_pipeline`
OUTPUTS = ("outs", "metrics", "plots")


def settings(stage: str, *sections: str) -> dict[str, dict[str, Any]]:
    """The paths under `deps`, `outs`, ..., each with its settings, if it has any."""
    listed = {}
    for section in sections:
        for entry in STAGES[stage].get(section, []):
            listed |= entry if isinstance(entry, dict) else {entry: {}}
    return listed


@functools.cache
def code(stage: str) -> list[str]:
    """The source files and readers that a stage depends on, relative to src/sextant."""
    prefix = "src/sextant/"
    return [path.removeprefix(prefix) for path in settings(stage, "deps") if path.startswith("src")]


def code_files(stage: str) -> set[str]:
    """The source files that a stage depends on, with those of its reader."""
    files = set()
    for path in code(stage):
        if READER.fullmatch(path):
            files |= {str(file.relative_to(PACKAGE)) for file in (PACKAGE / path).rglob("*.py")}
        else:
            files.add(path)
    return files


# --- the files that a stage loads ---------------------------------------------------------------


def test_a_stage_depends_on_files_of_code_and_on_no_folder_but_a_reader():
    for stage in STAGES:
        listed = code(stage)
        assert listed, stage
        entries = [entry for entry in STAGES[stage]["deps"] if str(entry).startswith("src")]
        assert len(set(listed)) == len(entries), f"{stage} lists a file twice"
        for file in code_files(stage):
            assert (PACKAGE / file).is_file(), f"{stage} depends on {file}"


@pytest.mark.slow
@pytest.mark.parametrize("stage", RUN)
def test_a_stage_depends_on_the_files_that_it_loads_and_on_no_other(
    whole_pipeline: Clone, stage: str
):
    """The modules are those that were loaded when the stage ended, in a run by DVC."""
    record = whole_pipeline.path / ".git/imports" / stage
    loaded = set()
    for module in record.read_text().split():
        name = module.removeprefix("sextant.").replace(".", "/")
        # The other __init__.py files are empty.
        file = f"{name}/__init__.py" if READER.fullmatch(name) else f"{name}.py"
        if (PACKAGE / file).is_file() and may_change_an_output(file):
            loaded.add(file)
    assert len(loaded) > 5

    listed = {file for file in code_files(stage) if file.endswith(".py")}
    assert loaded - listed == set(), "loaded, but no dependency"
    unused = [file for file in listed - loaded if not file.startswith(SHARED)]
    assert unused == [], "a dependency, but not loaded"


def may_change_an_output(file: str) -> bool:
    return Path(file).with_suffix("").parts[0] not in NO_DEPENDENCY


def test_a_checkpoint_is_bound_to_the_code_that_train_depends_on():
    from sextant import train

    for model, line in PARAMS["models"].items():
        files = {path.format(**line) for path in train.CODE}
        assert files == set(code(f"train@{model}"))


# --- the stages that a new or edited file makes stale, as DVC sees it ---------------------------


@pytest.mark.slow
def test_a_new_file_kind_family_or_task_makes_no_stage_stale(whole_copy: Clone):
    package = whole_copy.path / "src/sextant"
    folders_of_package = [str(folder.relative_to(PACKAGE)) for folder in FOLDERS]
    new = [package / name / "added.py" for name in folders_of_package if not READER.fullmatch(name)]
    assert len(new) > 12
    folders = [package / "kinds/added", package / "tasks/added"]
    try:
        for path in new:
            path.write_text("")
        shutil.copytree(package / "kinds/tabular", folders[0])
        shutil.copytree(package / "tasks/classification", folders[1])
        shutil.copy(package / "families/ann.py", package / "families/added.py")
        assert whole_copy.stale_stages() == {}
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        for path in new:
            path.unlink(missing_ok=True)


# The stages that depend on each file of a kind, a task and a family.
READERS: Mapping[str, Mapping[str, str]] = {
    "kind": {
        "columns": "pull validate prepare train evaluate register",
        "rows": "validate prepare train evaluate register",
        "twin": "pull register",
        "encoder": "train evaluate register",
    },
    "task": {
        "metrics": "train evaluate register",
        "baselines": "evaluate register",
        "figures": "evaluate",
    },
    "family": {"": "train evaluate register"},
}


def plugin_file(sort: str, name: str, part: str) -> str:
    """The path of a plugin's file or reader; a family has one file and no parts."""
    if sort == "family":
        return f"families/{name}.py"
    if part == "rows":
        return f"kinds/{name}/rows"
    return f"{sort}s/{name}/{part}.py"


def plugin_stages(sort: str, name: str, part: str) -> set[str]:
    """The stages that depend on a plugin's file: those of its data sets and models."""
    stages = set()
    for stage in READERS[sort][part].split():
        if stage in ("pull", "validate", "prepare"):
            stages |= {f"{stage}@{d}" for d, kind in PARAMS["datasets"].items() if kind == name}
        else:
            stages |= {f"{stage}@{m}" for m, line in PARAMS["models"].items() if line[sort] == name}
    return stages


PLUGIN_FILES = [
    (sort, name, part)
    for sort, parts in READERS.items()
    for name in sorted({line[sort] for line in PARAMS["models"].values()})
    for part in parts
]


def test_only_the_stages_of_a_plugin_depend_on_its_files():
    assert len(PLUGIN_FILES) > 30
    for sort, name, part in PLUGIN_FILES:
        file = plugin_file(sort, name, part)
        dependent = {stage for stage in STAGES if file in code(stage)}
        assert dependent == plugin_stages(sort, name, part), file


@pytest.mark.slow
def test_an_edit_of_a_plugin_makes_its_own_stages_stale_and_no_other(whole_copy: Clone):
    """One file of each sort, as DVC sees it; the test above compares all of them with dvc.yaml."""
    edited = [("kind", "ratings", "encoder"), ("task", "mapping", "figures"), ("family", "rnn", "")]
    before = {}
    expected: dict[str, dict[str, str]] = {}
    for plugin in edited:
        file = f"src/sextant/{plugin_file(*plugin)}"
        before[file] = (whole_copy.path / file).read_text()
        for stage in plugin_stages(*plugin) & set(RUN):
            expected.setdefault(stage, {})[file] = "modified"
    try:
        for file, text in before.items():
            (whole_copy.path / file).write_text(text + "\n# a comment\n")
        assert whole_copy.stale_stages() == expected
    finally:
        for file, text in before.items():
            (whole_copy.path / file).write_text(text)


# --- the shape of the graph ---------------------------------------------------------------------


def test_the_seven_stages_stand_in_reading_order():
    assert list(BLOCKS) == [
        "pull", "validate", "prepare", "train", "evaluate", "register", "report",
    ]  # fmt: skip
    assert len(STAGES) == 3 * len(PARAMS["datasets"]) + 3 * len(PARAMS["models"]) + 1


def test_figures_baselines_and_the_gate_are_no_dependency_of_a_training():
    pattern = r"figures|baselines|report|register|evaluate|gate"
    for model in PARAMS["models"]:
        stage = f"train@{model}"
        assert [path for path in code(stage) if re.search(pattern, path)] == [], stage
        for entry in STAGES[stage]["params"]:
            if isinstance(entry, dict):
                assert not re.search("gate|baselines", str(entry.values())), stage


def test_no_stage_depends_on_code_that_cannot_change_an_output():
    for stage in STAGES:
        assert [file for file in code(stage) if not may_change_an_output(file)] == [], stage


def test_a_dependency_exists_or_is_written_by_an_earlier_stage():
    written: list[str] = []
    for stage in STAGES:
        for dependency in settings(stage, "deps"):
            made = (ROOT / dependency).exists()
            for output in written:
                # The same path, or one of them inside the other.
                if f"{dependency}/".startswith(f"{output}/"):
                    made = True
                elif f"{output}/".startswith(f"{dependency}/"):
                    made = True
            assert made, f"{stage} depends on {dependency}"
        written += settings(stage, *OUTPUTS)


def test_every_key_that_a_stage_reads_exists():
    """DVC stops at a key that the file lacks."""
    read = functools.cache(lambda file: load_yaml((ROOT / file).read_text()))
    for stage in STAGES:
        for entry in STAGES[stage].get("params", []):
            reads = entry if isinstance(entry, dict) else {"params.yaml": [entry]}
            for file, keys in reads.items():
                content = read(file)
                assert content, file
                for key in keys or []:
                    block = content
                    for part in key.split("."):
                        assert part in block, f"{stage} reads {key}, which {file} lacks"
                        block = block[part]


def test_every_stage_runs_the_code_of_its_working_directory():
    """`dvc exp run --temp` works in a copy of the workspace, but an installed package would be that
    of the original.
    """
    for stage in STAGES:
        name, _, key = stage.partition("@")
        argument = "model" if BLOCKS[name].get("foreach") == "${models}" else "dataset"
        command = f"PYTHONPATH=src python -m sextant {name}"
        if key:
            command += f" {argument}={key}"
        assert STAGES[stage]["cmd"] == command, stage


def test_no_path_is_written_by_two_stages():
    written: list[str] = []
    for stage in STAGES:
        written += settings(stage, *OUTPUTS)
    assert len(written) == len(set(written))
    for path in written:
        assert not {str(parent) for parent in Path(path).parents} & set(written)


def test_outputs_that_git_keeps_are_not_in_the_cache():
    """Git keeps and compares metrics and validation reports. The receipt belongs to this clone.
    Everything else is in DVC's cache.
    """
    for stage in STAGES:
        not_cached = ("reports/metrics/", "reports/validation/", "reports/registry/")
        for path, options in settings(stage, *OUTPUTS).items():
            assert (options.get("cache") is False) == path.startswith(not_cached), path


def test_no_stage_before_evaluate_reads_a_result():
    for stage in STAGES:
        if stage.startswith(("pull", "validate", "prepare", "train")):
            results = ("models/", "reports/metrics", "reports/figures")
            read = [path for path in settings(stage, "deps") if path.startswith(results)]
            assert read == [], stage


# --- params.yaml and conf/ ----------------------------------------------------------------------


def test_every_data_set_and_model_has_its_files():
    assert PARAMS["datasets"]
    assert PARAMS["models"]
    needed = []
    for name, line in PARAMS["models"].items():
        assert line["kind"] == PARAMS["datasets"][line["dataset"]]
        needed += [f"conf/model/{name}.yaml", f"src/sextant/families/{line['family']}.py"]
    for name in PARAMS["datasets"]:
        needed += [f"conf/dataset/{name}.yaml", f"conf/expectations/{name}.yaml"]
    assert [path for path in needed if not (ROOT / path).is_file()] == []


def test_no_conf_has_defaults_or_refers_to_another_file():
    """DVC reads single files: it sees neither Hydra's defaults nor an interpolation from another
    file.
    """
    for path in sorted((ROOT / "conf").glob("*/*.yaml")):
        content = load_yaml(path.read_text())
        assert "defaults" not in content, path
        assert "${" not in dump_yaml(content), path


def all_keys(content: Any) -> Iterator[Any]:
    """The keys of all mappings in the content of a YAML file."""
    if isinstance(content, dict):
        yield from content
        for value in content.values():
            yield from all_keys(value)
    elif isinstance(content, list):
        for value in content:
            yield from all_keys(value)


def test_every_key_of_a_conf_is_text():
    """`dvc exp show` and `dvc params diff` cannot read a file with a number as a key."""
    for path in [ROOT / "params.yaml", *sorted((ROOT / "conf").rglob("*.yaml"))]:
        keys = all_keys(load_yaml(path.read_text()))
        assert [key for key in keys if not isinstance(key, str)] == [], path


def test_seed_source_and_budget_are_read_by_the_stages_that_they_change():
    for stage in STAGES:
        expected = {"pull": {"source"}, "train": {"seed", "budget"}, "report": {"models"}}
        entries = STAGES[stage].get("params", [])
        keys = {entry for entry in entries if isinstance(entry, str)}
        assert keys == expected.get(stage.partition("@")[0], set()), stage
        if stage.startswith("train@"):
            assert f"budgets.{PARAMS['budget']}" in str(entries), stage
