"""ICT's mechanism, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.method import Clock
from methods.ict import ICT
from tests.batches import batch, dice, gradients, softmax, task, terms, train, unlabelled


def learner(share=None, **more):
    """A method whose teacher differs from its student, with these shares of the blend for three images."""
    method = ICT(task(), ramp="constant", **more)
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.mul_(1.1)
    if share is not None:
        method.shares = lambda image: torch.tensor(share).view(-1, 1, 1, 1)
    return method


def test_the_term_is_the_squared_distance_to_the_blended_predictions():
    method, images, share = learner([0.3, 0.9, 0.5], weight=3.0), unlabelled(count=3), np.array([0.3, 0.9, 0.5])
    found = terms(method, batch(), images, Clock(10))["consistency"].item()
    x, share = images.weak.numpy(), share[:, None, None, None]
    blended = share * x + (1 - share) * x[[1, 2, 0]]
    q = softmax(method.teacher(images.weak))
    p = softmax(method.net(torch.from_numpy(blended).float()))
    assert found == pytest.approx(3 * ((p - share * q - (1 - share) * q[[1, 2, 0]]) ** 2).mean(), rel=1e-4)


def test_every_image_has_a_share_of_its_own_from_the_beta_distribution():
    image = torch.zeros(4000, 1, 1, 1)
    torch.manual_seed(0)
    for alpha in (0.2, 5.0):
        found = learner(alpha=alpha).shares(image)
        assert found.shape == (4000, 1, 1, 1) and found.unique().numel() > 2000
        assert found.mean().item() == pytest.approx(0.5, abs=0.03)
        assert found.var().item() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.1)


def test_the_teacher_gets_no_gradient_and_follows():
    method = learner()
    terms(method, batch(), unlabelled(), Clock(10))["consistency"].backward()
    assert not gradients(method.teacher) and gradients(method.net)
    before, clock = [p.clone() for p in method.teacher.parameters()], Clock(1000)
    clock.step.fill_(900)
    train(method, clock, 1, unlabelled())
    for old, now, student in zip(before, method.teacher.parameters(), method.net.parameters(), strict=True):
        assert torch.allclose(now, 0.99 * old + 0.01 * student, atol=1e-6) and not torch.equal(now, student)


def test_the_consistency_grows_along_the_sigmoid_and_the_supervised_loss_does_not():
    method, found = ICT(task(), weight=3.0), []
    for step in (0, 5, 10):
        clock = Clock(10)
        clock.step.fill_(step)
        torch.manual_seed(0)
        found.append(terms(method, batch(), unlabelled(), clock))
    sizes = np.array([one["consistency"].item() for one in found])
    np.testing.assert_allclose(sizes[:2] / sizes[2], np.exp([-5, -5 / 4]), rtol=1e-4)
    logits, mask = method.net(batch().weak), batch().mask
    nll = -np.log(np.take_along_axis(softmax(logits), mask.numpy()[:, None], 1)).mean()
    for one in found:
        assert one["supervised"].item() == pytest.approx(nll + dice(logits, mask), rel=1e-4)
