"""A saved model: weights and JSON, nothing that runs, and after loading the same answers."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sextant import config, saved_model
from sextant.data import tabular
from sextant.errors import DataError, UsageError
from sextant.files import folder_digest

COLUMNS = tabular.Columns(
    names=None,
    delimiter=",",
    unknown=None,
    key=None,
    target="class",
    ignored=[],
    numeric=["height"],
    categorical=["colour", "shoes"],
)
NET = {
    "bins": 3,
    "embedding_size": 5,
    "hidden_sizes": [7],
    "dropout": 0.2,
    "bodies": 1,
    "members": 2,
}


def table(rows: int = 211) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "height": rng.normal(170, 11, rows).round(1),
            "colour": rng.choice(["red", "green", "blue"], rows),
            "shoes": rng.integers(36, 47, rows),
            "class": rng.choice(["cat", "cow", "dog"], rows),
        }
    )


def model(seed: int = 3, **card: Any) -> saved_model.Saved:
    encoder = tabular.Encoder.fit(table(), COLUMNS)
    torch.manual_seed(seed)
    net = saved_model.build("ann", encoder.sizes, NET)
    net.initialise(encoder.encode(table()))
    told = {
        "family": "ann",
        "kind": "tabular",
        "task": "classification",
        "net": NET,
        "columns": COLUMNS.model_dump(),
    }
    return saved_model.SavedModel(
        {**told, "calibration": {"temperature": 1.5}, **card}, net, encoder
    )


def save(found: saved_model.Saved, folder: Path) -> Path:
    saved_model.save(folder, found.card, found.net, found.encoder)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return save(model(), tmp_path / "model")


def test_after_loading_it_answers_as_before(folder):
    pd.testing.assert_frame_equal(
        saved_model.load(folder).predict(table(97)), model().predict(table(97))
    )
    pd.testing.assert_frame_equal(
        saved._load_pyfunc(str(folder)).predict(table(97)), model().predict(table(97))
    )


def test_what_it_was_told_and_learnt_comes_back(folder):
    found = saved_model.load(folder)
    assert {key: found.card[key] for key in model().card} == model().card
    assert found.encoder.state() == model().encoder.state()
    assert not found.net.training


def test_the_folder_holds_weights_and_json_and_nothing_that_runs(folder):
    assert sorted(path.name for path in folder.rglob("*")) == [
        saved_model.CARD,
        saved_model.WEIGHTS,
    ]
    raw = (folder / saved_model.WEIGHTS).read_bytes()
    header = int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8 : 8 + header])  # safetensors: a length, a JSON header, numbers
    sizes = [entry["data_offsets"][1] - entry["data_offsets"][0] for entry in entries.values()]
    assert len(raw) == 8 + header + sum(sizes)
    json.loads(
        (folder / saved_model.CARD).read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is not JSON"),
    )


def test_the_digest_is_the_models_and_no_matter_of_time_or_place(folder, tmp_path):
    assert folder_digest(save(model(), tmp_path / "far" / "away")) == folder_digest(folder)
    assert folder_digest(save(saved_model.load(folder), tmp_path / "again")) == folder_digest(
        folder
    )
    for name, other in {"weights": model(seed=5), "card": model(seed=3, epoch=7)}.items():
        assert folder_digest(save(other, tmp_path / name)) != folder_digest(folder)


def test_a_folder_is_replaced_as_a_whole(folder):
    (folder / "surplus").write_text("of an older kind of model")
    save(model(seed=5), folder)
    assert sorted(path.name for path in folder.iterdir()) == [saved_model.CARD, saved_model.WEIGHTS]


def test_what_cannot_be_saved_leaves_the_last_one_as_it_was(folder):
    before = folder_digest(folder)
    with pytest.raises(ValueError, match="Out of range float"):
        save(model(val={"log_loss": float("nan")}), folder)
    assert folder_digest(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("key", "what"),
    [("family", "family"), ("kind", "kind"), ("task", "task")],
    ids=["family", "kind", "task"],
)
def test_what_this_checkout_does_not_know(tmp_path, key, what):
    with pytest.raises(UsageError, match=f"unknown {what} `strawberry`; src/sextant/.* has: "):
        saved_model.load(save(model(**{key: "strawberry"}), tmp_path / "model")).predict(table(7))


def test_rows_asked_with_are_checked_and_those_of_a_part_are_not(folder):
    found = saved_model.load(folder)
    with pytest.raises(DataError, match="missing column shoes"):
        found.predict(table(7).drop(columns="shoes"))
    with pytest.raises(DataError, match="row 1 has no `height`"):
        found.predict(table(7).assign(height=None))
    pd.testing.assert_frame_equal(found.answer(table(7)), found.predict(table(7)))
    with pytest.warns(UserWarning, match="`colour` has mauve, which training did not meet"):
        found.predict(table(7).assign(colour="mauve"))


def test_the_calibration_is_applied(folder):
    found = saved_model.load(folder)
    warmer = saved_model.SavedModel(
        {**found.card, "calibration": {"temperature": 15.0}}, found.net, found.encoder
    )
    assert (
        warmer.predict(table(7))["probability"].max() < found.predict(table(7))["probability"].max()
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_a_file_of_rows_is_read_as_the_data_were(folder, tmp_path, suffix):
    path, rows = tmp_path / f"rows.{suffix}", table(7)
    if suffix == "json":
        rows.to_json(path, orient="records")
    else:
        {"csv": rows.to_csv, "parquet": rows.to_parquet}[suffix](path, index=False)
    found = saved_model.load(folder)
    pd.testing.assert_frame_equal(found.predict(found.read(path)), found.predict(rows))


def test_a_net_is_its_sizes_and_its_conf():
    sizes = {
        "numeric": 1,
        "cardinalities": [3, 11],
        "classes": 3,
        "pictures": 7,
    }  # more than this family asks for
    found = saved_model.build("ann", sizes, NET)
    assert found.head.shape == (1, 2, 7, 3) and len(found.categories) == 2


@pytest.mark.parametrize("ending", ["", ".csv", ".json"])
@pytest.mark.parametrize("name", config.params().datasets)
def test_a_folder_to_ask_with_is_refused_in_a_line_or_read_as_pictures(
    tmp_path: Path, name: str, ending: str
) -> None:
    """Whatever the kind, and however the folder is called."""
    conf, place = config.dataset(name), tmp_path / f"rows{ending}"
    place.mkdir()
    asked = saved_model.SavedModel(
        {"kind": conf.kind}, torch.nn.Identity(), SimpleNamespace(columns=conf.columns)
    )
    with pytest.raises(
        DataError,
        match=r"rows\S* (cannot be read \(is a directory\); name a file|holds no picture)",
    ):
        asked.read(place)
