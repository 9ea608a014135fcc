"""Where the glands of the synthetic data set lie, and who its patients are; chance that is the same in every NumPy.

Sizes are in pixels of the native image (192 x 256), in which a nucleus is some 8 x 4 pixels: about a third of
the resolution of GlaS. Everything is float64 and keyed by (VERSION, seed, image): no image depends on others.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage
from scipy.special import ndtri

from benchmark.randomness import uniform

Array = np.ndarray

VERSION = 1
HEIGHT, WIDTH = 192, 256
MARGIN = 16  # drawn around the image and cut off, so that glands continue beyond its borders
GRADES = ("benign", "malignant")
GLAND, VESSEL, FOLLICLE, BUNDLE = range(4)  # what a blob is; all but the first are stroma in disguise


class Stream:
    """An independent sequence named by its words, so that a new stream never shifts an old one.

    Raw words of Philox (Salmon et al., SC 2011) and our own distributions: NumPy promises those alone."""

    def __init__(self, *words: str | int) -> None:
        digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Array:
        """Float64 in the open interval (low, high), from the upper 53 bits of each word."""
        return (low + (high - low) * uniform(self._bits.random_raw(math.prod(shape)), 0.5)).reshape(shape)

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """One uniform number."""
        return float(self.uniform(low, high))

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


@lru_cache(64)
def _spline(length: int, scale: float) -> tuple[Array, Array]:
    """Cubic B-splines: a pixel's first knot [length], and weights [4,length] of that and the next three."""
    position = np.arange(length) / scale
    first = position.astype(np.int64)
    t = position - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t + t**2 - t**3) + 1, t**3]) / 6
    return first, weights / 0.479**0.5  # 0.479 is the mean over t of their squares' sum


@dataclass(frozen=True)
class Patient:
    """What the images of one patient share: the staining, the scanner and the look of the tissue."""

    haematoxylin: Array  # optical density [3] of one unit of stain
    eosin: Array
    amounts: Array  # [2]: concentration factors of the two stains
    white: Array  # colour [3] of the empty slide, 0 to 1
    focus: float  # sigma of the blur
    nuclei: float  # density of stromal nuclei, 0 to 1
    size: float  # factor on the size of nuclei
    goblets: float  # share of goblet cells (benign)
    clefts: float  # how often stroma has shrunk away from the glands
    mucin: float  # how much lumina are filled, 0 to 1
    pitch: float  # distance between glands

    @classmethod
    def draw(cls, seed: int, number: int, grade: str) -> Patient:
        """Patient `number` of this seed. Stain vectors start from Macenko et al. 2009."""
        stream = Stream(VERSION, seed, "patient", number)
        vectors = np.array([[0.563, 0.720, 0.406], [0.150, 0.880, 0.450]])
        vectors = np.clip(vectors + stream.normal((2, 3)) * [[0.055], [0.045]], 0.02, None)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        amounts = np.exp(stream.uniform(-0.45, 0.45, (2,)))
        malignant = grade == "malignant"
        return cls(
            haematoxylin=vectors[0], eosin=vectors[1], amounts=amounts,
            white=stream.number(0.90, 0.98) * (1 - np.abs(stream.normal((3,))) * 0.02),
            focus=stream.number(0.45, 1.1),
            nuclei=stream.number(0.25, 0.95),
            size=stream.number(0.85, 1.15) * (1.12 if malignant else 1.0),
            goblets=stream.number(), clefts=stream.number(), mucin=stream.number(),
            pitch=stream.number(80, 110) if malignant else stream.number(52, 72),
        )


@dataclass(frozen=True)
class Layout:
    """Where things are on the canvas (the image and its margin)."""

    blobs: Array  # int64 [h,w]: 0 stroma, 1.. the blob that covers the pixel
    kinds: Array  # int64 [blobs + 1]: what each blob is; entry 0 is unused
    depth: Array  # float64 [h,w]: pixels to the blob's edge, negative outside


def lay_out(stream: Stream, patient: Patient, grade: str) -> Layout:
    """Place blobs on a jittered hexagonal grid and grow them until glands cover their share; some touch."""
    shape = HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN
    malignant = grade == "malignant"
    bend, coarse, fine = (7.0, 30.0, 1.6) if malignant else (3.0, 34.0, 0.7)
    warp = [bend * stream.field(shape, coarse) + fine * stream.field(shape, 7.0) for _ in range(2)]
    centres = _grid(stream, shape, patient.pitch)
    count = len(centres)
    disguises = stream.uniform(VESSEL, BUNDLE + 1, (count,)).astype(int)
    kinds = np.where(stream.uniform(shape=(count,)) < 0.70, GLAND, disguises)
    kinds[0] = GLAND  # the grid is shuffled, so this is any of them
    best, owner, level = np.full(shape, -99.0), np.zeros(shape, int), np.full(shape, -99.0)
    for number, centre in enumerate(centres):
        lobes = _lobes(stream, centre, patient.pitch, malignant)
        if kinds[number] != GLAND:
            lobes[:, 2:4] *= stream.number(0.55, 1.0)
        window, height = _level(lobes, warp, shape, patient.pitch)
        better = height > best[window]
        owner[window][better] = number + 1
        np.maximum(best[window], height, out=best[window])
        if kinds[number] == GLAND:
            np.maximum(level[window], height, out=level[window])
    share = stream.number(0.34, 0.56)
    edge = float(np.clip(np.quantile(level, 1 - share), -12.0, 8.0))
    blobs = _largest_parts(np.where(best > edge, owner, 0))
    return Layout(blobs, np.concatenate([[GLAND], kinds]), _depth(blobs))


