"""What a method gets to see in a step: the rendered views of one batch, and of labelled images the mask and targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor

from benchmark.batches.transforms import Geometry
from benchmark.targets import TARGETS


class Batch:
    """One rendered batch of B images. It has what the method's `views` and `targets` name; see `tensors`.

    Every view of an image has the same geometry (flips, turns, crop), so a label of the weak view fits the strong ones,
    but for the rectangles that CutMix pastes into these: take it through `cutmix`. To make one by hand, as in a test:
    `Batch(torch.arange(2), weak=image, mask=mask)`, with `boxes={"strong": box}` for a strong view that is mixed.
    """

    index: Tensor  # int64 [B]: rows of the prepared arrays, below `task.images`
    weak: Tensor  # [B, 3, S, S]: flipped, turned and perhaps cropped; normalised, as the other views
    strong: Tensor  # [B, 3, S, S]: colours and blur as well, and CutMix
    strong2: Tensor  # [B, 3, S, S]: another one of that kind
    photometric: Tensor  # [B, 3, S, S]: colours and blur, never CutMix
    mask: Tensor  # int64 [B, S, S]: class indices, 255 where the label is unknown
    sdf: Tensor  # [B, 1, S, S]: see `benchmark.targets.signed_distance`
    boundary: Tensor  # int64 [B, S, S]: see `benchmark.targets.boundary`

    def __init__(
        self, index: Tensor, *, geometry: Geometry | None = None, boxes: Mapping[str, Tensor] | None = None,
        **tensors: Tensor,
    ) -> None:
        self.tensors: dict[str, Tensor] = {"index": index, **tensors}
        self._geometry, self.boxes = geometry, boxes or {}
        vars(self).update(self.tensors)

    if not TYPE_CHECKING:  # a type checker knows the fields above and nothing else

        def __getattr__(self, name: str) -> NoReturn:
            have = ", ".join(self.__dict__.get("tensors", {}))
            if name == "mask" or (name in TARGETS and "mask" not in have):
                raise AttributeError("unlabelled batches carry no mask")
            place = "targets" if name in TARGETS else "views"
            raise AttributeError(f"this batch has no '{name}': it has {have}; see the method's `{place}`")

    def cutmix(self, view: str, values: Tensor) -> Tensor:
        """`values` [B, ..., S, S] of the weak view, such as its pseudo-label, as CutMix shows them in `view`.

        In every rectangle that `view` has of another image of the batch, that image's values. The same tensor where
        nothing is mixed.
        """
        box = self.boxes.get(view)
        return values if box is None else paste(values, box)

    def apply(self, values: Tensor) -> Tensor:
        """A map [B, ..., S, S] of the stored images, moved like this batch: see `Geometry.apply`."""
        return values if self._geometry is None else self._geometry.apply(values)

    def restore(self, values: Tensor, fill: float = 0) -> Tensor:
        """A map [B, ..., S, S] of this batch, moved back to the stored images; `fill` outside of a crop."""
        return values if self._geometry is None else self._geometry.restore(values, fill)


def paste(values: Tensor, box: Tensor) -> Tensor:
    """CutMix (Yun et al. 2019): slot b gets the rectangle `box[b]` (y0, x0, y1, x1) of slot (b + 1) % B."""
    place = torch.arange(values.shape[-1], device=values.device)
    y0, x0, y1, x1 = box[:, :, None].unbind(1)
    rows, columns = (place >= y0) & (place < y1), (place >= x0) & (place < x1)
    shape = (values.shape[0], *[1] * (values.dim() - 3), *values.shape[-2:])
    return torch.where((rows[:, :, None] & columns[:, None, :]).view(shape), values.roll(-1, 0), values)
