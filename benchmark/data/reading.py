"""How a data set's image files become what networks see; a run keeps it, so that new images are read the same way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data import images
from benchmark.errors import UserError


@dataclass(frozen=True)
class Reading:
    """range: the grey values that become black and white, of images of 16 bits. grey: colours become brightness."""

    range: tuple[int, int] | None = None
    grey: bool = False

    def read(self, path: Path, advice: str) -> np.ndarray:
        """uint8 [H, W, 3]. UserError: as `images.read_image`; `advice` is for an image of 16 bits without a range."""
        try:
            pixels = images.read_image(path, high_range=self.range)
        except UserError:
            if self.range or images.read_levels(path) is None:
                raise
            raise UserError(f"{path}: 16 bits a pixel; {advice}") from None
        if self.grey and (pixels != pixels[..., :1]).any():
            return np.repeat(luminance(pixels)[..., None], 3, -1)
        return pixels


def luminance(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> [H, W]: 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601), halves up."""
    return ((pixels.astype(np.int64) @ np.array([299, 587, 114]) + 500) // 1000).astype(np.uint8)
