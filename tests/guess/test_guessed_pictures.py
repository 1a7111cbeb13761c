"""The folders and classes of pictures, from their paths alone."""

import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest
from builders import random_picture

from sextant.errors import DataError, UsageError
from sextant.guess import building, picture_labels, pictures

PICTURE = random_picture(1, 100, 90)


def guessed(*paths: str, size: int | None = None) -> pictures.Pictures:
    return pictures.pictures(paths, lambda names: iter([PICTURE] * len(names)), size)


def test_folders_are_classes() -> None:
    found = guessed("pets/cat/1.png", "pets/dog/2.png", "pets/dog/3.png")
    assert (found.train, found.test, found.pattern) == (["pets"], [], None)
    assert found.classes == {"cat": 1, "dog": 2} and found.trained == 3
    assert (found.side, found.shortest, found.grey, found.photos) == (64, 90, False, True)
    assert guessed("cat/1.png", "dog/2.png").train == ["."]
    assert guessed("cat/1.png", "dog/2.png", size=32).side == 32


def test_a_folder_for_tests_is_the_test_part() -> None:
    found = guessed("training_set/a/1.png", "training_set/b/1.png", "test_set/a/2.png")
    assert (found.train, found.test, found.tested) == (["training_set"], ["test_set"], 1)
    with_val = guessed("x/train/a/1.png", "x/train/b/1.png", "x/val/a/2.png", "x/val/b/2.png")
    assert (with_val.train, with_val.test) == (["x/train"], ["x/val"])
    assert "is the test part" in with_val.doubts[0]


def test_the_class_may_stand_in_the_name() -> None:
    found = guessed("train/cat.0.jpg", "train/dog.1.jpg", "test/1.jpg")
    assert (found.train, found.ignored) == (["train"], ["test"])
    assert found.pattern is not None and found.classes == {"cat": 1, "dog": 1}
    assert guessed("cat_1.png", "dog (2).png").train == ["."]


