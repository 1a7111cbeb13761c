"""Pictures: read from folders, zips and IDX files, decoded, split, encoded, given as input."""

import base64
import gzip
import hashlib
import io
import itertools
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cases
import numpy as np
import pandas as pd
import pytest
import torch
import twins
from builders import (
    MIRROR,
    hash_split,
    picture_columns,
    picture_file,
    random_picture,
    random_pictures,
    write_files,
    write_zip,
)
from conftest import ROOT, load_yaml
from PIL import Image

from sextant import plugins
from sextant.errors import DataError, UsageError
from sextant.kinds.images import rows as image_rows
from sextant.kinds.images.columns import Columns
from sextant.kinds.images.encoder import Encoder
from sextant.kinds.images.rows import facts as picture_facts
from sextant.kinds.images.twin import Look, Twin, write_twin
from sextant.kinds.splits import HashSplit
from sextant.strict import check

COLUMNS = picture_columns()
SPLIT = hash_split(train=0.8, val=0.1, gate=0.1, test=0.0)


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def stacked(images: Sequence[np.ndarray] | pd.Series) -> np.ndarray:
    return np.stack(list(images))


def split_folder(folder: Path, columns: Columns = COLUMNS) -> dict[str, pd.DataFrame]:
    """The four parts of the pictures in a folder."""
    rows = image_rows.repair(image_rows.read(folder, columns), columns)
    return image_rows.split(rows, columns, SPLIT)


def part_by_path(folder: Path, columns: Columns = COLUMNS) -> dict[str, str]:
    """The part of each picture by its path."""
    parts = {}
    for part, rows in split_folder(folder, columns).items():
        parts |= dict.fromkeys(rows["path"], part)
    return parts


