"""Which processors made, or would make, the runs that a table compares: differences are paired within one kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmark.runs.plan import Planned
from benchmark.runs.records import device_label


def mixed_lists(planned: Iterable[Planned], chosen: Sequence[Planned], here: Mapping[str, Any]) -> list[str]:
    """The labelled lists (data set, ratio, draw) whose runs would be made on several models of processor, a line each.

    chosen: what would be run now. here: this machine's `environment`, as records have it.
    """
    found: dict[Any, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for entry in planned:
        if entry.record is not None and entry.record["status"] == "done" and entry not in chosen:
            environment = entry.record["environment"]
            found[_place(entry)].setdefault(device_label(environment), environment)
    for entry in chosen:
        found[_place(entry)].setdefault(device_label(here), here)
    return [
        f"{dataset}, {split}, {ratio} % draw {draw}: {'; '.join(sorted(kinds))}"
        for (dataset, split, ratio, draw), kinds in found.items() if _differ(list(kinds.values()))
    ]


def _place(entry: Planned) -> Any:
    return entry.spec.dataset, entry.spec.split, entry.spec.ratio, entry.spec.fold


def _differ(environments: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these are surely not one model; an old record knows its brand alone."""
    processors = [environment["processor"] for environment in environments if environment.get("processor")]
    return len({environment["device"] for environment in environments}) > 1 or any(
        processor != processors[0] for processor in processors
    )
