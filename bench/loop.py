"""The loop of users and contributors: this commit and another one, in turn

    python bench/loop.py [against=0efe4ab] [only=repro,setup] [pairs=3] [budget=standard]

Each figure is the wall time of commands that a person types. They run in clones in a temporary
folder, this commit and the other one in turn: A B A B A B. Printed are the median, the lowest and
the highest of each, the ratio of the medians, and the same ratio of CPU time (user and system, of
all processes together), which other programs disturb less. Beside them stands the load: how many
cores other programs and the host kept busy meanwhile. Uncommitted changes are not measured.

All clones link to the .venv of this checkout, except for `setup`. All figures with three pairs take
hours, because `test` and `ci` run everything three times for each commit. SEXTANT_MIRROR names the
folder of the real data for `mirror`, and for the second half of `ci`.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from _clones import ROOT, change, link_environment, variables
from _machine import busy_time, machine
from _options import parsed, short_hash

from sextant.errors import SextantError, UsageError, run

# The last commit before this loop was measured and shortened.
AGAINST = "0efe4ab"
LAST_LINES = 15  # of the output of a command that failed


class Options(NamedTuple):
    """The arguments of the command line."""

    against: str = AGAINST
    only: str = ""  # names of figures, with commas; empty for all
    pairs: str = "3"
    budget: str = "standard"  # of the pipelines; `smoke` for a try


class Run(NamedTuple):
    """One run of a command."""

    wall: float  # seconds
    cpu: float  # seconds of user and system time, of all its processes together
    others: float  # cores that other programs and the host kept busy


class Checkout:
    """A commit, and clones of it in a temporary folder."""

    def __init__(self, commit: str, folder: Path, budget: str) -> None:
        self.commit = commit
        self.folder = folder
        self.budget = budget
        self.made = 0
        self.complete: Path | None = None

    def clone(self, environment: bool = True) -> Path:
        """Make a clone that has neither data nor a registry."""
        self.made += 1
        # A folder around it, since .ci/run looks for the real data beside the repository.
        path = self.folder / str(self.made) / "sextant"
        subprocess.run(["git", "clone", "-q", ROOT, path], check=True)
        subprocess.run(["git", "-C", path, "checkout", "-q", self.commit], check=True)
        change(path / "params.yaml", "\nbudget: standard", f"\nbudget: {self.budget}")
        if environment:
            link_environment(path)
        return path

    def complete_clone(self) -> Path:
        """A clone in which `make repro` has run; one for all figures that need it."""
        if self.complete is None:
            self.complete = self.clone()
            execute(self.complete, "make", "repro")
        return self.complete

    def keep(self, clone: Path) -> None:
        """Keep a clone in which `make repro` has run instead of the kept one, which is removed."""
        if self.complete:
            shutil.rmtree(self.complete.parent)
        self.complete = clone


def execute(clone: Path, *command: str, code: int = 0, **extra: str) -> tuple[Run, str]:
    """Run a command in a clone; return what it took, and its output.

    Raises SextantError if its exit code is not `code`.
    """
    log = clone.parent / "log"
    others = busy_time()
    own = children_time()
    started = time.perf_counter()
    with log.open("w") as stream:
        done = subprocess.run(
            command,
            cwd=clone,
            env=variables(clone) | extra,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    wall = time.perf_counter() - started
    cpu = children_time() - own
    others = max(busy_time() - others - cpu, 0.0) / wall
    output = log.read_text(errors="replace")
    if done.returncode != code:
        end = "\n".join(output.splitlines()[-LAST_LINES:])
        raise SextantError(f"`{' '.join(command)}` ended with code {done.returncode}:\n{end}")
    return Run(wall, cpu, others), output


def children_time() -> float:
    """CPU seconds of all processes that have been started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# The figures. Each makes or takes a clone, which is not timed, and times one command in it. `pair`
# counts the pairs from 1. None: the commit does not have the command.


