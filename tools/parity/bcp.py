"""BCP beside ACDC_BCP_train.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from skimage.measure import label

from benchmark.losses import ce_dice
from benchmark.method import Batch, Clock
from methods.bcp import BCP
from tools.parity.released import QUIET, Released, Replayed, Row, batch_dice, plus_cross_entropy, row, task, total

REPOSITORY = "DeepMed-Lab-ECNU/BCP"
CLASSES, SIZE = 4, 48  # its functions are written for four classes
DICE = "its Dice is of the whole batch without smoothing, ours of every image with smooth 1"
KEEP = "its teacher keeps the largest component of each class, ours by default all"


def compare(folder: Path) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    images, logits = (torch.randn(*shape, SIZE, SIZE, generator=generator) for shape in ((4, 3), (3, 2, CLASSES)))
    mask = torch.randint(0, CLASSES, (2, SIZE, SIZE), generator=generator)
    known, unknown = images.split(2)
    teacher, inwards, outwards = 3 * logits
    args = SimpleNamespace(labeled_bs=4, u_weight=0.5)
    script = Released(
        folder / "code/ACDC_BCP_train.py", args=args, logging=QUIET, label=label, ramps=None,
        dice_loss=Released(folder / "code/utils/losses.py").take("DiceLoss")(CLASSES))
    script.take("get_ACDC_2DLargestCC", "get_ACDC_masks", "generate_mask", "mix_loss")
    script.names["get_current_consistency_weight"] = lambda step: 0.0  # it is logged alone
    np.random.seed(0)
    twice = {"image": torch.cat([known, known, unknown, unknown]), "label": mask.repeat(4, 1, 1)}
    net = Replayed(outwards, inwards)
    step = script.step(
        "self_train", trainloader=[twice], model=net, ema_model=Replayed(teacher, teacher), iter_num=0,
        labeled_sub_bs=2, unlabeled_sub_bs=2)
    box = step.img_mask == 0

    def ours(criterion, keep="largest", phase="both"):
        method = BCP(task(CLASSES, SIZE), keep=keep)
        method.phase, method.random_box, method.task.criterion = phase, lambda image: box, criterion
        method.teacher.forward, method.net.forward = Replayed(teacher), Replayed(inwards, outwards)
        labelled, others = Batch(torch.arange(2), weak=known, mask=mask), Batch(torch.arange(2), weak=unknown)
        return total(method, labelled, others, Clock(9))["L"], method.net.forward.seen

    same = plus_cross_entropy(batch_dice())
    loss, seen = ours(same)
    rows = [
        row("images after pasting", torch.stack(net.seen), torch.stack(seen[::-1])),
        row("L, `keep=largest`, with its Dice", 2 * step.loss, loss),
        row("L, `keep=largest`", 2 * step.loss, ours(ce_dice)[0], DICE),
        row("L, with its Dice", 2 * step.loss, ours(same, keep="all")[0], KEEP),
    ]
    swapped = {"image": torch.cat([known, known.flip(0)]), "label": torch.cat([mask, mask.flip(0)])}
    np.random.seed(1)
    step = script.step("pre_train", trainloader=[swapped], model=Replayed(inwards), iter_num=0, labeled_sub_bs=2)
    box = step.img_mask == 0
    return [*rows, row("L of the first phase, with its Dice", 2 * step.loss, ours(same, phase="labelled")[0])]
