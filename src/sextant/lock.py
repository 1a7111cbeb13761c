"""Write requirements.lock: every package with its version and the sha256 of all its files.

    python -m sextant.lock [--upgrade] [TORCH_INDEX]

uv resolves pyproject.toml with all extras for Python from 3.11 on and every platform. Versions stay
as they are where they still fit; with `--upgrade` the newest are taken. Each entry says which
groups need it, so that `make setup` installs those of its extras and no other; see environment.py.

The files are those of pip's index. Torch has other builds of the same version in indexes of its
own, such as 2.13.0+cpu: with TORCH_INDEX, an index or a folder, its build gets an entry, which
stays as long as the version does.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from . import environment
from .environment import CUDA, INSTALLER, LOCK, PROJECT, TORCH, Pin
from .errors import SextantError, UsageError, run
from .files import sha256, written_whole

PYPROJECT = Path("pyproject.toml")
HEADER = """\
# The packages that Sextant is tested with, and the sha256 of their files. `make lock` writes it,
# and `make setup` installs what the extras need of it, and nothing with another digest. The last
# line of an entry says who needs it: the project, an extra of pyproject.toml, torch's builds for
# CUDA, or uv, which installs.
"""
COMPILE = (sys.executable, "-m", "uv", "pip", "compile", "-q", "--no-header")
EVERYWHERE = ("--universal", "--python-version", "3.11")
CUDA_NAMES = re.compile(r"(nvidia|cuda)-.*|triton")
HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
VIA = re.compile(r"^    # via (.*)\n", re.MULTILINE)
LOCAL = ("find-links", "extra-index-url", "no-index", "constraint")  # of pip's settings


def compiled(settings: Mapping[str, str], torch_index: str, *arguments: str) -> str:
    """The output of `uv pip compile`; raises SextantError if uv finds no solution."""
    done = subprocess.run(
        [*COMPILE, "--index-strategy", environment.STRATEGY, *arguments],
        env=environment.uv_variables(settings, torch_index, os.environ),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SextantError(f"uv cannot resolve pyproject.toml: {environment.failure(done.stderr)}")
    return done.stdout


def names(lock: str) -> set[str]:
    """The names of the packages that a lock has."""
    return {pin.name for pin in environment.pins(lock)}


def versions(lock: str) -> dict[str, str]:
    """The versions of a lock by name, without builds."""
    return {pin.name: pin.version.partition("+")[0] for pin in environment.pins(lock)}


def groups_of(name: str, needed: Mapping[str, Collection[str]]) -> list[str]:
    """The groups that need a package; `needed` has the packages by group, the project's first.

    What the project needs in any case is not listed for its extras again.
    """
    if name == TORCH:
        return [TORCH]
    if CUDA_NAMES.fullmatch(name):
        return [CUDA]
    groups = [group for group, packages in needed.items() if name in packages]
    return [PROJECT] if PROJECT in groups else groups


def entry(pin: Pin, groups: Collection[str]) -> str:
    """The entry of a package in the lock."""
    via = VIA.search(pin.text)
    requirement = pin.text.partition("\n")[0].removesuffix(" \\")
    lines = [requirement, *[f"    --hash={digest}" for digest in sorted(HASH.findall(pin.text))]]
    reason = f"    # for {', '.join(groups)}"
    if via and groups != [INSTALLER]:
        reason += f"; via {via[1].replace('sextant (pyproject.toml)', 'pyproject.toml')}"
    return " \\\n".join(lines) + f"\n{reason}\n"


def resolved(earlier: str, upgrade: bool, torch_index: str) -> str:
    """The text of the lock. `earlier` is that of the present one, empty if there is none."""
    settings = environment.installed_pip_settings()
    public = {name: value for name, value in settings.items() if name not in LOCAL}
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.txt"
        if not upgrade:
            whole.write_text(earlier, encoding="utf-8")  # uv prefers the versions of its output
        installer = Path(folder) / "installer.in"
        installer.write_text(f"{INSTALLER}\n", encoding="utf-8")
        compiled(
            public, "", *EVERYWHERE, "--generate-hashes", "--annotation-style", "line",
            *("--all-extras", "--output-file", str(whole), str(PYPROJECT), str(installer)),
        )  # fmt: skip
        # The index has been asked; the answers are in uv's cache.
        same_versions = (*EVERYWHERE, "--offline", "--no-annotate", "--constraint", str(whole))
        needed = {PROJECT: names(compiled(public, "", *same_versions, str(PYPROJECT)))}
        for extra in extras():
            text = compiled(public, "", *same_versions, "--extra", extra, str(PYPROJECT))
            needed[extra] = names(text)
        needed[INSTALLER] = {INSTALLER}
        entries = environment.pins(whole.read_text(encoding="utf-8"))
    lines = [HEADER]
    for pin in entries:
        lines.append(entry(pin, groups_of(pin.name, needed)))
        if pin.name == TORCH:
            builds = builds_of_torch(pin.version, earlier, settings, torch_index)
            lines += [entry(build, [TORCH]) for build in builds]
    return "".join(lines)


def extras() -> list[str]:
    """The extras of pyproject.toml."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"])


def builds_of_torch(
    version: str, earlier: str, settings: Mapping[str, str], torch_index: str
) -> list[Pin]:
    """Builds of a version of torch, such as 2.13.0+cpu: those of the earlier lock and TORCH_INDEX.

    TORCH_INDEX may also be a folder of wheels, such as one that pip's settings name.
    """
    text = earlier
    folder = Path(torch_index)
    if torch_index and folder.is_dir():
        for wheel in sorted(folder.glob(f"{TORCH}-{version}+*.whl")):
            build = wheel.name.split("-")[1]
            text += f"{TORCH}=={build} \\\n    --hash=sha256:{sha256(wheel)}\n"
    elif torch_index:
        with tempfile.NamedTemporaryFile("w+", suffix=".in") as requirement:
            requirement.write(f"{TORCH}=={version}\n")
            requirement.flush()
            options = ("--generate-hashes", "--no-deps", "--no-annotate", requirement.name)
            text += compiled(settings, torch_index, *options)
    builds = {}
    for pin in environment.pins(text):
        if pin.name == TORCH and pin.version.startswith(f"{version}+"):
            builds[pin.version] = pin
    return list(builds.values())


def main(argv: list[str]) -> None:
    upgrade = "--upgrade" in argv
    rest = [argument for argument in argv if argument != "--upgrade"]
    if len(rest) > 1:
        raise UsageError("expected: python -m sextant.lock [--upgrade] [TORCH_INDEX]")
    earlier = LOCK.read_text(encoding="utf-8") if LOCK.is_file() else ""
    text = resolved(earlier, upgrade, "".join(rest))
    with written_whole(LOCK) as beside:
        beside.write_text(text, encoding="utf-8")
    before = versions(earlier)
    after = versions(text)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            print(f"{name}: {before.get(name, 'new')} -> {after.get(name, 'removed')}")
    print(f"{LOCK}: {len(after)} packages")


if __name__ == "__main__":
    run(main)
