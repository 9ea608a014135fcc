"""Losses and ramps against a second implementation in NumPy, written from the equations."""

import math

import numpy as np
import pytest
import torch

from benchmark import losses
from benchmark.method import Clock
from tests.batches import softmax

RNG = np.random.Generator(np.random.PCG64(7))


def example(classes=2):
    logits = RNG.normal(size=(3, classes, 5, 6))
    target = RNG.integers(0, classes, size=(3, 5, 6))
    target[0, :2, :3] = 255
    return logits, target


def tensors(logits, target):
    return torch.tensor(logits, requires_grad=True), torch.tensor(target)


def dice_by_hand(logits, target, smooth, squared):
    probability, values = softmax(logits), []
    for b in range(len(logits)):
        for c in range(logits.shape[1]):
            seen = target[b] != 255
            p, y = probability[b, c][seen], (target[b] == c)[seen].astype(float)
            below = (p**2).sum() + (y**2).sum() if squared else p.sum() + y.sum()
            values.append(1 - (2 * (p * y).sum() + smooth) / (below + smooth))
    return np.mean(values)


@pytest.mark.parametrize("classes", [2, 4])
def test_dice_and_cross_entropy_agree_with_numpy(classes):
    logits, target = example(classes)
    a, t = tensors(logits, target)
    assert losses.dice_loss(a, t).item() == pytest.approx(dice_by_hand(a, target, 1.0, True), abs=1e-12)
    assert losses.boundary_dice_loss(a, t).item() == pytest.approx(dice_by_hand(a, target, 1e-8, False), abs=1e-12)
    seen = target != 255
    chosen = np.take_along_axis(softmax(a), np.where(seen, target, 0)[:, None], 1)[:, 0]
    assert losses.cross_entropy(a, t).item() == pytest.approx(-np.log(chosen[seen]).mean(), abs=1e-12)
    total = losses.cross_entropy(a, t) + losses.dice_loss(a, t)
    assert losses.ce_dice(a, t).item() == pytest.approx(total.item(), abs=1e-12)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.dice_loss, losses.boundary_dice_loss, losses.ce_dice])
def test_ignored_pixels_have_no_gradient_and_others_do(loss):
    logits, target = tensors(*example())
    loss(logits, target).backward()
    ignored = (target == 255).unsqueeze(1).expand_as(logits)
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).all()


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.dice_loss, losses.boundary_dice_loss, losses.ce_dice])
@pytest.mark.parametrize("value", [0, 1, 255])
def test_masks_all_empty_all_full_all_ignored_are_finite(loss, value):
    logits, _ = tensors(*example())
    result = loss(logits, torch.full((3, 5, 6), value))
    result.backward()
    assert math.isfinite(result.item()) and torch.isfinite(logits.grad).all()


def test_mse_refuses_to_broadcast():
    with pytest.raises(ValueError, match="broadcasting"):
        losses.mse(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))
    a, b = RNG.normal(size=(2, 1, 3, 3)), RNG.normal(size=(2, 1, 3, 3))
    assert losses.mse(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(((a - b) ** 2).mean())


def test_half_precision_is_summed_in_single():
    logits = torch.zeros(1, 2, 300, 300, dtype=torch.bfloat16)
    target = torch.zeros(1, 300, 300, dtype=torch.int64)
    assert losses.dice_loss(logits, target).dtype == torch.float32
    single = losses.dice_loss(logits.float(), target)
    assert losses.dice_loss(logits, target).item() == pytest.approx(single.item(), rel=1e-6)


def test_ramps_agree_with_their_formulas():
    clock, steps = Clock(200), 200
    for step in (0, 1, 50, 199):
        clock.step.fill_(step)
        assert clock.fraction.item() == pytest.approx(step / steps)
        assert clock.ramp("linear").item() == pytest.approx((step + 1) / steps)
        assert clock.ramp("linear", 0.25).item() == pytest.approx(min(1, (step + 1) / 50))
        assert clock.ramp("sigmoid").item() == pytest.approx(math.exp(-5 * (1 - step / steps) ** 2))
        assert clock.ramp("sigmoid", until=0.2).item() == pytest.approx(math.exp(-5 * (1 - min(1, step / 40)) ** 2))
        assert clock.ema(0.99).item() == pytest.approx(min(1 - 1 / (step + 1), 0.99))
    clock.stopped.fill_(True)
    assert clock.ema(0.99).item() == 1.0


def test_entropy_and_divergence_agree_with_numpy_and_are_finite_at_saturation():
    first, second = (3 * torch.randn(2, 4, 5, 6, dtype=torch.float64) for _ in range(2))
    p, q = softmax(first), softmax(second)
    assert np.allclose(losses.entropy(first).numpy(), -(p * np.log(p)).sum(1))
    assert np.allclose(losses.kl_divergence(first, second).numpy(), (p * np.log(p / q)).sum(1))
    assert not losses.kl_divergence(first, first).any()
    sure = torch.tensor([[[[500.0]], [[-500.0]]]])
    assert losses.entropy(sure).item() == 0 and losses.kl_divergence(sure, -sure).item() == pytest.approx(1000)


def test_soft_cross_entropy_agrees_with_numpy_and_with_hard_labels():
    logits, belief = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4).softmax(1)
    expected = -(belief.numpy() * np.log(softmax(logits))).sum(1).mean()
    assert losses.soft_cross_entropy(logits, belief).item() == pytest.approx(expected, rel=1e-5)
    label = torch.randint(0, 3, (2, 4, 4))
    hard = torch.nn.functional.one_hot(label, 3).permute(0, 3, 1, 2).float()
    assert losses.soft_cross_entropy(logits, hard).item() == pytest.approx(losses.cross_entropy(logits, label).item())


def test_mean_logits_are_those_of_the_mean_of_probabilities():
    given = [2 * torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(3)]
    expected = np.mean([softmax(logits) for logits in given], axis=0)
    assert np.allclose(losses.mean_logits(given).softmax(1).numpy(), expected)
    assert np.allclose(losses.mean_logits(given).exp().numpy(), expected)  # normalised already


def test_pseudo_labels_are_ignored_below_the_threshold_and_carry_no_gradient():
    logits = (2 * torch.randn(2, 3, 8, 8)).requires_grad_()
    p = softmax(logits)
    for threshold in (0.0, 0.5, 0.8, 1.0):
        label = losses.pseudo_label(logits, threshold)
        assert not label.requires_grad
        assert np.array_equal(label.numpy(), np.where(p.max(1) >= threshold, p.argmax(1), 255))


def test_cross_entropy_over_all_pixels_counts_the_ignored_ones():
    logits, label = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    label[:, :3] = 255
    valid, whole = losses.cross_entropy(logits, label), losses.cross_entropy(logits, label, over="all")
    assert whole.item() == pytest.approx(valid.item() / 4, rel=1e-6)
