"""The make targets: `make help` lists each, and a wrong call ends with one line of advice."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cases
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE)
TARGETS.remove("environment")  # internal, and not in the help
STAGES = list(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


def make(*arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run make in `folder`, with no Python of this environment on the PATH."""
    env |= {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with the Makefile and no environment.

    A target that tries to use or make an environment fails with a message of its own.
    """
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_each_stage_has_a_target() -> None:
    assert len(TARGETS) > 20
    assert set(STAGES) <= set(TARGETS)


def test_each_target_is_phony_and_has_a_help_text() -> None:
    phony = MAKEFILE[MAKEFILE.index(".PHONY:") :].replace("\\\n", " ").split()
    for target in TARGETS:
        assert re.search(rf"^{target}:.* ## (.* )?\| .+", MAKEFILE, re.MULTILINE), (
            f"`{target}` has no `## [usage] | help`"
        )
        assert target in phony


def test_help_is_the_default_and_lists_every_target_on_one_screen(bare: Path) -> None:
    page = make(folder=bare)
    assert page.returncode == 0
    assert page.stdout == make("help", folder=bare).stdout
    usage, *lines = page.stdout.splitlines()
    listed = [line[10:].split()[0] for line in lines if line]
    assert usage.startswith("make TARGET")
    assert sorted(listed) == sorted(TARGETS)
    groups = [line[:10].strip() for line in lines if line[:10].strip()]
    assert groups == ["Start", "Pipeline", "Use", "New data", "Develop"]
    assert len(page.stdout.splitlines()) <= 50
    assert max(map(len, page.stdout.splitlines())) <= 100


@cases.each(
    ("arguments", "missing"),
    [
        (["predict"], "MODEL"),
        (["predict", "MODEL=ann"], "INPUT"),
        (["predict", "MODEL=", "INPUT=rows.csv"], "MODEL"),
        (["drift", "MODEL=ann"], "INPUT"),
        (["serve"], "MODEL"),
        (["history"], "MODEL"),
        (["promote", "VERSION=3"], "MODEL"),
        (["rollback"], "MODEL"),
        (["pin"], "DATASET"),
        (["remote"], "URL"),
        (["results"], "SEXTANT_MIRROR"),
    ],
)
def test_a_missing_argument_gives_one_line_with_the_usage(
    bare: Path, arguments: list[str], missing: str
) -> None:
    done = make(*arguments, folder=bare)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    usage = rf"Usage: make {arguments[0]} .*{missing}="
    assert re.search(rf"{missing} is missing\. {usage}", done.stderr)
    assert not (bare / ".venv").exists()


@cases.each(
    ("arguments", "name", "usage"),
    [
        (["train", "model=ann"], "model", "make train [MODEL=ann] [JOBS=2] [SEEDS=5]"),
        (["train", "DATASET=churn"], "DATASET", "make train [MODEL=ann] [JOBS=2] [SEEDS=5]"),
        (["repro", "jobs=2"], "jobs", "make repro [JOBS=2]"),
        (["lint", "JOBS=2"], "JOBS", "make lint"),
        (
            ["pull", "leaderboard", "DATASET=a", "url=x"],
            "url",
            "make pull leaderboard [DATASET=churn] [JOBS=2]",
        ),
    ],
)
def test_a_name_that_a_target_does_not_take_is_refused(
    bare: Path, arguments: list[str], name: str, usage: str
) -> None:
    """Otherwise `make train model=ann` would train every model."""
    done = make(*arguments, folder=bare)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"{name} is not an argument here. Usage: {usage}." in done.stderr
    assert not (bare / ".venv").exists()


def test_a_value_may_contain_blanks(bare: Path) -> None:
    done = make(
        "-n", "new", "FILE=/data/sales export (final).csv", "TARGET=Net Amount", folder=bare
    )
    assert done.returncode == 0
    assert 'sextant new "FILE=$FILE" "TARGET=$TARGET"' in done.stdout
    refused = make("-n", "new", "FILE=a b.csv", "TARGT=Net Amount", folder=bare)
    assert "TARGT is not an argument here." in refused.stderr


def test_an_unknown_target_gives_one_line_that_names_the_help(bare: Path) -> None:
    done = make("trian", folder=bare)
    assert done.returncode == 2
    assert "there is no target trian: `make help` lists them" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_remote_of_an_unknown_scheme_is_refused(bare: Path) -> None:
    done = make("remote", "URL=gopher://host/path", folder=bare)
    assert done.returncode == 2
    expected = "expected a folder, s3://bucket/path or ssh://host/path"
    assert f"URL=gopher://host/path: {expected}" in done.stderr
    assert not (bare / ".venv").exists()


def test_an_unsuitable_python_is_named(bare: Path) -> None:
    done = make("setup", "PYTHON=/nowhere/python", folder=bare)
    assert done.returncode == 2
    assert "no Python 3.11, 3.12 or 3.13 found as /nowhere/python: install one" in done.stderr
    assert not (bare / ".venv").exists()


def test_clean_removes_scratch_and_caches_and_nothing_else(bare: Path) -> None:
    kept = ["mlflow.db", "models/ann/model.json", ".dvc/cache/x", "reports/index.html"]
    caches = [".mypy_cache/x", "src/__pycache__/x.pyc", "tests/__pycache__/x.pyc"]
    removed = [".scratch/ann/x", *caches]
    for name in (*kept, *removed):
        path = bare / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    done = make("clean", folder=bare)
    assert done.returncode == 0, done.stderr
    assert "removed: .scratch" in done.stdout
    assert [name for name in kept if not (bare / name).exists()] == []
    assert [name for name in removed if (bare / name).exists()] == []


def make_environment(folder: Path) -> None:
    """Make a .venv whose stamp is up to date, and whose `python` only prints its arguments."""
    binary = folder / ".venv/bin"
    binary.mkdir(parents=True)
    stamp = subprocess.run(
        "cat pyproject.toml requirements.lock | cksum",
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    (folder / ".venv/.ready").write_text(f"{stamp.stdout.strip()} dev\n")
    (binary / "python").write_text(
        '#!/bin/sh\nfor word in "$@"; do printf "[%s]" "$word"; done; echo\n'
    )
    (binary / "python").chmod(0o755)


@pytest.fixture
def equipped(bare: Path) -> Path:
    """`bare` with an environment whose `python` prints its arguments, a script and a row."""
    make_environment(bare)
    (bare / "results").mkdir()
    (bare / "results/last.py").touch()
    (bare / "bench").mkdir()
    (bare / "bench/loop.py").touch()
    return bare


@cases.each(
    ("arguments", "command"),
    [
        (["train", "MODEL=ann"], "[-m][sextant][repro][train@ann]"),
        (["train"], "[-m][sextant][repro][train]"),
        (["train", "JOBS=3"], "[-m][sextant][repro][train][jobs=3]"),
        (["repro", "JOBS=many"], "[-m][sextant][repro][--whole][jobs=many]"),
        (["pull", "DATASET=churn"], "[-m][sextant][repro][pull@churn]"),
        (["report"], "[-m][sextant][repro][report]"),
        (["register"], "[-m][sextant][register][--write]"),
        (["register", "MODEL=ann"], "[-m][sextant][register][--write][model=ann]"),
        (
            ["promote", "MODEL=ann", "VERSION=3"],
            "[-m][sextant][promote][model=ann][version=3]",
        ),
        (["rollback", "MODEL=ann"], "[-m][sextant][rollback][model=ann]"),
        (
            ["predict", "MODEL=ann", "INPUT=my rows.csv"],
            "[-m][sextant][predict][model=ann][input=my rows.csv]",
        ),
        (
            ["predict", "MODEL=rbm", "INPUT=a.csv", "OPTIONS=top_k=5 lr=1"],
            "[-m][sextant][predict][model=rbm][input=a.csv][top_k=5][lr=1]",
        ),
        (
            ["predict", "MODEL=ann", "INPUT=a.csv", "OUTPUT=b c.csv"],
            "[-m][sextant][predict][model=ann][input=a.csv][output=b c.csv]",
        ),
        (["serve", "MODEL=ann"], "[-m][sextant][serve][model=ann][port=5001]"),
        (["serve", "MODEL=ann", "PORT=8080"], "[-m][sextant][serve][model=ann][port=8080]"),
        (["ui", "PORT=8080"], "[-m][sextant][ui][port=8080]"),
        (["pin", "DATASET=churn"], "[-m][sextant][pin][dataset=churn]"),
        (["results", "SEXTANT_MIRROR=/data"], "[results/last.py]"),
        (["bench", "ROW=loop", "OPTIONS=pairs=1 only=test"], "[bench/loop.py][pairs=1][only=test]"),
        (["bench", "ROW=loop", "AGAINST=main~2"], "[bench/loop.py][against=main~2]"),
        (["fuzz"], "[-m][pytest][-q][tests/test_fuzz.py][-n][2][--dist][worksteal]"),
        (["fuzz", "CASE=raw series 7 odd_cell"], "[-m][pytest][-q][tests/test_fuzz.py][-s]"),
        (["test-fast"], "[-m][pytest][-q][-m][not slow][-n][2][--dist][worksteal]"),
    ],
)
def test_a_target_calls_its_command_with_the_arguments(
    equipped: Path, arguments: list[str], command: str
) -> None:
    done = make(*arguments, folder=equipped)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == command


def test_a_stale_environment_is_installed_with_the_extras_and_the_index_of_torch(
    bare: Path,
) -> None:
    make_environment(bare)
    (bare / "requirements.lock").write_text("numpy==2\n")
    (bare / ".dvc").mkdir()
    (bare / ".dvc/config").write_text("[core]\n    remote = storage\n    url = s3://bucket/x\n")
    arguments = ("setup", "TORCH_INDEX=https://host/cpu", f"PYTHON={sys.executable}")
    done = make(*arguments, folder=bare)
    assert "making .venv" in done.stderr
    expected = "[-m][sextant.environment][dev,s3][https://host/cpu]"
    assert done.stdout.splitlines()[1] == expected
    assert (bare / ".venv/.ready").read_text().endswith(" dev,s3\n")


def test_bench_lists_its_rows_and_refuses_any_other(bare: Path) -> None:
    make_environment(bare)
    shutil.copytree(ROOT / "bench", bare / "bench")
    listed = make("bench", folder=bare)
    rows = [line.split()[2] for line in listed.stdout.splitlines()]
    assert rows == sorted(f"ROW={path.stem}" for path in (ROOT / "bench").glob("[a-z]*.py"))
    assert max(map(len, listed.stdout.splitlines())) <= 100
    unknown = make("bench", "ROW=lop", folder=bare)
    assert unknown.returncode == 2
    assert unknown.stdout == listed.stdout
    assert "there is no row lop" in unknown.stderr


def test_repro_is_one_command(bare: Path) -> None:
    make_environment(bare)
    assert make("repro", folder=bare).stdout == "[-m][sextant][repro][--whole]\n"


def test_bytecode_is_written_even_if_the_caller_forbids_it(bare: Path) -> None:
    make_environment(bare)
    (bare / ".venv/bin/python").write_text("#!/bin/sh\necho ${PYTHONDONTWRITEBYTECODE:-kept}\n")
    assert make("leaderboard", folder=bare, PYTHONDONTWRITEBYTECODE="1").stdout == "kept\n"


def test_the_stamp_of_the_environment_depends_on_contents_and_not_on_times(bare: Path) -> None:
    make_environment(bare)
    (bare / "pyproject.toml").touch()
    assert make("leaderboard", folder=bare).returncode == 0
    (bare / "requirements.lock").write_text("numpy==2\n")
    assert "making .venv" in make("leaderboard", f"PYTHON={sys.executable}", folder=bare).stderr


WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_the_workflows_are_those_of_pull_requests_and_of_retraining() -> None:
    assert [path.stem for path in WORKFLOWS] == ["pull-request", "retrain"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_make_and_pin_actions_by_commit(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    actions = re.findall(r"uses: (\S+)", text)
    assert actions
    for action in actions:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
    assert content["permissions"] == {"contents": "read"}
    targets = []
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 360
        for step in job["steps"]:
            targets += re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))
    assert targets
    assert set(targets) <= set(TARGETS)


def test_pre_commit_has_five_hooks_at_most() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert 0 < len(hooks) <= 5
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
