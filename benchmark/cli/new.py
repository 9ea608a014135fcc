"""`new`: the sources of a method of one's own, from a template that works."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import shlex
from pathlib import Path
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK, UserError
from benchmark.paths import ROOT

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
MODULE, CLASS = "own_method", "OwnMethod"  # as the templates call it


def add(verbs: Any) -> None:
    """Describe the verb and what it makes."""
    parser = verbs.add_parser("new", help="start a method of your own, from one that works", allow_abbrev=False)
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True, parser_class=type(parser))
    about = "write a method that works, and tests of its mechanism; nothing is overwritten"
    method = kinds.add_parser("method", help=about, description=about, allow_abbrev=False)
    method.add_argument("name", help="in lower case, as in pseudo_label; its class is then PseudoLabel")
    place = method.add_mutually_exclusive_group()
    place.add_argument("--output", metavar="FILE", help="where to (default: NAME.py); its tests go beside it")
    place.add_argument("--in-repository", action="store_true", help="into methods/ and tests/ of this checkout")
    shared.add_json(method)
    method.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Write both files, or neither, and say what to do next."""
    from benchmark.files import write_text

    name = arguments.name
    check_name(name)
    method, tests = places(name, arguments.output, arguments.in_repository)
    for path in (method, tests):
        if path.exists() or path.is_symlink():
            raise UserError(f"{path} is there already, and is not overwritten; take another name, or move it away")
    if not arguments.output:
        check_free(name)
    class_name = class_of(name)
    module = f"methods.{name}" if arguments.in_repository else method.stem
    for path, template in ((method, f"{MODULE}.py"), (tests, f"test_{MODULE}.py")):
        text = (TEMPLATES / template).read_text(encoding="utf-8").replace(MODULE, module).replace(CLASS, class_name)
        write_text(path, text)
    called = name if arguments.in_repository else shlex.quote(f"{method}:{class_name}")
    commands = [
        f"python -m benchmark check {called}",
        f"python -m benchmark run --method {called} --dataset synthetic --preset demo",
        f"python -m pytest {shlex.quote(str(tests))}",
    ]
    if arguments.json:
        shared.print_json({"class": class_name, "method": str(method), "tests": str(tests), "next": commands})
    else:
        print("\n".join([f"wrote {method}", f"wrote {tests}", "next:", *(f"  {command}" for command in commands)]))
    return OK


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
    """UserError where a method, or a module that this file would hide, is called so."""
    from benchmark.registry import METHODS

    if METHODS.knows(name):
        raise UserError(f"there is a method '{name}' already; take another name")
    if importlib.util.find_spec(name) is not None:
        raise UserError(f"a file {name}.py would hide Python's module '{name}'; take another name")


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
