"""Pictures: found in folders, zips and IDX files, decoded to squares, split, encoded, asked with."""

import base64
import gzip
import hashlib
import io
import itertools
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import twins
import yaml
from PIL import Image

from sextant import plugins
from sextant.errors import DataError
from sextant.kinds.images import rows as image_rows
from sextant.kinds.images.columns import Columns
from sextant.kinds.images.encoder import Encoder
from sextant.kinds.images.twin import Twin, write_twin
from sextant.kinds.splits import HashSplit, Shares

ROOT = Path(__file__).parents[2]
MIRROR = os.environ.get(
    "SEXTANT_MIRROR"
)  # read here: conftest.py hides the environment from the tests
SPLIT = HashSplit(by="hash", salt=0, shares=Shares(train=0.8, val=0.1, gate=0.1, test=0.0))
RED, GREEN, BLUE = (200, 10, 20), (30, 180, 40), (50, 60, 220)


def columns(index: bool = False, **change: Any) -> Columns:
    files = {
        "format": "folders", "train": ["learn"], "test": ["exam"],
        "index": {"file": "index.csv", "key": "original"} if index else None,
    }  # fmt: skip
    return Columns(
        **{"files": files, "target": "animal", "channels": 3, "size": 11, "flat": 3, "smallest": 5}
        | change
    )


COLUMNS = columns()


def encoded(image: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **how)
    return file.getvalue()


def picture(seed: int, width: int = 17, height: int = 13, form: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return encoded(Image.fromarray(pixels), form)


def herd(rows: int = 41) -> dict[str, bytes]:
    """Pictures by path: cats and dogs to learn from and for an exam."""
    places = [("exam" if i % 5 == 0 else "learn", "cats" if i % 2 else "dogs") for i in range(rows)]
    return {f"{place}/{label}/{i}.png": picture(i) for i, (place, label) in enumerate(places)}


def zipped(folder: Path, pictures: dict[str, bytes], name: str = "pictures.zip") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, raw in pictures.items():
            archive.writestr(path, raw)
    return folder


def loose(folder: Path, pictures: dict[str, bytes]) -> Path:
    for path, raw in pictures.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)
    return folder


def parts(folder: Path, layout: Columns = COLUMNS) -> dict[str, pd.DataFrame]:
    return image_rows.split(
        image_rows.repair(image_rows.read(folder, layout), layout), layout, SPLIT
    )


def sides(folder: Path, layout: Columns) -> dict[str, str]:
    """The part of each picture by its path."""
    return {path: part for part, rows in parts(folder, layout).items() for path in rows["path"]}


# --- where the pictures lie -------------------------------------------------------------------------------------------


def test_loose_or_zipped_the_pictures_are_the_same(tmp_path):
    one = image_rows.read(zipped(tmp_path / "zip", herd()), COLUMNS)
    other = image_rows.read(loose(tmp_path / "loose", herd()), COLUMNS)
    pd.testing.assert_frame_equal(one, other)
    assert one["path"].tolist() == sorted(herd()) and one["raw"].tolist() == [
        herd()[path] for path in sorted(herd())
    ]
    assert one["animal"].tolist() == [path.split("/")[1] for path in one["path"]]
    assert one["test"].tolist() == [path.startswith("exam/") for path in one["path"]]


def test_hidden_files_are_no_pictures(tmp_path):
    litter = [
        "__MACOSX/learn/cats/._1.png",
        "learn/cats/.DS_Store",
        "learn/dogs/_DS_Store",
        "learn/dogs/Thumbs.db",
        "LICENSE",
    ]
    folder = zipped(tmp_path, herd() | dict.fromkeys(litter, b"litter"))
    (folder / "source.json").write_text("{}")
    assert image_rows.read(folder, COLUMNS)["path"].tolist() == sorted(herd())


def test_classes_may_lie_at_the_top(tmp_path):
    layout = columns(files={"format": "folders", "train": ["."], "test": [], "index": None})
    rows = image_rows.read(
        loose(tmp_path, {"cats/1.png": picture(1), "dogs/2.png": picture(2)}), layout
    )
    assert rows["animal"].tolist() == ["cats", "dogs"] and not rows["test"].any()


def test_both_sources_split_alike(tmp_path):
    """The originals one by one, and a zip of them made smaller: other bytes, the same keys, the same parts."""
    originals = herd(211)
    keys = [f"{path},{hashlib.sha256(raw).hexdigest()}" for path, raw in originals.items()]
    layout, index = columns(index=True), "\n".join(["path,original", *keys])
    smaller = {
        path: encoded(Image.open(io.BytesIO(raw)).resize((13, 9)), "JPEG")
        for path, raw in originals.items()
    }
    for folder in (loose(tmp_path / "originals", originals), zipped(tmp_path / "mirror", smaller)):
        (folder / "index.csv").write_text(index)
    one, other = (sides(tmp_path / name, layout) for name in ("originals", "mirror"))
    assert (
        one == other == sides(loose(tmp_path / "plain", originals), COLUMNS)
    )  # a key is the original's own digest
    assert len(set(one.values())) == 4


