"""How often intervals contain the truth, by number of patients: `python -m tools.interval_coverage`, some seconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmark.report.render import Table, markdown
from benchmark.report.stats import LEVEL, multiplicities, tails

UNITS, SAMPLES, KEY = (6, 12, 21), 4000, 0
SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]] = {
    "normal": lambda random, size: random.normal(size=size),
    "skewed (exponential)": lambda random, size: random.exponential(size=size) - 1,
    "heavy tails (Student's t, 3 degrees)": lambda random, size: random.standard_t(3, size=size),
}  # all of mean 0
PLAIN = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def coverage(values: NDArray[np.float64], ends: tuple[float, float]) -> float:
    """The share of samples, [samples, units], whose interval of the mean between these percentiles contains 0."""
    units = values.shape[1]
    low, high = np.quantile(values @ multiplicities(units).T / units, ends, axis=1)
    return float(((low <= 0) & (high >= 0)).mean())


def main() -> None:
    """Print the table."""
    rows = []
    for name, draw in SHAPES.items():
        for units in UNITS:
            values = draw(np.random.default_rng(KEY), (SAMPLES, units))
            shares = (f"{100 * coverage(values, ends):.1f} %" for ends in (PLAIN, tails(units)))
            rows.append([name, str(units), *shares])
    header = ["differences", "patients", "2.5 and 97.5 %", "ours"]
    print(markdown(Table("", "", header, rows)).split("\n", 4)[4])


if __name__ == "__main__":
    main()
