"""Sets of pictures in the shapes that people have: where the class is, what is left out."""

import base64
import io
import re
import unicodedata
import zipfile
from pathlib import Path

import cases
import numpy as np
import pandas as pd
import pytest
from builders import (
    hash_split,
    picture_columns,
    picture_file,
    random_picture,
    random_pictures,
    write_files,
    write_zip,
)
from PIL import Image

from sextant import validate
from sextant.errors import DataError, UsageError
from sextant.kinds.images import rows as image_rows
from sextant.kinds.images.columns import Columns
from sextant.kinds.images.encoder import Encoder
from sextant.kinds.images.rows import pixel_tables
from sextant.strict import check

COLUMNS = picture_columns()


def folders(**changes: object) -> Columns:
    """Cats and dogs in learn/, or elsewhere."""
    return picture_columns(files={"format": "folders", "train": ["learn"], **changes})


def classes(folder: Path, columns: Columns) -> dict[str, str]:
    """The class of each picture by its path."""
    pictures = image_rows.read(folder, columns).pictures
    return dict(zip(pictures["path"], pictures["animal"], strict=True))


# --- conf ---------------------------------------------------------------------------------------


def test_what_has_a_sensible_default_may_be_left_out():
    block = {"files": {"format": "folders"}, "target": "animal", "size": 32}
    columns = check(Columns, block, "conf")
    assert columns.files.train == ["."]
    assert columns.files.test == []
    assert (columns.channels, columns.flat, columns.smallest) == (3, 8, 16)
    assert (columns.ground, columns.leave_out) == ("white", [])
    assert check(Columns, columns.model_dump(), "conf") == columns


def test_a_word_stands_for_a_list_of_one():
    columns = picture_columns(
        files={"format": "folders", "train": "learn", "test": "exam"}, leave_out="repeated"
    )
    assert columns.files.train == ["learn"]
    assert columns.leave_out == ["repeated"]
    assert columns == picture_columns(leave_out=["repeated"])


@cases.each(
    ("changes", "message"),
    [
        ({"leave_out": "damaged"}, "`leave_out.0` is 'damaged'; input should be 'undecodable' or"),
        ({"ground": "whitish"}, "`ground` is 'whitish'"),
        ({"names_encoding": "cp9999"}, "`names_encoding` is 'cp9999'; no such encoding"),
        (
            {"files": {"format": "folders", "pattern": "^(cat"}},
            "pattern` is '.*'; expected a regular expression",
        ),
        (
            {"files": {"format": "folders", "pattern": "^cat"}},
            "pattern` is '.*'; expected the class in parentheses",
        ),
        (
            {"files": {"format": "folders", "pattern": "(a)", "labels": {"file": "a.csv"}}},
            "the class is named by both `pattern` and `labels`; expected one",
        ),
    ],
)
def test_a_wrong_conf_is_refused(changes, message):
    block = {"files": {"format": "folders"}, "target": "animal", "size": 32} | changes
    with pytest.raises(UsageError, match=message):
        check(Columns, block, "conf")


# --- the class in the path, the name or a table -------------------------------------------------

FLAT = {f"learn/{label}.{i}.png": random_picture(i) for label in ("cat", "dog") for i in range(3)}


@pytest.mark.parametrize(
    "pattern", [r"^(cat|dog)\.", r"^(?P<class>[a-z]+)\.\d+\.(png|jpg)$", r"([a-z]+)\.\d"]
)
def test_the_class_may_be_in_the_name(pattern, tmp_path):
    found = classes(write_zip(tmp_path, FLAT), folders(pattern=pattern))
    assert found == {path: path.removeprefix("learn/")[:3] for path in FLAT}


def test_a_name_without_a_class_is_refused(tmp_path):
    pictures = FLAT | {"learn/bird.7.png": random_picture(9), "learn/owl.png": random_picture(8)}
    message = r"2 pictures do not fit `pattern` \^\(cat\|dog\): learn/bird.7.png, learn/owl.png;"
    with pytest.raises(DataError, match=message):
        classes(write_files(tmp_path, pictures), folders(pattern="^(cat|dog)"))


def test_flat_pictures_are_refused_with_both_ways_out(tmp_path):
    message = "learn/cat.0.png is outside learn/<class>/; move it there, or set `columns.files"
    with pytest.raises(DataError, match=f"{message}.pattern` .* `columns.files.labels`"):
        classes(write_files(tmp_path, FLAT), folders())


