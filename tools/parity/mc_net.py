"""MC-Net beside train_mcnet_2d.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from benchmark.losses import dice_loss
from benchmark.method import Batch, Clock
from methods.mc_net import MCNet
from tools.parity.released import QUIET, Released, Replayed, Row, batch_dice, row, task, total

REPOSITORY = "ycwu1997/MC-Net"
SIZE = 32
DICE = "its Dice lacks the factor 2 above, so that a perfect prediction costs 0.5, and is of the whole batch"
SHARP = "its sharpened probabilities do not sum to 1 for more than two classes"


def compare(folder: Path) -> list[Row]:
    losses = Released(folder / "code/utils/losses.py")
    losses.take("DiceLoss", "mse_loss")
    rows = []
    for classes, decoders in ((2, 2), (2, 3), (4, 2)):
        generator = torch.Generator().manual_seed(classes + decoders)
        outputs = list(2 * torch.randn(decoders, 5, classes, SIZE, SIZE, generator=generator))
        mask = torch.randint(0, classes, (2, SIZE, SIZE), generator=generator)
        script = Released(
            folder / "code/train_mcnet_2d.py", logging=QUIET,
            args=SimpleNamespace(temperature=0.1, consistency=0.1, consistency_rampup=40.0, lamda=1),
            ramps=SimpleNamespace(sigmoid_rampup=Released(folder / "code/utils/ramps.py").take("sigmoid_rampup")))
        script.take("get_current_consistency_weight", "sharpening")
        step = script.step(
            "train", trainloader=[{"image": torch.zeros(5, 3, SIZE, SIZE), "label": mask}], model=Replayed(outputs),
            labeled_bs=2, iter_num=2999, ce_loss=nn.CrossEntropyLoss(), dice_loss=losses.names["DiceLoss"](classes),
            consistency_criterion=losses.names["mse_loss"])  # 3000 // 150 is half of the ramp

        def ours(criterion, shape=(classes, decoders), mask=mask, outputs=outputs):
            method, clock = MCNet(task(shape[0], SIZE), decoders=shape[1], detach=False), Clock(10)
            method.task.criterion = criterion
            method.all_logits = Replayed([z[:2] for z in outputs], [z[2:] for z in outputs])
            clock.step.fill_(5)
            return total(method, Batch(torch.arange(2), mask=mask, weak=None), Batch(torch.arange(3), weak=None), clock)

        found, about = ours(batch_dice(numerator=1.0)), f"{decoders} decoders, {classes} classes"
        consistency, why = step.consistency_weight * step.loss_consist, SHARP if classes > 2 else ""
        rows.append(row(f"supervised, with its Dice; {about}", step.loss_seg_dice, found["supervised"]))
        rows.append(row(f"consistency, `detach=False`; {about}", consistency, found["consistency"], why))
        if classes == 2:
            rows.append(row(f"L, these two; {about}", step.loss, found["L"]))
        if decoders == 3:
            rows.append(row(f"supervised; {about}", step.loss_seg_dice, ours(dice_loss)["supervised"], DICE))
    return rows
