"""Classes that users bring: by path (`path/to/file.py:Class`) and by the entry points of installed packages."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from benchmark.errors import UserError


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
    """The module in a file, imported once as long as the file stays as it is. UserError with the line where it cannot
    be imported."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return _module(path.resolve(), path.read_bytes())
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        cause = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
        where = f"{path}, line {line}" if line else str(path)
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


@dataclass(frozen=True)
class Installed:
    """An entry point: its name, and the package and version that it comes from."""

    point: EntryPoint
    package: str

    def about(self) -> str:
        """The first paragraph of its class's docstring, read without importing it, or what is wrong, in one line."""
        first, *rest = self.point.module.split(".")
        try:
            origin = getattr(importlib.util.find_spec(first), "origin", None)
            if origin is None:
                raise LookupError(f"no module {first}")
            stem = Path(origin).parent.joinpath(*rest) if rest else Path(origin).with_suffix("")
            path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
            nodes = ast.parse(path.read_text(encoding="utf-8")).body
        except (LookupError, SyntaxError, ValueError, OSError) as error:
            return f"broken: {' '.join(str(error).split())}"
        for node in nodes:
            if isinstance(node, ast.ClassDef) and node.name == self.point.attr:
                return " ".join((ast.get_docstring(node) or "no docstring").partition("\n\n")[0].split())
            imported = [each.asname or each.name for each in getattr(node, "names", ())]
            if isinstance(node, ast.ImportFrom) and self.point.attr in imported:
                return self.point.value  # it comes from elsewhere
        return f"broken: {self.point.module} has no class {self.point.attr or 'named in its entry point'}"


def installed(group: str) -> dict[str, Installed]:
    """The entry points of a group by name; of several with one name the first on the path."""
    return _installed(group, tuple(sys.path))


@cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, Installed]:
    """Read once for a path: a large grid asks for every cell."""
    found: dict[str, Installed] = {}
    for point in entry_points(group=group):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
        found.setdefault(point.name, Installed(point, package))
    return dict(sorted(found.items()))