def repro(checkout: Checkout, pair: int) -> Run | None:
    """make repro: twins, empty cache and registry"""
    clone = checkout.clone()
    done, _ = execute(clone, "make", "repro")
    checkout.keep(clone)
    return done


def mirror(checkout: Checkout, pair: int) -> Run | None:
    """make repro with `source: mirror`: real data"""
    clone = checkout.clone()
    change(clone / "params.yaml", "\nsource: embedded", "\nsource: mirror")
    done, _ = execute(clone, "make", "repro", SEXTANT_MIRROR=os.environ["SEXTANT_MIRROR"])
    shutil.rmtree(clone.parent)
    return done


def second(checkout: Checkout, pair: int) -> Run | None:
    """a second dvc repro, which runs no stage"""
    done, output = execute(checkout.complete_clone(), "python", "-m", "dvc", "repro")
    if "Running stage" in output:
        raise SextantError("the second `dvc repro` runs a stage")
    return done


def edit(checkout: Checkout, pair: int) -> Run | None:
    """make repro after a change of one number in conf/model/ann.yaml"""
    clone = checkout.complete_clone()
    # Another number in each pair: DVC would restore the outputs of one that it has seen.
    before = "0.2" if pair == 1 else f"0.20{pair - 1}"
    change(clone / "conf/model/ann.yaml", f"dropout: {before}\n", f"dropout: 0.20{pair}\n")
    done, _ = execute(clone, "make", "repro")
    return done


def predict(checkout: Checkout, pair: int) -> Run | None:
    """make predict of ten rows by the ann, in a new process"""
    clone = checkout.complete_clone()
    (table,) = (clone / "data").rglob("Churn_Modelling.csv")
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = clone.parent / "rows.csv"
    rows.write_text("".join(lines[:11]), encoding="utf-8")
    done, _ = execute(clone, "make", "predict", "MODEL=ann", f"INPUT={rows}")
    return done


def make_help(checkout: Checkout, pair: int) -> Run | None:
    """make help"""
    done, _ = execute(checkout.complete or checkout.clone(), "make", "help")
    return done


def sextant_help(checkout: Checkout, pair: int) -> Run | None:
    """sextant --help"""
    clone = checkout.complete or checkout.clone()
    if not (clone / "src/sextant/__main__.py").is_file():
        return None
    done, _ = execute(clone, "python", "-m", "sextant", "--help")
    return done


def usage(checkout: Checkout, pair: int) -> Run | None:
    """a usage error: sextant train without a model"""
    clone = checkout.complete or checkout.clone()
    if not (clone / "src/sextant/__main__.py").is_file():
        return None
    done, _ = execute(clone, "python", "-m", "sextant", "train", code=2)
    return done


def setup(checkout: Checkout, pair: int) -> Run | None:
    """make setup, no .venv and empty caches"""
    clone = checkout.clone(environment=False)
    caches = str(clone.parent / "cache")
    done, _ = execute(clone, "make", "setup", XDG_CACHE_HOME=caches)
    shutil.rmtree(clone.parent)
    return done


def test_fast(checkout: Checkout, pair: int) -> Run | None:
    """make test-fast"""
    clone = checkout.clone()
    done, _ = execute(clone, "make", "test-fast")
    shutil.rmtree(clone.parent)
    return done


def test(checkout: Checkout, pair: int) -> Run | None:
    """make test"""
    clone = checkout.clone()
    done, _ = execute(clone, "make", "test")
    shutil.rmtree(clone.parent)
    return done


def ci(checkout: Checkout, pair: int) -> Run | None:
    """.ci/run"""
    clone = checkout.clone()
    if "SEXTANT_MIRROR" in os.environ:
        shared = clone.parent / "shared"
        shared.mkdir()
        (shared / "datasets").symlink_to(os.environ["SEXTANT_MIRROR"])
    done, _ = execute(clone, ".ci/run")
    shutil.rmtree(clone.parent)
    return done