@pytest.mark.parametrize(
    "name", ["../out.png", "learn/../../out.png", "/learn/cats/out.png", "learn\\..\\..\\out.png"]
)
def test_a_path_that_climbs_out_is_refused(name, tmp_path):
    with pytest.raises(
        DataError,
        match=r"pictures.zip contains .*out.png', a path outside its folder; pull it again",
    ):
        image_rows.read(zipped(tmp_path, herd() | {name: picture(1)}), COLUMNS)
    assert not list(tmp_path.parent.rglob("out.png"))


@pytest.mark.parametrize("left", [0, 100, 0.5, 0.9, -7])
def test_a_truncated_zip_is_refused(left, tmp_path):
    path = zipped(tmp_path, herd()) / "pictures.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * left) if isinstance(left, float) else left])
    with pytest.raises(
        DataError,
        match=r"pictures.zip is not a complete zip file \(.+\); pull it again, or recreate it",
    ):
        image_rows.read(tmp_path, COLUMNS)


def test_a_damaged_byte_in_a_zip_is_found(tmp_path):
    path = zipped(tmp_path, herd()) / "pictures.zip"
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"IDAT") + 9] ^= 1
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match="not a complete zip file .Bad CRC-32"):
        image_rows.read(tmp_path, COLUMNS)


@pytest.mark.parametrize("pack", [zipped, loose])
def test_a_class_without_pictures_is_refused(pack, tmp_path):
    if pack is zipped:
        zipped(tmp_path, herd() | {"learn/birds/": b""})
    else:
        (loose(tmp_path, herd()) / "learn/birds").mkdir()
    with pytest.raises(
        DataError, match="class birds of learn has no pictures; add some, or remove its folder"
    ):
        image_rows.read(tmp_path, COLUMNS)


def test_a_part_without_a_class_is_refused(tmp_path):
    found = parts(
        loose(
            tmp_path,
            {path: raw for path, raw in herd(211).items() if not path.startswith("exam/cats")},
        )
    )
    with pytest.raises(
        DataError, match=r"part test \(22 rows\) has no row of class cats of `animal`"
    ):
        image_rows.check_parts(found, COLUMNS)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ({}, "has no pictures in the folders of `columns.files`; run `make pull`, or correct"),
        (
            {"learn/1.png": b""},
            "learn/1.png is outside learn/<class>/, exam/<class>/; move it there",
        ),
        (
            herd() | {"more/cats/1.jpg": b""},
            "more/cats/1.jpg is outside learn/<class>/, exam/<class>/; move it there",
        ),
    ],
)
def test_pictures_that_lie_elsewhere_are_refused(pictures, message, tmp_path):
    with pytest.raises(DataError, match=message):
        image_rows.read(loose(tmp_path, pictures), COLUMNS)


def test_the_index_knows_every_picture(tmp_path):
    layout, folder = columns(index=True), loose(tmp_path, herd(7))
    with pytest.raises(
        DataError, match="index.csv, the index of the pictures, does not exist; run `make pull`"
    ):
        image_rows.read(folder, layout)
    (folder / "index.csv").write_text("path,digest\n")
    with pytest.raises(DataError, match="index.csv lacks column original; found path, digest"):
        image_rows.read(folder, layout)
    (folder / "index.csv").write_text("path,original\nlearn/cats/1.png,abc\nlearn/dogs/2.png,\n")
    raw = image_rows.read(folder, layout)
    assert image_rows.table(raw, layout)["key"].notna().sum() == 1
    with pytest.raises(
        DataError, match="6 pictures, first exam/cats/5.png, are not in the index; add them"
    ):
        image_rows.repair(raw, layout)


def test_a_picture_that_the_index_names_is_there(tmp_path):
    """So that a set that lost most of its pictures, evenly, is not taken for a small one."""
    layout, pictures = columns(index=True), herd(41)
    lines = [f"{path},{hashlib.sha256(raw).hexdigest()}" for path, raw in pictures.items()]
    for i, pack in enumerate((loose, zipped)):
        left = dict(list(pictures.items())[::3])
        first = min(set(pictures) - set(left))
        folder = pack(tmp_path / str(i), left)
        (folder / "index.csv").write_text("\n".join(["path,original", *lines]))
        with pytest.raises(
            DataError,
            match=f"index.csv lists 27 pictures that do not exist, first {first}; run `make pull`",
        ):
            image_rows.read(folder, layout)
        assert len(image_rows.read(pack(folder, pictures), layout)) == 41


# --- what is known of a picture ---------------------------------------------------------------------------------------


