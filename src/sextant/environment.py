"""Install this checkout with its locked dependencies into .venv, by uv or, where uv fails, by pip.

Then DVC is told where to keep its site cache, see site_cache.py.

    python -m sextant.environment dev,s3 [TORCH_INDEX]

Every package has the version of requirements.lock, and no file is installed whose sha256 is not
there. The exceptions are torch where TORCH_INDEX is given, which is trusted, and this checkout,
which is built by the setuptools of the lock.

`make environment` runs this with the Python of .venv, which has only pip at first: this module
imports the standard library alone. uv needs a third of pip's CPU time and half of its wall time
(19 and 69 s, 52 and 99 s, one after the other on two cores). It does not read pip's settings, so
they are passed on. A setting that uv does not have can make uv fail, but then pip installs.
"""

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from . import site_cache
from .errors import UsageError, run

LOCK = Path("requirements.lock")
# Groups of the lock beside the extras of pyproject.toml.
PROJECT = "project"  # what the project needs without any extra
TORCH = "torch"  # torch itself
CUDA = "cuda"  # what torch's builds for CUDA need
INSTALLER = "uv"
AUDIT = "audit"  # the tools of `make audit`, which installs them itself

PIP = (sys.executable, "-m", "pip")
UV = (sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable)
HASHED = ("--no-deps", "--require-hashes")
# Without isolation, setuptools is that of the lock and not the newest one of the index.
CHECKOUT = ("--no-deps", "--no-build-isolation", "--editable", ".")
# An entry of the lock: `name==version`, and the lines below it that are indented.
ENTRY = re.compile(r"^([\w.-]+)==([^\s;]+).*\n(?:[ \t].*\n)*", re.MULTILINE)
FOR = re.compile(r"# for ([\w, -]+)")

# pip's options and uv's variables. Variables, because the addresses of private indexes contain
# passwords, and other users of the machine can see the arguments of a process.
VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",  # PIP_DEFAULT_TIMEOUT; both names are pip's
    "timeout": "UV_HTTP_TIMEOUT",
}
# Options that may be repeated and have the same name in uv.
OPTIONS = ("no-binary", "only-binary")
# Beside a second index, uv would take the first that has a name at all, whatever the version.
STRATEGY = "unsafe-best-match"


def pip_settings(listed: str) -> dict[str, str]:
    """The settings of `pip install` by option, from the output of `pip config list`.

    A line is `section.option='value'`. The section `install` overrides `global`, and a variable
    PIP_… overrides both. Within a section pip has already merged its files.
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.partition(".")
        if section in sections:
            sections[section][option] = str(ast.literal_eval(value)).strip()
    return sections["global"] | sections["install"] | sections[":env:"]


def uv_variables(
    settings: Mapping[str, str], torch_index: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """The variables of uv's process: `environ`, and what pip's settings say about the source."""
    variables = dict(environ)
    # pip accepts these two as certificates, uv does not.
    bundle = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
    if bundle:
        variables["SSL_CERT_FILE"] = bundle
    for option, variable in VARIABLES.items():
        values = settings.get(option, "").split()
        if option == "extra-index-url" and torch_index:
            values.append(torch_index)
        if values:
            separator = "," if option == "find-links" else " "
            variables[variable] = separator.join(values)
    return variables


def uv_options(settings: Mapping[str, str], hashed: bool) -> list[str]:
    """The options of `uv pip install` that have no variable: constraints, and kinds of files.

    Where hashes are required, uv refuses constraints that have none; the lock has every version.
    """
    options = ["--index-strategy", STRATEGY]
    for option in OPTIONS if hashed else (*OPTIONS, "constraint"):
        for value in settings.get(option, "").split():
            options += [f"--{option}", value]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t"):
        options.append("--no-index")
    return options


def failure(stderr: str) -> str:
    """The first line of an error of uv, and its last, which is the innermost cause."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    ends = [line.partition(": ")[2] or line for line in dict.fromkeys([*lines[:1], *lines[-1:]])]
    return ": ".join(ends) or "no reason given"


# --- the lock -----------------------------------------------------------------------------------


class Pin(NamedTuple):
    """A package of the lock: its normalised name, its version, and the groups that need it.

    `text` is its entry: the requirement with its hashes.
    """

    name: str
    version: str
    groups: frozenset[str]
    text: str


