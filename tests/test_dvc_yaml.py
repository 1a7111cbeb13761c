"""dvc.yaml held to the code and to conf/: a stage runs again where what it imports or reads has changed, else not."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sextant"
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
WRITTEN = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ROOMS = ("data", "tasks", "baselines", "figures", "models")
# Imported, and still no dependency, for none can change an output: errors and what is told on the terminal are words,
# tracking is state beside the graph.
NO_DEPENDENCY = ("errors", "terminal", "tracking")


# --- dvc.yaml with its loops unrolled ---------------------------------------------------------------------------------


def unrolled() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every stage as DVC makes it: `train@ann` and its block, with `${…}` filled in from params.yaml."""
    for name, block in WRITTEN.items():
        if "foreach" not in block:
            yield name, filled(block, {})
            continue
        over = PARAMS[block["foreach"].strip("${}")]
        for key in over:
            item = over[key] if isinstance(over, dict) else key
            yield f"{name}@{key}", filled(block["do"], {"key": key, "item": item})


def filled(block: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    def value(found: re.Match[str]) -> str:
        here: Any = {**PARAMS, **context}
        for part in found[1].split("."):
            here = here[part]
        return str(here)

    return yaml.safe_load(re.sub(r"\$\{([\w.]+)\}", value, yaml.safe_dump(block)))


STAGES = dict(unrolled())


def paths(stage: dict[str, Any], *kinds: str) -> list[str]:
    """The paths under `deps`, `outs`, ...; each stands there alone or with its settings."""
    entries = [entry for kind in kinds for entry in stage.get(kind, [])]
    return [path for entry in entries for path in (entry if isinstance(entry, dict) else [entry])]


# --- what a stage imports ---------------------------------------------------------------------------------------------


class Reached:
    """The modules of the package that run when a function does: what is imported, and lazily, and found in plugins.

    An import inside a function counts where that function is reached from the stage's `main`. What is looked up in a
    room by a name of conf or card (`plugins.module("tasks", …)`) stands for everything in that room.
    """

    def __init__(self, module: str):
        self.modules: set[str] = set()
        self.files: set[Path] = set()
        self.seen: set[tuple[str, str]] = set()
        self.load(module)
        self.reach(module, "main")

    def load(self, module: str) -> None:
        """Importing a module runs what stands outside of its functions."""
        if module in self.modules or module.startswith(NO_DEPENDENCY):
            return
        self.modules.add(module)
        for statement in tree(module).body:
            if not isinstance(
                statement, ast.FunctionDef | ast.ClassDef | ast.If
            ):  # if __name__ == "__main__"
                self.scan(statement, module)

    def reach(self, module: str, name: str) -> None:
        """What a function, class or value of a module leads to."""
        if (module, name) in self.seen or module.startswith(NO_DEPENDENCY):
            return
        self.seen.add((module, name))
        for statement in tree(module).body:
            if defines(statement, name):
                self.scan(statement, module)

    def scan(self, node: ast.AST, module: str) -> None:
        known = {**names(tree(module), module), **names(node, module)}
        for found in ast.walk(node):
            if isinstance(found, ast.ImportFrom):
                for target, _ in names(found, module).values():
                    self.load(target)
            elif (
                isinstance(found, ast.Attribute)
                and isinstance(found.value, ast.Name)
                and found.value.id in known
            ):
                target, attribute = known[found.value.id]
                self.reach(target, attribute or found.attr)
            elif isinstance(found, ast.Name) and isinstance(found.ctx, ast.Load):
                target, attribute = known.get(found.id, (module, found.id))
                if attribute:
                    self.reach(target, attribute)
            elif isinstance(found, ast.Constant) and str(found.value).endswith(".j2"):
                self.files.add(PACKAGE / str(found.value))
            if isinstance(found, ast.Call) and ast.unparse(found.func) in (
                "plugins.module",
                "module",
            ):
                self.enter(ast.literal_eval(found.args[0]))

    def enter(self, room: str) -> None:
        """Whatever stands in a room."""
        if (room, "") in self.seen:
            return
        self.seen.add((room, ""))
        for path in (PACKAGE / room).glob("*.py"):
            module = f"{room}.{path.stem}".removesuffix(".__init__")
            self.load(module)
            self.scan(tree(module), module)

    def dependencies(self, family: str | None) -> set[str]:
        """As dvc.yaml names them: a room as its folder, of the families the one that the model is of."""
        found = {str(path.relative_to(ROOT)) for path in self.files}
        for module in self.modules:
            room = module.partition(".")[0]
            if room == "models":
                found.add(f"src/sextant/models/{family}.py")
            else:
                found.add(f"src/sextant/{room}" if room in ROOMS else f"src/sextant/{room}.py")
        return found


reached = functools.cache(Reached)  # by stage: all its data sets or models run the same code


@functools.cache
def tree(module: str) -> ast.Module:
    path = PACKAGE.joinpath(*module.split("."))
    return ast.parse(
        (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    )


def is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def names(node: ast.AST, module: str) -> dict[str, tuple[str, str]]:
    """What relative imports outside of functions, or anywhere below a function, bind: (module, name in it or '')."""
    found = {}
    outside = node.body if isinstance(node, ast.Module) else ast.walk(node)
    for statement in outside:
        if isinstance(statement, ast.ImportFrom) and statement.level:
            package = (
                [*module.split("."), ""]
                if PACKAGE.joinpath(*module.split(".")).is_dir()
                else module.split(".")
            )
            base = ".".join(
                [*package[: len(package) - statement.level], *filter(None, [statement.module])]
            )
            for alias in statement.names:
                whole = f"{base}.{alias.name}".strip(".")
                found[alias.asname or alias.name] = (
                    (whole, "") if is_module(whole) else (base, alias.name)
                )
    return found


def defines(statement: ast.stmt, name: str) -> bool:
    targets = (
        statement.targets
        if isinstance(statement, ast.Assign)
        else [getattr(statement, "target", None)]
    )
    return getattr(statement, "name", None) == name or any(
        getattr(target, "id", None) == name for target in targets
    )


# --- the laws ---------------------------------------------------------------------------------------------------------


def test_there_are_the_seven_stages_in_reading_order():
    assert list(WRITTEN) == [
        "pull",
        "validate",
        "prepare",
        "train",
        "evaluate",
        "register",
        "report",
    ]
    assert len(STAGES) == 3 * len(PARAMS["datasets"]) + 3 * len(PARAMS["models"]) + 1


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_that_it_runs_and_on_no_other(name):
    stage, _, key = name.partition("@")
    listed = {path for path in paths(STAGES[name], "deps") if path.startswith("src/")}
    family = PARAMS["models"].get(key, {}).get("family")
    assert listed == reached(stage).dependencies(family)


def test_a_figure_a_baseline_or_the_gate_retrains_nothing():
    for name in (name for name in STAGES if name.startswith("train@")):
        deps, params = paths(STAGES[name], "deps"), STAGES[name]["params"]
        assert not [
            path for path in deps if re.search(r"figures|baselines|report|register|evaluate", path)
        ]
        assert not [
            entry for entry in params if isinstance(entry, dict) and "gate" in str(entry.values())
        ]


def test_no_stage_depends_on_what_is_no_part_of_the_result():
    assert not [
        name
        for name, stage in STAGES.items()
        for path in paths(stage, "deps")
        if "tracking" in path
    ]


@pytest.mark.parametrize("name", STAGES)
def test_what_a_stage_depends_on_is_there_or_is_made_by_an_earlier_one(name):
    earlier = list(STAGES)[: list(STAGES).index(name)]
    made = [
        Path(path) for other in earlier for path in paths(STAGES[other], "outs", "metrics", "plots")
    ]
    for dep in map(Path, paths(STAGES[name], "deps")):
        inside = any(dep in path.parents or path == dep or path in dep.parents for path in made)
        assert inside or (ROOT / dep).exists(), f"{name} depends on {dep}"


@pytest.mark.parametrize("name", STAGES)
def test_every_key_that_a_stage_reads_is_there(name):
    """DVC stops at a key that the file lacks."""
    for entry in STAGES[name].get("params", []):
        for file, keys in entry.items() if isinstance(entry, dict) else [("params.yaml", [entry])]:
            content = yaml.safe_load((ROOT / file).read_text())
            assert content
            for key in keys or []:
                here = content
                for part in key.split("."):
                    assert part in here, f"{name} reads {key}, which {file} lacks"
                    here = here[part]


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_runs_the_code_of_its_folder(name):
    """`dvc exp run --temp` works in a copy of the workspace; an installed package would be the original's."""
    stage, _, key = name.partition("@")
    kind = "model" if WRITTEN[stage].get("foreach") == "${models}" else "dataset"
    assert STAGES[name]["cmd"] == f"PYTHONPATH=src python -m sextant.{stage}" + (
        f" {kind}={key}" if key else ""
    )


def test_no_path_is_written_by_two_stages():
    made = [path for stage in STAGES.values() for path in paths(stage, "outs", "metrics", "plots")]
    assert len(made) == len(set(made))
    assert not [(a, b) for a in made for b in made if Path(a) in Path(b).parents]


@pytest.mark.parametrize("name", STAGES)
def test_what_is_committed_is_no_copy_in_the_cache(name):
    """Metrics and validation are for git to keep and compare, the receipt for this clone alone; the rest is DVC's."""
    settings = {
        path: entry
        for kind in ("outs", "metrics", "plots")
        for path, entry in _settings(STAGES[name], kind)
    }
    for path, entry in settings.items():
        small = path.startswith(("reports/metrics/", "reports/validation/", "reports/registry/"))
        assert (entry.get("cache") is False) == small, path


def _settings(stage: dict[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in stage.get(kind, []):
        yield from entry.items() if isinstance(entry, dict) else [(entry, {})]


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_before_evaluate_reads_a_result(name):
    """What was reached, drawn or decided is no input of what comes before it."""
    deps = paths(STAGES[name], "deps")
    if name.startswith(("pull", "validate", "prepare", "train")):
        assert not [
            path
            for path in deps
            if path.startswith(("models/", "reports/metrics", "reports/figures"))
        ]


# --- params.yaml and conf/ --------------------------------------------------------------------------------------------


def test_data_sets_and_models_agree():
    """Every model's data set is listed, and every key has its confs; more confs may lie there, switched off."""
    assert PARAMS["datasets"] and PARAMS["models"]
    assert len(set(PARAMS["datasets"])) == len(PARAMS["datasets"])
    assert {line["dataset"] for line in PARAMS["models"].values()} <= set(PARAMS["datasets"])
    wanted = [f"conf/model/{name}.yaml" for name in PARAMS["models"]]
    wanted += [
        f"conf/{group}/{name}.yaml"
        for name in PARAMS["datasets"]
        for group in ("dataset", "expectations")
    ]
    wanted += [f"src/sextant/models/{line['family']}.py" for line in PARAMS["models"].values()]
    assert [path for path in wanted if not (ROOT / path).is_file()] == []


def test_no_conf_hides_a_parent_or_reaches_into_another_file():
    """DVC reads single files: it sees neither Hydra's defaults nor an interpolation that leads out of one."""
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
        assert [
            key for key in keys(yaml.safe_load(path.read_text())) if not isinstance(key, str)
        ] == [], path


def test_seed_source_and_budget_reach_the_stages_that_they_change():
    for name, stage in STAGES.items():
        read = {entry for entry in stage.get("params", []) if isinstance(entry, str)}
        assert read == {"pull": {"source"}, "train": {"seed", "budget"}, "report": {"models"}}.get(
            name.partition("@")[0], set()
        )
        if name.startswith("train@"):
            assert f"budgets.{PARAMS['budget']}" in str(stage["params"])