def test_the_facts_of_each_picture(tmp_path):
    grey = encoded(Image.fromarray(np.arange(7 * 19, dtype=np.uint8).reshape(7, 19)))
    jpeg = picture(3, 29, 23, "JPEG")
    pictures = {
        "exam/cats/1.png": grey,
        "learn/cats/2.jpg": jpeg,
        "learn/cats/3.jpg": jpeg,
        "learn/dogs/4.jpg": jpeg[:-99],
    }
    table = image_rows.table(image_rows.read(loose(tmp_path, pictures), COLUMNS), COLUMNS)
    assert list(table) == COLUMNS.all
    assert table["width"].tolist()[:3] == [19, 29, 29] and table["height"].tolist()[:3] == [
        7,
        23,
        23,
    ]
    assert table["channels"].tolist()[:3] == [1, 3, 3] and table["decodable"].tolist() == [
        True,
        True,
        True,
        False,
    ]
    assert table["bytes"].tolist() == [len(raw) for raw in pictures.values()]
    assert (
        table["sha256"].tolist()
        == table["key"].tolist()
        == [hashlib.sha256(raw).hexdigest() for raw in pictures.values()]
    )
    assert table[["width", "height", "channels", "dhash"]].iloc[3].isna().all()


def test_the_fingerprint_tells_where_it_grows_brighter():
    """Greys rise from left to right in the upper half and fall in the lower: 32 bits set, 32 not."""
    ramp = np.tile(np.linspace(0, 255, 72).round().astype(np.uint8), (64, 1))
    image = np.concatenate([ramp[:32], 255 - ramp[32:]])
    assert image_rows._facts(encoded(Image.fromarray(image)))["dhash"] == "ffffffff00000000"
    darker = encoded(
        Image.fromarray((image / 2).round().astype(np.uint8)).resize((144, 128)), "PNG"
    )
    assert image_rows._facts(darker)["dhash"] == "ffffffff00000000"


@pytest.mark.parametrize("at_once", [1, 29, image_rows.PAIRS_AT_ONCE])
def test_what_looks_alike_differs_in_a_few_bits_at_most(at_once, monkeypatch):
    """Every pair compared by itself, whatever share of them is looked at together."""
    monkeypatch.setattr(image_rows, "PAIRS_AT_ONCE", at_once)
    rng = np.random.default_rng(5)
    own = rng.integers(0, 2**64, 53, np.uint64)
    changed = [own[i] ^ np.uint64((1 << i) - 1) for i in range(7)]  # in i bits
    known = [f"{one:016x}" for one in [*own, *changed]]
    expected = [False] * len(known)
    for (i, one), (j, other) in itertools.combinations(enumerate(known), 2):
        if (int(one, 16) ^ int(other, 16)).bit_count() <= 3:
            expected[i] = expected[j] = True
    assert image_rows._has_lookalike(pd.Series([None, *known, None])).tolist() == [
        False,
        *expected,
        False,
    ]
    assert sum(expected) == 8
    for nothing in ([], [None], [None, None], known[:1]):
        assert image_rows._has_lookalike(pd.Series(nothing, dtype=object)).tolist() == [
            False
        ] * len(nothing)


def test_a_picture_that_does_not_decode_looks_like_none(tmp_path):
    jpeg = picture(3, 29, 23, "JPEG")
    pictures = {"learn/cats/1.jpg": jpeg, "learn/cats/2.png": encoded(Image.open(io.BytesIO(jpeg)))}
    broken = {
        "learn/dogs/3.jpg": jpeg[:-99],
        "learn/dogs/4.jpg": jpeg[:-99],
        "learn/dogs/5.png": picture(5),
    }
    table = image_rows.table(image_rows.read(loose(tmp_path, pictures | broken), COLUMNS), COLUMNS)
    assert (
        table["lookalike"].tolist() == [True, True, False, False, False]
        and table["lookalike"].dtype == bool
    )


@pytest.mark.parametrize("tall", [False, True])
def test_the_aspect_is_kept_the_same_in_training_and_in_answers(tall, tmp_path):
    """Three squares side by side or stacked: what is left is the middle one, not a squeezed all."""
    blocks = [np.full((23, 23, 3), colour, np.uint8) for colour in (RED, GREEN, BLUE)]
    image = Image.fromarray(np.concatenate(blocks, 0 if tall else 1))
    raw = image_rows.read(loose(tmp_path, {"learn/cats/1.png": encoded(image)}), COLUMNS)
    trained = image_rows.repair(raw, COLUMNS)["image"].iloc[0]
    asked = Encoder(COLUMNS, ["cats"], [0.5] * 3, [0.5] * 3).check(
        pd.DataFrame({"image": [raw["raw"].iloc[0]]})
    )
    assert trained.shape == (11, 11, 3) and trained.dtype == np.uint8
    assert np.array_equal(trained, asked["image"].iloc[0])
    assert (
        np.abs(trained[1:-1, 1:-1].astype(int) - GREEN).max() <= 4
    )  # but for what the scaling mixes at the rim


