"""What tensors hold at once is counted right, and parts that are back-propagated in turn hold less."""

from __future__ import annotations

import pytest
import torch

from benchmark.conformance.checks import advance, differences
from benchmark.profiling.memory import LiveTensors, peak_bytes, saved_bytes
from benchmark.profiling.profile import peak_memory
from tests.factories import method_testbed

MIB = 2**20


def block(mib=1):
    return torch.zeros(mib * MIB // 4)


def training(method, **more):
    made = method_testbed(method, train__steps=12, **more).build()
    made.method.train()
    return made


def test_the_peak_is_what_is_alive_at_once():
    def work():
        first, second = block(), block()
        del first
        third = block(2)
        view = third.view(2, -1).t()  # no memory of its own, but it keeps third's
        del third
        copy = view.contiguous()  # second, third and this: 1 + 2 + 2
        del view, second
        return copy + 1

    assert peak_bytes(work) == 5 * MIB
    assert peak_bytes(work, [block(3)]) == 8 * MIB


def test_what_is_freed_is_forgotten():
    with LiveTensors() as live:
        for _ in range(40):
            kept = block()
    assert live.now == MIB and live.peak == 2 * MIB and kept.numel()


def test_what_a_backward_pass_keeps_is_counted_once():
    weight = torch.zeros(MIB // 4, requires_grad=True)
    assert saved_bytes(lambda: weight.exp().exp(), [weight]) == 2 * MIB  # both results
    assert saved_bytes(lambda: 2 * weight + 1, [weight]) == 0
    assert saved_bytes(lambda: weight.square(), []) == MIB


def test_the_peak_of_a_step_holds_weights_gradients_moments_and_images():
    one = training("mean_teacher")
    plans = one.plans(0, 2)
    one.step(plans[0])
    peak = peak_memory(one, plans[1])
    weights = sum(p.numel() for p in one.method.net.parameters())
    pixels = sum(renderer.pixels.numel() for renderer in one.step.renderers.values())
    assert peak > 4 * (5 * weights + pixels)  # student, teacher, gradient, two moments
    one.step(plans[1])
    assert abs(peak_memory(one, plans[1]) / peak - 1) < 0.02


@pytest.mark.parametrize("method", ["mean_teacher", "ensemble", "xnet"])
def test_parts_in_turn_hold_less_and_learn_the_same(method):
    """Weights and gradients, the same in both, are much of so small a step."""
    turned, whole = (training(method, train__batch_labelled=8, train__batch_unlabelled=8) for _ in range(2))
    whole.method.losses = lambda *a, losses=whole.method.losses: dict(i for part in losses(*a) for i in part.items())
    peaks = []
    for one in (turned, whole):
        advance(one, 0, 1)
        peaks.append(peak_bytes(lambda one=one: advance(one, 1, 1)))
    assert peaks[0] < 0.85 * peaks[1]
    assert not differences(turned.method.state_dict(), whole.method.state_dict())
