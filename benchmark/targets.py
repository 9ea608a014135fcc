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

IGNORE = 255
NAME = "semihisto::signed_distance"
DISK = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if dy * dy + dx * dx <= 4]
FAR = 2.0**22  # more than any squared distance in an image of side up to 1448; whole numbers are exact so far
CHUNK = 2**24  # elements of the largest intermediate of the tensor transform (64 MB)


def boundary(mask: Tensor) -> Tensor:
    """The ring of two pixels around all objects: the dilation by a disk of radius 2, minus the mask.

    `mask` [B, H, W] of any integer type holds class indices; all classes but 0 are objects, so the border between two
    that touch is not drawn. Returns int64 [B, H, W]: 1 on the ring, 0 elsewhere, 255 where the mask is 255. Source:
    the code of arXiv 2509.13834 (BMVC 2025).
    """
    objects = _objects(mask)
    height, width = mask.shape[-2:]
    padded = pad(objects, (2, 2, 2, 2))
    grown = torch.zeros_like(objects)
    for dy, dx in DISK:
        grown |= padded[:, 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]
    return (grown & ~objects).long().masked_fill_(mask == IGNORE, IGNORE)


def signed_distance(mask: Tensor) -> Tensor:
    """The distance to the objects' border, positive inside, negative outside, each side scaled to at most 1.

    `mask` [B, H, W] of any integer type holds class indices; all classes but 0 are objects. Pixels of the inner border
    (those with one of four neighbours outside) are 0. Ignored pixels (255) count as background, so the map is defined
    everywhere; leave them out of the loss by the mask. Without any object the map is -1, without background +1.
    Returns float32 [B, 1, H, W]. Source: Xue et al., AAAI 2020, with the sign of the code of arXiv 2509.13834.
    """
    return torch.ops.semihisto.signed_distance(_objects(mask))


TARGETS = {"boundary": boundary, "sdf": signed_distance}


def _objects(mask: Tensor) -> Tensor:
    if mask.dim() != 3 or mask.is_floating_point():
        raise ValueError(f"a mask is [B, H, W] of an integer type, not {list(mask.shape)} of {mask.dtype}")
    return (mask > 0) & (mask != IGNORE)


def by_tensor(objects: Tensor) -> Tensor:
    """`signed_distance` of bool [B, H, W] in tensor code, exact, for any device."""
    inside, outside = nearest(~objects), nearest(objects)
    # infinite or undefined where a side has no pixel; settled by the two last fills
    scaled = inside / inside.amax((1, 2), keepdim=True) - outside / outside.amax((1, 2), keepdim=True)
    full = objects.flatten(1).all(1)[:, None, None]
    empty = ~objects.flatten(1).any(1)[:, None, None]
    scaled = scaled.masked_fill(inside == 1, 0.0).masked_fill(full, 1.0).masked_fill(empty, -1.0)
    return scaled.float().unsqueeze(1)


def by_scipy(objects: Tensor) -> Tensor:
    """`signed_distance` of bool [B, H, W], image by image; faster than `by_tensor` on a CPU."""
    maps = np.empty((objects.shape[0], 1, *objects.shape[1:]), dtype=np.float32)
    for one, found in zip(maps[:, 0], objects.numpy(), strict=True):
        if found.all() or not found.any():
            one[:] = 1.0 if found.all() else -1.0
            continue
        inside, outside = distance_transform_edt(found), distance_transform_edt(~found)
        one[:] = np.where(inside == 1, 0.0, inside / inside.max() - outside / outside.max())
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
torch.library.define(NAME, "(Tensor objects) -> Tensor")
torch.library.impl(NAME, "default", by_tensor)
torch.library.impl(NAME, "cpu", by_scipy)


@torch.library.register_fake(NAME)
def _shape(objects: Tensor) -> Tensor:
    return objects.new_empty((objects.shape[0], 1, *objects.shape[1:]), dtype=torch.float32)
