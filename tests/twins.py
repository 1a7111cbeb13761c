"""The twins of the data sets that params.yaml lists, each made once for all tests and workers."""

from pathlib import Path

import pytest
import yaml
from conftest import ROOT, made_once

from sextant import config, plugins

LISTED: list[str] = yaml.safe_load((ROOT / "params.yaml").read_text())["datasets"]


def conf_of(name: str, *overrides: str) -> config.DatasetConf:
    """The conf of a data set that has a twin; skips the test for one that has none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        found = config.dataset(name, overrides)
    if found.twin is None:
        pytest.skip(f"{name} has no twin")
    return found


def raw(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the files of a twin. Not to be changed."""
    conf = conf_of(name)

    def make(path: Path) -> None:
        plugins.kind(conf.kind).twin.write_twin(config.twin(conf), conf.columns, path)

    return made_once(f"twin of {name}", tmp_path_factory, make).path
