"""todo: the question in one sentence, and what an answer is.

Copy this folder to src/sextant/tasks/<task>/. It works as it is: it predicts a number. contracts.py
(TaskMetrics) describes every member.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals

# --- required -----------------------------------------------------------------------------------

# todo: `up`, `down`, or a target value; the gate reads the first, by default.
METRICS = {"rmse": "down", "mae": "down"}
OUTPUTS = ("value",)  # todo: the tensors that the task reads of a net's `predict`


class Columns(Protocol):
    """What this task reads of the columns of a kind."""

    target: str


class Encoder(Protocol):
    """todo: what this task reads of the encoder of a kind."""

    columns: Columns


class Batch(Protocol):
    """todo: what this task reads of the batch of a kind."""

    target: Tensor


def calibrate(outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
    """todo: numbers fitted on val after training, such as a temperature; here the mean error."""
    error = batch.target.double() - outputs["value"].double()
    return {"offset": round(float(error.mean()), 9)}


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Encoder,
    calibration: Mapping[str, float],
) -> pd.DataFrame:
    """todo: one row per answer, in the order of `rows`. Options of the task are keywords."""
    return as_answers(outputs["value"].double().numpy() + calibration["offset"])


def as_answers(values: np.ndarray) -> pd.DataFrame:
    """Answers of the model or of a baseline, (rows) in float64."""
    return pd.DataFrame({"prediction": values})


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> dict[str, float]:
    """todo: every metric of METRICS, in float64."""
    return _score(_errors(answers, rows, encoder))


def watch(outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
    """todo: the metrics on val after each epoch, calibrated as the answers will be."""
    values = outputs["value"].double() + calibrate(outputs, batch)["offset"]
    return _score((values - batch.target.double()).numpy())


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder, metric: str = "rmse"
) -> intervals.Sample:
    """todo: per-row contributions to a metric, for the bootstrap of its interval."""
    errors = _errors(answers, rows, encoder)
    if metric == "mae":
        return intervals.mean(np.abs(errors))
    return intervals.root_mean(errors**2)


def _errors(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> np.ndarray:
    target = rows[encoder.columns.target].to_numpy(np.float64)
    return answers["prediction"].to_numpy(np.float64) - target


def _score(errors: np.ndarray) -> dict[str, float]:
    return {"rmse": float(np.sqrt((errors**2).mean())), "mae": float(np.abs(errors).mean())}


# --- optional: delete what is not needed --------------------------------------------------------


def verdict(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> str:
    """todo: a sentence for the report that sums up the metrics."""
    return f"The typical error is {score(answers, rows, encoder)['mae']:.3f}."
