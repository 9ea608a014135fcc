"""UniMatch V2's mechanism, against NumPy, on batches with real CutMix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.losses import IGNORE
from benchmark.method import Clock
from methods.unimatch_v2 import UniMatchV2, complementary_dropout
from tests.batches import batch, calls, gradients, labels_of, mixed, nll, pasted, task, terms, train


def learner(**more):
    """A method whose teacher is another network than its student, certain of half of the pixels."""
    method = UniMatchV2(task(), **more)
    method.teacher.net.load_state_dict(method.task.network().state_dict())
    with torch.no_grad():
        method.threshold = method.teacher(mixed().weak).softmax(1).amax(1).median().item()
    return method


def spied(method, images, clock=None):
    """All terms, and the student's logits of both strong views."""
    heads = calls(method.net.head)
    return terms(method, batch(), images, clock or Clock(10)), heads[-1][1]


def test_of_every_channel_one_view_has_the_double_and_half_of_the_images_keep_all():
    for seed in range(5):
        torch.manual_seed(seed)
        whole = torch.tensor([[True], [False], [True], [False], [False], [True]])
        first, second = complementary_dropout(torch.ones(12, 40, 3, 3), whole).numpy().reshape(2, 6, 40, 9)
        assert (first + second == 2).all() and (first == first[..., :1]).all()
        kept = (first == 1).all((1, 2))
        assert (kept == whole[:, 0].numpy()).all() and set(np.unique(first[~kept])) == {0, 2}
        assert 0.3 < (first[~kept] == 0).mean() < 0.7


def test_the_images_that_keep_all_keep_it_at_every_scale_and_are_drawn_anew(monkeypatch):
    method, images, drawn = learner(), mixed(), []

    def spy(feature, whole):
        drawn.append(whole.flatten().tolist())
        return complementary_dropout(feature, whole)

    monkeypatch.setattr("methods.unimatch_v2.complementary_dropout", spy)
    scales = len(method.net.feature_widths)
    for seed in range(8):
        torch.manual_seed(seed)
        terms(method, batch(), images, Clock(10))
    steps = [drawn[start : start + scales] for start in range(0, len(drawn), scales)]
    assert scales > 1 and all(step == [step[0]] * scales and sum(step[0]) == 1 for step in steps)
    assert len({tuple(step[0]) for step in steps}) > 1


@pytest.mark.parametrize("drop", [True, False])
def test_each_term_is_the_teachers_label_mixed_as_the_view_weighed_by_a_half(drop):
    method, images, clock = learner(weight=3.0, ramp="linear", drop=drop), mixed(), Clock(10)
    clock.step.fill_(4)
    found, logits = spied(method, images, clock)
    own = labels_of(method.teacher(images.weak), method.threshold)
    for view, part in zip(("strong", "strong2"), logits.chunk(2), strict=True):
        expected = 3.0 * 0.5 * 0.5 * nll(part, pasted(own, view))
        assert found[view].item() == pytest.approx(expected, rel=1e-5)
    assert method.logged["confident"].item() == pytest.approx((own != IGNORE).mean())


def test_dropout_changes_the_views_apart_from_images_that_keep_all():
    images = mixed()
    images.strong2 = images.strong
    for drop in (True, False):
        _, logits = spied(learner(drop=drop), images)
        first, second = logits.detach().chunk(2)
        assert torch.allclose(first, second, atol=1e-4) != drop


def test_the_teacher_labels_without_gradient_in_evaluation_mode_and_follows():
    method, modes = learner(), []
    method.teacher.net.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    sum(terms(method, batch(), mixed(), Clock(10)).values()).backward()
    assert modes == [False] and not gradients(method.teacher) and gradients(method.net)
    clock = Clock(1000)
    clock.step.fill_(900)
    before = [p.clone() for p in method.teacher.parameters()]
    train(method, clock, 1, mixed())
    for old, now, student in zip(before, method.teacher.parameters(), method.net.parameters(), strict=True):
        assert torch.allclose(now, 0.996 * old + 0.004 * student, atol=1e-6)
