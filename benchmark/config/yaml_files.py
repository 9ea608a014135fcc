"""YAML without its traps: `no` stays text, `10:30` is no number, `1e-3` is one, a key given twice is an error."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from benchmark.errors import UserError


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
