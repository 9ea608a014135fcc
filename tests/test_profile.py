"""`profile`: what it counts is right, what it times is sane."""

import json

import pytest
import torch

from benchmark.conformance.testbed import advance
from benchmark.registry import METHODS
from benchmark.training.step import flop_counter
from benchmark.training.trainer import reached_parameters
from tests.conftest import invoke, one_line_error, tiny_settings
from tests.factories import method_testbed


def training(method):
    return method_testbed(method, train__steps=12, evaluate__times=2).build()


def test_profile_gives_all_cost_keys():
    arguments = ["--preset", "demo", "--seconds", "2", "--json", *tiny_settings()]
    result = invoke("profile", "--method", "mean_teacher", *arguments)
    costs = json.loads(result.stdout)
    assert set(costs) >= {
        "parameters_trained", "parameters_inference", "flops_per_step", "peak_memory_bytes", "seconds_per_step",
        "bare_seconds_per_step", "overhead_ratio", "data_wait_fraction", "images_per_second",
        "model_flops_utilisation", "wall_seconds",
    }
    assert costs["parameters_trained"] == costs["parameters_inference"] == 1_813_986
    assert 0.5 < costs["overhead_ratio"] < 2 and 0 <= costs["data_wait_fraction"] < 0.5
    assert costs["flops_per_step"] > 1e8
    used = costs["flops_per_step"] / costs["seconds_per_step"] / costs["ceiling_flops_per_second"]
    assert 0.99 * used < costs["model_flops_utilisation"] < 1.5  # by processor time, of which there is less
    assert costs["peak_memory_bytes"] > 20 * costs["parameters_trained"]  # two networks, gradients and two moments


def test_a_trace_is_a_file_for_chrome(tmp_path):
    line = ["profile", "--method", "supervised", "--preset", "demo", "--count-only", *tiny_settings()]
    assert invoke(*line, "--trace", tmp_path / "trace.json").returncode == 0
    assert len(json.loads((tmp_path / "trace.json").read_text())["traceEvents"]) > 100
    assert "is a folder" in one_line_error(invoke(*line, "--trace", tmp_path))
    assert "--trace" in one_line_error(invoke("profile", "--method", "all", "--trace", "x.json"))


def test_parameters_at_inference_are_those_of_the_official_output():
    device = torch.device("cpu")
    teacher, experts = training("mean_teacher").method, training("semimoe").method
    assert reached_parameters(teacher, 32, device) == sum(p.numel() for p in teacher.net.parameters())
    assert all(p.requires_grad is False for p in teacher.teacher.parameters())
    idle = sum(p.numel() for k, p in experts.named_parameters() if k.startswith(("gate.gates.sdf", "gate.gates.bnd")))
    idle += sum(p.numel() for k, p in experts.named_parameters() if k.startswith(("gate.heads.sdf", "gate.heads.bnd")))
    idle += sum(p.numel() for k in ("seg", "sdf", "bnd") for p in experts.nets[k].head.parameters()) + 3
    assert reached_parameters(experts, 32, device) == sum(p.numel() for p in experts.parameters()) - idle


def test_flops_grow_with_the_method():
    """Counted in the first step: the student's forward and backward on two batches and the teacher's forward."""
    counted = []
    for one in (training("supervised"), training("mean_teacher")):
        with flop_counter() as counter:
            advance(one, 0, 1)
        counted.append(counter.get_total_flops())
    assert 2.2 < counted[1] / counted[0] < 2.5


def test_all_methods_are_profiled_in_one_go(monkeypatch):
    monkeypatch.setattr(METHODS, "names", lambda: ["ensemble", "supervised", "semimoe"])
    line = ["profile", "--method", "all", "--ratio", "100", "--preset", "demo", *tiny_settings()]
    found = json.loads(invoke(*line, "--seconds", "0.1", "--json").stdout)
    assert [costs["method"] for costs in found] == ["ensemble", "supervised", "semimoe"]
    assert "there are none" in found[2]["declined"] and found[0]["peak_memory_bytes"] > 2**20
    table = invoke(*line, "--count-only").stdout.splitlines()
    assert table[0] == "| method | parameters |" and table[2] == "| ensemble | 5,441,958 |"
    assert table[4].startswith("| semimoe | declined: ")


@pytest.mark.parametrize(("before", "after", "groups", "kernel", "stride"), [
    (8, 8, 8, 5, 1), (8, 8, 8, 3, 2), (8, 16, 4, 3, 1), (8, 16, 1, 3, 1), (8, 16, 1, 1, 1),
])
def test_operations_of_grouped_convolutions_are_counted_right(before, after, groups, kernel, stride):
    """By hand: every output value takes kernel^2 * before / groups multiplications and as many additions, and the two
    gradients take as many each."""
    conv = torch.nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    image = torch.randn(2, before, 12, 12, requires_grad=True)
    with flop_counter() as counter:
        conv(image).sum().backward()
    side = 12 // stride
    by_hand = 2 * (2 * after * side * side) * (kernel * kernel * before // groups)
    assert counter.get_total_flops() == 3 * by_hand


def test_operations_of_a_transposed_convolution_are_counted_right():
    conv = torch.nn.ConvTranspose2d(6, 4, 2, 2, bias=False)
    with flop_counter() as counter:
        conv(torch.randn(2, 6, 8, 8, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (2 * 6 * 8 * 8) * (2 * 2 * 4)
