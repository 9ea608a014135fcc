"""What a run is: one immutable specification, and the identity that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark.config.schema import REMOVED, SECTIONS, neutral_settings
from benchmark.registry import METHODS, portable, short

PLACES = ("data.unlabelled", "evaluate.also")  # settings that name data sets, or folders by their paths


@dataclass(frozen=True)
class Spec:
    """One cell of a table: a method on a dataset, a split of it, a label ratio (percent), a fold or draw, a seed.

    `dataset` is its name; `source` is the path that it was found by, where it has one, and no part of the identity.
    `values` are all settings, resolved (dotted key -> value); the preset's name is a label and no part of the identity,
    so two presets that come to the same values are the same run.
    """

    method: str
    dataset: str
    split: str
    ratio: int
    fold: int
    seed: int
    preset: str
    values: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def section(self, name: str) -> Any:
        """One section's dataclass, filled from `values`."""
        prefix = f"{name}."
        return SECTIONS[name](**{key[len(prefix) :]: v for key, v in self.values.items() if key.startswith(prefix)})

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The method's own settings."""
        return {key[7:]: value for key, value in self.values.items() if key.startswith("method.")}

    def with_values(self, values: Mapping[str, Any]) -> Spec:
        """The same cell with some settings resolved to `values`."""
        return replace(self, values={**self.values, **values})

    def canonical(self) -> str:
        """The text that is hashed: sorted JSON of everything that decides the run's numbers.

        A setting that was added after runs were recorded (`later` in a section, `later` of a method) is left out while
        it has its neutral value, and a removed one is put in as it always was: recorded runs keep their identity.
        Of what lies outside, a method's file or a folder of images, its name alone: it may be moved, and records say by
        a digest what was in it.
        """
        plain = replace(self, method=portable(self.method), source="").to_json()
        values = {**REMOVED, **plain["values"]}
        values |= {key: [Path(name).name for name in values[key]] for key in PLACES if key in values}
        neutral = neutral_settings() | {f"method.{key}": v for key, v in METHODS.later(self.method).items()}
        for key, value in neutral.items():
            if key in values and values[key] == (list(value) if isinstance(value, tuple) else value):
                del values[key]
        decisive = {**plain, "values": values, "preset": None}
        return json.dumps(decisive, sort_keys=True, separators=(",", ":"))

    @cached_property
    def run_id(self) -> str:
        """A readable part and ten hexadecimal digits of the hash."""
        digest = hashlib.sha256(self.canonical().encode()).hexdigest()[:10]
        method, dataset = short(self.method).lower(), self.dataset
        parts = [method, dataset, self.split, f"r{self.ratio}", f"f{self.fold}", f"s{self.seed}", digest]
        return "-".join(part.replace("/", "_") for part in parts)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is its inverse."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in self.values.items()}
        return {
            "method": self.method, "dataset": self.dataset, "split": self.split, "ratio": self.ratio,
            "fold": self.fold, "seed": self.seed, "preset": self.preset, "values": dict(sorted(plain.items())),
        } | ({"source": self.source} if self.source else {})

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Spec:
        """The specification that `to_json` wrote, be it before a setting was removed."""
        values = {
            key: tuple(v) if isinstance(v, list) else v for key, v in content["values"].items()
            if key not in REMOVED or REMOVED[key] != v
        }
        return Spec(**{**content, "values": values})
