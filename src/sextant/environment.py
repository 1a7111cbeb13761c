"""Install this checkout with its dependencies into .venv, by uv or, where uv fails, by pip.

Then DVC is told where to keep its site cache, see site_cache.py.

    python -m sextant.environment '.[dev]' [TORCH_INDEX]

`make environment` runs this with the Python of .venv, which has only pip at first: this module
imports the standard library alone. uv needs a third of pip's CPU time and half of its wall time
(19 and 69 s, 52 and 99 s, one after the other on two cores). It does not read pip's settings, so
they are passed on. A setting that uv does not have can make uv fail, but then pip installs.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Mapping

from . import site_cache
from .errors import UsageError, run

PIP = (sys.executable, "-m", "pip")
INSTALL_UV = ("install", "-qq", "--no-compile", "--only-binary=uv", "-c", "constraints.txt", "uv")
UV = (sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable)
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
OPTIONS = ("constraint", "no-binary", "only-binary")
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


def uv_options(settings: Mapping[str, str]) -> list[str]:
    """The options of `uv pip install` that have no variable: constraints, and kinds of files."""
    options = ["--index-strategy", STRATEGY, "--constraint", "constraints.txt"]
    for option in OPTIONS:
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


def install_by_uv(requirement: str, torch_index: str) -> str:
    """Install uv, then the requirement; return an empty string, or why it failed."""
    if subprocess.run([*PIP, *INSTALL_UV], capture_output=True).returncode:
        return "pip cannot install uv"
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=True)
    settings = pip_settings(listed.stdout)
    done = subprocess.run(
        [*UV, *uv_options(settings), "--editable", requirement],
        env=uv_variables(settings, torch_index, os.environ),
        stderr=subprocess.PIPE,
        text=True,
    )
    return failure(done.stderr) if done.returncode else ""


def main(argv: list[str]) -> int:
    """Install, then configure DVC; return the exit code of what failed."""
    if not argv or len(argv) > 2:
        raise UsageError("expected: python -m sextant.environment REQUIREMENT [TORCH_INDEX]")
    return install(argv[0], "".join(argv[1:])) or site_cache.configure()


def install(requirement: str, torch_index: str) -> int:
    """Install by uv or, where uv fails, by pip; return pip's exit code if pip had to do it."""
    reason = install_by_uv(requirement, torch_index)
    if not reason:
        return 0
    print(f"uv is not used ({reason}): pip installs, which takes longer", file=sys.stderr)
    options = ["-qq", "--no-compile", "-c", "constraints.txt"]
    if torch_index:
        options += ["--extra-index-url", torch_index]
    return subprocess.run([*PIP, "install", *options, "--editable", requirement]).returncode


if __name__ == "__main__":
    run(main)
