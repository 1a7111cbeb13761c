"""Prepare: rows repaired and dealt into four parts in upstream columns, and a profile of those to train on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from sextant import config, prepare, rooms
from sextant.data import PARTS
from sextant.errors import DataError, SextantError, UsageError
from sextant.files import folder_digest, write_json

ROOT = Path(__file__).parents[1]
DATASETS = yaml.safe_load((ROOT / "params.yaml").read_text())["datasets"]


@pytest.fixture(params=DATASETS)
def conf(request, workspace) -> config.DatasetConf:
    """A data set whose twin lies pulled and validated in the workspace."""
    found = config.dataset(request.param)
    if found.twin is None:
        pytest.skip(f"{request.param} has no twin")
    rooms.module("data", found.kind).write_twin(found.twin, found.columns, Path("data/raw") / found.name)
    validated(found.name)
    return found


def validated(name: str, **changes: Any) -> None:
    report = {"dataset": name, "source": "embedded", "success": True, "digest": "0123abcd", **changes}
    write_json(Path(f"reports/validation/{name}.json"), report)


def run(conf: config.DatasetConf, monkeypatch: pytest.MonkeyPatch, *words: str) -> Path:
    """The stage as DVC runs it."""
    monkeypatch.setenv("DVC_STAGE", f"prepare@{conf.name}")
    prepare.main([f"dataset={conf.name}", *words])
    return Path("data/prepared") / conf.name


def test_there_is_something_to_prepare():
    assert DATASETS


def test_the_parts_are_the_repaired_rows_in_upstream_columns(conf, monkeypatch):
    kind = rooms.module("data", conf.kind)
    raw = kind.read(Path("data/raw") / conf.name, conf.columns)
    folder = run(conf, monkeypatch)
    parts = {part: kind.load(folder / part) for part in PARTS}
    order = list(raw.columns)
    together = pd.concat(parts.values())[order].sort_values(order, ignore_index=True)
    repaired = kind.repair(raw, conf.columns).sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(together, repaired, check_dtype=False)  # so nothing is scaled, dropped or doubled
    assert {path.name for path in folder.iterdir()} == {"profile.json", *(f"{part}.parquet" for part in PARTS)}


def test_the_same_rows_give_the_same_bytes(conf, monkeypatch):
    first = folder_digest(run(conf, monkeypatch))
    assert folder_digest(run(conf, monkeypatch)) == first
    assert folder_digest(run(conf, monkeypatch, "dataset.split.salt=7")) != first


def test_the_profile_says_what_later_stages_need(conf, monkeypatch):
    profile = json.loads((run(conf, monkeypatch) / "profile.json").read_text())
    assert {key: profile[key] for key in ("dataset", "kind", "source", "digest")} == {
        "dataset": conf.name,
        "kind": conf.kind,
        "source": "embedded",
        "digest": "0123abcd",
    }
    assert list(profile["rows"]) == list(PARTS) and sum(profile["rows"].values()) == conf.twin.rows
    columns = rooms.module("data", conf.kind).Columns(**profile["layout"])  # train reads this and no conf of the data
    assert columns == conf.columns


def test_by_hand_it_writes_to_scratch(conf, capsys):
    prepare.main([f"dataset={conf.name}"])
    assert Path(".scratch/prepared", conf.name, "profile.json").is_file() and not Path("data/prepared").exists()
    assert capsys.readouterr().out.startswith(f"{conf.name}: train ")


def test_refused_data_are_not_prepared(conf, monkeypatch):
    before = folder_digest(run(conf, monkeypatch))
    validated(conf.name, success=False)
    with pytest.raises(
        DataError, match=f"{conf.name} failed its expectations; see reports/validation/{conf.name}.json"
    ):
        run(conf, monkeypatch)
    assert folder_digest(Path("data/prepared") / conf.name) == before


@pytest.mark.parametrize("missing", ["reports/validation/{}.json", "data/raw/{}"])
def test_what_an_earlier_stage_makes_is_named_where_it_is_missing(conf, monkeypatch, missing):
    path = Path(missing.format(conf.name))
    path.rename("elsewhere")
    with pytest.raises(SextantError, match=f"^{path} is not there; `make repro` makes it"):
        run(conf, monkeypatch)


def test_a_part_that_cannot_be_learnt_from_leaves_nothing(conf, monkeypatch):
    shares = "dataset.split.shares={train: 0.99997, val: 0.00001, gate: 0.00001, test: 0.00001}"
    with pytest.raises(DataError, match=r"part val \(0 rows\) has no "):
        run(conf, monkeypatch, shares)
    assert not list(Path("data").glob("prepared/**/*"))


def test_a_data_set_that_is_not_listed(workspace):
    with pytest.raises(UsageError, match="unknown data set `strawberry`; params.yaml lists: "):
        prepare.main(["dataset=strawberry"])


def test_the_core_knows_no_path(conf, tmp_path, monkeypatch):
    """`prepare(raw, conf) -> parts`: the same parts wherever the rows come from."""
    kind = rooms.module("data", conf.kind)
    raw = kind.read(Path("data/raw") / conf.name, conf.columns)
    monkeypatch.chdir(tmp_path.parent)
    shuffled = raw.iloc[np.random.default_rng(3).permutation(len(raw))]
    one, other = prepare.prepare(raw, conf), prepare.prepare(shuffled, conf)
    for part in PARTS:
        order = list(one[part].columns)
        pd.testing.assert_frame_equal(*(p[part].sort_values(order, ignore_index=True) for p in (one, other)))
