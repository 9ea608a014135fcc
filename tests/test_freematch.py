"""FreeMatch's mechanism, against NumPy, on batches with real CutMix."""

import numpy as np
import pytest
import torch

from benchmark.losses import IGNORE
from benchmark.method import Clock
from methods.freematch import FreeMatch
from tests.batches import mixed, nll, pasted, softmax, spied, task


def test_averages_follow_the_batch_and_start_at_chance():
    method, images = FreeMatch(task(), momentum=0.9), mixed()
    assert method.threshold == 0.5 and method.prob.tolist() == method.frequency.tolist() == [0.5, 0.5]
    q = softmax(method.net(images.weak))
    method.labels(images.weak)
    assert method.threshold.item() == pytest.approx(0.9 * 0.5 + 0.1 * q.max(1).mean(), rel=1e-5)
    np.testing.assert_allclose(method.prob, 0.45 + 0.1 * q.mean((0, 2, 3)), rtol=1e-5)
    shares = [(q.argmax(1) == kind).mean() for kind in (0, 1)]
    np.testing.assert_allclose(method.frequency, 0.45 + 0.1 * np.array(shares), rtol=1e-5)


def test_the_threshold_of_a_rarer_class_is_lower_in_proportion():
    method, images = FreeMatch(task(), momentum=1.0), mixed()
    q = softmax(method.net(images.weak))
    method.threshold.fill_(float(np.quantile(q.max(1), 0.7)))
    method.prob.copy_(torch.tensor([0.8, 0.72]))
    bound = method.threshold.item() * np.array([1, 0.9])
    expected = np.where(q.max(1) >= bound[q.argmax(1)], q.argmax(1), IGNORE)
    found = method.labels(images.weak).numpy()
    assert np.array_equal(found, expected) and 0.1 < (found != IGNORE).mean() < 0.95
    assert (found != np.where(q.max(1) >= bound[0], q.argmax(1), IGNORE)).any()


def test_terms_agree_with_numpy():
    method, images, clock = FreeMatch(task(), weight=3.0, fairness=0.2, momentum=1.0, ramp="linear"), mixed(), Clock(10)
    clock.step.fill_(4)
    method.threshold.fill_(0.6)
    method.prob.copy_(torch.tensor([0.7, 0.3]))
    method.frequency.copy_(torch.tensor([0.9, 0.1]))
    labels = pasted(method.labels(images.weak).numpy(), "strong")
    found, logits = spied(method, images, clock)
    assert found["strong"].item() == pytest.approx(1.5 * nll(logits["strong"], labels), rel=1e-5)
    sure, p = labels != IGNORE, softmax(logits["strong"])
    mean = np.array([p[:, kind][sure].mean() for kind in (0, 1)])
    share = np.array([(p.argmax(1)[sure] == kind).mean() for kind in (0, 1)])
    a, b = np.array([0.7 / 0.9, 0.3 / 0.1]), np.divide(mean, share, out=np.zeros(2), where=share > 0)
    a, b = a / a.sum(), b / b.sum()
    expected = sum(a[kind] * np.log(b[kind]) for kind in (0, 1) if b[kind] > 0)
    assert found["fairness"].item() == pytest.approx(1.5 * 0.2 * expected, rel=1e-4)


def test_fairness_is_finite_without_a_confident_pixel_or_with_one_class_only():
    method = FreeMatch(task())
    for logits, sure in ((torch.zeros(1, 2, 4, 4), False), (torch.ones(1, 2, 4, 4).cumsum(1), True)):
        logits.requires_grad_()
        value = method.unfairness(logits, torch.full((1, 4, 4), sure))
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(logits.grad).all()
