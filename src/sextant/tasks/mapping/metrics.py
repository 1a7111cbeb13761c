"""Where on a map, and how unlike the rest? The answers are a unit of the map and an outlier score.

There is no label to be right about. What can be measured is how close the rows lie to the map (quantization error),
whether what is near stays near on it (topographic error), and whether it notices rows that cannot be: the same values,
each from another row (outlier AUROC). Such rows are part of what is asked in order to score.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals

METRICS = {"quantization_error": "down", "topographic_error": "down", "outlier_auroc": "up"}
OUTPUTS = ("unit", "surprise", "adjacent", "prototype", "distance")
WATCHED = ["quantization_error", "topographic_error"]
PUBLIC_COLUMNS = ["row", "col", "outlier_score", "outlier"]

INJECTIONS = 20
INJECTED = 1000  # rows at most, in each injection
RARE = 0.05  # the share of val that counts as outliers
NEAREST = "nearest_"


def calibrate(outputs: Mapping[str, Tensor], batch: Any) -> dict[str, float]:
    """The score above which a row is an outlier: val's own quantile, so that one row in twenty is."""
    return {
        "threshold": round(float(np.quantile(outputs["surprise"].double().numpy(), 1 - RARE)), 9)
    }


def answers(
    outputs: Mapping[str, Tensor], rows: Any, encoder: Any, calibration: Mapping[str, float]
) -> pd.DataFrame:
    """One row an answer: `row` and `col` of its best unit, `outlier_score`, `outlier`.

    And for scores alone: whether the second best unit is `adjacent` to the best, and `nearest_<column>`, what stands at
    the best unit in upstream units (of a category, the weight of each level), so that maps can be compared whose
    scalers differ.
    """
    unit, score = outputs["unit"].numpy(), outputs["surprise"].double().numpy()
    found = {
        "row": unit[:, 0],
        "col": unit[:, 1],
        "outlier_score": score,
        "outlier": score > calibration["threshold"],
    }
    prototype = nearest(outputs["prototype"].double().numpy(), encoder)
    return pd.concat(
        [pd.DataFrame(found | {"adjacent": outputs["adjacent"].numpy()}), prototype], axis=1
    )


def nearest(scaled: np.ndarray, encoder: Any) -> pd.DataFrame:
    """Prototypes, (rows, features) in the encoder's scale, as columns in upstream units."""
    low, span = np.array(list(encoder.scale.values())).T
    return pd.DataFrame(scaled * span + low, columns=[NEAREST + name for name in encoder.scale])


def scaled(rows: Any, encoder: Any) -> np.ndarray:
    """Rows, (rows, features) in float64, each feature in the encoder's scale."""
    low, span = np.array(list(encoder.scale.values())).T
    return np.asarray((encoder.wide(rows).to_numpy() - low) / span)


def inputs(rows: pd.DataFrame, encoder: Any) -> pd.DataFrame:
    """The rows, then INJECTIONS times as many again (at most INJECTED each) with every column permuted by itself."""
    injected = [_permuted(rows, encoder.columns.features, number) for number in range(INJECTIONS)]
    return pd.concat([rows, *injected], ignore_index=True)


def _permuted(rows: pd.DataFrame, features: list[str], seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    strange = rows.head(INJECTED).copy()
    for name in features:
        strange[name] = rows[name].array[rng.permutation(len(rows))[: len(strange)]]
    return strange


def guard_rows(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows that the gate's guards read: the gate part alone is too few of them to tell 0.05 from 0.07."""
    return pd.concat([parts[part] for part in ("train", "val", "gate")], ignore_index=True)


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> dict[str, float]:
    """The metrics on `rows` of the answers to their `questions`, in float64, as far as the answers go.

    quantization_error: mean distance to the best unit, in the scale of `encoder`, whatever the answering model's is.
    topographic_error: the share of rows whose second best unit is not next to the best.
    outlier_auroc: how well `outlier_score` tells the injected rows from `rows`, mean over the injections.
    """
    own, found = answers.iloc[: len(rows)], {}
    if _has_prototypes(own):
        found["quantization_error"] = float(_distances(own, rows, encoder).mean())
    if "adjacent" in own:
        found["topographic_error"] = float(1 - own["adjacent"].to_numpy(np.float64).mean())
    if len(answers) > len(rows):
        found["outlier_auroc"] = _auroc(answers["outlier_score"].to_numpy(np.float64), len(rows))
    return found


def contributions(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> intervals.Sample:
    """What quantization error is made of: the distance of each row to its best unit."""
    return intervals.mean(_distances(answers.iloc[: len(rows)], rows, encoder))


def _has_prototypes(answers: pd.DataFrame) -> bool:
    return any(str(name).startswith(NEAREST) for name in answers)


def _distances(own: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> np.ndarray:
    """The distance of each row to its best unit, in the scale of `encoder`."""
    low, span = np.array(list(encoder.scale.values())).T
    at = own.reindex(columns=[NEAREST + name for name in encoder.scale], fill_value=0.0).to_numpy(
        np.float64
    )
    return np.asarray(np.sqrt(((scaled(rows, encoder) - (at - low) / span) ** 2).sum(1)))


def _auroc(scores: np.ndarray, own: int) -> float:
    from sklearn.metrics import roc_auc_score

    injections = scores[own:].reshape(INJECTIONS, -1)
    strange = np.repeat([0, 1], [own, injections.shape[1]])
    return float(
        np.mean([roc_auc_score(strange, np.concatenate([scores[:own], one])) for one in injections])
    )


def watch(outputs: Mapping[str, Tensor], batch: Any) -> dict[str, float]:
    """What is known of val after each epoch: the errors of the map, in its own scale."""
    return {
        "quantization_error": float(outputs["distance"].double().mean()),
        "topographic_error": float(1 - outputs["adjacent"].double().mean()),
    }
