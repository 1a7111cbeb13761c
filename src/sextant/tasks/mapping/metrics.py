"""Task mapping: where on a map does a row lie, and how much does it differ from the other rows?

The answers are a unit of the map and an outlier score. There is no label to compare them with. The
metrics are the distance of the rows from the map (quantization error), whether the two nearest
units of a row are adjacent (topographic error), and whether the outlier score tells rows from
synthetic outliers (outlier AUROC). These are rows with each column permuted separately: every
value is possible, and the combination is not. They are among the inputs of `score`.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from ... import injection, intervals

METRICS = {"quantization_error": "down", "topographic_error": "down", "outlier_auroc": "up"}
OUTPUTS = ("unit", "surprise", "adjacent", "prototype", "distance")
WATCHED = ["quantization_error", "topographic_error"]  # outlier_auroc needs the synthetic outliers
PUBLIC_COLUMNS = ["row", "col", "outlier_score", "outlier"]

OUTLIER_SHARE = 0.05  # of val; the threshold of `outlier` follows from it
PROTOTYPE = "nearest_"  # the prefix of the answers' columns with the prototype


class Columns(Protocol):
    """What mapping reads of the `columns` of a kind."""

    key: str | None
    target: str | None

    @property
    def place_column(self) -> str | None:
        """The column that names the country of each row, if there is one."""

    @property
    def features(self) -> list[str]:
        """The columns that the encoder reads."""


class Encoder(Protocol):
    """What mapping reads of the encoder of a kind."""

    columns: Columns

    @property
    def scale(self) -> dict[str, tuple[float, float]]:
        """Low end and span of each column of `wide`; distances are those of (x - low) / span."""

    def countries(self, rows: pd.DataFrame) -> list[str | None]:
        """The numeric code of ISO 3166-1 of each row's country; None where it has none."""

    def wide(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as numbers in upstream units, each level of a category as 0 or 1."""


# --- the scale of distances ---------------------------------------------------------------------


def scaled(rows: pd.DataFrame, encoder: Encoder) -> np.ndarray:
    """Rows in the scale of the encoder, (rows, features) in float64."""
    low, span = _scale(encoder)
    return np.asarray((encoder.wide(rows).to_numpy() - low) / span)


def upstream(prototypes: np.ndarray, encoder: Encoder) -> pd.DataFrame:
    """Prototypes, (rows, features) in the scale of the encoder, as columns in upstream units.

    The columns are `nearest_<column>`; a category has one for the weight of each level.
    """
    low, span = _scale(encoder)
    names = [f"{PROTOTYPE}{name}" for name in encoder.scale]
    return pd.DataFrame(prototypes * span + low, columns=names)


def _scale(encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Low ends and spans, (features) each."""
    low, span = np.array(list(encoder.scale.values())).T
    return low, span


# --- answers ------------------------------------------------------------------------------------


def calibrate(outputs: Mapping[str, Tensor], batch: object) -> dict[str, float]:
    """The outlier threshold: the score that OUTLIER_SHARE of the val rows exceed."""
    surprise = outputs["surprise"].double().numpy()
    return {"threshold": round(float(np.quantile(surprise, 1 - OUTLIER_SHARE)), 9)}


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Encoder,
    calibration: Mapping[str, float],
) -> pd.DataFrame:
    """`row` and `col` of each row's best matching unit, `outlier_score`, `outlier`.

    `score` needs further columns, which callers do not see by default: whether the second best unit
    is `adjacent` to the best, and `nearest_<column>`, the prototype of the best unit. It is in
    upstream units, so that a map whose encoder has another scale can be compared.
    """
    unit = outputs["unit"].numpy()
    surprise = outputs["surprise"].double().numpy()
    table = pd.DataFrame(
        {
            "row": unit[:, 0],
            "col": unit[:, 1],
            "outlier_score": surprise,
            "outlier": surprise > calibration["threshold"],
            "adjacent": outputs["adjacent"].numpy(),
        }
    )
    prototypes = upstream(outputs["prototype"].double().numpy(), encoder)
    return pd.concat([table, prototypes], axis=1)


def public(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers as a caller sees them, without what only `score` needs."""
    return answers[PUBLIC_COLUMNS]


def inputs(rows: pd.DataFrame, encoder: Encoder) -> pd.DataFrame:
    """The rows, then sets of synthetic outliers."""
    return injection.with_injections(rows, encoder.columns.features)


def guard_rows(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows that the gate's guards read: train, val and gate.

    The gate part alone has too few rows to tell a topographic error of 0.05 from one of 0.07.
    """
    return pd.concat([parts[part] for part in ("train", "val", "gate")], ignore_index=True)


def explained(answers: pd.DataFrame, base: pd.DataFrame, encoder: Encoder) -> np.ndarray:
    """Return the outlier scores, of which the reasons are sought."""
    return answers["outlier_score"].to_numpy(np.float64)


# --- metrics ------------------------------------------------------------------------------------


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> dict[str, float]:
    """The metrics of the answers to `inputs(rows)`, in float64; those that the answers allow.

    quantization_error: mean distance of a row to the prototype of its best unit, in the scale of
    `encoder`, whichever model answered. topographic_error: the share of rows whose second best unit
    is not adjacent to the best. outlier_auroc: how well `outlier_score` separates the synthetic
    outliers from `rows`, mean over the injections.
    """
    row_answers = answers.iloc[: len(rows)]
    scores = {}
    if any(str(name).startswith(PROTOTYPE) for name in answers):
        scores["quantization_error"] = float(_distances(row_answers, rows, encoder).mean())
    if "adjacent" in answers:
        adjacent = row_answers["adjacent"].to_numpy(np.float64)
        scores["topographic_error"] = float(1 - adjacent.mean())
    if len(answers) > len(rows):
        outlier_scores = answers["outlier_score"].to_numpy(np.float64)
        scores["outlier_auroc"] = injection.auroc(outlier_scores, len(rows)).observed
    return scores


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder, metric: str = "quantization_error"
) -> intervals.Sample:
    """The Sample of a metric; of the quantization error, the distance of each row to its prototype.

    Of the answers to `inputs(rows)`, a row's and those of synthetic outliers, only the Sample of
    `outlier_auroc` has the latter.
    """
    row_answers = answers.iloc[: len(rows)]
    if metric == "topographic_error":
        return intervals.mean(1 - row_answers["adjacent"].to_numpy(np.float64))
    if metric == "outlier_auroc":
        return injection.auroc(answers["outlier_score"].to_numpy(np.float64), len(rows))
    return intervals.mean(_distances(row_answers, rows, encoder))


def watch(outputs: Mapping[str, Tensor], batch: object) -> dict[str, float]:
    """The errors of the map on val after an epoch, in the scale of the map."""
    return {
        "quantization_error": float(outputs["distance"].double().mean()),
        "topographic_error": float(1 - outputs["adjacent"].double().mean()),
    }


def _distances(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> np.ndarray:
    """The distance of each row to the prototype in its answer, (rows), in the scale of `encoder`.

    A prototype without one of the levels of `encoder`, as of a model trained on other rows, has the
    weight 0 there.
    """
    low, span = _scale(encoder)
    names = [f"{PROTOTYPE}{name}" for name in encoder.scale]
    prototypes = answers.reindex(columns=names, fill_value=0.0).to_numpy(np.float64)
    offsets = scaled(rows, encoder) - (prototypes - low) / span
    return np.asarray(np.sqrt((offsets**2).sum(1)))
