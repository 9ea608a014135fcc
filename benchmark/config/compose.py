"""Layers of settings, later wins, and which layer set what.

default -> preset -> dataset -> the preset's recipe for (method, dataset) -> experiment -> --set
No inheritance, no interpolation: a layer is a flat mapping of dotted keys.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from benchmark.config import yaml_files
from benchmark.config.schema import SECTIONS, convert, fields_of
from benchmark.errors import UserError, suggest
from benchmark.paths import CONFIGS

Source = Literal["paper", "authors_code", "ours", "unknown"]
SOURCES = get_args(Source)
Values = Mapping[str, Any]  # dotted key -> value, or {value:, source:}


class Preset(yaml_files.Strict):
    """A file in configs/presets. `recipes`: method -> data set or `any` -> values."""

    about: str = ""
    source: Source = "ours"
    values: dict[str, Any] = {}
    recipes: dict[str, dict[str, dict[str, Any]]] = {}


class DatasetFacts(yaml_files.Strict):
    """A file in configs/datasets. `presets`: what a preset sets otherwise on this data set."""

    presets: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Setting:
    """A value, the layer that set it, and where the value comes from (paper, authors_code, ours; unknown: a guess)."""

    value: Any
    layer: str
    source: str


class Configuration:
    """All settings of a run, checked key by key against the sections and the method's signature."""

    def __init__(self, method_class: type) -> None:
        kinds = SECTIONS | {"method": method_class}
        self.fields = {f"{name}.{key}": field for name in kinds for key, field in fields_of(kinds[name]).items()}
        self.settings = {key: Setting(field.default, "default", "ours") for key, field in self.fields.items()}

    def update(self, values: Values, layer: str, source: str = "ours") -> None:
        """Lay `values` (dotted key -> value, or {value:, source:}) over what is there.

        A layer that names steps and no epochs means steps: it lifts the epochs of the layers below.
        """
        if _lifts_epochs(values):
            values = {**values, "train.epochs": None}
        for key, given in values.items():
            value, origin = given, source
            if isinstance(given, Mapping):
                if set(given) - {"value", "source"} or "value" not in given:
                    raise UserError(f"{layer}: {key}: expected a value, or {{value: ..., source: ...}}")
                value, origin = given["value"], given.get("source", source)
            if origin not in SOURCES:
                raise UserError(f"{layer}: {key}: source must be one of {', '.join(SOURCES)}, not {origin!r}")
            if key not in self.fields:
                section = str(key).partition(".")[0]
                known = [name for name in self.fields if name.startswith(f"{section}.")] or [*SECTIONS, "method"]
                raise UserError(f"{layer}: unknown key '{key}'.{suggest(key, self.fields)} Known: {', '.join(known)}.")
            self.settings[key] = Setting(convert(self.fields[key].type, value, f"{layer}: {key}"), layer, origin)

    def values(self) -> dict[str, Any]:
        """Dotted key -> value, in a fixed order."""
        return {key: self.settings[key].value for key in sorted(self.settings)}


def preset_names() -> list[str]:
    """The presets in configs/presets."""
    return sorted(path.stem for path in (CONFIGS / "presets").glob("*.yaml"))


def read_preset(name: str) -> Preset:
    """The preset called `name`."""
    path = CONFIGS / "presets" / f"{name}.yaml"
    if not path.is_file():
        known = preset_names()
        raise UserError(f"unknown preset '{name}'.{suggest(name, known)} Known: {', '.join(known)}.")
    return yaml_files.load(path, Preset)


def compose(
    method: str, method_class: type, dataset: str, preset: str, overrides: Values | None = None,
    experiment: Values | None = None,
) -> Configuration:
    """The configuration of `method` on `dataset` under `preset`, with an experiment's values and `--set` on top."""
    configuration, chosen = Configuration(method_class), read_preset(preset)
    configuration.update(chosen.values, f"preset {preset}", chosen.source)
    dataset_file = CONFIGS / "datasets" / f"{dataset}.yaml"
    if dataset_file.is_file():
        facts = yaml_files.load(dataset_file, DatasetFacts)
        configuration.update(facts.presets.get(preset, {}), f"dataset {dataset} ({preset})", chosen.source)
    for name in ("any", dataset):
        recipe = chosen.recipes.get(method, {}).get(name, {})
        configuration.update(recipe, f"recipe {preset}/{method}/{name}", chosen.source)
    configuration.update(experiment or {}, "experiment")
    configuration.update(overrides or {}, "--set")
    return configuration


def layered(below: Values, above: Values) -> dict[str, Any]:
    """Two layers as one, in which steps of the upper one lift epochs of the lower one, too."""
    lifted = {"train.epochs"} if _lifts_epochs(above) else set()
    return {key: value for key, value in below.items() if key not in lifted} | dict(above)


def _lifts_epochs(layer: Values) -> bool:
    return "train.steps" in layer and "train.epochs" not in layer


def settings_in(command: str) -> list[str]:
    """What a record's command gives to `--set`, as `a.b=c` each; nothing where somebody has spoiled it."""
    try:
        words = shlex.split(command)
    except ValueError:
        return []
    return [value for option, value in pairwise(words) if option == "--set"]


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """`a.b=c` strings as a mapping; the right side is read as YAML."""
    values = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        values[key.strip()] = yaml_files.parse(text, f"--set {key}")
    return values
