"""DTC beside train_la_dtc.py, on volumes of one slice."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import skimage.segmentation
import torch
from scipy.ndimage import distance_transform_edt
from torch import nn

from benchmark.losses import dice_loss
from benchmark.method import Batch, Clock
from benchmark.targets import signed_distance
from methods.dtc import DTC
from tools.parity.released import QUIET, Released, Replayed, Row, batch_dice, row, task, total

REPOSITORY = "HiLab-git/DTC"
SIZE = 32
DICE = "its Dice is of the foreground and the whole batch with smooth 1e-5, ours of both classes and every image with 1"
EMPTY = "its target is 0 everywhere, ours -1: all is outside"


def compare(folder: Path) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(5, 1, SIZE, SIZE, generator=generator)
    distance = (0.01 * torch.randn(5, 1, SIZE, SIZE, generator=generator)).tanh()  # near 0 the mask is not flat
    place = torch.arange(SIZE) - SIZE / 2
    mask = torch.stack([(place[:, None] ** 2 + (place + shift) ** 2 < 60 + 20 * shift).long() for shift in (0, 3)])
    sdf = Released(folder / "code/utils/util.py", distance=distance_transform_edt, skimage_seg=skimage.segmentation)
    script = Released(
        folder / "code/train_la_dtc.py", logging=QUIET, time=time, compute_sdf=sdf.take("compute_sdf"),
        losses=SimpleNamespace(dice_loss=Released(folder / "code/utils/losses.py").take("dice_loss")),
        args=SimpleNamespace(beta=0.3, consistency=1.0, consistency_rampup=40.0),
        ramps=SimpleNamespace(sigmoid_rampup=Released(folder / "code/utils/ramps.py").take("sigmoid_rampup")))
    script.take("get_current_consistency_weight")
    step = script.step(
        trainloader=[{"image": z.unsqueeze(-1), "label": mask.unsqueeze(-1)}], labeled_bs=2, iter_num=3000,
        model=Replayed((-distance.unsqueeze(-1), z.unsqueeze(-1))), ce_loss=nn.BCEWithLogitsLoss(),
        mse_loss=nn.MSELoss())

    def ours(criterion):
        method, clock, logits = DTC(task(size=SIZE)), Clock(10), torch.cat([torch.zeros_like(z), z], 1)
        method.task.criterion = criterion
        method.both = Replayed((logits[:2], distance[:2]), (logits[2:], distance[2:]))
        clock.step.fill_(5)
        labelled = Batch(torch.arange(2), weak=None, mask=mask, sdf=signed_distance(mask))
        return total(method, labelled, Batch(torch.arange(3), weak=None), clock)

    found = ours(batch_dice(smooth=1e-5, first=1))
    empty = torch.zeros(1, SIZE, SIZE, dtype=torch.int64)
    return [
        row("distance target, with its sign turned", -step.gt_dis[..., 0], signed_distance(mask)[:, 0]),
        row("distance", 0.3 * step.loss_sdf, found["distance"]),
        row("consistency", step.consistency_weight * step.consistency_loss, found["consistency"]),
        row("L, with its Dice", step.loss, found["L"]),
        row("supervised", step.loss_seg_dice, ours(dice_loss)["supervised"], DICE),
        row("distance target of an image without an object", sdf.names["compute_sdf"](empty.numpy(), empty.shape),
            signed_distance(empty)[:, 0], EMPTY),
    ]
