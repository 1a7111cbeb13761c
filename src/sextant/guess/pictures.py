"""Pictures: which folders have the classes, and how large the pictures are."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from ..errors import UsageError
from ..kinds import archives, pixels
from .picture_labels import Listing

TEST = re.compile(r"(.*[_\W])?(test|testing|test[_ -]?(set|images?|data)|holdout)", re.IGNORECASE)
TRAIN = re.compile(r"(.*[_\W])?(train|training|train(ing)?[_ -]?(set|images?|data))", re.IGNORECASE)
VAL = re.compile(r"(.*[_\W])?(val|valid|validation|dev)([_ -]?(set|images?|data))?", re.IGNORECASE)
SAMPLE = 60  # pictures that are decoded
MOST_CLASSES = 100
GREY_MODES = ("1", "L", "LA", "I", "I;16", "F")
CLASS_IN_NAME = r"^([A-Za-z]+)[ ._-]*[(]?[0-9]"  # cat.0.jpg, cat_12.png, cat (3).jpg
SIDES = (64, 48, 32)  # of the prepared pictures, in pixels, for larger ones

# The contents of the pictures with these paths, in any order.
Reader: TypeAlias = Callable[[Collection[str]], Iterator[bytes]]


class ArrayFiles(NamedTuple):
    """Pictures and classes as arrays: `format` and the entries of `columns.files`."""

    format: str
    train: list[dict[str, str]]
    test: list[dict[str, str]]


@dataclass
class Pictures:
    """Folders that contain a folder for each class, and what the pictures are like."""

    train: list[str]
    test: list[str]
    ignored: list[str]  # folders without classes
    pattern: str | None  # of the class in a name; None: the folder is the class
    classes: dict[str, int]  # the number of pictures of each
    tested: int  # pictures in the folders of `test`
    side: int
    grey: bool
    shortest: int
    photos: bool
    doubts: list[str] = field(default_factory=list)
    leaves_out: bool = False  # pictures that cannot be decoded
    # Of a table with a column for each pixel: their pattern, its format, and the column of classes.
    pixels: str | None = None
    form: Mapping[str, object] = field(default_factory=dict)
    label: str | None = None  # also the array of classes
    arrays: ArrayFiles | None = None
    listing: Listing | None = None  # the table that says the classes

    @property
    def files(self) -> list[str]:
        """The files of `arrays`."""
        if self.arrays is None:
            return []
        names = []
        for entry in [*self.arrays.train, *self.arrays.test]:
            names += [entry["file"]] if "file" in entry else [entry["images"], entry["labels"]]
        return list(dict.fromkeys(names))

    @property
    def trained(self) -> int:
        """The number of pictures outside of the folders of `test`."""
        return sum(self.classes.values()) - self.tested


def members(path: Path) -> tuple[list[str], Reader]:
    """The pictures in a folder or an archive by their paths there, and a reader of some of them.

    Raises DataError for an archive that cannot be opened.
    """
    if path.is_dir():
        files = {}
        for file in path.rglob("*"):
            name = archives.composed(file.relative_to(path).as_posix())
            if file.is_file() and is_picture(name):
                files[name] = file
        return sorted(files), lambda names: (files[name].read_bytes() for name in names)

    def read(names: Collection[str]) -> Iterator[bytes]:
        for member in archives.members_of_archive(path, None, frozenset(names).__contains__):
            if member.raw is not None:
                yield member.raw

    paths = []
    for member in archives.members_of_archive(path, None, lambda name: False):
        if not member.is_folder and is_picture(member.path):
            paths.append(member.path)
    return sorted(paths), read


def is_picture(name: str) -> bool:
    """Whether a path is that of a picture, and not hidden or added by a system."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in pixels.PICTURE_SUFFIXES and not archives.is_system_file(name)


def pictures(
    paths: Sequence[str], read: Reader, size: int | None = None, listing: Listing | None = None
) -> Pictures:
    """The layout of pictures at `paths`; raises UsageError if nothing says their classes.

    `listing` is a table that may say them.
    """
    doubts: list[str] = []
    places = by_place(paths)
    pattern = None
    ignored: list[str] = []
    if listing is not None and _has_other_classes(paths, bool(places), listing):
        listing = None
    if listing is not None:
        places, ignored = by_listing(paths, listing)
        doubts.append(
            f"the class is `{listing.target}` of {listing.file} (TARGET=… another column)"
        )
    elif not places:
        pattern, places, ignored = by_name(paths)
        doubts.append(f"the class is what `{pattern}` finds in a name, such as {paths[0]}")
    if ignored:
        doubts.append(f"nothing says the classes in {', '.join(ignored)}: left aside")
    train, test = _train_and_test(list(places), doubts)
    classes: Counter[str] = Counter()
    for counted in places.values():
        classes += counted
    if len(classes) < 2:
        raise UsageError(
            f"all pictures are of class {next(iter(classes), 'none')}; expected a folder for each"
            " of two classes or more"
        )
    _check_test(places, train, test)
    sides, modes = _sampled(paths, read)
    if not sides:
        raise UsageError("no picture of a sample could be decoded; check the files")
    grey = all(mode in GREY_MODES for mode in modes)
    photos = not (grey and np.median(sides) <= 40) and not all(len(name) <= 2 for name in classes)
    if not photos:
        doubts.append(
            "a mirrored picture may be another class: `mirror` is off in the model's conf"
        )
    return Pictures(
        train=train,
        test=test,
        ignored=ignored,
        pattern=pattern,
        classes=dict(sorted(classes.items())),
        tested=sum(sum(places[place].values()) for place in test),
        side=size or side(sides),
        grey=grey,
        shortest=min(sides),
        photos=photos,
        doubts=doubts,
        listing=listing,
    )


