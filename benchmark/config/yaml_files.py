"""YAML files: without YAML's traps, checked by a pydantic model, and every mistake one line with file and line number.

`no` stays text, `10:30` is no number, `1e-3` is one, a key given twice is an error, and so many digits that no setting
has them are text.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from reprlib import repr as brief
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from benchmark.errors import UserError, suggest

PLAINER = {  # than pydantic's words
    "Input should be": "must be", "a valid dictionary": "'key: value' lines or pairs",
    "a valid integer": "a whole number", "a valid ": "a ",
    "List should have at least 1 item after validation, not 0": "must have an entry",
}


class Strict(BaseModel):
    """Base of what a file may hold: an unknown key is a mistake, and values keep their type (3 is no text)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        fields = ", ".join(cls.model_fields)
        if not isinstance(given, dict | cls):
            raise ValueError(f"must be lines or pairs of {fields}, not {given!r}")
        for key in given if isinstance(given, dict) else ():
            if key not in cls.model_fields:
                text = f"unknown key '{key}'.{suggest(key, cls.model_fields)} Known keys: {fields}."
                raise PydanticCustomError("unknown_key", "{text}", {"text": text, "key": key})
        return given


Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types, as people read them."""


_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("bool", r"^(?i:true|false)$", "tTfF"), ("null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("int", r"^[-+]?\d{1,18}$", "-+0123456789"),
    ("float", r"^[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if not isinstance(key, str | int | float) or keys.count(key) > 1:
            cause = f"key '{key}' is given twice" if keys.count(key) > 1 else "a key must be a name"
            raise yaml.constructor.ConstructorError(None, None, cause, node.start_mark)
    return dict(zip(keys, (loader.construct_object(value, deep=True) for _, value in node.value), strict=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str, where: str) -> Any:
    """The value that `text` writes; UserError with `where`, line and cause."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader with fewer types
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: not valid YAML ({getattr(error, 'problem', error)})") from None
    except (ValueError, RecursionError) as error:  # of a tag that the value does not fit; of endless brackets
        raise UserError(f"{where}: not valid YAML ({error})") from None


def written(value: Any) -> str:
    """A value of a setting as a text of one line that `parse` reads back."""
    text = value
    if isinstance(value, tuple | list) and all(isinstance(part, str) and "," not in part for part in value):
        text = ",".join(value)
    try:
        plain = isinstance(text, str) and parse(text, "") == text
    except UserError:
        plain = False
    return str(text) if plain else json.dumps(value, ensure_ascii=False)


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
        raise UserError(_explained(error.errors()[0], path)) from None


def where(path: Path, *keys: Any) -> str:
    """ "FILE, line N" of a place in a file that `read` accepts, or of what is nearest around it; keys that it lacks are
    skipped."""
    node, line = _tree(path.read_text(encoding="utf-8")), 0
    for key in map(str, keys):
        entries: list[tuple[str, yaml.Node, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            entries = [(name.value, name, value) for name, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            entries = [(str(number), value, value) for number, value in enumerate(node.value)]
        for name, place, value in entries:
            if name == key:
                node, line = value, place.start_mark.line + 1
    return f"{path}, line {line}" if line else str(path)


@lru_cache(4)
def _tree(text: str) -> yaml.Node | None:
    """Cached: an experiment asks for every row."""
    return yaml.compose(text, Loader=_Loader)


def _explained(error: ErrorDetails, path: Path) -> str:
    """One line for one of pydantic's complaints."""
    keys, kind = error["loc"], error["type"]
    if kind == "unknown_key":
        return f"{where(path, *keys, error['ctx']['key'])}: {error['msg']}"
    named = [str(key) for key in keys if not str(key).startswith(("[", "function-"))]
    name = named[-1] if named else "the file"
    if keys and isinstance(keys[-1], int):
        name = f"entry {keys[-1] + 1} of {named[-2]}" if len(named) > 1 else f"entry {keys[-1] + 1}"
    if kind == "missing":
        words = "is missing"
    elif kind == "value_error":
        words = str(error["ctx"]["error"])
    else:
        words = error["msg"]
        for theirs, ours in PLAINER.items():
            words = words.replace(theirs, ours)
        words = f"{words[0].lower()}{words[1:]}, not {brief(error['input'])}"
        if kind == "literal_error":
            words += "." + suggest(str(error["input"]), error["ctx"]["expected"].split("'")[1::2])
    return f"{where(path, *keys)}: {name} {words}"
