"""The confs of clips."""

from collections.abc import Sequence

from . import confs, expectations, layout, models
from .clips import Clips
from .result import Result

SHARES = {"train": 0.6, "val": 0.1, "gate": 0.1, "test": 0.2}
SHARES_WITH_TEST = {"train": 0.8, "val": 0.1, "gate": 0.1, "test": 0.0}
SHOWN = 8  # classes in the summary


def result(
    name: str, file: str, guess: Clips, target: str, pinned: Sequence[confs.Pinned]
) -> Result:
    """The three confs of clips, and what the summary says of them."""
    shares = SHARES_WITH_TEST if guess.test else SHARES
    task = "classification" if guess.classes else "frames"
    of_classes = f" of {len(guess.classes)} classes" if guess.classes else ""
    dataset = [
        *confs.head(name, f"{name}: {guess.count:,} clips{of_classes} in {file}."),
        *confs.sources(pinned),
        *_columns(guess, target),
        *confs.hash_split(shares, 0, "the clip"),
        *confs.twin(),
    ]
    trained = round((guess.count - guess.tested) * shares["train"])
    size = models.Size(trained, side=guess.side, grey=guess.grey)
    question = f"Which {target} is it? A convolutional LSTM, trained from scratch."
    if task == "frames":
        question = "What comes next? A convolutional LSTM, trained from scratch."
    suite = expectations.clips(target, list(guess.classes), guess.count, guess.past + guess.future)
    return Result(
        kind="clips",
        family="conv_lstm",
        task=task,
        dataset="\n".join(dataset) + "\n",
        expectations=expectations.text(name, file, suite),
        model=models.text(name, question, "conv_lstm", task, size),
        lines=_lines(guess, target),
        doubts=list(guess.doubts),
    )


def _columns(guess: Clips, target: str) -> list[str]:
    where = "<folder>/<class>/<clip>" if guess.classes else "<folder>/<clip>"
    label = layout.scalar(target) if guess.classes else "null"
    return [
        "columns:",
        "  files:",
        layout.line(4, "format", "folders", "a clip is a folder of frames, a GIF or a film"),
        layout.line(4, "train", layout.flow(guess.train), where),
        layout.line(4, "test", layout.flow(guess.test), "those reserved for testing"),
        layout.line(2, "target", label, "what the classes are called; null: there are none"),
        layout.line(2, "channels", "1" if guess.grey else "3", "1: grey, 3: colour"),
        layout.line(
            2, "size", str(guess.side), "side in pixels; the largest centred square is scaled to it"
        ),
        layout.line(2, "past", str(guess.past), "frames that a model sees"),
        layout.line(2, "future", str(guess.future), "frames after these, which it may answer"),
        layout.line(2, "flat", "8", "side in pixels for logistic regression, a baseline"),
    ]


def _lines(guess: Clips, target: str) -> list[str]:
    lines = []
    if guess.classes:
        most = sorted(guess.classes.items(), key=lambda item: -item[1])
        texts = [f"{label} {count:,}" for label, count in most[:SHOWN]]
        more = f", and {len(most) - SHOWN} more" if len(most) > SHOWN else ""
        lines.append(
            f"target: {target}, {len(most)} classes by the folder of a clip: {', '.join(texts)}"
            f"{more}"
        )
    place = f"train: {', '.join(guess.train)}"
    if guess.test:
        place += f"; test: {', '.join(guess.test)} ({guess.tested:,} clips)"
    colour = "grey" if guess.grey else "in colour"
    return [
        *lines,
        place,
        f"clips: {guess.count:,}, {colour}; prepared as {guess.past + guess.future} frames of"
        f" {guess.side} x {guess.side} pixels, {guess.past} of which a model sees",
    ]
