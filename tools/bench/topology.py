"""What the topological terms cost: `python -m tools.bench.topology`. CPU time of one thread, best of five.

Maps are smoothed noise of two roughnesses; teacher and student are different ones.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from methods._persistence import diagram, topological_terms


def smooth_noise(size: int, sigma: float, seed: int) -> np.ndarray:
    """A map of probabilities [size, size] with blobs about `sigma` pixels wide."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), sigma)
    return (1 / (1 + np.exp(-4 * noise / noise.std()))).astype(np.float32)


def best(call, repeats: int = 5) -> float:
    """CPU seconds of the quickest of some calls."""
    taken = []
    for _ in range(repeats):
        begun = time.process_time()
        call()
        taken.append(time.process_time() - begun)
    return min(taken)


def main() -> None:
    torch.set_num_threads(1)
    print("| map | components | diagram, ms | both terms with backward, ms an image |\n|:--|--:|--:|--:|")
    for size in (96, 256):
        for name, sigma in (("gland-like", size / 24), ("rough", size / 64)):
            first, second = (smooth_noise(size, sigma, seed) for seed in (0, 1))
            student, teacher = torch.from_numpy(first)[None].requires_grad_(), torch.from_numpy(second)[None]
            found, one = len(diagram(first).points), best(partial(diagram, first))
            two = best(lambda pair=(student, teacher): sum(topological_terms(*pair), torch.zeros(())).backward())
            print(f"| {size} px, {name} | {found} | {1000 * one:.1f} | {1000 * two:.1f} |")


if __name__ == "__main__":
    main()
