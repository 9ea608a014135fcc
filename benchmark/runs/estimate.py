"""How long missing runs will take, and if several fit into a GPU, from runs that are measured; nothing is guessed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.data.splits import Split
from benchmark.errors import UserError
from benchmark.plugins import portable, short
from benchmark.runs.records import read_record, record_files
from benchmark.spec import Spec
from benchmark.training.setup import total_steps

BUDGET = ("train.steps", "train.epochs")  # does not change the time of a step
# Of runs that differ in other values than the budget: near enough for an estimate, where these are the same.
SIMILAR = (
    "data.size", "net.name", "train.batch_labelled", "train.batch_unlabelled", "train.precision",
    "train.capture", "evaluate.objects",
)


@dataclass(frozen=True)
class Estimate:
    """Seconds of one device that `estimated` runs will take, and the methods that nothing is measured of."""

    seconds: float
    estimated: int
    unmeasured: tuple[str, ...]
    device: str | None
    memory: int = 0  # bytes of the device that the largest of them takes; 0 where no record says

    def describe(self, slots: int = 1) -> str:
        """One line for a person; `slots` runs at a time."""
        parts = []
        if self.estimated:
            share = f", {spoken(self.seconds / slots)} in {slots} slots" if slots > 1 else ""
            parts.append(f"about {spoken(self.seconds)} of {self.device}{share}, by runs measured there")
        if self.unmeasured:
            without = f"not counted: {', '.join(self.unmeasured)}" if self.estimated else "no estimate"
            parts.append(f"{without}, as nothing is measured on this device")
        return "; ".join(parts)

    def crowd(self, slots: int, available: int) -> str:
        """One line for a person where `slots` runs at a time may not fit into what a GPU has free; else empty."""
        if slots * self.memory <= available:
            return ""
        needed, there = slots * self.memory / 2**30, available / 2**30
        fitting = max(1, available // self.memory)
        return (f"{slots} runs a GPU may take {needed:.1f} GiB, by runs measured there, and {there:.1f} are free: "
                f"{fitting} would fit")


class Speeds:
    """Seconds a step, evaluations included, of the finished runs in a results folder, on one device.

    `name`: the device's; where None, or where nothing was measured on it, the device of this `kind` with most records.
    """

    def __init__(self, results: Path, kind: str, name: str | None = None) -> None:
        records = [record for record in finished(results) if record["environment"].get("device_type") == kind]
        devices = Counter(record["environment"]["device"] for record in records)
        self.device = name if name in devices else max(devices, key=lambda d: (devices[d], d), default=None)
        self._exact: dict[Any, list[float]] = defaultdict(list)
        self._similar: dict[Any, list[float]] = defaultdict(list)
        self._memory: dict[Any, int] = defaultdict(int)
        for record in records:
            if record["environment"]["device"] == self.device:
                spec, cost = Spec.from_json(record["spec"]), record["cost"]
                seconds = cost["wall_seconds"] / max(1, cost["steps"])
                self._exact[exact(spec)].append(seconds)
                self._similar[similar(spec)].append(seconds)
                self._memory[similar(spec)] = max(self._memory[similar(spec)], cost["peak_memory_bytes"] or 0)

    def of(self, spec: Spec) -> float | None:
        """Seconds a step of this run, or of runs like it; None where there are none."""
        times = self._exact.get(exact(spec)) or self._similar.get(similar(spec))
        return median(times) if times else None

    def estimate(self, runs: Iterable[tuple[Spec, Split]]) -> Estimate:
        """What these runs will take together."""
        seconds, estimated, unmeasured, memory = 0.0, 0, set(), 0
        for spec, split in runs:
            step = self.of(spec)
            if step is None:
                unmeasured.add(short(spec.method))
            else:
                seconds, estimated = seconds + step * total_steps(spec, split), estimated + 1
                memory = max(memory, self._memory[similar(spec)])
        return Estimate(seconds, estimated, tuple(sorted(unmeasured)), self.device, memory)


def exact(spec: Spec) -> Any:
    """What runs of the same step have in common."""
    values = tuple((key, value) for key, value in sorted(spec.values.items()) if key not in BUDGET)
    return portable(spec.method), spec.dataset, values


def similar(spec: Spec) -> Any:
    """What runs of much the same step have in common."""
    return portable(spec.method), *(spec.values.get(key) for key in SIMILAR)


def finished(results: Path) -> Iterator[Mapping[str, Any]]:
    """The readable records of finished runs; a damaged one is for others to complain about."""
    for path in record_files(results / "records"):
        try:
            record = read_record(path)
        except UserError:
            continue
        if record["status"] == "done":
            yield record


def spoken(seconds: float) -> str:
    """A time as a person says it."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
