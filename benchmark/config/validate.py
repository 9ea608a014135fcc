"""One way in for every value: names and types of given values are checked against a schema.

A schema is a dataclass or the keyword part of a constructor's signature; both are read into `Field`s. The same function
therefore guards configuration sections, methods' hyper-parameters and `--set`.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, Union

from benchmark.errors import UserError, suggest
from benchmark.ranges import range_of

FLOAT = sys.float_info.max


@dataclasses.dataclass(frozen=True)
class Field:
    """One name that a schema accepts: its type (an annotation, with its range if it has one) and its default."""

    type: Any
    default: Any


@lru_cache(256)
def fields_of(schema: type | Callable[..., Any]) -> Mapping[str, Field]:
    """The fields of a dataclass, or the keyword-only parameters of a class's constructor, in order."""
    if dataclasses.is_dataclass(schema):
        hints = typing.get_type_hints(schema, include_extras=True)
        return {field.name: Field(hints[field.name], field.default) for field in dataclasses.fields(schema)}
    constructor: Any = schema.__init__  # type: ignore[misc]
    code = constructor.__code__
    where = f"{code.co_filename}, line {code.co_firstlineno}: {constructor.__qualname__}"
    try:
        hints = typing.get_type_hints(constructor, include_extras=True)
    except NameError as error:
        raise UserError(f"{where}: an annotation cannot be understood ({error}); import what it names") from None
    _, *parameters = inspect.signature(constructor).parameters.values()
    if [parameter.kind for parameter in parameters[:1]] != [inspect.Parameter.POSITIONAL_OR_KEYWORD]:
        raise UserError(f"{where} must take the task first, as in __init__(self, task: Task, *, weight: float = 1.0)")
    return {parameter.name: _hyperparameter(parameter, hints, where) for parameter in parameters[1:]}


def _hyperparameter(parameter: inspect.Parameter, hints: Mapping[str, Any], where: str) -> Field:
    """The field of one parameter of a constructor; UserError where it could not be set, recorded or explained."""
    name, empty = parameter.name, inspect.Parameter.empty
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        what = str(parameter).partition(":")[0]
        raise UserError(f"{where}: '{what}' can be neither set nor recorded; name every hyper-parameter")
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        raise UserError(f"{where}: hyper-parameter '{name}' must be keyword-only: put a '*' before it")
    if parameter.default is empty:
        raise UserError(f"{where}: hyper-parameter '{name}' needs a default value")
    if name not in hints:
        raise UserError(f"{where}: hyper-parameter '{name}' needs a type, as in {name}: float = 1.0")
    return Field(hints[name], convert(hints[name], parameter.default, f"{where}: the default of {name}"))


def bind(fields: Mapping[str, Field], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`given` with every name known and every value of its type; UserError names `where`, the value, the near miss."""
    bound = {}
    for name, value in given.items():
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise UserError(f"{where}: unknown key '{name}'.{suggest(name, fields)} Known keys: {known}.")
        bound[name] = convert(fields[name].type, value, f"{where}: {name}")
    return bound


def convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`, where that loses nothing (3 -> 3.0, [a, b] -> (a, b)) and is in range; else a UserError."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        converted, bounds = convert(arguments[0], value, where), range_of(kind)
        if bounds is not None and converted not in bounds:
            raise UserError(f"{where} must {'lie' if ', inf' not in bounds.text else 'be'} {bounds}, not {value}")
        return converted
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        near = suggest(value, map(str, arguments))
        raise UserError(f"{where} must be one of {', '.join(map(str, arguments))}, not {value!r}.{near}")
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        rest = [argument for argument in arguments if argument is not type(None)]
        return convert(rest[0], value, where)
    if origin in (tuple, list) or kind in (tuple, list):
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list | tuple):
            item = arguments[0] if arguments else str
            return tuple(convert(item, entry, where) for entry in value)
    elif kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and -FLOAT <= value <= FLOAT:
            return float(value)
    elif kind is str and isinstance(value, str):
        return value
    expected = getattr(kind, "__name__", str(kind))
    raise UserError(f"{where} must be {expected}, not {value!r} ({type(value).__name__})")
