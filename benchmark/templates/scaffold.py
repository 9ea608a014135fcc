"""Writes the sources of a new method and of its tests, from templates that work."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

from benchmark.errors import UserError
from benchmark.files import write_text
from benchmark.paths import ROOT
from benchmark.registry import METHODS

TEMPLATES = Path(__file__).resolve().parent
MODULE, CLASS = "own_method", "OwnMethod"  # as the templates call it


def write_method(name: str, output: str | None, in_repository: bool) -> tuple[Path, Path, str]:
    """Write both files, or neither: the method's, the tests', and the class's name. UserError where one exists."""
    check_name(name)
    method, tests = places(name, output, in_repository)
    for path in (method, tests):
        if path.exists() or path.is_symlink():
            raise UserError(f"{path} exists and is not overwritten; choose another name, or move the file away")
    if not output:
        check_free(name)
    module = f"methods.{name}" if in_repository else method.stem
    for path, template in ((method, f"{MODULE}.py"), (tests, f"test_{MODULE}.py")):
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        write_text(path, text.replace(MODULE, module).replace(CLASS, class_of(name)))
    return method, tests, class_of(name)


def class_of(name: str) -> str:
    """`pseudo_label` as `PseudoLabel`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def check_name(name: str) -> None:
    """UserError where this cannot be the name of a file and a class."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        near = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()
        hint = f", as in {near}" if re.fullmatch(r"[a-z][a-z0-9_]*", near) else ""
        raise UserError(f"'{name}' cannot be a method's name: use lower-case letters, digits and underscores{hint}")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or keyword.iskeyword(class_of(name)):
        raise UserError(f"'{name}' is a word of Python and cannot be a method's name")


def check_free(name: str) -> None:
    """UserError where a method, or a module that this file would hide, has this name."""
    if METHODS.knows(name):
        raise UserError(f"a method '{name}' exists; choose another name")
    if importlib.util.find_spec(name) is not None:
        raise UserError(f"a file {name}.py would hide Python's module '{name}'; choose another name")


def places(name: str, output: str | None, in_repository: bool) -> tuple[Path, Path]:
    """Where the method and its tests go."""
    if in_repository:
        if not (ROOT / "tests").is_dir():
            raise UserError(f"{ROOT} is no checkout of the repository; leave out --in-repository")
        return ROOT / "methods" / f"{name}.py", ROOT / "tests" / f"test_{name}.py"
    path = Path(output or f"{name}.py")
    if path.suffix != ".py" or not path.stem.isidentifier() or keyword.iskeyword(path.stem):
        raise UserError(f"--output {path}: name a Python file that can be imported, as in {name}.py")
    return path, path.with_name(f"test_{path.name}")
