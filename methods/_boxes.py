"""Boxes at random places, for methods that paste images themselves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Gamma

from benchmark.method import require


def beta_shares(image: Tensor, first: float, second: float) -> Tensor:
    """A number from Beta(first, second) for every image [B, ...]: [B]."""
    one = torch.ones(len(image), device=image.device)
    x, y = (  # torch's own Beta cannot be captured
        Gamma(shape * one, one, validate_args=False).sample() for shape in (first, second)
    )
    return x / (x + y)


def next_image(values: Tensor) -> Tensor:
    """What is pasted into every image of a batch [B, ...]: the next one's. UserError where there is none."""
    require(len(values) > 1, "an image is pasted into another one, but the batch has one image; set "
                             "train.batch_unlabelled to 2 or more")
    return values.roll(-1, 0)


def random_boxes(image: Tensor, area: Tensor) -> Tensor:
    """A square within every image [B, 3, S, S], of this share of its area [B]: bool [B, 1, S, S], true inside."""
    size, place = image.shape[-1], torch.arange(image.shape[-1], device=image.device)
    side = (size * area.sqrt()).round().view(-1, 1)
    rows, columns = (
        (place >= start) & (place < start + side)
        for start in (torch.rand(2, len(image), 1, device=image.device) * (size - side + 1)).floor()
    )
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
