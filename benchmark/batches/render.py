"""Rendering: a plan becomes a batch, in tensor code on one device, without generator or host sync.

Everything a data set needs lies on the device as one flat array with four bytes a pixel: red, green, blue and label;
where it is too large for that, a plan brings the pixels of its batch along (`benchmark.training.data_placement`). A
batch is one gather from it (the quickest of the variants measured on a CPU; a GPU does not care); colour, blur and
CutMix follow on the gathered images. Safe to capture in a CUDA graph and to trace in FakeTensor mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmark.batches.augment import Augment
from benchmark.batches.batch import Batch, paste
from benchmark.batches.transforms import Geometry, adjust, blur, taps
from benchmark.numerics import Normalisation, Normaliser, Numerics
from benchmark.targets import TARGETS

PIXELS = "pixels"  # a field of the plans that bring their pixels along


def to_device(block: Mapping[str, np.ndarray], device: torch.device | str) -> dict[str, Tensor]:
    """A block of plans as tensors [count, B, ...] on `device`; one copy per field, not one per step.

    To a GPU they go from page-locked memory, so that the host need not wait for work that the GPU was given before.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in block.items()}
    if torch.device(device).type == "cuda":
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}


def step_of(block: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
    """The plan of one step: place `step` of a block, without the step axis (views, no copies)."""
    return {field: values[step] for field, values in block.items()}


class Renderer:
    """Renders the plans of one stream; all its arrays lie on the device of `images`.

    `images` uint8 [N, 3, S, S], N = 0 where plans bring their pixels and targets along; `masks` uint8 [N, S, S], or
    None for an unlabelled stream; `targets` the per-image targets by name, computed once from the whole masks ([N, ...]
    as `benchmark.targets` gives them); where `augment` crops they are computed anew for what is cropped.
    """

    def __init__(
        self, images: Tensor, masks: Tensor | None, targets: Mapping[str, Tensor], views: Sequence[str],
        augment: Augment, normalisation: Normalisation, numerics: Numerics,
    ) -> None:
        self.size = images.shape[-1]
        self.views, self.wants_crop, self.numerics = tuple(views), augment.crop > 0, numerics
        self.labelled = masks is not None
        label = torch.zeros_like(images[:, 0]) if masks is None else masks
        pixels = torch.cat([images, label[:, None]], 1).permute(0, 2, 3, 1).contiguous()
        self.pixels = pixels.flatten().view(torch.int32)
        self.targets = {} if masks is None else {name: compact(values) for name, values in targets.items()}
        self.normalise = Normaliser(normalisation, numerics)
        self.taps = taps(self.size, augment.blur_radius(self.size), images.device)

    @torch.no_grad()
    def __call__(self, plan: Mapping[str, Tensor]) -> Batch:
        """The batch of one plan (fields without the step axis, on the device)."""
        with torch.autocast(self.pixels.device.type, enabled=False):
            return self._render(plan)

    def _render(self, plan: Mapping[str, Tensor]) -> Batch:
        index, size = plan["index"], self.size
        rows, pixels, targets = index, self.pixels, self.targets
        if PIXELS in plan:
            rows, pixels = torch.arange(len(index), device=index.device), plan[PIXELS].flatten()
            targets = {name: plan[name] for name in self.targets}
        geometry = Geometry(plan["code"], plan["crop"] if self.wants_crop else None, size)
        sources = (geometry.sources() + rows[:, None] * (size * size)).flatten()
        gathered = pixels.index_select(0, sources).view(torch.uint8).view(-1, size, size, 4)
        planes = gathered[..., :3].permute(0, 3, 1, 2)
        image = geometry.zoom(planes.to(torch.float32, memory_format=torch.contiguous_format)).mul_(1 / 255)

        fields: dict[str, Tensor] = {}
        boxes: dict[str, Tensor] = {}
        for view in sorted(self.views):  # weak comes last: normalising is done in place
            strong = image
            if f"{view}.colour" in plan:
                strong = adjust(strong, plan[f"{view}.colour"])
            if f"{view}.blur" in plan:
                strong = blur(strong, plan[f"{view}.blur"], self.taps)
            if f"{view}.mix" in plan:
                boxes[view] = plan[f"{view}.mix"]
                strong = paste(strong, boxes[view])
            fields[view] = self.normalise.in_place(strong.clone() if strong is image and view != "weak" else strong)
        if self.labelled:
            fields["mask"] = geometry.zoom(gathered[..., 3]).long()
            for name, stored in targets.items():
                fields[name] = self._target(name, stored, sources, fields["mask"], geometry.crop)
        return Batch(index, geometry=geometry, boxes=boxes, **fields)

    def _target(self, name: str, stored: Tensor, sources: Tensor, mask: Tensor, crop: Tensor | None) -> Tensor:
        # [N, S, S] or [N, 1, S, S]: pixel for pixel in the order of the images
        values = stored.flatten().index_select(0, sources).view(mask.shape[0], *stored.shape[1:])
        if crop is not None:
            # only cropped masks are measured anew; the others go in empty, which costs a CPU nothing
            cropped = (crop[:, 2] < self.size)[:, None, None]
            fresh = TARGETS[name](mask * cropped)
            values = torch.where(cropped.view(-1, *[1] * (fresh.dim() - 1)), fresh, values)
        return values.to(self.numerics.dtype) if values.is_floating_point() else values.long()


def compact(values: Tensor) -> Tensor:
    """Whole-number targets take one byte a pixel until they are rendered."""
    return values.contiguous() if values.is_floating_point() else values.to(torch.uint8).contiguous()
