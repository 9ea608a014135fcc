"""SS-Net's mechanism, against NumPy."""

import numpy as np
import pytest
import torch

from benchmark.losses import IGNORE
from benchmark.method import Clock
from methods.ss_net import SSNet, adversarial, frozen_statistics, soft_dice
from tests.batches import batch, blobs, gradients, task, terms, unlabelled


def test_soft_dice_agrees_with_numpy_and_is_0_for_equal_maps():
    p, q = (torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(k)).softmax(1) for k in (0, 1))
    a, b = p.double().numpy(), q.double().numpy()
    expected = 1 - (2 * (a * b).sum((2, 3)) + 1) / ((a**2 + b**2).sum((2, 3)) + 1)
    np.testing.assert_allclose(soft_dice(p, q), expected.mean(1), rtol=1e-5)
    assert torch.allclose(soft_dice(p, p), torch.zeros(2), atol=1e-6)


def test_r_has_the_length_and_changes_the_prediction_more_than_chance():
    method, image = SSNet(task()), unlabelled(count=3).weak
    method.eval()
    prob = method.net(image).softmax(1).detach()
    torch.manual_seed(0)
    r = adversarial(method.net, image, prob, 6.0, 10.0)
    assert torch.allclose(r.flatten(1).norm(dim=1), torch.full((3,), 6.0)) and not r.requires_grad
    chance = torch.randn_like(r)
    chance = 6 * chance / chance.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    found, random = (soft_dice(method.net(image + one).softmax(1), prob) for one in (r, chance))
    assert (found > 1.5 * random).all() and not gradients(method)


def test_without_r_the_smoothness_costs_nothing():
    method, image = SSNet(task(), length=1e-9), unlabelled().weak
    method.train()
    assert torch.allclose(method.smoothness(image, method.net(image)), torch.zeros(2), atol=1e-5)


def test_adversarial_passes_leave_batchnorms_statistics_alone():
    method, image = SSNet(task()), unlabelled().weak
    running = [value.clone() for name, value in method.net.named_buffers() if "running" in name]
    with frozen_statistics(method.net):
        method.net(3 * image)
    now = [value for name, value in method.net.named_buffers() if "running" in name]
    assert all(torch.equal(a, b) for a, b in zip(running, now, strict=True))
    method.net(3 * image)
    assert not all(torch.equal(a, b) for a, b in zip(running, now, strict=True))


def constant_weights(method):
    """All learned weights equal."""
    for one in (*method.pixel_weights, *method.memory_weights):
        for parameter in one.parameters():
            torch.nn.init.zeros_(parameter)
    return method


def test_compactness_is_the_mean_distance_to_the_memory_of_the_same_class():
    method, label = constant_weights(SSNet(task())), blobs(1)
    last = torch.randn(1, method.net.width, 32, 32)
    method.memory.normal_()
    method.filled[0, :5] = method.filled[1, :9] = True
    pixels = last.movedim(1, -1).flatten(0, 2)
    z = method.foresee(method.project(pixels)).detach().double().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    expected = []
    for kind, held in ((0, 5), (1, 9)):
        m = method.memory[kind, :held].double().numpy()
        m /= np.linalg.norm(m, axis=1, keepdims=True)
        chosen = label.flatten().numpy() == kind
        assert chosen.sum() <= 1024
        expected.append((1 - z[chosen] @ m.T).mean())
    assert method.compact(last, label).item() == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("keep", ["highest", "lowest"])
def test_the_memory_holds_the_best_ranked_of_correct_pixels_and_nothing_else(keep):
    method, vectors = SSNet(task(), keep=keep), torch.randn(100, 32)
    right = torch.rand(100, generator=torch.Generator().manual_seed(0)) < 0.6
    method.remember(1, vectors, right)
    rank = method.pixel_weights[1](vectors).squeeze(1)
    order = rank.argsort(descending=keep == "highest")
    best = [k for k in order.tolist() if right[k]][:32]
    assert {tuple(row) for row in method.memory[1].tolist()} == {tuple(vectors[k].tolist()) for k in best}
    assert method.filled[1].all() and not method.filled[0].any()
    before = method.memory.clone()
    method.remember(1, torch.randn(100, 32), torch.zeros(100, dtype=torch.bool))
    assert torch.equal(method.memory, before)


def test_pixels_that_are_predicted_wrong_are_not_remembered():
    method, last, label = SSNet(task()), torch.randn(1, 16, 32, 32), blobs(1)
    method.compact(last, label, label == 0)
    assert method.filled[0].all() and not method.filled[1].any()


def test_a_step_remembers_labelled_pixels_and_has_running_statistics_of_plain_images_alone():
    method, plain, clock = SSNet(task(), weight=2.0, ramp="linear"), SSNet(task()), Clock(10)
    plain.load_state_dict(method.state_dict())
    clock.step.fill_(4)
    calls, smooth = [], method.smoothness
    method.smoothness = lambda image, logits: calls.append(smooth(image, logits)) or calls[-1]
    found = terms(method, batch(), unlabelled(), clock)
    plain.net(batch().weak), plain.net(unlabelled().weak)
    for (name, now), wanted in zip(method.net.named_buffers(), plain.net.buffers(), strict=True):
        assert "running" not in name or torch.allclose(now, wanted, atol=1e-6)
    assert found["smooth"].item() == pytest.approx(2 * 0.5 * torch.cat(calls).mean().item(), rel=1e-5)
    kept = method.memory.clone()
    method.compact(method.net.last_map(unlabelled().weak), blobs())
    assert kept.any() and torch.equal(kept, method.memory)


def test_r_points_along_the_gradient_and_the_clean_prediction_has_none():
    weight = torch.tensor([[1.0, 0.0, -1.0], [-1.0, 0.5, 0.0]])
    net, image = (lambda x: torch.einsum("kc,bchw->bkhw", weight, x)), unlabelled().weak
    prob = net(image).softmax(1)
    torch.manual_seed(3)
    r = adversarial(net, image, prob, 0.01, 0.5)
    torch.manual_seed(3)
    start = torch.rand_like(image) - 0.5
    start = (0.5 * start / start.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).requires_grad_()
    soft_dice(net(image + start).softmax(1), prob).sum().backward()
    cosine = torch.cosine_similarity(r.flatten(1), start.grad.flatten(1))
    assert torch.allclose(cosine, torch.ones(2), atol=1e-4)
    method, logits = SSNet(task()), torch.randn(2, 2, 32, 32, requires_grad=True)
    method.smoothness(image, logits).sum().backward()
    assert logits.grad is None and gradients(method.net)


def test_an_empty_memory_and_ignored_masks_cost_nothing():
    method = SSNet(task())
    assert method.compact(torch.randn(1, method.net.width, 8, 8), torch.full((1, 8, 8), IGNORE)).item() == 0
    assert len(SSNet(task(), background=False).filled) == 1


def test_both_terms_teach_with_their_weights():
    found = {}
    for weight in (1.0, 3.0):
        method = SSNet(task(), weight=weight, compactness=0.2, ramp="constant")
        torch.manual_seed(0)
        found[weight] = terms(method, batch(), unlabelled(), Clock(10))
    for name in ("smooth", "compact"):
        assert found[3.0][name].item() == pytest.approx(3 * found[1.0][name].item(), rel=1e-4)
        assert found[1.0][name].item() > 0
    found[3.0]["compact"].backward(retain_graph=True)
    assert gradients(method.project) and gradients(method.pixel_weights) and gradients(method.net)
