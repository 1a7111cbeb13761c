"""The only package that imports MLflow.

A registered model is one lineage whose versions can be compared: `sextant-<model>` on real data,
`sextant-<model>-twin` on the twin, each with the alias `champion`. A version is known by the
digest of its model's folder, so that what DVC restores from its cache is recognised.
"""

import os

# MLflow reads these when it is imported.
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
