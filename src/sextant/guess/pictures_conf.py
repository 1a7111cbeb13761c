"""The confs of pictures."""

from collections.abc import Sequence

from . import confs, expectations, layout, models
from .pictures import ArrayFiles, Pictures
from .result import Result

SHARES = {"train": 0.6, "val": 0.1, "gate": 0.1, "test": 0.2}
SHARES_WITH_TEST = {"train": 0.8, "val": 0.1, "gate": 0.1, "test": 0.0}
SHOWN = 8  # classes in the summary


def result(
    name: str, file: str, guess: Pictures, target: str, pinned: Sequence[confs.Pinned]
) -> Result:
    """The three confs of pictures, and what the summary says of them."""
    shares = SHARES_WITH_TEST if guess.test else SHARES
    count = sum(guess.classes.values())
    summary = f"{name}: {count:,} pictures of {len(guess.classes)} classes in {file}."
    smallest = max(2, min(16, guess.shortest))
    dataset = [
        *confs.head(name, summary),
        *confs.sources(pinned),
        *_columns(guess, target, smallest),
        *confs.hash_split(shares, 0, "the picture"),
        *confs.twin(),
    ]
    trained = round(guess.trained * shares["train"])
    size = models.Size(trained, side=guess.side, photos=guess.photos, grey=guess.grey)
    question = f"Which {target} is it? A residual net, trained from scratch."
    suite = expectations.pictures(target, list(guess.classes), count, smallest)
    return Result(
        kind="images",
        family="cnn",
        task="classification",
        dataset="\n".join(dataset) + "\n",
        expectations=expectations.text(name, file, suite),
        model=models.text(name, question, "cnn", "classification", size),
        lines=_lines(guess, target),
        doubts=list(guess.doubts),
    )


def _columns(guess: Pictures, target: str, smallest: int) -> list[str]:
    lines = ["columns:", "  files:"]
    if guess.pixels is not None:
        lines += _pixels(guess, guess.pixels)
    elif guess.arrays is not None:
        lines += _arrays(guess.arrays)
    else:
        lines += _folders(guess)
    lines += [
        layout.line(2, "target", layout.scalar(target), "what the classes are called"),
        layout.line(2, "channels", "1" if guess.grey else "3", "1: grey, 3: colour"),
        layout.line(
            2, "size", str(guess.side), "side in pixels; the largest centred square is scaled to it"
        ),
        layout.line(2, "flat", "8", "side in pixels for logistic regression, a baseline"),
        layout.line(2, "smallest", str(smallest), "a picture with a shorter side is refused"),
    ]
    if guess.leaves_out:
        note = "pictures that cannot be decoded"
        lines.append(layout.line(2, "leave_out", "undecodable", note))
    return lines


def _folders(guess: Pictures) -> list[str]:
    by_folder = guess.pattern is None and guess.listing is None
    train_note = "<folder>/<class>/<picture>" if by_folder else "folders of pictures"
    lines = [
        layout.line(4, "format", "folders", "loose or in an archive"),
        layout.line(4, "train", layout.flow(guess.train), train_note),
        layout.line(4, "test", layout.flow(guess.test), "those reserved for testing"),
    ]
    if guess.ignored:
        lines.append(layout.line(4, "ignored", layout.flow(guess.ignored), "passed over"))
    if guess.listing is not None:
        block = {"file": guess.listing.file, "path": guess.listing.path, **guess.listing.form}
        lines.append(layout.line(4, "labels", layout.flow_map(block), "the classes"))
    if guess.pattern:
        lines.append(layout.line(4, "pattern", layout.scalar(guess.pattern), "finds the class"))
    note = "a CSV of keys; null: the content of a picture is its key"
    return [*lines, layout.line(4, "index", "null", note)]


def _pixels(guess: Pictures, pattern: str) -> list[str]:
    return [
        layout.line(4, "format", "pixels", "a row is a picture, a column a pixel"),
        *confs.file_format(guess.form, 4),
        layout.line(4, "train", layout.flow(guess.train), "files"),
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


def _lines(guess: Pictures, target: str) -> list[str]:
    total = sum(guess.classes.values())
    most = sorted(guess.classes.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{label} {count:,} ({count / total:.0%})" for label, count in most[:SHOWN])
    more = f", and {len(most) - SHOWN} more" if len(most) > SHOWN else ""
    source = "the folder of a picture" if guess.pattern is None else "its name"
    if guess.listing is not None:
        source = guess.listing.file
    if guess.label is not None:
        source = f"{'the column' if guess.arrays is None else 'the array'} {guess.label}"
    place = f"train: {', '.join(guess.train)}"
    if guess.pixels is not None:
        place += f"; a column for each pixel: {guess.pixels}"
    if guess.test:
        place += f"; test: {', '.join(guess.test)} ({guess.tested:,} pictures)"
    colour = "grey" if guess.grey else "in colour"
    return [
        f"target: {target}, {len(most)} classes by {source}: {listed}{more}",
        place,
        f"pictures: {total:,}, {colour}, short sides from {guess.shortest} pixels; prepared as"
        f" {guess.side} x {guess.side}",
    ]
