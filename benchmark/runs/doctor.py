"""What `doctor` finds: machine, installation, data, and whether runs repeat and resume exactly here."""

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
from benchmark.data.folder_schema import FILE
from benchmark.data.load import load_dataset
from benchmark.data.store import FORMAT
from benchmark.errors import UserError
from benchmark.paths import prepared_folder, raw_folder, results_folder
from benchmark.registry import DATASETS, METHODS
from benchmark.training import device as devices

PACKAGES = (
    "torchvision", "numpy", "segmentation-models-pytorch", "timm", "scipy", "scikit-image", "pandas", "matplotlib",
    "pillow",
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
GIB = 2**30
LITTLE = 2 * GIB  # of disk or memory: a few runs' checkpoints, one process with its data
SELF_TEST = ("resumes_exactly",)


@dataclass
class Diagnosis:
    """Facts by name, what deserves attention and what to do about it, and what is broken."""

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
    look_at_packages(found)
    look_at_machine(found)
    look_at_threads(found)
    look_at_gpu(found, device)
    look_at_folders(found, results_folder(results), prepared_folder())
    look_at_data(found, raw_folder(data), prepared_folder())
    try_out(found, device)
    return found


def look_at_packages(found: Diagnosis) -> None:
    """Versions, whether torch and torchvision fit each other, and what installed packages bring."""
    for package in PACKAGES:
        try:
            found.facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found.facts[package] = "missing"
            found.broken.append(f"{package} is missing; './run_all.sh setup' installs it")
    try:
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        cause = " ".join(str(error).split())[:120]
        found.broken.append(f"torchvision does not work with this torch ({cause}); install both from the same place")
    builds = {str(found.facts[name]).partition("+")[2] for name in ("torch", "torchvision")} - {""}
    if len(builds) > 1:
        found.warnings.append(f"torch and torchvision are of different builds ({' and '.join(sorted(builds))}): "
                              "install both from the same place")
    for registry in (METHODS, DATASETS):
        for name, entry in registry.outside().items():
            found.facts[f"{registry.kind} {name}"] = f"{entry.about()} [{entry.package}]"
            if entry.about().startswith("broken: "):
                found.warnings.append(f"the {registry.kind} {name} of {entry.package} is {entry.about()}")


def look_at_machine(found: Diagnosis) -> None:
    """Cores and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    page = os.sysconf("SC_PAGE_SIZE")
    memory, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    found.facts |= {"cores": cores, "memory_gib": round(memory / GIB, 1)}
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # counts what caches would give back
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    found.facts["memory_available_gib"] = round(free / GIB, 1)
    if free < LITTLE:
        found.warnings.append(f"only {free / GIB:.1f} GiB of memory are available, and a process takes 1 to 2: close "
                              "others, or use --slots 1")


def look_at_threads(found: Diagnosis) -> None:
    """How many threads a process starts: torch's follow `train.threads`, those of NumPy's libraries the environment."""
    told = {name: os.environ[name] for name in THREADS if name in os.environ}
    found.facts["threads"] = ", ".join(f"{name}={value}" for name, value in told.items()) or "not limited"
    found.facts["train.threads"] = "1 unless set: part of a run's identity, since other counts give other sums"
    if found.facts["cores"] > 1 and not any(value == "1" for value in told.values()):
        found.warnings.append(f"NumPy's libraries may start {found.facts['cores']} threads in each worker of a grid: "
                              "export OMP_NUM_THREADS=1")


def look_at_gpu(found: Diagnosis, device: torch.device) -> None:
    """Memory and driver of the GPU; or a GPU that is here and is not seen."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        major, minor = torch.cuda.get_device_capability(device)
        found.facts |= {"gpu_memory_gib": round(total / GIB, 1), "gpu_memory_free_gib": round(free / GIB, 1),
                        "gpu_capability": f"{major}.{minor}", "gpu_driver": _driver()}
        if free < total / 2:
            taken = f"{(total - free) / GIB:.0f} of {total / GIB:.0f} GiB"
            found.warnings.append(f"{taken} of the GPU are taken by others: see nvidia-smi, or choose another with "
                                  "--device cuda:N")
    elif Path("/proc/driver/nvidia/version").exists() and not torch.cuda.is_available():
        why = "is built without CUDA" if torch.version.cuda is None else f"wants a driver for CUDA {torch.version.cuda}"
        found.warnings.append(f"there is a GPU, and torch, which {why}, does not see it: install one that fits")


def _driver() -> str | None:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="ascii")
        return next(word for word in text.split() if word[0].isdigit() and "." in word)
    except (OSError, StopIteration):
        return None


def look_at_folders(found: Diagnosis, results: Path, prepared: Path) -> None:
    """Where results and prepared data go, and how much room is there."""
    for name, folder in (("results", results), ("prepared", prepared)):
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(nearest).free
        found.facts[name] = f"{folder} ({free / GIB:.1f} GiB free)"
        if free < LITTLE:
            found.warnings.append(f"{folder}: only {free / GIB:.1f} GiB free; see 'python -m benchmark clean'")
        if not nearest.is_dir():
            found.broken.append(f"{nearest}: a file stands where the {name} folder is needed")
        elif not os.access(nearest, os.W_OK):
            found.broken.append(f"{nearest} cannot be written to, so {folder} cannot be used")


def look_at_data(found: Diagnosis, raw: Path, prepared: Path) -> None:
    """Which data sets are here as they came, and which are prepared, with their sizes."""
    for name in DATASETS.names():
        try:
            found.facts[f"data {name}"] = str(load_dataset(name).find(raw))
        except UserError as error:
            found.facts[f"data {name}"] = f"not found: {error}"
    for description in sorted(raw.glob(f"*/{FILE}")):
        try:
            found.facts[f"data {description.parent}"] = load_dataset(str(description)).name
        except UserError as error:
            found.facts[f"data {description.parent}"] = str(error)
    for index in sorted(prepared.glob("*/*/index.json")):
        folder = index.parent
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        told = f"{size / 2**20:.0f} MiB"
        try:
            content = json.loads(index.read_text(encoding="utf-8"))
            told = f"{len(content['ids'])} images, {told}"
            if content["format"] != FORMAT:
                told += ", of another version"
                found.warnings.append(f"{folder} is of another version and will be prepared again when it is needed")
        except (OSError, ValueError, KeyError, TypeError):
            found.warnings.append(f"{index} is damaged; its data will be prepared again when they are needed")
        found.facts[f"prepared {folder.parent.name}/{folder.name}"] = told


def try_out(found: Diagnosis, device: torch.device) -> None:
    """Two equal runs, and one that is interrupted, of the first method there is."""
    for name, complaint in check_method(METHODS.names()[0], device, SELF_TEST):
        found.facts[f"self-test {name.replace('_', ' ')}"] = complaint or "ok"
        if complaint:
            found.broken.append(f"self-test {name.replace('_', ' ')}: {complaint}")
