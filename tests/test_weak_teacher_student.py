"""The weak teacher-student's mechanism, against NumPy: pseudo-masks, their filter, age and fusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.batches.batch import Batch
from benchmark.batches.transforms import Geometry
from benchmark.conformance.testbed import advance
from benchmark.errors import UserError
from benchmark.losses import IGNORE
from benchmark.method import Clock
from methods.weak_teacher_student import WeakTeacherStudent
from tests.batches import softmax, task, terms
from tests.factories import method_testbed

SIZE, BATCH = 32, 2
SPARSE = {"labels.glands": 0.3}


class Fixed(torch.nn.Module):
    """A network whose logits of every image are its parameter."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, image):
        return self.logits[: len(image)]


def fixed(seed, scale=2.0):
    return Fixed(scale * torch.randn(BATCH, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)))


def refined(clock_at=0, **settings):
    """A method in its second phase with fixed networks, half of whose first image is annotated as 1, and its clock."""
    method, clock = WeakTeacherStudent(task(), **settings), Clock(100)
    clock.phase_steps = range(20, 100)
    clock.step.fill_(20 + clock_at)
    method.phase, method.net, method.teacher.net = "refinement", fixed(1), fixed(2)
    method.annotation[0, :16] = 1
    return method, clock


def pair(geometry=None):
    image = torch.zeros(BATCH, 3, SIZE, SIZE)
    labelled = Batch(torch.tensor([4, 5]), weak=image, mask=torch.full((BATCH, SIZE, SIZE), IGNORE))
    return labelled, Batch(torch.arange(BATCH), weak=image, geometry=geometry)


def expected_target(method, threshold):
    """The pseudo-masks as NumPy makes them, and the teacher's probabilities."""
    prob = softmax(method.teacher.net.logits)
    label = np.where(prob.max(1) >= threshold, prob.argmax(1), IGNORE)
    return np.where(method.annotation[:BATCH].numpy() != IGNORE, method.annotation[:BATCH].numpy(), label), prob


@pytest.mark.parametrize("target", ["hard", "soft"])
def test_the_terms_agree_with_numpy_at_several_times(target):
    for at in (0, 30, 79):
        method, clock = refined(at, target=target, threshold=0.9, threshold_end=0.55, alpha=0.8, alpha_end=0.2)
        curve = (1 + np.cos(np.pi * at / 80)) / 2
        label, teacher = expected_target(method, 0.55 + 0.35 * curve)
        hot = np.moveaxis(np.eye(256)[label][..., :2], -1, 1)
        if target == "soft":
            hot = np.where((method.annotation[:BATCH].numpy() != IGNORE)[:, None], hot, teacher)
        squared = ((softmax(method.net.logits) - hot) ** 2).sum(1)[label != IGNORE]
        found = terms(method, *pair(), clock)
        assert found["consistency"].item() == pytest.approx((1 - (0.2 + 0.6 * curve)) * squared.mean(), rel=1e-5)
        assert found["labelled"].item() == 0, "nothing is annotated in the labelled batch"
        assert method.logged["threshold"].item() == pytest.approx(0.55 + 0.35 * curve)
        assert method.logged["valid"].item() == pytest.approx((label != IGNORE).mean())
        assert 0.3 < (label != IGNORE).mean() < 1


@pytest.mark.parametrize("consistency", ["mse", "criterion"])
def test_ignored_pixels_give_no_gradient_and_the_others_do(consistency):
    method, clock = refined(consistency=consistency, threshold=0.9)
    label, _ = expected_target(method, 0.9)
    terms(method, *pair(), clock)["consistency"].backward()
    moved = (method.net.logits.grad != 0).any(1).numpy()
    assert (label == IGNORE).any() and np.array_equal(moved, label != IGNORE)
    assert method.teacher.net.logits.grad is None


def test_fusion_and_filter_change_the_loss():
    found = {}
    for name, settings in (("all", {}), ("fusion", {"fusion": False}), ("filter", {"filter": False})):
        method, clock = refined(**settings)
        found[name] = terms(method, *pair(), clock)["consistency"].item()
        if name == "fusion":
            method.annotation.fill_(IGNORE)
            unfused = terms(method, *pair(), clock)["consistency"].item()
            assert unfused == found[name], "without fusion the annotation has no part in it"
        if name == "filter":
            assert method.logged["valid"].item() == 1
    assert len(set(found.values())) == 3


