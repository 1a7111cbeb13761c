"""The files of a folder, of the zips and tars in it, and of one of these alone, with their paths.

A path has `/` between its parts, whatever system wrote it, and its letters are in Unicode's
composed form (NFC): macOS writes the decomposed one, in which an umlaut is two characters.
"""

import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple, TypeAlias

from ..errors import DataError, describe

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVES = (".zip", *TARS)
MAX_BYTES = 2**26  # of one file in an archive; a larger one is not unpacked

# Files that systems and programs add to a folder, in lower case. Hidden ones begin with a dot.
SYSTEM_FILES = ("_ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
SYSTEM_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information")
SHOWN = 200  # characters of an error in a message; some list the bytes of a damaged header
REMEDY = "pull it again, or recreate it"


Wanted: TypeAlias = Callable[[str], bool]  # whether a file is read, by its path


class Member(NamedTuple):
    """A file or a folder; `raw` is None for a folder, and for a file that is not read."""

    path: str
    raw: bytes | None
    is_folder: bool


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or a tar by its name, in capitals or not."""
    return path.name.lower().endswith(ARCHIVES)


def members_of_folder(
    folder: Path, names_encoding: str | None, without: frozenset[str] = frozenset()
) -> Iterator[Member]:
    """Yield what is in a folder and in its archives, as if these were unpacked into it.

    `without` are paths to pass over. Raises DataError as `members_of_archive` does.
    """
    for path in folder.rglob("*"):
        name = _read_name(str(path.relative_to(folder)).encode(errors="surrogateescape"), None)
        if name in without:
            continue
        if path.is_dir():
            yield Member(name, None, True)
        elif is_archive(path) and not is_system_file(name):
            yield from members_of_archive(path, names_encoding)
        else:
            yield Member(name, None if is_system_file(name) else path.read_bytes(), False)


def is_user_file(path: str) -> bool:
    """Whether a path is none of those that systems add."""
    return not is_system_file(path)


def members_of_archive(
    path: Path, names_encoding: str | None, wanted: Wanted = is_user_file
) -> Iterator[Member]:
    """Yield what is in a zip or a tar; only `wanted` files are read.

    `names_encoding` is that of names in a zip that does not mark them as UTF-8; None: UTF-8 where a
    name is, and otherwise code page 437, which the format prescribes.
    Raises DataError for an archive that is incomplete, has a path outside its folder, a wanted file
    above MAX_BYTES, or a name that is not in the encoding.
    """
    if path.suffix.lower() == ".zip":
        yield from _zip_members(path, names_encoding, wanted)
    else:
        yield from _tar_members(path, names_encoding, wanted)


def is_system_file(path: str) -> bool:
    """Whether a path is hidden, or one of those that macOS, Windows and others add."""
    parts = [part.lower() for part in PurePosixPath(path).parts]
    if parts and parts[-1] in SYSTEM_FILES:
        return True
    return any(part.startswith((".", "__macosx")) or part in SYSTEM_FOLDERS for part in parts)


def composed(name: str) -> str:
    """A path with `/` between its parts, without `.` among them, in NFC."""
    plain = PurePosixPath(name.replace("\\", "/")).as_posix()
    return unicodedata.normalize("NFC", plain)


def _zip_members(path: Path, names_encoding: str | None, wanted: Wanted) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = _zip_name(path, member, names_encoding)
                # A folder's name ends with a slash, or with the backslash of old Windows programs.
                if member.filename.endswith(("/", "\\")):
                    yield Member(name, None, True)
                    continue
                if not wanted(name):
                    yield Member(name, None, False)
                    continue
                _check_size(path, name, member.file_size)
                yield Member(name, archive.read(member), False)
    except DataError:
        raise
    except Exception as error:  # damaged bytes raise errors of a dozen types
        raise DataError(
            f"{path.name} is not a complete zip file ({describe(error)[:SHOWN]}); {REMEDY}"
        ) from None


def _zip_name(path: Path, member: zipfile.ZipInfo, names_encoding: str | None) -> str:
    """Return the path of a member of the zip at `path`; see `members_of_archive`."""
    name = member.filename
    is_utf8 = bool(member.flag_bits & 0x800)
    # From Python 3.13 on, `filename` is the name in the extra field, if there is one, in UTF-8.
    is_replaced = name != member.orig_filename.partition("\0")[0]
    if not is_utf8 and not is_replaced:
        # zipfile has read it as code page 437, which loses nothing.
        name = _checked_name(path, name.encode("cp437"), names_encoding)
    _check_inside(path, name)
    return composed(name)


def _tar_members(path: Path, names_encoding: str | None, wanted: Wanted) -> Iterator[Member]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                raw_name = member.name.encode("utf-8", "surrogateescape")
                name = _checked_name(path, raw_name, names_encoding)
                _check_inside(path, name)
                name = composed(name)
                if member.isdir():
                    yield Member(name, None, True)
                    continue
                if not (member.isfile() or member.issym() or member.islnk()):
                    raise DataError(f"{path.name} contains {name}, which is no file; {REMEDY}")
                if not wanted(name):
                    yield Member(name, None, False)
                    continue
                _check_size(path, name, member.size)
                yield Member(name, _tar_content(archive, member, name), False)
            _check_end(archive)
    except DataError:
        raise
    except KeyError as error:
        reason = f"a link to a file that it lacks: {error}"
        raise DataError(f"{path.name} contains {reason}; {REMEDY}") from None
    except Exception as error:  # damaged bytes raise errors of a dozen types
        # tarfile's own message goes on with a line for each compression that it tried.
        reason = describe(error).partition(" successfully:")[0][:SHOWN]
        raise DataError(f"{path.name} is not a complete tar file ({reason}); {REMEDY}") from None


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise EOFError for a tar that was cut between two files; tarfile takes it for a whole one."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if not archive.fileobj.read(tarfile.BLOCKSIZE):
        raise EOFError("its end is missing")


def _tar_content(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> bytes:
    """The bytes of a file, also of one that is a link to another file of the same tar."""
    stream = archive.extractfile(member)
    if stream is None:
        raise EOFError(f"{name} has no content")
    raw = stream.read(MAX_BYTES + 1)
    if member.isfile() and len(raw) != member.size:
        raise EOFError(f"{name} ends after {len(raw):,} of {member.size:,} bytes")
    return raw


def _check_size(path: Path, name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise DataError(
            f"{path.name} contains {name}, {size:,} bytes; expected at most {MAX_BYTES:,}; remove"
            " it, or unpack it into a folder"
        )


def _check_inside(path: Path, name: str) -> None:
    """Raise DataError for a path that would be written outside the folder of the archive."""
    posix = PurePosixPath(name.replace("\\", "/"))
    if posix.is_absolute() or ".." in posix.parts or PureWindowsPath(name).drive:
        raise DataError(f"{path.name} contains {name!r}, a path outside its folder; {REMEDY}")


def _checked_name(path: Path, raw: bytes, names_encoding: str | None) -> str:
    try:
        return _text(raw, names_encoding)
    except UnicodeDecodeError:
        escaped = raw.decode("ascii", "backslashreplace")
        raise DataError(
            f"{path.name} contains a name that is not {names_encoding}: {escaped};"
            " correct `names_encoding` in the conf"
        ) from None


def _read_name(raw: bytes, names_encoding: str | None) -> str:
    return composed(_text(raw, names_encoding))


def _text(raw: bytes, names_encoding: str | None) -> str:
    if names_encoding is not None:
        return raw.decode(names_encoding)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")
