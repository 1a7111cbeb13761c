"""Installation by uv with pip's settings, from indexes on this machine; and by pip where uv fails.

The project that is installed needs `tiny`. The index `old` has version 1 of it, `new` has 2, and
`cpu` has `torch` 2+cpu.
"""

import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import sysconfig
import threading
import venv
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import cases
import pytest
from conftest import ROOT

from sextant import environment
from sextant.errors import UsageError

SITE = Path(sysconfig.get_path("purelib"))
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
EXTRA = "Provides-Extra: dev\nRequires-Dist: tiny; extra == 'dev'\n"
# A build backend that copies a wheel, so that no test needs setuptools.
BACKEND = """
import shutil


def build_editable(folder, config_settings=None, metadata_directory=None):
    return shutil.copy("demo-1-py3-none-any.whl", folder).rpartition("/")[2]


build_wheel = build_editable
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "demo"
version = "1"
optional-dependencies.dev = ["tiny"]
"""


class Project(NamedTuple):
    """A project with an environment that has pip and uv, in a home without settings."""

    folder: Path
    home: Path

    def install(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": os.defpath,
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT / "src"),
            "PIP_CONFIG_FILE": os.devnull,
            "UV_CACHE_DIR": str(self.home / "uv"),
            "UV_HTTP_RETRIES": "0",
            "PIP_RETRIES": "0",
        }
        python = self.folder / ".venv/bin/python"
        return subprocess.run(
            [python, "-m", "sextant.environment", *(arguments or ("dev",))],
            cwd=self.folder,
            env=env | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def lock(self, wheel: Path, version: str, groups: str = "dev") -> None:
        """Add a package to the lock, with the digest of a wheel."""
        name = wheel.name.partition("-")[0]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        with (self.folder / "requirements.lock").open("a") as stream:
            stream.write(f"{name}=={version} \\\n    --hash=sha256:{digest}\n    # for {groups}\n")

    def installed(self, name: str = "tiny") -> tuple[str, str] | None:
        """The version of a package in the environment, and what has installed it."""
        (site,) = (self.folder / ".venv/lib").glob("*/site-packages")
        for distribution in metadata.distributions(name=name, path=[str(site)]):
            return distribution.version, str(distribution.read_text("INSTALLER")).strip()
        return None

    def replace_uv(self, script: str) -> None:
        """Replace the program of uv in this environment by a shell script."""
        program = self.folder / ".venv/bin/uv"
        program.unlink()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    pytest.importorskip("uv", reason="the environment of the tests was installed by pip alone")
    folder = tmp_path / "project"
    home = tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    write_wheel(folder, "demo", "1", EXTRA)
    version = metadata.version("uv")
    (folder / "requirements.lock").write_text(
        f"uv=={version} \\\n    --hash=sha256:{64 * '0'}\n    # for uv\n"
    )
    venv.create(folder / ".venv", with_pip=False, symlinks=True)
    (site,) = (folder / ".venv/lib").glob("*/site-packages")
    for name in ("pip", "uv"):
        (site / name).symlink_to(SITE / name)
        info = f"{name}-{metadata.version(name)}.dist-info"
        (site / info).symlink_to(SITE / info)
    (folder / ".venv/bin/uv").symlink_to(Path(sys.executable).with_name("uv"))
    return Project(folder, home)


def write_wheel(folder: Path, name: str, version: str, metadata: str = "") -> Path:
    """Write a wheel with one empty module."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", head + metadata)
        wheel.writestr(f"{info}/WHEEL", WHEEL)
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three simple indexes (PEP 503) and the certificate of their server."""
    folder = tmp_path_factory.mktemp("indexes")
    wheels = [("old", "tiny", "1"), ("new", "tiny", "2")]
    wheels += [("new", "torch", "2"), ("cpu", "torch", "2+cpu")]
    for index, name, version in wheels:
        wheel = write_wheel(folder / index / name, name, version)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        link = f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>'
        (wheel.parent / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        ],
        check=True,
        capture_output=True,
    )
    return folder


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(files: Path) -> Iterator[str]:
    """The address of the indexes, over HTTPS."""
    handler = partial(SilentHandler, directory=str(files))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()


@pytest.fixture
def old(files: Path) -> Path:
    return files / "old/tiny/tiny-1-py3-none-any.whl"


@pytest.fixture
def new(files: Path) -> Path:
    return files / "new/tiny/tiny-2-py3-none-any.whl"


