"""What another machine changes: the same runs in two results folders, `python -m tools.bench.machines ONE OTHER`.

Only runs of one specification, of the same code and on other models of a device are compared.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import UserError
from benchmark.runs.run_files import device_label, read_record, record_files
from tools.command import run


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether these are two models for sure: older records name the brand alone."""
    known = one.get("processor") and other.get("processor")
    return device_label(one) != device_label(other) if known else bool(one["device"] != other["device"])


def main() -> None:
    """Print the differences of strict Dice, in points, beside the spread over draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("one", type=Path, metavar="ONE")
    parser.add_argument("other", type=Path, metavar="OTHER")
    one, other = vars(parser.parse_args()).values()
    theirs = {path.stem: read_record(path) for path in record_files(other / "records")}
    pairs = [
        (record, theirs[record["run_id"]])
        for record in map(read_record, record_files(one / "records"))
        if record["run_id"] in theirs and record["status"] == theirs[record["run_id"]]["status"] == "done"
    ]
    pairs = [
        (mine, yours) for mine, yours in pairs
        if mine["numerics"] == yours["numerics"] and _differ(mine["environment"], yours["environment"])
    ]  # fmt: skip
    if not pairs:
        raise UserError("no run of one specification on two models of a device in these folders")
    points = np.array([[100 * record["scores"]["strict"]["dice"] for record in pair] for pair in pairs])
    differences = points[:, 0] - points[:, 1]
    cells: dict[str, list[float]] = {}
    for (record, _), (score, _) in zip(pairs, points, strict=True):
        cell = json.dumps(record["spec"] | {"fold": None, "seed": None}, sort_keys=True)
        cells.setdefault(cell, []).append(score)
    spreads = [np.std(values, ddof=1) for values in cells.values() if len(values) > 1]
    same = sum(mine["weights_sha256"] == yours["weights_sha256"] for mine, yours in pairs)
    devices = " and ".join(sorted({device_label(record["environment"]) for pair in pairs for record in pair}))
    sizes = np.abs(differences)
    print(f"{len(pairs)} runs on {devices}: {same} with the same weights; strict Dice differs by "
          f"{differences.mean():+.2f} points on average, {sizes.mean():.2f} in size, {sizes.max():.2f} at most")
    if spreads:
        print(f"standard deviation over draws, mean over cells: {np.mean(spreads):.2f}")


if __name__ == "__main__":
    run(main)