@pytest.mark.parametrize("form", ["with suffix", "without suffix", "whole path", "in the zip"])
def test_the_class_may_be_in_a_csv(form, tmp_path):
    lines = ["id,animal"]
    for path in FLAT:
        name = path if form == "whole path" else path.removeprefix("learn/")
        if form == "without suffix":
            name = name.removesuffix(".png")
        lines.append(f"{name},{path.removeprefix('learn/')[:3]}")
    content = "\n".join(lines).encode()
    if form == "in the zip":
        write_zip(tmp_path, FLAT | {"labels.csv": content})
    else:
        write_files(write_zip(tmp_path, FLAT), {"labels.csv": content})
    found = classes(tmp_path, folders(labels={"file": "labels.csv", "path": "id"}))
    assert found == {path: path.removeprefix("learn/")[:3] for path in FLAT}


def test_the_layout_of_the_german_traffic_signs(tmp_path):
    """A CSV in each folder of a class, PPM pictures, and one CSV for the pictures for testing."""
    pictures = {}
    for sign in ("00000", "00014"):
        lines = ["Filename;Width;ClassId"]
        for i in range(3):
            name = f"{i:05}_00000.ppm"
            pictures[f"GTSRB/Training/{sign}/{name}"] = random_picture(i, form="PPM")
            lines.append(f"{name};17;{int(sign)}")
        pictures[f"GTSRB/Training/{sign}/GT-{sign}.csv"] = "\n".join(lines).encode()
    pictures["GTSRB/Test/00000.ppm"] = random_picture(7, form="PPM")
    pictures["GT-test.csv"] = b"Filename;Width;ClassId\n00000.ppm;17;14\n"
    labels = {
        "file": ["GTSRB/Training/*/GT-*.csv", "GT-test.csv"],
        "path": "Filename",
        "delimiter": ";",
    }
    files = {
        "format": "folders", "train": "GTSRB/Training", "test": "GTSRB/Test", "labels": labels,
    }  # fmt: skip
    columns = picture_columns(files=files, target="ClassId")
    raw = image_rows.read(write_zip(tmp_path, pictures), columns)
    assert raw.pictures["ClassId"].tolist() == ["14", "0", "0", "0", "14", "14", "14"]
    assert raw.pictures["test"].tolist() == [True] + [False] * 6
    assert raw.aside == {}
    # Without the tables, the folders are the classes.
    by_folder = classes(tmp_path, folders(train="GTSRB/Training", ignored="GTSRB/Test"))
    assert set(by_folder.values()) == {"00000", "00014"}


