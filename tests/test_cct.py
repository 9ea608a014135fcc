"""CCT's mechanism; its perturbations alone are in test_feature_perturbations.py."""

import math

import numpy as np
import pytest
import torch

from benchmark.errors import UserError
from benchmark.method import Clock
from methods import _feature_perturbations
from methods._cct_decoders import light_decoder
from methods.cct import CCT
from tests.batches import batch, calls, softmax, task, terms, unlabelled

NONE = {
    "vat": 0, "dropout": 0, "cutout": 0, "context_mask": 0, "object_mask": 0, "feature_drop": 0, "feature_noise": 0,
}
PUBLISHED = {"decoders": "full", "supervise_auxiliary": True, "detach": False}


def few(**more):
    """One decoder of every kind."""
    return CCT(task(), **(dict.fromkeys(NONE, 1) | more))


def gradient(module):
    """The largest gradient in a module, 0 where there is none."""
    return max((p.grad.abs().max().item() for p in module.parameters() if p.grad is not None), default=0.0)


def test_there_are_thirty_light_decoders_by_default():
    kinds = CCT(task()).auxiliary.kinds
    assert len(kinds) == 30
    expected = {
        "vat": 2, "dropout": 6, "cutout": 6, "context_mask": 2, "object_mask": 2, "feature_drop": 6, "feature_noise": 6,
    }
    assert {kind: kinds.count(kind) for kind in kinds} == expected


def test_a_light_decoder_is_a_projection_and_pixel_shuffles():
    torch.manual_seed(0)
    decoder, z = light_decoder(7, 3, 4), torch.randn(2, 7, 5, 6)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter)
    found = decoder(z).detach().numpy()
    weights = [p.detach().numpy().squeeze() for p in decoder.parameters()]
    x = np.einsum("kc,bchw->bkhw", weights[0], z.numpy())
    for weight, bias in (weights[1:3], weights[3:5]):
        y = np.einsum("kc,bchw->bkhw", weight, x) + bias[:, None, None]
        x = np.zeros((2, 3, 2 * x.shape[2], 2 * x.shape[3]))
        for dy in (0, 1):
            for dx in (0, 1):
                x[:, :, dy::2, dx::2] = y[:, 2 * dy + dx :: 4]
    assert found.shape == (2, 3, 20, 24)
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)


def test_a_light_decoder_starts_without_a_chequerboard_and_with_the_size_of_its_projection():
    decoder, z = light_decoder(7, 3, 8), torch.randn(2, 7, 4, 4)
    blocks = decoder(z).unfold(2, 8, 8).unfold(3, 8, 8)
    assert torch.allclose(blocks.amax((-2, -1)), blocks.amin((-2, -1)), atol=1e-6)
    assert torch.allclose(blocks[..., 0, 0].norm(dim=1), decoder[0](z).norm(dim=1), rtol=1e-4)


