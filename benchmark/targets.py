"""Extra training targets derived from a mask: the gland's outer boundary and its signed distance.

Both commute exactly with flips and turns. Label 255 means "ignore". A method may call them on its own
pseudo-masks within a step: nothing is read back from the device, and shapes depend on shapes alone.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import pad

from benchmark.losses import IGNORE

NAME = "semihisto::nearest"
DISK = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if dy * dy + dx * dx <= 4]
FAR = 2.0**26  # more than any squared distance in an image of side 4096; up to 2896 squares are exact
CHUNK = 2**24  # elements of the largest intermediate of the tensor transform (64 MB)


def boundary(mask: Tensor) -> Tensor:
    """The ring of two pixels around all objects: the dilation by a disk of radius 2, minus the mask.

    `mask` [B, H, W] of any integer type holds class indices; all classes but 0 are objects, so the border between two
    that touch is not drawn. Returns int64 [B, H, W]: 1 on the ring, 0 elsewhere, 255 where the mask is 255 and where
    what such pixels hide could change the answer. Source: the code of arXiv 2509.13834 (BMVC 2025).
    """
    objects, hidden = _objects(mask), mask == IGNORE
    ring, perhaps = _grown(objects) & ~objects, _grown(hidden) & ~objects
    return ring.long().masked_fill_(hidden | (perhaps & ~ring), IGNORE)


def signed_distance(mask: Tensor) -> Tensor:
    """The distance to the objects' border, positive inside, negative outside, each side scaled to at most 1.

    `mask` [B, H, W] of any integer type holds class indices; all classes but 0 are objects. Pixels of the inner border
    (those with one of four neighbours outside) are 0. Without any object the map is -1, without background +1. It is
    255 where the mask is 255 and where what such pixels hide could change the value: the nearest border, or the
    largest distance of a side, by which it is scaled.
    Returns float32 [B, 1, H, W]. Source: Xue et al., AAAI 2020, with the sign of the code of arXiv 2509.13834.
    """
    kinds = _kinds(mask)
    return scaled(torch.ops.semihisto.nearest(kinds.flatten(0, 1)).view(kinds.shape), kinds)


TARGETS = {"boundary": boundary, "sdf": signed_distance}


def _objects(mask: Tensor) -> Tensor:
    if mask.dim() != 3 or mask.is_floating_point():
        raise ValueError(f"a mask is [B, H, W] of an integer type, not {list(mask.shape)} of {mask.dtype}")
    return (mask > 0) & (mask != IGNORE)


def _kinds(mask: Tensor) -> Tensor:
    """Which pixels are background, objects and hidden: bool [3, B, H, W]."""
    objects, hidden = _objects(mask), mask == IGNORE
    return torch.stack([~objects & ~hidden, objects, hidden])


def _grown(pixels: Tensor) -> Tensor:
    """The dilation of bool [B, H, W] by the disk."""
    height, width = pixels.shape[-2:]
    padded, grown = pad(pixels, (2, 2, 2, 2)), torch.zeros_like(pixels)
    for dy, dx in DISK:
        grown |= padded[:, 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]
    return grown


def scaled(distances: Tensor, kinds: Tensor) -> Tensor:
    """`signed_distance` from the distances [3, B, H, W] to the nearest pixel of each of the `_kinds`."""
    ways, sure, to_hidden = [], [], distances[2]
    for far in distances[:2]:
        near = torch.minimum(far, to_hidden)  # if all hidden pixels are of this kind; `far` if none is
        longest = near.amax((1, 2), keepdim=True)
        ways.append(near / longest)  # infinite or undefined where a side has no pixel; settled by the last fills
        sure.append((far <= to_hidden) & (longest == far.amax((1, 2), keepdim=True)))
    border = distances[0] == 1
    full, empty = (kinds[kind].flatten(1).all(1)[:, None, None] for kind in (1, 0))
    found = (ways[0] - ways[1]).masked_fill(border, 0.0).masked_fill(full, 1.0).masked_fill(empty, -1.0)
    known = torch.where(kinds[1], sure[0] | border, sure[1]) & ~kinds[2]
    return torch.where(known, found, IGNORE).float().unsqueeze(1)


def by_scipy(sources: Tensor) -> Tensor:
    """`nearest` image by image; faster on a CPU."""
    maps = np.zeros(sources.shape)
    for one, found in zip(maps, sources.numpy(), strict=True):
        if not found.all():
            one[:] = distance_transform_edt(~found) if found.any() else np.inf
    return torch.from_numpy(maps)


def nearest(sources: Tensor) -> Tensor:
    """The Euclidean distance of each pixel to the nearest true one: bool [B, H, W] -> float64 [B, H, W].

    Two min-plus products, along columns and along rows (Felzenszwalb & Huttenlocher 2012), as a plain minimum over all
    shifts: cubic in the side, which a GPU does not mind. Infinite where an image has no true pixel.
    """
    along_columns = _min_plus(torch.where(sources, 0.0, FAR).transpose(1, 2)).transpose(1, 2)
    squared = _min_plus(along_columns)
    return torch.where(squared < FAR, squared.double().sqrt(), torch.inf)


def _min_plus(values: Tensor) -> Tensor:
    """min over k of values[..., k] + (i - k)^2, for every i of the last axis."""
    width = values.shape[-1]
    place = torch.arange(width, device=values.device, dtype=torch.float32)
    shifts = (place[:, None] - place).square()
    rows = values.reshape(-1, 1, width)
    step = max(1, CHUNK // (width * width))
    return torch.cat([(part + shifts).amin(-1) for part in rows.split(step)]).view(values.shape)


# An operator of its own, so that tracing (FakeTensor mode) sees shapes and never enters SciPy. The plain
# calls are used, not the `custom_op` decorator, whose first call imports the whole compiler (seconds).
torch.library.define(NAME, "(Tensor sources) -> Tensor")
torch.library.impl(NAME, "default", nearest)
torch.library.impl(NAME, "cpu", by_scipy)


@torch.library.register_fake(NAME)
def _shape(sources: Tensor) -> Tensor:
    return torch.empty_like(sources, dtype=torch.float64)
