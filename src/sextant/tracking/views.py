"""The view with which a link opens the runs of an experiment: columns and order, the best first.

MLflow's pages keep a view that is shared as a tag of the experiment (the button "Share"), and read
it again from a link that ends with its key. Without a view the table shows no metric.
"""

import json
from typing import TYPE_CHECKING

from .store import NOTE

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

KEY = "best-first"
TAG = f"mlflow.sharedViewState.{KEY}"
LINK_TEXT = "The runs with their scores, the best first"


def page(experiment_id: str) -> str:
    """The address of the runs of an experiment, below that of MLflow's pages."""
    return f"#/experiments/{experiment_id}/runs"


def link(experiment_id: str) -> str:
    """The address of the view. A printed line would have `***` for its key, see redaction.py."""
    return f"{page(experiment_id)}?viewStateShareKey={KEY}"


def state(metric: str, direction: str) -> dict[str, object]:
    """The view of the runs by a metric: it, its interval, the gain, and what was set otherwise.

    The keys are those of MLflow's own views (checked with MLflow 3.17). A metric whose target is a
    value is sorted as if higher were better.
    """
    columns = [
        "tags.`settings`",
        f"metrics.`test/{metric}`",
        "metrics.`test/interval_low`",
        "metrics.`test/interval_high`",
        "metrics.`vs/gain`",
        "metrics.`vs/gain_low`",
        "params.`budget`",
        "params.`seed`",
        "attributes.`User`",
    ]
    return {
        "searchFilter": "",
        "orderByKey": f"metrics.`test/{metric}`",
        "orderByAsc": direction == "down",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }


def share(mlflow: "MlflowClient", experiment: "Experiment", metric: str, direction: str) -> None:
    """Give an experiment its view, and a description that begins with the link to it."""
    text = json.dumps(state(metric, direction))
    if experiment.tags.get(TAG) != text:
        mlflow.set_experiment_tag(experiment.experiment_id, TAG, text)
    first = f"[{LINK_TEXT}]({link(experiment.experiment_id)}).\n\n"
    description = experiment.tags.get(NOTE, "")
    if not description.startswith(first):
        mlflow.set_experiment_tag(experiment.experiment_id, NOTE, first + description)
