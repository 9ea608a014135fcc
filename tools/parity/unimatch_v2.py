"""UniMatch V2 beside unimatch_v2.py and the dropout of its model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import nn

from benchmark.batches.batch import paste
from benchmark.losses import cross_entropy
from benchmark.method import Batch, Clock
from methods.unimatch_v2 import UniMatchV2, complementary_dropout
from tools.parity.released import QUIET, Released, Replayed, Row, row, task, total

REPOSITORY = "LiheYoung/UniMatch-V2"
CLASSES, SIZE, THRESHOLD = 3, 32, 0.7
BOXES = {name: torch.tensor(boxes) for name, boxes in (
    ("strong", [[3, 2, 20, 17], [0, 5, 9, 28]]), ("strong2", [[0, 0, 0, 0], [8, 8, 28, 12]]))}


def compare(folder: Path) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    x, teacher, first, second = 2 * torch.randn(4, 2, CLASSES, SIZE, SIZE, generator=generator)
    weak, strong, strong2 = torch.randn(3, 2, 3, SIZE, SIZE, generator=generator)
    mask = torch.randint(0, CLASSES, (2, SIZE, SIZE), generator=generator)
    box1, box2 = (paste(torch.tensor([[[0.0]], [[1.0]]]).expand(2, SIZE, SIZE), box) for box in BOXES.values())
    box1[1], box2[1] = 1 - box1[1], 1 - box2[1]
    net, nothing = Replayed(x, torch.cat([first, second])), torch.zeros(2, SIZE, SIZE, dtype=torch.int64)
    step = Released(folder / "unimatch_v2.py").step(
        "main", loader=[((weak, mask), (weak, strong.clone(), strong2.clone(), nothing, box1, box2))],
        model=net, model_ema=Replayed(teacher), criterion_l=nn.CrossEntropyLoss(ignore_index=255),
        criterion_u=nn.CrossEntropyLoss(reduction="none"), cfg={"conf_thresh": THRESHOLD}, logger=QUIET)
    views = {"strong": paste(strong, BOXES["strong"]), "strong2": paste(strong2, BOXES["strong2"])}
    method = UniMatchV2(task(CLASSES, SIZE), threshold=THRESHOLD, drop=False)
    method.task.criterion = cross_entropy
    method.teacher.forward, method.net.forward = Replayed(teacher), Replayed(x)
    method.net.encode, method.net.logits = Replayed([None]), Replayed(torch.cat([first, second]))
    found = total(method, Batch(torch.arange(2), weak=weak, mask=mask),
                  Batch(torch.arange(2), weak=weak, boxes=BOXES, **views), Clock(10))
    return [
        row("strong views after CutMix, two images", net.seen[1], torch.cat(list(views.values()))),
        row("L_s1", 0.5 * step.loss_u_s1, found["strong"]),
        row("L_s2", 0.5 * step.loss_u_s2, found["strong2"]),
        row("L, of cross-entropy", 2 * step.loss, found["L"]),
        dropout(folder, generator),
    ]


def dropout(folder: Path, generator: torch.Generator) -> Row:
    """Complementary dropout of features [8, 5 tokens, 16 channels], with the same draws."""
    features, draws = torch.randn(8, 5, 16, generator=generator), torch.rand(4, 16, generator=generator)
    DPT = Released(folder / "model/semseg/dpt.py").take("DPT")
    net, kept = DPT.__new__(DPT), []
    nn.Module.__init__(net)
    net.encoder_size, net.intermediate_layer_idx = "base", {"base": [0]}
    net.backbone = SimpleNamespace(get_intermediate_layers=lambda *_: (features,))
    net.head = lambda dropped, *_: kept.extend(dropped) or torch.zeros(8, 1, 14, 14)
    net.binomial = SimpleNamespace(sample=lambda shape: (draws < 0.5).double())
    with patch.object(torch, "randperm", lambda count: torch.arange(count)):
        net.forward(torch.zeros(8, 3, 14, 14), comp_drop=True)
    with patch.object(torch, "rand", lambda *_, **__: draws):
        ours = complementary_dropout(features.mT.unsqueeze(-1), torch.arange(4).unsqueeze(1) < 2)
    return row("features after complementary dropout", kept[0].mT, ours.squeeze(-1))
