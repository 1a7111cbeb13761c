"""The files of CI and of the containers: their linters, and the targets of make that they call."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE))
CALLS = {
    ".github/workflows/pull-request.yml": {"setup", "lint", "audit", "test", "compare"},
    ".github/workflows/retrain.yml": {"setup", "retrain"},
    ".gitlab-ci.yml": {"setup", "lint", "audit", "test"},
    "Containerfile": {"setup"},
}


def test_the_linters_have_no_findings() -> None:
    linters = (["actionlint"], ["zizmor", "--offline", ".github"], ["hadolint", "Containerfile"])
    for program, *arguments in linters:
        command = [BIN / program, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", CALLS)
def test_the_steps_are_targets_of_make(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    steps = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    calls = set(re.findall(r"^ *(?:- |run: |- run: |RUN |)make ([a-z-]+)", steps, re.MULTILINE))
    assert calls == CALLS[name] <= TARGETS


def test_the_services_have_their_secrets_from_the_environment() -> None:
    """compose.yaml has no password, and no port that other machines reach."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY", variable):
                assert value.startswith("${"), f"{name}: {variable}"
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/.env" in ignored
