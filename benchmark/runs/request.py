"""What a user asks for, and the specification that it resolves to."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.config import yaml_files
from benchmark.config.compose import compose
from benchmark.config.schema import fields_of
from benchmark.data.dataset import Dataset, check_colours
from benchmark.data.load import check_masks, load_dataset
from benchmark.data.pools import OWN, check_distinct, check_pools, load_pool
from benchmark.data.splits import Split, default_split, load_split
from benchmark.errors import UserError
from benchmark.nets import weights
from benchmark.ranges import file_or
from benchmark.registry import METHODS
from benchmark.spec import Spec
from benchmark.training import device as devices


@dataclass(frozen=True)
class Request:
    """A cell of a table as a user names it, before presets and `auto` are resolved."""

    method: str
    dataset: str
    split: str | None = None  # None: `official`, or the first that the data set has
    ratio: int | None = None  # None: 20 %, or as many as the labelled file has
    fold: int = 0
    seed: int = 0
    preset: str = "fair"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    labelled_file: Path | None = None
    experiment: Mapping[str, Any] = field(default_factory=dict)  # settings of an experiment's row, below the overrides

    @property
    def command(self) -> str:
        """The command line that asks for this."""
        method, dataset = shlex.quote(self.method), shlex.quote(self.dataset)
        parts = [f"python -m benchmark run --method {method} --dataset {dataset}"]
        parts += [f"--split {self.split}"] if self.split else []
        parts += [f"--ratio {self.ratio}"] if self.ratio else []
        parts.append(f"--fold {self.fold} --seed {self.seed} --preset {self.preset}")
        for key, value in {**self.experiment, **self.overrides}.items():
            parts.append("--set " + shlex.quote(f"{key}={yaml_files.written(value)}"))
        if self.labelled_file is not None:
            parts.append(f"--labelled {shlex.quote(str(self.labelled_file))}")
        return " ".join(parts)


class ResolvedRun(NamedTuple):
    """What a request comes to. request: the same, its split and ratio named."""

    spec: Spec
    split: Split
    dataset: Dataset
    request: Request
    pools: tuple[tuple[Dataset, Split], ...] = ()  # whose training images are unlabelled ones, too
    elsewhere: tuple[tuple[Dataset, Split], ...] = ()  # on whose test images the finished run is scored, too

    @property
    def datasets(self) -> dict[str, tuple[Dataset, str]]:
        """All data that the run's numbers depend on, each with its split, by the place of their fingerprint in its
        record."""
        return {place: (dataset, lists.file) for place, (dataset, lists) in self._sources().items()}

    @property
    def lists(self) -> dict[str, str]:
        """The fingerprints of all lists that they depend on, as `datasets` calls them."""
        return {place: lists.fingerprint for place, (_, lists) in self._sources().items()}

    def _sources(self) -> dict[str, tuple[Dataset, Split]]:
        found = {"": (self.dataset, self.split)}
        for place, others in (("pool", self.pools), ("elsewhere", self.elsewhere)):
            found |= {f"{place} {dataset.name}": (dataset, lists) for dataset, lists in others}
        return found


class Specifier:
    """Specifies many requests on one kind of device; what several of them share is worked out once."""

    def __init__(self, device_kind: str) -> None:
        self.device_kind = device_kind
        self._split = cache(load_split)
        self._method = cache(METHODS.load)
        self._dataset, self._pool = cache(load_dataset), cache(load_pool)
        self._default_split = cache(default_split)
        self._known: dict[str, dict[str, Any]] = {}

    def specify(self, request: Request) -> ResolvedRun:
        """The resolved specification, split and data set of a request; a mistake in it is a UserError."""
        dataset, method = self._dataset(request.dataset), self._method(request.method)
        check_masks(dataset)
        name = request.split or self._default_split(dataset)
        if request.seed < 0:
            raise UserError(f"--seed must not be negative, it is {request.seed}")
        layers = dict(request.overrides), dict(request.experiment)
        key = json.dumps([request.method, dataset.name, request.preset, *layers], default=str)
        if key not in self._known:
            values = compose(request.method, method, dataset.name, request.preset, *layers).values()
            values.update(devices.resolve(values, self.device_kind))
            kinds = {f"method.{name}": file_or(field.type) for name, field in fields_of(method).items()}
            values.update(weights.resolve(values, {key: file for key, file in kinds.items() if file}))
            pools = sorted(values["data.unlabelled"], key=lambda name: (name != OWN, Path(name).name))
            values["data.unlabelled"] = tuple(pools)
            self._known[key] = values
        split = self._split(
            dataset, name, request.ratio, request.fold, labelled_file=request.labelled_file,
            in_both=self._known[key]["labels.glands"] is not None,
        )
        spec = Spec(
            request.method, dataset.name, split.name, split.ratio, split.fold, request.seed, request.preset,
            self._known[key], dataset.source if dataset.source != dataset.name else "",
        )
        spec.section("labels")  # settings that do not go together are an error before any image is read
        pools = check_pools(dataset, spec.values["data.unlabelled"], self._pool)
        others = [self._dataset(other) for other in spec.values["evaluate.also"]]
        check_distinct("evaluate.also", spec.values["evaluate.also"], [dataset.name, *(each.name for each in others)],
                       f"a run is scored on {dataset.name} without it")
        for other in others:
            check_masks(other)
            if tuple(other.classes) != tuple(dataset.classes):
                raise UserError(f"evaluate.also={other.source}: its classes are {', '.join(other.classes)}, those of "
                                f"{dataset.name} {', '.join(dataset.classes)}; both need the same")
            check_colours(other, dataset.decoding, f"{dataset.name} reads its images")
        asked = replace(request, split=name, ratio=split.ratio)
        return ResolvedRun(spec, split, dataset, asked, tuple((p, self._lists(p, request.fold)) for p in pools),
                           tuple((other, self._lists(other, request.fold)) for other in others))

    def _lists(self, dataset: Dataset, fold: int) -> Split:
        """Which images of other data are for training and for testing: in the same fold, since a patient of several
        data sets has one fold in all of them."""
        if dataset.why_unlabelled:
            return Split("", 0, 0, (), (), (), (), "")
        return self._split(dataset, self._default_split(dataset), 100, fold)


def specify(request: Request, device_kind: str) -> ResolvedRun:
    """What `request` comes to on this kind of device."""
    return Specifier(device_kind).specify(request)