@pytest.mark.parametrize("more", [{}, PUBLISHED])
def test_consistency_is_the_mean_squared_distance_of_the_decoders_from_the_main_prediction(more):
    method, clock = few(weight=7.0, ramp_until=0.5, **more), Clock(20)
    clock.step.fill_(4)
    seen = calls(method.auxiliary)
    found = terms(method, batch(), unlabelled(), clock)
    features, main, others = seen[-1]
    image = unlabelled().weak
    assert torch.allclose(features[-1], method.net.encode(image)[-1]) and torch.allclose(main, method.net(image))
    assert len(others) == (3 if more else 7)
    mean = np.mean([((softmax(other) - softmax(main)) ** 2).mean() for other in others])
    assert mean > 1e-5
    expected = 7.0 * math.exp(-5 * (1 - 4 / 10) ** 2) * mean
    assert found["consistency"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("decoders", ["light", "full"])
def test_the_main_decoder_follows_the_others_only_when_its_prediction_is_not_detached(decoders):
    for detach in (True, False):
        method, clock = few(decoders=decoders, detach=detach), Clock(10)
        clock.step.fill_(9)
        terms(method, batch(), unlabelled(), clock)["consistency"].backward()
        followed = gradient(method.net.decoder) > 0 and gradient(method.net.head) > 0
        untouched = all(p.grad is None for m in (method.net.decoder, method.net.head) for p in m.parameters())
        assert followed != detach and untouched == detach
        assert gradient(method.net.encoder) > 0 and gradient(method.auxiliary) > 0


@pytest.mark.parametrize("decoders", ["light", "full"])
def test_auxiliary_decoders_learn_from_labelled_images_only_when_supervised(decoders):
    for supervise in (False, True):
        method = few(decoders=decoders, supervise_auxiliary=supervise)
        terms(method, batch(), unlabelled(), Clock(10))["supervised"].backward()
        grads = [p.grad is not None for p in method.auxiliary.parameters()]
        assert all(grads) if supervise else not any(grads)


def test_supervision_of_all_heads_is_their_mean():
    method = few(supervise_auxiliary=True)
    seen = calls(method.auxiliary)
    found = terms(method, batch(), unlabelled(), Clock(10))["supervised"].item()
    _, main, others = seen[0]
    mask = batch().mask
    assert torch.allclose(main, method.net(batch().weak))
    expected = [method.task.criterion(logits, mask).item() for logits in (main, *others)]
    assert found == pytest.approx(sum(expected) / 8, rel=1e-5)


def test_every_light_decoder_reads_its_own_perturbation_of_the_deepest_feature(monkeypatch):
    method, given, seen = few(), {}, {}
    for place, (kind, decoder) in enumerate(zip(method.auxiliary.kinds, method.auxiliary.decoders, strict=True)):
        decoder.register_forward_hook(lambda module, inputs, output, kind=kind: seen.update({kind: inputs[0]}))
        monkeypatch.setattr(_feature_perturbations, kind, lambda z, *guide, kind=kind, place=place: (
            given.update({kind: guide}) or z + place))
    z, logits = torch.rand(2, 256, 8, 8), torch.randn(2, 2, 128, 128)
    method.auxiliary([*[torch.rand(2, 8, 16, 16)] * (len(method.net.feature_widths) - 1), z], logits)
    assert all(torch.equal(seen[kind], z + place) for place, kind in enumerate(NONE))
    mask = _feature_perturbations.foreground(logits, (8, 8))
    boxes = _feature_perturbations.object_boxes(mask)
    assert all(torch.equal(a, b) for a, b in zip(given["cutout"][0], boxes, strict=True))
    assert all(torch.equal(given[kind][0], mask) for kind in ("context_mask", "object_mask"))
    assert given["vat"] == (method.auxiliary.decoders[0],)


def test_the_published_variant_has_three_further_decoders_of_all_scales(monkeypatch):
    method = CCT(task(), **PUBLISHED)
    assert sum(p.numel() for p in method.parameters()) == 3_713_688  # XNet prints 3.71 M for unet_cct
    auxiliary, further = calls(method.auxiliary), [calls(net.decoder) for net in method.auxiliary.nets]
    monkeypatch.setattr(_feature_perturbations, "feature_noise", lambda z: z + 1)
    monkeypatch.setattr(_feature_perturbations, "feature_drop", lambda z: z + 2)
    terms(method, batch(), unlabelled(), Clock(10))
    features, noisy, dropped, silenced = auxiliary[0][0], *(seen[0][0] for seen in further)
    for scale, z in enumerate(features):
        assert torch.equal(noisy[scale], z + 1) and torch.equal(silenced[scale], z + 2)
        assert 0.2 < (dropped[scale][z > 0] == 0).float().mean() < 0.4
    heads = [net.head.weight for net in (method.net, *method.auxiliary.nets)]
    assert all(not torch.equal(a, b) for k, a in enumerate(heads) for b in heads[:k])


@pytest.mark.parametrize(("net", "level"), [("unet_small", 3), ("unet_lite", 2)])
def test_light_decoders_may_read_the_feature_of_an_eighth_of_the_side(net, level):
    method = CCT(task(net=net, size=64), **(dict.fromkeys(NONE, 1) | {"reads": "eighth"}))
    first, auxiliary = calls(method.auxiliary.decoders[0]), calls(method.auxiliary)
    terms(method, batch(64), unlabelled(64), Clock(10))["consistency"].backward()
    feature, (features, _, others) = first[-1][0], auxiliary[-1]
    assert feature.shape == features[level].shape and feature.shape[-1] == 8
    assert all(logits.shape == (2, 2, 64, 64) for logits in others)
    reached = [p.grad is not None for p in method.net.encoder.parameters()]
    assert any(reached) and not all(reached)  # what is coarser learns nothing from the consistency


def test_the_finest_feature_is_taken_where_all_are_coarser():
    net = task(net="unet_lite").network()
    assert net.level(1, torch.zeros(1, 3, 64, 64)) == (0, 2) and net.training


def test_no_auxiliary_decoder_at_all_is_refused():
    with pytest.raises(UserError, match="there would be no auxiliary decoder"):
        CCT(task(), **NONE)
