"""CorrMatch's mechanism, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.losses import IGNORE
from benchmark.method import Clock
from methods._correlation import Correlation, correlated, propagate, regions
from methods.corrmatch import CorrMatch, mean_of_class_maxima
from tests.batches import batch, gradients, labels_of, mixed, moderate, nll, pasted, softmax, spied, task, terms


def test_rows_of_the_affinity_sum_to_1_and_agree_with_numpy():
    torch.manual_seed(0)
    module, feature = Correlation(8, 3).eval(), torch.randn(2, 8, 4, 4)
    affinity = module(feature)
    assert affinity.shape == (2, 16, 16) and torch.allclose(affinity.sum(-1), torch.ones(2, 16))
    z = module.project(feature).detach().numpy().reshape(2, -1, 16)
    a, b = (np.einsum("kc,bcp->bkp", head.weight.detach().numpy()[:, :, 0, 0], z) + head.bias.detach().numpy()[:, None]
            for head in (module.first, module.second))
    scores = np.einsum("bki,bkj->bij", a, b) / np.sqrt(3)
    np.testing.assert_allclose(affinity.detach(), softmax(torch.from_numpy(scores).mT).transpose(0, 2, 1), atol=1e-5)


def test_logits_are_carried_without_gradient_of_their_own():
    logits, affinity = torch.randn(1, 2, 4, 4, requires_grad=True), torch.rand(1, 16, 16, requires_grad=True)
    carried = correlated(logits, affinity)
    expected = np.einsum("bci,bij->bcj", logits.detach().numpy().reshape(1, 2, 16), affinity.detach().numpy())
    np.testing.assert_allclose(carried.detach().flatten(2), expected, rtol=1e-4, atol=1e-5)
    carried.sum().backward()
    assert logits.grad is None and affinity.grad.abs().sum() > 0


def test_regions_are_where_a_row_is_above_half_of_its_range():
    affinity = torch.tensor([[0.1, 0.3, 0.21, 0.19], [0.0, 0.0, 0.9, 0.1], [0.2, 0.3, 0.4, 0.1], [0.1, 0.1, 0.7, 0.1]])
    cut = {(0, 1, 1, 0), (0, 0, 1, 0), (0, 1, 1, 0), (0, 0, 1, 0)}
    found = regions(affinity[None], 200)
    assert found.shape == (1, 200, 4) and {tuple(row) for row in found[0].int().tolist()} == cut


def spread(label, sure, region, threshold=0.6):
    return propagate(label, sure, region, 2, torch.tensor(threshold))


def test_a_region_of_one_confident_class_takes_it_as_a_whole():
    label, region = torch.zeros(1, 8, 8, dtype=torch.int64), torch.zeros(1, 1, 16, dtype=torch.bool)
    region[0, 0, :8] = True  # the upper half
    label[0, :4] = torch.tensor([1] * 6 + [0] * 2)
    sure = label == 1
    found, confident = spread(label, sure, region)
    assert (found[0, :4] == 1).all() and (found[0, 4:] == 0).all()
    assert torch.equal(confident[0, :4], torch.ones(4, 8, dtype=torch.bool)) and not confident[0, 4:].any()
    found, confident = spread(label, sure, region, threshold=0.8)  # of the half 0.75 are confident
    assert torch.equal(found, label) and torch.equal(confident, sure)


def test_a_region_of_mixed_classes_takes_none():
    label, region = torch.zeros(1, 8, 8, dtype=torch.int64), torch.ones(1, 1, 16, dtype=torch.bool)
    label[0, :4] = 1
    sure = torch.ones_like(label, dtype=torch.bool)
    found, confident = spread(label, sure, region)
    assert torch.equal(found, label) and confident.all()


def test_spreading_is_the_same_under_autocast():
    label, region = torch.ones(1, 64, 64, dtype=torch.int64), torch.ones(1, 1, 256, dtype=torch.bool)
    sure = torch.ones_like(label, dtype=torch.bool)
    sure[0, 0, :44] = False  # 0.9893 of the region, 0.9883 or 0.9922 in bfloat16
    for threshold in (0.989, 0.9895):
        plain = spread(label, sure, region, threshold)
        with torch.autocast("cpu", torch.bfloat16):
            found = spread(label, sure, region, threshold)
        assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
        assert plain[1].all() == (threshold < 0.9893)


def test_spreading_never_takes_confidence_away_and_a_constant_image_stays_constant():
    generator = torch.Generator().manual_seed(0)
    region = torch.rand(2, 20, 16, generator=generator) < 0.4
    sure = torch.rand(2, 8, 8, generator=generator) < 0.7
    for label in (torch.ones(2, 8, 8, dtype=torch.int64), torch.randint(0, 2, (2, 8, 8), generator=generator)):
        found, confident = spread(label, sure, region)
        assert (confident | ~sure).all()
        if label.all():
            assert found.all() and confident.float().mean() > sure.float().mean()


def test_the_threshold_is_an_average_of_the_largest_confidence_of_each_predicted_class():
    logits = torch.tensor([[[2.0, 0.5], [0.0, 0.0]], [[0.0, 0.0], [1.0, 3.0]]]).permute(1, 0, 2)[None]
    p = softmax(logits)
    expected = np.mean([p[0, kind][p[0].argmax(0) == kind].max() for kind in (0, 1)])
    assert mean_of_class_maxima(logits).item() == pytest.approx(expected, rel=1e-6)
    one_class = torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2)], 1)
    assert mean_of_class_maxima(one_class).item() == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-6)
    method, seen = CorrMatch(task(), threshold=0.5), []
    for _ in range(3):
        terms(method, batch(), mixed(), Clock(10))
        seen.append(method.threshold.item())
    rise = mean_of_class_maxima(method.net(mixed().weak)).item() - 0.5
    assert seen == sorted(seen) and seen[0] == pytest.approx(0.5 + 0.001 * rise, abs=1e-5)


def test_terms_agree_with_numpy_and_both_views_are_mixed_before_they_are_compared(monkeypatch):
    images, method, clock = mixed(), CorrMatch(task(), weight=3.0, ramp="linear", momentum=1.0, dropout=0.0), Clock(10)
    clock.step.fill_(4)
    method.correlation.eval()
    method.threshold.fill_(moderate(method, images))
    monkeypatch.setattr("methods.corrmatch.propagate", lambda label, sure, *rest: (1 - label, sure | (label == 0)))
    found, _ = spied(method, images, clock)
    weak = method.net(images.weak).detach()
    strong, carried_s = (value.detach() for value in method.both(images.strong))
    threshold = method.threshold.item()
    plain = labels_of(weak, threshold)
    sure = pasted(plain != IGNORE, "strong")
    q, p = (softmax(z) for z in (weak, strong))
    q = np.stack([pasted(q[:, kind], "strong") for kind in (0, 1)], 1)
    kl = ((q * np.log(q / p)).sum(1) * sure).mean()
    assert found["kl"].item() == pytest.approx(0.5 * 0.5 * 3 * kl, rel=1e-3)
    assert found["features"].item() == pytest.approx(0.5 * 0.5 * 3 * nll(weak, plain), rel=1e-3)
    carried = method.both(images.weak)[1]
    assert found["weak/correlated"].item() == pytest.approx(0.25 * 0.5 * 3 * nll(carried, plain), rel=1e-3)
    label = weak.argmax(1).numpy()
    spread = pasted(np.where((plain != IGNORE) | (label == 0), 1 - label, IGNORE), "strong")
    assert found["strong"].item() == pytest.approx(0.5 * 0.5 * 3 * nll(strong, spread), rel=1e-3)
    assert found["strong/correlated"].item() == pytest.approx(0.25 * 0.5 * 3 * nll(carried_s, spread), rel=1e-3)
    assert method.logged["confident, spread"] >= method.logged["confident"]


def test_the_correlation_learns_and_weight_0_leaves_the_supervised_terms():
    method = CorrMatch(task(), threshold=0.5)
    terms(method, batch(), mixed(), Clock(10))["strong/correlated"].backward()
    assert gradients(method.correlation)["second.weight"].abs().sum() > 0
    found = terms(CorrMatch(task(), weight=0.0), batch(), mixed(), Clock(10))
    assert all((term == 0) != name.startswith("supervised") for name, term in found.items())


@pytest.mark.parametrize(("net", "level", "side"), [("unet_small", 4, 4), ("unet_lite", 3, 4)])
def test_the_affinity_is_taken_at_a_sixteenth_of_the_side(net, level, side):
    method = CorrMatch(task(net=net, size=64))
    assert method.level == level
    assert method.net.encode(torch.zeros(2, 3, 64, 64))[level].shape[-1] == side and method.net.training
