"""Mean Teacher's mechanism."""

import pytest
import torch
from timm.models.tiny_vit import Attention

from benchmark.ema import Teacher
from benchmark.method import Clock
from methods.mean_teacher import MeanTeacher
from tests.batches import assert_teacher_follows, batch, task, terms, unlabelled


@pytest.mark.parametrize("bn_stats", ["ema", "copy", "own"])
def test_teacher_starts_equal_copies_once_then_lags(bn_stats):
    assert_teacher_follows(MeanTeacher(task(), bn_stats=bn_stats), unlabelled())


def test_consistency_is_the_mean_squared_difference_of_probabilities():
    method, clock = MeanTeacher(task(), noise=0.0, weight=3.0), Clock(10)
    clock.step.fill_(4)
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.mul_(1.1)
    image = unlabelled().weak
    found = terms(method, batch(), unlabelled(), clock)["consistency"]
    student, teacher = method.net(image).softmax(1), method.teacher(image).softmax(1)
    assert found.item() == pytest.approx(3.0 * 0.5 * ((student - teacher) ** 2).mean().item(), rel=1e-5)


def test_teacher_statistics_by_choice():
    net = torch.nn.BatchNorm2d(2)
    for bn_stats in ("ema", "copy", "own"):
        teacher = Teacher(net, bn_stats)
        student = torch.nn.BatchNorm2d(2)
        student.running_mean.fill_(4.0)
        student.num_batches_tracked.fill_(3)
        teacher.train()
        teacher.ema_update(student, torch.tensor(0.75))
        expected = {"ema": 1.0, "copy": 4.0, "own": 0.0}[bn_stats]
        assert teacher.net.running_mean[0].item() == pytest.approx(expected)
        assert teacher.net.training == (bn_stats == "own")


@pytest.mark.parametrize(("bn_stats", "agree"), [("own", True), ("ema", False), ("copy", False)])
def test_a_teacher_that_equals_its_student_agrees_with_it_only_with_statistics_of_the_batch(bn_stats, agree):
    """With other statistics the two differ before either has learnt anything, and the consistency trains on that."""
    method, clock = MeanTeacher(task(), noise=0.0, ramp="constant", bn_stats=bn_stats), Clock(10)
    assert (terms(method, batch(), unlabelled(), clock)["consistency"].item() < 1e-9) == agree


def test_counted_in_epochs_the_teacher_is_the_student_for_an_epoch_and_lags_by_whole_ones():
    """XNet: alpha 0 in the first epoch, 1/2 in the second, 10/11 in the eleventh, at most `decay`."""
    clock = Clock(1000, steps_an_epoch=5)
    for step, alpha in ((0, 0.0), (4, 0.0), (5, 0.5), (9, 0.5), (10, 2 / 3), (50, 10 / 11), (999, 0.99)):
        clock.step.fill_(step)
        assert clock.ema(0.99, "epochs").item() == pytest.approx(alpha, abs=1e-6)
    clock.step.fill_(4)
    method = MeanTeacher(task(), ema_step="epoch")
    with torch.no_grad():
        for parameter in method.net.parameters():
            parameter.add_(0.1)
    method.after_step(clock)
    assert all(torch.equal(a, b) for a, b in zip(method.net.parameters(), method.teacher.net.parameters(), strict=True))


def test_a_teacher_in_evaluation_mode_forgets_what_timm_keeps_of_earlier_weights():
    """TinyViT, LeViT and EfficientFormer keep their attention's bias from one prediction to the next."""
    net = Attention(16, key_dim=8, num_heads=2, attn_ratio=1, resolution=(2, 2))
    teacher, tokens = Teacher(net), torch.randn(1, 4, 16)
    before = teacher(tokens)
    with torch.no_grad():
        net.attention_biases.add_(torch.arange(4.0))
    teacher.ema_update(net, torch.tensor(0.0))
    net.eval()
    assert torch.equal(teacher(tokens), net(tokens)) and not torch.equal(teacher(tokens), before)
