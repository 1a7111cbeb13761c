"""The paths that stages and commands share.

They are relative to the working directory, except for the state of this clone (`state_root`).
"""

import os
from dataclasses import dataclass
from pathlib import Path

CONF = Path("conf")
PARAMS = Path("params.yaml")
SHELF = CONF / "shelf.yaml"
FACTS = Path("facts")
SCRATCH = Path(".scratch")
REPORT = Path("reports/index.html")
DECISIONS = Path("reports/decisions")
DECISIONS_SCRIPT = Path("reports/decisions.js")


@dataclass(frozen=True)
class ModelOutputs:
    """The paths that train and evaluate write for one model."""

    model: Path
    curves: Path
    metrics: Path
    figures: Path
    tables: Path


def run_by_dvc() -> bool:
    """Whether DVC runs this stage; a stage that is run by hand writes to .scratch instead."""
    return "DVC_STAGE" in os.environ


def state_root() -> Path:
    """The folder of the state of this clone: checkpoints, downloads, the MLflow database.

    It is the repository's root, also while `dvc exp run --temp` works in a copy.
    """
    return Path(os.environ.get("DVC_ROOT", "."))


# --- conf ---------------------------------------------------------------------------------------


def model_conf(model: str) -> Path:
    return CONF / "model" / f"{model}.yaml"


def dataset_conf(dataset: str) -> Path:
    return CONF / "dataset" / f"{dataset}.yaml"


def expectations(dataset: str) -> Path:
    return CONF / "expectations" / f"{dataset}.yaml"


# --- data sets ----------------------------------------------------------------------------------


def raw(dataset: str) -> Path:
    return Path("data/raw") / dataset


def validation(dataset: str) -> Path:
    return Path("reports/validation") / f"{dataset}.json"


def prepared(dataset: str) -> Path:
    return Path("data/prepared") / dataset


# --- models -------------------------------------------------------------------------------------


def tracked(model: str) -> ModelOutputs:
    """The outputs of a model that DVC tracks."""
    return ModelOutputs(
        model=Path("models") / model,
        curves=Path("reports/curves") / f"{model}.csv",
        metrics=Path("reports/metrics") / f"{model}.json",
        figures=Path("reports/figures") / model,
        tables=Path("reports/tables") / f"{model}.json",
    )


def scratch(model: str) -> ModelOutputs:
    """The outputs of a model that was trained or evaluated by hand."""
    folder = SCRATCH / model
    return ModelOutputs(
        model=folder / "model",
        curves=folder / "curves.csv",
        metrics=folder / "metrics.json",
        figures=folder / "figures",
        tables=folder / "tables.json",
    )


def outputs(model: str) -> ModelOutputs:
    """The outputs of a model as this process writes them: tracked if run by DVC, else scratch."""
    return tracked(model) if run_by_dvc() else scratch(model)


def receipt(model: str) -> Path:
    return Path("reports/registry") / f"{model}.json"


def computed_on(model: str) -> Path:
    """What computed a model: committed beside dvc.lock, and no output of a stage."""
    return Path("reports/processors") / f"{model}.json"


def decision(model: str) -> Path:
    return DECISIONS / f"{model}.json"


def checkpoints(model: str) -> Path:
    return state_root() / ".checkpoints" / model