def test_a_round_thing_stays_round():
    v, u = np.ogrid[:60, :97]
    disc = ((v - 29.5) ** 2 + (u - 48) ** 2 < 20**2).astype(np.uint8) * 255
    square = (
        image_rows.square(encoded(Image.fromarray(disc)), columns(size=30), "disc")[..., 0] > 127
    )
    assert square.any(0).sum() == square.any(1).sum() == 20


def test_a_picture_is_turned_upright():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (11, 11, 3), np.uint8))
    orientation = Image.Exif()
    orientation[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = image_rows.square(encoded(image, "PNG", exif=orientation), COLUMNS, "it")
    assert np.array_equal(turned, np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_the_channels_of_the_conf(mode):
    form = "TIFF" if mode == "CMYK" else "PNG"
    grey = Image.fromarray(np.random.default_rng(1).integers(0, 256, (13, 13), np.uint8))
    raw = encoded(
        grey.convert("RGB").convert(mode) if mode in ("P", "CMYK", "RGBA") else grey.convert(mode),
        form,
    )
    assert image_rows.square(raw, COLUMNS, "it").shape == (11, 11, 3)
    assert image_rows.square(raw, columns(channels=1), "it").shape == (11, 11, 1)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            picture(1, 1, 17),
            "learn/cats/1.png is 1 x 17 pixels; expected at least 5 on the short side; replace it",
        ),
        (picture(1, 17, 4), "learn/cats/1.png is 17 x 4 pixels; expected at least 5"),
        (
            b"",
            r"learn/cats/1.png cannot be decoded as a picture \(unknown format\); replace it, or remove it",
        ),
        (b"\xff\xd8 not really", r"learn/cats/1.png cannot be decoded as a picture \("),
        (
            picture(1, 29, 23, "JPEG")[:-101],
            r"learn/cats/1.png cannot be decoded as a picture \(.*truncated",
        ),
        (
            encoded(Image.new("L", (20_000, 10_000))),
            r"cannot be decoded as a picture \(.*decompression bomb",
        ),
    ],
    ids=["narrow", "low", "empty", "damaged", "truncated", "bomb"],
)
def test_a_picture_that_shows_nothing_is_refused(raw, message, tmp_path):
    rows = image_rows.read(loose(tmp_path, herd() | {"learn/cats/1.png": raw}), COLUMNS)
    with pytest.raises(DataError, match=message) as caught:
        image_rows.repair(rows, COLUMNS)
    assert "\n" not in str(caught.value)


# --- parts ------------------------------------------------------------------------------------------------------------


def test_the_sources_test_part_is_the_test_part_and_the_rest_goes_by_key(tmp_path):
    found = parts(loose(tmp_path / "some", herd(211)))
    image_rows.check_parts(found, COLUMNS)
    assert set(found["test"]["path"]) == {path for path in herd(211) if path.startswith("exam/")}
    assert 0.7 < len(found["train"]) / (211 - len(found["test"])) < 0.9
    assert [name for name, rows in found.items() if "raw" in rows] == ["gate"]
    some, more = (
        sides(tmp_path / "some", COLUMNS),
        sides(loose(tmp_path / "more", herd(307)), COLUMNS),
    )
    assert all(more[path] == part for path, part in some.items())


def test_one_picture_on_two_sides_is_refused(tmp_path):
    found = parts(
        loose(tmp_path, herd(211) | {"exam/cats/copy.png": herd(211)["learn/cats/1.png"]})
    )
    with pytest.raises(
        DataError,
        match=r"key [0-9a-f]{64} is in the parts \w+ and test; expected each key in one part only",
    ):
        image_rows.check_parts(found, COLUMNS)


def test_a_part_comes_back_as_it_was_written(tmp_path):
    found = parts(loose(tmp_path / "raw", herd(97)))
    for name, rows in found.items():
        for place in ("one", "two"):
            (tmp_path / place).mkdir(exist_ok=True)
            image_rows.write(rows, tmp_path / place / name)
        back = image_rows.load(tmp_path / "one" / name)
        pd.testing.assert_frame_equal(
            back.drop(columns="image"), rows.drop(columns="image"), check_dtype=False
        )
        assert np.array_equal(np.stack(back["image"].tolist()), np.stack(rows["image"].tolist()))
        assert isinstance(np.load(tmp_path / "one" / f"{name}.npy", mmap_mode="r"), np.memmap)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_the_gate_asks_with_the_files_themselves(tmp_path):
    """So that a champion of another size answers what it would have been asked with."""
    found = parts(loose(tmp_path, herd(97)))
    image_rows.write(found["gate"], tmp_path / "gate")
    image_rows.write_inputs(image_rows.load(tmp_path / "gate"), tmp_path / "asked.parquet")
    asked = pd.read_parquet(tmp_path / "asked.parquet")
    assert list(asked) == ["image"] and len(asked) > 3
    assert [base64.b64decode(text) for text in asked["image"]] == [
        herd(97)[path] for path in found["gate"]["path"]
    ]
    encoder = Encoder.fit(found["train"], COLUMNS)
    answered = np.stack(encoder.check(asked)["image"].tolist())
    assert np.array_equal(answered, np.stack(found["gate"]["image"].tolist()))


