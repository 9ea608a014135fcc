"""Random numbers that depend on names alone: a new use of chance never shifts an old one.

Only raw words of a counter-based generator are used (Philox4x64-10; Salmon et al., SC 2011): NumPy promises those in
every version, and not its distributions.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

WORD = 2**64
BLOCK = 4  # words that one count of Philox's counter gives


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the use called `names` of the run with `seed`."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def words(seed: int, field: str, first: int, count: int, width: int) -> np.ndarray:
    """`width` random 64-bit words for each of `count` steps from step `first`: uint64 [count, width].

    The words of a step are a function of (seed, field, step): no state is kept, and a step can be drawn alone.
    """
    blocks = -(-width // BLOCK)
    stream = int.from_bytes(hashlib.sha256(field.encode()).digest()[:8], "little")
    generator = np.random.Philox(key=seed % WORD + WORD * stream, counter=first * blocks)
    return generator.random_raw(count * blocks * BLOCK).reshape(count, blocks * BLOCK)[:, :width]


def uniform(word: Any, offset: float = 0.0) -> Any:
    """64-bit words as float64 numbers in [0, 1), by their upper 53 bits; with an offset of 0.5 in (0, 1)."""
    return ((word >> 11) + offset) * 2.0**-53
