"""Clips: which folders have them, their classes, and how long and large they are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import DataError, UsageError
from ..kinds import archives
from ..kinds.clips.columns import Columns, Folders
from ..kinds.clips.rows import films
from . import pictures

SAMPLE = 20  # clips that are decoded
MOST_SEEN = 10  # frames that a model sees
LONGEST = 20  # frames that are prepared of a clip
SIDES = (64, 48, 32, 16)  # of the prepared frames, in pixels; a family cuts them into squares
FRAME_WORDS = ("frame", "img", "image")  # with which the names of frames begin


class Paths(NamedTuple):
    """The path of each clip in a folder or an archive, and the files that it has."""

    files: dict[str, list[str]]
    read: pictures.Reader


@dataclass
class Clips:
    """Folders that contain clips, or a folder of them for each class, and what these are like."""

    train: list[str]
    test: list[str]
    classes: dict[str, int]  # the number of clips of each; {} if folders are no classes
    count: int
    tested: int  # clips in the folders of `test`
    side: int
    grey: bool
    shortest: int  # frames
    past: int
    future: int
    doubts: list[str] = field(default_factory=list)


def clip_paths(path: Path) -> Paths:
    """The clips in a folder or an archive: films and GIFs, and folders of pictures.

    Raises DataError for an archive that cannot be opened.
    """
    names, read = pictures.members(path)
    if path.is_dir():
        for file in path.rglob("*"):
            name = archives.composed(file.relative_to(path).as_posix())
            if file.is_file() and films.is_film(name) and not archives.is_system_file(name):
                names.append(name)
        read = _reader(path)
    else:
        for member in archives.members_of_archive(path, None, lambda name: False):
            if not member.is_folder and films.is_film(member.path):
                names.append(member.path)
    files: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        clip = name if films.is_film(name) else PurePosixPath(name).parent.as_posix()
        files.setdefault(clip, []).append(name)
    return Paths(files, read)


def _reader(folder: Path) -> pictures.Reader:
    return lambda names: ((folder / name).read_bytes() for name in names)


def has_clips(paths: Paths) -> bool:
    """Whether files are clips rather than pictures, without being asked for: most are films, or
    GIFs of several frames, or the pictures of each folder are named as frames and numbered."""
    is_film = [films.is_film(name) for name in paths.files]
    if sum(is_film) * 2 > len(is_film):
        sample = [name for name in paths.files if films.is_film(name)][:: max(1, len(is_film) // 5)]
        animated = 0
        for name, raw in zip(sample, paths.read(sample), strict=True):
            animated += not name.lower().endswith(films.ANIMATIONS) or _is_animated(raw)
        return animated * 2 > len(sample)
    numbered = 0
    for files in paths.files.values():
        stems = [PurePosixPath(name).stem.lower() for name in files]
        named = all(stem.startswith(FRAME_WORDS) and stem[-1].isdigit() for stem in stems)
        numbered += named and len(stems) >= 2
    return len(paths.files) > 1 and numbered == len(paths.files)


def _is_animated(raw: bytes) -> bool:
    try:
        return len(films.from_file(raw, _columns(8, 1), "a clip").frames) > 1
    except DataError:
        return False


def _columns(size: int, channels: int) -> Columns:
    block = {"files": Folders(format="folders"), "size": size, "channels": channels}
    return Columns.model_validate(block)


def clips(paths: Paths, options: Mapping[str, str], prefix: str = "") -> Clips:
    """The layout of clips; `prefix` is the folder that `pull` puts them into, with a slash.

    Raises UsageError if there are none, too short ones, or no classes where these are asked for.
    """
    if not paths.files:
        raise UsageError("no clips: expected folders of frames, GIFs or films such as MP4")
    doubts: list[str] = []
    places, classes = _places(paths.files, prefix)
    if options.get("task") == "classification" and len(classes) < 2:
        raise UsageError(
            "nothing says the classes of the clips; put those of each class into a folder of its"
            " name"
        )
    is_classified = len(classes) >= 2 and options.get("task") != "frames"
    test = [place for place in places if pictures.TEST.fullmatch(PurePosixPath(place).name)]
    train = [place for place in places if place not in test] or test
    if train == test:
        test = []
    sample = _sampled(paths)
    shortest_name = min(sample, key=lambda name: len(sample[name].frames))
    shortest = len(sample[shortest_name].frames)
    grey = all(_is_grey(film) for film in sample.values())
    side = min(min(film.width, film.height) for film in sample.values())
    past, future = _lengths(shortest, shortest_name, is_classified)
    doubts.append(
        f"the first {past + future} frames of a clip are used, since the shortest of a sample,"
        f" {shortest_name}, has {shortest}: `past` and `future` in the conf"
    )
    return Clips(
        train=train,
        test=test,
        classes=classes if is_classified else {},
        count=len(paths.files),
        tested=sum(places[place] for place in test),
        side=int(options["size"]) if "size" in options else _prepared_side(side),
        grey=grey,
        shortest=shortest,
        past=past,
        future=future,
        doubts=doubts,
    )


def _places(
    files: Mapping[str, Sequence[str]], prefix: str
) -> tuple[dict[str, int], dict[str, int]]:
    """The number of clips by folder of `columns.files`, and by class: the first folder below one.

    That folder is a part of the source, such as `train`, where one is; otherwise the top.
    """
    places: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    top = prefix.rstrip("/") or "."
    for clip in files:
        parts = PurePosixPath(clip).parts
        place = top
        if len(parts) > 1 and _is_part(parts[0]):
            place = f"{prefix}{parts[0]}"
            parts = parts[1:]
        places[place] += 1
        if len(parts) > 1:
            classes[parts[0]] += 1
    if sum(classes.values()) != len(files):  # some lie in no folder of a class
        return dict(places), {}
    return dict(places), dict(sorted(classes.items()))


def _is_part(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (pictures.TRAIN, pictures.TEST))


def _sampled(paths: Paths) -> dict[str, films.Film]:
    """Some clips by path, decoded in colour at 32 pixels; raises UsageError if none can be."""
    decoded: dict[str, films.Film] = {}
    columns = _columns(32, 3)
    for clip in list(paths.files)[:: max(1, len(paths.files) // SAMPLE)]:
        names = paths.files[clip]
        contents = dict(zip(sorted(names), paths.read(sorted(names)), strict=False))
        try:
            if films.is_film(clip):
                decoded[clip] = films.from_file(contents[clip], columns, clip)
            else:
                decoded[clip] = films.from_pictures(list(contents.items()), columns, clip)
        except DataError:  # prepare names the clip
            continue
    if not decoded:
        raise UsageError("no clip of a sample could be decoded; check the files")
    return decoded


def _is_grey(film: films.Film) -> bool:
    frames = film.frames.astype(int)
    return bool((abs(frames - frames.mean(3, keepdims=True)) <= 2).all())


def _prepared_side(shortest: int) -> int:
    for side in SIDES:
        if shortest >= side:
            return side
    raise UsageError(f"a clip has frames of {shortest} pixels; expected at least {SIDES[-1]}")


def _lengths(shortest: int, name: str, is_classified: bool) -> tuple[int, int]:
    """`past` and `future` for clips of at least so many frames, which the clip `name` has."""
    if is_classified and shortest >= 2:
        return min(MOST_SEEN, shortest), 0
    if shortest < 3:
        count = "one frame" if shortest == 1 else f"{shortest} frames"
        least = "2" if is_classified else "3, to see two and answer the next"
        raise UsageError(f"{name} has {count}; expected at least {least}; remove the clip")
    past = min(MOST_SEEN, max(2, shortest // 2))
    return past, min(LONGEST - past, shortest - past)
