"""Conf held to its constructor: an unknown key, a wrong type, a value out of range, NaN are refused by name."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from .errors import UsageError

T = TypeVar("T", bound=BaseModel)


class Strict(BaseModel):
    """A block of conf: nothing unknown, nothing converted, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def signature_model(constructor: Callable[..., Any]) -> type[BaseModel]:
    """A strict pydantic model of a constructor's keyword-only arguments: those that conf may set.

    What stands before the `*` in the signature comes from the data (sizes) and is no matter of conf.
    """
    function = constructor.__init__ if inspect.isclass(constructor) else constructor
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            fields[name] = (hints[name], ... if parameter.default is parameter.empty else parameter.default)
    return create_model(constructor.__name__, __base__=Strict, **fields)


def check(model: type[T], values: Mapping[str, Any], where: str) -> T:
    """`values` as a `model`, or one line that names the place, the value and what is allowed there."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError("; ".join(_fault(model, fault, where) for fault in error.errors()[:3])) from None


def _fault(model: type[BaseModel], fault: Any, where: str) -> str:
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        key, known = str(fault["loc"][-1]), list(_fields_at(model, fault["loc"][:-1]))
        near = difflib.get_close_matches(key, known, n=1)
        advice = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known) or 'none'}"
        return f"{where}: unknown key `{path}`; {advice}"
    if fault["type"] == "missing":
        return f"{where}: key `{path}` is missing; add it"
    return f"{where}: `{path}` is {fault['input']!r}; {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _fields_at(model: type[BaseModel], path: Sequence[Any]) -> Sequence[str]:
    """The keys that the block at `path` below `model` allows, as far as it is made of models."""
    here: Any = model
    for part in path:
        field = getattr(here, "model_fields", {}).get(part)
        here = field.annotation if field else here
    return list(getattr(here, "model_fields", {}))
