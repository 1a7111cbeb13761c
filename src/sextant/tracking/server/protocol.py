"""MLflow's scoring protocol, by MLflow's parser: every format and every message as MLflow has them.

The parser calls a stand-in for the model, which hands the rows on once they are read and checked.
"""

import importlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from .bounds import Refused, reason
from .champions import Champion
from .questions import Question, finite

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

    from ... import contracts

# Answers a question, as records or as a table.
Ask = Callable[[Question], object]


class StandIn:
    """What MLflow takes for the model."""

    def __init__(self, champion: Champion, ask: Ask) -> None:
        self.champion = champion
        self.ask = ask

    def predict(
        self, frame: pd.DataFrame, params: "dict[str, contracts.Option] | None" = None
    ) -> object:
        """The answers to rows in the types of the signature."""
        columns = {str(name): frame.iloc[:, place].tolist() for place, name in enumerate(frame)}
        return self.ask(Question(self.champion, columns, len(frame), params or {}, frame))


def answer(champion: Champion, body: bytes, content_type: str, ask: Ask) -> str:
    """The response to a request in MLflow's protocol; raises Refused."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    model = _pyfunc(champion, ask)
    try:
        schema = model.metadata.get_input_schema()
        response = scoring_server.invocations(body, content_type, model, schema)
    except MlflowException as error:
        raise Refused(_status(error), reason(error)) from None
    except Exception as error:  # pandas and NumPy refuse odd tables with errors of many types
        raise Refused(400, reason(error)) from None
    if response.status != 200:
        raise Refused(response.status, str(response.response))
    return finite(response.response)


def _pyfunc(champion: Champion, ask: Ask) -> "PyFuncModel":
    from mlflow.pyfunc import PyFuncModel

    return PyFuncModel(champion.metadata, StandIn(champion, ask))


def _status(error: Any) -> int:
    """The HTTP status of an MlflowException: what the caller sent, if the server is not at fault.

    MLflow answers 500 also for a body that it cannot parse.
    """
    status: int = error.get_http_status_code()
    return status if 400 <= status < 500 else 400


def prepare() -> None:
    """Import what MLflow's parser needs, and let its warnings go where ours go."""
    importlib.import_module("mlflow.models")
    importlib.import_module("mlflow.pyfunc.scoring_server")

    logger = logging.getLogger("mlflow")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.WARNING)  # MLflow warns when it drops a surplus column
