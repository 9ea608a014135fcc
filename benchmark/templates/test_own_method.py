"""The mechanism of OwnMethod, against NumPy and by its gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from own_method import OwnMethod

from benchmark.errors import UserError
from benchmark.method import Clock, Task


def task() -> Task:
    return Task(classes=2, size=32, labelled=2, unlabelled=2, images=4, net="unet_small")


def batch(seed: int) -> SimpleNamespace:
    """Two images of noise; a mask whose upper half is known and whose lower half is not."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(2, (2, 32, 32), generator=generator)
    mask[:, 16:] = 255
    return SimpleNamespace(index=torch.arange(2), weak=torch.randn(2, 3, 32, 32, generator=generator), mask=mask)


def losses_of(logits: torch.Tensor, **hyperparameters) -> dict[str, torch.Tensor]:
    """The method's terms where its network answers with `logits`, whatever it is shown."""
    method = OwnMethod(task(), ramp="constant", **hyperparameters)
    method.net = torch.nn.Identity()
    shown = SimpleNamespace(weak=logits, mask=batch(0).mask)
    return dict(method.losses(shown, shown, Clock(10)))


def test_pixels_without_a_label_carry_no_gradient():
    logits = torch.randn(2, 2, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(losses_of(logits)["supervised"], logits)
    assert gradient[:, :, 16:].abs().max() == 0 and gradient[:, :, :16].abs().max() > 0


def test_pixels_that_the_network_is_not_sure_of_carry_no_gradient():
    logits = torch.randn(2, 2, 32, 32)
    sure = logits.softmax(1).max(1).values >= 0.8
    logits.requires_grad_(True)
    (gradient,) = torch.autograd.grad(losses_of(logits, threshold=0.8)["self"], logits)
    assert torch.equal(gradient.abs().sum(1) > 0, sure) and 0 < sure.float().mean() < 1


def test_the_term_is_the_cross_entropy_of_what_is_sure_over_all_pixels():
    logits = torch.randn(2, 2, 32, 32)
    p = np.exp(logits.double().numpy())
    best = (p / p.sum(1, keepdims=True)).max(1)
    expected = 3.0 * np.where(best >= 0.8, -np.log(best), 0).mean()
    assert losses_of(logits, threshold=0.8, weight=3.0)["self"].item() == pytest.approx(expected, rel=1e-5)


def test_a_weight_of_0_leaves_the_gradients_of_supervised_learning():
    method = OwnMethod(task(), weight=0.0)
    sum(method.losses(batch(1), batch(2), Clock(10)).values()).backward()
    ours = [p.grad.clone() for p in method.net.parameters()]
    method.zero_grad()
    method.task.criterion(method.net(batch(1).weak), batch(1).mask).backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(ours, method.net.parameters(), strict=True))


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"threshold": 1.5}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        OwnMethod(task(), **wrong)
