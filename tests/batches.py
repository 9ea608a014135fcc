"""Rendered batches made by hand, and second implementations in NumPy, for tests of methods."""

from typing import Any

import numpy as np
import torch
from torch import nn

from benchmark.batches.batch import Batch, paste
from benchmark.losses import IGNORE
from benchmark.method import Clock, Task
from benchmark.targets import boundary, signed_distance

BOXES = {
    "strong": torch.tensor([[4, 6, 20, 26], [0, 0, 10, 32], [0, 0, 0, 0]]),
    "strong2": torch.tensor([[0, 0, 0, 0], [9, 1, 30, 17], [2, 2, 9, 9]]),
}


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


def mixed(seed: int = 5) -> Batch:
    """Three unlabelled images with two strong views: another contrast, noise, and CutMix by BOXES."""
    weak, generator = unlabelled(count=3, seed=seed).weak, torch.Generator().manual_seed(seed)
    views = {}
    for view, contrast in (("strong", 0.6), ("strong2", 1.4)):
        noise = 0.2 * torch.randn(weak.shape, generator=generator)
        views[view] = paste(contrast * weak + noise, BOXES[view])
    return unlabelled(count=3, seed=seed, boxes=BOXES, **views)


def terms(method, labelled, without_label, clock) -> dict[str, torch.Tensor]:
    """All of a method's losses, whether it returns or yields them."""
    answer = method.losses(labelled, without_label, clock)
    return dict(answer) if isinstance(answer, dict) else {k: v for part in answer for k, v in part.items()}


def calls(module: nn.Module, keep_grad: bool = False) -> list[tuple[Any, ...]]:
    """What a module is given from now on, and the output last, call by call; its gradient will be kept, if asked."""
    found = []

    def note(module, given, output):
        if keep_grad and output.requires_grad:
            output.retain_grad()
        found.append((*given, output))

    module.register_forward_hook(note)
    return found


def spied(method, images, clock=None) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """All terms, and the network's logits of every view, whose gradient will be kept."""
    made = calls(method.net, keep_grad=True)
    found = terms(method, batch(), images, clock or Clock(10))
    views = ("weak", "strong", "strong2")
    return found, {view: out for image, out in made for view in views if image is getattr(images, view, None)}


def moderate(method, images) -> float:
    """Certain are half of the pixels at this threshold, for these weights."""
    with torch.no_grad():
        return method.net(images.weak).softmax(1).amax(1).median().item()


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


def nll(logits: torch.Tensor, labels: np.ndarray) -> float:
    """Cross-entropy in NumPy, summed over the pixels with a label and divided by all."""
    z = logits.detach().double().numpy()
    log_p = z - z.max(1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
    chosen = np.take_along_axis(log_p, np.where(labels == IGNORE, 0, labels)[:, None], 1)[:, 0]
    return -(chosen * (labels != IGNORE)).sum() / labels.size


def labels_of(logits: torch.Tensor, threshold: float) -> np.ndarray:
    """Pseudo-labels in NumPy, 255 below the threshold."""
    z = logits.detach().float().numpy()
    e = np.exp(z - z.max(1, keepdims=True))
    q = e / e.sum(1, keepdims=True)
    return np.where(q.max(1) >= threshold, q.argmax(1), IGNORE)


def pasted(labels: np.ndarray, view: str) -> np.ndarray:
    """CutMix in NumPy: the rectangle of the next image, and the first image's into the last."""
    answer = labels.copy()
    for slot, (y0, x0, y1, x1) in enumerate(BOXES[view].tolist()):
        answer[slot, y0:y1, x0:x1] = labels[(slot + 1) % len(labels), y0:y1, x0:x1]
    return answer


def labels_by_stream(logits, threshold):
    """Pseudo-labels in NumPy: mixed for the strong views, as they are for the dropped features."""
    own = labels_of(logits["weak"], threshold)
    return {"strong": pasted(own, "strong"), "strong2": pasted(own, "strong2"), "features": own}


def taught(gradient: torch.Tensor) -> np.ndarray:
    """The labels that a cross-entropy's gradient at the logits pulls to; 255 where it is exactly 0."""
    return torch.where(gradient.abs().sum(1) == 0, IGNORE, gradient.argmin(1)).numpy()
