"""Texts: parts by place, rows in order, prompts, and what is refused by name."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sextant.errors import DataError, UsageError
from sextant.kinds.parts import PARTS
from sextant.kinds.splits import HashSplit, PlaceSplit
from sextant.kinds.text import rows as text
from sextant.kinds.text.columns import Columns
from sextant.kinds.text.encoder import PADDING, UNKNOWN, Batch, Encoder
from sextant.kinds.text.twin import Twin, recalls, scenes, write_twin
from sextant.strict import check

COLUMNS = Columns(chunk=16)
SHARES = {"train": 0.6, "val": 0.1, "gate": 0.1, "test": 0.2}
BY_PLACE = PlaceSplit(by="place", shares=SHARES)
BY_FILE = HashSplit(by="hash", shares=SHARES)
PLAY = "First Citizen:\nWe are here, and we stay.\n\n" * 12
TWIN: dict[str, Any] = {
    "seed": 1,
    "file": "play.txt",
    "characters": 2000,
    "names": ["Anna", "Bruno"],
    "words": [["the"], ["king", "fool"], ["sings"]],
    "least": 1,
    "most": 2,
}


def parts_of(
    raw: dict[str, str], split: HashSplit | PlaceSplit = BY_PLACE
) -> dict[str, pd.DataFrame]:
    parts = text.split(text.repair(raw, COLUMNS), COLUMNS, split)
    text.check_parts(parts, COLUMNS)
    return parts


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.fit(parts_of({"a.txt": PLAY})["train"], COLUMNS)


# --- reading ------------------------------------------------------------------------------------


def test_files_are_read_in_their_encoding_and_end_lines_alike(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/two.txt").write_bytes("Käse\r\nBrot\r".encode("cp1252"))
    (tmp_path / "one.txt").write_bytes(b"plain\n")
    raw = text.read(tmp_path, Columns(chunk=16, encoding="cp1252"))
    assert raw == {"b/two.txt": "Käse\nBrot\n", "one.txt": "plain\n"}
    (tmp_path / "b/two.txt").unlink()
    (tmp_path / "one.txt").write_bytes("\ufeffmarked".encode())
    assert text.read(tmp_path, COLUMNS) == {"one.txt": "marked"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a.txt is empty; expected a text"),
        (b" \n\n", r"a.txt is empty; expected a text"),
        (b"one\ntw\xffo", r"a.txt line 2 is not utf-8 \(byte 0xff\); set `encoding` in the conf"),
        (b"one\n\0two", r"a.txt line 2 has a null character; set `encoding` in the conf"),
        ("one".encode("utf-16"), r"a.txt line 1 is not utf-8 \(byte 0xff\).* utf-16"),
    ],
)
def test_what_is_no_text_is_refused_by_file_and_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        text.read(tmp_path, COLUMNS)


def test_a_text_that_is_shorter_than_a_chunk_is_refused() -> None:
    message = r"part train has 15 characters; expected 16 or more \(a chunk in train\); add text"
    with pytest.raises(DataError, match=message):
        parts_of({"a.txt": PLAY[:25]})
    with pytest.raises(DataError, match="part test has 0 characters"):
        text.check_parts({"test": text.repair({}, COLUMNS)}, COLUMNS)


def test_the_table_has_a_row_for_each_line_and_copies_are_named() -> None:
    raw = {"a.txt": "Is it? No!\n\nA\x07b \ufffd\n", "b.txt": "cafÃ©", "c.txt": "cafÃ©"}
    table = text.table(raw, COLUMNS)
    assert table.columns.tolist() == COLUMNS.all
    assert table["characters"].tolist() == [10, 0, 5, 5, 5]
    assert (
        table["letters"].iloc[[0, 2]].tolist() == [0.8, 0.6] and table["letters"].isna()[1:2].all()
    )
    assert table["unusual"].tolist() == [0, 0, 2, 0, 0]
    assert list(table.index[2]) == ["a.txt", 3]
    decoding, copies = text.findings(raw, COLUMNS, table)
    assert (decoding.unexpected, decoding.checked) == (2, 5)
    assert copies.examples == ["c.txt (as b.txt)"]


# --- parts --------------------------------------------------------------------------------------


def test_parts_are_consecutive_shares_of_all_files() -> None:
    raw = {"b.txt": PLAY[300:], "a.txt": PLAY[:300]}
    parts = parts_of(raw)
    assert list(parts) == list(PARTS)
    in_order = ("val", "gate", "train", "test")  # train ends where test begins
    assert "".join("".join(parts[part]["text"]) for part in in_order) == PLAY
    lengths = [len("".join(parts[part]["text"])) for part in in_order]
    assert np.cumsum(lengths).tolist() == [int(len(PLAY) * share) for share in (0.1, 0.2, 0.8, 1)]
    for rows in parts.values():
        assert rows["text"].str.len().max() <= 16
        for file, start, chunk in rows.itertuples(index=False):
            assert raw[file][start : start + len(chunk)] == chunk
    start, end = int(len(PLAY) * 0.2), int(len(PLAY) * 0.8)
    assert text.texts_of(parts["train"]) == [PLAY[start:300], PLAY[300:end]]


def test_whole_files_are_assigned_by_a_hash_of_their_names() -> None:
    raw = {f"{number}.txt": PLAY[number:] for number in range(40)}
    parts = parts_of(raw, BY_FILE)
    files = {part: set(rows["file"]) for part, rows in parts.items()}
    assert sum(len(names) for names in files.values()) == 40
    fewer = parts_of({name: raw[name] for name in files["val"] | files["train"]} | raw, BY_FILE)
    assert {part: set(rows["file"]) for part, rows in fewer.items()} == files
    assert text.texts_of(parts["val"]) == [raw[name] for name in sorted(files["val"])]


def test_a_profile_counts_characters_and_names_those_that_train_lacks() -> None:
    parts = parts_of({"a.txt": PLAY + "$"})
    profile = text.profile(parts, COLUMNS)
    assert profile["unseen"] == {"test": ["$"]}
    assert profile["characters"]["train"] == len("".join(parts["train"]["text"]))
    assert set(profile["alphabet"]) == set(PLAY)


# --- tensors ------------------------------------------------------------------------------------


def test_rows_continue_one_another_and_each_begins_after_the_character_before(
    encoder: Encoder,
) -> None:
    rows = text.repair({"a.txt": PLAY[:40], "b.txt": "A~"}, COLUMNS)
    batch = encoder.encode(rows)
    assert batch.follows.tolist() == [False, True, True, False]
    assert batch.text.shape == (4, 17) and batch.text.dtype == torch.int32
    codes = torch.from_numpy(encoder.codes("\n" + PLAY[:40]))
    for row, start in enumerate((0, 16, 32)):
        end = min(start + 17, 41)
        assert torch.equal(batch.text[row, : end - start], codes[start:end])
    assert (batch.text[2, 9:] == PADDING).all()
    first, second, third = batch.text[3].tolist()[:3]
    assert (first, second, third) == (encoder.code_of["\n"], UNKNOWN, UNKNOWN)
    assert encoder.decode(codes[1:].tolist()) == PLAY[:40]


def test_the_state_of_an_encoder_is_all_of_it(encoder: Encoder) -> None:
    loaded = Encoder.from_state(encoder.state(), COLUMNS)
    assert loaded.state() == encoder.state() and loaded.sizes == encoder.sizes
    example = encoder.check(encoder.example())
    assert len(example) == 2 and isinstance(encoder.encode(example), Batch)


# --- prompts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["txt", "csv", "json", "parquet"])
def test_prompts_are_lines_or_a_column(tmp_path: Path, encoder: Encoder, suffix: str) -> None:
    prompts = ["First", "We are, and"]
    path = tmp_path / f"prompts.{suffix}"
    frame = pd.DataFrame({"prompt": prompts})
    if suffix == "txt":
        path.write_text("First\r\nWe are, and\n")
    elif suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "json":
        frame.to_json(path, orient="records")
    else:
        frame.to_parquet(path)
    rows = encoder.check(text.read_rows(path, COLUMNS))
    assert rows["text"].tolist() == prompts and rows["prompt"].tolist() == prompts
    assert encoder.encode(rows).follows.tolist() == [False, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("First\n\nWe", r"prompts.txt line 2 has an empty `prompt`"),
        ("First\nW€, Xé", r"prompts.txt line 2 has '€' \(U\+20AC EURO SIGN\), 'X', 'é' .*`unseen"),
        ("", r"prompts.txt is empty; expected a prompt on each line"),
    ],
)
def test_a_prompt_that_cannot_be_continued_is_refused_by_its_line(
    tmp_path: Path, encoder: Encoder, content: str, message: str
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        encoder.check(text.read_rows(path, COLUMNS))


def test_rows_of_a_caller_are_refused_by_their_number(encoder: Encoder) -> None:
    for cell in (None, "", 7):
        frame = pd.DataFrame({"prompt": ["First", cell]}, dtype=object)
        with pytest.raises(DataError, match="row 2 has an empty `prompt`"):
            encoder.check(frame)
    with pytest.raises(DataError, match="missing column prompt; surplus column text"):
        encoder.check(pd.DataFrame({"text": ["First"]}))
    with pytest.raises(DataError, match="no prompts; expected one row or more"):
        encoder.check(pd.DataFrame({"prompt": []}))


def test_a_conf_may_map_what_training_lacks_and_the_answer_says_so(encoder: Encoder) -> None:
    mapping = Encoder.from_state(encoder.state(), Columns(chunk=16, unseen="map"))
    frame = pd.DataFrame({"prompt": ["wé—aré", "we are"]})
    rows = mapping.check(frame)
    assert rows["text"].tolist() == ["we are", "we are"]
    assert rows["prompt"].tolist() == frame["prompt"].tolist()
    first, second = mapping.remarks(rows, rows)
    assert re.match(r"'é' \(U\+00E9 .*\), '—' \(.*\) is mapped, since", first) and second == ""
    with pytest.raises(DataError, match="row 1 has a `prompt` without a character that the"):
        mapped_to_none = Encoder(Columns(chunk=16, unseen="map"), ["a", "b"], "ab")
        mapped_to_none.check(pd.DataFrame({"prompt": ["7"]}))


def test_chunks_with_their_places_are_what_a_packed_model_is_asked(
    tmp_path: Path, encoder: Encoder
) -> None:
    rows = parts_of({"a.txt": PLAY + "~"})["test"]
    inputs = encoder.inputs(rows)
    assert [name for name, _, _ in encoder.schema()] == list(inputs)
    pd.testing.assert_frame_equal(encoder.check(inputs)[list(rows)[::-1]], rows[list(rows)[::-1]])
    text.write_inputs(rows, tmp_path / "rows.parquet")
    written = pd.read_parquet(tmp_path / "rows.parquet")
    assert written.astype(object).equals(inputs.astype(object))
    text.write(rows, tmp_path / "part")
    pd.testing.assert_frame_equal(text.load(tmp_path / "part"), rows)


# --- the twin -----------------------------------------------------------------------------------


def test_a_scene_names_one_person_first_and_last_and_none_in_between(tmp_path: Path) -> None:
    twin = check(Twin, TWIN, "twin")
    written = scenes(twin)
    assert len(written) >= 2000
    for scene in written.strip("\n").split("\n\n"):
        lines = scene.split("\n")
        name = lines[0].removeprefix("Enter ")
        assert lines[-1] == f"Exit {name}" and 1 <= len(lines) - 2 <= 2
        assert not re.search("Anna|Bruno", "".join(lines[1:-1]))
    assert {written[place] for place in recalls(written)} == {"A", "B"}
    write_twin(twin, COLUMNS, tmp_path)
    assert (tmp_path / "play.txt").read_bytes().count(b"\r\n") == written.count("\n")
    assert text.read(tmp_path, COLUMNS) == {"play.txt": written}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["Anna", "Adam"]}, "two `names` begin with the same letter"),
        ({"least": 3}, "`least` is 3 and `most` 2; swap them"),
    ],
)
def test_a_twin_that_could_not_be_recalled_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(Twin, {**TWIN, **change}, "twin")