def test_letters_and_digits_are_not_mirrored() -> None:
    assert not guessed("a/1.png", "b/2.png").photos


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["1.png", "2.png"], "nothing says the classes"),
        (["cats/1.png", "cats/2.png"], "nothing says the classes"),
        (
            ["train/a/1.png", "train/b/1.png", "test/c/1.png"],
            "has pictures of c, which train lacks",
        ),
    ],
)
def test_pictures_without_classes_are_refused(paths: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        guessed(*paths)


def test_the_members_of_folders_and_archives(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    for name in ("cat/1.png", "dog/2.png", "__MACOSX/cat/1.png", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PICTURE)
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr("cat\\1.png", PICTURE)
        archive.writestr("dog/2.png", PICTURE)
    with tarfile.open(tmp_path / "pets.tar.gz", "w:gz") as archive_:
        archive_.add(folder, ".")
    for name in ("pets", "pets.zip", "pets.tar.gz"):
        paths, read = pictures.members(tmp_path / name)
        assert paths == ["cat/1.png", "dog/2.png"]
        assert list(read(["cat/1.png"])) == [PICTURE]
    decomposed = unicodedata.normalize("NFD", "Möwe/1.jfif")
    for name in (decomposed, "Möwe/2.png"):
        (tmp_path / "birds" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "birds" / name).write_bytes(PICTURE)
    paths, read = pictures.members(tmp_path / "birds")
    assert paths == ["Möwe/1.jfif", "Möwe/2.png"]
    assert list(read(["Möwe/1.jfif"])) == [PICTURE]
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match="broken.zip is not a complete zip file"):
        pictures.members(tmp_path / "broken.zip")


def test_files_beside_pictures_do_not_make_a_folder_one_of_rows(tmp_path: Path) -> None:
    folder = tmp_path / "snaps"
    folder.mkdir()
    names = ["apple_1.png", "pear-2.png", "apple 3.png", "pear (4).png"]
    for number, name in enumerate(names):
        (folder / name).write_bytes(random_picture(number, 40, 30))
    for name in ("Thumbs.db", ".DS_Store", "notes.txt"):
        (folder / name).write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "snaps.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    for name in ("snaps", "snaps.zip"):
        result = building.build(tmp_path / name, "snaps", {}, {})
        assert result.kind == "images"
        assert "2 classes by its name: apple 2 (50%), pear 2 (50%)" in result.lines[0]


LISTED = ["images/0001.png", "images/0002.png", "images/0003.png"]
TABLES = {
    "name,species": ["0001.png,cat", "0002.png,dog", "0003.png,cat"],
    "id;width;label": ["0001;9;cat", "0002;9;dog", "0003;8;cat"],
    "label\tpath": ["cat\timages/0001.png", "dog\timages/0002.png", "cat\timages/0003.png"],
}


@pytest.mark.parametrize("header", TABLES)
def test_a_table_beside_pictures_may_say_their_classes(tmp_path: Path, header: str) -> None:
    (tmp_path / "about.txt").write_text("three pictures")
    (tmp_path / "labels.csv").write_text("\n".join([header, *TABLES[header]]))
    tables = ["about.txt", "labels.csv"]
    found = picture_labels.listing(tmp_path, tables, LISTED, None)
    assert found is not None and found.file == "labels.csv"
    assert found.classes == dict(zip(LISTED, ["cat", "dog", "cat"], strict=True))
    below = found.below("pets")
    paths = [*below.classes, "pets/test/0009.png"]
    guess = pictures.pictures(paths, lambda names: iter([PICTURE] * len(names)), None, below)
    assert (guess.train, guess.ignored, guess.pattern) == (["pets/images"], ["pets/test"], None)
    assert guess.classes == {"cat": 2, "dog": 1} and guess.listing == below
    wrong = picture_labels.listing(tmp_path, tables, LISTED, "colour")
    assert wrong is None


def test_a_table_of_classes_in_a_zip_of_pictures_is_refused_by_name(tmp_path: Path) -> None:
    def write(table: str, pictures_in: str) -> Path:
        with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
            for number in range(1, 5):
                folder = ("cat", "dog")[number % 2] if pictures_in == "classes" else pictures_in
                archive.writestr(f"{folder}/000{number}.png", random_picture(number, 40, 30))
            archive.writestr("about.txt", "four pictures")
            archive.writestr("pets/list.csv", table)
        return tmp_path / "pets.zip"

    rows = "0001.png,cat\n0002.png,dog\n0003.png,cat\n0004.png,dog\n"
    message = (
        "pets.zip: `species` of pets/list.csv says the classes .*; unpack it, and name the folder"
    )
    with pytest.raises(UsageError, match=message):
        building.build(write(f"name,species\n{rows}", "images"), "pets", {}, {})
    # Here the folders are the classes, and the table says something else.
    result = building.build(write(f"name,camera\n{rows}", "classes"), "pets", {}, {})
    assert result.kind == "images"


def test_where_folders_are_the_classes_a_table_says_something_else(tmp_path: Path) -> None:
    paths = ["cat/1.png", "cat/2.png", "dog/3.png"]
    for header, cells in (("name,label", "cat cat dog"), ("name,camera", "old new old")):
        rows = [
            f"{Path(path).name},{cell}" for path, cell in zip(paths, cells.split(), strict=True)
        ]
        (tmp_path / "list.csv").write_text("\n".join([header, *rows]))
        found = picture_labels.listing(tmp_path, ["list.csv"], paths, None)
        assert found is not None
        guess = pictures.pictures(paths, lambda names: iter([PICTURE] * len(names)), None, found)
        assert guess.listing is None and guess.classes == {"cat": 2, "dog": 1}
    (tmp_path / "list.csv").write_text("file,camera\ncat.1.png,old\ndog.2.png,new\n")
    paths = ["cat.1.png", "dog.2.png"]
    found = picture_labels.listing(tmp_path, ["list.csv"], paths, None)
    guess = pictures.pictures(paths, lambda names: iter([PICTURE] * len(names)), None, found)
    assert guess.listing is None and guess.pattern is not None


def test_a_table_of_other_things_says_no_classes(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,label\n1,cat\n2,dog\n")
    assert picture_labels.listing(tmp_path, ["labels.csv"], LISTED, None) is None
    (tmp_path / "labels.csv").write_text("id,sha256\n0001,a\n0002,\n0003,c\n")
    assert picture_labels.listing(tmp_path, ["labels.csv"], LISTED, None) is None


def test_the_side_is_no_more_than_what_most_pictures_have() -> None:
    assert [pictures.side([side]) for side in (500, 128, 70, 50, 28, 5)] == [64, 64, 48, 32, 28, 8]
