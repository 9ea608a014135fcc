"""How long the missing runs of an experiment will take, by its finished runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from benchmark.runs.plan import Planned


class Estimate(NamedTuple):
    """Seconds that the runs take one after the other, and the device that was timed; None where no run is done."""

    seconds: float | None
    device: str | None

    def in_words(self, workers: int = 1) -> str:
        """One line for a person; `workers` runs side by side."""
        if self.seconds is None:
            return "no estimate yet, since no run of this experiment is done"
        share = f", {spoken(self.seconds / workers)} with {workers} workers" if workers > 1 else ""
        return f"estimated {spoken(self.seconds)} in total{share} (timed on {self.device})"


def estimate(planned: Iterable[Planned], missing: Sequence[Planned]) -> Estimate:
    """The median of the finished runs in `planned` for every one of `missing`: of its row, else of all rows."""
    times: dict[str, list[float]] = {}
    devices = []
    for entry in planned:
        if entry.record is not None and entry.record["status"] == "done":
            times.setdefault(entry.cell.row, []).append(entry.record["cost"]["wall_seconds"])
            devices.append(entry.record["environment"]["device"])
    if not times:
        return Estimate(None, None)
    by_row = {row: median(seconds) for row, seconds in times.items()}
    others = median(by_row.values())
    total = sum(by_row.get(entry.cell.row, others) for entry in missing)
    return Estimate(total, max(sorted(set(devices)), key=devices.count))


def spoken(seconds: float) -> str:
    """A time as a person says it."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
