"""todo: the figures and tables of a model of this task."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from ...drawing import COLORS, Table, canvas, in_style
from .metrics import Columns


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Columns,
    baselines: Mapping[str, pd.DataFrame],
) -> dict[str, Figure | Table]:
    """todo: figures and tables by name, in reading order.

    `answers` and those of each baseline are answers to `rows`, the test part. `model`, `train` and
    `val` are passed if the signature names them.
    """
    target = rows[columns.target]
    figure = canvas("Predicted and true")
    axes = figure.add_subplot()
    axes.scatter(target, answers["prediction"], s=8, color=COLORS[0], alpha=0.6)
    axes.set(xlabel=f"true {columns.target}", ylabel=f"predicted {columns.target}")
    figure.set_label(f"{len(rows):,} test rows; a perfect answer lies on the diagonal.")
    return {"scatter": figure}