@pytest.mark.slow
def test_uv_installs_from_the_index_of_the_variables_with_their_certificate(
    project: Project, address: str, files: Path, old: Path
) -> None:
    project.lock(old, "1")
    project.lock(old, "1", "s3")  # an extra that is not asked for
    done = project.install(PIP_INDEX_URL=f"{address}/old", PIP_CERT=str(files / "cert.pem"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert project.installed() == ("1", "uv")
    assert project.installed("demo") == ("1", "uv")


@pytest.mark.slow
@pytest.mark.parametrize("file", ["home/.config/pip/pip.conf", "project/.venv/pip.conf"])
def test_uv_installs_from_the_index_of_a_file_of_settings(
    project: Project, address: str, files: Path, new: Path, file: str
) -> None:
    """Its constraints are left out, since uv would want hashes of them."""
    project.lock(new, "2")
    (project.home / "limits.txt").write_text("tiny<3\n")
    path = project.home.parent / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"[global]\nindex-url = https://localhost:1/none\ncert = {files}/cert.pem\n"
        f"[install]\nindex-url = {address}/old\nextra-index-url =\n    {address}/new\n"
        f"constraint = {project.home}/limits.txt\n"
    )
    done = project.install(PIP_CONFIG_FILE="")
    assert (done.returncode, done.stderr) == (0, "")
    assert project.installed() == ("2", "uv")


@pytest.mark.slow
def test_the_version_of_the_lock_is_found_in_any_index(
    project: Project, address: str, files: Path, old: Path
) -> None:
    """By default uv takes the first index that has the name."""
    project.lock(old, "1")
    done = project.install(
        PIP_INDEX_URL=f"{address}/new",
        PIP_EXTRA_INDEX_URL=f"{address}/old",
        REQUESTS_CA_BUNDLE=str(files / "cert.pem"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert project.installed() == ("1", "uv")


@pytest.mark.slow
def test_a_file_with_another_digest_is_not_installed_by_uv_nor_by_pip(
    project: Project, files: Path, new: Path
) -> None:
    project.lock(new, "1")
    done = project.install(PIP_FIND_LINKS=f"{files}/old/tiny", PIP_NO_INDEX="1")
    assert done.returncode == 1
    by_uv, _, by_pip = done.stderr.partition("pip installs, which takes longer")
    assert "Hash mismatch" in by_uv or "tiny" in by_uv
    assert "HASHES" in by_pip.upper()
    assert project.installed() is None


@pytest.mark.slow
def test_a_build_of_torch_comes_from_its_index_and_all_else_from_the_lock(
    project: Project, address: str, files: Path, new: Path
) -> None:
    """torch==2.13.0 is 2.13.0+cpu in its index for CPUs, whose files have other digests."""
    project.lock(new, "2", "project")
    project.lock(files / "new/torch/torch-2-py3-none-any.whl", "2", "torch")
    arguments = {"PIP_INDEX_URL": f"{address}/new", "PIP_CERT": str(files / "cert.pem")}
    done = project.install("dev", f"{address}/cpu", **arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert project.installed("torch") == ("2+cpu", "uv")
    assert project.installed() == ("2", "uv")
    again = project.install(**arguments)  # without the index: that build stays
    assert (again.returncode, again.stderr) == (0, "")
    assert project.installed("torch") == ("2+cpu", "uv")


@pytest.mark.slow
def test_uv_installs_from_folders_without_an_index(
    project: Project, files: Path, new: Path
) -> None:
    project.lock(new, "2")
    links = f"{files}/old/tiny {files}/new/tiny"
    done = project.install(PIP_FIND_LINKS=links, PIP_NO_INDEX="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert project.installed() == ("2", "uv")


@pytest.mark.slow
def test_pip_installs_where_uv_fails(project: Project, files: Path, old: Path) -> None:
    project.lock(old, "1")
    project.replace_uv("echo 'error: no\n  cause: disk full' >&2; exit 2")
    done = project.install(PIP_FIND_LINKS=f"{files}/old/tiny", PIP_NO_INDEX="1")
    assert done.returncode == 0
    expected = "uv is not used (no: disk full): pip installs, which takes longer\n"
    assert done.stderr == expected
    assert project.installed() == ("1", "pip")
    assert project.installed("demo") == ("1", "pip")


@pytest.mark.slow
def test_pip_installs_where_no_index_has_uv(project: Project, files: Path, new: Path) -> None:
    project.lock(new, "2")
    shutil.rmtree(project.folder / ".venv/lib")
    venv.create(project.folder / ".venv", with_pip=False, symlinks=True)
    (site,) = (project.folder / ".venv/lib").glob("*/site-packages")
    (site / "pip").symlink_to(SITE / "pip")
    done = project.install(PIP_FIND_LINKS=f"{files}/new/tiny", PIP_NO_INDEX="1")
    assert done.returncode == 0
    expected = "uv is not used (pip cannot install uv): pip installs, which takes longer\n"
    assert done.stderr == expected
    assert project.installed() == ("2", "pip")


@pytest.mark.slow
def test_the_code_is_1_if_pip_fails_too(project: Project, old: Path) -> None:
    project.lock(old, "1")
    done = project.install(PIP_NO_INDEX="1")
    assert done.returncode == 1
    first, *others = done.stderr.splitlines()
    assert first.startswith("uv is not used (No solution found")
    assert "No matching distribution found for tiny" in others[-1]


LOCK = """# a comment
PyYAML==6.0.3 \\
    --hash=sha256:1
    # for project; via pyproject.toml
pywin32==312 ; sys_platform == 'win32' \\
    --hash=sha256:2 \\
    --hash=sha256:3
    # for audit, dev; via x
torch==2.13.0 \\
    --hash=sha256:4
    # for torch; via pyproject.toml
torch==2.13.0+cpu \\
    --hash=sha256:6
    # for torch
nvidia-x==1 \\
    --hash=sha256:5
    # for cuda; via torch
"""


def test_an_entry_of_the_lock_has_name_version_and_groups() -> None:
    pins = environment.pins(LOCK)
    assert [(pin.name, pin.version) for pin in pins] == [
        ("pyyaml", "6.0.3"), ("pywin32", "312"), ("torch", "2.13.0"), ("torch", "2.13.0+cpu"),
        ("nvidia-x", "1"),
    ]  # fmt: skip
    assert [sorted(pin.groups) for pin in pins] == [
        ["project"], ["audit", "dev"], ["torch"], ["torch"], ["cuda"],
    ]  # fmt: skip
    assert "".join(pin.text for pin in pins) == LOCK.partition("\n")[2]


@cases.each(
    ("torch_index", "there", "offered", "cuda", "expected"),
    [
        (
            "",
            "",
            "2.13.0",
            False,
            ["torch==2.13.0+cpu pyyaml pywin32", "torch==2.13.0 pyyaml pywin32"],
        ),
        (
            "",
            "",
            "2.13.0",
            True,
            ["torch==2.13.0+cpu pyyaml pywin32", "torch==2.13.0 pyyaml pywin32", "nvidia-x"],
        ),
        ("", "", "2.13.0+cpu", False, ["torch==2.13.0+cpu pyyaml pywin32"]),
        ("", "2.13.0", "", True, ["pyyaml pywin32"]),
        ("", "2.12.0", "2.13.0+cpu", False, ["torch==2.13.0+cpu pyyaml pywin32"]),
        ("https://x", "", "", True, ["pyyaml pywin32", "torch==2.13.0 from https://x"]),
    ],
)
def test_a_build_of_torch_is_installed_with_what_it_needs(
    torch_index: str,
    there: str,
    offered: str,
    cuda: bool,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("requirements.lock").write_text(LOCK)
    monkeypatch.setattr(environment, "needs_cuda", lambda: cuda)
    monkeypatch.setattr(environment, "torch_version", lambda: there)
    installed = []

    def install(arguments: Sequence[str], index: str) -> str:
        """Fails where a build of torch is not offered."""
        if "--require-hashes" not in arguments:
            installed.append(f"{arguments[-1]} from {index}".removesuffix(" from "))
            return ""
        pins = environment.pins(Path(arguments[-1]).read_text())
        labels = []
        for pin in pins:
            labels.append(f"torch=={pin.version}" if pin.name == "torch" else pin.name)
        installed.append(" ".join(labels))
        builds = [pin.version for pin in pins if pin.name == "torch"]
        return "" if builds in ([], [offered]) else "no such build"

    assert environment.install_all(install, ["dev"], torch_index) == ""
    assert installed == [*expected, "."]


def test_a_variable_overrides_the_section_install_and_that_the_section_global() -> None:
    listed = """:env:.cert='/c'
global.cert='/a'
global.find-links='\\n/x\\n/y'
global.index-url='https://one'
global.timeout='5'
install.cert='/b'
install.index-url='https://two'
download.index-url='https://three'
"""
    assert environment.pip_settings(listed) == {
        "cert": "/c",
        "find-links": "/x\n/y",
        "index-url": "https://two",
        "timeout": "5",
    }


def test_settings_of_pip_become_variables_of_uv() -> None:
    settings = {"find-links": "/x\n/y", "extra-index-url": "https://a https://b", "timeout": "5"}
    given = {"CURL_CA_BUNDLE": "/ca.pem", "HOME": "/home/me"}
    assert environment.uv_variables(settings, "https://torch", given) == {
        "CURL_CA_BUNDLE": "/ca.pem",
        "HOME": "/home/me",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_FIND_LINKS": "/x,/y",
        "UV_INDEX": "https://a https://b https://torch",
        "UV_HTTP_TIMEOUT": "5",
    }


def test_settings_without_a_variable_become_options() -> None:
    settings = {"only-binary": "numpy", "no-index": "true", "progress-bar": "off"}
    options = environment.uv_options(settings, hashed=False)
    assert options[-3:] == ["--only-binary", "numpy", "--no-index"]
    assert "--no-index" not in environment.uv_options({"no-index": "0"}, hashed=False)


def test_a_wrong_call_is_refused() -> None:
    with pytest.raises(UsageError, match="EXTRAS"):
        environment.main([])
