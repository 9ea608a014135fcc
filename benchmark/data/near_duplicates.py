"""Images that look alike though their pixels differ: saved again with loss, brightened, blurred, turned, mirrored.

Each image is made grey, 32 pixels a side, and cosine-transformed. The signs of the coarsest 8 x 8 coefficients are its
64-bit hash; images whose hashes nearly agree are then compared by all the other coefficients, which the hash has not
seen: smooth tissue agrees in what is coarse, not in that. In these coefficients a mirrored image is a change of signs
and a turned one a transposition, so all eight positions cost one transform.

Found are copies of whole images. A crop, or the neighbouring piece of a slide that overlaps, is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE, COARSE = 32, 8  # pixels; coefficients
# Measured on GlaS at 256 px and the synthetic images at 96 px, the best of eight positions of every pair of images: the
# hashes of two images differ in 12 bits at least, and their fine coefficients correlate by 0.28 at most. Those of an
# image and its copy (JPEG of quality 20, a Gaussian blur of 2 pixels, halved, 30 % darker, turned by 1 degree) differ
# in 8 bits at most and correlate by 0.86 at least.
BITS, CORRELATION = 10, 0.6
FLAT = 1.0  # grey level, root mean square; an image with less in its fine coefficients is passed over (GlaS: above 12)
MOST = 10_000  # images; every pair is looked at, which takes some ten seconds for so many

# transposed, rows reversed, columns reversed: what is done to the first image; turned clockwise
POSITIONS = {
    (False, False, False): "", (False, False, True): "mirrored left to right",
    (False, True, False): "mirrored top to bottom", (False, True, True): "turned by 180 degrees",
    (True, False, False): "mirrored on the diagonal", (True, False, True): "turned by 90 degrees",
    (True, True, False): "turned by 270 degrees", (True, True, True): "mirrored on the other diagonal",
}


@dataclass(frozen=True)
class Alike:
    """Two images, by row, of which the first looks like the second when it is put in this position."""

    first: int
    second: int
    position: str  # empty: as it is
    bits: int  # in which the hashes differ
    correlation: float  # of the fine coefficients


def lookalikes(images: Iterable[np.ndarray]) -> list[Alike]:
    """Every pair of N images, uint8 [S, S, 3], that looks alike, equal images too, in order of rows; N at most MOST,
    S at least SIDE."""
    waves = np.array([_transformed(image) for image in images], np.float32).reshape(-1, SIDE, SIDE)
    fine = waves.copy()
    fine[:, :COARSE, :COARSE] = 0
    strength = np.linalg.norm(fine, axis=(1, 2))
    rows = np.flatnonzero(strength >= FLAT * SIDE)
    fine = fine[rows] / strength[rows, None, None]
    hashes = np.stack([_hashes(_placed(waves[rows], position)) for position in POSITIONS])
    words = list(POSITIONS.values())
    found = []
    for first in range(len(rows) - 1):
        bits = np.bitwise_count(hashes[:, first, None] ^ hashes[0, first + 1:])
        near = np.flatnonzero((bits <= BITS).any(axis=0))
        if not len(near):
            continue
        bits = bits[:, near]
        placed = np.stack([_placed(fine[first], position) for position in POSITIONS])
        correlations = np.tensordot(placed, fine[first + 1 + near], ((1, 2), (1, 2)))
        correlations = np.where(bits <= BITS, np.minimum(correlations, 1), 0)
        best = correlations.argmax(axis=0)
        found += [
            Alike(int(rows[first]), int(rows[first + 1 + near[column]]), words[place], int(bits[place, column]),
                  float(correlations[place, column]))
            for column, place in enumerate(best) if correlations[place, column] >= CORRELATION
        ]
    return found


def _transformed(image: np.ndarray) -> np.ndarray:
    """uint8 [S, S, 3] -> float32 [SIDE, SIDE], coarse to fine."""
    from scipy.fft import dctn

    grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return dctn(np.asarray(grey, dtype=np.float32), norm="ortho")


def _placed(waves: np.ndarray, position: tuple[bool, bool, bool]) -> np.ndarray:
    """The coefficients [..., SIDE, SIDE] of the images in another position."""
    transposed, rows, columns = position
    odd = 1 - 2 * (np.arange(SIDE, dtype=np.float32) % 2)
    placed = np.swapaxes(waves, -1, -2) if transposed else waves
    return placed * (odd[:, None] if rows else 1) * (odd if columns else 1)


def _hashes(waves: np.ndarray) -> np.ndarray:
    """[N, SIDE, SIDE] -> uint64 [N]."""
    signs = (waves[:, :COARSE, :COARSE] > 0).reshape(-1, COARSE * COARSE)
    return np.packbits(signs, axis=1).view(np.uint64).ravel()
