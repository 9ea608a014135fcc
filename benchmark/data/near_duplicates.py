"""Images that look alike though their pixels differ: saved again with loss, brightened, blurred, turned, mirrored.

Each image is made grey, 32 pixels a side, and cosine-transformed. Two images are compared by all but the coarsest 8 x 8
coefficients: smooth tissue agrees in what is coarse, not in the rest. There a mirrored image is a change of signs and a
turned one a transposition, so all eight positions cost one transform.

Found are copies of whole images. A crop, or the neighbouring piece of a slide that overlaps, is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE, COARSE = 32, 8  # pixels; coefficients
# Measured on GlaS at 256 px and the synthetic images at 96 px, the best of eight positions of every pair of images:
# different images correlate by 0.28 at most, an image and its copy (JPEG of quality 20, a Gaussian blur of 2 pixels,
# halved, 30 % darker, turned by 1 degree) by 0.86 at least.
CORRELATION = 0.6
FLAT = 1.0  # grey level, root mean square; an image with less in these coefficients is passed over (GlaS: above 12)
MOST = 10_000  # images; every pair is looked at, which takes some fifteen seconds for so many
BLOCK = 256  # images that are compared with all later ones at once

# transposed, rows reversed, columns reversed: what is done to the first image; turned clockwise
POSITIONS = {
    (False, False, False): "", (False, False, True): "mirrored left to right",
    (False, True, False): "mirrored top to bottom", (False, True, True): "turned by 180 degrees",
    (True, False, False): "mirrored on the diagonal", (True, False, True): "turned by 90 degrees",
    (True, True, False): "turned by 270 degrees", (True, True, True): "mirrored on the other diagonal",
}


@dataclass(frozen=True)
class NearDuplicate:
    """Two images, by row, of which the first looks like the second when it is put in this position."""

    first: int
    second: int
    position: str  # empty: as it is
    correlation: float  # of the fine coefficients


def near_duplicates(images: Iterable[np.ndarray]) -> list[NearDuplicate]:
    """Every pair of N images, uint8 [S, S, 3], that looks alike, equal images too, in order of rows; N at most MOST,
    S at least SIDE."""
    fine = np.array([_fine(image) for image in images], np.float32).reshape(-1, SIDE, SIDE)
    strength = np.linalg.norm(fine, axis=(1, 2))
    rows = np.flatnonzero(strength >= FLAT * SIDE)
    fine = fine[rows] / strength[rows, None, None]
    words, found = list(POSITIONS.values()), []
    for start in range(0, len(rows), BLOCK):
        others = fine[start:].reshape(-1, SIDE * SIDE).T
        placed = [_placed(fine[start:start + BLOCK], position).reshape(-1, SIDE * SIDE) @ others
                  for position in POSITIONS]
        best = np.max(placed, axis=0)
        for first, second in np.argwhere(np.triu(best >= CORRELATION, 1)):
            place = int(np.argmax([table[first, second] for table in placed]))
            found.append(NearDuplicate(int(rows[start + first]), int(rows[start + second]), words[place],
                                       min(1.0, float(best[first, second]))))
    return found


def _fine(image: np.ndarray) -> np.ndarray:
    """uint8 [S, S, 3] -> float32 [SIDE, SIDE]: the cosine transform without its coarse part."""
    from scipy.fft import dctn

    grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    waves = dctn(np.asarray(grey, dtype=np.float32), norm="ortho")
    waves[:COARSE, :COARSE] = 0
    return waves


def _placed(waves: np.ndarray, position: tuple[bool, bool, bool]) -> np.ndarray:
    """The coefficients [..., SIDE, SIDE] of the images in another position."""
    transposed, rows, columns = position
    odd = 1 - 2 * (np.arange(SIDE, dtype=np.float32) % 2)
    placed = np.swapaxes(waves, -1, -2) if transposed else waves
    return placed * (odd[:, None] if rows else 1) * (odd if columns else 1)
