"""Stage prepare: repaired rows in four parts, in upstream columns, and a profile of train."""

import json
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import listed
import numpy as np
import pandas as pd
import pytest
import twins
from conftest import ROOT

from sextant import config, plugins, prepare, reference
from sextant.errors import DataError, SextantError, UsageError
from sextant.files import folder_digest, write_json
from sextant.kinds.parts import PARTS, scored

# `make test-fast` prepares the data sets of params.yaml, and `make test` those of the shelf too.
DATASETS = [
    pytest.param(name, marks=[] if name in listed.PARAMS["datasets"] else pytest.mark.slow)
    for name in twins.LISTED
]


@pytest.fixture(scope="module", params=DATASETS)
def prepared(request, tmp_path_factory) -> tuple[config.DatasetConf, Path]:
    """A data set, and a workspace in which its twin was prepared.

    Tests share the workspace and must not change it; the fixture `conf` copies it.
    """
    conf = twins.conf_of(request.param, small=True)
    workspace = tmp_path_factory.mktemp(request.param)
    shutil.copytree(ROOT / "conf", workspace / "conf")
    shutil.copy(ROOT / "params.yaml", workspace)
    listed.list_all(workspace / "params.yaml")
    (workspace / "data/raw").mkdir(parents=True)
    (workspace / "data/raw" / conf.name).symlink_to(
        twins.raw(conf.name, tmp_path_factory, small=True)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        write_validation(conf.name)
        run(conf, patch)
    return conf, workspace


TABLES = [param for param in DATASETS if listed.DATASETS[str(param.values[0])] == "tabular"]
# What does not depend on the kind is tested on one data set, what the split decides on two.
ONE = pytest.mark.parametrize("prepared", twins.LISTED[:1], indirect=True)
SPLITS = pytest.mark.parametrize("prepared", ["churn", "google_stock"], indirect=True)


@pytest.fixture
def shared(prepared, monkeypatch) -> config.DatasetConf:
    """The data set; its workspace, which the test must not change, is the working directory."""
    conf, workspace = prepared
    monkeypatch.chdir(workspace)
    return conf


@pytest.fixture(scope="module")
def raw(prepared) -> Any:
    """What `read` of the kind gives for the twin; tests must not change it."""
    conf, workspace = prepared
    return plugins.kind(conf.kind).rows.read(workspace / "data/raw" / conf.name, conf.columns)


@pytest.fixture(scope="module")
def repaired(prepared, raw) -> pd.DataFrame:
    """The repaired rows of the twin; tests must not change them."""
    conf, _ = prepared
    return plugins.kind(conf.kind).rows.repair(raw, conf.columns)


@pytest.fixture
def conf(prepared, tmp_path, monkeypatch) -> config.DatasetConf:
    """The data set; the working directory is a copy of its workspace."""
    conf, workspace = prepared
    shutil.copytree(workspace, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return conf


def write_validation(name: str, success: bool = True) -> None:
    """Write the report of stage validate."""
    report = {"dataset": name, "source": "embedded", "success": success, "digest": "0123abcd"}
    write_json(Path(f"reports/validation/{name}.json"), report)


def run(conf: config.DatasetConf, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Path:
    """Run the stage as DVC runs it; return its output folder."""
    monkeypatch.setenv("DVC_STAGE", f"prepare@{conf.name}")
    prepare.main([f"dataset={conf.name}", *overrides])
    return output_folder(conf)


def output_folder(conf: config.DatasetConf) -> Path:
    return Path("data/prepared") / conf.name


def load_parts(conf: config.DatasetConf) -> dict[str, pd.DataFrame]:
    rows = plugins.kind(conf.kind).rows
    return {part: rows.load(output_folder(conf) / part) for part in PARTS}


def another_split(conf: config.DatasetConf) -> str:
    """An override that moves rows to other parts."""
    if conf.split.by == "hash":
        return f"dataset.split.salt={conf.split.salt + 7}"
    val_from = date.fromisoformat(conf.split.val_from) - timedelta(days=29)
    return f"dataset.split.val_from={val_from}"


def a_split_with_an_empty_part(conf: config.DatasetConf) -> str:
    """An override that leaves some part without rows."""
    if conf.split.by == "hash":
        shares = "{train: 0.9999997, val: 0.0000001, gate: 0.0000001, test: 0.0000001}"
        return f"dataset.split.shares={shares}"
    return "dataset.split.test_from='2999-12-31'"


def test_some_data_set_is_listed():
    assert twins.LISTED


def test_every_row_is_scored_in_exactly_one_part(shared, repaired):
    """But for the first rows of a series, which are history only.

    The parts of a text begin where their shares do, and are cut into rows anew.
    """
    parts = load_parts(shared)
    if shared.kind == "text":
        in_order = ("val", "gate", "train", "test")
        together = "".join("".join(parts[part]["text"]) for part in in_order)
        assert together == "".join(repaired["text"])
        return
    history_of_train = len(parts["train"]) - len(scored(parts["train"]))
    scored_rows = sum(len(scored(rows)) for rows in parts.values())
    assert scored_rows == len(repaired) - history_of_train


@pytest.mark.parametrize("prepared", TABLES, indirect=True)
def test_the_parts_of_a_table_are_the_repaired_rows(shared, repaired):
    """Nothing is scaled, dropped or duplicated. Other kinds add columns."""
    expected = repaired
    order = list(expected.columns)
    together = pd.concat(load_parts(shared).values())[order].sort_values(order, ignore_index=True)
    # A missing text is None as it is read, and NaN as it is loaded.
    expected = expected.sort_values(order, ignore_index=True).replace({None: np.nan})
    pd.testing.assert_frame_equal(together, expected, check_dtype=False)


def test_the_same_rows_give_the_same_bytes_in_any_folder(shared, raw, tmp_path, monkeypatch):
    """`prepare(raw, conf)` depends on its arguments alone."""
    kind = plugins.kind(shared.kind).rows
    folder = output_folder(shared).absolute()
    monkeypatch.chdir(tmp_path)
    second = tmp_path / "second"
    second.mkdir()
    parts = prepare.prepare(raw, shared)
    for part, rows in parts.items():
        kind.write(rows, second / part)
    shutil.copy(folder / "profile.json", second)
    write_json(second / reference.FILE, prepare.summary(parts, shared))
    assert folder_digest(second) == folder_digest(folder)


@SPLITS
def test_another_split_gives_other_parts(conf, monkeypatch):
    before = folder_digest(output_folder(conf))
    assert folder_digest(run(conf, monkeypatch, another_split(conf))) != before


def test_the_profile_has_what_later_stages_need(shared):
    profile = json.loads((output_folder(shared) / "profile.json").read_text())
    assert profile["dataset"] == shared.name
    assert profile["kind"] == shared.kind
    assert profile["about"] == shared.about
    assert profile["source"] == "embedded"
    assert profile["digest"] == "0123abcd"
    counts = {part: len(scored(rows)) for part, rows in load_parts(shared).items()}
    assert profile["rows"] == counts
    # train reads the columns from the profile, and no conf of the data set.
    assert plugins.kind(shared.kind).columns.Columns(**profile["layout"]) == shared.columns


@ONE
def test_run_by_hand_it_writes_to_scratch(conf, capsys):
    before = folder_digest(output_folder(conf))
    prepare.main([f"dataset={conf.name}"])
    assert folder_digest(output_folder(conf)) == before
    assert Path(".scratch/prepared", conf.name, "profile.json").is_file()
    assert capsys.readouterr().out.startswith(f"{conf.name}: train ")


@ONE
def test_data_that_failed_validation_are_refused(conf, monkeypatch):
    before = folder_digest(output_folder(conf))
    write_validation(conf.name, success=False)
    message = f"{conf.name} failed its expectations; see reports/validation/{conf.name}.json"
    with pytest.raises(DataError, match=message):
        run(conf, monkeypatch)
    assert folder_digest(output_folder(conf)) == before


@ONE
@pytest.mark.parametrize("missing", ["reports/validation/{}.json", "data/raw/{}"])
def test_a_missing_output_of_an_earlier_stage_is_named(conf, monkeypatch, missing):
    path = Path(missing.format(conf.name))
    path.rename("elsewhere")
    with pytest.raises(SextantError, match=f"^{path} does not exist; `make repro` creates it"):
        run(conf, monkeypatch)


@SPLITS
def test_an_unusable_part_is_refused_and_the_output_stays_as_it_was(conf, monkeypatch):
    before = folder_digest(output_folder(conf))
    with pytest.raises(DataError, match=r"^part (val|test) "):
        run(conf, monkeypatch, a_split_with_an_empty_part(conf))
    assert folder_digest(output_folder(conf)) == before


def test_a_data_set_that_is_not_listed_is_refused(workspace):
    with pytest.raises(UsageError, match="unknown data set `strawberry`; params.yaml lists: "):
        prepare.main(["dataset=strawberry"])
