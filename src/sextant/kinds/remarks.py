"""What is unusual about input rows, for whoever asked: one text for each row or answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

NAMED = 5  # texts in a summary


class Remarks:
    """Collects remarks on the rows 0 to `rows` - 1; most rows have none."""

    def __init__(self, rows: int):
        self.rows = rows
        self.by_row: dict[int, list[str]] = {}

    def add(self, row: "int | np.integer", text: str) -> None:
        """Add a remark on one row."""
        self.by_row.setdefault(int(row), []).append(text)

    def add_where(self, is_unusual: "np.ndarray", text: str) -> None:
        """Add the same remark on every row where the mask, (rows,), is true."""
        for row in is_unusual.nonzero()[0]:
            self.add(row, text)

    def texts(self) -> list[str]:
        """The remarks on each row, separated by "; "; empty where there are none."""
        return ["; ".join(self.by_row.get(row, [])) for row in range(self.rows)]


def summary(texts: Sequence[str]) -> list[str]:
    """The texts that are not empty, each once, with how many answers have it; NAMED at most."""
    counts: dict[str, int] = {}
    for text in texts:
        if text:
            counts[text] = counts.get(text, 0) + 1
    lines = []
    for text, count in list(counts.items())[:NAMED]:
        lines.append(f"{text} ({count:,} answers)" if count > 1 else text)
    further = sum(list(counts.values())[NAMED:])
    if further:
        lines.append(f"{further:,} further answers have warnings, see their column `warnings`")
    return lines
