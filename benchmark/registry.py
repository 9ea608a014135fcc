"""Names to classes, without importing anything until a class is wanted.

A method is a file in `methods/`, a dataset a file in `benchmark/data/datasets/`: the file's name is its name.
Descriptions are read from the source with `ast`, so `list` answers without torch. From outside come
`path/to/file.py:Class` and installed entry points.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.errors import UserError, suggest
from benchmark.paths import ROOT


@dataclass(frozen=True)
class Entry:
    """What a source file tells of the class in it: name, class name, the docstring's first paragraph, and the rest."""

    name: str
    class_name: str
    summary: str
    text: str

    @property
    def year(self) -> int | None:
        """The first year that the summary names: of the publication, by our docstring convention."""
        found = re.search(r"\b(19|20)\d\d\b", self.summary)
        return int(found.group()) if found else None

    @property
    def citation(self) -> str:
        """What stands before the summary's first colon: authors and year."""
        return self.summary.split(":", 1)[0] if ":" in self.summary else ""


class Registry:
    """The classes of one kind: one file each in a package's folder, plus those given by path or by entry point."""

    def __init__(self, kind: str, package: str, base: str) -> None:
        self.kind, self.package, self.base = kind, package, base
        self.folder = ROOT.joinpath(*package.split("."))

    def names(self) -> list[str]:
        """All names in the package, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.py") if not path.stem.startswith("_"))

    def entries(self) -> list[Entry]:
        """Every entry, described from its source alone."""
        return [self.describe(name) for name in self.names()]

    def describe(self, name: str) -> Entry:
        """The entry of one name of the package, read with `ast`."""
        path = self.folder / f"{name}.py"
        entry = _described(name, path.read_text(encoding="utf-8"), self.base)
        if entry is None:
            raise UserError(f"{path} holds no class that derives from {self.base}")
        return entry

    def load(self, name: str) -> Any:
        """The class called `name`; UserError with the near miss when there is none."""
        if ".py:" in name:
            path, _, class_name = name.rpartition(":")
            return self._class(_module_from(Path(path)), class_name, name)
        if name in self.names():
            module = importlib.import_module(f"{self.package}.{name}")
            return self._class(module, self.describe(name).class_name, name)
        from importlib.metadata import entry_points

        outside = {point.name: point for point in entry_points(group=f"semihisto.{self.kind}s")}
        if name in outside:
            try:
                found = outside[name].load()
            except Exception as error:
                raise UserError(f"{self.kind} '{name}' cannot be imported ({type(error).__name__}: {error})") from error
            return self._checked(found, name)
        known = [*self.names(), *outside]
        raise UserError(f"unknown {self.kind} '{name}'.{suggest(name, known)} Known: {', '.join(known)}.")

    def _class(self, module: ModuleType, class_name: str, name: str) -> Any:
        return self._checked(getattr(module, class_name, None), name)

    def _checked(self, found: Any, name: str) -> Any:
        if not isinstance(found, type) or self.base not in {parent.__name__ for parent in found.__mro__}:
            raise UserError(f"{name}: no class there that derives from {self.base}")
        return found


@lru_cache(256)
def _described(name: str, source: str, base: str) -> Entry | None:
    """The first class of a source that derives from `base`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and any(ast.unparse(parent) == base for parent in node.bases):
            summary, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
            return Entry(name, node.name, " ".join(summary.split()), rest)
    return None


def _module_from(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    module_name = f"semihisto_outside_{path.stem}"
    specification = importlib.util.spec_from_file_location(module_name, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[module_name] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path}: cannot be imported ({type(error).__name__}: {error})") from error
    return module


METHODS = Registry("method", "methods", "Method")
DATASETS = Registry("dataset", "benchmark.data.datasets", "Dataset")
