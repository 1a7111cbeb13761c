"""A table with a row for each picture and a column for each pixel, as MNIST circulates."""

import io
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError, UsageError
from ..kinds import formats
from . import dialect, encoding
from .pictures import Pictures

LEAST_SIDE = 8  # pixels
MOST_OTHERS = 3  # columns besides the pixels
MOST_CLASSES = 1000
HEAD = 2**20  # bytes that are looked at
LABEL = re.compile(r"label|class|target|y|digit|letter|emotion", re.IGNORECASE)


def pixel_table(path: Path, chosen: Mapping[str, object], target: str | None) -> Pictures | None:
    """The pictures in a table; None if a file is no such table.

    Only the first rows and the column of the class are looked at: a file of 42,000 pictures has 33
    million cells.
    """
    try:
        name, content = formats.unpacked(path)
    except DataError:
        return None
    if not encoding.is_text(content) or Path(name).suffix.lower() not in (".csv", ".txt", ".tsv"):
        return None
    head = content[: content.rfind(b"\n", 0, HEAD) + 1] or content[:HEAD]
    sniffed = dialect.sniff(head, chosen)
    if sniffed is None or not sniffed.has_header:
        return None
    stem, count = _stem(sniffed.header)
    side = math.isqrt(count)
    other_columns = [column for column in sniffed.header if not _is_pixel(column, stem)]
    labels = [column for column in other_columns if LABEL.fullmatch(column)]
    label = target or (labels[0] if labels else None)
    is_square = side * side == count and side >= LEAST_SIDE
    if not is_square or len(other_columns) > MOST_OTHERS or label not in other_columns:
        return None
    classes = _classes(content, sniffed, sniffed.header.index(label))
    if not 2 <= len(classes) <= MOST_CLASSES:
        return None
    return Pictures(
        train=[path.name],
        test=[],
        ignored=[],
        pattern=None,
        classes=dict(sorted(classes.items())),
        tested=0,
        side=side,
        grey=True,
        shortest=side,
        photos=False,
        doubts=[
            "a row is a picture of grey pixels (KIND=tabular reads a table)",
            "a mirrored picture may be another class: `mirror` is off in the model's conf",
        ],
        pixels=f"{stem}*",
        form=sniffed.form,
        label=label,
    )


def _stem(header: list[str]) -> tuple[str, int]:
    """The beginning that most names have before a number, and how many names have it."""
    stems = Counter(name.rstrip("0123456789") for name in header if name[-1:].isdigit())
    return stems.most_common(1)[0] if stems else ("", 0)


def _is_pixel(name: str, stem: str) -> bool:
    return name.startswith(stem) and name[len(stem) :].isdecimal()


def _classes(content: bytes, sniffed: dialect.Dialect, place: int) -> Counter[str]:
    """How often each class occurs.

    Raises UsageError for a line without a class.
    """
    delimiter = str(sniffed.form.get("delimiter", ","))
    text = content.decode(str(sniffed.form.get("encoding", "utf-8-sig")), errors="replace")
    counts: Counter[str] = Counter()
    lines = iter(io.StringIO(text, newline=None))
    next(lines)
    for number, line in enumerate(lines, start=2):
        if not line.replace(delimiter, "").strip():  # also a row of empty cells
            continue
        cells = line.rstrip("\n").split(delimiter, place + 1)
        label = cells[place].strip().strip('"') if len(cells) > place else ""
        if not label:
            raise UsageError(f"line {number} has no class; label it, or remove it")
        counts[label] += 1
    return counts
