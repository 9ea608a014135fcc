"""YAML files: without YAML's traps, checked by a pydantic model, and every mistake one line with file and line number.

`no` stays text, `10:30` is no number, `1e-3` is one, a key given twice is an error.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from benchmark.errors import UserError, suggest

PLAINER = {  # than pydantic's words
    "Input should be": "must be", "a valid dictionary": "'key: value' lines or pairs",
    "a valid integer": "a whole number", "a valid ": "a ",
    "List should have at least 1 item after validation, not 0": "must have an entry",
}
DIGITS = 18  # of an integer; nothing that a file sets is larger


class Strict(BaseModel):
    """Base of what a file may hold: an unknown key is a mistake, and values keep their type (3 is no text)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types, as people read them."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.I), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?\d+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?$"),
    list("-+.0123456789"),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if not isinstance(key, str | int | float):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a name", node.start_mark)
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
    return dict(zip(keys, (loader.construct_object(value, deep=True) for _, value in node.value), strict=True))


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value.lstrip("+-0")) > DIGITS:
        raise yaml.constructor.ConstructorError(
            None, None, f"a number of {len(node.value)} digits; at most {DIGITS} are read", node.start_mark)
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def parse(text: str, where: str) -> Any:
    """The value that `text` writes; UserError with `where`, line and cause."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader with fewer types
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: not valid YAML ({getattr(error, 'problem', error)})") from None


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, not to be changed; UserError when it is missing, unreadable or no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    return _mapping_in(text, str(path))


@lru_cache(256)
def _mapping_in(text: str, where: str) -> dict[str, Any]:
    """Cached: a grid reads the same few files for every one of its cells."""
    value = parse(text, where)
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected 'key: value' lines at the top level")
    return value


def load(path: Path, model: type[Model]) -> Model:
    """The file as `model`. UserError with file and line: a key that is unknown or missing, a value of another type, or
    a `ValueError` of one of the model's own validators, whose words follow the key ("must be ...")."""
    try:
        return model.model_validate(read(path))
    except ValidationError as error:
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")  # it explains a missing key
        raise UserError(_explained(first, model, path)) from None


def where(path: Path, *keys: Any) -> str:
    """ "FILE, line N" of a place in the file, or of what is nearest around it; keys that it lacks are skipped."""
    known = lines(path)
    found: tuple[Any, ...] = ()
    for key in map(str, keys):
        for step in (key, int(key)) if key.isdecimal() else (key,):
            found = (*found, step) if (*found, step) in known else found
    return f"{path}, line {known[found]}" if found else str(path)


def _explained(error: ErrorDetails, model: type[BaseModel], path: Path) -> str:
    """One line for one of pydantic's complaints."""
    keys, kind = error["loc"], error["type"]
    place = where(path, *keys)
    named = [str(key) for key in keys if not str(key).startswith(("[", "function-"))]
    name = named[-1] if named else "the file"
    if isinstance(keys[-1], int):
        name = f"entry {keys[-1] + 1} of {named[-2]}" if len(named) > 1 else f"entry {keys[-1] + 1}"
    if kind == "extra_forbidden":
        known = _keys_at(model, keys[:-1])
        return f"{place}: unknown key '{name}'.{suggest(name, known)} Known keys: {', '.join(known)}."
    if kind == "missing":
        return f"{place}: {name} is missing"
    if kind == "value_error":
        return f"{place}: {name} {error['ctx']['error']}"
    if kind == "model_type":
        return f"{place}: {name} must be lines or pairs of {', '.join(_keys_at(model, keys))}, not {error['input']!r}"
    words = error["msg"]
    for theirs, ours in PLAINER.items():
        words = words.replace(theirs, ours)
    if kind == "literal_error":
        words += f", not {error['input']!r}." + suggest(str(error["input"]), error["ctx"]["expected"].split("'")[1::2])
        return f"{place}: {name} {words}"
    return f"{place}: {name} {words[0].lower()}{words[1:]}, not {error['input']!r}"


def _keys_at(model: type[BaseModel], keys: Sequence[Any]) -> list[str]:
    """The keys that may stand at this place of the file."""
    for key in keys:
        if key in model.model_fields:
            model = next(_models(model.model_fields[key].annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model inside an annotation, as in dict[str, list[Model]]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def lines(path: Path) -> dict[tuple[Any, ...], int]:
    """Where everything stands in a YAML file that `read` accepts: the path of its keys and indices -> line, from 1."""
    found: dict[tuple[Any, ...], int] = {}

    def visit(node: yaml.Node, keys: tuple[Any, ...]) -> None:
        found.setdefault(keys, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                found[*keys, key.value] = key.start_mark.line + 1
                visit(value, (*keys, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                visit(value, (*keys, number))

    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    if root is not None:
        visit(root, ())
    return found
