"""A saved model: weights and JSON without code, and the same answers after loading."""

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cases
import listed
import pandas as pd
import pytest
import torch
from builders import UNTRAINED_CARD, UNTRAINED_NET, animal_table, untrained_model

from sextant import config, saved_model
from sextant.commands import predict
from sextant.errors import DataError, SextantError, UsageError
from sextant.files import folder_digest
from sextant.kinds import parts
from sextant.saved_model import SavedModel


def save(model: SavedModel, folder: Path) -> Path:
    saved_model.save(folder, model.card, model.net, model.encoder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(untrained_model(), tmp_path / "model")


# --- the folder ---------------------------------------------------------------------------------


def test_a_loaded_model_gives_the_same_answers(folder: Path) -> None:
    expected = untrained_model().predict(animal_table(97))
    pd.testing.assert_frame_equal(saved_model.load(folder).predict(animal_table(97)), expected)
    by_mlflow = saved_model._load_pyfunc(str(folder))
    pd.testing.assert_frame_equal(by_mlflow.predict(animal_table(97)), expected)


def test_a_loaded_model_has_the_card_and_the_fitted_encoder(folder: Path) -> None:
    loaded = saved_model.load(folder)
    assert {key: loaded.card[key] for key in UNTRAINED_CARD} == UNTRAINED_CARD
    assert loaded.encoder.state() == untrained_model().encoder.state()
    assert not loaded.net.training


def test_the_folder_holds_weights_and_json_and_no_code(folder: Path) -> None:
    names = sorted(path.name for path in folder.rglob("*"))
    assert names == [saved_model.CARD, saved_model.WEIGHTS]
    # A safetensors file is a length, a JSON header and the numbers, without any rest.
    content = (folder / saved_model.WEIGHTS).read_bytes()
    header = int.from_bytes(content[:8], "little")
    size = 8 + header
    for entry in json.loads(content[8 : 8 + header]).values():
        start, end = entry["data_offsets"]
        size += end - start
    assert len(content) == size
    json.loads(
        (folder / saved_model.CARD).read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is not JSON"),
    )


def test_the_digest_depends_on_the_model_and_not_on_time_or_place(
    folder: Path, tmp_path: Path
) -> None:
    digest = folder_digest(folder)
    assert folder_digest(save(untrained_model(), tmp_path / "far" / "away")) == digest
    assert folder_digest(save(saved_model.load(folder), tmp_path / "again")) == digest
    assert folder_digest(save(untrained_model(seed=5), tmp_path / "weights")) != digest
    assert folder_digest(save(untrained_model(epoch=7), tmp_path / "card")) != digest


def test_an_existing_folder_is_replaced(folder: Path) -> None:
    (folder / "surplus").write_text("of an older version")
    save(untrained_model(seed=5), folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [saved_model.CARD, saved_model.WEIGHTS]


def test_a_failed_save_leaves_the_folder_unchanged(folder: Path) -> None:
    before = folder_digest(folder)
    with pytest.raises(ValueError, match="Out of range float"):
        save(untrained_model(val={"log_loss": float("nan")}), folder)
    assert folder_digest(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("key", ["family", "kind", "task"])
def test_an_unknown_plugin_is_named(key: str, tmp_path: Path) -> None:
    folder = save(untrained_model(**{key: "strawberry"}), tmp_path / "model")
    with pytest.raises(UsageError, match=f"unknown {key} `strawberry`; src/sextant/.* has: "):
        saved_model.load(folder).predict(animal_table(7))


# --- answers ------------------------------------------------------------------------------------


def test_input_rows_are_checked_and_prepared_rows_are_not(folder: Path) -> None:
    model = saved_model.load(folder)
    with pytest.raises(DataError, match="missing column shoes"):
        model.predict(animal_table(7).drop(columns="shoes"))
    with pytest.warns(UserWarning, match=r"`height` is missing, and .*\(7 answers\)"):
        model.predict(animal_table(7).assign(height=None))
    predicted = model.predict(animal_table(7))
    answers = predicted.drop(columns=["id", "warnings"])
    pd.testing.assert_frame_equal(model.answer(animal_table(7)), answers)
    with pytest.warns(UserWarning, match="`colour` has mauve, which"):
        model.predict(animal_table(7).assign(colour="mauve"))


def test_an_unknown_option_is_refused(folder: Path) -> None:
    message = "unknown option `top_k`; this model takes all_classes, details"
    with pytest.raises(UsageError, match=message):
        saved_model.load(folder).predict(animal_table(7), {"top_k": 5})


def test_the_calibration_is_applied(folder: Path) -> None:
    """A higher temperature moves probabilities towards 0.5."""
    model = saved_model.load(folder)
    card = {**model.card, "calibration": {"temperature": 15.0}}
    warmer = SavedModel(card, model.net, model.encoder)
    distance = (model.predict(animal_table(7))["probability"] - 0.5).abs()
    warmer_distance = (warmer.predict(animal_table(7))["probability"] - 0.5).abs()
    assert (warmer_distance < distance).all()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_rows_are_read_from_each_format(folder: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    rows = animal_table(7)
    if suffix == "csv":
        rows.to_csv(path, index=False)
    elif suffix == "parquet":
        rows.to_parquet(path, index=False)
    else:
        rows.to_json(path, orient="records")
    model = saved_model.load(folder)
    # A key from a text file is text, as it is written there.
    answers = model.predict(model.read(path)).astype({"id": int})
    pd.testing.assert_frame_equal(answers, model.predict(rows))


@pytest.mark.parametrize("name", listed.DATASETS)
def test_an_empty_folder_as_input_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    """For every kind, whatever the folder is called: of pictures, a folder is a valid input."""
    conf = config.dataset(name, shelf=True)
    encoder: Any = SimpleNamespace(columns=conf.columns)
    model = SavedModel({"kind": conf.kind}, torch.nn.Identity(), encoder)
    message = r"rows\S* (cannot be read \(is a directory\); name a file|has no pictures)"
    for suffix in ("", ".csv", ".json"):
        folder = tmp_path / f"rows{suffix}"
        folder.mkdir()
        with pytest.raises(DataError, match=message):
            model.read(folder)


# --- nets ---------------------------------------------------------------------------------------


def test_a_net_is_built_from_sizes_and_conf() -> None:
    # More sizes than this family takes.
    sizes = {"numeric": 1, "cardinalities": [3, 11], "classes": 3, "pictures": 7}
    net: Any = saved_model.build("ann", sizes, UNTRAINED_NET)
    assert net.head.shape == (1, 2, 7, 3) and len(net.categories) == 2


def test_a_size_that_the_data_do_not_have_is_named() -> None:
    message = "family `ann` needs the size `numeric`, .* they have: items; choose another family"
    with pytest.raises(UsageError, match=message):
        saved_model.build("ann", {"items": 7}, UNTRAINED_NET)


# --- what identifies a row, and what is unusual about it ----------------------------------------


def test_an_answer_begins_with_the_key_and_ends_with_the_warnings(folder: Path) -> None:
    model = saved_model.load(folder)
    rows = animal_table(5).assign(weight=[50, 4000, 50, 50, 50])
    with pytest.warns(UserWarning, match="`weight` is 4000, far from the .* of training"):
        answers = model.predict(rows.iloc[::-1])
    assert list(answers) == ["id", "prediction", "probability", "positive", "warnings"]
    assert answers["id"].tolist() == rows["id"].tolist()[::-1]
    is_far = answers["id"] == rows["id"][1]
    assert answers["warnings"][is_far].str.contains("`weight` is 4000").all()
    assert (answers["warnings"][~is_far] == "").all()


def test_rows_without_a_key_have_the_same_answers_without_it(folder: Path) -> None:
    model = saved_model.load(folder)
    rows = animal_table(5)
    expected = model.predict(rows).drop(columns="id")
    pd.testing.assert_frame_equal(model.predict(rows.drop(columns="id")), expected)
    assert (expected["warnings"] == "").all()


def test_a_key_with_the_name_of_an_answer_gets_a_prefix() -> None:
    answers = pd.DataFrame({"prediction": ["cat", "dog"], "probability": [0.1, 0.9]})
    cells = {"probability": ["007", "7"], "path": ["a", "b"], "warnings": ["c", "d"]}
    rows = pd.DataFrame(cells, index=[3, 4])
    named = saved_model.with_names(answers, rows, [*cells, "absent"])
    headings = ["key_probability", "path", "key_warnings"]
    assert list(named) == [*headings, "prediction", "probability"]
    assert named["key_probability"].tolist() == ["007", "7"]


def test_the_key_may_be_left_out_of_the_input(folder: Path) -> None:
    schema = saved_model.load(folder).schema()
    assert schema[0] == ("id", "string", False)
    assert all(required for _, _, required in schema[1:])


class OldModel:
    """A champion that was packed before answers carried the key and warnings."""

    def __init__(self, named_by: str | None, key: str | None):
        self.encoder = SimpleNamespace(columns=SimpleNamespace(key=key))
        if named_by:
            self.encoder.named_by = named_by

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        warnings.warn("an old warning", stacklevel=2)
        return pd.DataFrame({"prediction": ["cat"] * len(rows)})


@pytest.mark.parametrize(
    ("named_by", "key", "first"),
    [("path", "key", "path"), (None, "id", "id"), (None, None, None), (None, "gone", None)],
)
def test_an_old_champion_is_answered_with_the_key_by_the_command_line(
    named_by: str | None, key: str | None, first: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.DataFrame({"id": ["007", "7"], "path": ["a.png", "b.png"]})
    model: Any = OldModel(named_by, key)
    answers = predict.answer(model, rows, {})
    assert list(answers) == ([first, "prediction"] if first else ["prediction"])
    if first:
        assert answers[first].tolist() == rows[first].tolist()
    assert "sextant: warning: an old warning" in capsys.readouterr().err


@cases.each("value", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_no_finite_number_is_refused_with_its_row(value: float) -> None:
    answers = pd.DataFrame({"prediction": ["a", "b", "c"], "probability": [0.5, 1.0, value]})
    with pytest.raises(DataError, match=f"row 3 would get {value} as `probability`: .*; correct"):
        saved_model.check_finite(answers)
    several = answers.set_index(pd.Index([0, 1, 1]))
    with pytest.raises(DataError, match="row 2 would get"):
        saved_model.check_finite(several)
    saved_model.check_finite(answers.head(2))
    saved_model.check_finite(answers[["prediction"]])


def test_a_model_refuses_a_row_whose_answer_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained_model()
    rows = animal_table(5)
    answered = model.answer

    def overflowing(self: object, rows: pd.DataFrame, **options: object) -> pd.DataFrame:
        answers = answered(rows)
        answers.loc[4, answers.select_dtypes("number").columns[0]] = math.nan
        return answers

    monkeypatch.setattr(saved_model.SavedModel, "answer", overflowing)
    with pytest.raises(DataError, match="row 5 would get nan"):
        model.predict(rows)


@cases.each(
    ("name", "content"),
    [
        (saved_model.WEIGHTS, b"\x80\x04torn"),
        (saved_model.WEIGHTS, b""),
        (saved_model.CARD, b"{"),
        (saved_model.CARD, b"\x80"),
    ],
)
def test_a_damaged_file_of_a_model_is_named_with_what_restores_it(
    tmp_path: Path, name: str, content: bytes
) -> None:
    folder = save(untrained_model(), tmp_path / "model")
    (folder / name).write_bytes(content)
    message = f"model/{name} is damaged .*; restore it: `dvc checkout` .* `make register`"
    with pytest.raises(SextantError, match=message):
        saved_model.load(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError):
        saved_model.load(folder)


def test_a_damaged_part_is_named_with_what_restores_it(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"torn")
    with pytest.raises(SextantError, match="train.parquet is damaged .*; restore it"):
        parts.load(tmp_path / "train")
