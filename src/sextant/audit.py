"""`make audit`: known vulnerabilities, risky code, a bill of materials, the floors of pyproject.

    python -m sextant.audit

Its tools are the extra `audit` of the lock, which is installed first. pip-audit looks up every
package of the lock, installed here or not; bandit reads the source, its exceptions are in
pyproject.toml; cyclonedx-py lists what is installed in .scratch/sbom.json (CycloneDX 1.6); and uv
looks whether an environment at the floors of pyproject.toml can be resolved.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from . import environment, paths
from .environment import AUDIT, LOCK
from .errors import SextantError, UsageError, run

SOURCES = ("src", "results", "bench", "promises")
SBOM = paths.SCRATCH / "sbom.json"
PYPROJECT = Path("pyproject.toml")


def output(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment."""
    program = Path(sys.executable).with_name(command[0])
    return subprocess.run([str(program), *command[1:]], capture_output=True, text=True)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"it ended with code {done.returncode}"


def advisories() -> str:
    """Look up every package of the lock among PyPI's advisories; raises SextantError for a finding.

    The builds of torch with a name of their own, such as 2.13.0+cpu, are not on PyPI.
    """
    entries = []
    for pin in environment.pins(LOCK.read_text(encoding="utf-8")):
        if "+" not in pin.version:
            entries.append(pin.text)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("".join(entries), encoding="utf-8")
        done = output(
            "pip-audit", "--requirement", str(file), "--disable-pip", "--require-hashes",
            *("--vulnerability-service", "pypi", "--format", "json", "--progress-spinner", "off"),
        )  # fmt: skip
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        raise SextantError(f"PyPI's advisories cannot be read ({last_line(done)})") from None
    return judge(packages, accepted())


def accepted() -> dict[str, str]:
    """The advisories that pyproject.toml accepts, each with its reason."""
    tools = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]
    accepted: dict[str, str] = tools.get("sextant", {}).get("accepted-advisories", {})
    return accepted


def judge(packages: Sequence[dict[str, object]], accepted: dict[str, str]) -> str:
    """What pip-audit has found; raises SextantError for an advisory that is not accepted."""
    seen = 0
    found_in = []
    for package in packages:
        advisories = package.get("vulns")
        if not isinstance(advisories, list):
            continue
        seen += 1
        for advisory in advisories:
            if accepted.keys().isdisjoint([advisory["id"], *advisory["aliases"]]):
                repaired = ", ".join(advisory["fix_versions"]) or "no version yet"
                label = f"{package['name']} {package['version']}: {advisory['id']}"
                found_in.append(f"{label}, repaired in {repaired}")
    if found_in:
        raise SextantError("; ".join(found_in))
    if seen < len(packages):
        raise SextantError(
            f"{len(packages) - seen} of {len(packages)} packages were not looked up: their"
            " advisories cannot be reached at pypi.org from here"
        )
    return f"{seen} packages of the lock, {len(accepted)} advisories accepted by pyproject.toml"


def risky_code() -> str:
    """Let bandit read the source; raises SextantError for a finding."""
    arguments = ("--recursive", *SOURCES, "--configfile", str(PYPROJECT), "--format", "json")
    done = output("bandit", "--quiet", *arguments)
    try:
        results = json.loads(done.stdout)["results"]
    except (ValueError, KeyError):
        raise SextantError(f"bandit failed ({last_line(done)})") from None
    findings = []
    for result in results:
        place = f"{result['filename']}:{result['line_number']}"
        findings.append(f"{place} {result['test_id']} {result['issue_text']}")
    if findings:
        raise SextantError("; ".join(findings))
    return f"nothing in {', '.join(SOURCES)}, but for what pyproject.toml excepts"


def bill_of_materials() -> str:
    """Write the bill of materials of the environment; raises SextantError if that fails."""
    SBOM.parent.mkdir(exist_ok=True)
    done = output(
        "cyclonedx-py", "environment", "--pyproject", str(PYPROJECT), "--output-reproducible",
        *("--output-format", "JSON", "--output-file", str(SBOM), sys.executable),
    )  # fmt: skip
    if done.returncode:
        raise SextantError(f"cyclonedx-py failed ({last_line(done)})")
    components = json.loads(SBOM.read_text(encoding="utf-8"))["components"]
    return f"{len(components)} packages in {SBOM}"


def floors() -> str:
    """Resolve pyproject.toml at its lowest versions; raises SextantError if uv cannot."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    settings = environment.installed_pip_settings()
    done = subprocess.run(
        [sys.executable, "-m", *command, "--resolution", "lowest-direct", "--all-extras",
         *("--index-strategy", environment.STRATEGY, str(PYPROJECT))],
        env=environment.uv_variables(settings, "", os.environ),
        capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        raise SextantError(environment.failure(done.stderr))
    return f"an environment of {len(environment.pins(done.stdout))} packages can be resolved"


CHECKS: Sequence[tuple[str, Callable[[], str]]] = (
    ("advisories", advisories),
    ("code", risky_code),
    ("materials", bill_of_materials),
    ("floors", floors),
)


def main(argv: list[str]) -> int:
    """Print one line for each check; the exit code is 1 if one has failed."""
    if argv:
        raise UsageError(f"`{' '.join(argv)}` is not understood; audit takes no arguments")
    entries = environment.pins(LOCK.read_text(encoding="utf-8"))
    tools = [pin for pin in entries if AUDIT in pin.groups]
    reason = environment.install_entries(environment.installer_by_uv(), tools)
    if reason:
        raise SextantError(f"the tools of the audit cannot be installed: {reason}")
    code = 0
    for name, check in CHECKS:
        try:
            print(f"ok       {name:<10} {check()}", flush=True)
        except SextantError as error:
            print(f"failed   {name:<10} {error}", flush=True)
            code = 1
    return code


if __name__ == "__main__":
    run(main)
