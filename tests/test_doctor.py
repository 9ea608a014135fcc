"""`doctor`: it finds what is here, tells trouble from inconvenience, and says what to do."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from benchmark.data.load import load_prepared
from benchmark.runs import doctor as diagnosis
from benchmark.runs.doctor import GIB, Diagnosis
from tests.conftest import invoke


@pytest.fixture
def found():
    """What is known before anything is looked at."""
    return Diagnosis({"torch": torch.__version__, "torchvision": "0.26.0", "cores": 2})


def test_a_working_installation_is_found_well(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = invoke("doctor", "--json", "--results", tmp_path, "--data", tmp_path)
    answer = json.loads(result.stdout)
    facts = answer["facts"]
    assert result.returncode == 0 and answer["broken"] == [] and answer["verdict"].startswith("all well")
    assert facts["torch"] == torch.__version__ and facts["memory_gib"] >= facts["memory_available_gib"] > 0
    assert facts["self-test resumes exactly"] == "ok"
    assert "not found" in facts["data glas"] and "not found" not in facts["data synthetic"]


def test_a_self_test_that_fails_is_broken_and_exit_code_4(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnosis, "check_method", lambda *_: [("resumes_exactly", "two runs differ")])
    result = invoke("doctor", "--results", tmp_path)
    assert result.returncode == 4
    assert "broken: self-test resumes exactly: two runs differ" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("1 broken")


def test_the_verdict_counts():
    assert Diagnosis().verdict == "all well"
    assert Diagnosis(warnings=["a"]).verdict == "all well, 1 warning"
    assert Diagnosis(warnings=["a", "b"], broken=["c"]).verdict == "1 broken, 2 warnings"


def test_a_missing_package_and_a_torchvision_that_does_not_fit_are_broken(found, monkeypatch):
    version = importlib.metadata.version

    def without(package):
        if package == "timm":
            raise importlib.metadata.PackageNotFoundError(package)
        return "0.26.0+cpu" if package == "torchvision" else version(package)

    def misfit(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib.metadata, "version", without)
    monkeypatch.setattr("torchvision.ops.nms", misfit)
    found.facts["torch"] = "2.11.0+cu128"
    diagnosis.look_at_packages(found)
    assert found.facts["timm"] == "missing" and any("timm is missing" in line for line in found.broken)
    assert any("nms does not exist" in line and "same place" in line for line in found.broken)
    assert any("different builds (cpu and cu128)" in line for line in found.warnings)


@pytest.mark.parametrize(("value", "warned"), [("1", False), ("8", True), (None, True)])
def test_threads_that_would_crowd_a_machine_are_warned_of(value, warned, found, monkeypatch):
    for name in diagnosis.THREADS:
        monkeypatch.delenv(name, raising=False)
    if value:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    diagnosis.look_at_threads(found)
    assert [("export OMP_NUM_THREADS=1" in line) for line in found.warnings] == [True] * warned


def test_a_disk_that_is_nearly_full_is_warned_of(found, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=GIB))
    diagnosis.look_at_folders(found, tmp_path / "results", tmp_path / "prepared")
    assert len(found.warnings) == 2 and all("1.0 GiB free" in line and "clean" in line for line in found.warnings)
    assert not (tmp_path / "results").exists()  # looking leaves nothing behind


def test_a_file_where_the_results_should_go_is_broken(found, tmp_path):
    (tmp_path / "results").write_text("")
    diagnosis.look_at_folders(found, tmp_path / "results", tmp_path / "prepared")
    assert [line for line in found.broken if "a file stands where the results folder is needed" in line]


def test_prepared_data_are_shown_with_their_sizes_and_old_or_damaged_ones_warned_of(found, tmp_path):
    load_prepared("synthetic", 32, root=tmp_path)
    for size, text in ((48, json.dumps({"ids": ["a"], "format": -1})), (64, "{")):
        (tmp_path / "synthetic" / str(size)).mkdir()
        (tmp_path / "synthetic" / str(size) / "index.json").write_text(text)
    diagnosis.look_at_data(found, tmp_path, tmp_path)
    assert found.facts["prepared synthetic/32"].startswith("84 images, ")
    assert any("synthetic/48 is of another version" in line for line in found.warnings)
    assert any("64/index.json is damaged" in line for line in found.warnings)
    assert len(found.warnings) == 2


def test_little_memory_is_warned_of(found, monkeypatch):
    monkeypatch.setattr(diagnosis, "LITTLE", 10**6 * GIB)
    diagnosis.look_at_machine(found)
    assert any("of memory are available" in line for line in found.warnings)


def test_a_full_gpu_is_warned_of(found, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    diagnosis.look_at_gpu(found, torch.device("cuda"))
    assert found.facts["gpu_memory_gib"] == 80 and found.facts["gpu_capability"] == "9.0"
    assert any("70 of 80 GiB of the GPU are taken" in line for line in found.warnings)
