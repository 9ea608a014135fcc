"""Plans: every random choice behind batch t, drawn on the host as small arrays of fixed shape.

The random words of step t are a function of (seed, stream, field, t), so no state is kept, a step can be drawn alone
or within a block, and a new field never shifts an old one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

from benchmark.batches.augment import Augment
from benchmark.errors import UserError, suggest
from benchmark.randomness import uniform, words

VIEWS = ("weak", "strong", "strong2", "photometric")
MIXED = ("strong", "strong2")  # the views that CutMix may paste another image into


def dihedral(vertical: np.ndarray, horizontal: np.ndarray, transpose: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Codes 0..7 of "flip, then transpose, then turn by 90 degrees counter-clockwise `turns` times".

    Bit 0 is a vertical flip, bit 1 a horizontal flip, bit 2 a transposition that follows the flips.
    """
    up, left, across = vertical.astype(bool), horizontal.astype(bool), transpose.astype(bool)
    for turn in (1, 2, 3):
        now = turns >= turn
        # a turn is a transposition, then a vertical flip; before a transposition, that flip is a horizontal one
        up, left, across = up ^ (now & across), left ^ (now & ~across), across ^ now
    return up + 2 * left + np.int64(4) * across


class Planner:
    """The plans of one stream of batches.

    `positions` are the images' places in the prepared arrays, `batch` the images in a batch, `size` their side in
    pixels, `views` the views to render. `seed` and `stream` ("labelled", say) key every random number. A field that
    could only ever be "off" (its probability is 0, or no strong view is asked for) is left out of the plan. Raises
    UserError for an empty set, an unknown view, or CutMix without a second image.
    """

    def __init__(
        self, seed: int, stream: str, positions: Sequence[int], batch: int, size: int, augment: Augment,
        views: Sequence[str],
    ) -> None:
        self.seed, self.stream, self.batch, self.size, self.augment = seed, stream, batch, size, augment
        self.positions = np.asarray(positions, dtype=np.int64)
        self.strong = tuple(view for view in views if view != "weak")
        self.mixed = tuple(view for view in views if view in MIXED)
        for view in views:
            if view not in VIEWS:
                raise UserError(f"unknown view '{view}'.{suggest(view, VIEWS)} Views are {', '.join(VIEWS)}.")
        if len(self.positions) == 0 or batch < 1:
            raise UserError(f"the {stream} stream has {len(positions)} images and batches of {batch}: take at least 1.")
        if self.mixed and augment.cutmix > 0 and min(batch, len(self.positions)) < 2:
            raise UserError(
                f"CutMix needs a second image, but the {stream} stream has {len(positions)} image(s) and "
                f"batches of {batch}: set augment.cutmix=0, or take more."
            )

    def block(self, first: int, count: int) -> dict[str, np.ndarray]:
        """The plans of `count` steps from step `first`, stacked: each field is [count, batch, ...].

        `index` int64: positions. `code` int64: dihedral code. `crop` float32 [..., 3]: y, x, side in pixels, taken
        after the flips and turns; the whole image when off. For each view v but the weak, `v.colour` float32 [..., 5]:
        factors of brightness, contrast and saturation, hue shift in turns, grey 0 or 1; `v.blur` float32: sigma in
        pixels, 0 when off; `v.mix` int64 [..., 4]: y0, x0, y1, x1 of the CutMix rectangle (ends excluded), zeros when
        off or when the partner slot holds the same image (a set smaller than the batch).
        """
        draw = _Draws(self, first, count)
        plan = {"index": self._index(first, count), "code": self._code(draw)}
        if self.augment.crop > 0:
            plan["crop"] = self._crop(draw)
        for view in self.strong:
            if self.augment.jitter > 0 or self.augment.grey > 0:
                plan[f"{view}.colour"] = self._colour(draw, view)
            if self.augment.blur > 0:
                plan[f"{view}.blur"] = self._blur(draw, view)
            if view in self.mixed and self.augment.cutmix > 0:
                alone = plan["index"] == np.roll(plan["index"], -1, axis=1)
                plan[f"{view}.mix"] = np.where(alone[..., None], 0, self._mix(draw, view))
        return plan

    def _index(self, first: int, count: int) -> np.ndarray:
        """Permutations, one after the other, cut into batches; no image twice in a batch of a larger set."""
        images, batch = len(self.positions), self.batch
        begin, end = first * batch, (first + count) * batch
        # epochs 0, cycle, 2 * cycle, ... begin with a batch: nothing before bears on them, so drawing starts there
        cycle = batch // gcd(batch, images)
        start = begin // images // cycle * cycle
        epochs = -(-end // images) - start
        raw = words(self.seed, f"{self.stream}/index", start, epochs, images)
        orders = raw.argsort(axis=1, kind="stable")
        if images >= batch:
            for epoch in range(1, epochs):
                # the last batch of the epoch before reaches into this one: its images go behind the others here
                used = (start + epoch) * images % batch
                window, tail = orders[epoch, :batch], orders[epoch - 1, images - used :]
                late = np.isin(window, tail)
                orders[epoch, :batch] = np.concatenate([window[~late], window[late]])
        slots = orders.reshape(-1)[begin - start * images : end - start * images]
        return self.positions[slots].reshape(count, batch)

    def _code(self, draw: _Draws) -> np.ndarray:
        augment = self.augment
        vertical, horizontal = draw("vertical") < augment.flip, draw("horizontal") < augment.flip
        turns = np.where(draw("rotate") < augment.rotate, draw.integer("turns", 4), 0)
        return dihedral(vertical, horizontal, draw("transpose") < augment.transpose, turns)

    def _crop(self, draw: _Draws) -> np.ndarray:
        cropped = max(1, int(self.augment.crop_scale * self.size + 0.5))
        side = np.where(draw("crop") < self.augment.crop, cropped, self.size)
        y, x = (draw.integer(f"crop.{axis}", self.size - side + 1) for axis in "yx")
        return np.stack([y, x, side], axis=-1).astype(np.float32)

    def _colour(self, draw: _Draws, view: str) -> np.ndarray:
        augment = self.augment
        jitter = draw(f"{view}.jitter") < augment.jitter
        factors = []
        for name in ("brightness", "contrast", "saturation"):
            strength = getattr(augment, name)
            factor = draw.between(f"{view}.{name}", max(0.0, 1 - strength), 1 + strength)
            factors.append(np.where(jitter, factor, 1.0))
        hue = np.where(jitter, draw.between(f"{view}.hue", -augment.hue, augment.hue), 0.0)
        grey = draw(f"{view}.grey") < augment.grey
        return np.stack([*factors, hue, grey], axis=-1).astype(np.float32)

    def _blur(self, draw: _Draws, view: str) -> np.ndarray:
        augment, scale = self.augment, self.size / 256
        sigma = draw.between(f"{view}.sigma", augment.blur_sigma_min * scale, augment.blur_sigma_max * scale)
        return np.where(draw(f"{view}.blur") < augment.blur, sigma, 0.0).astype(np.float32)

    def _mix(self, draw: _Draws, view: str) -> np.ndarray:
        augment = self.augment
        area = draw.between(f"{view}.mix.area", augment.cutmix_min, augment.cutmix_max)
        ratio = draw.between(f"{view}.mix.ratio", augment.cutmix_ratio, 1.0)
        ratio = np.maximum(ratio, area)  # a narrower rectangle of this area does not fit the image
        # one of both ways with a fair coin; exp and log would differ in the last bit between machines
        ratio = np.where(draw(f"{view}.mix.wide") < 0.5, ratio, 1 / ratio)
        height, width = (
            np.clip(np.floor(self.size * np.sqrt(square) + 0.5), 1, self.size).astype(np.int64)
            for square in (area * ratio, area / ratio)
        )
        y = draw.integer(f"{view}.mix.y", self.size - height + 1)
        x = draw.integer(f"{view}.mix.x", self.size - width + 1)
        box = np.stack([y, x, y + height, x + width], axis=-1)
        return np.where((draw(f"{view}.mix") < augment.cutmix)[..., None], box, 0)


class _Draws:
    """Uniform numbers [count, batch] of a planner's fields for a block of steps; each has its own key."""

    def __init__(self, planner: Planner, first: int, count: int) -> None:
        self.planner, self.first, self.count = planner, first, count

    def __call__(self, field: str) -> np.ndarray:
        planner = self.planner
        return uniform(words(planner.seed, f"{planner.stream}/{field}", self.first, self.count, planner.batch))

    def between(self, field: str, low: float, high: float) -> np.ndarray:
        return low + (high - low) * self(field)

    def integer(self, field: str, bound: int | np.ndarray) -> np.ndarray:
        """Whole numbers 0, ..., bound - 1."""
        return np.floor(self(field) * bound).astype(np.int64)
