"""What `doctor` finds: versions, machine, folders, data, and whether runs repeat and resume exactly here."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmark.conformance.checks import check_method
from benchmark.data.collections import COLLECTIONS
from benchmark.data.folder_dataset import FILE
from benchmark.data.load import load_dataset
from benchmark.errors import UserError
from benchmark.machine import GIB, cores, memory
from benchmark.paths import prepared_folder, raw_folder, results_folder
from benchmark.registry import DATASETS, METHODS
from benchmark.training import device as devices

PACKAGES = ("torchvision", "numpy", "segmentation-models-pytorch", "timm", "scipy", "pandas", "matplotlib", "pillow")
BFLOAT16 = (8, 0)  # the first compute capability with it
LITTLE = 2 * GIB  # of disk: a few runs' checkpoints
SELF_TEST = ("resumes_exactly",)


@dataclass
class Diagnosis:
    """Facts by name, what deserves attention, and what is broken; each with what to do about it."""

    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """One line for all of it."""
        number = len(self.warnings)
        warnings = f", {number} warning{'s' * (number > 1)}" * bool(number)
        return (f"{len(self.broken)} broken" if self.broken else "all well") + warnings


def diagnose(device: torch.device, results: str | None = None, data: str | None = None) -> Diagnosis:
    """Look at everything; `results` and `data` as the user named the folders."""
    found = Diagnosis(dict(devices.environment(device)))
    found.facts |= {"cores": cores(), "memory_gib": round(memory() / GIB, 1)}
    if device.type == "cuda":
        look_at_gpu(found, device)
    if cores() > 1 and os.environ.get("OMP_NUM_THREADS") != "1":
        found.warnings.append(f"NumPy may start {cores()} threads in each process of a grid: export OMP_NUM_THREADS=1")
    look_at_packages(found)
    look_at_folders(found, {"results": results_folder(results), "prepared": prepared_folder()})
    look_at_data(found, raw_folder(data), prepared_folder())
    for name, complaint in check_method(METHODS.names()[0], device, SELF_TEST):
        found.facts[f"self-test {name.replace('_', ' ')}"] = complaint or "ok"
        found.broken += [f"self-test {name.replace('_', ' ')}: {complaint}"] * bool(complaint)
    return found


def look_at_gpu(found: Diagnosis, device: torch.device) -> None:
    """Its memory, and whether it computes bfloat16 itself, which is the default there."""
    free, total = torch.cuda.mem_get_info(device)
    found.facts |= {"gpu_memory_gib": round(total / GIB, 1), "gpu_memory_free_gib": round(free / GIB, 1)}
    if torch.cuda.get_device_capability(device) < BFLOAT16:
        found.warnings.append("runs on a GPU use bfloat16, which this one only emulates, slowly: use --set "
                              "train.precision=fp32")


def look_at_packages(found: Diagnosis) -> None:
    """Versions, whether torchvision works with this torch, and what installed packages bring."""
    for package in PACKAGES:
        try:
            found.facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found.facts[package] = "missing"
            found.broken.append(f"{package} is missing; './run_all.sh setup' installs it")
    try:
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:  # of many kinds
        cause = " ".join(str(error).split())[:120]
        found.broken.append(f"torchvision does not work with this torch ({cause}); install both from the same place")
    for registry in (METHODS, DATASETS):
        for name, entry in registry.outside().items():
            found.facts[f"{registry.kind} {name}"] = about = f"{entry.about()} [{entry.package}]"
            found.warnings += [f"the {registry.kind} {name} is {about}"] * about.startswith("broken: ")


def look_at_folders(found: Diagnosis, folders: dict[str, Path]) -> None:
    """Where results and prepared data go, how much room is there, and whether they can be written to."""
    for name, folder in folders.items():
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(nearest).free
        found.facts[name] = f"{folder} ({free / GIB:.1f} GiB free)"
        if free < LITTLE:
            found.warnings.append(f"{folder}: only {free / GIB:.1f} GiB free; see 'python -m benchmark clean'")
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            found.broken.append(f"{nearest} is not a writable folder, so {folder} cannot be used")


def look_at_data(found: Diagnosis, raw: Path, prepared: Path) -> None:
    """Which data sets are here as they came, and which are prepared, with their sizes."""
    for name in (*DATASETS.names(), *COLLECTIONS, *(str(path.parent) for path in sorted(raw.glob(f"*/{FILE}")))):
        try:
            dataset = load_dataset(name)
            found.facts[f"data {name}"] = dataset.source if dataset.home else str(dataset.find(raw))
        except UserError as error:
            found.facts[f"data {name}"] = f"not found: {error}"
    for index in sorted(prepared.glob("*/*/index.json")):
        name = "/".join(index.parent.parts[-2:])
        mib = sum(file.stat().st_size for file in index.parent.iterdir()) / 2**20
        try:
            images = len(json.loads(index.read_text(encoding="utf-8"))["ids"])
            found.facts[f"prepared {name}"] = f"{images} images, {mib:.0f} MiB"
        except (OSError, ValueError, KeyError, TypeError):
            found.warnings.append(f"{index} is damaged; the data are prepared again when they are needed")
