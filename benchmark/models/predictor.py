"""From images of any size to classes: whole, or in windows whose answers blend into each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmark.data.prepare import resize
from benchmark.method import Method, named_logits
from benchmark.numerics import Normalisation, Normaliser, Numerics


class Official(Method):
    """A method's official output alone."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def predict(self, image: Tensor) -> dict[str, Tensor]:
        """The first of the method's outputs, by its name."""
        name, logits = next(iter(named_logits(self.method.predict(image)).items()))
        return {name: logits}

    forward = predict


class Predictor:
    """Predicts classes of uint8 images [H, W, 3]. An image, or a window of it, is resized to the working size, as the
    training images were; its logits are enlarged bilinearly, as in the strict protocol."""

    def __init__(
        self, method: Official, size: int, batch: int, normalisation: Normalisation, numerics: Numerics,
    ) -> None:
        self.method, self.size, self.batch = method.eval(), size, batch
        self.numerics, self.device, self.normalise = numerics, numerics.device, Normaliser(normalisation, numerics)

    @torch.inference_mode()
    def logits(self, images: Sequence[np.ndarray]) -> Tensor:
        """Float32 logits [n, C, S, S] of n images, or windows, of any size."""
        small = np.stack([resize(image, self.size, Image.Resampling.BILINEAR) for image in images])
        with self.numerics.autocast():
            (logits,) = self.method.predict(self.normalise(small)).values()
        return logits.float()

    @torch.inference_mode()
    def whole(self, image: np.ndarray) -> np.ndarray:
        """Class indices uint8 [H, W], the image seen at once."""
        native = functional.interpolate(
            self.logits([image]), size=image.shape[:2], mode="bilinear", align_corners=False
        )
        return native.max(1).indices[0].to(torch.uint8).cpu().numpy()

    @torch.inference_mode()
    def tiled(self, image: np.ndarray, tile: tuple[int, int], overlap: int) -> np.ndarray:
        """Class indices uint8 [H, W] from windows of `tile` (H, W) pixels that share at least `overlap` pixels.

        A window's probabilities count less towards its inner edges. Where the image is not longer than a window, the
        window is as long as the image. Only one row of windows is in memory, so that a slide may be large.
        """
        height, width = image.shape[:2]
        side = min(tile[0], height), min(tile[1], width)
        rows, columns = starts(height, side[0], overlap), starts(width, side[1], overlap)
        if len(rows) == len(columns) == 1:
            return self.whole(image)
        down = torch.from_numpy(tapers(rows, side[0], height, overlap)).to(self.device)
        across = torch.from_numpy(tapers(columns, side[1], width, overlap)).to(self.device)
        answer = np.empty((height, width), np.uint8)
        band: Tensor | None = None  # weighted probabilities [C, side, W] from the top of the present row of windows on
        for row, top in enumerate(rows):
            for first in range(0, len(columns), self.batch):
                lefts = columns[first : first + self.batch]
                logits = self.logits([image[top : top + side[0], left : left + side[1]] for left in lefts])
                shares = functional.interpolate(logits, size=side, mode="bilinear", align_corners=False).softmax(1)
                if band is None:
                    band = shares.new_zeros(shares.shape[1], side[0], width)
                for place, left in enumerate(lefts):
                    weight = down[row][:, None] * across[first + place]
                    band[:, :, left : left + side[1]] += shares[place] * weight
            assert band is not None
            final = (rows[row + 1] if row + 1 < len(rows) else height) - top  # rows that no later window touches
            answer[top : top + final] = band[:, :final].max(0).indices.to(torch.uint8).cpu().numpy()
            band = torch.cat([band[:, final:], torch.zeros_like(band[:, :final])], 1)
        return answer


def starts(length: int, side: int, overlap: int) -> list[int]:
    """Where windows of `side` begin on an axis of `length`: evenly, as few as share at least `overlap` pixels."""
    if length <= side:
        return [0]
    count = math.ceil((length - overlap) / (side - overlap))
    return [round(place * (length - side) / (count - 1)) for place in range(count)]


def tapers(begins: Sequence[int], side: int, length: int, overlap: int) -> np.ndarray:
    """Weights along an axis, float32 [windows, side]: sin² up and down over `overlap` pixels at inner edges, else 1."""
    rise = np.sin(np.pi / 2 * np.minimum(1, (np.arange(side) + 0.5) / max(overlap, 0.5))) ** 2
    one = np.ones(side)
    weights = [(rise if begin else one) * (rise[::-1] if begin + side < length else one) for begin in begins]
    return np.stack(weights).astype(np.float32)
