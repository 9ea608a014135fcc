"""What `new` writes: working sources in which two names are replaced. They are linted and tested as they stand here."""

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
    """Write both files, or neither: the method's, the tests', and the class's name. UserError where one exists, and
    where a file and a class cannot be called so."""
    class_name = "".join(part[:1].upper() + part[1:] for part in name.split("_"))  # `pseudo_label` as `PseudoLabel`
    check_name(name, class_name)
    method = Path(output or f"{name}.py")
    tests, module = method.with_name(f"test_{method.name}"), method.stem
    if in_repository:
        method, tests, module = ROOT / "methods" / f"{name}.py", ROOT / "tests" / f"test_{name}.py", f"methods.{name}"
        if not tests.parent.is_dir():
            raise UserError(f"{ROOT} is no checkout of the repository; leave out --in-repository")
    if method.suffix != ".py" or not method.stem.isidentifier() or keyword.iskeyword(method.stem):
        raise UserError(f"--output {method}: name a Python file that can be imported, as in {name}.py")
    for path in (method, tests):
        if path.exists() or path.is_symlink():
            raise UserError(f"{path} exists and is not overwritten; choose another name, or move the file away")
    if not output and METHODS.knows(name):
        raise UserError(f"a method '{name}' exists; choose another name")
    if not output and importlib.util.find_spec(name) is not None:
        raise UserError(f"a file {name}.py would hide Python's module '{name}'; choose another name")
    for path, template in ((method, f"{MODULE}.py"), (tests, f"test_{MODULE}.py")):
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        write_text(path, text.replace(MODULE, module).replace(CLASS, class_name))
    return method, tests, class_name


def check_name(name: str, class_name: str) -> None:
    """UserError where a file and a class cannot be called so."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        near = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()
        hint = f", as in {near}" if re.fullmatch(r"[a-z][a-z0-9_]*", near) else ""
        raise UserError(f"'{name}' cannot be a method's name: use lower-case letters, digits and underscores{hint}")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or keyword.iskeyword(class_name):
        raise UserError(f"'{name}' is a word of Python and cannot be a method's name")
