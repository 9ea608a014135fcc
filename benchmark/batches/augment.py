"""What augmentation is asked for: the config section `augment`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from benchmark.errors import UserError

PROBABILITIES = ("flip", "transpose", "rotate", "crop", "jitter", "grey", "blur", "cutmix")


@dataclass(frozen=True)
class Augment:
    """Probabilities and strengths of the random changes to an image.

    Geometry (shared by every view): `flip` is the probability of each of the horizontal and the vertical
    flip, `transpose` of a transposition, `rotate` of a random multiple of 90 degrees, `crop` of a square crop
    with `crop_scale` of the image's side, resized back to the whole side (224/256 in published code for
    GlaS). Strong views: `jitter` is the probability of the four colour changes; their strengths mean what
    they mean in torchvision's ColorJitter. `grey` and `blur` are probabilities; the blur's sigma is uniform,
    in pixels at 256 px, and scales with the image. `cutmix` is the probability that a rectangle of another
    image is pasted: between `cutmix_min` and `cutmix_max` of the area, height to width between `cutmix_ratio`
    and its inverse. The strengths of strong views are those of Yang et al., CVPR 2023. Raises UserError for a
    value out of its range.
    """

    flip: float = 0.5
    transpose: float = 0.5
    rotate: float = 1.0
    crop: float = 0.0
    crop_scale: float = 0.875
    jitter: float = 0.8
    brightness: float = 0.5
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.25
    grey: float = 0.0
    blur: float = 0.5
    blur_sigma_min: float = 0.1
    blur_sigma_max: float = 2.0
    cutmix: float = 0.5
    cutmix_min: float = 0.02
    cutmix_max: float = 0.4
    cutmix_ratio: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            self._require(field.name, 0.0, 1.0 if field.name in PROBABILITIES else math.inf)
        for name in ("crop_scale", "cutmix_min", "cutmix_max", "cutmix_ratio"):
            self._require(name, 0.01, 1.0)
        self._require("hue", 0.0, 0.5)
        self._require("blur_sigma_max", self.blur_sigma_min, math.inf)
        self._require("cutmix_max", self.cutmix_min, 1.0)

    def _require(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high or not math.isfinite(value):
            bounds = f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
            raise UserError(f"augment.{name} is {value:g}: set a finite number {bounds}.")

    def blur_radius(self, size: int) -> int:
        """Pixels on each side of the blur's centre: three of the largest sigmas, and less than `size`."""
        return min(math.ceil(3 * self.blur_sigma_max * size / 256), size - 1)
