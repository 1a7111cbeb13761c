"""The rules of the tree: who may import whom, where each framework is used, where tests stand."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import cases
import pytest
import sources
from conftest import ROOT

PACKAGE = ROOT / "src/sextant"
FILES = sorted(PACKAGE.rglob("*.py"))
# A framework, and the only modules that may import it.
PLACES = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "great_expectations": {"validate"},
    "pytorch_lightning": {"train", "learner"},
    "dvc": {"commands.repro", "commands.scheduler"},
    "mlflow": {"tracking"},
    "optuna": {"tuning"},
}


# The nodes that are an import or may have one inside: no expression has.
BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case, ast.Module)


def name(path: Path) -> str:
    """The dotted name of a module inside the package: `kinds.tabular.rows`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(path): path for path in FILES}


def is_type_checking(condition: ast.expr) -> bool:
    return isinstance(condition, ast.Name) and condition.id == "TYPE_CHECKING"


def statements(node: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run: none under TYPE_CHECKING, those in functions only if `lazy`."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, BLOCKS):
            continue
        if isinstance(child, ast.If) and is_type_checking(child.test):
            continue
        if isinstance(child, ast.FunctionDef) and not lazy:
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from statements(child, lazy)


@functools.cache
def own_imports(module: str, lazy: bool = True) -> set[str]:
    """The modules of the package that a module imports."""
    package = module.split(".")
    if not (PACKAGE.joinpath(*package).is_dir()):
        package = package[:-1]
    imported = set()
    for statement in statements(sources.tree(MODULES[module]), lazy):
        if isinstance(statement, ast.ImportFrom) and statement.level:
            base = package[: len(package) - statement.level + 1]
            base = [*base, *(statement.module or "").split(".")] if statement.module else base
            for alias in statement.names:
                whole = ".".join([*base, alias.name])
                imported.add(whole if whole in MODULES else ".".join(base))
    return imported - {""}


@functools.cache
def foreign_imports(module: str) -> set[str]:
    """The top-level packages outside of ours that a module imports."""
    imported = set()
    for statement in statements(sources.tree(MODULES[module]), lazy=True):
        if isinstance(statement, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in statement.names}
        elif not statement.level:
            imported.add(str(statement.module).split(".")[0])
    return imported


def test_there_is_a_tree_to_look_at():
    assert len(MODULES) > 60
    assert own_imports("train") >= {"learner", "tracking.training", "config", "saved_model"}
    assert foreign_imports("learner") >= {"torch", "pytorch_lightning"}


def test_no_module_imports_itself_in_a_circle():
    """Imports in functions count as well: they are there for speed and not to hide a circle."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, f"circle: {' -> '.join([*path, module])}"
        if module not in done:
            for imported in sorted(own_imports(module)):
                visit(imported, [*path, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])


@cases.each("framework", PLACES)
def test_a_framework_has_one_place(framework):
    users = {module for module in MODULES if framework in foreign_imports(module)}
    assert users
    for module in users:
        assert module in PLACES[framework] or module.split(".")[0] in PLACES[framework], module


# What runs code that a file contains, and how the call says that it does not.
LOADERS = {
    "torch.load": "weights_only=True",
    "np.load": "allow_pickle=False",
    "np.fromfile": None,
    "pickle.load": None,
    "pickle.loads": None,
    "joblib.load": None,
    "marshal.loads": None,
    "pd.read_pickle": None,
    "shelve.open": None,
    "yaml.unsafe_load": None,
    "yaml.full_load": None,
    "yaml.load": "Loader=LOADER",  # CSafeLoader or SafeLoader
}


def test_no_file_is_loaded_in_a_way_that_runs_what_it_contains():
    calls = set()
    for module in MODULES:
        for node in ast.walk(sources.tree(MODULES[module])):
            if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in LOADERS:
                calls.add(called)
                promise = LOADERS[called]
                assert promise and promise in ast.unparse(node), f"{module}: {called}"
    assert calls == {"torch.load", "np.load", "yaml.load"}


def test_a_picture_is_opened_in_one_place():
    """Some of Pillow's decoders start programs, so each call names the formats that it reads."""
    calls = []
    for path in FILES:
        for line in path.read_text().splitlines():
            if "Image.open(" in line:
                calls.append((name(path), "formats=" in line))
    assert calls == [("drawing", True), ("kinds.pixels", True)]


def test_a_family_imports_torch_its_batch_and_shared_blocks_and_no_other_family():
    families = [module for module in MODULES if module.startswith("families.")]
    assert len(families) >= 7
    for module in families:
        foreign = {"torch", "pydantic", *__import__("sys").stdlib_module_names}
        assert foreign_imports(module) <= foreign, module
        for imported in own_imports(module):
            kind = imported.startswith("kinds.") and imported.endswith(".encoder")
            allowed = kind or imported in ("families.blocks", "families.maps", "errors")
            assert allowed, f"{module} imports {imported}"
    assert own_imports("families.blocks") <= {"errors"}
    assert own_imports("families.maps") <= {"families.blocks", "errors"}


def test_a_kind_imports_no_other_kind_and_a_task_no_other_task():
    shared = {"kinds.parts", "kinds.splits", "kinds.tables"}
    shared |= {
        "kinds.formats",
        "kinds.plain_lines",
        "kinds.numbers",
        "kinds.levels",
        "kinds.remarks",
    }
    shared |= {"kinds.archives", "kinds.arrays", "kinds.pixels"}
    for module in MODULES:
        parts = module.split(".")
        for imported in own_imports(module):
            other = imported.split(".")
            if parts[0] == "kinds" and other[0] == "kinds":
                assert imported in shared or other[1] == parts[1], f"{module} imports {imported}"
            if parts[0] == "kinds" and len(parts) >= 3:
                assert other[0] not in ("tasks", "families"), f"{module} imports {imported}"
            if parts[0] == "tasks" and other[0] == "tasks":
                allowed = other[1] in (parts[1], "recommendation")
                assert allowed, f"{module} imports {imported}"


def packages(folder: Path) -> set[str]:
    """The names of the packages in a folder."""
    return {path.parent.name for path in folder.glob("*/__init__.py")}


@pytest.mark.parametrize(
    ("group", "files"),
    [
        ("kinds", {"columns", "rows", "twin", "encoder"}),
        ("tasks", {"metrics", "baselines", "figures"}),
    ],
)
def test_a_kind_and_a_task_have_the_files_that_dvc_yaml_names(group, files):
    folders = [PACKAGE / group / name for name in packages(PACKAGE / group)]
    assert len(folders) >= 4
    for folder in folders:
        assert {path.stem for path in folder.glob("*.py")} | packages(folder) == {
            "__init__", *files,
        }  # fmt: skip
        assert (folder / "__init__.py").read_text() == "", "no stage depends on it"


def test_types_are_no_runtime_dependency():
    for module in MODULES:
        assert "contracts" not in own_imports(module), module


def test_every_test_file_stands_where_its_module_stands():
    """tests/kinds/test_tabular.py for kinds/tabular/, tests/tracking/test_store.py for its file."""
    for folder in ("kinds", "families", "tasks", "tracking", "commands"):
        tests = sorted((ROOT / "tests" / folder).glob("test_*.py"))
        assert tests
        names = {path.name for path in (PACKAGE / folder).iterdir()}
        for test in tests:
            subject = test.stem.removeprefix("test_")
            here = f"{subject}.py" in names or subject in names
            topics = ("models", "baselines", "countries", "importance", "pictures", "picture_sets")
            assert here or subject in topics, test


def test_no_two_test_files_have_one_name():
    """pytest imports a test file under its name alone, and refuses a second one of it."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
