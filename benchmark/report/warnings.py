"""What a reader must know before trusting a table: records that do not belong together, or contradict themselves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from benchmark.report.results_frame import CELL, Group, Run


def warnings_of(group: Group) -> list[str]:
    """One sentence for each reason; none when the runs may be compared."""
    facts = pd.DataFrame([_facts(run) for run in group.runs])
    return [*_other_data(group), *(_mixed(group, facts) if len(facts) else ()), *_contradictions(group)]


def made_on(group: Group) -> str:
    """Which processor made which draws, where the records know more of it than its name and no draw mixes several."""
    places: dict[tuple[int, int], set[str]] = defaultdict(set)
    for run in group.done:
        places[run.spec["ratio"], run.spec["fold"]].add(run.device)
    if not any(run.record["environment"].get("processor") for run in group.done) or max(map(len, places.values())) > 1:
        return ""
    by_device: dict[str, list[str]] = defaultdict(list)
    for (ratio, fold), (device,) in sorted(places.items()):
        by_device[device].append(f"{ratio} % draw {fold}")
    told = [f"{device} for {', '.join(draws)}" for device, draws in by_device.items()]
    return f" Made on {'; '.join(told) if len(told) > 1 else next(iter(by_device))}."


def _facts(run: Run) -> dict[str, Any]:
    versions = run.record["numerics"]
    return {
        **run.place, "done": run.done, "device": run.device, "engine": str(versions.get("engine")),
        "method": str(versions.get("method")), "lists": str(run.record["data"].get("split_fingerprint")),
    }  # fmt: skip


def _other_data(group: Group) -> Iterator[str]:
    if group.other_data_count:
        yield (f"{group.other_data_count} runs of this experiment were made from other data, and are in a table of "
               "their own.")


def _mixed(group: Group, facts: pd.DataFrame) -> Iterator[str]:
    """Versions, lists, devices and draws that should be one and are several."""
    engines = set(facts.engine)
    if len(engines) > 1:
        yield f"These runs were made by {len(engines)} versions of the engine whose numbers differ ({_all(engines)})."
    for row, versions in facts.groupby("row", sort=False).method.unique().items():
        if len(versions) > 1:
            name = group.display(str(row))
            yield f"The runs of {name} were made by {len(versions)} versions of the method ({_all(versions)})."
    for (ratio, fold), number in facts.groupby(["ratio", "fold"]).lists.nunique().items():
        if number > 1:
            yield f"At {ratio} %, fold {fold}, the runs used {number} different lists of images."
    done = facts[facts.done]
    devices = done.groupby("device").size()  # kernels differ between models of a device (docs/findings.md)
    if len(devices) > 1:
        named = ", ".join(f"{number} on {name}" for name, number in devices.items())
        models = f"{len(devices)} models of a device ({named})"
        yield f"These runs were made on {models}, and one run differs between models."
    for (row, ratio), found in done.groupby(CELL, sort=False):
        draws = list(zip(found.fold, found.seed, strict=True))
        if twice := {draw for draw in draws if draws.count(draw) > 1}:
            yield f"{group.display(row)} at {ratio} % has several records of the same (fold, seed): {_all(twice)}."


def _contradictions(group: Group) -> Iterator[str]:
    for run in group.done:
        if not _agree(run):
            yield f"The scores in record {run.record['run_id']} are not those of its counts; the counts are shown."


def _agree(run: Run) -> bool:
    """Whether the stored Dice of every protocol is that of the counts; a protocol that is not stored agrees."""
    for protocol, computed in run.scores.items():
        stored = run.record["scores"].get(protocol)
        if not stored:
            continue
        old, new = stored.get("dice"), computed["dice"]
        if (old is None) != (new is None) or (old is not None and not math.isclose(old, new, abs_tol=1e-9)):
            return False
    return True


def _all(values: Iterable[Any]) -> str:
    return ", ".join(sorted(map(str, values)))
