"""Names to classes, without importing anything until a class is wanted.

A method is a file in `methods/`, a dataset a file in `benchmark/data/datasets/`: the file's name is its name.
Descriptions are read from the source with `ast`, so `list` answers without torch. From outside come
`path/to/file.py:Class` and installed entry points.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from benchmark.docstring import Docstring, parse
from benchmark.errors import UserError, suggest
from benchmark.paths import ROOT
from benchmark.plugins import Installed, installed, is_path, module_from, short, split_path


@dataclass(frozen=True)
class Entry:
    """What a source file says of the class in it: name, class name and docstring.

    `display` is the name for tables and figures ("UA-MT"); a class without one is called by its name.
    `hyperparameters`: name -> (type, default), as the source has them.
    """

    name: str
    class_name: str
    text: str
    later: Mapping[str, Any] = field(default_factory=dict)  # the class's `later`, where it is a literal
    display: str = ""
    hyperparameters: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @cached_property
    def doc(self) -> Docstring:
        """The docstring in its parts."""
        return parse(self.text)

    @property
    def summary(self) -> str:
        """The docstring's first paragraph."""
        return self.doc.summary

    @property
    def year(self) -> int | None:
        """The first year that the summary names: of the publication, by our docstring convention."""
        found = re.search(r"\b(19|20)\d\d\b", self.summary)
        return int(found.group()) if found else None

    @property
    def citation(self) -> str:
        """Authors, year and venue: what the summary has in brackets, or all before its first colon."""
        head, colon, _ = self.summary.partition(":")
        return head.removeprefix(f"{self.display} (").removesuffix(")") if colon else ""


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
        """The entry of one name of the package, read with `ast`; of any other name only what it is called."""
        path = self.folder / f"{name}.py"
        if not path.is_file():  # a path, an installed class, or a method of another machine
            return Entry(name, "", "", display=short(name))
        entry = _described(name, path.read_text(encoding="utf-8"), self.base)
        if entry is None:
            raise UserError(f"{path} holds no class that derives from {self.base}")
        return entry

    def later(self, name: str) -> Mapping[str, Any]:
        """Neutral values of the hyper-parameters that class `name` says were added after runs were recorded.

        Empty for a class that is not here: a record may be of a method that another machine has.
        """
        if name in self.names():
            return self.describe(name).later
        try:
            return getattr(self.load(name), "later", {})
        except UserError:
            return {}

    def outside(self) -> dict[str, Installed]:
        """What installed packages offer, by name; a name of ours hides theirs."""
        return installed(f"semihisto.{self.kind}s")

    def knows(self, name: str) -> bool:
        """Whether `name` may be loaded, as far as that can be told without trying."""
        return name in self.names() or is_path(name) or name in self.outside()

    def load(self, name: str) -> Any:
        """The class called `name`; UserError with the near miss where there is none."""
        installed_ones = self.outside()
        if is_path(name):
            found = self._from_path(name)
        elif name in self.names():
            found = getattr(importlib.import_module(f"{self.package}.{name}"), self.describe(name).class_name)
        elif name in installed_ones:
            point, package = installed_ones[name].point, installed_ones[name].package
            try:
                found = point.load()
            except Exception as error:
                cause = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                raise UserError(f"{self.kind} '{name}' of {package}, {point.value} cannot be imported ({cause})"
                                ) from error
        else:
            known = [*self.names(), *installed_ones]
            raise UserError(f"unknown {self.kind} '{name}'.{suggest(name, known)} Known: {', '.join(known)}.")
        if not self._is_one(found):
            what = "a class" if isinstance(found, type) else f"an instance of {type(found).__name__}"
            raise UserError(f"{name}: {what}, which does not derive from {self.base}")
        return found

    def full_name(self, name: str) -> str:
        """`name`; of a path that names no class, with the only one that is there: `own.py` is `own.py:Own`."""
        return name if not is_path(name) or split_path(name)[1] else f"{name}:{self.load(name).__name__}"

    def _from_path(self, name: str) -> Any:
        path, class_name = split_path(name)
        module = module_from(path)
        own = [
            key for key, value in vars(module).items()
            if self._is_one(value) and value.__module__ == module.__name__ and not key.startswith("_")
        ]
        listed = f"it holds {', '.join(own)}" if own else f"it holds no class that derives from {self.base}"
        if not class_name and len(own) != 1:
            raise UserError(f"{path}: name the class, as in {path}:{own[0] if own else 'Class'}; {listed}")
        if class_name and not hasattr(module, class_name):
            raise UserError(f"{path}: no class '{class_name}'.{suggest(class_name, own)} {listed.capitalize()}.")
        return getattr(module, class_name or own[0])

    def _is_one(self, found: Any) -> bool:
        """Whether this is a class of the kind; the base is known by its name, so that it need not be imported."""
        return isinstance(found, type) and self.base in {parent.__name__ for parent in found.__mro__[1:]}


@lru_cache(256)
def _described(name: str, source: str, base: str) -> Entry | None:
    """The first class of a source that derives from `base`; of its attributes those that are written as literals."""
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef) or base not in map(ast.unparse, node.bases):
            continue
        literals: dict[str, Any] = {}
        for line in node.body:
            if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
                target = line.targets[0] if isinstance(line, ast.Assign) else line.target
                if isinstance(target, ast.Name) and target.id in ("later", "display"):
                    literals[target.id] = ast.literal_eval(line.value)
        text, hyperparameters = ast.get_docstring(node) or "", _hyperparameters(node)
        return Entry(name, node.name, text, **{"display": name, "hyperparameters": hyperparameters, **literals})
    return None


def _hyperparameters(node: ast.ClassDef) -> Mapping[str, tuple[str, str]]:
    """Type and default of the constructor's keyword-only arguments."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            pairs = zip(part.args.kwonlyargs, part.args.kw_defaults, strict=True)
            return {arg.arg: (ast.unparse(arg.annotation) if arg.annotation else "",
                              ast.unparse(default) if default else "") for arg, default in pairs}
    return {}


METHODS = Registry("method", "methods", "Method")
DATASETS = Registry("dataset", "benchmark.data.datasets", "Dataset")