# --- tensors ----------------------------------------------------------------------------------------------------------


def frame(shades: Iterable[int], side: int = 11) -> pd.DataFrame:
    """Rows of plain pictures, red of the shade, green of twice and blue of none."""
    plain = [np.full((side, side, 3), (shade, 2 * shade, 0), np.uint8) for shade in shades]
    labels = ["cats" if i % 2 else "dogs" for i in range(len(plain))]
    return pd.DataFrame(
        {"path": map(str, range(len(plain))), "animal": labels, "image": pd.Series(plain)}
    )


def test_mean_and_spread_by_hand():
    encoder = Encoder.fit(frame([51, 102]), COLUMNS)
    assert (
        encoder.mean == [0.3, 0.6, 0.0]
        and encoder.std == [0.1, 0.2, 1.0]
        and encoder.classes == ["cats", "dogs"]
    )
    again = Encoder.from_state(encoder.state(), COLUMNS)
    assert again.state() == encoder.state() and again.sizes == encoder.sizes
    assert encoder.sizes == {
        "channels": 3,
        "size": 11,
        "classes": 2,
        "mean": encoder.mean,
        "std": encoder.std,
    }


def test_a_batch_holds_the_bytes(tmp_path):
    rows = parts(loose(tmp_path, herd(97)))["train"]
    encoder = Encoder.fit(rows, COLUMNS)
    batch = encoder.encode(rows)
    assert batch.image.shape == (len(rows), 3, 11, 11) and batch.image.dtype == torch.uint8
    assert np.array_equal(batch.image[5].permute(1, 2, 0).numpy(), rows["image"].iloc[5])
    assert [encoder.classes[i] for i in batch.target] == rows["animal"].tolist()
    assert encoder.encode(rows.drop(columns="animal")).target.tolist() == [-1] * len(rows)


def test_flat_features_are_standardised_averages():
    """A picture of 11 pixels in 3 squares a side; of plain ones each is the shade, less the mean, by the spread."""
    rows = frame([51, 102, 153])
    encoder = Encoder.fit(frame([51, 102]), COLUMNS)
    flat = encoder.flat(rows)
    assert flat.shape == (3, 27) and flat.dtype == np.float64
    assert np.allclose(flat[:, :9], [[-1], [1], [3]], atol=1e-5) and np.allclose(
        flat[:, 18:], 0, atol=1e-6
    )


# --- what is asked with -----------------------------------------------------------------------------------------------

ENCODER = Encoder(COLUMNS, ["cats", "dogs"], [0.5] * 3, [0.25] * 3)
FILE = picture(7)
TEXT = base64.b64encode(FILE).decode()
SQUARE = image_rows.square(FILE, COLUMNS, "it")


@pytest.mark.parametrize(
    "image",
    [
        TEXT,
        FILE,
        f"data:image/png;base64,{TEXT}",
        "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)),
    ],
)
def test_a_picture_may_be_asked_as(image):
    (found,) = ENCODER.check(pd.DataFrame({"image": [image]}))["image"]
    assert np.array_equal(found, SQUARE)


def test_a_picture_may_be_asked_by_its_path(tmp_path):
    (tmp_path / "it.png").write_bytes(FILE)
    (found,) = ENCODER.check(pd.DataFrame({"path": [f"{tmp_path}/it.png"]}))["image"]
    assert np.array_equal(found, SQUARE)


def test_a_part_may_be_asked_as_a_question():
    rows = frame([10, 90])
    question = ENCODER.inputs(rows)
    assert list(question) == ["image"] == [name for name, _, _ in ENCODER.schema()]
    assert np.array_equal(
        np.stack(ENCODER.check(question)["image"].tolist()), np.stack(rows["image"].tolist())
    )
    assert len(ENCODER.check(ENCODER.example())) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"image": [TEXT, "no base64!"]},
            r"row 2: `image` is not base64; expected a picture's file in base64; correct",
        ),
        ({"image": [TEXT, None]}, "row 2: `image` is not base64"),
        ({"image": [TEXT, ""]}, r"row 2 cannot be decoded as a picture \(unknown format\)"),
        (
            {"image": [TEXT, base64.b64encode(picture(1, 1, 17)).decode()]},
            "row 2 is 1 x 17 pixels; expected at least 5",
        ),
        (
            {"path": ["a", "b"], "image": [TEXT, TEXT[:80]]},
            r"row 2 \(b\) cannot be decoded as a picture",
        ),
        (
            {"path": ["nowhere/it.png"]},
            r"row 1: nowhere/it.png cannot be read \(No such file or directory\); name a picture",
        ),
        ({"image": [TEXT], "mood": ["good"]}, "surplus column mood; expected `image`"),
        (
            {"animal": ["cats"]},
            r"got animal; expected `image` \(a file in base64\) or `path` \(of a file\)",
        ),
        ({"image": []}, "no rows to answer; give at least one"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(rows, message):
    with pytest.raises(DataError, match=message):
        ENCODER.check(pd.DataFrame(rows))


def csv(folder: Path) -> Path:
    (folder / "rows.csv").write_text("path\nsome/b.png\nsome/a.png\n")
    return folder / "rows.csv"


def records(folder: Path) -> Path:
    names = ("some/b.png", "some/a.png")
    texts = [
        {"path": name, "image": base64.b64encode((folder / name).read_bytes()).decode()}
        for name in names
    ]
    (folder / "rows.json").write_text(yaml.safe_dump(texts, default_flow_style=True, width=10**9))
    pd.DataFrame(texts).to_json(folder / "rows.json", orient="records")
    return folder / "rows.json"


QUESTIONS: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "folder": (lambda folder: folder / "some", ["a.png", "b.png"]),
    "zip": (
        lambda folder: zipped(folder, {"a.png": picture(1), "b.png": picture(2)}) / "pictures.zip",
        ["a.png", "b.png"],
    ),
    "picture": (lambda folder: folder / "some/b.png", ["b.png"]),
    "csv": (csv, ["some/b.png", "some/a.png"]),
    "json": (records, ["some/b.png", "some/a.png"]),
}


