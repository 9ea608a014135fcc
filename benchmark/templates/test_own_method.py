"""The mechanism of OwnMethod, against NumPy and by its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_method import OwnMethod
from torch import Tensor, nn

from benchmark.method import Batch, Clock, Task

BOX = torch.tensor([[8, 4, 24, 20], [0, 0, 0, 0]])  # y0, x0, y1, x1: pasted into image 0 from image 1; nothing into 1


def task() -> Task:
    return Task(classes=2, size=32, labelled=2, unlabelled=2, images=4, net="unet_small")


def labelled() -> Batch:
    """Two images of noise; the upper half of their masks is known."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(2, (2, 32, 32), generator=generator)
    mask[:, 16:] = 255
    return Batch(torch.arange(2), weak=torch.randn(2, 3, 32, 32, generator=generator), mask=mask)


def unlabelled(weak: Tensor, strong: Tensor, mixed: bool = True) -> Batch:
    """Two images in both views, with the rectangles that `strong` is mixed by."""
    return Batch(torch.arange(2), weak=weak, strong=strong, boxes={"strong": BOX} if mixed else {})


def terms(method: OwnMethod, images: Batch) -> dict[str, Tensor]:
    losses = method.losses(labelled(), images, Clock(10))
    return {name: term for part in ([losses] if isinstance(losses, dict) else losses) for name, term in part.items()}


def with_logits(weak: Tensor, strong: Tensor, mixed: bool = True, **hyperparameters) -> Tensor:
    """The unsupervised term where the network answers with these logits [2, 2, 32, 32]."""
    method = OwnMethod(task(), ramp="constant", **hyperparameters)
    answers = iter([torch.zeros(2, 2, 32, 32), weak, strong])
    method.net = nn.Module()
    method.net.forward = lambda image: next(answers)
    return terms(method, unlabelled(weak, strong, mixed))["unsupervised"]


def probabilities(logits: Tensor) -> np.ndarray:
    p = np.exp(logits.detach().double().numpy())
    return p / p.sum(1, keepdims=True)


def test_the_term_is_the_cross_entropy_to_what_is_certain_over_all_pixels():
    weak, strong = torch.randn(2, 2, 32, 32), torch.randn(2, 2, 32, 32)
    q, p = probabilities(weak), probabilities(strong)
    nll = -np.log(np.take_along_axis(p, q.argmax(1)[:, None], 1)[:, 0])
    expected = 3.0 * np.where(q.max(1) >= 0.8, nll, 0).mean()
    found = with_logits(weak, strong, mixed=False, weight=3.0, threshold=0.8)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_pasted_rectangle_brings_its_label_along():
    """Image 0 is certainly class 0 and image 1 class 1; so are their strong views, and the rectangle of 1 in 0."""
    weak = torch.tensor([[20.0, -20.0], [-20.0, 20.0]])[:, :, None, None].expand(2, 2, 32, 32)
    strong = weak.clone()
    strong[0, :, 8:24, 4:20] = weak[1, :, 8:24, 4:20]
    assert with_logits(weak, strong).item() == pytest.approx(0, abs=1e-6)
    assert with_logits(weak, strong, mixed=False).item() > 1


def test_uncertain_pixels_and_the_weak_view_carry_no_gradient():
    weak, strong = torch.randn(2, 2, 32, 32, requires_grad=True), torch.randn(2, 2, 32, 32, requires_grad=True)
    certain = weak.detach().softmax(1).amax(1) >= 0.8
    with_logits(weak, strong, mixed=False, threshold=0.8).backward()
    assert weak.grad is None and strong.grad is not None
    assert torch.equal(strong.grad.abs().sum(1) > 0, certain) and 0 < certain.float().mean() < 1


def test_pixels_without_a_label_carry_no_gradient():
    method, shown = OwnMethod(task()), labelled()
    logits = torch.randn(2, 2, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(method.task.criterion(logits, shown.mask), logits)
    assert gradient[:, :, 16:].abs().max() == 0 and gradient[:, :, :16].abs().max() > 0


def test_a_weight_of_0_leaves_the_gradients_of_supervised_learning():
    method, noise = OwnMethod(task(), weight=0.0), torch.randn(2, 3, 32, 32)
    torch.stack(list(terms(method, unlabelled(noise, noise)).values())).sum().backward()
    ours = [p.grad.clone() for p in method.net.parameters()]
    method.zero_grad()
    method.task.criterion(method.net(labelled().weak), labelled().mask).backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(ours, method.net.parameters(), strict=True))
