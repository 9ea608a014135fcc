"""U2PL beside train_semi.py and its loss_helper.py, at the moment when half of the pixels are dropped.

Random choices are the first ones of a list on both sides, so that both take the same anchors and negatives.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.losses import cross_entropy
from benchmark.method import Batch, Clock
from methods._pixel_contrast import TEMPERATURE, WIDTH
from methods.u2pl import ANCHORS, CONFIDENT, NEGATIVES, U2PL
from tools.parity.released import QUIET, Released, Replayed, Row, row, task, total

REPOSITORY = "Haochen-Wang409/U2PL"
CLASSES, SIZE, RANK = 3, 32, 1
NEGATIVE = "its negatives of class c must themselves be labelled c; ours need not, and labelled pixels are some, too"
ONE_HOT = "its one-hot labels of a whole batch are all written to the first image"
ANCHOR = "its anchors are the most certain 20 %, its negatives the least certain; ours all kept and all dropped pixels"
SETTINGS = {
    "current_class_threshold": CONFIDENT, "current_class_negative_threshold": 1, "low_rank": RANK, "high_rank": 20,
    "temperature": TEMPERATURE, "num_queries": ANCHORS, "num_negatives": NEGATIVES, "negative_high_entropy": True,
}


def compare(folder: Path) -> list[Row]:
    one, two = inputs(1), inputs(2)
    step, found = released(folder, one), step_of(one, theirs=True)
    rows = [
        row("supervised, cross-entropy; one image", step.sup_loss, found["supervised"]),
        row("`reliable`, half dropped; one image", step.unsup_loss, found["reliable"]),
        row("`contrast`, with its negatives; one image", step.contra_loss, found["contrast"]),
        row("L, these three; one image", step.loss, found["L"]),
        row("`contrast`; one image", step.contra_loss, step_of(one, theirs=False)["contrast"], NEGATIVE),
    ]
    certain = released(folder, one, certain=20).contra_loss
    rows.append(row("`contrast`, with its negatives, 20 % of pixels; one image", certain, found["contrast"], ANCHOR))
    step, found = released(folder, two), step_of(two, theirs=True)
    rows.append(row("`reliable`, half dropped; two images", step.unsup_loss, found["reliable"]))
    rows.append(row("`contrast`, with its negatives; two images", step.contra_loss, found["contrast"], ONE_HOT))
    return rows


def inputs(count: int) -> SimpleNamespace:
    """Logits and features of labelled and as many unlabelled images; the weak view's label is another guess."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, CLASSES, (count, SIZE, SIZE), generator=generator)
    student, teacher, weak = 2 * torch.randn(3, 2 * count, CLASSES, SIZE, SIZE, generator=generator)
    teacher[:count] += 4 * F.one_hot(mask, CLASSES).movedim(-1, 1)  # so that each class has more than 256 anchors
    own, others = torch.randn(2, 2 * count, WIDTH, SIZE, SIZE, generator=generator)
    return SimpleNamespace(mask=mask, student=student, teacher=teacher, weak=weak[count:], own=own, others=others)


def released(folder: Path, data: SimpleNamespace, certain: float = 50) -> SimpleNamespace:
    """Its step, in the first of its epochs with unlabelled images."""
    helper = Released(folder / "u2pl/utils/utils.py", gather_together=lambda keys: [keys])
    helper.take("dequeue_and_enqueue", "label_onehot")
    losses = Released(folder / "u2pl/utils/loss_helper.py", dequeue_and_enqueue=helper.names["dequeue_and_enqueue"])
    losses.take("compute_unsupervised_loss", "compute_contra_memobank_loss")
    criterion = losses.take("Criterion")(0)
    images = torch.zeros(len(data.mask), 3, SIZE, SIZE)
    trainer = {"sup_only_epoch": 0, "epochs": 10, "unsupervised": {"drop_percent": 50},
               "contrastive": {**SETTINGS, "low_entropy_threshold": certain}}
    script = Released(folder / "train_semi.py", **losses.names, label_onehot=helper.names["label_onehot"])
    with patch.object(torch, "randint", lambda high, size: torch.arange(size[0]) % high):
        return script.step(
            "train", model=Replayed({"pred": data.student, "rep": data.own}), sup_loss_fn=criterion, epoch=0,
            model_teacher=Replayed({"pred": data.weak}, {"pred": data.teacher, "rep": data.others}), loader_l=[None],
            loader_l_iter=SimpleNamespace(next=lambda: (images, data.mask)),
            loader_u_iter=SimpleNamespace(next=lambda: (images, None)), lr_scheduler=MagicMock(),
            data_times=MagicMock(), learning_rates=MagicMock(), batch_end=0, time=time, dist=MagicMock(),
            world_size=1, logger=QUIET, cfg={"trainer": trainer, "net": {"num_classes": CLASSES}},
            queue_size=[4096] * CLASSES, memobank=[[torch.zeros(0, WIDTH)] for _ in range(CLASSES)],
            queue_ptrlis=[torch.zeros(1)] * CLASSES)


def step_of(data: SimpleNamespace, theirs: bool) -> dict[str, float]:
    """Our terms; with `theirs` a pixel is a negative of the class that the weak view gave it, and of no other."""
    method = U2PL(task(CLASSES, SIZE), unreliable=0.5, rank=RANK)
    method.task.criterion = cross_entropy
    pairs = [zip(*(values.chunk(2) for values in two), strict=True)
             for two in ((data.teacher, data.others), (data.student, data.own))]
    method.teacher.forward, method.student.forward = Replayed((data.weak, None), *pairs[0]), Replayed(*pairs[1])
    guess = torch.cat([torch.full_like(data.mask, -1), data.weak.argmax(1)]).flatten()

    def negatives(kind: int, order: Tensor, label: Tensor, dropped: Tensor, labelled: Tensor) -> Tensor:
        return dropped & (guess == kind) & (order[:, :RANK] != kind).all(1)

    def draw(kind: int, count: int) -> Tensor:
        return method.memory.rows[kind][torch.arange(count) % method.memory.stored[kind].clamp(1, 4096)]

    def rand(shape: Any, **_: Any) -> Tensor:
        return torch.from_numpy(np.linspace(1, 0, shape[0], endpoint=False))

    if theirs:
        method.negatives = negatives
    method.memory.draw = draw
    index, image = torch.arange(len(data.mask)), torch.zeros(len(data.mask), 3, SIZE, SIZE)
    labelled, unlabelled = Batch(index, weak=image, mask=data.mask), Batch(index, weak=image, strong=image)
    with patch.object(torch, "rand", rand):
        return total(method, labelled, unlabelled, Clock(10))
