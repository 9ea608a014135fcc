"""`python -m tools.parity FOLDER` writes figures.json; then `python -m tools.methods_page` shows it."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import torch

from benchmark.errors import UserError
from benchmark.registry import METHODS as REGISTRY
from tools.command import run
from tools.parity.released import on_the_cpu

FIGURES = Path(__file__).with_name("figures.json")
METHODS = ("bcp", "corrmatch", "dtc", "mc_net", "u2pl", "unimatch_v2")


def commit_of(clone: Path, repository: str) -> str:
    """The commit that a clone of the repository has checked out."""
    head = subprocess.run(["git", "-C", clone, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode or not (clone / ".git").exists():
        raise UserError(f"{clone}: no clone; make it with 'git clone https://github.com/{repository} {clone}'")
    return head.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="has a clone of each repository")
    folder, found = parser.parse_args().folder, {}
    modules = {name: importlib.import_module(f"tools.parity.{name}") for name in METHODS}
    clones = {name: folder / module.REPOSITORY.split("/")[1] for name, module in modules.items()}
    commits = {name: commit_of(clones[name], module.REPOSITORY) for name, module in modules.items()}
    for name, module in modules.items():
        with on_the_cpu():
            torch.manual_seed(0)
            rows = module.compare(clones[name])
        table = [asdict(row) for row in rows]
        numerics = REGISTRY.load(name).numerics
        found[name] = {"repository": module.REPOSITORY, "commit": commits[name], "numerics": numerics, "rows": table}
        for row in rows:
            print(f"{name:12}{row.released:12.6f}{row.ours:12.6f}{row.apart:9.1e}  {row.what}")
            assert (row.apart > 1e-5) == bool(row.why), row.what
    FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
