"""The confs of pictures."""

from collections.abc import Sequence

from . import confs, expectations, layout, models
from .pictures import ArrayFiles, Pictures
from .result import Result

SHARES = {"train": 0.6, "val": 0.1, "gate": 0.1, "test": 0.2}
SHARES_WITH_TEST = {"train": 0.8, "val": 0.1, "gate": 0.1, "test": 0.0}
SHOWN = 8  # classes in the summary


def result(
    name: str, file: str, found: Pictures, target: str, pinned: Sequence[confs.Pinned]
) -> Result:
    """The three confs of pictures, and what the summary says of them."""
    shares = SHARES_WITH_TEST if found.test else SHARES
    count = sum(found.classes.values())
    summary = f"{name}: {count:,} pictures of {len(found.classes)} classes in {file}."
    smallest = max(2, min(16, found.shortest))
    dataset = [
        *confs.head(name, summary),
        *confs.sources(pinned),
        *_columns(found, target, smallest),
        *confs.hash_split(shares, 0, "the picture"),
        *confs.twin(),
    ]
    trained = round(found.trained * shares["train"])
    size = models.Size(trained, side=found.side, photos=found.photos, grey=found.grey)
    question = f"Which {target} is it? A residual net, trained from scratch."
    suite = expectations.pictures(target, list(found.classes), count, smallest)
    return Result(
        kind="images",
        family="cnn",
        task="classification",
        dataset="\n".join(dataset) + "\n",
        expectations=expectations.text(name, file, suite),
        model=models.text(name, question, "cnn", "classification", size),
        lines=_lines(found, target),
        doubts=list(found.doubts),
    )


def _columns(found: Pictures, target: str, smallest: int) -> list[str]:
    lines = ["columns:", "  files:"]
    if found.pixels is not None:
        lines += _pixels(found, found.pixels)
    elif found.arrays is not None:
        lines += _arrays(found.arrays)
    else:
        lines += _folders(found)
    lines += [
        layout.line(2, "target", layout.scalar(target), "what the classes are called"),
        layout.line(2, "channels", "1" if found.grey else "3", "1: grey, 3: colour"),
        layout.line(
            2, "size", str(found.side), "side in pixels; the largest centred square is scaled to it"
        ),
        layout.line(2, "flat", "8", "side in pixels for logistic regression, a baseline"),
        layout.line(2, "smallest", str(smallest), "a picture with a shorter side is refused"),
    ]
    if found.leaves_out:
        note = "pictures that cannot be decoded"
        lines.append(layout.line(2, "leave_out", "undecodable", note))
    return lines


def _folders(found: Pictures) -> list[str]:
    train_note = "folders of pictures" if found.pattern else "<folder>/<class>/<picture>"
    lines = [
        layout.line(4, "format", "folders", "loose or in an archive"),
        layout.line(4, "train", layout.flow(found.train), train_note),
        layout.line(4, "test", layout.flow(found.test), "those reserved for testing"),
    ]
    if found.ignored:
        lines.append(layout.line(4, "ignored", layout.flow(found.ignored), "passed over"))
    if found.pattern:
        lines.append(layout.line(4, "pattern", layout.scalar(found.pattern), "finds the class"))
    note = "a CSV of keys; null: the content of a picture is its key"
    return [*lines, layout.line(4, "index", "null", note)]


def _pixels(found: Pictures, pattern: str) -> list[str]:
    return [
        layout.line(4, "format", "pixels", "a row is a picture, a column a pixel"),
        *confs.file_format(found.form, 4),
        layout.line(4, "train", layout.flow(found.train), "files"),
        layout.line(4, "test", "[]", "those reserved for testing"),
        layout.line(4, "pixels", layout.scalar(pattern), "the columns, in the order of numbers"),
    ]


def _arrays(files: ArrayFiles) -> list[str]:
    note = "files of bytes, as MNIST has them" if files.format == "idx" else "NumPy's files"
    lines = [layout.line(4, "format", files.format, note)]
    for part, entries in (("train", files.train), ("test", files.test)):
        if not entries:
            lines.append(f"    {part}: []")
            continue
        lines.append(f"    {part}:")
        lines += [f"      - {layout.flow_map(entry)}" for entry in entries]
    return lines


def _lines(found: Pictures, target: str) -> list[str]:
    total = sum(found.classes.values())
    most = sorted(found.classes.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{label} {count:,} ({count / total:.0%})" for label, count in most[:SHOWN])
    more = f", and {len(most) - SHOWN} more" if len(most) > SHOWN else ""
    source = "the folder of a picture" if found.pattern is None else "its name"
    if found.label is not None:
        source = f"{'the column' if found.arrays is None else 'the array'} {found.label}"
    place = f"train: {', '.join(found.train)}"
    if found.pixels is not None:
        place += f"; a column for each pixel: {found.pixels}"
    if found.test:
        place += f"; test: {', '.join(found.test)} ({found.tested:,} pictures)"
    colour = "grey" if found.grey else "in colour"
    return [
        f"target: {target}, {len(most)} classes by {source}: {shown}{more}",
        place,
        f"pictures: {total:,}, {colour}, short sides from {found.shortest} pixels; prepared as"
        f" {found.side} x {found.side}",
    ]
