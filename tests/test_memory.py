"""What tensors hold at once is counted right, and parts that are back-propagated in turn hold less."""

import torch

from benchmark.conformance.checks import advance, differences
from benchmark.profiling.profile import BareStep, LiveTensors, held
from tests.factories import method_testbed

MIB = 2**20


def peak_bytes(work, known=()):
    with LiveTensors(known) as live:
        work()
    return live.peak


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


def test_the_peak_of_a_step_holds_weights_gradients_moments_and_images():
    one = training("mean_teacher")
    plans = one.plans(0, 2)
    one.step(plans[0])
    bare = BareStep(one, plans[1])
    peak = peak_bytes(bare, held(one, bare))
    weights = sum(p.numel() for p in one.method.net.parameters())
    pixels = sum(renderer.pixels.numel() for renderer in one.step.renderers.values())
    assert peak > 4 * (5 * weights + pixels)  # student, teacher, gradient, two moments
    rendered = sum(len(batch.tensors) for batch in bare.batches.values())
    whole = peak_bytes(lambda: one.step(plans[1]), held(one, bare)[:-rendered])
    assert abs(whole / peak - 1) < 0.02  # rendering is over when the most is held


def test_parts_in_turn_hold_less_and_learn_the_same():
    """Weights and gradients, the same in both, are much of so small a step."""
    turned, whole = (training("mean_teacher", train__batch_labelled=8, train__batch_unlabelled=8) for _ in range(2))
    whole.method.losses = lambda *a, losses=whole.method.losses: dict(i for part in losses(*a) for i in part.items())
    peaks = []
    for one in (turned, whole):
        advance(one, 0, 1)
        peaks.append(peak_bytes(lambda one=one: advance(one, 1, 1)))
    assert peaks[0] < 0.85 * peaks[1]
    assert not differences(turned.method.state_dict(), whole.method.state_dict())
