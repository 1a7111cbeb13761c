"""Which class? The answers are calibrated probabilities, and the class that has most."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals

METRICS = {"accuracy": "up", "auroc": "up", "log_loss": "down", "brier": "down"}
OUTPUTS = ("logits",)


def calibrate(outputs: Mapping[str, Tensor], batch: Any) -> dict[str, float]:
    """The temperature that val likes best: min over T of the summed cross entropy of logits / T, plus (1/T - 1)^2 / 2.

    `logits` is (rows, classes), the batch's `target` (rows).
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The second term weighs as little as one row;
    without it a val whose rows are all right would like T = 0, and one wrong row later would cost without bound.
    The sum is strictly convex in 1/T, for Newton's method inside 0.05..20.
    """
    logits = outputs["logits"].double()
    own = logits.gather(1, batch.target[:, None])[:, 0]
    beta = 1.0
    for _ in range(50):
        probs = (beta * logits).softmax(1)
        mean = (probs * logits).sum(1)
        slope = (mean - own).sum() + (beta - 1)
        curve = ((probs * logits**2).sum(1) - mean**2).sum() + 1
        step = float(slope / curve)
        beta = min(max(beta - step, 0.05), 20.0)
        if abs(step) < 1e-10:
            break
    return {"temperature": round(1 / beta, 9)}


def probabilities(outputs: Mapping[str, Tensor], calibration: Mapping[str, float]) -> np.ndarray:
    """(rows, classes) in float64: softmax of logits / temperature."""
    return (outputs["logits"].double() / calibration.get("temperature", 1.0)).softmax(1).numpy()


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Any,
    calibration: Mapping[str, float],
) -> pd.DataFrame:
    """One row an answer: `prediction`, and `probability` of the last of two classes, of the predicted one of more."""
    return as_answers(probabilities(outputs, calibration), encoder.classes)


def as_answers(probs: np.ndarray, classes: list[Any]) -> pd.DataFrame:
    """Answers from (rows, classes) probabilities, ours or a baseline's."""
    best = probs.argmax(1)
    found = {"prediction": pd.Series(pd.Index(classes).take(best))}
    if len(classes) == 2:
        return pd.DataFrame(found | {"probability": probs[:, 1]})
    each = {f"probability_{label}": probs[:, i] for i, label in enumerate(classes)}
    return pd.DataFrame(found | {"probability": probs.max(1)} | each)


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> dict[str, float]:
    """The metrics of the task on labelled `rows`, in float64.

    auroc: one class against the rest, averaged over classes; brier: mean squared error of the probabilities, for two
    classes of the last one's alone.
    """
    return _score(answers, rows[encoder.columns.target], encoder.classes)


def contributions(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> intervals.Sample:
    """What accuracy is made of: whether each row is right."""
    return intervals.mean(
        answers["prediction"].to_numpy() == rows[encoder.columns.target].to_numpy()
    )


def watch(outputs: Mapping[str, Tensor], batch: Any) -> dict[str, float]:
    """The metrics on val during training, uncalibrated; classes are their numbers."""
    classes = list(range(outputs["logits"].shape[1]))
    return _score(
        as_answers(probabilities(outputs, {}), classes), pd.Series(batch.target.numpy()), classes
    )


def _score(answers: pd.DataFrame, truth: pd.Series, classes: list[Any]) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    target = pd.Index(classes).get_indexer(truth)
    if len(classes) == 2:
        p = answers["probability"].to_numpy(np.float64)
        probs, auroc = np.column_stack([1 - p, p]), roc_auc_score(target, p)
    else:
        probs = answers[[f"probability_{label}" for label in classes]].to_numpy(np.float64)
        auroc = roc_auc_score(target, probs, multi_class="ovr", labels=range(len(classes)))
    own = np.clip(probs[np.arange(len(target)), target], 1e-15, 1)
    squared = (probs - np.eye(len(classes))[target]) ** 2
    return {
        "accuracy": float((answers["prediction"].to_numpy() == truth.to_numpy()).mean()),
        "auroc": float(auroc),
        "log_loss": float(-np.log(own).mean()),
        "brier": float(squared[:, 1].mean() if len(classes) == 2 else squared.sum(1).mean()),
    }
