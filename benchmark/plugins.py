"""Classes that users bring: by path (`path/to/file.py:Class`) and by the entry points of installed packages.

A file is imported once, as long as it stays as it is. Entry points are described from their source without being
imported, so that `list` answers at once and one that is broken takes no other with it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

from benchmark.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def is_path(name: str) -> bool:
    """Whether a name is a path to a Python file, with or without `:Class`."""
    return name.endswith(".py") or ".py:" in name


def portable(name: str) -> str:
    """The name without folders: a file that is moved gives the same runs (its digest tells whether it was changed)."""
    return Path(name).name if is_path(name) else name


def short(name: str) -> str:
    """What a table calls it: of a path the class alone."""
    return name.rpartition(":")[2] if is_path(name) else name


def split_path(name: str) -> tuple[Path, str]:
    """`path/to/file.py:Class` as (path, class); the class is empty where none is named."""
    path, _, class_name = name.rpartition(":") if ".py:" in name else (name, "", "")
    return Path(path), class_name


def module_from(path: Path) -> ModuleType:
    """The module in a file. UserError with the line where it cannot be imported."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return _module(path.resolve(), path.read_bytes())
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else line_of(error.__traceback__, path)
        where = f"{path}, line {line}" if line else str(path)
        cause = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
        raise UserError(f"{where}: cannot be imported ({type(error).__name__}: {cause})") from error


@lru_cache(64)
def _module(path: Path, source: bytes) -> ModuleType:
    name = f"semihisto_outside_{path.stem}_{hashlib.sha256(str(path).encode() + source).hexdigest()[:8]}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    code = compile(source, path, "exec", dont_inherit=True)
    sys.modules[name] = module
    try:
        exec(code, vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def line_of(traceback: TracebackType | None, path: Path) -> int | None:
    """The line of a file that a traceback passed last."""
    found = None
    while traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename) == path.resolve():
            found = traceback.tb_lineno
        traceback = traceback.tb_next
    return found


@dataclass(frozen=True)
class Installed:
    """An entry point: its name, and the package and version that it comes from."""

    point: EntryPoint
    package: str

    def source(self) -> str:
        """The text of its module, found without importing anything. LookupError where there is none."""
        module, path = self.point.module, _file_of(self.point.module)
        if path is None:
            raise LookupError(f"no module {module}")
        return path.read_text(encoding="utf-8")

    def about(self) -> str:
        """The first paragraph of its class's docstring, or what is wrong, in one line."""
        try:
            nodes = ast.parse(self.source()).body
        except (LookupError, SyntaxError, ValueError, OSError) as error:
            return f"broken: {' '.join(str(error).split())}"
        for node in nodes:
            if isinstance(node, ast.ClassDef) and node.name == self.point.attr:
                return " ".join((ast.get_docstring(node) or "no docstring").partition("\n\n")[0].split())
        imported = (alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom)
                    for alias in node.names)
        if self.point.attr in imported:
            return self.point.value
        return f"broken: {self.point.module} has no class {self.point.attr or 'named in its entry point'}"


def installed(group: str) -> dict[str, Installed]:
    """The entry points of a group by name; of several with one name the first on the path."""
    return dict(_installed(group, tuple(sys.path)))


@cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, Installed]:
    """Read once for a path: a large grid asks for every cell."""
    from importlib.metadata import entry_points

    found: dict[str, Installed] = {}
    for point in entry_points(group=group):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
        found.setdefault(point.name, Installed(point, package))
    return dict(sorted(found.items()))


def _file_of(module: str) -> Path | None:
    first, *rest = module.split(".")
    specification = importlib.util.find_spec(first)
    for depth in range(len(rest)):
        if specification is None:
            return None
        name = ".".join([first, *rest[: depth + 1]])
        specification = PathFinder.find_spec(name, specification.submodule_search_locations)
    return Path(specification.origin) if specification and specification.has_location and specification.origin else None
