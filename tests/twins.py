"""The twins of all data sets, the shelf's too, each written once for all workers."""

import functools
from pathlib import Path
from typing import Any

import listed
import pytest
from conftest import ROOT, made_once

from sextant import config, plugins

LISTED = list(listed.DATASETS)
# By kind, what a small twin has instead, so that it is written, read and prepared in a fraction of
# the time. The numbers are prime, so that a mistaken axis does not fit by chance.
SMALL: dict[str, dict[str, Any]] = {
    "tabular": {"rows": 601},
    "images": {
        "each": {"training_set": 61, "test_set": 17},
        "copies": {},
        "short_side": 64,
        "long_side": 96,
    },
    "text": {"characters": 40009},
    "ratings": {
        "users": 103,
        "items": 199,
        "ratings": 4001,
        "least": 7,
        "test": 797,
        "test_users": 47,
        "unknown": 5,
        "repeated_titles": 3,
    },
}


# By data set, what counts in place of that.
SMALL_OF: dict[str, dict[str, Any]] = {
    "countries": {},  # is small already
    "moving_mnist": {
        "pictures": {"train-images-idx3-ubyte.gz": 5003, "t10k-images-idx3-ubyte.gz": 307}
    },
    "mnist": {"each": {"train-images-idx3-ubyte.gz": 71, "t10k-images-idx3-ubyte.gz": 13}},
    "plant": {"rows": 601, "sheets": 2},
}


def small_twin(name: str, kind: str) -> dict[str, Any]:
    """What a small twin of a data set has instead; {} if there is no small one."""
    return SMALL_OF.get(name, SMALL.get(kind, {}))


@functools.cache
def conf_of(name: str, *overrides: str, small: bool = False) -> config.DatasetConf:
    """The conf of a data set that has a twin; the test is skipped for one that has none.

    Composing a conf takes long, so tests share it and must not change it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        conf = config.dataset(name, overrides, shelf=True)
    if conf.twin is None:
        pytest.skip(f"{name} has no twin")
    if small:
        return conf.model_copy(update={"twin": {**conf.twin, **small_twin(name, conf.kind)}})
    return conf


def raw(name: str, tmp_path_factory: pytest.TempPathFactory, small: bool = False) -> Path:
    """The folder with the files of a twin; tests share it and must not change it."""
    conf = conf_of(name, small=small)

    def write(folder: Path) -> None:
        plugins.kind(conf.kind).twin.write_twin(config.twin(conf), conf.columns, folder)

    size = "small twin" if small and small_twin(name, conf.kind) else "twin"
    return made_once(f"{size} of {name}", tmp_path_factory, write).path
