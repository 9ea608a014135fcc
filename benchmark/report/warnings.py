"""What a reader must know before trusting a table: records that do not belong together, or contradict themselves."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from benchmark.report.cells import Group, Run
from benchmark.report.cost import device_of


def doubts(group: Group) -> list[str]:
    """One sentence for each reason; none when the runs may be compared."""
    kinds = (_data, _numerics, _splits, _devices, _doubles, _contradictions)
    return [sentence for kind in kinds for sentence in kind(group)]


def _data(group: Group) -> Iterable[str]:
    if group.elsewhere:
        yield f"{group.elsewhere} runs of this experiment were made from other data, and are in a table of their own."


def _numerics(group: Group) -> Iterable[str]:
    engines = {run.record["numerics"].get("engine") for run in group.runs}
    if len(engines) > 1:
        yield f"These runs were made by {len(engines)} versions of the engine whose numbers differ ({_all(engines)})."
    for label in group.labels:
        versions = {run.record["numerics"].get("method") for run in group.runs if run.label == label}
        if len(versions) > 1:
            yield f"The runs of {label} were made by {len(versions)} versions of the method ({_all(versions)})."


def _splits(group: Group) -> Iterable[str]:
    lists: dict[tuple[int, int], set[Any]] = defaultdict(set)
    for run in group.runs:
        lists[run.spec["ratio"], run.spec["fold"]].add(run.record["data"].get("split_fingerprint"))
    for (ratio, fold), found in sorted(lists.items()):
        if len(found) > 1:
            yield f"At {ratio} %, fold {fold}, the runs used {len(found)} different lists of images."


def _devices(group: Group) -> Iterable[str]:
    """Kernels differ between models of a device, so the same run ends a little elsewhere (docs/findings.md)."""
    runs = Counter(device_of(run) for run in group.runs if run.done)
    if len(runs) > 1:
        named = ", ".join(f"{number} on {name}" for name, number in sorted(runs.items()))
        yield f"These runs were made on {len(runs)} models of a device ({named}), and one run differs between models."


def _doubles(group: Group) -> Iterable[str]:
    for label in group.labels:
        for ratio in group.ratios:
            draws = [run.draw for run in group.finished(label, ratio)]
            twice = sorted({draw for draw in draws if draws.count(draw) > 1})
            if twice:
                yield f"{label} at {ratio} % has several records of the same (fold, seed): {_all(twice)}."


def _contradictions(group: Group) -> Iterable[str]:
    for run in group.runs:
        if run.done and not _agree(run):
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
