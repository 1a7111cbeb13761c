"""What the scripts of results/ have in common: the rows, paired intervals, and the page."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from . import config, files, plugins, pull


def read_rows(data: config.DatasetConf) -> pd.DataFrame:
    """The real rows, pulled and repaired as in the pipeline."""
    kind_rows = plugins.kind(data.kind).rows
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        pull.pull(data, raw)
        return kind_rows.repair(kind_rows.read(raw, data.columns), data.columns)


def paired(differences: Sequence[float], ratio: float) -> tuple[float, float]:
    """The 95 % interval of a mean difference over repeated splits; `ratio` is test rows by
    training rows.

    The splits share rows, so the variance of the mean is larger than variance / n. Source: Nadeau
    and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003.
    """
    from scipy.stats import t

    n = len(differences)
    deviation = np.std(differences, ddof=1)
    half = t.ppf(0.975, n - 1) * deviation * (1 / n + ratio) ** 0.5
    mean = np.mean(differences)
    return float(mean - half), float(mean + half)


def publish(text: str, path: Path) -> None:
    """Write a page whole, and print it."""
    with files.written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")
    print(text)
