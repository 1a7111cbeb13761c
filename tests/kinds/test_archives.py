"""The files of folders, zips and tars, with their paths."""

import io
import tarfile
import unicodedata
import zipfile
from collections.abc import Mapping
from pathlib import Path

import cases
import pytest
from builders import write_files, write_zip

from sextant.errors import DataError
from sextant.kinds import archives

FILES = {"a/1.png": b"one", "a/b/2.png": b"two", "3.png": b"three"}


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    """Write the files to a tar; a name that ends with a slash is a folder."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, raw in files.items():
            member = tarfile.TarInfo(name.removesuffix("/"))
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


def contents(path: Path, names_encoding: str | None = None) -> dict[str, bytes | None]:
    """The files of a folder or an archive by path, without folders."""
    if path.is_dir():
        members = archives.members_of_folder(path, names_encoding)
    else:
        members = archives.members_of_archive(path, names_encoding)
    return {member.path: member.raw for member in members if not member.is_folder}


@cases.each(
    ("name", "mode"),
    [
        ("x.tar", "w"),
        ("x.tar.gz", "w:gz"),
        ("x.TGZ", "w:gz"),
        ("x.tar.bz2", "w:bz2"),
        ("x.tar.xz", "w:xz"),
    ],
)
def test_tars_are_read(name, mode, tmp_path):
    path = write_tar(tmp_path / name, {"./a/": b""} | {f"./{k}": v for k, v in FILES.items()}, mode)
    assert archives.is_archive(path)
    assert contents(path) == FILES
    assert contents(tmp_path) == FILES


def test_the_suffix_of_a_zip_may_be_in_capitals(tmp_path):
    write_zip(tmp_path, FILES)
    (tmp_path / "pictures.zip").rename(tmp_path / "PICTURES.ZIP")
    assert contents(tmp_path / "PICTURES.ZIP") == FILES
    assert contents(tmp_path) == FILES


def test_files_and_archives_of_a_folder_stand_beside_each_other(tmp_path):
    write_files(tmp_path, {"loose/4.png": b"four"})
    write_zip(tmp_path / "deep", {"5.png": b"five"})
    write_tar(tmp_path / "x.tar.gz", FILES)
    expected = {**FILES, "loose/4.png": b"four", "5.png": b"five"}
    assert contents(tmp_path) == expected


def test_a_backslash_separates_folders(tmp_path):
    """As in zips of old programs on Windows, and in what was unpacked from them on Linux."""
    files = {"a\\1.png": b"one", "a\\b\\2.png": b"two", "3.png": b"three"}
    write_zip(tmp_path / "zip", files | {"a\\c\\": b""})
    assert contents(tmp_path / "zip") == FILES
    assert contents(write_files(tmp_path / "loose", files)) == FILES


NAME = "Übelkrähe/Möwe.png"


def test_names_are_composed(tmp_path):
    decomposed = unicodedata.normalize("NFD", NAME)
    assert decomposed != NAME
    assert contents(write_zip(tmp_path / "zip", {decomposed: b"x"})) == {NAME: b"x"}
    assert contents(write_files(tmp_path / "loose", {decomposed: b"x"})) == {NAME: b"x"}
    path = write_tar(tmp_path / "x.tar", {decomposed: b"x"}, "w")
    assert contents(path) == {NAME: b"x"}


def write_plain_zip(path: Path, name: bytes) -> Path:
    """Write a zip of one file whose name is not marked as UTF-8."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x" * len(name), b"x")
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
    return path


@cases.each(
    ("encoding", "named"),
    [
        ("cp437", None),
        ("utf-8", None),
        ("cp437", "cp437"),
        ("cp850", "cp850"),
        ("cp1252", "cp1252"),
    ],
)
def test_names_that_are_not_marked_as_utf_8_are_read_by_names_encoding(encoding, named, tmp_path):
    path = write_plain_zip(tmp_path / "x.zip", NAME.encode(encoding))
    assert contents(path, named) == {NAME: b"x"}


def test_a_name_in_another_encoding_is_refused(tmp_path):
    path = write_plain_zip(tmp_path / "x.zip", NAME.encode("cp1252"))
    message = r"x.zip contains a name that is not utf-8: \\xdcbelkr.*; correct `names_encoding`"
    with pytest.raises(DataError, match=message):
        contents(path, "utf-8")


@cases.each(
    "name", ["../out", "a/../../out", "/out", "..\\out", "a\\..\\..\\out", "C:\\out", "\\out"]
)
@cases.each("form", ["zip", "tar"])
def test_a_path_outside_the_folder_is_refused(name, form, tmp_path):
    if form == "zip":
        path = write_zip(tmp_path, {name: b"x"}) / "pictures.zip"
    else:
        path = write_tar(tmp_path / "x.tar", {name: b"x"}, "w")
    with pytest.raises(DataError, match="contains .*out', a path outside its folder; pull it"):
        contents(path)


def test_system_files_are_not_read(tmp_path):
    hidden = [
        "a/.DS_Store",
        "a/_DS_Store",
        "a/Thumbs.db",
        "a/desktop.ini",
        "a/Desktop.INI",
        "__MACOSX/a/._1.png",
        ".git/config",
        "a/.ipynb_checkpoints/1.png",
        "@eaDir/1.png",
    ]
    for name in hidden:
        assert archives.is_system_file(name)
    for name in ("a/1.png", "desktop/ini.png", "Thumbs/1.png"):
        assert not archives.is_system_file(name)
    files = FILES | dict.fromkeys(hidden, b"x")
    expected = FILES | dict.fromkeys(hidden)
    assert contents(write_zip(tmp_path / "zip", files)) == expected
    assert contents(write_files(tmp_path / "loose", files)) == expected


@cases.each("mode", ["w:gz", "w:bz2", "w:xz", "w"])
@cases.each("share", [0, 0.3, 0.7])
def test_a_truncated_tar_is_refused(mode, share, tmp_path):
    files = {f"{i}.png": bytes(range(256)) * 9 for i in range(9)}
    path = write_tar(tmp_path / "x.tar", files, mode)
    complete = path.read_bytes()
    path.write_bytes(complete[: int(len(complete) * share)])
    with pytest.raises(DataError, match=r"x.tar is not a complete tar file \(.+\); pull it again"):
        contents(path)


def test_links_in_a_tar(tmp_path):
    """A file that stands twice may be written once; a link to elsewhere is refused."""
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("a/1.png")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"one"))
        member = tarfile.TarInfo("b/1.png")
        member.type, member.linkname = tarfile.LNKTYPE, "a/1.png"
        archive.addfile(member)
    assert contents(tmp_path / "x.tar") == {"a/1.png": b"one", "b/1.png": b"one"}
    with tarfile.open(tmp_path / "x.tar", "a") as archive:
        member = tarfile.TarInfo("c/1.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match="x.tar contains a link to a file that it lacks"):
        contents(tmp_path / "x.tar")


def test_a_large_file_in_an_archive_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 4)
    message = "contains 3.png, 5 bytes; expected at most 4; remove it, or unpack it into a folder"
    with pytest.raises(DataError, match=message):
        contents(write_zip(tmp_path, FILES) / "pictures.zip")
    with pytest.raises(DataError, match=message):
        contents(write_tar(tmp_path / "x.tar", FILES, "w"))
