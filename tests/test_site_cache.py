"""DVC's site cache lies in the clone, where no other user can put a file that DVC unpickles."""

import os
from pathlib import Path

import pytest
from conftest import ROOT

from sextant import environment, site_cache
from sextant.commands import doctor, repro


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with DVC's settings and nothing else, in which DVC is told nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(site_cache.VARIABLE, "")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text((ROOT / ".dvc/config").read_text())
    return tmp_path


def test_the_folder_is_closed_also_if_it_was_open(clone: Path) -> None:
    (clone / ".dvc/site").mkdir(mode=0o777)
    (clone / ".dvc/site").chmod(0o777)
    cache = site_cache.make_private()
    assert cache == clone / ".dvc/site/cache" and site_cache.is_private(cache)
    assert (clone / ".dvc/site").stat().st_mode & 0o777 == 0o700


def test_setup_tells_a_bare_dvc(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site_cache.configured() is None
    finding = doctor.site_cache()
    assert finding.state == "warning" and "/var/tmp/dvc" in finding.text
    monkeypatch.setattr(environment, "install", lambda *_: 0)
    assert environment.main([".[dev]"]) == 0
    assert site_cache.configured() == clone / ".dvc/site/cache"
    assert doctor.site_cache().state == "ok"


def test_a_copied_clone_does_not_trust_the_folder_of_another_user(clone: Path) -> None:
    elsewhere = clone / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o755)
    settings = f"[core]\n    site_cache_dir = {elsewhere}/cache\n"
    (clone / ".dvc/config.local").write_text(settings)
    finding = doctor.site_cache()
    assert finding.state == "warning" and f"{elsewhere}/cache" in finding.text
    assert "dvc config --local core.site_cache_dir" in finding.repair


@pytest.mark.slow  # DVC is imported
def test_the_dvc_of_the_pipeline_uses_it_without_setup(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("dvc.cli.main", lambda _: asked.append(os.environ[site_cache.VARIABLE]))
    repro.run_stages([], jobs=1)
    assert asked == [str(clone / ".dvc/site/cache")]


def test_make_has_the_same_folder() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert f"SITE = $(CURDIR)/{site_cache.PARENT}\n" in makefile
    assert f"export {site_cache.VARIABLE} := $(SITE)/cache\n" in makefile
    assert f"/{site_cache.PARENT.name}\n" in (ROOT / ".dvc/.gitignore").read_text()
