"""Figures that have to be drawn to the same bytes each time."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from sextant import drawing


def svg(figure: Figure, folder: Path) -> bytes:
    """The SVG of a figure; `folder` is for its file.

    It is not laid out, which takes two thirds of the time and is tested in test_drawing.py.
    """
    figure.set_layout_engine("none")
    drawing.save(figure, folder / "figure.svg")
    return (folder / "figure.svg").read_bytes()


def check_same(
    first: Mapping[str, Figure],
    second: Mapping[str, Figure],
    names: Iterable[str],
    folder: Path,
) -> None:
    """Assert that each of the named figures has the same bytes in both drawings."""
    for name in names:
        assert svg(first[name], folder) == svg(second[name], folder), name
