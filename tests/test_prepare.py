"""Prepare: rows repaired and dealt into four parts in upstream columns, and a profile of those to train on."""

import json
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import twins

from sextant import config, plugins, prepare
from sextant.errors import DataError, SextantError, UsageError
from sextant.files import folder_digest, write_json
from sextant.kinds.parts import PARTS, scored


@pytest.fixture(scope="module", params=twins.LISTED)
def prepared(request, tmp_path_factory) -> tuple[config.DatasetConf, Path]:
    """A data set, and a workspace in which its twin was prepared. Not to be changed: see `conf`."""
    found, place = twins.conf_of(request.param), tmp_path_factory.mktemp(request.param)
    shutil.copytree(twins.ROOT / "conf", place / "conf")
    shutil.copy(twins.ROOT / "params.yaml", place)
    (place / "data/raw").mkdir(parents=True)
    (place / "data/raw" / found.name).symlink_to(twins.raw(found.name, tmp_path_factory))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        validated(found.name)
        run(found, patch)
    return found, place


@pytest.fixture
def conf(prepared, tmp_path, monkeypatch) -> config.DatasetConf:
    """The data set; the working directory is a copy of its workspace."""
    shutil.copytree(prepared[1], tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return prepared[0]


def validated(name: str, **changes: Any) -> None:
    report = {
        "dataset": name,
        "source": "embedded",
        "success": True,
        "digest": "0123abcd",
        **changes,
    }
    write_json(Path(f"reports/validation/{name}.json"), report)


def run(conf: config.DatasetConf, monkeypatch: pytest.MonkeyPatch, *words: str) -> Path:
    """The stage as DVC runs it."""
    monkeypatch.setenv("DVC_STAGE", f"prepare@{conf.name}")
    prepare.main([f"dataset={conf.name}", *words])
    return folder_of(conf)


def folder_of(conf: config.DatasetConf) -> Path:
    return Path("data/prepared") / conf.name


def repaired(conf: config.DatasetConf) -> pd.DataFrame:
    kind = plugins.kind(conf.kind).rows
    return kind.repair(kind.read(Path("data/raw") / conf.name, conf.columns), conf.columns)


def elsewhere(conf: config.DatasetConf) -> str:
    """An override by which other rows are in the parts."""
    if conf.split.by == "hash":
        return f"dataset.split.salt={conf.split.salt + 7}"
    return f"dataset.split.val_from={date.fromisoformat(conf.split.val_from) - timedelta(days=29)}"


def too_few(conf: config.DatasetConf) -> str:
    """An override by which some part has no row."""
    if conf.split.by == "hash":
        return "dataset.split.shares={train: 0.9999997, val: 0.0000001, gate: 0.0000001, test: 0.0000001}"
    return "dataset.split.test_from='2999-12-31'"


def test_there_is_something_to_prepare():
    assert twins.LISTED


def test_every_row_is_scored_in_one_part_and_no_other(conf):
    """As many as there are, but for those with which a series begins; whose they are is each kind's own law."""
    kind = plugins.kind(conf.kind).rows
    parts = {part: kind.load(folder_of(conf) / part) for part in PARTS}
    first = len(parts["train"]) - len(scored(parts["train"]))
    assert sum(len(scored(rows)) for rows in parts.values()) == len(repaired(conf)) - first


def test_the_parts_are_the_repaired_rows_in_upstream_columns(conf):
    if conf.kind != "tabular":
        pytest.skip("a table alone keeps every column as it was")
    kind, rows = plugins.kind(conf.kind).rows, repaired(conf)
    order = list(rows.columns)
    together = pd.concat([kind.load(folder_of(conf) / part) for part in PARTS])[order]
    together, rows = (frame.sort_values(order, ignore_index=True) for frame in (together, rows))
    pd.testing.assert_frame_equal(
        together, rows, check_dtype=False
    )  # so nothing is scaled, dropped or doubled


def test_the_core_knows_no_path_and_the_same_rows_give_the_same_bytes(conf, tmp_path, monkeypatch):
    """`prepare(raw, conf) -> parts`, wherever the rows come from."""
    kind, whole = plugins.kind(conf.kind).rows, folder_of(conf).absolute()
    raw = kind.read(Path("data/raw") / conf.name, conf.columns)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "again").mkdir()
    for part, rows in prepare.prepare(raw, conf).items():
        kind.write(rows, tmp_path / "again" / part)
    shutil.copy(whole / "profile.json", tmp_path / "again")
    assert folder_digest(tmp_path / "again") == folder_digest(whole)


def test_another_split_gives_other_parts(conf, monkeypatch):
    before = folder_digest(folder_of(conf))
    assert folder_digest(run(conf, monkeypatch, elsewhere(conf))) != before


def test_the_profile_says_what_later_stages_need(conf):
    profile = json.loads((folder_of(conf) / "profile.json").read_text())
    assert {key: profile[key] for key in ("dataset", "kind", "about", "source", "digest")} == {
        "dataset": conf.name,
        "kind": conf.kind,
        "about": conf.about,
        "source": "embedded",
        "digest": "0123abcd",
    }
    kind = plugins.kind(conf.kind).rows
    parts = {part: kind.load(folder_of(conf) / part) for part in PARTS}
    assert profile["rows"] == {part: len(scored(rows)) for part, rows in parts.items()}
    assert (
        plugins.kind(conf.kind).columns.Columns(**profile["layout"]) == conf.columns
    )  # train reads this and no conf of the data


def test_by_hand_it_writes_to_scratch(conf, capsys):
    before = folder_digest(folder_of(conf))
    prepare.main([f"dataset={conf.name}"])
    assert folder_digest(folder_of(conf)) == before
    assert Path(".scratch/prepared", conf.name, "profile.json").is_file()
    assert capsys.readouterr().out.startswith(f"{conf.name}: train ")


def test_refused_data_are_not_prepared(conf, monkeypatch):
    before = folder_digest(folder_of(conf))
    validated(conf.name, success=False)
    with pytest.raises(
        DataError,
        match=f"{conf.name} failed its expectations; see reports/validation/{conf.name}.json",
    ):
        run(conf, monkeypatch)
    assert folder_digest(folder_of(conf)) == before


@pytest.mark.parametrize("missing", ["reports/validation/{}.json", "data/raw/{}"])
def test_what_an_earlier_stage_makes_is_named_where_it_is_missing(conf, monkeypatch, missing):
    path = Path(missing.format(conf.name))
    path.rename("elsewhere")
    with pytest.raises(SextantError, match=f"^{path} does not exist; `make repro` makes it"):
        run(conf, monkeypatch)


def test_a_part_that_cannot_be_learnt_from_leaves_all_as_it_was(conf, monkeypatch):
    before = folder_digest(folder_of(conf))
    with pytest.raises(DataError, match=r"^part (val|test) "):
        run(conf, monkeypatch, too_few(conf))
    assert folder_digest(folder_of(conf)) == before


def test_a_data_set_that_is_not_listed(workspace):
    with pytest.raises(UsageError, match="unknown data set `strawberry`; params.yaml lists: "):
        prepare.main(["dataset=strawberry"])
