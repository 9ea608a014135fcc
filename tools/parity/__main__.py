"""`python -m tools.parity FOLDER` writes figures.json; then `python -m tools.methods_page` shows it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmark.registry import METHODS as REGISTRY
from tools.parity.released import on_the_cpu

FIGURES = Path(__file__).with_name("figures.json")
METHODS = ("bcp", "corrmatch", "dtc", "mc_net", "u2pl", "unimatch_v2")


def main(folder: Path) -> None:
    found = {}
    for name in METHODS:
        module = importlib.import_module(f"tools.parity.{name}")
        clone = folder / module.REPOSITORY.split("/")[1]
        head = subprocess.run(["git", "-C", clone, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        with on_the_cpu():
            torch.manual_seed(0)
            rows = module.compare(clone)
        commit, table = head.stdout.strip(), [asdict(row) for row in rows]
        numerics = REGISTRY.load(name).numerics
        found[name] = {"repository": module.REPOSITORY, "commit": commit, "numerics": numerics, "rows": table}
        for row in rows:
            print(f"{name:12}{row.released:12.6f}{row.ours:12.6f}{row.apart:9.1e}  {row.what}")
            assert (row.apart > 1e-5) == bool(row.why), row.what
    FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