def test_a_pseudo_mask_is_made_anew_when_it_is_older_than_an_age_that_rises():
    method, clock = refined(interval=0.5, fusion=False, threshold=0.0, threshold_end=0.0, filter=False)
    made = []
    for step in range(20, 100):
        clock.step.fill_(step)
        method.teacher.net.logits.data.mul_(-1)
        terms(method, *pair(), clock)
        label = method.teacher.net.logits.argmax(1)
        if method.made[0] == step:
            made.append(step)
            assert torch.equal(method.pseudo_mask[:BATCH].long(), label)
    expected, last = [], -np.inf
    for step in range(20, 100):
        if step - last >= 0.5 * (step - 20) / 80 * 80:
            expected.append(step)
            last = step
    assert made == expected and np.diff(made)[0] == 1 and np.diff(made)[-1] > 8
    method, clock = refined(interval=0.0)
    for step in (20, 21, 60, 99):
        clock.step.fill_(step)
        terms(method, *pair(), clock)
        assert method.made[:BATCH].eq(step).all() and method.made[BATCH:].isinf().all()


def test_pseudo_masks_are_kept_in_the_place_of_the_stored_image_and_stay_outside_of_a_crop():
    method, clock = refined(fusion=False, filter=False, threshold=0.0, threshold_end=0.0)
    geometry = Geometry(torch.tensor([5, 2]), torch.tensor([[4.0, 8.0, 16.0], [0.0, 0.0, 32.0]]), SIZE)
    label = method.teacher.net.logits.argmax(1)
    terms(method, *pair(geometry), clock)
    stored = method.pseudo_mask[:BATCH].long()
    assert (stored[0] == IGNORE).sum() == SIZE**2 - 16**2 and (stored[1] != IGNORE).all()
    assert torch.equal(stored[1], label[1].flip(1))  # code 2: a horizontal flip
    inside = stored[0] != IGNORE
    assert torch.equal(stored[0][inside], geometry.restore(label)[0][inside])


def test_the_target_is_the_annotation_wherever_there_is_one():
    training = method_testbed("weak_teacher_student", train__steps=12, **SPARSE).build_eager()
    method, seen = training.method, []
    goal = method.goal
    method.goal = lambda *given: seen.append(given) or goal(*given)
    advance(training, 0, 12)
    label, annotation = (torch.cat([given[place] for given in seen]) for place in (0, 1))
    known = annotation != IGNORE
    assert len(label) == 9 * 3 and 0 < known.float().mean() < 1 and torch.equal(label[known], annotation[known])
    rows = training.prepared.rows_of(training.split.labelled)
    assert (method.annotation[rows] != IGNORE).flatten(1).any(1).all()
    others = [row for row in range(len(method.annotation)) if row not in rows]
    assert (method.annotation[others] == IGNORE).all()


def test_the_teacher_is_a_copy_with_its_buffers_when_the_second_phase_begins_and_then_follows():
    testbed = method_testbed("weak_teacher_student", train__steps=8, **SPARSE | {"method.warmup": 0.5})
    training = testbed.build_eager()
    assert advance(training, 0, 4)[-1].keys() == {"supervised"}
    training.enter_step(4)
    method = training.method
    student, teacher = method.net.state_dict(), method.teacher.net.state_dict()
    assert all(torch.equal(student[name], teacher[name]) for name in student)
    assert any("running_mean" in name for name in student)
    advance(training, 4, 4)
    assert any(not torch.equal(student[name], teacher[name]) for name in student)


def test_the_decay_rises_where_it_is_asked_to():
    method, clock = refined(decay_start=0.99)
    for at in (0, 5, 79):
        clock.step.fill_(20 + at)
        before = method.teacher.net.logits.clone()
        method.after_step(clock)
        decay = min(1 - 1 / (at + 1), 0.999 - 0.009 * (1 + np.cos(np.pi * at / 80)) / 2)
        expected = decay * before + (1 - decay) * method.net.logits
        torch.testing.assert_close(method.teacher.net.logits, expected)


@pytest.mark.parametrize(("settings", "words"), [
    ({"threshold_end": 0.5}, "above 1 / C = 0.5"),
    ({"threshold": 0.6, "threshold_end": 0.7}, "must not be below method.threshold_end"),
    ({"target": "soft", "consistency": "criterion"}, "method.target=soft needs method.consistency=mse"),
])  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        WeakTeacherStudent(task(), **settings)
    assert WeakTeacherStudent(task(classes=4), threshold_end=0.3).thresholds == (0.95, 0.3)