def is_needed(paths: Sequence[str], listing: Listing) -> bool:
    """Whether the classes of pictures are those that a table says, and not folders or names."""
    return not _has_other_classes(paths, bool(by_place(paths)), listing)


def _has_other_classes(paths: Sequence[str], in_folders: bool, listing: Listing) -> bool:
    """Whether folders or names are the classes, and the table says something else of pictures."""
    if in_folders:
        return not (listing.is_named and listing.differs)
    if listing.is_named:
        return False
    try:
        by_name(paths)
    except UsageError:
        return False
    return True


def by_place(paths: Sequence[str]) -> dict[str, Counter[str]]:
    """The number of pictures of each class by the folder of the classes; {} if there is none.

    The class is the folder that a picture lies in, unless that is a part such as `train`.
    """
    places: dict[str, Counter[str]] = {}
    for name in paths:
        folder = PurePosixPath(name).parent
        if folder == PurePosixPath("."):
            return {}
        places.setdefault(folder.parent.as_posix(), Counter())[folder.name] += 1
    for labels in places.values():
        if all(_is_part(label) for label in labels) or sum(map(len, places.values())) < 2:
            return {}
    return places


def by_listing(paths: Sequence[str], listing: Listing) -> tuple[dict[str, Counter[str]], list[str]]:
    """The number of pictures of each class by folder, and the folders without a listed one."""
    places: dict[str, Counter[str]] = {}
    folders = set()
    for name in paths:
        folder = PurePosixPath(name).parent.as_posix()
        folders.add(folder)
        if name in listing.classes:
            places.setdefault(folder, Counter())[listing.classes[name]] += 1
    return places, sorted(folders - set(places))


def by_name(paths: Sequence[str]) -> tuple[str, dict[str, Counter[str]], list[str]]:
    """The pattern of the class in names such as cat.0.jpg, its counts by folder, and the folders
    without classes.

    Raises UsageError if names say no class.
    """
    places: dict[str, Counter[str]] = {}
    totals: Counter[str] = Counter()
    for name in paths:
        path = PurePosixPath(name)
        folder = path.parent.as_posix()
        totals[folder] += 1
        match = re.match(CLASS_IN_NAME, path.name)
        if match:
            places.setdefault(folder, Counter())[match[1]] += 1
    for folder, counted in list(places.items()):
        if sum(counted.values()) < 0.99 * totals[folder] or len(counted) > MOST_CLASSES:
            del places[folder]
    classes = {label for counted in places.values() for label in counted}
    if len(classes) < 2:
        raise UsageError(
            f"nothing says the classes of the pictures, such as {paths[0]}; put those of each class"
            " into a folder of its name, or a CSV with the columns path and label beside them"
        )
    return CLASS_IN_NAME, places, sorted(set(totals) - set(places))


def _is_part(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (TRAIN, VAL, TEST))


def _train_and_test(places: list[str], doubts: list[str]) -> tuple[list[str], list[str]]:
    """The folders to train on, and those that the source reserves for testing."""
    test = [place for place in places if TEST.fullmatch(PurePosixPath(place).name)]
    val = [place for place in places if VAL.fullmatch(PurePosixPath(place).name)]
    train = [place for place in places if place not in test]
    if val and not test and len(train) > len(val):
        doubts.append(f"{', '.join(val)} is the test part")
        return [place for place in train if place not in val], val
    if val and train != val:
        doubts.append(f"{', '.join(val)} is trained on as well: val is chosen by hash")
    if not train:
        return test, []
    return train, test


def _check_test(places: dict[str, Counter[str]], train: list[str], test: list[str]) -> None:
    trained = {label for place in train for label in places[place]}
    tested = {label for place in test for label in places[place]}
    if test and tested - trained:
        raise UsageError(
            f"{', '.join(test)} has pictures of {', '.join(sorted(tested - trained)[:3])}, which"
            f" {', '.join(train)} lacks; name the classes alike, or leave the folder out"
        )


def side(sides: Sequence[int]) -> int:
    """The side of the prepared pictures, in pixels: no more than what most pictures have."""
    usual = int(np.median(sides))
    for candidate in SIDES:
        if usual >= candidate * 1.25:
            return candidate
    return max(8, usual)


def _sampled(paths: Sequence[str], read: Reader) -> tuple[list[int], list[str]]:
    """The short sides in pixels and the modes of a sample of pictures."""
    sides = []
    modes = []
    for content in read(paths[:: max(1, len(paths) // SAMPLE)]):
        try:
            with pixels.opened(content) as image:
                sides.append(min(image.size))
                modes.append(_mode(image))
        except Exception:  # what Pillow's thirty decoders raise; prepare names the picture
            continue
    return sides, modes


def _mode(image: Image.Image) -> str:
    """The mode of a picture; one in colour whose channels are all equal is grey."""
    if image.mode not in ("RGB", "RGBA", "P"):
        return image.mode
    pixels = np.asarray(image.convert("RGB"))
    is_grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    return "L" if is_grey else "RGB"