def test_two_tables_that_list_the_same_names(tmp_path):
    pictures = {"a/1.png": random_picture(1), "b/1.png": random_picture(2)}
    pictures["a.csv"] = b"path,animal\n1.png,cat\n"
    pictures["b.csv"] = b"path,animal\n1.png,dog\n"
    write_files(tmp_path, pictures)
    both = {"file": ["a.csv", "b.csv"]}
    with pytest.raises(DataError, match="a/1.png has several classes: cat in a.csv, dog in b.csv;"):
        classes(tmp_path, folders(train=["a", "b"], labels=both))
    labels = [{"file": "a.csv", "folder": "a"}, {"file": "b.csv", "folder": "b"}]
    found = classes(tmp_path, folders(train=["a", "b"], labels=labels))
    assert found == {"a/1.png": "cat", "b/1.png": "dog"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,kind\ncat.0.png,cat\n", "labels.csv lacks column animal; found path, kind; correct"),
        (None, "labels.csv, with the classes of the pictures, does not exist; run `make pull`"),
        ("path,animal\ncat.0,cat\n", "5 pictures are not in labels.csv: learn/cat.1.png, learn/"),
        ("path,animal\ncat.0,\n", "labels.csv line 2 has no `animal`; expected a path and a class"),
        (
            "path,animal\ncat.0,cat\ncat.0,dog\n",
            "labels.csv line 3 gives cat.0 the class dog, another line cat; correct one of them",
        ),
    ],
)
def test_a_faulty_table_of_classes_is_refused(content, message, tmp_path):
    write_files(tmp_path, FLAT)
    if content is not None:
        (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        classes(tmp_path, folders(labels={"file": "labels.csv"}))


def test_a_table_of_classes_that_lists_lost_pictures_is_refused(tmp_path):
    lines = ["path,animal", *(f"{name}.{i},{name}" for name in ("cat", "dog") for i in range(4))]
    write_files(tmp_path, FLAT | {"labels.csv": "\n".join(lines).encode()})
    message = "labels.csv lists 2 pictures that do not exist: cat.3, dog.3; add them, remove"
    with pytest.raises(DataError, match=message):
        classes(tmp_path, folders(labels={"file": "labels.csv"}))


def test_names_in_both_forms_of_unicode_are_one_class(tmp_path):
    label = "Übelkrähe"
    pictures = {
        f"Vögel/{label}/1.png": random_picture(1),
        f"Vögel/{unicodedata.normalize('NFD', label)}/2.png": random_picture(2),
        "Vögel/Eule/3.png": random_picture(3),
    }
    place = unicodedata.normalize("NFD", "Vögel/")
    found = classes(write_zip(tmp_path, pictures), folders(train=[place]))
    assert sorted(found.values()) == ["Eule", label, label]


def test_a_zip_with_backslashes(tmp_path):
    pictures = {path.replace("/", "\\"): raw for path, raw in random_pictures().items()}
    read = image_rows.read(write_zip(tmp_path, pictures), COLUMNS).pictures
    assert read["path"].tolist() == sorted(random_pictures())


def test_ignored_folders_are_counted(tmp_path):
    pictures = FLAT | {"unknown/7.png": random_picture(7)}
    columns = folders(pattern="^(cat|dog)", ignored=["unknown"])
    raw = image_rows.read(write_files(tmp_path, pictures), columns)
    assert image_rows.passed_over(raw) == {"no pictures": {"ignored": 1}}
    assert len(raw.pictures) == 6


def test_other_files_are_left_aside_and_counted(tmp_path):
    others = {
        "learn/cats/Thumbs.db": b"\xd0\xcf\x11\xe0",
        "learn/dogs/desktop.ini": b"[x]",
        "__MACOSX/learn/cats/._1.png": b"\0\5\x16\7",
        "learn/cats/notes": b"taken in May\n",
        "learn/cats/boxes.xml": b"<annotation/>",
        "paper.pdf": b"%PDF-1.7",
        "weights": b"\x00\x01\x02",  # of an unknown sort, and not where pictures are
    }
    raw = image_rows.read(write_zip(tmp_path, random_pictures() | others), COLUMNS)
    assert raw.pictures["path"].tolist() == sorted(random_pictures())
    aside = {"system": 3, "text": 1, "other": 3}
    assert image_rows.passed_over(raw) == {"no pictures": aside}


def test_a_picture_is_one_by_its_content(tmp_path):
    """Names of any kind, in training and in questions alike."""
    names = ["1.jfif", "2", "3.txt", "4.JPG", "5.ppm"]
    pictures = {f"learn/cats/{name}": random_picture(1, form="JPEG") for name in names[:4]}
    pictures["learn/cats/5.ppm"] = random_picture(1, form="PPM")
    read = image_rows.read(write_files(tmp_path, pictures), COLUMNS).pictures
    assert read["path"].tolist() == [f"learn/cats/{name}" for name in names]
    asked = image_rows.read_rows(tmp_path / "learn/cats", COLUMNS)
    assert asked["path"].tolist() == names
    for name in names:
        assert len(image_rows.read_rows(tmp_path / f"learn/cats/{name}", COLUMNS)) == 1
    encoder = Encoder(COLUMNS, ["cats"], [0.5] * 3, [0.5] * 3)
    prepared = image_rows.repair(image_rows.read(tmp_path, COLUMNS), COLUMNS)
    answered = encoder.check(asked)
    assert np.array_equal(np.stack(answered["image"]), np.stack(prepared["image"]))


def test_what_may_be_a_damaged_picture_is_not_left_aside(tmp_path):
    pictures = random_pictures() | {"learn/cats/99": bytes(range(256))}
    raw = image_rows.read(write_files(tmp_path, pictures), COLUMNS)
    with pytest.raises(DataError, match=r"learn/cats/99 cannot be decoded as a picture \(unknown"):
        image_rows.repair(raw, COLUMNS)
    asked = image_rows.read_rows(tmp_path / "learn/cats", COLUMNS)
    with pytest.raises(DataError, match=r"\(99\) cannot be decoded as a picture"):
        Encoder(COLUMNS, ["cats"], [0.5] * 3, [0.5] * 3).check(asked)


# --- what a rule leaves out ---------------------------------------------------------------------

DAMAGED = {
    "learn/cats/1.png": b"",
    "learn/dogs/2.png": random_picture(2, form="JPEG")[:-99],
    "exam/cats/5.png": b"<html>404 not found</html>",
}


def test_undecodable_pictures_are_named(tmp_path):
    raw = image_rows.read(write_files(tmp_path, random_pictures() | DAMAGED), COLUMNS)
    message = r"exam/cats/5.png cannot be decoded .* or set `columns.leave_out: undecodable`"
    paths = ", ".join(sorted(DAMAGED))
    with pytest.raises(DataError, match=f"{message} .*; 3 pictures cannot be used: {paths}"):
        image_rows.repair(raw, COLUMNS)


@pytest.mark.slow
def test_the_expectation_names_undecodable_pictures(tmp_path):
    raw = image_rows.read(write_files(tmp_path, random_pictures() | DAMAGED), COLUMNS)
    suite = [
        {
            "expectation": "expect_table_row_count_to_be_between", "min_value": 1,
            "severity": "critical", "why": "w",
        },
        {
            "expectation": "expect_column_values_to_be_in_set", "column": "decodable",
            "value_set": [True], "severity": "critical", "why": "w",
        },
    ]  # fmt: skip
    results = validate.validate(image_rows.table(raw, COLUMNS), suite, image_rows.NAMED_BY)
    reason = validate.refusal("pets", results, image_rows.ADVICE)
    assert reason is not None
    assert f"3 of 41 rows are unexpected, such as False ({', '.join(sorted(DAMAGED))})" in reason
    assert reason.endswith(", or set `columns.leave_out: undecodable` in the conf")


def test_undecodable_pictures_may_be_left_out(tmp_path):
    columns = picture_columns(leave_out="undecodable", undecodable_share=0.1)
    write_files(tmp_path, random_pictures() | DAMAGED)
    raw = image_rows.read(tmp_path, columns)
    assert image_rows.passed_over(raw) == {"undecodable": sorted(DAMAGED)}
    table = image_rows.table(raw, columns)
    assert table["decodable"].all()
    assert len(table) == len(image_rows.repair(raw, columns)) == 38
    # The others stay in their parts.
    whole = write_files(tmp_path / "whole", random_pictures())
    split = hash_split(train=0.7, val=0.1, gate=0.1, test=0.1)
    some = image_rows.split(image_rows.repair(raw, columns), columns, split)
    everything = image_rows.repair(image_rows.read(whole, COLUMNS), COLUMNS)
    for part, rows in image_rows.split(everything, COLUMNS, split).items():
        kept = [path for path in rows["path"] if path not in DAMAGED]
        assert some[part]["path"].tolist() == kept


def test_undecodable_pictures_are_left_out_of_questions_too(tmp_path, capsys):
    columns = picture_columns(leave_out="undecodable")
    asked = image_rows.read_rows(write_files(tmp_path, random_pictures(7) | DAMAGED), columns)
    assert len(asked) == 4
    message = f"3 pictures cannot be decoded: {', '.join(sorted(DAMAGED))}; they are not answered"
    assert message in capsys.readouterr().err


def test_too_many_undecodable_pictures_are_refused(tmp_path):
    write_files(tmp_path, random_pictures() | DAMAGED)
    message = "3 of 41 pictures cannot be decoded: exam/cats/5.png, .*; expected a share of at most"
    with pytest.raises(DataError, match=f"{message} 0.05; pull them again"):
        image_rows.read(tmp_path, picture_columns(leave_out=["undecodable"]))


REPEATED = {"exam/cats/copy.png": random_pictures()["learn/cats/1.png"]}


def test_a_picture_for_training_and_testing_is_named_by_both_paths(tmp_path):
    folder = write_files(tmp_path, random_pictures(211) | REPEATED)
    rows = image_rows.repair(image_rows.read(folder, COLUMNS), COLUMNS)
    parts = image_rows.split(rows, COLUMNS, hash_split(train=0.8, val=0.1, gate=0.1, test=0.0))
    message = (
        "learn/cats/1.png, for training, and exam/cats/copy.png, for testing, are the same picture;"
        " remove one of them, or set `columns.leave_out: repeated`"
    )
    with pytest.raises(DataError, match=message):
        image_rows.check_parts(parts, COLUMNS)


def test_repeated_pictures_may_be_left_out_of_training(tmp_path):
    columns = picture_columns(leave_out=["undecodable", "repeated"])
    raw = image_rows.read(write_files(tmp_path, random_pictures(211) | REPEATED), columns)
    assert image_rows.passed_over(raw) == {"repeated": ["learn/cats/1.png"]}
    rows = image_rows.repair(raw, columns)
    parts = image_rows.split(rows, columns, hash_split(train=0.8, val=0.1, gate=0.1, test=0.0))
    image_rows.check_parts(parts, columns)
    assert "exam/cats/copy.png" in set(parts["test"]["path"])


# --- one colour, all alike ----------------------------------------------------------------------


def facts_of(pictures: dict[str, bytes], tmp_path: Path) -> pd.DataFrame:
    return image_rows.table(image_rows.read(write_files(tmp_path, pictures), COLUMNS), COLUMNS)


def test_pictures_of_one_colour_are_plain(tmp_path):
    pictures = {}
    for i in range(5):
        noise = np.random.default_rng(i).integers(30 * i, 30 * i + 10, (13, 17, 3), np.uint8)
        pictures[f"learn/cats/{i}.jpg"] = picture_file(Image.fromarray(noise), "JPEG")
    pictures["learn/dogs/0.png"] = random_picture(1)
    pictures["learn/dogs/1.png"] = b""
    facts = facts_of(pictures, tmp_path)
    assert facts["plain"].tolist() == [True] * 5 + [False, None]


def test_pictures_that_are_nearly_all_alike(tmp_path):
    """Copies of one picture, re-encoded, beside a few others."""
    original = Image.open(io.BytesIO(random_picture(1, 40, 40)))
    pictures = {}
    for i in range(8):
        pictures[f"learn/cats/{i}.jpg"] = picture_file(original, "JPEG", quality=80 + i)
    for i in range(3):
        pictures[f"learn/dogs/{i}.png"] = random_picture(i + 2)
    facts = facts_of(pictures, tmp_path)
    assert facts["alike"].tolist() == [0.7] * 8 + [0.0] * 3
    assert facts["alike"].median() > 0.5
    assert facts_of(random_pictures(), tmp_path / "other")["alike"].median() == 0


def failed(pictures: dict[str, bytes], tmp_path: Path) -> list[str]:
    """The expectations of every set that these pictures do not meet."""
    raw = image_rows.read(write_files(tmp_path, pictures), COLUMNS)
    found = image_rows.findings(raw, COLUMNS, image_rows.table(raw, COLUMNS))
    assert {finding.severity for finding in found} == {"critical"}
    return [finding.expectation for finding in found if finding.unexpected]


def test_every_set_is_expected_to_show_something_and_to_differ(tmp_path):
    """Whether its suite says so or not."""
    assert failed(random_pictures(), tmp_path / "noise") == []
    colours = {}
    for path in random_pictures():
        colour = tuple(np.random.default_rng(len(colours)).integers(0, 256, 3).tolist())
        colours[path] = picture_file(Image.new("RGB", (17, 13), colour))
    both = ["expect_pictures_to_show_something", "expect_pictures_to_differ"]
    assert failed(colours, tmp_path / "colours") == both
    some = dict(list(colours.items())[:30])
    assert failed(random_pictures() | some, tmp_path / "some") == []
    copies = dict.fromkeys(random_pictures(), random_picture(1))
    assert failed(copies, tmp_path / "copies") == ["expect_pictures_to_differ"]


# --- arrays -------------------------------------------------------------------------------------

LABELS = np.arange(24) % 3
STACK = np.random.default_rng(2).integers(0, 256, (24, 12, 10), np.uint8)
MIXED = np.where(LABELS[:, None, None] == 0, STACK, STACK / 255)
COLOURS = np.random.default_rng(3).integers(0, 256, (24, 12, 10, 3), np.uint8)


def arrays(**changes: object) -> Columns:
    pair = {"file": "x.npz", "images": "x_train", "labels": "y_train"}
    files = {"format": "arrays", "train": [pair]}
    return picture_columns(**({"files": files, "target": "digit", "channels": 1} | changes))


def read_arrays(folder: Path, columns: Columns, **content: np.ndarray) -> pd.DataFrame:
    np.savez(folder / "x.npz", **content)
    return image_rows.read(folder, columns).pictures


@cases.each(
    ("images", "expected"),
    [
        (STACK, STACK),
        (STACK[..., None], STACK[..., None]),
        (STACK.astype(np.int64), STACK),
        (STACK.astype(np.uint16) * 257, STACK),
        (STACK / 255, STACK),
        (STACK.astype(np.float32), STACK),
        (STACK > 127, (STACK > 127) * np.uint8(255)),
        (COLOURS, COLOURS),
        (COLOURS.transpose(0, 3, 1, 2), COLOURS),
    ],
)
def test_arrays_are_read(images, expected, tmp_path):
    read = read_arrays(tmp_path, arrays(), x_train=images, y_train=LABELS)
    assert np.array_equal(np.stack(read["raw"]), expected)
    assert read["path"].tolist()[:2] == ["x.npz/x_train/0", "x.npz/x_train/1"]
    assert read["digit"].tolist() == [str(label) for label in LABELS]
    asked = image_rows.read_rows(tmp_path / "x.npz", arrays())
    assert np.array_equal(np.stack(asked["image"]), expected)


@pytest.mark.parametrize("labels", [LABELS[:, None], LABELS.astype(float), LABELS.astype("S1")])
def test_labels_of_arrays_are_text(labels, tmp_path):
    read = read_arrays(tmp_path, arrays(), x_train=STACK, y_train=labels)
    assert read["digit"].tolist() == [str(label) for label in LABELS]


def test_arrays_in_files_of_their_own(tmp_path):
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set/x.npy", STACK)
    np.save(tmp_path / "set/y.npy", LABELS)
    files = {"format": "arrays", "train": [{"images": "set/x.npy", "labels": "set/y.npy"}]}
    read = image_rows.read(tmp_path, arrays(files=files)).pictures
    assert read["path"].tolist()[:2] == ["set/x.npy/0", "set/x.npy/1"]
    asked = image_rows.read_rows(tmp_path / "set/x.npy", arrays(files=files))
    assert np.array_equal(np.stack(asked["image"]), STACK)


@cases.each(
    ("content", "message"),
    [
        ({"x_train": STACK}, "x.npz has no array y_train; it has x_train; pull it again, or"),
        ({"x_train": STACK, "y_train": LABELS[1:]}, "x.npz/x_train has 24 pictures, but x.npz/y_"),
        (
            {"x_train": STACK, "y_train": np.eye(3)[LABELS]},
            r"y_train has the shape \(24, 3\); expected one label a picture",
        ),
        (
            {"x_train": STACK.reshape(24, -1), "y_train": LABELS},
            r"x.npz/x_train has uint8 in the shape \(24, 120\); expected numbers as \(pictures,",
        ),
        (
            {"x_train": np.array([object()] * 24), "y_train": LABELS},
            r"x.npz cannot be read as arrays \(.*allow_pickle",
        ),
        (
            {"x_train": MIXED, "y_train": LABELS},
            "x.npz/x_train is not of one scale: picture 0 reaches up to 255, picture 1 up to 1; ",
        ),
        (
            {"x_train": np.where(STACK > 250, np.nan, STACK), "y_train": LABELS},
            r"x.npz/x_train/0 cannot be used \(some pixels are no finite numbers\)",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_arrays(tmp_path, arrays(), **content)


def test_damaged_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=STACK, y_train=LABELS)
    whole = (tmp_path / "x.npz").read_bytes()
    for kept in (0, 100, len(whole) // 2):
        (tmp_path / "x.npz").write_bytes(whole[:kept])
        with pytest.raises(DataError, match="x.npz cannot be read as arrays"):
            image_rows.read(tmp_path, arrays())


# --- a column for each pixel --------------------------------------------------------------------


def pixel_table(images: np.ndarray, labels: np.ndarray | None = LABELS) -> pd.DataFrame:
    flat = images.reshape(len(images), -1)
    names = [f"pixel{i}" for i in range(flat.shape[1])]
    table = pd.DataFrame(flat, columns=names)
    if labels is not None:
        table.insert(0, "label", labels)
    return table


SQUARES = STACK[:, :10]


def pixel_columns(**changes: object) -> Columns:
    files = {"format": "pixels", "train": "train.csv", **changes}
    return picture_columns(files=files, target="label", channels=1)


def test_a_table_with_a_column_for_each_pixel(tmp_path):
    table = pixel_table(SQUARES)
    table.to_csv(tmp_path / "train.csv", index=False)
    read = image_rows.read(tmp_path, pixel_columns()).pictures
    assert np.array_equal(np.stack(read["raw"]), SQUARES)
    assert read["label"].tolist() == [str(label) for label in LABELS]
    table.drop(columns="label").to_csv(tmp_path / "asked.csv", index=False)
    asked = image_rows.read_rows(tmp_path / "asked.csv", pixel_columns())
    assert asked["path"].tolist()[:2] == ["asked.csv/0", "asked.csv/1"]
    assert np.array_equal(np.stack(asked["image"]), SQUARES)


def test_a_zipped_table_is_no_archive_of_pictures(tmp_path):
    table = pixel_table(SQUARES).drop(columns="label")
    with zipfile.ZipFile(tmp_path / "asked.ZIP", "w") as archive:
        archive.writestr("__MACOSX/._asked.csv", "")
        archive.writestr("asked.csv", table.to_csv(index=False))
    asked = image_rows.read_rows(tmp_path / "asked.ZIP", pixel_columns())
    assert np.array_equal(np.stack(asked["image"]), SQUARES)


@pytest.mark.parametrize(
    ("change", "is_plain"),
    [
        (lambda text: text, True),
        (lambda text: text.replace(",", ";"), False),  # not the delimiter of the conf
        (lambda text: text.replace("\n", "\r\n"), True),
        (lambda text: "\ufeff" + text, True),
        (lambda text: re.sub(r",(?=\d)", ",00", text), True),
        (lambda text: text + ",".join([""] * 17), False),
        (lambda text: text.replace("\n2,", "\n,", 1), False),
        (lambda text: text.replace("\n2,", '\n"2\n",', 1), False),
        (lambda text: text.replace("\n2,", "\n2,,", 1), False),
        (lambda text: text.replace("\n2,", "\n2,inf,", 1), False),
        (lambda text: text.rstrip() + ",7", False),
        (lambda text: text.rpartition(",")[0], False),
        (lambda text: text.replace("pixel1,", "pixel0,", 1), False),
        (lambda text: text.replace("pixel7,", '"pixel7",', 1), True),
        (lambda text: text.replace("pixel7,", '" pixel7 ",', 1), True),
    ],
)
def test_plain_tables_are_read_fast_and_alike(change, is_plain, tmp_path, monkeypatch):
    """What is not plain is left to the reader that names the line."""
    text = pixel_table(STACK[:, :4, :4]).to_csv(index=False)
    (tmp_path / "train.csv").write_text(change(text), newline="", encoding="utf-8")
    columns = pixel_columns()
    rows = pixel_tables._plain_rows(tmp_path / "train.csv", columns.files)
    assert (rows is not None) == is_plain
    if is_plain:
        fast = image_rows.read(tmp_path, columns).pictures
        monkeypatch.setattr(pixel_tables, "_plain_rows", lambda path, files: None)
        pd.testing.assert_frame_equal(fast, image_rows.read(tmp_path, columns).pictures)


def test_pixels_are_in_the_order_of_their_numbers(tmp_path):
    """A program that sorted the columns as text does not scramble the pictures."""
    table = pixel_table(SQUARES)
    table[sorted(table)].to_csv(tmp_path / "train.csv", index=False)
    read = image_rows.read(tmp_path, pixel_columns()).pictures
    assert np.array_equal(np.stack(read["raw"]), SQUARES)


@pytest.mark.parametrize("order", ["interleaved", "planes"])
def test_pixels_of_colours(order, tmp_path):
    shape = [12, 10, 3] if order == "interleaved" else [3, 12, 10]
    images = COLOURS if order == "interleaved" else COLOURS.transpose(0, 3, 1, 2)
    pixel_table(images).to_csv(tmp_path / "train.csv", index=False)
    read = image_rows.read(tmp_path, pixel_columns(shape=shape)).pictures
    assert np.array_equal(np.stack(read["raw"]), COLOURS)


def test_fractions_and_decimal_commas(tmp_path):
    pixel_table(SQUARES / 255).to_csv(tmp_path / "train.csv", index=False, sep=";", decimal=",")
    columns = pixel_columns(delimiter=";", decimal=",")
    read = image_rows.read(tmp_path, columns).pictures
    assert np.array_equal(np.stack(read["raw"]), SQUARES)


def ending(column: str, last: str) -> pd.DataFrame:
    """A table whose last row, in line 25, has another text in a column."""
    return pixel_table(SQUARES).assign(**{column: ["1"] * 23 + [last]})


TABLE = pixel_table(SQUARES)


@cases.each(
    ("table", "message"),
    [
        (
            TABLE.rename(columns={"label": "kind"}),
            "train.csv lacks column label; found kind, pixel0",
        ),
        (
            TABLE.drop(columns="pixel7"),
            r"train.csv has 99 columns like pixel\*; expected 9 x 9; set",
        ),
        (TABLE[["label"]], r"no column is like pixel\*; found label; correct"),
        (ending("pixel3", "x"), "train.csv line 25 has 'x' in `pixel3`; expected a finite number"),
        (ending("pixel3", ""), "train.csv line 25 has no `pixel3`; expected a pixel; correct it"),
        (ending("pixel3", "1e99"), r"train.csv/23 cannot be used \(some pixels are no finite num"),
        (ending("label", ""), "train.csv line 25 has no `label`; correct it"),
    ],
)
def test_tables_of_pixels_that_do_not_fit_are_refused(table, message, tmp_path):
    table.to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(DataError, match=message):
        image_rows.read(tmp_path, pixel_columns())


# --- questions ----------------------------------------------------------------------------------


def test_pictures_are_read_alike_everywhere(tmp_path):
    """Deep, transparent and turned: as a file, in a folder, in an archive, in base64, as a path."""
    noise = np.random.default_rng(4).integers(0, 2**16, (13, 17), np.uint16)
    rgba = np.random.default_rng(5).integers(0, 256, (13, 17, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        "a.png": picture_file(Image.fromarray(noise)),
        "b.tif": picture_file(Image.fromarray((noise / 65535).astype(np.float32)), "TIFF"),
        "c.png": picture_file(Image.fromarray(rgba)),
        "d.jpg": picture_file(Image.fromarray(rgba[..., :3]), "JPEG", exif=exif),
        "e.gif": picture_file(Image.fromarray(rgba), "GIF"),
    }
    columns = picture_columns(ground="#336699")
    learn = {f"learn/cats/{name}": raw for name, raw in pictures.items()}
    raw = image_rows.read(write_zip(tmp_path / "raw", learn), columns)
    expected = np.stack(image_rows.repair(raw, columns)["image"])
    encoder = Encoder(columns, ["cats"], [0.5] * 3, [0.5] * 3)
    write_files(tmp_path / "new", pictures)
    write_zip(tmp_path / "zip", pictures)
    paths = "path\n" + "\n".join(f"new/{name}" for name in pictures)
    (tmp_path / "rows.csv").write_text(paths)
    texts = [base64.b64encode(content).decode() for content in pictures.values()]
    pd.DataFrame({"image": texts}).to_csv(tmp_path / "texts.csv", index=False)
    for name in ("new", "zip/pictures.zip", "rows.csv", "texts.csv"):
        answered = encoder.check(image_rows.read_rows(tmp_path / name, columns))
        assert np.array_equal(np.stack(answered["image"]), expected), name


def test_files_of_a_folder_that_are_no_pictures_are_counted(tmp_path, capsys):
    pictures = {"a.jfif": random_picture(1, form="JPEG"), "Thumbs.db": b"x", "note": b"hello\n"}
    asked = image_rows.read_rows(write_files(tmp_path, pictures), COLUMNS)
    assert asked["path"].tolist() == ["a.jfif"]
    assert "files that are no pictures: 1 system, 1 text" in capsys.readouterr().err


def test_the_names_of_a_zip_are_read_by_names_encoding(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("M?we.png", random_picture(1))
    content = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(content.replace(b"M?we", "Möwe".encode("cp1252")))
    columns = picture_columns(names_encoding="cp1252")
    assert image_rows.read_rows(tmp_path / "x.zip", columns)["path"].tolist() == ["Möwe.png"]
