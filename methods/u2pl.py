"""Using unreliable pseudo-labels."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.ema import BNStats, Teacher
from benchmark.losses import IGNORE, cross_entropy, entropy, pseudo_label
from benchmark.method import Batch, Clock, Logits, Losses, Method, Task, two_phases
from benchmark.ranges import Count, Linear, Log, NonNegative, Share, ShareBelow1
from methods._pixel_contrast import WIDTH, PixelMemory, Represented, info_nce, sample

ANCHORS, NEGATIVES, CONFIDENT = 256, 50, 0.3


def most_certain(logits: Tensor, share: Tensor) -> Tensor:
    """The share of all pixels that has the least entropy: bool [B, H, W]."""
    uncertainty = entropy(logits).flatten()
    return (uncertainty.argsort().argsort() < share * uncertainty.numel()).view(len(logits), *logits.shape[2:])


class U2PL(Method):
    """U2PL (Wang et al. 2022, CVPR): pixels too uncertain for a pseudo-label still tell which classes they are not.

    Loss:
        L = L_sup + weight (N / N_kept) CE(f(strong), y) + contrast mean_c mean_a InfoNCE(a, z+, z-), temperature 0.5
        y = argmax f'(weak), f' a moving average as in Mean Teacher; dropped: the share unreliable (1 - t / steps) of
            most entropy under f'
        a: 256 pixels of class c by the mask, or by a kept y, with f'_c > 0.3; z+: mean of f' features of class c
        z-: 50 of a memory of f' features: dropped pixels with c beyond the `rank` most likely classes, and labelled
            pixels of another class with c among these

    Args:
        weight: of the pseudo-labels. 1 in the paper.
        contrast: weight of InfoNCE. 1 in the authors' code.
        unreliable: the share dropped at the start. 0.2 in the paper.
        rank: 3 in the paper, for 19 or 21 classes; at most C - 1, as beyond that no dropped pixel is a negative.
        memory: features kept of each class. 30,000 in the paper, 50,000 of the background.
        decay: of the teacher. 0.99 in the authors' code.
        bn_stats: BatchNorm of the teacher: its `own` of the batch, averaged, or copied. The authors average none: they
            take entropy and features in training mode, and label the weak view in evaluation mode.
        warmup: share of training that is supervised alone; the teacher is a copy at its end. One epoch in the authors'
            code, of 80 (VOC) or 200 (Cityscapes).

    Differs from published code:
        - Its negatives of class c must themselves be labelled c, so that labelled pixels never are any; here as in the
          paper.
        - Its mean over classes counts classes without memory as 0.
        - Its anchors, and the pixels behind z+, are the most certain 20 % (falling) beside the labelled ones. Classes
          beyond the 20th rank do not count.
        - It reports the teacher; here the student is official.
        - Its strong view is CutMix alone, in half of the steps; here it also has other colours and blur.
        - Its features have 256 channels. All new negatives enter its memory; here at most 256 of a class at a step.
        - It writes the one-hot labels of a whole batch to the first image, so that the contrast is of this image alone.
    """

    display = "U2PL"
    later = {"warmup": 0.0}
    views = {"labelled": ("weak",), "unlabelled": ("weak", "strong")}
    tuning = {"weight": Log(0.2, 5), "contrast": Log(0.05, 5), "unreliable": Linear(0.05, 0.5)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, contrast: NonNegative = 1.0, unreliable: ShareBelow1 = 0.2,
        rank: Count = 3, memory: Count = 4096, decay: Share = 0.99, bn_stats: BNStats = "own",
        warmup: ShareBelow1 = 0.0,
    ) -> None:
        super().__init__()
        self.phases = two_phases("warm-up", "train", warmup)
        self.phase = next(iter(self.phases))
        self.task, self.weight, self.contrast, self.unreliable = task, weight, contrast, unreliable
        self.rank, self.decay = min(rank, task.classes - 1), decay
        net = task.network()
        with task.init_seed():
            self.student = Represented(net)
        self.teacher = Teacher(self.student, bn_stats)
        self.memory = PixelMemory(task.classes, memory, WIDTH)

    def negatives(self, kind: int, order: Tensor, label: Tensor, dropped: Tensor, labelled: Tensor) -> Tensor:
        """Pixels that are not of class `kind`: bool [N].

        `order` [N, C]: classes, the most likely first; `label` [N]; `dropped` [N]: unlabelled pixels without a label;
        `labelled` [N]: pixels of labelled images with a known mask.
        """
        likely = (order[:, : self.rank] == kind).any(1)
        return (dropped & ~likely) | (labelled & (label != kind) & likely)

    def contrastive(self, student: Tensor, teacher: Tensor, logits: Tensor, label: Tensor, known: int) -> Tensor:
        """Of features [B, D, h, w], teacher logits [B, C, h, w] and labels [B, h, w], the first `known` images' true.

        Label 255 of the other images says that the pixel was dropped.
        """
        own, others, prob = (z.movedim(1, -1).flatten(0, 2) for z in (student, teacher, logits.softmax(1)))
        pixels, label, order = known * label[0].numel(), label.flatten(), prob.argsort(1, descending=True)
        first = torch.arange(len(label), device=label.device) < pixels
        labelled, dropped = first & (label != IGNORE), ~first & (label == IGNORE)
        losses, valid = [], []
        for kind in range(self.task.classes):
            negative = self.negatives(kind, order, label, dropped, labelled)
            self.memory.add(kind, others, negative, ANCHORS)
            member = (label == kind).to(others.dtype)
            positive = member @ others / member.sum().clamp(min=1)
            places, real = sample((label == kind) & (prob[:, kind] > CONFIDENT), ANCHORS)
            against = self.memory.draw(kind, len(places) * NEGATIVES).view(len(places), NEGATIVES, WIDTH)
            real = real & (self.memory.stored[kind] > 0)
            losses.append((info_nce(own[places], positive, against) * real).sum() / real.sum().clamp(min=1))
            valid.append(real.any())
        return torch.stack(losses).sum() / torch.stack(valid).sum().clamp(min=1)

    def begin_phase(self, name: str, images: object) -> None:
        self.teacher.net.load_state_dict(self.student.state_dict())

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        if self.phase == "warm-up":
            return {"supervised": self.task.criterion(self.student(labelled.weak)[0], labelled.mask)}
        label = unlabelled.cutmix("strong", pseudo_label(self.teacher(unlabelled.weak)[0]))
        teacher_l, features_l = self.teacher(labelled.weak)
        teacher_u, features_u = self.teacher(unlabelled.strong)
        kept = most_certain(teacher_u, 1 - self.unreliable * (1 - clock.fraction))
        label = torch.where(kept, label, IGNORE)
        pred_l, own_l = self.student(labelled.weak)
        pred_u, own_u = self.student(unlabelled.strong)
        coarse = labelled.mask.shape[-1] // own_l.shape[-1]
        contrast = self.contrastive(
            torch.cat([own_l, own_u]), torch.cat([features_l, features_u]),
            torch.cat([teacher_l, teacher_u])[..., ::coarse, ::coarse],
            torch.cat([labelled.mask, label])[..., ::coarse, ::coarse], len(own_l))
        taught = cross_entropy(pred_u, label) * label.numel() / kept.sum()
        return {
            "supervised": self.task.criterion(pred_l, labelled.mask),
            "reliable": self.weight * taught,
            "contrast": self.contrast * contrast,
        }

    def after_step(self, clock: Clock) -> None:
        self.teacher.ema_update(self.student, clock.in_phase.ema(self.decay))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.student.net(image), "teacher": self.teacher.net.net(image)}
