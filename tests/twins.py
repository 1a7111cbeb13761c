"""The twins of the data sets that params.yaml lists, each written once for all workers."""

from pathlib import Path

import pytest
import yaml
from conftest import ROOT, made_once

from sextant import config, plugins

LISTED: list[str] = list(yaml.safe_load((ROOT / "params.yaml").read_text())["datasets"])


def conf_of(name: str, *overrides: str) -> config.DatasetConf:
    """The conf of a data set that has a twin; the test is skipped for one that has none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        conf = config.dataset(name, overrides)
    if conf.twin is None:
        pytest.skip(f"{name} has no twin")
    return conf


def raw(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the files of a twin; tests share it and must not change it."""
    conf = conf_of(name)

    def write(folder: Path) -> None:
        plugins.kind(conf.kind).twin.write_twin(config.twin(conf), conf.columns, folder)

    return made_once(f"twin of {name}", tmp_path_factory, write).path
