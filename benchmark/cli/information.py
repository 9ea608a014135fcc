"""`list`: what there is, read from sources and folders without importing anything heavy."""

from __future__ import annotations

import argparse
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK

KINDS = ("methods", "datasets", "nets", "presets", "splits", "experiments")


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("list", help="what there is: methods, datasets, nets, presets ...", allow_abbrev=False)
    parser.add_argument("kind", nargs="?", choices=KINDS, default="methods")
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    rows = ROWS[arguments.kind]()
    if arguments.json:
        shared.print_json(rows)
        return OK
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        origin = f" [{row['from']}]" if "from" in row else ""
        print(f"{row['name']:<{width}}  {row['about']}{origin}")
    return OK


def _methods() -> list[dict[str, Any]]:
    from benchmark.registry import METHODS

    ours = [{"name": e.name, "about": e.summary, "year": e.year, "citation": e.citation} for e in METHODS.entries()]
    return ours + _outside(METHODS)


def _datasets() -> list[dict[str, Any]]:
    from benchmark.registry import DATASETS

    return [{"name": e.name, "about": e.summary} for e in DATASETS.entries()] + _outside(DATASETS)


def _outside(registry: Any) -> list[dict[str, Any]]:
    """What installed packages offer; one that is broken, or out of reach, says so in its own line."""
    ours = registry.names()
    return [
        {"name": name, "from": entry.package,
         "about": f"out of reach: a {registry.kind} of this name is here" if name in ours else entry.about()}
        for name, entry in registry.outside().items()
    ]


def _nets() -> list[dict[str, Any]]:
    from benchmark.nets.catalogue import NAMES

    return [{"name": name, "about": about} for name, about in NAMES.items()]


def _yaml_folder(folder: str) -> list[dict[str, Any]]:
    from benchmark.config import yaml_files
    from benchmark.paths import CONFIGS

    paths = sorted((CONFIGS / folder).glob("*.yaml"))
    return [{"name": path.stem, "about": " ".join(yaml_files.read(path).get("about", "").split())} for path in paths]


def _splits() -> list[dict[str, Any]]:
    import json

    from benchmark.paths import CONFIGS

    rows = []
    for path in sorted((CONFIGS / "splits").glob("*/*.json")):
        about = json.loads(path.read_text(encoding="utf-8")).get("about", "")
        rows.append({"name": f"{path.parent.name}/{path.stem}", "about": about})
    return rows


ROWS = {
    "methods": _methods,
    "datasets": _datasets,
    "nets": _nets,
    "presets": lambda: _yaml_folder("presets"),
    "splits": _splits,
    "experiments": lambda: _yaml_folder("experiments"),
}
