"""SS-Net."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.losses import pseudo_label
from benchmark.method import Batch, Clock, Logits, Losses, Method, Ramp, Task
from benchmark.ranges import Log, NonNegative, Positive
from methods._feature_perturbations import of_length
from methods._pixel_contrast import sample

WIDTH, PROTOTYPES, PIXELS = 32, 32, 1024


def soft_dice(prob: Tensor, other: Tensor) -> Tensor:
    """1 - (2 sum p q + 1) / (sum p^2 + sum q^2 + 1) of every image, mean over classes: [B]."""
    overlap, mass = (prob * other).sum((2, 3)), (prob.square() + other.square()).sum((2, 3))
    return (1 - (2 * overlap + 1) / (mass + 1)).mean(1)


@contextmanager
def frozen_statistics(net: nn.Module) -> Iterator[None]:
    """BatchNorm goes on normalising by the batch and leaves its running statistics as they are."""
    norms = [part for part in net.modules() if isinstance(part, _BatchNorm)]
    momenta = [part.momentum for part in norms]
    for part in norms:
        part.momentum = 0.0
    try:
        yield
    finally:
        for part, momentum in zip(norms, momenta, strict=True):
            part.momentum = momentum


def adversarial(net: Callable[[Tensor], Tensor], image: Tensor, prob: Tensor, length: float, probe: float) -> Tensor:
    """r of this length, along the gradient of the soft Dice to `prob` at a random direction of length `probe`."""
    with torch.enable_grad():
        place = of_length(torch.rand_like(image) - 0.5, probe).requires_grad_()
        (slope,) = torch.autograd.grad(soft_dice(net(image + place).to(prob.dtype).softmax(1), prob).sum(), place)
    return of_length(slope, length)


def mlp(before: int, after: int) -> nn.Sequential:
    """Two linear layers."""
    return nn.Sequential(nn.Linear(before, WIDTH), nn.LeakyReLU(), nn.Linear(WIDTH, after))


class SSNet(Method):
    """SS-Net (Wu et al. 2022, MICCAI): smooth around every image (VAT), and each class compact among its pixels.

    Loss:
        L = L_sup + weight ramp [L_vat + compactness (L_c(x_l, mask) + L_c(x_u, argmax p))]
        L_vat = mean (1 - Dice(softmax f(x + r), softmax f(x))), no gradient through f(x), |r| = length, along the
            gradient at a random direction of length `probe`; of all images
        L_c = 1/C sum_c mean_ij w_i w_j (1 - cos(g(h(z_i)), m_j)), z_i: pixels of class c on the last map, at most
            1,024; h, g: small networks; m_j: 32 vectors h(z), those of largest weight among at most 1,024 labelled
            pixels of class c that are predicted right in this step; where they are fewer, older ones stay; w: mean 1,
            learned by two small networks a class

    Args:
        weight: of both. 0.1 in the authors' code, beside Dice alone.
        compactness: of the second. 0.1 in the authors' code.
        length: of r, all pixels together. 6 in the authors' code, for one channel of 256 x 256 px scaled to [0, 1];
            normalised images of three channels have a larger spread, so that r is weaker.
        probe: 10 in the authors' code.
        keep: which vectors the memory keeps; the authors' comment says the highest, their code keeps the `lowest`.
        background: whether class 0 has a memory. False in the authors' code.
        ramp: of the weight. Sigmoid in the authors' code.

    Differs from published code:
        - It compares all pixels, and has BatchNorm in h, g and the weights.
        - It computes cross-entropy and does not use it; here the supervised loss is the configured one.
        - Its Dice losses are of the whole batch; here of every image, with 1 added to both sides.
        - Though named so, nothing pushes classes apart, there as here.
    """

    display = "SS-Net"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    memory: Tensor
    filled: Tensor
    tuning = {"weight": Log(0.02, 2), "compactness": Log(0.02, 0.5), "length": Log(1.5, 24)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 0.1, compactness: NonNegative = 0.1, length: Positive = 6.0,
        probe: Positive = 10.0, keep: Literal["highest", "lowest"] = "highest", background: bool = True,
        ramp: Ramp = "sigmoid",
    ) -> None:
        super().__init__()
        self.task, self.weight, self.compactness, self.ramp = task, weight, compactness, ramp
        self.length, self.probe, self.keep = length, probe, keep
        self.net, self.kinds = task.network(), range(0 if background else 1, task.classes)
        with task.init_seed():
            self.project, self.foresee = mlp(self.net.width, WIDTH), mlp(WIDTH, WIDTH)
            self.pixel_weights, self.memory_weights = (nn.ModuleList(mlp(WIDTH, 1) for _ in self.kinds) for _ in "pm")
        self.register_buffer("memory", torch.zeros(len(self.kinds), PROTOTYPES, WIDTH))
        self.register_buffer("filled", torch.zeros(len(self.kinds), PROTOTYPES, dtype=torch.bool))

    @torch.no_grad()
    def remember(self, row: int, vectors: Tensor, right: Tensor) -> None:
        """Replace a class's memory by those of the `vectors` [N, WIDTH] that are `right` and rank first."""
        rank = self.pixel_weights[row](vectors).sigmoid().squeeze(1)
        rank = torch.where(right, rank if self.keep == "highest" else 1 - rank, -1)
        best, places = rank.topk(min(PROTOTYPES, len(rank)))
        real, held = best >= 0, self.memory[row, : len(places)]
        held.copy_(torch.where(real[:, None], vectors[places].to(held.dtype), held))
        self.filled[row, : len(places)] |= real

    def compact(self, last: Tensor, label: Tensor, right: Tensor | None = None) -> Tensor:
        """L_c of a map [B, width, H, W] and labels [B, H, W]; `right` ones are remembered first."""
        with torch.autocast(last.device.type, enabled=False):
            last = last.to(self.memory.dtype)
            pixels, terms = last.movedim(1, -1).flatten(0, 2), []
            for row, kind in enumerate(self.kinds):
                if right is not None:
                    places, real = sample(((label == kind) & right).flatten(), PIXELS)
                    self.remember(row, self.project(pixels[places].detach()), real)
                places, real = sample((label == kind).flatten(), PIXELS)
                foreseen = self.foresee(self.project(pixels[places]))
                held, filled = F.normalize(self.memory[row], dim=1), self.filled[row].clone()
                own = self.pixel_weights[row](foreseen.detach()).sigmoid().squeeze(1) * real
                theirs = self.memory_weights[row](held).sigmoid().squeeze(1) * filled
                cosine = F.normalize(foreseen, dim=1) @ held.T
                # weights of mean 1: the weighted mean over all pairs of the two
                terms.append(own @ (1 - cosine) @ theirs / (own.sum() * theirs.sum()).clamp(min=1e-6))
            return torch.stack(terms).sum() / self.task.classes

    def smoothness(self, image: Tensor, logits: Tensor) -> Tensor:
        """What r changes of every image's prediction: [B]."""
        prob = logits.detach().to(self.memory.dtype).softmax(1)
        with frozen_statistics(self.net):
            r = adversarial(self.net, image, prob, self.length, self.probe)
            return soft_dice(self.net(image + r).to(prob.dtype).softmax(1), prob)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        last_l, last_u = self.net.last_map(labelled.weak), self.net.last_map(unlabelled.weak)
        logits_l, logits_u = self.net.head(last_l), self.net.head(last_u)
        compact = self.compact(last_l, labelled.mask, pseudo_label(logits_l) == labelled.mask)
        compact = compact + self.compact(last_u, pseudo_label(logits_u))
        changes = [self.smoothness(labelled.weak, logits_l), self.smoothness(unlabelled.weak, logits_u)]
        weight = self.weight * clock.ramp(self.ramp)
        return {
            "supervised": self.task.criterion(logits_l, labelled.mask),
            "smooth": weight * torch.cat(changes).mean(),
            "compact": weight * self.compactness * compact,
        }

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