@pytest.mark.parametrize("form", QUESTIONS)
def test_pictures_are_asked_from_files(form, tmp_path, monkeypatch):
    make, names = QUESTIONS[form]
    loose(
        tmp_path,
        {"some/a.png": picture(1), "some/b.png": picture(2), "some/note.txt": b"no picture"},
    )
    rows = image_rows.read_rows(make(tmp_path), COLUMNS)
    assert rows[Encoder.named_by].tolist() == names
    expected = [
        image_rows.square(picture(1 if "a.png" in name else 2), COLUMNS, name) for name in names
    ]
    assert np.array_equal(np.stack(ENCODER.check(rows)["image"].tolist()), np.stack(expected))


def test_a_question_that_is_not_there_says_so(tmp_path):
    with pytest.raises(DataError, match=r"has no pictures \(.bmp, .+\); name a folder that has"):
        image_rows.read_rows(tmp_path, COLUMNS)
    with pytest.raises(DataError, match="nowhere.csv does not exist; name a file of rows"):
        image_rows.read_rows(tmp_path / "nowhere.csv", COLUMNS)
    (tmp_path / "rows.csv").write_text("path\nlost.png\n")
    with pytest.raises(
        DataError, match=r"row 1: .*lost.png cannot be read \(No such file or directory\)"
    ):
        image_rows.read_rows(tmp_path / "rows.csv", COLUMNS)


# --- IDX --------------------------------------------------------------------------------------------------------------

PAIRS = {
    "train": [{"images": "a.gz", "labels": "a-labels.gz"}],
    "test": [{"images": "b", "labels": "b-labels"}],
}
DIGITS = columns(files={"format": "idx", **PAIRS}, target="digit", channels=1)
LOOKS = {
    str(i): {"prefix": "", "ears": ears, "stripes": 30.0 * i}
    for i, ears in enumerate(("none", "pointed", "drooping"))
}
DIGITS_TWIN = Twin(
    archive=None, seed=3, each={"a.gz": 23, "b": 7}, looks=LOOKS, short_side=11, long_side=11, contrast=[0.1, 0.3],
    noise=0.1, mislabelled=0.0, copies={},
)  # fmt: skip


def idx(array: Any) -> bytes:
    array = np.asarray(array, np.uint8)
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(n.to_bytes(4, "big") for n in array.shape)
        + array.tobytes()
    )


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    write_twin(DIGITS_TWIN, DIGITS, tmp_path)
    return tmp_path


def test_idx_files_are_read_as_they_are_written_by_hand(digits):
    pixels = np.arange(2 * 5 * 7, dtype=np.uint8).reshape(2, 5, 7)
    (digits / "b").write_bytes(
        bytes.fromhex("00000803 00000002 00000005 00000007") + pixels.tobytes()
    )
    (digits / "b-labels").write_bytes(bytes.fromhex("00000801 00000002 02 00"))
    rows = image_rows.read(digits, DIGITS).query("test")
    assert rows["digit"].tolist() == [2, 0] and rows["path"].tolist() == ["b/0", "b/1"]
    assert all(np.array_equal(raw, own) for raw, own in zip(rows["raw"], pixels, strict=True))


