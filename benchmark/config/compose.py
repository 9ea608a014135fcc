"""Layers of settings, later wins, and which layer set what.

signature -> configs/defaults.yaml -> preset -> dataset -> the preset's recipe for (method, dataset) -> experiment
-> --set
No inheritance, no interpolation: a layer is a flat mapping of dotted keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.config import yaml_files
from benchmark.config.schema import SECTIONS
from benchmark.config.validate import Field, bind, convert, fields_of
from benchmark.errors import UserError, suggest
from benchmark.paths import CONFIGS

SOURCES = ("paper", "authors_code", "ours", "unknown")


@dataclass(frozen=True)
class Setting:
    """A value, the layer that set it, and where the value comes from (paper, authors_code, ours; unknown: a guess)."""

    value: Any
    layer: str
    source: str


class Configuration:
    """All settings of a run, checked key by key against the sections and the method's signature."""

    def __init__(self, method: str, method_class: type) -> None:
        self.fields: dict[str, Mapping[str, Field]] = {name: fields_of(kind) for name, kind in SECTIONS.items()}
        self.fields["method"] = fields_of(method_class)
        self.settings = {
            f"{section}.{key}": Setting(field.default, "signature", "ours")
            for section, fields in self.fields.items()
            for key, field in fields.items()
        }
        self.method = method

    def update(self, values: Mapping[str, Any], layer: str, source: str = "ours") -> None:
        """Lay `values` (dotted key -> value, or {value:, source:}) over what is there.

        A layer that names steps and no epochs means steps: it lifts the epochs of the layers below.
        """
        if "train.steps" in values and "train.epochs" not in values:
            values = {**values, "train.epochs": None}
        for key, given in values.items():
            value, origin = given, source
            if isinstance(given, Mapping):
                if set(given) - {"value", "source"} or "value" not in given:
                    raise UserError(f"{layer}: {key}: expected a value, or {{value: ..., source: ...}}")
                value, origin = given["value"], given.get("source", source)
            if origin not in SOURCES:
                raise UserError(f"{layer}: {key}: source must be one of {', '.join(SOURCES)}, not {origin!r}")
            section, _, name = str(key).partition(".")
            if section not in self.fields or not name:
                near = suggest(str(key), self.settings)
                raise UserError(f"{layer}: unknown key '{key}'.{near} Sections: {', '.join(self.fields)}.")
            if name not in self.fields[section]:
                bind(self.fields[section], {name: value}, f"{layer}: {section}")
            kind = self.fields[section][name].type
            self.settings[key] = Setting(convert(kind, value, f"{layer}: {key}"), layer, origin)

    def field(self, key: str) -> Field:
        """What the schema says of a dotted key."""
        section, _, name = key.partition(".")
        return self.fields[section][name]

    def values(self) -> dict[str, Any]:
        """Dotted key -> value, in a fixed order."""
        return {key: self.settings[key].value for key in sorted(self.settings)}


def preset_names() -> list[str]:
    """The presets in configs/presets."""
    return sorted(path.stem for path in (CONFIGS / "presets").glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """The preset's file: `about`, `source`, `values` and `recipes` (method -> dataset or `any` -> values)."""
    path = CONFIGS / "presets" / f"{name}.yaml"
    if not path.is_file():
        known = preset_names()
        raise UserError(f"unknown preset '{name}'.{suggest(name, known)} Known: {', '.join(known)}.")
    return _known_keys(path, {"about", "source", "values", "recipes"})


def compose(
    method: str, method_class: type, dataset: str, preset: str, overrides: Mapping[str, Any] | None = None,
    experiment: Mapping[str, Any] | None = None,
) -> Configuration:
    """The configuration of `method` on `dataset` under `preset`, with an experiment's values and `--set` on top."""
    configuration = Configuration(method, method_class)
    defaults = CONFIGS / "defaults.yaml"
    configuration.update(_known_keys(defaults, {"about", "values"}).get("values") or {}, "defaults.yaml")
    chosen = read_preset(preset)
    source = chosen.get("source", "ours")
    configuration.update(chosen.get("values") or {}, f"preset {preset}", source)
    dataset_file = CONFIGS / "datasets" / f"{dataset}.yaml"
    if dataset_file.is_file():
        facts = _known_keys(dataset_file, {"about", "values", "presets"})
        configuration.update(facts.get("values") or {}, f"dataset {dataset}")
        configuration.update((facts.get("presets") or {}).get(preset) or {}, f"dataset {dataset} ({preset})", source)
    recipes = (chosen.get("recipes") or {}).get(method) or {}
    for name in ("any", dataset):
        configuration.update(recipes.get(name) or {}, f"recipe {preset}/{method}/{name}", source)
    configuration.update(experiment or {}, "experiment")
    configuration.update(overrides or {}, "--set")
    return configuration


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """`a.b=c` strings as a mapping; the right side is read as YAML."""
    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair}: expected KEY=VALUE, as in --set train.steps=100")
        values[key.strip()] = yaml_files.parse(text, f"--set {key}")
    return values


def _known_keys(path: Path, known: set[str]) -> dict[str, Any]:
    content = yaml_files.read(path)
    for key in content:
        if key not in known:
            raise UserError(f"{path}: unknown key '{key}'.{suggest(key, known)} Known: {', '.join(sorted(known))}.")
    return content
