"""Names to classes, without importing anything until a class is wanted.

A method is a file in `methods/`, a dataset a file in `benchmark/data/datasets/`: the file's name is its name.
Descriptions are read from the source with `ast`, so `list` answers without torch. From outside come
`path/to/file.py:Class` and the entry points of installed packages.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.docstring import Docstring, parse
from benchmark.errors import UserError, suggest
from benchmark.paths import ROOT

OURS = {"benchmark", "torch"}  # packages whose classes and objects are not the method's own


def is_path(name: str) -> bool:
    """Whether a name is a path to a Python file, with or without `:Class`."""
    return name.endswith(".py") or ".py:" in name


def portable(name: str) -> str:
    """The name without folders: a file that is moved gives the same runs (its digest tells whether it was changed)."""
    return Path(name).name if is_path(name) else name


def short(name: str) -> str:
    """What a table calls it: of a path the class alone."""
    return name.rpartition(":")[2] if is_path(name) else name


def own_classes(kind: type) -> list[type]:
    """A class and those of its ancestors that are neither the harness's nor torch's."""
    return [each for each in kind.__mro__ if each.__module__.partition(".")[0] not in OURS | {"builtins"}]


def own_files(kind: type) -> set[str]:
    """The files that these classes are written in."""
    return {inspect.getfile(each) for each in own_classes(kind)}


def split_path(name: str) -> tuple[Path, str]:
    """`path/to/file.py:Class` as (path, class); the class is empty where none is named."""
    path, _, class_name = name.rpartition(":") if ".py:" in name else (name, "", "")
    return Path(path), class_name


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


@dataclass(frozen=True)
class Installed:
    """An entry point: its name, and the package and version that it comes from."""

    point: EntryPoint
    package: str

    def about(self) -> str:
        """The first paragraph of its class's docstring, read without importing it, or what is wrong, in one line."""
        name, (first, *rest) = self.point.attr, self.point.module.split(".")
        try:
            origin = getattr(importlib.util.find_spec(first), "origin", None)
            if origin is None:
                raise LookupError(f"no module {first}")
            stem = Path(origin).parent.joinpath(*rest) if rest else Path(origin).with_suffix("")
            path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
            source = path.read_text(encoding="utf-8")
            nodes = ast.parse(source).body
        except (LookupError, SyntaxError, ValueError, OSError) as error:
            return f"broken: {' '.join(str(error).split())}"
        for node in nodes:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return " ".join((ast.get_docstring(node) or "no docstring").partition("\n\n")[0].split())
        if name and re.search(rf"\b{name}\b", source):
            return self.point.value  # it comes from elsewhere
        return f"broken: {self.point.module} has no class {name or 'named in its entry point'}"


@cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, Installed]:
    """Read once for a path: a large grid asks for every cell. Of several with one name the first on the path counts."""
    found: dict[str, Installed] = {}
    for point in entry_points(group=group):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
        found.setdefault(point.name, Installed(point, package))
    return dict(sorted(found.items()))


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
        return _described(name, (self.folder / f"{name}.py").read_text(encoding="utf-8"), self.base)

    def display(self, name: str) -> str:
        """What tables call it: its class's own `display`; without one, and of a class that is not here, its name."""
        if name in self.names():
            return self.describe(name).display
        try:
            return vars(self.load(name)).get("display") or short(name)
        except UserError:
            return short(name)

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
        return _installed(f"semihisto.{self.kind}s", tuple(sys.path))

    def knows(self, name: str) -> bool:
        """Whether `name` may be loaded, as far as that can be told without trying."""
        return name in self.names() or is_path(name) or name in self.outside()

    def load(self, name: str) -> Any:
        """The class called `name`; UserError with the near miss where there is none."""
        outside = self.outside()
        if is_path(name):
            found = self._from_path(name)
        elif name in self.names():
            found = getattr(importlib.import_module(f"{self.package}.{name}"), self.describe(name).class_name)
        elif name in outside:
            point = outside[name].point
            try:
                found = point.load()
            except Exception as error:
                cause = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                raise UserError(f"{self.kind} '{name}' of {outside[name].package}, {point.value} cannot be imported "
                                f"({cause})") from error
        else:
            known = [*self.names(), *outside]
            raise UserError(f"unknown {self.kind} '{name}'.{suggest(name, known, '.py')} Known: {', '.join(known)}.")
        if not self._is_one(found):
            what = "a class" if isinstance(found, type) else f"an instance of {type(found).__name__}"
            raise UserError(f"{name}: {what}, which does not derive from {self.base}")
        return found

    def full_name(self, name: str) -> str:
        """`name`; of a path that names no class, with the only one that is there: `own.py` is `own.py:Own`."""
        return name if not is_path(name) or split_path(name)[1] else f"{name}:{self.load(name).__name__}"

    def _from_path(self, name: str) -> Any:
        path, class_name = split_path(name)
        module = _module_in(path)
        own = [key for key, value in vars(module).items()
               if self._is_one(value) and value.__module__ == module.__name__ and not key.startswith("_")]
        listed = f"it holds {', '.join(own) or f'no class that derives from {self.base}'}"
        if not class_name and len(own) != 1:
            raise UserError(f"{path}: name the class, as in {path}:{own[0] if own else 'Class'}; {listed}")
        if class_name and not hasattr(module, class_name):
            raise UserError(f"{path}: no class '{class_name}'.{suggest(class_name, own)} {listed.capitalize()}.")
        return getattr(module, class_name or own[0])

    def _is_one(self, found: Any) -> bool:
        """Whether this is a class of the kind; the base is known by its name, so that it need not be imported."""
        return isinstance(found, type) and self.base in {parent.__name__ for parent in found.__mro__[1:]}


@lru_cache(256)
def _described(name: str, source: str, base: str) -> Entry:
    """The first class of a source that derives from `base`; of its attributes those that are written as literals."""
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    node = next((node for node in classes if base in map(ast.unparse, node.bases)), None)
    if node is None:
        raise UserError(f"{name}.py holds no class with {base} among its bases; write, for example, "
                        f"'class Mine({base})', or 'class Mine(Other, {base})'")
    found: dict[str, Any] = {"display": name}
    for line in node.body:
        target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
        if isinstance(target, ast.Name) and target.id in ("later", "display"):
            with contextlib.suppress(ValueError):  # no literal, or a type alone
                found[target.id] = ast.literal_eval(line.value)  # type: ignore[attr-defined]
        if isinstance(line, ast.FunctionDef) and line.name == "__init__":
            pairs = zip(line.args.kwonlyargs, line.args.kw_defaults, strict=True)
            found["hyperparameters"] = {
                arg.arg: tuple(ast.unparse(part) if part else "" for part in (arg.annotation, default))
                for arg, default in pairs
            }
    return Entry(name, node.name, ast.get_docstring(node) or "", **found)


def _module_in(path: Path) -> ModuleType:
    """The module in a file, imported once as long as the file stays as it is. UserError with the line where it cannot
    be imported."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return _imported(path.resolve(), path.read_bytes())
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
        cause = str(error).partition("\n")[0]
        if isinstance(error, SyntaxError):
            lines, cause = [error.lineno], error.msg
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise UserError(f"{where}: cannot be imported ({type(error).__name__}: {cause})") from error


@lru_cache(64)
def _imported(path: Path, source: bytes) -> ModuleType:
    name = f"semihisto_outside_{path.stem}_{hashlib.sha256(str(path).encode() + source).hexdigest()[:8]}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    try:
        exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


METHODS = Registry("method", "methods", "Method")
DATASETS = Registry("dataset", "benchmark.data.datasets", "Dataset")