def truth(layout: Layout) -> Array:
    """Gland instance ids uint8 [HEIGHT,WIDTH]: 0 is background, ids are contiguous from 1."""
    glands = layout.kinds[layout.blobs] == GLAND  # of stroma, too, whose id is 0
    inside = np.where(glands, layout.blobs, 0)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    index = np.unique(np.append(inside, 0), return_inverse=True)[1]
    return index.reshape(-1)[:-1].reshape(inside.shape).astype(np.uint8)


def _grid(stream: Stream, shape: tuple[int, int], pitch: float) -> Array:
    """Shuffled jittered centres [n,2] of a hexagonal grid at any angle, on and a little around the canvas."""
    steps = np.arange(-9, 10)
    row, column = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    y, x = row * pitch * 0.866, (column + 0.5 * (row % 2)) * pitch
    angle, shift = stream.number(0, 2 * np.pi), stream.uniform(-0.5, 0.5, (2,)) * pitch
    points = np.stack([y * np.cos(angle) - x * np.sin(angle), y * np.sin(angle) + x * np.cos(angle)], 1)
    points += np.array(shape) / 2 + shift + stream.uniform(-0.22, 0.22, (len(y), 2)) * pitch
    points = points[np.argsort(stream.uniform(shape=(len(y),)))]
    return points[((points > -0.3 * pitch) & (points < np.array(shape) + 0.3 * pitch)).all(1)]


def _lobes(stream: Stream, centre: Array, pitch: float, malignant: bool) -> Array:
    """Ellipses [n,5] (y, x, long and short semi-axis, angle) of one blob; a malignant gland branches."""
    count = stream.integer(2, 5) if malignant else 1 + (stream.number() < 0.15)
    angle = stream.number(0, 2 * np.pi)
    radius = pitch * (stream.number(0.27, 0.38) if malignant else stream.number(0.36, 0.46))
    y, x = centre
    lobes = []
    for _ in range(count):
        stretch = stream.number(1.0, 1.9 if malignant else 1.5)
        lobes.append((y, x, radius * stretch**0.5, radius / stretch**0.5, angle))
        angle += stream.number(-1.4, 1.4)
        y, x = y + np.sin(angle) * radius * 1.25, x + np.cos(angle) * radius * 1.25
        radius *= stream.number(0.75, 1.05)
    return np.array(lobes)


def _level(lobes: Array, warp: list[Array], shape: tuple[int, int], pitch: float) -> tuple[tuple[slice, ...], Array]:
    """Height over the blob's edge, about in pixels, in the window of the canvas that the blob may reach."""
    reach = lobes[:, 2].max() + 0.35 * pitch + 12
    low = np.clip(np.floor(lobes[:, :2].min(0) - reach), 0, shape).astype(int)
    high = np.clip(np.ceil(lobes[:, :2].max(0) + reach), 0, shape).astype(int)
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    y = np.arange(low[0], high[0])[:, None] + warp[0][window]
    x = np.arange(low[1], high[1])[None] + warp[1][window]
    total = np.zeros(y.shape)
    for cy, cx, long, short, angle in lobes:
        sine, cosine = np.sin(angle), np.cos(angle)
        u, v = (x - cx) * cosine + (y - cy) * sine, (y - cy) * cosine - (x - cx) * sine
        total += np.exp((1 - np.sqrt((u / long) ** 2 + (v / short) ** 2)) * np.sqrt(long * short) / 4.0)
    return window, 4.0 * np.log(total + 1e-30)  # a smooth maximum: lobes melt into each other


def _largest_parts(blobs: Array) -> Array:
    """Keep every blob's largest connected part, without holes: others are crumbs cut off by a neighbour."""
    kept = np.zeros_like(blobs)
    for number, window in enumerate(ndimage.find_objects(blobs), start=1):
        if window is not None:
            parts, count = ndimage.label(blobs[window] == number)
            sizes = np.bincount(parts.ravel(), minlength=2)[1:]
            if count and sizes.max() >= 150:
                whole = ndimage.binary_fill_holes(parts == 1 + sizes.argmax())
                kept[window][whole & (kept[window] == 0)] = number
    return kept


def _depth(blobs: Array) -> Array:
    """Exact distance to the edge: positive within a blob (also to a touching one), negative in the stroma."""
    edge = ndimage.maximum_filter(blobs, (3, 3)) != ndimage.minimum_filter(blobs, (3, 3))
    inside = ndimage.distance_transform_edt((blobs > 0) & ~edge)
    return np.where(blobs > 0, inside, -ndimage.distance_transform_edt(blobs == 0))