FIGURES: dict[str, Callable[[Checkout, int], Run | None]] = {
    "help": make_help,
    "sextant-help": sextant_help,
    "usage": usage,
    "repro": repro,
    "second": second,
    "predict": predict,
    "edit": edit,
    "mirror": mirror,
    "setup": setup,
    "test-fast": test_fast,
    "test": test,
    "ci": ci,
}


def main(argv: list[str]) -> int:
    """Measure and print the table; the code is 1 if a command failed."""
    options = parse(argv)
    commits = [short_hash("HEAD"), short_hash(options.against)]
    names = figures(options.only)
    print(machine(), file=sys.stderr)
    lines = []
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as folder:
        checkouts = []
        for letter, commit in zip("ab", commits, strict=True):
            checkouts.append(Checkout(commit, Path(folder, letter), options.budget))
        for name in names:
            lines.append(measure(name, checkouts, int(options.pairs)))
    print(f"\n{machine()}; {options.pairs} pairs; budget {options.budget}")
    print("seconds as median (lowest to highest)\n")
    print(f"| work | {commits[0]} | {commits[1]} | ratio | CPU ratio | cores used by others |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))
    return int(any("failed" in line for line in lines))


def parse(argv: list[str]) -> Options:
    """The options of the command line; raises UsageError for what is not understood."""
    options = parsed(Options(), argv)
    if not re.fullmatch("[1-9]", options.pairs):
        raise UsageError(f"pairs={options.pairs}: expected a number from 1 to 9")
    return options


def figures(only: str) -> list[str]:
    """The names of the figures to measure; without SEXTANT_MIRROR, `mirror` is not in `all`."""
    names = only.split(",") if only else list(FIGURES)
    for name in names:
        if name not in FIGURES:
            raise UsageError(f"there is no figure `{name}`; expected {', '.join(FIGURES)}")
    if "mirror" in names and "SEXTANT_MIRROR" not in os.environ:
        if only:
            raise UsageError("`mirror` needs SEXTANT_MIRROR=/absolute/folder of the real data")
        print("SEXTANT_MIRROR is not set: `mirror` is left out", file=sys.stderr)
        names.remove("mirror")
    return names


def measure(name: str, checkouts: list[Checkout], pairs: int) -> str:
    """Measure a figure for both commits in turn; return its line of the table."""
    title = FIGURES[name].__doc__
    runs: list[list[Run]] = [[], []]
    for pair in range(1, pairs + 1):
        for checkout, own_runs in zip(checkouts, runs, strict=True):
            try:
                done = FIGURES[name](checkout, pair)
            except SextantError as error:
                print(f"{name}, {checkout.commit}: {error}", file=sys.stderr)
                return f"| {title} | failed for {checkout.commit} | | | | |"
            if done:
                own_runs.append(done)
                numbers = f"{done.wall:.2f} s, CPU {done.cpu:.2f} s, others {done.others:.1f} cores"
                print(f"{name}, {checkout.commit}, {pair}: {numbers}", file=sys.stderr)
    return table_line(title or name, *runs)


def table_line(title: str, ours: list[Run], theirs: list[Run]) -> str:
    """One line of the table; no ratio if the other commit does not have the command."""
    cells = [title, seconds(ours), seconds(theirs), "", ""]
    if ours and theirs:
        wall = median(run.wall for run in ours) / median(run.wall for run in theirs)
        cpu = median(run.cpu for run in ours) / median(run.cpu for run in theirs)
        cells[3:] = [f"{wall:.2f}", f"{cpu:.2f}"]
    cells.append(f"{mean(run.others for run in [*ours, *theirs]):.1f}")
    return f"| {' | '.join(cells)} |"


def seconds(runs: list[Run]) -> str:
    """The wall times of some runs: median, lowest and highest."""
    if not runs:
        return "–"
    walls = sorted(run.wall for run in runs)
    digits = 2 if walls[0] < 10 else 0
    return f"{median(walls):.{digits}f} ({walls[0]:.{digits}f} to {walls[-1]:.{digits}f})"


if __name__ == "__main__":
    run(main)
