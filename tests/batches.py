"""Rendered batches made by hand, and second implementations in NumPy, for tests of methods."""

import numpy as np
import torch

from benchmark.batches.batch import Batch
from benchmark.method import Clock, Task
from benchmark.targets import boundary, signed_distance


def task(**more) -> Task:
    settings = {"classes": 2, "size": 32, "labelled": 4, "unlabelled": 8, "images": 12, "net": "unet_small"}
    return Task(**(settings | more))


def blobs(batch: int = 2, size: int = 32, seed: int = 0) -> torch.Tensor:
    """Masks with a disk or two each: int64 [B, S, S]."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(size, dtype=torch.float32)
    mask = torch.zeros(batch, size, size, dtype=torch.int64)
    for row in range(batch):
        for _ in range(2):
            y, x, r = (torch.rand(3, generator=generator) * torch.tensor([size, size, size / 5])).tolist()
            mask[row] |= ((place[:, None] - y) ** 2 + (place - x) ** 2 < (r + 3) ** 2).long()
    return mask


def batch(size: int = 32, count: int = 2, seed: int = 0) -> Batch:
    """A labelled batch whose image shows its mask, with all targets."""
    mask = blobs(count, size, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    image = mask.unsqueeze(1) + 0.3 * torch.randn(count, 3, size, size, generator=generator)
    return Batch(torch.arange(count), weak=image, mask=mask, sdf=signed_distance(mask), boundary=boundary(mask))


def unlabelled(size: int = 32, count: int = 2, seed: int = 5, **more) -> Batch:
    """An unlabelled batch; `more` views, or the `boxes` that they are mixed by."""
    return Batch(torch.arange(count), weak=batch(size, count, seed).weak, **more)


def terms(method, labelled, without_label, clock) -> dict[str, torch.Tensor]:
    """All of a method's losses, whether it returns or yields them."""
    answer = method.losses(labelled, without_label, clock)
    return dict(answer) if isinstance(answer, dict) else {k: v for part in answer for k, v in part.items()}


def train(method, clock, steps, without_label) -> None:
    """Some steps of plain gradient descent on one labelled and one unlabelled batch, with what follows each step."""
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        sum(terms(method, batch(), without_label, clock).values()).backward()
        optimiser.step()
        method.after_step(clock)
        clock.step += 1


def assert_teacher_follows(method, without_label) -> None:
    """The teacher starts as the student, copies it once, then takes half of it: alpha is 0, then 1/2."""
    clock, pairs = Clock(20), list(zip(method.net.parameters(), method.teacher.net.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    train(method, clock, 1, without_label)
    assert all(torch.allclose(a, b) for a, b in pairs)
    before = [b.clone() for _, b in pairs]
    train(method, clock, 1, without_label)
    for (student, teacher), old in zip(pairs, before, strict=True):
        assert torch.allclose(teacher, 0.5 * old + 0.5 * student, atol=1e-6)
    assert any(not torch.allclose(a, b) for a, b in pairs)


def gradients(net) -> dict[str, torch.Tensor]:
    """The gradient of every parameter that has one, copied."""
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def softmax(logits: torch.Tensor) -> np.ndarray:
    """Probabilities [B, C, H, W], in NumPy."""
    z = logits.detach().double().numpy()
    power = np.exp(z - z.max(1, keepdims=True))
    return power / power.sum(1, keepdims=True)


def dice(logits: torch.Tensor, label: torch.Tensor) -> float:
    """Soft Dice loss in NumPy: per image and class, squared masses, 1 added to both sides; then the mean."""
    p = softmax(logits)
    y = np.moveaxis(np.eye(p.shape[1])[label.numpy()], -1, 1)
    overlap = 2 * (p * y).sum((2, 3)) + 1
    return float((1 - overlap / ((p**2).sum((2, 3)) + y.sum((2, 3)) + 1)).mean())
