"""MC-Net's mechanism, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.errors import NotApplicable
from benchmark.method import Clock
from methods.mc_net import MCNet, interpolations, sharpen
from tests.batches import batch, softmax, task, terms, unlabelled


def sharp(p, temperature):
    power = p ** (1 / temperature)
    return power / power.sum(1, keepdims=True)


def predictions(count, classes=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, 2, classes, 6, 6, generator=generator))


@pytest.mark.parametrize("classes", [2, 4])
def test_sharpening_is_the_power_form_sums_to_1_and_is_the_identity_at_temperature_1(classes):
    (logits,) = predictions(1, classes)
    np.testing.assert_allclose(sharpen(logits, 0.5), sharp(softmax(logits), 0.5), atol=1e-6)
    assert torch.allclose(sharpen(logits, 0.1).sum(1), torch.ones(2, 6, 6))
    np.testing.assert_allclose(sharpen(logits, 1.0), softmax(logits), atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_the_consistency_sums_over_ordered_pairs_of_decoders(count):
    logits = predictions(count)
    p = [softmax(one) for one in logits]
    expected = sum(((p[i] - sharp(p[j], 0.1)) ** 2).mean() for i in range(count) for j in range(count) if i != j)
    assert MCNet(task(), decoders=count).consistency(logits).item() == pytest.approx(expected, rel=1e-5)


def test_detached_the_target_gets_no_gradient():
    for detach in (True, False):
        first, second = (logits.requires_grad_() for logits in predictions(2))
        targets = MCNet(task(), detach=detach)
        targets.consistency([first, second]).backward()
        p, q = first.detach().clone().requires_grad_(), second.detach()
        (p.softmax(1) - sharpen(q, 0.1)).square().mean().backward()
        assert torch.allclose(first.grad, p.grad, atol=1e-8) == detach


def test_terms_are_weighed_and_of_all_images():
    method, clock = MCNet(task(), weight=2.0), Clock(10)
    clock.step.fill_(5)
    found = terms(method, batch(), unlabelled(), clock)
    known, unknown = method.all_logits(batch().weak), method.all_logits(unlabelled().weak)
    both = [torch.cat(pair) for pair in zip(known, unknown, strict=True)]
    assert found["consistency"].item() == pytest.approx(
        2 * np.exp(-5 * 0.25) * method.consistency(both).item(), rel=1e-4)
    supervised = sum(method.task.criterion(logits, batch().mask) for logits in known)
    assert found["supervised"].item() == pytest.approx(supervised.item(), rel=1e-5)


@pytest.mark.parametrize("net", ["unet_small", "unet_lite"])
def test_decoders_share_the_encoder_and_differ_in_weights_and_in_how_they_enlarge(net):
    method = MCNet(task(net=net), decoders=3)
    ways = [{getattr(part, name) for part, name in interpolations(one)} for one in method.nets]
    assert ways == [{"nearest"}, {"bilinear"}, {"bicubic"}]
    assert [hasattr(one, "encoder") for one in method.nets] == [True, False, False]
    assert not any(getattr(part, "align_corners", False) for part in method.nets.modules())
    method.eval()
    predicted = method.predict(unlabelled().weak)
    assert torch.equal(predicted["first"], method.nets[0](unlabelled().weak)) and next(iter(predicted)) == "first"
    first, second, third = predicted.values()
    assert not torch.allclose(first, second, atol=1e-3) and not torch.allclose(second, third, atol=1e-3)
    method.nets[1].load_state_dict({k: v for k, v in method.nets[0].state_dict().items() if "encoder" not in k})
    first, second, _ = method.predict(unlabelled().weak).values()
    assert not torch.allclose(first, second, atol=1e-3)  # with the same weights they still differ


def test_a_decoder_that_does_not_interpolate_is_declined():
    method = MCNet(task())
    assert isinstance(interpolations(method.nets[0])[0][0], nn.Upsample)
    with pytest.raises(NotApplicable, match="interpolate"):
        MCNet(task(net="swin_unet_small"))