def write_index(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Write index.csv, in which the key of a picture is its sha256."""
    lines = ["path,original"]
    for path, raw in pictures.items():
        lines.append(f"{path},{sha256(raw)}")
    (folder / "index.csv").write_text("\n".join(lines))


# --- folders, zips and the index ----------------------------------------------------------------


def test_loose_and_zipped_pictures_give_the_same_rows(tmp_path):
    pictures = random_pictures()
    zipped = image_rows.read(write_zip(tmp_path / "zip", pictures), COLUMNS).pictures
    loose = image_rows.read(write_files(tmp_path / "loose", pictures), COLUMNS).pictures
    pd.testing.assert_frame_equal(zipped, loose)
    assert zipped["path"].tolist() == sorted(pictures)
    assert zipped["raw"].tolist() == [pictures[path] for path in sorted(pictures)]
    assert zipped["animal"].tolist() == [path.split("/")[1] for path in zipped["path"]]
    assert zipped["test"].tolist() == [path.startswith("exam/") for path in zipped["path"]]


def test_hidden_files_are_ignored(tmp_path):
    hidden = [
        "__MACOSX/learn/cats/._1.png",
        "learn/cats/.DS_Store",
        "learn/dogs/_DS_Store",
        "learn/dogs/Thumbs.db",
        "LICENSE",
    ]
    pictures = random_pictures()
    folder = write_zip(tmp_path, pictures | dict.fromkeys(hidden, b"not a picture"))
    (folder / "source.json").write_text("{}")
    raw = image_rows.read(folder, COLUMNS)
    assert raw.pictures["path"].tolist() == sorted(pictures)
    assert image_rows.passed_over(raw) == {"no pictures": {"system": 4, "text": 1}}


def test_the_folders_of_the_classes_may_be_at_the_top(tmp_path):
    files = {"format": "folders", "train": ["."], "test": [], "index": None}
    pictures = {"cats/1.png": random_picture(1), "dogs/2.png": random_picture(2)}
    raw = image_rows.read(write_files(tmp_path, pictures), picture_columns(files=files))
    rows = raw.pictures
    assert rows["animal"].tolist() == ["cats", "dogs"]
    assert not rows["test"].any()


def test_two_sources_with_one_index_split_alike(tmp_path):
    """The originals as files, and a zip of smaller copies: other bytes, same keys, same parts."""
    columns = picture_columns(index=True)
    originals = random_pictures(211)
    smaller = {}
    for path, raw in originals.items():
        smaller[path] = picture_file(Image.open(io.BytesIO(raw)).resize((13, 9)), "JPEG")
    write_index(write_files(tmp_path / "originals", originals), originals)
    write_index(write_zip(tmp_path / "mirror", smaller), originals)
    parts = part_by_path(tmp_path / "originals", columns)
    assert part_by_path(tmp_path / "mirror", columns) == parts
    assert len(set(parts.values())) == 4
    # Without an index the key of a picture is its own digest.
    assert part_by_path(write_files(tmp_path / "plain", originals)) == parts


@pytest.mark.parametrize(
    "name", ["../out.png", "learn/../../out.png", "/learn/cats/out.png", "learn\\..\\..\\out.png"]
)
def test_a_zip_with_a_path_outside_its_folder_is_refused(name, tmp_path):
    write_zip(tmp_path, random_pictures() | {name: random_picture(1)})
    message = r"pictures.zip contains .*out.png', a path outside its folder; pull it again"
    with pytest.raises(DataError, match=message):
        image_rows.read(tmp_path, COLUMNS)
    assert not list(tmp_path.parent.rglob("out.png"))


@cases.each("kept", [0, 100, 0.5, 0.9, -7])
def test_a_truncated_zip_is_refused(kept, tmp_path):
    """`kept` bytes, or a share of them."""
    path = write_zip(tmp_path, random_pictures()) / "pictures.zip"
    complete = path.read_bytes()
    if isinstance(kept, float):
        kept = int(len(complete) * kept)
    path.write_bytes(complete[:kept])
    message = r"pictures.zip is not a complete zip file \(.+\); pull it again, or recreate it"
    with pytest.raises(DataError, match=message):
        image_rows.read(tmp_path, COLUMNS)


def test_a_damaged_byte_in_a_zip_is_detected(tmp_path):
    path = write_zip(tmp_path, random_pictures()) / "pictures.zip"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 9] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="is not a complete zip file .Bad CRC-32"):
        image_rows.read(tmp_path, COLUMNS)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "files"])
def test_a_class_without_pictures_is_refused(zipped, tmp_path):
    if zipped:
        write_zip(tmp_path, random_pictures() | {"learn/birds/": b""})
    else:
        write_files(tmp_path, random_pictures())
        (tmp_path / "learn/birds").mkdir()
    message = "class birds of learn has no pictures; add some, remove its folder, or name"
    with pytest.raises(DataError, match=message):
        image_rows.read(tmp_path, COLUMNS)


def test_a_part_without_a_class_is_refused(tmp_path):
    pictures = random_pictures(211)
    for path in list(pictures):
        if path.startswith("exam/cats"):
            del pictures[path]
    parts = split_folder(write_files(tmp_path, pictures))
    message = r"part test \(22 rows\) has no row of class cats of `animal`"
    with pytest.raises(DataError, match=message):
        image_rows.check_parts(parts, COLUMNS)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ({}, "has no pictures in the folders of `columns.files`; run `make pull`, or correct"),
        (
            {"learn/1.png": b""},
            "learn/1.png is outside learn/<class>/, exam/<class>/; move it there",
        ),
        (
            random_pictures() | {"more/cats/1.jpg": b""},
            "more/cats/1.jpg is outside learn/<class>/, exam/<class>/; move it there",
        ),
    ],
    ids=["none", "no class", "other folder"],
)
def test_pictures_in_other_places_are_refused(pictures, message, tmp_path):
    with pytest.raises(DataError, match=message):
        image_rows.read(write_files(tmp_path, pictures), COLUMNS)


def test_an_index_without_a_column_is_refused(tmp_path):
    columns = picture_columns(index=True)
    write_files(tmp_path, random_pictures(7))
    message = "index.csv, the index of the pictures, does not exist; run `make pull`"
    with pytest.raises(DataError, match=message):
        image_rows.read(tmp_path, columns)
    (tmp_path / "index.csv").write_text("path,digest\n")
    with pytest.raises(DataError, match="index.csv lacks column original; found path, digest"):
        image_rows.read(tmp_path, columns)


def test_pictures_without_a_key_in_the_index_are_refused(tmp_path):
    columns = picture_columns(index=True)
    write_files(tmp_path, random_pictures(7))
    # The key of the second picture is empty, the other five are not listed.
    (tmp_path / "index.csv").write_text("path,original\nlearn/cats/1.png,abc\nlearn/dogs/2.png,\n")
    raw = image_rows.read(tmp_path, columns)
    assert image_rows.table(raw, columns)["key"].notna().sum() == 1
    message = "6 pictures, first exam/cats/5.png, are not in the index; add them"
    with pytest.raises(DataError, match=message):
        image_rows.repair(raw, columns)


@pytest.mark.parametrize("write", [write_files, write_zip])
def test_pictures_of_the_index_that_do_not_exist_are_refused(write, tmp_path):
    """A set that lost most of its pictures, evenly, is not taken for a small one."""
    columns = picture_columns(index=True)
    pictures = random_pictures(41)
    remaining = dict(list(pictures.items())[::3])
    first_missing = min(set(pictures) - set(remaining))
    write_index(write(tmp_path, remaining), pictures)
    message = f"index.csv lists 27 pictures that do not exist, first {first_missing}; run `make"
    with pytest.raises(DataError, match=message):
        image_rows.read(tmp_path, columns)
    assert len(image_rows.read(write(tmp_path, pictures), columns).pictures) == 41


# --- the facts that the expectations look at ----------------------------------------------------


def test_the_facts_of_each_picture(tmp_path):
    grey = picture_file(Image.fromarray(np.arange(7 * 19, dtype=np.uint8).reshape(7, 19)))
    jpeg = random_picture(3, 29, 23, "JPEG")
    pictures = {
        "exam/cats/1.png": grey,
        "learn/cats/2.jpg": jpeg,
        "learn/cats/3.jpg": jpeg,
        "learn/dogs/4.jpg": jpeg[:-99],
    }
    table = image_rows.table(image_rows.read(write_files(tmp_path, pictures), COLUMNS), COLUMNS)
    assert list(table) == COLUMNS.all
    assert table["width"].tolist()[:3] == [19, 29, 29]
    assert table["height"].tolist()[:3] == [7, 23, 23]
    assert table["channels"].tolist()[:3] == [1, 3, 3]
    assert table["decodable"].tolist() == [True, True, True, False]
    assert table["bytes"].tolist() == [len(raw) for raw in pictures.values()]
    assert table["sha256"].tolist() == [sha256(raw) for raw in pictures.values()]
    assert table["key"].tolist() == table["sha256"].tolist()
    assert table[["width", "height", "channels", "dhash"]].iloc[3].isna().all()


def dhash(image: Image.Image) -> str:
    rows = pd.DataFrame({"path": ["learn/cats/1.png"], "raw": [picture_file(image)]})
    raw = image_rows.Raw(rows.assign(animal="cats", test=False, key="k"), {}, {})
    return image_rows.table(raw, COLUMNS)["dhash"][0]


def test_the_fingerprint_marks_where_a_picture_gets_brighter_to_the_right():
    """Greys rise from left to right in the upper half and fall in the lower: 32 bits are set."""
    ramp = np.tile(np.linspace(0, 255, 72).round().astype(np.uint8), (64, 1))
    pixels = np.concatenate([ramp[:32], 255 - ramp[32:]])
    assert dhash(Image.fromarray(pixels)) == "ffffffff00000000"
    darker = Image.fromarray((pixels / 2).round().astype(np.uint8))
    assert dhash(darker.resize((144, 128))) == "ffffffff00000000"


@pytest.mark.parametrize("pairs_at_once", [1, 29, picture_facts.PAIRS_AT_ONCE])
def test_lookalikes_differ_in_3_bits_at_most(pairs_at_once, monkeypatch):
    """The same as comparing each pair by itself, in chunks of any size."""
    monkeypatch.setattr(picture_facts, "PAIRS_AT_ONCE", pairs_at_once)
    fingerprints = np.random.default_rng(5).integers(0, 2**64, 53, np.uint64).tolist()
    for bits in range(7):  # copies of the first seven, changed in so many bits
        fingerprints.append(fingerprints[bits] ^ ((1 << bits) - 1))
    expected = [0] * len(fingerprints)
    for i, j in itertools.combinations(range(len(fingerprints)), 2):
        if (fingerprints[i] ^ fingerprints[j]).bit_count() <= 3:
            expected[i] += 1
            expected[j] += 1
    assert sum(expected) == 8
    digits = [f"{fingerprint:016x}" for fingerprint in fingerprints]
    similar = picture_facts._similar_pictures(pd.Series([None, *digits, None]))
    assert similar.tolist() == [0, *expected, 0]
    for few in ([], [None], [None, None], digits[:1]):
        similar = picture_facts._similar_pictures(pd.Series(few, dtype=object))
        assert similar.tolist() == [0] * len(few)


def test_a_picture_that_does_not_decode_has_no_lookalike(tmp_path):
    jpeg = random_picture(3, 29, 23, "JPEG")
    pictures = {
        "learn/cats/1.jpg": jpeg,
        "learn/cats/2.png": picture_file(Image.open(io.BytesIO(jpeg))),
        "learn/dogs/3.jpg": jpeg[:-99],
        "learn/dogs/4.jpg": jpeg[:-99],
        "learn/dogs/5.png": random_picture(5),
    }
    table = image_rows.table(image_rows.read(write_files(tmp_path, pictures), COLUMNS), COLUMNS)
    assert table["lookalike"].tolist() == [True, True, False, False, False]
    assert table["lookalike"].dtype == bool


# --- decoding to squares ------------------------------------------------------------------------


def claiming_to_be_large() -> bytes:
    """A PNG file whose header says 20,000 x 10,000 pixels: encoding so many would take a second."""
    raw = picture_file(Image.new("L", (17, 13)))
    header = raw[12:16] + struct.pack(">II", 20_000, 10_000) + raw[24:29]
    return raw[:12] + header + struct.pack(">I", zlib.crc32(header)) + raw[33:]


RED = (200, 10, 20)
GREEN = (30, 180, 40)
BLUE = (50, 60, 220)


@pytest.mark.parametrize("tall", [False, True])
def test_the_aspect_ratio_is_kept_in_training_and_in_answers(tall, tmp_path):
    """Of three squares, side by side or stacked, the middle one is kept; nothing is squeezed."""
    blocks = [np.full((23, 23, 3), colour, np.uint8) for colour in (RED, GREEN, BLUE)]
    image = Image.fromarray(np.concatenate(blocks, axis=0 if tall else 1))
    raw = image_rows.read(write_files(tmp_path, {"learn/cats/1.png": picture_file(image)}), COLUMNS)
    prepared = image_rows.repair(raw, COLUMNS)["image"].iloc[0]
    encoder = Encoder(COLUMNS, ["cats"], [0.5] * 3, [0.5] * 3)
    inputs = encoder.check(pd.DataFrame({"image": raw.pictures["raw"]}))
    assert prepared.shape == (11, 11, 3)
    assert prepared.dtype == np.uint8
    assert np.array_equal(prepared, inputs["image"].iloc[0])
    # At the edges the interpolation mixes in the neighbours.
    assert np.abs(prepared[1:-1, 1:-1].astype(int) - GREEN).max() <= 4


def test_a_disc_stays_round():
    v, u = np.ogrid[:60, :97]
    disc = ((v - 29.5) ** 2 + (u - 48) ** 2 < 20**2).astype(np.uint8) * 255
    raw = picture_file(Image.fromarray(disc))
    square = image_rows.square(raw, picture_columns(size=30), "disc")
    is_disc = square[..., 0] > 127
    assert is_disc.any(0).sum() == is_disc.any(1).sum() == 20


def test_a_picture_is_turned_upright_by_its_exif_orientation():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (11, 11, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    square = image_rows.square(picture_file(image, "PNG", exif=exif), COLUMNS, "picture")
    assert np.array_equal(square, np.rot90(np.asarray(image), -1))


@cases.each("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_is_converted_to_the_channels_of_the_conf(mode):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (13, 13), np.uint8))
    if mode in ("P", "CMYK", "RGBA"):
        image = image.convert("RGB")  # Pillow converts to these from RGB only
    raw = picture_file(image.convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    assert image_rows.square(raw, COLUMNS, "picture").shape == (11, 11, 3)
    assert image_rows.square(raw, picture_columns(channels=1), "picture").shape == (11, 11, 1)


@cases.each(
    ("raw", "message"),
    [
        (
            random_picture(1, 1, 17),
            "learn/cats/1.png is 1 x 17 pixels; expected at least 5 on the short side; replace it",
        ),
        (random_picture(1, 17, 4), "learn/cats/1.png is 17 x 4 pixels; expected at least 5"),
        (
            b"",
            r"learn/cats/1.png cannot be decoded as a picture \(unknown format\); replace it, or",
        ),
        (b"\xff\xd8 not a JPEG", r"learn/cats/1.png cannot be decoded as a picture \("),
        (
            random_picture(1, 29, 23, "JPEG")[:-101],
            r"learn/cats/1.png cannot be decoded as a picture \(.*truncated",
        ),
        (
            claiming_to_be_large(),
            r"cannot be decoded as a picture \(.*(decompression bomb|the limit is 67,108,864)",
        ),
    ],
    ids=["narrow", "low", "empty", "damaged", "truncated", "bomb"],
)
def test_a_picture_that_cannot_be_used_is_refused_in_one_line(raw, message, tmp_path):
    pictures = random_pictures() | {"learn/cats/1.png": raw}
    rows = image_rows.read(write_files(tmp_path, pictures), COLUMNS)
    with pytest.raises(DataError, match=message) as caught:
        image_rows.repair(rows, COLUMNS)
    assert "\n" not in str(caught.value)


# --- parts --------------------------------------------------------------------------------------


def test_test_is_what_the_source_reserves_and_the_rest_is_split_by_key(tmp_path):
    parts = split_folder(write_files(tmp_path / "some", random_pictures(211)))
    image_rows.check_parts(parts, COLUMNS)
    reserved = {path for path in random_pictures(211) if path.startswith("exam/")}
    assert set(parts["test"]["path"]) == reserved
    assert 0.7 < len(parts["train"]) / (211 - len(reserved)) < 0.9
    assert [part for part, rows in parts.items() if "raw" in rows] == ["gate"]
    some = part_by_path(tmp_path / "some")
    more = part_by_path(write_files(tmp_path / "more", random_pictures(307)))
    assert some.items() <= more.items()


def test_a_picture_in_two_parts_is_refused(tmp_path):
    pictures = random_pictures(211)
    pictures["exam/cats/copy.png"] = pictures["learn/cats/1.png"]
    parts = split_folder(write_files(tmp_path, pictures))
    message = "learn/cats/1.png, for training, and exam/cats/copy.png, for testing, are the same"
    with pytest.raises(DataError, match=message):
        image_rows.check_parts(parts, COLUMNS)


def test_a_part_is_loaded_as_it_was_written(tmp_path):
    parts = split_folder(write_files(tmp_path / "raw", random_pictures(97)))
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    for part, rows in parts.items():
        image_rows.write(rows, tmp_path / "first" / part)
        image_rows.write(rows, tmp_path / "second" / part)
        loaded = image_rows.load(tmp_path / "first" / part)
        pd.testing.assert_frame_equal(
            loaded.drop(columns="image"), rows.drop(columns="image"), check_dtype=False
        )
        assert np.array_equal(stacked(loaded["image"]), stacked(rows["image"]))
        assert isinstance(np.load(tmp_path / f"first/{part}.npy", mmap_mode="r"), np.memmap)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_the_inputs_of_the_gate_are_the_files_themselves(tmp_path):
    """A champion that was trained on squares of another size scales them from the original."""
    pictures = random_pictures(97)
    parts = split_folder(write_files(tmp_path, pictures))
    gate = parts["gate"]
    image_rows.write(gate, tmp_path / "gate")
    image_rows.write_inputs(image_rows.load(tmp_path / "gate"), tmp_path / "inputs.parquet")
    inputs = pd.read_parquet(tmp_path / "inputs.parquet")
    assert list(inputs) == ["image"]
    assert len(inputs) > 3
    files = [base64.b64decode(text) for text in inputs["image"]]
    assert files == [pictures[path] for path in gate["path"]]
    encoder = Encoder.fit(parts["train"], COLUMNS)
    assert np.array_equal(stacked(encoder.check(inputs)["image"]), stacked(gate["image"]))


# --- tensors ------------------------------------------------------------------------------------


def plain_pictures(shades: Sequence[int]) -> pd.DataFrame:
    """Rows of plain pictures of 11 pixels: red of the shade, green of twice the shade, no blue."""
    images = [np.full((11, 11, 3), (shade, 2 * shade, 0), np.uint8) for shade in shades]
    labels = ["cats" if i % 2 else "dogs" for i in range(len(images))]
    paths = [str(i) for i in range(len(images))]
    return pd.DataFrame({"path": paths, "animal": labels, "image": pd.Series(images)})


def test_mean_and_standard_deviation_worked_by_hand():
    encoder = Encoder.fit(plain_pictures([51, 102]), COLUMNS)
    assert encoder.mean == [0.3, 0.6, 0.0]
    assert encoder.std == [0.1, 0.2, 1.0]
    assert encoder.classes == ["cats", "dogs"]
    restored = Encoder.from_state(encoder.state(), COLUMNS)
    assert restored.state() == encoder.state()
    assert restored.sizes == encoder.sizes
    assert encoder.sizes == {
        "channels": 3, "size": 11, "classes": 2, "mean": encoder.mean, "std": encoder.std,
    }  # fmt: skip


def test_a_batch_has_the_pixels_as_bytes(tmp_path):
    rows = split_folder(write_files(tmp_path, random_pictures(97)))["train"]
    encoder = Encoder.fit(rows, COLUMNS)
    batch = encoder.encode(rows)
    assert batch.image.shape == (len(rows), 3, 11, 11)
    assert batch.image.dtype == torch.uint8
    assert np.array_equal(batch.image[5].permute(1, 2, 0).numpy(), rows["image"].iloc[5])
    assert [encoder.classes[i] for i in batch.target] == rows["animal"].tolist()
    assert encoder.encode(rows.drop(columns="animal")).target.tolist() == [-1] * len(rows)


def test_flat_features_are_standardised_averages():
    """A plain picture of 11 pixels as 3 x 3 averages, each of which is the standardised shade."""
    encoder = Encoder.fit(plain_pictures([51, 102]), COLUMNS)
    flat = encoder.flat(plain_pictures([51, 102, 153]))
    assert flat.shape == (3, 27)
    assert flat.dtype == np.float64
    assert np.allclose(flat[:, :9], [[-1], [1], [3]], atol=1e-5)
    assert np.allclose(flat[:, 18:], 0, atol=1e-6)


# --- input rows ---------------------------------------------------------------------------------

ENCODER = Encoder(COLUMNS, ["cats", "dogs"], [0.5] * 3, [0.25] * 3)
FILE = random_picture(7)
BASE64 = base64.b64encode(FILE).decode()
BASE64_LINES = "\n".join(BASE64[i : i + 76] for i in range(0, len(BASE64), 76))
SQUARE = image_rows.square(FILE, COLUMNS, "picture")


@cases.each(
    "value",
    [BASE64, FILE, f"data:image/png;base64,{BASE64}", BASE64_LINES],
    ids=["base64", "bytes", "data URL", "lines"],
)
def test_the_forms_in_which_a_picture_may_be_given(value):
    inputs = ENCODER.check(pd.DataFrame({"image": [value]}))
    assert np.array_equal(inputs["image"].iloc[0], SQUARE)


def test_a_picture_may_be_given_by_its_path(tmp_path):
    (tmp_path / "picture.png").write_bytes(FILE)
    inputs = ENCODER.check(pd.DataFrame({"path": [f"{tmp_path}/picture.png"]}))
    assert np.array_equal(inputs["image"].iloc[0], SQUARE)


def test_prepared_rows_and_the_example_are_valid_inputs():
    rows = plain_pictures([10, 90])
    inputs = ENCODER.inputs(rows)
    assert list(inputs) == ["image"] == [name for name, _, _ in ENCODER.schema()]
    assert np.array_equal(stacked(ENCODER.check(inputs)["image"]), stacked(rows["image"]))
    assert np.array_equal(stacked(ENCODER.check(rows)["image"]), stacked(rows["image"]))
    assert len(ENCODER.check(ENCODER.example())) == 3


@cases.each(
    ("rows", "message"),
    [
        (
            {"image": [BASE64, "not base64!"]},
            "row 2: `image` is not base64; expected a picture's file in base64; correct the row",
        ),
        ({"image": [BASE64, None]}, "row 2: `image` is not base64"),
        ({"image": [BASE64, SQUARE.astype(float)]}, "row 2: `image` is not base64"),
        (
            {"image": [BASE64, ""]},
            r"row 2 cannot be decoded as a picture \(unknown format\); replace it",
        ),
        (
            {"image": [BASE64, base64.b64encode(random_picture(1, 1, 17)).decode()]},
            "row 2 is 1 x 17 pixels; expected at least 5",
        ),
        (
            {"path": ["a", "b"], "image": [BASE64, BASE64[:80]]},
            r"row 2 \(b\) cannot be decoded as a picture",
        ),
        (
            {"path": ["nowhere/1.png"]},
            r"row 1: nowhere/1.png cannot be read \(No such file or directory\); name a picture",
        ),
        (
            {"animal": ["cats"]},
            r"got animal; expected `image` \(a file in base64\) or `path` \(of a file\)",
        ),
        ({}, "got no column; expected `image`"),
        ({"image": []}, "no rows to answer; give at least one"),
    ],
)
def test_input_rows_that_cannot_be_answered_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        ENCODER.check(pd.DataFrame(rows))


def test_other_columns_are_passed_over():
    with pytest.warns(UserWarning, match="does not know are passed over: mood"):
        inputs = ENCODER.check(pd.DataFrame({"image": [BASE64], "mood": ["good"]}))
    assert list(inputs) == ["image"]


def a_folder(folder: Path) -> Path:
    return folder / "some"


def a_zip(folder: Path) -> Path:
    pictures = {"a.png": random_picture(1), "b.png": random_picture(2)}
    return write_zip(folder, pictures) / "pictures.zip"


def a_picture(folder: Path) -> Path:
    return folder / "some/b.png"


def a_csv_of_paths(folder: Path) -> Path:
    (folder / "rows.csv").write_text("path\nsome/b.png\nsome/a.png\n")
    return folder / "rows.csv"


def a_csv_of_windows(folder: Path) -> Path:
    (folder / "rows.csv").write_text("path\nsome\\b.png\nsome\\a.png\n", "utf-8-sig")
    return folder / "rows.csv"


def json_records(folder: Path) -> Path:
    names = ["some/b.png", "some/a.png"]
    texts = [base64.b64encode((folder / name).read_bytes()).decode() for name in names]
    rows = pd.DataFrame({"path": names, "image": texts})
    rows.to_json(folder / "rows.json", orient="records")
    return folder / "rows.json"


@cases.each(
    ("write", "names"),
    [
        (a_folder, ["a.png", "b.png"]),
        (a_zip, ["a.png", "b.png"]),
        (a_picture, ["b.png"]),
        (a_csv_of_paths, ["some/b.png", "some/a.png"]),
        (a_csv_of_windows, ["some\\b.png", "some\\a.png"]),
        (json_records, ["some/b.png", "some/a.png"]),
    ],
)
def test_input_rows_are_read_from_files(write, names, tmp_path):
    by_name = {"a.png": random_picture(1), "b.png": random_picture(2)}
    write_files(tmp_path / "some", by_name | {"note.txt": b"not a picture"})
    rows = image_rows.read_rows(write(tmp_path), COLUMNS)
    (name,) = Encoder.named_by
    assert rows[name].tolist() == names
    expected = []
    for name in names:
        raw = by_name[name[-5:]]
        expected.append(image_rows.square(raw, COLUMNS, name))
    assert np.array_equal(stacked(ENCODER.check(rows)["image"]), stacked(expected))


def test_input_files_that_do_not_exist_are_refused(tmp_path):
    message = "has no pictures; name a folder that has some"
    with pytest.raises(DataError, match=message):
        image_rows.read_rows(tmp_path, COLUMNS)
    with pytest.raises(DataError, match="nowhere.csv does not exist; name a file of rows"):
        image_rows.read_rows(tmp_path / "nowhere.csv", COLUMNS)
    (tmp_path / "rows.csv").write_text("path\nlost.png\n")
    message = r"rows.csv line 2: .*lost.png cannot be read \(No such file or directory\)"
    with pytest.raises(DataError, match=message):
        image_rows.read_rows(tmp_path / "rows.csv", COLUMNS)


# --- IDX files ----------------------------------------------------------------------------------

DIGITS = picture_columns(
    files={
        "format": "idx",
        "train": [{"images": "a.gz", "labels": "a-labels.gz"}],
        "test": [{"images": "b", "labels": "b-labels"}],
    },
    target="digit",
    channels=1,
)
DIGITS_TWIN = Twin(
    archive=None,
    seed=3,
    each={"a.gz": 23, "b": 7},
    looks={
        "0": Look(prefix="", ears="none", stripes=0.0),
        "1": Look(prefix="", ears="pointed", stripes=30.0),
        "2": Look(prefix="", ears="drooping", stripes=60.0),
    },
    short_side=11,
    long_side=11,
    contrast=[0.1, 0.3],
    noise=0.1,
    mislabelled=0.0,
    copies={},
)


def idx_file(values: object) -> bytes:
    """An IDX file of bytes."""
    array = np.asarray(values, np.uint8)
    header = bytes([0, 0, 8, array.ndim])
    for length in array.shape:
        header += length.to_bytes(4, "big")
    return header + array.tobytes()


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder with the IDX files of DIGITS."""
    write_twin(DIGITS_TWIN, DIGITS, tmp_path)
    return tmp_path


def test_signs_of_strokes_differ_by_class_and_lie_at_no_fixed_place(tmp_path):
    looks = {"0": Look(segments="abcdef"), "1": Look(segments="bc"), "2": Look(segments="abdeg")}
    twin = DIGITS_TWIN.model_copy(
        update={"looks": looks, "short_side": 28, "noise": 0.0, "contrast": [0.5, 1.0]}
    )
    write_twin(twin, DIGITS, tmp_path)
    rows = image_rows.read(tmp_path, DIGITS).pictures
    pixels = stacked(rows["raw"]) / 255
    is_white = pixels > 0.25
    area = pd.Series(is_white.mean((1, 2))).groupby(rows["digit"]).mean()
    assert area["1"] < 0.7 * area["2"] < 0.7 * area["0"] < 0.2
    brightest = pixels.max((1, 2))
    assert brightest.min() > 0.3 and brightest.std() > 0.05
    for _, of_digit in rows.groupby("digit"):
        share = is_white[of_digit.index].mean(0)
        assert share.max() < 0.8


def test_idx_files_written_by_hand_are_read(digits):
    pixels = np.arange(2 * 5 * 7, dtype=np.uint8).reshape(2, 5, 7)
    header = bytes.fromhex("00000803 00000002 00000005 00000007")
    (digits / "b").write_bytes(header + pixels.tobytes())
    (digits / "b-labels").write_bytes(bytes.fromhex("00000801 00000002 02 00"))
    rows = image_rows.read(digits, DIGITS).pictures.query("test")
    assert rows["digit"].tolist() == ["2", "0"]
    assert rows["path"].tolist() == ["b/0", "b/1"]
    assert np.array_equal(stacked(rows["raw"]), pixels)


def test_idx_pictures_are_prepared_encoded_and_given_as_input(digits, tmp_path):
    raw = image_rows.read(digits, DIGITS)
    assert raw.pictures["digit"].value_counts().to_dict() == {"0": 30, "1": 30, "2": 30}
    assert raw.pictures["test"].sum() == 21
    facts = image_rows.table(raw, DIGITS)
    assert (facts["width"] == 11).all()
    assert (facts["channels"] == 1).all()
    assert facts["decodable"].all()
    parts = image_rows.split(image_rows.repair(raw, DIGITS), DIGITS, SPLIT)
    image_rows.write(parts["gate"], tmp_path / "gate")
    gate = image_rows.load(tmp_path / "gate")
    encoder = Encoder.fit(parts["train"], DIGITS)
    assert encoder.encode(gate).image.shape == (len(gate), 1, 11, 11)
    assert encoder.classes == ["0", "1", "2"]
    image_rows.write_inputs(gate, tmp_path / "inputs.parquet")
    inputs = encoder.check(pd.read_parquet(tmp_path / "inputs.parquet"))
    assert np.array_equal(stacked(inputs["image"]), stacked(gate["image"]))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "a.gz",
            gzip.compress(idx_file(np.zeros((3, 5, 7))), mtime=0)[:-9],
            r"a.gz is not a complete gzip file \(.+\); pull it again, or correct",
        ),
        (
            "a.gz",
            b"",
            "a.gz begins with nothing; expected an IDX file of bytes, 00000803 or 00000804; pull",
        ),
        (
            "b",
            idx_file(np.zeros((3, 5, 7)))[:-1],
            "b has 104 bytes of pixels or labels; expected 3 x 5 x 7; pull it again",
        ),
        (
            "b",
            idx_file([1, 2]),
            "b begins with 00000801; expected an IDX file of bytes, 00000803 or 00000804",
        ),
        (
            "b-labels",
            idx_file([1, 2]),
            "b has 21 pictures, but b-labels has 2 labels; expected one label a picture",
        ),
        ("b-labels", None, "b-labels does not exist; pull it again"),
    ],
)
def test_damaged_idx_files_are_refused(file, content, message, digits):
    (digits / file).unlink()
    if content is not None:
        (digits / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        image_rows.read(digits, DIGITS)


# --- cats_dogs: its twin, its index, and the real pictures --------------------------------------

CONF = load_yaml((ROOT / "conf/dataset/cats_dogs.yaml").read_text(encoding="utf-8"))
SUITE = load_yaml((ROOT / "conf/expectations/cats_dogs.yaml").read_text(encoding="utf-8"))
PETS = Columns.model_validate(CONF["columns"])


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> image_rows.Raw:
    return image_rows.read(twins.raw("cats_dogs", tmp_path_factory), PETS)


@pytest.fixture(scope="module")
def facts(twin: image_rows.Raw) -> pd.DataFrame:
    """What the expectations look at; tests share it and must not change it."""
    return image_rows.table(twin, PETS)


@pytest.fixture(scope="module")
def repaired(twin: image_rows.Raw) -> pd.DataFrame:
    """The pictures as squares; tests share them and must not change them."""
    return image_rows.repair(twin, PETS)


@pytest.mark.slow
def test_the_twin_has_the_layout_and_the_quirks_of_the_real_set(facts):
    assert facts.groupby(["test", "animal"]).size().to_dict() == {
        (False, "cats"): 600, (False, "dogs"): 600, (True, "cats"): 100, (True, "dogs"): 100,
    }  # fmt: skip
    assert (facts[["width", "height"]].min(axis=1) == 128).all()
    assert facts["channels"].eq(3).all()
    assert facts[facts["sha256"].duplicated(keep=False)]["path"].tolist() == [
        "training_set/dogs/dog.202.jpg", "training_set/dogs/dog.308.jpg",
    ]  # fmt: skip
    assert facts["key"].equals(facts["sha256"])


@pytest.mark.slow
def test_the_twin_gives_usable_parts(repaired):
    split = HashSplit.model_validate(CONF["split"])
    parts = image_rows.split(repaired, PETS, split)
    image_rows.check_parts(parts, PETS)
    sizes = {part: len(rows) for part, rows in parts.items()}
    assert sum(sizes.values()) == 1400
    assert sizes["test"] == 200
    assert 900 < sizes["train"] < 1020
    profile = image_rows.profile(parts, PETS)
    assert profile["classes"] == ["cats", "dogs"]
    assert sum(profile["columns"]["animal"].values()) == sizes["train"]


@pytest.mark.slow
def test_the_suite_warns_of_the_duplicate_picture_and_of_nothing_else(facts):
    from sextant import validate

    failed = []
    for result in validate.validate(facts, SUITE):
        if not result["success"]:
            failed.append((result["kwargs"]["column"], result["severity"]))
    assert failed == [("sha256", "warning"), ("lookalike", "warning")]


def set_in_row_3(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda facts: facts.assign(**{column: facts[column].where(facts.index != 3, value)})


DAMAGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "far too few": lambda facts: facts.head(500),
    "one class": lambda facts: facts[facts["animal"] == "cats"],
    "a third class": set_in_row_3("animal", "birds"),
    "a class without test pictures": lambda facts: facts[
        ~facts["test"] | (facts["animal"] == "cats")
    ],
    "wrong labels": lambda facts: facts.assign(
        animal=facts["animal"].where(facts.index % 3 == 0, "cats")
    ),
    "not decodable": set_in_row_3("decodable", False),
    "of one colour": lambda facts: facts.assign(plain=facts.index % 5 == 0),
    "nearly all alike": lambda facts: facts.assign(alike=facts["alike"] + 0.7),
    "one pixel wide": set_in_row_3("width", 1),
    "one pixel high": set_in_row_3("height", 1),
    "not in the index": set_in_row_3("key", None),
    "duplicate path": lambda facts: set_in_row_3("path", facts["path"].iloc[4])(facts),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_suite_refuses_damaged_pictures(damage, facts):
    from sextant import validate

    results = validate.validate(DAMAGES[damage](facts), SUITE)
    severities = [result["severity"] for result in results if not result["success"]]
    assert "critical" in severities


@pytest.mark.slow
def test_single_pixels_do_not_determine_the_twins_classes(repaired):
    parts = image_rows.split(repaired, PETS, SPLIT)
    encoder = Encoder.fit(parts["train"], PETS)
    fit = plugins.task("classification").baselines("images")["logistic_regression"]
    answers = fit(parts["train"], PETS, encoder)(parts["test"])
    assert (answers["prediction"] == parts["test"]["animal"]).mean() < 0.65


def test_the_committed_index_is_that_of_the_mirror():
    """Both sources identify the same 10,000 pictures by the same keys."""
    index = pd.read_csv(ROOT / "facts/cats_dogs_index.csv")
    assert len(index) == index["path"].nunique() == 10_000
    pattern = r"(training_set|test_set)/(cats/cat|dogs/dog)\.\d+\.jpg"
    assert index["path"].str.fullmatch(pattern).all()
    duplicates = index[index["original_sha256"].duplicated(keep=False)]["path"].tolist()
    assert duplicates == ["training_set/dogs/dog.2027.jpg", "training_set/dogs/dog.3082.jpg"]
    if MIRROR:
        mirrored = pd.read_csv(Path(MIRROR, "cats_dogs/cats_dogs_index.csv"))
        pd.testing.assert_frame_equal(index, mirrored[list(index)])
        short_side = mirrored[["original_width", "original_height"]].min(axis=1)
        assert short_side.min() == 33
        assert (short_side < 64).sum() == 16
        assert (short_side < 128).sum() == 198


def groups_of_equal(facts: pd.DataFrame, column: str) -> list[list[str]]:
    """The names of the pictures that share a value."""
    duplicates = facts[facts[column].duplicated(keep=False)]
    groups = []
    for _, rows in duplicates.groupby(column):
        groups.append(sorted(Path(path).stem for path in rows["path"]))
    return sorted(groups)


@pytest.mark.slow
@pytest.mark.skipif(MIRROR is None, reason="needs the real pictures under SEXTANT_MIRROR")
def test_the_real_pictures_are_as_described():
    raw = image_rows.read(Path(str(MIRROR), "cats_dogs"), PETS)
    facts = image_rows.table(raw, PETS)
    assert facts.groupby(["test", "animal"]).size().tolist() == [4000, 4000, 1000, 1000]
    assert facts["decodable"].all()
    assert (facts["channels"] == 3).all()
    assert (facts[["width", "height"]].min(axis=1) == 128).all()
    assert facts[["width", "height"]].max().max() == 756
    assert groups_of_equal(facts, "sha256") == [["dog.2027", "dog.3082"]]
    assert groups_of_equal(facts, "key") == [["dog.2027", "dog.3082"]]
    lookalikes = [
        ("cat.2565", "cat.3565"), ("cat.2580", "cat.4726"), ("cat.3411", "cat.4435"),
        ("cat.4126", "cat.4575"), ("dog.2027", "dog.3082"), ("dog.74", "dog.180"),
        ("dog.980", "dog.1273"),
    ]  # fmt: skip
    facts.index = pd.Index([Path(path).stem for path in facts["path"]])
    assert sorted(facts.index[facts["lookalike"]]) == sorted(itertools.chain(*lookalikes))
    for first, second in lookalikes:
        different_bits = int(facts["dhash"][first], 16) ^ int(facts["dhash"][second], 16)
        assert different_bits.bit_count() <= picture_facts.MAX_DIFFERENT_BITS


@pytest.mark.slow
@pytest.mark.skipif(MIRROR is None, reason="needs the real digits under SEXTANT_MIRROR")
def test_the_real_digits_are_as_described():
    files = {
        "format": "idx",
        "train": [{"images": "train-images-idx3-ubyte.gz", "labels": "train-labels-idx1-ubyte.gz"}],
        "test": [{"images": "t10k-images-idx3-ubyte.gz", "labels": "t10k-labels-idx1-ubyte.gz"}],
    }
    columns = picture_columns(files=files, target="digit", channels=1, size=28)
    rows = image_rows.repair(image_rows.read(Path(str(MIRROR), "mnist"), columns), columns)
    train = rows[~rows["test"]]
    assert train["digit"].value_counts().sort_index().tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert rows["test"].sum() == 10_000
    encoder = Encoder.fit(train, columns)
    assert encoder.mean == [pytest.approx(0.1307, abs=5e-5)]
    assert encoder.std == [pytest.approx(0.3081, abs=5e-5)]
    image_rows.check_parts(image_rows.split(rows, columns, SPLIT), columns)


@pytest.mark.parametrize("missing", ["files", "target"])
def test_a_conf_without_a_key_is_refused(missing):
    block = {key: value for key, value in CONF["columns"].items() if key != missing}
    with pytest.raises(UsageError, match=f"conf: key `{missing}` is missing; add it"):
        check(Columns, block, "conf")
