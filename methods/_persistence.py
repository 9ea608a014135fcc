"""0-dimensional persistence of foreground maps, and the topological comparison of two of them.

Everything is in terms of the probability P of the foreground; papers speak of 1 - P. Lowering a threshold from 1,
a component of {P >= threshold} is born at a local maximum and dies at the saddle where it joins one born earlier, at a
higher P. Pixels are the vertices of the cubical complex, so components are 4-connected (cripser's V-construction, which
the released code of TopoSemiSeg uses). One component of every map never dies: its death is at P = 0 and has no pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import gudhi
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


class Diagram(NamedTuple):
    """`points` [n, 2]: P at birth and at death; `pixels` [n, 2]: their row-major places, -1 where there is none."""

    points: Floats
    pixels: Integers

    @property
    def persistence(self) -> Floats:
        """P at birth less P at death, above 0 except for a map of zeros."""
        return self.points[:, 0] - self.points[:, 1]


def diagram(probability: Floats) -> Diagram:
    """Components of [H, W] that live for longer than nothing; the one that never dies is the last."""
    height, width = probability.shape
    cubes = gudhi.CubicalComplex(vertices=-probability.astype(np.float64))
    cubes.compute_persistence()
    mortal, immortal = cubes.vertices_of_persistence_pairs()
    pairs = np.concatenate([mortal[0].reshape(-1, 2) if mortal else np.empty((0, 2), int), [[immortal[0][0], -1]]])
    column, row = np.divmod(pairs, height)  # gudhi counts down the columns
    pixels = np.where(pairs >= 0, row * width + column, -1)
    return Diagram(np.where(pairs >= 0, probability.ravel()[pixels], 0), pixels)


def matching(first: Floats, second: Floats) -> tuple[Integers, Integers]:
    """The pairs of points [n, 2] and [m, 2] in the optimal 2-Wasserstein matching of two diagrams.

    A pair costs its squared distance, a point left to the diagonal half its squared persistence.
    """
    n, m = len(first), len(second)
    cost = np.zeros((n + m, n + m))
    cost[:n, :m] = np.square(first[:, None] - second[None]).sum(2)
    cost[:n, m:] = np.square(first[:, :1] - first[:, 1:]) / 2
    cost[n:, :m] = np.square(second[:, 0] - second[:, 1]) / 2
    rows, columns = linear_sum_assignment(cost)
    pairs = (rows < n) & (columns < m)
    return rows[pairs], columns[pairs]


def targets(
    student: Floats, teacher: Floats, signal: float, released: bool = False
) -> tuple[Integers, Floats, NDArray[np.bool_]]:
    """Pixels of one map [H, W] that are to move, row-major, the probabilities to move to, and which are for noise.

    A student's point of persistence above `signal` that is matched to one of the teacher's goes to the teacher's
    birth and death; every other point goes to the diagonal: birth to the value of death, death to that of birth.
    """
    mine, theirs = diagram(student), diagram(teacher)
    strong, sure = np.flatnonzero(mine.persistence > signal), np.flatnonzero(theirs.persistence > signal)
    rows, columns = matching(mine.points[strong], theirs.points[sure])
    values = mine.points[:, ::-1].copy()
    wanted = theirs.points[sure[columns]]
    values[strong[rows]] = 1 - wanted if released else wanted
    noisy = np.repeat(mine.persistence[:, None] <= signal, 2, axis=1)
    placed = mine.pixels >= 0
    return mine.pixels[placed], values[placed], noisy[placed]


def topological_terms(
    student: Tensor, teacher: Tensor, *, signal: float = 0.7, tile: int = 100, released: bool = False
) -> tuple[Tensor, Tensor]:
    """The signal's disagreement and the noise of `student`, both [B, H, W] -> []; the gradient is the student's alone.

    Squared differences from the `targets` of every tile, summed over points, a mean over images. The first is 0 for
    equal maps, whatever they hold; the second is 0 for maps without a component of persistence up to `signal`, and
    each adds 2 persistence^2 (the one without a death, persistence^2). One copy to the host, one back. A value that is
    not a number counts as 0 in the diagram and stays what it is in the result.
    """
    count, height, width = student.shape
    if student.dtype != torch.float64:
        student, teacher = student.float(), teacher.float()
    mine, theirs = np.nan_to_num(torch.stack((student.detach(), teacher.detach())).cpu().numpy())
    moves = []
    for row in range(count):
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                part = (row, slice(top, top + tile), slice(left, left + tile))
                pixels, wanted, noisy = targets(mine[part], theirs[part], signal, released)
                y, x = np.divmod(pixels, mine[part].shape[1])
                moves.append(np.stack([(row * height + top + y) * width + left + x, wanted, noisy]))
    moved = torch.from_numpy(np.concatenate(moves, 1)).to(student.device)  # float64: places stay exact
    place, value, noise = moved[0].long(), moved[1].to(student.dtype), moved[2].to(student.dtype)
    squared = (student.flatten().gather(0, place) - value).square() / count
    return (squared * (1 - noise)).sum(), (squared * noise).sum()
