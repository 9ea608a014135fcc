"""Entropy minimisation's mechanism, against NumPy."""

import numpy as np
import pytest
import torch

from benchmark.losses import entropy
from benchmark.method import Clock
from methods.entropy_minimisation import EntropyMinimisation
from tests.batches import batch, task, terms, unlabelled


@pytest.mark.parametrize("classes", [2, 4])
def test_normalised_entropy_is_1_at_chance_and_0_when_sure_for_any_number_of_classes(classes):
    method = EntropyMinimisation(task(classes=classes))
    sure = torch.zeros(1, classes, 4, 4)
    sure[:, 0] = 100.0
    assert method.normalised_entropy(torch.zeros(1, classes, 4, 4)).item() == pytest.approx(1)
    assert method.normalised_entropy(sure).item() == pytest.approx(0, abs=1e-6)


def test_the_term_is_the_weighted_ramped_mean_entropy_of_unlabelled_images():
    method, clock = EntropyMinimisation(task(), weight=3.0, ramp="linear"), Clock(10)
    clock.step.fill_(4)
    found = terms(method, batch(), unlabelled(), clock)["entropy"].item()
    p = method.net(unlabelled().weak).softmax(1).detach().double().numpy()
    expected = 3.0 * 0.5 * (-(p * np.log(p)).sum(1) / np.log(2)).mean()
    assert found == pytest.approx(expected, rel=1e-4)


def test_gradient_flows_through_every_factor():
    """d/dz of the entropy itself, not of a cross-entropy to a frozen belief: -p (log p + H) for each class."""
    logits = torch.randn(1, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    entropy(logits).sum().backward()
    p = logits.detach().softmax(1).numpy().ravel()
    h = -(p * np.log(p)).sum()
    assert np.allclose(logits.grad.numpy().ravel(), -p * (np.log(p) + h))


def test_labelled_entropy_is_off_by_default_and_unramped_when_asked_for():
    clock = Clock(10)
    assert terms(EntropyMinimisation(task()), batch(), unlabelled(), clock)["labelled_entropy"].item() == 0
    method = EntropyMinimisation(task(), labelled_weight=1.0)
    found = terms(method, batch(), unlabelled(), clock)["labelled_entropy"].item()
    assert found == pytest.approx(method.normalised_entropy(method.net(batch().weak)).item(), rel=1e-4)
