"""The ensemble's mechanism, against NumPy."""

import numpy as np
import torch

from benchmark.method import Clock
from methods.ensemble import Ensemble
from methods.supervised import Supervised
from tests.batches import batch, softmax, task, terms, unlabelled


def test_members_start_different_and_the_first_as_every_methods_first_network():
    method, single = Ensemble(task(), members=3), Supervised(task())
    weights = [next(net.parameters()) for net in method.nets]
    assert torch.equal(weights[0], next(single.net.parameters()))
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])


def test_prediction_is_the_mean_of_probabilities():
    method, image = Ensemble(task(), members=3).eval(), unlabelled().weak
    found = method.predict(image).softmax(1).detach().numpy()
    assert np.allclose(found, np.mean([softmax(net(image)) for net in method.nets], axis=0), atol=1e-6)


def test_every_member_learns_as_if_alone():
    method = Ensemble(task(), members=2)
    sum(terms(method, batch(), None, Clock(10)).values()).backward()
    found = [p.grad.clone() for p in method.nets[1].parameters()]
    method.zero_grad()
    method.task.criterion(method.nets[1](batch().weak), batch().mask).backward()
    assert all(torch.allclose(a, p.grad, atol=1e-6) for a, p in zip(found, method.nets[1].parameters(), strict=True))
