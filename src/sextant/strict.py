"""Conf held to its constructor: an unknown key, a wrong type, a value out of range, NaN are refused by name."""

import difflib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, create_model

from .errors import UsageError

T = TypeVar("T", bound=BaseModel)

# A day as ISO text, whose order is the order of days.
Day = Annotated[str, AfterValidator(lambda text: date.fromisoformat(text).isoformat())]


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
            fields[name] = (
                hints[name],
                ... if parameter.default is parameter.empty else parameter.default,
            )
    return create_model(constructor.__name__, __base__=Strict, **fields)


def check(model: type[T], values: Mapping[str, Any], where: str) -> T:
    """`values` as a `model`, or one line that names the place, the value and what is allowed there."""
    if not isinstance(values, Mapping):
        raise UsageError(
            f"{where} is {values!r}; expected keys with values: {', '.join(model.model_fields)}"
        )
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(
            "; ".join(_fault(model, fault, where, values) for fault in error.errors()[:3])
        ) from None


def advice(key: str, known: Collection[str]) -> str:
    """What to write in place of an unknown key."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known) or 'none'}"


def _fault(model: type[BaseModel], fault: Any, where: str, values: Any) -> str:
    path = ".".join(_spelt(fault["loc"], values))
    if fault["type"] == "extra_forbidden":
        *above, key = fault["loc"]
        return f"{where}: unknown key `{path}`; {advice(str(key), _fields_at(model, above))}"
    if fault["type"] == "missing":
        return f"{where}: key `{path}` is missing; add it"
    reason = fault["msg"].removeprefix("Value error, ")
    got = (
        f"`{path}` is {fault['input']!r}; " if path else ""
    )  # without a path: a rule that holds the block together
    return f"{where}: {got}{reason[0].lower()}{reason[1:]}"


def _spelt(path: Sequence[Any], values: Any) -> Iterator[str]:
    """The path as the conf spells it: pydantic's also holds the value by which a union was told apart (`by: hash`)."""
    for part in path:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            if isinstance(values, Mapping) and part in list(values.values()):
                continue
        yield str(part)


def _fields_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """The keys that the block at `path` below `model` allows; the path leads through lists, mappings and unions too."""
    here = [model]
    for part in path:
        fields = [one.model_fields[part] for one in here if part in one.model_fields]
        here = [found for field in fields for found in _models(field.annotation)] or here
    return list(dict.fromkeys(name for one in here for name in one.model_fields))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation is made of."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
