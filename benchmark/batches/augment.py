"""What augmentation is asked for: the config section `augment`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from benchmark.errors import UserError
from benchmark.ranges import NonNegative, Range, Share

Side = Annotated[float, Range("[0.01, 1]")]


@dataclass(frozen=True)
class Augment:
    """Probabilities and strengths of the random changes to an image.

    Geometry (shared by every view): `flip` is the probability of each of the horizontal and the vertical flip,
    `transpose` of a transposition, `rotate` of a random multiple of 90 degrees, `crop` of a square crop with
    `crop_scale` of the image's side, resized back to the whole side (224/256 in published code for GlaS). Strong views:
    `jitter` is the probability of the four colour changes; their strengths mean what they mean in torchvision's
    ColorJitter. `grey` and `blur` are probabilities; the blur's sigma is uniform, in pixels at 256 px, and scales with
    the image. `cutmix` is the probability that a rectangle of another image is pasted: between `cutmix_min` and
    `cutmix_max` of the area, height to width between `cutmix_ratio` and its inverse. The strengths of strong views are
    those of Yang et al., CVPR 2023.
    """

    flip: Share = 0.5
    transpose: Share = 0.5
    rotate: Share = 1.0
    crop: Share = 0.0
    crop_scale: Side = 0.875
    jitter: Share = 0.8
    brightness: NonNegative = 0.5
    contrast: NonNegative = 0.5
    saturation: NonNegative = 0.5
    hue: Annotated[float, Range("[0, 0.5]")] = 0.25
    grey: Share = 0.0
    blur: Share = 0.5
    blur_sigma_min: NonNegative = 0.1
    blur_sigma_max: NonNegative = 2.0
    cutmix: Share = 0.5
    cutmix_min: Side = 0.02
    cutmix_max: Side = 0.4
    cutmix_ratio: Side = 0.3

    def __post_init__(self) -> None:
        for low, high in (("blur_sigma_min", "blur_sigma_max"), ("cutmix_min", "cutmix_max")):
            if getattr(self, low) > getattr(self, high):
                raise UserError(f"augment.{low} must not be above augment.{high}")

    def blur_radius(self, size: int) -> int:
        """Pixels on each side of the blur's centre: three of the largest sigmas, and less than `size`."""
        return min(math.ceil(3 * self.blur_sigma_max * size / 256), size - 1)
