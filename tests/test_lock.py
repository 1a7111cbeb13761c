"""requirements.lock: complete, with digests; and how `make lock` writes an entry."""

import re
import tomllib
from pathlib import Path

import cases
import pytest
from conftest import ROOT

from sextant import environment, lock
from sextant.commands import doctor
from sextant.errors import UsageError

PINS = environment.pins((ROOT / "requirements.lock").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_package_has_digests_and_groups() -> None:
    assert len(PINS) > 200
    extras = set(PROJECT["optional-dependencies"])
    for pin in PINS:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", pin.text), pin.name
        assert pin.groups and pin.groups <= {"project", "torch", "cuda", "uv", *extras}, pin.name


def test_what_pyproject_asks_for_is_in_its_group() -> None:
    groups = {pin.name: pin.groups for pin in PINS}
    for requirement in PROJECT["dependencies"]:
        name = doctor.requirement_name(requirement)
        assert groups[name] == {"torch" if name == "torch" else "project"}, name
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for requirement in requirements:
            name = doctor.requirement_name(requirement)
            assert groups[name] & {extra, "project"}, name
    assert groups["uv"] == {"uv"} and groups["setuptools"] == {"project"}  # builds this checkout


@cases.each(
    ("name", "groups"),
    [
        ("torch", ["torch"]),
        ("nvidia-cublas", ["cuda"]),
        ("triton", ["cuda"]),
        ("numpy", ["project"]),
        ("pytest", ["dev"]),
        ("av", ["dev", "video"]),
    ],
)
def test_a_package_belongs_to_the_groups_that_need_it(name: str, groups: list[str]) -> None:
    needed = {
        "project": {"numpy", "torch", "triton"},
        "dev": {"numpy", "pytest", "av", "torch"},
        "video": {"numpy", "av"},
    }
    assert lock.groups_of(name, needed) == groups


def test_an_entry_has_its_digests_in_order_and_its_groups() -> None:
    text = (
        f"torch==2 ; x == 'y' \\\n    --hash=sha256:{64 * 'b'} \\\n    --hash=sha256:{64 * 'a'}\n"
        "    # via a, sextant (pyproject.toml)\n"
    )
    (pin,) = environment.pins(text)
    assert lock.entry(pin, ["torch"]) == (
        f"torch==2 ; x == 'y' \\\n    --hash=sha256:{64 * 'a'} \\\n    --hash=sha256:{64 * 'b'}\n"
        "    # for torch; via a, pyproject.toml\n"
    )


def test_builds_of_torch_stay_as_long_as_the_version(tmp_path: Path) -> None:
    earlier = f"torch==2 \\\n    --hash=sha256:{64 * 'b'}\ntorch==2+cpu \\\n    --hash=sha256:1\n"
    wheel = tmp_path / "torch-2+cu130-cp311-cp311-manylinux_2_28_x86_64.whl"
    wheel.write_bytes(b"")

    def builds(version: str, index: str = "") -> list[str]:
        return [pin.version for pin in lock.builds_of_torch(version, earlier, {}, index)]

    assert builds("2") == ["2+cpu"]
    assert builds("3") == []
    assert builds("2", str(tmp_path)) == ["2+cpu", "2+cu130"]


def test_the_lock_is_written_and_changes_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In place of uv, which would ask an index."""
    whole = "numpy==2 \\\n    --hash=sha256:2\n    # via sextant (pyproject.toml)\nuv==1\nx==1\n"

    def compiled(settings: object, torch_index: str, *arguments: str) -> str:
        if "--output-file" in arguments:
            file = Path(arguments[arguments.index("--output-file") + 1])
            assert file.read_text() == Path("requirements.lock").read_text()  # versions stay
            file.write_text(whole)
        return "numpy==2\nx==1\n" if "--extra" in arguments else "numpy==2\n"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "compiled", compiled)
    monkeypatch.setattr(environment, "installed_pip_settings", lambda: {})
    Path("pyproject.toml").write_text("[project]\noptional-dependencies.s3 = ['x']\n")
    Path("requirements.lock").write_text("numpy==1\nuv==1\nold==1\n")
    lock.main([])
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "numpy: 1 -> 2", "old: 1 -> removed", "x: new -> 1", "requirements.lock: 3 packages",
    ]  # fmt: skip
    groups = {pin.name: sorted(pin.groups) for pin in environment.pins(lock.LOCK.read_text())}
    assert groups == {"numpy": ["project"], "uv": ["uv"], "x": ["s3"]}


def test_a_wrong_call_is_refused() -> None:
    with pytest.raises(UsageError, match="TORCH_INDEX"):
        lock.main(["one", "two"])
