"""CorrMatch beside corrmatch.py, its correlation module and its threshold, on images of the feature's size.

The package einops, which that code imports, must be installed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.batches.batch import paste
from benchmark.losses import cross_entropy
from benchmark.method import Batch, Clock
from methods._correlation import Correlation, correlated
from methods.corrmatch import CorrMatch
from tools.parity.released import QUIET, Released, Replayed, Row, row, task, total

REPOSITORY = "BBBBchan/CorrMatch"
CLASSES, SIZE = 3, 16
BOX = torch.tensor([[2, 3, 11, 9], [0, 0, 6, 16]])
NO_BOX = torch.zeros_like(BOX)
MEETING = "it takes region after region, and the last class wins; here that of most regions"
PASTED = "inside the pasted box it compares the strong view with the weak view of another image"
CORNERS = "it resizes with aligned corners, as its network does"
SPREAD = "it does not spread labels inside the pasted box, and of a region it looks at the part outside alone"
TERMS = {"strong": "s1", "kl": "kl", "features": "w_fp", "strong/correlated": "corr_s", "weak/correlated": "corr_w"}


def compare(folder: Path) -> list[Row]:
    step, found, thresholds = both(folder, NO_BOX, apart=True)
    rows = [row("T after a step", *thresholds)]
    rows += [row(f"`{name}`, regions apart, no CutMix", *pair) for name, pair in pairs(step, found).items()]
    rows.append(row("L, of cross-entropy, regions apart, no CutMix", 4 * step.loss, found["L"]))
    step, found, _ = both(folder, NO_BOX, apart=False)
    rows.append(row("`strong`, regions that meet, no CutMix", *pairs(step, found)["strong"], MEETING))
    step, found, _ = both(folder, BOX, apart=True)
    rows += enlarged(folder)
    reasons = {"strong": SPREAD, "strong/correlated": SPREAD, "kl": PASTED}
    return rows + [row(f"`{name}`, regions apart, CutMix of two images", *pair, reasons.get(name, ""))
                   for name, pair in pairs(step, found).items()]


def pairs(step: SimpleNamespace, found: dict[str, float]) -> dict[str, tuple[Tensor, float]]:
    """The terms of the released step with our factors, and ours."""
    factors = {name: 0.25 if "correlated" in name else 0.5 for name in TERMS}
    return {name: (factors[name] * getattr(step, f"loss_u_{short}"), found[name]) for name, short in TERMS.items()}


def both(folder: Path, box: Tensor, apart: bool) -> tuple[SimpleNamespace, dict[str, float], tuple[Tensor, Tensor]]:
    """The released step, our terms, and both thresholds; of positions in two groups, or of all kinds."""
    generator = torch.Generator().manual_seed(1)
    place = torch.arange(SIZE * SIZE).view(1, SIZE, SIZE)
    side = (place % SIZE + place // SIZE // 2 < 11).repeat(2, 1, 1)  # which of the two groups
    side[1] = side[1].flip(-1)
    group = torch.stack([side, ~side, torch.zeros_like(side)], 1).double()
    noise = torch.randn(5, 2, CLASSES, SIZE, SIZE, generator=generator)
    x, weak, dropped, strong, _ = noise + 3.0 * group
    strong, threshold = paste(strong, box), 0.75 if apart else 0.5
    kinds = group[:, :2] if apart else F.avg_pool2d(group[:, :2], 9, 1, 4)  # sharp, or blurred: then regions meet
    features = torch.einsum("bkhw,kc->bchw", kinds, torch.randn(2, 256, generator=generator))
    features = features + 0.03 * torch.randn(3, 2, 256, SIZE, SIZE, generator=generator)
    mask = torch.randint(0, CLASSES, (2, SIZE, SIZE), generator=generator)
    heads = Correlation(8, CLASSES)
    heads.project = nn.Identity()
    rows = torch.randint(0, SIZE * SIZE - 1, (128,), generator=generator)  # it never takes the last one
    with patch.object(torch, "randint", lambda *_, **__: rows):
        step, after = released(folder, heads, (x, weak, dropped, strong), features, mask, box, threshold)
        method = CorrMatch(task(CLASSES, SIZE), threshold=threshold)
        method.task.criterion, method.correlation = cross_entropy, heads
        scales = len(method.net.feature_widths)
        method.net.encode = Replayed(*([feature] * scales for feature in features))
        method.net.logits = Replayed(x, weak, dropped, strong)
        known, unknown = Batch(torch.arange(2), weak=x, mask=mask), Batch(
            torch.arange(2), weak=weak, strong=strong, boxes={"strong": box})
        found = total(method, known, unknown, Clock(10))
    return step, found, (after, method.threshold)


def rearranged() -> Any:
    return importlib.import_module("einops").rearrange


def correlation(folder: Path, heads: Correlation) -> Any:
    """The released correlation with our heads."""
    module = Released(folder / "model/semseg/deeplabv3plus.py", rearrange=rearranged()).take("Corr")(CLASSES)
    module.conv1, module.conv2 = heads.first, heads.second
    return module


def enlarged(folder: Path) -> list[Row]:
    """Logits that are carried at a quarter of the side."""
    generator = torch.Generator().manual_seed(2)
    logits, feature = (torch.randn(2, *shape, generator=generator) for shape in ((CLASSES, 16, 16), (256, 4, 4)))
    heads = Correlation(8, CLASSES)
    heads.project = nn.Identity()
    carried = correlation(folder, heads)(feature, logits)["out"]
    resize, what = F.interpolate, "p A of a feature with a quarter of the side"
    theirs = resize(carried, (16, 16), mode="bilinear", align_corners=True)
    with patch.object(F, "interpolate", lambda *given, **more: resize(*given, **{**more, "align_corners": True})):
        aligned = correlated(logits, heads(feature))
    ours = correlated(logits, heads(feature))
    return [row(f"{what}, aligned corners", theirs, aligned), row(what, theirs, ours, CORNERS)]


def released(folder: Path, heads: Correlation, logits: tuple[Tensor, ...], features: Tensor, mask: Tensor,
             box: Tensor, threshold: float) -> tuple[SimpleNamespace, Tensor]:
    """The step of corrmatch.py on these logits, and its threshold after it."""
    x, weak, dropped, strong = logits
    corr, alone = correlation(folder, heads), SimpleNamespace(
        get_world_size=lambda: 1, all_gather_into_tensor=lambda whole, part: whole.copy_(part))
    controller = Released(folder / "util/thresh_helper.py", dist=alone).take("ThreshController")(
        nclass=CLASSES, momentum=0.999, thresh_init=threshold)

    def answer(out: Tensor, feature: Tensor) -> dict[str, Tensor]:
        found = corr(feature, out)
        return {"out": out, "corr_out": found["out"], "corr_map": found["corr_map"]}

    pasted = paste(torch.tensor([0, 1]).view(2, 1, 1).expand(2, SIZE, SIZE), box) != torch.tensor([0, 1]).view(2, 1, 1)
    first = answer(torch.cat([x, weak]), features[:2].flatten(0, 1)) | {"out_fp": torch.cat([x, dropped])}
    images, nothing = torch.zeros(2, 3, SIZE, SIZE), torch.zeros(2, SIZE, SIZE, dtype=torch.int64)
    criterion = nn.CrossEntropyLoss(reduction="none")
    with torch.no_grad():
        step = Released(folder / "corrmatch.py", rearrange=rearranged()).step(
            "main", model=Replayed({"out": weak.roll(-1, 0)}, first, answer(strong, features[2])),
            loader=[((images, mask), (images, images.clone(), None, nothing, pasted.long(), None),
                     (images, images, None, nothing, None, None))],
            criterion_l=nn.CrossEntropyLoss(ignore_index=255), criterion_u=criterion,
            criterion_kl=nn.KLDivLoss(reduction="none"), thresh_controller=controller, logger=QUIET)
    return step, controller.thresh_global
