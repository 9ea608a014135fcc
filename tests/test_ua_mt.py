"""Uncertainty-aware Mean Teacher's mechanism, against NumPy."""

import math

import numpy as np
import pytest
import torch

from benchmark.method import Clock
from methods.ua_mt import UAMT
from tests.batches import assert_teacher_follows, batch, task, terms, unlabelled


def test_passes_differ_through_dropout_alone():
    method, image = UAMT(task(), noise=0.0), unlabelled().weak
    first, second = method.teacher_logits(image), method.teacher_logits(image)
    assert not torch.allclose(first, second)
    method.eval()
    assert torch.equal(method.teacher_logits(image), method.teacher_logits(image))
    without = UAMT(task(), noise=0.0, dropout=0.0)
    assert torch.equal(without.teacher_logits(image), without.teacher_logits(image))


def test_dropout_takes_whole_channels_of_the_deepest_feature_and_of_the_last_map():
    method, seen = UAMT(task(), dropout=0.5), {}
    method.net.decoder.register_forward_pre_hook(lambda module, inputs: seen.update(deepest=inputs[0][-1]))
    method.net.head.register_forward_pre_hook(lambda module, inputs: seen.update(last=inputs[0]))
    method.forward_with_dropout(method.net, unlabelled().weak)
    for name, tensor in seen.items():
        dead = (tensor.flatten(2).abs().amax(2) == 0).float().mean().item()
        assert 0.2 < dead < 0.95, name  # a half, and what ReLU had silenced


@pytest.mark.parametrize("bound", ["log_c", "ln2"])
def test_certain_pixels_agree_with_numpy(bound, monkeypatch):
    classes, passes = 3, 5
    method = UAMT(task(classes=classes), passes=passes, bound=bound)
    logits = 2 * torch.randn(2, classes, 16, 16).repeat(passes, 1, 1, 1) + torch.randn(passes * 2, classes, 16, 16)
    monkeypatch.setattr(method, "teacher_logits", lambda image: logits)
    p = np.exp(logits.double().numpy())
    p = (p / p.sum(1, keepdims=True)).reshape(passes, 2, classes, 16, 16).mean(0)
    uncertainty = -(p * np.log(p)).sum(1)
    shares = []
    for ramp in (0.0, 0.4, 1.0):
        limit = (0.75 + 0.25 * ramp) * math.log(3 if bound == "log_c" else 2)
        found = method.certainty_mask(torch.zeros(2, 3, 16, 16), torch.tensor(ramp)).numpy()[:, 0]
        assert (found == (uncertainty < limit)).all()
        shares.append(found.mean())
    assert 0 < shares[0] < shares[1] < shares[2] and (shares[2] == 1) == (bound == "log_c")


def test_consistency_is_the_mean_over_certain_pixels_and_0_without_any(monkeypatch):
    method, clock = UAMT(task(), weight=3.0, ramp="constant", dropout=0.0), Clock(10)
    teacher, mask = torch.randn(2, 2, 32, 32), torch.rand(2, 1, 32, 32) < 0.3
    monkeypatch.setattr(method, "teacher_logits", lambda image: teacher)
    monkeypatch.setattr(method, "certainty_mask", lambda image, ramp: mask)
    found = terms(method, batch(), unlabelled(), clock)["consistency"].item()
    squared = (method.net(unlabelled().weak).softmax(1) - teacher.softmax(1)).square().detach().double().numpy()
    m = mask.numpy()[:, 0]
    expected = 3.0 * np.mean([squared[:, c][m].mean() for c in range(2)])
    assert found == pytest.approx(expected, rel=1e-4)
    mask.zero_()
    assert terms(method, batch(), unlabelled(), clock)["consistency"].item() == 0


def test_teacher_lags_behind_the_student():
    assert_teacher_follows(UAMT(task(), weight=1.0, ramp="constant"), unlabelled())
