"""BCP's mechanism, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.batches.batch import Batch
from benchmark.losses import IGNORE, ce_dice
from benchmark.method import Clock
from methods.bcp import BCP, largest_components
from tests.batches import batch, calls, softmax, task, terms, unlabelled
from tests.factories import method_testbed


def learner(phase="both", **more):
    """A method in a phase, its teacher another network than its student."""
    method = BCP(task(), **more)
    method.phase = phase
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.mul_(0.8).add_(0.01)
    return method


def seen(method, labelled, images, step=0):
    """All terms of a step, the images that the student saw, and its logits."""
    made = calls(method.net)
    torch.manual_seed(step)
    return terms(method, labelled, images, Clock(10)), *zip(*made, strict=True)


def box_of(method, step=0):
    torch.manual_seed(step)
    return method.random_box(torch.zeros(1, 3, 32, 32))


def test_the_box_is_two_thirds_of_the_side_and_everywhere():
    method = learner()
    boxes = torch.stack([box_of(method, step) for step in range(200)]).numpy()
    assert (boxes.sum((1, 2)) == 21**2).all()
    covered = boxes.any(0)
    assert covered[16].all() and covered[:, 16].all() and len(np.unique(boxes.reshape(200, -1), axis=0)) > 50
    assert all(box[box.any(1)][:, box.any(0)].all() for box in boxes)


@pytest.mark.parametrize(("known", "unknown"), [(2, 2), (2, 3), (3, 2)])
def test_images_go_into_each_other_in_both_directions_and_the_smaller_batch_goes_round(known, unknown):
    method, labelled, images = learner(), batch(count=known), unlabelled(count=unknown)
    _, (inwards, outwards), _ = seen(method, labelled, images)
    box, rounds = box_of(method), range(max(known, unknown))
    inside, outside = (x[[row % len(x) for row in rounds]] for x in (images.weak, labelled.weak))
    assert torch.equal(inwards, torch.where(box, inside, outside))
    assert torch.equal(outwards, torch.where(box, outside, inside))


def test_each_region_is_taught_by_its_own_label_averaged_over_itself():
    method, labelled, images = learner(weight=0.3), batch(), unlabelled()
    found, _, logits = seen(method, labelled, images)
    box, truth = box_of(method).numpy(), labelled.mask.numpy()
    pseudo = method.teacher(images.weak).argmax(1).numpy()
    assert (pseudo != method.net(images.weak).argmax(1).numpy()).mean() > 0.01
    for name, z, labelled_region in (("in", logits[0], ~box), ("out", logits[1], box)):
        for term, label, region, weight in (
            (f"supervised/{name}", truth, labelled_region, 1.0), (f"unlabelled/{name}", pseudo, ~labelled_region, 0.3),
        ):
            p = softmax(z)
            hot = np.stack([label == 0, label == 1], 1)
            nll = -np.log((p * hot).sum(1))[:, region].mean()
            overlap, squares = (p * hot)[..., region].sum(-1), (p**2 + hot)[..., region].sum(-1)
            dice = (1 - (2 * overlap + 1) / (squares + 1)).mean()
            assert found[term].item() == pytest.approx(weight * (nll + dice), rel=1e-5), term


def test_of_two_regions_of_equal_size_an_unlabelled_pixel_pulls_half_as_much_as_a_labelled_one():
    method, half = learner(), torch.arange(32) < 16
    mask = batch().mask[:, :16].repeat(1, 2, 1)  # both halves show the same
    logits = torch.randn(2, 2, 16, 32, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 2, 1).requires_grad_()
    method.random_box = lambda image: half[:, None].expand(32, 32)
    method.teacher.forward = lambda image: 20 * torch.stack([1 - mask, mask], 1).float()
    method.net.forward = lambda image: logits
    found = terms(method, Batch(torch.arange(2), weak=batch().weak, mask=mask), unlabelled(), Clock(10))
    (found["supervised/in"] + found["unlabelled/in"]).backward()
    unlabelled_half, labelled_half = logits.grad.split(16, 2)
    assert (labelled_half != 0).all() and torch.allclose(unlabelled_half, 0.5 * labelled_half, rtol=1e-4, atol=1e-9)


def test_the_teacher_follows_by_the_steps_of_its_phase():
    method, clock = learner(decay=0.9), Clock(1000)
    clock.phase_steps = range(900, 1000)
    for step, decay in ((950, 0.9), (904, 0.8), (900, 0.0)):
        clock.step.fill_(step)
        before = [p.clone() for p in method.teacher.parameters()]
        method.after_step(clock)
        for old, now, student in zip(before, method.teacher.parameters(), method.net.parameters(), strict=True):
            assert torch.allclose(now, decay * old + (1 - decay) * student, atol=1e-6)


def test_the_first_phase_pastes_labelled_images_into_each_other_and_sees_no_other():
    method, labelled = learner("labelled"), batch(count=3)
    found, (mixed,), (logits,) = seen(method, labelled, None)
    box, order = box_of(method), [1, 2, 0]
    assert torch.equal(mixed[..., box], labelled.weak[order][..., box])
    assert torch.equal(mixed[..., ~box], labelled.weak[..., ~box])
    inside, outside = (torch.where(box, *pair) for pair in (
        (labelled.mask[order], IGNORE), (IGNORE, labelled.mask)))
    expected = ce_dice(logits, inside) + ce_dice(logits, outside)
    assert found.keys() == {"supervised"} and found["supervised"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_second_phase_starts_from_the_weights_of_the_first():
    training = method_testbed("bcp", method__pretrain=0.5).build()
    for step, plan in enumerate(training.plans(0, 2)):
        training.enter_step(step)
        training.step(plan)
    method = training.method
    before = [p.clone() for p in method.net.parameters()]
    training.enter_step(2)
    pairs = list(zip(before, method.net.parameters(), method.teacher.net.parameters(), strict=True))
    assert method.phase == "both" and all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in pairs)


def test_the_largest_component_of_every_class_may_be_all_that_is_kept():
    label = torch.zeros(1, 6, 8, dtype=torch.int64)
    label[0, 0, 0] = label[0, 1, 1] = label[0, 2, 2] = 1  # touch at corners
    label[0, 4, :2] = 1
    label[0, :2, 6:] = 2
    label[0, 5, 5] = 2
    expected = label.clone()
    expected[0, 4, :2] = expected[0, 5, 5] = 0
    assert torch.equal(largest_components(label), expected)
    assert torch.equal(largest_components(torch.zeros_like(label)), torch.zeros_like(label))
    assert BCP(task()).cuda_graph and not BCP(task(), keep="largest").cuda_graph


def test_the_kept_components_are_what_is_taught():
    label = torch.zeros(2, 32, 32, dtype=torch.int64)
    label[:, 10:20, 10:20] = label[:, 13:17, 23:27] = label[:, 22:24, 3:9] = 1
    expected = torch.zeros_like(label)
    expected[:, 10:20, 10:20] = 1
    for keep, taught in (("largest", expected), ("all", label)):
        method = learner(keep=keep)
        method.teacher.forward = lambda image: torch.stack([1 - label, label], 1).float()
        found, _, (logits, _) = seen(method, batch(), unlabelled())
        alone = ce_dice(logits, torch.where(box_of(method), taught, IGNORE))
        assert found["unlabelled/in"].item() == pytest.approx(0.5 * alone.item(), rel=1e-5)
        assert (torch.where(box_of(method), label - expected, 0)).any()  # the box shows what the two differ in


@pytest.mark.parametrize(("pretrain", "starts"), [
    (0.0, {"both": 0.0}), (0.2, {"labelled": 0.0, "both": 0.2}), (1.0, {"labelled": 0.0}),
])
def test_the_first_phase_takes_its_share_of_the_steps_or_is_left_out(pretrain, starts):
    method = BCP(task(), pretrain=pretrain)
    assert {name: phase.start for name, phase in method.phases.items()} == starts
    assert method.phase == next(iter(starts))
