"""Images that look alike though their pixels differ: saved again with loss, brightened, blurred, turned, mirrored.

Each image is made grey, 32 pixels a side, and cosine-transformed. Two images are compared by all but the coarsest 8 x 8
coefficients: smooth tissue agrees in what is coarse, not in the rest. There a mirrored image is a change of signs and a
turned one a transposition, so all eight positions cost one transform.

Found are copies of whole images. A crop, or the neighbouring piece of a slide that overlaps, is not.
"""

from __future__ import annotations

from collections.abc import Iterable

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


def near_duplicates(images: Iterable[np.ndarray]) -> list[tuple[int, int, str, float]]:
    """Every pair of N images, uint8 [S, S, 3], that looks alike, equal images too; N at most MOST, S at least SIDE.

    In order of rows: the first's row and the second's; the position in which the first looks like the second, empty
    where it is as it is; the correlation of the fine coefficients."""
    fine = np.array([_fine(image) for image in images], np.float32).reshape(-1, SIDE, SIDE)
    strength = np.linalg.norm(fine, axis=(1, 2))
    rows = np.flatnonzero(strength >= FLAT * SIDE)
    fine = fine[rows] / strength[rows, None, None]
    odd = 1 - 2 * (np.arange(SIDE, dtype=np.float32) % 2)
    words, found = list(POSITIONS.values()), []
    for start in range(0, len(rows), BLOCK):
        others = fine[start:].reshape(-1, SIDE * SIDE).T
        tables = []
        for transposed, down, across in POSITIONS:
            placed = fine[start:start + BLOCK]
            placed = np.swapaxes(placed, -1, -2) if transposed else placed
            placed = placed * (odd[:, None] if down else 1) * (odd if across else 1)
            tables.append(placed.reshape(-1, SIDE * SIDE) @ others)
        best = np.max(tables, axis=0)
        for first, second in np.argwhere(np.triu(best >= CORRELATION, 1)):
            position = words[int(np.argmax([table[first, second] for table in tables]))]
            value = min(1.0, float(best[first, second]))
            found.append((int(rows[start + first]), int(rows[start + second]), position, value))
    return found


def _fine(image: np.ndarray) -> np.ndarray:
    """uint8 [S, S, 3] -> float32 [SIDE, SIDE]: the cosine transform without its coarse part."""
    from scipy.fft import dctn

    grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    waves = dctn(np.asarray(grey, dtype=np.float32), norm="ortho")
    waves[:COARSE, :COARSE] = 0
    return waves