def pins(lock: str) -> list[Pin]:
    """The entries of a lock. The last line of one says who needs it: `# for dev, s3; via …`."""
    entries = []
    for match in ENTRY.finditer(lock):
        groups = FOR.search(match[0])
        needed_by = frozenset(groups[1].split(", ")) if groups else frozenset()
        entries.append(Pin(normalized(match[1]), match[2], needed_by, match[0]))
    return entries


def normalized(name: str) -> str:
    """Return the name of a package as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def torch_version() -> str:
    """The version of the installed torch without the name of its build; empty if there is none."""
    try:
        return metadata.version(TORCH).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def needs_cuda() -> bool:
    """Whether the installed torch is a build for CUDA, which needs packages of NVIDIA."""
    requirements = metadata.requires(TORCH) or []
    return any(requirement.startswith("nvidia-") for requirement in requirements)


# --- installing ---------------------------------------------------------------------------------

# Install what the arguments of `pip install` name, from TORCH_INDEX too if it is not empty; return
# an empty string, or why it failed.
Installer = Callable[[Sequence[str], str], str]


def installed_pip_settings() -> dict[str, str]:
    """The settings of the environment's pip."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=True)
    return pip_settings(listed.stdout)


def installer_by_uv() -> Installer:
    """`uv pip install` with pip's settings."""
    settings = installed_pip_settings()

    def install(arguments: Sequence[str], torch_index: str) -> str:
        options = uv_options(settings, hashed="--require-hashes" in arguments)
        done = subprocess.run(
            [*UV, *options, *arguments],
            env=uv_variables(settings, torch_index, os.environ),
            stderr=subprocess.PIPE,
            text=True,
        )
        return failure(done.stderr) if done.returncode else ""

    return install


def install_by_pip(arguments: Sequence[str], torch_index: str) -> str:
    """`pip install`."""
    options = ["--extra-index-url", torch_index] if torch_index else []
    done = subprocess.run(
        [*PIP, "install", "-qq", "--no-compile", *options, *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    return (done.stderr.strip() or "pip failed") if done.returncode else ""


def install_entries(install: Installer, entries: Iterable[Pin]) -> str:
    """Install entries of the lock by their hashes; return an empty string, or why it failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("".join(pin.text for pin in entries), encoding="utf-8")
        return install((*HASHED, "--requirement", str(file)), "")


def install_all(install: Installer, extras: Iterable[str], torch_index: str) -> str:
    """Install everything; return an empty string, or why it failed."""
    entries = pins(LOCK.read_text(encoding="utf-8"))
    groups = {PROJECT, *extras}
    packages = [pin for pin in entries if pin.groups & groups]
    builds = [pin for pin in entries if TORCH in pin.groups]
    # A build such as 2.13.0+cpu is wanted where one of the user's own indexes or folders has it.
    builds.sort(key=lambda pin: "+" not in pin.version)
    version = builds[-1].version if builds else ""
    if torch_index or torch_version() == version:
        reason = install_entries(install, packages)
        if not reason and torch_index:
            reason = install((f"{TORCH}=={version}",), torch_index)
    else:
        for build in builds:
            reason = install_entries(install, [build, *packages])
            if not reason:
                break
        if not reason and needs_cuda():
            reason = install_entries(install, [pin for pin in entries if CUDA in pin.groups])
    return reason or install(CHECKOUT, "")


def install(extras: list[str], torch_index: str) -> int:
    """Install by uv or, where uv fails, by pip; return 1 if pip had to do it and failed."""
    installer = [pin for pin in pins(LOCK.read_text(encoding="utf-8")) if INSTALLER in pin.groups]
    reason = "pip cannot install uv"
    if not install_entries(install_by_pip, installer):
        reason = install_all(installer_by_uv(), extras, torch_index)
    if not reason:
        return 0
    print(f"uv is not used ({reason}): pip installs, which takes longer", file=sys.stderr)
    reason = install_all(install_by_pip, extras, torch_index)
    if reason:
        print(reason, file=sys.stderr)
    return int(bool(reason))


def main(argv: list[str]) -> int:
    """Install, then configure DVC; return the exit code of what failed."""
    if not argv or len(argv) > 2:
        raise UsageError("expected: python -m sextant.environment EXTRAS [TORCH_INDEX]")
    return install(argv[0].split(","), "".join(argv[1:])) or site_cache.configure()


if __name__ == "__main__":
    run(main)
