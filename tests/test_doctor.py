"""`doctor`: it finds what is here, tells trouble from inconvenience, and says what to do."""

import importlib.metadata
import json
import shutil
from types import SimpleNamespace

import torch

from benchmark.conformance import doctor
from benchmark.conformance.doctor import GIB, Diagnosis
from benchmark.data.load import load_prepared
from tests.conftest import invoke


def test_a_working_installation_is_found_well(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    load_prepared("synthetic", 32)
    result = invoke("doctor", "--json", "--results", tmp_path, "--data", tmp_path)
    answer = json.loads(result.stdout)
    facts = answer["facts"]
    assert result.returncode == 0 and answer["broken"] == [] and answer["verdict"].startswith("all well")
    assert facts["torch"] == torch.__version__ and facts["memory_gib"] > 0
    assert facts["self-test resumes exactly"] == "ok"
    assert "not found" in facts["data glas"] and "not found" not in facts["data synthetic"]
    assert facts["prepared synthetic/32"].startswith("84 images, ")


def test_a_self_test_that_fails_is_broken_and_exit_code_4(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "check_method", lambda *_: [("resumes_exactly", "two runs differ")])
    result = invoke("doctor", "--results", tmp_path)
    assert result.returncode == 4
    assert "broken: self-test resumes exactly: two runs differ" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("1 broken")


def test_a_missing_package_and_a_torchvision_that_does_not_fit_are_broken(monkeypatch):
    version = importlib.metadata.version

    def without(package):
        if package == "timm":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    def misfit(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib.metadata, "version", without)
    monkeypatch.setattr("torchvision.ops.nms", misfit)
    doctor.look_at_packages(found := Diagnosis())
    assert found.facts["timm"] == "missing" and any("timm is missing" in line for line in found.broken)
    assert any("nms does not exist" in line and "same place" in line for line in found.broken)


def test_a_nearly_full_disk_is_warned_of_and_a_file_in_place_of_a_folder_is_broken(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=GIB))
    (tmp_path / "file").write_text("")
    doctor.look_at_folders(found := Diagnosis(), {"results": tmp_path / "results", "prepared": tmp_path / "file"})
    assert len(found.warnings) == 2 and all("1.0 GiB free" in line and "clean" in line for line in found.warnings)
    assert len(found.broken) == 1 and f"{tmp_path / 'file'} is not a writable folder" in found.broken[0]
    assert not (tmp_path / "results").exists(), "looking leaves nothing behind"


def test_a_gpu_without_bfloat16_is_warned_of(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (GIB, 2 * GIB))
    for capability, warned in (((7, 5), 1), ((9, 0), 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        doctor.look_at_gpu(found := Diagnosis(), torch.device("cuda"))
        assert found.facts == {"gpu_memory_gib": 2.0, "gpu_memory_free_gib": 1.0}
        assert len(found.warnings) == warned and all("train.precision=fp32" in line for line in found.warnings)
