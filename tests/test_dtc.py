"""DTC's mechanism, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.errors import NotApplicable
from benchmark.losses import IGNORE
from benchmark.method import Clock
from benchmark.targets import signed_distance
from methods.dtc import DTC, mask_of
from tests.batches import batch, blobs, gradients, softmax, task, terms, unlabelled


def test_a_steep_slope_gives_the_mask_itself_and_half_on_its_inner_border():
    mask = blobs(3)
    distance = signed_distance(mask)
    smooth = mask_of(distance, 1e6).squeeze(1)
    off_border = distance.squeeze(1) != 0
    assert torch.equal(smooth[off_border], mask[off_border].float()) and 0 < mask.float().mean() < 1
    assert (smooth[~off_border] == 0.5).all() and (mask[~off_border] == 1).all()


def with_heads(method, logits, distance):
    """The method with these predictions of the labelled and of the unlabelled batch."""
    answers, method.seen = iter([(logits[:2], distance[:2]), (logits[2:], distance[2:])]), []
    method.both = lambda image: method.seen.append(image) or next(answers)
    return method


def test_all_terms_agree_with_numpy():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 2, 32, 32, generator=generator)
    distance = torch.randn(5, 1, 32, 32, generator=generator).tanh()
    method, clock, labelled = DTC(task(), weight=3.0, distance_weight=0.7, slope=4.0), Clock(10), batch()
    labelled.mask[0, :7] = IGNORE
    labelled.sdf[0, :, :9] = IGNORE  # unknown also near by
    clock.step.fill_(5)
    images = unlabelled(count=3)
    found = terms(with_heads(method, logits, distance), labelled, images, clock)
    assert method.seen[0] is labelled.weak and method.seen[1] is images.weak
    z, d = logits.double().numpy(), distance.double().numpy()
    p = 1 / (1 + np.exp(z[:, :1] - z[:, 1:]))
    consistency = ((1 / (1 + np.exp(-4 * d)) - p) ** 2).mean()
    assert found["consistency"].item() == pytest.approx(3 * np.exp(-5 * 0.25) * consistency, rel=1e-5)
    known = (labelled.sdf != IGNORE).numpy()
    squared = (d[:2] - labelled.sdf.numpy()) ** 2
    assert found["distance"].item() == pytest.approx(0.7 * squared[known].mean(), rel=1e-5)
    q, y = softmax(logits[:2]), labelled.mask.numpy()
    hot, valid = np.stack([y == 0, y == 1], 1), (y != IGNORE)[:, None]
    nll = -np.log((q * hot).sum(1)[y != IGNORE]).mean()
    overlap, mass = (2 * (part * valid).sum((2, 3)) + 1 for part in (q * hot, (q**2 + hot) / 2))
    assert found["supervised"].item() == pytest.approx(nll + (1 - overlap / mass).mean(), rel=1e-5)


def test_both_heads_see_the_last_map_and_the_distance_is_within_1():
    method, image = DTC(task()).eval(), unlabelled().weak
    with torch.no_grad():
        method.distance_head.weight.mul_(20)
        logits, distance = method.both(image)
        last = method.net.last_map(image).double().numpy()
    weight, bias = (part.detach().double().numpy() for part in (method.distance_head.weight, method.distance_head.bias))
    raw = np.einsum("bchw,c->bhw", last, weight[0, :, 0, 0]) + bias
    np.testing.assert_allclose(distance.squeeze(1), np.tanh(raw), atol=1e-4)
    assert distance.abs().max() > 0.9 and np.abs(raw).max() > 1.2
    assert torch.allclose(method.predict(image), logits, atol=1e-5)


def test_the_consistency_teaches_both_heads():
    method = DTC(task(), ramp="constant")
    terms(method, batch(), unlabelled(), Clock(10))["consistency"].backward()
    found = gradients(method)
    assert found["net.head.weight"].abs().sum() > 0 and found["distance_head.weight"].abs().sum() > 0


def test_a_steep_slope_teaches_the_distance_near_its_zero_level_alone():
    distance = torch.linspace(-0.1, 0.1, 5 * 32 * 32).view(5, 1, 32, 32).requires_grad_()
    logits = torch.zeros(5, 2, 32, 32, requires_grad=True)
    method = with_heads(DTC(task(), ramp="constant"), logits, distance)
    terms(method, batch(), unlabelled(count=3), Clock(10))["consistency"].backward()
    far = distance.detach().abs() > 0.02
    assert distance.grad[far].abs().max() < 1e-9 < distance.grad[~far].abs().max()
    assert (logits.grad[far.expand_as(logits)] != 0).all()


def test_more_than_two_classes_are_declined():
    with pytest.raises(NotApplicable, match="two classes"):
        DTC(task(classes=3))
