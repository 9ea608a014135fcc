"""`list`, `explain`, `doctor`: list methods and data sets, show a run's settings, check this machine."""

from __future__ import annotations

import argparse
import inspect
import json
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmark.cli import common_args as shared
from benchmark.errors import CHECK_FAILED, OK

if TYPE_CHECKING:
    from benchmark.config.compose import Setting
    from benchmark.registry import Entry, Registry

KINDS = ("methods", "datasets", "nets", "presets", "splits", "experiments")


def add(verbs: shared.Verbs) -> None:
    """Describe the verbs."""
    about = "list methods, datasets, nets, presets, splits or experiments"
    listing = shared.add_verb(verbs, "list", about, show_list, "--json")
    listing.add_argument("kind", nargs="?", choices=KINDS, default="methods", help="default: methods")
    about = "show every setting of a run, the layer that set it, and its source; takes the options of `run`"
    shared.add_verb(verbs, "explain", about, explain, *shared.CELL, "--device", "--results", "--data", "--json")
    about = "check versions, device, memory, disk and data, with a short self-test"
    shared.add_verb(verbs, "doctor", about, doctor, "--device", "--results", "--data", "--json")


def show_list(arguments: argparse.Namespace) -> int:
    """Print the list; nothing heavy is imported for it."""
    rows = _rows(arguments.kind)
    about = {row["name"]: row["about"] + (f" [{row['from']}]" if "from" in row else "") for row in rows}
    shared.show(arguments, rows, shared.aligned(about))
    return OK


def _rows(kind: str) -> list[dict[str, Any]]:
    from benchmark.config import yaml_files
    from benchmark.data.collections import COLLECTIONS
    from benchmark.nets import NAMES
    from benchmark.paths import CONFIGS
    from benchmark.registry import DATASETS, METHODS

    if kind == "methods":
        return [_method(entry) for entry in METHODS.entries()] + _installed(METHODS)
    if kind == "datasets":
        about = {e.name: e.summary for e in DATASETS.entries()} | {name: c.about for name, c in COLLECTIONS.items()}
        return [{"name": name, "about": about[name]} for name in sorted(about)] + _installed(DATASETS)
    if kind == "nets":
        return [{"name": name, "about": about} for name, about in NAMES.items()]
    if kind == "splits":
        paths = sorted((CONFIGS / kind).glob("*/*.json"))
        texts = {f"{path.parent.name}/{path.stem}": json.loads(path.read_text(encoding="utf-8")) for path in paths}
    else:
        texts = {path.stem: yaml_files.read(path) for path in sorted((CONFIGS / kind).glob("*.yaml"))}
    return [{"name": name, "about": " ".join(text.get("about", "").split())} for name, text in texts.items()]


def _method(entry: Entry) -> dict[str, Any]:
    """A method's line; its hyper-parameters with range, default and what the docstring says of them."""
    from benchmark import ranges

    told = entry.doc.arguments
    known = {
        name: {"allowed": ranges.allowed(getattr(ranges, kind, None)) or kind, "default": default,
               "about": told.get(name, "")}
        for name, (kind, default) in entry.hyperparameters.items()
    }
    return {"name": entry.name, "display": entry.display, "about": entry.summary, "year": entry.year,
            "citation": entry.citation, "hyperparameters": known}


def _installed(registry: Registry) -> list[dict[str, Any]]:
    """What installed packages offer; a broken or hidden one says so in its own line."""
    ours, hidden = registry.names(), f"hidden by the built-in {registry.kind} of this name"
    return [{"name": name, "from": entry.package, "about": hidden if name in ours else entry.about()}
            for name, entry in registry.outside().items()]


def explain(arguments: argparse.Namespace) -> int:
    """Print the settings."""
    from benchmark import ranges
    from benchmark.config.compose import compose
    from benchmark.data.annotation import in_words
    from benchmark.data.load import load_dataset
    from benchmark.docstring import parse
    from benchmark.registry import METHODS
    from benchmark.runs.request import specify
    from benchmark.training import device as devices

    dataset = load_dataset(arguments.dataset)
    asked = shared.request(arguments)
    kind = METHODS.load(asked.method)
    configuration = compose(asked.method, kind, dataset.name, asked.preset, asked.overrides)
    settings, told = configuration.settings, parse(inspect.getdoc(kind) or "").arguments
    allowed = {key: ranges.allowed(configuration.fields[key].type) for key in settings}
    about = {key: told.get(key.removeprefix("method."), "") if key.startswith("method.") else "" for key in settings}
    if settings["data.normalise"].value == "auto":
        settings["data.normalise"] = _normalise(configuration.values(), settings["data.normalise"])
    kind_of_device = devices.choose(arguments.device, must_exist=False).type
    for key, value in devices.resolve(configuration.values(), kind_of_device).items():
        if settings[key].value == "auto":
            settings[key] = replace(settings[key], value=value, layer=f"auto: on {kind_of_device}")
    found = {key: {**vars(setting), "allowed": allowed[key], "about": about[key]} for key, setting in settings.items()}
    lines, width = [], max(map(len, settings))
    for key, setting in sorted(settings.items()):
        value = ",".join(map(str, setting.value)) if isinstance(setting.value, tuple) else str(setting.value)
        told_range = f"; {allowed[key]}" if allowed[key] else ""
        lines.append(f"{key:<{width}}  {value:<14}  {setting.layer} ({setting.source}){told_range}")
        lines += textwrap.wrap(about[key], 110, initial_indent=4 * " ", subsequent_indent=4 * " ")
    if settings["labels.glands"].value is not None:
        run = specify(asked, kind_of_device)
        sparse = shared.annotated(run, arguments.data) | {"images": len(run.split.labelled)}
        found["labels.glands"]["annotated"] = sparse
        lines.append(f"annotated: {in_words(sparse)}, in {sparse['images']} labelled images")
    shared.show(arguments, found, lines)
    return OK


def _normalise(values: Mapping[str, Any], setting: Setting) -> Setting:
    """What `auto` means beside these weights, in numbers where they bring them."""
    from benchmark.nets.weights import STATISTICS, normalisation

    choice = normalisation(values)
    mean, std = STATISTICS.get(choice, ((), ()))
    numbers = f", mean {' '.join(map(str, mean))}, std {' '.join(map(str, std))}" if mean else ""
    layer = f"auto: as net.weights={values['net.weights']} were trained{numbers}" if mean else "auto: net.weights unset"
    return replace(setting, value=choice, layer=layer)


def doctor(arguments: argparse.Namespace) -> int:
    """Print what was found; exit code 4 where something is broken."""
    from benchmark.conformance.doctor import diagnose
    from benchmark.training import device as devices

    found = diagnose(devices.choose(arguments.device), arguments.results, arguments.data)
    shared.show(arguments, {**vars(found), "verdict": found.verdict}, [
        *shared.aligned(found.facts), *(f"warning: {line}" for line in found.warnings),
        *(f"broken: {line}" for line in found.broken), found.verdict,
    ])
    return CHECK_FAILED if found.broken else OK
