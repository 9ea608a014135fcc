"""The homogeneous mixture's mechanism, against NumPy."""

import numpy as np
import pytest
import torch

from benchmark.method import Clock
from methods.semimoe_homogeneous import SemiMoEHomogeneous, imbalance
from tests.batches import batch, softmax, task, terms, unlabelled


def test_experts_are_equal_in_kind_and_different_in_weights():
    method = SemiMoEHomogeneous(task(), experts=3)
    weights = [next(net.parameters()) for net in method.nets]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    assert len({sum(p.numel() for p in net.parameters()) for net in method.nets}) == 1


def test_the_mixture_is_the_gated_sum_of_softmax():
    method, image = SemiMoEHomogeneous(task(), experts=3).eval(), unlabelled().weak
    mixture, logits, gate = method.mixture([net.last_map(image) for net in method.nets])
    g = gate.detach().double().numpy()
    expected = sum(g[:, k, None, None, None] * softmax(z) for k, z in enumerate(logits))
    assert np.allclose(g.sum(1), 1, atol=1e-6)
    assert np.allclose(mixture.exp().detach().numpy(), expected, atol=1e-5)
    assert torch.allclose(method.predict(image), mixture)


@pytest.mark.parametrize("load", [[0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])
def test_load_balancing_agrees_with_numpy(load):
    shares = np.array([share for share in load if share > 0])
    expected = np.log(3) + (shares * np.log(shares)).sum()
    assert imbalance(torch.tensor(load, dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-12)


def test_consistency_is_the_mean_squared_difference_between_pairs():
    method = SemiMoEHomogeneous(task(), experts=3, weight=2.0, ramp="constant")
    found = terms(method, batch(), unlabelled(), Clock(10))["consistency"].item()
    p = [softmax(net(unlabelled().weak)) for net in method.nets]
    pairs = [((p[a] - p[b]) ** 2).mean() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert found == pytest.approx(2.0 * np.mean(pairs), rel=1e-4)


def test_consistency_makes_experts_agree_and_leaves_the_gate_alone():
    method = SemiMoEHomogeneous(task(), experts=2, weight=1.0, ramp="constant")
    terms(method, batch(), unlabelled(), Clock(10))["consistency"].backward()
    assert all(p.grad is None for p in method.gate.parameters())
    assert all(net.head.weight.grad.abs().sum() > 0 for net in method.nets)


def test_every_expert_and_the_gate_learn_from_the_mixtures_supervision():
    method = SemiMoEHomogeneous(task(), experts=2)
    terms(method, batch(), unlabelled(), Clock(10))["supervised"].backward()
    assert all(net.head.weight.grad.abs().sum() > 0 for net in method.nets)
    assert method.gate.choose.weight.grad.abs().sum() > 0


def test_a_gate_that_has_shut_gives_finite_gradients():
    method = SemiMoEHomogeneous(task(), experts=2)
    with torch.no_grad():
        method.gate.choose.bias.copy_(torch.tensor([200.0, 0.0]))
    assert method.gate(torch.zeros(1, 2 * method.nets[0].width, 4, 4))[0, 1] == 0
    found = terms(method, batch(), unlabelled(), Clock(10))
    (found["supervised"] + found["balance"]).backward()
    assert torch.isfinite(method.gate.choose.bias.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in method.nets.parameters() if p.grad is not None)
