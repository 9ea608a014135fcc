"""What is asked of CUDA is asked in its form and in time; stubs stand in for the driver, so that this needs no GPU."""

import pytest
import torch

from benchmark.errors import UserError
from benchmark.runs.run import known_failure_hint
from benchmark.training import device as devices
from tests.factories import method_testbed


class Asked(Exception):
    """The memory of a device was asked for, which is as far as a machine without one gets."""


@pytest.mark.parametrize(("name", "chosen"), [("cuda", []), ("cuda:0", [0])])
def test_a_gpu_is_chosen_with_and_without_a_number_before_its_memory_is_asked_for(name, chosen, monkeypatch):
    asked = []

    def reset(device):
        raise Asked(device)

    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.cuda, "init", lambda: asked.append("init"))
    monkeypatch.setattr(torch._C, "_cuda_setDevice", asked.append)
    monkeypatch.setattr(torch.cuda.memory, "_get_device_index", lambda device, optional: device.index or 0)
    monkeypatch.setattr(torch._C, "_cuda_resetPeakMemoryStats", reset)
    with pytest.raises(Asked, match="0"):
        method_testbed("supervised", name).build()
    assert asked == ["init", *chosen]


def test_a_prediction_tunes_nothing_and_training_goes_on_tuning(monkeypatch):
    training = method_testbed("supervised").build()
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    seen = []
    training.method.net.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.benchmark))
    training.evaluator.check(training.method)
    training.step(training.plans(0, 1)[0])
    assert seen == [False, True] and torch.backends.cudnn.benchmark


def test_a_gpu_whose_driver_is_too_old_is_told_before_any_run(monkeypatch, caplog):
    """The number of GPUs is known without CUDA's start."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda: there is a GPU, but CUDA does not start"):
        devices.choose("cuda")
    assert devices.choose("cuda", must_exist=False).type == "cuda", "a plan for another machine"
    assert devices.choose("auto").type == "cpu" and "CUDA does not start" in caplog.text


@pytest.mark.parametrize("message", [
    "CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
])  # fmt: skip
def test_a_gpu_out_of_memory_is_told_what_to_do_whoever_says_so(message):
    assert "or fewer --slots" in known_failure_hint(RuntimeError(message), method_testbed("supervised").spec)
