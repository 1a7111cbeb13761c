"""The only package that imports MLflow.

store connects to the database or server, training and runs write runs to it and registry versions,
packing packs and loads registered models, and provenance records how a run was made.

Only versions of one registered model are compared, so a model has two of them: `sextant-<model>`
for real data and `sextant-<model>-twin` for the twin, each with an alias `champion`. A version is
identified by the digest of its model's folder, so that a model that DVC restores from its cache is
recognised.
"""

import os

# MLflow reads these variables when it is imported, so they are set before any module imports it.
VARIABLES = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # a pickle can run any code
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A stage prints a few lines for people; MLflow's warnings, addresses and bars would bury them.
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",  # no warning where git is not installed
}
for name, value in VARIABLES.items():
    os.environ.setdefault(name, value)
