"""Check blocks of conf against typed models.

An unknown or missing key, a wrong type, a value out of range and NaN are refused, with the place.
"""

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from .errors import UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)
Keys = tuple[int | str, ...]  # a path through nested mappings and lists

TYPE_NAME = re.compile(r"constrained-|[a-z]+\[")  # as pydantic writes `dict[str,any]`
EXPONENT = re.compile(r"[+-]?[0-9][0-9.]*[eE][+-]?[0-9]+")
FAULTS = 3  # a message lists at most so many, since it is one line

# A date as ISO text; such texts sort as their dates do.
Day = Annotated[str, AfterValidator(lambda text: date.fromisoformat(text).isoformat())]


def _plain_path(value: str) -> str:
    path = PurePosixPath(value)
    plain = str(path) == value and not path.is_absolute() and value.isprintable()
    if not plain or {".", ".."} & {value, *path.parts}:
        raise ValueError("expected a plain relative path without `..`, such as folder/file.csv")
    return value


PlainPath = Annotated[str, AfterValidator(_plain_path)]
Seed = Annotated[int, Field(ge=0)]  # NumPy refuses a negative one


class Strict(BaseModel):
    """A block of conf: no unknown keys, no conversion of types, no NaN, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


@functools.cache
def signature_model(constructor: Callable[..., Any]) -> type[BaseModel]:
    """Return a strict model of the keyword-only arguments of `constructor`, which conf sets.

    The arguments before the `*`, such as the number of features, depend on the data.
    """
    function = constructor.__init__ if inspect.isclass(constructor) else constructor
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            required = parameter.default is parameter.empty
            fields[name] = (hints[name], ... if required else parameter.default)
    return create_model(constructor.__name__, __base__=Strict, **fields)


def check(model: type[Model], values: object, where: str) -> Model:
    """Return `values` as a `model`.

    Raises UsageError with the place in `where`, the invalid value and what is expected.
    """
    if not isinstance(values, Mapping):
        raise UsageError(
            f"{where} is {values!r}; expected keys with values: {', '.join(model.model_fields)}"
        )
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        faults = [_describe(model, fault, where, values) for fault in error.errors()[:FAULTS]]
    raise UsageError("; ".join(faults))


def advice(key: str, allowed: Collection[str]) -> str:
    """Return what to write in place of the unknown `key`: a similar name, or all `allowed` ones."""
    similar = difflib.get_close_matches(key, allowed, n=1)
    if similar:
        return f"did you mean `{similar[0]}`?"
    if not allowed:
        return "none is allowed here"
    return f"expected one of: {', '.join(allowed)}"


def _describe(model: type[BaseModel], fault: "ErrorDetails", where: str, values: object) -> str:
    path = ".".join(_keys_in_conf(fault["loc"], values))
    if fault["type"] == "extra_forbidden":
        *above, key = fault["loc"]
        return f"{where}: unknown key `{path}`; {advice(str(key), _allowed_keys(model, above))}"
    if fault["type"] == "missing":
        return f"{where}: key `{path}` is missing; add it"
    reason = _reason(model, fault)
    if not path:  # a rule of the whole block, such as a sum of its values
        return f"{where}: {reason}"
    return f"{where}: `{path}` is {fault['input']!r}; {reason}"


def _reason(model: type[BaseModel], fault: "ErrorDetails") -> str:
    """What pydantic expects, without its names for the types of Python."""
    if fault["type"] in ("model_type", "model_attributes_type", "dict_type"):
        names = _allowed_keys(model, list(fault["loc"])) if fault["type"] != "dict_type" else []
        return f"expected keys with values{': ' if names else ''}{', '.join(names)}"
    of_key = fault["loc"][-1:] == ("[key]",)
    if fault["type"] == "invalid_key" or (of_key and fault["type"] == "string_type"):
        return "expected text as the name of a key; put it in quotes, or correct it"
    if fault["type"] in ("float_type", "int_type") and EXPONENT.fullmatch(str(fault["input"])):
        return "YAML takes this for text; write it with a point and a sign, such as 1.0e-05"
    if fault["type"] in ("too_short", "too_long"):
        bounds = fault["ctx"]
        least = bounds.get("min_length")
        number = f"{least} or more" if least is not None else f"at most {bounds['max_length']}"
        return f"expected {number} entries"
    reason = fault["msg"].removeprefix("Value error, ")
    return f"{reason[0].lower()}{reason[1:]}"


def _keys_in_conf(path: Keys, values: object) -> Iterator[str]:
    """Yield the keys of `path` that are in the conf.

    For a union pydantic adds the value of the key that chose its member (`by: hash`), the name of
    a type, or the member's class name. The first two are left out here.
    """
    for key in path:
        try:
            values = values[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            if isinstance(values, Mapping) and key in list(values.values()):
                continue
            if TYPE_NAME.match(str(key)):
                continue
        yield str(key)


def _allowed_keys(model: type[BaseModel], path: list[int | str]) -> list[str]:
    """Return the keys of the block at `path` below `model`.

    The path may lead through lists, mappings and unions, whose indices and keys name no field.
    """
    models = [model]
    for key in path:
        nested: list[type[BaseModel]] = []
        for parent in models:
            if key in parent.model_fields:
                nested += _models(parent.model_fields[str(key)].annotation)
        models = nested or models
    names = [name for parent in models for name in parent.model_fields]
    return list(dict.fromkeys(names))


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models inside a type annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
