"""Random numbers for generated data, the same in every NumPy: raw Philox words, our own distributions."""

from __future__ import annotations

import functools
import hashlib
import math

import numpy as np
from scipy.special import ndtri

from benchmark.randomness import uniform

Array = np.ndarray


class Stream:
    """An independent sequence named by its words, so that a new stream never shifts an old one.

    Philox is Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3"); only its raw 64-bit words
    are used, since NumPy promises those and not its distributions.
    """

    def __init__(self, *words: str | int) -> None:
        digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Array:
        """Float64 in the open interval (low, high), from the upper 53 bits of each word."""
        drawn = low + (high - low) * uniform(self._bits.random_raw(math.prod(shape)), 0.5)
        return np.asarray(drawn).reshape(shape)

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """One uniform number."""
        return low + (high - low) * float(uniform(int(self._bits.random_raw()), 0.5))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.number() < probability

    def integer(self, low: int, high: int) -> int:
        """One of low, ..., high - 1."""
        return int(self.number(low, high))

    def normal(self, shape: tuple[int, ...] = ()) -> Array:
        """Standard normal float64, by the inverse distribution function."""
        return ndtri(self.uniform(shape=shape))

    def field(self, shape: tuple[int, int], scale: float) -> Array:
        """Smooth noise [H,W] of zero mean and about unit variance; `scale` is the knot spacing in pixels."""
        (row, down), (column, across) = (_spline(length, scale) for length in shape)
        knots = self.normal((int(row[-1]) + 4, int(column[-1]) + 4))
        # Sums of four terms, written out: a matrix product's order of additions depends on the machine.
        wide = across[0] * knots[:, column]
        for tap in range(1, 4):
            wide += across[tap] * knots[:, column + tap]
        total = down[0][:, None] * wide[row]
        for tap in range(1, 4):
            total += down[tap][:, None] * wide[row + tap]
        return total


@functools.lru_cache(64)
def _spline(length: int, scale: float) -> tuple[Array, Array]:
    """Cubic B-splines: a pixel's first knot [length], and weights [4,length] of that and the next three."""
    position = np.arange(length) / scale
    first = position.astype(np.int64)
    t = position - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t + t**2 - t**3) + 1, t**3]) / 6
    return first, weights / 0.479**0.5  # 0.479 is the mean over t of their squares' sum