def test_idx_pictures_go_the_whole_way(digits, tmp_path):
    raw = image_rows.read(digits, DIGITS)
    assert (
        raw["digit"].value_counts().to_dict() == {0: 30, 1: 30, 2: 30} and raw["test"].sum() == 21
    )
    facts = image_rows.table(raw, DIGITS)
    assert (
        (facts["width"] == 11).all() and (facts["channels"] == 1).all() and facts["decodable"].all()
    )
    found = image_rows.split(image_rows.repair(raw, DIGITS), DIGITS, SPLIT)
    image_rows.write(found["gate"], tmp_path / "gate")
    gate = image_rows.load(tmp_path / "gate")
    encoder = Encoder.fit(found["train"], DIGITS)
    assert encoder.encode(gate).image.shape == (len(gate), 1, 11, 11) and encoder.classes == [
        0,
        1,
        2,
    ]
    image_rows.write_inputs(gate, tmp_path / "asked.parquet")
    asked = encoder.check(pd.read_parquet(tmp_path / "asked.parquet"))
    assert np.array_equal(np.stack(asked["image"].tolist()), np.stack(gate["image"].tolist()))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "a.gz",
            gzip.compress(idx(np.zeros((3, 5, 7))), mtime=0)[:-9],
            "a.gz is not a complete gzip file",
        ),
        (
            "a.gz",
            b"",
            "a.gz begins with nothing; expected an IDX file of bytes, 00000803 or 00000804; pull it again",
        ),
        (
            "b",
            idx(np.zeros((3, 5, 7)))[:-1],
            r"b has 104 bytes of pixels or labels; expected 3 x 5 x 7; pull it again",
        ),
        (
            "b",
            idx([1, 2]),
            "b begins with 00000801; expected an IDX file of bytes, 00000803 or 00000804",
        ),
        (
            "b-labels",
            idx([1, 2]),
            "b has 21 pictures, but b-labels has 2 labels; expected one label a picture",
        ),
        ("b-labels", None, "b-labels does not exist; pull it again"),
    ],
)
def test_idx_files_that_are_none_are_refused(file, content, message, digits):
    (digits / file).unlink()
    if content is not None:
        (digits / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        image_rows.read(digits, DIGITS)


# --- the set in conf/, its twin, and the real one ---------------------------------------------------------------------

CONF = yaml.safe_load((ROOT / "conf/dataset/cats_dogs.yaml").read_text(encoding="utf-8"))
SUITE = yaml.safe_load((ROOT / "conf/expectations/cats_dogs.yaml").read_text(encoding="utf-8"))
PETS = Columns(**CONF["columns"])


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return image_rows.read(twins.raw("cats_dogs", tmp_path_factory), PETS)


def test_the_twin_has_the_layout_and_the_quirks_of_the_real_set(twin):
    facts = image_rows.table(twin, PETS)
    counts = facts.groupby(["test", "animal"]).size().to_dict()
    assert counts == {
        (False, "cats"): 600,
        (False, "dogs"): 600,
        (True, "cats"): 100,
        (True, "dogs"): 100,
    }
    assert (facts[["width", "height"]].min(axis=1) == 128).all() and facts["channels"].eq(3).all()
    assert facts[facts["sha256"].duplicated(keep=False)]["path"].tolist() == [
        "training_set/dogs/dog.202.jpg", "training_set/dogs/dog.308.jpg",
    ]  # fmt: skip
    assert facts["key"].equals(facts["sha256"])


def test_the_twin_goes_through_the_kinds_own_road(twin):
    found = image_rows.split(image_rows.repair(twin, PETS), PETS, HashSplit(**CONF["split"]))
    image_rows.check_parts(found, PETS)
    sizes = {name: len(rows) for name, rows in found.items()}
    assert sum(sizes.values()) == 1400 and sizes["test"] == 200 and 900 < sizes["train"] < 1020
    profile = image_rows.profile(found, PETS)
    assert (
        profile["classes"] == ["cats", "dogs"]
        and sum(profile["columns"]["animal"].values()) == sizes["train"]
    )


@pytest.mark.slow
def test_the_suite_warns_of_a_picture_that_is_there_twice_and_of_nothing_else(twin):
    from sextant import validate

    found = validate.validate(image_rows.table(twin, PETS), SUITE)
    failed = [
        (result["kwargs"]["column"], result["severity"])
        for result in found
        if not result["success"]
    ]
    assert failed == [("sha256", "warning"), ("lookalike", "warning")]


DAMAGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "far too few": lambda rows: rows.head(500),
    "one class": lambda rows: rows[rows["animal"] == "cats"],
    "a third class": lambda rows: rows.assign(
        animal=rows["animal"].where(rows.index != 3, "birds")
    ),
    "a class untested": lambda rows: rows[~rows["test"] | (rows["animal"] == "cats")],
    "one class for another": lambda rows: rows.assign(
        animal=rows["animal"].where(rows.index % 3 == 0, "cats")
    ),
    "not decodable": lambda rows: rows.assign(decodable=rows.index != 3),
    "one pixel wide": lambda rows: rows.assign(width=rows["width"].where(rows.index != 3, 1)),
    "one pixel high": lambda rows: rows.assign(height=rows["height"].where(rows.index != 3, 1)),
    "unknown to the index": lambda rows: rows.assign(key=rows["key"].where(rows.index != 3, None)),
    "a path twice": lambda rows: rows.assign(
        path=rows["path"].where(rows.index != 3, rows["path"].iloc[4])
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_stops_the_run(damage, twin):
    from sextant import validate

    facts = image_rows.table(twin, PETS)
    found = validate.validate(DAMAGES[damage](facts), SUITE)
    assert any(result["severity"] == "critical" and not result["success"] for result in found)


def test_pixels_by_themselves_do_not_tell_the_twins_classes(twin):
    found = image_rows.split(image_rows.repair(twin, PETS), PETS, SPLIT)
    fit = plugins.task("classification").baselines("images")["logistic_regression"]
    answers = fit(found["train"], PETS, Encoder.fit(found["train"], PETS))(found["test"])
    assert (answers["prediction"] == found["test"]["animal"]).mean() < 0.65


def test_the_committed_index_is_the_mirrors():
    """Both sources know the same 10,000 pictures by the same keys."""
    index = pd.read_csv(ROOT / "facts/cats_dogs_index.csv")
    assert len(index) == index["path"].nunique() == 10_000
    assert (
        index["path"].str.fullmatch(r"(training_set|test_set)/(cats/cat|dogs/dog)\.\d+\.jpg").all()
    )
    twice = index[index["original_sha256"].duplicated(keep=False)]["path"].tolist()
    assert twice == ["training_set/dogs/dog.2027.jpg", "training_set/dogs/dog.3082.jpg"]
    if MIRROR:
        there = pd.read_csv(Path(MIRROR, "cats_dogs/cats_dogs_index.csv"))
        pd.testing.assert_frame_equal(index, there[list(index)])
        short = there[["original_width", "original_height"]].min(axis=1)
        assert short.min() == 33 and (short < 64).sum() == 16 and (short < 128).sum() == 198


@pytest.mark.slow
@pytest.mark.skipif(MIRROR is None, reason="needs the real pictures under SEXTANT_MIRROR")
def test_the_real_pictures_are_as_described():
    raw = image_rows.read(Path(str(MIRROR), "cats_dogs"), PETS)
    facts = image_rows.table(raw, PETS)
    counts = facts.groupby(["test", "animal"]).size().tolist()
    assert (
        counts == [4000, 4000, 1000, 1000]
        and facts["decodable"].all()
        and (facts["channels"] == 3).all()
    )
    assert (facts[["width", "height"]].min(axis=1) == 128).all() and facts[
        ["width", "height"]
    ].max().max() == 756

    def pairs(column: str) -> list[list[str]]:
        twice = facts[facts[column].duplicated(keep=False)]
        return sorted(
            sorted(Path(path).stem for path in group["path"]) for _, group in twice.groupby(column)
        )

    assert pairs("sha256") == pairs("key") == [["dog.2027", "dog.3082"]]
    seven = [
        ("cat.2565", "cat.3565"), ("cat.2580", "cat.4726"), ("cat.3411", "cat.4435"), ("cat.4126", "cat.4575"),
        ("dog.2027", "dog.3082"), ("dog.74", "dog.180"), ("dog.980", "dog.1273"),
    ]  # fmt: skip
    facts.index = pd.Index([Path(path).stem for path in facts["path"]])
    assert sorted(facts.index[facts["lookalike"]]) == sorted(
        name for pair in seven for name in pair
    )
    for one, other in seven:
        assert (
            int(facts["dhash"][one], 16) ^ int(facts["dhash"][other], 16)
        ).bit_count() <= image_rows.MAX_DIFFERENT_BITS


@pytest.mark.slow
@pytest.mark.skipif(MIRROR is None, reason="needs the real digits under SEXTANT_MIRROR")
def test_the_real_digits_are_as_described():
    names = [
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
    ]
    train, test = ([{"images": one, "labels": other}] for one, other in names)
    layout = columns(
        files={"format": "idx", "train": train, "test": test}, target="digit", channels=1, size=28
    )
    rows = image_rows.repair(image_rows.read(Path(str(MIRROR), "mnist"), layout), layout)
    own = rows[~rows["test"]]
    counts = own["digit"].value_counts().sort_index().tolist()
    assert (
        counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        and rows["test"].sum() == 10_000
    )
    encoder = Encoder.fit(own, layout)
    assert encoder.mean == [pytest.approx(0.1307, abs=5e-5)] and encoder.std == [
        pytest.approx(0.3081, abs=5e-5)
    ]
    image_rows.check_parts(image_rows.split(rows, layout, SPLIT), layout)


@pytest.mark.parametrize("fault", ["files", "target"])
def test_a_conf_without_a_key_is_refused(fault):
    from sextant import strict
    from sextant.errors import UsageError

    block = {key: value for key, value in CONF["columns"].items() if key != fault}
    with pytest.raises(UsageError, match=f"conf: key `{fault}` is missing; add it"):
        strict.check(Columns, block, "conf")
