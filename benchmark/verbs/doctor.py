"""`doctor`: versions, device, memory, disk, data, and a short self-test of repetition and resume."""

from __future__ import annotations

import argparse
import os
import shutil
from typing import Any

from benchmark.errors import CHECK_FAILED, OK, UserError
from benchmark.paths import prepared_folder, raw_folder, results_folder
from benchmark.verbs import arguments as shared


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("doctor", help="what is here, and whether it works", allow_abbrev=False)
    shared.add_device(parser)
    shared.add_folders(parser)
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; exit code 4 when the self-test failed."""
    import importlib.metadata

    from benchmark.data.dataset import FILE, load_dataset
    from benchmark.engine import device as devices
    from benchmark.registry import DATASETS, METHODS
    from benchmark.verbs.check import checks

    device = devices.choose(arguments.device)
    found: dict[str, Any] = devices.environment(device)
    for package in ("torchvision", "numpy", "segmentation-models-pytorch", "timm"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing: ./run_all.sh setup installs it"
    found["cores"] = os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found["memory_gib"] = round(memory / 2**30, 1)
    results = results_folder(arguments.results)
    nearest = next(path for path in (results, *results.resolve().parents) if path.exists())
    found["results"] = f"{results} ({shutil.disk_usage(nearest).free / 2**30:.0f} GiB free)"
    found["prepared"] = str(prepared_folder())
    for name in DATASETS.names():
        try:
            found[f"data {name}"] = str(load_dataset(name).find(raw_folder(arguments.data)) or "generated")
        except UserError as error:
            found[f"data {name}"] = f"not found: {error}"
    for path in sorted(raw_folder(arguments.data).glob(f"*/{FILE}")):
        try:
            found[f"data {path.parent}"] = load_dataset(str(path)).full_name
        except UserError as error:
            found[f"data {path.parent}"] = str(error)
    wanted = ("repeats", "resumes_exactly")
    self_test = {name: complaint or "ok" for name, complaint in checks(METHODS.names()[0], device, wanted)}
    found |= {f"self-test {name.replace('_', ' ')}": answer for name, answer in self_test.items()}
    if arguments.json:
        shared.print_json(found)
    else:
        width = max(map(len, found))
        for name, value in found.items():
            print(f"{name:<{width}}  {value}")
    return OK if all(answer == "ok" for answer in self_test.values()) else CHECK_FAILED
